/* Everything at once: documents, searches, index changes, renames, drops, settings and statistics from
 * several threads. What is looked for are races, deadlocks and broken invariants; answers may be errors where
 * the namespace has just gone. */
#include "test_life.h"

#include <pthread.h>

#include "base/clock.h"
#include "base/rng.h"

enum { STEPS = 120 };

struct actor {
    struct life *life;
    uint64_t seed;
};

/* An answer, or an error that is allowed to happen: the namespace is gone or renamed, the index is not there.
 */
static void
ask(struct life *life, const char *sql)
{
    anx_buffer out;

    life_run(life, sql, &out);
    if (strncmp(out.data, "{\"items\":", 9) != 0 && strncmp(out.data, "404", 3) != 0 &&
        strncmp(out.data, "400", 3) != 0 && strncmp(out.data, "500 ", 4) != 0)
        fail_msg("%s: %s", sql, out.data);
    anx_buffer_fini(&out);
}

static void *
write_documents(void *context)
{
    struct actor *actor = context;
    anx_rng rng = anx_rng_seed(actor->seed);

    for (int i = 0; i < STEPS * 3; i++) {
        char text[256];
        unsigned id = anx_rng_below(&rng, 100);

        (void) snprintf(text, sizeof(text), "{\"id\":%u,\"n\":%d,\"v\":[%u,%d]}{\"id\":%u}", id, i, id, i,
                        id + 100);
        (void) life_try_put(actor->life, i % 3 ? "t" : "other", text);
    }
    return NULL;
}

static void *
read_documents(void *context)
{
    static const char *const queries[] = {
        "SELECT *, vectors() FROM t WHERE n > 10 ORDER BY id LIMIT 20",
        "SELECT id, rank() FROM t WHERE KNN(v, [5, 5], k=5)",
        "SELECT * FROM other",
        "SELECT * FROM other INNER JOIN t ON other.id = t.id LIMIT 5",
        "SELECT * FROM #memstats",
        "SELECT * FROM #namespaces",
        "SELECT * FROM #perfstats",
        "SELECT * FROM #activitystats",
        "DELETE FROM t WHERE id = 5",
        "UPDATE t SET n = 7 WHERE id = 6",
    };
    struct actor *actor = context;
    anx_rng rng = anx_rng_seed(actor->seed);

    for (int i = 0; i < STEPS * 2; i++)
        ask(actor->life, queries[anx_rng_below(&rng, ANX_COUNT_OF(queries))]);
    return NULL;
}

/* What others do at the same moment may make a call fail, with a message; that is no failure of the test. */
static void
may_fail(anx_status st)
{
    assert_true(st == ANX_OK || failure.message[0] != '\0');
}

static void *
change_indexes(void *context)
{
#define VECTOR_INDEX(type)                                                                                \
    "{\"name\":\"v\",\"field_type\":\"float_vector\",\"index_type\":\"" type "\",\"json_paths\":[\"v\"]," \
    "\"config\":{\"dimension\":2,\"metric\":\"l2\"}}"
    struct actor *actor = context;
    struct life *life = actor->life;

    for (int i = 0; i < STEPS / 3; i++) {
        (void) life_index(life, "t", INDEX_UPDATE, i % 2 ? VECTOR_INDEX("hnsw") : VECTOR_INDEX("vec_bf"));
        (void) life_index(
            life, "t", INDEX_ADD,
            "{\"name\":\"n\",\"field_type\":\"int\",\"index_type\":\"tree\",\"json_paths\":[\"n\"]}");
        may_fail(db_schema_set(life->db, ANX_TEXT("t"), ANX_TEXT("{\"type\":\"object\"}"), NULL, &failure));
        may_fail(db_meta_put(life->db, ANX_TEXT("t"), ANX_TEXT("k"), ANX_TEXT("v"), &failure));
        may_fail(db_index_drop(life->db, ANX_TEXT("t"), ANX_TEXT("n"), NULL, &failure));
    }
    return NULL;
}

static void *
change_namespaces(void *context)
{
    static const char *const modes[] = { "none", "names", "indexes" };
    struct actor *actor = context;
    struct life *life = actor->life;

    for (int i = 0; i < STEPS / 3; i++) {
        char text[256];

        may_fail(db_ns_create(
            life->db,
            ANX_TEXT("{\"name\":\"made\",\"indexes\":[{\"name\":\"id\",\"field_type\":\"int\","
                     "\"is_pk\":true,\"json_paths\":[\"id\"]}]}"),
            NULL, &failure));
        (void) life_try_put(life, "made", "{\"id\":1}");
        may_fail(db_ns_rename(life->db, ANX_TEXT("made"), ANX_TEXT("other"), NULL, &failure));
        if (i % 5 == 0)
            may_fail(db_ns_drop(life->db, ANX_TEXT("other"), NULL, &failure));
        if (i % 7 == 0)
            may_fail(db_ns_truncate(life->db, ANX_TEXT("t"), NULL, &failure));
        (void) snprintf(
            text, sizeof(text),
            "{\"type\":\"namespaces\",\"namespaces\":[{\"namespace\":\"*\",\"strict_mode\":\"%s\"}]}",
            modes[i % 3]);
        life_put(life, "#config", text);
        life_put(life, "#config",
                 i % 2 ? "{\"type\":\"profiling\",\"profiling\":{\"perfstats\":true,\"activitystats\":true}}"
                       : "{\"type\":\"action\",\"action\":{\"command\":\"drop_ann_storage_cache\"}}");
    }
    return NULL;
}

static void
everything_at_once(void **state)
{
    static void *(*const roles[])(void *) = { write_documents, write_documents, read_documents,
                                              read_documents,  change_indexes,  change_namespaces };
    struct life *life = *state;
    struct actor actors[ANX_COUNT_OF(roles)];
    pthread_t threads[ANX_COUNT_OF(roles)];

    life_namespace(life, "t", VECTOR_INDEX("hnsw"));
    life_namespace(life, "other", "");
    for (size_t i = 0; i < ANX_COUNT_OF(roles); i++) {
        actors[i] = (struct actor) { life, i + 1 };
        assert_int_equal(pthread_create(&threads[i], NULL, roles[i], &actors[i]), 0);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(roles); i++)
        pthread_join(threads[i], NULL);
    life_check(life, "t");
    life_reopen(life);
    life_check(life, "t");
}

/* A database is dropped and made anew while others use it. */
static void *
use_database(void *context)
{
    struct actor *actor = context;
    struct life *life = actor->life;

    for (int i = 0; i < STEPS; i++) {
        struct database *db;
        size_t updated;

        if (database_acquire(life->engine, ANX_TEXT("e"), &db, NULL) != ANX_OK)
            continue;
        may_fail(db_ns_create(db,
                            ANX_TEXT("{\"name\":\"t\",\"indexes\":[{\"name\":\"id\",\"field_type\":\"int\","
                                     "\"is_pk\":true,\"json_paths\":[\"id\"]}]}"),
                            NULL, &failure));
        may_fail(db_write(db, ANX_TEXT("t"), WRITE_UPSERT, ANX_TEXT("{\"id\":1}"), NULL, 0, NULL, &updated,
                        NULL, &failure));
        database_release(db);
    }
    return NULL;
}

static void
databases_change_while_they_are_used(void **state)
{
    struct life *life = *state;
    struct actor actors[2] = { { life, 1 }, { life, 2 } };
    pthread_t threads[2];

    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, use_database, &actors[i]), 0);
    for (int i = 0; i < 20; i++) {
        may_fail(engine_database_create(life->engine, ANX_TEXT("e"), NULL, &failure));
        may_fail(engine_database_drop(life->engine, ANX_TEXT("e"), NULL, &failure));
    }
    for (size_t i = 0; i < 2; i++)
        pthread_join(threads[i], NULL);
    life_reopen(life);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(everything_at_once, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(databases_change_while_they_are_used, life_setup, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
