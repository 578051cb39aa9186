/* System namespaces: documents written at the moment they are asked for, and namespaces made of them.
 *
 * Each kind is a function that prints its documents as JSON, one after the other; the rest is the same for
 * all. */
#include "db/system.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/hash.h"
#include "db/config_int.h"
#include "db/engine_int.h"
#include "db/ns_int.h"
#include "db/stats_int.h"
#include "db/system_int.h"

/* Documents of one database; a limit that only a server in trouble reaches. */
#define DOCUMENTS_MAX ((size_t) 256 << 20)

const char *const system_ns_names[] = {
    "#config",          "#namespaces",  "#memstats",     "#perfstats",       "#queriesperfstats",
    "#activitystats",   "#clientsstats", "#replicationstats", NULL,
};

/* ---- Small ones ---- */

static void
print_definition(void *context, struct ns *ns)
{
    ns_print_definition(ns, true, context);
}

static anx_status
print_namespaces(struct database *db, anx_buffer *out, anx_error *err)
{
    return system_each_ns(db, print_definition, out, err);
}

void
engine_set_clients(struct engine *engine, engine_clients_fn print, void *context)
{
    pthread_rwlock_wrlock(&engine->clients_lock);
    engine->print_clients = print;
    engine->clients_context = context;
    pthread_rwlock_unlock(&engine->clients_lock);
}

/* Connections are the front end's. */
static anx_status
print_clients(struct database *db, anx_buffer *out, anx_error *err)
{
    struct engine *engine = db->engine;

    (void) err;
    pthread_rwlock_rdlock(&engine->clients_lock);
    if (engine->print_clients)
        engine->print_clients(engine->clients_context, db, out);
    pthread_rwlock_unlock(&engine->clients_lock);
    return ANX_OK;
}

/* There is no replication: two documents that say so. */
static anx_status
print_replication(struct database *db, anx_buffer *out, anx_error *err)
{
    static const char *const types[] = { "async", "cluster" };

    (void) db;
    (void) err;
    for (size_t i = 0; i < ANX_COUNT_OF(types); i++)
        anx_buffer_printf(
            out,
            "{\"type\":\"%s\",\"initial_sync\":{},\"force_syncs\":{},\"wal\":{},\"update_drops\":0,"
            "\"pending_updates_count\":0,\"allocated_updates_count\":0,"
            "\"allocated_updates_size\":0,\"nodes\":[]}",
            types[i]);
    return ANX_OK;
}

static const struct system_kind_row {
    const char *name, *key;
    enum field_type key_type;
    anx_status (*print)(struct database *db, anx_buffer *out, anx_error *err);
} kinds[] = {
    { "#namespaces", "name", FIELD_STRING, print_namespaces },
    { "#memstats", "name", FIELD_STRING, system_print_memstats },
    { "#perfstats", "name", FIELD_STRING, stats_print_perf },
    { "#queriesperfstats", "query", FIELD_STRING, stats_print_queries },
    { "#activitystats", "query_id", FIELD_INT, stats_print_activity },
    { "#clientsstats", "connection_id", FIELD_INT, print_clients },
    { "#replicationstats", "type", FIELD_STRING, print_replication },
};

/* ---- A namespace of documents ---- */

static anx_status
add_key(struct ns *ns, const struct system_kind_row *kind, anx_error *err)
{
    const anx_text path[] = { anx_text_of(kind->key) };
    const struct index_def def = index_def_key(path, kind->key_type);

    return ns_index_set_locked(ns, &def, INDEX_ADD, true, err);
}

static anx_status
add_documents(struct ns *ns, anx_text json, anx_error *err)
{
    struct json_reader *reader = json_reader_create();
    anx_arena *arena = anx_arena_create(NULL, 0);
    anx_status st = reader && arena ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
    size_t at = 0;
    uint32_t row = 0;
    bool more = true;

    while (st == ANX_OK && more) {
        struct doc_draft draft;

        anx_arena_reset(arena);
        st = json_read_doc(reader, json, &at, &more, ns->names, &ns->shape, arena, &draft, err);
        if (st == ANX_OK && more)
            st = ns_load_row(ns, row++, &draft, false, arena, err);
    }
    json_reader_destroy(reader);
    anx_arena_destroy(arena);
    return st;
}

/* The same names in the same order, the same token: otherwise binary clients would learn the dictionary anew
 * with every answer. */
static void
set_token(struct ns *ns)
{
    uint64_t hash = names_count(ns->names);

    for (uint32_t tag = 1; tag <= names_count(ns->names); tag++) {
        anx_text name = names_text(ns->names, tag);

        hash = hash * 31 + anx_hash(name.data, name.size);
    }
    ns->state_token = (int32_t) (uint32_t) (hash ^ hash >> 32) | 1;
}

static anx_status
make(struct database *db, const struct system_kind_row *kind, struct ns **out, anx_error *err)
{
    anx_buffer json;
    anx_status st;

    anx_buffer_init(&json, NULL, DOCUMENTS_MAX);
    st = ns_create(db, anx_text_of(kind->name), false, out, err);
    if (st == ANX_OK) {
        (*out)->kind = NS_STATS;
        atomic_store(&(*out)->strict_mode, STRICT_NONE);
        st = add_key(*out, kind, err);
    }
    if (st == ANX_OK)
        st = kind->print(db, &json, err);
    if (st == ANX_OK && json.failed)
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    if (st == ANX_OK)
        st = add_documents(*out, (anx_text) { json.data, json.size }, err);
    anx_buffer_fini(&json);
    if (st == ANX_OK)
        set_token(*out);
    if (st != ANX_OK && *out) {
        ns_destroy(*out);
        *out = NULL;
    }
    return st;
}

anx_status
system_ns_make(struct database *db, anx_text name, struct ns **out, anx_error *err)
{
    *out = NULL;
    for (size_t i = 0; i < ANX_COUNT_OF(kinds); i++)
        if (anx_text_equal_fold(name, anx_text_of(kinds[i].name)))
            return make(db, &kinds[i], out, err);
    return anx_fail(err, ANX_E_NOT_FOUND, "Namespace '%.*s' does not exist", ANX_TEXT_ARG(name));
}

anx_status
system_reset(struct database *db, anx_text name, anx_error *err)
{
    if (anx_text_equal_fold(name, ANX_TEXT("#perfstats")))
        stats_reset_perf(db->stats);
    else if (anx_text_equal_fold(name, ANX_TEXT("#queriesperfstats")))
        stats_reset_queries(db->stats);
    else
        return anx_fail(err, ANX_E_LOGIC, "Documents of system namespace '%.*s' cannot be changed",
                        ANX_TEXT_ARG(name));
    return ANX_OK;
}
