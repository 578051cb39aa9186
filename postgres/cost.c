#include "lantern.h"

static _Noreturn void
not_yet(const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("%s is not implemented", what)));
    pg_unreachable();
}

void
anx_pg_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
                     Selectivity *selectivity, double *correlation, double *n_page)
{
    (void) root, (void) path, (void) loop_count, (void) startup, (void) total, (void) selectivity;
    (void) correlation, (void) n_page;
    not_yet("planning");
}
