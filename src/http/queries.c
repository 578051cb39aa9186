/* Queries as SQL and as JSON DSL, and conversion between the two. */
#include "base/error.h"
#include "http/http_int.h"

static anx_status
read_sql(struct http_request *r, anx_text sql, anx_error *err)
{
    r->with_location = true;
    return query_read_sql(sql, r->arena, &r->query, &r->location, err);
}

bool
prepare_sql_get(struct http_request *r, anx_status *status, anx_error *err)
{
    anx_text q = http_param_get(r, "q");

    *status = q.data ? read_sql(r, q, err) : anx_fail(err, ANX_E_PARAMS, "Missing `q` parameter");
    return *status == ANX_OK && !query_is_short(&r->query);
}

bool
prepare_sql_post(struct http_request *r, anx_status *status, anx_error *err)
{
    *status = r->body.size > 0 ? read_sql(r, r->body, err) : anx_fail(err, ANX_E_PARAMS, "Query is empty");
    return *status == ANX_OK && !query_is_short(&r->query);
}

bool
prepare_dsl_select(struct http_request *r, anx_status *status, anx_error *err)
{
    *status = query_read_dsl(r->body, QUERY_SELECT, r->arena, &r->query, err);
    return *status == ANX_OK && !query_is_short(&r->query);
}

static anx_status
run_query(struct http_request *r, const struct result_window *window, anx_error *err)
{
    struct result *result = NULL;
    enum db_role need = r->query.type == QUERY_SELECT     ? ROLE_DATA_READ
                        : r->query.type == QUERY_TRUNCATE ? ROLE_DB_ADMIN
                                                          : ROLE_DATA_WRITE;
    anx_status st = http_need_role(r, need, err);

    if (st != ANX_OK)
        return st;
    if (r->query.type == QUERY_SELECT)
        http_count_query(r);
    st = r->query.type == QUERY_SELECT ? db_select(r->db, &r->query, &r->session, &result, err)
                                       : db_modify(r->db, &r->query, &r->session, &result, err);
    if (st == ANX_OK)
        st = result_print_json(result, window, &r->out, err);
    result_free(result);
    return st;
}

anx_status
handle_sql_get(struct http_request *r, anx_error *err)
{
    struct result_window window = {
        .is_set = http_param_get(r, "limit").data || http_param_get(r, "offset").data,
    };
    anx_status st = http_param_size(r, "limit", QUERY_NO_LIMIT, &window.limit, err);

    if (st == ANX_OK)
        st = http_param_size(r, "offset", 0, &window.offset, err);
    return st == ANX_OK ? run_query(r, &window, err) : st;
}

anx_status
handle_sql_post(struct http_request *r, anx_error *err)
{
    return run_query(r, NULL, err);
}

anx_status
handle_dsl_select(struct http_request *r, anx_error *err)
{
    return run_query(r, NULL, err);
}

static anx_status
modify(struct http_request *r, enum query_type type, anx_error *err)
{
    struct result *result = NULL;
    anx_status st = query_read_dsl(r->body, type, r->arena, &r->query, err);

    if (st == ANX_OK)
        st = db_modify(r->db, &r->query, &r->session, &result, err);
    if (st == ANX_OK)
        anx_buffer_printf(&r->out, "{\"updated\":%zu}", result_count(result));
    result_free(result);
    return st;
}

anx_status
handle_dsl_update(struct http_request *r, anx_error *err)
{
    return modify(r, QUERY_UPDATE, err);
}

anx_status
handle_dsl_delete(struct http_request *r, anx_error *err)
{
    return modify(r, QUERY_DELETE, err);
}

static anx_status
convert(struct http_request *r, anx_error *err)
{
    anx_text to = http_param_get(r, "to");
    anx_buffer text;

    if (to.size == 0)
        return anx_fail(err, ANX_E_PARAMS, "Missing `to` parameter");
    anx_buffer_text(&r->out, ANX_TEXT("{\"format\":"));
    json_print_text(&r->out, to);
    anx_buffer_text(&r->out, ANX_TEXT(",\"query\":"));
    anx_buffer_init(&text, NULL, r->out.max);
    if (anx_text_equal_fold(to, ANX_TEXT("dsl"))) {
        query_print_dsl(&r->query, &r->out);
    } else if (anx_text_equal_fold(to, ANX_TEXT("sql")) || anx_text_equal_fold(to, ANX_TEXT("pretty_sql"))) {
        query_print_sql(&r->query, false, &text);
        json_print_text(&r->out, (anx_text) { text.data, text.size });
        r->out.failed |= text.failed;
    } else {
        anx_buffer_fini(&text);
        return anx_fail(err, ANX_E_PARAMS, "Unknown format '%.*s'", ANX_TEXT_ARG(to));
    }
    anx_buffer_fini(&text);
    anx_buffer_char(&r->out, '}');
    return ANX_OK;
}

/* Whatever is wrong with the text to convert is the caller's mistake: always 400. */
static anx_status
as_params(anx_status st, anx_error *err)
{
    return st == ANX_OK ? st : anx_fail(err, ANX_E_PARAMS, "%s", err->message);
}

anx_status
handle_convert_sql(struct http_request *r, anx_error *err)
{
    anx_status st = as_params(query_read_sql(r->body, r->arena, &r->query, NULL, err), err);

    return st == ANX_OK ? convert(r, err) : st;
}

anx_status
handle_convert_dsl(struct http_request *r, anx_error *err)
{
    anx_status st = as_params(query_convert_dsl(r->body, r->arena, &r->query, err), err);

    return st == ANX_OK ? convert(r, err) : st;
}
