/* Reading rows of a table that lie anywhere in it, one after another.
 *
 *     heap_read_is_possible(scan)              ordinary tables in shared buffers; once per scan
 *     heap_read_ahead(table, tid, 1)           hint: the row comes soon; then with 2, a few rows later
 *     heap_read_prepare(scan, tid);            before table_index_fetch_tuple(scan->xs_heapfetch, tid, ..)
 *     heap_read_remember(scan, tid);           after it
 *
 * A third of the time of fetching a row goes into finding its buffer in the server's table, and much of the
 * rest into waiting for memory. So buffers are remembered (pagewalk.h), pinned where they were last seen if
 * they still hold the block, and left where the table's access method finds them; and what will be looked at
 * is prefetched: page header and line pointer first, the row's header later. Hints read pages without a lock;
 * what they read is used as an address within the page only.
 *
 * Threads: the backend's own. */
#ifndef ANX_POSTGRES_HEAPREAD_H
#define ANX_POSTGRES_HEAPREAD_H

#include "pg_compat.h"

#include <storage/itemptr.h>

extern bool heap_read_is_possible(IndexScanDesc scan);
extern void heap_read_ahead(Relation table, const ItemPointerData *tid, int step);
extern void heap_read_prepare(IndexScanDesc scan, const ItemPointerData *tid);
extern void heap_read_remember(IndexScanDesc scan, const ItemPointerData *tid);

#endif
