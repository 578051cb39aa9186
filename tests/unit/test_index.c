/* The conformance suite of vector indexes: every kind in the registry, with every metric and element kind that go together,
 * against a model. A new kind, metric or element kind is tested by existing. Approximate kinds are asked with settings at
 * which they must be nearly exact on this little data (RIGHT_SHARE of the true neighbors). */
#include "test_model.h"

#include <pthread.h>
#include <stdlib.h>

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

static anx_index_params
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

static void
ok(struct fixture *f, anx_status st)
{
    if (st != ANX_OK)
        fail_msg("%s %s %s: %s", f->index ? f->index->ops->name : "?", anx_metric_name(f->model.metric),
                 anx_scalar_name(f->model.scalar), f->err.message);
}

static struct fixture *
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

static void
fixture_destroy(struct fixture *f)
{
    anx_index_destroy(f->index);
    anx_free(NULL, f);
}

/* Labels that are neither dense nor ascending. */
static uint64_t
label_number(size_t i)
{
    return (uint64_t) (i * 7919 % 10007) + (i % 5 == 0 ? 1ull << 40 : 0);
}

static void
add_single(struct fixture *f, uint64_t label)
{
    uint8_t row[MODEL_ROW_SIZE];

    model_random_row(&f->model, &f->rng, row);
    ok(f, anx_index_add(f->index, label, row, &f->err));
    model_add(&f->model, label, row);
}

static void
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

static void
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

static void
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
        fail_msg("%s %s %s: %zu of %zu neighbors are right", f->index->ops->name, anx_metric_name(f->model.metric),
                 anx_scalar_name(f->model.scalar), right, wanted);
    if (f->index->params.kind == ANX_INDEX_FLAT)
        assert_int_equal(right, wanted);
}

/* Runs a test with every kind and pair. */
static void
for_every_index(void (*test)(struct fixture *))
{
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (size_t s = 0; s < N_SPACE; s++) {
            struct fixture *f = fixture_create((anx_index_kind) kind, &model_spaces[s]);

            test(f);
            fixture_destroy(f);
        }
}

static void
run_churn(struct fixture *f)
{
    uint8_t row[MODEL_ROW_SIZE];

    for (size_t i = 0; i < 30; i++)
        add_single(f, label_number(i));
    check_all(f);
    check_search(f, &all_params, NULL);
    add_batch(f, 30, N_ROW - 30);
    check_all(f);
    check_search(f, &all_params, NULL);
    for (size_t i = 0; i < N_ROW; i += 3) {
        ok(f, anx_index_remove(f->index, label_number(i), &f->err));
        model_remove(&f->model, label_number(i));
        assert_false(anx_index_contains(f->index, label_number(i)));
    }
    check_all(f);
    check_search(f, &all_params, NULL);
    for (size_t i = 1; i < N_ROW; i += 3) { /* replaces */
        model_random_row(&f->model, &f->rng, row);
        ok(f, anx_index_update(f->index, label_number(i), row, &f->err));
        model_remove(&f->model, label_number(i));
        model_add(&f->model, label_number(i), row);
    }
    for (size_t i = 0; i < N_ROW; i += 6) { /* adds */
        model_random_row(&f->model, &f->rng, row);
        ok(f, anx_index_update(f->index, label_number(i), row, &f->err));
        model_add(&f->model, label_number(i), row);
    }
    add_batch(f, N_ROW, 60);
    check_all(f);
    check_search(f, &all_params, NULL);
    while (f->model.n) {
        uint64_t label = f->model.labels[f->model.n / 2];

        ok(f, anx_index_remove(f->index, label, &f->err));
        model_remove(&f->model, label);
    }
    check_all(f);
    check_search(f, &all_params, NULL); /* of an empty index: all padding */
    add_batch(f, 0, 40);
    check_all(f);
    check_search(f, &all_params, NULL);
}

static void
churn_keeps_index_and_model_equal(void **state)
{
    (void) state;
    for_every_index(run_churn);
}

static bool
accept_odd(void *context, uint64_t label)
{
    (void) context;
    return label % 2;
}

static bool
accept_few(void *context, uint64_t label)
{
    (void) context;
    return label % 50 == 3;
}

static void
run_filters(struct fixture *f)
{
    uint64_t bitmap[160] = { 0 };
    anx_filter filter = { .accept = accept_odd };
    anx_search_params params = all_params;

    params.filter = &filter;
    for (size_t i = 0; i < N_ROW; i++) /* bitmaps want small labels */
        add_single(f, (i * 7919) % 10007);
    check_search(f, &params, accept_odd);
    filter.accept = accept_few;
    check_search(f, &params, accept_few);
    params.nprobe = 1; /* too few for k rows: the search has to go on */
    check_search(f, &params, accept_few);
    params.nprobe = N_CENTROID;
    filter.accept = NULL;
    filter.bitmap = bitmap;
    filter.bits = 10007;
    for (uint64_t l = 0; l < filter.bits; l++)
        bitmap[l / 64] |= (uint64_t) accept_few(NULL, l) << l % 64;
    check_search(f, &params, accept_few);
    for (uint64_t l = 0; l < filter.bits; l++)
        bitmap[l / 64] |= (uint64_t) accept_odd(NULL, l) << l % 64;
    for (uint64_t l = 0; l < filter.bits; l++)
        if (!accept_odd(NULL, l))
            bitmap[l / 64] &= ~(1ull << l % 64);
    check_search(f, &params, accept_odd);
}

static bool
accept_none(void *context, uint64_t label)
{
    (void) context;
    (void) label;
    return false;
}

static void
run_empty_filters(struct fixture *f)
{
    uint64_t bitmap[1] = { ~0ull };
    anx_filter filter = { .bitmap = bitmap, .bits = 0 };
    anx_search_params params = all_params;

    params.filter = &filter;
    add_batch(f, 0, N_ROW);
    check_search(f, &params, accept_none);
    filter = (anx_filter) { .accept = accept_none };
    check_search(f, &params, accept_none);
}

static void
only_rows_that_pass_are_returned_and_k_of_them(void **state)
{
    (void) state;
    for_every_index(run_filters);
}

static void
a_filter_may_let_nothing_pass(void **state)
{
    (void) state;
    for_every_index(run_empty_filters);
}

static void
run_range(struct fixture *f)
{
    static double truth[MODEL_ROWS];
    anx_search_params params = all_params;
    anx_hit_list list = { 0 };

    params.has_radius = true;
    add_batch(f, 0, N_ROW);
    for (size_t q = 0; q < 10; q++) {
        uint8_t query[MODEL_ROW_SIZE];
        float distances[K];
        uint64_t labels[K];
        anx_hits hits = { .distances = distances, .labels = labels };
        size_t n_within = 0, n;

        model_random_row(&f->model, &f->rng, query);
        model_distances(&f->model, query, NULL, truth);
        params.radius = (float) ((truth[25] + truth[26]) / 2);
        for (size_t i = 0; i < f->model.n; i++)
            n_within += truth[i] < (double) params.radius;
        ok(f, anx_index_search_range(f->index, &params, query, &list, &f->err));
        assert_int_equal(model_check_hits(&f->model, query, list.n, list.distances, list.labels), list.n);
        for (size_t i = 0; i < list.n; i++)
            assert_true(list.distances[i] < params.radius);
        assert_true(list.n <= n_within + 1 && list.n + 1 >= (size_t) (RIGHT_SHARE * (double) n_within));
        params.radius = (float) ((truth[3] + truth[4]) / 2); /* k and radius: fewer than k may be within */
        n_within = 0;
        for (size_t i = 0; i < f->model.n; i++)
            n_within += truth[i] < (double) params.radius;
        ok(f, anx_index_search(f->index, &params, 1, query, K, &hits, &f->err));
        n = model_check_hits(&f->model, query, K, distances, labels);
        for (size_t i = 0; i < n; i++)
            assert_true(distances[i] < params.radius);
        assert_true(n <= n_within + 1 && n + 1 >= n_within);
    }
    anx_hit_list_free(&list);
}

static void
range_search_returns_what_is_within_the_radius(void **state)
{
    (void) state;
    for_every_index(run_range);
}

static void
run_iterator(struct fixture *f)
{
    static uint64_t seen[MODEL_ROWS];
    uint8_t query[MODEL_ROW_SIZE];
    anx_filter filter = { .accept = accept_odd };
    anx_search_params params = all_params;
    size_t n_odd = 0;

    add_batch(f, 0, N_ROW);
    for (size_t i = 0; i < f->model.n; i++)
        n_odd += f->model.labels[i] % 2;
    model_random_row(&f->model, &f->rng, query);
    for (int filtered = 0; filtered < 2; filtered++) {
        size_t n = 0, got = 0, wanted = filtered ? n_odd : f->model.n;
        anx_iter *iter;

        params.filter = filtered ? &filter : NULL;
        ok(f, anx_iter_open(f->index, &params, query, &iter, &f->err));
        do {
            float distances[7];
            uint64_t labels[7];
            anx_hits hits = { .distances = distances, .labels = labels };

            ok(f, anx_iter_next(iter, 7, &hits, &got, &f->err));
            for (size_t i = 0; i < got; i++) {
                size_t at = model_find(&f->model, labels[i]);
                double d;

                assert_true(at != SIZE_MAX && n < wanted);
                d = model_distance(&f->model, query, f->model.rows[at]);
                assert_true(fabs(d - (double) distances[i]) <= model_tolerance(d));
                for (size_t j = 0; j < n; j++)
                    assert_true(seen[j] != labels[i]);
                seen[n++] = labels[i];
            }
        } while (got == 7);
        assert_int_equal(n, wanted);
        anx_iter_close(iter);
    }
}

static void
an_iterator_gives_every_row_once(void **state)
{
    (void) state;
    for_every_index(run_iterator);
}

static void
expect(struct fixture *f, anx_status st, anx_status wanted, const char *part)
{
    if (st != wanted || !strstr(f->err.message, part))
        fail_msg("status %d \"%s\", wanted %d \"%s\"", (int) st, st == ANX_OK ? "" : f->err.message, (int) wanted, part);
}

static void
run_label_errors(struct fixture *f)
{
    uint8_t rows[3][MODEL_ROW_SIZE], packed[3 * MODEL_ROW_SIZE];
    uint64_t twice[3] = { 70001, 70002, 70001 }, present[3] = { 70001, 70002, 0 };

    add_batch(f, 0, N_ROW);
    present[2] = f->model.labels[5];
    for (size_t i = 0; i < 3; i++) {
        model_random_row(&f->model, &f->rng, rows[i]);
        memcpy(packed + i * f->model.row_size, rows[i], f->model.row_size);
    }
    expect(f, anx_index_add(f->index, f->model.labels[0], rows[0], &f->err), ANX_E_EXISTS, "is already");
    expect(f, anx_index_add(f->index, ANX_LABEL_NONE, rows[0], &f->err), ANX_E_INVALID, "18446744073709551615");
    expect(f, anx_index_update(f->index, ANX_LABEL_NONE, rows[0], &f->err), ANX_E_INVALID, "reserved");
    expect(f, anx_index_add_batch(f->index, 3, twice, packed, &f->err), ANX_E_EXISTS, "label 70001");
    expect(f, anx_index_add_batch(f->index, 3, present, packed, &f->err), ANX_E_EXISTS, "vector 2");
    expect(f, anx_index_remove(f->index, 70001, &f->err), ANX_E_NOT_FOUND, "70001");
    expect(f, anx_index_get(f->index, 70001, rows[0], &f->err), ANX_E_NOT_FOUND, "70001");
    assert_false(anx_index_contains(f->index, 70001));
    assert_false(anx_index_contains(f->index, ANX_LABEL_NONE));
    ok(f, anx_index_add_batch(f->index, 0, twice, packed, &f->err));
    check_all(f); /* nothing changed */
}

static void
labels_are_present_at_most_once(void **state)
{
    (void) state;
    for_every_index(run_label_errors);
}

static void
put_bad(const struct model *model, uint8_t *row, double value)
{
    float f = (float) value;

    if (model->scalar == ANX_SCALAR_F32) {
        memcpy(row + 4 * (model->dim - 1), &f, 4);
    } else if (model->scalar == ANX_SCALAR_F16) {
        uint16_t h = isnan(value) ? 0x7e00 : 0xfc00;

        memcpy(row + 2 * (model->dim - 1), &h, 2);
    } else {
        row[model->row_size - 1] |= 1; /* a spare bit of b1 */
    }
}

static void
run_bad_values(struct fixture *f)
{
    uint8_t rows[2 * MODEL_ROW_SIZE], *second = rows + f->model.row_size;
    uint64_t labels[2] = { 80001, 80002 };
    float distances[K];
    uint64_t found[K];
    anx_hits hits = { .distances = distances, .labels = found };
    anx_hit_list list = { 0 };
    anx_search_params params = all_params;
    anx_iter *iter;
    char place[32];

    if (f->model.scalar == ANX_SCALAR_I8 || f->model.scalar == ANX_SCALAR_U8)
        return; /* every byte is a value */
    params.has_radius = true;
    add_batch(f, 0, 50);
    snprintf(place, sizeof(place), f->model.scalar == ANX_SCALAR_B1 ? "beyond the %zu" : "component %zu",
             f->model.scalar == ANX_SCALAR_B1 ? f->model.dim : f->model.dim - 1);
    for (int nan = 0; nan < 2; nan++) {
        model_random_row(&f->model, &f->rng, rows);
        model_random_row(&f->model, &f->rng, second);
        put_bad(&f->model, second, nan ? (double) NAN : -(double) INFINITY);
        expect(f, anx_index_add(f->index, 80001, second, &f->err), ANX_E_VALUE, place);
        expect(f, anx_index_update(f->index, 80001, second, &f->err), ANX_E_VALUE, place);
        expect(f, anx_index_add_batch(f->index, 2, labels, rows, &f->err), ANX_E_VALUE, "vector 1");
        expect(f, anx_index_search(f->index, &all_params, 1, second, K, &hits, &f->err), ANX_E_VALUE, place);
        expect(f, anx_index_search_range(f->index, &params, second, &list, &f->err), ANX_E_VALUE, place);
        expect(f, anx_iter_open(f->index, &all_params, second, &iter, &f->err), ANX_E_VALUE, place);
        assert_null(iter);
    }
    check_all(f);
}

static void
values_that_are_no_numbers_are_refused(void **state)
{
    (void) state;
    for_every_index(run_bad_values);
}

static void
run_zero_vectors(struct fixture *f)
{
    uint8_t zero[MODEL_ROW_SIZE] = { 0 }, query[MODEL_ROW_SIZE];
    float distances[2];
    uint64_t labels[2];
    anx_hits hits = { .distances = distances, .labels = labels };

    ok(f, anx_index_add(f->index, 1, zero, &f->err));
    ok(f, anx_index_add(f->index, 2, zero, &f->err)); /* copies are rows of their own */
    model_add(&f->model, 1, zero);
    model_add(&f->model, 2, zero);
    model_random_row(&f->model, &f->rng, query);
    for (int q = 0; q < 2; q++) {
        ok(f, anx_index_search(f->index, &all_params, 1, q ? zero : query, 2, &hits, &f->err));
        assert_int_equal(model_check_hits(&f->model, q ? zero : query, 2, distances, labels), 2);
        assert_int_equal(labels[0], 1);
        assert_true(f->model.metric != ANX_METRIC_COSINE || distances[0] == 1);
    }
    ok(f, anx_index_check(f->index, &f->err));
}

static void
zero_vectors_have_a_place(void **state)
{
    (void) state;
    for_every_index(run_zero_vectors);
}

static void
run_copies(struct fixture *f)
{
    static float distances[300];
    static uint64_t labels[300];
    anx_hits hits = { .distances = distances, .labels = labels };
    uint8_t row[MODEL_ROW_SIZE];

    add_batch(f, 0, 200);
    model_random_row(&f->model, &f->rng, row);
    for (uint64_t l = 90000; l < 90060; l++) {
        ok(f, anx_index_add(f->index, l, row, &f->err));
        model_add(&f->model, l, row);
    }
    ok(f, anx_index_search(f->index, &all_params, 1, row, 300, &hits, &f->err));
    assert_int_equal(model_check_hits(&f->model, row, 300, distances, labels), 260);
    if (f->model.metric != ANX_METRIC_IP) /* else others may be nearer than the row itself */
        for (size_t i = 0; i < 60; i++)
            assert_int_equal(labels[i], 90000 + i);
    for (uint64_t l = 90000; l < 90060; l += 2) {
        ok(f, anx_index_remove(f->index, l, &f->err));
        model_remove(&f->model, l);
    }
    check_all(f);
    check_search(f, &all_params, NULL);
}

static void
copies_of_a_row_are_all_returned(void **state)
{
    (void) state;
    for_every_index(run_copies);
}

static void
run_queries(struct fixture *f)
{
    enum { N_QUERY = 37 };
    static uint8_t queries[N_QUERY * MODEL_ROW_SIZE];
    static float one[N_QUERY * K], many[N_QUERY * K];
    static uint64_t one_labels[N_QUERY * K], many_labels[N_QUERY * K];
    anx_search_params params = all_params;

    add_batch(f, 0, N_ROW);
    for (size_t q = 0; q < N_QUERY; q++) {
        anx_hits hits = { .distances = one + q * K, .labels = one_labels + q * K };

        model_random_row(&f->model, &f->rng, queries + q * f->model.row_size);
        ok(f, anx_index_search(f->index, &all_params, 1, queries + q * f->model.row_size, K, &hits, &f->err));
    }
    for (params.threads = 0; params.threads < 4; params.threads++) {
        anx_hits hits = { .distances = many, .labels = many_labels };

        memset(many, 0, sizeof(many));
        ok(f, anx_index_search(f->index, &params, N_QUERY, queries, K, &hits, &f->err));
        assert_memory_equal(one_labels, many_labels, sizeof(one_labels));
        assert_memory_equal(one, many, sizeof(one));
    }
}

static void
many_queries_on_threads_answer_as_one_by_one(void **state)
{
    (void) state;
    for_every_index(run_queries);
}

static bool
stop_at_once(void *context)
{
    ++*(size_t *) context;
    return true;
}

static void
run_cancel(struct fixture *f)
{
    uint8_t query[MODEL_ROW_SIZE];
    float distances[K];
    uint64_t labels[K];
    anx_hits hits = { .distances = distances, .labels = labels };
    size_t n_polled = 0;
    anx_search_params params = all_params;

    params.should_stop = stop_at_once;
    params.stop_context = &n_polled;
    add_batch(f, 0, N_ROW);
    model_random_row(&f->model, &f->rng, query);
    expect(f, anx_index_search(f->index, &params, 1, query, K, &hits, &f->err), ANX_E_CANCELLED, "cancelled");
    assert_true(n_polled > 0);
    check_search(f, &all_params, NULL); /* and the next one works */
}

static void
a_search_can_be_cancelled(void **state)
{
    (void) state;
    for_every_index(run_cancel);
}

static bool
progress_goes_on(void *context, const char *phase, size_t done, size_t total)
{
    assert_true(phase && done <= total);
    return *(bool *) context;
}

static void
run_loader(struct fixture *f)
{
    uint8_t rows[20 * MODEL_ROW_SIZE];
    anx_loader *loader, *other;
    bool goes_on = true;

    ok(f, anx_loader_begin(f->index, 10, &loader, &f->err));
    for (size_t at = 0; at < N_ROW; at += 20) {
        uint64_t labels[20];

        for (size_t i = 0; i < 20; i++) {
            labels[i] = label_number(at + i);
            model_random_row(&f->model, &f->rng, rows + i * f->model.row_size);
            model_add(&f->model, labels[i], rows + i * f->model.row_size);
        }
        ok(f, anx_loader_rows(loader, 20, labels, rows, &f->err));
    }
    ok(f, anx_loader_finish(loader, progress_goes_on, &goes_on, &f->err));
    check_all(f);
    check_search(f, &all_params, NULL);
    expect(f, anx_loader_begin(f->index, 0, &other, &f->err), ANX_E_STATE, "500 rows");
    assert_null(other);
}

static void
run_loader_failures(struct fixture *f)
{
    uint8_t rows[2 * MODEL_ROW_SIZE];
    uint64_t labels[2] = { 5, 5 }, good[2] = { 5, 6 };
    anx_loader *loader;
    bool goes_on = false;
    anx_status st;

    model_random_row(&f->model, &f->rng, rows);
    model_random_row(&f->model, &f->rng, rows + f->model.row_size);
    ok(f, anx_loader_begin(f->index, 0, &loader, &f->err));
    st = anx_loader_rows(loader, 2, labels, rows, &f->err); /* may be found out now or at the end */
    if (st == ANX_OK)
        st = anx_loader_finish(loader, NULL, NULL, &f->err);
    else
        anx_loader_abort(loader);
    expect(f, st, ANX_E_EXISTS, "label 5");
    assert_int_equal(anx_index_count(f->index), 0);
    ok(f, anx_loader_begin(f->index, 0, &loader, &f->err));
    ok(f, anx_loader_rows(loader, 2, good, rows, &f->err));
    st = anx_loader_finish(loader, progress_goes_on, &goes_on, &f->err);
    if (st == ANX_OK) { /* so few rows may be done before anybody is asked */
        assert_int_equal(anx_index_count(f->index), 2);
        for (size_t i = 0; i < 2; i++)
            ok(f, anx_index_remove(f->index, good[i], &f->err));
    } else {
        expect(f, st, ANX_E_CANCELLED, "cancelled");
    }
    assert_int_equal(anx_index_count(f->index), 0);
    ok(f, anx_loader_begin(f->index, 0, &loader, &f->err));
    ok(f, anx_loader_rows(loader, 2, good, rows, &f->err));
    anx_loader_abort(loader);
    assert_int_equal(anx_index_count(f->index), 0);
    add_batch(f, 0, 50);
    check_all(f);
}

static void
a_loader_takes_rows_in_pieces(void **state)
{
    (void) state;
    for_every_index(run_loader);
}

static void
a_loader_that_fails_leaves_an_empty_index(void **state)
{
    (void) state;
    for_every_index(run_loader_failures);
}

static void
run_stats(struct fixture *f)
{
    anx_index_stats stats;

    add_batch(f, 0, N_ROW);
    anx_index_get_stats(f->index, &stats);
    assert_int_equal(stats.count, N_ROW);
    assert_true(stats.slots >= N_ROW);
    assert_true(stats.memory_bytes >= stats.row_bytes + stats.code_bytes + stats.link_bytes);
    assert_true(stats.memory_bytes > N_ROW * f->model.row_size);
    assert_string_equal(stats.kernels, anx_kernels_best()->name);
    assert_int_equal(stats.is_trained, f->index->params.kind == ANX_INDEX_IVF);
}

static void
stats_add_up(void **state)
{
    (void) state;
    for_every_index(run_stats);
}

static void
run_bad_searches(struct fixture *f)
{
    uint8_t query[MODEL_ROW_SIZE];
    float distances[1];
    uint64_t labels[1];
    anx_hits hits = { .distances = distances, .labels = labels };
    anx_hit_list list = { 0 };
    anx_filter filter = { 0 };
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;

    add_batch(f, 0, 10);
    model_random_row(&f->model, &f->rng, query);
    expect(f, anx_index_search(f->index, NULL, 1, query, 0, &hits, &f->err), ANX_E_INVALID, "k is 0, must be at least 1");
    expect(f, anx_index_search_range(f->index, &params, query, &list, &f->err), ANX_E_INVALID, "radius");
    params.has_radius = true;
    params.radius = NAN;
    expect(f, anx_index_search_range(f->index, &params, query, &list, &f->err), ANX_E_INVALID, "radius is NaN");
    params.has_radius = false;
    params.filter = &filter;
    expect(f, anx_index_search(f->index, &params, 1, query, 1, &hits, &f->err), ANX_E_INVALID, "filter has neither");
    ok(f, anx_index_search(f->index, NULL, 0, query, 1, &hits, &f->err));
    ok(f, anx_index_search(f->index, NULL, 1, query, 1, &hits, &f->err));
    if (f->index->params.kind != ANX_INDEX_IVF)
        expect(f, anx_index_train(f->index, 1, &f->err), ANX_E_UNSUPPORTED, "not trained");
    else
        expect(f, anx_index_train(f->index, 1.5, &f->err), ANX_E_INVALID, "share is 1.5");
    if (f->index->params.kind != ANX_INDEX_HNSW)
        expect(f, anx_index_rebuild(f->index, NULL, NULL, &f->err), ANX_E_UNSUPPORTED, "rebuild");
}

static void
bad_searches_are_refused_with_the_reason(void **state)
{
    (void) state;
    for_every_index(run_bad_searches);
}

/* Every allocation of a whole life fails once: the call says so, the index stays whole, and nothing leaks. */
static void
live_with_allocator(anx_index_kind kind, const struct model_space *space, struct test_alloc *alloc)
{
    static struct model model;
    static uint8_t rows[MODEL_ROWS * MODEL_ROW_SIZE];
    uint64_t labels[200];
    float distances[K];
    uint64_t found[K];
    anx_hits hits = { .distances = distances, .labels = found };
    anx_index_params p = params_of(kind, space);
    anx_rng rng = anx_rng_seed(3);
    anx_index *index;
    anx_iter *iter;
    anx_status st;

    p.alloc = &alloc->alloc;
    p.threads = 1; /* so that the n-th allocation is the same in every run */
    model_init(&model, space);
    if (anx_index_create(&p, &index, NULL) != ANX_OK) {
        assert_null(index);
        return;
    }
    for (size_t i = 0; i < 200; i++) {
        labels[i] = 199 - i;
        model_random_row(&model, &rng, rows + i * model.row_size);
    }
    st = anx_index_add_batch(index, 150, labels, rows, NULL);
    assert_int_equal(anx_index_count(index), st == ANX_OK ? 150 : 0);
    for (size_t i = 150; i < 200; i++) {
        size_t before = anx_index_count(index);

        st = anx_index_add(index, labels[i], rows + i * model.row_size, NULL);
        assert_int_equal(anx_index_count(index), before + (st == ANX_OK));
        assert_true(st == ANX_OK || st == ANX_E_NOMEM);
    }
    for (size_t i = 0; i < 200; i += 4) {
        bool was_there = anx_index_contains(index, labels[i]);

        st = anx_index_remove(index, labels[i], NULL);
        assert_true(!was_there ? st == ANX_E_NOT_FOUND : st == ANX_OK || st == ANX_E_NOMEM);
        st = anx_index_update(index, labels[i + 1], rows, NULL);
        assert_true(st == ANX_OK || st == ANX_E_NOMEM);
    }
    st = anx_index_search(index, &all_params, 1, rows, K, &hits, NULL);
    assert_true(st == ANX_OK || st == ANX_E_NOMEM);
    st = anx_iter_open(index, &all_params, rows, &iter, NULL);
    if (st == ANX_OK) {
        size_t got;

        st = anx_iter_next(iter, K, &hits, &got, NULL);
        assert_true(st == ANX_OK || st == ANX_E_NOMEM);
        anx_iter_close(iter);
    }
    alloc->fail_at = 0;
    assert_int_equal(anx_index_check(index, NULL), ANX_OK);
    anx_index_destroy(index);
}

static void
out_of_memory_fails_the_call_and_nothing_else(void **state)
{
    (void) state;
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (size_t s = 0; s < N_SPACE; s += 5) {
            size_t n_calls = 1;

            for (size_t nth = 0; nth <= n_calls; nth += nth < 300 ? 1 : 29) {
                struct test_alloc alloc;

                test_alloc_init(&alloc, nth);
                live_with_allocator((anx_index_kind) kind, &model_spaces[s], &alloc);
                if (test_alloc_live(&alloc) != 0)
                    fail_msg("%s: %zu blocks are lost when allocation %zu fails",
                             anx_index_kind_name((anx_index_kind) kind), test_alloc_live(&alloc), nth);
                if (nth == 0)
                    n_calls = atomic_load(&alloc.n_calls);
            }
        }
}

struct crowd {
    anx_index *index;
    const struct model *model;
    const uint8_t *rows;
    atomic_bool is_over; /* relaxed: only ends the loops */
    atomic_size_t n_failed;
};

static void *
search_all_the_time(void *argument)
{
    struct crowd *crowd = argument;
    float distances[K];
    uint64_t labels[K];
    anx_hits hits = { .distances = distances, .labels = labels };

    for (size_t i = 0; !atomic_load_explicit(&crowd->is_over, memory_order_relaxed); i++) {
        const uint8_t *query = crowd->rows + i % 400 * crowd->model->row_size;

        if (anx_index_search(crowd->index, &all_params, 1, query, K, &hits, NULL) != ANX_OK || labels[0] == ANX_LABEL_NONE)
            atomic_fetch_add(&crowd->n_failed, 1);
        for (size_t j = 1; j < K; j++)
            if (labels[j] != ANX_LABEL_NONE && (distances[j] < distances[j - 1] || labels[j] == labels[j - 1]))
                atomic_fetch_add(&crowd->n_failed, 1);
        if (!anx_index_contains(crowd->index, 0)) /* never removed below */
            atomic_fetch_add(&crowd->n_failed, 1);
    }
    return NULL;
}

static void
run_crowd(struct fixture *f)
{
    static uint8_t rows[400 * MODEL_ROW_SIZE];
    struct crowd crowd = { .index = f->index, .model = &f->model, .rows = rows };
    pthread_t threads[2];

    for (size_t i = 0; i < 400; i++)
        model_random_row(&f->model, &f->rng, rows + i * f->model.row_size);
    for (uint64_t l = 0; l < 100; l++)
        ok(f, anx_index_add(f->index, l, rows + l * f->model.row_size, &f->err));
    for (size_t t = 0; t < 2; t++)
        assert_int_equal(pthread_create(&threads[t], NULL, search_all_the_time, &crowd), 0);
    for (uint64_t l = 100; l < 400; l++)
        ok(f, anx_index_add(f->index, l, rows + l * f->model.row_size, &f->err));
    for (uint64_t l = 1; l < 200; l++)
        ok(f, anx_index_remove(f->index, l, &f->err));
    for (uint64_t l = 200; l < 300; l++)
        ok(f, anx_index_update(f->index, l, rows + (l - 200) * f->model.row_size, &f->err));
    if (f->index->params.kind == ANX_INDEX_IVF)
        ok(f, anx_index_train(f->index, 0.7, &f->err));
    atomic_store_explicit(&crowd.is_over, true, memory_order_relaxed);
    for (size_t t = 0; t < 2; t++)
        pthread_join(threads[t], NULL);
    assert_int_equal(atomic_load(&crowd.n_failed), 0);
    assert_int_equal(anx_index_count(f->index), 201);
    ok(f, anx_index_check(f->index, &f->err));
}

static void
searches_run_beside_writers(void **state)
{
    (void) state;
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (size_t s = 0; s < N_SPACE; s += 2) {
            struct fixture *f = fixture_create((anx_index_kind) kind, &model_spaces[s]);

            run_crowd(f);
            fixture_destroy(f);
        }
}

static void
expect_create(anx_index_params p, anx_status wanted, const char *part)
{
    anx_error err = { 0 };
    anx_index *index = (anx_index *) 1;
    anx_status st = anx_index_create(&p, &index, &err);

    if (st != wanted || !strstr(err.message, part))
        fail_msg("status %d \"%s\", wanted %d \"%s\"", (int) st, err.message, (int) wanted, part);
    assert_null(index);
}

static void
bad_parameters_are_named_with_value_and_range(void **state)
{
    const anx_index_params good = { .kind = ANX_INDEX_HNSW, .dim = 4 };
    anx_index_params p = good;

    (void) state;
    p.dim = 0;
    expect_create(p, ANX_E_INVALID, "dim is 0, must be 1..65536");
    p.dim = 65537;
    expect_create(p, ANX_E_INVALID, "dim is 65537, must be 1..65536");
    p = good;
    p.m = 1;
    expect_create(p, ANX_E_INVALID, "m is 1, must be 2..128");
    p.m = 129;
    expect_create(p, ANX_E_INVALID, "m is 129, must be 2..128");
    p = good;
    p.ef_construction = 3;
    expect_create(p, ANX_E_INVALID, "ef_construction is 3, must be 4..1024");
    p = good;
    p.quantization = ANX_QUANTIZATION_SQ8;
    p.quantile = 0.5f;
    expect_create(p, ANX_E_INVALID, "quantile is 0.5, must be 0.95..1");
    p.quantile = NAN;
    expect_create(p, ANX_E_INVALID, "quantile is nan");
    p.quantile = 0;
    p.kind = ANX_INDEX_FLAT;
    expect_create(p, ANX_E_UNSUPPORTED, "sq8 is for hnsw indexes, not for flat");
    p = good;
    p.kind = ANX_INDEX_IVF;
    p.centroids = 65537;
    expect_create(p, ANX_E_INVALID, "centroids is 65537, must be 1..65536");
    p = good;
    p.kind = (anx_index_kind) 9;
    expect_create(p, ANX_E_INVALID, "kind is 9");
    p = good;
    p.threads = 5000;
    expect_create(p, ANX_E_INVALID, "threads is 5000, must be 1..1024");
}

static void
only_pairs_that_go_together_are_taken(void **state)
{
    (void) state;
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (int metric = 0; metric < ANX_METRIC_COUNT; metric++)
            for (int scalar = 0; scalar < ANX_SCALAR_COUNT; scalar++) {
                anx_index_params p = { .kind = (anx_index_kind) kind, .metric = (anx_metric) metric,
                                       .scalar = (anx_scalar) scalar, .dim = 8 };
                anx_index *index;

                if ((metric == ANX_METRIC_HAMMING) != (scalar == ANX_SCALAR_B1)) {
                    expect_create(p, ANX_E_UNSUPPORTED, "does not go with");
                    continue;
                }
                assert_int_equal(anx_index_create(&p, &index, NULL), ANX_OK);
                anx_index_destroy(index);
            }
    anx_index_destroy(NULL);
}

static void
defaults_are_filled_in(void **state)
{
    anx_index_params p = { .kind = ANX_INDEX_HNSW, .dim = 9, .quantization = ANX_QUANTIZATION_SQ8 };
    const anx_index_params *got;
    anx_index *index;

    (void) state;
    assert_int_equal(anx_index_create(&p, &index, NULL), ANX_OK);
    got = anx_index_get_params(index);
    assert_int_equal(got->m, 16);
    assert_int_equal(got->ef_construction, 200);
    assert_int_equal(got->ef, 64);
    assert_int_equal(got->sample_size, 20000);
    assert_true(got->quantile == 0.95f); /* 1 - 1/10 is below the least */
    assert_true(got->threads >= 1 && got->seed != 0);
    anx_index_destroy(index);
    p = (anx_index_params) { .kind = ANX_INDEX_IVF, .dim = 9 };
    assert_int_equal(anx_index_create(&p, &index, NULL), ANX_OK);
    got = anx_index_get_params(index);
    assert_int_equal(got->centroids, 256);
    assert_int_equal(got->nprobe, 1);
    anx_index_destroy(index);
}

static void
names_read_back(void **state)
{
    anx_metric metric = ANX_METRIC_HAMMING;
    anx_scalar scalar;
    anx_index_kind kind;

    (void) state;
    for (int i = 0; i < ANX_METRIC_COUNT; i++)
        assert_true(anx_metric_parse(anx_metric_name((anx_metric) i), &metric) && metric == (anx_metric) i);
    for (int i = 0; i < ANX_SCALAR_COUNT; i++)
        assert_true(anx_scalar_parse(anx_scalar_name((anx_scalar) i), &scalar) && scalar == (anx_scalar) i);
    for (int i = 0; i < ANX_INDEX_KIND_COUNT; i++)
        assert_true(anx_index_kind_parse(anx_index_kind_name((anx_index_kind) i), &kind) && kind == (anx_index_kind) i);
    assert_true(anx_metric_parse("l2sq", &metric) && metric == ANX_METRIC_L2);
    assert_true(anx_metric_parse("inner_product", &metric) && metric == ANX_METRIC_IP);
    assert_true(anx_metric_parse("cos", &metric) && metric == ANX_METRIC_COSINE);
    assert_false(anx_metric_parse("euclid", &metric));
    assert_int_equal(metric, ANX_METRIC_COSINE); /* unchanged */
    assert_false(anx_metric_parse(NULL, &metric));
    assert_int_equal(anx_row_size(ANX_SCALAR_B1, 9), 2);
    assert_int_equal(anx_row_size(ANX_SCALAR_F16, 9), 18);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_read_back),
        cmocka_unit_test(bad_parameters_are_named_with_value_and_range),
        cmocka_unit_test(only_pairs_that_go_together_are_taken),
        cmocka_unit_test(defaults_are_filled_in),
        cmocka_unit_test(churn_keeps_index_and_model_equal),
        cmocka_unit_test(only_rows_that_pass_are_returned_and_k_of_them),
        cmocka_unit_test(a_filter_may_let_nothing_pass),
        cmocka_unit_test(range_search_returns_what_is_within_the_radius),
        cmocka_unit_test(an_iterator_gives_every_row_once),
        cmocka_unit_test(labels_are_present_at_most_once),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(zero_vectors_have_a_place),
        cmocka_unit_test(copies_of_a_row_are_all_returned),
        cmocka_unit_test(many_queries_on_threads_answer_as_one_by_one),
        cmocka_unit_test(a_search_can_be_cancelled),
        cmocka_unit_test(a_loader_takes_rows_in_pieces),
        cmocka_unit_test(a_loader_that_fails_leaves_an_empty_index),
        cmocka_unit_test(stats_add_up),
        cmocka_unit_test(bad_searches_are_refused_with_the_reason),
        cmocka_unit_test(out_of_memory_fails_the_call_and_nothing_else),
        cmocka_unit_test(searches_run_beside_writers),
    };

    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
