/* Hamming kernels on AVX-512, over  count_bits(acc, x) , which adds the number of ones in x to 32-bit sums.
 * Included by avx512.c (table lookups) and avx512_popcnt.c (a counting instruction), after avx512_block.h. */
#ifndef ANX_KERNEL_AVX512_HAMMING_H
#define ANX_KERNEL_AVX512_HAMMING_H

#include "kernel/avx512_int.h"

static float
hamming_b1(const void *a, const void *b, size_t dim)
{
    const uint8_t *p = a, *q = b;
    size_t size = (dim + 7) / 8, i = 0;
    __m512i sum = _mm512_setzero_si512();

    for (; i + 64 <= size; i += 64)
        sum = count_bits(sum, _mm512_xor_si512(_mm512_loadu_si512(p + i), _mm512_loadu_si512(q + i)));
    if (i < size) {
        __mmask64 mask = (UINT64_C(1) << (size - i)) - 1;

        sum = count_bits(sum, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, p + i),
                                               _mm512_maskz_loadu_epi8(mask, q + i)));
    }
    return (float) sum1(sum);
}

KERNEL_INLINE __m128i
hamming_rows4(const uint8_t *query, const uint8_t *const row[4], size_t stride)
{
    __m512i s0 = _mm512_setzero_si512(), s1 = s0, s2 = s0, s3 = s0;

    for (size_t t = 0; t < stride; t += 64) {
        __m512i q = _mm512_load_si512(query + t);

        s0 = count_bits(s0, _mm512_xor_si512(q, _mm512_loadu_si512(row[0] + t)));
        s1 = count_bits(s1, _mm512_xor_si512(q, _mm512_loadu_si512(row[1] + t)));
        s2 = count_bits(s2, _mm512_xor_si512(q, _mm512_loadu_si512(row[2] + t)));
        s3 = count_bits(s3, _mm512_xor_si512(q, _mm512_loadu_si512(row[3] + t)));
    }
    return sum4(s0, s1, s2, s3);
}

static void
code_hamming(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    size_t i = 0;

    for (size_t j = 0; j < n && j < PREFETCH_AHEAD; j++)
        prefetch_row(rows[j], stride);
    for (; i + 4 <= n; i += 4) {
        for (size_t j = i + PREFETCH_AHEAD; j < n && j < i + PREFETCH_AHEAD + 4; j++)
            prefetch_row(rows[j], stride);
        _mm_storeu_si128((__m128i *) (out + i), hamming_rows4(query, rows + i, stride));
    }
    if (i < n) { /* the last row stands in for those that are missing */
        const uint8_t *const last = rows[n - 1];
        const uint8_t *const row[4] = { rows[i], i + 1 < n ? rows[i + 1] : last,
                                        i + 2 < n ? rows[i + 2] : last, last };

        _mm_mask_storeu_epi32(out + i, (__mmask8) ((1u << (n - i)) - 1u), hamming_rows4(query, row, stride));
    }
}

static void
hamming_block(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, int32_t *out,
              size_t out_stride)
{
    block_all(&(struct block) { a, b, na, nb, stride, out, out_stride }, BLOCK_HAMMING);
}

#endif
