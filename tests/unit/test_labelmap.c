/* The label map against a plain array: inserts, finds, moves and erasures in random order, at every size up
 * to some thousand, so that runs wrap around the end of the table and shift back over it. */
#include "test_util.h"

#include <string.h>

#include "ann/labelmap.h"
#include "base/rng.h"

#define N_SLOT 3000

static uint64_t labels[N_SLOT]; /* of each slot */
static bool present[N_SLOT];

static uint64_t
label_of(const void *context, uint32_t slot)
{
    return ((const uint64_t *) context)[slot];
}

static void
check_all(const struct labelmap *map)
{
    size_t n = 0;

    for (uint32_t s = 0; s < N_SLOT; s++) {
        uint32_t found = labelmap_find(map, labels[s], label_of, labels);

        assert_int_equal(found, present[s] ? s : LABELMAP_NONE);
        n += present[s];
    }
    assert_int_equal(map->n, n);
}

static void
fill_labels(uint64_t seed)
{
    anx_rng rng = anx_rng_seed(seed);

    memset(present, 0, sizeof(present));
    for (uint32_t s = 0; s < N_SLOT; s++)
        labels[s] = seed == 0 ? s : anx_rng_next(&rng); /* dense labels too: the usual ones */
}

static void
the_map_agrees_with_an_array(void **state)
{
    (void) state;
    for (uint64_t seed = 0; seed < 4; seed++) {
        anx_rng rng = anx_rng_seed(seed + 50);
        struct labelmap map;

        fill_labels(seed);
        labelmap_init(&map, NULL);
        check_all(&map);
        for (size_t step = 0; step < 40000; step++) {
            uint32_t s = anx_rng_below(&rng, N_SLOT);

            if (present[s])
                assert_int_equal(labelmap_erase(&map, labels[s], label_of, labels), s);
            else if (step % 3) /* grows at first, then hovers */
                assert_true(labelmap_insert(&map, labels[s], s, label_of, labels));
            else
                continue;
            present[s] = !present[s];
            if (step % 2000 == 0)
                check_all(&map);
        }
        check_all(&map);
        assert_int_equal(labelmap_erase(&map, UINT64_MAX - 7, label_of, labels), LABELMAP_NONE);
        labelmap_clear(&map);
        memset(present, 0, sizeof(present));
        check_all(&map);
        labelmap_fini(&map);
    }
}

static void
a_full_table_still_shifts_back(void **state)
{
    (void) state;
    for (size_t n = 1; n < 200; n++) {
        struct labelmap map;

        fill_labels(n);
        labelmap_init(&map, NULL);
        assert_true(labelmap_reserve(&map, n, label_of, labels));
        for (uint32_t s = 0; s < n; s++) {
            assert_true(labelmap_insert(&map, labels[s], s, label_of, labels));
            present[s] = true;
        }
        for (uint32_t s = 0; s < n; s++) {
            uint32_t victim = (uint32_t) ((s * 7 + 3) % n);

            while (!present[victim])
                victim = (uint32_t) ((victim + 1) % n);
            assert_int_equal(labelmap_erase(&map, labels[victim], label_of, labels), victim);
            present[victim] = false;
            for (uint32_t i = 0; i < n; i++)
                assert_int_equal(labelmap_find(&map, labels[i], label_of, labels),
                                 present[i] ? i : LABELMAP_NONE);
        }
        labelmap_fini(&map);
    }
}

static void
a_moved_row_is_found_at_its_new_slot(void **state)
{
    struct labelmap map;

    (void) state;
    fill_labels(9);
    labelmap_init(&map, NULL);
    for (uint32_t s = 0; s < 100; s++)
        assert_true(labelmap_insert(&map, labels[s], s, label_of, labels));
    labelmap_move(&map, labels[40], 40, 2000);
    labels[2000] = labels[40];
    assert_int_equal(labelmap_find(&map, labels[2000], label_of, labels), 2000);
    labelmap_fini(&map);
}

static void
reserved_room_needs_no_memory(void **state)
{
    struct test_alloc alloc;
    struct labelmap map;
    size_t n_calls;

    (void) state;
    fill_labels(5);
    test_alloc_init(&alloc, 0);
    labelmap_init(&map, &alloc.alloc);
    assert_true(labelmap_reserve(&map, N_SLOT, label_of, labels));
    assert_true(labelmap_memory(&map) <= N_SLOT * 25 / 4 + 64); /* 6.25 bytes per row */
    n_calls = atomic_load(&alloc.n_calls);
    for (uint32_t s = 0; s < N_SLOT; s++)
        assert_true(labelmap_insert(&map, labels[s], s, label_of, labels));
    assert_int_equal(atomic_load(&alloc.n_calls), n_calls);
    labelmap_fini(&map);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void
out_of_memory_leaves_the_map_as_it_was(void **state)
{
    (void) state;
    for (size_t nth = 1; nth < 20; nth++) {
        struct test_alloc alloc;
        struct labelmap map;

        fill_labels(6);
        test_alloc_init(&alloc, nth);
        labelmap_init(&map, &alloc.alloc);
        for (uint32_t s = 0; s < N_SLOT; s++)
            present[s] = labelmap_insert(&map, labels[s], s, label_of, labels);
        check_all(&map);
        labelmap_fini(&map);
        assert_int_equal(test_alloc_live(&alloc), 0);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_map_agrees_with_an_array),
        cmocka_unit_test(a_full_table_still_shifts_back),
        cmocka_unit_test(a_moved_row_is_found_at_its_new_slot),
        cmocka_unit_test(reserved_room_needs_no_memory),
        cmocka_unit_test(out_of_memory_leaves_the_map_as_it_was),
    };

    return cmocka_run_group_tests_name("labelmap", tests, NULL, NULL);
}
