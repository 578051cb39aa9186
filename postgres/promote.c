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
    struct build_graph graph;
    ItemPointerData *tids; /* more than an overflow slot holds */
    uint8 *row;
};

/* The heap tuples of one node; a RAW node has no overflow unless somebody put equal rows together. */
static void
load_slot(struct promote *p, uint32 slot)
{
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
        memcpy(p->tids, is_node ? s->tid : slot_overflow_tids(s), n * sizeof(*p->tids));
        next = s->next;
        UnlockReleaseBuffer(buffer);
        if (is_node && !pages_copy_payload(p->index, &p->meta, slot, p->row))
            break;
        for (uint32 i = 0; i < n; i++)
            build_graph_row(&p->graph, &p->tids[i], p->row);
    }
}

/* Caller holds the generation lock exclusively. */
static void
promote(Relation index, MemoryContext context)
{
    struct promote *p = palloc0(sizeof(*p));

    p->index = index;
    p->meta = pages_open(index)->meta;
    p->tids = palloc(PAGES_ROOM);
    p->row = palloc(p->meta.payload_size);
    build_graph_begin(&p->graph, &p->meta, p->meta.dim, PROMOTE_THREADS, p->meta.n_slot, context);
    for (uint32 slot = 0; slot < p->meta.n_slot; slot++) {
        CHECK_FOR_INTERRUPTS();
        load_slot(p, slot);
    }
    /* Else most are dead, and vacuum will make room. What is in the index was in the table once, so any block
     * may be. */
    if (p->graph.n_row > PAGES_RAW_MAX)
        build_graph_finish(&p->graph, index, InvalidBlockNumber);
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
