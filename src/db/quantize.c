/* See quantize.h. Every row is looked at once; the namespace's index notes in `changed` which rows are
 * published or removed from the moment the job begins. What the new index has of a row is in job->cells, so
 * that it can be taken out again. */
#include "db/quantize.h"

#include <sched.h>
#include <signal.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/buffer.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "db/ns_life.h"
#include "db/vector_int.h"

enum {
    BLOCK_VECTORS = 256, /* copied per hold of data_lock */
    BLOCK_STORED = 64,   /* the same where they come from the store, which may have to read pages */
    BLOCK_ROWS = 4096,   /* looked at per hold */
    ROUNDS_MAX = 16,     /* without a lock; a writer that is always faster is then held up a little */
    ROUND_SMALL = 64,    /* vectors: few enough to go on under write_lock */
    BUILD_PRIORITY =
        10 /* a tenth of the time of others when CPUs are short; 19 would never end on a busy machine */
};
#define SLICE_NS 5000000u /* of work under write_lock before writers get their turn */
#define RETRY_NS 60000000000u

struct quantizer {
    pthread_t thread;
    bool has_thread; /* to be joined; the housekeeper's, as is starting */
    atomic_bool is_busy, is_quitting;
    struct ns *ns; /* of the job: a reference, and one of its database */
    _Atomic uint64_t serial;
    atomic_uint permille; /* of the building, for whoever looks */
};
struct job {
    struct quantizer *q;
    struct ns *ns;
    uint64_t serial;
    struct vector_def def; /* as it was when the job began: numbers alone are looked at */
    uint32_t dim;
    size_t block;                 /* vectors of one */
    anx_index *ann;               /* owned */
    struct vector_source *source; /* owned */
    uint32_t *cells;              /* owned [n_cell]: what ann has of each row */
    size_t n_cell;
    uint32_t at; /* next row of the first pass */
    bool is_through; /* the first pass */
    /* One block: labels that go, labels that come and their floats. */
    anx_buffer gone, come, floats;
    size_t n_moved; /* in this round */
    anx_error err;
};

enum outcome { GO_ON, DONE, ABANDONED, FAILED };

struct quantizer *
quantizer_create(void)
{
    return anx_alloc_zeroed(NULL, 1, sizeof(struct quantizer));
}

void
quantizer_destroy(struct quantizer *q)
{
    if (!q)
        return;
    atomic_store(&q->is_quitting, true);
    if (q->has_thread)
        pthread_join(q->thread, NULL);
    anx_free(NULL, q);
}

/* The index of the job, unless it is gone or has another definition. Either lock held. */
static struct vector_index *
find_index(const struct job *job)
{
    const struct ns *ns = job->ns;

    for (size_t i = 0; !ns->is_dropped && i < ns->n_index; i++) {
        struct vector_index *v = ns->indexes[i].vector;
        const struct vector_def *def = &ns->indexes[i].def->vector;

        if (v && v->serial == job->serial)
            return def->is_quantized && def->has_quantile == job->def.has_quantile
                           && !(def->quantile < job->def.quantile) && !(def->quantile > job->def.quantile)
                           && def->sample_size == job->def.sample_size
                       ? v
                       : NULL;
    }
    return NULL;
}

/* ---- Blocks ---- */

static bool
grow_cells(struct job *job, size_t n)
{
    size_t capacity = n + n / 4 + 1024;
    uint32_t *more;

    if (n <= job->n_cell)
        return true;
    more = anx_realloc_array(NULL, job->cells, capacity, sizeof(*more));
    if (!more)
        return false;
    memset(more + job->n_cell, 0, (capacity - job->n_cell) * sizeof(*more));
    job->cells = more;
    job->n_cell = capacity;
    return true;
}

/* A vector of a row; all of them are read into the room of the first. */
static bool
take_floats(struct job *job, const struct vector_index *v, uint32_t row, uint32_t cell, uint32_t position,
            char *room)
{
    if (!atomic_load(&v->is_quantized))
        return anx_index_get(v->ann, vector_label(v, row, cell & 1, position), room, &job->err) == ANX_OK;
    if (position > 0)
        return true;
    if (vector_floats(v, row, cell, (float *) (void *) room))
        return true;
    (void) anx_fail(&job->err, ANX_E_CORRUPT, "the vectors of row %u are not in the storage", row);
    return false;
}

static bool
gather_row(struct job *job, const struct vector_index *v, uint32_t row, uint32_t cell)
{
    uint32_t old = job->cells[row];
    size_t size = job->dim * sizeof(float);

    for (uint32_t p = 0; p < old >> 1; p++) {
        uint64_t label = vector_label(v, row, old & 1, p);

        anx_buffer_bytes(&job->gone, &label, sizeof(label));
    }
    for (uint32_t p = 0; p < cell >> 1; p++) {
        uint64_t label = vector_label(v, row, cell & 1, p);
        char *room = anx_buffer_reserve(&job->floats, p == 0 ? (cell >> 1) * size : size);

        if (!room || !take_floats(job, v, row, cell, p, room))
            return false;
        job->floats.size += size;
        anx_buffer_bytes(&job->come, &label, sizeof(label));
    }
    job->cells[row] = cell;
    return !job->gone.failed && !job->come.failed;
}

static bool
is_full(const struct job *job)
{
    return job->come.size + job->gone.size >= job->block * sizeof(uint64_t);
}

/* The next rows: of all, and when these are through, of those that changed. data_lock shared, or write_lock.
 * DONE: there are no further ones. */
static enum outcome
gather(struct job *job)
{
    const struct vector_index *v = find_index(job);
    uint32_t end, stop, row;

    anx_buffer_clear(&job->gone);
    anx_buffer_clear(&job->come);
    anx_buffer_clear(&job->floats);
    if (!v)
        return ABANDONED;
    end = (uint32_t) chunks_end(&v->cells);
    if (!grow_cells(job, end)) {
        (void) anx_fail(&job->err, ANX_E_NOMEM, "out of memory");
        return FAILED;
    }
    if (!job->is_through) {
        stop = end - job->at > BLOCK_ROWS ? job->at + BLOCK_ROWS : end;
        for (; job->at < stop && !is_full(job); job->at++) {
            roaring_bitmap_remove(v->changed, job->at);
            if (!gather_row(job, v, job->at, vector_cell(v, job->at)))
                return FAILED;
        }
        job->is_through = job->at == end;
        return job->is_through ? DONE : GO_ON;
    }
    while (!roaring_bitmap_is_empty(v->changed) && !is_full(job)) {
        row = roaring_bitmap_minimum(v->changed);
        roaring_bitmap_remove(v->changed, row);
        if (!gather_row(job, v, row, vector_cell(v, row)))
            return FAILED;
    }
    return roaring_bitmap_is_empty(v->changed) ? DONE : GO_ON;
}

static enum outcome
gather_shared(struct job *job)
{
    enum outcome outcome;

    if (atomic_load(&job->q->is_quitting))
        return ABANDONED;
    pthread_rwlock_rdlock(&job->ns->data_lock);
    outcome = gather(job);
    pthread_rwlock_unlock(&job->ns->data_lock);
    return outcome;
}

/* A block into the finished index. */
static enum outcome
bring_over(struct job *job)
{
    const uint64_t *gone = (const uint64_t *) (const void *) job->gone.data;
    const uint64_t *come = (const uint64_t *) (const void *) job->come.data;
    size_t n_gone = job->gone.size / sizeof(*gone), n_come = job->come.size / sizeof(*come);
    anx_status st = ANX_OK;

    for (size_t i = 0; i < n_gone; i++)
        (void) !anx_index_remove(job->ann, gone[i], NULL);
    if (n_come == 1)
        st = anx_index_add(job->ann, come[0], job->floats.data, &job->err);
    else if (n_come > 1)
        st = anx_index_add_batch(job->ann, n_come, come, job->floats.data, &job->err);
    job->n_moved += n_gone + n_come;
    return st == ANX_OK ? GO_ON : FAILED;
}

/* ---- Building ---- */

struct build {
    anx_loader *loader;
    struct job *job;
    size_t n_thread;
    anx_status status;
};

static bool
goes_on(void *context, const char *phase, size_t done, size_t total)
{
    struct job *job = context;

    (void) phase;
    if (total > 0)
        atomic_store_explicit(&job->q->permille, (unsigned) (1000 * (done < total ? done : total) / total),
                              memory_order_relaxed);
    return !atomic_load(&job->q->is_quitting);
}

/* The pool of the index is made here, so that its threads inherit the priority. */
static void *
build_main(void *context)
{
    struct build *build = context;

    (void) setpriority(PRIO_PROCESS, (id_t) gettid(), BUILD_PRIORITY);
    anx_index_set_threads(build->job->ann, build->n_thread);
    build->status = anx_loader_finish(build->loader, goes_on, build->job, &build->job->err);
    return NULL;
}

static enum outcome
build(struct job *job)
{
    size_t n_thread = job->ns->database->engine->params.n_thread;
    struct build build = { .job = job };
    enum outcome outcome = GO_ON;
    pthread_t thread;

    if (anx_loader_begin(job->ann, 0, &build.loader, &job->err) != ANX_OK)
        return FAILED;
    while (outcome == GO_ON) {
        outcome = gather_shared(job);
        if ((outcome == GO_ON || outcome == DONE)
            && anx_loader_rows(build.loader, job->come.size / sizeof(uint64_t),
                               (const uint64_t *) (const void *) job->come.data, job->floats.data, &job->err)
                   != ANX_OK)
            outcome = FAILED;
    }
    if (outcome != DONE) {
        anx_loader_abort(build.loader);
        return outcome;
    }
    n_thread = n_thread ? n_thread : anx_cpu_count();
    build.n_thread = n_thread > 1 ? n_thread / 2 : 1;
    if (pthread_create(&thread, NULL, build_main, &build) != 0) {
        anx_loader_abort(build.loader);
        (void) anx_fail(&job->err, ANX_E_SYSTEM, "could not start a thread");
        return FAILED;
    }
    pthread_join(thread, NULL);
    anx_index_set_threads(job->ann, n_thread); /* threads of ordinary priority from now on */
    return build.status == ANX_OK ? GO_ON : build.status == ANX_E_CANCELLED ? ABANDONED : FAILED;
}

/* ---- Catching up, and changing places ---- */

static enum outcome
one_round(struct job *job)
{
    enum outcome outcome = GO_ON;

    job->n_moved = 0;
    while (outcome == GO_ON) {
        outcome = gather_shared(job);
        if ((outcome == GO_ON || outcome == DONE) && bring_over(job) == FAILED)
            outcome = FAILED;
    }
    return outcome == DONE ? GO_ON : outcome;
}

static void
end_of_notes(struct vector_index *v)
{
    if (v->changed)
        roaring_bitmap_free(v->changed);
    v->changed = NULL;
    v->is_quantizing = false;
}

/* Both locks held. */
static void
change_places(struct job *job, struct vector_index *v)
{
    anx_index *ann = v->ann;
    struct vector_source *source = v->source;

    job->source->index = v;
    v->ann = job->ann;
    v->source = job->source;
    atomic_store(&v->is_quantized, true);
    end_of_notes(v);
    job->ann = ann;
    job->source = source;
}

/* Work for a slice of time; write_lock held. */
static enum outcome
catch_up(struct job *job)
{
    uint64_t end_ns = anx_clock_ns() + SLICE_NS;
    struct vector_index *v = find_index(job);
    enum outcome outcome = GO_ON;

    if (v)
        vector_sweep(v);
    else
        outcome = ABANDONED; /* it was dropped */
    while (outcome == GO_ON && anx_clock_ns() < end_ns) {
        outcome = gather(job);
        if ((outcome == GO_ON || outcome == DONE) && bring_over(job) == FAILED)
            outcome = FAILED;
    }
    return outcome;
}

static enum outcome
finish_slice(struct job *job)
{
    struct ns *ns = job->ns;
    enum outcome outcome;

    if (atomic_load(&job->q->is_quitting))
        return ABANDONED;
    pthread_mutex_lock(&ns->write_lock);
    outcome = catch_up(job);
    if (outcome == DONE) {
        struct vector_index *v = find_index(job);

        pthread_rwlock_wrlock(&ns->data_lock);
        change_places(job, v);
        pthread_rwlock_unlock(&ns->data_lock);
        atomic_store(&ns->changed_ns, anx_clock_ns()); /* so that its file is written anew */
        atomic_fetch_add(&ns->n_change, 1);
    }
    pthread_mutex_unlock(&ns->write_lock);
    return outcome;
}

/* All that goes on without a lock. */
static enum outcome
run_beside(struct job *job)
{
    enum outcome outcome = build(job);

    for (unsigned i = 0; outcome == GO_ON && i < ROUNDS_MAX && (i == 0 || job->n_moved > ROUND_SMALL); i++)
        outcome = one_round(job);
    return outcome;
}

static enum outcome
run(struct job *job)
{
    enum outcome outcome = run_beside(job);

    while (outcome == GO_ON) {
        outcome = finish_slice(job);
        if (outcome == GO_ON)
            (void) sched_yield();
    }
    return outcome;
}

/* ---- The thread ---- */

static void
job_init(struct job *job)
{
    anx_buffer_init(&job->gone, NULL, SIZE_MAX);
    anx_buffer_init(&job->come, NULL, SIZE_MAX);
    anx_buffer_init(&job->floats, NULL, SIZE_MAX);
}

static void
job_fini(struct job *job)
{
    anx_index_destroy(job->ann);
    anx_free(NULL, job->source);
    anx_free(NULL, job->cells);
    anx_buffer_fini(&job->gone);
    anx_buffer_fini(&job->come);
    anx_buffer_fini(&job->floats);
}

/* Either lock, and nobody else has a job for it. */
static enum outcome
begin(struct job *job, struct vector_index *v, bool is_quantized)
{
    job->def = v->def->vector;
    job->dim = v->dim;
    job->block = is_quantized ? BLOCK_VECTORS : BLOCK_STORED;
    v->changed = roaring_bitmap_create(); /* before the first row is looked at */
    if (vector_ann_create(v, is_quantized, 1, &job->ann, &job->source, &job->err) != ANX_OK)
        return FAILED;
    if (job->source)
        job->source->index = NULL; /* it may go away while the new one is built */
    if (!v->changed)
        (void) anx_fail(&job->err, ANX_E_NOMEM, "out of memory");
    return v->changed ? GO_ON : FAILED;
}

static struct vector_index *
find_serial(const struct job *job)
{
    for (size_t i = 0; !job->ns->is_dropped && i < job->ns->n_index; i++)
        if (job->ns->indexes[i].vector && job->ns->indexes[i].vector->serial == job->serial)
            return job->ns->indexes[i].vector;
    return NULL;
}

static enum outcome
prepare(struct job *job)
{
    enum outcome outcome = ABANDONED;
    struct vector_index *v;

    job_init(job);
    pthread_rwlock_rdlock(&job->ns->data_lock);
    v = find_serial(job);
    if (v)
        outcome = begin(job, v, true);
    pthread_rwlock_unlock(&job->ns->data_lock);
    return outcome;
}

/* After anything but success: the next attempt is not at once. */
static void
give_up(struct job *job)
{
    struct vector_index *v;

    pthread_mutex_lock(&job->ns->write_lock);
    v = find_serial(job);
    if (v) {
        end_of_notes(v);
        v->retry_ns = job->err.message[0] ? anx_clock_ns() + RETRY_NS : 0;
    }
    pthread_mutex_unlock(&job->ns->write_lock);
}

static void *
quantizer_main(void *context)
{
    static const char *const words[] = { "", "quantized", "quantization_abandoned", "quantization_failed" };
    struct quantizer *q = context;
    struct database *db = q->ns->database;
    struct job job = { .q = q, .ns = q->ns, .serial = q->serial };
    uint64_t start_ns = anx_clock_ns();
    enum outcome outcome = prepare(&job);

    if (outcome == GO_ON)
        outcome = run(&job);
    if (outcome != DONE)
        give_up(&job);
    anx_log(outcome == FAILED ? ANX_LOG_WARN : ANX_LOG_INFO, "event=%s ns=%s ms=%llu cause=\"%s\"",
            words[outcome], job.ns->name, (unsigned long long) ((anx_clock_ns() - start_ns) / 1000000),
            outcome == FAILED ? job.err.message : "");
    job_fini(&job);
    ns_release(job.ns);
    database_release(db);
    atomic_store(&q->is_busy, false);
    return NULL;
}

bool
quantizer_start(struct quantizer *q, struct ns *ns, struct vector_index *index)
{
    sigset_t all;
    sigset_t before;

    if (atomic_load(&q->is_busy))
        return false;
    if (q->has_thread)
        pthread_join(q->thread, NULL);
    q->ns = ns;
    atomic_store(&q->permille, 0);
    q->serial = index->serial;
    atomic_fetch_add(&ns->references, 1);
    atomic_fetch_add(&ns->database->references, 1); /* the housekeeper has one, so it is not the first */
    atomic_store(&q->is_busy, true);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    q->has_thread = pthread_create(&q->thread, NULL, quantizer_main, q) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!q->has_thread) {
        atomic_fetch_sub(&ns->references, 1); /* the caller has both */
        atomic_fetch_sub(&ns->database->references, 1);
        atomic_store(&q->is_busy, false);
    }
    return q->has_thread;
}

/* ---- Back ---- */

anx_status
quantizer_reset(struct quantizer *q, struct ns *ns, struct vector_index *index, anx_error *err)
{
    struct job job = { .q = q, .ns = ns, .serial = index->serial };
    struct vector_index *v;
    enum outcome outcome;

    if (index->is_quantizing)
        return ANX_OK; /* another reset is at it */
    job_init(&job);
    index->is_quantizing = true;
    outcome = begin(&job, index, false);
    pthread_mutex_unlock(&ns->write_lock);
    if (outcome == GO_ON)
        outcome = run_beside(&job);
    for (pthread_mutex_lock(&ns->write_lock); outcome == GO_ON; pthread_mutex_lock(&ns->write_lock)) {
        outcome = atomic_load(&q->is_quitting) ? ABANDONED : catch_up(&job);
        if (outcome != GO_ON)
            break;
        pthread_mutex_unlock(&ns->write_lock); /* writers have their turn */
        (void) sched_yield();
    }
    v = find_serial(&job);
    if (v)
        end_of_notes(v);
    if (v && outcome == DONE && !v->next) {
        job.source->index = v;
        v->next = job.ann;
        v->next_source = job.source;
        job.ann = NULL;
        job.source = NULL;
    }
    if (outcome == FAILED && err)
        *err = job.err;
    job_fini(&job);
    return outcome == FAILED ? job.err.status : ANX_OK;
}

bool
quantizer_progress(const struct quantizer *q, uint64_t serial, double *out)
{
    *out = atomic_load_explicit(&q->permille, memory_order_relaxed) / 1000.0;
    return atomic_load(&q->is_busy) && atomic_load(&q->serial) == serial;
}
