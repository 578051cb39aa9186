/* See bulk.h. Steps: layers above 0 by insertion; candidates by two independent partitions; a forward list
 * per row pruned from its candidates; the union with the reverse links, pruned again; reachability;
 * depth-first order. */
#include "ann/hnsw/bulk.h"

#include <stdlib.h>
#include <string.h>

#include "ann/hnsw/entry.h"
#include "ann/hnsw/prune.h"
#include "ann/hnsw/reach.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

/* Independent partitions miss less than one with as many leaves per row. Their number is what ef_construction
 * buys here: two at the default of 200; four cost half as much time again and gave 10 to 15 % of QPS on text
 * (packages). 6 leaves a row and 8 neighbors from each: 5 leaves cost 8 % of QPS at recall 0.99, 8 gained
 * nothing measurable. */
#define EF_PER_PARTITION 100
/* Codes alone are built with more of them: that buys back what fewer links cost, and more (packages, m = 16:
 * recall at ef = 32 from 0.970 to 0.980), and quantizing is work that nobody waits for. */
#define SQ8_PARTITIONS 4
#define PARTITIONS_MAX 8
#define FAN_OUT 6
#define KEEP 8

struct bulk {
    struct graph *g;
    anx_pool *pool;
    size_t n, forward;
    struct pools pools;
    struct scratch **scratch; /* [pool size] */
    atomic_size_t *reverse_at;  /* [n] count of links to a row, then where its next one goes */
    size_t *reverse_start;      /* [n + 1] */
    uint32_t *reverse;
    struct bulk_progress *progress;
    atomic_size_t done;
    atomic_bool failed;
    uint64_t seed;
    anx_status part_status[2];
    anx_error part_error[2];
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
    if (bulk_is_cancelled(b->progress))
        return;
    for (size_t i = begin; i < end && p; i++) {
        size_t n = atomic_load_explicit(&b->pools.count[i], memory_order_relaxed);

        n = n < b->pools.width ? n : b->pools.width;
        prune_start(p);
        prune_add_ids(p, b->g, (uint32_t) i, b->pools.list + i * b->pools.width, n);
        n = prune_select(p, b->g, b->forward, FORWARD_ALPHA, ids);
        links_write(graph_links(b->g, (uint32_t) i), b->g->degree, ids, n);
        for (size_t j = 0; j < n; j++)
            __builtin_prefetch((const void *) &b->reverse_at[ids[j]], 1);
        for (size_t j = 0; j < n; j++)
            atomic_fetch_add_explicit(&b->reverse_at[ids[j]], 1, memory_order_relaxed);
    }
    report(b, "choosing neighbors", end - begin, worker);
}

static void
fill_reverse(void *context, size_t begin, size_t end, size_t worker)
{
    struct bulk *b = context;
    uint32_t ids[ANX_HNSW_M_MAX * 4];

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        size_t n = links_read(graph_links(b->g, (uint32_t) i), b->g->degree, ids);

        for (size_t j = 0; j < n; j++) /* all over memory: ask for all before touching any */
            __builtin_prefetch((const void *) &b->reverse_at[ids[j]], 1);
        for (size_t j = 0; j < n; j++)
            b->reverse[atomic_fetch_add_explicit(&b->reverse_at[ids[j]], 1, memory_order_relaxed)] =
                (uint32_t) i;
    }
}

/* Counts become places. */
static anx_status
make_reverse(struct bulk *b, anx_error *err)
{
    size_t total = 0;

    for (size_t i = 0; i < b->n; i++) {
        size_t n = atomic_load_explicit(&b->reverse_at[i], memory_order_relaxed);

        b->reverse_start[i] = total;
        atomic_store_explicit(&b->reverse_at[i], total, memory_order_relaxed);
        total += n;
    }
    b->reverse_start[b->n] = total;
    b->reverse = anx_alloc_array(b->g->index->base.params.alloc, total + 1, sizeof(*b->reverse));
    if (!b->reverse || atomic_load(&b->failed))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu reverse links", total);
    anx_pool_for(b->pool, b->n, 1024, fill_reverse, b);
    return ANX_OK;
}

static void
merge_reverse(void *context, size_t begin, size_t end, size_t worker)
{
    struct bulk *b = context;
    struct graph *g = b->g;
    struct prune *p = scratch_prune(g, b->scratch[worker], NULL);
    uint32_t ids[ANX_HNSW_M_MAX * 4];

    if (bulk_is_cancelled(b->progress))
        return;
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
            if (level[i] == l && (st = bulk_check_cancelled(b->progress, err)) == ANX_OK)
                st = upper_insert(g, b->scratch[0], i, l, err);
    anx_free(alloc, level);
    return st;
}

static anx_status
collect_candidates(struct bulk *b, uint64_t seed, anx_error *err)
{
    size_t keep = b->n <= 1024 ? 31 : KEEP;
    const anx_index_params *params = &b->g->index->base.params;
    uint64_t n_partition = params->ef_construction / EF_PER_PARTITION;
    anx_status st;

    if (params->quantization == ANX_QUANTIZATION_SQ8)
        n_partition *= SQ8_PARTITIONS;
    n_partition =
        n_partition < 1 || b->n <= 1024 ? 1 : n_partition; /* so few rows are one leaf, compared exactly */
    n_partition = n_partition > PARTITIONS_MAX ? PARTITIONS_MAX : n_partition;
    st = pools_init(&b->pools, b->g, b->n, n_partition * FAN_OUT * KEEP, err);
    for (uint64_t i = 0; i < n_partition && st == ANX_OK; i++)
        st = bulk_partition(b->g, b->pool, &b->pools, seed + i * 0x51ed27, FAN_OUT, keep, b->progress, err);
    return st;
}

/* The layers, which are one thread's work, are made while the pool collects candidates: neither needs the
 * other. */
static void
run_part(void *context, size_t begin, size_t end, size_t worker)
{
    struct bulk *b = context;

    (void) worker;
    for (size_t part = begin; part < end; part++)
        b->part_status[part] = part == 0 ? build_upper(b, b->seed, &b->part_error[part])
                                         : collect_candidates(b, b->seed, &b->part_error[part]);
}

static anx_status
build_parts(struct bulk *b, anx_error *err)
{
    anx_pool *side = anx_pool_create(anx_pool_size(b->pool) > 1 ? 2 : 1);

    if (!side)
        return anx_fail(err, ANX_E_NOMEM, "could not start build threads");
    anx_pool_for(side, 2, 1, run_part, b);
    anx_pool_destroy(side);
    for (size_t part = 0; part < 2; part++)
        if (b->part_status[part] != ANX_OK) {
            if (err)
                *err = b->part_error[part];
            return b->part_status[part];
        }
    return ANX_OK;
}

static anx_status
link_level0(struct bulk *b, anx_error *err)
{
    const anx_alloc *alloc = b->g->index->base.params.alloc;
    anx_status st;

    b->reverse_at = anx_alloc_zeroed(alloc, b->n, sizeof(*b->reverse_at));
    b->reverse_start = anx_alloc_zeroed(alloc, b->n + 1, sizeof(*b->reverse_start));
    if (!b->reverse_at || !b->reverse_start)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate reverse links of %zu rows", b->n);
    atomic_store(&b->done, 0);
    anx_pool_for(b->pool, b->n, 256, choose_forward, b);
    pools_fini(&b->pools, b->g);
    st = bulk_check_cancelled(b->progress, err); /* rows that were left out have no lists */
    if (st == ANX_OK)
        st = make_reverse(b, err);
    if (st != ANX_OK)
        return st;
    atomic_store(&b->done, 0);
    anx_pool_for(b->pool, b->n, 256, merge_reverse, b);
    return bulk_check_cancelled(b->progress, err);
}

anx_status
bulk_link(struct graph *g, anx_pool *pool, uint64_t seed, struct bulk_progress *progress, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;
    size_t n_worker = anx_pool_size(pool);
    struct bulk b = { .g = g, .pool = pool, .n = atomic_load(&g->n_slot), .progress = progress,
                      .seed = seed };
    anx_status st = ANX_OK;

    if (b.n == 0)
        return ANX_OK;
    b.forward = g->degree * 5 / 6; /* leaves room for links back */
    b.scratch = anx_alloc_zeroed(alloc, n_worker, sizeof(struct scratch *));
    if (!b.scratch)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate build threads");
    for (size_t i = 0; i < n_worker && st == ANX_OK; i++)
        if (!(b.scratch[i] = scratch_acquire(g->index, err)))
            st = ANX_E_NOMEM;
    if (st == ANX_OK)
        st = build_parts(&b, err);
    if (st == ANX_OK)
        st = link_level0(&b, err);
    for (uint32_t i = 0; i < b.n && st == ANX_OK; i++)
        atomic_fetch_or(&graph_chunk(g, i)->flags[graph_at(g, i)], FLAG_LINKED | FLAG_LIVE);
    if (st == ANX_OK)
        st = reach_repair(g, b.scratch[0], err);
    if (st == ANX_OK && !bulk_report(progress, "ordering", b.n, b.n))
        st = anx_fail(err, ANX_E_CANCELLED, "build was cancelled");
    if (st == ANX_OK)
        st = bulk_order(g, pool, err);
    if (st == ANX_OK && !bulk_report(progress, "ordering", b.n, b.n))
        st = bulk_check_cancelled(progress, err);
    if (st == ANX_OK)
        st = reach_walk(g, NULL, NULL, err); /* parents under the new numbers */
    if (st == ANX_OK)
        st = entry_choose(g, b.scratch[0], err);
    pools_fini(&b.pools, g);
    anx_free(alloc, b.reverse_at);
    anx_free(alloc, b.reverse_start);
    anx_free(alloc, b.reverse);
    for (size_t i = 0; i < n_worker; i++)
        scratch_release(g->index, b.scratch[i]);
    anx_free(alloc, b.scratch);
    return st;
}
