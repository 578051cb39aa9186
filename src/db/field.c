/* Names in queries: an index by its name or JSON path, or a path into documents. */
#include "base/error.h"
#include "db/exec_int.h"

enum { FIRST_VALUES = 8 };

anx_status
value_list_push(struct exec *x, struct value_list *list, const struct value *value)
{
    if (list->n == list->capacity) {
        size_t capacity = list->capacity ? list->capacity * 2 : FIRST_VALUES;
        struct value *items = anx_arena_array(x->arena, capacity, sizeof(*items));

        if (!items)
            return exec_nomem(x);
        if (list->n > 0)
            memcpy(items, list->items, list->n * sizeof(*items));
        list->items = items;
        list->capacity = capacity;
    }
    list->items[list->n++] = *value;
    return ANX_OK;
}

/* ---- Binding ---- */

static enum query_strict
strict_mode(const struct ns *ns, enum query_strict asked)
{
    if (asked == STRICT_DEFAULT)
        asked = (enum query_strict) atomic_load_explicit(&ns->strict_mode, memory_order_relaxed);
    return asked == STRICT_DEFAULT ? STRICT_NAMES : asked;
}

static anx_status
fail_strict(struct exec *x, const struct space *space, anx_text name, enum field_use use, bool wants_index)
{
    static const char *const uses[][2] = {
        [FIELD_USE_FILTER] = { "filtering by existing fields", "filtering by indexes" },
        [FIELD_USE_SORT] = { "sort by existing fields", "sort by index fields" },
        [FIELD_USE_AGGREGATE] = { "aggregate existing fields", "aggregate index fields" },
    };

    return anx_fail(x->err, ANX_E_STRICT,
                    "Current query strict mode allows %s only. There are no %s with name '%.*s' in namespace "
                    "'%.*s'",
                    uses[use][wants_index], wants_index ? "indexes" : "fields", ANX_TEXT_ARG(name),
                    ANX_TEXT_ARG(space->name));
}

static anx_status
bind_index_paths(struct exec *x, struct field *out)
{
    size_t n = out->index->def->field_type == FIELD_COMPOSITE ? 0 : out->index->def->n_path;
    const struct doc_path **paths = anx_arena_array(x->arena, n + 1, sizeof(const struct doc_path *));

    if (!paths)
        return exec_nomem(x);
    for (size_t i = 0; i < n; i++)
        paths[i] = &out->ns->shape.fields[out->index->first_field + i].path;
    out->paths = paths;
    out->n_path = n;
    return ANX_OK;
}

static anx_status
bind_path(struct exec *x, const struct space *space, enum query_strict strict, enum field_use use,
          struct field *out)
{
    const struct doc_path **paths = anx_arena_array(x->arena, 1, sizeof(const struct doc_path *));
    struct doc_path *path = anx_arena_bytes(x->arena, sizeof(*path));
    anx_status st;

    if (!path || !paths)
        return exec_nomem(x);
    st = doc_path_parse(out->name, space->ns->names, path, x->err);
    if (st != ANX_OK)
        return st;
    paths[0] = path;
    out->paths = paths;
    out->n_path = 1;
    out->kind = FIELD_IS_DOCUMENT;
    if (doc_path_is_known(path))
        return ANX_OK;
    if (strict == STRICT_NAMES)
        return fail_strict(x, space, out->name, use, false);
    out->kind = FIELD_IS_UNKNOWN;
    return ANX_OK;
}

anx_status
field_bind(struct exec *x, const struct space *space, enum query_strict strict, anx_text name,
           enum field_use use, struct field *out)
{
    *out = (struct field) { .name = name, .ns = space->ns, .index = ns_index_of_query(space->ns, name) };
    strict = strict_mode(space->ns, strict);
    if (!out->index)
        return strict == STRICT_INDEXES ? fail_strict(x, space, name, use, true)
                                        : bind_path(x, space, strict, use, out);
    out->name = out->index->def->name;
    if (out->index->vector)
        out->kind = FIELD_IS_VECTOR;
    else
        out->kind = out->index->scalar ? FIELD_IS_SCALAR : FIELD_IS_DOCUMENT;
    return out->kind == FIELD_IS_DOCUMENT ? bind_index_paths(x, out) : ANX_OK;
}

bool
field_is_array(const struct field *field)
{
    return field->index && field->index->def->is_array;
}

bool
field_is_composite(const struct field *field)
{
    return field->index && field->index->def->field_type == FIELD_COMPOSITE;
}

const struct collation *
field_collation(const struct field *field)
{
    return field->index ? &field->index->collation : NULL;
}

/* ---- Values of a row ---- */

struct collecting {
    struct exec *x;
    struct field *field;
};

static bool
collect(void *context, const struct doc_node *node, const uint32_t *positions, size_t n)
{
    struct collecting *c = context;
    anx_status st = ANX_OK;

    (void) positions;
    (void) n;
    c->field->n_null += node->kind == DOC_NULL;
    if (node->kind >= DOC_BOOL && node->kind <= DOC_UUID)
        st = value_list_push(c->x, &c->field->list, &node->value);
    exec_latch(c->x, st);
    return st == ANX_OK;
}

static void
visit_paths(struct exec *x, struct field *field, uint32_t row)
{
    struct collecting c = { x, field };
    struct doc doc = rows_get(field->ns->rows, row);

    field->list.n = field->n_null = field->n_visited = 0;
    for (size_t i = 0; doc.bytes && field->paths && i < field->n_path; i++)
        field->n_visited += doc_visit(doc, field->paths[i], false, collect, &c);
}

struct values
field_values(struct exec *x, struct field *field, uint32_t row)
{
    switch (field->kind) {
    case FIELD_IS_SCALAR:
        return scalar_values(field->index->scalar, row, &field->one);
    case FIELD_IS_DOCUMENT:
        visit_paths(x, field, row);
        return (struct values) { field->list.items, field->list.n };
    case FIELD_IS_UNKNOWN:
    case FIELD_IS_VECTOR:
        break;
    }
    return (struct values) { NULL, 0 };
}

bool
field_is_null(struct exec *x, struct field *field, uint32_t row)
{
    if (field->kind == FIELD_IS_SCALAR)
        return field_values(x, field, row).n == 0;
    if (field->kind != FIELD_IS_DOCUMENT)
        return true;
    visit_paths(x, field, row);
    return field->n_visited == 0 || field->n_null > 0;
}

/* The document knows what an index does not: whether a field with a default value is there at all. */
size_t
field_length(struct exec *x, struct field *field, uint32_t row)
{
    if (!field->paths && field->index) {
        anx_status st = bind_index_paths(x, field);

        if (st != ANX_OK) {
            exec_latch(x, st);
            return 0;
        }
    }
    visit_paths(x, field, row);
    if (field->index && field->index->def->is_array)
        return field->n_visited - field->n_null; /* null in the place of the array: it has no elements */
    return field->n_visited;
}

/* ---- Conversions ---- */

static anx_status
convert_tuple(struct exec *x, const struct field *field, const struct value *in, struct value *out)
{
    const struct index_def *def = field->index->def;
    size_t n = in->type == VALUE_TUPLE ? in->tuple.n : 1;
    struct value *items;
    anx_status st = ANX_OK;

    if (in->type != VALUE_TUPLE || n != def->n_path)
        return anx_fail(x->err, ANX_E_PARAMS,
                        "Invalid count of arguments for composite index, expected %zu, got %zu", def->n_path,
                        n);
    items = anx_arena_array(x->arena, n, sizeof(*items));
    if (!items)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        const struct ns_index *part = ns_index_find(field->ns, def->json_paths[i]);

        items[i] = in->tuple.items[i];
        if (part)
            st = value_convert(&in->tuple.items[i], part->def->field_type, x->arena, &items[i], x->err);
    }
    *out = (struct value) { .type = VALUE_TUPLE, .tuple = { items, n } };
    return st;
}

anx_status
field_convert(struct exec *x, const struct field *field, const struct value *in, struct value *out)
{
    *out = *in;
    if (field->kind != FIELD_IS_SCALAR || in->type == VALUE_NULL)
        return ANX_OK;
    if (field_is_composite(field))
        return convert_tuple(x, field, in, out);
    return value_convert(in, field->index->def->field_type, x->arena, out, x->err);
}

anx_status
value_number(struct exec *x, const struct value *value, double *out)
{
    struct value number = { .type = VALUE_DOUBLE };
    anx_status st = value_convert(value, FIELD_DOUBLE, x->arena, &number, x->err);

    *out = number.real;
    return st;
}
