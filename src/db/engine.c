/* The engine: databases by name, found in the folder at start. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/folder.h"
#include "base/log.h"
#include "db/engine_int.h"
#include "db/ns_int.h"
#include "db/map.h"
#include "db/quantize.h"

anx_status
db_session_check(const struct db_session *session, anx_error *err)
{
    if (!session)
        return ANX_OK;
    if (session->should_stop && session->should_stop(session->stop_context))
        return anx_fail(err, ANX_E_CANCELLED, "The request was cancelled");
    if (session->deadline_ns && anx_clock_ns() > session->deadline_ns)
        return anx_fail(err, ANX_E_TIMEOUT, "Context timeout");
    return ANX_OK;
}

/* ---- The list ---- */

/* lock held. */
static struct database *
find_database(struct engine *engine, anx_text name, bool any_case)
{
    for (size_t i = 0; i < engine->n_database; i++) {
        anx_text other = anx_text_of(engine->databases[i]->name);

        if (any_case ? anx_text_equal_fold(other, name) : anx_text_equal(other, name))
            return engine->databases[i];
    }
    return NULL;
}

/* lock held; takes the reference. */
static anx_status
add_database(struct engine *engine, struct database *db, anx_error *err)
{
    if (engine->n_database == engine->capacity) {
        size_t capacity = engine->capacity ? 2 * engine->capacity : 8;
        struct database **more =
            anx_realloc_array(NULL, engine->databases, capacity, sizeof(struct database *));

        if (!more)
            return anx_fail(err, ANX_E_NOMEM, "out of memory");
        engine->databases = more;
        engine->capacity = capacity;
    }
    engine->databases[engine->n_database++] = db;
    return ANX_OK;
}

anx_status
database_acquire(struct engine *engine, anx_text name, struct database **out, anx_error *err)
{
    pthread_mutex_lock(&engine->lock);
    *out = find_database(engine, name, true);
    if (*out)
        atomic_fetch_add(&(*out)->references, 1);
    pthread_mutex_unlock(&engine->lock);
    return *out ? ANX_OK
                : anx_fail(err, ANX_E_NOT_FOUND, "Database '%.*s' not found", ANX_TEXT_ARG(name));
}

void
database_release(struct database *db)
{
    struct engine *engine;

    if (!db)
        return;
    engine = db->engine;
    pthread_mutex_lock(&engine->lock);
    if (atomic_fetch_sub(&db->references, 1) == 1) {
        /* Only a dropped database loses its last reference here: the list has one of the others. */
        pthread_mutex_unlock(&engine->lock);
        database_destroy(db);
        pthread_mutex_lock(&engine->lock);
        engine->n_leaving--;
    }
    pthread_cond_broadcast(&engine->released);
    pthread_mutex_unlock(&engine->lock);
}

anx_status
engine_all(struct engine *engine, anx_arena *arena, struct database ***out, size_t *n, anx_error *err)
{
    *n = 0;
    pthread_mutex_lock(&engine->lock);
    *out = anx_arena_array(arena, engine->n_database + 1, sizeof(struct database *));
    for (size_t i = 0; *out && i < engine->n_database; i++) {
        (*out)[(*n)++] = engine->databases[i];
        atomic_fetch_add(&engine->databases[i]->references, 1);
    }
    pthread_mutex_unlock(&engine->lock);
    return *out ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
}

anx_status
engine_databases(struct engine *engine, anx_arena *arena, anx_text **names, size_t *n, anx_error *err)
{
    *n = 0;
    pthread_mutex_lock(&engine->lock);
    *names = anx_arena_array(arena, engine->n_database + 1, sizeof(anx_text));
    for (size_t i = 0; *names && i < engine->n_database; i++)
        (*names)[(*n)++] = anx_arena_text(arena, anx_text_of(engine->databases[i]->name));
    pthread_mutex_unlock(&engine->lock);
    return *names ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
}

/* ---- Creating and dropping ---- */

/* A folder that is there and is not ours is left alone. */
static anx_status
check_folder(struct engine *engine, anx_text name, anx_error *err)
{
    char path[4096];
    struct dirent *entry;
    DIR *folder;
    bool is_empty = true;
    bool is_ours = false;

    if (!engine->path)
        return ANX_OK;
    if (snprintf(path, sizeof(path), "%s/%.*s", engine->path, ANX_TEXT_ARG(name)) >= (int) sizeof(path))
        return anx_fail(err, ANX_E_PARAMS, "the path of database '%.*s' is too long", ANX_TEXT_ARG(name));
    folder = opendir(path);
    if (!folder)
        return ANX_OK;
    while ((entry = readdir(folder))) {
        is_ours |= strcmp(entry->d_name, "data.mdb") == 0;
        is_empty &= entry->d_name[0] == '.';
    }
    closedir(folder);
    if (is_empty || is_ours)
        return ANX_OK;
    return anx_fail(err, ANX_E_LOGIC,
                    "Cowardly refusing to use directory '%s' - it's not empty, and doesn't contains "
                    "a database of this server",
                    path);
}

anx_status
engine_database_create(struct engine *engine, anx_text name, const struct db_session *session, anx_error *err)
{
    struct database *db = NULL;
    anx_status st = name_check("Database", name, err);

    (void) session;
    if (st != ANX_OK)
        return st;
    /* One at a time, so that two requests do not open the same folder. */
    pthread_mutex_lock(&engine->create_lock);
    pthread_mutex_lock(&engine->lock);
    if (find_database(engine, name, false))
        st = anx_fail(err, ANX_E_PARAMS, "Database already exists");
    else
        db = find_database(engine, name, true);
    pthread_mutex_unlock(&engine->lock);
    if (st == ANX_OK && !db) { /* a name in another case is the same database */
        st = check_folder(engine, name, err);
        if (st == ANX_OK)
            st = database_open(engine, name, &db, err);
        if (st == ANX_OK) {
            pthread_mutex_lock(&engine->lock);
            st = add_database(engine, db, err);
            pthread_mutex_unlock(&engine->lock);
            if (st != ANX_OK)
                database_destroy(db);
        }
    }
    pthread_mutex_unlock(&engine->create_lock);
    return st;
}

anx_status
engine_database_drop(struct engine *engine, anx_text name, const struct db_session *session, anx_error *err)
{
    struct database *db;
    anx_status st = ANX_OK;

    (void) session;
    pthread_mutex_lock(&engine->create_lock);
    pthread_mutex_lock(&engine->lock);
    db = find_database(engine, name, true);
    if (db)
        st = database_set_dropped(db, err);
    else
        st = anx_fail(err, ANX_E_PARAMS, "Database %.*s not found", ANX_TEXT_ARG(name));
    for (size_t i = 0; st == ANX_OK && i < engine->n_database; i++)
        if (engine->databases[i] == db) {
            memmove(&engine->databases[i], &engine->databases[i + 1],
                    (engine->n_database - i - 1) * sizeof(struct database *));
            engine->n_database--;
            engine->n_leaving++;
        }
    pthread_mutex_unlock(&engine->lock);
    pthread_mutex_unlock(&engine->create_lock);
    if (st == ANX_OK)
        database_release(db);
    return st;
}

/* ---- Opening ---- */

static anx_status
open_found(struct engine *engine, const char *name, anx_error *err)
{
    struct database *db;
    anx_status st = database_open(engine, anx_text_of(name), &db, err);

    if (st == ANX_OK) {
        st = add_database(engine, db, err);
        if (st != ANX_OK)
            database_destroy(db);
    }
    if (st == ANX_OK)
        return ANX_OK;
    anx_log(ANX_LOG_ERROR, "event=database_not_loaded database=%s cause=\"%s\"", name,
            err ? err->message : "");
    return engine->params.start_with_errors ? ANX_OK : st;
}

/* What a folder of the root is: a database, remains of one that was dropped, or none of ours. */
static anx_status
visit_folder(struct engine *engine, const char *name, anx_error *err)
{
    char path[4096];
    char data[4096];

    if (snprintf(path, sizeof(path), "%s/%s", engine->path, name) >= (int) sizeof(path)
        || snprintf(data, sizeof(data), "%s/%s/data.mdb", engine->path, name) >= (int) sizeof(data))
        return ANX_OK;
    if (access(data, F_OK) != 0)
        return ANX_OK;
    if (name[0] == '@') {
        anx_folder_remove(path);
        return ANX_OK;
    }
    if (name_check("Database", anx_text_of(name), NULL) != ANX_OK) {
        anx_log(ANX_LOG_WARN, "event=folder_skipped name=%s", name);
        return ANX_OK;
    }
    return open_found(engine, name, err);
}

static anx_status
make_root(const char *path, anx_error *err)
{
    struct stat info;

    if (mkdir(path, 0750) != 0 && errno != EEXIST)
        return anx_fail(err, ANX_E_IO, "could not make the folder \"%s\": %s", path, strerror(errno));
    if (stat(path, &info) != 0 || !S_ISDIR(info.st_mode))
        return anx_fail(err, ANX_E_IO, "\"%s\" is not a folder", path);
    return ANX_OK;
}

static anx_status
open_root(struct engine *engine, anx_error *err)
{
    struct dirent **entries;
    anx_status st = make_root(engine->path, err);
    int n;

    if (st != ANX_OK)
        return st;
    n = scandir(engine->path, &entries, NULL, alphasort);
    if (n < 0)
        return anx_fail(err, ANX_E_IO, "could not read the folder \"%s\": %s", engine->path, strerror(errno));
    for (int i = 0; i < n; i++) {
        if (st == ANX_OK && entries[i]->d_name[0] != '.')
            st = visit_folder(engine, entries[i]->d_name, err);
        anx_free(NULL, entries[i]); /* scandir allocates on the heap that NULL stands for */
    }
    anx_free(NULL, entries);
    return st;
}

anx_status
engine_open(const struct engine_params *params, struct engine **out, anx_error *err)
{
    struct engine *engine = anx_alloc_zeroed(NULL, 1, sizeof(*engine));
    anx_status st = ANX_OK;

    *out = NULL;
    if (!engine)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    engine->params = *params;
    if (!engine->params.tx_idle_timeout_s)
        engine->params.tx_idle_timeout_s = 600;
    pthread_mutex_init(&engine->create_lock, NULL);
    pthread_mutex_init(&engine->lock, NULL);
    pthread_rwlock_init(&engine->clients_lock, NULL);
    pthread_cond_init(&engine->released, NULL);
    engine->pool = anx_pool_create(params->n_thread);
    if (params->path) {
        engine->path = anx_alloc_zeroed(NULL, strlen(params->path) + 1, 1);
        if (engine->path)
            memcpy(engine->path, params->path, strlen(params->path));
    }
    engine->params.path = engine->path;
    if (!engine->pool || (params->path && !engine->path))
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    if (st == ANX_OK && engine->path)
        st = open_root(engine, err);
    if (st == ANX_OK) {
        engine->quantizer = quantizer_create();
        engine->maps = map_cache_create();
        engine->keeper = engine->quantizer && engine->maps ? housekeeper_start(engine) : NULL;
        if (!engine->keeper)
            st = anx_fail(err, ANX_E_NOMEM, "could not start the thread that keeps house");
    }
    if (st != ANX_OK)
        engine_close(engine);
    else
        *out = engine;
    return st;
}

void
engine_close(struct engine *engine)
{
    if (!engine)
        return;
    housekeeper_stop(engine->keeper);
    quantizer_destroy(engine->quantizer);
    pthread_mutex_lock(&engine->lock);
    for (size_t i = 0; i < engine->n_database; i++)
        while (atomic_load(&engine->databases[i]->references) > 1)
            pthread_cond_wait(&engine->released, &engine->lock);
    while (engine->n_leaving > 0)
        pthread_cond_wait(&engine->released, &engine->lock);
    pthread_mutex_unlock(&engine->lock);
    for (size_t i = 0; i < engine->n_database; i++)
        database_destroy(engine->databases[i]);
    anx_free(NULL, engine->databases);
    map_cache_destroy(engine->maps);
    anx_pool_destroy(engine->pool);
    pthread_cond_destroy(&engine->released);
    pthread_mutex_destroy(&engine->lock);
    pthread_rwlock_destroy(&engine->clients_lock);
    pthread_mutex_destroy(&engine->create_lock);
    anx_free(NULL, engine->path);
    anx_free(NULL, engine);
}
