/* The schema of a namespace: kept and given back as it was set. Documents are not checked against it; but its
 * properties are known fields (strict mode "names"), so they enter the dictionary. */
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "db/events.h"
#include "db/ns_int.h"

/* Names of properties, those of nested objects and of array elements too. */
static anx_status
add_names(struct ns *ns, const struct json_node *schema, unsigned depth, anx_error *err)
{
    const struct json_node *properties = json_member(schema, "properties");
    const struct json_node *items = json_member(schema, "items");
    anx_status st = ANX_OK;

    if (depth > DOC_PATH_MAX)
        return ANX_OK;
    for (size_t i = 0;
         properties && properties->kind == JSON_OBJECT && st == ANX_OK && i < properties->list.n; i++) {
        uint32_t tag;

        st = names_add(ns->names, properties->list.items[i].key, &tag, err);
        if (st == ANX_OK)
            st = add_names(ns, &properties->list.items[i], depth + 1, err);
    }
    return st == ANX_OK && items ? add_names(ns, items, depth + 1, err) : st;
}

anx_status
schema_learn(struct ns *ns, anx_text schema, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct json_node *node;
    anx_status st;

    if (!arena)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    st = json_parse(schema, arena, &node, err);
    if (st == ANX_OK && node->kind != JSON_OBJECT)
        st = anx_fail(err, ANX_E_PARSE_JSON, "the schema is not a JSON object");
    if (st == ANX_OK)
        st = add_names(ns, node, 0, err);
    if (st == ANX_E_PARSE_JSON)
        anx_error_context(err, "Schema");
    anx_arena_destroy(arena);
    return st;
}

static anx_status
set_schema_locked(struct ns *ns, anx_text schema, uint64_t *ticket, anx_error *err)
{
    struct store_batch *batch = NULL;
    char *old = ns->schema;
    char *copy = anx_alloc_zeroed(NULL, schema.size + 1, 1);
    anx_status st = copy ? persist_begin(ns, &batch, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");

    if (st != ANX_OK) {
        anx_free(NULL, copy);
        return st;
    }
    memcpy(copy, schema.data, schema.size);
    pthread_rwlock_wrlock(&ns->data_lock);
    ns->schema = copy;
    if (st == ANX_OK)
        st = catalog_put(ns, NULL, batch, err);
    if (st == ANX_OK)
        st = persist_submit(ns, batch, ticket, err);
    else
        store_batch_destroy(batch);
    if (st != ANX_OK)
        ns->schema = old;
    pthread_rwlock_unlock(&ns->data_lock);
    anx_free(NULL, st == ANX_OK ? old : copy);
    return st;
}

anx_status
db_schema_set(struct database *db, anx_text name, anx_text schema, const struct db_session *session,
              anx_error *err)
{
    struct ns *ns;
    uint64_t ticket = 0;
    uint32_t n_name;
    anx_status st = ns_change_begin(db, name, &ns, err);

    (void) session;
    if (st != ANX_OK)
        return st;
    n_name = names_count(ns->names);
    if (system_ns_kind(ns) != SYSTEM_NONE)
        st = anx_fail(err, ANX_E_PARAMS, "The schema of system namespace '%s' cannot be changed", ns->name);
    if (st == ANX_OK)
        st = schema_learn(ns, schema, err);
    if (st == ANX_OK)
        st = set_schema_locked(ns, schema, &ticket, err);
    if (st == ANX_OK) {
        event_emit(ns, EVENT_SET_NAMES, names_count(ns->names) > n_name);
        event_emit(ns, EVENT_SET_SCHEMA, 1);
    }
    return ns_change_end(ns, st, ticket, err);
}

anx_status
db_schema_get(struct database *db, anx_text name, anx_buffer *out, anx_error *err)
{
    struct ns *ns;
    anx_status st = ns_acquire(db, name, &ns, err);

    if (st != ANX_OK)
        return st;
    pthread_rwlock_rdlock(&ns->data_lock);
    anx_buffer_text(out, ns->schema ? anx_text_of(ns->schema) : ANX_TEXT("{}"));
    pthread_rwlock_unlock(&ns->data_lock);
    ns_release(ns);
    return st;
}
