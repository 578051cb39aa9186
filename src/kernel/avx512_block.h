/* All pairs of two blocks of code rows on AVX-512: the shape that dot_block and hamming_block share.
 *
 * Columns (rows of b) are taken 48 at a time and packed on the stack: of each four bytes, one vector holds
 * those of 16 columns. Then a step is: broadcast four bytes of a row of a, combine with three vectors, add to
 * 3 x 8 sums, which stay in registers. No sum is ever added up across lanes. The panel holds KC bytes of the
 * columns (24 KiB: with the rows of a it fits the first-level cache); longer strides take several passes that
 * add to `out`.
 *
 * 8 x 3 sums + 3 columns + 1 broadcast = 28 of 32 registers; 24 steps need 11 loads, so the multipliers are
 * the limit.
 *
 * A file defines  count_bits(acc, x)  (see avx512_hamming.h) and includes this. */
#ifndef ANX_KERNEL_AVX512_BLOCK_H
#define ANX_KERNEL_AVX512_BLOCK_H

#include "kernel/avx512_int.h"

enum { COLUMNS = 48, VECTORS = COLUMNS / 16, KC = 512, TILE_ROWS = 8 };

enum block_op { BLOCK_DOT, BLOCK_HAMMING };

struct block {
    const uint8_t *a, *b;
    size_t na, nb, stride;
    int32_t *out;
    size_t out_stride;
};

/* Some bytes of some columns, packed. */
struct panel {
    __m512i *vectors; /* [size / 4][n_vector] */
    size_t column;    /* the first */
    size_t from, size;
    __mmask16 last; /* columns that exist in the last vector */
};

/* x[r] holds 16 dwords of row r; afterwards x[k] holds dword k of 16 rows. Four rounds of exchange. */
KERNEL_INLINE void
transpose16(__m512i x[16])
{
    __m512i y[16];

    for (size_t i = 0; i < 16; i += 2) {
        y[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        y[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (size_t i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(y[i], y[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(y[i], y[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(y[i + 1], y[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(y[i + 1], y[i + 3]);
    }
    /* x[4 g + k]: in 128-bit lane l, dword 4 l + k of rows 4 g .. 4 g + 3 */
    for (size_t k = 0; k < 4; k++) {
        y[k] = _mm512_shuffle_i32x4(x[k], x[4 + k], 0x44);
        y[4 + k] = _mm512_shuffle_i32x4(x[k], x[4 + k], 0xee);
        y[8 + k] = _mm512_shuffle_i32x4(x[8 + k], x[12 + k], 0x44);
        y[12 + k] = _mm512_shuffle_i32x4(x[8 + k], x[12 + k], 0xee);
    }
    for (size_t k = 0; k < 4; k++) {
        x[k] = _mm512_shuffle_i32x4(y[k], y[8 + k], 0x88);
        x[4 + k] = _mm512_shuffle_i32x4(y[k], y[8 + k], 0xdd);
        x[8 + k] = _mm512_shuffle_i32x4(y[4 + k], y[12 + k], 0x88);
        x[12 + k] = _mm512_shuffle_i32x4(y[4 + k], y[12 + k], 0xdd);
    }
}

/* Fills the panel. Missing columns of the last vector repeat the last column: their sums are never stored. */
static void
panel_pack(const struct block *block, const struct panel *panel, size_t n_vector)
{
    for (size_t v = 0; v < n_vector; v++)
        for (size_t t = 0; t < panel->size; t += 64) {
            __m512i x[16];

            for (size_t r = 0; r < 16; r++) {
                size_t column = panel->column + v * 16 + r;

                column = column < block->nb ? column : block->nb - 1;
                x[r] = _mm512_load_si512(block->b + column * block->stride + panel->from + t);
            }
            transpose16(x);
            for (size_t k = 0; k < 16; k++)
                _mm512_store_si512(panel->vectors + (t / 4 + k) * n_vector + v, x[k]);
        }
}

KERNEL_INLINE __m512i
block_step(__m512i acc, __m512i columns, __m512i row4, enum block_op op)
{
    if (op == BLOCK_HAMMING)
        return count_bits(acc, _mm512_xor_si512(columns, row4));
    /* The intrinsic, by hand: gcc 12 copies and spills the sums around it (150 against 345 G
     * multiply-adds/s). */
    __asm__("vpdpbusd %2, %1, %0" : "+v"(acc) : "v"(columns), "v"(row4));
    return acc;
}

/* Rows [i, i + n_row) against the panel. */
KERNEL_INLINE void
block_tile(const struct block *block, const struct panel *panel, size_t i, size_t n_row, size_t n_vector,
           enum block_op op)
{
    const uint8_t *a = block->a + i * block->stride + panel->from;
    const __m512i *vectors = panel->vectors;
    int32_t *out = block->out + i * block->out_stride + panel->column;
    __m512i acc[TILE_ROWS][VECTORS];

#pragma GCC unroll 8
    for (size_t r = 0; r < n_row; r++)
#pragma GCC unroll 3
        for (size_t v = 0; v < n_vector; v++)
            acc[r][v] = _mm512_setzero_si512();
    /* The results' lines are on their way while the sums are made: 216-228 became 293-311 at stride 128. */
    for (size_t r = 0; r < n_row; r++)
        for (size_t v = 0; v <= n_vector; v++)
            __builtin_prefetch(out + r * block->out_stride + (v < n_vector ? v * 16 : v * 16 - 1), 1, 3);
#pragma GCC unroll 1
    for (size_t t = 0; t < panel->size; t += 4, vectors += n_vector) {
        __m512i columns[VECTORS];

#pragma GCC unroll 3
        for (size_t v = 0; v < n_vector; v++)
            columns[v] = _mm512_load_si512(vectors + v);
#pragma GCC unroll 8
        for (size_t r = 0; r < n_row; r++) {
            int32_t row4;

            memcpy(&row4, a + r * block->stride + t, sizeof(row4));
#pragma GCC unroll 3
            for (size_t v = 0; v < n_vector; v++)
                acc[r][v] = block_step(acc[r][v], columns[v], _mm512_set1_epi32(row4), op);
        }
    }
#pragma GCC unroll 8
    for (size_t r = 0; r < n_row; r++)
#pragma GCC unroll 3
        for (size_t v = 0; v < n_vector; v++) {
            __mmask16 mask = v + 1 == n_vector ? panel->last : 0xffff;
            int32_t *to = out + r * block->out_stride + v * 16;

            if (panel->from > 0)
                acc[r][v] = _mm512_add_epi32(acc[r][v], _mm512_maskz_loadu_epi32(mask, to));
            _mm512_mask_storeu_epi32(to, mask, acc[r][v]);
        }
}

KERNEL_INLINE void
block_rows(const struct block *block, const struct panel *panel, size_t n_vector, enum block_op op)
{
    size_t i = 0;

    for (; i + 8 <= block->na; i += 8)
        block_tile(block, panel, i, 8, n_vector, op);
    for (; i + 2 <= block->na; i += 2)
        block_tile(block, panel, i, 2, n_vector, op);
    if (i < block->na)
        block_tile(block, panel, i, 1, n_vector, op);
}

KERNEL_INLINE void
block_all(const struct block *block, enum block_op op)
{
    __m512i vectors[VECTORS * KC / 4];

    for (size_t j = 0; j < block->nb; j += COLUMNS) {
        size_t n = block->nb - j < COLUMNS ? block->nb - j : COLUMNS;
        size_t n_vector = (n + 15) / 16;

        for (size_t from = 0; from < block->stride; from += KC) {
            struct panel panel = { vectors, j, from, block->stride - from < KC ? block->stride - from : KC,
                                   (__mmask16) (0xffffu >> (n_vector * 16 - n)) };

            panel_pack(block, &panel, n_vector);
            switch (n_vector) {
            case 1: block_rows(block, &panel, 1, op); break;
            case 2: block_rows(block, &panel, 2, op); break;
            default: block_rows(block, &panel, 3, op); break;
            }
        }
    }
}

#endif
