/* Whole indexes written in one go: see pages.h. Pages are filled in order, each once, and logged together at
 * the end; block 0, which shows them, is changed by a record after that. A crash before leaves pages that
 * nothing points to. */
#include "pages.h"

#include <access/xlog.h>
#include <access/xloginsert.h>
#include <miscadmin.h>
#include <utils/memutils.h>

#include "lantern.h"

StaticAssertDecl(sizeof(struct slot) == 32, "struct slot has no padding at its end");
StaticAssertDecl(sizeof(struct pages_meta) <= PAGES_ROOM, "block 0 has room for the meta");
StaticAssertDecl(PAGES_ENTRY_MAX * sizeof(uint32) <= PAGES_ROOM, "one page has room for the entries");

/* An overflow slot that waits for the nodes to be over. */
struct waiting {
    uint32 next;
    uint32 n_tid;
    Size first_tid; /* in tids */
};

struct pages_writer {
    Relation index;
    MemoryContext context;
    struct pages_meta meta; /* as block 0 will be */
    BlockNumber first;
    Buffer buffer; /* the page being filled, locked; InvalidBuffer: none */
    uint32 n_slot; /* written */
    uint32 n_node; /* announced */
    struct waiting *waiting;
    Size n_waiting, waiting_capacity;
    ItemPointerData *tids;
    Size n_tid, tid_capacity;
};

bool
pages_shape(struct pages_meta *meta, const struct pages_plan *plan, BlockNumber first_block)
{
    Size links_end = MAXALIGN(sizeof(struct slot) + plan->degree * sizeof(uint32));
    Size size = MAXALIGN(links_end + plan->payload_size);
    bool is_graph = plan->state == PAGES_GRAPH;

    if (links_end >= PAGES_ROOM || plan->payload_size == 0)
        return false;
    meta->state = plan->state;
    meta->dim = plan->dim;
    meta->degree = plan->degree;
    meta->payload_size = plan->payload_size;
    meta->payload_offset = (uint32) links_end;
    meta->slots_per_page = meta->pages_per_slot = 1;
    if (size <= PAGES_ROOM) {
        meta->slots_per_page = (uint32) (PAGES_ROOM / size);
    } else {
        uint32 from = 0, n = 0, at;

        for (uint32 part = 0; from + n < plan->payload_size; part++) {
            pages_payload_part(meta, part, &from, &n, &at);
            meta->pages_per_slot = part + 1;
        }
        if (meta->pages_per_slot == 1) /* cannot be: it did not fit one page */
            return false;
        size = (Size) PAGES_ROOM * meta->pages_per_slot;
    }
    meta->slot_size = (uint32) size;
    meta->n_space_block = 0;
    meta->entry_block = meta->space_block = InvalidBlockNumber;
    meta->slot_block = first_block;
    if (is_graph) {
        meta->space_kind = plan->space->kind;
        meta->offset = plan->space->offset;
        meta->step = plan->space->step;
        if (plan->space->kind == SPACE_ROTATED)
            meta->n_space_block =
                (uint32) ((plan->space->turned_dim * sizeof(float4) + PAGES_ROOM - 1) / PAGES_ROOM);
        meta->entry_block = first_block;
        meta->space_block = first_block + 1;
        meta->slot_block = meta->space_block + meta->n_space_block;
    }
    meta->has_inexact = 0;
    meta->n_entry = meta->n_slot = meta->n_node = meta->n_free = 0;
    meta->free_head = PAGES_SLOT_NONE;
    return true;
}

/* --- block 0 --- */

static void
fill_meta(Relation index, struct pages_meta *meta)
{
    const struct anx_pg_options *options = anx_pg_options_of(index);
    struct anx_pg_column column;

    anx_pg_column_of(index, &column);
    *meta =
        (struct pages_meta){ .magic = PAGES_MAGIC,
                             .version = PAGES_VERSION,
                             .state = PAGES_EMPTY,
                             .generation = 1,
                             .metric = column.metric,
                             .scalar = column.metric == ANX_METRIC_HAMMING ? ANX_SCALAR_B1 : ANX_SCALAR_F32,
                             .dim = column.declared_dim,
                             .m = (uint32) options->m,
                             .ef_construction = (uint32) options->ef_construction,
                             .ef = (uint32) options->ef,
                             .quant_bits = (uint32) options->quant_bits,
                             .step = 1.0f,
                             .entry_block = InvalidBlockNumber,
                             .space_block = InvalidBlockNumber,
                             .slot_block = InvalidBlockNumber,
                             .free_head = PAGES_SLOT_NONE };
    if (!pg_strong_random(&meta->stamp, sizeof(meta->stamp)))
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR), errmsg("could not get random bytes")));
}

void
pages_create(Relation index, ForkNumber fork)
{
    struct pages_meta meta;
    Buffer buffer;
    Page page;

    fill_meta(index, &meta);
    buffer = ReadBufferExtended(index, fork, P_NEW, RBM_NORMAL, NULL);
    LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
    START_CRIT_SECTION();
    page = BufferGetPage(buffer);
    pages_init_page(page, PAGE_META);
    memcpy(pages_content(page), &meta, sizeof(meta));
    pages_use(page, pages_content(page) + sizeof(meta));
    MarkBufferDirty(buffer);
    if (RelationNeedsWAL(index) || fork == INIT_FORKNUM) /* after a crash the init fork must be there */
        log_newpage_buffer(buffer, true);
    END_CRIT_SECTION();
    UnlockReleaseBuffer(buffer);
}

/* --- pages in order --- */

static void
end_page(struct pages_writer *w)
{
    if (!BufferIsValid(w->buffer))
        return;
    MarkBufferDirty(w->buffer);
    UnlockReleaseBuffer(w->buffer);
    w->buffer = InvalidBuffer;
}

static Page
next_page(struct pages_writer *w, enum page_kind kind)
{
    end_page(w);
    CHECK_FOR_INTERRUPTS();
    w->buffer = ReadBufferExtended(w->index, MAIN_FORKNUM, P_NEW, RBM_NORMAL, NULL);
    LockBuffer(w->buffer, BUFFER_LOCK_EXCLUSIVE);
    pages_init_page(BufferGetPage(w->buffer), kind);
    return BufferGetPage(w->buffer);
}

static void
write_space(struct pages_writer *w, const struct space *space)
{
    Size left = space->turned_dim * sizeof(float4), done = 0;

    for (uint32 i = 0; i < w->meta.n_space_block; i++) {
        Page page = next_page(w, PAGE_SPACE);
        Size n = Min(left, PAGES_ROOM);

        memcpy(pages_content(page), (const char *) space->mean + done, n);
        pages_use(page, pages_content(page) + n);
        done += n, left -= n;
    }
}

struct pages_writer *
pages_writer_begin(Relation index, const struct pages_plan *plan)
{
    struct pages_writer *w = palloc0(sizeof(*w));
    Buffer meta = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_SHARE, PAGE_META);

    w->meta = *(const struct pages_meta *) pages_content(BufferGetPage(meta));
    UnlockReleaseBuffer(meta);
    w->index = index;
    w->context = CurrentMemoryContext;
    w->n_node = plan->n_node;
    w->first = RelationGetNumberOfBlocks(index);
    w->meta.ef = (uint32) anx_pg_options_of(index)->ef;
    if (!pages_shape(&w->meta, plan, w->first))
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("a row of %u dimensions with m = %u does not fit the pages of an index",
                               plan->dim, w->meta.m),
                        errhint("Create the index with a smaller m.")));
    if (plan->state == PAGES_GRAPH) {
        (void) next_page(w, PAGE_ENTRY); /* filled at the end */
        write_space(w, plan->space);
    }
    return w;
}

/* The place of the next slot, on a page that has it. */
static struct slot *
next_slot(struct pages_writer *w)
{
    bool begins_page = w->meta.pages_per_slot > 1 || w->n_slot % w->meta.slots_per_page == 0;
    Page page = begins_page ? next_page(w, PAGE_SLOTS) : BufferGetPage(w->buffer);

    if (w->n_slot >= PAGES_SLOT_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("an index cannot have more than %u slots", PAGES_SLOT_MAX)));
    return pages_slot(&w->meta, page, w->n_slot++);
}

static void
write_payload(struct pages_writer *w, struct slot *s, const uint8 *payload)
{
    const struct pages_meta *meta = &w->meta;
    Page page = BufferGetPage(w->buffer);

    if (meta->pages_per_slot == 1) {
        memcpy(slot_payload(meta, s), payload, meta->payload_size);
        pages_use(page, slot_payload(meta, s) + meta->payload_size);
        return;
    }
    for (uint32 part = 0; part < meta->pages_per_slot; part++) {
        uint32 from, n, at;

        if (part > 0)
            page = next_page(w, PAGE_MORE);
        pages_payload_part(meta, part, &from, &n, &at);
        memcpy(pages_content(page) + at, payload + from, n);
        pages_use(page, pages_content(page) + at + n);
    }
}

/* --- overflow --- */

static void *
grow(struct pages_writer *w, void *array, Size need, Size *capacity, Size size)
{
    if (need <= *capacity)
        return array;
    *capacity = Max(need, *capacity ? *capacity * 2 : 64);
    return array ? repalloc_huge(array, *capacity * size)
                 : MemoryContextAllocHuge(w->context, *capacity * size);
}

/* Keeps n heap tuples for overflow slots; returns the number of the first one in their chain. */
static uint32
keep_overflow(struct pages_writer *w, uint32 n, const ItemPointerData *tids)
{
    uint32 room = pages_overflow_max(&w->meta), first = w->n_node + (uint32) w->n_waiting;

    w->tids = grow(w, w->tids, w->n_tid + n, &w->tid_capacity, sizeof(*w->tids));
    for (uint32 done = 0; done < n;) {
        uint32 here = Min(n - done, room);

        w->waiting = grow(w, w->waiting, w->n_waiting + 1, &w->waiting_capacity, sizeof(*w->waiting));
        w->waiting[w->n_waiting] =
            (struct waiting){ .next =
                                  done + here < n ? w->n_node + (uint32) w->n_waiting + 1 : PAGES_SLOT_NONE,
                              .n_tid = here,
                              .first_tid = w->n_tid };
        w->n_waiting++;
        memcpy(w->tids + w->n_tid, tids + done, here * sizeof(*tids));
        w->n_tid += here;
        done += here;
    }
    return first;
}

static void
write_overflow(struct pages_writer *w)
{
    for (Size i = 0; i < w->n_waiting; i++) {
        const struct waiting *waiting = &w->waiting[i];
        struct slot *s = next_slot(w);

        s->kind = SLOT_OVERFLOW;
        s->next = waiting->next;
        s->n_tid = (uint16) waiting->n_tid;
        memcpy(slot_overflow_tids(s), w->tids + waiting->first_tid, waiting->n_tid * sizeof(*w->tids));
        pages_use(BufferGetPage(w->buffer), slot_overflow_tids(s) + pages_overflow_max(&w->meta));
    }
}

void
pages_writer_node(struct pages_writer *w, const struct pages_node *node, uint32 n_tid,
                  const ItemPointerData *tids)
{
    struct slot *s = next_slot(w);
    uint32 inside = Min(n_tid, PAGES_TIDS);

    Assert(node->n_link <= w->meta.degree);
    s->kind = SLOT_NODE;
    s->flags = 0;
    s->n_link = node->n_link;
    s->residual = node->residual;
    s->n_tid = (uint16) inside;
    memcpy(s->tid, tids, inside * sizeof(*tids));
    if (node->n_link)
        memcpy(slot_links(s), node->links, node->n_link * sizeof(uint32));
    s->next = n_tid > inside ? keep_overflow(w, n_tid - inside, tids + inside) : PAGES_SLOT_NONE;
    write_payload(w, s, node->payload);
}

/* --- the end --- */

static void
write_entries(struct pages_writer *w, uint32 n, const uint32 *entries)
{
    Buffer buffer = pages_read(w->index, w->meta.entry_block, BUFFER_LOCK_EXCLUSIVE, PAGE_ENTRY);
    Page page = BufferGetPage(buffer);

    memcpy(pages_content(page), entries, n * sizeof(*entries));
    pages_use(page, pages_content(page) + n * sizeof(*entries));
    MarkBufferDirty(buffer);
    UnlockReleaseBuffer(buffer);
    w->meta.n_entry = n;
}

static void
publish(struct pages_meta *meta, void *context)
{
    const struct pages_writer *w = context;
    uint64 stamp = meta->stamp;
    uint32 generation = meta->generation, entry_generation = meta->entry_generation;

    *meta = w->meta;
    meta->stamp = stamp;
    meta->generation = generation + 1;
    meta->entry_generation = entry_generation + 1;
}

void
pages_writer_end(struct pages_writer *w, uint32 n_entry, const uint32 *entries)
{
    if (w->n_slot != w->n_node)
        ereport(ERROR, (errcode(ERRCODE_INTERNAL_ERROR),
                        errmsg("%u nodes were announced, %u came", w->n_node, w->n_slot)));
    write_overflow(w);
    end_page(w);
    if (w->meta.state == PAGES_GRAPH)
        write_entries(w, Min(n_entry, PAGES_ENTRY_MAX), entries);
    w->meta.n_node = w->n_node;
    w->meta.n_slot = w->n_slot;
    if (RelationNeedsWAL(w->index))
        log_newpage_range(w->index, MAIN_FORKNUM, w->first, RelationGetNumberOfBlocks(w->index), true);
    pages_change_meta(w->index, publish, w);
    if (w->waiting)
        pfree(w->waiting);
    if (w->tids)
        pfree(w->tids);
    pfree(w);
}
