/* Getting hold of a namespace, and its life: creation, loading, index changes, removal.
 *
 *     st = ns_acquire(db, name, &ns, err);             // counts a reference, takes no lock
 *     pthread_rwlock_rdlock(&ns->data_lock);
 *     st = ns_check_alive(ns, err);                    // dropped while we waited?
 *     ...
 *     pthread_rwlock_unlock(&ns->data_lock);
 *     ns_release(ns);
 *
 * Names starting with # are system namespaces. #config is stored like any other. The others (#namespaces,
 * #memstats,
 * ...) are written at the moment they are acquired: a namespace of its own with the documents of that moment,
 * known to nobody else and freed on release. It has one index, the primary key `name` (or `type`, `query`,
 * ...); it can be read like any namespace, with its data_lock; system_ns_kind tells it from others. */
#ifndef ANX_DB_NS_LIFE_H
#define ANX_DB_NS_LIFE_H

#include "db/db_int.h"
#include "db/ns.h"

/* ANX_E_NOT_FOUND "Namespace 'x' does not exist". Takes database->list_lock for a moment. */
ANX_NODISCARD anx_status ns_acquire(struct database *db, anx_text name, struct ns **out, anx_error *err);
void ns_release(struct ns *ns); /* NULL is fine; frees a dropped namespace with its last reference */
/* To be called with either lock held: ANX_E_NOT_FOUND when the namespace was dropped meanwhile. */
ANX_NODISCARD anx_status ns_check_alive(const struct ns *ns, anx_error *err);

enum system_kind {
    SYSTEM_NONE,   /* an ordinary namespace */
    SYSTEM_CONFIG, /* #config: real, writes go through config.h */
    SYSTEM_STATS   /* made at query time; only DELETE of #perfstats and #queriesperfstats has a meaning:
                      system_reset */
};
enum system_kind system_ns_kind(const struct ns *ns);
bool is_system_name(anx_text name); /* starts with # */
/* DELETE FROM #perfstats and kin: forgets the counters. Other names: ANX_E_LOGIC. */
ANX_NODISCARD anx_status system_reset(struct database *db, anx_text name, anx_error *err);

/* Parts that writers (write.c, modify.c, tx.c) share with the life cycle; write_lock held. */

/* Empties the namespace: rows, all indexes (vector indexes anew), and the store's table in `batch` (NULL when
 * not persistent). Takes data_lock exclusively. Also what TRUNCATE runs. */
ANX_NODISCARD anx_status ns_clear_locked(struct ns *ns, struct store_batch *batch, anx_error *err);

#endif
