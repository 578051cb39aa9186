/* The graph index at sizes where it is a graph: recall against exact search after every kind of change, with
 * the structure checked each time. Rows are points around cluster centres; seeds are fixed. */
#include "test_hnsw_data.h"

#include "base/hash.h"
#include "annex/index_file.h"

static const struct {
    anx_metric metric;
    anx_scalar scalar;
    size_t dim;
} spaces[] = {
    { ANX_METRIC_L2, ANX_SCALAR_F32, DIM },     { ANX_METRIC_COSINE, ANX_SCALAR_F32, 48 },
    { ANX_METRIC_IP, ANX_SCALAR_F32, DIM },     { ANX_METRIC_L2, ANX_SCALAR_U8, DIM },
    { ANX_METRIC_L2, ANX_SCALAR_I8, 33 },       { ANX_METRIC_COSINE, ANX_SCALAR_I8, DIM },
    { ANX_METRIC_L2, ANX_SCALAR_F16, 70 },      { ANX_METRIC_COSINE, ANX_SCALAR_F16, DIM },
    { ANX_METRIC_HAMMING, ANX_SCALAR_B1, 256 },
};

static void
bulk_build_has_recall(void **state)
{
    (void) state;
    for (size_t s = 0; s < sizeof(spaces) / sizeof(spaces[0]); s++) {
        struct data d;
        anx_index *index;

        data_init(&d, spaces[s].metric, spaces[s].scalar, spaces[s].dim);
        index = build(&d, N, ANX_INDEX_HNSW);
        check(index);
        assert_int_equal(anx_index_count(index), N);
        recall_at_least(index, &d, 0.97);
        anx_index_destroy(index);
        data_fini(&d);
    }
}

static void
single_inserts_have_recall(void **state)
{
    (void) state;
    for (size_t s = 0; s < sizeof(spaces) / sizeof(spaces[0]); s += 2) {
        struct data d;
        anx_index *index;

        data_init(&d, spaces[s].metric, spaces[s].scalar, spaces[s].dim);
        index = build(&d, 0, ANX_INDEX_HNSW);
        add_range(index, &d, 0, N);
        check(index);
        recall_at_least(index, &d, 0.97);
        anx_index_destroy(index);
        data_fini(&d);
    }
}

static void
inserts_into_a_bulk_graph_keep_recall(void **state)
{
    struct data d;
    anx_index *index;

    (void) state;
    data_init(&d, ANX_METRIC_COSINE, ANX_SCALAR_F32, 48);
    index = build(&d, N * 8 / 10, ANX_INDEX_HNSW);
    add_range(index, &d, N * 8 / 10, N);
    check(index);
    recall_at_least(index, &d, 0.97);
    anx_index_destroy(index);
    data_fini(&d);
}

/* Rows of integers are kept as codes only; the first other row must not spoil the distances of any. */
static void
lossless_index_takes_other_rows(void **state)
{
    struct data d;
    anx_index *index;
    anx_index_stats stats;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    for (size_t i = 0; i < N * DIM; i++)
        ((float *) d.rows)[i] = floorf(((float *) d.rows)[i]);
    index = build(&d, N - 1, ANX_INDEX_HNSW);
    anx_index_get_stats(index, &stats);
    assert_int_equal(stats.row_bytes, 0);
    recall_at_least(index, &d, 0.96);
    ((float *) d.rows)[(N - 1) * DIM] += 0.25f;
    add_range(index, &d, N - 1, N);
    check(index);
    recall_at_least(index, &d, 0.97);
    for (size_t i = 0; i < N; i += 997) {
        float row[DIM];
        anx_error err;

        ok(anx_index_get(index, i, row, &err), &err);
        assert_memory_equal(row, d.rows + i * d.row_size, sizeof(row));
    }
    anx_index_destroy(index);
    data_fini(&d);
}

static void
remove_labels(anx_index *index, const uint64_t *labels, size_t n)
{
    anx_error err;

    for (size_t i = 0; i < n; i++)
        ok(anx_index_remove(index, labels[i], &err), &err);
}

static void
shuffle(uint64_t *list, size_t n, anx_rng *rng)
{
    for (size_t i = n; i > 1; i--) {
        size_t j = anx_rng_below(rng, (uint32_t) i);
        uint64_t spare = list[i - 1];

        list[i - 1] = list[j];
        list[j] = spare;
    }
}

static void
churn_does_not_decay(void **state)
{
    struct data d;
    anx_index *index, *exact;
    anx_rng rng = anx_rng_seed(3);
    uint64_t order[N];
    double fresh;
    anx_index_stats stats;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    exact = build(&d, N, ANX_INDEX_FLAT);
    fresh = recall(index, exact, &d, 24, NULL);
    memcpy(order, d.labels, sizeof(order));
    for (int round = 0; round < 10; round++) {
        shuffle(order, N, &rng);
        remove_labels(index, order, N / 5);
        assert_int_equal(anx_index_count(index), N - N / 5);
        check(index);
        for (size_t i = 0; i < N / 5; i++) {
            anx_error err;

            assert_false(anx_index_contains(index, order[i]));
            ok(anx_index_add(index, order[i], d.rows + order[i] * d.row_size, &err), &err);
        }
        check(index);
    }
    if (recall(index, exact, &d, 24, NULL) < fresh - 0.01)
        fail_msg("recall fell from %.4f to %.4f", fresh, recall(index, exact, &d, 24, NULL));
    anx_index_get_stats(index, &stats);
    assert_in_range(stats.slots, N, N + N / 10);
    anx_index_destroy(index);
    anx_index_destroy(exact);
    data_fini(&d);
}

static void
small_index_reuses_every_slot(void **state)
{
    struct data d;
    anx_index *index;
    anx_index_stats stats;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, 1000, ANX_INDEX_HNSW);
    remove_labels(index, d.labels + 200, 500);
    add_range(index, &d, 1000, 1500);
    anx_index_get_stats(index, &stats);
    assert_int_equal(stats.slots, 1000);
    assert_int_equal(stats.count, 1000);
    check(index);
    anx_index_destroy(index);
    data_fini(&d);
}

static void
everything_can_be_removed(void **state)
{
    struct data d;
    anx_index *index;
    float dist[K];
    uint64_t label[K];
    anx_hits hits = { dist, label };
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_COSINE, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    remove_labels(index, d.labels, N);
    check(index);
    assert_int_equal(anx_index_count(index), 0);
    ok(anx_index_search(index, NULL, 1, d.queries, K, &hits, &err), &err);
    assert_true(label[0] == ANX_LABEL_NONE && isinf(dist[0]));
    add_range(index, &d, 0, N);
    check(index);
    recall_at_least(index, &d, 0.97);
    anx_index_destroy(index);
    data_fini(&d);
}

static void
updates_move_rows(void **state)
{
    struct data d;
    anx_index *index;
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    for (size_t i = 0; i < 300; i++) {
        size_t other = N - 1 - i;

        ok(anx_index_update(index, i, d.rows + other * d.row_size, &err), &err);
        memcpy(d.rows + i * d.row_size, d.rows + other * d.row_size, d.row_size);
    }
    check(index);
    assert_int_equal(anx_index_count(index), N);
    recall_at_least(index, &d, 0.97);
    anx_index_destroy(index);
    data_fini(&d);
}

/* --- copies --- */

static void
copies_are_collapsed_and_all_returned(void **state)
{
    enum { COPIES = 200 };
    struct data d;
    anx_index *index;
    anx_index_stats stats;
    float dist[COPIES];
    uint64_t label[COPIES];
    anx_hits hits = { dist, label };
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_COSINE, ANX_SCALAR_F32, 48);
    for (size_t i = 0; i < 5 * COPIES; i++) /* rows 0..4 are each there 200 times, spread over the input */
        memcpy(d.rows + (i * 3 + 5) * d.row_size, d.rows + (i % 5) * d.row_size, d.row_size);
    index = build(&d, N, ANX_INDEX_HNSW);
    anx_index_get_stats(index, &stats);
    assert_true(stats.n_copies >= 5 * (COPIES - 1) - 10);
    check(index);
    ok(anx_index_search(index, NULL, 1, d.rows + 2 * d.row_size, COPIES, &hits, &err), &err);
    for (size_t i = 0; i < COPIES; i++)
        if (memcmp(d.rows + label[i] * d.row_size, d.rows + 2 * d.row_size, d.row_size) != 0)
            fail_msg("hit %zu, label %llu, is not a copy", i, (unsigned long long) label[i]);
    for (size_t i = 1; i < COPIES; i++)
        assert_true(label[i - 1] < label[i]); /* ties by label */
    recall_at_least(index, &d, 0.97);
    /* The row outlives the label that brought it. */
    ok(anx_index_remove(index, label[0], &err), &err);
    check(index);
    assert_true(anx_index_contains(index, label[1]));
    ok(anx_index_add(index, label[0], d.rows + 2 * d.row_size, &err), &err);
    remove_labels(index, label, COPIES);
    check(index);
    assert_int_equal(anx_index_count(index), N - COPIES);
    anx_index_destroy(index);
    data_fini(&d);
}

static void
one_row_many_times(void **state)
{
    struct data d;
    anx_index *index;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    for (size_t i = 1; i < N; i++)
        memcpy(d.rows + i * d.row_size, d.rows, d.row_size);
    index = build(&d, N / 2, ANX_INDEX_HNSW);
    add_range(index, &d, N / 2, N);
    check(index);
    recall_at_least(index, &d, 1.0);
    anx_index_destroy(index);
    data_fini(&d);
}

/* --- queries --- */

static void
filters_stay_full_at_every_selectivity(void **state)
{
    static const uint32_t shares[] = { 1, 2, 10, 100, 1000 };
    struct data d;
    anx_index *index, *exact;
    uint64_t bitmap[N / 64 + 1];
    anx_filter callback = { .accept = every_seventh };

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    exact = build(&d, N, ANX_INDEX_FLAT);
    for (size_t s = 0; s < sizeof(shares) / sizeof(shares[0]); s++) {
        anx_filter filter = { .bitmap = bitmap, .bits = N };
        anx_rng rng = anx_rng_seed(s);

        memset(bitmap, 0, sizeof(bitmap));
        for (size_t i = 0; i < N; i++)
            if (anx_rng_below(&rng, shares[s]) == 0)
                bitmap[i / 64] |= (uint64_t) 1 << (i % 64);
        if (recall(index, exact, &d, 64, &filter) < 0.97)
            fail_msg("recall with 1 of %u rows passing is %.4f", shares[s],
                     recall(index, exact, &d, 64, &filter));
    }
    assert_true(recall(index, exact, &d, 64, &callback) >= 0.97);
    anx_index_destroy(index);
    anx_index_destroy(exact);
    data_fini(&d);
}

/* A callback that lets few rows through makes a search scan; rows whose copies do not pass must not crowd out
 * others. */
static void
filtered_scan_is_full_when_all_rows_have_copies(void **state)
{
    enum { WANT = 20 };
    struct data d;
    anx_index *index;
    anx_filter filter = { .accept = every_seventh };
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    float dist[WANT];
    uint64_t label[WANT];
    anx_hits hits = { dist, label };
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_COSINE, ANX_SCALAR_F32, DIM);
    for (size_t i = 0; i < N / 2; i++)
        memcpy(d.rows + (N / 2 + i) * d.row_size, d.rows + i * d.row_size, d.row_size);
    index = build(&d, N, ANX_INDEX_HNSW);
    params.filter = &filter;
    filter.expected = 10; /* believed, it makes the scan the cheaper way */
    for (size_t q = 0; q < N_QUERY; q++) {
        ok(anx_index_search(index, &params, 1, d.queries + q * d.row_size, WANT, &hits, &err), &err);
        for (size_t i = 0; i < WANT; i++)
            assert_true(label[i] != ANX_LABEL_NONE && label[i] % 7 == 0);
    }
    anx_index_destroy(index);
    data_fini(&d);
}

static void
filter_and_radius_hold_together(void **state)
{
    struct data d;
    anx_index *index, *exact;
    anx_filter filter = { .accept = every_seventh };
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    size_t found = 0, wanted = 0;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    exact = build(&d, N, ANX_INDEX_FLAT);
    params.filter = &filter;
    params.has_radius = true;
    params.ef = 16;
    for (size_t q = 0; q < N_QUERY; q++) {
        float dist[K], want_dist[K];
        uint64_t label[K], want[K];
        anx_hits hits = { dist, label }, want_hits = { want_dist, want };
        anx_error err;

        params.radius = 14000 + 500 * (float) (q % 20);
        ok(anx_index_search(index, &params, 1, d.queries + q * d.row_size, K, &hits, &err), &err);
        ok(anx_index_search(exact, &params, 1, d.queries + q * d.row_size, K, &want_hits, &err), &err);
        for (size_t i = 0; i < K; i++) {
            assert_true(label[i] == ANX_LABEL_NONE || (label[i] % 7 == 0 && dist[i] < params.radius));
            found += label[i] != ANX_LABEL_NONE;
            wanted += want[i] != ANX_LABEL_NONE;
        }
    }
    assert_true(wanted > 200);
    if ((double) found < 0.97 * (double) wanted)
        fail_msg("found %zu of %zu rows that pass within the radius", found, wanted);
    anx_index_destroy(index);
    anx_index_destroy(exact);
    data_fini(&d);
}

static void
iterator_gives_every_row_once(void **state)
{
    struct data d;
    anx_index *index;
    anx_iter *it;
    uint8_t seen[N] = { 0 };
    float dist[64], last = 0;
    uint64_t label[64];
    anx_hits hits = { dist, label };
    size_t got, total = 0, backward = 0;
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    memcpy(d.rows + 10 * d.row_size, d.rows, d.row_size); /* a copy */
    index = build(&d, N, ANX_INDEX_HNSW);
    ok(anx_iter_open(index, NULL, d.queries, &it, &err), &err);
    do {
        ok(anx_iter_next(it, 64, &hits, &got, &err), &err);
        for (size_t i = 0; i < got; i++, total++) {
            assert_false(seen[label[i]]);
            seen[label[i]] = 1;
            backward += dist[i] < last;
            last = dist[i];
        }
    } while (got == 64);
    assert_int_equal(total, N);
    assert_true(backward < N / 50);
    anx_iter_close(it);
    anx_index_destroy(index);
    data_fini(&d);
}

static void
range_search_finds_all_within(void **state)
{
    struct data d;
    anx_index *index, *exact;
    size_t found = 0, wanted = 0;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    exact = build(&d, N, ANX_INDEX_FLAT);
    for (size_t q = 0; q < 20; q++) {
        anx_search_params params = ANX_SEARCH_PARAMS_INIT;
        anx_hit_list list = { 0 }, want = { 0 };
        anx_error err;

        params.has_radius = true;
        params.radius = 15000 + 2500 * (float) q;
        ok(anx_index_search_range(index, &params, d.queries + q * d.row_size, &list, &err), &err);
        ok(anx_index_search_range(exact, &params, d.queries + q * d.row_size, &want, &err), &err);
        found += list.n;
        wanted += want.n;
        for (size_t i = 0; i < list.n; i++)
            assert_true(list.distances[i] < params.radius &&
                        (i == 0 || list.distances[i - 1] <= list.distances[i]));
        anx_hit_list_free(&list);
        anx_hit_list_free(&want);
    }
    assert_true(wanted > 500);
    if ((double) found < 0.98 * (double) wanted)
        fail_msg("found %zu of %zu rows within the radius", found, wanted);
    anx_index_destroy(index);
    anx_index_destroy(exact);
    data_fini(&d);
}

static bool
stop_at_once(void *context)
{
    (void) context;
    return true;
}

static void
search_can_be_cancelled(void **state)
{
    struct data d;
    anx_index *index;
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    float dist[K];
    uint64_t label[K];
    anx_hits hits = { dist, label };
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    params.ef = 500;
    params.should_stop = stop_at_once;
    assert_int_equal(anx_index_search(index, &params, 1, d.queries, K, &hits, &err), ANX_E_CANCELLED);
    anx_index_destroy(index);
    data_fini(&d);
}

/* --- quantized --- */

static const void *
fetch_row(void *context, uint64_t label, void *room)
{
    const struct data *d = context;

    return memcpy(room, d->rows + label * d->row_size, d->row_size);
}

static void
sq8_keeps_codes_only_and_reranks_on_fetched_rows(void **state)
{
    struct data d;
    anx_index *index, *exact;
    anx_index_stats stats;

    (void) state;
    data_init(&d, ANX_METRIC_COSINE, ANX_SCALAR_F32, 384);
    exact = build(&d, N, ANX_INDEX_FLAT);
    d.params.quantization = ANX_QUANTIZATION_SQ8;
    d.params.fetch = fetch_row;
    d.params.fetch_context = &d;
    index = build(&d, N * 9 / 10, ANX_INDEX_HNSW);
    add_range(index, &d, N * 9 / 10, N);
    check(index);
    anx_index_get_stats(index, &stats);
    assert_int_equal(stats.row_bytes, 0);
    /* 4,000 rows carry fixed costs; 0.35 at 60,000 */
    assert_true((double) stats.memory_bytes <= 0.40 * N * 384 * 4);
    assert_true(recall(index, exact, &d, 64, NULL) >= 0.97);
    anx_index_destroy(index);
    anx_index_destroy(exact);
    data_fini(&d);
}

/* --- determinism --- */

static anx_status
hash_write(void *context, const void *bytes, size_t size, anx_error *err)
{
    (void) err;
    anx_hasher_update(context, bytes, size);
    return ANX_OK;
}

static uint64_t
saved_hash(const anx_index *index)
{
    anx_hasher *hasher = anx_hasher_create();
    anx_sink sink = { hasher, hash_write };
    anx_save_params params = { .format = ANX_FILE_ANNEX };
    anx_error err;
    uint64_t hash;

    ok(anx_index_save(index, &params, &sink, NULL, &err), &err);
    hash = anx_hasher_digest(hasher);
    anx_hasher_destroy(hasher);
    return hash;
}

static void
same_seed_same_graph(void **state)
{
    uint64_t hash[3];

    (void) state;
    /* The bulk build does not depend on threads; single inserts come from one. */
    for (size_t run = 0; run < 3; run++) {
        struct data d;
        anx_index *index;

        data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
        d.params.threads = run == 2 ? 2 : 1;
        d.params.seed = 99;
        index = build(&d, N * 9 / 10, ANX_INDEX_HNSW);
        add_range(index, &d, N * 9 / 10, N);
        hash[run] = saved_hash(index);
        anx_index_destroy(index);
        data_fini(&d);
    }
    assert_true(hash[0] == hash[1]);
    assert_true(hash[0] == hash[2]);
}

/* --- loader --- */

/* Says no from the report on whose number counts down to zero. */
static bool
refuse(void *context, const char *phase, size_t done, size_t total)
{
    atomic_int *left = context;

    (void) phase;
    (void) done;
    (void) total;
    return atomic_fetch_sub(left, 1) > 0;
}

static void
cancelled_build_leaves_an_empty_index(void **state)
{
    struct data d;
    anx_index *index;
    anx_loader *loader;
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, 0, ANX_INDEX_HNSW);
    for (int n_report = 0;; n_report = n_report * 5 / 4 + 1) { /* in every phase */
        atomic_int left = n_report;
        anx_status st;

        ok(anx_loader_begin(index, N, &loader, &err), &err);
        ok(anx_loader_rows(loader, N, d.labels, d.rows, &err), &err);
        st = anx_loader_finish(loader, refuse, &left, &err);
        if (st == ANX_OK && n_report > 0) {
            assert_true(atomic_load(&left) >= 0);
            check(index);
            break;
        }
        assert_int_equal(st, ANX_E_CANCELLED);
        assert_int_equal(anx_index_count(index), 0);
    }
    anx_index_destroy(index);
    index = build(&d, 0, ANX_INDEX_HNSW);
    ok(anx_loader_begin(index, N, &loader, &err), &err);
    ok(anx_loader_rows(loader, N, d.labels, d.rows, &err), &err);
    ok(anx_loader_finish(loader, NULL, NULL, &err), &err);
    check(index);
    recall_at_least(index, &d, 0.97);
    anx_index_destroy(index);
    data_fini(&d);
}

/* --- odd shapes --- */

static void
odd_shapes_work(void **state)
{
    static const struct {
        size_t m, dim;
    } shapes[] = { { 2, 3 }, { 128, 5 }, { 16, 1 }, { 5, 900 } };

    (void) state;
    for (size_t s = 0; s < sizeof(shapes) / sizeof(shapes[0]); s++) {
        struct data d;
        anx_index *index;

        data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, shapes[s].dim);
        d.n = 1500;
        d.params.m = shapes[s].m;
        index = build(&d, 1400, ANX_INDEX_HNSW);
        add_range(index, &d, 1400, 1500);
        remove_labels(index, d.labels, 100);
        check(index);
        for (size_t i = 0; i < 100; i++) {
            anx_error err;

            ok(anx_index_add(index, i, d.rows + i * d.row_size, &err), &err);
        }
        check(index);
        recall_at_least(index, &d, shapes[s].m == 2 ? 0.80 : 0.97);
        anx_index_destroy(index);
        data_fini(&d);
    }
}

static void
zero_vectors_under_cosine_are_at_distance_one(void **state)
{
    struct data d;
    anx_index *index;
    float dist[K];
    uint64_t label[K];
    anx_hits hits = { dist, label };
    anx_error err;

    (void) state;
    data_init(&d, ANX_METRIC_COSINE, ANX_SCALAR_F32, DIM);
    memset(d.rows, 0, 20 * d.row_size);
    index = build(&d, N, ANX_INDEX_HNSW);
    check(index);
    memset(d.queries, 0, d.row_size);
    ok(anx_index_search(index, NULL, 1, d.queries, K, &hits, &err), &err);
    for (size_t i = 0; i < K; i++)
        assert_true(label[i] != ANX_LABEL_NONE && dist[i] == 1.0f);
    anx_index_destroy(index);
    data_fini(&d);
}

/* --- memory --- */

static anx_status
life(const struct data *d, anx_alloc *alloc, anx_error *err)
{
    anx_index_params params = d->params;
    anx_index *index;
    float dist[K];
    uint64_t label[K];
    anx_hits hits = { dist, label };
    anx_status st;

    params.alloc = alloc;
    st = anx_index_create(&params, &index, err);
    if (st != ANX_OK)
        return st;
    st = anx_index_add_batch(index, 1100, d->labels, d->rows, err);
    for (size_t i = 1100; i < 1110 && st == ANX_OK; i++)
        st = anx_index_add(index, i, d->rows + i * d->row_size, err);
    if (st == ANX_OK)
        st = anx_index_search(index, NULL, 1, d->queries, K, &hits, err);
    for (size_t i = 0; i < 70 && st == ANX_OK; i++)
        st = anx_index_remove(index, i, err);
    anx_index_destroy(index);
    return st;
}

static void
any_allocation_may_fail(void **state)
{
    struct data d;
    bool done = false;

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, 8);
    d.params.threads = 1;
    for (size_t nth = 1; !done; nth++) {
        struct test_alloc alloc;
        anx_error err = { 0 };
        anx_status st;

        test_alloc_init(&alloc, nth);
        st = life(&d, &alloc.alloc, &err);
        if (st != ANX_OK && st != ANX_E_NOMEM)
            fail_msg("allocation %zu failing gives %d, %s", nth, (int) st, err.message);
        if (test_alloc_live(&alloc) != 0)
            fail_msg("allocation %zu failing leaks %zu blocks", nth, test_alloc_live(&alloc));
        done = alloc.n_calls < nth; /* it never came to the nth */
        assert_true(nth < 5000);
    }
    data_fini(&d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(bulk_build_has_recall),
        cmocka_unit_test(single_inserts_have_recall),
        cmocka_unit_test(inserts_into_a_bulk_graph_keep_recall),
        cmocka_unit_test(lossless_index_takes_other_rows),
        cmocka_unit_test(churn_does_not_decay),
        cmocka_unit_test(small_index_reuses_every_slot),
        cmocka_unit_test(everything_can_be_removed),
        cmocka_unit_test(updates_move_rows),
        cmocka_unit_test(copies_are_collapsed_and_all_returned),
        cmocka_unit_test(one_row_many_times),
        cmocka_unit_test(filters_stay_full_at_every_selectivity),
        cmocka_unit_test(filtered_scan_is_full_when_all_rows_have_copies),
        cmocka_unit_test(filter_and_radius_hold_together),
        cmocka_unit_test(iterator_gives_every_row_once),
        cmocka_unit_test(range_search_finds_all_within),
        cmocka_unit_test(search_can_be_cancelled),
        cmocka_unit_test(sq8_keeps_codes_only_and_reranks_on_fetched_rows),
        cmocka_unit_test(same_seed_same_graph),
        cmocka_unit_test(cancelled_build_leaves_an_empty_index),
        cmocka_unit_test(odd_shapes_work),
        cmocka_unit_test(zero_vectors_under_cosine_are_at_distance_one),
        cmocka_unit_test(any_allocation_may_fail),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
