/* ORDER BY, compiled to keys: fields, expressions, forced orders; and the value of a row under a key. */
#include <math.h>

#include "base/clock.h"
#include "base/error.h"
#include "db/sort_int.h"

struct compiling {
    struct exec *x;
    struct part *part;
    struct sort *sort;
    const struct query_order *order;
};

/* ---- Fields ---- */

static anx_status
check_sort_field(struct exec *x, const struct field *field)
{
    if (field->kind == FIELD_IS_VECTOR)
        return anx_fail(x->err, ANX_E_QUERY, "Ordering by float vector index is not allowed: '%.*s'",
                        ANX_TEXT_ARG(field->name));
    return ANX_OK;
}

static anx_status
bind_sort_field(struct exec *x, const struct part *part, anx_text name, struct field *out)
{
    anx_status st = field_bind(x, part->space, part->strict, name, FIELD_USE_SORT, out);

    return st == ANX_OK ? check_sort_field(x, out) : st;
}

/* ---- Expressions ---- */

static anx_status
bind_rank(struct exec *x, const struct part *part, const struct expression *e)
{
    struct field field;
    anx_status st;

    if (e->text.size == 0) {
        if (part_is_ranked(part))
            return ANX_OK;
        return anx_fail(
            x->err, ANX_E_QUERY,
            "Sorting by rank() is only available for query with single fulltext or knn condition");
    }
    st = field_bind(x, part->space, part->strict, e->text, FIELD_USE_SORT, &field);
    if (st != ANX_OK)
        return st;
    if (field.kind != FIELD_IS_VECTOR && !(field.index && field.index->def->index_type == INDEX_TEXT))
        return anx_fail(x->err, ANX_E_QUERY,
                        "Ordering by rank allowed by fulltext or float vector index only: '%.*s'",
                        ANX_TEXT_ARG(e->text));
    if (!field.index || (field.index != part->knn.index && field.index != part->text.index))
        return anx_fail(x->err, ANX_E_QUERY, "Rank by not used in query fulltext of vector index '%.*s'",
                        ANX_TEXT_ARG(e->text));
    return ANX_OK;
}

static anx_status
bind_field(struct exec *x, struct part *part, const struct expression *e, struct bound *out)
{
    out->kind = BOUND_FIELD;
    if (e->ns.size == 0)
        return bind_sort_field(x, part, e->text, &out->field);
    out->kind = BOUND_JOINED;
    out->join = join_find(part, e->ns);
    if (!out->join)
        return anx_fail(x->err, ANX_E_QUERY, "Namespace '%.*s' is not joined", ANX_TEXT_ARG(e->ns));
    return bind_sort_field(x, out->join->right, e->text, &out->field);
}

static anx_status bind(struct exec *x, struct part *part, const struct expression *e, int depth,
                       struct bound **out);

static anx_status
bind_operands(struct exec *x, struct part *part, const struct expression *e, int depth, enum bound_kind kind,
              struct bound *out)
{
    anx_status st = ANX_OK;

    out->kind = kind;
    if (e->left)
        st = bind(x, part, e->left, depth + 1, &out->left);
    if (st == ANX_OK && e->right)
        st = bind(x, part, e->right, depth + 1, &out->right);
    return st;
}

static anx_status
bind_kind(struct exec *x, struct part *part, const struct expression *e, int depth, struct bound *out)
{
    switch (e->kind) {
    case EXPR_NUMBER:
        out->kind = BOUND_NUMBER;
        out->number = e->number;
        return ANX_OK;
    case EXPR_FIELD:
        return bind_field(x, part, e, out);
    case EXPR_RANK:
        out->kind = BOUND_RANK;
        return bind_rank(x, part, e);
    case EXPR_HASH:
        out->kind = BOUND_HASH;
        out->seed = e->has_seed ? (uint64_t) e->integer : anx_clock_ns();
        return ANX_OK;
    case EXPR_POINT:
        out->kind = BOUND_POINT;
        out->x = e->x;
        out->y = e->y;
        return ANX_OK;
    case EXPR_NEGATE:
        return bind_operands(x, part, e, depth, BOUND_NEGATE, out);
    case EXPR_ABS:
        return bind_operands(x, part, e, depth, BOUND_ABS, out);
    case EXPR_ADD:
        return bind_operands(x, part, e, depth, BOUND_ADD, out);
    case EXPR_SUBTRACT:
        return bind_operands(x, part, e, depth, BOUND_SUBTRACT, out);
    case EXPR_MULTIPLY:
        return bind_operands(x, part, e, depth, BOUND_MULTIPLY, out);
    case EXPR_DIVIDE:
        return bind_operands(x, part, e, depth, BOUND_DIVIDE, out);
    case EXPR_DISTANCE:
        return bind_operands(x, part, e, depth, BOUND_DISTANCE, out);
    case EXPR_RRF:
        return anx_fail(x->err, ANX_E_QUERY,
                        "Reciprocal rank fusion (RRF) is allowed in hybrid queries only");
    default:
        return anx_fail(x->err, ANX_E_PARAMS, "Sort expression has a part that is only known in UPDATE");
    }
}

static anx_status
bind(struct exec *x, struct part *part, const struct expression *e, int depth, struct bound **out)
{
    if (depth > QUERY_DEPTH_MAX)
        return anx_fail(x->err, ANX_E_PARAMS, "sort expression is nested deeper than %d levels",
                        QUERY_DEPTH_MAX);
    *out = anx_arena_array(x->arena, 1, sizeof(**out));
    return *out ? bind_kind(x, part, e, depth, *out) : exec_nomem(x);
}

/* ---- Keys ---- */

static bool
is_same_field(const struct bound *a, const struct bound *b)
{
    if (a->kind != b->kind || a->join != b->join)
        return false;
    if (a->field.index || b->field.index)
        return a->field.index == b->field.index;
    return anx_text_equal(a->field.name, b->field.name);
}

static anx_status
check_new(const struct compiling *c, const struct bound *bound)
{
    for (size_t i = 0; i < c->sort->n_key; i++)
        if (!c->sort->keys[i].is_number && is_same_field(c->sort->keys[i].bound, bound))
            return anx_fail(c->x->err, ANX_E_QUERY, "You cannot sort by the same indexes twice: %.*s",
                            ANX_TEXT_ARG(bound->field.name));
    return ANX_OK;
}

static anx_status
check_forced(struct exec *x, const struct field *field, struct values values)
{
    if (field_is_array(field))
        return anx_fail(x->err, ANX_E_QUERY, "Forced sort can't be applied to a field of array type");
    for (size_t i = 0; i < values.n; i++)
        if (values.items[i].type == VALUE_NULL)
            return anx_fail(x->err, ANX_E_PARAMS, "Null-values are not supported in forced sorting");
    return ANX_OK;
}

static anx_status
bind_forced(struct exec *x, struct sort_key *key, struct values forced)
{
    struct value *items = anx_arena_array(x->arena, forced.n, sizeof(*items));
    bool is_comparable;
    anx_status st = check_forced(x, &key->bound->field, forced);

    if (!items)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < forced.n; i++) {
        st = field_convert(x, &key->bound->field, &forced.items[i], &items[i]);
        for (size_t j = 0; st == ANX_OK && j < i; j++)
            if (value_compare(&items[i], &items[j], key->collation, &is_comparable) == 0 && is_comparable)
                st = anx_fail(x->err, ANX_E_QUERY, "The same value is listed twice in forced sorting");
    }
    key->forced = (struct operand) { .values = { items, forced.n } };
    key->has_forced = true;
    return st;
}

/* A composite index orders by its components, each with its own collation. */
static anx_status
add_components(struct compiling *c, const struct bound *bound)
{
    const struct index_def *def = bound->field.index->def;
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < def->n_path; i++) {
        struct sort_key *key = &c->sort->keys[c->sort->n_key];
        struct bound *component = anx_arena_array(c->x->arena, 1, sizeof(*component));

        if (!component)
            return exec_nomem(c->x);
        component->kind = BOUND_FIELD;
        st = bind_sort_field(c->x, c->part, def->json_paths[i], &component->field);
        *key = (struct sort_key) { .is_descending = c->order->is_descending, .bound = component };
        key->collation = field_collation(&component->field);
        c->sort->n_key++;
    }
    return st;
}

static anx_status
add_field_key(struct compiling *c, struct bound *bound, bool is_first)
{
    struct values forced = is_first ? c->part->query->forced : (struct values) { NULL, 0 };
    struct sort_key *key = &c->sort->keys[c->sort->n_key];
    anx_status st = check_new(c, bound);

    if (st != ANX_OK || bound->field.kind == FIELD_IS_UNKNOWN)
        return st; /* strict mode "none": no field, no order */
    if (bound->kind == BOUND_FIELD && field_is_composite(&bound->field) && forced.n == 0)
        return add_components(c, bound);
    *key = (struct sort_key) { .is_descending = c->order->is_descending, .bound = bound };
    key->collation = field_collation(&bound->field);
    if (forced.n > 0)
        st = bind_forced(c->x, key, forced);
    c->sort->n_key++;
    return st;
}

/* An index of exactly that text (composite names look like sums), else an expression. */
static anx_status
read_order(struct compiling *c, struct bound **out)
{
    size_t n_joined = c->part->joins ? c->part->query->n_join : 0;
    anx_text *joined = anx_arena_array(c->x->arena, n_joined, sizeof(*joined));
    const struct expression *e;
    struct expression field = { .kind = EXPR_FIELD, .text = c->order->expression };
    anx_status st = ANX_OK;

    if (!joined)
        return exec_nomem(c->x);
    for (size_t i = 0; i < n_joined; i++)
        joined[i] = c->part->joins[i].right->space->asked;
    if (c->order->expression.size == 0)
        return anx_fail(c->x->err, ANX_E_PARAMS, "Order by expression should not be empty");
    if (ns_index_of_query(c->part->ns, c->order->expression))
        e = &field;
    else
        st = expression_read_sort(c->order->expression, joined, n_joined, c->x->arena, &e, c->x->err);
    return st == ANX_OK ? bind(c->x, c->part, e, 0, out) : st;
}

static anx_status
add_order(struct compiling *c, bool is_first)
{
    struct bound *bound = NULL;
    anx_status st = read_order(c, &bound);

    if (st != ANX_OK)
        return st;
    if (bound->kind == BOUND_FIELD || bound->kind == BOUND_JOINED)
        return add_field_key(c, bound, is_first);
    if (is_first && c->part->query->forced.n > 0)
        return anx_fail(c->x->err, ANX_E_QUERY, "Forced sort can't be applied to an expression");
    c->sort->keys[c->sort->n_key++] =
        (struct sort_key) { .is_descending = c->order->is_descending, .is_number = true, .bound = bound };
    return ANX_OK;
}

static size_t
count_keys(const struct part *part)
{
    size_t n = part->query->n_sort, most = 1;

    for (size_t i = 0; i < part->ns->n_index; i++)
        if (part->ns->indexes[i].def->field_type == FIELD_COMPOSITE &&
            part->ns->indexes[i].def->n_path > most)
            most = part->ns->indexes[i].def->n_path;
    return n * most;
}

anx_status
sort_compile(struct exec *x, struct part *part)
{
    struct compiling c = { .x = x, .part = part };
    anx_status st = ANX_OK;

    if (part->query->n_sort == 0)
        return ANX_OK;
    c.sort = anx_arena_array(x->arena, 1, sizeof(*c.sort));
    if (c.sort)
        c.sort->keys = anx_arena_array(x->arena, count_keys(part), sizeof(*c.sort->keys));
    if (!c.sort || !c.sort->keys)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < part->query->n_sort; i++) {
        c.order = &part->query->sort[i];
        st = add_order(&c, i == 0);
    }
    if (c.sort->n_key > 0)
        part->sort = c.sort;
    return st;
}

/* ---- The value of a row under a key ---- */

static double
fail_number(struct exec *x, anx_status status)
{
    exec_latch(x, status);
    return 0;
}

/* The one row that a join finds for the left row. */
static bool
find_joined(struct exec *x, struct join *join, uint32_t row, uint32_t *out)
{
    size_t n;
    const struct vector_hit *found = join_all(x, join, row, &n);
    anx_text ns = join->right->space->name;

    if (x->status == ANX_OK && n == 0)
        exec_latch(x, anx_fail(x->err, ANX_E_QUERY, "Not found value joined from ns %.*s", ANX_TEXT_ARG(ns)));
    if (x->status == ANX_OK && n > 1)
        exec_latch(x, anx_fail(x->err, ANX_E_QUERY, "Found more than 1 value joined from ns %.*s",
                               ANX_TEXT_ARG(ns)));
    if (x->status != ANX_OK)
        return false;
    *out = found[0].row;
    return true;
}

static struct values
bound_values(struct exec *x, struct bound *bound, uint32_t row)
{
    if (bound->kind == BOUND_JOINED && !find_joined(x, bound->join, row, &row))
        return (struct values) { NULL, 0 };
    return field_values(x, &bound->field, row);
}

static double
field_number(struct exec *x, struct bound *bound, uint32_t row)
{
    struct values values = bound_values(x, bound, row);
    double number = 0;

    if (x->status != ANX_OK)
        return 0;
    if (field_is_array(&bound->field) || field_is_composite(&bound->field) || values.n > 1)
        return fail_number(
            x, anx_fail(x->err, ANX_E_QUERY, "Array, composite or tuple field in sort expression"));
    if (values.n == 0)
        return fail_number(x, anx_fail(x->err, ANX_E_QUERY, "Empty field in sort expression: %.*s",
                                       ANX_TEXT_ARG(bound->field.name)));
    exec_latch(x, value_number(x, &values.items[0], &number));
    return number;
}

static void
find_point(struct exec *x, struct bound *bound, uint32_t row, double point[2])
{
    struct values values;

    point[0] = bound->x;
    point[1] = bound->y;
    if (bound->kind == BOUND_POINT)
        return;
    values = bound_values(x, bound, row);
    if (x->status != ANX_OK)
        return;
    if (values.n != 2) {
        exec_latch(x, anx_fail(x->err, ANX_E_QUERY, "Empty field in sort expression: %.*s",
                               ANX_TEXT_ARG(bound->field.name)));
        return;
    }
    for (size_t i = 0; i < 2 && x->status == ANX_OK; i++)
        exec_latch(x, value_number(x, &values.items[i], &point[i]));
}

static double
distance(struct exec *x, const struct bound *bound, uint32_t row)
{
    double a[2], b[2];

    find_point(x, bound->left, row, a);
    find_point(x, bound->right, row, b);
    return x->status == ANX_OK ? hypot(a[0] - b[0], a[1] - b[1]) : 0;
}

/* splitmix64: rows in an order that looks random and is the same for the same seed. */
static double
hash(uint64_t seed, uint32_t row)
{
    uint64_t v = seed + (row + 1) * 0x9e3779b97f4a7c15u;

    v = (v ^ v >> 30) * 0xbf58476d1ce4e5b9u;
    v = (v ^ v >> 27) * 0x94d049bb133111ebu;
    return (double) ((v ^ v >> 31) >> 11);
}

static double evaluate(struct exec *x, struct bound *bound, const struct vector_hit *hit);

static double
divide(struct exec *x, double a, double b)
{
    if (b == 0)
        return fail_number(x, anx_fail(x->err, ANX_E_QUERY, "Division by zero in sort expression"));
    return a / b;
}

static double
evaluate_pair(struct exec *x, struct bound *bound, const struct vector_hit *hit)
{
    double a = evaluate(x, bound->left, hit), b;

    if (x->status != ANX_OK)
        return 0;
    b = evaluate(x, bound->right, hit);
    if (x->status != ANX_OK)
        return 0;
    switch (bound->kind) {
    case BOUND_ADD:
        return a + b;
    case BOUND_SUBTRACT:
        return a - b;
    case BOUND_MULTIPLY:
        return a * b;
    default:
        return divide(x, a, b);
    }
}

static double
evaluate(struct exec *x, struct bound *bound, const struct vector_hit *hit)
{
    switch (bound->kind) {
    case BOUND_NUMBER:
        return bound->number;
    case BOUND_FIELD:
    case BOUND_JOINED:
        return field_number(x, bound, hit->row);
    case BOUND_RANK:
        return (double) hit->rank;
    case BOUND_HASH:
        return hash(bound->seed, hit->row);
    case BOUND_NEGATE:
        return -evaluate(x, bound->left, hit);
    case BOUND_ABS:
        return fabs(evaluate(x, bound->left, hit));
    case BOUND_DISTANCE:
        return distance(x, bound, hit->row);
    case BOUND_POINT:
        break;
    case BOUND_ADD:
    case BOUND_SUBTRACT:
    case BOUND_MULTIPLY:
    case BOUND_DIVIDE:
        return evaluate_pair(x, bound, hit);
    }
    return 0;
}

static uint32_t
find_forced(const struct sort_key *key, const struct value *value)
{
    struct values forced = key->forced.values;
    bool is_comparable;

    for (size_t i = 0; i < forced.n; i++)
        if (value_compare(value, &forced.items[i], key->collation, &is_comparable) == 0 && is_comparable)
            return (uint32_t) i;
    return UINT32_MAX;
}

/* Values of an index stay where they are while the lock is held; those of documents were collected into a
 * list that the next row reuses. */
static struct value
keep_tuple(struct exec *x, const struct field *field, struct values values)
{
    struct value tuple = { .type = VALUE_TUPLE, .tuple = values };
    struct value *items;

    if (field->kind == FIELD_IS_SCALAR)
        return tuple;
    items = anx_arena_array(x->arena, values.n, sizeof(*items));
    if (!items) {
        exec_latch(x, exec_nomem(x));
        return (struct value) { .type = VALUE_NULL };
    }
    memcpy(items, values.items, values.n * sizeof(*items));
    tuple.tuple.items = items;
    return tuple;
}

void
sort_key_cell(struct exec *x, const struct sort_key *key, const struct vector_hit *hit, struct sort_cell *out)
{
    struct values values;

    *out = (struct sort_cell) { .value = { .type = VALUE_NULL }, .forced_at = UINT32_MAX };
    if (key->is_number) {
        out->value = (struct value) { .type = VALUE_DOUBLE, .real = evaluate(x, key->bound, hit) };
        return;
    }
    values = bound_values(x, key->bound, hit->row);
    if (values.n == 1)
        out->value = values.items[0];
    else if (values.n > 1)
        out->value = keep_tuple(x, &key->bound->field, values);
    if (!key->has_forced)
        return;
    if (values.n > 1)
        exec_latch(x, anx_fail(x->err, ANX_E_QUERY, "Forced sort can't be applied to a field of array type"));
    else if (values.n == 1)
        out->forced_at = find_forced(key, &out->value);
}
