/* SQL functions for people who look after indexes: validation and numbers. */
#include "lantern.h"

#include <access/table.h>
#include <access/xlog.h>
#include <catalog/index.h>
#include <catalog/pg_am.h>
#include <catalog/pg_class.h>
#include <commands/defrem.h>
#include <executor/executor.h>
#include <funcapi.h>
#include <miscadmin.h>
#include <utils/acl.h>
#include <utils/builtins.h>
#include <utils/lsyscache.h>
#include <utils/tuplestore.h>

#define WARNINGS_MAX 20 /* of one validate_index: more say nothing new */

/* An index of ours and its table, opened so that nobody writes meanwhile (a standby has no writers). */
struct subject {
    Relation index, heap;
    LOCKMODE lock;
};

static void
open_subject(Oid index_id, struct subject *out)
{
    Oid heap_id = IndexGetRelation(index_id, true);

    if (!OidIsValid(heap_id))
        ereport(ERROR, (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                        errmsg("\"%s\" is not a %s index", get_rel_name(index_id), ANX_PG_AM_NAME)));
    if (pg_class_aclcheck(heap_id, GetUserId(), ACL_SELECT) != ACLCHECK_OK)
        aclcheck_error(ACLCHECK_NO_PRIV, OBJECT_TABLE, get_rel_name(heap_id));
    out->lock = RecoveryInProgress() ? AccessShareLock : ShareLock;
    out->heap = table_open(heap_id, out->lock);
    out->index = index_open(index_id, out->lock);
    if (out->index->rd_rel->relkind != RELKIND_INDEX ||
        out->index->rd_rel->relam != get_am_oid(ANX_PG_AM_NAME, true))
        ereport(ERROR,
                (errcode(ERRCODE_WRONG_OBJECT_TYPE),
                 errmsg("\"%s\" is not a %s index", RelationGetRelationName(out->index), ANX_PG_AM_NAME)));
}

static void
close_subject(const struct subject *subject)
{
    index_close(subject->index, subject->lock);
    table_close(subject->heap, subject->lock);
}

static void
warn(void *context, const char *problem)
{
    int *n_problem = context;

    if (++*n_problem <= WARNINGS_MAX)
        ereport(WARNING, (errcode(ERRCODE_INDEX_CORRUPTED), errmsg("%s", problem)));
}

/* validate_index(index, print_info): two INFO lines when all is well, an error when it is not. */
ANX_PG_FUNCTION(lantern_validate_index);
Datum
lantern_validate_index(PG_FUNCTION_ARGS)
{
    Oid index_id = PG_GETARG_OID(0);
    struct subject subject;
    int n_problem = 0;

    open_subject(index_id, &subject);
    if (PG_GETARG_BOOL(1))
        ereport(INFO, (errmsg("validate_index() start for %s with Oid=%u",
                              RelationGetRelationName(subject.index), index_id)));
    else
        ereport(INFO, (errmsg("validate_index() start for %s", RelationGetRelationName(subject.index))));
    anx_pg_check_index(subject.index, NULL, warn, &n_problem);
    if (n_problem)
        ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                        errmsg("validate_index() found %d issues in index \"%s\"", n_problem,
                               RelationGetRelationName(subject.index)),
                        errhint("REINDEX INDEX builds it anew; the table is not affected.")));
    ereport(INFO, (errmsg("validate_index() done, no issues found.")));
    close_subject(&subject);
    PG_RETURN_VOID();
}

/* Where the rows of a set-returning function are collected. */
struct rows {
    Tuplestorestate *store;
    TupleDesc shape;
};

static void
begin_rows(FunctionCallInfo fcinfo, struct rows *out)
{
    ReturnSetInfo *result = (ReturnSetInfo *) fcinfo->resultinfo;
    MemoryContext old;

    if (!result || !IsA(result, ReturnSetInfo) || !(result->allowedModes & SFRM_Materialize) ||
        !result->expectedDesc)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("a function that returns rows is called where none can be taken")));
    old = MemoryContextSwitchTo(result->econtext->ecxt_per_query_memory);
    out->shape = CreateTupleDescCopy(result->expectedDesc);
    out->store =
        tuplestore_begin_heap((result->allowedModes & SFRM_Materialize_Random) != 0, false, work_mem);
    MemoryContextSwitchTo(old);
    result->returnMode = SFRM_Materialize;
    result->setResult = out->store;
    result->setDesc = out->shape;
}

static void
add_problem(void *context, const char *problem)
{
    struct rows *rows = context;
    Datum value = CStringGetTextDatum(problem);
    bool is_null = false;

    tuplestore_putvalues(rows->store, rows->shape, &value, &is_null);
    pfree(DatumGetPointer(value));
}

/* lantern_hnsw_check(index, heap): a row for each broken invariant. */
ANX_PG_FUNCTION(lantern_hnsw_check);
Datum
lantern_hnsw_check(PG_FUNCTION_ARGS)
{
    struct subject subject;
    struct rows rows;

    begin_rows(fcinfo, &rows);
    open_subject(PG_GETARG_OID(0), &subject);
    anx_pg_check_index(subject.index, PG_GETARG_BOOL(1) ? subject.heap : NULL, add_problem, &rows);
    close_subject(&subject);
    return (Datum) 0;
}

static void
add_stat(void *context, const char *name, double value)
{
    struct rows *rows = context;
    Datum values[2] = { CStringGetTextDatum(name), Float8GetDatum(value) };
    bool is_null[2] = { false, false };

    tuplestore_putvalues(rows->store, rows->shape, values, is_null);
}

/* lantern_hnsw_stats(index): a row for each number. */
ANX_PG_FUNCTION(lantern_hnsw_stats);
Datum
lantern_hnsw_stats(PG_FUNCTION_ARGS)
{
    struct subject subject;
    struct rows rows;

    begin_rows(fcinfo, &rows);
    open_subject(PG_GETARG_OID(0), &subject);
    anx_pg_index_stats(subject.index, add_stat, &rows);
    close_subject(&subject);
    return (Datum) 0;
}

/* Lantern's builds for tests have points where a call can be made to fail. This one has none. */
ANX_PG_FUNCTION(lantern_failure_point_enable);
Datum
lantern_failure_point_enable(PG_FUNCTION_ARGS)
{
    ereport(WARNING, (errmsg("failure point \"%s\" of \"%s\" is not enabled: this build has none",
                             text_to_cstring(PG_GETARG_TEXT_PP(1)), text_to_cstring(PG_GETARG_TEXT_PP(0)))));
    PG_RETURN_VOID();
}
