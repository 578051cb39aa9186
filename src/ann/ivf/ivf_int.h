/* Inverted lists, inside.
 *
 * Rows stand in a row store (ann/store.h), in no order. Training adds a `struct ivf_lists`: centroids, and
 * per centroid a list of the codes, bases and slots of its rows. A search scans the codes of the lists
 * nearest to the query and compares the best candidates exactly with their rows; so rows never move when an
 * index is trained again, only the lists are replaced.
 *
 *     ivf ── store: labels, rows, inverse norms, map                   before training: searched exactly
 *       └─── lists: centroids ── coarse (codes of the centroids, itself an ivf_list)
 *                   list[c]: codes [n][stride] | bases [n] | slots [n]
 *                   places [slot]: (list, at)                          so that a row is removed in constant
 * time
 *
 * Locks: those of ann/guard.h. Everything reachable from `lists` changes only under guard_change, or is not
 * yet published. */
#ifndef ANX_ANN_IVF_INT_H
#define ANX_ANN_IVF_INT_H

#include "ann/ann_int.h"
#include "ann/shortlist.h"
#include "ann/coder.h"
#include "ann/guard.h"
#include "ann/store.h"
#include "base/thread.h"

struct ivf_list {
    uint32_t n, capacity;
    uint8_t
        *codes; /* [capacity * stride], 64-byte aligned; one block with the next two, owned unless mapped */
    int32_t *bases;  /* [capacity]; see coder_base */
    uint32_t *slots; /* [capacity] */
};

struct ivf_place {
    uint32_t list, at;
};

struct ivf_lists {
    size_t n_list, dim;
    size_t stride;    /* of the codes in lists */
    bool is_l2;       /* how centroids and rows are compared: else by dot product */
    bool is_bits;     /* codes are the rows themselves, keys hamming distances */
    bool is_lossless; /* every code decodes to its row: exact keys need no rerank */
    bool is_mapped;   /* codes, bases and slots of lists belong to a mapped file */
    float *centroids; /* [n_list * dim], owned */
    struct coder coder;        /* of rows; unused by bits */
    struct coder coarse_coder; /* of centroids */
    struct ivf_list coarse;    /* the centroids as a list; slot = centroid */
    struct ivf_list *lists;    /* [n_list], owned */
    struct ivf_place *places;  /* [n_place], owned; one per slot of the store */
    size_t n_place;
    uint64_t generation; /* differs for every training */
    const anx_alloc *alloc;
};

/* What a search needs beside the index; made once, reused. One thread at a time. */
struct ivf_scratch {
    struct ivf_scratch *next; /* in the free list */
    float *query;             /* [dim] the query as a point */
    float *work;              /* [2 * dim] */
    int8_t *weights;          /* [stride] of rows' codes, 64-byte aligned */
    int8_t *coarse_weights;   /* [coarse stride], 64-byte aligned */
    struct shortlist rows;
    struct shortlist centroids;
    float *list_distances; /* [n_list] of the chosen lists */
    uint64_t *list_order;  /* [n_list] numbers of the chosen lists, nearest first */
    uint8_t *visited;      /* [n_list] */
    size_t n_list;         /* what the arrays have room for */
};

struct ivf {
    anx_index head;
    struct guard guard;
    struct row_store store;   /* guard */
    struct ivf_lists *lists;  /* guard; NULL before training; owned */
    size_t train_at;          /* writer: rows that start the next training; raised when one fails */
    uint64_t n_training;      /* writer: numbers generations */
    bool is_multi_threaded;   /* RX_IVF_MT=1 at create; immutable */
    struct anx_spin scratch_lock;
    struct ivf_scratch
        *scratch; /* scratch_lock: free objects; owned. A leaf lock, held for a few instructions */
};

static inline bool
ivf_uses_l2(const anx_index *index)
{
    return index->params.metric == ANX_METRIC_L2;
}

/* ---- ivf_lists.c ---- */
/* Lists without rows around trained centroids, which are copied. For bits, coder may be NULL. The coder is
 * taken over. */
ANX_NODISCARD anx_status ivf_lists_create(const anx_index *index, const float *centroids, size_t n_list,
                                          struct coder *coder, struct ivf_lists **out, anx_error *err);
void ivf_lists_destroy(struct ivf_lists *lists); /* NULL is fine */
/* Puts all rows of the store, assigned [store->n], into empty lists, on all threads of the pool. */
ANX_NODISCARD anx_status ivf_lists_fill(struct ivf_lists *lists, const struct row_store *store,
                                        const uint32_t *assigned, anx_pool *pool, anx_error *err);
/* Room for one more in each of the n lists named (a list may be named more than once), and for n more places.
 */
ANX_NODISCARD anx_status ivf_lists_reserve(struct ivf_lists *lists, size_t n, const uint32_t *assigned,
                                           size_t n_slot, anx_error *err);
/* Places for n_slot rows; a part of ivf_lists_reserve. */
ANX_NODISCARD anx_status ivf_lists_reserve_places(struct ivf_lists *lists, size_t n_slot, anx_error *err);
/* Appends a row to a list that has room. work [2 * dim]. */
void ivf_lists_append(struct ivf_lists *lists, const struct row_store *store, uint32_t list, uint32_t slot,
                      float *work);
void ivf_lists_remove(struct ivf_lists *lists, uint32_t slot);
/* The row of slot `from` now has slot `to`. */
void ivf_lists_renumber(struct ivf_lists *lists, uint32_t from, uint32_t to);
/* Allocates room in one empty list. */
ANX_NODISCARD anx_status ivf_list_allocate(struct ivf_lists *lists, struct ivf_list *list, size_t stride,
                                           size_t n, anx_error *err);
size_t ivf_lists_memory(const struct ivf_lists *lists, size_t *code_size);
ANX_NODISCARD anx_status ivf_lists_check(const struct ivf_lists *lists, const struct row_store *store,
                                         anx_error *err);
/* Code and base of a row. work [2 * dim]. True when lossless. */
bool ivf_lists_encode(const struct ivf_lists *lists, const struct row_store *store, uint32_t slot,
                      float *work, uint8_t *code, int32_t *base);

/* ---- ivf_train.c ---- */
/* Trains on `share` of the rows when there are enough; otherwise nothing happens. Writer held; readers
 * continue. */
ANX_NODISCARD anx_status ivf_train_locked(struct ivf *ivf, double share, anx_error *err);
/* The nearest list of each of n rows. Writer held, index trained. */
ANX_NODISCARD anx_status ivf_assign_locked(struct ivf *ivf, size_t n, const void *vectors, uint32_t *out,
                                           anx_error *err);

/* ---- ivf_search.c ---- */
struct ivf_scratch *
ivf_scratch_acquire(const struct ivf *ivf, anx_error *err); /* NULL: ANX_E_NOMEM was set */
void ivf_scratch_release(const struct ivf *ivf, struct ivf_scratch *scratch);
void ivf_scratch_destroy_all(struct ivf *ivf);
/* Fills scratch->list_order with the n nearest lists, nearest first. Guard held, index trained, query
 * prepared. */
ANX_NODISCARD anx_status ivf_order_lists(const struct ivf *ivf, struct ivf_scratch *scratch, size_t n,
                                         anx_error *err);
/* Prepares scratch->query. */
void ivf_prepare_query(const struct ivf *ivf, struct ivf_scratch *scratch, const struct row_query *query);
/* Appends the rows of a list that pass filter and radius, with exact distances. */
ANX_NODISCARD anx_status ivf_collect_list(const struct ivf *ivf, const anx_search_params *params,
                                          const struct row_query *query, size_t list, anx_hit_list *out,
                                          anx_error *err);
anx_status ivf_search(const anx_index *index, const anx_search_params *params, const void *query, size_t k,
                      float *distances, uint64_t *labels, anx_error *err);
anx_status ivf_search_range(const anx_index *index, const anx_search_params *params, const void *query,
                            anx_hit_list *list, anx_error *err);

/* ---- ivf_iter.c ---- */
anx_status ivf_iter_open(const anx_index *index, const anx_search_params *params, const void *query,
                         anx_iter **out, anx_error *err);
anx_status ivf_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err);
void ivf_iter_close(anx_iter *iter);

/* ---- ivf.c ---- */
anx_status
ivf_create(const anx_index_params *params, const anx_kernels *kernels, anx_index **out, anx_error *err);
void ivf_destroy(anx_index *index);

#endif
