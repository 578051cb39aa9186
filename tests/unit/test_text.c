/* Full text: words, the query language, ranks, changes, configuration, marking. */
#include "test_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/rng.h"
#include "text/text_int.h"

static struct text_config *
config_of(const char *json, const char *const *fields, size_t n_field)
{
    anx_text names[TEXT_FIELDS_MAX];
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct json_node *node = NULL;
    struct text_config *config;
    anx_error err;

    for (size_t i = 0; i < n_field; i++)
        names[i] = anx_text_of(fields[i]);
    if (json)
        assert_int_equal(json_parse(anx_text_of(json), arena, &node, &err), ANX_OK);
    if (text_config_read(node, names, n_field, &config, &err) != ANX_OK)
        fail_msg("%s", err.message);
    anx_arena_destroy(arena);
    return config;
}

static struct text_index *
index_of(const char *json, size_t n_field)
{
    static const char *const fields[] = { "title", "body", "notes" };
    struct text_index *index;
    anx_error err;

    assert_int_equal(text_index_create(config_of(json, fields, n_field), &index, &err), ANX_OK);
    return index;
}

static void
put(struct text_index *index, uint32_t row, const char *title, const char *body)
{
    anx_text texts[] = { anx_text_of(title), anx_text_of(body) };
    struct text_field fields[] = { { &texts[0], 1 }, { &texts[1], 1 } };
    anx_error err;

    if (text_index_begin(index, row, fields, &err) != ANX_OK)
        fail_msg("%s", err.message);
    text_index_commit(index);
}

static void
check(const struct text_index *index)
{
    anx_error err;

    if (text_index_check(index, &err) != ANX_OK)
        fail_msg("%s", err.message);
}

/* "1 2 3": rows, best first. */
static void
found_by(const struct text_index *index, const char *query, char out[256])
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct text_found found;
    anx_error err;
    size_t used = 0;

    out[0] = '\0';
    if (text_search(index, anx_text_of(query), NULL, NULL, arena, &found, &err) != ANX_OK)
        snprintf(out, 256, "%s", err.message);
    for (size_t i = 0; i < found.n && used < 240; i++) {
        assert_true(found.hits[i].rank >= 1 && found.hits[i].rank <= 255);
        if (i > 0)
            assert_true(found.hits[i - 1].rank >= found.hits[i].rank);
        used += (size_t) snprintf(out + used, 256 - used, i ? " %u" : "%u", found.hits[i].row);
    }
    anx_arena_destroy(arena);
}

static void
texts_are_cut_into_words(void **state)
{
    static const char *const cases[][2] = {
        { "", "" },
        { "Hello, World!", "hello@0 world@1" },
        { "(a)b c+", "a@0 b@1 c+@2" },
        { "user-friendly tool", "user-friendly@0 user*0 friendly*0 tool@1" },
        { "don't -x-", "don't@0 don*0 x-@1" },
        { "Caf\xc3\xa9 \xc3\x9c" "ber stra\xc3\x9f" "e", "cafe@0 uber@1 stra\xc3\x9f" "e@2" },
        { "\xd0\x81\xd0\x9b\xd0\x9a\xd0\x90 \xd0\xb9", "\xd0\xb5\xd0\xbb\xd0\xba\xd0\xb0@0 \xd0\xb9@1" },
        { "e\xcc\x81t\xcc\x81", "et@0" },
        { "\xe6\x97\xa5\xe6\x9c\xac\xe3\x80\x82\xe8\xaa\x9e", "\xe6\x97\xa5\xe6\x9c\xac@0 \xe8\xaa\x9e@1" },
        { "a\xff" "b", "a@0 b@1" },
        { "42 3d", "42@0 3d@1" },
    };
    struct text_config *config = config_of(NULL, (const char *const[]) { "f" }, 1);

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        struct splitting s;
        struct token token;
        char out[256] = "";

        split_begin(&s, config, anx_text_of(cases[i][0]));
        while (split_next(&s, &token))
            snprintf(out + strlen(out), sizeof(out) - strlen(out), "%s%.*s%c%u", out[0] ? " " : "",
                     ANX_TEXT_ARG(token.word), token.is_part ? '*' : '@', token.position);
        assert_string_equal(out, cases[i][1]);
    }
    text_config_destroy(config);
}

static void
queries_find(void **state)
{
    static const struct {
        const char *query, *rows;
    } cases[] = {
        { "walrus", "1 2 5" }, /* full match, then the shorter text */
        { "WALRUS", "1 2 5" },
        { "", "" },
        { "the", "" },
        { "the walrus", "1 2 5" },
        { "nothing", "" },
        { "otter walrus", "2 1 5 3 9" },
        { "+otter +walrus", "2" },
        { "otter +walrus", "2 1 5" },
        { "walrus -otter", "1 5" },
        { "walrus -\"walrus heron\"", "1 2" },
        { "walr*", "1 2 5" },
        { "*rus", "1 2 5" },
        { "*alru*", "1 2 5" },
        { "\"walrus heron\"", "5" },
        { "\"heron walrus\"", "" },
        { "\"walrus crane\"", "" },
        { "\"walrus crane\"~2", "5" },
        { "'otter walrus'", "2" },
        { "running", "6 7" },     /* stems: run */
        { "=running", "6" },
        { "walrsu~", "1 2 5" },   /* exchanged */
        { "wolrus~", "1 2 5" },   /* another letter */
        { "wallrus~", "1 2 5" },
        { "alrus~", "1 2 5" },
        { "lrus~", "" },
        { "walrsu", "" },
        { "friendly", "8" },
        { "user-friendly", "8" },
        { "userfriendly", "" },
        { "user friendly", "8" },
        { "ottercrane", "9" },    /* halves */
        { "di caprio", "10" },    /* joined */
        { "dfkkhec", "" },
        { "\xd1\x86\xd1\x84\xd0\xb4\xd0\xba\xd0\xb3\xd1\x8b", "1 2 5" }, /* the other keyboard */
        { "\xd0\xb2\xd0\xb0\xd0\xbb\xd1\x80\xd1\x83\xd1\x81", "" },
        { "luntik", "11" },       /* in other letters */
        { "otter^2 walrus^0.1", "2 3 9 1 5" },
        { "w(alrus", "2 1 5" },
        { "\\walrus", "1 2 5" },
        { "-otter", "Fulltext query can not contain only 'NOT' terms (i.e. terms with minus)" },
        { "\"otter", "No closing quote in full text search query DSL" },
        { "otter^", "Expected number after '^' operator in search query DSL, but found nothing" },
        { "\"a otter b heron\"~0", "Expected positive integer after '~', but found '0'" },
        { "@nofield otter", "Field 'nofield' is not included into fulltext index" },
        { "@title otter", "3 2 9" },
    };
    struct text_index *index = index_of(NULL, 1);

    (void) state;
    put(index, 1, "walrus", "");
    put(index, 2, "otter walrus", "");
    put(index, 3, "otter", "");
    put(index, 4, "heron", "");
    put(index, 5, "walrus heron crane", "");
    put(index, 6, "running fast", "");
    put(index, 7, "he runs slowly", "");
    put(index, 8, "A user-friendly program", "");
    put(index, 9, "the otter crane", "");
    put(index, 10, "dicaprio", "");
    put(index, 11, "\xd0\xbb\xd1\x83\xd0\xbd\xd1\x82\xd0\xb8\xd0\xba", "");
    check(index);
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        char rows[256];

        found_by(index, cases[i].query, rows);
        if (strcmp(rows, cases[i].rows) != 0)
            fail_msg("%s: [%s], not [%s]", cases[i].query, rows, cases[i].rows);
    }
    text_index_destroy(index);
}

static void
fields_are_chosen(void **state)
{
    static const struct {
        const char *query, *rows;
    } cases[] = {
        { "fox", "1 3 2" },         { "@title fox", "1 3" }, { "@body fox", "3 2" },
        { "@title,body fox", "1 3 2" }, { "@* fox", "1 3 2" },   { "@body^2,* fox", "3 2 1" },
        { "@+title,+body fox", "3 1 2" }, { "@title fox @body dog", "1 3" },
    };
    struct text_index *index = index_of(
        "{\"sum_ranks_by_fields_ratio\":0.5,\"fields\":[{\"field_name\":\"body\",\"position_weight\":0}]}",
        2);

    (void) state;
    put(index, 1, "fox", "dog");
    put(index, 2, "cat", "fox cat");
    put(index, 3, "fox cat", "fox");
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        char rows[256];

        found_by(index, cases[i].query, rows);
        if (strcmp(rows, cases[i].rows) != 0)
            fail_msg("%s: [%s], not [%s]", cases[i].query, rows, cases[i].rows);
    }
    text_index_destroy(index);
}

/* Random changes against a plain list of texts: the checker agrees, and every word finds its rows. */
static void
changes_keep_the_index_whole(void **state)
{
    enum { ROWS = 600, WORDS = 40, CHANGES = 4000 };
    struct text_index *index = index_of("{\"stop_words\":[],\"stemmers\":[],\"merge_limit\":100000}", 2);
    char(*texts)[2][64] = calloc(ROWS, sizeof(*texts));
    anx_rng rng = anx_rng_seed(7);

    (void) state;
    for (size_t i = 0; i < CHANGES; i++) {
        uint32_t row = (uint32_t) (anx_rng_next(&rng) % ROWS);

        if (anx_rng_next(&rng) % 3 == 0) {
            text_index_remove(index, row);
            memset(texts[row], 0, sizeof(texts[row]));
        } else {
            for (size_t f = 0; f < 2; f++) {
                size_t used = 0;

                for (uint32_t n = 1 + anx_rng_below(&rng, 5); n > 0; n--) /* small numbers are frequent */
                    used += (size_t) snprintf(texts[row][f] + used, sizeof(texts[row][f]) - used, "w%ux ",
                                              anx_rng_below(&rng, 1 + anx_rng_below(&rng, WORDS)));
            }
            put(index, row, texts[row][0], texts[row][1]);
        }
        if (i % 500 == 499)
            check(index);
    }
    for (unsigned w = 0; w < WORDS; w++) {
        char query[32], spaced[32];
        anx_arena *arena = anx_arena_create(NULL, 0);
        struct text_found found;
        size_t expected = 0;

        snprintf(query, sizeof(query), "=w%ux", w);
        snprintf(spaced, sizeof(spaced), "w%ux ", w);
        for (size_t row = 0; row < ROWS; row++)
            expected += strstr(texts[row][0], spaced) || strstr(texts[row][1], spaced);
        assert_int_equal(text_search(index, anx_text_of(query), NULL, NULL, arena, &found, NULL), ANX_OK);
        assert_int_equal(found.n, expected);
        for (size_t i = 0; i < found.n; i++)
            assert_true(strstr(texts[found.hits[i].row][0], spaced) ||
                        strstr(texts[found.hits[i].row][1], spaced));
        anx_arena_destroy(arena);
    }
    for (uint32_t row = 0; row < ROWS; row++)
        text_index_remove(index, row);
    check(index);
    assert_int_equal(text_index_words(index), 0);
    assert_int_equal(text_index_rows(index), 0);
    free(texts);
    text_index_destroy(index);
}

static void
aborted_changes_leave_nothing(void **state)
{
    struct text_index *index = index_of(NULL, 1);
    anx_text text = ANX_TEXT("some new words");
    struct text_field field = { &text, 1 };
    char rows[256];

    (void) state;
    put(index, 3, "old words", "");
    for (uint32_t row = 2; row < 5; row++) {
        assert_int_equal(text_index_begin(index, row, &field, NULL), ANX_OK);
        text_index_abort(index);
        check(index);
    }
    found_by(index, "words", rows);
    assert_string_equal(rows, "3");
    found_by(index, "new", rows);
    assert_string_equal(rows, "");
    assert_int_equal(text_index_words(index), 2);
    text_index_destroy(index);
}

static void
configurations_are_checked(void **state)
{
    static const struct {
        const char *json, *error;
    } cases[] = {
        { "{\"merge_limit\":0}", "FTConfig: Value of 'merge_limit' - 0 is out of bounds: [1,3.35544e+07]" },
        { "{\"min_rank\":256}", "FTConfig: Value of 'min_rank' - 256 is out of bounds: [0,255]" },
        { "{\"enable_translit\":1}", "FTConfig: Can't convert json field 'enable_translit' to bool" },
        { "{\"stop_words\":[\"two words\"]}", "FTConfig: Stop words can't contain spaces: two words" },
        { "{\"stop_words\":[\"x\",{\"word\":\"X\",\"is_morpheme\":true}]}",
          "FTConfig: Duplicate stop-word with different morpheme attribute: x" },
        { "{\"stemmers\":[\"klingon\"]}", "FTConfig: Stemmer for language klingon is not available" },
        { "{\"bm25_config\":{\"bm25_type\":\"x\"}}", "FTConfig: unknown bm25_type value: x" },
        { "{\"splitter\":\"friso\"}", "FTConfig: splitter 'mmseg_cn' is not available, use 'fast'" },
        { "{\"max_typos\":1,\"max_typos_in_word\":1}",
          "FTConfig: Fulltext configuration cannot contain 'max_typos' and 'max_typos_in_word' fields at the "
          "same time" },
        { "{\"fields\":[{\"field_name\":\"f\"}]}",
          "FTConfig: Configuration for single field fulltext index can't contain field specifications" },
        { "{\"terms_boost\":[{\"terms\":[\"a b\"],\"boost\":2}]}",
          "FTConfig: Incorrect term to boost: a b (must be single word)" },
        { "{\"terms_boost\":[{\"terms\":[\"a\"],\"boost\":6}]}",
          "FTConfig: Value of 'boost' - 6 is out of bounds: [0,5]" },
        { "[]", "FTConfig: config is not an object" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        anx_text name = ANX_TEXT("f");
        struct json_node *node;
        struct text_config *config;
        anx_error err;

        assert_int_equal(json_parse(anx_text_of(cases[i].json), arena, &node, &err), ANX_OK);
        assert_int_not_equal(text_config_read(node, &name, 1, &config, &err), ANX_OK);
        assert_string_equal(err.message, cases[i].error);
        assert_null(config);
        anx_arena_destroy(arena);
    }
}

static void
settings_change_what_is_found(void **state)
{
    static const struct {
        const char *json, *query, *rows;
    } cases[] = {
        { "{\"stop_words\":[\"under\"]}", "under*", "" },
        { "{\"stop_words\":[{\"word\":\"under\",\"is_morpheme\":true}]}", "under*", "2" },
        { "{\"stop_words\":[{\"word\":\"under\",\"is_morpheme\":true}]}", "under", "" },
        { "{\"stop_words\":[]}", "under", "1" },
        { "{\"synonyms\":[{\"tokens\":[\"house\"],\"alternatives\":[\"roof\",\"to "
          "forgive\"]}],\"stop_words\":[]}",
          "house", "1 2" },
        { "{\"max_typos\":0}", "rof~", "" },
        { "{\"max_typos\":1}", "rof~", "1" },
        { "{\"max_typos\":1}", "raof~", "" },
        { "{\"max_typos\":3}", "raoof~", "1" },
        { "{\"max_typos\":4}", "ruuf~", "1" },
        { "{\"max_typo_len\":3}", "rof~", "" },
        { "{\"typos_detailed_config\":{\"max_symbol_permutation_distance\":0}}", "orof~", "" },
        { "{\"typos_detailed_config\":{\"max_symbol_permutation_distance\":1}}", "orof~", "1" },
        { "{\"typos_detailed_config\":{\"max_typo_distance\":-1}}", "oofr~", "1" },
        { "{\"stemmers\":[]}", "forgives", "" },
        { "{\"stemmers\":[\"english\"]}", "forgives", "2" },
        { "{\"terms_boost\":[{\"terms\":[\"forgive\"],\"boost\":5}]}", "roof forgive", "2 1" },
        { "{\"merge_limit\":1}", "roof forgive", "2" },
        { "null", "roof", "1" },
        { "{\"synonyms\":null,\"min_rank\":null,\"fields\":null}", "roof", "1" },
        { "{\"min_rank\":200}", "roof", "" },
        { "{\"min_rank\":70}", "rof~", "1" }, /* 85 - 15 percent */
        { "{\"min_rank\":80}", "rof~", "" },
        { "{\"extra_word_symbols\":\"&\",\"word_part_delimiters\":\"\"}", "q&a", "3" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        struct text_index *index = index_of(cases[i].json, 1);
        char rows[256];

        put(index, 1, "under the roof", "");
        put(index, 2, "to understand and forgive", "");
        put(index, 3, "q&a", "");
        found_by(index, cases[i].query, rows);
        if (strcmp(rows, cases[i].rows) != 0)
            fail_msg("%s %s: [%s], not [%s]", cases[i].json, cases[i].query, rows, cases[i].rows);
        text_index_destroy(index);
    }
}

static void
marks_show_what_was_found(void **state)
{
    static const struct {
        const char *query, *call, *shown;
    } cases[] = {
        { "rx", "highlight(<,>)", "w(here <rx> fin)d" },
        { "rx", "snippet(<,>,2,3,'!','#')", "!e <rx> fi#" },
        { "rx", "snippet(<b>,</b>,2,0)", "e <b>rx</b> " },
        { "rx",
          "snippet_n('<','>',10,2,pre_delim='[',post_delim=']',left_bound='(',right_bound=')',with_area=1)",
          "[[2,11]here <rx> f]" },
        { "rx fin", "highlight(<,>)", "w(here <rx> <fin>)d" },
        { "\"rx fin\"", "highlight(<,>)", "w(here <rx fin>)d" },
        { "\"here fin\"~2", "highlight(<,>)", "w(<here rx fin>)d" },
        { "rx -other", "highlight(<,>)", "w(here <rx> fin)d" },
        { "r* fin", "snippet(<,>,1,1,'','|')", " <rx> <fin>)|" },
        { "rx", "highlight(<)", "Invalid highlight params need 2 - have 1" },
        { "rx", "snippet(<,>,a,0)", "Invalid snippet param before - a is not a number" },
        { "rx", "snippet(<,>)", "Invalid snippet params need minimum 4 - have 2" },
        { "rx", "shout(<,>)", "Unknown select function 'shout'" },
        { "rx", "highlight(<,>", "Invalid select function: no closing bracket at ''" },
        { "rx", "snippet_n('<','>',1,1,size=3)", "Invalid select function: unknown parameter at ')'" },
    };
    static const char text[] = "w(here rx fin)d";
    struct text_index *index = index_of("{\"stop_words\":[]}", 1);

    (void) state;
    put(index, 1, text, "");
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        struct text_found found;
        struct text_area *areas;
        struct text_show show;
        anx_buffer out;
        anx_error err;
        size_t n;

        anx_buffer_init(&out, NULL, 1000);
        if (text_show_read(anx_text_of(cases[i].call), arena, &show, &err) == ANX_OK) {
            assert_int_equal(text_search(index, anx_text_of(cases[i].query), NULL, NULL, arena, &found, &err),
                             ANX_OK);
            assert_int_equal(found.n, 1);
            assert_int_equal(
                text_find_areas(index, found.marks, 0, anx_text_of(text), arena, &areas, &n, &err), ANX_OK);
            text_show_print(&show, anx_text_of(text), areas, n, &out);
        } else {
            anx_buffer_text(&out, anx_text_of(err.message));
        }
        anx_buffer_char(&out, '\0');
        assert_string_equal(out.data, cases[i].shown);
        anx_buffer_fini(&out);
        anx_arena_destroy(arena);
    }
    text_index_destroy(index);
}

/* A phrase of words that a text has by the hundred thousand: each place of one against each of the other
 * would take minutes, in which nothing could stop the search. */
static void
phrases_of_long_texts(void **state)
{
    enum { PAIRS = 150000, LIMIT_S = 20 };
    static const char *const queries[] = { "\"xx yy\"", "\"yy xx\"~3", "\"x* y*\"", "\"xx zz\"~1000000" };
    struct text_index *index = index_of("{\"stop_words\":[]}", 1);
    anx_buffer text;
    clock_t start = clock();

    (void) state;
    anx_buffer_init(&text, NULL, 16 << 20);
    for (size_t i = 0; i < PAIRS; i++)
        anx_buffer_text(&text, ANX_TEXT("xx yy "));
    anx_buffer_text(&text, ANX_TEXT("zz"));
    anx_buffer_char(&text, '\0');
    put(index, 1, text.data, "");
    for (size_t i = 0; i < ANX_COUNT_OF(queries); i++) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        struct text_found found;
        struct text_area *areas;
        anx_error err;
        size_t n;

        assert_int_equal(text_search(index, anx_text_of(queries[i]), NULL, NULL, arena, &found, &err),
                         ANX_OK);
        assert_int_equal(found.n, 1);
        assert_int_equal(text_find_areas(index, found.marks, 0, (anx_text){ text.data, text.size - 1 }, arena,
                                         &areas, &n, &err),
                         ANX_OK);
        assert_true(n > 0 && areas[n - 1].end <= text.size - 1);
        anx_arena_destroy(arena);
    }
    assert_true(clock() - start < LIMIT_S * CLOCKS_PER_SEC);
    anx_buffer_fini(&text);
    text_index_destroy(index);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_cut_into_words),
        cmocka_unit_test(queries_find),
        cmocka_unit_test(fields_are_chosen),
        cmocka_unit_test(changes_keep_the_index_whole),
        cmocka_unit_test(aborted_changes_leave_nothing),
        cmocka_unit_test(configurations_are_checked),
        cmocka_unit_test(settings_change_what_is_found),
        cmocka_unit_test(marks_show_what_was_found),
        cmocka_unit_test(phrases_of_long_texts),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
