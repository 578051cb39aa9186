/* SET and DROP. A single value, a list and JSON are taken as they are; everything else behind "=" is an
 * expression, whose own reader says where it ends. */
#include "doc/json.h"
#include "query/sql/sql_int.h"

/* The end of the JSON object that begins at `at`; 0 when it does not end. */
static size_t
json_end(anx_text sql, size_t at)
{
    size_t depth = 0;
    bool in_string = false;

    for (; at < sql.size; at++) {
        char c = sql.data[at];

        if (in_string && c == '\\')
            at++;
        else if (c == '"')
            in_string = !in_string;
        else if (!in_string && (c == '{' || c == '['))
            depth++;
        else if (!in_string && (c == '}' || c == ']') && --depth == 0)
            return at + 1;
    }
    return 0;
}

static bool
read_json(struct sql_parser *p, struct query_list *values)
{
    size_t front = p->token.front, end = json_end(p->sql, front);
    struct value *value = sql_add(p, values);
    struct json_node *node;
    anx_error json_err;
    anx_status st;

    if (!value)
        return false;
    if (end == 0)
        return sql_fail(p, &p->token, "Not found close '}'; {place}");
    value->type = VALUE_STRING;
    value->text = anx_arena_text(p->arena, (anx_text) { p->sql.data + front, end - front });
    if (!value->text.data)
        return sql_spent(p);
    st = json_parse(value->text, p->arena, &node, &json_err);
    if (st == ANX_E_NOMEM)
        return sql_spent(p);
    if (st != ANX_OK)
        return sql_fail(p, &p->token, "%s, {place}", json_err.message);
    sql_start(p, end);
    return true;
}

/* Lists have no lists in them: a list is over at its first closing bracket, and what follows is out of place.
 */
static bool
fail_nested(struct sql_parser *p)
{
    while (p->token.kind != SQL_END && !sql_is_symbol(&p->token, "]"))
        sql_take(p);
    sql_take(p);
    if (sql_take_symbol(p, ","))
        return sql_fail(p, &p->token, "Expected field name but found '{token}' in query {place}");
    return sql_fail(p, &p->token, "Unexpected '{token}' in query, {place}");
}

/* The elements of a list behind its opening bracket, with the closing one. All JSON objects, or none. */
static bool
read_array(struct sql_parser *p, struct query_update *update)
{
    struct query_list values = { .item_size = sizeof(struct value) };

    if (sql_is_symbol(&p->token, "{"))
        update->form = UPDATE_JSON;
    while (values.n > 0 || !sql_is_symbol(&p->token, "]")) {
        bool is_json = sql_is_symbol(&p->token, "{");
        struct value *value;

        if (sql_is_symbol(&p->token, "["))
            return fail_nested(p);
        if (is_json != (update->form == UPDATE_JSON))
            return sql_fail(p, &p->token, "Expected parameter, but found '{token}' in query, {place}");
        if (is_json) {
            if (!read_json(p, &values))
                return false;
        } else {
            value = sql_add(p, &values);
            if (!value || !sql_literal(p, true, value))
                return false;
        }
        if (!sql_take_symbol(p, ","))
            break;
    }
    update->values = (struct values) { values.items, values.n };
    update->is_array = true;
    if (sql_take_symbol(p, "]"))
        return true;
    return sql_fail(p, &p->token, "Expected ']' or ',', but found '{token}' in query, {place}");
}

/* A sign apart from its number: "-(a)". */
static bool
is_sign(const struct sql_token *token)
{
    return token->kind == SQL_NUMBER && token->text.size == 1 &&
           (token->text.data[0] == '+' || token->text.data[0] == '-');
}

/* Does the token go on with an expression after a value? A number with a sign is an operator and a number. */
static bool
is_operator(const struct sql_token *token)
{
    if (token->kind == SQL_NUMBER)
        return token->text.data[0] == '+' || token->text.data[0] == '-';
    return sql_is_symbol(token, "*") || sql_is_symbol(token, "/") || sql_is_symbol(token, "|");
}

static bool
read_expression(struct sql_parser *p, size_t front, struct query_update *update)
{
    anx_text rest = { p->sql.data + front, p->sql.size - front };
    size_t used;

    if (p->status != ANX_OK)
        return false;
    *update = (struct query_update) { .form = UPDATE_EXPRESSION, .path = update->path };
    p->status = expression_read_front(rest, p->arena, &used, &update->tree, p->err);
    if (p->status != ANX_OK)
        return false;
    update->expression = anx_arena_text(p->arena, (anx_text) { rest.data, used });
    if (!update->expression.data)
        return sql_spent(p);
    sql_start(p, front + used);
    return true;
}

static bool
read_value(struct sql_parser *p, struct query_update *update)
{
    struct query_list values = { .item_size = sizeof(struct value) };
    struct sql_token token = p->token, after = sql_after(p);
    struct value *value;
    bool ok;

    if (sql_is_symbol(&token, "{")) {
        update->form = UPDATE_JSON;
        ok = read_json(p, &values);
        update->values = (struct values) { values.items, values.n };
        return ok;
    }
    if (sql_is_symbol(&token, "[")) {
        sql_take(p);
        if (!read_array(p, update))
            return false;
        return is_operator(&p->token) ? read_expression(p, token.front, update) : true;
    }
    if (!sql_is_literal(p, true) || is_sign(&token) || is_operator(&after))
        return read_expression(p, token.front, update);
    value = sql_add(p, &values);
    update->values = (struct values) { value, 1 };
    return value && sql_literal(p, true, value);
}

static bool
read_assignment(struct sql_parser *p, struct query_list *updates)
{
    struct query_update *update = sql_add(p, updates);
    struct sql_token path = p->token;

    if (!update)
        return false;
    if (path.kind != SQL_NAME)
        return sql_fail(p, &path, "Expected field name but found '{token}' in query {place}");
    sql_take(p);
    if (!sql_text(p, &path, &update->path))
        return false;
    if (!sql_take_symbol(p, "="))
        return sql_fail(p, &p->token, "Expected '=' but found '{token}' in query, '{place}'");
    return read_value(p, update);
}

static bool
read_drops(struct sql_parser *p, struct query_list *updates)
{
    struct query_list names = { .item_size = sizeof(anx_text) };
    const anx_text *paths;

    if (!sql_names(p, "field name", &names))
        return false;
    paths = names.items;
    for (size_t i = 0; i < names.n; i++) {
        struct query_update *update = sql_add(p, updates);

        if (!update)
            return false;
        *update = (struct query_update) { .form = UPDATE_DROP, .path = paths[i] };
    }
    return true;
}

bool
sql_updates(struct sql_parser *p, struct sql_statement *s)
{
    if (sql_take_keyword(p, "set")) {
        do {
            if (!read_assignment(p, &s->updates))
                return false;
        } while (sql_take_symbol(p, ","));
        return sql_take_keyword(p, "drop") ? read_drops(p, &s->updates) : true;
    }
    if (sql_take_keyword(p, "drop"))
        return read_drops(p, &s->updates);
    return sql_fail(p, &p->token, "Expected 'SET' or 'DROP' but found '{token}' in query {place}");
}
