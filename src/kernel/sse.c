/* SSE4.1: the least an x86-64 CPU of this century's second decade has. Halves are widened with integer
 * tricks. */
#include <smmintrin.h>

#include "kernel/x86_int.h"

/* ---- floats ---- */

typedef __m128 vf;
enum { VF_N = 4 };

KERNEL_INLINE vf vf_zero(void) { return _mm_setzero_ps(); }
KERNEL_INLINE vf vf_set1(float x) { return _mm_set1_ps(x); }
KERNEL_INLINE vf vf_load(const float *p) { return _mm_loadu_ps(p); }
KERNEL_INLINE void vf_store(float *p, vf x) { _mm_storeu_ps(p, x); }
KERNEL_INLINE vf vf_add(vf x, vf y) { return _mm_add_ps(x, y); }
KERNEL_INLINE vf vf_sub(vf x, vf y) { return _mm_sub_ps(x, y); }
KERNEL_INLINE vf vf_mul(vf x, vf y) { return _mm_mul_ps(x, y); }
KERNEL_INLINE vf vf_min(vf x, vf y) { return _mm_min_ps(x, y); }
KERNEL_INLINE vf vf_max(vf x, vf y) { return _mm_max_ps(x, y); }
KERNEL_INLINE vf vf_fma(vf acc, vf x, vf y) { return _mm_add_ps(acc, _mm_mul_ps(x, y)); }
KERNEL_INLINE float
vf_sum(vf x)
{
    x = _mm_add_ps(x, _mm_movehl_ps(x, x));
    return _mm_cvtss_f32(_mm_add_ss(x, _mm_shuffle_ps(x, x, 1)));
}
KERNEL_INLINE vf
vf_load_part(const float *p, size_t n)
{
    return _mm_setr_ps(p[0], n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f);
}
/* As half_to_float: shift the exponent and mantissa into place, repair the exponent by a product; infinity
 * and NaN get all exponent bits. */
KERNEL_INLINE vf
vf_half(const uint16_t *p)
{
    __m128i x = _mm_cvtepu16_epi32(_mm_loadl_epi64((const __m128i *) p));
    __m128i magnitude = _mm_slli_epi32(_mm_and_si128(x, _mm_set1_epi32(0x7fff)), 13);
    __m128i sign = _mm_slli_epi32(_mm_and_si128(x, _mm_set1_epi32(0x8000)), 16);
    __m128i special = _mm_cmpgt_epi32(magnitude, _mm_set1_epi32(0x0f7fffff));
    vf value = _mm_mul_ps(_mm_castsi128_ps(magnitude), _mm_set1_ps(0x1p112f));

    special = _mm_and_si128(special, _mm_set1_epi32(0x7f800000));
    return _mm_or_ps(value, _mm_castsi128_ps(_mm_or_si128(sign, special)));
}
KERNEL_INLINE vf
vf_half_part(const uint16_t *p, size_t n)
{
    uint16_t padded[4] = { p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0 };

    return vf_half(padded);
}
KERNEL_INLINE vf
vf_swap(vf x, size_t h)
{
    return h == 1 ? _mm_shuffle_ps(x, x, 0xb1) : _mm_shuffle_ps(x, x, 0x4e);
}
KERNEL_INLINE void
vf_encode_part(vf x, uint8_t *p, size_t n)
{
    __m128i v = _mm_cvtps_epi32(x);
    int32_t bytes = _mm_cvtsi128_si32(_mm_packus_epi16(_mm_packs_epi32(v, v), v));

    memcpy(p, &bytes, n);
}
KERNEL_INLINE void
vf_encode(vf x, uint8_t *p)
{
    vf_encode_part(x, p, 4);
}

#include "kernel/loops_float.h"
#include "kernel/loops_half.h"

/* ---- integers ---- */

typedef __m128i vs;
typedef __m128i vi;
enum { VS_N = 8 };

KERNEL_INLINE vs
vs_widen(const uint8_t *p, bool is_signed)
{
    __m128i x = _mm_loadl_epi64((const __m128i *) p);

    return is_signed ? _mm_cvtepi8_epi16(x) : _mm_cvtepu8_epi16(x);
}
KERNEL_INLINE vs
vs_widen_part(const uint8_t *p, size_t n, bool is_signed)
{
    uint8_t padded[8] = { 0 };

    memcpy(padded, p, n);
    return vs_widen(padded, is_signed);
}
KERNEL_INLINE vs vs_sub(vs x, vs y) { return _mm_sub_epi16(x, y); }
KERNEL_INLINE vi vi_zero(void) { return _mm_setzero_si128(); }
KERNEL_INLINE vi vi_add(vi x, vi y) { return _mm_add_epi32(x, y); }
KERNEL_INLINE vi vi_madd(vi acc, vs x, vs y) { return _mm_add_epi32(acc, _mm_madd_epi16(x, y)); }
KERNEL_INLINE uint32_t vi_sum(vi x) { return sum_lanes(x); }
KERNEL_INLINE void
vi_sum4(vi a, vi b, vi c, vi d, int32_t *out)
{
    _mm_storeu_si128((__m128i *) out, sum_lanes4(a, b, c, d));
}

/* Ones of each byte by two table lookups. */
KERNEL_INLINE __m128i
count_bits_of_bytes(__m128i x)
{
    const __m128i table = _mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4);
    const __m128i nibble = _mm_set1_epi8(15);

    return _mm_add_epi8(_mm_shuffle_epi8(table, _mm_and_si128(x, nibble)),
                        _mm_shuffle_epi8(table, _mm_and_si128(_mm_srli_epi16(x, 4), nibble)));
}
/* Byte counts of four vectors add up to at most 32, so one horizontal sum serves 64 bytes. */
KERNEL_INLINE vi
vb_count(vi acc, const uint8_t *p, const uint8_t *q)
{
    __m128i bytes = _mm_setzero_si128();

    for (size_t t = 0; t < 64; t += 16) {
        __m128i x = _mm_loadu_si128((const __m128i *) (p + t));
        __m128i y = _mm_loadu_si128((const __m128i *) (q + t));

        bytes = _mm_add_epi8(bytes, count_bits_of_bytes(_mm_xor_si128(x, y)));
    }
    return _mm_add_epi32(acc, _mm_sad_epu8(bytes, _mm_setzero_si128()));
}

#include "kernel/loops_int.h"
#include "kernel/loops_code.h"

/* ---- lists of distances ---- */

static size_t
count_below(const int32_t *values, size_t n, int32_t bound)
{
    const __m128i limit = _mm_set1_epi32(bound);
    __m128i sum = _mm_setzero_si128();
    size_t i = 0, whole = n - n % 4;

    for (; i < whole; i += 4) /* a true comparison is -1 */
        sum = _mm_sub_epi32(sum, _mm_cmplt_epi32(_mm_loadu_si128((const __m128i *) (values + i)), limit));
    return sum_lanes(sum) + anx_kernels_scalar.count_below(values + i, n - i, bound);
}

static void
l2_from_dot(const int32_t *values, const int32_t *base, int32_t shift, size_t n, int32_t *out)
{
    const __m128i add = _mm_set1_epi32(shift);
    size_t i = 0, whole = n - n % 4;

    for (; i < whole; i += 4) {
        __m128i x = _mm_loadu_si128((const __m128i *) (values + i));
        __m128i y = _mm_add_epi32(_mm_loadu_si128((const __m128i *) (base + i)), add);

        _mm_storeu_si128((__m128i *) (out + i), _mm_sub_epi32(y, _mm_slli_epi32(x, 1)));
    }
    anx_kernels_scalar.l2_from_dot(values + i, base + i, shift, n - i, out + i);
}

const anx_kernels anx_kernels_sse = {
    .name = "sse",
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
    .encode_u8 = encode_u8,
    .hadamard = hadamard,
    .code_l2 = code_l2,
    .code_dot = code_dot,
    .code_hamming = code_hamming,
    .dot_block = dot_block,
    .hamming_block = hamming_block,
    .count_below = count_below,
    .l2_from_dot = l2_from_dot,
};
