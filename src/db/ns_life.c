/* Namespaces come, go, change their names, are emptied and described. */
#include "db/events.h"
#include "db/ns_life.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "db/config_int.h"
#include "db/json_fields.h"
#include "db/ns_int.h"

/* ---- Creating ---- */

struct ns_definition {
    anx_text name;
    bool is_persistent;
    anx_text schema; /* data NULL: none */
    struct index_def *indexes;
    size_t n_index;
};

static anx_status
read_indexes(struct json_fields *in, anx_arena *arena, struct ns_definition *out)
{
    const struct json_node *list = fields_array(in, "indexes");

    if (!list)
        return in->status;
    out->indexes = anx_arena_array(arena, list->list.n + 1, sizeof(*out->indexes));
    if (!out->indexes)
        return anx_fail(in->err, ANX_E_NOMEM, "out of memory");
    for (; out->n_index < list->list.n; out->n_index++) {
        anx_status st =
            index_def_read(&list->list.items[out->n_index], arena, &out->indexes[out->n_index], in->err);

        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
read_definition(anx_text text, anx_arena *arena, struct ns_definition *out, anx_error *err)
{
    struct json_fields in = { .prefix = "NamespaceDef: ", .err = err };
    struct json_fields storage = { .prefix = "NamespaceDef: ", .err = err };
    struct json_node *node;
    anx_status st = json_parse(text, arena, &node, err);

    *out = (struct ns_definition) { .name = { "", 0 }, .is_persistent = true };
    if (st != ANX_OK) {
        anx_error_context(err, "NamespaceDef");
        return st;
    }
    in.object = node;
    fields_text(&in, "name", &out->name);
    storage.object = fields_object(&in, "storage");
    if (storage.object)
        fields_bool(&storage, "enabled", &out->is_persistent);
    fields_text(&in, "schema", &out->schema);
    if (in.status != ANX_OK || storage.status != ANX_OK)
        return ANX_E_PARSE_JSON;
    st = name_check("Namespace", out->name, err);
    return st == ANX_OK ? read_indexes(&in, arena, out) : st;
}

static anx_status
copy_string(anx_text text, char **out, anx_error *err)
{
    *out = anx_alloc_zeroed(NULL, text.size + 1, 1);
    if (!*out)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    memcpy(*out, text.data, text.size);
    return ANX_OK;
}

/* Composites last, whatever the order they are given in: their components have to be there. */
static anx_status
add_indexes(struct ns *ns, const struct index_def *indexes, size_t n, anx_error *err)
{
    for (int composites = 0; composites < 2; composites++)
        for (size_t i = 0; i < n; i++) {
            anx_status st;

            if ((indexes[i].field_type == FIELD_COMPOSITE) != composites)
                continue;
            st = ns_index_set_locked(ns, &indexes[i], INDEX_ADD_IF_DIFFERENT, true, err);
            if (st != ANX_OK)
                return st;
        }
    return ANX_OK;
}

/* Makes its table and definition durable. */
static anx_status
store_new(struct ns *ns, anx_error *err)
{
    struct store_batch *batch;
    anx_status st;

    if (!ns->is_persistent || !ns->database->store)
        return ANX_OK;
    st = records_table(ns->database, ns->id, true, &ns->table, err);
    if (st == ANX_OK)
        st = persist_begin(ns, &batch, err);
    if (st != ANX_OK)
        return st;
    st = catalog_put(ns, NULL, batch, err);
    if (st == ANX_OK)
        return persist_now(ns, batch, err);
    store_batch_destroy(batch);
    return st;
}

anx_status
ns_create_listed(struct database *db, anx_text name, bool is_persistent, const struct index_def *indexes,
                 size_t n_index, anx_text schema, struct ns **out, anx_error *err)
{
    struct ns *ns;
    anx_status st = ns_create(db, name, is_persistent, &ns, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    ns->id = db->next_id++;
    ns->kind = is_system_name(name) ? NS_CONFIG : NS_ORDINARY;
    if (schema.data)
        st = schema_learn(ns, schema, err);
    if (schema.data && st == ANX_OK)
        st = copy_string(schema, &ns->schema, err);
    if (st == ANX_OK)
        st = add_indexes(ns, indexes, n_index, err);
    if (st == ANX_OK)
        config_settle(ns);
    if (st == ANX_OK)
        st = store_new(ns, err);
    if (st == ANX_OK)
        st = list_add(db, ns, err);
    if (st != ANX_OK)
        ns_destroy(ns); /* a table that was made is dropped by the next start */
    else
        *out = ns;
    return st;
}

static anx_status
create_or_find(struct database *db, anx_text definition, bool may_exist, bool may_create, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct ns_definition def;
    struct ns *present;
    struct ns *made;
    anx_status st;

    if (!arena)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    st = read_definition(definition, arena, &def, err);
    if (st == ANX_OK) {
        pthread_mutex_lock(&db->life_lock);
        present = list_find(db, def.name);
        if (present && !may_exist)
            st = anx_fail(err, ANX_E_PARAMS, "Namespace '%.*s' already exists", ANX_TEXT_ARG(def.name));
        else if (!present && !may_create)
            st = anx_fail(err, ANX_E_FORBIDDEN, "Forbidden: need role db_admin to create namespace '%.*s'",
                          ANX_TEXT_ARG(def.name));
        else if (!present)
            st = ns_create_listed(db, def.name, def.is_persistent, def.indexes, def.n_index, def.schema,
                                  &made, err);
        if (st == ANX_OK && !present)
            event_emit(made, EVENT_NS_ADD, 1);
        pthread_mutex_unlock(&db->life_lock);
        ns_release(present);
    }
    anx_arena_destroy(arena);
    return st;
}

anx_status
db_ns_create(struct database *db, anx_text definition, const struct db_session *session, anx_error *err)
{
    (void) session;
    return create_or_find(db, definition, false, true, err);
}

anx_status
db_ns_open(struct database *db, anx_text definition, const struct db_session *session, anx_error *err)
{
    return create_or_find(db, definition, true, session->role >= ROLE_DB_ADMIN, err);
}

/* ---- Dropping ---- */

static void
set_dropped(struct ns *ns, bool is_dropped)
{
    pthread_rwlock_wrlock(&ns->data_lock);
    ns->is_dropped = is_dropped;
    pthread_rwlock_unlock(&ns->data_lock);
}

/* life_lock and write_lock held. */
static anx_status
drop_locked(struct ns *ns, anx_error *err)
{
    uint32_t n_name = ns->n_name_stored;
    struct store_batch *batch;
    uint64_t ticket = 0;
    anx_status st = persist_begin(ns, &batch, err);

    if (st != ANX_OK)
        return st;
    catalog_remove(ns, batch);
    ns->n_name_stored = NAMES_GONE;
    set_dropped(ns, true);
    st = persist_submit(ns, batch, &ticket, err);
    if (st != ANX_OK) {
        set_dropped(ns, false);
        ns->n_name_stored = n_name;
        return st;
    }
    ann_cache_drop_all(ns);
    return persist_wait(ns, ticket, err);
}

anx_status
db_ns_drop(struct database *db, anx_text name, const struct db_session *session, anx_error *err)
{
    struct ns *ns;
    anx_status st;

    (void) session;
    st = ns_acquire(db, name, &ns, err);
    if (st != ANX_OK)
        return st;
    if (system_ns_kind(ns) != SYSTEM_NONE) {
        st = anx_fail(err, ANX_E_LOGIC, "Can't delete system ns '%s'", ns->name);
        ns_release(ns);
        return st;
    }
    pthread_mutex_lock(&db->life_lock);
    pthread_mutex_lock(&ns->write_lock);
    st = ns_check_alive(ns, err);
    if (st == ANX_OK)
        st = drop_locked(ns, err);
    if (st == ANX_OK)
        event_emit(ns, EVENT_NS_DROP, 1);
    pthread_mutex_unlock(&ns->write_lock);
    if (st == ANX_OK || ns->is_dropped)
        list_remove(db, ns);
    pthread_mutex_unlock(&db->life_lock);
    ns_release(ns);
    return st;
}

/* ---- Emptying ---- */

/* New empty objects for every index and the rows; the old ones are left in *old (and the rows in *rows). */
static anx_status
swap_in_empty(struct ns *ns, struct ns_index *old, struct row_table **rows, anx_error *err)
{
    struct row_table *fresh = rows_create();
    anx_status st = fresh ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
    size_t done = 0;

    if (st != ANX_OK)
        return st;
    *rows = ns->rows;
    ns->rows = fresh;
    if (ns->n_index > 0)
        memcpy(old, ns->indexes, ns->n_index * sizeof(*old));
    for (; st == ANX_OK && done < ns->n_index; done++) {
        ns->indexes[done].scalar = NULL;
        ns->indexes[done].vector = NULL;
        ns->indexes[done].text = NULL;
        st = index_build_empty(ns, ns->indexes, ns->n_index, &ns->indexes[done], err);
    }
    if (st == ANX_OK)
        return ANX_OK;
    for (size_t i = 0; i < done; i++) {
        scalar_destroy(ns->indexes[i].scalar);
        vector_destroy(ns->indexes[i].vector);
        row_texts_destroy(ns->indexes[i].text);
        ns->indexes[i] = old[i];
    }
    ns->rows = *rows;
    rows_destroy(fresh);
    return st;
}

anx_status
ns_clear_locked(struct ns *ns, struct store_batch *batch, anx_error *err)
{
    struct ns_index *old = anx_alloc_array(NULL, ns->n_index + 1, sizeof(*old));
    struct row_table *rows = NULL;
    anx_status st;

    if (!old)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    pthread_rwlock_wrlock(&ns->data_lock);
    st = swap_in_empty(ns, old, &rows, err);
    pthread_rwlock_unlock(&ns->data_lock);
    if (st == ANX_OK) {
        for (size_t i = 0; i < ns->n_index; i++) {
            scalar_destroy(old[i].scalar);
            vector_destroy(old[i].vector);
            row_texts_destroy(old[i].text);
        }
        rows_destroy(rows);
        if (batch)
            store_batch_clear_table(batch, ns->table);
        ann_cache_drop_all(ns);
    }
    anx_free(NULL, old);
    return st;
}

anx_status
db_ns_truncate(struct database *db, anx_text name, const struct db_session *session, anx_error *err)
{
    struct store_batch *batch;
    struct ns *ns;
    uint64_t ticket = 0;
    anx_status st = ns_change_begin(db, name, &ns, err);

    (void) session;
    if (st != ANX_OK)
        return st;
    if (system_ns_kind(ns) != SYSTEM_NONE)
        st = anx_fail(err, ANX_E_PARAMS, "Can't truncate system namespace (%s)", ns->name);
    if (st == ANX_OK && ns->pk == SIZE_MAX)
        st = anx_fail(err, ANX_E_LOGIC, "Trying to modify namespace '%s', but it doesn't contain PK index",
                      ns->name);
    if (st == ANX_OK)
        st = persist_begin(ns, &batch, err);
    if (st == ANX_OK) {
        st = ns_clear_locked(ns, batch, err);
        if (st == ANX_OK)
            st = persist_submit(ns, batch, &ticket, err);
        else
            store_batch_destroy(batch);
    }
    if (st == ANX_OK)
        event_emit(ns, EVENT_TRUNCATE, 1);
    return ns_change_end(ns, st, ticket, err);
}

/* ---- Renaming ---- */

/* Both write_locks are held; the data_locks are taken here, by address. */
static void
set_name(struct ns *ns, struct ns *target, char **name, bool is_dropped)
{
    struct ns *first = target && target < ns ? target : ns;
    struct ns *second = first == ns ? target : ns;
    struct database *db = ns->database;
    char *old;

    pthread_rwlock_wrlock(&first->data_lock);
    if (second)
        pthread_rwlock_wrlock(&second->data_lock);
    pthread_rwlock_wrlock(&db->list_lock);
    old = ns->name;
    ns->name = *name;
    *name = old;
    ns->shape.ns = anx_text_of(ns->name);
    if (target)
        target->is_dropped = is_dropped;
    pthread_rwlock_unlock(&db->list_lock);
    if (second)
        pthread_rwlock_unlock(&second->data_lock);
    pthread_rwlock_unlock(&first->data_lock);
}

/* One batch: the target's definition and records go, the new name comes. */
static anx_status
rename_locked(struct ns *ns, struct ns *target, char **name, anx_error *err)
{
    struct store_batch *batch;
    uint64_t ticket = 0;
    anx_status st = persist_begin(ns->table || !target ? ns : target, &batch, err);

    if (st != ANX_OK)
        return st;
    if (target)
        catalog_remove(target, batch);
    set_name(ns, target, name, true);
    if (ns->table)
        st = catalog_put(ns, NULL, batch, err);
    if (st != ANX_OK)
        store_batch_destroy(batch);
    else
        st = persist_submit(ns, batch, &ticket, err);
    if (st != ANX_OK)
        set_name(ns, target, name, false);
    else
        st = persist_wait(ns, ticket, err);
    return st;
}

static anx_status
rename_in_life(struct database *db, struct ns *ns, anx_text to, anx_error *err)
{
    struct ns *target = list_find(db, to);
    struct ns *first;
    struct ns *second;
    char *name;
    anx_status st = copy_string(to, &name, err);

    if (target == ns) { /* another case of the same name */
        ns_release(target);
        target = NULL;
    }
    if (st != ANX_OK) {
        ns_release(target);
        return st;
    }
    first = target && target < ns ? target : ns;
    second = first == ns ? target : ns;
    pthread_mutex_lock(&first->write_lock);
    if (second)
        pthread_mutex_lock(&second->write_lock);
    st = ns_check_alive(ns, err);
    if (st == ANX_OK)
        st = rename_locked(ns, target, &name, err);
    if (second)
        pthread_mutex_unlock(&second->write_lock);
    pthread_mutex_unlock(&first->write_lock);
    if (target && target->is_dropped) {
        ann_cache_drop_all(target);
        list_remove(db, target);
    }
    ns_release(target);
    anx_free(NULL, name);
    return st;
}

anx_status
db_ns_rename(struct database *db, anx_text from, anx_text to, const struct db_session *session,
             anx_error *err)
{
    struct ns *ns;
    anx_status st;

    (void) session;
    if (is_system_name(from))
        return anx_fail(err, ANX_E_PARAMS, "Can't rename system namespace (%.*s)", ANX_TEXT_ARG(from));
    st = name_check("Namespace", to, err);
    if (st != ANX_OK)
        return st;
    pthread_mutex_lock(&db->life_lock);
    ns = list_find(db, from);
    if (ns)
        st = rename_in_life(db, ns, to, err);
    else
        st = anx_fail(err, ANX_E_PARAMS, "Namespace '%.*s' doesn't exist", ANX_TEXT_ARG(from));
    if (st == ANX_OK) {
        config_settle(ns);
        event_emit_as(ns, from, EVENT_NS_RENAME);
    }
    pthread_mutex_unlock(&db->life_lock);
    ns_release(ns);
    return st;
}

/* ---- Describing ---- */

void
ns_print_definition(const struct ns *ns, bool with_conditions, anx_buffer *out)
{
    anx_buffer_text(out, ANX_TEXT("{\"name\":"));
    json_print_text(out, anx_text_of(ns->name));
    anx_buffer_printf(out, ",\"storage\":{\"enabled\":%s},\"indexes\":[",
                      ns->is_persistent ? "true" : "false");
    for (size_t i = 0; i < ns->n_index; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        index_def_print(ns->indexes[i].def, with_conditions, out);
    }
    anx_buffer_text(out, ANX_TEXT("],\"schema\":"));
    json_print_text(out, ns->schema ? anx_text_of(ns->schema) : ANX_TEXT("{}"));
    anx_buffer_char(out, '}');
}

anx_status
db_ns_describe(struct database *db, anx_text name, bool indexes_only, anx_buffer *out, size_t *n_index,
               anx_error *err)
{
    struct ns *ns;
    anx_status st = ns_acquire(db, name, &ns, err);

    if (st != ANX_OK)
        return st;
    pthread_rwlock_rdlock(&ns->data_lock);
    st = ns_check_alive(ns, err);
    if (st == ANX_OK && !indexes_only)
        ns_print_definition(ns, false, out);
    for (size_t i = 0; st == ANX_OK && indexes_only && i < ns->n_index; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        index_def_print(ns->indexes[i].def, false, out);
    }
    *n_index = ns->n_index;
    pthread_rwlock_unlock(&ns->data_lock);
    ns_release(ns);
    return st;
}
