/* The DSL reader: texts of errors, what is read, printing and reading again, recorded exchanges. */
#include "golden.h"
#include "test_arena.h"

#include "annex/status.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"
#include "query/query_int.h"

static struct query
read_ok(const char *json)
{
    struct query query;
    anx_error err;

    if (query_convert_dsl(anx_text_of(json), arena, &query, &err) != ANX_OK)
        fail_msg("%s: %s", json, err.message);
    return query;
}

static void
assert_text(anx_text text, const char *wanted)
{
    if (!anx_text_equal(text, anx_text_of(wanted)))
        fail_msg("\"%.*s\" is not \"%s\"", ANX_TEXT_ARG(text), wanted);
}

/* ---- Errors ---- */

static void
errors_have_the_texts_clients_know(void **state)
{
    static const struct {
        const char *json;
        anx_status status;
        const char *error;
    } rows[] = {
        { "{\"limit\":1}", ANX_E_PARSE_JSON, "Key [namespace] must occur in [query] object" },
        { "{\"namespace\":\"t\",\"foo\":1}", ANX_E_PARSE_JSON, "Key [foo] not allowed in [query] object" },
        { "{\"namespace\":\"t\",\"Limit\":1}", ANX_E_PARSE_JSON,
          "Key [Limit] not allowed in [query] object" },
        { "{\"namespace\":\"t\",\"limit\":1,\"limit\":2}", ANX_E_PARSE_JSON,
          "Key [limit] can occur only once in [query] object" },
        { "{\"namespace\":\"t\",\"limit\":\"5\"}", ANX_E_PARSE_JSON, "Wrong type of field 'limit'" },
        { "{\"namespace\":\"t\",\"limit\":[5]}", ANX_E_PARSE_JSON,
          "Element [limit] should array in [query]." },
        { "{\"namespace\":5}", ANX_E_PARSE_JSON, "Wrong type of field 'namespace'" },
        { "[1]", ANX_E_PARSE_JSON, "Node [] should be JSON_OBJECT" },
        { "{\"namespace\":\"t\",\"type\":\"merge\"}", ANX_E_PARSE_DSL,
          "Element [merge] not allowed in object of type [query_type]" },
        { "{\"namespace\":\"t\",\"offset\":-1}", ANX_E_PARSE_JSON,
          "Query: Value of 'offset' - -1 is out of bounds: [0,18446744073709551615]" },
        { "{\"namespace\":\"t\",\"filters\":{\"field\":\"id\"}}", ANX_E_PARSE_JSON,
          "Wrong type of field 'filters'" },
        { "{\"namespace\":\"t\",\"filters\":[{\"field\":\"id\",\"cond\":\"eqq\",\"value\":1}]}",
          ANX_E_PARSE_DSL, "Element [eqq] not allowed in object of type [condition enum]" },
        { "{\"namespace\":\"t\",\"filters\":[{\"field\":\"id\",\"value\":1}]}", ANX_E_PARSE_DSL,
          "Condition is not set for non-empty filter" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"eq\",\"value\":1}]}", ANX_E_PARSE_DSL,
          "Condition is set, but appropriate field/subquery was not found in filter" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"eq\",\"field\":5}]}", ANX_E_PARSE_JSON,
          "Query: Can't convert json field 'field' to string" },
        { "{\"namespace\":\"t\",\"filters\":[{\"filters\":[{\"x\":1}]}]}", ANX_E_PARSE_JSON,
          "Key [x] not allowed in [query.filters.filters] object" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"eq\",\"field\":\"a\",\"value\":{}}]}",
          ANX_E_PARSE_JSON, "Error parsing json field 'values' - unable to use object in this context" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"lt\",\"second_field\":\"a\"}]}", ANX_E_PARSE_DSL,
          "Wrong DSL format: 'second_field' is set, but 'first_field' was not found in filter" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"any\",\"first_field\":\"a\",\"second_field\":\"b\"}]"
          "}",
          ANX_E_PARAMS, "Condition CondAny cannot be between two fields" },
        { "{\"namespace\":\"t\",\"filters\":[{\"op\":\"or\",\"cond\":\"any\",\"field\":\"a\"}]}", ANX_E_QUERY,
          "OR operator in first condition or after left join" },
        { "{\"namespace\":\"t\",\"filters\":[{\"filters\":[]}]}", ANX_E_QUERY, "Bracket cannot be empty" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"lt\",\"field\":\"a\",\"value\":[1,2]}]}",
          ANX_E_PARAMS, "Condition CondLt must have exact 1 argument, but 2 arguments were provided" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"like\",\"field\":\"a\",\"value\":5}]}", ANX_E_PARAMS,
          "Condition CondLike must have string argument, but int argument was provided" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"knn\",\"field\":\"v\",\"value\":[1],\"params\":{"
          "\"k\":5,\"ef\":2}}]}",
          ANX_E_PARSE_JSON, "Query: Value of 'ef' - 2 is out of bounds: [5,18446744073709551615]" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"knn\",\"field\":\"v\",\"value\":[1],\"params\":{"
          "\"k\":-5}}]}",
          ANX_E_PARSE_JSON, "Query: Value of 'k' - -5 is out of bounds: [1,18446744073709551615]" },
        { "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"knn\",\"field\":\"v\",\"value\":[1,1e39]}]}",
          ANX_E_PARSE_JSON, "Query: Can't convert json field '' to number" },
        { "{\"namespace\":\"t\",\"sort\":[{\"field\":\"a\"},{\"field\":\"b\",\"values\":[1]}]}",
          ANX_E_PARSE_JSON, "Forced sort order is allowed for the first sorting entry only" },
        { "{\"namespace\":\"t\",\"sort\":[{\"field\":\"a\",\"values\":[null]}]}", ANX_E_PARAMS,
          "Null-values are not supported in forced sorting" },
        { "{\"namespace\":\"t\",\"select_filter\":[\"a\"],\"aggregations\":[{\"type\":\"count\",\"fields\":[]"
          "}]}",
          ANX_E_CONFLICT,
          "Not allowed to combine aggregation functions and fields' filter in a single query" },
        { "{\"namespace\":\"t\",\"aggregations\":[{\"type\":\"sum\",\"fields\":[\"a\"],\"sort\":[{\"field\":"
          "\"a\"}]}]}",
          ANX_E_QUERY, "Sort is not available for aggregation sum" },
        { "{\"namespace\":\"t\",\"update_fields\":[{\"name\":\"a\",\"type\":\"expression\",\"values\":[\"b "
          "+\"]}]}",
          ANX_E_PARAMS, "Unexpected token in expression: ''" },
        { "{\"namespace\":\"t\",\"update_fields\":[{\"values\":[1]}]}", ANX_E_PARSE_JSON,
          "Key [name] must occur in [query.update_fields] object" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct query query;
        anx_error err;
        anx_status st = query_convert_dsl(anx_text_of(rows[i].json), arena, &query, &err);

        if (st != rows[i].status)
            fail_msg("%s: status %d: %s", rows[i].json, st, st ? err.message : "");
        assert_string_equal(err.message, rows[i].error);
    }
}

static void
the_type_follows_the_call(void **state)
{
    struct query query;
    anx_error err;

    (void) state;
    assert_int_equal(query_read_dsl(ANX_TEXT("{\"namespace\":\"t\",\"type\":\"delete\"}"), QUERY_SELECT,
                                    arena, &query, &err),
                     ANX_E_LOGIC);
    assert_string_equal(err.message, "'Select' call request type is not equal to 'QuerySelect'.");
    assert_int_equal(query_read_dsl(ANX_TEXT("{\"namespace\":\"t\",\"type\":\"update\"}"), QUERY_DELETE,
                                    arena, &query, &err),
                     ANX_OK);
    assert_int_equal(query.type, QUERY_DELETE);
    assert_int_equal(query_read_dsl(ANX_TEXT("{\"namespace\":\"t\"}"), QUERY_UPDATE, arena, &query, &err),
                     ANX_E_PARSE_DSL);
    assert_int_equal(read_ok("{\"namespace\":\"t\",\"type\":\"Truncate\"}").type, QUERY_TRUNCATE);
}

/* ---- What is read ---- */

static void
filters_have_their_kinds(void **state)
{
    struct query q = read_ok(
        "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"SET\",\"field\":\"a\",\"value\":[1,null,1.5,\"x\","
        "true]},"
        "{},{\"op\":\"or\",\"cond\":\"match\",\"field\":\"b\",\"value\":\"y\"},{\"op\":\"not\",\"filters\":[{"
        "\"cond\":\"any\","
        "\"field\":\"c\",\"value\":null}]},{\"cond\":\"dwithin\",\"field\":\"p\",\"value\":[[1,2.5],3]},"
        "{\"cond\":\"eq\",\"field\":\"d+e\",\"value\":[[1,\"a\"]]},{\"cond\":\"lt\",\"first_field\":\"f\","
        "\"second_field\":\"g\"},"
        "{\"cond\":\"gt\",\"left_expression\":{\"type\":\"expression\",\"value\":\"flat_array_len(h)\"},"
        "\"right_expression\":{\"type\":\"values\",\"value\":[1]}},{\"cond\":\"le\",\"left_expression\":{"
        "\"type\":\"field\","
        "\"value\":\"i\"},\"right_expression\":{\"type\":\"expression\",\"value\":\"now(msec)\"}},"
        "{\"equal_positions\":[{\"positions\":[\"j\",\"k\"]}]}]}");
    const struct query_entry *e = q.where.entries;

    (void) state;
    assert_true(q.where.n == 8 && q.where.n_positions == 1 && q.where.positions[0].n == 2);
    assert_true(e[0].condition == COND_SET && e[0].values.n == 5 && e[0].values.items[1].type == VALUE_NULL);
    assert_true(e[1].op == OP_OR && e[1].condition == COND_EQ);
    assert_true(e[2].op == OP_NOT && e[2].kind == ENTRY_BRACKET &&
                e[2].bracket.entries[0].condition == COND_ANY);
    assert_true(e[3].values.n == 3 && e[3].values.items[0].real == 1 && e[3].values.items[2].real == 3);
    assert_true(e[4].values.n == 1 && e[4].values.items[0].tuple.n == 2);
    assert_int_equal(e[5].kind, ENTRY_FIELDS);
    assert_text(e[5].right_field, "g");
    assert_true(e[6].function == FUNCTION_FLAT_ARRAY_LEN && e[6].values.n == 1);
    assert_text(e[6].field, "h");
    assert_true(e[7].values_are_now && e[7].unit == TIME_MSEC);
}

static void
knn_has_its_parameters(void **state)
{
    struct query q = read_ok(
        "{\"namespace\":\"t\",\"select_filter\":[\"id\",\"RANK()\"],\"filters\":[{\"cond\":\"knn\",\"field\":"
        "\"v\",\"value\":[1,-2.5,3e-1],\"params\":{\"k\":10,\"radius\":1.5,\"nprobe\":2}}]}");
    const struct query_knn *knn = &q.where.entries[0].knn;

    (void) state;
    assert_true(q.with_rank && q.n_field == 1 && q.where.entries[0].kind == ENTRY_KNN);
    assert_true(knn->dim == 3 && knn->vector[1] == -2.5F && knn->vector[2] == 0.3F);
    assert_true(knn->has_k && knn->k == 10 && knn->radius == 1.5 && knn->nprobe == 2 && knn->kind == KNN_IVF);
}

/* "1,2,...,n" put into the text at the star. */
static const char *
with_list(const char *text, int n)
{
    const char *star = strchr(text, '*');
    char *out = anx_arena_bytes(arena, strlen(text) + (size_t) n * 8), *at = out;

    assert_non_null(out);
    at = mempcpy(at, text, (size_t) (star - text));
    for (int i = 1; i <= n; i++)
        at += snprintf(at, 8, "%s%d", i > 1 ? "," : "", i);
    stpcpy(at, star + 1);
    return out;
}

/* The JSON reader leaves long lists of numbers as text. */
static void
long_lists_of_numbers_are_read_everywhere(void **state)
{
    static const char *const refused[] = {
        "{\"namespace\":\"t\",\"filters\":[*]}",         "{\"namespace\":\"t\",\"sort\":[*]}",
        "{\"namespace\":\"t\",\"select_filter\":[*]}",   "{\"namespace\":\"t\",\"aggregations\":[*]}",
        "{\"namespace\":\"t\",\"merge_queries\":[*]}",   "{\"namespace\":\"t\",\"drop_fields\":[*]}",
        "{\"namespace\":\"t\",\"update_fields\":[*]}",
        "{\"namespace\":\"t\",\"update_fields\":[{\"name\":\"a\",\"type\":\"object\",\"values\":[*]}]}",
        "{\"namespace\":\"t\",\"update_fields\":[{\"name\":\"a\",\"type\":\"expression\",\"values\":[*]}]}",
        "{\"namespace\":\"t\",\"filters\":[{\"equal_positions\":[*]}]}",
        "{\"namespace\":\"t\",\"filters\":[{\"join_query\":{\"namespace\":\"u\",\"on\":[*]}}]}",
        "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"knn\",\"field\":\"v\",\"value\":[*,1e39]}]}",
        "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"knn\",\"field\":\"v\",\"value\":[*,1e400]}]}",
        "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"dwithin\",\"field\":\"v\",\"value\":[*]}]}",
        "[*]",
    };
    struct query q;

    (void) state;
    for (int n = 1; n <= 40; n += 13) {
        q = read_ok(with_list(
            "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"knn\",\"field\":\"v\",\"value\":[*]}]}", n));
        assert_true(q.where.entries[0].knn.dim == (size_t) n &&
                    q.where.entries[0].knn.vector[n - 1] == (float) n);
        q = read_ok(with_list(
            "{\"namespace\":\"t\",\"filters\":[{\"cond\":\"eq\",\"field\":\"v\",\"value\":[[*],7]}]}", n));
        assert_true(q.where.entries[0].values.n == 2 &&
                    q.where.entries[0].values.items[0].tuple.n == (size_t) n);
        q = read_ok(with_list("{\"namespace\":\"t\",\"sort\":{\"field\":\"a\",\"values\":[*]}}", n));
        assert_true(q.forced.n == (size_t) n && q.forced.items[n - 1].integer == n);
        q = read_ok(
            with_list("{\"namespace\":\"t\",\"update_fields\":[{\"name\":\"a\",\"values\":[*]}]}", n));
        assert_true(q.updates[0].values.n == (size_t) n && q.updates[0].values.items[n - 1].integer == n);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(refused); i++) {
        struct query query;

        if (query_convert_dsl(anx_text_of(with_list(refused[i], 20)), arena, &query, NULL) == ANX_OK)
            fail_msg("%s: accepted", refused[i]);
    }
}

static void
queries_inside_of_queries(void **state)
{
    struct query q = read_ok(
        "{\"namespace\":\"a\",\"filters\":[{\"join_query\":{\"type\":\"left\",\"namespace\":\"b\",\"limit\":"
        "3,\"on\":"
        "[{\"left_field\":\"l\",\"right_field\":\"r\",\"cond\":\"lt\",\"op\":\"not\"}]}},{\"cond\":\"eq\","
        "\"field\":\"x\",\"value\":1},"
        "{\"join_query\":{\"type\":\"orinner\",\"namespace\":\"c\",\"on\":[{\"left_field\":\"l\",\"right_"
        "field\":\"r\",\"cond\":"
        "\"set\"}]}},{\"cond\":\"set\",\"field\":\"y\",\"subquery\":{\"namespace\":\"d\",\"select_filter\":["
        "\"z\"]}},"
        "{\"cond\":\"ge\",\"value\":[2],\"subquery\":{\"namespace\":\"d\",\"req_total\":\"enabled\"}}],"
        "\"merge_queries\":[{\"namespace\":\"e\"}],\"sort\":{\"field\":\"f * "
        "2\",\"desc\":true},\"limit\":-1,\"req_total\":"
        "\"cached\",\"strict_mode\":\"indexes\",\"explain\":true}");

    (void) state;
    assert_true(q.n_join == 2 && q.where.n == 4 && q.n_merge == 1 && q.n_sort == 1 &&
                q.limit == QUERY_NO_LIMIT);
    assert_true(q.joins[0].type == JOIN_LEFT && q.joins[0].query->limit == 3 &&
                q.joins[0].on[0].op == OP_NOT);
    assert_true(q.where.entries[1].kind == ENTRY_JOIN && q.where.entries[1].op == OP_OR &&
                q.where.entries[1].join == 1);
    assert_int_equal(q.where.entries[2].kind, ENTRY_SUBQUERY_FIELD);
    assert_int_equal(q.where.entries[3].kind, ENTRY_SUBQUERY_VALUES);
    assert_true(q.total == TOTAL_CACHED && q.strict == STRICT_INDEXES && q.explain &&
                q.sort[0].is_descending);
}

static void
updates_have_their_forms(void **state)
{
    struct query q = read_ok("{\"namespace\":\"t\",\"type\":\"update\",\"update_fields\":[{\"name\":\"a\","
                             "\"values\":[1]},{\"name\":\"b\",\"values\":"
                             "[1,2]},{\"name\":\"c\",\"values\":[],\"is_array\":true},{\"name\":\"d\","
                             "\"type\":\"object\",\"values\":[{\"y\":[1]}]},"
                             "{\"name\":\"e\",\"type\":\"expression\",\"values\":[\"f * "
                             "2\"]},{\"name\":\"g\",\"values\":[null]}],\"drop_fields\":[\"h\"]}");

    (void) state;
    assert_int_equal(q.n_update, 7);
    assert_true(!q.updates[0].is_array && q.updates[1].is_array && q.updates[2].is_array);
    assert_text(q.updates[3].values.items[0].text, "{\"y\":[1]}");
    assert_int_equal(q.updates[4].tree->kind, EXPR_MULTIPLY);
    assert_true(!q.updates[5].is_array && q.updates[5].values.items[0].type == VALUE_NULL);
    assert_int_equal(q.updates[6].form, UPDATE_DROP);
}

static void
a_comma_too_many_is_forgiven(void **state)
{
    struct query q = read_ok(
        "{\"namespace\":\"a,]\\\",]\",\"filters\":[{\"cond\":\"eq\",\"field\":\"x\",\"value\":1,}, ],\n}");
    struct query other;
    anx_error err;

    (void) state;
    assert_int_equal(q.where.n, 1);
    assert_text(q.ns, "a,]\",]");
    assert_int_equal(query_convert_dsl(ANX_TEXT("{\"namespace\":\"t\",,}"), arena, &other, &err),
                     ANX_E_PARSE_JSON);
    assert_non_null(strstr(err.message, "Query: "));
}

/* ---- Printing ---- */

static anx_text
print_dsl(const struct query *query)
{
    anx_buffer out;
    anx_text text;

    anx_buffer_init(&out, NULL, 1 << 20);
    query_print_dsl(query, &out);
    assert_false(out.failed);
    text = anx_arena_text(arena, (anx_text) { out.data, out.size });
    anx_buffer_fini(&out);
    return text;
}

static anx_text
print_sql(const struct query *query)
{
    anx_buffer out;
    anx_text text;

    anx_buffer_init(&out, NULL, 1 << 20);
    query_print_sql(query, false, &out);
    assert_false(out.failed);
    text = anx_arena_text(arena, (anx_text) { out.data, out.size });
    anx_buffer_fini(&out);
    return text;
}

/* SQL -> DSL -> SQL is the same text: nothing is lost on the way. */
static void
sql_survives_the_way_over_dsl(void **state)
{
    static const char *const texts[] = {
        "SELECT * FROM t",
        "EXPLAIN LOCAL SELECT *, a, vectors(), RANK() FROM t WHERE KNN(v, [1,-2.5,3e-07], k=5, radius=0.5, "
        "ef=10)",
        "SELECT a, COUNT(*) FROM t WHERE KNN(v, 'it\\'s', nprobe=2) ORDER BY FIELD('a', 1, 'x') DESC, 'b' "
        "OFFSET 1 LIMIT 2",
        "SELECT COUNT_CACHED(*) FROM t WHERE a = 1 OR b IN ('x',2.5,true,NULL) AND NOT (c RANGE (1,2) OR d "
        "IS NULL)",
        "SELECT SUM(a), FACET(b, c ORDER BY 'count' DESC OFFSET 1 LIMIT 2) FROM t WHERE e IS NOT NULL AND f "
        "LIKE '%'",
        "SELECT * FROM t WHERE a ALLSET ('x') AND b = c AND flat_array_len(d) > 1 AND e < now(nsec) AND "
        "\"f+g\" = {1,'x'}",
        "SELECT * FROM t WHERE ST_DWithin(p, ST_GeomFromText('POINT(1 -2.5)'), 3) AND a = 1 "
        "EQUAL_POSITION(a, b)",
        "SELECT * FROM t WHERE a IN (SELECT b FROM u) AND (SELECT MAX(c) FROM u WHERE d = 1) > 5 AND (SELECT "
        "* FROM u "
        "LIMIT 0) IS NOT NULL",
        "SELECT * FROM a WHERE NOT INNER JOIN (SELECT z FROM b WHERE c = 1 LIMIT 2) ON (a.k = b.k OR a.l <= "
        "b.m) LEFT "
        "JOIN d ON a.x = d.y MERGE(SELECT * FROM e WHERE f = 1)",
        "UPDATE t SET a = 1, b = [1,'x'], c = [], d = NULL, e = {\"k\":[1]}, f = [{\"a\":1},{}], g = h * (i "
        "- 2) || [1], j = "
        "now(msec) DROP k, \"l[0]\" WHERE m = 1 ORDER BY 'm' LIMIT 3",
        "DELETE FROM t WHERE a > 5",
        "TRUNCATE t",
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(texts); i++) {
        struct query query, other;
        anx_text dsl, sql;
        anx_error err;

        if (query_read_sql(anx_text_of(texts[i]), arena, &query, NULL, &err) != ANX_OK)
            fail_msg("%s: %s", texts[i], err.message);
        dsl = print_dsl(&query);
        if (query_convert_dsl(dsl, arena, &other, &err) != ANX_OK)
            fail_msg("%.*s: %s", ANX_TEXT_ARG(dsl), err.message);
        sql = print_sql(&other);
        assert_text(sql, texts[i]);
        assert_true(anx_text_equal(print_dsl(&other), dsl));
    }
}

static void
odd_texts_survive_printing(void **state)
{
    struct query q =
        read_ok("{\"namespace\":\"a "
                "\\\"b\\\"\",\"select_filter\":[\"x\\ny\"],\"strict_mode\":\"none\",\"select_functions\":"
                "[\"f.snippet(a,b)\"],\"filters\":[{\"cond\":\"eq\",\"field\":\"\",\"value\":"
                "18446744073709551615}]}");
    anx_text dsl = print_dsl(&q);

    (void) state;
    q = read_ok(anx_arena_string(arena, dsl));
    assert_true(anx_text_equal(print_dsl(&q), dsl));
    assert_text(q.ns, "a \"b\"");
    assert_int_equal(q.n_select_function, 1);
}

/* ---- Limits ---- */

static void
depth_is_limited(void **state)
{
    static const char front[] = "{\"namespace\":\"t\",\"filters\":[", piece[] = "{\"filters\":[";
    enum { DEPTH = 100 };
    size_t size = sizeof(front) - 1 + DEPTH * (sizeof(piece) - 1 + 2) + 2;
    char *text = anx_arena_bytes(arena, size + 1), *at = text;
    struct query query;

    (void) state;
    assert_non_null(text);
    at = stpcpy(at, front);
    for (int i = 0; i < DEPTH; i++)
        at = stpcpy(at, piece);
    for (int i = 0; i < DEPTH; i++)
        at = stpcpy(at, "]}");
    stpcpy(at, "]}");
    assert_int_equal(query_convert_dsl((anx_text) { text, size }, arena, &query, NULL), ANX_E_PARSE_DSL);
}

static void
running_out_of_memory_is_reported(void **state)
{
    static const char text[] = "{\"namespace\":\"t\",\"sort\":[{\"field\":\"a\",\"values\":[1,[2]]}],"
                               "\"aggregations\":[{\"type\":\"distinct\",\"fields\":[\"a\"]}],"
                               "\"select_filter\":[\"a\"],\"merge_queries\":[{\"namespace\":\"m\"}],"
                               "\"filters\":[{\"cond\":\"knn\",\"field\":\"v\",\"value\":[1]},"
                               "{\"join_query\":{\"type\":\"inner\",\"namespace\":\"b\",\"on\":[{\"left_"
                               "field\":\"l\",\"right_field\":\"r\",\"cond\":\"eq\"}]}},"
                               "{\"cond\":\"dwithin\",\"field\":\"p\",\"value\":[[1,2],3]},{\"equal_"
                               "positions\":[{\"positions\":[\"a\",\"b\"]}]}],"
                               "\"update_fields\":[{\"name\":\"e\",\"type\":\"expression\",\"values\":[\"f "
                               "|| [1]\"]},{\"name\":\"o\",\"type\":\"object\","
                               "\"values\":[{}]}],\"drop_fields\":[\"h\"]}";
    anx_status st = ANX_E_NOMEM;

    (void) state;
    for (size_t limit = 1; st != ANX_OK; limit += 16) {
        anx_arena *small = anx_arena_create(NULL, limit);
        struct query query;

        assert_non_null(small);
        st = query_convert_dsl((anx_text) { text, sizeof(text) - 1 }, small, &query, NULL);
        assert_true(st == ANX_OK || st == ANX_E_NOMEM);
        anx_arena_destroy(small);
    }
}

/* ---- Recorded exchanges ---- */

struct tally {
    size_t read, refused;
};

static bool
is_readers(anx_text description)
{
    static const char *const fronts[] = { "Key [",
                                          "Wrong ",
                                          "Element [",
                                          "Condition is ",
                                          "Query: Value of",
                                          "Query: Can't",
                                          "Node [",
                                          "Error parsing json field",
                                          "Forced sort",
                                          "OR operator",
                                          "Not allowed to combine" };

    for (size_t i = 0; i < ANX_COUNT_OF(fronts); i++)
        if (description.size > strlen(fronts[i]) &&
            memcmp(description.data, fronts[i], strlen(fronts[i])) == 0)
            return true;
    return false;
}

static void
check_step(void *context, const struct golden_step *step)
{
    struct tally *tally = context;
    enum query_type type = QUERY_SELECT;
    anx_text json;
    struct query query;
    anx_error err;
    anx_status st;

    if (!step->body || (!golden_ends(step->path, "/query") && !golden_ends(step->path, "/dslquery")))
        return;
    if (anx_text_equal(step->method, ANX_TEXT("PUT")) || golden_ends(step->path, "/dslquery"))
        type = QUERY_UPDATE;
    else if (anx_text_equal(step->method, ANX_TEXT("DELETE")))
        type = QUERY_DELETE;
    json = step->body->kind == JSON_STRING ? step->body->text : step->body->raw;
    st = query_read_dsl(json, type, arena, &query, &err);
    tally->read++;
    if (step->status == 200 && st != ANX_OK)
        fail_msg("%.*s: refused: %s", ANX_TEXT_ARG(json), err.message);
    if (st == ANX_OK && is_readers(step->description))
        fail_msg("%.*s: accepted", ANX_TEXT_ARG(json));
    if (st == ANX_OK)
        return; /* what fails later is the executor's */
    tally->refused++;
    if (anx_status_http(st) != step->status)
        fail_msg("%.*s: status %d: %s", ANX_TEXT_ARG(json), anx_status_http(st), err.message);
    if (st == ANX_E_PARSE_JSON && strstr(err.message, "rror parsing json:"))
        return; /* the parser's own words */
    if (!anx_text_equal(anx_text_of(err.message), step->description))
        fail_msg("%.*s\n  is  %s\n  not %.*s", ANX_TEXT_ARG(json), err.message,
                 ANX_TEXT_ARG(step->description));
}

static void
recorded_texts_are_read_or_refused_as_recorded(void **state)
{
    struct tally tally = { 0, 0 };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(golden_topics); i++)
        golden_each(golden_topics[i], check_step, &tally);
    if (tally.read == 0)
        skip();
    print_message("# %zu DSL texts, %zu of them refused\n", tally.read, tally.refused);
}

static void
read_example(anx_text example)
{
    struct query query;
    anx_error err;

    if (query_convert_dsl(example, arena, &query, &err) != ANX_OK)
        fail_msg("%.*s: %s", ANX_TEXT_ARG(example), err.message);
}

static void
the_examples_of_the_manual_are_read(void **state)
{
    (void) state;
    assert_true(manual_each("json", read_example) >= 3);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_have_the_texts_clients_know),
        cmocka_unit_test(the_type_follows_the_call),
        cmocka_unit_test(filters_have_their_kinds),
        cmocka_unit_test(knn_has_its_parameters),
        cmocka_unit_test(long_lists_of_numbers_are_read_everywhere),
        cmocka_unit_test(queries_inside_of_queries),
        cmocka_unit_test(updates_have_their_forms),
        cmocka_unit_test(a_comma_too_many_is_forgiven),
        cmocka_unit_test(sql_survives_the_way_over_dsl),
        cmocka_unit_test(odd_texts_survive_printing),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(running_out_of_memory_is_reported),
        cmocka_unit_test(the_examples_of_the_manual_are_read),
        cmocka_unit_test(recorded_texts_are_read_or_refused_as_recorded),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
