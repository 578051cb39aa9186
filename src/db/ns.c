/* Namespaces as objects: made, found by name, counted, freed. */
#include <string.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "db/embedding.h"
#include "db/ns_int.h"
#include "db/pending.h"
#include "db/system.h"

struct ns_index *
ns_index_find(const struct ns *ns, anx_text name)
{
    struct ns_index *found = NULL;
    size_t n_found = 0;

    for (size_t i = 0; i < ns->n_index; i++)
        if (anx_text_equal_fold(ns->indexes[i].def->name, name))
            return &ns->indexes[i];
    for (size_t i = 0; i < ns->n_index; i++) {
        const struct index_def *def = ns->indexes[i].def;

        if (def->field_type == FIELD_COMPOSITE)
            continue;
        for (size_t p = 0; p < def->n_path; p++)
            if (anx_text_equal(def->json_paths[p], name)) {
                found = &ns->indexes[i];
                n_found++;
            }
    }
    return n_found == 1 ? found : NULL;
}

struct ns_index *
ns_index_of_query(const struct ns *ns, anx_text name)
{
    struct ns_index *index = ns_index_find(ns, name);

    return index && index->def->n_path > 1 && !anx_text_equal_fold(index->def->name, name) ? NULL : index;
}

/* ---- Making and freeing ---- */

static bool
init_locks(struct ns *ns)
{
    pthread_rwlockattr_t kind;
    bool is_fine;

    pthread_rwlockattr_init(&kind);
    /* Otherwise a stream of readers keeps writers out for ever. The price: no thread may read-lock it twice.
     */
    pthread_rwlockattr_setkind_np(&kind, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    is_fine = pthread_rwlock_init(&ns->data_lock, &kind) == 0;
    pthread_rwlockattr_destroy(&kind);
    return is_fine && pthread_mutex_init(&ns->write_lock, NULL) == 0;
}

/* Clients tell dictionaries apart by token XOR number of names, so tokens must be far from each other. */
static void
choose_identity(struct ns *ns)
{
    uint64_t random = 0;

    if (getrandom(&random, sizeof(random), 0) != sizeof(random))
        random = anx_clock_ns() * 0x9e3779b97f4a7c15u;
    ns->incarnation = (int64_t) (random >> 2);
    ns->state_token = (int32_t) (uint32_t) (random >> 32);
    if (ns->state_token == 0)
        ns->state_token = 1 << 30;
}

anx_status
ns_create(struct database *db, anx_text name, bool is_persistent, struct ns **out, anx_error *err)
{
    struct ns *ns = anx_alloc_zeroed(NULL, 1, sizeof(*ns));
    struct ns_content empty;
    anx_status st = ANX_OK;

    *out = NULL;
    if (!ns || !init_locks(ns)) {
        anx_free(NULL, ns);
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    }
    ns->database = db;
    ns->is_persistent = is_persistent;
    ns->pk = SIZE_MAX;
    choose_identity(ns);
    ns->saved_ns = anx_clock_ns();
    atomic_init(&ns->references, 1);
    atomic_init(&ns->strict_mode, STRICT_NAMES);
    ns->name = anx_alloc_zeroed(NULL, name.size + 1, 1);
    ns->rows = rows_create();
    ns->names = names_create(NULL);
    ns->meta = meta_create();
    ns->pending = is_persistent && db->store ? pending_create() : NULL;
    if (!ns->name || !ns->rows || !ns->names || !ns->meta
        || (is_persistent && db->store && !ns->pending)) {
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    } else {
        memcpy(ns->name, name.data, name.size);
        st = content_make(ns, NULL, 0, &empty, err);
    }
    if (st != ANX_OK) {
        ns_destroy(ns);
        return st;
    }
    content_swap(ns, &empty);
    content_fini(&empty);
    *out = ns;
    return ANX_OK;
}

void
ns_destroy(struct ns *ns)
{
    struct ns_content content = { 0 };

    if (ns->kind == NS_ORDINARY && ns->database)
        embedding_forget(ns, (anx_text) { NULL, 0 });
    content_swap(ns, &content);
    for (size_t i = 0; i < content.n_index; i++)
        index_fini(&content.indexes[i]);
    content_fini(&content);
    rows_destroy(ns->rows);
    names_destroy(ns->names);
    meta_destroy(ns->meta);
    pending_destroy(ns->pending);
    anx_free(NULL, ns->schema);
    anx_free(NULL, ns->name);
    pthread_rwlock_destroy(&ns->data_lock);
    pthread_mutex_destroy(&ns->write_lock);
    anx_free(NULL, ns);
}

anx_status
name_check(const char *what, anx_text name, anx_error *err)
{
    bool is_fine = name.size > 0 && name.size <= NS_NAME_MAX;

    for (size_t i = 0; i < name.size; i++) {
        char c = name.data[i];

        is_fine &= (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'
                   || c == '-';
    }
    if (is_fine)
        return ANX_OK;
    if (name.size > NS_NAME_MAX)
        return anx_fail(err, ANX_E_PARAMS, "%s name is %zu bytes long, at most %d are possible", what,
                        name.size, NS_NAME_MAX);
    return anx_fail(err, ANX_E_PARAMS,
                    "%s name '%.*s' contains invalid character. Only alphas, digits,'_','-', are allowed",
                    what, ANX_TEXT_ARG(name));
}

/* ---- References ---- */

struct ns *
list_find(struct database *db, anx_text name)
{
    struct ns *found = NULL;

    pthread_rwlock_rdlock(&db->list_lock);
    for (size_t i = 0; i < db->n_namespace && !found; i++)
        if (anx_text_equal_fold(anx_text_of(db->namespaces[i]->name), name))
            found = db->namespaces[i];
    if (found)
        atomic_fetch_add(&found->references, 1);
    pthread_rwlock_unlock(&db->list_lock);
    return found;
}

anx_status
list_add(struct database *db, struct ns *ns, anx_error *err)
{
    anx_status st = ANX_OK;

    pthread_rwlock_wrlock(&db->list_lock);
    if (db->n_namespace == db->capacity) {
        size_t capacity = db->capacity ? 2 * db->capacity : 16;
        struct ns **more = anx_realloc_array(NULL, db->namespaces, capacity, sizeof(struct ns *));

        if (more) {
            db->namespaces = more;
            db->capacity = capacity;
        } else {
            st = anx_fail(err, ANX_E_NOMEM, "out of memory");
        }
    }
    if (st == ANX_OK)
        db->namespaces[db->n_namespace++] = ns;
    pthread_rwlock_unlock(&db->list_lock);
    return st;
}

void
list_remove(struct database *db, struct ns *ns)
{
    pthread_rwlock_wrlock(&db->list_lock);
    for (size_t i = 0; i < db->n_namespace; i++)
        if (db->namespaces[i] == ns) {
            memmove(&db->namespaces[i], &db->namespaces[i + 1],
                    (db->n_namespace - i - 1) * sizeof(struct ns *));
            db->n_namespace--;
            break;
        }
    pthread_rwlock_unlock(&db->list_lock);
    ns_release(ns);
}

anx_status
list_all(struct database *db, anx_arena *arena, struct ns ***out, size_t *n, anx_error *err)
{
    *n = 0;
    pthread_rwlock_rdlock(&db->list_lock);
    *out = anx_arena_array(arena, db->n_namespace + 1, sizeof(struct ns *));
    for (size_t i = 0; *out && i < db->n_namespace; i++) {
        (*out)[(*n)++] = db->namespaces[i];
        atomic_fetch_add(&db->namespaces[i]->references, 1);
    }
    pthread_rwlock_unlock(&db->list_lock);
    return *out ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
}

void
list_release(struct ns **list, size_t n)
{
    for (size_t i = 0; i < n; i++)
        ns_release(list[i]);
}

bool
is_system_name(anx_text name)
{
    return name.size > 0 && name.data[0] == '#';
}

enum system_kind
system_ns_kind(const struct ns *ns)
{
    return ns->kind == NS_STATS ? SYSTEM_STATS : ns->kind == NS_CONFIG ? SYSTEM_CONFIG : SYSTEM_NONE;
}

anx_status
ns_acquire(struct database *db, anx_text name, struct ns **out, anx_error *err)
{
    *out = list_find(db, name);
    if (*out)
        return ANX_OK;
    if (is_system_name(name))
        return system_ns_make(db, name, out, err);
    return anx_fail(err, ANX_E_NOT_FOUND, "Namespace '%.*s' does not exist", ANX_TEXT_ARG(name));
}

/* The records of a dropped namespace were removed when it was dropped; what is left is an empty table, which
 * has to wait until nobody holds its handle. */
void
ns_release(struct ns *ns)
{
    struct database *db;
    struct store_table *table;
    anx_error err;

    if (!ns || atomic_fetch_sub(&ns->references, 1) != 1)
        return;
    db = ns->database;
    table = ns->is_dropped && !atomic_load(&db->is_dropped) ? ns->table : NULL;
    ns_destroy(ns);
    if (table && store_table_drop(db->store, table, &err) != ANX_OK)
        anx_log(ANX_LOG_WARN, "event=table_not_dropped cause=\"%s\"",
                err.message); /* the next start does it */
}

anx_status
ns_check_alive(const struct ns *ns, anx_error *err)
{
    return ns->is_dropped ? anx_fail(err, ANX_E_NOT_FOUND, "Namespace '%s' does not exist", ns->name)
                          : ANX_OK;
}

anx_status
ns_change_begin(struct database *db, anx_text name, struct ns **out, anx_error *err)
{
    anx_status st = ns_acquire(db, name, out, err);

    if (st != ANX_OK)
        return st;
    pthread_mutex_lock(&(*out)->write_lock);
    st = ns_check_alive(*out, err);
    if (st != ANX_OK) {
        pthread_mutex_unlock(&(*out)->write_lock);
        ns_release(*out);
        *out = NULL;
    }
    return st;
}

anx_status
ns_change_end(struct ns *ns, anx_status st, uint64_t ticket, anx_error *err)
{
    pthread_mutex_unlock(&ns->write_lock);
    if (st == ANX_OK)
        st = persist_wait(ns, ticket, err);
    ns_release(ns);
    return st;
}
