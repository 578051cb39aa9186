/* RAW -> GRAPH: an index that was created on few rows, or on none, has grown. The insert that finds it so
 * makes the graph from the rows as given, writes it behind the last block, and changes block 0: see pages.h.
 */
#include "build.h"

#include <miscadmin.h>
#include <utils/memutils.h>

#define PROMOTE_THREADS 1 /* an insert is not a maintenance command */

struct promote {
    Relation index;
    struct pages_meta meta;
    anx_index *engine;
    anx_loader *loader;
    struct build_expect expect;
};

static void
abort_loader(void *object)
{
    struct promote *p = object;

    anx_loader_abort(p->loader);
    p->loader = NULL;
}

static void
close_stream(void *object)
{
    graph_stream_close(object);
}

static void
load_tids(struct promote *p, const ItemPointerData *tids, uint32 n, const void *row)
{
    for (uint32 i = 0; i < n; i++) {
        uint64 label = build_label(&tids[i]);
        anx_error err;

        anx_pg_check(anx_loader_rows(p->loader, 1, &label, row, &err), &err);
        p->expect.label_sum += build_label_sum(label);
        p->expect.n_row++;
    }
}

/* Rows of one node; a RAW node has no overflow unless somebody put equal rows together. */
static void
load_slot(struct promote *p, uint32 slot, uint8 *row)
{
    ItemPointerData *tids = palloc(PAGES_ROOM); /* more than an overflow slot holds */
    uint32 next = slot;

    while (next != PAGES_SLOT_NONE) {
        Buffer buffer = pages_read(p->index, pages_block(&p->meta, next), BUFFER_LOCK_SHARE, PAGE_SLOTS);
        struct slot *s = pages_slot(&p->meta, BufferGetPage(buffer), next);
        uint32 n = s->n_tid;
        bool is_node = next == slot;

        if (s->kind != (is_node ? SLOT_NODE : SLOT_OVERFLOW) || (s->flags & SLOT_DEAD) ||
            n > (is_node ? PAGES_TIDS : pages_overflow_max(&p->meta))) {
            UnlockReleaseBuffer(buffer);
            break;
        }
        memcpy(tids, is_node ? s->tid : slot_overflow_tids(s), n * sizeof(*tids));
        next = s->next;
        UnlockReleaseBuffer(buffer);
        if (is_node && !pages_copy_payload(p->index, &p->meta, slot, row))
            break;
        load_tids(p, tids, n, row);
    }
    pfree(tids);
}

static anx_status
finish_loader(struct build_work *work, anx_error *err)
{
    struct promote *p = work->context;
    anx_loader *loader = p->loader;

    p->loader = NULL;
    return anx_loader_finish(loader, build_progress, work, err);
}

/* Caller holds the generation lock exclusively. */
static void
promote(Relation index, MemoryContext context)
{
    struct promote *p = palloc0(sizeof(*p));
    struct build_work work = { .fn = finish_loader, .context = p };
    struct graph_stream *stream;
    uint32 entry_max;
    anx_error err;
    uint8 *row;

    p->index = index;
    p->meta = pages_open(index)->meta;
    p->expect.dim = p->meta.dim;
    p->expect.n_block = InvalidBlockNumber; /* what is in the index was in the table once */
    p->engine = build_engine(&p->meta, p->meta.dim, PROMOTE_THREADS, context);
    entry_max = pages_entry_limit(space_stride(anx_index_get_params(p->engine)));
    anx_pg_check(anx_loader_begin(p->engine, p->meta.n_slot, &p->loader, &err), &err);
    build_on_reset(context, abort_loader, p);
    row = palloc(p->meta.payload_size);
    for (uint32 slot = 0; slot < p->meta.n_slot; slot++) {
        CHECK_FOR_INTERRUPTS();
        load_slot(p, slot, row);
    }
    if (p->expect.n_row <= PAGES_RAW_MAX) /* most are dead: vacuum will make room */
        return;
    anx_pg_check(build_run(&work, ANX_PG_PHASE_INSERT, &err), &err);
    anx_pg_check(graph_cursor_open(p->engine, entry_max, &stream, &err), &err);
    build_on_reset(context, close_stream, stream);
    build_take(index, stream, &p->expect);
}

void
pages_promote(Relation index)
{
    MemoryContext context, old;
    struct pages_meta meta;

    if (!pages_try_lock(index, ExclusiveLock))
        return; /* somebody is searching or inserting just now: the next insert may be luckier */
    meta = pages_open(index)->meta;
    if (meta.state == PAGES_RAW && meta.n_node > PAGES_RAW_MAX) {
        context = AllocSetContextCreate(CurrentMemoryContext, "lantern promote", ALLOCSET_DEFAULT_SIZES);
        old = MemoryContextSwitchTo(context);
        promote(index, context);
        MemoryContextSwitchTo(old);
        MemoryContextDelete(context);
    }
    pages_unlock(index, ExclusiveLock);
}
