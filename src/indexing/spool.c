/* See spool.h. */
#include "indexing/spool.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"

#define PREFIX "annex-indexing-"
#define LOCK_NAME "lock"
#define LOCK_NEW_NAME "lock.new" /* until it is locked */
#define UNLOCKED_AGE_S 60        /* a folder without a lock file may be one that is being made */

/* --- the folder --- */

/* Removes the files of an abandoned folder, then the folder. Nothing is followed: there are no folders and no
 * links in one of ours. */
static bool
remove_folder(int tmp_fd, const char *name, int folder_fd)
{
    int listed = dup(folder_fd);
    DIR *folder = listed >= 0 ? fdopendir(listed) : NULL;
    const struct dirent *entry;

    if (!folder) {
        if (listed >= 0)
            close(listed);
        return false;
    }
    while ((entry = readdir(folder)) != NULL)
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0 &&
            unlinkat(folder_fd, entry->d_name, 0) != 0)
            break;
    closedir(folder);
    return unlinkat(tmp_fd, name, AT_REMOVEDIR) == 0;
}

/* Nobody lives there: it is ours, and its lock is free. The lock is taken to find out, so of two servers that
 * start at once only one removes it. */
static bool
is_abandoned(int folder_fd, int *lock_fd)
{
    struct stat stat;

    *lock_fd = -1;
    if (fstat(folder_fd, &stat) != 0 || stat.st_uid != geteuid() || !S_ISDIR(stat.st_mode))
        return false;
    *lock_fd = openat(folder_fd, LOCK_NAME, O_RDWR | O_NOFOLLOW | O_CLOEXEC);
    if (*lock_fd >= 0)
        return flock(*lock_fd, LOCK_EX | LOCK_NB) == 0;
    return errno == ENOENT && time(NULL) - stat.st_mtime > UNLOCKED_AGE_S;
}

static void
remove_abandoned(const char *tmp_dir)
{
    DIR *tmp = opendir(tmp_dir);
    const struct dirent *entry;

    if (!tmp)
        return;
    while ((entry = readdir(tmp)) != NULL) {
        int folder_fd;
        int lock_fd;

        if (strncmp(entry->d_name, PREFIX, strlen(PREFIX)) != 0)
            continue;
        folder_fd = openat(dirfd(tmp), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
        if (folder_fd < 0)
            continue;
        if (is_abandoned(folder_fd, &lock_fd) && remove_folder(dirfd(tmp), entry->d_name, folder_fd))
            anx_log(ANX_LOG_INFO, "event=stale_folder_removed folder=\"%s/%s\"", tmp_dir, entry->d_name);
        if (lock_fd >= 0)
            close(lock_fd);
        close(folder_fd);
    }
    closedir(tmp);
}

/* The lock file appears under its name only when it is locked: a server that starts meanwhile finds either no
 * lock file in a young folder, or a locked one. */
static anx_status
lock_folder(struct spool *spool, anx_error *err)
{
    int folder_fd = open(spool->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    anx_status st = ANX_OK;

    if (folder_fd < 0)
        return anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", spool->path, strerror(errno));
    spool->lock_fd = openat(folder_fd, LOCK_NEW_NAME, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (spool->lock_fd < 0 || flock(spool->lock_fd, LOCK_EX | LOCK_NB) != 0 ||
        renameat(folder_fd, LOCK_NEW_NAME, folder_fd, LOCK_NAME) != 0)
        st = anx_fail(err, ANX_E_IO, "could not lock \"%s\": %s", spool->path, strerror(errno));
    close(folder_fd);
    return st;
}

static void
drop_folder(struct spool *spool)
{
    static const char *const names[] = { LOCK_NEW_NAME, LOCK_NAME };
    char path[4096];

    for (size_t i = 0; i < ANX_COUNT_OF(names); i++)
        if (snprintf(path, sizeof(path), "%s/%s", spool->path, names[i]) < (int) sizeof(path))
            (void) unlink(path);
    if (rmdir(spool->path) != 0)
        anx_log(ANX_LOG_WARN, "event=folder_left folder=\"%s\" error=\"%s\"", spool->path, strerror(errno));
    if (spool->lock_fd >= 0)
        close(spool->lock_fd);
}

anx_status
anx_spool_open(struct spool *spool, const char *tmp_dir, unsigned timeout_ms, struct jobs *jobs,
               anx_error *err)
{
    size_t size = strlen(tmp_dir) + sizeof("/" PREFIX "XXXXXX");
    anx_status st;

    *spool = (struct spool) { .lock_fd = -1, .jobs = jobs, .timeout_ns = timeout_ms * UINT64_C(1000000) };
    spool->path = anx_alloc_bytes(NULL, size);
    if (!spool->path)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the name of a folder");
    remove_abandoned(tmp_dir);
    snprintf(spool->path, size, "%s/" PREFIX "XXXXXX", tmp_dir);
    if (!mkdtemp(spool->path)) {
        st = anx_fail(err, ANX_E_IO, "could not make a folder in \"%s\" (--tmp-dir): %s", tmp_dir,
                      strerror(errno));
        anx_free(NULL, spool->path);
        spool->path = NULL;
        return st;
    }
    pthread_mutex_init(&spool->lock, NULL);
    st = lock_folder(spool, err);
    if (st != ANX_OK)
        anx_spool_close(spool);
    return st;
}

/* --- what is kept --- */

static void
kept_destroy(struct spool *spool, struct kept *kept, const anx_error *err)
{
    if (kept->job)
        anx_jobs_end(spool->jobs, kept->job, err);
    anx_jobs_free(kept->job);
    if (kept->fd >= 0)
        close(kept->fd);
    anx_wire_forget(kept->key, sizeof(kept->key));
    anx_free(NULL, kept);
}

/* Takes entries that are over and unused out of the list; the caller destroys them without the lock. */
static struct kept *
collect_locked(struct spool *spool)
{
    struct kept *gone = NULL;
    struct kept **at = &spool->first;

    while (*at) {
        struct kept *kept = *at;

        if (!kept->is_over || kept->n_user > 0) {
            at = &kept->next;
            continue;
        }
        *at = kept->next;
        kept->next = gone;
        gone = kept;
    }
    return gone;
}

static void
destroy_all(struct spool *spool, struct kept *gone)
{
    while (gone) {
        struct kept *next = gone->next;
        anx_error err;

        (void) anx_fail(&err, ANX_E_TIMEOUT,
                        "the download broke and its client did not come back for the rest");
        if (gone->job)
            anx_log(ANX_LOG_WARN, "event=kept_index_dropped job=%llu bytes=%llu",
                    (unsigned long long) gone->job->id, (unsigned long long) gone->index.size);
        kept_destroy(spool, gone, &err);
        gone = next;
    }
}

void
anx_spool_close(struct spool *spool)
{
    if (!spool->path)
        return;
    for (struct kept *kept = spool->first; kept; kept = kept->next) {
        ANX_ASSERT(kept->n_user == 0);
        kept->is_over = true;
    }
    destroy_all(spool, collect_locked(spool));
    drop_folder(spool);
    pthread_mutex_destroy(&spool->lock);
    anx_free(NULL, spool->path);
    *spool = (struct spool) { .lock_fd = -1 };
}

/* A file without a name in the private folder. */
static int
open_nameless(const struct spool *spool)
{
    char path[4096];
    int fd = open(spool->path, O_RDWR | O_TMPFILE | O_CLOEXEC, 0600);

    if (fd >= 0)
        return fd;
    if (snprintf(path, sizeof(path), "%s/index-XXXXXX", spool->path) >= (int) sizeof(path))
        return -1;
    fd = mkostemp(path, O_CLOEXEC); /* file systems without O_TMPFILE */
    if (fd >= 0)
        (void) unlink(path);
    return fd;
}

struct writing {
    int fd;
    anx_wire_sum *sum;
    const char *path;
};

static anx_status
write_all(void *context, const void *bytes, size_t size, anx_error *err)
{
    const struct writing *writing = context;
    const uint8_t *from = bytes;

    anx_wire_sum_update(writing->sum, bytes, size);
    while (size > 0) {
        ssize_t n = write(writing->fd, from, size);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return anx_fail(err, ANX_E_IO, "could not keep the index in \"%s\" (--tmp-dir): %s",
                            writing->path, strerror(n < 0 ? errno : EIO));
        from += n;
        size -= (size_t) n;
    }
    return ANX_OK;
}

static anx_status
write_file(const struct spool *spool, struct kept *kept, const anx_index *index,
           const anx_save_params *params, anx_error *err)
{
    struct writing writing = { .fd = open_nameless(spool), .path = spool->path };
    anx_sink sink = { &writing, write_all };
    anx_status st = ANX_OK;

    if (writing.fd < 0)
        return anx_fail(err, ANX_E_IO, "could not make a file in \"%s\" (--tmp-dir): %s", spool->path,
                        strerror(errno));
    writing.sum = anx_wire_sum_create(NULL);
    if (!writing.sum)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a checksum");
    if (st == ANX_OK)
        st = anx_index_save(index, params, &sink, NULL, err);
    if (st == ANX_OK) {
        anx_wire_sum_digest(writing.sum, kept->sum);
        kept->fd = writing.fd;
    } else {
        close(writing.fd);
    }
    anx_wire_sum_destroy(writing.sum);
    return st;
}

void
anx_spool_keep(struct spool *spool, struct kept *kept, const anx_index *index, const anx_save_params *params)
{
    anx_status st;

    kept->fd = -1;
    kept->n_user = 0;
    kept->is_over = false;
    st = write_file(spool, kept, index, params, &kept->error);
    if (kept->job) {
        anx_jobs_phase(spool->jobs, kept->job, JOB_KEPT);
        atomic_store_explicit(&kept->job->memory, 0, memory_order_relaxed);
        if (st == ANX_OK)
            anx_log(ANX_LOG_INFO, "event=index_kept job=%llu bytes=%llu for_s=%llu",
                    (unsigned long long) kept->job->id, (unsigned long long) kept->index.size,
                    (unsigned long long) (spool->timeout_ns / 1000000000));
        else
            anx_log(ANX_LOG_ERROR, "event=index_not_kept job=%llu error=\"%s\"",
                    (unsigned long long) kept->job->id, quoted(kept->error.message).text);
    }
    pthread_mutex_lock(&spool->lock);
    kept->until_ns = anx_clock_ns() + spool->timeout_ns;
    kept->next = spool->first;
    spool->first = kept;
    pthread_mutex_unlock(&spool->lock);
}

struct kept *
anx_spool_find(struct spool *spool, const uint8_t session[ANX_WIRE_SESSION_SIZE])
{
    struct kept *found = NULL;

    pthread_mutex_lock(&spool->lock);
    for (struct kept *kept = spool->first; kept && !found; kept = kept->next)
        if (!kept->is_over && memcmp(kept->session, session, sizeof(kept->session)) == 0)
            found = kept;
    if (found)
        found->n_user++;
    pthread_mutex_unlock(&spool->lock);
    return found;
}

void
anx_spool_release(struct spool *spool, struct kept *kept, bool is_delivered)
{
    struct job *ended = NULL;
    struct kept *gone;

    pthread_mutex_lock(&spool->lock);
    kept->n_user--;
    kept->until_ns = anx_clock_ns() + spool->timeout_ns;
    if (is_delivered) {
        kept->is_over = true;
        ended = kept->job;
        kept->job = NULL;
    }
    gone = collect_locked(spool);
    pthread_mutex_unlock(&spool->lock);
    if (ended)
        anx_jobs_end(spool->jobs, ended, NULL);
    anx_jobs_free(ended);
    destroy_all(spool, gone);
}

void
anx_spool_give_up(struct spool *spool, struct kept *kept)
{
    pthread_mutex_lock(&spool->lock);
    kept->is_over = true;
    pthread_mutex_unlock(&spool->lock);
    anx_spool_release(spool, kept, false);
}

void
anx_spool_expire(struct spool *spool)
{
    uint64_t now = anx_clock_ns();
    struct kept *gone;

    pthread_mutex_lock(&spool->lock);
    for (struct kept *kept = spool->first; kept; kept = kept->next)
        if (kept->n_user == 0 && kept->until_ns <= now)
            kept->is_over = true;
    gone = collect_locked(spool);
    pthread_mutex_unlock(&spool->lock);
    destroy_all(spool, gone);
}
