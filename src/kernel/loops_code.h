/* Code kernels and blocks for sets without VNNI, over the primitives of loops_int.h (included before) and
 *
 *     vb_count(acc, p, q)   adds the number of differing bits of 64 bytes at p and q to the sums
 *
 * Four rows at a time: four independent chains of cache misses, one load of the query, one reduction. */
#ifndef ANX_KERNEL_LOOPS_CODE_H
#define ANX_KERNEL_LOOPS_CODE_H

/* What a code kernel computes; hamming beside the sums of enum kernel_op. */
enum code_op { CODE_L2, CODE_DOT, CODE_HAMMING };

/* `n_query` (1 or 2, a constant) queries that lie `stride` apart, against four rows. */
KERNEL_INLINE void
code_tile(const uint8_t *query, size_t n_query, const uint8_t *const row[4], size_t stride, enum code_op op,
          int32_t (*out)[4])
{
    vi sum[2][4];

    for (size_t i = 0; i < n_query; i++)
        for (size_t r = 0; r < 4; r++)
            sum[i][r] = vi_zero();
    for (size_t t = 0; op == CODE_HAMMING && t < stride; t += 64)
        for (size_t i = 0; i < n_query; i++)
            for (size_t r = 0; r < 4; r++)
                sum[i][r] = vb_count(sum[i][r], query + i * stride + t, row[r] + t);
    for (size_t t = 0; op != CODE_HAMMING && t < stride; t += VS_N) {
        vs y[4];

        for (size_t r = 0; r < 4; r++)
            y[r] = vs_widen(row[r] + t, false);
        for (size_t i = 0; i < n_query; i++) {
            vs x = vs_widen(query + i * stride + t, op == CODE_DOT);

            for (size_t r = 0; r < 4; r++)
                sum[i][r] = int_step(sum[i][r], x, y[r], op == CODE_L2 ? OP_L2 : OP_DOT);
        }
    }
    for (size_t i = 0; i < n_query; i++)
        vi_sum4(sum[i][0], sum[i][1], sum[i][2], sum[i][3], out[i]);
}

KERNEL_INLINE void
code_any(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, enum code_op op,
         int32_t *out)
{
    size_t i = 0;

    for (; i < n && i < PREFETCH_AHEAD; i++)
        prefetch_row(rows[i], stride);
    for (i = 0; i + 4 <= n; i += 4) {
        for (size_t j = i + PREFETCH_AHEAD; j < n && j < i + PREFETCH_AHEAD + 4; j++)
            prefetch_row(rows[j], stride);
        code_tile(query, 1, rows + i, stride, op, (int32_t(*)[4]) (out + i));
    }
    if (i < n) { /* the last row stands in for those that are missing */
        const uint8_t *const last = rows[n - 1];
        const uint8_t *const row[4] = { rows[i], i + 1 < n ? rows[i + 1] : last,
                                        i + 2 < n ? rows[i + 2] : last, last };
        int32_t sum[1][4];

        code_tile(query, 1, row, stride, op, sum);
        memcpy(out + i, sum[0], (n - i) * sizeof(*out));
    }
}

static float
hamming_b1(const void *a, const void *b, size_t dim)
{
    const uint8_t *p = a, *q = b;
    size_t size = (dim + 7) / 8, i = 0;
    vi sum = vi_zero();

    for (; i + 64 <= size; i += 64)
        sum = vb_count(sum, p + i, q + i);
    if (i < size) {
        uint8_t x[64] = { 0 }, y[64] = { 0 };

        memcpy(x, p + i, size - i);
        memcpy(y, q + i, size - i);
        sum = vb_count(sum, x, y);
    }
    return (float) vi_sum(sum);
}

static void
code_l2(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    code_any(query, rows, n, stride, CODE_L2, out);
}

static void
code_dot(const int8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    code_any((const uint8_t *) query, rows, n, stride, CODE_DOT, out);
}

static void
code_hamming(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride, int32_t *out)
{
    code_any(query, rows, n, stride, CODE_HAMMING, out);
}

/* Four rows of b stay in the first-level cache while the rows of a pass, two at a time: widening is what
 * costs, and so six of them serve eight products. */
KERNEL_INLINE void
block_any(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, enum code_op op,
          int32_t *out, size_t out_stride)
{
    for (size_t j = 0; j < nb; j += 4) {
        const uint8_t *const last = b + (nb - 1) * stride;
        const uint8_t *row[4];
        size_t n = nb - j < 4 ? nb - j : 4;

        for (size_t r = 0; r < 4; r++)
            row[r] = r < n ? b + (j + r) * stride : last;
        for (size_t i = 0; i < na; i += 2) {
            size_t n_row = na - i < 2 ? 1 : 2;
            int32_t sum[2][4];

            if (n_row == 2)
                code_tile(a + i * stride, 2, row, stride, op, sum);
            else
                code_tile(a + i * stride, 1, row, stride, op, sum);
            for (size_t r = 0; r < n_row; r++)
                memcpy(out + (i + r) * out_stride + j, sum[r], n * sizeof(*out));
        }
    }
}

static void
dot_block(const int8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, int32_t *out,
          size_t out_stride)
{
    block_any((const uint8_t *) a, na, b, nb, stride, CODE_DOT, out, out_stride);
}

static void
hamming_block(const uint8_t *a, size_t na, const uint8_t *b, size_t nb, size_t stride, int32_t *out,
              size_t out_stride)
{
    block_any(a, na, b, nb, stride, CODE_HAMMING, out, out_stride);
}

#endif
