/* What an engine and a database are made of. Private to this room; front ends use db.h.
 *
 * Locks, in the order in which they are taken:
 *   1 engine->create_lock, engine->lock   the list of databases
 *   2 database->life_lock one change of the list of namespaces at a time: create, drop, rename
 *   3 ns->write_lock      (ns.h)
 *   4 ns->data_lock       (ns.h); of several namespaces by address, each once
 *   5 database->list_lock the list of namespaces itself; held for a few instructions, nothing is taken under
 * it A store wait happens under none of 4 and 5, and under 3 only for changes of definitions. */
#ifndef ANX_DB_DB_INT_H
#define ANX_DB_DB_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "base/thread.h"
#include "db/db.h"

struct tx_list;  /* tx.c */
struct db_stats; /* stats.h */
struct ttl;      /* ttl.c */

struct engine {
    struct engine_params params; /* path: owned copy below */
    char *path;                  /* owned; NULL: memory only */
    pthread_mutex_t create_lock; /* one creation or drop of a database at a time; before lock */
    pthread_mutex_t lock;
    pthread_cond_t released;     /* a reference to a database was given up */
    struct database **databases; /* owned [n_database], in order of creation; guarded by lock */
    size_t n_database, capacity;
    size_t n_leaving; /* dropped databases that somebody still holds */
    anx_pool *pool;              /* loading, building */
    pthread_rwlock_t clients_lock; /* a leaf; shared while print_clients runs */
    engine_clients_fn print_clients;
    void *clients_context;
    engine_event_fn report_event; /* under clients_lock too */
    void *event_context;
    atomic_bool wants_events;
    struct housekeeper *keeper;  /* the thread for expiry and index files; owned */
    struct quantizer *quantizer; /* quantize.h; owned */
    atomic_bool is_measuring;    /* recall.h: one at a time */
    struct map_cache *maps;      /* map.h; owned */
};

struct database {
    struct engine *engine;
    char *name;  /* owned; immutable */
    char *path;  /* owned; folder; NULL: memory only; immutable */
    char *dropped_path; /* owned; where the folder was moved to when the database was dropped */
    _Atomic uint32_t references;
    atomic_bool is_dropped;

    pthread_mutex_t life_lock;
    uint32_t next_id; /* of a namespace; guarded by life_lock */

    pthread_rwlock_t list_lock;
    struct ns **namespaces; /* each counts as one reference; in order of creation; guarded by list_lock */
    size_t n_namespace, capacity;

    struct store *store;           /* NULL: memory only */
    struct store_table *catalog;   /* definitions, metadata, names dictionaries (persist.c) */
    struct db_settings *settings;  /* what #config says; config.h */
    struct db_stats *stats;        /* stats.h; owned */
    struct embedding *embedding;   /* embedding.h; owned */
    struct tx_list *transactions;  /* tx.c; owned; made by tx_list_create when the database is opened */
};

/* tx.c */
struct tx_list *tx_list_create(struct database *db); /* NULL: out of memory */
void tx_list_destroy(struct tx_list *list);          /* rolls back what is open; NULL is fine */
void tx_list_sweep(struct tx_list *list); /* rolls back what was idle for too long; no lock held */

#endif
