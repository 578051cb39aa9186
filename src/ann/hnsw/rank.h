/* Which hits of a filtered search are among the `within` nearest rows of all, those that do not pass included
 * (anx_search_params.within). */
#ifndef ANX_ANN_HNSW_RANK_H
#define ANX_ANN_HNSW_RANK_H

#include "ann/hnsw/search.h"

/* Drops the others from top, which stays a heap. code_query is NULL in a graph without links. ANX_E_NOMEM,
 * ANX_E_CANCELLED. */
anx_status rank_cut(const struct graph *g, struct scratch *scratch, const anx_search_params *params,
                    const void *query, const struct space_query *code_query, struct top_k *top,
                    anx_error *err);

#endif
