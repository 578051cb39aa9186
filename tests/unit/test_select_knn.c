/* KNN conditions in queries: ranks, filters behind them, windows, streaming, arrays of vectors, and every
 * mistake. */
#include "test_select_fixture.h"

#include "base/rng.h"

enum { N_STREAM = 500 };

static const char t_definition[] =
    "{\"name\":\"t\",\"indexes\":["
    INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("price", "double", "tree") ","
    INDEX("name", "string", "hash") ","
    VECTOR_INDEX("v", "vec_bf", "2", "l2") ","
    VECTOR_INDEX("h", "hnsw", "2", "l2") ","
    VECTOR_INDEX("ip", "vec_bf", "2", "inner_product") ","
    VECTOR_INDEX("cos", "hnsw", "2", "cosine") ","
    VECTOR_INDEX_WITH("iv", "ivf", "", ",\"centroids_count\":2") ","
    VECTOR_INDEX_WITH("rad", "vec_bf", "", ",\"radius\":2") ","
    VECTOR_INDEX_WITH("arr", "vec_bf", "\"is_array\":true,", "")
    "]}";
static const char s_definition[] =
    "{\"name\":\"s\",\"indexes\":["
    INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("par", "int", "tree") ","
    VECTOR_INDEX("v", "hnsw", "2", "l2") ","
    VECTOR_INDEX_WITH("arr", "hnsw", "\"is_array\":true,", "")
    "]}";
static const char t_documents[] =
    "{\"id\":1,\"name\":\"a\",\"price\":1.5,\"v\":[0,0],\"h\":[0,0],\"ip\":[3,4],\"cos\":[3,4],\"iv\":[0,0],"
    "\"rad\":[0,0],\"arr\":[[1,1],[1.25,1],[1,1.5]]}"
    "{\"id\":2,\"name\":\"b\",\"price\":2.5,\"v\":[3,4],\"h\":[3,4],\"ip\":[1,0],\"cos\":[1,0],\"iv\":[3,4],"
    "\"rad\":[3,4],\"arr\":[[2,0.5]]}"
    "{\"id\":3,\"name\":\"c\",\"price\":3.5,\"v\":[1,0],\"h\":[1,0],\"ip\":[-1,0],\"iv\":[1,0],\"rad\":[1,0],"
    "\"arr\":[3,0]}"
    "{\"id\":4,\"name\":\"d\",\"price\":0.5}";

static int
set_up(void **state)
{
    static const struct fixture_table tables[] = { { "t", t_definition, t_documents } };
    anx_buffer documents;

    (void) fixture_set_up(state, tables, 1);
    anx_buffer_init(&documents, NULL, 1 << 20);
    for (int i = 0; i < N_STREAM; i++)
        anx_buffer_printf(&documents, "{\"id\":%d,\"par\":%d,\"v\":[%d,1],\"arr\":[[%d,0],[%d,0]]}",
                          i, i % 2, i, i, 10000 + i);
    anx_buffer_text(&documents, ANX_TEXT("{\"id\":1000,\"par\":1}"));
    anx_buffer_char(&documents, '\0');
    fixture_namespace(*state, s_definition, "s", documents.data);
    anx_buffer_fini(&documents);
    return 0;
}

static void
the_nearest_come_first(void **state)
{
    static const struct fixture_case cases[] = {
        { "WHERE KNN(v, [0,0], k=2)", "1,3" },
        { "WHERE KNN(v, [0,0], k=10)", "1,3,2" },
        { "WHERE KNN(h, [0,0], k=10, ef=20)", "1,3,2" },
        { "WHERE KNN(iv, [0,0], k=10, nprobe=2)", "1,3,2" },
        { "WHERE KNN(ip, [1,0], k=3)", "1,2,3" },
        { "WHERE KNN(cos, [1,0], k=2, ef=10)", "2,1" },
        { "WHERE KNN(v, [0,0], radius=2)", "1,3" },
        { "WHERE KNN(v, [0,0], radius=1)", "1" }, /* a rank equal to the radius is outside */
        { "WHERE KNN(v, [0,0], k=1, radius=100)", "1" },
        { "WHERE KNN(rad, [0,0])", "1,3" },
        { "WHERE KNN(rad, [0,0], k=1)", "1" },
        { "WHERE KNN(rad, [0,0], radius=50)", "1,3,2" },
        { "WHERE KNN(arr, [1,1], k=3)", "1" }, /* k counts vectors */
        { "WHERE KNN(arr, [1,1], k=4)", "1,2" },
        { "WHERE KNN(v, [0,0], k=3) LIMIT 1 OFFSET 1", "3" },
        { "WHERE KNN(v, [0,0], k=3) LIMIT 0", "" },
        { "WHERE KNN(v, [0,0], k=3) ORDER BY id DESC", "3,2,1" },
        { "WHERE KNN(v, [0,0], k=3) ORDER BY 'rank()' DESC", "2,3,1" },
        { "WHERE KNN(v, [0,0], k=3) ORDER BY 'rank(v) * 2 - id'", "1,3,2" },
        { "WHERE KNN(v, [0,0], k=3) ORDER BY FIELD(id, 2)", "2,1,3" },
    };

    FIXTURE_EXPECT_IDS(*state, "t", cases);
}

static void
other_conditions_filter_afterwards(void **state)
{
    static const struct fixture_case cases[] = {
        { "WHERE KNN(v, [0,0], k=1) AND price > 2", "" },
        { "WHERE price > 2 AND KNN(v, [0,0], k=3)", "3,2" },
        { "WHERE KNN(v, [0,0], k=3) AND (name = 'a' OR name = 'b')", "1,2" },
        { "WHERE price > 1 AND (name <> 'a' AND KNN(v, [0,0], k=3))", "3,2" },
        { "WHERE NOT name = 'a' AND KNN(v, [0,0], k=2)", "3" },
        { "WHERE id = 4 AND KNN(v, [0,0], k=10)", "" },
        { "WHERE (KNN(v, [0,0], k=2)) AND price < 3", "1" },
    };

    FIXTURE_EXPECT_IDS(*state, "t", cases);
}

static void
ranks_are_printed_last(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT id, RANK() FROM t WHERE KNN(v, [0,0], k=3)",
          "{\"items\":[{\"id\":1,\"rank()\":0.0},{\"id\":3,\"rank()\":1.0},{\"id\":2,\"rank()\":25.0}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT RANK() FROM s WHERE KNN(v, [3,1], k=1)",
          "{\"items\":[{\"id\":3,\"par\":1,\"rank()\":0.0}],\"namespaces\":[\"s\"],\"cache_enabled\":true}" },
        { "SELECT id, RANK() FROM t WHERE KNN(ip, [1,1], k=1)",
          "{\"items\":[{\"id\":1,\"rank()\":7.0}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT id, v, rank(), COUNT(*) FROM t WHERE KNN(v, [0,0], k=3) LIMIT 1",
          "{\"items\":[{\"id\":1,\"v\":[0.0,0.0],\"rank()\":0.0}],\"aggregations\":[{\"value\":3.0,\"type\":"
          "\"count\","
          "\"fields\":[\"*\"]}],\"namespaces\":[\"t\"],\"cache_enabled\":false,\"total_items\":3,"
          "\"query_total_items\":3}" },
        { "SELECT id, RANK() FROM t WHERE KNN(v, [0.5,0], k=2) MERGE(SELECT id, RANK() FROM s WHERE KNN(v, "
          "[7,2], "
          "k=2))",
          "{\"items\":[{\"id\":1,\"rank()\":0.25},{\"id\":3,\"rank()\":0.25},{\"id\":7,\"rank()\":1.0},{"
          "\"id\":6,"
          "\"rank()\":2.0}],\"namespaces\":[\"t\",\"s\"],\"cache_enabled\":false}" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

static void
streams_go_on_until_enough_pass(void **state)
{
    static const struct fixture_case cases[] = {
        { "WHERE KNN(v, [0,1]) LIMIT 5", "0,1,2,3,4" },
        { "WHERE KNN(v, [0,1]) LIMIT 3 OFFSET 4", "4,5,6" },
        { "WHERE par = 1 AND KNN(v, [0,1]) LIMIT 4", "1,3,5,7" },
        { "WHERE KNN(v, [0,1]) AND id > 450 LIMIT 3", "451,452,453" },
        { "WHERE KNN(v, [0,1], ef=50) LIMIT 2", "0,1" },
        { "WHERE KNN(v, [0,1]) AND par = 7 LIMIT 4", "" },
        { "WHERE KNN(v, [0,1]) LIMIT 0", "" },
        { "WHERE KNN(arr, [10.25, 0]) LIMIT 4", "10,11,9,12" },
    };
    static const struct fixture_case totals[] = {
        { "SELECT COUNT(*) FROM s WHERE KNN(v, [0,1])",
          "{\"items\":[],\"aggregations\":[{\"value\":500.0,\"type\":\"count\",\"fields\":[\"*\"]}],"
          "\"namespaces\":"
          "[\"s\"],\"cache_enabled\":true,\"total_items\":500,\"query_total_items\":500}" },
        { "SELECT id, COUNT(*) FROM s WHERE KNN(arr, [0,0]) AND par = 0 LIMIT 1",
          "{\"items\":[{\"id\":0}],\"aggregations\":[{\"value\":250.0,\"type\":\"count\",\"fields\":[\"*\"]}]"
          ","
          "\"namespaces\":[\"s\"],\"cache_enabled\":false,\"total_items\":250,\"query_total_items\":250}" },
    };

    FIXTURE_EXPECT_IDS(*state, "s", cases);
    FIXTURE_EXPECT_ALL(*state, totals);
}

/* Many candidates go through a bitmap of the filter, few are asked one by one: the same rows. */
static void
a_filter_by_bitmap_gives_the_same_rows(void **state)
{
    char few[1024], many[4096];
    static const char filter[] = "id IN (3, 5, 7, 100, 101, 499, 1000)";
    char sql[512];

    snprintf(sql, sizeof(sql), "SELECT id FROM s WHERE %s AND KNN(v, [0,1], k=200, ef=600)", filter);
    fixture_ids(*state, sql, few, sizeof(few));
    assert_string_equal(few, "3,5,7,100,101");
    snprintf(sql, sizeof(sql), "SELECT id FROM s WHERE %s AND KNN(v, [0,1], k=500, ef=600)", filter);
    fixture_ids(*state, sql, many, sizeof(many));
    assert_string_equal(many, "3,5,7,100,101,499");
    fixture_ids(*state, "SELECT id FROM s WHERE par = 1 AND id < 9 AND KNN(v, [0,1], k=500, ef=600)", many,
                sizeof(many));
    assert_string_equal(many, "1,3,5,7");
}

/* With a selective filter and a large k the rows that pass are found first, and then their places among all;
 * an exact index takes the k nearest first. Components are bytes, so that ranks of both are exact. */
static void
a_selective_filter_gives_the_rows_of_an_exact_index(void **state)
{
    static const char definition[] =
        "{\"name\":\"big\",\"indexes\":["
        INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
        INDEX("r", "int", "tree") ","
        VECTOR_INDEX("b", "vec_bf", "6", "l2") ","
        VECTOR_INDEX("h", "hnsw", "6", "l2")
        "]}";
    static const char *const tails[] = { "LIMIT 10", "LIMIT 1000", "LIMIT 7 OFFSET 20" };
    static const char *const filters[] = { "r < 10", "r < 100", "r > 400 AND r < 450", "id > 3900",
                                           "r < 60 AND id < 2000" };
    char want[8192], got[8192], sql[512];
    anx_rng rng = anx_rng_seed(11);
    size_t n_row = 0;
    anx_buffer documents;

    anx_buffer_init(&documents, NULL, 1 << 22);
    for (int i = 0; i < 4000; i++) {
        unsigned v[6];

        for (int j = 0; j < 6; j++)
            v[j] = anx_rng_below(&rng, 256);
        anx_buffer_printf(
            &documents, "{\"id\":%d,\"r\":%d,\"b\":[%u,%u,%u,%u,%u,%u],\"h\":[%u,%u,%u,%u,%u,%u]}", i,
            i * 7919 % 1000, v[0], v[1], v[2], v[3], v[4], v[5], v[0], v[1], v[2], v[3], v[4], v[5]);
    }
    anx_buffer_char(&documents, '\0');
    fixture_namespace(*state, definition, "big", documents.data);
    anx_buffer_fini(&documents);
    for (int i = 0; i < 120; i++) {
        const char *filter = filters[i % 5], *tail = tails[i / 5 % 3];
        unsigned k = 300 + 450 * (unsigned) (i % 8), q[3];

        for (int j = 0; j < 3; j++)
            q[j] = anx_rng_below(&rng, 256);
        snprintf(sql, sizeof(sql), "SELECT id FROM big WHERE %s AND KNN(b, [%u,%u,%u,%u,%u,%u], k=%u) %s",
                 filter, q[0], q[1], q[2], q[2], q[1], q[0], k, tail);
        fixture_ids(*state, sql, want, sizeof(want));
        snprintf(sql, sizeof(sql), "SELECT id FROM big WHERE %s AND KNN(h, [%u,%u,%u,%u,%u,%u], k=%u%s) %s",
                 filter, q[0], q[1], q[2], q[2], q[1], q[0], k, i % 2 ? ", ef=4000" : "", tail);
        fixture_ids(*state, sql, got, sizeof(got));
        if (strcmp(want, got) != 0)
            fail_msg("%s gives %s, expected %s", sql, got, want);
        n_row += strlen(got);
    }
    assert_true(n_row > 5000);
}

static void
mistakes_are_named(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT id FROM t WHERE KNN(v, [0,0])", "400 KNN query without 'k' and 'radius' (streaming search) "
                                                  "is supported for HNSW indexes only, but index "
                                                  "'v' is not HNSW" },
        { "SELECT id FROM t WHERE KNN(v, [0,0], k=0)", "400 KNN limit should not be 0" },
        { "SELECT id FROM t WHERE KNN(v, [0,0,0], k=1)",
          "400 Attempt to search vector of dimension 3 in a float vector index of dimension 2" },
        { "SELECT id FROM s WHERE KNN(v, [0,0,0])",
          "400 Attempt to search vector of dimension 3 in a float vector index of dimension 2" },
        { "SELECT id FROM t WHERE KNN(v, [0,0], k=1, ef=5)",
          "400 Expected BruteForceSearchParams but get HnswSearchParams" },
        { "SELECT id FROM t WHERE KNN(iv, [0,0], nprobe=2)",
          "400 K and Radius params can not be empty both" },
        { "SELECT id FROM t WHERE KNN(name, [0,0], k=1)",
          "400 KNN allowed only for float vector index; name is not float vector index" },
        { "SELECT id FROM t WHERE KNN(nosuch, [0,0], k=1)",
          "400 KNN allowed only for float vector index; nosuch is not indexed field" },
        { "SELECT id FROM t WHERE KNN(v, 'text', k=1)",
          "400 Trying to find knn by string. No Embedder configured for index 'v'" },
        { "SELECT id FROM t WHERE KNN(nosuch, 'text', k=1)",
          "400 Can't find field by name or json path: 'nosuch'" },
        { "SELECT id FROM t WHERE NOT KNN(v, [0,0], k=1)",
          "500 NOT operation is not allowed with knn condition" },
        { "SELECT id FROM t WHERE NOT (KNN(v, [0,0], k=1))",
          "500 NOT operation is not allowed with knn condition" },
        { "SELECT id FROM t WHERE KNN(v, [0,0], k=1) OR id = 1",
          "500 OR operation is not allowed between ranked and not ranked conditions" },
        { "SELECT id FROM t WHERE id = 1 OR KNN(v, [0,0], k=1)",
          "500 OR operation is not allowed between ranked and not ranked conditions" },
        { "SELECT id FROM t WHERE (KNN(v, [0,0], k=1)) OR id = 1",
          "500 OR operation is not allowed between ranked and not ranked conditions" },
        { "SELECT id FROM t WHERE (KNN(v, [0,0], k=1) AND id = 2) OR id = 1",
          "500 OR and NOT operations are not allowed with bracket containing fulltext or knn condition" },
        { "SELECT id FROM t WHERE KNN(v, [0,0], k=1) AND KNN(h, [0,0], k=1)",
          "400 More than one KNN conditions cannot be combined in a query" },
        { "SELECT id FROM t WHERE KNN(v, [0,0], k=1) AND h IS NOT NULL",
          "400 KNN or FullText cannot be mixed with conditions for a floating-point vector field in a "
          "query" },
        { "SELECT id FROM s WHERE KNN(v, [0,0]) ORDER BY id",
          "400 Streaming KNN search does not support ORDER BY" },
        { "SELECT id FROM t WHERE KNN(v, [0,0], k=1) ORDER BY 'rank(h)'",
          "400 Rank by not used in query fulltext of vector index 'h'" },
        { "SELECT id FROM t WHERE KNN(v, [0,0], k=1) MERGE(SELECT id FROM t WHERE KNN(ip, [0,0], k=1))",
          "400 In merge query without sorting all subqueries should contain fulltext or knn with the same "
          "metric "
          "conditions at the same time: 'knn with L2 metric query' VS 'knn with inner product metric "
          "query'" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(the_nearest_come_first),
        cmocka_unit_test(other_conditions_filter_afterwards),
        cmocka_unit_test(ranks_are_printed_last),
        cmocka_unit_test(streams_go_on_until_enough_pass),
        cmocka_unit_test(a_filter_by_bitmap_gives_the_same_rows),
        cmocka_unit_test(a_selective_filter_gives_the_rows_of_an_exact_index),
        cmocka_unit_test(mistakes_are_named),
    };

    return cmocka_run_group_tests(tests, set_up, fixture_tear_down);
}
