/* Every kernel set that this CPU can run against scalar: integers exactly, floats within a bound that is
 * stated at each comparison. A set is tested by being available; nothing here names one but the tests of the
 * choice.
 *
 * Rows lie at the very end of heap blocks, so that AddressSanitizer sees a read beyond them, and so that
 * their addresses have every alignment that the element kind allows. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "kernel/kernel.h"

enum { DIM_MAX = 4100, ROW_MAX = DIM_MAX * 4 };

static const anx_kernels *const *sets;
static size_t n_set;
static const anx_kernels *scalar_set;

static int
find_sets(void **state)
{
    (void) state;
    n_set = anx_kernels_available(&sets);
    if (n_set == 0)
        return -1;
    scalar_set = sets[n_set - 1];
    return 0;
}

static void *
block(size_t size)
{
    void *memory = anx_alloc_bytes(NULL, size > 0 ? size : 1);

    assert_non_null(memory);
    return memory;
}

/* Rows for the code kernels: 64-byte aligned. */
static uint8_t *
code_rows(size_t n, size_t stride)
{
    uint8_t *rows = anx_alloc_aligned(NULL, n > 0 ? n : 1, stride);

    assert_non_null(rows);
    return rows;
}

static float
uniform(anx_rng *rng)
{
    return (float) (2.0 * anx_rng_unit(rng) - 1.0);
}

static size_t
element_size(anx_scalar scalar)
{
    return scalar == ANX_SCALAR_F32 ? 4 : scalar == ANX_SCALAR_F16 ? 2 : 1;
}

static size_t
row_size(anx_scalar scalar, size_t dim)
{
    return scalar == ANX_SCALAR_B1 ? (dim + 7) / 8 : dim * element_size(scalar);
}

static void
fill_row(anx_rng *rng, anx_scalar scalar, size_t size, uint8_t *row)
{
    for (size_t i = 0; i < size; i += element_size(scalar)) {
        float x = uniform(rng);
        uint16_t half;

        switch (scalar) {
        case ANX_SCALAR_F32: memcpy(row + i, &x, sizeof(x)); break;
        case ANX_SCALAR_F16:
            scalar_set->f32_to_f16(&x, 1, &half);
            memcpy(row + i, &half, sizeof(half));
            break;
        default: row[i] = (uint8_t) anx_rng_next(rng); break;
        }
    }
}

/* What rounding may add, relative to the sum of the absolute terms: each of the >= 16 partial sums of a set
 * takes up to dim / 16 additions, each wrong by at most 2^-24. */
static double
float_bound(size_t dim)
{
    return ((double) dim / 16.0 + 8.0) * 0x1p-24;
}

static double
component(anx_scalar scalar, const uint8_t *row, size_t i)
{
    float x;
    uint16_t half;

    if (scalar == ANX_SCALAR_F32) {
        memcpy(&x, row + 4 * i, sizeof(x));
        return (double) x;
    }
    memcpy(&half, row + 2 * i, sizeof(half));
    scalar_set->f16_to_f32(&half, 1, &x);
    return (double) x;
}

static double
sum_of_terms(anx_metric metric, anx_scalar scalar, const uint8_t *a, const uint8_t *b, size_t dim)
{
    double sum = 0.0;

    if (metric == ANX_METRIC_COSINE)
        return 4.0; /* a quotient of three sums with condition 1 each, near 1 */
    for (size_t i = 0; i < dim; i++) {
        double x = component(scalar, a, i), y = component(scalar, b, i);

        sum += metric == ANX_METRIC_L2 ? (x - y) * (x - y) : fabs(x * y);
    }
    return sum;
}

struct row_blocks {
    const uint8_t *a, *b;
    bool is_at_end;
};

/* Rows of every dim up to dim_max, that end where the blocks of ROW_MAX bytes end, or begin where they begin.
 */
static void
check_pair(anx_metric metric, anx_scalar scalar, const struct row_blocks *blocks, size_t dim_max)
{
    for (size_t dim = 1; dim <= dim_max; dim++) {
        size_t from = blocks->is_at_end ? ROW_MAX - row_size(scalar, dim) : 0;
        const uint8_t *a = blocks->a + from, *b = blocks->b + from;
        float want = scalar_set->distance[metric][scalar](a, b, dim);
        bool is_float = scalar == ANX_SCALAR_F32 || scalar == ANX_SCALAR_F16;
        double bound = is_float ? float_bound(dim) * sum_of_terms(metric, scalar, a, b, dim) : 0.0;

        for (size_t s = 0; s < n_set; s++) {
            float got = sets[s]->distance[metric][scalar](a, b, dim);

            if (!(fabs((double) got - (double) want) <= bound))
                fail_msg("%s: metric %d scalar %d dim %zu: %.9g, scalar has %.9g, bound %g", sets[s]->name,
                         (int) metric, (int) scalar, dim, (double) got, (double) want, bound);
        }
    }
}

static void
distances_agree_for_every_dim(void **state)
{
    anx_rng rng = anx_rng_seed(1);
    uint8_t *a = block(ROW_MAX), *b = block(ROW_MAX);
    size_t n_pair = 0;

    (void) state;
    for (int metric = 0; metric < ANX_METRIC_COUNT; metric++)
        for (int scalar = 0; scalar < ANX_SCALAR_COUNT; scalar++) {
            if (!scalar_set->distance[metric][scalar])
                continue;
            fill_row(&rng, (anx_scalar) scalar, ROW_MAX, a);
            fill_row(&rng, (anx_scalar) scalar, ROW_MAX, b);
            check_pair((anx_metric) metric, (anx_scalar) scalar, &(struct row_blocks){ a, b, true }, DIM_MAX);
            /* Numbers follow these rows: a mask one too wide, which AddressSanitizer does not see, adds them.
             */
            check_pair((anx_metric) metric, (anx_scalar) scalar, &(struct row_blocks) { a, b, false }, 300);
            n_pair++;
        }
    assert_int_equal(n_pair, 13);
    anx_free(NULL, a);
    anx_free(NULL, b);
}

static void
scalar_distances_have_their_values(void **state)
{
    static const float x[3] = { 1.0f, 2.0f, 3.0f }, y[3] = { 2.0f, 0.0f, -1.0f };
    static const int8_t p[3] = { -128, 127, 3 }, q[3] = { 127, -128, 4 };
    static const uint8_t u[3] = { 255, 0, 3 }, v[3] = { 0, 255, 5 };
    static const uint8_t s[2] = { 0xf0, 0x80 }, t[2] = { 0x0f, 0x00 };
    static const uint16_t h[3] = { 0x3c00, 0x4000, 0x4200 }, k[3] = { 0x4000, 0x0000, 0xbc00 }; /* x and y */
    static const float zero[3] = { 0.0f, 0.0f, 0.0f };

    (void) state;
    for (size_t i = 0; i < n_set; i++) {
        const anx_kernels *set = sets[i];

        assert_true(set->distance[ANX_METRIC_L2][ANX_SCALAR_F32](x, y, 3) == 21.0f);
        assert_true(set->distance[ANX_METRIC_IP][ANX_SCALAR_F32](x, y, 3) == 1.0f);
        assert_true(fabsf(set->distance[ANX_METRIC_COSINE][ANX_SCALAR_F32](x, y, 3) - 1.119522861f) < 1e-6f);
        assert_true(set->distance[ANX_METRIC_COSINE][ANX_SCALAR_F32](x, zero, 3) == 1.0f);
        assert_true(set->distance[ANX_METRIC_COSINE][ANX_SCALAR_F32](zero, zero, 3) == 1.0f);
        assert_true(set->distance[ANX_METRIC_L2][ANX_SCALAR_F16](h, k, 3) == 21.0f);
        assert_true(set->distance[ANX_METRIC_IP][ANX_SCALAR_F16](h, k, 3) == 1.0f);
        assert_true(set->distance[ANX_METRIC_L2][ANX_SCALAR_I8](p, q, 3) == 2.0f * 255 * 255 + 1);
        assert_true(set->distance[ANX_METRIC_IP][ANX_SCALAR_I8](p, q, 3) == 2.0f * 128 * 127 - 12);
        assert_true(set->distance[ANX_METRIC_L2][ANX_SCALAR_U8](u, v, 3) == 2.0f * 255 * 255 + 4);
        assert_true(set->distance[ANX_METRIC_IP][ANX_SCALAR_U8](u, v, 3) == -15.0f);
        assert_true(set->distance[ANX_METRIC_HAMMING][ANX_SCALAR_B1](s, t, 9) == 9.0f);
        assert_true(set->dot_f32(x, y, 3) == -1.0f);
        assert_true(set->norm2_f32(x, 3) == 14.0f);
    }
}

/* The largest sums that the public limits allow: above 2^31 for u8, so a signed accumulator would show. */
static void
integer_sums_do_not_overflow(void **state)
{
    uint8_t *low = block(ANX_DIM_MAX), *high = block(ANX_DIM_MAX);

    (void) state;
    memset(low, 0x80, ANX_DIM_MAX);  /* -128 or 128 */
    memset(high, 0xff, ANX_DIM_MAX); /* -1 or 255 */
    for (size_t s = 0; s < n_set; s++) {
        const anx_dist_fn(*distance)[ANX_SCALAR_COUNT] = sets[s]->distance;

        assert_true(distance[ANX_METRIC_IP][ANX_SCALAR_U8](high, high, ANX_DIM_MAX) ==
                    -65025.0f * ANX_DIM_MAX);
        assert_true(distance[ANX_METRIC_L2][ANX_SCALAR_U8](low, high, ANX_DIM_MAX) == 16129.0f * ANX_DIM_MAX);
        assert_true(distance[ANX_METRIC_COSINE][ANX_SCALAR_U8](high, high, ANX_DIM_MAX) == 0.0f);
        assert_true(distance[ANX_METRIC_IP][ANX_SCALAR_I8](low, low, ANX_DIM_MAX) == -16384.0f * ANX_DIM_MAX);
        memset(high, 0x7f, ANX_DIM_MAX);
        assert_true(distance[ANX_METRIC_L2][ANX_SCALAR_I8](low, high, ANX_DIM_MAX) == 65025.0f * ANX_DIM_MAX);
        assert_true(distance[ANX_METRIC_IP][ANX_SCALAR_I8](low, high, ANX_DIM_MAX) == 16256.0f * ANX_DIM_MAX);
        memset(high, 0xff, ANX_DIM_MAX);
    }
    anx_free(NULL, low);
    anx_free(NULL, high);
}

static void
check_rows(size_t n, size_t dim, const float *query, const float *rows, const float *want_l2,
           const float *want_ip)
{
    /* Terms are at most 4 (l2) and 1 (dot) each. */
    double bound = float_bound(dim) * 4.0 * (double) dim;
    float *out = block(n * sizeof(*out));

    for (size_t s = 0; s < n_set; s++) {
        sets[s]->l2_f32_rows(query, rows, n, dim, out);
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double) out[i] - (double) want_l2[i]) <= bound))
                fail_msg("%s: l2_f32_rows row %zu of %zu dim %zu", sets[s]->name, i, n, dim);
        sets[s]->ip_f32_rows(query, rows, n, dim, out);
        for (size_t i = 0; i < n; i++)
            if (!(fabs((double) out[i] - (double) want_ip[i]) <= bound))
                fail_msg("%s: ip_f32_rows row %zu of %zu dim %zu", sets[s]->name, i, n, dim);
    }
    anx_free(NULL, out);
}

static void
row_kernels_agree(void **state)
{
    enum { ROWS = 11 };
    anx_rng rng = anx_rng_seed(2);
    size_t size = (ROWS + 1) * DIM_MAX;
    float *memory = block(size * sizeof(*memory)), l2[ROWS], ip[ROWS];

    (void) state;
    for (size_t i = 0; i < size; i++)
        memory[i] = uniform(&rng);
    for (size_t dim = 1; dim <= DIM_MAX; dim += dim < 300 ? 1 : 97)
        for (size_t n = 0; n <= ROWS; n++) {
            const float *rows = memory + size - n * dim, *query = memory + n;

            scalar_set->l2_f32_rows(query, rows, n, dim, l2);
            scalar_set->ip_f32_rows(query, rows, n, dim, ip);
            check_rows(n, dim, query, rows, l2, ip);
        }
    for (size_t dim = 1; dim <= DIM_MAX; dim++) {
        const float *a = memory + size - dim, *b = memory + size - 2 * dim;
        double dot = (double) scalar_set->dot_f32(a, b, dim), norm2 = (double) scalar_set->norm2_f32(a, dim);

        for (size_t s = 0; s < n_set; s++) {
            assert_true(fabs((double) sets[s]->dot_f32(a, b, dim) - dot) <= float_bound(dim) * (double) dim);
            assert_true(fabs((double) sets[s]->norm2_f32(a, dim) - norm2) <= float_bound(dim) * (double) dim);
        }
    }
    anx_free(NULL, memory);
}

static void
halves_have_their_values(void **state)
{
    /* Pairs from the standard: the ends of each range, and ties on both sides. */
    static const struct {
        float value;
        uint16_t half;
    } known[] = {
        { 0.0f, 0x0000 },       { -0.0f, 0x8000 },       { 1.0f, 0x3c00 },         { -2.0f, 0xc000 },
        { 65504.0f, 0x7bff },   { 65519.99f, 0x7bff },   { 65520.0f, 0x7c00 },     { 1e30f, 0x7c00 },
        { -INFINITY, 0xfc00 },  { 0x1p-14f, 0x0400 },    { 0x1p-24f, 0x0001 },     { 0x1p-25f, 0x0000 },
        { 0x1.8p-25f, 0x0001 }, { 0x1.8p-24f, 0x0002 },  { 0x1.ffcp-15f, 0x0400 }, { 0x1.002p0f, 0x3c00 },
        { 0x1.006p0f, 0x3c02 }, { 0x1.0021p0f, 0x3c01 },
    };

    (void) state;
    for (size_t s = 0; s < n_set; s++)
        for (size_t i = 0; i < ANX_COUNT_OF(known); i++) {
            float in[16];
            uint16_t out[16];

            for (size_t j = 0; j < 16; j++)
                in[j] = known[i].value;
            sets[s]->f32_to_f16(in, 16, out);
            if (out[0] != known[i].half || out[15] != known[i].half)
                fail_msg("%s: %a became 0x%04x, not 0x%04x", sets[s]->name, (double) known[i].value, out[0],
                         known[i].half);
        }
}

static void
halves_agree_for_every_value(void **state)
{
    enum { N = 65536 };
    uint16_t *halves = block(N * sizeof(*halves)), *back = block(N * sizeof(*back));
    float *want = block(N * sizeof(*want)), *got = block(N * sizeof(*got));

    (void) state;
    for (size_t i = 0; i < N; i++)
        halves[i] = (uint16_t) i;
    scalar_set->f16_to_f32(halves, N, want);
    assert_true(want[0x7bff] == 65504.0f && want[0x0001] == 0x1p-24f && want[0xfc00] == -INFINITY);
    for (size_t s = 0; s < n_set; s++) {
        sets[s]->f16_to_f32(halves, N, got);
        sets[s]->f32_to_f16(got, N, back);
        for (size_t i = 0; i < N; i++) {
            bool is_nan = (i & 0x7c00) == 0x7c00 && (i & 0x3ff) != 0;
            bool is_same = got[i] == want[i] && signbit(got[i]) == signbit(want[i]);

            if (is_nan ? !isnan(got[i]) || (back[i] & 0x7fff) <= 0x7c00 : !is_same || back[i] != i)
                fail_msg("%s: half 0x%04zx gives %a, back 0x%04x", sets[s]->name, i, (double) got[i],
                         back[i]);
        }
    }
    anx_free(NULL, halves);
    anx_free(NULL, back);
    anx_free(NULL, want);
    anx_free(NULL, got);
}

/* Between each two neighboring halves: the tie and its neighbors on both sides. And every tail length. */
static void
rounding_to_halves_agrees(void **state)
{
    enum { N = 3 * 0x7c00, TAILS = 100 };
    float *in = block(N * sizeof(*in));
    uint16_t *want = block(N * sizeof(*want)), *got = block(N * sizeof(*got));

    (void) state;
    for (uint16_t h = 0; h < 0x7c00; h++) {
        uint16_t pair[2] = { h, (uint16_t) (h + 1) };
        float ends[2];

        scalar_set->f16_to_f32(pair, 2, ends);
        ends[1] = isinf(ends[1]) ? 65536.0f : ends[1];
        in[3 * h] = (ends[0] + ends[1]) / 2;
        in[3 * h + 1] = nextafterf(in[3 * h], 0.0f);
        in[3 * h + 2] = -nextafterf(in[3 * h], 1e9f);
        assert_true(in[3 * h] > ends[0] && in[3 * h] < ends[1]);
    }
    scalar_set->f32_to_f16(in, N, want);
    for (size_t s = 0; s < n_set; s++) {
        sets[s]->f32_to_f16(in, N, got);
        assert_memory_equal(got, want, N * sizeof(*got));
        for (size_t n = 0; n <= TAILS; n++) {
            uint16_t *out = block(n * sizeof(*out));
            float *wide = block(n * sizeof(*wide));

            sets[s]->f32_to_f16(in + N - n, n, out);
            assert_memory_equal(out, want + N - n, n * sizeof(*out));
            sets[s]->f16_to_f32(want + N - n, n, wide);
            for (size_t i = 0; i < n; i++) {
                scalar_set->f32_to_f16(wide + i, 1, out + i);
                assert_int_equal(out[i], want[N - n + i]);
            }
            anx_free(NULL, out);
            anx_free(NULL, wide);
        }
    }
    anx_free(NULL, in);
    anx_free(NULL, want);
    anx_free(NULL, got);
}

static void
encoding_agrees(void **state)
{
    /* Ties go to even, and both ends clamp, far beyond any integer as well. */
    static const float edge[] = { -1e30f, -1.0f,  -0.5f,  -0.0f,  0.5f,   1.5f,
                                  2.5f,   254.5f, 255.0f, 255.5f, 300.0f, 1e30f };
    static const uint8_t edge_code[] = { 0, 0, 0, 0, 0, 2, 2, 254, 255, 255, 255, 255 };
    anx_rng rng = anx_rng_seed(3);

    (void) state;
    for (size_t n = 0; n <= 300; n++) {
        float *x = block(n * sizeof(*x));
        uint8_t *want = block(n), *got = block(n);

        for (size_t i = 0; i < n; i++)
            x[i] = i < ANX_COUNT_OF(edge) ? edge[i] : 200.0f * uniform(&rng) + 100.0f;
        for (size_t s = 0; s < n_set; s++) {
            sets[s]->encode_u8(x, n, 0.0f, 1.0f, got);
            assert_memory_equal(got, edge_code, n < ANX_COUNT_OF(edge) ? n : ANX_COUNT_OF(edge));
            scalar_set->encode_u8(x, n, -3.25f, 0.7f, want);
            sets[s]->encode_u8(x, n, -3.25f, 0.7f, got);
            assert_memory_equal(got, want, n);
        }
        anx_free(NULL, x);
        anx_free(NULL, want);
        anx_free(NULL, got);
    }
}

static void
hadamard_agrees_and_inverts(void **state)
{
    anx_rng rng = anx_rng_seed(4);

    (void) state;
    for (size_t n = 1; n <= 4096; n *= 2) {
        float *x = block(n * sizeof(*x)), *want = block(n * sizeof(*x)), *got = block(n * sizeof(*x));
        /* log2(n) additions on each path, of sums of at most n terms of at most 1 */
        double bound = 13.0 * 0x1p-24 * (double) n;

        for (size_t i = 0; i < n; i++)
            want[i] = x[i] = uniform(&rng);
        scalar_set->hadamard(want, n);
        for (size_t s = 0; s < n_set; s++) {
            memcpy(got, x, n * sizeof(*x));
            sets[s]->hadamard(got, n);
            for (size_t i = 0; i < n; i++)
                if (!(fabs((double) got[i] - (double) want[i]) <= bound))
                    fail_msg("%s: hadamard of %zu differs at %zu", sets[s]->name, n, i);
            sets[s]->hadamard(got, n);
            for (size_t i = 0; i < n; i++)
                assert_true(fabs((double) got[i] / (double) n - (double) x[i]) <= bound);
        }
        anx_free(NULL, x);
        anx_free(NULL, want);
        anx_free(NULL, got);
    }
}

static void
check_code_kernels(const uint8_t *query, const uint8_t *const *rows, size_t n, size_t stride)
{
    int32_t *want = block(3 * n * sizeof(*want)), *got = block(n * sizeof(*got));
    size_t size = n * sizeof(*got);

    scalar_set->code_l2(query, rows, n, stride, want);
    scalar_set->code_dot((const int8_t *) query, rows, n, stride, want + n);
    scalar_set->code_hamming(query, rows, n, stride, want + 2 * n);
    for (size_t s = 0; s < n_set; s++) {
        sets[s]->code_l2(query, rows, n, stride, got);
        if (memcmp(got, want, size) != 0)
            fail_msg("%s: code_l2 differs, n %zu stride %zu", sets[s]->name, n, stride);
        sets[s]->code_dot((const int8_t *) query, rows, n, stride, got);
        if (memcmp(got, want + n, size) != 0)
            fail_msg("%s: code_dot differs, n %zu stride %zu", sets[s]->name, n, stride);
        sets[s]->code_hamming(query, rows, n, stride, got);
        if (memcmp(got, want + 2 * n, size) != 0)
            fail_msg("%s: code_hamming differs, n %zu stride %zu", sets[s]->name, n, stride);
    }
    anx_free(NULL, want);
    anx_free(NULL, got);
}

static void
code_kernels_agree(void **state)
{
    enum { ROWS = 70 };
    anx_rng rng = anx_rng_seed(5);

    (void) state;
    for (size_t stride = 64; stride <= 4096; stride += stride < 1024 ? 64 : 1024) {
        uint8_t *memory = code_rows(ROWS + 1, stride), *query = memory + ROWS * stride;
        const uint8_t *rows[ROWS];

        fill_row(&rng, ANX_SCALAR_U8, (ROWS + 1) * stride, memory);
        /* rows 0 and 1 are extremes, and so is the query of every third stride */
        memset(memory, 0x00, stride);
        memset(memory + stride, 0xff, stride);
        if (stride % 192 == 0)
            memset(query, stride % 384 == 0 ? 0x80 : 0xff, stride);
        for (size_t i = 0; i < ROWS; i++) /* rows lie anywhere, as on pages */
            rows[i] = memory + (i < 2 ? i * stride : anx_rng_below(&rng, (uint32_t) ((ROWS - 1) * stride)));
        for (size_t n = 0; n <= ROWS; n++)
            check_code_kernels(query, rows, n, stride);
        anx_free_aligned(NULL, memory);
    }
}

/* The largest code sums: 255 * 255 * 4096 and -128 * 255 * 4096. */
static void
code_kernels_hold_extremes(void **state)
{
    enum { STRIDE = 4096 };
    uint8_t *memory = code_rows(3, STRIDE);
    const uint8_t *rows[2] = { memory, memory + STRIDE };

    (void) state;
    memset(memory, 0xff, STRIDE);
    memset(memory + 2 * STRIDE, 0x80, STRIDE);
    for (size_t s = 0; s < n_set; s++) {
        int32_t out[2];

        sets[s]->code_l2(rows[1], rows, 2, STRIDE, out);
        assert_int_equal(out[0], 255 * 255 * STRIDE);
        assert_int_equal(out[1], 0);
        sets[s]->code_dot((const int8_t *) (memory + 2 * STRIDE), rows, 2, STRIDE, out);
        assert_int_equal(out[0], -128 * 255 * STRIDE);
        assert_int_equal(out[1], 0);
        sets[s]->code_hamming(rows[1], rows, 2, STRIDE, out);
        assert_int_equal(out[0], 8 * STRIDE);
        assert_int_equal(out[1], 0);
    }
    anx_free_aligned(NULL, memory);
}

struct block_case {
    const uint8_t *a, *b;
    size_t na, nb, stride;
};

static void
check_blocks(const struct block_case *c, const int32_t *want_dot, const int32_t *want_hamming,
             size_t want_stride)
{
    enum { UNTOUCHED = 0x5a5a5a5a };
    size_t out_stride = c->nb + 3;
    int32_t *got = block(c->na * out_stride * sizeof(*got));

    for (size_t s = 0; s < n_set; s++)
        for (int is_hamming = 0; is_hamming < 2; is_hamming++) {
            const int32_t *want = is_hamming ? want_hamming : want_dot;

            for (size_t i = 0; i < c->na * out_stride; i++)
                got[i] = UNTOUCHED;
            if (is_hamming)
                sets[s]->hamming_block(c->a, c->na, c->b, c->nb, c->stride, got, out_stride);
            else
                sets[s]->dot_block((const int8_t *) c->a, c->na, c->b, c->nb, c->stride, got, out_stride);
            for (size_t i = 0; i < c->na; i++)
                for (size_t j = 0; j < out_stride; j++)
                    if (got[i * out_stride + j] != (j < c->nb ? want[i * want_stride + j] : UNTOUCHED))
                        fail_msg("%s: %s_block of %zu x %zu, stride %zu, differs at %zu, %zu", sets[s]->name,
                                 is_hamming ? "hamming" : "dot", c->na, c->nb, c->stride, i, j);
        }
    anx_free(NULL, got);
}

static void
blocks_agree(void **state)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 4, 5, 7, 8, 9, 15, 16, 17, 31, 33, 47, 48, 49, 65, 96, 97 };
    static const size_t strides[] = { 64, 128, 192, 384, 512, 576, 1088 }; /* 512 is the depth of a panel */
    enum { N = 97 };
    anx_rng rng = anx_rng_seed(6);
    int32_t *dot = block(N * N * sizeof(*dot)), *hamming = block(N * N * sizeof(*hamming));

    (void) state;
    for (size_t t = 0; t < ANX_COUNT_OF(strides); t++) {
        struct block_case c = { .stride = strides[t] };
        uint8_t *a = code_rows(N, c.stride), *b = code_rows(N, c.stride);

        fill_row(&rng, ANX_SCALAR_U8, N * c.stride, a);
        fill_row(&rng, ANX_SCALAR_U8, N * c.stride, b);
        memset(a + c.stride, 0x80, c.stride);
        memset(b + c.stride, 0xff, c.stride);
        c.a = a, c.b = b;
        scalar_set->dot_block((const int8_t *) a, N, b, N, c.stride, dot, N);
        scalar_set->hamming_block(a, N, b, N, c.stride, hamming, N);
        for (size_t i = 0; i < ANX_COUNT_OF(sizes); i++)
            for (size_t j = 0; j < ANX_COUNT_OF(sizes); j++) {
                c.na = sizes[i], c.nb = sizes[j];
                check_blocks(&c, dot, hamming, N);
            }
        anx_free_aligned(NULL, a);
        anx_free_aligned(NULL, b);
    }
    anx_free(NULL, dot);
    anx_free(NULL, hamming);
}

static void
check_list_kernels(const anx_kernels *set, const int32_t *values, const int32_t *base, size_t n,
                   int32_t bound)
{
    int32_t *in_place = block(n * sizeof(*in_place));
    uint32_t *found = block(n * sizeof(*found));
    int32_t lanes[16];
    size_t count = 0, n_found = set->select_below(values, n, bound, found);

    for (size_t i = 0; i < n; i++)
        if (values[i] < bound) {
            assert_true(count < n_found);
            assert_int_equal(found[count], i);
            count++;
        }
    assert_int_equal(n_found, count);
    assert_int_equal(set->count_below(values, n, bound), count);
    set->min_lanes(values, n, lanes);
    for (size_t lane = 0; lane < 16; lane++) {
        int32_t least = INT32_MAX;

        for (size_t i = lane; i < n; i += 16)
            least = values[i] < least ? values[i] : least;
        assert_int_equal(lanes[lane], least);
    }
    memcpy(in_place, base, n * sizeof(*base));
    set->min_into(values, n, in_place);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(in_place[i], base[i] < values[i] ? base[i] : values[i]);
    memcpy(in_place, values, n * sizeof(*values));
    set->l2_from_dot(in_place, base, bound / 4, n, in_place);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(in_place[i], base[i] + bound / 4 - 2 * values[i]);
    anx_free(NULL, in_place);
    anx_free(NULL, found);
}

static void
list_kernels_are_right(void **state)
{
    static const int32_t bounds[] = { INT32_MIN, -500, 0, 1, 700, INT32_MAX };
    anx_rng rng = anx_rng_seed(7);

    (void) state;
    for (size_t n = 0; n <= 200; n++) {
        int32_t *values = block(n * sizeof(*values)), *base = block(n * sizeof(*base));

        for (size_t i = 0; i < n; i++) {
            values[i] = (int32_t) anx_rng_below(&rng, 2000) - 1000;
            base[i] = (int32_t) anx_rng_below(&rng, 2000000) - 1000000;
        }
        for (size_t s = 0; s < n_set; s++)
            for (size_t b = 0; b < ANX_COUNT_OF(bounds); b++)
                check_list_kernels(sets[s], values, base, n, bounds[b]);
        anx_free(NULL, values);
        anx_free(NULL, base);
    }
}

/* ---- the choice ---- */

static void
resolved_sets_have_no_holes(void **state)
{
    (void) state;
    assert_string_equal(sets[n_set - 1]->name, "scalar");
    for (size_t s = 0; s < n_set; s++) {
        const anx_kernels *k = sets[s];

        for (int m = 0; m < ANX_METRIC_COUNT; m++)
            for (int e = 0; e < ANX_SCALAR_COUNT; e++)
                assert_int_equal(k->distance[m][e] != NULL,
                                 (m == ANX_METRIC_HAMMING) == (e == ANX_SCALAR_B1));
        assert_true(k->dot_f32 && k->norm2_f32 && k->l2_f32_rows && k->ip_f32_rows && k->f16_to_f32);
        assert_true(k->f32_to_f16 && k->encode_u8 && k->hadamard && k->code_l2 && k->code_dot &&
                    k->code_hamming);
        assert_true(k->dot_block && k->hamming_block && k->count_below && k->select_below && k->l2_from_dot);
        assert_true(k->min_into && k->min_lanes);
        print_message("set %zu of %zu: %s\n", s + 1, n_set, k->name);
    }
}

static void
choice_follows_the_name(void **state)
{
    static const char *const wrong[] = { "AVX512", "avx1024", " avx2", "fast", "scalar " };
    const char *warning;

    (void) state;
    assert_ptr_equal(anx_kernels_choose(NULL, &warning), sets[0]);
    assert_null(warning);
    assert_ptr_equal(anx_kernels_choose("", &warning), sets[0]);
    assert_null(warning);
    for (size_t s = 0; s < n_set; s++) {
        assert_string_equal(anx_kernels_choose(sets[s]->name, &warning)->name, sets[s]->name);
        assert_null(warning);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(wrong); i++) {
        assert_ptr_equal(anx_kernels_choose(wrong[i], &warning), sets[0]);
        assert_non_null(strstr(warning, "unknown"));
    }
    /* No machine has both. */
    warning = NULL;
    assert_ptr_equal(anx_kernels_choose(strcmp(sets[0]->name, "neon") == 0 ? "avx2" : "neon", &warning),
                     sets[0]);
    assert_non_null(strstr(warning, "CPU"));
}

#ifdef __x86_64__
/* A set that falls out of the table would make every other test here pass. */
static void
sets_of_this_cpu_are_there(void **state)
{
    const char *warning;

    (void) state;
    assert_string_equal(anx_kernels_choose("sse", &warning)->name,
                        __builtin_cpu_supports("sse4.1") ? "sse" : "scalar");
    if (__builtin_cpu_supports("avx"))
        assert_string_equal(anx_kernels_choose("avx", &warning)->name, "avx");
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma"))
        assert_string_equal(anx_kernels_choose("avx2", &warning)->name, "avx2");
    if (__builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vnni"))
        assert_string_equal(anx_kernels_choose("avx512", &warning)->name, "avx512");
}
#endif

static int n_warning;

static void
count_warnings(void *context, anx_log_level level, const char *line)
{
    (void) context;
    if (level == ANX_LOG_WARN && strstr(line, "RX_TARGET_INSTRUCTIONS value=\"bo?gus\""))
        n_warning++;
}

/* In a child, because the choice is made once per process. Exit status 0: the set `want` and n warnings. */
static int
best_in_child(const char *value, const char *want, int warnings)
{
    int status = -1;
    pid_t child = fork();

    if (child == 0) {
        bool is_right;

        if (value)
            setenv("RX_TARGET_INSTRUCTIONS", value, 1);
        else
            unsetenv("RX_TARGET_INSTRUCTIONS");
        anx_log_set(count_warnings, NULL, ANX_LOG_DEBUG);
        is_right = want && strcmp(anx_kernels_best()->name, want) == 0;
        is_right = is_right && anx_kernels_best() == anx_kernels_choose(value, &(const char *) { NULL });
        _exit(is_right && n_warning == warnings ? 0 : 1);
    }
    assert_true(child > 0);
    assert_int_equal(waitpid(child, &status, 0), child);
    return status;
}

static void
environment_lowers_the_best_set(void **state)
{
    (void) state;
    assert_int_equal(best_in_child(NULL, sets[0]->name, 0), 0);
    assert_int_equal(best_in_child("bo\ngus", sets[0]->name, 1), 0);
    for (size_t s = 0; s < n_set; s++)
        assert_int_equal(best_in_child(sets[s]->name, sets[s]->name, 0), 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(resolved_sets_have_no_holes),
        cmocka_unit_test(choice_follows_the_name),
#ifdef __x86_64__
        cmocka_unit_test(sets_of_this_cpu_are_there),
#endif
        cmocka_unit_test(environment_lowers_the_best_set),
        cmocka_unit_test(scalar_distances_have_their_values),
        cmocka_unit_test(distances_agree_for_every_dim),
        cmocka_unit_test(integer_sums_do_not_overflow),
        cmocka_unit_test(row_kernels_agree),
        cmocka_unit_test(halves_have_their_values),
        cmocka_unit_test(halves_agree_for_every_value),
        cmocka_unit_test(rounding_to_halves_agrees),
        cmocka_unit_test(encoding_agrees),
        cmocka_unit_test(hadamard_agrees_and_inverts),
        cmocka_unit_test(code_kernels_agree),
        cmocka_unit_test(code_kernels_hold_extremes),
        cmocka_unit_test(blocks_agree),
        cmocka_unit_test(list_kernels_are_right),
    };

    return cmocka_run_group_tests_name("kernel", tests, find_sets, NULL);
}
