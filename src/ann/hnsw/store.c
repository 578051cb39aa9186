/* See store.h. */
#include "ann/hnsw/store.h"

#include <string.h>

#include "ann/hnsw/prune.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

#define CHUNK_BYTES ((size_t) 32 << 20)
#define CHUNK_BITS_MIN 8
#define CHUNK_BITS_MAX 16
/* Huge pages are asked for from this many expected slots on; below, whole 2 MiB pages would be mostly waste.
 */
#define HUGE_FROM 50000

static size_t
align64(size_t n)
{
    return (n + 63) & ~(size_t) 63;
}

static size_t
slot_bytes(const struct graph *g)
{
    size_t bytes = sizeof(uint64_t) + 1;

    if (g->has_links)
        bytes += g->stride + g->degree * sizeof(uint32_t) + sizeof(uint32_t);
    if (g->keeps_rows)
        bytes += g->row_size;
    if (g->keeps_residuals)
        bytes += sizeof(float);
    return bytes;
}

/* --- label map callbacks --- */

static uint64_t
label_of(const void *context, uint32_t id)
{
    const struct graph *g = context;

    return id & COPY_BIT ? g->copies[id & ~COPY_BIT].label : graph_label(g, id);
}
static uint64_t
owner_of(const void *context, uint32_t copy)
{
    return ((const struct graph *) context)->copies[copy].owner;
}

/* Labels below this go into the array: 4 bytes each there, 6.3 in the hash table. */
static size_t
dense_limit(size_t n_label)
{
    return n_label + n_label / 2 + 1024;
}

uint32_t
label_find(const struct graph *g, uint64_t label)
{
    return label < g->dense_size ? g->dense[label] : labelmap_find(&g->map, label, label_of, g);
}

/* Makes room for labels below size, and takes those over from the hash table. */
static anx_status
dense_grow(struct graph *g, size_t size, anx_error *err)
{
    uint32_t *bigger = anx_realloc_array(g->index->base.params.alloc, g->dense, size, sizeof(*bigger));
    size_t old = g->dense_size;

    if (!bigger)
        return anx_fail(err, ANX_E_NOMEM, "could not grow the label map to %zu labels", size);
    memset(bigger + old, 0xff, (size - old) * sizeof(*bigger));
    g->dense = bigger;
    for (uint64_t label = old; label < size && g->map.n; label++)
        bigger[label] = labelmap_erase(&g->map, label, label_of, g);
    g->dense_size = size;
    return ANX_OK;
}

anx_status
label_insert(struct graph *g, uint64_t label, uint32_t id, anx_error *err)
{
    if (label >= g->dense_size && label < dense_limit(g->n_named)) {
        anx_status st = dense_grow(g, dense_limit(g->n_named) * 5 / 4, err);

        if (st != ANX_OK)
            return st;
    }
    if (label < g->dense_size)
        g->dense[label] = id;
    else if (!labelmap_insert(&g->map, label, id, label_of, g))
        return anx_fail(err, ANX_E_NOMEM, "could not grow the label map of %zu labels", g->map.n);
    g->n_named++;
    return ANX_OK;
}

void
label_erase(struct graph *g, uint64_t label)
{
    if (label < g->dense_size)
        g->dense[label] = SLOT_NONE;
    else
        (void) labelmap_erase(&g->map, label, label_of, g);
    g->n_named--;
}

anx_status
label_reserve(struct graph *g, size_t n, uint64_t largest, anx_error *err)
{
    if (largest < dense_limit(n))
        return largest >= g->dense_size ? dense_grow(g, largest + 1, err) : ANX_OK;
    if (!labelmap_reserve(&g->map, n, label_of, g))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a map of %zu labels", n);
    return ANX_OK;
}

static anx_status
name_one(struct graph *g, uint64_t label, uint32_t id, anx_error *err)
{
    if (label_find(g, label) != SLOT_NONE)
        return anx_fail(err, ANX_E_CORRUPT, "label %llu is there twice", (unsigned long long) label);
    return label_insert(g, label, id, err);
}

anx_status
graph_name(struct graph *g, anx_error *err)
{
    size_t n = atomic_load(&g->n_slot);
    uint64_t largest = 0;
    anx_status st;

    for (uint32_t slot = 0; slot < n; slot++)
        if ((graph_flags(g, slot) & FLAG_LIVE) && graph_label(g, slot) > largest)
            largest = graph_label(g, slot);
    st = label_reserve(g, n + g->n_copy, largest, err);
    for (uint32_t slot = 0; slot < n && st == ANX_OK; slot++)
        if (graph_flags(g, slot) & FLAG_LIVE)
            st = name_one(g, graph_label(g, slot), slot, err);
    for (uint32_t copy = 0; copy < g->n_copy && st == ANX_OK; copy++)
        if (g->copies[copy].owner != SLOT_NONE)
            st = name_one(g, g->copies[copy].label, copy | COPY_BIT, err);
    g->is_named = st == ANX_OK;
    return st;
}

/* --- copies --- */

uint32_t
copy_first(const struct graph *g, uint32_t owner)
{
    return labelmap_find(&g->copy_heads, owner, owner_of, g);
}

static anx_status
copy_take(struct graph *g, uint32_t *copy, anx_error *err)
{
    if (g->copy_free != SLOT_NONE) {
        *copy = g->copy_free;
        g->copy_free = g->copies[*copy].next;
        return ANX_OK;
    }
    if (g->n_copy == g->copy_capacity) {
        size_t capacity = g->copy_capacity ? g->copy_capacity * 2 : 64;
        struct copy *bigger =
            anx_realloc_array(g->index->base.params.alloc, g->copies, capacity, sizeof(*bigger));

        if (!bigger || capacity >= SLOT_MAX)
            return anx_fail(err, ANX_E_NOMEM, "could not grow the table of %zu copied rows", g->n_copy);
        g->copies = bigger;
        g->copy_capacity = capacity;
    }
    *copy = (uint32_t) g->n_copy++;
    return ANX_OK;
}

anx_status
copy_restore(struct graph *g, uint32_t owner, uint64_t label, uint32_t *copy, anx_error *err)
{
    uint32_t head = copy_first(g, owner);
    anx_status st = copy_take(g, copy, err);

    if (st != ANX_OK)
        return st;
    g->copies[*copy] = (struct copy) { .label = label, .owner = owner, .next = SLOT_NONE };
    if (head != SLOT_NONE) { /* second place: the head stays what the map knows */
        g->copies[*copy].next = g->copies[head].next;
        g->copies[head].next = *copy;
    } else if (!labelmap_insert(&g->copy_heads, owner, *copy, owner_of, g)) {
        g->copies[*copy] = (struct copy) { .owner = SLOT_NONE, .next = g->copy_free };
        g->copy_free = *copy;
        return anx_fail(err, ANX_E_NOMEM, "could not grow the map of copied rows");
    }
    g->n_copy_used++;
    return ANX_OK;
}

anx_status
copy_add(struct graph *g, uint32_t owner, uint64_t label, uint32_t *copy, anx_error *err)
{
    anx_status st = copy_restore(g, owner, label, copy, err);

    if (st == ANX_OK)
        atomic_fetch_or_explicit(&graph_chunk(g, owner)->flags[graph_at(g, owner)], FLAG_COPIES,
                                 memory_order_release);
    return st;
}

void
copy_drop(struct graph *g, uint32_t copy)
{
    uint32_t owner = g->copies[copy].owner, head = copy_first(g, owner), next = g->copies[copy].next;

    if (head == copy) {
        labelmap_erase(&g->copy_heads, owner, owner_of, g);
        /* The erased place makes room, so this insert cannot need memory. */
        if (next != SLOT_NONE && !labelmap_insert(&g->copy_heads, owner, next, owner_of, g))
            ANX_ASSERT(!"label map lost room");
        if (next == SLOT_NONE)
            atomic_fetch_and_explicit(&graph_chunk(g, owner)->flags[graph_at(g, owner)],
                                      (unsigned char) ~FLAG_COPIES, memory_order_release);
    } else {
        uint32_t before = head;

        while (g->copies[before].next != copy)
            before = g->copies[before].next;
        g->copies[before].next = next;
    }
    g->copies[copy] = (struct copy) { .owner = SLOT_NONE, .next = g->copy_free };
    g->copy_free = copy;
    g->n_copy_used--;
}

/* --- slots --- */

static anx_status
chunk_create(struct graph *g, struct chunk *chunk, bool huge, anx_error *err)
{
    size_t rows = (size_t) 1 << g->chunk_bits;
    size_t codes = g->has_links ? align64(rows * g->stride) : 0;
    size_t links = g->has_links ? align64(rows * g->degree * sizeof(uint32_t)) : 0;
    size_t raw = g->keeps_rows ? align64(rows * g->row_size) : 0;
    size_t labels = rows * sizeof(uint64_t), parents = g->has_links ? rows * sizeof(uint32_t) : 0;
    size_t residuals = g->keeps_residuals ? rows * sizeof(float) : 0;
    size_t size = codes + links + raw + labels + parents + residuals + rows;
    uint8_t *map = anx_map_pages(size, huge);

    if (!map)
        return anx_fail(err, ANX_E_NOMEM, "could not map %zu bytes for %zu more rows", size, rows);
    *chunk = (struct chunk) { .map = map, .map_size = size };
    if (g->has_links) {
        chunk->codes = map;
        chunk->links = (atomic_uint *) (map + codes);
    }
    if (g->keeps_rows)
        chunk->rows = map + codes + links;
    chunk->labels = (atomic_ullong *) (map + codes + links + raw);
    if (g->has_links)
        chunk->parents = (atomic_uint *) (map + codes + links + raw + labels);
    if (g->keeps_residuals)
        chunk->residuals = (float *) (map + codes + links + raw + labels + parents);
    chunk->flags = (atomic_uchar *) (map + codes + links + raw + labels + parents + residuals);
    return ANX_OK;
}

anx_status
graph_reserve(struct graph *g, size_t n, anx_error *err)
{
    size_t rows = (size_t) 1 << g->chunk_bits, have = atomic_load(&g->n_chunk);
    size_t expected = n > g->expected ? n : g->expected;

    if (n > SLOT_MAX || (n + rows - 1) / rows > g->chunk_limit)
        return anx_fail(err, ANX_E_LIMIT, "index cannot hold %zu rows, at most %u", n, SLOT_MAX);
    while (have * rows < n) {
        anx_status st = chunk_create(g, &g->chunk[have], expected >= HUGE_FROM, err);

        if (st != ANX_OK)
            return st;
        atomic_store_explicit(&g->n_chunk, ++have, memory_order_release);
    }
    return ANX_OK;
}

anx_status
slot_take(struct graph *g, uint32_t *slot, anx_error *err)
{
    size_t next = atomic_load_explicit(&g->n_slot, memory_order_relaxed);
    anx_status st;

    if (g->n_free) {
        *slot = g->free_slots[--g->n_free];
        return ANX_OK;
    }
    st = graph_reserve(g, next + 1, err);
    if (st != ANX_OK)
        return st;
    if (g->has_links) { /* an empty list before anyone can look */
        *slot = (uint32_t) next;
        links_write(graph_links(g, *slot), g->degree, NULL, 0);
    }
    *slot = (uint32_t) next;
    atomic_store_explicit(&g->n_slot, next + 1, memory_order_release);
    return ANX_OK;
}

static bool
free_slots_room(struct graph *g, size_t n)
{
    size_t capacity = g->free_capacity ? g->free_capacity : 64;
    uint32_t *bigger;

    while (capacity < n)
        capacity *= 2;
    if (capacity == g->free_capacity)
        return true;
    bigger = anx_realloc_array(g->index->base.params.alloc, g->free_slots, capacity, sizeof(*bigger));
    if (!bigger)
        return false;
    g->free_slots = bigger;
    g->free_capacity = capacity;
    return true;
}

void
slot_give_back(struct graph *g, uint32_t slot)
{
    /* Out of memory: the slot stays unused until the next rebuild. */
    if (free_slots_room(g, g->n_free + 1))
        g->free_slots[g->n_free++] = slot;
}

/* --- graphs --- */

static unsigned
chunk_bits_for(const struct graph *g)
{
    unsigned bits = CHUNK_BITS_MAX;

    if (!g->has_links)
        return 10; /* a small index never has more than one chunk of SMALL_MAX rows */
    while (bits > CHUNK_BITS_MIN && ((size_t) 1 << bits) * slot_bytes(g) > CHUNK_BYTES)
        bits--;
    return bits;
}

anx_status
graph_create(struct hnsw *index, bool has_links, bool lossless, struct graph **out, anx_error *err)
{
    const anx_index_params *params = &index->base.params;
    struct graph *g = anx_alloc_zeroed(params->alloc, 1, sizeof(*g));
    anx_status st;

    *out = NULL;
    if (!g)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a graph");
    g->index = index;
    g->has_links = has_links;
    g->row_size = index->base.row_size;
    g->degree = index->degree;
    g->expected = params->capacity;
    atomic_store(&g->entry_max, ENTRY_DEFAULT);
    st = space_init(&g->space, params, index->base.kernels, lossless, err);
    if (st != ANX_OK) {
        anx_free(params->alloc, g);
        return st;
    }
    g->stride = g->space.stride;
    g->keeps_rows =
        !has_links || (!space_is_exact(&g->space) && params->quantization == ANX_QUANTIZATION_NONE);
    g->keeps_residuals = has_links && params->quantization == ANX_QUANTIZATION_CODES;
    g->chunk_bits = chunk_bits_for(g);
    g->chunk_limit = has_links ? ((size_t) SLOT_MAX >> g->chunk_bits) + 1 : 64;
    g->chunk_table_size = g->chunk_limit * sizeof(*g->chunk);
    g->chunk = anx_map_pages(g->chunk_table_size, false);
    g->copy_free = SLOT_NONE;
    g->is_named = true;
    pthread_mutex_init(&g->names, NULL);
    pthread_mutex_init(&g->upper_lock, NULL);
    labelmap_init(&g->map, params->alloc);
    labelmap_init(&g->copy_heads, params->alloc);
    if (!g->chunk || !upper_init(g)) {
        graph_destroy(g);
        return anx_fail(err, ANX_E_NOMEM, "could not map a table of chunks");
    }
    *out = g;
    return ANX_OK;
}

void
graph_destroy(struct graph *g)
{
    const anx_alloc *alloc;

    if (!g)
        return;
    alloc = g->index->base.params.alloc;
    for (size_t i = 0; g->chunk && i < atomic_load(&g->n_chunk); i++)
        if (g->chunk[i].map)
            anx_unmap_pages(g->chunk[i].map, g->chunk[i].map_size);
    if (g->chunk)
        anx_unmap_pages(g->chunk, g->chunk_table_size);
    upper_fini(g);
    space_fini(&g->space);
    labelmap_fini(&g->map);
    labelmap_fini(&g->copy_heads);
    anx_free(alloc, g->dense);
    anx_free(alloc, g->free_slots);
    anx_free(alloc, g->copies);
    pthread_mutex_destroy(&g->names);
    pthread_mutex_destroy(&g->upper_lock);
    anx_free(alloc, g);
}

size_t
graph_memory(const struct graph *g, anx_index_stats *stats)
{
    size_t n = atomic_load(&g->n_slot), chunks = atomic_load(&g->n_chunk);

    stats->row_bytes = g->keeps_rows ? n * g->row_size : 0;
    stats->code_bytes = g->has_links ? n * g->stride : 0;
    stats->link_bytes = (g->has_links ? n * (g->degree + 1) * sizeof(uint32_t) : 0) + upper_memory(g);
    return stats->row_bytes + stats->code_bytes + stats->link_bytes + n * (sizeof(uint64_t) + 1) +
           labelmap_memory(&g->map) + g->dense_size * sizeof(uint32_t) + labelmap_memory(&g->copy_heads) +
           g->free_capacity * sizeof(uint32_t) + g->copy_capacity * sizeof(struct copy) +
           chunks * sizeof(struct chunk);
}

/* --- epochs --- */

struct graph *
reader_enter(struct hnsw *index, struct scratch *scratch)
{
    /* seq_cst: the store must be visible before the graph is loaded; pairs with the fence in oldest_reader.
     */
    atomic_store(&scratch->epoch, atomic_load(&index->epoch));
    return atomic_load(&index->graph);
}

void
reader_leave(struct scratch *scratch)
{
    atomic_store_explicit(&scratch->epoch, 0, memory_order_release);
}

static uint64_t
oldest_reader(struct hnsw *index)
{
    uint64_t oldest = UINT64_MAX;

    pthread_mutex_lock(&index->scratch_lock);
    for (struct scratch *s = index->scratch_all; s; s = s->all_next) {
        uint64_t epoch = atomic_load(&s->epoch);

        if (epoch && epoch < oldest)
            oldest = epoch;
    }
    pthread_mutex_unlock(&index->scratch_lock);
    return oldest;
}

/* The list entry lies in front of the block, so that retiring cannot fail. */
#define RETIRE_HEAD ((sizeof(struct retired) + 63) / 64 * 64)

void *
retirable_create(const anx_alloc *alloc, size_t size)
{
    uint8_t *block = anx_alloc_zeroed(alloc, 1, RETIRE_HEAD + size);

    return block ? block + RETIRE_HEAD : NULL;
}

void
retirable_free(const anx_alloc *alloc, void *memory)
{
    if (memory)
        anx_free(alloc, (uint8_t *) memory - RETIRE_HEAD);
}

void
retire_memory(struct hnsw *index, void *memory)
{
    struct retired *r;

    if (!memory)
        return;
    r = (struct retired *) (void *) ((uint8_t *) memory - RETIRE_HEAD);
    r->epoch = atomic_fetch_add(&index->epoch, 1);
    pthread_mutex_lock(&index->retire_lock);
    r->next = index->retired;
    index->retired = r;
    pthread_mutex_unlock(&index->retire_lock);
}

/* The exchange and the lists change under one lock, so that reclaim never gives slots of one graph to
 * another. */
void
graph_publish(struct hnsw *index, struct graph *g)
{
    struct graph *old;

    pthread_mutex_lock(&index->retire_lock);
    old = atomic_exchange(&index->graph, g);
    while (index->retired_slots) { /* these belong to the old graph and go with it */
        struct retired_slots *r = index->retired_slots;

        index->retired_slots = r->next;
        anx_free(index->base.params.alloc, r);
    }
    if (old) {
        old->retired_epoch = atomic_fetch_add(&index->epoch, 1);
        old->retired_next = index->retired_graphs;
        index->retired_graphs = old;
    }
    pthread_mutex_unlock(&index->retire_lock);
}

void
retire_slots(struct graph *g, const uint32_t *slots, size_t n)
{
    struct hnsw *index = g->index;
    struct retired_slots *r = anx_alloc_bytes(index->base.params.alloc, sizeof(*r) + n * sizeof(*slots));

    if (!r) /* out of memory: the slots stay unused until the next rebuild */
        return;
    r->n = n;
    memcpy(r->slot, slots, n * sizeof(*slots));
    r->epoch = atomic_fetch_add(&index->epoch, 1);
    pthread_mutex_lock(&index->retire_lock);
    r->next = index->retired_slots;
    index->retired_slots = r;
    pthread_mutex_unlock(&index->retire_lock);
}

void
reclaim(struct hnsw *index)
{
    const anx_alloc *alloc = index->base.params.alloc;
    struct graph *g;
    uint64_t oldest;

    pthread_mutex_lock(&index->retire_lock);
    g = atomic_load(&index->graph);
    if (!index->retired && !index->retired_slots && !index->retired_graphs) {
        pthread_mutex_unlock(&index->retire_lock);
        return;
    }
    oldest = oldest_reader(index);
    for (struct retired **at = &index->retired; *at;) {
        struct retired *r = *at;

        if (r->epoch >= oldest) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        anx_free(alloc, r);
    }
    for (struct retired_slots **at = &index->retired_slots; *at;) {
        struct retired_slots *r = *at;

        if (r->epoch >= oldest) {
            at = &r->next;
            continue;
        }
        *at = r->next;
        pthread_mutex_lock(&g->names);
        for (size_t i = 0; i < r->n; i++)
            slot_give_back(g, r->slot[i]);
        pthread_mutex_unlock(&g->names);
        anx_free(alloc, r);
    }
    for (struct graph **at = &index->retired_graphs; *at;) {
        struct graph *old = *at;

        if (old->retired_epoch >= oldest) {
            at = &old->retired_next;
            continue;
        }
        *at = old->retired_next;
        graph_destroy(old);
    }
    pthread_mutex_unlock(&index->retire_lock);
}
