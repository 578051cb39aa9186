/* Queries on the current graph. Threads: any number; each call brings its own scratch. */
#ifndef ANX_ANN_HNSW_SEARCH_H
#define ANX_ANN_HNSW_SEARCH_H

#include "ann/hnsw/hnsw_int.h"
#include "ann/hnsw/walk.h"

anx_status hnsw_search(const anx_index *index, const anx_search_params *params, const void *query, size_t k,
                       float *distances, uint64_t *labels, anx_error *err);
anx_status hnsw_search_range(const anx_index *index, const anx_search_params *params, const void *query,
                             anx_hit_list *list, anx_error *err);
anx_status hnsw_iter_open(const anx_index *index, const anx_search_params *params, const void *query,
                          anx_iter **out, anx_error *err);
anx_status hnsw_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err);
void hnsw_iter_close(anx_iter *iter);

/* --- shared by the files of the room --- */

/* Exact distance of a row from a query row. */
float search_distance(const struct graph *g, struct scratch *s, const anx_search_params *params,
                      const void *query, uint32_t slot, uint64_t label);
/* All rows that pass filter and radius, unsorted, appended to list. */
anx_status search_scan(const struct graph *g, struct scratch *s, const anx_search_params *params,
                       const void *query, anx_hit_list *list, anx_error *err);

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
    float distance;     /* of the row that was measured last */
    float unit; /* of struct space_query: candidates that codes exclude are not measured; 0: all are */
    anx_status status;
};
/* How many candidates are measured on their rows: 8-bit codes put a true neighbor at most about this far off
 * its rank (measured: 14 more than k at recall 0.95, 30 at 0.99). With few dimensions a code says less, and
 * rows are as short as codes: then all are measured. */
#define RERANK_MORE 24
#define RERANK_ALL_SIZE 128 /* bytes of a row */
static inline size_t
rerank_count(const struct graph *g, const struct space_query *query, size_t k, size_t ef)
{
    if (query->is_exact)
        return k;
    return g->row_size <= RERANK_ALL_SIZE && ef > k + RERANK_MORE ? ef : k + RERANK_MORE;
}
/* Candidates in a row that may bring nothing before measuring stops. */
static inline size_t
rerank_patience(const struct graph *g, size_t ef)
{
    return g->row_size <= RERANK_ALL_SIZE ? SIZE_MAX : 6 + ef / 8;
}
/* Measures the candidates of a walk in order until `enough` were looked at or `patience` of them in a row
 * brought nothing. */
void hits_take_nearest(struct hit_taker *t, const struct walk *w, size_t enough, size_t patience);
void search_make_query(const struct graph *g, struct scratch *s, const void *query, struct space_query *out);
/* One walk with a list of ef; w lives in the scratch. */
anx_status search_walk_graph(const struct graph *g, struct scratch *s, const anx_search_params *params,
                             const struct space_query *query, size_t ef, struct walk *w, anx_error *err);
/* Labels of the copies of a row into s->hit_label; no lock is held afterwards. ANX_E_NOMEM. */
anx_status copies_of(const struct graph *g, struct scratch *s, uint32_t slot, size_t *n);
/* code_distance is used as the distance when codes are exact. */
void hits_take(struct hit_taker *t, uint32_t slot, int32_t code_distance);

#endif
