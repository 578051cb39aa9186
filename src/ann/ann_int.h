/* The inside of the vector index contract: what a kind exports. A kind is one const struct index_ops and a
 * line in registry.c; index.c checks every argument that the public header promises to check, then calls the
 * kind. */
#ifndef ANX_ANN_ANN_INT_H
#define ANX_ANN_ANN_INT_H

#include "annex/index.h"
#include "base/thread.h"
#include "kernel/kernel.h"

/* The head of every index; a kind's own struct starts with it. */
struct anx_index {
    const struct index_ops *ops;
    anx_index_params params;    /* defaults filled in; immutable after create, but for threads */
    const anx_kernels *kernels; /* chosen at create */
    size_t row_size;            /* bytes of one row as given */
    anx_pool *pool;             /* created on first use by index_pool(); owned */
    bool is_mapped;             /* read only; index.c refuses writers */
};

struct anx_loader {
    anx_index *index;
    size_t expected;
};

struct anx_iter {
    const anx_index *index;
};

/* Arguments arrive checked: finite vectors, label not NONE, k > 0, params never NULL, loaders on empty
 * indexes. NULL entries are optional: index.c answers ANX_E_UNSUPPORTED, or has a generic way (noted). */
struct index_ops {
    const char *name;
    anx_index_kind kind;
    anx_status (*create)(const anx_index_params *params, const anx_kernels *kernels, anx_index **out,
                         anx_error *err);
    void (*destroy)(anx_index *index); /* the kind's memory, and the struct itself */
    anx_status (*add)(anx_index *index, uint64_t label, const void *vector, anx_error *err);
    /* Generic: add one after the other. */
    anx_status (*add_batch)(anx_index *index, size_t n, const uint64_t *labels, const void *vectors,
                            anx_error *err);
    /* Loader; generic: rows are kept and given to add_batch at finish. */
    anx_status (*loader_begin)(anx_index *index, size_t expected, anx_loader **out, anx_error *err);
    anx_status (*loader_rows)(anx_loader *loader, size_t n, const uint64_t *labels, const void *vectors,
                              anx_error *err);
    anx_status (*loader_finish)(anx_loader *loader, anx_progress_fn progress, void *context, anx_error *err);
    void (*loader_abort)(anx_loader *loader);
    anx_status (*remove)(anx_index *index, uint64_t label, anx_error *err);
    anx_status (*update)(anx_index *index, uint64_t label, const void *vector, anx_error *err);
    bool (*contains)(const anx_index *index, uint64_t label);
    anx_status (*get)(const anx_index *index, uint64_t label, void *vector, anx_error *err);
    /* Generic: get, and compare. */
    bool (*holds)(const anx_index *index, uint64_t label, const void *vector);
    size_t (*count)(const anx_index *index);
    /* One query; labels/distances [k], padded. index.c loops and spreads queries over threads. */
    anx_status (*search)(const anx_index *index, const anx_search_params *params, const void *query, size_t k,
                         float *distances, uint64_t *labels, anx_error *err);
    /* Optional: several queries at once, faster than one by one (flat). */
    anx_status (*search_batch)(const anx_index *index, const anx_search_params *params, size_t n_query,
                               const void *queries, size_t k, anx_hits *hits, anx_error *err);
    anx_status (*search_range)(const anx_index *index, const anx_search_params *params, const void *query,
                               anx_hit_list *list, anx_error *err);
    anx_status (*iter_open)(const anx_index *index, const anx_search_params *params, const void *query,
                            anx_iter **out, anx_error *err);
    anx_status (*iter_next)(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err);
    void (*iter_close)(anx_iter *iter);
    anx_status (*train)(anx_index *index, double share, anx_error *err);
    anx_status (*rebuild)(anx_index *index, anx_progress_fn progress, void *context, anx_error *err);
    void (*stats)(const anx_index *index, anx_index_stats *stats); /* kernels is filled by index.c */
    anx_status (*check)(const anx_index *index, anx_error *err);
};

/* registry.c */
const struct index_ops *index_ops_find(anx_index_kind kind);
extern const struct index_ops anx_flat_ops, anx_hnsw_ops, anx_ivf_ops;

/* index.c: the index's job pool (params.threads workers), created on first use. NULL when out of memory. */
anx_pool *index_pool(const anx_index *index);

/* hits.c: the k best of a stream, with the order of the contract (distance, then label). Storage is the
 * caller's. */
struct top_k {
    float *distances; /* [k], a max-heap while filling */
    uint64_t *labels;
    size_t k, n;
};
static inline bool
hit_before(float da, uint64_t la, float db, uint64_t lb)
{
    return da < db || (da == db && la < lb);
}
void top_k_init(struct top_k *top, size_t k, float *distances, uint64_t *labels);
void top_k_offer(struct top_k *top, float distance, uint64_t label);
/* What a new hit must beat; +infinity while not full. */
float top_k_bound(const struct top_k *top);
void top_k_finish(struct top_k *top); /* sorts, pads */
anx_status hit_list_push(anx_hit_list *list, float distance, uint64_t label, anx_error *err);
void hit_list_sort(anx_hit_list *list);

static inline bool
filter_accepts(const anx_filter *filter, uint64_t label)
{
    if (filter->bitmap)
        return label < filter->bits && (filter->bitmap[label >> 6] >> (label & 63) & 1);
    return filter->accept(filter->context, label);
}

#endif
