/* k-means; see the header. Means are computed centroid by centroid over points sorted by centroid, so that
 * the sums do not depend on how points were spread over threads. */
#include "ann/kmeans.h"

#include <math.h>
#include <string.h>

#include "ann/assign.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"

#define ENCODE_GRAIN 512
#define SPLIT_SHIFT (1.0f / 1024) /* how far the halves of a split cluster move apart, relatively (FAISS) */

struct kmeans {
    const struct kmeans_params *params;
    const struct coder *coder;
    const struct points *points;
    size_t dim;
    float *centroids;
    int8_t *codes;      /* [n * stride], owned; NULL when floats are compared */
    uint32_t *assigned; /* [n], owned */
    uint32_t *order;    /* [n], owned: points by centroid */
    size_t *starts;     /* [n_centroid + 1], owned: where each centroid's points begin in order */
    float *work;        /* [n_worker * 2 * dim], owned */
};

/* Selection sampling (Knuth, Algorithm S): one pass, ascending, no table. */
void
kmeans_sample(uint64_t seed, size_t total, size_t n, uint32_t *slots)
{
    anx_rng rng = anx_rng_seed(seed);
    size_t taken = 0;

    for (size_t i = 0; taken < n; i++)
        if (anx_rng_below(&rng, (uint32_t) (total - i)) < n - taken)
            slots[taken++] = (uint32_t) i;
}

static void
encode_range(void *context, size_t begin, size_t end, size_t worker)
{
    const struct kmeans *km = context;

    assigner_encode(km->coder, km->points, begin, end, km->work + worker * 2 * km->dim,
                    km->codes + begin * km->coder->stride);
}

static void
normalize(const anx_kernels *kernels, float *x, size_t dim)
{
    float norm = sqrtf(kernels->norm2_f32(x, dim));

    for (size_t t = 0; t < dim && norm > 0; t++)
        x[t] /= norm;
}

/* The mean of the points of each centroid; empty ones keep their place until split_empty. */
static void
mean_range(void *context, size_t begin, size_t end, size_t worker)
{
    const struct kmeans *km = context;
    float *buffer = km->work + worker * 2 * km->dim;

    for (size_t c = begin; c < end; c++) {
        size_t n = km->starts[c + 1] - km->starts[c];
        float *centroid = km->centroids + c * km->dim;
        float scale = 1 / (float) n;

        if (n == 0)
            continue;
        memset(centroid, 0, km->dim * sizeof(*centroid));
        for (size_t i = km->starts[c]; i < km->starts[c + 1]; i++) {
            const float *x = points_get(km->points, km->order[i], buffer);

            for (size_t t = 0; t < km->dim; t++)
                centroid[t] += x[t] * scale;
        }
    }
}

/* Counting sort of points by centroid. */
static void
sort_points(struct kmeans *km)
{
    size_t n_centroid = km->params->n_centroid;

    memset(km->starts, 0, (n_centroid + 1) * sizeof(*km->starts));
    for (size_t i = 0; i < km->points->n; i++)
        km->starts[km->assigned[i] + 1]++;
    for (size_t c = 0; c < n_centroid; c++)
        km->starts[c + 1] += km->starts[c];
    for (size_t i = 0; i < km->points->n; i++)
        km->order[km->starts[km->assigned[i]]++] = (uint32_t) i;
    for (size_t c = n_centroid; c > 0; c--)
        km->starts[c] = km->starts[c - 1];
    km->starts[0] = 0;
}

/* A cluster without points becomes a near copy of a big one; the next iteration parts their points. */
static void
split_empty(struct kmeans *km, anx_rng *rng)
{
    for (size_t c = 0; c < km->params->n_centroid; c++) {
        float *empty = km->centroids + c * km->dim;
        const float *from;
        uint32_t donor;

        if (km->starts[c + 1] > km->starts[c])
            continue;
        donor = km->assigned[anx_rng_below(
            rng, (uint32_t) km->points->n)]; /* a random point: big clusters are likelier */
        from = km->centroids + donor * km->dim;
        for (size_t t = 0; t < km->dim; t++)
            empty[t] = from[t] * (t % 2 ? 1 + SPLIT_SHIFT : 1 - SPLIT_SHIFT);
    }
}

static anx_status
iterate(struct kmeans *km, anx_rng *rng, anx_error *err)
{
    const struct kmeans_params *p = km->params;
    struct assigner assigner;
    anx_status st =
        assigner_init(&assigner, km->coder, km->centroids, p->n_centroid, !p->is_spherical, p->alloc, err);

    if (st != ANX_OK)
        return st;
    st = assigner_run(&assigner, km->points, km->codes, p->pool, false, km->assigned, err);
    assigner_fini(&assigner);
    if (st != ANX_OK)
        return st;
    sort_points(km);
    anx_pool_for(p->pool, p->n_centroid, 1, mean_range, km);
    split_empty(km, rng);
    for (size_t c = 0; c < p->n_centroid && p->is_spherical; c++)
        normalize(km->coder->kernels, km->centroids + c * km->dim, km->dim);
    return ANX_OK;
}

/* Centroids start as points of the sample. */
static void
draw_centroids(struct kmeans *km)
{
    const struct kmeans_params *p = km->params;

    kmeans_sample(p->seed + 2, km->points->n, p->n_centroid, km->assigned);
    for (size_t c = 0; c < p->n_centroid; c++) {
        float *centroid = km->centroids + c * km->dim;
        const float *x = points_get(km->points, km->assigned[c], km->work);

        memcpy(centroid, x, km->dim * sizeof(*x));
        if (p->is_spherical)
            normalize(km->coder->kernels, centroid, km->dim);
    }
}

static bool
allocate(struct kmeans *km)
{
    const struct kmeans_params *p = km->params;
    size_t n = km->points->n, n_worker = anx_pool_size(p->pool);
    bool uses_codes = assigner_prefers_codes(km->coder);

    km->codes = uses_codes ? anx_alloc_aligned(p->alloc, n, km->coder->stride) : NULL;
    km->assigned = anx_alloc_array(p->alloc, n, sizeof(*km->assigned));
    km->order = anx_alloc_array(p->alloc, n, sizeof(*km->order));
    km->starts = anx_alloc_array(p->alloc, p->n_centroid + 1, sizeof(*km->starts));
    km->work = anx_alloc_array(p->alloc, n_worker * 2 * km->dim, sizeof(*km->work));
    return (!uses_codes || km->codes) && km->assigned && km->order && km->starts && km->work;
}

anx_status
kmeans_run(const struct kmeans_params *params, const struct coder *coder, const struct points *points,
           float *centroids, anx_error *err)
{
    struct kmeans km = {
        .params = params, .coder = coder, .points = points, .dim = coder->dim, .centroids = centroids,
    };
    anx_rng rng = anx_rng_seed(params->seed + 1);
    anx_status st = ANX_OK;

    ANX_ASSERT(points->n >= params->n_centroid);
    if (!allocate(&km)) {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate k-means over %zu points", points->n);
    } else {
        if (km.codes)
            anx_pool_for(params->pool, points->n, ENCODE_GRAIN, encode_range, &km);
        draw_centroids(&km);
        for (size_t i = 0; i < KMEANS_ITERATIONS && st == ANX_OK; i++)
            st = iterate(&km, &rng, err);
    }
    anx_free_aligned(params->alloc, km.codes);
    anx_free(params->alloc, km.assigned);
    anx_free(params->alloc, km.order);
    anx_free(params->alloc, km.starts);
    anx_free(params->alloc, km.work);
    return st;
}
