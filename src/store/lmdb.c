/* The embedded backend: LMDB, one environment per store, one named database per table.
 *
 * LMDB has one writer at a time and copies pages on write; commit is two ordered syncs (pages, then the
 * head), so a crash leaves the last committed state. What we add: the address range grows by itself, other
 * processes are kept out, the file is verified before it is mapped, and read transactions are pooled.
 *
 * Locks, in this order: 1 write_lock (whoever has a write transaction, or keeps commits away), 2 gate (fields
 * below; leaf). The range may be moved only when no transaction is open: the holder of write_lock announces
 * it under `gate` (is_growing), waits until the readers have ended, and lets them in again afterwards. A
 * reader that waited for a commit would wait for itself, which store.h forbids. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <lmdb.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "store/store_int.h"

enum {
    TABLES_MAX = 4096,  /* every read transaction allocates about 60 bytes per possible table */
    READERS_MAX = 1024, /* slots in LMDB's reader table */
    IDLE_MAX = 16,      /* read transactions kept for reuse */
    READER_CHECK_EVERY = 256
};
#define MAP_FIRST ((size_t) 1 << 30)
/* The range at least doubles, so that moving it stays rare. */
#define MAP_STEP_MAX ((size_t) 64 << 30)

struct env {
    MDB_env *mdb;
    int lock_fd; /* keeps other processes out; -1 when not open */
    size_t max_bytes;
    bool is_read_only;

    pthread_mutex_t write_lock;
    size_t map_bytes; /* guarded by write_lock */
    uint64_t n_commit; /* guarded by write_lock */

    pthread_mutex_t gate;
    pthread_cond_t gate_changed;
    unsigned n_reading;      /* open read transactions */
    bool is_growing;
    MDB_txn *idle[IDLE_MAX]; /* reset read transactions */
    unsigned n_idle;
};

static anx_status
fail_lmdb(anx_error *err, int code, const char *what)
{
    anx_status st = ANX_E_IO;

    switch (code) {
    case MDB_CORRUPTED:
    case MDB_PAGE_NOTFOUND:
    case MDB_INVALID:
    case MDB_PANIC: st = ANX_E_CORRUPT; break;
    case MDB_VERSION_MISMATCH: st = ANX_E_VERSION; break;
    case MDB_READERS_FULL: st = ANX_E_BUSY; break;
    case MDB_DBS_FULL:
    case MDB_MAP_FULL: st = ANX_E_LIMIT; break;
    case ENOMEM: st = ANX_E_NOMEM; break;
    default: break;
    }
    return anx_fail(err, st, "could not %s: %s", what, mdb_strerror(code));
}

/* ---- Opening ---- */

/* A lock of our own on the folder: LMDB allows several processes, the layers above do not. */
static anx_status
lock_folder(struct env *env, const char *path, anx_error *err)
{
    char name[4096];

    if (snprintf(name, sizeof(name), "%s/lock", path) >= (int) sizeof(name))
        return anx_fail(err, ANX_E_INVALID, "the path \"%.100s...\" is too long", path);
    env->lock_fd = open(name, O_RDWR | O_CREAT | O_CLOEXEC, 0640);
    if (env->lock_fd < 0)
        return anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", name, strerror(errno));
    if (flock(env->lock_fd, (env->is_read_only ? LOCK_SH : LOCK_EX) | LOCK_NB) != 0)
        return errno == EWOULDBLOCK
                   ? anx_fail(err, ANX_E_BUSY, "the folder \"%s\" is in use by another process", path)
                   : anx_fail(err, ANX_E_IO, "could not lock \"%s\": %s", name, strerror(errno));
    return ANX_OK;
}

/* Verifies the data file, and gives its size. */
static anx_status
check_folder(const char *path, size_t *size, anx_error *err)
{
    char name[4096];
    struct stat info;
    anx_status st;
    int fd;

    *size = 0;
    if (snprintf(name, sizeof(name), "%s/data.mdb", path) >= (int) sizeof(name))
        return anx_fail(err, ANX_E_INVALID, "the path \"%.100s...\" is too long", path);
    fd = open(name, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT)
        return ANX_OK;
    if (fd < 0 || fstat(fd, &info) != 0) {
        st = anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", name, strerror(errno));
    } else {
        *size = (size_t) info.st_size;
        st = lmdb_check_file(fd, err);
        if (st != ANX_OK)
            anx_error_context(err, "%s", name);
    }
    if (fd >= 0)
        close(fd);
    return st;
}

static anx_status
open_environment(struct env *env, const struct store_params *params, size_t file_size, anx_error *err)
{
    size_t map = params->map_bytes ? params->map_bytes : MAP_FIRST;
    unsigned flags = MDB_NOTLS | (params->is_read_only ? MDB_RDONLY : 0);
    int code = mdb_env_create(&env->mdb);

    while (map < file_size)
        map *= 2;
    env->map_bytes = map;
    if (code == 0)
        code = mdb_env_set_mapsize(env->mdb, map);
    if (code == 0)
        code = mdb_env_set_maxdbs(env->mdb, TABLES_MAX);
    if (code == 0)
        code = mdb_env_set_maxreaders(env->mdb, READERS_MAX);
    if (code == 0)
        code = mdb_env_open(env->mdb, params->path, flags, 0640);
    return code == 0 ? ANX_OK : fail_lmdb(err, code, "open the data file");
}

static void
env_close(void *self)
{
    struct env *env = self;

    if (!env)
        return;
    for (unsigned i = 0; i < env->n_idle; i++)
        mdb_txn_abort(env->idle[i]);
    if (env->mdb)
        mdb_env_close(env->mdb);
    if (env->lock_fd >= 0)
        close(env->lock_fd);
    pthread_cond_destroy(&env->gate_changed);
    pthread_mutex_destroy(&env->gate);
    pthread_mutex_destroy(&env->write_lock);
    anx_free(NULL, env);
}

static anx_status
env_open(const struct store_params *params, void **self, anx_error *err)
{
    struct env *env = anx_alloc_zeroed(NULL, 1, sizeof(*env));
    size_t file_size;
    anx_status st;

    *self = NULL;
    if (!env)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    pthread_mutex_init(&env->write_lock, NULL);
    pthread_mutex_init(&env->gate, NULL);
    pthread_cond_init(&env->gate_changed, NULL);
    env->lock_fd = -1;
    env->max_bytes = params->max_bytes;
    env->is_read_only = params->is_read_only;
    if (!env->is_read_only && mkdir(params->path, 0750) != 0 && errno != EEXIST) {
        st = anx_fail(err, ANX_E_IO, "could not make the folder \"%s\": %s", params->path, strerror(errno));
        goto out;
    }
    st = lock_folder(env, params->path, err);
    if (params->is_beside && st == ANX_E_BUSY) {
        /* Its owner has verified the pages, and changes them now. */
        struct stat info = { .st_size = 0 };
        char name[4096];

        st = ANX_OK;
        if (snprintf(name, sizeof(name), "%s/data.mdb", params->path) >= (int) sizeof(name) ||
            stat(name, &info) != 0)
            st = anx_fail(err, ANX_E_IO, "could not find \"%s/data.mdb\"", params->path);
        file_size = (size_t) info.st_size;
    } else if (st == ANX_OK) {
        st = check_folder(params->path, &file_size, err);
    }
    if (params->is_beside && env->lock_fd >= 0) { /* the owner may come and go */
        close(env->lock_fd);
        env->lock_fd = -1;
    }
    if (st == ANX_OK)
        st = open_environment(env, params, file_size, err);
out:
    if (st != ANX_OK)
        env_close(env);
    else
        *self = env;
    return st;
}

/* ---- Reading ---- */

/* Opens or renews a read transaction; the gate counts it. */
static anx_status
reader_enter(struct env *env, MDB_txn **txn, anx_error *err)
{
    int code;

    pthread_mutex_lock(&env->gate);
    while (env->is_growing)
        pthread_cond_wait(&env->gate_changed, &env->gate);
    env->n_reading++;
    *txn = env->n_idle > 0 ? env->idle[--env->n_idle] : NULL;
    pthread_mutex_unlock(&env->gate);
    code = *txn ? mdb_txn_renew(*txn) : mdb_txn_begin(env->mdb, NULL, MDB_RDONLY, txn);
    if (code == 0)
        return ANX_OK;
    if (*txn)
        mdb_txn_abort(*txn);
    *txn = NULL;
    pthread_mutex_lock(&env->gate);
    env->n_reading--;
    pthread_cond_broadcast(&env->gate_changed);
    pthread_mutex_unlock(&env->gate);
    return fail_lmdb(err, code, "begin to read");
}

static void
reader_leave(struct env *env, MDB_txn *txn)
{
    mdb_txn_reset(txn);
    pthread_mutex_lock(&env->gate);
    if (env->n_idle < IDLE_MAX) {
        env->idle[env->n_idle++] = txn;
        txn = NULL;
    }
    env->n_reading--;
    pthread_cond_broadcast(&env->gate_changed);
    pthread_mutex_unlock(&env->gate);
    if (txn)
        mdb_txn_abort(txn);
}

static anx_status
env_read_begin(void *self, void **read, anx_error *err)
{
    MDB_txn *txn = NULL;
    anx_status st = reader_enter(self, &txn, err);

    *read = txn;
    return st;
}

static void
env_read_end(void *self, void *read)
{
    reader_leave(self, read);
}

static uint64_t
env_read_id(void *read)
{
    return mdb_txn_id(read);
}

/* LMDB wants pointers to bytes that may be written; it does not write to them. */
static MDB_val
to_val(anx_text text)
{
    const void *data = text.data;
    MDB_val val = { .mv_size = text.size };

    memcpy(&val.mv_data, &data, sizeof(data));
    return val;
}

static anx_text
to_text(MDB_val val)
{
    return (anx_text) { val.mv_data, val.mv_size };
}

static anx_status
env_get(void *self, void *read, uint64_t handle, anx_text key, anx_text *value, anx_error *err)
{
    MDB_val mkey = to_val(key);
    MDB_val mvalue;
    int code = mdb_get(read, (MDB_dbi) handle, &mkey, &mvalue);

    (void) self;
    if (code == MDB_NOTFOUND)
        return anx_fail(err, ANX_E_NOT_FOUND, "no such key");
    if (code != 0)
        return fail_lmdb(err, code, "read a value");
    *value = to_text(mvalue);
    return ANX_OK;
}

static anx_status
env_scan(void *self, void *read, uint64_t handle, anx_text from,
         bool (*each)(void *context, anx_text key, anx_text value), void *context, anx_error *err)
{
    MDB_cursor *cursor;
    MDB_val key = to_val(from);
    MDB_val value;
    int code = mdb_cursor_open(read, (MDB_dbi) handle, &cursor);

    (void) self;
    if (code != 0)
        return fail_lmdb(err, code, "open a table");
    code = mdb_cursor_get(cursor, &key, &value, from.size > 0 ? MDB_SET_RANGE : MDB_FIRST);
    while (code == 0 && each(context, to_text(key), to_text(value)))
        code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT);
    mdb_cursor_close(cursor);
    return code == 0 || code == MDB_NOTFOUND ? ANX_OK : fail_lmdb(err, code, "read a table");
}

/* ---- Writing ---- */

/* Makes the address range larger; write_lock held, no write transaction open. False: at the limit. */
static bool
grow(struct env *env)
{
    size_t step = env->map_bytes < MAP_STEP_MAX ? env->map_bytes : MAP_STEP_MAX;
    size_t want = env->map_bytes + step;
    int code;

    if (env->max_bytes && want > env->max_bytes)
        want = env->max_bytes;
    if (want <= env->map_bytes)
        return false;
    pthread_mutex_lock(&env->gate);
    env->is_growing = true;
    while (env->n_reading > 0)
        pthread_cond_wait(&env->gate_changed, &env->gate);
    code = mdb_env_set_mapsize(env->mdb, want);
    env->is_growing = false;
    pthread_cond_broadcast(&env->gate_changed);
    pthread_mutex_unlock(&env->gate);
    if (code == 0)
        env->map_bytes = want;
    anx_log(ANX_LOG_INFO, "event=store_grown bytes=%zu result=%s", want, mdb_strerror(code));
    return code == 0;
}

static int
apply_op(MDB_txn *txn, const struct store_op *op)
{
    MDB_dbi dbi = (MDB_dbi) op->table->handle;
    MDB_val key = to_val(store_op_key(op));
    MDB_val value = to_val(store_op_value(op));
    int code;

    switch (op->kind) {
    case OP_PUT: return mdb_put(txn, dbi, &key, &value, 0);
    case OP_DELETE: code = mdb_del(txn, dbi, &key, NULL); return code == MDB_NOTFOUND ? 0 : code;
    case OP_CLEAR: return mdb_drop(txn, dbi, 0);
    }
    return EINVAL;
}

static int
apply(struct env *env, const struct store_batch *batches)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(env->mdb, NULL, 0, &txn);

    if (code != 0)
        return code;
    for (const struct store_batch *batch = batches; code == 0 && batch; batch = batch->next) {
        const struct store_block *block = batch->first;

        for (const struct store_op *op = store_batch_next(&block, NULL); code == 0 && op;
             op = store_batch_next(&block, op))
            code = apply_op(txn, op);
    }
    if (code == 0)
        return mdb_txn_commit(txn); /* frees the transaction in any case */
    mdb_txn_abort(txn);
    return code;
}

static anx_status
env_commit(void *self, const struct store_batch *batches, bool *is_retryable, anx_error *err)
{
    struct env *env = self;
    int code, dead;

    pthread_mutex_lock(&env->write_lock);
    if (env->n_commit++ % READER_CHECK_EVERY == 0)
        (void) mdb_reader_check(env->mdb, &dead); /* a reader that was killed would keep its pages for ever */
    do
        code = apply(env, batches);
    while (code == MDB_MAP_FULL && grow(env));
    pthread_mutex_unlock(&env->write_lock);
    *is_retryable = code == ENOSPC || code == EDQUOT || code == MDB_MAP_FULL;
    return code == 0 ? ANX_OK : fail_lmdb(err, code, "commit");
}

/* ---- Tables ---- */

static int
table_open_once(struct env *env, const char *name, bool create, MDB_dbi *dbi)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(env->mdb, NULL, env->is_read_only ? MDB_RDONLY : 0, &txn);

    if (code != 0)
        return code;
    code = mdb_dbi_open(txn, name, create ? MDB_CREATE : 0, dbi);
    if (code == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

static anx_status
env_table_open(void *self, const char *name, bool create, uint64_t *handle, anx_error *err)
{
    struct env *env = self;
    MDB_dbi dbi = 0;
    int code;

    pthread_mutex_lock(&env->write_lock);
    do
        code = table_open_once(env, name, create, &dbi);
    while (code == MDB_MAP_FULL && grow(env));
    pthread_mutex_unlock(&env->write_lock);
    *handle = dbi;
    if (code == MDB_NOTFOUND)
        return anx_fail(err, ANX_E_NOT_FOUND, "there is no table \"%s\"", name);
    return code == 0 ? ANX_OK : fail_lmdb(err, code, "open a table");
}

static int
table_drop_once(struct env *env, MDB_dbi dbi, bool with_entry)
{
    MDB_txn *txn;
    int code = mdb_txn_begin(env->mdb, NULL, 0, &txn);

    if (code != 0)
        return code;
    code = mdb_drop(txn, dbi, with_entry);
    if (code == 0)
        return mdb_txn_commit(txn);
    mdb_txn_abort(txn);
    return code;
}

/* In two transactions, because removing the entry closes the handle even if the commit fails then: what can
 * need much room (freeing the pages) comes first, and what is left needs a page or two. */
static anx_status
env_table_drop(void *self, uint64_t handle, anx_error *err)
{
    struct env *env = self;
    int code = 0;

    pthread_mutex_lock(&env->write_lock);
    for (int with_entry = 0; code == 0 && with_entry < 2; with_entry++)
        do
            code = table_drop_once(env, (MDB_dbi) handle, with_entry);
        while (code == MDB_MAP_FULL && grow(env));
    pthread_mutex_unlock(&env->write_lock);
    return code == 0 ? ANX_OK : fail_lmdb(err, code, "drop a table");
}

static anx_status
env_table_names(void *self, void (*each)(void *context, anx_text name), void *context, anx_error *err)
{
    struct env *env = self;
    MDB_txn *txn;
    MDB_cursor *cursor;
    MDB_dbi dbi;
    MDB_val key;
    MDB_val value;
    int code;
    anx_status st;

    pthread_mutex_lock(&env->write_lock); /* handles are opened by one thread at a time */
    st = reader_enter(env, &txn, err);
    if (st != ANX_OK)
        goto out;
    code = mdb_dbi_open(txn, NULL, 0, &dbi);
    if (code == 0)
        code = mdb_cursor_open(txn, dbi, &cursor);
    if (code == 0) {
        while ((code = mdb_cursor_get(cursor, &key, &value, MDB_NEXT)) == 0)
            each(context, to_text(key));
        mdb_cursor_close(cursor);
    }
    reader_leave(env, txn);
    if (code != MDB_NOTFOUND)
        st = fail_lmdb(err, code, "list the tables");
out:
    pthread_mutex_unlock(&env->write_lock);
    return st;
}

/* ---- Care ---- */

static anx_status
env_check(void *self, anx_error *err)
{
    struct env *env = self;
    mdb_filehandle_t fd;
    anx_status st;
    int code = mdb_env_get_fd(env->mdb, &fd);

    if (code != 0)
        return fail_lmdb(err, code, "check the data file");
    pthread_mutex_lock(&env->write_lock);
    st = lmdb_check_file(fd, err);
    pthread_mutex_unlock(&env->write_lock);
    return st;
}

static anx_status
env_copy(void *self, const char *path, anx_error *err)
{
    struct env *env = self;
    MDB_txn *txn;
    anx_status st;
    int code;

    if (mkdir(path, 0750) != 0 && errno != EEXIST)
        return anx_fail(err, ANX_E_IO, "could not make the folder \"%s\": %s", path, strerror(errno));
    /* The copy makes a read transaction of its own; ours keeps the range from growing meanwhile. */
    st = reader_enter(env, &txn, err);
    if (st != ANX_OK)
        return st;
    code = mdb_env_copy2(env->mdb, path, MDB_CP_COMPACT);
    reader_leave(env, txn);
    return code == 0 ? ANX_OK : fail_lmdb(err, code, "copy the data file");
}

static void
env_sizes(void *self, uint64_t *used, uint64_t *file)
{
    struct env *env = self;
    MDB_envinfo info;
    MDB_stat stat;
    mdb_filehandle_t fd;
    struct stat status;

    *used = *file = 0;
    if (mdb_env_info(env->mdb, &info) == 0 && mdb_env_stat(env->mdb, &stat) == 0)
        *used = ((uint64_t) info.me_last_pgno + 1) * stat.ms_psize;
    if (mdb_env_get_fd(env->mdb, &fd) == 0 && fstat(fd, &status) == 0)
        *file = (uint64_t) status.st_size;
}

const struct store_backend store_lmdb = {
    .name = "lmdb",
    .open = env_open,
    .close = env_close,
    .commit = env_commit,
    .table_open = env_table_open,
    .table_drop = env_table_drop,
    .table_names = env_table_names,
    .read_begin = env_read_begin,
    .read_end = env_read_end,
    .read_id = env_read_id,
    .get = env_get,
    .scan = env_scan,
    .check = env_check,
    .copy = env_copy,
    .sizes = env_sizes,
};
