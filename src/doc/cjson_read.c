/* CJSON in: bytes from a client become events for the builder. Floats of a vector go from the item straight
 * into the row that the vector index gets. */
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "doc/cjson.h"
#include "doc/doc_build.h"
#include "doc/doc_int.h"

#define NAME_SHIFT 3
#define FIELD_SHIFT 15
#define TYPE_HIGH_SHIFT 29
#define BUNDLE_HEAD 5
#define NULLS_MAX \
    1000000u /* of a document, in arrays that name their type once: they need no bytes (taste) */

struct cjson_reader {
    struct doc_builder builder;
    anx_reader in;
    /* Of a bundle: its names, and their numbers in the namespace as far as the document used them. */
    const anx_text *texts; /* arena [n_name]; NULL: the namespace's own numbers */
    uint32_t *tags;        /* arena [n_name]; 0: not asked yet */
    size_t n_name;
    uint32_t n_null; /* so far, of those that need no bytes */
    anx_error *err;
};

struct cjson_reader *
cjson_reader_create(void)
{
    struct cjson_reader *reader = anx_alloc_bytes(NULL, sizeof(*reader));

    if (reader)
        build_init(&reader->builder, NULL);
    return reader;
}

void
cjson_reader_destroy(struct cjson_reader *reader)
{
    if (!reader)
        return;
    build_fini(&reader->builder);
    anx_free(NULL, reader);
}

static anx_status
fail_cut(struct cjson_reader *r)
{
    return anx_fail(r->err, ANX_E_PARSE_BIN, "Error parsing cjson: it ends or is damaged at byte %zu of %zu",
                    r->in.at, r->in.size);
}

/* ---- Tags and names ---- */

struct tag {
    enum cjson_type type;
    uint32_t name;
};

static anx_status
read_tag(struct cjson_reader *r, struct tag *out)
{
    uint64_t word = anx_read_varint(&r->in);
    unsigned type = (unsigned) (word & 7) | (unsigned) (word >> TYPE_HIGH_SHIFT & 7) << 3;

    if (r->in.failed || word > UINT32_MAX)
        return fail_cut(r);
    if (word >> FIELD_SHIFT & 0x3ff)
        return anx_fail(r->err, ANX_E_LOGIC,
                        "Error parsing cjson: value refers to index field %u, values have to be inline",
                        (unsigned) (word >> FIELD_SHIFT & 0x3ff) - 1);
    if (type >= CJSON_TYPE_COUNT)
        return anx_fail(r->err, ANX_E_PARSE_BIN, "Error parsing cjson: unknown type %u of a value", type);
    *out = (struct tag) { (enum cjson_type) type, (uint32_t) (word >> NAME_SHIFT & CJSON_NAME_MAX) };
    return ANX_OK;
}

/* The name of the next member. */
static anx_status
enter_name(struct cjson_reader *r, uint32_t name)
{
    anx_status st = ANX_OK;

    if (name == 0)
        return anx_fail(r->err, ANX_E_PARSE_BIN, "Error parsing cjson: a member of an object has no name");
    if (!r->texts) {
        if (name > names_count(r->builder.names))
            return anx_fail(r->err, ANX_E_TAGS, "Error parsing cjson: unknown field name number %u of %u",
                            name, names_count(r->builder.names));
        build_tag(&r->builder, name);
        return ANX_OK;
    }
    if (name > r->n_name)
        return anx_fail(r->err, ANX_E_TAGS, "Error parsing cjson: unknown field name number %u of %zu", name,
                        r->n_name);
    if (r->tags[name - 1] == 0)
        st = names_add(r->builder.names, r->texts[name - 1], &r->tags[name - 1], r->err);
    if (st == ANX_OK)
        build_tag(&r->builder, r->tags[name - 1]);
    return st;
}

static anx_status
read_bundle(struct cjson_reader *r, anx_text item, anx_arena *arena, anx_text *doc)
{
    uint64_t at = item.size >= BUNDLE_HEAD ? anx_load_le((const uint8_t *) item.data + 1, 4) : 0;
    anx_reader in;
    uint64_t n;
    anx_text *texts;

    if (at < BUNDLE_HEAD || at > item.size)
        return anx_fail(r->err, ANX_E_PARSE_BIN, "Error parsing cjson: no dictionary at byte %u of %zu",
                        (unsigned) at, item.size);
    *doc = (anx_text) { item.data + BUNDLE_HEAD, at - BUNDLE_HEAD };
    in = anx_reader_init(item.data + at, item.size - at);
    n = anx_read_varint(&in);
    if (in.failed || n > item.size - at) /* a name takes a byte at least */
        return anx_fail(r->err, ANX_E_PARSE_BIN, "Error parsing cjson: the dictionary is cut short");
    texts = anx_arena_array(arena, n + 1, sizeof(*texts));
    r->tags = anx_arena_array(arena, n + 1, sizeof(*r->tags));
    if (!texts || !r->tags)
        return anx_fail(r->err, ANX_E_NOMEM, "out of memory");
    for (uint64_t i = 0; i < n; i++) {
        uint64_t size = anx_read_varint(&in);

        texts[i] = (anx_text) { (const char *) anx_read_view(&in, size), size };
        if (in.failed)
            return anx_fail(r->err, ANX_E_PARSE_BIN, "Error parsing cjson: the dictionary is cut short");
    }
    r->texts = texts;
    r->n_name = n;
    return ANX_OK;
}

/* ---- Values ---- */

static anx_status read_value(struct cjson_reader *r, enum cjson_type type);

static anx_status
read_string(struct cjson_reader *r)
{
    struct value value = { .type = VALUE_STRING };
    uint64_t size = anx_read_varint(&r->in);

    value.text = (anx_text) { (const char *) anx_read_view(&r->in, size), size };
    return r->in.failed ? fail_cut(r) : build_value(&r->builder, &value, r->err);
}

static anx_status
read_uuid(struct cjson_reader *r)
{
    struct value value = { .type = VALUE_UUID };

    for (size_t half = 0; half < 16; half += 8) {
        uint64_t bits = anx_read_u64(&r->in);

        for (size_t i = 0; i < 8; i++)
            value.uuid[half + i] = (uint8_t) (bits >> (8 * (7 - i)));
    }
    return r->in.failed ? fail_cut(r) : build_value(&r->builder, &value, r->err);
}

static anx_status
read_number(struct cjson_reader *r, enum cjson_type type)
{
    struct value value = { .type = VALUE_NULL };
    float narrow;

    switch (type) {
    case CJSON_VARINT:
        value = (struct value) { .type = VALUE_INT, .integer = anx_read_zigzag(&r->in) };
        break;
    case CJSON_DOUBLE:
        value = (struct value) { .type = VALUE_DOUBLE, .real = anx_read_f64(&r->in) };
        break;
    case CJSON_BOOL:
        value = (struct value) { .type = VALUE_BOOL, .boolean = anx_read_varint(&r->in) != 0 };
        break;
    case CJSON_FLOAT:
        narrow = anx_read_f32(&r->in);
        return r->in.failed ? fail_cut(r) : build_float(&r->builder, narrow, r->err);
    default:
        break;
    }
    return r->in.failed ? fail_cut(r) : build_value(&r->builder, &value, r->err);
}

/* Floats in the place of a vector: one copy from the item to the row. */
static anx_status
read_vector(struct cjson_reader *r, uint32_t n, bool *done)
{
    const uint8_t *floats;
    uint32_t dim;
    anx_status st;
    float *room = build_vector_room(&r->builder, r->err, &st);

    *done = room != NULL;
    if (!room)
        return st;
    floats = anx_read_view(&r->in, (size_t) n * sizeof(*room));
    if (!floats)
        return fail_cut(r);
    dim = build_vector_dim(&r->builder);
    memcpy(room, floats, (size_t) (n < dim ? n : dim) * sizeof(*room));
    build_vector_count(&r->builder, n);
    return ANX_OK;
}

static anx_status
read_elements(struct cjson_reader *r, enum cjson_type type, uint32_t n)
{
    anx_status st = ANX_OK;
    bool done = false;

    if (type == CJSON_FLOAT && n > 0)
        st = read_vector(r, n, &done);
    for (uint32_t i = 0; st == ANX_OK && !done && i < n; i++) {
        struct tag tag = { type, 0 };

        if (type == CJSON_OBJECT)
            st = read_tag(r, &tag);
        if (st == ANX_OK)
            st = read_value(r, tag.type);
    }
    return st;
}

static anx_status
read_array(struct cjson_reader *r)
{
    uint32_t word = anx_read_u32(&r->in);
    uint32_t n = word & CJSON_COUNT_MAX, type = word >> 24;
    anx_status st;

    if (r->in.failed)
        return fail_cut(r);
    if (type >= CJSON_TYPE_COUNT || type == CJSON_ARRAY || type == CJSON_END)
        return anx_fail(r->err, ANX_E_PARSE_BIN, "Error parsing cjson: type %u of the elements of an array",
                        type);
    /* Everything but NULL takes a byte; so four bytes could claim millions of them, again and again. */
    if (n > r->in.size - r->in.at && type != CJSON_NULL)
        return fail_cut(r);
    if (type == CJSON_NULL && n > NULLS_MAX - r->n_null)
        return anx_fail(r->err, ANX_E_PARSE_BIN,
                        "Error parsing cjson: an array of %u nulls, a document may have %u in all", n,
                        NULLS_MAX);
    r->n_null += type == CJSON_NULL ? n : 0;
    st = build_begin_array(&r->builder, r->err);
    if (st == ANX_OK)
        st = read_elements(r, (enum cjson_type) type, n);
    return st == ANX_OK ? build_end(&r->builder, r->err) : st;
}

static anx_status
read_members(struct cjson_reader *r)
{
    anx_status st = ANX_OK;

    while (st == ANX_OK) {
        struct tag tag;

        st = read_tag(r, &tag);
        if (st != ANX_OK || tag.type == CJSON_END)
            return st;
        st = enter_name(r, tag.name);
        if (st == ANX_OK)
            st = read_value(r, tag.type);
    }
    return st;
}

static anx_status
read_value(struct cjson_reader *r, enum cjson_type type)
{
    anx_status st;

    switch (type) {
    case CJSON_STRING:
        return read_string(r);
    case CJSON_UUID:
        return read_uuid(r);
    case CJSON_ARRAY:
        return read_array(r);
    case CJSON_OBJECT:
        st = build_begin_object(&r->builder, r->err);
        if (st == ANX_OK)
            st = read_members(r);
        return st == ANX_OK ? build_end(&r->builder, r->err) : st;
    case CJSON_END:
        return anx_fail(r->err, ANX_E_PARSE_BIN,
                        "Error parsing cjson: unexpected end of an object at byte %zu", r->in.at);
    default:
        return read_number(r, type);
    }
}

anx_status
cjson_read_doc(struct cjson_reader *r, anx_text item, struct doc_names *names, const struct doc_shape *shape,
               anx_arena *arena, struct doc_draft *out, anx_error *err)
{
    anx_text doc = item;
    struct tag root;
    anx_status st = ANX_OK;

    r->err = err;
    r->texts = NULL;
    r->n_null = 0;
    if (cjson_is_bundle(item))
        st = read_bundle(r, item, arena, &doc);
    r->in = anx_reader_init(doc.data, doc.size);
    if (st == ANX_OK)
        st = build_begin(&r->builder, names, shape, arena, "cjson", err);
    if (st == ANX_OK)
        st = read_tag(r, &root);
    if (st == ANX_OK && (root.type != CJSON_OBJECT || root.name != 0))
        st = anx_fail(err, ANX_E_PARSE_BIN, "Error parsing cjson: it does not start with an object");
    if (st == ANX_OK)
        st = read_members(r);
    if (st == ANX_OK && r->in.at < r->in.size)
        st = anx_fail(err, ANX_E_PARSE_BIN, "Error parsing cjson: %zu bytes behind the document",
                      r->in.size - r->in.at);
    return st == ANX_OK ? build_finish(&r->builder, out, err) : st;
}
