/* The builder where a shape has something to say: conversions, checks and vectors. Error texts are those that
 * clients know. */
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "doc/doc_build_int.h"
#include "doc/doc_int.h"

static struct build_frame *
top(struct doc_builder *builder)
{
    return &builder->frames[builder->depth];
}

/* Fields whose paths lead to the next value. */
static const struct doc_slice *
slice_here(const struct doc_builder *builder)
{
    const struct build_frame *frame = &builder->frames[builder->depth];

    return frame->is_object ? &builder->here : &frame->slice;
}

static anx_status
fail_type(const struct doc_builder *builder, const struct doc_field *field, const char *got,
          const char *expected, anx_error *err)
{
    return anx_fail(err, ANX_E_LOGIC, "Error parsing %s field '%.*s' - got %s, expected %s", builder->format,
                    ANX_TEXT_ARG(field->index_name), got, expected);
}

static anx_status
fail_nested(const struct doc_builder *builder, const struct doc_field *field, anx_error *err)
{
    return anx_fail(err, ANX_E_LOGIC,
                    "Error parsing %s field '%.*s' - got value nested into the array, but expected scalar %s",
                    builder->format, ANX_TEXT_ARG(field->index_name), field_type_name(field->type));
}

static const char *
got_name(enum value_type type)
{
    switch (type) {
    case VALUE_INT:
    case VALUE_DOUBLE:
        return "number";
    case VALUE_NULL:
    case VALUE_BOOL:
    case VALUE_STRING:
    case VALUE_UUID:
    case VALUE_TUPLE:
        break;
    }
    return value_type_name(type);
}

/* A scalar of a field that is no array: not inside of one, and only once. */
static anx_status
claim_scalar(struct doc_builder *builder, const struct doc_field *field, anx_error *err)
{
    size_t place = (size_t) (field - builder->shape->fields);

    if (field->is_array || field->is_sparse)
        return ANX_OK;
    if (top(builder)->in_array)
        return fail_nested(builder, field, err);
    if (builder->seen[place])
        return anx_fail(err, ANX_E_LOGIC,
                        "Non-array field '%.*s' [%zu] from '%.*s' can only be encoded once.",
                        ANX_TEXT_ARG(field->index_name), place + 1, ANX_TEXT_ARG(builder->shape->ns));
    builder->seen[place] = true;
    return ANX_OK;
}

/* ---- Scalars ---- */

struct value
field_default(const struct doc_field *field)
{
    struct value value = { .type = VALUE_NULL };

    switch (field->type) {
    case FIELD_INT:
    case FIELD_INT64:
        value.type = VALUE_INT;
        break;
    case FIELD_DOUBLE:
        value.type = VALUE_DOUBLE;
        value.real = 0;
        break;
    case FIELD_STRING:
        value.type = VALUE_STRING;
        value.text = ANX_TEXT("");
        break;
    case FIELD_BOOL:
        value.type = VALUE_BOOL;
        break;
    case FIELD_UUID:
        value.type = VALUE_UUID;
        memset(value.uuid, 0, sizeof(value.uuid));
        break;
    case FIELD_POINT:
    case FIELD_COMPOSITE:
    case FIELD_FLOAT_VECTOR:
    case FIELD_TYPE_COUNT:
        break;
    }
    return value;
}

/* What a regular index makes of a value of JSON. Stricter than value_convert: texts are not read as numbers
 * unless the builder converts. */
static anx_status
convert_regular(struct doc_builder *builder, const struct doc_field *field, const struct value *in,
                struct value *out, anx_error *err)
{
    bool is_text = in->type == VALUE_STRING || in->type == VALUE_UUID;

    if (in->type == VALUE_NULL) {
        /* an array field keeps its null, the elements of an array do not */
        *out = field->is_array && top(builder)->is_object ? *in : field_default(field);
        return ANX_OK;
    }
    switch (field->type) {
    case FIELD_INT:
    case FIELD_INT64:
    case FIELD_DOUBLE:
    case FIELD_BOOL:
        if (is_text && !builder->converts)
            return fail_type(builder, field, got_name(in->type), field_type_name(field->type), err);
        return value_convert(in, field->type, builder->arena, out, err);
    case FIELD_STRING:
    case FIELD_UUID:
        if (!is_text && !builder->converts)
            return fail_type(builder, field, got_name(in->type), field_type_name(field->type), err);
        return value_convert(in, field->type, builder->arena, out, err);
    case FIELD_POINT:
        if (is_text || in->type == VALUE_BOOL || !top(builder)->in_array)
            return fail_type(builder, field, got_name(in->type), "point", err);
        return value_convert(in, FIELD_DOUBLE, builder->arena, out, err);
    case FIELD_COMPOSITE:
    case FIELD_FLOAT_VECTOR:
    case FIELD_TYPE_COUNT:
        break;
    }
    *out = *in;
    return ANX_OK;
}

/* A sparse field keeps the value of the document; it only must be convertible. */
static anx_status
check_sparse(struct doc_builder *builder, const struct doc_field *field, const struct value *in,
             anx_error *err)
{
    struct value converted;

    if (field->type == FIELD_STRING) /* everything has a text */
        return ANX_OK;
    return value_convert(in, field->type, builder->arena, &converted, err);
}

/* A scalar, or null, in the place of vectors but not inside of their array. */
static anx_status
vector_scalar(struct doc_builder *builder, const struct doc_field *field, const struct value *value,
              anx_error *err)
{
    anx_status st;

    if (value->type == VALUE_NULL && field->is_array)
        return build_emit_vector(builder, field, VECTOR_NULL, err);
    if (value->type == VALUE_NULL) {
        st = claim_scalar(builder, field, err);
        return st == ANX_OK ? build_emit_vector(builder, field, VECTOR_EMPTY, err) : st;
    }
    if (strcmp(builder->format, "json") != 0)
        return fail_type(builder, field, "not-array", "float_vector", err);
    if (field->is_array && (value->type == VALUE_INT || value->type == VALUE_DOUBLE))
        return anx_fail(err, ANX_E_PARAMS,
                        "json array field '%.*s' for this index type must contain %u elements, but got 1",
                        ANX_TEXT_ARG(field->index_name), field->dim);
    return fail_type(builder, field, got_name(value->type), field->is_array ? "array" : "float_vector", err);
}

static anx_status vector_component(struct doc_builder *builder, struct build_frame *frame,
                                   const struct value *value, anx_error *err);

static anx_status
indexed_value(struct doc_builder *builder, const struct doc_slice *slice, const struct value *value,
              anx_error *err)
{
    struct value stored = *value;
    anx_status st = ANX_OK;

    for (uint32_t i = 0; st == ANX_OK && i < slice->n; i++) {
        const struct doc_field *field = match_field(&builder->matcher, slice, i);

        if (!match_ends(field, slice))
            continue;
        if (field->must_be_utf8 && value->type == VALUE_STRING && !utf8_is_valid(value->text))
            return anx_fail(err, ANX_E_LOGIC, "Invalid UTF8 string passed to index with CollateUTF8 mode");
        if (field->type == FIELD_FLOAT_VECTOR)
            return vector_scalar(builder, field, value, err);
        if (field->is_sparse) {
            st = check_sparse(builder, field, value, err);
            continue;
        }
        st = convert_regular(builder, field, value, &stored, err);
        if (st == ANX_OK && field->type != FIELD_POINT) /* a point's array was claimed as a whole */
            st = claim_scalar(builder, field, err);
    }
    return st == ANX_OK ? build_emit(builder, &stored, err) : st;
}

anx_status
build_value(struct doc_builder *builder, const struct value *value, anx_error *err)
{
    const struct doc_slice *slice = slice_here(builder);

    if (top(builder)->vector)
        return vector_component(builder, top(builder), value, err);
    return slice->n == 0 ? build_emit(builder, value, err) : indexed_value(builder, slice, value, err);
}

anx_status
build_float(struct doc_builder *builder, float real, anx_error *err)
{
    struct value number = { .type = VALUE_DOUBLE, .real = (double) real };

    if (!top(builder)->vector && slice_here(builder)->n == 0)
        return build_emit_float(builder, real, err);
    return build_value(builder, &number, err);
}

/* ---- Vectors ---- */

anx_status
build_fail_component(const struct doc_builder *builder, const char *type, anx_error *err)
{
    const struct doc_field *field = builder->frames[builder->depth].vector;

    if (strcmp(builder->format, "json") != 0)
        return anx_fail(err, ANX_E_LOGIC,
                        "Error parsing %s field '%.*s' - got array of non-double values, expected array "
                        "convertible to float_vector",
                        builder->format, ANX_TEXT_ARG(field->index_name));
    return anx_fail(err, ANX_E_LOGIC,
                    "Error parsing %s field '%.*s' - got value of unexpected type in float_vector: %s",
                    builder->format, ANX_TEXT_ARG(field->index_name), type);
}

static anx_status
check_dim(const struct doc_builder *builder, const struct doc_field *field, uint32_t n, anx_error *err)
{
    if (n == field->dim)
        return ANX_OK;
    if (strcmp(builder->format, "json") != 0)
        return anx_fail(
            err, ANX_E_LOGIC,
            "Error parsing %s field '%.*s' - got array of size %u, expected float_vector of size %u",
            builder->format, ANX_TEXT_ARG(field->index_name), n, field->dim);
    return anx_fail(err, ANX_E_PARAMS,
                    "json array field '%.*s' for this index type must contain %u elements, but got %u",
                    ANX_TEXT_ARG(field->index_name), field->dim, n);
}

/* Where the field's next vector goes, [dim]. */
static float *
vector_room(struct doc_builder *builder, const struct doc_field *field, anx_error *err, anx_status *st)
{
    struct doc_vectors *vectors = &builder->vectors[field->vector_field];
    uint32_t *room = &builder->vector_room[field->vector_field];
    float *floats = (float *) (uintptr_t) vectors->floats; /* ours until the document is finished */

    *st = ANX_OK;
    if (vectors->n == *room) {
        uint32_t wanted = *room == 0 ? 1 : *room * 2;
        size_t dim = field->dim, count;

        floats = NULL;
        if (wanted > *room && !__builtin_mul_overflow(dim, (size_t) wanted, &count) &&
            count <= SIZE_MAX / sizeof(float))
            floats = anx_arena_bytes(builder->arena, count * sizeof(float));
        if (!floats) {
            *st = anx_fail(err, ANX_E_NOMEM, "out of memory");
            return NULL;
        }
        if (vectors->n > 0)
            memcpy(floats, vectors->floats, vectors->n * dim * sizeof(float));
        vectors->floats = floats;
        vectors->dim = field->dim;
        *room = wanted;
    }
    return floats + (size_t) vectors->n * field->dim;
}

float *
build_vector_room(struct doc_builder *builder, anx_error *err, anx_status *status)
{
    const struct build_frame *frame = top(builder);

    *status = ANX_OK;
    return frame->vector ? vector_room(builder, frame->vector, err, status) : NULL;
}

static anx_status
vector_number(struct doc_builder *builder, struct build_frame *frame, double number, anx_error *err)
{
    anx_status st;
    float *room;

    if (frame->vector_form == FORM_NESTED)
        return build_fail_component(builder, "NUMBER", err);
    frame->vector_form = FORM_FLAT;
    room = vector_room(builder, frame->vector, err, &st);
    if (!room)
        return st;
    if (frame->n_float < frame->vector->dim)
        room[frame->n_float] = (float) number;
    frame->n_float += frame->n_float < UINT32_MAX;
    return ANX_OK;
}

/* An element of an array in the place of vectors. */
static anx_status
vector_component(struct doc_builder *builder, struct build_frame *frame, const struct value *value,
                 anx_error *err)
{
    switch (value->type) {
    case VALUE_INT:
        return vector_number(builder, frame, (double) value->integer, err);
    case VALUE_DOUBLE:
        return vector_number(builder, frame, value->real, err);
    case VALUE_NULL:
        if (frame->vector_form == FORM_FLAT || !frame->vector->is_array)
            return build_fail_component(builder, "NULL", err);
        frame->vector_form = FORM_NESTED;
        return build_emit_vector(builder, frame->vector, VECTOR_EMPTY, err);
    case VALUE_BOOL:
        return build_fail_component(builder, value->boolean ? "TRUE" : "FALSE", err);
    case VALUE_STRING:
    case VALUE_UUID:
    case VALUE_TUPLE:
        break;
    }
    return build_fail_component(builder, "STRING", err);
}

static enum doc_vector_form
full_form(const struct doc_field *field)
{
    return field->is_array ? VECTOR_ELEMENT : VECTOR_ONLY;
}

/* The innermost container was an array in the place of vectors: of vectors, or one itself. */
static anx_status
end_vector_array(struct doc_builder *builder, anx_error *err)
{
    const struct build_frame *frame = top(builder);
    const struct doc_field *field = frame->vector;
    bool is_nested = builder->frames[builder->depth - 1].vector != NULL;
    enum doc_vector_form form = full_form(field);
    anx_status st = ANX_OK;

    if (frame->vector_form == FORM_NESTED)
        return build_close(builder, err);
    if (frame->vector_form == FORM_UNKNOWN)
        form = field->is_array && !is_nested ? VECTOR_NONE : VECTOR_EMPTY;
    else
        st = check_dim(builder, field, frame->n_float, err);
    if (st != ANX_OK)
        return st;
    build_forget(builder);
    return build_emit_vector(builder, field, form, err);
}

/* An array as an element of an array of vectors. */
static anx_status
enter_nested(struct doc_builder *builder, struct build_frame *frame, anx_error *err)
{
    if (frame->vector_form == FORM_FLAT || !frame->vector->is_array)
        return build_fail_component(builder, "ARRAY", err);
    frame->vector_form = FORM_NESTED;
    return ANX_OK;
}

anx_status
build_vector(struct doc_builder *builder, const float *floats, uint32_t n, anx_error *err)
{
    const struct doc_slice *slice = slice_here(builder);
    const struct doc_field *field = top(builder)->vector;
    anx_status st = ANX_OK;
    float *room;

    if (field)
        st = enter_nested(builder, top(builder), err);
    for (uint32_t i = 0; !field && i < slice->n; i++) {
        const struct doc_field *candidate = match_field(&builder->matcher, slice, i);

        if (match_ends(candidate, slice) && candidate->type == FIELD_FLOAT_VECTOR) {
            field = candidate;
            st = claim_scalar(builder, field, err);
        }
    }
    if (st != ANX_OK)
        return st;
    if (field) {
        st = n > 0 ? check_dim(builder, field, n, err) : ANX_OK;
        if (st != ANX_OK || n == 0)
            return st != ANX_OK ? st : build_emit_vector(builder, field, VECTOR_EMPTY, err);
        room = vector_room(builder, field, err, &st);
        if (!room)
            return st;
        memcpy(room, floats, n * sizeof(float));
        return build_emit_vector(builder, field, full_form(field), err);
    }
    st = build_begin_array(builder, err);
    for (uint32_t i = 0; st == ANX_OK && i < n; i++)
        st = build_float(builder, floats[i], err);
    return st == ANX_OK ? build_end(builder, err) : st;
}

/* ---- Containers ---- */

anx_status
build_begin_array(struct doc_builder *builder, anx_error *err)
{
    const struct doc_slice slice = *slice_here(builder);
    const struct doc_field *vector = top(builder)->vector;
    anx_status st;

    if (vector) {
        st = enter_nested(builder, top(builder), err);
        if (st != ANX_OK)
            return st;
    }
    for (uint32_t i = 0; !vector && i < slice.n; i++) {
        const struct doc_field *field = match_field(&builder->matcher, &slice, i);

        if (!match_ends(field, &slice))
            continue;
        if (field->type == FIELD_FLOAT_VECTOR || field->type == FIELD_POINT) {
            st = claim_scalar(builder, field, err);
            if (st != ANX_OK)
                return st;
            vector = field->type == FIELD_FLOAT_VECTOR ? field : NULL;
        } else if (!field->is_array && !field->is_sparse) {
            return anx_fail(err, ANX_E_LOGIC, "Error parsing %s field '%.*s' - got array, expected scalar %s",
                            builder->format, ANX_TEXT_ARG(field->index_name), field_type_name(field->type));
        }
    }
    st = build_open(builder, false, &slice, err);
    if (st == ANX_OK)
        top(builder)->vector = vector;
    return st;
}

anx_status
build_begin_object(struct doc_builder *builder, anx_error *err)
{
    const struct doc_slice slice = *slice_here(builder);

    for (uint32_t i = 0; i < slice.n; i++) {
        const struct doc_field *field = match_field(&builder->matcher, &slice, i);

        if (match_ends(field, &slice) && !field->is_sparse)
            return anx_fail(err, ANX_E_LOGIC,
                            "Error parsing %s field '%.*s' - unable to use object in this context",
                            builder->format, ANX_TEXT_ARG(field->index_name));
    }
    return build_open(builder, true, &slice, err);
}

/* A point is two numbers, or nothing. */
static anx_status
check_point(const struct doc_builder *builder, const struct build_frame *frame, anx_error *err)
{
    for (uint32_t i = 0; i < frame->slice.n; i++) {
        const struct doc_field *field = match_field(&builder->matcher, &frame->slice, i);

        if (match_ends(field, &frame->slice) && field->type == FIELD_POINT && frame->n_child != 2 &&
            frame->n_child != 0)
            return anx_fail(err, ANX_E_PARAMS,
                            "%s array field '%.*s' for this index type must contain 2 elements, but got %u",
                            builder->format, ANX_TEXT_ARG(field->index_name), frame->n_child);
    }
    return ANX_OK;
}

anx_status
build_end(struct doc_builder *builder, anx_error *err)
{
    const struct build_frame *frame = top(builder);
    anx_status st;

    if (frame->vector)
        return end_vector_array(builder, err);
    if (!frame->is_object && frame->slice.n > 0) {
        st = check_point(builder, frame, err);
        if (st != ANX_OK)
            return st;
    }
    return build_close(builder, err);
}
