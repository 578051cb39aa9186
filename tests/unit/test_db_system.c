/* Settings, statistics, expiry, metadata, users, and vectors read back from the store. */
#include "test_life.h"

#include <pthread.h>
#include <time.h>

#include "base/clock.h"
#include "db/config.h"
#include "db/pending.h"
#include "db/persist.h"
#include "db/stats.h"
#include "db/system.h"
#include "db/users.h"

/* ---- #config ---- */

static void
settings_are_checked_before_they_are_stored(void **state)
{
    static const struct {
        const char *json;
        anx_status st;
    } rows[] = {
        { "{\"type\":\"profiling\",\"profiling\":{\"perfstats\":true}}", ANX_OK },
        { "{\"type\":\"profiling\",\"profiling\":{\"perfstats\":\"yes\"}}", ANX_E_PARSE_JSON },
        { "{\"type\":\"profiling\"}", ANX_E_PARSE_JSON },
        { "{\"type\":\"profiling\",\"profiling\":{\"long_queries_logging\":{\"select\":{\"threshold_us\":"
          "\"x\"}}}}",
          ANX_E_PARSE_JSON },
        { "{\"type\":\"namespaces\",\"namespaces\":[]}", ANX_OK },
        { "{\"type\":\"namespaces\",\"namespaces\":{}}", ANX_E_PARSE_JSON },
        { "{\"type\":\"namespaces\",\"namespaces\":[{\"strict_mode\":\"harsh\"}]}", ANX_E_PARSE_JSON },
        { "{\"type\":\"namespaces\",\"namespaces\":[{\"wal_size\":\"much\"}]}", ANX_E_PARSE_JSON },
        { "{\"type\":\"namespaces\",\"namespaces\":[{\"max_iterations_idset_preresult\":5}]}",
          ANX_E_PARSE_JSON },
        { "{\"type\":\"namespaces\",\"namespaces\":[{\"cache\":{\"ft_index_cache_size\":false}}]}",
          ANX_E_PARSE_JSON },
        { "{\"type\":\"replication\",\"replication\":{\"server_id\":1000}}", ANX_E_PARSE_JSON },
        { "{\"type\":\"replication\",\"replication\":{\"server_id\":999}}", ANX_OK },
        { "{\"type\":\"async_replication\",\"async_replication\":{\"role\":\"boss\"}}", ANX_E_PARSE_JSON },
        { "{\"type\":\"embedders\",\"caches\":[{\"cache_tag\":5}]}", ANX_E_PARSE_JSON },
        { "{\"type\":\"sharding\",\"sharding\":{}}", ANX_E_LOGIC },
        { "{\"type\":\"action\",\"action\":{\"command\":\"sing\"}}", ANX_OK },
        { "{\"type\":\"action\",\"action\":{\"command\":5}}", ANX_E_PARSE_JSON },
        { "{\"type\":\"colours\",\"red\":1}", ANX_OK },
    };
    struct life *life = *state;

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        anx_buffer before;
        anx_buffer after;
        anx_status st;

        life_run(life, "SELECT * FROM #config ORDER BY type", &before);
        st = life_try_put(life, "#config", rows[i].json);
        if (st != rows[i].st)
            fail_msg("%s: status %d, %s", rows[i].json, (int) st, failure.message);
        life_run(life, "SELECT * FROM #config ORDER BY type", &after);
        assert_int_equal(strcmp(before.data, after.data) != 0, st == ANX_OK);
        anx_buffer_fini(&before);
        anx_buffer_fini(&after);
    }
}

static void
default_documents_are_what_a_new_database_has(void **state)
{
    static const char *const types[] = { "profiling", "namespaces", "replication", "async_replication",
                                         "embedders" };
    struct life *life = *state;

    for (size_t i = 0; i < ANX_COUNT_OF(types); i++) {
        anx_buffer json;
        char sql[128];

        anx_buffer_init(&json, NULL, 1 << 16);
        ok(config_default(anx_text_of(types[i]), &json, &failure));
        anx_buffer_char(&json, '\0');
        (void) snprintf(sql, sizeof(sql), "SELECT * FROM #config WHERE type = '%s'", types[i]);
        life_expect(life, sql, json.data);
        anx_buffer_fini(&json);
    }
    assert_int_equal(config_default(ANX_TEXT("colours"), NULL, &failure), ANX_E_NOT_FOUND);
}

static void
strict_mode_is_that_of_the_namespace(void **state)
{
    struct life *life = *state;

    life_namespace(life, "t", "");
    life_namespace(life, "u", "");
    life_put(life, "t", "{\"id\":1}");
    life_expect(life, "SELECT * FROM t WHERE nothing = 1", "400 ");
    life_put(life, "#config",
             "{\"type\":\"namespaces\",\"namespaces\":[{\"namespace\":\"T\",\"strict_mode\":\"none\"},"
             "{\"namespace\":\"*\",\"strict_mode\":\"indexes\"}]}");
    life_expect(life, "SELECT * FROM t WHERE nothing = 1", "]");
    life_expect(life, "SELECT * FROM u WHERE nothing = 1",
                "400 Current query strict mode allows filtering by indexes");
    ok(db_ns_rename(life->db, ANX_TEXT("t"), ANX_TEXT("v"), NULL, &failure));
    life_expect(life, "SELECT * FROM v WHERE nothing = 1",
                "400 Current query strict mode allows filtering by indexes");
}

/* ---- Statistics ---- */

static void
statistics_follow_the_settings(void **state)
{
    struct life *life = *state;

    life_namespace(life, "t", "");
    life_put(life, "t", "{\"id\":1}");
    life_expect(life, "SELECT * FROM #perfstats", "]");
    life_put(life, "#config",
             "{\"type\":\"profiling\",\"profiling\":{\"perfstats\":true,\"queriesperfstats\":true,"
             "\"queries_threshold_us\":0,\"activitystats\":true}}");
    life_expect(life, "SELECT * FROM t WHERE id = 5", "]");
    life_expect(life, "SELECT * FROM t WHERE id = 6", "]");
    life_expect(life, "SELECT query, total_queries_count FROM #queriesperfstats",
                "{\"query\":\"SELECT * FROM t WHERE id = ?\",\"total_queries_count\":2}]");
    life_expect(life, "SELECT name, selects.total_queries_count FROM #perfstats",
                "{\"name\":\"t\",\"selects\":{\"total_queries_count\":2}}]");
    life_expect(life, "SELECT query FROM #activitystats",
                "{\"query\":\"SELECT query FROM #activitystats\"}]");
    ok(system_reset(life->db, ANX_TEXT("#QueriesPerfStats"), &failure));
    ok(system_reset(life->db, ANX_TEXT("#perfstats"), &failure));
    life_expect(life, "SELECT * FROM #queriesperfstats", "]");
    assert_int_equal(system_reset(life->db, ANX_TEXT("#memstats"), &failure), ANX_E_LOGIC);
    life_put(life, "#config", "{\"type\":\"profiling\",\"profiling\":{\"memstats\":false}}");
    life_expect(life, "SELECT * FROM #memstats", "]");
    life_expect(life, "SELECT * FROM #unknown", "404 Namespace '#unknown' does not exist");
}

static void
metrics_are_gauges_of_every_namespace(void **state)
{
    struct life *life = *state;
    anx_buffer out;

    life_namespace(life, "t", "");
    life_put(life, "t", "{\"id\":1}{\"id\":2}");
    anx_buffer_init(&out, NULL, 1 << 20);
    engine_print_metrics(life->engine, &out);
    anx_buffer_char(&out, '\0');
    assert_non_null(strstr(out.data, "\nreindexer_items_count{db=\"d\",ns=\"t\"} 2\n"));
    assert_non_null(strstr(out.data, "\nreindexer_storage_ok{db=\"d\",ns=\"t\"} 1\n"));
    anx_buffer_fini(&out);
}

/* ---- Expiry ---- */

static void
expired_documents_go(void **state)
{
    struct life *life = *state;
    uint64_t deadline_ns = anx_clock_ns() + 20000000000u;
    anx_buffer out;
    char text[256];
    bool is_gone = false;

    life_namespace(life, "t",
                   "{\"name\":\"at\",\"field_type\":\"int64\",\"index_type\":\"ttl\",\"expire_after\":3600,"
                   "\"json_paths\":[\"at\"]}");
    (void) snprintf(text, sizeof(text), "{\"id\":1,\"at\":%lld}{\"id\":2,\"at\":%lld}{\"id\":3,\"at\":%lld}",
                    (long long) time(NULL), (long long) time(NULL) - 7200, (long long) time(NULL) - 3000);
    life_put(life, "t", text);
    while (!is_gone && anx_clock_ns() < deadline_ns) {
        (void) nanosleep(&(struct timespec) { .tv_nsec = 20000000 }, NULL);
        life_run(life, "SELECT id FROM t WHERE id = 2", &out);
        is_gone = strncmp(out.data, "{\"items\":[]", 11) == 0;
        anx_buffer_fini(&out);
    }
    assert_true(is_gone);
    life_expect(life, "SELECT id FROM t ORDER BY id", "{\"id\":1},{\"id\":3}]");
    /* A shorter time holds at once. */
    ok(life_index(life, "t", INDEX_UPDATE,
                  "{\"name\":\"at\",\"field_type\":\"int64\",\"index_type\":\"ttl\",\"expire_after\":600,"
                  "\"json_paths\":[\"at\"]}"));
    for (is_gone = false; !is_gone && anx_clock_ns() < deadline_ns;) {
        (void) nanosleep(&(struct timespec) { .tv_nsec = 20000000 }, NULL);
        life_run(life, "SELECT id FROM t WHERE id = 3", &out);
        is_gone = strncmp(out.data, "{\"items\":[]", 11) == 0;
        anx_buffer_fini(&out);
    }
    assert_true(is_gone);
    life_expect(life, "SELECT id FROM t", "{\"id\":1}]");
    life_check(life, "t");
}

/* ---- Metadata ---- */

static void
metadata_are_kept(void **state)
{
    static char longest[STORE_KEY_MAX];
    struct life *life = *state;
    anx_arena *arena = anx_arena_create(NULL, 0);
    anx_text *keys;
    anx_text *values;
    anx_text value;
    size_t n;

    memset(longest, 'k', sizeof(longest));
    life_namespace(life, "t", "");
    ok(db_meta_put(life->db, ANX_TEXT("t"), ANX_TEXT("b"), ANX_TEXT("1"), &failure));
    ok(db_meta_put(life->db, ANX_TEXT("t"), ANX_TEXT("a"), ANX_TEXT(""), &failure));
    ok(db_meta_put(life->db, ANX_TEXT("t"), ANX_TEXT("b"), ANX_TEXT("2"), &failure));
    ok(db_meta_put(life->db, ANX_TEXT("t"), ANX_TEXT("c"), ANX_TEXT("3"), &failure));
    ok(db_meta_delete(life->db, ANX_TEXT("t"), ANX_TEXT("c"), &failure));
    ok(db_meta_delete(life->db, ANX_TEXT("t"), ANX_TEXT("never"), &failure));
    ok(db_meta_put(life->db, ANX_TEXT("t"), (anx_text){ longest, STORE_KEY_MAX - 5 }, ANX_TEXT("long"),
                   &failure));
    assert_int_equal(db_meta_put(life->db, ANX_TEXT("t"), (anx_text){ longest, STORE_KEY_MAX - 4 },
                                 ANX_TEXT("x"), &failure),
                     ANX_E_PARAMS);
    assert_int_equal(db_meta_put(life->db, ANX_TEXT("t"), ANX_TEXT(""), ANX_TEXT("x"), &failure),
                     ANX_E_PARAMS);
    for (int round = 0; round < 2; round++) {
        ok(db_meta_list(life->db, ANX_TEXT("t"), arena, &keys, &values, &n, &failure));
        assert_int_equal(n, 3);
        assert_true(anx_text_equal(keys[0], ANX_TEXT("a")) && values[0].size == 0);
        assert_true(anx_text_equal(keys[1], ANX_TEXT("b")) && anx_text_equal(values[1], ANX_TEXT("2")));
        ok(db_meta_get(life->db, ANX_TEXT("t"), ANX_TEXT("c"), arena, &value, &failure));
        assert_int_equal(value.size, 0);
        life_reopen(life);
    }
    anx_arena_destroy(arena);
}

/* ---- Vectors from the store ---- */

static void
pending_vectors_are_kept_until_durable_and_published(void **state)
{
    static const float floats[] = { 1, 2, 3, 4, 5, 6 };
    struct pending *pending = pending_create();
    struct doc_vectors one[3];
    float out[2] = { 0, 0 };

    (void) state;
    for (size_t i = 0; i < 3; i++)
        one[i] = (struct doc_vectors) { .floats = floats + 2 * i, .n = 1, .dim = 2 };
    assert_false(pending_get(pending, 0, 7, 0, 0, out));
    pending_put(pending, 0, 7, 0, &one[0]);
    pending_put(pending, 0, 7, 1, &one[1]);
    pending_submitted(pending, 5);
    assert_true(pending_get(pending, 0, 7, 0, 0, out) && out[0] < 1.5f); /* the old version */
    assert_true(pending_get(pending, 0, 7, 1, 0, out) && out[0] > 2.5f); /* and the new one */
    assert_false(pending_get(pending, 1, 7, 0, 0, out));
    assert_false(pending_get(pending, 0, 7, 0, 1, out));
    pending_settle(pending, 5); /* durable, but not published yet */
    assert_true(pending_get(pending, 0, 7, 0, 0, out));
    pending_put(pending, 0, 7, 0, &one[2]);
    assert_true(pending_get(pending, 0, 7, 0, 0, out) && out[0] > 4.5f); /* the latest of a generation */
    pending_submitted(pending, 0); /* refused */
    assert_true(pending_get(pending, 0, 7, 0, 0, out) && out[0] < 1.5f);
    pending_settle(pending, 4);
    assert_true(pending_get(pending, 0, 7, 1, 0, out));
    pending_settle(pending, 5);
    assert_false(pending_get(pending, 0, 7, 1, 0, out));
    pending_put(pending, 0, 7, 1, &one[1]);
    pending_submitted(pending, 6);
    pending_published(pending);
    pending_settle(pending, 6);
    assert_false(pending_get(pending, 0, 7, 1, 0, out));
    assert_int_equal(pending_bytes(pending), 0);
    assert_true(pending_check(pending));
    pending_destroy(pending);
}

static void
vectors_are_read_from_records(void **state)
{
    struct life *life = *state;
    struct store_read *read;
    struct ns *ns;
    float out[4];

    life_namespace(
        life, "t",
        "{\"name\":\"v\",\"field_type\":\"float_vector\",\"index_type\":\"hnsw\",\"is_array\":true,"
        "\"json_paths\":[\"v\"],\"config\":{\"dimension\":2,\"metric\":\"l2\",\"quantization_config\":"
        "{\"quantization_type\":\"scalar_quantization_8_bit\"}}}");
    life_put(life, "t", "{\"id\":1,\"v\":[[1,2],[],[3,4]]}{\"id\":2}");
    ok(ns_acquire(life->db, ANX_TEXT("t"), &ns, &failure));
    assert_true(persist_read_vectors(ns, 0, 0, 2, 2, out));
    assert_true(out[0] < 1.5f && out[2] > 2.5f && out[3] > 3.5f);
    assert_false(persist_read_vectors(ns, 0, 0, 3, 2, out)); /* so many it does not have */
    assert_false(persist_read_vectors(ns, 0, 0, 1, 3, out)); /* of another dimension */
    assert_false(persist_read_vectors(ns, 0, 1, 1, 2, out));
    assert_false(persist_read_vectors(ns, 0, 2, 1, 2, out));
    ok(store_read_begin(life->db->store, &read, &failure));
    assert_memory_equal(persist_peek_vector(ns, read, 0, 0, 1, 2), out + 2, 2 * sizeof(float));
    assert_null(persist_peek_vector(ns, read, 0, 0, 2, 2));
    assert_null(persist_peek_vector(ns, read, 0, 5, 0, 2));
    store_read_end(read);
    ns_release(ns);
}

/* ---- Users ---- */

static anx_status
open_users(struct life *life, const char *yaml, struct users **users)
{
    char path[128];
    FILE *file;

    (void) snprintf(path, sizeof(path), "%s/users.yml", life->folder);
    (void) unlink(path);
    if (yaml) {
        file = fopen(path, "w");
        assert_non_null(file);
        assert_true(fputs(yaml, file) >= 0);
        assert_int_equal(fclose(file), 0);
    }
    return users_open(life->folder, users, &failure);
}

static void
users_have_passwords_and_roles(void **state)
{
    /* "secret" as `openssl passwd -1/-5/-6 -salt abc` makes it, and in the clear. */
    static const char yaml[] =
        "plain:\n  hash: secret\n  roles:\n    '*': data_read\n    Docs: db_admin\n"
        "md5:\n  hash: \"$1$abc$iCQ2D3nhptRYi27fDYv2s1\"\n  roles: {d: owner}\n"
        "sha256:\n  hash: \"$5$abc$qsg6EHbUzHQzF1POlD7zUwBINSELQxypPaeDcZe6vH0\"\n"
        "  roles: {'*': none, d: data_write}\n"
        "sha512:\n  hash: \"$6$abc$"
        "IdWKNKTJEb8LxY7CGg8YBXlvtfZzFw7Mp/r6niK9YB2mdvgY..TKjv1T..8RadRt2qvUHYRLr/TsVArtr91iR1\"\n"
        "  roles: {'*': replication}\n";
    static const struct {
        const char *name, *database;
        enum db_role role;
    } roles[] = {
        { "plain", "d", ROLE_DATA_READ },   { "plain", "docs", ROLE_DB_ADMIN }, { "md5", "D", ROLE_OWNER },
        { "md5", "other", ROLE_NONE },      { "sha256", "d", ROLE_DATA_WRITE }, { "sha512", "d", ROLE_NONE },
    };
    struct life *life = *state;
    struct users *users;

    ok(open_users(life, yaml, &users));
    for (size_t i = 0; i < ANX_COUNT_OF(roles); i++) {
        anx_text name = anx_text_of(roles[i].name);

        for (int round = 0; round < 2; round++) { /* the second time from memory */
            const struct user *user = users_login(users, name, ANX_TEXT("secret"));

            if (!user)
                fail_msg("%s cannot log in", roles[i].name);
            assert_int_equal(users_role(user, anx_text_of(roles[i].database)), roles[i].role);
            assert_null(users_login(users, name, ANX_TEXT("Secret")));
            assert_null(users_login(users, name, ANX_TEXT("")));
            assert_null(users_login(users, name, ANX_TEXT("secret\0x")));
        }
    }
    assert_null(users_login(users, ANX_TEXT("nobody"), ANX_TEXT("secret")));
    assert_int_equal(users_role(NULL, ANX_TEXT("d")), ROLE_OWNER);
    users_close(users);
    ok(open_users(life, NULL, &users));
    assert_int_equal(
        users_role(users_login(users, ANX_TEXT("reindexer"), ANX_TEXT("reindexer")), ANX_TEXT("x")),
        ROLE_OWNER);
    assert_null(users_login(users, ANX_TEXT("reindexer"), ANX_TEXT("other")));
    users_close(users);
}

static void
wrong_users_files_say_where(void **state)
{
    static const struct {
        const char *yaml, *message;
    } rows[] = {
        { "", "users file: it is empty" },
        { "- a\n", "users file, line 1: it must map names to users" },
        { "a: b\n", "users file, line 1: a user must have hash and roles" },
        { "a:\n  roles: {'*': owner}\n", "users file, line 2: the user has no hash" },
        { "a:\n  hash: x\n  roles:\n    '*': king\n",
          "users file, line 4: unknown role; known are none, data_read, data_write, db_admin, owner" },
        { "a:\n  hash: x\n  colour: red\n", "users file, line 3: unknown key; known are hash and roles" },
        { "a:\n  hash: [x]\n", "users file, line 2: hash must be text" },
        { "a: {\n", "users file, line 2: did not find expected node content" },
    };
    struct life *life = *state;

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct users *users;

        assert_int_equal(open_users(life, rows[i].yaml, &users), ANX_E_INVALID);
        assert_null(users);
        assert_string_equal(failure.message, rows[i].message);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(settings_are_checked_before_they_are_stored, life_setup,
                                        life_teardown),
        cmocka_unit_test_setup_teardown(default_documents_are_what_a_new_database_has, life_setup,
                                        life_teardown),
        cmocka_unit_test_setup_teardown(strict_mode_is_that_of_the_namespace, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(statistics_follow_the_settings, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(metrics_are_gauges_of_every_namespace, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(expired_documents_go, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(metadata_are_kept, life_setup, life_teardown),
        cmocka_unit_test(pending_vectors_are_kept_until_durable_and_published),
        cmocka_unit_test_setup_teardown(vectors_are_read_from_records, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(users_have_passwords_and_roles, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(wrong_users_files_say_where, life_setup, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
