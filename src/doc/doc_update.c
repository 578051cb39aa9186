/* What UPDATE does to a document: SET and DROP along paths, on the tree of the document, which is then built
 * anew under the shape. Error texts are those that clients know. */
#include <string.h>

#include "base/error.h"
#include "doc/doc_edit.h"
#include "doc/doc_int.h"

struct update {
    const struct doc_change *change;
    struct doc_path path; /* of the change, with every tag */
    const struct doc_field *field; /* whose path it is, NULL for a field without index */
    const struct edit *value;      /* what is set */
    struct doc_names *names;
    const struct doc_shape *shape;
    anx_arena *arena;
    anx_error *err;
};

static anx_status
out_of_memory(struct update *update)
{
    return anx_fail(update->err, ANX_E_NOMEM, "out of memory");
}

/* ---- Which field a path means ---- */

static bool
same_names(const struct doc_path *a, const struct doc_path *b)
{
    if (a->n != b->n)
        return false;
    for (uint32_t i = 0; i < a->n; i++)
        if (a->steps[i].tag != b->steps[i].tag)
            return false;
    return true;
}

/* A regular index decides when there is also a sparse one. */
static const struct doc_field *
field_of_path(const struct update *update)
{
    const struct doc_field *found = NULL;

    for (size_t i = 0; i < update->shape->n; i++) {
        const struct doc_field *field = &update->shape->fields[i];

        if (same_names(&field->path, &update->path) && (!found || found->is_sparse))
            found = field;
    }
    return found;
}

/* A path may also be written as the name of an index; brackets behind it stay. */
static anx_status
use_index_name(struct update *update)
{
    anx_text name = update->change->path_text;
    const char *bracket = name.size > 0 ? memchr(name.data, '[', name.size) : NULL;
    const struct doc_step last = update->path.steps[update->path.n - 1];
    const struct doc_field *found = NULL;

    if (bracket)
        name.size = (size_t) (bracket - name.data);
    for (size_t i = 0; i < update->shape->n; i++) {
        const struct doc_field *field = &update->shape->fields[i];

        if (!anx_text_equal_fold(field->index_name, name))
            continue;
        if (found)
            return anx_fail(update->err, ANX_E_PARAMS,
                            "Ambiguity when updating field with several json paths by index name: '%.*s'",
                            ANX_TEXT_ARG(name));
        found = field;
    }
    if (!found)
        return ANX_OK;
    update->field = found;
    update->path = found->path;
    update->path.steps[update->path.n - 1].kind = last.kind;
    update->path.steps[update->path.n - 1].at = last.at;
    return ANX_OK;
}

static anx_status
resolve(struct update *update)
{
    update->path = update->change->path;
    if (update->path.n == 0)
        return anx_fail(update->err, ANX_E_PARAMS, "Path '%.*s' is malformed",
                        ANX_TEXT_ARG(update->change->path_text));
    for (uint32_t i = 0; i < update->path.n; i++) {
        struct doc_step *step = &update->path.steps[i];

        step->tag = names_find(update->names, step->name);
    }
    update->field = field_of_path(update);
    return update->field ? ANX_OK : use_index_name(update);
}

static anx_status
add_names(struct update *update)
{
    anx_status st = ANX_OK;

    for (uint32_t i = 0; st == ANX_OK && i < update->path.n; i++) {
        struct doc_step *step = &update->path.steps[i];

        if (step->tag == 0)
            st = names_add(update->names, step->name, &step->tag, update->err);
    }
    return st;
}

static const struct doc_step *
last_step(const struct update *update)
{
    return &update->path.steps[update->path.n - 1];
}

/* ---- What is set ---- */

static anx_status
fail_null_element(struct update *update)
{
    return anx_fail(update->err, ANX_E_PARAMS, "Non-sparse indexes cannot contain null-values inside arrays");
}

/* A value of a query as the field's type, as a node. */
static anx_status
convert(struct update *update, const struct value *value, struct edit **out)
{
    const struct doc_field *field = update->field;
    struct value converted = *value;
    anx_status st = ANX_OK;

    if (field) {
        enum field_type type = field->type == FIELD_POINT ? FIELD_DOUBLE : field->type;

        st = value_convert(value, type, update->arena, &converted, update->err);
    }
    if (st != ANX_OK)
        return st;
    *out = edit_create_value(update->arena, &converted);
    return *out ? ANX_OK : out_of_memory(update);
}

static anx_status
make_array(struct update *update, const struct value *items, size_t n, struct edit **out)
{
    const struct doc_field *field = update->field;
    struct edit *array = edit_create(update->arena, DOC_ARRAY, 0);

    *out = array;
    if (!array)
        return out_of_memory(update);
    for (size_t i = 0; i < n; i++) {
        struct edit *child;
        anx_status st;

        if (field && !field->is_sparse && items[i].type == VALUE_NULL)
            return fail_null_element(update);
        st = convert(update, &items[i], &child);
        if (st != ANX_OK)
            return st;
        edit_append(array, child);
    }
    return ANX_OK;
}

/* One vector from numbers. */
static anx_status
make_vector(struct update *update, const struct value *items, size_t n, struct edit **out)
{
    uint32_t dim = update->field->dim;
    struct edit *node = edit_create(update->arena, DOC_VECTOR, 0);
    float *floats;

    *out = node;
    if (!node)
        return out_of_memory(update);
    node->form = VECTOR_EMPTY;
    if (n == 0)
        return ANX_OK;
    if (n != dim)
        return anx_fail(
            update->err, ANX_E_PARAMS,
            "It's not possible to Update float vector index of dimension %u with array of size %zu", dim, n);
    floats = anx_arena_array(update->arena, dim, sizeof(*floats));
    if (!floats)
        return out_of_memory(update);
    for (size_t i = 0; i < n; i++) {
        struct value number;
        anx_status st;

        if (items[i].type == VALUE_NULL)
            return fail_null_element(update);
        st = value_convert(&items[i], FIELD_DOUBLE, update->arena, &number, update->err);
        if (st != ANX_OK)
            return st;
        floats[i] = (float) number.real;
    }
    node->floats = floats;
    node->n_float = dim;
    return ANX_OK;
}

/* All vectors of an array field. */
static anx_status
make_vectors(struct update *update, struct edit **out)
{
    const struct doc_change *change = update->change;
    struct edit *node;
    anx_status st = ANX_OK;

    if (change->n == 0 || !change->is_array) {
        node = edit_create(update->arena, DOC_VECTOR, 0);
        *out = node;
        if (!node)
            return out_of_memory(update);
        node->form = VECTOR_NONE;
        if (change->n > 0 && change->values[0].type != VALUE_NULL)
            st = anx_fail(update->err, ANX_E_LOGIC,
                          "Array of vectors allowed for update array float vector index only");
        return st;
    }
    node = edit_create(update->arena, DOC_ARRAY, 0);
    *out = node;
    if (!node)
        return out_of_memory(update);
    for (size_t i = 0; st == ANX_OK && i < change->n; i++) {
        const struct value *item = &change->values[i];
        struct edit *vector = NULL;

        if (item->type != VALUE_TUPLE && item->type != VALUE_NULL)
            return anx_fail(update->err, ANX_E_LOGIC,
                            "Array of vectors allowed for update array float vector index only");
        st = item->type == VALUE_NULL ? make_vector(update, NULL, 0, &vector)
                                      : make_vector(update, item->tuple.items, item->tuple.n, &vector);
        if (st == ANX_OK)
            edit_append(node, vector);
    }
    return st;
}

/* For a component of a scalar vector: one number. */
static anx_status
make_component(struct update *update, struct edit **out)
{
    const struct doc_change *change = update->change;
    const char *what = change->is_array && change->n > 0 ? "array"
                       : change->n == 0                  ? "empty"
                                                         : "null";
    struct value number;
    anx_status st;

    if (change->is_array || change->n == 0 || change->values[0].type == VALUE_NULL)
        return anx_fail(update->err, ANX_E_LOGIC,
                        "It's not possible to update float_vector element with %s vlaue", what);
    st = value_convert(&change->values[0], FIELD_DOUBLE, update->arena, &number, update->err);
    if (st != ANX_OK)
        return st;
    *out = edit_create_value(update->arena, &number);
    return *out ? ANX_OK : out_of_memory(update);
}

static anx_status
make_for_vector(struct update *update, struct edit **out)
{
    const struct doc_change *change = update->change;
    bool is_null = change->n == 0 || (!change->is_array && change->values[0].type == VALUE_NULL);

    if (last_step(update)->kind == STEP_ALL || last_step(update)->kind == STEP_POSITION)
        return anx_fail(update->err, ANX_E_PARAMS, "Cannot update several values of float vector index");
    if (last_step(update)->kind == STEP_AT && !update->field->is_array)
        return make_component(update, out);
    if (last_step(update)->kind == STEP_PLAIN && update->field->is_array)
        return make_vectors(update, out);
    return make_vector(update, change->values, is_null ? 0 : change->n, out);
}

/* For a field with an index that is no vector's. */
static anx_status
make_for_index(struct update *update, struct edit **out)
{
    const struct doc_change *change = update->change;
    const struct doc_field *field = update->field;
    bool is_element = last_step(update)->kind != STEP_PLAIN;
    bool is_list = field->is_array || field->type == FIELD_POINT;
    bool is_null = !change->is_array && (change->n == 0 || change->values[0].type == VALUE_NULL);

    if (is_element && !is_list)
        return anx_fail(update->err, ANX_E_PARAMS, "Can't Update non-array index fields using array index");
    if (change->is_array && (!is_list || is_element))
        return anx_fail(update->err, ANX_E_PARAMS,
                        "It's not possible to Update single index fields with arrays!");
    if (is_null && !is_list)
        return anx_fail(update->err, ANX_E_PARAMS, "Non-array index fields cannot be set to null!");
    if (is_null && is_element && !field->is_sparse)
        return fail_null_element(update);
    if (is_null && !is_element)
        return make_array(update, NULL, 0, out); /* emptied */
    if (change->is_array)
        return make_array(update, change->values, change->n, out);
    return convert(update, change->n > 0 ? &change->values[0] : &(struct value) { .type = VALUE_NULL }, out);
}

static struct edit *
create_vector(anx_arena *arena, const float *floats, uint32_t dim)
{
    struct edit *node = edit_create(arena, DOC_VECTOR, 0);

    if (node) {
        node->form = VECTOR_EMPTY;
        node->floats = floats;
        node->n_float = floats ? dim : 0;
    }
    return node;
}

/* Vectors that are there already, of a vector field. */
static anx_status
make_from_vectors(struct update *update, struct edit **out)
{
    const struct doc_vectors *vectors = update->change->vectors;

    if (!update->field || update->field->type != FIELD_FLOAT_VECTOR || last_step(update)->kind != STEP_PLAIN)
        return anx_fail(update->err, ANX_E_INTERNAL, "vectors for a field without vectors");
    if (!update->field->is_array || vectors->n == 0) {
        *out = create_vector(update->arena, vectors->n > 0 ? vectors->floats : NULL, vectors->dim);
        if (*out && update->field->is_array)
            (*out)->form = VECTOR_NONE;
        return *out ? ANX_OK : out_of_memory(update);
    }
    *out = edit_create(update->arena, DOC_ARRAY, 0);
    for (uint32_t i = 0; *out && i < vectors->n; i++) {
        struct edit *vector =
            create_vector(update->arena, vectors->floats + (size_t) i * vectors->dim, vectors->dim);

        if (!vector)
            return out_of_memory(update);
        edit_append(*out, vector);
    }
    return *out ? ANX_OK : out_of_memory(update);
}

static anx_status
make_json(struct update *update, struct edit **out)
{
    struct json_node *json;
    anx_status st = json_parse(update->change->json, update->arena, &json, update->err);

    return st == ANX_OK ? edit_read_json(json, update->names, update->arena, out, update->err) : st;
}

static anx_status
make_value(struct update *update, struct edit **out)
{
    const struct doc_change *change = update->change;
    const struct value null = { .type = VALUE_NULL };

    *out = NULL;
    if (change->form == CHANGE_JSON)
        return make_json(update, out);
    if (change->form == CHANGE_VECTORS)
        return make_from_vectors(update, out);
    if (update->field && update->field->type == FIELD_FLOAT_VECTOR)
        return make_for_vector(update, out);
    if (update->field)
        return make_for_index(update, out);
    if (change->is_array)
        return make_array(update, change->values, change->n, out);
    return convert(update, change->n > 0 ? &change->values[0] : &null, out);
}

/* ---- Where it is set ---- */

static anx_status
fail_position(struct update *update, const struct doc_step *step)
{
    return anx_fail(update->err, ANX_E_PARAMS, "Requested array's index was not found: [%u]", step->at);
}

/* A copy of what is set, in the place of a node. Several places may be set, so each gets its own nodes. */
static struct edit *
copy_tree(struct update *update, const struct edit *from)
{
    struct edit *copy = edit_create(update->arena, from->kind, from->tag);

    if (!copy)
        return NULL;
    *copy = *from;
    copy->first = copy->last = copy->next = NULL;
    for (const struct edit *child = from->first; child; child = child->next) {
        struct edit *below = copy_tree(update, child);

        if (!below)
            return NULL;
        edit_append(copy, below);
    }
    return copy;
}

static anx_status
set_node(struct update *update, struct edit *node)
{
    struct edit *copy = copy_tree(update, update->value);

    if (!copy)
        return out_of_memory(update);
    edit_replace(node, copy);
    return ANX_OK;
}

/* vec[i] = number */
static anx_status
set_component(struct update *update, struct edit *vector, const struct doc_step *step)
{
    float *floats;

    if (step->at >= vector->n_float)
        return fail_position(update, step);
    floats = anx_arena_bytes(update->arena, vector->n_float * sizeof(*floats));
    if (!floats)
        return out_of_memory(update);
    memcpy(floats, vector->floats, vector->n_float * sizeof(*floats));
    floats[step->at] = (float) update->value->value.real;
    vector->floats = floats;
    return ANX_OK;
}

static anx_status set_below(struct update *update, struct edit *node, uint32_t step);

/* node is what the steps before `step` lead to. */
static anx_status
set_or_descend(struct update *update, struct edit *node, uint32_t step)
{
    return step == update->path.n ? set_node(update, node) : set_below(update, node, step);
}

static anx_status
set_elements(struct update *update, struct edit *array, uint32_t step)
{
    anx_status st = ANX_OK;

    for (struct edit *child = array->first; st == ANX_OK && child; child = child->next)
        st = set_or_descend(update, child, step);
    return st;
}

/* name[n] */
static anx_status
set_at(struct update *update, struct edit *member, uint32_t step)
{
    const struct doc_step *at = &update->path.steps[step];
    bool is_last = step + 1 == update->path.n;
    struct edit *element;

    if (member->kind == DOC_VECTOR && is_last && update->field && !update->field->is_array)
        return set_component(update, member, at);
    if (member->kind == DOC_VECTOR && is_last && member->n_float > 0 && at->at == 0)
        return set_node(update, member); /* the one vector of an array field, written without the array */
    element = member->kind == DOC_ARRAY ? edit_element(member, at->at) : NULL;
    return element ? set_or_descend(update, element, step + 1) : fail_position(update, at);
}

/* A member that is not there: made, when the path leaves no doubt where. */
static anx_status
set_missing(struct update *update, struct edit *object, uint32_t step)
{
    const struct doc_step *at = &update->path.steps[step];
    struct edit *member;

    if (at->kind == STEP_AT)
        return fail_position(update, at);
    if (at->kind != STEP_PLAIN)
        return ANX_OK; /* every element of nothing */
    member = edit_create(update->arena, DOC_OBJECT, at->tag);
    if (!member)
        return out_of_memory(update);
    edit_append(object, member);
    return set_or_descend(update, member, step + 1);
}

static anx_status
set_below(struct update *update, struct edit *node, uint32_t step)
{
    const struct doc_step *at = &update->path.steps[step];
    struct edit *member;

    if (node->kind == DOC_ARRAY)
        return set_elements(update, node, step);
    if (node->kind == DOC_NULL)
        node->kind = DOC_OBJECT;
    if (node->kind != DOC_OBJECT)
        return anx_fail(update->err, ANX_E_PARAMS,
                        "Unable to set '%.*s': a part of the path is not an object",
                        ANX_TEXT_ARG(update->change->path_text));
    member = edit_member(node, at->tag);
    if (!member)
        return set_missing(update, node, step);
    if (at->kind == STEP_AT)
        return set_at(update, member, step);
    if (at->kind == STEP_PLAIN)
        return set_or_descend(update, member, step + 1);
    return member->kind == DOC_ARRAY ? set_elements(update, member, step + 1) : ANX_OK;
}

/* ---- DROP ---- */

static void drop_below(const struct update *update, struct edit *node, uint32_t step);

static void
drop_elements(const struct update *update, struct edit *array, uint32_t step)
{
    for (struct edit *child = array->first; child; child = child->next)
        drop_below(update, child, step);
}

static void
drop_member(const struct update *update, struct edit *object, struct edit *member, uint32_t step)
{
    const struct doc_step *at = &update->path.steps[step];
    bool is_last = step + 1 == update->path.n;
    struct edit *element;

    if (at->kind == STEP_PLAIN) {
        if (is_last)
            edit_remove(object, member);
        else
            drop_below(update, member, step + 1);
    } else if (member->kind == DOC_ARRAY && at->kind == STEP_AT) {
        element = edit_element(member, at->at);
        if (element && is_last)
            edit_remove(member, element);
        else if (element)
            drop_below(update, element, step + 1);
    } else if (member->kind == DOC_ARRAY && is_last) {
        member->first = member->last = NULL;
    } else if (member->kind == DOC_ARRAY) {
        drop_elements(update, member, step + 1);
    }
}

static void
drop_below(const struct update *update, struct edit *node, uint32_t step)
{
    uint32_t tag = update->path.steps[step].tag;

    if (node->kind == DOC_ARRAY)
        drop_elements(update, node, step);
    if (node->kind != DOC_OBJECT || tag == 0)
        return;
    for (struct edit *member = node->first, *next; member; member = next) { /* also repeated names */
        next = member->next;
        if (member->tag == tag)
            drop_member(update, node, member, step);
    }
}

/* ---- All changes ---- */

static anx_status
apply(struct update *update, struct edit *root)
{
    struct edit *value;
    anx_status st = resolve(update);

    if (st != ANX_OK)
        return st;
    if (update->change->kind == CHANGE_DROP) {
        if (update->field && !update->field->is_sparse)
            return anx_fail(update->err, ANX_E_LOGIC,
                            "It's only possible to drop sparse or non-index fields via UPDATE statement!");
        drop_below(update, root, 0);
        return ANX_OK;
    }
    st = make_value(update, &value);
    if (st == ANX_OK)
        st = add_names(update);
    if (st != ANX_OK)
        return st;
    update->value = value;
    return set_below(update, root, 0);
}

anx_status
doc_update(struct doc doc, const struct doc_vectors *vectors, const struct doc_change *changes, size_t n,
           struct doc_names *names, const struct doc_shape *shape, anx_arena *arena, struct doc_draft *out,
           anx_error *err)
{
    struct doc_builder *builder = build_create(NULL);
    struct update update = { .names = names, .shape = shape, .arena = arena, .err = err };
    struct edit *root = NULL;
    anx_status st;

    if (!builder)
        return out_of_memory(&update);
    st = edit_read(doc, vectors, shape, arena, &root, err);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        update.change = &changes[i];
        st = apply(&update, root);
    }
    if (st == ANX_OK)
        st = build_begin(builder, names, shape, arena, "json", err);
    builder->converts = true;
    if (st == ANX_OK)
        st = edit_finish(root, builder, out, err);
    build_destroy(builder);
    return st;
}
