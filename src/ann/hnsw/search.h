/* Queries on the current graph. Threads: any number; each call brings its own scratch. */
#ifndef ANX_ANN_HNSW_SEARCH_H
#define ANX_ANN_HNSW_SEARCH_H

#include "ann/hnsw/hnsw_int.h"
#include "ann/hnsw/walk.h"

anx_status hnsw_search(const anx_index *index, const anx_search_params *params, const void *query, size_t k,
                       float *distances, uint64_t *labels, anx_error *err);
anx_status hnsw_search_range(const anx_index *index, const anx_search_params *params, const void *query,
                             anx_hit_list *list, anx_error *err);
anx_status hnsw_iter_open(const anx_index *index, const anx_search_params *params, const void *query, anx_iter **out,
                          anx_error *err);
anx_status hnsw_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err);
void hnsw_iter_close(anx_iter *iter);

/* --- shared by the files of the room --- */

/* Exact distance of a row from a query row. */
float search_distance(const struct graph *g, struct scratch *s, const void *query, uint32_t slot, uint64_t label);
/* All rows that pass filter and radius, unsorted, appended to list. */
anx_status search_scan(const struct graph *g, struct scratch *s, const anx_search_params *params, const void *query,
                       anx_hit_list *list, anx_error *err);

/* Hits of one row: its label and its copies' labels, each through filter and radius. */
struct hit_taker {
    const struct graph *g;
    struct scratch *scratch;
    const anx_search_params *params;
    const void *query;
    bool is_exact;      /* code distances are the answer */
    struct top_k *top;  /* or */
    anx_hit_list *list; /* one of the two */
    size_t n_taken;
    anx_status status;
};
/* Candidates beyond k that are measured on their rows: 8-bit codes put a true neighbor at most this far off its rank
 * (measured: 14 more at recall 0.95, 30 at 0.99). */
#define RERANK_MORE 24
/* The first `enough` candidates of a walk. */
void hits_take_nearest(struct hit_taker *t, const struct walk *w, size_t enough);
void search_make_query(const struct graph *g, struct scratch *s, const void *query, struct space_query *out);
/* One walk with a list of ef; w lives in the scratch. */
anx_status search_walk_graph(const struct graph *g, struct scratch *s, const anx_search_params *params,
                             const struct space_query *query, size_t ef, struct walk *w, anx_error *err);
/* code_distance is used as the distance when codes are exact. */
void hits_take(struct hit_taker *t, uint32_t slot, int32_t code_distance);

#endif
