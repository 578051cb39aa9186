/* Joins: which rows they keep, what they attach, and how the right side is cut and ordered per row. */
#include "test_select_fixture.h"

static const char book_definition[] =
    "{\"name\":\"book\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("author", "int", "tree") "," INDEX_WITH("tags", "int", "hash", "\"is_array\":true") ","
    INDEX("half", "double", "tree") "," VECTOR_INDEX("v", "vec_bf", "2", "l2") "]}";
static const char book_documents[] =
    "{\"id\":1,\"title\":\"A\",\"author\":10,\"tags\":[10,20],\"half\":10.5,\"v\":[0,0],\"by\":\"ten\"}"
    "{\"id\":2,\"title\":\"B\",\"author\":20,\"tags\":[20],\"half\":20,\"v\":[1,0],\"by\":\"twenty\"}"
    "{\"id\":3,\"title\":\"C\",\"author\":10,\"tags\":[],\"half\":29.5,\"v\":[2,0]}"
    "{\"id\":4,\"title\":\"D\",\"author\":99,\"v\":[3,0],\"half\":1}";
static const char writer_definition[] =
    "{\"name\":\"writer\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("born", "int", "tree") "," INDEX("grp", "int", "hash") "]}";
static const char writer_documents[] = "{\"id\":10,\"name\":\"ten\",\"born\":1900,\"grp\":1}"
                                       "{\"id\":20,\"name\":\"twenty\",\"born\":1950,\"grp\":1}"
                                       "{\"id\":30,\"name\":\"thirty\",\"born\":1980,\"grp\":2}";

static int
set_up(void **state)
{
    static const struct fixture_table tables[] = { { "book", book_definition, book_documents },
                                                   { "writer", writer_definition, writer_documents } };

    return fixture_set_up(state, tables, ANX_COUNT_OF(tables));
}

#define ANSWER(items) "{\"items\":[" items "],\"namespaces\":[\"book\",\"writer\"],\"cache_enabled\":false}"
#define TEN "\"joined_writer\":[{\"id\":10,\"name\":\"ten\",\"born\":1900,\"grp\":1}]"
#define TWENTY "\"joined_writer\":[{\"id\":20,\"name\":\"twenty\",\"born\":1950,\"grp\":1}]"

static void
joins_attach_documents(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT id FROM book INNER JOIN writer ON book.author = writer.id",
          ANSWER("{\"id\":1," TEN "},{\"id\":2," TWENTY "},{\"id\":3," TEN "}") },
        { "SELECT id FROM book LEFT JOIN writer ON writer.id = book.author",
          ANSWER("{\"id\":1," TEN "},{\"id\":2," TWENTY "},{\"id\":3," TEN "},{\"id\":4}") },
        { "SELECT nothing, title FROM book JOIN (SELECT name FROM writer WHERE born > 1920) ON book.author = "
          "writer.id "
          "WHERE id < 3",
          ANSWER("{\"title\":\"A\"},{\"title\":\"B\",\"joined_writer\":[{\"name\":\"twenty\"}]}") },
        { "SELECT id FROM book INNER JOIN (SELECT name FROM writer WHERE born > 1920) ON book.author = "
          "writer.id",
          ANSWER("{\"id\":2,\"joined_writer\":[{\"name\":\"twenty\"}]}") },
        { "SELECT id FROM book WHERE NOT INNER JOIN writer ON book.author = writer.id",
          ANSWER("{\"id\":4}") },
        { "SELECT id FROM book WHERE title = 'D' OR INNER JOIN (SELECT * FROM writer WHERE name = 'twenty') "
          "ON "
          "book.author = writer.id",
          ANSWER("{\"id\":2," TWENTY "},{\"id\":4}") },
        { "SELECT id FROM book WHERE title = 'B' OR INNER JOIN writer ON book.author = writer.id",
          ANSWER("{\"id\":1," TEN "},{\"id\":2," TWENTY "},{\"id\":3," TEN "}") },
        { "SELECT id FROM book WHERE (title = 'B' AND INNER JOIN writer ON book.author = writer.id) OR id = "
          "1",
          ANSWER("{\"id\":1},{\"id\":2," TWENTY "}") },
        { "SELECT id FROM book INNER JOIN writer ON (book.author = writer.id AND book.id < writer.id) LIMIT "
          "1",
          ANSWER("{\"id\":1," TEN "}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer ORDER BY id DESC) ON book.tags IN writer.id",
          ANSWER("{\"id\":1,\"joined_writer\":[{\"id\":20},{\"id\":10}]},{\"id\":2,\"joined_writer\":[{"
                 "\"id\":20}]}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer ORDER BY id DESC LIMIT 1 OFFSET 1) ON "
          "book.tags IN "
          "writer.id",
          ANSWER("{\"id\":1,\"joined_writer\":[{\"id\":10}]},{\"id\":2}") },
        { "SELECT id FROM book INNER JOIN (SELECT * FROM writer LIMIT 0) ON book.author = writer.id",
          ANSWER("{\"id\":1},{\"id\":2},{\"id\":3}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer) ON book.half < writer.id WHERE id IN (2, "
          "3)",
          ANSWER("{\"id\":2,\"joined_writer\":[{\"id\":30}]},{\"id\":3,\"joined_writer\":[{\"id\":30}]}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer) ON book.half > writer.id WHERE id <= 2",
          ANSWER("{\"id\":1,\"joined_writer\":[{\"id\":10}]},{\"id\":2,\"joined_writer\":[{\"id\":10}]}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer) ON book.by = writer.name",
          ANSWER("{\"id\":1,\"joined_writer\":[{\"id\":10}]},{\"id\":2,\"joined_writer\":[{\"id\":20}]}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer) ON (book.author = writer.id OR book.by = "
          "writer.name) WHERE id = 1",
          ANSWER("{\"id\":1,\"joined_writer\":[{\"id\":10}]}") },
        { "SELECT id, RANK() FROM book INNER JOIN (SELECT id FROM writer) ON book.author = writer.id WHERE "
          "KNN(v, [3,0], k=3)",
          ANSWER("{\"id\":3,\"joined_writer\":[{\"id\":10}],\"rank()\":1.0},"
                 "{\"id\":2,\"joined_writer\":[{\"id\":20}],\"rank()\":4.0}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer) ON book.author = writer.id ORDER BY "
          "'writer.born - id' DESC",
          ANSWER("{\"id\":2,\"joined_writer\":[{\"id\":20}]},{\"id\":1,\"joined_writer\":[{\"id\":10}]},"
                 "{\"id\":3,\"joined_writer\":[{\"id\":10}]}") },
        { "SELECT id FROM book INNER JOIN (SELECT id FROM writer) ON book.author = writer.id ORDER BY "
          "writer.born, id "
          "DESC",
          ANSWER("{\"id\":3,\"joined_writer\":[{\"id\":10}]},{\"id\":1,\"joined_writer\":[{\"id\":10}]},"
                 "{\"id\":2,\"joined_writer\":[{\"id\":20}]}") },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

static void
the_same_namespace_can_be_joined(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT id FROM writer INNER JOIN (SELECT id FROM writer) ON writer.grp = writer.grp",
          "{\"items\":[{\"id\":10,\"joined_writer\":[{\"id\":10},{\"id\":20}]},{\"id\":20,\"joined_writer\":"
          "[{\"id\":10},{\"id\":20}]},{\"id\":30,\"joined_writer\":[{\"id\":30}]}],\"namespaces\":["
          "\"writer\","
          "\"writer\"],\"cache_enabled\":false}" },
        { "SELECT id FROM book JOIN (SELECT id FROM writer) ON book.author = writer.id JOIN (SELECT name "
          "FROM writer) "
          "ON book.author = writer.id WHERE id = 1",
          "{\"items\":[{\"id\":1,\"joined_1_writer\":[{\"id\":10}],\"joined_2_writer\":[{\"name\":\"ten\"}]}]"
          ","
          "\"namespaces\":[\"book\",\"writer\",\"writer\"],\"cache_enabled\":false}" },
        { "SELECT COUNT(*) FROM book INNER JOIN writer ON book.author = writer.id",
          "{\"items\":[],\"aggregations\":[{\"value\":3.0,\"type\":\"count\",\"fields\":[\"*\"]}],"
          "\"namespaces\":"
          "[\"book\",\"writer\"],\"cache_enabled\":true,\"total_items\":3,\"query_total_items\":3}" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

/* Enough left rows that the right side's conditions turn into a bitmap on the way. */
static void
many_rows_see_the_same_right_side(void **state)
{
    enum { N = 400 };
    anx_buffer documents, expected;

    anx_buffer_init(&documents, NULL, 1 << 20);
    anx_buffer_init(&expected, NULL, 1 << 20);
    for (int i = 0; i < N; i++) {
        anx_buffer_printf(&documents, "{\"id\":%d,\"w\":%d}", i, i % 3 * 10 + 10);
        if (i % 3 > 0)
            anx_buffer_printf(&expected, "%s{\"id\":%d,\"joined_writer\":[{\"id\":%d}]}",
                              expected.size ? "," : "", i, i % 3 * 10 + 10);
    }
    anx_buffer_char(&documents, '\0');
    fixture_namespace(
        *state, "{\"name\":\"copy\",\"indexes\":[" INDEX_WITH("id", "int", "hash", "\"is_pk\":true") "]}",
        "copy", documents.data);
    anx_buffer_clear(&documents);
    anx_buffer_printf(&documents,
                      "{\"items\":[%.*s],\"namespaces\":[\"copy\",\"writer\"],\"cache_enabled\":false}",
                      (int) expected.size, expected.data);
    anx_buffer_char(&documents, '\0');
    fixture_expect(
        *state,
        "SELECT id FROM copy INNER JOIN (SELECT id FROM writer WHERE born > 1920) ON copy.w = writer.id",
        documents.data);
    anx_buffer_fini(&documents);
    anx_buffer_fini(&expected);
}

static void
mistakes_are_named(void **state)
{
    static const struct fixture_case cases[] = {
        { "SELECT * FROM book INNER JOIN writer ON book.v = writer.id",
          "400 Float vector indexes are not allowed in ON statement: v" },
        { "SELECT * FROM writer INNER JOIN (SELECT * FROM book WHERE KNN(v, [0,0], k=1)) ON book.author = "
          "writer.id",
          "400 KNN condition cannot be in joined subquery" },
        { "SELECT * FROM book INNER JOIN writer ON book.zz = writer.id",
          "400 Current query strict mode allows filtering by existing fields only. There are no fields with "
          "name 'zz' "
          "in namespace 'book'" },
        { "SELECT id FROM book LEFT JOIN writer ON book.author = writer.id ORDER BY 'writer.born + 1'",
          "400 Not found value joined from ns writer" },
        { "SELECT id FROM writer INNER JOIN book ON book.author = writer.id ORDER BY 'book.half + 1'",
          "400 Found more than 1 value joined from ns book" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

static void
a_delete_may_join(void **state)
{
    static const struct fixture_case cases[] = {
        { "DELETE FROM book WHERE INNER JOIN (SELECT * FROM writer WHERE born = 1950) ON book.author = "
          "writer.id",
          "{\"items\":[{\"id\":2,\"title\":\"B\",\"author\":20,\"tags\":[20],\"half\":20.0,\"v\":[1.0,0.0],"
          "\"by\":\"twenty\"}],\"namespaces\":[\"book\"],\"cache_enabled\":true}" },
        { "DELETE FROM book WHERE NOT INNER JOIN (SELECT * FROM book WHERE id < 4) ON book.id = book.id",
          "{\"items\":[{\"id\":4,\"title\":\"D\",\"author\":99,\"v\":[3.0,0.0],\"half\":1.0}],\"namespaces\":"
          "[\"book\"],\"cache_enabled\":true}" },
    };

    FIXTURE_EXPECT_ALL(*state, cases);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(joins_attach_documents),
        cmocka_unit_test(the_same_namespace_can_be_joined),
        cmocka_unit_test(many_rows_see_the_same_right_side),
        cmocka_unit_test(mistakes_are_named),
        cmocka_unit_test(a_delete_may_join), /* last: it removes books */
    };

    return cmocka_run_group_tests(tests, set_up, fixture_tear_down);
}
