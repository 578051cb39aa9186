/* The one place that knows which PostgreSQL this is: 13 to 18. Include it first; it brings postgres.h.
 *
 * Foreign headers are named in angle brackets: the includes in quotes are the tree's own. */
#ifndef ANX_POSTGRES_PG_COMPAT_H
#define ANX_POSTGRES_PG_COMPAT_H

/* Everything is hidden but what the server looks up by name. Versions before 16 leave the mark empty. */
#define PGDLLEXPORT __attribute__((visibility("default")))

#include <postgres.h>

#include <access/amapi.h>
#include <access/genam.h>
#include <access/relscan.h>
#include <access/tableam.h>
#include <catalog/index.h>
#include <fmgr.h>
#include <nodes/execnodes.h>
#include <utils/rel.h>

#if PG_VERSION_NUM < 130000 || PG_VERSION_NUM >= 190000
#error "PostgreSQL 13 to 18 are supported"
#endif

#if PG_VERSION_NUM >= 160000
#include <varatt.h>
#endif

/* A C function that SQL calls. Before 16 PG_FUNCTION_INFO_V1 does not export the function itself. */
#define ANX_PG_FUNCTION(name) \
    PGDLLEXPORT Datum name(PG_FUNCTION_ARGS); \
    PG_FUNCTION_INFO_V1(name)

/* aminsert learned in 14 whether an UPDATE left the column as it was. */
#if PG_VERSION_NUM >= 140000
#define ANX_PG_INSERT_UNCHANGED bool unchanged,
#define ANX_PG_INSERT_UNCHANGED_USED ((void) unchanged)
#else
#define ANX_PG_INSERT_UNCHANGED
#define ANX_PG_INSERT_UNCHANGED_USED ((void) 0)
#endif

/* A GUC prefix that is ours: names that are not defined are refused. */
#if PG_VERSION_NUM >= 150000
#define ANX_PG_RESERVE_PREFIX(prefix) MarkGUCPrefixReserved(prefix)
#else
#define ANX_PG_RESERVE_PREFIX(prefix) EmitWarningsOnPlaceholders(prefix)
#endif

/* The relation's storage was made anew in this transaction: a rebuild (REINDEX, TRUNCATE, a rewrite). */
#if PG_VERSION_NUM >= 160000
#define ANX_PG_NEW_STORAGE(rel) ((rel)->rd_newRelfilelocatorSubid != InvalidSubTransactionId)
#define ANX_PG_FILE_NUMBER(rel) ((rel)->rd_locator.relNumber)
#else
#define ANX_PG_NEW_STORAGE(rel) ((rel)->rd_newRelfilenodeSubid != InvalidSubTransactionId)
#define ANX_PG_FILE_NUMBER(rel) ((rel)->rd_node.relNode)
#endif

/* The name of a block of a relation's main fork in the table of buffers (storage/buf_internals.h). */
#if PG_VERSION_NUM >= 160000
#define ANX_PG_INIT_BUFFER_TAG(tag, rel, block) InitBufferTag(&(tag), &(rel)->rd_locator, MAIN_FORKNUM, block)
#define ANX_PG_PIN_RECENT(rel, block, buffer) ReadRecentBuffer((rel)->rd_locator, MAIN_FORKNUM, block, buffer)
#else
#define ANX_PG_INIT_BUFFER_TAG(tag, rel, block) INIT_BUFFERTAG(tag, (rel)->rd_node, MAIN_FORKNUM, block)
/* Pins the buffer if it still holds the block; 13 has no such call. */
#if PG_VERSION_NUM >= 140000
#define ANX_PG_PIN_RECENT(rel, block, buffer) ReadRecentBuffer((rel)->rd_node, MAIN_FORKNUM, block, buffer)
#else
#define ANX_PG_PIN_RECENT(rel, block, buffer) false
#endif
#endif

/* Vacuum's pause, which learned in 18 who asks. */
#if PG_VERSION_NUM >= 180000
#define ANX_PG_VACUUM_DELAY() vacuum_delay_point(false)
#else
#define ANX_PG_VACUUM_DELAY() vacuum_delay_point()
#endif

/* What a hook of ExecutorRun takes and passes on; 18 lost the question whether this is the only call. */
#if PG_VERSION_NUM >= 180000
#define ANX_PG_EXECUTOR_RUN_PARAMETERS QueryDesc *query, ScanDirection direction, uint64 count
#define ANX_PG_EXECUTOR_RUN_ARGUMENTS query, direction, count
#else
#define ANX_PG_EXECUTOR_RUN_PARAMETERS \
    QueryDesc *query, ScanDirection direction, uint64 count, bool execute_once
#define ANX_PG_EXECUTOR_RUN_ARGUMENTS query, direction, count, execute_once
#endif

/* What later versions ask of an access method. */
static inline void
anx_pg_am_newer_fields(IndexAmRoutine *am)
{
#if PG_VERSION_NUM >= 160000
    am->amsummarizing = false;
#endif
#if PG_VERSION_NUM >= 170000
    am->amcanbuildparallel = false; /* threads of the engine, not parallel workers */
    am->aminsertcleanup = NULL;
#endif
#if PG_VERSION_NUM >= 180000
    am->amcanhash = false;
    am->amconsistentequality = false;
    am->amconsistentordering = false;
    am->amgettreeheight = NULL;
    am->amtranslatestrategy = NULL;
    am->amtranslatecmptype = NULL;
#endif
    (void) am;
}

#endif
