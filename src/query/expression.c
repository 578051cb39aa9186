/* Expressions of ORDER BY: recursive descent over the bytes of the text, because errors name a byte. */
#include "base/error.h"
#include "query/query_int.h"

struct reader {
    anx_text text;
    size_t at;
    anx_arena *arena;
    const anx_text *joined;
    size_t n_joined;
    unsigned n_node, n_rrf, depth;
    bool depends; /* on the namespace's documents */
    anx_status status;
    anx_error *err;
};
/* All of these return NULL after an error. */
static struct expression *read_sum(struct reader *r);

static struct expression *
fail_at(struct reader *r, size_t at, const char *detail)
{
    if (r->status == ANX_OK)
        r->status = anx_fail(r->err, ANX_E_PARAMS,
                             "'%.*s' is not valid sort expression. Parser failed at position %zu. %s",
                             (int) (r->text.size < 100 ? r->text.size : 100), r->text.data, at, detail);
    return NULL;
}

static struct expression *
fail(struct reader *r, const char *detail)
{
    return fail_at(r, r->at, detail);
}

static struct expression *
new_node(struct reader *r, enum expression_kind kind)
{
    if (++r->n_node > EXPRESSION_NODES_MAX)
        return fail(r, "Expression is too long");
    return expression_new(r->arena, kind, &r->status, r->err);
}

static struct expression *
new_binary(struct reader *r, enum expression_kind kind, const struct expression *left,
           const struct expression *right)
{
    return left && right ? expression_join(new_node(r, kind), left, right) : NULL;
}

/* ---- Bytes ---- */

static const char *
end_of(const struct reader *r)
{
    return r->text.data + r->text.size;
}

/* The next byte that is no blank; '\0' at the end. */
static char
peek(struct reader *r)
{
    while (r->at < r->text.size &&
           (r->text.data[r->at] == ' ' || (r->text.data[r->at] >= '\t' && r->text.data[r->at] <= '\r')))
        r->at++;
    return r->at < r->text.size ? r->text.data[r->at] : '\0';
}

static bool
take(struct reader *r, char c)
{
    if (peek(r) != c || r->at >= r->text.size)
        return false;
    r->at++;
    return true;
}

/* A name; a "+" directly behind one and in front of another belongs to it (composite index). Steps "[n]",
 * "[*]" too. */
static anx_text
read_name(struct reader *r)
{
    const char *data = r->text.data;
    size_t start = r->at, at = r->at;

    for (; at < r->text.size; at++) {
        char c = data[at], next = at + 1 < r->text.size ? data[at + 1] : ' ';
        bool is_star = c == '*' && data[at - 1] == '[' && next == ']';
        bool is_plus = c == '+' && (query_starts_name(next) || query_is_digit(next));

        if (!query_starts_name(c) && !query_is_digit(c) && c != '.' && c != '[' && c != ']' && !is_star &&
            !is_plus)
            break;
    }
    r->at = at;
    return (anx_text) { data + start, at - start };
}

static bool
read_number(struct reader *r, double *out)
{
    const char *at;

    peek(r);
    at = number_read_double(r->text.data + r->at, end_of(r), out);
    if (!at)
        return false;
    r->at = (size_t) (at - r->text.data);
    return true;
}

/* A text in quotes of the kind given. NULL data: there is none. */
static anx_text
read_quoted(struct reader *r, char quote)
{
    const char *start, *close;

    if (peek(r) != quote)
        return (anx_text) { NULL, 0 };
    start = r->text.data + r->at + 1;
    close = memchr(start, quote, (size_t) (end_of(r) - start));
    if (!close)
        return (anx_text) { NULL, 0 };
    r->at = (size_t) (close + 1 - r->text.data);
    return (anx_text) { start, (size_t) (close - start) };
}

/* ---- Values ---- */

static struct expression *
new_field(struct reader *r, anx_text name, bool is_quoted)
{
    struct expression *e = new_node(r, EXPR_FIELD);
    const char *dot = is_quoted || name.size == 0 ? NULL : memchr(name.data, '.', name.size);
    anx_text ns = { name.data, dot ? (size_t) (dot - name.data) : 0 };

    if (!e)
        return NULL;
    r->depends = true;
    for (size_t i = 0; dot && i < r->n_joined; i++) {
        if (anx_text_equal_fold(ns, r->joined[i])) {
            e->ns = anx_arena_text(r->arena, ns);
            name = (anx_text) { dot + 1, name.size - ns.size - 1 };
            break;
        }
    }
    e->text = anx_arena_text(r->arena, name);
    if (e->text.data && (ns.size == 0 || !dot || e->ns.size == 0 || e->ns.data))
        return e;
    r->status = query_out_of_memory(r->err);
    return NULL;
}

/* The argument of a function: a name, bare or in quotes. */
static struct expression *
read_field(struct reader *r)
{
    char c = peek(r);
    anx_text name;

    if (c == '"') {
        name = read_quoted(r, '"');
        return name.data ? new_field(r, name, true) : fail(r, "Not found close '\"'");
    }
    return query_starts_name(c) ? new_field(r, read_name(r), false) : fail(r, "Expected field name");
}

static struct expression *
read_rank(struct reader *r)
{
    struct expression *e = new_node(r, EXPR_RANK), *field;

    r->depends = true;
    if (!e || take(r, ')'))
        return e;
    field = read_field(r);
    if (!field)
        return NULL;
    e->text = field->text;
    if (take(r, ',')) {
        if (!read_number(r, &e->rank_default))
            return fail(r, "Default value of rank function is expected");
        e->has_rank_default = true;
    }
    return take(r, ')') ? e : fail(r, "Expected ')'");
}

static struct expression *
read_rrf(struct reader *r)
{
    struct expression *e = new_node(r, EXPR_RRF);
    size_t at;

    r->depends = true;
    r->n_rrf++;
    if (!e)
        return NULL;
    e->number = 60;
    if (take(r, ')'))
        return e;
    peek(r);
    at = r->at;
    if (!query_starts_name(peek(r)) || !anx_text_equal_fold(read_name(r), ANX_TEXT("rank_const")))
        return fail_at(r, at, "'rank_const' is expected");
    if (!take(r, '='))
        return fail(r, "'=' is expected");
    if (!read_number(r, &e->number))
        return fail(r, "Rank constant of RRF is expected");
    if (e->number < 1)
        return fail(r, "Rank constant of RRF must be >= 1");
    return take(r, ')') ? e : fail(r, "Expected ')'");
}

static struct expression *
read_hash(struct reader *r)
{
    struct expression *e = new_node(r, EXPR_HASH);
    double seed = 0;

    r->depends = true;
    if (!e || take(r, ')'))
        return e;
    if (!read_number(r, &seed) || seed < 0 || seed > UINT32_MAX)
        return fail(r, "Seed of hash is expected");
    e->has_seed = true;
    e->integer = (int64_t) seed;
    return take(r, ')') ? e : fail(r, "Expected ')'");
}

/* One argument of ST_Distance: a field or ST_GeomFromText('POINT(x y)'). */
static struct expression *
read_geometry(struct reader *r)
{
    struct expression *e;
    anx_text name, point;
    size_t start;

    if (peek(r) == '"' || !query_starts_name(peek(r)))
        return read_field(r);
    start = r->at;
    name = read_name(r);
    if (!anx_text_equal_fold(name, ANX_TEXT("st_geomfromtext")) || !take(r, '(')) {
        r->at = start;
        return read_field(r);
    }
    point = read_quoted(r, peek(r) == '"' ? '"' : '\'');
    e = new_node(r, EXPR_POINT);
    if (!e)
        return NULL;
    if (!point.data || !number_read_point(point, &e->x, &e->y))
        return fail(r, "Expected point in form 'POINT(x y)'");
    return take(r, ')') ? e : fail(r, "Expected ')'");
}

static struct expression *
read_distance(struct reader *r)
{
    struct expression *left = read_geometry(r), *right;

    if (left && !take(r, ','))
        return fail(r, "Expected ','");
    right = left ? read_geometry(r) : NULL;
    if (right && !take(r, ')'))
        return fail(r, "Expected ')'");
    return new_binary(r, EXPR_DISTANCE, left, right);
}

static struct expression *
read_abs(struct reader *r)
{
    struct expression *inner = read_sum(r), *e;

    if (!inner)
        return NULL;
    if (!take(r, ')'))
        return fail(r, "Expected ')'");
    e = new_node(r, EXPR_ABS);
    if (e)
        e->left = inner;
    return e;
}

static const struct function {
    const char *name;
    struct expression *(*read)(struct reader *r); /* behind the opening bracket */
} functions[] = {
    { "abs", read_abs },   { "rank", read_rank }, { "st_distance", read_distance },
    { "hash", read_hash }, { "rrf", read_rrf },
};

static struct expression *
read_named(struct reader *r)
{
    size_t start = r->at;
    anx_text name = read_name(r);

    if (!take(r, '('))
        return new_field(r, name, false);
    for (size_t i = 0; i < ANX_COUNT_OF(functions); i++)
        if (anx_text_equal_fold(name, anx_text_of(functions[i].name)))
            return functions[i].read(r);
    return fail_at(r, start, "Unsupported function name");
}

static struct expression *
read_constant(struct reader *r)
{
    struct expression *e = new_node(r, EXPR_NUMBER);
    struct value value;
    size_t start = r->at;

    if (!e || !read_number(r, &e->number))
        return NULL;
    if (number_value((anx_text) { r->text.data + start, r->at - start }, &value) && value.type == VALUE_INT) {
        e->is_integer = true;
        e->integer = value.integer;
    }
    return e;
}

/* ---- The grammar ---- */

static struct expression *
read_primary(struct reader *r)
{
    char c = peek(r);
    struct expression *e;

    if (c == '"')
        return read_field(r);
    if (query_starts_name(c))
        return read_named(r);
    if (query_is_digit(c))
        return read_constant(r);
    if (!take(r, '('))
        return fail(r, "Expected value");
    e = read_sum(r);
    if (e && !take(r, ')'))
        return fail(r, "Expected ')'");
    return e;
}

static struct expression *
read_unary(struct reader *r)
{
    bool is_negative = false;
    struct expression *e, *negated;

    while (peek(r) == '-' || peek(r) == '+')
        is_negative ^= r->text.data[r->at++] == '-';
    if (++r->depth > QUERY_DEPTH_MAX)
        return fail(r, "Expression is nested too deeply");
    e = read_primary(r);
    r->depth--;
    if (!e || !is_negative)
        return e;
    if (e->kind == EXPR_RRF)
        return fail(r, "Reciprocal rank fusion (RRF) cannot be with negative sign");
    negated = new_node(r, EXPR_NEGATE);
    if (negated)
        negated->left = e;
    return negated;
}

static struct expression *
read_product(struct reader *r)
{
    struct expression *e = read_unary(r);

    while (e && (peek(r) == '*' || peek(r) == '/')) {
        char op = r->text.data[r->at++];

        e = new_binary(r, op == '*' ? EXPR_MULTIPLY : EXPR_DIVIDE, e, read_unary(r));
    }
    return e;
}

static struct expression *
read_sum(struct reader *r)
{
    struct expression *e = read_product(r);

    while (e && (peek(r) == '+' || peek(r) == '-')) {
        char op = r->text.data[r->at++];

        e = new_binary(r, op == '+' ? EXPR_ADD : EXPR_SUBTRACT, e, read_product(r));
    }
    return e;
}

anx_status
expression_read_sort(anx_text text, const anx_text *joined, size_t n_joined, anx_arena *arena,
                     const struct expression **out, anx_error *err)
{
    struct reader r = { .text = text.data ? text : ANX_TEXT(""), .arena = arena, .joined = joined,
                        .n_joined = n_joined, .err = err };
    const struct expression *e = read_sum(&r);

    *out = NULL;
    if (e && (peek(&r) != '\0' || r.at < r.text.size))
        fail(&r, "Expected operator");
    else if (e && !r.depends)
        fail(&r, "Sort expression does not depend from namespace data");
    else if (e && r.n_rrf > 0 && e->kind != EXPR_RRF)
        fail(&r, "Reciprocal rank fusion (RRF) must be single in sort expression");
    if (r.status == ANX_OK)
        *out = e;
    return r.status;
}
