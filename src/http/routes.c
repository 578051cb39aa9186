/* The route table. Adding a route is a row. */
#include "base/error.h"
#include "http/http_int.h"

#define DB "api/v1/db/:db"
#define NS DB "/namespaces/:ns"
#define TX DB "/transactions/:tx"

static const struct http_route routes[] = {
    { VERB_GET, false, "api/v1/db", ROLE_NONE, ON_LOOP, handle_db_list, NULL },
    { VERB_POST, false, "api/v1/db", ROLE_NONE, ON_WORKER, handle_db_create, NULL },
    { VERB_GET, false, "api/v1/db/default_configs", ROLE_NONE, ON_LOOP, handle_default_config, NULL },
    { VERB_DELETE, false, DB, ROLE_OWNER, ON_WORKER, handle_db_drop, NULL },
    { VERB_GET, true, DB "/namespaces", ROLE_DATA_READ, ON_WORKER, handle_ns_list, NULL },
    { VERB_POST, true, DB "/namespaces", ROLE_DB_ADMIN, ON_WORKER, handle_ns_create, NULL },
    { VERB_GET, true, NS, ROLE_DATA_READ, ON_WORKER, handle_ns_get, NULL },
    { VERB_DELETE, true, NS, ROLE_DB_ADMIN, ON_WORKER, handle_ns_drop, NULL },
    { VERB_DELETE, true, NS "/truncate", ROLE_DB_ADMIN, ON_WORKER, handle_ns_truncate, NULL },
    { VERB_GET, true, NS "/rename/:name", ROLE_DB_ADMIN, ON_WORKER, handle_ns_rename, NULL },
    { VERB_GET, true, NS "/indexes", ROLE_DATA_READ, ON_WORKER, handle_index_list, NULL },
    { VERB_POST, true, NS "/indexes", ROLE_DB_ADMIN, ON_WORKER, handle_index_add, NULL },
    { VERB_PUT, true, NS "/indexes", ROLE_DB_ADMIN, ON_WORKER, handle_index_update, NULL },
    { VERB_DELETE, true, NS "/indexes/:index", ROLE_DB_ADMIN, ON_WORKER, handle_index_drop, NULL },
    { VERB_GET, true, NS "/schema", ROLE_DATA_READ, ON_WORKER, handle_schema_get, NULL },
    { VERB_PUT, true, NS "/schema", ROLE_DB_ADMIN, ON_WORKER, handle_schema_set, NULL },
    { VERB_GET, true, NS "/items", ROLE_DATA_READ, ON_WORKER, handle_items_get, NULL },
    { VERB_POST, true, NS "/items", ROLE_DATA_WRITE, ON_WORKER, handle_items_write, NULL },
    { VERB_PUT, true, NS "/items", ROLE_DATA_WRITE, ON_WORKER, handle_items_write, NULL },
    { VERB_PATCH, true, NS "/items", ROLE_DATA_WRITE, ON_WORKER, handle_items_write, NULL },
    { VERB_DELETE, true, NS "/items", ROLE_DATA_WRITE, ON_WORKER, handle_items_write, NULL },
    { VERB_GET, true, DB "/query", ROLE_DATA_READ, ON_WORKER, handle_sql_get, prepare_sql_get },
    { VERB_POST, true, DB "/query", ROLE_DATA_READ, ON_WORKER, handle_dsl_select, prepare_dsl_select },
    { VERB_PUT, true, DB "/query", ROLE_DATA_WRITE, ON_WORKER, handle_dsl_update, NULL },
    { VERB_DELETE, true, DB "/query", ROLE_DATA_WRITE, ON_WORKER, handle_dsl_delete, NULL },
    { VERB_POST, true, DB "/sqlquery", ROLE_DATA_READ, ON_WORKER, handle_sql_post, prepare_sql_post },
    { VERB_POST, true, DB "/dslquery", ROLE_DATA_WRITE, ON_WORKER, handle_dsl_update, NULL },
    { VERB_POST, true, NS "/transactions/begin", ROLE_DATA_WRITE, ON_WORKER, handle_tx_begin, NULL },
    { VERB_POST, true, TX "/commit", ROLE_DATA_WRITE, ON_WORKER, handle_tx_commit, NULL },
    { VERB_POST, true, TX "/rollback", ROLE_DATA_WRITE, ON_WORKER, handle_tx_rollback, NULL },
    { VERB_POST, true, TX "/items", ROLE_DATA_WRITE, ON_WORKER, handle_tx_write, NULL },
    { VERB_PUT, true, TX "/items", ROLE_DATA_WRITE, ON_WORKER, handle_tx_write, NULL },
    { VERB_PATCH, true, TX "/items", ROLE_DATA_WRITE, ON_WORKER, handle_tx_write, NULL },
    { VERB_DELETE, true, TX "/items", ROLE_DATA_WRITE, ON_WORKER, handle_tx_write, NULL },
    { VERB_GET, true, TX "/query", ROLE_DATA_WRITE, ON_WORKER, handle_tx_sql, NULL },
    { VERB_DELETE, true, TX "/query", ROLE_DATA_WRITE, ON_WORKER, handle_tx_dsl, NULL },
    { VERB_GET, true, NS "/metalist", ROLE_DATA_READ, ON_WORKER, handle_meta_list, NULL },
    { VERB_GET, true, NS "/metabykey/:key", ROLE_DATA_READ, ON_WORKER, handle_meta_get, NULL },
    { VERB_PUT, true, NS "/metabykey", ROLE_DATA_WRITE, ON_WORKER, handle_meta_put, NULL },
    { VERB_DELETE, true, NS "/metabykey/:key", ROLE_DATA_WRITE, ON_WORKER, handle_meta_delete, NULL },
    { VERB_GET, false, "api/v1/check", ROLE_NONE, ON_LOOP, handle_check, NULL },
    { VERB_GET, false, "api/v1/user/role", ROLE_NONE, ON_LOOP, handle_role, NULL },
    { VERB_POST, false, "api/v1/query/convert/sql", ROLE_NONE, ON_LOOP, handle_convert_sql, NULL },
    { VERB_POST, false, "api/v1/query/convert/dsl", ROLE_NONE, ON_LOOP, handle_convert_dsl, NULL },
    { VERB_POST, false, "api/v1/allocator/drop_cache", ROLE_NONE, ON_LOOP, handle_allocator, NULL },
    { VERB_GET, false, "api/v1/allocator/info", ROLE_NONE, ON_LOOP, handle_allocator, NULL },
    { VERB_GET, false, "metrics", ROLE_NONE, ON_WORKER, handle_metrics, NULL },
    { VERB_GET, false, "healthz", ROLE_NONE, ON_LOOP, handle_health, NULL },
    { VERB_GET, false, "", ROLE_NONE, ON_LOOP_FOR_ALL, handle_page, NULL },
    { VERB_GET, false, "console", ROLE_NONE, ON_LOOP_FOR_ALL, handle_page_alias, NULL },
    { VERB_GET, false, "api/v1/annex/whoami", ROLE_NONE, ON_LOOP, handle_whoami, NULL },
    { VERB_GET, true, NS "/health", ROLE_DATA_READ, ON_WORKER, handle_ns_health, NULL },
    { VERB_POST, true, NS "/recall", ROLE_DATA_READ, ON_WORKER, handle_recall, NULL },
    { VERB_GET, true, NS "/map", ROLE_DATA_READ, ON_WORKER, handle_map, NULL },
    { VERB_POST, true, NS "/map", ROLE_DATA_READ, ON_WORKER, handle_map_place, NULL },
    { VERB_GET, false, "api/v1/annex/indexing", ROLE_NONE, ON_WORKER, handle_indexing, NULL },
    { VERB_GET, false, "api/v1/annex/metrics", ROLE_NONE, ON_LOOP, handle_counters, NULL },
};

/* Compares segment by segment; collects what stands at ":x". */
static bool
matches(const char *pattern, struct http_request *request)
{
    size_t segment = 0, n_name = 0;

    while (*pattern) {
        size_t size = strcspn(pattern, "/");
        anx_text part = { pattern, size };

        if (segment == request->n_segment)
            return false;
        if (pattern[0] == ':')
            request->names[n_name++] = request->segments[segment];
        else if (!anx_text_equal(part, request->segments[segment]))
            return false;
        segment++;
        pattern += size + (pattern[size] == '/');
    }
    return segment == request->n_segment;
}

const struct http_route *
http_route_find(struct http_request *request)
{
    for (size_t i = 0; i < ANX_COUNT_OF(routes); i++)
        if (routes[i].method == request->method && matches(routes[i].pattern, request))
            return &routes[i];
    return NULL;
}
