#include "lantern.h"

static _Noreturn void
not_yet(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not implemented", what)));
    pg_unreachable();
}

bool
anx_pg_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap, IndexInfo *info)
{
    (void) index, (void) values, (void) isnull, (void) tid, (void) heap, (void) info;
    not_yet("INSERT");
}
