/* See insert.h. */
#include "ann/hnsw/insert.h"

#include <string.h>

#include "ann/hnsw/level0.h"
#include "ann/hnsw/prune.h"
#include "base/error.h"

#define WALK_NAME insert_walk
#define WALK_GRAPH struct level0
#define WALK_EXPAND level0_expand
#define WALK_AHEAD level0_ahead
#include "ann/hnsw/walk_run.h"

anx_status
insert_nearest(struct graph *g, struct scratch *s, uint32_t slot, size_t ef, struct walk *w, anx_error *err)
{
    struct space_query self = { .code = graph_code(g, slot) };
    struct level0 view = { g, &self, s };
    anx_status st = level0_start(g, s, &self, ef, STARTS_INSERT, w, err);

    if (st != ANX_OK)
        return st;
    (void) insert_walk(&view, w);
    return ANX_OK;
}

static void
set_linked(struct graph *g, uint32_t slot)
{
    atomic_fetch_or_explicit(&graph_chunk(g, slot)->flags[graph_at(g, slot)], FLAG_LINKED,
                             memory_order_release);
}

static bool
contains(const uint32_t *ids, size_t n, uint32_t id)
{
    for (size_t i = 0; i < n; i++)
        if (ids[i] == id)
            return true;
    return false;
}

/* Puts id into the list, when full in the place of the last link to a node whose parent is another. */
static bool
squeeze_in(const struct graph *g, uint32_t from, uint32_t *ids, size_t *n, uint32_t id)
{
    if (*n < g->degree) {
        ids[(*n)++] = id;
        return true;
    }
    for (size_t i = *n; i-- > 0;)
        if (graph_parent(g, ids[i]) != from) {
            ids[i] = id;
            return true;
        }
    return false;
}

/* Replaces the full list of a node by a choice among it and `to`; children stay. Caller holds the node's
 * lock. */
static void
choose_again(struct graph *g, struct prune *p, uint32_t from, const uint32_t *old, size_t n_old, uint32_t to,
             bool force)
{
    uint32_t ids[ANX_HNSW_M_MAX * 4];
    size_t n;

    prune_start(p);
    prune_add_ids(p, g, from, old, n_old);
    prune_add_ids(p, g, from, &to, 1);
    n = prune_select(p, g, g->degree, INSERT_ALPHA, ids);
    for (size_t i = 0; i < n_old; i++)
        if (graph_parent(g, old[i]) == from && !contains(ids, n, old[i]))
            (void) squeeze_in(g, from, ids, &n, old[i]); /* children are at most n_old, so there is a place */
    if (force && !contains(ids, n, to))
        (void) squeeze_in(g, from, ids, &n, to);
    links_write(graph_links(g, from), g->degree, ids, n);
    if (contains(ids, n, to) && graph_parent(g, to) == SLOT_NONE)
        graph_set_parent(g, to, from);
}

anx_status
insert_link_back(struct graph *g, struct scratch *s, uint32_t from, uint32_t to, bool force, anx_error *err)
{
    atomic_uint *links = graph_links(g, from);
    uint32_t ids[ANX_HNSW_M_MAX * 4];
    struct prune *p = scratch_prune(g, s, err);
    size_t n;

    if (!p)
        return ANX_E_NOMEM;
    anx_spin_lock(node_spin(g, from));
    n = links_read(links, g->degree, ids);
    if (!contains(ids, n, to)) {
        if (n < g->degree) {
            atomic_store_explicit(&links[n], to, memory_order_release);
            if (graph_parent(g, to) == SLOT_NONE)
                graph_set_parent(g, to, from);
        } else {
            choose_again(g, p, from, ids, n, to, force);
        }
    }
    anx_spin_unlock(node_spin(g, from));
    return ANX_OK;
}

anx_status
insert_link(struct graph *g, struct scratch *s, uint32_t slot, unsigned level, const struct walk *w,
            anx_error *err)
{
    size_t n, forward = g->degree / 2 + g->degree / 8;
    uint32_t ids[ANX_HNSW_M_MAX * 4];
    struct prune *p = scratch_prune(g, s, err);
    anx_status st = ANX_OK;

    if (!p)
        return ANX_E_NOMEM;
    prune_start(p);
    for (size_t i = 0; i < w->n; i++)
        if (walk_id(w, i) != slot)
            prune_add(p, g, walk_id(w, i), w->dist[i]);
    n = prune_select(p, g, forward, INSERT_ALPHA, ids);
    graph_set_parent(g, slot, SLOT_NONE);
    links_write(graph_links(g, slot), g->degree, ids, n);
    set_linked(g, slot);
    for (size_t i = 0; i < n && st == ANX_OK; i++)
        st = insert_link_back(g, s, ids[i], slot, false, err);
    for (size_t i = 0; i < n && st == ANX_OK && graph_parent(g, slot) == SLOT_NONE; i++)
        st = insert_link_back(g, s, ids[i], slot, true, err);
    if (st == ANX_OK && level > 0) {
        pthread_mutex_lock(&g->upper_lock);
        st = upper_insert(g, s, slot, level, err);
        pthread_mutex_unlock(&g->upper_lock);
    }
    return st;
}
