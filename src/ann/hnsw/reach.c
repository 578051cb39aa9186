/* See reach.h. */
#include "ann/hnsw/reach.h"

#include <string.h>

#include "ann/hnsw/insert.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

#define REACH_EF 48

uint32_t
reach_root(const struct graph *g)
{
    const struct upper *u = upper_of(g);
    size_t n = atomic_load_explicit(&g->n_slot, memory_order_acquire);

    if (upper_levels(u) > 0 && atomic_load(&upper_layer(u, upper_levels(u))->n) > 0)
        return upper_layer(u, upper_levels(u))->slot[0];
    for (uint32_t slot = 0; slot < n; slot++)
        if (graph_flags(g, slot) & FLAG_LINKED)
            return slot;
    return SLOT_NONE;
}

size_t
reach_flood(const struct graph *g, uint32_t root, uint8_t *reached, uint32_t *stack)
{
    size_t n_stack = 0, n = 0;

    if (reached[root])
        return 0;
    reached[root] = 1;
    stack[n_stack++] = root;
    while (n_stack) {
        const atomic_uint *links = graph_links(g, stack[--n_stack]);

        n++;
        for (size_t i = 0; i < g->degree; i++) {
            uint32_t id = atomic_load_explicit(&links[i], memory_order_relaxed);

            if (id == SLOT_NONE)
                break;
            if (!reached[id]) {
                reached[id] = 1;
                stack[n_stack++] = id;
            }
        }
    }
    return n;
}

/* Gives `from` a link to `to`: a free place, or the place of the last link whose loss reached[] survives for now. */
static bool
link_to(struct graph *g, uint32_t from, uint32_t to, bool force)
{
    atomic_uint *links = graph_links(g, from);
    bool done = true;

    anx_spin_lock(node_spin(g, from));
    if (atomic_load_explicit(&links[g->degree - 1], memory_order_relaxed) == SLOT_NONE) {
        size_t n = 0;

        while (atomic_load_explicit(&links[n], memory_order_relaxed) != SLOT_NONE)
            n++;
        atomic_store_explicit(&links[n], to, memory_order_release);
    } else if (force) {
        atomic_store_explicit(&links[g->degree - 1], to, memory_order_release);
    } else {
        done = false;
    }
    anx_spin_unlock(node_spin(g, from));
    return done;
}

/* Links `lost` from the nearest reached node that has room; the nearest one loses its farthest link when none has. */
static anx_status
adopt(struct graph *g, struct scratch *s, uint32_t lost, const uint8_t *reached, bool *replaced, anx_error *err)
{
    struct walk w;
    anx_status st = insert_nearest(g, s, lost, REACH_EF, &w, err);
    uint32_t nearest = SLOT_NONE;

    if (st != ANX_OK)
        return st;
    for (size_t i = 0; i < w.n; i++) {
        uint32_t id = walk_id(&w, i);

        if (id == lost || !reached[id])
            continue;
        if (nearest == SLOT_NONE)
            nearest = id;
        if (link_to(g, id, lost, false))
            return ANX_OK;
    }
    if (nearest == SLOT_NONE)
        nearest = reach_root(g);
    *replaced = true;
    (void) link_to(g, nearest, lost, true);
    return ANX_OK;
}

anx_status
reach_repair(struct graph *g, struct scratch *s, size_t *n_fixed, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;
    size_t n = atomic_load(&g->n_slot), fixed = 0;
    uint8_t *reached = anx_alloc_array(alloc, n + 1, 1);
    uint32_t *stack = anx_alloc_array(alloc, n + 1, sizeof(*stack)), root = reach_root(g);
    bool replaced = root != SLOT_NONE;
    anx_status st = ANX_OK;

    if (!reached || !stack)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a reachability check of %zu rows", n);
    /* A replaced link may cut something else off, so flood again until a round replaces none. Each round ends with fewer
     * lost rows in practice; the bound is for the theory. */
    for (int round = 0; round < 8 && replaced && st == ANX_OK; round++) {
        replaced = false;
        memset(reached, 0, n);
        (void) reach_flood(g, root, reached, stack);
        for (uint32_t slot = 0; slot < n && st == ANX_OK; slot++) {
            if (reached[slot] || !(graph_flags(g, slot) & FLAG_LINKED))
                continue;
            st = adopt(g, s, slot, reached, &replaced, err);
            (void) reach_flood(g, slot, reached, stack);
            fixed++;
        }
    }
    anx_free(alloc, reached);
    anx_free(alloc, stack);
    if (n_fixed)
        *n_fixed = fixed;
    return st;
}
