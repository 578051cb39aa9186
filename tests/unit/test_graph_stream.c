/* Graphs handed over node by node: from memory, as bytes, and from files in the Lantern layout. */
#include "test_util.h"

#include <math.h>
#include <string.h>

#include "ann/graph_stream.h"
#include "annex/index_file.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"

#define N_ROW 3000
#define DIM 20
#define assert_ok(call, err)                                            \
    do {                                                                \
        if ((call) != ANX_OK)                                           \
            fail_msg("line %d: %s", __LINE__, (err).message);           \
    } while (0)

struct bytes {
    uint8_t *data;
    size_t size, at;
};

static anx_status
keep(void *context, const void *data, size_t size, anx_error *err)
{
    struct bytes *b = context;

    (void) err;
    b->data = anx_realloc_array(NULL, b->data, b->size + size, 1);
    memcpy(b->data + b->size, data, size);
    b->size += size;
    return ANX_OK;
}

static anx_status
give(void *context, void *data, size_t size, size_t *got, anx_error *err)
{
    struct bytes *b = context;

    (void) err;
    *got = size < b->size - b->at ? size : b->size - b->at;
    memcpy(data, b->data + b->at, *got);
    b->at += *got;
    return ANX_OK;
}

enum rows_kind { ROWS_FLOAT, ROWS_BYTES, ROWS_FEW_DIFFERENT };

static void
fill(float *rows, size_t n, enum rows_kind kind)
{
    anx_rng rng = anx_rng_seed(7);

    for (size_t i = 0; i < n * DIM; i++) {
        uint64_t r = anx_rng_next(&rng);

        if (kind == ROWS_FEW_DIFFERENT && i >= 50 * DIM)
            rows[i] = rows[i - 50 * DIM];
        else
            rows[i] = kind == ROWS_BYTES ? (float) (r % 256) : (float) (r % 20000) / 1000.0f - 9.0f;
    }
}

static anx_index *
make(anx_metric metric, anx_quantization quantization, const float *rows, size_t n)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_loader *loader;
    anx_index *index;
    anx_error err;

    params.metric = metric;
    params.dim = DIM;
    params.threads = 2;
    params.m = 8;
    params.quantization = quantization;
    assert_ok(anx_index_create(&params, &index, &err), err);
    assert_ok(anx_loader_begin(index, n, &loader, &err), err);
    for (uint64_t i = 0; i < n; i++) {
        uint64_t label = i * 3 + 1;

        assert_ok(anx_loader_rows(loader, 1, &label, rows + i * DIM, &err), err);
    }
    assert_ok(anx_loader_finish(loader, NULL, NULL, &err), err);
    return index;
}

static double
distance(const float *a, const float *b)
{
    double sum = 0;

    for (size_t i = 0; i < DIM; i++)
        sum += ((double) a[i] - (double) b[i]) * ((double) a[i] - (double) b[i]);
    return sqrt(sum);
}

static void
normalize(float *x)
{
    float zero[DIM] = { 0 };
    double length = distance(x, zero);

    for (size_t i = 0; i < DIM; i++)
        x[i] = (float) ((double) x[i] / length);
}

/* No row of a node is farther from what its code stands for than the residual says; every row comes once.
 * Returns the mean residual. */
static double
check_stream(struct graph_stream *stream, const float *rows, size_t n)
{
    const struct graph_head *head = graph_stream_head(stream);
    uint8_t *seen = anx_alloc_zeroed(NULL, n, 1);
    uint64_t n_label = 0, n_link = 0, n_node = 0;
    double sum = 0;
    struct graph_node node;
    anx_error err;
    bool has;

    assert_int_equal(head->n_label, n);
    assert_int_equal(head->dim, DIM);
    for (;; n_node++) {
        float row[DIM], buffer[DIM + 1];

        assert_ok(graph_stream_next(stream, &node, &has, &err), err);
        if (!has)
            break;
        if (head->is_raw)
            memcpy(row, node.payload, sizeof(row));
        else
            space_decode(head->space, node.payload, row, buffer);
        for (size_t i = 0; i < node.n_label; i++) {
            size_t at = (size_t) (node.labels[i] - 1) / 3;
            float given[DIM];

            assert_true(at < n && node.labels[i] == at * 3 + 1 && !seen[at]);
            seen[at] = 1;
            memcpy(given, rows + at * DIM, sizeof(given));
            if (head->metric == ANX_METRIC_COSINE && !head->is_raw)
                normalize(given);
            if (distance(given, row) > (double) node.residual + 1e-5)
                fail_msg("row %zu is %g from its code, the residual is %g", at, distance(given, row),
                         (double) node.residual);
        }
        sum += (double) node.residual;
        n_label += node.n_label;
        n_link += node.n_link;
    }
    assert_int_equal(n_node, head->n_node);
    assert_int_equal(n_label, n);
    if (head->n_link)
        assert_int_equal(n_link, head->n_link);
    anx_free(NULL, seen);
    return sum / (double) n_node;
}

static struct bytes
save(const anx_index *index, anx_file_format format, bool plain)
{
    anx_save_params params = { format, plain, false };
    struct bytes out = { 0 };
    anx_sink sink = { &out, keep };
    size_t size, announced;
    anx_error err;

    assert_ok(anx_index_save_size(index, &params, &announced, &err), err);
    assert_ok(anx_index_save(index, &params, &sink, &size, &err), err);
    assert_int_equal(size, announced);
    assert_int_equal(size, out.size);
    return out;
}

static void
memory_and_bytes_give_the_same_graph(void **state)
{
    static const struct {
        anx_metric metric;
        enum rows_kind kind;
        size_t n;
        bool is_raw, is_exact;
    } cases[] = {
        { ANX_METRIC_L2, ROWS_FLOAT, N_ROW, false, false },
        { ANX_METRIC_COSINE, ROWS_FLOAT, N_ROW, false, false },
        { ANX_METRIC_L2, ROWS_BYTES, N_ROW, false, true },
        { ANX_METRIC_L2, ROWS_FEW_DIFFERENT, N_ROW, false, false },
        { ANX_METRIC_COSINE, ROWS_FLOAT, 700, true, true },
        { ANX_METRIC_L2, ROWS_FLOAT, 0, true, true },
    };
    float *rows = anx_alloc_array(NULL, (size_t) N_ROW * DIM, sizeof(float));

    (void) state;
    for (size_t c = 0; c < ANX_COUNT_OF(cases); c++) {
        struct graph_stream *a, *b;
        struct graph_node na, nb;
        struct bytes file;
        anx_source source;
        anx_index *index;
        double residual;
        anx_error err;
        bool has;

        fill(rows, cases[c].n, cases[c].kind);
        index = make(cases[c].metric, ANX_QUANTIZATION_CODES, rows, cases[c].n);
        file = save(index, ANX_FILE_GRAPH, false);
        source = (anx_source) { &file, give };
        assert_ok(graph_cursor_open(index, 1024, &a, &err), err);
        assert_ok(graph_reader_open(&source, file.size, NULL, &b, &err), err);
        assert_int_equal(graph_stream_head(a)->is_raw, cases[c].is_raw);
        assert_int_equal(graph_stream_head(a)->n_entry, graph_stream_head(b)->n_entry);
        if (!cases[c].is_raw)
            assert_true(graph_stream_head(a)->n_entry >= 1);
        for (uint64_t i = 0; i < graph_stream_head(a)->n_node; i++) {
            assert_ok(graph_stream_next(a, &na, &has, &err), err);
            assert_ok(graph_stream_next(b, &nb, &has, &err), err);
            assert_true(has && na.n_link == nb.n_link && na.n_label == nb.n_label &&
                        na.residual == nb.residual);
            assert_memory_equal(na.links, nb.links, na.n_link * 4);
            assert_memory_equal(na.labels, nb.labels, na.n_label * 8);
            assert_memory_equal(na.payload, nb.payload, graph_stream_head(a)->payload_size);
        }
        graph_stream_close(a);
        graph_stream_close(b);
        file.at = 0;
        assert_ok(graph_reader_open(&source, UINT64_MAX, NULL, &b, &err), err);
        residual = check_stream(b, rows, cases[c].n);
        assert_true(cases[c].is_exact ? !(residual > 0) : residual > 0);
        if (cases[c].kind == ROWS_FEW_DIFFERENT)
            assert_int_equal(graph_stream_head(b)->n_node, 50);
        graph_stream_close(b);
        anx_free(NULL, file.data);
        anx_index_destroy(index);
    }
    anx_free(NULL, rows);
}

static void
lantern_files_become_codes(void **state)
{
    float *rows = anx_alloc_array(NULL, (size_t) N_ROW * DIM, sizeof(float));
    anx_index_params params = ANX_INDEX_PARAMS_INIT;

    (void) state;
    params.dim = DIM;
    params.m = 8;
    for (int with_space = 0; with_space < 2; with_space++) {
        struct graph_stream *stream;
        struct bytes file;
        anx_source source = { &file, give };
        struct space space;
        anx_index *index;
        anx_error err;

        fill(rows, N_ROW, ROWS_BYTES);
        index = make(ANX_METRIC_L2, ANX_QUANTIZATION_NONE, rows, N_ROW);
        file = save(index, ANX_FILE_LANTERN, true);
        assert_ok(space_init(&space, &params, anx_kernels_best(), true, &err), err);
        assert_ok(graph_import_open(&source, &params, N_ROW, with_space ? &space : NULL, 64, &stream, &err),
                  err);
        assert_true(!(check_stream(stream, rows, N_ROW) > 0));
        assert_int_equal(graph_stream_head(stream)->n_entry, with_space ? 64 : 0);
        graph_stream_close(stream);
        file.at = 0;
        assert_int_equal(graph_import_open(&source, &params, N_ROW - 1, &space, 64, &stream, &err),
                         ANX_E_CORRUPT);
        space_fini(&space);
        anx_free(NULL, file.data);
        anx_index_destroy(index);
    }
    anx_free(NULL, rows);
}

static anx_status
read_all(const struct bytes *file, size_t size)
{
    struct bytes in = { file->data, size, 0 };
    anx_source source = { &in, give };
    struct graph_stream *stream;
    struct graph_node node;
    anx_error err = { .message = "" };
    bool has = true;
    anx_status st = graph_reader_open(&source, UINT64_MAX, NULL, &stream, &err);

    while (st == ANX_OK && has)
        st = graph_stream_next(stream, &node, &has, &err);
    if (st != ANX_OK && err.message[0] == '\0')
        fail_msg("status %d without a message", st);
    graph_stream_close(stream);
    return st;
}

static void
damage_is_refused(void **state)
{
    float *rows = anx_alloc_array(NULL, (size_t) N_ROW * DIM, sizeof(float));
    anx_rng rng = anx_rng_seed(3);
    anx_index *index;
    struct bytes file;

    (void) state;
    fill(rows, 1200, ROWS_FLOAT);
    index = make(ANX_METRIC_L2, ANX_QUANTIZATION_CODES, rows, 1200);
    file = save(index, ANX_FILE_GRAPH, false);
    assert_int_equal(read_all(&file, file.size), ANX_OK);
    for (int i = 0; i < 200; i++)
        assert_int_not_equal(read_all(&file, (size_t) (anx_rng_next(&rng) % file.size)), ANX_OK);
    for (size_t at = 0; at < 84; at++) { /* the head; codes and residuals carry no sum of their own */
        bool may_pass =
            (at >= 16 && at < 20) || (at >= 28 && at < 32) || (at >= 36 && at < 40) || (at >= 72 && at < 80);

        file.data[at] ^= 0x55;
        if (read_all(&file, file.size) == ANX_OK && !may_pass)
            fail_msg("byte %zu of the head was changed, and the graph was accepted", at);
        file.data[at] ^= 0x55;
    }
    for (int i = 0; i < 2000; i++) { /* anywhere: no crash */
        size_t at = (size_t) (anx_rng_next(&rng) % file.size);

        file.data[at] ^= (uint8_t) (1u << i % 8);
        (void) read_all(&file, file.size);
        file.data[at] ^= (uint8_t) (1u << i % 8);
    }
    anx_free(NULL, file.data);
    anx_index_destroy(index);
    anx_free(NULL, rows);
}

static void
an_index_of_codes_is_only_loaded_and_taken_over(void **state)
{
    anx_save_params params = { ANX_FILE_ANNEX, false, false };
    struct bytes out = { 0 };
    anx_sink sink = { &out, keep };
    float rows[1100 * DIM];
    uint64_t label = 99999;
    struct graph_stream *stream;
    anx_index *index;
    anx_error err;

    (void) state;
    fill(rows, 1100, ROWS_FLOAT);
    index = make(ANX_METRIC_L2, ANX_QUANTIZATION_CODES, rows, 1100);
    assert_int_equal(anx_index_add(index, label, rows, &err), ANX_E_UNSUPPORTED);
    assert_int_equal(anx_index_add_batch(index, 1, &label, rows, &err), ANX_E_UNSUPPORTED);
    assert_int_equal(anx_index_remove(index, 1, &err), ANX_E_UNSUPPORTED);
    assert_int_equal(anx_index_save(index, &params, &sink, NULL, &err), ANX_E_UNSUPPORTED);
    assert_ok(anx_index_check(index, &err), err);
    anx_index_destroy(index);
    index = make(ANX_METRIC_L2, ANX_QUANTIZATION_NONE, rows, 1100);
    assert_int_equal(graph_cursor_open(index, 10, &stream, &err), ANX_E_UNSUPPORTED);
    params.format = ANX_FILE_GRAPH;
    assert_int_equal(anx_index_save(index, &params, &sink, NULL, &err), ANX_E_UNSUPPORTED);
    anx_index_destroy(index);
    anx_free(NULL, out.data);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(memory_and_bytes_give_the_same_graph),
        cmocka_unit_test(lantern_files_become_codes),
        cmocka_unit_test(damage_is_refused),
        cmocka_unit_test(an_index_of_codes_is_only_loaded_and_taken_over),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
