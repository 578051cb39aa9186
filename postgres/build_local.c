/* Graphs made in the backend. Rows go into the engine's loader while the heap is scanned; only their codes
 * are kept. The graph is then made by threads of the engine, and written to pages node by node.
 *
 * When the rows outgrow maintenance_work_mem, those that are there become the graph, and the rest are
 * inserted into the pages one by one, as INSERT would. */
#include "build.h"

#include <access/tableam.h>
#include <commands/progress.h>
#include <miscadmin.h>
#include <pgstat.h>
#include <utils/memutils.h>

/* Candidates of a row while the graph is made, for each partition (ann/hnsw/bulk.c), and what a row takes in
 * tables: the label map, the search for copies, links back. */
#define CANDIDATE_BYTES (48 * sizeof(uint32))
#define EF_PER_PARTITION 100
#define TABLE_BYTES 64
/* FIT_SAMPLE and FIT_BYTES of ann/hnsw/load.c. */
#define WAITING_ROWS ((Size) 8000)
#define WAITING_BYTES ((Size) 16 << 20)

struct local {
    struct build *build;
    struct build_graph graph;
    MemoryContext context; /* of the graph; NULL: before the first row, or after the graph was made */
    Size memory_max;
    Size row_bytes, given_bytes; /* of a row in the graph, and as it is given */
    uint64 n_waiting_max;        /* so many rows are kept as given until codes are fitted on them */
    BlockNumber n_block;
    uint64 n_expected;
    bool is_over; /* memory is used up: rows go into pages */
};

/* What one more row takes until the graph is in pages. */
static Size
row_bytes(const struct pages_meta *meta, Size stride)
{
    Size partitions = meta->ef_construction / EF_PER_PARTITION;

    return stride + 2 * (2 * (Size) meta->m) * sizeof(uint32) + Max(partitions, 1) * CANDIDATE_BYTES +
           TABLE_BYTES;
}

static void
begin(struct local *local)
{
    struct build *build = local->build;
    struct pages_meta meta = pages_open(build->index)->meta;
    const anx_index_params *params;

    anx_pg_info("done init usearch index");
    local->context = AllocSetContextCreate(build->context, "lantern engine", ALLOCSET_SMALL_SIZES);
    build_graph_begin(&local->graph, &meta, build->dim, build_threads(), local->n_expected, local->context);
    params = anx_index_get_params(local->graph.engine);
    local->row_bytes = row_bytes(&meta, space_stride(params));
    local->given_bytes = anx_row_size(params->scalar, params->dim);
    local->n_waiting_max = Min(WAITING_ROWS, WAITING_BYTES / local->given_bytes);
}

/* The rows that were loaded become a graph in pages; the engine's memory is given back. */
static void
finish(struct local *local)
{
    build_graph_finish(&local->graph, local->build->index, local->n_block);
    MemoryContextDelete(local->context);
    local->context = NULL;
}

static void
run_over(struct local *local)
{
    ereport(
        NOTICE,
        (errmsg("graph of index \"%s\" no longer fits into maintenance_work_mem after " UINT64_FORMAT " rows",
                RelationGetRelationName(local->build->index), local->graph.n_row),
         errdetail("The rest is inserted row by row, which takes much longer."),
         errhint("Increase maintenance_work_mem.")));
    finish(local);
    local->is_over = true;
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_INSERT);
}

static Size
memory_used(const struct local *local)
{
    uint64 n = local->graph.n_row;

    return n * local->row_bytes + (n < local->n_waiting_max ? n * local->given_bytes : 0);
}

static void
add_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool is_alive, void *argument)
{
    struct local *local = argument;
    struct build *build = local->build;
    struct anx_pg_vector vector;

    (void) is_alive;
    CHECK_FOR_INTERRUPTS();
    if (!build_vector(build, values, isnull, &vector))
        return;
    build->n_row++;
    if (local->is_over) {
        MemoryContext old = MemoryContextSwitchTo(build->row_context);

        (void) anx_pg_insert(index, values, isnull, tid, build->heap, build->info);
        MemoryContextSwitchTo(old);
        return;
    }
    if (!local->context)
        begin(local);
    build_graph_row(&local->graph, tid, vector.f32 ? (const void *) vector.f32 : vector.bits);
    if (memory_used(local) > local->memory_max && local->graph.n_row > PAGES_RAW_MAX)
        run_over(local);
}

void
build_local(struct build *build)
{
    struct local *local = palloc0(sizeof(*local));

    local->build = build;
    local->memory_max = (Size) maintenance_work_mem * 1024;
    local->n_block = RelationGetNumberOfBlocks(build->heap);
    local->n_expected = build_estimate(build->heap);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_INSERT);
    build_scan(build, add_row, local, NULL);
    build_check_dim(build);
    if (build->n_row == 0)
        anx_pg_info("done init usearch index");
    anx_pg_info("inserted " UINT64_FORMAT " elements", build->n_row);
    if (local->context)
        finish(local);
    anx_pg_info("done saving " UINT64_FORMAT " vectors", build->n_row);
}
