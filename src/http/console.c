/* The web console: its page, and the routes under api/v1/annex that it asks. */
#include <string.h>

#include "base/error.h"
#include "db/users.h"
#include "http/http_int.h"
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
