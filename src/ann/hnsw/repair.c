/* Unlinking deleted nodes (after arXiv 2105.09613, FreshDiskANN): every node with a deleted neighbor gets the
 * neighbors of that neighbor as candidates and chooses again; then nothing links to the deleted ones, and
 * when all readers that may still stand on them have left, their slots are used again. Writers wait meanwhile
 * (gate), readers do not. */
#include <string.h>

#include "ann/hnsw/load.h"
#include "ann/hnsw/prune.h"
#include "ann/hnsw/reach.h"
#include "ann/hnsw/upper.h"
#include "ann/hnsw/write.h"
#include "base/alloc.h"
#include "base/error.h"

struct repair_job {
    struct graph *g;
    struct scratch **scratch; /* [pool size] */
    atomic_bool failed;
};

static bool
is_dead(const struct graph *g, uint32_t slot)
{
    return (graph_flags(g, slot) & (FLAG_LINKED | FLAG_LIVE)) == FLAG_LINKED;
}

static void
repair_node(struct graph *g, struct prune *p, uint32_t slot)
{
    uint32_t ids[ANX_HNSW_M_MAX * 4], beyond[ANX_HNSW_M_MAX * 4], live[ANX_HNSW_M_MAX * 4];
    size_t n = links_read(graph_links(g, slot), g->degree, ids), n_live = 0;

    for (size_t i = 0; i < n; i++)
        if (!is_dead(g, ids[i]))
            live[n_live++] = ids[i];
    if (n_live == n)
        return;
    prune_start(p);
    prune_add_ids(p, g, slot, live, n_live);
    for (size_t i = 0; i < n; i++) {
        size_t n_beyond, kept = 0;

        if (!is_dead(g, ids[i]))
            continue;
        n_beyond = links_read(graph_links(g, ids[i]), g->degree, beyond);
        for (size_t j = 0; j < n_beyond; j++)
            if (beyond[j] != slot && !is_dead(g, beyond[j]))
                beyond[kept++] = beyond[j];
        prune_add_ids(p, g, slot, beyond, kept);
    }
    n = prune_select(p, g, g->degree, INSERT_ALPHA, ids);
    links_write(graph_links(g, slot), g->degree, ids, n);
}

/* Dead nodes keep their own links until all are repaired: those are where the others' new neighbors come
 * from. */
static void
repair_range(void *context, size_t begin, size_t end, size_t worker)
{
    struct repair_job *job = context;
    struct prune *p = scratch_prune(job->g, job->scratch[worker], NULL);

    if (!p)
        atomic_store(&job->failed, true);
    for (size_t i = begin; i < end && p; i++)
        if ((graph_flags(job->g, (uint32_t) i) & FLAG_LINKED) && !is_dead(job->g, (uint32_t) i))
            repair_node(job->g, p, (uint32_t) i);
}

static anx_status
unlink_dead(struct graph *g, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;
    size_t n = atomic_load(&g->n_slot), n_dead = 0;
    uint32_t *dead = anx_alloc_array(alloc, n + 1, sizeof(*dead));

    if (!dead)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a list of deleted rows");
    for (uint32_t slot = 0; slot < n; slot++)
        if (is_dead(g, slot)) {
            atomic_store_explicit(&graph_chunk(g, slot)->flags[graph_at(g, slot)], 0, memory_order_release);
            dead[n_dead++] = slot;
        }
    atomic_store(&g->n_dead, 0);
    retire_slots(g, dead, n_dead);
    anx_free(alloc, dead);
    return ANX_OK;
}

static anx_status
repair_graph(struct hnsw *h, struct graph *g, anx_pool *pool, struct scratch **scratch, anx_error *err)
{
    struct repair_job job = { .g = g, .scratch = scratch };
    anx_status st;

    anx_pool_for(pool, atomic_load(&g->n_slot), 512, repair_range, &job);
    if (atomic_load(&job.failed))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate working memory for repair");
    st = upper_repair(g, scratch[0], is_dead, err);
    if (st == ANX_OK)
        st = unlink_dead(g, err);
    if (st == ANX_OK)
        st = reach_repair(g, scratch[0], err);
    (void) h;
    return st;
}

anx_status
hnsw_repair_locked(struct hnsw *h, anx_error *err)
{
    struct graph *g = atomic_load(&h->graph);
    anx_pool *pool = index_pool(&h->base);
    size_t n_worker = pool ? anx_pool_size(pool) : 0;
    struct scratch **scratch;
    anx_status st = ANX_OK;

    if (!g->has_links || atomic_load(&g->n_dead) == 0)
        return ANX_OK;
    if (atomic_load(&g->n_live) <= SMALL_MAX) /* so few rows are better off without a graph */
        return hnsw_rebuild_locked(h, ANX_LABEL_NONE, NULL, NULL, err);
    scratch = anx_alloc_zeroed(h->base.params.alloc, n_worker + 1, sizeof(struct scratch *));
    if (!pool || !scratch)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate repair threads");
    for (size_t i = 0; i < n_worker && st == ANX_OK; i++)
        if (!(scratch[i] = scratch_acquire(h, err)))
            st = ANX_E_NOMEM;
    if (st == ANX_OK)
        st = repair_graph(h, g, pool, scratch, err);
    for (size_t i = 0; i < n_worker && scratch; i++)
        scratch_release(h, scratch[i]);
    anx_free(h->base.params.alloc, scratch);
    return st;
}
