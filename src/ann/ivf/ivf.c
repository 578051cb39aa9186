/* The inverted-list index: rows in a store, grouped by k-means once there are enough of them. See ivf_int.h
 * for the structure, ivf_train.c and ivf_search.c for the work. */
#include <stdlib.h>
#include <string.h>

#include "ann/index_int.h"
#include "ann/ivf/ivf_int.h"
#include "ann/kmeans.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

#define APPEND_BLOCK 1024 /* rows appended per hold of the readers' lock: some hundred microseconds */

static const struct ivf *
ivf_of(const anx_index *index)
{
    return (const struct ivf *) index;
}

static struct ivf *
ivf_mutable(anx_index *index)
{
    return (struct ivf *) index;
}

anx_status
ivf_create(const anx_index_params *params, const anx_kernels *kernels, anx_index **out, anx_error *err)
{
    struct ivf *ivf = anx_alloc_zeroed(params->alloc, 1, sizeof(*ivf));
    const char *mt = getenv("RX_IVF_MT");

    if (!ivf)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    index_head_init(&ivf->head, &anx_ivf_ops, params, kernels);
    store_init(&ivf->store, params, kernels);
    guard_init(&ivf->guard);
    ivf->train_at = KMEANS_POINTS_MIN * params->centroids + 1;
    ivf->is_multi_threaded = mt && !strcmp(mt, "1");
    *out = &ivf->head;
    return ANX_OK;
}

void
ivf_destroy(anx_index *index)
{
    struct ivf *ivf = ivf_mutable(index);

    ivf_scratch_destroy_all(ivf);
    ivf_lists_destroy(ivf->lists);
    guard_fini(&ivf->guard);
    store_fini(&ivf->store);
    anx_free(index->params.alloc, ivf);
}

/* Trains when there are enough rows. The rows are in the index already, so a failure does not fail the
 * caller: searches stay exact, and a tenth more rows try again. */
static void
train_if_due(struct ivf *ivf)
{
    anx_error err;

    if (ivf->lists || ivf->store.n < ivf->train_at)
        return;
    if (ivf_train_locked(ivf, 1, &err) == ANX_OK)
        return;
    ivf->train_at = ivf->store.n + ivf->store.n / 10 + 1;
    anx_log(ANX_LOG_WARN, "event=ivf_training_failed rows=%zu error=\"%s\"", ivf->store.n, err.message);
}

/* All labels absent? A batch came checked, but another writer may have been faster. */
static anx_status
check_absent(const struct ivf *ivf, size_t n, const uint64_t *labels, anx_error *err)
{
    for (size_t i = 0; i < n && ivf->store.n; i++)
        if (store_find(&ivf->store, labels[i]) != LABELMAP_NONE)
            return store_fail_exists(labels[i], err);
    return ANX_OK;
}

/* Appends rows for which there is room everywhere; readers get their turn between blocks. assigned and work:
 * NULL before training. */
static void
append_rows(struct ivf *ivf, size_t n, const uint64_t *labels, const uint8_t *vectors,
            const uint32_t *assigned, float *work)
{
    for (size_t at = 0; at < n; at += APPEND_BLOCK) {
        size_t end = at + APPEND_BLOCK < n ? at + APPEND_BLOCK : n;

        guard_change(&ivf->guard);
        for (size_t i = at; i < end; i++) {
            uint32_t slot = store_append(&ivf->store, labels[i], vectors + i * ivf->head.row_size);

            if (assigned)
                ivf_lists_append(ivf->lists, &ivf->store, assigned[i], slot, work);
        }
        guard_change_end(&ivf->guard);
    }
}

static anx_status
add_trained(struct ivf *ivf, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    const anx_alloc *alloc = ivf->head.params.alloc;
    uint32_t *assigned = anx_alloc_array(alloc, n, sizeof(*assigned));
    float *work = anx_alloc_array(alloc, 2 * ivf->lists->dim, sizeof(*work));
    anx_status st;

    if (!assigned || !work)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate the assignment of %zu rows", n);
    else
        st = ivf_assign_locked(ivf, n, vectors, assigned, err);
    if (st == ANX_OK) {
        guard_change(&ivf->guard);
        st = store_reserve(&ivf->store, n, err);
        if (st == ANX_OK)
            st = ivf_lists_reserve(ivf->lists, n, assigned, ivf->store.n + n, err);
        guard_change_end(&ivf->guard);
    }
    if (st == ANX_OK)
        append_rows(ivf, n, labels, vectors, assigned, work);
    anx_free(alloc, assigned);
    anx_free(alloc, work);
    return st;
}

static anx_status
add_locked(struct ivf *ivf, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    anx_status st = check_absent(ivf, n, labels, err);

    if (st != ANX_OK)
        return st;
    if (ivf->lists)
        return add_trained(ivf, n, labels, vectors, err);
    guard_change(&ivf->guard);
    st = store_reserve(&ivf->store, n, err);
    guard_change_end(&ivf->guard);
    if (st != ANX_OK)
        return st;
    append_rows(ivf, n, labels, vectors, NULL, NULL);
    train_if_due(ivf);
    return ANX_OK;
}

static anx_status
ivf_add_batch(anx_index *index, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    struct ivf *ivf = ivf_mutable(index);
    anx_status st;

    guard_prepare(&ivf->guard);
    st = add_locked(ivf, n, labels, vectors, err);
    guard_prepare_end(&ivf->guard);
    return st;
}

static anx_status
ivf_add(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    return ivf_add_batch(index, 1, &label, vector, err);
}

static anx_status
ivf_remove(anx_index *index, uint64_t label, anx_error *err)
{
    struct ivf *ivf = ivf_mutable(index);
    uint32_t slot;
    anx_status st;

    guard_prepare(&ivf->guard);
    st = store_locate(&ivf->store, label, &slot, err);
    if (st == ANX_OK) {
        guard_change(&ivf->guard);
        if (ivf->lists)
            ivf_lists_remove(ivf->lists, slot);
        if (store_remove(&ivf->store, slot) && ivf->lists)
            ivf_lists_renumber(ivf->lists, (uint32_t) ivf->store.n, slot);
        guard_change_end(&ivf->guard);
    }
    guard_prepare_end(&ivf->guard);
    return st;
}

/* The row keeps its slot and changes its list; readers see the old row or the new one. */
static anx_status
replace_trained(struct ivf *ivf, uint32_t slot, const void *vector, anx_error *err)
{
    const anx_alloc *alloc = ivf->head.params.alloc;
    float *work = anx_alloc_array(alloc, 2 * ivf->lists->dim, sizeof(*work));
    uint32_t list;
    anx_status st;

    if (!work)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a row of %zu components", ivf->lists->dim);
    st = ivf_assign_locked(ivf, 1, vector, &list, err);
    if (st == ANX_OK) {
        guard_change(&ivf->guard);
        st = ivf_lists_reserve(ivf->lists, 1, &list, ivf->store.n, err);
        if (st == ANX_OK) {
            ivf_lists_remove(ivf->lists, slot);
            store_set(&ivf->store, slot, vector);
            ivf_lists_append(ivf->lists, &ivf->store, list, slot, work);
        }
        guard_change_end(&ivf->guard);
    }
    anx_free(alloc, work);
    return st;
}

static anx_status
ivf_update(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    struct ivf *ivf = ivf_mutable(index);
    anx_status st = ANX_OK;
    uint32_t slot;

    guard_prepare(&ivf->guard);
    slot = store_find(&ivf->store, label);
    if (slot == LABELMAP_NONE) {
        st = add_locked(ivf, 1, &label, vector, err);
    } else if (ivf->lists) {
        st = replace_trained(ivf, slot, vector, err);
    } else {
        guard_change(&ivf->guard);
        store_set(&ivf->store, slot, vector);
        guard_change_end(&ivf->guard);
    }
    guard_prepare_end(&ivf->guard);
    return st;
}

static bool
ivf_contains(const anx_index *index, uint64_t label)
{
    const struct ivf *ivf = ivf_of(index);
    bool is_present;

    guard_read(&ivf->guard);
    is_present = store_find(&ivf->store, label) != LABELMAP_NONE;
    guard_read_end(&ivf->guard);
    return is_present;
}

static anx_status
ivf_get(const anx_index *index, uint64_t label, void *vector, anx_error *err)
{
    const struct ivf *ivf = ivf_of(index);
    uint32_t slot;
    anx_status st;

    guard_read(&ivf->guard);
    st = store_locate(&ivf->store, label, &slot, err);
    if (st == ANX_OK)
        memcpy(vector, store_row(&ivf->store, slot), index->row_size);
    guard_read_end(&ivf->guard);
    return st;
}

static size_t
ivf_count(const anx_index *index)
{
    const struct ivf *ivf = ivf_of(index);
    size_t n;

    guard_read(&ivf->guard);
    n = ivf->store.n;
    guard_read_end(&ivf->guard);
    return n;
}

static anx_status
ivf_train(anx_index *index, double share, anx_error *err)
{
    struct ivf *ivf = ivf_mutable(index);
    anx_status st;

    guard_prepare(&ivf->guard);
    st = ivf_train_locked(ivf, share, err);
    guard_prepare_end(&ivf->guard);
    return st;
}

static void
ivf_stats(const anx_index *index, anx_index_stats *stats)
{
    const struct ivf *ivf = ivf_of(index);

    guard_read(&ivf->guard);
    stats->count = stats->slots = ivf->store.n;
    stats->row_bytes = ivf->store.n * index->row_size;
    stats->memory_bytes = sizeof(*ivf) + store_memory(&ivf->store);
    stats->is_trained = ivf->lists != NULL;
    if (ivf->lists)
        stats->memory_bytes += ivf_lists_memory(ivf->lists, &stats->code_bytes);
    guard_read_end(&ivf->guard);
}

static anx_status
ivf_check(const anx_index *index, anx_error *err)
{
    const struct ivf *ivf = ivf_of(index);
    anx_status st;

    guard_read(&ivf->guard);
    st = store_check(&ivf->store, err);
    if (st == ANX_OK && ivf->lists)
        st = ivf_lists_check(ivf->lists, &ivf->store, err);
    guard_read_end(&ivf->guard);
    return st;
}

const struct index_ops anx_ivf_ops = {
    .name = "ivf",
    .kind = ANX_INDEX_IVF,
    .create = ivf_create,
    .destroy = ivf_destroy,
    .add = ivf_add,
    .add_batch = ivf_add_batch,
    .remove = ivf_remove,
    .update = ivf_update,
    .contains = ivf_contains,
    .get = ivf_get,
    .count = ivf_count,
    .search = ivf_search,
    .search_range = ivf_search_range,
    .iter_open = ivf_iter_open,
    .iter_next = ivf_iter_next,
    .iter_close = ivf_iter_close,
    .train = ivf_train,
    .stats = ivf_stats,
    .check = ivf_check,
};
