/* Integer primitives on 128-bit registers that the sse and avx2 files share. */
#ifndef ANX_KERNEL_X86_INT_H
#define ANX_KERNEL_X86_INT_H

#include <immintrin.h>

#include "kernel/kernel_int.h"

KERNEL_INLINE uint32_t
sum_lanes(__m128i x)
{
    x = _mm_add_epi32(x, _mm_shuffle_epi32(x, 0x4e));
    return (uint32_t) _mm_cvtsi128_si32(_mm_add_epi32(x, _mm_shuffle_epi32(x, 0xb1)));
}

/* The sums of four vectors side by side. */
KERNEL_INLINE __m128i
sum_lanes4(__m128i a, __m128i b, __m128i c, __m128i d)
{
    return _mm_hadd_epi32(_mm_hadd_epi32(a, b), _mm_hadd_epi32(c, d));
}

#endif
