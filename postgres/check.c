/* The checker: walks all pages of an index and compares them with each other, then the heap with them. It
 * holds the generation lock exclusively while it walks, so searches and inserts wait; the heap is compared
 * after that, against what was seen.
 *
 * What a crash may leave behind is no problem and is only counted: slots that an insert took and did not fill
 * (lost), nodes without heap tuples (dead, until the next vacuum), pages behind the last slot. */
#include "build.h"

#include <access/tableam.h>
#include <catalog/index.h>
#include <math.h>
#include <miscadmin.h>
#include <utils/memutils.h>
#include <utils/snapmgr.h>

#include "measure.h"

#define PROBLEMS_MAX 100 /* then it is clear that the index is broken */
#define RESIDUAL_SLACK 1e-4 /* relative: another instruction set rounds otherwise */

/* What was seen of a slot. */
#define SEEN_KIND 0x03u /* enum slot_kind */
#define SEEN_DEAD 0x04u
#define SEEN_LISTED 0x08u /* on the free list, or in the chain of a node */
#define SEEN_REACHED 0x10u
#define SEEN_BLANK 0x20u  /* on a page that was never written */

/* A heap tuple and the node that has it. */
struct known {
    uint64 label;
    uint32 slot;
};

struct check {
    Relation index, heap;
    struct pages_index *p;
    struct pages_meta meta;
    MemoryContext context;
    anx_pg_report_fn report;
    void *report_context;
    uint32 n_problem;
    uint8 *seen;  /* [n_slot] */
    uint32 *next; /* [n_slot] of FREE, OVERFLOW and NODE slots */
    struct known *known;
    Size n_known, known_capacity;
    uint32 *stack; /* [n_slot] */
    uint32 n_node, n_dead, n_overflow, n_free, n_lost, n_unreached;
    uint64 n_link;
    double residual_sum;
    /* the heap */
    struct anx_pg_column column;
    MemoryContext row_context;
    struct measure measure;
    uint8 *payload;
};

static void problem(struct check *c, const char *format, ...) pg_attribute_printf(2, 3);

static void
problem(struct check *c, const char *format, ...)
{
    char text[256];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof(text), format, arguments);
    va_end(arguments);
    if (c->n_problem++ < PROBLEMS_MAX && c->report)
        c->report(c->report_context, text);
}

static void
know(struct check *c, const ItemPointerData *tid, uint32 slot)
{
    if (!ItemPointerIsValid(tid)) {
        problem(c, "slot %u has a heap tuple (%u,%u) that cannot be", slot,
                ItemPointerGetBlockNumberNoCheck(tid), ItemPointerGetOffsetNumberNoCheck(tid));
        return;
    }
    if (c->n_known == c->known_capacity) {
        c->known_capacity = c->known_capacity ? c->known_capacity * 2 : 1024;
        c->known = c->known ? repalloc_huge(c->known, c->known_capacity * sizeof(*c->known))
                            : MemoryContextAllocHuge(c->context, c->known_capacity * sizeof(*c->known));
    }
    c->known[c->n_known++] = (struct known){ build_label(tid), slot };
}

/* --- every slot by itself --- */

static void
check_links(struct check *c, uint32 slot, struct slot *s)
{
    const uint32 *links = slot_links(s);

    if (s->n_link > c->meta.degree) {
        problem(c, "slot %u has %u links, at most %u are possible", slot, s->n_link, c->meta.degree);
        return;
    }
    for (uint32 i = 0; i < s->n_link; i++) {
        if (links[i] >= c->meta.n_slot || links[i] == slot)
            problem(c, "slot %u links to slot %u of %u", slot, links[i], c->meta.n_slot);
        for (uint32 j = 0; j < i; j++)
            if (links[j] == links[i])
                problem(c, "slot %u links to slot %u twice", slot, links[i]);
    }
    c->n_link += s->n_link;
}

static void
check_node(struct check *c, uint32 slot, struct slot *s)
{
    bool is_exact =
        c->meta.state == PAGES_RAW || (c->meta.space_kind != SPACE_ROTATED && !c->meta.has_inexact);

    c->n_node++;
    if (s->flags & SLOT_DEAD) {
        c->n_dead++;
        c->seen[slot] |= SEEN_DEAD;
        if (s->n_tid > 0)
            problem(c, "slot %u is dead, but has %u heap tuples", slot, s->n_tid);
    }
    if (s->n_tid > PAGES_TIDS)
        problem(c, "slot %u has %u heap tuples, at most %d are possible", slot, s->n_tid, PAGES_TIDS);
    for (uint32 i = 0; i < Min(s->n_tid, PAGES_TIDS); i++)
        know(c, &s->tid[i], slot);
    if (!isfinite(s->residual) || s->residual < 0 || (is_exact && s->residual > 0))
        problem(c, "slot %u has residual %g", slot, (double) s->residual);
    else
        c->residual_sum += (double) s->residual;
    check_links(c, slot, s);
}

static void
check_overflow(struct check *c, uint32 slot, struct slot *s)
{
    uint32 max = pages_overflow_max(&c->meta);

    c->n_overflow++;
    if (s->n_tid > max)
        problem(c, "overflow slot %u has %u heap tuples, at most %u are possible", slot, s->n_tid, max);
    for (uint32 i = 0; i < Min(s->n_tid, max); i++)
        know(c, &slot_overflow_tids(s)[i], slot);
}

static void
check_slot(struct check *c, Page page, uint32 slot)
{
    struct slot *s = pages_slot(&c->meta, page, slot);

    if (s->kind > SLOT_OVERFLOW) {
        problem(c, "slot %u is of kind %u", slot, s->kind);
        return;
    }
    c->seen[slot] = s->kind;
    c->next[slot] = s->next;
    if (s->next != PAGES_SLOT_NONE && s->next >= c->meta.n_slot && s->kind != SLOT_FREE) {
        problem(c, "slot %u is followed by slot %u of %u", slot, s->next, c->meta.n_slot);
        c->next[slot] = PAGES_SLOT_NONE;
    }
    if (s->kind == SLOT_NODE)
        check_node(c, slot, s);
    else if (s->kind == SLOT_OVERFLOW)
        check_overflow(c, slot, s);
}

/* The pages behind the first one of a wide node. */
static void
check_more(struct check *c, uint32 slot, BlockNumber n_block)
{
    for (uint32 part = 1; part < c->meta.pages_per_slot; part++) {
        BlockNumber block = pages_block(&c->meta, slot) + part;

        if (block >= n_block) {
            problem(c, "block %u of slot %u is missing", block, slot);
            return;
        }
        UnlockReleaseBuffer(pages_read(c->index, block, BUFFER_LOCK_SHARE, PAGE_MORE));
    }
}

static void
check_block(struct check *c, BlockNumber block, uint32 first, uint32 n)
{
    Buffer buffer = ReadBuffer(c->index, block);
    Page page = BufferGetPage(buffer);

    LockBuffer(buffer, BUFFER_LOCK_SHARE);
    if (PageIsNew(page)) {
        for (uint32 i = 0; i < n; i++)
            c->seen[first + i] = SLOT_FREE | SEEN_BLANK;
        UnlockReleaseBuffer(buffer);
        return;
    }
    LockBuffer(buffer, BUFFER_LOCK_UNLOCK);
    ReleaseBuffer(buffer);
    buffer = pages_read(c->index, block, BUFFER_LOCK_SHARE, PAGE_SLOTS);
    page = BufferGetPage(buffer);
    for (uint32 i = 0; i < n; i++)
        check_slot(c, page, first + i);
    UnlockReleaseBuffer(buffer);
}

static void
check_slots(struct check *c)
{
    BlockNumber n_block = RelationGetNumberOfBlocks(c->index);
    uint32 n_slot = c->meta.n_slot;

    for (uint32 slot = 0; slot < n_slot;) {
        uint32 n = c->meta.pages_per_slot > 1 ? 1 : Min(c->meta.slots_per_page, n_slot - slot);
        BlockNumber block = pages_block(&c->meta, slot);

        CHECK_FOR_INTERRUPTS();
        if (block >= n_block) {
            problem(c, "slot %u should be on block %u, but there are %u", slot, block, n_block);
            return;
        }
        check_block(c, block, slot, n);
        if ((c->seen[slot] & SEEN_KIND) == SLOT_NODE && c->meta.pages_per_slot > 1)
            check_more(c, slot, n_block);
        slot += n;
    }
}

/* --- slots among each other --- */

static void
check_free_list(struct check *c)
{
    uint32 n = 0;

    for (uint32 slot = c->meta.free_head; slot != PAGES_SLOT_NONE; slot = c->next[slot]) {
        if (slot >= c->meta.n_slot || (c->seen[slot] & SEEN_KIND) != SLOT_FREE ||
            (c->seen[slot] & SEEN_BLANK)) {
            problem(c, "the free list names slot %u, which is not free", slot);
            return;
        }
        if (c->seen[slot] & SEEN_LISTED) {
            problem(c, "the free list comes to slot %u twice", slot);
            return;
        }
        c->seen[slot] |= SEEN_LISTED;
        n++;
    }
    c->n_free = n;
    if (n != c->meta.n_free)
        problem(c, "the free list has %u slots, block 0 says %u", n, c->meta.n_free);
}

static void
check_chain(struct check *c, uint32 node)
{
    for (uint32 slot = c->next[node]; slot != PAGES_SLOT_NONE; slot = c->next[slot]) {
        if ((c->seen[slot] & SEEN_KIND) != SLOT_OVERFLOW) {
            problem(c, "slot %u has slot %u for more heap tuples, which is none", node, slot);
            return;
        }
        if (c->seen[slot] & SEEN_LISTED) {
            problem(c, "overflow slot %u belongs to more than one node", slot);
            return;
        }
        c->seen[slot] |= SEEN_LISTED;
    }
}

/* Links were in range; do they lead to nodes? A second reading, since kinds are known only now. */
static void
check_targets(struct check *c, uint32 slot)
{
    Buffer buffer = pages_read(c->index, pages_block(&c->meta, slot), BUFFER_LOCK_SHARE, PAGE_SLOTS);
    struct slot *s = pages_slot(&c->meta, BufferGetPage(buffer), slot);
    uint32 n = Min(s->n_link, c->meta.degree);

    for (uint32 i = 0; i < n; i++) {
        uint32 to = slot_links(s)[i];

        if (to < c->meta.n_slot && (c->seen[to] & SEEN_KIND) != SLOT_NODE)
            problem(c, "slot %u links to slot %u, which is no node", slot, to);
    }
    UnlockReleaseBuffer(buffer);
}

static void
check_entries(struct check *c)
{
    Buffer buffer;
    uint32 entries[PAGES_ENTRY_MAX];

    if (c->meta.n_node > 0 && c->meta.n_entry == 0)
        problem(c, "there are %u nodes, but no entry node", c->meta.n_node);
    buffer = pages_read(c->index, c->meta.entry_block, BUFFER_LOCK_SHARE, PAGE_ENTRY);
    memcpy(entries, pages_content(BufferGetPage(buffer)), c->meta.n_entry * sizeof(*entries));
    UnlockReleaseBuffer(buffer);
    for (uint32 i = 0; i < c->meta.n_entry; i++)
        if (entries[i] >= c->meta.n_slot || (c->seen[entries[i]] & SEEN_KIND) != SLOT_NODE)
            problem(c, "entry node %u is slot %u, which is no node", i, entries[i]);
}

static void
push_links(struct check *c, uint32 slot, uint32 *n_stack)
{
    Buffer buffer = pages_read(c->index, pages_block(&c->meta, slot), BUFFER_LOCK_SHARE, PAGE_SLOTS);
    struct slot *s = pages_slot(&c->meta, BufferGetPage(buffer), slot);
    uint32 n = s->kind == SLOT_NODE ? Min(s->n_link, c->meta.degree) : 0;

    for (uint32 i = 0; i < n; i++) {
        uint32 to = slot_links(s)[i];

        if (to < c->meta.n_slot && !(c->seen[to] & SEEN_REACHED)) {
            c->seen[to] |= SEEN_REACHED;
            c->stack[(*n_stack)++] = to;
        }
    }
    UnlockReleaseBuffer(buffer);
}

/* Nodes that no walk can come to. They are found all the same, by a scan that asks for so many rows, so this
 * is a number and no problem. */
static void
count_unreached(struct check *c)
{
    uint32 n_stack = 0;
    struct pages_index *p = pages_open(c->index);

    for (uint32 i = 0; i < p->n_entry; i++)
        if (p->entry[i] < c->meta.n_slot && !(c->seen[p->entry[i]] & SEEN_REACHED)) {
            c->seen[p->entry[i]] |= SEEN_REACHED;
            c->stack[n_stack++] = p->entry[i];
        }
    while (n_stack > 0) {
        CHECK_FOR_INTERRUPTS();
        push_links(c, c->stack[--n_stack], &n_stack);
    }
    for (uint32 slot = 0; slot < c->meta.n_slot; slot++)
        if ((c->seen[slot] & SEEN_KIND) == SLOT_NODE && !(c->seen[slot] & (SEEN_REACHED | SEEN_DEAD)))
            c->n_unreached++;
}

static int
compare_known(const void *a, const void *b)
{
    uint64 x = ((const struct known *) a)->label, y = ((const struct known *) b)->label;

    return (x > y) - (x < y);
}

static void
check_tuples(struct check *c)
{
    qsort(c->known, c->n_known, sizeof(*c->known), compare_known);
    for (Size i = 1; i < c->n_known; i++)
        if (c->known[i].label == c->known[i - 1].label) {
            ItemPointerData tid;

            memcpy(&tid, &c->known[i].label, sizeof(tid));
            problem(c, "heap tuple (%u,%u) is in slots %u and %u", ItemPointerGetBlockNumberNoCheck(&tid),
                    ItemPointerGetOffsetNumberNoCheck(&tid), c->known[i - 1].slot, c->known[i].slot);
        }
}

static void
check_whole(struct check *c)
{
    check_slots(c);
    check_free_list(c);
    for (uint32 slot = 0; slot < c->meta.n_slot; slot++) {
        CHECK_FOR_INTERRUPTS();
        if ((c->seen[slot] & SEEN_KIND) != SLOT_NODE)
            continue;
        check_chain(c, slot);
        if (c->meta.degree)
            check_targets(c, slot);
    }
    for (uint32 slot = 0; slot < c->meta.n_slot; slot++)
        c->n_lost += (c->seen[slot] & SEEN_KIND) != SLOT_NODE && !(c->seen[slot] & SEEN_LISTED);
    if (c->meta.state == PAGES_GRAPH) {
        check_entries(c);
        count_unreached(c);
    }
    check_tuples(c);
}

/* --- the heap --- */

static uint32
find_slot(const struct check *c, uint64 label)
{
    Size low = 0, high = c->n_known;

    while (low < high) {
        Size middle = low + (high - low) / 2;

        if (c->known[middle].label < label)
            low = middle + 1;
        else
            high = middle;
    }
    return low < c->n_known && c->known[low].label == label ? c->known[low].slot : PAGES_SLOT_NONE;
}

/* The node of an overflow slot is not known from it; such tuples are only looked for. */
static void
check_value(struct check *c, uint32 slot, const ItemPointerData *tid, const void *x)
{
    const struct space *space = &c->p->space;
    bool is_wrong;

    if ((c->seen[slot] & SEEN_KIND) != SLOT_NODE || !pages_copy_payload(c->index, &c->meta, slot, c->payload))
        return;
    if (c->meta.state == PAGES_RAW) {
        is_wrong = memcmp(c->payload, x, c->meta.payload_size) != 0;
    } else {
        Buffer buffer = pages_read(c->index, pages_block(&c->meta, slot), BUFFER_LOCK_SHARE, PAGE_SLOTS);
        double residual = (double) pages_slot(&c->meta, BufferGetPage(buffer), slot)->residual;

        UnlockReleaseBuffer(buffer);
        if (space->kind == SPACE_BITS) {
            is_wrong = memcmp(c->payload, x, (space->dim + 7) / 8) != 0;
        } else {
            measure_row(&c->measure, space, x); /* for its buffer */
            is_wrong = (double) space_residual(space, x, c->payload, c->measure.buffer) >
                       residual * (1 + RESIDUAL_SLACK) + RESIDUAL_SLACK * c->measure.step;
        }
    }
    if (is_wrong)
        problem(c, "row (%u,%u) is not what slot %u says", ItemPointerGetBlockNumberNoCheck(tid),
                ItemPointerGetOffsetNumberNoCheck(tid), slot);
}

static void
check_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool is_alive, void *argument)
{
    struct check *c = argument;
    struct anx_pg_vector vector;
    MemoryContext old;
    uint32 slot;

    (void) index, (void) is_alive;
    if (isnull[0])
        return;
    slot = find_slot(c, build_label(tid));
    if (slot == PAGES_SLOT_NONE) {
        problem(c, "row (%u,%u) is not in the index", ItemPointerGetBlockNumberNoCheck(tid),
                ItemPointerGetOffsetNumberNoCheck(tid));
        return;
    }
    MemoryContextReset(c->row_context);
    old = MemoryContextSwitchTo(c->row_context);
    anx_pg_vector_of(&c->column, values[0], &vector);
    if (vector.dim != c->meta.dim)
        problem(c, "row (%u,%u) has %u dimensions, the index %u", ItemPointerGetBlockNumberNoCheck(tid),
                ItemPointerGetOffsetNumberNoCheck(tid), vector.dim, c->meta.dim);
    else
        check_value(c, slot, tid, vector.f32 ? (const void *) vector.f32 : (const void *) vector.bits);
    MemoryContextSwitchTo(old);
}

/* Every row that was there before the walk must be in the index. */
static void
check_heap(struct check *c, Snapshot snapshot)
{
    IndexInfo *info = BuildIndexInfo(c->index);
    TableScanDesc scan = table_beginscan_strat(c->heap, snapshot, 0, NULL, true, true);

    anx_pg_column_of(c->index, &c->column);
    c->row_context = AllocSetContextCreate(c->context, "lantern check row", ALLOCSET_DEFAULT_SIZES);
    c->payload = palloc(c->meta.payload_size + 64);
    c->p = pages_open(c->index);
    if (c->meta.state == PAGES_GRAPH)
        measure_init(&c->measure, &c->p->space, c->context);
    info->ii_Concurrent = true; /* the snapshot says what counts */
    info->ii_Unique = false;
    info->ii_ExclusionOps = NULL;
    (void) table_index_build_scan(c->heap, c->index, info, true, false, check_row, c, scan);
}

/* --- from outside --- */

static void
walk(struct check *c)
{
    pages_lock(c->index, ExclusiveLock);
    c->p = pages_open(c->index);
    c->meta = c->p->meta;
    if (c->meta.state != PAGES_EMPTY) {
        Size n = c->meta.n_slot;

        c->seen = MemoryContextAllocExtended(c->context, n + 1, MCXT_ALLOC_HUGE | MCXT_ALLOC_ZERO);
        c->next = MemoryContextAllocHuge(c->context, (n + 1) * sizeof(*c->next));
        c->stack = MemoryContextAllocHuge(c->context, (n + 1) * sizeof(*c->stack));
        memset(c->next, 0xff, (n + 1) * sizeof(*c->next));
        check_whole(c);
    }
    pages_unlock(c->index, ExclusiveLock);
}

static void
run(struct check *c, bool with_heap)
{
    MemoryContext old;
    Snapshot snapshot = InvalidSnapshot;

    c->context = AllocSetContextCreate(CurrentMemoryContext, "lantern check", ALLOCSET_DEFAULT_SIZES);
    old = MemoryContextSwitchTo(c->context);
    if (with_heap) /* before the walk: what it shows was inserted before */
        snapshot = RegisterSnapshot(GetLatestSnapshot());
    walk(c);
    if (with_heap) {
        if (c->n_problem == 0 || c->meta.state != PAGES_EMPTY)
            check_heap(c, snapshot);
        UnregisterSnapshot(snapshot);
    }
    MemoryContextSwitchTo(old);
}

void
anx_pg_check_index(Relation index, Relation heap, anx_pg_report_fn report, void *context)
{
    struct check c = { .index = index, .heap = heap, .report = report, .report_context = context };

    run(&c, heap != NULL);
    if (c.n_problem > PROBLEMS_MAX) {
        char *text = psprintf("and %u more", c.n_problem - PROBLEMS_MAX);

        report(context, text);
    }
    MemoryContextDelete(c.context);
}

void
anx_pg_index_stats(Relation index, anx_pg_stat_fn report, void *context)
{
    struct check c = { .index = index };
    double n_live;

    run(&c, false);
    n_live = c.n_node - c.n_dead;
    report(context, "state", c.meta.state);
    report(context, "dimensions", c.meta.dim);
    report(context, "nodes", n_live);
    report(context, "dead nodes", c.n_dead);
    report(context, "heap tuples", (double) c.n_known);
    report(context, "overflow slots", c.n_overflow);
    report(context, "free slots", c.n_free);
    report(context, "lost slots", c.n_lost);
    report(context, "links per node", c.n_node ? (double) c.n_link / c.n_node : 0);
    report(context, "entry nodes", c.meta.n_entry);
    report(context, "unreached nodes", c.n_unreached);
    report(context, "bytes per node", c.meta.slot_size);
    report(context, "mean residual", c.n_node ? c.residual_sum / c.n_node : 0);
    report(context, "problems", c.n_problem);
    MemoryContextDelete(c.context);
}
