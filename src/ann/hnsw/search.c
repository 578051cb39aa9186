/* See search.h. A search walks codes, then measures the best candidates on the rows (rerank), unless codes
 * are exact. */
#include "ann/hnsw/search.h"

#include <math.h>
#include <string.h>

#include "ann/hnsw/filter.h"
#include "ann/hnsw/level0.h"
#include "ann/hnsw/rank.h"
#include "base/error.h"

#define WALK_NAME search_walk
#define WALK_GRAPH struct level0
#define WALK_EXPAND level0_expand
#define WALK_AHEAD level0_ahead
#include "ann/hnsw/walk_run.h"

/* A list of no more than k finds the first neighbors of a region and misses the next ones: a few more places
 * cost little and are worth 2 % of recall at ef = k = 10. */
#define EF_MARGIN_MAX 8
/* Codes alone come with a better graph (bulk.c): three quarters of the list find as much as the whole one
 * does in a graph beside rows, and that is taken as speed (packages: recall between -0.003 and +0.009 at
 * equal ef, QPS 1.1x at ef 32, 1.2x at 64, 1.3x at 128). */
#define SQ8_LIST 0.75
/* A range search that needs a longer list than this scans instead. */
#define RANGE_EF_MAX 4096

float
search_distance(const struct graph *g, struct scratch *s, const anx_search_params *search, const void *query,
                uint32_t slot, uint64_t label)
{
    const struct hnsw *h = g->index;
    const anx_index_params *params = &h->base.params;
    void *context = search->fetch_context ? search->fetch_context : params->fetch_context;
    const void *row = NULL;

    if (g->keeps_rows)
        row = graph_row(g, slot);
    else if (!space_is_exact(&g->space) && params->fetch)
        row = params->fetch(context, label, s->row);
    if (!row) {
        space_decode(&g->space, graph_code(g, slot), s->row, s->query_buffer);
        row = s->row;
    }
    return h->base.kernels->distance[params->metric][params->scalar](query, row, params->dim);
}

static void
take_label(struct hit_taker *t, uint64_t label, float distance)
{
    const anx_search_params *p = t->params;

    if (p->has_radius && !(distance < p->radius))
        return;
    if (p->filter && !filter_accepts(p->filter, label))
        return;
    t->n_taken++;
    if (t->top)
        top_k_offer(t->top, distance, label);
    else if (t->status == ANX_OK)
        t->status = hit_list_push(t->list, distance, label, NULL);
}

anx_status
copies_of(const struct graph *graph, struct scratch *s, uint32_t slot, size_t *n)
{
    struct graph *g = (struct graph *) graph; /* the lock is not part of the value */
    anx_status st;

    *n = 0;
    pthread_mutex_lock(&g->names);
    st = scratch_hits(s, g->n_copy_used, NULL);
    for (uint32_t c = copy_first(g, slot); c != SLOT_NONE && st == ANX_OK; c = g->copies[c].next)
        s->hit_label[(*n)++] = g->copies[c].label;
    pthread_mutex_unlock(&g->names);
    return st;
}

/* Labels of copies may have rows of their own behind `fetch` (codes were equal, rows need not be). */
static void
take_copies(struct hit_taker *t, uint32_t slot, float distance)
{
    const struct graph *g = t->g;
    bool fetches = !g->keeps_rows && !space_is_exact(&g->space) && g->index->base.params.fetch;
    size_t n;
    anx_status st = copies_of(g, t->scratch, slot, &n);

    if (st != ANX_OK)
        t->status = st;
    for (size_t i = 0; i < n; i++) {
        uint64_t label = t->scratch->hit_label[i];

        take_label(t, label,
                   fetches ? search_distance(g, t->scratch, t->params, t->query, slot, label) : distance);
    }
}

void
hits_take(struct hit_taker *t, uint32_t slot, int32_t code_distance)
{
    const struct graph *g = t->g;
    unsigned flags = graph_flags(g, slot);
    uint64_t label = graph_label(g, slot);
    float distance;

    if (!(flags & FLAG_LIVE))
        return;
    if (t->is_exact)
        distance = (float) code_distance;
    else
        distance = search_distance(g, t->scratch, t->params, t->query, slot, label);
    t->distance = distance;
    take_label(t, label, distance);
    if (flags & FLAG_COPIES)
        take_copies(t, slot, distance);
}

/* --- scans --- */

static anx_status
scan(struct hit_taker *t, const struct space_query *code_query, anx_error *err)
{
    const struct graph *g = t->g;
    size_t n = atomic_load_explicit(&g->n_slot, memory_order_acquire);
    bool by_code = t->is_exact;

    for (uint32_t slot = 0; slot < n; slot++) {
        int32_t d = 0;

        if (!(graph_flags(g, slot) & FLAG_LIVE))
            continue;
        if (by_code) {
            const uint8_t *code = graph_code(g, slot);

            query_distances(g, code_query, &code, 1, &d);
        }
        hits_take(t, slot, d);
        if ((slot & 255) == 255 && t->params->should_stop && t->params->should_stop(t->params->stop_context))
            return anx_fail(err, ANX_E_CANCELLED, "search was cancelled");
    }
    return t->status == ANX_OK ? ANX_OK : anx_fail(err, t->status, "could not allocate room for hits");
}

void
search_make_query(const struct graph *g, struct scratch *s, const void *query, struct space_query *out)
{
    *out = (struct space_query) { .code = s->query_code, .buffer = s->query_buffer };
    if (g->has_links)
        space_query(&g->space, query, out);
}

anx_status
search_scan(const struct graph *g, struct scratch *s, const anx_search_params *params, const void *query,
            anx_hit_list *list, anx_error *err)
{
    struct space_query code_query;
    struct hit_taker t = { .g = g, .scratch = s, .params = params, .query = query, .list = list };

    search_make_query(g, s, query, &code_query);
    t.is_exact = code_query.is_exact;
    return scan(&t, &code_query, err);
}

/* --- walks --- */

anx_status
search_walk_graph(const struct graph *g, struct scratch *s, const anx_search_params *params,
                  const struct space_query *query, size_t ef, struct walk *w, anx_error *err)
{
    struct level0 view = { g, query, s };
    anx_status st = level0_start(g, s, query, ef, STARTS_SEARCH, w, err);

    if (st != ANX_OK)
        return st;
    w->should_stop = params->should_stop;
    w->stop_context = params->stop_context;
    if (!search_walk(&view, w))

        return anx_fail(err, ANX_E_CANCELLED, "search was cancelled");
    return ANX_OK;
}

static void
prefetch_row(const struct graph *g, uint32_t slot)
{
    const uint8_t *row = graph_row(g, slot);

    for (size_t b = 0; b < g->row_size && b < 256; b += 64)
        __builtin_prefetch(row + b);
}

/* What codes alone are off by, learned from rows that were fetched: distance = unit * code distance + offset,
 * with a spread. A row whose code says that it is farther than the bound by SPREADS of them is not worth
 * fetching. Codes of rows outside of the range say little, so those are always fetched and teach nothing. */
#define LEARN_FROM 8
#define SPREADS 4.0
#define CLIPPED_SHARE 32 /* one component of so many at an end of the range: rows in it have fewer */
struct offsets {
    double unit, sum, sum2;
    size_t n;
};

static void
offsets_add(struct offsets *o, float distance, int32_t code_distance)
{
    double offset = (double) distance - o->unit * (double) code_distance;

    if (isnan(offset)) /* it was not measured */
        return;
    o->sum += offset;
    o->sum2 += offset * offset;
    o->n++;
}

static bool
offsets_exclude(const struct offsets *o, int32_t code_distance, float bound)
{
    double n = (double) o->n, mean = o->sum / n, spread2 = o->sum2 / n - mean * mean;
    double beyond = o->unit * (double) code_distance + mean - (double) bound;

    return beyond > 0 && beyond * beyond > SPREADS * SPREADS * spread2;
}

/* Sixteen bytes at a time, in the compiler's own vectors: it is asked of every candidate. */
static bool
is_outside(const struct graph *g, uint32_t slot)
{
    typedef uint8_t bytes __attribute__((vector_size(16)));
    const uint8_t *code = graph_code(g, slot);
    size_t dim = g->space.turned_dim, clipped = 0, i = 0;

    while (i + sizeof(bytes) <= dim) {
        bytes count = { 0 };

        for (size_t n = 0; n < UINT8_MAX && i + sizeof(bytes) <= dim; n++, i += sizeof(bytes)) {
            bytes part;

            memcpy(&part, code + i, sizeof(part));
            count -= (bytes) (part == 0) | (bytes) (part == UINT8_MAX);
        }
        for (size_t j = 0; j < sizeof(bytes); j++)
            clipped += count[j];
    }
    for (; i < dim; i++)
        clipped += (code[i] == 0) | (code[i] == UINT8_MAX);
    return clipped * CLIPPED_SHARE > dim;
}

/* Measures candidates in order until `enough` were looked at, or `patience` of them in a row brought nothing.
 */
void
hits_take_nearest(struct hit_taker *t, const struct walk *w, size_t enough, size_t patience)
{
    bool rows = t->g->keeps_rows, learns = !rows && !t->is_exact && t->top && t->unit > 0;
    struct offsets offsets = { .unit = (double) t->unit };
    size_t in_vain = 0;

    enough = enough < w->n ? enough : w->n;
    for (size_t i = 0; i < 3 && i < enough && rows; i++)
        prefetch_row(t->g, walk_id(w, i));
    for (size_t i = 0; i < enough && in_vain < patience; i++) {
        float bound = t->top ? top_k_bound(t->top) : 0;
        bool teaches = learns && !is_outside(t->g, walk_id(w, i));

        if (rows && i + 3 < enough)
            prefetch_row(t->g, walk_id(w, i + 3));
        if (teaches && offsets.n >= LEARN_FROM && offsets_exclude(&offsets, w->dist[i], bound))
            continue;
        t->distance = NAN;
        hits_take(t, walk_id(w, i), w->dist[i]);
        if (teaches)
            offsets_add(&offsets, t->distance, w->dist[i]);
        in_vain = t->top && top_k_bound(t->top) == bound && t->top->n == t->top->k ? in_vain + 1 : 0;
    }
}

/* How long a list the walk gets. */
static size_t
list_size(const struct graph *g, size_t ef, size_t k)
{
    size_t margin = k / 2 < EF_MARGIN_MAX ? k / 2 : EF_MARGIN_MAX;

    if (g->index->base.params.quantization == ANX_QUANTIZATION_SQ8) {
        ef = (size_t) ((double) ef * SQ8_LIST);
        margin = margin * 5 / 8;
    }
    return ef > k + margin ? ef : k + margin;
}

static anx_status
search_graph(const struct graph *g, struct scratch *s, const anx_search_params *params, const void *query,
             size_t k, struct top_k *top, anx_error *err)
{
    size_t ef = list_size(g, params->ef, k), n = atomic_load_explicit(&g->n_slot, memory_order_acquire);
    struct space_query code_query;

    search_make_query(g, s, query, &code_query);
    for (;; ef *= 2) {
        struct hit_taker t = { .g = g, .scratch = s, .params = params, .query = query, .top = top,
                               .is_exact = code_query.is_exact, .unit = code_query.unit };
        struct walk w;
        anx_status st = search_walk_graph(g, s, params, &code_query, ef, &w, err);
        size_t enough = rerank_count(g, &code_query, k, ef);

        if (st != ANX_OK)
            return st;
        top->n = 0;
        hits_take_nearest(&t, &w, enough, rerank_patience(g, ef));
        /* Deleted rows took places: look at the rest of the list, then ask for a longer one. */
        if (t.n_taken < k && enough < w.n)
            for (size_t i = enough; i < w.n && t.n_taken < k; i++)
                hits_take(&t, walk_id(&w, i), w.dist[i]);
        if (t.status != ANX_OK)
            return anx_fail(err, t.status, "could not allocate room for copies");
        if (t.n_taken >= k || params->has_radius || w.n < ef || ef >= n || atomic_load(&g->n_dead) == 0)
            return ANX_OK;
    }
}

anx_status
hnsw_search(const anx_index *index, const anx_search_params *params, const void *query, size_t k,
            float *distances, uint64_t *labels, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    struct scratch *s = scratch_acquire(h, err);
    struct top_k top;
    const struct graph *g;
    anx_status st;

    if (!s)
        return ANX_E_NOMEM;
    top_k_init(&top, k, distances, labels);
    g = reader_enter(h, s);
    if (!g->has_links) {
        struct hit_taker t = { .g = g, .scratch = s, .params = params, .query = query, .top = &top };

        st = scan(&t, NULL, err);
        if (st == ANX_OK && params->filter && params->within > 0)
            st = rank_cut(g, s, params, query, NULL, &top, err);
    } else if (params->filter) {
        st = filter_search(g, s, params, query, k, &top, err);
    } else {
        st = search_graph(g, s, params, query, k, &top, err);
    }
    reader_leave(s);
    scratch_release(h, s);
    top_k_finish(&top);
    return st;
}

/* A longer and longer list, until its end lies outside the radius. */
static anx_status
range_graph(const struct graph *g, struct scratch *s, const anx_search_params *params, const void *query,
            anx_hit_list *list, anx_error *err)
{
    size_t n = atomic_load_explicit(&g->n_slot, memory_order_acquire);
    struct space_query code_query;

    search_make_query(g, s, query, &code_query);
    for (size_t ef = params->ef; ef < n && ef <= RANGE_EF_MAX; ef *= 2) {
        struct hit_taker t = { .g = g, .scratch = s, .params = params, .query = query, .list = list,
                               .is_exact = code_query.is_exact };
        struct walk w;
        anx_status st = search_walk_graph(g, s, params, &code_query, ef, &w, err);
        size_t half, n_last;

        if (st != ANX_OK)
            return st;
        half = w.n / 2;
        list->n = 0;
        hits_take_nearest(&t, &w, half, SIZE_MAX);
        n_last = t.n_taken;
        for (size_t i = half; i < w.n; i++)
            hits_take(&t, walk_id(&w, i), w.dist[i]);
        if (t.status != ANX_OK)
            return anx_fail(err, t.status, "could not allocate room for hits");
        /* Nothing in the farther half: what lies beyond is farther still. A filter hides rows, so ask again
         * then. */
        if (t.n_taken == n_last && (!params->filter || t.n_taken * 2 < half))
            return ANX_OK;
    }
    list->n = 0;
    return search_scan(g, s, params, query, list, err);
}

anx_status
hnsw_search_range(const anx_index *index, const anx_search_params *params, const void *query,
                  anx_hit_list *list, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index;
    struct scratch *s = scratch_acquire(h, err);
    const struct graph *g;
    anx_status st;

    if (!s)
        return ANX_E_NOMEM;
    list->n = 0;
    g = reader_enter(h, s);
    st = g->has_links ? range_graph(g, s, params, query, list, err)
                      : search_scan(g, s, params, query, list, err);
    reader_leave(s);
    scratch_release(h, s);
    if (st == ANX_OK)
        hit_list_sort(list);
    return st;
}
