/* See insert.h. */
#include "ann/hnsw/insert.h"

#include <string.h>

#include "ann/hnsw/level0.h"
#include "ann/hnsw/prune.h"
#include "base/error.h"

#define WALK_NAME insert_walk
#define WALK_GRAPH struct level0
#define WALK_EXPAND level0_expand
#include "ann/hnsw/walk_run.h"

anx_status
insert_nearest(struct graph *g, struct scratch *s, uint32_t slot, size_t ef, struct walk *w, anx_error *err)
{
    struct space_query self = { .code = graph_code(g, slot) };
    struct level0 view = { g, &self, s };
    anx_status st = level0_start(g, s, &self, ef, w, err);

    if (st != ANX_OK)
        return st;
    w->path = s->path;
    w->path_size = s->near_size;
    (void) insert_walk(&view, w);
    return ANX_OK;
}

static void
set_linked(struct graph *g, uint32_t slot)
{
    atomic_fetch_or_explicit(&graph_chunk(g, slot)->flags[graph_at(g, slot)], FLAG_LINKED, memory_order_release);
}

anx_status
insert_link_back(struct graph *g, struct scratch *s, uint32_t from, uint32_t to, anx_error *err)
{
    atomic_uint *links = graph_links(g, from);
    uint32_t ids[ANX_HNSW_M_MAX * 4 + 1];
    struct prune *p = scratch_prune(g, s, err);
    size_t n;

    if (!p)
        return ANX_E_NOMEM;
    anx_spin_lock(node_spin(g, from));
    n = links_read(links, g->degree, ids);
    for (size_t i = 0; i < n; i++)
        if (ids[i] == to) {
            anx_spin_unlock(node_spin(g, from));
            return ANX_OK;
        }
    if (n < g->degree) {
        atomic_store_explicit(&links[n], to, memory_order_release);
    } else {
        prune_start(p);
        ids[n] = to;
        prune_add_ids(p, g, from, ids, n + 1);
        n = prune_select(p, g, g->degree, INSERT_ALPHA, ids);
        links_write(links, g->degree, ids, n);
    }
    anx_spin_unlock(node_spin(g, from));
    return ANX_OK;
}

anx_status
insert_link(struct graph *g, struct scratch *s, uint32_t slot, unsigned level, const struct walk *w, anx_error *err)
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
    links_write(graph_links(g, slot), g->degree, ids, n);
    set_linked(g, slot);
    for (size_t i = 0; i < n && st == ANX_OK; i++)
        st = insert_link_back(g, s, ids[i], slot, err);
    if (st == ANX_OK && level > 0) {
        pthread_mutex_lock(&g->upper_lock);
        st = upper_insert(g, s, slot, level, err);
        pthread_mutex_unlock(&g->upper_lock);
    }
    return st;
}
