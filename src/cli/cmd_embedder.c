/* `annex embedder`: the embedding service in the box, and conversion of files of term vectors. */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/dataset.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "embedder/service.h"
#include "net/listen.h"

struct config {
    const char *vectors, *terms, *listen, *convert;
    int weights, scalar;
    size_t threads, max_body_mib;
    bool is_quiet;
};

static const struct option_def rows[] = {
    { .name = "vectors",
      .type = OPTION_TEXT,
      .is_required = true,
      .offset = offsetof(struct config, vectors),
      .value = "FILE",
      .help = "Term vectors: .vec text, the compact form, or .npy with --terms" },
    { .name = "terms",
      .type = OPTION_TEXT,
      .offset = offsetof(struct config, terms),
      .value = "FILE",
      .help = "Terms of the rows of a .npy file, one a line" },
    { .name = "listen",
      .type = OPTION_TEXT,
      .offset = offsetof(struct config, listen),
      .value = "HOST:PORT",
      .def = "127.0.0.1:7777",
      .help = "Where to serve; port 0 takes a free one, which the log names" },
    { .name = "convert",
      .type = OPTION_TEXT,
      .offset = offsetof(struct config, convert),
      .value = "FILE",
      .help = "Write the vectors there in the compact form, and end" },
    { .name = "scalar",
      .type = OPTION_CHOICE,
      .choices = "f32|i8",
      .offset = offsetof(struct config, scalar),
      .value = "KIND",
      .def = "f32",
      .help = "Components of --convert; i8: a quarter of the size, terms with equal vectors share one" },
    { .name = "weights",
      .type = OPTION_CHOICE,
      .choices = "tf|zipf",
      .offset = offsetof(struct config, weights),
      .value = "HOW",
      .def = "tf",
      .help = "tf: 1 + ln count; zipf: less for terms early in the file (sorted by frequency)" },
    { .name = "threads",
      .type = OPTION_UINT,
      .max = 1024,
      .offset = offsetof(struct config, threads),
      .def = "0",
      .help = "Requests answered at once; 0: one per CPU" },
    { .name = "max-body",
      .type = OPTION_UINT,
      .min = 1,
      .max = 1024,
      .offset = offsetof(struct config, max_body_mib),
      .value = "MIB",
      .def = "64",
      .help = "Largest request" },
    { .name = "quiet",
      .type = OPTION_FLAG,
      .offset = offsetof(struct config, is_quiet),
      .help = "No progress on standard error" },
};
static const struct option_group groups[] = { { "Options", rows, ANX_COUNT_OF(rows), 0 } };
static const struct option_text examples[] = {
    { "word vectors as word2vec, GloVe and fastText publish them",
      "annex embedder --vectors words.vec" },
    { "the compact form, which starts at once",
      "annex embedder --vectors words.vec --convert words.model" },
    { "vectors and terms in files of their own",
      "annex embedder --vectors terms.npy --terms terms.txt --listen 127.0.0.1:7778" },
};
static const struct option_text sections[] = {
    { "SERVICE",
      "POST /api/v1/embedder/NAME/produce answers embeddings of texts. A text becomes the sum of the vectors "
      "of "
      "its terms, each weighted with 1 + ln of how often it occurs, normalized to length 1; a text without a "
      "known term becomes zeros. Terms are runs of letters, digits, + and characters beyond ASCII, compared "
      "without case, then as written.\n\n"
      "The service has no authentication; listen on a loopback or private address. SIGTERM and SIGINT end "
      "it." },
};
const struct option_command embedder_command = {
    .name = "annex embedder",
    .summary =
        "Serves embeddings of texts, made from vectors of terms, over the API that upsert_embedder and\n"
        "query_embedder of a vector index speak: their URL is http://HOST:PORT. docs/vectors.md shows the "
        "whole.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
    .sections = sections,
    .n_section = ANX_COUNT_OF(sections),
};

/* ---- The model ---- */

static anx_status
map_file(const char *path, anx_text *out, anx_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat info;
    void *map;

    if (fd < 0 || fstat(fd, &info) != 0 || info.st_size == 0) {
        anx_status st =
            anx_fail(err, ANX_E_IO, "cannot read %s: %s", path, fd < 0 ? strerror(errno) : "it is empty");

        if (fd >= 0)
            close(fd);
        return st;
    }
    map = mmap(NULL, (size_t) info.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
    close(fd);
    if (map == MAP_FAILED)
        return anx_fail(err, ANX_E_IO, "cannot map %s: %s", path, strerror(errno));
    *out = (anx_text) { map, (size_t) info.st_size };
    return ANX_OK;
}

static anx_status
open_npy(const struct config *config, struct model **out, anx_error *err)
{
    struct dataset data;
    anx_text terms = { NULL, 0 };
    float *floats = NULL;
    anx_status st = dataset_open(config->vectors, &data, err);

    if (st != ANX_OK)
        return st;
    st = map_file(config->terms, &terms, err);
    if (st == ANX_OK) {
        floats = anx_alloc_array(NULL, data.rows * data.dim, sizeof(*floats));
        st = floats ? dataset_read(&data, ANX_SCALAR_F32, 0, data.rows, floats, err)
                    : anx_fail(err, ANX_E_NOMEM, "no memory for %zu vectors", data.rows);
    }
    if (st == ANX_OK)
        st = model_from_rows(terms, floats, data.rows, data.dim, out, err);
    anx_free(NULL, floats);
    if (terms.data)
        munmap((void *) (uintptr_t) terms.data, terms.size);
    dataset_close(&data);
    return st;
}

static anx_status
open_model(const struct config *config, struct model **out, anx_error *err)
{
    size_t size = strlen(config->vectors);
    bool is_npy = size > 4 && strcmp(config->vectors + size - 4, ".npy") == 0;

    *out = NULL;
    if (is_npy && !config->terms)
        return anx_fail(err, ANX_E_INVALID, "--vectors %s has no terms: name their file with --terms",
                        config->vectors);
    if (!is_npy && config->terms)
        return anx_fail(err, ANX_E_INVALID, "--terms is for .npy files; %s has its own", config->vectors);
    return is_npy ? open_npy(config, out, err) : model_open(config->vectors, out, err);
}

/* ---- Serving ---- */

static void
log_line(void *context, anx_log_level level, const char *line)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };

    (void) context;
    fprintf(stderr, "level=%s %s\n", names[level], line);
}

static anx_status
serve(const struct config *config, const struct model *model, anx_error *err)
{
    struct embedder_service_params params = {
        .model = model,
        .weights = config->weights == 0 ? MODEL_TF : MODEL_ZIPF,
        .n_thread = config->threads,
        .max_body = config->max_body_mib << 20,
    };
    struct embedder_service *service;
    char host[256];
    sigset_t signals;
    int number = 0;
    anx_status st = anx_address_parse(config->listen, host, sizeof(host), &params.port, err);

    if (st != ANX_OK) {
        anx_error_context(err, "--listen");
        return st;
    }
    params.host = host;
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    st = embedder_service_open(&params, &service, err);
    if (st != ANX_OK) {
        anx_error_context(err, "--listen");
        return st;
    }
    anx_log(ANX_LOG_INFO, "event=listening server=embedder address=%s port=%u terms=%zu dimension=%u",
            config->listen, embedder_service_port(service), model_terms(model), model_dim(model));
    sigdelset(&signals, SIGPIPE);
    while (sigwait(&signals, &number) != 0)
        ;
    anx_log(ANX_LOG_INFO, "event=stopping signal=%d", number);
    embedder_service_close(service);
    return ANX_OK;
}

int
cmd_embedder(int argc, char **argv)
{
    struct config config = { 0 };
    struct model *model = NULL;
    struct progress progress;
    enum options_result parsed = options_parse(&embedder_command, argc, argv, &config, NULL);
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    anx_log_set(log_line, NULL, ANX_LOG_INFO);
    progress_init(&progress, config.is_quiet);
    progress_wait_begin(&progress, "reading vectors");
    st = open_model(&config, &model, &err);
    progress_wait_end(&progress);
    if (st == ANX_OK && config.convert) {
        progress_wait_begin(&progress, "writing vectors");
        st = model_write(model, config.scalar == 0 ? MODEL_F32 : MODEL_I8, config.convert, &err);
        progress_wait_end(&progress);
        if (st == ANX_OK)
            printf("%s: %zu terms, %u components\n", config.convert, model_terms(model), model_dim(model));
    } else if (st == ANX_OK) {
        st = serve(&config, model, &err);
    }
    model_close(model);
    return command_exit(embedder_command.name, st, &err);
}
