/* Exact search over a row store.
 *
 * Rows are taken in blocks that stay in the second-level cache while every query of a group is compared with
 * them, so that a batch reads memory once per group and not once per query. A bitmap filter is asked before
 * distances are computed (it is cheap and may spare most of them), a callback after (it may cost anything,
 * and few rows beat the bound). */
#include "ann/exact.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

#define BLOCK_ROWS 256                      /* also the size of a stack buffer of distances */
#define BLOCK_SIZE ((size_t) 256 << 10)     /* bytes of rows; an eighth to a half of a second-level cache */
#define GROUP_QUERIES 16                    /* per pass over the rows (taste) */
#define PARALLEL_SIZE ((size_t) 1 << 20)    /* bytes of rows below which threads do not pay (taste) */

/* One query of a group and its best rows so far. */
struct exact_query {
    struct row_query row;
    struct top_k top;
};

struct exact_job {
    const struct row_store *store;
    const anx_search_params *params;
    const uint8_t *queries;
    size_t n_query, k;
    float *distances; /* [n_part][n_query][k] */
    uint64_t *labels;
    size_t n_part;             /* 1: over queries; more: rows are cut into so many parts */
    atomic_bool was_cancelled; /* relaxed: only makes the others stop early; read after the loop is over */
};

anx_status
exact_fail_cancelled(anx_error *err)
{
    return anx_fail(err, ANX_E_CANCELLED, "search was cancelled");
}

static size_t
block_rows(const struct row_store *store)
{
    size_t rows = BLOCK_SIZE / store->space.row_size;

    return rows > BLOCK_ROWS ? BLOCK_ROWS : rows < 16 ? 16 : rows;
}

/* The slots of [begin, end) that the bitmap lets pass; returns how many. */
static size_t
passing_slots(const struct row_store *store, const anx_filter *filter, size_t begin, size_t end,
              uint32_t *out)
{
    size_t n = 0;

    for (size_t slot = begin; slot < end; slot++) {
        out[n] = (uint32_t) slot;
        n += filter_accepts(filter, store->labels[slot]);
    }
    return n;
}

/* !(a > b) and not a <= b: a distance that is not a number is a row too, and comes last. */
static void
offer(const struct exact_job *job, struct top_k *top, float distance, uint64_t label)
{
    if (distance > top_k_bound(top) || !exact_within(job->params, distance))
        return;
    if (exact_accepts(job->params, label))
        top_k_offer(top, distance, label);
}

static void
scan_block(const struct exact_job *job, struct exact_query *query, size_t begin, size_t end)
{
    const struct row_store *store = job->store;
    const float *norms = store->inverse_norms ? store->inverse_norms + begin : NULL;
    float distances[BLOCK_ROWS];
    float bound = top_k_bound(&query->top);

    row_distances(&store->space, &query->row, store_row(store, begin), norms, end - begin, distances);
    for (size_t i = 0; i < end - begin; i++) {
        if (distances[i] > bound)
            continue;
        offer(job, &query->top, distances[i], store->labels[begin + i]);
        bound = top_k_bound(&query->top);
    }
}

static void
scan_slots(const struct exact_job *job, struct exact_query *query, const uint32_t *slots, size_t n)
{
    for (size_t i = 0; i < n; i++)
        offer(job, &query->top, store_distance(job->store, &query->row, slots[i]),
              job->store->labels[slots[i]]);
}

/* Compares a group of queries with rows [begin, end). False: cancelled. */
static bool
scan_rows(struct exact_job *job, struct exact_query *group, size_t n, size_t begin, size_t end)
{
    const anx_filter *filter = job->params->filter;
    size_t step = block_rows(job->store);
    uint32_t slots[BLOCK_ROWS] = { 0 };

    for (size_t at = begin; at < end; at += step) {
        size_t stop = at + step < end ? at + step : end;
        size_t n_pass = stop - at;
        bool picks = false; /* rows one at a time, which costs up to four times as much as in a block */

        if (job->params->should_stop && job->params->should_stop(job->params->stop_context))
            atomic_store_explicit(&job->was_cancelled, true, memory_order_relaxed);
        if (atomic_load_explicit(&job->was_cancelled, memory_order_relaxed))
            return false;
        if (filter && filter->bitmap) {
            n_pass = passing_slots(job->store, filter, at, stop, slots);
            picks = n_pass * 4 < stop - at;
        }
        for (size_t q = 0; q < n; q++) {
            if (picks)
                scan_slots(job, &group[q], slots, n_pass);
            else
                scan_block(job, &group[q], at, stop);
        }
    }
    return true;
}

/* Queries [begin, end) against rows [first, last); results of part `part`. */
static void
scan_queries(struct exact_job *job, size_t begin, size_t end, size_t part)
{
    struct exact_query group[GROUP_QUERIES];
    size_t row_size = job->store->space.row_size;
    size_t first = job->store->n * part / job->n_part;
    size_t last = job->store->n * (part + 1) / job->n_part;

    for (size_t at = begin; at < end; at += GROUP_QUERIES) {
        size_t n = end - at < GROUP_QUERIES ? end - at : GROUP_QUERIES;

        for (size_t i = 0; i < n; i++) {
            size_t out = (part * job->n_query + at + i) * job->k;

            group[i].row = row_query_make(&job->store->space, job->queries + (at + i) * row_size);
            top_k_init(&group[i].top, job->k, job->distances + out, job->labels + out);
        }
        if (!scan_rows(job, group, n, first, last))
            return;
        for (size_t i = 0; i < n; i++)
            top_k_finish(&group[i].top);
    }
}

static void
run_queries(void *context, size_t begin, size_t end, size_t worker)
{
    (void) worker;
    scan_queries(context, begin, end, 0);
}

static void
run_parts(void *context, size_t begin, size_t end, size_t worker)
{
    struct exact_job *job = context;

    (void) worker;
    for (size_t part = begin; part < end; part++)
        scan_queries(job, 0, job->n_query, part);
}

static void
merge_parts(const struct exact_job *job, anx_hits *hits)
{
    for (size_t q = 0; q < job->n_query; q++) {
        struct top_k top;

        top_k_init(&top, job->k, hits->distances + q * job->k, hits->labels + q * job->k);
        for (size_t part = 0; part < job->n_part; part++) {
            size_t at = (part * job->n_query + q) * job->k;

            for (size_t i = 0; i < job->k && job->labels[at + i] != ANX_LABEL_NONE; i++)
                top_k_offer(&top, job->distances[at + i], job->labels[at + i]);
        }
        top_k_finish(&top);
    }
}

/* Few queries and many rows: every thread takes a part of the rows. */
static anx_status
search_parts(struct exact_job *job, anx_pool *pool, anx_hits *hits, anx_error *err)
{
    const anx_alloc *alloc = job->store->alloc;
    size_t n_hit = job->n_query * job->k;
    anx_status st = ANX_OK;

    job->distances = anx_alloc_array(alloc, job->n_part, n_hit * sizeof(*job->distances));
    job->labels = anx_alloc_array(alloc, job->n_part, n_hit * sizeof(*job->labels));
    if (!job->distances || !job->labels) {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate %zu x %zu hits for %zu threads", job->n_query,
                      job->k, job->n_part);
    } else {
        anx_pool_for(pool, job->n_part, 1, run_parts, job);
        if (!atomic_load_explicit(&job->was_cancelled, memory_order_relaxed))
            merge_parts(job, hits);
    }
    anx_free(alloc, job->distances);
    anx_free(alloc, job->labels);
    return st;
}

anx_status
exact_search(const struct row_store *store, const anx_search_params *params, anx_pool *pool, size_t n_query,
             const void *queries, size_t k, anx_hits *hits, anx_error *err)
{
    struct exact_job job = {
        .store = store,
        .params = params,
        .queries = queries,
        .n_query = n_query,
        .k = k,
        .distances = hits->distances,
        .labels = hits->labels,
        .n_part = 1,
    };
    size_t n_thread = params->threads > 1 && pool ? params->threads : 1;
    anx_status st = ANX_OK;

    if (pool && n_thread > anx_pool_size(pool))
        n_thread = anx_pool_size(pool);
    if (n_thread == 1 || store->n * store->space.row_size < PARALLEL_SIZE) {
        scan_queries(&job, 0, n_query, 0);
    } else if (n_query >= 2 * n_thread) {
        /* The grain keeps `threads` below the size of the pool: it leaves only so many ranges. */
        anx_pool_for(pool, n_query, (n_query + n_thread - 1) / n_thread, run_queries, &job);
    } else {
        job.n_part = n_thread;
        st = search_parts(&job, pool, hits, err);
    }
    if (st == ANX_OK && atomic_load_explicit(&job.was_cancelled, memory_order_relaxed))
        st = exact_fail_cancelled(err);
    return st;
}

anx_status
exact_collect(const struct row_store *store, const anx_search_params *params, const struct row_query *query,
              size_t begin, size_t end, anx_hit_list *list, anx_error *err)
{
    float distances[BLOCK_ROWS];
    size_t step = block_rows(store);

    for (size_t at = begin; at < end; at += step) {
        size_t n = at + step < end ? step : end - at;

        if (params->should_stop && params->should_stop(params->stop_context))
            return exact_fail_cancelled(err);
        row_distances(&store->space, query, store_row(store, at),
                      store->inverse_norms ? store->inverse_norms + at : NULL, n, distances);
        for (size_t i = 0; i < n; i++) {
            anx_status st;

            if (!exact_within(params, distances[i]) || !exact_accepts(params, store->labels[at + i]))
                continue;
            st = hit_list_push(list, distances[i], store->labels[at + i], err);
            if (st != ANX_OK)
                return st;
        }
    }
    return ANX_OK;
}

anx_status
exact_range(const struct row_store *store, const anx_search_params *params, const void *query,
            anx_hit_list *list, anx_error *err)
{
    struct row_query row = row_query_make(&store->space, query);
    anx_status st;

    list->n = 0;
    st = exact_collect(store, params, &row, 0, store->n, list, err);
    if (st == ANX_OK)
        hit_list_sort(list);
    return st;
}
