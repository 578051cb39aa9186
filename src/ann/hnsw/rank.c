/* See rank.h. A hit stays when fewer than `within` rows have a smaller code distance: the place that the walk
 * with a list of `within` would give it, without that walk.
 *
 * Rows are counted in rounds. The first looks at every 2^a-th slot, each further one at the slots halfway
 * between, so that all rounds together look at every slot once. Slots lie in the order of the graph, so an
 * even sample has rows of all regions. After each round the counts of the sample have bounds; most hits are
 * far from the border, and a few hundred to a few thousand rows settle them. What is never settled is counted
 * to the end, which is exact; or, where that would take longer, found by the walk.
 *
 * Bounds are those of a Poisson count at Z standard deviations after a square-root transform, made narrower
 * by the share that was looked at (at the end nothing is uncertain). Settled wrongly is one hit in a thousand
 * of those that lie at the border, and fewer the farther from it. */
#include "ann/hnsw/rank.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "ann/hnsw/level0.h"
#include "base/alloc.h"
#include "base/error.h"

#define Z 3.0
#define FIRST_COUNT 12   /* rows nearer than the border expected in the first round */
#define FIRST_LOOK 256   /* but so many slots at least */
#define LOOK_BATCH 64    /* codes asked for at once */
#define LOOK_COST 0.5    /* of a distance in a walk, as are */
#define WALK_DISTANCES 9.0 /* per place of a list, */
#define WALK_MORE 8        /* places that a list needs beyond those that are to be right; */
#define LIST_LONG 2000.0   /* and a list of this length costs twice as much per place */
#define RATHER_COUNT 2.0   /* a count to the end misses nothing, a walk may */

struct census {
    const struct graph *g;
    struct scratch *s;
    const anx_search_params *params;
    const struct space_query *query;
    size_t n_slot, n_looked;
    int32_t *code;  /* [n] of the hits, in their order */
    int32_t *bound; /* [n] the same, ascending */
    size_t *found;  /* [n] labels met at bound[i - 1] or farther, and nearer than bound[i] */
    size_t n;
};

/* ---- The hits ---- */

static int
compare_codes(const void *a, const void *b)
{
    int32_t x = *(const int32_t *) a, y = *(const int32_t *) b;

    return (x > y) - (x < y);
}

/* A label that was removed meanwhile counts as the nearest: it is as good as found before. */
static void
measure_hits(struct census *c, const struct top_k *top)
{
    struct graph *g = (struct graph *) c->g; /* the lock is not part of the value */

    for (size_t at = 0; at < c->n;) {
        size_t end = at + LOOK_BATCH < c->n ? at + LOOK_BATCH : c->n, n = 0;

        pthread_mutex_lock(&g->names);
        if (!g->is_named)
            (void) !graph_name(g, NULL);
        for (; at < end; at++) {
            uint32_t id = label_find(g, top->labels[at]);

            c->code[at] = INT32_MIN;
            if (id != SLOT_NONE && (id & COPY_BIT))
                id = g->copies[id & ~COPY_BIT].owner;
            if (id == SLOT_NONE)
                continue;
            c->s->near[n] = (uint32_t) at;
            c->s->near_code[n++] = graph_code(g, id);
        }
        pthread_mutex_unlock(&g->names);
        query_distances(g, c->query, c->s->near_code, n, c->s->near_dist);
        for (size_t i = 0; i < n; i++)
            c->code[c->s->near[i]] = c->s->near_dist[i];
    }
    memcpy(c->bound, c->code, c->n * sizeof(*c->bound));
    qsort(c->bound, c->n, sizeof(*c->bound), compare_codes);
}

/* ---- The rows ---- */

static size_t
labels_of(const struct graph *graph, uint32_t slot)
{
    struct graph *g = (struct graph *) graph; /* the lock is not part of the value */
    unsigned flags = graph_flags(g, slot);
    size_t n = 1;

    if (!(flags & FLAG_LIVE))
        return 0;
    if (!(flags & FLAG_COPIES))
        return 1;
    pthread_mutex_lock(&g->names);
    for (uint32_t c = copy_first(g, slot); c != SLOT_NONE; c = g->copies[c].next)
        n++;
    pthread_mutex_unlock(&g->names);
    return n;
}

static void
look_at(struct census *c, size_t n)
{
    const struct scratch *s = c->s;
    const anx_kernels *kernels = c->g->space.kernels;
    size_t n_pick;

    query_distances(c->g, c->query, s->near_code, n, s->near_dist);
    n_pick = kernels->select_below(s->near_dist, n, c->bound[c->n - 1], s->near_pick);
    for (size_t i = 0; i < n_pick; i++) {
        size_t at = s->near_pick[i];

        c->found[kernels->count_below(c->bound, c->n, s->near_dist[at] + 1)] += labels_of(c->g, s->near[at]);
    }
    c->n_looked += n;
}

/* False: stopped. */
static bool
look(struct census *c, size_t first, size_t step)
{
    const anx_search_params *p = c->params;
    size_t n = 0;

    for (size_t slot = first; slot < c->n_slot; slot += step) {
        const uint8_t *code = graph_code(c->g, (uint32_t) slot);

        for (size_t b = 0; b < c->g->stride; b += 64)
            __builtin_prefetch(code + b);
        c->s->near[n] = (uint32_t) slot;
        c->s->near_code[n++] = code;
        if (n < LOOK_BATCH)
            continue;
        look_at(c, n);
        n = 0;
        if (p->should_stop && p->should_stop(p->stop_context))
            return false;
    }
    look_at(c, n);
    return true;
}

/* ---- Deciding ---- */

/* How many of bound[] are inside; false: not known yet. */
static bool
decide(const struct census *c, size_t *n_inside)
{
    double share = (double) c->n_looked / (double) c->n_slot, half = 0.5 * Z * sqrt(fmax(1 - share, 0));
    double border = (double) c->params->within * share;
    bool is_all = c->n_looked >= c->n_slot;
    size_t nearer = 0;

    for (*n_inside = 0; *n_inside < c->n; ++*n_inside) {
        double high, low;

        nearer += c->found[*n_inside];
        high = sqrt((double) nearer + 1) + half;
        low = sqrt((double) nearer) - half;
        if (is_all ? nearer < c->params->within : high * high <= border)
            continue;
        return is_all || (low > 0 && low * low >= border);
    }
    return true;
}

/* By a walk with a list of `within` and a few: the code distance of that place. */
static anx_status
decide_by_walk(struct census *c, size_t *n_inside, anx_error *err)
{
    size_t within = c->params->within, ef = c->params->ef, n_label = 0, i;
    size_t list = (within + WALK_MORE > ef ? within + WALK_MORE : ef) + atomic_load(&c->g->n_dead);
    struct walk w;
    anx_status st = search_walk_graph(c->g, c->s, c->params, c->query, list, &w, err);

    if (st != ANX_OK)
        return st;
    for (i = 0; i < w.n && n_label < within; i++)
        n_label += labels_of(c->g, walk_id(&w, i));
    *n_inside = n_label < within || i == 0
                    ? c->n
                    : w.kernels->count_below(c->bound, c->n, w.dist[i - 1] + 1);
    return ANX_OK;
}

static anx_status
count_inside(struct census *c, size_t *n_inside, anx_error *err)
{
    double within = (double) c->params->within;
    double walk = within * WALK_DISTANCES * (1 + within / LIST_LONG) * RATHER_COUNT;
    double first = fmax(FIRST_LOOK, FIRST_COUNT * (double) c->n_slot / within);
    size_t step = 1;

    while ((double) step * 2 * first <= (double) c->n_slot)
        step *= 2;
    for (size_t from = 0;; from = step / 2, step /= 2) {
        if ((double) c->n_slot / (double) step * LOOK_COST > walk)
            return decide_by_walk(c, n_inside, err);
        /* The slots of earlier rounds are the multiples of twice `from`. */
        if (!look(c, from, from ? 2 * from : step))
            return anx_fail(err, ANX_E_CANCELLED, "search was cancelled");
        if (decide(c, n_inside) || step == 1) /* with every slot looked at it is known */
            return ANX_OK;
    }
}

/* ---- The cut ---- */

/* Hits whose code distance, or distance, is less than the limit stay. */
static void
keep_below(struct top_k *top, const int32_t *code, int32_t code_limit, float limit)
{
    struct top_k heap;
    size_t n = 0;

    for (size_t i = 0; i < top->n; i++) {
        if (code ? code[i] >= code_limit : top->distances[i] > limit)
            continue;
        top->distances[n] = top->distances[i];
        top->labels[n++] = top->labels[i];
    }
    /* Offering to the heap's own storage is safe: it never holds more than what was read. */
    top_k_init(&heap, top->k, top->distances, top->labels);
    for (size_t i = 0; i < n; i++)
        top_k_offer(&heap, top->distances[i], top->labels[i]);
    *top = heap;
}

/* Without a graph: all distances are at hand. */
static anx_status
cut_exactly(const struct graph *g, struct scratch *s, const anx_search_params *params, const void *query,
            struct top_k *top, anx_error *err)
{
    anx_search_params all = *params;
    anx_hit_list list = { 0 };
    anx_status st;

    all.filter = NULL;
    all.has_radius = false;
    st = search_scan(g, s, &all, query, &list, err);
    if (st == ANX_OK && list.n > params->within) {
        hit_list_sort(&list);
        keep_below(top, NULL, 0, list.distances[params->within - 1]);
    }
    anx_hit_list_free(&list);
    return st;
}

anx_status
rank_cut(const struct graph *g, struct scratch *scratch, const anx_search_params *params, const void *query,
         const struct space_query *code_query, struct top_k *top, anx_error *err)
{
    struct census c = { .g = g, .s = scratch, .params = params, .query = code_query, .n = top->n };
    size_t n_inside = top->n;
    anx_status st;

    if (top->n == 0 || params->within >= atomic_load(&g->n_live))
        return ANX_OK;
    if (!code_query)
        return cut_exactly(g, scratch, params, query, top, err);
    c.n_slot = atomic_load_explicit(&g->n_slot, memory_order_acquire);
    c.code = anx_alloc_array(scratch->alloc, c.n, sizeof(*c.code));
    c.bound = anx_alloc_array(scratch->alloc, c.n, sizeof(*c.bound));
    c.found = anx_alloc_zeroed(scratch->alloc, c.n, sizeof(*c.found));
    if (c.code && c.bound && c.found) {
        measure_hits(&c, top);
        st = count_inside(&c, &n_inside, err);
    } else {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate room to rank %zu hits", c.n);
    }
    if (st == ANX_OK && n_inside < c.n)
        keep_below(top, c.code, c.bound[n_inside], 0);
    anx_free(scratch->alloc, c.code);
    anx_free(scratch->alloc, c.bound);
    anx_free(scratch->alloc, c.found);
    return st;
}
