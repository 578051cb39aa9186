/* Depth-first order: see bulk.h. Rows are moved in place along the cycles of the permutation, so that no
 * second copy of the rows is ever held. */
#include <string.h>

#include "ann/hnsw/bulk.h"
#include "ann/hnsw/reach.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

struct renumber {
    struct graph *g;
    const uint32_t *place;
};

static void
swap_bytes(void *a, void *b, void *spare, size_t size)
{
    memcpy(spare, a, size);
    memcpy(a, b, size);
    memcpy(b, spare, size);
}

static void
swap_slots(struct graph *g, uint32_t a, uint32_t b, uint8_t *spare)
{
    struct chunk *ca = graph_chunk(g, a), *cb = graph_chunk(g, b);
    uint64_t label = graph_label(g, a);
    unsigned flags = graph_flags(g, a);

    swap_bytes(graph_code(g, a), graph_code(g, b), spare, g->stride);
    swap_bytes((void *) graph_links(g, a), (void *) graph_links(g, b), spare, g->degree * sizeof(uint32_t));
    if (g->keeps_rows)
        swap_bytes(graph_row(g, a), graph_row(g, b), spare, g->row_size);
    if (g->keeps_residuals)
        swap_bytes(graph_residual(g, a), graph_residual(g, b), spare, sizeof(float));
    atomic_store(&ca->labels[graph_at(g, a)], graph_label(g, b));
    atomic_store(&cb->labels[graph_at(g, b)], label);
    atomic_store(&ca->flags[graph_at(g, a)], (unsigned char) graph_flags(g, b));
    atomic_store(&cb->flags[graph_at(g, b)], (unsigned char) flags);
}

static void
renumber_links(void *context, size_t begin, size_t end, size_t worker)
{
    const struct renumber *r = context;

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        atomic_uint *links = graph_links(r->g, (uint32_t) i);

        for (size_t j = 0; j < r->g->degree; j++) {
            uint32_t id = atomic_load_explicit(&links[j], memory_order_relaxed);

            if (id == SLOT_NONE)
                break;
            atomic_store_explicit(&links[j], r->place[id], memory_order_relaxed);
        }
    }
}

anx_status
bulk_order(struct graph *g, anx_pool *pool, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;
    size_t n = atomic_load(&g->n_slot), widest = g->stride > g->row_size ? g->stride : g->row_size;
    uint32_t *place = anx_alloc_array(alloc, n, sizeof(*place));
    uint32_t *order = anx_alloc_array(alloc, n, sizeof(*order));
    uint8_t *spare = anx_alloc_bytes(alloc, widest > g->degree * 4 ? widest : g->degree * 4);
    struct renumber r = { g, place };
    anx_status st = ANX_OK;

    if (!place || !order || !spare) {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate an order of %zu rows", n);
        goto out;
    }
    st = reach_walk(g, order, NULL, err);
    if (st != ANX_OK)
        goto out;
    for (uint32_t i = 0; i < n; i++)
        place[order[i]] = i;
    anx_pool_for(pool, n, 4096, renumber_links, &r);
    upper_renumber(g, place);
    for (uint32_t i = 0; i < n; i++)
        while (place[i] != i) { /* one row of the cycle goes home with each swap */
            uint32_t to = place[i];

            swap_slots(g, i, to, spare);
            place[i] = place[to];
            place[to] = to;
        }
out:
    anx_free(alloc, place);
    anx_free(alloc, order);
    anx_free(alloc, spare);
    return st;
}
