/* SELECT over a database in memory: SQL in, JSON out. */
#include <stdlib.h>

#include "test_select_fixture.h"

/* The fixture of the protocol's own table of behaviours, with some more fields and kinds of indexes beside
 * it. */
static const char t_definition[] =
    "{\"name\":\"t\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("name", "string", "hash") "," INDEX("price", "double", "tree") ","
    INDEX_WITH("tags", "string", "hash", "\"is_array\":true") ","
    INDEX_WITH("opt", "int", "hash", "\"is_sparse\":true") "," VECTOR_INDEX("v", "vec_bf", "2", "l2") "]}";
static const char t_documents[] =
    "{\"id\":1,\"name\":\"a\",\"price\":1.5,\"tags\":[\"x\",\"y\"],\"opt\":10,\"v\":[0.0,0.0]}"
    "{\"id\":2,\"name\":\"b\",\"price\":2.5,\"tags\":[\"y\"],\"v\":[3.0,4.0]}"
    "{\"id\":3,\"name\":\"c\",\"price\":3.5,\"tags\":[],\"opt\":null,\"v\":[1.0,0.0]}"
    "{\"id\":4,\"name\":\"D\",\"price\":0.5}";

static const char u_definition[] =
    "{\"name\":\"u\",\"indexes\":["
    INDEX_WITH("id", "int", "tree", "\"is_pk\":true") ","
    INDEX("city", "string", "hash") ","
    INDEX_WITH("ci", "string", "tree", "\"collate_mode\":\"ascii\"") ","
    INDEX("qty", "int", "tree") ","
    INDEX("flag", "bool", "-") ","
    INDEX("col", "int", "-") ","
    INDEX_WITH("nums", "int", "tree", "\"is_array\":true") ","
    INDEX("uid", "uuid", "hash") ","
    INDEX_WITH("pos", "point", "rtree", "\"rtree_type\":\"rstar\"") ","
    INDEX_OVER("city+qty", "\"city\",\"qty\"", "composite", "tree") ","
    INDEX_OVER("ci+qty", "\"ci\",\"qty\"", "composite", "hash") ","
    INDEX_OVER("ref", "\"deep.ref\"", "int", "hash")
    "]}";
static const char u_documents[] =
    "{\"id\":1,\"city\":\"rome\",\"ci\":\"Rome\",\"qty\":5,\"flag\":true,\"col\":1,\"nums\":[1,2,3],"
    "\"uid\":\"00000000-0000-4000-8000-000000000001\",\"pos\":[0,0],\"deep\":{\"ref\":7,\"x\":1},\"mix\":1}"
    "{\"id\":2,\"city\":\"oslo\",\"ci\":\"ROME\",\"qty\":5,\"flag\":false,\"col\":2,\"nums\":[3,4],"
    "\"pos\":[3,4],\"deep\":{\"x\":[1,5]},\"mix\":\"1\",\"list\":[{\"a\":1,\"b\":2},{\"a\":3,\"b\":4}]}"
    "{\"id\":3,\"city\":\"rome\",\"ci\":\"oslo\",\"qty\":7,\"col\":3,\"nums\":[],\"pos\":[1,1],\"mix\":null,"
    "\"list\":[{\"a\":1,\"b\":4},{\"a\":3,\"b\":2}]}"
    "{\"id\":4,\"city\":\"bern\",\"qty\":-1,\"col\":4,\"mix\":[2,null],\"arr\":[[1,2],[3]]}"
    "{\"id\":5,\"qty\":0,\"flag\":true,\"col\":5,\"nums\":[7],\"mix\":\"word\",\"arr\":[]}";

static int
set_up(void **state)
{
    static const struct fixture_table tables[] = { { "t", t_definition, t_documents },
                                                   { "u", u_definition, u_documents } };

    return fixture_set_up(state, tables, ANX_COUNT_OF(tables));
}

static void
conditions_select_rows(void **state)
{
    static const struct fixture_case cases[] = {
        { "", "1,2,3,4" },
        { "WHERE name = 'a' AND id = 2 OR id = 3", "" },
        { "WHERE id = 1 OR id = 2 AND price > 2", "2" },
        { "WHERE NOT tags = 'y'", "3,4" },
        { "WHERE tags IN ('x','y')", "1,2" },
        { "WHERE tags ALLSET ('x','y')", "1" },
        { "WHERE tags IS NULL", "3,4" },
        { "WHERE opt IS NULL", "2,3,4" },
        { "WHERE opt IS NOT NULL", "1" },
        { "WHERE v IS NULL", "4" },
        { "WHERE v IS NOT NULL", "1,2,3" },
        { "WHERE NOT v IS NULL", "1,2,3" },
        { "WHERE price RANGE (1.5, 2.5)", "1,2" },
        { "WHERE name LIKE 'd'", "4" },
        { "WHERE name = 'd'", "" },
        { "WHERE id IN ()", "" },
        { "WHERE NOT id IN ()", "1,2,3,4" },
        { "WHERE id IN (4, 1, 1, 9)", "1,4" },
        { "WHERE id = '2'", "2" },
        { "WHERE id <> 1", "2,3,4" },
        { "WHERE name = 'it\\'s'", "" },
        { "WHERE opt IN (10, NULL)", "1,2,3,4" },
        { "WHERE ID = 1", "1" },
        { "WHERE (id = 1 OR id = 2) AND (price > 2 OR name = 'a')", "1,2" },
        { "WHERE NOT (id = 1 OR id = 2)", "3,4" },
        { "WHERE ((id > 1) AND (price < 1 OR (NOT tags = 'y')))", "3,4" },
        { "WHERE id = 1 OR (NOT price > 1)", "1,4" },
        { "WHERE id IN (SELECT id FROM u WHERE city = 'rome')", "1,3" },
        { "WHERE id = (SELECT MIN(id) FROM u WHERE qty > 5)", "3" },
        { "WHERE (SELECT COUNT(*) FROM u WHERE city = 'rome') = 2", "1,2,3,4" },
        { "WHERE (SELECT COUNT(*) FROM u WHERE city = 'rome') > 2", "" },
        { "WHERE (SELECT * FROM u WHERE city = 'rome' LIMIT 0) IS NOT NULL AND id = 1", "1" },
        { "WHERE (SELECT * FROM u WHERE city = 'none' LIMIT 0) IS NOT NULL", "" },
        { "WHERE (SELECT city FROM u) = 'oslo' AND id < 3", "1,2" },
    };

    FIXTURE_EXPECT_IDS(*state, "t", cases);
}

static void
conditions_of_every_kind_of_field(void **state)
{
    static const struct fixture_case cases[] = {
        { "WHERE ci = 'rOmE'", "1,2" }, /* ascii collation */
        { "WHERE flag = true", "1,5" },
        { "WHERE flag = false", "2,3,4" }, /* absent is false in an index that is not sparse */
        { "WHERE col >= 4", "4,5" },
        { "WHERE col > 1 AND col < 4", "2,3" },
        { "WHERE nums > 3", "2,5" },
        { "WHERE nums = 3", "1,2" },
        { "WHERE nums = NULL", "3,4" },
        { "WHERE NOT nums = 3", "3,4,5" },
        { "WHERE uid = '00000000-0000-4000-8000-000000000001'", "1" },
        { "WHERE \"city+qty\" = {'rome',5}", "1" },
        { "WHERE \"city+qty\" IN ({'rome',7},{'oslo',5},{'x',1})", "2,3" },
        { "WHERE \"city+qty\" > {'oslo',5}", "1,3" },
        { "WHERE city = 'rome' AND qty = 5", "1" },
        { "WHERE ci = 'rome' AND qty = 5", "1,2" },
        { "WHERE \"ci+qty\" = {'roME',5}", "1,2" }, /* components keep their collation */
        { "WHERE deep.ref = 7", "1" },
        { "WHERE ref = 7", "1" },
        { "WHERE deep.x = 1", "1,2" },
        { "WHERE deep.x > 1", "2" },
        { "WHERE deep.x ALLSET (1,5)", "2" },
        { "WHERE deep IS NULL", "3,4,5" },
        { "WHERE mix = 1", "1,2" },
        { "WHERE mix = '1'", "1,2" },
        { "WHERE mix = 2", "4" },
        { "WHERE mix IS NULL", "3,4" },
        { "WHERE mix IS NOT NULL", "1,2,5" },
        { "WHERE mix IN (1, NULL)", "1,2,3,4" },
        { "WHERE mix LIKE 'W%'", "5" },
        { "WHERE arr IS NULL", "1,2,3,5" },
        { "WHERE arr = 3", "4" },
        { "WHERE arr[1] = 3", "4" },
        { "WHERE arr[0] = 3", "" },
        { "WHERE list.a = 1", "2,3" },
        { "WHERE list.a = 1 AND list.b = 2", "2,3" },
        { "WHERE list.a = 1 AND list.b = 2 AND equal_position(list.a, list.b)", "2" },
        { "WHERE list[#].a = 1 AND list[#].b = 4 AND equal_position(list[#].a, list[#].b)", "3" },
        { "WHERE nums = 1 AND list.a = 1 AND equal_position(nums, list.a)", "" },
        { "WHERE qty > nums", "1,2" },
        { "WHERE id = col", "1,2,3,4,5" },
        { "WHERE id > col", "" },
        { "WHERE flat_array_len(nums) = 2", "2" },
        { "WHERE flat_array_len(nums) > 1", "1,2" },
        { "WHERE flat_array_len(nums) = 0", "3,4" },
        { "WHERE flat_array_len(arr) = 3", "4" },
        { "WHERE flat_array_len(id) = 1", "1,2,3,4,5" },
        { "WHERE ST_DWithin(pos, ST_GeomFromText('POINT(0 0)'), 1.5)", "1,3" },
        { "WHERE ST_DWithin(ST_GeomFromText('POINT(0 0)'), pos, 5)", "1,2,3" },
        { "WHERE qty < now()", "1,2,3,4,5" },
    };

    FIXTURE_EXPECT_IDS(*state, "u", cases);
}

static void
rows_come_in_order(void **state)
{
    static const struct fixture_case t_cases[] = {
        { "ORDER BY price DESC LIMIT 2 OFFSET 1", "2,1" },
        { "ORDER BY 'price * -1'", "3,2,1,4" },
        { "ORDER BY FIELD(id, 3, 1)", "3,1,2,4" },
        { "ORDER BY FIELD(id, 3, 1) DESC", "4,2,1,3" },
        { "ORDER BY opt", "2,3,4,1" },
        { "ORDER BY opt DESC", "1,4,3,2" }, /* ties by row id, the way of the first key */
        { "ORDER BY tags", "3,4,1,2" },
        { "ORDER BY tags DESC, id", "2,1,3,4" },
        { "ORDER BY name", "4,1,2,3" },
        { "ORDER BY 'id'", "1,2,3,4" },
        { "ORDER BY '-id'", "4,3,2,1" },
        { "ORDER BY 'abs(price - 2)' DESC, id", "3,4,1,2" },
        { "ORDER BY id LIMIT 0", "" },
        { "ORDER BY id OFFSET 9", "" },
        { "LIMIT 2 OFFSET 1", "2,3" },
        { "WHERE price > 1 ORDER BY price DESC LIMIT 1", "3" },
    };
    static const struct fixture_case u_cases[] = {
        { "ORDER BY qty", "4,5,1,2,3" },
        { "ORDER BY qty DESC", "3,2,1,5,4" },
        { "ORDER BY qty LIMIT 2", "4,5" },
        { "ORDER BY qty DESC LIMIT 2", "3,2" },
        { "WHERE flag = true ORDER BY qty LIMIT 1", "5" },
        { "ORDER BY ci, id", "4,5,3,1,2" },
        { "ORDER BY \"city+qty\"", "5,4,2,1,3" },
        { "ORDER BY \"city+qty\" DESC", "3,1,2,4,5" },
        { "ORDER BY city DESC, qty", "1,3,2,4,5" },
        { "ORDER BY nums, id", "3,4,1,2,5" },
        { "ORDER BY deep.x, id", "3,4,5,1,2" },
        { "ORDER BY FIELD(city, 'oslo', 'none', 'bern')", "2,4,5,1,3" },
        { "WHERE id < 4 ORDER BY 'ST_Distance(pos, ST_GeomFromText(\\'point(3 3)\\'))'", "2,3,1" },
        { "ORDER BY 'qty * 2 + col' DESC, id", "3,2,1,5,4" },
    };

    FIXTURE_EXPECT_IDS(*state, "t", t_cases);
    FIXTURE_EXPECT_IDS(*state, "u", u_cases);
}

static void
answers_have_the_known_form(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT COUNT(*) FROM t",
          "{\"items\":[],\"aggregations\":[{\"value\":4.0,\"type\":\"count\",\"fields\":[\"*\"]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":true,\"total_items\":4,\"query_total_items\":4}" },
        { "SELECT *, COUNT(*) FROM T WHERE id = 4 LIMIT 1",
          "{\"items\":[{\"id\":4,\"name\":\"D\",\"price\":0.5}],"
          "\"aggregations\":[{\"value\":1.0,\"type\":\"count\",\"fields\":[\"*\"]}],\"namespaces\":[\"t\"],"
          "\"cache_enabled\":true,\"total_items\":1,\"query_total_items\":1}" },
        { "SELECT id, COUNT_CACHED(*) FROM t ORDER BY id LIMIT 1",
          "{\"items\":[{\"id\":1}],\"aggregations\":[{\"value\":4.0,\"type\":\"count_cached\",\"fields\":[\"*"
          "\"]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":false,\"total_items\":4,\"query_total_items\":4}" },
        { "SELECT * FROM t WHERE id = 1",
          "{\"items\":[{\"id\":1,\"name\":\"a\",\"price\":1.5,\"tags\":[\"x\",\"y\"],\"opt\":10}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":true}" },
        { "SELECT id, v FROM t WHERE id = 1",
          "{\"items\":[{\"id\":1,\"v\":[0.0,0.0]}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT vectors() FROM t WHERE id = 2",
          "{\"items\":[{\"id\":2,\"name\":\"b\",\"price\":2.5,\"tags\":[\"y\"],\"v\":[3.0,4.0]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":true}" },
        { "SELECT v FROM t WHERE id = 4", "{\"items\":[{\"id\":4,\"name\":\"D\",\"price\":0.5}],"
                                          "\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT nothing FROM t WHERE id = 4", "{\"items\":[{\"id\":4,\"name\":\"D\",\"price\":0.5}],"
                                                "\"namespaces\":[\"t\"],\"cache_enabled\":true}" },
        { "SELECT id, nothing FROM t WHERE id = 4",
          "{\"items\":[{\"id\":4}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT ID, name FROM t WHERE id = 4",
          "{\"items\":[{\"name\":\"D\"}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "SELECT deep.x FROM u WHERE id <= 2",
          "{\"items\":[{\"deep\":{\"x\":1}},{\"deep\":{\"x\":[1,5]}}],\"namespaces\":[\"u\"],"
          "\"cache_enabled\":false}" },
        { "SELECT id FROM t WHERE id = 1 MERGE(SELECT id FROM u WHERE id = 3)",
          "{\"items\":[{\"id\":1},{\"id\":3}],\"namespaces\":[\"t\",\"u\"],\"cache_enabled\":false}" },
        { "SELECT id, COUNT(*) FROM t WHERE id < 3 LIMIT 1 OFFSET 1 MERGE(SELECT id FROM u WHERE id = 3)",
          "{\"items\":[{\"id\":2}],\"aggregations\":[{\"value\":3.0,\"type\":\"count\",\"fields\":[\"*\"]}],"
          "\"namespaces\":[\"t\",\"u\"],\"cache_enabled\":false,\"total_items\":3,\"query_total_items\":3}" },
        { "SELECT id, MAX(id) FROM t MERGE(SELECT id FROM u WHERE id = 5)",
          "400 Not allowed to combine aggregation functions and fields' filter in a single query" },
        { "SELECT MAX(id) FROM t MERGE(SELECT * FROM u WHERE id = 5)",
          "{\"items\":[],\"aggregations\":[{\"value\":5.0,\"type\":\"max\",\"fields\":[\"id\"]}],"
          "\"namespaces\":[\"t\",\"u\"],\"cache_enabled\":true}" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

static void
windows_cut_finished_results(void **state)
{
    static const struct {
        const char *sql, *expected;
        struct result_window window;
    } cases[] = {
        { "SELECT id FROM t ORDER BY id",
          "{\"items\":[{\"id\":2}],\"namespaces\":[\"t\"],\"cache_enabled\":false,"
          "\"total_items\":4}",
          { .is_set = true, .limit = 1, .offset = 1 } },
        { "SELECT id, COUNT(*) FROM t ORDER BY id LIMIT 3",
          "{\"items\":[{\"id\":3}],\"aggregations\":[{\"value\":4.0,\"type\":\"count\",\"fields\":[\"*\"]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":false,\"total_items\":3,\"query_total_items\":4}",
          { .is_set = true, .limit = 9, .offset = 2 } },
        { "SELECT id FROM t LIMIT 3",
          "{\"items\":[],\"namespaces\":[\"t\"],\"cache_enabled\":false,\"total_items\":3}",
          { .is_set = true, .limit = SIZE_MAX, .offset = 10 } },
        { "SELECT id, COUNT(*) FROM t LIMIT 1",
          "{\"items\":[{\"id\":1}],\"aggregations\":[{\"value\":4.0,\"type\":\"count\",\"fields\":[\"*\"]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":false,\"total_items\":4}",
          { .without_query_total = true } },
    };

    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        anx_buffer out;

        fixture_run(*state, cases[i].sql, &cases[i].window, &out);
        assert_string_equal(out.data, cases[i].expected);
        anx_buffer_fini(&out);
    }
}

#define AGGREGATED(list) \
    "{\"items\":[],\"aggregations\":[" list "],\"namespaces\":[\"t\"],\"cache_enabled\":true}"
#define AGGREGATED_U(list) \
    "{\"items\":[],\"aggregations\":[" list "],\"namespaces\":[\"u\"],\"cache_enabled\":true}"

static void
aggregations_cover_the_window(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT MIN(price), MAX(price), SUM(price), AVG(price) FROM t",
          AGGREGATED("{\"value\":0.5,\"type\":\"min\",\"fields\":[\"price\"]},"
                     "{\"value\":3.5,\"type\":\"max\",\"fields\":[\"price\"]},"
                     "{\"value\":8.0,\"type\":\"sum\",\"fields\":[\"price\"]},"
                     "{\"value\":2.0,\"type\":\"avg\",\"fields\":[\"price\"]}") },
        { "SELECT sum(PRICE) FROM t ORDER BY id LIMIT 2",
          AGGREGATED("{\"value\":4.0,\"type\":\"sum\",\"fields\":[\"price\"]}") },
        { "SELECT SUM(opt) FROM t WHERE id > 1", AGGREGATED("{\"type\":\"sum\",\"fields\":[\"opt\"]}") },
        { "SELECT FACET(tags ORDER BY count DESC) FROM t",
          AGGREGATED(
              "{\"type\":\"facet\",\"facets\":[{\"count\":2,\"values\":[\"y\"]},{\"count\":1,\"values\":"
              "[\"x\"]}],\"fields\":[\"tags\"]}") },
        { "SELECT FACET(price ORDER BY price DESC LIMIT 2 OFFSET 1) FROM t",
          AGGREGATED(
              "{\"type\":\"facet\",\"facets\":[{\"count\":1,\"values\":[\"2.5\"]},{\"count\":1,\"values\":"
              "[\"1.5\"]}],\"fields\":[\"price\"]}") },
        { "SELECT FACET(city, qty ORDER BY city, qty DESC) FROM u",
          AGGREGATED_U("{\"type\":\"facet\",\"facets\":[{\"count\":1,\"values\":[\"\",\"0\"]},"
                       "{\"count\":1,\"values\":[\"bern\",\"-1\"]},{\"count\":1,\"values\":[\"oslo\",\"5\"]},"
                       "{\"count\":1,\"values\":[\"rome\",\"7\"]},{\"count\":1,\"values\":[\"rome\",\"5\"]}],"
                       "\"fields\":[\"city\",\"qty\"]}") },
        { "SELECT DISTINCT(city) FROM u WHERE id < 4",
          "{\"items\":[{\"id\":1,\"city\":\"rome\",\"ci\":\"Rome\",\"qty\":5,\"flag\":true,\"col\":1,"
          "\"nums\":[1,2,3],"
          "\"uid\":\"00000000-0000-4000-8000-000000000001\",\"pos\":[0.0,0.0],\"deep\":{\"ref\":7,\"x\":1},"
          "\"mix\":1},{\"id\":2,\"city\":\"oslo\",\"ci\":\"ROME\",\"qty\":5,\"flag\":false,\"col\":2,"
          "\"nums\":[3,4],"
          "\"pos\":[3.0,4.0],\"deep\":{\"x\":[1,5]},\"mix\":\"1\",\"list\":[{\"a\":1,\"b\":2},{\"a\":3,\"b\":"
          "4}]}],"
          "\"aggregations\":[{\"type\":\"distinct\",\"distincts\":[\"rome\",\"oslo\"],\"fields\":[\"city\"]}]"
          ","
          "\"namespaces\":[\"u\"],\"cache_enabled\":true}" },
        { "SELECT DISTINCT(qty), id FROM u ORDER BY id",
          "{\"items\":[{\"id\":1},{\"id\":3},{\"id\":4},{\"id\":5}],\"aggregations\":[{\"type\":\"distinct\","
          "\"distincts\":[\"5\",\"7\",\"-1\",\"0\"],\"fields\":[\"qty\"]}],\"namespaces\":[\"u\"],"
          "\"cache_enabled\":false}" },
        { "SELECT DISTINCT(city, qty), id FROM u LIMIT 2",
          "{\"items\":[{\"id\":1},{\"id\":2}],\"aggregations\":[{\"type\":\"distinct\",\"distincts\":[["
          "\"rome\","
          "\"5\"],[\"oslo\",\"5\"]],\"fields\":[\"city\",\"qty\"]}],\"namespaces\":[\"u\"],"
          "\"cache_enabled\":false}" },
        { "SELECT SUM(id), COUNT(*) FROM t",
          "{\"items\":[],\"aggregations\":[{\"type\":\"sum\",\"fields\":[\"id\"]},{\"value\":4.0,\"type\":"
          "\"count\","
          "\"fields\":[\"*\"]}],\"namespaces\":[\"t\"],\"cache_enabled\":true,\"total_items\":4,"
          "\"query_total_items\":4}" },
        { "SELECT MAX(id) FROM t WHERE KNN(v, [0,0], k=2)",
          AGGREGATED("{\"value\":3.0,\"type\":\"max\",\"fields\":[\"id\"]}") },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

#define FILTER_UNKNOWN(f, ns)                                                                                \
    "400 Current query strict mode allows filtering by existing fields only. There are no fields with name " \
    "'" f "' in namespace '" ns "'"

static void
mistakes_are_named(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT * FROM none", "404 Namespace 'none' does not exist" },
        { "SELECT * FROM t JOIN none ON t.id = none.id", "404 Namespace 'none' does not exist" },
        { "SELECT * FROM t WHERE nosuch = 1", FILTER_UNKNOWN("nosuch", "t") },
        { "SELECT * FROM t WHERE nosuch IS NULL", FILTER_UNKNOWN("nosuch", "t") },
        { "SELECT * FROM T WHERE id IN (SELECT id FROM U WHERE zz = 1)", FILTER_UNKNOWN("zz", "u") },
        { "SELECT * FROM t WHERE id = 'abc'", "400 Can't convert 'abc' to number" },
        { "SELECT * FROM t WHERE name IS NULL",
          "400 The 'is NULL' condition is supported only by 'sparse' or 'array' indexes" },
        { "SELECT * FROM u WHERE flag IS NOT NULL",
          "400 The 'NOT NULL' condition is supported only by 'sparse' or 'array' indexes" },
        { "SELECT * FROM t WHERE id LIKE '1'", "400 Condition CondLike with type int" },
        { "SELECT * FROM t WHERE v = 5", "400 Valid conditions for float vector index are KNN, Empty, Any; "
                                         "attempt to use '=' on field 'v'" },
        { "SELECT * FROM t WHERE id = v", "400 Valid conditions for float vector index are KNN, Empty, Any; "
                                          "attempt to use '=' on field 'v'" },
        { "SELECT * FROM u WHERE \"city+qty\" = 5",
          "400 Invalid count of arguments for composite index, expected 2, got 1" },
        { "SELECT * FROM t WHERE id > (SELECT id FROM u)",
          "400 Condition CondGt must have exact 1 argument, but 5 arguments were provided" },
        { "SELECT * FROM t ORDER BY nosuch", "400 Current query strict mode allows sort by existing fields "
                                             "only. There are no fields with name 'nosuch' "
                                             "in namespace 't'" },
        { "SELECT * FROM t ORDER BY v", "400 Ordering by float vector index is not allowed: 'v'" },
        { "SELECT * FROM t ORDER BY 'v + 1'", "400 Ordering by float vector index is not allowed: 'v'" },
        { "SELECT * FROM t ORDER BY id, id", "400 You cannot sort by the same indexes twice: id" },
        { "SELECT * FROM t ORDER BY 'id / (id - id)'", "400 Division by zero in sort expression" },
        { "SELECT * FROM t ORDER BY 'tags + 1'", "400 Array, composite or tuple field in sort expression" },
        { "SELECT * FROM t ORDER BY 'opt + 1'", "400 Empty field in sort expression: opt" },
        { "SELECT * FROM t ORDER BY 'name + 1'", "400 Can't convert 'a' to number" },
        { "SELECT * FROM u ORDER BY mix", "400 Not comparable types: int64 and string" },
        { "SELECT * FROM t ORDER BY FIELD(tags, 'a')",
          "400 Forced sort can't be applied to a field of array type" },
        { "SELECT * FROM t ORDER BY 'rank()'",
          "400 Sorting by rank() is only available for query with single fulltext or knn condition" },
        { "SELECT * FROM t ORDER BY 'RRF()'",
          "400 Reciprocal rank fusion (RRF) is allowed in hybrid queries only" },
        { "SELECT * FROM t ORDER BY 'rank(v)'",
          "400 Rank by not used in query fulltext of vector index 'v'" },
        { "SELECT * FROM t ORDER BY 'rank(id)'",
          "400 Ordering by rank allowed by fulltext or float vector index only: 'id'" },
        { "SELECT rank() FROM t", "500 Rank() is available only for fulltext or knn query" },
        { "SELECT SUM(name) FROM t", "400 Can't convert 'a' to number" },
        { "SELECT SUM(nosuch) FROM t", "400 Current query strict mode allows aggregate existing fields only. "
                                       "There are no fields with name "
                                       "'nosuch' in namespace 't'" },
        { "SELECT MIN(v) FROM t", "400 Aggregation by float vector index is not allowed: v" },
        { "SELECT FACET(name, tags) FROM t", "400 Multifield facet cannot contain an array field" },
        { "SELECT FACET(name ORDER BY id) FROM t", "400 The aggregation facet cannot provide sort by 'id'" },
        { "SELECT SUM(\"city+qty\") FROM u",
          "400 Only DISTINCT aggregations are allowed over composite fields" },
        { "SELECT * FROM t WHERE id IN (SELECT name FROM #namespaces)",
          "400 Queries to system namespaces ('#namespaces') are not supported inside subquery" },
        { "SELECT id FROM t ORDER BY id MERGE(SELECT id FROM u)",
          "500 Sorting cannot be applied to merged queries." },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

static void
changes_choose_their_rows(void **state)
{
    static const struct fixture_case cases[] = {
        { "UPDATE t SET price = 9 WHERE id = 1", "{\"items\":[{\"id\":1,\"name\":\"a\",\"price\":9.0,"
                                                 "\"tags\":[\"x\",\"y\"],\"opt\":10,\"v\":[0.0,0.0]}],"
                                                 "\"namespaces\":[\"t\"],\"cache_enabled\":true}" },
        { "SELECT id FROM t ORDER BY price DESC LIMIT 1",
          "{\"items\":[{\"id\":1}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
        { "DELETE FROM t WHERE id > 1 ORDER BY id DESC LIMIT 1",
          "{\"items\":[{\"id\":4,\"name\":\"D\",\"price\":0.5}],\"namespaces\":[\"t\"],\"cache_enabled\":"
          "true}" },
        { "DELETE FROM t WHERE KNN(v, [3,4], k=1)",
          "{\"items\":[{\"id\":2,\"name\":\"b\",\"price\":2.5,\"tags\":[\"y\"],\"v\":[3.0,4.0]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":true}" },
        { "DELETE FROM t WHERE id IN (SELECT id FROM t WHERE name = 'c')",
          "{\"items\":[{\"id\":3,\"name\":\"c\",\"price\":3.5,\"tags\":[],\"opt\":null,\"v\":[1.0,0.0]}],"
          "\"namespaces\":[\"t\"],\"cache_enabled\":true}" },
        { "SELECT id FROM t", "{\"items\":[{\"id\":1}],\"namespaces\":[\"t\"],\"cache_enabled\":false}" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

/* "field method keys matched" of the selectors in an answer, one after the other. */
static void
read_plan(const char *answer, anx_buffer *out)
{
    for (const char *at = strstr(answer, "{\"field\":\""); at; at = strstr(at + 1, "{\"field\":\"")) {
        const char *keys = strstr(at, "\"keys\":"), *matched = strstr(at, "\"matched\":");
        const char *name = at + strlen("{\"field\":\""), *inner = strstr(at, ",\"selectors\":");
        const char *end = strchr(name, '"');

        anx_buffer_bytes(out, name, (size_t) (end - name));
        if (inner == end + 1) {
            anx_buffer_text(out, ANX_TEXT("; "));
            continue;
        }
        anx_buffer_printf(out, " %s",
                          strstr(at, "\"method\":\"scan\"") == strstr(at, "\"method\"") ? "scan" : "index");
        if (keys && keys < matched)
            anx_buffer_printf(out, " %ld", strtol(keys + strlen("\"keys\":"), NULL, 10));
        anx_buffer_printf(out, " %ld; ", strtol(matched + strlen("\"matched\":"), NULL, 10));
    }
}

static void
explain_shows_what_conditions_became(void **state)
{
    static const struct fixture_case cases[] = {
        { "EXPLAIN SELECT * FROM u", "-scan scan 5; " },
        { "EXPLAIN SELECT * FROM u WHERE id = 3", "id index 1 1; " },
        { "EXPLAIN SELECT * FROM u WHERE city = 'rome' AND qty = 5", "city+qty index 1 1; " },
        { "EXPLAIN SELECT * FROM u WHERE qty IN (5,7) AND id = 3 AND (city IN ('rome','oslo') AND (col = 3))",
          "id index 1 1; city+qty index 3 1; col scan 0 1; " },
        { "EXPLAIN SELECT * FROM u WHERE ci = 'rome' AND qty = 5", "ci+qty index 1 2; " },
        { "EXPLAIN SELECT * FROM u WHERE city = 'rome' OR qty = 5",
          "-scan scan 5; city index 1 2; or qty index 1 1; " },
        { "EXPLAIN SELECT * FROM u WHERE qty IN (5,7,0) AND qty IN (7,8,0)", "qty index 2 2; " },
        { "EXPLAIN SELECT * FROM u WHERE qty = 5 AND qty = 7", "always_false index 1 0; " },
        { "EXPLAIN SELECT * FROM u WHERE nums = 1 AND nums = 2", "nums index 1 1; nums index 1 1; " },
        { "EXPLAIN SELECT * FROM u WHERE col = 1 AND NOT qty = 5",
          "-scan scan 5; not qty index 1 3; col scan 0 0; " },
        { "EXPLAIN SELECT * FROM u WHERE qty IN (SELECT qty FROM u WHERE city = 'rome')",
          "city index 1 2; qty index 2 3; " },
        { "EXPLAIN SELECT * FROM u WHERE (SELECT qty FROM u WHERE city = 'rome') > 5 AND id = 1",
          "city index 1 2; qty scan 0 1; id index 1 1; " },
        { "EXPLAIN SELECT id FROM u WHERE id < 3 MERGE(SELECT id FROM t WHERE name = 'a')",
          "id index 1 2; name index 1 1; " },
        { "EXPLAIN SELECT * FROM u WHERE col < 3 LEFT JOIN t ON t.id = u.col",
          "-scan scan 5; col scan 0 2; left_join t index 0 2; " },
        { "EXPLAIN SELECT * FROM u WHERE (col = 1 AND city = 'rome') OR (col = 3)",
          "-scan scan 5; (city and col); city index 1 2; col scan 0 1; or col scan 0 1; " },
    };
    anx_buffer answer, plan;

    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        fixture_run(*state, cases[i].text, NULL, &answer);
        anx_buffer_init(&plan, NULL, 1 << 20);
        read_plan(answer.data, &plan);
        anx_buffer_char(&plan, '\0');
        if (strcmp(plan.data, cases[i].expected) != 0)
            fail_msg("%s\ngives    %s\nexpected %s", cases[i].text, plan.data, cases[i].expected);
        anx_buffer_fini(&plan);
        anx_buffer_fini(&answer);
    }
}

/* An index over two paths holds the values of both; one path by its name is that path. */
static void
one_path_of_several_stands_for_itself(void **state)
{
    static const struct fixture_case cases[] = {
        { "WHERE ends = 1", "1,2" }, { "WHERE first = 1", "1" }, { "WHERE last = 1", "2" },
        { "WHERE first > 1", "2" },  { "WHERE ENDS = 3", "" },
    };

    fixture_namespace(*state,
                      "{\"name\":\"w\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
                      "{\"name\":\"ends\",\"json_paths\":[\"first\",\"last\"],\"field_type\":\"int\","
                      "\"index_type\":\"hash\",\"is_array\":true}]}",
                      "w", "{\"id\":1,\"first\":1,\"last\":2}{\"id\":2,\"first\":2,\"last\":1}");
    fixture_expect_ids(*state, "w", cases, ANX_COUNT_OF(cases));
}

static void
a_deadline_ends_a_query(void **state)
{
    struct fixture *f = *state;
    struct db_session session = { .deadline_ns = 1 };
    anx_arena *arena = anx_arena_create(NULL, 0);
    anx_buffer documents;
    struct query query;
    struct result *result = NULL;
    anx_error err = { 0 };

    anx_buffer_init(&documents, NULL, 1 << 20);
    for (int i = 0; i < 300; i++)
        anx_buffer_printf(&documents, "{\"id\":%d,\"x\":%d}", i, i);
    anx_buffer_char(&documents, '\0');
    fixture_namespace(
        f, "{\"name\":\"many\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") "]}", "many",
        documents.data);
    anx_buffer_fini(&documents);
    assert_int_equal(query_read_sql(ANX_TEXT("SELECT * FROM many WHERE x = 5"), arena, &query, NULL, &err),
                     ANX_OK);
    assert_int_equal(db_select(f->db, &query, &session, &result, &err), ANX_E_TIMEOUT);
    assert_null(result);
    session.deadline_ns = 0;
    assert_int_equal(db_select(f->db, &query, &session, &result, &err), ANX_OK);
    assert_int_equal(result_count(result), 1);
    result_free(result);
    anx_arena_destroy(arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(conditions_select_rows),
        cmocka_unit_test(conditions_of_every_kind_of_field),
        cmocka_unit_test(rows_come_in_order),
        cmocka_unit_test(answers_have_the_known_form),
        cmocka_unit_test(windows_cut_finished_results),
        cmocka_unit_test(aggregations_cover_the_window),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(explain_shows_what_conditions_became),
        cmocka_unit_test(one_path_of_several_stands_for_itself),
        cmocka_unit_test(a_deadline_ends_a_query),
        cmocka_unit_test(changes_choose_their_rows), /* last: it empties a namespace */
    };

    return cmocka_run_group_tests(tests, set_up, fixture_tear_down);
}
