/* What the conformance suites share: an index beside its model, and the loop over every kind, metric and
 * element kind. */
#ifndef ANX_TEST_INDEX_FIXTURE_H
#define ANX_TEST_INDEX_FIXTURE_H

#include "test_model.h"

#include "ann/ann_int.h"
#include "base/error.h"

#define N_ROW 500
#define N_CENTROID 4
#define K 10
#define RIGHT_SHARE 0.98

struct fixture {
    struct model model;
    anx_index *index;
    anx_rng rng;
    anx_error err;
};

static const anx_search_params all_params = { .ef = 400, .nprobe = N_CENTROID };

static inline anx_index_params
params_of(anx_index_kind kind, const struct model_space *space)
{
    anx_index_params p = ANX_INDEX_PARAMS_INIT;

    p.kind = kind;
    p.metric = space->metric;
    p.scalar = space->scalar;
    p.dim = space->dim;
    p.centroids = N_CENTROID;
    p.threads = 2;
    return p;
}

static inline void
ok(struct fixture *f, anx_status st)
{
    if (st != ANX_OK)
        fail_msg("%s %s %s: %s", f->index ? f->index->ops->name : "?", anx_metric_name(f->model.metric),
                 anx_scalar_name(f->model.scalar), f->err.message);
}

static inline struct fixture *
fixture_create(anx_index_kind kind, const struct model_space *space)
{
    struct fixture *f = anx_alloc_zeroed(NULL, 1, sizeof(*f));
    anx_index_params p = params_of(kind, space);

    assert_non_null(f);
    model_init(&f->model, space);
    f->rng = anx_rng_seed(7);
    ok(f, anx_index_create(&p, &f->index, &f->err));
    return f;
}

static inline void
fixture_destroy(struct fixture *f)
{
    anx_index_destroy(f->index);
    anx_free(NULL, f);
}

/* Labels that are neither dense nor ascending. */
static inline uint64_t
label_number(size_t i)
{
    return (uint64_t) (i * 7919 % 10007) + (i % 5 == 0 ? 1ull << 40 : 0);
}

static inline void
add_single(struct fixture *f, uint64_t label)
{
    uint8_t row[MODEL_ROW_SIZE];

    model_random_row(&f->model, &f->rng, row);
    ok(f, anx_index_add(f->index, label, row, &f->err));
    model_add(&f->model, label, row);
}

static inline void
add_batch(struct fixture *f, size_t first, size_t n)
{
    uint64_t *labels = anx_alloc_array(NULL, n, sizeof(*labels));
    uint8_t *rows = anx_alloc_array(NULL, n, f->model.row_size);

    assert_true(labels && rows);
    for (size_t i = 0; i < n; i++) {
        labels[i] = label_number(first + i);
        model_random_row(&f->model, &f->rng, rows + i * f->model.row_size);
        model_add(&f->model, labels[i], rows + i * f->model.row_size);
    }
    ok(f, anx_index_add_batch(f->index, n, labels, rows, &f->err));
    anx_free(NULL, labels);
    anx_free(NULL, rows);
}

static inline void
check_all(struct fixture *f)
{
    uint8_t row[MODEL_ROW_SIZE];

    ok(f, anx_index_check(f->index, &f->err));
    assert_int_equal(anx_index_count(f->index), f->model.n);
    for (size_t i = 0; i < f->model.n; i++) {
        assert_true(anx_index_contains(f->index, f->model.labels[i]));
        ok(f, anx_index_get(f->index, f->model.labels[i], row, &f->err));
        assert_memory_equal(row, f->model.rows[i], f->model.row_size);
    }
}

static inline void
check_search(struct fixture *f, const anx_search_params *params, bool (*accept)(void *, uint64_t))
{
    static double truth[MODEL_ROWS];
    size_t right = 0, wanted = 0;

    for (size_t q = 0; q < 20; q++) {
        uint8_t query[MODEL_ROW_SIZE];
        float distances[K];
        uint64_t labels[K];
        anx_hits hits = { .distances = distances, .labels = labels };
        size_t n_truth, n;

        model_random_row(&f->model, &f->rng, query);
        ok(f, anx_index_search(f->index, params, 1, query, K, &hits, &f->err));
        n_truth = model_distances(&f->model, query, accept, truth);
        n = model_check_hits(&f->model, query, K, distances, labels);
        for (size_t i = 0; i < n && accept; i++)
            assert_true(accept(NULL, labels[i]));
        assert_int_equal(n, n_truth < K ? n_truth : K);
        right += model_count_right(truth, n_truth, K, distances);
        wanted += n;
    }
    if ((double) right < RIGHT_SHARE * (double) wanted)
        fail_msg("%s %s %s: %zu of %zu neighbors are right", f->index->ops->name,
                 anx_metric_name(f->model.metric), anx_scalar_name(f->model.scalar), right, wanted);
    if (f->index->params.kind == ANX_INDEX_FLAT)
        assert_int_equal(right, wanted);
}

/* Runs a test with every kind and pair. */
static inline void
for_every_index(void (*test)(struct fixture *))
{
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (size_t s = 0; s < N_SPACE; s++) {
            struct fixture *f = fixture_create((anx_index_kind) kind, &model_spaces[s]);

            test(f);
            fixture_destroy(f);
        }
}

static inline void
expect(struct fixture *f, anx_status st, anx_status wanted, const char *part)
{
    if (st != wanted || !strstr(f->err.message, part))
        fail_msg("status %d \"%s\", wanted %d \"%s\"", (int) st, st == ANX_OK ? "" : f->err.message,
                 (int) wanted, part);
}

#endif
