/* The benchmark from the inside: data and exact answers (data.c), building and measuring (measure.c), tables,
 * JSON and plots (table.c, json.c, plot.c), and the scenarios, one file each, that put them together.
 * README.md says how and why. */
#ifndef ANX_BENCH_BENCH_H
#define ANX_BENCH_BENCH_H

#include <stdio.h>

#include "annex/index.h"
#include "base/rng.h"
#include "base/thread.h"
#include "bench/peer.h"
#include "cli/index_options.h"
#include "cli/options.h"
#include "cli/progress.h"

/* ---- options that every scenario has ---- */

struct bench_options {
    const char *base, *queries, *truth;
    size_t limit, k;
    struct index_options index;
    struct option_uints ef, nprobe;
    size_t search_threads, repeat;
    bool is_cpu_time, is_json, is_quiet;
    const char *markdown, *plot, *title;
};
enum { BENCH_N_DATA_ROW = 5, BENCH_N_MEASURE_ROW = 10 }; /* constants: tables of groups are made of them */
extern const struct option_def bench_data_rows[BENCH_N_DATA_ROW], bench_measure_rows[BENCH_N_MEASURE_ROW];
/* The three groups of struct bench_options at `offset` of a config: data, index, measuring. */
#define BENCH_GROUPS(at)                                                                                    \
    { "Data", bench_data_rows, BENCH_N_DATA_ROW, (at) },                                                    \
    { "Index", index_option_rows, INDEX_N_OPTION_ROW, (at) + offsetof(struct bench_options, index) },       \
    { "Measuring", bench_measure_rows, BENCH_N_MEASURE_ROW, (at) }

/* What each scenario takes; bench.c lists them. */
extern const struct option_command bench_ann_command, bench_churn_command, bench_db_command,
    bench_growth_command, bench_hard_command, bench_indexing_command;

/* ---- data ---- */

/* Rows and queries, as f32 for exact answers and for peers, and in the index's element kind. All arrays
 * owned. */
struct bench_data {
    anx_metric metric;
    anx_scalar scalar;
    size_t n, dim, n_query, row_size;
    float *rows, *queries;              /* [n * dim], [n_query * dim] */
    void *index_rows, *index_queries;   /* the same memory when the element kind is f32 */
    uint64_t *labels;                   /* [n]: 0, 1, 2, … */
};
/* Reads --base (at most --limit rows) and --queries, and sets metric, scalar and dim of *params. */
ANX_NODISCARD anx_status bench_data_load(const struct bench_options *options, anx_index_params *params,
                                         struct bench_data *data, anx_error *err);
/* Room for n rows and n_query queries of `dim` f32, for scenarios that make their rows; labels are filled. */
ANX_NODISCARD anx_status bench_data_alloc(struct bench_data *data, anx_metric metric, size_t n,
                                          size_t n_query, size_t dim, anx_error *err);
void bench_data_free(struct bench_data *data); /* all zero is fine */
/* An anx_fetch_fn; context is a struct bench_data. */
const void *bench_data_fetch(void *context, uint64_t label, void *room);
double bench_distance(anx_metric metric, const float *a, const float *b, size_t dim);
/* Copies rows with length 1 (zero rows stay zero). NULL: out of memory. Freed with anx_free(NULL, …). */
float *bench_normalized(const float *rows, size_t n, size_t dim);

/* What counts as right: for query q, `want[q]` rows at a distance of at most bound[q]. A row that is as near
 * as the last of the k true neighbors is right too, so that copies and ties cost nobody anything. */
struct bench_truth {
    size_t k;
    double *bound;          /* [n_query] */
    size_t *want;           /* [n_query], at most k */
    const uint64_t *bitmap; /* only rows of this set count; NULL: all. Borrowed. */
};
/* From a file of row numbers (any integer kind, at least k columns, one row per query). */
ANX_NODISCARD anx_status bench_truth_read(const struct bench_data *data, const char *path, size_t k,
                                          struct bench_truth *truth, anx_error *err);
/* By exact search over data, among the rows of the bitmap when it is not NULL. */
ANX_NODISCARD anx_status bench_truth_compute(const struct bench_data *data, size_t k, const uint64_t *bitmap,
                                             size_t threads, struct bench_truth *truth, anx_error *err);
/* Reads the file when one is named and all of its rows are in use; computes otherwise. */
ANX_NODISCARD anx_status bench_truth_get(const struct bench_options *options, const struct bench_data *data,
                                         struct bench_truth *truth, anx_error *err);
void bench_truth_free(struct bench_truth *truth);
/* Share of the right rows in labels[n_query * k]. A label that appears twice counts once. */
double bench_recall(const struct bench_data *data, const struct bench_truth *truth, const uint64_t *labels);

/* ---- building and measuring ---- */

struct bench_built {
    anx_index *index;            /* owned */
    double seconds, cpu_seconds; /* cpu: of all threads together */
    anx_index_stats stats;
};
/* Bulk load of rows first..first+n; ivf is trained when loading did not. */
ANX_NODISCARD anx_status bench_build(const anx_index_params *params, const struct bench_data *data, size_t n,
                                     struct progress *progress, struct bench_built *out, anx_error *err);
struct bench_peer {
    const struct peer_ops *ops;
    void *index;
    float *queries; /* owned; normalized for cosine */
    double seconds, cpu_seconds;
    size_t bytes;
};
/* name NULL: out is zeroed. */
ANX_NODISCARD anx_status bench_peer_build(const char *name, const anx_index_params *params,
                                          const struct bench_data *data, struct progress *progress,
                                          struct bench_peer *out, anx_error *err);
void bench_peer_free(struct bench_peer *peer);

#define BENCH_POINT_MAX OPTION_LIST_MAX
struct bench_point {
    size_t breadth; /* ef or nprobe */
    double recall, qps, p50_us, p99_us;
};
struct bench_curve {
    size_t n;
    struct bench_point point[BENCH_POINT_MAX];
};

/* One of the things measured against each other. Exactly one of index and peer is set. */
struct bench_side {
    const anx_index *index;
    const struct bench_peer *peer;
    anx_index_kind kind;
    const anx_filter *filter; /* of index; NULL: none */
    const struct bench_data *data;
    const struct bench_truth *truth;
    struct bench_curve curve; /* the result */
};
struct bench_sweep {
    struct option_uints breadth;
    bool is_cpu_time; /* QPS by the searching thread's CPU time: for machines that are busy otherwise */
    bool may_stop; /* leave out what lies beyond recall 0.997: the list was not the user's */
    size_t threads, repeat;
    struct progress *progress;
};
/* Measures all sides at every breadth, taking turns: pass by pass, breadth by breadth, side by side. A point
 * is the median of its passes. */
ANX_NODISCARD anx_status bench_sweep_run(const struct bench_sweep *sweep, struct bench_side *sides,
                                         size_t n_side, anx_error *err);
/* The breadths to use for a kind: the user's list or the default one. */
void bench_sweep_init(struct bench_sweep *sweep, const struct bench_options *options, anx_index_kind kind,
                      struct progress *progress);
/* Recall only, every query at one breadth, on all CPUs. */
ANX_NODISCARD anx_status bench_recall_at(struct bench_side *side, size_t breadth, double *recall,
                                         anx_error *err);
/* Queries per second at a recall: log(QPS) interpolated over recall between measured points; the first point
 * when that is already beyond; NAN when the recall is not reached. */
double bench_qps_at(const struct bench_curve *curve, double recall);

/* ---- reporting ---- */

#define TABLE_CELL 48
/* Cells row by row, the head first; printed as an aligned Markdown table, which terminals show well too. */
struct table {
    size_t n_column, n_cell;
    char (*cell)[TABLE_CELL]; /* owned */
    size_t capacity;
    bool has_failed; /* out of memory: cells are missing, printing says so */
};
void table_cell(struct table *table, const char *format, ...) ANX_PRINTF(2, 3);
/* A number with the given decimals, "–" for NAN. */
void table_real(struct table *table, double value, int decimals, const char *unit);
void table_print(const struct table *table, FILE *out);
void table_free(struct table *table);

/* One JSON value on a stream. key NULL inside of arrays. */
struct json {
    FILE *out;
    bool needs_comma;
};
void json_begin(struct json *json, const char *key, char bracket);
void json_end(struct json *json, char bracket);
void json_text(struct json *json, const char *key, const char *value);
void json_uint(struct json *json, const char *key, size_t value);
void json_real(struct json *json, const char *key, double value); /* NAN and infinity become null */
void json_curve(struct json *json, const char *key, const struct bench_curve *curve, anx_index_kind kind);

struct plot_series {
    const char *name;
    const struct bench_curve *curve;
};
/* Recall against queries per second (log axis) as an SVG that follows the reader's light or dark theme. */
ANX_NODISCARD anx_status plot_write(const char *path, const char *title, const struct plot_series *series,
                                    size_t n, anx_error *err);

/* Where tables go: standard output (unless --json), and the end of the --markdown file. */
struct report {
    FILE *out[2];
    size_t n;
};
ANX_NODISCARD anx_status report_open(const struct bench_options *options, struct report *report,
                                     anx_error *err);
ANX_NODISCARD anx_status report_close(struct report *report, anx_error *err);
void report_text(const struct report *report, const char *format, ...) ANX_PRINTF(2, 3);
void report_table(const struct report *report, const struct table *table);
/* "## title", then what was measured on what: CPU, rows, index, threads. */
void report_head(const struct report *report, const struct bench_options *options,
                 const struct bench_data *data, const char *title);
const char *bench_breadth_name(anx_index_kind kind); /* "ef", "nprobe" */

/* ---- scenarios ---- */

int bench_ann(int argc, char **argv);
int bench_churn(int argc, char **argv);
int bench_hard(int argc, char **argv);
int bench_db(int argc, char **argv);
int bench_growth(int argc, char **argv);
int bench_indexing(int argc, char **argv);
/* Prints the error and gives the exit code. */
int bench_exit(const char *command, anx_status st, const anx_error *err);

#endif
