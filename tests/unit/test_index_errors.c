/* What can go wrong with an index of any kind: bad parameters, rows, labels and searches are refused with the
 * reason; memory runs out at every allocation; searches run beside writers. */
#include "test_index_fixture.h"

#include <pthread.h>
#include <stdlib.h>

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
    expect(f, anx_index_add(f->index, ANX_LABEL_NONE, rows[0], &f->err), ANX_E_INVALID,
           "18446744073709551615");
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
    expect(f, anx_index_search(f->index, NULL, 1, query, 0, &hits, &f->err), ANX_E_INVALID,
           "k is 0, must be at least 1");
    expect(f, anx_index_search_range(f->index, &params, query, &list, &f->err), ANX_E_INVALID, "radius");
    params.has_radius = true;
    params.radius = NAN;
    expect(f, anx_index_search_range(f->index, &params, query, &list, &f->err), ANX_E_INVALID,
           "radius is NaN");
    params.has_radius = false;
    params.filter = &filter;
    expect(f, anx_index_search(f->index, &params, 1, query, 1, &hits, &f->err), ANX_E_INVALID,
           "filter has neither");
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
    assert_true(st == ANX_OK ? anx_index_count(index) == 150 : anx_index_count(index) < 150);
    if (anx_index_count(index) > 0 && st != ANX_OK) { /* a kind may keep the rows that it had finished */
        for (size_t i = 0; i < 150; i++)
            if (anx_index_contains(index, labels[i]))
                assert_true(anx_index_remove(index, labels[i], NULL) != ANX_E_NOT_FOUND);
    }
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

        if (anx_index_search(crowd->index, &all_params, 1, query, K, &hits, NULL) != ANX_OK ||
            labels[0] == ANX_LABEL_NONE)
            atomic_fetch_add(&crowd->n_failed, 1);
        for (size_t j = 1; j < K; j++)
            if (labels[j] != ANX_LABEL_NONE &&
                (distances[j] < distances[j - 1] || labels[j] == labels[j - 1]))
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
        assert_true(anx_index_kind_parse(anx_index_kind_name((anx_index_kind) i), &kind) &&
                    kind == (anx_index_kind) i);
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
        cmocka_unit_test(labels_are_present_at_most_once),
        cmocka_unit_test(values_that_are_no_numbers_are_refused),
        cmocka_unit_test(bad_searches_are_refused_with_the_reason),
        cmocka_unit_test(out_of_memory_fails_the_call_and_nothing_else),
        cmocka_unit_test(searches_run_beside_writers),
    };

    return cmocka_run_group_tests_name("index_errors", tests, NULL, NULL);
}
