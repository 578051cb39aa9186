/* What other parts of this room need of the executor. */
#ifndef ANX_DB_SELECT_H
#define ANX_DB_SELECT_H

#include "db/ns.h"
#include "db/result.h"

/* The rows that an UPDATE or DELETE is about, in the order of its ORDER BY (by row id, or nearest first,
 * without), inside of its LIMIT and OFFSET. rows [n] is in the arena.
 *
 * The caller holds ns->write_lock and a reference, not ns->data_lock: nobody else changes the namespace
 * meanwhile. Locks of other namespaces (joins, subqueries) are taken and released inside. query->ns is not
 * looked at. Errors: those of a SELECT with the same conditions. */
ANX_NODISCARD anx_status select_rows(struct database *db, struct ns *ns, const struct query *query,
                                     const struct db_session *session, anx_arena *arena, uint32_t **rows,
                                     size_t *n, anx_error *err);
/* The same for a caller that holds ns->data_lock exclusively as well: a commit, whose earlier steps must be
 * seen. Unknown fields are no error (strict mode "none"). No other namespace may be mentioned, because its
 * lock would be taken out of order: ANX_E_LOGIC. */
ANX_NODISCARD anx_status select_rows_locked(struct database *db, struct ns *ns, const struct query *query,
                                            const struct db_session *session, anx_arena *arena,
                                            uint32_t **rows, size_t *n, anx_error *err);

#endif
