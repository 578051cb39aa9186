/* The public C API (annex/db.h) over db.h. */
#include "annex/db.h"

#include "base/alloc.h"
#include "base/error.h"
#include "db/db.h"

#define QUERY_ARENA_MAX ((size_t) 1 << 30)

struct anx_db {
    struct engine *engine;
    struct database *database;
};

struct anx_db_rows {
    anx_buffer json; /* {"items":[a,b],...}: between the items, and behind the list, bytes become zero */
    size_t *ends;    /* owned [n]: where each item ends in json */
    char *summary;   /* owned */
    size_t n, next;
};

/* The in-process user owns everything. */
static const struct db_session session = { .role = ROLE_OWNER };

static anx_status
open_database(struct anx_db *db, const char *path, const anx_db_params *params, anx_error *err)
{
    struct engine_params engine = {
        .path = path,
        .durability = params && params->is_relaxed ? STORE_DURABLE_ASYNC : STORE_DURABLE_SYNC,
        .n_thread = params ? params->threads : 0,
    };
    anx_text name = anx_text_of(params && params->name ? params->name : "main");
    anx_status st = engine_open(&engine, &db->engine, err);

    if (st != ANX_OK)
        return st;
    st = database_acquire(db->engine, name, &db->database, err);
    if (st == ANX_E_NOT_FOUND) {
        st = engine_database_create(db->engine, name, &session, err);
        if (st == ANX_OK)
            st = database_acquire(db->engine, name, &db->database, err);
    }
    return st;
}

anx_status
anx_db_open(const char *path, const anx_db_params *params, anx_db **out, anx_error *err)
{
    struct anx_db *db = anx_alloc_zeroed(NULL, 1, sizeof(*db));
    anx_status st;

    *out = NULL;
    if (!db)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a database");
    st = open_database(db, path, params, err);
    if (st != ANX_OK)
        anx_db_close(db);
    else
        *out = db;
    return st;
}

void
anx_db_close(anx_db *db)
{
    if (!db)
        return;
    database_release(db->database);
    engine_close(db->engine);
    anx_free(NULL, db);
}

anx_status
anx_db_create_namespace(anx_db *db, const char *definition, anx_error *err)
{
    return db_ns_create(db->database, anx_text_of(definition), &session, err);
}

anx_status
anx_db_drop_namespace(anx_db *db, const char *ns, anx_error *err)
{
    return db_ns_drop(db->database, anx_text_of(ns), &session, err);
}

anx_status
anx_db_add_index(anx_db *db, const char *ns, const char *definition, anx_error *err)
{
    return db_index_set(db->database, anx_text_of(ns), anx_text_of(definition), INDEX_ADD_IF_DIFFERENT,
                        &session, err);
}

static anx_status
write_documents(anx_db *db, const char *ns, enum db_write_mode mode, const char *json, size_t size, size_t *n,
                anx_error *err)
{
    anx_text text = size > 0 ? (anx_text) { json, size } : anx_text_of(json);
    size_t done = 0;
    anx_status st = db_write(db->database, anx_text_of(ns), mode, text, NULL, 0, &session, &done, NULL, err);

    if (n)
        *n = done;
    return st;
}

anx_status
anx_db_put(anx_db *db, const char *ns, const char *json, size_t size, size_t *n, anx_error *err)
{
    return write_documents(db, ns, WRITE_UPSERT, json, size, n, err);
}

anx_status
anx_db_delete(anx_db *db, const char *ns, const char *json, size_t size, size_t *n, anx_error *err)
{
    return write_documents(db, ns, WRITE_DELETE, json, size, n, err);
}

/* "{" and what stands behind the items; the items get their terminators. */
static anx_status
split(struct anx_db_rows *rows, anx_error *err)
{
    size_t list_end = rows->n > 0 ? rows->ends[rows->n - 1] : sizeof("{\"items\":[") - 1;
    size_t rest = list_end + sizeof("],") - 1; /* there is always "namespaces" behind the list */
    size_t size = rows->json.size - rest;

    rows->summary = anx_alloc_bytes(NULL, size + 2);
    if (!rows->summary)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu bytes of a result", size);
    rows->summary[0] = '{';
    memcpy(rows->summary + 1, rows->json.data + rest, size);
    rows->summary[size + 1] = '\0';
    for (size_t i = 0; i < rows->n; i++)
        rows->json.data[rows->ends[i]] = '\0';
    return ANX_OK;
}

static anx_status
copy_result(struct result *result, struct anx_db_rows *rows, anx_error *err)
{
    struct result_window window = { 0 };
    size_t n = result_count(result);
    anx_status st;

    rows->ends = anx_alloc_zeroed(NULL, n + 1, sizeof(*rows->ends));
    if (!rows->ends)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu rows", n);
    window.item_ends = rows->ends;
    st = result_print_json(result, &window, &rows->json, err);
    if (st == ANX_OK && rows->json.failed)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for a result of %zu rows", n);
    /* Aggregations may hide the items: then none was printed. */
    rows->n = n > 0 && rows->ends[0] == 0 ? 0 : n;
    return st == ANX_OK ? split(rows, err) : st;
}

static anx_status
run(anx_db *db, const char *sql, anx_arena *arena, struct anx_db_rows *rows, anx_error *err)
{
    struct query query;
    struct result *result = NULL;
    anx_status st = query_read_sql(anx_text_of(sql), arena, &query, NULL, err);

    if (st == ANX_OK)
        st = query.type == QUERY_SELECT ? db_select(db->database, &query, &session, &result, err)
                                        : db_modify(db->database, &query, &session, &result, err);
    if (st == ANX_OK)
        st = copy_result(result, rows, err);
    result_free(result);
    return st;
}

anx_status
anx_db_query(anx_db *db, const char *sql, anx_db_rows **out, anx_error *err)
{
    struct anx_db_rows *rows = anx_alloc_zeroed(NULL, 1, sizeof(*rows));
    anx_arena *arena = anx_arena_create(NULL, QUERY_ARENA_MAX);
    anx_status st = rows && arena ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "no memory for a query");

    *out = NULL;
    if (st == ANX_OK) {
        anx_buffer_init(&rows->json, NULL, SIZE_MAX);
        st = run(db, sql, arena, rows, err);
    }
    anx_arena_destroy(arena);
    if (st != ANX_OK)
        anx_db_rows_free(rows);
    else
        *out = rows;
    return st;
}

size_t
anx_db_rows_count(const anx_db_rows *rows)
{
    return rows->n;
}

const char *
anx_db_rows_next(anx_db_rows *rows, size_t *size)
{
    size_t start;

    if (rows->next == rows->n)
        return NULL;
    start = rows->next > 0 ? rows->ends[rows->next - 1] + 1 : sizeof("{\"items\":[") - 1;
    if (size)
        *size = rows->ends[rows->next] - start;
    rows->next++;
    return rows->json.data + start;
}

const char *
anx_db_rows_summary(const anx_db_rows *rows)
{
    return rows->summary;
}

void
anx_db_rows_free(anx_db_rows *rows)
{
    if (!rows)
        return;
    anx_buffer_fini(&rows->json);
    anx_free(NULL, rows->ends);
    anx_free(NULL, rows->summary);
    anx_free(NULL, rows);
}
