/* See prune.h. */
#include "ann/hnsw/prune.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

struct prune {
    const anx_alloc *alloc;
    const anx_kernels *kernels;
    bool is_bits;
    size_t capacity, stride;
    const uint8_t *set; /* [..][stride] codes by id, of the caller; NULL: those of a graph */
    int32_t *dist; /* [list_capacity], unsorted while adding */
    uint32_t *id;
    int32_t *sorted_dist; /* [list_capacity] where sorting goes to; swapped with the above */
    uint32_t *sorted_id;
    size_t n, list_capacity;
    uint8_t *codes;      /* [capacity + 1][stride]; the last row is all ones, whose products are sums */
    int8_t *signed_codes; /* [capacity][stride]: code - 128 */
    int32_t *norm;       /* [capacity]: |c - 128|^2 */
    int32_t *pair;       /* [capacity][pair_stride] distances between candidates */
    size_t pair_stride;
    int32_t *nearest;    /* [capacity] distance to the nearest chosen one */
    uint8_t *is_chosen;  /* [capacity] */
    const uint8_t **pointers;
    int32_t *distances;
};

void
prune_destroy(struct prune *p)
{
    if (!p)
        return;
    anx_free(p->alloc, p->dist);
    anx_free(p->alloc, p->id);
    anx_free(p->alloc, p->sorted_dist);
    anx_free(p->alloc, p->sorted_id);
    anx_free_aligned(p->alloc, p->codes);
    anx_free_aligned(p->alloc, p->signed_codes);
    anx_free_aligned(p->alloc, p->pair);
    anx_free(p->alloc, p->norm);
    anx_free(p->alloc, p->nearest);
    anx_free(p->alloc, p->is_chosen);
    anx_free(p->alloc, p->pointers);
    anx_free(p->alloc, p->distances);
    anx_free(p->alloc, p);
}

struct prune *
prune_create(const anx_alloc *alloc, const struct space *space, size_t capacity)
{
    struct prune *p = anx_alloc_zeroed(alloc, 1, sizeof(*p));

    if (!p)
        return NULL;
    p->alloc = alloc;
    p->kernels = space->kernels;
    p->is_bits = space->kind == SPACE_BITS;
    p->capacity = capacity;
    p->stride = space->stride;
    p->list_capacity = capacity * 4;
    p->pair_stride = (capacity + 16) / 16 * 16;
    p->dist = anx_alloc_array(alloc, p->list_capacity, sizeof(*p->dist));
    p->id = anx_alloc_array(alloc, p->list_capacity, sizeof(*p->id));
    p->sorted_dist = anx_alloc_array(alloc, p->list_capacity, sizeof(*p->dist));
    p->sorted_id = anx_alloc_array(alloc, p->list_capacity, sizeof(*p->id));
    p->codes = anx_alloc_aligned(alloc, capacity + 1, space->stride);
    p->signed_codes = anx_alloc_aligned(alloc, capacity, space->stride);
    p->pair = anx_alloc_aligned(alloc, capacity * p->pair_stride, sizeof(*p->pair));
    p->norm = anx_alloc_array(alloc, p->pair_stride, sizeof(*p->norm));
    p->nearest = anx_alloc_array(alloc, capacity, sizeof(*p->nearest));
    p->is_chosen = anx_alloc_array(alloc, capacity, 1);
    p->pointers = anx_alloc_array(alloc, p->list_capacity, sizeof(*p->pointers));
    p->distances = anx_alloc_array(alloc, p->list_capacity, sizeof(*p->distances));
    if (!p->dist || !p->id || !p->sorted_dist || !p->sorted_id || !p->codes || !p->signed_codes || !p->pair ||
        !p->norm || !p->nearest || !p->is_chosen || !p->pointers || !p->distances) {
        prune_destroy(p);
        return NULL;
    }
    return p;
}

struct prune *
scratch_prune(struct graph *g, struct scratch *scratch, anx_error *err)
{
    size_t degree = g->degree;

    if (!scratch->prune)
        scratch->prune =
            prune_create(g->index->base.params.alloc, &g->space, degree + 64 > 128 ? degree + 64 : 128);
    if (!scratch->prune)
        (void) anx_fail(err, ANX_E_NOMEM, "could not allocate working memory to choose neighbors");
    return scratch->prune;
}

void
prune_start(struct prune *p)
{
    p->n = 0;
    p->set = NULL;
}

void
prune_start_set(struct prune *p, const uint8_t *codes)
{
    p->n = 0;
    p->set = codes;
}

static const uint8_t *
code_of(const struct prune *p, const struct graph *g, uint32_t id)
{
    return p->set ? p->set + id * p->stride : graph_code(g, id);
}

size_t
prune_count(const struct prune *p)
{
    return p->n;
}

/* Sorts by distance, then id, into the other pair of arrays: the place of each is how many are smaller. */
static void
sort_candidates(struct prune *p)
{
    int32_t *dist = p->sorted_dist;
    uint32_t *id = p->sorted_id;

    for (size_t i = 0; i < p->n; i++)
        id[i] = SLOT_NONE;
    for (size_t i = 0; i < p->n; i++) {
        size_t at = p->kernels->count_below(p->dist, p->n, p->dist[i]);

        while (id[at] != SLOT_NONE && id[at] < p->id[i]) /* equal distances: a short run, ordered by id */
            at++;
        for (uint32_t next = p->id[i]; next != SLOT_NONE; at++) {
            uint32_t held = id[at];

            id[at] = next;
            dist[at] = p->dist[i];
            next = held;
        }
    }
    p->sorted_dist = p->dist;
    p->sorted_id = p->id;
    p->dist = dist;
    p->id = id;
}

static void
drop_repeats(struct prune *p)
{
    size_t kept = 0;

    for (size_t i = 0; i < p->n; i++)
        if (kept == 0 || p->id[i] != p->id[kept - 1]) {
            p->id[kept] = p->id[i];
            p->dist[kept++] = p->dist[i];
        }
    p->n = kept;
}

void
prune_add(struct prune *p, const struct graph *g, uint32_t id, int32_t dist)
{
    (void) g;
    if (p->n == p->list_capacity) { /* only the nearest matter: make room */
        sort_candidates(p);
        drop_repeats(p);
        p->n = p->n < p->capacity ? p->n : p->capacity;
    }
    p->dist[p->n] = dist;
    p->id[p->n++] = id;
}

void
prune_add_ids(struct prune *p, const struct graph *g, uint32_t from, const uint32_t *ids, size_t n)
{
    for (size_t at = 0; at < n; at += p->capacity) {
        size_t part = n - at < p->capacity ? n - at : p->capacity;

        for (size_t i = 0; i < part; i++)
            p->pointers[i] = graph_code(g, ids[at + i]);
        code_distances(g, graph_code(g, from), p->pointers, part, p->distances);
        for (size_t i = 0; i < part; i++)
            prune_add(p, g, ids[at + i], p->distances[i]);
    }
}

static void
compute_pairs(struct prune *p, const struct graph *g, size_t n)
{
    const anx_kernels *k = p->kernels;

    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = code_of(p, g, p->id[i]);
        const uint8_t *ahead = i + 6 < n ? code_of(p, g, p->id[i + 6]) : code;

        for (size_t b = 0; b < p->stride; b += 64)
            __builtin_prefetch(ahead + b);
        memcpy(p->codes + i * p->stride, code, p->stride);
    }
    if (p->is_bits) {
        k->hamming_block(p->codes, n, p->codes, n, p->stride, p->pair, p->pair_stride);
        return;
    }
    for (size_t i = 0; i < n * p->stride; i++)
        p->signed_codes[i] = (int8_t) (p->codes[i] ^ 0x80u);
    /* dot(a - 128, b) = dot(a - 128, b - 128) + 128 * sum(a - 128), so the l2 between i and j is
     * norm_i + norm_j - 2 dot(i, j) + 256 * sum_i. The diagonal gives the norms, the row of ones the sums. */
    memset(p->codes + n * p->stride, 1, p->stride);
    k->dot_block(p->signed_codes, n, p->codes, n + 1, p->stride, p->pair, p->pair_stride);
    for (size_t i = 0; i < n; i++) {
        const int32_t *row = p->pair + i * p->pair_stride;

        p->norm[i] = row[i] - 128 * row[n];
    }
    for (size_t i = 0; i < n; i++) {
        int32_t *row = p->pair + i * p->pair_stride;

        k->l2_from_dot(row, p->norm, p->norm[i] + 256 * row[n], n, row);
    }
}

static void
choose(struct prune *p, size_t i, size_t n, uint32_t *out, size_t *n_out)
{
    p->is_chosen[i] = 1;
    out[(*n_out)++] = (uint32_t) i;
    p->kernels->min_into(p->pair + i * p->pair_stride, n, p->nearest);
}

size_t
prune_select(struct prune *p, const struct graph *g, size_t max, float alpha, uint32_t *out)
{
    size_t n, n_out = 0;

    sort_candidates(p);
    drop_repeats(p);
    n = p->n < p->capacity ? p->n : p->capacity;
    if (n == 0)
        return 0;
    compute_pairs(p, g, n);
    for (size_t i = 0; i < n; i++) {
        p->nearest[i] = INT32_MAX;
        p->is_chosen[i] = 0;
    }
    for (size_t i = 0; i < n && n_out < max; i++)
        if (p->nearest[i] >= p->dist[i])
            choose(p, i, n, out, &n_out);
    for (size_t i = 0; i < n && n_out < max && alpha > 1.0f; i++)
        if (!p->is_chosen[i] && (float) p->nearest[i] * alpha > (float) p->dist[i])
            choose(p, i, n, out, &n_out);
    for (size_t i = 0; i < n_out; i++)
        out[i] = p->id[out[i]];
    return n_out;
}
