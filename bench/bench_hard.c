/* `annex bench hard`: data that graphs find hard, made from real rows, against hnswlib at equal ef.
 *   clusters  every row and query is moved by one of 200 offsets, each several times as long as the rows
 *             spread: 200 islands, each with the shape of real data
 *   copies    20 rows appear 1,000 times more, at random places; they are also asked for
 *   inserts   80 % of the rows are loaded in bulk, the others come one by one, from all building threads */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "bench/bench.h"

#define N_CLUSTER 200
#define CLUSTER_DISTANCE 4.0 /* offsets, in multiples of the rows' spread: islands stay apart */
#define N_COPIED 20
#define N_COPY 1000
#define LOADED_SHARE 0.8

enum { CASE_CLUSTERS, CASE_COPIES, CASE_INSERTS, N_CASE };
static const char *const case_names[N_CASE] = { "200 separated clusters", "20 x 1,000 copies",
                                                "20 % single inserts" };

struct config {
    struct bench_options common;
    int peer;
};

static const struct option_def hard_rows[] = {
    { .name = "peer", .type = OPTION_CHOICE, .choices = "none|hnswlib", .def = "hnswlib",
      .offset = offsetof(struct config, peer), .help = "Compare with this library" },
};
static const struct option_group groups[] = {
    { "What to measure", hard_rows, ANX_COUNT_OF(hard_rows), 0 },
    BENCH_GROUPS(offsetof(struct config, common)),
};
static const struct option_text examples[] = {
    { "what graphs find hard, made of your rows",
      "annex bench hard --base base.npy --queries queries.npy --metric l2" },
};
const struct option_command bench_hard_command = {
    .name = "annex bench hard",
    .summary = "Recall on separated clusters, on many copies of a row, and after single inserts into a bulk\n"
               "build, against hnswlib at equal ef. Only f32 hnsw.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

struct outcome {
    struct bench_curve ours, peer;
    double build_seconds, peer_seconds;
    size_t n;
};
struct hard {
    const struct config *config;
    anx_index_params params;
    struct bench_data source; /* what the files hold */
    struct outcome outcome[N_CASE];
    struct progress progress;
};

static double
gauss(anx_rng *rng)
{
    return sqrt(-2 * log(anx_rng_unit(rng))) * cos(2 * 3.14159265358979323846 * anx_rng_unit(rng));
}

/* Root of the mean squared distance of rows from their mean. */
static double
spread_of(const struct bench_data *data, double *mean)
{
    double sum = 0;

    memset(mean, 0, data->dim * sizeof(*mean));
    for (size_t i = 0; i < data->n; i++)
        for (size_t d = 0; d < data->dim; d++)
            mean[d] += (double) data->rows[i * data->dim + d] / (double) data->n;
    for (size_t i = 0; i < data->n; i++)
        for (size_t d = 0; d < data->dim; d++) {
            double x = (double) data->rows[i * data->dim + d] - mean[d];

            sum += x * x / (double) data->n;
        }
    return sqrt(sum);
}

static void
move_row(float *row, const float *offset, size_t dim)
{
    for (size_t d = 0; d < dim; d++)
        row[d] += offset[d];
}

static anx_status
make_clusters(const struct bench_data *source, anx_rng *rng, struct bench_data *out, anx_error *err)
{
    size_t dim = source->dim;
    float *offsets = anx_alloc_array(NULL, N_CLUSTER * dim, sizeof(*offsets));
    double *mean = anx_alloc_array(NULL, dim, sizeof(*mean));
    anx_status st = bench_data_alloc(out, source->metric, source->n, source->n_query, dim, err);

    if (st == ANX_OK && (!offsets || !mean))
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %d clusters", N_CLUSTER);
    if (st == ANX_OK) {
        double scale = CLUSTER_DISTANCE * spread_of(source, mean) / sqrt((double) dim);

        for (size_t i = 0; i < N_CLUSTER * dim; i++)
            offsets[i] = (float) (gauss(rng) * scale);
        memcpy(out->rows, source->rows, source->n * source->row_size);
        memcpy(out->queries, source->queries, source->n_query * source->row_size);
        for (size_t i = 0; i < out->n; i++)
            move_row(out->rows + i * dim, offsets + anx_rng_below(rng, N_CLUSTER) * dim, dim);
        for (size_t i = 0; i < out->n_query; i++)
            move_row(out->queries + i * dim, offsets + anx_rng_below(rng, N_CLUSTER) * dim, dim);
    }
    anx_free(NULL, offsets);
    anx_free(NULL, mean);
    return st;
}

static anx_status
make_copies(const struct bench_data *source, anx_rng *rng, struct bench_data *out, anx_error *err)
{
    size_t dim = source->dim, n_extra = (size_t) N_COPIED * N_COPY;
    size_t *origin = anx_alloc_array(NULL, source->n + n_extra, sizeof(*origin));
    anx_status st =
        bench_data_alloc(out, source->metric, source->n + n_extra, source->n_query + N_COPIED, dim, err);

    if (st == ANX_OK && !origin)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu rows", out->n);
    if (st == ANX_OK) {
        memcpy(out->queries, source->queries, source->n_query * source->row_size);
        for (size_t i = 0; i < source->n; i++)
            origin[i] = i;
        for (size_t c = 0; c < N_COPIED; c++) {
            size_t row = anx_rng_below(rng, (uint32_t) source->n);

            memcpy(out->queries + (source->n_query + c) * dim, source->rows + row * dim, source->row_size);
            for (size_t i = 0; i < N_COPY; i++)
                origin[source->n + c * N_COPY + i] = row;
        }
        for (size_t i = out->n - 1; i > 0; i--) {
            size_t j = anx_rng_below(rng, (uint32_t) (i + 1)), swap = origin[i];

            origin[i] = origin[j];
            origin[j] = swap;
        }
        for (size_t i = 0; i < out->n; i++)
            memcpy(out->rows + i * dim, source->rows + origin[i] * dim, source->row_size);
    }
    anx_free(NULL, origin);
    return st;
}

static anx_status
make_plain(const struct bench_data *source, struct bench_data *out, anx_error *err)
{
    anx_status st = bench_data_alloc(out, source->metric, source->n, source->n_query, source->dim, err);

    if (st == ANX_OK) {
        memcpy(out->rows, source->rows, source->n * source->row_size);
        memcpy(out->queries, source->queries, source->n_query * source->row_size);
    }
    return st;
}

struct adding {
    anx_index *index;
    const struct bench_data *data;
    size_t first;
    atomic_int failed; /* read after the pool is done */
};

static void
add_rows(void *context, size_t begin, size_t end, size_t worker)
{
    struct adding *a = context;

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        anx_status st =
            anx_index_add(a->index, a->first + i, a->data->rows + (a->first + i) * a->data->dim, NULL);

        if (st != ANX_OK)
            atomic_store(&a->failed, (int) st);
    }
}

static anx_status
add_singly(struct hard *hard, const struct bench_data *data, size_t first, struct bench_built *built,
           anx_error *err)
{
    struct adding adding = { .index = built->index, .data = data, .first = first };
    anx_pool *pool = anx_pool_create(hard->params.threads);
    uint64_t start = anx_clock_ns();
    anx_status st;

    if (!pool)
        return anx_fail(err, ANX_E_NOMEM, "could not start threads");
    progress_report(&hard->progress, "adding rows one by one", 0, 0);
    anx_pool_for(pool, data->n - first, 16, add_rows, &adding);
    anx_pool_destroy(pool);
    built->seconds += (double) (anx_clock_ns() - start) * 1e-9;
    st = (anx_status) atomic_load(&adding.failed);
    return st == ANX_OK ? ANX_OK : anx_fail(err, st, "an add failed: %s", anx_status_text(st));
}

static anx_status
measure_case(struct hard *hard, int which, const struct bench_data *data, anx_error *err)
{
    static const struct option_uints efs = { 6, { 10, 20, 40, 80, 160, 320 } };
    const struct bench_options *o = &hard->config->common;
    struct outcome *outcome = &hard->outcome[which];
    struct bench_built built = { 0 };
    struct bench_peer peer = { 0 };
    struct bench_truth truth = { 0 };
    struct bench_sweep sweep = { .breadth = o->ef.n ? o->ef : efs,
                                 .threads = o->search_threads,
                                 .repeat = o->repeat,
                                 .is_cpu_time = o->is_cpu_time && o->search_threads == 1,
                                 .progress = &hard->progress };
    size_t n_bulk = which == CASE_INSERTS ? (size_t) (LOADED_SHARE * (double) data->n) : data->n;
    anx_status st;

    progress_report(&hard->progress, "exact answers", 0, 0);
    st = bench_truth_compute(data, o->k, NULL, hard->params.threads, &truth, err);
    if (st == ANX_OK)
        st = bench_build(&hard->params, data, n_bulk, &hard->progress, &built, err);
    if (st == ANX_OK && n_bulk < data->n)
        st = add_singly(hard, data, n_bulk, &built, err);
    if (st == ANX_OK)
        st = bench_peer_build(hard->config->peer ? "hnswlib" : NULL, &hard->params, data, &hard->progress,
                              &peer, err);
    if (st == ANX_OK) {
        struct bench_side sides[2] = {
            { .index = built.index, .kind = hard->params.kind, .data = data, .truth = &truth },
            { .peer = &peer, .kind = hard->params.kind, .data = data, .truth = &truth },
        };

        st = bench_sweep_run(&sweep, sides, peer.ops ? 2 : 1, err);
        *outcome = (struct outcome) { sides[0].curve, sides[1].curve, built.seconds, peer.seconds, data->n };
    }
    anx_index_destroy(built.index);
    bench_peer_free(&peer);
    bench_truth_free(&truth);
    return st;
}

static anx_status
measure(struct hard *hard, anx_error *err)
{
    anx_status st = bench_data_load(&hard->config->common, &hard->params, &hard->source, err);

    if (st == ANX_OK && (hard->params.kind != ANX_INDEX_HNSW || hard->params.scalar != ANX_SCALAR_F32))
        st = anx_fail(err, ANX_E_UNSUPPORTED, "this scenario is for --index hnsw with --scalar f32");
    for (int which = 0; st == ANX_OK && which < N_CASE; which++) {
        anx_rng rng = anx_rng_seed(hard->config->common.index.seed + (uint64_t) which);
        struct bench_data data = { 0 };

        st = which == CASE_CLUSTERS ? make_clusters(&hard->source, &rng, &data, err)
             : which == CASE_COPIES ? make_copies(&hard->source, &rng, &data, err)
                                    : make_plain(&hard->source, &data, err);
        if (st == ANX_OK)
            st = measure_case(hard, which, &data, err);
        bench_data_free(&data);
    }
    return st;
}

/* The smallest of our recall minus the peer's over the measured ef; NAN without a peer. */
static double
worst_difference(const struct outcome *o)
{
    double worst = NAN;

    for (size_t i = 0; i < o->ours.n && i < o->peer.n; i++)
        worst = fmin(worst, o->ours.point[i].recall - o->peer.point[i].recall); /* fmin ignores a NAN */
    return worst;
}

static void
report_case(const struct hard *hard, int which, const struct report *report)
{
    const struct outcome *o = &hard->outcome[which];
    struct table table = { .n_column = o->peer.n ? 6 : 3 };
    static const char *const heads[] = { "ef",          "recall",           "QPS", "hnswlib recall",
                                         "hnswlib QPS", "recall difference" };

    report_text(report, "### %s\n\n%zu rows; built in %.1f s", case_names[which], o->n, o->build_seconds);
    if (o->peer.n) {
        double ratio = bench_qps_at(&o->ours, 0.95) / bench_qps_at(&o->peer, 0.95);

        report_text(report, ", hnswlib in %.1f s; worst recall difference %+.4f", o->peer_seconds,
                    worst_difference(o));
        if (isfinite(ratio))
            report_text(report, "; QPS ratio at recall 0.95 %.2fx", ratio);
        else
            report_text(report, "; not both reach recall 0.95");
    }
    report_text(report, ".\n\n");
    for (size_t i = 0; i < table.n_column; i++)
        table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < o->ours.n; i++) {
        table_cell(&table, "%zu", o->ours.point[i].breadth);
        table_real(&table, o->ours.point[i].recall, 4, "");
        table_real(&table, o->ours.point[i].qps, 0, "");
        if (!o->peer.n)
            continue;
        table_real(&table, o->peer.point[i].recall, 4, "");
        table_real(&table, o->peer.point[i].qps, 0, "");
        table_cell(&table, "%+.4f", o->ours.point[i].recall - o->peer.point[i].recall);
    }
    report_table(report, &table);
    table_free(&table);
}

static void
print_json(const struct hard *hard)
{
    struct json json = { .out = stdout };

    json_begin(&json, NULL, '{');
    json_text(&json, "scenario", "hard");
    json_text(&json, "metric", anx_metric_name(hard->params.metric));
    json_begin(&json, "cases", '[');
    for (int which = 0; which < N_CASE; which++) {
        const struct outcome *o = &hard->outcome[which];

        json_begin(&json, NULL, '{');
        json_text(&json, "name", case_names[which]);
        json_uint(&json, "n", o->n);
        json_real(&json, "build_seconds", o->build_seconds);
        json_curve(&json, "runs", &o->ours, hard->params.kind);
        if (o->peer.n) {
            json_real(&json, "peer_build_seconds", o->peer_seconds);
            json_curve(&json, "peer_runs", &o->peer, hard->params.kind);
            json_real(&json, "worst_difference", worst_difference(o));
        }
        json_end(&json, '}');
    }
    json_end(&json, ']');
    json_end(&json, '}');
    fputc('\n', stdout);
}

static anx_status
report_all(const struct hard *hard, anx_error *err)
{
    struct report report;
    anx_status st = report_open(&hard->config->common, &report, err);

    if (st != ANX_OK)
        return st;
    report_head(&report, &hard->config->common, &hard->source, "annex bench hard");
    for (int which = 0; which < N_CASE; which++)
        report_case(hard, which, &report);
    if (hard->config->common.is_json)
        print_json(hard);
    return report_close(&report, err);
}

int
bench_hard(int argc, char **argv)
{
    struct config config;
    enum options_result parsed = options_parse(&bench_hard_command, argc, argv, &config, NULL);
    struct hard hard = { .config = &config };
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    progress_init(&hard.progress, config.common.is_quiet);
    st = measure(&hard, &err);
    progress_end(&hard.progress);
    if (st == ANX_OK)
        st = report_all(&hard, &err);
    bench_data_free(&hard.source);
    return bench_exit(bench_hard_command.name, st, &err);
}
