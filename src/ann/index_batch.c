/* Many rows or many queries at once, for every kind: checks of a batch, the loader that keeps rows until
 * finish, and the spreading of queries over threads. */
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "ann/ann_int.h"
#include "ann/index_int.h"
#include "ann/labelmap.h"
#include "ann/rows.h"
#include "base/alloc.h"
#include "base/error.h"

#define CHECK_GRAIN 4096                        /* rows checked per turn of a worker */
#define CHECK_PARALLEL_SIZE \
    ((size_t) 8 << 20) /* bytes; below, waking the pool costs more than it saves (taste) */

/* The first failure of several threads; later ones are dropped. */
struct shared_error {
    atomic_bool
        failed; /* relaxed: only makes others stop early; the fields are read after the loop is over */
    pthread_mutex_t lock;
    anx_status status;
    anx_error *err; /* the caller's, may be NULL; under lock */
};

static void
shared_error_set(struct shared_error *shared, anx_status status, const anx_error *err)
{
    pthread_mutex_lock(&shared->lock);
    if (shared->status == ANX_OK) {
        shared->status = status;
        if (shared->err)
            *shared->err = *err;
    }
    pthread_mutex_unlock(&shared->lock);
    atomic_store_explicit(&shared->failed, true, memory_order_relaxed);
}

/* The pool when more than one worker would help, else NULL. */
static anx_pool *
pool_if(const anx_index *index, bool helps)
{
    return helps && index->params.threads > 1 ? index_pool(index) : NULL;
}

struct check_job {
    const anx_index *index;
    const uint8_t *vectors;
    size_t n;
    struct shared_error error;
};

static void
check_range(void *context, size_t begin, size_t end, size_t worker)
{
    struct check_job *job = context;
    const anx_index_params *p = &job->index->params;
    anx_error err;

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        const uint8_t *row = job->vectors + i * job->index->row_size;
        anx_status st = rows_check(p->scalar, p->dim, 1, row, &err);

        if (st == ANX_OK)
            continue;
        if (job->n > 1)
            anx_error_context(&err, "vector %zu", i);
        shared_error_set(&job->error, st, &err);
        return;
    }
}

static anx_status
check_vectors(const anx_index *index, size_t n, const void *vectors, anx_error *err)
{
    struct check_job job = { .index = index, .vectors = vectors, .n = n, .error = { .err = err } };
    anx_pool *pool = pool_if(index, n * index->row_size >= CHECK_PARALLEL_SIZE);

    if (!pool)
        return rows_check(index->params.scalar, index->params.dim, n, vectors, err);
    pthread_mutex_init(&job.error.lock, NULL);
    anx_pool_for(pool, n, CHECK_GRAIN, check_range, &job);
    pthread_mutex_destroy(&job.error.lock);
    return job.error.status;
}

static uint64_t
label_at(const void *context, uint32_t slot)
{
    return ((const uint64_t *) context)[slot];
}

static bool
is_ascending(size_t n, const uint64_t *labels)
{
    for (size_t i = 1; i < n; i++)
        if (labels[i - 1] >= labels[i])
            return false;
    return true;
}

/* No label twice in the batch. Ascending labels, the usual case, cost one pass and no memory. */
static anx_status
check_labels_differ(const anx_index *index, size_t n, const uint64_t *labels, anx_error *err)
{
    struct labelmap seen;
    anx_status st = ANX_OK;

    if (is_ascending(n, labels))
        return ANX_OK;
    labelmap_init(&seen, index->params.alloc);
    if (!labelmap_reserve(&seen, n, label_at, labels))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a table of %zu labels", n);
    for (size_t i = 0; i < n && st == ANX_OK; i++) {
        uint32_t other = labelmap_find(&seen, labels[i], label_at, labels);

        if (other != LABELMAP_NONE)
            st = anx_fail(err, ANX_E_EXISTS, "label %llu is given twice, for vectors %u and %zu",
                          (unsigned long long) labels[i], other, i);
        else if (!labelmap_insert(&seen, labels[i], (uint32_t) i, label_at, labels))
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate a table of %zu labels", n);
    }
    labelmap_fini(&seen);
    return st;
}

static anx_status
check_labels(const anx_index *index, size_t n, const uint64_t *labels, anx_error *err)
{
    bool is_empty = index->ops->count(index) == 0;

    if (n >= UINT32_MAX)
        return anx_fail(err, ANX_E_LIMIT, "batch has %zu vectors, must be at most %lu", n,
                        (unsigned long) UINT32_MAX - 1);
    for (size_t i = 0; i < n; i++) {
        anx_status st = index_check_label(labels[i], err);

        if (st == ANX_OK && !is_empty && index->ops->contains(index, labels[i]))
            st = anx_fail(err, ANX_E_EXISTS, "label %llu is already in the index",
                          (unsigned long long) labels[i]);
        if (st != ANX_OK) {
            anx_error_context(err, "vector %zu", i);
            return st;
        }
    }
    return check_labels_differ(index, n, labels, err);
}

/* Generic add_batch. A failure halfway (only memory can be one, all else was checked) takes the added rows
 * out again. */
static anx_status
add_one_by_one(anx_index *index, size_t n, const uint64_t *labels, const uint8_t *vectors, anx_error *err)
{
    for (size_t i = 0; i < n; i++) {
        anx_status st = index->ops->add(index, labels[i], vectors + i * index->row_size, err);

        if (st == ANX_OK)
            continue;
        while (i-- > 0)
            if (index->ops->remove(index, labels[i], NULL) != ANX_OK)
                continue; /* another thread removed it meanwhile: as good */
        return st;
    }
    return ANX_OK;
}

anx_status
anx_index_add_batch(anx_index *index, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    anx_status st = index_check_writable(index, err);

    if (st == ANX_OK)
        st = check_vectors(index, n, vectors, err);
    if (st == ANX_OK)
        st = check_labels(index, n, labels, err);
    if (st != ANX_OK || n == 0)
        return st;
    if (!index->ops->add_batch)
        return add_one_by_one(index, n, labels, vectors, err);
    return index->ops->add_batch(index, n, labels, vectors, err);
}

/* Generic loader: rows are kept, and given to add_batch at finish. */
struct generic_loader {
    anx_loader base;
    size_t n, capacity;
    uint64_t *labels; /* [capacity], owned */
    uint8_t *rows;    /* [capacity rows], owned */
};

static anx_status
generic_reserve(struct generic_loader *loader, size_t capacity, anx_error *err)
{
    const anx_index *index = loader->base.index;
    uint64_t *labels;
    uint8_t *rows;

    if (capacity <= loader->capacity)
        return ANX_OK;
    labels = anx_realloc_array(index->params.alloc, loader->labels, capacity, sizeof(*labels));
    if (!labels)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu labels", capacity);
    loader->labels = labels;
    rows = anx_realloc_array(index->params.alloc, loader->rows, capacity, index->row_size);
    if (!rows)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu rows of %zu bytes", capacity,
                        index->row_size);
    loader->rows = rows;
    loader->capacity = capacity;
    return ANX_OK;
}

static void
generic_abort(anx_loader *loader)
{
    struct generic_loader *generic = (struct generic_loader *) loader;
    const anx_alloc *alloc = loader->index->params.alloc;

    anx_free(alloc, generic->labels);
    anx_free(alloc, generic->rows);
    anx_free(alloc, generic);
}

static anx_status
generic_begin(anx_index *index, size_t expected, anx_loader **out, anx_error *err)
{
    struct generic_loader *loader = anx_alloc_zeroed(index->params.alloc, 1, sizeof(*loader));

    if (!loader)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a loader");
    loader->base = (anx_loader) { .index = index, .expected = expected };
    if (generic_reserve(loader, expected, NULL) != ANX_OK)
        loader->base.expected = 0; /* only a hint: rows find their room as they come */
    *out = &loader->base;
    return ANX_OK;
}

static anx_status
generic_rows(anx_loader *loader, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    struct generic_loader *generic = (struct generic_loader *) loader;
    size_t row_size = loader->index->row_size;
    anx_status st = ANX_OK;

    if (n > generic->capacity - generic->n)
        st = generic_reserve(generic, generic->n + n + generic->capacity / 2, err);
    if (st != ANX_OK)
        return st;
    memcpy(generic->labels + generic->n, labels, n * sizeof(*labels));
    memcpy(generic->rows + generic->n * row_size, vectors, n * row_size);
    generic->n += n;
    return ANX_OK;
}

static anx_status
generic_finish(anx_loader *loader, anx_progress_fn progress, void *context, anx_error *err)
{
    struct generic_loader *generic = (struct generic_loader *) loader;
    anx_status st = ANX_OK;

    if (progress && !progress(context, "adding", 0, generic->n))
        st = anx_fail(err, ANX_E_CANCELLED, "loading was cancelled before its %zu rows were added",
                      generic->n);
    if (st == ANX_OK)
        st = anx_index_add_batch(loader->index, generic->n, generic->labels, generic->rows, err);
    if (st == ANX_OK && progress)
        progress(context, "adding", generic->n, generic->n); /* done: too late to cancel */
    generic_abort(loader);
    return st;
}

anx_status
anx_loader_begin(anx_index *index, size_t expected_rows, anx_loader **out, anx_error *err)
{
    anx_status st = index_check_writable(index, err);
    size_t count = index->ops->count(index);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    if (count)
        return anx_fail(err, ANX_E_STATE, "the index has %zu rows, a bulk load needs an empty one", count);
    if (!index->ops->loader_begin)
        return generic_begin(index, expected_rows, out, err);
    return index->ops->loader_begin(index, expected_rows, out, err);
}

anx_status
anx_loader_rows(anx_loader *loader, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    const struct index_ops *ops = loader->index->ops;
    anx_status st = check_vectors(loader->index, n, vectors, err);

    for (size_t i = 0; i < n && st == ANX_OK; i++)
        st = index_check_label(labels[i], err);
    if (st != ANX_OK || n == 0)
        return st;
    return ops->loader_rows ? ops->loader_rows(loader, n, labels, vectors, err)
                            : generic_rows(loader, n, labels, vectors, err);
}

anx_status
anx_loader_finish(anx_loader *loader, anx_progress_fn progress, void *context, anx_error *err)
{
    const struct index_ops *ops = loader->index->ops;

    return ops->loader_finish ? ops->loader_finish(loader, progress, context, err)
                              : generic_finish(loader, progress, context, err);
}

void
anx_loader_abort(anx_loader *loader)
{
    if (!loader)
        return;
    if (loader->index->ops->loader_abort)
        loader->index->ops->loader_abort(loader);
    else
        generic_abort(loader);
}

struct search_job {
    const anx_index *index;
    anx_search_params params;
    const uint8_t *queries;
    size_t k;
    anx_hits *hits;
    struct shared_error error;
};

static anx_status
search_one(const struct search_job *job, const anx_search_params *params, size_t q, anx_error *err)
{
    return job->index->ops->search(job->index, params, job->queries + q * job->index->row_size, job->k,
                                   job->hits->distances + q * job->k, job->hits->labels + q * job->k, err);
}

static void
search_range_of_queries(void *context, size_t begin, size_t end, size_t worker)
{
    struct search_job *job = context;
    anx_search_params params = job->params;
    anx_error err;

    (void) worker;
    params.threads = 1; /* a kind must not use the pool from inside the pool */
    for (size_t q = begin; q < end; q++) {
        anx_status st;

        if (atomic_load_explicit(&job->error.failed, memory_order_relaxed))
            return;
        st = search_one(job, &params, q, &err);
        if (st != ANX_OK)
            shared_error_set(&job->error, st, &err);
    }
}

/* Queries cost unequal time, so workers take a few at a time; the grain bounds how many workers find work,
 * which is how `threads` below the size of the pool is kept. */
static anx_status
search_on_threads(struct search_job *job, anx_pool *pool, size_t n_query, anx_error *err)
{
    size_t n_thread = job->params.threads;
    size_t grain =
        n_thread < anx_pool_size(pool) ? (n_query + n_thread - 1) / n_thread : 1 + n_query / n_thread / 16;

    job->error.err = err;
    pthread_mutex_init(&job->error.lock, NULL);
    anx_pool_for(pool, n_query, grain, search_range_of_queries, job);
    pthread_mutex_destroy(&job->error.lock);
    return job->error.status;
}

anx_status
anx_index_search(const anx_index *index, const anx_search_params *params, size_t n_query, const void *queries,
                 size_t k, anx_hits *hits, anx_error *err)
{
    struct search_job job = { .index = index, .queries = queries, .k = k, .hits = hits };
    anx_status st = index_search_resolve(index, params, &job.params, err);
    anx_pool *pool;

    if (st == ANX_OK && k == 0)
        st = anx_fail(err, ANX_E_INVALID, "k is 0, must be at least 1");
    if (st == ANX_OK)
        st = rows_check(index->params.scalar, index->params.dim, n_query, queries, err);
    if (st != ANX_OK || n_query == 0)
        return st;
    if (n_query > 1 && index->ops->search_batch)
        return index->ops->search_batch(index, &job.params, n_query, queries, k, hits, err);
    pool = pool_if(index, n_query > 1 && job.params.threads > 1);
    if (pool)
        return search_on_threads(&job, pool, n_query, err);
    for (size_t q = 0; q < n_query && st == ANX_OK; q++)
        st = search_one(&job, &job.params, q, err);
    return st;
}
