/* The DSL's vocabulary of errors, and values of one type. */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>

#include "base/error.h"
#include "query/dsl_int.h"

bool
dsl_fail(struct dsl *d, anx_status status, const char *format, ...)
{
    char message[512];
    va_list args;

    if (d->status != ANX_OK)
        return false; /* the first error counts */
    va_start(args, format);
    vsnprintf(message, sizeof(message), format, args);
    va_end(args);
    d->status = anx_fail(d->err, status, "%s", message);
    return false;
}

bool
dsl_spent(struct dsl *d)
{
    if (d->status == ANX_OK)
        d->status = query_out_of_memory(d->err);
    return false;
}

bool
dsl_enter(struct dsl *d)
{
    if (++d->depth <= QUERY_DEPTH_MAX)
        return true;
    return dsl_fail(d, ANX_E_PARSE_DSL, "Query is nested deeper than %d levels", QUERY_DEPTH_MAX);
}

void
dsl_leave(struct dsl *d)
{
    d->depth--;
}

void *
dsl_add(struct dsl *d, struct query_list *list)
{
    void *item = query_list_add(list, d->arena);

    if (!item)
        dsl_spent(d);
    return item;
}

/* ---- Objects ---- */

struct path_text {
    char text[160];
};

static struct path_text
path_text(const struct dsl_path *path)
{
    struct path_text out = { "" }, parent;

    if (!path->parent) {
        snprintf(out.text, sizeof(out.text), "%s", path->name);
        return out;
    }
    parent = path_text(path->parent);
    snprintf(out.text, sizeof(out.text), "%.120s.%.30s", parent.text, path->name);
    return out;
}

static bool
fail_key(struct dsl *d, anx_text key, const char *what, const struct dsl_path *path)
{
    return dsl_fail(d, ANX_E_PARSE_JSON, "Key [%.*s] %s [%s] object", (int) (key.size < 80 ? key.size : 80),
                    key.data, what, path_text(path).text);
}

static bool
take_member(struct dsl *d, const struct json_node *member, const struct dsl_path *path,
            const struct dsl_key *keys, size_t n, unsigned kind, const struct json_node **members)
{
    for (size_t i = 0; i < n; i++) {
        if (!(keys[i].objects & kind) || !anx_text_equal(member->key, anx_text_of(keys[i].name)))
            continue;
        if (members[i])
            return fail_key(d, member->key, "can occur only once in", path);
        if (member->kind == JSON_ARRAY && keys[i].shape == DSL_ONE)
            return dsl_fail(d, ANX_E_PARSE_JSON, "Element [%s] should array in [%s].", keys[i].name,
                            path_text(path).text);
        members[i] = member;
        return true;
    }
    return fail_key(d, member->key, "not allowed in", path);
}

bool
dsl_members(struct dsl *d, const struct json_node *node, const struct dsl_path *path,
            const struct dsl_key *keys, size_t n, unsigned kind, const struct json_node **members)
{
    for (size_t i = 0; i < n; i++)
        members[i] = NULL;
    if (node->kind != JSON_OBJECT) /* sic: the key of the node, even where the root has none */
        return dsl_fail(d, ANX_E_PARSE_JSON, "Node [%.*s] should be JSON_OBJECT", ANX_TEXT_ARG(node->key));
    for (size_t i = 0; i < node->list.n; i++)
        if (!take_member(d, &node->list.items[i], path, keys, n, kind, members))
            return false;
    for (size_t i = 0; i < n; i++)
        if (keys[i].is_required && (keys[i].objects & kind) && !members[i])
            return fail_key(d, anx_text_of(keys[i].name), "must occur in", path);
    return true;
}

/* ---- Values ---- */

static bool
fail_type(struct dsl *d, const struct json_node *node, const char *wanted)
{
    if (d->in_filter)
        return dsl_fail(d, ANX_E_PARSE_JSON, "Query: Can't convert json field '%.*s' to %s",
                        ANX_TEXT_ARG(node->key), wanted);
    return dsl_fail(d, ANX_E_PARSE_JSON, "Wrong type of field '%.*s'", ANX_TEXT_ARG(node->key));
}

bool
dsl_text(struct dsl *d, const struct json_node *node, anx_text *out)
{
    if (!node)
        return true;
    if (node->kind != JSON_STRING)
        return fail_type(d, node, "string");
    *out = node->text; /* already in the arena */
    return true;
}

bool
dsl_bool(struct dsl *d, const struct json_node *node, bool *out)
{
    if (!node)
        return true;
    if (node->kind != JSON_BOOL)
        return fail_type(d, node, "bool");
    *out = node->boolean;
    return true;
}

const struct json_node *
dsl_list(struct dsl *d, const struct json_node *node)
{
    struct json_node *list;

    if (node->kind != JSON_ARRAY) {
        fail_type(d, node, "array");
        return NULL;
    }
    if (node->list.n == 0 || node->list.items)
        return node;
    d->status = json_parse(node->raw, d->arena, &list, d->err);
    if (d->status != ANX_OK)
        return NULL;
    list->key = node->key;
    return list;
}

bool
dsl_texts(struct dsl *d, const struct json_node *node, const anx_text **out, size_t *n)
{
    anx_text *texts;

    if (!node)
        return true;
    node = dsl_list(d, node);
    if (!node)
        return false;
    texts = anx_arena_array(d->arena, node->list.n + 1, sizeof(*texts));
    if (!texts)
        return dsl_spent(d);
    for (size_t i = 0; i < node->list.n; i++) {
        if (node->list.items[i].kind != JSON_STRING)
            return fail_type(d, node, "string");
        texts[i] = node->list.items[i].text;
    }
    *out = texts;
    *n = node->list.n;
    return true;
}

bool
dsl_limit(struct dsl *d, const struct json_node *node, size_t *out)
{
    if (!node)
        return true;
    if (node->kind == JSON_UINT || (node->kind == JSON_INT && node->integer >= UINT32_MAX))
        *out = QUERY_NO_LIMIT;
    else if (node->kind == JSON_INT)
        *out = node->integer < 0 ? QUERY_NO_LIMIT : (size_t) node->integer;
    else
        return fail_type(d, node, "number");
    return true;
}

bool
dsl_offset(struct dsl *d, const struct json_node *node, size_t *out)
{
    if (!node)
        return true;
    if (node->kind == JSON_INT && node->integer < 0)
        return dsl_fail(d, ANX_E_PARSE_JSON, "Query: Value of '%.*s' - %" PRIi64 " is out of bounds: [0,%zu]",
                        ANX_TEXT_ARG(node->key), node->integer, SIZE_MAX);
    if (node->kind != JSON_INT)
        return fail_type(d, node, "number");
    *out = (size_t) node->integer;
    return true;
}

bool
dsl_word(struct dsl *d, const struct json_node *node, int (*find)(anx_text), const char *family, int *out)
{
    anx_text word = ANX_TEXT("");
    int found;

    if (!node)
        return true;
    if (!dsl_text(d, node, &word))
        return false;
    found = find(word);
    if (found < 0)
        return dsl_fail(d, ANX_E_PARSE_DSL, "Element [%.*s] not allowed in object of type [%s]",
                        ANX_TEXT_ARG(word), family);
    *out = found;
    return true;
}

static bool
read_value(struct dsl *d, const struct json_node *node, unsigned depth, struct value *out)
{
    switch (node->kind) {
    case JSON_NULL:
        *out = (struct value) { .type = VALUE_NULL };
        return true;
    case JSON_BOOL:
        *out = (struct value) { .type = VALUE_BOOL, .boolean = node->boolean };
        return true;
    case JSON_INT:
        *out = (struct value) { .type = VALUE_INT, .integer = node->integer };
        return true;
    case JSON_UINT:
        *out = (struct value) { .type = VALUE_DOUBLE, .real = (double) node->natural };
        return true;
    case JSON_DOUBLE:
        *out = (struct value) { .type = VALUE_DOUBLE, .real = node->real };
        return true;
    case JSON_STRING:
        *out = (struct value) { .type = VALUE_STRING, .text = node->text };
        return true;
    case JSON_ARRAY:
        break;
    case JSON_OBJECT:
        return dsl_fail(d, ANX_E_PARSE_JSON,
                        "Error parsing json field 'values' - unable to use object in this context");
    }
    if (depth >= QUERY_DEPTH_MAX)
        return dsl_fail(d, ANX_E_PARSE_DSL, "Query is nested deeper than %d levels", QUERY_DEPTH_MAX);
    node = dsl_list(d, node);
    if (!node)
        return false;
    *out = (struct value) { .type = VALUE_TUPLE };
    out->tuple.items = anx_arena_array(d->arena, node->list.n + 1, sizeof(*out->tuple.items));
    if (!out->tuple.items)
        return dsl_spent(d);
    out->tuple.n = node->list.n;
    for (size_t i = 0; i < node->list.n; i++)
        if (!read_value(d, &node->list.items[i], depth + 1, &out->tuple.items[i]))
            return false;
    return true;
}

bool
dsl_values(struct dsl *d, const struct json_node *node, struct values *out)
{
    struct value *value;

    *out = (struct values) { NULL, 0 };
    if (!node || node->kind == JSON_NULL)
        return true;
    value = anx_arena_array(d->arena, 1, sizeof(*value));
    if (!value)
        return dsl_spent(d);
    if (!read_value(d, node, 0, value))
        return false;
    *out = value->type == VALUE_TUPLE ? value->tuple : (struct values) { value, 1 };
    return true;
}
