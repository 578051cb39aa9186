/* UPDATE and DELETE of the rows that a query chooses: modify.c for requests, tx.c inside of a commit. */
#ifndef ANX_DB_MODIFY_H
#define ANX_DB_MODIFY_H

#include "db/changes.h"
#include "db/result.h"

struct modify {
    struct database *db;
    struct ns *ns;
    const struct query *query; /* QUERY_UPDATE or QUERY_DELETE */
    const struct db_session *session;
    anx_arena *arena; /* lives as long as the whole */
    anx_arena *piece; /* reset between pieces; NULL in a commit, where everything lives to its end */
    struct result *result; /* gets the documents; NULL: nobody wants them */
    /* In a commit: data_lock is held, the batch is shared, and changes are noted. */
    struct undo *undo;
    struct store_batch *batch;
    size_t n_affected;
    uint64_t ticket;
    struct embed_memo *memo; /* of an UPDATE that may change what embedders read; NULL otherwise */
    bool is_waiting; /* nothing was done: the memo has requests that must be run first */
    anx_text *configs; /* new documents of #config, to be applied when the locks are released */
    size_t n_config;
};
/* Sees which embedders an UPDATE may need. A lock of the namespace held. */
ANX_NODISCARD anx_status modify_plan(struct modify *m, anx_error *err);
/* write_lock held, and data_lock exclusively when undo is set. */
ANX_NODISCARD anx_status modify_run(struct modify *m, anx_error *err);

#endif
