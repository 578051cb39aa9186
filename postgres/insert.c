/* Single inserts.
 *
 * EMPTY indexes learn their dimension from the first row; RAW ones keep rows as they are until there are
 * enough to make a GRAPH of. In a GRAPH: the row's code is looked for by a walk; a node with an equal code
 * takes the heap tuple; else a node is written, complete with its links, and only then do others link to it.
 * So whatever a search can reach is whole, and a crash in between leaves a node that nobody links to, whose
 * heap tuple is dead as well and which vacuum takes away.
 *
 * Any number of sessions at once: block 0 is locked while a slot is handed out, a node's page while its list
 * is changed, nothing in between. The generation lock is held in share mode from the walk to the last link:
 * vacuum waits for it before it looks who links to dead nodes, so no link to one is made behind its back. */
#include "lantern.h"

#include <storage/lmgr.h>
#include <utils/memutils.h>

#include "links.h"

/* One row in so many becomes an entry node, until there are enough. */
#define ENTRY_SHARE 64

static void
set_inexact(struct pages_meta *meta, void *context)
{
    (void) context;
    meta->has_inexact = 1;
}

/* Fixed by the number of the slot, so that which rows are entries does not depend on luck. */
static bool
is_entry(uint32 slot)
{
    return slot * 2654435761u >> 16 < 65536 / ENTRY_SHARE;
}

static void
add_to_graph(Relation index, const struct pages_index *p, const void *x, const ItemPointerData *tid)
{
    struct measure measure;
    struct page_walk walk;
    struct linker linker;
    struct pages_node node = { .n_tid = 1, .tid = tid };
    uint32 *links = palloc(p->meta.degree * sizeof(*links));
    uint32 slot;

    measure_init(&measure, &p->space, CurrentMemoryContext);
    measure_row(&measure, &p->space, x);
    if (p->space.kind == SPACE_LOSSLESS && measure.residual > 0 && !p->meta.has_inexact)
        pages_change_meta(index, set_inexact, NULL); /* before a search can meet the row */
    linker_init(&linker, index, p, &measure, CurrentMemoryContext);
    node.links = links;
    node.n_link = (uint16) linker_find(&linker, p, &walk, PAGES_SLOT_NONE, links);
    for (Size i = 0; i < walk.list.n && walk.list.dist[i] == 0; i++)
        if (pages_add_tid(index, &p->meta, walk_id(&walk.list, i), measure.code, tid, measure.residual))
            return;
    node.payload = measure.code;
    node.residual = measure.residual;
    slot = pages_add_node(index, &p->meta, &node);
    linker.meta.n_slot = Max(linker.meta.n_slot, slot + 1);
    linker_link_back(&linker, slot, measure.code, links, node.n_link);
    if (node.n_link == 0 || is_entry(slot))
        (void) pages_add_entry(index, slot);
}

/* False: the index has to change its state first, with the lock given back. */
static bool
add(Relation index, const struct anx_pg_vector *row, const ItemPointerData *tid)
{
    struct pages_index *p = pages_open(index);
    const void *x = row->f32 ? (const void *) row->f32 : row->bits;
    struct pages_node node = { .n_tid = 1, .tid = tid, .payload = x };

    if (p->meta.state == PAGES_EMPTY) {
        if (p->meta.dim)
            anx_pg_expect_row_dim(row->dim, p->meta.dim);
        else if (row->dim == 0)
            anx_pg_no_dimensions();
        pages_set_dim(index, row->dim);
        p = pages_open(index);
    }
    anx_pg_expect_row_dim(row->dim, p->meta.dim);
    if (p->meta.state == PAGES_RAW)
        (void) pages_add_node(index, &p->meta, &node);
    else
        add_to_graph(index, p, x, tid);
    return p->meta.state != PAGES_RAW || p->meta.n_node + 1 < PAGES_RAW_MAX;
}

bool
anx_pg_insert(Relation index, Datum *values, bool *isnull, ItemPointer tid, Relation heap, IndexInfo *info)
{
    MemoryContext context, old;
    struct anx_pg_column column;
    struct anx_pg_vector row;
    bool is_settled;

    (void) heap, (void) info;
    if (isnull[0])
        return false;
    context = AllocSetContextCreate(CurrentMemoryContext, "lantern_hnsw insert", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(context);
    anx_pg_column_of(index, &column);
    anx_pg_vector_of(&column, values[0], &row);
    pages_lock(index, ShareLock);
    is_settled = add(index, &row, tid);
    pages_unlock(index, ShareLock);
    if (!is_settled)
        pages_promote(index);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(context);
    return false;
}
