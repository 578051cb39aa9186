/* See write.h. A row becomes visible in this order: code, row and label; links; FLAG_LIVE; label map. A
 * removed row goes the other way: label map, FLAG_LIVE; it stays linked and routes searches until repair,
 * which unlinks many at once. */
#include "ann/hnsw/write.h"

#include <string.h>

#include "ann/hnsw/entry.h"
#include "ann/hnsw/insert.h"
#include "ann/hnsw/load.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

/* Repair when this share of the nodes is dead, or a small index has any: it scans all links, so its cost per
 * delete is (1 / share) * the cost of looking at one node. */
#define DEAD_SHARE 0.05
#define DEAD_MIN 64
/* A batch at least this share of the rows there already is cheaper to build anew, together with them. */
#define REBUILD_SHARE 0.5
#define BATCH_THREADS_FROM 64 /* rows; fewer are added before threads have started */

static anx_status
fail_exists(uint64_t label, anx_error *err)
{
    return anx_fail(err, ANX_E_EXISTS, "label %llu is already present", (unsigned long long) label);
}

static void
put_row(struct graph *g, uint32_t slot, uint64_t label, const void *vector)
{
    if (g->keeps_rows)
        memcpy(graph_row(g, slot), vector, g->row_size);
    atomic_store_explicit(&graph_chunk(g, slot)->labels[graph_at(g, slot)], label, memory_order_relaxed);
}

static void
set_flags(struct graph *g, uint32_t slot, unsigned flags)
{
    atomic_fetch_or_explicit(&graph_chunk(g, slot)->flags[graph_at(g, slot)], (unsigned char) flags,
                             memory_order_release);
}

/* Names a finished slot. The label may have come in meanwhile. */
static anx_status
publish_label(struct graph *g, uint64_t label, uint32_t id, anx_error *err)
{
    if (label_find(g, label) != SLOT_NONE)
        return fail_exists(label, err);
    return label_insert(g, label, id, err);
}

/* --- adding --- */

static anx_status
add_small(struct graph *g, uint64_t label, const void *vector, anx_error *err)
{
    uint32_t slot;
    anx_status st;

    pthread_mutex_lock(&g->names);
    st = label_find(g, label) != SLOT_NONE ? fail_exists(label, err) : slot_take(g, &slot, err);
    if (st == ANX_OK) {
        put_row(g, slot, label, vector);
        st = label_insert(g, label, slot, err);
        if (st == ANX_OK) {
            set_flags(g, slot, FLAG_LIVE);
            atomic_fetch_add(&g->n_live, 1);
        } else {
            slot_give_back(g, slot);
        }
    }
    pthread_mutex_unlock(&g->names);
    return st;
}

static bool
same_row(const struct graph *g, uint32_t slot, const void *vector, const uint8_t *code)
{
    if (g->keeps_rows)
        return memcmp(graph_row(g, slot), vector, g->row_size) == 0;
    return memcmp(graph_code(g, slot), code, g->stride) == 0;
}

/* When the row is there already, the label joins it. *joined says so. */
static anx_status
join_copy(struct graph *g, struct walk *w, uint64_t label, const void *vector, const uint8_t *code,
          bool *joined, anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; i < w->n && w->dist[i] == 0 && !*joined && st == ANX_OK; i++) {
        uint32_t owner = walk_id(w, i), copy;

        pthread_mutex_lock(&g->names);
        if ((graph_flags(g, owner) & FLAG_LIVE) && same_row(g, owner, vector, code)) {
            st = label_find(g, label) != SLOT_NONE ? fail_exists(label, err)
                                                   : copy_add(g, owner, label, &copy, err);
            if (st == ANX_OK) {
                st = label_insert(g, label, copy | COPY_BIT, err);
                if (st != ANX_OK)
                    copy_drop(g, copy);
            }
            *joined = st == ANX_OK;
        }
        pthread_mutex_unlock(&g->names);
    }
    return st;
}

static unsigned
draw_level(struct hnsw *h)
{
    unsigned level;

    pthread_mutex_lock(&h->rng_lock);
    level = upper_draw_level(&h->rng, h->m);
    pthread_mutex_unlock(&h->rng_lock);
    return level;
}

/* Takes a slot, writes the row, finds its place. The reader epoch keeps slots that this insert looks at from
 * being reused under it. */
static anx_status
add_linked(struct hnsw *h, struct graph *g, struct scratch *s, uint64_t label, const void *vector,
           anx_error *err)
{
    struct walk near;
    uint32_t slot;
    bool joined = false;
    anx_status st;

    pthread_mutex_lock(&g->names);
    st = label_find(g, label) != SLOT_NONE ? fail_exists(label, err) : slot_take(g, &slot, err);
    pthread_mutex_unlock(&g->names);
    if (st != ANX_OK)
        return st;
    put_row(g, slot, label, vector);
    (void) space_encode(&g->space, vector, graph_code(g, slot), s->query_buffer);
    st = insert_nearest(g, s, slot, h->base.params.ef_construction, &near, err);
    if (st == ANX_OK)
        st = join_copy(g, &near, label, vector, graph_code(g, slot), &joined, err);
    if (st == ANX_OK && !joined)
        st = insert_link(g, s, slot, draw_level(h), &near, err);
    pthread_mutex_lock(&g->names);
    if (st == ANX_OK && !joined) {
        st = publish_label(g, label, slot, err);
        if (st == ANX_OK)
            set_flags(g, slot, FLAG_LIVE);
        else
            atomic_fetch_add(&g->n_dead, 1); /* linked, never live: repair takes it out */
    } else if (graph_flags(g, slot) & FLAG_LINKED) {
        atomic_fetch_add(&g->n_dead, 1); /* out of memory half way: repair takes it out */
    } else {
        slot_give_back(g, slot); /* never linked, no reader has seen it */
    }
    pthread_mutex_unlock(&g->names);
    if (st == ANX_OK)
        atomic_fetch_add(&g->n_live, 1);
    return st;
}

/* Must the whole graph be made anew before this row can go in? */
static bool
needs_rebuild(const struct graph *g, const void *vector)
{
    if (!g->has_links)
        return atomic_load(&g->n_live) >= SMALL_MAX;
    return g->space.kind == SPACE_LOSSLESS && !space_row_is_bytes(&g->space, vector);
}

static anx_status
add_with_rebuild(struct hnsw *h, uint64_t label, const void *vector, anx_error *err)
{
    struct graph *g;
    anx_status st = ANX_OK;

    pthread_rwlock_wrlock(&h->gate);
    g = atomic_load(&h->graph);
    if (label_find(g, label) != SLOT_NONE)
        st = fail_exists(label, err);
    else if (needs_rebuild(g, vector))
        st = hnsw_rebuild_locked(h, label, vector, NULL, err);
    else
        st = ANX_E_BUSY; /* somebody else rebuilt: the usual way is open again */
    pthread_rwlock_unlock(&h->gate);
    return st;
}

static anx_status
add_once(struct hnsw *h, uint64_t label, const void *vector, bool *again, anx_error *err)
{
    struct scratch *s = scratch_acquire(h, err);
    struct graph *g;
    anx_status st;

    *again = false;
    if (!s)
        return ANX_E_NOMEM;
    pthread_rwlock_rdlock(&h->gate);
    g = reader_enter(h, s);
    if (needs_rebuild(g, vector)) {
        *again = true;
        st = ANX_OK;
    } else {
        st = g->has_links ? add_linked(h, g, s, label, vector, err) : add_small(g, label, vector, err);
    }
    reader_leave(s);
    pthread_rwlock_unlock(&h->gate);
    scratch_release(h, s);
    return st;
}

static anx_status maintain_when_due(struct hnsw *h, anx_error *err);

/* Nothing but a load measures how far rows are from their codes. */
static anx_status
check_changeable(const anx_index *index, anx_error *err)
{
    if (index->params.quantization == ANX_QUANTIZATION_CODES)
        return anx_fail(err, ANX_E_UNSUPPORTED, "an index of codes is loaded once and not changed");
    return ANX_OK;
}

anx_status
hnsw_add(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    anx_status st = check_changeable(index, err);
    bool again;

    if (st == ANX_OK)
        st = maintain_when_due(h, err);
    again = st == ANX_OK;
    while (again) {
        st = add_once(h, label, vector, &again, err);
        if (again) {
            st = add_with_rebuild(h, label, vector, err);
            again = st == ANX_E_BUSY;
        }
    }
    return st;
}

/* --- batches --- */

struct batch {
    struct hnsw *h;
    const uint64_t *labels;
    const uint8_t *vectors;
    pthread_mutex_t lock; /* status, err */
    anx_status status;
    anx_error *err;
};

static void
add_range(void *context, size_t begin, size_t end, size_t worker)
{
    struct batch *b = context;

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        anx_error err = { 0 };
        anx_status st = hnsw_add(&b->h->base, b->labels[i], b->vectors + i * b->h->base.row_size, &err);

        if (st == ANX_OK)
            continue;
        pthread_mutex_lock(&b->lock);
        if (b->status == ANX_OK) {
            b->status = st;
            if (b->err)
                *b->err = err;
        }
        pthread_mutex_unlock(&b->lock);
    }
}

/* Old rows and new ones into one bulk build. */
static anx_status
rebuild_with(struct hnsw *h, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    struct graph *old, *g = NULL;
    struct load *load;
    anx_status st;

    pthread_rwlock_wrlock(&h->gate);
    old = atomic_load(&h->graph);
    load = load_begin(h, atomic_load(&old->n_live) + n, err);
    st = ANX_E_NOMEM;
    if (load) {
        load_as_batch(load);
        st = load_from_graph(load, old, err);
    }
    if (st == ANX_OK)
        st = load_rows(load, n, labels, vectors, err);
    if (st == ANX_OK)
        st = load_finish(load, false, NULL, &g, err);
    else
        load_abort(load);
    if (st == ANX_OK)
        hnsw_publish(h, g);
    pthread_rwlock_unlock(&h->gate);
    return st;
}

static anx_status
check_new_labels(struct hnsw *h, size_t n, const uint64_t *labels, anx_error *err)
{
    struct graph *g;
    anx_status st = ANX_OK;

    pthread_rwlock_rdlock(&h->gate);
    g = atomic_load(&h->graph);
    pthread_mutex_lock(&g->names);
    for (size_t i = 0; i < n && st == ANX_OK; i++)
        if (label_find(g, labels[i]) != SLOT_NONE)
            st = fail_exists(labels[i], err);
    pthread_mutex_unlock(&g->names);
    pthread_rwlock_unlock(&h->gate);
    return st;
}

anx_status
hnsw_add_batch(anx_index *index, size_t n, const uint64_t *labels, const void *vectors, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    struct batch b = { .h = h, .labels = labels, .vectors = vectors, .err = err };
    size_t have = anx_index_count(index);
    anx_pool *pool;
    anx_status st = check_changeable(index, err);

    if (st == ANX_OK)
        st = check_new_labels(h, n, labels, err);
    if (st != ANX_OK)
        return st;
    if (have + n > SMALL_MAX && (double) n >= REBUILD_SHARE * (double) have)
        return rebuild_with(h, n, labels, vectors, err);
    /* Not the index's pool: an add may need that for a rebuild, and pools do not nest. */
    pool = anx_pool_create(n < BATCH_THREADS_FROM ? 1 : index->params.threads);
    if (!pool)
        return anx_fail(err, ANX_E_NOMEM, "could not start threads");
    pthread_mutex_init(&b.lock, NULL);
    anx_pool_for(pool, n, 16, add_range, &b);
    pthread_mutex_destroy(&b.lock);
    anx_pool_destroy(pool);
    return b.status;
}

/* --- removing --- */

static anx_status
remove_locked(struct graph *g, uint64_t label, uint32_t *freed, anx_error *err)
{
    uint32_t id = label_find(g, label), heir;

    if (id == SLOT_NONE)
        return anx_fail(err, ANX_E_NOT_FOUND, "label %llu is not present", (unsigned long long) label);
    label_erase(g, label);
    atomic_fetch_sub(&g->n_live, 1);
    if (id & COPY_BIT) {
        copy_drop(g, id & ~COPY_BIT);
        return ANX_OK;
    }
    heir = graph_flags(g, id) & FLAG_COPIES ? copy_first(g, id) : SLOT_NONE;
    if (heir != SLOT_NONE) { /* the row stays, under the label of one of its copies */
        uint64_t other = g->copies[heir].label;

        label_erase(g, other);
        copy_drop(g, heir);
        atomic_store_explicit(&graph_chunk(g, id)->labels[graph_at(g, id)], other, memory_order_release);
        return label_insert(g, other, id, err); /* the erased places make room */
    }
    atomic_fetch_and_explicit(&graph_chunk(g, id)->flags[graph_at(g, id)], (unsigned char) ~FLAG_LIVE,
                              memory_order_release);
    if (g->has_links)
        atomic_fetch_add(&g->n_dead, 1);
    else
        *freed = id;
    return ANX_OK;
}

anx_status
hnsw_remove(anx_index *index, uint64_t label, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    uint32_t freed = SLOT_NONE;
    struct graph *g;
    anx_status st = check_changeable(index, err);

    if (st != ANX_OK)
        return st;
    pthread_rwlock_rdlock(&h->gate);
    g = atomic_load(&h->graph);
    pthread_mutex_lock(&g->names);
    st = remove_locked(g, label, &freed, err);
    pthread_mutex_unlock(&g->names);
    if (freed != SLOT_NONE)
        retire_slots(g, &freed, 1);
    pthread_rwlock_unlock(&h->gate);
    if (st == ANX_OK)
        st = maintain_when_due(h, err);
    return st;
}

anx_status
hnsw_update(anx_index *index, uint64_t label, const void *vector, anx_error *err)
{
    anx_status st = hnsw_remove(index, label, err);

    if (st != ANX_OK && st != ANX_E_NOT_FOUND)
        return st;
    return hnsw_add(index, label, vector, err);
}

/* Twice the rows since the entry was chosen, or the layer that was scanned then has outgrown that: what was
 * right for few nodes may now miss whole clusters. */
static bool
is_entry_due(struct hnsw *h)
{
    struct graph *g = atomic_load(&h->graph);

    return g->has_links &&
           (atomic_load(&g->n_slot) >= 2 * g->entry_n || upper_entry_level(g, upper_of(g)) > g->entry_level);
}

static bool
is_repair_due(struct hnsw *h)
{
    struct graph *g =
        atomic_load(&h->graph); /* only counters are read; the gate is taken before anything is changed */
    size_t dead = atomic_load(&g->n_dead), slots = atomic_load(&g->n_slot);

    return dead >= DEAD_MIN && (double) dead >= DEAD_SHARE * (double) slots;
}

/* What is done now and then, with all writers waiting. */
static anx_status
maintain_locked(struct hnsw *h, anx_error *err)
{
    struct scratch *s = scratch_acquire(h, err);
    anx_status st = s ? ANX_OK : ANX_E_NOMEM;

    if (st == ANX_OK && is_repair_due(h))
        st = hnsw_repair_locked(h, err);
    if (st == ANX_OK && is_entry_due(h))
        st = entry_choose(atomic_load(&h->graph), s, err);
    scratch_release(h, s);
    return st;
}

static anx_status
maintain_when_due(struct hnsw *h, anx_error *err)
{
    anx_status st = ANX_OK;
    bool due;

    pthread_rwlock_rdlock(&h->gate);
    due = is_repair_due(h) || is_entry_due(h);
    pthread_rwlock_unlock(&h->gate);
    if (due) {
        pthread_rwlock_wrlock(&h->gate);
        st = maintain_locked(h, err);
        pthread_rwlock_unlock(&h->gate);
    }
    reclaim(h);
    return st;
}
