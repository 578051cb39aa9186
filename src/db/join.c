/* Joins: for a row of the left side, the rows of the right side that satisfy ON and the right side's own
 * conditions.
 *
 * ON terms that an index of the right side can answer lead to a few candidates; every candidate is then
 * checked against all of ON with the values themselves, so the lookup only has to be a superset. The right
 * side's WHERE is asked per candidate until knowing all its rows would have been cheaper. */
#include <stdlib.h>

#include "base/error.h"
#include "db/exec_int.h"

enum {
    FEW = 16,        /* values looked up in the primary key without a bitmap */
    ASKED_BEFORE = 64, /* candidates, before the right side's rows may be selected as a whole */
    ROWS_PER_ASK = 4 /* as in where_select.c */
};
#define NO_ROW UINT32_MAX

struct on_term {
    bool is_or, is_negated;
    enum query_condition condition;
    struct field left, right;
    struct on_list *bracket; /* instead of the fields */
};
struct on_list {
    struct on_term *terms;
    size_t n;
};

/* ---- ON, compiled ---- */

static anx_status
check_on_field(struct exec *x, const struct field *field)
{
    if (field->kind == FIELD_IS_VECTOR)
        return anx_fail(x->err, ANX_E_PARAMS, "Float vector indexes are not allowed in ON statement: %.*s",
                        ANX_TEXT_ARG(field->name));
    if (field->index && field->index->def->index_type == INDEX_TEXT)
        return anx_fail(x->err, ANX_E_PARAMS, "Fulltext indexes are not allowed in ON statement: %.*s",
                        ANX_TEXT_ARG(field->name));
    return ANX_OK;
}

static anx_status
compile_on(struct exec *x, const struct part *left, const struct part *right, const struct query_on *on,
           size_t n, struct on_list **out)
{
    struct on_list *list = anx_arena_array(x->arena, 1, sizeof(*list));
    anx_status st = ANX_OK;

    if (list)
        list->terms = anx_arena_array(x->arena, n, sizeof(*list->terms));
    if (!list || !list->terms)
        return exec_nomem(x);
    list->n = n;
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        struct on_term *term = &list->terms[i];

        *term = (struct on_term) { .is_or = on[i].op == OP_OR, .is_negated = on[i].op == OP_NOT };
        term->condition = on[i].condition;
        if (on[i].bracket) {
            st = compile_on(x, left, right, on[i].bracket, on[i].n_bracket, &term->bracket);
            continue;
        }
        st = field_bind(x, left->space, left->strict, on[i].left_field, FIELD_USE_FILTER, &term->left);
        if (st == ANX_OK)
            st =
                field_bind(x, right->space, right->strict, on[i].right_field, FIELD_USE_FILTER, &term->right);
        if (st == ANX_OK)
            st = check_on_field(x, &term->left);
        if (st == ANX_OK)
            st = check_on_field(x, &term->right);
    }
    *out = list;
    return st;
}

/* "joined_ns", or "joined_2_ns" when the namespace is joined more than once. */
static anx_status
make_label(struct exec *x, const struct part *part, size_t number)
{
    struct join *join = &part->joins[number];
    const struct space *space = join->right->space;
    size_t n = 0, n_before = 0;

    for (size_t i = 0; i < part->query->n_join; i++) {
        bool is_same = exec_space(x, part->query->joins[i].query->ns)->ns == space->ns;

        n += is_same;
        n_before += is_same && i < number;
    }
    if (n > 1)
        join->label = anx_arena_printf(x->arena, "joined_%zu_%.*s", n_before + 1, ANX_TEXT_ARG(space->name));
    else
        join->label = anx_arena_printf(x->arena, "joined_%.*s", ANX_TEXT_ARG(space->name));
    return join->label.data ? ANX_OK : exec_nomem(x);
}

anx_status
joins_compile(struct exec *x, struct part *part)
{
    size_t n = part->query->n_join;
    anx_status st = ANX_OK;

    if (n == 0)
        return ANX_OK;
    part->joins = anx_arena_array(x->arena, n, sizeof(*part->joins));
    if (!part->joins)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        const struct query_join *query = &part->query->joins[i];
        struct join *join = &part->joins[i];

        *join = (struct join) { .query = query, .found_for = NO_ROW };
        x->strict_of_left = part->strict;
        st = part_compile(x, query->query, exec_space(x, query->query->ns), PART_JOINED, &join->right);
        if (st == ANX_OK)
            st = compile_on(x, part, join->right, query->on, query->n_on, &join->on);
        if (st == ANX_OK)
            st = make_label(x, part, i);
    }
    return st;
}

struct join *
join_find(struct part *part, anx_text ns)
{
    for (size_t i = 0; i < part->query->n_join; i++)
        if (part->joins && (anx_text_equal_fold(part->joins[i].right->space->name, ns) ||
                            anx_text_equal_fold(part->joins[i].right->space->asked, ns)))
            return &part->joins[i];
    return NULL;
}

/* ---- ON, asked for two rows ---- */

static bool
match_term(struct exec *x, struct on_term *term, uint32_t left, uint32_t right)
{
    struct values values = field_values(x, &term->left, left);
    struct operand operand = { .values = field_values(x, &term->right, right) };
    const struct collation *collation =
        term->right.index ? field_collation(&term->right) : field_collation(&term->left);

    return condition_holds_any(term->condition, values, &operand, collation);
}

static bool
match_on(struct exec *x, struct on_list *list, uint32_t left, uint32_t right)
{
    bool is_true = true;

    for (size_t i = 0; i < list->n; i++) {
        struct on_term *term = &list->terms[i];

        if (term->is_or && is_true)
            continue;
        if (!term->is_or && !is_true)
            return false;
        is_true = term->bracket ? match_on(x, term->bracket, left, right) : match_term(x, term, left, right);
        is_true = is_true != term->is_negated;
    }
    return is_true;
}

/* ---- Candidates ---- */

struct lookup {
    const struct on_term *term; /* NULL: no index helps */
    enum query_condition condition;
    struct values values;
    size_t estimate;
    struct value items[FEW]; /* behind values when they are few */
};

/* What the right field must satisfy, given the left values; strict bounds become loose ones, because a bound
 * that is converted to the right side's type may be rounded. */
static bool
turn(enum query_condition condition, enum query_condition *out)
{
    switch (condition) {
    case COND_EQ:
    case COND_SET:
        *out = COND_SET;
        return true;
    case COND_LT:
    case COND_LE:
        *out = COND_GE;
        return true;
    case COND_GT:
    case COND_GE:
        *out = COND_LE;
        return true;
    default:
        return false;
    }
}

/* The left row's values as the right index's type; what cannot be converted equals nothing there. */
static bool
convert_values(struct exec *x, struct on_term *term, uint32_t left, struct lookup *out)
{
    struct values values = field_values(x, &term->left, left);
    anx_error *err = x->err;
    anx_error ignored;

    if (values.n > FEW)
        return false;
    x->err = &ignored;
    out->values = (struct values) { out->items, 0 };
    for (size_t i = 0; i < values.n; i++)
        if (values.items[i].type != VALUE_NULL && (!field_is_composite(&term->right) ||
                                                   values.items[i].type == VALUE_TUPLE) &&
            field_convert(x, &term->right, &values.items[i], &out->items[out->values.n]) == ANX_OK)
            out->values.n++;
    x->err = err;
    return true;
}

static bool
is_alone(const struct on_list *list, size_t i)
{
    return !list->terms[i].is_or && !list->terms[i].is_negated && !list->terms[i].bracket &&
           (i + 1 == list->n || !list->terms[i + 1].is_or);
}

/* The term whose index promises the fewest rows. */
static void
find_lookup(struct exec *x, struct join *join, uint32_t left, struct lookup *best)
{
    *best = (struct lookup) { .estimate = SIZE_MAX };
    for (size_t i = 0; i < join->on->n; i++) {
        struct on_term *term = &join->on->terms[i];
        struct lookup next = { .term = term };

        if (!is_alone(join->on, i) || term->right.kind != FIELD_IS_SCALAR ||
            term->right.index->def->index_type == INDEX_COLUMN || !turn(term->condition, &next.condition) ||
            !convert_values(x, term, left, &next) || (next.condition != COND_SET && next.values.n > 1))
            continue;
        next.estimate =
            next.values.n == 0 ? 0 : scalar_estimate(term->right.index->scalar, next.condition, &next.values);
        if (next.estimate < best->estimate) {
            *best = next;
            best->values.items = best->items;
        }
    }
}

static anx_status
select_right(struct exec *x, struct join *join)
{
    anx_status st = where_rows(x, join->right, &join->rows);

    join->has_rows = st == ANX_OK;
    return st;
}

/* Would selecting all rows of the right side have cost less than asking about those so far? */
static bool
selecting_pays(struct join *join)
{
    size_t all = rows_count(join->right->ns->rows), estimate = where_estimate(join->right);
    size_t cost = estimate == SIZE_MAX ? all : estimate / ROWS_PER_ASK;

    return join->n_asked > ASKED_BEFORE && join->n_asked > cost;
}

static bool
match_right(struct exec *x, struct join *join, uint32_t right)
{
    if (join->right->where.n_group == 0)
        return true;
    if (!join->has_rows && ++join->n_asked % ASKED_BEFORE == 0 && selecting_pays(join))
        exec_latch(x, select_right(x, join));
    if (join->has_rows)
        return !join->rows || roaring_bitmap_contains(join->rows, right);
    return where_match(x, &join->right->where, right);
}

/* False: enough was found, or something failed. */
static bool
offer(struct exec *x, struct join *join, uint32_t left, uint32_t right, bool one_is_enough)
{
    if (!exec_goes_on(x))
        return false;
    if (match_right(x, join, right) && match_on(x, join->on, left, right))
        exec_latch(x, hits_push(x, &join->found, right, 0));
    return x->status == ANX_OK && !(one_is_enough && join->found.n > 0);
}

static void
offer_bitmap(struct exec *x, struct join *join, uint32_t left, const roaring_bitmap_t *rows,
             bool one_is_enough)
{
    roaring_uint32_iterator_t at;

    roaring_init_iterator(rows, &at);
    while (at.has_value && offer(x, join, left, at.current_value, one_is_enough))
        roaring_advance_uint32_iterator(&at);
}

static int
compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    return x < y ? -1 : x > y;
}

static void
offer_by_key(struct exec *x, struct join *join, uint32_t left, const struct lookup *lookup,
             bool one_is_enough)
{
    const struct scalar_index *index = lookup->term->right.index->scalar;
    uint32_t rows[FEW];
    size_t n = 0;

    for (size_t i = 0; i < lookup->values.n; i++)
        n += scalar_find(index, &lookup->values.items[i], &rows[n]);
    qsort(rows, n, sizeof(rows[0]), compare_rows);
    for (size_t i = 0; i < n; i++)
        if ((i == 0 || rows[i] != rows[i - 1]) && !offer(x, join, left, rows[i], one_is_enough))
            return;
}

static void
offer_by_index(struct exec *x, struct join *join, uint32_t left, const struct lookup *lookup,
               bool one_is_enough)
{
    const struct ns *ns = join->right->ns;
    const struct ns_index *index = lookup->term->right.index;
    roaring_bitmap_t *rows;
    anx_status st;

    if (lookup->values.n == 0)
        return;
    if (lookup->condition == COND_SET && ns->pk < ns->n_index && index == &ns->indexes[ns->pk]) {
        offer_by_key(x, join, left, lookup, one_is_enough);
        return;
    }
    rows = roaring_bitmap_create();
    if (!rows) {
        exec_latch(x, exec_nomem(x));
        return;
    }
    st = scalar_select(index->scalar, lookup->condition, &lookup->values, rows, x->err);
    exec_latch(x, st);
    if (st == ANX_OK)
        offer_bitmap(x, join, left, rows, one_is_enough);
    roaring_bitmap_free(rows);
}

/* Fills join->found for a left row. */
static void
look_up(struct exec *x, struct join *join, uint32_t left, bool one_is_enough)
{
    struct lookup lookup;

    if (join->found_for == left && (join->is_found_all || (one_is_enough && join->found.n > 0)))
        return;
    join->found.n = 0;
    join->found_for = left;
    join->is_found_all = !one_is_enough;
    find_lookup(x, join, left, &lookup);
    if (lookup.term) {
        offer_by_index(x, join, left, &lookup, one_is_enough);
    } else {
        if (!join->has_rows)
            exec_latch(x, select_right(x, join));
        offer_bitmap(x, join, left, join->rows ? join->rows : rows_all(join->right->ns->rows), one_is_enough);
    }
    if (x->status != ANX_OK)
        join->found_for = NO_ROW;
}

/* ---- From outside ---- */

bool
join_exists(struct exec *x, struct join *join, uint32_t row)
{
    look_up(x, join, row, true);
    return x->status == ANX_OK && join->found.n > 0;
}

const struct vector_hit *
join_all(struct exec *x, struct join *join, uint32_t row, size_t *n)
{
    look_up(x, join, row, false);
    *n = x->status == ANX_OK ? join->found.n : 0;
    return join->found.items;
}

const struct vector_hit *
join_rows(struct exec *x, struct join *join, uint32_t row, size_t *n)
{
    const struct query *query = join->right->query;
    const struct vector_hit *items = join_all(x, join, row, n);
    anx_status st = ANX_OK;

    if (query->offset >= *n || query->limit == 0) {
        *n = 0;
        return items;
    }
    if (join->right->sort) {
        join->sorted.n = 0;
        for (size_t i = 0; st == ANX_OK && i < *n; i++)
            st = hits_push(x, &join->sorted, items[i].row, 0);
        if (st == ANX_OK)
            st = sort_rows(x, join->right, &join->sorted, SIZE_MAX);
        exec_latch(x, st);
        items = join->sorted.items;
    }
    *n -= query->offset;
    *n = *n < query->limit ? *n : query->limit;
    if (st != ANX_OK)
        *n = 0;
    return items + query->offset;
}
