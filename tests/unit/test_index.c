/* The conformance suite of vector indexes: every kind in the registry, with every metric and element kind
 * that go together, against a model. A new kind, metric or element kind is tested by existing. Approximate
 * kinds are asked with settings at which they must be nearly exact on this little data (RIGHT_SHARE of the
 * true neighbors). */
#include "test_index_fixture.h"

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

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(churn_keeps_index_and_model_equal),
        cmocka_unit_test(only_rows_that_pass_are_returned_and_k_of_them),
        cmocka_unit_test(a_filter_may_let_nothing_pass),
        cmocka_unit_test(range_search_returns_what_is_within_the_radius),
        cmocka_unit_test(an_iterator_gives_every_row_once),
        cmocka_unit_test(zero_vectors_have_a_place),
        cmocka_unit_test(copies_of_a_row_are_all_returned),
        cmocka_unit_test(many_queries_on_threads_answer_as_one_by_one),
        cmocka_unit_test(a_search_can_be_cancelled),
        cmocka_unit_test(a_loader_takes_rows_in_pieces),
        cmocka_unit_test(a_loader_that_fails_leaves_an_empty_index),
        cmocka_unit_test(stats_add_up),
    };

    return cmocka_run_group_tests_name("index", tests, NULL, NULL);
}
