/* AVX2 with FMA and F16C (Haswell, Zen). */
#include "kernel/avx_float.h"
#include "kernel/x86_int.h"

/* ---- floats ---- */

KERNEL_INLINE vf vf_fma(vf acc, vf x, vf y) { return _mm256_fmadd_ps(x, y, acc); }
KERNEL_INLINE vf vf_half(const uint16_t *p) { return _mm256_cvtph_ps(_mm_loadu_si128((const __m128i *) p)); }
KERNEL_INLINE vf
vf_half_part(const uint16_t *p, size_t n)
{
    uint16_t padded[VF_N] = { 0 };

    memcpy(padded, p, n * sizeof(*p));
    return vf_half(padded);
}

#include "kernel/loops_float.h"
#include "kernel/loops_half.h"

static void
f32_to_f16(const float *in, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        _mm_storeu_si128((__m128i *) (out + i), _mm256_cvtps_ph(vf_load(in + i), _MM_FROUND_TO_NEAREST_INT));
    for (; i < n; i++)
        out[i] = half_from_float(in[i]);
}

/* ---- integers ---- */

typedef __m256i vs;
typedef __m256i vi;
enum { VS_N = 16 };

KERNEL_INLINE vs
vs_widen(const uint8_t *p, bool is_signed)
{
    __m128i x = _mm_loadu_si128((const __m128i *) p);

    return is_signed ? _mm256_cvtepi8_epi16(x) : _mm256_cvtepu8_epi16(x);
}
KERNEL_INLINE vs
vs_widen_part(const uint8_t *p, size_t n, bool is_signed)
{
    uint8_t padded[VS_N] = { 0 };

    memcpy(padded, p, n);
    return vs_widen(padded, is_signed);
}
KERNEL_INLINE vs vs_sub(vs x, vs y) { return _mm256_sub_epi16(x, y); }
KERNEL_INLINE vi vi_zero(void) { return _mm256_setzero_si256(); }
KERNEL_INLINE vi vi_add(vi x, vi y) { return _mm256_add_epi32(x, y); }
KERNEL_INLINE vi vi_madd(vi acc, vs x, vs y) { return _mm256_add_epi32(acc, _mm256_madd_epi16(x, y)); }
KERNEL_INLINE __m128i
vi_fold(vi x)
{
    return _mm_add_epi32(_mm256_castsi256_si128(x), _mm256_extracti128_si256(x, 1));
}
KERNEL_INLINE uint32_t vi_sum(vi x) { return sum_lanes(vi_fold(x)); }
KERNEL_INLINE void
vi_sum4(vi a, vi b, vi c, vi d, int32_t *out)
{
    vi all = _mm256_hadd_epi32(_mm256_hadd_epi32(a, b), _mm256_hadd_epi32(c, d));

    _mm_storeu_si128((__m128i *) out, vi_fold(all));
}

KERNEL_INLINE __m256i
count_bits_of_bytes(__m256i x)
{
    const __m256i table = _mm256_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4, /* both halves */
                                           0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m256i nibble = _mm256_set1_epi8(15);

    return _mm256_add_epi8(_mm256_shuffle_epi8(table, _mm256_and_si256(x, nibble)),
                           _mm256_shuffle_epi8(table, _mm256_and_si256(_mm256_srli_epi16(x, 4), nibble)));
}
KERNEL_INLINE __m256i
count_xor(const uint8_t *p, const uint8_t *q)
{
    __m256i x = _mm256_loadu_si256((const __m256i *) p), y = _mm256_loadu_si256((const __m256i *) q);

    return count_bits_of_bytes(_mm256_xor_si256(x, y));
}
KERNEL_INLINE vi
vb_count(vi acc, const uint8_t *p, const uint8_t *q)
{
    __m256i bytes = _mm256_add_epi8(count_xor(p, q), count_xor(p + 32, q + 32));

    return _mm256_add_epi32(acc, _mm256_sad_epu8(bytes, _mm256_setzero_si256()));
}

#include "kernel/loops_int.h"
#include "kernel/loops_code.h"

/* ---- lists of distances ---- */

KERNEL_INLINE unsigned
mask_below(const int32_t *values, __m256i limit)
{
    __m256i x = _mm256_loadu_si256((const __m256i *) values);

    return (unsigned) _mm256_movemask_ps(_mm256_castsi256_ps(_mm256_cmpgt_epi32(limit, x)));
}

static size_t
count_below(const int32_t *values, size_t n, int32_t bound)
{
    const __m256i limit = _mm256_set1_epi32(bound);
    size_t count = 0, i = 0, whole = n - n % 8;

    for (; i < whole; i += 8)
        count += (unsigned) __builtin_popcount(mask_below(values + i, limit));
    return count + anx_kernels_scalar.count_below(values + i, n - i, bound);
}

/* One turn per survivor: few values are below the bound in the searches that use this. */
static size_t
select_below(const int32_t *values, size_t n, int32_t bound, uint32_t *out)
{
    const __m256i limit = _mm256_set1_epi32(bound);
    size_t count = 0, i = 0, whole = n - n % 8;

    for (; i < whole; i += 8)
        for (unsigned mask = mask_below(values + i, limit); mask; mask &= mask - 1)
            out[count++] = (uint32_t) i + (uint32_t) __builtin_ctz(mask);
    for (; i < n; i++) {
        out[count] = (uint32_t) i;
        count += values[i] < bound;
    }
    return count;
}

static void
min_into(const int32_t *values, size_t n, int32_t *into)
{
    size_t i = 0;

    for (; i + 8 <= n; i += 8)
        _mm256_storeu_si256((__m256i *) (into + i),
                            _mm256_min_epi32(_mm256_loadu_si256((const __m256i *) (values + i)),
                                             _mm256_loadu_si256((const __m256i *) (into + i))));
    anx_kernels_scalar.min_into(values + i, n - i, into + i);
}

static void
min_lanes(const int32_t *values, size_t n, int32_t lanes[16])
{
    __m256i low = _mm256_set1_epi32(INT32_MAX), high = low;
    size_t i = 0;

    for (; i + 16 <= n; i += 16) {
        low = _mm256_min_epi32(low, _mm256_loadu_si256((const __m256i *) (values + i)));
        high = _mm256_min_epi32(high, _mm256_loadu_si256((const __m256i *) (values + i + 8)));
    }
    _mm256_storeu_si256((__m256i *) lanes, low);
    _mm256_storeu_si256((__m256i *) (lanes + 8), high);
    for (; i < n; i++) /* i % 16 counts from 0 here */
        if (values[i] < lanes[i % 16])
            lanes[i % 16] = values[i];
}

static void
l2_from_dot(const int32_t *values, const int32_t *base, int32_t shift, size_t n, int32_t *out)
{
    const __m256i add = _mm256_set1_epi32(shift);
    size_t i = 0, whole = n - n % 8;

    for (; i < whole; i += 8) {
        __m256i x = _mm256_loadu_si256((const __m256i *) (values + i));
        __m256i y = _mm256_add_epi32(_mm256_loadu_si256((const __m256i *) (base + i)), add);

        _mm256_storeu_si256((__m256i *) (out + i), _mm256_sub_epi32(y, _mm256_slli_epi32(x, 1)));
    }
    anx_kernels_scalar.l2_from_dot(values + i, base + i, shift, n - i, out + i);
}

const anx_kernels anx_kernels_avx2 = {
    .name = "avx2",
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
