/* Inverted lists beyond the conformance suite: when training happens, what it gives, recall, readers during
 * training, the two engines of assignment, codes, k-means, and sections in files. */
#include "test_model.h"

#include <pthread.h>
#include <stdlib.h>

#include "ann/assign.h"
#include "ann/blas.h"
#include "ann/coder.h"
#include "ann/ivf/ivf_int.h"
#include "ann/kmeans.h"
#include "ann/shortlist.h"
#include "base/error.h"
#include "test_sections.h"

#define DIM 24
#define N 4000
#define N_QUERY 100
#define K 10

static float rows[(N + N_QUERY) * DIM], *const queries = rows + N * DIM;
static uint64_t row_labels[N];

/* Rows around 40 centers. */
static void
fill_rows(bool is_integer)
{
    anx_rng rng = anx_rng_seed(11);

    for (size_t i = 0; i < N + N_QUERY; i++) {
        uint32_t center = anx_rng_below(&rng, 40);

        for (size_t t = 0; t < DIM; t++) {
            anx_rng at = anx_rng_seed(center * 100 + t);
            float x = (float) anx_rng_unit(&at) * 150 + (float) anx_rng_unit(&rng) * 100;

            rows[i * DIM + t] = is_integer ? floorf(x) : x / 100 - 1;
        }
        if (i < N)
            row_labels[i] = i * 3 + 1;
    }
}

static anx_index *
ivf_create_with(anx_metric metric, size_t centroids, size_t threads)
{
    anx_index_params p = {
        .kind = ANX_INDEX_IVF, .metric = metric, .dim = DIM, .centroids = centroids, .threads = threads,
    };
    anx_index *index;

    assert_int_equal(anx_index_create(&p, &index, NULL), ANX_OK);
    return index;
}

static bool
is_trained(const anx_index *index)
{
    anx_index_stats stats;

    anx_index_get_stats(index, &stats);
    return stats.is_trained;
}

static void
assert_whole(const anx_index *index)
{
    anx_error err;

    if (anx_index_check(index, &err) != ANX_OK)
        fail_msg("%s", err.message);
}

/* Share of the true neighbors (by distance) that a search finds; the truth comes from a flat index. */
static double
recall_of(const anx_index *index, const anx_search_params *params)
{
    anx_index_params p = { .kind = ANX_INDEX_FLAT,
                           .metric = anx_index_get_params(index)->metric,
                           .dim = DIM };
    size_t right = 0;
    anx_index *flat;

    assert_int_equal(anx_index_create(&p, &flat, NULL), ANX_OK);
    assert_int_equal(anx_index_add_batch(flat, N, row_labels, rows, NULL), ANX_OK);
    for (size_t q = 0; q < N_QUERY; q++) {
        float truth[K], distances[K];
        uint64_t true_labels[K], labels[K];
        anx_hits t = { .distances = truth, .labels = true_labels },
                 h = { .distances = distances, .labels = labels };

        assert_int_equal(anx_index_search(flat, NULL, 1, queries + q * DIM, K, &t, NULL), ANX_OK);
        assert_int_equal(anx_index_search(index, params, 1, queries + q * DIM, K, &h, NULL), ANX_OK);
        for (size_t i = 0; i < K; i++)
            right += distances[i] <=
                     truth[K - 1] + 1e-5f * fabsf(truth[K - 1]); /* kernels may round differently */
    }
    anx_index_destroy(flat);
    return (double) right / (N_QUERY * K);
}

static void
training_starts_with_row_157_of_4_centroids(void **state)
{
    anx_index *index = ivf_create_with(ANX_METRIC_L2, 4, 1);

    (void) state;
    fill_rows(false);
    for (size_t i = 0; i < 156; i++)
        assert_int_equal(anx_index_add(index, row_labels[i], rows + i * DIM, NULL), ANX_OK);
    assert_false(is_trained(index));
    assert_int_equal(anx_index_train(index, 1, NULL), ANX_OK); /* too few: nothing happens */
    assert_false(is_trained(index));
    assert_int_equal(anx_index_add(index, row_labels[156], rows + 156 * DIM, NULL), ANX_OK);
    assert_true(is_trained(index));
    assert_whole(index);
    for (size_t i = 0; i < 157; i++)
        assert_int_equal(anx_index_remove(index, row_labels[i], NULL), ANX_OK);
    assert_true(is_trained(index)); /* for ever, as documented */
    assert_whole(index);
    anx_index_destroy(index);
}

static void
recall_grows_with_nprobe_and_is_full_at_the_end(void **state)
{
    (void) state;
    for (int metric = 0; metric < ANX_METRIC_HAMMING; metric++)
        for (int is_integer = 0; is_integer < 2; is_integer++) {
            anx_index *index = ivf_create_with((anx_metric) metric, 50, 2);
            anx_search_params params = ANX_SEARCH_PARAMS_INIT;
            double one, eight, all;

            fill_rows(is_integer);
            assert_int_equal(anx_index_add_batch(index, N, row_labels, rows, NULL), ANX_OK);
            assert_true(is_trained(index));
            assert_whole(index);
            params.nprobe = 1;
            one = recall_of(index, &params);
            params.nprobe = 8;
            eight = recall_of(index, &params);
            params.nprobe = 1000; /* cut down to the number of lists */
            all = recall_of(index, &params);
            print_message("# recall %s %s: nprobe 1 %.3f, 8 %.3f, all %.3f\n",
                          anx_metric_name((anx_metric) metric), is_integer ? "integers" : "floats", one,
                          eight, all);
            assert_true(one < eight);
            /* Lengths that differ spoil inner products: the longest rows win, whatever list they are in. */
            assert_true(is_integer && metric == ANX_METRIC_IP ? eight > 0.5 : one > 0.3 && eight > 0.9);
            assert_true(is_integer && metric == ANX_METRIC_L2 ? all == 1 : all >= 0.999);
            anx_index_destroy(index);
        }
}

static void
integers_are_searched_without_rerank_until_one_is_not(void **state)
{
    anx_index *index = ivf_create_with(ANX_METRIC_L2, 20, 1);
    const struct ivf *ivf = (const struct ivf *) index;
    anx_search_params params = { .nprobe = 20 };
    float odd[DIM], distance;
    uint64_t label;
    anx_hits hits = { .distances = &distance, .labels = &label };

    (void) state;
    fill_rows(true);
    assert_int_equal(anx_index_add_batch(index, N, row_labels, rows, NULL), ANX_OK);
    assert_true(ivf->lists->is_lossless && ivf->lists->coder.is_unit);
    for (size_t t = 0; t < DIM; t++)
        odd[t] = t % 2 ? 300.25f : -17.5f; /* out of range and broken */
    assert_int_equal(anx_index_add(index, 2, odd, NULL), ANX_OK);
    assert_false(ivf->lists->is_lossless);
    assert_whole(index);
    assert_int_equal(anx_index_search(index, &params, 1, odd, 1, &hits, NULL), ANX_OK);
    assert_int_equal(label, 2);
    assert_true(distance == 0);
    assert_true(recall_of(index, &params) >= 0.999); /* the odd row is nobody's neighbor */
    anx_index_destroy(index);
}

struct training_crowd {
    anx_index *index;
    atomic_bool is_over; /* relaxed: only ends the loop */
    size_t n_search, n_failed;
};

static void *
search_during_training(void *argument)
{
    struct training_crowd *crowd = argument;
    anx_search_params params = { .nprobe = 40 };

    while (!atomic_load_explicit(&crowd->is_over, memory_order_relaxed) || crowd->n_search < 10) {
        float distance;
        uint64_t label;
        anx_hits hits = { .distances = &distance, .labels = &label };
        size_t at = crowd->n_search++ % N;

        if (anx_index_search(crowd->index, &params, 1, rows + at * DIM, 1, &hits, NULL) != ANX_OK ||
            distance > 1e-5f)
            crowd->n_failed++;
    }
    return NULL;
}

static void
readers_go_on_while_the_index_is_trained(void **state)
{
    struct training_crowd crowd = { .index = ivf_create_with(ANX_METRIC_L2, 40, 2) };
    pthread_t thread;

    (void) state;
    fill_rows(false);
    assert_int_equal(anx_index_add_batch(crowd.index, N, row_labels, rows, NULL), ANX_OK);
    assert_int_equal(pthread_create(&thread, NULL, search_during_training, &crowd), 0);
    for (int i = 1; i <= 4; i++)
        assert_int_equal(anx_index_train(crowd.index, i / 4.0, NULL), ANX_OK);
    atomic_store_explicit(&crowd.is_over, true, memory_order_relaxed);
    pthread_join(thread, NULL);
    assert_int_equal(crowd.n_failed, 0);
    assert_int_equal(((struct ivf *) crowd.index)->lists->generation, 5);
    assert_whole(crowd.index);
    anx_index_destroy(crowd.index);
}

static void
an_iterator_survives_training(void **state)
{
    anx_index *index = ivf_create_with(ANX_METRIC_L2, 40, 1);
    static uint8_t seen[N * 3 + 2];
    float distances[50];
    uint64_t labels[50];
    anx_hits hits = { .distances = distances, .labels = labels };
    anx_iter *iter;
    size_t got, n = 0;

    (void) state;
    fill_rows(false);
    memset(seen, 0, sizeof(seen));
    assert_int_equal(anx_index_add_batch(index, N, row_labels, rows, NULL), ANX_OK);
    assert_int_equal(anx_iter_open(index, NULL, queries, &iter, NULL), ANX_OK);
    do {
        assert_int_equal(anx_iter_next(iter, 50, &hits, &got, NULL), ANX_OK);
        for (size_t i = 0; i < got; i++) {
            assert_false(seen[labels[i]]);
            seen[labels[i]] = 1;
        }
        n += got;
        if (n == 500)
            assert_int_equal(anx_index_train(index, 0.5, NULL), ANX_OK);
    } while (got == 50);
    assert_int_equal(n, N);
    anx_iter_close(iter);
    anx_index_destroy(index);
}

static void
the_result_does_not_depend_on_threads(void **state)
{
    anx_index *one = ivf_create_with(ANX_METRIC_COSINE, 30, 1),
              *two = ivf_create_with(ANX_METRIC_COSINE, 30, 2);

    (void) state;
    fill_rows(false);
    assert_int_equal(anx_index_add_batch(one, N, row_labels, rows, NULL), ANX_OK);
    assert_int_equal(anx_index_add_batch(two, N, row_labels, rows, NULL), ANX_OK);
    assert_memory_equal(((struct ivf *) one)->lists->centroids, ((struct ivf *) two)->lists->centroids,
                        30 * DIM * sizeof(float));
    sections_compare(one, two, queries, 50, DIM);
    anx_index_destroy(one);
    anx_index_destroy(two);
}

static void
one_query_may_run_on_several_threads(void **state)
{
    anx_index *one, *many;

    (void) state;
    fill_rows(false);
    one = ivf_create_with(ANX_METRIC_L2, 10, 1);
    setenv("RX_IVF_MT", "1", 1);
    many = ivf_create_with(ANX_METRIC_L2, 10, 3);
    unsetenv("RX_IVF_MT");
    assert_false(((struct ivf *) one)->is_multi_threaded);
    assert_true(((struct ivf *) many)->is_multi_threaded);
    /* Enough rows that a query is worth several threads. */
    for (uint64_t copy = 0; copy < 6; copy++) {
        for (size_t i = 0; i < N; i++)
            row_labels[i] = copy * N + i;
        assert_int_equal(anx_index_add_batch(one, N, row_labels, rows, NULL), ANX_OK);
        assert_int_equal(anx_index_add_batch(many, N, row_labels, rows, NULL), ANX_OK);
    }
    for (size_t q = 0; q < 20; q++) {
        anx_search_params params = { .nprobe = 10, .threads = 3 };
        float a[K], b[K];
        uint64_t la[K], lb[K];
        anx_hits ha = { .distances = a, .labels = la }, hb = { .distances = b, .labels = lb };

        assert_int_equal(anx_index_search(one, &params, 1, queries + q * DIM, K, &ha, NULL), ANX_OK);
        assert_int_equal(anx_index_search(many, &params, 1, queries + q * DIM, K, &hb, NULL), ANX_OK);
        assert_memory_equal(a, b, sizeof(a));
    }
    anx_index_destroy(one);
    anx_index_destroy(many);
}

/* How many of the first n rows are assigned to their nearest centroid, ties aside. */
static size_t
count_nearest(size_t n, const float *centroids, size_t n_centroid, bool is_l2, const uint32_t *assigned)
{
    size_t right = 0;

    for (size_t i = 0; i < n; i++) {
        double best = INFINITY, got = INFINITY;

        for (size_t c = 0; c < n_centroid; c++) {
            double key = 0;

            for (size_t t = 0; t < DIM; t++) {
                double x = (double) rows[i * DIM + t], y = (double) centroids[c * DIM + t];

                key += is_l2 ? (x - y) * (x - y) : -x * y;
            }
            best = key < best ? key : best;
            got = c == assigned[i] ? key : got;
        }
        right += got <= best + 1e-4;
    }
    return right;
}

/* Both engines of assignment against the plain definition. */
static void
assignment_finds_the_nearest_centroid(void **state)
{
    enum { N_POINT = 500, N_CENTROID = 1100 };
    anx_index_params p = { .metric = ANX_METRIC_L2, .dim = DIM };
    struct row_space space = row_space_make(&p, anx_kernels_best());
    const struct points points = { .space = &space, .rows = (const uint8_t *) rows, .n = N_POINT };
    const float *centroids = rows + 600 * DIM;
    static uint32_t out[N_POINT];

    (void) state;
    fill_rows(false);
    for (int is_l2 = 0; is_l2 < 2; is_l2++)
        for (int engine = 0; engine < 3; engine++) {
            struct assigner assigner;
            struct coder coder;
            anx_pool *pool = anx_pool_create(2);
            size_t right;

            assert_int_equal(coder_fit(&coder, &points, NULL, NULL), ANX_OK);
            if (engine == 0 && !assigner_prefers_codes(&coder)) {
                coder_fini(&coder);
                anx_pool_destroy(pool);
                continue;
            }
            if (engine > 0)
                setenv("RX_CUSTOM_BLAS_LIB_NAME", "any",
                       1); /* read anew here; the library itself is loaded only once */
            assert_int_equal(assigner_init(&assigner, &coder, centroids, N_CENTROID, is_l2, NULL, NULL),
                             ANX_OK);
            unsetenv("RX_CUSTOM_BLAS_LIB_NAME");
            assert_int_equal(assigner.uses_codes, engine == 0);
            assert_int_equal(
                assigner_run(&assigner, &points, NULL, engine == 1 ? NULL : pool, true, out, NULL), ANX_OK);
            right = count_nearest(N_POINT, centroids, N_CENTROID, is_l2, out);
            if (engine == 0) /* codes may err where many centroids are about equally near */
                assert_true(right >= N_POINT * 98 / 100);
            else
                assert_int_equal(right, N_POINT);
            assigner_fini(&assigner);
            coder_fini(&coder);
            anx_pool_destroy(pool);
        }
    print_message("# blas: %s\n", blas_name() ? blas_name() : "none, own kernels");
}

static void
kmeans_recovers_separated_clusters(void **state)
{
    enum { N_CLUSTER = 8, N_POINT = 800, D = 6 };
    anx_index_params p = { .metric = ANX_METRIC_L2, .dim = D };
    struct row_space space = row_space_make(&p, anx_kernels_best());
    static float points_rows[N_POINT * D], centroids[N_CLUSTER * D];
    const struct points points = { .space = &space, .rows = (const uint8_t *) points_rows, .n = N_POINT };
    anx_rng rng = anx_rng_seed(21);
    anx_pool *pool = anx_pool_create(1);
    struct kmeans_params params = { .n_centroid = N_CLUSTER, .seed = 1234, .pool = pool };
    struct coder coder;
    double error = 0;

    (void) state;
    for (size_t i = 0; i < N_POINT; i++)
        for (size_t t = 0; t < D; t++)
            points_rows[i * D + t] =
                (float) ((i % N_CLUSTER >> t % 3) & 1) * 100 + (float) anx_rng_unit(&rng);
    assert_int_equal(coder_fit(&coder, &points, NULL, NULL), ANX_OK);
    assert_int_equal(kmeans_run(&params, &coder, &points, centroids, NULL), ANX_OK);
    for (size_t i = 0; i < N_POINT; i++) {
        double best = INFINITY;

        for (size_t c = 0; c < N_CLUSTER; c++) {
            double d = 0;

            for (size_t t = 0; t < D; t++) {
                double x = (double) points_rows[i * D + t] - (double) centroids[c * D + t];

                d += x * x;
            }
            best = d < best ? d : best;
        }
        error += best;
    }
    /* One cluster in two too few would cost some 10,000 per point of it; Lloyd may miss at most that once or
     * twice. */
    assert_true(error / N_POINT < 5000);
    coder_fini(&coder);
    anx_pool_destroy(pool);
}

static void
samples_are_ascending_and_whole(void **state)
{
    uint32_t slots[1000];

    (void) state;
    for (size_t n = 0; n <= 1000; n += 100) {
        kmeans_sample(5, 1000, n, slots);
        for (size_t i = 0; i < n; i++)
            assert_true(slots[i] < 1000 && (i == 0 || slots[i] > slots[i - 1]));
    }
}

static void
a_shortlist_keeps_the_least(void **state)
{
    struct shortlist list = { 0 };
    anx_rng rng = anx_rng_seed(31);

    (void) state;
    for (size_t wanted = 1; wanted < 300; wanted += 23) {
        size_t counts[500] = { 0 }, n_below = 0;

        assert_true(shortlist_reset(&list, wanted, NULL));
        for (uint32_t i = 0; i < 5000; i++) {
            int32_t key = (int32_t) anx_rng_below(&rng, 500);

            counts[key]++;
            if (i % SHORTLIST_BLOCK == 0)
                shortlist_room(&list);
            if (key < list.bound)
                shortlist_push(&list, key, i);
        }
        shortlist_trim(&list);
        assert_int_equal(list.n, wanted);
        for (int32_t key = 0; key < 500; key++) {
            size_t n = 0;

            for (size_t i = 0; i < list.n; i++)
                n += list.items[i].key == key;
            assert_int_equal(n, n_below + counts[key] <= wanted ? counts[key]
                                : n_below < wanted              ? wanted - n_below
                                                                : 0);
            n_below += counts[key];
        }
    }
    shortlist_fini(&list, NULL);
}

static void
sections_bring_the_index_back(void **state)
{
    static const size_t centroids[] = { 12, 2000 }; /* trained, and never trained */

    (void) state;
    fill_rows(false);
    for (size_t c = 0; c < ANX_COUNT_OF(centroids); c++)
        for (int mapped = 0; mapped < 2; mapped++) {
            anx_index *index = ivf_create_with(ANX_METRIC_COSINE, centroids[c], 1), *back;
            struct sections sections;
            anx_error err;

            assert_int_equal(anx_index_add_batch(index, 600, row_labels, rows, NULL), ANX_OK);
            sections_save(&sections, index, &anx_ivf_file_ops);
            sections.set.is_mapped = mapped;
            if (anx_ivf_file_ops.restore(anx_index_get_params(index), &sections.set, &back, &err) != ANX_OK)
                fail_msg("%s", err.message);
            assert_whole(back);
            assert_int_equal(is_trained(back), is_trained(index));
            sections_compare(index, back, queries, 30, DIM);
            if (mapped) {
                assert_int_equal(anx_index_update(back, 1, rows, &err), ANX_E_STATE);
                assert_int_equal(anx_index_train(back, 1, &err), ANX_E_STATE);
            } else {
                assert_int_equal(anx_index_add_batch(back, 100, row_labels + 600, rows + 600 * DIM, &err),
                                 ANX_OK);
                assert_int_equal(anx_index_remove(back, row_labels[3], &err), ANX_OK);
                assert_whole(back);
            }
            anx_index_destroy(back);
            sections_damage(&sections, index, &anx_ivf_file_ops, queries);
            sections_free(&sections);
            anx_index_destroy(index);
        }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_shortlist_keeps_the_least),
        cmocka_unit_test(samples_are_ascending_and_whole),
        cmocka_unit_test(kmeans_recovers_separated_clusters),
        cmocka_unit_test(assignment_finds_the_nearest_centroid),
        cmocka_unit_test(training_starts_with_row_157_of_4_centroids),
        cmocka_unit_test(recall_grows_with_nprobe_and_is_full_at_the_end),
        cmocka_unit_test(integers_are_searched_without_rerank_until_one_is_not),
        cmocka_unit_test(readers_go_on_while_the_index_is_trained),
        cmocka_unit_test(an_iterator_survives_training),
        cmocka_unit_test(the_result_does_not_depend_on_threads),
        cmocka_unit_test(one_query_may_run_on_several_threads),
        cmocka_unit_test(sections_bring_the_index_back),
    };

    return cmocka_run_group_tests_name("ivf", tests, NULL, NULL);
}
