/* Filtered searches that are bounded by a place among all rows (anx_search_params.within), against the exact
 * order of all rows. */
#include "test_hnsw_data.h"

#include "base/error.h"

enum { K_MANY = 300 };

/* Filters of a query: a share of all, rows beyond a place alone, rows before a place alone. */
enum kind { SCATTERED, FAR, NEAR, N_KIND };

static void
set_filter(enum kind kind, const uint64_t *order, uint64_t *words, anx_filter *filter)
{
    memset(words, 0, (N / 64 + 1) * sizeof(*words));
    *filter = (anx_filter) { .bitmap = words, .bits = N };
    for (size_t i = 0; i < N; i++) {
        uint64_t l = order[i];

        if (l != ANX_LABEL_NONE && ((kind == SCATTERED && l % 20 == 3) ||
                                    (kind == FAR && i > 1500 && l % 2) || (kind == NEAR && i < 400)))
            words[l / 64] |= (uint64_t) 1 << l % 64;
    }
}

struct score {
    size_t n_wanted, n_found, n_wrong; /* wrong: given, and far beyond the border */
};

/* order [N]: all labels, nearest first. */
static void
compare(const uint64_t *order, const anx_filter *filter, size_t within, size_t k, const uint64_t *got,
        struct score *score)
{
    size_t n_want = 0;

    for (size_t i = 0; i < N; i++) {
        bool is_given = false;

        if (order[i] == ANX_LABEL_NONE || !(filter->bitmap[order[i] / 64] >> order[i] % 64 & 1))
            continue;
        for (size_t j = 0; j < k && !is_given; j++)
            is_given = got[j] == order[i];
        if (i < within && n_want < k) {
            n_want++;
            score->n_found += is_given;
        } else if (is_given && i >= within + within / 8 + 32) {
            score->n_wrong++;
        }
    }
    score->n_wanted += n_want;
}

static void
search_within(const anx_index *index, const struct data *d, size_t q, size_t within, enum kind kind,
              const uint64_t *order, struct score *score)
{
    uint64_t words[N / 64 + 1], label[K_MANY];
    float dist[K_MANY];

    for (size_t k = K; k <= K_MANY; k += K_MANY - K) {
        anx_search_params params = ANX_SEARCH_PARAMS_INIT;
        anx_hits hits = { dist, label };
        anx_filter filter;
        anx_error err;

        set_filter(kind, order, words, &filter);
        params.filter = &filter;
        params.within = within;
        ok(anx_index_search(index, &params, 1, d->queries + q * d->row_size, k, &hits, &err), &err);
        for (size_t i = 1; i < k && label[i] != ANX_LABEL_NONE; i++)
            assert_true(dist[i - 1] <= dist[i]);
        compare(order, &filter, within, k, label, score);
    }
}

static void
check_within(struct data *d, size_t n, double least, bool removes)
{
    static const size_t withins[] = { 1, 40, 150, 400, 1000, 2500, 3999, 5000 };
    anx_index *index = build(d, n, ANX_INDEX_HNSW), *exact = build(d, n, ANX_INDEX_FLAT);
    struct score score = { 0 };
    uint64_t *order = anx_alloc_array(NULL, N, sizeof(*order));
    float *dist = anx_alloc_array(NULL, N, sizeof(*dist));
    anx_error err;

    assert_true(order && dist);
    for (size_t i = 0; removes && i < n; i += 30) {
        ok(anx_index_remove(index, i, &err), &err);
        ok(anx_index_remove(exact, i, &err), &err);
    }
    for (size_t q = 0; q < 12; q++) {
        anx_hits hits = { dist, order };

        ok(anx_index_search(exact, NULL, 1, d->queries + q * d->row_size, N, &hits, &err), &err);
        for (size_t i = 0; i < ANX_COUNT_OF(withins); i++)
            for (int kind = 0; kind < N_KIND; kind++)
                search_within(index, d, q, withins[i], (enum kind) kind, order, &score);
    }
    assert_true(score.n_wanted > 1000);
    if ((double) score.n_found < least * (double) score.n_wanted || score.n_wrong > 0)
        fail_msg("found %zu of %zu, %zu are far beyond", score.n_found, score.n_wanted, score.n_wrong);
    anx_free(NULL, order);
    anx_free(NULL, dist);
    anx_index_destroy(index);
    anx_index_destroy(exact);
}

static void
hits_are_among_the_nearest_of_all(void **state)
{
    static const struct {
        anx_metric metric;
        anx_scalar scalar;
        size_t n;
        double least;
        bool removes;
    } cases[] = {
        { ANX_METRIC_L2, ANX_SCALAR_F32, N, 0.985, false },
        { ANX_METRIC_L2, ANX_SCALAR_U8, N, 0.99, true },
        { ANX_METRIC_COSINE, ANX_SCALAR_F32, N, 0.985, true },
        { ANX_METRIC_IP, ANX_SCALAR_F16, N, 0.97, false },
        { ANX_METRIC_L2, ANX_SCALAR_F32, 700, 1, false }, /* no graph: exact */
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        struct data d;

        data_init(&d, cases[i].metric, cases[i].scalar, DIM);
        check_within(&d, cases[i].n, cases[i].least, cases[i].removes);
        data_fini(&d);
    }
}

/* Labels count, not rows. */
static void
copies_count_as_rows(void **state)
{
    struct data d;
    anx_index *index;
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    uint64_t words[N / 64 + 1], label[K_MANY];
    float dist[K_MANY];
    anx_hits hits = { dist, label };
    anx_filter filter = { .bitmap = words, .bits = N };
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_U8, DIM);
    for (size_t i = 100; i < N; i++) /* half of the labels share a hundred rows */
        if (i % 2 == 1)
            memmove(d.rows + i * d.row_size, d.rows + i % 100 * d.row_size, d.row_size);
    index = build(&d, N, ANX_INDEX_HNSW);
    memset(words, 0xff, sizeof(words));
    params.filter = &filter;
    params.ef = 400;
    for (size_t within = 10; within <= 200; within += 90) {
        anx_hits all = { anx_alloc_array(NULL, N, sizeof(float)),
                         anx_alloc_array(NULL, N, sizeof(uint64_t)) };
        anx_index *exact = build(&d, N, ANX_INDEX_FLAT);
        size_t n = 0, least = 0, most = 0;

        assert_true(all.distances && all.labels);
        params.within = within;
        ok(anx_index_search(index, &params, 1, d.rows, K_MANY, &hits, &err), &err);
        ok(anx_index_search(exact, NULL, 1, d.rows, N, &all, &err), &err);
        while (n < K_MANY && label[n] != ANX_LABEL_NONE)
            n++;
        /* Rows as far as the last one inside are inside, too. */
        while (least < N && all.distances[least] < all.distances[within - 1])
            least++;
        while (most < N && all.distances[most] <= all.distances[within - 1])
            most++;
        assert_in_range(n, least, most);
        anx_free(NULL, all.distances);
        anx_free(NULL, all.labels);
        anx_index_destroy(exact);
    }
    anx_index_destroy(index);
    data_fini(&d);
}

static bool
stop_at_once(void *context)
{
    (void) context;
    return true;
}

static void
other_searches_refuse_it(void **state)
{
    uint64_t words[N / 64 + 1], label[K];
    float dist[K];
    anx_hits hits = { dist, label };
    anx_filter filter = { .bitmap = words, .bits = N };
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    anx_hit_list list = { 0 };
    anx_index *index, *flat;
    anx_iter *iter;
    struct data d;
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    flat = build(&d, N, ANX_INDEX_FLAT);
    memset(words, 0xff, sizeof(words));
    params.within = 1000;
    ok(anx_index_search(index, &params, 1, d.queries, K, &hits, &err), &err); /* no filter: no meaning */
    assert_true(label[K - 1] != ANX_LABEL_NONE);
    params.filter = &filter;
    assert_int_equal(anx_index_search(flat, &params, 1, d.queries, K, &hits, &err), ANX_E_UNSUPPORTED);
    assert_string_equal(err.message, "within is 1000, which is for hnsw indexes, not for flat");
    params.has_radius = true;
    params.radius = 100;
    assert_int_equal(anx_index_search_range(index, &params, d.queries, &list, &err), ANX_E_UNSUPPORTED);
    assert_string_equal(err.message, "within is 1000, must be 0 for a range search");
    assert_int_equal(anx_iter_open(index, &params, d.queries, &iter, &err), ANX_E_UNSUPPORTED);
    params.has_radius = false;
    params.should_stop = stop_at_once;
    assert_int_equal(anx_index_search(index, &params, 1, d.queries, K, &hits, &err), ANX_E_CANCELLED);
    anx_index_destroy(index);
    anx_index_destroy(flat);
    data_fini(&d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(hits_are_among_the_nearest_of_all),
        cmocka_unit_test(copies_count_as_rows),
        cmocka_unit_test(other_searches_refuse_it),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
