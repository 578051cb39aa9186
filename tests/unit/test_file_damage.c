/* Damaged, cut and forged index files, and memory that runs out: no crash, and no checksummed file accepted
 * unless it is whole. */
#include "test_util.h"

#include "base/clock.h"
#include "base/hash.h"
#include "test_file_toy.h"

static void
no_byte_of_a_checksummed_file_is_free(void **state)
{
    anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 3, 2);
    struct toy *toy = toy_random(&params, 6, 4, SEED), *loaded;

    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
        struct bytes file = save(toy, variants[v].format, variants[v].plain, variants[v].native);

        for (size_t i = 0; !variants[v].plain && i < file.size; i++) {
            anx_error err;
            anx_status st;

            file.data[i] ^= (uint8_t) (1u << i % 8);
            st = load(file.data, file.size, i % 2, NULL, &loaded, &err);
            if (st == ANX_OK)
                fail_msg("%s: byte %zu was changed, and the file was accepted", variants[v].name, i);
            file.data[i] ^= (uint8_t) (1u << i % 8);
        }
        for (size_t size = 0; size < file.size; size++) {
            anx_error err;

            if (load(file.data, size, size % 2, NULL, &loaded, &err) == ANX_OK)
                fail_msg("%s: cut to %zu of %zu bytes, and accepted", variants[v].name, size, file.size);
        }
        bytes_free(&file);
    }
    anx_index_destroy(&toy->head);
}

static void
twenty_thousand_damaged_files(void **state)
{
    enum { ROUNDS = 20000 };
    anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 6, 4);
    struct toy *toy = toy_random(&params, 30, 8, SEED);
    struct bytes files[ANX_COUNT_OF(variants)];
    size_t n_ok = 0, n_same = 0;
    anx_rng rng = anx_rng_seed(SEED);
    uint64_t start = anx_clock_ns();

    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++)
        files[v] = save(toy, variants[v].format, variants[v].plain, variants[v].native);
    for (size_t round = 0; round < ROUNDS; round++) {
        size_t v = round % ANX_COUNT_OF(variants);
        uint8_t *copy = anx_alloc_bytes(NULL, files[v].size);
        struct toy *loaded;
        anx_error err;
        size_t size;

        memcpy(copy, files[v].data, files[v].size);
        size = damage(copy, files[v].size, &rng);
        if (load(copy, size, round % 2, NULL, &loaded, &err) == ANX_OK) {
            bool is_same = size == files[v].size && memcmp(copy, files[v].data, size) == 0;

            if (!is_same && !variants[v].plain)
                fail_msg("%s: round %zu (seed %d) was accepted", variants[v].name, round, SEED);
            n_same += is_same;
            n_ok += !is_same;
            anx_index_destroy(&loaded->head);
        }
        anx_free(NULL, copy);
    }
    print_message("# %d damaged files in %.1f s: no checksummed one accepted; %zu plain ones accepted as "
                  "sound, %zu files "
                  "not changed by the damage\n",
                  ROUNDS, (double) (anx_clock_ns() - start) * 1e-9, n_ok, n_same);
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++)
        bytes_free(&files[v]);
    anx_index_destroy(&toy->head);
}

/* A head made by an enemy, checksum and all: what it claims is not allocated before it is there. */
static void
claims_do_not_allocate(void **state)
{
    static const struct forgery forgeries[] = { /* offsets in our head */
        { 480 + 16, 8, 1ull << 40, ANX_E_CORRUPT, "size of a section" },
        { 480 + 16, 8, UINT64_MAX, ANX_E_CORRUPT, "size of a section" },
        { 480 + 8, 8, 64, ANX_E_CORRUPT, "place of a section" },
        { 14, 2, 17, ANX_E_CORRUPT, "number of sections" },
        { 24, 8, 1ull << 50, ANX_E_CORRUPT, "place of the trailer" },
        { 40, 1, 9, ANX_E_CORRUPT, "kind" },
        { 48, 8, 1ull << 40, ANX_E_CORRUPT, "dim" },
        { 56, 8, 7, ANX_E_CHECKSUM, "count" },
        { 72, 8, 1u << 30, ANX_E_CORRUPT, "m" },
        { 8, 2, 2, ANX_E_VERSION, "version" },
    };
    anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 6, 4);
    struct toy *toy = toy_random(&params, 30, 8, SEED);
    struct bytes file = save(toy, ANX_FILE_ANNEX, false, false);

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(forgeries); i++) {
        struct bytes forged = { 0 };

        (void) bytes_write(&forged, file.data, file.size, NULL);
        anx_store_le(forged.data + forgeries[i].at, forgeries[i].value, forgeries[i].size);
        anx_store_le(forged.data + FILE_HEAD_SIZE - 8, anx_hash(forged.data, FILE_HEAD_SIZE - 8), 8);
        /* The sum of the block no longer fits, unless the head is refused before. */
        expect_status(&forged, forgeries[i].want, forgeries[i].what);
        bytes_free(&forged);
    }
    bytes_free(&file);
    anx_index_destroy(&toy->head);
}

static void
every_failed_allocation_of_a_save_is_survived(void **state)
{
    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
        anx_save_params how = { variants[v].format, variants[v].plain, variants[v].native };
        anx_status st = ANX_E_NOMEM;

        for (size_t nth = 1; st != ANX_OK; nth++) {
            anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 6, 4);
            struct bytes bytes = { 0 };
            anx_sink sink = { &bytes, bytes_write };
            struct test_alloc alloc;
            struct toy *toy;
            anx_error err;

            test_alloc_init(&alloc, 0);
            params.alloc = &alloc.alloc;
            toy = toy_random(&params, 30, 8, SEED);
            alloc.fail_at = alloc.n_calls + nth;
            st = file_save(toy_find, &toy->head, &how, &sink, NULL, &err);
            assert_true(st == ANX_OK || st == ANX_E_NOMEM);
            anx_index_destroy(&toy->head);
            assert_int_equal(test_alloc_live(&alloc), 0);
            bytes_free(&bytes);
        }
    }
}

static void
every_failed_allocation_is_survived(void **state)
{
    anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 6, 4);
    struct toy *toy = toy_random(&params, 30, 8, SEED);

    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
        struct bytes file = save(toy, variants[v].format, variants[v].plain, variants[v].native);
        bool is_done = false;

        for (size_t nth = 1; !is_done; nth++) {
            anx_index_params hints = ANX_INDEX_PARAMS_INIT;
            struct test_alloc alloc;
            struct toy *loaded;
            anx_error err;
            anx_status st;

            test_alloc_init(&alloc, nth);
            hints.alloc = &alloc.alloc;
            st = load(file.data, file.size, nth % 2, &hints, &loaded, &err);
            is_done = st == ANX_OK;
            if (loaded) {
                struct bytes again;

                assert_true(toy_equal(toy, loaded));
                alloc.fail_at = 0;
                again = save(loaded, variants[v].format, variants[v].plain, variants[v].native);
                assert_int_equal(again.size, file.size);
                bytes_free(&again);
                anx_index_destroy(&loaded->head);
            } else {
                assert_int_equal(st, ANX_E_NOMEM);
            }
            assert_int_equal(test_alloc_live(&alloc), 0);
        }
        bytes_free(&file);
    }
    anx_index_destroy(&toy->head);
}

/* A peer that goes away after so many bytes. */
struct broken {
    struct bytes_reader reader;
    size_t left;
};

static anx_status
broken_write(void *context, const void *data, size_t size, anx_error *err)
{
    struct broken *broken = context;

    (void) data;
    if (size > broken->left)
        return anx_fail(err, ANX_E_NETWORK, "peer went away");
    broken->left -= size;
    return ANX_OK;
}

static anx_status
broken_read(void *context, void *data, size_t size, size_t *got, anx_error *err)
{
    struct broken *broken = context;

    if (broken->left == 0)
        return anx_fail(err, ANX_E_NETWORK, "peer went away");
    broken->left--;
    return bytes_read(&broken->reader, data, size, got, err);
}

static void
failures_of_the_other_side_are_passed_on(void **state)
{
    anx_index_params params = toy_params(ANX_METRIC_L2, ANX_SCALAR_F32, 256, 8);
    struct toy *toy = toy_random(&params, 5000, 16, SEED);

    (void) state;
    for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
        anx_save_params how = { variants[v].format, variants[v].plain, variants[v].native };
        struct bytes file = save(toy, variants[v].format, variants[v].plain, variants[v].native);

        for (size_t share = 0; share < 8; share++) {
            struct broken broken = { { file.data, file.size, 0 }, file.size / 8 * share };
            anx_sink sink = { &broken, broken_write };
            anx_source source = { &broken, broken_read };
            struct file_load_options options = { toy_find, NULL, UINT64_MAX, false };
            anx_index *index;
            anx_error err;

            assert_int_equal(file_save(toy_find, &toy->head, &how, &sink, NULL, &err), ANX_E_NETWORK);
            assert_string_equal(err.message, "peer went away");
            broken.left = share / 2; /* calls; each gives a block */
            assert_int_equal(file_load(&options, &source, &index, &err), ANX_E_NETWORK);
            assert_string_equal(err.message, "peer went away");
            assert_null(index);
        }
        bytes_free(&file);
    }
    anx_index_destroy(&toy->head);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_byte_of_a_checksummed_file_is_free),
        cmocka_unit_test(twenty_thousand_damaged_files),
        cmocka_unit_test(claims_do_not_allocate),
        cmocka_unit_test(failures_of_the_other_side_are_passed_on),
        cmocka_unit_test(every_failed_allocation_is_survived),
        cmocka_unit_test(every_failed_allocation_of_a_save_is_survived),
    };

    return cmocka_run_group_tests_name("damaged index files", tests, NULL, NULL);
}
