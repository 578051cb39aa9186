/* `annex bench churn`: rounds of removing and reinserting rows by several threads while another one searches,
 * then recall against the fresh build that the index was. */
#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "bench/bench.h"

#define BREADTH_MAX 8

struct config {
    struct bench_options common;
    size_t rounds, writers;
    double share;
};

static const struct option_def churn_rows[] = {
    { .name = "rounds",
      .type = OPTION_UINT,
      .min = 1,
      .max = 1000,
      .def = "10",
      .offset = offsetof(struct config, rounds),
      .help = "Rounds" },
    { .name = "share",
      .type = OPTION_REAL,
      .min = 0.001,
      .max = 1,
      .def = "0.2",
      .offset = offsetof(struct config, share),
      .help = "Rows removed and reinserted in a round" },
    { .name = "writers",
      .type = OPTION_UINT,
      .min = 1,
      .max = 64,
      .def = "2",
      .offset = offsetof(struct config, writers),
      .help = "Threads that write" },
};
static const struct option_group groups[] = {
    { "Churn", churn_rows, ANX_COUNT_OF(churn_rows), 0 },
    BENCH_GROUPS(offsetof(struct config, common)),
};
static const struct option_text examples[] = {
    { "ten rounds that replace a fifth of the rows",
      "annex bench churn --base base.npy --queries queries.npy --metric cosine" },
};
const struct option_command bench_churn_command = {
    .name = "annex bench churn",
    .summary = "Builds an index, then in every round removes a random share of the rows and inserts them\n"
               "again while searches run; checks the structure and compares recall with the fresh build's.\n"
               "--ef or --nprobe: at most 8 values.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

struct round {
    double recall[BREADTH_MAX];
    double seconds;
    size_t n_searched; /* while writers ran */
    anx_index_stats stats;
};

struct churn {
    const struct config *config;
    anx_index_params params;
    struct bench_data data;
    struct bench_truth truth;
    struct bench_built built;
    struct bench_side side;
    struct option_uints breadth;
    struct round *rounds; /* owned; [0] is the fresh build */
    struct progress progress;

    /* of the round that runs; set before the threads start */
    uint64_t *order; /* owned: labels, shuffled; the first n_moved are removed and reinserted */
    size_t n_moved;
    anx_pool *pool; /* owned: the writers and one searcher */
    atomic_size_t n_writing, n_searched;
    atomic_int failed; /* the first status that is not ANX_OK, read after the pool is done */
};

static void
write_share(struct churn *c, size_t writer)
{
    size_t n = c->config->writers, begin = c->n_moved * writer / n, end = c->n_moved * (writer + 1) / n;
    anx_status st = ANX_OK;

    for (size_t i = begin; st == ANX_OK && i < end; i++)
        st = anx_index_remove(c->built.index, c->order[i], NULL);
    for (size_t i = begin; st == ANX_OK && i < end; i++)
        st = anx_index_add(c->built.index, c->order[i],
                           (const char *) c->data.index_rows + c->order[i] * c->data.row_size, NULL);
    if (st != ANX_OK)
        atomic_store(&c->failed, (int) st);
    atomic_fetch_sub(&c->n_writing, 1);
}

/* Searches until the writers are done; answers must be in order and hold no label twice. */
static void
search_meanwhile(struct churn *c)
{
    size_t k = c->config->common.k;
    anx_hits hits = { anx_alloc_array(NULL, k, sizeof(float)), anx_alloc_array(NULL, k, sizeof(uint64_t)) };
    anx_status st = hits.distances && hits.labels ? ANX_OK : ANX_E_NOMEM;

    for (size_t q = 0; st == ANX_OK && atomic_load(&c->n_writing) > 0; q = (q + 1) % c->data.n_query) {
        st = anx_index_search(c->built.index, NULL, 1,
                              (const char *) c->data.index_queries + q * c->data.row_size, k, &hits, NULL);
        for (size_t i = 1; st == ANX_OK && i < k && hits.labels[i] != ANX_LABEL_NONE; i++)
            if (hits.distances[i] < hits.distances[i - 1] || hits.labels[i] == hits.labels[i - 1])
                st = ANX_E_INTERNAL;
        atomic_fetch_add(&c->n_searched, 1);
    }
    if (st != ANX_OK)
        atomic_store(&c->failed, (int) st);
    anx_free(NULL, hits.distances);
    anx_free(NULL, hits.labels);
}

static void
run_job(void *context, size_t begin, size_t end, size_t worker)
{
    struct churn *c = context;

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        if (i < c->config->writers)
            write_share(c, i);
        else
            search_meanwhile(c); /* the last job: every writer has been taken by then */
    }
}

static anx_status
measure_recall(struct churn *c, struct round *round, anx_error *err)
{
    anx_index_get_stats(c->built.index, &round->stats);
    for (size_t i = 0; i < c->breadth.n; i++) {
        anx_status st = bench_recall_at(&c->side, c->breadth.value[i], &round->recall[i], err);

        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
run_round(struct churn *c, size_t number, anx_rng *rng, anx_error *err)
{
    struct round *round = &c->rounds[number];
    uint64_t start;
    anx_status st;

    for (size_t i = 0; i < c->n_moved; i++) {
        size_t j = i + anx_rng_below(rng, (uint32_t) (c->data.n - i));
        uint64_t swap = c->order[i];

        c->order[i] = c->order[j];
        c->order[j] = swap;
    }
    progress_report(&c->progress, "churning", number - 1, c->config->rounds);
    atomic_store(&c->n_writing, c->config->writers);
    atomic_store(&c->n_searched, 0);
    start = anx_clock_ns();
    anx_pool_for(c->pool, c->config->writers + 1, 1, run_job, c);
    round->seconds = (double) (anx_clock_ns() - start) * 1e-9;
    round->n_searched = atomic_load(&c->n_searched);
    st = (anx_status) atomic_load(&c->failed);
    if (st != ANX_OK)
        return anx_fail(err, st, "round %zu: a remove, add or search failed: %s", number,
                        anx_status_text(st));
    st = anx_index_check(c->built.index, err);
    if (st == ANX_E_UNSUPPORTED)
        st = ANX_OK;
    if (st != ANX_OK) {
        anx_error_context(err, "round %zu", number);
        return st;
    }
    return measure_recall(c, round, err);
}

static anx_status
prepare(struct churn *c, anx_error *err)
{
    static const struct option_uints efs = { 3, { 32, 64, 128 } }, nprobes = { 3, { 4, 16, 64 } },
                                     none = { 1, { 0 } };
    const struct bench_options *o = &c->config->common;
    anx_status st = bench_data_load(o, &c->params, &c->data, err);

    if (st != ANX_OK)
        return st;
    c->breadth = c->params.kind == ANX_INDEX_HNSW ? (o->ef.n ? o->ef : efs)
                 : c->params.kind == ANX_INDEX_IVF ? (o->nprobe.n ? o->nprobe : nprobes)
                                                   : none;
    if (c->breadth.n > BREADTH_MAX)
        c->breadth.n = BREADTH_MAX;
    c->n_moved = (size_t) (c->config->share * (double) c->data.n);
    c->order = anx_alloc_array(NULL, c->data.n, sizeof(*c->order));
    c->rounds = anx_alloc_zeroed(NULL, c->config->rounds + 1, sizeof(*c->rounds));
    c->pool = anx_pool_create(c->config->writers + 1);
    if (!c->order || !c->rounds || !c->pool)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu rounds", c->config->rounds);
    memcpy(c->order, c->data.labels, c->data.n * sizeof(*c->order));
    progress_report(&c->progress, "exact answers", 0, 0);
    st = bench_truth_get(o, &c->data, &c->truth, err);
    if (st == ANX_OK)
        st = bench_build(&c->params, &c->data, c->data.n, &c->progress, &c->built, err);
    c->side = (struct bench_side) {
        .index = c->built.index, .kind = c->params.kind, .data = &c->data, .truth = &c->truth
    };
    c->rounds[0].seconds = c->built.seconds;
    return st == ANX_OK ? measure_recall(c, &c->rounds[0], err) : st;
}

static anx_status
measure(struct churn *c, anx_error *err)
{
    anx_rng rng = anx_rng_seed(c->config->common.index.seed);
    anx_status st = prepare(c, err);

    for (size_t r = 1; st == ANX_OK && r <= c->config->rounds; r++)
        st = run_round(c, r, &rng, err);
    return st;
}

static double
worst_difference(const struct churn *c, size_t breadth)
{
    double worst = INFINITY;

    for (size_t r = 1; r <= c->config->rounds; r++)
        worst = fmin(worst, c->rounds[r].recall[breadth] - c->rounds[0].recall[breadth]);
    return worst;
}

static void
report_rounds(const struct churn *c, const struct report *report)
{
    struct table table = { .n_column = c->breadth.n + 4 };

    table_cell(&table, "round");
    for (size_t i = 0; i < c->breadth.n; i++)
        table_cell(&table, "recall, %s %zu", bench_breadth_name(c->params.kind), c->breadth.value[i]);
    table_cell(&table, "slots");
    table_cell(&table, "seconds");
    table_cell(&table, "searches meanwhile");
    for (size_t r = 0; r <= c->config->rounds; r++) {
        if (r == 0)
            table_cell(&table, "fresh build");
        else
            table_cell(&table, "%zu", r);
        for (size_t i = 0; i < c->breadth.n; i++)
            table_real(&table, c->rounds[r].recall[i], 4, "");
        table_cell(&table, "%zu", c->rounds[r].stats.slots);
        table_real(&table, c->rounds[r].seconds, 2, "");
        table_cell(&table, "%zu", c->rounds[r].n_searched);
    }
    table_cell(&table, "worst − fresh");
    for (size_t i = 0; i < c->breadth.n; i++)
        table_real(&table, worst_difference(c, i), 4, "");
    for (size_t i = 0; i < 3; i++)
        table_cell(&table, " ");
    report_table(report, &table);
    table_free(&table);
}

static void
print_json(const struct churn *c)
{
    struct json json = { .out = stdout };
    double worst = INFINITY;

    json_begin(&json, NULL, '{');
    json_text(&json, "scenario", "churn");
    json_text(&json, "index", anx_index_kind_name(c->params.kind));
    json_uint(&json, "n", c->data.n);
    json_real(&json, "share", c->config->share);
    json_begin(&json, "rounds", '[');
    for (size_t r = 0; r <= c->config->rounds; r++) {
        json_begin(&json, NULL, '{');
        json_uint(&json, "round", r);
        json_uint(&json, "slots", c->rounds[r].stats.slots);
        json_real(&json, "seconds", c->rounds[r].seconds);
        json_begin(&json, "recall", '[');
        for (size_t i = 0; i < c->breadth.n; i++) {
            json_begin(&json, NULL, '{');
            json_uint(&json, bench_breadth_name(c->params.kind), c->breadth.value[i]);
            json_real(&json, "recall", c->rounds[r].recall[i]);
            json_end(&json, '}');
        }
        json_end(&json, ']');
        json_end(&json, '}');
    }
    json_end(&json, ']');
    for (size_t i = 0; i < c->breadth.n; i++)
        worst = fmin(worst, worst_difference(c, i));
    json_real(&json, "worst_difference", worst);
    json_end(&json, '}');
    fputc('\n', stdout);
}

static anx_status
report_all(const struct churn *c, anx_error *err)
{
    struct report report;
    anx_status st = report_open(&c->config->common, &report, err);

    if (st != ANX_OK)
        return st;
    report_head(&report, &c->config->common, &c->data, "annex bench churn");
    report_text(&report,
                "Each round removes %.0f %% of the rows and inserts them again: %zu writing threads, one "
                "searching.\n\n",
                100 * c->config->share, c->config->writers);
    report_rounds(c, &report);
    if (c->config->common.is_json)
        print_json(c);
    return report_close(&report, err);
}

int
bench_churn(int argc, char **argv)
{
    struct config config;
    enum options_result parsed = options_parse(&bench_churn_command, argc, argv, &config, NULL);
    struct churn c = { .config = &config };
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    progress_init(&c.progress, config.common.is_quiet);
    st = measure(&c, &err);
    progress_end(&c.progress);
    if (st == ANX_OK)
        st = report_all(&c, &err);
    anx_pool_destroy(c.pool);
    anx_free(NULL, c.order);
    anx_free(NULL, c.rounds);
    anx_index_destroy(c.built.index);
    bench_truth_free(&c.truth);
    bench_data_free(&c.data);
    return bench_exit(bench_churn_command.name, st, &err);
}
