/* The hamming entries for CPUs that count ones in a vector (VPOPCNTDQ: Ice Lake, Zen 4); all else comes from
 * avx512.c. */
#include "kernel/avx512_int.h"

KERNEL_INLINE __m512i
count_bits(__m512i acc, __m512i x)
{
    return _mm512_add_epi32(acc, _mm512_popcnt_epi32(x));
}

#include "kernel/avx512_block.h"
#include "kernel/avx512_hamming.h"

const anx_kernels anx_kernels_avx512_popcnt = {
    .name = "avx512",
    .distance = { [ANX_METRIC_HAMMING] = { [ANX_SCALAR_B1] = hamming_b1 } },
    .code_hamming = code_hamming,
    .hamming_block = hamming_block,
};
