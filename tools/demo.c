/* What `make run` shows: an index over real vectors, and questions that a person can judge the answers of.
 *
 *     demo DIRECTORY INDEX [--fresh] [NAME ...]
 *
 * DIRECTORY holds base.npy (one vector per package) and rows.tsv (name, section, size, one-line description
 * per row; see package_vectors.c). Builds the index and saves it to INDEX; a later call loads it from there,
 * unless --fresh. Prints the packages nearest to each NAME, or to a few well-known ones, then how fast and
 * how exact the answers are. */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "annex/annex.h"
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "cli/dataset.h"

#define N_NEAR 5
#define N_PROBES 500 /* queries for the closing figures */
#define PROBE_K 10
#define QUESTIONS 4

struct demo {
    const char *directory;
    const char *index_path;
    bool is_fresh;
    char **names; /* borrowed from argv, [n_name] */
    size_t n_name;

    size_t n;
    size_t dim;
    float *vectors;    /* owned, [n * dim] */
    char *text;        /* owned: rows.tsv, cut into lines and fields by NUL */
    const char **rows; /* owned, [n]: into text; name, section, size, description follow each other */
    anx_index *index;  /* owned */
    bool is_colored;
};

static const char *
bold(const struct demo *demo)
{
    return demo->is_colored ? "\033[1m" : "";
}

static const char *
faint(const struct demo *demo)
{
    return demo->is_colored ? "\033[2m" : "";
}

static const char *
plain(const struct demo *demo)
{
    return demo->is_colored ? "\033[0m" : "";
}

/* 60187 as "60,187"; out has 32 bytes. */
static const char *
grouped(size_t value, char *out)
{
    char digits[24];
    int n = snprintf(digits, sizeof(digits), "%zu", value);
    char *p = out;

    for (int i = 0; i < n; i++) {
        if (i > 0 && (n - i) % 3 == 0)
            *p++ = ',';
        *p++ = digits[i];
    }
    *p = '\0';
    return out;
}

static anx_status
join_path(const struct demo *demo, const char *name, char *out, size_t size, anx_error *err)
{
    if (snprintf(out, size, "%s/%s", demo->directory, name) >= (int) size)
        return anx_fail(err, ANX_E_INVALID, "path \"%s\" is too long", demo->directory);
    return ANX_OK;
}

static anx_status
read_vectors(struct demo *demo, anx_error *err)
{
    char path[4096];
    struct dataset data;
    anx_status st = join_path(demo, "base.npy", path, sizeof(path), err);

    if (st == ANX_OK)
        st = dataset_open(path, &data, err);
    if (st != ANX_OK)
        return st;
    demo->n = data.rows;
    demo->dim = data.dim;
    demo->vectors = anx_alloc_array(NULL, data.rows, data.dim * sizeof(float));
    if (!demo->vectors)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu vectors", data.rows);
    else
        st = dataset_read(&data, ANX_SCALAR_F32, 0, data.rows, demo->vectors, err);
    dataset_close(&data);
    return st;
}

/* The whole file as a string; NULL when it cannot be read. */
static char *
read_text(const char *path)
{
    FILE *file = fopen(path, "rb");
    char *text = NULL;
    long size = -1;

    if (!file)
        return NULL;
    if (fseek(file, 0, SEEK_END) == 0)
        size = ftell(file);
    if (size >= 0 && fseek(file, 0, SEEK_SET) == 0)
        text = anx_alloc_bytes(NULL, (size_t) size + 1);
    if (text && fread(text, 1, (size_t) size, file) == (size_t) size) {
        text[size] = '\0';
    } else {
        anx_free(NULL, text);
        text = NULL;
    }
    fclose(file);
    return text;
}

/* Field 0 is the name, 3 the description. Every row has four: read_rows checked it. */
static const char *
row_field(const struct demo *demo, size_t row, size_t field)
{
    const char *p = demo->rows[row];

    while (field-- > 0)
        p += strlen(p) + 1;
    return p;
}

static anx_status
read_rows(struct demo *demo, anx_error *err)
{
    char path[4096];
    char *line;
    anx_status st = join_path(demo, "rows.tsv", path, sizeof(path), err);

    if (st != ANX_OK)
        return st;
    demo->text = read_text(path);
    demo->rows = anx_alloc_array(NULL, demo->n, sizeof(*demo->rows));
    if (!demo->text || !demo->rows)
        return anx_fail(err, ANX_E_IO, "cannot read \"%s\"", path);
    line = demo->text;
    for (size_t row = 0; row < demo->n; row++) {
        char *end = strchr(line, '\n');
        size_t n_tabs = 0;

        if (!end)
            return anx_fail(err, ANX_E_CORRUPT, "\"%s\" has %zu rows, base.npy has %zu", path, row, demo->n);
        *end = '\0';
        demo->rows[row] = line;
        for (char *p = line; p < end; p++) {
            if (*p == '\t') {
                *p = '\0';
                n_tabs++;
            }
        }
        if (n_tabs < 3)
            return anx_fail(err, ANX_E_CORRUPT, "row %zu of \"%s\" has %zu fields instead of 4", row, path,
                            n_tabs + 1);
        line = end + 1;
    }
    return ANX_OK;
}

static anx_status
build_index(struct demo *demo, anx_error *err)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_save_params save = { .format = ANX_FILE_ANNEX };
    anx_index_stats stats;
    char number[32];
    uint64_t *labels;
    uint64_t start;
    anx_status st;

    params.kind = ANX_INDEX_HNSW;
    params.metric = ANX_METRIC_COSINE;
    params.dim = demo->dim;
    params.capacity = demo->n;
    st = anx_index_create(&params, &demo->index, err);
    if (st != ANX_OK)
        return st;
    labels = anx_alloc_array(NULL, demo->n, sizeof(*labels));
    if (!labels)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu labels", demo->n);
    for (size_t i = 0; i < demo->n; i++)
        labels[i] = i;
    printf("Building the graph ... ");
    (void) fflush(stdout);
    start = anx_clock_ns();
    st = anx_index_add_batch(demo->index, demo->n, labels, demo->vectors, err);
    anx_free(NULL, labels);
    if (st != ANX_OK)
        return st;
    anx_index_get_stats(demo->index, &stats);
    printf("%s%.1f s%s", bold(demo), (double) (anx_clock_ns() - start) * 1e-9, plain(demo));
    printf(", %s MB in memory, kernels %s\n", grouped(stats.memory_bytes >> 20, number), stats.kernels);
    st = anx_index_save_file(demo->index, &save, demo->index_path, err);
    if (st == ANX_OK)
        printf("Saved to %s\n", demo->index_path);
    return st;
}

/* A saved index is used when it is one over these vectors, as far as can be told cheaply. */
static bool
load_index(struct demo *demo)
{
    uint64_t start = anx_clock_ns();

    if (demo->is_fresh || access(demo->index_path, R_OK) != 0 ||
        anx_index_load_file(demo->index_path, NULL, &demo->index, NULL) != ANX_OK)
        return false;
    if (anx_index_count(demo->index) != demo->n || anx_index_get_params(demo->index)->dim != demo->dim) {
        anx_index_destroy(demo->index);
        demo->index = NULL;
        return false;
    }
    printf("Loaded %s in %.2f s\n", demo->index_path, (double) (anx_clock_ns() - start) * 1e-9);
    return true;
}

/* demo->n when there is no such package. */
static size_t
row_by_name(const struct demo *demo, const char *name)
{
    for (size_t row = 0; row < demo->n; row++)
        if (strcmp(demo->rows[row], name) == 0)
            return row;
    return demo->n;
}

static anx_status
show_near(const struct demo *demo, size_t row, anx_error *err)
{
    float distances[N_NEAR + 1];
    uint64_t labels[N_NEAR + 1];
    anx_hits hits = { distances, labels };
    anx_status st =
        anx_index_search(demo->index, NULL, 1, demo->vectors + row * demo->dim, N_NEAR + 1, &hits, err);
    size_t n_shown = 0;

    if (st != ANX_OK)
        return st;
    printf("\nPackages like %s%s%s %s(%.60s)%s\n", bold(demo), row_field(demo, row, 0), plain(demo),
           faint(demo), row_field(demo, row, 3), plain(demo));
    for (size_t i = 0; i <= N_NEAR && n_shown < N_NEAR; i++) {
        if (labels[i] == row || labels[i] >= demo->n)
            continue;
        printf("   %.3f  %-28.28s %s%.60s%s\n", (double) distances[i], row_field(demo, labels[i], 0),
               faint(demo), row_field(demo, labels[i], 3), plain(demo));
        n_shown++;
    }
    return ANX_OK;
}

static anx_status
answer_questions(const struct demo *demo, anx_error *err)
{
    static const char *const well_known[] = { "postgresql", "gimp",    "wireshark", "python3-numpy",
                                              "nginx",      "vim",     "git",       "bash",
                                              "gcc",        "openssl", "tar",       "perl-base" };
    size_t n_shown = 0;

    for (size_t i = 0; i < demo->n_name; i++) {
        size_t row = row_by_name(demo, demo->names[i]);
        anx_status st;

        if (row == demo->n)
            return anx_fail(err, ANX_E_NOT_FOUND, "no package \"%s\" among these %zu", demo->names[i],
                            demo->n);
        st = show_near(demo, row, err);
        if (st != ANX_OK)
            return st;
    }
    for (size_t i = 0; demo->n_name == 0 && i < ANX_COUNT_OF(well_known) && n_shown < QUESTIONS; i++) {
        size_t row = row_by_name(demo, well_known[i]);
        anx_status st = row < demo->n ? show_near(demo, row, err) : ANX_OK;

        if (st != ANX_OK)
            return st;
        n_shown += row < demo->n;
    }
    return ANX_OK;
}

struct probes {
    size_t n;
    float *queries;     /* owned, [n * dim] */
    float *distances;   /* owned, [2 * n * PROBE_K]: graph, exact */
    uint64_t *labels;   /* owned, the same */
    double graph_seconds;
    double exact_seconds;
};

/* Every n-th row asks for what is near it. */
static bool
probes_init(struct probes *probes, const struct demo *demo)
{
    size_t step;

    probes->n = demo->n < N_PROBES ? demo->n : N_PROBES;
    step = demo->n / probes->n;
    probes->queries = anx_alloc_array(NULL, probes->n, demo->dim * sizeof(float));
    probes->distances = anx_alloc_array(NULL, 2 * probes->n, PROBE_K * sizeof(float));
    probes->labels = anx_alloc_array(NULL, 2 * probes->n, PROBE_K * sizeof(uint64_t));
    if (!probes->queries || !probes->distances || !probes->labels)
        return false;
    for (size_t i = 0; i < probes->n; i++)
        memcpy(probes->queries + i * demo->dim, demo->vectors + i * step * demo->dim,
               demo->dim * sizeof(float));
    return true;
}

static void
probes_fini(struct probes *probes)
{
    anx_free(NULL, probes->queries);
    anx_free(NULL, probes->distances);
    anx_free(NULL, probes->labels);
}

/* One query per call, one thread: what a program that answers people does. */
static anx_status
search_all(const anx_index *index, const struct probes *probes, size_t dim, bool is_exact, double *seconds,
           anx_error *err)
{
    size_t first = is_exact ? probes->n * PROBE_K : 0;
    uint64_t start = anx_clock_ns();

    for (size_t q = 0; q < probes->n; q++) {
        anx_hits hits = { probes->distances + first + q * PROBE_K, probes->labels + first + q * PROBE_K };
        anx_status st = anx_index_search(index, NULL, 1, probes->queries + q * dim, PROBE_K, &hits, err);

        if (st != ANX_OK)
            return st;
    }
    *seconds = (double) (anx_clock_ns() - start) * 1e-9;
    return ANX_OK;
}

static anx_status
run_probes(const struct demo *demo, struct probes *probes, anx_error *err)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_index *exact;
    anx_status st;

    params.kind = ANX_INDEX_FLAT;
    params.metric = ANX_METRIC_COSINE;
    params.dim = demo->dim;
    st = anx_index_create(&params, &exact, err);
    if (st != ANX_OK)
        return st;
    for (size_t i = 0; st == ANX_OK && i < demo->n; i++)
        st = anx_index_add(exact, i, demo->vectors + i * demo->dim, err);
    if (st == ANX_OK)
        st = search_all(exact, probes, demo->dim, true, &probes->exact_seconds, err);
    /* Twice, the second time counts: by then caches and scratch memory are as in a running program. */
    for (int i = 0; st == ANX_OK && i < 2; i++)
        st = search_all(demo->index, probes, demo->dim, false, &probes->graph_seconds, err);
    anx_index_destroy(exact);
    return st;
}

/* Share of the true nearest rows among the answers. A row as near as the last true one counts: twins are
 * common. */
static double
recall(const struct probes *probes)
{
    const float *exact = probes->distances + probes->n * PROBE_K;
    size_t n_found = 0;

    for (size_t q = 0; q < probes->n; q++)
        for (size_t i = 0; i < PROBE_K; i++)
            n_found += probes->distances[q * PROBE_K + i] <= exact[q * PROBE_K + PROBE_K - 1] + 1e-5f;
    return (double) n_found / (double) (probes->n * PROBE_K);
}

static anx_status
show_figures(const struct demo *demo, anx_error *err)
{
    struct probes probes = { 0 };
    char number[2][32];
    anx_status st;

    if (!probes_init(&probes, demo))
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu queries", probes.n);
    else
        st = run_probes(demo, &probes, err);
    if (st == ANX_OK)
        printf("\n%s%s%s answers a second on one thread, %s%.1f %%%s of the true %d nearest in them"
               " (exact scan: %s a second)\n",
               bold(demo), grouped((size_t) ((double) probes.n / probes.graph_seconds), number[0]),
               plain(demo), bold(demo), 100 * recall(&probes), plain(demo), PROBE_K,
               grouped((size_t) ((double) probes.n / probes.exact_seconds), number[1]));
    probes_fini(&probes);
    return st;
}

static anx_status
run(struct demo *demo, anx_error *err)
{
    char number[32];
    anx_status st = read_vectors(demo, err);

    if (st == ANX_OK)
        st = read_rows(demo, err);
    if (st == ANX_OK && demo->n == 0)
        st = anx_fail(err, ANX_E_INVALID, "no vectors in \"%s\"", demo->directory);
    if (st != ANX_OK)
        return st;
    printf("%s%s Debian packages%s, each a vector of %zu numbers made from its description\n", bold(demo),
           grouped(demo->n, number), plain(demo), demo->dim);
    if (!load_index(demo))
        st = build_index(demo, err);
    if (st == ANX_OK)
        st = answer_questions(demo, err);
    if (st == ANX_OK && demo->n_name == 0)
        st = show_figures(demo, err);
    return st;
}

int
main(int argc, char **argv)
{
    struct demo demo = { .is_colored = isatty(STDOUT_FILENO) == 1 };
    anx_error err;
    anx_status st;
    int at = 3;

    if (argc < 3) {
        (void) fprintf(stderr, "usage: demo DIRECTORY INDEX [--fresh] [NAME ...]\n");
        return 2;
    }
    demo.directory = argv[1];
    demo.index_path = argv[2];
    if (at < argc && strcmp(argv[at], "--fresh") == 0) {
        demo.is_fresh = true;
        at++;
    }
    demo.names = argv + at;
    demo.n_name = (size_t) (argc - at);
    st = run(&demo, &err);
    if (st != ANX_OK) {
        (void) fflush(stdout);
        (void) fprintf(stderr, "\ndemo: %s%s%s\n", err.message, err.hint[0] ? "; " : "", err.hint);
    }
    anx_index_destroy(demo.index);
    anx_free(NULL, demo.vectors);
    anx_free(NULL, demo.text);
    anx_free(NULL, demo.rows);
    return st == ANX_OK ? 0 : 1;
}
