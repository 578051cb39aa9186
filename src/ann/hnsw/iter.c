/* Next-nearest without a limit: see search.h. A searches with a list of ef, hands out its hits in order, then
 * searches again with a list four times as long and skips what was handed out; past ITER_EF_MAX one exact
 * scan gives all the rest. The total work is 4/3 of the last search. Nothing of the graph is held between
 * calls, so writers never wait for an iterator. */
#include <string.h>

#include "ann/hnsw/search.h"
#include "ann/labelmap.h"
#include "base/alloc.h"
#include "base/error.h"

#define ITER_EF_MIN 64
#define ITER_EF_MAX 4096
#define ITER_GROWTH 4

struct hnsw_iter {
    struct anx_iter head;
    anx_search_params params;
    uint8_t *query; /* owned copy */
    anx_hit_list batch;
    size_t at;       /* next of the batch */
    size_t ef;       /* of the batch; 0: none yet */
    bool is_last;    /* the batch holds every row */
    uint64_t *given; /* labels handed out, in order of numbers in seen */
    size_t n_given, given_capacity;
    struct labelmap seen;
};

static uint64_t
given_label(const void *context, uint32_t i)
{
    return ((const struct hnsw_iter *) context)->given[i];
}

anx_status
hnsw_iter_open(const anx_index *index, const anx_search_params *params, const void *query, anx_iter **out,
               anx_error *err)
{
    struct hnsw_iter *it = anx_alloc_zeroed(index->params.alloc, 1, sizeof(*it));

    *out = NULL;
    if (it)
        it->query = anx_alloc_bytes(index->params.alloc, index->row_size);
    if (!it || !it->query) {
        anx_free(index->params.alloc, it);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an iterator");
    }
    it->head.index = index;
    it->params = *params;
    memcpy(it->query, query, index->row_size);
    labelmap_init(&it->seen, index->params.alloc);
    *out = &it->head;
    return ANX_OK;
}

void
hnsw_iter_close(anx_iter *iter)
{
    struct hnsw_iter *it = (struct hnsw_iter *) iter;
    const anx_alloc *alloc;

    if (!it)
        return;
    alloc = it->head.index->params.alloc;
    labelmap_fini(&it->seen);
    anx_free(alloc, it->given);
    anx_free(alloc, it->query);
    anx_hit_list_free(&it->batch);
    anx_free(alloc, it);
}

/* All rows in order. */
static anx_status
refill_all(struct hnsw_iter *it, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) it->head.index;
    struct scratch *s = scratch_acquire(h, err);
    anx_status st;

    if (!s)
        return ANX_E_NOMEM;
    it->batch.n = 0;
    st = search_scan(reader_enter(h, s), s, &it->params, it->query, &it->batch, err);
    reader_leave(s);
    scratch_release(h, s);
    hit_list_sort(&it->batch);
    it->is_last = true;
    return st;
}

static anx_status
refill(struct hnsw_iter *it, anx_error *err)
{
    size_t first = it->params.ef > ITER_EF_MIN ? it->params.ef : ITER_EF_MIN, n = 0;
    size_t live = anx_index_count(it->head.index);
    anx_status st;

    it->at = 0;
    it->ef = it->ef ? it->ef * ITER_GROWTH : first;
    if (it->ef > ITER_EF_MAX || it->ef * 2 > live)
        return refill_all(it, err);
    for (size_t k = it->ef; it->batch.n < k && it->batch.capacity < k;) { /* room for k hits */
        st = hit_list_push(&it->batch, 0, 0, err);
        if (st != ANX_OK)
            return st;
    }
    st = hnsw_search(it->head.index, &it->params, it->query, it->ef, it->batch.distances, it->batch.labels,
                     err);
    while (n < it->ef && it->batch.labels[n] != ANX_LABEL_NONE)
        n++;
    it->batch.n = st == ANX_OK ? n : 0;
    return st;
}

static anx_status
give(struct hnsw_iter *it, uint64_t label, anx_error *err)
{
    const anx_alloc *alloc = it->head.index->params.alloc;

    if (it->n_given == it->given_capacity) {
        size_t capacity = it->given_capacity ? it->given_capacity * 2 : 64;
        uint64_t *bigger = anx_realloc_array(alloc, it->given, capacity, sizeof(*bigger));

        if (!bigger)
            return anx_fail(err, ANX_E_NOMEM, "could not note %zu returned rows", capacity);
        it->given = bigger;
        it->given_capacity = capacity;
    }
    it->given[it->n_given] = label;
    if (!labelmap_insert(&it->seen, label, (uint32_t) it->n_given, given_label, it))
        return anx_fail(err, ANX_E_NOMEM, "could not note %zu returned rows", it->n_given);
    it->n_given++;
    return ANX_OK;
}

anx_status
hnsw_iter_next(anx_iter *iter, size_t n, anx_hits *hits, size_t *got, anx_error *err)
{
    struct hnsw_iter *it = (struct hnsw_iter *) iter;
    anx_status st = ANX_OK;

    *got = 0;
    while (*got < n && st == ANX_OK) {
        if (it->at == it->batch.n) {
            if (it->is_last)
                break;
            st = refill(it, err);
            continue;
        }
        if (labelmap_find(&it->seen, it->batch.labels[it->at], given_label, it) == LABELMAP_NONE) {
            hits->distances[*got] = it->batch.distances[it->at];
            hits->labels[*got] = it->batch.labels[it->at];
            st = give(it, it->batch.labels[it->at], err);
            (*got)++;
        }
        it->at++;
    }
    return st;
}
