/* Index scans: rows in the order of their distance from a query, as many as the executor asks for.
 *
 * A scan works in batches. RAW indexes have one: every row, measured exactly. GRAPH indexes walk with a list
 * of ef, give what it holds, go on with a list twice as long, and so forth; when a walk would cost more
 * than reading all codes, all codes are read and the nearest rows not yet given follow, again in batches of
 * growing size. So LIMIT n gets n rows under any WHERE, and nothing is measured twice.
 *
 * Order. Codes are not the rows, so the order of codes is only nearly that of the rows. What a scan finds is
 * kept in a pool with exact distances: the row is read from the table, and the order by operator itself is
 * called. A row leaves the pool when the next candidate is probably not nearer: rounding a row to its code
 * moves it by its residual, which is stored, in a direction that has nothing to do with the query, so the
 * distance changes by about residual / sqrt(dim); we allow four times that. Few candidates more than rows
 * given are looked at. (The executor could sort too, but only by bounds that hold always: that is the whole
 * residual, ten times as much, and for some queries hundreds of rows lie within.) The server then fetches the
 * row again, from a page that is at hand.
 *
 * Rows that the WHERE of the query will not keep are left out as soon as they were read (filter.h), so a
 * filter that keeps little costs one visit of the table for each row that it drops.
 *
 * The index on an expression leaves the sorting to the executor all the same, which has the expression at
 * hand: each row comes with a true lower bound (measure.h). So does a scan without an ordinary snapshot.
 *
 * Codes that are the rows (lossless, bits) need none of this. A row that only a later batch finds although
 * it is nearer than rows given before comes late, but it comes.
 *
 * Between calls a scan holds no lock, only slot numbers that it will look up again, and then takes what the
 * page says. If vacuum has put another row into the slot meanwhile, that row was inserted after the scan's
 * snapshot, so it is invisible to it whatever its place in the order. Chains of overflow slots are followed
 * with the generation lock held. If the whole index was laid out anew (RAW became GRAPH) the scan starts
 * again, and skips the heap tuples that it has given. */
#include "lantern.h"

#include <access/relscan.h>
#include <catalog/pg_type.h>
#include <executor/tuptable.h>
#include <miscadmin.h>
#include <storage/lmgr.h>
#include <utils/memutils.h>
#include <utils/snapmgr.h>

#include <math.h>

#include "filter.h"
#include "heapread.h"
#include "pagewalk.h"

#define GROWTH 2          /* of walks, which go on where they stood */
#define READ_ALL_GROWTH 4 /* of batches that each read everything */
/* Rounding moves a row along the way to the query by so many standard deviations at most. */
#define LIKELY 4.0
#define AHEAD 8            /* candidates between the steps of prefetching */
#define READ_ALL_MIN 16384 /* rows of the first batch that reads everything */

struct found {
    double value; /* what the operator gives, or a lower bound of it */
    ItemPointerData tid;
};
/* Sorted by low: no row of the slot has (probably) a smaller value. */
struct candidate {
    double low;
    uint32 slot;
};

/* What stands behind the values of the pool. */
enum values {
    VALUES_OF_CODES, /* code distances are the operator's values */
    VALUES_OF_ROWS,  /* rows were read and measured */
    VALUES_ARE_BOUNDS
};

enum stage { STAGE_START, STAGE_WALK, STAGE_READ_ALL, STAGE_DONE };

struct scan {
    struct anx_pg_column column;
    MemoryContext context; /* of one rescan */
    bool is_null;          /* no query: no rows */
    struct anx_pg_vector query;
    enum stage stage;
    uint32 generation; /* that the fields below are about */
    struct pages_meta meta; /* of the last batch */
    bool is_restarted; /* tuples were given from another generation: compare with `given` */
    struct measure measure;
    struct page_walk walk;
    Size ef;             /* of the last walk; rows of the last batch that read everything */
    struct idset slots;  /* looked up already */
    struct idset given;  /* heap tuples given */
    struct slot_view view;
    enum values values;
    double slack; /* VALUES_OF_ROWS: share of the residual that counts */
    struct candidate *candidates; /* [n_candidate], ascending; the next to look up is `at` */
    Size n_candidate, candidate_capacity, at;
    double horizon; /* a later batch has probably nothing below */
    struct found *pool; /* [n_pool] a heap, the smallest first */
    Size n_pool, pool_capacity;
    uint64 n_given;    /* and left out: what max_scan_tuples limits */
    /* VALUES_OF_ROWS */
    AttrNumber attribute; /* of the table; 0: the index is on an expression */
    TupleTableSlot *row;
    MemoryContext row_context;
    struct anx_pg_filter *filter; /* NULL: every row is given */
    bool is_filter_known; /* it stays with the scan's node */
    bool reads_rows;      /* to measure them, or to see whether they are wanted */
    bool is_heap;         /* heapread.h helps */
};

/* --- begin, end --- */

IndexScanDesc
anx_pg_begin_scan(Relation index, int n_key, int n_order_by)
{
    IndexScanDesc scan = RelationGetIndexScan(index, n_key, n_order_by);
    struct scan *s = palloc0(sizeof(*s));

    anx_pg_column_of(index, &s->column);
    s->context = AllocSetContextCreate(CurrentMemoryContext, "lantern_hnsw scan", ALLOCSET_DEFAULT_SIZES);
    s->row_context = AllocSetContextCreate(CurrentMemoryContext, "lantern_hnsw row", ALLOCSET_SMALL_SIZES);
    s->attribute = index->rd_index->indkey.values[0];
    s->is_null = true;
    scan->xs_orderbyvals = palloc0(sizeof(Datum) * (Size) Max(n_order_by, 1));
    scan->xs_orderbynulls = palloc0(sizeof(bool) * (Size) Max(n_order_by, 1));
    scan->opaque = s;
    return scan;
}

void
anx_pg_rescan(IndexScanDesc scan, ScanKey keys, int n_key, ScanKey order_bys, int n_order_by)
{
    struct scan *s = scan->opaque;
    struct scan fresh = { .column = s->column,
                          .context = s->context,
                          .is_null = true,
                          .attribute = s->attribute,
                          .row = s->row,
                          .row_context = s->row_context,
                          .filter = s->filter,
                          .is_filter_known = s->is_filter_known };
    MemoryContext old;

    if (keys && scan->numberOfKeys > 0)
        memmove(scan->keyData, keys, (Size) scan->numberOfKeys * sizeof(ScanKeyData));
    if (order_bys && scan->numberOfOrderBys > 0)
        memmove(scan->orderByData, order_bys, (Size) scan->numberOfOrderBys * sizeof(ScanKeyData));
    (void) n_key, (void) n_order_by;
    MemoryContextReset(s->context);
    *s = fresh;
    if (scan->numberOfOrderBys < 1)
        return; /* said at the first tuple */
    if (scan->orderByData[0].sk_strategy == 1)
        anx_pg_deprecated_operator();
    if (scan->orderByData[0].sk_flags & SK_ISNULL)
        return;
    old = MemoryContextSwitchTo(s->context);
    anx_pg_vector_of(&s->column, scan->orderByData[0].sk_argument, &s->query);
    MemoryContextSwitchTo(old);
    s->is_null = false;
}

void
anx_pg_end_scan(IndexScanDesc scan)
{
    struct scan *s = scan->opaque;

    if (s->row)
        ExecDropSingleTupleTableSlot(s->row);
    MemoryContextDelete(s->row_context);
    MemoryContextDelete(s->context);
    pfree(s);
    scan->opaque = NULL;
}

/* --- rows of a batch --- */

static uint64
tid_number(const ItemPointerData *tid)
{
    return (uint64) ItemPointerGetBlockNumberNoCheck(tid) << 16 | ItemPointerGetOffsetNumberNoCheck(tid);
}

static bool
is_before(const struct found *a, const struct found *b)
{
    if (a->value != b->value)
        return a->value < b->value;
    return tid_number(&a->tid) < tid_number(&b->tid);
}

static void
put(struct scan *s, double value, const ItemPointerData *tid)
{
    struct found new = { .value = value, .tid = *tid };
    Size at;

    if (s->is_restarted && idset_has(&s->given, tid_number(tid)))
        return;
    if (s->n_pool == s->pool_capacity) {
        s->pool_capacity = s->pool_capacity ? s->pool_capacity * 2 : 128;
        s->pool = s->pool ? repalloc_huge(s->pool, s->pool_capacity * sizeof(*s->pool))
                          : MemoryContextAllocHuge(s->context, s->pool_capacity * sizeof(*s->pool));
    }
    for (at = s->n_pool++; at > 0 && is_before(&new, &s->pool[(at - 1) / 2]); at = (at - 1) / 2)
        s->pool[at] = s->pool[(at - 1) / 2];
    s->pool[at] = new;
}

static struct found
take(struct scan *s)
{
    struct found first = s->pool[0], last = s->pool[--s->n_pool];
    Size at = 0, child;

    while ((child = 2 * at + 1) < s->n_pool) {
        if (child + 1 < s->n_pool && is_before(&s->pool[child + 1], &s->pool[child]))
            child++;
        if (!is_before(&s->pool[child], &last))
            break;
        s->pool[at] = s->pool[child];
        at = child;
    }
    s->pool[at] = last;
    return first;
}

/* The server sorts NaN behind everything. */
static double
number_of(const struct scan *s, Datum value)
{
    double number = s->column.order_type == FLOAT8OID ? DatumGetFloat8(value)
                  : s->column.order_type == INT4OID   ? (double) DatumGetInt32(value)
                                                      : (double) DatumGetFloat4(value);

    return isnan(number) ? INFINITY : number;
}

/* The heap tuple to s->row, if the scan's snapshot sees it and the executor will keep it. is_locked: the
 * caller holds the generation lock, so functions of users must not be called. True: s->row is to be cleared.
 */
static bool
read_row(struct scan *s, IndexScanDesc scan, const ItemPointerData *tid, bool is_locked)
{
    ItemPointerData at = *tid;
    bool is_visible, more = false, all_dead = false;

    if (!s->row) {
        MemoryContext old = MemoryContextSwitchTo(GetMemoryChunkContext(s));

        s->row = table_slot_create(scan->heapRelation, NULL);
        MemoryContextSwitchTo(old);
    }
    if (s->is_heap)
        heap_read_prepare(scan, tid);
    is_visible =
        table_index_fetch_tuple(scan->xs_heapfetch, &at, scan->xs_snapshot, s->row, &more, &all_dead);
    if (s->is_heap)
        heap_read_remember(scan, tid);
    if (!is_visible)
        return false;
    if (!s->filter || is_locked || anx_pg_filter_keeps(s->filter, s->row))
        return true;
    s->n_given++;
    ExecClearTuple(s->row);
    return false;
}

/* The operator's value for the row in s->row. False: it is NULL. */
static bool
measure_row_read(struct scan *s, IndexScanDesc scan, double *out)
{
    ScanKey key = &scan->orderByData[0];
    MemoryContext old = MemoryContextSwitchTo(s->row_context);
    bool is_null = true;
    Datum value = slot_getattr(s->row, s->attribute, &is_null);

    if (!is_null)
        *out = number_of(s, FunctionCall2Coll(&key->sk_func, key->sk_collation, value, key->sk_argument));
    MemoryContextSwitchTo(old);
    MemoryContextReset(s->row_context);
    return !is_null;
}

static void
add_tuple(struct scan *s, IndexScanDesc scan, double value, const ItemPointerData *tid, bool is_locked)
{
    bool is_kept;

    if (!s->reads_rows) {
        put(s, value, tid);
        return;
    }
    if (!read_row(s, scan, tid, is_locked))
        return;
    is_kept = s->values != VALUES_OF_ROWS || measure_row_read(s, scan, &value);
    ExecClearTuple(s->row);
    if (is_kept)
        put(s, value, tid);
}

/* The heap tuples of overflow slots. Caller holds the generation lock. */
static void
add_chain(struct scan *s, IndexScanDesc scan, const struct pages_meta *meta, uint32 next, double value)
{
    Size room = pages_overflow_max(meta);
    ItemPointerData *tids = palloc(room * sizeof(*tids));

    for (uint32 n = 0; next < meta->n_slot && n < meta->n_slot; n++) {
        Buffer buffer =
            pages_read(scan->indexRelation, pages_block(meta, next), BUFFER_LOCK_SHARE, PAGE_SLOTS);
        struct slot *o = pages_slot(meta, BufferGetPage(buffer), next);
        Size n_tid = o->kind == SLOT_OVERFLOW ? Min(o->n_tid, room) : 0;

        memcpy(tids, slot_overflow_tids(o), n_tid * sizeof(*tids));
        next = o->kind == SLOT_OVERFLOW ? o->next : PAGES_SLOT_NONE;
        UnlockReleaseBuffer(buffer);
        for (Size i = 0; i < n_tid; i++)
            add_tuple(s, scan, value, &tids[i], true);
        CHECK_FOR_INTERRUPTS();
    }
    pfree(tids);
}

/* What the rows of the slot in s->view are worth, as far as its code tells. */
static double
code_value(const struct scan *s)
{
    const uint8 *code = s->view.code;
    double value;
    int32 dist;

    if (s->values == VALUES_OF_ROWS)
        return 0; /* they will be read */
    if (s->values == VALUES_OF_CODES) {
        measure_codes(&s->measure, s->measure.code, &code, 1, &dist);
        value = dist;
    } else {
        value = measure_low(&s->measure, code, s->view.head.residual);
    }
    return s->column.order_is_root ? sqrt(value) : value;
}

/* Reads the slot and puts its rows into the pool. */
static void
look_up(struct scan *s, IndexScanDesc scan, const struct pages_meta *meta, uint32 slot)
{
    Relation index = scan->indexRelation;
    bool is_chained;

    if (!page_walk_view(index, meta, slot, &s->view))
        return;
    is_chained = s->view.head.next != PAGES_SLOT_NONE;
    if (is_chained) {
        pages_lock(index, ShareLock);
        if (!page_walk_view(index, meta, slot, &s->view))
            s->view.head.n_tid = 0, s->view.head.next = PAGES_SLOT_NONE;
    }
    for (unsigned i = 0; i < s->view.head.n_tid; i++)
        add_tuple(s, scan, code_value(s), &s->view.head.tid[i], is_chained);
    if (is_chained) {
        add_chain(s, scan, meta, s->view.head.next, code_value(s));
        pages_unlock(index, ShareLock);
    }
}

/* The candidates that come after this one, each a step nearer to what the processor has at hand: its slot,
 * the page of its first row, the row. */
static void
look_ahead(struct scan *s, IndexScanDesc scan)
{
    const struct slot *slot;

    if (!s->reads_rows || !s->is_heap)
        return;
    for (int step = 0; step < 3; step++) {
        Size at = s->at + AHEAD * (3 - (Size) step);

        slot = at < s->n_candidate
                   ? page_walk_peek(scan->indexRelation, &s->meta, s->candidates[at].slot)
                   : NULL;
        if (slot && step == 0)
            __builtin_prefetch(slot);
        else if (slot && slot->n_tid > 0)
            heap_read_ahead(scan->heapRelation, &slot->tid[0], step);
    }
}

/* A candidate and what its code distance leaves possible. Code distances ascend, so these do. */
static void
add_candidate(struct scan *s, uint32 slot, int32 dist)
{
    double low;

    if (s->n_candidate == s->candidate_capacity) {
        s->candidate_capacity = s->candidate_capacity ? s->candidate_capacity * 2 : 128;
        s->candidates =
            s->candidates
                ? repalloc_huge(s->candidates, s->candidate_capacity * sizeof(*s->candidates))
                : MemoryContextAllocHuge(s->context, s->candidate_capacity * sizeof(*s->candidates));
    }
    if (s->values == VALUES_ARE_BOUNDS)
        low = -1; /* all of a batch are looked up before one is given */
    else if (s->values == VALUES_OF_CODES)
        low = dist;
    else
        low = measure_likely_low(&s->measure, dist, s->slack);
    if (s->column.order_is_root && low > 0)
        low = sqrt(low);
    s->candidates[s->n_candidate++] = (struct candidate){ .low = low, .slot = slot };
}

/* --- RAW: everything, exactly --- */

static bool
is_zero(const float *x, uint32 dim)
{
    for (uint32 i = 0; i < dim; i++)
        if (x[i] != 0)
            return false;
    return true;
}

static double
raw_distance(const struct scan *s, const struct pages_meta *meta, const uint8 *row)
{
    const anx_kernels *kernels = anx_kernels_best();
    const void *query = s->query.f32 ? (const void *) s->query.f32 : s->query.bits;
    uint32 dim = meta->scalar == ANX_SCALAR_B1 ? meta->dim * 32 : meta->dim;
    double d;

    /* As the operators have it: pgvector's is NaN, which comes last. */
    if (meta->metric == ANX_METRIC_COSINE && (is_zero(query, dim) || is_zero((const float *) row, dim))) {
        if (s->column.type == ANX_PG_VECTOR)
            return INFINITY;
        return is_zero(query, dim) && is_zero((const float *) row, dim) ? 0.0 : 1.0;
    }
    d = kernels->distance[meta->metric][meta->scalar](query, row, dim);
    return s->column.order_is_root ? sqrt(d) : d;
}

static void
read_raw(struct scan *s, IndexScanDesc scan, const struct pages_meta *meta)
{
    struct slot_view view = { .code = measure_aligned(s->context, meta->payload_size) };

    for (uint32 slot = 0; slot < meta->n_slot; slot++) {
        CHECK_FOR_INTERRUPTS();
        if (!page_walk_view(scan->indexRelation, meta, slot, &view))
            continue;
        for (unsigned i = 0; i < view.head.n_tid; i++)
            put(s, raw_distance(s, meta, view.code), &view.head.tid[i]);
    }
    s->stage = STAGE_DONE;
}

/* --- GRAPH: all codes --- */

/* The nearest codes met so far, at most `keep` after each cut. */
struct nearest {
    uint64 *value, *spare; /* [2 * keep] dist << 32 | slot */
    Size n, keep;
    int32 bound;
    bool is_cut;
};

static void
cut(struct nearest *best)
{
    page_walk_sort(best->value, best->spare, best->n);
    if (best->n <= best->keep)
        return;
    best->n = best->keep;
    best->bound = (int32) (best->value[best->n - 1] >> 32);
    best->is_cut = true;
}

static void
offer(struct scan *s, struct nearest *best, uint32 slot, int32 dist)
{
    if ((best->is_cut && dist >= best->bound) || idset_has(&s->slots, slot))
        return;
    best->value[best->n++] = (uint64) (uint32) dist << 32 | slot;
    if (best->n == best->keep * 2)
        cut(best);
}

/* Codes of one page, measured where they lie; returns the next slot. */
static uint32
offer_page(struct scan *s, Relation index, const struct pages_meta *meta, uint32 slot, struct nearest *best)
{
    BlockNumber block = pages_block(meta, slot);
    Buffer buffer = page_walk_pin(index, meta, block);
    Page page = BufferGetPage(buffer);
    const uint8 *codes[BLCKSZ / 64];
    uint32 slots[BLCKSZ / 64];
    int32 dists[BLCKSZ / 64];
    Size n = 0;

    for (; slot < meta->n_slot && pages_block(meta, slot) == block; slot++) {
        struct slot *head = pages_slot(meta, page, slot);

        if (head->kind != SLOT_NODE || (head->n_tid == 0 && head->next == PAGES_SLOT_NONE))
            continue;
        slots[n] = slot;
        codes[n++] = slot_payload(meta, head);
    }
    measure_codes(&s->measure, s->measure.code, codes, n, dists);
    UnlockReleaseBuffer(buffer);
    for (Size i = 0; i < n; i++)
        offer(s, best, slots[i], dists[i]);
    return slot;
}

static uint32
offer_wide(struct scan *s, Relation index, const struct pages_meta *meta, uint32 slot, struct nearest *best)
{
    const uint8 *code = s->view.code;
    int32 dist;

    if (page_walk_view(index, meta, slot, &s->view) &&
        (s->view.head.n_tid > 0 || s->view.head.next != PAGES_SLOT_NONE)) {
        measure_codes(&s->measure, s->measure.code, &code, 1, &dist);
        offer(s, best, slot, dist);
    }
    return slot + 1;
}

static void
read_all(struct scan *s, Relation index, const struct pages_meta *meta)
{
    struct nearest best = { .keep = Min(Max(s->ef, READ_ALL_MIN), (Size) meta->n_slot + 1) };

    best.value = MemoryContextAllocHuge(s->context, best.keep * 2 * sizeof(uint64));
    best.spare = MemoryContextAllocHuge(s->context, best.keep * 2 * sizeof(uint64));
    for (uint32 slot = 0; slot < meta->n_slot;) {
        CHECK_FOR_INTERRUPTS();
        slot = meta->pages_per_slot > 1 ? offer_wide(s, index, meta, slot, &best)
                                        : offer_page(s, index, meta, slot, &best);
    }
    cut(&best);
    for (Size i = 0; i < best.n; i++) {
        (void) idset_add(&s->slots, (uint32) best.value[i]);
        add_candidate(s, (uint32) best.value[i], (int32) (best.value[i] >> 32));
    }
    pfree(best.value);
    pfree(best.spare);
    s->stage = best.is_cut ? STAGE_READ_ALL : STAGE_DONE;
    s->ef = best.keep * READ_ALL_GROWTH;
}

/* --- GRAPH: walks --- */

static void
take_list(struct scan *s)
{
    const struct walk *list = &s->walk.list;

    for (Size i = 0; i < list->n; i++)
        if (idset_add(&s->slots, walk_id(list, i)))
            add_candidate(s, walk_id(list, i), list->dist[i]);
}

/* Than reading everything? A place in the list of a walk costs (ten codes, each on a page of its own, and its
 * part of sorting them) somewhat more than reading a page of slots from end to end. Wide slots are copied
 * either way; in order that costs half as much, and so few rows of so many dimensions are better read. */
static bool
is_walk_dearer(const struct pages_meta *meta, Size ef)
{
    if (meta->pages_per_slot > 1)
        return ef * 24 > meta->n_slot;
    return ef * 4 / 3 > pages_block(meta, meta->n_slot) - meta->slot_block;
}

static void
walk(struct scan *s, Relation index, const struct pages_index *p)
{
    if (s->stage == STAGE_START) {
        int ef = anx_pg_settings.ef ? anx_pg_settings.ef : anx_pg_options_of(index)->ef;

        s->ef = (Size) Max(ef, anx_pg_settings.init_k);
    } else {
        s->ef *= GROWTH;
    }
    if (is_walk_dearer(&p->meta, s->ef)) {
        s->stage = STAGE_READ_ALL;
        read_all(s, index, &p->meta);
        return;
    }
    if (s->stage == STAGE_START)
        page_walk_begin(&s->walk, index, p, &s->measure, s->ef, PAGE_WALK_STARTS, s->context);
    else
        page_walk_widen(&s->walk, s->ef);
    s->stage = STAGE_WALK;
    page_walk_run(&s->walk);
    take_list(s);
}

/* --- batches --- */

/* Rows that can be read, and whether there is something to look for in them. */
static bool
has_filter(struct scan *s, IndexScanDesc scan)
{
    s->is_heap = heap_read_is_possible(scan);
    if (!s->is_filter_known)
        s->filter = anx_pg_filter_of(scan);
    s->is_filter_known = true;
    return s->filter != NULL;
}

static void
prepare(struct scan *s, IndexScanDesc scan, const struct pages_index *p)
{
    bool is_readable = scan->heapRelation && scan->xs_snapshot && IsMVCCSnapshot(scan->xs_snapshot);
    const struct measure *m = &s->measure;
    uint32 dim = p->meta.dim;

    anx_pg_expect_query_dim(&s->column, s->query.dim, dim);
    s->is_restarted = s->n_given > 0;
    if (!s->is_restarted)
        idset_init(&s->given, s->context, 64);
    s->stage = STAGE_START;
    s->reads_rows = false;
    s->generation = p->meta.generation;
    s->values = VALUES_OF_CODES;
    if (p->meta.state != PAGES_GRAPH)
        return;
    idset_init(&s->slots, s->context, 256);
    s->view = (struct slot_view){ .code = measure_aligned(s->context, p->meta.payload_size) };
    measure_init(&s->measure, &p->space, s->context);
    measure_query(&s->measure, &p->space, s->query.f32 ? (const void *) s->query.f32 : s->query.bits);
    s->reads_rows = is_readable && has_filter(s, scan);
    if (m->kind == SPACE_BITS || (m->kind == SPACE_LOSSLESS && !p->meta.has_inexact && m->residual == 0))
        return;
    if (s->attribute == 0 || !is_readable) {
        s->values = VALUES_ARE_BOUNDS;
        s->reads_rows = false; /* all of a batch is looked up: more than the executor asks for */
        return;
    }
    s->values = VALUES_OF_ROWS;
    s->reads_rows = true;
    if (p->meta.pages_per_slot == 1)
        s->view.code = NULL; /* rows are read instead; reading all codes of wide slots copies them */
    /* Without the turn, rounding may well move rows towards the query. */
    s->slack = m->kind == SPACE_ROTATED ? Min(1.0, LIKELY / sqrt((double) m->n)) : 1.0;
}

static void
next_batch(struct scan *s, IndexScanDesc scan)
{
    Relation index = scan->indexRelation;
    struct pages_index *p;

    s->n_candidate = s->at = 0;
    pages_lock(index, ShareLock);
    p = pages_open(index);
    if (p->meta.state == PAGES_EMPTY) {
        s->stage = STAGE_DONE;
    } else {
        if (s->stage == STAGE_START || s->generation != p->meta.generation)
            prepare(s, scan, p);
        s->meta = p->meta;
        if (p->meta.state == PAGES_RAW)
            read_raw(s, scan, &p->meta);
        else if (s->stage == STAGE_READ_ALL)
            read_all(s, index, &p->meta);
        else
            walk(s, index, p);
    }
    pages_unlock(index, ShareLock);
}

/* No row that is not in the pool is probably below. */
static double
horizon(const struct scan *s)
{
    if (s->at < s->n_candidate)
        return s->candidates[s->at].low;
    return s->stage == STAGE_DONE || s->values == VALUES_ARE_BOUNDS ? INFINITY : s->horizon;
}

static bool
is_over_limit(const struct scan *s)
{
    return anx_pg_settings.max_scan_tuples > 0 && s->n_given >= (uint64) anx_pg_settings.max_scan_tuples;
}

/* The next row; false: there is none. */
static bool
next_row(struct scan *s, IndexScanDesc scan, struct found *out)
{
    while (!is_over_limit(s)) {
        CHECK_FOR_INTERRUPTS();
        if (s->n_pool > 0 && s->pool[0].value <= horizon(s)) {
            *out = take(s);
            return true;
        }
        if (s->at < s->n_candidate) {
            look_ahead(s, scan);
            look_up(s, scan, &s->meta, s->candidates[s->at++].slot);
        } else if (s->stage == STAGE_DONE) {
            return false;
        } else {
            next_batch(s, scan);
            if (s->n_candidate > 0)
                s->horizon = s->candidates[s->n_candidate - 1].low;
        }
    }
    return false;
}

static Datum
order_value(const struct anx_pg_column *column, double value)
{
    switch (column->order_type) {
    case FLOAT8OID:
        return Float8GetDatum(value);
    case INT4OID:
        return Int32GetDatum((int32) value);
    default:
        return Float4GetDatum((float4) value);
    }
}

bool
anx_pg_get_tuple(IndexScanDesc scan, ScanDirection direction)
{
    struct scan *s = scan->opaque;
    struct found row;
    MemoryContext old;
    bool has_row;

    Assert(ScanDirectionIsForward(direction));
    (void) direction;
    if (scan->numberOfOrderBys < 1)
        ereport(ERROR,
                (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot scan hnsw index without order")));
    if (s->is_null)
        return false;
    old = MemoryContextSwitchTo(s->context);
    has_row = next_row(s, scan, &row);
    MemoryContextSwitchTo(old);
    if (!has_row)
        return false;
    s->n_given++;
    (void) idset_add(&s->given, tid_number(&row.tid));
    scan->xs_heaptid = row.tid;
    scan->xs_recheck = false;
    scan->xs_recheckorderby = s->values == VALUES_ARE_BOUNDS;
    scan->xs_orderbyvals[0] = order_value(&s->column, row.value);
    scan->xs_orderbynulls[0] = false;
    return true;
}
