/* AVX: wide floats only. Integers and halves come from the sse set; 256-bit integers and F16C arrive with
 * avx2. */
#include "kernel/avx_float.h"

KERNEL_INLINE vf vf_fma(vf acc, vf x, vf y) { return _mm256_add_ps(acc, _mm256_mul_ps(x, y)); }
/* Named by the loops for their half variants, which this set does not instantiate. */
KERNEL_INLINE vf
vf_half(const uint16_t *p)
{
    float wide[VF_N];

    for (size_t i = 0; i < VF_N; i++)
        wide[i] = half_to_float(p[i]);
    return vf_load(wide);
}
KERNEL_INLINE vf
vf_half_part(const uint16_t *p, size_t n)
{
    float wide[VF_N] = { 0.0f };

    for (size_t i = 0; i < n; i++)
        wide[i] = half_to_float(p[i]);
    return vf_load(wide);
}

#include "kernel/loops_float.h"

const anx_kernels anx_kernels_avx = {
    .name = "avx",
    .distance = {
        [ANX_METRIC_L2] = { [ANX_SCALAR_F32] = l2_f32 },
        [ANX_METRIC_IP] = { [ANX_SCALAR_F32] = ip_f32 },
        [ANX_METRIC_COSINE] = { [ANX_SCALAR_F32] = cosine_f32 },
    },
    .dot_f32 = dot_f32,
    .norm2_f32 = norm2_f32,
    .l2_f32_rows = l2_f32_rows,
    .ip_f32_rows = ip_f32_rows,
    .encode_u8 = encode_u8,
    .hadamard = hadamard,
};
