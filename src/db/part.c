/* One query over one namespace: compiled, then run. Candidates come from the vector index, from an index
 * whose order is the one wanted, or from WHERE; then DISTINCT, order and window cut them down. */
#include "base/error.h"
#include "db/exec_int.h"

/* ---- Compiling ---- */

static bool
wants_total(const struct query *query)
{
    for (size_t i = 0; i < query->n_aggregate; i++)
        if (query->aggregates[i].type == AGGREGATE_COUNT ||
            query->aggregates[i].type == AGGREGATE_COUNT_CACHED)
            return true;
    return query->total != TOTAL_NONE;
}

static bool
has_entry(const struct query_bracket *bracket, enum query_entry_kind kind)
{
    for (size_t i = 0; i < bracket->n; i++)
        if (bracket->entries[i].kind == kind ||
            (bracket->entries[i].kind == ENTRY_BRACKET && has_entry(&bracket->entries[i].bracket, kind)))
            return true;
    return false;
}

/* Every inner join is a term of its own: a row that matches brings along all of them. */
static bool
joins_are_plain(const struct where_list *list)
{
    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_group *group = &list->groups[i];
        const struct where_node *node = &list->nodes[group->first];

        if (group->has_join && (group->n > 1 || node->kind != WHERE_JOIN || node->is_negated))
            return false;
    }
    return true;
}

static anx_status
compile(struct exec *x, struct part *part, enum part_role role)
{
    const struct query *query = part->query;
    anx_status st;

    if (role == PART_JOINED && has_entry(&query->where, ENTRY_KNN))
        return anx_fail(x->err, ANX_E_QUERY, "KNN condition cannot be in joined subquery");
    part->is_joined = role == PART_JOINED;
    st = knn_compile(x, part);
    if (st == ANX_OK && role != PART_JOINED && role != PART_SUBQUERY)
        st = joins_compile(x, part);
    if (st == ANX_OK)
        st = where_compile(x, part, &part->where);
    if (st == ANX_OK && !part->hybrid.is_set) /* there ORDER BY is how ranks are put together */
        st = sort_compile(x, part);
    if (st == ANX_OK)
        st = projection_compile(x, part->space, query, &part->projection);
    if (st == ANX_OK)
        st = text_shows_compile(x, part);
    if (st == ANX_OK && query->with_rank && !part_is_ranked(part))
        st = anx_fail(x->err, ANX_E_LOGIC, "Rank() is available only for fulltext or knn query");
    part->joins_are_plain = joins_are_plain(&part->where);
    return st;
}

anx_status
part_compile(struct exec *x, const struct query *query, const struct space *space, enum part_role role,
             struct part **out)
{
    struct part *part = anx_arena_array(x->arena, 1, sizeof(*part));
    uint64_t start = explain_clock(x);
    anx_status st;

    if (!part)
        return exec_nomem(x);
    *part = (struct part) { .query = query, .space = space, .ns = space->ns, .strict = query->strict };
    if (part->strict == STRICT_DEFAULT)
        part->strict = role == PART_JOINED ? x->strict_of_left : x->strict;
    part->wants_total = wants_total(query);
    part->next = x->parts;
    x->parts = part;
    *out = part;
    st = compile(x, part, role);
    explain_add(x, part, PHASE_PREPARE, start);
    part->phases[PHASE_PREPARE] -= part->phases[PHASE_PRESELECT]; /* ran meanwhile */
    return st;
}

void
part_fini(struct part *part)
{
    hits_fini(&part->hits);
    for (size_t i = 0; part->joins && i < part->query->n_join; i++) {
        hits_fini(&part->joins[i].found);
        hits_fini(&part->joins[i].sorted);
    }
}

/* ---- Collecting rows ---- */

struct collecting {
    struct exec *x;
    struct part *part;
    struct candidates candidates;
    size_t need;     /* rows to keep */
    bool counts_all; /* go on counting behind them */
    size_t skip;     /* matching rows before the first that is kept */
    size_t n;        /* matching rows so far */
    size_t n_visited, budget; /* rows to look at before another way is tried; 0: no limit */
    bool gave_up;
};

/* False: no more rows are wanted. */
static bool
take(struct collecting *c, uint32_t row)
{
    if (!exec_goes_on(c->x))
        return false;
    if (!c->candidates.is_exact && !where_match(c->x, &c->part->where, row))
        return true;
    if (c->n >= c->skip && c->part->hits.n < c->need)
        exec_latch(c->x, hits_push(c->x, &c->part->hits, row, 0));
    c->n++;
    return c->counts_all || c->part->hits.n < c->need;
}

static bool
is_over_budget(struct collecting *c)
{
    c->gave_up = c->budget > 0 && ++c->n_visited > c->budget;
    return c->gave_up;
}

/* Rows from *from up; *from becomes the first that was not looked at. */
static void
take_bitmap(struct collecting *c, const roaring_bitmap_t *rows, uint32_t *from)
{
    roaring_uint32_iterator_t at;

    roaring_init_iterator(rows, &at);
    if (*from > 0)
        roaring_move_uint32_iterator_equalorlarger(&at, *from);
    for (; at.has_value; roaring_advance_uint32_iterator(&at)) {
        *from = at.current_value;
        if (is_over_budget(c) || !take(c, at.current_value))
            return;
    }
}

/* Candidates by ascending row id. */
static anx_status
collect(struct collecting *c, uint32_t *from)
{
    const struct candidates *candidates = &c->candidates;

    if (candidates->is_exact && c->need == 0) { /* only the total is wanted */
        c->n = candidates->n;
        return c->x->status;
    }
    if (c->need == 0 && !c->counts_all)
        return c->x->status;
    if (candidates->kind == CANDIDATES_FEW)
        for (size_t i = 0; i < candidates->n && take(c, candidates->few[i]); i++)
            ;
    else
        take_bitmap(c,
                    candidates->kind == CANDIDATES_BITMAP ? candidates->bitmap : rows_all(c->part->ns->rows),
                    from);
    return c->x->status;
}

static bool
take_walked(void *context, uint32_t row)
{
    struct collecting *c = context;

    if (is_over_budget(c))
        return false;
    if (c->candidates.kind == CANDIDATES_BITMAP && !roaring_bitmap_contains(c->candidates.bitmap, row))
        return exec_goes_on(c->x);
    return take(c, row);
}

/* Rows in the order of an index, until enough are found. */
static anx_status
walk(struct collecting *c, const struct ns_index *index, bool is_descending)
{
    if (c->need > 0)
        scalar_walk(index->scalar, is_descending, take_walked, c);
    return c->x->status;
}

/* An index walked in order visits about need * all / matching rows; sorting looks at every matching one. */
static bool
walking_pays(const struct part *part, const struct candidates *candidates, size_t need)
{
    size_t all = rows_count(part->ns->rows);

    if (candidates->kind == CANDIDATES_FEW || need >= candidates->n)
        return false;
    return need <= SIZE_MAX / (all + 1) && need * all / candidates->n < candidates->n;
}

/* ---- Order and window ---- */

static size_t
add_sizes(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

static void
cut(struct hits *hits, size_t limit, size_t offset)
{
    if (offset > hits->n)
        offset = hits->n;
    hits->n -= offset;
    if (offset > 0 && hits->n > 0)
        memmove(hits->items, hits->items + offset, hits->n * sizeof(*hits->items));
    if (hits->n > limit)
        hits->n = limit;
}

/* DISTINCT takes the first row of each value: in the order of a tree index where that is the wanted order,
 * else in the order in which rows are found. */
static anx_status
distinct_and_sort(struct exec *x, struct part *part, struct aggregates *aggregates, size_t n_part,
                  size_t need)
{
    bool is_by_tree = sort_is_by_tree(part->sort) && !part_is_ranked(part);
    anx_status st = ANX_OK;

    if (is_by_tree)
        st = sort_rows(x, part, &part->hits, SIZE_MAX);
    if (st == ANX_OK)
        st = aggregates_filter(x, aggregates, n_part, &part->hits);
    part->total = part->hits.n;
    return st == ANX_OK && !is_by_tree ? sort_rows(x, part, &part->hits, need) : st;
}

static anx_status
finish(struct exec *x, struct part *part, struct aggregates *aggregates, size_t n_part, size_t limit,
       size_t offset)
{
    size_t need = add_sizes(limit, offset);
    uint64_t start = explain_clock(x);
    anx_status st;

    if (aggregates_are_distinct(aggregates))
        st = distinct_and_sort(x, part, aggregates, n_part, need);
    else
        st = sort_rows(x, part, &part->hits, need);
    explain_add(x, part, PHASE_SORT, start);
    if (st == ANX_OK)
        cut(&part->hits, limit, offset);
    return st;
}

/* ---- The three ways to find rows ---- */

static anx_status
select_candidates(struct exec *x, struct part *part, size_t need, struct candidates *out)
{
    uint64_t start = explain_clock(x);
    anx_status st = where_select(x, part, need, out);

    explain_add(x, part, PHASE_INDEXES, start);
    return st;
}

static anx_status
run_knn(struct exec *x, struct part *part, struct aggregates *aggregates, size_t n_part, size_t limit,
        size_t offset)
{
    bool needs_all = part->wants_total || part->sort || aggregates_are_distinct(aggregates);
    size_t need = needs_all ? SIZE_MAX : add_sizes(limit, offset);
    uint64_t start = explain_clock(x);
    anx_status st = knn_run(x, part, need, &part->hits);

    explain_add(x, part, PHASE_INDEXES, start);
    part->total = part->hits.n;
    return st == ANX_OK ? finish(x, part, aggregates, n_part, limit, offset) : st;
}

/* True: the rows were found by walking an index in order. Matching rows may all stand at the end of the
 * order, so the walk gives up when it has looked at as many rows as there are to sort. */
static bool
run_by_walk(struct collecting *c, size_t limit, size_t offset, anx_status *st)
{
    struct part *part = c->part;
    bool is_descending = false;
    const struct ns_index *index = sort_walkable(part->sort, &is_descending);
    size_t need = add_sizes(limit, offset);

    if (!index || (part->wants_total && !c->candidates.is_exact) || !walking_pays(part, &c->candidates, need))
        return false;
    c->need = limit;
    c->skip = offset;
    c->budget = c->candidates.n;
    *st = walk(c, index, is_descending);
    part->total = c->candidates.n;
    part->is_by_walk = !c->gave_up;
    return !c->gave_up;
}

static anx_status
run_sorted(struct exec *x, struct part *part, struct aggregates *aggregates, size_t n_part, size_t limit,
           size_t offset)
{
    struct collecting c = { .x = x, .part = part };
    uint32_t from = 0;
    anx_status st = select_candidates(x, part, SIZE_MAX, &c.candidates);

    if (st != ANX_OK)
        return st;
    if (!aggregates_are_distinct(aggregates) && run_by_walk(&c, limit, offset, &st))
        return st;
    part->hits.n = 0;
    c = (struct collecting) { .x = x, .part = part, .candidates = c.candidates, .need = SIZE_MAX };
    if (st == ANX_OK)
        st = collect(&c, &from);
    part->total = c.n;
    return st == ANX_OK ? finish(x, part, aggregates, n_part, limit, offset) : st;
}

/* A condition that many rows satisfy is asked row by row until enough are found. They may all stand at the
 * end: after as many rows as an index would have put into a bitmap, the bitmap is made after all. */
static anx_status
run_unsorted(struct exec *x, struct part *part, size_t limit, size_t offset)
{
    size_t need = add_sizes(limit, offset), estimate;
    struct collecting c = { .x = x, .part = part, .need = limit, .skip = offset };
    uint32_t from = 0;
    anx_status st;

    c.counts_all = part->wants_total;
    st = select_candidates(x, part, part->wants_total ? SIZE_MAX : need, &c.candidates);
    if (st == ANX_OK && c.candidates.kind == CANDIDATES_ALL && !c.candidates.is_exact) {
        estimate = where_estimate(part);
        c.budget = estimate < SIZE_MAX ? estimate + 1 : 0;
    }
    if (st == ANX_OK)
        st = collect(&c, &from);
    if (st == ANX_OK && c.gave_up) {
        c.budget = 0;
        st = select_candidates(x, part, SIZE_MAX, &c.candidates);
        if (st == ANX_OK)
            st = collect(&c, &from);
    }
    part->total = c.candidates.is_exact ? c.candidates.n : c.n;
    return st;
}

anx_status
part_run(struct exec *x, struct part *part, struct aggregates *aggregates, size_t n_part, size_t limit,
         size_t offset)
{
    bool is_distinct = aggregates_are_distinct(aggregates);
    uint64_t start = explain_clock(x);
    anx_status st;

    if (part_is_ranked(part))
        st = run_knn(x, part, aggregates, n_part, limit, offset);
    else if (is_distinct || (part->sort && limit > 0))
        st = run_sorted(x, part, aggregates, n_part, limit, offset);
    else
        st = run_unsorted(x, part, limit, offset);
    if (st == ANX_OK && aggregates)
        st = aggregates_add(x, aggregates, n_part, &part->hits);
    explain_add(x, part, PHASE_LOOP, start);
    part->phases[PHASE_LOOP] -= part->phases[PHASE_INDEXES] + part->phases[PHASE_SORT]; /* ran meanwhile */
    return st;
}
