/* See upper.h. */
#include "ann/hnsw/upper.h"

#include <math.h>
#include <string.h>

#include "ann/hnsw/prune.h"
#include "ann/hnsw/walk.h"
#include "base/alloc.h"
#include "base/error.h"

#define EF_UPPER 40 /* candidate list while linking layers above 0 */

struct layer_view {
    const struct graph *g;
    const struct layer *layer;
    const struct space_query *query;
    struct scratch *scratch;
};

static size_t
layer_expand(struct layer_view *v, struct walk *w, uint32_t id)
{
    size_t m = v->g->index->m, n = 0;
    const atomic_uint *links = v->layer->links + (size_t) id * m;

    for (size_t i = 0; i < m; i++) {
        uint32_t near = atomic_load_explicit(&links[i], memory_order_acquire), slot;

        if (near == SLOT_NONE)
            break;
        slot = v->layer->slot[near];
        if (slot >= v->scratch->n_visible || v->scratch->visited[slot] == v->scratch->tag)
            continue;
        v->scratch->visited[slot] = v->scratch->tag;
        w->near[n] = near;
        v->scratch->near_code[n++] = graph_code(v->g, slot);
    }
    query_distances(v->g, v->query, v->scratch->near_code, n, w->near_dist);
    return n;
}
#define WALK_NAME layer_walk
#define WALK_GRAPH struct layer_view
#define WALK_EXPAND layer_expand
#define WALK_AHEAD(v, id) ((void) (id))
#include "ann/hnsw/walk_run.h"

unsigned
upper_draw_level(anx_rng *rng, size_t m)
{
    double level = floor(-log(anx_rng_unit(rng)) / log((double) m));

    return level >= LEVEL_MAX ? LEVEL_MAX - 1 : (unsigned) level;
}

/* --- storage --- */

/* One block, so that it can be retired as one. */
static struct layer *
layer_create(const struct graph *g, uint32_t capacity)
{
    size_t m = g->index->m, head = (sizeof(struct layer) + 63) / 64 * 64;
    size_t each = 2 * sizeof(uint32_t) + m * sizeof(atomic_uint);
    uint8_t *block = retirable_create(g->index->base.params.alloc, head + capacity * each);
    struct layer *layer = (struct layer *) (void *) block;

    if (!block)
        return NULL;
    layer->capacity = capacity;
    layer->slot = (uint32_t *) (block + head);
    layer->down = layer->slot + capacity;
    layer->links = (atomic_uint *) (layer->down + capacity);
    return layer;
}

bool
upper_init(struct graph *g)
{
    struct upper *u = retirable_create(g->index->base.params.alloc, sizeof(*u));

    atomic_store(&g->upper, u);
    return u != NULL;
}

static void
upper_free(struct graph *g, struct upper *u)
{
    for (size_t level = 1; u && level <= upper_levels(u); level++)
        retirable_free(g->index->base.params.alloc, upper_layer(u, level));
    retirable_free(g->index->base.params.alloc, u);
}

void
upper_fini(struct graph *g)
{
    upper_free(g, upper_of(g));
    atomic_store(&g->upper, NULL);
}

size_t
upper_memory(const struct graph *g)
{
    const struct upper *u = upper_of(g);
    size_t bytes = sizeof(*u);

    for (size_t level = 1; level <= upper_levels(u); level++)
        bytes += upper_layer(u, level)->capacity * (2 + g->index->m) * sizeof(uint32_t);
    return bytes;
}

/* A layer with room for one more node, made or grown when needed. */
static struct layer *
layer_with_room(struct graph *g, unsigned level, anx_error *err)
{
    struct upper *u = upper_of(g);
    size_t have = upper_levels(u), m = g->index->m;
    struct layer *old = level <= have ? upper_layer(u, level) : NULL, *bigger;
    uint32_t n = old ? atomic_load(&old->n) : 0;

    if (old && n < old->capacity)
        return old;
    bigger = layer_create(g, old ? old->capacity + old->capacity / 2 + 16 : 16);
    if (!bigger) {
        (void) anx_fail(err, ANX_E_NOMEM, "could not grow layer %u of %u nodes", level, n);
        return NULL;
    }
    if (old) {
        memcpy(bigger->slot, old->slot, n * sizeof(*old->slot));
        memcpy(bigger->down, old->down, n * sizeof(*old->down));
        for (size_t i = 0; i < n * m; i++)
            atomic_store_explicit(&bigger->links[i],
                                  atomic_load_explicit(&old->links[i], memory_order_relaxed),
                                  memory_order_relaxed);
        atomic_store(&bigger->n, n);
    }
    atomic_store_explicit(&u->layer[level - 1], bigger, memory_order_release);
    if (level > have)
        atomic_store_explicit(&u->n_layer, level, memory_order_release);
    if (old)
        retire_memory(g->index, old);
    return bigger;
}

struct layer *
upper_add_layer(struct graph *g, unsigned level, uint32_t n, anx_error *err)
{
    struct upper *u = upper_of(g);
    struct layer *layer = level <= LEVEL_MAX ? layer_create(g, n) : NULL;

    if (!layer) {
        (void) anx_fail(err, ANX_E_NOMEM, "could not allocate layer %u of %u nodes", level, n);
        return NULL;
    }
    atomic_store(&u->layer[level - 1], layer);
    atomic_store(&u->n_layer, level);
    return layer;
}

/* --- descent --- */

static void
starts_offer(struct starts *starts, uint32_t slot, int32_t dist)
{
    size_t i;

    if (starts->n == starts->max && dist >= starts->dist[starts->n - 1])
        return;
    i = starts->n < starts->max ? starts->n++ : starts->n - 1;
    for (; i > 0 && starts->dist[i - 1] > dist; i--) {
        starts->dist[i] = starts->dist[i - 1];
        starts->slot[i] = starts->slot[i - 1];
    }
    starts->dist[i] = dist;
    starts->slot[i] = slot;
}

/* The nearest of a whole layer; the nearest few also go to starts, which may be NULL. */
static uint32_t
layer_scan(const struct graph *g, struct scratch *s, const struct layer *layer, size_t n,
           const struct space_query *query, struct starts *starts, int32_t *dist)
{
    uint32_t best = 0;

    *dist = INT32_MAX;
    for (size_t at = 0; at < n; at += SCAN_BATCH) {
        size_t part = n - at < SCAN_BATCH ? n - at : SCAN_BATCH;

        for (size_t i = 0; i < part; i++)
            s->near_code[i] = graph_code(g, layer->slot[at + i]);
        query_distances(g, query, s->near_code, part, s->near_dist);
        for (size_t i = 0; i < part; i++) {
            if (s->near_dist[i] < *dist) {
                *dist = s->near_dist[i];
                best = (uint32_t) (at + i);
            }
            if (starts)
                starts_offer(starts, layer->slot[at + i], s->near_dist[i]);
        }
    }
    return best;
}

/* Greedy: moves to the best neighbor while that is nearer. */
static uint32_t
layer_greedy(const struct graph *g, struct scratch *s, const struct layer *layer,
             const struct space_query *query, uint32_t at, int32_t *dist)
{
    size_t m = g->index->m;

    for (;;) {
        uint32_t best = at;
        size_t n = links_read(layer->links + (size_t) at * m, m, s->near);

        for (size_t i = 0; i < n; i++) {
            s->near_code[i] = graph_code(g, layer->slot[s->near[i]]);
            __builtin_prefetch(s->near_code[i]);
            __builtin_prefetch(s->near_code[i] + 64);
        }
        query_distances(g, query, s->near_code, n, s->near_dist);
        for (size_t i = 0; i < n; i++)
            if (s->near_dist[i] < *dist) {
                *dist = s->near_dist[i];
                best = s->near[i];
            }
        if (best == at)
            return at;
        at = best;
    }
}

size_t
upper_entry_level(const struct graph *g, const struct upper *u)
{
    size_t level = upper_levels(u), max = atomic_load_explicit(&g->entry_max, memory_order_relaxed);

    while (level > 1 && atomic_load_explicit(&upper_layer(u, level - 1)->n, memory_order_acquire) <= max)
        level--;
    /* A new top layer is visible for a moment before its first node is. */
    while (level > 0 && atomic_load_explicit(&upper_layer(u, level)->n, memory_order_acquire) == 0)
        level--;
    return level;
}

/* The level where a descent begins, and its nearest node there. 0: no layer. */
static size_t
enter_layers(const struct graph *g, const struct upper *u, struct scratch *s, const struct space_query *query,
             struct starts *starts, uint32_t *at, int32_t *dist)
{
    size_t level = upper_entry_level(g, u);
    struct layer *layer;

    if (level == 0)
        return 0;
    layer = upper_layer(u, level);
    *at = layer_scan(g, s, layer, atomic_load_explicit(&layer->n, memory_order_acquire), query, starts,
                     dist);
    return level;
}

/* Any linked slot, for graphs so small that no row drew a level. */
static uint32_t
first_linked(const struct graph *g)
{
    size_t n = atomic_load_explicit(&g->n_slot, memory_order_acquire);

    for (uint32_t slot = 0; slot < n; slot++)
        if (graph_flags(g, slot) & FLAG_LINKED)
            return slot;
    return SLOT_NONE;
}

void
upper_enter(const struct graph *g, struct scratch *s, const struct space_query *query, struct starts *starts)
{
    const struct upper *u = upper_of(g);
    uint32_t at = 0, slot = SLOT_NONE;
    int32_t dist = 0;
    size_t level, max = starts->max;

    starts->n = 0;
    starts->max = max - 1; /* the last place is the descent's */
    level = enter_layers(g, u, s, query, starts, &at, &dist);
    starts->max = max;
    if (level == 0) {
        slot = first_linked(g);
        if (slot == SLOT_NONE)
            return;
        s->near_code[0] = graph_code(g, slot);
        query_distances(g, query, s->near_code, 1, &dist);
    }
    for (; level >= 1; level--) {
        const struct layer *layer = upper_layer(u, level);

        at = layer_greedy(g, s, layer, query, at, &dist);
        slot = layer->slot[at];
        at = layer->down[at];
    }
    for (size_t i = 0; i < starts->n; i++)
        if (starts->slot[i] == slot)
            return;
    starts_offer(starts, slot, dist);
}

/* --- insertion --- */

/* The EF_UPPER nearest of a layer to a code, into w; ids are numbers in the layer. */
static anx_status
layer_nearest(struct graph *g, struct scratch *s, const struct layer *layer, const struct space_query *query,
              uint32_t at, int32_t dist, struct walk *w, anx_error *err)
{
    struct layer_view view = { g, layer, query, s };
    anx_status st = scratch_visit(s, atomic_load(&g->n_slot), err);

    if (st == ANX_OK)
        st = scratch_pool(s, EF_UPPER, err);
    if (st != ANX_OK)
        return st;
    *w = (struct walk) { .kernels = g->space.kernels, .dist = s->pool_dist, .id = s->pool_id, .ef = EF_UPPER,
                         .near = s->near, .near_dist = s->near_dist, .near_pick = s->near_pick };
    if (layer->slot[at] < s->n_visible)
        s->visited[layer->slot[at]] = s->tag;
    walk_insert(w, at, dist);
    (void) layer_walk(&view, w);
    return ANX_OK;
}

/* Chooses at most m of the candidates in p, which carry layer numbers in `number_of` order. Ids in p are
 * slots; numbers come back through the slot -> number table of the candidates. */
struct numbered {
    uint32_t slot, number;
};

static uint32_t
number_of(const struct numbered *list, size_t n, uint32_t slot)
{
    for (size_t i = 0; i < n; i++)
        if (list[i].slot == slot)
            return list[i].number;
    return SLOT_NONE;
}

/* Writes the links of node `at` chosen among `list`; dists from at are computed when dists is NULL. */
static anx_status
layer_choose(struct graph *g, struct scratch *s, struct layer *layer, uint32_t at,
             const struct numbered *list, const int32_t *dists, size_t n, anx_error *err)
{
    size_t m = g->index->m, chosen;
    uint32_t out[ANX_HNSW_M_MAX];
    struct prune *p = scratch_prune(g, s, err);

    if (!p)
        return ANX_E_NOMEM;
    prune_start(p);
    for (size_t i = 0; i < n; i++) {
        if (dists)
            prune_add(p, g, list[i].slot, dists[i]);
        else
            prune_add_ids(p, g, layer->slot[at], &list[i].slot, 1);
    }
    chosen = prune_select(p, g, m, 1.0f, out);
    for (size_t i = 0; i < chosen; i++)
        out[i] = number_of(list, n, out[i]);
    links_write(layer->links + (size_t) at * m, m, out, chosen);
    return ANX_OK;
}

/* Adds the link from `from` to `to`, pruning when the list is full. */
static anx_status
layer_link_back(struct graph *g, struct scratch *s, struct layer *layer, uint32_t from, uint32_t to,
                anx_error *err)
{
    size_t m = g->index->m;
    atomic_uint *links = layer->links + (size_t) from * m;
    struct numbered list[ANX_HNSW_M_MAX + 1];
    uint32_t ids[ANX_HNSW_M_MAX];
    size_t n = links_read(links, m, ids);

    if (n < m) {
        atomic_store_explicit(&links[n], to, memory_order_release);
        return ANX_OK;
    }
    for (size_t i = 0; i < n; i++)
        list[i] = (struct numbered) { layer->slot[ids[i]], ids[i] };
    list[n] = (struct numbered) { layer->slot[to], to };
    return layer_choose(g, s, layer, from, list, NULL, n + 1, err);
}

static anx_status
layer_link(struct graph *g, struct scratch *s, struct layer *layer, uint32_t at, struct walk *w,
           anx_error *err)
{
    struct numbered list[EF_UPPER];
    uint32_t chosen[ANX_HNSW_M_MAX];
    size_t n;
    anx_status st;

    for (size_t i = 0; i < w->n; i++)
        list[i] = (struct numbered) { layer->slot[walk_id(w, i)], walk_id(w, i) };
    st = layer_choose(g, s, layer, at, list, w->dist, w->n, err);
    n = links_read(layer->links + (size_t) at * g->index->m, g->index->m, chosen);
    for (size_t i = 0; i < n && st == ANX_OK; i++)
        st = layer_link_back(g, s, layer, chosen[i], at, err);
    return st;
}

/* Appends a node without links; its number. */
static anx_status
layer_append(struct graph *g, unsigned level, uint32_t slot, uint32_t down, uint32_t *number, anx_error *err)
{
    struct layer *layer = layer_with_room(g, level, err);

    if (!layer)
        return ANX_E_NOMEM;
    *number = atomic_load(&layer->n);
    layer->slot[*number] = slot;
    layer->down[*number] = down;
    links_write(layer->links + (size_t) *number * g->index->m, g->index->m, NULL, 0);
    return ANX_OK;
}

static void
layer_publish(struct graph *g, unsigned level)
{
    struct layer *layer = upper_layer(upper_of(g), level);

    atomic_store_explicit(&layer->n, atomic_load(&layer->n) + 1, memory_order_release);
}

/* Nodes are appended from the bottom up, so that `down` of a visible node is always valid; neighbors are
 * found from the top down first. */
anx_status
upper_insert(struct graph *g, struct scratch *s, uint32_t slot, unsigned level, anx_error *err)
{
    const struct upper *u = upper_of(g);
    struct space_query self = { .code = graph_code(g, slot) };
    uint32_t at = 0, below = SLOT_NONE, start[LEVEL_MAX + 1];
    int32_t dist = 0, start_dist[LEVEL_MAX + 1];
    size_t top = enter_layers(g, u, s, &self, NULL, &at, &dist);
    anx_status st = ANX_OK;

    if (level == 0)
        return ANX_OK;
    for (size_t l = top; l >= 1; l--) {
        at = layer_greedy(g, s, upper_layer(u, l), &self, at, &dist);
        start[l] = at;
        start_dist[l] = dist;
        at = upper_layer(u, l)->down[at];
    }
    for (unsigned l = 1; l <= level && st == ANX_OK; l++) {
        struct walk w = { 0 };
        uint32_t number = 0;
        struct layer *old = l <= upper_levels(u) ? upper_layer(u, l) : NULL;
        bool has_nodes = old && atomic_load(&old->n) > 0;

        st = layer_append(g, l, slot, below, &number, err);
        if (st == ANX_OK && has_nodes) {
            struct layer *layer = upper_layer(u, l);

            if (l > top) { /* a layer above the one that is scanned: small by definition */
                start[l] = layer_scan(g, s, layer, atomic_load(&layer->n), &self, NULL, &start_dist[l]);
            }
            st = layer_nearest(g, s, layer, &self, start[l], start_dist[l], &w, err);
            if (st == ANX_OK)
                st = layer_link(g, s, layer, number, &w, err);
        }
        if (st == ANX_OK)
            layer_publish(g, l);
        below = number;
    }
    if (st == ANX_OK)
        atomic_fetch_or(&graph_chunk(g, slot)->flags[graph_at(g, slot)], FLAG_UPPER);
    return st;
}

/* --- repair --- */

struct repair {
    struct graph *g;
    struct scratch *scratch;
    bool (*is_dead)(const struct graph *, uint32_t);
    struct layer *old, *fresh;
    const uint32_t *number; /* old number -> new, SLOT_NONE when dead */
};

static size_t
add_live(const struct repair *r, uint32_t from, uint32_t self, struct numbered *list, size_t n, size_t max,
         bool through)
{
    size_t m = r->g->index->m;
    uint32_t ids[ANX_HNSW_M_MAX];
    size_t n_id = links_read(r->old->links + (size_t) from * m, m, ids);

    for (size_t i = 0; i < n_id && n < max; i++) {
        uint32_t fresh = r->number[ids[i]];

        if (fresh == SLOT_NONE && through)
            n = add_live(r, ids[i], self, list, n, max, false);
        else if (fresh != SLOT_NONE && fresh != self && number_of(list, n, r->old->slot[ids[i]]) == SLOT_NONE)
            list[n++] = (struct numbered) { r->old->slot[ids[i]], fresh };
    }
    return n;
}

static anx_status
repair_links(struct repair *r, anx_error *err)
{
    size_t m = r->g->index->m;
    uint32_t n = atomic_load(&r->old->n);
    anx_status st = ANX_OK;

    for (uint32_t i = 0; i < n && st == ANX_OK; i++) {
        struct numbered list[ANX_HNSW_M_MAX * 2];
        uint32_t at = r->number[i];
        size_t count, max = m * 2 < 128 ? m * 2 : 128;

        if (at == SLOT_NONE)
            continue;
        count = add_live(r, i, at, list, 0, max, true);
        if (count == 0 && at > 0) /* its whole neighborhood died: any node keeps it reachable */
            list[count++] = (struct numbered) { r->fresh->slot[0], 0 };
        st = layer_choose(r->g, r->scratch, r->fresh, at, list, NULL, count, err);
        if (st == ANX_OK && count && list[0].number == 0 && at > 0 && list[0].slot == r->fresh->slot[0])
            st = layer_link_back(r->g, r->scratch, r->fresh, 0, at, err);
    }
    return st;
}

anx_status
upper_repair(struct graph *g, struct scratch *s, bool (*is_dead)(const struct graph *, uint32_t),
             anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;
    struct upper *u = upper_of(g), *fresh_u = retirable_create(alloc, sizeof(*fresh_u));
    uint32_t *below = NULL, *number = NULL;
    anx_status st = ANX_OK;

    if (!fresh_u)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate layers");
    for (size_t level = 1; level <= upper_levels(u) && st == ANX_OK; level++) {
        struct layer *old = upper_layer(u, level), *fresh = layer_create(g, old->capacity);
        uint32_t n = atomic_load(&old->n), live = 0;
        struct repair r = { g, s, is_dead, old, fresh, NULL };

        number = anx_alloc_array(alloc, n + 1, sizeof(*number));
        if (!fresh || !number) {
            retirable_free(alloc, fresh);
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate layer %zu of %u nodes", level, n);
            break;
        }
        for (uint32_t i = 0; i < n; i++) {
            number[i] = is_dead(g, old->slot[i]) ? SLOT_NONE : live++;
            if (number[i] == SLOT_NONE)
                continue;
            fresh->slot[number[i]] = old->slot[i];
            fresh->down[number[i]] = level > 1 ? below[old->down[i]] : SLOT_NONE;
            links_write(fresh->links + (size_t) number[i] * g->index->m, g->index->m, NULL, 0);
        }
        atomic_store(&fresh->n, live);
        r.number = number;
        st = repair_links(&r, err);
        atomic_store(&fresh_u->layer[level - 1], fresh);
        if (live)
            atomic_store(&fresh_u->n_layer, (unsigned) level);
        else
            retirable_free(alloc, fresh);
        anx_free(alloc, below);
        below = number;
        number = NULL;
    }
    anx_free(alloc, below);
    anx_free(alloc, number);
    if (st != ANX_OK) {
        upper_free(g, fresh_u);
        return st;
    }
    atomic_store_explicit(&g->upper, fresh_u, memory_order_release);
    for (size_t level = 1; level <= upper_levels(u); level++)
        retire_memory(g->index, upper_layer(u, level));
    retire_memory(g->index, u);
    return ANX_OK;
}

void
upper_renumber(struct graph *g, const uint32_t *place)
{
    const struct upper *u = upper_of(g);

    for (size_t level = 1; level <= upper_levels(u); level++) {
        struct layer *layer = upper_layer(u, level);

        for (uint32_t i = 0; i < atomic_load(&layer->n); i++)
            layer->slot[i] = place[layer->slot[i]];
    }
}
