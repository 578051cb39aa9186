#include "lantern.h"

static _Noreturn void
not_yet(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not implemented", what)));
    pg_unreachable();
}

IndexScanDesc
anx_pg_begin_scan(Relation index, int n_key, int n_order_by)
{
    (void) index, (void) n_key, (void) n_order_by;
    not_yet("SELECT");
}

void
anx_pg_rescan(IndexScanDesc scan, ScanKey keys, int n_key, ScanKey order_bys, int n_order_by)
{
    (void) scan, (void) keys, (void) n_key, (void) order_bys, (void) n_order_by;
    not_yet("SELECT");
}

bool
anx_pg_get_tuple(IndexScanDesc scan, ScanDirection direction)
{
    (void) scan, (void) direction;
    not_yet("SELECT");
}

void
anx_pg_end_scan(IndexScanDesc scan)
{
    (void) scan;
}
