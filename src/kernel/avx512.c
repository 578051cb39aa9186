/* AVX-512 F, BW, DQ, VL and VNNI. Tails are masked loads, so nothing is ever read beyond a row. */
#include <immintrin.h>

#include "kernel/avx512_int.h"

/* ---- floats ---- */

typedef __m512 vf;
enum { VF_N = 16 };

KERNEL_INLINE vf vf_zero(void) { return _mm512_setzero_ps(); }
KERNEL_INLINE vf vf_set1(float x) { return _mm512_set1_ps(x); }
KERNEL_INLINE vf vf_load(const float *p) { return _mm512_loadu_ps(p); }
KERNEL_INLINE void vf_store(float *p, vf x) { _mm512_storeu_ps(p, x); }
KERNEL_INLINE vf vf_add(vf x, vf y) { return _mm512_add_ps(x, y); }
KERNEL_INLINE vf vf_sub(vf x, vf y) { return _mm512_sub_ps(x, y); }
KERNEL_INLINE vf vf_mul(vf x, vf y) { return _mm512_mul_ps(x, y); }
KERNEL_INLINE vf vf_min(vf x, vf y) { return _mm512_min_ps(x, y); }
KERNEL_INLINE vf vf_max(vf x, vf y) { return _mm512_max_ps(x, y); }
KERNEL_INLINE vf vf_fma(vf acc, vf x, vf y) { return _mm512_fmadd_ps(x, y, acc); }
KERNEL_INLINE float vf_sum(vf x) { return _mm512_reduce_add_ps(x); }
KERNEL_INLINE vf vf_load_part(const float *p, size_t n) { return _mm512_maskz_loadu_ps(first16(n), p); }
KERNEL_INLINE vf
vf_half(const uint16_t *p)
{
    return _mm512_cvtph_ps(_mm256_loadu_si256((const __m256i *) p));
}
KERNEL_INLINE vf
vf_half_part(const uint16_t *p, size_t n)
{
    return _mm512_cvtph_ps(_mm256_maskz_loadu_epi16(first16(n), p));
}
KERNEL_INLINE vf
vf_swap(vf x, size_t h)
{
    switch (h) {
    case 1: return _mm512_permute_ps(x, 0xb1);
    case 2: return _mm512_permute_ps(x, 0x4e);
    case 4: return _mm512_shuffle_f32x4(x, x, 0xb1);
    default: return _mm512_shuffle_f32x4(x, x, 0x4e);
    }
}
KERNEL_INLINE void
vf_encode(vf x, uint8_t *p)
{
    _mm_storeu_si128((__m128i *) p, _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}
KERNEL_INLINE void
vf_encode_part(vf x, uint8_t *p, size_t n)
{
    _mm_mask_storeu_epi8(p, first16(n), _mm512_cvtepi32_epi8(_mm512_cvtps_epi32(x)));
}

#include "kernel/loops_float.h"
#include "kernel/loops_half.h"

static void
f32_to_f16(const float *in, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        _mm256_storeu_si256((__m256i *) (out + i),
                            _mm512_cvtps_ph(_mm512_loadu_ps(in + i), _MM_FROUND_TO_NEAREST_INT));
    if (i < n)
        _mm256_mask_storeu_epi16(out + i, first16(n - i),
                                 _mm512_cvtps_ph(vf_load_part(in + i, n - i), _MM_FROUND_TO_NEAREST_INT));
}

/* ---- integers ---- */

typedef __m512i vs;
typedef __m512i vi;
enum { VS_N = 32 };

KERNEL_INLINE vs
vs_widen(const uint8_t *p, bool is_signed)
{
    __m256i x = _mm256_loadu_si256((const __m256i *) p);

    return is_signed ? _mm512_cvtepi8_epi16(x) : _mm512_cvtepu8_epi16(x);
}
KERNEL_INLINE vs
vs_widen_part(const uint8_t *p, size_t n, bool is_signed)
{
    __m256i x = _mm256_maskz_loadu_epi8(first32(n), p);

    return is_signed ? _mm512_cvtepi8_epi16(x) : _mm512_cvtepu8_epi16(x);
}
KERNEL_INLINE vs vs_sub(vs x, vs y) { return _mm512_sub_epi16(x, y); }
KERNEL_INLINE vi vi_zero(void) { return _mm512_setzero_si512(); }
KERNEL_INLINE vi vi_add(vi x, vi y) { return _mm512_add_epi32(x, y); }
KERNEL_INLINE vi vi_madd(vi acc, vs x, vs y) { return _mm512_dpwssd_epi32(acc, x, y); }
KERNEL_INLINE uint32_t vi_sum(vi x) { return sum1(x); }

#include "kernel/loops_int.h"

/* ---- codes ---- */

/* Rows are u8, vpdpbusd multiplies u8 by s8, and a difference of two u8 fits neither. So, with the signed
 * twin s(x) = x - 128 (x ^ 0x80) of a code x:
 *     sum (q - r)^2 = sum q^2 + sum r (r - 256) - 2 sum r (q - 128)
 *                   = sum q^2 + [ sum r * s(r) + sum r * (-128) ] - 2 sum r * s(q)
 * Three multiply-adds and one xor for 64 components, where widening to 16 bits takes six instructions. */
struct l2_sums {
    __m512i square, cross;
};

KERNEL_INLINE void
l2_step(struct l2_sums *sums, __m512i query_twin, __m512i row)
{
    const __m512i sign = _mm512_set1_epi8((char) -128);

    sums->square = _mm512_dpbusd_epi32(sums->square, row, _mm512_xor_si512(row, sign));
    sums->cross = _mm512_dpbusd_epi32(sums->cross, row, query_twin);
    sums->square = _mm512_dpbusd_epi32(sums->square, row, sign);
}

KERNEL_INLINE __m512i
l2_finish(struct l2_sums sums)
{
    return _mm512_sub_epi32(sums.square, _mm512_slli_epi32(sums.cross, 1));
}

/* sum q^2, from the same identity with r = q: q^2 - 256 q + 256 q. */
static int32_t
code_norm2(const uint8_t *query, size_t stride)
{
    const __m512i sign = _mm512_set1_epi8((char) -128);
    __m512i sum = _mm512_setzero_si512();

    for (size_t t = 0; t < stride; t += 64) {
        __m512i q = _mm512_load_si512(query + t);

        sum = _mm512_dpbusd_epi32(sum, q, _mm512_xor_si512(q, sign));
        sum = _mm512_sub_epi32(sum, _mm512_dpbusd_epi32(_mm512_setzero_si512(), q, sign));
    }
    return (int32_t) sum1(sum);
}

KERNEL_INLINE __m128i
code_rows4(const uint8_t *query, const uint8_t *const row[4], size_t stride, enum kernel_op op)
{
    const __m512i sign = _mm512_set1_epi8((char) -128);
    const __m512i zero = _mm512_setzero_si512();
    struct l2_sums s0 = { zero, zero }, s1 = s0, s2 = s0, s3 = s0;

    if (op == OP_DOT) {
        for (size_t t = 0; t < stride; t += 64) {
            __m512i q = _mm512_load_si512(query + t);

            s0.cross = _mm512_dpbusd_epi32(s0.cross, _mm512_loadu_si512(row[0] + t), q);
            s1.cross = _mm512_dpbusd_epi32(s1.cross, _mm512_loadu_si512(row[1] + t), q);
            s2.cross = _mm512_dpbusd_epi32(s2.cross, _mm512_loadu_si512(row[2] + t), q);
            s3.cross = _mm512_dpbusd_epi32(s3.cross, _mm512_loadu_si512(row[3] + t), q);
        }
        return sum4(s0.cross, s1.cross, s2.cross, s3.cross);
    }
    for (size_t t = 0; t < stride; t += 64) {
        __m512i q = _mm512_xor_si512(_mm512_load_si512(query + t), sign);

        l2_step(&s0, q, _mm512_loadu_si512(row[0] + t));
        l2_step(&s1, q, _mm512_loadu_si512(row[1] + t));
        l2_step(&s2, q, _mm512_loadu_si512(row[2] + t));
        l2_step(&s3, q, _mm512_loadu_si512(row[3] + t));
    }
    return sum4(l2_finish(s0), l2_finish(s1), l2_finish(s2), l2_finish(s3));
}

KERNEL_INLINE void
code_any(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, enum kernel_op op,
         int32_t base, int32_t *out)
{
    const __m128i base4 = _mm_set1_epi32(base);
    size_t i = 0;

    for (size_t j = 0; j < n && j < PREFETCH_AHEAD; j++)
        prefetch_row(rows[j], stride);
    for (; i + 4 <= n; i += 4) {
        for (size_t j = i + PREFETCH_AHEAD; j < n && j < i + PREFETCH_AHEAD + 4; j++)
            prefetch_row(rows[j], stride);
        _mm_storeu_si128((__m128i *) (out + i),
                         _mm_add_epi32(code_rows4(query, rows + i, stride, op), base4));
    }
    if (i < n) { /* the last row stands in for those that are missing */
        const uint8_t *const last = rows[n - 1];
        const uint8_t *const row[4] = { rows[i], i + 1 < n ? rows[i + 1] : last,
                                        i + 2 < n ? rows[i + 2] : last, last };

        _mm_mask_storeu_epi32(out + i, (__mmask8) ((1u << (n - i)) - 1u),
                              _mm_add_epi32(code_rows4(query, row, stride, op), base4));
    }
}

static void
code_l2(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    int32_t base = n > 0 ? code_norm2(query, stride) : 0;

    if (stride == 128) /* unrolled */
        code_any(query, rows, n, 128, OP_L2, base, out);
    else
        code_any(query, rows, n, stride, OP_L2, base, out);
}

static void
code_dot(const int8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    if (stride == 128)
        code_any((const uint8_t *) query, rows, n, 128, OP_DOT, 0, out);
    else
        code_any((const uint8_t *) query, rows, n, stride, OP_DOT, 0, out);
}

/* ---- lists of distances ---- */

KERNEL_INLINE __m512i load16(const int32_t *p) { return _mm512_loadu_si512(p); }

static size_t
count_below(const int32_t *values, size_t n, int32_t bound)
{
    const __m512i limit = _mm512_set1_epi32(bound);
    size_t count = 0, i = 0;

    for (; i + 16 <= n; i += 16)
        count += (unsigned) __builtin_popcount(_mm512_cmplt_epi32_mask(load16(values + i), limit));
    if (i < n) {
        __m512i x = _mm512_maskz_loadu_epi32(first16(n - i), values + i);

        count += (unsigned) __builtin_popcount(_mm512_mask_cmplt_epi32_mask(first16(n - i), x, limit));
    }
    return count;
}

static size_t
select_below(const int32_t *values, size_t n, int32_t bound, uint32_t *out)
{
    const __m512i limit = _mm512_set1_epi32(bound);
    __m512i index = _mm512_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
    size_t count = 0, i = 0;

    /* Compressed in a register and stored whole: compressing to memory is microcoded on some CPUs. count <=
     * i, so a whole vector still fits. */
    for (; i + 16 <= n; i += 16) {
        __mmask16 mask = _mm512_cmplt_epi32_mask(_mm512_loadu_si512(values + i), limit);

        _mm512_storeu_si512(out + count, _mm512_maskz_compress_epi32(mask, index));
        count += (unsigned) __builtin_popcount(mask);
        index = _mm512_add_epi32(index, _mm512_set1_epi32(16));
    }
    if (i < n) {
        __m512i x = _mm512_maskz_loadu_epi32(first16(n - i), values + i);
        __mmask16 mask = _mm512_mask_cmplt_epi32_mask(first16(n - i), x, limit);
        unsigned found = (unsigned) __builtin_popcount(mask);

        _mm512_mask_storeu_epi32(out + count, first16(found), _mm512_maskz_compress_epi32(mask, index));
        count += found;
    }
    return count;
}

static void
min_into(const int32_t *values, size_t n, int32_t *into)
{
    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = n - i < 16 ? first16(n - i) : (__mmask16) 0xffff;
        __m512i least = _mm512_min_epi32(_mm512_maskz_loadu_epi32(mask, values + i),
                                         _mm512_maskz_loadu_epi32(mask, into + i));

        _mm512_mask_storeu_epi32(into + i, mask, least);
    }
}

static void
min_lanes(const int32_t *values, size_t n, int32_t lanes[16])
{
    const __m512i none = _mm512_set1_epi32(INT32_MAX);
    __m512i low = none;
    size_t i = 0;

    for (; i + 16 <= n; i += 16)
        low = _mm512_min_epi32(low, _mm512_loadu_si512(values + i));
    if (i < n)
        low = _mm512_min_epi32(low, _mm512_mask_loadu_epi32(none, first16(n - i), values + i));
    _mm512_storeu_si512(lanes, low);
}

static void
l2_from_dot(const int32_t *values, const int32_t *base, int32_t shift, size_t n, int32_t *out)
{
    const __m512i add = _mm512_set1_epi32(shift);

    for (size_t i = 0; i < n; i += 16) {
        __mmask16 mask = first16(n - i < 16 ? n - i : 16);
        __m512i x = _mm512_maskz_loadu_epi32(mask, values + i);
        __m512i y = _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, base + i), add);

        _mm512_mask_storeu_epi32(out + i, mask, _mm512_sub_epi32(y, _mm512_slli_epi32(x, 1)));
    }
}

/* ---- bits and blocks ---- */

KERNEL_INLINE __m512i
count_bits_of_bytes(__m512i x)
{
    const __m512i table =
        _mm512_broadcast_i32x4(_mm_setr_epi8(0, 1, 1, 2, 1, 2, 2, 3, 1, 2, 2, 3, 2, 3, 3, 4));
    const __m512i nibble = _mm512_set1_epi8(15);
    __m512i low = _mm512_shuffle_epi8(table, _mm512_and_si512(x, nibble));
    __m512i high = _mm512_shuffle_epi8(table, _mm512_and_si512(_mm512_srli_epi16(x, 4), nibble));

    return _mm512_add_epi8(low, high);
}

/* Adds the bits of x to 32-bit sums: the counts of four bytes at once, as a dot product with ones. */
KERNEL_INLINE __m512i
count_bits(__m512i acc, __m512i x)
{
    return _mm512_dpbusd_epi32(acc, count_bits_of_bytes(x), _mm512_set1_epi8(1));
}

#include "kernel/avx512_block.h"
#include "kernel/avx512_hamming.h"

static void
dot_block(const int8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, int32_t *out,
          size_t out_stride)
{
    block_all(&(struct block) { (const uint8_t *) a, b, na, nb, stride, out, out_stride }, BLOCK_DOT);
}

const anx_kernels anx_kernels_avx512 = {
    .name = "avx512",
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
