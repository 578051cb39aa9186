/* Index files: vector indexes saved beside the store, so that a start does not build them.
 *
 * They are only a cache. A file is checksummed and carries its version (index_file.h); its name says which
 * namespace (by number), which index and which structure it has, so that it is never taken for another index.
 * Loading compares every vector with the stored documents (vector_restore): what changed since the file was
 * written is inserted or removed, so an old file is of use as long as most of it is still true, and a wrong
 * one does no harm.
 *
 * Files are written when a namespace has not changed for ann_storage_cache_build_timeout_ms, when a large
 * part of it has changed since the last time, and when the database is closed. */
#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "db/config_int.h"
#include "db/ns_int.h"

/* Fewer vectors are built faster than a file is written and synced. */
enum { VECTORS_WORTH_A_FILE = 256 };
/* Also while it is written to: when a fifth has changed, at most every ten minutes, because writers wait. */
enum { CHANGED_SHARE = 5 };
#define BUSY_INTERVAL_NS 600000000000u

static bool
is_enabled(const struct ns *ns)
{
    return ns->table && !ns->database->engine->params.is_ann_cache_disabled
           && !atomic_load(&ns->database->is_dropped);
}

/* The name of an index in lower case; names of indexes have no characters that paths cannot have. */
static int
print_name(const struct ns *ns, const struct ns_index *index, char *out, size_t size)
{
    int n = snprintf(out, size, "%u-%.*s-%016llx.anx", ns->id, ANX_TEXT_ARG(index->def->name),
                     (unsigned long long) index_def_structure(index->def));

    for (char *p = out; n > 0 && *p; p++)
        if (*p >= 'A' && *p <= 'Z')
            *p = (char) (*p - 'A' + 'a');
    return n;
}

bool
ann_cache_path(const struct ns *ns, const struct ns_index *index, char out[4096])
{
    char name[512];
    int n = print_name(ns, index, name, sizeof(name));

    if (!is_enabled(ns) || index->def->index_type == INDEX_VEC_BF || n < 0 || (size_t) n >= sizeof(name))
        return false;
    n = snprintf(out, 4096, "%s/ann/%s", ns->database->path, name);
    return n > 0 && n < 4096;
}

void
ann_cache_drop(struct ns *ns, const struct ns_index *index)
{
    char path[4096];

    if (!index->vector || !ann_cache_path(ns, index, path))
        return;
    if (unlink(path) == 0)
        anx_log(ANX_LOG_INFO, "event=index_file_dropped path=%s", path);
    ns->n_change_saved = UINT64_MAX; /* not up to date, whatever the number of changes */
}

void
ann_cache_drop_all(struct ns *ns)
{
    for (size_t i = 0; i < ns->n_index; i++)
        ann_cache_drop(ns, &ns->indexes[i]);
}

/* ---- Cleaning ---- */

static bool
belongs(struct database *db, const char *name)
{
    char other[512];

    for (size_t i = 0; i < db->n_namespace; i++)
        for (size_t j = 0; j < db->namespaces[i]->n_index; j++) {
            const struct ns_index *index = &db->namespaces[i]->indexes[j];

            if (index->vector && print_name(db->namespaces[i], index, other, sizeof(other)) > 0
                && strcmp(name, other) == 0)
                return true;
        }
    return false;
}

void
ann_cache_clean(struct database *db)
{
    char path[4096];
    struct dirent *entry;
    DIR *folder;

    if (snprintf(path, sizeof(path), "%s/ann", db->path) >= (int) sizeof(path) || !(folder = opendir(path)))
        return;
    while ((entry = readdir(folder))) {
        char name[4096];
        int n = snprintf(name, sizeof(name), "%s/%s", path, entry->d_name);

        if (entry->d_name[0] != '.' && n < (int) sizeof(name) && !belongs(db, entry->d_name))
            (void) unlink(name);
    }
    closedir(folder);
}

/* ---- Saving ---- */

static bool
is_due(struct ns *ns, bool now)
{
    uint64_t n_change = atomic_load(&ns->n_change);
    uint64_t time_ns = anx_clock_ns();
    unsigned timeout_ms = config_ann_timeout_ms(ns);
    uint64_t n_new = n_change - ns->n_change_saved;

    if (!is_enabled(ns) || timeout_ms == 0 || n_change == 0 || n_change == ns->n_change_saved)
        return false;
    if (now || time_ns - atomic_load(&ns->changed_ns) >= (uint64_t) timeout_ms * 1000000)
        return true;
    return ns->n_change_saved != UINT64_MAX && n_new > rows_count(ns->rows) / CHANGED_SHARE
           && time_ns - ns->saved_ns > BUSY_INTERVAL_NS;
}

/* write_lock held: nobody else writes; searches go on. */
static void
save_index(struct ns *ns, const struct ns_index *index)
{
    struct vector_numbers numbers;
    uint64_t start_ns = anx_clock_ns();
    char path[4096];
    char folder[4096];
    anx_error err;
    anx_status st;

    vector_get_numbers(index->vector, &numbers);
    if (numbers.count < VECTORS_WORTH_A_FILE || !ann_cache_path(ns, index, path))
        return;
    if (snprintf(folder, sizeof(folder), "%s/ann", ns->database->path) < (int) sizeof(folder))
        (void) mkdir(folder, 0750);
    st = vector_file_save(index->vector, path, &err);
    if (st == ANX_OK)
        anx_log(ANX_LOG_INFO, "event=index_file_written ns=%s index=%.*s vectors=%zu ms=%llu", ns->name,
                ANX_TEXT_ARG(index->def->name), numbers.count,
                (unsigned long long) ((anx_clock_ns() - start_ns) / 1000000));
    else if (st != ANX_E_UNSUPPORTED)
        anx_log(ANX_LOG_WARN, "event=index_file_not_written ns=%s index=%.*s cause=\"%s\"", ns->name,
                ANX_TEXT_ARG(index->def->name), err.message);
}

void
ann_cache_save(struct ns *ns, bool now)
{
    bool has_vectors = false;

    if (!ns->table || pthread_mutex_trylock(&ns->write_lock) != 0)
        return;
    for (size_t i = 0; i < ns->n_index; i++)
        has_vectors |= ns->indexes[i].vector != NULL;
    if (has_vectors && !ns->is_dropped && is_due(ns, now)) {
        for (size_t i = 0; i < ns->n_index; i++)
            if (ns->indexes[i].vector)
                save_index(ns, &ns->indexes[i]);
        ns->n_change_saved = atomic_load(&ns->n_change);
        ns->saved_ns = anx_clock_ns();
    }
    pthread_mutex_unlock(&ns->write_lock);
}
