/* Joins: their right side and what is behind ON. */
#include "query/sql/sql_int.h"

/* Fields may have these names: what follows tells. */
bool
sql_is_join(const struct sql_parser *p)
{
    struct sql_token after = sql_after(p);

    if (sql_is(&p->token, "left") || sql_is(&p->token, "inner"))
        return sql_is(&after, "join");
    return sql_is(&p->token, "join") &&
           (after.kind == SQL_NAME || after.kind == SQL_STRING || sql_is_symbol(&after, "("));
}

static bool
read_type(struct sql_parser *p, enum query_join_type *type)
{
    *type = sql_take_keyword(p, "inner") ? JOIN_INNER : JOIN_LEFT;
    if (*type == JOIN_LEFT)
        sql_take_keyword(p, "left");
    if (sql_take_keyword(p, "join"))
        return true;
    return sql_fail(p, &p->token, "Expected JOIN, but found '{token}' in query, {place}");
}

/* NULL: failed. */
static const struct query *
read_right_side(struct sql_parser *p)
{
    struct query *query;

    if (sql_take_symbol(p, "(")) {
        if (sql_is(&p->token, "select"))
            return sql_subselect(p);
        sql_fail(p, &p->token, "Expected 'SELECT', but found '{token}' in query, {place}");
        return NULL;
    }
    query = anx_arena_array(p->arena, 1, sizeof(*query));
    if (!query) {
        sql_spent(p);
        return NULL;
    }
    *query = query_default();
    return sql_ns(p, &query->ns) ? query : NULL;
}

/* "ns.field" taken apart. */
struct qualified {
    anx_text ns, field;
};

static bool
read_qualified(struct sql_parser *p, bool is_left, struct qualified *out)
{
    struct sql_token token = p->token;
    const char *dot;
    anx_text text;

    if (token.kind != SQL_NAME)
        return sql_fail(p, &token, "Expected name, but found '{token}' in query, {place}");
    dot = memchr(token.text.data, '.', token.text.size);
    if (!dot && is_left)
        return sql_fail(p, &token, "Expected condition operator, but found '{token}' in query");
    if (!dot)
        return sql_fail(p, &token, "Unexpected '{token}' in query, {place}");
    sql_take(p);
    if (!sql_text(p, &token, &text))
        return false;
    out->ns = (anx_text) { text.data, (size_t) (dot - token.text.data) };
    out->field = (anx_text) { text.data + out->ns.size + 1, text.size - out->ns.size - 1 };
    return true;
}

static bool
read_on_term(struct sql_parser *p, anx_text main_ns, anx_text joined_ns, struct query_on *on)
{
    struct sql_token first = p->token, token;
    struct qualified left = { { NULL, 0 }, { NULL, 0 } }, right = left;
    bool is_negated;

    if (!read_qualified(p, true, &left) || !sql_condition(p, &on->condition, &is_negated, &token))
        return false;
    if (is_negated && on->op == OP_OR)
        return sql_fail(p, &token, "<> condition with OR is not supported, {place}");
    if (is_negated)
        on->op = on->op == OP_NOT ? OP_AND : OP_NOT;
    if (!read_qualified(p, false, &right))
        return false;
    if (anx_text_equal_fold(left.ns, main_ns) && anx_text_equal_fold(right.ns, joined_ns)) {
        on->left_field = left.field;
        on->right_field = right.field;
        return true;
    }
    if (anx_text_equal_fold(left.ns, joined_ns) && anx_text_equal_fold(right.ns, main_ns)) {
        on->left_field = right.field;
        on->right_field = left.field;
        on->condition = condition_turned(on->condition);
        on->is_reversed = true;
        return true;
    }
    return sql_fail(
        p, &first,
        "Unexpected tables with ON statement: ('%.*s' and '%.*s') but expected ('%.*s' and '%.*s'), {place}",
        ANX_TEXT_ARG(left.ns), ANX_TEXT_ARG(right.ns), ANX_TEXT_ARG(main_ns), ANX_TEXT_ARG(joined_ns));
}

/* One term, or several in round brackets. */
static bool
read_on(struct sql_parser *p, anx_text main_ns, struct query_join *join)
{
    struct query_list terms = { .item_size = sizeof(struct query_on) };
    bool has_bracket;
    enum query_op op;

    if (!sql_take_keyword(p, "on"))
        return sql_fail(p, &p->token, "Expected 'ON', but found '{token}', {place}");
    has_bracket = sql_take_symbol(p, "(");
    op = sql_take_keyword(p, "not") ? OP_NOT : OP_AND;
    for (;;) {
        struct query_on *on = sql_add(p, &terms);

        if (!on)
            return false;
        on->op = op;
        if (!read_on_term(p, main_ns, join->query->ns, on))
            return false;
        if (has_bracket && sql_take_keyword(p, "and"))
            op = sql_take_keyword(p, "not") ? OP_NOT : OP_AND;
        else if (has_bracket && sql_take_keyword(p, "or"))
            op = OP_OR;
        else
            break;
    }
    join->on = terms.items;
    join->n_on = terms.n;
    if (!has_bracket || sql_take_symbol(p, ")"))
        return true;
    return sql_fail(p, &p->token, "Expected ')', 'AND' or 'OR', but found '{token}' in query, {place}");
}

bool
sql_join(struct sql_parser *p, struct sql_statement *s, struct sql_where *where, enum query_op op,
         const struct sql_token *op_token)
{
    struct query_join join = { .type = JOIN_LEFT }, *added;
    struct query_entry *entry;

    if (!read_type(p, &join.type))
        return false;
    if (join.type == JOIN_LEFT && op != OP_AND)
        return sql_fail(p, op_token, "Left join with %s operation, {place}", op == OP_OR ? "OR" : "NOT");
    join.query = read_right_side(p);
    if (!join.query || !read_on(p, s->query->ns, &join))
        return false;
    added = sql_add(p, &s->joins);
    if (!added)
        return false;
    *added = join;
    where->after_left_join = join.type == JOIN_LEFT;
    if (join.type == JOIN_LEFT)
        return true;
    if (op == OP_OR && where->entries.n == 0)
        return sql_fail_as(p, NULL, ANX_E_QUERY, "OR operator in first condition or after left join");
    entry = sql_add(p, &where->entries);
    if (!entry)
        return false;
    *entry = (struct query_entry) { .op = op, .kind = ENTRY_JOIN, .join = s->joins.n - 1 };
    return true;
}
