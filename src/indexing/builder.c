/* See builder.h. */
#include "indexing/builder.h"

#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

#define BATCH_BYTES ((size_t) 256 << 10)
#define BATCH_ROWS_MAX 8192
#define BATCHES_USUAL 8
#define LAG_MS 2000  /* then one more batch is made; far below the 10 s that original clients bear */
#define TURN_MS 1000 /* how often a waiting build looks for itself */

struct builder {
    struct builder_params params;
    struct budget_account account;
    anx_index *index;   /* owned; the builder's thread until DONE */
    anx_loader *loader; /* owned; the builder's thread */
    size_t row_size, batch_rows;
    size_t n_row;        /* the builder's thread: rows given to the loader */
    size_t slot_size;    /* bytes the engine maps per row */
    int turn_fd;         /* owned: written when the queue of builds moves, and by destroy */
    pthread_t thread;
    bool has_thread;
    atomic_bool is_cancelled; /* relaxed: only makes things stop */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t given; /* full has a batch, or no more will come */
    pthread_cond_t taken; /* free has a batch, or the state changed */
    struct batch *free;
    struct batch *full, **full_last;
    size_t n_batch;
    bool is_complete;
    enum builder_state state;
    anx_error error;
};

void
anx_builder_label_text(uint64_t label, bool is_tid, char text[BUILDER_LABEL_SIZE])
{
    uint64_t block = (label & 0xffff) << 16 | (label >> 16 & 0xffff);

    if (is_tid && label >> 48 == 0)
        snprintf(text, BUILDER_LABEL_SIZE, "row (block %" PRIu64 ", offset %" PRIu64 ")", block, label >> 32);
    else
        snprintf(text, BUILDER_LABEL_SIZE, "row with label %" PRIu64, label);
}

/* What a slot of the graph takes in mapped pages: code, links, parent, label, flags, and the row as given.
 * The engine drops the latter when its codes are exact; until the end that is not known, so it is counted. */
static size_t
slot_size_of(const anx_index_params *params, size_t row_size)
{
    size_t code =
        params->scalar == ANX_SCALAR_B1 ? row_size : params->dim + (params->metric == ANX_METRIC_IP);

    if (params->quantization == ANX_QUANTIZATION_CODES) /* a residual in the row's place */
        row_size = sizeof(float);
    return (code + 63) / 64 * 64 + (3 * params->m + 1) * sizeof(uint32_t) + sizeof(uint64_t) + 1 + row_size;
}

static void
wake_session(const struct builder *builder)
{
    static const uint64_t one = 1;

    if (write(builder->params.wake_fd, &one, sizeof(one)) < 0)
        return; /* full: awake already */
}

static void
set_state(struct builder *builder, enum builder_state state, const anx_error *error)
{
    pthread_mutex_lock(&builder->lock);
    builder->state = state;
    if (error)
        builder->error = *error;
    pthread_cond_signal(&builder->taken);
    pthread_mutex_unlock(&builder->lock);
    wake_session(builder);
}

/* --- batches --- */

static struct batch *
batch_create(struct builder *builder)
{
    size_t n = builder->batch_rows;
    size_t head = (sizeof(struct batch) + 63) / 64 * 64;
    struct batch *batch = anx_alloc_bytes(&builder->account.alloc, head + n * (8 + builder->row_size));

    if (!batch)
        return NULL;
    *batch = (struct batch) { .capacity = n };
    batch->labels = (uint64_t *) (void *) ((uint8_t *) batch + head);
    batch->rows = (uint8_t *) (batch->labels + n);
    return batch;
}

static void
free_batches(struct builder *builder, struct batch *batch)
{
    while (batch) {
        struct batch *next = batch->next;

        anx_free(&builder->account.alloc, batch);
        batch = next;
    }
}

/* Until a batch comes back or LAG_MS are over. Holds the lock. */
static void
wait_for_free(struct builder *builder)
{
    struct timespec until;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += LAG_MS / 1000;
    while (!builder->free && builder->state == BUILDER_BUSY)
        if (pthread_cond_timedwait(&builder->taken, &builder->lock, &until) == ETIMEDOUT)
            return;
}

anx_status
anx_builder_batch(struct builder *builder, struct batch **out, anx_error *err)
{
    anx_status st = ANX_OK;
    struct batch *batch = NULL;

    pthread_mutex_lock(&builder->lock);
    if (!builder->free && builder->n_batch >= BATCHES_USUAL)
        wait_for_free(builder);
    if (builder->state == BUILDER_FAILED) {
        *err = builder->error;
        st = err->status;
    } else if (builder->free) {
        batch = builder->free;
        builder->free = batch->next;
    }
    pthread_mutex_unlock(&builder->lock);
    if (st == ANX_OK && !batch) {
        batch = batch_create(builder);
        if (batch)
            builder->n_batch++; /* only this thread changes it */
        else
            (void) anx_fail(err, ANX_E_NOMEM, "could not allocate room for %zu rows", builder->batch_rows);
        st = batch ? ANX_OK : anx_budget_explain(&builder->account, err);
    }
    if (batch) {
        batch->next = NULL;
        batch->n = 0;
    }
    *out = batch;
    return st;
}

void
anx_builder_put(struct builder *builder, struct batch *batch)
{
    pthread_mutex_lock(&builder->lock);
    if (batch->n == 0) {
        batch->next = builder->free;
        builder->free = batch;
    } else {
        *builder->full_last = batch;
        builder->full_last = &batch->next;
        pthread_cond_signal(&builder->given);
    }
    pthread_mutex_unlock(&builder->lock);
}

void
anx_builder_finish(struct builder *builder)
{
    pthread_mutex_lock(&builder->lock);
    builder->is_complete = true;
    pthread_cond_signal(&builder->given);
    pthread_mutex_unlock(&builder->lock);
}

/* --- the builder's thread --- */

static bool
is_cancelled(const struct builder *builder)
{
    return atomic_load_explicit(&builder->is_cancelled, memory_order_relaxed);
}

/* Gives `done` (may be NULL) back; the next full batch, or NULL: no more, or cancelled. */
static struct batch *
next_batch(struct builder *builder, struct batch *done)
{
    struct batch *batch;

    pthread_mutex_lock(&builder->lock);
    if (done) {
        done->next = builder->free;
        builder->free = done;
        pthread_cond_signal(&builder->taken);
    }
    while (!builder->full && !builder->is_complete && !is_cancelled(builder))
        pthread_cond_wait(&builder->given, &builder->lock);
    batch = is_cancelled(builder) ? NULL : builder->full;
    if (batch) {
        builder->full = batch->next;
        if (!builder->full)
            builder->full_last = &builder->full;
        batch->next = NULL;
    }
    pthread_mutex_unlock(&builder->lock);
    return batch;
}

/* A bad row fails its whole batch and says its place there; one by one, the row can be named by its label. */
static anx_status
load_singly(struct builder *builder, const struct batch *batch, anx_error *err)
{
    for (size_t i = 0; i < batch->n; i++) {
        anx_status st = anx_loader_rows(builder->loader, 1, batch->labels + i,
                                        batch->rows + i * builder->row_size, err);

        if (st != ANX_OK) {
            char label[BUILDER_LABEL_SIZE];

            anx_builder_label_text(batch->labels[i], builder->params.is_tid, label);
            anx_error_context(err, "%s", label);
            return st;
        }
    }
    return ANX_OK;
}

static void
note_memory(struct builder *builder)
{
    atomic_store_explicit(&builder->params.job->memory,
                          atomic_load_explicit(&builder->account.used, memory_order_relaxed),
                          memory_order_relaxed);
}

static anx_status
load_batch(struct builder *builder, const struct batch *batch, anx_error *err)
{
    anx_status st =
        anx_budget_charge(&builder->account, (builder->n_row + batch->n) * builder->slot_size, err);

    if (st == ANX_OK)
        st = anx_loader_rows(builder->loader, batch->n, batch->labels, batch->rows, err);
    if (st == ANX_E_VALUE || st == ANX_E_INVALID)
        st = load_singly(builder, batch, err);
    builder->n_row += batch->n;
    note_memory(builder);
    return st;
}

static anx_status
load_all(struct builder *builder, anx_error *err)
{
    struct batch *batch = NULL;
    anx_status st = ANX_OK;

    while (st == ANX_OK && (batch = next_batch(builder, batch)) != NULL)
        st = load_batch(builder, batch, err);
    if (batch)
        free_batches(builder, batch);
    if (st == ANX_OK && is_cancelled(builder))
        st = anx_fail(err, ANX_E_CANCELLED, "the build was cancelled");
    return st;
}

/* The batches are not needed any more, and a build is when memory is short. */
static void
drop_batches(struct builder *builder)
{
    struct batch *batch;

    pthread_mutex_lock(&builder->lock);
    batch = builder->free;
    builder->free = NULL;
    pthread_mutex_unlock(&builder->lock);
    free_batches(builder, batch);
}

/* Memory that the build itself will need beside the rows: candidates of every row and links back. The engine
 * knows better; this only decides whether builds run beside each other or one after the other. */
static size_t
build_need(const struct builder *builder)
{
    const anx_index_params *params = &builder->params.index;
    size_t partitions = params->ef_construction < 200 ? 1 : params->ef_construction / 100;

    return builder->n_row * (partitions * 48 * sizeof(uint32_t) + 3 * params->m * sizeof(uint32_t) + 32);
}

static anx_status
wait_for_turn(struct builder *builder, struct queue_ticket *ticket, anx_error *err)
{
    struct pollfd turn = { .fd = builder->turn_fd, .events = POLLIN };
    enum queue_answer answer =
        anx_queue_enter(builder->params.builds, ticket, NULL, builder->turn_fd, build_need(builder));

    if (answer == QUEUE_WAITING)
        anx_jobs_phase(builder->params.jobs, builder->params.job, JOB_WAITING);
    else if (answer != QUEUE_ADMITTED)
        return anx_fail(err, ANX_E_CANCELLED, "the server is shutting down");
    while (!anx_queue_is_admitted(builder->params.builds, ticket)) {
        uint64_t count;

        if (is_cancelled(builder))
            return anx_fail(err, ANX_E_CANCELLED, "the build was cancelled");
        if (poll(&turn, 1, TURN_MS) > 0 && read(builder->turn_fd, &count, sizeof(count)) < 0)
            continue;
        anx_queue_check(builder->params.builds); /* memory may have become free meanwhile */
    }
    return ANX_OK;
}

/* An anx_progress_fn. */
static bool
report(void *context, const char *step, size_t done, size_t total)
{
    struct builder *builder = context;
    struct job *job = builder->params.job;

    atomic_store_explicit(&job->step, step, memory_order_relaxed);
    atomic_store_explicit(&job->done, done, memory_order_relaxed);
    atomic_store_explicit(&job->total, total, memory_order_relaxed);
    note_memory(builder);
    return !is_cancelled(builder);
}

/* From what was assumed to what it is. */
static anx_status
charge_index(struct builder *builder, anx_error *err)
{
    anx_index_stats stats;
    size_t mapped;

    anx_index_get_stats(builder->index, &stats);
    mapped = stats.row_bytes + stats.code_bytes +
             stats.slots * ((3 * builder->params.index.m + 1) * sizeof(uint32_t) + sizeof(uint64_t) + 1);
    if (mapped > builder->account.charged)
        return ANX_OK;
    return anx_budget_charge(&builder->account, mapped, err);
}

static anx_status
build(struct builder *builder, anx_error *err)
{
    struct queue_ticket ticket = { 0 };
    anx_status st = wait_for_turn(builder, &ticket, err);

    if (st == ANX_OK) {
        anx_jobs_phase(builder->params.jobs, builder->params.job, JOB_BUILDING);
        st = anx_loader_finish(builder->loader, report, builder, err);
        builder->loader = NULL;
    }
    anx_queue_leave(builder->params.builds, &ticket);
    if (st == ANX_OK)
        st = charge_index(builder, err);
    note_memory(builder);
    return st;
}

/* A label that was given twice is found by the engine, which does not know that it is a place in a table. */
static void
name_double(const struct builder *builder, anx_error *err)
{
    char text[BUILDER_LABEL_SIZE];
    uint64_t label;

    if (err->status != ANX_E_EXISTS || sscanf(err->message, "label %" SCNu64, &label) != 1)
        return;
    anx_builder_label_text(label, builder->params.is_tid, text);
    anx_error_context(err, "%s", text);
}

static void *
builder_main(void *argument)
{
    struct builder *builder = argument;
    anx_error err;
    anx_status st = load_all(builder, &err);

    if (st == ANX_OK) {
        drop_batches(builder);
        st = build(builder, &err);
    }
    if (st != ANX_OK) {
        (void) anx_budget_explain(&builder->account, &err);
        name_double(builder, &err);
        anx_loader_abort(builder->loader);
        builder->loader = NULL;
    }
    set_state(builder, st == ANX_OK ? BUILDER_DONE : BUILDER_FAILED, st == ANX_OK ? NULL : &err);
    return NULL;
}

/* --- the session's side --- */

enum builder_state
anx_builder_state(struct builder *builder, anx_error *err)
{
    enum builder_state state;

    pthread_mutex_lock(&builder->lock);
    state = builder->state;
    if (state == BUILDER_FAILED && err)
        *err = builder->error;
    pthread_mutex_unlock(&builder->lock);
    return state;
}

const anx_index *
anx_builder_index(const struct builder *builder)
{
    return builder->index;
}

size_t
anx_builder_peak(const struct builder *builder)
{
    return atomic_load_explicit(&builder->account.peak, memory_order_relaxed);
}

static anx_status
start_thread(struct builder *builder, anx_error *err)
{
    int rc = pthread_create(&builder->thread, NULL, builder_main, builder);

    if (rc != 0)
        return anx_fail(err, ANX_E_NOMEM, "could not start a build thread: %s", strerror(rc));
    builder->has_thread = true;
    pthread_setname_np(builder->thread, "annex-build");
    return ANX_OK;
}

static void
init_sync(struct builder *builder)
{
    pthread_condattr_t attributes;

    pthread_mutex_init(&builder->lock, NULL);
    pthread_cond_init(&builder->given, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&builder->taken, &attributes);
    pthread_condattr_destroy(&attributes);
}

anx_status
anx_builder_create(const struct builder_params *params, struct builder **out, anx_error *err)
{
    struct builder *builder = anx_alloc_zeroed(NULL, 1, sizeof(*builder));
    anx_status st = ANX_OK;

    *out = NULL;
    if (!builder)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a build");
    builder->params = *params;
    anx_budget_open(&builder->account, params->budget);
    builder->params.index.alloc = &builder->account.alloc;
    builder->row_size = anx_row_size(params->index.scalar, params->index.dim);
    builder->slot_size = slot_size_of(&params->index, builder->row_size);
    builder->batch_rows = BATCH_BYTES / (builder->row_size + 8);
    builder->batch_rows = builder->batch_rows < 1 ? 1 : builder->batch_rows;
    builder->batch_rows = builder->batch_rows > BATCH_ROWS_MAX ? BATCH_ROWS_MAX : builder->batch_rows;
    builder->full_last = &builder->full;
    atomic_init(&builder->is_cancelled, false);
    init_sync(builder);
    builder->turn_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (builder->turn_fd < 0)
        st = anx_fail(err, ANX_E_IO, "could not create an event descriptor: %s", strerror(errno));
    if (st == ANX_OK)
        st = anx_index_create(&builder->params.index, &builder->index, err);
    if (st == ANX_OK)
        st = anx_loader_begin(builder->index, params->expected, &builder->loader, err);
    if (st == ANX_OK)
        st = start_thread(builder, err);
    if (st != ANX_OK) {
        (void) anx_budget_explain(&builder->account, err);
        anx_builder_destroy(builder);
        return err->status;
    }
    *out = builder;
    return ANX_OK;
}

void
anx_builder_destroy(struct builder *builder)
{
    if (!builder)
        return;
    if (builder->has_thread) {
        static const uint64_t one = 1;

        atomic_store_explicit(&builder->is_cancelled, true, memory_order_relaxed);
        if (write(builder->turn_fd, &one, sizeof(one)) < 0)
            anx_log(ANX_LOG_DEBUG, "event=wake_failed error=\"%s\"", strerror(errno));
        pthread_mutex_lock(&builder->lock);
        pthread_cond_signal(&builder->given);
        pthread_mutex_unlock(&builder->lock);
        pthread_join(builder->thread, NULL);
    }
    anx_loader_abort(builder->loader);
    anx_index_destroy(builder->index);
    free_batches(builder, builder->free);
    free_batches(builder, builder->full);
    anx_budget_close(&builder->account);
    if (builder->turn_fd >= 0)
        close(builder->turn_fd);
    pthread_cond_destroy(&builder->taken);
    pthread_cond_destroy(&builder->given);
    pthread_mutex_destroy(&builder->lock);
    anx_free(NULL, builder);
}
