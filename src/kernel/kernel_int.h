/* Private to src/kernel: the partial tables of each instruction set, and what every file needs.
 *
 * A set file exports one const table with NULL where it has nothing better than the set below it; dispatch.c
 * resolves. The always-inline functions stand in for templates: the file calls them with constants, and one
 * copy per constant is compiled, with that file's flags. */
#ifndef ANX_KERNEL_KERNEL_INT_H
#define ANX_KERNEL_KERNEL_INT_H

#include <math.h>
#include <stdbool.h>
#include <string.h>

#include "kernel/kernel.h"

#define KERNEL_INLINE static inline __attribute__((always_inline))

extern const anx_kernels anx_kernels_scalar;
extern const anx_kernels anx_kernels_sse, anx_kernels_avx, anx_kernels_avx2;     /* x86-64 */
extern const anx_kernels anx_kernels_avx512, anx_kernels_avx512_popcnt;          /* x86-64 */
extern const anx_kernels anx_kernels_neon;                                       /* aarch64 */

/* Which sum a loop accumulates. */
enum kernel_op { OP_L2, OP_DOT };

/* In double: the product of two squared lengths may leave the range of float. */
KERNEL_INLINE float
cosine_finish(double dot, double norm2_a, double norm2_b)
{
    double product = norm2_a * norm2_b;

    return product > 0.0 ? (float) (1.0 - dot / sqrt(product)) : 1.0f;
}

KERNEL_INLINE float
half_to_float(uint16_t half)
{
    uint32_t magnitude = (uint32_t) (half & 0x7fffu) << 13;
    uint32_t sign = (uint32_t) (half & 0x8000u) << 16;
    uint32_t bits;
    float value;

    if (magnitude >= 0x0f800000u) { /* infinity and NaN; a signalling NaN becomes quiet, as in hardware */
        bits = magnitude | 0x7f800000u | (magnitude > 0x0f800000u ? 0x00400000u : 0u) | sign;
        memcpy(&value, &bits, sizeof(value));
        return value;
    }
    /* The exponent is too small by 112; the product repairs it, for subnormal halves as well. */
    memcpy(&value, &magnitude, sizeof(value));
    value *= 0x1p112f;
    memcpy(&bits, &value, sizeof(bits));
    bits |= sign;
    memcpy(&value, &bits, sizeof(value));
    return value;
}

KERNEL_INLINE uint16_t
half_from_float(float value)
{
    uint32_t bits, sign;

    memcpy(&bits, &value, sizeof(bits));
    sign = bits >> 16 & 0x8000u;
    bits &= 0x7fffffffu;
    if (bits > 0x7f800000u)
        return (uint16_t) (sign | 0x7e00u | (bits >> 13 & 0x3ffu));
    if (bits >= 0x477ff000u) /* 65520 and more round to infinity */
        return (uint16_t) (sign | 0x7c00u);
    if (bits < 0x38800000u) { /* below 2^-14: 0.5 more rounds to a multiple of 2^-24, the subnormal unit */
        memcpy(&value, &bits, sizeof(value));
        value += 0.5f;
        memcpy(&bits, &value, sizeof(bits));
        return (uint16_t) (sign | (bits - 0x3f000000u));
    }
    /* Half a unit, less one when even: ties go to even. A carry is a new exponent. */
    bits += 0xfffu + (bits >> 13 & 1u);
    return (uint16_t) (sign | (bits - 0x38000000u) >> 13);
}

/* Asks for the row's cache lines. Of long rows only the first eight: the hardware prefetcher follows from
 * there. */
KERNEL_INLINE void
prefetch_row(const uint8_t *row, size_t stride)
{
    size_t size = stride < 512 ? stride : 512;

    for (size_t t = 0; t < size; t += 64)
        __builtin_prefetch(row + t, 0, 3);
}

/* Rows this far ahead of the one in work are being fetched. Measured on rows at random in 256 MiB: with 0,
 * rows of 384 bytes take 24-47 % longer; with 4, 6-12 %; 16 and 24 are within the noise of 8. */
#define PREFETCH_AHEAD 8

#endif
