/* The inside of a vector index of a namespace: a library index (include/annex/index.h), and per row how many
 * vectors it has under which generation of labels (data.h).
 *
 * A quantized index (quantization_config, hnsw) holds codes alone; its floats are in the store, or in
 * ns->pending until they are there. vector_floats.c reads them, vector_quantize.c goes from one to the other.
 */
#ifndef ANX_DB_VECTOR_INT_H
#define ANX_DB_VECTOR_INT_H

#include <stdatomic.h>

#include "annex/index.h"
#include "db/chunks.h"
#include "db/data.h"

#define ARRAY_LABEL_BITS 32
/* Of searches without `ef`. The protocol's default is k, which misses every tenth neighbor; of the ten
 * nearest among 60,187 texts 64 finds 0.966 and 128 finds 0.983. */
enum { VECTOR_EF_DEFAULT = 128 };

/* Reads floats for the library index (anx_fetch_fn). The one of an index is asked by its rebuilds, a search
 * has its own, which keeps one snapshot of the store open. */
struct vector_source {
    struct ns *ns; /* borrowed */
    uint32_t vector_field, dim;
    bool is_array;
    const struct vector_index *index; /* rows that changed since a label was made are told by its cells; NULL:
                                         not in its place yet, all labels are taken as current */
    struct store_read *read;          /* of a search; NULL: opened when needed */
    bool keeps_read;
};

/* The last measurement of an index (recall.h). */
struct recall_note {
    double recall;
    size_t k, ef, nprobe, queries, vectors;
    int64_t measured_at; /* Unix seconds; 0: never */
};

struct vector_index {
    const struct index_def *def; /* borrowed from the ns_index; changed by vector_reconfigure */
    struct ns *ns;               /* borrowed; immutable, as all up to dim */
    uint64_t serial;             /* tells it from all others of the process */
    uint32_t vector_field;
    bool is_array;
    anx_metric metric;
    uint32_t dim;
    /* Changed under data_lock with write_lock held. */
    anx_index *ann;               /* owned */
    struct vector_source *source; /* owned; what ann fetches from; NULL when the kind cannot be quantized */
    atomic_bool is_quantized;     /* ann has codes alone */
    roaring_bitmap_t
        *changed; /* owned; while a thread quantizes: rows published or removed since it looked
                     (which is why it may change this under data_lock shared: nobody else does) */
    /* The holder of write_lock's. */
    bool is_quantizing;              /* a thread is at it */
    uint64_t retry_ns;               /* not before then, after a failure */
    bool has_warned;                 /* that there is no storage */
    anx_index *next; /* owned; to take the place of ann in vector_reconfigure, or the old one */
    struct vector_source *next_source; /* owned */
    /* Guarded by data_lock, changed with write_lock held too. */
    struct chunks cells;     /* uint32_t per row: vectors << 1 | generation */
    roaring_bitmap_t *empty; /* rows that satisfy EMPTY */
    roaring_bitmap_t *any;   /* rows that satisfy ANY */
    uint64_t n_vector;       /* of published rows */
    struct recall_note recall; /* data_lock alone */
    /* The holder of write_lock's. */
    uint64_t *dead; /* owned: labels to remove when data_lock is released */
    size_t n_dead, dead_capacity;
};

/* Cells of rows that there is no room for read as 0. */
static inline uint32_t
vector_cell(const struct vector_index *v, uint32_t row)
{
    return row < chunks_end(&v->cells) ? *(const uint32_t *) chunks_at(&v->cells, row) : 0;
}

static inline uint64_t
vector_label(const struct vector_index *v, uint32_t row, uint32_t generation, uint32_t position)
{
    uint64_t base = (uint64_t) row * 2 + generation;

    return v->is_array ? base << ARRAY_LABEL_BITS | position : base;
}

/* Row, generation and position of a label. */
static inline void
vector_label_parts(bool is_array, uint64_t label, uint32_t *row, uint32_t *generation, uint32_t *position)
{
    uint64_t base = is_array ? label >> ARRAY_LABEL_BITS : label;

    *row = (uint32_t) (base >> 1);
    *generation = base & 1;
    *position = is_array ? (uint32_t) label : 0;
}

/* The row of a label when the label is of its current version; else false: not published yet, or any more. */
static inline bool
vector_label_row(const struct vector_index *v, uint64_t label, uint32_t *row)
{
    uint64_t base = v->is_array ? label >> ARRAY_LABEL_BITS : label;
    uint32_t cell;

    *row = (uint32_t) (base >> 1);
    cell = vector_cell(v, *row);
    return cell > 1 && (cell & 1) == (base & 1) &&
           (!v->is_array || (uint32_t) label < cell >> 1);
}

static inline float
vector_rank(anx_metric metric, float distance)
{
    if (metric == ANX_METRIC_L2)
        return distance;
    return metric == ANX_METRIC_IP ? 0 - distance : 1 - distance; /* 0 - 0 is 0 and not -0 */
}

/* ---- vector.c ---- */

/* A library index for the definition; is_quantized: of codes alone. *source is made for it where the kind
 * needs one. */
ANX_NODISCARD anx_status vector_ann_create(const struct vector_index *v, bool is_quantized, size_t threads,
                                           anx_index **ann, struct vector_source **source, anx_error *err);

/* ---- vector_floats.c ---- */

const void *vector_fetch(void *source, uint64_t label, void *room); /* an anx_fetch_fn */
struct vector_source vector_source_of(const struct vector_index *v); /* for one search */
void vector_source_fini(struct vector_source *source);
/* The floats of a row's published vectors, exactly. out [n][dim], n as in its cell. False: they are gone,
 * which is damage. Either lock. */
bool vector_floats(const struct vector_index *v, uint32_t row, uint32_t cell, float *out);
/* Remembers a version of a row until it is durable; nothing to do where floats are in memory. write_lock. */
void vector_remember(const struct vector_index *v, uint32_t row, uint32_t cell,
                     const struct doc_vectors *vectors);

/* A filter over labels for the rows of a bitmap. Fini frees its words. */
struct vector_filter {
    anx_filter filter;
    uint64_t *words; /* owned: over labels, or over rows for arrays */
    size_t n_bit;
    const struct vector_index *index;
};
ANX_NODISCARD anx_status vector_filter_init(struct vector_filter *filter, const struct vector_index *v,
                                            const roaring_bitmap_t *allowed, anx_error *err);
void vector_filter_fini(struct vector_filter *filter);

/* The KNN condition is one for this index (texts clients know). */
ANX_NODISCARD anx_status vector_check_knn(const struct vector_index *v, const struct query_knn *knn,
                                          bool is_streaming, anx_error *err);

#endif
