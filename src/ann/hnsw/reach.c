/* See reach.h. */
#include "ann/hnsw/reach.h"

#include <string.h>

#include "ann/hnsw/insert.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

#define REACH_EF 48
#define BRIDGES 4

/* A walk in progress. A step of the stack is a node and the next of its links to look at. */
struct reach {
    struct graph *g;
    size_t n_slot;
    uint8_t *is_met; /* [n_slot] */
    struct step {
        uint32_t slot, next;
    } *stack; /* [n_slot] */
    uint32_t *order; /* borrowed, may be NULL */
    size_t n_met;
};

static anx_status
reach_init(struct reach *r, struct graph *g, uint32_t *order, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;

    *r = (struct reach) { .g = g, .n_slot = atomic_load(&g->n_slot), .order = order };
    r->is_met = anx_alloc_zeroed(alloc, r->n_slot + 1, 1);
    r->stack = anx_alloc_array(alloc, r->n_slot + 1, sizeof(*r->stack));
    if (!r->is_met || !r->stack) {
        anx_free(alloc, r->is_met);
        anx_free(alloc, r->stack);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a walk over %zu rows", r->n_slot);
    }
    return ANX_OK;
}

static void
reach_fini(struct reach *r)
{
    anx_free(r->g->index->base.params.alloc, r->is_met);
    anx_free(r->g->index->base.params.alloc, r->stack);
}

/* A node of the top layer, else any linked one; SLOT_NONE in an empty graph. */
static uint32_t
choose_root(struct graph *g)
{
    const struct upper *u = upper_of(g);
    size_t n = atomic_load_explicit(&g->n_slot, memory_order_acquire);

    g->root = SLOT_NONE;
    if (upper_levels(u) > 0 && atomic_load(&upper_layer(u, upper_levels(u))->n) > 0)
        g->root = upper_layer(u, upper_levels(u))->slot[0];
    for (uint32_t slot = 0; slot < n && g->root == SLOT_NONE; slot++)
        if (graph_flags(g, slot) & FLAG_LINKED)
            g->root = slot;
    return g->root;
}

static void
meet(struct reach *r, uint32_t slot, uint32_t parent, size_t *n_stack)
{
    r->is_met[slot] = 1;
    if (graph_chunk(r->g, slot)->parents) /* a mapped file has none */
        graph_set_parent(r->g, slot, parent);
    if (r->order)
        r->order[r->n_met] = slot;
    r->n_met++;
    r->stack[(*n_stack)++] = (struct step) { slot, 0 };
}

static void
walk_from(struct reach *r, uint32_t from, uint32_t parent)
{
    size_t n_stack = 0;

    meet(r, from, parent, &n_stack);
    while (n_stack) {
        struct step *step = &r->stack[n_stack - 1];
        uint32_t id =
            step->next < r->g->degree
                ? atomic_load_explicit(&graph_links(r->g, step->slot)[step->next], memory_order_relaxed)
                : SLOT_NONE;

        if (id == SLOT_NONE) {
            n_stack--;
            continue;
        }
        step->next++;
        if (id < r->n_slot && !r->is_met[id])
            meet(r, id, step->slot, &n_stack);
    }
}

anx_status
reach_walk(struct graph *g, uint32_t *order, size_t *n_lost, anx_error *err)
{
    struct reach r;
    uint32_t root = choose_root(g);
    anx_status st = reach_init(&r, g, order, err);
    size_t lost = 0;

    if (st != ANX_OK)
        return st;
    if (root != SLOT_NONE)
        walk_from(&r, root, SLOT_NONE);
    for (uint32_t slot = 0; slot < r.n_slot; slot++)
        if (!r.is_met[slot] && (graph_flags(g, slot) & FLAG_LINKED)) {
            size_t before = r.n_met;

            walk_from(&r, slot, SLOT_NONE);
            lost += r.n_met - before;
        }
    if (n_lost)
        *n_lost = lost;
    reach_fini(&r);
    return ANX_OK;
}

static bool
link_free(struct graph *g, uint32_t from, uint32_t to)
{
    atomic_uint *links = graph_links(g, from);

    for (size_t i = 0; i < g->degree; i++) {
        uint32_t id = atomic_load_explicit(&links[i], memory_order_relaxed);

        if (id == to)
            return true;
        if (id == SLOT_NONE) {
            atomic_store_explicit(&links[i], to, memory_order_release);
            return true;
        }
    }
    return false;
}

/* Gives `from` a link to `to`: a free place, or the place of a link to a node whose parent is another. */
static bool
link_to(struct graph *g, uint32_t from, uint32_t to)
{
    atomic_uint *links = graph_links(g, from);

    if (link_free(g, from, to))
        return true;
    for (size_t i = g->degree; i-- > 0;) {
        uint32_t id = atomic_load_explicit(&links[i], memory_order_relaxed);

        if (graph_parent(g, id) != from) {
            atomic_store_explicit(&links[i], to, memory_order_release);
            return true;
        }
    }
    return false;
}

/* What cannot be reached is most often a whole cluster far from all others. One link makes it reachable; it
 * is bridged both ways from several near nodes where there is room. That searches enter it is entry.h's
 * matter. */
static anx_status
adopt(struct reach *r, struct scratch *s, uint32_t lost, anx_error *err)
{
    struct graph *g = r->g;
    struct walk w;
    anx_status st = insert_nearest(g, s, lost, REACH_EF, &w, err);
    uint32_t parent = SLOT_NONE;
    size_t n_bridge = 0;

    if (st != ANX_OK)
        return st;
    for (size_t i = 0; i < w.n && n_bridge < BRIDGES; i++) {
        uint32_t id = walk_id(&w, i);

        if (!r->is_met[id] || !(parent == SLOT_NONE ? link_to(g, id, lost) : link_free(g, id, lost)))
            continue;
        parent = parent == SLOT_NONE ? id : parent;
        (void) link_free(g, lost, id);
        n_bridge++;
    }
    for (uint32_t slot = 0; slot < r->n_slot && parent == SLOT_NONE; slot++) /* the walk met only lost ones */
        if (r->is_met[slot] && link_to(g, slot, lost))
            parent = slot;
    walk_from(r, lost, parent);
    return ANX_OK;
}

anx_status
reach_repair(struct graph *g, struct scratch *s, anx_error *err)
{
    struct reach r;
    uint32_t root = choose_root(g);
    anx_status st = reach_init(&r, g, NULL, err);

    if (st != ANX_OK)
        return st;
    for (uint32_t slot = 0; slot < r.n_slot; slot++) /* old parents must not protect links of this round */
        graph_set_parent(g, slot, SLOT_NONE);
    if (root != SLOT_NONE)
        walk_from(&r, root, SLOT_NONE);
    for (uint32_t slot = 0; slot < r.n_slot && st == ANX_OK; slot++)
        if (!r.is_met[slot] && (graph_flags(g, slot) & FLAG_LINKED))
            st = adopt(&r, s, slot, err);
    reach_fini(&r);
    return st;
}
