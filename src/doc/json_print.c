/* JSON out. Documents are printed from their bytes in one pass; names come ready with quotes and colon from
 * the dictionary. */
#include <string.h>

#include "doc/doc_int.h"
#include "doc/doc_scope.h"
#include "doc/json.h"

/* ---- Scalars ---- */

/* A quote, a backslash and everything below a blank. */
static bool
needs_escape(unsigned char c)
{
    return c < 0x20 || c == '"' || c == '\\';
}

/* Eight bytes at a time: does one of them need an escape? The test per byte is (x - 0x20) borrows, or x
 * equals one of two values, by the classic zero-byte trick; a byte above 0x7f never counts. */
static bool
any_escape(const char *p)
{
    const uint64_t ones = 0x0101010101010101u, high = 0x8080808080808080u;
    uint64_t x, quote, slash;

    memcpy(&x, p, sizeof(x));
    quote = x ^ (ones * '"');
    slash = x ^ (ones * '\\');
    return (((x - ones * 0x20) | (quote - ones) | (slash - ones)) & ~x & high) != 0;
}

static void
put_escape(anx_buffer *out, unsigned char c)
{
    static const char digits[] = "0123456789abcdef";
    static const char from[] = "\"\\\b\f\n\r\t";
    static const char to[] = "\"\\bfnrt";
    const char *found = c != '\0' ? strchr(from, c) : NULL;
    char text[6] = { '\\', 'u', '0', '0', digits[c >> 4], digits[c & 15] };

    if (found)
        text[1] = to[found - from];
    put_bytes(out, text, found ? 2 : sizeof(text));
}

void
json_print_text(anx_buffer *out, anx_text text)
{
    size_t from = 0, i = 0;

    put_char(out, '"');
    while (i < text.size) {
        if (text.size - i >= 8 && !any_escape(text.data + i)) {
            i += 8;
            continue;
        }
        if (needs_escape((unsigned char) text.data[i])) {
            put_bytes(out, text.data + from, i - from);
            put_escape(out, (unsigned char) text.data[i]);
            from = i + 1;
        }
        i++;
    }
    if (text.size > from)
        put_bytes(out, text.data + from, text.size - from);
    put_char(out, '"');
}

void
json_print_int(anx_buffer *out, int64_t value)
{
    char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX);

    if (to)
        out->size += number_print_int(to, value);
}

void
json_print_double(anx_buffer *out, double value)
{
    char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX);

    if (to)
        out->size += number_print_double(to, value);
}

void
json_print_float(anx_buffer *out, float value)
{
    char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX);

    if (to)
        out->size += number_print_float(to, value);
}

static void
put_literal(anx_buffer *out, anx_text text)
{
    put_bytes(out, text.data, text.size);
}

static void
put_bool(anx_buffer *out, bool value)
{
    put_literal(out, value ? ANX_TEXT("true") : ANX_TEXT("false"));
}

static void
put_uuid(anx_buffer *out, const uint8_t uuid[16])
{
    char text[38];

    text[0] = text[37] = '"';
    uuid_print(uuid, text + 1);
    put_bytes(out, text, sizeof(text));
}

void
json_print_value(anx_buffer *out, const struct value *value)
{
    switch (value->type) {
    case VALUE_NULL:
        put_literal(out, ANX_TEXT("null"));
        break;
    case VALUE_BOOL:
        put_bool(out, value->boolean);
        break;
    case VALUE_INT:
        json_print_int(out, value->integer);
        break;
    case VALUE_DOUBLE:
        json_print_double(out, value->real);
        break;
    case VALUE_STRING:
        json_print_text(out, value->text);
        break;
    case VALUE_UUID:
        put_uuid(out, value->uuid);
        break;
    case VALUE_TUPLE:
        put_char(out, '[');
        for (size_t i = 0; i < value->tuple.n; i++) {
            if (i > 0)
                put_char(out, ',');
            json_print_value(out, &value->tuple.items[i]);
        }
        put_char(out, ']');
        break;
    }
}

/* ---- Trees ---- */

static void
print_list(anx_buffer *out, const struct json_node *node)
{
    bool is_object = node->kind == JSON_OBJECT;

    put_char(out, is_object ? '{' : '[');
    for (size_t i = 0; i < node->list.n; i++) {
        if (i > 0)
            put_char(out, ',');
        if (is_object) {
            json_print_text(out, node->list.items[i].key);
            put_char(out, ':');
        }
        json_print_node(out, &node->list.items[i]);
    }
    put_char(out, is_object ? '}' : ']');
}

void
json_print_node(anx_buffer *out, const struct json_node *node)
{
    switch (node->kind) {
    case JSON_NULL:
        put_literal(out, ANX_TEXT("null"));
        break;
    case JSON_BOOL:
        put_bool(out, node->boolean);
        break;
    case JSON_INT:
        json_print_int(out, node->integer);
        break;
    case JSON_UINT:
        put_literal(out, node->raw);
        break;
    case JSON_DOUBLE:
        json_print_double(out, node->real);
        break;
    case JSON_STRING:
        json_print_text(out, node->text);
        break;
    case JSON_ARRAY:
    case JSON_OBJECT:
        print_list(out, node);
        break;
    }
}

/* ---- Documents ---- */

struct printing {
    anx_buffer *out;
    const struct doc_names *names;
    const struct doc_projection *projection; /* NULL: everything */
    struct doc_fetched vectors;
};

static void
print_floats(anx_buffer *out, const float *floats, uint32_t n)
{
    put_char(out, '[');
    for (uint32_t i = 0; i < n; i++) {
        char *to = anx_buffer_reserve(out, NUMBER_TEXT_MAX + 1);
        size_t size = 0;

        if (!to)
            return;
        if (i > 0)
            to[size++] = ',';
        out->size += size + number_print_float(to + size, floats[i]);
    }
    put_char(out, ']');
}

static void
print_vector(struct printing *printing, const struct doc_node *node)
{
    uint32_t dim;
    const float *floats = doc_fetch_vector(&printing->vectors, node, &dim);

    if (floats)
        print_floats(printing->out, floats, dim);
    else
        put_literal(printing->out, node->form == VECTOR_NULL ? ANX_TEXT("null") : ANX_TEXT("[]"));
}

static void print_any(struct printing *printing, const struct doc_node *node, const struct doc_scope *scope);

static void
print_members(struct printing *printing, const struct doc_node *object, const struct doc_scope *scope)
{
    anx_buffer *out = printing->out;
    struct doc_node member;
    bool is_first = true;

    put_char(out, '{');
    for (const uint8_t *at = object->body; doc_next(object, &at, &member);) {
        struct doc_scope below;

        if (!doc_scope_choose(printing->projection, &member, scope, &below))
            continue;
        if (!is_first)
            put_char(out, ',');
        put_literal(out, names_json(printing->names, member.tag));
        print_any(printing, &member, &below);
        is_first = false;
    }
}

static void
print_elements(struct printing *printing, const struct doc_node *array, const struct doc_scope *scope)
{
    struct doc_node element;
    bool is_first = true;

    put_char(printing->out, '[');
    for (const uint8_t *at = array->body; doc_next(array, &at, &element);) {
        if (doc_scope_skips(scope, &element))
            continue;
        if (!is_first)
            put_char(printing->out, ',');
        print_any(printing, &element, scope);
        is_first = false;
    }
    put_char(printing->out, ']');
}

static void
print_any(struct printing *printing, const struct doc_node *node, const struct doc_scope *scope)
{
    switch (node->kind) {
    case DOC_DOUBLE:
        if (node->is_float)
            json_print_float(printing->out, (float) node->value.real);
        else
            json_print_double(printing->out, node->value.real);
        break;
    case DOC_ARRAY:
        print_elements(printing, node, scope);
        break;
    case DOC_OBJECT:
        print_members(printing, node, scope);
        put_char(printing->out, '}');
        break;
    case DOC_VECTOR:
        print_vector(printing, node);
        break;
    case DOC_ABSENT:
        put_literal(printing->out, ANX_TEXT("null"));
        break;
    case DOC_NULL:
    case DOC_BOOL:
    case DOC_INT:
    case DOC_STRING:
    case DOC_UUID:
        json_print_value(printing->out, &node->value);
        break;
    }
}

void
json_print_doc(anx_buffer *out, struct doc doc, const struct doc_names *names,
               const struct doc_projection *projection, doc_vectors_fn vectors, void *context, bool open)
{
    struct printing printing = { .out = out,
                                 .names = names,
                                 .projection = projection,
                                 .vectors = { .fetch = vectors, .context = context } };
    struct doc_scope scope = { .is_whole = !projection || projection->all_regular };

    printing.vectors.root = doc_root(doc);
    print_members(&printing, &printing.vectors.root, &scope);
    if (!open)
        put_char(out, '}');
}

void
json_print_doc_node(anx_buffer *out, const struct doc_node *node, const struct doc_names *names,
                    doc_vectors_fn vectors, void *context)
{
    struct printing printing = {
        .out = out, .names = names, .vectors = { .root = *node, .fetch = vectors, .context = context }
    };
    struct doc_scope scope = { .is_whole = true };

    print_any(&printing, node, &scope);
}
