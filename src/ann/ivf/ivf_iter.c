/* Next-nearest from inverted lists.
 *
 * Lists are opened in the order of their centroids; the rows of opened lists wait in a heap. As many lists
 * are open as a search would probe, and one more for every average list of rows already given, so that the
 * order is that of a search whose nprobe grows with what was asked for. When the index is trained meanwhile,
 * the lists that were not opened are gone: then every row that has not been in the heap is put there at once.
 */
#include <stdlib.h>
#include <string.h>

#include "ann/exact.h"
#include "ann/hit_heap.h"
#include "ann/ivf/ivf_int.h"
#include "base/alloc.h"
#include "base/error.h"

struct ivf_iter {
    anx_iter base;
    anx_search_params params; /* its filter is `filter` below */
    anx_filter filter;
    void *query;              /* [row_size], owned */
    struct row_query row;
    uint64_t generation;      /* of the lists that order is about; 0: untrained, all rows are in the heap */
    uint64_t *order;          /* [n_list], owned */
    size_t n_list, n_open;
    size_t n_given;
    anx_hit_list heap;        /* owned */
    uint64_t *seen;           /* [n_seen], owned: labels that were in the heap */
    size_t n_seen, seen_capacity;
};

void
ivf_iter_close(anx_iter *iter)
{
    struct ivf_iter *it = (struct ivf_iter *) iter;
    const anx_alloc *alloc = iter->index->params.alloc;

    anx_hit_list_free(&it->heap);
    anx_free(alloc, it->query);
    anx_free(alloc, it->order);
    anx_free(alloc, it->seen);
    anx_free(alloc, it);
}

/* Orders all lists; guard held, index trained. */
static anx_status
order_all(struct ivf_iter *it, const struct ivf *ivf, anx_error *err)
{
    struct ivf_scratch *s = ivf_scratch_acquire(ivf, err);
    anx_status st;

    if (!s)
        return ANX_E_NOMEM;
    it->n_list = ivf->lists->n_list;
    it->generation = ivf->lists->generation;
    it->order = anx_alloc_array(ivf->head.params.alloc, it->n_list, sizeof(*it->order));
    ivf_prepare_query(ivf, s, &it->row);
    st = it->order ? ivf_order_lists(ivf, s, it->n_list, err)
                   : anx_fail(err, ANX_E_NOMEM, "could not allocate an order of %zu lists", it->n_list);
    if (st == ANX_OK)
        memcpy(it->order, s->list_order, it->n_list * sizeof(*it->order));
    ivf_scratch_release(ivf, s);
    return st;
}

/* Remembers the labels of heap entries [from, n). */
static anx_status
remember(struct ivf_iter *it, size_t from, anx_error *err)
{
    size_t n = it->heap.n - from;

    if (it->n_seen + n > it->seen_capacity) {
        size_t capacity = it->n_seen + n + it->seen_capacity / 2;
        uint64_t *seen = anx_realloc_array(it->base.index->params.alloc, it->seen, capacity, sizeof(*seen));

        if (!seen)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu labels", capacity);
        it->seen = seen;
        it->seen_capacity = capacity;
    }
    if (n)
        memcpy(it->seen + it->n_seen, it->heap.labels + from, n * sizeof(*it->seen));
    it->n_seen += n;
    return ANX_OK;
}

static anx_status
open_next(struct ivf_iter *it, const struct ivf *ivf, anx_error *err)
{
    size_t from = it->heap.n;
    anx_status st = ivf_collect_list(ivf, &it->params, &it->row, it->order[it->n_open], &it->heap, err);

    if (st == ANX_OK)
        st = remember(it, from, err);
    if (st != ANX_OK) {
        it->heap.n = from; /* the next call opens it again */
        return st;
    }
    it->n_open++;
    hit_heap_extend(&it->heap, from);
    return ANX_OK;
}

static int
compare_labels(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return (x > y) - (x < y);
}

/* Trained again since: all other rows at once. */
static anx_status
open_rest(struct ivf_iter *it, const struct ivf *ivf, anx_error *err)
{
    size_t from = it->heap.n, kept = from;
    anx_status st = exact_collect(&ivf->store, &it->params, &it->row, 0, ivf->store.n, &it->heap, err);

    if (st != ANX_OK) {
        it->heap.n = from;
        return st;
    }
    if (it->n_seen)
        qsort(it->seen, it->n_seen, sizeof(*it->seen), compare_labels);
    for (size_t i = from; i < it->heap.n; i++) {
        if (it->n_seen &&
            bsearch(&it->heap.labels[i], it->seen, it->n_seen, sizeof(*it->seen), compare_labels))
            continue;
        it->heap.labels[kept] = it->heap.labels[i];
        it->heap.distances[kept++] = it->heap.distances[i];
    }
    it->heap.n = kept;
    hit_heap_extend(&it->heap, from);
    it->n_open = it->n_list;
    return ANX_OK;
}

/* Opens what the rows given so far call for, and further lists while the heap is empty. */
static anx_status
open_due(struct ivf_iter *it, const struct ivf *ivf, anx_error *err)
{
    anx_status st = ANX_OK;

    if (it->n_open < it->n_list && ivf->lists->generation != it->generation)
        return open_rest(it, ivf, err);
    while (it->n_open < it->n_list && st == ANX_OK) {
        size_t per_list = ivf->store.n / it->n_list + 1;

        if (it->heap.n && it->n_open >= it->params.nprobe + it->n_given / per_list)
            break;
        st = open_next(it, ivf, err);
    }
    return st;
}

static anx_status
start(struct ivf_iter *it, const struct ivf *ivf, anx_error *err)
{
    anx_status st;

    if (ivf->lists)
        return order_all(it, ivf, err);
    st = exact_collect(&ivf->store, &it->params, &it->row, 0, ivf->store.n, &it->heap, err);
    hit_heap_extend(&it->heap, 0);
    return st;
}

anx_status
ivf_iter_open(const anx_index *index, const anx_search_params *params, const void *query, anx_iter **out,
              anx_error *err)
{
    const struct ivf *ivf = (const struct ivf *) index;
    struct ivf_iter *it = anx_alloc_zeroed(index->params.alloc, 1, sizeof(*it));
    anx_status st;

    if (!it)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an iterator");
    it->base.index = index;
    it->params = *params;
    if (params->filter) {
        it->filter = *params->filter;
        it->params.filter = &it->filter;
    }
    it->query = anx_alloc_array(index->params.alloc, 1, index->row_size);
    if (!it->query) {
        ivf_iter_close(&it->base);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a query of %zu bytes", index->row_size);
    }
    memcpy(it->query, query, index->row_size);
    it->row = row_query_make(&ivf->store.space, it->query);
    guard_read(&ivf->guard);
    st = start(it, ivf, err);
    guard_read_end(&ivf->guard);
    if (st != ANX_OK) {
        ivf_iter_close(&it->base);
        return st;
    }
    *out = &it->base;
    return ANX_OK;
}

anx_status
ivf_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err)
{
    struct ivf_iter *it = (struct ivf_iter *) iter;
    const struct ivf *ivf = (const struct ivf *) iter->index;
    anx_status st = ANX_OK;

    guard_read(&ivf->guard);
    while (*got < n) {
        st = open_due(it, ivf, err);
        if (st != ANX_OK || !hit_heap_pop(&it->heap, &hits->distances[*got], &hits->labels[*got]))
            break;
        if (store_find(&ivf->store, hits->labels[*got]) == LABELMAP_NONE)
            continue; /* removed since its list was opened */
        ++*got;
        it->n_given++;
    }
    guard_read_end(&ivf->guard);
    return st;
}
