/* See workers.h. */
#include "net/workers.h"

#include <pthread.h>
#include <signal.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

struct anx_workers {
    anx_work_fn run;
    void *context;
    size_t n; /* that may work at once */
    pthread_mutex_t lock;
    pthread_cond_t wake;
    /* Guarded by lock. */
    struct anx_work *first, **last;
    size_t n_busy;    /* with a request */
    size_t n_blocked; /* of them wait for a service on the network */
    bool is_stopping;
    size_t n_thread;
    pthread_t threads[]; /* [n + ANX_WORKERS_BLOCKED_MAX] */
};

static void *
work(void *context)
{
    struct anx_workers *workers = context;
    bool was_busy = false;

    for (;;) {
        struct anx_work *next;

        pthread_mutex_lock(&workers->lock);
        workers->n_busy -= was_busy;
        while (!(workers->first && workers->n_busy < workers->n + workers->n_blocked) &&
               !workers->is_stopping)
            pthread_cond_wait(&workers->wake, &workers->lock);
        next = workers->first;
        if (next) {
            workers->first = next->next;
            if (!workers->first)
                workers->last = &workers->first;
            else
                pthread_cond_signal(&workers->wake); /* a signal may have met one that could not work */
            workers->n_busy++;
            was_busy = true;
        }
        pthread_mutex_unlock(&workers->lock);
        if (!next)
            return NULL;
        workers->run(workers->context, next);
    }
}

/* workers->lock held. 0, or what pthread_create said. */
static int
start_one(struct anx_workers *workers)
{
    sigset_t all, old;
    int failed;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old); /* signals are the main thread's */
    failed = pthread_create(&workers->threads[workers->n_thread], NULL, work, workers);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    workers->n_thread += failed == 0;
    return failed;
}

anx_status
anx_workers_open(struct anx_workers **out, size_t n, anx_work_fn run, void *context, anx_error *err)
{
    size_t n_most = n + ANX_WORKERS_BLOCKED_MAX;
    struct anx_workers *workers =
        anx_alloc_zeroed(NULL, 1, sizeof(*workers) + n_most * sizeof(workers->threads[0]));
    int failed = 0;

    *out = NULL;
    if (!workers)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu threads", n);
    workers->run = run;
    workers->context = context;
    workers->n = n;
    workers->last = &workers->first;
    pthread_mutex_init(&workers->lock, NULL);
    pthread_cond_init(&workers->wake, NULL);
    pthread_mutex_lock(&workers->lock);
    while (failed == 0 && workers->n_thread < n)
        failed = start_one(workers);
    pthread_mutex_unlock(&workers->lock);
    if (failed != 0) {
        anx_workers_close(workers);
        return anx_fail(err, ANX_E_NOMEM, "cannot start a thread: %s", strerror(failed));
    }
    *out = workers;
    return ANX_OK;
}

void
anx_workers_give(struct anx_workers *workers, struct anx_work *given)
{
    given->next = NULL;
    pthread_mutex_lock(&workers->lock);
    *workers->last = given;
    workers->last = &given->next;
    pthread_cond_signal(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
}

bool
anx_workers_blocking(void *context, bool begins)
{
    struct anx_workers *workers = context;
    bool is_allowed = true;

    pthread_mutex_lock(&workers->lock);
    if (!begins) {
        workers->n_blocked--;
    } else if (workers->n_blocked >= ANX_WORKERS_BLOCKED_MAX) {
        is_allowed = false;
    } else {
        workers->n_blocked++;
        if (!workers->is_stopping && workers->n_thread < workers->n + workers->n_blocked)
            (void) start_one(workers); /* kept: it would be needed again */
        pthread_cond_signal(&workers->wake);
    }
    pthread_mutex_unlock(&workers->lock);
    return is_allowed;
}

void
anx_workers_close(struct anx_workers *workers)
{
    if (!workers)
        return;
    pthread_mutex_lock(&workers->lock);
    workers->is_stopping = true;
    pthread_cond_broadcast(&workers->wake);
    pthread_mutex_unlock(&workers->lock);
    for (size_t i = 0; i < workers->n_thread; i++)
        pthread_join(workers->threads[i], NULL);
    pthread_cond_destroy(&workers->wake);
    pthread_mutex_destroy(&workers->lock);
    anx_free(NULL, workers);
}
