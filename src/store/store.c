/* The store in front of its backend: tables by name, the queue of batches and the thread that commits them,
 * and the checksums of values.
 *
 * The committer takes everything that is queued, hands it to the backend as one commit, and wakes whoever
 * waits. So the number of syncs follows the disk and not the number of writers. With STORE_DURABLE_ASYNC it
 * lets batches gather for sync_ms first.
 *
 * A commit that failed because the disk is full stays at the head and is tried again: batches are never
 * skipped, so what is durable is a prefix of what was submitted at all times. Any other failure is final.
 *
 * Locks: `lock` guards every field below it; nothing is called with it held. table_lock makes opening and
 * dropping of tables one at a time, and comes before `lock`. */
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/log.h"
#include "store/store_int.h"

#define QUEUED_DEFAULT ((size_t) 64 << 20)
enum { SYNC_MS_DEFAULT = 100, RETRY_MS = 1000 };

struct store {
    struct store_params params; /* path is not kept */
    const struct store_backend *backend;
    void *self; /* of the backend */
    pthread_t thread;
    bool is_started;

    pthread_mutex_t table_lock;
    struct store_table *tables; /* open ones, owned; guarded by table_lock */

    pthread_mutex_t lock;
    pthread_cond_t work;    /* something was queued, or hurry, or quit */
    pthread_cond_t settled; /* durable moved, room in the queue, or a failure */
    struct store_batch *head, *tail;
    size_t queued_bytes;  /* in the queue and in the commit that runs */
    uint64_t last_ticket; /* submitted */
    uint64_t durable;     /* every ticket up to it is durable */
    uint64_t hurry;       /* ASYNC: commit up to this ticket without letting batches gather */
    uint64_t commits, batches;
    bool is_quitting;
    bool is_failing;      /* the last commit failed */
    bool is_dead;         /* and will not be tried again */
    anx_error failure;
};

struct store_read {
    struct store *store;
    void *self; /* of the backend */
};

static struct timespec
in_ms(unsigned ms)
{
    struct timespec at;

    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += ms / 1000;
    at.tv_nsec += (long) (ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

/* ---- The committer ---- */

/* Until there is work, or nothing but to quit. ASYNC: lets batches gather. lock held. */
static void
committer_wait(struct store *store)
{
    struct timespec until;

    while (!store->head && !store->is_quitting)
        pthread_cond_wait(&store->work, &store->lock);
    if (store->params.durability != STORE_DURABLE_ASYNC)
        return;
    until = in_ms(store->params.sync_ms);
    while (!store->is_quitting && store->hurry <= store->durable
           && store->queued_bytes < store->params.max_queued / 2)
        if (pthread_cond_timedwait(&store->work, &store->lock, &until) != 0)
            break;
}

static void
free_batches(struct store_batch *batch)
{
    while (batch) {
        struct store_batch *next = batch->next;

        store_batch_destroy(batch);
        batch = next;
    }
}

/* The commit of `group` failed: remember why, and either give up or wait before the next try. lock held. */
static void
committer_failed(struct store *store, bool is_retryable, const anx_error *err)
{
    struct timespec until = in_ms(RETRY_MS);

    if (!store->is_failing)
        anx_log(ANX_LOG_ERROR, "event=store_failed retry=%d cause=\"%s\"", is_retryable, err->message);
    store->is_failing = true;
    store->is_dead = !is_retryable || store->is_quitting;
    store->failure = *err;
    pthread_cond_broadcast(&store->settled);
    while (!store->is_dead && !store->is_quitting)
        if (pthread_cond_timedwait(&store->work, &store->lock, &until) != 0)
            break;
}

/* Commits a group, however often it takes. lock held on entry and exit; false when the store is dead. */
static bool
committer_run(struct store *store, const struct store_batch *group)
{
    anx_error err = { 0 };
    bool is_retryable = false;
    anx_status st;

    do {
        pthread_mutex_unlock(&store->lock);
        st = store->backend->commit(store->self, group, &is_retryable, &err);
        pthread_mutex_lock(&store->lock);
        if (st != ANX_OK)
            committer_failed(store, is_retryable, &err);
    } while (st != ANX_OK && !store->is_dead);
    if (st == ANX_OK && store->is_failing) {
        store->is_failing = false;
        anx_log(ANX_LOG_INFO, "event=store_recovered");
    }
    return st == ANX_OK;
}

static void *
committer_main(void *context)
{
    struct store *store = context;

    pthread_mutex_lock(&store->lock);
    for (;;) {
        struct store_batch *group;
        size_t bytes = 0;

        committer_wait(store);
        if (!store->head)
            break;
        group = store->head;
        store->head = store->tail = NULL;
        if (!committer_run(store, group)) {
            free_batches(group);
            break;
        }
        store->commits++;
        for (const struct store_batch *batch = group; batch; batch = batch->next) {
            bytes += batch->bytes;
            store->batches++;
            store->durable = batch->ticket;
        }
        store->queued_bytes -= bytes;
        pthread_cond_broadcast(&store->settled);
        pthread_mutex_unlock(&store->lock);
        free_batches(group);
        pthread_mutex_lock(&store->lock);
    }
    free_batches(store->head);
    store->head = store->tail = NULL;
    pthread_mutex_unlock(&store->lock);
    return NULL;
}

/* ---- Opening and closing ---- */

static anx_status
store_start(struct store *store, anx_error *err)
{
    sigset_t all;
    sigset_t before;
    int code;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&store->thread, NULL, committer_main, store);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    store->is_started = code == 0;
    return code == 0 ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not start the thread that commits");
}

anx_status
store_open(const struct store_params *params, struct store **out, anx_error *err)
{
    struct store *store = anx_alloc_zeroed(NULL, 1, sizeof(*store));
    pthread_condattr_t monotonic;
    anx_status st;

    *out = NULL;
    if (!store)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    store->params = *params;
    store->params.path = NULL;
    if (!store->params.max_queued)
        store->params.max_queued = QUEUED_DEFAULT;
    if (!store->params.sync_ms)
        store->params.sync_ms = SYNC_MS_DEFAULT;
    store->backend = &store_lmdb;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&store->table_lock, NULL);
    pthread_mutex_init(&store->lock, NULL);
    pthread_cond_init(&store->work, &monotonic);
    pthread_cond_init(&store->settled, &monotonic);
    pthread_condattr_destroy(&monotonic);
    st = store->backend->open(params, &store->self, err);
    if (st == ANX_OK && !params->is_read_only)
        st = store_start(store, err);
    if (st != ANX_OK)
        store_close(store);
    else
        *out = store;
    return st;
}

void
store_close(struct store *store)
{
    if (!store)
        return;
    if (store->is_started) {
        pthread_mutex_lock(&store->lock);
        store->is_quitting = true;
        pthread_cond_signal(&store->work);
        pthread_mutex_unlock(&store->lock);
        pthread_join(store->thread, NULL);
    }
    store->backend->close(store->self);
    for (struct store_table *table = store->tables; table;) {
        struct store_table *next = table->next;

        anx_free(NULL, table->name);
        anx_free(NULL, table);
        table = next;
    }
    pthread_cond_destroy(&store->settled);
    pthread_cond_destroy(&store->work);
    pthread_mutex_destroy(&store->lock);
    pthread_mutex_destroy(&store->table_lock);
    anx_free(NULL, store);
}

/* ---- Tables ---- */

static struct store_table *
find_table(struct store *store, anx_text name)
{
    struct store_table *table = store->tables;

    while (table && !anx_text_equal(anx_text_of(table->name), name))
        table = table->next;
    return table;
}

static void
free_table(struct store_table *table)
{
    anx_free(NULL, table->name);
    anx_free(NULL, table);
}

anx_status
store_table(struct store *store, anx_text name, bool create, struct store_table **out, anx_error *err)
{
    struct store_table *table;
    anx_status st = ANX_OK;

    *out = NULL;
    if (name.size == 0 || name.size > STORE_KEY_MAX || memchr(name.data, '\0', name.size))
        return anx_fail(err, ANX_E_INVALID, "\"%.*s\" cannot be the name of a table", ANX_TEXT_ARG(name));
    pthread_mutex_lock(&store->table_lock);
    table = find_table(store, name);
    if (table) {
        *out = table;
        goto out;
    }
    table = anx_alloc_zeroed(NULL, 1, sizeof(*table));
    if (table)
        table->name = anx_alloc_zeroed(NULL, name.size + 1, 1);
    if (!table || !table->name) {
        anx_free(NULL, table);
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
        goto out;
    }
    memcpy(table->name, name.data, name.size);
    st = store->backend->table_open(store->self, table->name, create, &table->handle, err);
    if (st != ANX_OK) {
        free_table(table);
        goto out;
    }
    table->next = store->tables;
    store->tables = table;
    *out = table;
out:
    pthread_mutex_unlock(&store->table_lock);
    return st;
}

anx_status
store_table_drop(struct store *store, struct store_table *table, anx_error *err)
{
    struct store_table **link;
    uint64_t last;
    anx_status st;

    pthread_mutex_lock(&store->lock);
    last = store->last_ticket;
    store->hurry = last;
    pthread_cond_signal(&store->work);
    while (store->durable < last && !store->is_failing)
        pthread_cond_wait(&store->settled, &store->lock);
    st = store->durable < last ? anx_fail(err, ANX_E_IO, "%s", store->failure.message) : ANX_OK;
    pthread_mutex_unlock(&store->lock);
    if (st != ANX_OK)
        return st;
    pthread_mutex_lock(&store->table_lock);
    st = store->backend->table_drop(store->self, table->handle, err);
    if (st == ANX_OK) {
        for (link = &store->tables; *link != table; link = &(*link)->next)
            ;
        *link = table->next;
        free_table(table);
    }
    pthread_mutex_unlock(&store->table_lock);
    return st;
}

anx_status
store_table_names(struct store *store, void (*each)(void *context, anx_text name), void *context,
                  anx_error *err)
{
    return store->backend->table_names(store->self, each, context, err);
}

/* ---- Writing ---- */

static anx_status
refused(const struct store *store, anx_error *err)
{
    return anx_fail(err, ANX_E_IO, "the storage does not take writes: %s", store->failure.message);
}

anx_status
store_submit(struct store *store, struct store_batch *batch, uint64_t *ticket, anx_error *err)
{
    anx_status st = ANX_OK;

    *ticket = 0;
    if (batch->failed) {
        store_batch_destroy(batch);
        return anx_fail(err, ANX_E_NOMEM, "out of memory while collecting changes");
    }
    if (!store->is_started) {
        store_batch_destroy(batch);
        return anx_fail(err, ANX_E_STATE, "the store is open for reading only");
    }
    pthread_mutex_lock(&store->lock);
    /* A batch larger than the limit is taken when nothing else waits. */
    while (!store->is_failing && store->queued_bytes > 0
           && store->queued_bytes + batch->bytes > store->params.max_queued) {
        store->hurry = store->last_ticket;
        pthread_cond_signal(&store->work);
        pthread_cond_wait(&store->settled, &store->lock);
    }
    if (store->is_failing) {
        st = refused(store, err);
    } else {
        batch->ticket = *ticket = ++store->last_ticket;
        batch->next = NULL;
        if (store->tail)
            store->tail->next = batch;
        else
            store->head = batch;
        store->tail = batch;
        store->queued_bytes += batch->bytes;
        pthread_cond_signal(&store->work);
    }
    pthread_mutex_unlock(&store->lock);
    if (st != ANX_OK)
        store_batch_destroy(batch);
    return st;
}

anx_status
store_wait(struct store *store, uint64_t ticket, anx_error *err)
{
    anx_status st = ANX_OK;

    pthread_mutex_lock(&store->lock);
    if (store->params.durability == STORE_DURABLE_SYNC)
        while (store->durable < ticket && !store->is_failing)
            pthread_cond_wait(&store->settled, &store->lock);
    if (store->durable < ticket && store->is_failing)
        st = refused(store, err);
    pthread_mutex_unlock(&store->lock);
    return st;
}

uint64_t
store_durable(struct store *store)
{
    uint64_t durable;

    pthread_mutex_lock(&store->lock);
    durable = store->durable;
    pthread_mutex_unlock(&store->lock);
    return durable;
}

/* ---- Reading ---- */

anx_status
store_read_begin(struct store *store, struct store_read **out, anx_error *err)
{
    struct store_read *read = anx_alloc_zeroed(NULL, 1, sizeof(*read));
    anx_status st;

    *out = NULL;
    if (!read)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    read->store = store;
    st = store->backend->read_begin(store->self, &read->self, err);
    if (st != ANX_OK)
        anx_free(NULL, read);
    else
        *out = read;
    return st;
}

void
store_read_end(struct store_read *read)
{
    if (!read)
        return;
    read->store->backend->read_end(read->store->self, read->self);
    anx_free(NULL, read);
}

uint64_t
store_read_id(const struct store_read *read)
{
    return read->store->backend->read_id(read->self);
}

anx_status
store_verify(anx_text table, anx_text key, anx_text *value, anx_error *err)
{
    char shown[2 * 24 + 1];
    size_t n = key.size < 24 ? key.size : 24;

    if (value->size >= STORE_SUM_SIZE) {
        size_t size = value->size - STORE_SUM_SIZE;

        if (anx_load_le((const uint8_t *) value->data + size, STORE_SUM_SIZE)
            == store_sum(key, value->data, size)) {
            value->size = size;
            return ANX_OK;
        }
    }
    for (size_t i = 0; i < n; i++)
        (void) snprintf(shown + 2 * i, 3, "%02x", (unsigned char) key.data[i]);
    shown[2 * n] = '\0';
    return anx_fail(err, ANX_E_CORRUPT, "the value of key %s%s in table \"%.*s\" is damaged: wrong checksum",
                    shown, key.size > n ? "..." : "", ANX_TEXT_ARG(table));
}

anx_status
store_get(struct store_read *read, struct store_table *table, anx_text key, anx_text *value, anx_error *err)
{
    const struct store *store = read->store;
    anx_status st = store->backend->get(store->self, read->self, table->handle, key, value, err);

    return st == ANX_OK ? store_verify(anx_text_of(table->name), key, value, err) : st;
}

anx_status
store_peek(struct store_read *read, struct store_table *table, anx_text key, anx_text *value)
{
    const struct store *store = read->store;
    anx_status st = store->backend->get(store->self, read->self, table->handle, key, value, NULL);

    if (st == ANX_OK && value->size < STORE_SUM_SIZE)
        return ANX_E_CORRUPT;
    if (st == ANX_OK)
        value->size -= STORE_SUM_SIZE;
    return st;
}

struct scan {
    anx_text table;
    bool (*each)(void *context, anx_text key, anx_text value);
    void *context;
    anx_status st;
    anx_error *err;
};

static bool
scan_each(void *context, anx_text key, anx_text value)
{
    struct scan *scan = context;

    scan->st = store_verify(scan->table, key, &value, scan->err);
    return scan->st == ANX_OK && scan->each(scan->context, key, value);
}

anx_status
store_scan(struct store_read *read, struct store_table *table, anx_text from,
           bool (*each)(void *context, anx_text key, anx_text value), void *context, anx_error *err)
{
    const struct store *store = read->store;
    struct scan scan = { .table = anx_text_of(table->name), .each = each, .context = context, .err = err };
    anx_status st =
        store->backend->scan(store->self, read->self, table->handle, from, scan_each, &scan, err);

    return st == ANX_OK ? scan.st : st;
}

/* ---- Care ---- */

static bool
check_each(void *context, anx_text key, anx_text value)
{
    (void) context;
    (void) key;
    (void) value;
    return true;
}

struct name_list {
    char (*names)[STORE_KEY_MAX + 1]; /* owned */
    size_t n;
    bool failed;
};

static void
name_list_add(void *context, anx_text name)
{
    struct name_list *list = context;
    char(*more)[STORE_KEY_MAX + 1] = anx_realloc_array(NULL, list->names, list->n + 1, sizeof(*more));

    if (!more || name.size > STORE_KEY_MAX) {
        list->failed = true;
        list->names = more ? more : list->names;
        return;
    }
    list->names = more;
    (void) snprintf(more[list->n++], sizeof(*more), "%.*s", ANX_TEXT_ARG(name));
}

anx_status
store_inspect(struct store *store, anx_error *err)
{
    struct name_list list = { 0 };
    struct store_read *read = NULL;
    anx_status st = store->backend->check(store->self, err);

    if (st == ANX_OK)
        st = store_table_names(store, name_list_add, &list, err);
    if (st == ANX_OK && list.failed)
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    for (size_t i = 0; st == ANX_OK && i < list.n; i++) {
        struct store_table *table;

        st = store_table(store, anx_text_of(list.names[i]), false, &table, err);
        if (st == ANX_OK)
            st = store_read_begin(store, &read, err);
        if (st == ANX_OK)
            st = store_scan(read, table, (anx_text) { NULL, 0 }, check_each, NULL, err);
        store_read_end(read);
        read = NULL;
    }
    anx_free(NULL, list.names);
    return st;
}

anx_status
store_copy(struct store *store, const char *path, anx_error *err)
{
    return store->backend->copy(store->self, path, err);
}

void
store_get_stats(struct store *store, struct store_stats *out)
{
    memset(out, 0, sizeof(*out));
    store->backend->sizes(store->self, &out->bytes_used, &out->bytes_file);
    pthread_mutex_lock(&store->lock);
    out->commits = store->commits;
    out->batches = store->batches;
    out->queued_bytes = store->queued_bytes;
    out->is_ok = !store->is_failing;
    if (store->is_failing)
        (void) snprintf(out->failure, sizeof(out->failure), "%.*s", (int) sizeof(out->failure) - 1,
                        store->failure.message);
    pthread_mutex_unlock(&store->lock);
}
