/* The exact index beyond the conformance suite: sizes that cross its blocks, threads over rows, hit lists,
 * the top-k heap, and its sections in files. */
#include "test_model.h"

#include "ann/exact.h"
#include "ann/file_int.h"
#include "ann/hit_heap.h"
#include "base/error.h"
#include "test_sections.h"

#define DIM 16

static anx_index *
flat_of(size_t n, anx_metric metric, size_t threads, float *rows)
{
    anx_index_params p = { .kind = ANX_INDEX_FLAT, .metric = metric, .dim = DIM, .threads = threads };
    anx_rng rng = anx_rng_seed(n + 1);
    anx_index *index;

    assert_int_equal(anx_index_create(&p, &index, NULL), ANX_OK);
    for (size_t i = 0; i < n * DIM; i++)
        rows[i] = (float) anx_rng_unit(&rng) - 0.5f;
    for (uint64_t l = 0; l < n; l++)
        assert_int_equal(anx_index_add(index, l, rows + l * DIM, NULL), ANX_OK);
    return index;
}

static void
top_k_is_the_head_of_a_sort(void **state)
{
    anx_rng rng = anx_rng_seed(4);

    (void) state;
    for (size_t k = 1; k < 40; k += 3) {
        float distances[40], previous = -1;
        uint64_t labels[40], previous_label = 0;
        struct top_k top;
        size_t counts[8] = { 0 };

        top_k_init(&top, k, distances, labels);
        assert_true(isinf(top_k_bound(&top)));
        for (uint64_t l = 0; l < 200; l++) { /* few values: ties everywhere */
            uint32_t d = anx_rng_below(&rng, 8);

            counts[d]++;
            top_k_offer(&top, (float) d, 1000 - l);
        }
        top_k_finish(&top);
        for (size_t i = 0; i < k; i++) {
            assert_true(hit_before(previous, previous_label, distances[i], labels[i]));
            previous = distances[i];
            previous_label = labels[i];
        }
        for (size_t d = 0, seen = 0; d < 8 && seen < k; seen += counts[d++])
            assert_true(distances[seen] == (float) d);
    }
}

static void
not_a_number_comes_last(void **state)
{
    float distances[3];
    uint64_t labels[3];
    struct top_k top;

    (void) state;
    top_k_init(&top, 3, distances, labels);
    top_k_offer(&top, NAN, 1);
    top_k_offer(&top, 2, 2);
    top_k_offer(&top, 1, 3);
    top_k_offer(&top, 3, 4);
    top_k_finish(&top);
    assert_int_equal(labels[0], 3);
    assert_int_equal(labels[1], 2);
    assert_int_equal(labels[2], 4);
}

static void
a_hit_heap_gives_hits_in_order(void **state)
{
    anx_hit_list list = { 0 };
    anx_rng rng = anx_rng_seed(8);
    float distance, previous = -1;
    uint64_t label;
    size_t n = 0;

    (void) state;
    for (size_t round = 0; round < 30; round++) {
        size_t from = list.n;

        for (size_t i = 0; i < 1 + round * 5 % 40; i++)
            assert_int_equal(hit_list_push(&list, (float) anx_rng_unit(&rng), n++, NULL), ANX_OK);
        hit_heap_extend(&list, from);
    }
    for (; hit_heap_pop(&list, &distance, &label); previous = distance, n--)
        assert_true(distance >= previous);
    assert_int_equal(n, 0);
    anx_hit_list_free(&list);
    anx_hit_list_free(NULL);
}

static void
every_size_around_a_block_is_exact(void **state)
{
    static const size_t sizes[] = { 1, 2, 15, 16, 17, 255, 256, 257, 511, 513, 1000 };
    static float rows[1000 * DIM];
    static double truth[1000];

    (void) state;
    for (size_t s = 0; s < ANX_COUNT_OF(sizes); s++) {
        size_t n = sizes[s];
        anx_index *index = flat_of(n, ANX_METRIC_L2, 1, rows);
        float distances[1001];
        uint64_t labels[1001];
        anx_hits hits = { .distances = distances, .labels = labels };

        assert_int_equal(anx_index_search(index, NULL, 1, rows, n + 1, &hits, NULL), ANX_OK);
        for (size_t i = 0; i < n; i++) {
            size_t at = i;
            double d = 0;

            for (size_t t = 0; t < DIM; t++)
                d += ((double) rows[i * DIM + t] - (double) rows[t]) *
                     ((double) rows[i * DIM + t] - (double) rows[t]);
            for (; at > 0 && truth[at - 1] > d; at--)
                truth[at] = truth[at - 1];
            truth[at] = d;
        }
        for (size_t i = 0; i < n; i++)
            assert_true(fabs((double) distances[i] - truth[i]) < 1e-5);
        assert_int_equal(labels[0], 0);
        assert_int_equal(labels[n], ANX_LABEL_NONE);
        anx_index_destroy(index);
    }
}

static void
threads_over_rows_answer_as_one_does(void **state)
{
    enum { N = 20000, K = 25 };
    float *rows = anx_alloc_array(NULL, N * DIM, sizeof(*rows));
    anx_index *index;

    (void) state;
    assert_non_null(rows);
    index = flat_of(N, ANX_METRIC_COSINE, 3, rows);
    for (size_t n_query = 1; n_query <= 40; n_query += 13) {
        float one[40 * K], many[40 * K];
        uint64_t one_labels[40 * K], many_labels[40 * K];
        anx_hits hits = { .distances = one, .labels = one_labels };
        anx_search_params params = ANX_SEARCH_PARAMS_INIT;

        assert_int_equal(anx_index_search(index, &params, n_query, rows, K, &hits, NULL), ANX_OK);
        hits = (anx_hits) { .distances = many, .labels = many_labels };
        for (params.threads = 2; params.threads < 6; params.threads++) {
            assert_int_equal(anx_index_search(index, &params, n_query, rows, K, &hits, NULL), ANX_OK);
            assert_memory_equal(one_labels, many_labels, n_query * K * sizeof(*one_labels));
            assert_memory_equal(one, many, n_query * K * sizeof(*one));
        }
    }
    anx_index_destroy(index);
    anx_free(NULL, rows);
}

static bool
stop_later(void *context)
{
    size_t *left = context;

    return *left == 0 || --*left == 0;
}

static void
a_long_scan_is_cancelled_in_the_middle(void **state)
{
    static float rows[3000 * DIM];
    anx_index *index = flat_of(3000, ANX_METRIC_L2, 1, rows);
    size_t left = 3;
    anx_search_params params = {
        .should_stop = stop_later, .stop_context = &left, .has_radius = true, .radius = 100
    };
    anx_hit_list list = { 0 };
    anx_error err;

    (void) state;
    assert_int_equal(anx_index_search_range(index, &params, rows, &list, &err), ANX_E_CANCELLED);
    left = 3000;
    assert_int_equal(anx_index_search_range(index, &params, rows, &list, &err), ANX_OK);
    assert_int_equal(list.n, 3000);
    anx_hit_list_free(&list);
    anx_index_destroy(index);
}

static void
an_iterator_skips_what_was_removed(void **state)
{
    static float rows[100 * DIM];
    anx_index *index = flat_of(100, ANX_METRIC_L2, 1, rows);
    float distances[100];
    uint64_t labels[100];
    anx_hits hits = { .distances = distances, .labels = labels };
    anx_iter *iter;
    size_t got;

    (void) state;
    assert_int_equal(anx_iter_open(index, NULL, rows, &iter, NULL), ANX_OK);
    for (uint64_t l = 0; l < 100; l += 2)
        assert_int_equal(anx_index_remove(index, l, NULL), ANX_OK);
    assert_int_equal(anx_iter_next(iter, 100, &hits, &got, NULL), ANX_OK);
    assert_int_equal(got, 50);
    for (size_t i = 0; i < got; i++)
        assert_true(labels[i] % 2 == 1 && (i == 0 || distances[i] >= distances[i - 1]));
    anx_iter_close(iter);
    anx_iter_close(NULL);
    anx_index_destroy(index);
}

static void
sections_bring_the_index_back(void **state)
{
    static float rows[300 * DIM];

    (void) state;
    for (int metric = 0; metric < ANX_METRIC_HAMMING; metric++)
        for (int mapped = 0; mapped < 2; mapped++) {
            anx_index *index = flat_of(300, (anx_metric) metric, 1, rows);
            struct sections sections;
            anx_index *back;
            anx_error err;

            sections_save(&sections, index, &anx_flat_file_ops);
            sections.set.is_mapped = mapped;
            assert_int_equal(
                anx_flat_file_ops.restore(anx_index_get_params(index), &sections.set, &back, &err), ANX_OK);
            assert_int_equal(anx_index_check(back, &err), ANX_OK);
            sections_compare(index, back, rows, 20, DIM);
            if (mapped) {
                assert_int_equal(anx_index_add(back, 12345, rows, &err), ANX_E_STATE);
                assert_int_equal(anx_index_remove(back, 1, &err), ANX_E_STATE);
            } else {
                assert_int_equal(anx_index_remove(back, 1, &err), ANX_OK);
            }
            anx_index_destroy(back);
            sections_damage(&sections, index, &anx_flat_file_ops, rows);
            sections_free(&sections);
            anx_index_destroy(index);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(top_k_is_the_head_of_a_sort),
        cmocka_unit_test(not_a_number_comes_last),
        cmocka_unit_test(a_hit_heap_gives_hits_in_order),
        cmocka_unit_test(every_size_around_a_block_is_exact),
        cmocka_unit_test(threads_over_rows_answer_as_one_does),
        cmocka_unit_test(a_long_scan_is_cancelled_in_the_middle),
        cmocka_unit_test(an_iterator_skips_what_was_removed),
        cmocka_unit_test(sections_bring_the_index_back),
    };

    return cmocka_run_group_tests_name("flat", tests, NULL, NULL);
}
