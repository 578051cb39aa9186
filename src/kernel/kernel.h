/* Distance kernels and the few other loops that must be written for the machine. The only room with
 * intrinsics.
 *
 * A kernel set is a const table of functions, one set per instruction set. anx_kernels_best() chooses once;
 * an index keeps the pointer. Entries that a set does not have are taken from the next lower set when tables
 * are resolved, so every pointer of a resolved table is callable. Scalar is the reference; every other set is
 * tested against it.
 *
 * Kernels are pure: no globals, no allocation, no alignment needs except where `stride` is named (then rows
 * are at 64-byte multiples and zero padded to `stride`, a multiple of 64). They never read past `dim`
 * elements, or `stride` bytes. */
#ifndef ANX_KERNEL_KERNEL_H
#define ANX_KERNEL_KERNEL_H

#include <stddef.h>
#include <stdint.h>

#include "annex/index.h"

/* Distance of two rows of one element kind, dim components (bits for b1): see index.h for the value of each
 * metric. i8, u8 and b1 are summed in integers, exact up to ANX_DIM_MAX, and rounded to float once;
 * f16 is widened to f32. */
typedef float (*anx_dist_fn)(const void *a, const void *b, size_t dim);

typedef struct anx_kernels {
    const char *name; /* "avx512", "avx2", "avx", "sse", "neon", "scalar" */

    /* NULL exactly where the pair makes no sense (hamming with other than b1 and the reverse). COSINE works
     * on raw rows: 1 - dot / sqrt(|a|^2 |b|^2), 1 when either is zero. For normalized rows: IP plus 1. */
    anx_dist_fn distance[ANX_METRIC_COUNT][ANX_SCALAR_COUNT];

    /* dot product and squared length of f32 rows */
    float (*dot_f32)(const float *a, const float *b, size_t dim);
    float (*norm2_f32)(const float *a, size_t dim);
    /* Distances of one f32 query to n rows that follow each other `dim` floats apart: out[n]. */
    void (*l2_f32_rows)(const float *query, const float *rows, size_t n, size_t dim, float *out);
    /* The same with minus the dot product. */
    void (*ip_f32_rows)(const float *query, const float *rows, size_t n, size_t dim, float *out);

    void (*f16_to_f32)(const uint16_t *in, size_t n, float *out);
    /* Rounds to nearest even; overflow becomes infinity. */
    void (*f32_to_f16)(const float *in, size_t n, uint16_t *out);

    /* out[i] = clamp(round_half_even((x[i] - offset) * inverse_step), 0, 255) */
    void (*encode_u8)(const float *x, size_t n, float offset, float inverse_step, uint8_t *out);
    /* In-place Walsh-Hadamard transform of n floats, n a power of two, unnormalized. */
    void (*hadamard)(float *x, size_t n);

    /* Distances of one query to n code rows, given by pointer. All rows and the query are `stride` bytes; the
     * query is 64-byte aligned, rows may lie anywhere (database pages) and are read faster when aligned too.
     * Prefetches a few rows ahead. Integers are exact.
     *   code_l2:      out[i] = sum (query[t] - rows[i][t])^2, u8 and u8
     *   code_dot:     out[i] = sum  query[t] * rows[i][t],    s8 and u8
     *   code_hamming: out[i] = popcount(query XOR rows[i]) */
    void (*code_l2)(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out);
    void (*code_dot)(const int8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out);
    void (*code_hamming)(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride,
                         int32_t *out);

    /* All dot products of two blocks of rows: out[i * out_stride + j] = sum a[i][t] * b[j][t], s8 and u8;
     * rows are `stride` bytes apart and 64-byte aligned; any na, nb. The workhorse of bulk builds (int8
     * matrix product). */
    void (*dot_block)(const int8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, int32_t *out,
                      size_t out_stride);
    /* The same shape with popcounts of XOR, for packed bits. */
    void (*hamming_block)(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride,
                          int32_t *out, size_t out_stride);

    /* How many of values[0..n) are < bound; n any. */
    size_t (*count_below)(const int32_t *values, size_t n, int32_t bound);
    /* Writes the indexes i with values[i] < bound to out (ascending) and returns how many; out has room for
     * n. */
    size_t (*select_below)(const int32_t *values, size_t n, int32_t bound, uint32_t *out);
    /* into[i] = min(into[i], values[i]) */
    void (*min_into)(const int32_t *values, size_t n, int32_t *into);
    /* lanes[j] = the smallest values[i] with i % 16 == j, INT32_MAX where there is none. The k-th smallest of
     * the lanes (k <= 16) bounds the k-th smallest value from above: a cheap threshold for select_below. */
    void (*min_lanes)(const int32_t *values, size_t n, int32_t lanes[16]);
    /* out[i] = base[i] + shift - 2 * values[i], in place allowed: turns dot products into squared l2. */
    void (*l2_from_dot)(const int32_t *values, const int32_t *base, int32_t shift, size_t n, int32_t *out);
} anx_kernels;

/* The set for this process: the best the CPU has, lowered by RX_TARGET_INSTRUCTIONS
 * (avx512|avx2|avx|sse|scalar). An unknown value, or one above the CPU's, gives the best available set and
 * one warning through the log. Resolved once. */
const anx_kernels *anx_kernels_best(void);

/* Every set compiled in that this CPU can run, best first, scalar last; each fully resolved. For tests and
 * `annex version`. */
size_t anx_kernels_available(const anx_kernels *const **sets);

/* What RX_TARGET_INSTRUCTIONS=`name` would give, and the warning it deserves (NULL: none; else a constant
 * string with the reason). name NULL: unset. */
const anx_kernels *anx_kernels_choose(const char *name, const char **warning);

#endif
