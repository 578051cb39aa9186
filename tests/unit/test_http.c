/* The HTTP room without sockets: paths, parameters, routes, addresses. */
#include "test_util.h"

#include <stdio.h>

#include "http/http_int.h"
#include "net/listen.h"


static void
parse(struct http_request *request, enum http_verb method, const char *target, const char *form)
{
    anx_error err;

    memset(request, 0, sizeof(*request));
    request->arena = anx_arena_create(NULL, 1 << 20);
    request->method = method;
    assert_non_null(request->arena);
    assert_int_equal(http_request_parse(request, anx_text_of(target), anx_text_of(form), &err), ANX_OK);
}

static void
assert_text(anx_text text, const char *expected)
{
    assert_int_equal(text.size, strlen(expected));
    assert_memory_equal(text.data, expected, text.size);
}

static void
test_decoding(void **state)
{
    struct http_request r;

    (void) state;
    parse(&r, VERB_GET, "/api//v1/a%20b+c%2Fd/%zz%4?q=SELECT+%2A&empty=&flag&q=second", "form=1&q=third");
    assert_int_equal(r.n_segment, 4);
    assert_text(r.segments[2], "a b c/d");
    assert_text(r.segments[3], "%zz%4"); /* malformed escapes stand for themselves */
    assert_text(http_param_get(&r, "q"), "SELECT *");
    assert_text(http_param_get(&r, "form"), "1");
    assert_non_null(http_param_get(&r, "empty").data);
    assert_non_null(http_param_get(&r, "flag").data);
    assert_null(http_param_get(&r, "absent").data);
    anx_arena_destroy(r.arena);
}

static void
test_params(void **state)
{
    struct http_request r;
    anx_error err;
    size_t size;
    int order;

    (void) state;
    parse(&r, VERB_GET, "/x?limit=10&offset=-3&big=99999999999999999999999&yes=ON&no=maybe&sort_order=desc",
          "");
    assert_int_equal(http_param_size(&r, "limit", 7, &size, &err), ANX_OK);
    assert_int_equal(size, 10);
    assert_int_equal(http_param_size(&r, "offset", 7, &size, &err), ANX_OK);
    assert_int_equal(size, 0);
    assert_int_equal(http_param_size(&r, "absent", 7, &size, &err), ANX_OK);
    assert_int_equal(size, 7);
    assert_int_equal(http_param_size(&r, "big", 7, &size, &err), ANX_OK);
    assert_true(size > 1u << 30);
    assert_int_equal(http_param_size(&r, "no", 7, &size, &err), ANX_E_PARAMS);
    assert_non_null(strstr(err.message, "maybe"));
    assert_true(http_param_true(&r, "yes"));
    assert_false(http_param_true(&r, "no"));
    assert_int_equal(http_param_order(&r, &order, &err), ANX_OK);
    assert_int_equal(order, -1);
    anx_arena_destroy(r.arena);

    parse(&r, VERB_GET, "/x?sort_order=up&format=xml", "");
    assert_int_equal(http_param_order(&r, &order, &err), ANX_E_PARAMS);
    assert_string_equal(err.message, "Invalid `sort_order` parameter");
    assert_int_equal(http_check_format(&r, &err), ANX_E_PARAMS);
    assert_string_equal(err.message, "Unexpected format names:'xml'");
    anx_arena_destroy(r.arena);
}

static void
test_limits(void **state)
{
    char target[4096];
    size_t at = 0;
    struct http_request r;
    anx_error err;

    (void) state;
    at += (size_t) snprintf(target, sizeof(target), "/x?");
    for (int i = 0; i < HTTP_PARAMS_MAX + 1; i++)
        at += (size_t) snprintf(target + at, sizeof(target) - at, "a=1&");
    memset(&r, 0, sizeof(r));
    r.arena = anx_arena_create(NULL, 1 << 20);
    assert_int_equal(http_request_parse(&r, anx_text_of(target), ANX_TEXT(""), &err), ANX_E_PARAMS);
    anx_arena_destroy(r.arena);

    memset(&r, 0, sizeof(r));
    r.arena = anx_arena_create(NULL, 1 << 20);
    assert_int_equal(http_request_parse(&r, ANX_TEXT("/1/2/3/4/5/6/7/8/9/10/11/12/13"), ANX_TEXT(""), &err),
                     ANX_E_NOT_FOUND);
    anx_arena_destroy(r.arena);
}

static void
test_routes(void **state)
{
    static const struct {
        enum http_verb method;
        const char *target;
        http_handler handler; /* NULL: none */
        const char *second;   /* names[1] */
    } rows[] = {
        { VERB_GET, "/api/v1/db", handle_db_list, NULL },
        { VERB_GET, "/api/v1/db/", handle_db_list, NULL },
        { VERB_PUT, "/api/v1/db", NULL, NULL },
        { VERB_DELETE, "/api/v1/db/main", handle_db_drop, NULL },
        { VERB_GET, "/api/v1/db/default_configs?type=profiling", handle_default_config, NULL },
        { VERB_GET, "/api/v1/db/main/namespaces/books/indexes", handle_index_list, "books" },
        { VERB_GET, "/api/v1/db/main/namespaces/%23config/items", handle_items_get, "#config" },
        { VERB_PATCH, "/api/v1/db/main/namespaces/books/items?precepts=id=serial()", handle_items_write,
          "books" },
        { VERB_POST, "/api/v1/db/main/transactions/abc_1/commit", handle_tx_commit, "abc_1" },
        { VERB_DELETE, "/api/v1/db/main/transactions/abc_1/query", handle_tx_dsl, "abc_1" },
        { VERB_PATCH, "/api/v1/db/main/sqlquery", NULL, NULL },
        { VERB_GET, "/api/v1/nothing/here", NULL, NULL },
        { VERB_GET, "/", handle_page, NULL },
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        struct http_request r;
        const struct http_route *route;

        parse(&r, rows[i].method, rows[i].target, "");
        route = http_route_find(&r);
        if (rows[i].handler) {
            assert_non_null(route);
            assert_ptr_equal(route->handle, rows[i].handler);
        } else {
            assert_null(route);
        }
        if (rows[i].second)
            assert_text(r.names[1], rows[i].second);
        anx_arena_destroy(r.arena);
    }
}

static void
test_status_object(void **state)
{
    struct http_request r;
    anx_error err = { .status = ANX_E_PARSE_SQL, .message = "Expected \"FROM\"" };

    (void) state;
    parse(&r, VERB_GET, "/", "");
    anx_buffer_init(&r.out, NULL, 1 << 16);
    http_answer_status(&r, ANX_OK, NULL);
    assert_int_equal(r.code, 200);
    assert_text((anx_text) { r.out.data, r.out.size },
                "{\"success\":true,\"response_code\":200,\"description\":\"\"}");
    r.with_location = true;
    r.location = (struct query_location) { true, 0, 3, 0, 9 };
    http_answer_status(&r, ANX_E_PARSE_SQL, &err);
    assert_int_equal(r.code, 400);
    assert_text((anx_text) { r.out.data, r.out.size },
                "{\"success\":false,\"response_code\":400,\"description\":\"Expected \\\"FROM\\\"\","
                "\"location\":{\"line_start\":0,\"column_start\":3,\"line_end\":0,\"column_end\":9}}");
    anx_buffer_fini(&r.out);
    anx_arena_destroy(r.arena);
}

static void
test_addresses(void **state)
{
    static const struct {
        const char *text, *host;
        unsigned port;
    } rows[] = {
        { "127.0.0.1:9088", "127.0.0.1", 9088 },
        { "[::1]:80", "::1", 80 },
        { ":0", "0.0.0.0", 0 },
        { "host", NULL, 0 },
        { "host:", NULL, 0 },
        { "host:65536", NULL, 0 },
        { "host:80x", NULL, 0 },
        { "host:-1", NULL, 0 },
    };

    (void) state;
    for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
        char host[64];
        uint16_t port;
        anx_error err;
        anx_status st = anx_address_parse(rows[i].text, host, sizeof(host), &port, &err);

        assert_int_equal(st, rows[i].host ? ANX_OK : ANX_E_INVALID);
        if (rows[i].host) {
            assert_string_equal(host, rows[i].host);
            assert_int_equal(port, rows[i].port);
        } else {
            assert_non_null(strstr(err.message, rows[i].text)); /* the error shows what was given */
        }
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_decoding),      cmocka_unit_test(test_params),
        cmocka_unit_test(test_limits),        cmocka_unit_test(test_routes),
        cmocka_unit_test(test_status_object), cmocka_unit_test(test_addresses),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
