/* Searching inverted lists.
 *
 * 1. The nearest lists: centroids are scanned as codes, the best few compared in f32.
 * 2. Their rows are scanned as codes, the best `rerank` kept (ann/shortlist.h).
 * 3. Those are compared exactly with their rows. When codes and query are lossless, step 2 is already exact
 * and offers straight to the answer. Before training everything is an exact scan. A filter is asked for
 * candidates that beat the bound only; when the probed lists do not hold k rows that pass, the search goes on
 * with further lists, nearest first, until k are found (unless there is a radius); and a bitmap with few bits
 * is not searched at all: its rows are compared one by one. */
#include <math.h>
#include <string.h>

#include "ann/exact.h"
#include "ann/index_int.h"
#include "ann/ivf/ivf_int.h"
#include "ann/points.h"
#include "base/alloc.h"
#include "base/error.h"

#define RERANK_FACTOR 4 /* rows compared exactly per row asked for, and */
#define RERANK_MORE 24  /* so many more: measured, see README.md of this room */
#define COARSE_ALL 64   /* lists up to which all centroids are compared in f32 */
#define DIRECT_MIN 64   /* bits of a filter up to which its rows are compared one by one, */
#define DIRECT_SHARE \
    32 /* or one in so many of the rows that a search would scan: a row at random costs that much more */
#define THREAD_ROWS 16384 /* rows of the probed lists from which one query is worth several threads (taste) */

static void
scratch_free(const anx_alloc *alloc, struct ivf_scratch *s)
{
    anx_free(alloc, s->query);
    anx_free_aligned(alloc, s->weights);
    anx_free(alloc, s->list_distances);
    anx_free(alloc, s->list_order);
    anx_free(alloc, s->visited);
    shortlist_fini(&s->rows, alloc);
    shortlist_fini(&s->centroids, alloc);
    anx_free(alloc, s);
}

static struct ivf_scratch *
scratch_make(const struct ivf *ivf)
{
    const anx_index_params *p = &ivf->head.params;
    size_t stride = (p->dim + CODE_ALIGN - 1) / CODE_ALIGN * CODE_ALIGN;
    struct ivf_scratch *s = anx_alloc_zeroed(p->alloc, 1, sizeof(*s));

    if (!s)
        return NULL;
    s->n_list = p->centroids;
    s->query = anx_alloc_array(p->alloc, 3 * p->dim, sizeof(*s->query));
    s->weights = anx_alloc_aligned(p->alloc, 2, stride);
    s->list_distances = anx_alloc_array(p->alloc, s->n_list, sizeof(*s->list_distances));
    s->list_order = anx_alloc_array(p->alloc, s->n_list, sizeof(*s->list_order));
    s->visited = anx_alloc_zeroed(p->alloc, s->n_list, sizeof(*s->visited));
    if (!s->query || !s->weights || !s->list_distances || !s->list_order || !s->visited) {
        scratch_free(p->alloc, s);
        return NULL;
    }
    s->work = s->query + p->dim;
    s->coarse_weights = s->weights + stride;
    return s;
}

struct ivf_scratch *
ivf_scratch_acquire(const struct ivf *ivf, anx_error *err)
{
    struct ivf *owner = (struct ivf *) ivf; /* scratch is not part of what const promises */
    struct ivf_scratch *s;

    anx_spin_lock(&owner->scratch_lock);
    s = owner->scratch;
    if (s)
        owner->scratch = s->next;
    anx_spin_unlock(&owner->scratch_lock);
    if (!s)
        s = scratch_make(ivf);
    if (!s)
        anx_fail(err, ANX_E_NOMEM, "could not allocate the scratch memory of a search");
    return s;
}

void
ivf_scratch_release(const struct ivf *ivf, struct ivf_scratch *s)
{
    struct ivf *owner = (struct ivf *) ivf;

    anx_spin_lock(&owner->scratch_lock);
    s->next = owner->scratch;
    owner->scratch = s;
    anx_spin_unlock(&owner->scratch_lock);
}

void
ivf_scratch_destroy_all(struct ivf *ivf)
{
    while (ivf->scratch) {
        struct ivf_scratch *s = ivf->scratch;

        ivf->scratch = s->next;
        scratch_free(ivf->head.params.alloc, s);
    }
}

void
ivf_prepare_query(const struct ivf *ivf, struct ivf_scratch *s, const struct row_query *query)
{
    const struct points points = {
        .space = &ivf->store.space, .rows = query->row, .inverse_norms = &query->inverse_norm, .n = 1,
    };
    const float *q = points_get(&points, 0, s->query);

    if (q != s->query)
        memcpy(s->query, q, ivf->head.params.dim * sizeof(*q));
}

/* ---- codes ---- */

/* What is compared with the codes of a list. */
struct code_scan {
    const anx_kernels *kernels;
    const struct coder *coder; /* NULL: bits */
    size_t stride;
    bool is_l2;
    const uint8_t *bits; /* the query as a code */
    struct code_query query;
};

/* Keys of up to SHORTLIST_BLOCK rows of a list from `at`. */
static void
scan_keys(const struct code_scan *scan, const struct ivf_list *list, size_t at, size_t n, int32_t *keys)
{
    const uint8_t *rows[SHORTLIST_BLOCK];
    const uint8_t *first = list->codes + at * scan->stride;

    for (size_t i = 0; i < n; i++)
        rows[i] = first + i * scan->stride;
    if (!scan->coder) {
        scan->kernels->code_hamming(scan->bits, rows, n, scan->stride, keys);
        return;
    }
    scan->kernels->code_dot(scan->query.weights, rows, n, scan->stride, keys);
    coder_keys(scan->coder, &scan->query, scan->is_l2, list->bases + at, n, keys);
}

/* ---- choosing lists ---- */

static void
sift_order(float *d, uint64_t *id, size_t n)
{
    struct top_k top;

    top_k_init(&top, n, d, id);
    for (size_t i = 0; i < n; i++)
        top_k_offer(&top, d[i], id[i]);
    top_k_finish(&top);
}

static float
centroid_distance(const struct ivf *ivf, const float *query, size_t c)
{
    const struct ivf_lists *lists = ivf->lists;
    const float *centroid = lists->centroids + c * lists->dim;
    float d;

    (lists->is_l2 ? ivf->head.kernels->l2_f32_rows : ivf->head.kernels->ip_f32_rows)(query, centroid, 1,
                                                                                     lists->dim, &d);
    return d;
}

/* The candidates among the centroids, by their codes. */
static anx_status
coarse_candidates(const struct ivf *ivf, struct ivf_scratch *s, size_t n, anx_error *err)
{
    const struct ivf_lists *lists = ivf->lists;
    struct code_scan scan = {
        .kernels = ivf->head.kernels,
        .coder = &lists->coarse_coder,
        .stride = lists->coarse_coder.stride,
        .is_l2 = lists->is_l2,
        .query = { .weights = s->coarse_weights },
    };
    struct shortlist *best = &s->centroids;
    int32_t keys[SHORTLIST_BLOCK];
    uint32_t ids[SHORTLIST_BLOCK];

    if (!shortlist_reset(best, n, ivf->head.params.alloc))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu candidates", n);
    coder_query(scan.coder, scan.is_l2, s->query, s->work, &scan.query);
    for (size_t at = 0; at < lists->n_list; at += SHORTLIST_BLOCK) {
        size_t m = lists->n_list - at < SHORTLIST_BLOCK ? lists->n_list - at : SHORTLIST_BLOCK;
        size_t n_found;

        shortlist_room(best);
        scan_keys(&scan, &lists->coarse, at, m, keys);
        n_found = scan.kernels->select_below(keys, m, best->bound, ids);
        for (size_t i = 0; i < n_found; i++)
            shortlist_push(best, keys[ids[i]], (uint32_t) at + ids[i]);
    }
    shortlist_trim(best);
    return ANX_OK;
}

anx_status
ivf_order_lists(const struct ivf *ivf, struct ivf_scratch *s, size_t n, anx_error *err)
{
    const struct ivf_lists *lists = ivf->lists;
    const anx_kernels *kernels = ivf->head.kernels;
    size_t n_candidate = n + n / 4 + 8; /* codes may swap near neighbors: a few more than asked for */
    anx_status st;

    if (lists->n_list <= COARSE_ALL || n_candidate >= lists->n_list) {
        (lists->is_l2 ? kernels->l2_f32_rows : kernels->ip_f32_rows)(
            s->query, lists->centroids, lists->n_list, lists->dim, s->list_distances);
        for (size_t c = 0; c < lists->n_list; c++)
            s->list_order[c] = c;
        sift_order(s->list_distances, s->list_order, lists->n_list);
        return ANX_OK;
    }
    st = coarse_candidates(ivf, s, n_candidate, err);
    if (st != ANX_OK)
        return st;
    for (size_t i = 0; i < s->centroids.n; i++) {
        s->list_order[i] = s->centroids.items[i].slot;
        s->list_distances[i] = centroid_distance(ivf, s->query, s->centroids.items[i].slot);
    }
    sift_order(s->list_distances, s->list_order, s->centroids.n);
    return ANX_OK;
}

/* ---- scanning rows ---- */

/* One query on one thread. */
struct ivf_query {
    const struct ivf *ivf;
    const anx_search_params *params;
    const struct row_query *row;
    struct code_scan scan;
    bool is_exact; /* keys are distances */
    struct shortlist *rows;
    struct top_k *top;
};

static anx_status
query_init(struct ivf_query *q, struct ivf_scratch *s, size_t k, anx_error *err)
{
    const struct ivf *ivf = q->ivf;
    const struct ivf_lists *lists = ivf->lists;
    size_t n = ivf->store.n, n_rerank = k < n ? k * RERANK_FACTOR + RERANK_MORE : n;

    q->scan = (struct code_scan) {
        .kernels = ivf->head.kernels,
        .coder = lists->is_bits ? NULL : &lists->coder,
        .stride = lists->stride,
        .is_l2 = lists->is_l2,
        .bits = (const uint8_t *) s->weights,
        .query = { .weights = s->weights },
    };
    q->rows = &s->rows;
    if (lists->is_bits) {
        memset(s->weights, 0, lists->stride);
        memcpy(s->weights, q->row->row, ivf->head.row_size);
        q->is_exact = true;
    } else {
        coder_query(&lists->coder, lists->is_l2, s->query, s->work, &q->scan.query);
        q->is_exact = q->scan.query.is_exact && lists->is_lossless;
    }
    if (!q->is_exact && !shortlist_reset(q->rows, n_rerank < n ? n_rerank : n, ivf->head.params.alloc))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu candidates", n_rerank);
    return ANX_OK;
}

/* A bound in integers that lets every key pass whose float is at most `bound`. */
static int32_t
integer_bound(float bound)
{
    return bound < 2e9f ? (int32_t) bound + (int32_t) (bound / 4194304) + 2 : INT32_MAX;
}

static void
offer_exact(struct ivf_query *q, const struct ivf_list *list, const int32_t *keys, size_t n)
{
    const struct row_store *store = &q->ivf->store;
    uint32_t ids[SHORTLIST_BLOCK];
    float bound = top_k_bound(q->top);
    size_t n_found;

    if (q->params->has_radius && q->params->radius < bound)
        bound = q->params->radius;
    if (bound < 0)
        return; /* these distances are not negative */
    n_found = q->scan.kernels->select_below(keys, n, integer_bound(bound), ids);
    for (size_t i = 0; i < n_found; i++) {
        float distance = (float) keys[ids[i]];
        uint64_t label;

        if (distance > top_k_bound(q->top) || !exact_within(q->params, distance))
            continue;
        label = store->labels[list->slots[ids[i]]];
        if (exact_accepts(q->params, label))
            top_k_offer(q->top, distance, label);
    }
}

static void
push_candidates(struct ivf_query *q, const struct ivf_list *list, const int32_t *keys, size_t n)
{
    const uint64_t *labels = q->ivf->store.labels;
    uint32_t ids[SHORTLIST_BLOCK];
    size_t n_found;

    shortlist_room(q->rows);
    n_found = q->scan.kernels->select_below(keys, n, q->rows->bound, ids);
    for (size_t i = 0; i < n_found; i++) {
        uint32_t slot = list->slots[ids[i]];

        if (exact_accepts(q->params, labels[slot]))
            shortlist_push(q->rows, keys[ids[i]], slot);
    }
}

static anx_status
scan_list(struct ivf_query *q, const struct ivf_list *list, anx_error *err)
{
    int32_t keys[SHORTLIST_BLOCK];

    for (size_t at = 0; at < list->n; at += SHORTLIST_BLOCK) {
        size_t n = list->n - at < SHORTLIST_BLOCK ? list->n - at : SHORTLIST_BLOCK;
        const struct ivf_list rest = { .slots = list->slots + at };

        if (q->params->should_stop && q->params->should_stop(q->params->stop_context))
            return exact_fail_cancelled(err);
        scan_keys(&q->scan, list, at, n, keys);
        if (q->is_exact)
            offer_exact(q, &rest, keys, n);
        else
            push_candidates(q, &rest, keys, n);
    }
    return ANX_OK;
}

/* Compares the candidates exactly. Rows are at random places: all are asked for before the first is used. */
static void
rerank(struct ivf_query *q)
{
    const struct row_store *store = &q->ivf->store;
    size_t row_size = store->space.row_size;

    if (q->is_exact)
        return;
    shortlist_trim(q->rows);
    for (size_t i = 0; i < q->rows->n; i++)
        for (size_t byte = 0; byte < row_size && byte < 512; byte += 64)
            __builtin_prefetch(store_row(store, q->rows->items[i].slot) + byte);
    for (size_t i = 0; i < q->rows->n; i++) {
        uint32_t slot = q->rows->items[i].slot;
        float distance = store_distance(store, q->row, slot);

        if (exact_within(q->params, distance))
            top_k_offer(q->top, distance, store->labels[slot]);
    }
}

/* ---- filters ---- */

static size_t
filter_count(const anx_filter *filter)
{
    size_t n = 0;

    if (filter->expected)
        return filter->expected;
    for (size_t i = 0; i < (filter->bits + 63) / 64; i++)
        n += (size_t) __builtin_popcountll(filter->bitmap[i]);
    return n;
}

/* Are the rows that a bitmap lets pass so few that they are better compared one by one? */
static bool
filter_is_direct(const struct ivf *ivf, const anx_search_params *params)
{
    size_t scanned = ivf->store.n / ivf->lists->n_list * params->nprobe;

    if (!params->filter || !params->filter->bitmap || params->filter->bits / 64 > scanned + DIRECT_MIN)
        return false; /* counting the bits alone would cost more */
    return filter_count(params->filter) <= DIRECT_MIN + scanned / DIRECT_SHARE;
}

static void
search_direct(struct ivf_query *q)
{
    const struct row_store *store = &q->ivf->store;
    const anx_filter *filter = q->params->filter;

    for (size_t word = 0; word < (filter->bits + 63) / 64; word++)
        for (uint64_t rest = filter->bitmap[word]; rest; rest &= rest - 1) {
            uint64_t label = word * 64 + (size_t) __builtin_ctzll(rest);
            uint32_t slot = label < filter->bits ? store_find(store, label) : LABELMAP_NONE;
            float distance;

            if (slot == LABELMAP_NONE)
                continue;
            distance = store_distance(store, q->row, slot);
            if (exact_within(q->params, distance))
                top_k_offer(q->top, distance, label);
        }
}

/* The probed lists had less than k rows that pass: on to the others. */
static anx_status
search_further(struct ivf_query *q, struct ivf_scratch *s, size_t n_done, anx_error *err)
{
    const struct ivf_lists *lists = q->ivf->lists;
    anx_status st = ANX_OK;

    memset(s->visited, 0, lists->n_list);
    for (size_t i = 0; i < n_done; i++)
        s->visited[s->list_order[i]] = 1;
    st = ivf_order_lists(q->ivf, s, lists->n_list, err);
    for (size_t i = 0; i < lists->n_list && st == ANX_OK; i++) {
        size_t found = q->is_exact ? q->top->n : q->rows->n;

        if (found >= q->top->k)
            break;
        if (!s->visited[s->list_order[i]])
            st = scan_list(q, &lists->lists[s->list_order[i]], err);
    }
    return st;
}

/* ---- several threads for one query ---- */

struct probe_job {
    const struct ivf *ivf;
    const anx_search_params *params;
    const struct row_query *row;
    const uint64_t *order;
    size_t k;
    float *distances; /* [n_part * k] */
    uint64_t *labels;
    size_t n_part, nprobe;
    anx_status *status; /* [n_part] */
};

static anx_status
probe_part(const struct probe_job *job, size_t part)
{
    struct top_k top;
    struct ivf_query q = { .ivf = job->ivf, .params = job->params, .row = job->row, .top = &top };
    struct ivf_scratch *s = ivf_scratch_acquire(job->ivf, NULL);
    anx_status st;

    top_k_init(&top, job->k, job->distances + part * job->k, job->labels + part * job->k);
    if (!s)
        return ANX_E_NOMEM;
    ivf_prepare_query(job->ivf, s, job->row);
    st = query_init(&q, s, job->k, NULL);
    /* Every n_part-th list: near lists, which fill the bound, go to all. */
    for (size_t i = part; i < job->nprobe && st == ANX_OK; i += job->n_part)
        st = scan_list(&q, &job->ivf->lists->lists[job->order[i]], NULL);
    if (st == ANX_OK) {
        rerank(&q);
        top_k_finish(&top);
    }
    ivf_scratch_release(job->ivf, s);
    return st;
}

static void
probe_range(void *context, size_t begin, size_t end, size_t worker)
{
    const struct probe_job *job = context;

    (void) worker;
    for (size_t part = begin; part < end; part++)
        job->status[part] = probe_part(job, part);
}

static anx_status
probe_status(const struct probe_job *job, anx_error *err)
{
    for (size_t part = 0; part < job->n_part; part++) {
        if (job->status[part] == ANX_E_CANCELLED)
            return exact_fail_cancelled(err);
        if (job->status[part] != ANX_OK)
            return anx_fail(err, job->status[part], "could not allocate the scratch memory of a search");
    }
    return ANX_OK;
}

static anx_status
search_on_threads(struct ivf_query *q, struct ivf_scratch *s, anx_pool *pool, size_t n_part, anx_error *err)
{
    const anx_alloc *alloc = q->ivf->head.params.alloc;
    struct probe_job job = {
        .ivf = q->ivf, .params = q->params, .row = q->row, .order = s->list_order, .k = q->top->k,
        .n_part = n_part, .nprobe = q->params->nprobe,
    };
    anx_status st;

    job.distances = anx_alloc_array(alloc, n_part, job.k * sizeof(*job.distances));
    job.labels = anx_alloc_array(alloc, n_part, job.k * sizeof(*job.labels));
    job.status = anx_alloc_zeroed(alloc, n_part, sizeof(*job.status));
    if (!job.distances || !job.labels || !job.status) {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate %zu hits for %zu threads", job.k, n_part);
    } else {
        anx_pool_for(pool, n_part, 1, probe_range, &job);
        st = probe_status(&job, err);
    }
    for (size_t i = 0; st == ANX_OK && i < n_part * job.k; i++)
        if (job.labels[i] != ANX_LABEL_NONE)
            top_k_offer(q->top, job.distances[i], job.labels[i]);
    anx_free(alloc, job.distances);
    anx_free(alloc, job.labels);
    anx_free(alloc, job.status);
    return st;
}

/* How many threads one query gets: RX_IVF_MT=1 allows more than one. */
static size_t
query_threads(const struct ivf *ivf, const anx_search_params *params)
{
    size_t n = params->threads ? params->threads : ivf->head.params.threads;

    if (!ivf->is_multi_threaded || !ivf->lists)
        return 1;
    if (ivf->store.n / ivf->lists->n_list * params->nprobe < THREAD_ROWS)
        return 1;
    n = n < ivf->head.params.threads ? n : ivf->head.params.threads;
    return n < params->nprobe ? n : params->nprobe;
}

/* ---- the calls ---- */

static anx_status
search_lists(struct ivf_query *q, struct ivf_scratch *s, size_t k, anx_error *err)
{
    const struct ivf *ivf = q->ivf;
    size_t n_thread = query_threads(ivf, q->params);
    anx_pool *pool = n_thread > 1 ? index_pool(&ivf->head) : NULL;
    anx_status st;

    ivf_prepare_query(ivf, s, q->row);
    if (filter_is_direct(ivf, q->params)) {
        search_direct(q);
        return ANX_OK;
    }
    st = ivf_order_lists(ivf, s, q->params->nprobe, err);
    if (st == ANX_OK && pool && !q->params->filter)
        return search_on_threads(q, s, pool, n_thread, err);
    if (st == ANX_OK)
        st = query_init(q, s, k, err);
    for (size_t i = 0; i < q->params->nprobe && st == ANX_OK; i++)
        st = scan_list(q, &ivf->lists->lists[s->list_order[i]], err);
    if (st == ANX_OK && q->params->filter && !q->params->has_radius) /* a radius asks for no number of rows */
        st = search_further(q, s, q->params->nprobe, err);
    if (st == ANX_OK)
        rerank(q);
    return st;
}

static anx_status
search_trained(const struct ivf *ivf, const anx_search_params *params, const void *query, size_t k,
               float *distances, uint64_t *labels, anx_error *err)
{
    struct row_query row = row_query_make(&ivf->store.space, query);
    struct top_k top;
    struct ivf_query q = { .ivf = ivf, .params = params, .row = &row, .top = &top };
    struct ivf_scratch *s = ivf_scratch_acquire(ivf, err);
    anx_status st;

    if (!s)
        return ANX_E_NOMEM;
    top_k_init(&top, k, distances, labels);
    st = search_lists(&q, s, k, err);
    if (st == ANX_OK)
        top_k_finish(&top);
    ivf_scratch_release(ivf, s);
    return st;
}

anx_status
ivf_search(const anx_index *index, const anx_search_params *params, const void *query, size_t k,
           float *distances, uint64_t *labels, anx_error *err)
{
    const struct ivf *ivf = (const struct ivf *) index;
    anx_hits hits = { .distances = distances, .labels = labels };
    anx_pool *pool = ivf->is_multi_threaded && params->threads > 1 ? index_pool(index) : NULL;
    anx_status st;

    guard_read(&ivf->guard);
    if (ivf->lists)
        st = search_trained(ivf, params, query, k, distances, labels, err);
    else
        st = exact_search(&ivf->store, params, pool, 1, query, k, &hits, err);
    guard_read_end(&ivf->guard);
    return st;
}

anx_status
ivf_collect_list(const struct ivf *ivf, const anx_search_params *params, const struct row_query *query,
                 size_t list_number, anx_hit_list *out, anx_error *err)
{
    const struct row_store *store = &ivf->store;
    const struct ivf_list *list = &ivf->lists->lists[list_number];

    if (params->should_stop && params->should_stop(params->stop_context))
        return exact_fail_cancelled(err);
    for (uint32_t i = 0; i < list->n; i++) {
        uint32_t slot = list->slots[i];
        float distance;
        anx_status st;

        if (i + 8 < list->n)
            __builtin_prefetch(store_row(store, list->slots[i + 8]));
        if (!exact_accepts(params, store->labels[slot]))
            continue;
        distance = store_distance(store, query, slot);
        if (!exact_within(params, distance))
            continue;
        st = hit_list_push(out, distance, store->labels[slot], err);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
range_trained(const struct ivf *ivf, const anx_search_params *params, const void *query, anx_hit_list *list,
              anx_error *err)
{
    struct row_query row = row_query_make(&ivf->store.space, query);
    struct ivf_scratch *s = ivf_scratch_acquire(ivf, err);
    anx_status st;

    if (!s)
        return ANX_E_NOMEM;
    ivf_prepare_query(ivf, s, &row);
    st = ivf_order_lists(ivf, s, params->nprobe, err);
    for (size_t i = 0; i < params->nprobe && st == ANX_OK; i++)
        st = ivf_collect_list(ivf, params, &row, s->list_order[i], list, err);
    ivf_scratch_release(ivf, s);
    if (st == ANX_OK)
        hit_list_sort(list);
    return st;
}

anx_status
ivf_search_range(const anx_index *index, const anx_search_params *params, const void *query,
                 anx_hit_list *list, anx_error *err)
{
    const struct ivf *ivf = (const struct ivf *) index;
    anx_status st;

    guard_read(&ivf->guard);
    if (ivf->lists)
        st = range_trained(ivf, params, query, list, err);
    else
        st = exact_range(&ivf->store, params, query, list, err);
    guard_read_end(&ivf->guard);
    return st;
}
