/* See build.h. */
#include "build.h"

#include <access/genam.h>
#include <access/tableam.h>
#include <catalog/index.h>
#include <commands/progress.h>
#include <miscadmin.h>
#include <optimizer/plancat.h>
#include <pgstat.h>
#include <port/atomics.h>
#include <storage/latch.h>
#include <storage/procsignal.h>
#include <utils/memutils.h>

#include <pthread.h>
#include <signal.h>

#include "base/error.h"
#include "base/thread.h"

#define PIECE_MAX 64 /* blocks of a piece of a scan: large enough for the disk */
#define PIECES_MIN 128 /* of a table of as many blocks */
#define LOOK_MS 50 /* how often the backend looks up while engine threads work */

void
build_init(struct build *build, Relation heap, Relation index, IndexInfo *info, MemoryContext context)
{
    *build = (struct build){ .heap = heap, .index = index, .info = info, .context = context };
    anx_pg_check_options(index);
    anx_pg_column_of(index, &build->column);
    build->dim = build->column.declared_dim;
    build->row_context = AllocSetContextCreate(context, "lantern build row", ALLOCSET_DEFAULT_SIZES);
}

bool
build_vector(struct build *build, const Datum *values, const bool *isnull, struct anx_pg_vector *out)
{
    MemoryContext old;

    if (isnull[0]) {
        build_check_dim(build); /* it is the first row that tells the dimension, as with Lantern */
        return false;
    }
    MemoryContextReset(build->row_context);
    old = MemoryContextSwitchTo(build->row_context);
    anx_pg_vector_of(&build->column, values[0], out);
    MemoryContextSwitchTo(old);
    if (build->dim == 0) {
        if (out->dim == 0)
            anx_pg_no_dimensions();
        build->dim = out->dim;
    }
    anx_pg_expect_row_dim(out->dim, build->dim);
    return true;
}

void
build_check_dim(const struct build *build)
{
    if (build->dim == 0 && !anx_pg_is_rebuild(build->index))
        anx_pg_no_dimensions();
}

/* Piece i is at i * stride modulo n_piece; stride is near the golden section of n_piece and prime to it, so
 * the first few pieces already lie all over the table. */
static BlockNumber
spread(BlockNumber n_piece)
{
    BlockNumber stride = (BlockNumber) ((double) n_piece * 0.6180339887);

    for (stride = Max(stride, 1);; stride++) {
        BlockNumber a = n_piece, b = stride;

        while (b > 0) {
            BlockNumber rest = a % b;

            a = b, b = rest;
        }
        if (a == 1)
            return stride;
    }
}

void
build_scan(struct build *build, IndexBuildCallback row, void *context, void (*between)(void *context))
{
    BlockNumber n_block = RelationGetNumberOfBlocks(build->heap), n_done = 0;
    BlockNumber piece = Max(1, Min(PIECE_MAX, n_block / PIECES_MIN));
    BlockNumber n_piece = (n_block + piece - 1) / piece, stride = n_piece ? spread(n_piece) : 0;

    pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_TOTAL, n_block);
    for (BlockNumber i = 0; i < n_piece; i++) {
        BlockNumber first = (BlockNumber) ((uint64) i * stride % n_piece) * piece;
        BlockNumber n = Min(piece, n_block - first);

        build->n_heap += table_index_build_range_scan(build->heap, build->index, build->info, false, false,
                                                      false, first, n, row, context, NULL);
        n_done += n;
        pgstat_progress_update_param(PROGRESS_SCAN_BLOCKS_DONE, n_done);
        if (between)
            between(context);
    }
}

uint64
build_estimate(Relation heap)
{
    BlockNumber n_block;
    double n_tuple, all_visible;

    estimate_rel_size(heap, NULL, &n_block, &n_tuple, &all_visible);
    return n_block == 0 || n_tuple < 1 ? n_block : (uint64) n_tuple;
}

bool
build_tid(uint64 label, BlockNumber n_block, ItemPointerData *out)
{
    if (label >> 48)
        return false;
    memcpy(out, &label, sizeof(*out));
    return ItemPointerIsValid(out) && ItemPointerGetBlockNumber(out) < n_block &&
           ItemPointerGetOffsetNumber(out) <= MaxOffsetNumber;
}

/* --- engine objects --- */

struct owned {
    MemoryContextCallback callback; /* first */
    void (*destroy)(void *object);
    void *object;
};

static void
destroy_owned(void *argument)
{
    struct owned *owned = argument;

    owned->destroy(owned->object);
}

void
build_on_reset(MemoryContext context, void (*destroy)(void *object), void *object)
{
    struct owned *owned = MemoryContextAllocExtended(context, sizeof(*owned), MCXT_ALLOC_NO_OOM);

    if (!owned) {
        destroy(object);
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory")));
    }
    owned->destroy = destroy;
    owned->object = object;
    owned->callback.func = destroy_owned;
    owned->callback.arg = owned;
    MemoryContextRegisterResetCallback(context, &owned->callback);
}

static void
close_stream(void *object)
{
    graph_stream_close(object);
}

void
build_own_stream(MemoryContext context, struct graph_stream *stream)
{
    build_on_reset(context, close_stream, stream);
}

size_t
build_threads(void)
{
    size_t wanted = 1 + (size_t) Max(max_parallel_maintenance_workers, 0), have = anx_cpu_count();

    return wanted < have ? wanted : have;
}

/* --- work beside the backend --- */

bool
build_is_interrupted(void)
{
    return InterruptPending && (QueryCancelPending || ProcDiePending);
}

bool
build_progress(void *context, const char *phase, size_t done, size_t total)
{
    struct build_work *work = context;

    (void) phase;
    pg_atomic_write_u64(&work->done, done);
    pg_atomic_write_u64(&work->total, total);
    return pg_atomic_read_u32(&work->is_stopped) == 0;
}

struct run {
    struct build_work *work;
    anx_status status;
    anx_error *err;
    struct Latch *latch;
    pthread_t thread;
};

static void *
run_main(void *argument)
{
    struct run *run = argument;

    run->status = run->work->fn(run->work, run->err);
    pg_atomic_write_u32(&run->work->is_done, 1);
    return NULL;
}

/* Signals are the backend's own thread's. */
static int
start(struct run *run)
{
    sigset_t all, before;
    int rc;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    rc = pthread_create(&run->thread, NULL, run_main, run);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return rc;
}

static void
show_progress(struct build_work *work)
{
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) pg_atomic_read_u64(&work->done));
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) pg_atomic_read_u64(&work->total));
}

/* Nothing in here raises while the thread runs. */
anx_status
build_run(struct build_work *work, enum anx_pg_phase phase, anx_error *err)
{
    struct run run = { .work = work, .err = err };
    int rc, wait_ms = 1;

    pg_atomic_init_u32(&work->is_stopped, 0);
    pg_atomic_init_u32(&work->is_done, 0);
    pg_atomic_init_u64(&work->done, 0);
    pg_atomic_init_u64(&work->total, 0);
    CHECK_FOR_INTERRUPTS();
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, phase);
    rc = start(&run);
    if (rc != 0)
        return anx_fail(err, ANX_E_NOMEM, "could not start a build thread: %s", strerror(rc));
    while (pg_atomic_read_u32(&work->is_done) == 0) {
        int events = WaitLatch(MyLatch, WL_LATCH_SET | WL_TIMEOUT | WL_POSTMASTER_DEATH, wait_ms,
                               PG_WAIT_EXTENSION);

        if (events & WL_LATCH_SET)
            ResetLatch(MyLatch);
        if (build_is_interrupted() || (events & WL_POSTMASTER_DEATH))
            pg_atomic_write_u32(&work->is_stopped, 1);
        if (ProcSignalBarrierPending)
            ProcessProcSignalBarrier();
        show_progress(work);
        wait_ms = Min(wait_ms * 2, LOOK_MS);
    }
    pthread_join(run.thread, NULL);
    return run.status;
}

/* --- a finished graph --- */

static _Noreturn void
fail_graph(Relation index, const char *detail)
{
    ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                    errmsg("the graph received for index \"%s\" is not the one asked for",
                           RelationGetRelationName(index)),
                    errdetail("%s", detail)));
}

static void
check_head(Relation index, const struct graph_head *head, const struct pages_meta *meta,
           const struct build_expect *expect)
{
    struct pages_meta known = *meta;

    known.dim = expect->dim;
    if (head->metric != (anx_metric) meta->metric || head->scalar != (anx_scalar) meta->scalar ||
        head->dim != pages_engine_dim(&known))
        fail_graph(index, psprintf("It has metric %s, element %s and %zu dimensions.",
                                   anx_metric_name(head->metric), anx_scalar_name(head->scalar), head->dim));
    if (head->n_label != expect->n_row)
        fail_graph(index, psprintf("It has " UINT64_FORMAT " rows, the table " UINT64_FORMAT ".",
                                   head->n_label, expect->n_row));
    if (head->n_node >= PAGES_SLOT_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("an index cannot have more than %u nodes", PAGES_SLOT_MAX)));
}

/* The heap tuples of a node, in `tids` [n_label]. */
static uint64
node_tids(Relation index, const struct graph_node *node, const struct build_expect *expect,
          ItemPointerData *tids)
{
    uint64 sum = 0;

    for (size_t i = 0; i < node->n_label; i++) {
        if (!build_tid(node->labels[i], expect->n_block, &tids[i]))
            fail_graph(index, psprintf("It has a row with label " UINT64_FORMAT ".", node->labels[i]));
        sum += build_label_sum(node->labels[i]);
    }
    return sum;
}

static void
take_nodes(Relation index, struct graph_stream *stream, const struct build_expect *expect,
           struct pages_writer *writer)
{
    const struct graph_head *head = graph_stream_head(stream);
    Size capacity = 64;
    ItemPointerData *tids = palloc(capacity * sizeof(*tids));
    uint64 sum = 0, n = 0;
    struct graph_node node;
    anx_error err;
    bool has;

    for (;;) {
        struct pages_node page_node;
        anx_status st;

        st = graph_stream_next(stream, &node, &has, &err);
        if (st != ANX_OK && expect->check)
            expect->check(expect->check_context, st, &err);
        anx_pg_check(st, &err);
        if (!has)
            break;
        if (node.n_label > capacity) {
            capacity = node.n_label * 2;
            pfree(tids);
            tids = MemoryContextAllocHuge(CurrentMemoryContext, capacity * sizeof(*tids));
        }
        sum += node_tids(index, &node, expect, tids);
        if (node.n_link > head->degree)
            fail_graph(index, "A node has too many links.");
        page_node = (struct pages_node){ .links = node.links,
                                         .n_link = (uint16) node.n_link,
                                         .residual = node.residual,
                                         .payload = node.payload };
        pages_writer_node(writer, &page_node, (uint32) node.n_label, tids);
        if ((++n & 1023) == 0)
            pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) n);
    }
    if (sum != expect->label_sum)
        fail_graph(index, "Its rows are not those of the table.");
    pfree(tids);
}

void
build_take(Relation index, struct graph_stream *stream, const struct build_expect *expect)
{
    const struct graph_head *head = graph_stream_head(stream);
    struct pages_meta meta = pages_open(index)->meta;
    struct pages_writer *writer;
    struct pages_plan plan;

    check_head(index, head, &meta, expect);
    if (head->n_node == 0)
        return;
    plan = (struct pages_plan){ .state = head->is_raw ? PAGES_RAW : PAGES_GRAPH,
                                .space = head->space,
                                .dim = expect->dim,
                                .degree = (uint32) head->degree,
                                .payload_size = (uint32) head->payload_size,
                                .n_node = (uint32) head->n_node };
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) head->n_node);
    writer = pages_writer_begin(index, &plan);
    take_nodes(index, stream, expect, writer);
    pages_writer_end(writer, (uint32) head->n_entry, head->entries);
}

/* --- a graph made here --- */

static void
destroy_engine(void *object)
{
    anx_index_destroy(object);
}

static void
abort_loader(void *object)
{
    struct build_graph *graph = object;

    anx_loader_abort(graph->loader);
    graph->loader = NULL;
}

void
build_graph_begin(struct build_graph *out, const struct pages_meta *meta, uint32 dim, size_t threads,
                  uint64 expected, MemoryContext context)
{
    struct pages_meta known = *meta;
    anx_index_params params;
    anx_error err;

    known.dim = dim;
    pages_engine_params(&known, &params);
    params.quantization = ANX_QUANTIZATION_CODES;
    params.m = meta->m;
    params.ef_construction = Max(meta->ef_construction, ANX_HNSW_EF_CONSTRUCTION_MIN);
    params.threads = threads;
    *out = (struct build_graph){ .context = context, .dim = dim,
                                 .entry_max = pages_entry_limit(space_stride(&params)) };
    anx_pg_check(anx_index_create(&params, &out->engine, &err), &err);
    build_on_reset(context, destroy_engine, out->engine);
    anx_pg_check(anx_loader_begin(out->engine, expected, &out->loader, &err), &err);
    build_on_reset(context, abort_loader, out); /* runs before the engine goes: last in, first out */
}

void
build_graph_row(struct build_graph *graph, const ItemPointerData *tid, const void *row)
{
    uint64 label = build_label(tid);
    anx_error err;

    anx_pg_check(anx_loader_rows(graph->loader, 1, &label, row, &err), &err);
    graph->label_sum += build_label_sum(label);
    graph->n_row++;
}

static anx_status
finish_loader(struct build_work *work, anx_error *err)
{
    struct build_graph *graph = work->context;
    anx_loader *loader = graph->loader;

    graph->loader = NULL; /* freed whatever happens */
    return anx_loader_finish(loader, build_progress, work, err);
}

void
build_graph_finish(struct build_graph *graph, Relation index, BlockNumber n_block)
{
    struct build_work work = { .fn = finish_loader, .context = graph };
    struct build_expect expect = {
        .dim = graph->dim, .n_row = graph->n_row, .label_sum = graph->label_sum, .n_block = n_block
    };
    struct graph_stream *stream;
    anx_error err;

    anx_pg_check(build_run(&work, ANX_PG_PHASE_INSERT, &err), &err);
    anx_pg_check(graph_cursor_open(graph->engine, graph->entry_max, &stream, &err), &err);
    build_own_stream(graph->context, stream);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_WRITE);
    build_take(index, stream, &expect);
}

/* --- the callbacks --- */

IndexBuildResult *
anx_pg_build(Relation heap, Relation index, IndexInfo *info)
{
    MemoryContext context =
        AllocSetContextCreate(CurrentMemoryContext, "lantern build", ALLOCSET_DEFAULT_SIZES);
    MemoryContext old;
    IndexBuildResult *result = palloc0(sizeof(*result));
    struct build *build;

    if (RelationGetNumberOfBlocks(index) != 0)
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                        errmsg("index \"%s\" already contains data", RelationGetRelationName(index))));
    old = MemoryContextSwitchTo(context);
    build = palloc0(sizeof(*build));
    build_init(build, heap, index, info, context);
    pages_create(index, MAIN_FORKNUM);
    /* An empty table needs no server. */
    if (anx_pg_options_of(index)->external && RelationGetNumberOfBlocks(heap) > 0)
        build_external(build);
    else
        build_local(build);
    result->heap_tuples = build->n_heap;
    result->index_tuples = (double) build->n_row;
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
    return result;
}

void
anx_pg_build_empty(Relation index)
{
    pages_create(index, INIT_FORKNUM);
}
