/* Finding the rows that satisfy WHERE.
 *
 * The groups of a list are joined by AND. Those that an index can answer are taken from the smallest estimate
 * up: their bitmaps are intersected as long as that costs less than asking the rows that are left one by one.
 * What is left over is asked per row (where_match). Every step keeps a superset of the answer, and a group
 * counts as settled only when its bitmap was exact, so any choice of steps gives the same rows; only the time
 * differs. */
#include <stdlib.h>

#include "base/error.h"
#include "db/exec_int.h"

enum {
    FEW = 64,         /* values of the primary key that are looked up one by one, without a bitmap */
    ROWS_PER_ASK = 4, /* rows that an index adds to a bitmap in the time of asking one (measured: 3 to 6) */
};

/* ---- Estimates ---- */

static size_t estimate_list(struct part *part, struct where_list *list);

static size_t
add_sizes(size_t a, size_t b)
{
    return a > SIZE_MAX - b ? SIZE_MAX : a + b;
}

/* SIZE_MAX: only asking row by row helps. A column is a scan by itself, which asking can do as well and stop
 * early. */
static size_t
estimate_node(struct part *part, struct where_node *node)
{
    size_t all = rows_count(part->ns->rows), n = SIZE_MAX;

    switch (node->kind) {
    case WHERE_CONSTANT:
        n = node->is_constant_true ? all : 0;
        break;
    case WHERE_INDEX:
        if (node->field->index->def->index_type != INDEX_COLUMN)
            n = scalar_estimate(node->field->index->scalar, node->condition, &node->operand.values);
        break;
    case WHERE_BITMAP:
        n = roaring_bitmap_get_cardinality(node->bitmap);
        break;
    case WHERE_BRACKET:
        n = estimate_list(part, &node->list);
        break;
    default:
        break;
    }
    if (n == SIZE_MAX || !node->is_negated)
        return n;
    if (node->kind == WHERE_BRACKET)
        return SIZE_MAX; /* a superset of the bracket says nothing about its complement */
    return n < all ? all - n : 0;
}

static size_t
estimate_group(struct part *part, struct where_list *list, const struct where_group *group)
{
    size_t sum = 0;

    for (size_t i = group->first; i < group->first + group->n; i++)
        sum = add_sizes(sum, estimate_node(part, &list->nodes[i]));
    return sum;
}

static size_t
estimate_list(struct part *part, struct where_list *list)
{
    size_t least = SIZE_MAX;

    for (size_t i = 0; i < list->n_group; i++) {
        struct where_group *group = &list->groups[i];

        group->estimate = estimate_group(part, list, group);
        least = group->estimate < least ? group->estimate : least;
    }
    return least;
}

/* ---- Bitmaps ---- */

static anx_status select_list(struct exec *x, struct part *part, struct where_list *list,
                              roaring_bitmap_t *out, bool *is_exact);

/* Adds the rows of a node to *out. */
static anx_status
select_node(struct exec *x, struct part *part, struct where_node *node, roaring_bitmap_t *out, bool *is_exact)
{
    const roaring_bitmap_t *all = rows_all(part->ns->rows);
    roaring_bitmap_t *rows;
    anx_status st = ANX_OK;

    if (node->kind == WHERE_CONSTANT) {
        if (node->is_constant_true != node->is_negated)
            roaring_bitmap_or_inplace(out, all);
        return ANX_OK;
    }
    if (node->kind == WHERE_INDEX && !node->is_negated) {
        st = scalar_select(node->field->index->scalar, node->condition, &node->operand.values, out, x->err);
        node->matched = roaring_bitmap_get_cardinality(out);
        return st;
    }
    if (node->kind == WHERE_BITMAP && !node->is_negated) {
        roaring_bitmap_or_inplace(out, node->bitmap);
        return ANX_OK;
    }
    rows = roaring_bitmap_create();
    if (!rows)
        return exec_nomem(x);
    if (node->kind == WHERE_INDEX)
        st = scalar_select(node->field->index->scalar, node->condition, &node->operand.values, rows, x->err);
    else if (node->kind == WHERE_BITMAP)
        roaring_bitmap_or_inplace(rows, node->bitmap);
    else
        st = select_list(x, part, &node->list, rows, is_exact);
    if (node->is_negated) {
        roaring_bitmap_t *others = roaring_bitmap_andnot(all, rows);

        roaring_bitmap_free(rows);
        rows = others;
    }
    if (!rows)
        return exec_nomem(x);
    roaring_bitmap_or_inplace(out, rows);
    roaring_bitmap_free(rows);
    return st;
}

static anx_status
select_group(struct exec *x, struct part *part, struct where_list *list, const struct where_group *group,
             roaring_bitmap_t **out, bool *is_exact)
{
    anx_status st = ANX_OK;

    *out = exec_bitmap(x);
    if (!*out)
        return exec_nomem(x);
    for (size_t i = group->first; st == ANX_OK && i < group->first + group->n; i++)
        st = select_node(x, part, &list->nodes[i], *out, is_exact);
    return st;
}

static struct where_group *
next_group(struct where_list *list, const bool *is_done)
{
    struct where_group *best = NULL;

    for (size_t i = 0; i < list->n_group; i++)
        if (!is_done[i] && list->groups[i].estimate != SIZE_MAX &&
            (!best || list->groups[i].estimate < best->estimate))
            best = &list->groups[i];
    return best;
}

/* Intersects groups from the smallest up, while a bitmap is cheaper than asking the rows left. *rows NULL: no
 * group was taken, all rows are candidates. settles: marks groups that need not be asked again. */
static anx_status
intersect_groups(struct exec *x, struct part *part, struct where_list *list, bool settles,
                 roaring_bitmap_t **rows, bool *is_exact)
{
    bool *is_done = anx_arena_array(x->arena, list->n_group, sizeof(*is_done));
    size_t n_taken = 0;
    struct where_group *group;

    *rows = NULL;
    *is_exact = true;
    if (!is_done)
        return exec_nomem(x);
    while ((group = next_group(list, is_done)) != NULL) {
        roaring_bitmap_t *found = NULL;
        bool is_group_exact = true;
        anx_status st;

        if (*rows && roaring_bitmap_get_cardinality(*rows) < group->estimate / ROWS_PER_ASK)
            break;
        st = select_group(x, part, list, group, &found, &is_group_exact);
        if (st != ANX_OK)
            return st;
        if (*rows)
            roaring_bitmap_and_inplace(*rows, found);
        else
            *rows = found;
        is_done[group - list->groups] = true;
        group->is_settled = settles && is_group_exact;
        *is_exact &= is_group_exact;
        n_taken++;
    }
    *is_exact &= n_taken == list->n_group;
    return ANX_OK;
}

/* A bracket inside of a group: its superset is added to *out. */
static anx_status
select_list(struct exec *x, struct part *part, struct where_list *list, roaring_bitmap_t *out, bool *is_exact)
{
    roaring_bitmap_t *rows;
    bool is_list_exact;
    anx_status st = intersect_groups(x, part, list, false, &rows, &is_list_exact);

    if (st != ANX_OK)
        return st;
    *is_exact &= is_list_exact;
    roaring_bitmap_or_inplace(out, rows ? rows : rows_all(part->ns->rows));
    return ANX_OK;
}

/* ---- The primary key ---- */

static int
compare_rows(const void *a, const void *b)
{
    uint32_t x = *(const uint32_t *) a, y = *(const uint32_t *) b;

    return x < y ? -1 : x > y;
}

static const struct where_node *
find_key_term(const struct part *part, struct where_group **out)
{
    const struct where_list *list = &part->where;

    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_node *node = &list->nodes[list->groups[i].first];

        if (list->groups[i].n == 1 && node->kind == WHERE_INDEX && !node->is_negated &&
            part->ns->pk < part->ns->n_index && node->field->index == &part->ns->indexes[part->ns->pk] &&
            (node->condition == COND_EQ || node->condition == COND_SET) && node->operand.values.n <= FEW) {
            *out = &list->groups[i];
            return node;
        }
    }
    return NULL;
}

/* A few values of the primary key: at most that many rows, without a bitmap. */
static anx_status
select_by_key(struct exec *x, struct part *part, struct candidates *out, bool *is_done)
{
    struct where_group *group = NULL;
    const struct where_node *node = find_key_term(part, &group);
    uint32_t *rows;
    size_t n = 0, n_unique = 0;

    *is_done = node != NULL;
    if (!node)
        return ANX_OK;
    rows = anx_arena_array(x->arena, node->operand.values.n, sizeof(*rows));
    if (!rows)
        return exec_nomem(x);
    for (size_t i = 0; i < node->operand.values.n; i++)
        n += scalar_find(node->field->index->scalar, &node->operand.values.items[i], &rows[n]);
    qsort(rows, n, sizeof(*rows), compare_rows);
    for (size_t i = 0; i < n; i++)
        if (n_unique == 0 || rows[n_unique - 1] != rows[i])
            rows[n_unique++] = rows[i];
    group->is_settled = true;
    *out = (struct candidates) { .kind = CANDIDATES_FEW, .few = rows, .n = n_unique };
    out->is_exact = part->where.n_group == 1;
    return ANX_OK;
}

/* ---- From outside ---- */

/* Asking rows in order until enough match: how many will that be? */
static size_t
scan_cost(size_t need, size_t all, size_t estimate)
{
    if (need == SIZE_MAX || estimate == 0 || estimate == SIZE_MAX)
        return SIZE_MAX;
    return need > SIZE_MAX / (all + 1) ? SIZE_MAX : need * all / estimate;
}

size_t
where_estimate(struct part *part)
{
    return estimate_list(part, &part->where);
}

anx_status
where_select(struct exec *x, struct part *part, size_t need, struct candidates *out)
{
    struct where_list *list = &part->where;
    size_t all = rows_count(part->ns->rows), least;
    roaring_bitmap_t *rows = NULL;
    bool is_done;
    anx_status st;

    *out = (struct candidates) { .kind = CANDIDATES_ALL, .n = all, .is_exact = list->n_group == 0 };
    if (list->n_group == 0)
        return ANX_OK;
    st = select_by_key(x, part, out, &is_done);
    if (st != ANX_OK || is_done)
        return st;
    least = estimate_list(part, list);
    if (least == SIZE_MAX || scan_cost(need, all, least) < least / ROWS_PER_ASK)
        return ANX_OK;
    st = intersect_groups(x, part, list, true, &rows, &out->is_exact);
    if (st != ANX_OK)
        return st;
    out->kind = CANDIDATES_BITMAP;
    out->bitmap = rows;
    out->n = roaring_bitmap_get_cardinality(rows);
    return ANX_OK;
}

/* The candidates that match, of any kind of candidates. */
static anx_status
filter_candidates(struct exec *x, struct part *part, const struct candidates *candidates,
                  roaring_bitmap_t *out)
{
    const roaring_bitmap_t *from =
        candidates->kind == CANDIDATES_BITMAP ? candidates->bitmap : rows_all(part->ns->rows);
    roaring_uint32_iterator_t at;

    if (candidates->kind == CANDIDATES_FEW) {
        for (size_t i = 0; i < candidates->n && exec_goes_on(x); i++)
            if (where_match(x, &part->where, candidates->few[i]))
                roaring_bitmap_add(out, candidates->few[i]);
        return x->status;
    }
    roaring_init_iterator(from, &at);
    for (; at.has_value && exec_goes_on(x); roaring_advance_uint32_iterator(&at))
        if (where_match(x, &part->where, at.current_value))
            roaring_bitmap_add(out, at.current_value);
    return x->status;
}

anx_status
where_rows(struct exec *x, struct part *part, const roaring_bitmap_t **out)
{
    struct candidates candidates;
    roaring_bitmap_t *rows;
    anx_status st;

    *out = NULL;
    if (part->where.n_group == 0)
        return ANX_OK;
    st = where_select(x, part, SIZE_MAX, &candidates);
    if (st != ANX_OK)
        return st;
    if (candidates.kind == CANDIDATES_BITMAP && candidates.is_exact) {
        *out = candidates.bitmap;
        return ANX_OK;
    }
    rows = exec_bitmap(x);
    if (!rows)
        return exec_nomem(x);
    *out = rows;
    return filter_candidates(x, part, &candidates, rows);
}
