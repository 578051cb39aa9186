/* The locks of an index whose searches run at once and whose writers come one at a time.
 *
 * Lock order: 1 writer, 2 lock. A writer holds `writer` for its whole call, so that it may read everything
 * without `lock` while it prepares (assigns lists, trains); it takes `lock` only for the moments in which it
 * changes what readers see. Readers hold `lock` shared. The rwlock prefers writers, else a steady stream of
 * searches would starve them; so a filter or stop callback, which runs under the shared lock, must not call
 * the same index. */
#ifndef ANX_ANN_GUARD_H
#define ANX_ANN_GUARD_H

#include <pthread.h>

struct guard {
    pthread_mutex_t writer;
    pthread_rwlock_t lock;
};

static inline void
guard_init(struct guard *guard)
{
    pthread_rwlockattr_t attr;

    pthread_mutex_init(&guard->writer, NULL);
    pthread_rwlockattr_init(&attr);
    pthread_rwlockattr_setkind_np(&attr, PTHREAD_RWLOCK_PREFER_WRITER_NONRECURSIVE_NP);
    pthread_rwlock_init(&guard->lock, &attr);
    pthread_rwlockattr_destroy(&attr);
}
static inline void
guard_fini(struct guard *guard)
{
    pthread_rwlock_destroy(&guard->lock);
    pthread_mutex_destroy(&guard->writer);
}
/* Readers. const is kept outwards: a lock is not part of the value. */
static inline void
guard_read(const struct guard *guard)
{
    pthread_rwlock_rdlock((pthread_rwlock_t *) &guard->lock);
}
static inline void
guard_read_end(const struct guard *guard)
{
    pthread_rwlock_unlock((pthread_rwlock_t *) &guard->lock);
}
static inline void
guard_prepare(struct guard *guard)
{
    pthread_mutex_lock(&guard->writer);
}
static inline void
guard_prepare_end(struct guard *guard)
{
    pthread_mutex_unlock(&guard->writer);
}
/* Between prepare and prepare_end. */
static inline void
guard_change(struct guard *guard)
{
    pthread_rwlock_wrlock(&guard->lock);
}
static inline void
guard_change_end(struct guard *guard)
{
    pthread_rwlock_unlock(&guard->lock);
}

#endif
