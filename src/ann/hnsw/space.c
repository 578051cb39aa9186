/* See space.h. The orthogonal map: with p the largest power of two <= dim, a round is signs, Hadamard on the
 * first p components, Hadamard on the last p, each scaled by 1/sqrt(p). Both steps are orthogonal, their
 * overlap mixes all components, and nothing is padded, so codes stay dim bytes. Two rounds were enough to
 * make the spread of components even on embeddings whose variances differ by 100x. */
#include "ann/hnsw/space.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"

#define ROTATION_SEED 0x414e4e4558u
/* Components beyond this many standard deviations are clipped when no quantile is asked for. Rerank repairs
 * the few rows it concerns; a wider range wastes code precision on all (measured: 3.5 to 5 are equal within
 * noise). */
#define CLIP_SIGMA 4.0f
#define QUANTILE_BATCH 20 /* rows; what the quantile means to clients of the document database */
#define RESIDUAL_SLOP 2e-6
/* 255^2 times this is below 2^31, the range of code distances. */
#define LOSSLESS_DIM_MAX 32768

static size_t
round_up(size_t n, size_t to)
{
    return (n + to - 1) / to * to;
}

static size_t
turned_dim(const anx_index_params *params)
{
    return params->dim + (params->metric == ANX_METRIC_IP);
}

size_t
space_stride(const anx_index_params *params)
{
    if (params->scalar == ANX_SCALAR_B1)
        return round_up((params->dim + 7) / 8, 64);
    return round_up(turned_dim(params), 64);
}

void
space_fini(struct space *space)
{
    anx_free(space->alloc, space->mean);
    anx_free(space->alloc, space->signs[0]);
    anx_free(space->alloc, space->signs[1]);
    space->mean = space->signs[0] = space->signs[1] = NULL;
}

anx_status
space_init(struct space *space, const anx_index_params *params, const anx_kernels *kernels, bool lossless,
           anx_error *err)
{
    anx_rng rng = anx_rng_seed(ROTATION_SEED);

    *space = (struct space) { .metric = params->metric, .scalar = params->scalar, .kernels = kernels,
                              .alloc = params->alloc, .dim = params->dim, .turned_dim = turned_dim(params),
                              .stride = space_stride(params), .step = 1.0f };
    if (params->scalar == ANX_SCALAR_B1) {
        space->kind = SPACE_BITS;
        return ANX_OK;
    }
    if (lossless && params->metric == ANX_METRIC_L2 && params->dim <= LOSSLESS_DIM_MAX) {
        space->kind = SPACE_LOSSLESS;
        return ANX_OK;
    }
    space->kind = SPACE_ROTATED;
    space->mean = anx_alloc_array(params->alloc, space->turned_dim, sizeof(float));
    space->signs[0] = anx_alloc_array(params->alloc, space->turned_dim, sizeof(float));
    space->signs[1] = anx_alloc_array(params->alloc, space->turned_dim, sizeof(float));
    if (!space->mean || !space->signs[0] || !space->signs[1]) {
        space_fini(space);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the code space of %zu components",
                        space->turned_dim);
    }
    for (size_t i = 0; i < space->turned_dim; i++) {
        uint64_t bits = anx_rng_next(&rng);

        space->mean[i] = 0.0f;
        space->signs[0][i] = bits & 1 ? 1.0f : -1.0f;
        space->signs[1][i] = bits & 2 ? 1.0f : -1.0f;
    }
    return ANX_OK;
}

void
space_widen(const struct space *space, const void *row, float *out)
{
    switch (space->scalar) {
    case ANX_SCALAR_F32:
        memcpy(out, row, space->dim * sizeof(float));
        break;
    case ANX_SCALAR_F16:
        space->kernels->f16_to_f32(row, space->dim, out);
        break;
    case ANX_SCALAR_I8:
        for (size_t i = 0; i < space->dim; i++)
            out[i] = (float) ((const int8_t *) row)[i];
        break;
    case ANX_SCALAR_U8:
        for (size_t i = 0; i < space->dim; i++)
            out[i] = (float) ((const uint8_t *) row)[i];
        break;
    case ANX_SCALAR_B1:
    case ANX_SCALAR_COUNT:
        break;
    }
}

/* The row as floats in the space that codes measure: normalized for cosine, lifted for ip. */
static void
flatten(const struct space *space, const void *row, float *out)
{
    space_widen(space, row, out);
    if (space->metric == ANX_METRIC_COSINE) {
        float norm2 = space->kernels->norm2_f32(out, space->dim);
        float inverse = norm2 > 0 ? 1.0f / sqrtf(norm2) : 0.0f;

        for (size_t i = 0; i < space->dim; i++)
            out[i] *= inverse;
    } else if (space->metric == ANX_METRIC_IP) {
        float rest = space->max_norm2 - space->kernels->norm2_f32(out, space->dim);

        out[space->dim] = rest > 0 ? sqrtf(rest) : 0.0f;
    }
}

static void
hadamard_block(const struct space *space, float *x, size_t p)
{
    float scale = 1.0f / sqrtf((float) p);

    space->kernels->hadamard(x, p);
    for (size_t i = 0; i < p; i++)
        x[i] *= scale;
}

static size_t
power_below(size_t n)
{
    size_t p = 1;

    while (p * 2 <= n)
        p *= 2;
    return p;
}

static void
rotate(const struct space *space, float *x)
{
    size_t n = space->turned_dim, p = power_below(n);

    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < n; i++)
            x[i] *= space->signs[round][i];
        hadamard_block(space, x, p);
        if (p < n)
            hadamard_block(space, x + (n - p), p);
    }
}

/* The inverse: each step of rotate is its own inverse, in reverse order. */
static void
rotate_back(const struct space *space, float *x)
{
    size_t n = space->turned_dim, p = power_below(n);

    for (int round = 1; round >= 0; round--) {
        if (p < n)
            hadamard_block(space, x + (n - p), p);
        hadamard_block(space, x, p);
        for (size_t i = 0; i < n; i++)
            x[i] *= space->signs[round][i];
    }
}

/* The l2 order of LOSSLESS codes needs the same shift on all rows, nothing else: i8 is moved to 0..255. */
static void
encode_bytes(const struct space *space, const void *row, uint8_t *code)
{
    switch (space->scalar) {
    case ANX_SCALAR_U8:
        memcpy(code, row, space->dim);
        break;
    case ANX_SCALAR_I8:
        for (size_t i = 0; i < space->dim; i++)
            code[i] = (uint8_t) (((const uint8_t *) row)[i] ^ 0x80u);
        break;
    case ANX_SCALAR_F32:
        space->kernels->encode_u8(row, space->dim, 0.0f, 1.0f, code);
        break;
    case ANX_SCALAR_F16:
        for (size_t i = 0; i < space->dim; i++) {
            float x;

            space->kernels->f16_to_f32((const uint16_t *) row + i, 1, &x);
            code[i] = (uint8_t) (x < 0 ? 0 : x > 255 ? 255 : x);
        }
        break;
    case ANX_SCALAR_B1:
    case ANX_SCALAR_COUNT:
        break;
    }
}

bool
space_row_is_bytes(const struct space *space, const void *row)
{
    const float *x = row;

    if (space->scalar == ANX_SCALAR_I8 || space->scalar == ANX_SCALAR_U8)
        return true;
    if (space->scalar == ANX_SCALAR_F16) {
        for (size_t i = 0; i < space->dim; i++) {
            float v;

            space->kernels->f16_to_f32((const uint16_t *) row + i, 1, &v);
            if (!(v >= 0 && v <= 255 && v == (float) (int) v) || (v == 0 && signbit(v)))
                return false;
        }
        return true;
    }
    for (size_t i = 0; i < space->dim; i += 16) {
        size_t end = i + 16 < space->dim ? i + 16 : space->dim;
        unsigned bad = 0;

        for (size_t j = i; j < end; j++) /* no early exit inside: vectorizes */
            bad |= !(x[j] >= 0 && x[j] <= 255 && x[j] == (float) (int) x[j]);
        if (bad)
            return false;
    }
    return true;
}

size_t
space_encode(const struct space *space, const void *row, uint8_t *code, float *buffer)
{
    size_t clipped = 0, used = space->kind == SPACE_BITS ? (space->dim + 7) / 8
                             : space->kind == SPACE_LOSSLESS ? space->dim : space->turned_dim;

    memset(code + used, 0, space->stride - used);
    if (space->kind == SPACE_BITS) {
        memcpy(code, row, used);
        return 0;
    }
    if (space->kind == SPACE_LOSSLESS) {
        encode_bytes(space, row, code);
        return 0;
    }
    flatten(space, row, buffer);
    for (size_t i = 0; i < space->turned_dim; i++)
        buffer[i] -= space->mean[i];
    rotate(space, buffer);
    space->kernels->encode_u8(buffer, space->turned_dim, space->offset, 1.0f / space->step, code);
    for (size_t i = 0; i < space->turned_dim; i++)
        clipped += (code[i] == 0) | (code[i] == 255);
    return clipped;
}

float
space_residual(const struct space *space, const void *row, const uint8_t *code, const float *buffer)
{
    double sum = 0, norm2 = 0;

    if (space->kind == SPACE_BITS || (space->kind == SPACE_LOSSLESS && space_row_is_bytes(space, row)))
        return 0.0f;
    for (size_t i = 0; i < space->turned_dim; i++) {
        double x, rest;

        if (space->kind == SPACE_ROTATED)
            x = buffer[i];
        else /* only f32 and f16 rows can be other than bytes */
            x = space->scalar == ANX_SCALAR_F32 ? ((const float *) row)[i] : code[i];
        rest = x - ((double) space->offset + (double) space->step * code[i]);
        sum += rest * rest;
        norm2 += x * x;
    }
    /* What float arithmetic lost on the way here: a few units in the last place of the row's length, a little
     * more with every doubling of the dimension. */
    return (float) ((sqrt(sum) + RESIDUAL_SLOP * sqrt(norm2)) * (1 + RESIDUAL_SLOP));
}

void
space_decode(const struct space *space, const uint8_t *code, void *row, float *buffer)
{
    if (space->kind == SPACE_BITS) {
        memcpy(row, code, (space->dim + 7) / 8);
        return;
    }
    for (size_t i = 0; i < space->turned_dim && space->kind == SPACE_ROTATED; i++)
        buffer[i] = space->offset + space->step * (float) code[i];
    if (space->kind == SPACE_ROTATED) {
        rotate_back(space, buffer);
        for (size_t i = 0; i < space->dim; i++)
            buffer[i] += space->mean[i];
    } else {
        for (size_t i = 0; i < space->dim; i++)
            buffer[i] = (float) code[i] - (space->scalar == ANX_SCALAR_I8 ? 128.0f : 0.0f);
    }
    switch (space->scalar) {
    case ANX_SCALAR_F32:
        memcpy(row, buffer, space->dim * sizeof(float));
        break;
    case ANX_SCALAR_F16:
        space->kernels->f32_to_f16(buffer, space->dim, row);
        break;
    case ANX_SCALAR_I8:
        for (size_t i = 0; i < space->dim; i++)
            ((int8_t *) row)[i] = (int8_t) fminf(127, fmaxf(-128, rintf(buffer[i])));
        break;
    case ANX_SCALAR_U8:
        for (size_t i = 0; i < space->dim; i++)
            ((uint8_t *) row)[i] = (uint8_t) fminf(255, fmaxf(0, rintf(buffer[i])));
        break;
    case ANX_SCALAR_B1:
    case ANX_SCALAR_COUNT:
        break;
    }
}

/* Sixteen running maxima, so that the compiler can use vectors: one would be a chain of n dependent steps,
 * and cost a tenth of a search. */
static float
largest_magnitude(const float *x, size_t n)
{
    float lane[16] = { 0 }, largest = 0.0f;
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        for (size_t j = 0; j < 16; j++) {
            float v = fabsf(x[i + j]);

            lane[j] = v > lane[j] ? v : lane[j];
        }
    for (; i < n; i++)
        lane[0] = fabsf(x[i]) > lane[0] ? fabsf(x[i]) : lane[0];
    for (size_t j = 0; j < 16; j++)
        largest = lane[j] > largest ? lane[j] : largest;
    return largest;
}

void
space_query(const struct space *space, const void *query, struct space_query *out)
{
    float largest, scale;

    out->is_dot = false;
    out->unit = space->step * space->step;
    out->is_exact =
        space->kind == SPACE_BITS || (space->kind == SPACE_LOSSLESS && space_row_is_bytes(space, query));
    if (space->kind != SPACE_ROTATED || space->metric == ANX_METRIC_L2) {
        space_encode(space, query, out->code, out->buffer);
        return;
    }
    /* The order by dot product needs neither the mean nor the query's length, so the weights use all of s8.
     */
    flatten(space, query, out->buffer);
    if (space->metric == ANX_METRIC_IP)
        out->buffer[space->dim] = 0.0f;
    rotate(space, out->buffer);
    largest = largest_magnitude(out->buffer, space->turned_dim);
    scale = largest > 0 ? 127.0f / largest : 1.0f;
    space->kernels->encode_u8(out->buffer, space->turned_dim, -128.0f / scale, scale, out->code);
    for (size_t i = 0; i < space->turned_dim; i++) /* u8 around 128 -> s8 */
        out->code[i] ^= 0x80u;
    memset(out->code + space->turned_dim, 0, space->stride - space->turned_dim);
    out->is_dot = true;
    out->unit = space->step / scale;
}

/* --- fitting --- */

struct fit {
    float *sum;     /* [turned_dim] */
    float *buffer;  /* [turned_dim] */
    float *values;  /* magnitudes of one batch of the sample, for the quantile */
    size_t n_value, value_capacity;
    double range_sum;
    size_t n_batch;
    double energy;
};

/* The n-th largest (n >= 1) of x, which is reordered (Hoare's selection). */
static float
nth_largest(float *x, size_t size, size_t n)
{
    size_t low = 0, high = size - 1, want = n - 1;

    while (low < high) {
        float pivot = x[low + (high - low) / 2];
        size_t i = low, j = high;

        for (;; i++, j--) {
            while (x[i] > pivot)
                i++;
            while (x[j] < pivot)
                j--;
            if (i >= j)
                break;
            float t = x[i];

            x[i] = x[j];
            x[j] = t;
        }
        if (want <= j)
            high = j;
        else
            low = j + 1;
    }
    return x[want];
}

/* A batch of the sample is full (or ended): the range that leaves (1 - quantile) of it outside goes into the
 * average. Averages over small batches keep a few rows far out from deciding for all. */
static void
end_batch(struct fit *fit, float quantile)
{
    size_t outside = (size_t) ((1 - (double) quantile) * (double) fit->n_value);

    if (fit->n_value == 0)
        return;
    fit->range_sum += (double) nth_largest(fit->values, fit->n_value, outside ? outside : 1);
    fit->n_batch++;
    fit->n_value = 0;
}

static void
fit_mean(struct space *space, size_t n, const void *(*row)(const void *, size_t), const void *context,
         struct fit *fit)
{
    space->max_norm2 = 0.0f;
    for (size_t i = 0; i < n && space->metric == ANX_METRIC_IP; i++) {
        space_widen(space, row(context, i), fit->buffer);
        space->max_norm2 = fmaxf(space->max_norm2, space->kernels->norm2_f32(fit->buffer, space->dim));
    }
    for (size_t i = 0; i < n; i++) {
        flatten(space, row(context, i), fit->buffer);
        for (size_t j = 0; j < space->turned_dim; j++)
            fit->sum[j] += fit->buffer[j];
    }
    for (size_t j = 0; j < space->turned_dim; j++)
        space->mean[j] = n ? fit->sum[j] / (float) n : 0.0f;
}

static void
fit_range(struct space *space, size_t n, const void *(*row)(const void *, size_t), const void *context,
          struct fit *fit, float quantile)
{
    float range, largest = 0.0f;

    for (size_t i = 0; i < n; i++) {
        flatten(space, row(context, i), fit->buffer);
        for (size_t j = 0; j < space->turned_dim; j++)
            fit->buffer[j] -= space->mean[j];
        rotate(space, fit->buffer);
        for (size_t j = 0; j < space->turned_dim; j++) {
            float v = fabsf(fit->buffer[j]);

            fit->energy += (double) v * v;
            largest = fmaxf(largest, v);
            if (fit->value_capacity)
                fit->values[fit->n_value++] = v;
        }
        if (fit->value_capacity && fit->n_value == fit->value_capacity)
            end_batch(fit, quantile);
    }
    end_batch(fit, quantile);
    range = CLIP_SIGMA * (float) sqrt(fit->energy / ((double) n * (double) space->turned_dim + 1e-30));
    if (fit->n_batch)
        range = (float) (fit->range_sum / (double) fit->n_batch);
    range = fminf(range, largest);
    if (!(range > 0))
        range = 1.0f;
    space->offset = -range;
    space->step = 2.0f * range / 255.0f;
}

anx_status
space_fit(struct space *space, size_t n, const void *(*row)(const void *context, size_t i),
          const void *context, float quantile, anx_error *err)
{
    size_t capacity = quantile > 0 ? QUANTILE_BATCH * space->turned_dim : 0;
    struct fit fit = { .value_capacity = capacity };
    anx_status st = ANX_OK;

    if (space->kind != SPACE_ROTATED)
        return ANX_OK;
    fit.sum = anx_alloc_zeroed(space->alloc, space->turned_dim, sizeof(float));
    fit.buffer = anx_alloc_array(space->alloc, space->turned_dim, sizeof(float));
    fit.values = anx_alloc_array(space->alloc, capacity + 1, sizeof(float));
    if (!fit.sum || !fit.buffer || !fit.values) {
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate buffers to fit the code space");
        goto out;
    }
    fit_mean(space, n, row, context, &fit);
    fit_range(space, n, row, context, &fit, quantile);
out:
    anx_free(space->alloc, fit.sum);
    anx_free(space->alloc, fit.buffer);
    anx_free(space->alloc, fit.values);
    return st;
}
