/* Namespaces, indexes and storage through the front of the database: what changes, what an error leaves as it
 * was, and what is there after a restart, a crash, or damage. */
#include "test_life.h"

#include <signal.h>
#include <sys/wait.h>

#include "base/rng.h"

#define VECTOR(name, type, dim, more)                                                                        \
    "{\"name\":\"" name "\",\"field_type\":\"float_vector\",\"index_type\":\"" type                          \
    "\",\"json_paths\":[\"" name "\"],\"config\":{\"dimension\":" dim ",\"metric\":\"l2\"" more "}}"
#define SCALAR(name, field, type, more)                                          \
    "{\"name\":\"" name "\",\"field_type\":\"" field "\",\"index_type\":\"" type \
    "\",\"json_paths\":[\"" name "\"]" more "}"

/* ---- Namespaces ---- */

static void
names_are_checked(void **state)
{
    static const struct {
        const char *definition;
        anx_status st;
        const char *message;
    } rows[] = {
        { "{\"name\":\"a_B-1\"}", ANX_OK, "" },
        { "{\"name\":\"A_b-1\"}", ANX_E_PARAMS, "Namespace 'A_b-1' already exists" },
        { "{\"name\":\"two words\"}", ANX_E_PARAMS,
          "Namespace name 'two words' contains invalid character. Only alphas, digits,'_','-', are allowed" },
        { "{\"name\":\"@tmp\"}", ANX_E_PARAMS,
          "Namespace name '@tmp' contains invalid character. Only alphas, digits,'_','-', are allowed" },
        { "{}", ANX_E_PARAMS,
          "Namespace name '' contains invalid character. Only alphas, digits,'_','-', are allowed" },
        { "[]", ANX_E_PARSE_JSON, "NamespaceDef: Can't obtain json field 'name' from non-object json node" },
        { "{\"name\":5}", ANX_E_PARSE_JSON, "NamespaceDef: Can't convert json field 'name' to string" },
        { "{\"name\":\"n\",\"storage\":{\"enabled\":1}}", ANX_E_PARSE_JSON,
          "NamespaceDef: Can't convert json field 'enabled' to bool" },
        { "{\"name\":\"n\",\"indexes\":[{\"name\":\"v\",\"json_paths\":[\"v\"],\"field_type\":\"bool\","
          "\"index_type\":\"tree\"}]}",
          ANX_E_PARAMS, "Unsupported combination of field 'v' type 'bool' and index type 'tree'" },
    };
    struct life *life = *state;

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        failure.message[0] = '\0';
        assert_int_equal(db_ns_create(life->db, anx_text_of(rows[i].definition), NULL, &failure), rows[i].st);
        if (rows[i].st != ANX_OK)
            assert_string_equal(failure.message, rows[i].message);
    }
    assert_int_equal(db_ns_drop(life->db, ANX_TEXT("n"), NULL, &failure), ANX_E_NOT_FOUND);
}

static void
a_rename_replaces_and_survives(void **state)
{
    struct life *life = *state;

    life_namespace(life, "a", SCALAR("s", "string", "hash", ""));
    life_namespace(life, "b", "");
    life_put(life, "a", "{\"id\":1,\"s\":\"x\",\"extra\":[1]}");
    life_put(life, "b", "{\"id\":7}");
    ok(db_meta_put(life->db, ANX_TEXT("a"), ANX_TEXT("k"), ANX_TEXT("v"), &failure));
    ok(db_ns_rename(life->db, ANX_TEXT("A"), ANX_TEXT("b"), NULL, &failure));
    assert_int_equal(db_ns_drop(life->db, ANX_TEXT("a"), NULL, &failure), ANX_E_NOT_FOUND);
    for (int round = 0; round < 2; round++) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        anx_text value;

        life_expect(life, "SELECT * FROM b WHERE s = 'x'", "{\"id\":1,\"s\":\"x\",\"extra\":[1]}]");
        ok(db_meta_get(life->db, ANX_TEXT("b"), ANX_TEXT("k"), arena, &value, &failure));
        assert_true(anx_text_equal(value, ANX_TEXT("v")));
        anx_arena_destroy(arena);
        life_check(life, "b");
        life_reopen(life);
    }
    /* The name in another case is a new spelling, not another namespace. */
    ok(db_ns_rename(life->db, ANX_TEXT("b"), ANX_TEXT("B"), NULL, &failure));
    life_expect(life, "SELECT name FROM #namespaces WHERE name = 'B'", "{\"name\":\"B\"}]");
}

static void
a_dropped_namespace_is_gone_while_somebody_reads_it(void **state)
{
    struct life *life = *state;
    struct ns *ns;

    life_namespace(life, "t", "");
    life_put(life, "t", "{\"id\":1}");
    ok(ns_acquire(life->db, ANX_TEXT("t"), &ns, &failure));
    ok(db_ns_drop(life->db, ANX_TEXT("t"), NULL, &failure));
    assert_int_equal(ns_check_alive(ns, &failure), ANX_E_NOT_FOUND);
    assert_int_equal(rows_count(ns->rows), 1); /* still there for who holds it */
    life_namespace(life, "t", "");
    life_expect(life, "SELECT * FROM t", "]");
    ns_release(ns);
    life_put(life, "t", "{\"id\":2}");
    life_reopen(life);
    life_expect(life, "SELECT * FROM t", "{\"id\":2}]");
    life_check(life, "t");
}

static void
databases_come_and_go(void **state)
{
    struct life *life = *state;
    struct database *db;
    struct database *again;
    anx_arena *arena = anx_arena_create(NULL, 0);
    anx_text *names;
    size_t n;
    char path[256];

    ok(engine_database_create(life->engine, ANX_TEXT("E"), NULL, &failure));
    assert_int_equal(engine_database_create(life->engine, ANX_TEXT("E"), NULL, &failure), ANX_E_PARAMS);
    ok(engine_database_create(life->engine, ANX_TEXT("e"), NULL, &failure)); /* the same one */
    ok(database_acquire(life->engine, ANX_TEXT("e"), &db, &failure));
    ok(engine_database_drop(life->engine, ANX_TEXT("E"), NULL, &failure));
    assert_int_equal(engine_database_drop(life->engine, ANX_TEXT("E"), NULL, &failure), ANX_E_PARAMS);
    assert_string_equal(failure.message, "Database E not found");
    assert_int_equal(database_acquire(life->engine, ANX_TEXT("e"), &again, &failure), ANX_E_NOT_FOUND);
    /* Made anew while the old one is still held. */
    ok(engine_database_create(life->engine, ANX_TEXT("E"), NULL, &failure));
    database_release(db);
    ok(engine_databases(life->engine, arena, &names, &n, &failure));
    assert_int_equal(n, 2);
    anx_arena_destroy(arena);
    /* A folder that is not ours stays as it is. */
    (void) snprintf(path, sizeof(path), "%s/other", life->folder);
    assert_int_equal(mkdir(path, 0700), 0);
    (void) snprintf(path, sizeof(path), "%s/other/file", life->folder);
    close(open(path, O_CREAT | O_WRONLY, 0600));
    assert_int_equal(engine_database_create(life->engine, ANX_TEXT("other"), NULL, &failure), ANX_E_LOGIC);
    assert_int_equal(access(path, F_OK), 0);
}

/* ---- Indexes ---- */

static void
a_failed_change_leaves_everything(void **state)
{
    static const struct {
        enum db_index_action action;
        const char *definition, *message;
    } rows[] = {
        { INDEX_ADD, VECTOR("w", "hnsw", "3", ""),
          "Error during processing item with primary key `id`={2}: " },
        { INDEX_ADD, SCALAR("note", "int", "hash", ""),
          "Error during processing item with primary key `id`={1}: " },
        { INDEX_UPDATE, VECTOR("v", "hnsw", "3", ""),
          "Error during processing item with primary key `id`={1}: " },
        { INDEX_UPDATE, VECTOR("v", "hnsw", "2", "},\"is_array\":true,\"x\":{"),
          "Cannot update index 'v' in namespace 't'. Can't convert array index to not array" },
        { INDEX_UPDATE, SCALAR("n", "string", "hash", ""), "Cannot convert key from type int to string" },
        { INDEX_UPDATE, SCALAR("nothing", "int", "hash", ""), "Index 'nothing' not found in 't'" },
        { INDEX_ADD, SCALAR("N", "int", "hash", ""), "Index already exists" },
        { INDEX_ADD_IF_DIFFERENT, SCALAR("n", "int", "tree", ""),
          "Index 't.n' already exists with different settings" },
        { INDEX_ADD, SCALAR("key", "int", "hash", ",\"is_pk\":true"),
          "Cannot add PK index 't.key'. Already exists another PK index - 'id'" },
        { INDEX_ADD, "{\"name\":\"c\",\"field_type\":\"composite\",\"json_paths\":[\"n\",\"v\"]}",
          "Composite indexes over float vector indexed field ('v') are not supported yet" },
        { INDEX_ADD, "{\"name\":\"m\",\"field_type\":\"int\",\"json_paths\":[\"n\"]}",
          "Cannot add field with name 'm' to namespace 't'. Json path 'n' already used in field 'n'" },
    };
    struct life *life = *state;
    anx_buffer before;
    anx_buffer after;

    life_namespace(life, "t", SCALAR("n", "int", "hash", "") "," VECTOR("v", "hnsw", "2", ""));
    life_put(life, "t",
             "{\"id\":1,\"n\":5,\"v\":[1,2],\"note\":\"text\",\"w\":[1,2,3]}"
             "{\"id\":2,\"v\":[],\"w\":[1,2]}{\"id\":3,\"note\":7}");
    life_run(life, "SELECT *, vectors() FROM t", &before);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        if (life_index(life, "t", rows[i].action, rows[i].definition) == ANX_OK)
            fail_msg("%s was accepted", rows[i].definition);
        if (strncmp(failure.message, rows[i].message, strlen(rows[i].message)) != 0)
            fail_msg("expected %s\ngot      %s", rows[i].message, failure.message);
        life_check(life, "t");
    }
    life_reopen(life);
    life_run(life, "SELECT *, vectors() FROM t", &after);
    assert_string_equal(before.data, after.data);
    life_expect(life, "SELECT id FROM t WHERE KNN(v, [1, 2], k=5)", "{\"id\":1}]");
    anx_buffer_fini(&before);
    anx_buffer_fini(&after);
}

static void
index_changes_move_values(void **state)
{
    struct life *life = *state;

    life_namespace(life, "t", "");
    life_put(life, "t",
             "{\"id\":1,\"v\":[1,2],\"n\":3.7,\"w\":[[1],[2]]}{\"id\":2,\"v\":null}{\"id\":3,\"v\":[3,4],"
             "\"n\":5}");
    ok(life_index(life, "t", INDEX_ADD, VECTOR("v", "hnsw", "2", "")));
    ok(life_index(life, "t", INDEX_ADD, SCALAR("n", "int", "tree", "")));
    ok(life_index(life, "t", INDEX_ADD, VECTOR("w", "vec_bf", "1", "},\"is_array\":true,\"x\":{")));
    life_check(life, "t");
    life_expect(life, "SELECT id, n FROM t WHERE n = 3", "{\"id\":1,\"n\":3}]");
    life_expect(life, "SELECT * FROM t WHERE KNN(v, [3, 3], k=1)", "{\"id\":3,\"n\":5}]");
    life_expect(life, "SELECT id FROM t WHERE KNN(w, [2], k=1)", "{\"id\":1}]");
    /* A composite over an index that changes its type follows it. */
    ok(life_index(life, "t", INDEX_ADD,
                  "{\"name\":\"id+n\",\"field_type\":\"composite\",\"json_paths\":[\"id\",\"n\"]}"));
    ok(life_index(life, "t", INDEX_UPDATE, SCALAR("n", "double", "tree", "")));
    life_expect(life, "SELECT id FROM t WHERE \"id+n\" = {1, 3.0}", "{\"id\":1}]");
    life_check(life, "t");
    /* The first vector field goes, the second keeps its number, the next index takes the free one. */
    ok(db_index_drop(life->db, ANX_TEXT("t"), ANX_TEXT("v"), NULL, &failure));
    life_check(life, "t");
    life_reopen(life);
    life_check(life, "t");
    life_expect(life, "SELECT *, vectors() FROM t WHERE id = 1",
                "{\"id\":1,\"v\":[1.0,2.0],\"n\":3.0,\"w\":[[1.0],[2.0]]}]");
    ok(life_index(life, "t", INDEX_ADD, VECTOR("v", "ivf", "2", ",\"centroids_count\":1")));
    life_check(life, "t");
    ok(life_index(life, "t", INDEX_UPDATE, VECTOR("v", "vec_bf", "2", ",\"radius\":3")));
    life_expect(life, "SELECT id FROM t WHERE KNN(v, [3, 3], k=5)", "{\"id\":3}]");
    ok(life_index(life, "t", INDEX_UPDATE, VECTOR("v", "vec_bf", "2", "")));
    life_expect(life, "SELECT id FROM t WHERE KNN(v, [3, 3], k=5)", "{\"id\":3},{\"id\":1}]");
    life_reopen(life);
    life_check(life, "t");
    life_expect(life, "SELECT id FROM t WHERE KNN(v, [3, 3], k=5)", "{\"id\":3},{\"id\":1}]");
}

static void
drops_are_refused_where_something_depends(void **state)
{
    static const struct {
        const char *index, *message;
    } rows[] = {
        { "n", "Cannot remove index 'n': it's a part of a composite index 'n+s'" },
        { "id",
          "Cannot remove PK index 'id' from namespace 't': the namespace contains float vector index 'v'" },
        { "s", "Cannot remove index 's': it's a part of a composite index 'n+s'" },
        { "e", "Cannot remove index 'e': it's a part of a auto embedding logic in index 'v'" },
        { "x", "Cannot remove index 'x': doesn't exist" },
    };
    struct life *life = *state;

    life_namespace(life, "t",
                   SCALAR("n", "int", "hash", "") "," SCALAR("s", "string", "hash", "") ","
                   SCALAR("e", "string", "hash", "") ","
                   VECTOR("v", "hnsw", "2",
                          ",\"embedding\":{\"query_embedder\":{\"URL\":\"http://a\"}}")
                   ",{\"name\":\"n+s\",\"field_type\":\"composite\",\"json_paths\":[\"n\",\"s\"]}");
    life_put(life, "t", "{\"id\":1}");
    ok(life_index(life, "t", INDEX_UPDATE,
                  VECTOR("v", "hnsw", "2",
                         ",\"embedding\":{\"upsert_embedder\":{\"URL\":\"http://a\",\"fields\":[\"e\"]}}")));
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        if (db_index_drop(life->db, ANX_TEXT("t"), anx_text_of(rows[i].index), NULL, &failure) == ANX_OK)
            fail_msg("%s was dropped", rows[i].index);
        assert_string_equal(failure.message, rows[i].message);
    }
}

/* ---- Restart ---- */

static void
everything_is_there_after_a_restart(void **state)
{
    static const char indexes[] =
        "{\"name\":\"s\",\"field_type\":\"string\",\"index_type\":\"tree\",\"json_paths\":[\"s\"],"
        "\"collate_mode\":\"custom\",\"sort_order_letters\":\"zZyYxX\"},"
        "{\"name\":\"sp\",\"field_type\":\"string\",\"is_sparse\":true,\"json_paths\":[\"sp\"]},"
        "{\"name\":\"tags\",\"field_type\":\"string\",\"is_array\":true,\"json_paths\":[\"tags\"]},"
        "{\"name\":\"v\",\"field_type\":\"float_vector\",\"index_type\":\"hnsw\",\"json_paths\":[\"v\"],"
        "\"config\":{\"dimension\":2,\"metric\":\"l2\",\"radius\":100,\"quantization_config\":{"
        "\"quantization_type\":\"scalar_quantization_8_bit\",\"quantile\":0.97}}}";
    struct life *life = *state;
    anx_buffer before[3];
    static const char *const dumps[] = {
        "SELECT *, vectors() FROM t",
        "SELECT * FROM #namespaces ORDER BY name",
        "SELECT * FROM #config ORDER BY type",
    };

    life_namespace(life, "t", indexes);
    ok(db_ns_create(life->db, ANX_TEXT("{\"name\":\"ram\",\"storage\":{\"enabled\":false}}"), NULL,
                    &failure));
    ok(db_schema_set(life->db, ANX_TEXT("t"), ANX_TEXT("{\"type\":\"object\",\"properties\":{\"later\":{}}}"),
                     NULL, &failure));
    life_put(life, "t",
             "{\"id\":1,\"s\":\"a\",\"tags\":[\"x\",\"y\"],\"v\":[1,2],\"deep\":{\"a\":[1,{\"b\":null}]}}"
             "{\"id\":2,\"s\":\"caf\\u00e9\",\"sp\":null,\"v\":[]}{\"id\":3,\"big\":1e300}{\"id\":4}");
    life_expect(life, "DELETE FROM t WHERE id = 3", "{\"id\":3");
    life_put(life, "#config",
             "{\"type\":\"namespaces\",\"namespaces\":[{\"namespace\":\"*\",\"strict_mode\":\"none\"}]}");
    for (size_t i = 0; i < ANX_COUNT_OF(dumps); i++)
        life_run(life, dumps[i], &before[i]);
    assert_int_equal(db_ns_drop(life->db, ANX_TEXT("ram"), NULL, &failure), ANX_OK);
    anx_buffer_fini(&before[1]);
    life_run(life, dumps[1], &before[1]);
    for (int round = 0; round < 2; round++) {
        life_reopen(life);
        for (size_t i = 0; i < ANX_COUNT_OF(dumps); i++) {
            anx_buffer after;

            life_run(life, dumps[i], &after);
            assert_string_equal(before[i].data, after.data);
            anx_buffer_fini(&after);
        }
        life_check(life, "t");
        life_expect(life, "SELECT id FROM t WHERE nothing = 1", "]"); /* the setting is in force again */
    }
    life_expect(life, "SELECT id FROM t WHERE KNN(v, [1, 2], k=9)", "{\"id\":1}]");
    for (size_t i = 0; i < ANX_COUNT_OF(dumps); i++)
        anx_buffer_fini(&before[i]);
}

static void
memory_namespaces_leave_nothing(void **state)
{
    struct life *life = *state;

    ok(db_ns_create(
        life->db,
        ANX_TEXT("{\"name\":\"ram\",\"storage\":{\"enabled\":false},\"indexes\":[{\"name\":\"id\","
                 "\"field_type\":\"int\",\"is_pk\":true,\"json_paths\":[\"id\"]}]}"),
        NULL, &failure));
    life_put(life, "ram", "{\"id\":1}");
    life_expect(life, "SELECT storage_ok, storage_enabled, storage_status FROM #memstats WHERE name = 'ram'",
                "{\"storage_ok\":false,\"storage_enabled\":false,\"storage_status\":\"DISABLED\"}]");
    life_reopen(life);
    life_expect(life, "SELECT * FROM ram", "404 Namespace 'ram' does not exist");
}

/* ---- Damage ---- */

static void
flip_text_in_file(const char *path, const char *text)
{
    int fd = open(path, O_RDWR);
    struct stat info;
    size_t n_found = 0;
    char *bytes;

    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    bytes = anx_alloc_bytes(NULL, (size_t) info.st_size);
    assert_int_equal(pread(fd, bytes, (size_t) info.st_size, 0), info.st_size);
    for (size_t i = 0; i + strlen(text) <= (size_t) info.st_size; i++)
        if (memcmp(bytes + i, text, strlen(text)) == 0) {
            char flipped = (char) (bytes[i] ^ 1);

            assert_int_equal(pwrite(fd, &flipped, 1, (off_t) i), 1);
            n_found++;
        }
    close(fd);
    anx_free(NULL, bytes);
    assert_true(n_found > 0);
}

static void
damaged_documents_are_reported(void **state)
{
    struct life *life = *state;
    char path[256];

    life_namespace(life, "t", "");
    life_put(life, "t", "{\"id\":1,\"text\":\"a telling value\"}");
    life_close(life);
    (void) snprintf(path, sizeof(path), "%s/d/data.mdb", life->folder);
    flip_text_in_file(path, "a telling value");
    assert_int_equal(engine_open(&life->params, &life->engine, &failure), ANX_E_CORRUPT);
    assert_null(life->engine);
    assert_non_null(strstr(failure.message, "database 'd': namespace 't'"));
    life->params.start_with_errors = true;
    ok(engine_open(&life->params, &life->engine, &failure));
    assert_int_equal(database_acquire(life->engine, ANX_TEXT("d"), &life->db, &failure), ANX_E_NOT_FOUND);
}

static void
remains_are_removed_at_start(void **state)
{
    struct life *life = *state;
    struct store_table *table;
    char from[256];
    char to[256];

    life_namespace(life, "t", "");
    ok(store_table(life->db->store, ANX_TEXT("r77"), true, &table,
                   &failure)); /* no definition belongs to it */
    ok(engine_database_create(life->engine, ANX_TEXT("gone"), NULL, &failure));
    life_close(life);
    (void) snprintf(from, sizeof(from), "%s/gone", life->folder);
    (void) snprintf(to, sizeof(to), "%s/@gone.1.1", life->folder);
    assert_int_equal(rename(from, to), 0); /* as a crash during a drop leaves it */
    life_open(life);
    assert_int_equal(access(to, F_OK), -1);
    assert_int_equal(store_table(life->db->store, ANX_TEXT("r77"), false, &table, &failure), ANX_E_NOT_FOUND);
}

/* ---- Crash ---- */

enum { CRASH_KEYS = 60 };

/* Step n of a deterministic history: a document changes, or (rarely) an index. */
static anx_status
crash_step(struct life *life, uint32_t n)
{
    anx_rng rng = anx_rng_seed(n);
    uint32_t key = anx_rng_below(&rng, CRASH_KEYS);
    char text[256];

    switch (anx_rng_below(&rng, 24)) {
    case 0:
        return life_index(life, "t", INDEX_UPDATE,
                          n % 2 ? VECTOR("v", "hnsw", "2", ",\"m\":8") : VECTOR("v", "vec_bf", "2", ""));
    case 1: return db_meta_put(life->db, ANX_TEXT("t"), ANX_TEXT("n"), ANX_TEXT("x"), &failure);
    case 2:
    case 3:
    case 4:
    case 5:
        (void) snprintf(text, sizeof(text), "{\"id\":%u}", key);
        return db_write(life->db, ANX_TEXT("t"), WRITE_DELETE, anx_text_of(text), NULL, 0, NULL,
                        &(size_t){ 0 }, NULL, &failure);
    default:
        (void) snprintf(text, sizeof(text), "{\"id\":%u,\"n\":%u,\"v\":[%u,%u],\"name_%u\":\"%0*u\"}", key, n,
                        n % 100, key, n % 50, (int) anx_rng_below(&rng, 200) + 1, n);
        return life_try_put(life, "t", text);
    }
}

/* Step n and its number are one request of two documents, so that the number says how far the history went.
 */
static void
crash_child(struct life *life, uint32_t first, int fd)
{
    life_open(life);
    for (uint32_t n = first;; n++) {
        char text[64];

        (void) snprintf(text, sizeof(text), "{\"id\":1000000,\"n\":%u}", n);
        if (crash_step(life, n) != ANX_OK || life_try_put(life, "t", text) != ANX_OK)
            _exit(2);
        if (write(fd, &n, sizeof(n)) != sizeof(n))
            _exit(3);
    }
}

static uint32_t
crash_run(struct life *life, uint32_t first, uint32_t wanted)
{
    uint32_t last = first - 1;
    uint32_t n;
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        crash_child(life, first, fds[1]);
    }
    close(fds[1]);
    while (last < first + wanted && read(fds[0], &n, sizeof(n)) == sizeof(n))
        last = n;
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (read(fds[0], &n, sizeof(n)) == sizeof(n))
        last = n;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        fail_msg("the child ended by itself with status %d", WEXITSTATUS(status));
    return last;
}

static uint32_t
stored_step(struct life *life)
{
    anx_buffer out;
    unsigned n = 0;

    life_run(life, "SELECT n FROM t WHERE id = 1000000", &out);
    (void) sscanf(out.data, "{\"items\":[{\"n\":%u", &n);
    anx_buffer_fini(&out);
    return n;
}

/* The same history in a database that never crashed. Step n may or may not be in the crashed one, so both are
 * tried. */
static void
killed_databases_lose_nothing_acknowledged(void **state)
{
    struct life *life = *state;
    struct life model = { .folder = "" };
    void *model_state = NULL;
    anx_rng rng = anx_rng_seed(5);
    uint32_t applied = 0;
    static const char dump[] = "SELECT *, vectors() FROM t WHERE id < 1000000 ORDER BY id";

    assert_int_equal(life_setup(&model_state), 0);
    (void) model;
    life_namespace(life, "t", VECTOR("v", "hnsw", "2", ""));
    life_namespace(model_state, "t", VECTOR("v", "hnsw", "2", ""));
    life_close(life);
    for (int round = 0; round < 8; round++) {
        uint32_t acknowledged = crash_run(life, applied + 1, 20 + anx_rng_below(&rng, 120));
        anx_buffer got;
        anx_buffer expected;

        life_open(life);
        life_check(life, "t");
        if (stored_step(life) < acknowledged)
            fail_msg("step %u was acknowledged, but only %u are there", acknowledged, stored_step(life));
        life_run(life, dump, &got);
        while (applied < stored_step(life))
            ok(crash_step(model_state, ++applied));
        life_run(model_state, dump, &expected);
        if (strcmp(got.data, expected.data) != 0) {
            /* The step after the last number was stored without its number. */
            ok(crash_step(model_state, ++applied));
            anx_buffer_fini(&expected);
            life_run(model_state, dump, &expected);
        }
        assert_string_equal(got.data, expected.data);
        anx_buffer_fini(&got);
        anx_buffer_fini(&expected);
        life_close(life);
    }
    print_message("# %u steps survived 8 kills\n", applied);
    life_teardown(&model_state);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(names_are_checked, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(a_rename_replaces_and_survives, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(a_dropped_namespace_is_gone_while_somebody_reads_it, life_setup,
                                        life_teardown),
        cmocka_unit_test_setup_teardown(databases_come_and_go, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(a_failed_change_leaves_everything, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(index_changes_move_values, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(drops_are_refused_where_something_depends, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(everything_is_there_after_a_restart, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(memory_namespaces_leave_nothing, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(damaged_documents_are_reported, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(remains_are_removed_at_start, life_setup, life_teardown),
        cmocka_unit_test_setup_teardown(killed_databases_lose_nothing_acknowledged, life_setup,
                                        life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
