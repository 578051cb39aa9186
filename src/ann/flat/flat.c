/* The exact index: every search compares the query with every row. A row store (ann/store.h) under the locks
 * of ann/guard.h; the scan itself is ann/exact.c. */
#include <string.h>

#include "ann/exact.h"
#include "ann/flat/flat_int.h"
#include "ann/hit_heap.h"
#include "ann/index_int.h"
#include "base/alloc.h"
#include "base/error.h"

static const struct flat *
flat_of(const anx_index *index)
{
    return (const struct flat *) index;
}

static struct flat *
flat_mutable(anx_index *index)
{
    return (struct flat *) index;
}

anx_status
flat_create(const anx_index_params *params, const anx_kernels *kernels, anx_index **out, anx_error *err)
{
    struct flat *flat = anx_alloc_zeroed(params->alloc, 1, sizeof(*flat));

    if (!flat)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    index_head_init(&flat->head, &anx_flat_ops, params, kernels);
    store_init(&flat->store, params, kernels);
    guard_init(&flat->guard);
    *out = &flat->head;
    return ANX_OK;
}

void
flat_destroy(anx_index *index)
{
    struct flat *flat = flat_mutable(index);

    guard_fini(&flat->guard);
    store_fini(&flat->store);
    anx_free(index->params.alloc, flat);
}

/* All labels absent? A batch came checked, but another writer may have been faster. */
static anx_status
check_absent(const struct flat *flat, size_t n, const uint64_t *labels, anx_error *err)
{
    for (size_t i = 0; i < n && flat->store.n; i++)
        if (store_find(&flat->store, labels[i]) != LABELMAP_NONE)
            return store_fail_exists(labels[i], err);
    return ANX_OK;
}

static anx_status
flat_add_batch(anx_index *index, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    struct flat *flat = flat_mutable(index);
    anx_status st;

    guard_prepare(&flat->guard);
    st = check_absent(flat, n, labels, err);
    if (st == ANX_OK) {
        guard_change(&flat->guard);
        st = store_reserve(&flat->store, n, err);
        for (size_t i = 0; i < n && st == ANX_OK; i++)
            store_append(&flat->store, labels[i], (const uint8_t *) vectors + i * index->row_size);
        guard_change_end(&flat->guard);
    }
    guard_prepare_end(&flat->guard);
    return st;
}

static anx_status
flat_add(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    return flat_add_batch(index, 1, &label, vector, err);
}

static anx_status
flat_remove(anx_index *index, uint64_t label, anx_error *err)
{
    struct flat *flat = flat_mutable(index);
    uint32_t slot;
    anx_status st;

    guard_prepare(&flat->guard);
    st = store_locate(&flat->store, label, &slot, err);
    if (st == ANX_OK) {
        guard_change(&flat->guard);
        store_remove(&flat->store, slot);
        guard_change_end(&flat->guard);
    }
    guard_prepare_end(&flat->guard);
    return st;
}

static anx_status
flat_update(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    struct flat *flat = flat_mutable(index);
    anx_status st = ANX_OK;
    uint32_t slot;

    guard_prepare(&flat->guard);
    slot = store_find(&flat->store, label);
    guard_change(&flat->guard);
    if (slot != LABELMAP_NONE)
        store_set(&flat->store, slot, vector);
    else
        st = store_reserve(&flat->store, 1, err);
    if (slot == LABELMAP_NONE && st == ANX_OK)
        store_append(&flat->store, label, vector);
    guard_change_end(&flat->guard);
    guard_prepare_end(&flat->guard);
    return st;
}

static bool
flat_contains(const anx_index *index, uint64_t label)
{
    const struct flat *flat = flat_of(index);
    bool is_present;

    guard_read(&flat->guard);
    is_present = store_find(&flat->store, label) != LABELMAP_NONE;
    guard_read_end(&flat->guard);
    return is_present;
}

static anx_status
flat_get(const anx_index *index, uint64_t label, void *vector, anx_error *err)
{
    const struct flat *flat = flat_of(index);
    uint32_t slot;
    anx_status st;

    guard_read(&flat->guard);
    st = store_locate(&flat->store, label, &slot, err);
    if (st == ANX_OK)
        memcpy(vector, store_row(&flat->store, slot), index->row_size);
    guard_read_end(&flat->guard);
    return st;
}

static size_t
flat_count(const anx_index *index)
{
    const struct flat *flat = flat_of(index);
    size_t n;

    guard_read(&flat->guard);
    n = flat->store.n;
    guard_read_end(&flat->guard);
    return n;
}

static anx_status
flat_search_batch(const anx_index *index, const anx_search_params *params, size_t n_query,
                  const void *queries, size_t k, anx_hits *hits, anx_error *err)
{
    const struct flat *flat = flat_of(index);
    anx_pool *pool = params->threads > 1 ? index_pool(index) : NULL;
    anx_status st;

    guard_read(&flat->guard);
    st = exact_search(&flat->store, params, pool, n_query, queries, k, hits, err);
    guard_read_end(&flat->guard);
    return st;
}

static anx_status
flat_search(const anx_index *index, const anx_search_params *params, const void *query, size_t k,
            float *distances, uint64_t *labels, anx_error *err)
{
    anx_hits hits = { .distances = distances, .labels = labels };

    return flat_search_batch(index, params, 1, query, k, &hits, err);
}

static anx_status
flat_search_range(const anx_index *index, const anx_search_params *params, const void *query,
                  anx_hit_list *list, anx_error *err)
{
    const struct flat *flat = flat_of(index);
    anx_status st;

    guard_read(&flat->guard);
    st = exact_range(&flat->store, params, query, list, err);
    guard_read_end(&flat->guard);
    return st;
}

/* All distances are computed at open; the heap gives them up in order. 12 bytes per row that passes. */
struct flat_iter {
    anx_iter base;
    anx_hit_list heap; /* owned */
};

static void
flat_iter_close(anx_iter *iter)
{
    struct flat_iter *flat_iter = (struct flat_iter *) iter;

    anx_hit_list_free(&flat_iter->heap);
    anx_free(iter->index->params.alloc, flat_iter);
}

static anx_status
flat_iter_open(const anx_index *index, const anx_search_params *params, const void *query, anx_iter **out,
               anx_error *err)
{
    const struct flat *flat = flat_of(index);
    struct flat_iter *iter = anx_alloc_zeroed(index->params.alloc, 1, sizeof(*iter));
    struct row_query row = row_query_make(&flat->store.space, query);
    anx_status st;

    if (!iter)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an iterator");
    iter->base.index = index;
    guard_read(&flat->guard);
    st = exact_collect(&flat->store, params, &row, 0, flat->store.n, &iter->heap, err);
    guard_read_end(&flat->guard);
    if (st != ANX_OK) {
        flat_iter_close(&iter->base);
        return st;
    }
    hit_heap_extend(&iter->heap, 0);
    *out = &iter->base;
    return ANX_OK;
}

static anx_status
flat_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err)
{
    struct flat_iter *flat_iter = (struct flat_iter *) iter;
    const struct flat *flat = flat_of(iter->index);

    (void) err;
    guard_read(&flat->guard);
    while (*got < n && hit_heap_pop(&flat_iter->heap, &hits->distances[*got], &hits->labels[*got]))
        if (store_find(&flat->store, hits->labels[*got]) != LABELMAP_NONE) /* else removed since open */
            ++*got;
    guard_read_end(&flat->guard);
    return ANX_OK;
}

static void
flat_stats(const anx_index *index, anx_index_stats *stats)
{
    const struct flat *flat = flat_of(index);

    guard_read(&flat->guard);
    stats->count = stats->slots = flat->store.n;
    stats->row_bytes = flat->store.n * index->row_size;
    stats->memory_bytes = sizeof(*flat) + store_memory(&flat->store);
    guard_read_end(&flat->guard);
}

static anx_status
flat_check(const anx_index *index, anx_error *err)
{
    const struct flat *flat = flat_of(index);
    anx_status st;

    guard_read(&flat->guard);
    st = store_check(&flat->store, err);
    guard_read_end(&flat->guard);
    return st;
}

const struct index_ops anx_flat_ops = {
    .name = "flat",
    .kind = ANX_INDEX_FLAT,
    .create = flat_create,
    .destroy = flat_destroy,
    .add = flat_add,
    .add_batch = flat_add_batch,
    .remove = flat_remove,
    .update = flat_update,
    .contains = flat_contains,
    .get = flat_get,
    .count = flat_count,
    .search = flat_search,
    .search_batch = flat_search_batch,
    .search_range = flat_search_range,
    .iter_open = flat_iter_open,
    .iter_next = flat_iter_next,
    .iter_close = flat_iter_close,
    .stats = flat_stats,
    .check = flat_check,
};
