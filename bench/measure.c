/* Building and measuring, ours and peers; see bench.h. Only searches are inside the clock: one call per
 * query, answers written to memory of their own. Recall is computed afterwards. */
#include <math.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "bench/bench.h"

#define LOAD_PIECE 8192   /* rows handed over at a time, as a stream would */
#define STOP_RECALL 0.997 /* a default list stops beyond this: 0.99 is bracketed, more tells nothing */
#define REPEAT_MAX 101

static double
seconds_since(uint64_t start)
{
    return (double) (anx_clock_ns() - start) * 1e-9;
}

static uint64_t
cpu_ns(clockid_t clock)
{
    struct timespec now;

    clock_gettime(clock, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

static double
cpu_seconds_since(uint64_t start)
{
    return (double) (cpu_ns(CLOCK_PROCESS_CPUTIME_ID) - start) * 1e-9;
}

anx_status
bench_build(const anx_index_params *params, const struct bench_data *data, size_t n,
            struct progress *progress, struct bench_built *out, anx_error *err)
{
    anx_loader *loader = NULL;
    anx_index_params with_fetch = *params;
    uint64_t start, cpu_start;
    anx_status st;

    memset(out, 0, sizeof(*out));
    with_fetch.fetch = params->quantization == ANX_QUANTIZATION_SQ8 ? bench_data_fetch : NULL;
    with_fetch.fetch_context = (void *) data;
    with_fetch.capacity = n;
    start = anx_clock_ns();
    cpu_start = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
    st = anx_index_create(&with_fetch, &out->index, err);
    if (st == ANX_OK)
        st = anx_loader_begin(out->index, n, &loader, err);
    for (size_t at = 0; st == ANX_OK && at < n; at += LOAD_PIECE) {
        size_t piece = n - at < LOAD_PIECE ? n - at : LOAD_PIECE;

        progress_report(progress, "loading rows", at, n);
        st = anx_loader_rows(loader, piece, data->labels + at,
                             (const char *) data->index_rows + at * data->row_size, err);
    }
    if (st == ANX_OK) {
        st = anx_loader_finish(loader, progress_report, progress, err);
        loader = NULL;
    }
    anx_loader_abort(loader);
    if (st == ANX_OK) {
        anx_index_get_stats(out->index, &out->stats);
        if (params->kind == ANX_INDEX_IVF && !out->stats.is_trained)
            st = anx_index_train(out->index, 1.0, err);
    }
    if (st != ANX_OK) {
        anx_index_destroy(out->index);
        out->index = NULL;
        return st;
    }
    out->seconds = seconds_since(start);
    out->cpu_seconds = cpu_seconds_since(cpu_start);
    anx_index_get_stats(out->index, &out->stats);
    progress_end(progress);
    return ANX_OK;
}

anx_status
bench_peer_build(const char *name, const anx_index_params *params, const struct bench_data *data,
                 struct progress *progress, struct bench_peer *out, anx_error *err)
{
    struct peer_params p = {
        .metric = params->metric == ANX_METRIC_L2 ? PEER_L2 : PEER_IP,
        .dim = data->dim,
        .n = data->n,
        .threads = params->threads ? params->threads : anx_cpu_count(),
        .m = params->m,
        .ef_construction = params->ef_construction,
        .nlist = params->centroids,
        .seed = 100, /* hnswlib's own default */
        .progress = progress_report,
        .progress_context = progress,
    };
    bool is_cosine = params->metric == ANX_METRIC_COSINE;
    float *rows = NULL;
    char message[192] = "";
    uint64_t start, cpu_start;

    memset(out, 0, sizeof(*out));
    if (!name)
        return ANX_OK;
    out->ops = peer_open(name, message, sizeof(message));
    if (!out->ops)
        return anx_fail(err, ANX_E_NOT_FOUND, "%s", message);
    rows = is_cosine ? bench_normalized(data->rows, data->n, data->dim) : data->rows;
    out->queries = is_cosine ? bench_normalized(data->queries, data->n_query, data->dim)
                             : anx_alloc_array(NULL, data->n_query * data->dim, sizeof(float));
    if (rows && out->queries) {
        if (!is_cosine)
            memcpy(out->queries, data->queries, data->n_query * data->dim * sizeof(float));
        start = anx_clock_ns();
        cpu_start = cpu_ns(CLOCK_PROCESS_CPUTIME_ID);
        out->index = out->ops->build(&p, rows, message, sizeof(message));
        out->seconds = seconds_since(start);
        out->cpu_seconds = cpu_seconds_since(cpu_start);
    } else {
        snprintf(message, sizeof(message), "no memory for normalized rows");
    }
    if (is_cosine)
        anx_free(NULL, rows);
    progress_end(progress);
    if (!out->index) {
        bench_peer_free(out);
        return anx_fail(err, ANX_E_INTERNAL, "peer %s did not build: %s", name, message);
    }
    out->bytes = out->ops->bytes(out->index);
    return ANX_OK;
}

void
bench_peer_free(struct bench_peer *peer)
{
    if (peer->index)
        peer->ops->destroy(peer->index);
    anx_free(NULL, peer->queries);
    memset(peer, 0, sizeof(*peer));
}

/* ---- one pass: every query once ---- */

struct pass {
    const struct bench_side *side;
    size_t breadth;
    bool is_cpu_time;
    uint64_t *labels;    /* [n_query * k] */
    float *distances;    /* [n_query * k] */
    uint64_t *latencies; /* [n_query], ns */
    atomic_int failed; /* the first status that is not ANX_OK; paired with the read after the pool is done */
};

static anx_status
search_one(const struct pass *pass, size_t query)
{
    const struct bench_side *side = pass->side;
    const struct bench_data *data = side->data;
    size_t k = side->truth->k;

    if (side->peer) {
        side->peer->ops->search(side->peer->index, side->peer->queries + query * data->dim, k,
                                pass->labels + query * k);
        return ANX_OK;
    }
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    anx_hits hits = { pass->distances + query * k, pass->labels + query * k };

    params.ef = side->kind == ANX_INDEX_HNSW ? pass->breadth : 0;
    params.nprobe = side->kind == ANX_INDEX_IVF ? pass->breadth : 0;
    params.filter = side->filter;
    return anx_index_search(side->index, &params, 1,
                            (const char *) data->index_queries + query * data->row_size, k, &hits, NULL);
}

static void
run_queries(void *context, size_t begin, size_t end, size_t worker)
{
    struct pass *pass = context;

    (void) worker;
    for (size_t q = begin; q < end; q++) {
        uint64_t start = anx_clock_ns();
        anx_status st = search_one(pass, q);

        pass->latencies[q] = anx_clock_ns() - start;
        if (st != ANX_OK)
            atomic_store(&pass->failed, (int) st);
    }
}

static int
compare_ns(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return (x > y) - (x < y);
}

static int
compare_real(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

static anx_status
pass_run(struct pass *pass, anx_pool *pool, double *qps, anx_error *err)
{
    const struct bench_side *side = pass->side;
    size_t n = side->data->n_query;
    uint64_t start, cpu_start;
    double seconds;

    if (side->peer)
        side->peer->ops->set_breadth(side->peer->index, pass->breadth);
    atomic_store(&pass->failed, 0);
    start = anx_clock_ns();
    cpu_start = cpu_ns(CLOCK_THREAD_CPUTIME_ID);
    if (anx_pool_size(pool) == 1)
        run_queries(pass, 0, n, 0); /* the pool's own cost is ours, not the index's */
    else
        anx_pool_for(pool, n, 1, run_queries, pass);
    seconds = pass->is_cpu_time ? (double) (cpu_ns(CLOCK_THREAD_CPUTIME_ID) - cpu_start) * 1e-9
                                : seconds_since(start);
    if (atomic_load(&pass->failed) != 0) {
        anx_status st = (anx_status) atomic_load(&pass->failed);

        return anx_fail(err, st, "a search failed: %s", anx_status_text(st));
    }
    *qps = (double) n / seconds;
    qsort(pass->latencies, n, sizeof(*pass->latencies), compare_ns);
    return ANX_OK;
}

static anx_status
pass_alloc(struct pass *pass, const struct bench_data *data, size_t k, anx_error *err)
{
    memset(pass, 0, sizeof(*pass));
    pass->labels = anx_alloc_array(NULL, data->n_query * k, sizeof(*pass->labels));
    pass->distances = anx_alloc_array(NULL, data->n_query * k, sizeof(*pass->distances));
    pass->latencies = anx_alloc_array(NULL, data->n_query, sizeof(*pass->latencies));
    return pass->labels && pass->distances && pass->latencies
               ? ANX_OK
               : anx_fail(err, ANX_E_NOMEM, "no memory for the answers of %zu queries", data->n_query);
}

static void
pass_free(struct pass *pass)
{
    anx_free(NULL, pass->labels);
    anx_free(NULL, pass->distances);
    anx_free(NULL, pass->latencies);
}

anx_status
bench_recall_at(struct bench_side *side, size_t breadth, double *recall, anx_error *err)
{
    anx_pool *pool = anx_pool_create(0);
    struct pass pass;
    double qps;
    anx_status st = pass_alloc(&pass, side->data, side->truth->k, err);

    pass.side = side;
    pass.breadth = breadth;
    if (st == ANX_OK && !pool)
        st = anx_fail(err, ANX_E_NOMEM, "could not start threads");
    if (st == ANX_OK)
        st = pass_run(&pass, pool, &qps, err);
    if (st == ANX_OK)
        *recall = bench_recall(side->data, side->truth, pass.labels);
    pass_free(&pass);
    anx_pool_destroy(pool);
    return st;
}

/* ---- sweeps ---- */

void
bench_sweep_init(struct bench_sweep *sweep, const struct bench_options *options, anx_index_kind kind,
                 struct progress *progress)
{
    static const size_t efs[] = { 10, 12, 14,  16,  20,  24,  28,  32,  40,  48,  56, 64,
                                  80, 96, 128, 160, 192, 256, 320, 400, 512, 640, 800 };
    static const size_t nprobes[] = { 1,  2,  3,  4,  5,  6,  8,  10,  12,  16, 20,
                                      24, 32, 40, 48, 64, 80, 96, 128, 192, 256 };
    const struct option_uints *user = kind == ANX_INDEX_HNSW ? &options->ef : &options->nprobe;
    const size_t *list = kind == ANX_INDEX_HNSW ? efs : nprobes;
    size_t n = kind == ANX_INDEX_HNSW ? ANX_COUNT_OF(efs) : ANX_COUNT_OF(nprobes);

    memset(sweep, 0, sizeof(*sweep));
    sweep->threads = options->search_threads;
    sweep->repeat = options->repeat;
    sweep->is_cpu_time = options->is_cpu_time && options->search_threads == 1;
    sweep->progress = progress;
    if (kind == ANX_INDEX_FLAT) {
        sweep->breadth = (struct option_uints) { .n = 1 };
        return;
    }
    if (user->n > 0) {
        sweep->breadth = *user;
        return;
    }
    sweep->may_stop = true;
    for (size_t i = 0; i < n; i++)
        if (kind == ANX_INDEX_HNSW ? list[i] >= options->k || i + 1 == n
                                   : list[i] <= options->index.centroids)
            sweep->breadth.value[sweep->breadth.n++] = list[i];
}

/* What each pass measured, for the medians: [side][point][pass][what]. */
struct samples {
    double *value;
    size_t n_side, n_pass;
};
enum { SAMPLE_QPS, SAMPLE_P50, SAMPLE_P99, N_SAMPLE };

static double *
sample_at(const struct samples *s, size_t side, size_t point, size_t what)
{
    return s->value + ((side * BENCH_POINT_MAX + point) * N_SAMPLE + what) * s->n_pass;
}

static double
median_of(double *values, size_t n)
{
    qsort(values, n, sizeof(*values), compare_real);
    return n % 2 ? values[n / 2] : (values[n / 2 - 1] + values[n / 2]) / 2;
}

/* One side at one breadth in one pass. */
static anx_status
sample_take(const struct samples *s, struct pass *pass, anx_pool *pool, struct bench_side *side,
            size_t side_number, size_t point, size_t pass_number, anx_error *err)
{
    size_t n = side->data->n_query, p50 = n / 2, p99 = (n * 99 + 99) / 100 - 1;
    double qps = 0;
    anx_status st;

    pass->side = side;
    st = pass_run(pass, pool, &qps, err);
    if (st != ANX_OK)
        return st;
    sample_at(s, side_number, point, SAMPLE_QPS)[pass_number] = qps;
    sample_at(s, side_number, point, SAMPLE_P50)[pass_number] = (double) pass->latencies[p50] * 1e-3;
    sample_at(s, side_number, point, SAMPLE_P99)[pass_number] = (double) pass->latencies[p99] * 1e-3;
    if (pass_number == 0) {
        side->curve.point[point].breadth = pass->breadth;
        side->curve.point[point].recall = bench_recall(side->data, side->truth, pass->labels);
        side->curve.n = point + 1;
    }
    return ANX_OK;
}

static bool
is_over(const struct bench_sweep *sweep, const struct bench_side *side, size_t point, size_t pass_number)
{
    const struct bench_curve *curve = &side->curve;

    if (pass_number > 0)
        return point >= curve->n;
    return sweep->may_stop && point > 0 &&
           (curve->n < point || curve->point[point - 1].recall >= STOP_RECALL);
}

static anx_status
sweep_passes(const struct bench_sweep *sweep, struct bench_side *sides, struct samples *s, struct pass *pass,
             anx_pool *pool, anx_error *err)
{
    for (size_t r = 0; r < s->n_pass; r++) {
        for (size_t p = 0; p < sweep->breadth.n; p++) {
            progress_report(sweep->progress, "measuring", r * sweep->breadth.n + p,
                            s->n_pass * sweep->breadth.n);
            for (size_t i = 0; i < s->n_side; i++) {
                anx_status st;

                if (is_over(sweep, &sides[i], p, r))
                    continue;
                pass->breadth = sweep->breadth.value[p];
                st = sample_take(s, pass, pool, &sides[i], i, p, r, err);
                if (st != ANX_OK)
                    return st;
            }
        }
    }
    return ANX_OK;
}

anx_status
bench_sweep_run(const struct bench_sweep *sweep, struct bench_side *sides, size_t n_side, anx_error *err)
{
    struct samples s = { .n_side = n_side,
                         .n_pass = sweep->repeat < REPEAT_MAX ? sweep->repeat : REPEAT_MAX };
    anx_pool *pool = anx_pool_create(sweep->threads);
    struct pass pass;
    anx_status st = pass_alloc(&pass, sides[0].data, sides[0].truth->k, err);

    s.value = anx_alloc_zeroed(NULL, n_side * BENCH_POINT_MAX * N_SAMPLE * s.n_pass, sizeof(*s.value));
    if (st == ANX_OK && (!s.value || !pool))
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu passes", s.n_pass);
    pass.is_cpu_time = sweep->is_cpu_time;
    for (size_t i = 0; i < n_side; i++)
        sides[i].curve.n = 0;
    if (st == ANX_OK)
        st = sweep_passes(sweep, sides, &s, &pass, pool, err);
    for (size_t i = 0; st == ANX_OK && i < n_side; i++)
        for (size_t p = 0; p < sides[i].curve.n; p++) {
            sides[i].curve.point[p].qps = median_of(sample_at(&s, i, p, SAMPLE_QPS), s.n_pass);
            sides[i].curve.point[p].p50_us = median_of(sample_at(&s, i, p, SAMPLE_P50), s.n_pass);
            sides[i].curve.point[p].p99_us = median_of(sample_at(&s, i, p, SAMPLE_P99), s.n_pass);
        }
    progress_end(sweep->progress);
    anx_free(NULL, s.value);
    pass_free(&pass);
    anx_pool_destroy(pool);
    return st;
}

double
bench_qps_at(const struct bench_curve *curve, double recall)
{
    for (size_t i = 0; i < curve->n; i++) {
        const struct bench_point *b = &curve->point[i], *a = b - 1;
        double t;

        if (b->recall < recall)
            continue;
        if (i == 0)
            return b->qps;
        /* a is below the target, or it would have been the answer */
        t = (recall - a->recall) / (b->recall - a->recall);
        return exp(log(a->qps) + t * (log(b->qps) - log(a->qps)));
    }
    return NAN;
}
