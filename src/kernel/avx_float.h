/* The 256-bit float primitives of loops_float.h that the avx and avx2 files share; vf_fma is their own. */
#ifndef ANX_KERNEL_AVX_FLOAT_H
#define ANX_KERNEL_AVX_FLOAT_H

#include <immintrin.h>

#include "kernel/kernel_int.h"

typedef __m256 vf;
enum { VF_N = 8 };

KERNEL_INLINE vf vf_zero(void) { return _mm256_setzero_ps(); }
KERNEL_INLINE vf vf_set1(float x) { return _mm256_set1_ps(x); }
KERNEL_INLINE vf vf_load(const float *p) { return _mm256_loadu_ps(p); }
KERNEL_INLINE void vf_store(float *p, vf x) { _mm256_storeu_ps(p, x); }
KERNEL_INLINE vf vf_add(vf x, vf y) { return _mm256_add_ps(x, y); }
KERNEL_INLINE vf vf_sub(vf x, vf y) { return _mm256_sub_ps(x, y); }
KERNEL_INLINE vf vf_mul(vf x, vf y) { return _mm256_mul_ps(x, y); }
KERNEL_INLINE vf vf_min(vf x, vf y) { return _mm256_min_ps(x, y); }
KERNEL_INLINE vf vf_max(vf x, vf y) { return _mm256_max_ps(x, y); }
KERNEL_INLINE float
vf_sum(vf x)
{
    __m128 y = _mm_add_ps(_mm256_castps256_ps128(x), _mm256_extractf128_ps(x, 1));

    y = _mm_add_ps(y, _mm_movehl_ps(y, y));
    return _mm_cvtss_f32(_mm_add_ss(y, _mm_shuffle_ps(y, y, 1)));
}
KERNEL_INLINE vf
vf_load_part(const float *p, size_t n)
{
    static const int32_t mask[15] = { -1, -1, -1, -1, -1, -1, -1, 0, 0, 0, 0, 0, 0, 0, 0 };

    return _mm256_maskload_ps(p, _mm256_loadu_si256((const __m256i *) (mask + 7 - n)));
}
KERNEL_INLINE vf
vf_swap(vf x, size_t h)
{
    switch (h) {
    case 1: return _mm256_permute_ps(x, 0xb1);
    case 2: return _mm256_permute_ps(x, 0x4e);
    default: return _mm256_permute2f128_ps(x, x, 1);
    }
}
KERNEL_INLINE void
vf_encode_part(vf x, uint8_t *p, size_t n)
{
    __m256i v = _mm256_cvtps_epi32(x);
    __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(v), _mm256_extractf128_si256(v, 1));
    int64_t bytes = _mm_cvtsi128_si64(_mm_packus_epi16(words, words));

    memcpy(p, &bytes, n);
}
KERNEL_INLINE void
vf_encode(vf x, uint8_t *p)
{
    vf_encode_part(x, p, 8);
}

#endif
