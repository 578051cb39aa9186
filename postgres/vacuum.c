/* Vacuum: takes dead heap tuples out, then nodes that have none left, and mends the graph where they were.
 *
 *   1. every slot: dead heap tuples go; nodes without any become DEAD. They go on routing searches.
 *   2. wait for the inserts that may have chosen a neighbor before it was DEAD
 *   3. every node that links to a dead one chooses again among its own neighbors and those of the dead one;
 *      dead entry nodes are replaced; nodes that no way from an entry node leads to, alone or as islands, are
 *      linked anew
 *   4. wait for the scans and inserts that may still hold the number of a dead slot
 *   5. dead slots go on the free list, and so do slots that an insert took and did not fill (a crash, or an
 *      error in between): those that were not filled before 4 and are not after it
 *
 * Waiting is taking the generation lock exclusively for a moment. New inserts after 2 see the flags, so no
 * link to a dead node appears after 3 has passed a node. A crash at any point leaves flags and links that the
 * next vacuum takes up again: it collects all DEAD nodes, not only its own.
 *
 * RAW indexes have no links: 2 and 3 are left out. Vacuum holds the generation lock in share mode throughout,
 * so RAW does not become GRAPH meanwhile. Memory: two bits and four bytes per slot, and a list of
 * the dead. */
#include "lantern.h"

#include <access/genam.h>
#include <commands/vacuum.h>
#include <miscadmin.h>
#include <storage/bufmgr.h>
#include <storage/lmgr.h>
#include <utils/memutils.h>

#include "links.h"

#define RETRIES 16
#define ROUNDS 3 /* of looking for islands: linking one may cut off another */

struct slots {
    uint32 *slot;
    Size n, capacity;
};

struct vacuum {
    Relation index;
    IndexBulkDeleteResult *stats;
    IndexBulkDeleteCallback is_dead;
    void *is_dead_context;
    struct pages_index *p;
    struct pages_meta meta; /* as of the moment that counts for the pass */
    MemoryContext context;
    uint64 *dead;   /* a bit per slot: DEAD nodes */
    uint64 *reached; /* a bit per slot: a way leads here */
    uint32 *stack;   /* [n_slot] reached, its links not yet followed */
    struct slots gone;     /* for the free list */
    struct slots unfilled; /* perhaps taken and given up */
    struct idset followers; /* slots that belong to a chain */
    struct linker linker;
    struct measure measure;
    uint32 *links, *beyond, *candidates;
};

static inline bool
has_bit(const uint64 *bits, uint32 slot)
{
    return bits[slot >> 6] >> (slot & 63) & 1;
}

static inline void
set_bit(uint64 *bits, uint32 slot)
{
    bits[slot >> 6] |= UINT64_C(1) << (slot & 63);
}

static void
note(struct vacuum *v, struct slots *slots, uint32 slot)
{
    if (slots->n == slots->capacity) {
        slots->capacity = slots->capacity ? slots->capacity * 2 : 256;
        slots->slot = slots->slot
                        ? repalloc_huge(slots->slot, slots->capacity * sizeof(*slots->slot))
                        : MemoryContextAllocHuge(v->context, slots->capacity * sizeof(*slots->slot));
    }
    slots->slot[slots->n++] = slot;
}

/* --- 1: heap tuples --- */

static ItemPointerData *
tids_of(const struct pages_meta *meta, struct slot *s, unsigned *max)
{
    *max = s->kind == SLOT_NODE ? PAGES_TIDS : s->kind == SLOT_OVERFLOW ? pages_overflow_max(meta) : 0;
    return s->kind == SLOT_NODE ? s->tid : slot_overflow_tids(s);
}

/* Takes dead heap tuples out of a slot, which may be the copy of a record; returns how many. */
static unsigned
drop_tuples(struct vacuum *v, struct slot *s, bool is_trial)
{
    unsigned max, kept = 0, n;
    ItemPointerData *tids = tids_of(&v->meta, s, &max);

    n = Min(s->n_tid, max);
    for (unsigned i = 0; i < n; i++) {
        if (v->is_dead(&tids[i], v->is_dead_context))
            continue;
        if (!is_trial)
            tids[kept] = tids[i];
        kept++;
    }
    if (!is_trial)
        s->n_tid = (uint16) kept;
    return n - kept;
}

/* A node that has lost its last heap tuple, also in an earlier vacuum that did not get to the end. */
static bool
is_empty(const struct slot *s)
{
    return s->kind == SLOT_NODE && s->n_tid == 0 && s->next == PAGES_SLOT_NONE;
}

/* What there is to do on a page, without doing it. */
static bool
has_work(struct vacuum *v, Page page, uint32 first, uint32 end)
{
    bool found = false;

    for (uint32 slot = first; slot < end; slot++) {
        struct slot *s = pages_slot(&v->meta, page, slot);

        found = found || drop_tuples(v, s, true) > 0 || (is_empty(s) && !(s->flags & SLOT_DEAD));
    }
    return found;
}

/* One record: the page without dead tuples, and block 0 with the count of nodes. */
static void
clean_page(struct vacuum *v, BlockNumber block, uint32 first, uint32 end)
{
    Buffer meta_buffer = pages_read(v->index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META);
    Buffer buffer = pages_read(v->index, block, BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    GenericXLogState *record = GenericXLogStart(v->index);
    struct pages_meta *meta =
        (struct pages_meta *) pages_content(GenericXLogRegisterBuffer(record, meta_buffer, 0));
    Page page = GenericXLogRegisterBuffer(record, buffer, 0);

    for (uint32 slot = first; slot < end; slot++) {
        struct slot *s = pages_slot(&v->meta, page, slot);

        v->stats->tuples_removed += drop_tuples(v, s, false);
        if (is_empty(s) && !(s->flags & SLOT_DEAD)) {
            s->flags |= SLOT_DEAD;
            meta->n_node -= meta->n_node > 0;
        }
    }
    GenericXLogFinish(record);
    UnlockReleaseBuffer(buffer);
    UnlockReleaseBuffer(meta_buffer);
}

/* Counts what is left on a page, and notes nodes with chains. */
static void
count_page(struct vacuum *v, Page page, uint32 first, uint32 end, struct idset *chained)
{
    for (uint32 slot = first; slot < end; slot++) {
        struct slot *s = pages_slot(&v->meta, page, slot);
        unsigned max;

        (void) tids_of(&v->meta, s, &max);
        v->stats->num_index_tuples += Min(s->n_tid, max);
        if (s->kind == SLOT_NODE && s->next != PAGES_SLOT_NONE)
            (void) idset_add(chained, slot);
    }
}

static void
clean_tuples(struct vacuum *v, struct idset *chained)
{
    uint32 per_page = v->meta.slots_per_page;

    for (uint32 first = 0; first < v->meta.n_slot; first += per_page) {
        BlockNumber block = pages_block(&v->meta, first);
        uint32 end = Min(first + per_page, v->meta.n_slot);
        Buffer buffer;
        bool is_dirty;

        ANX_PG_VACUUM_DELAY();
        buffer = pages_read(v->index, block, BUFFER_LOCK_SHARE, PAGE_SLOTS);
        is_dirty = has_work(v, BufferGetPage(buffer), first, end);
        if (!is_dirty)
            count_page(v, BufferGetPage(buffer), first, end, chained);
        UnlockReleaseBuffer(buffer);
        if (!is_dirty)
            continue;
        clean_page(v, block, first, end);
        buffer = pages_read(v->index, block, BUFFER_LOCK_SHARE, PAGE_SLOTS);
        count_page(v, BufferGetPage(buffer), first, end, chained);
        UnlockReleaseBuffer(buffer);
    }
}

/* --- 1: chains --- */

/* Takes the overflow slot `next` of `slot` (a node or an overflow slot) out of the chain if it is empty, in
 * one record; a node left with nothing becomes DEAD. Returns the slot to go on with, PAGES_SLOT_NONE at the
 * end. Chains change only under block 0's lock. */
static uint32
clean_link(struct vacuum *v, uint32 slot)
{
    Buffer meta_buffer = pages_read(v->index, PAGES_META_BLOCK, BUFFER_LOCK_EXCLUSIVE, PAGE_META), buffer;
    struct slot *s, *o;
    uint32 next, after = PAGES_SLOT_NONE;
    bool is_hollow = false;

    buffer = pages_read(v->index, pages_block(&v->meta, slot), BUFFER_LOCK_SHARE, PAGE_SLOTS);
    next = pages_slot(&v->meta, BufferGetPage(buffer), slot)->next;
    UnlockReleaseBuffer(buffer);
    if (next < v->meta.n_slot) {
        buffer = pages_read(v->index, pages_block(&v->meta, next), BUFFER_LOCK_SHARE, PAGE_SLOTS);
        o = pages_slot(&v->meta, BufferGetPage(buffer), next);
        is_hollow = o->kind == SLOT_OVERFLOW && o->n_tid == 0;
        after = o->next;
        UnlockReleaseBuffer(buffer);
    }
    if (is_hollow) { /* it stays as it is: scans may stand on it until it is on the free list */
        GenericXLogState *record;
        struct pages_meta *meta;

        buffer = pages_read(v->index, pages_block(&v->meta, slot), BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
        record = GenericXLogStart(v->index);
        meta = (struct pages_meta *) pages_content(GenericXLogRegisterBuffer(record, meta_buffer, 0));
        s = pages_slot(&v->meta, GenericXLogRegisterBuffer(record, buffer, 0), slot);
        s->next = after;
        if (is_empty(s) && !(s->flags & SLOT_DEAD)) {
            s->flags |= SLOT_DEAD;
            meta->n_node -= meta->n_node > 0;
        }
        GenericXLogFinish(record);
        UnlockReleaseBuffer(buffer);
        note(v, &v->gone, next);
        next = slot; /* look at what follows it now */
    }
    UnlockReleaseBuffer(meta_buffer);
    return is_hollow ? slot : next < v->meta.n_slot ? next : PAGES_SLOT_NONE;
}

static void
clean_chains(struct vacuum *v, const struct idset *chained)
{
    for (Size i = 0; i < (Size) 1 << chained->bits; i++) {
        uint32 slot;

        if (chained->place[i] == IDSET_NONE)
            continue;
        for (slot = (uint32) chained->place[i]; slot != PAGES_SLOT_NONE; slot = clean_link(v, slot))
            ANX_PG_VACUUM_DELAY();
    }
}

/* --- 2, 4: waiting --- */

static void
wait_for_others(struct vacuum *v)
{
    pages_lock(v->index, ExclusiveLock);
    pages_unlock(v->index, ExclusiveLock);
    v->p = pages_open(v->index);
    v->meta = v->p->meta;
}

/* Taken by an insert that has not written what is to be there; or will not. */
static bool
is_unfilled(const struct slot *s)
{
    return (s->kind == SLOT_FREE && (s->flags & SLOT_TAKEN)) || (s->kind == SLOT_OVERFLOW && s->n_tid == 0);
}

static void
collect_slot(struct vacuum *v, const struct slot *s, uint32 slot)
{
    if (s->kind != SLOT_FREE && s->next != PAGES_SLOT_NONE)
        (void) idset_add(&v->followers, s->next);
    if (s->kind == SLOT_NODE && (s->flags & SLOT_DEAD)) {
        set_bit(v->dead, slot);
        note(v, &v->gone, slot);
    } else if (is_unfilled(s) && !has_bit(v->dead, slot)) {
        note(v, &v->unfilled, slot);
    }
}

/* All DEAD nodes, and slots that an insert took and did not fill. */
static void
collect_dead(struct vacuum *v)
{
    v->dead = MemoryContextAllocExtended(v->context, (v->meta.n_slot / 64 + 1) * sizeof(uint64),
                                         MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
    idset_init(&v->followers, v->context, 64);
    for (Size i = 0; i < v->gone.n; i++) /* of chains */
        set_bit(v->dead, v->gone.slot[i]);
    for (uint32 first = 0; first < v->meta.n_slot; first += v->meta.slots_per_page) {
        uint32 end = Min(first + v->meta.slots_per_page, v->meta.n_slot);
        Buffer buffer;

        ANX_PG_VACUUM_DELAY();
        buffer = pages_read(v->index, pages_block(&v->meta, first), BUFFER_LOCK_SHARE, PAGE_SLOTS);
        for (uint32 slot = first; slot < end; slot++)
            collect_slot(v, pages_slot(&v->meta, BufferGetPage(buffer), slot), slot);
        UnlockReleaseBuffer(buffer);
    }
}

/* The inserts that were under way when the slots were noted have ended: what is still not filled will never
 * be. Nobody else can have taken it, since it is not on the free list. */
static void
collect_lost(struct vacuum *v)
{
    for (Size i = 0; i < v->unfilled.n; i++) {
        uint32 slot = v->unfilled.slot[i];
        Buffer buffer =
            pages_read(v->index, pages_block(&v->meta, slot), BUFFER_LOCK_SHARE, PAGE_SLOTS);
        bool is_lost = is_unfilled(pages_slot(&v->meta, BufferGetPage(buffer), slot)) &&
                       !idset_has(&v->followers, slot);

        UnlockReleaseBuffer(buffer);
        if (is_lost)
            note(v, &v->gone, slot);
    }
}

/* --- 3: links --- */

/* Slots handed out since the dead were collected are not among them. */
static bool
is_gone(const struct vacuum *v, uint32 slot)
{
    return slot < v->meta.n_slot && has_bit(v->dead, slot);
}

/* Makes younger slots known to the linker, which would drop links to them. */
static void
know_younger(struct vacuum *v, const uint32 *links, uint32 n)
{
    bool is_younger = false;

    for (uint32 i = 0; i < n; i++)
        is_younger = is_younger || links[i] >= v->linker.meta.n_slot;
    if (is_younger) {
        v->p = pages_open(v->index);
        v->linker.meta.n_slot = v->p->meta.n_slot;
    }
}

/* Links of a live node to dead ones are replaced: candidates are its live neighbors, then the live neighbors
 * of its dead ones. */
static void
repair_node(struct vacuum *v, uint32 slot)
{
    for (int tries = 0; tries < RETRIES; tries++) {
        struct slot_view view = { .links = v->links, .code = v->measure.code };
        struct slot_view dead = { .links = v->beyond };
        Size n = 0, max = v->linker.capacity;
        uint32 n_new;

        if (!page_walk_view(v->index, &v->meta, slot, &view))
            return;
        know_younger(v, v->links, view.head.n_link);
        for (unsigned i = 0; i < view.head.n_link; i++)
            if (!is_gone(v, v->links[i]))
                v->candidates[n++] = v->links[i];
        if (n == view.head.n_link)
            return;
        for (unsigned i = 0; i < view.head.n_link && n < max; i++) {
            if (!is_gone(v, v->links[i]) || !page_walk_view(v->index, &v->meta, v->links[i], &dead))
                continue;
            know_younger(v, v->beyond, dead.head.n_link);
            for (unsigned j = 0; j < dead.head.n_link && n < max; j++) {
                bool is_new = !is_gone(v, v->beyond[j]) && v->beyond[j] != slot;

                for (Size k = 0; k < n && is_new; k++)
                    is_new = v->candidates[k] != v->beyond[j];
                if (is_new)
                    v->candidates[n++] = v->beyond[j];
            }
        }
        n_new = linker_choose(&v->linker, v->measure.code, slot, v->candidates, n, v->meta.degree, v->beyond);
        if (linker_replace(&v->linker, slot, v->links, view.head.n_link, v->beyond, n_new))
            return;
    }
}

/* Reads links of a page's live nodes; those that need it are repaired, with no lock held. */
static void
repair_page(struct vacuum *v, uint32 first, uint32 end)
{
    for (uint32 slot = first; slot < end; slot++) {
        struct slot_view view = { .links = v->links };
        bool is_broken = false;

        if (!page_walk_view(v->index, &v->meta, slot, &view) || has_bit(v->dead, slot))
            continue;
        for (unsigned i = 0; i < view.head.n_link; i++)
            is_broken = is_broken || is_gone(v, v->links[i]);
        if (is_broken)
            repair_node(v, slot);
    }
}

static bool
is_live(struct vacuum *v, uint32 slot)
{
    struct slot_view view = { 0 };

    return page_walk_view(v->index, &v->meta, slot, &view) && !(view.head.flags & SLOT_DEAD);
}

/* A live node that no way leads to is linked as if it were new. False: there is none here. */
static bool
link_again(struct vacuum *v, uint32 slot)
{
    MemoryContext one, old;
    struct slot_view view = { .links = v->links, .code = v->measure.code };
    struct page_walk walk;
    uint32 n;

    if (!page_walk_view(v->index, &v->meta, slot, &view) || (view.head.flags & SLOT_DEAD))
        return false;
    one = AllocSetContextCreate(v->context, "lantern_hnsw repair", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(one);
    n = linker_find(&v->linker, v->p, &walk, slot, v->candidates);
    if (view.head.n_link == 0 && n > 0)
        (void) linker_replace(&v->linker, slot, v->links, 0, v->candidates, n);
    linker_link_back(&v->linker, slot, v->measure.code, v->candidates, n);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(one);
    return true;
}

/* Marks all that ways from here lead to. */
static void
flood(struct vacuum *v, uint32 from)
{
    Size n = 0;

    if (from >= v->meta.n_slot || has_bit(v->reached, from))
        return;
    set_bit(v->reached, from);
    v->stack[n++] = from;
    while (n > 0) {
        struct slot_view view = { .links = v->links };

        ANX_PG_VACUUM_DELAY();
        if (!page_walk_view(v->index, &v->meta, v->stack[--n], &view) || (view.head.flags & SLOT_DEAD))
            continue;
        for (unsigned i = 0; i < view.head.n_link; i++) {
            uint32 to = v->links[i];

            if (to < v->meta.n_slot && !has_bit(v->reached, to)) { /* bits are only for those */
                set_bit(v->reached, to);
                v->stack[n++] = to;
            }
        }
    }
}

/* Links what no way from an entry node leads to; returns how many such nodes were met. is_last: makes them
 * entry nodes instead, as long as there is room, which cuts off nothing. */
static Size
link_islands(struct vacuum *v, bool is_last)
{
    Size n = 0;

    memset(v->reached, 0, (v->meta.n_slot / 64 + 1) * sizeof(uint64));
    for (uint32 i = 0; i < v->p->n_entry; i++)
        flood(v, v->p->entry[i]);
    for (uint32 slot = 0; slot < v->meta.n_slot; slot++) {
        if (has_bit(v->reached, slot) || has_bit(v->dead, slot))
            continue;
        if (is_last ? !is_live(v, slot) || !pages_add_entry(v->index, slot) : !link_again(v, slot))
            continue;
        flood(v, slot);
        n++;
    }
    return n;
}

/* The next live node from `from` on, going round; PAGES_SLOT_NONE: there is none. */
static uint32
live_from(struct vacuum *v, uint32 from)
{
    for (uint32 i = 0; i < v->meta.n_slot; i++) {
        uint32 slot = (from + i) % v->meta.n_slot;

        if (!has_bit(v->dead, slot) && is_live(v, slot))
            return slot;
        CHECK_FOR_INTERRUPTS();
    }
    return PAGES_SLOT_NONE;
}

/* Dead entry nodes are replaced by live nodes near their place (slots near each other are near in space). An
 * entry that an insert appends meanwhile may get lost: it is one of many. */
static void
repair_entries(struct vacuum *v)
{
    uint32 *entries = MemoryContextAlloc(v->context, PAGES_ENTRY_MAX * sizeof(*entries)), n = 0;
    struct idset have;
    bool is_changed = false;

    idset_init(&have, v->context, PAGES_ENTRY_MAX);
    for (uint32 i = 0; i < v->p->n_entry && n < PAGES_ENTRY_MAX; i++) {
        uint32 slot = v->p->entry[i];

        if (is_gone(v, slot)) {
            is_changed = true;
            slot = slot < v->meta.n_slot ? live_from(v, slot) : PAGES_SLOT_NONE;
        }
        if (slot != PAGES_SLOT_NONE && idset_add(&have, slot))
            entries[n++] = slot;
    }
    if (n == 0 && v->meta.n_slot > 0) {
        uint32 slot = live_from(v, 0);

        if (slot != PAGES_SLOT_NONE)
            entries[n++] = slot, is_changed = true;
    }
    if (is_changed || n != v->p->n_entry)
        pages_set_entries(v->index, n, entries);
    v->p = pages_open(v->index);
}

static void
repair(struct vacuum *v)
{
    Size degree = v->meta.degree;

    measure_init(&v->measure, &v->p->space, v->context);
    linker_init(&v->linker, v->index, v->p, &v->measure, v->context);
    v->links = MemoryContextAlloc(v->context, degree * sizeof(uint32));
    v->beyond = MemoryContextAlloc(v->context, degree * sizeof(uint32));
    v->candidates = MemoryContextAlloc(v->context, (v->linker.capacity + degree) * sizeof(uint32));
    v->reached = MemoryContextAllocHuge(v->context, (v->meta.n_slot / 64 + 1) * sizeof(uint64));
    v->stack = MemoryContextAllocHuge(v->context, ((Size) v->meta.n_slot + 1) * sizeof(uint32));
    for (uint32 first = 0; first < v->meta.n_slot && v->gone.n > 0; first += v->meta.slots_per_page) {
        ANX_PG_VACUUM_DELAY();
        repair_page(v, first, Min(first + v->meta.slots_per_page, v->meta.n_slot));
    }
    repair_entries(v);
    for (int round = 0; round < ROUNDS; round++)
        if (link_islands(v, round == ROUNDS - 1) == 0)
            break;
}

/* --- all --- */

IndexBulkDeleteResult *
anx_pg_bulk_delete(IndexVacuumInfo *info, IndexBulkDeleteResult *stats, IndexBulkDeleteCallback is_dead,
                   void *context)
{
    struct vacuum v = { .index = info->index, .is_dead = is_dead, .is_dead_context = context };
    struct idset chained;
    MemoryContext old;

    if (!stats)
        stats = palloc0(sizeof(*stats));
    v.stats = stats;
    stats->num_index_tuples = 0;
    v.context = AllocSetContextCreate(CurrentMemoryContext, "lantern_hnsw vacuum", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(v.context);
    pages_lock(v.index, ShareLock);
    v.p = pages_open(v.index);
    v.meta = v.p->meta;
    if (v.meta.state != PAGES_EMPTY) {
        idset_init(&chained, v.context, 64);
        clean_tuples(&v, &chained);
        clean_chains(&v, &chained);
        wait_for_others(&v);
        collect_dead(&v);
        if (v.meta.state == PAGES_GRAPH)
            repair(&v);
        if (v.gone.n > 0 || v.unfilled.n > 0) {
            wait_for_others(&v);
            collect_lost(&v);
            pages_free_slots(v.index, &v.meta, (uint32) v.gone.n, v.gone.slot);
        }
    }
    stats->num_pages = RelationGetNumberOfBlocks(v.index);
    stats->pages_free = 0;
    pages_unlock(v.index, ShareLock);
    MemoryContextSwitchTo(old);
    MemoryContextDelete(v.context);
    return stats;
}

IndexBulkDeleteResult *
anx_pg_vacuum_cleanup(IndexVacuumInfo *info, IndexBulkDeleteResult *stats)
{
    if (info->analyze_only)
        return stats;
    if (!stats) { /* nothing was dead: no page was read, so the table's count has to do */
        stats = palloc0(sizeof(*stats));
        stats->num_index_tuples = info->num_heap_tuples;
        stats->estimated_count = true;
    }
    stats->num_pages = RelationGetNumberOfBlocks(info->index);
    return stats;
}
