/* Vector files: every kind read right, every damage refused, conversions exact. */
#include "test_util.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/rng.h"
#include "cli/dataset.h"

/* A .npy file in memory: version, head text (padded by nothing: readers must not need it), data. */
struct npy {
    uint8_t bytes[4096];
    size_t size;
};

static void
npy_make(struct npy *f, unsigned major, const char *dict, const void *data, size_t data_size)
{
    size_t n = strlen(dict), at = major == 1 ? 10 : 12;

    assert_true(at + n + data_size <= sizeof(f->bytes));
    memcpy(f->bytes, "\x93NUMPY", 6);
    f->bytes[6] = (uint8_t) major;
    f->bytes[7] = 0;
    anx_store_le(f->bytes + 8, n, major == 1 ? 2 : 4);
    memcpy(f->bytes + at, dict, n);
    memcpy(f->bytes + at + n, data, data_size);
    f->size = at + n + data_size;
}

/* Parses from a block that ends with the file, so that AddressSanitizer sees a read beyond it. */
static anx_status
parse_exact(const uint8_t *bytes, size_t size, enum dataset_format format, struct dataset *out, void **block,
            anx_error *err)
{
    *block = anx_alloc_bytes(NULL, size ? size : 1);
    assert_non_null(*block);
    memcpy(*block, bytes, size);
    return dataset_parse(*block, size, format, out, err);
}

static void
every_version_and_kind_is_read(void **state)
{
    static const uint8_t u8[] = { 0, 1, 2, 253, 254, 255 };
    static const int8_t i8[] = { -128, -1, 0, 1, 2, 127 };
    static const uint16_t f16[] = {
        0x0000, 0x3c00, 0xc000, 0x3555, 0x7bff, 0x0001
    }; /* 0, 1, -2, 0.33, 65504, 2^-24 */
    static const float f32[] = { 0, 1, -2.5f, 1e30f, 3, 4 };
    static const double f64[] = { 0, 1, -2.5, 1e30, 3, 4 };
    static const int32_t i32[] = { 0, 1, -2, 1000000, 3, 4 };
    static const int64_t i64[] = { 0, 1, -2, 5000000000, 3, 4 };
    static const float f16_want[] = { 0, 1, -2, 0.333251953125f, 65504, 0x1p-24f };
    static const struct {
        const char *descr;
        const void *data;
        size_t size;
        enum dataset_type type;
        const float *want; /* NULL: see below */
    } kinds[] = {
        { "'|u1'", u8, 6, DATASET_U8, NULL },       { "\"<u1\"", u8, 6, DATASET_U8, NULL },
        { "'|i1'", i8, 6, DATASET_I8, NULL },       { "'<f2'", f16, 12, DATASET_F16, f16_want },
        { "'<f4'", f32, 24, DATASET_F32, f32 },     { "'<f8'", f64, 48, DATASET_F64, f32 },
        { "'<i4'", i32, 24, DATASET_I32, NULL },    { "'<i8'", i64, 48, DATASET_I64, NULL },
    };

    (void) state;
    for (unsigned major = 1; major <= 3; major++)
        for (size_t i = 0; i < ANX_COUNT_OF(kinds); i++) {
            struct npy f;
            char dict[128];
            struct dataset d;
            void *block;
            float got[6];

            snprintf(dict, sizeof(dict), "{'descr': %s, 'fortran_order': False, 'shape': (2, 3), }",
                     kinds[i].descr);
            npy_make(&f, major, dict, kinds[i].data, kinds[i].size);
            assert_int_equal(parse_exact(f.bytes, f.size, DATASET_NPY, &d, &block, NULL), ANX_OK);
            assert_int_equal(d.rows, 2);
            assert_int_equal(d.dim, 3);
            assert_int_equal(d.type, kinds[i].type);
            assert_int_equal(dataset_read(&d, ANX_SCALAR_F32, 0, 2, got, NULL), ANX_OK);
            for (size_t j = 0; j < 6; j++) {
                int64_t v;

                if (kinds[i].want) {
                    assert_true(got[j] == kinds[i].want[j]);
                    assert_false(dataset_integer(&d, j / 3, j % 3, &v));
                } else {
                    assert_true(dataset_integer(&d, j / 3, j % 3, &v));
                    assert_true((float) v == got[j]);
                }
            }
            dataset_close(&d);
            anx_free(NULL, block);
        }
}

static void
integers_keep_their_value(void **state)
{
    static const int64_t i64[] = { INT64_MIN, INT64_MAX, -1, 4294967296 };
    struct npy f;
    struct dataset d;
    int64_t v;

    (void) state;
    npy_make(&f, 1, "{'shape': (2, 2), 'fortran_order': False, 'descr': '<i8'}", i64, sizeof(i64));
    assert_int_equal(dataset_parse(f.bytes, f.size, DATASET_NPY, &d, NULL), ANX_OK);
    for (size_t i = 0; i < 4; i++) {
        assert_true(dataset_integer(&d, i / 2, i % 2, &v));
        assert_true(v == i64[i]);
    }
    assert_false(dataset_integer(&d, 2, 0, &v));
    assert_false(dataset_integer(&d, 0, 2, &v));
}

static void
heads_that_lie_or_are_not_ours_are_refused(void **state)
{
    static const struct {
        const char *dict;
        anx_status status;
    } heads[] = {
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 4), }",
          ANX_E_CORRUPT }, /* 32 bytes, 24 are there */
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (4611686018427387904, 4), }", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (18446744073709551616, 1), }", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (0, 3), }", ANX_E_UNSUPPORTED },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 65537), }", ANX_E_UNSUPPORTED },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (6,), }", ANX_E_UNSUPPORTED },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (), }", ANX_E_UNSUPPORTED },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 2, 3), }", ANX_E_UNSUPPORTED },
        { "{'descr': '<f4', 'fortran_order': True, 'shape': (2, 3), }", ANX_E_UNSUPPORTED },
        { "{'descr': '>f4', 'fortran_order': False, 'shape': (2, 3), }", ANX_E_UNSUPPORTED },
        { "{'descr': '<c8', 'fortran_order': False, 'shape': (2, 3), }", ANX_E_UNSUPPORTED },
        { "{'descr': [('a', '<f4')], 'fortran_order': False, 'shape': (2, 3), }", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'shape': (2, 3), }", ANX_E_CORRUPT },
        { "{'fortran_order': False, 'shape': (2, 3), }", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'fortran_order': False}", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3)", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'fortran_order': Maybe, 'shape': (2, 3)}", ANX_E_CORRUPT },
        { "{'descr': '<f4, 'fortran_order': False, 'shape': (2, 3)}", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (-2, 3)}", ANX_E_CORRUPT },
        { "{'descr': '<f4', 'fortran_order': False, 'shape': (2 3)}", ANX_E_CORRUPT },
        { "{'other': '<f4'}", ANX_E_CORRUPT },
        { "", ANX_E_CORRUPT },
        { "{", ANX_E_CORRUPT },
    };
    static const float data[6] = { 0 };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(heads); i++) {
        struct npy f;
        struct dataset d;
        void *block;
        anx_error err;

        npy_make(&f, 1, heads[i].dict, data, sizeof(data));
        if (parse_exact(f.bytes, f.size, DATASET_NPY, &d, &block, &err) != heads[i].status)
            fail_msg("head %s: %s", heads[i].dict, err.message);
        assert_null(d.data);
        assert_true(err.message[0] != '\0');
        anx_free(NULL, block);
    }
}

static void
one_row_or_column_may_be_in_fortran_order(void **state)
{
    static const float data[3] = { 1, 2, 3 };
    struct npy f;
    struct dataset d;
    float got[3];

    (void) state;
    npy_make(&f, 1, "{'descr': '<f4', 'fortran_order': True, 'shape': (1, 3), }", data, sizeof(data));
    assert_int_equal(dataset_parse(f.bytes, f.size, DATASET_NPY, &d, NULL), ANX_OK);
    assert_int_equal(dataset_read(&d, ANX_SCALAR_F32, 0, 1, got, NULL), ANX_OK);
    assert_memory_equal(got, data, sizeof(data));
}

static void
every_cut_is_refused(void **state)
{
    static const float data[6] = { 1, 2, 3, 4, 5, 6 };
    struct npy f;

    (void) state;
    npy_make(&f, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", data, sizeof(data));
    for (size_t size = 0; size < f.size; size++) {
        struct dataset d;
        void *block;
        anx_error err;

        assert_int_not_equal(parse_exact(f.bytes, size, DATASET_NPY, &d, &block, &err), ANX_OK);
        anx_free(NULL, block);
    }
    f.bytes[6] = 4;
    {
        struct dataset d;

        assert_int_equal(dataset_parse(f.bytes, f.size, DATASET_NPY, &d, NULL), ANX_E_VERSION);
    }
}

/* Whatever a flipped byte makes of the head, what is accepted must lie within the file. */
static void
flipped_heads_stay_inside_the_file(void **state)
{
    static const float data[6] = { 1, 2, 3, 4, 5, 6 };
    struct npy f;

    (void) state;
    npy_make(&f, 1, "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 3), }", data, sizeof(data));
    for (size_t at = 0; at < f.size - sizeof(data); at++)
        for (unsigned value = 0; value < 256; value++) {
            uint8_t old = f.bytes[at];
            struct dataset d;
            void *block;
            float row[64];

            f.bytes[at] = (uint8_t) value;
            if (parse_exact(f.bytes, f.size, DATASET_NPY, &d, &block, NULL) == ANX_OK) {
                assert_true(d.data >= (uint8_t *) block && d.rows > 0 && d.dim > 0);
                assert_true(d.data + (d.rows - 1) * d.stride + d.dim <= (uint8_t *) block + f.size);
                assert_true(d.dim <= ANX_COUNT_OF(row));
                for (size_t r = 0; r < d.rows; r++)
                    assert_int_equal(dataset_read(&d, ANX_SCALAR_F32, r, 1, row, NULL), ANX_OK);
            }
            f.bytes[at] = old;
            anx_free(NULL, block);
        }
}

static void
vecs_files_are_read_and_checked(void **state)
{
    static const struct {
        enum dataset_format format;
        enum dataset_type type;
        size_t element;
    } kinds[] = { { DATASET_FVECS, DATASET_F32, 4 },
                  { DATASET_BVECS, DATASET_U8, 1 },
                  { DATASET_IVECS, DATASET_I32, 4 } };

    (void) state;
    for (size_t k = 0; k < ANX_COUNT_OF(kinds); k++) {
        uint8_t file[64] = { 0 };
        size_t stride = 4 + 3 * kinds[k].element, size = 2 * stride;
        struct dataset d;
        void *block;
        float got[6];

        for (size_t r = 0; r < 2; r++) {
            anx_store_le(file + r * stride, 3, 4);
            for (size_t c = 0; c < 3; c++) {
                float value = (float) (r * 3 + c);
                uint32_t bits = (uint32_t) (r * 3 + c);

                if (kinds[k].type == DATASET_F32)
                    memcpy(&bits, &value, 4);
                anx_store_le(file + r * stride + 4 + c * kinds[k].element, bits, kinds[k].element);
            }
        }
        assert_int_equal(parse_exact(file, size, kinds[k].format, &d, &block, NULL), ANX_OK);
        assert_int_equal(d.rows, 2);
        assert_int_equal(d.dim, 3);
        assert_int_equal(d.type, kinds[k].type);
        assert_int_equal(dataset_read(&d, ANX_SCALAR_F32, 0, 2, got, NULL), ANX_OK);
        for (size_t i = 0; i < 6; i++)
            assert_true(got[i] == (float) i);
        assert_int_equal(dataset_read(&d, ANX_SCALAR_F32, 1, 2, got, NULL), ANX_E_INVALID);
        anx_free(NULL, block);

        for (size_t cut = 0; cut < size; cut++) {
            if (cut == stride)
                continue; /* one whole row is a file */
            assert_int_equal(parse_exact(file, cut, kinds[k].format, &d, &block, NULL), ANX_E_CORRUPT);
            anx_free(NULL, block);
        }
        anx_store_le(file + stride, 4, 4); /* the second row disagrees */
        assert_int_equal(dataset_parse(file, size, kinds[k].format, &d, NULL), ANX_E_CORRUPT);
        anx_store_le(file, 0xffffffff, 4);
        assert_int_equal(dataset_parse(file, size, kinds[k].format, &d, NULL), ANX_E_CORRUPT);
    }
}

static void
conversions_are_exact_or_refused(void **state)
{
    static const float data[] = { -3, 0, 7, 255, 127, 1.5f, 0, 1, 2, 3 };
    struct npy f;
    struct dataset d;
    uint8_t bytes[20];
    uint16_t half[10];
    anx_error err;

    (void) state;
    npy_make(&f, 2, "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 10), }", data, sizeof(data));
    assert_int_equal(dataset_parse(f.bytes, f.size, DATASET_NPY, &d, NULL), ANX_OK);
    assert_int_equal(dataset_read(&d, ANX_SCALAR_U8, 0, 1, bytes, &err), ANX_E_VALUE);
    assert_non_null(strstr(err.message, "row 0, column 0 is -3"));
    assert_int_equal(dataset_read(&d, ANX_SCALAR_I8, 0, 1, bytes, &err), ANX_E_VALUE);
    assert_non_null(strstr(err.message, "column 3 is 255"));
    assert_int_equal(dataset_read(&d, ANX_SCALAR_F16, 0, 1, half, NULL), ANX_OK);
    assert_int_equal(half[0], 0xc200);
    assert_int_equal(half[5], 0x3e00);
    memset(bytes, 0xff, sizeof(bytes));
    assert_int_equal(dataset_dim(&d, ANX_SCALAR_B1), 10);
    assert_int_equal(dataset_read(&d, ANX_SCALAR_B1, 0, 1, bytes, NULL), ANX_OK);
    assert_int_equal(bytes[0], 0x3d); /* -3 0 7 255 127 1.5 0 1 */
    assert_int_equal(bytes[1], 0xc0);
    assert_int_equal(bytes[2], 0xff);
}

static void
byte_rows_are_kept_or_are_bits(void **state)
{
    static const uint8_t data[] = { 1, 2, 250, 0x80, 0, 7 };
    struct npy f;
    struct dataset d;
    uint8_t out[6];

    (void) state;
    npy_make(&f, 1, "{'descr': '|u1', 'fortran_order': False, 'shape': (2, 3), }", data, sizeof(data));
    assert_int_equal(dataset_parse(f.bytes, f.size, DATASET_NPY, &d, NULL), ANX_OK);
    assert_int_equal(dataset_scalar(&d), ANX_SCALAR_U8);
    assert_int_equal(dataset_read(&d, ANX_SCALAR_U8, 0, 2, out, NULL), ANX_OK);
    assert_memory_equal(out, data, 6);
    assert_int_equal(dataset_dim(&d, ANX_SCALAR_B1), 24);
    assert_int_equal(dataset_read(&d, ANX_SCALAR_B1, 0, 2, out, NULL), ANX_OK);
    assert_memory_equal(out, data, 6);
    assert_int_equal(dataset_read(&d, ANX_SCALAR_I8, 0, 2, out, NULL), ANX_E_VALUE);
}

/* Rows longer than the pieces that conversion works in. */
static void
long_rows_are_read_whole(void **state)
{
    enum { DIM = 1300, ROWS = 3 };
    uint8_t *file = anx_alloc_bytes(NULL, ROWS * (4 + DIM));
    float *row = anx_alloc_array(NULL, DIM, sizeof(*row));
    anx_rng rng = anx_rng_seed(5);
    struct dataset d;

    (void) state;
    assert_non_null(file);
    assert_non_null(row);
    for (size_t r = 0; r < ROWS; r++) {
        anx_store_le(file + r * (4 + DIM), DIM, 4);
        for (size_t c = 0; c < DIM; c++)
            file[r * (4 + DIM) + 4 + c] = (uint8_t) anx_rng_below(&rng, 256);
    }
    assert_int_equal(dataset_parse(file, ROWS * (4 + DIM), DATASET_BVECS, &d, NULL), ANX_OK);
    for (size_t r = 0; r < ROWS; r++) {
        assert_int_equal(dataset_read(&d, ANX_SCALAR_F32, r, 1, row, NULL), ANX_OK);
        for (size_t c = 0; c < DIM; c++)
            assert_true(row[c] == (float) file[r * (4 + DIM) + 4 + c]);
    }
    anx_free(NULL, file);
    anx_free(NULL, row);
}

static void
wide_doubles_become_infinite_not_undefined(void **state)
{
    static const double data[] = { 1e300, -1e300, (double) NAN };
    struct npy f;
    struct dataset d;
    float got[3];

    (void) state;
    npy_make(&f, 1, "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3), }", data, sizeof(data));
    assert_int_equal(dataset_parse(f.bytes, f.size, DATASET_NPY, &d, NULL), ANX_OK);
    assert_int_equal(dataset_read(&d, ANX_SCALAR_F32, 0, 1, got, NULL), ANX_OK);
    assert_true(isinf(got[0]) && got[0] > 0 && isinf(got[1]) && got[1] < 0 && isnan(got[2]));
}

static void
files_are_opened_by_their_name(void **state)
{
    static const uint8_t bvecs[] = { 2, 0, 0, 0, 5, 6 };
    char path[] = "/tmp/anx-test-XXXXXX.bvecs", other[64];
    int fd = mkstemps(path, 6);
    struct dataset d;
    anx_error err;

    (void) state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, bvecs, sizeof(bvecs)), sizeof(bvecs));
    close(fd);
    assert_int_equal(dataset_open(path, &d, &err), ANX_OK);
    assert_int_equal(d.rows, 1);
    assert_int_equal(d.dim, 2);
    dataset_close(&d);
    dataset_close(&d); /* closing twice is harmless */

    snprintf(other, sizeof(other), "%.*s.npy", (int) strlen(path) - 6, path);
    assert_int_equal(dataset_open(other, &d, &err), ANX_E_IO);
    assert_int_equal(rename(path, other), 0);
    assert_int_equal(dataset_open(other, &d, &err), ANX_E_CORRUPT);
    assert_non_null(strstr(err.message, ".npy"));
    assert_int_equal(truncate(other, 0), 0);
    assert_int_equal(dataset_open(other, &d, &err), ANX_E_UNSUPPORTED);
    unlink(other);
    assert_int_equal(dataset_open("rows.csv", &d, &err), ANX_E_UNSUPPORTED);
    assert_int_equal(dataset_open("/tmp/.npy", &d, &err), ANX_E_IO);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_version_and_kind_is_read),
        cmocka_unit_test(integers_keep_their_value),
        cmocka_unit_test(heads_that_lie_or_are_not_ours_are_refused),
        cmocka_unit_test(one_row_or_column_may_be_in_fortran_order),
        cmocka_unit_test(every_cut_is_refused),
        cmocka_unit_test(flipped_heads_stay_inside_the_file),
        cmocka_unit_test(vecs_files_are_read_and_checked),
        cmocka_unit_test(conversions_are_exact_or_refused),
        cmocka_unit_test(byte_rows_are_kept_or_are_bits),
        cmocka_unit_test(long_rows_are_read_whole),
        cmocka_unit_test(wide_doubles_become_infinite_not_undefined),
        cmocka_unit_test(files_are_opened_by_their_name),
    };

    return cmocka_run_group_tests_name("dataset", tests, NULL, NULL);
}
