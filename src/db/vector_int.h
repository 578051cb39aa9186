/* The inside of a vector index of a namespace: a library index (include/annex/index.h), and per row how many
 * vectors it has under which generation of labels (data.h). */
#ifndef ANX_DB_VECTOR_INT_H
#define ANX_DB_VECTOR_INT_H

#include "annex/index.h"
#include "db/chunks.h"
#include "db/data.h"

#define ARRAY_LABEL_BITS 32

struct vector_index {
    const struct index_def *def; /* borrowed from the ns_index; changed by vector_reconfigure */
    anx_index *ann;              /* owned */
    bool is_array;               /* immutable, as the next two */
    anx_metric metric;
    uint32_t dim;
    /* Guarded by data_lock, changed with write_lock held too. */
    struct chunks cells;     /* uint32_t per row: vectors << 1 | generation */
    roaring_bitmap_t *empty; /* rows that satisfy EMPTY */
    roaring_bitmap_t *any;   /* rows that satisfy ANY */
    uint64_t n_vector;       /* of published rows */
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
