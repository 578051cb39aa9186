/* See bulk.h. Steps: layers above 0 by insertion; candidates by two independent partitions; a forward list per row pruned
 * from its candidates; the union with the reverse links, pruned again; reachability; depth-first order. */
#include "ann/hnsw/bulk.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ann/hnsw/insert.h"
#include "ann/hnsw/prune.h"
#include "ann/hnsw/reach.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

#ifdef ANX_TUNE
#define PARTITIONS ((size_t)anx_tune[0])
#define FAN_OUT ((size_t)anx_tune[1])
#define KEEP ((size_t)anx_tune[2])
#undef FORWARD_ALPHA
#undef MERGE_ALPHA
#define FORWARD_ALPHA ((float)anx_tune[3])
#define MERGE_ALPHA ((float)anx_tune[4])
#define FORWARD_N ((size_t)anx_tune[5])
#define REFINE_EF ((size_t)anx_tune[6])
#define REFINE_ALPHA ((float)anx_tune[7])
#else
#define PARTITIONS 2
#define FAN_OUT 6
#define KEEP 8
#define FORWARD_N (g->degree * 2 / 3)
#define REFINE_EF 48
#define REFINE_ALPHA 1.2f
#endif
#define POOL_WIDTH (PARTITIONS * FAN_OUT * KEEP)

struct bulk {
    struct graph *g;
    anx_pool *pool;
    size_t n, forward;
    struct pools c;
    struct scratch **scratch; /* [pool size] */
    atomic_uint *reverse_count; /* [n] */
    size_t *reverse_start;      /* [n + 1] */
    uint32_t *reverse;
    uint32_t *next; /* [n][degree] lists being made while the present ones are walked */
    struct bulk_progress *progress;
    atomic_size_t done;
    atomic_bool failed;
};

static void
report(struct bulk *b, const char *phase, size_t n, size_t worker)
{
    size_t done = atomic_fetch_add(&b->done, n) + n;

    if (worker == 0)
        (void) bulk_report(b->progress, phase, done, b->n);
}

static void
choose_forward(void *context, size_t begin, size_t end, size_t worker)
{
    struct bulk *b = context;
    struct prune *p = scratch_prune(b->g, b->scratch[worker], NULL);
    uint32_t ids[ANX_HNSW_M_MAX * 4];

    if (!p)
        atomic_store(&b->failed, true);
    for (size_t i = begin; i < end && p; i++) {
        size_t n = atomic_load_explicit(&b->c.count[i], memory_order_relaxed);

        n = n < b->c.width ? n : b->c.width;
        prune_start(p);
        for (size_t j = 0; j < n; j++)
            prune_add(p, b->g, b->c.list[i * b->c.width + j].id, b->c.list[i * b->c.width + j].dist);
        n = prune_select(p, b->g, b->forward, FORWARD_ALPHA, ids);
        links_write(graph_links(b->g, (uint32_t) i), b->g->degree, ids, n);
        for (size_t j = 0; j < n; j++)
            atomic_fetch_add_explicit(&b->reverse_count[ids[j]], 1, memory_order_relaxed);
    }
    report(b, "choosing neighbors", end - begin, worker);
}

/* Where a walk from the entry to row i leads, its path included: what gives the graph its longer links. */
static void
refine_forward(void *context, size_t begin, size_t end, size_t worker)
{
    struct bulk *b = context;
    struct graph *g = b->g;
    struct scratch *s = b->scratch[worker];
    struct prune *p = scratch_prune(g, s, NULL);
    uint32_t ids[ANX_HNSW_M_MAX * 4];

    for (size_t i = begin; i < end && p; i++) {
        size_t n;
        struct walk w;

        if (insert_nearest(g, s, (uint32_t) i, REFINE_EF, &w, NULL) != ANX_OK) {
            atomic_store(&b->failed, true);
            return;
        }
        prune_start(p);
        for (size_t j = 0; j < w.n; j++)
            if (walk_id(&w, j) != i)
                prune_add(p, g, walk_id(&w, j), w.dist[j]);
        n = links_read(graph_links(g, (uint32_t) i), g->degree, ids);
        prune_add_ids(p, g, (uint32_t) i, ids, n);
        for (size_t j = 0; j < w.n_path; j++)
            if (w.path[j] != i)
                prune_add_ids(p, g, (uint32_t) i, &w.path[j], 1);
        n = prune_select(p, g, b->forward, REFINE_ALPHA, ids);
        for (size_t j = 0; j < g->degree; j++)
            b->next[i * g->degree + j] = j < n ? ids[j] : SLOT_NONE;
        for (size_t j = 0; j < n; j++)
            atomic_fetch_add_explicit(&b->reverse_count[ids[j]], 1, memory_order_relaxed);
    }
    report(b, "refining", end - begin, worker);
}

static void
install_next(void *context, size_t begin, size_t end, size_t worker)
{
    struct bulk *b = context;

    (void) worker;
    for (size_t i = begin; i < end; i++)
        links_write(graph_links(b->g, (uint32_t) i), b->g->degree, b->next + i * b->g->degree, b->g->degree);
}

static void
fill_reverse(struct bulk *b)
{
    uint32_t ids[ANX_HNSW_M_MAX * 4];

    for (size_t i = 0; i < b->n; i++)
        b->reverse_start[i + 1] = b->reverse_start[i] + atomic_load(&b->reverse_count[i]);
    for (uint32_t i = 0; i < b->n; i++) {
        size_t n = links_read(graph_links(b->g, i), b->g->degree, ids);

        for (size_t j = 0; j < n; j++)
            b->reverse[b->reverse_start[ids[j] + 1] - atomic_fetch_sub(&b->reverse_count[ids[j]], 1)] = i;
    }
}

static void
merge_reverse(void *context, size_t begin, size_t end, size_t worker)
{
    struct bulk *b = context;
    struct graph *g = b->g;
    struct prune *p = scratch_prune(g, b->scratch[worker], NULL);
    uint32_t ids[ANX_HNSW_M_MAX * 4];

    for (size_t i = begin; i < end && p; i++) {
        size_t n = links_read(graph_links(g, (uint32_t) i), g->degree, ids);

        prune_start(p);
        prune_add_ids(p, g, (uint32_t) i, ids, n);
        prune_add_ids(p, g, (uint32_t) i, b->reverse + b->reverse_start[i],
                      b->reverse_start[i + 1] - b->reverse_start[i]);
        n = prune_select(p, g, g->degree, MERGE_ALPHA, ids);
        links_write(graph_links(g, (uint32_t) i), g->degree, ids, n);
    }
    report(b, "linking", end - begin, worker);
}

/* All rows become nodes; levels are drawn in slot order, nodes inserted from the highest level down. */
static anx_status
build_upper(struct bulk *b, uint64_t seed, anx_error *err)
{
    struct graph *g = b->g;
    const anx_alloc *alloc = g->index->base.params.alloc;
    anx_rng rng = anx_rng_seed(seed);
    uint8_t *level = anx_alloc_array(alloc, b->n, 1);
    unsigned top = 0;
    anx_status st = ANX_OK;

    if (!level)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate levels of %zu rows", b->n);
    for (size_t i = 0; i < b->n; i++) {
        level[i] = (uint8_t) upper_draw_level(&rng, g->index->m);
        top = level[i] > top ? level[i] : top;
    }
    for (unsigned l = top; l >= 1 && st == ANX_OK; l--)
        for (uint32_t i = 0; i < b->n && st == ANX_OK; i++)
            if (level[i] == l)
                st = upper_insert(g, b->scratch[0], i, l, err);
    anx_free(alloc, level);
    return st;
}

static anx_status
collect_candidates(struct bulk *b, uint64_t seed, anx_error *err)
{
    size_t keep = b->n <= 1024 ? 31 : KEEP;
    anx_status st = pools_init(&b->c, b->g, b->n, POOL_WIDTH, err);

    for (uint64_t i = 0; i < PARTITIONS && st == ANX_OK; i++)
        st = bulk_partition(b->g, b->pool, &b->c, seed + i * 0x51ed27, FAN_OUT, keep, b->progress, err);
    return st;
}

static anx_status
link_level0(struct bulk *b, anx_error *err)
{
    const anx_alloc *alloc = b->g->index->base.params.alloc;
    size_t total = 0;
    anx_status st = ANX_OK;

    b->reverse_count = anx_alloc_zeroed(alloc, b->n, sizeof(*b->reverse_count));
    b->reverse_start = anx_alloc_zeroed(alloc, b->n + 1, sizeof(*b->reverse_start));
    if (!b->reverse_count || !b->reverse_start)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate reverse links of %zu rows", b->n);
    anx_pool_for(b->pool, b->n, 256, choose_forward, b);
    pools_fini(&b->c, b->g);
    for (size_t i = 0; i < b->n; i++)
        total += atomic_load(&b->reverse_count[i]);
    b->reverse = anx_alloc_array(alloc, total + 1, sizeof(*b->reverse));
    if (!b->reverse || atomic_load(&b->failed))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu reverse links", total);
    fill_reverse(b);
    atomic_store(&b->done, 0);
    anx_pool_for(b->pool, b->n, 256, merge_reverse, b);
    return st;
}

static anx_status
refine(struct bulk *b, anx_error *err)
{
    const anx_alloc *alloc = b->g->index->base.params.alloc;
    size_t total = 0;

    b->next = anx_alloc_array(alloc, b->n * b->g->degree, sizeof(*b->next));
    if (!b->next)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate refined links of %zu rows", b->n);
    atomic_store(&b->done, 0);
    for (size_t i = 0; i < b->n; i++) atomic_store(&b->reverse_count[i], 0);
    anx_pool_for(b->pool, b->n, 256, refine_forward, b);
    anx_pool_for(b->pool, b->n, 4096, install_next, b);
    anx_free(alloc, b->next);
    anx_free(alloc, b->reverse);
    for (size_t i = 0; i < b->n; i++)
        total += atomic_load(&b->reverse_count[i]);
    b->reverse = anx_alloc_array(alloc, total + 1, sizeof(*b->reverse));
    if (!b->reverse || atomic_load(&b->failed))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu reverse links", total);
    fill_reverse(b);
    atomic_store(&b->done, 0);
    anx_pool_for(b->pool, b->n, 256, merge_reverse, b);
    return ANX_OK;
}

anx_status
bulk_link(struct graph *g, anx_pool *pool, uint64_t seed, struct bulk_progress *progress, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;
    size_t n_worker = anx_pool_size(pool);
    struct bulk b = { .g = g, .pool = pool, .n = atomic_load(&g->n_slot), .progress = progress };
    anx_status st = ANX_OK;

    if (b.n == 0)
        return ANX_OK;
    b.forward = FORWARD_N;
    b.scratch = anx_alloc_zeroed(alloc, n_worker, sizeof(struct scratch *));
    if (!b.scratch)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate build threads");
    for (size_t i = 0; i < n_worker && st == ANX_OK; i++)
        if (!(b.scratch[i] = scratch_acquire(g->index, err)))
            st = ANX_E_NOMEM;
    if (st == ANX_OK)
        st = build_upper(&b, seed, err);
    if (st == ANX_OK)
        st = collect_candidates(&b, seed, err);
    if (st == ANX_OK)
        st = link_level0(&b, err);
    for (uint32_t i = 0; i < b.n && st == ANX_OK; i++)
        atomic_fetch_or(&graph_chunk(g, i)->flags[graph_at(g, i)], FLAG_LINKED | FLAG_LIVE);
    if (st == ANX_OK && REFINE_EF) st = refine(&b, err);
#ifdef ANX_TUNE
    { size_t d=0; for (uint32_t i=0;i<b.n;i++){uint32_t t[512]; d+=links_read(graph_links(g,i),g->degree,t);} printf("deg %.1f fwd %.1f\n",(double)d/b.n,(double)b.reverse_start[b.n]/b.n);}
#endif
    for (uint32_t i = 0; i < b.n && st == ANX_OK; i++)
        atomic_fetch_or(&graph_chunk(g, i)->flags[graph_at(g, i)], FLAG_LINKED | FLAG_LIVE);
    if (st == ANX_OK)
        st = reach_repair(g, b.scratch[0], err);
    if (st == ANX_OK && !bulk_report(progress, "ordering", b.n, b.n))
        st = anx_fail(err, ANX_E_CANCELLED, "build was cancelled");
    if (st == ANX_OK)
        st = bulk_order(g, pool, err);
    if (st == ANX_OK)
        st = reach_walk(g, NULL, NULL, err); /* parents under the new numbers */
    pools_fini(&b.c, g);
    anx_free(alloc, b.reverse_count);
    anx_free(alloc, b.reverse_start);
    anx_free(alloc, b.reverse);
    for (size_t i = 0; i < n_worker; i++)
        scratch_release(g->index, b.scratch[i]);
    anx_free(alloc, b.scratch);
    return st;
}
