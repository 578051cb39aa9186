/* See pagewalk.h. */
#include "pagewalk.h"

#include <miscadmin.h>

/* Up to so many slots a bit each: 256 kB, cleared for each search in a few microseconds. */
#define SEEN_BITS_MAX ((uint32) 1 << 21)

/* --- one slot --- */

static void
copy_parts(Relation index, const struct pages_meta *meta, uint32 slot, Page first, uint8 *out)
{
    uint32 from, n, at;

    pages_payload_part(meta, 0, &from, &n, &at);
    memcpy(out + from, pages_content(first) + at, n);
    for (uint32 part = 1; part < meta->pages_per_slot; part++) {
        Buffer buffer = pages_read(index, pages_block(meta, slot) + part, BUFFER_LOCK_SHARE, PAGE_MORE);

        pages_payload_part(meta, part, &from, &n, &at);
        memcpy(out + from, pages_content(BufferGetPage(buffer)) + at, n);
        UnlockReleaseBuffer(buffer);
    }
}

bool
page_walk_view(Relation index, const struct pages_meta *meta, uint32 slot, struct slot_view *view)
{
    Buffer buffer;
    struct slot *s;
    bool is_node;

    if (slot >= meta->n_slot)
        return false;
    buffer = pages_read(index, pages_block(meta, slot), BUFFER_LOCK_SHARE, PAGE_SLOTS);
    s = pages_slot(meta, BufferGetPage(buffer), slot);
    is_node = s->kind == SLOT_NODE && s->n_link <= meta->degree && s->n_tid <= PAGES_TIDS;
    if (is_node) {
        view->head = *s;
        if (view->links)
            memcpy(view->links, slot_links(s), s->n_link * sizeof(uint32));
        if (view->code && meta->pages_per_slot == 1)
            memcpy(view->code, slot_payload(meta, s), meta->payload_size);
        else if (view->code)
            copy_parts(index, meta, slot, BufferGetPage(buffer), view->code);
    }
    UnlockReleaseBuffer(buffer);
    return is_node;
}

/* --- one hop --- */

static bool
mark_seen(struct page_walk *w, uint32 slot)
{
    uint64 bit = UINT64_C(1) << (slot & 63);

    if (!w->seen_bits)
        return idset_add(&w->seen_set, slot);
    if (w->seen_bits[slot >> 6] & bit)
        return false;
    w->seen_bits[slot >> 6] |= bit;
    return true;
}

static void
remember(struct page_walk *w, const uint32 *slots, const int32 *dists, Size n)
{
    if (w->n_measured + n > w->measured_capacity) {
        w->measured_capacity = (w->n_measured + n) * 2;
        w->measured = repalloc_huge(w->measured, w->measured_capacity * sizeof(*w->measured));
    }
    for (Size i = 0; i < n; i++)
        w->measured[w->n_measured++] = (uint64) (uint32) dists[i] << 32 | slots[i];
}

/* The not yet seen neighbors of a slot, ascending; marked. */
static Size
unseen(struct page_walk *w, uint32 slot, uint32 *out)
{
    struct slot_view view = { .links = w->links };
    Size n = 0;

    if (!page_walk_view(w->index, &w->meta, slot, &view))
        return 0;
    for (unsigned i = 0; i < view.head.n_link; i++) {
        uint32 to = w->links[i];
        Size at = n;

        if (to >= w->meta.n_slot || !mark_seen(w, to)) /* younger than this walk, or seen */
            continue;
        for (; at > 0 && out[at - 1] > to; at--)
            out[at] = out[at - 1];
        out[at] = to;
        n++;
    }
    return n;
}

/* Copies the codes of n ascending slots; those that are no nodes are dropped. */
static Size
copy_codes(struct page_walk *w, uint32 *slots, Size n)
{
    const struct pages_meta *meta = &w->meta;
    Size kept = 0;

    for (Size i = 0; i < n;) {
        BlockNumber block = pages_block(meta, slots[i]);
        Buffer buffer = pages_read(w->index, block, BUFFER_LOCK_SHARE, PAGE_SLOTS);
        Page page = BufferGetPage(buffer);

        for (; i < n && pages_block(meta, slots[i]) == block; i++) {
            struct slot *s = pages_slot(meta, page, slots[i]);
            uint8 *code = w->codes + kept * meta->payload_size;

            if (s->kind != SLOT_NODE)
                continue;
            if (meta->pages_per_slot == 1)
                memcpy(code, slot_payload(meta, s), meta->payload_size);
            else
                copy_parts(w->index, meta, slots[i], page, code);
            slots[kept++] = slots[i];
        }
        UnlockReleaseBuffer(buffer);
    }
    return kept;
}

static inline size_t
expand(struct page_walk *w, struct walk *list, uint32 slot)
{
    Size n;

    CHECK_FOR_INTERRUPTS();
    n = copy_codes(w, list->near, unseen(w, slot, list->near));
    if (n == 0)
        return 0;
    measure_codes(w->measure, w->measure->code, w->code_pointers, n, list->near_dist);
    remember(w, list->near, list->near_dist, n);
    return n;
}

static inline void
ahead(const struct page_walk *w, uint32 slot)
{
    (void) w, (void) slot;
}

#define WALK_NAME page_walk_loop
#define WALK_GRAPH struct page_walk
#define WALK_EXPAND expand
#define WALK_AHEAD ahead
#include "ann/hnsw/walk_run.h"

/* --- a walk --- */

static void
make_list(struct page_walk *w, Size ef)
{
    w->list.ef = ef;
    w->list.dist = MemoryContextAllocHuge(w->context, (ef + 1) * sizeof(*w->list.dist));
    w->list.id = MemoryContextAllocHuge(w->context, (ef + 1) * sizeof(*w->list.id));
    w->list.n = w->list.cursor = 0;
}

/* The n_start entry nodes nearest to the query. */
static void
start(struct page_walk *w, const struct pages_index *p, Size n_start)
{
    int32 *dist = MemoryContextAlloc(w->context, (p->n_entry + 1) * sizeof(*dist));
    uint32 best[PAGE_WALK_STARTS_INSERT];
    int32 best_dist[PAGE_WALK_STARTS_INSERT];
    Size n = 0;

    measure_codes(w->measure, w->measure->code, p->entry_code, p->n_entry, dist);
    for (uint32 i = 0; i < p->n_entry; i++) {
        Size at = n;

        if (n == n_start && dist[i] >= best_dist[n - 1])
            continue;
        if (p->entry[i] >= w->meta.n_slot)
            continue;
        for (at = n < n_start ? n++ : n - 1; at > 0 && best_dist[at - 1] > dist[i]; at--) {
            best_dist[at] = best_dist[at - 1];
            best[at] = best[at - 1];
        }
        best_dist[at] = dist[i];
        best[at] = p->entry[i];
    }
    pfree(dist);
    for (Size i = 0; i < n; i++) {
        if (!mark_seen(w, best[i]))
            continue;
        walk_insert(&w->list, best[i], best_dist[i]);
        remember(w, &best[i], &best_dist[i], 1);
    }
}

void
page_walk_begin(struct page_walk *w, Relation index, const struct pages_index *p, const struct measure *measure,
                Size ef, Size n_start, MemoryContext context)
{
    Size degree = p->meta.degree;

    *w = (struct page_walk){ .index = index, .meta = p->meta, .measure = measure, .context = context };
    w->list.kernels = measure->kernels;
    w->list.near = MemoryContextAlloc(context, degree * sizeof(uint32));
    w->list.near_dist = MemoryContextAlloc(context, degree * sizeof(int32));
    w->list.near_pick = MemoryContextAlloc(context, degree * sizeof(uint32));
    w->links = MemoryContextAlloc(context, degree * sizeof(uint32));
    w->codes = measure_aligned(context, degree * p->meta.payload_size);
    w->code_pointers = MemoryContextAlloc(context, degree * sizeof(*w->code_pointers));
    for (Size i = 0; i < degree; i++)
        w->code_pointers[i] = w->codes + i * p->meta.payload_size;
    if (p->meta.n_slot <= SEEN_BITS_MAX)
        w->seen_bits = MemoryContextAllocZero(context, (p->meta.n_slot / 64 + 1) * sizeof(uint64));
    else
        idset_init(&w->seen_set, context, ef * degree);
    w->measured_capacity = 1024 + ef * 16;
    w->measured = MemoryContextAllocHuge(context, w->measured_capacity * sizeof(*w->measured));
    make_list(w, ef);
    start(w, p, n_start);
}

void
page_walk_run(struct page_walk *w)
{
    (void) page_walk_loop(w, &w->list);
}

void
page_walk_sort(uint64 *values, uint64 *spare, Size n)
{
    enum { BITS = 11, PASSES = 3, PLACES = 1 << BITS }; /* distances have 31 bits */

    for (int pass = 0; pass < PASSES; pass++) {
        int shift = 32 + pass * BITS;
        Size count[PLACES] = { 0 }, at = 0;
        uint64 *other = values;

        for (Size i = 0; i < n; i++)
            count[values[i] >> shift & (PLACES - 1)]++;
        for (Size i = 0; i < PLACES; i++) {
            Size here = count[i];

            count[i] = at;
            at += here;
        }
        for (Size i = 0; i < n; i++)
            spare[count[values[i] >> shift & (PLACES - 1)]++] = values[i];
        values = spare;
        spare = other;
    }
    memcpy(spare, values, n * sizeof(*values)); /* an odd number of passes ends in the spare array */
}

/* What the shorter list held was expanded and need not be again. Candidates as far as its last one may have
 * been outside: expanding twice finds nothing new and costs one page. */
void
page_walk_widen(struct page_walk *w, Size ef)
{
    int32 done = w->list.n ? w->list.dist[w->list.n - 1] : 0;
    uint64 *spare = MemoryContextAllocHuge(w->context, w->n_measured * sizeof(*spare) + 1);

    page_walk_sort(w->measured, spare, w->n_measured);
    pfree(spare);
    pfree(w->list.dist);
    pfree(w->list.id);
    make_list(w, ef);
    for (Size i = 0; i < w->n_measured && i < ef; i++) {
        w->list.dist[i] = (int32) (w->measured[i] >> 32);
        w->list.id[i] = (uint32) w->measured[i] | (w->list.dist[i] < done ? WALK_EXPANDED : 0);
        w->list.n++;
    }
}
