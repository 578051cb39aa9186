/* Metadata of a namespace: text keys and values. */
#include <stdlib.h>

#include "base/error.h"
#include "http/http_int.h"

struct entry {
    anx_text key, value;
};

static int
compare_entries(const void *a, const void *b)
{
    const anx_text *x = &((const struct entry *) a)->key, *y = &((const struct entry *) b)->key;
    size_t n = x->size < y->size ? x->size : y->size;
    int order = n > 0 ? memcmp(x->data, y->data, n) : 0;

    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

static anx_status
read_entries(struct http_request *r, struct entry **out, size_t *n, anx_error *err)
{
    anx_text *keys, *values;
    anx_status st = db_meta_list(r->db, r->names[1], r->arena, &keys, &values, n, err);

    if (st != ANX_OK)
        return st;
    *out = anx_arena_array(r->arena, *n + 1, sizeof(**out));
    if (!*out)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu metadata keys", *n);
    for (size_t i = 0; i < *n; i++)
        (*out)[i] = (struct entry) { keys[i], values[i] };
    return ANX_OK;
}

anx_status
handle_meta_list(struct http_request *r, anx_error *err)
{
    struct entry *entries;
    size_t n, limit, offset, shown = 0;
    bool with_values = http_param_true(r, "with_values");
    int order;
    anx_status st = http_param_order(r, &order, err);

    if (st == ANX_OK)
        st = read_entries(r, &entries, &n, err);
    if (st != ANX_OK)
        return st;
    st = http_param_size(r, "limit", 0, &limit, err);
    if (st == ANX_OK)
        st = http_param_size(r, "offset", 0, &offset, err);
    if (st != ANX_OK)
        return st;
    qsort(entries, n, sizeof(*entries), compare_entries);
    anx_buffer_printf(&r->out, "{\"total_items\":%zu,\"meta\":[", n);
    for (size_t i = offset; i < n && (limit == 0 || shown < limit); i++, shown++) {
        const struct entry *entry = &entries[order < 0 ? n - 1 - i : i];

        anx_buffer_text(&r->out, shown > 0 ? ANX_TEXT(",{\"key\":") : ANX_TEXT("{\"key\":"));
        json_print_text(&r->out, entry->key);
        if (with_values) {
            anx_buffer_text(&r->out, ANX_TEXT(",\"value\":"));
            json_print_text(&r->out, entry->value);
        }
        anx_buffer_char(&r->out, '}');
    }
    anx_buffer_text(&r->out, ANX_TEXT("]}"));
    return ANX_OK;
}

anx_status
handle_meta_get(struct http_request *r, anx_error *err)
{
    anx_text value = { "", 0 };
    anx_status st = db_meta_get(r->db, r->names[1], r->names[2], r->arena, &value, err);

    if (st != ANX_OK)
        return st;
    anx_buffer_text(&r->out, ANX_TEXT("{\"key\":"));
    json_print_text(&r->out, r->names[2]);
    anx_buffer_text(&r->out, ANX_TEXT(",\"value\":"));
    json_print_text(&r->out, value);
    anx_buffer_char(&r->out, '}');
    return ANX_OK;
}

static anx_status
text_member(const struct json_node *body, const char *name, anx_text *out, anx_error *err)
{
    const struct json_node *node = json_member(body, name);

    *out = (anx_text) { "", 0 };
    if (!node)
        return ANX_OK;
    if (node->kind != JSON_STRING)
        return anx_fail(err, ANX_E_PARSE_JSON, "Can't convert json field '%s' to string", name);
    *out = node->text;
    return ANX_OK;
}

anx_status
handle_meta_put(struct http_request *r, anx_error *err)
{
    struct json_node *body;
    anx_text key, value;
    anx_status st = json_parse(r->body, r->arena, &body, err);

    if (st == ANX_OK)
        st = text_member(body, "key", &key, err);
    if (st == ANX_OK)
        st = text_member(body, "value", &value, err);
    if (st != ANX_OK)
        return st;
    if (key.size == 0)
        return anx_fail(err, ANX_E_PARAMS, "Empty key is not supported");
    return db_meta_put(r->db, r->names[1], key, value, err);
}

anx_status
handle_meta_delete(struct http_request *r, anx_error *err)
{
    return db_meta_delete(r->db, r->names[1], r->names[2], err);
}
