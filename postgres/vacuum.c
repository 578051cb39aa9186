#include "lantern.h"

static _Noreturn void
not_yet(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not implemented", what)));
    pg_unreachable();
}

IndexBulkDeleteResult *
anx_pg_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats, IndexBulkDeleteCallback is_dead,
                   void *context)
{
    (void) info, (void) stats, (void) is_dead, (void) context;
    not_yet("VACUUM");
}

IndexBulkDeleteResult *
anx_pg_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
    (void) info;
    return stats;
}
