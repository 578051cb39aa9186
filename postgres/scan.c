/* Index scans: rows in the order of their distance from a query, as many as the executor asks for.
 *
 * A scan works in batches. RAW indexes have one: every row, measured exactly. GRAPH indexes walk with a list of
 * ef, give what it holds, go on with a list four times as long, and so forth; when a walk would cost more than
 * reading all codes, all codes are read and the nearest rows not yet given follow, again in batches of growing
 * size. So LIMIT n gets n rows under any WHERE, and the work is that of the last batch and a third.
 *
 * Order. Codes are not the rows, so each row comes with a lower bound of its distance (measure.h), and the
 * executor, which computes the exact one, sorts: it gives out a row once the bound of the last row that it got
 * is at least that row's distance. Within a batch bounds ascend, so the order is exact. A row that only a
 * later batch finds although it is nearer than rows given before comes late, but it comes.
 * Codes that are the rows (lossless, bits) need none of this.
 *
 * Between calls a scan holds no lock and no pin, only slot numbers that it will look up again: bounds are
 * computed from what the page then says, together with the heap tuples it names. If vacuum has put another row
 * into the slot meanwhile, that row was inserted after the scan's snapshot, so it is invisible to it whatever
 * its place in the order. If the whole index was laid out anew (RAW became GRAPH) the scan starts again, and
 * skips the heap tuples that it has given. */
#include "lantern.h"

#include <access/relscan.h>
#include <catalog/pg_type.h>
#include <miscadmin.h>
#include <storage/lmgr.h>
#include <utils/memutils.h>

#include <math.h>

#include "pagewalk.h"

#define GROWTH 4
/* A walk with a list of ef measures about so many codes per place, each at a random page; reading all in order
 * costs a third of that per code. */
#define SCAN_FROM 48
#define READ_ALL_MIN 4096 /* rows of the first batch that reads everything */

struct found {
    double value; /* what the operator gives, or a lower bound of it */
    ItemPointerData tid;
    bool is_bound;
};

enum stage { STAGE_START, STAGE_WALK, STAGE_READ_ALL, STAGE_DONE };

struct scan {
    struct anx_pg_column column;
    MemoryContext context; /* of one rescan */
    bool is_null;          /* no query: no rows */
    struct anx_pg_vector query;
    enum stage stage;
    uint32 generation; /* that the fields below are about */
    uint32 has_inexact;
    bool is_restarted; /* tuples were given from another generation: compare with `given` */
    struct measure measure;
    struct page_walk walk;
    Size ef;             /* of the last walk; rows of the last batch that read everything */
    struct idset slots;  /* looked up already */
    struct idset given;  /* heap tuples given */
    struct slot_view view;
    struct found *found; /* [n_found], ascending; the next to give is `at` */
    Size n_found, capacity, at;
    uint64 n_given;
};

/* --- begin, end --- */

IndexScanDesc
anx_pg_begin_scan(Relation index, int n_key, int n_order_by)
{
    IndexScanDesc scan = RelationGetIndexScan(index, n_key, n_order_by);
    struct scan *s = palloc0(sizeof(*s));

    anx_pg_column_of(index, &s->column);
    s->context = AllocSetContextCreate(CurrentMemoryContext, "lantern_hnsw scan", ALLOCSET_DEFAULT_SIZES);
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
    MemoryContext context = s->context, old;
    struct anx_pg_column column = s->column;

    if (keys && scan->numberOfKeys > 0)
        memmove(scan->keyData, keys, (Size) scan->numberOfKeys * sizeof(ScanKeyData));
    if (order_bys && scan->numberOfOrderBys > 0)
        memmove(scan->orderByData, order_bys, (Size) scan->numberOfOrderBys * sizeof(ScanKeyData));
    (void) n_key, (void) n_order_by;
    MemoryContextReset(context);
    *s = (struct scan){ .column = column, .context = context, .is_null = true };
    if (scan->numberOfOrderBys < 1)
        return; /* said at the first tuple */
    if (scan->orderByData[0].sk_strategy == 1)
        anx_pg_deprecated_operator();
    if (scan->orderByData[0].sk_flags & SK_ISNULL)
        return;
    old = MemoryContextSwitchTo(context);
    anx_pg_vector_of(&s->column, scan->orderByData[0].sk_argument, &s->query);
    MemoryContextSwitchTo(old);
    s->is_null = false;
}

void
anx_pg_end_scan(IndexScanDesc scan)
{
    struct scan *s = scan->opaque;

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

static void
add_found(struct scan *s, double value, bool is_bound, const ItemPointerData *tid)
{
    if (s->is_restarted && idset_has(&s->given, tid_number(tid)))
        return;
    if (s->n_found == s->capacity) {
        s->capacity = s->capacity ? s->capacity * 2 : 128;
        s->found = s->found ? repalloc_huge(s->found, s->capacity * sizeof(*s->found))
                            : MemoryContextAllocHuge(s->context, s->capacity * sizeof(*s->found));
    }
    s->found[s->n_found++] = (struct found){ .value = value, .tid = *tid, .is_bound = is_bound };
}

/* The heap tuples of a node, those in its chain included. */
static void
add_tuples(struct scan *s, Relation index, const struct pages_meta *meta, const struct slot *head, double value,
           bool is_bound)
{
    uint32 next = head->next;

    for (unsigned i = 0; i < head->n_tid; i++)
        add_found(s, value, is_bound, &head->tid[i]);
    for (uint32 n = 0; next < meta->n_slot && n < meta->n_slot; n++) {
        Buffer buffer = pages_read(index, pages_block(meta, next), BUFFER_LOCK_SHARE, PAGE_SLOTS);
        struct slot *o = pages_slot(meta, BufferGetPage(buffer), next);
        bool is_chain = o->kind == SLOT_OVERFLOW;

        for (unsigned i = 0; is_chain && i < o->n_tid && i < pages_overflow_max(meta); i++)
            add_found(s, value, is_bound, &slot_overflow_tids(o)[i]);
        next = is_chain ? o->next : PAGES_SLOT_NONE;
        UnlockReleaseBuffer(buffer);
        CHECK_FOR_INTERRUPTS();
    }
}

/* Reads the slot and adds its rows. */
static void
look_up(struct scan *s, Relation index, const struct pages_meta *meta, uint32 slot)
{
    const struct measure *m = &s->measure;
    double value;
    bool is_bound;

    if (!page_walk_view(index, meta, slot, &s->view))
        return;
    if (s->view.head.n_tid == 0 && s->view.head.next == PAGES_SLOT_NONE)
        return;
    if (m->kind == SPACE_BITS || (m->kind == SPACE_LOSSLESS && !s->has_inexact && m->residual == 0)) {
        const uint8 *code = s->view.code;
        int32 dist;

        measure_codes(m, m->code, &code, 1, &dist);
        value = dist;
        is_bound = false;
    } else {
        value = measure_low(m, s->view.code, s->view.head.residual);
        is_bound = true;
    }
    add_tuples(s, index, meta, &s->view.head, s->column.order_is_root ? sqrt(value) : value, is_bound);
}

static int
compare_found(const void *a, const void *b)
{
    const struct found *x = a, *y = b;

    if (x->value != y->value)
        return x->value < y->value ? -1 : 1;
    return ItemPointerCompare(unconstify(ItemPointerData *, &x->tid), unconstify(ItemPointerData *, &y->tid));
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
read_raw(struct scan *s, Relation index, const struct pages_meta *meta)
{
    struct slot_view view = { .code = measure_aligned(s->context, meta->payload_size) };

    for (uint32 slot = 0; slot < meta->n_slot; slot++) {
        CHECK_FOR_INTERRUPTS();
        if (page_walk_view(index, meta, slot, &view))
            add_tuples(s, index, meta, &view.head, raw_distance(s, meta, view.code), false);
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
    Buffer buffer = pages_read(index, block, BUFFER_LOCK_SHARE, PAGE_SLOTS);
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
        look_up(s, index, meta, (uint32) best.value[i]);
    }
    pfree(best.value);
    pfree(best.spare);
    s->stage = best.is_cut ? STAGE_READ_ALL : STAGE_DONE;
    s->ef = best.keep * GROWTH;
}

/* --- GRAPH: walks --- */

static void
take_list(struct scan *s, Relation index, const struct pages_meta *meta)
{
    const struct walk *list = &s->walk.list;

    for (Size i = 0; i < list->n; i++)
        if (idset_add(&s->slots, walk_id(list, i)))
            look_up(s, index, meta, walk_id(list, i));
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
    if (s->ef * SCAN_FROM > p->meta.n_slot) {
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
    take_list(s, index, &s->walk.meta);
}

/* --- batches --- */

static void
prepare(struct scan *s, const struct pages_index *p)
{
    uint32 dim = p->meta.dim;

    anx_pg_expect_query_dim(&s->column, s->query.dim, dim);
    s->is_restarted = s->n_given > 0;
    if (!s->is_restarted)
        idset_init(&s->given, s->context, 64);
    s->stage = STAGE_START;
    s->generation = p->meta.generation;
    if (p->meta.state != PAGES_GRAPH)
        return;
    idset_init(&s->slots, s->context, 256);
    s->view = (struct slot_view){ .code = measure_aligned(s->context, p->meta.payload_size) };
    measure_init(&s->measure, &p->space, s->context);
    measure_query(&s->measure, &p->space, s->query.f32 ? (const void *) s->query.f32 : s->query.bits);
}

static void
next_batch(struct scan *s, Relation index)
{
    struct pages_index *p;

    s->n_found = s->at = 0;
    pages_lock(index, ShareLock);
    p = pages_open(index);
    if (p->meta.state == PAGES_EMPTY) {
        s->stage = STAGE_DONE;
    } else {
        if (s->stage == STAGE_START || s->generation != p->meta.generation)
            prepare(s, p);
        s->has_inexact = p->meta.has_inexact;
        if (p->meta.state == PAGES_RAW)
            read_raw(s, index, &p->meta);
        else if (s->stage == STAGE_READ_ALL)
            read_all(s, index, &p->meta);
        else
            walk(s, index, p);
    }
    pages_unlock(index, ShareLock);
    qsort(s->found, s->n_found, sizeof(*s->found), compare_found);
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
    const struct found *row;
    MemoryContext old;

    Assert(ScanDirectionIsForward(direction));
    (void) direction;
    if (scan->numberOfOrderBys < 1)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("cannot scan hnsw index without order")));
    if (s->is_null || (anx_pg_settings.max_scan_tuples > 0 && s->n_given >= (uint64) anx_pg_settings.max_scan_tuples))
        return false;
    if (s->at == s->n_found) {
        old = MemoryContextSwitchTo(s->context);
        while (s->at == s->n_found && s->stage != STAGE_DONE)
            next_batch(s, scan->indexRelation);
        MemoryContextSwitchTo(old);
        if (s->at == s->n_found)
            return false;
    }
    row = &s->found[s->at++];
    s->n_given++;
    (void) idset_add(&s->given, tid_number(&row->tid));
    scan->xs_heaptid = row->tid;
    scan->xs_recheck = false;
    scan->xs_recheckorderby = row->is_bound;
    scan->xs_orderbyvals[0] = order_value(&s->column, row->value);
    scan->xs_orderbynulls[0] = false;
    return true;
}
