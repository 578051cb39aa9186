/* Documents of a namespace: reading pages, writing, transactions. */
#include "base/error.h"
#include "http/http_int.h"

static void
append(anx_buffer *sql, const char *keyword, anx_text text)
{
    if (text.size > 0) {
        anx_buffer_text(sql, anx_text_of(keyword));
        anx_buffer_text(sql, text);
    }
}

/* The request as the SQL text that it stands for: what clients put into `filter`, `fields` and `sort_field`
 * is SQL. */
static anx_status
items_query(struct http_request *r, struct query *query, anx_error *err)
{
    anx_buffer sql;
    anx_text fields = http_param_get(r, "fields"), sort = http_param_get(r, "sort_field");
    size_t limit, offset;
    anx_text text;
    int order;
    anx_status st = http_param_order(r, &order, err);

    if (st == ANX_OK)
        st = http_param_size(r, "limit", QUERY_NO_LIMIT, &limit, err);
    if (st == ANX_OK)
        st = http_param_size(r, "offset", 0, &offset, err);
    if (st != ANX_OK)
        return st;
    anx_buffer_init(&sql, NULL, QUERY_TEXT_MAX);
    append(&sql, "SELECT ", fields.size > 0 ? fields : ANX_TEXT("*"));
    if (http_param_true(r, "with_vectors"))
        anx_buffer_text(&sql, ANX_TEXT(", vectors()"));
    append(&sql, " FROM ", r->names[1]);
    append(&sql, " WHERE ", http_param_get(r, "filter"));
    append(&sql, " ORDER BY ", sort);
    if (sort.size > 0 && order < 0)
        anx_buffer_text(&sql, ANX_TEXT(" DESC"));
    if (limit != QUERY_NO_LIMIT)
        anx_buffer_printf(&sql, " LIMIT %zu", limit);
    if (offset > 0)
        anx_buffer_printf(&sql, " OFFSET %zu", offset);
    text = anx_arena_text(r->arena, (anx_text) { sql.data, sql.size }); /* the query keeps pointing into it */
    if (sql.failed || !text.data)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for a query of %zu bytes", sql.size);
    anx_buffer_fini(&sql);
    if (st == ANX_OK)
        st = query_read_sql(text, r->arena, query, NULL, err);
    query->total = TOTAL_EXACT;
    return st;
}

anx_status
handle_items_get(struct http_request *r, anx_error *err)
{
    static const struct result_window window = { .without_query_total = true };
    struct query query = query_default();
    struct result *result = NULL;
    anx_status st = items_query(r, &query, err);

    if (st == ANX_OK) {
        http_count_query(r);
        st = db_select(r->db, &query, &r->session, &result, err);
    }
    if (st == ANX_OK)
        st = result_print_json(result, &window, &r->out, err);
    result_free(result);
    return st;
}

static enum db_write_mode
write_mode(enum http_verb method)
{
    static const enum db_write_mode modes[VERB_COUNT] = {
        [VERB_POST] = WRITE_INSERT,
        [VERB_PUT] = WRITE_UPDATE,
        [VERB_PATCH] = WRITE_UPSERT,
        [VERB_DELETE] = WRITE_DELETE,
    };

    return modes[method];
}

/* Every `precepts` parameter, in order. */
static size_t
precepts(const struct http_request *r, anx_text out[HTTP_PARAMS_MAX])
{
    size_t n = 0;

    for (size_t i = 0; i < r->n_param; i++)
        if (anx_text_equal(r->params[i].name, ANX_TEXT("precepts")))
            out[n++] = r->params[i].value;
    return n;
}

anx_status
handle_items_write(struct http_request *r, anx_error *err)
{
    anx_text list[HTTP_PARAMS_MAX];
    size_t n = precepts(r, list), updated = 0;
    anx_buffer items;
    anx_status st;

    anx_buffer_init(&items, NULL, r->out.max);
    st = db_write(r->db, r->names[1], write_mode(r->method), r->body, list, n, &r->session, &updated,
                  n > 0 ? &items : NULL, err);
    if (st == ANX_OK) {
        anx_buffer_printf(&r->out, "{\"updated\":%zu,\"success\":true", updated);
        if (n > 0) {
            anx_buffer_text(&r->out, ANX_TEXT(",\"items\":["));
            anx_buffer_bytes(&r->out, items.data, items.size);
            anx_buffer_char(&r->out, ']');
            r->out.failed |= items.failed;
        }
        anx_buffer_char(&r->out, '}');
    }
    anx_buffer_fini(&items);
    return st;
}

anx_status
handle_tx_begin(struct http_request *r, anx_error *err)
{
    anx_text id;
    anx_status st = db_tx_begin(r->db, r->names[1], &r->session, r->arena, &id, err);

    if (st == ANX_OK) {
        anx_buffer_text(&r->out, ANX_TEXT("{\"tx_id\":"));
        json_print_text(&r->out, id);
        anx_buffer_char(&r->out, '}');
    }
    return st;
}

anx_status
handle_tx_write(struct http_request *r, anx_error *err)
{
    anx_text list[HTTP_PARAMS_MAX];
    size_t n = precepts(r, list);

    return db_tx_write(r->db, r->names[1], write_mode(r->method), r->body, list, n, &r->session, err);
}

anx_status
handle_tx_sql(struct http_request *r, anx_error *err)
{
    struct query query;
    anx_text q = http_param_get(r, "q");
    anx_status st;

    if (!q.data)
        return anx_fail(err, ANX_E_PARAMS, "Missing `q` parameter");
    st = query_read_sql(q, r->arena, &query, NULL, err);
    return st == ANX_OK ? db_tx_query(r->db, r->names[1], &query, &r->session, err) : st;
}

anx_status
handle_tx_dsl(struct http_request *r, anx_error *err)
{
    struct query query;
    anx_status st = query_read_dsl(r->body, QUERY_DELETE, r->arena, &query, err);

    return st == ANX_OK ? db_tx_query(r->db, r->names[1], &query, &r->session, err) : st;
}

anx_status
handle_tx_commit(struct http_request *r, anx_error *err)
{
    struct result *result = NULL;
    anx_status st = db_tx_commit(r->db, r->names[1], &r->session, &result, err);

    if (st == ANX_OK)
        st = result_print_json(result, NULL, &r->out, err);
    result_free(result);
    return st;
}

anx_status
handle_tx_rollback(struct http_request *r, anx_error *err)
{
    return db_tx_rollback(r->db, r->names[1], &r->session, err);
}
