/* The SQL reader: texts and places of errors, what is read, printing and reading again, recorded exchanges.
 */
#include "golden.h"
#include "test_arena.h"

#include "annex/status.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"
#include "query/query_int.h"

static struct query
read_ok(const char *sql)
{
    struct query query;
    anx_error err;

    if (query_read_sql(anx_text_of(sql), arena, &query, NULL, &err) != ANX_OK)
        fail_msg("%s: %s", sql, err.message);
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
errors_say_what_and_where(void **state)
{
    static const struct {
        const char *sql, *error;
        size_t start, end; /* columns */
    } rows[] = {
        { "select * from ns where", "Expected condition after 'WHERE'", 17, 22 },
        { "select * from ns where  not ", "Expected condition after 'WHERE'", 17, 22 },
        { "select * from ns where 123",
          "Number is invalid at this location. (text = '123'  location = line: 1 column: 23 26)", 23, 26 },
        { "select * from ns where 'abc'",
          "String is invalid at this location. (text = 'abc'  location = line: 1 column: 24 27)", 24, 27 },
        { "select * from ns where index+field = 5", "Expected condition operator, but found '+' in query", 28,
          29 },
        { "select ssdfs", "Expected 'FROM', but found '' in query, line: 1 column: 12 12", 12, 12 },
        { "select * from ns limit ABC", "Expected number, but found 'abc' in query, line: 1 column: 23 26",
          23, 26 },
        { "select * from ns offset -1", "Expected number, but found '-1' in query, line: 1 column: 24 26", 24,
          26 },
        { "select * from ns where a = 1 and",
          "Expected second logical operand, but found '' in query 'line: 1 column: 32 32'", 32, 32 },
        { "select * from ns where a in (1 2)",
          "Expected ')' or ',', but found '2' in query, line: 1 column: 31 32", 31, 32 },
        { "select * from ns where a in (b)",
          "Expected parameter, but found 'b' in query, line: 1 column: 29 30", 29, 30 },
        { "select * from ns where a is not 5", "Expected NULL, but found '5' in query, line: 1 column: 32 33",
          32, 33 },
        { "select * from ns where a = {1,2", "Expected ',', but found '' in query, line: 1 column: 31 31", 31,
          31 },
        { "select * from ns where a = [1]",
          "Expected parameter, but found '[' in query, line: 1 column: 27 28", 27, 28 },
        { "select * from ns where (a = 1", "Expected ')', but found '' in query, line: 1 column: 29 29", 29,
          29 },
        { "select * from ns where a = 1 or b <> 2",
          "<> condition with OR is not supported, line: 1 column: 34 36", 34, 36 },
        { "select * from ns foo", "Unexpected 'foo' in query, line: 1 column: 17 20", 17, 20 },
        { "insert into ns values (1)", "Syntax error at or near 'insert', line: 1 column: 0 6", 0, 6 },
        { "  ", "Syntax error at or near '', line: 1 column: 2 2", 2, 2 },
        { "local delete from ns",
          "Syntax error at or near 'delete', line: 1 column: 6 12; only SELECT query could be LOCAL", 6, 12 },
        { "update ns foo", "Expected 'SET' or 'DROP' but found 'foo' in query line: 1 column: 10 13", 10,
          13 },
        { "update ns set a 5", "Expected '=' but found '5' in query, 'line: 1 column: 16 17'", 16, 17 },
        { "update ns set 5 = a", "Expected field name but found '5' in query line: 1 column: 14 15", 14, 15 },
        { "update ns set a = [1 2]", "Expected ']' or ',', but found '2' in query, line: 1 column: 21 22", 21,
          22 },
        { "update ns set a = [[1],[2]]", "Expected field name but found '[' in query line: 1 column: 23 24",
          23, 24 },
        { "update ns set a = [[1]]", "Unexpected ']' in query, line: 1 column: 22 23", 22, 23 },
        { "delete ns", "Expected 'FROM', but found 'ns' in query, line: 1 column: 7 9", 7, 9 },
        { "select * from a join b a = b.c", "Expected 'ON', but found 'a', line: 1 column: 23 24", 23, 24 },
        { "select * from a left foo", "Expected JOIN, but found 'foo' in query, line: 1 column: 21 24", 21,
          24 },
        { "select * from a inner join b on a.x = c.y",
          "Unexpected tables with ON statement: ('a' and 'c') but expected ('a' and 'b'), line: 1 column: 32 "
          "35",
          32, 35 },
        { "select * from a where x = 1 or left join b on a.x = b.x",
          "Left join with OR operation, line: 1 column: 28 30", 28, 30 },
        { "select * from ns order by 5", "Expected name, but found '5' in query, line: 1 column: 26 27", 26,
          27 },
        { "select * from ns order by ''", "Order by expression should not be empty, line: 1 column: 27 27",
          27, 27 },
        { "select nofunc(id) from t", "Unknown function name SQL - 'nofunc', line: 1 column: 7 13", 7, 13 },
        { "select count(x) from t", "Expected '*', but found 'x' in query, line: 1 column: 13 14", 13, 14 },
        { "select id, sum(x) from t",
          "Not allowed to combine aggregation functions and fields' filter in a single query", 11, 14 },
        { "select * from t where knn(v [1])", "Expected ',', but found '[', line: 1 column: 28 29", 28, 29 },
        { "select * from t where knn(v, 5)", "Expected '[' or ''', but found '5', line: 1 column: 29 30", 29,
          30 },
        { "select * from t where knn(v, [1, a])", "Expected number, but found 'a', line: 1 column: 33 34", 33,
          34 },
        { "select * from t where knn(v, [1e39])", "Expected number, but found '1e39', line: 1 column: 30 34",
          30, 34 },
        { "select * from t where knn(v, [1.2.3])",
          "Expected number, but found '1.2.3', line: 1 column: 30 35", 30, 35 },
        { "select * from t where knn(v, [1], k='x')",
          "Expected number greater than 0, but found x, line: 1 column: 37 38", 37, 38 },
        { "select * from t where knn(v, [1], nprobe=1, ef=2)",
          "Wrong SQL format: KNN query cannot contain both of 'nprobe' and 'ef'", 44, 46 },
        { "select * from \"a!b\"", "Identifier should not contain '!'; line: 1 column: 16 17", 16, 17 },
        { "select * from \"!b\"",
          "Identifier should starts with alpha, digit, '_', '#' or '@', but found '!'; line: 1 column: 15 16",
          15, 16 },
        { "select * from \"ab", "Not found close '\"'; line: 1 column: 14 17", 14, 17 },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct query_location location;
        struct query query;
        anx_error err;

        assert_int_equal(query_read_sql(anx_text_of(rows[i].sql), arena, &query, &location, &err),
                         ANX_E_PARSE_SQL);
        assert_string_equal(err.message, rows[i].error);
        assert_true(location.is_set);
        assert_int_equal(location.line_start + location.line_end, 0);
        assert_int_equal(location.column_start, rows[i].start);
        assert_int_equal(location.column_end, rows[i].end);
    }
}

static void
errors_of_meaning_have_their_own_status(void **state)
{
    static const struct {
        const char *sql;
        anx_status status;
        const char *error;
    } rows[] = {
        { "select * from t where a > (1,2)", ANX_E_PARAMS,
          "Condition CondGt must have exact 1 argument, but 2 arguments were provided" },
        { "select * from t where a range (1)", ANX_E_PARAMS,
          "Condition CondRange must have exact 2 argument, but 1 arguments were provided" },
        { "select * from t where a like 5", ANX_E_PARAMS,
          "Condition CondLike must have string argument, but int64 argument was provided" },
        { "select * from t where a < (null)", ANX_E_PARAMS,
          "Conditions CondGe|CondGt|CondLt|CondLe can't have null argument" },
        { "select * from t where knn(v, [1], k=0)", ANX_E_QUERY, "KNN limit should not be 0" },
        { "select * from t where knn(v, [1], k=5, ef=2)", ANX_E_QUERY,
          "Ef should not be less than k in hnsw query" },
        { "select * from t where knn(v, [1], ef=0)", ANX_E_QUERY,
          "Value of 'ef' - 0 is out of bounds: [1,18446744073709551615]" },
        { "select * from t where knn(v, [1], nprobe=0)", ANX_E_QUERY, "Nprobe should not be 0" },
        { "select * from t order by id, field(x, 1)", ANX_E_PARAMS,
          "Forced sort order is allowed for the first sorting entry only" },
        { "select * from t where now() > 5", ANX_E_LOGIC,
          "Function 'now' is not supported as left expression" },
        { "select * from t where f(x) > 5", ANX_E_PARAMS, "Function 'f' is not supported" },
        { "select * from t where flat_array_len(x) like 'a'", ANX_E_PARAMS,
          "Condition CondLike is not supported by flat_array_len()" },
        { "update t set a = nofn(1)", ANX_E_PARAMS, "Function 'nofn' is not supported" },
        { "update t set a = ", ANX_E_PARAMS, "Unexpected token in expression: ''" },
        { "select sum(a, b) from t", ANX_E_QUERY, "For aggregation sum is available exactly one field" },
        { "select sum(a limit 1) from t", ANX_E_QUERY,
          "Limit or offset are not available for aggregation sum" },
        { "select facet(a order by b) from t", ANX_E_QUERY,
          "The aggregation facet cannot provide sort by 'b'" },
        { "select facet(a, b, a) from t", ANX_E_QUERY,
          "Aggregation function fields use one field twice. Field name 'a'" },
        { "select * from t where a in (select * from u)", ANX_E_QUERY,
          "Subquery should contain exactly one of aggregation, select field filter or total request" },
        { "select * from t where a in (select b from #memstats)", ANX_E_QUERY,
          "Queries to system namespaces ('#memstats') are not supported inside subquery" },
        { "select * from t where a in (select b from u where c in (select d from v))", ANX_E_QUERY,
          "Subquery cannot be in subquery" },
        { "select * from t where a in (select b from u join v on u.x = v.y)", ANX_E_QUERY,
          "Join cannot be in subquery" },
        { "select * from t where (select b from u) is null", ANX_E_QUERY,
          "Select fields filter cannot be in subquery with condition Any or Empty" },
        { "select * from t inner join (select * from u where knn(v, [1], k=1)) on t.a = u.a", ANX_E_QUERY,
          "KNN condition cannot be in joined subquery" },
        { "select * from t merge(select * from u limit 1)", ANX_E_PARAMS,
          "Limit and offset in inner merge query is not allowed" },
        { "select * from t where equal_position(a, b) or a = 1", ANX_E_QUERY,
          "OR operator in first condition or after left join" },
        { "select * from t where left join u on t.a = u.a or b = 1", ANX_E_QUERY,
          "OR operator in first condition or after left join" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct query_location location;
        struct query query;
        anx_error err;
        anx_status st = query_read_sql(anx_text_of(rows[i].sql), arena, &query, &location, &err);

        if (st != rows[i].status)
            fail_msg("%s: status %d: %s", rows[i].sql, st, st ? err.message : "");
        assert_string_equal(err.message, rows[i].error);
        assert_false(location.is_set);
    }
}

static void
places_count_lines_and_bytes(void **state)
{
    struct query_location location;
    struct query query;
    anx_error err;

    (void) state;
    assert_int_equal(
        query_read_sql(ANX_TEXT("SELECT *\nFROM t -- comment\n  WHERE \xc3\xa9 = 'two\nlines' foo"), arena,
                       &query, &location, &err),
        ANX_E_PARSE_SQL);
    assert_string_equal(err.message, "Unexpected 'foo' in query, line: 4 column: 7 10");
    assert_int_equal(location.line_start, 3);
    assert_int_equal(location.line_end, 3);
    assert_int_equal(location.column_start, 7);
    /* A range over two lines: the line of its end, the columns of both ends. */
    assert_int_equal(
        query_read_sql(ANX_TEXT("SELECT * FROM t WHERE 'ab\ncd'"), arena, &query, &location, &err),
        ANX_E_PARSE_SQL);
    assert_string_equal(
        err.message,
        "String is invalid at this location. (text = 'ab\ncd'  location = line: 2 column: 23 2)");
    assert_int_equal(location.line_start, 0);
    assert_int_equal(location.line_end, 1);
}

/* ---- What is read ---- */

static void
or_binds_tighter_as_a_list(void **state)
{
    static const enum query_op ops[] = { OP_AND, OP_OR, OP_NOT, OP_NOT, OP_AND };
    struct query q = read_ok("SELECT * FROM t WHERE a = 1 OR b = 2 AND NOT c = 3 AND d <> 4 AND NOT e <> 5");

    (void) state;
    assert_int_equal(q.where.n, 5);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(q.where.entries[i].op, ops[i]);
        assert_int_equal(q.where.entries[i].kind, ENTRY_COMPARE);
        assert_int_equal(q.where.entries[i].condition, COND_EQ);
        assert_int_equal(q.where.entries[i].values.items[0].integer, (int) i + 1);
    }
}

static void
number_tokens_become_values(void **state)
{
    static const struct {
        const char *text;
        enum value_type type;
        int64_t integer;
        double real;
    } rows[] = {
        { "5", VALUE_INT, 5, 0 },
        { "+5", VALUE_INT, 5, 0 },
        { "5.0", VALUE_INT, 5, 0 },
        { "5.", VALUE_INT, 5, 0 },
        { "007", VALUE_INT, 7, 0 },
        { "-9223372036854775808", VALUE_INT, INT64_MIN, 0 },
        { "9223372036854775807", VALUE_INT, INT64_MAX, 0 },
        { "9223372036854775808", VALUE_STRING, 0, 0 },
        { "12345678901234567890", VALUE_STRING, 0, 0 },
        { "12345678901234567890.0", VALUE_STRING, 0, 0 },
        { "12345678901234567890.5", VALUE_DOUBLE, 0, 12345678901234567890.5 },
        { "5.50", VALUE_DOUBLE, 0, 5.5 },
        { "-0.1", VALUE_DOUBLE, 0, -0.1 },
        { "5e0", VALUE_DOUBLE, 0, 5 },
        { "1.0e3", VALUE_DOUBLE, 0, 1000 },
        { "1e-7", VALUE_DOUBLE, 0, 1e-7 },
        { "2.5E+2", VALUE_DOUBLE, 0, 250 },
        { "1e400", VALUE_STRING, 0, 0 },
        { "1.2.3", VALUE_STRING, 0, 0 },
        { "1e", VALUE_STRING, 0, 0 },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        char sql[100];
        const struct value *v;
        struct query q;

        snprintf(sql, sizeof(sql), "SELECT * FROM t WHERE a = %s", rows[i].text);
        q = read_ok(sql);
        v = &q.where.entries[0].values.items[0];
        if (v->type != rows[i].type || (v->type == VALUE_INT && v->integer != rows[i].integer) ||
            (v->type == VALUE_DOUBLE && v->real != rows[i].real))
            fail_msg("%s is of type %d", rows[i].text, v->type);
        if (v->type == VALUE_STRING)
            assert_text(v->text, rows[i].text);
    }
}

static void
strings_names_and_comments_are_cut(void **state)
{
    struct query q = read_ok("select \"1a+b\", A.b[2].C[*], #x, \"from\" -- 'no string\n from @n where "
                             "a='it\\'s\\n\\\\' and b=`c\"");

    (void) state;
    assert_int_equal(q.n_field, 4);
    assert_text(q.fields[0], "1a+b");
    assert_text(q.fields[1], "A.b[2].C[*]");
    assert_text(q.fields[3], "from");
    assert_text(q.ns, "@n");
    assert_text(q.where.entries[0].values.items[0].text, "it's\n\\");
    assert_text(q.where.entries[1].values.items[0].text, "c\""); /* a missing last quote is forgiven */
}

static void
terms_have_their_kinds(void **state)
{
    struct query q =
        read_ok("SELECT * FROM t WHERE a = b AND flat_array_len(c) RANGE (1, 2) AND (d IS NULL) AND e <= "
                "now(msec) AND f IN (SELECT g FROM u) AND (SELECT MAX(h) FROM u) > 5 AND i IS NOT EMPTY "
                "AND j = NULL AND k IN () AND l ALLSET ('x', NULL, {1,'y'}) AND inner = 1 "
                "AND ST_DWithin(ST_GeomFromText('point(1 -2.5)'), pos, 3)");
    const struct query_entry *e = q.where.entries;

    (void) state;
    assert_int_equal(q.where.n, 12);
    assert_int_equal(e[0].kind, ENTRY_FIELDS);
    assert_text(e[0].right_field, "b");
    assert_int_equal(e[1].function, FUNCTION_FLAT_ARRAY_LEN);
    assert_int_equal(e[1].values.n, 2);
    assert_int_equal(e[2].kind, ENTRY_BRACKET);
    assert_int_equal(e[2].bracket.entries[0].condition, COND_EMPTY);
    assert_true(e[3].values_are_now);
    assert_int_equal(e[3].unit, TIME_MSEC);
    assert_int_equal(e[4].kind, ENTRY_SUBQUERY_FIELD);
    assert_int_equal(e[4].condition, COND_SET);
    assert_text(e[4].subquery->fields[0], "g");
    assert_int_equal(e[5].kind, ENTRY_SUBQUERY_VALUES);
    assert_int_equal(e[5].subquery->aggregates[0].type, AGGREGATE_MAX);
    assert_int_equal(e[6].condition, COND_ANY);
    assert_int_equal(e[7].condition, COND_EMPTY);
    assert_int_equal(e[8].values.n, 0);
    assert_int_equal(e[9].values.items[1].type, VALUE_NULL);
    assert_int_equal(e[9].values.items[2].tuple.n, 2);
    assert_text(e[10].field, "inner");
    assert_int_equal(e[11].condition, COND_DWITHIN);
    assert_text(e[11].field, "pos");
    assert_true(e[11].values.n == 3 && e[11].values.items[1].real == -2.5 && e[11].values.items[2].real == 3);
}

static void
knn_has_its_parameters(void **state)
{
    struct query q =
        read_ok("SELECT * FROM t WHERE KNN(v, [1, -2.5e-1 , +3], radius=-1.5, K=10, ef=20) AND a = 1");
    const struct query_knn *knn = &q.where.entries[0].knn;

    (void) state;
    assert_int_equal(q.where.entries[0].kind, ENTRY_KNN);
    assert_int_equal(knn->dim, 3);
    assert_true(knn->vector[0] == 1 && knn->vector[1] == -0.25F && knn->vector[2] == 3);
    assert_true(knn->has_k && knn->k == 10 && knn->has_ef && knn->ef == 20 && !knn->has_nprobe);
    assert_true(knn->has_radius && knn->radius == -1.5);
    assert_true(knn->is_typed && knn->kind == KNN_HNSW);
    q = read_ok("SELECT * FROM t WHERE KNN(v, 'a text')");
    knn = &q.where.entries[0].knn;
    assert_null(knn->vector);
    assert_text(knn->text, "a text");
    assert_true(!knn->has_k && !knn->is_typed);
    /* What the fast reader of lists leaves to tokens. */
    q = read_ok("SELECT * FROM t WHERE KNN(v, [1 -- ]\n , 2])");
    assert_int_equal(q.where.entries[0].knn.dim, 2);
}

static void
select_lists_and_limits(void **state)
{
    struct query q = read_ok("SELECT COUNT(*) FROM t");

    (void) state;
    assert_true(q.total == TOTAL_EXACT && q.limit == 0 && q.all_fields);
    q = read_ok("SELECT COUNT(*), * FROM t");
    assert_true(q.total == TOTAL_EXACT && q.limit == QUERY_NO_LIMIT);
    q = read_ok("SELECT id, COUNT_CACHED(*) FROM t OFFSET 3 LIMIT 5 LIMIT 2");
    assert_true(q.total == TOTAL_CACHED && q.limit == 2 && q.offset == 3 && !q.all_fields);
    q = read_ok("SELECT SUM(A), COUNT(*) FROM t LIMIT 1");
    assert_true(q.limit == 1 && q.n_aggregate == 1);
    assert_text(q.aggregates[0].fields[0], "A");
    q = read_ok("SELECT vectors(), RANK(), a FROM t ORDER BY FIELD(a, 3, 'x') DESC, 'b * 2'");
    assert_true(q.with_vectors && q.with_rank && q.n_field == 1 && !q.all_fields);
    assert_true(q.forced.n == 2 && q.n_sort == 2 && q.sort[0].is_descending && !q.sort[1].is_descending);
    assert_text(q.sort[1].expression, "b * 2");
    q = read_ok("SELECT FACET(a, b ORDER BY count DESC, a LIMIT 3 OFFSET 1), DISTINCT(c) FROM t");
    assert_true(q.n_aggregate == 2 && q.aggregates[0].n_field == 2 && q.aggregates[0].n_sort == 2);
    assert_true(q.aggregates[0].limit == 3 && q.aggregates[0].offset == 1 && q.limit == QUERY_NO_LIMIT);
    assert_true(read_ok("SELECT * FROM t LIMIT 4294967295").limit == QUERY_NO_LIMIT);
    assert_text(read_ok("SELECT * FROM").ns, "");
}

static void
joins_know_their_sides(void **state)
{
    struct query q =
        read_ok("SELECT * FROM a LEFT JOIN b ON b.x < a.y WHERE c = 1 OR INNER JOIN (SELECT z FROM d LIMIT "
                "1) ON (a.k = d.k AND NOT a.m <> d.n OR a.o IN d.p) MERGE(SELECT * FROM e)");

    (void) state;
    assert_true(q.n_join == 2 && q.n_merge == 1 && q.where.n == 2);
    assert_true(q.joins[0].type == JOIN_LEFT && q.joins[1].type == JOIN_INNER);
    assert_text(q.joins[0].on[0].left_field, "y"); /* always the main side, the condition turned */
    assert_text(q.joins[0].on[0].right_field, "x");
    assert_int_equal(q.joins[0].on[0].condition, COND_GT);
    assert_true(q.where.entries[1].kind == ENTRY_JOIN && q.where.entries[1].join == 1);
    assert_int_equal(q.where.entries[1].op, OP_OR);
    assert_int_equal(q.joins[1].n_on, 3);
    assert_int_equal(q.joins[1].on[1].op, OP_AND); /* NOT and <> cancel */
    assert_int_equal(q.joins[1].on[2].op, OP_OR);
    assert_int_equal(q.joins[1].query->limit, 1);
    assert_text(q.merges[0]->ns, "e");
}

static void
updates_have_their_forms(void **state)
{
    struct query q =
        read_ok("UPDATE t SET a = 5, b[0] = 'x', c = [1, 'y', null], d = [], e = {\"k\": [1, {\"]\": 2}]}, "
                "f = [{\"a\":1}, {}], g = null, h = i * 2 -1, j = [1] || k DROP l, m[2] WHERE n = 1 LIMIT 3");

    (void) state;
    assert_true(q.type == QUERY_UPDATE && q.n_update == 11 && q.where.n == 1 && q.limit == 3);
    assert_int_equal(q.updates[0].values.items[0].integer, 5);
    assert_text(q.updates[1].path, "b[0]");
    assert_true(q.updates[2].is_array && q.updates[2].values.n == 3);
    assert_true(q.updates[3].is_array && q.updates[3].values.n == 0);
    assert_int_equal(q.updates[4].form, UPDATE_JSON);
    assert_text(q.updates[4].values.items[0].text, "{\"k\": [1, {\"]\": 2}]}");
    assert_true(q.updates[5].form == UPDATE_JSON && q.updates[5].is_array && q.updates[5].values.n == 2);
    assert_true(q.updates[6].form == UPDATE_VALUES && q.updates[6].values.items[0].type == VALUE_NULL);
    assert_int_equal(q.updates[7].form, UPDATE_EXPRESSION);
    assert_text(q.updates[7].expression, "i * 2 -1");
    assert_int_equal(q.updates[7].tree->kind, EXPR_SUBTRACT);
    assert_int_equal(q.updates[8].tree->kind, EXPR_CONCAT);
    assert_int_equal(q.updates[10].form, UPDATE_DROP);
    assert_text(q.updates[10].path, "m[2]");
}

/* ---- Printing ---- */

static void
assert_printed(const char *sql, const char *canonical, const char *normalized)
{
    struct query q = read_ok(sql);
    anx_buffer out;

    anx_buffer_init(&out, NULL, 1 << 20);
    query_print_sql(&q, false, &out);
    assert_text((anx_text) { out.data, out.size }, canonical);
    q = read_ok(anx_arena_string(arena, (anx_text) { out.data, out.size }));
    anx_buffer_clear(&out);
    query_print_sql(&q, false, &out);
    assert_text((anx_text) { out.data, out.size }, canonical);
    anx_buffer_clear(&out);
    query_print_sql(&q, true, &out);
    assert_text((anx_text) { out.data, out.size }, normalized);
    anx_buffer_fini(&out);
}

static void
printing_is_canonical_and_stable(void **state)
{
    (void) state;
    assert_printed("select id from t where n=1", "SELECT id FROM t WHERE n = 1",
                   "SELECT id FROM t WHERE n = ?");
    assert_printed(
        "select *, vectors() from ns1 where not inner join ns2 on not ns1.lfield in ns2.rfield order by "
        "ns2.respons limit 12",
        "SELECT *, vectors() FROM ns1 WHERE NOT INNER JOIN ns2 ON NOT ns1.lfield IN ns2.rfield ORDER BY "
        "'ns2.respons' LIMIT 12",
        "SELECT *, vectors() FROM ns1 WHERE NOT INNER JOIN ns2 ON NOT ns1.lfield IN ns2.rfield ORDER BY "
        "'ns2.respons' LIMIT ?");
    assert_printed(
        "select rank(),* from t where knn(hnsw,[1,2.50],ef=100000,radius=1.5,k=4291) limit 5 offset 1",
        "SELECT *, RANK() FROM t WHERE KNN(hnsw, [1,2.5], k=4291, radius=1.5, ef=100000) OFFSET 1 LIMIT 5",
        "SELECT *, RANK() FROM t WHERE KNN(hnsw, [?], k=?, radius=?, ef=?) OFFSET ? LIMIT ?");
    assert_printed("select * from t where knn(v, 'it\\'s')", "SELECT * FROM t WHERE KNN(v, 'it\\'s')",
                   "SELECT * FROM t WHERE KNN(v, ?)");
    assert_printed("select count(*) from t", "SELECT COUNT(*) FROM t", "SELECT COUNT(*) FROM t");
    assert_printed("select count(*), id from t", "SELECT id, COUNT(*) FROM t LIMIT 0",
                   "SELECT id, COUNT(*) FROM t LIMIT ?");
    assert_printed(
        "select \"a+b\", \"not\", c[1] from t where (a='\\n\\\\' or b in ({1,'x'},null)) and (not c = true) "
        "and d >= 1e20 and e = 5.0",
        "SELECT \"a+b\", \"not\", \"c[1]\" FROM t WHERE (a = '\\n\\\\' OR b IN ({1,'x'},NULL)) AND (NOT c "
        "= true) AND d >= 1e+20 AND e = 5",
        "SELECT \"a+b\", \"not\", \"c[1]\" FROM t WHERE (a = ? OR b IN (?)) AND (NOT c = ?) AND d >= ? AND e "
        "= ?");
    assert_printed("update t set a = ((b + 1)) * 2 - (c - d), e = 'x', f=[1,2] drop g where h is not null",
                   "UPDATE t SET a = (b + 1) * 2 - (c - d), e = 'x', f = [1,2] DROP g WHERE h IS NOT NULL",
                   "UPDATE t SET a = (b + ?) * ? - (c - d), e = ?, f = [?] DROP g WHERE h IS NOT NULL");
    assert_printed(
        "explain delete from t where st_dwithin(p, st_geomfromtext('POINT(1 2.5)'), 3) order by "
        "field(id,2,1) "
        "desc",
        "EXPLAIN DELETE FROM t WHERE ST_DWithin(p, ST_GeomFromText('POINT(1 2.5)'), 3) ORDER BY FIELD('id', "
        "2, 1) DESC",
        "EXPLAIN DELETE FROM t WHERE ST_DWithin(p, ?, ?) ORDER BY FIELD('id', ?) DESC");
    assert_printed("truncate #t;", "TRUNCATE #t", "TRUNCATE #t");
}

/* ---- Numbers ---- */

static void
assert_float(const char *text)
{
    const char *end = text + strlen(text), *stop;
    float got = 0, want = strtof(text, NULL);
    double got_double = 0, want_double = strtod(text, NULL);
    char padded[256];

    stop = number_read_float(text, end, &got);
    assert_ptr_equal(stop, end);
    if (memcmp(&got, &want, sizeof(got)) != 0)
        fail_msg("%s: %.9g instead of %.9g", text, (double) got, (double) want);
    snprintf(padded, sizeof(padded), "%s, 0.123456789012345678901234567890",
             text); /* the fast way looks ahead */
    stop = number_read_float(padded, padded + strlen(padded), &got);
    assert_ptr_equal(stop, padded + strlen(text));
    if (memcmp(&got, &want, sizeof(got)) != 0)
        fail_msg("%s: %.9g instead of %.9g", text, (double) got, (double) want);
    assert_ptr_equal(number_read_double(text, end, &got_double), end);
    if (memcmp(&got_double, &want_double, sizeof(got_double)) != 0)
        fail_msg("%s: %.17g instead of %.17g", text, got_double, want_double);
}

static void
floats_are_rounded_like_the_c_library(void **state)
{
    static const char *const odd[] = {
        "0",
        "-0",
        "+0.0",
        "1e22",
        "1e23",
        "-1e-22",
        "1e-23",
        "3.4028235e38",
        "3.4028236e38",
        "1.17549435e-38",
        "1.4e-45",
        "7e-46",
        "16777217",
        "16777219",
        "0.50000002980232239",
        "1.00000005960464477",
        "1.0000000596046447",
        "0.000000000000000000001",
        "123456789012345678",
        "0.3",
        "5.",
        "00012.50",
    };
    static const int digits[] = { 3, 6, 8, 9, 16, 17, 18 };
    anx_rng rng = anx_rng_seed(7);

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(odd); i++)
        assert_float(odd[i]);
    for (size_t i = 0; i < 200000; i++) {
        uint64_t bits = anx_rng_next(&rng);
        double real = (double) (bits >> 11) * 0x1p-52 - 1, v = i % 2 ? (double) (float) real : real;
        int n = digits[i % ANX_COUNT_OF(digits)];
        char text[64];

        if (i % 3 == 0)
            snprintf(text, sizeof(text), "%.*f", n, v);
        else if (i % 3 == 1)
            snprintf(text, sizeof(text), "%.*g", n, v);
        else
            snprintf(text, sizeof(text), "%.*e", n, v);
        assert_float(text);
    }
}

/* Halfway between two floats, and next to it: where two roundings would differ from one. */
static void
ties_between_floats_go_to_even(void **state)
{
    anx_rng rng = anx_rng_seed(8);

    (void) state;
    for (int i = 0; i < 20000; i++) {
        uint64_t r = anx_rng_next(&rng);
        double middle = 1 + (double) (r & 0x7FFFFF) * 0x1p-23 + 0x1p-24;
        char text[64];

        if (i % 3 == 1)
            middle += 0x1p-52;
        else if (i % 3 == 2)
            middle -= 0x1p-52;
        snprintf(text, sizeof(text), "%.17g", middle);
        assert_float(text);
    }
}

/* ---- Limits ---- */

static anx_status
read_repeated(const char *front, const char *piece, size_t n, const char *back)
{
    size_t size = strlen(front) + n * strlen(piece) + strlen(back);
    char *text = anx_arena_bytes(arena, size + 1), *at = text;
    struct query query;

    assert_non_null(text);
    at = stpcpy(at, front);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, piece);
    stpcpy(at, back);
    return query_read_sql((anx_text) { text, size }, arena, &query, NULL, NULL);
}

static void
depth_is_limited(void **state)
{
    (void) state;
    assert_int_equal(read_repeated("SELECT * FROM t WHERE ", "(", 1000000, "a = 1"), ANX_E_PARSE_SQL);
    assert_int_equal(
        read_repeated("SELECT * FROM t WHERE a IN (", "SELECT b FROM t WHERE a IN (", 100000, ""),
        ANX_E_PARSE_SQL);
    assert_int_equal(read_repeated("SELECT * FROM t WHERE a = ", "{", 100000, "1"), ANX_E_PARSE_SQL);
    assert_int_equal(read_repeated("UPDATE t SET a = ", "(", 100000, "1"), ANX_E_PARAMS);
    assert_int_equal(read_repeated("UPDATE t SET a = ", "array_remove(", 100000, "1"), ANX_E_PARAMS);
    assert_int_equal(read_repeated("UPDATE t SET a = 1", "+1", 100000, ""), ANX_E_PARAMS);
    assert_int_equal(read_repeated("SELECT * FROM t ", "MERGE(SELECT * FROM t ", 100000, ""),
                     ANX_E_PARSE_SQL);
    assert_int_equal(read_repeated("SELECT * FROM t WHERE a = 1", " OR a = 1", 100000, ""),
                     ANX_OK); /* wide is fine */
    assert_int_equal(read_repeated("SELECT * FROM t WHERE a IN (1", ",1", 100000, ")"), ANX_OK);
}

static void
running_out_of_memory_is_reported(void **state)
{
    static const char *const texts[] = {
        "SELECT a, vectors() FROM t WHERE (a IN (1,'\\'x',{1,2}) OR KNN(v, [1,2], k=1)) LEFT JOIN (SELECT * "
        "FROM u) ON "
        "t.a = u.b MERGE(SELECT * FROM v) ORDER BY FIELD(a, 1), \"2b\"",
        "SELECT FACET(b, c ORDER BY b), SUM(d) FROM t WHERE e IN (SELECT f FROM g)",
        "UPDATE t SET a = 1, b = [1], c = {\"x\":1}, d = array_remove(e, [1,'x']) || f WHERE ST_DWithin(p, "
        "ST_GeomFromText('POINT(1 1)'), 1) AND a = 1 EQUAL_POSITION(a, b)",
    };

    (void) state;
    for (size_t t = 0; t < ANX_COUNT_OF(texts); t++) {
        anx_status st = ANX_E_NOMEM;

        for (size_t limit = 1; st != ANX_OK; limit += 16) {
            anx_arena *small = anx_arena_create(NULL, limit);
            struct query query;

            assert_non_null(small);
            st = query_read_sql(anx_text_of(texts[t]), small, &query, NULL, NULL);
            assert_true(st == ANX_OK || st == ANX_E_NOMEM);
            anx_arena_destroy(small);
        }
    }
}

/* ---- Recorded exchanges ---- */

struct tally {
    size_t read, refused;
};

static bool
same_location(const struct query_location *a, const struct json_node *b)
{
    return a->is_set && a->line_start == (size_t) json_member(b, "line_start")->integer &&
           a->column_start == (size_t) json_member(b, "column_start")->integer &&
           a->line_end == (size_t) json_member(b, "line_end")->integer &&
           a->column_end == (size_t) json_member(b, "column_end")->integer;
}

static void
check_step(void *context, const struct golden_step *step)
{
    struct tally *tally = context;
    const struct json_node *sql = golden_ends(step->path, "/sqlquery") ? step->body : step->q;
    struct query_location location;
    struct query query;
    anx_error err;
    anx_status st;

    if (!sql || sql->kind != JSON_STRING || sql->text.size == 0)
        return;
    st = query_read_sql(sql->text, arena, &query, &location, &err);
    tally->read++;
    if (step->status == 200 && st != ANX_OK)
        fail_msg("%.*s: refused: %s", ANX_TEXT_ARG(sql->text), err.message);
    if (step->location && (st != ANX_E_PARSE_SQL || !same_location(&location, step->location)))
        fail_msg("%.*s: %s\n  at %zu %zu %zu %zu", ANX_TEXT_ARG(sql->text), st ? err.message : "accepted",
                 location.line_start, location.column_start, location.line_end, location.column_end);
    if (st == ANX_OK)
        return; /* what fails later is the executor's */
    tally->refused++;
    if (!step->location && location.is_set)
        fail_msg("%.*s: %s: a location that is not recorded", ANX_TEXT_ARG(sql->text), err.message);
    if (anx_status_http(st) != step->status || !anx_text_equal(anx_text_of(err.message), step->description))
        fail_msg("%.*s\n  is  %d %s\n  not %d %.*s", ANX_TEXT_ARG(sql->text), anx_status_http(st),
                 err.message, (int) step->status, ANX_TEXT_ARG(step->description));
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
    print_message("# %zu SQL texts, %zu of them refused\n", tally.read, tally.refused);
}

static void
read_example(anx_text example)
{
    struct query query;
    anx_error err;

    if (query_read_sql(example, arena, &query, NULL, &err) != ANX_OK)
        fail_msg("%.*s: %s", ANX_TEXT_ARG(example), err.message);
}

static void
the_examples_of_the_manual_are_read(void **state)
{
    (void) state;
    assert_true(manual_each("sql", read_example) >= 40);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(errors_say_what_and_where),
        cmocka_unit_test(errors_of_meaning_have_their_own_status),
        cmocka_unit_test(places_count_lines_and_bytes),
        cmocka_unit_test(or_binds_tighter_as_a_list),
        cmocka_unit_test(number_tokens_become_values),
        cmocka_unit_test(strings_names_and_comments_are_cut),
        cmocka_unit_test(terms_have_their_kinds),
        cmocka_unit_test(knn_has_its_parameters),
        cmocka_unit_test(select_lists_and_limits),
        cmocka_unit_test(joins_know_their_sides),
        cmocka_unit_test(updates_have_their_forms),
        cmocka_unit_test(printing_is_canonical_and_stable),
        cmocka_unit_test(floats_are_rounded_like_the_c_library),
        cmocka_unit_test(ties_between_floats_go_to_even),
        cmocka_unit_test(depth_is_limited),
        cmocka_unit_test(running_out_of_memory_is_reported),
        cmocka_unit_test(the_examples_of_the_manual_are_read),
        cmocka_unit_test(recorded_texts_are_read_or_refused_as_recorded),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
