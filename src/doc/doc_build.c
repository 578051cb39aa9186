/* The builder: containers, names, bytes. What the shape says about a value is doc_build_field.c's. */
#include "doc/doc_build.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "doc/doc_build_int.h"
#include "doc/doc_int.h"

enum {
    FIRST_CAPACITY = 1024,
    HEAD_MAX = 1 + 5,  /* a head byte and a name's tag */
    SHALLOW = 16,      /* deeper containers get a padded size, see reserved_size */
    PACKED_MIN = 3     /* fewer elements are not worth another form */
};

void
build_init(struct doc_builder *builder, const anx_alloc *alloc)
{
    *builder = (struct doc_builder) { .alloc = alloc };
    match_init(&builder->matcher, alloc);
}

void
build_fini(struct doc_builder *builder)
{
    match_fini(&builder->matcher);
    anx_free(builder->alloc, builder->bytes);
    anx_free(builder->alloc, builder->seen);
    builder->bytes = NULL;
    builder->seen = NULL;
    builder->capacity = builder->capacity_seen = 0;
}

struct doc_builder *
build_create(const anx_alloc *alloc)
{
    struct doc_builder *builder = anx_alloc_bytes(alloc, sizeof(*builder));

    if (builder)
        build_init(builder, alloc);
    return builder;
}

void
build_destroy(struct doc_builder *builder)
{
    if (!builder)
        return;
    build_fini(builder);
    anx_free(builder->alloc, builder);
}

static anx_status
grow(struct doc_builder *builder, size_t needed, anx_error *err)
{
    size_t capacity = builder->capacity > 0 ? builder->capacity : FIRST_CAPACITY;
    uint8_t *bytes;

    if (needed > DOC_BYTES_MAX)
        return anx_fail(err, ANX_E_PARAMS, "Document is larger than %zu bytes", (size_t) DOC_BYTES_MAX);
    while (capacity < needed)
        capacity *= 2;
    bytes = anx_realloc_array(builder->alloc, builder->bytes, capacity, 1);
    if (!bytes)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    builder->bytes = bytes;
    builder->capacity = capacity;
    return ANX_OK;
}

static inline anx_status
make_room(struct doc_builder *builder, size_t size, anx_error *err)
{
    if (size <= builder->capacity - builder->size)
        return ANX_OK;
    return size <= DOC_BYTES_MAX ? grow(builder, builder->size + size, err) : grow(builder, size, err);
}

/* ---- Beginning ---- */

static anx_status
begin_vectors(struct doc_builder *builder, anx_error *err)
{
    size_t n = shape_vector_fields(builder->shape);

    for (size_t i = 0; i < builder->shape->n; i++)
        ANX_ASSERT(builder->shape->fields[i].path.n > 0 && builder->shape->fields[i].path.steps[0].tag != 0);
    builder->n_vector_field = n;
    builder->vectors = anx_arena_array(builder->arena, n, sizeof(*builder->vectors));
    builder->vector_room = anx_arena_array(builder->arena, n, sizeof(*builder->vector_room));
    if (!builder->vectors || !builder->vector_room)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    return ANX_OK;
}

static anx_status
begin_seen(struct doc_builder *builder, anx_error *err)
{
    if (builder->shape->n > builder->capacity_seen) {
        uint8_t *seen = anx_realloc_array(builder->alloc, builder->seen, builder->shape->n, 1);

        if (!seen)
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
        builder->seen = seen;
        builder->capacity_seen = builder->shape->n;
    }
    if (builder->shape->n > 0)
        memset(builder->seen, 0, builder->shape->n);
    return ANX_OK;
}

anx_status
build_begin(struct doc_builder *builder, struct doc_names *names, const struct doc_shape *shape,
            anx_arena *arena, const char *format, anx_error *err)
{
    struct build_frame *root = &builder->frames[0];
    anx_status st;

    builder->names = names;
    builder->shape = shape;
    builder->arena = arena;
    builder->format = format;
    builder->converts = false;
    builder->size = 0;
    builder->depth = 0;
    *root = (struct build_frame) { .is_object = true };
    st = begin_vectors(builder, err);
    if (st == ANX_OK)
        st = begin_seen(builder, err);
    if (st == ANX_OK)
        st = match_begin(&builder->matcher, shape, &root->slice, err);
    if (st == ANX_OK)
        st = make_room(builder, FIRST_CAPACITY, err);
    if (st == ANX_OK)
        builder->bytes[builder->size++] = DOC_FORMAT;
    return st;
}

void
build_tag(struct doc_builder *builder, uint32_t tag)
{
    builder->tag = tag;
    builder->here = match_member(&builder->matcher, &builder->frames[builder->depth].slice, tag);
}

anx_status
build_key(struct doc_builder *builder, anx_text key, anx_error *err)
{
    uint32_t tag;
    anx_status st = names_add(builder->names, key, &tag, err);

    if (st == ANX_OK)
        build_tag(builder, tag);
    return st;
}

/* ---- Values as bytes ---- */

/* A head, the name when this is a member, and room for `payload` bytes behind; counts the child. NULL: st. */
static inline uint8_t *
begin_value(struct doc_builder *builder, uint8_t head, enum stored_kind uniform, size_t payload,
            anx_status *st, anx_error *err)
{
    struct build_frame *frame = &builder->frames[builder->depth];
    uint8_t *at;

    *st = make_room(builder, HEAD_MAX + payload, err);
    if (*st != ANX_OK)
        return NULL;
    at = builder->bytes + builder->size;
    *at++ = head;
    if (frame->is_object)
        at = put_varint(at, builder->tag);
    else if (frame->n_child == 0)
        frame->uniform = (uint8_t) uniform;
    else if (frame->uniform != uniform)
        frame->uniform = STORED_KIND_COUNT;
    frame->n_child++;
    return at;
}

static inline anx_status
end_value(struct doc_builder *builder, const uint8_t *at)
{
    builder->size = (size_t) (at - builder->bytes);
    return ANX_OK;
}

static anx_status
emit_text(struct doc_builder *builder, anx_text text, anx_error *err)
{
    bool is_short = text.size < 16;
    uint8_t head = (uint8_t) (is_short ? STORED_SHORT | text.size << 4 : STORED_STRING);
    anx_status st;
    uint8_t *at = begin_value(builder, head, STORED_KIND_COUNT, VARINT_MAX + text.size, &st, err);

    if (!at)
        return st;
    if (!is_short)
        at = put_varint(at, text.size);
    if (text.size > 0)
        memcpy(at, text.data, text.size);
    return end_value(builder, at + text.size);
}

static anx_status
emit_real(struct doc_builder *builder, double real, anx_error *err)
{
    anx_status st;
    uint8_t *at = begin_value(builder, STORED_DOUBLE, STORED_DOUBLE, sizeof(real), &st, err);

    if (!at)
        return st;
    memcpy(at, &real, sizeof(real));
    return end_value(builder, at + sizeof(real));
}

static anx_status
emit_integer(struct doc_builder *builder, int64_t integer, anx_error *err)
{
    bool is_small = integer >= 0 && integer < 16;
    uint8_t head = (uint8_t) (is_small ? STORED_SMALL | integer << 4 : STORED_INT);
    anx_status st;
    uint8_t *at = begin_value(builder, head, STORED_INT, VARINT_MAX, &st, err);

    if (!at)
        return st;
    return end_value(builder, is_small ? at : put_varint(at, zigzag(integer)));
}

anx_status
build_emit(struct doc_builder *builder, const struct value *value, anx_error *err)
{
    anx_status st;
    uint8_t *at;
    uint8_t head;

    switch (value->type) {
    case VALUE_INT:
        return emit_integer(builder, value->integer, err);
    case VALUE_DOUBLE:
        return emit_real(builder, value->real, err);
    case VALUE_STRING:
        return emit_text(builder, value->text, err);
    case VALUE_UUID:
        at = begin_value(builder, STORED_UUID, STORED_KIND_COUNT, sizeof(value->uuid), &st, err);
        if (!at)
            return st;
        memcpy(at, value->uuid, sizeof(value->uuid));
        return end_value(builder, at + sizeof(value->uuid));
    case VALUE_NULL:
    case VALUE_BOOL:
    case VALUE_TUPLE: /* no source makes one */
        break;
    }
    head = value->type != VALUE_BOOL ? STORED_NULL : value->boolean ? STORED_TRUE : STORED_FALSE;
    at = begin_value(builder, head, STORED_KIND_COUNT, 0, &st, err);
    return at ? end_value(builder, at) : st;
}

anx_status
build_emit_float(struct doc_builder *builder, float real, anx_error *err)
{
    anx_status st;
    uint8_t *at = begin_value(builder, STORED_FLOAT, STORED_FLOAT, sizeof(real), &st, err);

    if (!at)
        return st;
    memcpy(at, &real, sizeof(real));
    return end_value(builder, at + sizeof(real));
}

anx_status
build_emit_vector(struct doc_builder *builder, const struct doc_field *field, enum doc_vector_form form,
                  anx_error *err)
{
    uint8_t head = (uint8_t) (STORED_VECTOR | form << 4);
    anx_status st;
    uint8_t *at = begin_value(builder, head, STORED_KIND_COUNT, 2 * (size_t) VARINT_MAX, &st, err);

    if (!at)
        return st;
    at = put_varint(at, field->vector_field);
    if (form == VECTOR_ELEMENT)
        at = put_varint(at, builder->vectors[field->vector_field].n);
    if (form == VECTOR_ELEMENT || form == VECTOR_ONLY)
        builder->vectors[field->vector_field].n++;
    return end_value(builder, at);
}

/* ---- Containers ---- */

/* The size of a container is known when it is closed. One byte is kept for it, and the content moved when
 * more are needed; moving at every level of a deep document would cost its depth times its size, so deep
 * containers get a size padded to five bytes at once. */
static size_t
reserved_size(const struct doc_builder *builder)
{
    return builder->depth <= SHALLOW ? 1 : PADDED_SIZE;
}

anx_status
build_open(struct doc_builder *builder, bool is_object, const struct doc_slice *slice, anx_error *err)
{
    const struct build_frame *parent = &builder->frames[builder->depth];
    size_t start = builder->size;
    anx_status st;
    uint8_t *at;

    if (builder->depth == DOC_DEPTH_MAX)
        return anx_fail(err, ANX_E_PARSE_JSON, "Error parsing %s: document is nested deeper than %d levels",
                        builder->format, DOC_DEPTH_MAX);
    at = begin_value(builder, is_object ? STORED_OBJECT : STORED_ARRAY, STORED_KIND_COUNT, PADDED_SIZE, &st,
                     err);
    if (!at)
        return st;
    builder->depth++;
    builder->frames[builder->depth] = (struct build_frame) {
        .start = start,
        .size_at = (size_t) (at - builder->bytes),
        .slice = *slice,
        .tag = builder->tag,
        .is_object = is_object,
        .in_array = parent->in_array || !is_object,
    };
    return end_value(builder, at + reserved_size(builder));
}

/* Elements of one kind of number lose their heads, in place: the result is never longer. */
static void
pack(struct doc_builder *builder, const struct build_frame *frame, size_t content)
{
    const uint8_t *from = builder->bytes + content, *end = builder->bytes + builder->size;
    uint8_t *to = builder->bytes + content;

    while (from < end) {
        uint8_t head = *from++;
        size_t size;

        if ((head & 15) == STORED_SMALL) {
            to = put_varint(to, zigzag(head >> 4));
            continue;
        }
        size = frame->uniform == STORED_DOUBLE ? sizeof(double) : sizeof(float);
        if (frame->uniform == STORED_INT)
            for (size = 1; from[size - 1] & 0x80; size++)
                ;
        memmove(to, from, size);
        to += size;
        from += size;
    }
    builder->size = (size_t) (to - builder->bytes);
    builder->bytes[frame->start] = (uint8_t) (STORED_PACKED | frame->uniform << 4);
}

static size_t
varint_size(uint64_t value)
{
    size_t n = 1;

    for (; value >= 0x80; value >>= 7)
        n++;
    return n;
}

anx_status
build_close(struct doc_builder *builder, anx_error *err)
{
    const struct build_frame *frame = &builder->frames[builder->depth];
    size_t reserved = reserved_size(builder);
    size_t content = frame->size_at + reserved;
    size_t size, more;
    uint8_t *at;
    anx_status st;

    if (!frame->is_object && frame->n_child >= PACKED_MIN &&
        (frame->uniform == STORED_INT || frame->uniform == STORED_DOUBLE || frame->uniform == STORED_FLOAT))
        pack(builder, frame, content);
    builder->depth--;
    size = builder->size - content;
    if (reserved == PADDED_SIZE) {
        at = builder->bytes + frame->size_at;
        for (unsigned i = 0; i < PADDED_SIZE; i++)
            at[i] = (uint8_t) ((size >> (7 * i) & 0x7f) | (i + 1 < PADDED_SIZE ? 0x80 : 0));
        return ANX_OK;
    }
    more = varint_size(size) - 1;
    if (more > 0) {
        st = make_room(builder, more, err);
        if (st != ANX_OK)
            return st;
        memmove(builder->bytes + content + more, builder->bytes + content, size);
        builder->size += more;
    }
    (void) put_varint(builder->bytes + frame->size_at, size);
    return ANX_OK;
}

void
build_forget(struct doc_builder *builder)
{
    const struct build_frame *frame = &builder->frames[builder->depth];

    builder->size = frame->start;
    builder->tag = frame->tag;
    builder->depth--;
    builder->frames[builder->depth].n_child--;
}

/* ---- End ---- */

anx_status
build_finish(struct doc_builder *builder, struct doc_draft *out, anx_error *err)
{
    uint8_t *bytes = anx_arena_bytes(builder->arena, builder->size);
    struct doc doc = { bytes, builder->size };
    anx_status st;

    ANX_ASSERT(builder->depth == 0);
    if (!bytes)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    memcpy(bytes, builder->bytes, builder->size);
    st = doc_extract_with(&builder->matcher, doc, builder->shape, builder->arena, out, err);
    if (st != ANX_OK)
        return st;
    for (size_t i = 0; i < builder->n_vector_field; i++)
        out->vectors[i].floats = builder->vectors[i].n > 0 ? builder->vectors[i].floats : NULL;
    return ANX_OK;
}
