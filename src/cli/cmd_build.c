/* `annex build`: an index file from a file of vectors. Labels are row numbers. */
#include <stdio.h>
#include <string.h>

#include "annex/index_file.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli/commands.h"
#include "cli/index_options.h"
#include "cli/progress.h"

#define PIECE 8192 /* rows converted at a time: memory stays small beside the index */

struct config {
    const char *from, *out;
    int format;
    bool is_plain, is_quiet;
    struct index_options index;
};

static const struct option_def rows[] = {
    { .name = "from",
      .type = OPTION_TEXT,
      .is_required = true,
      .value = "FILE",
      .offset = offsetof(struct config, from),
      .help = "Rows: .npy, .fvecs, .bvecs" },
    { .name = "out",
      .type = OPTION_TEXT,
      .is_required = true,
      .value = "FILE",
      .offset = offsetof(struct config, out),
      .help = "The index file to write" },
    { .name = "format",
      .type = OPTION_CHOICE,
      .choices = "annex|usearch|lantern",
      .def = "annex",
      .offset = offsetof(struct config, format),
      .help = "Layout of the file" },
    { .name = "plain",
      .type = OPTION_FLAG,
      .offset = offsetof(struct config, is_plain),
      .help = "usearch, lantern: leave out our checksums and codes" },
    { .name = "quiet",
      .type = OPTION_FLAG,
      .offset = offsetof(struct config, is_quiet),
      .help = "No progress on standard error" },
};
static const struct option_group groups[] = {
    { "Files", rows, ANX_COUNT_OF(rows), 0 },
    { "Index", index_option_rows, INDEX_N_OPTION_ROW, offsetof(struct config, index) },
};
static const struct option_text examples[] = {
    { "a graph over the rows of a file",
      "annex build --from base.npy --metric cosine --out base.annex" },
    { "8-bit codes alone, which take less memory",
      "annex build --from base.npy --metric cosine --quantization sq8 --out small.annex" },
    { "inverted lists",
      "annex build --from base.npy --index ivf --centroids 64 --out lists.annex" },
    { "a file for programs that use usearch",
      "annex build --from base.npy --format usearch --out base.usearch" },
};
const struct option_command build_command = {
    .name = "annex build",
    .summary = "Builds an index over the rows of a file and writes it as an index file. The label of a row\n"
               "is its number, from 0.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

struct fetch {
    const struct dataset *data;
    anx_scalar scalar;
};

/* An anx_fetch_fn: exact rows for sq8, from the mapped file. */
static const void *
fetch_row(void *context, uint64_t label, void *room)
{
    const struct fetch *fetch = context;
    bool found = label < fetch->data->rows &&
                 dataset_read(fetch->data, fetch->scalar, (size_t) label, 1, room, NULL) == ANX_OK;

    return found ? room : NULL;
}

static anx_status
load_rows(anx_loader *loader, const anx_index_params *params, const struct dataset *data,
          struct progress *progress, anx_error *err)
{
    void *piece = anx_alloc_array(NULL, PIECE, anx_row_size(params->scalar, params->dim));
    uint64_t *labels = anx_alloc_array(NULL, PIECE, sizeof(*labels));
    anx_status st = piece && labels ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "no memory for %d rows", PIECE);

    for (size_t at = 0; st == ANX_OK && at < data->rows; at += PIECE) {
        size_t n = data->rows - at < PIECE ? data->rows - at : PIECE;

        progress_report(progress, "reading rows", at, data->rows);
        for (size_t i = 0; i < n; i++)
            labels[i] = at + i;
        st = dataset_read(data, params->scalar, at, n, piece, err);
        if (st == ANX_OK)
            st = anx_loader_rows(loader, n, labels, piece, err);
    }
    anx_free(NULL, piece);
    anx_free(NULL, labels);
    return st;
}

static anx_status
build(const anx_index_params *params, const struct dataset *data, struct progress *progress, anx_index **out,
      anx_error *err)
{
    anx_loader *loader = NULL;
    anx_index *index = NULL;
    anx_index_stats stats;
    anx_status st = anx_index_create(params, &index, err);

    if (st == ANX_OK)
        st = anx_loader_begin(index, data->rows, &loader, err);
    if (st == ANX_OK)
        st = load_rows(loader, params, data, progress, err);
    if (st == ANX_OK) {
        st = anx_loader_finish(loader, progress_report, progress, err);
        loader = NULL;
    }
    anx_loader_abort(loader);
    if (st == ANX_OK && params->kind == ANX_INDEX_IVF) {
        anx_index_get_stats(index, &stats);
        if (!stats.is_trained)
            st = anx_index_train(index, 1.0, err);
    }
    progress_end(progress);
    if (st != ANX_OK) {
        anx_index_destroy(index);
        index = NULL;
    }
    *out = index;
    return st;
}

static void
print_summary(const struct config *config, const anx_index *index, double seconds)
{
    anx_index_stats stats;
    const anx_index_params *params = anx_index_get_params(index);

    anx_index_get_stats(index, &stats);
    printf("%s: %s, %s, %zu rows of %zu %s, %.1f MiB in memory, built in %.2f s (%s)\n", config->out,
           anx_index_kind_name(params->kind), anx_metric_name(params->metric), stats.count, params->dim,
           anx_scalar_name(params->scalar), (double) stats.memory_bytes / 1048576.0, seconds, stats.kernels);
}

static anx_status
run(const struct config *config, anx_error *err)
{
    static const anx_file_format formats[] = { ANX_FILE_ANNEX, ANX_FILE_USEARCH, ANX_FILE_LANTERN };
    anx_save_params save = { .format = formats[config->format], .plain = config->is_plain };
    struct dataset data;
    struct progress progress;
    struct fetch fetch;
    anx_index_params params;
    anx_index *index = NULL;
    uint64_t start = anx_clock_ns();
    anx_status st = dataset_open(config->from, &data, err);

    if (st != ANX_OK)
        return st;
    params = index_options_params(&config->index, &data);
    fetch = (struct fetch) { &data, params.scalar };
    if (params.quantization == ANX_QUANTIZATION_SQ8) {
        params.fetch = fetch_row;
        params.fetch_context = &fetch;
    }
    progress_init(&progress, config->is_quiet);
    st = build(&params, &data, &progress, &index, err);
    if (st == ANX_OK) {
        double seconds = (double) (anx_clock_ns() - start) * 1e-9;

        st = anx_index_save_file(index, &save, config->out, err);
        if (st == ANX_OK)
            print_summary(config, index, seconds);
    }
    anx_index_destroy(index);
    dataset_close(&data);
    return st;
}

int
cmd_build(int argc, char **argv)
{
    struct config config;
    enum options_result parsed = options_parse(&build_command, argc, argv, &config, NULL);
    anx_error err;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    return command_exit(build_command.name, run(&config, &err), &err);
}
