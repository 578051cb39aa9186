/* See pagewalk.h. */
#include "pagewalk.h"

#include <executor/instrument.h>
#include <miscadmin.h>
#include <utils/hsearch.h>

/* Up to so many slots a bit each: 256 kB, cleared for each search in a few microseconds. */
#define SEEN_BITS_MAX ((uint32) 1 << 21)

/* --- where blocks were found --- */

struct found_blocks {
    Oid relation; /* key */
    BlockNumber n;
    Buffer *buffer; /* [n], in CacheMemoryContext; InvalidBuffer: not known */
};
static HTAB *all_found;
static struct found_blocks *last_found[2]; /* the ones asked for last: an index and its table */

#define FOUND_RELATIONS_MAX 64 /* then all is forgotten: it is only a memory of where to look first */

static void
forget_blocks(void)
{
    HASH_SEQ_STATUS all;
    struct found_blocks *f;

    last_found[0] = last_found[1] = NULL;
    hash_seq_init(&all, all_found);
    while ((f = hash_seq_search(&all)) != NULL)
        if (f->buffer)
            pfree(f->buffer);
    hash_destroy(all_found);
    all_found = NULL;
}

static struct found_blocks *
found_of(Oid relation)
{
    HASHCTL control = { .keysize = sizeof(Oid), .entrysize = sizeof(struct found_blocks) };
    struct found_blocks *f;
    bool is_known;

    if (last_found[0] && last_found[0]->relation == relation)
        return last_found[0];
    if (last_found[1] && last_found[1]->relation == relation)
        return last_found[1];
    if (all_found && hash_get_num_entries(all_found) > FOUND_RELATIONS_MAX)
        forget_blocks();
    if (!all_found) {
        control.hcxt = CacheMemoryContext;
        all_found = hash_create("lantern blocks", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    }
    f = hash_search(all_found, &relation, HASH_ENTER, &is_known);
    if (!is_known)
        *f = (struct found_blocks){ .relation = relation };
    last_found[1] = last_found[0];
    return last_found[0] = f;
}

static void
grow_found(struct found_blocks *f, BlockNumber need)
{
    BlockNumber n = need + need / 4 + 16;
    Buffer *buffer;

    if (f->n >= need)
        return;
    buffer = MemoryContextAllocHuge(CacheMemoryContext, (Size) n * sizeof(*buffer));
    memset(buffer, 0, (Size) n * sizeof(*buffer));
    if (f->buffer) {
        memcpy(buffer, f->buffer, (Size) f->n * sizeof(*buffer));
        pfree(f->buffer);
    }
    f->buffer = buffer;
    f->n = n;
}

/* NULL: pages are always looked for the usual way. */
static struct found_blocks *
recall_blocks(Relation index, const struct pages_meta *meta)
{
    struct found_blocks *f;

    if (RelationUsesLocalBuffers(index) || meta->pages_per_slot > 1)
        return NULL;
    f = found_of(RelationGetRelid(index));
    grow_found(f, pages_block(meta, meta->n_slot) + 1);
    return f;
}

Buffer
page_walk_recall(Relation table, BlockNumber block)
{
    const struct found_blocks *f = found_of(RelationGetRelid(table));

    return block < f->n ? f->buffer[block] : InvalidBuffer;
}

void
page_walk_remember(Relation table, BlockNumber block, Buffer buffer)
{
    struct found_blocks *f = found_of(RelationGetRelid(table));

    grow_found(f, block + 1);
    if (block < f->n && f->buffer)
        f->buffer[block] = buffer;
}

Buffer
page_walk_pin(Relation index, const struct pages_meta *meta, BlockNumber block)
{
    struct found_blocks *f = recall_blocks(index, meta);
    Buffer buffer = f && block < f->n ? f->buffer[block] : InvalidBuffer;

    if (BufferIsValid(buffer) && ANX_PG_PIN_RECENT(index, block, buffer)) {
        LockBuffer(buffer, BUFFER_LOCK_SHARE); /* what it is was checked when it was found */
        return buffer;
    }
    buffer = pages_read(index, block, BUFFER_LOCK_SHARE, PAGE_SLOTS);
    if (f && block < f->n)
        f->buffer[block] = buffer;
    return buffer;
}

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
    buffer = page_walk_pin(index, meta, pages_block(meta, slot));
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

/* Does the buffer hold the block? True before and after reading: what was read is the block's. */
static inline bool
is_there(struct page_walk *w, Buffer buffer, BlockNumber block)
{
    BufferDesc *descriptor = GetBufferDescriptor(buffer - 1);

    w->tag.blockNum = block;
    return memcmp(&descriptor->tag, &w->tag, sizeof(w->tag)) == 0 &&
           (pg_atomic_read_u32(&descriptor->state) & BM_VALID);
}

static inline Buffer
recent_of(const struct page_walk *w, BlockNumber block)
{
    return block < w->n_recent ? w->recent[block] : InvalidBuffer;
}

/* The links of a slot to w->links; returns how many. */
static unsigned
read_links(struct page_walk *w, uint32 slot)
{
    const struct pages_meta *meta = &w->meta;
    BlockNumber block = pages_block(meta, slot);
    Buffer buffer = recent_of(w, block);
    struct slot *s;
    unsigned n;

    if (BufferIsValid(buffer) && is_there(w, buffer, block)) {
        pg_read_barrier();
        s = pages_slot(meta, BufferGetPage(buffer), slot);
        n = Min(s->n_link, meta->degree);
        memcpy(w->links, slot_links(s), n * sizeof(uint32));
        pg_read_barrier();
        if (is_there(w, buffer, block)) {
            pgBufferUsage.shared_blks_hit++;
            return n;
        }
    }
    buffer = page_walk_pin(w->index, meta, block);
    s = pages_slot(meta, BufferGetPage(buffer), slot);
    n = s->kind == SLOT_NODE ? Min(s->n_link, meta->degree) : 0;
    memcpy(w->links, slot_links(s), n * sizeof(uint32));
    UnlockReleaseBuffer(buffer);
    return n;
}

/* The not yet seen neighbors of a slot; marked. */
static Size
unseen(struct page_walk *w, uint32 slot, uint32 *out)
{
    unsigned n_link = read_links(w, slot);
    Size n = 0;

    for (unsigned i = 0; i < n_link; i++) {
        uint32 to = w->links[i];

        if (to < w->meta.n_slot && mark_seen(w, to)) /* others are younger than this walk, or seen */
            out[n++] = to;
    }
    return n;
}

/* The code of a slot, copied from its pinned page. */
static void
copy_code(struct page_walk *w, uint32 slot, uint8 *out)
{
    const struct pages_meta *meta = &w->meta;
    Buffer buffer = page_walk_pin(w->index, meta, pages_block(meta, slot));
    Page page = BufferGetPage(buffer);

    if (meta->pages_per_slot == 1)
        memcpy(out, slot_payload(meta, pages_slot(meta, page, slot)), meta->payload_size);
    else
        copy_parts(w->index, meta, slot, page, out);
    UnlockReleaseBuffer(buffer);
}

static void
prefetch_codes(const struct page_walk *w, const uint32 *slots, Size n)
{
    for (Size i = 0; i < n; i++) {
        Buffer buffer = recent_of(w, pages_block(&w->meta, slots[i]));

        w->buffers[i] = buffer;
        if (!BufferIsValid(buffer))
            continue;
        w->pointer[i] = slot_payload(&w->meta, pages_slot(&w->meta, BufferGetPage(buffer), slots[i]));
        __builtin_prefetch(GetBufferDescriptor(buffer - 1));
        __builtin_prefetch(w->pointer[i]);
        __builtin_prefetch(w->pointer[i] + 64);
    }
}

/* Distances of n slots from the query. */
static void
measure_slots(struct page_walk *w, const uint32 *slots, Size n, int32 *out)
{
    const struct pages_meta *meta = &w->meta;

    prefetch_codes(w, slots, n);
    for (Size i = 0; i < n; i++) {
        if (BufferIsValid(w->buffers[i]) && is_there(w, w->buffers[i], pages_block(meta, slots[i])))
            continue;
        w->buffers[i] = InvalidBuffer;
        w->pointer[i] = w->codes + i * meta->payload_size;
        copy_code(w, slots[i], w->codes + i * meta->payload_size);
    }
    pg_read_barrier();
    measure_codes(w->measure, w->measure->code, w->pointer, n, out);
    pg_read_barrier();
    for (Size i = 0; i < n; i++) {
        if (!BufferIsValid(w->buffers[i]))
            continue;
        pgBufferUsage.shared_blks_hit++;
        if (is_there(w, w->buffers[i], pages_block(meta, slots[i])))
            continue;
        w->pointer[i] = w->codes + i * meta->payload_size;
        copy_code(w, slots[i], w->codes + i * meta->payload_size);
        measure_codes(w->measure, w->measure->code, &w->pointer[i], 1, &out[i]);
    }
}

static inline size_t
expand(struct page_walk *w, struct walk *list, uint32 slot)
{
    Size n;

    CHECK_FOR_INTERRUPTS();
    n = unseen(w, slot, list->near);
    if (n == 0)
        return 0;
    measure_slots(w, list->near, n, list->near_dist);
    remember(w, list->near, list->near_dist, n);
    return n;
}

static inline void
ahead(const struct page_walk *w, uint32 slot)
{
    Buffer buffer;
    const char *at;

    if (slot == PAGES_SLOT_NONE)
        return;
    buffer = recent_of(w, pages_block(&w->meta, slot));
    if (!BufferIsValid(buffer))
        return;
    __builtin_prefetch(GetBufferDescriptor(buffer - 1));
    at = (const char *) pages_slot(&w->meta, BufferGetPage(buffer), slot);
    for (Size i = 0; i < sizeof(struct slot) + w->meta.degree * sizeof(uint32); i += 64)
        __builtin_prefetch(at + i);
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
        Size at;

        if (p->entry[i] >= w->meta.n_slot)
            continue;
        if (n < n_start)
            n++;
        else if (n == 0 || dist[i] >= best_dist[n - 1])
            continue;
        for (at = n - 1; at > 0 && best_dist[at - 1] > dist[i]; at--) {
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
page_walk_begin(struct page_walk *w, Relation index, const struct pages_index *p,
                const struct measure *measure, Size ef, Size n_start, MemoryContext context)
{
    Size degree = p->meta.degree;

    *w = (struct page_walk){ .index = index, .meta = p->meta, .measure = measure, .context = context };
    w->list.kernels = measure->kernels;
    w->list.near = MemoryContextAlloc(context, degree * sizeof(uint32));
    w->list.near_dist = MemoryContextAlloc(context, degree * sizeof(int32));
    w->list.near_pick = MemoryContextAlloc(context, degree * sizeof(uint32));
    w->links = MemoryContextAlloc(context, degree * sizeof(uint32));
    w->codes = measure_aligned(context, degree * p->meta.payload_size);
    w->pointer = MemoryContextAlloc(context, degree * sizeof(*w->pointer));
    w->buffers = MemoryContextAlloc(context, degree * sizeof(*w->buffers));
    ANX_PG_INIT_BUFFER_TAG(w->tag, index, 0);
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
    const struct found_blocks *found = recall_blocks(w->index, &w->meta);

    /* Nothing in the loop looks at another index or at younger slots, so the array stays where it is. */
    w->recent = found ? found->buffer : NULL;
    w->n_recent = found ? found->n : 0;
    (void) page_walk_loop(w, &w->list);
}

const struct slot *
page_walk_peek(Relation index, const struct pages_meta *meta, uint32 slot)
{
    struct found_blocks *f = recall_blocks(index, meta);
    BlockNumber block = pages_block(meta, slot);
    Buffer buffer = f && block < f->n ? f->buffer[block] : InvalidBuffer;

    return BufferIsValid(buffer) ? pages_slot(meta, BufferGetPage(buffer), slot) : NULL;
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
