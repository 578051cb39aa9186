/* Conditions. OR binds tighter than AND here, so nothing is nested for it: a level is the list of its terms
 * in the order they stand, each with the operation in front of it. */
#include "query/sql/sql_int.h"

bool
sql_condition(struct sql_parser *p, enum query_condition *condition, bool *is_negated,
              struct sql_token *token)
{
    int found = -1;

    *token = p->token;
    *is_negated = sql_is_symbol(token, "<>");
    if (*is_negated)
        found = COND_EQ;
    else if ((token->kind == SQL_NAME && !token->is_quoted) || token->kind == SQL_SYMBOL)
        found = condition_from_sql(token->text);
    if (found < 0)
        return sql_fail(p, token, "Expected condition operator, but found '{token}' in query");
    sql_take(p);
    *condition = (enum query_condition) found;
    return true;
}

/* "f <> v" is "NOT f = v". */
static bool
negate(struct sql_parser *p, struct query_entry *entry, const struct sql_token *at)
{
    if (entry->op == OP_OR)
        return sql_fail(p, at, "<> condition with OR is not supported, {place}");
    entry->op = entry->op == OP_NOT ? OP_AND : OP_NOT;
    return true;
}

static bool
read_condition(struct sql_parser *p, struct query_entry *entry)
{
    struct sql_token token;
    bool is_negated;

    return sql_condition(p, &entry->condition, &is_negated, &token) &&
           (!is_negated || negate(p, entry, &token));
}

/* ---- Values ---- */

/* "1, 'a', NULL)" behind the opening bracket; may be empty. */
static bool
read_values(struct sql_parser *p, struct values *out)
{
    struct query_list list = { .item_size = sizeof(struct value) };

    if (!sql_take_symbol(p, ")")) {
        do {
            struct value *value = sql_add(p, &list);

            if (!value || !sql_literal(p, true, value))
                return false;
        } while (sql_take_symbol(p, ","));
        if (!sql_expect(p, ")", "Expected ')' or ',', but found '{token}' in query, {place}"))
            return false;
    }
    *out = (struct values) { list.items, list.n };
    return true;
}

/* "now(unit)", the one function on the right. */
static bool
read_now(struct sql_parser *p, struct query_entry *entry)
{
    struct sql_token name = sql_take(p), token;
    int unit;

    sql_take(p); /* the bracket */
    if (!sql_is(&name, "now"))
        return sql_fail_as(p, &name, ANX_E_PARAMS, "Function '{token}' is not supported");
    entry->values_are_now = true;
    entry->unit = TIME_SEC;
    token = p->token;
    if (token.kind == SQL_NAME || token.kind == SQL_STRING) {
        unit = time_unit_from_word(token.text);
        if (unit < 0)
            return sql_fail_as(p, &token, ANX_E_PARAMS, "Unknown time unit '{token}' of function now()");
        entry->unit = (enum query_time_unit) unit;
        sql_take(p);
    }
    return sql_expect(p, ")", "Expected ')', but found '{token}' in query, {place}");
}

/* NULL, EMPTY, NOT NULL, NOT EMPTY, whatever the operator was: is_found. */
static bool
read_null(struct sql_parser *p, struct query_entry *entry, bool *is_found)
{
    bool is_not = sql_take_keyword(p, "not");

    *is_found = sql_take_keyword(p, "null") || sql_take_keyword(p, "empty");
    if (*is_found)
        entry->condition = is_not ? COND_ANY : COND_EMPTY;
    if (*is_found || !is_not)
        return true;
    return sql_fail(p, &p->token, "Expected NULL, but found '{token}' in query, {place}");
}

static bool
read_one_value(struct sql_parser *p, struct query_entry *entry)
{
    struct value *value = anx_arena_array(p->arena, 1, sizeof(*value));

    if (!value)
        return sql_spent(p);
    entry->values = (struct values) { value, 1 };
    return sql_literal(p, false, value);
}

/* The right side of "field cond ..." or "function(field) cond ...". */
static bool
read_right(struct sql_parser *p, struct query_entry *entry)
{
    struct sql_token token;
    bool is_null;

    if (!read_null(p, entry, &is_null) || is_null)
        return p->status == ANX_OK;
    if (sql_take_symbol(p, "(")) {
        if (!sql_is(&p->token, "select"))
            return read_values(p, &entry->values);
        entry->kind = ENTRY_SUBQUERY_FIELD;
        entry->subquery = sql_subselect(p);
        return entry->subquery != NULL;
    }
    if (sql_is_call(p))
        return read_now(p, entry);
    if (p->token.kind != SQL_NAME || sql_is_literal(p, false) || entry->function != FUNCTION_NONE)
        return read_one_value(p, entry);
    token = sql_take(p);
    entry->kind = ENTRY_FIELDS;
    return sql_text(p, &token, &entry->right_field);
}

/* "(SELECT ...) cond value" behind the opening bracket. */
static bool
read_subquery(struct sql_parser *p, struct query_entry *entry)
{
    struct sql_token token;
    bool is_null;

    entry->kind = ENTRY_SUBQUERY_VALUES;
    entry->subquery = sql_subselect(p);
    if (!entry->subquery || !read_condition(p, entry) || !read_null(p, entry, &is_null))
        return false;
    if (is_null)
        return true;
    if (sql_take_symbol(p, "("))
        return read_values(p, &entry->values);
    if (sql_is_call(p))
        return read_now(p, entry);
    token = p->token;
    if (token.kind != SQL_NAME || sql_is_literal(p, false))
        return read_one_value(p, entry);
    return sql_fail(p, &token, "Field cannot be after subquery. (text = '{token}'  location = {place})");
}

/* ---- Functions that are conditions ---- */

/* "POINT(1.5 -2)" */
static bool
read_point(struct sql_parser *p, struct value point[2])
{
    struct sql_token token = p->token;
    anx_text text;

    if (token.kind == SQL_STRING) {
        sql_take(p);
        if (!sql_text(p, &token, &text))
            return false;
        if (number_read_point(text, &point[0].real, &point[1].real)) {
            point[0].type = point[1].type = VALUE_DOUBLE;
            return true;
        }
    }
    return sql_fail(p, &token, "Expected point in form 'POINT(x y)', but found '{token}' in query, {place}");
}

/* ST_DWithin(field, ST_GeomFromText('POINT(x y)'), distance), the first two in any order. */
static bool
read_dwithin(struct sql_parser *p, struct query_entry *entry)
{
    struct value *values = anx_arena_array(p->arena, 3, sizeof(*values));
    bool has_point = false, has_field = false;

    if (!values)
        return sql_spent(p);
    entry->condition = COND_DWITHIN;
    for (int i = 0; i < 2; i++) {
        struct sql_token token = p->token;

        if (sql_is(&token, "st_geomfromtext") && sql_is_call(p) && !has_point) {
            sql_take(p);
            sql_take(p);
            if (!read_point(p, values) ||
                !sql_expect(p, ")", "Expected ')', but found '{token}' in query, {place}"))
                return false;
            has_point = true;
        } else if (token.kind == SQL_NAME && !has_field) {
            sql_take(p);
            if (!sql_text(p, &token, &entry->field))
                return false;
            has_field = true;
        } else {
            return sql_fail(p, &token,
                            "Expected field name or ST_GeomFromText, but found '{token}' in query, {place}");
        }
        if (!sql_expect(p, ",", "Expected ',', but found '{token}' in query, {place}"))
            return false;
    }
    if (p->token.kind != SQL_NUMBER || !number_value(p->token.text, &values[2]))
        return sql_fail(p, &p->token, "Expected number, but found '{token}' in query, {place}");
    sql_take(p);
    if (values[2].type == VALUE_INT)
        values[2] = (struct value) { .type = VALUE_DOUBLE, .real = (double) values[2].integer };
    entry->values = (struct values) { values, 3 };
    return sql_expect(p, ")", "Expected ')', but found '{token}' in query, {place}");
}

/* EQUAL_POSITION(a, b), behind its name and bracket: no term, but a rule for the bracket it stands in. */
static bool
read_positions(struct sql_parser *p, struct sql_where *where)
{
    struct query_list names = { .item_size = sizeof(anx_text) };
    struct query_positions *positions = sql_add(p, &where->positions);

    if (!positions || !sql_names(p, "field name", &names))
        return false;
    *positions = (struct query_positions) { names.items, names.n };
    return sql_expect(p, ")", "Expected ')', but found '{token}' in query, {place}");
}

/* "flat_array_len(field) cond ..." */
static bool
read_left_function(struct sql_parser *p, struct query_entry *entry)
{
    struct sql_token name = sql_take(p), field;

    sql_take(p); /* the bracket */
    if (sql_is(&name, "now"))
        return sql_fail_as(p, NULL, ANX_E_LOGIC, "Function 'now' is not supported as left expression");
    if (!sql_is(&name, "flat_array_len"))
        return sql_fail_as(p, &name, ANX_E_PARAMS, "Function '{token}' is not supported");
    entry->function = FUNCTION_FLAT_ARRAY_LEN;
    field = p->token;
    if (field.kind != SQL_NAME)
        return sql_fail(p, &field, "Expected field name, but found '{token}' in query, {place}");
    sql_take(p);
    return sql_text(p, &field, &entry->field) &&
           sql_expect(p, ")", "Expected ')', but found '{token}' in query, {place}") &&
           read_condition(p, entry) && read_right(p, entry);
}

/* ---- Terms ---- */

static bool
read_predicate(struct sql_parser *p, struct query_entry *entry)
{
    struct sql_token field;

    if (sql_is_call(p)) {
        bool is_knn = sql_is(&p->token, "knn");

        if (!is_knn && !sql_is(&p->token, "st_dwithin"))
            return read_left_function(p, entry);
        sql_take(p);
        sql_take(p);
        return is_knn ? sql_knn(p, entry) : read_dwithin(p, entry);
    }
    field = sql_take(p);
    return sql_text(p, &field, &entry->field) && read_condition(p, entry) && read_right(p, entry);
}

static bool
fail_term(struct sql_parser *p)
{
    struct sql_token token = sql_take(p);

    if (token.kind == SQL_NUMBER || token.kind == SQL_STRING)
        return sql_fail(p, &token, "%s is invalid at this location. (text = '{token}'  location = {place})",
                        token.kind == SQL_NUMBER ? "Number" : "String");
    return sql_fail(p, &p->token, "Expected second logical operand, but found '{token}' in query '{place}'");
}

static bool
read_bracket(struct sql_parser *p, struct sql_statement *s, struct query_entry *entry)
{
    struct sql_where inner = sql_where_empty();

    entry->kind = ENTRY_BRACKET;
    if (!sql_conditions(p, s, &inner) ||
        !sql_expect(p, ")", "Expected ')', but found '{token}' in query, {place}"))
        return false;
    entry->bracket = sql_where_bracket(&inner);
    return true;
}

static bool
read_term(struct sql_parser *p, struct sql_statement *s, struct sql_where *where, enum query_op op,
          const struct sql_token *op_token)
{
    struct query_entry *entry;

    if (op == OP_AND && sql_is(&p->token, "equal_position") && sql_is_call(p))
        return true; /* read behind the term */
    if (sql_is_join(p))
        return sql_join(p, s, where, op, op_token);
    entry = sql_add(p, &where->entries);
    if (!entry)
        return false;
    entry->op = op;
    where->after_left_join = false;
    if (sql_take_symbol(p, "("))
        return sql_is(&p->token, "select") ? read_subquery(p, entry) : read_bracket(p, s, entry);
    return p->token.kind == SQL_NAME ? read_predicate(p, entry) : fail_term(p);
}

bool
sql_conditions(struct sql_parser *p, struct sql_statement *s, struct sql_where *where)
{
    struct sql_token op_token = p->token;
    enum query_op op = sql_take_keyword(p, "not") ? OP_NOT : OP_AND;

    if (!sql_enter(p, &op_token))
        return false;
    for (;;) {
        if (op == OP_OR && (where->entries.n == 0 || where->after_left_join))
            return sql_fail_as(p, NULL, ANX_E_QUERY, "OR operator in first condition or after left join");
        if (!read_term(p, s, where, op, &op_token))
            return false;
        while (sql_is(&p->token, "equal_position") && sql_is_call(p)) {
            sql_take(p);
            sql_take(p);
            if (!read_positions(p, where))
                return false;
        }
        op_token = p->token;
        if (sql_take_keyword(p, "and"))
            op = sql_take_keyword(p, "not") ? OP_NOT : OP_AND;
        else if (sql_take_keyword(p, "or"))
            op = OP_OR;
        else
            break;
    }
    sql_leave(p);
    return p->status == ANX_OK;
}
