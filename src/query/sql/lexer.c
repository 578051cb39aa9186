/* Cuts SQL into tokens. By hand: the rules are few, and where a range in a message begins and ends is part of
 * them (a string's range leaves out its quotes; a number's ends where it stops looking like one, not where it
 * is well formed). */
#include "query/sql/sql_int.h"

static bool
continues_name(char c)
{
    return query_starts_name(c) || query_is_digit(c) || c == '.';
}

/* "[12]", "[*]", "[#]": its size, 0 when something else stands there. */
static size_t
step_size(const char *at, const char *end)
{
    const char *p = at;

    if (p >= end || *p++ != '[')
        return 0;
    if (p < end && (*p == '*' || *p == '#'))
        p++;
    else
        while (p < end && query_is_digit(*p))
            p++;
    return p < end && *p == ']' && p - at > 1 ? (size_t) (p + 1 - at) : 0;
}

static const char *
skip_name(const char *at, const char *end)
{
    while (at < end) {
        size_t step = step_size(at, end);

        if (step > 0)
            at += step;
        else if (continues_name(*at))
            at++;
        else
            break;
    }
    return at;
}

bool
is_sql_name(anx_text text)
{
    const char *end = text.data + text.size;

    return text.size > 0 && query_starts_name(text.data[0]) && !memchr(text.data, '[', text.size) &&
           skip_name(text.data, end) == end;
}

static size_t
skip_blank(anx_text sql, size_t at)
{
    for (;;) {
        while (at < sql.size && (sql.data[at] == ' ' || (sql.data[at] >= '\t' && sql.data[at] <= '\r')))
            at++;
        if (sql.size - at < 2 || sql.data[at] != '-' || sql.data[at + 1] != '-')
            return at;
        while (at < sql.size && sql.data[at] != '\n')
            at++;
    }
}

/* Digits, points, an e, a sign directly behind the e. An E only where an exponent follows, and no e directly
 * behind the first sign: that begins a name. */
static size_t
skip_number(anx_text sql, size_t at)
{
    at++;
    if (at < sql.size && !query_is_digit(sql.data[at]) && sql.data[at] != '.' &&
        !query_is_digit(sql.data[at - 1]))
        return at;
    for (; at < sql.size; at++) {
        char c = sql.data[at], before = sql.data[at - 1];

        if (c == 'E') {
            size_t digit = at + 1;

            if (digit < sql.size && (sql.data[digit] == '+' || sql.data[digit] == '-'))
                digit++;
            if (digit >= sql.size || !query_is_digit(sql.data[digit]))
                break;
        } else if (c == '+' || c == '-') {
            if (before != 'e' && before != 'E')
                break;
        } else if (!query_is_digit(c) && c != '.' && c != 'e') {
            break;
        }
    }
    return at;
}

static struct sql_token
cut_string(anx_text sql, size_t at)
{
    struct sql_token token = { .kind = SQL_STRING, .front = at, .start = at + 1 };
    char quote = sql.data[at];

    for (at++; at < sql.size && sql.data[at] != quote; at++) {
        if (sql.data[at] == '\\') {
            token.has_escapes = true;
            if (at + 1 < sql.size)
                at++;
        }
    }
    token.end = at;
    token.next = at < sql.size ? at + 1 : at; /* the closing quote may be missing */
    return token;
}

/* A name in double quotes may hold what composite and other index names hold. Returns where it stops being
 * one. */
static const char *
skip_quoted(const char *at, const char *end)
{
    const char *start = at;

    if (at < end && !query_starts_name(*at) && !query_is_digit(*at))
        return at;
    for (; at < end; at++) {
        bool is_star = *at == '*' && at > start && at[-1] == '[';

        if (!continues_name(*at) && !is_star && *at != '+' && *at != '-' && *at != '[' && *at != ']')
            break;
    }
    return at;
}

bool
is_sql_quotable(anx_text text)
{
    return text.size == 0 || skip_quoted(text.data, text.data + text.size) == text.data + text.size;
}

static struct sql_token
cut_quoted(anx_text sql, size_t at, struct sql_fault *fault)
{
    struct sql_token token = { .kind = SQL_NAME, .is_quoted = true, .front = at, .start = at + 1 };
    const char *p = sql.data + at + 1, *end = sql.data + sql.size;

    p = skip_quoted(p, end);
    token.end = (size_t) (p - sql.data);
    token.next = token.end + 1;
    if (p < end && *p == '"')
        return token;
    if (p >= end)
        *fault = (struct sql_fault) { FAULT_OPEN, at, sql.size };
    else
        *fault = (struct sql_fault) { token.end == token.start ? FAULT_FIRST : FAULT_INSIDE, token.end,
                                      token.end + 1 };
    return (struct sql_token) { .kind = SQL_END, .front = sql.size, .start = sql.size, .end = sql.size,
                                .next = sql.size };
}

static size_t
symbol_size(anx_text sql, size_t at)
{
    char c = sql.data[at], d = at + 1 < sql.size ? sql.data[at + 1] : ' ';

    return (c == '=' && d == '=') || (c == '<' && (d == '>' || d == '=')) || (c == '>' && d == '=') ? 2 : 1;
}

struct sql_token
sql_cut(anx_text sql, size_t at, struct sql_fault *fault)
{
    struct sql_token token = { .kind = SQL_END };
    const char *end = sql.data + sql.size;

    *fault = (struct sql_fault) { .kind = FAULT_NONE };
    at = skip_blank(sql, at);
    token.front = token.start = token.end = token.next = at;
    if (at < sql.size) {
        char c = sql.data[at];

        if (c == '\'' || c == '`') {
            token = cut_string(sql, at);
        } else if (c == '"') {
            token = cut_quoted(sql, at, fault);
        } else {
            token.kind = query_starts_name(c)                        ? SQL_NAME
                         : query_is_digit(c) || c == '+' || c == '-' ? SQL_NUMBER
                                                               : SQL_SYMBOL;
            token.end = token.kind == SQL_NAME     ? (size_t) (skip_name(sql.data + at, end) - sql.data)
                        : token.kind == SQL_NUMBER ? skip_number(sql, at)
                                                   : at + symbol_size(sql, at);
            token.next = token.end;
        }
    }
    token.text = (anx_text) { sql.data + token.start, token.end - token.start };
    return token;
}
