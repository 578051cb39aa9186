/* The integer loops, written once over a vector type. A set file defines the primitives, then includes this:
 *
 *     vs, VS_N             a vector of VS_N 16-bit integers
 *     vs_widen(p, s)       VS_N bytes widened; signed when s, a constant
 *     vs_widen_part(p, n, s)   the first n < VS_N, zeros above; reads nothing beyond
 *     vs_sub
 *     vi                   a vector of 32-bit sums
 *     vi_zero, vi_add, vi_sum (to uint32_t), vi_sum4(a, b, c, d, out): four sums stored
 *     vi_madd(acc, x, y)   adds the products of x and y to the sums
 *
 * Bytes are widened to 16 bits because vpmaddubsw saturates over the full range of codes. A product fits 32
 * bits, a sum is kept modulo 2^32: exact for every result below that, which includes u8 rows of ANX_DIM_MAX
 * components. */
#ifndef ANX_KERNEL_LOOPS_INT_H
#define ANX_KERNEL_LOOPS_INT_H

#include "kernel/kernel_int.h"

KERNEL_INLINE vi
int_step(vi acc, vs x, vs y, enum kernel_op op)
{
    vs d = op == OP_L2 ? vs_sub(x, y) : x;

    return vi_madd(acc, d, op == OP_L2 ? d : y);
}

KERNEL_INLINE uint32_t
int_sum(const uint8_t *a, const uint8_t *b, size_t dim, bool is_signed, enum kernel_op op)
{
    vi s0 = vi_zero(), s1 = vi_zero();
    size_t i = 0;

    for (; i + 2 * VS_N <= dim; i += 2 * VS_N) {
        s0 = int_step(s0, vs_widen(a + i, is_signed), vs_widen(b + i, is_signed), op);
        s1 = int_step(s1, vs_widen(a + i + VS_N, is_signed), vs_widen(b + i + VS_N, is_signed), op);
    }
    if (i + VS_N <= dim) {
        s0 = int_step(s0, vs_widen(a + i, is_signed), vs_widen(b + i, is_signed), op);
        i += VS_N;
    }
    if (i < dim)
        s1 = int_step(s1, vs_widen_part(a + i, dim - i, is_signed), vs_widen_part(b + i, dim - i, is_signed),
                      op);
    return vi_sum(vi_add(s0, s1));
}

/* A sum as a number: dots of signed rows are signed, all else reaches up to 2^32. */
KERNEL_INLINE double
int_dot(const void *a, const void *b, size_t dim, bool is_signed)
{
    uint32_t sum = int_sum(a, b, dim, is_signed, OP_DOT);

    return is_signed ? (double) (int32_t) sum : (double) sum;
}

static float
l2_i8(const void *a, const void *b, size_t dim)
{
    return (float) int_sum(a, b, dim, true, OP_L2);
}
static float
l2_u8(const void *a, const void *b, size_t dim)
{
    return (float) int_sum(a, b, dim, false, OP_L2);
}
static float ip_i8(const void *a, const void *b, size_t dim) { return (float) -int_dot(a, b, dim, true); }
static float ip_u8(const void *a, const void *b, size_t dim) { return (float) -int_dot(a, b, dim, false); }

/* Three passes over rows that the first one leaves in the cache. */
KERNEL_INLINE float
int_cosine(const void *a, const void *b, size_t dim, bool is_signed)
{
    return cosine_finish(int_dot(a, b, dim, is_signed), int_dot(a, a, dim, is_signed),
                         int_dot(b, b, dim, is_signed));
}

static float cosine_i8(const void *a, const void *b, size_t dim) { return int_cosine(a, b, dim, true); }
static float cosine_u8(const void *a, const void *b, size_t dim) { return int_cosine(a, b, dim, false); }

#endif
