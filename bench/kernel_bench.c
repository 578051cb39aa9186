/* Speed of the kernels that searches and builds spend their time in, for every set this CPU has.
 *
 *     kernel_bench [set]
 *
 * Blocks: multiply-adds per second of one core on 1000 x 1000 rows. Codes: nanoseconds per row, of 32 rows
 * picked at random from a table far larger than the caches (what a graph walk does), and of 32 rows that stay
 * in the first-level cache. */
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/rng.h"
#include "kernel/kernel.h"

enum { BLOCK = 1000, ROWS_PER_CALL = 32, TABLE_SIZE = 256 << 20 };

static const uint64_t run_ns = 60000000; /* per figure; the best of its repetitions counts */

static void
bench_blocks(const anx_kernels *set, size_t stride)
{
    uint8_t *a = anx_alloc_aligned(NULL, BLOCK, stride), *b = anx_alloc_aligned(NULL, BLOCK, stride);
    int32_t *out = anx_alloc_array(NULL, BLOCK * BLOCK, sizeof(*out));
    uint64_t best[2] = { UINT64_MAX, UINT64_MAX };

    if (a && b && out) {
        anx_rng rng = anx_rng_seed(1);

        for (size_t i = 0; i < BLOCK * stride; i++)
            a[i] = (uint8_t) anx_rng_next(&rng), b[i] = (uint8_t) anx_rng_next(&rng);
        for (int kind = 0; kind < 2; kind++)
            for (uint64_t begin = anx_clock_ns(), now = begin; now - begin < run_ns;) {
                uint64_t from = now;

                if (kind == 0)
                    set->dot_block((const int8_t *) a, BLOCK, b, BLOCK, stride, out, BLOCK);
                else
                    set->hamming_block(a, BLOCK, b, BLOCK, stride, out, BLOCK);
                now = anx_clock_ns();
                best[kind] = now - from < best[kind] ? now - from : best[kind];
            }
        printf("%-8s stride %4zu  dot_block %6.1f G multiply-adds/s   hamming_block %7.1f G bits/s\n",
               set->name, stride, (double) (BLOCK * BLOCK * stride) / (double) best[0],
               8.0 * (double) (BLOCK * BLOCK * stride) / (double) best[1]);
    }
    anx_free_aligned(NULL, a);
    anx_free_aligned(NULL, b);
    anx_free(NULL, out);
}

/* Nanoseconds per row of one code kernel over `n_row` rows of the table, 32 at random per call. */
static double
time_codes(const anx_kernels *set, int kind, const uint8_t *table, size_t n_row, size_t stride)
{
    static volatile int32_t sink; /* keeps the results alive */
    anx_rng rng = anx_rng_seed(2);
    uint64_t begin = anx_clock_ns(), elapsed;
    size_t n_call = 0;

    do {
        for (size_t call = 0; call < 256; call++) {
            const uint8_t *rows[ROWS_PER_CALL];
            int32_t out[ROWS_PER_CALL];

            for (size_t i = 0; i < ROWS_PER_CALL; i++)
                rows[i] = table + stride * anx_rng_below(&rng, (uint32_t) n_row);
            if (kind == 0)
                set->code_l2(table, rows, ROWS_PER_CALL, stride, out);
            else if (kind == 1)
                set->code_dot((const int8_t *) table, rows, ROWS_PER_CALL, stride, out);
            else
                set->code_hamming(table, rows, ROWS_PER_CALL, stride, out);
            sink = out[0];
        }
        n_call += 256;
        elapsed = anx_clock_ns() - begin;
    } while (elapsed < run_ns);
    (void) sink;
    return (double) elapsed / (double) (n_call * ROWS_PER_CALL);
}

static void
bench_codes(const anx_kernels *set, const uint8_t *table, size_t stride)
{
    static const char *const names[] = { "code_l2", "code_dot", "code_hamming" };

    printf("%-8s stride %4zu ", set->name, stride);
    for (int kind = 0; kind < 3; kind++)
        printf("  %s %5.1f ns far, %5.2f ns near", names[kind],
               time_codes(set, kind, table, TABLE_SIZE / stride, stride),
               time_codes(set, kind, table, 32, stride));
    printf("\n");
}

static void
bench_floats(const anx_kernels *set, const float *rows, size_t dim)
{
    enum { ROWS = 64 };
    float out[ROWS];
    uint64_t best = UINT64_MAX;

    for (uint64_t begin = anx_clock_ns(), now = begin; now - begin < run_ns;) {
        uint64_t from = now;

        for (int i = 0; i < 16; i++)
            set->l2_f32_rows(rows, rows + dim, ROWS, dim, out);
        now = anx_clock_ns();
        best = now - from < best ? now - from : best;
    }
    printf("%-8s dim    %4zu  l2_f32_rows %5.1f G components/s\n", set->name, dim,
           (double) (16 * ROWS * dim) / (double) best);
}

int
main(int n_argument, char **arguments)
{
    const anx_kernels *const *sets;
    size_t n_set = anx_kernels_available(&sets);
    uint8_t *table = anx_map_pages(TABLE_SIZE, 1);

    if (!table) {
        fprintf(stderr, "could not map %d bytes\n", TABLE_SIZE);
        return 1;
    }
    for (size_t i = 0; i < TABLE_SIZE; i++)
        table[i] = (uint8_t) (i * 2654435761u >> 13);
    for (size_t s = 0; s < n_set; s++) {
        static const size_t strides[] = { 64, 128, 384, 768, 1536 };

        if (n_argument > 1 && strcmp(arguments[1], sets[s]->name) != 0)
            continue;
        for (size_t i = 0; i < sizeof(strides) / sizeof(strides[0]); i++) {
            bench_blocks(sets[s], strides[i]);
            bench_codes(sets[s], table, strides[i]);
        }
        /* Numbers, not the pattern of the table: its bytes include NaN and subnormal floats. */
        for (size_t i = 0; i < 65 * 384; i++)
            ((float *) (void *) table)[i] = (float) (i % 101) * 0.01f;
        bench_floats(sets[s], (const float *) (const void *) table, 128);
        bench_floats(sets[s], (const float *) (const void *) table, 384);
    }
    anx_unmap_pages(table, TABLE_SIZE);
    return 0;
}
