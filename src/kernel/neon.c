/* NEON, the 128-bit registers of every aarch64 CPU. No dot product extension is assumed. */
#include <arm_neon.h>

#include "kernel/kernel_int.h"

/* ---- floats ---- */

typedef float32x4_t vf;
enum { VF_N = 4 };

KERNEL_INLINE vf vf_zero(void) { return vdupq_n_f32(0.0f); }
KERNEL_INLINE vf vf_set1(float x) { return vdupq_n_f32(x); }
KERNEL_INLINE vf vf_load(const float *p) { return vld1q_f32(p); }
KERNEL_INLINE void vf_store(float *p, vf x) { vst1q_f32(p, x); }
KERNEL_INLINE vf vf_add(vf x, vf y) { return vaddq_f32(x, y); }
KERNEL_INLINE vf vf_sub(vf x, vf y) { return vsubq_f32(x, y); }
KERNEL_INLINE vf vf_mul(vf x, vf y) { return vmulq_f32(x, y); }
KERNEL_INLINE vf vf_min(vf x, vf y) { return vminq_f32(x, y); }
KERNEL_INLINE vf vf_max(vf x, vf y) { return vmaxq_f32(x, y); }
KERNEL_INLINE vf vf_fma(vf acc, vf x, vf y) { return vfmaq_f32(acc, x, y); }
KERNEL_INLINE float vf_sum(vf x) { return vaddvq_f32(x); }
KERNEL_INLINE vf
vf_load_part(const float *p, size_t n)
{
    float padded[VF_N] = { p[0], n > 1 ? p[1] : 0.0f, n > 2 ? p[2] : 0.0f, 0.0f };

    return vld1q_f32(padded);
}
KERNEL_INLINE vf
vf_half(const uint16_t *p)
{
    return vcvt_f32_f16(vreinterpret_f16_u16(vld1_u16(p)));
}
KERNEL_INLINE vf
vf_half_part(const uint16_t *p, size_t n)
{
    uint16_t padded[VF_N] = { p[0], n > 1 ? p[1] : 0, n > 2 ? p[2] : 0, 0 };

    return vf_half(padded);
}
KERNEL_INLINE vf
vf_swap(vf x, size_t h)
{
    return h == 1 ? vrev64q_f32(x) : vextq_f32(x, x, 2);
}
KERNEL_INLINE void
vf_encode_part(vf x, uint8_t *p, size_t n)
{
    uint16x4_t words = vmovn_u32(vcvtnq_u32_f32(x)); /* n: to nearest, ties to even */
    uint64_t bytes = vget_lane_u64(vreinterpret_u64_u8(vmovn_u16(vcombine_u16(words, words))), 0);

    memcpy(p, &bytes, n);
}
KERNEL_INLINE void
vf_encode(vf x, uint8_t *p)
{
    vf_encode_part(x, p, VF_N);
}

#include "kernel/loops_float.h"
#include "kernel/loops_half.h"

static void
f32_to_f16(const float *in, size_t n, uint16_t *out)
{
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        vst1_u16(out + i, vreinterpret_u16_f16(vcvt_f16_f32(vld1q_f32(in + i))));
    for (; i < n; i++)
        out[i] = half_from_float(in[i]);
}

/* ---- integers ---- */

typedef int16x8_t vs;
typedef int32x4_t vi;
enum { VS_N = 8 };

KERNEL_INLINE vs
vs_widen(const uint8_t *p, bool is_signed)
{
    uint8x8_t x = vld1_u8(p);

    return is_signed ? vmovl_s8(vreinterpret_s8_u8(x)) : vreinterpretq_s16_u16(vmovl_u8(x));
}
KERNEL_INLINE vs
vs_widen_part(const uint8_t *p, size_t n, bool is_signed)
{
    uint8_t padded[VS_N] = { 0 };

    memcpy(padded, p, n);
    return vs_widen(padded, is_signed);
}
KERNEL_INLINE vs vs_sub(vs x, vs y) { return vsubq_s16(x, y); }
KERNEL_INLINE vi vi_zero(void) { return vdupq_n_s32(0); }
KERNEL_INLINE vi vi_add(vi x, vi y) { return vaddq_s32(x, y); }
KERNEL_INLINE vi
vi_madd(vi acc, vs x, vs y)
{
    return vmlal_high_s16(vmlal_s16(acc, vget_low_s16(x), vget_low_s16(y)), x, y);
}
KERNEL_INLINE uint32_t vi_sum(vi x) { return vaddvq_u32(vreinterpretq_u32_s32(x)); }
KERNEL_INLINE void
vi_sum4(vi a, vi b, vi c, vi d, int32_t *out)
{
    vst1q_s32(out, vpaddq_s32(vpaddq_s32(a, b), vpaddq_s32(c, d)));
}
/* Byte counts of four vectors add up to at most 32, so one widening sum serves 64 bytes. */
KERNEL_INLINE vi
vb_count(vi acc, const uint8_t *p, const uint8_t *q)
{
    uint8x16_t bytes = vdupq_n_u8(0);

    for (size_t t = 0; t < 64; t += 16)
        bytes = vaddq_u8(bytes, vcntq_u8(veorq_u8(vld1q_u8(p + t), vld1q_u8(q + t))));
    return vreinterpretq_s32_u32(vpadalq_u16(vreinterpretq_u32_s32(acc), vpaddlq_u8(bytes)));
}

#include "kernel/loops_int.h"
#include "kernel/loops_code.h"

/* ---- lists of distances ---- */

static size_t
count_below(const int32_t *values, size_t n, int32_t bound)
{
    const int32x4_t limit = vdupq_n_s32(bound);
    uint32x4_t sum = vdupq_n_u32(0);
    size_t i = 0, whole = n - n % 4;

    for (; i < whole; i += 4) /* a true comparison is -1 */
        sum = vsubq_u32(sum, vcltq_s32(vld1q_s32(values + i), limit));
    return vaddvq_u32(sum) + anx_kernels_scalar.count_below(values + i, n - i, bound);
}

static void
l2_from_dot(const int32_t *values, const int32_t *base, int32_t shift, size_t n, int32_t *out)
{
    const int32x4_t add = vdupq_n_s32(shift);
    size_t i = 0, whole = n - n % 4;

    for (; i < whole; i += 4) {
        int32x4_t y = vaddq_s32(vld1q_s32(base + i), add);

        vst1q_s32(out + i, vsubq_s32(y, vshlq_n_s32(vld1q_s32(values + i), 1)));
    }
    anx_kernels_scalar.l2_from_dot(values + i, base + i, shift, n - i, out + i);
}

const anx_kernels anx_kernels_neon = {
    .name = "neon",
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
    .l2_from_dot = l2_from_dot,
};
