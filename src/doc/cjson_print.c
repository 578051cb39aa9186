/* CJSON out: documents from their bytes in one pass. Arrays need their number of elements first, so those
 * that are not packed are walked twice. */
#include "doc/cjson.h"

#include <string.h>

#include "base/error.h"
#include "doc/doc_int.h"
#include "doc/doc_scope.h"

#define TYPE_LOW 7u
#define NAME_SHIFT 3
#define TYPE_HIGH_SHIFT 29

struct printing {
    anx_buffer *out;
    const struct doc_projection *projection; /* NULL: everything */
    struct doc_fetched vectors;
    bool failed; /* something cannot be said in CJSON */
};

static inline uint64_t
tag_of(enum cjson_type type, uint32_t name)
{
    return (type & TYPE_LOW) | (uint64_t) name << NAME_SHIFT | (uint64_t) (type >> 3) << TYPE_HIGH_SHIFT;
}

static void
put_tag(struct printing *p, enum cjson_type type, uint32_t name)
{
    p->failed = p->failed || name > CJSON_NAME_MAX;
    anx_buffer_varint(p->out, tag_of(type, name));
}

static void
put_array_head(struct printing *p, size_t n, enum cjson_type type)
{
    p->failed = p->failed || n > CJSON_COUNT_MAX;
    anx_buffer_le(p->out, (uint64_t) n | (uint64_t) type << 24, 4);
}

static void
put_uuid(anx_buffer *out, const uint8_t uuid[16])
{
    for (size_t half = 0; half < 16; half += 8) {
        uint64_t bits = 0;

        for (size_t i = 0; i < 8; i++)
            bits = bits << 8 | uuid[half + i];
        anx_buffer_le(out, bits, 8);
    }
}

static void
put_double(anx_buffer *out, double real)
{
    uint64_t bits;

    memcpy(&bits, &real, sizeof(bits));
    anx_buffer_le(out, bits, sizeof(bits));
}

static enum cjson_type
type_of(const struct doc_node *node)
{
    switch (node->kind) {
    case DOC_BOOL:
        return CJSON_BOOL;
    case DOC_INT:
        return CJSON_VARINT;
    case DOC_DOUBLE: /* clients read single numbers of both widths; FLOAT keeps arrays of floats small */
        return node->is_float ? CJSON_FLOAT : CJSON_DOUBLE;
    case DOC_STRING:
        return CJSON_STRING;
    case DOC_UUID:
        return CJSON_UUID;
    case DOC_VECTOR:
        return node->form == VECTOR_NULL ? CJSON_NULL : CJSON_ARRAY;
    case DOC_ARRAY:
        return CJSON_ARRAY;
    case DOC_OBJECT:
        return CJSON_OBJECT;
    case DOC_NULL:
    case DOC_ABSENT:
        break;
    }
    return CJSON_NULL;
}

static void
put_scalar(anx_buffer *out, const struct doc_node *node)
{
    float narrow;
    uint32_t bits;

    switch (node->kind) {
    case DOC_BOOL:
        anx_buffer_char(out, node->value.boolean);
        break;
    case DOC_INT:
        anx_buffer_zigzag(out, node->value.integer);
        break;
    case DOC_DOUBLE:
        if (!node->is_float) {
            put_double(out, node->value.real);
            break;
        }
        narrow = (float) node->value.real;
        memcpy(&bits, &narrow, sizeof(bits));
        anx_buffer_le(out, bits, sizeof(bits));
        break;
    case DOC_STRING:
        anx_buffer_varint(out, node->value.text.size);
        anx_buffer_text(out, node->value.text);
        break;
    case DOC_UUID:
        put_uuid(out, node->value.uuid);
        break;
    case DOC_NULL:
    case DOC_ABSENT:
    case DOC_ARRAY:
    case DOC_OBJECT:
    case DOC_VECTOR:
        break;
    }
}

static void
put_vector(struct printing *p, const struct doc_node *node)
{
    uint32_t dim = 0;
    const float *floats;

    if (node->form == VECTOR_NULL)
        return;
    floats = doc_fetch_vector(&p->vectors, node, &dim);
    put_array_head(p, floats ? dim : 0, CJSON_FLOAT);
    if (floats)
        anx_buffer_bytes(p->out, floats, (size_t) dim * sizeof(*floats));
}

static void put_value(struct printing *p, const struct doc_node *node, const struct doc_scope *scope);

/* Packed numbers are stored as CJSON has them. */
static bool
put_packed(struct printing *p, const struct doc_node *array)
{
    size_t size = (size_t) (array->end - array->body), n = 0;

    switch (array->packed) {
    case STORED_INT:
        for (size_t i = 0; i < size; i++)
            n += array->body[i] < 0x80;
        put_array_head(p, n, CJSON_VARINT);
        break;
    case STORED_DOUBLE:
        put_array_head(p, size / sizeof(double), CJSON_DOUBLE);
        break;
    case STORED_FLOAT:
        put_array_head(p, size / sizeof(float), CJSON_FLOAT);
        break;
    default:
        return false;
    }
    anx_buffer_bytes(p->out, array->body, size);
    return true;
}

/* The common type of the elements that are shown, OBJECT when there is none; *n: how many. */
static enum cjson_type
element_type(const struct doc_node *array, const struct doc_scope *scope, size_t *n)
{
    enum cjson_type type = CJSON_NULL;
    struct doc_node element;

    *n = 0;
    for (const uint8_t *at = doc_first(array); doc_next(array, &at, &element);) {
        enum cjson_type one = type_of(&element);

        if (doc_scope_skips(scope, &element))
            continue;
        if (one == CJSON_ARRAY || one == CJSON_OBJECT || one == CJSON_NULL || (*n > 0 && one != type))
            type = CJSON_OBJECT;
        else if (*n == 0)
            type = one;
        ++*n;
    }
    return type;
}

static void
put_array(struct printing *p, const struct doc_node *array, const struct doc_scope *scope)
{
    struct doc_node element;
    enum cjson_type type;
    size_t n;

    if (scope->is_whole && put_packed(p, array))
        return;
    type = element_type(array, scope, &n);
    put_array_head(p, n, type);
    for (const uint8_t *at = doc_first(array); doc_next(array, &at, &element);) {
        if (doc_scope_skips(scope, &element))
            continue;
        if (type == CJSON_OBJECT)
            put_tag(p, type_of(&element), 0);
        put_value(p, &element, scope);
    }
}

static void
put_members(struct printing *p, const struct doc_node *object, const struct doc_scope *scope)
{
    struct doc_node member;

    for (const uint8_t *at = doc_first(object); doc_next(object, &at, &member);) {
        struct doc_scope below;

        if (!doc_scope_choose(p->projection, &member, scope, &below))
            continue;
        put_tag(p, type_of(&member), member.tag);
        put_value(p, &member, &below);
    }
    put_tag(p, CJSON_END, 0);
}

static void
put_value(struct printing *p, const struct doc_node *node, const struct doc_scope *scope)
{
    if (node->kind == DOC_ARRAY)
        put_array(p, node, scope);
    else if (node->kind == DOC_OBJECT)
        put_members(p, node, scope);
    else if (node->kind == DOC_VECTOR)
        put_vector(p, node);
    else
        put_scalar(p->out, node);
}

bool
cjson_print_doc(anx_buffer *out, struct doc doc, const struct doc_projection *projection,
                doc_vectors_fn vectors, void *context)
{
    struct printing p = { .out = out, .projection = projection };
    struct doc_scope scope = { .is_whole = !projection || projection->all_regular };

    p.vectors.root = doc_root(doc);
    p.vectors.fetch = vectors;
    p.vectors.context = context;
    put_tag(&p, CJSON_OBJECT, 0);
    put_members(&p, &p.vectors.root, &scope);
    return !p.failed;
}

anx_status
cjson_fail_limit(const struct doc_names *names, anx_error *err)
{
    return anx_fail(
        err, ANX_E_LIMIT,
        "document cannot be sent as CJSON: the namespace has %u field names, numbers up to %d fit, "
        "and arrays have at most %d elements; ask for JSON",
        names_count(names), CJSON_NAME_MAX, CJSON_COUNT_MAX);
}

void
cjson_print_names(anx_buffer *out, const struct doc_names *names, uint32_t count)
{
    anx_buffer_varint(out, count);
    for (uint32_t tag = 1; tag <= count; tag++) {
        anx_text name = names_text(names, tag);

        anx_buffer_varint(out, name.size);
        anx_buffer_text(out, name);
    }
}
