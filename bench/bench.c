/* `annex bench`: the scenarios by name, and the options they share. */
#include <string.h>

#include "base/error.h"
#include "bench/bench.h"
#include "cli/commands.h"

const struct option_def bench_data_rows[BENCH_N_DATA_ROW] = {
    { .name = "base",
      .type = OPTION_TEXT,
      .is_required = true,
      .value = "FILE",
      .offset = offsetof(struct bench_options, base),
      .help = "Rows: .npy, .fvecs, .bvecs" },
    { .name = "queries",
      .type = OPTION_TEXT,
      .is_required = true,
      .value = "FILE",
      .offset = offsetof(struct bench_options, queries),
      .help = "Queries, the same way" },
    { .name = "truth",
      .type = OPTION_TEXT,
      .value = "FILE",
      .offset = offsetof(struct bench_options, truth),
      .help = "Row numbers of the nearest, nearest first; computed when missing" },
    { .name = "limit",
      .type = OPTION_UINT,
      .min = 0,
      .max = 4e9,
      .def = "0",
      .offset = offsetof(struct bench_options, limit),
      .help = "Use the first N rows only; 0: all. Truth is then computed" },
    { .name = "k",
      .type = OPTION_UINT,
      .min = 1,
      .max = 1000,
      .def = "10",
      .offset = offsetof(struct bench_options, k),
      .help = "Neighbors asked for" },
};

const struct option_def bench_measure_rows[BENCH_N_MEASURE_ROW] = {
    { .name = "ef",
      .type = OPTION_UINT_LIST,
      .min = 1,
      .max = 1e6,
      .offset = offsetof(struct bench_options, ef),
      .help = "hnsw: candidate lists to measure; otherwise 10 to 800, up to recall 0.997" },
    { .name = "nprobe",
      .type = OPTION_UINT_LIST,
      .min = 1,
      .max = ANX_IVF_CENTROIDS_MAX,
      .offset = offsetof(struct bench_options, nprobe),
      .help = "ivf: lists to visit; otherwise 1 to 256" },
    { .name = "search-threads",
      .type = OPTION_UINT,
      .min = 1,
      .max = 1024,
      .def = "1",
      .offset = offsetof(struct bench_options, search_threads),
      .help = "Threads that search, one query each at a time" },
    { .name = "repeat",
      .type = OPTION_UINT,
      .min = 1,
      .max = 101,
      .def = "3",
      .offset = offsetof(struct bench_options, repeat),
      .help = "Passes; a figure is their median" },
    { .name = "cpu-time",
      .type = OPTION_FLAG,
      .offset = offsetof(struct bench_options, is_cpu_time),
      .help = "QPS by CPU time, not by the clock: for a machine that is busy otherwise; 1 search thread" },
    { .name = "json",
      .type = OPTION_FLAG,
      .offset = offsetof(struct bench_options, is_json),
      .help = "Print one JSON object instead of tables" },
    { .name = "markdown",
      .type = OPTION_TEXT,
      .value = "FILE",
      .offset = offsetof(struct bench_options, markdown),
      .help = "Also append the tables to FILE" },
    { .name = "plot",
      .type = OPTION_TEXT,
      .value = "FILE",
      .offset = offsetof(struct bench_options, plot),
      .help = "Also draw recall against QPS as SVG (where a scenario has curves)" },
    { .name = "title",
      .type = OPTION_TEXT,
      .offset = offsetof(struct bench_options, title),
      .help = "Heading of the tables and the plot" },
    { .name = "quiet",
      .type = OPTION_FLAG,
      .offset = offsetof(struct bench_options, is_quiet),
      .help = "No progress on standard error" },
};

static const struct command scenarios[] = {
    { "ann", "recall, QPS and latency by ef or nprobe; against a peer; with filters", bench_ann,
      &bench_ann_command, NULL },
    { "churn", "recall after rounds of delete and reinsert while searches run", bench_churn,
      &bench_churn_command, NULL },
    { "hard", "separated clusters, many copies, single inserts: recall against a peer", bench_hard,
      &bench_hard_command, NULL },
    { "growth", "QPS and build time of a large set against a sample of it", bench_growth,
      &bench_growth_command, NULL },
    { "db", "the document database: KNN behind filters, quantization in the background", bench_db,
      &bench_db_command, NULL },
    { "indexing", "an index from an indexing server, against the bare build and loopback", bench_indexing,
      &bench_indexing_command, NULL },
};

const struct command_table bench_table = {
    .name = "annex bench",
    .summary = "Measures indexes on real vectors. Each scenario has its own --help.",
    .commands = scenarios,
    .n = ANX_COUNT_OF(scenarios),
};

int
cmd_bench(int argc, char **argv)
{
    return command_run(&bench_table, argc, argv);
}

int
bench_exit(const char *command, anx_status st, const anx_error *err)
{
    return command_exit(command, st, err);
}
