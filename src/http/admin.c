/* Databases, namespaces, indexes, schemas. */
#include <stdlib.h>

#include "base/error.h"
#include "db/config.h"
#include "http/http_int.h"


static int
compare_names(const void *a, const void *b)
{
    const anx_text *x = a, *y = b;
    size_t n = x->size < y->size ? x->size : y->size;
    int order = n > 0 ? strncasecmp(x->data, y->data, n) : 0;

    return order != 0 ? order : (x->size > y->size) - (x->size < y->size);
}

static void
sort_names(anx_text *names, size_t n, int direction)
{
    if (direction == 0 || n < 2)
        return;
    qsort(names, n, sizeof(*names), compare_names);
    if (direction < 0)
        for (size_t i = 0; i < n / 2; i++) {
            anx_text swap = names[i];

            names[i] = names[n - 1 - i];
            names[n - 1 - i] = swap;
        }
}

anx_status
handle_db_list(struct http_request *r, anx_error *err)
{
    anx_text *names;
    size_t n;
    int order;
    anx_status st = http_param_order(r, &order, err);

    if (st == ANX_OK)
        st = engine_databases(http_server_params(r->server)->engine, r->arena, &names, &n, err);
    if (st != ANX_OK)
        return st;
    sort_names(names, n, order);
    anx_buffer_printf(&r->out, "{\"total_items\":%zu,\"items\":[", n);
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            anx_buffer_char(&r->out, ',');
        json_print_text(&r->out, names[i]);
    }
    anx_buffer_text(&r->out, ANX_TEXT("]}"));
    return ANX_OK;
}

anx_status
handle_db_create(struct http_request *r, anx_error *err)
{
    struct json_node *body;
    const struct json_node *name;
    anx_text text = { "", 0 };
    anx_status st = json_parse(r->body, r->arena, &body, err);

    if (st != ANX_OK)
        return st;
    if (body->kind != JSON_OBJECT)
        return anx_fail(err, ANX_E_PARSE_JSON, "Can't convert json field '' to object");
    name = json_member(body, "name");
    if (name && name->kind != JSON_STRING)
        return anx_fail(err, ANX_E_PARSE_JSON, "Can't convert json field 'name' to string");
    if (name)
        text = name->text;
    r->names[0] = text; /* whose owner one has to be */
    if (http_need_role(r, ROLE_OWNER, err) != ANX_OK)
        return anx_fail(err, ANX_E_FORBIDDEN, "Forbidden to create database '%.*s'", ANX_TEXT_ARG(text));
    return engine_database_create(http_server_params(r->server)->engine, text, &r->session, err);
}

anx_status
handle_db_drop(struct http_request *r, anx_error *err)
{
    return engine_database_drop(http_server_params(r->server)->engine, r->names[0], &r->session, err);
}

anx_status
handle_default_config(struct http_request *r, anx_error *err)
{
    return config_default(http_param_get(r, "type"), &r->out, err);
}

anx_status
handle_ns_list(struct http_request *r, anx_error *err)
{
    anx_text *names;
    size_t n;
    int order;
    anx_status st = http_param_order(r, &order, err);

    if (st == ANX_OK)
        st = db_ns_names(r->db, r->arena, &names, &n, err);
    if (st != ANX_OK)
        return st;
    sort_names(names, n, order);
    anx_buffer_printf(&r->out, "{\"total_items\":%zu,\"items\":[", n);
    for (size_t i = 0; i < n; i++) {
        anx_buffer_text(&r->out, i > 0 ? ANX_TEXT(",{\"name\":") : ANX_TEXT("{\"name\":"));
        json_print_text(&r->out, names[i]);
        anx_buffer_char(&r->out, '}');
    }
    anx_buffer_text(&r->out, ANX_TEXT("]}"));
    return ANX_OK;
}

anx_status
handle_ns_create(struct http_request *r, anx_error *err)
{
    return db_ns_create(r->db, r->body, &r->session, err);
}

anx_status
handle_ns_get(struct http_request *r, anx_error *err)
{
    size_t n;
    anx_status st = db_ns_describe(r->db, r->names[1], false, &r->out, &n, err);

    if (st == ANX_E_NOT_FOUND)
        st = anx_fail(err, ANX_E_NOT_FOUND, "Namespace is not found");
    return st;
}

anx_status
handle_ns_drop(struct http_request *r, anx_error *err)
{
    return db_ns_drop(r->db, r->names[1], &r->session, err);
}

anx_status
handle_ns_truncate(struct http_request *r, anx_error *err)
{
    return db_ns_truncate(r->db, r->names[1], &r->session, err);
}

anx_status
handle_ns_rename(struct http_request *r, anx_error *err)
{
    return db_ns_rename(r->db, r->names[1], r->names[2], &r->session, err);
}

anx_status
handle_index_list(struct http_request *r, anx_error *err)
{
    anx_buffer list;
    size_t n;
    anx_status st;

    anx_buffer_init(&list, NULL, r->out.max);
    st = db_ns_describe(r->db, r->names[1], true, &list, &n, err);
    if (st == ANX_OK) {
        anx_buffer_printf(&r->out, "{\"total_items\":%zu,\"items\":[", n);
        anx_buffer_bytes(&r->out, list.data, list.size);
        anx_buffer_text(&r->out, ANX_TEXT("]}"));
        r->out.failed |= list.failed;
    }
    anx_buffer_fini(&list);
    return st;
}

static anx_status
set_index(struct http_request *r, enum db_index_action action, anx_error *err)
{
    return db_index_set(r->db, r->names[1], r->body, action, &r->session, err);
}
anx_status
handle_index_add(struct http_request *r, anx_error *err)
{
    return set_index(r, INDEX_ADD, err);
}
anx_status
handle_index_update(struct http_request *r, anx_error *err)
{
    return set_index(r, INDEX_UPDATE, err);
}

anx_status
handle_index_drop(struct http_request *r, anx_error *err)
{
    return db_index_drop(r->db, r->names[1], r->names[2], &r->session, err);
}

anx_status
handle_schema_get(struct http_request *r, anx_error *err)
{
    return db_schema_get(r->db, r->names[1], &r->out, err);
}

anx_status
handle_schema_set(struct http_request *r, anx_error *err)
{
    return db_schema_set(r->db, r->names[1], r->body, &r->session, err);
}
