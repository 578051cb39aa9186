/* What is there for people and machines that look after the server. */
#include <stdatomic.h>
#include <time.h>

#include "base/error.h"
#include "db/system.h"
#include "http/http_int.h"

static void
member(anx_buffer *out, const char *name, const char *text)
{
    anx_buffer_printf(out, ",\"%s\":", name);
    json_print_text(out, anx_text_of(text ? text : ""));
}

anx_status
handle_check(struct http_request *r, anx_error *err)
{
    const struct http_info *info = http_server_params(r->server)->info;
    int64_t now = (int64_t) time(NULL);

    (void) err;
    anx_buffer_text(&r->out, ANX_TEXT("{\"version\":"));
    json_print_text(&r->out, anx_text_of(info->version));
    anx_buffer_printf(&r->out, ",\"start_time\":%lld,\"uptime\":%lld", (long long) info->start_time,
                      (long long) (now - info->start_time));
    member(&r->out, "rpc_address", info->rpc_address);
    member(&r->out, "http_address", info->http_address);
    member(&r->out, "https_address", info->https_address);
    member(&r->out, "storage_path", info->storage_path);
    member(&r->out, "log_level", info->log_level);
    anx_buffer_char(&r->out, '}');
    return ANX_OK;
}

anx_status
handle_role(struct http_request *r, anx_error *err)
{
    (void) err;
    anx_buffer_printf(&r->out, "{\"user_role\":\"%s\"}", db_role_name(r->session.role));
    return ANX_OK;
}

anx_status
handle_health(struct http_request *r, anx_error *err)
{
    (void) err;
    http_answer_plain(r, 200, ANX_TEXT("ok\n"));
    return ANX_OK;
}

anx_status
handle_allocator(struct http_request *r, anx_error *err)
{
    (void) err;
    http_answer_plain(r, 403, ANX_TEXT("The allocator of this server has no such control"));
    return ANX_OK;
}

anx_status
handle_metrics(struct http_request *r, anx_error *err)
{
    static const struct {
        const char *name, *help, *type;
        size_t offset;
    } rows[] = {
        { "annex_http_requests_total", "requests answered", "counter",
          offsetof(struct http_counters, requests) },
        { "annex_http_errors_total", "answers of 400 and above", "counter",
          offsetof(struct http_counters, errors) },
        { "annex_http_received_bytes_total", "bytes of bodies", "counter",
          offsetof(struct http_counters, bytes_in) },
        { "annex_http_sent_bytes_total", "bytes of answers", "counter",
          offsetof(struct http_counters, bytes_out) },
        { "annex_http_connections", "open connections", "gauge",
          offsetof(struct http_counters, connections) },
    };
    const struct http_params *params = http_server_params(r->server);
    const char *counters = (const char *) http_server_counters(r->server);

    if (!params->with_metrics)
        return anx_fail(err, ANX_E_NOT_FOUND, "Not found");
    r->content_type = "text/plain; version=0.0.4; charset=utf-8";
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        const _Atomic uint64_t *counter =
            (const _Atomic uint64_t *) (const void *) (counters + rows[i].offset);

        anx_buffer_printf(&r->out, "# HELP %s %s\n# TYPE %s %s\n%s %llu\n", rows[i].name, rows[i].help,
                          rows[i].name, rows[i].type, rows[i].name,
                          (unsigned long long) atomic_load(counter));
    }
    engine_print_metrics(params->engine, &r->out);
    return ANX_OK;
}
