/* The document database in your own process: the same namespaces, indexes, SQL and durability as `annex
 * serve`, without a server.
 *
 *     anx_db *db;
 *     anx_error err;
 *     anx_db_open("data", NULL, &db, &err);
 *     anx_db_create_namespace(db, "{\"name\":\"books\",\"indexes\":[...]}", &err);
 *     anx_db_put(db, "books", "{\"id\":1,\"vec\":[0.1,0.2]}", 0, NULL, &err);
 *     anx_db_query(db, "SELECT *, RANK() FROM books WHERE KNN(vec, [0.1, 0.3], k=5)", &rows, &err);
 *     while ((json = anx_db_rows_next(rows, NULL)) != NULL)
 *         puts(json);
 *     anx_db_rows_free(rows);
 *     anx_db_close(db);
 *
 * Build with `cc program.c $(pkg-config --cflags --libs annexdb)`. Definitions and documents are the JSON,
 * queries the SQL, of docs/http.md and docs/sql.md; so are the messages of errors.
 *
 * One process at a time has a folder open. Threads: a database may be used by any number of threads at once;
 * a result belongs to one. Texts that are passed in are borrowed for the call. */
#ifndef ANNEX_DB_H
#define ANNEX_DB_H

#include <stdbool.h>
#include <stddef.h>

#include "annex/status.h"

#ifdef __cplusplus
extern "C" {
#endif

typedef struct anx_db anx_db;
typedef struct anx_db_rows anx_db_rows;

typedef struct anx_db_params {
    const char *name;   /* of the database inside of the folder; NULL: "main" */
    bool is_relaxed;    /* writes return before they are on the disk: a power cut may take the last 100 ms */
    size_t threads;     /* for building indexes; 0: every CPU */
} anx_db_params;
#define ANX_DB_PARAMS_INIT { 0, false, 0 }

/* path: a folder, made when missing; NULL: everything in memory only. params may be NULL. Errors: ANX_E_IO,
 * ANX_E_BUSY (another process has the folder), ANX_E_CORRUPT, ANX_E_VERSION. */
ANX_NODISCARD ANX_API anx_status anx_db_open(const char *path, const anx_db_params *params, anx_db **out,
                                             anx_error *err);
ANX_API void anx_db_close(anx_db *db); /* after the last call and the last result; NULL is fine */

/* {"name":...,"indexes":[...]}. ANX_E_PARAMS when it is there already. */
ANX_NODISCARD ANX_API anx_status anx_db_create_namespace(anx_db *db, const char *definition, anx_error *err);
ANX_NODISCARD ANX_API anx_status anx_db_drop_namespace(anx_db *db, const char *ns, anx_error *err);
/* The definition of one index; an equal one that is there already is no error. */
ANX_NODISCARD ANX_API anx_status anx_db_add_index(anx_db *db, const char *ns, const char *definition,
                                                  anx_error *err);

/* Stores documents, each in the place of the one with the same primary key: any number of JSON objects one
 * after the other. size 0: json ends with a zero byte. *n (may be NULL) becomes how many were stored; the
 * first bad one stops, and those before it stay. Durable on return. */
ANX_NODISCARD ANX_API anx_status anx_db_put(anx_db *db, const char *ns, const char *json, size_t size,
                                            size_t *n, anx_error *err);
/* Removes documents by primary key; the same form, other fields are ignored. */
ANX_NODISCARD ANX_API anx_status anx_db_delete(anx_db *db, const char *ns, const char *json, size_t size,
                                               size_t *n, anx_error *err);

/* SELECT, UPDATE, DELETE, TRUNCATE. The rows are a copy of that moment: keep them as long as you like, write
 * meanwhile. Errors: ANX_E_PARSE_SQL and others of docs/sql.md. */
ANX_NODISCARD ANX_API anx_status anx_db_query(anx_db *db, const char *sql, anx_db_rows **out, anx_error *err);
ANX_API size_t anx_db_rows_count(const anx_db_rows *rows);
/* The next document as JSON, terminated by a zero byte; NULL after the last. *size (may be NULL) is its
 * length. Valid until the rows are freed. */
ANX_API const char *anx_db_rows_next(anx_db_rows *rows, size_t *size);
/* What belongs to the query as a whole, as the last members of a JSON object:
 * {"aggregations":[...],"namespaces":[...],"cache_enabled":true,"total_items":7}. */
ANX_API const char *anx_db_rows_summary(const anx_db_rows *rows);
ANX_API void anx_db_rows_free(anx_db_rows *rows); /* NULL is fine */

#ifdef __cplusplus
}
#endif
#endif
