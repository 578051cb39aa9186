/* What the AVX-512 files share. */
#ifndef ANX_KERNEL_AVX512_INT_H
#define ANX_KERNEL_AVX512_INT_H

#include <immintrin.h>

#include "kernel/kernel_int.h"

KERNEL_INLINE __mmask16 first16(size_t n) { return (__mmask16) ((1u << n) - 1u); } /* n <= 16 */
KERNEL_INLINE __mmask32 first32(size_t n) { return (__mmask32) ((1u << n) - 1u); } /* n < 32 */

/* The sum of the lanes, modulo 2^32. Not _mm512_reduce_add_epi32, which adds signed integers in C. */
KERNEL_INLINE uint32_t
sum1(__m512i x)
{
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64(x, 1));
    __m128i y = _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));

    y = _mm_add_epi32(y, _mm_shuffle_epi32(y, 0x4e));
    return (uint32_t) _mm_cvtsi128_si32(_mm_add_epi32(y, _mm_shuffle_epi32(y, 0xb1)));
}

/* The sums of four vectors side by side: adding while transposing halves the work each round. */
KERNEL_INLINE __m128i
sum4(__m512i a, __m512i b, __m512i c, __m512i d)
{
    __m512i ab = _mm512_add_epi32(_mm512_unpacklo_epi32(a, b), _mm512_unpackhi_epi32(a, b));
    __m512i cd = _mm512_add_epi32(_mm512_unpacklo_epi32(c, d), _mm512_unpackhi_epi32(c, d));
    __m512i all = _mm512_add_epi32(_mm512_unpacklo_epi64(ab, cd), _mm512_unpackhi_epi64(ab, cd));
    __m256i half = _mm256_add_epi32(_mm512_castsi512_si256(all), _mm512_extracti64x4_epi64(all, 1));

    return _mm_add_epi32(_mm256_castsi256_si128(half), _mm256_extracti128_si256(half, 1));
}

#endif
