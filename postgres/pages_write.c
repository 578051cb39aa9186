/* Single changes of pages: see pages.h. Every function here leaves a whole index after each of its records.
 *
 * Block 0 is locked while a slot is handed out, and for every change of a chain of overflow slots, so chains
 * do not change under another change. Pages of one record are locked in ascending order: block 0 first. */
#include "pages.h"

#include <miscadmin.h>
#include <storage/lmgr.h>
#include <utils/memutils.h>

#include "lantern.h"

#define OVERFLOW_END(meta, s) \
    ((char *) (s) + sizeof(struct slot) + pages_overflow_max(meta) * sizeof(ItemPointerData))

/* A slot that was handed out, with its (first) page pinned and locked. */
struct taken {
    uint32 slot;
    Buffer buffer;
    bool is_fresh; /* nothing on the page is worth anything: make it anew */
};

static struct pages_meta *
meta_of(Page page)
{
    return (struct pages_meta *) pages_content(page);
}

static _Noreturn void
fail_slot(Relation index, uint32 slot, const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("index \"%s\": slot %u %s", RelationGetRelationName(index), slot, what),
                    errhint("REINDEX the index.")));
}

/* Pins a block, extending the relation up to it. */
static Buffer
pin_block(Relation index, BlockNumber block)
{
    Buffer buffer = InvalidBuffer;
    bool is_shared = !RELATION_IS_LOCAL(index);

    if (block < RelationGetNumberOfBlocks(index))
        return ReadBuffer(index, block);
    if (is_shared)
        LockRelationForExtension(index, ExclusiveLock);
    while (RelationGetNumberOfBlocks(index) <= block) {
        if (BufferIsValid(buffer))
            ReleaseBuffer(buffer);
        buffer = ReadBuffer(index, P_NEW);
    }
    if (is_shared)
        UnlockRelationForExtension(index, ExclusiveLock);
    if (BufferIsValid(buffer) && BufferGetBlockNumber(buffer) == block)
        return buffer;
    if (BufferIsValid(buffer))
        ReleaseBuffer(buffer);
    return ReadBuffer(index, block);
}

/* Which slot would be handed out, and its page, locked. meta: block 0's, locked exclusively. */
static void
take(Relation index, const struct pages_meta *meta, struct taken *out)
{
    bool is_free = meta->free_head != PAGES_SLOT_NONE;

    out->slot = is_free ? meta->free_head : meta->n_slot;
    if (!is_free && meta->n_slot >= PAGES_SLOT_MAX)
        ereport(ERROR, (errcode(ERRCODE_PROGRAM_LIMIT_EXCEEDED),
                        errmsg("index \"%s\" is full: it has %u slots", RelationGetRelationName(index),
                               meta->n_slot)));
    if (is_free) {
        out->is_fresh = false;
        out->buffer = pages_read(index, pages_block(meta, out->slot), BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
        if (pages_slot(meta, BufferGetPage(out->buffer), out->slot)->kind != SLOT_FREE)
            fail_slot(index, out->slot, "is on the free list, but in use");
        return;
    }
    out->is_fresh = meta->pages_per_slot > 1 || out->slot % meta->slots_per_page == 0;
    if (out->is_fresh) {
        out->buffer = pin_block(index, pages_block(meta, out->slot));
        LockBuffer(out->buffer, BUFFER_LOCK_EXCLUSIVE);
    } else {
        out->buffer = pages_read(index, pages_block(meta, out->slot), BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    }
}

/* The taken slot in the copies of a record: block 0 forgets it, its page is ready for content. */
static struct slot *
claim(const struct taken *t, Page meta_page, Page page)
{
    struct pages_meta *meta = meta_of(meta_page);
    struct slot *s;

    if (t->is_fresh)
        pages_init_page(page, PAGE_SLOTS);
    s = pages_slot(meta, page, t->slot);
    if (t->slot == meta->free_head) {
        meta->free_head = s->next;
        meta->n_free--;
    } else {
        meta->n_slot++;
    }
    memset(s, 0, sizeof(*s));
    s->next = PAGES_SLOT_NONE;
    return s;
}

/* Everything but what lies on further pages. */
static void
fill(const struct pages_meta *meta, Page page, struct slot *s, const struct pages_node *node)
{
    s->kind = SLOT_NODE;
    s->flags = 0;
    s->n_link = node->n_link;
    s->next = PAGES_SLOT_NONE;
    s->residual = node->residual;
    s->n_tid = node->n_tid;
    memcpy(s->tid, node->tid, node->n_tid * sizeof(*node->tid));
    if (node->n_link)
        memcpy(slot_links(s), node->links, node->n_link * sizeof(uint32));
    if (meta->pages_per_slot == 1) {
        memcpy(slot_payload(meta, s), node->payload, meta->payload_size);
        pages_use(page, slot_payload(meta, s) + meta->payload_size);
    } else {
        uint32 from, n, at;

        pages_payload_part(meta, 0, &from, &n, &at);
        memcpy(pages_content(page) + at, node->payload + from, n);
        pages_use(page, pages_content(page) + at + n);
    }
}

static uint32
add_narrow(Relation index, const struct pages_node *node)
{
    Buffer meta_buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
    GenericXLogState *record;
    struct pages_meta *meta;
    struct taken t;
    Page meta_page, page;

    take(index, meta_of(BufferGetPage(meta_buffer)), &t);
    record = GenericXLogStart(index);
    meta_page = GenericXLogRegisterBuffer(record, meta_buffer, 0);
    page = GenericXLogRegisterBuffer(record, t.buffer, t.is_fresh ? GENERIC_XLOG_FULL_IMAGE : 0);
    meta = meta_of(meta_page);
    fill(meta, page, claim(&t, meta_page, page), node);
    meta->n_node++;
    GenericXLogFinish(record);
    UnlockReleaseBuffer(t.buffer);
    UnlockReleaseBuffer(meta_buffer);
    return t.slot;
}

/* Takes the slot, then writes its pages from the last to the first: as long as the first does not say NODE,
 * the slot is nothing. */
static uint32
add_wide(Relation index, const struct pages_node *node)
{
    Buffer meta_buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
    GenericXLogState *record;
    struct pages_meta meta;
    struct slot *taken;
    struct taken t;
    Page meta_page, page;
    BlockNumber first;

    take(index, meta_of(BufferGetPage(meta_buffer)), &t);
    record = GenericXLogStart(index);
    meta_page = GenericXLogRegisterBuffer(record, meta_buffer, 0);
    page = GenericXLogRegisterBuffer(record, t.buffer, t.is_fresh ? GENERIC_XLOG_FULL_IMAGE : 0);
    taken = claim(&t, meta_page, page);
    taken->flags = SLOT_TAKEN;
    pages_use(page, taken + 1);
    meta_of(meta_page)->n_node++;
    GenericXLogFinish(record);
    meta = *meta_of(BufferGetPage(meta_buffer));
    UnlockReleaseBuffer(t.buffer);
    UnlockReleaseBuffer(meta_buffer);

    first = pages_block(&meta, t.slot);
    for (uint32 part = meta.pages_per_slot - 1; part > 0; part--) {
        Buffer buffer = pin_block(index, first + part);
        uint32 from, n, at;

        LockBuffer(buffer, BUFFER_LOCK_EXCLUSIVE);
        record = GenericXLogStart(index);
        page = GenericXLogRegisterBuffer(record, buffer, GENERIC_XLOG_FULL_IMAGE);
        pages_init_page(page, PAGE_MORE);
        pages_payload_part(&meta, part, &from, &n, &at);
        memcpy(pages_content(page) + at, node->payload + from, n);
        pages_use(page, pages_content(page) + at + n);
        GenericXLogFinish(record);
        UnlockReleaseBuffer(buffer);
    }
    t.buffer = pages_read(index, first, BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    record = GenericXLogStart(index);
    page = GenericXLogRegisterBuffer(record, t.buffer, 0);
    fill(&meta, page, pages_slot(&meta, page, t.slot), node);
    GenericXLogFinish(record);
    UnlockReleaseBuffer(t.buffer);
    return t.slot;
}

uint32
pages_add_node(Relation index, const struct pages_meta *meta, const struct pages_node *node)
{
    Assert(node->n_tid <= PAGES_TIDS && node->n_link <= meta->degree);
    return meta->pages_per_slot == 1 ? add_narrow(index, node) : add_wide(index, node);
}

/* --- further heap tuples of a node --- */

/* Is the slot, whose first page is locked, a live node with this payload? */
static bool
is_same_node(Relation index, const struct pages_meta *meta, Page page, uint32 slot, const uint8 *payload)
{
    const struct slot *s = pages_slot(meta, page, slot);
    bool is_same = s->kind == SLOT_NODE && !(s->flags & SLOT_DEAD);

    if (!is_same || meta->pages_per_slot == 1)
        return is_same && memcmp((const uint8 *) s + meta->payload_offset, payload, meta->payload_size) == 0;
    for (uint32 part = 0; part < meta->pages_per_slot && is_same; part++) {
        Buffer buffer = InvalidBuffer;
        uint32 from, n, at;

        pages_payload_part(meta, part, &from, &n, &at);
        if (part > 0)
            buffer = pages_read(index, pages_block(meta, slot) + part, BUFFER_LOCK_SHARE, PAGE_MORE);
        is_same =
            memcmp(pages_content(part == 0 ? page : BufferGetPage(buffer)) + at, payload + from, n) == 0;
        if (part > 0)
            UnlockReleaseBuffer(buffer);
    }
    return is_same;
}

/* Room in the slot itself: one page, no other lock. */
static bool
add_tid_inside(Relation index, const struct pages_meta *meta, uint32 slot, const uint8 *payload,
               const ItemPointerData *tid, float4 residual, bool *is_full)
{
    Buffer buffer = pages_read(index, pages_block(meta, slot), BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    bool is_same = is_same_node(index, meta, BufferGetPage(buffer), slot, payload);
    GenericXLogState *record;
    struct slot *s;

    *is_full = is_same && pages_slot(meta, BufferGetPage(buffer), slot)->n_tid >= PAGES_TIDS;
    if (is_same && !*is_full) {
        record = GenericXLogStart(index);
        s = pages_slot(meta, GenericXLogRegisterBuffer(record, buffer, 0), slot);
        s->tid[s->n_tid++] = *tid;
        s->residual = Max(s->residual, residual);
        GenericXLogFinish(record);
    }
    UnlockReleaseBuffer(buffer);
    return is_same;
}

/* The pages of a record in which a chain grows: block 0 (always locked), the node's, the overflow slot's;
 * the latter two may be one. */
struct chain_pages {
    Buffer node, overflow;
    bool is_one;
};

static void
lock_chain(Relation index, BlockNumber node, BlockNumber overflow, struct chain_pages *out)
{
    *out = (struct chain_pages){ InvalidBuffer, InvalidBuffer, node == overflow };
    if (node < overflow || out->is_one)
        out->node = pages_read(index, node, BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    if (!out->is_one)
        out->overflow = pages_read(index, overflow, BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    if (node > overflow)
        out->node = pages_read(index, node, BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    if (out->is_one)
        out->overflow = out->node;
}

static void
unlock_chain(struct chain_pages *pages)
{
    UnlockReleaseBuffer(pages->node);
    if (!pages->is_one)
        UnlockReleaseBuffer(pages->overflow);
}

/* The first overflow slot of the node has room. */
static bool
add_to_overflow(Relation index, const struct pages_meta *meta, uint32 slot, uint32 overflow,
                const ItemPointerData *tid, float4 residual)
{
    struct chain_pages pages;
    GenericXLogState *record;
    Page node_page, overflow_page;
    struct slot *s, *o;
    bool has_room;

    lock_chain(index, pages_block(meta, slot), pages_block(meta, overflow), &pages);
    s = pages_slot(meta, BufferGetPage(pages.node), slot);
    o = pages_slot(meta, BufferGetPage(pages.overflow), overflow);
    has_room = s->kind == SLOT_NODE && s->next == overflow && o->kind == SLOT_OVERFLOW &&
               o->n_tid < pages_overflow_max(meta);
    if (has_room) {
        record = GenericXLogStart(index);
        node_page = GenericXLogRegisterBuffer(record, pages.node, 0);
        overflow_page = pages.is_one ? node_page : GenericXLogRegisterBuffer(record, pages.overflow, 0);
        s = pages_slot(meta, node_page, slot);
        o = pages_slot(meta, overflow_page, overflow);
        slot_overflow_tids(o)[o->n_tid++] = *tid;
        s->residual = Max(s->residual, residual);
        GenericXLogFinish(record);
    }
    unlock_chain(&pages);
    return has_room;
}

/* A new overflow slot in front of the chain. It is taken in a record of its own: a crash between the two
 * loses one slot. */
static void
add_overflow(Relation index, Buffer meta_buffer, uint32 slot, const ItemPointerData *tid, float4 residual)
{
    struct pages_meta meta;
    struct chain_pages pages;
    GenericXLogState *record;
    struct taken t;
    Page meta_page, page;
    struct slot *s, *o;

    take(index, meta_of(BufferGetPage(meta_buffer)), &t);
    record = GenericXLogStart(index);
    meta_page = GenericXLogRegisterBuffer(record, meta_buffer, 0);
    page = GenericXLogRegisterBuffer(record, t.buffer, t.is_fresh ? GENERIC_XLOG_FULL_IMAGE : 0);
    o = claim(&t, meta_page, page);
    o->kind = SLOT_OVERFLOW;
    pages_use(page, OVERFLOW_END(meta_of(meta_page), o));
    GenericXLogFinish(record);
    UnlockReleaseBuffer(t.buffer);
    meta = *meta_of(BufferGetPage(meta_buffer));

    lock_chain(index, pages_block(&meta, slot), pages_block(&meta, t.slot), &pages);
    record = GenericXLogStart(index);
    page = GenericXLogRegisterBuffer(record, pages.node, 0);
    s = pages_slot(&meta, page, slot);
    if (!pages.is_one)
        page = GenericXLogRegisterBuffer(record, pages.overflow, 0);
    o = pages_slot(&meta, page, t.slot);
    o->next = s->next;
    o->n_tid = 1;
    slot_overflow_tids(o)[0] = *tid;
    s->next = t.slot;
    s->residual = Max(s->residual, residual);
    GenericXLogFinish(record);
    unlock_chain(&pages);
}

bool
pages_add_tid(Relation index, const struct pages_meta *meta, uint32 slot, const uint8 *payload,
              const ItemPointerData *tid, float4 residual)
{
    Buffer meta_buffer, buffer;
    bool is_full, is_same;
    uint32 next;

    is_same = add_tid_inside(index, meta, slot, payload, tid, residual, &is_full);
    if (!is_same || !is_full)
        return is_same;
    meta_buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
    buffer = pages_read(index, pages_block(meta, slot), BUFFER_LOCK_SHARE, PAGE_SLOTS);
    is_same = is_same_node(index, meta, BufferGetPage(buffer), slot, payload);
    next = pages_slot(meta, BufferGetPage(buffer), slot)->next;
    UnlockReleaseBuffer(buffer);
    if (is_same && (next == PAGES_SLOT_NONE || !add_to_overflow(index, meta, slot, next, tid, residual)))
        add_overflow(index, meta_buffer, slot, tid, residual);
    UnlockReleaseBuffer(meta_buffer);
    return is_same;
}

/* --- free slots --- */

static int
compare_slots(const void *a, const void *b)
{
    uint32 x = *(const uint32 *) a, y = *(const uint32 *) b;

    return (x > y) - (x < y);
}

void
pages_free_slots(Relation index, const struct pages_meta *meta, uint32 n, const uint32 *slots)
{
    uint32 *sorted = palloc(n * sizeof(*sorted) + 1);

    memcpy(sorted, slots, n * sizeof(*sorted));
    qsort(sorted, n, sizeof(*sorted), compare_slots);
    for (uint32 i = 0; i < n;) {
        BlockNumber block = pages_block(meta, sorted[i]);
        Buffer meta_buffer, buffer;
        GenericXLogState *record;
        struct pages_meta *logged;
        Page page;

        CHECK_FOR_INTERRUPTS();
        meta_buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
        buffer = pages_read(index, block, BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
        record = GenericXLogStart(index);
        logged = meta_of(GenericXLogRegisterBuffer(record, meta_buffer, 0));
        page = GenericXLogRegisterBuffer(record, buffer, 0);
        for (; i < n && pages_block(meta, sorted[i]) == block; i++) {
            struct slot *s = pages_slot(meta, page, sorted[i]);

            if (s->flags & SLOT_TAKEN) /* was counted as a node when it was taken */
                logged->n_node -= logged->n_node > 0;
            memset(s, 0, sizeof(*s));
            s->kind = SLOT_FREE;
            s->next = logged->free_head;
            logged->free_head = sorted[i];
            logged->n_free++;
        }
        GenericXLogFinish(record);
        UnlockReleaseBuffer(buffer);
        UnlockReleaseBuffer(meta_buffer);
    }
    pfree(sorted);
}

/* --- entries --- */

void
pages_set_entries(Relation index, uint32 n, const uint32 *slots)
{
    Buffer meta_buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
    BlockNumber block = meta_of(BufferGetPage(meta_buffer))->entry_block;
    Buffer buffer = pages_read(index, block, BUFFER_LOCK_EXCLUSIVE, PAGE_ENTRY);
    GenericXLogState *record = GenericXLogStart(index);
    struct pages_meta *meta = meta_of(GenericXLogRegisterBuffer(record, meta_buffer, 0));
    Page page = GenericXLogRegisterBuffer(record, buffer, 0);
    uint32 *list = (uint32 *) pages_content(page);

    n = Min(n, PAGES_ENTRY_MAX);
    memcpy(list, slots, n * sizeof(*list));
    pages_use(page, list + n);
    meta->n_entry = n;
    meta->entry_generation++;
    GenericXLogFinish(record);
    UnlockReleaseBuffer(buffer);
    UnlockReleaseBuffer(meta_buffer);
}

bool
pages_add_entry(Relation index, uint32 slot)
{
    Buffer meta_buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
    const struct pages_meta *now = meta_of(BufferGetPage(meta_buffer));
    bool has_room = now->state == PAGES_GRAPH && now->n_entry < pages_entry_max(now);

    if (has_room) {
        Buffer buffer = pages_read(index, now->entry_block, BUFFER_LOCK_EXCLUSIVE, PAGE_ENTRY);
        GenericXLogState *record = GenericXLogStart(index);
        struct pages_meta *meta = meta_of(GenericXLogRegisterBuffer(record, meta_buffer, 0));
        Page page = GenericXLogRegisterBuffer(record, buffer, 0);
        uint32 *list = (uint32 *) pages_content(page);

        list[meta->n_entry++] = slot;
        pages_use(page, list + meta->n_entry);
        GenericXLogFinish(record);
        UnlockReleaseBuffer(buffer);
    }
    UnlockReleaseBuffer(meta_buffer);
    return has_room;
}

/* --- block 0 --- */

void
pages_change_meta(Relation index, void (*fn)(struct pages_meta *meta, void *context), void *context)
{
    Buffer buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
    GenericXLogState *record = GenericXLogStart(index);

    fn(meta_of(GenericXLogRegisterBuffer(record, buffer, 0)), context);
    GenericXLogFinish(record);
    UnlockReleaseBuffer(buffer);
}

static void
become_raw(struct pages_meta *meta, void *context)
{
    struct pages_plan plan = { .state = PAGES_RAW, .dim = *(const uint32 *) context };

    if (meta->state == PAGES_EMPTY && (meta->dim == 0 || meta->dim == plan.dim)) {
        plan.payload_size = plan.dim * 4;
        (void) pages_shape(meta, &plan, PAGES_META_BLOCK + 1);
        meta->generation++;
    }
}

void
pages_set_dim(Relation index, uint32 dim)
{
    pages_change_meta(index, become_raw, &dim);
}
