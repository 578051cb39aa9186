#include "lantern.h"

static _Noreturn void
not_yet(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not implemented", what)));
    pg_unreachable();
}

IndexBuildResult *
anx_pg_build(Relation heap, Relation index, IndexInfo *info)
{
    (void) heap, (void) index, (void) info;
    not_yet("CREATE INDEX");
}

void
anx_pg_build_empty(Relation index)
{
    (void) index;
    not_yet("UNLOGGED");
}
