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
    anx_index *engine;   /* NULL until the first row */
    anx_loader *loader;  /* NULL: before the first row, or after the graph was made */
    MemoryContext context; /* of the engine's objects */
    uint64 n_loaded, label_sum;
    Size memory, memory_max;
    Size row_bytes, given_bytes; /* of a row in the graph, and as it is given */
    uint64 n_waiting_max;        /* so many rows are kept as given until codes are fitted on them */
    uint32 entry_max;
    BlockNumber n_block;
    uint64 n_expected;
    bool is_over; /* memory is used up: rows go into pages */
};

static void
abort_loader(void *object)
{
    struct local *local = object;

    anx_loader_abort(local->loader);
    local->loader = NULL;
}

/* What one more row takes until the graph is in pages. */
static Size
row_bytes(const struct pages_meta *meta, Size stride)
{
    Size partitions = meta->ef_construction / EF_PER_PARTITION;

    return stride + 2 * (2 * (Size) meta->m) * sizeof(uint32) +
           Max(partitions, 1) * CANDIDATE_BYTES + TABLE_BYTES;
}

static void
begin(struct local *local)
{
    struct build *build = local->build;
    struct pages_meta meta = pages_open(build->index)->meta;
    anx_error err;

    anx_pg_info("done init usearch index");
    local->context = AllocSetContextCreate(build->context, "lantern engine", ALLOCSET_SMALL_SIZES);
    local->engine = build_engine(&meta, build->dim, build_threads(), local->context);
    local->row_bytes = row_bytes(&meta, space_stride(anx_index_get_params(local->engine)));
    local->given_bytes = anx_row_size(anx_index_get_params(local->engine)->scalar,
                                      anx_index_get_params(local->engine)->dim);
    local->n_waiting_max = Min(WAITING_ROWS, WAITING_BYTES / local->given_bytes);
    local->entry_max = pages_entry_limit(space_stride(anx_index_get_params(local->engine)));
    anx_pg_check(anx_loader_begin(local->engine, local->n_expected, &local->loader, &err), &err);
    build_on_reset(local->context, abort_loader, local); /* runs before the engine goes: last in, first out */
}

static anx_status
finish_loader(struct build_work *work, anx_error *err)
{
    struct local *local = work->context;
    anx_loader *loader = local->loader;

    local->loader = NULL; /* freed whatever happens */
    return anx_loader_finish(loader, build_progress, work, err);
}

static void
close_stream(void *object)
{
    graph_stream_close(object);
}

/* The rows that were loaded become a graph in pages; the engine's memory is given back. */
static void
finish(struct local *local)
{
    struct build *build = local->build;
    struct build_work work = { .fn = finish_loader, .context = local };
    struct build_expect expect = { .dim = build->dim, .n_row = local->n_loaded, .label_sum = local->label_sum,
                                   .n_block = local->n_block };
    struct graph_stream *stream;
    anx_error err;

    anx_pg_check(build_run(&work, ANX_PG_PHASE_INSERT, &err), &err);
    anx_pg_check(graph_cursor_open(local->engine, local->entry_max, &stream, &err), &err);
    build_on_reset(local->context, close_stream, stream);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_WRITE);
    build_take(build->index, stream, &expect);
    MemoryContextDelete(local->context);
    local->context = NULL;
    local->engine = NULL;
}

static void
run_over(struct local *local)
{
    ereport(
        NOTICE,
        (errmsg("graph of index \"%s\" no longer fits into maintenance_work_mem after " UINT64_FORMAT " rows",
                RelationGetRelationName(local->build->index), local->n_loaded),
         errdetail("The rest is inserted row by row, which takes much longer."),
         errhint("Increase maintenance_work_mem.")));
    finish(local);
    local->is_over = true;
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_INSERT);
}

static void
add_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool is_alive, void *argument)
{
    struct local *local = argument;
    struct build *build = local->build;
    struct anx_pg_vector vector;
    uint64 label = build_label(tid);
    anx_error err;

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
    if (!local->engine)
        begin(local);
    anx_pg_check(
        anx_loader_rows(local->loader, 1, &label, vector.f32 ? (const void *) vector.f32 : vector.bits, &err),
        &err);
    local->label_sum += build_label_sum(label);
    local->n_loaded++;
    local->memory = local->n_loaded * local->row_bytes;
    if (local->n_loaded < local->n_waiting_max)
        local->memory += local->n_loaded * local->given_bytes;
    if (local->memory > local->memory_max && local->n_loaded > PAGES_RAW_MAX)
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
    if (local->engine)
        finish(local);
    anx_pg_info("done saving " UINT64_FORMAT " vectors", build->n_row);
}
