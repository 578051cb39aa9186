/* Exact search over a row store: what flat does always, and ivf before it is trained.
 * Threads: any number at once while nobody changes the store. */
#ifndef ANX_ANN_EXACT_H
#define ANX_ANN_EXACT_H

#include "ann/ann_int.h"
#include "ann/store.h"

/* The k nearest of n_query queries. pool: used for params->threads threads, over queries when there are
 * enough of them, else over rows; NULL: this thread does it. */
ANX_NODISCARD anx_status exact_search(const struct row_store *store, const anx_search_params *params,
                                      anx_pool *pool, size_t n_query, const void *queries, size_t k,
                                      anx_hits *hits, anx_error *err);
/* Replaces the list by the rows within params->radius, sorted. */
ANX_NODISCARD anx_status exact_range(const struct row_store *store, const anx_search_params *params,
                                     const void *query, anx_hit_list *list, anx_error *err);
/* Appends rows [begin, end) that pass filter and radius to the list, unsorted. */
ANX_NODISCARD anx_status exact_collect(const struct row_store *store, const anx_search_params *params,
                                       const struct row_query *query, size_t begin, size_t end,
                                       anx_hit_list *list, anx_error *err);
ANX_NODISCARD anx_status exact_fail_cancelled(anx_error *err);

/* May this row be returned, distance aside? */
static inline bool
exact_accepts(const anx_search_params *params, uint64_t label)
{
    return !params->filter || filter_accepts(params->filter, label);
}
static inline bool
exact_within(const anx_search_params *params, float distance)
{
    return !params->has_radius || distance < params->radius;
}

#endif
