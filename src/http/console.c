/* The web console: its page, and the routes under api/v1/annex that it asks. */
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "db/users.h"
#include "http/http_int.h"
#include "http/indexing.h"
#include "http/page.h"

/* ---- The page ---- */

/* The first of a list's parts, without blanks around it; *list becomes what is behind its `mark`. */
static anx_text
next_part(anx_text *list, char mark)
{
    const char *at = memchr(list->data, mark, list->size);
    anx_text part = { list->data, at ? (size_t) (at - list->data) : list->size };

    list->data += part.size + (at != NULL);
    list->size -= part.size + (at != NULL);
    while (part.size > 0 && (*part.data == ' ' || *part.data == '\t'))
        part = (anx_text) { part.data + 1, part.size - 1 };
    while (part.size > 0 && (part.data[part.size - 1] == ' ' || part.data[part.size - 1] == '\t'))
        part.size--;
    return part;
}

/* Is `gzip` among the codings, with a weight that is not 0 (RFC 9110, 12.5.3)? */
static bool
takes_gzip(anx_text codings)
{
    while (codings.size > 0) {
        anx_text rest = next_part(&codings, ',');
        anx_text name = next_part(&rest, ';');

        if (!anx_text_equal_fold(name, ANX_TEXT("gzip")))
            continue;
        for (size_t i = 0; i < rest.size; i++)
            if (rest.data[i] >= '1' && rest.data[i] <= '9')
                return true;
        return rest.size == 0;
    }
    return false;
}

anx_status
handle_page(struct http_request *r, anx_error *err)
{
    static const char policy[] = "\r\nX-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer"
                                 "\r\nCache-Control: no-cache\r\nVary: Accept-Encoding";
    const struct http_page *page = &http_console_page;
    bool is_gzipped = takes_gzip(r->accept_encoding);
    bool is_known = r->if_none_match.size > 0 &&
                    memmem(r->if_none_match.data, r->if_none_match.size, page->etag, strlen(page->etag));
    anx_buffer headers;

    anx_buffer_init(&headers, NULL, 4096);
    anx_buffer_printf(&headers, "\r\nETag: %s\r\nContent-Security-Policy: %s%s%s", page->etag, page->policy,
                      policy, is_gzipped && !is_known ? "\r\nContent-Encoding: gzip" : "");
    r->headers = anx_arena_text(r->arena, (anx_text){ headers.data, headers.size });
    if (headers.failed || !r->headers.data) {
        anx_buffer_fini(&headers);
        r->headers = (anx_text){ NULL, 0 };
        return anx_fail(err, ANX_E_NOMEM, "no memory for the page");
    }
    anx_buffer_fini(&headers);
    r->content_type = "text/html; charset=utf-8";
    r->is_unmeasured = true;
    r->is_bodyless = is_known;
    if (is_known)
        r->code = 304;
    else if (is_gzipped)
        anx_buffer_bytes(&r->out, page->gzipped, page->gzipped_size);
    else
        anx_buffer_bytes(&r->out, page->plain, page->plain_size);
    return ANX_OK;
}

anx_status
handle_page_alias(struct http_request *r, anx_error *err)
{
    (void) err;
    r->headers = ANX_TEXT("\r\nLocation: /");
    http_answer_plain(r, 302, ANX_TEXT("The console is at /\n"));
    return ANX_OK;
}

/* ---- Who asks ---- */

static void
print_role(void *context, anx_text database, enum db_role role)
{
    anx_buffer *out = context;

    if (out->size > 0 && out->data[out->size - 1] != '{')
        anx_buffer_char(out, ',');
    json_print_text(out, database);
    anx_buffer_printf(out, ":\"%s\"", db_role_name(role));
}

anx_status
handle_whoami(struct http_request *r, anx_error *err)
{
    (void) err;
    anx_buffer_text(&r->out, ANX_TEXT("{\"user\":"));
    if (r->login)
        json_print_text(&r->out, r->user);
    else
        anx_buffer_text(&r->out, ANX_TEXT("null"));
    anx_buffer_printf(&r->out, ",\"auth\":%s,\"roles\":{", r->login ? "true" : "false");
    users_each_role(r->login, print_role, &r->out);
    anx_buffer_text(&r->out, ANX_TEXT("},\"version\":"));
    json_print_text(&r->out, anx_text_of(http_server_params(r->server)->info->version));
    anx_buffer_char(&r->out, '}');
    return ANX_OK;
}

/* ---- Counters ---- */

/* The resident set; 0 where the system does not tell. */
static uint64_t
resident_bytes(void)
{
    FILE *file = fopen("/proc/self/statm", "re");
    unsigned long long whole, resident = 0;

    if (!file)
        return 0;
    if (fscanf(file, "%llu %llu", &whole, &resident) != 2)
        resident = 0;
    fclose(file);
    return resident * (uint64_t) sysconf(_SC_PAGESIZE);
}

static uint64_t
load(const _Atomic uint64_t *counter)
{
    return atomic_load_explicit(counter, memory_order_relaxed);
}

anx_status
handle_counters(struct http_request *r, anx_error *err)
{
    const struct http_counters *c = http_server_counters(r->server);
    const struct {
        const char *name;
        uint64_t value;
    } rows[] = {
        { "uptime_ms", (anx_clock_ns() - c->start_ns) / 1000000 },
        { "requests", load(&c->requests) },
        { "errors", load(&c->errors) },
        { "queries", load(&c->queries) },
        { "connections", load(&c->connections) },
        { "received_bytes", load(&c->bytes_in) },
        { "sent_bytes", load(&c->bytes_out) },
        { "memory_bytes", resident_bytes() },
    };
    uint64_t count = 0;

    (void) err;
    r->is_unmeasured = true;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        anx_buffer_printf(&r->out, "%c\"%s\":%llu", i == 0 ? '{' : ',', rows[i].name,
                          (unsigned long long) rows[i].value);
    anx_buffer_text(&r->out, ANX_TEXT(",\"latency_us\":{\"bounds\":"));
    for (size_t i = 0; i < HTTP_LATENCIES; i++)
        anx_buffer_printf(&r->out, "%c%u", i == 0 ? '[' : ',', http_latency_bounds[i]);
    anx_buffer_text(&r->out, ANX_TEXT("],\"counts\":"));
    for (size_t i = 0; i <= HTTP_LATENCIES; i++) {
        uint64_t n = load(&c->latency[i]);

        anx_buffer_printf(&r->out, "%c%llu", i == 0 ? '[' : ',', (unsigned long long) n);
        count += n;
    }
    anx_buffer_printf(&r->out, "],\"sum\":%llu,\"count\":%llu}}", (unsigned long long) load(&c->latency_us),
                      (unsigned long long) count);
    return ANX_OK;
}

/* ---- The indexing server ---- */

anx_status
handle_indexing(struct http_request *r, anx_error *err)
{
    r->is_unmeasured = true;
    return http_indexing_print(http_server_indexing(r->server), &r->session, &r->out, err);
}
