/* MERGE: the rows of several queries as one result. */
#include <stdlib.h>

#include "base/error.h"
#include "db/merge_int.h"

/* Ranked queries may only be merged with their like, and are ordered by rank; others follow one another. */
anx_status
merge_check(struct exec *x, const struct query *query, struct part *const *parts, size_t n_part)
{
    if (n_part < 2)
        return ANX_OK;
    if (query->n_sort > 0 && !parts[0]->hybrid.is_set)
        return anx_fail(x->err, ANX_E_LOGIC, "Sorting cannot be applied to merged queries.");
    for (size_t i = 1; i < n_part; i++) {
        const char *first = part_rank_kind(parts[0]), *kind = part_rank_kind(parts[i]);

        if (parts[i]->query->n_sort > 0 && !parts[i]->hybrid.is_set)
            return anx_fail(x->err, ANX_E_PARAMS, "Sorting in inner merge query is not allowed");
        if (strcmp(first, kind) != 0)
            return anx_fail(
                x->err, ANX_E_NOT_VALID,
                "In merge query without sorting all subqueries should contain fulltext or knn with the "
                "same metric conditions at the same time: '%s' VS '%s'",
                first, kind);
        if (parts[i]->hybrid.is_descending != parts[0]->hybrid.is_descending)
            return anx_fail(x->err, ANX_E_NOT_VALID,
                            "All merging queries should have the same ordering (ASC or DESC)");
    }
    return ANX_OK;
}

static int
compare_merged(const void *a, const void *b, void *context)
{
    const struct merged_row *x = a, *y = b;
    const struct part *first = context;

    if (x->hit.rank != y->hit.rank)
        return (x->hit.rank < y->hit.rank) == part_prefers_small_ranks(first) ? -1 : 1;
    if (x->part != y->part)
        return x->part < y->part ? -1 : 1;
    return x->hit.row < y->hit.row ? -1 : x->hit.row > y->hit.row;
}

/* Takes the window out of the merged rows, and back to the parts, so that aggregations see what is shown. */
static void
cut(struct result *result, size_t limit, size_t offset)
{
    offset = offset < result->n_merged ? offset : result->n_merged;
    result->merged += offset;
    result->n_merged -= offset;
    result->n_merged = result->n_merged < limit ? result->n_merged : limit;
    for (size_t i = 0; i < result->n_part; i++)
        result->parts[i]->hits.n = 0;
    for (size_t i = 0; i < result->n_merged; i++) {
        struct hits *hits = &result->parts[result->merged[i].part]->hits;

        hits->items[hits->n++] = result->merged[i].hit;
    }
}

anx_status
merge_rows(struct result *result, const struct query *query)
{
    struct exec *x = &result->exec;
    struct part *first = result->parts[0];
    size_t n = 0, at = 0;

    for (size_t i = 0; i < result->n_part; i++)
        n += result->parts[i]->hits.n;
    result->merged = anx_arena_array(x->arena, n, sizeof(*result->merged));
    if (!result->merged)
        return exec_nomem(x);
    for (size_t i = 0; i < result->n_part; i++)
        for (size_t j = 0; j < result->parts[i]->hits.n; j++)
            result->merged[at++] = (struct merged_row) { (uint32_t) i, result->parts[i]->hits.items[j] };
    result->n_merged = n;
    if (part_is_ranked(first) && !first->knn.is_stream)
        qsort_r(result->merged, n, sizeof(*result->merged), compare_merged, first);
    cut(result, query->limit, query->offset);
    return ANX_OK;
}
