/* `annex bench ann`: one index, optionally a peer, optionally filters, on one data set. */
#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "bench/bench.h"

struct config {
    struct bench_options common;
    int peer;
    struct option_reals filter;
};

static const char *const peer_names[] = { NULL, "hnswlib", "faiss" };
static const anx_index_kind peer_kinds[] = { ANX_INDEX_HNSW, ANX_INDEX_HNSW, ANX_INDEX_IVF };
static const double targets[] = { 0.90, 0.95, 0.99 };
#define N_TARGET ANX_COUNT_OF(targets)

static const struct option_def ann_rows[] = {
    { .name = "peer",
      .type = OPTION_CHOICE,
      .choices = "none|hnswlib|faiss",
      .def = "none",
      .offset = offsetof(struct config, peer),
      .help = "Measure this library in turns with ours" },
    { .name = "filter",
      .type = OPTION_REAL_LIST,
      .min = 0.000001,
      .max = 1,
      .value = "SHARE,..",
      .offset = offsetof(struct config, filter),
      .help = "Also search with only this share of the rows allowed" },
};
static const struct option_group groups[] = {
    { "What to measure", ann_rows, ANX_COUNT_OF(ann_rows), 0 },
    BENCH_GROUPS(offsetof(struct config, common)),
};
static const struct option_text examples[] = {
    { "search speed at each recall, beside another library",
      "annex bench ann --base base.npy --queries queries.npy --truth neighbors.npy --metric cosine --peer "
      "hnswlib" },
};
const struct option_command bench_ann_command = {
    .name = "annex bench ann",
    .summary = "Builds an index, then measures recall, queries per second and latency, one query at a time.\n"
               "With a peer both are built here and measured in turns, and compared at equal recall.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

struct filtered {
    double share;
    size_t n_pass;
    uint64_t *bitmap; /* owned */
    anx_filter filter;
    struct bench_truth truth;
    struct bench_side sides[2]; /* without and with the filter, measured in turns */
};

struct ann {
    const struct config *config;
    anx_index_params params;
    struct bench_data data;
    struct bench_truth truth;
    struct bench_built built;
    struct bench_peer peer;
    struct bench_side sides[2]; /* ours, peer */
    struct filtered filtered[8];
    size_t n_filtered;
    struct progress progress;
};

static double
ratio_at(const struct ann *ann, double recall)
{
    return bench_qps_at(&ann->sides[0].curve, recall) / bench_qps_at(&ann->sides[1].curve, recall);
}

/* ---- measuring ---- */

static struct bench_side
our_side(const struct ann *ann, const struct bench_truth *truth, const anx_filter *filter)
{
    return (struct bench_side){ .index = ann->built.index,
                                .kind = ann->params.kind,
                                .data = &ann->data,
                                .truth = truth,
                                .filter = filter };
}

static anx_status
filtered_prepare(struct ann *ann, struct filtered *f, double share, anx_error *err)
{
    anx_rng rng = anx_rng_seed(ann->config->common.index.seed + 77);
    size_t n = ann->data.n;

    memset(f, 0, sizeof(*f));
    f->share = share;
    f->bitmap = anx_alloc_zeroed(NULL, (n + 63) / 64, sizeof(*f->bitmap));
    if (!f->bitmap)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a bitmap of %zu rows", n);
    for (size_t i = 0; i < n; i++)
        if (anx_rng_unit(&rng) <= share) {
            f->bitmap[i >> 6] |= (uint64_t) 1 << (i & 63);
            f->n_pass++;
        }
    f->filter = (anx_filter) { .bitmap = f->bitmap, .bits = n, .expected = f->n_pass };
    progress_report(&ann->progress, "exact answers under the filter", 0, 0);
    return bench_truth_compute(&ann->data, ann->config->common.k, f->bitmap, 0, &f->truth, err);
}

static anx_status
measure_filters(struct ann *ann, const struct bench_sweep *sweep, anx_error *err)
{
    for (size_t i = 0; i < ann->config->filter.n && i < ANX_COUNT_OF(ann->filtered); i++) {
        struct filtered *f = &ann->filtered[i];
        anx_status st = filtered_prepare(ann, f, ann->config->filter.value[i], err);

        ann->n_filtered = i + 1;
        if (st != ANX_OK)
            return st;
        f->sides[0] = our_side(ann, &ann->truth, NULL);
        f->sides[1] = our_side(ann, &f->truth, &f->filter);
        st = bench_sweep_run(sweep, f->sides, 2, err);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
measure(struct ann *ann, anx_error *err)
{
    const struct config *config = ann->config;
    struct bench_sweep sweep;
    anx_status st = bench_data_load(&config->common, &ann->params, &ann->data, err);

    if (st != ANX_OK)
        return st;
    if (config->peer && ann->params.kind != peer_kinds[config->peer])
        return anx_fail(err, ANX_E_INVALID, "peer %s is compared with --index %s only",
                        peer_names[config->peer], anx_index_kind_name(peer_kinds[config->peer]));
    progress_report(&ann->progress, "exact answers", 0, 0);
    st = bench_truth_get(&config->common, &ann->data, &ann->truth, err);
    if (st == ANX_OK)
        st = bench_build(&ann->params, &ann->data, ann->data.n, &ann->progress, &ann->built, err);
    if (st == ANX_OK)
        st = bench_peer_build(peer_names[config->peer], &ann->params, &ann->data, &ann->progress, &ann->peer,
                              err);
    if (st != ANX_OK)
        return st;
    ann->sides[0] = our_side(ann, &ann->truth, NULL);
    ann->sides[1] = our_side(ann, &ann->truth, NULL);
    ann->sides[1].index = NULL;
    ann->sides[1].peer = &ann->peer;
    bench_sweep_init(&sweep, &config->common, ann->params.kind, &ann->progress);
    st = bench_sweep_run(&sweep, ann->sides, config->peer ? 2 : 1, err);
    return st == ANX_OK ? measure_filters(ann, &sweep, err) : st;
}

/* ---- reporting ---- */

static void
report_curves(const struct ann *ann, const struct report *report)
{
    static const char *const heads[] = { "recall", "QPS", "p50 µs", "p99 µs" };
    struct table table = { .n_column = ann->peer.ops ? 9 : 5 };
    const struct bench_curve *ours = &ann->sides[0].curve, *peer = &ann->sides[1].curve;
    size_t n = ours->n > peer->n || !ann->peer.ops ? ours->n : peer->n;

    table_cell(&table, "%s", bench_breadth_name(ann->params.kind));
    for (size_t i = 0; i + 1 < table.n_column; i++)
        table_cell(&table, "%s%s%s", i < 4 ? "" : ann->peer.ops->name, i < 4 ? "" : " ", heads[i % 4]);
    for (size_t i = 0; i < n; i++) {
        table_cell(&table, "%zu", (i < ours->n ? ours : peer)->point[i].breadth);
        for (size_t c = 0; c < table.n_column / 4; c++) {
            const struct bench_curve *curve = c == 0 ? ours : peer;
            struct bench_point p = { 0, NAN, NAN, NAN, NAN };

            if (i < curve->n)
                p = curve->point[i];
            table_real(&table, p.recall, 4, "");
            table_real(&table, p.qps, 0, "");
            table_real(&table, p.p50_us, 1, "");
            table_real(&table, p.p99_us, 1, "");
        }
    }
    report_table(report, &table);
    table_free(&table);
}

static void
report_summary(const struct ann *ann, const struct report *report)
{
    struct table table = { .n_column = ann->peer.ops ? 4 : 2 };
    double raw = (double) ann->data.n * (double) ann->data.dim * sizeof(float);
    bool has_peer = ann->peer.ops != NULL;

    table_cell(&table, "figure");
    table_cell(&table, "annex");
    if (has_peer) {
        table_cell(&table, "%s %s", ann->peer.ops->name, ann->peer.ops->version);
        table_cell(&table, "ratio");
    }
    table_cell(&table, "build, s");
    table_real(&table, ann->built.seconds, 2, "");
    if (has_peer) {
        table_real(&table, ann->peer.seconds, 2, "");
        table_real(&table, ann->peer.seconds / ann->built.seconds, 2, "x");
    }
    table_cell(&table, "build, CPU s");
    table_real(&table, ann->built.cpu_seconds, 2, "");
    if (has_peer) {
        table_real(&table, ann->peer.cpu_seconds, 2, "");
        table_real(&table, ann->peer.cpu_seconds / ann->built.cpu_seconds, 2, "x");
    }
    table_cell(&table, "index bytes / f32 bytes");
    table_real(&table, (double) ann->built.stats.memory_bytes / raw, 3, "");
    if (has_peer) {
        table_real(&table, (double) ann->peer.bytes / raw, 3, "");
        table_cell(&table, " ");
    }
    for (size_t i = 0; i < N_TARGET; i++) {
        table_cell(&table, "QPS at recall %.2f", targets[i]);
        table_real(&table, bench_qps_at(&ann->sides[0].curve, targets[i]), 0, "");
        if (has_peer) {
            table_real(&table, bench_qps_at(&ann->sides[1].curve, targets[i]), 0, "");
            table_real(&table, ratio_at(ann, targets[i]), 2, "x");
        }
    }
    report_table(report, &table);
    table_free(&table);
}

/* The first point that reaches a recall; NULL: none does. */
static const struct bench_point *
point_at(const struct bench_curve *curve, double recall)
{
    for (size_t i = 0; i < curve->n; i++)
        if (curve->point[i].recall >= recall)
            return &curve->point[i];
    return NULL;
}

/* Latency with the filter over latency without, both at recall 0.95. */
static double
filter_ratio(const struct filtered *f)
{
    return bench_qps_at(&f->sides[0].curve, 0.95) / bench_qps_at(&f->sides[1].curve, 0.95);
}

static double
filter_ratio_same_breadth(const struct filtered *f, const struct bench_point **at)
{
    const struct bench_point *plain = point_at(&f->sides[0].curve, 0.95);

    *at = NULL;
    for (size_t i = 0; plain && i < f->sides[1].curve.n; i++)
        if (f->sides[1].curve.point[i].breadth == plain->breadth)
            *at = &f->sides[1].curve.point[i];
    if (!*at && plain && f->sides[1].curve.n > 0) /* a filtered sweep that stopped early was beyond 0.997 */
        *at = &f->sides[1].curve.point[f->sides[1].curve.n - 1];
    return *at ? plain->qps / (*at)->qps : NAN;
}

static void
report_filters(const struct ann *ann, const struct report *report)
{
    static const char *const heads[] = { "share allowed", "rows", "recall", "latency, same breadth",
                                         "at recall 0.95" };
    struct table table = { .n_column = ANX_COUNT_OF(heads) };

    if (ann->n_filtered == 0)
        return;
    report_text(
        report,
        "Filtered: latency as a multiple of the unfiltered search's; same breadth is the first %s at which "
        "the unfiltered search reaches 0.95.\n\n",
        bench_breadth_name(ann->params.kind));
    for (size_t i = 0; i < ANX_COUNT_OF(heads); i++)
        table_cell(&table, "%s", heads[i]);
    for (size_t i = 0; i < ann->n_filtered; i++) {
        const struct filtered *f = &ann->filtered[i];
        const struct bench_point *at;
        double same = filter_ratio_same_breadth(f, &at);

        table_cell(&table, "%g %%", 100 * f->share);
        table_cell(&table, "%zu", f->n_pass);
        table_real(&table, at ? at->recall : NAN, 4, "");
        table_real(&table, same, 2, "x");
        table_real(&table, filter_ratio(f), 2, "x");
    }
    report_table(report, &table);
    table_free(&table);
}

static void
print_json(const struct ann *ann)
{
    struct json json = { .out = stdout };

    json_begin(&json, NULL, '{');
    json_text(&json, "index", anx_index_kind_name(ann->params.kind));
    json_text(&json, "metric", anx_metric_name(ann->params.metric));
    json_uint(&json, "n", ann->data.n);
    json_uint(&json, "dim", ann->data.dim);
    json_real(&json, "build_seconds", ann->built.seconds);
    json_real(&json, "build_cpu_seconds", ann->built.cpu_seconds);
    json_uint(&json, "index_bytes", ann->built.stats.memory_bytes);
    json_curve(&json, "runs", &ann->sides[0].curve, ann->params.kind);
    if (ann->peer.ops) {
        json_begin(&json, "peer", '{');
        json_text(&json, "name", ann->peer.ops->name);
        json_text(&json, "version", ann->peer.ops->version);
        json_real(&json, "build_seconds", ann->peer.seconds);
        json_real(&json, "build_cpu_seconds", ann->peer.cpu_seconds);
        json_curve(&json, "runs", &ann->sides[1].curve, ann->params.kind);
        json_end(&json, '}');
        json_begin(&json, "ratio", '{');
        for (size_t i = 0; i < N_TARGET; i++) {
            static const char *const keys[N_TARGET] = { "0.90", "0.95", "0.99" };

            json_real(&json, keys[i], ratio_at(ann, targets[i]));
        }
        json_real(&json, "build", ann->peer.seconds / ann->built.seconds);
        json_end(&json, '}');
    }
    if (ann->n_filtered > 0) {
        json_begin(&json, "filter", '[');
        for (size_t i = 0; i < ann->n_filtered; i++) {
            const struct bench_point *at;

            json_begin(&json, NULL, '{');
            json_real(&json, "share", ann->filtered[i].share);
            json_uint(&json, "rows", ann->filtered[i].n_pass);
            json_curve(&json, "runs", &ann->filtered[i].sides[1].curve, ann->params.kind);
            json_real(&json, "latency_ratio", filter_ratio_same_breadth(&ann->filtered[i], &at));
            json_real(&json, "latency_ratio_0.95", filter_ratio(&ann->filtered[i]));
            json_end(&json, '}');
        }
        json_end(&json, ']');
    }
    json_end(&json, '}');
    fputc('\n', stdout);
}

static anx_status
report_all(const struct ann *ann, anx_error *err)
{
    const struct bench_options *options = &ann->config->common;
    struct plot_series series[] = { { "annex", &ann->sides[0].curve },
                                    { ann->peer.ops ? ann->peer.ops->name : "", &ann->sides[1].curve } };
    struct report report;
    anx_status st = report_open(options, &report, err);

    if (st != ANX_OK)
        return st;
    report_head(&report, options, &ann->data, "annex bench ann");
    report_curves(ann, &report);
    report_summary(ann, &report);
    report_filters(ann, &report);
    if (options->is_json)
        print_json(ann);
    st = report_close(&report, err);
    if (st == ANX_OK && options->plot)
        st = plot_write(options->plot, options->title ? options->title : "Recall against speed", series,
                        ann->peer.ops ? 2 : 1, err);
    return st;
}

int
bench_ann(int argc, char **argv)
{
    struct config config;
    enum options_result parsed = options_parse(&bench_ann_command, argc, argv, &config, NULL);
    struct ann ann = { .config = &config };
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    progress_init(&ann.progress, config.common.is_quiet);
    st = measure(&ann, &err);
    progress_end(&ann.progress);
    if (st == ANX_OK)
        st = report_all(&ann, &err);
    for (size_t i = 0; i < ann.n_filtered; i++) {
        anx_free(NULL, ann.filtered[i].bitmap);
        bench_truth_free(&ann.filtered[i].truth);
    }
    bench_peer_free(&ann.peer);
    anx_index_destroy(ann.built.index);
    bench_truth_free(&ann.truth);
    bench_data_free(&ann.data);
    return bench_exit(bench_ann_command.name, st, &err);
}
