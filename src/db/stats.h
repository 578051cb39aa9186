/* Counters behind #perfstats, #queriesperfstats and #activitystats. Nothing is collected, and nothing costs
 * more than a load, until #config asks for it.
 *
 *     struct stats_call call;
 *     stats_begin(db, STATS_SELECT, query, session, &call);
 *     ... run it ...
 *     stats_end(&call);
 *
 * Threads: any. A call is begun and ended on whatever thread; `query` and `session` must live until its end.
 */
#ifndef ANX_DB_STATS_H
#define ANX_DB_STATS_H

#include "db/db_int.h"

enum stats_kind { STATS_SELECT, STATS_UPDATE, STATS_TRANSACTION };
struct stats_call {
    struct database *db; /* NULL: not collected */
    enum stats_kind kind;
    const struct query *query;
    const struct db_session *session;
    uint64_t start_ns, id;
    uint64_t lock_ns; /* the caller may add the time it waited for locks */
    struct stats_call *next, *previous; /* of the running calls */
    char ns[64];      /* for item writes without a query */
    int64_t started_at_ms; /* wall clock */
};
/* query: the query that runs, NULL for item writes (then ns names the namespace). */
void stats_begin(struct database *db, enum stats_kind kind, const struct query *query, anx_text ns,
                 const struct db_session *session, struct stats_call *call);
void stats_end(struct stats_call *call);

#endif
