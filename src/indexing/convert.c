/* See convert.h. */
#include "indexing/convert.h"

#include <math.h>
#include <string.h>

#include "base/error.h"

#define I8_SCALE 100.0f
#define F16_MAX 65504.0f
#define F16_TOO_LARGE 65520.0f /* from here on rounding gives infinity */
#define F16_EXPONENT 0x7c00u

struct row_convert
anx_convert_make(anx_scalar element, anx_scalar scalar, size_t dim)
{
    return (struct row_convert) {
        .element = element,
        .scalar = scalar,
        .dim = dim,
        .element_size = anx_row_size(element, dim),
        .row_size = anx_row_size(scalar, dim),
        .kernels = anx_kernels_best(),
    };
}

static float
float_at(const uint8_t *row, size_t i)
{
    float x;

    memcpy(&x, row + i * sizeof(x), sizeof(x)); /* on the wire nothing is aligned */
    return x;
}

static bool
to_i8(const uint8_t *from, size_t dim, int8_t *to)
{
    bool is_good = true;

    for (size_t i = 0; i < dim; i++) {
        float given = float_at(from, i);
        float x = given * I8_SCALE;

        is_good &= isfinite(given) != 0;
        x = x > I8_SCALE ? I8_SCALE : x;
        to[i] = (int8_t) (x > -I8_SCALE ? x : -I8_SCALE); /* not a number becomes -100; the row is refused */
    }
    return is_good;
}

static bool
to_bits(const uint8_t *from, size_t dim, uint8_t *to)
{
    bool is_good = true;

    memset(to, 0, (dim + 7) / 8);
    for (size_t i = 0; i < dim; i++) {
        float x = float_at(from, i);

        is_good &= isfinite(x) != 0;
        to[i / 8] |= (uint8_t) ((x > 0 ? 0x80u : 0u) >> i % 8);
    }
    return is_good;
}

static bool
to_f16(const struct row_convert *convert, const uint8_t *from, uint16_t *to)
{
    float piece[256];
    unsigned bad = 0;

    for (size_t at = 0; at < convert->dim; at += 256) {
        size_t n = convert->dim - at < 256 ? convert->dim - at : 256;

        memcpy(piece, from + at * sizeof(float), n * sizeof(float));
        convert->kernels->f32_to_f16(piece, n, to + at);
    }
    for (size_t i = 0; i < convert->dim; i++)
        bad |= (to[i] & F16_EXPONENT) == F16_EXPONENT;
    return !bad;
}

size_t
anx_convert_rows(const struct row_convert *convert, size_t n, const uint8_t *from, size_t stride, void *to)
{
    uint8_t *row = to;

    if (convert->element == convert->scalar && stride == convert->row_size) {
        memcpy(to, from, n * stride);
        return n;
    }
    for (size_t i = 0; i < n; i++, from += stride, row += convert->row_size) {
        bool is_good = true;

        if (convert->element == convert->scalar)
            memcpy(row, from, convert->row_size);
        else if (convert->scalar == ANX_SCALAR_F16)
            is_good = to_f16(convert, from, (uint16_t *) (void *) row);
        else if (convert->scalar == ANX_SCALAR_I8)
            is_good = to_i8(from, convert->dim, (int8_t *) row);
        else
            is_good = to_bits(from, convert->dim, row);
        if (!is_good)
            return i;
    }
    return n;
}

anx_status
anx_convert_check(const struct row_convert *convert, const uint8_t *row, anx_error *err)
{
    for (size_t i = 0; convert->element == ANX_SCALAR_F32 && i < convert->dim; i++) {
        float x = float_at(row, i);

        if (!isfinite(x))
            return anx_fail(err, ANX_E_VALUE, "component %zu is %s, must be finite", i,
                            isnan(x) ? "NaN" : "infinite");
        if (convert->scalar == ANX_SCALAR_F16 && fabsf(x) >= F16_TOO_LARGE)
            return anx_fail(err, ANX_E_VALUE, "component %zu is %g, the largest 16-bit float is %g", i,
                            (double) x, (double) F16_MAX);
    }
    return ANX_OK;
}
