/* JSON out. Documents are printed from their bytes in one pass; names come ready with quotes and colon from
 * the dictionary. */
#include <string.h>

#include "doc/doc_int.h"
#include "doc/json.h"

/* ---- Scalars ---- */

/* A quote, a backslash and everything below a blank. */
static bool
needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

/* Eight bytes at a time: does one of them need an escape? The test per byte is (x - 0x20) borrows, or x
 * equals one of two values, by the classic zero-byte trick; a byte above 0x7f never counts. */
static bool
any_escape(const char *p)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t x, quote, slash;

    memcpy(&x, p, sizeof(x));
    quote = x ^ (ones * '"');
    slash = x ^ (ones * '\\');
    return (((x - ones * 0x20) | (quote - ones) | (slash - ones)) & ~x & high) != 0;
}

static void
put_escape(anx_buffer *out, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    static const char from[] = "\"\\\b\f\n\r\t";
    static const char to[] = "\"\\bfnrt";
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    char text[6] = { '\\', 'u', '0', '0', digits[c >> 4], digits[c & 15] };

    if (found)
        text[1] = to[found - from];
    put_bytes(out, text, found ? 2 : sizeof(text));
}

void
json_print_text(anx_buffer *out, anx_text text)
{
    size_t from = 0, i = 0;

    put_char(out, '"');
    while (i < text.size) {
        if (text.size - i >= 8 && !any_escape(text.data + i)) {
            i += 8;
            continue;
        }
        if (needs_escape((unsigned char) text.data[i])) {
            put_bytes(out, text.data + from, i - from);
            put_escape(out, (unsigned char) text.data[i]);
            from = i + 1;
        }
        i++;
    }
    if (text.size > from)
        put_bytes(out, text.data + from, text.size - from);
    put_char(out, '"');
}

void
json_print_int(anx_buffer *out, int64_t value)
{
    char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX);

    if (to)
        out->size += number_print_int(to, value);
}

void
json_print_double(anx_buffer *out, double value)
{
    char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX);

    if (to)
        out->size += number_print_double(to, value);
}

void
json_print_float(anx_buffer *out, float value)
{
    char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX);

    if (to)
        out->size += number_print_float(to, value);
}

static void
put_literal(anx_buffer *out, anx_text text)
{
    put_bytes(out, text.data, text.size);
}

static void
put_bool(anx_buffer *out, bool value)
{
    put_literal(out, value ? ANX_TEXT("true") : ANX_TEXT("false"));
}

static void
put_uuid(anx_buffer *out, const uint8_t uuid[16])
{
    char text[38];

    text[0] = text[37] = '"';
    uuid_print(uuid, text + 1);
    put_bytes(out, text, sizeof(text));
}

void
json_print_value(anx_buffer *out, const struct value *value)
{
    switch (value->type) {
    case VALUE_NULL:
        put_literal(out, ANX_TEXT("null"));
        break;
    case VALUE_BOOL:
        put_bool(out, value->boolean);
        break;
    case VALUE_INT:
        json_print_int(out, value->integer);
        break;
    case VALUE_DOUBLE:
        json_print_double(out, value->real);
        break;
    case VALUE_STRING:
        json_print_text(out, value->text);
        break;
    case VALUE_UUID:
        put_uuid(out, value->uuid);
        break;
    case VALUE_TUPLE:
        put_char(out, '[');
        for (size_t i = 0; i < value->tuple.n; i++) {
            if (i > 0)
                put_char(out, ',');
            json_print_value(out, &value->tuple.items[i]);
        }
        put_char(out, ']');
        break;
    }
}

/* ---- Trees ---- */

static void
print_list(anx_buffer *out, const struct json_node *node)
{
    bool is_object = node->kind == JSON_OBJECT;

    put_char(out, is_object ? '{' : '[');
    for (size_t i = 0; i < node->list.n; i++) {
        if (i > 0)
            put_char(out, ',');
        if (is_object) {
            json_print_text(out, node->list.items[i].key);
            put_char(out, ':');
        }
        json_print_node(out, &node->list.items[i]);
    }
    put_char(out, is_object ? '}' : ']');
}

void
json_print_node(anx_buffer *out, const struct json_node *node)
{
    switch (node->kind) {
    case JSON_NULL:
        put_literal(out, ANX_TEXT("null"));
        break;
    case JSON_BOOL:
        put_bool(out, node->boolean);
        break;
    case JSON_INT:
        json_print_int(out, node->integer);
        break;
    case JSON_UINT:
        put_literal(out, node->raw);
        break;
    case JSON_DOUBLE:
        json_print_double(out, node->real);
        break;
    case JSON_STRING:
        json_print_text(out, node->text);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        print_list(out, node);
        break;
    }
}

/* ---- Documents ---- */

/* Vectors of one field, fetched once per document. A document prints few vector fields; more than these are
 * fetched once per vector. */
enum { N_FETCHED = 8 };

struct printing {
    anx_buffer *out;
    struct doc doc; /* bytes NULL: a single node is printed, its vectors are all there are */
    struct doc_node root;
    const struct doc_names *names;
    const struct doc_projection *projection; /* NULL: everything */
    doc_vectors_fn fetch;
    void *context;
    struct {
        uint32_t field;
        struct doc_vectors vectors;
    } fetched[N_FETCHED];
    size_t n_fetched;
};

/* How much of a subtree is printed: everything but the vectors that were not asked for, or what lies on the
 * paths that share their first `step` names with it. */
struct scope {
    bool is_whole;
    uint32_t step;
    const struct scope *above; /* with the member's tag, for matching paths */
    uint32_t tag;
};

static void
print_floats(anx_buffer *out, const float *floats, uint32_t n)
{
    put_char(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX + 1);
        size_t size = 0;

        if (!to)
            return;
        if (i > 0)
            to[size++] = ',';
        out->size += size + number_print_float(to + size, floats[i]);
    }
    put_char(out, ']');
}

static uint32_t
count_vectors(const struct doc_node *node, uint32_t field)
{
    struct doc_node child;
    uint32_t n = node->kind == DOC_VECTOR && node->field == field ? node->n_vector : 0;

    for (const uint8_t *at = doc_first(node); doc_next(node, &at, &child);)
        n += count_vectors(&child, field);
    return n;
}

static void
print_vector(struct printing *printing, const struct doc_node *node)
{
    struct doc_vectors vectors = { .n = 0 };
    size_t i = 0;

    if (node->n_vector > 0) {
        while (i < printing->n_fetched && printing->fetched[i].field != node->field)
            i++;
        if (i < printing->n_fetched) {
            vectors = printing->fetched[i].vectors;
        } else if (printing->fetch) {
            uint32_t n = node->form == VECTOR_ONLY ? 1 : count_vectors(&printing->root, node->field);

            if (!printing->fetch(printing->context, node->field, n, &vectors) || !vectors.floats)
                vectors.n = 0;
            if (printing->n_fetched < N_FETCHED) {
                printing->fetched[printing->n_fetched].field = node->field;
                printing->fetched[printing->n_fetched++].vectors = vectors;
            }
        }
    }
    if (node->n_vector > 0 && node->vector < vectors.n)
        print_floats(printing->out, vectors.floats + (size_t) node->vector * vectors.dim, vectors.dim);
    else
        put_literal(printing->out, node->form == VECTOR_NULL ? ANX_TEXT("null") : ANX_TEXT("[]"));
}

static void print_any(struct printing *printing, const struct doc_node *node, const struct scope *scope);

/* Does the path start with the names from the root down to the scope and `tag` below it? */
static bool
path_matches(const struct doc_path *path, const struct scope *scope, uint32_t tag)
{
    if (path->n <= scope->step || path->steps[scope->step].tag != tag)
        return false;
    for (; scope->above; scope = scope->above)
        if (path->steps[scope->step - 1].tag != scope->tag)
            return false;
    return true;
}

static bool
is_vector_asked(const struct doc_projection *projection, uint32_t field)
{
    return !projection || projection->all_vectors ||
           (projection->vector_fields && projection->vector_fields[field]);
}

/* A vector, or an array of vectors: the first element tells, since an array in the place of vectors has
 * nothing else. */
static bool
holds_vectors(const struct doc_node *node, uint32_t *field)
{
    struct doc_node child;
    const uint8_t *at = doc_first(node);

    if (node->kind == DOC_VECTOR) {
        *field = node->field;
        return true;
    }
    return node->kind == DOC_ARRAY && doc_next(node, &at, &child) && holds_vectors(&child, field);
}

/* Is the member printed, and in which scope? */
static bool
choose(const struct printing *printing, const struct doc_node *member, const struct scope *parent,
       struct scope *scope)
{
    const struct doc_projection *projection = printing->projection;
    uint32_t field;
    bool is_way = false;

    *scope =
        (struct scope){ .is_whole = true, .step = parent->step + 1, .above = parent, .tag = member->tag };
    if (holds_vectors(member, &field))
        return is_vector_asked(projection, field);
    if (parent->is_whole)
        return true;
    for (size_t i = 0; i < projection->n_path; i++) {
        if (!path_matches(&projection->paths[i], parent, member->tag))
            continue;
        if (projection->paths[i].n == scope->step)
            return true;
        is_way = true;
    }
    scope->is_whole = false;
    return is_way && (member->kind == DOC_OBJECT || member->kind == DOC_ARRAY);
}

static void
print_members(struct printing *printing, const struct doc_node *object, const struct scope *scope)
{
    anx_buffer *out = printing->out;
    struct doc_node member;
    bool is_first = true;

    put_char(out, '{');
    for (const uint8_t *at = object->body; doc_next(object, &at, &member);) {
        struct scope below;

        if (!choose(printing, &member, scope, &below))
            continue;
        if (!is_first)
            put_char(out, ',');
        put_literal(out, names_json(printing->names, member.tag));
        print_any(printing, &member, &below);
        is_first = false;
    }
}

/* Inside of an array that is only on the way to what was asked for, scalars are left out. */
static bool
skips_element(const struct doc_node *element, const struct scope *scope)
{
    return !scope->is_whole && element->kind != DOC_OBJECT && element->kind != DOC_ARRAY;
}

static void
print_elements(struct printing *printing, const struct doc_node *array, const struct scope *scope)
{
    struct doc_node element;
    bool is_first = true;

    put_char(printing->out, '[');
    for (const uint8_t *at = array->body; doc_next(array, &at, &element);) {
        if (skips_element(&element, scope))
            continue;
        if (!is_first)
            put_char(printing->out, ',');
        print_any(printing, &element, scope);
        is_first = false;
    }
    put_char(printing->out, ']');
}

static void
print_any(struct printing *printing, const struct doc_node *node, const struct scope *scope)
{
    switch (node->kind) {
    case DOC_DOUBLE:
        if (node->is_float)
            json_print_float(printing->out, (float) node->value.real);
        else
            json_print_double(printing->out, node->value.real);
        break;
    case DOC_ARRAY:
        print_elements(printing, node, scope);
        break;
    case DOC_OBJECT:
        print_members(printing, node, scope);
        put_char(printing->out, '}');
        break;
    case DOC_VECTOR:
        print_vector(printing, node);
        break;
    case DOC_ABSENT:
        put_literal(printing->out, ANX_TEXT("null"));
        break;
    case DOC_NULL:
    case DOC_BOOL:
    case DOC_INT:
    case DOC_STRING:
    case DOC_UUID:
        json_print_value(printing->out, &node->value);
        break;
    }
}

void
json_print_doc(anx_buffer *out, struct doc doc, const struct doc_names *names,
               const struct doc_projection *projection, doc_vectors_fn vectors, void *context, bool open)
{
    struct printing printing = {
        .out = out, .names = names, .projection = projection, .fetch = vectors, .context = context
    };
    struct scope scope = { .is_whole = !projection || projection->all_regular };

    printing.root = doc_root(doc);
    print_members(&printing, &printing.root, &scope);
    if (!open)
        put_char(out, '}');
}

void
json_print_doc_node(anx_buffer *out, const struct doc_node *node, const struct doc_names *names,
                    doc_vectors_fn vectors, void *context)
{
    struct printing printing = {
        .out = out, .names = names, .fetch = vectors, .context = context, .root = *node
    };
    struct scope scope = { .is_whole = true };

    print_any(&printing, node, &scope);
}
