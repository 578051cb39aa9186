/* See json_fields.h. */
#include "db/json_fields.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>

void
fields_fail(struct json_fields *in, const char *format, ...)
{
    char text[224];
    va_list arguments;

    if (in->status != ANX_OK)
        return;
    va_start(arguments, format);
    if (vsnprintf(text, sizeof(text), format, arguments) < 0)
        text[0] = '\0';
    va_end(arguments);
    in->status = anx_fail(in->err, ANX_E_PARSE_JSON, "%s%s", in->prefix, text);
}

const struct json_node *
fields_member(struct json_fields *in, const char *key)
{
    if (in->status != ANX_OK)
        return NULL;
    if (in->object->kind != JSON_OBJECT) {
        fields_fail(in, "Can't obtain json field '%s' from non-object json node", key);
        return NULL;
    }
    return json_member(in->object, key);
}

bool
fields_text(struct json_fields *in, const char *key, anx_text *out)
{
    const struct json_node *node = fields_member(in, key);

    if (!node)
        return false;
    if (node->kind != JSON_STRING) {
        fields_fail(in, "Can't convert json field '%s' to string", key);
        return false;
    }
    *out = node->text;
    return true;
}

bool
fields_bool(struct json_fields *in, const char *key, bool *out)
{
    const struct json_node *node = fields_member(in, key);

    if (!node)
        return false;
    if (node->kind != JSON_BOOL) {
        fields_fail(in, "Can't convert json field '%s' to bool", key);
        return false;
    }
    *out = node->boolean;
    return true;
}

bool
fields_double(struct json_fields *in, const char *key, double *out)
{
    const struct json_node *node = fields_member(in, key);

    if (!node)
        return false;
    if (!json_number(node, out)) {
        fields_fail(in, "Can't convert json field '%s' to number", key);
        return false;
    }
    return true;
}

/* Whole numbers may be written with a fraction of zero. */
bool
fields_int(struct json_fields *in, const char *key, int64_t min, int64_t max, int64_t *out)
{
    const struct json_node *node = fields_member(in, key);
    double real;
    int64_t value;

    if (!node)
        return false;
    if (!json_number(node, &real) || (node->kind == JSON_DOUBLE && real != trunc(real))) {
        fields_fail(in, "Can't convert json field '%s' to number", key);
        return false;
    }
    if (node->kind == JSON_INT)
        value = node->integer;
    else if (real < -9e18 || real > 9e18)
        value = real < 0 ? INT64_MIN : INT64_MAX;
    else
        value = (int64_t) real;
    if (value < min || value > max) {
        fields_fail(in, "Value of '%s' - %lld is out of bounds: [%lld,%lld]", key, (long long) value,
                    (long long) min, (long long) max);
        return false;
    }
    *out = value;
    return true;
}

bool
fields_u32(struct json_fields *in, const char *key, uint32_t min, uint32_t max, uint32_t *out)
{
    int64_t value;

    if (!fields_int(in, key, min, max, &value))
        return false;
    *out = (uint32_t) value;
    return true;
}

const struct json_node *
fields_array(struct json_fields *in, const char *key)
{
    const struct json_node *node = fields_member(in, key);

    if (node && node->kind != JSON_ARRAY) {
        fields_fail(in, "Can't convert json field '%s' to object or array", key);
        return NULL;
    }
    return node;
}

const struct json_node *
fields_object(struct json_fields *in, const char *key)
{
    const struct json_node *node = fields_member(in, key);

    if (node && node->kind != JSON_OBJECT) {
        fields_fail(in, "Can't convert json field '%s' to object or array", key);
        return NULL;
    }
    return node;
}

anx_status
fields_texts(struct json_fields *in, const char *key, anx_arena *arena, const anx_text **out, size_t *n)
{
    const struct json_node *list = fields_array(in, key);
    anx_text *texts;

    *out = NULL;
    *n = 0;
    if (!list)
        return in->status;
    texts = anx_arena_array(arena, list->list.n + 1, sizeof(*texts));
    if (!texts)
        return in->status = anx_fail(in->err, ANX_E_NOMEM, "out of memory");
    for (size_t i = 0; i < list->list.n; i++) {
        if (list->list.items[i].kind != JSON_STRING) {
            fields_fail(in, "Can't convert json field '%s' to string", key);
            return in->status;
        }
        texts[i] = list->list.items[i].text;
    }
    *out = texts;
    *n = list->list.n;
    return ANX_OK;
}
