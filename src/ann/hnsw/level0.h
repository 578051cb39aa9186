/* The walk over layer 0 in memory. */
#ifndef ANX_ANN_HNSW_LEVEL0_H
#define ANX_ANN_HNSW_LEVEL0_H

#include "ann/hnsw/upper.h"
#include "ann/hnsw/walk.h"

struct level0 {
    const struct graph *g;
    const struct space_query *query;
    struct scratch *scratch;
};

/* The not yet seen neighbors of id, marked, with their codes' addresses. No branch on "seen": it is
 * unpredictable. */
static inline size_t
level0_unseen(const struct graph *g, struct scratch *s, uint32_t id, uint32_t *near)
{
    const atomic_uint *links = graph_links(g, id);
    const uint8_t tag = s->tag;
    const uint32_t limit = s->n_visible;
    size_t n = 0;

    for (size_t i = 0; i < g->degree; i++) {
        uint32_t slot = atomic_load_explicit(&links[i], memory_order_acquire);
        uint8_t seen;

        if (slot >= limit) {
            if (slot == SLOT_NONE)
                break;
            continue; /* a row younger than this walk, or a forged id in a mapped file */
        }
        seen = s->visited[slot];
        s->visited[slot] = tag;
        near[n] = slot;
        s->near_code[n] = graph_code(g, slot);
        __builtin_prefetch(
            s->near_code[n]); /* 6 % (384 bytes) to 18 % (128): the kernel would ask for them 100 ns later */
        __builtin_prefetch(s->near_code[n] + 64);
        n += seen != tag;
    }
    return n;
}

static inline void
level0_ahead(const struct level0 *v, uint32_t id)
{
    const atomic_uint *links;

    if (id == SLOT_NONE)
        return;
    links = graph_links(v->g, id);
    for (size_t i = 0; i < v->g->degree; i += 16)
        __builtin_prefetch((const void *) (links + i));
}

static inline size_t
level0_expand(struct level0 *v, struct walk *w, uint32_t id)
{
    size_t n = level0_unseen(v->g, v->scratch, id, w->near);

    query_distances(v->g, v->query, v->scratch->near_code, n, w->near_dist);
    return n;
}

/* Fresh visited marks, a list of ef, and at most n_start starts from the layers above. The graph may be
 * empty: then w->n is 0. */
static inline anx_status
level0_start(const struct graph *g, struct scratch *s, const struct space_query *query, size_t ef,
             size_t n_start, struct walk *w, anx_error *err)
{
    struct starts starts = { .max = n_start };
    anx_status st = scratch_visit(s, atomic_load_explicit(&g->n_slot, memory_order_acquire), err);

    *w = (struct walk) { 0 };
    if (st == ANX_OK)
        st = scratch_pool(s, ef, err);
    if (st != ANX_OK)
        return st;
    *w = (struct walk) { .kernels = g->space.kernels, .dist = s->pool_dist, .id = s->pool_id, .ef = ef,
                         .near = s->near, .near_dist = s->near_dist, .near_pick = s->near_pick };
    upper_enter(g, s, query, &starts);
    for (size_t i = 0; i < starts.n; i++) {
        if (starts.slot[i] < s->n_visible)
            s->visited[starts.slot[i]] = s->tag;
        walk_insert(w, starts.slot[i], starts.dist[i]);
    }
    return ANX_OK;
}

#endif
