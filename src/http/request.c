/* A request from its head to its answer, independent of sockets. */
#include "base/clock.h"
#include "base/error.h"
#include "db/users.h"
#include "http/http_int.h"

#define DEFAULT_WRITE_TIMEOUT_S 60 /* of requests that change something and name no Request-Timeout */

/* Percent-decoding (RFC 3986) with "+" as a blank; a malformed escape stands for itself. */
static anx_text
decode(anx_arena *arena, anx_text in)
{
    char *out = anx_arena_bytes(arena, in.size + 1);
    size_t n = 0;

    if (!out)
        return (anx_text) { NULL, 0 };
    for (size_t i = 0; i < in.size; i++) {
        char c = in.data[i];

        if (c == '%' && i + 2 < in.size && anx_hex_digit(in.data[i + 1]) >= 0 &&
            anx_hex_digit(in.data[i + 2]) >= 0) {
            c = (char) (anx_hex_digit(in.data[i + 1]) * 16 + anx_hex_digit(in.data[i + 2]));
            i += 2;
        } else if (c == '+') {
            c = ' ';
        }
        out[n++] = c;
    }
    out[n] = '\0';
    return (anx_text) { out, n };
}

/* Cuts `text` at the first `mark`; the rest (behind it) is returned. */
static anx_text
cut(anx_text *text, char mark)
{
    const char *at = text->size > 0 ? memchr(text->data, mark, text->size) : NULL;
    anx_text rest = { NULL, 0 };

    if (at) {
        size_t head = (size_t) (at - text->data);

        rest = (anx_text) { at + 1, text->size - head - 1 };
        text->size = head;
    }
    return rest;
}

static anx_status
parse_params(struct http_request *request, anx_text query, anx_error *err)
{
    while (query.size > 0) {
        anx_text part = query, value;
        anx_text rest = cut(&part, '&');
        struct http_param *param = &request->params[request->n_param];

        if (part.size > 0) {
            if (request->n_param == HTTP_PARAMS_MAX)
                return anx_fail(err, ANX_E_PARAMS, "more than %d query parameters", HTTP_PARAMS_MAX);
            value = cut(&part, '=');
            param->name = decode(request->arena, part);
            param->value = decode(request->arena, value);
            if (!param->name.data || !param->value.data)
                return anx_fail(err, ANX_E_NOMEM, "no memory for the query parameters");
            request->n_param++;
        }
        query = rest;
    }
    return ANX_OK;
}

anx_status
http_request_parse(struct http_request *request, anx_text target, anx_text form, anx_error *err)
{
    anx_text path = target;
    anx_text query = cut(&path, '?');
    anx_status st;

    while (path.size > 0) {
        anx_text part = path;
        anx_text rest = cut(&part, '/');

        if (part.size > 0) {
            if (request->n_segment == HTTP_SEGMENTS_MAX)
                return anx_fail(err, ANX_E_NOT_FOUND, "Not found");
            request->segments[request->n_segment] = decode(request->arena, part);
            if (!request->segments[request->n_segment++].data)
                return anx_fail(err, ANX_E_NOMEM, "no memory for the path");
        }
        path = rest;
    }
    st = parse_params(request, query, err);
    return st == ANX_OK ? parse_params(request, form, err) : st;
}

anx_text
http_param_get(const struct http_request *request, const char *name)
{
    anx_text wanted = anx_text_of(name);

    for (size_t i = 0; i < request->n_param; i++)
        if (anx_text_equal(request->params[i].name, wanted))
            return request->params[i].value;
    return (anx_text) { NULL, 0 };
}

bool
http_param_true(const struct http_request *request, const char *name)
{
    anx_text value = http_param_get(request, name);

    return anx_text_equal_fold(value, ANX_TEXT("on")) || anx_text_equal_fold(value, ANX_TEXT("true")) ||
           anx_text_equal(value, ANX_TEXT("1"));
}

anx_status
http_param_size(const struct http_request *request, const char *name, size_t absent, size_t *out,
                anx_error *err)
{
    anx_text value = http_param_get(request, name);
    bool is_negative = value.size > 1 && value.data[0] == '-';
    size_t number = 0;

    *out = absent;
    if (value.size == 0)
        return ANX_OK;
    for (size_t i = is_negative; i < value.size; i++) {
        if (value.data[i] < '0' || value.data[i] > '9')
            return anx_fail(err, ANX_E_PARAMS, "Parameter `%s` must be a number, but it is '%.*s'", name,
                            ANX_TEXT_ARG(value));
        if (number <= (SIZE_MAX - 9) / 10)
            number = number * 10 + (size_t) (value.data[i] - '0');
    }
    *out = is_negative ? 0 : number;
    return ANX_OK;
}

anx_status
http_param_order(const struct http_request *request, int *order, anx_error *err)
{
    anx_text value = http_param_get(request, "sort_order");

    if (value.size == 0)
        *order = 0;
    else if (anx_text_equal(value, ANX_TEXT("asc")))
        *order = 1;
    else if (anx_text_equal(value, ANX_TEXT("desc")))
        *order = -1;
    else
        return anx_fail(err, ANX_E_PARAMS, "Invalid `sort_order` parameter");
    return ANX_OK;
}

anx_status
http_check_format(const struct http_request *request, anx_error *err)
{
    anx_text format = http_param_get(request, "format");

    if (format.size == 0 || anx_text_equal_fold(format, ANX_TEXT("json")))
        return ANX_OK;
    if (anx_text_equal_fold(format, ANX_TEXT("msgpack")) ||
        anx_text_equal_fold(format, ANX_TEXT("protobuf")) ||
        anx_text_equal_fold(format, ANX_TEXT("csv-file")))
        return anx_fail(err, ANX_E_PARAMS, "Unsupported format '%.*s' for '%.*s'", ANX_TEXT_ARG(format),
                        ANX_TEXT_ARG(request->target));
    return anx_fail(err, ANX_E_PARAMS, "Unexpected format names:'%.*s'", ANX_TEXT_ARG(format));
}

anx_status
http_need_role(struct http_request *request, enum db_role need, anx_error *err)
{
    anx_text db = request->names[0];

    request->session.role = users_role(request->login, db);
    if (request->session.role >= need)
        return ANX_OK;
    return anx_fail(err, ANX_E_FORBIDDEN, "Forbidden: need role %s of db '%.*s' user '%.*s' have role=%s",
                    db_role_name(need), ANX_TEXT_ARG(db), ANX_TEXT_ARG(request->user),
                    db_role_name(request->session.role));
}

void
http_answer_plain(struct http_request *request, int code, anx_text text)
{
    request->code = code;
    request->content_type = "text/plain; charset=utf-8";
    anx_buffer_clear(&request->out);
    anx_buffer_text(&request->out, text);
}

/* {"success":...,"response_code":...,"description":"..."} */
static void
print_status(struct http_request *request, bool is_success, anx_text description)
{
    const struct query_location *at = &request->location;
    anx_buffer *out = &request->out;

    request->content_type = "application/json; charset=utf-8";
    anx_buffer_clear(out);
    out->failed = false;
    anx_buffer_printf(out,
                      "{\"success\":%s,\"response_code\":%d,\"description\":", is_success ? "true" : "false",
                      request->code);
    json_print_text(out, description);
    if (!is_success && request->with_location && at->is_set)
        anx_buffer_printf(out,
                          ",\"location\":{\"line_start\":%zu,\"column_start\":%zu,\"line_end\":%zu,"
                          "\"column_end\":%zu}",
                          at->line_start, at->column_start, at->line_end, at->column_end);
    anx_buffer_char(out, '}');
}

void
http_answer_status(struct http_request *request, anx_status status, const anx_error *err)
{
    request->code = anx_status_http(status);
    print_status(request, status == ANX_OK, status == ANX_OK ? ANX_TEXT("") : anx_text_of(err->message));
}

void
http_answer_error(struct http_request *request, int code, anx_text description)
{
    request->code = code;
    print_status(request, false, description);
}

static bool
base64_decode(anx_arena *arena, anx_text in, anx_text *out)
{
    static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    char *bytes = anx_arena_bytes(arena, in.size + 1);
    uint32_t bits = 0;
    size_t n = 0, n_bit = 0;

    if (!bytes)
        return false;
    for (size_t i = 0; i < in.size && in.data[i] != '='; i++) {
        const char *at = memchr(alphabet, in.data[i], sizeof(alphabet) - 1);

        if (!at)
            return false;
        bits = bits << 6 | (uint32_t) (at - alphabet);
        n_bit += 6;
        if (n_bit >= 8) {
            n_bit -= 8;
            bytes[n++] = (char) (bits >> n_bit & 0xff);
        }
    }
    *out = (anx_text) { bytes, n };
    return true;
}

/* HTTP Basic (RFC 7617). False: the answer (401) is made. */
static bool
authenticate(struct http_request *request, anx_text authorization)
{
    struct users *users = http_server_params(request->server)->users;
    anx_text basic = ANX_TEXT("Basic "), credentials = { NULL, 0 }, password;

    if (!users)
        return true;
    if (authorization.size < basic.size || strncasecmp(authorization.data, basic.data, basic.size) != 0) {
        request->is_challenge = true;
        http_answer_plain(request, 401, ANX_TEXT("Forbidden"));
        return false;
    }
    authorization.data += basic.size;
    authorization.size -= basic.size;
    if (base64_decode(request->arena, authorization, &credentials)) {
        password = cut(&credentials, ':');
        request->login = users_login(users, credentials, password);
        if (request->login) {
            request->user = credentials;
            request->session.user = credentials;
            return true;
        }
    }
    request->is_challenge = true;
    http_answer_plain(request, 401, ANX_TEXT("Unauthorized"));
    return false;
}

static void
set_session(struct http_request *request, anx_text timeout)
{
    const struct http_params *params = http_server_params(request->server);
    size_t seconds = request->method == VERB_GET ? 0 : DEFAULT_WRITE_TIMEOUT_S;
    size_t given = 0;

    for (size_t i = 0;
         i < timeout.size && timeout.data[i] >= '0' && timeout.data[i] <= '9' && given < 1000000; i++)
        given = given * 10 + (size_t) (timeout.data[i] - '0');
    if (given > 0)
        seconds = given;
    request->session.client = request->client;
    request->session.deadline_ns = seconds > 0 ? request->start_ns + seconds * 1000000000u : 0;
    request->session.max_result_bytes = params->max_response_bytes;
}

bool
http_request_begin(struct http_request *request, anx_text authorization, anx_text timeout)
{
    anx_error err;
    anx_status st = ANX_OK;

    request->route = http_route_find(request);
    if (!request->route) {
        st = anx_fail(&err, ANX_E_NOT_FOUND, "Not found");
        http_answer_status(request, st, &err);
        return false;
    }
    if (request->route->where != ON_LOOP_FOR_ALL && !authenticate(request, authorization))
        return false;
    set_session(request, timeout);
    st = http_need_role(request, request->route->role, &err);
    if (st == ANX_OK)
        st = http_check_format(request, &err);
    if (st == ANX_OK && request->route->where == ON_WORKER) {
        if (!request->route->needs_worker || request->route->needs_worker(request, &st, &err))
            return st == ANX_OK;
    }
    if (st != ANX_OK)
        http_answer_status(request, st, &err);
    else
        http_request_run(request);
    return false;
}

void
http_request_run(struct http_request *request)
{
    anx_error err;
    anx_status st;

    request->code = 200;
    request->content_type = "application/json; charset=utf-8";
    st = request->route->has_db ? database_acquire(http_server_params(request->server)->engine,
                                                   request->names[0], &request->db, &err)
                                : ANX_OK;
    if (st == ANX_OK)
        st = request->route->handle(request, &err);
    database_release(request->db);
    request->db = NULL;
    if (st == ANX_OK && request->out.failed)
        st = anx_fail(&err, ANX_E_LOGIC, "Response is larger than the limit of %zu bytes", request->out.max);
    if (st != ANX_OK || (request->out.size == 0 && !request->is_bodyless))
        http_answer_status(request, st, &err);
}
