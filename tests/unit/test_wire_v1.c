/* Frames of version 1 of external indexing, and the limits of a job in both versions. The golden bytes are
 * the protocol's published examples. */
#include "test_wire_hex.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/error.h"
#include "indexing/wire.h"

/* ---- version 1 ---- */

static void
version_1_examples_byte_for_byte(void **state)
{
    /* The product page's session: cosine, 3 dimensions, m 12, ef_construction 64. */
    static const char init_hex[] = "373333130000000001000000010000000300000"
                                   "00c000000400000004000000000000000000000000300000020000000";
    /* integer[] of 3, defaults, 1000 rows expected. */
    static const char hamming_hex[] = "373333130000000008000000050000006000000"
                                      "010000000800000004000000000000000"
                                      "00000000e803000001000000";
    anx_wire_job job = { .version = 1, .metric = ANX_WIRE_COSINE, .scalar = ANX_WIRE_F32,
                         .element = ANX_WIRE_F32, .dim = 3, .m = 12, .ef_construction = 64, .ef = 64,
                         .estimated_rows = 3 };
    uint8_t bytes[ANX_WIRE_V1_ERROR_MAX];
    uint8_t hello[ANX_WIRE_V1_HELLO_SIZE];
    anx_wire_job got;
    uint32_t type = 0;

    (void) state;
    anx_wire_hello_encode(hello, ANX_WIRE_INDEXER);
    assert_bytes("hello", hello, sizeof(hello), "0100000001000000");
    assert_int_equal(anx_wire_hello_decode(hello, &type, NULL), ANX_OK);
    assert_int_equal(type, ANX_WIRE_INDEXER);

    anx_wire_init_encode(bytes, &job);
    assert_bytes("INIT", bytes, ANX_WIRE_V1_INIT_SIZE, init_hex);
    assert_int_equal(anx_wire_first_of(bytes), ANX_WIRE_FIRST_INIT);
    assert_int_equal(anx_wire_init_decode(bytes, &got, NULL), ANX_OK);
    assert_true(got.metric == 1 && got.scalar == 1 && got.dim == 3 && got.m == 12 &&
                got.ef_construction == 64 && got.ef == 64 && got.estimated_rows == 3 &&
                got.element == ANX_WIRE_F32 && !got.has_pq && got.is_plain &&
                got.format == ANX_WIRE_FILE_LANTERN && got.element_bits == 32);
    assert_int_equal(anx_wire_job_check(&got, NULL), ANX_OK);
    assert_int_equal(anx_wire_vector_size(&got), 12);

    assert_int_equal(from_hex(hamming_hex, bytes), ANX_WIRE_V1_INIT_SIZE);
    assert_int_equal(anx_wire_init_decode(bytes, &got, NULL), ANX_OK);
    assert_int_equal(anx_wire_job_check(&got, NULL), ANX_OK);
    assert_int_equal(anx_wire_vector_size(&got), 12);
    assert_int_equal(got.element, ANX_WIRE_B1);
    anx_wire_init_encode(bytes, &got);
    assert_bytes("INIT for hamming", bytes, ANX_WIRE_V1_INIT_SIZE, hamming_hex);

    anx_wire_counts_encode(bytes, 3, 646);
    assert_bytes("counts", bytes, 16, "03000000000000008602000000000000");
    from_hex("37333331", bytes);
    assert_int_equal(anx_wire_row_word_of(bytes), ANX_WIRE_WORD_END);
    assert_int_equal(anx_wire_first_of(bytes), ANX_WIRE_FIRST_END);
    from_hex("37333313", bytes);
    assert_int_equal(anx_wire_row_word_of(bytes), ANX_WIRE_WORD_INIT);
    from_hex("00000000", bytes);
    assert_int_equal(anx_wire_row_word_of(bytes), ANX_WIRE_WORD_ROW);
    assert_int_equal(anx_wire_first_of(bytes), ANX_WIRE_FIRST_OTHER);
    from_hex("03000000", bytes);
    assert_int_equal(anx_wire_first_of(bytes), ANX_WIRE_FIRST_ROUTER);
}

static void
version_1_errors_end_in_zero_and_have_a_limit(void **state)
{
    uint8_t bytes[ANX_WIRE_V1_ERROR_MAX + 16];
    char text[2000];
    size_t n_text = 0;
    size_t n;
    anx_error err;

    (void) state;
    n = anx_wire_v1_error_encode(bytes, "Invalid message header");
    assert_bytes("error", bytes, n, "3733333717000000496e76616c6964206d6573736167652068656164657200");
    assert_true(anx_wire_is_error(bytes));
    assert_int_equal(anx_wire_v1_error_head(bytes, &n_text, NULL), ANX_OK);
    assert_int_equal(n_text, 23);
    /* Cut at a character's boundary: 999 bytes of two-byte characters make 998. */
    for (size_t i = 0; i + 2 < sizeof(text); i += 2)
        memcpy(text + i, "\xc3\xa9", 3);
    memset(bytes, 0xee, sizeof(bytes));
    n = anx_wire_v1_error_encode(bytes, text);
    assert_int_equal(n, ANX_WIRE_V1_ERROR_HEAD_SIZE + 999);
    assert_int_equal(anx_load_le(bytes + 4, 4), 999);
    assert_int_equal(bytes[n - 1], 0);
    assert_int_equal(bytes[n], 0xee);
    /* What a peer announces. */
    anx_store_le(bytes + 4, ANX_WIRE_V1_ERROR_IN_MAX, 4);
    assert_int_equal(anx_wire_v1_error_head(bytes, &n_text, &err), ANX_OK);
    anx_store_le(bytes + 4, ANX_WIRE_V1_ERROR_IN_MAX + 1, 4);
    assert_int_equal(anx_wire_v1_error_head(bytes, &n_text, &err), ANX_E_LIMIT);
    bytes[0] = 0;
    assert_int_equal(anx_wire_v1_error_head(bytes, &n_text, &err), ANX_E_CORRUPT);
}

static void
another_hello_is_refused(void **state)
{
    uint8_t hello[ANX_WIRE_V1_HELLO_SIZE];
    uint32_t type;
    anx_error err;

    (void) state;
    anx_wire_hello_encode(hello, ANX_WIRE_ROUTER);
    assert_int_equal(anx_wire_hello_decode(hello, &type, &err), ANX_OK);
    assert_int_equal(type, ANX_WIRE_ROUTER);
    hello[0] = 2;
    assert_int_equal(anx_wire_hello_decode(hello, &type, &err), ANX_E_VERSION);
    assert_string_equal(err.message,
                        "external index protocol version mismatch - client version: 1, server version: 2");
    hello[0] = 1;
    hello[4] = 3;
    assert_int_equal(anx_wire_hello_decode(hello, &type, &err), ANX_E_CORRUPT);
    hello[4] = 0;
    assert_int_equal(anx_wire_hello_decode(hello, &type, &err), ANX_E_CORRUPT);
}

static void
router_answers_are_checked(void **state)
{
    anx_wire_route route = { .is_secure = true, .port = 8998, .host = "build-7.example" };
    anx_wire_route got;
    uint8_t bytes[ANX_WIRE_V1_ROUTE_MAX];
    uint8_t changed[ANX_WIRE_V1_ROUTE_MAX];
    size_t n = anx_wire_route_encode(bytes, &route);
    size_t host_size = 0;
    anx_error err;

    (void) state;
    assert_bytes("route", bytes, n, "010000000f0000006275696c642d372e6578616d706c6526230000");
    assert_int_equal(anx_wire_route_head(bytes, &host_size, &err), ANX_OK);
    assert_int_equal(host_size, 15);
    assert_int_equal(anx_wire_route_decode(bytes, n, &got, &err), ANX_OK);
    assert_true(got.is_secure && got.port == 8998);
    assert_string_equal(got.host, route.host);
    for (size_t cut = 0; cut < n; cut++)
        assert_int_not_equal(anx_wire_route_decode(bytes, cut, &got, &err), ANX_OK);
    assert_int_not_equal(anx_wire_route_decode(bytes, n + 1, &got, &err), ANX_OK);
#define CHANGED(at, value, width, want)             \
    memcpy(changed, bytes, n);                      \
    anx_store_le(changed + (at), (value), (width)); \
    assert_int_equal(anx_wire_route_decode(changed, n, &got, &err), (want))
    CHANGED(0, 2, 4, ANX_E_CORRUPT);
    CHANGED(4, 0, 4, ANX_E_LIMIT);
    CHANGED(4, 256, 4, ANX_E_LIMIT);
    CHANGED(4, 0xffffffffu, 4, ANX_E_LIMIT);
    CHANGED(4, 14, 4, ANX_E_CORRUPT);
    CHANGED(10, 0, 1, ANX_E_CORRUPT);
    CHANGED(10, ' ', 1, ANX_E_CORRUPT);
    CHANGED(10, '/', 1, ANX_E_CORRUPT);
    CHANGED(23, 0, 4, ANX_E_CORRUPT);
    CHANGED(23, 65536, 4, ANX_E_CORRUPT);
#undef CHANGED
}

/* ---- jobs ---- */

static anx_wire_job
v1_job(void)
{
    return (anx_wire_job) { .version = 1, .metric = ANX_WIRE_L2SQ, .scalar = ANX_WIRE_F32,
                            .element = ANX_WIRE_F32, .element_bits = 32, .dim = 128, .m = 16,
                            .ef_construction = 128, .ef = 64, .estimated_rows = 1,
                            .format = ANX_WIRE_FILE_LANTERN, .is_plain = true };
}

static void
expect_job(const anx_wire_job *job, anx_status want, const char *text)
{
    anx_error err = { .message = "" };
    anx_status st = anx_wire_job_check(job, &err);

    if (st != want || (text && !strstr(err.message, text)))
        fail_msg("status %d (%s), expected %d (%s)", st, err.message, want, text ? text : "");
}

static void
jobs_of_version_1_have_limits(void **state)
{
    anx_wire_job job;

    (void) state;
#define WITH(field, value, want, text) \
    job = v1_job();                    \
    job.field = (value);               \
    expect_job(&job, (want), (text))
    WITH(metric, 0, ANX_E_INVALID, "Invalid metric 0");
    WITH(metric, ANX_WIRE_IP, ANX_E_INVALID, "Invalid metric 2");
    WITH(metric, 9, ANX_E_INVALID, "Invalid metric 9");
    WITH(scalar, 6, ANX_E_INVALID, "Invalid scalar quantization");
    WITH(scalar, ANX_WIRE_F64, ANX_E_UNSUPPORTED, "f64");
    WITH(scalar, ANX_WIRE_F16, ANX_OK, NULL);
    WITH(scalar, ANX_WIRE_I8, ANX_OK, NULL);
    WITH(scalar, ANX_WIRE_B1, ANX_OK, NULL);
    WITH(has_pq, true, ANX_E_UNSUPPORTED, "product quantization (pq) is not supported by this server");
    WITH(dim, 0, ANX_E_INVALID, "the dimension is 0");
    WITH(dim, 2000, ANX_OK, NULL);
    WITH(dim, 2001, ANX_E_INVALID, "allowed are 1 to 2000");
    WITH(dim, UINT32_MAX, ANX_E_INVALID, "4294967295");
    WITH(m, 1, ANX_E_INVALID, "m is 1");
    WITH(m, 128, ANX_OK, NULL);
    WITH(m, 129, ANX_E_INVALID, "m is 129");
    WITH(ef_construction, 0, ANX_E_INVALID, "ef_construction");
    WITH(ef_construction, 401, ANX_E_INVALID, "ef_construction is 401");
    WITH(ef, 0, ANX_E_INVALID, "ef is 0");
    WITH(ef, 400, ANX_OK, NULL);
    WITH(ef, 401, ANX_E_INVALID, "ef is 401");
    WITH(estimated_rows, UINT32_MAX, ANX_OK, NULL); /* only a hint */
    WITH(element_bits, 64, ANX_E_UNSUPPORTED, "64 bits");
    WITH(element_bits, 8, ANX_E_UNSUPPORTED, "8 bits");
    WITH(metric, ANX_WIRE_HAMMING, ANX_E_INVALID, "hamming");
    WITH(element, ANX_WIRE_B1, ANX_E_INVALID, "element kind");
    /* quant_bits = 1 */
    job = v1_job();
    job.scalar = ANX_WIRE_B1;
    job.dim = 100;
    expect_job(&job, ANX_E_UNSUPPORTED, "multiple of 8");
    /* hamming over bits */
    job = v1_job();
    job.metric = ANX_WIRE_HAMMING;
    job.scalar = ANX_WIRE_B1;
    job.element = ANX_WIRE_B1;
    job.element_bits = 1;
    job.dim = 64000;
    expect_job(&job, ANX_OK, NULL);
    assert_int_equal(anx_wire_vector_size(&job), 8000);
    job.dim = 64032;
    expect_job(&job, ANX_E_INVALID, "allowed are 1 to 64000");
#undef WITH
}

static void
jobs_of_version_2_have_the_engines_limits(void **state)
{
    anx_wire_job job;

    (void) state;
#define WITH(field, value, want, text) \
    job = v1_job();                    \
    job.version = 2;                   \
    job.field = (value);               \
    expect_job(&job, (want), (text))
    WITH(metric, ANX_WIRE_IP, ANX_OK, NULL);
    WITH(dim, ANX_DIM_MAX, ANX_OK, NULL);
    WITH(dim, ANX_DIM_MAX + 1, ANX_E_INVALID, "the dimension");
    WITH(m, 0, ANX_OK, NULL);
    WITH(m, 1, ANX_E_INVALID, "m is 1");
    WITH(ef_construction, 0, ANX_OK, NULL);
    WITH(ef_construction, ANX_HNSW_EF_CONSTRUCTION_MAX, ANX_OK, NULL);
    WITH(ef_construction, ANX_HNSW_EF_CONSTRUCTION_MAX + 1, ANX_E_INVALID, "ef_construction");
    WITH(ef, 0, ANX_OK, NULL);
    WITH(ef, ANX_WIRE_EF_MAX + 1, ANX_E_INVALID, "ef is");
    WITH(format, 0, ANX_E_UNSUPPORTED, "file format 0");
    WITH(format, ANX_WIRE_FILE_GRAPH, ANX_E_INVALID, "neither plain nor native"); /* the job is plain */
    WITH(format, 5, ANX_E_UNSUPPORTED, "file format 5");
    WITH(format, ANX_WIRE_FILE_ANNEX, ANX_OK, NULL);
    WITH(is_native, true, ANX_E_INVALID, "plain and native");
    WITH(element, ANX_WIRE_F16, ANX_E_INVALID, "element kind 3");
    job = v1_job();
    job.version = 2;
    job.element = ANX_WIRE_F16;
    job.scalar = ANX_WIRE_F16;
    expect_job(&job, ANX_OK, NULL);
    assert_int_equal(anx_wire_vector_size(&job), 256);
#undef WITH
    job.element = 7;
    assert_int_equal(anx_wire_vector_size(&job), 0);
}

static void
numbers_map_both_ways(void **state)
{
    static const anx_metric metrics[] = { ANX_METRIC_L2, ANX_METRIC_IP, ANX_METRIC_COSINE,
                                          ANX_METRIC_HAMMING };
    static const anx_scalar scalars[] = { ANX_SCALAR_F32, ANX_SCALAR_F16, ANX_SCALAR_I8, ANX_SCALAR_B1 };
    static const anx_file_format formats[] = { ANX_FILE_ANNEX, ANX_FILE_USEARCH, ANX_FILE_LANTERN,
                                                ANX_FILE_GRAPH };
    anx_metric metric;
    anx_scalar scalar;
    anx_file_format format;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(metrics); i++) {
        assert_true(anx_wire_metric(anx_wire_of_metric(metrics[i]), &metric));
        assert_int_equal(metric, metrics[i]);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(scalars); i++) {
        assert_true(anx_wire_scalar(anx_wire_of_scalar(scalars[i]), &scalar));
        assert_int_equal(scalar, scalars[i]);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(formats); i++) {
        assert_true(anx_wire_format(anx_wire_of_format(formats[i]), &format));
        assert_int_equal(format, formats[i]);
    }
    assert_int_equal(anx_wire_of_scalar(ANX_SCALAR_U8), 0);
    assert_false(anx_wire_metric(7, &metric));
    assert_false(anx_wire_scalar(2, &scalar));
    assert_false(anx_wire_format(0, &format));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(version_1_examples_byte_for_byte),
        cmocka_unit_test(version_1_errors_end_in_zero_and_have_a_limit),
        cmocka_unit_test(another_hello_is_refused),
        cmocka_unit_test(router_answers_are_checked),
        cmocka_unit_test(jobs_of_version_1_have_limits),
        cmocka_unit_test(jobs_of_version_2_have_the_engines_limits),
        cmocka_unit_test(numbers_map_both_ways),
    };

    return cmocka_run_group_tests_name("wire_v1", tests, NULL, NULL);
}
