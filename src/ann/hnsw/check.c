/* See check.h. One predicate per rule; the first that fails is reported. */
#include "ann/hnsw/check.h"

#include <string.h>

#include "ann/hnsw/reach.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

static anx_status
check_links(const struct graph *g, uint32_t slot, size_t n_slot, anx_error *err)
{
    const atomic_uint *links = graph_links(g, slot);
    uint32_t ids[ANX_HNSW_M_MAX * 4];
    size_t n = links_read(links, g->degree, ids);

    for (size_t i = 0; i < n; i++) {
        if (ids[i] >= n_slot)
            return anx_fail(err, ANX_E_CORRUPT, "slot %u links to slot %u of %zu", slot, ids[i], n_slot);
        if (ids[i] == slot)
            return anx_fail(err, ANX_E_CORRUPT, "slot %u links to itself", slot);
        if (!(graph_flags(g, ids[i]) & FLAG_LINKED))
            return anx_fail(err, ANX_E_CORRUPT, "slot %u links to slot %u, which is not in the graph", slot,
                            ids[i]);
        for (size_t j = 0; j < i; j++)
            if (ids[j] == ids[i])
                return anx_fail(err, ANX_E_CORRUPT, "slot %u links to slot %u twice", slot, ids[i]);
    }
    for (size_t i = n; i < g->degree; i++)
        if (atomic_load(&links[i]) != SLOT_NONE)
            return anx_fail(err, ANX_E_CORRUPT, "slot %u has a link after the end of its list", slot);
    return ANX_OK;
}

static anx_status
check_slot(const struct graph *g, uint32_t slot, size_t n_slot, anx_error *err)
{
    unsigned flags = graph_flags(g, slot);
    anx_status st = ANX_OK;

    if ((flags & FLAG_LIVE) && label_find(g, graph_label(g, slot)) != slot)
        return anx_fail(err, ANX_E_CORRUPT, "label %llu of slot %u is not in the label map",
                        (unsigned long long) graph_label(g, slot), slot);
    if (g->has_links && (flags & FLAG_LIVE) && !(flags & FLAG_LINKED))
        return anx_fail(err, ANX_E_CORRUPT, "slot %u is live but not in the graph", slot);
    if ((flags & FLAG_COPIES) && copy_first(g, slot) == SLOT_NONE)
        return anx_fail(err, ANX_E_CORRUPT, "slot %u is marked as copied but has no copies", slot);
    if (flags & FLAG_LINKED)
        st = check_links(g, slot, n_slot, err);
    return st;
}

static anx_status
check_copies(const struct graph *g, size_t n_slot, anx_error *err)
{
    size_t used = 0;

    for (uint32_t i = 0; i < g->n_copy; i++) {
        const struct copy *c = &g->copies[i];

        if (c->owner == SLOT_NONE)
            continue;
        used++;
        if (c->owner >= n_slot || !(graph_flags(g, c->owner) & FLAG_LIVE) ||
            !(graph_flags(g, c->owner) & FLAG_COPIES))
            return anx_fail(err, ANX_E_CORRUPT, "copy %u belongs to slot %u, which has none", i, c->owner);
        if (label_find(g, c->label) != (i | COPY_BIT))
            return anx_fail(err, ANX_E_CORRUPT, "label %llu of copy %u is not in the label map",
                            (unsigned long long) c->label, i);
    }
    if (used != g->n_copy_used)
        return anx_fail(err, ANX_E_CORRUPT, "%zu copies are counted, %zu exist", g->n_copy_used, used);
    return ANX_OK;
}

static anx_status
check_layer(const struct graph *g, size_t level, size_t n_slot, anx_error *err)
{
    const struct upper *u = upper_of(g);
    const struct layer *layer = upper_layer(u, level);
    uint32_t n = atomic_load(&layer->n), ids[ANX_HNSW_M_MAX];

    for (uint32_t i = 0; i < n; i++) {
        size_t n_id = links_read(layer->links + (size_t) i * g->index->m, g->index->m, ids);

        if (layer->slot[i] >= n_slot || !(graph_flags(g, layer->slot[i]) & FLAG_UPPER))
            return anx_fail(err, ANX_E_CORRUPT,
                            "node %u of layer %zu is slot %u, which is not in upper layers", i, level,
                            layer->slot[i]);
        if (level > 1 && (layer->down[i] >= atomic_load(&upper_layer(u, level - 1)->n) ||
                          upper_layer(u, level - 1)->slot[layer->down[i]] != layer->slot[i]))
            return anx_fail(err, ANX_E_CORRUPT, "node %u of layer %zu is not the same row below", i, level);
        for (size_t j = 0; j < n_id; j++)
            if (ids[j] >= n || ids[j] == i)
                return anx_fail(err, ANX_E_CORRUPT, "node %u of layer %zu links to node %u of %u", i, level,
                                ids[j], n);
    }
    return ANX_OK;
}

/* The tree of parents: a parent links to its child, and all paths end at the root. Depth is bounded by a
 * counter, so that a cycle ends too. */
static anx_status
check_parents(const struct graph *g, size_t n_slot, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;
    uint8_t *is_rooted = anx_alloc_zeroed(alloc, n_slot + 1, 1);
    uint32_t root = g->root;
    anx_status st =
        is_rooted ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate a check of %zu rows", n_slot);

    for (uint32_t slot = 0; slot < n_slot && st == ANX_OK; slot++) {
        uint32_t at = slot, ids[ANX_HNSW_M_MAX * 4];
        size_t depth = 0;

        if (!(graph_flags(g, slot) & FLAG_LINKED))
            continue;
        for (; at != root && !is_rooted[at] && st == ANX_OK; at = graph_parent(g, at)) {
            uint32_t parent = graph_parent(g, at);
            bool is_linked = false;

            if (parent >= n_slot || ++depth > n_slot) {
                st = anx_fail(err, ANX_E_CORRUPT, "slot %u cannot be reached from the root, slot %u", slot,
                              root);
                break;
            }
            for (size_t i = 0, n = links_read(graph_links(g, parent), g->degree, ids); i < n; i++)
                is_linked |= ids[i] == at;
            if (!is_linked)
                st = anx_fail(err, ANX_E_CORRUPT, "slot %u has parent %u, which does not link to it", at,
                              parent);
        }
        for (at = slot; at != root && !is_rooted[at] && st == ANX_OK; at = graph_parent(g, at))
            is_rooted[at] = 1;
    }
    anx_free(alloc, is_rooted);
    return st;
}

static anx_status
check_graph(const struct graph *g, anx_error *err)
{
    size_t n = atomic_load(&g->n_slot), live = 0, dead = 0, upper = 0;
    anx_status st = ANX_OK;

    for (uint32_t slot = 0; slot < n && st == ANX_OK; slot++) {
        unsigned flags = graph_flags(g, slot);

        live += (flags & FLAG_LIVE) != 0;
        dead += (flags & FLAG_LINKED) && !(flags & FLAG_LIVE);
        upper += (flags & FLAG_UPPER) != 0;
        st = check_slot(g, slot, n, err);
    }
    if (st == ANX_OK)
        st = check_copies(g, n, err);
    if (st != ANX_OK)
        return st;
    if (live + g->n_copy_used != atomic_load(&g->n_live))
        return anx_fail(err, ANX_E_CORRUPT, "%zu rows are counted, %zu are live", atomic_load(&g->n_live),
                        live + g->n_copy_used);
    if (g->n_named != live + g->n_copy_used)
        return anx_fail(err, ANX_E_CORRUPT, "the label map has %zu labels for %zu rows", g->n_named,
                        live + g->n_copy_used);
    if (!g->has_links)
        return ANX_OK;
    if (dead != atomic_load(&g->n_dead))
        return anx_fail(err, ANX_E_CORRUPT, "%zu deleted nodes are counted, %zu exist",
                        atomic_load(&g->n_dead), dead);
    if (upper_levels(upper_of(g)) > 0 && atomic_load(&upper_layer(upper_of(g), 1)->n) != upper)
        return anx_fail(err, ANX_E_CORRUPT, "layer 1 has %u nodes, %zu rows are marked",
                        atomic_load(&upper_layer(upper_of(g), 1)->n), upper);
    for (size_t level = 1; level <= upper_levels(upper_of(g)) && st == ANX_OK; level++)
        st = check_layer(g, level, n, err);
    if (st == ANX_OK && !g->index->base.is_mapped)
        st = check_parents(g, n, err);
    return st;
}

anx_status
hnsw_check(const anx_index *index, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    anx_status st;

    pthread_rwlock_wrlock(&h->gate);
    st = atomic_load(&h->graph)->is_named ? ANX_OK : graph_name(atomic_load(&h->graph), err);
    if (st == ANX_OK)
        st = check_graph(atomic_load(&h->graph), err);
    pthread_rwlock_unlock(&h->gate);
    return st;
}
