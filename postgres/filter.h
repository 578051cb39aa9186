/* The condition under which the executor keeps the rows of an index scan, so that the scan can leave rows out
 * itself: before their distance is computed, and without their being fetched a second time.
 *
 *     struct anx_pg_filter *filter = anx_pg_filter_of(scan);      NULL: none, or none that may be asked
 *     if (filter && !anx_pg_filter_keeps(filter, row)) ...        the executor would not keep the row either
 *
 * The server does not hand an access method the WHERE of a query: indexes are meant to know only their own
 * columns. But the plan that is running knows it. A hook notes which plans run, and the node whose scan this
 * is has the condition compiled. The executor checks rows that come all the same, so leaving out too few is
 * never wrong.
 *
 * Not asked are conditions with volatile functions, which must be evaluated once per row, and with subplans.
 * Rows that were left out are counted in the node, as EXPLAIN ANALYZE shows them.
 *
 * Caller holds no lock of any kind while it asks: conditions may call functions of users. Memory belongs to
 * the query. Threads: the backend's own. */
#ifndef ANX_POSTGRES_FILTER_H
#define ANX_POSTGRES_FILTER_H

#include "pg_compat.h"

#include <executor/tuptable.h>

struct anx_pg_filter;

/* At the start of the library. */
void anx_pg_filter_define(void);
/* Looks through the plans that run: once per scan. */
struct anx_pg_filter *anx_pg_filter_of(IndexScanDesc scan);
/* row: a row of the table that the snapshot of the scan sees. */
bool anx_pg_filter_keeps(struct anx_pg_filter *filter, TupleTableSlot *row);

#endif
