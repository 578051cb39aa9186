/* Training, and finding lists for new rows.
 *
 * Training runs in the thread of the writer that caused it. It reads rows without the readers' lock, which is
 * safe because only the holder of `writer` changes them; readers stop only for the swap of one pointer. Its
 * threads are a pool of its own, so that searches which spread over the index's pool do not wait for a
 * k-means step. */
#include <stdlib.h>
#include <string.h>

#include "ann/assign.h"
#include "ann/ivf/ivf_int.h"
#include "ann/kmeans.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

#define THREADS_DEFAULT 8 /* of RX_IVF_OMP_THREADS, as Reindexer has it */
#define ASSIGN_PARALLEL 4096 /* rows from which starting threads pays (taste) */

/* RX_IVF_OMP_THREADS, never more than the CPUs nor than the index was given. Not a number, or 0: one. */
static size_t
training_threads(const anx_index *index)
{
    const char *text = getenv("RX_IVF_OMP_THREADS");
    size_t limit = THREADS_DEFAULT, n_cpu = anx_cpu_count();

    if (text) {
        char *end;
        unsigned long value = strtoul(text, &end, 10);

        limit = *text == '-' || *end || value == 0 ? 1 : value;
    }
    if (limit > n_cpu)
        limit = n_cpu;
    return limit < index->params.threads ? limit : index->params.threads;
}

static struct points
points_of_store(const struct row_store *store, const uint32_t *slots, size_t n)
{
    return (struct points){
        .space = &store->space,
        .rows = store->rows,
        .inverse_norms = store->inverse_norms,
        .slots = slots,
        .n = n,
    };
}

struct training {
    struct ivf *ivf;
    anx_pool *pool;     /* owned */
    uint32_t *slots;    /* [n_sample], owned */
    uint32_t *assigned; /* [n], owned */
    float *centroids;   /* owned */
    struct coder coder; /* owned until lists take it */
    struct ivf_lists *lists; /* owned until published */
};

static anx_status
allocate(struct training *t, size_t n_sample, anx_error *err)
{
    const anx_index_params *p = &t->ivf->head.params;

    t->pool = anx_pool_create(training_threads(&t->ivf->head));
    t->slots = anx_alloc_array(p->alloc, n_sample, sizeof(*t->slots));
    t->assigned = anx_alloc_array(p->alloc, t->ivf->store.n, sizeof(*t->assigned));
    t->centroids = anx_alloc_array(p->alloc, p->centroids * p->dim, sizeof(*t->centroids));
    if (!t->pool || !t->slots || !t->assigned || !t->centroids)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the training of %zu centroids", p->centroids);
    return ANX_OK;
}

/* Centroids and coder from a sample, then every row into its list. */
static anx_status
train(struct training *t, size_t n_sample, anx_error *err)
{
    struct ivf *ivf = t->ivf;
    const anx_index_params *p = &ivf->head.params;
    bool is_l2 = ivf_uses_l2(&ivf->head);
    struct kmeans_params kmeans = {
        .n_centroid = p->centroids,
        .seed = p->seed,
        .is_spherical = !is_l2,
        .pool = t->pool,
        .alloc = p->alloc,
    };
    struct points sample = points_of_store(&ivf->store, t->slots, n_sample);
    struct points all = points_of_store(&ivf->store, NULL, ivf->store.n);
    struct assigner assigner;
    anx_status st;

    kmeans_sample(p->seed, ivf->store.n, n_sample, t->slots);
    st = coder_fit(&t->coder, &sample, p->alloc, err);
    if (st == ANX_OK)
        st = kmeans_run(&kmeans, &t->coder, &sample, t->centroids, err);
    if (st == ANX_OK)
        st = assigner_init(&assigner, &t->coder, t->centroids, p->centroids, is_l2, p->alloc, err);
    if (st != ANX_OK)
        return st;
    st = assigner_run(&assigner, &all, NULL, t->pool, true, t->assigned, err);
    assigner_fini(&assigner);
    if (st == ANX_OK)
        st = ivf_lists_create(&ivf->head, t->centroids, p->centroids, &t->coder, &t->lists, err);
    if (st == ANX_OK)
        st = ivf_lists_fill(t->lists, &ivf->store, t->assigned, t->pool, err);
    return st;
}

static size_t
sample_size(const struct ivf *ivf, double share)
{
    size_t n = ivf->store.n, n_centroid = ivf->head.params.centroids;
    size_t n_sample = (size_t) ((double) n * share);

    if (n_sample < KMEANS_POINTS_MIN * n_centroid)
        n_sample = KMEANS_POINTS_MIN * n_centroid;
    if (n_sample > KMEANS_POINTS_MAX * n_centroid)
        n_sample = KMEANS_POINTS_MAX * n_centroid;
    return n_sample < n ? n_sample : n;
}

anx_status
ivf_train_locked(struct ivf *ivf, double share, anx_error *err)
{
    struct training t = { .ivf = ivf, .coder = { .alloc = ivf->head.params.alloc } };
    const anx_alloc *alloc = ivf->head.params.alloc;
    size_t n_sample = sample_size(ivf, share);
    anx_status st;

    if (ivf->store.n <= KMEANS_POINTS_MIN * ivf->head.params.centroids)
        return ANX_OK;
    st = allocate(&t, n_sample, err);
    if (st == ANX_OK)
        st = train(&t, n_sample, err);
    if (st == ANX_OK) {
        struct ivf_lists *old = ivf->lists;

        t.lists->generation = ++ivf->n_training;
        guard_change(&ivf->guard);
        ivf->lists = t.lists;
        guard_change_end(&ivf->guard);
        t.lists = old; /* no reader is left in it */
    }
    ivf_lists_destroy(t.lists);
    coder_fini(&t.coder);
    anx_free(alloc, t.slots);
    anx_free(alloc, t.assigned);
    anx_free(alloc, t.centroids);
    anx_pool_destroy(t.pool);
    return st;
}

/* One row: all centroids in f32. */
static void
assign_one(const struct ivf *ivf, const struct points *points, float *work, uint32_t *out)
{
    const struct ivf_lists *lists = ivf->lists;
    const anx_kernels *kernels = ivf->head.kernels;
    const float *x = points_get(points, 0, work);
    float distances[128], least = 0;

    *out = UINT32_MAX;
    for (size_t at = 0; at < lists->n_list; at += ANX_COUNT_OF(distances)) {
        size_t n =
            lists->n_list - at < ANX_COUNT_OF(distances) ? lists->n_list - at : ANX_COUNT_OF(distances);
        const float *rows = lists->centroids + at * lists->dim;

        (lists->is_l2 ? kernels->l2_f32_rows : kernels->ip_f32_rows)(x, rows, n, lists->dim, distances);
        for (size_t j = 0; j < n; j++)
            if (*out == UINT32_MAX || distances[j] < least) {
                least = distances[j];
                *out = (uint32_t) (at + j);
            }
    }
}

/* Bits have no coder in their lists; for assignment they are -1 and +1, which any unit coder keeps. */
static anx_status
coder_for_assignment(const struct ivf *ivf, const struct points *points, struct coder *own,
                     const struct coder **coder, anx_error *err)
{
    *own = (struct coder) { .alloc = ivf->head.params.alloc };
    *coder = &ivf->lists->coder;
    if (!ivf->lists->is_bits)
        return ANX_OK;
    *coder = own;
    return coder_fit(own, points, ivf->head.params.alloc, err);
}

static anx_status
assign_many(struct ivf *ivf, const struct points *points, uint32_t *out, anx_error *err)
{
    const struct ivf_lists *lists = ivf->lists;
    const anx_alloc *alloc = ivf->head.params.alloc;
    struct assigner assigner;
    const struct coder *coder;
    struct coder own;
    anx_pool *pool = NULL;
    anx_status st = coder_for_assignment(ivf, points, &own, &coder, err);

    if (st == ANX_OK)
        st = assigner_init(&assigner, coder, lists->centroids, lists->n_list, lists->is_l2, alloc, err);
    if (st == ANX_OK) {
        if (points->n >= ASSIGN_PARALLEL)
            pool = anx_pool_create(training_threads(&ivf->head)); /* NULL: this thread does it alone */
        st = assigner_run(&assigner, points, NULL, pool, true, out, err);
        anx_pool_destroy(pool);
        assigner_fini(&assigner);
    }
    coder_fini(&own);
    return st;
}

anx_status
ivf_assign_locked(struct ivf *ivf, size_t n, const void *vectors, uint32_t *out, anx_error *err)
{
    const struct points points = { .space = &ivf->store.space, .rows = vectors, .n = n };
    float *work;

    if (n >= 16) /* from here on encoding all centroids anew pays */
        return assign_many(ivf, &points, out, err);
    work = anx_alloc_array(ivf->head.params.alloc, ivf->lists->dim, sizeof(*work));
    if (!work)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a row of %zu components", ivf->lists->dim);
    for (size_t i = 0; i < n; i++) {
        struct points one = points;

        one.rows += i * ivf->head.row_size;
        assign_one(ivf, &one, work, &out[i]);
    }
    anx_free(ivf->head.params.alloc, work);
    return ANX_OK;
}
