/* Filtered search: stays full and fast at every selectivity. */
#ifndef ANX_ANN_HNSW_FILTER_H
#define ANX_ANN_HNSW_FILTER_H

#include "ann/hnsw/search.h"

anx_status filter_search(const struct graph *g, struct scratch *scratch, const anx_search_params *params,
                         const void *query, size_t k, struct top_k *top, anx_error *err);

#endif
