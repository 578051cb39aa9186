/* See load.h. Rows go straight into the slots of the new graph. As long as all of them are integers 0..255
 * under l2 they are stored as codes only; the first other row turns the load into one that keeps rows as
 * given. */
#include "ann/hnsw/load.h"

#include <string.h>

#include "ann/hnsw/prune.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/hash.h"

/* Codes are fitted when this share of the expected rows is there, so that encoding can go on while rows
 * arrive. */
#define FIT_SHARE 0.05
#define FIT_MIN 20000
#define FIT_BYTES ((size_t) 16 << 20)
#define FIT_SAMPLE 8000 /* rows looked at; mean and spread need no more */
/* More clipped components than this share: the rows that were sampled do not speak for the rest; fit again.
 */
#define CLIPPED_MAX 0.01

struct load {
    struct hnsw *index;
    struct graph *g;
    size_t expected;
    bool is_batch; /* all rows come at once: encoding them on all threads at the end is faster than one by one
                    */
    bool is_fitted;
    size_t n_encoded; /* slots below have codes */
    atomic_size_t n_clipped;
    atomic_bool failed; /* a thread was out of memory */
    float *buffer;      /* [dim + 1] */
    uint8_t *pending;   /* rows waiting for the fit when the graph keeps none */
    size_t n_pending, pending_capacity;
    struct copied {
        uint64_t label, of;
    } *copied; /* rows equal to another row */
    size_t n_copied, copied_capacity;
};

static const anx_alloc *
load_alloc(const struct load *load)
{
    return load->index->base.params.alloc;
}

void
load_as_batch(struct load *load)
{
    load->is_batch = true;
}

struct load *
load_begin(struct hnsw *index, size_t expected, anx_error *err)
{
    const anx_alloc *alloc = index->base.params.alloc;
    struct load *load = anx_alloc_zeroed(alloc, 1, sizeof(*load));

    if (!load) {
        (void) anx_fail(err, ANX_E_NOMEM, "could not allocate a loader");
        return NULL;
    }
    load->index = index;
    load->expected = expected;
    load->buffer = anx_alloc_array(alloc, index->base.params.dim + 1, sizeof(float));
    if (!load->buffer || graph_create(index, true, true, &load->g, err) != ANX_OK) {
        load_abort(load);
        (void) anx_fail(err, ANX_E_NOMEM, "could not allocate a loader");
        return NULL;
    }
    load->is_fitted = load->g->space.kind != SPACE_ROTATED;
    load->g->expected = expected;
    return load;
}

void
load_abort(struct load *load)
{
    if (!load)
        return;
    graph_destroy(load->g);
    anx_free(load_alloc(load), load->buffer);
    anx_free(load_alloc(load), load->pending);
    anx_free(load_alloc(load), load->copied);
    anx_free(load_alloc(load), load);
}

/* Rows that wait for the fit have their slots already. */
static size_t
load_count(const struct load *load)
{
    return atomic_load_explicit(&load->g->n_slot, memory_order_relaxed);
}

/* Row i of what was loaded, while rows are still had as given. */
static const void *
given_row(const void *context, size_t i)
{
    const struct load *load = context;

    if (load->g->keeps_rows)
        return graph_row(load->g, (uint32_t) i);
    return load->pending + i * load->g->row_size;
}

struct sampled {
    const struct load *load;
    size_t n, of;
};
static const void *
sampled_row(const void *context, size_t i)
{
    const struct sampled *s = context;

    return given_row(s->load, (size_t) ((double) i * (double) s->of / (double) s->n));
}

static anx_status
fit(struct load *load, anx_error *err)
{
    const anx_index_params *params = &load->index->base.params;
    size_t have = load->g->keeps_rows ? load_count(load) : load->n_pending;
    size_t limit = params->quantization == ANX_QUANTIZATION_SQ8 ? params->sample_size : FIT_SAMPLE;
    struct sampled sample = { load, have < limit ? have : limit, have };
    float quantile = params->quantization == ANX_QUANTIZATION_SQ8 ? params->quantile : 0;

    load->is_fitted = true;
    return space_fit(&load->g->space, sample.n, sampled_row, &sample, quantile, err);
}

static size_t
encode(struct graph *g, uint32_t slot, const void *row, float *buffer)
{
    uint8_t *code = graph_code(g, slot);
    size_t clipped = space_encode(&g->space, row, code, buffer);

    if (g->keeps_residuals)
        *graph_residual(g, slot) = space_residual(&g->space, row, code, buffer);
    return clipped;
}

static void
encode_range(void *context, size_t begin, size_t end, size_t worker)
{
    struct load *load = context;
    struct graph *g = load->g;
    float *buffer = anx_alloc_array(load_alloc(load), load->index->base.params.dim + 1, sizeof(float));
    size_t clipped = 0;

    (void) worker;
    for (size_t i = begin; i < end && buffer; i++)
        clipped += encode(g, (uint32_t) i, given_row(load, i), buffer);
    if (!buffer)
        atomic_store(&load->failed, true);
    atomic_fetch_add(&load->n_clipped, clipped);
    anx_free(load_alloc(load), buffer);
}

static anx_status
append_slot(struct load *load, uint64_t label, uint32_t *slot, anx_error *err)
{
    anx_status st = slot_take(load->g, slot, err);

    if (st == ANX_OK)
        atomic_store_explicit(&graph_chunk(load->g, *slot)->labels[graph_at(load->g, *slot)], label,
                              memory_order_relaxed);
    return st;
}

/* The first row that is not bytes: everything so far moves into a graph that can hold any row. */
static anx_status
leave_lossless(struct load *load, anx_error *err)
{
    struct graph *old = load->g, *g;
    size_t n = atomic_load(&old->n_slot);
    uint8_t *row = anx_alloc_bytes(load_alloc(load), old->row_size);
    anx_status st = row ? graph_create(load->index, true, false, &g, err)
                        : anx_fail(err, ANX_E_NOMEM, "could not allocate a row");

    if (st != ANX_OK) {
        anx_free(load_alloc(load), row);
        return st;
    }
    load->g = g;
    g->expected = load->expected;
    load->is_fitted = false;
    load->n_encoded = 0;
    for (uint32_t i = 0; i < n && st == ANX_OK; i++) {
        uint64_t label = graph_label(old, i);

        space_decode(&old->space, graph_code(old, i), row, load->buffer);
        st = load_rows(load, 1, &label, row, err);
    }
    anx_free(load_alloc(load), row);
    graph_destroy(old);
    return st;
}

static anx_status
keep_pending(struct load *load, const void *row, anx_error *err)
{
    size_t size = load->g->row_size;

    if (load->n_pending == load->pending_capacity) {
        size_t capacity = load->pending_capacity ? load->pending_capacity * 2 : 256;
        uint8_t *bigger = anx_realloc_array(load_alloc(load), load->pending, capacity, size);

        if (!bigger)
            return anx_fail(err, ANX_E_NOMEM, "could not keep %zu rows for sampling", capacity);
        load->pending = bigger;
        load->pending_capacity = capacity;
    }
    memcpy(load->pending + load->n_pending++ * size, row, size);
    return ANX_OK;
}

/* Rows that wait for the fit when none are kept: enough to be a sample, and not too many bytes. */
static size_t
pending_max(const struct load *load)
{
    size_t n = FIT_BYTES / load->g->row_size, max = load->g->keeps_residuals ? FIT_SAMPLE : FIT_MIN;

    return n < max ? n : max;
}

static bool
is_time_to_fit(const struct load *load)
{
    size_t want = (size_t) ((double) load->expected * FIT_SHARE);
    size_t sample = load->index->base.params.sample_size;

    if (load->is_batch && load->g->keeps_rows)
        return false;
    if (!load->g->keeps_rows) /* rows are dropped once encoded, so the sample is what has come by then */
        want = sample ? sample : pending_max(load);
    else if (want < FIT_MIN)
        want = FIT_MIN;
    if (want <= SMALL_MAX) /* a small index needs its rows */
        want = SMALL_MAX + 1;
    return load_count(load) >= want;
}

/* Encodes all rows that are had as given; those that are not kept are freed. */
static anx_status
encode_waiting(struct load *load, anx_error *err)
{
    struct graph *g = load->g;
    size_t n = atomic_load(&g->n_slot);
    anx_pool *pool = index_pool(&load->index->base);

    if (!pool)
        return anx_fail(err, ANX_E_NOMEM, "could not start build threads");
    if (g->keeps_rows) {
        atomic_store(&load->n_clipped, 0);
        anx_pool_for(pool, n, 1024, encode_range, load);
        load->n_encoded = n;
        return atomic_load(&load->failed) ? anx_fail(err, ANX_E_NOMEM, "could not allocate a row") : ANX_OK;
    }
    anx_pool_for(pool, load->n_pending, 256, encode_range, load);
    if (atomic_load(&load->failed))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a row");
    anx_free(load_alloc(load), load->pending);
    load->pending = NULL;
    load->n_pending = load->pending_capacity = 0;
    load->n_encoded = n;
    return ANX_OK;
}

static anx_status
load_row(struct load *load, uint64_t label, const void *row, anx_error *err)
{
    struct graph *g = load->g;
    uint32_t slot;
    anx_status st;

    if (g->space.kind == SPACE_LOSSLESS && !space_row_is_bytes(&g->space, row)) {
        st = leave_lossless(load, err);
        if (st != ANX_OK)
            return st;
        g = load->g;
    }
    st = append_slot(load, label, &slot, err);
    if (st != ANX_OK)
        return st;
    if (g->keeps_rows)
        memcpy(graph_row(g, slot), row, g->row_size);
    if (load->is_fitted && load->n_encoded == slot) {
        atomic_fetch_add(&load->n_clipped, encode(g, slot, row, load->buffer));
        load->n_encoded++;
        return ANX_OK;
    }
    if (!g->keeps_rows)
        st = keep_pending(load, row, err);
    if (st == ANX_OK && !load->is_fitted && is_time_to_fit(load)) {
        st = fit(load, err);
        if (st == ANX_OK)
            st = encode_waiting(load, err);
    }
    return st;
}

anx_status
load_rows(struct load *load, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    const uint8_t *row = vectors;
    anx_status st = ANX_OK;

    for (size_t i = 0; i < n && st == ANX_OK; i++)
        st = load_row(load, labels[i], row + i * load->g->row_size, err);
    return st;
}

/* --- finishing --- */

static anx_status
encode_rest(struct load *load, anx_error *err)
{
    struct graph *g = load->g;
    size_t n = atomic_load(&g->n_slot);
    anx_status st = ANX_OK;

    if (!load->is_fitted)
        st = fit(load, err);
    if (st == ANX_OK && load->n_encoded < n)
        st = encode_waiting(load, err);
    if (st == ANX_OK && g->keeps_rows && g->space.kind == SPACE_ROTATED &&
        (double) atomic_load(&load->n_clipped) > CLIPPED_MAX * (double) n * (double) g->space.turned_dim) {
        st = fit(load, err); /* sampled evenly this time */
        if (st == ANX_OK)
            st = encode_waiting(load, err);
    }
    return st;
}

struct first_of {
    uint64_t hash;
    uint32_t slot;
};

static const void *
row_bytes(const struct graph *g, uint32_t slot, size_t *size)
{
    *size = g->keeps_rows ? g->row_size : g->stride;
    return g->keeps_rows ? graph_row(g, slot) : graph_code(g, slot);
}

struct hashing {
    const struct graph *g;
    uint64_t *hash;
};
static void
hash_rows(void *context, size_t begin, size_t end, size_t worker)
{
    struct hashing *h = context;

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        size_t size;
        const void *bytes = row_bytes(h->g, (uint32_t) i, &size);

        h->hash[i] = anx_hash(bytes, size);
    }
}

static anx_status
note_copy(struct load *load, uint64_t label, uint64_t of, anx_error *err)
{
    if (load->n_copied == load->copied_capacity) {
        size_t capacity = load->copied_capacity ? load->copied_capacity * 2 : 64;
        struct copied *bigger = anx_realloc_array(load_alloc(load), load->copied, capacity, sizeof(*bigger));

        if (!bigger)
            return anx_fail(err, ANX_E_NOMEM, "could not note %zu copied rows", capacity);
        load->copied = bigger;
        load->copied_capacity = capacity;
    }
    load->copied[load->n_copied++] = (struct copied) { label, of };
    return ANX_OK;
}

static void
move_slot(struct graph *g, uint32_t from, uint32_t to)
{
    if (from == to)
        return;
    memcpy(graph_code(g, to), graph_code(g, from), g->stride);
    if (g->keeps_rows)
        memcpy(graph_row(g, to), graph_row(g, from), g->row_size);
    if (g->keeps_residuals)
        *graph_residual(g, to) = *graph_residual(g, from);
    atomic_store(&graph_chunk(g, to)->labels[graph_at(g, to)], graph_label(g, from));
}

/* Rows equal byte for byte become one slot: copies would fill each other's neighbor lists and cut the graph
 * apart. */
static anx_status
collapse(struct load *load, anx_error *err)
{
    struct graph *g = load->g;
    size_t n = atomic_load(&g->n_slot), capacity = 16, kept = 0;
    uint64_t *hash = anx_alloc_array(load_alloc(load), n + 1, sizeof(*hash));
    uint32_t *table = NULL;
    struct hashing job = { g, hash };
    anx_status st = ANX_OK;

    while (capacity < n * 2)
        capacity *= 2;
    table = anx_alloc_array(load_alloc(load), capacity, sizeof(*table));
    if (!hash || !table || !index_pool(&load->index->base)) {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a table of %zu rows", n);
        goto out;
    }
    memset(table, 0xff, capacity * sizeof(*table));
    anx_pool_for(index_pool(&load->index->base), n, 1024, hash_rows, &job);
    for (uint32_t i = 0; i < n && st == ANX_OK; i++) {
        size_t at = hash[i] & (capacity - 1), size;
        const void *bytes = row_bytes(g, i, &size);

        for (; table[at] != SLOT_NONE; at = (at + 1) & (capacity - 1))
            if (hash[table[at]] == hash[i] && memcmp(row_bytes(g, table[at], &size), bytes, size) == 0)
                break;
        if (table[at] != SLOT_NONE) {
            st = note_copy(load, graph_label(g, i), graph_label(g, table[at]), err);
            if (g->keeps_residuals && *graph_residual(g, table[at]) < *graph_residual(g, i))
                *graph_residual(g, table[at]) = *graph_residual(g, i);
            continue;
        }
        table[at] = (uint32_t) kept;
        hash[kept] = hash[i];
        move_slot(g, i, (uint32_t) kept++);
    }
    if (st == ANX_OK)
        atomic_store(&g->n_slot, kept);
out:
    anx_free(load_alloc(load), hash);
    anx_free(load_alloc(load), table);
    return st;
}

/* Fills the label map; a label given twice is the caller's mistake. */
static anx_status
name_rows(struct load *load, anx_error *err)
{
    struct graph *g = load->g;
    size_t n = atomic_load(&g->n_slot);
    uint64_t largest = 0;
    anx_status st;

    for (uint32_t i = 0; i < n; i++)
        largest = graph_label(g, i) > largest ? graph_label(g, i) : largest;
    st = label_reserve(g, n + load->n_copied, largest, err);
    for (uint32_t i = 0; i < n && st == ANX_OK; i++) {
        uint64_t label = graph_label(g, i);

        if (label_find(g, label) != SLOT_NONE)
            st = anx_fail(err, ANX_E_EXISTS, "label %llu is given twice", (unsigned long long) label);
        else
            st = label_insert(g, label, i, err);
    }
    for (size_t i = 0; i < load->n_copied && st == ANX_OK; i++) {
        uint32_t copy, owner = label_find(g, load->copied[i].of);

        if (label_find(g, load->copied[i].label) != SLOT_NONE)
            return anx_fail(err, ANX_E_EXISTS, "label %llu is given twice",
                            (unsigned long long) load->copied[i].label);
        st = copy_add(g, owner, load->copied[i].label, &copy, err);
        if (st == ANX_OK)
            st = label_insert(g, load->copied[i].label, copy | COPY_BIT, err);
    }
    atomic_store(&g->n_live, n + load->n_copied);
    return st;
}

/* Few rows need no graph. */
static anx_status
make_small(struct load *load, anx_error *err)
{
    struct graph *old = load->g, *g;
    size_t n = atomic_load(&old->n_slot);
    anx_status st = graph_create(load->index, false, true, &g, err);

    if (st != ANX_OK)
        return st;
    for (uint32_t i = 0; i < n && st == ANX_OK; i++) {
        uint32_t slot;

        st = slot_take(g, &slot, err);
        if (st != ANX_OK)
            break;
        if (old->keeps_rows)
            memcpy(graph_row(g, slot), graph_row(old, i), g->row_size);
        else if (load->n_pending)
            memcpy(graph_row(g, slot), load->pending + i * g->row_size, g->row_size);
        else
            space_decode(&old->space, graph_code(old, i), graph_row(g, slot), load->buffer);
        atomic_store(&graph_chunk(g, slot)->labels[graph_at(g, slot)], graph_label(old, i));
        atomic_store(&graph_chunk(g, slot)->flags[graph_at(g, slot)], FLAG_LIVE);
    }
    graph_destroy(old);
    load->g = g;
    return st;
}

anx_status
load_finish(struct load *load, bool always_links, struct bulk_progress *progress, struct graph **out,
            anx_error *err)
{
    anx_pool *pool = index_pool(&load->index->base);
    bool links = always_links || load_count(load) > SMALL_MAX;
    anx_status st = pool ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not start build threads");

    *out = NULL;
    if (st == ANX_OK && !links)
        st = make_small(load, err);
    if (st == ANX_OK && links)
        st = encode_rest(load, err);
    if (st == ANX_OK && links)
        st = collapse(load, err);
    if (st == ANX_OK && links)
        st = bulk_link(load->g, pool, load->index->base.params.seed, progress, err);
    if (st == ANX_OK)
        st = name_rows(load, err);
    if (st == ANX_OK) {
        *out = load->g;
        load->g = NULL;
    }
    load_abort(load);
    return st;
}

/* --- rebuild --- */

/* The row of a label, exact where that can be had. Copies are asked for one by one: equal codes need not be
 * equal rows. */
static const void *
stored_row(const struct graph *g, uint32_t slot, uint64_t label, uint8_t *room, float *buffer)
{
    const anx_index_params *params = &g->index->base.params;
    const void *row = NULL;

    if (g->keeps_rows)
        return graph_row(g, slot);
    if (!space_is_exact(&g->space) && params->fetch)
        row = params->fetch(params->fetch_context, label, room);
    if (row)
        return row;
    space_decode(&g->space, graph_code(g, slot), room, buffer);
    return room;
}

anx_status
load_from_graph(struct load *load, const struct graph *g, anx_error *err)
{
    size_t n = atomic_load(&g->n_slot);
    uint8_t *row = anx_alloc_bytes(load_alloc(load), g->row_size);
    float *buffer = anx_alloc_array(load_alloc(load), load->index->base.params.dim + 1, sizeof(float));
    anx_status st = ANX_OK;

    if (!row || !buffer)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a row");
    for (uint32_t slot = 0; slot < n && st == ANX_OK; slot++) {
        unsigned flags = graph_flags(g, slot);
        uint64_t label = graph_label(g, slot);

        if (!(flags & FLAG_LIVE))
            continue;
        st = load_rows(load, 1, &label, stored_row(g, slot, label, row, buffer), err);
        for (uint32_t c = flags & FLAG_COPIES ? copy_first(g, slot) : SLOT_NONE;
             c != SLOT_NONE && st == ANX_OK; c = g->copies[c].next)
            st = load_rows(load, 1, &g->copies[c].label,
                           stored_row(g, slot, g->copies[c].label, row, buffer), err);
    }
    anx_free(load_alloc(load), row);
    anx_free(load_alloc(load), buffer);
    return st;
}

void
hnsw_publish(struct hnsw *index, struct graph *g)
{
    graph_publish(index, g);
    reclaim(index);
}

anx_status
hnsw_rebuild_locked(struct hnsw *index, uint64_t label, const void *vector, struct bulk_progress *progress,
                    anx_error *err)
{
    struct graph *old = atomic_load(&index->graph), *g = NULL;
    struct load *load = load_begin(index, atomic_load(&old->n_live) + 1, err);
    anx_status st = ANX_E_NOMEM;

    if (load) {
        load_as_batch(load);
        st = load_from_graph(load, old, err);
    }
    if (st == ANX_OK && label != ANX_LABEL_NONE)
        st = load_rows(load, 1, &label, vector, err);
    if (st != ANX_OK) {
        load_abort(load);
        return st;
    }
    st = load_finish(load, false, progress, &g, err);
    if (st == ANX_OK)
        hnsw_publish(index, g);
    return st;
}

/* --- the loader of the contract --- */

struct hnsw_loader {
    struct anx_loader head;
    struct load *load;
};

anx_status
hnsw_loader_begin(anx_index *index, size_t expected, anx_loader **out, anx_error *err)
{
    struct hnsw_loader *l = anx_alloc_zeroed(index->params.alloc, 1, sizeof(*l));

    *out = NULL;
    if (!l)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a loader");
    l->head = (struct anx_loader) { index, expected };
    l->load = load_begin((struct hnsw *) index, expected, err);
    if (!l->load) {
        anx_free(index->params.alloc, l);
        return ANX_E_NOMEM;
    }
    *out = &l->head;
    return ANX_OK;
}

anx_status
hnsw_loader_rows(anx_loader *loader, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    return load_rows(((struct hnsw_loader *) loader)->load, n, labels, vectors, err);
}

anx_status
hnsw_loader_finish(anx_loader *loader, anx_progress_fn fn, void *context, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) loader->index;
    struct bulk_progress progress = { .fn = fn, .context = context };
    struct graph *g;
    anx_status st;

    pthread_rwlock_wrlock(&h->gate);
    st = load_finish(((struct hnsw_loader *) loader)->load, false, &progress, &g, err);
    if (st == ANX_OK)
        hnsw_publish(h, g);
    pthread_rwlock_unlock(&h->gate);
    anx_free(h->base.params.alloc, loader);
    return st;
}

void
hnsw_loader_abort(anx_loader *loader)
{
    if (!loader)
        return;
    load_abort(((struct hnsw_loader *) loader)->load);
    anx_free(loader->index->params.alloc, loader);
}
