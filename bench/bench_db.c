/* `annex bench db`: the document database in this process, without a server: a namespace of the rows in a
 * folder of its own, removed afterwards. First KNN behind filters, then quantization while a reader and a
 * writer go on. */
#include <math.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/folder.h"
#include "bench/bench.h"
#include "db/db.h"

enum { DOCS_PER_WRITE = 1000, SHARES = 3, TICKS = 1000 };
/* Documents have r = 0..999, so r < x keeps x in a thousand. */
static const unsigned shares[SHARES] = { 100, 10, 1 };

struct config {
    struct bench_options common;
    const char *folder;
    size_t seconds, n_query;
    int part;
};
enum { PART_ALL, PART_FILTERS, PART_QUANTIZATION };
static const struct option_def db_rows[] = {
    { .name = "folder",
      .type = OPTION_TEXT,
      .value = "DIR",
      .offset = offsetof(struct config, folder),
      .help = "Where the database is made, in a folder of its own; otherwise TMPDIR or /tmp" },
    { .name = "seconds",
      .type = OPTION_UINT,
      .min = 1,
      .max = 600,
      .def = "5",
      .offset = offsetof(struct config, seconds),
      .help = "How long reader and writer are watched before quantization, for comparison" },
    { .name = "part",
      .type = OPTION_CHOICE,
      .choices = "all|filters|quantization",
      .def = "all",
      .offset = offsetof(struct config, part),
      .help = "What is measured" },
    { .name = "ask",
      .type = OPTION_UINT,
      .max = 1e9,
      .def = "0",
      .offset = offsetof(struct config, n_query),
      .help = "Ask the first N queries only; 0: all" },
};
static const struct option_group groups[] = {
    { "Database", db_rows, ANX_COUNT_OF(db_rows), 0 },
    BENCH_GROUPS(offsetof(struct config, common)),
};
static const struct option_text examples[] = {
    { "the document database on your rows",
      "annex bench db --base base.npy --queries queries.npy --metric cosine" },
};
const struct option_command bench_db_command = {
    .name = "annex bench db",
    .summary = "KNN behind filters and quantization in the background, in the document database.\n"
               "--ef: the first value is used for queries with k.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

struct bench {
    const struct config *config;
    anx_index_params params;
    struct bench_data data;
    char path[1024];
    struct engine *engine;
    struct database *db;
    struct progress progress;
    struct table filters, pauses, codes;
    anx_error *err;
};

/* ---- Making the database ---- */

static void
print_floats(anx_buffer *out, const float *floats, size_t dim)
{
    for (size_t i = 0; i < dim; i++)
        anx_buffer_printf(out, "%c%.9g", i ? ',' : '[', (double) floats[i]);
    anx_buffer_char(out, ']');
}

static void
print_document(const struct bench *b, anx_buffer *out, size_t row)
{
    anx_buffer_printf(out, "{\"id\":%zu,\"r\":%zu,\"v\":", row, row * 7919 % TICKS);
    print_floats(out, b->data.rows + row * b->data.dim, b->data.dim);
    anx_buffer_char(out, '}');
}

static anx_status
write_rows(struct bench *b, size_t first, size_t n, anx_buffer *text)
{
    size_t updated;

    anx_buffer_clear(text);
    for (size_t i = 0; i < n; i++)
        print_document(b, text, first + i);
    return db_write(b->db, ANX_TEXT("t"), WRITE_UPSERT, (anx_text) { text->data, text->size }, NULL, 0, NULL,
                    &updated, NULL, b->err);
}

static void
print_index(const struct bench *b, anx_buffer *out, const char *more)
{
    static const char *const metrics[] = { "l2", "inner_product", "cosine" };

    anx_buffer_printf(
        out,
        "{\"name\":\"v\",\"json_paths\":[\"v\"],\"field_type\":\"float_vector\","
        "\"index_type\":\"hnsw\",\"config\":{\"dimension\":%zu,\"metric\":\"%s\",\"m\":%zu,"
        "\"ef_construction\":%zu%s}}",
        b->data.dim, metrics[b->data.metric], b->params.m ? b->params.m : ANX_HNSW_M_DEFAULT,
        b->params.ef_construction ? b->params.ef_construction : ANX_HNSW_EF_CONSTRUCTION_DEFAULT, more);
}

static anx_status
make_namespace(struct bench *b)
{
    anx_buffer text;
    anx_status st;

    anx_buffer_init(&text, NULL, 1 << 28);
    anx_buffer_text(&text, ANX_TEXT("{\"name\":\"t\",\"indexes\":[{\"name\":\"id\",\"json_paths\":[\"id\"],"
                                    "\"field_type\":\"int\",\"index_type\":\"hash\",\"is_pk\":true},"
                                    "{\"name\":\"r\",\"json_paths\":[\"r\"],\"field_type\":\"int\","
                                    "\"index_type\":\"tree\"},"));
    print_index(b, &text, "");
    anx_buffer_text(&text, ANX_TEXT("]}"));
    st = db_ns_create(b->db, (anx_text) { text.data, text.size }, NULL, b->err);
    for (size_t at = 0; st == ANX_OK && at < b->data.n; at += DOCS_PER_WRITE) {
        progress_report(&b->progress, "writing documents", at, b->data.n);
        st = write_rows(b, at, b->data.n - at < DOCS_PER_WRITE ? b->data.n - at : DOCS_PER_WRITE, &text);
    }
    anx_buffer_fini(&text);
    return st;
}

static anx_status
open_database(struct bench *b)
{
    const char *folder = b->config->folder ? b->config->folder : getenv("TMPDIR");
    struct engine_params params = { .path = b->path, .n_thread = b->params.threads };
    anx_status st;

    if (snprintf(b->path, sizeof(b->path), "%s/annex-bench-XXXXXX", folder ? folder : "/tmp") >=
            (int) sizeof(b->path) ||
        !mkdtemp(b->path)) {
        b->path[0] = '\0';
        return anx_fail(b->err, ANX_E_IO, "could not make a folder in \"%s\"", folder ? folder : "/tmp");
    }
    st = engine_open(&params, &b->engine, b->err);
    if (st == ANX_OK)
        st = engine_database_create(b->engine, ANX_TEXT("bench"), NULL, b->err);
    if (st == ANX_OK)
        st = database_acquire(b->engine, ANX_TEXT("bench"), &b->db, b->err);
    return st == ANX_OK ? make_namespace(b) : st;
}

/* ---- Queries ---- */

static uint64_t
clock_of(const struct bench *b)
{
    struct timespec now;

    if (!b->config->common.is_cpu_time)
        return anx_clock_ns();
    (void) clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t) now.tv_sec * 1000000000u + (uint64_t) now.tv_nsec;
}

/* Parsing is not timed: a vector as text takes longer than the search. labels [k] may be NULL. */
static anx_status
ask(struct bench *b, const char *where, const char *knn, size_t q, uint64_t *labels, double *us)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = NULL;
    struct query query;
    anx_buffer sql, out;
    uint64_t start = 0;
    size_t k = b->config->common.k;
    anx_status st;

    anx_buffer_init(&sql, NULL, 1 << 24);
    anx_buffer_init(&out, NULL, 1 << 24);
    anx_buffer_printf(&sql, "SELECT id FROM t WHERE %sKNN(v, ", where);
    print_floats(&sql, b->data.queries + q * b->data.dim, b->data.dim);
    anx_buffer_printf(&sql, "%s) LIMIT %zu", knn, k);
    st = arena ? query_read_sql((anx_text) { sql.data, sql.size }, arena, &query, NULL, b->err) : ANX_E_NOMEM;
    if (st == ANX_OK) {
        start = clock_of(b);
        st = db_select(b->db, &query, NULL, &result, b->err);
    }
    if (st == ANX_OK)
        st = result_print_json(result, NULL, &out, b->err);
    result_free(result);
    *us = (double) (clock_of(b) - start) * 1e-3;
    anx_buffer_char(&out, '\0');
    for (size_t i = 0; labels && i < k; i++)
        labels[i] = ANX_LABEL_NONE;
    for (const char *at = labels && st == ANX_OK ? strstr(out.data, "\"id\":") : NULL; at && k > 0;
         at = strstr(at + 1, "\"id\":"), k--)
        *labels++ = strtoull(at + 5, NULL, 10);
    anx_buffer_fini(&sql);
    anx_buffer_fini(&out);
    anx_arena_destroy(arena);
    return st;
}

static int
compare_reals(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

/* Median latency over all queries, and recall against the truth. */
static anx_status
measure(struct bench *b, const char *where, const char *knn, const struct bench_truth *truth, double *median,
        double *recall)
{
    size_t n = b->data.n_query, k = b->config->common.k;
    uint64_t *labels = anx_alloc_array(NULL, n, k * sizeof(*labels));
    double *us = anx_alloc_array(NULL, n, sizeof(*us));
    anx_status st = labels && us ? ANX_OK : anx_fail(b->err, ANX_E_NOMEM, "no memory for %zu answers", n);

    for (size_t q = 0; st == ANX_OK && q < n; q++)
        st = ask(b, where, knn, q, labels + q * k, &us[q]);
    if (st == ANX_OK) {
        qsort(us, n, sizeof(*us), compare_reals);
        *median = us[n / 2];
        *recall = bench_recall(&b->data, truth, labels);
    }
    anx_free(NULL, labels);
    anx_free(NULL, us);
    return st;
}

/* ---- Filters ---- */

static anx_status
add_filter_row(struct bench *b, unsigned share, const struct bench_truth *truth, const double plain[2])
{
    char where[32] = "", knn[64];
    double us, recall;
    size_t ef = b->config->common.ef.n ? b->config->common.ef.value[0] : 64;

    if (share)
        (void) snprintf(where, sizeof(where), "r < %u AND ", share);
    for (int large = 0; large < 2; large++) {
        size_t k = b->config->common.k * (share ? TICKS / share : 1) * 3 / 2;
        anx_status st;

        (void) snprintf(knn, sizeof(knn), ", k=%zu, ef=%zu", k, k > ef ? k : ef);
        st = measure(b, where, large ? knn : "", truth, &us, &recall);
        if (st != ANX_OK)
            return st;
        table_cell(&b->filters, "%.1f %%", share ? share * 100.0 / TICKS : 100.0);
        table_cell(&b->filters, "%s", large ? knn + 2 : "streaming");
        table_real(&b->filters, recall, 4, "");
        table_real(&b->filters, us, 1, "");
        table_real(&b->filters, us / plain[0], 2, "x");
        table_real(&b->filters, us / plain[1], 2, "x");
    }
    return ANX_OK;
}

static anx_status
measure_filters(struct bench *b)
{
    uint64_t *bitmap = anx_alloc_array(NULL, b->data.n / 64 + 1, sizeof(*bitmap));
    struct bench_truth truth = { 0 };
    double plain[2] = { 0, 0 }, recall;
    char knn[64];
    size_t k = b->config->common.k, ef = b->config->common.ef.n ? b->config->common.ef.value[0] : 64;
    anx_status st = bitmap ? bench_truth_compute(&b->data, k, NULL, 0, &truth, b->err) : ANX_E_NOMEM;
    static const char *const heads[] = { "documents kept", "query",        "recall",
                                         "median µs",      "of unfiltered streaming", "of unfiltered k" };

    b->filters.n_column = ANX_COUNT_OF(heads);
    for (size_t i = 0; i < ANX_COUNT_OF(heads); i++)
        table_cell(&b->filters, "%s", heads[i]);
    (void) snprintf(knn, sizeof(knn), ", k=%zu, ef=%zu", k, ef);
    for (int pass = 0; st == ANX_OK && pass < 2; pass++) { /* the first warms up */
        st = measure(b, "", "", &truth, &plain[0], &recall);
        if (st == ANX_OK)
            st = measure(b, "", knn, &truth, &plain[1], &recall);
    }
    if (st == ANX_OK)
        st = add_filter_row(b, 0, &truth, plain);
    for (size_t s = 0; st == ANX_OK && s < SHARES; s++) {
        bench_truth_free(&truth);
        memset(bitmap, 0, (b->data.n / 64 + 1) * sizeof(*bitmap));
        for (size_t row = 0; row < b->data.n; row++)
            if (row * 7919 % TICKS < shares[s])
                bitmap[row / 64] |= (uint64_t) 1 << (row % 64);
        progress_report(&b->progress, "filters", s, SHARES);
        st = bench_truth_compute(&b->data, k, bitmap, 0, &truth, b->err);
        if (st == ANX_OK)
            st = add_filter_row(b, shares[s], &truth, plain);
    }
    bench_truth_free(&truth);
    anx_free(NULL, bitmap);
    return st;
}

/* ---- Quantization ---- */

struct watch {
    struct bench *bench;
    atomic_bool stop;
    double longest_us[2]; /* reader, writer */
    size_t n[2];
    anx_status st[2];
    anx_error err[2];
};

static void
watch_one(void *context, size_t begin, size_t end, size_t worker)
{
    struct watch *w = context;
    struct bench mine = *w->bench;
    anx_buffer text;

    (void) worker;
    for (size_t who = begin; who < end; who++) {
        mine.err = &w->err[who];
        anx_buffer_init(&text, NULL, 1 << 24);
        for (size_t i = 0; w->st[who] == ANX_OK && !atomic_load(&w->stop); i++) {
            struct timespec pause = { .tv_nsec = 200000 };
            double us = 0;
            uint64_t start = anx_clock_ns();

            if (who == 0) {
                w->st[who] = ask(&mine, "", ", k=10", i % mine.data.n_query, NULL, &us);
            } else {
                w->st[who] = write_rows(&mine, i * 31 % mine.data.n, 1, &text);
            }
            us = (double) (anx_clock_ns() - start) * 1e-3;
            w->longest_us[who] = fmax(w->longest_us[who], us);
            w->n[who]++;
            nanosleep(&pause, NULL); /* two cores belong to the build as well */
        }
        anx_buffer_fini(&text);
    }
}

static anx_status
read_index_state(struct bench *b, bool *is_quantized, size_t *bytes)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = NULL;
    struct query query;
    anx_buffer out;
    const char *at;
    anx_status st;

    anx_buffer_init(&out, NULL, 1 << 24);
    st = arena ? query_read_sql(ANX_TEXT("SELECT * FROM #memstats WHERE name = 't'"), arena, &query, NULL,
                                b->err)
               : ANX_E_NOMEM;
    if (st == ANX_OK)
        st = db_select(b->db, &query, NULL, &result, b->err);
    if (st == ANX_OK)
        st = result_print_json(result, NULL, &out, b->err);
    result_free(result);
    anx_buffer_char(&out, '\0');
    *is_quantized = st == ANX_OK && strstr(out.data, "\"is_quantized\":true");
    *bytes = 0;
    for (at = st == ANX_OK ? strstr(out.data, "\"is_built\"") : NULL; at && at > out.data && *at != '{'; at--)
        if (strncmp(at, "\"data_size\":", 12) == 0)
            *bytes += strtoull(at + 12, NULL, 10);
        else if (strncmp(at, "\"indexing_struct_size\":", 23) == 0)
            *bytes += strtoull(at + 23, NULL, 10);
    anx_buffer_fini(&out);
    anx_arena_destroy(arena);
    return st;
}

static void *
watch_main(void *context)
{
    anx_pool *pool = anx_pool_create(2);

    if (pool)
        anx_pool_for(pool, 2, 1, watch_one, context);
    anx_pool_destroy(pool);
    return NULL;
}

/* Reader and writer for some seconds, or until the index is quantized. */
static anx_status
watch(struct bench *b, bool quantizes, double *seconds)
{
    struct watch w = { .bench = b };
    uint64_t start = anx_clock_ns();
    bool is_quantized = false;
    anx_buffer text;
    pthread_t thread;
    size_t bytes;
    anx_status st = ANX_OK;

    if (pthread_create(&thread, NULL, watch_main, &w) != 0)
        return anx_fail(b->err, ANX_E_SYSTEM, "could not start a thread");
    anx_buffer_init(&text, NULL, 4096);
    print_index(b, &text, ",\"quantization_config\":{\"quantization_type\":\"scalar_quantization_8_bit\","
                          "\"quantization_threshold\":1}");
    if (quantizes)
        st = db_index_set(b->db, ANX_TEXT("t"), (anx_text){ text.data, text.size }, INDEX_UPDATE, NULL,
                          b->err);
    do {
        struct timespec tick = { .tv_nsec = 50000000 };

        nanosleep(&tick, NULL);
        *seconds = (double) (anx_clock_ns() - start) * 1e-9;
        if (quantizes && st == ANX_OK)
            st = read_index_state(b, &is_quantized, &bytes);
        progress_report(&b->progress, quantizes ? "quantizing" : "reading and writing", 0, 0);
    } while (st == ANX_OK && (quantizes ? !is_quantized : *seconds < (double) b->config->seconds));
    atomic_store(&w.stop, true);
    pthread_join(thread, NULL);
    anx_buffer_fini(&text);
    for (size_t who = 0; st == ANX_OK && who < 2; who++) {
        st = w.st[who];
        if (st != ANX_OK && b->err)
            *b->err = w.err[who];
    }
    table_cell(&b->pauses, "%s", quantizes ? "while quantizing" : "before");
    table_real(&b->pauses, *seconds, 1, "");
    for (size_t who = 0; who < 2; who++) {
        table_cell(&b->pauses, "%zu", w.n[who]);
        table_real(&b->pauses, w.longest_us[who] * 1e-3, 2, "");
    }
    return st;
}

static anx_status
add_code_rows(struct bench *b, const struct bench_truth *truth)
{
    static const struct option_uints usual = { 4, { 16, 32, 64, 128 } };
    const struct option_uints *efs = b->config->common.ef.n ? &b->config->common.ef : &usual;
    bool is_quantized;
    size_t bytes;
    anx_status st = read_index_state(b, &is_quantized, &bytes);

    for (size_t i = 0; st == ANX_OK && i < efs->n; i++) {
        char knn[64];
        double us, recall;

        (void) snprintf(knn, sizeof(knn), ", k=%zu, ef=%zu", b->config->common.k, efs->value[i]);
        if (efs->value[i] < b->config->common.k)
            continue;
        st = measure(b, "", knn, truth, &us, &recall);
        if (st != ANX_OK)
            break;
        table_cell(&b->codes, "%s", is_quantized ? "quantized" : "floats");
        table_cell(&b->codes, "%zu", efs->value[i]);
        table_real(&b->codes, recall, 4, "");
        table_real(&b->codes, us, 1, "");
        table_real(&b->codes, (double) bytes / (double) b->data.n, 0, "");
    }
    return st;
}

static anx_status
measure_quantization(struct bench *b)
{
    static const char *const pause_heads[] = {
        "", "seconds", "reads", "longest, ms", "writes", "longest, ms"
    };
    static const char *const code_heads[] = { "index", "ef", "recall", "median µs", "bytes per vector" };
    struct bench_truth truth = { 0 };
    double seconds;
    anx_status st = bench_truth_compute(&b->data, b->config->common.k, NULL, 0, &truth, b->err);

    b->pauses.n_column = ANX_COUNT_OF(pause_heads);
    for (size_t i = 0; i < ANX_COUNT_OF(pause_heads); i++)
        table_cell(&b->pauses, "%s", pause_heads[i]);
    b->codes.n_column = ANX_COUNT_OF(code_heads);
    for (size_t i = 0; i < ANX_COUNT_OF(code_heads); i++)
        table_cell(&b->codes, "%s", code_heads[i]);
    if (st == ANX_OK)
        st = add_code_rows(b, &truth);
    if (st == ANX_OK)
        st = watch(b, false, &seconds);
    if (st == ANX_OK)
        st = watch(b, true, &seconds);
    if (st == ANX_OK)
        st = add_code_rows(b, &truth);
    bench_truth_free(&truth);
    return st;
}

static anx_status
report_all(const struct bench *b)
{
    struct report report;
    anx_status st = report_open(&b->config->common, &report, b->err);

    if (st != ANX_OK)
        return st;
    report_head(&report, &b->config->common, &b->data, "annex bench db");
    if (b->filters.n_column > 0) {
        report_text(
            &report,
            "KNN behind a filter over an indexed field (planning, search and printing; parsing is not "
            "timed).\n\n");
        report_table(&report, &b->filters);
    }
    if (b->pauses.n_column > 0) {
        report_text(&report, "\nOne reader and one writer of single, durable documents.\n\n");
        report_table(&report, &b->pauses);
        report_text(&report, "\n");
        report_table(&report, &b->codes);
    }
    return report_close(&report, b->err);
}

int
bench_db(int argc, char **argv)
{
    struct config config;
    enum options_result parsed = options_parse(&bench_db_command, argc, argv, &config, NULL);
    anx_error err;
    struct bench b = { .config = &config, .err = &err };
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    progress_init(&b.progress, config.common.is_quiet);
    st = config.common.is_json
             ? anx_fail(&err, ANX_E_INVALID, "--json is not for bench db: --markdown FILE keeps its tables")
             : bench_data_load(&config.common, &b.params, &b.data, &err);
    if (st == ANX_OK && config.n_query > 0 && config.n_query < b.data.n_query)
        b.data.n_query = config.n_query;
    if (st == ANX_OK)
        st = open_database(&b);
    if (st == ANX_OK && config.part != PART_QUANTIZATION)
        st = measure_filters(&b);
    if (st == ANX_OK && config.part != PART_FILTERS)
        st = measure_quantization(&b);
    progress_end(&b.progress);
    if (st == ANX_OK)
        st = report_all(&b);
    table_free(&b.filters);
    table_free(&b.pauses);
    table_free(&b.codes);
    database_release(b.db);
    engine_close(b.engine);
    if (b.path[0])
        anx_folder_remove(b.path);
    bench_data_free(&b.data);
    return bench_exit(bench_db_command.name, st, &err);
}
