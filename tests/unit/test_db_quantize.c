/* Quantized vector indexes: what they answer, before, while and after they become one, over changes, restarts
 * and crashes. Answers are compared with those of an exact index over the same vectors. */
#include "test_life.h"
#include "test_quantized.h"
#include "test_loaded.h"

#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"

enum { N_DOC = 2400, DIM = 16, THRESHOLD = 2000 };

#define CONFIG(metric, more) "\"config\":{\"dimension\":16,\"metric\":\"" metric "\"" more "}}"
#define FIELD(name, type, array)                                                                             \
    "{\"name\":\"" name "\",\"field_type\":\"float_vector\",\"index_type\":\"" type "\",\"is_array\":" array \
    ",\"json_paths\":[\"" name "\"],"
#define SQ8_FROM(threshold, more)                                                                            \
    ",\"quantization_config\":{\"quantization_type\":\"scalar_quantization_8_bit\","                         \
    "\"quantization_threshold\":" threshold more "}"
#define SQ8(more) SQ8_FROM("2000", more)

static void
print_vector(anx_buffer *out, uint32_t seed)
{
    anx_rng rng = anx_rng_seed(seed);

    for (int d = 0; d < DIM; d++)
        anx_buffer_printf(out, "%c%.3f", d ? ',' : '[', (double) anx_rng_below(&rng, 20000) * 1e-3 - 10);
    anx_buffer_char(out, ']');
}

/* Every seventh has no vector; every fifth is far outside of what the others span. */
static void
print_document(anx_buffer *out, uint32_t id, uint32_t seed)
{
    anx_buffer vector;

    anx_buffer_init(&vector, NULL, 4096);
    if (seed % 7 == 6) {
        anx_buffer_printf(out, "{\"id\":%u}", id);
        return;
    }
    print_vector(&vector, seed);
    anx_buffer_printf(out, "{\"id\":%u,\"h\":%.*s,\"b\":%.*s,\"a\":[%.*s,[],", id, (int) vector.size,
                      vector.data, (int) vector.size, vector.data, (int) vector.size, vector.data);
    print_vector(out, seed + 1000000);
    anx_buffer_text(out, ANX_TEXT("]}"));
    anx_buffer_fini(&vector);
}

static anx_status
try_documents(struct life *life, uint32_t first, uint32_t n, uint32_t seed)
{
    return life_try_put_made(life, "t", print_document, first, n, seed);
}

static void
put_documents(struct life *life, uint32_t first, uint32_t n, uint32_t seed)
{
    ok(try_documents(life, first, n, seed));
}

/* Same documents, same ranks as the exact index over the same vectors: candidates come from codes, ranks from
 * the floats. The two may round the last digit of a cosine differently. */
static void
assert_same_hits(const char *expected, const char *got)
{
    const char *a = strstr(expected, "{\"id\""), *b = strstr(got, "{\"id\"");
    unsigned id[2];
    float rank[2];

    for (; a && b; a = strstr(a + 1, "{\"id\""), b = strstr(b + 1, "{\"id\"")) {
        assert_int_equal(sscanf(a, "{\"id\":%u,\"rank()\":%f", &id[0], &rank[0]), 2);
        assert_int_equal(sscanf(b, "{\"id\":%u,\"rank()\":%f", &id[1], &rank[1]), 2);
        if (id[0] != id[1] || fabsf(rank[0] - rank[1]) > 1e-5f * (1 + fabsf(rank[0])))
            break;
    }
    if (a || b)
        fail_msg("expected %s\n got     %s", expected, got);
}

static void
assert_answers(struct life *life)
{
    for (uint32_t q = 0; q < 20; q++) {
        anx_buffer vector, exact, graph;
        char sql[1024];

        anx_buffer_init(&vector, NULL, 4096);
        print_vector(&vector, 5000000 + q);
        (void) snprintf(sql, sizeof(sql), "SELECT id, rank() FROM t WHERE KNN(b, %.*s, k=10)",
                        (int) vector.size, vector.data);
        life_run(life, sql, &exact);
        (void) snprintf(sql, sizeof(sql), "SELECT id, rank() FROM t WHERE KNN(h, %.*s, k=10, ef=800)",
                        (int) vector.size, vector.data);
        life_run(life, sql, &graph);
        assert_same_hits(exact.data, graph.data);
        anx_buffer_fini(&vector);
        anx_buffer_fini(&exact);
        anx_buffer_fini(&graph);
    }
    life_check(life, "t");
}

static void
assert_same_floats(struct life *life)
{
    anx_buffer out;
    const char *at;

    life_run(life, "SELECT h, b FROM t WHERE id < 300", &out);
    at = out.data;
    for (unsigned n = 0; n < 200; n++) {
        const char *h = strstr(at, "\"h\":["), *b = h ? strstr(h, "\"b\":[") : NULL;
        size_t size = b ? strcspn(b + 5, "]") : 0;

        assert_non_null(b);
        assert_memory_equal(h + 5, b + 5, size);
        at = b;
    }
    anx_buffer_fini(&out);
}

static void
make(struct life *life, const char *metric, const char *more)
{
    static const char form[] = FIELD("%s", "%s", "%s") CONFIG("%s", "%s");
    char indexes[3][512], all[2048];

    (void) snprintf(indexes[0], sizeof(indexes[0]), form, "h", "hnsw", "false", "h", metric, more);
    (void) snprintf(indexes[1], sizeof(indexes[1]), form, "b", "vec_bf", "false", "b", metric, "");
    (void) snprintf(indexes[2], sizeof(indexes[2]), form, "a", "hnsw", "true", "a", metric, more);
    (void) snprintf(all, sizeof(all), "%s,%s,%s", indexes[0], indexes[1], indexes[2]);
    life_namespace(life, "t", all);
}

static void
change_some(struct life *life)
{
    put_documents(life, 100, 200, 7000);              /* others in their places */
    put_documents(life, 50000, 300, 9000);            /* new ones */
    life_expect(life, "DELETE FROM t WHERE id < 50", "");
    life_expect(life, "UPDATE t SET n = 5 WHERE id < 200", "");
    life_put(life, "t",
             "{\"id\":77777,\"h\":[900,900,900,900,900,900,900,900,900,900,900,900,900,900,900,900],"
             "\"b\":[900,900,900,900,900,900,900,900,900,900,900,900,900,900,900,900]}");
    life_expect(life,
                "SELECT id FROM t WHERE KNN(h, [900,900,900,900,900,900,900,900,900,900,900,900,900,900,"
                "900,901], k=1)",
                "{\"id\":77777}");
}

static void
answers_are_exact_before_and_after(void **state)
{
    static const char *const metrics[] = { "l2", "inner_product", "cosine" };

    for (size_t m = 0; m < ANX_COUNT_OF(metrics); m++) {
        struct life *life = *state;

        make(life, metrics[m], SQ8(",\"sample_size\":1500"));
        put_documents(life, 0, N_DOC, 0);
        assert_answers(life);
        wait_until_quantized(life, "t", "h");
        wait_until_quantized(life, "t", "a");
        assert_answers(life);
        assert_same_floats(life);
        if (m == 0)
            change_some(life);
        put_documents(life, 1000, 300, 33000);
        assert_answers(life);
        assert_same_floats(life);
        ok(db_ns_drop(life->db, ANX_TEXT("t"), NULL, &failure));
    }
}

static void
a_restart_takes_the_codes_from_the_file(void **state)
{
    struct life *life = *state;

    make(life, "l2", SQ8(""));
    put_documents(life, 0, N_DOC, 0);
    wait_until_quantized(life, "t", "h");
    wait_until_quantized(life, "t", "a");
    anx_log_set(watch_log, NULL, ANX_LOG_INFO);
    life_reopen(life);
    assert_true(is_quantized(life, "t", "h") && is_quantized(life, "t", "a"));
    assert_true(loaded.from_file > N_DOC);
    assert_answers(life);
    assert_same_floats(life);
    change_some(life);
    life_reopen(life);
    assert_true(is_quantized(life, "t", "h"));
    assert_answers(life);
    life->params.is_ann_cache_disabled = true; /* nothing but documents */
    life_reopen(life);
    assert_answers(life);
    wait_until_quantized(life, "t", "h");
    assert_answers(life);
    anx_log_set(NULL, NULL, ANX_LOG_INFO);
}

static void
removing_the_config_brings_the_floats_back(void **state)
{
    struct life *life = *state;

    make(life, "l2", SQ8(""));
    put_documents(life, 0, N_DOC, 0);
    wait_until_quantized(life, "t", "h");
    wait_until_quantized(life, "t", "a");
    change_some(life);
    assert_int_equal(life_index(life, "t", INDEX_UPDATE,
                                FIELD("h", "hnsw", "false") CONFIG("l2", SQ8(",\"quantile\":0.97"))),
                     ANX_E_PARAMS);
    assert_int_equal(life_index(life, "t", INDEX_UPDATE,
                                FIELD("h", "hnsw", "false") CONFIG("l2", ",\"m\":8" SQ8(""))), ANX_E_PARAMS);
    ok(life_index(life, "t", INDEX_UPDATE,
                  FIELD("h", "hnsw", "false") CONFIG("l2", ",\"radius\":1e6" SQ8(""))));
    assert_true(is_quantized(life, "t", "h"));
    ok(life_index(life, "t", INDEX_UPDATE, FIELD("h", "hnsw", "false") CONFIG("l2", "")));
    assert_false(is_quantized(life, "t", "h"));
    assert_true(is_quantized(life, "t", "a"));
    assert_answers(life);
    assert_same_floats(life);
    life_reopen(life);
    assert_false(is_quantized(life, "t", "h"));
    assert_answers(life);
    ok(life_index(life, "t", INDEX_UPDATE,
                  FIELD("h", "hnsw", "false") CONFIG("l2", SQ8(",\"quantile\":1.0"))));
    wait_until_quantized(life, "t", "h");
    assert_answers(life);
    ok(db_index_drop(life->db, ANX_TEXT("t"), ANX_TEXT("a"), NULL, &failure));
    life_check(life, "t");
}

/* ---- While it happens ---- */

struct writer {
    struct life *life;
    uint32_t number;
    atomic_bool *stop;
};

static void *
write_on(void *context)
{
    struct writer *w = context;
    anx_rng rng = anx_rng_seed(w->number + 1);

    for (uint32_t i = 0; !atomic_load(w->stop); i++) {
        uint32_t id = anx_rng_below(&rng, N_DOC), n = 1 + anx_rng_below(&rng, 20);
        char text[96];
        anx_buffer out;

        if (i % 4 == 3) {
            (void) snprintf(text, sizeof(text), "DELETE FROM t WHERE id >= %u AND id < %u", id, id + n);
            life_run(w->life, text, &out);
            anx_buffer_fini(&out);
        } else if (try_documents(w->life, id, n, w->number * 100000 + i * 64) != ANX_OK) {
            return NULL;
        }
    }
    return NULL;
}

static void *
read_on(void *context)
{
    struct writer *w = context;

    for (uint32_t i = 0; !atomic_load(w->stop); i++) {
        anx_buffer out, vector;
        char sql[1024];

        anx_buffer_init(&vector, NULL, 4096);
        print_vector(&vector, i);
        (void) snprintf(sql, sizeof(sql), i % 2 ? "SELECT id, h FROM t WHERE KNN(h, %.*s) LIMIT 30"
                                                : "SELECT *, vectors() FROM t WHERE KNN(a, %.*s, k=20)",
                        (int) vector.size, vector.data);
        life_run(w->life, sql, &out);
        if (strncmp(out.data, "{\"items\":[", 10) != 0)
            fail_msg("%s: %s", sql, out.data);
        anx_buffer_fini(&out);
        anx_buffer_fini(&vector);
    }
    return NULL;
}

static void
readers_and_writers_go_on(void **state)
{
    struct life *life = *state;
    atomic_bool stop = false;
    struct writer actors[4];
    pthread_t threads[4];

    make(life, "l2", SQ8_FROM("1200", ""));
    put_documents(life, 0, N_DOC - 900, 0);
    for (uint32_t i = 0; i < 4; i++) {
        actors[i] = (struct writer) { life, i, &stop };
        assert_int_equal(pthread_create(&threads[i], NULL, i < 2 ? write_on : read_on, &actors[i]), 0);
    }
    put_documents(life, N_DOC - 900, 900, N_DOC - 900);
    wait_until_quantized(life, "t", "h");
    wait_until_quantized(life, "t", "a");
    ok(life_index(life, "t", INDEX_UPDATE, FIELD("h", "hnsw", "false") CONFIG("l2", "")));
    ok(life_index(life, "t", INDEX_UPDATE, FIELD("h", "hnsw", "false") CONFIG("l2", SQ8_FROM("1200", ""))));
    wait_until_quantized(life, "t", "h");
    atomic_store(&stop, true);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_answers(life);
    life_reopen(life);
    assert_answers(life);
}

/* What ends the job: another definition, a truncated namespace, a dropped one, a closed engine. */
static void
it_ends_when_its_index_does(void **state)
{
    struct life *life = *state;

    for (int i = 0; i < 12; i++) {
        struct timespec moment = { .tv_nsec = 20000000L * (i % 6) };

        make(life, "l2", SQ8_FROM("1200", ""));
        put_documents(life, 0, N_DOC, 0);
        nanosleep(&moment, NULL); /* anywhere in it */
        if (i % 4 == 0 && !is_quantized(life, "t", "h"))
            (void) life_index(life, "t", INDEX_UPDATE,
                              FIELD("h", "hnsw", "false") CONFIG("l2", SQ8(",\"quantile\":0.99")));
        else if (i % 4 == 1)
            ok(db_ns_truncate(life->db, ANX_TEXT("t"), NULL, &failure));
        else if (i % 4 == 2)
            ok(db_index_drop(life->db, ANX_TEXT("t"), ANX_TEXT("h"), NULL, &failure));
        else
            life_reopen(life);
        life_check(life, "t");
        ok(db_ns_drop(life->db, ANX_TEXT("t"), NULL, &failure));
    }
}

/* ---- Crashes ---- */

/* Killed at any moment between the threshold and some writes after the change: the start has all documents.
 */
static void
a_killed_quantization_is_taken_up_again(void **state)
{
    struct life *life = *state;

    make(life, "l2", SQ8(""));
    put_documents(life, 0, THRESHOLD - 100, 0);
    for (int round = 0; round < 8; round++) {
        struct timespec moment = { .tv_nsec = 60000000L * round + 1000000 };
        char byte;
        int fds[2];
        pid_t pid;

        life_close(life);
        assert_int_equal(pipe(fds), 0);
        pid = fork();
        if (pid == 0) {
            atomic_bool stop = false;
            struct writer writer = { life, 7, &stop };

            life_open(life);
            put_documents(life, THRESHOLD, 800, THRESHOLD);
            (void) !write(fds[1], "", 1);
            write_on(&writer);
            _exit(2);
        }
        close(fds[1]);
        assert_int_equal(read(fds[0], &byte, 1), 1);
        nanosleep(&moment, NULL);
        assert_int_equal(kill(pid, SIGKILL), 0);
        assert_int_equal(waitpid(pid, NULL, 0), pid);
        close(fds[0]);
        life_open(life);
        assert_answers(life);
        if (round % 2) { /* codes in the file that the next child starts with */
            wait_until_quantized(life, "t", "h");
            assert_answers(life);
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(answers_are_exact_before_and_after, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(a_restart_takes_the_codes_from_the_file, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(removing_the_config_brings_the_floats_back, life_setup,
                                        life_teardown),
        cmocka_unit_test_setup_teardown(readers_and_writers_go_on, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(it_ends_when_its_index_does, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(a_killed_quantization_is_taken_up_again, life_setup, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
