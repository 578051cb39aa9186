#include "lantern.h"

static _Noreturn void
not_yet(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not implemented", what)));
    pg_unreachable();
}

void
anx_pg_check_index(Relation index, Relation heap, anx_pg_report_fn report, void *context)
{
    (void) index, (void) heap, (void) report, (void) context;
    not_yet("validate_index");
}

void
anx_pg_index_stats(Relation index, anx_pg_stat_fn report, void *context)
{
    (void) index, (void) report, (void) context;
    not_yet("index_stats");
}
