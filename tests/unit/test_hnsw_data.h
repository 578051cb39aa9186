/* Rows for the tests of the graph index: points around cluster centres, in every element kind; seeds are
 * fixed. */
#ifndef ANX_TEST_HNSW_DATA_H
#define ANX_TEST_HNSW_DATA_H

#include "test_util.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "annex/index.h"
#include "annex/index_file.h"
#include "base/hash.h"
#include "base/rng.h"
#include "kernel/kernel.h"

#define N 4000
#define DIM 32
#define N_QUERY 100
#define K 10

/* Rows in one element kind, and queries like them. */
struct data {
    anx_index_params params;
    size_t row_size, n;
    uint8_t *rows, *queries;
    uint64_t labels[N];
};

static inline void
fill_row(const anx_index_params *p, anx_rng *rng, void *row, size_t row_size)
{
    uint32_t centre = anx_rng_below(rng, 40);

    if (p->scalar == ANX_SCALAR_B1) {
        anx_rng base = anx_rng_seed(centre);

        for (size_t i = 0; i < row_size; i++) /* a centre's bits, one in eight of them flipped */
            ((uint8_t *) row)[i] = (uint8_t) (anx_rng_next(&base) ^
                                              (anx_rng_next(rng) & anx_rng_next(rng) & anx_rng_next(rng)));
        return;
    }
    for (size_t i = 0; i < p->dim; i++) {
        double at = (double) ((centre * 7919u + (uint32_t) i * 104729u) % 97u) / 97.0;
        double v = 30 + 150 * at + 60 * (anx_rng_unit(rng) - 0.5);

        switch (p->scalar) {
        case ANX_SCALAR_F16: {
            float f = (float) v;

            anx_kernels_best()->f32_to_f16(&f, 1, (uint16_t *) row + i);
            break;
        }
        case ANX_SCALAR_I8:
            ((int8_t *) row)[i] = (int8_t) (v / 2 - 60);
            break;
        case ANX_SCALAR_U8:
            ((uint8_t *) row)[i] = (uint8_t) v;
            break;
        default:
            ((float *) row)[i] = (float) v - (p->metric == ANX_METRIC_L2 ? 0.0f : 110.0f);
        }
    }
}

static inline void
data_init(struct data *d, anx_metric metric, anx_scalar scalar, size_t dim)
{
    anx_rng rng = anx_rng_seed(7);
    anx_index_params params = ANX_INDEX_PARAMS_INIT;

    params.metric = metric;
    params.scalar = scalar;
    params.dim = dim;
    params.threads = 2;
    *d = (struct data) { .params = params, .n = N, .row_size = anx_row_size(scalar, dim) };
    d->rows = anx_alloc_array(NULL, N, d->row_size);
    d->queries = anx_alloc_array(NULL, N_QUERY, d->row_size);
    assert_true(d->rows && d->queries);
    for (size_t i = 0; i < N; i++) {
        fill_row(&params, &rng, d->rows + i * d->row_size, d->row_size);
        d->labels[i] = i;
    }
    for (size_t i = 0; i < N_QUERY; i++)
        fill_row(&params, &rng, d->queries + i * d->row_size, d->row_size);
}

static inline void
data_fini(struct data *d)
{
    anx_free(NULL, d->rows);
    anx_free(NULL, d->queries);
}

static inline void
ok(anx_status st, const anx_error *err)
{
    if (st != ANX_OK)
        fail_msg("%s", err->message);
}

static inline anx_index *
build(const struct data *d, size_t n, anx_index_kind kind)
{
    anx_index_params params = d->params;
    anx_index *index;
    anx_error err;

    params.kind = kind;
    ok(anx_index_create(&params, &index, &err), &err);
    if (n)
        ok(anx_index_add_batch(index, n, d->labels, d->rows, &err), &err);
    return index;
}

static inline void
add_range(anx_index *index, const struct data *d, size_t from, size_t to)
{
    anx_error err;

    for (size_t i = from; i < to; i++)
        ok(anx_index_add(index, d->labels[i], d->rows + i * d->row_size, &err), &err);
}

static inline void
check(const anx_index *index)
{
    anx_error err;

    ok(anx_index_check(index, &err), &err);
}

/* Share of answers no farther than the exact k-th: counts ties as right. */
static inline double
recall(const anx_index *index, const anx_index *exact, const struct data *d, size_t ef,
       const anx_filter *filter)
{
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    size_t good = 0, all = 0;

    params.ef = ef;
    params.filter = filter;
    for (size_t q = 0; q < N_QUERY; q++) {
        float dist[K], want_dist[K];
        uint64_t label[K], want[K];
        anx_hits hits = { dist, label }, want_hits = { want_dist, want };
        anx_error err;

        ok(anx_index_search(index, &params, 1, d->queries + q * d->row_size, K, &hits, &err), &err);
        ok(anx_index_search(exact, &params, 1, d->queries + q * d->row_size, K, &want_hits, &err), &err);
        for (size_t i = 0; i < K && want[i] != ANX_LABEL_NONE; i++, all++) {
            float limit = want_dist[K - 1] < INFINITY ? want_dist[K - 1] : 1e30f;

            good += label[i] != ANX_LABEL_NONE && dist[i] <= limit + 1e-4f * fabsf(limit) + 1e-6f;
        }
    }
    return (double) good / (double) all;
}

static inline void
recall_at_least(const anx_index *index, const struct data *d, double bound)
{
    anx_index *exact = build(d, d->n, ANX_INDEX_FLAT);
    double got = recall(index, exact, d, 64, NULL);

    if (got < bound)
        fail_msg("recall@%d is %.4f, expected at least %.4f", K, got, bound);
    anx_index_destroy(exact);
}

static inline bool
every_seventh(void *context, uint64_t label)
{
    (void) context;
    return label % 7 == 0;
}

#endif
