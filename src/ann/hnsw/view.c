/* An hnsw index shown as plain HNSW, and a plain HNSW graph taken in. Lists are in order of choice (prune.h),
 * so cutting one at 2m keeps the links that lead in different directions. Copies of a row become a chain of
 * nodes: the row's node, then one copy after the other, each also linked like the row. */
#include <string.h>

#include "ann/hnsw/entry.h"
#include "ann/hnsw/file.h"
#include "ann/hnsw/insert.h"
#include "ann/hnsw/load.h"
#include "ann/hnsw/reach.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

struct view {
    struct hnsw *h;
    struct graph *g;
    struct graph *made;  /* owned: the graph of an index too small to have one */
    uint32_t *node;      /* [n_slot] slot -> node, SLOT_NONE */
    uint32_t *slot;      /* [n_row] node -> slot */
    uint32_t n_row;      /* nodes below are rows, the rest copies */
    uint32_t *copy;      /* [n - n_row] node -> copy, copies of a row in a run */
    uint32_t *first_copy; /* [n_row] node of the first copy, SLOT_NONE */
    uint32_t *lowest;    /* [n_slot] number in layer 1, SLOT_NONE */
    uint32_t *above[LEVEL_MAX]; /* number in layer l -> in layer l + 1 */
    uint32_t n;
};

static uint32_t
view_slot(const struct view *v, uint32_t node)
{
    return node < v->n_row ? v->slot[node] : v->g->copies[v->copy[node - v->n_row]].owner;
}

static uint64_t
view_label(const void *context, uint32_t node)
{
    const struct view *v = context;

    return node < v->n_row ? graph_label(v->g, v->slot[node]) : v->g->copies[v->copy[node - v->n_row]].label;
}

static unsigned
view_level(const void *context, uint32_t node)
{
    const struct view *v = context;
    unsigned level = 0;
    uint32_t number = node < v->n_row ? v->lowest[v->slot[node]] : SLOT_NONE;

    while (number != SLOT_NONE) {
        number = v->above[level + 1] ? v->above[level + 1][number] : SLOT_NONE;
        level++;
    }
    return level;
}

static size_t
row_neighbors(const struct view *v, uint32_t slot, size_t have, size_t max, uint32_t *out)
{
    uint32_t ids[ANX_HNSW_M_MAX * 4];
    size_t n = links_read(graph_links(v->g, slot), v->g->degree, ids);

    for (size_t i = 0; i < n && have < max; i++)
        if (ids[i] < atomic_load(&v->g->n_slot) && v->node[ids[i]] != SLOT_NONE)
            out[have++] = v->node[ids[i]];
    return have;
}

/* Copies need the row, the next and the one before; a row needs its first copy. */
static size_t
chain_neighbors(const struct view *v, uint32_t node, uint32_t *out)
{
    size_t n = 0;

    if (node < v->n_row) {
        if (v->first_copy[node] != SLOT_NONE)
            out[n++] = v->first_copy[node];
        return n;
    }
    out[n++] = v->node[view_slot(v, node)];
    if (node + 1 < v->n && view_slot(v, node + 1) == view_slot(v, node))
        out[n++] = node + 1;
    if (node > v->n_row && view_slot(v, node - 1) == view_slot(v, node))
        out[n++] = node - 1;
    return n;
}

static size_t
view_neighbors(const void *context, uint32_t node, unsigned level, uint32_t *out)
{
    const struct view *v = context;
    size_t m = v->h->m, n = 0, n_id;
    uint32_t number, ids[ANX_HNSW_M_MAX];
    const struct layer *layer;

    if (level == 0) {
        uint32_t chain[3];

        n = chain_neighbors(v, node, chain);
        n = n < 2 * m ? n : 2 * m;
        memcpy(out, chain, n * sizeof(*out));
        return row_neighbors(v, view_slot(v, node), n, 2 * m, out);
    }
    number = v->lowest[v->slot[node]];
    for (unsigned l = 1; l < level; l++)
        number = v->above[l][number];
    layer = upper_layer(upper_of(v->g), level);
    n_id = links_read(layer->links + (size_t) number * m, m, ids);
    for (size_t i = 0; i < n_id; i++)
        if (v->node[layer->slot[ids[i]]] != SLOT_NONE)
            out[n++] = v->node[layer->slot[ids[i]]];
    return n;
}

static void
view_row(const void *context, uint32_t node, void *out)
{
    const struct view *v = context;
    const anx_index_params *params = &v->h->base.params;
    uint32_t slot = view_slot(v, node);
    float buffer[1024], *big = NULL;

    if (v->g->keeps_rows) {
        memcpy(out, graph_row(v->g, slot), v->g->row_size);
        return;
    }
    if (!space_is_exact(&v->g->space) && params->fetch &&
        params->fetch(params->fetch_context, view_label(v, node), out))
        return;
    if (params->dim + 1 > ANX_COUNT_OF(buffer))
        big = anx_alloc_array(params->alloc, params->dim + 1, sizeof(float));
    if (big || params->dim + 1 <= ANX_COUNT_OF(buffer))
        space_decode(&v->g->space, graph_code(v->g, slot), out, big ? big : buffer);
    anx_free(params->alloc, big);
}

static void
view_free(struct view *v)
{
    const anx_alloc *alloc = v->h->base.params.alloc;

    anx_free(alloc, v->node);
    anx_free(alloc, v->slot);
    anx_free(alloc, v->copy);
    anx_free(alloc, v->first_copy);
    anx_free(alloc, v->lowest);
    for (size_t l = 0; l < LEVEL_MAX; l++)
        anx_free(alloc, v->above[l]);
    graph_destroy(v->made);
    anx_free(alloc, v);
}

static anx_status
number_layers(struct view *v, anx_error *err)
{
    const anx_alloc *alloc = v->h->base.params.alloc;
    const struct upper *u = upper_of(v->g);

    memset(v->lowest, 0xff, atomic_load(&v->g->n_slot) * sizeof(*v->lowest));
    for (size_t l = 1; l <= upper_levels(u); l++) {
        const struct layer *layer = upper_layer(u, l);
        uint32_t n = atomic_load(&layer->n), n_below = l > 1 ? atomic_load(&upper_layer(u, l - 1)->n) : 0;

        if (l > 1) {
            v->above[l - 1] = anx_alloc_array(alloc, n_below + 1, sizeof(uint32_t));
            if (!v->above[l - 1])
                return anx_fail(err, ANX_E_NOMEM, "could not allocate numbers of %u nodes", n_below);
            memset(v->above[l - 1], 0xff, n_below * sizeof(uint32_t));
        }
        for (uint32_t i = 0; i < n; i++)
            if (l == 1)
                v->lowest[layer->slot[i]] = i;
            else
                v->above[l - 1][layer->down[i]] = i;
    }
    return ANX_OK;
}

static anx_status
number_nodes(struct view *v, anx_error *err)
{
    const anx_alloc *alloc = v->h->base.params.alloc;
    struct graph *g = v->g;
    size_t n_slot = atomic_load(&g->n_slot), n_copy = g->n_copy_used, at = 0;

    v->node = anx_alloc_array(alloc, n_slot + 1, sizeof(uint32_t));
    v->slot = anx_alloc_array(alloc, n_slot + 1, sizeof(uint32_t));
    v->lowest = anx_alloc_array(alloc, n_slot + 1, sizeof(uint32_t));
    v->first_copy = anx_alloc_array(alloc, n_slot + 1, sizeof(uint32_t));
    v->copy = anx_alloc_array(alloc, n_copy + 1, sizeof(uint32_t));
    if (!v->node || !v->slot || !v->lowest || !v->first_copy || !v->copy)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate numbers of %zu rows", n_slot);
    for (uint32_t slot = 0; slot < n_slot; slot++) {
        v->node[slot] = graph_flags(g, slot) & FLAG_LIVE ? v->n_row : SLOT_NONE;
        if (v->node[slot] != SLOT_NONE)
            v->slot[v->n_row++] = slot;
    }
    for (uint32_t node = 0; node < v->n_row; node++) {
        bool has = graph_flags(g, v->slot[node]) & FLAG_COPIES;

        v->first_copy[node] = has ? v->n_row + (uint32_t) at : SLOT_NONE;
        for (uint32_t c = has ? copy_first(g, v->slot[node]) : SLOT_NONE; c != SLOT_NONE && at < n_copy;
             c = g->copies[c].next)
            v->copy[at++] = c;
    }
    v->n = v->n_row + (uint32_t) at;
    return number_layers(v, err);
}

/* A small index gets a graph for the occasion. */
static anx_status
make_graph(struct view *v, anx_error *err)
{
    struct load *load = load_begin(v->h, atomic_load(&v->g->n_live), err);
    anx_status st = load ? load_from_graph(load, v->g, err) : ANX_E_NOMEM;

    if (st == ANX_OK)
        st = load_finish(load, true, NULL, &v->made, err);
    else
        load_abort(load);
    v->g = v->made;
    return st;
}

anx_status
hnsw_view_open(const anx_index *index, struct graph_view *view, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    struct view *v = anx_alloc_zeroed(index->params.alloc, 1, sizeof(*v));
    anx_status st = v ? hnsw_settle(index, err) : anx_fail(err, ANX_E_NOMEM, "could not allocate a view");
    uint32_t top = 0;

    if (v)
        *v = (struct view) { .h = h, .g = atomic_load(&h->graph) };
    if (st == ANX_OK && !v->g->has_links)
        st = make_graph(v, err);
    if (st == ANX_OK)
        st = number_nodes(v, err);
    if (st != ANX_OK) {
        if (v)
            view_free(v);
        return st;
    }
    *view = (struct graph_view) { .context = v, .n = v->n, .m = h->m, .m0 = 2 * h->m, .label = view_label,
                                  .level = view_level, .neighbors = view_neighbors, .row = view_row };
    for (uint32_t node = 0; node < v->n_row; node++)
        if (view_level(v, node) > view_level(v, top))
            top = node;
    view->entry = top;
    view->max_level = v->n ? view_level(v, top) : 0;
    return ANX_OK;
}

void
hnsw_view_close(struct graph_view *view)
{
    view_free((struct view *) (uintptr_t) view->context);
    *view = (struct graph_view) { 0 };
}

/* --- import --- */

struct import {
    const struct graph_view *view;
    struct hnsw *h;
    struct graph *g;
    uint8_t *row;
};

static const void *
import_row(const void *context, size_t i)
{
    const struct import *im = context;

    im->view->row(im->view->context, (uint32_t) i, im->row);
    return im->row;
}

static bool
all_bytes(const struct import *im, const struct space *space)
{
    for (size_t i = 0; i < im->view->n; i++)
        if (!space_row_is_bytes(space, import_row(im, i)))
            return false;
    return true;
}

static anx_status
import_rows(struct import *im, anx_error *err)
{
    struct graph *g = im->g;
    const struct graph_view *view = im->view;
    float *buffer = anx_alloc_array(im->h->base.params.alloc, im->h->base.params.dim + 1, sizeof(float));
    size_t n = view->n;
    anx_status st = buffer ? space_fit(&g->space, n < 20000 ? n : 20000, import_row, im, 0, err)
                           : anx_fail(err, ANX_E_NOMEM, "could not allocate a row");

    for (uint32_t i = 0; i < n && st == ANX_OK; i++) {
        uint32_t slot, ids[GRAPH_M0_MAX];
        size_t n_id;

        st = slot_take(g, &slot, err);
        if (st != ANX_OK)
            break;
        view->row(view->context, i, im->row);
        (void) space_encode(&g->space, im->row, graph_code(g, slot), buffer);
        if (g->keeps_rows)
            memcpy(graph_row(g, slot), im->row, g->row_size);
        atomic_store(&graph_chunk(g, slot)->labels[graph_at(g, slot)], view->label(view->context, i));
        atomic_store(&graph_chunk(g, slot)->flags[graph_at(g, slot)], FLAG_LIVE | FLAG_LINKED);
        n_id = view->neighbors(view->context, i, 0, ids);
        links_write(graph_links(g, slot), g->degree, ids, n_id < g->degree ? n_id : g->degree);
    }
    atomic_store(&g->n_live, n);
    anx_free(im->h->base.params.alloc, buffer);
    return st;
}

/* Layers keep their order by node number; number[node] is the number in the layer being made, below[] in the
 * one under it. */
static anx_status
import_layers(struct import *im, anx_error *err)
{
    const struct graph_view *view = im->view;
    const anx_alloc *alloc = im->h->base.params.alloc;
    uint32_t *number = anx_alloc_array(alloc, view->n + 1, sizeof(*number)), ids[GRAPH_M0_MAX];
    uint32_t *below = anx_alloc_array(alloc, view->n + 1, sizeof(*below)), *spare;
    size_t m = im->h->m;
    anx_status st = number && below ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate layers");

    for (unsigned level = 1; level <= view->max_level && st == ANX_OK; level++) {
        uint32_t n = 0;
        struct layer *layer;

        for (uint32_t i = 0; i < view->n; i++)
            number[i] = view->level(view->context, i) >= level ? n++ : SLOT_NONE;
        if (n == 0)
            break;
        layer = upper_add_layer(im->g, level, n, err);
        if (!layer) {
            st = ANX_E_NOMEM;
            break;
        }
        for (uint32_t i = 0; i < view->n; i++) {
            size_t n_id, kept = 0;

            if (number[i] == SLOT_NONE)
                continue;
            layer->slot[number[i]] = i;
            layer->down[number[i]] = level > 1 ? below[i] : SLOT_NONE;
            n_id = view->neighbors(view->context, i, level, ids);
            for (size_t j = 0; j < n_id && kept < m; j++)
                if (number[ids[j]] != SLOT_NONE)
                    ids[kept++] = number[ids[j]];
            links_write(layer->links + (size_t) number[i] * m, m, ids, kept);
            atomic_fetch_or(&graph_chunk(im->g, i)->flags[graph_at(im->g, i)], FLAG_UPPER);
        }
        atomic_store(&layer->n, n);
        spare = below;
        below = number;
        number = spare;
    }
    anx_free(alloc, number);
    anx_free(alloc, below);
    return st;
}

static anx_status
import_graph(struct import *im, anx_error *err)
{
    struct scratch *s;
    bool lossless;
    struct space probe;
    anx_status st = space_init(&probe, &im->h->base.params, im->h->base.kernels, true, err);

    if (st != ANX_OK)
        return st;
    lossless = probe.kind == SPACE_LOSSLESS && all_bytes(im, &probe);
    space_fini(&probe);
    st = graph_create(im->h, true, lossless, &im->g, err);
    if (st != ANX_OK)
        return st;
    atomic_store(&im->h->graph, im->g);
    st = import_rows(im, err);
    if (st == ANX_OK)
        st = import_layers(im, err);
    s = st == ANX_OK ? scratch_acquire(im->h, err) : NULL;
    if (st == ANX_OK)
        st = s ? reach_repair(im->g, s, err) : ANX_E_NOMEM; /* others leave rows unreachable */
    if (st == ANX_OK)
        st = entry_choose(im->g, s, err);
    scratch_release(im->h, s);
    return st == ANX_OK ? graph_name(im->g, err) : st;
}

anx_status
hnsw_import(const anx_index_params *params, const struct graph_view *view, anx_index **out, anx_error *err)
{
    struct import im = { .view = view };
    anx_status st;

    *out = NULL;
    if (view->max_level > LEVEL_MAX)
        return anx_fail(err, ANX_E_LIMIT, "graph has %zu layers, at most %d are supported", view->max_level,
                        LEVEL_MAX);
    if (view->n > SLOT_MAX)
        return anx_fail(err, ANX_E_LIMIT, "graph has %zu rows, at most %u are supported", view->n, SLOT_MAX);
    st = hnsw_create_empty(params, anx_kernels_best(), &im.h, err);
    if (st != ANX_OK)
        return st;
    if (view->m0 > im.h->degree)
        im.h->degree = view->m0 < ANX_HNSW_M_MAX * 4 ? view->m0 : ANX_HNSW_M_MAX * 4;
    im.row = anx_alloc_bytes(params->alloc, im.h->base.row_size);
    if (!im.row)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a row");
    else if (view->n)
        st = import_graph(&im, err);
    else if ((st = graph_create(im.h, false, true, &im.g, err)) == ANX_OK)
        atomic_store(&im.h->graph, im.g);
    anx_free(params->alloc, im.row);
    if (st != ANX_OK) {
        anx_index_destroy(&im.h->base);
        return st;
    }
    *out = &im.h->base;
    return ANX_OK;
}
