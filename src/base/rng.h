/* A small deterministic generator (SplitMix64; Steele, Lea, Flood 2014). Same seed, same sequence, on every
 * machine. Threads: one owner at a time. */
#ifndef ANX_BASE_RNG_H
#define ANX_BASE_RNG_H

#include <stdint.h>

typedef struct anx_rng {
    uint64_t state;
} anx_rng;

static inline anx_rng
anx_rng_seed(uint64_t seed)
{
    return (anx_rng) { seed };
}
static inline uint64_t
anx_rng_next(anx_rng *rng)
{
    uint64_t z = rng->state += 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/* Uniform in [0, bound), bound > 0 (multiply-shift; the bias is below 2^-32 for the bounds used here). */
static inline uint32_t
anx_rng_below(anx_rng *rng, uint32_t bound)
{
    return (uint32_t) (((anx_rng_next(rng) >> 32) * bound) >> 32);
}
/* Uniform in (0, 1]. */
static inline double
anx_rng_unit(anx_rng *rng)
{
    return (double) ((anx_rng_next(rng) >> 11) + 1) * 0x1.0p-53;
}

#endif
