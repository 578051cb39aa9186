/* Rows of one element kind: are they well formed, how far are they from a query, what are they as floats.
 *
 *     struct row_space space = row_space_make(&params, kernels);
 *     struct row_query q = row_query_make(&space, query);
 *     row_distances(&space, &q, rows, inverse_norms, n, out);
 *
 * Distances are those of the contract (annex/index.h). Cosine keeps 1 / |row| beside the rows, so that a
 * distance costs one dot product; 0 stands for a row of length zero. Threads: everything here is pure. */
#ifndef ANX_ANN_ROWS_H
#define ANX_ANN_ROWS_H

#include "annex/index.h"
#include "kernel/kernel.h"

struct row_space {
    const anx_kernels *kernels;
    anx_metric metric;
    anx_scalar scalar;
    size_t dim, row_size;
    anx_dist_fn distance; /* minus the dot product for cosine, the metric's own distance otherwise */
};

struct row_query {
    const void *row;    /* borrowed */
    float inverse_norm; /* cosine only */
};

struct row_space row_space_make(const anx_index_params *params, const anx_kernels *kernels);
/* 1 / length; 0 for a row of length zero. */
float row_inverse_norm(const struct row_space *space, const void *row);
struct row_query row_query_make(const struct row_space *space, const void *row);

static inline float
row_distance(const struct row_space *space, const struct row_query *query, const void *row,
             float inverse_norm)
{
    float d = space->distance(query->row, row, space->dim);

    return space->metric == ANX_METRIC_COSINE ? 1 + d * query->inverse_norm * inverse_norm : d;
}
/* Distances to n rows that follow each other; inverse_norms [n] may be NULL unless cosine. out [n]. */
void row_distances(const struct row_space *space, const struct row_query *query, const void *rows,
                   const float *inverse_norms, size_t n, float *out);
/* The row as dim floats; bits become -1 and +1. */
void row_widen(const struct row_space *space, const void *row, float *out);

/* ANX_E_VALUE, naming row (when n > 1) and component, when one is NaN or infinite, or when spare bits of a b1
 * row are set. */
ANX_NODISCARD anx_status rows_check(anx_scalar scalar, size_t dim, size_t n, const void *vectors,
                                    anx_error *err);

#endif
