/* The front of every index: checks what the public header promises to check, fills in defaults, and calls the
 * kind. What a kind leaves out and can be had in a generic way (batches, loaders, several queries on several
 * threads) is in index_batch.c. */
#include "annex/index.h"

#include <math.h>
#include <pthread.h>
#include <string.h>

#include "ann/ann_int.h"
#include "ann/index_int.h"
#include "ann/rows.h"
#include "base/alloc.h"
#include "base/error.h"

#define SEED_DEFAULT 1234 /* what FAISS and Reindexer use for k-means */
#define HNSW_EF_DEFAULT 64
#define NPROBE_DEFAULT 1
#define THREADS_MAX 1024 /* taste; far above any machine we know */
#define SQ8_SAMPLE_DEFAULT 20000

/* Creating a pool is rare and takes longer than any wait for this lock, so that one serves all indexes. */
static pthread_mutex_t pool_lock = PTHREAD_MUTEX_INITIALIZER;

static anx_status
check_size(const char *name, size_t value, size_t min, size_t max, anx_error *err)
{
    if (value < min || value > max)
        return anx_fail(err, ANX_E_INVALID, "%s is %zu, must be %zu..%zu", name, value, min, max);
    return ANX_OK;
}

/* Sizes where 0 stands for a default. */
static anx_status
default_size(const char *name, size_t *value, size_t def, size_t min, size_t max, anx_error *err)
{
    if (*value == 0)
        *value = def;
    return check_size(name, *value, min, max, err);
}

static anx_status
check_enums(const anx_index_params *p, anx_error *err)
{
    if ((unsigned) p->kind >= ANX_INDEX_KIND_COUNT)
        return anx_fail(err, ANX_E_INVALID, "kind is %d, must be 0..%d", (int) p->kind,
                        ANX_INDEX_KIND_COUNT - 1);
    if ((unsigned) p->metric >= ANX_METRIC_COUNT)
        return anx_fail(err, ANX_E_INVALID, "metric is %d, must be 0..%d", (int) p->metric,
                        ANX_METRIC_COUNT - 1);
    if ((unsigned) p->scalar >= ANX_SCALAR_COUNT)
        return anx_fail(err, ANX_E_INVALID, "scalar is %d, must be 0..%d", (int) p->scalar,
                        ANX_SCALAR_COUNT - 1);
    if ((unsigned) p->quantization > ANX_QUANTIZATION_CODES)
        return anx_fail(err, ANX_E_INVALID, "quantization is %d, must be 0..%d", (int) p->quantization,
                        ANX_QUANTIZATION_CODES);
    if (p->quantization == ANX_QUANTIZATION_CODES && p->kind != ANX_INDEX_HNSW)
        return anx_fail(err, ANX_E_UNSUPPORTED, "quantization to codes is for hnsw indexes, not for %s",
                        anx_index_kind_name(p->kind));
    if ((p->metric == ANX_METRIC_HAMMING) != (p->scalar == ANX_SCALAR_B1))
        return anx_fail(err, ANX_E_UNSUPPORTED, "metric %s does not go with %s vectors",
                        anx_metric_name(p->metric), anx_scalar_name(p->scalar));
    return ANX_OK;
}

static anx_status
default_hnsw(anx_index_params *p, anx_error *err)
{
    anx_status st = default_size("m", &p->m, ANX_HNSW_M_DEFAULT, ANX_HNSW_M_MIN, ANX_HNSW_M_MAX, err);

    if (st == ANX_OK)
        st = default_size("ef_construction", &p->ef_construction, ANX_HNSW_EF_CONSTRUCTION_DEFAULT,
                          ANX_HNSW_EF_CONSTRUCTION_MIN, ANX_HNSW_EF_CONSTRUCTION_MAX, err);
    if (st == ANX_OK)
        st = default_size("ef", &p->ef, HNSW_EF_DEFAULT, 1, UINT32_MAX, err);
    return st;
}

static anx_status
default_ivf(anx_index_params *p, anx_error *err)
{
    anx_status st =
        default_size("centroids", &p->centroids, ANX_IVF_CENTROIDS_DEFAULT, 1, ANX_IVF_CENTROIDS_MAX, err);

    if (st == ANX_OK)
        st = default_size("nprobe", &p->nprobe, NPROBE_DEFAULT, 1, UINT32_MAX, err);
    return st;
}

static anx_status
default_sq8(anx_index_params *p, anx_error *err)
{
    if (p->kind != ANX_INDEX_HNSW)
        return anx_fail(err, ANX_E_UNSUPPORTED, "quantization sq8 is for hnsw indexes, not for %s",
                        anx_index_kind_name(p->kind));
    if (p->scalar == ANX_SCALAR_B1)
        return anx_fail(err, ANX_E_UNSUPPORTED, "quantization sq8 does not go with b1 vectors");
    if (p->quantile == 0)
        p->quantile = fminf(fmaxf(1 - 1 / ((float) p->dim + 1), 0.95f), 1);
    if (!(p->quantile >= 0.95f && p->quantile <= 1))
        return anx_fail(err, ANX_E_INVALID, "quantile is %g, must be 0.95..1", (double) p->quantile);
    if (p->sample_size == 0)
        p->sample_size = SQ8_SAMPLE_DEFAULT;
    return ANX_OK;
}

anx_status
index_params_resolve(anx_index_params *p, anx_error *err)
{
    anx_status st = check_enums(p, err);

    if (st == ANX_OK)
        st = check_size("dim", p->dim, 1, ANX_DIM_MAX, err);
    if (st == ANX_OK)
        st = default_size("threads", &p->threads, anx_cpu_count(), 1, THREADS_MAX, err);
    if (st == ANX_OK && p->kind == ANX_INDEX_HNSW)
        st = default_hnsw(p, err);
    if (st == ANX_OK && p->kind == ANX_INDEX_IVF)
        st = default_ivf(p, err);
    if (st == ANX_OK && p->quantization == ANX_QUANTIZATION_SQ8)
        st = default_sq8(p, err);
    if (p->seed == 0)
        p->seed = SEED_DEFAULT;
    return st;
}

anx_status
anx_index_create(const anx_index_params *params, anx_index **out, anx_error *err)
{
    anx_index_params resolved = *params;
    anx_status st = index_params_resolve(&resolved, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    return index_ops_find(resolved.kind)->create(&resolved, anx_kernels_best(), out, err);
}

void
index_head_init(anx_index *index, const struct index_ops *ops, const anx_index_params *params,
                const anx_kernels *kernels)
{
    index->ops = ops;
    index->params = *params;
    index->kernels = kernels;
    index->row_size = anx_row_size(params->scalar, params->dim);
    index->pool = NULL;
    index->is_mapped = false;
}

void
anx_index_destroy(anx_index *index)
{
    if (!index)
        return;
    anx_pool_destroy(index->pool);
    index->pool = NULL;
    index->ops->destroy(index);
}

anx_pool *
index_pool(const anx_index *index)
{
    anx_index *owner = (anx_index *) index; /* the pool is not part of what const promises */
    anx_pool *pool;

    pthread_mutex_lock(&pool_lock);
    if (!owner->pool)
        owner->pool = anx_pool_create(owner->params.threads);
    pool = owner->pool;
    pthread_mutex_unlock(&pool_lock);
    return pool;
}

const anx_index_params *
anx_index_get_params(const anx_index *index)
{
    return &index->params;
}

anx_status
index_check_writable(const anx_index *index, anx_error *err)
{
    anx_status st;

    if (!index->is_mapped)
        return ANX_OK;
    st = anx_fail(err, ANX_E_STATE, "the index is mapped from a file and cannot be changed");
    anx_error_hint(err, "load the file instead of mapping it");
    return st;
}

anx_status
index_check_label(uint64_t label, anx_error *err)
{
    if (label == ANX_LABEL_NONE)
        return anx_fail(err, ANX_E_INVALID, "label is %llu, which is reserved, must be 0..%llu",
                        (unsigned long long) label, (unsigned long long) ANX_LABEL_NONE - 1);
    return ANX_OK;
}

static anx_status
check_row_for_write(const anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    anx_status st = index_check_writable(index, err);

    if (st == ANX_OK)
        st = index_check_label(label, err);
    if (st == ANX_OK)
        st = rows_check(index->params.scalar, index->params.dim, 1, vector, err);
    return st;
}

anx_status
anx_index_add(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    anx_status st = check_row_for_write(index, label, vector, err);

    return st == ANX_OK ? index->ops->add(index, label, vector, err) : st;
}

anx_status
anx_index_remove(anx_index *index, uint64_t label, anx_error *err)
{
    anx_status st = index_check_writable(index, err);

    return st == ANX_OK ? index->ops->remove(index, label, err) : st;
}

anx_status
anx_index_update(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    anx_status st = check_row_for_write(index, label, vector, err);

    return st == ANX_OK ? index->ops->update(index, label, vector, err) : st;
}

bool
anx_index_contains(const anx_index *index, uint64_t label)
{
    return label != ANX_LABEL_NONE && index->ops->contains(index, label);
}

anx_status
anx_index_get(const anx_index *index, uint64_t label, void *vector, anx_error *err)
{
    return index->ops->get(index, label, vector, err);
}

bool
anx_index_holds(const anx_index *index, uint64_t label, const void *vector)
{
    void *row;
    bool holds;

    if (label == ANX_LABEL_NONE)
        return false;
    if (index->ops->holds)
        return index->ops->holds(index, label, vector);
    row = anx_alloc_bytes(index->params.alloc, index->row_size);
    holds = row && index->ops->get(index, label, row, NULL) == ANX_OK &&
            memcmp(row, vector, index->row_size) == 0;
    anx_free(index->params.alloc, row);
    return holds;
}

void
anx_index_set_threads(anx_index *index, size_t threads)
{
    index->params.threads = threads ? threads : anx_cpu_count();
    pthread_mutex_lock(&pool_lock);
    anx_pool_destroy(index->pool);
    index->pool = NULL;
    pthread_mutex_unlock(&pool_lock);
}

size_t
anx_index_count(const anx_index *index)
{
    return index->ops->count(index);
}

anx_status
index_search_resolve(const anx_index *index, const anx_search_params *given, anx_search_params *out,
                     anx_error *err)
{
    static const anx_search_params defaults = ANX_SEARCH_PARAMS_INIT;

    *out = given ? *given : defaults;
    if (out->ef == 0)
        out->ef = index->params.ef;
    if (out->nprobe == 0)
        out->nprobe = index->params.nprobe;
    if (out->nprobe > index->params.centroids)
        out->nprobe = index->params.centroids;
    if (out->has_radius && isnan(out->radius))
        return anx_fail(err, ANX_E_INVALID, "radius is NaN, must be a number");
    if (out->filter && !out->filter->bitmap && !out->filter->accept)
        return anx_fail(err, ANX_E_INVALID, "filter has neither a bitmap nor an accept function");
    if (out->within > 0 && index->params.kind != ANX_INDEX_HNSW)
        return anx_fail(err, ANX_E_UNSUPPORTED, "within is %zu, which is for hnsw indexes, not for %s",
                        out->within, anx_index_kind_name(index->params.kind));
    return ANX_OK;
}

static anx_status
refuse_within(const anx_search_params *params, const char *call, anx_error *err)
{
    return params->within == 0 ? ANX_OK
                               : anx_fail(err, ANX_E_UNSUPPORTED, "within is %zu, must be 0 for %s",
                                          params->within, call);
}

anx_status
anx_index_search_range(const anx_index *index, const anx_search_params *params, const void *query,
                       anx_hit_list *list, anx_error *err)
{
    anx_search_params resolved;
    anx_status st = index_search_resolve(index, params, &resolved, err);

    list->n = 0;
    if (st == ANX_OK)
        st = refuse_within(&resolved, "a range search", err);
    if (st == ANX_OK && !resolved.has_radius)
        st = anx_fail(err, ANX_E_INVALID, "has_radius is false, a range search needs a radius");
    if (st == ANX_OK)
        st = rows_check(index->params.scalar, index->params.dim, 1, query, err);
    return st == ANX_OK ? index->ops->search_range(index, &resolved, query, list, err) : st;
}

anx_status
anx_iter_open(const anx_index *index, const anx_search_params *params, const void *query, anx_iter **out,
              anx_error *err)
{
    anx_search_params resolved;
    anx_status st = index_search_resolve(index, params, &resolved, err);

    *out = NULL;
    if (st == ANX_OK)
        st = refuse_within(&resolved, "an iterator", err);
    if (st == ANX_OK)
        st = rows_check(index->params.scalar, index->params.dim, 1, query, err);
    return st == ANX_OK ? index->ops->iter_open(index, &resolved, query, out, err) : st;
}

anx_status
anx_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err)
{
    *got = 0;
    return n ? iter->index->ops->iter_next(iter, n, hits, got, err) : ANX_OK;
}

void
anx_iter_close(anx_iter *iter)
{
    if (iter)
        iter->index->ops->iter_close(iter);
}

anx_status
anx_index_train(anx_index *index, double share, anx_error *err)
{
    anx_status st = index_check_writable(index, err);

    if (st != ANX_OK)
        return st;
    if (!index->ops->train)
        return anx_fail(err, ANX_E_UNSUPPORTED, "%s indexes are not trained", index->ops->name);
    if (!(share > 0 && share <= 1))
        return anx_fail(err, ANX_E_INVALID, "share is %g, must be above 0 and at most 1", share);
    return index->ops->train(index, share, err);
}

anx_status
anx_index_rebuild(anx_index *index, anx_progress_fn progress, void *context, anx_error *err)
{
    anx_status st = index_check_writable(index, err);

    if (st != ANX_OK)
        return st;
    if (!index->ops->rebuild)
        return anx_fail(err, ANX_E_UNSUPPORTED, "%s indexes have no graph to rebuild", index->ops->name);
    return index->ops->rebuild(index, progress, context, err);
}

void
anx_index_get_stats(const anx_index *index, anx_index_stats *stats)
{
    memset(stats, 0, sizeof(*stats));
    index->ops->stats(index, stats);
    stats->kernels = index->kernels->name;
}

anx_status
anx_index_check(const anx_index *index, anx_error *err)
{
    return index->ops->check(index, err);
}
