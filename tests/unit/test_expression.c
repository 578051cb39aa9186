/* Expressions of ORDER BY and UPDATE: trees, errors and their places, printing. */
#include "test_arena.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "query/query_int.h"

/* A tree as "(kind left right)", so that a table can say what is wanted. */
static void
draw(const struct expression *e, anx_buffer *out)
{
    static const char *const words[] = {
        [EXPR_NEGATE] = "neg",        [EXPR_ADD] = "+",
        [EXPR_SUBTRACT] = "-",        [EXPR_MULTIPLY] = "*",
        [EXPR_DIVIDE] = "/",          [EXPR_ABS] = "abs",
        [EXPR_DISTANCE] = "distance", [EXPR_CONCAT] = "||",
        [EXPR_REMOVE] = "remove",     [EXPR_REMOVE_ONCE] = "remove_once",
    };

    switch (e->kind) {
    case EXPR_NUMBER:
        anx_buffer_printf(out, e->is_integer ? "%.0f" : "%.17g", e->number);
        break;
    case EXPR_FIELD:
        anx_buffer_printf(out, "%.*s%s%.*s", ANX_TEXT_ARG(e->ns), e->ns.size > 0 ? ":" : "",
                          ANX_TEXT_ARG(e->text));
        break;
    case EXPR_RANK:
        anx_buffer_printf(out, "rank<%.*s>%g", ANX_TEXT_ARG(e->text),
                          e->has_rank_default ? e->rank_default : -1);
        break;
    case EXPR_POINT:
        anx_buffer_printf(out, "<%g %g>", e->x, e->y);
        break;
    case EXPR_HASH:
        anx_buffer_printf(out, "hash%d", e->has_seed ? (int) e->integer : -1);
        break;
    case EXPR_RRF:
        anx_buffer_printf(out, "rrf%g", e->number);
        break;
    case EXPR_STRING:
        anx_buffer_printf(out, "'%.*s'", ANX_TEXT_ARG(e->text));
        break;
    case EXPR_BOOL:
        anx_buffer_printf(out, "%s", e->number != 0 ? "true" : "false");
        break;
    case EXPR_NULL:
        anx_buffer_text(out, ANX_TEXT("null"));
        break;
    case EXPR_ARRAY:
        anx_buffer_printf(out, "[%zu]", e->values.n);
        break;
    case EXPR_NOW:
        anx_buffer_printf(out, "now_%s", time_unit_word(e->unit));
        break;
    case EXPR_SERIAL:
        anx_buffer_text(out, ANX_TEXT("serial"));
        break;
    case EXPR_ARRAY_LEN:
        anx_buffer_printf(out, "len<%.*s>", ANX_TEXT_ARG(e->text));
        break;
    default:
        anx_buffer_printf(out, "(%s ", words[e->kind]);
        draw(e->left, out);
        if (e->right) {
            anx_buffer_char(out, ' ');
            draw(e->right, out);
        }
        anx_buffer_char(out, ')');
    }
}

static void
assert_drawn(const struct expression *e, const char *wanted)
{
    anx_buffer out;

    anx_buffer_init(&out, NULL, 1 << 20);
    draw(e, &out);
    anx_buffer_char(&out, '\0');
    assert_false(out.failed);
    assert_string_equal(out.data, wanted);
    anx_buffer_fini(&out);
}

static void
sort_expressions_become_trees(void **state)
{
    static const struct {
        const char *text, *tree;
    } rows[] = {
        { "id", "id" },
        { "  a.b[2].C[*]  ", "a.b[2].C[*]" },
        { "price+qty", "price+qty" }, /* a composite index */
        { "price + qty * 2", "(+ price (* qty 2))" },
        { "(price - qty) / 2.5", "(/ (- price qty) 2.5)" },
        { "a - b - c", "(- (- a b) c)" },
        { "-id", "(neg id)" },
        { "- -id", "id" },
        { "2 * -id", "(* 2 (neg id))" },
        { "ABS(price - 3)", "(abs (- price 3))" },
        { "rank() * 10 - id", "(- (* rank<>-1 10) id)" },
        { "rank(ft, 7) + 0.5 * rank(\"vec\")", "(+ rank<ft>7 (* 0.5 rank<vec>-1))" },
        { "Writer.born - id", "(- Writer:born id)" },
        { "other.born", "other.born" },
        { "\"1 odd\" + 1", "(+ 1 odd 1)" },
        { "ST_Distance(p, ST_GeomFromText('POINT(1 -2.5)'))", "(distance p <1 -2.5>)" },
        { "st_distance(writer.p, q)", "(distance writer:p q)" },
        { "hash()", "hash-1" },
        { "hash(42) + id", "(+ hash42 id)" },
        { "RRF()", "rrf60" },
        { "rrf( RANK_CONST = 9 )", "rrf9" },
        { "rank", "rank" }, /* a field of that name */
    };
    const anx_text joined[] = { ANX_TEXT("reader"), ANX_TEXT("writer") };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        const struct expression *e;
        anx_error err;

        if (expression_read_sort(anx_text_of(rows[i].text), joined, 2, arena, &e, &err) != ANX_OK)
            fail_msg("%s: %s", rows[i].text, err.message);
        assert_drawn(e, rows[i].tree);
    }
}

static void
sort_errors_name_the_byte(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        { "", "Parser failed at position 0. Expected value" },
        { "id +", "Parser failed at position 4. Expected value" },
        { "id + (price", "Parser failed at position 11. Expected ')'" },
        { "id id", "Parser failed at position 3. Expected operator" },
        { "5 + 2", "Parser failed at position 5. Sort expression does not depend from namespace data" },
        { "nofn(id)", "Parser failed at position 0. Unsupported function name" },
        { "rank(v, x)", "Parser failed at position 8. Default value of rank function is expected" },
        { "RRF(rank_const=0)", "Parser failed at position 16. Rank constant of RRF must be >= 1" },
        { "RRF(c=5)", "Parser failed at position 4. 'rank_const' is expected" },
        { "RRF(rank_const 5)", "Parser failed at position 15. '=' is expected" },
        { "RRF(rank_const=)", "Parser failed at position 15. Rank constant of RRF is expected" },
        { "-RRF()",
          "Parser failed at position 6. Reciprocal rank fusion (RRF) cannot be with negative sign" },
        { "RRF() + id",
          "Parser failed at position 10. Reciprocal rank fusion (RRF) must be single in sort expression" },
        { "\"id", "Parser failed at position 0. Not found close '\"'" },
        { "ST_Distance(p, ST_GeomFromText('1 2'))",
          "Parser failed at position 36. Expected point in form 'POINT(x y)'" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        const struct expression *e;
        char wanted[256];
        anx_error err;

        snprintf(wanted, sizeof(wanted), "'%s' is not valid sort expression. %s", rows[i].text,
                 rows[i].error);
        assert_int_equal(expression_read_sort(anx_text_of(rows[i].text), NULL, 0, arena, &e, &err),
                         ANX_E_PARAMS);
        assert_string_equal(err.message, wanted);
        assert_null(e);
    }
}

static void
update_expressions_become_trees_and_text_again(void **state)
{
    static const struct {
        const char *text, *tree, *printed;
    } rows[] = {
        { "b+1", "(+ b 1)", "b + 1" },
        { "b -1", "(- b 1)", "b - 1" },
        { "b - -1", "(- b -1)", "b - -1" },
        { "-e", "(neg e)", "-e" },
        { "- 5", "(neg 5)", "-(5)" },
        { "-(a + b) * c", "(* (neg (+ a b)) c)", "-(a + b) * c" },
        { "a - (b - c) - d", "(- (- a (- b c)) d)", "a - (b - c) - d" },
        { "a / (b * c) / 2.50", "(/ (/ a (* b c)) 2.5)", "a / (b * c) / 2.5" },
        { "((a))", "a", "a" },
        { "tags || ['x', 1, null] || [ ]", "(|| (|| tags [3]) [0])", "tags || ['x',1,NULL] || []" },
        { "array_remove(Array_Remove_Once(a, b || c), 1)", "(remove (remove_once a (|| b c)) 1)",
          "array_remove(array_remove_once(a, b || c), 1)" },
        { "now() + NOW(msec)", "(+ now_sec now_msec)", "now(sec) + now(msec)" },
        { "serial() * flat_array_len(a.b[0])", "(* serial len<a.b[0]>)",
          "serial() * flat_array_len(\"a.b[0]\")" },
        { "'it\\'s'", "'it's'", "'it\\'s'" },
        { "true", "true", "true" },
        { "\"null\" + null", "(+ null null)", "\"null\" + NULL" },
        { "1 -- comment\n + 2", "(+ 1 2)", "1 + 2" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        const struct expression *e, *again;
        anx_buffer out;
        anx_error err;

        if (expression_read_update(anx_text_of(rows[i].text), arena, &e, &err) != ANX_OK)
            fail_msg("%s: %s", rows[i].text, err.message);
        assert_drawn(e, rows[i].tree);
        anx_buffer_init(&out, NULL, 1 << 20);
        expression_print(e, false, &out);
        assert_int_equal(expression_read_update((anx_text){ out.data, out.size }, arena, &again, &err),
                         ANX_OK);
        assert_drawn(again, rows[i].tree);
        anx_buffer_char(&out, '\0');
        assert_string_equal(out.data, rows[i].printed);
        anx_buffer_fini(&out);
    }
}

static void
update_errors_name_the_token(void **state)
{
    static const struct {
        const char *text, *error;
    } rows[] = {
        { "", "Unexpected token in expression: ''" },
        { "b +", "Unexpected token in expression: ''" },
        { "b + * c", "Unexpected token in expression: '*'" },
        { "b c", "Unexpected token in expression: 'c'" },
        { "(b", "Unexpected token in expression: ''" },
        { "a | b", "Unexpected token in expression: 'b'" },
        { "[1 2]", "Unexpected token in expression: '2'" },
        { "1.2.3 + a", "Unexpected token in expression: '1.2.3'" },
        { "now(day)", "Unexpected token in expression: 'day'" },
        { "nofn(1)", "Function 'nofn' is not supported" },
        { "array_remove([1], 2)",
          "Only an array field is expected as first parameter of command 'array_remove_once/array_remove'" },
        { "a + \"b", "Unexpected token in expression: '\"'" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        const struct expression *e;
        anx_error err;

        assert_int_equal(expression_read_update(anx_text_of(rows[i].text), arena, &e, &err), ANX_E_PARAMS);
        assert_string_equal(err.message, rows[i].error);
        assert_null(e);
    }
}

/* n times the piece, then the end. */
static anx_text
repeated(const char *piece, size_t n, const char *end)
{
    size_t size = n * strlen(piece) + strlen(end);
    char *text = anx_arena_bytes(arena, size + 1), *at = text;

    assert_non_null(text);
    for (size_t i = 0; i < n; i++)
        at = stpcpy(at, piece);
    stpcpy(at, end);
    return (anx_text) { text, size };
}

static void
size_and_depth_are_limited(void **state)
{
    static const struct {
        const char *piece, *end;
    } rows[] = {
        { "(", "a" },    { "a + ", "a" }, { "abs(", "a" }, { "-(", "a" }, { "array_remove(a, ", "a" },
        { "a || ", "a" }
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        const struct expression *e;

        assert_int_equal(
            expression_read_sort(repeated(rows[i].piece, 1000000, rows[i].end), NULL, 0, arena, &e, NULL),
            ANX_E_PARAMS);
        assert_int_equal(
            expression_read_update(repeated(rows[i].piece, 1000000, rows[i].end), arena, &e, NULL),
            ANX_E_PARAMS);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(sort_expressions_become_trees),
        cmocka_unit_test(sort_errors_name_the_byte),
        cmocka_unit_test(update_expressions_become_trees_and_text_again),
        cmocka_unit_test(update_errors_name_the_token),
        cmocka_unit_test(size_and_depth_are_limited),
    };

    return cmocka_run_group_tests(tests, setup, teardown);
}
