/* See filter.h. */
#include "filter.h"

#include <executor/executor.h>
#include <nodes/nodeFuncs.h>
#include <optimizer/clauses.h>
#include <optimizer/optimizer.h>

struct anx_pg_filter {
    IndexScanState *node;
    ExprContext *context; /* of its own: the node's is in use while we are called */
};

/* Plans that run, the innermost first: one for each call of the executor on the stack. */
struct running {
    QueryDesc *query;
    struct running *outer;
};
static struct running *running;
static ExecutorRun_hook_type next_run;

static void
run(ANX_PG_EXECUTOR_RUN_PARAMETERS)
{
    struct running here = { .query = query, .outer = running };

    running = &here;
    PG_TRY();
    {
        if (next_run)
            next_run(ANX_PG_EXECUTOR_RUN_ARGUMENTS);
        else
            standard_ExecutorRun(ANX_PG_EXECUTOR_RUN_ARGUMENTS);
    }
    PG_FINALLY();
    {
        running = here.outer;
    }
    PG_END_TRY();
}

void
anx_pg_filter_define(void)
{
    next_run = ExecutorRun_hook;
    ExecutorRun_hook = run;
}

struct search {
    IndexScanDesc scan;
    IndexScanState *found;
};

static bool
look(PlanState *state, void *context)
{
    struct search *search = context;

    if (IsA(state, IndexScanState) && ((IndexScanState *) state)->iss_ScanDesc == search->scan) {
        search->found = (IndexScanState *) state;
        return true;
    }
    return planstate_tree_walker(state, look, context);
}

struct anx_pg_filter *
anx_pg_filter_of(IndexScanDesc scan)
{
    struct search search = { .scan = scan };
    struct anx_pg_filter *filter;
    PlanState *state;

    for (struct running *r = running; r && !search.found; r = r->outer)
        if (r->query->planstate)
            (void) look(r->query->planstate, &search);
    if (!search.found)
        return NULL;
    state = &search.found->ss.ps;
    if (!state->qual || contain_volatile_functions((Node *) state->plan->qual) ||
        contain_subplans((Node *) state->plan->qual))
        return NULL;
    filter = MemoryContextAllocZero(state->state->es_query_cxt, sizeof(*filter));
    filter->node = search.found;
    filter->context = CreateExprContext(state->state);
    return filter;
}

bool
anx_pg_filter_keeps(struct anx_pg_filter *filter, TupleTableSlot *row)
{
    PlanState *state = &filter->node->ss.ps;
    bool is_kept;

    ResetExprContext(filter->context);
    filter->context->ecxt_scantuple = row;
    is_kept = ExecQual(state->qual, filter->context);
    if (!is_kept)
        InstrCountFiltered1(state, 1);
    return is_kept;
}
