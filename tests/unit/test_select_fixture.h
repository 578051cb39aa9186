/* A database in memory, filled from JSON, and asked in SQL: what the suites of the executor share. */
#ifndef ANX_TEST_SELECT_FIXTURE_H
#define ANX_TEST_SELECT_FIXTURE_H

#include "test_util.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "db/db.h"

struct fixture {
    struct engine *engine;
    struct database *db;
};

static inline void
fixture_namespace(struct fixture *f, const char *definition, const char *name, const char *documents)
{
    anx_error err = { 0 };
    size_t updated = 0;

    if (db_ns_create(f->db, anx_text_of(definition), NULL, &err) != ANX_OK)
        fail_msg("namespace %s: %s", name, err.message);
    if (db_write(f->db, anx_text_of(name), WRITE_UPSERT, anx_text_of(documents), NULL, 0, NULL, &updated,
                 NULL, &err) != ANX_OK)
        fail_msg("documents of %s: %s", name, err.message);
}

static inline void
fixture_open(struct fixture *f)
{
    struct engine_params params = { .path = NULL };
    anx_error err = { 0 };

    if (engine_open(&params, &f->engine, &err) != ANX_OK)
        fail_msg("engine: %s", err.message);
    assert_int_equal(engine_database_create(f->engine, ANX_TEXT("d"), NULL, &err), ANX_OK);
    assert_int_equal(database_acquire(f->engine, ANX_TEXT("d"), &f->db, &err), ANX_OK);
}

static inline void
fixture_close(struct fixture *f)
{
    database_release(f->db);
    engine_close(f->engine);
}

/* A namespace with its documents. */
struct fixture_table {
    const char *name, *definition, *documents;
};

/* The set-up of a suite: a database with these namespaces. */
static inline int
fixture_set_up(void **state, const struct fixture_table *tables, size_t n)
{
    static struct fixture f;

    fixture_open(&f);
    for (size_t i = 0; i < n; i++)
        fixture_namespace(&f, tables[i].definition, tables[i].name, tables[i].documents);
    *state = &f;
    return 0;
}

static inline int
fixture_tear_down(void **state)
{
    fixture_close(*state);
    return 0;
}

/* The answer of a query as JSON, or "status message" of its error; to be freed with anx_buffer_fini. */
static inline void
fixture_run(struct fixture *f, const char *sql, const struct result_window *window, anx_buffer *out)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = NULL;
    struct query query;
    anx_error err = { 0 };
    anx_status st;

    anx_buffer_init(out, NULL, 1 << 24);
    st = query_read_sql(anx_text_of(sql), arena, &query, NULL, &err);
    if (st == ANX_OK)
        st = query.type == QUERY_SELECT ? db_select(f->db, &query, NULL, &result, &err)
                                        : db_modify(f->db, &query, NULL, &result, &err);
    if (st == ANX_OK)
        st = result_print_json(result, window, out, &err);
    result_free(result);
    anx_arena_destroy(arena);
    if (st != ANX_OK) {
        anx_buffer_clear(out);
        anx_buffer_printf(out, "%d %s", anx_status_http(st), err.message);
    }
    anx_buffer_char(out, '\0');
    assert_false(out->failed);
}

static inline void
fixture_expect(struct fixture *f, const char *sql, const char *expected)
{
    anx_buffer out;

    fixture_run(f, sql, NULL, &out);
    if (strcmp(out.data, expected) != 0)
        fail_msg("%s\n  gives    %s\n  expected %s", sql, out.data, expected);
    anx_buffer_fini(&out);
}

/* The ids of the answer's documents, "1,2,3", in their order; errors as they are. */
static inline void
fixture_ids(struct fixture *f, const char *sql, char *ids, size_t size)
{
    anx_buffer out;
    size_t n = 0;

    fixture_run(f, sql, NULL, &out);
    ids[0] = '\0';
    if (out.data[0] != '{') {
        snprintf(ids, size, "%s", out.data);
    } else {
        for (const char *at = out.data; (at = strstr(at, "{\"id\":")) != NULL;) {
            int id = 0, read = 0;

            at += strlen("{\"id\":");
            if (sscanf(at, "%d%n", &id, &read) == 1 && n < size)
                n += (size_t) snprintf(ids + n, size - n, "%s%d", n > 0 ? "," : "", id);
        }
    }
    anx_buffer_fini(&out);
}

/* Rows { text, expected }. */
struct fixture_case {
    const char *text, *expected;
};

static inline void
fixture_expect_all(struct fixture *f, const struct fixture_case *cases, size_t n)
{
    for (size_t i = 0; i < n; i++)
        fixture_expect(f, cases[i].text, cases[i].expected);
}

/* Every text stands behind "SELECT id FROM <ns> ". */
static inline void
fixture_expect_ids(struct fixture *f, const char *ns, const struct fixture_case *cases, size_t n)
{
    char sql[1024], ids[1024];

    for (size_t i = 0; i < n; i++) {
        snprintf(sql, sizeof(sql), "SELECT id FROM %s %s", ns, cases[i].text);
        fixture_ids(f, sql, ids, sizeof(ids));
        if (strcmp(ids, cases[i].expected) != 0)
            fail_msg("%s\n  gives    %s\n  expected %s", sql, ids, cases[i].expected);
    }
}

#define FIXTURE_EXPECT_ALL(f, cases) fixture_expect_all((f), (cases), ANX_COUNT_OF(cases))
#define FIXTURE_EXPECT_IDS(f, ns, cases) fixture_expect_ids((f), (ns), (cases), ANX_COUNT_OF(cases))

#define INDEX_TYPE(type, kind) "\"field_type\":\"" type "\",\"index_type\":\"" kind "\""
#define INDEX_OVER(name, paths, type, kind)                                                                  \
    "{\"name\":\"" name "\",\"json_paths\":[" paths "]," INDEX_TYPE(type, kind) "}"
#define INDEX(name, type, kind) INDEX_OVER(name, "\"" name "\"", type, kind)
#define INDEX_WITH(name, type, kind, more)                                                                   \
    "{\"name\":\"" name "\",\"json_paths\":[\"" name "\"]," INDEX_TYPE(type, kind) "," more "}"
#define VECTOR_INDEX(name, kind, dim, metric)                                                                \
    INDEX_WITH(name, "float_vector", kind, "\"config\":{\"dimension\":" dim ",\"metric\":\"" metric "\"}")
#define VECTOR_INDEX_WITH(name, kind, more, config)                                                          \
    INDEX_WITH(name, "float_vector", kind, more "\"config\":{\"metric\":\"l2\",\"dimension\":2" config "}")

#endif
