/* Does a row satisfy the conditions? */
#include "base/error.h"
#include "db/exec_int.h"

/* ---- Values in documents ---- */

struct looking {
    const struct where_node *node;
    bool is_found, has_null;
};

static bool
look(void *context, const struct doc_node *doc_node, const uint32_t *positions, size_t n)
{
    struct looking *l = context;

    (void) positions;
    (void) n;
    l->has_null |= doc_node->kind == DOC_NULL;
    if (doc_node->kind >= DOC_BOOL && doc_node->kind <= DOC_UUID)
        l->is_found = condition_holds(l->node->condition, &doc_node->value, &l->node->operand, NULL);
    return !l->is_found;
}

/* Stops at the first value that holds, and collects nothing. */
static bool
match_values(struct exec *x, const struct where_node *node, uint32_t row)
{
    struct looking l = { .node = node };
    struct doc doc = rows_get(node->field->ns->rows, row);
    size_t n_visited = 0;

    if (node->condition == COND_EMPTY)
        return field_is_null(x, node->field, row);
    if (node->condition == COND_ANY)
        return !field_is_null(x, node->field, row);
    if (node->condition == COND_ALLSET)
        return condition_holds_any(COND_ALLSET, field_values(x, node->field, row), &node->operand, NULL);
    for (size_t i = 0; doc.bytes && !l.is_found && i < node->field->n_path; i++)
        n_visited += doc_visit(doc, node->field->paths[i], false, look, &l);
    return l.is_found || (node->operand.has_null && (n_visited == 0 || l.has_null));
}

/* Any pair of values; ALLSET and RANGE see the right side as a whole. */
static bool
match_fields(struct exec *x, const struct where_node *node, uint32_t row)
{
    struct values left = field_values(x, node->field, row);
    struct operand right = { .values = field_values(x, node->right, row) };
    const struct collation *collation = field_collation(node->field);

    if (node->condition == COND_ANY || node->condition == COND_EMPTY)
        return (left.n > 0) == (node->condition == COND_ANY);
    return condition_holds_any(node->condition, left, &right, collation);
}

static bool
match_length(struct exec *x, const struct where_node *node, uint32_t row)
{
    struct value length = { .type = VALUE_INT, .integer = (int64_t) field_length(x, node->field, row) };

    return condition_holds(node->condition, &length, &node->operand, NULL);
}

static bool
read_number(const struct value *value, double *out)
{
    *out = value->type == VALUE_INT ? (double) value->integer : value->real;
    return value->type == VALUE_INT || value->type == VALUE_DOUBLE;
}

static bool
match_point(struct exec *x, const struct where_node *node, uint32_t row)
{
    struct values point = field_values(x, node->field, row);
    const struct value *circle = node->operand.values.items;
    double x1, y1, x2, y2, distance;

    if (point.n != 2 || !read_number(&point.items[0], &x1) || !read_number(&point.items[1], &y1))
        return false;
    if (!read_number(&circle[0], &x2) || !read_number(&circle[1], &y2) || !read_number(&circle[2], &distance))
        return false;
    return distance >= 0 && (x1 - x2) * (x1 - x2) + (y1 - y2) * (y1 - y2) <= distance * distance;
}

/* ---- equal_position ---- */

/* A place is the number of the value among those its path reaches, or, with [#] in the path, the positions at
 * these levels. */
struct placing {
    struct exec *x;
    const struct where_node *node;
    const struct doc_path *path;
    uint64_t ordinal;
    struct places *out;
};

static void
add_place(struct exec *x, struct places *places, uint64_t place)
{
    if (places->n > 0 && places->items[places->n - 1] == place)
        return;
    if (places->n == places->capacity) {
        size_t capacity = places->capacity ? places->capacity * 2 : 8;
        uint64_t *items = anx_arena_array(x->arena, capacity, sizeof(*items));

        if (!items) {
            exec_latch(x, exec_nomem(x));
            return;
        }
        if (places->n > 0)
            memcpy(items, places->items, places->n * sizeof(*items));
        places->items = items;
        places->capacity = capacity;
    }
    places->items[places->n++] = place;
}

static bool
place(void *context, const struct doc_node *doc_node, const uint32_t *positions, size_t n)
{
    struct placing *p = context;
    uint64_t key = 0;
    size_t level = 0;
    bool is_marked = false;

    for (uint32_t i = 0; i < p->path->n; i++) {
        if (p->path->steps[i].kind == STEP_POSITION && level < n) {
            key = key << 32 | positions[level];
            is_marked = true;
        }
        level += p->path->steps[i].kind == STEP_POSITION || p->path->steps[i].kind == STEP_ALL;
    }
    if (!is_marked)
        key = p->ordinal;
    p->ordinal++;
    if (doc_node->kind >= DOC_BOOL && doc_node->kind <= DOC_UUID) {
        const struct where_node *node = p->node;
        bool holds = node->condition == COND_ANY ||
                     condition_holds(node->condition, &doc_node->value, &node->operand,
                                     field_collation(node->field));

        if (holds)
            add_place(p->x, p->out, key);
    }
    return p->x->status == ANX_OK;
}

static void
find_places(struct exec *x, const struct where_node *node, struct doc doc, struct places *out)
{
    struct placing p = { .x = x, .node = node, .out = out };

    out->n = 0;
    for (size_t i = 0; doc.bytes && i < node->field->n_path; i++) {
        p.path = node->field->paths[i];
        doc_visit(doc, p.path, false, place, &p);
    }
}

static void
intersect(struct places *a, const struct places *b)
{
    size_t n = 0, j = 0;

    for (size_t i = 0; i < a->n; i++) {
        while (j < b->n && b->items[j] < a->items[i])
            j++;
        if (j < b->n && b->items[j] == a->items[i])
            a->items[n++] = a->items[i];
    }
    a->n = n;
}

static bool
match_positions(struct exec *x, const struct where_node *node, uint32_t row)
{
    struct where_node *terms = node->list.nodes;
    struct doc doc = rows_get(terms[0].field->ns->rows, row);

    for (size_t i = 0; i < node->list.n; i++) {
        find_places(x, &terms[i], doc, &terms[i].places);
        if (i > 0)
            intersect(&terms[i].places, &terms[i - 1].places);
        if (terms[i].places.n == 0)
            return false;
    }
    return x->status == ANX_OK;
}

/* ---- Trees ---- */

static bool match_list(struct exec *x, const struct where_list *list, uint32_t row);

static bool
match_kind(struct exec *x, const struct where_node *node, uint32_t row)
{
    switch (node->kind) {
    case WHERE_CONSTANT:
        return node->is_constant_true;
    case WHERE_INDEX:
        return scalar_match(node->field->index->scalar, row, node->condition, &node->operand.values);
    case WHERE_VALUES:
        return match_values(x, node, row);
    case WHERE_FIELDS:
        return match_fields(x, node, row);
    case WHERE_LENGTH:
        return match_length(x, node, row);
    case WHERE_BITMAP:
        return roaring_bitmap_contains(node->bitmap, row);
    case WHERE_POINT:
        return match_point(x, node, row);
    case WHERE_POSITIONS:
        return match_positions(x, node, row);
    case WHERE_KNN:
        return true;
    case WHERE_BRACKET:
        return match_list(x, &node->list, row);
    case WHERE_JOIN:
        return join_exists(x, node->join, row);
    }
    return false;
}

bool
where_holds(struct exec *x, const struct where_node *node, uint32_t row)
{
    return match_kind(x, node, row) != node->is_negated;
}

static bool
match_list(struct exec *x, const struct where_list *list, uint32_t row)
{
    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_group *group = &list->groups[i];
        bool is_true = group->is_settled;

        for (size_t j = group->first; !is_true && j < group->first + group->n; j++)
            is_true = where_holds(x, &list->nodes[j], row);
        if (!is_true)
            return false;
    }
    return true;
}

bool
where_match(struct exec *x, const struct where_list *list, uint32_t row)
{
    return match_list(x, list, row) && x->status == ANX_OK;
}

/* ---- Joins of a matching row ----
 *
 * A join in a group of OR is attached when it has a match, whatever the other terms say. In a bracket the
 * terms are asked in order, and what stands behind a false group is not reached. */

static bool attach_list(struct exec *x, const struct where_list *list, uint32_t row);

static bool
attach_node(struct exec *x, const struct where_node *node, uint32_t row)
{
    bool is_true;

    if (node->kind == WHERE_BRACKET && node->has_join)
        return attach_list(x, &node->list, row) != node->is_negated;
    is_true = match_kind(x, node, row);
    if (node->kind == WHERE_JOIN && is_true && !node->is_negated)
        node->join->is_attached = true;
    return is_true != node->is_negated;
}

static bool
attach_list(struct exec *x, const struct where_list *list, uint32_t row)
{
    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_group *group = &list->groups[i];
        bool is_true = false;

        for (size_t j = group->first; j < group->first + group->n; j++)
            if (!is_true || list->nodes[j].has_join)
                is_true |= attach_node(x, &list->nodes[j], row);
        if (!is_true)
            return false;
    }
    return true;
}

void
where_attach(struct exec *x, const struct where_list *list, uint32_t row)
{
    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_group *group = &list->groups[i];

        for (size_t j = group->first; group->has_join && j < group->first + group->n; j++)
            if (list->nodes[j].has_join)
                attach_node(x, &list->nodes[j], row);
    }
}
