/* A database: its folder, store and namespaces, from opening to the last reference. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "db/config_int.h"
#include "db/embedding.h"
#include "db/engine_int.h"
#include "db/ns_int.h"
#include "db/stats_int.h"
#include "db/system.h"

/* ---- Loading ---- */

struct loading {
    struct ns **list;
    anx_status *statuses; /* [n] */
    anx_error *errors;    /* [n] */
};

static void
load_range(void *context, size_t begin, size_t end, size_t worker)
{
    struct loading *loading = context;

    (void) worker;
    for (size_t i = begin; i < end; i++)
        loading->statuses[i] = ns_load(loading->list[i], &loading->errors[i]);
}

/* All namespaces side by side; the first failure in their order is reported. */
static anx_status
load_all(struct database *db, anx_error *err)
{
    size_t n = db->n_namespace;
    struct loading loading = { .list = db->namespaces };
    anx_status st = ANX_OK;

    loading.statuses = anx_alloc_zeroed(NULL, n + 1, sizeof(anx_status));
    loading.errors = anx_alloc_zeroed(NULL, n + 1, sizeof(anx_error));
    if (!loading.statuses || !loading.errors)
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    else
        anx_pool_for(db->engine->pool, n, 1, load_range, &loading);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        st = loading.statuses[i];
        if (st != ANX_OK && err)
            *err = loading.errors[i];
    }
    anx_free(NULL, loading.statuses);
    anx_free(NULL, loading.errors);
    return st;
}

static anx_status
open_store(struct database *db, anx_error *err)
{
    struct store_params params = { .path = db->path, .durability = db->engine->params.durability };
    anx_status st = store_open(&params, &db->store, err);

    if (st == ANX_OK)
        st = store_table(db->store, ANX_TEXT("catalog"), true, &db->catalog, err);
    if (st == ANX_OK)
        st = catalog_load(db, err);
    if (st == ANX_OK)
        st = load_all(db, err);
    if (st == ANX_OK)
        ann_cache_clean(db);
    return st;
}

static anx_status
set_paths(struct database *db, anx_text name, anx_error *err)
{
    const char *root = db->engine->path;
    size_t size = root ? strlen(root) + name.size + 2 : 0;

    db->name = anx_alloc_zeroed(NULL, name.size + 1, 1);
    db->path = root ? anx_alloc_zeroed(NULL, size, 1) : NULL;
    if (!db->name || (root && !db->path))
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    memcpy(db->name, name.data, name.size);
    if (root)
        (void) snprintf(db->path, size, "%s/%s", root, db->name);
    return ANX_OK;
}

anx_status
database_open(struct engine *engine, anx_text name, struct database **out, anx_error *err)
{
    struct database *db = anx_alloc_zeroed(NULL, 1, sizeof(*db));
    anx_status st;

    *out = NULL;
    if (!db)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    db->engine = engine;
    db->next_id = 1;
    atomic_init(&db->references, 1);
    pthread_mutex_init(&db->life_lock, NULL);
    pthread_rwlock_init(&db->list_lock, NULL);
    st = set_paths(db, name, err);
    if (st == ANX_OK) {
        db->settings = settings_create();
        db->stats = stats_create();
        db->transactions = tx_list_create(db);
        db->embedding = embedding_create(db);
        if (!db->settings || !db->stats || !db->transactions || !db->embedding)
            st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    }
    if (st == ANX_OK && db->path)
        st = open_store(db, err);
    if (st == ANX_OK)
        st = config_open(db, err);
    if (st != ANX_OK) {
        anx_error_context(err, "database '%.*s'", ANX_TEXT_ARG(name));
        database_destroy(db);
    } else {
        *out = db;
    }
    return st;
}

/* ---- Closing ---- */

void
database_destroy(struct database *db)
{
    if (!db)
        return;
    embedding_stop(db->embedding);
    tx_list_destroy(db->transactions);
    for (size_t i = 0; i < db->n_namespace; i++) {
        if (db->store && !atomic_load(&db->is_dropped))
            ann_cache_save(db->namespaces[i], true);
        ns_destroy(db->namespaces[i]);
    }
    anx_free(NULL, db->namespaces);
    store_close(db->store);
    embedding_destroy(db->embedding);
    if (db->dropped_path)
        anx_folder_remove(db->dropped_path);
    anx_free(NULL, db->dropped_path);
    settings_destroy(db->settings);
    stats_destroy(db->stats);
    pthread_rwlock_destroy(&db->list_lock);
    pthread_mutex_destroy(&db->life_lock);
    anx_free(NULL, db->path);
    anx_free(NULL, db->name);
    anx_free(NULL, db);
}

/* Moves the folder out of the way, so that a database of the same name can be made while somebody still reads
 * this one. What starts with @ is removed by the next start, should this process not come to it. */
anx_status
database_set_dropped(struct database *db, anx_error *err)
{
    static atomic_uint n_dropped;
    char path[4096];
    char *copy;

    if (!db->path) {
        atomic_store(&db->is_dropped, true);
        return ANX_OK;
    }
    if (snprintf(path, sizeof(path), "%s/@%s.%ld.%u", db->engine->path, db->name, (long) getpid(),
                 atomic_fetch_add(&n_dropped, 1))
        >= (int) sizeof(path))
        return anx_fail(err, ANX_E_INVALID, "the path of database '%s' is too long", db->name);
    copy = anx_alloc_zeroed(NULL, strlen(path) + 1, 1);
    if (!copy)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    memcpy(copy, path, strlen(path));
    if (rename(db->path, path) != 0) {
        anx_free(NULL, copy);
        return anx_fail(err, ANX_E_IO, "could not move the folder \"%s\": %s", db->path, strerror(errno));
    }
    db->dropped_path = copy;
    atomic_store(&db->is_dropped, true);
    return ANX_OK;
}

anx_status
db_ns_names(struct database *db, anx_arena *arena, anx_text **names, size_t *n, anx_error *err)
{
    size_t n_system = 0;

    while (system_ns_names[n_system])
        n_system++;
    *n = 0;
    pthread_rwlock_rdlock(&db->list_lock);
    *names = anx_arena_array(arena, db->n_namespace + n_system + 1, sizeof(anx_text));
    for (size_t i = 0; *names && i < n_system; i++)
        (*names)[(*n)++] = anx_text_of(system_ns_names[i]);
    for (size_t i = 0; *names && i < db->n_namespace; i++)
        if (!is_system_name(anx_text_of(db->namespaces[i]->name)))
            (*names)[(*n)++] = anx_arena_text(arena, anx_text_of(db->namespaces[i]->name));
    pthread_rwlock_unlock(&db->list_lock);
    return *names ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
}
