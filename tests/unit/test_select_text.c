/* Full-text conditions in queries, hybrid queries, merging by rank, select functions, and the index following
 * its documents. */
#include "test_select_fixture.h"

#include "db/data.h"
#include "db/ns_life.h"

static const char t_definition[] =
    "{\"name\":\"t\",\"indexes\":["
    INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("n", "int", "tree") ","
    INDEX("txt", "string", "text") ","
    INDEX("title", "string", "hash") ","
    INDEX_WITH("tags", "string", "text", "\"is_array\":true") ","
    INDEX_OVER("both", "\"title\",\"deep.note\"", "composite", "text") ","
    VECTOR_INDEX("v", "hnsw", "2", "l2") ","
    VECTOR_INDEX("ip", "vec_bf", "1", "inner_product")
    "]}";
static const char t_documents[] =
    "{\"id\":1,\"n\":1,\"txt\":\"walrus\",\"title\":\"North sea\",\"v\":[0,0],\"ip\":[1],\"tags\":[\"cold "
    "sea\",\"fat\"]}"
    "{\"id\":2,\"n\":2,\"txt\":\"otter walrus\",\"title\":\"River\",\"deep\":{\"note\":\"north "
    "bank\"},\"v\":[1,0],\"ip\":[2]}"
    "{\"id\":3,\"n\":3,\"txt\":\"otter\",\"title\":\"\",\"v\":[2,0],\"ip\":[3],\"tags\":[\"sea\"]}"
    "{\"id\":4,\"n\":4,\"txt\":\"heron\",\"title\":\"Lake\",\"v\":[3,0],\"ip\":[4]}"
    "{\"id\":5,\"n\":5,\"txt\":\"walrus heron crane\",\"title\":\"Shore\",\"v\":[9,0],\"ip\":[5]}";
static const char u_definition[] =
    "{\"name\":\"u\",\"indexes\":["
    INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("txt", "string", "text") ","
    VECTOR_INDEX("v", "hnsw", "2", "l2") "]}";
static const char u_documents[] =
    "{\"id\":11,\"txt\":\"the walrus\",\"v\":[0,1]}{\"id\":12,\"txt\":\"otter\",\"v\":[9,9]}";

static int
set_up(void **state)
{
    static const struct fixture_table tables[] = { { "t", t_definition, t_documents },
                                                   { "u", u_definition, u_documents } };

    return fixture_set_up(state, tables, ANX_COUNT_OF(tables));
}

static void
texts_are_found(void **state)
{
    static const struct fixture_case cases[] = {
        { "WHERE txt = 'walrus'", "1,2,5" },
        { "WHERE txt IN ('walrus')", "1,2,5" },
        { "WHERE txt = 'walrus' AND n < 5", "1,2" },
        { "WHERE n > 1 AND txt = 'walrus' LIMIT 1", "2" },
        { "WHERE txt = 'walrus' LIMIT 1 OFFSET 1", "2" },
        { "WHERE (txt = 'walrus') AND (n = 2 OR n = 5)", "2,5" },
        { "WHERE txt = 'walrus' ORDER BY id DESC", "5,2,1" },
        { "WHERE txt = 'walrus' ORDER BY 'rank()'", "2,5,1" },
        { "WHERE txt = 'walrus' ORDER BY 'rank(txt) * 0 - n'", "5,2,1" },
        { "WHERE txt = '+otter +walrus'", "2" },
        { "WHERE txt = 'wal*'", "1,2,5" },
        { "WHERE txt IN ()", "" },
        { "WHERE tags = 'sea'", "3,1" },
        { "WHERE tags = '\"sea fat\"'", "" }, /* of two texts */
        { "WHERE both = 'north'", "1,2" },
        { "WHERE both = '@title north'", "1" },
        { "WHERE both = '@deep.note north'", "2" },
        { "WHERE id IN (SELECT id FROM t WHERE txt = 'heron')", "4,5" },
        { "WHERE txt = 'walrus' AND txt = 'otter'",
          "400 More than one FullText conditions cannot be combined in a query" },
        { "WHERE txt = 'walrus' OR n = 1",
          "500 OR operation is not allowed between ranked and not ranked conditions" },
        { "WHERE NOT txt = 'walrus'", "500 NOT operation is not allowed with fulltext index: 'txt'" },
        { "WHERE n = 1 OR (txt = 'walrus' AND n = 2)",
          "500 OR and NOT operations are not allowed with bracket containing fulltext or knn condition" },
        { "WHERE txt > 'walrus'",
          "400 Full text index (txt) support only EQ or SET condition with 1 or 2 parameter" },
        { "WHERE txt = '-walrus'",
          "400 Fulltext query can not contain only 'NOT' terms (i.e. terms with minus)" },
        { "WHERE txt = '\"walrus'", "400 No closing quote in full text search query DSL" },
        { "WHERE both = '@n north'", "500 Field 'n' is not included into fulltext index" },
        { "WHERE txt = 'walrus' AND v IS NOT NULL", "400 KNN or FullText cannot be mixed with conditions for "
                                                    "a floating-point vector field in a query" },
        { "WHERE txt = 'walrus' ORDER BY 'rank(v)'",
          "400 Rank by not used in query fulltext of vector index 'v'" },
        { "WHERE txt = 'walrus' ORDER BY 'RRF()'",
          "400 Reciprocal rank fusion (RRF) is allowed in hybrid queries only" },
    };

    (void) state;
    FIXTURE_EXPECT_IDS(*state, "t", cases);
}

static void
both_conditions_make_one_rank(void **state)
{
    static const struct fixture_case cases[] = {
        { "WHERE txt = 'walrus' AND KNN(v, [0,0], k=3)", "1,2" },
        { "WHERE txt = 'heron' OR KNN(v, [0,0], k=2)",
          "4,1,5,2" }, /* 1/61 and 1/62, twice each: the larger row first */
        { "WHERE txt = 'heron' OR KNN(v, [0,0], k=2) LIMIT 2 OFFSET 1", "1,5" },
        { "WHERE txt = 'heron' OR KNN(v, [0,0], k=2) ORDER BY 'RRF()'", "2,5,1,4" },
        { "WHERE txt = 'none' OR KNN(v, [2.25,0], k=3)", "3,4,2" },
        { "WHERE (txt = 'walrus' OR KNN(v, [0,0], k=3)) AND n > 1", "2,5,3" },
        { "WHERE (txt = 'walrus') AND (KNN(v, [0,0], k=3))", "1,2" },
        { "WHERE txt = 'none' OR KNN(v, [0,0], k=3) ORDER BY '0 * rank(txt) - 2 * rank(v) + 1' DESC",
          "1,2,3" },
        { "WHERE txt = 'none' OR KNN(v, [0,0], k=3) ORDER BY '-rank(v)*2 + rank(txt)/1' DESC",
          "400 In hybrid query ordering expression should be 'RRF()' or in form 'a * rank(index1) + b * "
          "rank(index2) + c'" },
        { "WHERE txt = 'crane' OR KNN(ip, [1], k=2) ORDER BY 'rank(txt, 1000) + rank(ip, 7)' DESC", "4,5" },
        { "WHERE txt = 'walrus' AND KNN(v, [0,0], k=3) ORDER BY id",
          "400 In hybrid query ordering expression should be 'RRF()' or in form 'a * rank(index1) + b * "
          "rank(index2) + c'" },
        { "WHERE txt = 'walrus' AND KNN(v, [0,0], k=3) ORDER BY 'RRF()', id",
          "400 In hybrid query ordering expression should be 'RRF()' or in form 'a * rank(index1) + b * "
          "rank(index2) + c'" },
        { "WHERE txt = 'walrus' AND KNN(v, [0,0], k=3) ORDER BY 'rank(txt) + rank(ip)'",
          "400 Rank by not used in query fulltext of vector index 'ip'" },
        { "WHERE txt = 'walrus' AND KNN(v, [0,0], k=3) ORDER BY 'rank(txt) + rank(n)'",
          "400 Ordering by rank allowed by fulltext or float vector index only: 'n'" },
        { "WHERE txt = 'walrus' AND KNN(v, [0,0], k=3) ORDER BY 'rank()'",
          "400 Sorting by rank() is only available for query with single fulltext or knn condition" },
        { "WHERE txt = 'walrus' AND KNN(v, [0,0], k=3) ORDER BY 'rank(txt, x)'",
          "400 'rank(txt, x)' is not valid sort expression. Parser failed at position 10. Default value of "
          "rank "
          "function is expected" },
        { "WHERE txt = 'walrus' AND KNN(v, [0,0])",
          "400 Streaming KNN search does not support hybrid queries" },
        { "WHERE txt = 'walrus' OR KNN(v, [0,0], k=3) OR n = 1",
          "500 OR operation is not allowed between ranked and not ranked conditions" },
    };

    (void) state;
    FIXTURE_EXPECT_IDS(*state, "t", cases);
}

static void
answers_are_printed(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT id, RANK() FROM t WHERE txt = 'crane' AND KNN(v, [9,1], k=1)",
          "{\"items\":[{\"id\":5,\"rank()\":0.032786883}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT id, RANK() FROM t WHERE txt = 'none' OR KNN(ip, [2], k=1) ORDER BY 'rank(txt, 7) + 0.5 * "
          "rank(ip) - 1'",
          "{\"items\":[{\"id\":5,\"rank()\":11.0}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT COUNT(*) FROM t WHERE txt = 'walrus' AND n < 5",
          "{\"items\":[],\"aggregations\":[{\"value\":2.0,\"type\":\"count\",\"fields\":[\"*\"]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":true,\"total_items\":2,\"query_total_items\":2}" },
        { "SELECT id FROM u WHERE txt = 'otter' MERGE(SELECT id FROM t WHERE txt = 'heron')",
          "{\"items\":[{\"id\":12},{\"id\":4},{\"id\":5}],\"namespaces\":[\"u\",\"t\"],\"cache_enabled\":"
          "false}" },
        { "SELECT id FROM t WHERE txt = 'walrus' MERGE(SELECT id FROM u WHERE KNN(v, [0,0], k=1))",
          "400 In merge query without sorting all subqueries should contain fulltext or knn with the same "
          "metric "
          "conditions at the same time: 'fulltext query' VS 'knn with L2 metric query'" },
        { "SELECT id FROM t WHERE txt = 'crane' OR KNN(v, [0,0], k=1) MERGE(SELECT id FROM u WHERE txt = "
          "'otter' AND "
          "KNN(v, [9,9], k=1))",
          "{\"items\":[{\"id\":12},{\"id\":1},{\"id\":5}],\"namespaces\":[\"t\",\"u\"],\"cache_enabled\":"
          "false}" },
        { "SELECT id FROM t WHERE txt = 'crane' OR KNN(v, [0,0], k=1) MERGE(SELECT id FROM u WHERE txt = "
          "'otter' AND "
          "KNN(v, [9,9], k=1) ORDER BY 'RRF()')",
          "400 All merging queries should have the same ordering (ASC or DESC)" },
        { "SELECT id FROM u LEFT JOIN (SELECT id FROM t WHERE txt = 'crane') ON u.id > t.id WHERE id = 11",
          "{\"items\":[{\"id\":11,\"joined_t\":[{\"id\":5}]}],\"namespaces\":[\"u\",\"t\"],\"cache_enabled\":"
          "false}" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

/* The whole answer to a query in the DSL. */
static void
expect_dsl(struct fixture *f, const char *dsl, const char *expected)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = NULL;
    struct query query;
    anx_buffer out;
    anx_error err = { 0 };
    anx_status st = query_read_dsl(anx_text_of(dsl), QUERY_SELECT, arena, &query, &err);

    anx_buffer_init(&out, NULL, 1 << 20);
    if (st == ANX_OK)
        st = db_select(f->db, &query, NULL, &result, &err);
    if (st == ANX_OK)
        st = result_print_json(result, NULL, &out, &err);
    if (st != ANX_OK)
        anx_buffer_text(&out, anx_text_of(err.message));
    anx_buffer_char(&out, '\0');
    assert_non_null(out.data);
    if (!strstr(out.data, expected))
        fail_msg("%s\n  gives %s\n  which lacks %s", dsl, out.data, expected);
    result_free(result);
    anx_buffer_fini(&out);
    anx_arena_destroy(arena);
}

static void
functions_show_what_was_found(void **state)
{
    static const struct {
        const char *field, *query, *functions, *shown;
    } cases[] = {
        { "txt", "walrus -otter", "\"txt.highlight(<b>,</b>)\"",
          "[{\"id\":1,\"n\":1,\"txt\":\"<b>walrus</b>\",\"title\":\"North sea\",\"tags\":" },
        { "txt", "heron -crane", "\"txt = highlight(<,>)\"", "\"txt\":\"<heron>\"" },
        { "txt", "+heron +crane", "\"txt.snippet(<,>,2,0,'[',']')\"", "\"txt\":\"[s <heron> <crane>]\"" },
        { "tags", "cold", "\"tags=highlight(<,>)\"", "\"tags\":[\"<cold> sea\",\"fat\"]" },
        { "both", "north", "\"both.highlight(<,>)\"", "\"deep\":{\"note\":\"<north> bank\"}" },
        { "both", "@title north", "\"title.highlight(<,>)\"", "\"title\":\"<North> sea\"" },
        { "txt", "crane", "\"both.highlight(<,>)\"",
          "\"txt\":\"walrus heron crane\"" }, /* not what was asked */
        { "txt", "crane", "\"txt.debug_rank()\"", "Select function 'debug_rank' is not available" },
        { "txt", "crane", "\"highlight\"", "Invalid select function 'highlight'" },
    };

    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        char dsl[512];

        snprintf(dsl, sizeof(dsl),
                 "{\"namespace\":\"t\",\"select_filter\":[\"*\"],\"select_functions\":[%s],\"filters\":[{"
                 "\"field\":\"%s\",\"cond\":"
                 "\"eq\",\"value\":\"%s\"}]}",
                 cases[i].functions, cases[i].field, cases[i].query);
        expect_dsl(*state, dsl, cases[i].shown);
    }
}

/* Vectors and arrays of objects stand around the text that is replaced. */
static void
shown_documents_keep_the_rest(void **state)
{
    static const char definition[] =
        "{\"name\":\"s\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
        INDEX_OVER("words", "\"o.w\"", "string", "text") "," VECTOR_INDEX("v", "vec_bf", "2", "l2") "]}";

    fixture_namespace(
        *state, definition, "s",
        "{\"id\":1,\"v\":[1,2],\"o\":{\"a\":[1.5,2.5,3.5],\"w\":\"one otter\",\"z\":\"otter\"},\"n\":null}");
    expect_dsl(*state,
               "{\"namespace\":\"s\",\"select_filter\":[\"*\",\"vectors()\"],\"select_functions\":[\"words."
               "highlight(<,>)\"],"
               "\"filters\":[{\"field\":\"words\",\"cond\":\"match\",\"value\":\"otter\"}]}",
               "[{\"id\":1,\"v\":[1.0,2.0],\"o\":{\"a\":[1.5,2.5,3.5],\"w\":\"one "
               "<otter>\",\"z\":\"otter\"},\"n\":null}]");
}

static void
check_all(struct fixture *f, const char *name)
{
    struct ns *ns;
    anx_error err;

    assert_int_equal(ns_acquire(f->db, anx_text_of(name), &ns, &err), ANX_OK);
    if (ns_check(ns, false, &err) != ANX_OK)
        fail_msg("%s", err.message);
    ns_release(ns);
}

static void
set_index(struct fixture *f, const char *definition, enum db_index_action action)
{
    anx_error err;

    if (db_index_set(f->db, ANX_TEXT("w"), anx_text_of(definition), action, NULL, &err) != ANX_OK)
        fail_msg("%s", err.message);
}

static void
the_index_follows_its_documents(void **state)
{
    static const char definition[] =
        "{\"name\":\"w\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") "]}";
    static const char text[] = INDEX("txt", "string", "text");
    static const char text_without_stems[] =
        INDEX_WITH("txt", "string", "text", "\"config\":{\"stemmers\":[]}");
    struct fixture *f = *state;
    char ids[64];

    fixture_namespace(f, definition, "w",
                      "{\"id\":1,\"txt\":\"runs\"}{\"id\":2,\"txt\":\"run\"}{\"id\":3,\"txt\":\"walks\","
                      "\"nest\":{\"a\":\"deep\"}}");
    set_index(f, text, INDEX_ADD);
    check_all(f, "w");
    fixture_ids(f, "SELECT id FROM w WHERE txt = 'run' ORDER BY id", ids, sizeof(ids));
    assert_string_equal(ids, "1,2");
    set_index(f, text_without_stems, INDEX_UPDATE);
    check_all(f, "w");
    fixture_ids(f, "SELECT id FROM w WHERE txt = 'run' ORDER BY id", ids, sizeof(ids));
    assert_string_equal(ids, "2");
    set_index(f, INDEX_OVER("all", "\"txt\",\"nest.a\"", "composite", "text"), INDEX_ADD);
    check_all(f, "w");
    fixture_ids(f, "SELECT id FROM w WHERE all = 'deep walks' ORDER BY id", ids, sizeof(ids));
    assert_string_equal(ids, "3");
    fixture_ids(f, "UPDATE w SET txt = 'swims' WHERE txt = 'walks'", ids, sizeof(ids));
    fixture_ids(f, "SELECT id FROM w WHERE txt = 'swims'", ids, sizeof(ids));
    assert_string_equal(ids, "3");
    fixture_ids(f, "SELECT id FROM w WHERE txt = 'walks'", ids, sizeof(ids));
    assert_string_equal(ids, "");
    check_all(f, "w");
    fixture_ids(f, "DELETE FROM w WHERE txt = 'swims OR runs'", ids, sizeof(ids));
    check_all(f, "w");
    fixture_ids(f, "SELECT id FROM w WHERE all = 'swims runs run'", ids, sizeof(ids));
    assert_string_equal(ids, "2");
    fixture_ids(f, "TRUNCATE w", ids, sizeof(ids));
    check_all(f, "w");
    fixture_ids(f, "SELECT id FROM w WHERE txt = 'run'", ids, sizeof(ids));
    assert_string_equal(ids, "");
    assert_int_equal(db_index_drop(f->db, ANX_TEXT("w"), ANX_TEXT("all"), NULL, NULL), ANX_OK);
    check_all(f, "w");
}

/* Port 1 of this machine: nobody answers. */
static void
a_hybrid_or_goes_on_without_its_embedder(void **state)
{
    static const char definition[] =
        "{\"name\":\"e\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") "," INDEX(
            "txt", "string",
            "text") "," INDEX_WITH("v", "float_vector", "vec_bf",
                                   "\"config\":{\"dimension\":2,\"metric\":\"l2\",\"embedding\":{"
                                   "\"query_embedder\":{\"URL\":\"http://127.0.0.1:1\"}}}") "]}";
    static const struct fixture_case cases[] = {
        { "WHERE txt = 'otter' OR KNN(v, 'otter', k=2)", "2,1" },
        { "WHERE txt = 'otter' OR KNN(v, 'otter', k=2) ORDER BY 'rank(txt) + 2 * rank(v, 3)'", "1,2" },
    };
    char ids[256];

    fixture_namespace(
        *state, definition, "e",
        "{\"id\":1,\"txt\":\"the otter swims\",\"v\":[0,0]}{\"id\":2,\"txt\":\"otter\",\"v\":[1,1]}");
    FIXTURE_EXPECT_IDS(*state, "e", cases);
    fixture_ids(*state, "SELECT id FROM e WHERE txt = 'otter' AND KNN(v, 'otter', k=2)", ids, sizeof(ids));
    assert_true(ids[0] == '5'); /* 500 or 502: the service's failure */
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(texts_are_found),
        cmocka_unit_test(both_conditions_make_one_rank),
        cmocka_unit_test(answers_are_printed),
        cmocka_unit_test(functions_show_what_was_found),
        cmocka_unit_test(shown_documents_keep_the_rest),
        cmocka_unit_test(the_index_follows_its_documents),
        cmocka_unit_test(a_hybrid_or_goes_on_without_its_embedder),
    };

    return cmocka_run_group_tests(tests, set_up, fixture_tear_down);
}
