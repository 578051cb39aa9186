/* Index files: bytes against the reference dumps, round trips, foreign dialects, forged fields, files on
 * disk. Damage is in test_file_damage.c, the real kinds in test_file_kinds.c. */
#include "test_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "test_file_toy.h"

/* --- reference dumps
 * --------------------------------------------------------------------------------------------- */

/* "xx xx" as bytes; "*N" repeats a zero byte N times. */
static struct bytes
from_hex(const char *text)
{
    struct bytes bytes = { 0 };

    while (*text) {
        char *end;
        uint8_t byte = 0;
        unsigned long n = 1;

        if (*text == ' ') {
            text++;
            continue;
        }
        if (*text == '*')
            n = strtoul(text + 1, &end, 10);
        else
            byte = (uint8_t) strtoul(text, &end, 16);
        for (; n > 0; n--)
            (void) bytes_write(&bytes, &byte, 1, NULL);
        text = end;
    }
    return bytes;
}

static struct toy *
three_rows(const uint64_t labels[3], const uint32_t links[3][2])
{
    static const float rows[9] = { 0, 0, 0, 0, 1, 0, 1, 0, 0 };
    anx_index_params params = toy_params(ANX_METRIC_COSINE, ANX_SCALAR_F32, 3, 12);
    struct toy *toy = toy_create(&params, 3, 12, 24);

    memcpy(toy->rows, rows, sizeof(rows));
    for (size_t i = 0; i < 3; i++) {
        assert_true(toy_level(toy, i, 0));
        toy->labels[i] = labels[i];
        for (size_t j = 0; j < 2; j++)
            toy_link(toy, i, 0, links[i][j]);
    }
    return toy;
}

static void
check_dump(const struct toy *toy, anx_file_format format, const char *dump)
{
    struct bytes want = from_hex(dump), got = save(toy, format, true, false);
    struct toy *loaded;
    anx_error err;

    assert_int_equal(got.size, want.size);
    for (size_t i = 0; i < want.size; i++)
        if (got.data[i] != want.data[i])
            fail_msg("byte %zu is %02x, the dump has %02x", i, got.data[i], want.data[i]);
    assert_int_equal(load(got.data, got.size, true, NULL, &loaded, &err), ANX_OK);
    assert_true(toy_equal(toy, loaded));
    anx_index_destroy(&loaded->head);
    bytes_free(&want);
    bytes_free(&got);
}

static void
lantern_matches_the_reference_dump(void **state)
{
    static const uint64_t labels[3] = { 1ull << 32, 2ull << 32, 3ull << 32 };
    static const uint32_t links[3][2] = { { 1, 2 }, { 0, 2 }, { 1, 0 } };
    struct toy *toy = three_rows(labels, links);

    (void) state;
    check_dump(toy, ANX_FILE_LANTERN,
               "75 73 65 61 72 63 68 02 00 08 00 0e 00 63 05 08 10 03 *7 *8 03 *7 00 *38 "
               "03 *7 0c *7 18 *7 *8 *8 0c *7 03 *7 "
               "00 00 00 00 01 00 00 00 00 00 02 00 00 00 01 00 00 00 00 00 02 00 00 00 00 00 *132 *12 "
               "00 00 00 00 02 00 00 00 00 00 02 00 00 00 00 00 00 00 00 00 02 00 00 00 00 00 *132 "
               "00 00 00 00 00 00 80 3f 00 00 00 00 "
               "00 00 00 00 03 00 00 00 00 00 02 00 00 00 01 00 00 00 00 00 00 00 00 00 00 00 *132 "
               "00 00 80 3f 00 00 00 00 00 00 00 00");
    anx_index_destroy(&toy->head);
}

/* As written by 2.21.0 except for the version, where we stamp 2.17.0. */
static void
usearch_matches_the_reference_dump(void **state)
{
    static const uint64_t labels[3] = { 100, 101, 102 };
    static const uint32_t links[3][2] = { { 1, 2 }, { 0, 2 }, { 0, 1 } };
    struct toy *toy = three_rows(labels, links);

    (void) state;
    check_dump(toy, ANX_FILE_USEARCH,
               "03 00 00 00 0c 00 00 00 *12 00 00 00 00 00 00 80 3f 00 00 00 00 00 00 80 3f *8 "
               "75 73 65 61 72 63 68 02 00 11 00 00 00 63 0b 0e 0f 03 *7 *8 03 *7 00 *22 "
               "03 *7 0c *7 18 *7 *8 *8 *6 "
               "64 *7 00 00 02 00 00 00 01 00 00 00 02 00 00 00 *88 "
               "65 *7 00 00 02 00 00 00 00 00 00 00 02 00 00 00 *88 "
               "66 *7 00 00 02 00 00 00 00 00 00 00 01 00 00 00 *88");
    anx_index_destroy(&toy->head);
}

static void
sizes_match_the_reference_table(void **state)
{
    static const struct {
        anx_metric metric;
        anx_scalar scalar;
        size_t dim, n, lantern;
    } cases[] = {
        { ANX_METRIC_COSINE, ANX_SCALAR_F32, 3, 3, 646 }, { ANX_METRIC_L2, ANX_SCALAR_F16, 3, 3, 628 },
        { ANX_METRIC_IP, ANX_SCALAR_I8, 3, 3, 619 },      { ANX_METRIC_HAMMING, ANX_SCALAR_B1, 8, 3, 613 },
        { ANX_METRIC_L2, ANX_SCALAR_F32, 3, 0, 136 },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        anx_index_params params = toy_params(cases[i].metric, cases[i].scalar, cases[i].dim, 12);
        struct toy *toy = toy_create(&params, cases[i].n, 12, 24);
        struct bytes file;

        for (size_t j = 0; j < cases[i].n; j++) {
            toy->labels[j] = j;
            assert_true(toy_level(toy, j, 0));
        }
        file = save(toy, ANX_FILE_LANTERN, true, false);
        assert_int_equal(file.size, cases[i].lantern);
        expect_status(&file, ANX_OK, "reference size");
        bytes_free(&file);
        file = save(toy, ANX_FILE_USEARCH, true, false);
        if (cases[i].n == 0)
            assert_int_equal(file.size, 112);
        expect_status(&file, ANX_OK, "reference size");
        bytes_free(&file);
        anx_index_destroy(&toy->head);
    }
}

/* --- recorded answers of the original server
 * ----------------------------------------------------------------------- */

static struct bytes
read_file(const char *path)
{
    struct bytes bytes = { 0 };
    FILE *file = fopen(path, "rb");
    uint8_t piece[4096];
    size_t n;

    if (!file)
        return bytes;
    while ((n = fread(piece, 1, sizeof(piece), file)) > 0)
        (void) bytes_write(&bytes, piece, n, NULL);
    fclose(file);
    return bytes;
}

/* Every row that the client sent is in the file under its label; f32 rows bit for bit. */
static void
compare_with_client(const struct toy *toy, const struct bytes *client, const char *name)
{
    size_t dim = anx_load_le(client->data + 16, 4);
    size_t row_size = anx_load_le(client->data + 44, 4) == 1 ? (dim + 7) / 8 : 4 * dim;
    bool is_raw = row_size == toy->head.row_size;
    size_t n = (client->size - 48 - 4) / (8 + row_size);

    assert_int_equal(dim, toy->head.params.dim);
    assert_int_equal(n, toy->n);
    for (size_t i = 0; i < n; i++) {
        const uint8_t *row = client->data + 48 + i * (8 + row_size);
        size_t j = 0;

        while (j < n && toy->labels[j] != anx_load_le(row, 8))
            j++;
        if (j == n || (is_raw && memcmp(toy->rows + j * row_size, row + 8, row_size) != 0))
            fail_msg("%s: row %zu is %s", name, i, j == n ? "missing" : "different");
    }
}

static void
recorded_lantern_files_load(void **state)
{
    static const char *const names[] = { "l2sq_f32", "cos_f32", "hamming", "l2sq_f16", "cos_i8", "one_row" };
    const char *root = getenv("ANX_SOURCE_ROOT");

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(names); i++) {
        char path[4096];
        struct bytes client, server;
        struct toy *toy;
        anx_error err;

        snprintf(path, sizeof(path), "%s/../shared/golden/lantern/%s.client", root ? root : ".", names[i]);
        client = read_file(path);
        snprintf(path, sizeof(path), "%s/../shared/golden/lantern/%s.server", root ? root : ".", names[i]);
        server = read_file(path);
        if (!client.data || !server.data) {
            print_message("# no recordings at %s\n", path);
            bytes_free(&client);
            bytes_free(&server);
            skip();
        }
        /* hello 8, acknowledgement 1, number of rows 8, size 8, the file */
        assert_int_equal(server.size - 25, anx_load_le(server.data + 17, 8));
        for (int is_sized = 0; is_sized < 2; is_sized++) {
            if (load(server.data + 25, server.size - 25, is_sized, NULL, &toy, &err) != ANX_OK)
                fail_msg("%s: %s", names[i], err.message);
            assert_int_equal(toy->n, anx_load_le(server.data + 9, 8));
            compare_with_client(toy, &client, names[i]);
            if (is_sized) { /* and what we write of it is the same file */
                struct bytes again = save(toy, ANX_FILE_LANTERN, true, false);

                assert_int_equal(again.size, server.size - 25);
                anx_index_destroy(&toy->head);
                assert_int_equal(load(again.data, again.size, true, NULL, &toy, &err), ANX_OK);
                compare_with_client(toy, &client, names[i]);
                bytes_free(&again);
            }
            anx_index_destroy(&toy->head);
        }
        bytes_free(&client);
        bytes_free(&server);
    }
}

/* --- round trips
 * ------------------------------------------------------------------------------------------------- */

static void
round_trip(const struct toy *toy, const struct variant *v)
{
    struct bytes file = save(toy, v->format, v->plain, v->native);

    for (int is_sized = 0; is_sized < 2; is_sized++) {
        struct toy *loaded;
        anx_error err;

        if (load(file.data, file.size, is_sized, NULL, &loaded, &err) != ANX_OK)
            fail_msg("%s, %zu rows of %zu %s: %s", v->name, toy->n, toy->head.params.dim,
                     anx_scalar_name(toy->head.params.scalar), err.message);
        if (!toy_equal(toy, loaded))
            fail_msg("%s, %zu rows of %zu %s: came back different", v->name, toy->n, toy->head.params.dim,
                     anx_scalar_name(toy->head.params.scalar));
        anx_index_destroy(&loaded->head);
    }
    bytes_free(&file);
}

static void
every_format_round_trips(void **state)
{
    static const size_t counts[] = { 0, 1, 2, 57, 400 };
    static const size_t dims[] = { 1, 8, 24, 104 };

    (void) state;
    for (int scalar = 0; scalar < ANX_SCALAR_COUNT; scalar++)
        for (size_t c = 0; c < ANX_COUNT_OF(counts); c++)
            for (size_t d = 0; d < ANX_COUNT_OF(dims); d++)
                for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
                    anx_index_params params =
                        toy_params(scalar == ANX_SCALAR_B1 ? ANX_METRIC_HAMMING : ANX_METRIC_IP,
                                   (anx_scalar) scalar, dims[d], 2 + c);
                    bool is_lantern = variants[v].format == ANX_FILE_LANTERN;
                    struct toy *toy;

                    if (is_lantern && (scalar == ANX_SCALAR_U8 || (scalar == ANX_SCALAR_B1 && dims[d] % 8)))
                        continue;
                    toy = toy_random(&params, counts[c], 2 * params.m, SEED + c);
                    round_trip(toy, &variants[v]);
                    anx_index_destroy(&toy->head);
                }
}

/* Larger than a checksum block, and than what a stream is given at once. */
static void
large_files_round_trip(void **state)
{
    anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 256, 8);
    struct toy *toy = toy_random(&params, 6000, 16, SEED);

    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++)
        round_trip(toy, &variants[v]);
    anx_index_destroy(&toy->head);
}

static void
what_a_format_cannot_hold_is_refused(void **state)
{
    anx_index_params u8 = toy_params(ANX_METRIC_L2, ANX_SCALAR_U8, 8, 4);
    anx_index_params bits = toy_params(ANX_METRIC_HAMMING, ANX_SCALAR_B1, 12, 4);
    anx_index_params codes = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 12, 4);
    const struct {
        const anx_index_params *params;
        anx_save_params save;
        anx_status want;
    } cases[] = {
        { &u8, { ANX_FILE_LANTERN, true, false }, ANX_E_UNSUPPORTED },
        { &bits, { ANX_FILE_LANTERN, false, false }, ANX_E_UNSUPPORTED },
        { &codes, { ANX_FILE_USEARCH, false, false }, ANX_E_UNSUPPORTED },
        { &u8, { ANX_FILE_ANNEX, true, false }, ANX_E_INVALID },
        { &u8, { ANX_FILE_USEARCH, true, true }, ANX_E_INVALID },
        { &u8, { (anx_file_format) 7, false, false }, ANX_E_INVALID },
    };

    (void) state;
    codes.quantization = ANX_QUANTIZATION_SQ8;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        struct toy *toy = toy_random(cases[i].params, 5, 8, SEED);
        anx_error err = { 0 };
        size_t size;

        assert_int_equal(file_save_size(toy_find, &toy->head, &cases[i].save, &size, &err), cases[i].want);
        assert_true(err.message[0] != '\0');
        anx_index_destroy(&toy->head);
    }
}

static void
hints_must_agree(void **state)
{
    anx_index_params params = toy_params(ANX_METRIC_COSINE, ANX_SCALAR_F16, 12, 4);
    struct toy *toy = toy_random(&params, 9, 8, SEED), *loaded;
    const struct {
        anx_index_params hints;
        anx_status want;
    } cases[] = {
        { { .kind = ANX_INDEX_HNSW, .dim = 12, .metric = ANX_METRIC_COSINE, .scalar = ANX_SCALAR_F16 },
          ANX_OK },
        { { .kind = ANX_INDEX_HNSW, .ef = 77, .threads = 3 }, ANX_OK },
        { { .kind = ANX_INDEX_IVF }, ANX_E_INVALID },
        { { .kind = ANX_INDEX_HNSW, .metric = ANX_METRIC_IP }, ANX_E_INVALID },
        { { .kind = ANX_INDEX_HNSW, .scalar = ANX_SCALAR_I8 }, ANX_E_INVALID },
        { { .kind = ANX_INDEX_HNSW, .dim = 13 }, ANX_E_DIM },
    };

    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
        struct bytes file = save(toy, variants[v].format, variants[v].plain, variants[v].native);

        for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
            anx_error err;

            assert_int_equal(load(file.data, file.size, true, &cases[i].hints, &loaded, &err), cases[i].want);
            if (!loaded)
                continue;
            assert_int_equal(loaded->head.params.ef, cases[i].hints.ef ? cases[i].hints.ef : 64);
            anx_index_destroy(&loaded->head);
        }
        bytes_free(&file);
    }
    anx_index_destroy(&toy->head);
}

/* --- dialects of usearch
 * ------------------------------------------------------------------------------------------- */

struct dialect {
    unsigned minor, scalar, key, slot;
    size_t prefix, key_size, slot_size, column_size; /* column_size: bytes per component */
    const char *name;
    anx_status want;
};

static void
put(struct bytes *file, uint64_t value, size_t size)
{
    uint8_t bytes[16] = { 0 };

    anx_store_le(bytes, value, size < 8 ? size : 8);
    (void) bytes_write(file, bytes, size, NULL);
}

/* A file of five hand-made nodes, m 2, m0 4, levels {0,1,0,0,1}, rows of three components that are 1, 2, 3 +
 * node. */
static struct bytes
write_dialect(const struct dialect *d, size_t n_removed)
{
    static const unsigned levels[5] = { 0, 1, 0, 0, 1 };
    struct bytes file = { 0 };

    put(&file, 5, d->prefix / 2);
    put(&file, 3 * d->column_size, d->prefix / 2);
    for (unsigned i = 0; i < 15; i++) {
        double value = (double) (i / 5 + 1);
        float narrow = (float) value;
        uint32_t bits;
        uint64_t wide;

        memcpy(&bits, &narrow, 4);
        memcpy(&wide, &value, 8);
        put(&file,
            d->column_size == 8 ? wide :
            d->column_size == 4 ? bits :
            d->column_size == 2 ? bits >> 16 :
                                  i / 5 + 1,
            d->column_size);
    }
    (void) bytes_write(&file, "usearch", 7, NULL);
    put(&file, 2, 2), put(&file, d->minor, 2), put(&file, 2, 2);
    put(&file, 'e', 1), put(&file, d->scalar, 1), put(&file, d->key, 1), put(&file, d->slot, 1);
    put(&file, 5 - n_removed, 8), put(&file, n_removed, 8), put(&file, 3, 8), put(&file, 0, 1);
    put(&file, 0, 11), put(&file, 0, 11);
    put(&file, 5, 8), put(&file, 2, 8), put(&file, 4, 8), put(&file, 1, 8), put(&file, 1, 8);
    for (size_t i = 0; i < 5; i++)
        put(&file, levels[i], 2);
    for (size_t i = 0; i < 5; i++) {
        bool is_removed = i > 0 && i <= n_removed; /* the entry, node 1, goes first */

        put(&file, is_removed ? UINT64_MAX : 10 + i, 8);
        if (d->key_size == 16)
            put(&file, is_removed ? UINT64_MAX : 0, 8);
        put(&file, levels[i], 2);
        put(&file, 4, 4); /* links to the next node twice, to itself, and to the one after the next */
        put(&file, (i + 1) % 5, d->slot_size), put(&file, (i + 1) % 5, d->slot_size);
        put(&file, i, d->slot_size), put(&file, (i + 2) % 5, d->slot_size);
        if (levels[i] > 0) {
            put(&file, 1, 4);
            put(&file, i == 1 ? 4 : 1, d->slot_size),
                put(&file, 99, d->slot_size); /* beyond the count: ignored */
        }
    }
    return file;
}

static void
dialects_of_usearch_are_read(void **state)
{
    static const struct dialect dialects[] = {
        { 17, 11, 14, 15, 8, 8, 4, 4, "f32", ANX_OK },
        { 17, 11, 14, 15, 16, 8, 4, 4, "f32, 64-bit prefix", ANX_OK },
        { 26, 11, 3, 2, 8, 16, 5, 4, "big: 128-bit keys, 40-bit slots", ANX_OK },
        { 17, 11, 14, 2, 8, 8, 5, 4, "40-bit slots", ANX_OK },
        { 21, 4, 14, 15, 8, 8, 4, 2, "bf16", ANX_OK },
        { 21, 10, 14, 15, 8, 8, 4, 8, "f64", ANX_OK },
        { 10, 23, 14, 15, 8, 8, 4, 1, "i8", ANX_OK },
        { 10, 17, 14, 15, 8, 8, 4, 1, "u8", ANX_OK },
        { 9, 5, 8, 9, 8, 8, 4, 4, "2.9, f32", ANX_OK },
        { 8, 4, 8, 9, 8, 8, 4, 8, "2.8, f64", ANX_OK },
        { 8, 15, 8, 9, 8, 8, 4, 1, "2.8, i8 as really written", ANX_OK },
        { 8, 14, 8, 9, 8, 8, 4, 1, "2.8, i8 as newer loaders translate", ANX_OK },
        { 8, 11, 8, 9, 8, 8, 4, 1, "2.8, u8 as really written", ANX_OK },
        { 8, 10, 8, 9, 8, 8, 4, 1, "2.8, u8 as newer loaders translate", ANX_OK },
        { 8, 14, 8, 9, 8, 8, 4, 2, "2.8, 14 as i16", ANX_E_CORRUPT },
        { 17, 22, 14, 15, 8, 8, 4, 2, "i16", ANX_E_UNSUPPORTED },
        { 17, 11, 14, 9, 8, 8, 4, 4, "old slot kind with a new stamp", ANX_E_UNSUPPORTED },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(dialects); i++) {
        struct bytes file = write_dialect(&dialects[i], 0);
        struct toy *toy;
        anx_error err;

        expect_status(&file, dialects[i].want, dialects[i].name);
        if (load(file.data, file.size, true, NULL, &toy, &err) == ANX_OK) {
            float row[3];

            assert_int_equal(toy->n, 5);
            assert_int_equal(toy->labels[4], 14);
            assert_int_equal(toy_list(toy, 0, 0)[0], 2); /* no double, no link to itself */
            memcpy(row, toy->rows + toy->head.row_size * 4, toy->head.row_size < 12 ? 3 : 12);
            if (toy->head.params.scalar == ANX_SCALAR_F32)
                assert_true(row[0] == 3.0f && row[2] == 3.0f);
            else
                assert_int_equal(toy->rows[toy->head.row_size * 4], 3);
            anx_index_destroy(&toy->head);
        }
        bytes_free(&file);
    }
}

static void
removed_rows_are_dropped_and_bridged(void **state)
{
    static const struct dialect f32 = { 17, 11, 14, 15, 8, 8, 4, 4, "f32", ANX_OK };

    (void) state;
    for (size_t n_removed = 1; n_removed <= 4; n_removed++) {
        struct bytes file = write_dialect(&f32, n_removed);
        struct toy *toy;
        anx_error err;

        assert_int_equal(load(file.data, file.size, true, NULL, &toy, &err), ANX_OK);
        assert_int_equal(toy->n, 5 - n_removed);
        assert_int_equal(toy->labels[0], 10);
        assert_int_equal(toy->max_level, n_removed < 4 ? 1 : 0);
        assert_int_equal(toy->labels[toy->entry], n_removed < 4 ? 14 : 10);
        if (n_removed == 2) { /* 0 pointed to 1 and 2, both gone: now to what these pointed to */
            assert_int_equal(toy_list(toy, 0, 0)[0], 2);
            assert_int_equal(toy->labels[toy_list(toy, 0, 0)[1]], 13);
        }
        anx_index_destroy(&toy->head);
        file.data[8 + 60 + 17] = 5; /* the head no longer knows of the removed ones */
        expect_status(&file, ANX_E_CORRUPT, "count of removed rows");
        bytes_free(&file);
    }
}

/* --- every check of the specification
 * -------------------------------------------------------------------------------- */

static void
check_forgeries(const struct bytes *file, const struct forgery *forgeries, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct bytes forged = { 0 };

        (void) bytes_write(&forged, file->data, file->size, NULL);
        anx_store_le(forged.data + forgeries[i].at, forgeries[i].value, forgeries[i].size);
        expect_status(&forged, forgeries[i].want, forgeries[i].what);
        bytes_free(&forged);
    }
}

static void
forged_usearch_fields_are_refused(void **state)
{
    enum { HEAD = 8 + 60, GRAPH = HEAD + 64, LEVELS = GRAPH + 40, NODE = LEVELS + 10 };
    static const struct dialect f32 = { 17, 11, 14, 15, 8, 8, 4, 4, "f32", ANX_OK };
    static const struct forgery forgeries[] = {
        { 0, 4, 6, ANX_E_CORRUPT, "rows" },
        { 0, 4, 0xfffffff0, ANX_E_CORRUPT, "a lot of rows" },
        { 4, 4, 13, ANX_E_CORRUPT, "columns" },
        { 4, 4, 0xffffffff, ANX_E_CORRUPT, "a lot of columns" },
        { 8, 4, 0x7fc00000, ANX_E_CORRUPT, "NaN" },
        { 8, 4, 0xff800000, ANX_E_CORRUPT, "infinity" },
        { HEAD, 1, 'U', ANX_E_CORRUPT, "magic" },
        { HEAD + 7, 2, 3, ANX_E_VERSION, "major" },
        { HEAD + 13, 1, 'p', ANX_E_UNSUPPORTED, "pearson" },
        { HEAD + 13, 1, 0, ANX_E_CORRUPT, "metric" },
        { HEAD + 13, 1, 'b', ANX_E_UNSUPPORTED, "hamming over f32" },
        { HEAD + 14, 1, 12, ANX_E_CORRUPT, "f16 with columns of f32" },
        { HEAD + 15, 1, 15, ANX_E_UNSUPPORTED, "key kind" },
        { HEAD + 16, 1, 14, ANX_E_UNSUPPORTED, "slot kind" },
        { HEAD + 17, 8, 4, ANX_E_CORRUPT, "present" },
        { HEAD + 25, 8, 1, ANX_E_CORRUPT, "deleted" },
        { HEAD + 33, 8, 4, ANX_E_CORRUPT, "dimensions" },
        { HEAD + 33, 8, UINT64_MAX, ANX_E_CORRUPT, "dimensions" },
        { HEAD + 33, 8, 0, ANX_E_CORRUPT, "dimensions" },
        { HEAD + 45, 1, 1, ANX_E_CORRUPT, "spare bytes" },
        { GRAPH, 8, 4, ANX_E_CORRUPT, "graph size" },
        { GRAPH, 8, UINT64_MAX, ANX_E_CORRUPT, "graph size" },
        { GRAPH + 8, 8, 1, ANX_E_CORRUPT, "connectivity 1" },
        { GRAPH + 8, 8, 1u << 20, ANX_E_CORRUPT, "connectivity above that of the bottom" },
        { GRAPH + 16, 8, 1, ANX_E_CORRUPT, "connectivity of the bottom" },
        { GRAPH + 16, 8, 1u << 20, ANX_E_UNSUPPORTED, "connectivity of the bottom" },
        { GRAPH + 24, 8, 0, ANX_E_CORRUPT, "maximum level" },
        { GRAPH + 24, 8, 2, ANX_E_CORRUPT, "maximum level" },
        { GRAPH + 24, 8, 32767, ANX_E_CORRUPT, "maximum level" },
        { GRAPH + 32, 8, 5, ANX_E_CORRUPT, "entry" },
        { GRAPH + 32, 8, 0, ANX_E_CORRUPT, "entry of a lower level" },
        { LEVELS, 2, 1, ANX_E_CORRUPT, "level" },
        { LEVELS, 2, 0xffff, ANX_E_CORRUPT, "level" },
        { NODE + 8, 2, 1, ANX_E_CORRUPT, "level on the tape" },
        { NODE + 10, 4, 5, ANX_E_CORRUPT, "count of neighbors" },
        { NODE + 10, 4, UINT32_MAX, ANX_E_CORRUPT, "count of neighbors" },
        { NODE + 14, 4, 5, ANX_E_CORRUPT, "neighbor" },
        { NODE + 14, 4, UINT32_MAX, ANX_E_CORRUPT, "neighbor" },
        { NODE, 8, 11, ANX_E_CORRUPT, "label twice" },
        { NODE, 8, UINT64_MAX, ANX_E_CORRUPT, "removed row that the head does not know" },
        { NODE + 30 + 34, 4, 2, ANX_E_CORRUPT, "neighbor of a lower level" },
    };
    struct bytes file = write_dialect(&f32, 0);

    (void) state;
    expect_status(&file, ANX_OK, "untouched");
    check_forgeries(&file, forgeries, ANX_COUNT_OF(forgeries));
    bytes_free(&file);
}

static void
forged_lantern_fields_are_refused(void **state)
{
    enum { GRAPH = 80, NODE = 136 };
    static const struct forgery forgeries[] = {
        { 3, 1, 'X', ANX_E_CORRUPT, "magic" },
        { 7, 2, 3, ANX_E_VERSION, "major" },
        { 13, 1, 'z', ANX_E_CORRUPT, "metric" },
        { 14, 1, 11, ANX_E_UNSUPPORTED, "scalar" },
        { 14, 1, 6, ANX_E_CORRUPT, "f16 with rows of f32" },
        { 15, 1, 14, ANX_E_UNSUPPORTED, "key kind" },
        { 16, 1, 15, ANX_E_UNSUPPORTED, "slot kind: a usearch file without vectors" },
        { 17, 8, 2, ANX_E_CORRUPT, "present" },
        { 25, 8, 1, ANX_E_CORRUPT, "deleted" },
        { 33, 8, 0, ANX_E_CORRUPT, "dimensions" },
        { 33, 8, 1u << 30, ANX_E_CORRUPT, "dimensions" },
        { 60, 1, 1, ANX_E_CORRUPT, "spare bytes" },
        { 79, 1, 1, ANX_E_CORRUPT, "spare bytes" },
        { GRAPH, 8, 4, ANX_E_CORRUPT, "graph size" },
        { GRAPH, 8, UINT32_MAX, ANX_E_CORRUPT, "graph size" },
        { GRAPH + 8, 8, 13, ANX_E_CORRUPT, "connectivity" },
        { GRAPH + 8, 8, 0, ANX_E_CORRUPT, "connectivity" },
        { GRAPH + 16, 8, 26, ANX_E_CORRUPT, "connectivity of the bottom" },
        { GRAPH + 24, 8, 1, ANX_E_CORRUPT, "maximum level" },
        { GRAPH + 32, 8, 3, ANX_E_CORRUPT, "entry" },
        { GRAPH + 40, 8, 13, ANX_E_CORRUPT, "bytes per row" },
        { GRAPH + 48, 8, 4, ANX_E_CORRUPT, "node count" },
        { NODE, 8, 2ull << 32, ANX_E_CORRUPT, "label twice" },
        { NODE, 8, UINT64_MAX, ANX_E_CORRUPT, "reserved label" },
        { NODE + 8, 2, 1, ANX_E_CORRUPT, "level" },
        { NODE + 10, 4, 25, ANX_E_CORRUPT, "count of neighbors" },
        { NODE + 14, 6, 3, ANX_E_CORRUPT, "neighbor" },
        { NODE + 14, 6, 1ull << 40, ANX_E_CORRUPT, "neighbor above 32 bits" },
        { NODE + 158, 4, 0x7f800000, ANX_E_CORRUPT, "infinity" },
    };
    static const uint64_t labels[3] = { 1ull << 32, 2ull << 32, 3ull << 32 };
    static const uint32_t links[3][2] = { { 1, 2 }, { 0, 2 }, { 1, 0 } };
    struct toy *toy = three_rows(labels, links);
    struct bytes file = save(toy, ANX_FILE_LANTERN, true, false);

    (void) state;
    check_forgeries(&file, forgeries, ANX_COUNT_OF(forgeries));
    bytes_free(&file);
    anx_index_destroy(&toy->head);
}

static void
bytes_after_a_foreign_file(void **state)
{
    anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 5, 4);
    struct toy *toy = toy_random(&params, 20, 8, SEED);

    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
        struct bytes file = save(toy, variants[v].format, variants[v].plain, variants[v].native);
        static const uint8_t extra[700] = { 'x' };

        (void) bytes_write(&file, extra, 1 + v * 110, NULL);
        /* Others ignore what follows, so a plain file may be followed; one with checksums says where it ends.
         */
        expect_status(&file, variants[v].plain ? ANX_OK : ANX_E_CORRUPT, "bytes after the end");
        bytes_free(&file);
    }
    for (int f = ANX_FILE_USEARCH; f <= ANX_FILE_LANTERN;
         f++) { /* the mark is wiped out, the trailer is still there */
        struct bytes file = save(toy, (anx_file_format) f, false, false);
        size_t mark = f == ANX_FILE_USEARCH ? 8 + 20 * 20 + 42 : 42;

        assert_memory_equal(file.data + mark, FILE_MARK, 6);
        memset(file.data + mark, 0, 22);
        expect_status(&file, ANX_E_CORRUPT, "mark wiped out");
        bytes_free(&file);
    }
    anx_index_destroy(&toy->head);
}

/* --- files on disk
 * --------------------------------------------------------------------------------------------------- */

static void
write_file(const char *path, const uint8_t *data, size_t size)
{
    FILE *file = fopen(path, "wb");

    assert_non_null(file);
    assert_int_equal(fwrite(data, 1, size, file), size);
    assert_int_equal(fclose(file), 0);
}

static void
temporary_path(char path[64])
{
    int fd;

    snprintf(path, 64, "/tmp/annex-test-file-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

static void
files_are_described_and_mapped(void **state)
{
    anx_index_params params = toy_params(ANX_METRIC_COSINE, ANX_SCALAR_F32, 40, 5);
    struct toy *toy = toy_random(&params, 900, 10, SEED);
    char path[64];

    (void) state;
    temporary_path(path);
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
        struct bytes file = save(toy, variants[v].format, variants[v].plain, variants[v].native);
        bool is_native = variants[v].native || variants[v].format == ANX_FILE_ANNEX;
        anx_file_info info;
        anx_index *mapped;
        anx_error err;

        write_file(path, file.data, file.size);
        assert_int_equal(anx_file_inspect(path, &info, &err), ANX_OK);
        assert_int_equal(info.format, variants[v].format);
        assert_int_equal(info.count, 900);
        assert_int_equal(info.dim, 40);
        assert_int_equal(info.m, 5);
        assert_int_equal(info.m0, 10);
        assert_int_equal(info.metric, ANX_METRIC_COSINE);
        assert_int_equal(info.file_size, file.size);
        assert_int_equal(info.has_checksum, !variants[v].plain);
        assert_int_equal(info.has_native, is_native);
        if (file_map(toy_find, path, NULL, &mapped, &err) != ANX_OK)
            fail_msg("%s: %s", variants[v].name, err.message);
        assert_true(mapped->is_mapped);
        assert_int_equal(((struct toy *) mapped)->was_mapped, is_native);
        assert_true(toy_equal(toy, (struct toy *) mapped));
        anx_index_destroy(mapped);
        for (size_t cut = 1; cut < file.size; cut += 1 + file.size / 50) {
            write_file(path, file.data, file.size - cut);
            if (file_map(toy_find, path, NULL, &mapped, &err) == ANX_OK)
                fail_msg("%s: mapped although %zu bytes are missing", variants[v].name, cut);
        }
        bytes_free(&file);
    }
    unlink(path);
    anx_index_destroy(&toy->head);
}

static void
what_is_no_index_file_is_refused(void **state)
{
    anx_error err;
    anx_index *index;
    anx_file_info info;
    char path[64];

    (void) state;
    temporary_path(path);
    write_file(path, (const uint8_t *) "just a text that is no index file at all, but long enough", 57);
    assert_int_equal(anx_index_load_file(path, NULL, &index, &err), ANX_E_CORRUPT);
    assert_int_equal(anx_file_inspect(path, &info, &err), ANX_E_CORRUPT);
    write_file(path, (const uint8_t *) "", 0);
    assert_int_equal(anx_index_load_file(path, NULL, &index, &err), ANX_E_CORRUPT);
    assert_int_equal(anx_index_map_file(path, NULL, &index, &err), ANX_E_CORRUPT);
    assert_int_equal(anx_file_verify(path, &err), ANX_E_CORRUPT);
    unlink(path);
    assert_int_equal(anx_index_load_file(path, NULL, &index, &err), ANX_E_NOT_FOUND);
    assert_non_null(strstr(err.message, path));
    assert_int_equal(anx_index_load_file("/tmp", NULL, &index, &err), ANX_E_INVALID);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(lantern_matches_the_reference_dump),
        cmocka_unit_test(usearch_matches_the_reference_dump),
        cmocka_unit_test(sizes_match_the_reference_table),
        cmocka_unit_test(recorded_lantern_files_load),
        cmocka_unit_test(every_format_round_trips),
        cmocka_unit_test(large_files_round_trip),
        cmocka_unit_test(what_a_format_cannot_hold_is_refused),
        cmocka_unit_test(hints_must_agree),
        cmocka_unit_test(dialects_of_usearch_are_read),
        cmocka_unit_test(removed_rows_are_dropped_and_bridged),
        cmocka_unit_test(forged_usearch_fields_are_refused),
        cmocka_unit_test(forged_lantern_fields_are_refused),
        cmocka_unit_test(bytes_after_a_foreign_file),
        cmocka_unit_test(files_are_described_and_mapped),
        cmocka_unit_test(what_is_no_index_file_is_refused),
    };

    return cmocka_run_group_tests_name("index files", tests, NULL, NULL);
}
