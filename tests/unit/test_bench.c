/* What the benchmark's figures rest on: recall with ties and copies, exact answers, interpolation, sweeps,
 * reports. */
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "bench/bench.h"

/* Rows 0, 1, 2, … on a line; row 3 is a copy of row 2. One query at 0, one at 10. */
static void
make_line(struct bench_data *data)
{
    assert_int_equal(bench_data_alloc(data, ANX_METRIC_L2, 12, 2, 1, NULL), ANX_OK);
    for (size_t i = 0; i < data->n; i++)
        data->rows[i] = (float) (i == 3 ? 2 : i);
    data->queries[0] = 0;
    data->queries[1] = 10;
}

static void
recall_counts_ties_and_no_label_twice(void **state)
{
    struct bench_data data;
    struct bench_truth truth;
    static const struct {
        uint64_t labels[6];
        double want;
    } answers[] = {
        { { 0, 1, 2, 10, 9, 11 }, 1.0 },                 /* 9 and 11 are equally near */
        { { 0, 1, 3, 10, 11, 9 }, 1.0 },                 /* the copy is as good */
        { { 2, 1, 0, 9, 10, 11 }, 1.0 },                 /* order does not matter */
        { { 0, 1, 1, 10, 9, 9 }, 4.0 / 6 },              /* a label twice counts once */
        { { 0, 1, 4, 10, 9, 8 }, 4.0 / 6 },              /* too far */
        { { 0, UINT64_MAX, UINT64_MAX, 10, 99, 9 }, 0.5 } /* short, and a label that is not there */
    };

    (void) state;
    make_line(&data);
    assert_int_equal(bench_truth_compute(&data, 3, NULL, 1, &truth, NULL), ANX_OK);
    for (size_t i = 0; i < ANX_COUNT_OF(answers); i++)
        assert_true(fabs(bench_recall(&data, &truth, answers[i].labels) - answers[i].want) < 1e-12);
    bench_truth_free(&truth);
    bench_data_free(&data);
}

static void
truth_under_a_filter_wants_what_passes(void **state)
{
    static const uint64_t bitmap[1] = { 1u << 4 | 1u << 5 }; /* two rows pass, three are asked for */
    static const uint64_t right[6] = { 4, 5, UINT64_MAX, 5, 4, UINT64_MAX };
    static const uint64_t wrong[6] = { 0, 4, UINT64_MAX, 10, 9, 11 };
    struct bench_data data;
    struct bench_truth truth;

    (void) state;
    make_line(&data);
    assert_int_equal(bench_truth_compute(&data, 3, bitmap, 1, &truth, NULL), ANX_OK);
    assert_int_equal(truth.want[0], 2);
    assert_true(bench_recall(&data, &truth, right) == 1.0);
    assert_true(bench_recall(&data, &truth, wrong) == 0.25);
    bench_truth_free(&truth);
    bench_data_free(&data);
}

static void
truth_files_are_checked(void **state)
{
    char path[] = "/tmp/anx-test-XXXXXX.ivecs";
    uint8_t file[32];
    struct bench_data data;
    struct bench_truth truth;
    anx_error err;

    (void) state;
    make_line(&data);
    for (size_t q = 0; q < 2; q++) {
        anx_store_le(file + 16 * q, 3, 4);
        for (size_t i = 0; i < 3; i++)
            anx_store_le(file + 16 * q + 4 + 4 * i, 10 * q + i, 4); /* 0 1 2, 10 11 12 */
    }
    for (int is_good = 0; is_good < 2; is_good++) {
        int fd = mkstemps(path, 6);

        if (is_good)
            anx_store_le(file + 28, 9, 4);
        assert_true(fd >= 0);
        assert_int_equal(write(fd, file, sizeof(file)), sizeof(file));
        close(fd);
        if (is_good) {
            assert_int_equal(bench_truth_read(&data, path, 3, &truth, &err), ANX_OK);
            assert_true(truth.bound[0] > 4 && truth.bound[0] < 4.001);
            assert_true(truth.bound[1] > 1 && truth.bound[1] < 1.001);
            bench_truth_free(&truth);
            assert_int_equal(bench_truth_read(&data, path, 4, &truth, &err), ANX_E_INVALID);
        } else {
            assert_int_equal(bench_truth_read(&data, path, 3, &truth, &err), ANX_E_VALUE);
            assert_non_null(strstr(err.message, "is 12, must be a row number below 12"));
        }
        unlink(path);
        memcpy(path + strlen(path) - 12, "XXXXXX", 6);
    }
    bench_data_free(&data);
}

static void
distances_are_the_metrics(void **state)
{
    static const float a[] = { 1, 2, 2 }, b[] = { 2, 0, 1 }, zero[] = { 0, 0, 0 };

    (void) state;
    assert_true(bench_distance(ANX_METRIC_L2, a, b, 3) == 6);
    assert_true(bench_distance(ANX_METRIC_IP, a, b, 3) == -4);
    assert_true(fabs(bench_distance(ANX_METRIC_COSINE, a, b, 3) - (1 - 4 / (3 * sqrt(5)))) < 1e-12);
    assert_true(bench_distance(ANX_METRIC_COSINE, a, zero, 3) == 1);
}

static void
qps_is_interpolated_at_a_recall(void **state)
{
    struct bench_curve curve = {
        .n = 3, .point = { { 10, 0.92, 1000, 0, 0 }, { 20, 0.96, 400, 0, 0 }, { 40, 0.98, 100, 0, 0 } }
    };

    (void) state;
    assert_true(bench_qps_at(&curve, 0.90) == 1000); /* the first point is already beyond */
    assert_true(bench_qps_at(&curve, 0.96) == 400 || fabs(bench_qps_at(&curve, 0.96) - 400) < 1e-9);
    assert_true(fabs(bench_qps_at(&curve, 0.94) - sqrt(1000.0 * 400.0)) < 1e-6);
    assert_true(fabs(bench_qps_at(&curve, 0.97) - 200) < 1e-6);
    assert_true(isnan(bench_qps_at(&curve, 0.99)));
    curve.n = 0;
    assert_true(isnan(bench_qps_at(&curve, 0.5)));
}

static void
a_flat_index_sweeps_to_recall_one(void **state)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    struct bench_options options = { .k = 3, .search_threads = 2, .repeat = 3 };
    struct bench_data data;
    struct bench_truth truth;
    struct bench_built built;
    struct bench_sweep sweep;
    struct bench_side sides[2];
    struct progress progress;
    double recall = 0;

    (void) state;
    progress_init(&progress, true);
    make_line(&data);
    params.kind = ANX_INDEX_FLAT;
    params.dim = 1;
    params.threads = 1;
    assert_int_equal(bench_truth_compute(&data, 3, NULL, 1, &truth, NULL), ANX_OK);
    assert_int_equal(bench_build(&params, &data, data.n, &progress, &built, NULL), ANX_OK);
    assert_int_equal(built.stats.count, data.n);
    bench_sweep_init(&sweep, &options, ANX_INDEX_FLAT, &progress);
    for (size_t i = 0; i < 2; i++)
        sides[i] = (struct bench_side){
            .index = built.index, .kind = ANX_INDEX_FLAT, .data = &data, .truth = &truth
        };
    assert_int_equal(bench_sweep_run(&sweep, sides, 2, NULL), ANX_OK);
    for (size_t i = 0; i < 2; i++) {
        assert_int_equal(sides[i].curve.n, 1);
        assert_true(sides[i].curve.point[0].recall == 1.0);
        assert_true(sides[i].curve.point[0].qps > 0);
        assert_true(sides[i].curve.point[0].p99_us >= sides[i].curve.point[0].p50_us);
    }
    assert_int_equal(bench_recall_at(&sides[0], 0, &recall, NULL), ANX_OK);
    assert_true(recall == 1.0);
    anx_index_destroy(built.index);
    bench_truth_free(&truth);
    bench_data_free(&data);
}

static void
default_lists_respect_k_and_centroids(void **state)
{
    struct bench_options options = { .k = 30, .search_threads = 1, .repeat = 1, .index.centroids = 20 };
    struct bench_sweep sweep;

    (void) state;
    bench_sweep_init(&sweep, &options, ANX_INDEX_HNSW, NULL);
    assert_int_equal(sweep.breadth.value[0], 32);
    assert_true(sweep.may_stop);
    bench_sweep_init(&sweep, &options, ANX_INDEX_IVF, NULL);
    assert_int_equal(sweep.breadth.value[0], 1);
    assert_int_equal(sweep.breadth.value[sweep.breadth.n - 1], 20);
    options.ef = (struct option_uints) { 2, { 5, 7 } };
    bench_sweep_init(&sweep, &options, ANX_INDEX_HNSW, NULL);
    assert_int_equal(sweep.breadth.n, 2);
    assert_false(sweep.may_stop);
}

static void
tables_are_aligned_markdown(void **state)
{
    struct table table = { .n_column = 2 };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);

    (void) state;
    assert_non_null(out);
    table_cell(&table, "what");
    table_cell(&table, "µs");
    table_cell(&table, "a");
    table_real(&table, 1.25, 1, "x");
    table_cell(&table, "b");
    table_real(&table, (double) NAN, 1, "x");
    table_print(&table, out);
    fclose(out);
    assert_string_equal(text, "| what |   µs |\n|------|-----:|\n| a    | 1.2x |\n| b    |    – |\n");
    table_free(&table);
    anx_free(NULL, text); /* open_memstream's block is of the process heap, as ours are */
}

static void
json_is_one_object(void **state)
{
    struct bench_curve curve = { .n = 2, .point = { { 10, 0.5, 100, 1, 2 }, { 20, 0.75, 50, 3, 4 } } };
    char *text = NULL;
    size_t size = 0;
    FILE *out = open_memstream(&text, &size);
    struct json json = { .out = out };

    (void) state;
    assert_non_null(out);
    json_begin(&json, NULL, '{');
    json_text(&json, "name", "a \"b\" \\ \n");
    json_uint(&json, "n", 7);
    json_real(&json, "none", (double) NAN);
    json_curve(&json, "runs", &curve, ANX_INDEX_IVF);
    json_begin(&json, "inner", '{');
    json_real(&json, "x", 0.25);
    json_end(&json, '}');
    json_end(&json, '}');
    fclose(out);
    assert_string_equal(text,
                        "{\"name\":\"a \\\"b\\\" \\\\ \\u000a\",\"n\":7,\"none\":null,\"runs\":["
                        "{\"nprobe\":10,\"recall\":0.5,\"qps\":100,\"p50_us\":1,\"p99_us\":2},"
                        "{\"nprobe\":20,\"recall\":0.75,\"qps\":50,\"p50_us\":3,\"p99_us\":4}],"
                        "\"inner\":{\"x\":0.25}}");
    anx_free(NULL, text);
}

static void
plots_refer_to_nothing_outside(void **state)
{
    struct bench_curve curve = { .n = 2, .point = { { 10, 0.9, 1000, 1, 2 }, { 20, 1.0, 50, 3, 4 } } };
    struct plot_series series = { "a <b>", &curve };
    char path[] = "/tmp/anx-test-XXXXXX.svg", text[16384];
    int fd = mkstemps(path, 4);
    ssize_t n;

    (void) state;
    assert_true(fd >= 0);
    assert_int_equal(plot_write(path, "t & u", &series, 1, NULL), ANX_OK);
    n = read(fd, text, sizeof(text) - 1);
    assert_true(n > 0);
    text[n] = '\0';
    close(fd);
    unlink(path);
    assert_non_null(strstr(text, "<svg xmlns=\"http://www.w3.org/2000/svg\""));
    assert_null(strstr(strstr(text, "2000/svg") + 8, "http"));
    assert_null(strstr(text, "<script"));
    assert_null(strstr(text, "a <b>"));
    assert_null(strstr(text, "nan"));
    assert_null(strstr(text, "inf"));
    assert_non_null(strstr(text, "prefers-color-scheme:dark"));
    assert_string_equal(text + n - 7, "</svg>\n");
}

static void
a_missing_peer_is_named(void **state)
{
    char message[192] = "";

    (void) state;
    assert_null(peer_open("nosuchpeer", message, sizeof(message)));
    assert_non_null(strstr(message, "nosuchpeer"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(recall_counts_ties_and_no_label_twice),
        cmocka_unit_test(truth_under_a_filter_wants_what_passes),
        cmocka_unit_test(truth_files_are_checked),
        cmocka_unit_test(distances_are_the_metrics),
        cmocka_unit_test(qps_is_interpolated_at_a_recall),
        cmocka_unit_test(a_flat_index_sweeps_to_recall_one),
        cmocka_unit_test(default_lists_respect_k_and_centroids),
        cmocka_unit_test(tables_are_aligned_markdown),
        cmocka_unit_test(json_is_one_object),
        cmocka_unit_test(plots_refer_to_nothing_outside),
        cmocka_unit_test(a_missing_peer_is_named),
    };

    return cmocka_run_group_tests_name("bench", tests, NULL, NULL);
}
