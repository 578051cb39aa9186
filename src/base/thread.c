/* The job pool: n - 1 sleeping threads and the caller share the ranges of one loop at a time.
 *
 * A loop is opened under the lock and announced by the condition `wake`. Who takes part counts itself in
 * n_active under the lock, then takes range numbers from `next` until none is left. The caller takes part
 * too; when it finds no range left it closes the loop (a late waker then sees nothing to do and sleeps on)
 * and waits until n_active is 0. So a short loop never waits for a thread that has not woken up yet.
 *
 * Locks, in this order: 1 loop_lock (one loop at a time, held for the whole loop), 2 lock (the fields it
 * guards). */
#include "base/thread.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/alloc.h"
#include "base/error.h"

struct loop {
    anx_range_fn fn;
    void *context;
    size_t n;
    size_t grain;
    size_t n_range;
};

struct worker {
    anx_pool *pool;
    size_t number; /* 1 .. n_thread - 1; 0 is whoever calls anx_pool_for */
    pthread_t thread;
};

struct anx_pool {
    /* The next range number, on a cache line of its own: every thread writes it. Relaxed: it only hands out
     * numbers; the loop itself is published, and its results collected, by `lock`. */
    _Alignas(64) atomic_size_t next;

    _Alignas(64) pthread_mutex_t loop_lock;
    pthread_mutex_t lock;
    pthread_cond_t wake;    /* a loop was opened, or quit */
    pthread_cond_t settled; /* n_active became 0 */
    struct loop loop;       /* written under lock while no worker is active */
    bool is_open;           /* lock */
    bool is_quitting;       /* lock */
    uint64_t n_loop;        /* lock: numbers the loops, so that a worker joins each at most once */
    size_t n_active;        /* lock: workers inside the loop */
    size_t n_thread;        /* immutable */
    size_t n_started;       /* threads to join; immutable after create */
    struct worker *workers; /* owned, [n_thread - 1] */
};

static void
take_ranges(anx_pool *pool, const struct loop *loop, size_t worker)
{
    for (;;) {
        size_t range = atomic_fetch_add_explicit(&pool->next, 1, memory_order_relaxed);
        size_t begin;
        size_t left;

        if (range >= loop->n_range)
            return;
        begin = range * loop->grain;
        left = loop->n - begin;
        loop->fn(loop->context, begin, begin + (left < loop->grain ? left : loop->grain), worker);
    }
}

static void *
worker_main(void *argument)
{
    struct worker *self = argument;
    anx_pool *pool = self->pool;
    uint64_t n_seen = 0;

    pthread_mutex_lock(&pool->lock);
    for (;;) {
        while (!pool->is_quitting && !(pool->is_open && pool->n_loop != n_seen))
            pthread_cond_wait(&pool->wake, &pool->lock);
        if (pool->is_quitting)
            break;
        n_seen = pool->n_loop;
        pool->n_active++;
        pthread_mutex_unlock(&pool->lock);
        take_ranges(pool, &pool->loop, self->number);
        pthread_mutex_lock(&pool->lock);
        if (--pool->n_active == 0)
            pthread_cond_signal(&pool->settled);
    }
    pthread_mutex_unlock(&pool->lock);
    return NULL;
}

/* Threads inherit the signal mask, so it is full while they are made. */
static bool
start_workers(anx_pool *pool)
{
    sigset_t all;
    sigset_t old;

    sigfillset(&all);
    if (pthread_sigmask(SIG_SETMASK, &all, &old) != 0)
        return false;
    for (size_t i = 0; i + 1 < pool->n_thread; i++) {
        struct worker *worker = &pool->workers[i];

        worker->pool = pool;
        worker->number = i + 1;
        if (pthread_create(&worker->thread, NULL, worker_main, worker) != 0)
            break;
        pthread_setname_np(worker->thread, "annex-worker");
        pool->n_started++;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return pool->n_started + 1 == pool->n_thread;
}

anx_pool *
anx_pool_create(size_t n_thread)
{
    anx_pool *pool = anx_alloc_aligned(NULL, 1, sizeof(*pool));

    if (!pool)
        return NULL;
    pool->n_thread = n_thread ? n_thread : anx_cpu_count();
    pool->workers = anx_alloc_zeroed(NULL, pool->n_thread - 1, sizeof(*pool->workers));
    if (!pool->workers) {
        anx_free_aligned(NULL, pool);
        return NULL;
    }
    atomic_init(&pool->next, 0);
    /* With default attributes these cannot fail on Linux. */
    pthread_mutex_init(&pool->loop_lock, NULL);
    pthread_mutex_init(&pool->lock, NULL);
    pthread_cond_init(&pool->wake, NULL);
    pthread_cond_init(&pool->settled, NULL);
    if (!start_workers(pool)) {
        anx_pool_destroy(pool);
        return NULL;
    }
    return pool;
}

void
anx_pool_destroy(anx_pool *pool)
{
    if (!pool)
        return;
    pthread_mutex_lock(&pool->lock);
    pool->is_quitting = true;
    pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
    for (size_t i = 0; i < pool->n_started; i++)
        pthread_join(pool->workers[i].thread, NULL);
    pthread_cond_destroy(&pool->settled);
    pthread_cond_destroy(&pool->wake);
    pthread_mutex_destroy(&pool->lock);
    pthread_mutex_destroy(&pool->loop_lock);
    anx_free(NULL, pool->workers);
    anx_free_aligned(NULL, pool);
}

size_t
anx_pool_size(const anx_pool *pool)
{
    return pool->n_thread;
}

void
anx_pool_for(anx_pool *pool, size_t n, size_t grain, anx_range_fn fn, void *context)
{
    struct loop loop = { .fn = fn, .context = context, .n = n, .grain = grain ? grain : 1 };

    if (n == 0)
        return;
    loop.n_range = n / loop.grain + (n % loop.grain != 0);

    pthread_mutex_lock(&pool->loop_lock);
    pthread_mutex_lock(&pool->lock);
    ANX_ASSERT(!pool->is_open && pool->n_active == 0);
    pool->loop = loop;
    atomic_store_explicit(&pool->next, 0, memory_order_relaxed);
    pool->is_open = loop.n_range > 1 && pool->n_thread > 1;
    pool->n_loop++;
    if (pool->is_open)
        pthread_cond_broadcast(&pool->wake);
    pthread_mutex_unlock(&pool->lock);

    take_ranges(pool, &loop, 0);

    pthread_mutex_lock(&pool->lock);
    pool->is_open = false;
    while (pool->n_active > 0)
        pthread_cond_wait(&pool->settled, &pool->lock);
    pthread_mutex_unlock(&pool->lock);
    pthread_mutex_unlock(&pool->loop_lock);
}
