/* The thread that keeps house: expires documents, writes index files, starts quantization, rolls back
 * forgotten transactions. It holds no lock while it decides what to do, and skips a namespace whose writer is
 * busy: there is a next time soon. */
#include <signal.h>

#include "base/alloc.h"
#include "base/error.h"
#include "db/engine_int.h"
#include "db/ns_int.h"
#include "db/pending.h"

enum { TICK_MS = 100, TICKS_PER_ROUND = 10 };

struct housekeeper {
    struct engine *engine;
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t wake;
    bool is_quitting; /* guarded by lock */
};

static bool
is_quitting(struct housekeeper *keeper)
{
    bool quitting;

    pthread_mutex_lock(&keeper->lock);
    quitting = keeper->is_quitting;
    pthread_mutex_unlock(&keeper->lock);
    return quitting;
}

static void
maintain_vectors(struct ns *ns)
{
    if (pthread_mutex_trylock(&ns->write_lock) != 0)
        return;
    for (size_t i = 0; !ns->is_dropped && i < ns->n_index; i++)
        if (ns->indexes[i].vector && ns->indexes[i].def->vector.is_quantized)
            vector_maintain(ns, ns->indexes[i].vector);
    if (ns->pending)
        pending_published(ns->pending);
    pthread_mutex_unlock(&ns->write_lock);
}

static void
care_for(struct housekeeper *keeper, struct database *db, struct ns *ns, bool is_round)
{
    if (is_quitting(keeper) || atomic_load(&db->is_dropped))
        return;
    maintain_vectors(ns);
    if (ns->pending)
        pending_settle(ns->pending, store_durable(db->store));
    if (!is_round)
        return;
    ttl_expire(ns);
    if (ns->table)
        ann_cache_save(ns, false);
}

static void
make_rounds(struct housekeeper *keeper, anx_arena *arena, bool is_round)
{
    struct database **databases;
    size_t n_database;

    anx_arena_reset(arena);
    if (engine_all(keeper->engine, arena, &databases, &n_database, NULL) != ANX_OK)
        return;
    for (size_t d = 0; d < n_database; d++) {
        struct ns **list;
        size_t n;

        if (list_all(databases[d], arena, &list, &n, NULL) == ANX_OK) {
            for (size_t i = 0; i < n; i++)
                care_for(keeper, databases[d], list[i], is_round);
            list_release(list, n);
        }
        if (is_round)
            tx_list_sweep(databases[d]->transactions);
        database_release(databases[d]);
    }
}

/* Until the next tick; false when it is time to go. */
static bool
wait_for_tick(struct housekeeper *keeper)
{
    struct timespec until;
    bool go_on;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_nsec += TICK_MS * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_nsec -= 1000000000;
        until.tv_sec++;
    }
    pthread_mutex_lock(&keeper->lock);
    while (!keeper->is_quitting)
        if (pthread_cond_timedwait(&keeper->wake, &keeper->lock, &until) != 0)
            break;
    go_on = !keeper->is_quitting;
    pthread_mutex_unlock(&keeper->lock);
    return go_on;
}

static void *
keeper_main(void *context)
{
    struct housekeeper *keeper = context;
    anx_arena *arena = anx_arena_create(NULL, 0);
    unsigned tick = 0;

    while (arena && wait_for_tick(keeper))
        make_rounds(keeper, arena, ++tick % TICKS_PER_ROUND == 0);
    anx_arena_destroy(arena);
    return NULL;
}

struct housekeeper *
housekeeper_start(struct engine *engine)
{
    struct housekeeper *keeper = anx_alloc_zeroed(NULL, 1, sizeof(*keeper));
    pthread_condattr_t monotonic;
    sigset_t all;
    sigset_t before;
    int code;

    if (!keeper)
        return NULL;
    keeper->engine = engine;
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_mutex_init(&keeper->lock, NULL);
    pthread_cond_init(&keeper->wake, &monotonic);
    pthread_condattr_destroy(&monotonic);
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    code = pthread_create(&keeper->thread, NULL, keeper_main, keeper);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (code == 0)
        return keeper;
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    anx_free(NULL, keeper);
    return NULL;
}

void
housekeeper_stop(struct housekeeper *keeper)
{
    if (!keeper)
        return;
    pthread_mutex_lock(&keeper->lock);
    keeper->is_quitting = true;
    pthread_cond_signal(&keeper->wake);
    pthread_mutex_unlock(&keeper->lock);
    pthread_join(keeper->thread, NULL);
    pthread_cond_destroy(&keeper->wake);
    pthread_mutex_destroy(&keeper->lock);
    anx_free(NULL, keeper);
}
