/* Keeps documents with vectors, finds the nearest by SQL.
 *     cc documents.c -o documents $(pkg-config --cflags --libs annexdb) && ./documents */
#include <annex/db.h>
#include <stdio.h>

static const char namespace_definition[] =
    "{\"name\":\"books\",\"indexes\":["
    "{\"name\":\"id\",\"json_paths\":[\"id\"],\"field_type\":\"int\",\"index_type\":\"hash\",\"is_pk\":true},"
    "{\"name\":\"vec\",\"json_paths\":[\"vec\"],\"field_type\":\"float_vector\",\"index_type\":\"hnsw\","
    "\"config\":{\"dimension\":3,\"metric\":\"cosine\"}}]}";
static const char documents[] = "{\"id\":1,\"title\":\"Tides\",\"vec\":[0.9,0.1,0.0]}"
                                "{\"id\":2,\"title\":\"Deserts\",\"vec\":[0.0,0.2,0.9]}"
                                "{\"id\":3,\"title\":\"Rivers\",\"vec\":[0.8,0.4,0.1]}";

int
main(void)
{
    anx_db *db = NULL;
    anx_db_rows *rows = NULL;
    anx_error err;
    const char *json;
    int failed;

    failed = anx_db_open(NULL, NULL, &db, &err) != ANX_OK || /* a path keeps it on the disk */
             anx_db_create_namespace(db, namespace_definition, &err) != ANX_OK ||
             anx_db_put(db, "books", documents, 0, NULL, &err) != ANX_OK ||
             anx_db_query(db, "SELECT title, RANK() FROM books WHERE KNN(vec, [1, 0, 0], k=2)", &rows,
                          &err) != ANX_OK;
    if (failed)
        fprintf(stderr, "%s\n", err.message);
    while (rows && (json = anx_db_rows_next(rows, NULL)) != NULL)
        puts(json);
    anx_db_rows_free(rows);
    anx_db_close(db);
    return failed;
}
