/* Trees of documents, and documents under another shape. */
#include "doc/doc_edit.h"

#include "base/error.h"
#include "doc/doc_int.h"

static anx_status
out_of_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "out of memory");
}

/* ---- The tree ---- */

struct edit *
edit_create(anx_arena *arena, enum doc_kind kind, uint32_t tag)
{
    struct edit *node = anx_arena_array(arena, 1, sizeof(*node));

    if (node) {
        node->kind = kind;
        node->tag = tag;
    }
    return node;
}

struct edit *
edit_create_value(anx_arena *arena, const struct value *value)
{
    static const enum doc_kind kinds[] = {
        [VALUE_NULL] = DOC_NULL,     [VALUE_BOOL] = DOC_BOOL,     [VALUE_INT] = DOC_INT,
        [VALUE_DOUBLE] = DOC_DOUBLE, [VALUE_STRING] = DOC_STRING, [VALUE_UUID] = DOC_UUID,
        [VALUE_TUPLE] = DOC_ARRAY,
    };
    struct edit *node = edit_create(arena, kinds[value->type], 0);

    if (node)
        node->value = *value;
    for (size_t i = 0; node && value->type == VALUE_TUPLE && i < value->tuple.n; i++) {
        struct edit *child = edit_create_value(arena, &value->tuple.items[i]);

        if (!child)
            return NULL;
        edit_append(node, child);
    }
    return node;
}

void
edit_append(struct edit *parent, struct edit *child)
{
    child->next = NULL;
    if (parent->last)
        parent->last->next = child;
    else
        parent->first = child;
    parent->last = child;
}

struct edit *
edit_member(const struct edit *object, uint32_t tag)
{
    struct edit *child = object->first;

    while (child && child->tag != tag)
        child = child->next;
    return child;
}

struct edit *
edit_element(const struct edit *array, uint32_t at)
{
    struct edit *child = array->first;

    while (child && at-- > 0)
        child = child->next;
    return child;
}

void
edit_remove(struct edit *parent, struct edit *child)
{
    struct edit *before = NULL;

    for (struct edit *node = parent->first; node != child; node = node->next)
        before = node;
    if (before)
        before->next = child->next;
    else
        parent->first = child->next;
    if (parent->last == child)
        parent->last = before;
}

void
edit_replace(struct edit *node, const struct edit *from)
{
    uint32_t tag = node->tag;
    struct edit *next = node->next;

    *node = *from;
    node->tag = tag;
    node->next = next;
}

struct tree_reader {
    const struct doc_vectors *vectors;
    size_t n_vector;
    anx_arena *arena;
    anx_error *err;
};

static anx_status
read_vector(const struct tree_reader *reader, const struct doc_node *in, struct edit *node)
{
    const struct doc_vectors *list = in->field < reader->n_vector ? &reader->vectors[in->field] : NULL;

    node->form = in->form;
    if (in->n_vector == 0)
        return ANX_OK;
    if (!list || !list->floats || in->vector >= list->n)
        return anx_fail(reader->err, ANX_E_CORRUPT,
                        "document refers to vector %u of field %u, which is not there", in->vector,
                        in->field);
    node->floats = list->floats + (size_t) in->vector * list->dim;
    node->n_float = list->dim;
    return ANX_OK;
}

static anx_status
read_node(const struct tree_reader *reader, const struct doc_node *in, struct edit **out)
{
    struct edit *node = edit_create(reader->arena, in->kind, in->tag);
    struct doc_node child;
    anx_status st = ANX_OK;

    *out = node;
    if (!node)
        return out_of_memory(reader->err);
    node->value = in->value;
    node->is_float = in->is_float;
    if (in->kind == DOC_VECTOR)
        st = read_vector(reader, in, node);
    for (const uint8_t *at = doc_first(in); st == ANX_OK && doc_next(in, &at, &child);) {
        struct edit *below;

        st = read_node(reader, &child, &below);
        if (st == ANX_OK)
            edit_append(node, below);
    }
    return st;
}

anx_status
edit_read(struct doc doc, const struct doc_vectors *vectors, const struct doc_shape *shape, anx_arena *arena,
          struct edit **out, anx_error *err)
{
    struct tree_reader reader = { .vectors = vectors, .arena = arena, .err = err };
    struct doc_node root = doc_root(doc);

    reader.n_vector = vectors ? shape_vector_fields(shape) : 0;
    return read_node(&reader, &root, out);
}

static struct edit *
json_scalar(const struct json_node *json, anx_arena *arena)
{
    struct value value = { .type = VALUE_NULL };

    switch (json->kind) {
    case JSON_BOOL:
        value = (struct value) { .type = VALUE_BOOL, .boolean = json->boolean };
        break;
    case JSON_INT:
        value = (struct value) { .type = VALUE_INT, .integer = json->integer };
        break;
    case JSON_UINT:
        value = (struct value) { .type = VALUE_DOUBLE, .real = (double) json->natural };
        break;
    case JSON_DOUBLE:
        value = (struct value) { .type = VALUE_DOUBLE, .real = json->real };
        break;
    case JSON_STRING:
        value = (struct value) { .type = VALUE_STRING, .text = json->text };
        break;
    case JSON_NULL:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return edit_create_value(arena, &value);
}

anx_status
edit_read_json(const struct json_node *json, struct doc_names *names, anx_arena *arena, struct edit **out,
               anx_error *err)
{
    bool is_list = json->kind == JSON_ARRAY || json->kind == JSON_OBJECT;
    struct edit *node;

    if (is_list)
        node = edit_create(arena, json->kind == JSON_ARRAY ? DOC_ARRAY : DOC_OBJECT, 0);
    else
        node = json_scalar(json, arena);
    *out = node;
    if (!node)
        return out_of_memory(err);
    for (size_t i = 0; is_list && i < json->list.n; i++) {
        struct edit *child;
        anx_status st = edit_read_json(&json->list.items[i], names, arena, &child, err);

        if (st == ANX_OK && json->kind == JSON_OBJECT)
            st = names_add(names, json->list.items[i].key, &child->tag, err);
        if (st != ANX_OK)
            return st;
        edit_append(node, child);
    }
    return ANX_OK;
}

/* ---- Events ---- */

static anx_status
build_form(const struct edit *node, struct doc_builder *builder, anx_error *err)
{
    const struct value null = { .type = VALUE_NULL };
    anx_status st;

    if (node->form == VECTOR_NULL)
        return build_value(builder, &null, err);
    if (node->form != VECTOR_NONE)
        return build_vector(builder, node->floats, node->n_float, err);
    st = build_begin_array(builder, err);
    return st == ANX_OK ? build_end(builder, err) : st;
}

static anx_status
build_node(const struct edit *node, struct doc_builder *builder, anx_error *err)
{
    anx_status st;

    if (node->kind == DOC_VECTOR)
        return build_form(node, builder, err);
    if (node->kind == DOC_DOUBLE && node->is_float)
        return build_float(builder, (float) node->value.real, err);
    if (node->kind != DOC_ARRAY && node->kind != DOC_OBJECT)
        return build_value(builder, &node->value, err);
    st = node->kind == DOC_ARRAY ? build_begin_array(builder, err) : build_begin_object(builder, err);
    for (const struct edit *child = node->first; st == ANX_OK && child; child = child->next) {
        if (node->kind == DOC_OBJECT)
            build_tag(builder, child->tag);
        st = build_node(child, builder, err);
    }
    return st == ANX_OK ? build_end(builder, err) : st;
}

anx_status
edit_build(const struct edit *root, struct doc_builder *builder, anx_error *err)
{
    anx_status st = ANX_OK;

    for (const struct edit *child = root->first; st == ANX_OK && child; child = child->next) {
        build_tag(builder, child->tag);
        st = build_node(child, builder, err);
    }
    return st;
}

anx_status
edit_finish(const struct edit *root, struct doc_builder *builder, struct doc_draft *out, anx_error *err)
{
    anx_status st = edit_build(root, builder, err);

    return st == ANX_OK ? build_finish(builder, out, err) : st;
}

/* ---- Another shape ---- */

anx_status
doc_reshape(struct doc doc, const struct doc_shape *old_shape, const struct doc_vectors *old_vectors,
            struct doc_names *names, const struct doc_shape *shape, anx_arena *arena, struct doc_draft *out,
            anx_error *err)
{
    struct doc_builder *builder = build_create(NULL);
    struct edit *root = NULL;
    anx_status st;

    if (!builder)
        return out_of_memory(err);
    st = edit_read(doc, old_vectors, old_shape, arena, &root, err);
    if (st == ANX_OK)
        st = build_begin(builder, names, shape, arena, "cjson", err);
    if (st == ANX_OK)
        st = edit_finish(root, builder, out, err);
    build_destroy(builder);
    return st;
}
