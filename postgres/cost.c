/* What an index scan costs, so that the planner takes it when it should.
 *
 * The first row costs a walk: about ef hops, each of which reads its own page and those of the neighbors that
 * it has not seen. A row after that costs its share of reading the index to the end. The server adds the rows
 * of the table, and takes from all this the part that a LIMIT needs: with a filter that keeps a share s,
 * LIMIT n needs n / s rows, so a filter that leaves little makes the index dear compared to reading the
 * table, or compared to an index on the filter's column.
 *
 * Without an order by the index can give nothing and is never taken. */
#include "lantern.h"

#include <access/genam.h>
#include <optimizer/cost.h>
#include <optimizer/optimizer.h>
#include <utils/selfuncs.h>
#include <utils/spccache.h>

#include <float.h>
#include <math.h>

/* Measured on sift (300,000 rows of 128) and packages (60,187 of 384) with m = 16: a hop meets about ten
 * codes that it has not seen, on about seven pages. */
#define CODES_PER_HOP 10.0
#define PAGES_PER_HOP 7.0
#define ENTRY_CODES 1024.0
/* Walks go over the same pages again and again: most are in memory. */
#define NOT_CACHED 0.25
/* A row is looked up on its page, and read from the table once more than the server knows of: both are hits
 * mostly. */
#define PAGES_PER_ROW 0.15
/* Comparing two codes of a few hundred bytes is one operator. */
#define CODE_COST cpu_operator_cost

static double
list_size(Oid index_id)
{
    Relation index;
    int ef = anx_pg_settings.ef;

    if (ef == 0) {
        index = index_open(index_id, NoLock); /* the planner holds one */
        ef = anx_pg_options_of(index)->ef;
        index_close(index, NoLock);
    }
    return Max(ef, anx_pg_settings.init_k);
}

void
anx_pg_cost_estimate(PlannerInfo *root, IndexPath *path, double loop_count, Cost *startup, Cost *total,
                     Selectivity *selectivity, double *correlation, double *n_page)
{
    const IndexOptInfo *index = path->indexinfo;
    double n = Max(index->tuples, 1.0), pages = Max(index->pages, 1.0), random, seq, hops;
    GenericCosts costs = { 0 };

    if (path->indexorderbys == NIL) {
        *startup = *total = DBL_MAX;
        *selectivity = 0;
        *correlation = 0;
        *n_page = 0;
        return;
    }
    genericcostestimate(root, path, loop_count, &costs);
    get_tablespace_page_costs(index->reltablespace, &random, &seq);
    hops = Min(list_size(index->indexoid), n);
    *startup = Min(hops * PAGES_PER_HOP, pages) * random * NOT_CACHED +
               Min(hops * CODES_PER_HOP + Min(ENTRY_CODES, n / 64), n) * CODE_COST;
    *total = *startup + pages * seq + n * (PAGES_PER_ROW * random + cpu_index_tuple_cost + CODE_COST);
    *selectivity = costs.indexSelectivity;
    *correlation = 0;
    *n_page = pages;
}
