/* Nearest centroids; see the header.
 *
 * On codes, with x' = x - mid ~ step * s (s signed codes) and w ~ (step * c') / scale:
 *     l2:  (|c'|^2 - 2 c'.x') / scale  ~  base - 2 s.w     c' = c - mid, base = |c'|^2 / scale
 *     ip:  -2 c.x / scale              ~  base - 2 s.w     c' = c,       base = -2 c.mid / scale
 * One scale for all centroids keeps the comparison in integers. The kernel wants the second operand unsigned:
 * 128 is added to w, which adds the same 128 * sum(s) to every product of a point and so changes no order. */
#include "ann/assign.h"

#include <math.h>
#include <stdatomic.h>
#include <string.h>

#include "ann/blas.h"
#include "base/alloc.h"
#include "base/error.h"

#define BLOCK_POINTS 64
#define BLOCK_CENTROIDS 1024        /* products of a block: 256 kB, half of a small second-level cache */
#define ROWS_AT_ONCE 32             /* own f32 kernel: centroids that stay in the first-level cache (taste) */
#define CODES_DIM_MAX 16384         /* above, 2 * dot may leave 31 bits */
#define BASE_MAX ((float) (1 << 29)) /* room for 2 * dot beside it */
#define CANDIDATE_MAX 16            /* centroids compared in f32 per point */
/* Rounding of a code adds about uniform noise of 1/2 to each product term of about 40 (measured on both data
 * sets of the benchmark); twice the sum of dim of them, two standard deviations. */
#define MARGIN_PER_ROOT_DIM 48.0f

struct scratch {
    float *points;      /* [BLOCK_POINTS * dim] floats engine; [2 * dim] codes engine */
    int8_t *codes;      /* [BLOCK_POINTS * stride] */
    int32_t *products;  /* [BLOCK_POINTS * BLOCK_CENTROIDS], floats in the floats engine */
};

bool
assigner_prefers_codes(const struct coder *coder)
{
    if (coder->dim > CODES_DIM_MAX || blas_is_forced())
        return false;
    return !strcmp(coder->kernels->name, "avx512") || !blas_is_available();
}

/* The scale: the largest weight becomes 127, and no base leaves its range. */
static float
choose_scale(const struct assigner *a, float *work)
{
    const struct coder *coder = a->coder;
    float largest = 0, largest_base = 0, scale;

    for (size_t i = 0; i < a->n; i++) {
        const float *c = a->centroids + i * a->dim;

        for (size_t t = 0; t < a->dim; t++) {
            float v = (a->is_l2 ? c[t] - coder->mid[t] : c[t]) * coder->step[t];

            work[t] = c[t] - coder->mid[t];
            largest = fmaxf(largest, fabsf(v));
        }
        largest_base = fmaxf(largest_base, a->is_l2 ? a->kernels->norm2_f32(work, a->dim)
                                                    : 2 * fabsf(a->kernels->dot_f32(c, coder->mid, a->dim)));
    }
    scale = fmaxf(largest / 127, largest_base / BASE_MAX);
    return scale > 0 && isfinite(scale) ? scale : 1;
}

static void
encode_centroids(struct assigner *a, float *work)
{
    const struct coder *coder = a->coder;
    float inverse = 1 / choose_scale(a, work);

    for (size_t i = 0; i < a->n; i++) {
        const float *c = a->centroids + i * a->dim;
        uint8_t *code = a->codes + i * coder->stride;
        float base;

        for (size_t t = 0; t < a->dim; t++)
            work[t] = c[t] - coder->mid[t];
        base =
            a->is_l2 ? a->kernels->norm2_f32(work, a->dim) : -2 * a->kernels->dot_f32(c, coder->mid, a->dim);
        a->bases[i] = (int32_t) fmaxf(fminf(base * inverse, BASE_MAX), -BASE_MAX);
        for (size_t t = 0; t < a->dim; t++)
            work[t] = (a->is_l2 ? work[t] : c[t]) * coder->step[t] * inverse;
        a->kernels->encode_u8(work, a->dim, -CODE_ZERO, 1, code);
        memset(code + a->dim, CODE_ZERO, coder->stride - a->dim);
    }
    a->margin = (int32_t) (MARGIN_PER_ROOT_DIM * sqrtf((float) a->dim));
}

anx_status
assigner_init(struct assigner *a, const struct coder *coder, const float *centroids, size_t n, bool is_l2,
              const anx_alloc *alloc, anx_error *err)
{
    float *work = anx_alloc_array(alloc, coder->dim, sizeof(*work));

    *a = (struct assigner) {
        .coder = coder,
        .kernels = coder->kernels,
        .alloc = alloc,
        .centroids = centroids,
        .n = n,
        .dim = coder->dim,
        .is_l2 = is_l2,
        .uses_codes = assigner_prefers_codes(coder),
    };
    a->half_norms = anx_alloc_zeroed(alloc, n, sizeof(*a->half_norms));
    if (a->uses_codes) {
        a->codes = anx_alloc_aligned(alloc, n, coder->stride);
        a->bases = anx_alloc_array(alloc, n, sizeof(*a->bases));
    }
    if (!work || !a->half_norms || (a->uses_codes && (!a->codes || !a->bases))) {
        anx_free(alloc, work);
        assigner_fini(a);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate codes of %zu centroids", n);
    }
    for (size_t i = 0; i < n && is_l2; i++)
        a->half_norms[i] = a->kernels->norm2_f32(centroids + i * a->dim, a->dim) / 2;
    if (a->uses_codes)
        encode_centroids(a, work);
    anx_free(alloc, work);
    return ANX_OK;
}

void
assigner_fini(struct assigner *a)
{
    anx_free_aligned(a->alloc, a->codes);
    anx_free(a->alloc, a->bases);
    anx_free(a->alloc, a->half_norms);
    a->codes = NULL;
    a->bases = NULL;
    a->half_norms = NULL;
}

void
assigner_encode(const struct coder *coder, const struct points *points, size_t begin, size_t end, float *work,
                int8_t *out)
{
    for (size_t i = begin; i < end; i++, out += coder->stride) {
        const float *x = points_get(points, i, work + coder->dim);
        uint8_t *code = (uint8_t *) out;

        coder_encode(coder, x, work, code);
        for (size_t t = 0; t < coder->stride; t++)
            code[t] ^= 0x80; /* less 128, as a signed byte */
    }
}

/* The least of n keys and those within margin of it: at most CANDIDATE_MAX, the rest is dropped. */
struct best {
    int32_t key;
    size_t n;
    uint32_t centroid[CANDIDATE_MAX];
    int32_t keys[CANDIDATE_MAX];
};

static void
best_offer(struct best *best, int32_t key, uint32_t centroid, int32_t margin)
{
    size_t worst = 0;

    if (key < best->key) {
        size_t kept = 0;

        best->key = key;
        for (size_t i = 0; i < best->n; i++)
            if (best->keys[i] <= key + margin) {
                best->keys[kept] = best->keys[i];
                best->centroid[kept++] = best->centroid[i];
            }
        best->n = kept;
    }
    if (best->n < CANDIDATE_MAX) {
        worst = best->n++;
    } else {
        for (size_t i = 1; i < CANDIDATE_MAX; i++)
            if (best->keys[i] > best->keys[worst])
                worst = i;
        if (best->keys[worst] <= key)
            return;
    }
    best->keys[worst] = key;
    best->centroid[worst] = centroid;
}

/* The kernel that finds the least of each lane gives the bound, and the one that selects what is below gives
 * the few. */
static void
best_of_row(const anx_kernels *kernels, const int32_t *keys, size_t n, uint32_t first, int32_t margin,
            uint32_t *ids, struct best *best)
{
    int32_t bound = best->n ? best->key : INT32_MAX - margin - 1;
    int32_t lanes[16];
    size_t n_found;

    kernels->min_lanes(keys, n, lanes);
    for (size_t j = 0; j < ANX_COUNT_OF(lanes); j++)
        bound = lanes[j] < bound ? lanes[j] : bound;
    n_found = kernels->select_below(keys, n, bound + margin + 1, ids);
    for (size_t j = 0; j < n_found; j++)
        best_offer(best, keys[ids[j]], first + ids[j], margin);
}

/* The nearest of the candidates in f32; ties go to the smaller number. */
static uint32_t
nearest_of(const struct assigner *a, const float *x, const struct best *best)
{
    float least = INFINITY;
    uint32_t winner = best->centroid[0];

    for (size_t i = 0; i < best->n; i++) {
        uint32_t c = best->centroid[i];
        float key = a->half_norms[c] - a->kernels->dot_f32(x, a->centroids + c * a->dim, a->dim);

        if (key < least || (key == least && c < winner)) {
            least = key;
            winner = c;
        }
    }
    return winner;
}

static uint32_t
least_of(const struct best *best)
{
    size_t at = 0;

    for (size_t i = 1; i < best->n; i++)
        if (best->keys[i] < best->keys[at] ||
            (best->keys[i] == best->keys[at] && best->centroid[i] < best->centroid[at]))
            at = i;
    return best->centroid[at];
}

struct job {
    const struct assigner *assigner;
    const struct points *points;
    const int8_t *codes; /* of all points, or NULL */
    bool is_exact;
    uint32_t *out;
    struct scratch *scratch; /* per worker */
};

static void
assign_on_codes(const struct job *job, struct scratch *s, size_t begin, size_t n)
{
    const struct assigner *a = job->assigner;
    size_t stride = a->coder->stride;
    const int8_t *codes = job->codes ? job->codes + begin * stride : s->codes;
    int32_t margin = job->is_exact ? a->margin : 0;
    uint32_t ids[BLOCK_CENTROIDS];
    struct best best[BLOCK_POINTS];

    if (!job->codes)
        assigner_encode(a->coder, job->points, begin, begin + n, s->points, s->codes);
    for (size_t i = 0; i < n; i++) {
        best[i].n = 0;
        best[i].key = INT32_MAX;
        best[i].centroid[0] = 0;
    }
    for (size_t at = 0; at < a->n; at += BLOCK_CENTROIDS) {
        size_t m = a->n - at < BLOCK_CENTROIDS ? a->n - at : BLOCK_CENTROIDS;

        a->kernels->dot_block(codes, n, a->codes + at * stride, m, stride, s->products, BLOCK_CENTROIDS);
        for (size_t i = 0; i < n; i++) {
            int32_t *row = s->products + i * BLOCK_CENTROIDS;

            a->kernels->l2_from_dot(row, a->bases + at, 0, m, row);
            best_of_row(a->kernels, row, m, (uint32_t) at, margin, ids, &best[i]);
        }
    }
    for (size_t i = 0; i < n; i++)
        job->out[begin + i] = job->is_exact && best[i].n > 1
                                  ? nearest_of(a, points_get(job->points, begin + i, s->points), &best[i])
                                  : least_of(&best[i]);
}

/* Our own product, for want of a BLAS: a few centroids stay in cache while all points of the block pass. */
static void
own_dot_rows(const struct assigner *a, const float *points, size_t n, size_t at, size_t m, float *out)
{
    for (size_t j = 0; j < m; j += ROWS_AT_ONCE) {
        size_t n_row = m - j < ROWS_AT_ONCE ? m - j : ROWS_AT_ONCE;

        for (size_t i = 0; i < n; i++) {
            float *row = out + i * BLOCK_CENTROIDS + j;

            a->kernels->ip_f32_rows(points + i * a->dim, a->centroids + (at + j) * a->dim, n_row, a->dim,
                                    row);
            for (size_t t = 0; t < n_row; t++)
                row[t] = -row[t];
        }
    }
}

static void
assign_on_floats(const struct job *job, struct scratch *s, size_t begin, size_t n)
{
    const struct assigner *a = job->assigner;
    float *products = (float *) s->products;
    float least[BLOCK_POINTS];

    for (size_t i = 0; i < n; i++) {
        const float *x = points_get(job->points, begin + i, s->points + i * a->dim);

        if (x != s->points + i * a->dim)
            memcpy(s->points + i * a->dim, x, a->dim * sizeof(*x));
        least[i] = INFINITY;
        job->out[begin + i] = 0;
    }
    for (size_t at = 0; at < a->n; at += BLOCK_CENTROIDS) {
        size_t m = a->n - at < BLOCK_CENTROIDS ? a->n - at : BLOCK_CENTROIDS;

        if (blas_is_available())
            blas_dot_rows(s->points, n, a->centroids + at * a->dim, m, a->dim, products, BLOCK_CENTROIDS);
        else
            own_dot_rows(a, s->points, n, at, m, products);
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; j < m; j++) {
                float key = a->half_norms[at + j] - products[i * BLOCK_CENTROIDS + j];

                if (key < least[i]) {
                    least[i] = key;
                    job->out[begin + i] = (uint32_t) (at + j);
                }
            }
    }
}

static void
assign_range(void *context, size_t begin, size_t end, size_t worker)
{
    const struct job *job = context;
    struct scratch *scratch = &job->scratch[worker];

    if (job->assigner->uses_codes)
        assign_on_codes(job, scratch, begin, end - begin);
    else
        assign_on_floats(job, scratch, begin, end - begin);
}

static bool
scratch_init(const struct assigner *a, struct scratch *s)
{
    size_t n_row = a->uses_codes ? 2 : BLOCK_POINTS;

    s->points = anx_alloc_array(a->alloc, n_row * a->dim, sizeof(*s->points));
    s->codes = anx_alloc_aligned(a->alloc, a->uses_codes ? BLOCK_POINTS : 1, a->coder->stride);
    s->products = anx_alloc_aligned(a->alloc, BLOCK_POINTS * BLOCK_CENTROIDS, sizeof(*s->products));
    return s->points && s->codes && s->products;
}

static void
scratch_fini(const struct assigner *a, struct scratch *s)
{
    anx_free(a->alloc, s->points);
    anx_free_aligned(a->alloc, s->codes);
    anx_free_aligned(a->alloc, s->products);
}

anx_status
assigner_run(const struct assigner *a, const struct points *points, const int8_t *codes, anx_pool *pool,
             bool is_exact, uint32_t *out, anx_error *err)
{
    size_t n_worker = pool ? anx_pool_size(pool) : 1;
    struct job job = { .assigner = a, .points = points, .codes = codes, .is_exact = is_exact, .out = out };
    anx_status st = ANX_OK;

    job.scratch = anx_alloc_zeroed(a->alloc, n_worker, sizeof(*job.scratch));
    if (!job.scratch)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate scratch of %zu threads", n_worker);
    for (size_t i = 0; i < n_worker && st == ANX_OK; i++)
        if (!scratch_init(a, &job.scratch[i]))
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate scratch of %zu threads", n_worker);
    if (st == ANX_OK && !a->uses_codes)
        blas_begin();
    if (st == ANX_OK && pool)
        anx_pool_for(pool, points->n, BLOCK_POINTS, assign_range, &job);
    for (size_t at = 0; st == ANX_OK && !pool && at < points->n; at += BLOCK_POINTS)
        assign_range(&job, at, points->n - at < BLOCK_POINTS ? points->n : at + BLOCK_POINTS, 0);
    if (st == ANX_OK && !a->uses_codes)
        blas_end();
    for (size_t i = 0; i < n_worker; i++)
        scratch_fini(a, &job.scratch[i]);
    anx_free(a->alloc, job.scratch);
    return st;
}
