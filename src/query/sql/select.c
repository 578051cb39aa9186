/* SELECT: the list of what is returned, and the clauses behind FROM, which stand in any order. */
#include "query/sql/sql_int.h"

#define CLOSE_EXPECTED "Expected ')', but found '{token}' in query, {place}"

struct sql_where
sql_where_empty(void)
{
    return (struct sql_where) { .entries = { .item_size = sizeof(struct query_entry) },
                                .positions = { .item_size = sizeof(struct query_positions) } };
}

struct query_bracket
sql_where_bracket(const struct sql_where *where)
{
    return (struct query_bracket) { .entries = where->entries.items,
                                    .n = where->entries.n,
                                    .positions = where->positions.items,
                                    .n_positions = where->positions.n };
}

struct sql_statement
sql_statement_of(struct query *query)
{
    return (struct sql_statement) {
        .query = query,
        .fields = { .item_size = sizeof(anx_text) },
        .aggregates = { .item_size = sizeof(struct query_aggregate) },
        .sort = { .item_size = sizeof(struct query_order) },
        .forced = { .item_size = sizeof(struct value) },
        .joins = { .item_size = sizeof(struct query_join) },
        .merges = { .item_size = sizeof(const struct query *) },
        .updates = { .item_size = sizeof(struct query_update) },
        .where = sql_where_empty(),
    };
}

bool
sql_finish(struct sql_parser *p, struct sql_statement *s)
{
    struct query *q = s->query;

    q->fields = s->fields.items;
    q->n_field = s->fields.n;
    q->all_fields = s->has_star || s->fields.n == 0;
    q->aggregates = s->aggregates.items;
    q->n_aggregate = s->aggregates.n;
    q->sort = s->sort.items;
    q->n_sort = s->sort.n;
    q->forced = (struct values) { s->forced.items, s->forced.n };
    q->joins = s->joins.items;
    q->n_join = s->joins.n;
    q->merges = s->merges.items;
    q->n_merge = s->merges.n;
    q->updates = s->updates.items;
    q->n_update = s->updates.n;
    q->where = sql_where_bracket(&s->where);
    return p->status == ANX_OK;
}

/* A missing name is the empty one, which no namespace has. */
bool
sql_ns(struct sql_parser *p, anx_text *ns)
{
    struct sql_token token = p->token;

    if (token.kind == SQL_SYMBOL)
        return sql_fail(p, &token, "Expected namespace name, but found '{token}' in query, {place}");
    sql_take(p);
    return sql_text(p, &token, ns);
}

/* "a, b, c": at least one name. what: "field name" in the message. */
bool
sql_names(struct sql_parser *p, const char *what, struct query_list *names)
{
    do {
        struct sql_token token = p->token;
        anx_text *name;

        if (token.kind != SQL_NAME)
            return sql_fail(p, &token, "Expected %s, but found '{token}' in query, {place}", what);
        sql_take(p);
        name = sql_add(p, names);
        if (!name || !sql_text(p, &token, name))
            return false;
    } while (sql_take_symbol(p, ","));
    return true;
}

/* ---- LIMIT, OFFSET, ORDER BY ---- */

static bool
read_count(struct sql_parser *p, bool is_limit, size_t *out)
{
    struct sql_token token = p->token;
    struct value value;

    if (token.kind == SQL_NUMBER && number_value(token.text, &value) && value.type == VALUE_INT &&
        (value.integer >= 0 || is_limit)) {
        sql_take(p);
        *out = (size_t) value.integer;
        if (is_limit && (value.integer < 0 || value.integer >= UINT32_MAX))
            *out = QUERY_NO_LIMIT;
        return true;
    }
    return sql_fail(p, &token, "Expected number, but found '{token}' in query, {place}");
}

bool
sql_window(struct sql_parser *p, size_t *limit, size_t *offset)
{
    if (sql_take_keyword(p, "limit"))
        return read_count(p, true, limit);
    return sql_take_keyword(p, "offset") && read_count(p, false, offset);
}

/* The key of "FIELD(key, 1, 2)" and its values, behind the opening bracket. */
static bool
read_forced(struct sql_parser *p, struct sql_token *key, struct query_list *forced)
{
    *key = sql_take(p);
    if (key->kind != SQL_NAME && key->kind != SQL_STRING)
        return sql_fail(p, key, "Expected name, but found '{token}' in query, {place}");
    while (sql_take_symbol(p, ",")) {
        struct value *value = sql_add(p, forced);

        if (!value || !sql_literal(p, false, value))
            return false;
    }
    if (!sql_is_symbol(&p->token, ")"))
        return sql_fail(p, &p->token, "Expected ')' or ',', but found '{token}' in query, {place}");
    sql_take(p);
    return true;
}

/* A name becomes an expression: the field of that name. One that an expression would read otherwise gets the
 * quotes it had. */
static bool
read_order_key(struct sql_parser *p, const struct sql_token *key, anx_text *out)
{
    if (key->kind == SQL_NAME && key->text.size > 0 &&
        ((key->text.data[0] >= '0' && key->text.data[0] <= '9') ||
         memchr(key->text.data, '-', key->text.size))) {
        *out = anx_arena_printf(p->arena, "\"%.*s\"", ANX_TEXT_ARG(key->text));
        return out->data || sql_spent(p);
    }
    if (!sql_text(p, key, out))
        return false;
    for (size_t i = 0; i < out->size; i++)
        if (out->data[i] != ' ')
            return true;
    return sql_fail(p, key, "Order by expression should not be empty, {place}");
}

/* Behind ORDER. */
bool
sql_order(struct sql_parser *p, struct query_list *sort, struct query_list *forced)
{
    if (!sql_take_keyword(p, "by"))
        return sql_fail(p, &p->token, "Expected 'BY', but found '{token}' in query, {place}");
    do {
        struct sql_token key = p->token;
        struct query_order *order = sql_add(p, sort);

        if (!order)
            return false;
        if (key.kind != SQL_NAME && key.kind != SQL_STRING)
            return sql_fail(p, &key, "Expected name, but found '{token}' in query, {place}");
        if (forced && sql_is(&key, "field") && sql_is_call(p)) {
            sql_take(p);
            sql_take(p);
            if (sort->n > 1)
                return sql_fail_as(p, NULL, ANX_E_PARAMS,
                                   "Forced sort order is allowed for the first sorting entry only");
            if (!read_forced(p, &key, forced))
                return false;
        } else {
            sql_take(p);
        }
        if (!read_order_key(p, &key, &order->expression))
            return false;
        order->is_descending = sql_take_keyword(p, "desc");
        if (!order->is_descending)
            sql_take_keyword(p, "asc");
    } while (sql_take_symbol(p, ","));
    return true;
}

/* ---- The list behind SELECT ---- */

static bool
fail_combined(struct sql_parser *p, const struct sql_token *at)
{
    return sql_fail(p, at,
                    "Not allowed to combine aggregation functions and fields' filter in a single query");
}

/* Only DISTINCT goes together with fields. */
static bool
has_strict_aggregate(const struct sql_statement *s)
{
    const struct query_aggregate *aggregates = s->aggregates.items;

    for (size_t i = 0; i < s->aggregates.n; i++)
        if (aggregates[i].type != AGGREGATE_DISTINCT)
            return true;
    return false;
}

/* "field, field ORDER BY ... LIMIT n OFFSET n)" behind the opening bracket. */
static bool
read_aggregate(struct sql_parser *p, struct sql_statement *s, enum query_aggregate_type type)
{
    struct query_list names = { .item_size = sizeof(anx_text) };
    struct query_list sort = { .item_size = sizeof(struct query_order) };
    struct query_aggregate *aggregate = sql_add(p, &s->aggregates);

    if (!aggregate)
        return false;
    *aggregate = (struct query_aggregate) {
        .type = type, .limit = QUERY_NO_LIMIT, .shows_index_names = true
    };
    if (!sql_names(p, "field name", &names))
        return false;
    for (;;) {
        bool ok = true;

        if (sql_is(&p->token, "limit") || sql_is(&p->token, "offset"))
            ok = sql_window(p, &aggregate->limit, &aggregate->offset);
        else if (sql_take_keyword(p, "order"))
            ok = sql_order(p, &sort, NULL);
        else
            break;
        if (!ok)
            return false;
    }
    aggregate->fields = names.items;
    aggregate->n_field = names.n;
    aggregate->sort = sort.items;
    aggregate->n_sort = sort.n;
    return sql_expect(p, ")", CLOSE_EXPECTED);
}

/* COUNT(*) alone means that no documents are wanted: it sets LIMIT 0 unless a field came before it. */
static bool
read_count_all(struct sql_parser *p, struct sql_statement *s, enum query_total total)
{
    if (!sql_take_symbol(p, "*"))
        return sql_fail(p, &p->token, "Expected '*', but found '{token}' in query, {place}");
    s->query->total = total;
    if (!s->has_star && s->fields.n == 0 && !s->query->with_vectors && s->query->limit == QUERY_NO_LIMIT) {
        s->query->limit = 0;
        s->has_limit_of_count = true;
    }
    return sql_expect(p, ")", CLOSE_EXPECTED);
}

static bool
read_select_call(struct sql_parser *p, struct sql_statement *s)
{
    struct sql_token name = sql_take(p);
    int type = aggregate_from_word(name.text);

    sql_take(p); /* the bracket */
    if (type == AGGREGATE_COUNT)
        return read_count_all(p, s, TOTAL_EXACT);
    if (type == AGGREGATE_COUNT_CACHED)
        return read_count_all(p, s, TOTAL_CACHED);
    if (type >= 0) {
        if (type != AGGREGATE_DISTINCT && (s->has_star || s->fields.n > 0 || s->query->with_vectors))
            return fail_combined(p, &name);
        return read_aggregate(p, s, (enum query_aggregate_type) type);
    }
    if (sql_is(&name, "rank")) {
        s->query->with_rank = true;
        return sql_expect(p, ")", CLOSE_EXPECTED);
    }
    if (sql_is(&name, "vectors")) {
        if (has_strict_aggregate(s))
            return fail_combined(p, &name);
        s->query->with_vectors = true;
        return sql_expect(p, ")", CLOSE_EXPECTED);
    }
    return sql_fail(p, &name, "Unknown function name SQL - '{token}', {place}");
}

static bool
read_select_item(struct sql_parser *p, struct sql_statement *s)
{
    struct sql_token token = p->token;
    anx_text *field;

    if (sql_is_call(p))
        return read_select_call(p, s);
    if (has_strict_aggregate(s))
        return fail_combined(p, &token);
    sql_take(p);
    if (token.kind == SQL_SYMBOL) { /* the star */
        s->has_star = true;
        if (s->has_limit_of_count) {
            s->query->limit = QUERY_NO_LIMIT;
            s->has_limit_of_count = false;
        }
        return true;
    }
    field = sql_add(p, &s->fields);
    return field && sql_text(p, &token, field);
}

static bool
read_select_list(struct sql_parser *p, struct sql_statement *s)
{
    do {
        if (p->token.kind != SQL_NAME && p->token.kind != SQL_STRING && !sql_is_symbol(&p->token, "*"))
            break; /* a string is a path with dots */
        if (!read_select_item(p, s))
            return false;
    } while (sql_take_symbol(p, ","));
    if (sql_take_keyword(p, "from"))
        return true;
    return sql_fail(p, &p->token, "Expected 'FROM', but found '{token}' in query, {place}");
}

/* ---- Clauses ---- */

static bool
read_where(struct sql_parser *p, struct sql_statement *s)
{
    struct sql_token where = sql_take(p);
    struct sql_token after = sql_after(p);

    if (p->token.kind == SQL_END || (sql_is(&p->token, "not") && after.kind == SQL_END))
        return sql_fail(p, &where, "Expected condition after 'WHERE'");
    return sql_conditions(p, s, &s->where);
}

/* "MERGE(SELECT ...)" behind its name. */
static bool
read_merge(struct sql_parser *p, struct sql_statement *s)
{
    const struct query **merge = sql_add(p, &s->merges);

    if (!merge)
        return false;
    if (sql_take_symbol(p, "(") && sql_is(&p->token, "select"))
        *merge = sql_subselect(p);
    else
        sql_fail(p, &p->token, "Expected '(SELECT', but found '{token}' in query, {place}");
    return *merge != NULL;
}

bool
sql_tail(struct sql_parser *p, struct sql_statement *s, bool with_joins)
{
    bool ok = true;

    while (ok) {
        struct sql_token token = p->token, after = sql_after(p);

        if (sql_is(&token, "where")) {
            ok = read_where(p, s);
        } else if (sql_is(&token, "limit") || sql_is(&token, "offset")) {
            ok = sql_window(p, &s->query->limit, &s->query->offset);
        } else if (sql_is(&token, "order")) {
            sql_take(p);
            ok = sql_order(p, &s->sort, &s->forced);
        } else if (with_joins && (sql_is_join(p) || sql_is(&token, "left") || sql_is(&token, "inner"))) {
            ok = sql_join(p, s, &s->where, OP_AND, &token);
        } else if (with_joins && sql_is(&token, "or") && sql_is(&after, "inner")) {
            sql_take(p);
            ok = sql_join(p, s, &s->where, OP_OR, &token);
        } else if (with_joins && sql_is(&token, "merge")) {
            sql_take(p);
            ok = read_merge(p, s);
        } else {
            break;
        }
    }
    return ok;
}

bool
sql_select(struct sql_parser *p, struct query *query)
{
    struct sql_statement s = sql_statement_of(query);

    return read_select_list(p, &s) && sql_ns(p, &query->ns) && sql_tail(p, &s, true) && sql_finish(p, &s);
}

const struct query *
sql_subselect(struct sql_parser *p)
{
    struct query *query = anx_arena_array(p->arena, 1, sizeof(*query));
    struct sql_token select = sql_take(p);

    if (!query) {
        sql_spent(p);
        return NULL;
    }
    *query = query_default();
    if (!sql_enter(p, &select) || !sql_select(p, query) || !sql_expect(p, ")", CLOSE_EXPECTED))
        return NULL;
    sql_leave(p);
    return query;
}
