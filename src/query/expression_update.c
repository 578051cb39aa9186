/* Expressions of UPDATE, read over the tokens of SQL, because that is where they stand. A sign and its number
 * are one token there: where an operator is due, the token is split. */
#include "base/error.h"
#include "query/sql/sql_int.h"

struct reader {
    anx_text text;
    struct sql_token token; /* the next one */
    size_t used;            /* end of the last token taken */
    anx_arena *arena;
    unsigned n_node, depth;
    anx_status status;
    anx_error *err;
};
/* All of these return NULL after an error. */
static struct expression *read_concat(struct reader *r);

static struct expression *
fail_token(struct reader *r)
{
    if (r->status == ANX_OK)
        r->status = anx_fail(r->err, ANX_E_PARAMS, "Unexpected token in expression: '%.*s'",
                             (int) (r->token.text.size < 100 ? r->token.text.size : 100), r->token.text.data);
    return NULL;
}

static void
start(struct reader *r, size_t at)
{
    struct sql_fault fault;

    r->token = sql_cut(r->text, at, &fault);
    if (fault.kind != FAULT_NONE)
        r->token = (struct sql_token) { .kind = SQL_SYMBOL, .text = ANX_TEXT("\""), .start = fault.start,
                                        .end = fault.start + 1, .front = fault.start,
                                        .next = fault.start + 1 }; /* nothing takes a quote */
}

static struct sql_token
take(struct reader *r)
{
    struct sql_token token = r->token;

    r->used = token.next;
    start(r, token.next);
    return token;
}

static bool
take_symbol(struct reader *r, const char *symbol)
{
    if (!sql_is_symbol(&r->token, symbol))
        return false;
    take(r);
    return true;
}

/* "+" or "-", also as the front of a number. */
static bool
take_sign(struct reader *r, char sign)
{
    if (r->token.kind != SQL_NUMBER || r->token.text.data[0] != sign)
        return false;
    r->used = r->token.front + 1;
    start(r, r->used);
    return true;
}

static struct expression *
new_node(struct reader *r, enum expression_kind kind)
{
    if (++r->n_node > EXPRESSION_NODES_MAX) {
        if (r->status == ANX_OK)
            r->status =
                anx_fail(r->err, ANX_E_PARAMS, "Expression has more than %d parts", EXPRESSION_NODES_MAX);
        return NULL;
    }
    return expression_new(r->arena, kind, &r->status, r->err);
}

static struct expression *
new_binary(struct reader *r, enum expression_kind kind, const struct expression *left,
           const struct expression *right)
{
    return left && right ? expression_join(new_node(r, kind), left, right) : NULL;
}

static bool
copy_text(struct reader *r, const struct sql_token *token, anx_text *out)
{
    struct sql_parser p = { .arena = r->arena, .err = r->err };

    if (!sql_text(&p, token, out))
        r->status = p.status;
    return r->status == ANX_OK;
}

/* ---- Values ---- */

/* A value of a list, or a single one; false without an error: the next token is none. */
static bool
read_scalar(struct reader *r, struct value *out)
{
    struct sql_token token = r->token;

    if (token.kind == SQL_NUMBER) {
        if (!number_value(token.text, out))
            return false;
    } else if (token.kind == SQL_STRING) {
        out->type = VALUE_STRING;
        if (!copy_text(r, &token, &out->text))
            return false;
    } else if (sql_is(&token, "true") || sql_is(&token, "false")) {
        *out = (struct value) { .type = VALUE_BOOL, .boolean = sql_is(&token, "true") };
    } else if (sql_is(&token, "null")) {
        *out = (struct value) { .type = VALUE_NULL };
    } else {
        return false;
    }
    take(r);
    return true;
}

static struct expression *
scalar_node(struct reader *r, const struct value *value)
{
    static const enum expression_kind kinds[] = { [VALUE_NULL] = EXPR_NULL, [VALUE_BOOL] = EXPR_BOOL,
                                                  [VALUE_INT] = EXPR_NUMBER, [VALUE_DOUBLE] = EXPR_NUMBER,
                                                  [VALUE_STRING] = EXPR_STRING };
    struct expression *e = new_node(r, kinds[value->type]);

    if (!e)
        return NULL;
    switch (value->type) {
    case VALUE_BOOL:
        e->number = value->boolean;
        break;
    case VALUE_INT:
        e->is_integer = true;
        e->integer = value->integer;
        e->number = (double) value->integer;
        break;
    case VALUE_DOUBLE:
        e->number = value->real;
        break;
    case VALUE_STRING:
        e->text = value->text;
        break;
    case VALUE_NULL:
    case VALUE_UUID:
    case VALUE_TUPLE:
        break;
    }
    return e;
}

/* Behind the opening bracket. */
static struct expression *
read_array(struct reader *r)
{
    struct query_list values = { .item_size = sizeof(struct value) };
    struct expression *e = new_node(r, EXPR_ARRAY);

    if (!e || take_symbol(r, "]"))
        return e;
    do {
        struct value *value = query_list_add(&values, r->arena);

        if (!value) {
            r->status = query_out_of_memory(r->err);
            return NULL;
        }
        if (!read_scalar(r, value))
            return fail_token(r);
    } while (take_symbol(r, ","));
    e->values = (struct values) { values.items, values.n };
    return take_symbol(r, "]") ? e : fail_token(r);
}

/* ---- Functions, behind their opening bracket ---- */

static struct expression *
read_remove(struct reader *r, enum expression_kind kind)
{
    struct expression *array = read_concat(r), *values;

    if (!array)
        return NULL;
    if (array->kind != EXPR_FIELD && array->kind != EXPR_CONCAT && array->kind != EXPR_REMOVE &&
        array->kind != EXPR_REMOVE_ONCE) {
        if (r->status == ANX_OK)
            r->status = anx_fail(r->err, ANX_E_PARAMS,
                                 "Only an array field is expected as first parameter of command "
                                 "'array_remove_once/array_remove'");
        return NULL;
    }
    if (!take_symbol(r, ","))
        return fail_token(r);
    values = read_concat(r);
    if (!values)
        return NULL;
    return take_symbol(r, ")") ? new_binary(r, kind, array, values) : fail_token(r);
}

static struct expression *
read_now(struct reader *r)
{
    struct expression *e = new_node(r, EXPR_NOW);
    int unit = TIME_SEC;

    if (!e)
        return NULL;
    if (r->token.kind == SQL_NAME || r->token.kind == SQL_STRING) {
        unit = time_unit_from_word(r->token.text);
        if (unit < 0)
            return fail_token(r);
        take(r);
    }
    e->unit = (enum query_time_unit) unit;
    return take_symbol(r, ")") ? e : fail_token(r);
}

static struct expression *
read_array_len(struct reader *r)
{
    struct expression *e = new_node(r, EXPR_ARRAY_LEN);
    struct sql_token field = r->token;

    if (!e)
        return NULL;
    if (field.kind != SQL_NAME)
        return fail_token(r);
    take(r);
    if (!copy_text(r, &field, &e->text))
        return NULL;
    return take_symbol(r, ")") ? e : fail_token(r);
}

static struct expression *
read_call(struct reader *r, const struct sql_token *name)
{
    struct expression *e;

    if (sql_is(name, "array_remove"))
        return read_remove(r, EXPR_REMOVE);
    if (sql_is(name, "array_remove_once"))
        return read_remove(r, EXPR_REMOVE_ONCE);
    if (sql_is(name, "now"))
        return read_now(r);
    if (sql_is(name, "flat_array_len"))
        return read_array_len(r);
    if (sql_is(name, "skip_embedding")) {
        e = new_node(r, EXPR_SKIP_EMBEDDING);
        return !e || take_symbol(r, ")") ? e : fail_token(r);
    }
    if (!sql_is(name, "serial")) {
        if (r->status == ANX_OK)
            r->status = anx_fail(r->err, ANX_E_PARAMS, "Function '%.*s' is not supported",
                                 (int) (name->text.size < 100 ? name->text.size : 100), name->text.data);
        return NULL;
    }
    e = new_node(r, EXPR_SERIAL);
    return !e || take_symbol(r, ")") ? e : fail_token(r);
}

/* ---- The grammar ---- */

static struct expression *
read_primary(struct reader *r)
{
    struct value value = { .type = VALUE_NULL };
    struct expression *e;
    struct sql_token name;

    if (take_symbol(r, "[")) {
        return read_array(r);
    } else if (take_symbol(r, "(")) {
        e = read_concat(r);
        return !e || take_symbol(r, ")") ? e : fail_token(r);
    }
    if (read_scalar(r, &value))
        return scalar_node(r, &value);
    if (r->status != ANX_OK || r->token.kind != SQL_NAME)
        return fail_token(r);
    name = take(r);
    if (!name.is_quoted && take_symbol(r, "("))
        return read_call(r, &name);
    e = new_node(r, EXPR_FIELD);
    return e && copy_text(r, &name, &e->text) ? e : NULL;
}

static struct expression *
read_unary(struct reader *r)
{
    struct expression *e, *negated;
    bool is_negative = false;
    struct value value;

    while (r->token.kind == SQL_NUMBER && !number_value(r->token.text, &value) &&
           (r->token.text.data[0] == '+' || r->token.text.data[0] == '-')) { /* a sign without its number */
        is_negative ^= r->token.text.data[0] == '-';
        take_sign(r, r->token.text.data[0]);
    }
    if (++r->depth > QUERY_DEPTH_MAX)
        return fail_token(r);
    e = read_primary(r);
    r->depth--;
    if (!e || !is_negative)
        return e;
    negated = new_node(r, EXPR_NEGATE);
    if (negated)
        negated->left = e;
    return negated;
}

static struct expression *
read_product(struct reader *r)
{
    struct expression *e = read_unary(r);

    while (e) {
        if (take_symbol(r, "*"))
            e = new_binary(r, EXPR_MULTIPLY, e, read_unary(r));
        else if (take_symbol(r, "/"))
            e = new_binary(r, EXPR_DIVIDE, e, read_unary(r));
        else
            break;
    }
    return e;
}

static struct expression *
read_sum(struct reader *r)
{
    struct expression *e = read_product(r);

    while (e) {
        if (take_sign(r, '+'))
            e = new_binary(r, EXPR_ADD, e, read_product(r));
        else if (take_sign(r, '-'))
            e = new_binary(r, EXPR_SUBTRACT, e, read_product(r));
        else
            break;
    }
    return e;
}

static struct expression *
read_concat(struct reader *r)
{
    struct expression *e = read_sum(r);

    while (e && take_symbol(r, "|")) {
        if (!take_symbol(r, "|"))
            return fail_token(r);
        e = new_binary(r, EXPR_CONCAT, e, read_sum(r));
    }
    return e;
}

anx_status
expression_read_front(anx_text text, anx_arena *arena, size_t *used, const struct expression **out,
                      anx_error *err)
{
    struct reader r = { .text = text.data ? text : ANX_TEXT(""), .arena = arena, .err = err };
    const struct expression *e;

    start(&r, 0);
    e = read_concat(&r);
    *out = r.status == ANX_OK ? e : NULL;
    *used = r.used;
    return r.status;
}

anx_status
expression_read_update(anx_text text, anx_arena *arena, const struct expression **out, anx_error *err)
{
    struct sql_fault fault;
    struct sql_token rest;
    size_t used;
    anx_status st = expression_read_front(text, arena, &used, out, err);

    if (st != ANX_OK)
        return st;
    rest = sql_cut(text, used, &fault);
    if (rest.kind == SQL_END && fault.kind == FAULT_NONE)
        return ANX_OK;
    *out = NULL;
    return anx_fail(err, ANX_E_PARAMS, "Unexpected token in expression: '%.*s'",
                    (int) (rest.text.size < 100 ? rest.text.size : 100), rest.text.data);
}
