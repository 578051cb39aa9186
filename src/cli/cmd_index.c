/* `annex index`: looks into index files of every format, checks them, searches them, turns one into another.
 */
#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "annex/index_file.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/dataset.h"
#include "cli/options.h"

static const char *const format_names[ANX_FILE_FORMAT_COUNT] = {
    [ANX_FILE_ANNEX] = "annex", [ANX_FILE_USEARCH] = "usearch", [ANX_FILE_LANTERN] = "lantern",
    [ANX_FILE_GRAPH] = "graph"
};

/* --- inspect
 * ----------------------------------------------------------------------------------------------------- */

struct inspect_config {
    bool is_json;
};
static const struct option_def inspect_rows[] = {
    { .name = "json", .type = OPTION_FLAG, .offset = offsetof(struct inspect_config, is_json),
      .help = "One JSON object" },
};
static const struct option_group inspect_groups[] = { { "Options", inspect_rows, ANX_COUNT_OF(inspect_rows),
                                                        0 } };
static const struct option_text inspect_examples[] = {
    { "what a file holds", "annex index inspect base.annex" },
    { "the same for a program", "annex index inspect --json base.annex" },
};
static const struct option_command inspect_command = {
    .name = "annex index inspect",
    .summary = "Prints what the heads of an index file say. Reads nothing else: see `annex index verify`.",
    .positional = "FILE",
    .min_positional = 1,
    .max_positional = 1,
    .groups = inspect_groups,
    .n_group = ANX_COUNT_OF(inspect_groups),
    .examples = inspect_examples,
    .n_example = ANX_COUNT_OF(inspect_examples),
};

static void
print_info_json(const anx_file_info *info)
{
    printf("{\"format\":\"%s\",\"version\":\"%u.%u.%u\",\"index\":\"%s\",\"metric\":\"%s\",\"scalar\":\"%s\","
           "\"quantization\":\"%s\",\"dim\":%zu,\"count\":%zu,\"deleted\":%zu,\"m\":%zu,\"m0\":%zu,\"max_"
           "level\":%zu,"
           "\"entry_slot\":%" PRIu64 ",\"file_size\":%zu,\"has_checksum\":%s,\"has_native\":%s}\n",
           format_names[info->format], info->version[0], info->version[1], info->version[2],
           anx_index_kind_name(info->kind), anx_metric_name(info->metric), anx_scalar_name(info->scalar),
           info->quantization == ANX_QUANTIZATION_SQ8 ? "sq8" : "none", info->dim, info->count, info->deleted,
           info->m, info->m0, info->max_level, info->entry_slot, info->file_size,
           info->has_checksum ? "true" : "false", info->has_native ? "true" : "false");
}

static void
print_info(const anx_file_info *info)
{
    printf("format        %s %u.%u.%u\n", format_names[info->format], info->version[0], info->version[1],
           info->version[2]);
    printf("index         %s\n", anx_index_kind_name(info->kind));
    printf("metric        %s\n", anx_metric_name(info->metric));
    printf("elements      %zu %s%s\n", info->dim, anx_scalar_name(info->scalar),
           info->quantization == ANX_QUANTIZATION_SQ8 ? ", kept as 8-bit codes only" : "");
    printf("rows          %zu", info->count);
    if (info->deleted > 0)
        printf(", and %zu removed", info->deleted);
    printf("\n");
    if (info->kind == ANX_INDEX_HNSW && info->format == ANX_FILE_ANNEX)
        printf("graph         m %zu, maximum level %zu\n", info->m, info->max_level);
    else if (info->kind == ANX_INDEX_HNSW)
        printf("graph         m %zu, %zu at the bottom, maximum level %zu\n", info->m, info->m0,
               info->max_level);
    if (info->format != ANX_FILE_ANNEX)
        printf("entry         node %" PRIu64 "\n", info->entry_slot);
    printf("size          %zu bytes\n", info->file_size);
    printf("checksums     %s\n", info->has_checksum ? "yes" : "no: written by others, or plain");
    printf("own sections  %s\n", info->has_native ? "yes: can be mapped" : "no: is imported when loaded");
}

static int
cmd_inspect(int argc, char **argv)
{
    struct inspect_config config;
    struct option_positional files;
    enum options_result parsed = options_parse(&inspect_command, argc, argv, &config, &files);
    anx_file_info info;
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    st = anx_file_inspect(files.value[0], &info, &err);
    if (st == ANX_OK && config.is_json)
        print_info_json(&info);
    else if (st == ANX_OK)
        print_info(&info);
    return command_exit(inspect_command.name, st, &err);
}

/* --- verify
 * ------------------------------------------------------------------------------------------------------ */

static const struct option_text verify_examples[] = {
    { "all of the files of a folder", "annex index verify *.annex" },
};
static const struct option_command verify_command = {
    .name = "annex index verify",
    .summary = "Reads whole index files and checks everything: checksums where there are any, every count, "
               "id and label,\n"
               "and the index made from them. Prints one line per file; the exit code is 1 when one of them "
               "is damaged.",
    .positional = "FILE...",
    .min_positional = 1,
    .max_positional = OPTION_POSITIONAL_MAX,
    .examples = verify_examples,
    .n_example = ANX_COUNT_OF(verify_examples),
};

static int
verify_one(const char *path)
{
    anx_file_info info;
    anx_error err;
    anx_status st = anx_file_verify(path, &err);

    if (st == ANX_OK)
        st = anx_file_inspect(path, &info, &err);
    if (st == ANX_OK)
        printf("%s: ok, %zu rows%s\n", path, info.count,
               info.has_checksum ? "" : " (no checksums in this file)");
    return command_exit(verify_command.name, st, &err);
}

static int
cmd_verify(int argc, char **argv)
{
    struct option_positional files;
    char unused = 0;
    enum options_result parsed = options_parse(&verify_command, argc, argv, &unused, &files);
    int exit_code = 0;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    for (size_t i = 0; i < files.n; i++)
        if (verify_one(files.value[i]) != 0)
            exit_code = 1;
    return exit_code;
}

/* --- search
 * ------------------------------------------------------------------------------------------------------ */

struct search_config {
    const char *queries, *vector, *truth;
    size_t k, ef, nprobe, limit;
    bool is_mapped;
};
static const struct option_def search_rows[] = {
    { .name = "queries",
      .type = OPTION_TEXT,
      .value = "FILE",
      .offset = offsetof(struct search_config, queries),
      .help = "Query rows: .npy, .fvecs, .bvecs" },
    { .name = "vector",
      .type = OPTION_TEXT,
      .value = "X,Y,...",
      .offset = offsetof(struct search_config, vector),
      .help = "One query, as numbers" },
    { .name = "k",
      .type = OPTION_UINT,
      .min = 1,
      .max = 1e6,
      .def = "10",
      .offset = offsetof(struct search_config, k),
      .help = "Rows per answer" },
    { .name = "ef",
      .type = OPTION_UINT,
      .min = 0,
      .max = 1e9,
      .def = "0",
      .offset = offsetof(struct search_config, ef),
      .help = "hnsw: candidates of a search; 0: the file's" },
    { .name = "nprobe",
      .type = OPTION_UINT,
      .min = 0,
      .max = ANX_IVF_CENTROIDS_MAX,
      .def = "0",
      .offset = offsetof(struct search_config, nprobe),
      .help = "ivf: lists of a search; 0: the file's" },
    { .name = "limit",
      .type = OPTION_UINT,
      .min = 0,
      .max = 1e9,
      .def = "0",
      .offset = offsetof(struct search_config, limit),
      .help = "Only the first queries of the file; 0: all" },
    { .name = "truth",
      .type = OPTION_TEXT,
      .value = "FILE",
      .offset = offsetof(struct search_config, truth),
      .help = "True neighbors of each query: prints recall in place of rows" },
    { .name = "map",
      .type = OPTION_FLAG,
      .offset = offsetof(struct search_config, is_mapped),
      .help = "Map the file in place of reading it (checksums of rows are then not checked)" },
};
static const struct option_group search_groups[] = { { "Options", search_rows, ANX_COUNT_OF(search_rows),
                                                       0 } };
static const struct option_text search_examples[] = {
    { "ten nearest of each query", "annex index search base.annex --queries queries.npy --k 10" },
    { "recall, when the true neighbors are known",
      "annex index search base.annex --queries queries.npy --truth neighbors.npy --ef 100" },
};
static const struct option_command search_command = {
    .name = "annex index search",
    .summary =
        "Searches an index file. Prints one line per answer: number of the query, rank, label, distance.",
    .positional = "FILE",
    .min_positional = 1,
    .max_positional = 1,
    .groups = search_groups,
    .n_group = ANX_COUNT_OF(search_groups),
    .examples = search_examples,
    .n_example = ANX_COUNT_OF(search_examples),
};

/* Numbers separated by commas, as a data set of one row. The array is the caller's to free. */
static anx_status
parse_vector(const char *text, struct dataset *data, float **owned, anx_error *err)
{
    size_t n = 1;
    float *values;

    for (const char *c = text; *c; c++)
        n += *c == ',';
    values = anx_alloc_array(NULL, n, sizeof(*values));
    *owned = values;
    if (!values)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu numbers", n);
    for (size_t i = 0; i < n; i++) {
        char *end;

        values[i] = strtof(text, &end);
        if (end == text || (*end != ',' && *end != '\0') || !isfinite(values[i]))
            return anx_fail(err, ANX_E_VALUE, "component %zu of --vector is not a finite number", i);
        text = end + 1;
    }
    *data = (struct dataset){ .data = (const uint8_t *) values,
                              .rows = 1,
                              .dim = n,
                              .stride = n * sizeof(*values),
                              .type = DATASET_F32 };
    return ANX_OK;
}

struct answers {
    size_t n, k;
    anx_hits hits; /* owned */
    double seconds;
};

static anx_status
run_queries(const anx_index *index, const struct search_config *config, const struct dataset *data,
            struct answers *out, anx_error *err)
{
    const anx_index_params *params = anx_index_get_params(index);
    anx_search_params search = ANX_SEARCH_PARAMS_INIT;
    size_t dim = dataset_dim(data, params->scalar);
    void *rows;
    uint64_t start;
    anx_status st;

    if (dim != params->dim)
        return anx_fail(err, ANX_E_DIM, "query has %zu dimensions, the index expects %zu", dim, params->dim);
    out->k = config->k;
    out->n = config->limit && config->limit < data->rows ? config->limit : data->rows;
    rows = anx_alloc_array(NULL, out->n, anx_row_size(params->scalar, params->dim));
    out->hits.labels = anx_alloc_array(NULL, out->n, out->k * sizeof(*out->hits.labels));
    out->hits.distances = anx_alloc_array(NULL, out->n, out->k * sizeof(*out->hits.distances));
    search.ef = config->ef;
    search.nprobe = config->nprobe;
    if (!rows || !out->hits.labels || !out->hits.distances)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate %zu answers of %zu rows", out->n, out->k);
    else
        st = dataset_read(data, params->scalar, 0, out->n, rows, err);
    start = anx_clock_ns();
    if (st == ANX_OK)
        st = anx_index_search(index, &search, out->n, rows, out->k, &out->hits, err);
    out->seconds = (double) (anx_clock_ns() - start) * 1e-9;
    anx_free(NULL, rows);
    return st;
}

static void
print_answers(const struct answers *answers)
{
    for (size_t i = 0; i < answers->n; i++)
        for (size_t j = 0; j < answers->k; j++) {
            size_t at = i * answers->k + j;

            if (answers->hits.labels[at] == ANX_LABEL_NONE)
                break; /* the rest of a short answer is padding */
            printf("%zu\t%zu\t%" PRIu64 "\t%.9g\n", i, j + 1, answers->hits.labels[at],
                   (double) answers->hits.distances[at]);
        }
}

/* Is `label` among the first k of a row of the truth? */
static bool
truth_has(const struct dataset *truth, size_t row, size_t k, uint64_t label)
{
    for (size_t j = 0; j < k; j++) {
        int64_t value;

        if (dataset_integer(truth, row, j, &value) && value >= 0 && (uint64_t) value == label)
            return true;
    }
    return false;
}

static anx_status
print_recall(const struct answers *answers, const char *path, anx_error *err)
{
    struct dataset truth;
    size_t found = 0;
    anx_status st = dataset_open(path, &truth, err);

    if (st != ANX_OK)
        return st;
    if (truth.rows < answers->n || truth.dim < answers->k)
        st = anx_fail(err, ANX_E_INVALID, "truth has %zu rows of %zu neighbors, %zu rows of %zu are needed",
                      truth.rows, truth.dim, answers->n, answers->k);
    for (size_t i = 0; st == ANX_OK && i < answers->n * answers->k; i++)
        found += truth_has(&truth, i / answers->k, answers->k, answers->hits.labels[i]);
    if (st == ANX_OK)
        printf("recall@%zu %.4f over %zu queries, %.1f us per query\n", answers->k,
               (double) found / (double) (answers->n * answers->k), answers->n,
               answers->seconds * 1e6 / (double) answers->n);
    dataset_close(&truth);
    return st;
}

static anx_status
search_file(const struct search_config *config, const char *path, anx_error *err)
{
    struct dataset data = { 0 };
    struct answers answers = { 0 };
    anx_index *index = NULL;
    float *owned = NULL;
    anx_status st = config->is_mapped ? anx_index_map_file(path, NULL, &index, err) :
                                        anx_index_load_file(path, NULL, &index, err);

    if (st == ANX_OK)
        st = config->queries ? dataset_open(config->queries, &data, err) :
                               parse_vector(config->vector, &data, &owned, err);
    if (st == ANX_OK)
        st = run_queries(index, config, &data, &answers, err);
    if (st == ANX_OK && config->truth)
        st = print_recall(&answers, config->truth, err);
    else if (st == ANX_OK)
        print_answers(&answers);
    anx_free(NULL, answers.hits.labels);
    anx_free(NULL, answers.hits.distances);
    anx_free(NULL, owned);
    if (config->queries)
        dataset_close(&data);
    anx_index_destroy(index);
    return st;
}

static int
cmd_search(int argc, char **argv)
{
    struct search_config config = { 0 };
    struct option_positional files;
    enum options_result parsed = options_parse(&search_command, argc, argv, &config, &files);
    anx_error err;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    if (!config.queries == !config.vector) {
        fprintf(stderr, "%s: give either --queries or --vector\ntry: %s --help\n", search_command.name,
                search_command.name);
        return 2;
    }
    return command_exit(search_command.name, search_file(&config, files.value[0], &err), &err);
}

/* --- convert
 * ----------------------------------------------------------------------------------------------------- */

struct convert_config {
    const char *out;
    int format;
    bool is_plain, is_native;
};
static const struct option_def convert_rows[] = {
    { .name = "to", .type = OPTION_CHOICE, .is_required = true, .choices = "annex|usearch|lantern",
      .offset = offsetof(struct convert_config, format), .help = "Layout of the new file" },
    { .name = "out", .type = OPTION_TEXT, .is_required = true, .value = "FILE",
      .offset = offsetof(struct convert_config, out), .help = "The new file" },
    { .name = "plain", .type = OPTION_FLAG, .offset = offsetof(struct convert_config, is_plain),
      .help = "usearch, lantern: only what the original has, no checksums" },
    { .name = "native", .type = OPTION_FLAG, .offset = offsetof(struct convert_config, is_native),
      .help = "usearch, lantern: our own sections too, so that the file can be mapped" },
};
static const struct option_group convert_groups[] = { { "Options", convert_rows, ANX_COUNT_OF(convert_rows),
                                                        0 } };
static const struct option_text convert_examples[] = {
    { "for programs that use usearch",
      "annex index convert base.annex --to usearch --out base.usearch" },
};
static const struct option_command convert_command = {
    .name = "annex index convert",
    .summary =
        "Reads an index file of any format and writes it in another. Labels, rows and parameters stay.",
    .positional = "FILE",
    .min_positional = 1,
    .max_positional = 1,
    .groups = convert_groups,
    .n_group = ANX_COUNT_OF(convert_groups),
    .examples = convert_examples,
    .n_example = ANX_COUNT_OF(convert_examples),
};

static anx_status
convert_file(const struct convert_config *config, const char *path, anx_error *err)
{
    static const anx_file_format formats[] = { ANX_FILE_ANNEX, ANX_FILE_USEARCH, ANX_FILE_LANTERN };
    anx_save_params save = { formats[config->format], config->is_plain, config->is_native };
    anx_index *index = NULL;
    size_t size = 0;
    anx_status st = anx_index_load_file(path, NULL, &index, err);

    if (st == ANX_OK)
        st = anx_index_save_size(index, &save, &size, err);
    if (st == ANX_OK)
        st = anx_index_save_file(index, &save, config->out, err);
    if (st == ANX_OK)
        printf("%s: %s, %zu rows, %zu bytes\n", config->out, format_names[save.format],
               anx_index_count(index), size);
    anx_index_destroy(index);
    return st;
}

static int
cmd_convert(int argc, char **argv)
{
    struct convert_config config = { 0 };
    struct option_positional files;
    enum options_result parsed = options_parse(&convert_command, argc, argv, &config, &files);
    anx_error err;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    return command_exit(convert_command.name, convert_file(&config, files.value[0], &err), &err);
}

static const struct command commands[] = {
    { "inspect", "What an index file holds, from its heads", cmd_inspect, &inspect_command, NULL },
    { "verify", "Check whole files: checksums and structure", cmd_verify, &verify_command, NULL },
    { "search", "Nearest rows of one query or of a file of queries", cmd_search, &search_command, NULL },
    { "convert", "Write a file in another format", cmd_convert, &convert_command, NULL },
};

const struct command_table index_table = {
    "annex index", "Works on index files: annex, usearch (v2 dense) and Lantern layouts.", commands,
    ANX_COUNT_OF(commands)
};

int
cmd_index(int argc, char **argv)
{
    return command_run(&index_table, argc, argv);
}
