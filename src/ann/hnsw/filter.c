/* See filter.h. With a share s of the rows passing, the k nearest passing rows lie among about k / s nearest
 * of all. Two ways to find them, and the cheaper one is taken:
 *
 *     scan   look up the passing labels one by one and compare their codes: exact but for the codes, cost
 *            grows with the rows passing
 *
 *     walk   the usual walk with a long list, until k passing nodes and a few more were stood on, which is
 *            after about k / s hops; when the list ends before that, again with one twice as long
 *
 * Walking only through passing nodes and their neighbors' neighbors (ACORN, arXiv 2403.04871) was considered:
 * at 10 % it looks at hundreds of labels per hop, which cost more than the distances they save. */
#include "ann/hnsw/filter.h"

#include "ann/hnsw/level0.h"
#include "ann/hnsw/rank.h"
#include "base/error.h"

/* Costs relative to one distance in a walk, measured on 300,000 x 128: a row of a scan by bitmap; a label
 * asked of a callback; and how many distances a walk makes per place in its list. */
#define SCAN_COST 0.5
#define ASK_COST 0.4
#define WALK_DISTANCES 9.0
#define SAMPLE_WORDS 256
#define SAMPLE_ROWS 128
#define EF_WALK_MAX 65536
/* Hops per passing neighbor wanted, in units of 1 / s: below 1, since neighbors of a node that was stood on
 * have been compared too (at 10 % of sift 0.65 gives recall 0.95 to 0.97 where the unfiltered search of the
 * same ef has 0.95). The list is longer than the hops expected, for queries in whose region fewer pass. */
#define HOPS_PER_PASSING 0.65
#define LIST_SLACK 2.5

static unsigned
count_bits(uint64_t x)
{
    x -= (x >> 1) & 0x5555555555555555u;
    x = (x & 0x3333333333333333u) + ((x >> 2) & 0x3333333333333333u);
    x = (x + (x >> 4)) & 0x0f0f0f0f0f0f0f0fu;
    return (unsigned) ((x * 0x0101010101010101u) >> 56);
}

/* About how many labels pass: by the caller's word, or by a sample. */
static double
estimate_passing(const struct graph *g, const anx_filter *f)
{
    size_t words = (f->bits + 63) / 64, n = atomic_load(&g->n_slot), passing = 0, asked = 0;

    if (f->expected)
        return (double) f->expected;
    if (f->bitmap) {
        size_t step = words > 2 * SAMPLE_WORDS ? words / SAMPLE_WORDS : 1;

        for (size_t i = step / 2; i < words; i += step, asked++)
            passing += count_bits(f->bitmap[i]);
        return (double) passing * (double) step + 1;
    }
    for (size_t i = 0; i < SAMPLE_ROWS; i++) {
        uint32_t slot = (uint32_t) ((i * 2 + 1) * n / (SAMPLE_ROWS * 2));

        if (!(graph_flags(g, slot) & FLAG_LIVE))
            continue;
        asked++;
        passing += filter_accepts(f, graph_label(g, slot));
    }
    return ((double) passing + 0.5) / ((double) asked + 1) * (double) n;
}

/* --- scan --- */

struct filter_scan {
    const struct graph *g;
    struct scratch *s;
    const struct space_query *query;
    struct walk w;
    size_t n; /* waiting in w.near */
};

static void
scan_flush(struct filter_scan *fs)
{
    query_distances(fs->g, fs->query, fs->s->near_code, fs->n, fs->w.near_dist);
    walk_offer(&fs->w, fs->n);
    fs->n = 0;
}

static void
scan_add(struct filter_scan *fs, uint32_t slot)
{
    if (slot >= fs->s->n_visible || fs->s->visited[slot] == fs->s->tag)
        return;
    fs->s->visited[slot] = fs->s->tag;
    fs->w.near[fs->n] = slot;
    fs->s->near_code[fs->n] = graph_code(fs->g, slot);
    if (++fs->n == SCAN_BATCH)
        scan_flush(fs);
}

/* The map is read under its lock, a batch of words at a time, so that writers are not held up for long. */
static void
scan_bitmap(struct filter_scan *fs, const anx_filter *f)
{
    struct graph *g = (struct graph *) fs->g; /* the lock is not part of the value */
    size_t words = (f->bits + 63) / 64;

    for (size_t at = 0; at < words;) {
        size_t end = at + 512 < words ? at + 512 : words;

        pthread_mutex_lock(&g->names);
        if (!g->is_named)
            (void) !graph_name(g, NULL);
        for (; at < end; at++) {
            uint64_t word = f->bitmap[at];

            if (at == words - 1 && f->bits % 64)
                word &= ((uint64_t) 1 << (f->bits % 64)) - 1;
            for (; word; word &= word - 1) {
                uint64_t label = at * 64 + (unsigned) __builtin_ctzll(word);
                uint32_t id = label_find(g, label);

                if (id != SLOT_NONE)
                    scan_add(fs, id & COPY_BIT ? g->copies[id & ~COPY_BIT].owner : id);
            }
        }
        pthread_mutex_unlock(&g->names);
    }
}

/* Callbacks of the caller run without our locks, so the labels of copies are taken out first. */
static bool
any_copy_accepted(struct filter_scan *fs, const anx_filter *f, uint32_t slot, anx_status *st)
{
    size_t n = 0;

    *st = copies_of(fs->g, fs->s, slot, &n);
    for (size_t i = 0; i < n; i++)
        if (filter_accepts(f, fs->s->hit_label[i]))
            return true;
    return false;
}

static anx_status
scan_callback(struct filter_scan *fs, const anx_filter *f)
{
    anx_status st = ANX_OK;

    for (uint32_t slot = 0; slot < fs->s->n_visible && st == ANX_OK; slot++) {
        unsigned flags = graph_flags(fs->g, slot);

        if (!(flags & FLAG_LIVE))
            continue;
        if (filter_accepts(f, graph_label(fs->g, slot)) ||
            ((flags & FLAG_COPIES) && any_copy_accepted(fs, f, slot, &st)))
            scan_add(fs, slot);
    }
    return st;
}

static anx_status
filter_scan(const struct graph *g, struct scratch *s, const struct space_query *query, struct hit_taker *t,
            size_t k, anx_error *err)
{
    struct filter_scan fs = { .g = g, .s = s, .query = query };
    const anx_filter *f = t->params->filter;
    /* Equal codes fill places, and so do copies of rows that do not pass themselves: leave room. */
    size_t keep = query->is_exact ? k + 8 : k + RERANK_MORE;
    anx_status st = scratch_visit(s, atomic_load_explicit(&g->n_slot, memory_order_acquire), err);

    if (st == ANX_OK)
        st = scratch_pool(s, keep, err);
    if (st != ANX_OK)
        return st;
    fs.w = (struct walk) { .kernels = g->space.kernels, .dist = s->pool_dist, .id = s->pool_id, .ef = keep,
                           .near = s->near, .near_dist = s->near_dist, .near_pick = s->near_pick };
    if (f->bitmap)
        scan_bitmap(&fs, f);
    else
        st = scan_callback(&fs, f);
    if (st != ANX_OK)
        return anx_fail(err, st, "could not allocate room for copies");
    scan_flush(&fs);
    if (t->params->should_stop && t->params->should_stop(t->params->stop_context))
        return anx_fail(err, ANX_E_CANCELLED, "search was cancelled");
    hits_take_nearest(t, &fs.w, fs.w.n, SIZE_MAX);
    return ANX_OK;
}

/* --- walk --- */

/* The usual walk, which stops going on when enough of the nodes it stood on pass. */
struct filter_walk {
    struct level0 view;
    const anx_filter *filter;
    size_t n_passing, want;
};

static inline size_t
filter_expand(struct filter_walk *fw, struct walk *w, uint32_t id)
{
    const struct graph *g = fw->view.g;

    if (fw->n_passing >= fw->want)
        return 0; /* what is left of the list is popped without a look */
    fw->n_passing += (graph_flags(g, id) & FLAG_LIVE) && filter_accepts(fw->filter, graph_label(g, id));
    return level0_expand(&fw->view, w, id);
}

static inline void
filter_ahead(const struct filter_walk *fw, uint32_t id)
{
    if (fw->n_passing < fw->want)
        level0_ahead(&fw->view, id);
}

#define WALK_NAME filter_walk_run
#define WALK_GRAPH struct filter_walk
#define WALK_EXPAND filter_expand
#define WALK_AHEAD filter_ahead
#include "ann/hnsw/walk_run.h"

/* Measures passing candidates, nearest first, until `enough` passed. */
static void
take_passing(struct hit_taker *t, const struct walk *w, size_t enough)
{
    for (size_t i = 0; i < w->n && t->n_taken < enough; i++) {
        uint32_t slot = walk_id(w, i);
        unsigned flags = graph_flags(t->g, slot);

        /* Asked here so that rows that do not pass are not measured. */
        if ((flags & FLAG_COPIES) || filter_accepts(t->params->filter, graph_label(t->g, slot)))
            hits_take(t, slot, w->dist[i]);
    }
}

/* Does the list end outside the radius? Then a longer one has nothing more. */
static bool
is_beyond(const struct hit_taker *t, const struct walk *w)
{
    uint32_t last = walk_id(w, w->n - 1);

    if (t->is_exact)
        return (float) w->dist[w->n - 1] >= t->params->radius;
    return search_distance(t->g, t->scratch, t->params, t->query, last, graph_label(t->g, last)) >=
           t->params->radius;
}

static anx_status
walk_passing(struct hit_taker *t, const struct space_query *query, size_t want, size_t list, struct walk *w,
             bool *is_enough, anx_error *err)
{
    struct filter_walk fw = { .view = { t->g, query, t->scratch },
                              .filter = t->params->filter,
                              .want = want };
    anx_status st = level0_start(t->g, t->scratch, query, list, STARTS_SEARCH, w, err);

    if (st != ANX_OK)
        return st;
    w->should_stop = t->params->should_stop;
    w->stop_context = t->params->stop_context;
    if (!filter_walk_run(&fw, w))
        return anx_fail(err, ANX_E_CANCELLED, "search was cancelled");
    *is_enough = fw.n_passing >= want;
    return ANX_OK;
}

static anx_status
find_passing(const struct graph *g, struct scratch *s, const anx_search_params *params, const void *query,
             const struct space_query *code_query, size_t k, struct top_k *top, anx_error *err)
{
    size_t n = atomic_load_explicit(&g->n_slot, memory_order_acquire);
    double passing = estimate_passing(g, params->filter), share = passing / (double) (n ? n : 1);
    double scan = params->filter->bitmap ? passing * SCAN_COST : (double) n * ASK_COST + passing;
    size_t margin = 6 + (params->ef > k ? params->ef - k : 0), want, list;
    double hops = HOPS_PER_PASSING * (double) k / (share < 1 ? share : 1) + (double) margin;

    want = (size_t) (hops * (share < 1 ? share : 1)) + 1;
    for (list = (size_t) (hops * LIST_SLACK);; list *= 2) {
        struct hit_taker t = { .g = g, .scratch = s, .params = params, .query = query, .top = top,
                               .is_exact = code_query->is_exact };
        struct walk w;
        bool is_enough = false;
        anx_status st;

        top->n = 0;
        if ((double) list / LIST_SLACK * WALK_DISTANCES > scan || list > EF_WALK_MAX || list >= n)
            return filter_scan(g, s, code_query, &t, k, err);
        st = walk_passing(&t, code_query, want, list, &w, &is_enough, err);
        if (st != ANX_OK)
            return st;
        take_passing(&t, &w, code_query->is_exact ? k : k + RERANK_MORE);
        if (t.status != ANX_OK)
            return anx_fail(err, t.status, "could not allocate room for copies");
        /* Passing rows that were found and not taken lie outside the radius, and so does all that is farther.
         */
        if (t.n_taken >= k || (params->has_radius && (is_enough || (w.n == list && is_beyond(&t, &w)))))
            return ANX_OK;
    }
}

anx_status
filter_search(const struct graph *g, struct scratch *s, const anx_search_params *params, const void *query,
              size_t k, struct top_k *top, anx_error *err)
{
    struct space_query code_query;
    anx_status st;

    search_make_query(g, s, query, &code_query);
    st = find_passing(g, s, params, query, &code_query, k, top, err);
    if (st == ANX_OK && params->within > 0)
        st = rank_cut(g, s, params, query, &code_query, top, err);
    return st;
}
