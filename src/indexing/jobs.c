/* See jobs.h. */
#include "indexing/jobs.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

const char *
anx_job_phase_name(enum job_phase phase)
{
    static const char *const names[] = {
#define ROW(constant, name) [constant] = (name),
        JOB_PHASES(ROW)
#undef ROW
    };

    return (size_t) phase < ANX_COUNT_OF(names) ? names[phase] : "unknown";
}

static uint64_t
unix_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
}

void
anx_jobs_init(struct jobs *jobs)
{
    *jobs = (struct jobs) { .status = JOBS_IDLE, .updated_ms = unix_ms() };
    pthread_mutex_init(&jobs->lock, NULL);
}

void
anx_jobs_fini(struct jobs *jobs)
{
    ANX_ASSERT(!jobs->first);
    pthread_mutex_destroy(&jobs->lock);
}

static void
set_status_locked(struct jobs *jobs, enum jobs_status status)
{
    jobs->status = status;
    jobs->updated_ms = unix_ms();
}

static void
note_error_locked(struct jobs *jobs, const anx_error *err)
{
    snprintf(jobs->last_error, sizeof(jobs->last_error), "%s", err->message);
    jobs->last_error_ms = unix_ms();
}

struct job *
anx_jobs_begin(struct jobs *jobs, const char *peer, const char *name, uint64_t expected)
{
    struct job *job = anx_alloc_zeroed(NULL, 1, sizeof(*job));
    struct job **last;

    if (!job)
        return NULL;
    snprintf(job->peer, sizeof(job->peer), "%s", peer);
    snprintf(job->name, sizeof(job->name), "%s", name);
    job->expected = expected;
    job->began_ns = job->phase_began_ns = anx_clock_ns();
    pthread_mutex_lock(&jobs->lock);
    job->id = ++jobs->last_id;
    for (last = &jobs->first; *last; last = &(*last)->next)
        ;
    *last = job;
    if (jobs->n_job++ == 0)
        set_status_locked(jobs, JOBS_IN_PROGRESS);
    pthread_mutex_unlock(&jobs->lock);
    return job;
}

void
anx_jobs_phase(struct jobs *jobs, struct job *job, enum job_phase phase)
{
    pthread_mutex_lock(&jobs->lock);
    if (job->phase != phase) {
        job->phase = phase;
        job->phase_began_ns = anx_clock_ns();
        atomic_store_explicit(&job->step, NULL, memory_order_relaxed);
        atomic_store_explicit(&job->done, 0, memory_order_relaxed);
        atomic_store_explicit(&job->total, 0, memory_order_relaxed);
    }
    pthread_mutex_unlock(&jobs->lock);
}

static void
add_totals_locked(struct jobs *jobs, const struct job *job, const anx_error *err)
{
    struct jobs_totals *totals = &jobs->totals;

    totals->rows += atomic_load_explicit(&job->rows, memory_order_relaxed);
    totals->bytes_in += atomic_load_explicit(&job->bytes_in, memory_order_relaxed);
    totals->bytes_out += atomic_load_explicit(&job->bytes_out, memory_order_relaxed);
    if (!err) {
        totals->succeeded++;
        totals->build_seconds += (double) (anx_clock_ns() - job->began_ns) * 1e-9;
        return;
    }
    if (err->status == ANX_E_CANCELLED)
        totals->cancelled++;
    else
        totals->failed++;
    note_error_locked(jobs, err);
}

void
anx_jobs_end(struct jobs *jobs, struct job *job, const anx_error *err)
{
    pthread_mutex_lock(&jobs->lock);
    for (struct job **at = &jobs->first; *at; at = &(*at)->next)
        if (*at == job) {
            *at = job->next;
            break;
        }
    add_totals_locked(jobs, job, err);
    if (--jobs->n_job == 0)
        set_status_locked(jobs, err ? JOBS_FAILED : JOBS_SUCCEEDED);
    pthread_mutex_unlock(&jobs->lock);
}

void
anx_jobs_free(struct job *job)
{
    anx_free(NULL, job);
}

void
anx_jobs_take_back(struct jobs *jobs, const anx_error *err)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->totals.succeeded--;
    jobs->totals.failed++;
    note_error_locked(jobs, err);
    if (jobs->n_job == 0)
        set_status_locked(jobs, JOBS_FAILED);
    pthread_mutex_unlock(&jobs->lock);
}

void
anx_jobs_refuse(struct jobs *jobs, const anx_error *err, bool is_build)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->totals.refused++;
    if (err)
        note_error_locked(jobs, err);
    if (is_build) {
        jobs->totals.failed++;
        if (jobs->n_job == 0)
            set_status_locked(jobs, JOBS_FAILED);
    }
    pthread_mutex_unlock(&jobs->lock);
}

void
anx_jobs_count_connection(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->totals.connections++;
    pthread_mutex_unlock(&jobs->lock);
}

void
anx_jobs_count_resumed(struct jobs *jobs)
{
    pthread_mutex_lock(&jobs->lock);
    jobs->totals.resumed++;
    pthread_mutex_unlock(&jobs->lock);
}

static double
percent_of(uint64_t done, uint64_t total)
{
    if (total == 0 || done > total) /* more than announced: the announcement was no help */
        return -1;
    return 100.0 * (double) done / (double) total;
}

static void
look_at(const struct job *job, struct job_view *view, uint64_t now)
{
    *view = (struct job_view) {
        .id = job->id,
        .expected = job->expected,
        .rows = atomic_load_explicit(&job->rows, memory_order_relaxed),
        .done = atomic_load_explicit(&job->done, memory_order_relaxed),
        .total = atomic_load_explicit(&job->total, memory_order_relaxed),
        .bytes_in = atomic_load_explicit(&job->bytes_in, memory_order_relaxed),
        .bytes_out = atomic_load_explicit(&job->bytes_out, memory_order_relaxed),
        .size = atomic_load_explicit(&job->size, memory_order_relaxed),
        .memory = atomic_load_explicit(&job->memory, memory_order_relaxed),
        .step = atomic_load_explicit(&job->step, memory_order_relaxed),
        .phase = job->phase,
        .seconds = (double) (now - job->began_ns) * 1e-9,
        .phase_seconds = (double) (now - job->phase_began_ns) * 1e-9,
        .percent = -1,
    };
    memcpy(view->peer, job->peer, sizeof(view->peer));
    memcpy(view->name, job->name, sizeof(view->name));
    if (view->phase == JOB_RECEIVING) {
        view->percent = percent_of(view->rows, view->expected);
        view->rows_per_second = view->phase_seconds > 0 ? (double) view->rows / view->phase_seconds : 0;
    } else if (view->phase == JOB_BUILDING) {
        view->percent = percent_of(view->done, view->total);
        view->rows_per_second = view->phase_seconds > 0 ? (double) view->done / view->phase_seconds : 0;
    } else if (view->phase == JOB_SENDING) {
        view->percent = percent_of(view->bytes_out, view->size);
    }
}

size_t
anx_jobs_look(struct jobs *jobs, struct jobs_view *view, struct job_view *views, size_t max)
{
    uint64_t now = anx_clock_ns();
    size_t n = 0;

    pthread_mutex_lock(&jobs->lock);
    view->status = jobs->status;
    view->updated_ms = jobs->updated_ms;
    view->totals = jobs->totals;
    view->last_error_ms = jobs->last_error_ms;
    view->n_job = jobs->n_job;
    memcpy(view->last_error, jobs->last_error, sizeof(view->last_error));
    for (const struct job *job = jobs->first; job && n < max; job = job->next)
        look_at(job, &views[n++], now);
    pthread_mutex_unlock(&jobs->lock);
    return n;
}
