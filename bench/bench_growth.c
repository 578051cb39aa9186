/* `annex bench growth`: what happens to speed when the set grows. The large set is made from the real rows:
 * where those do not suffice, a new row lies between a real row and the nearest of 32 random others, 50-90 %
 * of the way to the first, and is rounded where the real rows are whole numbers. The small set is a random
 * sample of the large one, so that both have the same distribution; both are measured in turns with the same
 * queries. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "bench/bench.h"
#include "kernel/kernel.h"

#define N_CANDIDATE 32

struct config {
    struct bench_options common;
    size_t small, large;
};

static const struct option_def growth_rows[] = {
    { .name = "small", .type = OPTION_UINT, .min = 100, .max = 1e9, .def = "100000",
      .offset = offsetof(struct config, small), .help = "Rows of the small set" },
    { .name = "large", .type = OPTION_UINT, .min = 100, .max = 1e9, .def = "1200000",
      .offset = offsetof(struct config, large), .help = "Rows of the large set" },
};
static const struct option_group groups[] = {
    { "Sizes", growth_rows, ANX_COUNT_OF(growth_rows), 0 },
    BENCH_GROUPS(offsetof(struct config, common)),
};
static const struct option_text examples[] = {
    { "how speed changes with size",
      "annex bench growth --base base.npy --queries queries.npy --metric l2" },
};
const struct option_command bench_growth_command = {
    .name = "annex bench growth",
    .summary = "Queries per second at recall 0.95 and build time per row, of a large set against a random\n"
               "sample of it. Rows that the file does not have are mixed from neighboring real rows. Only\n"
               "--scalar f32; --truth is not used.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

enum { SMALL, LARGE, N_SIZE };

struct growth {
    const struct config *config;
    anx_index_params params;
    struct bench_data data[N_SIZE]; /* the small one borrows all of its arrays from the large one */
    struct bench_truth truth[N_SIZE];
    struct bench_built built[N_SIZE];
    struct bench_side sides[N_SIZE];
    struct progress progress;
};

static bool
is_whole(const struct bench_data *data)
{
    for (size_t i = 0; i < data->n * data->dim; i++)
        if (data->rows[i] != rintf(data->rows[i]))
            return false;
    return true;
}

struct mixing {
    const struct bench_data *source;
    float *rows; /* [n * dim] */
    bool is_whole;
    uint64_t seed;
};

/* One row per seed, so that the result does not depend on the threads. */
static void
mix_rows(void *context, size_t begin, size_t end, size_t worker)
{
    const struct mixing *m = context;
    const struct bench_data *s = m->source;
    const anx_kernels *kernels = anx_kernels_best();

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        anx_rng rng = anx_rng_seed(m->seed + i);
        const float *a = s->rows + anx_rng_below(&rng, (uint32_t) s->n) * s->dim, *b = a;
        float *out = m->rows + (s->n + i) * s->dim, nearest = INFINITY, share;

        for (size_t c = 0; c < N_CANDIDATE; c++) {
            const float *other = s->rows + anx_rng_below(&rng, (uint32_t) s->n) * s->dim;
            float d = kernels->distance[ANX_METRIC_L2][ANX_SCALAR_F32](a, other, s->dim);

            if (d > 0 && d < nearest) {
                nearest = d;
                b = other;
            }
        }
        share = 0.5f + 0.4f * (float) anx_rng_unit(&rng);
        for (size_t d = 0; d < s->dim; d++) {
            float x = share * a[d] + (1 - share) * b[d];

            out[d] = m->is_whole ? rintf(x) : x;
        }
    }
}

static void
shuffle_rows(struct bench_data *data, anx_rng *rng)
{
    for (size_t i = data->n - 1; i > 0; i--) {
        float *a = data->rows + i * data->dim,
              *b = data->rows + anx_rng_below(rng, (uint32_t) (i + 1)) * data->dim;

        for (size_t d = 0; d < data->dim; d++) {
            float swap = a[d];

            a[d] = b[d];
            b[d] = swap;
        }
    }
}

static anx_status
make_rows(struct growth *g, const struct bench_data *source, anx_error *err)
{
    struct bench_data *large = &g->data[LARGE];
    size_t n = g->config->large, n_real = source->n < n ? source->n : n;
    anx_rng rng = anx_rng_seed(g->config->common.index.seed);
    anx_pool *pool = anx_pool_create(0);
    anx_status st = bench_data_alloc(large, source->metric, n, source->n_query, source->dim, err);

    if (st == ANX_OK && !pool)
        st = anx_fail(err, ANX_E_NOMEM, "could not start threads");
    if (st == ANX_OK) {
        struct mixing mixing = { source, large->rows, is_whole(source), g->config->common.index.seed + 1000 };

        progress_report(&g->progress, "mixing rows", 0, 0);
        memcpy(large->rows, source->rows, n_real * source->row_size);
        memcpy(large->queries, source->queries, source->n_query * source->row_size);
        anx_pool_for(pool, n - n_real, 1024, mix_rows, &mixing);
        shuffle_rows(large, &rng);
        g->data[SMALL] = *large;
        g->data[SMALL].n = g->config->small < n ? g->config->small : n;
    }
    anx_pool_destroy(pool);
    return st;
}

static anx_status
measure(struct growth *g, anx_error *err)
{
    const struct bench_options *o = &g->config->common;
    struct bench_data source;
    struct bench_sweep sweep;
    anx_status st = bench_data_load(o, &g->params, &source, err);

    if (st == ANX_OK && g->params.scalar != ANX_SCALAR_F32)
        st = anx_fail(err, ANX_E_UNSUPPORTED, "this scenario is for --scalar f32");
    if (st == ANX_OK)
        st = make_rows(g, &source, err);
    bench_data_free(&source);
    for (int size = 0; st == ANX_OK && size < N_SIZE; size++) {
        progress_report(&g->progress, "exact answers", 0, 0);
        st = bench_truth_compute(&g->data[size], o->k, NULL, 0, &g->truth[size], err);
        if (st == ANX_OK)
            st = bench_build(&g->params, &g->data[size], g->data[size].n, &g->progress, &g->built[size], err);
        g->sides[size] = (struct bench_side) { .index = g->built[size].index, .kind = g->params.kind,
                                               .data = &g->data[size], .truth = &g->truth[size] };
    }
    if (st != ANX_OK)
        return st;
    bench_sweep_init(&sweep, o, g->params.kind, &g->progress);
    return bench_sweep_run(&sweep, g->sides, N_SIZE, err);
}

static double
us_per_row(const struct growth *g, int size)
{
    return g->built[size].seconds * 1e6 / (double) g->data[size].n;
}

static void
report_growth(const struct growth *g, const struct report *report)
{
    static const double targets[] = { 0.90, 0.95, 0.99 };
    struct table table = { .n_column = 4 };

    table_cell(&table, "figure");
    for (int size = 0; size < N_SIZE; size++)
        table_cell(&table, "%zu rows", g->data[size].n);
    table_cell(&table, "large / small");
    for (size_t t = 0; t < ANX_COUNT_OF(targets); t++) {
        double qps[N_SIZE];

        table_cell(&table, "QPS at recall %.2f", targets[t]);
        for (int size = 0; size < N_SIZE; size++) {
            qps[size] = bench_qps_at(&g->sides[size].curve, targets[t]);
            table_real(&table, qps[size], 0, "");
        }
        table_real(&table, qps[LARGE] / qps[SMALL], 2, "x");
    }
    table_cell(&table, "build, µs per row");
    table_real(&table, us_per_row(g, SMALL), 2, "");
    table_real(&table, us_per_row(g, LARGE), 2, "");
    table_real(&table, us_per_row(g, LARGE) / us_per_row(g, SMALL), 2, "x");
    table_cell(&table, "index bytes per row");
    for (int size = 0; size < N_SIZE; size++)
        table_real(&table, (double) g->built[size].stats.memory_bytes / (double) g->data[size].n, 0, "");
    table_cell(&table, " ");
    report_table(report, &table);
    table_free(&table);
}

static void
print_json(const struct growth *g)
{
    static const char *const keys[N_SIZE] = { "small", "large" };
    struct json json = { .out = stdout };

    json_begin(&json, NULL, '{');
    json_text(&json, "scenario", "growth");
    for (int size = 0; size < N_SIZE; size++) {
        json_begin(&json, keys[size], '{');
        json_uint(&json, "n", g->data[size].n);
        json_real(&json, "build_seconds", g->built[size].seconds);
        json_uint(&json, "index_bytes", g->built[size].stats.memory_bytes);
        json_curve(&json, "runs", &g->sides[size].curve, g->params.kind);
        json_end(&json, '}');
    }
    json_real(&json, "qps_ratio_0.95",
              bench_qps_at(&g->sides[LARGE].curve, 0.95) / bench_qps_at(&g->sides[SMALL].curve, 0.95));
    json_real(&json, "build_ratio_per_row", us_per_row(g, LARGE) / us_per_row(g, SMALL));
    json_end(&json, '}');
    fputc('\n', stdout);
}

static anx_status
report_all(const struct growth *g, anx_error *err)
{
    struct report report;
    anx_status st = report_open(&g->config->common, &report, err);

    if (st != ANX_OK)
        return st;
    report_head(&report, &g->config->common, &g->data[LARGE], "annex bench growth");
    report_text(
        &report,
        "Rows beyond the real ones lie between a real row and the nearest of %d others; the small set is a "
        "random sample of the large one.\n\n",
        N_CANDIDATE);
    report_growth(g, &report);
    if (g->config->common.is_json)
        print_json(g);
    return report_close(&report, err);
}

int
bench_growth(int argc, char **argv)
{
    struct config config;
    enum options_result parsed = options_parse(&bench_growth_command, argc, argv, &config, NULL);
    struct growth g = { .config = &config };
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    progress_init(&g.progress, config.common.is_quiet);
    st = measure(&g, &err);
    progress_end(&g.progress);
    if (st == ANX_OK)
        st = report_all(&g, &err);
    for (int size = 0; size < N_SIZE; size++) {
        anx_index_destroy(g.built[size].index);
        bench_truth_free(&g.truth[size]);
    }
    bench_data_free(&g.data[LARGE]);
    return bench_exit(bench_growth_command.name, st, &err);
}
