/* The indexing server and clients of version 1: sessions recorded from the original programs, every kind,
 * every way to be wrong, to be silent and to go away. */
#include "test_server_fixture.h"

#include "indexing/builder.h"

#define RIGHT_SHARE 0.99

/* --- right answers --- */

static struct bytes
read_file(const char *folder, const char *name, const char *suffix)
{
    char path[4096];
    struct bytes bytes = { NULL, 0 };
    FILE *file;
    size_t capacity = (size_t) 1 << 20;

    snprintf(path, sizeof(path), "%s/%s%s", folder, name, suffix);
    file = fopen(path, "rb");
    if (!file)
        return bytes;
    bytes.data = anx_alloc_bytes(NULL, capacity);
    assert_non_null(bytes.data);
    bytes.size = fread(bytes.data, 1, capacity, file);
    fclose(file);
    assert_true(bytes.size < capacity);
    return bytes;
}

static size_t
vector_size_of(const uint8_t *init)
{
    size_t dim = anx_load_le(init + 16, 4);

    return anx_load_le(init + 44, 4) == 1 ? dim / 8 : dim * 4;
}

/* The rows that the original server stored, byte for byte. */
static void
compare_rows(const anx_index *index, const anx_index *original, size_t n, const uint64_t *labels)
{
    const anx_index_params *params = anx_index_get_params(index);
    size_t size = anx_row_size(params->scalar, params->dim);
    uint8_t row[256], other[256];

    assert_int_equal(params->scalar, anx_index_get_params(original)->scalar);
    assert_int_equal(params->metric, anx_index_get_params(original)->metric);
    assert_true(size <= sizeof(row));
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(anx_index_get(index, labels[i], row, NULL), ANX_OK);
        assert_int_equal(anx_index_get(original, labels[i], other, NULL), ANX_OK);
        assert_memory_equal(row, other, size);
    }
}

/* Both directions of sessions between the original database extension and the original server. */
static void
recorded_sessions_are_answered(void **state)
{
    static const char *const names[] = { "l2sq_f32", "cos_f32", "hamming", "l2sq_f16", "cos_i8", "one_row" };
    const char *root = getenv("ANX_SOURCE_ROOT");
    char folder[4096];
    struct house house;
    size_t n_replayed = 0;

    (void) state;
    snprintf(folder, sizeof(folder), "%s/../shared/golden/lantern", root ? root : ".");
    house_open(&house, NULL);
    for (size_t i = 0; i < ANX_COUNT_OF(names); i++) {
        struct bytes client = read_file(folder, names[i], ".client");
        struct bytes theirs = read_file(folder, names[i], ".server");
        struct bytes answer;
        uint64_t *labels;
        anx_index *index, *original;
        size_t n;
        double share;

        if (!client.data || !theirs.data)
            continue;
        answer = talk(&house, client.data, client.size);
        labels = labels_of(client.data, client.size, vector_size_of(client.data), &n);
        index = index_of_answer(&answer, n);
        original = load_index(theirs.data + 25, theirs.size - 25);
        assert_memory_equal(answer.data + 25, theirs.data + 25,
                            17 + 24); /* head: kinds, counts, dimensions */
        assert_memory_equal(answer.data + 25 + 80, theirs.data + 25 + 80, 24);
        compare_rows(index, original, n, labels);
        share = exact_share(index, n, labels, n < 10 ? n : 10);
        if (share < RIGHT_SHARE)
            fail_msg("%s: %.3f of the answers are right", names[i], share);
        anx_index_destroy(index);
        anx_index_destroy(original);
        anx_free(NULL, labels);
        bytes_free(&answer);
        bytes_free(&client);
        bytes_free(&theirs);
        n_replayed++;
    }
    wait_idle(&house);
    house_close(&house);
    if (n_replayed == 0)
        skip(); /* the recordings are not part of the tree */
    assert_int_equal(n_replayed, ANX_COUNT_OF(names));
}

/* The three rows of Lantern's documentation, one of them of length zero. */
static void
documentation_example(void **state)
{
    static const float rows[3][3] = { { 0, 0, 0 }, { 0, 1, 0 }, { 1, 0, 0 } };
    static const float query[3] = { 1, 1, 1 };
    struct init init = INIT_DEFAULT(COS, 1, 3);
    struct script script;
    struct bytes answer;
    struct house house;
    anx_index *index;
    float distances[3];
    uint64_t labels[3];
    anx_hits hits = { distances, labels };

    (void) state;
    init.m = 12, init.estimate = 3;
    script = script_begin(&init);
    for (size_t i = 0; i < 3; i++)
        script_row(&script, tid(0, i + 1), rows[i], sizeof(rows[i]));
    script_end(&script);
    assert_int_equal(script.size, 112);
    house_open(&house, NULL);
    answer = talk(&house, script.data, script.size);
    assert_int_equal(answer.size, 671);
    index = index_of_answer(&answer, 3);
    assert_int_equal(anx_index_search(index, NULL, 1, query, 3, &hits, NULL), ANX_OK);
    assert_float_equal(distances[0], 0.42265, 1e-4);
    assert_float_equal(distances[1], 0.42265, 1e-4);
    assert_float_equal(distances[2], 1, 1e-6);
    assert_int_equal(labels[0], tid(0, 2));
    assert_int_equal(labels[1], tid(0, 3));
    assert_int_equal(labels[2], tid(0, 1));
    anx_index_destroy(index);
    bytes_free(&answer);
    script_free(&script);
    house_close(&house);
}

/* Kinds whose rows are not the bytes that were sent. */
static void
rows_are_converted_as_the_original_does(void **state)
{
    static const float row[8] = { 0.019f, -0.019f, 1.5f, -7, 0.999f, 0, -0.0f, 0.5f };
    static const int8_t i8[8] = { 1, -1, 100, -100, 99, 0, 0, 50 };
    struct init init = INIT_DEFAULT(COS, 4, 8);
    struct script script;
    struct house house;
    anx_index *index;
    int8_t got[8];
    uint16_t half[8];
    uint8_t bits, metric;
    float wide[8];

    (void) state;
    house_open(&house, NULL);
    script = script_begin(&init);
    script_row(&script, 7, row, sizeof(row));
    script_end(&script);
    index = build(&house, &script, NULL);
    assert_int_equal(anx_index_get(index, 7, got, NULL), ANX_OK);
    assert_memory_equal(got, i8, sizeof(i8));
    anx_index_destroy(index);

    anx_store_le(script.data + 12, 3, 4);
    index = build(&house, &script, NULL);
    assert_int_equal(anx_index_get(index, 7, half, NULL), ANX_OK);
    anx_kernels_best()->f16_to_f32(half, 8, wide);
    for (size_t i = 0; i < 8; i++)
        assert_true(fabsf(wide[i] - row[i]) <= 1e-3f * (1 + fabsf(row[i])));
    anx_index_destroy(index);

    anx_store_le(script.data + 12, 5, 4);
    for (uint32_t m = 1; m <= 3; m += 2) { /* cosine, l2 */
        anx_store_le(script.data + 8, m, 4);
        index = build(&house, &script, &metric);
        assert_int_equal(metric, m == 1 ? 'c' : 'e'); /* the head says what was asked for */
        assert_int_equal(anx_index_get(index, 7, &bits, NULL), ANX_OK);
        assert_int_equal(bits, 0xa9); /* 1 0 1 0 1 0 0 1: greater than zero */
        anx_index_destroy(index);
    }
    script_free(&script);
    house_close(&house);
}

struct odd_case {
    const char *name;
    struct init init;
    size_t n;
    bool is_equal; /* all rows the same */
};

static void
odd_jobs_are_built(void **state)
{
    static const struct odd_case cases[] = {
        { "no rows", INIT_DEFAULT(L2SQ, 1, 4), 0, false },
        { "m at its least",
          { .metric = L2SQ,
            .scalar = 1,
            .dim = 5,
            .m = 2,
            .ef_construction = 1,
            .ef = 1,
            .estimate = 1,
            .element_bits = 32 },
          1500,
          false },
        { "m at its most, ef_construction below it",
          { .metric = COS,
            .scalar = 1,
            .dim = 5,
            .m = 128,
            .ef_construction = 4,
            .ef = 400,
            .estimate = 4000000000,
            .element_bits = 32 },
          1500,
          false },
        { "one dimension", INIT_DEFAULT(L2SQ, 1, 1), 300, false },
        { "most dimensions", INIT_DEFAULT(COS, 1, 2000), 30, false },
        { "all rows equal", INIT_DEFAULT(COS, 1, 6), 1200, true },
        { "kind 0 is f32", INIT_DEFAULT(L2SQ, 0, 6), 100, false },
        { "f16", INIT_DEFAULT(L2SQ, 3, 24), 1200, false },
        { "i8", INIT_DEFAULT(L2SQ, 4, 24), 1200, false },
    };
    struct house house;

    (void) state;
    house_open(&house, NULL);
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        const struct odd_case *c = &cases[i];
        struct script script = random_script(&c->init, c->n, i + 1);
        size_t row_size = 8 + c->init.dim * 4, n;
        uint64_t *labels;
        anx_index *index;
        double share = 1;

        for (size_t row = 1; c->is_equal && row < c->n; row++)
            memcpy(script.data + 48 + row * row_size + 8, script.data + 56, row_size - 8);
        if (c->n == 0) {
            struct bytes answer = talk(&house, script.data, script.size);

            assert_int_equal(answer.size, 25 + 136);
            assert_int_equal(anx_load_le(answer.data + 9, 8), 0);
            bytes_free(&answer);
        } else {
            index = build(&house, &script, NULL);
            labels = labels_of(script.data, script.size, c->init.dim * 4, &n);
            assert_int_equal(n, c->n);
            share = exact_share(index, n, labels, 10);
            anx_free(NULL, labels);
            anx_index_destroy(index);
        }
        if (share <
            RIGHT_SHARE - (c->init.m == 2 ? 0.2 : 0)) /* four links a node: what such a graph can do */
            fail_msg("%s: %.3f of the answers are right", c->name, share);
        script_free(&script);
    }
    wait_idle(&house);
    house_close(&house);
}

/* Bytes in every split: the client may send them one by one. */
static void
rows_in_small_pieces(void **state)
{
    struct init init = INIT_DEFAULT(L2SQ, 1, 3);
    struct script script = random_script(&init, 20, 3);
    struct house house;
    struct bytes answer;
    int fd;

    (void) state;
    house_open(&house, NULL);
    fd = dial(house.port);
    for (size_t at = 0; at < script.size; at += 3)
        assert_int_equal(put(fd, script.data + at, script.size - at < 3 ? script.size - at : 3),
                         script.size - at < 3 ? script.size - at : 3);
    answer = get_all(fd);
    close(fd);
    anx_index_destroy(index_of_answer(&answer, 20));
    bytes_free(&answer);
    script_free(&script);
    house_close(&house);
}

/* A client may close its sending half after END and still read. */
static void
half_closed_client_gets_its_index(void **state)
{
    struct init init = INIT_DEFAULT(COS, 1, 16);
    struct script script = random_script(&init, 3000, 4);
    struct house house;
    struct bytes answer;
    int fd;

    (void) state;
    house_open(&house, NULL);
    fd = dial(house.port);
    assert_int_equal(put(fd, script.data, script.size), script.size);
    shutdown(fd, SHUT_WR);
    answer = get_all(fd);
    close(fd);
    anx_index_destroy(index_of_answer(&answer, 3000));
    bytes_free(&answer);
    script_free(&script);
    house_close(&house);
}

/* --- wrong clients --- */

/* Peers that are no clients get the original server's answer, bit by bit. */
static void
first_words_that_are_none(void **state)
{
    static const char header[] = "7337\x16\0\0\0Invalid message header";
    static const char cut[] = "7337\x16\0\0\0Invalid frame received";
    struct house house;
    struct bytes answer;
    int fd;

    (void) state;
    house_open(&house, NULL);
    answer = talk(&house, "abcdefgh", 8);
    assert_int_equal(answer.size, 8 + 30);
    assert_memory_equal(answer.data + 8, header, 30);
    bytes_free(&answer);
    fd = dial(house.port);
    assert_int_equal(put(fd, "ab", 2), 2);
    shutdown(fd, SHUT_WR);
    answer = get_all(fd);
    close(fd);
    assert_int_equal(answer.size, 8 + 30);
    assert_memory_equal(answer.data + 8, cut, 30);
    bytes_free(&answer);
    expect_error(&house, "7331", 4, 8, "send init message first", "");
    assert_int_equal(status_of(&house), 0); /* none of these asked for a build */
    wait_idle(&house);
    house_close(&house);
}

static void
bad_requests_are_refused(void **state)
{
    static const struct {
        const char *name, *begins, *contains;
        struct init init;
    } cases[] = {
        { "metric", "Invalid metric 9", "", INIT_DEFAULT(9, 1, 4) },
        { "kind", "Invalid scalar quantization", "", INIT_DEFAULT(COS, 7, 4) },
        { "f64", "", "f64", INIT_DEFAULT(COS, 2, 4) },
        { "pq",
          "",
          "pq",
          { .pq = 1,
            .metric = COS,
            .scalar = 1,
            .dim = 4,
            .m = 8,
            .ef_construction = 64,
            .ef = 32,
            .n_centroids = 3,
            .n_subq = 2,
            .estimate = 1,
            .element_bits = 32 } },
        { "no dimensions", "", "dim", INIT_DEFAULT(COS, 1, 0) },
        { "many dimensions", "", "dim", INIT_DEFAULT(COS, 1, 2001) },
        { "all dimensions", "", "dim", INIT_DEFAULT(COS, 1, UINT32_MAX) },
        { "bits that fill no byte", "", "8", INIT_DEFAULT(COS, 5, 12) },
        { "hamming bits that fill no byte", "", "8", INIT_DEFAULT(HAMMING, 5, 12) },
        { "hamming of floats",
          "",
          "",
          { .metric = HAMMING,
            .scalar = 1,
            .dim = 4,
            .m = 8,
            .ef_construction = 64,
            .ef = 32,
            .estimate = 1,
            .element_bits = 32 } },
        { "m",
          "",
          "m is 1",
          { .metric = COS,
            .scalar = 1,
            .dim = 4,
            .m = 1,
            .ef_construction = 64,
            .ef = 32,
            .estimate = 1,
            .element_bits = 32 } },
        { "ef",
          "",
          "401",
          { .metric = COS,
            .scalar = 1,
            .dim = 4,
            .m = 8,
            .ef_construction = 401,
            .ef = 32,
            .estimate = 1,
            .element_bits = 32 } },
    };
    struct house house;
    char body[8192];

    (void) state;
    house_open(&house, NULL);
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        uint8_t bytes[48];

        init_bytes(&cases[i].init, bytes);
        expect_error(&house, bytes, sizeof(bytes), 8, cases[i].begins, cases[i].contains);
    }
    assert_int_equal(status_of(&house), 2); /* somebody wanted an index and did not get it */
    assert_int_equal(http(&house, "GET", "/status", body, sizeof(body)), 200);
    assert_non_null(strstr(body, "\"last_error\":\""));
    wait_idle(&house);
    house_close(&house);
}

/* A row that cannot be in an index fails the build and is named by its place in the table. */
static void
bad_rows_are_named(void **state)
{
    static const uint32_t kinds[] = { 1, 3, 4, 5 };
    struct init init = INIT_DEFAULT(COS, 1, 8);
    struct script script = random_script(&init, 200, 5);
    const size_t row_size = 8 + 32;
    struct house house;

    (void) state;
    house_open(&house, NULL);
    for (size_t i = 0; i < ANX_COUNT_OF(kinds); i++) {
        float keep, bad = i % 2 ? INFINITY : NAN;
        uint8_t *at = script.data + 48 + 123 * row_size + 8 + 5 * 4;

        memcpy(&keep, at, 4);
        memcpy(at, &bad, 4);
        anx_store_le(script.data + 12, kinds[i], 4);
        expect_error(&house, script.data, script.size, 9, "row (block 2, offset 24)", "component 5");
        memcpy(at, &keep, 4);
    }
    anx_store_le(script.data + 12, 3, 4);
    memcpy(script.data + 48 + 8, &(float) { 70000 }, 4);
    expect_error(&house, script.data, script.size, 9, "row (block 0, offset 1)", "65504");
    memcpy(script.data + 48 + 8, &(float) { 0 }, 4);
    anx_store_le(script.data + 12, 1, 4);
    memcpy(script.data + 48 + 150 * row_size, script.data + 48 + 20 * row_size, 8);
    expect_error(&house, script.data, script.size, 9, "row (block 0, offset 21)", "twice");
    assert_int_equal(status_of(&house), 2);
    script_free(&script);
    wait_idle(&house);
    house_close(&house);
}

static void
messages_out_of_order(void **state)
{
    struct init init = INIT_DEFAULT(L2SQ, 1, 4);
    struct script script = random_script(&init, 10, 6);
    struct script more;
    struct house house;
    uint8_t again[48];

    (void) state;
    house_open(&house, NULL);
    init_bytes(&init, again);
    more = script_begin(&init);
    script_add(&more, script.data + 48, 24 * 3);
    script_add(&more, again, sizeof(again));
    expect_error(&house, more.data, more.size, 9, "Invalid message received", "");
    script_free(&more);
    more = script_begin(&init);
    script_add(&more, script.data + 48, script.size - 48);
    script_add(&more, script.data + 48, 24);
    expect_error(&house, more.data, more.size, 9, "Invalid message received", "follow the end marker");
    script_free(&more);
    script_free(&script);
    wait_idle(&house);
    house_close(&house);
}

static void
limits_of_the_server(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct init init = INIT_DEFAULT(L2SQ, 1, 64);
    struct script script = random_script(&init, 12000, 7);
    struct house house;

    (void) state;
    params.max_dim = 63;
    house_open(&house, &params);
    expect_error(&house, script.data, 48, 8, "the vectors have 64 dimensions", "--max-dim");
    house_close(&house);
    params.max_dim = 64;
    params.max_rows = 11999;
    house_open(&house, &params);
    expect_error(&house, script.data, script.size, 9, "the index has more than 11999 rows", "--max-rows");
    house_close(&house);
    params.max_rows = 12000;
    params.max_memory = (size_t) 4 << 20;
    house_open(&house, &params);
    expect_error(&house, script.data, script.size, 9, "", "--max-memory");
    wait_idle(&house);
    params.max_memory = (size_t) 256 << 20;
    house_close(&house);
    house_open(&house, &params);
    anx_index_destroy(build(&house, &script, NULL));
    wait_idle(&house);
    house_close(&house);
    script_free(&script);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(recorded_sessions_are_answered),
        cmocka_unit_test(documentation_example),
        cmocka_unit_test(rows_are_converted_as_the_original_does),
        cmocka_unit_test(odd_jobs_are_built),
        cmocka_unit_test(rows_in_small_pieces),
        cmocka_unit_test(half_closed_client_gets_its_index),
        cmocka_unit_test(first_words_that_are_none),
        cmocka_unit_test(bad_requests_are_refused),
        cmocka_unit_test(bad_rows_are_named),
        cmocka_unit_test(messages_out_of_order),
        cmocka_unit_test(limits_of_the_server),
    };

    return cmocka_run_group_tests_name("indexing", tests, NULL, NULL);
}
