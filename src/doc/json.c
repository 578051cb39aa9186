/* JSON as a tree (RFC 8259): for queries, definitions and settings, which are small and are looked at out of
 * order.
 *
 * The text is copied into the arena once. Strings without escapes point into that copy, others are unescaped
 * into new memory. Children are gathered on a stack and moved to the arena when their parent closes, because
 * only then is their number known. */
#include "doc/json.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "doc/doc_int.h"
#include "doc/json_scan.h"


struct json_parser {
    const char *start, *at, *end; /* *end is readable and '\0' */
    anx_arena *arena;
    anx_error *err;
    struct json_node *stack; /* owned */
    size_t used, capacity;
    unsigned depth;
    bool keeps_lists; /* json_parse_lists */
};

static anx_status
fail(struct json_parser *parser, const char *what)
{
    return anx_fail(parser->err, ANX_E_PARSE_JSON, "Error parsing json: %s, pos %zu", what,
                    (size_t) (parser->at - parser->start));
}

static anx_status
out_of_memory(struct json_parser *parser)
{
    return anx_fail(parser->err, ANX_E_NOMEM, "out of memory");
}

static void
skip_space(struct json_parser *parser)
{
    while (parser->at < parser->end && json_is_space(*parser->at))
        parser->at++;
}

/* ---- Strings ---- */

/* The four digits behind "\u". */
static bool
read_unit(struct json_parser *parser, uint32_t *unit)
{
    *unit = 0;
    for (int i = 0; i < 4; i++) {
        int digit = parser->at < parser->end ? anx_hex_digit(*parser->at) : -1;

        if (digit < 0)
            return false;
        *unit = *unit << 4 | (uint32_t) digit;
        parser->at++;
    }
    return true;
}

static char *
put_utf8(char *out, uint32_t code)
{
    if (code < 0x80) {
        *out++ = (char) code;
    } else if (code < 0x800) {
        *out++ = (char) (0xc0 | code >> 6);
        *out++ = (char) (0x80 | (code & 0x3f));
    } else if (code < 0x10000) {
        *out++ = (char) (0xe0 | code >> 12);
        *out++ = (char) (0x80 | (code >> 6 & 0x3f));
        *out++ = (char) (0x80 | (code & 0x3f));
    } else {
        *out++ = (char) (0xf0 | code >> 18);
        *out++ = (char) (0x80 | (code >> 12 & 0x3f));
        *out++ = (char) (0x80 | (code >> 6 & 0x3f));
        *out++ = (char) (0x80 | (code & 0x3f));
    }
    return out;
}

/* Behind "\u". A pair of surrogates is one character; half a pair is none. */
static bool
unescape_unit(struct json_parser *parser, char **out)
{
    uint32_t unit, low;

    if (!read_unit(parser, &unit))
        return false;
    if (unit >= 0xdc00 && unit < 0xe000)
        return false;
    if (unit >= 0xd800 && unit < 0xdc00) {
        if (parser->end - parser->at < 2 || parser->at[0] != '\\' || parser->at[1] != 'u')
            return false;
        parser->at += 2;
        if (!read_unit(parser, &low) || low < 0xdc00 || low >= 0xe000)
            return false;
        unit = 0x10000 + ((unit - 0xd800) << 10) + (low - 0xdc00);
    }
    *out = put_utf8(*out, unit);
    return true;
}

/* Behind a backslash. */
static bool
unescape(struct json_parser *parser, char **out)
{
    static const char from[] = "\"\\/bfnrt";
    static const char to[] = "\"\\/\b\f\n\r\t";
    char c = parser->at < parser->end ? *parser->at++ : '\0';
    const char *found;

    if (c == 'u')
        return unescape_unit(parser, out);
    found = c != '\0' ? strchr(from, c) : NULL;
    if (!found)
        return false;
    *(*out)++ = to[found - from];
    return true;
}

/* From the first backslash on; begin is where the string starts. */
static anx_status
read_escaped(struct json_parser *parser, const char *begin, const char *close, anx_text *out)
{
    size_t before = (size_t) (parser->at - begin);
    char *memory = anx_arena_bytes(parser->arena, (size_t) (close - begin) + 1); /* unescaping never grows */
    char *to = memory;

    if (!memory)
        return out_of_memory(parser);
    memcpy(to, begin, before);
    to += before;
    while (parser->at < close) {
        if (*parser->at != '\\') {
            *to++ = *parser->at++;
            continue;
        }
        parser->at++;
        if (!unescape(parser, &to))
            return fail(parser, "bad string");
    }
    *to = '\0';
    *out = (anx_text) { memory, (size_t) (to - memory) };
    return ANX_OK;
}

/* At the opening quote; behind the closing one afterwards. */
static anx_status
read_string(struct json_parser *parser, anx_text *out)
{
    const char *begin = ++parser->at;
    const char *first_escape = NULL;
    const char *p = begin;
    unsigned char all = 0;
    anx_status st = ANX_OK;

    for (; p < parser->end && *p != '"'; p++) {
        all |= (unsigned char) *p;
        if ((unsigned char) *p < 0x20)
            break;
        if (*p == '\\') {
            first_escape = first_escape ? first_escape : p;
            p += p + 1 < parser->end;
        }
    }
    if (p >= parser->end || *p != '"' ||
        (all >= 0x80 && !utf8_is_valid((anx_text) { begin, (size_t) (p - begin) })))
        return fail(parser, "bad string");
    *out = (anx_text) { begin, (size_t) (p - begin) };
    if (first_escape) {
        parser->at = first_escape;
        st = read_escaped(parser, begin, p, out);
    }
    if (st == ANX_OK)
        parser->at = p + 1;
    return st;
}

/* ---- Numbers ---- */

static const char *
skip_digits(const char *p)
{
    while (*p >= '0' && *p <= '9')
        p++;
    return p;
}

/* The end of a number by the grammar of JSON, NULL when it is none; *is_integer without point and exponent.
 */
static const char *
number_end(const char *p, bool *is_integer)
{
    const char *digits;

    *is_integer = true;
    if (*p == '-')
        p++;
    digits = p;
    p = skip_digits(p);
    if (p == digits || (*digits == '0' && p != digits + 1))
        return NULL;
    if (*p == '.') {
        *is_integer = false;
        digits = ++p;
        p = skip_digits(p);
        if (p == digits)
            return NULL;
    }
    if (*p == 'e' || *p == 'E') {
        *is_integer = false;
        p++;
        if (*p == '+' || *p == '-')
            p++;
        digits = p;
        p = skip_digits(p);
        if (p == digits)
            return NULL;
    }
    return p;
}

/* 0..2^64-1 */
static bool
parse_natural(anx_text text, uint64_t *out)
{
    *out = 0;
    for (size_t i = 0; i < text.size; i++)
        if (__builtin_mul_overflow(*out, (uint64_t) 10, out) ||
            __builtin_add_overflow(*out, (uint64_t) (text.data[i] - '0'), out))
            return false;
    return true;
}

static anx_status
read_number(struct json_parser *parser, struct json_node *node)
{
    bool is_integer;
    const char *end = number_end(parser->at, &is_integer);
    anx_text text = { parser->at, end ? (size_t) (end - parser->at) : 0 };

    if (!end)
        return fail(parser, "bad number");
    if (is_integer && number_parse_int(text, &node->integer)) {
        node->kind = JSON_INT;
    } else if (is_integer && *text.data != '-' && parse_natural(text, &node->natural)) {
        node->kind = JSON_UINT;
    } else {
        node->kind = JSON_DOUBLE;
        if (!number_parse_double(text, &node->real))
            return fail(parser, "bad number");
    }
    parser->at = end;
    return ANX_OK;
}

/* ---- Values ---- */

static anx_status read_value(struct json_parser *parser, struct json_node *node);

static anx_status
push(struct json_parser *parser, const struct json_node *node)
{
    if (parser->used == parser->capacity) {
        size_t capacity = parser->capacity > 0 ? parser->capacity * 2 : 64;
        struct json_node *stack = anx_realloc_array(NULL, parser->stack, capacity, sizeof(*stack));

        if (!stack)
            return out_of_memory(parser);
        parser->stack = stack;
        parser->capacity = capacity;
    }
    parser->stack[parser->used++] = *node;
    return ANX_OK;
}

/* One element, or one member with its key. */
static anx_status
read_child(struct json_parser *parser, bool is_object)
{
    struct json_node child = { .kind = JSON_NULL };
    anx_text key = { NULL, 0 };
    anx_status st;

    skip_space(parser);
    if (is_object) {
        if (*parser->at != '"')
            return fail(parser, parser->at < parser->end ? "unquoted key" : "breaking bad");
        st = read_string(parser, &key);
        if (st != ANX_OK)
            return st;
        skip_space(parser);
        if (*parser->at != ':')
            return fail(parser, "unexpected character");
        parser->at++;
    }
    st = read_value(parser, &child);
    child.key = key;
    return st == ANX_OK ? push(parser, &child) : st;
}

/* Leaves a long array of numbers as text. False: it is another array, and nothing happened. */
static bool
keep_list(struct json_parser *parser, struct json_node *node)
{
    const char *begin = parser->at;
    size_t n = 0;

    do {
        const char *end;
        bool is_integer;

        parser->at++; /* the bracket, then commas */
        skip_space(parser);
        end = number_end(parser->at, &is_integer);
        if (!end) {
            parser->at = begin;
            return false;
        }
        n++;
        parser->at = end;
        skip_space(parser);
    } while (*parser->at == ',');
    if (*parser->at != ']' || n < JSON_LIST_MIN) {
        parser->at = begin;
        return false;
    }
    parser->at++;
    node->kind = JSON_ARRAY;
    node->list.items = NULL;
    node->list.n = n;
    return true;
}

static anx_status
read_list(struct json_parser *parser, struct json_node *node)
{
    bool is_object = *parser->at == '{';
    char close = is_object ? '}' : ']';
    size_t base = parser->used, n;
    anx_status st;

    if (++parser->depth > DOC_DEPTH_MAX)
        return fail(parser, "stack overflow");
    parser->at++;
    skip_space(parser);
    while (*parser->at != close) { /* the end of the text is a NUL, and no child */
        st = read_child(parser, is_object);
        if (st != ANX_OK)
            return st;
        skip_space(parser);
        if (*parser->at == close)
            break;
        if (*parser->at != ',')
            return fail(parser, parser->at < parser->end ? "unexpected character" : "breaking bad");
        parser->at++;
        skip_space(parser);
        if (*parser->at == close)
            return fail(parser, "unexpected character");
    }
    parser->at++;
    parser->depth--;
    n = parser->used - base;
    node->kind = is_object ? JSON_OBJECT : JSON_ARRAY;
    node->list.n = n;
    node->list.items = anx_arena_array(parser->arena, n, sizeof(*node->list.items));
    if (!node->list.items)
        return out_of_memory(parser);
    if (n > 0)
        memcpy(node->list.items, parser->stack + base, n * sizeof(*node->list.items));
    parser->used = base;
    return ANX_OK;
}

static anx_status
read_word(struct json_parser *parser, struct json_node *node)
{
    static const struct {
        anx_text text;
        enum json_kind kind;
        bool boolean;
    } words[] = { { { "true", 4 }, JSON_BOOL, true },
                  { { "false", 5 }, JSON_BOOL, false },
                  { { "null", 4 }, JSON_NULL, false } };

    for (size_t i = 0; i < ANX_COUNT_OF(words); i++) {
        anx_text next = { parser->at, words[i].text.size };

        if (next.size > (size_t) (parser->end - parser->at) || !anx_text_equal(next, words[i].text))
            continue;
        node->kind = words[i].kind;
        node->boolean = words[i].boolean;
        parser->at += next.size;
        return ANX_OK;
    }
    return fail(parser, parser->at >= parser->end                        ? "breaking bad"
                        : strchr("tfn", *parser->at) && *parser->at != '\0' ? "bad identifier"
                                                                         : "unexpected character");
}

static anx_status
read_value(struct json_parser *parser, struct json_node *node)
{
    const char *begin;
    anx_status st;

    skip_space(parser);
    begin = parser->at;
    if (*begin == '[' && parser->keeps_lists && keep_list(parser, node))
        st = ANX_OK;
    else if (*begin == '{' || *begin == '[')
        st = read_list(parser, node);
    else if (*begin == '"') {
        node->kind = JSON_STRING;
        st = read_string(parser, &node->text);
    } else if (*begin == '-' || (*begin >= '0' && *begin <= '9'))
        st = read_number(parser, node);
    else
        st = read_word(parser, node);
    node->raw = (anx_text) { begin, (size_t) (parser->at - begin) };
    return st;
}

static anx_status
parse(anx_text text, bool keeps_lists, anx_arena *arena, struct json_node **out, anx_error *err)
{
    const size_t behind = SCAN_AHEAD + 1; /* zero bytes behind the copy */
    char *copy = text.size < SIZE_MAX - behind ? anx_arena_bytes(arena, text.size + behind) : NULL;
    struct json_node *node = anx_arena_array(arena, 1, sizeof(*node));
    struct json_parser parser = {
        .start = copy, .at = copy, .arena = arena, .err = err, .keeps_lists = keeps_lists
    };
    anx_status st;

    *out = NULL;
    if (!copy || !node)
        return out_of_memory(&parser);
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    memset(copy + text.size, 0, behind);
    parser.end = copy + text.size;
    st = read_value(&parser, node);
    if (st == ANX_OK) {
        skip_space(&parser);
        if (parser.at < parser.end)
            st = fail(&parser, "unexpected character");
    }
    anx_free(NULL, parser.stack);
    if (st == ANX_OK)
        *out = node;
    return st;
}

anx_status
json_parse(anx_text text, anx_arena *arena, struct json_node **out, anx_error *err)
{
    return parse(text, false, arena, out, err);
}

anx_status
json_parse_lists(anx_text text, anx_arena *arena, struct json_node **out, anx_error *err)
{
    return parse(text, true, arena, out, err);
}

const struct json_node *
json_member(const struct json_node *object, const char *key)
{
    anx_text wanted = anx_text_of(key);

    if (!object || object->kind != JSON_OBJECT)
        return NULL;
    for (size_t i = 0; i < object->list.n; i++)
        if (anx_text_equal(object->list.items[i].key, wanted))
            return &object->list.items[i];
    return NULL;
}

bool
json_number(const struct json_node *node, double *out)
{
    if (!node)
        return false;
    switch (node->kind) {
    case JSON_INT:
        *out = (double) node->integer;
        return true;
    case JSON_UINT:
        *out = (double) node->natural;
        return true;
    case JSON_DOUBLE:
        *out = node->real;
        return true;
    case JSON_NULL:
    case JSON_BOOL:
    case JSON_STRING:
    case JSON_ARRAY:
    case JSON_OBJECT:
        break;
    }
    return false;
}
