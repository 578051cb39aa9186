/* The float loops, written once over a vector type. A set file defines the primitives, then includes this:
 *
 *     vf, VF_N             a vector of VF_N floats
 *     vf_zero, vf_set1, vf_load, vf_store, vf_add, vf_sub, vf_mul, vf_sum
 *     vf_fma(acc, x, y)    acc + x * y, fused or not
 *     vf_load_part(p, n)   the first n < VF_N floats, zeros above; reads nothing beyond
 *     vf_half(p), vf_half_part(p, n)        the same from binary16
 *     vf_swap(x, h)        every lane trades places with lane ^ h, h a power of two below VF_N
 *     vf_encode(x, p), vf_encode_part(x, p, n)   rounds to even and stores VF_N (n) bytes of 0..255
 *     vf_min, vf_max
 *
 * Four accumulators cover the latency of the multiply-add (4 cycles, two per cycle, half of it hidden by the
 * loads). Tails add zeros, which changes none of the sums. */
#ifndef ANX_KERNEL_LOOPS_FLOAT_H
#define ANX_KERNEL_LOOPS_FLOAT_H

#include "kernel/kernel_int.h"

KERNEL_INLINE vf
load(const void *row, size_t i, bool is_half)
{
    return is_half ? vf_half((const uint16_t *) row + i) : vf_load((const float *) row + i);
}

KERNEL_INLINE vf
load_part(const void *row, size_t i, size_t n, bool is_half)
{
    return is_half ? vf_half_part((const uint16_t *) row + i, n) : vf_load_part((const float *) row + i, n);
}

KERNEL_INLINE vf
step(vf acc, vf x, vf y, enum kernel_op op)
{
    vf d = op == OP_L2 ? vf_sub(x, y) : x;

    return vf_fma(acc, d, op == OP_L2 ? d : y);
}

KERNEL_INLINE float
sum_any(const void *a, const void *b, size_t dim, bool is_half, enum kernel_op op)
{
    vf s0 = vf_zero(), s1 = vf_zero(), s2 = vf_zero(), s3 = vf_zero();
    size_t i = 0;

    for (; i + 4 * VF_N <= dim; i += 4 * VF_N) {
        s0 = step(s0, load(a, i, is_half), load(b, i, is_half), op);
        s1 = step(s1, load(a, i + VF_N, is_half), load(b, i + VF_N, is_half), op);
        s2 = step(s2, load(a, i + 2 * VF_N, is_half), load(b, i + 2 * VF_N, is_half), op);
        s3 = step(s3, load(a, i + 3 * VF_N, is_half), load(b, i + 3 * VF_N, is_half), op);
    }
    for (; i + VF_N <= dim; i += VF_N)
        s0 = step(s0, load(a, i, is_half), load(b, i, is_half), op);
    if (i < dim)
        s1 = step(s1, load_part(a, i, dim - i, is_half), load_part(b, i, dim - i, is_half), op);
    return vf_sum(vf_add(vf_add(s0, s1), vf_add(s2, s3)));
}

struct cosine_sums {
    vf dot, norm2_a, norm2_b;
};

KERNEL_INLINE void
cosine_step(struct cosine_sums *sums, vf x, vf y)
{
    sums->dot = vf_fma(sums->dot, x, y);
    sums->norm2_a = vf_fma(sums->norm2_a, x, x);
    sums->norm2_b = vf_fma(sums->norm2_b, y, y);
}

KERNEL_INLINE float
cosine_any(const void *a, const void *b, size_t dim, bool is_half)
{
    struct cosine_sums even = { vf_zero(), vf_zero(), vf_zero() }, odd = even;
    size_t i = 0;

    for (; i + 2 * VF_N <= dim; i += 2 * VF_N) {
        cosine_step(&even, load(a, i, is_half), load(b, i, is_half));
        cosine_step(&odd, load(a, i + VF_N, is_half), load(b, i + VF_N, is_half));
    }
    for (; i + VF_N <= dim; i += VF_N)
        cosine_step(&even, load(a, i, is_half), load(b, i, is_half));
    if (i < dim)
        cosine_step(&odd, load_part(a, i, dim - i, is_half), load_part(b, i, dim - i, is_half));
    return cosine_finish((double) vf_sum(vf_add(even.dot, odd.dot)),
                         (double) vf_sum(vf_add(even.norm2_a, odd.norm2_a)),
                         (double) vf_sum(vf_add(even.norm2_b, odd.norm2_b)));
}

static float l2_f32(const void *a, const void *b, size_t dim) { return sum_any(a, b, dim, false, OP_L2); }
static float ip_f32(const void *a, const void *b, size_t dim) { return -sum_any(a, b, dim, false, OP_DOT); }
static float cosine_f32(const void *a, const void *b, size_t dim) { return cosine_any(a, b, dim, false); }
static float dot_f32(const float *a, const float *b, size_t dim) { return sum_any(a, b, dim, false, OP_DOT); }
static float norm2_f32(const float *a, size_t dim) { return sum_any(a, a, dim, false, OP_DOT); }

/* Four rows side by side, each with two sums: eight chains keep both multiply units busy, and a load of the
 * query serves four rows. */
KERNEL_INLINE void
rows4(const float *query, const float *rows, size_t dim, enum kernel_op op, float *out)
{
    vf even[4], odd[4];
    size_t i = 0;

    for (size_t r = 0; r < 4; r++)
        even[r] = odd[r] = vf_zero();
    for (; i + 2 * VF_N <= dim; i += 2 * VF_N) {
        vf q0 = vf_load(query + i), q1 = vf_load(query + i + VF_N);

        for (size_t r = 0; r < 4; r++) {
            even[r] = step(even[r], q0, vf_load(rows + r * dim + i), op);
            odd[r] = step(odd[r], q1, vf_load(rows + r * dim + i + VF_N), op);
        }
    }
    for (; i < dim; i += VF_N) {
        size_t n = dim - i < VF_N ? dim - i : VF_N;
        vf q = n == VF_N ? vf_load(query + i) : vf_load_part(query + i, n);

        for (size_t r = 0; r < 4; r++)
            even[r] = step(even[r], q,
                           n == VF_N ? vf_load(rows + r * dim + i) : vf_load_part(rows + r * dim + i, n), op);
    }
    for (size_t r = 0; r < 4; r++) {
        float sum = vf_sum(vf_add(even[r], odd[r]));

        out[r] = op == OP_L2 ? sum : -sum;
    }
}

KERNEL_INLINE void
rows_any(const float *query, const float *rows, size_t n, size_t dim, enum kernel_op op, float *out)
{
    size_t i = 0;

    for (; i + 4 <= n; i += 4)
        rows4(query, rows + i * dim, dim, op, out + i);
    for (; i < n; i++) {
        float sum = sum_any(query, rows + i * dim, dim, false, op);

        out[i] = op == OP_L2 ? sum : -sum;
    }
}

static void
l2_f32_rows(const float *query, const float *rows, size_t n, size_t dim, float *out)
{
    rows_any(query, rows, n, dim, OP_L2, out);
}

static void
ip_f32_rows(const float *query, const float *rows, size_t n, size_t dim, float *out)
{
    rows_any(query, rows, n, dim, OP_DOT, out);
}

KERNEL_INLINE vf
encode_value(vf x, vf offset, vf inverse_step)
{
    /* Clamped before rounding, as in scalar.c: a conversion beyond the integer's range gives its minimum. */
    return vf_min(vf_max(vf_mul(vf_sub(x, offset), inverse_step), vf_zero()), vf_set1(255.0f));
}

static void
encode_u8(const float *x, size_t n, float offset, float inverse_step, uint8_t *out)
{
    vf shift = vf_set1(offset), scale = vf_set1(inverse_step);
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        vf_encode(encode_value(vf_load(x + i), shift, scale), out + i);
    if (i < n)
        vf_encode_part(encode_value(vf_load_part(x + i, n - i), shift, scale), out + i, n - i);
}

/* Row k: -1 in the lanes whose bit k is set. A table, since gcc 12 fills an array of signs at run time (10
 * times slower). */
static const float hadamard_signs[4][16] = {
    { 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1, 1, -1 },
    { 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1, 1, 1, -1, -1 },
    { 1, 1, 1, 1, -1, -1, -1, -1, 1, 1, 1, 1, -1, -1, -1, -1 },
    { 1, 1, 1, 1, 1, 1, 1, 1, -1, -1, -1, -1, -1, -1, -1, -1 },
};

/* The stages that stay inside one vector: lane i becomes x[i] + x[i ^ h], or x[i ^ h] - x[i] where bit h of i
 * is set. */
KERNEL_INLINE vf
hadamard_inside(vf x)
{
    x = vf_fma(vf_swap(x, 1), x, vf_load(hadamard_signs[0]));
    x = vf_fma(vf_swap(x, 2), x, vf_load(hadamard_signs[1]));
    if (VF_N > 4)
        x = vf_fma(vf_swap(x, 4), x, vf_load(hadamard_signs[2]));
    if (VF_N > 8)
        x = vf_fma(vf_swap(x, 8), x, vf_load(hadamard_signs[3]));
    return x;
}

/* Stages `half` and 2 * half in one pass: half the memory traffic of one at a time. */
KERNEL_INLINE void
hadamard_two_stages(float *x, size_t n, size_t half)
{
    for (size_t i = 0; i < n; i += 4 * half)
        for (size_t j = i; j < i + half; j += VF_N) {
            vf a = vf_load(x + j), b = vf_load(x + j + half);
            vf c = vf_load(x + j + 2 * half), d = vf_load(x + j + 3 * half);
            vf ab = vf_add(a, b), cd = vf_add(c, d);

            a = vf_sub(a, b), c = vf_sub(c, d);
            vf_store(x + j, vf_add(ab, cd));
            vf_store(x + j + half, vf_add(a, c));
            vf_store(x + j + 2 * half, vf_sub(ab, cd));
            vf_store(x + j + 3 * half, vf_sub(a, c));
        }
}

static void
hadamard(float *x, size_t n)
{
    size_t half = VF_N;

    if (n < VF_N) {
        anx_kernels_scalar.hadamard(x, n);
        return;
    }
    for (size_t i = 0; i < n; i += VF_N)
        vf_store(x + i, hadamard_inside(vf_load(x + i)));
    for (; 4 * half <= n; half *= 4)
        hadamard_two_stages(x, n, half);
    if (half < n)
        for (size_t j = 0; j < half; j += VF_N) {
            vf a = vf_load(x + j), b = vf_load(x + j + half);

            vf_store(x + j, vf_add(a, b));
            vf_store(x + j + half, vf_sub(a, b));
        }
}

#endif
