/* Vector indexes: exact (flat), graph (hnsw) and inverted lists (ivf), behind one contract.
 *
 *     anx_index_params params = ANX_INDEX_PARAMS_INIT;
 *     params.kind = ANX_INDEX_HNSW, params.metric = ANX_METRIC_COSINE, params.dim = 384;
 *     anx_index_create(&params, &index, &err);
 *     anx_index_add_batch(index, n, labels, vectors, &err);          // bulk: every core
 *     anx_index_search(index, &search, n_queries, queries, k, &hits, &err);
 *
 * Rows and queries are passed in the index's own element kind (`params.scalar`), row-major, one row per
 * vector. A label is the caller's 64-bit id; ANX_LABEL_NONE is reserved. A label is present at most once.
 *
 * A distance is smaller when nearer, for every metric:
 *     l2       sum of squared differences, no root
 *     ip       minus the dot product
 *     cosine   1 - cosine of the angle; 1 when either vector has length zero
 *     hamming  number of differing bits
 *
 * Vectors with NaN or infinity are refused (ANX_E_VALUE, which names the component); so is a wrong dimension
 * where the call knows one (ANX_E_DIM). A zero vector is accepted by every metric; under cosine it is at
 * distance 1 from all.
 *
 * Threads: any number of searches, iterators, adds and removes may run at once on hnsw; on flat and ivf
 * searches run at once with each other, and a writer waits for them. create, destroy, load and save: nothing
 * else on that index at the same time (save: searches may run).
 *
 * Files: index_file.h. A load checks everything; on a mapped hnsw file link ids are checked as they are used.
 */
#ifndef ANNEX_INDEX_H
#define ANNEX_INDEX_H

#include <stdint.h>

#include "annex/alloc.h"
#include "annex/io.h"
#include "annex/status.h"

#ifdef __cplusplus
extern "C" {
#endif

#define ANX_LABEL_NONE UINT64_MAX
#define ANX_DIM_MAX 65536 /* components; bits for ANX_SCALAR_B1 */

typedef struct anx_index anx_index;

typedef enum anx_index_kind {
    ANX_INDEX_FLAT,
    ANX_INDEX_HNSW,
    ANX_INDEX_IVF,
    ANX_INDEX_KIND_COUNT
} anx_index_kind;

typedef enum anx_metric {
    ANX_METRIC_L2,
    ANX_METRIC_IP,
    ANX_METRIC_COSINE,
    ANX_METRIC_HAMMING, /* only with ANX_SCALAR_B1, and B1 only with it */
    ANX_METRIC_COUNT
} anx_metric;

typedef enum anx_scalar {
    ANX_SCALAR_F32, /* float */
    ANX_SCALAR_F16, /* IEEE 754 binary16 as uint16_t */
    ANX_SCALAR_I8,
    ANX_SCALAR_U8,
    ANX_SCALAR_B1, /* packed bits, the most significant bit of each byte first; a row is (dim + 7) / 8 bytes,
                      spare bits 0 */
    ANX_SCALAR_COUNT
} anx_scalar;

/* Bytes of one row. */
ANX_API size_t anx_row_size(anx_scalar scalar, size_t dim);
ANX_API const char *anx_metric_name(anx_metric metric);       /* "l2", "ip", "cosine", "hamming" */
ANX_API const char *anx_scalar_name(anx_scalar scalar);       /* "f32", "f16", "i8", "u8", "b1" */
ANX_API const char *anx_index_kind_name(anx_index_kind kind); /* "flat", "hnsw", "ivf" */
/* Also accepted: "l2sq", "inner_product", "cos". False: no such name, *out unchanged. */
ANX_API bool anx_metric_parse(const char *name, anx_metric *out);
ANX_API bool anx_scalar_parse(const char *name, anx_scalar *out);
ANX_API bool anx_index_kind_parse(const char *name, anx_index_kind *out);

#define ANX_HNSW_M_DEFAULT 16
#define ANX_HNSW_M_MIN 2
#define ANX_HNSW_M_MAX 128
#define ANX_HNSW_EF_CONSTRUCTION_DEFAULT 200
#define ANX_HNSW_EF_CONSTRUCTION_MIN 4
#define ANX_HNSW_EF_CONSTRUCTION_MAX 1024
#define ANX_IVF_CENTROIDS_DEFAULT 256
#define ANX_IVF_CENTROIDS_MAX 65536

/* How a graph keeps the rows. */
typedef enum anx_quantization {
    ANX_QUANTIZATION_NONE, /* rows are kept as given, beside the codes; answers are exact distances */
    /* Only 8-bit codes are kept; exact answers need `fetch`. A bulk build compares four times the partitions,
     * so that a walk with three quarters of the list finds as much; from 193 dimensions on the links of a
     * node at layer 0 are 2m instead of 3m. */
    ANX_QUANTIZATION_SQ8,
    /* For stores that keep rows elsewhere and take the finished graph over (ANX_FILE_GRAPH): 8-bit codes of a
     * range that suits rerank, and how far each row is from its code. Rows of equal codes count as one. Not
     * saved in other formats; degree is 2m. */
    ANX_QUANTIZATION_CODES
} anx_quantization;

/* The row of `label` in the index's element kind: a pointer that stays good until the next call with this
 * context, or `room` [one row] with the row in it; NULL when there is none (then the distance from the codes
 * stands). Called from any searching thread, holding no lock; a rebuild calls it while writers wait. Used to
 * rerank when quantization is SQ8. */
typedef const void *(*anx_fetch_fn)(void *context, uint64_t label, void *room);

typedef struct anx_index_params {
    anx_index_kind kind;
    anx_metric metric;
    anx_scalar scalar;
    size_t dim; /* 1..ANX_DIM_MAX, required */
    /* 0 means the default in every field below. */
    size_t capacity;        /* rows expected; only a hint */
    uint64_t seed;          /* same seed, one thread, same calls: the same graph */
    size_t threads;         /* for batches, training and flat/ivf search over several queries; 0: every CPU */
    size_t m;               /* hnsw */
    size_t ef_construction; /* hnsw: candidates of a single insert; bulk builds compare ef_construction / 100
                             * partitions (1..8): more take longer and search faster */
    size_t ef;              /* hnsw: default candidate list of a search; 0: 64 */
    size_t centroids;       /* ivf: number of lists, 1..65536 */
    size_t nprobe;          /* ivf: default lists of a search; 0: 1 */
    anx_quantization quantization;
    float quantile;         /* SQ8: 0.95..1; 0: automatic, clamp(1 - 1/(dim+1), 0.95, 1) */
    size_t sample_size;     /* SQ8: rows sampled for the range; 0: 20,000 */
    anx_fetch_fn fetch;     /* SQ8: may be NULL */
    void *fetch_context;    /* borrowed for the life of the index */
    const anx_alloc *alloc; /* NULL: process heap; borrowed for the life of the index */
} anx_index_params;
#define ANX_INDEX_PARAMS_INIT { ANX_INDEX_HNSW, ANX_METRIC_L2, ANX_SCALAR_F32, 0, 0, 0, 0, 0, 0, 0, 0, 0, \
                                ANX_QUANTIZATION_NONE, 0, 0, 0, 0, 0 }

/* An empty index. Errors: ANX_E_INVALID names the parameter, its value and its range; ANX_E_UNSUPPORTED for a
 * metric and scalar that do not go together; ANX_E_NOMEM. On failure *out is NULL. */
ANX_NODISCARD ANX_API anx_status anx_index_create(const anx_index_params *params, anx_index **out,
                                                  anx_error *err);
ANX_API void anx_index_destroy(anx_index *index); /* NULL is fine */

/* The parameters in force, defaults filled in. Lives as long as the index. */
ANX_API const anx_index_params *anx_index_get_params(const anx_index *index);

/* Adds one row. Errors: ANX_E_EXISTS (label is present), ANX_E_VALUE, ANX_E_NOMEM; then nothing changed. */
ANX_NODISCARD ANX_API anx_status anx_index_add(anx_index *index, uint64_t label, const void *vector,
                                               anx_error *err);

/* Adds n rows on params.threads threads; into an empty hnsw with many rows this is the bulk build, which is
 * many times faster than single inserts. labels [n], vectors [n rows]. All or nothing for bad input: every
 * row is checked first. */
ANX_NODISCARD ANX_API anx_status anx_index_add_batch(anx_index *index, size_t n, const uint64_t *labels,
                                                     const void *vectors, anx_error *err);

/* Bulk load of rows that arrive in pieces: begin, any number of rows, finish (or abort). Until finish the
 * index must be empty and answers nothing. Work that can be done early is done while rows arrive. `rows` may
 * be called from one thread at a time. */
typedef struct anx_loader anx_loader;
/* Called now and then from a building thread; phase is a constant string, done and total count rows. A false
 * return cancels. */
typedef bool (*anx_progress_fn)(void *context, const char *phase, size_t done, size_t total);
ANX_NODISCARD ANX_API anx_status anx_loader_begin(anx_index *index, size_t expected_rows, anx_loader **out,
                                                  anx_error *err);
ANX_NODISCARD ANX_API anx_status anx_loader_rows(anx_loader *loader, size_t n, const uint64_t *labels,
                                                 const void *vectors, anx_error *err);
/* Builds, and frees the loader whatever the result. On failure the index is empty. progress may be NULL. */
ANX_NODISCARD ANX_API anx_status anx_loader_finish(anx_loader *loader, anx_progress_fn progress,
                                                   void *context, anx_error *err);
ANX_API void anx_loader_abort(anx_loader *loader); /* NULL is fine; the index is empty again */

/* Removes a label. ANX_E_NOT_FOUND when absent. The row is gone from every search that begins afterwards. */
ANX_NODISCARD ANX_API anx_status anx_index_remove(anx_index *index, uint64_t label, anx_error *err);
/* Replaces the vector of a label, or adds it. */
ANX_NODISCARD ANX_API anx_status anx_index_update(anx_index *index, uint64_t label, const void *vector,
                                                  anx_error *err);
ANX_API bool anx_index_contains(const anx_index *index, uint64_t label);
/* Copies the stored row to vector [one row]. SQ8 without fetch: the decoded row. ANX_E_NOT_FOUND. */
ANX_NODISCARD ANX_API anx_status anx_index_get(const anx_index *index, uint64_t label, void *vector,
                                               anx_error *err);
/* Is that the vector of the label? Exact where rows or exact codes are kept; with codes alone: a vector that
 * has the same code. fetch is not asked. False when the label is absent. */
ANX_API bool anx_index_holds(const anx_index *index, uint64_t label, const void *vector);
ANX_API size_t anx_index_count(const anx_index *index);
/* The threads of coming batches and builds (0: every CPU). Nothing else on the index meanwhile. */
ANX_API void anx_index_set_threads(anx_index *index, size_t threads);

/* Which rows may be returned: a bitmap over labels, or a callback; bitmap wins when both are set. */
typedef struct anx_filter {
    const uint64_t *bitmap; /* bit l set: label l passes; borrowed for the call */
    size_t bits;            /* labels >= bits do not pass */
    bool (*accept)(void *context, uint64_t label);
    void *context;
    size_t expected; /* about how many rows pass; 0: unknown (a bitmap is then counted) */
} anx_filter;

typedef struct anx_search_params {
    size_t ef;     /* hnsw: candidate list; raised to k and a few more; 0: the default */
    size_t nprobe; /* ivf; 0: the index's default */
    float radius;  /* with has_radius only rows with distance < radius are returned */
    bool has_radius;
    const anx_filter *filter;       /* NULL: all rows pass */
    bool (*should_stop)(void *ctx); /* polled every few microseconds; true ends the call with ANX_E_CANCELLED;
                                       may be NULL */
    void *stop_context;
    void *fetch_context; /* SQ8: given to fetch in the place of params.fetch_context when not NULL; borrowed
                            for the call, or for the life of the iterator */
    size_t threads; /* over several queries; 0: one. With RX_IVF_MT=1 in the environment at create, ivf also
                       splits a single query (no filter, lists long enough to pay for it); then 0 means all
                       the index's threads */
    size_t within; /* anx_index_search on hnsw with a filter: only rows that are among the `within` nearest of
                      all rows, those that do not pass included; far cheaper than a search for that many;
                      0: no such limit. Ignored without a filter; other kinds and calls refuse it. */
} anx_search_params;
#define ANX_SEARCH_PARAMS_INIT { 0, 0, 0.0f, false, 0, 0, 0, 0, 0, 0 }

/* Where answers go. Both arrays are the caller's, [n_query * k]. A short answer is padded with ANX_LABEL_NONE
 * and +infinity. */
typedef struct anx_hits {
    float *distances;
    uint64_t *labels;
} anx_hits;

/* The k nearest stored vectors of each query, nearest first, ties by smaller label. params may be NULL.
 * Errors: ANX_E_INVALID (k = 0), ANX_E_VALUE, ANX_E_NOMEM, ANX_E_CANCELLED; contents of hits are then
 * unspecified.
 * Source: arXiv 1603.09320 algorithms 2 and 5; README of src/ann/hnsw for what differs. */
ANX_NODISCARD ANX_API anx_status anx_index_search(const anx_index *index, const anx_search_params *params,
                                                  size_t n_query, const void *queries, size_t k,
                                                  anx_hits *hits, anx_error *err);

/* A list that grows; free with anx_hit_list_free. Zero-initialize before use. */
typedef struct anx_hit_list {
    size_t n;
    float *distances; /* [n], owned */
    uint64_t *labels; /* [n], owned */
    size_t capacity;
} anx_hit_list;
ANX_API void anx_hit_list_free(anx_hit_list *list);

/* Every row with distance < params->radius (has_radius required), nearest first. Approximate on hnsw (grows
 * with ef) and ivf (grows with nprobe). The list is replaced. */
ANX_NODISCARD ANX_API anx_status anx_index_search_range(const anx_index *index,
                                                        const anx_search_params *params, const void *query,
                                                        anx_hit_list *list, anx_error *err);

/* Next-nearest without a limit: in nearly ascending order, every row exactly once if asked long enough. Rows
 * added or removed meanwhile may or may not be seen. One thread at a time per iterator. `query` is copied.
 * filter and radius apply. */
typedef struct anx_iter anx_iter;
ANX_NODISCARD ANX_API anx_status anx_iter_open(const anx_index *index, const anx_search_params *params,
                                               const void *query, anx_iter **out, anx_error *err);
/* Up to n further rows; *got < n only at the end. */
ANX_NODISCARD ANX_API anx_status anx_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got,
                                               anx_error *err);
ANX_API void anx_iter_close(anx_iter *iter); /* NULL is fine */

/* ivf: trains now, on `share` (0..1] of the rows, without stopping readers; other kinds: ANX_E_UNSUPPORTED.
 */
ANX_NODISCARD ANX_API anx_status anx_index_train(anx_index *index, double share, anx_error *err);
/* hnsw: rebuilds the graph from the live rows with the bulk build. */
ANX_NODISCARD ANX_API anx_status anx_index_rebuild(anx_index *index, anx_progress_fn progress, void *context,
                                                   anx_error *err);

typedef struct anx_index_stats {
    size_t count;        /* live rows */
    size_t slots;        /* rows of storage in use, deleted and not yet reused ones included */
    size_t memory_bytes; /* everything the index holds, rows for rerank included */
    size_t row_bytes;    /* of which: rows as given */
    size_t code_bytes;   /* of which: codes */
    size_t link_bytes;   /* of which: graph links */
    size_t max_level;    /* hnsw */
    size_t n_copies;     /* hnsw: rows that are exact copies of another row */
    bool is_trained;     /* ivf */
    float code_low, code_high; /* hnsw: what its 8-bit codes cover of each component of the turned rows; both
                                  0 while it has none or they are exact */
    const char *kernels; /* instruction set in use, e.g. "avx512" */
} anx_index_stats;
ANX_API void anx_index_get_stats(const anx_index *index, anx_index_stats *stats);

/* Verifies every invariant of the structure; ANX_E_CORRUPT says which is broken and where. No writer
 * meanwhile. */
ANX_NODISCARD ANX_API anx_status anx_index_check(const anx_index *index, anx_error *err);

#ifdef __cplusplus
}
#endif
#endif
