/* The values that a document has for the fields of a shape. */
#include <string.h>

#include "base/error.h"
#include "doc/doc_build_int.h"

/* Values of one field while they are collected. */
struct collected {
    struct value *items; /* in the arena */
    size_t n, capacity;
};
struct extract {
    struct doc_matcher *matcher;
    const struct doc_shape *shape;
    anx_arena *arena;
    struct doc_draft *out;
    struct collected *collected; /* [shape->n] */
    anx_error *err;
};

static anx_status
out_of_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "out of memory");
}

static anx_status
collect(struct extract *extract, size_t place, const struct value *value)
{
    const struct doc_field *field = &extract->shape->fields[place];
    struct collected *list = &extract->collected[place];

    if (list->n == list->capacity) {
        size_t capacity = list->capacity == 0 ? 1 : list->capacity < 4 ? 4 : list->capacity * 2;
        struct value *items = anx_arena_array(extract->arena, capacity, sizeof(*items));

        if (!items)
            return out_of_memory(extract->err);
        if (list->n > 0)
            memcpy(items, list->items, list->n * sizeof(*items));
        list->items = items;
        list->capacity = capacity;
    }
    if (field->is_sparse) {
        anx_status st =
            value_convert(value, field->type, extract->arena, &list->items[list->n], extract->err);

        list->n += st == ANX_OK;
        return st;
    }
    list->items[list->n++] = *value;
    return ANX_OK;
}

/* A node that is the end of a field's path, or an element of an array there. */
static anx_status
take(struct extract *extract, size_t place, const struct doc_node *node, bool in_array)
{
    const struct doc_field *field = &extract->shape->fields[place];

    extract->out->is_present[place] = true;
    if (field->type == FIELD_FLOAT_VECTOR) {
        struct doc_vectors *vectors = &extract->out->vectors[field->vector_field];

        if (node->kind == DOC_VECTOR && node->field == field->vector_field) {
            vectors->n += node->n_vector;
            vectors->n_empty += node->form == VECTOR_EMPTY;
        }
        return ANX_OK;
    }
    if (node->kind == DOC_NULL &&
        !in_array) /* null is no value; inside of a sparse field's array it is one */
        return ANX_OK;
    if (node->kind == DOC_OBJECT || node->kind == DOC_VECTOR)
        return ANX_OK;
    return collect(extract, place, &node->value);
}

static anx_status
walk(struct extract *extract, const struct doc_node *node, const struct doc_slice *slice, bool in_array)
{
    struct doc_node child;
    anx_status st = ANX_OK;

    for (uint32_t i = 0; i < slice->n; i++) {
        const struct doc_field *field = match_field(extract->matcher, slice, i);
        size_t place = (size_t) (field - extract->shape->fields);

        if (!match_ends(field, slice))
            continue;
        if (node->kind == DOC_ARRAY)
            extract->out->is_present[place] = true; /* also when it is empty */
        else
            st = take(extract, place, node, in_array);
        if (st != ANX_OK)
            return st;
    }
    for (const uint8_t *at = doc_first(node); st == ANX_OK && doc_next(node, &at, &child);) {
        struct doc_slice below = *slice;

        if (node->kind == DOC_OBJECT)
            below = match_member(extract->matcher, slice, child.tag);
        if (below.n > 0)
            st = walk(extract, &child, &below, node->kind == DOC_ARRAY);
    }
    return st;
}

static anx_status
prepare(struct extract *extract)
{
    const struct doc_shape *shape = extract->shape;
    struct doc_draft *out = extract->out;
    size_t n = shape_vector_fields(shape);

    out->n_vectors = n;
    out->vectors = anx_arena_array(extract->arena, n, sizeof(*out->vectors));
    out->values = anx_arena_array(extract->arena, shape->n, sizeof(*out->values));
    out->is_present = anx_arena_array(extract->arena, shape->n, sizeof(*out->is_present));
    extract->collected = anx_arena_array(extract->arena, shape->n, sizeof(*extract->collected));
    if (!out->vectors || !out->values || !out->is_present || !extract->collected)
        return out_of_memory(extract->err);
    for (size_t i = 0; i < shape->n; i++)
        if (shape->fields[i].type == FIELD_FLOAT_VECTOR)
            out->vectors[shape->fields[i].vector_field].dim = shape->fields[i].dim;
    return ANX_OK;
}

/* A scalar field without a value has its default. */
static anx_status
fill_default(struct extract *extract, size_t place)
{
    const struct doc_field *field = &extract->shape->fields[place];
    struct value value = field_default(field);

    if (field->is_sparse || field->is_array || value.type == VALUE_NULL)
        return ANX_OK;
    return collect(extract, place, &value);
}

anx_status
doc_extract_with(struct doc_matcher *matcher, struct doc doc, const struct doc_shape *shape, anx_arena *arena,
                 struct doc_draft *out, anx_error *err)
{
    struct extract extract = { .matcher = matcher, .shape = shape, .arena = arena, .out = out, .err = err };
    struct doc_node root = doc_root(doc);
    struct doc_slice slice;
    anx_status st;

    *out = (struct doc_draft) { .doc = doc };
    st = prepare(&extract);
    if (st == ANX_OK)
        st = match_begin(matcher, shape, &slice, err);
    if (st == ANX_OK && slice.n > 0)
        st = walk(&extract, &root, &slice, false);
    for (size_t i = 0; st == ANX_OK && i < shape->n; i++) {
        if (extract.collected[i].n == 0)
            st = fill_default(&extract, i);
        out->values[i] = (struct values) { extract.collected[i].items, extract.collected[i].n };
    }
    return st;
}

anx_status
doc_extract(struct doc doc, const struct doc_shape *shape, anx_arena *arena, struct doc_draft *out,
            anx_error *err)
{
    struct doc_matcher matcher;
    anx_status st;

    match_init(&matcher, NULL);
    st = doc_extract_with(&matcher, doc, shape, arena, out, err);
    match_fini(&matcher);
    return st;
}
