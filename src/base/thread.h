/* Threads and the job pool.
 *
 *     anx_pool *pool = anx_pool_create(2);
 *     anx_pool_for(pool, n_row, 1024, encode_rows, &job);
 *
 * anx_pool_for splits [0, n) into ranges of at most `grain`, which the workers and the calling thread take in
 * turn, and returns when all are done. `fn` gets the number of its worker (0 <= worker < anx_pool_size), so
 * that scratch memory can be per worker. A pool runs one loop at a time; a second caller waits. Not to be
 * called from inside `fn`. Worker threads have all signals blocked (they may live inside a database backend).
 */
#ifndef ANX_BASE_THREAD_H
#define ANX_BASE_THREAD_H

#include <stdatomic.h>
#include <stddef.h>

typedef struct anx_pool anx_pool;
typedef void (*anx_range_fn)(void *context, size_t begin, size_t end, size_t worker);

/* n_thread counts the caller: 1 makes a pool without threads; 0 means one per usable CPU. NULL when out of
 * memory or threads. */
anx_pool *anx_pool_create(size_t n_thread);
void anx_pool_destroy(anx_pool *pool); /* NULL is fine */
size_t anx_pool_size(const anx_pool *pool);
void anx_pool_for(anx_pool *pool, size_t n, size_t grain, anx_range_fn fn, void *context);

/* CPUs this process may use (affinity and cgroup quota respected), at least 1. */
size_t anx_cpu_count(void);

/* A spin lock of one byte, for sections of a few dozen instructions. */
typedef struct anx_spin {
    atomic_uchar held;
} anx_spin;
static inline void
anx_spin_lock(anx_spin *spin)
{
    while (atomic_exchange_explicit(&spin->held, 1, memory_order_acquire))
        while (atomic_load_explicit(&spin->held, memory_order_relaxed))
            ;
}
static inline void
anx_spin_unlock(anx_spin *spin)
{
    atomic_store_explicit(&spin->held, 0, memory_order_release);
}

#endif
