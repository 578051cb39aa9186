/* The reference: plain loops, obviously right, the same on every machine. Float sums run in double, so that
 * what another set differs by is that set's rounding alone. Every entry is filled. */
#include "kernel/kernel_int.h"

KERNEL_INLINE double
element(const void *row, size_t i, anx_scalar scalar)
{
    switch (scalar) {
    case ANX_SCALAR_F32: return (double) ((const float *) row)[i];
    case ANX_SCALAR_F16: return (double) half_to_float(((const uint16_t *) row)[i]);
    case ANX_SCALAR_I8: return (double) ((const int8_t *) row)[i];
    default: return (double) ((const uint8_t *) row)[i];
    }
}

KERNEL_INLINE float
l2_any(const void *a, const void *b, size_t dim, anx_scalar scalar)
{
    double sum = 0.0;

    for (size_t i = 0; i < dim; i++) {
        double d = element(a, i, scalar) - element(b, i, scalar);

        sum += d * d;
    }
    return (float) sum;
}

KERNEL_INLINE float
dot_any(const void *a, const void *b, size_t dim, anx_scalar scalar)
{
    double sum = 0.0;

    for (size_t i = 0; i < dim; i++)
        sum += element(a, i, scalar) * element(b, i, scalar);
    return (float) sum;
}

KERNEL_INLINE float
cosine_any(const void *a, const void *b, size_t dim, anx_scalar scalar)
{
    double dot = 0.0, norm2_a = 0.0, norm2_b = 0.0;

    for (size_t i = 0; i < dim; i++) {
        double x = element(a, i, scalar), y = element(b, i, scalar);

        dot += x * y;
        norm2_a += x * x;
        norm2_b += y * y;
    }
    return cosine_finish(dot, norm2_a, norm2_b);
}

static float l2_f32(const void *a, const void *b, size_t dim) { return l2_any(a, b, dim, ANX_SCALAR_F32); }
static float l2_f16(const void *a, const void *b, size_t dim) { return l2_any(a, b, dim, ANX_SCALAR_F16); }
static float l2_i8(const void *a, const void *b, size_t dim) { return l2_any(a, b, dim, ANX_SCALAR_I8); }
static float l2_u8(const void *a, const void *b, size_t dim) { return l2_any(a, b, dim, ANX_SCALAR_U8); }
static float ip_f32(const void *a, const void *b, size_t dim) { return -dot_any(a, b, dim, ANX_SCALAR_F32); }
static float ip_f16(const void *a, const void *b, size_t dim) { return -dot_any(a, b, dim, ANX_SCALAR_F16); }
static float ip_i8(const void *a, const void *b, size_t dim) { return -dot_any(a, b, dim, ANX_SCALAR_I8); }
static float ip_u8(const void *a, const void *b, size_t dim) { return -dot_any(a, b, dim, ANX_SCALAR_U8); }
static float
cosine_f32(const void *a, const void *b, size_t dim)
{
    return cosine_any(a, b, dim, ANX_SCALAR_F32);
}
static float
cosine_f16(const void *a, const void *b, size_t dim)
{
    return cosine_any(a, b, dim, ANX_SCALAR_F16);
}
static float
cosine_i8(const void *a, const void *b, size_t dim)
{
    return cosine_any(a, b, dim, ANX_SCALAR_I8);
}
static float
cosine_u8(const void *a, const void *b, size_t dim)
{
    return cosine_any(a, b, dim, ANX_SCALAR_U8);
}

static uint32_t
count_different_bits(const uint8_t *a, const uint8_t *b, size_t size)
{
    uint32_t sum = 0;
    size_t i = 0;

    for (; i + sizeof(uint64_t) <= size; i += sizeof(uint64_t)) {
        uint64_t x, y;

        memcpy(&x, a + i, sizeof(x));
        memcpy(&y, b + i, sizeof(y));
        sum += (uint32_t) __builtin_popcountll(x ^ y);
    }
    for (; i < size; i++)
        sum += (uint32_t) __builtin_popcount((unsigned) (a[i] ^ b[i]));
    return sum;
}

static float
hamming_b1(const void *a, const void *b, size_t dim)
{
    return (float) count_different_bits(a, b, (dim + 7) / 8);
}

static float
dot_f32(const float *a, const float *b, size_t dim)
{
    return dot_any(a, b, dim, ANX_SCALAR_F32);
}

static float
norm2_f32(const float *a, size_t dim)
{
    return dot_any(a, a, dim, ANX_SCALAR_F32);
}

static void
l2_f32_rows(const float *query, const float *rows, size_t n, size_t dim, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = l2_f32(query, rows + i * dim, dim);
}

static void
ip_f32_rows(const float *query, const float *rows, size_t n, size_t dim, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = ip_f32(query, rows + i * dim, dim);
}

static void
f16_to_f32(const uint16_t *in, size_t n, float *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = half_to_float(in[i]);
}

static void
f32_to_f16(const float *in, size_t n, uint16_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = half_from_float(in[i]);
}

static void
encode_u8(const float *x, size_t n, float offset, float inverse_step, uint8_t *out)
{
    for (size_t i = 0; i < n; i++) {
        float v = (x[i] - offset) * inverse_step;

        /* Clamped before rounding: the conversion of a value beyond the integer's range is undefined. */
        v = v > 0.0f ? v : 0.0f;
        v = v < 255.0f ? v : 255.0f;
        out[i] = (uint8_t) lrintf(v);
    }
}

static void
hadamard(float *x, size_t n)
{
    for (size_t half = 1; half < n; half *= 2)
        for (size_t i = 0; i < n; i += 2 * half)
            for (size_t j = i; j < i + half; j++) {
                float u = x[j], v = x[j + half];

                x[j] = u + v;
                x[j + half] = u - v;
            }
}

/* Sums wrap around 2^32 as the vector instructions do; they are exact where the result fits. */
static int32_t
code_l2_row(const uint8_t *query, const uint8_t *row, size_t stride)
{
    uint32_t sum = 0;

    for (size_t t = 0; t < stride; t++) {
        int d = query[t] - row[t];

        sum += (uint32_t) (d * d);
    }
    return (int32_t) sum;
}

static int32_t
code_dot_row(const int8_t *query, const uint8_t *row, size_t stride)
{
    uint32_t sum = 0;

    for (size_t t = 0; t < stride; t++)
        sum += (uint32_t) (query[t] * row[t]);
    return (int32_t) sum;
}

static void
code_l2(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = code_l2_row(query, rows[i], stride);
}

static void
code_dot(const int8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = code_dot_row(query, rows[i], stride);
}

static void
code_hamming(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t) count_different_bits(query, rows[i], stride);
}

static void
dot_block(const int8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, int32_t *out,
          size_t out_stride)
{
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++)
            out[i * out_stride + j] = code_dot_row(a + i * stride, b + j * stride, stride);
}

static void
hamming_block(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, int32_t *out,
              size_t out_stride)
{
    for (size_t i = 0; i < na; i++)
        for (size_t j = 0; j < nb; j++)
            out[i * out_stride + j] = (int32_t) count_different_bits(a + i * stride, b + j * stride, stride);
}

static size_t
count_below(const int32_t *values, size_t n, int32_t bound)
{
    size_t count = 0;

    for (size_t i = 0; i < n; i++)
        count += values[i] < bound;
    return count;
}

static size_t
select_below(const int32_t *values, size_t n, int32_t bound, uint32_t *out)
{
    size_t count = 0;

    /* Always written, counted only when below: no branch to mispredict, and count <= i keeps it inside. */
    for (size_t i = 0; i < n; i++) {
        out[count] = (uint32_t) i;
        count += values[i] < bound;
    }
    return count;
}

static void
min_into(const int32_t *values, size_t n, int32_t *into)
{
    for (size_t i = 0; i < n; i++)
        into[i] = values[i] < into[i] ? values[i] : into[i];
}

static void
min_lanes(const int32_t *values, size_t n, int32_t lanes[16])
{
    for (size_t j = 0; j < 16; j++)
        lanes[j] = INT32_MAX;
    for (size_t i = 0; i < n; i++)
        if (values[i] < lanes[i % 16])
            lanes[i % 16] = values[i];
}

static void
l2_from_dot(const int32_t *values, const int32_t *base, int32_t shift, size_t n, int32_t *out)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (int32_t) ((uint32_t) base[i] + (uint32_t) shift - 2u * (uint32_t) values[i]);
}

const anx_kernels anx_kernels_scalar = {
    .name = "scalar",
    .distance = {
        [ANX_METRIC_L2] = { [ANX_SCALAR_F32] = l2_f32, [ANX_SCALAR_F16] = l2_f16, [ANX_SCALAR_I8] = l2_i8,
                            [ANX_SCALAR_U8] = l2_u8 },
        [ANX_METRIC_IP] = { [ANX_SCALAR_F32] = ip_f32, [ANX_SCALAR_F16] = ip_f16, [ANX_SCALAR_I8] = ip_i8,
                            [ANX_SCALAR_U8] = ip_u8 },
        [ANX_METRIC_COSINE] = { [ANX_SCALAR_F32] = cosine_f32, [ANX_SCALAR_F16] = cosine_f16,
                                [ANX_SCALAR_I8] = cosine_i8, [ANX_SCALAR_U8] = cosine_u8 },
        [ANX_METRIC_HAMMING] = { [ANX_SCALAR_B1] = hamming_b1 },
    },
    .dot_f32 = dot_f32,
    .norm2_f32 = norm2_f32,
    .l2_f32_rows = l2_f32_rows,
    .ip_f32_rows = ip_f32_rows,
    .f16_to_f32 = f16_to_f32,
    .f32_to_f16 = f32_to_f16,
    .encode_u8 = encode_u8,
    .hadamard = hadamard,
    .code_l2 = code_l2,
    .code_dot = code_dot,
    .code_hamming = code_hamming,
    .dot_block = dot_block,
    .hamming_block = hamming_block,
    .count_below = count_below,
    .select_below = select_below,
    .min_into = min_into,
    .min_lanes = min_lanes,
    .l2_from_dot = l2_from_dot,
};
