/* Values, texts under collations, LIKE, UUIDs, names, arenas and buffers. */
#include "test_util.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/arena.h"
#include "base/buffer.h"
#include "base/error.h"
#include "doc/doc_int.h"
#include "doc/names.h"
#include "doc/value.h"

static struct value
integer(int64_t value)
{
    return (struct value) { .type = VALUE_INT, .integer = value };
}

static struct value
real(double value)
{
    return (struct value) { .type = VALUE_DOUBLE, .real = value };
}

static struct value
boolean(bool value)
{
    return (struct value) { .type = VALUE_BOOL, .boolean = value };
}

static struct value
text(const char *value)
{
    return (struct value) { .type = VALUE_STRING, .text = anx_text_of(value) };
}

static struct value
uuid(const char *value)
{
    struct value out = { .type = VALUE_UUID };

    assert_true(uuid_parse(anx_text_of(value), out.uuid));
    return out;
}

static const struct value null = { .type = VALUE_NULL };

static void
values_order(void **state)
{
    enum { NOT = 2 }; /* not comparable */
    const struct value pair_1[] = { integer(1), text("x") }, pair_2[] = { integer(1), text("y") };
    const struct value tuple_1 = { .type = VALUE_TUPLE, .tuple = { (struct value *) pair_1, 2 } };
    const struct value tuple_2 = { .type = VALUE_TUPLE, .tuple = { (struct value *) pair_2, 2 } };
    const struct {
        struct value a, b;
        int order;
    } rows[] = {
        { null, null, 0 },
        { null, integer(-5), -1 },
        { text(""), null, 1 },
        { integer(2), integer(3), -1 },
        { integer(2), real(2), 0 },
        { integer(2), real(2.5), -1 },
        { integer(-2), real(-2.5), 1 },
        { integer(9007199254740993), real(9007199254740992.0), 1 }, /* equal once both are doubles */
        { integer(INT64_MAX), real(0x1p63), -1 },
        { integer(INT64_MIN), real(-0x1p63), 0 },
        { real(NAN), real(-1e300), -1 },
        { real(NAN), real(NAN), 0 },
        { boolean(true), integer(1), 0 },
        { boolean(false), real(0.5), -1 },
        { text("10"), integer(9), 1 },
        { text(" 2.5 "), real(2.5), 0 },
        { integer(9), text("10"), -1 },
        { text("ten"), integer(9), NOT },
        { text(""), integer(0), NOT },
        { text("1"), boolean(true), NOT },
        { text("a"), text("B"), 1 },
        { text("ab"), text("abc"), -1 },
        { uuid("550e8400-e29b-41d4-a716-446655440000"), text("550E8400E29B41D4A716446655440000"), 0 },
        { uuid("550e8400-e29b-41d4-a716-446655440000"), text("zzz"), -1 },
        { uuid("550e8400-e29b-41d4-a716-446655440000"), integer(1), NOT },
        { tuple_1, tuple_2, -1 },
        { tuple_2, tuple_2, 0 },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        bool comparable, reverse_comparable;
        int order = value_compare(&rows[i].a, &rows[i].b, NULL, &comparable);
        int reverse = value_compare(&rows[i].b, &rows[i].a, NULL, &reverse_comparable);

        if (comparable != (rows[i].order != NOT) || reverse_comparable != comparable)
            fail_msg("row %zu: comparable %d", i, comparable);
        if (comparable &&
            ((order > 0) - (order < 0) != rows[i].order || (reverse > 0) - (reverse < 0) != -rows[i].order))
            fail_msg("row %zu: order %d, reverse %d", i, order, reverse);
    }
}

static void
values_convert(void **state)
{
    const struct {
        struct value in;
        enum field_type type;
        struct value out;
        const char *error;
    } rows[] = {
        { null, FIELD_INT, null, NULL },
        { real(2.9), FIELD_INT, integer(2), NULL },
        { real(-2.9), FIELD_INT64, integer(-2), NULL },
        { real(1e300), FIELD_INT64, integer(INT64_MAX), NULL },
        { boolean(true), FIELD_INT, integer(1), NULL },
        { text(" 12 "), FIELD_INT, integer(12), NULL },
        { text("2.5"), FIELD_INT, null, "Can't convert '2.5' to number" },
        { text(""), FIELD_INT, null, "Can't convert '' to number" },
        { text("abc"), FIELD_DOUBLE, null, "Can't convert 'abc' to number" },
        { text("0x10"), FIELD_DOUBLE, null, "Can't convert '0x10' to number" },
        { text("inf"), FIELD_DOUBLE, null, "Can't convert 'inf' to number" },
        { text(""), FIELD_DOUBLE, real(0), NULL },
        { text(" -1.5e3 "), FIELD_DOUBLE, real(-1500), NULL },
        { integer(3), FIELD_DOUBLE, real(3), NULL },
        { integer(-1), FIELD_BOOL, boolean(true), NULL },
        { text("TRUE"), FIELD_BOOL, boolean(true), NULL },
        { text("0"), FIELD_BOOL, boolean(false), NULL },
        { text("maybe"), FIELD_BOOL, null, "Can't convert 'maybe' to bool" },
        { integer(-7), FIELD_STRING, text("-7"), NULL },
        { real(20), FIELD_STRING, text("20.0"), NULL },
        { boolean(false), FIELD_STRING, text("false"), NULL },
        { uuid("550E8400-e29b-41d4-a716-446655440000"), FIELD_STRING,
          text("550e8400-e29b-41d4-a716-446655440000"), NULL },
        { text("not-a-uuid"), FIELD_UUID, null,
          "UUID should consist of 32 hexadecimal digits: 'not-a-uuid'" },
        { integer(5), FIELD_UUID, null, "Can't convert value of type 'int64' to type 'uuid'" },
    };
    anx_arena *arena = anx_arena_create(NULL, 0);

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct value out;
        anx_error err;
        bool comparable;

        if (value_convert(&rows[i].in, rows[i].type, arena, &out, &err) != ANX_OK) {
            assert_string_equal(err.message, rows[i].error ? rows[i].error : "no error expected");
            continue;
        }
        if (rows[i].error || out.type != rows[i].out.type ||
            value_compare(&out, &rows[i].out, NULL, &comparable) != 0)
            fail_msg("row %zu", i);
    }
    anx_arena_destroy(arena);
}

static void
texts_collate(void **state)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    const struct {
        enum collate_mode mode;
        const char *a, *b;
        int order;
    } rows[] = {
        { COLLATE_NONE, "a", "B", 1 },
        { COLLATE_ASCII, "PARIS", "paris", 0 },
        { COLLATE_ASCII, "É", "é", -1 },
        { COLLATE_UTF8, "ÉCOLE", "école", 0 },
        { COLLATE_UTF8, "Привет", "приВЕТ", 0 },
        { COLLATE_UTF8, "a", "ab", -1 },
        { COLLATE_NUMERIC, "9 men", "10 men", -1 },
        { COLLATE_NUMERIC, "10", "9", 1 },
        { COLLATE_NUMERIC, "-3a", "-3b", -1 },
        { COLLATE_NUMERIC, "99999999999999999999a", "99999999999999999998a",
          0 }, /* both at the largest number */
        { COLLATE_NUMERIC, "x", "10", -1 },
        { COLLATE_CUSTOM, "c", "b", -1 },
        { COLLATE_CUSTOM, "b", "a", -1 },
        { COLLATE_CUSTOM, "e", "c", 1 },
        { COLLATE_CUSTOM, "a", "A", -1 }, /* not listed: behind */
        { COLLATE_CUSTOM, "\xf0\x9f\x98\x80", "z", 1 },
    };
    const uint16_t *custom;

    (void) state;
    assert_int_equal(collation_custom(ANX_TEXT("c-eba"), arena, &custom, NULL), ANX_OK);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct collation collation = { .mode = rows[i].mode, .custom = custom };
        int order = text_compare(anx_text_of(rows[i].a), anx_text_of(rows[i].b), &collation);

        if ((order > 0) - (order < 0) != rows[i].order)
            fail_msg("row %zu: '%s' '%s' gives %d", i, rows[i].a, rows[i].b, order);
    }
    assert_true(text_compare((anx_text){ "a\0A", 3 }, (anx_text){ "A\0b", 3 },
                             &(struct collation){ .mode = COLLATE_ASCII }) < 0);
    assert_int_equal(collation_custom(ANX_TEXT(""), arena, &custom, NULL), ANX_E_LOGIC);
    assert_int_equal(collation_custom(ANX_TEXT("-a"), arena, &custom, NULL), ANX_E_LOGIC);
    assert_int_equal(collation_custom(ANX_TEXT("a-"), arena, &custom, NULL), ANX_E_LOGIC);
    assert_int_equal(collation_custom(ANX_TEXT("c-a"), arena, &custom, NULL), ANX_E_LOGIC);
    assert_int_equal(collation_custom(ANX_TEXT("a-cb"), arena, &custom, NULL), ANX_E_LOGIC);
    anx_arena_destroy(arena);
}

static void
like_matches(void **state)
{
    static const struct {
        const char *text, *pattern;
        bool matches;
    } rows[] = {
        { "dill", "d%", true },      { "dill", "D_LL", true },      { "dill", "d", false },
        { "", "", true },            { "", "%", true },             { "", "_", false },
        { "abc", "%b%", true },      { "abc", "%bc%c", false },     { "abcbc", "%bc", true },
        { "größe", "GRÖSS%", false }, { "größe", "GR_ße", true },   { "ПРИВЕТ", "%вет", true },
        { "a%b", "a%b", true },      { "aaab", "%a_b", true },      { "mississippi", "m%iss%ip_i", true },
        { "mississippi", "m%iss%ipp", false },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        if (text_like(anx_text_of(rows[i].text), anx_text_of(rows[i].pattern)) != rows[i].matches)
            fail_msg("'%s' LIKE '%s'", rows[i].text, rows[i].pattern);
    assert_true(text_like((anx_text) { "\xff", 1 }, ANX_TEXT("_"))); /* a broken byte is one character */
    assert_false(text_like((anx_text) { "\xff", 1 }, (anx_text) { "\xfe", 1 }));
}

static void
uuids_parse_and_print(void **state)
{
    static const char *const bad[] = { "", "550e8400-e29b-41d4-a716-44665544000",
                                       "550e8400-e29b-41d4-a716-44665544000g",
                                       "550e8400e29b-41d4-a716-4466554400000" };
    uint8_t bytes[16];
    char printed[36];

    (void) state;
    assert_true(uuid_parse(ANX_TEXT("550E8400-E29B-41D4-A716-446655440000"), bytes));
    uuid_print(bytes, printed);
    assert_memory_equal(printed, "550e8400-e29b-41d4-a716-446655440000", 36);
    for (size_t i = 0; i < ANX_COUNT_OF(bad); i++)
        assert_false(uuid_parse(anx_text_of(bad[i]), bytes));
}

static void
numbers_print_shortest(void **state)
{
    static const struct {
        double value;
        const char *as_double, *as_float;
    } rows[] = {
        { 0, "0.0", "0.0" },
        { -0.0, "-0.0", "-0.0" },
        { 1, "1.0", "1.0" },
        { 0.1, "0.1", "0.1" },
        { 19.5, "19.5", "19.5" },
        { 100000, "100000.0", "100000.0" },
        { 1e15, "1000000000000000.0", "1000000000000000.0" },
        { 1e16, "1e+16", "1e+16" },
        { 1e30, "1e+30", "1e+30" },
        { 0.0001, "0.0001", "0.0001" },
        { 1e-05, "1e-05", "1e-05" },
        { -1.25e-07, "-1.25e-07", "-1.25e-07" },
        { 16777216, "16777216.0", "16777216.0" },
        { 1e300, "1e+300", "null" },
        { 5e-324, "5e-324", "0.0" },
        { 1.7976931348623157e308, "1.7976931348623157e+308", "null" },
        { 0.1234567890123, "0.1234567890123", "0.12345679" },
        { NAN, "null", "null" },
        { INFINITY, "null", "null" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        char out[NUMBER_TEXT_MAX + 1];

        out[number_print_double(out, rows[i].value)] = '\0';
        assert_string_equal(out, rows[i].as_double);
        out[number_print_float(out, (float) rows[i].value)] = '\0';
        assert_string_equal(out, rows[i].as_float);
    }
}

/* Every float of a stretch reads back, through the parser of doubles. */
static void
floats_read_back(void **state)
{
    (void) state;
    for (uint32_t bits = 0; bits < 0x7f800000u; bits += 65521) {
        char out[NUMBER_TEXT_MAX];
        float in, back;
        double wide;
        size_t size;

        memcpy(&in, &bits, sizeof(in));
        size = number_print_float(out, in);
        assert_true(size <= NUMBER_TEXT_MAX);
        assert_true(number_parse_double((anx_text) { out, size }, &wide));
        back = (float) wide;
        assert_memory_equal(&in, &back, sizeof(in));
    }
}

/* ---- Names ---- */

enum { N_NAME = 5000 };

static anx_text
name_number(char *out, size_t size, unsigned number)
{
    int n = snprintf(out, size, "name\"%u", number);

    return (anx_text) { out, (size_t) n };
}

static void *
look_up_names(void *context)
{
    struct doc_names *names = context;
    char storage[32];

    for (uint32_t count = 0; count < N_NAME; count = names_count(names)) {
        for (uint32_t tag = 1; tag <= count; tag += 1 + count / 64) {
            anx_text wanted = name_number(storage, sizeof(storage), tag);

            if (!anx_text_equal(names_text(names, tag), wanted) || names_find(names, wanted) > count + N_NAME)
                return names;
        }
    }
    return NULL;
}

static void
names_are_read_while_they_grow(void **state)
{
    struct doc_names *names = names_create(NULL);
    pthread_t threads[2];
    char storage[32];

    (void) state;
    for (size_t i = 0; i < 2; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, look_up_names, names), 0);
    for (uint32_t i = 1; i <= N_NAME; i++) {
        uint32_t tag;

        assert_int_equal(names_add(names, name_number(storage, sizeof(storage), i), &tag, NULL), ANX_OK);
        assert_int_equal(tag, i);
    }
    for (size_t i = 0; i < 2; i++) {
        void *failed;

        pthread_join(threads[i], &failed);
        assert_null(failed);
    }
    for (uint32_t i = 1; i <= N_NAME; i++)
        assert_int_equal(names_find(names, name_number(storage, sizeof(storage), i)), i);
    assert_int_equal(names_find(names, ANX_TEXT("none")), 0);
    assert_int_equal(names_text(names, N_NAME + 1).size, 0);
    assert_true(anx_text_equal(names_json(names, 7), ANX_TEXT("\"name\\\"7\":")));
    names_destroy(names);
}

static void
names_have_a_limit(void **state)
{
    struct doc_names *names = names_create(NULL);
    char storage[32], *longest = anx_alloc_zeroed(NULL, NAME_SIZE_MAX + 1, 1);
    uint32_t tag;

    (void) state;
    assert_int_equal(names_add(names, (anx_text) { longest, NAME_SIZE_MAX + 1 }, &tag, NULL), ANX_E_LIMIT);
    assert_int_equal(names_add(names, (anx_text) { longest, NAME_SIZE_MAX }, &tag, NULL), ANX_OK);
    for (uint32_t i = 2; i <= NAMES_MAX; i++)
        assert_int_equal(names_add(names, name_number(storage, sizeof(storage), i), &tag, NULL), ANX_OK);
    assert_int_equal(names_add(names, ANX_TEXT("one more"), &tag, NULL), ANX_E_LIMIT);
    assert_int_equal(names_add(names, name_number(storage, sizeof(storage), 9), &tag, NULL), ANX_OK);
    assert_int_equal(tag, 9);
    anx_free(NULL, longest);
    names_destroy(names);
}

static void
names_survive_failed_allocations(void **state)
{
    (void) state;
    for (size_t nth = 1;; nth++) {
        struct test_alloc alloc;
        struct doc_names *names;
        size_t n_failed = 0;

        test_alloc_init(&alloc, nth);
        names = names_create(&alloc.alloc);
        for (unsigned i = 1; names && i <= 200; i++) {
            char storage[32];
            uint32_t tag;

            while (names_add(names, name_number(storage, sizeof(storage), i), &tag, NULL) != ANX_OK)
                assert_true(n_failed++ == 0);
            assert_int_equal(tag, i);
        }
        names_destroy(names);
        assert_int_equal(test_alloc_live(&alloc), 0);
        if (names && n_failed == 0)
            break;
    }
}

/* ---- Arenas and buffers ---- */

static void
arenas_hold_what_they_gave(void **state)
{
    struct test_alloc alloc;
    anx_arena *arena;
    char *texts[300];

    (void) state;
    test_alloc_init(&alloc, 0);
    arena = anx_arena_create(&alloc.alloc, 1 << 20);
    for (int round = 0; round < 2; round++) {
        for (size_t i = 0; i < 300; i++) {
            size_t size = i % 50 == 49 ? 9000 : i;

            texts[i] = anx_arena_bytes(arena, size);
            assert_non_null(texts[i]);
            assert_int_equal((uintptr_t) texts[i] % 16, 0);
            memset(texts[i], (int) (i & 0x7f), size);
        }
        for (size_t i = 1; i < 300; i++)
            assert_int_equal(texts[i][0], i & 0x7f);
        anx_arena_reset(arena);
        assert_int_equal(anx_arena_used(arena), 0);
    }
    assert_null(anx_arena_bytes(arena, (1 << 20) + 1));
    assert_null(anx_arena_array(arena, SIZE_MAX / 2, 4));
    assert_true(anx_text_equal(anx_arena_printf(arena, "%d-%s", 5, "x"), ANX_TEXT("5-x")));
    assert_string_equal(anx_arena_string(arena, (anx_text) { "abc", 2 }), "ab");
    anx_arena_destroy(arena);
    assert_int_equal(test_alloc_live(&alloc), 0);
}

static void
buffers_latch_failure(void **state)
{
    anx_buffer buffer;

    (void) state;
    anx_buffer_init(&buffer, NULL, 1000);
    for (int i = 0; i < 30; i++)
        anx_buffer_printf(&buffer, "%d,", i);
    anx_buffer_char(&buffer, '.');
    assert_false(buffer.failed);
    assert_memory_equal(buffer.data, "0,1,2,", 6);
    assert_int_equal(buffer.data[buffer.size - 1], '.');
    assert_null(anx_buffer_reserve(&buffer, 1000));
    assert_true(buffer.failed);
    anx_buffer_text(&buffer, ANX_TEXT("x"));
    assert_int_equal(buffer.data[buffer.size - 1], '.');
    anx_buffer_clear(&buffer);
    anx_buffer_text(&buffer, ANX_TEXT("x"));
    assert_int_equal(buffer.size, 1);
    anx_buffer_fini(&buffer);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(values_order),
        cmocka_unit_test(values_convert),
        cmocka_unit_test(texts_collate),
        cmocka_unit_test(like_matches),
        cmocka_unit_test(uuids_parse_and_print),
        cmocka_unit_test(numbers_print_shortest),
        cmocka_unit_test(floats_read_back),
        cmocka_unit_test(names_are_read_while_they_grow),
        cmocka_unit_test(names_have_a_limit),
        cmocka_unit_test(names_survive_failed_allocations),
        cmocka_unit_test(arenas_hold_what_they_gave),
        cmocka_unit_test(buffers_latch_failure),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
