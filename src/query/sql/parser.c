/* What every part of the grammar stands on: the next token, errors with places, literals; and the statements.
 */
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "query/sql/sql_int.h"

/* ---- Errors ---- */

struct place {
    size_t line, column; /* from 0; columns in bytes */
};

static struct place
place_of(anx_text sql, size_t at)
{
    struct place place = { 0, at };

    for (size_t i = 0; i < at; i++) {
        if (sql.data[i] == '\n') {
            place.line++;
            place.column = at - i - 1;
        }
    }
    return place;
}

/* A token as messages show it, cut at the size. */
static void
show_token(const struct sql_token *token, char *out, size_t out_size)
{
    size_t size = token->text.size;

    if (size >= out_size) {
        size = out_size - 1;
        while (size > 0 && ((unsigned char) token->text.data[size] & 0xC0) == 0x80)
            size--; /* not inside of a character */
    }
    for (size_t i = 0; i < size; i++) {
        char c = token->text.data[i];

        out[i] = token->kind == SQL_NAME && c >= 'A' && c <= 'Z' ? (char) (c - 'A' + 'a') : c;
    }
    out[size] = '\0';
}

/* The message with its placeholders filled. */
static void
fill_in(const struct sql_parser *p, const struct sql_token *at, const char *text, char *out, size_t out_size)
{
    struct place start = place_of(p->sql, at->start), end = place_of(p->sql, at->end);
    char token[130], place[80];
    size_t n = 0;

    show_token(at, token, sizeof(token));
    snprintf(place, sizeof(place), "line: %zu column: %zu %zu", end.line + 1, start.column, end.column);
    while (*text && n + 1 < out_size) {
        bool is_token = strncmp(text, "{token}", 7) == 0; /* both placeholders have seven characters */
        bool is_place = strncmp(text, "{place}", 7) == 0;

        if (is_token || is_place) {
            int size = snprintf(out + n, out_size - n, "%s", is_token ? token : place);

            n += (size_t) size < out_size - n ? (size_t) size : out_size - n - 1;
            text += 7;
        } else {
            out[n++] = *text++;
        }
    }
    out[n] = '\0';
}

static bool fail(struct sql_parser *p, const struct sql_token *at, anx_status status, const char *format,
                 va_list args) ANX_PRINTF(4, 0);

static bool
fail(struct sql_parser *p, const struct sql_token *at, anx_status status, const char *format, va_list args)
{
    const struct sql_token nowhere = { .kind = SQL_END };
    char text[512], message[512];

    if (p->status != ANX_OK)
        return false; /* the first error counts */
    vsnprintf(text, sizeof(text), format, args);
    fill_in(p, at ? at : &nowhere, text, message, sizeof(message));
    p->status = anx_fail(p->err, status, "%s", message);
    return false;
}

bool
sql_fail(struct sql_parser *p, const struct sql_token *at, const char *format, ...)
{
    va_list args;

    if (p->status == ANX_OK && p->location) {
        struct place start = place_of(p->sql, at->start), end = place_of(p->sql, at->end);

        *p->location = (struct query_location) { true, start.line, start.column, end.line, end.column };
    }
    va_start(args, format);
    fail(p, at, ANX_E_PARSE_SQL, format, args);
    va_end(args);
    return false;
}

bool
sql_fail_as(struct sql_parser *p, const struct sql_token *at, anx_status status, const char *format, ...)
{
    va_list args;

    va_start(args, format);
    fail(p, at, status, format, args);
    va_end(args);
    return false;
}

bool
sql_spent(struct sql_parser *p)
{
    if (p->status == ANX_OK)
        p->status = query_out_of_memory(p->err);
    return false;
}

static void
fail_token(struct sql_parser *p, const struct sql_fault *fault)
{
    struct sql_token at = { .start = fault->start, .end = fault->end,
                            .text = { p->sql.data + fault->start, fault->end - fault->start } };

    switch (fault->kind) {
    case FAULT_FIRST:
        sql_fail(p, &at,
                 "Identifier should starts with alpha, digit, '_', '#' or '@', but found '{token}'; {place}");
        break;
    case FAULT_INSIDE:
        sql_fail(p, &at, "Identifier should not contain '{token}'; {place}");
        break;
    case FAULT_OPEN:
        sql_fail(p, &at, "Not found close '\"'; {place}");
        break;
    case FAULT_NONE:
        break;
    }
}

/* ---- Tokens ---- */

void
sql_start(struct sql_parser *p, size_t at)
{
    struct sql_fault fault;

    p->token = sql_cut(p->sql, at, &fault);
    if (fault.kind != FAULT_NONE)
        fail_token(p, &fault);
}

struct sql_token
sql_take(struct sql_parser *p)
{
    struct sql_token token = p->token;

    sql_start(p, token.next);
    return token;
}

struct sql_token
sql_after(const struct sql_parser *p)
{
    struct sql_fault fault; /* comes again when the token is taken */

    return sql_cut(p->sql, p->token.next, &fault);
}

bool
sql_is(const struct sql_token *token, const char *keyword)
{
    return token->kind == SQL_NAME && !token->is_quoted &&
           anx_text_equal_fold(token->text, anx_text_of(keyword));
}

bool
sql_is_symbol(const struct sql_token *token, const char *symbol)
{
    return token->kind == SQL_SYMBOL && anx_text_equal(token->text, anx_text_of(symbol));
}

bool
sql_take_symbol(struct sql_parser *p, const char *symbol)
{
    if (!sql_is_symbol(&p->token, symbol))
        return false;
    sql_take(p);
    return true;
}

bool
sql_take_keyword(struct sql_parser *p, const char *keyword)
{
    if (!sql_is(&p->token, keyword))
        return false;
    sql_take(p);
    return true;
}

bool
sql_expect(struct sql_parser *p, const char *symbol, const char *message)
{
    return sql_take_symbol(p, symbol) || sql_fail(p, &p->token, "%s", message);
}

bool
sql_is_call(const struct sql_parser *p)
{
    struct sql_token after = sql_after(p);

    return p->token.kind == SQL_NAME && !p->token.is_quoted && sql_is_symbol(&after, "(");
}

/* ---- Copies ---- */

static char
unescaped(char c)
{
    switch (c) {
    case 'n':
        return '\n';
    case 'r':
        return '\r';
    case 't':
        return '\t';
    case 'b':
        return '\b';
    case 'f':
        return '\f';
    default:
        return c;
    }
}

bool
sql_text(struct sql_parser *p, const struct sql_token *token, anx_text *out)
{
    anx_text in = token->text;
    char *copy;
    size_t n = 0;

    if (!token->has_escapes) {
        *out = anx_arena_text(p->arena, in);
        return out->data || sql_spent(p);
    }
    copy = anx_arena_bytes(p->arena, in.size + 1);
    if (!copy)
        return sql_spent(p);
    for (size_t i = 0; i < in.size; i++) {
        if (in.data[i] == '\\' && i + 1 < in.size)
            copy[n++] = unescaped(in.data[++i]);
        else
            copy[n++] = in.data[i];
    }
    copy[n] = '\0';
    *out = (anx_text) { copy, n };
    return true;
}

void *
sql_add(struct sql_parser *p, struct query_list *list)
{
    void *item = query_list_add(list, p->arena);

    if (!item)
        sql_spent(p);
    return item;
}

bool
sql_is_literal(const struct sql_parser *p, bool with_null)
{
    const struct sql_token *t = &p->token;

    return t->kind == SQL_NUMBER || t->kind == SQL_STRING || sql_is(t, "true") || sql_is(t, "false") ||
           (with_null && sql_is(t, "null")) || sql_is_symbol(t, "{");
}

/* "{1, 'a'}", the value of a composite index. */
static bool
read_tuple(struct sql_parser *p, struct value *out)
{
    struct query_list items = { .item_size = sizeof(struct value) };
    struct sql_token open = sql_take(p);

    if (!sql_enter(p, &open))
        return false;
    while (items.n > 0 || !sql_is_symbol(&p->token, "}")) {
        struct value *item = sql_add(p, &items);

        if (!item || !sql_literal(p, true, item))
            return false;
        if (sql_is_symbol(&p->token, "}"))
            break;
        if (!sql_take_symbol(p, ","))
            return sql_fail(p, &p->token, "Expected ',', but found '{token}' in query, {place}");
    }
    sql_take(p);
    sql_leave(p);
    *out = (struct value) { .type = VALUE_TUPLE, .tuple = { items.items, items.n } };
    return true;
}

bool
sql_literal(struct sql_parser *p, bool with_null, struct value *out)
{
    struct sql_token token = p->token;

    if (!sql_is_literal(p, with_null))
        return sql_fail(p, &token, "Expected parameter, but found '{token}' in query, {place}");
    if (token.kind == SQL_SYMBOL)
        return read_tuple(p, out);
    sql_take(p);
    if (token.kind == SQL_NAME) {
        if (sql_is(&token, "null"))
            *out = (struct value) { .type = VALUE_NULL };
        else
            *out = (struct value) { .type = VALUE_BOOL, .boolean = sql_is(&token, "true") };
        return true;
    }
    if (token.kind == SQL_NUMBER && number_value(token.text, out))
        return true;
    *out = (struct value) { .type = VALUE_STRING }; /* a malformed number is a string as well */
    return sql_text(p, &token, &out->text);
}

bool
sql_enter(struct sql_parser *p, const struct sql_token *at)
{
    if (++p->depth <= QUERY_DEPTH_MAX)
        return true;
    return sql_fail(p, at, "Query is nested deeper than %d levels, {place}", QUERY_DEPTH_MAX);
}

void
sql_leave(struct sql_parser *p)
{
    p->depth--;
}

/* ---- Statements ---- */

static bool
read_delete(struct sql_parser *p, struct sql_statement *s)
{
    s->query->type = QUERY_DELETE;
    if (!sql_take_keyword(p, "from"))
        return sql_fail(p, &p->token, "Expected 'FROM', but found '{token}' in query, {place}");
    return sql_ns(p, &s->query->ns) && sql_tail(p, s, false) && sql_finish(p, s);
}

static bool
read_update(struct sql_parser *p, struct sql_statement *s)
{
    s->query->type = QUERY_UPDATE;
    return sql_ns(p, &s->query->ns) && sql_updates(p, s) && sql_tail(p, s, false) && sql_finish(p, s);
}

static bool
read_truncate(struct sql_parser *p, struct sql_statement *s)
{
    s->query->type = QUERY_TRUNCATE;
    return sql_ns(p, &s->query->ns);
}

static bool
read_statement(struct sql_parser *p, struct query *query)
{
    struct sql_statement s = sql_statement_of(query);
    struct sql_token verb;

    for (;;) {
        if (sql_take_keyword(p, "explain"))
            query->explain = true;
        else if (sql_take_keyword(p, "local"))
            query->local = true;
        else
            break;
    }
    verb = sql_take(p);
    if (sql_is(&verb, "select"))
        return sql_select(p, query);
    if (query->local)
        return sql_fail(p, &verb,
                        "Syntax error at or near '{token}', {place}; only SELECT query could be LOCAL");
    if (sql_is(&verb, "delete"))
        return read_delete(p, &s);
    if (sql_is(&verb, "update"))
        return read_update(p, &s);
    if (sql_is(&verb, "truncate"))
        return read_truncate(p, &s);
    return sql_fail(p, &verb, "Syntax error at or near '{token}', {place}");
}

anx_status
query_read_sql(anx_text sql, anx_arena *arena, struct query *out, struct query_location *location,
               anx_error *err)
{
    struct sql_parser p = { .sql = sql, .arena = arena, .err = err, .location = location };

    if (location)
        *location = (struct query_location) { .is_set = false };
    *out = query_default();
    if (!sql.data)
        p.sql = ANX_TEXT("");
    if (sql.size > QUERY_TEXT_MAX)
        return anx_fail(err, ANX_E_PARAMS, "Query is longer than %d bytes", QUERY_TEXT_MAX);
    sql_start(&p, 0);
    if (read_statement(&p, out)) {
        sql_take_symbol(&p, ";");
        if (p.token.kind != SQL_END) {
            sql_fail(&p, &p.token, "Unexpected '{token}' in query, {place}");
        }
    }
    if (p.status != ANX_OK)
        return p.status;
    return query_check_as(out, "int64", err);
}
