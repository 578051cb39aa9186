/* k-means (Lloyd 1957) over rows of an index.
 *
 * Ten iterations from centroids drawn from the sample, deterministic for a seed whatever the number of
 * threads. An empty cluster takes half of a large one, chosen with probability in proportion to its size.
 * Spherical: centroids are brought to length one after each step (inner product, cosine, bits), and points go
 * to the centroid with the largest dot product. Threads: pure computation on borrowed memory. */
#ifndef ANX_ANN_KMEANS_H
#define ANX_ANN_KMEANS_H

#include "ann/coder.h"
#include "ann/points.h"
#include "base/thread.h"

#define KMEANS_ITERATIONS 10     /* what FAISS and Reindexer do */
#define KMEANS_POINTS_MAX 256    /* sample points per centroid; more do not move the centroids (as above) */
#define KMEANS_POINTS_MIN 39     /* rows per centroid below which an index is not trained (as above) */

struct kmeans_params {
    size_t n_centroid;
    uint64_t seed;
    bool is_spherical;
    anx_pool *pool; /* borrowed */
    const anx_alloc *alloc;
};

/* centroids [n_centroid * dim]; points->n >= n_centroid. The coder was fitted to the points. ANX_E_NOMEM. */
ANX_NODISCARD anx_status kmeans_run(const struct kmeans_params *params, const struct coder *coder,
                                    const struct points *points, float *centroids, anx_error *err);
/* n of total row numbers, ascending, each at most once; slots [n]. */
void kmeans_sample(uint64_t seed, size_t total, size_t n, uint32_t *slots);

#endif
