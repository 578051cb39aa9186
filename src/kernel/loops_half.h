/* The binary16 loops, for sets that widen in hardware or cheaply. After loops_float.h. */
#ifndef ANX_KERNEL_LOOPS_HALF_H
#define ANX_KERNEL_LOOPS_HALF_H

static float l2_f16(const void *a, const void *b, size_t dim) { return sum_any(a, b, dim, true, OP_L2); }
static float ip_f16(const void *a, const void *b, size_t dim) { return -sum_any(a, b, dim, true, OP_DOT); }
static float cosine_f16(const void *a, const void *b, size_t dim) { return cosine_any(a, b, dim, true); }

static void
f16_to_f32(const uint16_t *in, size_t n, float *out)
{
    size_t i = 0;

    for (; i + VF_N <= n; i += VF_N)
        vf_store(out + i, vf_half(in + i));
    for (; i < n; i++)
        out[i] = half_to_float(in[i]);
}

#endif
