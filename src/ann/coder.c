/* 8-bit codes of points; see the header.
 *
 * With x' = x - mid, x' ~ step * (code - 128) and weights w ~ v / scale:
 *     l2:  |q' - x'|^2 = |q'|^2 + |x'|^2 - 2 sum (q'[t] step[t]) (code[t] - 128)      v = q' step
 *     ip:  -q.x        = -q.mid         -   sum (q[t] step[t]) (code[t] - 128)        v = -q step
 * |x'|^2 is taken of the decoded row: then the error of a near row is in proportion to its distance. */
#include "ann/coder.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

#define WEIGHT_MAX 127.0f
#define CODE_RANGE 254.0f /* codes 1..255 around 128 */
#define EXACT_DIM_MAX 16384 /* up to here no step of the integer arithmetic leaves 31 bits */

anx_status
coder_allocate(struct coder *coder, const anx_kernels *kernels, size_t dim, const anx_alloc *alloc,
               anx_error *err)
{
    *coder = (struct coder) { .kernels = kernels, .alloc = alloc, .dim = dim };
    coder->stride = (dim + CODE_ALIGN - 1) / CODE_ALIGN * CODE_ALIGN;
    coder->mid = anx_alloc_zeroed(alloc, 3 * dim, sizeof(float));
    if (!coder->mid)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate ranges of %zu components", dim);
    coder->step = coder->mid + dim;
    coder->inverse_step = coder->step + dim;
    return ANX_OK;
}

void
coder_fini(struct coder *coder)
{
    anx_free(coder->alloc, coder->mid);
    *coder = (struct coder) { .alloc = coder->alloc };
}

bool
coder_settle(struct coder *coder)
{
    coder->is_unit = true;
    for (size_t t = 0; t < coder->dim; t++) {
        float step = coder->step[t], mid = coder->mid[t];

        if (!isfinite(mid) || !isfinite(step) || step < 0)
            return false;
        coder->inverse_step[t] = step > 0 ? 1 / step : 0;
        if (!isfinite(coder->inverse_step[t]))
            coder->inverse_step[t] = coder->step[t] = 0; /* a range too small to divide: a constant */
        if (step != 1 || (mid != 0 && mid != CODE_ZERO) || mid != coder->mid[0])
            coder->is_unit = false;
    }
    return true;
}

/* Component ranges of all points, in step (maximum) and mid (minimum); returns whether all values are
 * integers. */
static bool
observe(struct coder *coder, const struct points *points, float *buffer)
{
    float *min = coder->mid, *max = coder->step;
    bool is_integer = true;

    for (size_t i = 0; i < points->n; i++) {
        const float *x = points_get(points, i, buffer);

        if (i == 0) {
            memcpy(min, x, coder->dim * sizeof(*min));
            memcpy(max, x, coder->dim * sizeof(*max));
        }
        for (size_t t = 0; t < coder->dim; t++) {
            min[t] = x[t] < min[t] ? x[t] : min[t];
            max[t] = x[t] > max[t] ? x[t] : max[t];
        }
        for (size_t t = 0; t < coder->dim && is_integer; t++)
            is_integer = x[t] >= -128 && x[t] <= 255 && x[t] == (float) (int) x[t];
    }
    return is_integer;
}

static void
set_unit(struct coder *coder, float mid)
{
    for (size_t t = 0; t < coder->dim; t++) {
        coder->mid[t] = mid;
        coder->step[t] = 1;
    }
}

anx_status
coder_fit(struct coder *coder, const struct points *points, const anx_alloc *alloc, anx_error *err)
{
    const struct row_space *space = points->space;
    anx_status st = coder_allocate(coder, space->kernels, space->dim, alloc, err);
    float least = INFINITY, most = -INFINITY;
    bool is_integer;
    float *buffer;

    if (st != ANX_OK)
        return st;
    buffer = anx_alloc_array(alloc, coder->dim, sizeof(*buffer));
    if (!buffer) {
        coder_fini(coder);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a row of %zu components", coder->dim);
    }
    is_integer = observe(coder, points, buffer);
    anx_free(alloc, buffer);
    for (size_t t = 0; t < coder->dim; t++) {
        float min = coder->mid[t], max = coder->step[t];

        least = fminf(least, min);
        most = fmaxf(most, max);
        coder->mid[t] = min / 2 + max / 2;
        coder->step[t] = max / CODE_RANGE - min / CODE_RANGE;
    }
    /* Bytes stay bytes even when the sample does not use their whole range; unless cosine has scaled them. */
    if (space->metric != ANX_METRIC_COSINE &&
        (space->scalar == ANX_SCALAR_U8 || space->scalar == ANX_SCALAR_I8))
        set_unit(coder, space->scalar == ANX_SCALAR_U8 ? CODE_ZERO : 0);
    else if (is_integer && least >= 0)
        set_unit(coder, CODE_ZERO);
    else if (is_integer && most <= 127)
        set_unit(coder, 0);
    (void) coder_settle(coder); /* finite rows give finite ranges */
    return ANX_OK;
}

bool
coder_encode(const struct coder *coder, const float *x, float *work, uint8_t *code)
{
    uint32_t differs = 0;

    for (size_t t = 0; t < coder->dim; t++)
        work[t] = (x[t] - coder->mid[t]) * coder->inverse_step[t];
    coder->kernels->encode_u8(work, coder->dim, -CODE_ZERO, 1, code);
    memset(code + coder->dim, CODE_ZERO, coder->stride - coder->dim);
    for (size_t t = 0; t < coder->dim; t++)
        differs |= work[t] != (float) (code[t] - CODE_ZERO);
    return coder->is_unit && !differs;
}

int32_t
coder_base(const struct coder *coder, const uint8_t *code, float *work)
{
    int32_t sum = 0;
    float norm;

    if (coder->is_unit) {
        for (size_t t = 0; t < coder->dim; t++)
            sum += (code[t] - CODE_ZERO) * (code[t] - CODE_ZERO);
        return sum; /* at most 65,536 * 128^2 = 2^30 */
    }
    for (size_t t = 0; t < coder->dim; t++)
        work[t] = (float) (code[t] - CODE_ZERO) * coder->step[t];
    norm = coder->kernels->norm2_f32(work, coder->dim);
    memcpy(&sum, &norm, sizeof(sum));
    return sum;
}

/* Weights of v, which is overwritten. */
static void
quantize(size_t dim, size_t stride, const float *v, struct code_query *out)
{
    float largest = 0, inverse;
    int32_t sum = 0;

    for (size_t t = 0; t < dim; t++)
        largest = fabsf(v[t]) > largest ? fabsf(v[t]) : largest;
    out->scale = largest / WEIGHT_MAX;
    inverse = out->scale > 0 && isfinite(largest) && isfinite(1 / out->scale) ? 1 / out->scale : 0;
    for (size_t t = 0; t < dim; t++) {
        out->weights[t] = (int8_t) lrintf(inverse > 0 ? v[t] * inverse : 0);
        sum += out->weights[t];
    }
    memset(out->weights + dim, 0, stride - dim);
    out->sum = sum;
}

/* Integer queries near an integer middle are their own weights. */
static bool
weights_are_exact(const struct coder *coder, const float *v)
{
    if (!coder->is_unit || coder->dim > EXACT_DIM_MAX)
        return false;
    for (size_t t = 0; t < coder->dim; t++)
        if (!(v[t] >= -128 && v[t] <= 127 && v[t] == (float) (int) v[t]))
            return false;
    return true;
}

void
coder_query(const struct coder *coder, bool is_l2, const float *q, float *work, struct code_query *out)
{
    if (!is_l2) {
        out->constant = -coder->kernels->dot_f32(q, coder->mid, coder->dim);
        for (size_t t = 0; t < coder->dim; t++)
            work[t] = -q[t] * coder->step[t];
        out->is_exact = false;
        quantize(coder->dim, coder->stride, work, out);
        return;
    }
    for (size_t t = 0; t < coder->dim; t++)
        work[t] = q[t] - coder->mid[t];
    out->constant = coder->kernels->norm2_f32(work, coder->dim);
    out->is_exact = weights_are_exact(coder, work);
    if (out->is_exact) {
        out->scale = 1;
        out->sum = out->norm = 0;
        for (size_t t = 0; t < coder->dim; t++) {
            out->weights[t] = (int8_t) work[t];
            out->sum += out->weights[t];
            out->norm += out->weights[t] * out->weights[t];
        }
        memset(out->weights + coder->dim, 0, coder->stride - coder->dim);
        return;
    }
    for (size_t t = 0; t < coder->dim; t++)
        work[t] *= coder->step[t];
    quantize(coder->dim, coder->stride, work, out);
}

/* Squared distances, as bits of floats: comparing the bits of non-negative floats as integers compares the
 * floats. */
static void
keys_of_floats(const struct coder *coder, const struct code_query *query, const int32_t *bases, size_t n,
               int32_t *dots)
{
    float factor = -2 * query->scale;
    float shift = query->constant + 2 * query->scale * (float) CODE_ZERO * (float) query->sum;

    for (size_t i = 0; i < n; i++) {
        float base, key;

        memcpy(&base, &bases[i], sizeof(base));
        if (coder->is_unit)
            base = (float) bases[i];
        key = base + shift + factor * (float) dots[i];
        key = key > 0 ? key : 0;
        memcpy(&dots[i], &key, sizeof(key));
    }
}

void
coder_keys(const struct coder *coder, const struct code_query *query, bool is_l2, const int32_t *bases,
           size_t n, int32_t *dots)
{
    if (!is_l2)
        return; /* weights are of -q: the products themselves ascend with the distance */
    if (query->is_exact)
        coder->kernels->l2_from_dot(dots, bases, query->norm + 2 * CODE_ZERO * query->sum, n, dots);
    else
        keys_of_floats(coder, query, bases, n, dots);
}
