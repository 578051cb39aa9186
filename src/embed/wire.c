/* Request and reply bodies; see the header. */
#include "embed/wire.h"

#include "base/error.h"
#include "doc/json.h"

enum { BODY_SHOWN = 80 }; /* bytes of a reply in an error text */

void
embed_request_print(const anx_text *inputs, size_t n, anx_buffer *out)
{
    anx_buffer_text(out, ANX_TEXT("{\"data\":["));
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        anx_buffer_text(out, inputs[i]);
    }
    anx_buffer_text(out, ANX_TEXT("]}"));
}

struct reading {
    anx_text body;
    uint32_t dim; /* wanted; 0: not known yet */
    anx_arena *arena;
    anx_error *err;
};

static anx_status
fail(const struct reading *r, const char *reason)
{
    size_t size = r->body.size < BODY_SHOWN ? r->body.size : BODY_SHOWN;

    while (size < r->body.size && size > 0 && ((unsigned char) r->body.data[size] & 0xc0) == 0x80)
        size--; /* not in the middle of a character */
    return anx_fail(r->err, ANX_E_PARSE_JSON, "Embed source adapter can't parse vector '%.*s%s': %s",
                    (int) size, size > 0 ? r->body.data : "", size < r->body.size ? "..." : "", reason);
}

/* An array that is a vector: numbers only. What is short was parsed to nodes, what is long left as text. */
static bool
is_vector(const struct json_node *node)
{
    double number;

    return node->kind == JSON_ARRAY && node->list.n > 0 &&
           (!node->list.items || json_number(&node->list.items[0], &number));
}

static anx_status
read_numbers(const struct reading *r, const struct json_node *node, float *out)
{
    if (!node->list.items)
        return json_floats(node, out) ? ANX_OK : fail(r, "a number is out of range");
    for (size_t i = 0; i < node->list.n; i++) {
        double number;

        if (!json_number(&node->list.items[i], &number))
            return fail(r, "a component is not a number");
        out[i] = (float) number;
    }
    return ANX_OK;
}

/* The vector of a chunk, or the product that is one. */
static anx_status
find_vector(const struct reading *r, const struct json_node *chunk, const struct json_node **out)
{
    *out = chunk->kind == JSON_OBJECT ? json_member(chunk, "embedding") : chunk;
    if (!*out || (*out)->kind != JSON_ARRAY)
        return fail(r, "a chunk has no array 'embedding'");
    if ((*out)->list.n > EMBED_DIM_MAX)
        return fail(r, "a vector has more than 65535 components");
    return ANX_OK;
}

/* Gives the vectors of products[0 .. n) one after the other to `each`. */
static anx_status
each_vector(struct reading *r, const struct json_node *products, size_t n,
            anx_status (*each)(struct reading *r, const struct json_node *vector, struct embed_vectors *out),
            struct embed_vectors *out)
{
    const struct json_node *vector;
    anx_status st = ANX_OK;

    for (size_t p = 0; st == ANX_OK && p < n; p++) {
        const struct json_node *product = &products[p];

        if (product->kind != JSON_ARRAY)
            return fail(r, "a product is not an array");
        if (is_vector(product)) {
            st = find_vector(r, product, &vector);
            if (st == ANX_OK)
                st = each(r, vector, out);
            continue;
        }
        for (size_t c = 0; st == ANX_OK && c < product->list.n; c++) {
            st = find_vector(r, &product->list.items[c], &vector);
            if (st == ANX_OK)
                st = each(r, vector, out);
        }
    }
    return st;
}

static anx_status
count_vector(struct reading *r, const struct json_node *vector, struct embed_vectors *out)
{
    for (size_t i = 0; vector->list.items && i < vector->list.n; i++) {
        double number;

        if (!json_number(&vector->list.items[i], &number))
            return fail(r, "a component is not a number");
    }
    if (out->n >= EMBED_CHUNKS_MAX)
        return fail(r, "an input has more than 65535 chunks");
    if (r->dim == 0)
        r->dim = (uint32_t) vector->list.n;
    if (vector->list.n != r->dim && out->dim == r->dim)
        out->dim = (uint32_t) vector->list.n;
    if (out->n == 0 && out->dim == 0)
        out->dim = (uint32_t) vector->list.n;
    out->n++;
    return ANX_OK;
}

static anx_status
copy_vector(struct reading *r, const struct json_node *vector, struct embed_vectors *out)
{
    float *at = (float *) (uintptr_t) out->floats + (size_t) out->n * out->dim;

    out->n++;
    return read_numbers(r, vector, at);
}

static anx_status
read_input(struct reading *r, const struct json_node *products, size_t n, struct embed_vectors *out)
{
    anx_status st;

    *out = (struct embed_vectors) { .dim = r->dim };
    st = each_vector(r, products, n, count_vector, out);
    if (st != ANX_OK || out->n == 0 || out->dim != r->dim || r->dim == 0)
        return st;
    out->floats = anx_arena_bytes(r->arena, (size_t) out->n * out->dim * sizeof(float));
    if (!out->floats)
        return anx_fail(r->err, ANX_E_NOMEM, "could not allocate %u vectors of %u components", out->n,
                        out->dim);
    out->n = 0;
    return each_vector(r, products, n, copy_vector, out);
}

anx_status
embed_reply_read(anx_text body, size_t n, uint32_t dim, anx_arena *arena, struct embed_vectors *out,
                 anx_error *err)
{
    struct reading r = { .body = body, .dim = dim, .arena = arena, .err = err };
    const struct json_node *products;
    struct json_node *root;
    anx_error cause;
    anx_status st = json_parse_lists(body, arena, &root, &cause);

    if (st == ANX_E_NOMEM)
        return anx_fail(err, st, "could not allocate memory for a reply of %zu bytes", body.size);
    if (st != ANX_OK)
        return fail(&r, cause.message);
    products = root->kind == JSON_ARRAY ? root : json_member(root, "products");
    if (root->kind != JSON_ARRAY && root->kind != JSON_OBJECT)
        return fail(&r, "the reply is neither an object nor an array");
    if (products && (products->kind != JSON_ARRAY || (products->list.n > 0 && !products->list.items)))
        return fail(&r, "'products' is not an array of arrays");
    if (n == 1)
        return read_input(&r, products ? products->list.items : NULL, products ? products->list.n : 0,
                          &out[0]);
    if (!products || products->list.n != n)
        return anx_fail(err, ANX_E_LIMIT, "the service gave %zu products for %zu inputs",
                        products ? products->list.n : 0, n);
    for (size_t i = 0; st == ANX_OK && i < n; i++)
        st = read_input(&r, &products->list.items[i], 1, &out[i]);
    return st;
}
