/* The access method lantern_hnsw: the table of callbacks, and the comparison of versions in front of them. */
#include "lantern.h"

#include <access/htup_details.h>
#include <access/table.h>
#include <catalog/indexing.h>
#include <catalog/pg_amop.h>
#include <catalog/pg_amproc.h>
#include <catalog/pg_extension.h>
#include <catalog/pg_opclass.h>
#include <commands/progress.h>
#include <commands/vacuum.h>
#include <utils/builtins.h>
#include <utils/catcache.h>
#include <utils/fmgroids.h>
#include <utils/lsyscache.h>
#include <utils/snapmgr.h>
#include <utils/syscache.h>

#include "base/error.h"

/* SQL objects of these versions work with this library. */
static const char *const compatible_versions[] = { ANX_PG_VERSION };

/* The version of the installed SQL objects, palloc'd; NULL: no extension, objects made by hand. */
static char *
installed_version(void)
{
    Relation catalog = table_open(ExtensionRelationId, AccessShareLock);
    ScanKeyData key;
    SysScanDesc scan;
    HeapTuple tuple;
    char *version = NULL;

    ScanKeyInit(&key, Anum_pg_extension_extname, BTEqualStrategyNumber, F_NAMEEQ, CStringGetDatum("lantern"));
    scan = systable_beginscan(catalog, ExtensionNameIndexId, true, NULL, 1, &key);
    tuple = systable_getnext(scan);
    if (HeapTupleIsValid(tuple)) {
        bool is_null;
        Datum value = heap_getattr(tuple, Anum_pg_extension_extversion, RelationGetDescr(catalog), &is_null);

        if (!is_null)
            version = TextDatumGetCString(value);
    }
    systable_endscan(scan);
    table_close(catalog, AccessShareLock);
    return version;
}

/* Once per backend. Plain catalog access: no SQL is run, so it works without a snapshot or a portal. */
static void
check_version(void)
{
    static bool is_checked = false;
    char *version;

    if (is_checked)
        return;
    version = installed_version();
    for (size_t i = 0; version && i < ANX_COUNT_OF(compatible_versions); i++)
        if (strcmp(version, compatible_versions[i]) == 0)
            is_checked = true;
    if (version && !is_checked)
        ereport(ERROR, (errmsg("LanternDB binary version (%s) does not match the version in SQL (%s). Please "
                               "install the matching binary, or update the extension",
                               ANX_PG_VERSION, version),
                        errhint("ALTER EXTENSION lantern UPDATE; then start a new session.")));
    is_checked = true;
    if (version)
        pfree(version);
}

static IndexBuildResult *
am_build(Relation heap, Relation index, IndexInfo *info)
{
    check_version();
    anx_pg_check_options(index);
    return anx_pg_build(heap, index, info);
}

static bool
am_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap,
          IndexUniqueCheck unique, ANX_PG_INSERT_UNCHANGED IndexInfo *info)
{
    (void) unique;
    ANX_PG_INSERT_UNCHANGED_USED;
    check_version();
    return anx_pg_insert(index, values, isnull, tid, heap, info);
}

static IndexScanDesc
am_begin_scan(Relation index, int n_key, int n_order_by)
{
    check_version();
    return anx_pg_begin_scan(index, n_key, n_order_by);
}

static char *
am_phase_name(int64 phase)
{
    switch (phase) {
    case PROGRESS_CREATEIDX_SUBPHASE_INITIALIZE:
        return "initializing";
    case ANX_PG_PHASE_INSERT:
        return "performing hnsw in-memory insertions";
    case ANX_PG_PHASE_WRITE:
        return "loading tuples into postgres index";
    case ANX_PG_PHASE_SEND:
        return "sending rows to the indexing server";
    case ANX_PG_PHASE_WAIT:
        return "waiting for the indexing server";
    case ANX_PG_PHASE_RECEIVE:
        return "receiving the index from the indexing server";
    default:
        return NULL;
    }
}

/* A complaint of amvalidate, which reports all of them instead of raising the first. */
static void
invalid(bool *result, const char *opclass, const char *what)
{
    ereport(INFO, (errcode(ERRCODE_INVALID_OBJECT_DEFINITION),
                   errmsg("operator class \"%s\" of access method %s %s", opclass, ANX_PG_AM_NAME, what)));
    *result = false;
}

/* An operator class orders by its operators and has a distance function: support function 1 of its type. */
static bool
am_validate(Oid opclass_id)
{
    HeapTuple tuple = SearchSysCache1(CLAOID, ObjectIdGetDatum(opclass_id));
    Form_pg_opclass opclass;
    const char *name;
    CatCList *operators;
    bool result = true, has_order = false;

    if (!HeapTupleIsValid(tuple))
        elog(ERROR, "cache lookup failed for operator class %u", opclass_id);
    opclass = (Form_pg_opclass) GETSTRUCT(tuple);
    name = NameStr(opclass->opcname);
    operators = SearchSysCacheList1(AMOPSTRATEGY, ObjectIdGetDatum(opclass->opcfamily));
    for (int i = 0; i < operators->n_members; i++) {
        Form_pg_amop op = (Form_pg_amop) GETSTRUCT(&operators->members[i]->tuple);

        if (op->amopstrategy != 1 && op->amopstrategy != 2)
            invalid(&result, name, "has a strategy other than 1 and 2");
        if (op->amoppurpose != AMOP_ORDER)
            invalid(&result, name, "has an operator that is not for ordering");
        has_order = has_order || op->amopstrategy == 2;
    }
    ReleaseCatCacheList(operators);
    if (!has_order)
        invalid(&result, name, "has no operator to order by (strategy 2)");
    if (!OidIsValid(get_opfamily_proc(opclass->opcfamily, opclass->opcintype, opclass->opcintype, 1)))
        invalid(&result, name, "has no distance function (support function 1)");
    ReleaseSysCache(tuple);
    return result;
}

ANX_PG_FUNCTION(lantern_hnsw_handler);
Datum
lantern_hnsw_handler(PG_FUNCTION_ARGS)
{
    IndexAmRoutine *am = makeNode(IndexAmRoutine);

    (void) fcinfo;
    am->amstrategies = 0; /* any number, as Lantern's: the operator classes decide */
    am->amsupport = 4;
    am->amoptsprocnum = 0;
    am->amcanorder = false;
    am->amcanorderbyop = true;
    am->amcanbackward = false;
    am->amcanunique = false;
    am->amcanmulticol = false;
    am->amoptionalkey = true;
    am->amsearcharray = false;
    am->amsearchnulls = false;
    am->amstorage = false;
    am->amclusterable = false;
    am->ampredlocks = false;
    am->amcanparallel = false;
    am->amcaninclude = false;
    am->amusemaintenanceworkmem = false;
    am->amparallelvacuumoptions = VACUUM_OPTION_PARALLEL_BULKDEL;
    am->amkeytype = InvalidOid;
    anx_pg_am_newer_fields(am);

    am->ambuild = am_build;
    am->ambuildempty = anx_pg_build_empty;
    am->aminsert = am_insert;
    am->ambulkdelete = anx_pg_bulk_delete;
    am->amvacuumcleanup = anx_pg_vacuum_cleanup;
    am->amcanreturn = NULL;
    am->amcostestimate = anx_pg_cost_estimate;
    am->amoptions = anx_pg_parse_options;
    am->amproperty = NULL; /* the server's own answers fit */
    am->ambuildphasename = am_phase_name;
    am->amvalidate = am_validate;
    am->ambeginscan = am_begin_scan;
    am->amrescan = anx_pg_rescan;
    am->amgettuple = anx_pg_get_tuple;
    am->amgetbitmap = NULL;
    am->amendscan = anx_pg_end_scan;
    am->ammarkpos = NULL;
    am->amrestrpos = NULL;
    am->amestimateparallelscan = NULL;
    am->aminitparallelscan = NULL;
    am->amparallelrescan = NULL;
    PG_RETURN_POINTER(am);
}
