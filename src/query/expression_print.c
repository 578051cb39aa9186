/* Expressions of UPDATE as text. Reading it gives the same tree. */
#include "query/query_int.h"

/* How tightly a node binds; what binds less tightly than its place allows stands in brackets. */
static int
binding(const struct expression *e)
{
    switch (e->kind) {
    case EXPR_CONCAT:
        return 0;
    case EXPR_ADD:
    case EXPR_SUBTRACT:
        return 1;
    case EXPR_MULTIPLY:
    case EXPR_DIVIDE:
        return 2;
    case EXPR_NEGATE:
        return 3;
    default:
        return 4;
    }
}

static void
print_at(const struct expression *e, int least, bool normalized, anx_buffer *out)
{
    bool has_bracket = binding(e) < least;

    if (has_bracket)
        anx_buffer_char(out, '(');
    expression_print(e, normalized, out);
    if (has_bracket)
        anx_buffer_char(out, ')');
}

static void
print_binary(const struct expression *e, const char *op, bool normalized, anx_buffer *out)
{
    print_at(e->left, binding(e), normalized, out);
    anx_buffer_printf(out, " %s ", op);
    print_at(e->right, binding(e) + 1, normalized, out); /* equal operators group to the left */
}

static void
print_call(const struct expression *e, const char *name, bool normalized, anx_buffer *out)
{
    anx_buffer_printf(out, "%s(", name);
    expression_print(e->left, normalized, out);
    anx_buffer_text(out, ANX_TEXT(", "));
    expression_print(e->right, normalized, out);
    anx_buffer_char(out, ')');
}

static void
print_constant(const struct expression *e, bool normalized, anx_buffer *out)
{
    struct value value = { .type = VALUE_NULL };

    if (e->kind == EXPR_STRING)
        value = (struct value) { .type = VALUE_STRING, .text = e->text };
    else if (e->kind == EXPR_BOOL)
        value = (struct value) { .type = VALUE_BOOL, .boolean = e->number != 0 };
    else if (e->kind == EXPR_NUMBER && e->is_integer)
        value = (struct value) { .type = VALUE_INT, .integer = e->integer };
    else if (e->kind == EXPR_NUMBER)
        value = (struct value) { .type = VALUE_DOUBLE, .real = e->number };
    sql_print_value(&value, normalized, out);
}

static void
print_array(const struct expression *e, bool normalized, anx_buffer *out)
{
    anx_buffer_char(out, '[');
    for (size_t i = 0; i < (normalized ? 0 : e->values.n); i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        sql_print_value(&e->values.items[i], false, out);
    }
    if (normalized)
        anx_buffer_char(out, '?');
    anx_buffer_char(out, ']');
}

void
expression_print(const struct expression *e, bool normalized, anx_buffer *out)
{
    static const char *const operators[] = { [EXPR_ADD] = "+",
                                             [EXPR_SUBTRACT] = "-",
                                             [EXPR_MULTIPLY] = "*",
                                             [EXPR_DIVIDE] = "/",
                                             [EXPR_CONCAT] = "||" };

    switch (e->kind) {
    case EXPR_ADD:
    case EXPR_SUBTRACT:
    case EXPR_MULTIPLY:
    case EXPR_DIVIDE:
    case EXPR_CONCAT:
        print_binary(e, operators[e->kind], normalized, out);
        break;
    case EXPR_NEGATE: /* a number in brackets: "-5" is a constant, "-(5)" is not */
        anx_buffer_char(out, '-');
        print_at(e->left, e->left->kind == EXPR_NUMBER ? 5 : 4, normalized, out);
        break;
    case EXPR_REMOVE:
        print_call(e, "array_remove", normalized, out);
        break;
    case EXPR_REMOVE_ONCE:
        print_call(e, "array_remove_once", normalized, out);
        break;
    case EXPR_NOW:
        anx_buffer_printf(out, "now(%s)", time_unit_word(e->unit));
        break;
    case EXPR_SERIAL:
        anx_buffer_text(out, ANX_TEXT("serial()"));
        break;
    case EXPR_SKIP_EMBEDDING:
        anx_buffer_text(out, ANX_TEXT("skip_embedding()"));
        break;
    case EXPR_ARRAY_LEN:
        anx_buffer_text(out, ANX_TEXT("flat_array_len("));
        sql_print_name(e->text, out);
        anx_buffer_char(out, ')');
        break;
    case EXPR_FIELD:
        sql_print_name(e->text, out);
        break;
    case EXPR_ARRAY:
        print_array(e, normalized, out);
        break;
    default:
        print_constant(e, normalized, out);
        break;
    }
}
