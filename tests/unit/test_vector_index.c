/* Vector indexes of a namespace against a model: rows with their vectors, searched one by one. Up to a
 * thousand rows every kind searches exactly, so answers must be equal: ranks, order, radius, filters, arrays.
 */
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/rng.h"
#include "db/data.h"

enum { N_ROW = 120, DIM = 6, N_VECTOR_MAX = 3, N_STEP = 1200 };

struct setup {
    const char *name;
    enum index_type kind;
    anx_metric metric;
    bool is_array;
};
static const struct setup setups[] = {
    { "bf l2", INDEX_VEC_BF, ANX_METRIC_L2, false },
    { "bf ip", INDEX_VEC_BF, ANX_METRIC_IP, false },
    { "bf cosine", INDEX_VEC_BF, ANX_METRIC_COSINE, false },
    { "hnsw l2", INDEX_HNSW, ANX_METRIC_L2, false },
    { "hnsw cosine", INDEX_HNSW, ANX_METRIC_COSINE, false },
    { "ivf ip", INDEX_IVF, ANX_METRIC_IP, false },
    { "bf l2 array", INDEX_VEC_BF, ANX_METRIC_L2, true },
    { "hnsw ip array", INDEX_HNSW, ANX_METRIC_IP, true },
    { "ivf l2 array", INDEX_IVF, ANX_METRIC_L2, true },
};

struct world {
    const struct setup *setup;
    struct ns ns;
    struct index_def def;
    struct ns_index index;
    struct vector_index *v;
    anx_rng rng;
    anx_arena *arena;
    float floats[N_ROW][N_VECTOR_MAX][DIM];
    struct doc_vectors rows[N_ROW]; /* floats point above */
    bool has[N_ROW];
};

static void
world_init(struct world *w, const struct setup *setup)
{
    anx_error err;

    memset(w, 0, sizeof(*w));
    w->setup = setup;
    w->rng = anx_rng_seed(5);
    w->arena = anx_arena_create(NULL, 0);
    w->def = (struct index_def) { .name = ANX_TEXT("v"), .field_type = FIELD_FLOAT_VECTOR };
    w->def.index_type = setup->kind;
    w->def.is_array = setup->is_array;
    w->def.vector = (struct vector_def) { .metric = setup->metric, .dim = DIM };
    w->def.vector.centroids = setup->kind == INDEX_IVF ? 40 : 0;
    w->index.def = &w->def;
    assert_int_equal(vector_create(&w->ns, &w->index, &w->v, &err), ANX_OK);
}

static void
world_fini(struct world *w)
{
    vector_destroy(w->v);
    anx_arena_destroy(w->arena);
}

static struct doc_vectors
random_vectors(struct world *w, uint32_t row)
{
    struct doc_vectors vectors = { .dim = DIM };

    vectors.n = anx_rng_below(&w->rng, w->setup->is_array ? N_VECTOR_MAX + 1 : 5);
    if (!w->setup->is_array)
        vectors.n = vectors.n > 0;
    vectors.n_empty = w->setup->is_array ? anx_rng_below(&w->rng, 4) / 3 : vectors.n == 0;
    for (uint32_t p = 0; p < vectors.n; p++)
        for (size_t i = 0; i < DIM; i++) /* small whole numbers: ranks are exact, ties are frequent */
            w->floats[row][p][i] = (float) anx_rng_below(&w->rng, 5) - 2;
    vectors.floats = vectors.n > 0 ? w->floats[row][0] : NULL;
    return vectors;
}

static float
model_rank(const struct world *w, const float *a, const float *b)
{
    double dot = 0, aa = 0, bb = 0, l2 = 0;

    for (size_t i = 0; i < DIM; i++) {
        dot += (double) a[i] * b[i];
        aa += (double) a[i] * a[i];
        bb += (double) b[i] * b[i];
        l2 += ((double) a[i] - b[i]) * ((double) a[i] - b[i]);
    }
    if (w->setup->metric == ANX_METRIC_L2)
        return (float) l2;
    if (w->setup->metric == ANX_METRIC_IP)
        return (float) dot;
    return aa > 0 && bb > 0 ? (float) (dot / sqrt(aa * bb)) : 0;
}

struct model_hits {
    struct vector_hit hits[N_ROW * N_VECTOR_MAX];
    size_t n;
};
static const struct world *sorting; /* qsort has no context */

static int
compare_hits(const void *a, const void *b)
{
    const struct vector_hit *x = a, *y = b;

    if (fabsf(x->rank - y->rank) > 1e-6f)
        return vector_better(sorting->v, x->rank, y->rank) ? -1 : 1;
    return (x->row > y->row) - (x->row < y->row);
}

/* All vectors of allowed rows inside of the radius, best first. */
static void
model_search(const struct world *w, const float *query, const float *radius, const roaring_bitmap_t *allowed,
             struct model_hits *out)
{
    out->n = 0;
    for (uint32_t row = 0; row < N_ROW; row++)
        for (uint32_t p = 0; w->has[row] && p < w->rows[row].n; p++) {
            float rank = model_rank(w, query, w->floats[row][p]);

            if ((allowed && !roaring_bitmap_contains(allowed, row)) ||
                (radius && (!vector_better(w->v, rank, *radius) || fabsf(rank - *radius) < 1e-6f)))
                continue;
            out->hits[out->n++] = (struct vector_hit) { row, rank };
        }
    sorting = w;
    qsort(out->hits, out->n, sizeof(out->hits[0]), compare_hits);
}

/* Each row once, with its best vector; of the first `k` vectors. */
static void
model_reduce(struct model_hits *hits, size_t k)
{
    size_t n = 0;

    for (size_t i = 0; i < hits->n && i < k; i++) {
        bool is_new = true;

        for (size_t j = 0; j < n; j++)
            is_new = is_new && hits->hits[j].row != hits->hits[i].row;
        if (is_new)
            hits->hits[n++] = hits->hits[i];
    }
    hits->n = n;
}

static void
compare_answers(const struct world *w, const struct vector_hit *hits, size_t n, const struct model_hits *want,
                bool has_ties)
{
    if (n != want->n)
        fail_msg("%s: %zu hits, expected %zu", w->setup->name, n, want->n);
    for (size_t i = 0; i < n; i++) {
        assert_float_equal(hits[i].rank, want->hits[i].rank, 1e-5);
        /* Cosines are rounded, so ties of the model need not be ties. */
        if (!has_ties && w->setup->metric != ANX_METRIC_COSINE && hits[i].row != want->hits[i].row)
            fail_msg("%s: hit %zu is row %u, expected %u", w->setup->name, i, hits[i].row, want->hits[i].row);
    }
}

static void
ask(struct world *w)
{
    struct query_knn knn = { .dim = DIM };
    roaring_bitmap_t *allowed = roaring_bitmap_create();
    bool with_filter = anx_rng_below(&w->rng, 2), with_radius = anx_rng_below(&w->rng, 3) == 0;
    static struct model_hits want;
    struct vector_hit *hits;
    float query[DIM], radius = (float) anx_rng_below(&w->rng, 12);
    size_t n, k = 1 + anx_rng_below(&w->rng, 2 * N_ROW);
    anx_error err;

    for (size_t i = 0; i < DIM; i++)
        query[i] = (float) anx_rng_below(&w->rng, 5) - 2;
    for (uint32_t row = 0; row < N_ROW + 10; row++)
        if (anx_rng_below(&w->rng, 3) == 0)
            roaring_bitmap_add(allowed, row);
    if (w->setup->metric != ANX_METRIC_L2)
        radius = (radius - 6) / (w->setup->metric == ANX_METRIC_COSINE ? 8 : 1);
    knn.vector = query;
    knn.has_radius = with_radius;
    knn.radius = (double) radius;
    knn.has_k = !with_radius || anx_rng_below(&w->rng, 2);
    knn.k = knn.has_k ? k : 0;
    assert_int_equal(
        vector_search(w->v, &knn, with_filter ? allowed : NULL, 0, NULL, w->arena, &hits, &n, &err), ANX_OK);
    model_search(w, query, with_radius ? &radius : NULL, with_filter ? allowed : NULL, &want);
    if (w->setup->is_array)
        model_reduce(&want, knn.has_k && !with_radius ? k : SIZE_MAX);
    if (knn.has_k && want.n > k)
        want.n = k;
    /* Which of several equal vectors is the k-th is told by labels; rows are compared where all are there.
     * With arrays the number of rows among the k first hangs on it too. */
    if (!w->setup->is_array || !knn.has_k || with_radius || k >= N_ROW * N_VECTOR_MAX)
        compare_answers(w, hits, n, &want, knn.has_k && want.n == k);
    for (size_t i = 1; i < n; i++)
        assert_true(vector_better(w->v, hits[i - 1].rank, hits[i].rank) ||
                    (hits[i - 1].rank == hits[i].rank && hits[i - 1].row < hits[i].row));
    roaring_bitmap_free(allowed);
}

static void
check_rows(struct world *w)
{
    anx_error err;

    if (vector_check(w->v, &err) != ANX_OK)
        fail_msg("%s: %s", w->setup->name, err.message);
    for (uint32_t row = 0; row < N_ROW; row++) {
        uint32_t n = w->has[row] ? w->rows[row].n : 0;
        bool is_empty = w->has[row] && (n == 0 || w->rows[row].n_empty > 0);
        bool is_any = w->has[row] && (n > 0 || (w->setup->is_array && w->rows[row].n_empty > 0));
        struct doc_vectors got;

        assert_int_equal(vector_count(w->v, row), n);
        assert_int_equal(roaring_bitmap_contains(vector_rows_empty(w->v), row), is_empty);
        assert_int_equal(roaring_bitmap_contains(vector_rows_any(w->v), row), is_any);
        assert_true(vector_get(w->v, row, n, w->arena, &got));
        if (n > 0) /* as they were written, for every metric */
            assert_memory_equal(got.floats, w->floats[row][0], n * DIM * sizeof(float));
    }
}

/* A batch of rows that is inserted, asked about before it is published, and published or taken back. */
static void
step(struct world *w)
{
    struct vector_change changes[8];
    float before[8][N_VECTOR_MAX][DIM];
    size_t n = 1 + anx_rng_below(&w->rng, 8);
    uint32_t first = anx_rng_below(&w->rng, N_ROW - 8);
    anx_error err;

    if (anx_rng_below(&w->rng, 5) == 0) {
        vector_remove(w->v, first);
        w->has[first] = false;
        return;
    }
    for (uint32_t i = 0; i < n; i++) {
        memcpy(before[i], w->floats[first + i], sizeof(before[i]));
        changes[i] = (struct vector_change) { .row = first + i, .vectors = random_vectors(w, first + i) };
    }
    assert_int_equal(vector_prepare(w->v, changes, n, &err), ANX_OK);
    for (uint32_t i = 0; i < n; i++) { /* the model still has what was before */
        float new[N_VECTOR_MAX][DIM];

        memcpy(new, w->floats[first + i], sizeof(new));
        memcpy(w->floats[first + i], before[i], sizeof(new));
        memcpy(before[i], new, sizeof(new));
    }
    ask(w);
    if (anx_rng_below(&w->rng, 4) == 0) {
        vector_cancel(w->v, changes, n);
        return;
    }
    assert_int_equal(vector_reserve(w->v, N_ROW, &err), ANX_OK);
    for (uint32_t i = 0; i < n; i++) {
        memcpy(w->floats[first + i], before[i], sizeof(before[i]));
        w->rows[first + i] = changes[i].vectors;
        w->has[first + i] = true;
        vector_publish(w->v, &changes[i]);
    }
    ask(w); /* the old ones are still in the index, but do not count */
    vector_sweep(w->v);
}

static void
indexes_agree_with_the_model(void **state)
{
    static struct world w;

    (void) state;
    for (size_t s = 0; s < ANX_COUNT_OF(setups); s++) {
        world_init(&w, &setups[s]);
        for (size_t i = 0; i < N_STEP; i++) {
            step(&w);
            ask(&w);
            if (i % 50 == 0)
                check_rows(&w);
        }
        check_rows(&w);
        world_fini(&w);
    }
}

static void
fill(struct world *w)
{
    anx_error err;

    for (uint32_t row = 0; row < N_ROW; row++) {
        w->rows[row] = random_vectors(w, row);
        w->has[row] = true;
        assert_int_equal(vector_insert(w->v, row, &w->rows[row], &err), ANX_OK);
    }
}

/* Every document once, in order of rank inside of a batch; then the end. */
static void
a_stream_gives_every_row_once(void **state)
{
    static const size_t which[] = { 3, 7 }; /* hnsw l2, hnsw ip array */
    static struct world w;
    float query[DIM] = { 1, 0, 2, 0, -1, 0 };
    struct query_knn knn = { .vector = query, .dim = DIM };

    (void) state;
    for (size_t s = 0; s < ANX_COUNT_OF(which); s++) {
        struct vector_stream *stream;
        struct vector_hit hits[33];
        bool seen[N_ROW] = { false };
        size_t n, total = 0, want = 0;
        anx_error err;

        world_init(&w, &setups[which[s]]);
        fill(&w);
        for (uint32_t row = 0; row < N_ROW; row++)
            want += w.rows[row].n > 0;
        assert_int_equal(vector_stream_open(w.v, &knn, &stream, &err), ANX_OK);
        do {
            assert_int_equal(vector_stream_next(stream, hits, ANX_COUNT_OF(hits), &n, &err), ANX_OK);
            for (size_t i = 0; i < n; i++) {
                assert_false(seen[hits[i].row]);
                seen[hits[i].row] = true;
                assert_true(i == 0 || !vector_better(w.v, hits[i].rank, hits[i - 1].rank));
            }
            total += n;
        } while (n == ANX_COUNT_OF(hits));
        assert_int_equal(total, want);
        vector_stream_close(stream);
        world_fini(&w);
    }
}

struct bad {
    size_t setup;
    struct query_knn knn;
    size_t dim;
    anx_status status;
    const char *text;
};

static void
parameters_are_checked(void **state)
{
    static const struct bad bad[] = {
        { 0, { .has_k = true }, DIM, ANX_E_QUERY, "KNN limit should not be 0" },
        { 0,
          { .dim = 0 },
          DIM,
          ANX_E_QUERY,
          "KNN query without 'k' and 'radius' (streaming search) is supported for HNSW indexes only, but "
          "index 'v' is "
          "not HNSW" },
        { 3,
          { .has_k = true, .k = 10, .has_ef = true, .ef = 5 },
          DIM,
          ANX_E_QUERY,
          "Ef should not be less than k in hnsw query" },
        { 3,
          { .has_k = true, .k = 1, .has_nprobe = true, .nprobe = 5 },
          DIM,
          ANX_E_QUERY,
          "Expected HnswSearchParams but get IvfSearchParams" },
        { 0,
          { .has_k = true, .k = 1, .has_ef = true, .ef = 5 },
          DIM,
          ANX_E_QUERY,
          "Expected BruteForceSearchParams but get HnswSearchParams" },
        { 0,
          { .has_k = true, .k = 1, .has_nprobe = true, .nprobe = 5 },
          DIM,
          ANX_E_QUERY,
          "Expected BruteForceSearchParams but get IvfSearchParams" },
        { 5,
          { .has_k = true, .k = 1, .has_ef = true, .ef = 5 },
          DIM,
          ANX_E_QUERY,
          "Expected IvfSearchParams but get HnswSearchParams" },
        { 5,
          { .has_k = true, .k = 1, .kind = KNN_BF },
          DIM,
          ANX_E_QUERY,
          "Expected IvfSearchParams but get BruteForceSearchParams" },
        { 5,
          { .has_nprobe = true, .nprobe = 2 },
          DIM,
          ANX_E_QUERY,
          "K and Radius params can not be empty both" },
        { 5, { .has_k = true, .k = 1, .has_nprobe = true }, DIM, ANX_E_QUERY, "Nprobe should not be 0" },
        { 0,
          { .has_k = true, .k = 1 },
          3,
          ANX_E_NOT_VALID,
          "Attempt to search vector of dimension 3 in a float vector index of dimension 6" },
        { 0, { .has_k = true, .k = 1 }, 0, ANX_E_NOT_VALID, "Attempt to search knn by empty float vector" },
    };
    static struct world w;
    float query[DIM] = { 0 };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(bad); i++) {
        struct query_knn knn = bad[i].knn;
        struct vector_hit *hits;
        size_t n;
        anx_error err;

        world_init(&w, &setups[bad[i].setup]);
        knn.vector = query;
        knn.dim = bad[i].dim;
        assert_int_equal(vector_search(w.v, &knn, NULL, 0, NULL, w.arena, &hits, &n, &err), bad[i].status);
        assert_string_equal(err.message, bad[i].text);
        world_fini(&w);
    }
}

static void
bad_vectors_are_refused(void **state)
{
    static struct world w;
    float floats[DIM] = { 1, 2, INFINITY };
    struct doc_vectors vectors = { .floats = floats, .n = 1, .dim = DIM };
    anx_error err;

    (void) state;
    world_init(&w, &setups[3]);
    assert_int_equal(vector_insert(w.v, 0, &vectors, &err), ANX_E_NOT_VALID);
    vectors.dim = 2;
    assert_int_equal(vector_insert(w.v, 0, &vectors, &err), ANX_E_NOT_VALID);
    assert_string_equal(err.message,
                        "Attempt to upsert vector of dimension 2 in a float vector index of dimension 6");
    assert_int_equal(vector_check(w.v, &err), ANX_OK);
    world_fini(&w);
}

/* Rows that changed, came or went since the file was written are noticed. */
static void
a_file_is_restored_row_by_row(void **state)
{
    static const size_t which[] = { 3, 7 };
    static struct world w;
    char path[] = "/tmp/annex_test_XXXXXX";

    (void) state;
    close(mkstemp(path));
    for (size_t s = 0; s < ANX_COUNT_OF(which); s++) {
        size_t n_found = 0, n_with = 0;
        anx_error err;

        world_init(&w, &setups[which[s]]);
        fill(&w);
        fill(&w); /* other generations */
        assert_int_equal(vector_file_save(w.v, path, &err), ANX_OK);
        vector_destroy(w.v);
        assert_int_equal(vector_create(&w.ns, &w.index, &w.v, &err), ANX_OK);
        assert_int_equal(vector_file_load(w.v, path, &err), ANX_OK);
        for (uint32_t row = 0; row < N_ROW; row++) {
            bool found;

            w.has[row] = row % 7 != 0; /* gone */
            if (!w.has[row])
                continue;
            if (row % 5 == 0) /* changed */
                w.rows[row] = random_vectors(&w, row);
            n_with += row % 5 != 0;
            assert_int_equal(vector_restore(w.v, row, &w.rows[row], &found, &err), ANX_OK);
            n_found += row % 5 != 0 && found;
            if (!found)
                assert_int_equal(vector_insert(w.v, row, &w.rows[row], &err), ANX_OK);
        }
        assert_int_equal(n_found, n_with);
        assert_int_equal(vector_restore_end(w.v, &err), ANX_OK);
        check_rows(&w);
        for (size_t i = 0; i < 50; i++)
            ask(&w);
        world_fini(&w);
    }
    unlink(path);
}

/* The first row past 39 per centroid trains; answers stay right with all lists probed. */
static void
ivf_trains_when_it_has_enough_rows(void **state)
{
    static const struct setup setup = { "ivf l2", INDEX_IVF, ANX_METRIC_L2, false };
    static struct world w;
    struct vector_numbers numbers;
    anx_error err;

    (void) state;
    world_init(&w, &setup);
    vector_destroy(w.v);
    w.def.vector.centroids = 2;
    assert_int_equal(vector_create(&w.ns, &w.index, &w.v, &err), ANX_OK);
    for (uint32_t row = 0; row < N_ROW; row++) {
        float one[DIM] = { (float) row };
        struct doc_vectors vectors = { .floats = one, .n = 1, .dim = DIM };

        assert_int_equal(vector_insert(w.v, row, &vectors, &err), ANX_OK);
        vector_get_numbers(w.v, &numbers);
        assert_int_equal(numbers.is_built, row + 1 > 2 * 39);
    }
    assert_int_equal(vector_train(w.v, 0.5, &err), ANX_OK);
    assert_int_equal(numbers.count, N_ROW);
    assert_int_equal(vector_check(w.v, &err), ANX_OK);
    world_fini(&w);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(parameters_are_checked),
        cmocka_unit_test(bad_vectors_are_refused),
        cmocka_unit_test(a_stream_gives_every_row_once),
        cmocka_unit_test(a_file_is_restored_row_by_row),
        cmocka_unit_test(ivf_trains_when_it_has_enough_rows),
        cmocka_unit_test(indexes_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
