/* Partition and leaves: see bulk.h. Each row goes to the leaves of its fan_out nearest leaders; a leaf is
 * compared with itself, all pairs. The same pair may be found in several leaves; pruning drops repeats. */
#include <stdlib.h>
#include <string.h>

#include "ann/hnsw/bulk.h"
#include "ann/hnsw/prune.h"
#include "base/alloc.h"
#include "base/error.h"

#define LEAF_MAX 1024   /* rows compared all with all; 1024 codes of 384 bytes stay in L2 */
#define LEAF_TARGET 600 /* mean leaf size aimed at: sizes vary by a factor of 2-3 */
#define ROW_BLOCK 32    /* rows multiplied at a time: their distances stay in L2 */
#define FAN_OUT_MAX 32
#define KEEP_MAX 32
#define GROUP_FROM 20000 /* from here on leaders are searched in two levels */
#define GROUPS_PROBED 8

struct partition {
    struct graph *g;
    struct pools *c;
    struct bulk_progress *progress;
    size_t n, fan_out, keep;
    size_t n_leader;
    uint8_t *leader_codes; /* [n_leader][stride], grouped when n_group > 1 */
    uint32_t *leader_id;   /* [n_leader] slot, in the order of leader_codes */
    int32_t *leader_norm;
    size_t n_group;
    uint8_t *group_codes;
    int32_t *group_norm;
    uint32_t *group_start; /* [n_group + 1] */
    int32_t *row_norm, *row_sum; /* [n] see measure_code */
    uint32_t *assigned;    /* [n][fan_out] leader numbers */
    uint32_t *start;       /* [n_leader + 1] */
    uint32_t *member;      /* [n * fan_out] */
    struct worker *worker;
    atomic_size_t done;
    uint64_t seed;
    atomic_bool failed;
};

/* Memory of one thread. */
struct worker {
    uint8_t *codes;       /* [LEAF_MAX][stride] */
    int8_t *signed_codes; /* [LEAF_MAX][stride] */
    int32_t *norm;        /* [LEAF_MAX] */
    int32_t *sum;         /* [LEAF_MAX] */
    int32_t *tile;        /* [ROW_BLOCK][tile_width] */
    uint32_t *pick;       /* [tile_width] */
    size_t tile_width;
};

anx_status
pools_init(struct pools *c, const struct graph *g, size_t n, size_t width, anx_error *err)
{
    const anx_alloc *alloc = g->index->base.params.alloc;

    *c = (struct pools) { .n = n, .width = width };
    c->list = anx_alloc_array(alloc, n * width, sizeof(*c->list));
    c->count = anx_alloc_zeroed(alloc, n, sizeof(*c->count));
    if (!c->list || !c->count) {
        pools_fini(c, g);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu candidates for each of %zu rows", width, n);
    }
    return ANX_OK;
}

void
pools_fini(struct pools *c, const struct graph *g)
{
    const anx_alloc *alloc = g->index->base.params.alloc;

    anx_free(alloc, c->list);
    anx_free(alloc, c->count);
    *c = (struct pools) { 0 };
}

/* Adds n candidates of a row; leaves with the row in them may do so at the same time. */
static void
pools_put(struct pools *c, uint32_t row, const uint32_t *ids, const uint32_t *index, size_t n)
{
    size_t at = atomic_fetch_add_explicit(&c->count[row], (unsigned short) n, memory_order_relaxed);
    uint32_t *to = c->list + row * c->width;

    for (size_t i = 0; i < n && at < c->width; i++, at++)
        to[at] = ids[index[i]];
}

static bool
is_bits(const struct graph *g)
{
    return g->space.kind == SPACE_BITS;
}

static void
sign_code(const uint8_t *code, size_t stride, int8_t *out)
{
    for (size_t i = 0; i < stride; i++)
        out[i] = (int8_t) (code[i] ^ 0x80u);
}

/* |c - 128|^2 and the sum of c - 128: what turns dot products into squared l2. */
static void
measure_code(const uint8_t *code, size_t stride, int32_t *norm, int32_t *sum)
{
    int32_t n2 = 0, total = 0;

    for (size_t i = 0; i < stride; i++) {
        int32_t v = (int32_t) code[i] - 128;

        total += v;
        n2 += v * v;
    }
    *norm = n2;
    *sum = total;
}

static void
measure_rows(void *context, size_t begin, size_t end, size_t worker)
{
    struct partition *p = context;

    (void) worker;
    for (size_t i = begin; i < end; i++)
        measure_code(graph_code(p->g, (uint32_t) i), p->g->stride, &p->row_norm[i], &p->row_sum[i]);
}

/* Distances of rows a (norms and sums given) to all of b, into out[na][out_stride]. */
static void
distances_block(const struct graph *g, const uint8_t *a, const int8_t *a_signed, const int32_t *a_norm,
                const int32_t *a_sum, size_t na, const uint8_t *b, const int32_t *b_norm, size_t nb,
                int32_t *out, size_t out_stride)
{
    const anx_kernels *k = g->space.kernels;

    if (is_bits(g)) {
        k->hamming_block(a, na, b, nb, g->stride, out, out_stride);
        return;
    }
    k->dot_block(a_signed, na, b, nb, g->stride, out, out_stride);
    for (size_t i = 0; i < na; i++) /* dot(a-128, b) = dot(a-128, b-128) + 128 sum(a-128) */
        k->l2_from_dot(out + i * out_stride, b_norm, a_norm[i] + 256 * a_sum[i], nb, out + i * out_stride);
}

/* A bound that the `keep` smallest of values (or all) are below: from the minima of 16 lanes. */
static int32_t
bound_for(const anx_kernels *k, const int32_t *values, size_t n, size_t keep)
{
    int32_t lanes[16];

    if (keep > 16 || n < keep)
        return INT32_MAX;
    k->min_lanes(values, n, lanes);
    for (size_t i = 1; i < 16; i++) {
        int32_t v = lanes[i];
        size_t j = i;

        for (; j > 0 && lanes[j - 1] > v; j--)
            lanes[j] = lanes[j - 1];
        lanes[j] = v;
    }
    return lanes[keep - 1] < INT32_MAX ? lanes[keep - 1] + 1 : INT32_MAX;
}

/* The `keep` smallest of values, ascending, to index/dist; returns how many. INT32_MAX values never count. */
static size_t
smallest(const anx_kernels *k, const int32_t *values, size_t n, size_t keep, uint32_t *pick, uint32_t *index,
         int32_t *dist)
{
    size_t have = 0, n_pick;

    if (keep == 0)
        return 0;
    n_pick = k->select_below(values, n, bound_for(k, values, n, keep), pick);
    for (size_t i = 0; i < n_pick; i++) {
        int32_t d = values[pick[i]];
        size_t j;

        if (have == keep && d >= dist[keep - 1])
            continue;
        j = have < keep ? have++ : keep - 1;
        for (; j > 0 && dist[j - 1] > d; j--) {
            dist[j] = dist[j - 1];
            index[j] = index[j - 1];
        }
        dist[j] = d;
        index[j] = pick[i];
    }
    return have;
}

/* --- leaders --- */

static void
load_codes(const struct graph *g, const uint32_t *slots, size_t n, uint8_t *codes)
{
    for (size_t i = 0; i < n; i++)
        memcpy(codes + i * g->stride, graph_code(g, slots[i]), g->stride);
}

static void
norms_of(const struct graph *g, const uint8_t *codes, size_t n, int32_t *norm)
{
    for (size_t i = 0; i < n; i++) {
        const uint8_t *code = codes + i * g->stride;
        int32_t n2 = 0;

        for (size_t t = 0; t < g->stride; t++)
            n2 += ((int32_t) code[t] - 128) * ((int32_t) code[t] - 128);
        norm[i] = n2;
    }
}

/* Distinct random slots, ascending (Floyd's method would need a set; a stride with jitter is as good here).
 */
static void
sample_slots(size_t n, size_t want, anx_rng *rng, uint32_t *out)
{
    for (size_t i = 0; i < want; i++) {
        size_t from = i * n / want, to = (i + 1) * n / want;

        out[i] = (uint32_t) (from + anx_rng_below(rng, (uint32_t) (to - from)));
    }
}

static int
compare_u64(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *) a, y = *(const uint64_t *) b;

    return (x > y) - (x < y);
}

/* Sorts the leaders by their nearest group centre, so that a group is a range. */
static anx_status
group_leaders(struct partition *p, anx_rng *rng, anx_error *err)
{
    const anx_alloc *alloc = p->g->index->base.params.alloc;
    size_t n_group = 1, stride = p->g->stride;
    uint32_t *centre;
    uint64_t *order;
    anx_status st = ANX_OK;

    while (n_group * n_group * 2 < p->n_leader)
        n_group++;
    centre = anx_alloc_array(alloc, n_group, sizeof(*centre));
    order = anx_alloc_array(alloc, p->n_leader, sizeof(*order));
    p->group_codes = anx_alloc_aligned(alloc, n_group, stride);
    p->group_norm = anx_alloc_array(alloc, n_group, sizeof(int32_t));
    p->group_start = anx_alloc_zeroed(alloc, n_group + 1, sizeof(uint32_t));
    if (!centre || !order || !p->group_codes || !p->group_norm || !p->group_start) {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate groups of %zu leaders", p->n_leader);
        goto out;
    }
    sample_slots(p->n_leader, n_group, rng, centre);
    for (size_t i = 0; i < n_group; i++)
        memcpy(p->group_codes + i * stride, p->leader_codes + centre[i] * stride, stride);
    norms_of(p->g, p->group_codes, n_group, p->group_norm);
    for (size_t i = 0; i < p->n_leader; i++) {
        struct worker *w = &p->worker[0];
        const uint8_t *code = p->leader_codes + i * stride;
        uint32_t best = 0;
        int32_t dist;

        sign_code(code, stride, w->signed_codes);
        measure_code(code, stride, w->norm, w->sum);
        distances_block(p->g, code, w->signed_codes, w->norm, w->sum, 1, p->group_codes, p->group_norm,
                        n_group, w->tile, w->tile_width);
        (void) smallest(p->g->space.kernels, w->tile, n_group, 1, w->pick, &best, &dist);
        order[i] = (uint64_t) best << 32 | p->leader_id[i];
        p->group_start[best + 1]++;
    }
    for (size_t i = 0; i < n_group; i++)
        p->group_start[i + 1] += p->group_start[i];
    qsort(order, p->n_leader, sizeof(*order), compare_u64);
    for (size_t i = 0; i < p->n_leader; i++)
        p->leader_id[i] = (uint32_t) order[i];
    p->n_group = n_group;
out:
    anx_free(alloc, centre);
    anx_free(alloc, order);
    return st;
}

static anx_status
choose_leaders(struct partition *p, anx_error *err)
{
    const anx_alloc *alloc = p->g->index->base.params.alloc;
    anx_rng rng = anx_rng_seed(p->seed);
    anx_status st = ANX_OK;

    p->leader_id = anx_alloc_array(alloc, p->n_leader, sizeof(uint32_t));
    p->leader_codes = anx_alloc_aligned(alloc, p->n_leader, p->g->stride);
    p->leader_norm = anx_alloc_array(alloc, p->n_leader, sizeof(int32_t));
    if (!p->leader_id || !p->leader_codes || !p->leader_norm)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu leaders", p->n_leader);
    sample_slots(p->n, p->n_leader, &rng, p->leader_id);
    load_codes(p->g, p->leader_id, p->n_leader, p->leader_codes);
    if (p->n_leader > GROUP_FROM) {
        st = group_leaders(p, &rng, err);
        load_codes(p->g, p->leader_id, p->n_leader, p->leader_codes);
    }
    norms_of(p->g, p->leader_codes, p->n_leader, p->leader_norm);
    return st;
}

/* Merges two ascending lists' worth of candidates into one of at most `keep`. */
static size_t
merge_smallest(uint32_t *index, int32_t *dist, size_t have, size_t keep, const uint32_t *more,
               const int32_t *more_dist, size_t n_more, uint32_t shift)
{
    for (size_t i = 0; i < n_more && keep > 0; i++) {
        size_t j;

        if (have == keep && more_dist[i] >= dist[keep - 1])
            break;
        j = have < keep ? have++ : keep - 1;
        for (; j > 0 && dist[j - 1] > more_dist[i]; j--) {
            dist[j] = dist[j - 1];
            index[j] = index[j - 1];
        }
        dist[j] = more_dist[i];
        index[j] = more[i] + shift;
    }
    return have;
}

/* One row against the leaders of its nearest groups. */
static size_t
nearest_grouped(const struct partition *p, struct worker *w, size_t i, uint32_t *index, int32_t *dist)
{
    const anx_kernels *k = p->g->space.kernels;
    size_t stride = p->g->stride, have = 0, n_group;
    const uint8_t *code = w->codes + i * stride;
    const int8_t *code_signed = w->signed_codes + i * stride;
    uint32_t group[GROUPS_PROBED], part[FAN_OUT_MAX];
    int32_t group_dist[GROUPS_PROBED], part_dist[FAN_OUT_MAX];

    distances_block(p->g, code, code_signed, w->norm + i, w->sum + i, 1, p->group_codes, p->group_norm,
                    p->n_group, w->tile, w->tile_width);
    n_group = smallest(k, w->tile, p->n_group, GROUPS_PROBED, w->pick, group, group_dist);
    for (size_t j = 0; j < n_group; j++) {
        size_t from = p->group_start[group[j]], n = p->group_start[group[j] + 1] - from, n_part;

        distances_block(p->g, code, code_signed, w->norm + i, w->sum + i, 1, p->leader_codes + from * stride,
                        p->leader_norm + from, n, w->tile, w->tile_width);
        n_part = smallest(k, w->tile, n, p->fan_out, w->pick, part, part_dist);
        have = merge_smallest(index, dist, have, p->fan_out, part, part_dist, n_part, (uint32_t) from);
    }
    return have;
}

static void
assign_rows(void *context, size_t begin, size_t end, size_t worker)
{
    struct partition *p = context;
    struct worker *w = &p->worker[worker];
    size_t stride = p->g->stride;
    uint32_t index[FAN_OUT_MAX];
    int32_t dist[FAN_OUT_MAX];

    if (worker == 0)
        (void) bulk_report(p->progress, "dividing", begin, p->n);
    if (bulk_is_cancelled(p->progress)) { /* what follows reads these */
        memset(p->assigned + begin * p->fan_out, 0xff, (end - begin) * p->fan_out * sizeof(*p->assigned));
        return;
    }
    for (size_t at = begin; at < end; at += ROW_BLOCK) {
        size_t n = end - at < ROW_BLOCK ? end - at : ROW_BLOCK;

        for (size_t i = 0; i < n; i++) {
            memcpy(w->codes + i * stride, graph_code(p->g, (uint32_t) (at + i)), stride);
            sign_code(w->codes + i * stride, stride, w->signed_codes + i * stride);
            w->norm[i] = p->row_norm[at + i];
            w->sum[i] = p->row_sum[at + i];
        }
        if (!p->n_group)
            distances_block(p->g, w->codes, w->signed_codes, w->norm, w->sum, n, p->leader_codes,
                            p->leader_norm, p->n_leader, w->tile, w->tile_width);
        for (size_t i = 0; i < n; i++) {
            size_t have = p->n_group ? nearest_grouped(p, w, i, index, dist)
                                     : smallest(p->g->space.kernels, w->tile + i * w->tile_width, p->n_leader,
                                                p->fan_out, w->pick, index, dist);

            for (size_t j = 0; j < p->fan_out; j++)
                p->assigned[(at + i) * p->fan_out + j] = j < have ? index[j] : SLOT_NONE;
        }
    }
}

/* Members of each leader's leaf, ascending by slot. */
static void
collect_members(struct partition *p)
{
    for (size_t i = 0; i < p->n * p->fan_out; i++)
        if (p->assigned[i] != SLOT_NONE)
            p->start[p->assigned[i] + 1]++;
    for (size_t i = 0; i < p->n_leader; i++)
        p->start[i + 1] += p->start[i];
    for (size_t i = 0; i < p->n; i++)
        for (size_t j = 0; j < p->fan_out; j++) {
            uint32_t leader = p->assigned[i * p->fan_out + j];

            if (leader != SLOT_NONE)
                p->member[p->start[leader]++] = (uint32_t) i;
        }
    for (size_t i = p->n_leader; i > 0; i--)
        p->start[i] = p->start[i - 1];
    p->start[0] = 0;
}

/* --- leaves --- */

static void
leaf_compare(struct partition *p, struct worker *w, const uint32_t *ids, size_t n)
{
    const struct graph *g = p->g;
    size_t stride = g->stride;
    uint32_t index[KEEP_MAX];
    int32_t dist[KEEP_MAX];

    for (size_t i = 0; i < n; i++) {
        if (i + 8 < n)
            for (size_t b = 0; b < stride; b += 64)
                __builtin_prefetch(graph_code(g, ids[i + 8]) + b);
        memcpy(w->codes + i * stride, graph_code(g, ids[i]), stride);
        sign_code(w->codes + i * stride, stride, w->signed_codes + i * stride);
        w->norm[i] = p->row_norm[ids[i]];
        w->sum[i] = p->row_sum[ids[i]];
    }
    for (size_t at = 0; at < n; at += ROW_BLOCK) {
        size_t rows = n - at < ROW_BLOCK ? n - at : ROW_BLOCK;

        for (size_t i = 0; i < rows;
             i++) { /* where candidates will be written: far apart for rows of a leaf */
            __builtin_prefetch(&p->c->count[ids[at + i]], 1);
            __builtin_prefetch(p->c->list + ids[at + i] * p->c->width, 1);
        }
        distances_block(g, w->codes + at * stride, w->signed_codes + at * stride, w->norm + at, w->sum + at,
                        rows, w->codes, w->norm, n, w->tile, w->tile_width);
        for (size_t i = 0; i < rows; i++) {
            int32_t *row = w->tile + i * w->tile_width;
            size_t have;

            row[at + i] = INT32_MAX; /* not itself */
            have = smallest(g->space.kernels, row, n, p->keep, w->pick, index, dist);
            pools_put(p->c, ids[at + i], ids, index, have);
        }
    }
}

/* Splits a crowded leaf around random members, each row to its nearest one; then compares. ids is reordered.
 */
static void
leaf_process(struct partition *p, struct worker *w, uint32_t *ids, size_t n, anx_rng *rng, unsigned depth)
{
    size_t n_pivot = (n + LEAF_TARGET - 1) / LEAF_TARGET, filled = 0;
    uint32_t pivot[64], *sorted;
    uint32_t *bucket;
    const anx_alloc *alloc = p->g->index->base.params.alloc;

    if (n < 2)
        return;
    if (n <= LEAF_MAX) {
        leaf_compare(p, w, ids, n);
        return;
    }
    n_pivot = n_pivot > 64 ? 64 : n_pivot;
    bucket = anx_alloc_array(alloc, n, sizeof(*bucket));
    sorted = anx_alloc_array(alloc, n, sizeof(*sorted));
    if (!bucket || !sorted) {
        atomic_store(&p->failed, true);
        goto out;
    }
    for (size_t i = 0; i < n_pivot; i++)
        pivot[i] = ids[i * n / n_pivot + anx_rng_below(rng, (uint32_t) (n / n_pivot))];
    for (size_t i = 0; i < n; i++) {
        const uint8_t *codes[64];
        int32_t dist[64];
        uint32_t best = 0;

        for (size_t j = 0; j < n_pivot; j++)
            codes[j] = graph_code(p->g, pivot[j]);
        code_distances(p->g, graph_code(p->g, ids[i]), codes, n_pivot, dist);
        for (uint32_t j = 1; j < n_pivot; j++)
            if (dist[j] < dist[best])
                best = j;
        bucket[i] =
            depth < 6 ? best : (uint32_t) (i * n_pivot / n); /* rows that no pivot separates: cut by number */
    }
    for (uint32_t j = 0; j < n_pivot; j++) {
        size_t from = filled;

        for (size_t i = 0; i < n; i++)
            if (bucket[i] == j)
                sorted[filled++] = ids[i];
        if (filled > from)
            leaf_process(p, w, sorted + from, filled - from, rng, depth + 1);
    }
out:
    anx_free(alloc, bucket);
    anx_free(alloc, sorted);
}

static void
process_leaves(void *context, size_t begin, size_t end, size_t worker)
{
    struct partition *p = context;

    for (size_t leader = begin; leader < end; leader++) {
        anx_rng rng = anx_rng_seed(p->seed + leader);
        size_t n = p->start[leader + 1] - p->start[leader];

        if (bulk_is_cancelled(p->progress))
            return;
        leaf_process(p, &p->worker[worker], p->member + p->start[leader], n, &rng, 0);
        n = atomic_fetch_add(&p->done, n) + n;
        if (worker == 0)
            (void) bulk_report(p->progress, "comparing", n / p->fan_out, p->n);
    }
}

/* --- memory --- */

static void
partition_fini(struct partition *p, size_t n_worker)
{
    const anx_alloc *alloc = p->g->index->base.params.alloc;

    for (size_t i = 0; p->worker && i < n_worker; i++) {
        anx_free_aligned(alloc, p->worker[i].codes);
        anx_free_aligned(alloc, p->worker[i].signed_codes);
        anx_free_aligned(alloc, p->worker[i].tile);
        anx_free(alloc, p->worker[i].norm);
        anx_free(alloc, p->worker[i].sum);
        anx_free(alloc, p->worker[i].pick);
    }
    anx_free(alloc, p->worker);
    anx_free(alloc, p->leader_id);
    anx_free_aligned(alloc, p->leader_codes);
    anx_free(alloc, p->leader_norm);
    anx_free_aligned(alloc, p->group_codes);
    anx_free(alloc, p->group_norm);
    anx_free(alloc, p->group_start);
    anx_free(alloc, p->row_norm);
    anx_free(alloc, p->row_sum);
    anx_free(alloc, p->assigned);
    anx_free(alloc, p->start);
    anx_free(alloc, p->member);
}

static anx_status
partition_init(struct partition *p, size_t n_worker, anx_error *err)
{
    const anx_alloc *alloc = p->g->index->base.params.alloc;
    size_t width = p->n_leader > LEAF_MAX ? p->n_leader : LEAF_MAX;
    bool ok;

    width = (width + 15) / 16 * 16;
    p->row_norm = anx_alloc_array(alloc, p->n, sizeof(int32_t));
    p->row_sum = anx_alloc_array(alloc, p->n, sizeof(int32_t));
    p->assigned = anx_alloc_array(alloc, p->n * p->fan_out, sizeof(uint32_t));
    p->member = anx_alloc_array(alloc, p->n * p->fan_out, sizeof(uint32_t));
    p->start = anx_alloc_zeroed(alloc, p->n_leader + 2, sizeof(uint32_t));
    p->worker = anx_alloc_zeroed(alloc, n_worker, sizeof(*p->worker));
    ok = p->row_norm && p->row_sum && p->assigned && p->member && p->start && p->worker;
    for (size_t i = 0; ok && i < n_worker; i++) {
        struct worker *w = &p->worker[i];

        w->tile_width = width;
        w->codes = anx_alloc_aligned(alloc, LEAF_MAX, p->g->stride);
        w->signed_codes = anx_alloc_aligned(alloc, LEAF_MAX, p->g->stride);
        w->norm = anx_alloc_array(alloc, LEAF_MAX, sizeof(int32_t));
        w->sum = anx_alloc_array(alloc, LEAF_MAX, sizeof(int32_t));
        w->tile = anx_alloc_aligned(alloc, ROW_BLOCK * width, sizeof(int32_t));
        w->pick = anx_alloc_array(alloc, width, sizeof(uint32_t));
        ok = w->codes && w->signed_codes && w->norm && w->sum && w->tile && w->pick;
    }
    if (!ok)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a partition of %zu rows", p->n);
    return ANX_OK;
}

anx_status
bulk_partition(struct graph *g, anx_pool *pool, struct pools *c, uint64_t seed, size_t fan_out, size_t keep,
               struct bulk_progress *progress, anx_error *err)
{
    size_t n_worker = anx_pool_size(pool), n = c->n;
    struct partition p = { .g = g, .c = c, .progress = progress, .n = n, .fan_out = fan_out, .keep = keep,
                           .seed = seed };
    anx_status st;

    if (n <= LEAF_MAX) { /* one leaf: exact */
        p.fan_out = 1;
        p.n_leader = 1;
    } else {
        p.n_leader = n * fan_out / LEAF_TARGET;
        p.n_leader = p.n_leader < fan_out ? fan_out : p.n_leader;
    }
    st = partition_init(&p, n_worker, err);
    if (st == ANX_OK)
        st = choose_leaders(&p, err);
    if (st == ANX_OK) {
        anx_pool_for(pool, n, 2048, measure_rows, &p);
        anx_pool_for(pool, n, 2048, assign_rows, &p);
        collect_members(&p);
        anx_free(g->index->base.params.alloc, p.assigned);
        p.assigned = NULL;
        anx_pool_for(pool, p.n_leader, 4, process_leaves, &p);
        if (atomic_load(&p.failed))
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate a split of a crowded leaf");
        else
            st = bulk_check_cancelled(progress, err);
    }
    partition_fini(&p, n_worker);
    return st;
}
