/* Rows of one element kind; see the header. */
#include "ann/rows.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

#define F32_EXPONENT 0x7f800000u /* all ones: NaN or infinity */
#define F16_EXPONENT 0x7c00u

struct row_space
row_space_make(const anx_index_params *params, const anx_kernels *kernels)
{
    anx_metric metric = params->metric == ANX_METRIC_COSINE ? ANX_METRIC_IP : params->metric;

    return (struct row_space) {
        .kernels = kernels,
        .metric = params->metric,
        .scalar = params->scalar,
        .dim = params->dim,
        .row_size = anx_row_size(params->scalar, params->dim),
        .distance = kernels->distance[metric][params->scalar],
    };
}

float
row_inverse_norm(const struct row_space *space, const void *row)
{
    float minus_dot = space->kernels->distance[ANX_METRIC_IP][space->scalar](row, row, space->dim);

    return minus_dot < 0 ? 1 / sqrtf(-minus_dot) : 0;
}

struct row_query
row_query_make(const struct row_space *space, const void *row)
{
    float inverse_norm = space->metric == ANX_METRIC_COSINE ? row_inverse_norm(space, row) : 0;

    return (struct row_query) { .row = row, .inverse_norm = inverse_norm };
}

/* f32: the kernels take many rows at once. */
static void
row_distances_f32(const struct row_space *space, const struct row_query *query, const float *rows,
                  const float *inverse_norms, size_t n, float *out)
{
    if (space->metric == ANX_METRIC_L2) {
        space->kernels->l2_f32_rows(query->row, rows, n, space->dim, out);
        return;
    }
    space->kernels->ip_f32_rows(query->row, rows, n, space->dim, out);
    if (space->metric == ANX_METRIC_COSINE)
        for (size_t i = 0; i < n; i++)
            out[i] = 1 + out[i] * query->inverse_norm * inverse_norms[i];
}

void
row_distances(const struct row_space *space, const struct row_query *query, const void *rows,
              const float *inverse_norms, size_t n, float *out)
{
    const uint8_t *row = rows;

    if (space->scalar == ANX_SCALAR_F32) {
        row_distances_f32(space, query, rows, inverse_norms, n, out);
        return;
    }
    for (size_t i = 0; i < n; i++, row += space->row_size)
        out[i] = row_distance(space, query, row, inverse_norms ? inverse_norms[i] : 0);
}

void
row_widen(const struct row_space *space, const void *row, float *out)
{
    const uint8_t *bytes = row;

    switch (space->scalar) {
    case ANX_SCALAR_F32:
        memcpy(out, row, space->row_size);
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
            out[i] = (float) bytes[i];
        break;
    case ANX_SCALAR_B1:
        for (size_t i = 0; i < space->dim; i++)
            out[i] = bytes[i / 8] >> (7 - i % 8) & 1 ? 1.0f : -1.0f;
        break;
    case ANX_SCALAR_COUNT:
        break;
    }
}

/* The check of a good row has no branch inside, so that it runs at the speed of memory. */
static bool
all_finite_f32(const float *row, size_t dim)
{
    uint32_t bad = 0;

    for (size_t i = 0; i < dim; i++) {
        uint32_t bits;

        memcpy(&bits, &row[i], sizeof(bits));
        bad |= (bits & F32_EXPONENT) == F32_EXPONENT;
    }
    return !bad;
}

static bool
all_finite_f16(const uint16_t *row, size_t dim)
{
    uint16_t bad = 0;

    for (size_t i = 0; i < dim; i++)
        bad = (uint16_t) (bad | ((row[i] & F16_EXPONENT) == F16_EXPONENT));
    return !bad;
}

static bool
row_is_good(anx_scalar scalar, size_t dim, const void *row)
{
    if (scalar == ANX_SCALAR_F32)
        return all_finite_f32(row, dim);
    if (scalar == ANX_SCALAR_F16)
        return all_finite_f16(row, dim);
    if (scalar == ANX_SCALAR_B1 && dim % 8)
        return !(((const uint8_t *) row)[dim / 8] & (0xff >> dim % 8));
    return true;
}

static anx_status
fail_row(anx_scalar scalar, size_t dim, size_t n, size_t at, const void *row, anx_error *err)
{
    bool is_nan = false;
    size_t t = 0;

    if (scalar == ANX_SCALAR_B1) {
        anx_fail(err, ANX_E_VALUE, "the last byte has bits set beyond the %zu of the vector, they must be 0",
                 dim);
    } else if (scalar == ANX_SCALAR_F32) {
        const float *f = row;

        while (t < dim && isfinite(f[t]))
            t++;
        is_nan = isnan(f[t]);
    } else {
        const uint16_t *h = row;

        while (t < dim && (h[t] & F16_EXPONENT) != F16_EXPONENT)
            t++;
        is_nan = h[t] & 0x3ff;
    }
    if (scalar != ANX_SCALAR_B1)
        anx_fail(err, ANX_E_VALUE, "component %zu is %s, must be finite", t, is_nan ? "NaN" : "infinite");
    if (n > 1)
        anx_error_context(err, "vector %zu", at);
    return ANX_E_VALUE;
}

anx_status
rows_check(anx_scalar scalar, size_t dim, size_t n, const void *vectors, anx_error *err)
{
    size_t row_size = anx_row_size(scalar, dim);
    const uint8_t *row = vectors;

    if (scalar == ANX_SCALAR_I8 || scalar == ANX_SCALAR_U8)
        return ANX_OK; /* every byte is a value */
    for (size_t i = 0; i < n; i++, row += row_size)
        if (!row_is_good(scalar, dim, row))
            return fail_row(scalar, dim, n, i, row, err);
    return ANX_OK;
}
