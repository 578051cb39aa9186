/* A database is killed at every stage of what goes on in the background: quantization and its way back, index
 * files, create_embeddings, the embedders' cache. Functions that a stage begins or ends with are wrapped by
 * the linker (tests/meson.build); a child process arms one of them and dies there by SIGKILL, so that a kill
 * that does not happen is a failed test. Every child starts from a copy of one database.
 *
 *     test_db_stages          one kill per stage
 *     test_db_stages 10       so many; the n-th dies when the stage is met for the n-th time, or a later one
 */
#include "test_life.h"
#include "test_quantized.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "annex/index_file.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"
#include "db/changes.h"
#include "embed/cache.h"
#include "embed/client.h"
#include "store/store.h"

enum { N_DOC = 1300, N_TEXT = 700, DIM = 4, DEADLINE_S = 120 };

/* ---- Stages ---- */

enum job { NO_JOB, QUANTIZE, RESET, SAVE, EMBED };
enum stage {
    NO_STAGE,
    ROWS_BEGIN, /* quantize */
    ROWS,
    BUILD,
    BUILT,
    BRING_OVER,
    IN_PLACE,
    RESET_ROWS, /* back */
    RESET_BUILD,
    RESET_BUILT,
    RESET_SUBMIT,
    RESET_DONE,
    FILE_WRITE, /* index files */
    FILE_SYNC,
    FILE_RENAME,
    FILE_RENAMED,
    ASK, /* create_embeddings, and the cache */
    ANSWERED,
    CACHE_STORE,
    CACHE_SUBMIT,
    APPLY,
    APPLIED,
    EMBED_DONE,
    N_STAGE
};
static const struct {
    const char *name;
    enum job job;
} stages[N_STAGE] = {
    [ROWS_BEGIN] = { "before the first row", QUANTIZE },
    [ROWS] = { "among the rows", QUANTIZE },
    [BUILD] = { "before the build", QUANTIZE },
    [BUILT] = { "after the build", QUANTIZE },
    [BRING_OVER] = { "bringing changes over", QUANTIZE },
    [IN_PLACE] = { "quantized", QUANTIZE },
    [RESET_ROWS] = { "back: among the rows", RESET },
    [RESET_BUILD] = { "back: before the build", RESET },
    [RESET_BUILT] = { "back: after the build", RESET },
    [RESET_SUBMIT] = { "back: before the definition is stored", RESET },
    [RESET_DONE] = { "back: done", RESET },
    [FILE_WRITE] = { "writing an index file", SAVE },
    [FILE_SYNC] = { "syncing an index file", SAVE },
    [FILE_RENAME] = { "before an index file is renamed", SAVE },
    [FILE_RENAMED] = { "after an index file is renamed", SAVE },
    [ASK] = { "asking the embedding service", EMBED },
    [ANSWERED] = { "answered by the embedding service", EMBED },
    [CACHE_STORE] = { "before an answer is kept", EMBED },
    [CACHE_SUBMIT] = { "before an answer is stored", EMBED },
    [APPLY] = { "before embedded documents are written", EMBED },
    [APPLIED] = { "embedded documents are submitted", EMBED },
    [EMBED_DONE] = { "create_embeddings is done", EMBED },
};
static struct {
    enum stage stage;
    atomic_int left;
    _Atomic(enum job) job; /* under way */
} armed;
static unsigned long n_kill = 1;

static void
reach(enum stage stage)
{
    if (armed.stage == stage && atomic_load(&armed.job) == stages[stage].job &&
        atomic_fetch_sub(&armed.left, 1) <= 1)
        (void) kill(getpid(), SIGKILL);
}

static void
reach_either(enum stage quantize, enum stage reset)
{
    reach(quantize);
    reach(reset);
}

/* ---- Wrapped functions ---- */

#define WRAPPED(type, name, arguments)                                                                       \
    type __real_##name arguments;                                                                            \
    type __wrap_##name arguments;                                                                            \
    type __wrap_##name arguments

WRAPPED(anx_status, anx_loader_begin, (anx_index * index, size_t n, anx_loader **out, anx_error *err))
{
    reach(ROWS_BEGIN);
    return __real_anx_loader_begin(index, n, out, err);
}

WRAPPED(anx_status, anx_loader_rows,
        (anx_loader * loader, size_t n, const uint64_t *labels, const void *vectors, anx_error *err))
{
    reach_either(ROWS, RESET_ROWS);
    return __real_anx_loader_rows(loader, n, labels, vectors, err);
}

WRAPPED(anx_status, anx_loader_finish,
        (anx_loader * loader, anx_progress_fn progress, void *context, anx_error *err))
{
    anx_status st;

    reach_either(BUILD, RESET_BUILD);
    st = __real_anx_loader_finish(loader, progress, context, err);
    reach_either(BUILT, RESET_BUILT);
    return st;
}

static void
reach_change(const anx_index *index)
{
    if (anx_index_get_params(index)->quantization == ANX_QUANTIZATION_SQ8)
        reach(BRING_OVER);
}

WRAPPED(anx_status, anx_index_add,
        (anx_index * index, uint64_t label, const void *vector, anx_error *err))
{
    reach_change(index);
    return __real_anx_index_add(index, label, vector, err);
}

WRAPPED(anx_status, anx_index_add_batch,
        (anx_index * index, size_t n, const uint64_t *labels, const void *vectors, anx_error *err))
{
    reach_change(index);
    return __real_anx_index_add_batch(index, n, labels, vectors, err);
}

WRAPPED(ssize_t, write, (int fd, const void *bytes, size_t n))
{
    reach(FILE_WRITE);
    return __real_write(fd, bytes, n);
}

WRAPPED(int, fsync, (int fd))
{
    reach(FILE_SYNC);
    return __real_fsync(fd);
}

WRAPPED(int, rename, (const char *from, const char *to))
{
    int result;

    reach(FILE_RENAME);
    result = __real_rename(from, to);
    reach(FILE_RENAMED);
    return result;
}

/* The service: the text "t<n>" becomes [n,1,2,3]. */
WRAPPED(anx_status, embed_client_post,
        (struct embed_client * client, bool is_query, const struct embed_call *call, anx_text body,
         size_t n_input, anx_buffer *reply, long *status, struct embed_traffic *traffic, anx_error *err))
{
    char *copy = malloc(body.size + 1), *at = copy;

    assert_non_null(copy);
    memcpy(copy, body.data, body.size);
    copy[body.size] = '\0';
    (void) client;
    (void) is_query;
    (void) call;
    (void) err;
    (void) __real_embed_client_post;
    reach(ASK);
    *traffic = (struct embed_traffic) { 0 };
    *status = 200;
    anx_buffer_text(reply, ANX_TEXT("{\"products\":["));
    for (size_t i = 0; i < n_input && (at = strstr(at, "\"t")); i++) {
        unsigned number;

        for (; at && sscanf(at, "\"t%u\"", &number) != 1; at = strstr(at + 1, "\"t"))
            ;
        if (!at)
            break;
        anx_buffer_printf(reply, "%s[{\"chunk\":\"\",\"embedding\":[%u,1,2,3]}]", i ? "," : "", number);
        at++;
    }
    anx_buffer_text(reply, ANX_TEXT("]}"));
    free(copy);
    reach(ANSWERED);
    return ANX_OK;
}

WRAPPED(void, embed_cache_store,
        (struct embed_cache * cache, char kind, anx_text source, uint64_t owner,
         const struct embed_vectors *vectors))
{
    reach(CACHE_STORE);
    __real_embed_cache_store(cache, kind, source, owner, vectors);
}

WRAPPED(anx_status, store_submit,
        (struct store * store, struct store_batch *batch, uint64_t *ticket, anx_error *err))
{
    reach(RESET_SUBMIT);
    reach(CACHE_SUBMIT);
    return __real_store_submit(store, batch, ticket, err);
}

WRAPPED(anx_status, changes_apply_items,
        (struct items * items, const uint32_t *removed, size_t n_removed, struct store_batch *batch,
         enum changes_mode mode, struct undo *undo, uint64_t *ticket, anx_error *err))
{
    anx_status st;

    reach(APPLY);
    st = __real_changes_apply_items(items, removed, n_removed, batch, mode, undo, ticket, err);
    reach(APPLIED);
    return st;
}

static void
watch_log(void *context, anx_log_level level, const char *line)
{
    (void) context;
    (void) level;
    if (strstr(line, "event=quantized "))
        reach(IN_PLACE);
}

/* ---- The database ---- */

#define H(more) VECTOR_FIELD("h", "hnsw", more)
#define Z(more) VECTOR_FIELD("z", "hnsw", more)
#define VECTOR_FIELD(name, type, more)                                                                       \
    "{\"name\":\"" name "\",\"field_type\":\"float_vector\",\"index_type\":\"" type "\",\"json_paths\":[\""  \
    name "\"],\"config\":{\"dimension\":4,\"metric\":\"l2\"" more "}}"
#define SQ8                                                                                                  \
    ",\"quantization_config\":{\"quantization_type\":\"scalar_quantization_8_bit\","                         \
    "\"quantization_threshold\":1100}"
#define EMBEDDED(upsert)                                                                                     \
    VECTOR_FIELD("e", "hnsw",                                                                                \
                 ",\"embedding\":{\"upsert_embedder\":{\"name\":\"m\",\"URL\":\"http://127.0.0.1:1\","       \
                 "\"cache_tag\":\"c\",\"fields\":[\"s\"],\"embedding_strategy\":\"" upsert "\"}}")

static void
print_document(anx_buffer *out, unsigned id, unsigned made)
{
    anx_rng rng = anx_rng_seed(made);
    char vector[64];

    (void) snprintf(vector, sizeof(vector), "[%u.5,%u,%u,%u]", anx_rng_below(&rng, 900),
                    anx_rng_below(&rng, 900), anx_rng_below(&rng, 900), anx_rng_below(&rng, 900));
    anx_buffer_printf(out, "{\"id\":%u,\"made\":%u,\"h\":%s,\"z\":%s,\"b\":%s}", id, made, vector, vector,
                      vector);
}

static anx_status
put_documents(struct life *life, unsigned first, unsigned n, unsigned made)
{
    return life_try_put_made(life, "v", print_document, first, n, made);
}

/* "v": floats in h, a quantized z, both as in the exact b; "e": texts without their vectors. */
static void
make_database(struct life *life)
{
    anx_buffer text;

    life_namespace(life, "v", H("") "," Z(SQ8) "," VECTOR_FIELD("b", "vec_bf", ""));
    ok(put_documents(life, 0, N_DOC, 0));
    wait_until_quantized(life, "v", "z");
    life_namespace(life, "e",
                   "{\"name\":\"s\",\"field_type\":\"string\",\"index_type\":\"hash\",\"json_paths\":[\"s\"]}"
                   "," VECTOR_FIELD("e", "hnsw", ""));
    anx_buffer_init(&text, NULL, 1 << 26);
    for (unsigned i = 0; i < N_TEXT; i++)
        anx_buffer_printf(&text, "{\"id\":%u,\"s\":\"t%u\"}", i, i);
    anx_buffer_char(&text, '\0');
    life_put(life, "e", text.data);
    anx_buffer_fini(&text);
    ok(life_index(life, "e", INDEX_UPDATE, EMBEDDED("always")));
    life_put(life, "#config", "{\"type\":\"embedders\",\"caches\":[{\"cache_tag\":\"*\","
                              "\"max_cache_items\":10000,\"hit_to_cache\":1}]}");
}

/* ---- The child ---- */

static atomic_uint *n_acknowledged; /* shared: writes of a document that the child was told of */

enum { OWN_FIRST = 5000, OWN_DOCUMENTS = 60 };

struct writer {
    struct life *life;
    atomic_bool stop;
};

/* Documents of its own, and others in the place of some that were there. */
static void *
write_on(void *context)
{
    struct writer *w = context;

    for (unsigned i = 0; !atomic_load(&w->stop); i++) {
        if (put_documents(w->life, OWN_FIRST + i % OWN_DOCUMENTS, 1, 100000 + i) != ANX_OK)
            return NULL;
        atomic_store(n_acknowledged, i + 1);
        if (put_documents(w->life, i * 7 % 1000, 3, 200000 + 3 * i) != ANX_OK)
            return NULL;
    }
    return NULL;
}

static void
start_embedding(struct life *life)
{
    life_put(life, "#config", "{\"type\":\"action\",\"action\":{\"command\":\"create_embeddings\","
                              "\"namespace\":\"e\",\"batch_size\":100}}");
}

static bool
is_embedded(struct life *life, unsigned id)
{
    char sql[96], want[96];
    anx_buffer out;
    bool is;

    (void) snprintf(sql, sizeof(sql), "SELECT e FROM e WHERE id = %u", id);
    (void) snprintf(want, sizeof(want), "\"e\":[%u.0,1.0,2.0,3.0]", id);
    life_run(life, sql, &out);
    is = strstr(out.data, want) != NULL;
    if (!is && strstr(out.data, "\"e\":[") && !strstr(out.data, "\"e\":[]"))
        fail_msg("document %u has another vector: %s", id, out.data);
    anx_buffer_fini(&out);
    return is;
}

static void
wait_until_embedded(struct life *life)
{
    uint64_t end = anx_clock_ns() + (uint64_t) DEADLINE_S * 1000000000;

    for (unsigned id = 0; id < N_TEXT;) {
        struct timespec tick = { .tv_nsec = 2000000 };

        if (is_embedded(life, id)) {
            id++;
            continue;
        }
        if (anx_clock_ns() > end)
            fail_msg("document %u was not embedded within %d seconds", id, DEADLINE_S);
        nanosleep(&tick, NULL);
    }
}

/* Does the job of the armed stage; comes back only when the stage was not met. */
static void
do_job(struct life *life, enum job job)
{
    struct writer writer = { life, false };
    pthread_t thread;

    life_open(life);
    atomic_store(&armed.job, job);
    switch (job) {
    case QUANTIZE:
    case RESET:
        if (pthread_create(&thread, NULL, write_on, &writer) != 0)
            return;
        ok(life_index(life, "v", INDEX_UPDATE, job == QUANTIZE ? H(SQ8) : Z("")));
        if (job == QUANTIZE)
            wait_until_quantized(life, "v", "h");
        reach(RESET_DONE);
        atomic_store(&writer.stop, true);
        pthread_join(thread, NULL);
        return;
    case SAVE:
        ok(put_documents(life, 0, 400, 300000));
        life_close(life);
        return;
    case EMBED:
        start_embedding(life);
        wait_until_embedded(life);
        reach(EMBED_DONE);
        return;
    case NO_JOB:
        return;
    }
}

/* ---- After the kill ---- */

static void
assert_same_answers(struct life *life, const char *index)
{
    for (unsigned q = 0; q < 6; q++) {
        char sql[2][128];
        unsigned a = q * 140, b = 800 - a;
        anx_buffer want, got;

        for (int exact = 0; exact < 2; exact++)
            (void) snprintf(sql[exact], sizeof(sql[exact]),
                            "SELECT id, rank() FROM v WHERE KNN(%s, [%u,%u,%u,%u], k=10%s)",
                            exact ? "b" : index, a, b, a, b, exact ? "" : ", ef=800");
        life_run(life, sql[1], &want);
        life_run(life, sql[0], &got);
        assert_string_equal(want.data, got.data);
        anx_buffer_fini(&want);
        anx_buffer_fini(&got);
    }
}

static void
check_after_kill(struct life *life, enum job job)
{
    unsigned n = atomic_load(n_acknowledged), n_embedded = 0;

    life_open(life);
    life_check(life, "v");
    life_check(life, "e");
    for (unsigned i = n > OWN_DOCUMENTS ? n - OWN_DOCUMENTS : 0; i < n; i++) {
        char sql[96];
        anx_buffer out;
        unsigned made;

        (void) snprintf(sql, sizeof(sql), "SELECT made FROM v WHERE id = %u", OWN_FIRST + i % OWN_DOCUMENTS);
        life_run(life, sql, &out);
        assert_int_equal(sscanf(out.data, "{\"items\":[{\"made\":%u}", &made), 1);
        assert_in_range(made, 100000 + i, 100000 + n); /* the one under way may be there */
        anx_buffer_fini(&out);
    }
    assert_same_answers(life, "h");
    assert_same_answers(life, "z");
    for (unsigned id = 0; id < N_TEXT; id++)
        n_embedded += is_embedded(life, id);
    assert_true(n_embedded == 0 || job == EMBED);
    if (job == EMBED) {
        start_embedding(life); /* from the cache, and the service for the rest */
        wait_until_embedded(life);
        life_check(life, "e");
    }
    life_close(life);
}

static void
kill_at(const char *folder, enum stage stage, unsigned long nth)
{
    struct life life = { 0 };
    char command[256];
    int status;
    pid_t pid;

    (void) snprintf(life.folder, sizeof(life.folder), "%s-copy", folder);
    (void) snprintf(command, sizeof(command), "cp -r %s %s", folder, life.folder);
    assert_int_equal(system(command), 0);
    atomic_store(n_acknowledged, 0);
    pid = fork();
    if (pid == 0) {
        anx_log_set(watch_log, NULL, ANX_LOG_INFO);
        armed.stage = stage;
        atomic_store(&armed.left, (int) nth);
        do_job(&life, stages[stage].job);
        _exit(3);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    /* A stage that is met once is not met a second time. */
    if (nth > 1 && WIFEXITED(status) && WEXITSTATUS(status) == 3) {
        anx_folder_remove(life.folder);
        kill_at(folder, stage, 1);
        return;
    }
    if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
        fail_msg("%s: not killed there, status %d", stages[stage].name, status);
    check_after_kill(&life, stages[stage].job);
    anx_folder_remove(life.folder);
}

static void
every_stage_survives_a_kill(void **state)
{
    struct life *life = *state;

    n_acknowledged = mmap(NULL, 4096, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    assert_true(n_acknowledged != MAP_FAILED);
    make_database(life);
    life_close(life);
    for (unsigned long nth = 1; nth <= n_kill; nth++)
        for (int stage = NO_STAGE + 1; stage < N_STAGE; stage++)
            kill_at(life->folder, (enum stage) stage, nth);
    print_message("# %lu kills at each of %d stages\n", n_kill, N_STAGE - 1);
    (void) munmap(n_acknowledged, 4096);
}

static int
teardown(void **state)
{
    char copy[80];

    (void) snprintf(copy, sizeof(copy), "%s-copy", ((struct life *) *state)->folder);
    anx_folder_remove(copy); /* of a kill that failed */
    return life_teardown(state);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_stage_survives_a_kill, life_setup, teardown),
    };

    if (argc > 1)
        n_kill = strtoul(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
