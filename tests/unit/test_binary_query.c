/* Queries of the binary protocol: what they read as, printed as SQL; damage; errors. */
#include "test_arena.h"

#include <string.h>

#include "base/error.h"
#include "query/query.h"

struct row {
    const char *bytes;
    size_t size;
    enum query_type type;
    const char *sql;
};
#define ROW(bytes, type, sql) { bytes, sizeof(bytes) - 1, type, sql }
/* Codes are entries, numbers behind them their payload, as the protocol's description has them. */
static const struct row rows[] = {
    ROW("\x04"
        "docs\x04\x00\x0B",
        QUERY_SELECT, "SELECT * FROM docs LIMIT 0"),
    ROW("\x04"
        "docs\x20\x03vec\x02\x04\x00\x00\x80\x3F\x00\x00\x00\x00\x02\x01\x01\x02\x0A\x09\x01*\x09\x09vectors("
        ")"
        "\x17\x04\x02\x0B",
        QUERY_SELECT, "SELECT *, vectors(), RANK() FROM docs WHERE KNN(vec, [1,0], k=2, ef=10) LIMIT 2"),
    ROW("\x04"
        "docs\x21\x03vec\x02\x01\x03"
        "cat\x00\x01\x03\x05\x00\x00\x00\x3F\x0B",
        QUERY_SELECT, "SELECT * FROM docs WHERE KNN(vec, 'cat', k=5, radius=0.5)"),
    ROW("\x01t\x00\x01"
        "a\x02\x01\x01\x00\x02\x00\x01"
        "b\x01\x06\x02\x00\x02\x00\x04\x00\x01"
        "c\x03\x07\x02\x02\x01x\x02\x01y"
        "\x0B",
        QUERY_SELECT, "SELECT * FROM t WHERE a = 1 OR b RANGE (1,2) AND NOT c IN ('x','y')"),
    ROW("\x01t\x00\x01"
        "a\x02\x04\x01\x00\x02\x12\x02\x00\x01"
        "b\x02\x01\x01\x03\x01\x00\x01"
        "c\x01\x01\x01\x03\x00\x13\x0B",
        QUERY_SELECT, "SELECT * FROM t WHERE a > 1 AND (b = true OR c = false)"),
    ROW("\x01t\x02\x01"
        "a\x01\x00\x05\x0A\x06\x02\x0B",
        QUERY_SELECT, "SELECT *, COUNT(*) FROM t ORDER BY 'a' DESC OFFSET 10"),
    ROW("\x01t\x08\x02\x01\x01"
        "f\x0F\x05\x10\x01\x11\x05"
        "count\x01\x0B",
        QUERY_SELECT, "SELECT FACET(f ORDER BY 'count' DESC OFFSET 1 LIMIT 5) FROM t"),
    ROW("\x01t\x14\x01\x00\x0B\x01\x01u\x03\x02\x01\x01"
        "a\x01"
        "b\x0B",
        QUERY_SELECT, "SELECT * FROM t WHERE INNER JOIN u ON t.a = u.b"),
    ROW("\x01t\x0B\x00\x01u\x03\x02\x01\x01"
        "a\x01"
        "b\x0B",
        QUERY_SELECT, "SELECT * FROM t LEFT JOIN u ON t.a = u.b"),
    ROW("\x01t\x0B\x03\x01u\x0B", QUERY_SELECT, "SELECT * FROM t MERGE(SELECT * FROM u)"),
    ROW("\x01t\x1A\x02\x01"
        "a\x02\x01"
        "b\x0B",
        QUERY_SELECT, "SELECT * FROM t WHERE a < b"),
    ROW("\x01t\x1E\x02\x01"
        "a\x07\x06\x01u\x09\x01"
        "b\x0B",
        QUERY_SELECT, "SELECT * FROM t WHERE a IN (SELECT b FROM u)"),
    ROW("\x01t\x24\x02\x01\x01"
        "a\x00\x00\x02\x04\x01\x01\x00\x04\x0B",
        QUERY_SELECT, "SELECT * FROM t WHERE flat_array_len(a) > 2"),
    ROW("\x01t\x0E\x01"
        "a\x01\x00\x00\x02\x0E\x01"
        "b\x01\x01\x02\x03"
        "b+1\x15\x01"
        "c",
        QUERY_UPDATE, "UPDATE t SET a = 1, b = b + 1 DROP c"),
    ROW("\x01t\x00\x01"
        "a\x02\x09\x01\x04\x0B",
        QUERY_DELETE, "DELETE FROM t WHERE a IS NULL"),
};

static anx_text
text_of(const struct row *row)
{
    return (anx_text) { row->bytes, row->size };
}

static void
queries_read_as_sql(void **state)
{
    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct query query;
        anx_buffer sql;
        anx_error err;

        if (query_read_binary(text_of(&rows[i]), rows[i].type, arena, &query, &err) != ANX_OK)
            fail_msg("row %zu (%s): %s", i, rows[i].sql, err.message);
        anx_buffer_init(&sql, NULL, 4096);
        query_print_sql(&query, false, &sql);
        if (!anx_text_equal((anx_text) { sql.data, sql.size }, anx_text_of(rows[i].sql)))
            fail_msg("row %zu: \"%.*s\" is not \"%s\"", i, (int) sql.size, sql.data, rows[i].sql);
        anx_buffer_fini(&sql);
    }
}

/* A cut query is an error, or, where an entry ends, a shorter query; nothing behind its end is read. */
static void
every_cut_is_survived(void **state)
{
    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        for (size_t size = 0; size < rows[i].size; size++) {
            char *copy = anx_alloc_bytes(NULL, size + 1);
            struct query query;
            anx_error err;

            memcpy(copy, rows[i].bytes, size);
            err.message[0] = '\0';
            if (query_read_binary((anx_text) { copy, size }, rows[i].type, arena, &query, &err) != ANX_OK)
                assert_true(err.message[0] != '\0');
            anx_free(NULL, copy);
        }
}

static void
errors_have_codes_and_names(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        anx_status status;
        const char *text;
    } bad[] = {
#define BAD(bytes, status, text) { bytes, sizeof(bytes) - 1, status, text }
        BAD("\x01t\x22\x0B", ANX_E_PARSE_BIN, "unknown entry 34"),
        BAD("\x01t\x20\x01v\x02\x02\x00\x00\x00\x00\x00\x00\x00\x0B", ANX_E_BIN_VERSION, "version 0"),
        BAD("\x01t\x20\x01v\x02\x02\x00\x00\x00\x00\x00\x01\x01\x00\x0B", ANX_E_QUERY,
            "KNN limit should not be 0"),
        BAD("\x01t\x20\x01v\x02\x02\x00\x00\x00\x00\x02\x01\x01\x05\x04\x0B", ANX_E_QUERY,
            "Ef should not be less"),
        BAD("\x01t\x20\x01v\x02\xFF\xFF\xFF\xFF\x0F\x00", ANX_E_PARSE_BIN, "cut short"),
        BAD("\x01t\x00\x01"
            "a\x02\x0C\x01\x00\x02\x0B",
            ANX_E_LOGIC, "Use KNN query"),
        BAD("\x01t\x00\x01"
            "a\x02\x04\x00\x0B",
            ANX_E_PARAMS, "must have exact 1 argument"),
        BAD("\x01t\x00\x01"
            "a\x05\x01\x00\x0B",
            ANX_E_PARSE_BIN, "unknown operation 5"),
        BAD("\x01t\x12\x02\x0B", ANX_E_PARSE_BIN, "leaves 1 brackets open"),
        BAD("\x01t\x13\x0B", ANX_E_PARSE_BIN, "did not open"),
        BAD("\x01t\x14\x01\x05\x0B", ANX_E_PARSE_BIN, "joined query 5 of 0"),
        BAD("\x01t\x00\x01"
            "a\x02\x01\xFF\xFF\x7F",
            ANX_E_PARSE_BIN, "cut short"),
#undef BAD
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(bad); i++) {
        struct query query;
        anx_error err;

        assert_int_equal(
            query_read_binary((anx_text) { bad[i].bytes, bad[i].size }, QUERY_SELECT, arena, &query, &err),
            bad[i].status);
        if (!strstr(err.message, bad[i].text))
            fail_msg("row %zu: \"%s\" has no \"%s\"", i, err.message, bad[i].text);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(queries_read_as_sql),
        cmocka_unit_test(every_cut_is_survived),
        cmocka_unit_test(errors_have_codes_and_names),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
