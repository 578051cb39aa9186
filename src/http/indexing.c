/* See indexing.h. */
#include "http/indexing.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "doc/json.h"

enum { REPLY_MAX = 1 << 20, TIMEOUT_MS = 1000, URL_MAX = 2000 };
#define KEPT_NS 1000000000u

struct http_indexing {
    char *url; /* owned, as are the next two; immutable */
    char *status_url;
    CURL *easy;
    pthread_mutex_t lock; /* held while it is asked: those who come meanwhile get that answer too */
    anx_buffer reply;     /* guarded by lock, as the rest */
    char failure[CURL_ERROR_SIZE]; /* "": reply is good */
    uint64_t asked_ns;    /* 0: never */
};

static bool
is_url(const char *url)
{
    size_t scheme = strncmp(url, "http://", 7) == 0 ? 7 : strncmp(url, "https://", 8) == 0 ? 8 : 0;

    return scheme > 0 && url[scheme] && url[scheme] != '/' && strlen(url) < URL_MAX &&
           url[strcspn(url, "@?# \t\r\n\"\\")] == '\0';
}

static size_t
on_body(char *data, size_t size, size_t n, void *context)
{
    anx_buffer *reply = context;

    anx_buffer_bytes(reply, data, size * n);
    return reply->failed ? 0 : size * n;
}

anx_status
http_indexing_open(const char *url, struct http_indexing **out, anx_error *err)
{
    struct http_indexing *x;
    size_t n = strlen(url), room = n + sizeof("/status");

    *out = NULL;
    if (!is_url(url))
        return anx_fail(
            err, ANX_E_INVALID,
            "--indexing-status is '%.200s', it must be http://HOST[:PORT][/PATH], without user or query",
            url);
    x = curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK ? anx_alloc_zeroed(NULL, 1, sizeof(*x)) : NULL;
    if (!x)
        return anx_fail(err, ANX_E_NOMEM, "no memory for the state of the indexing server");
    pthread_mutex_init(&x->lock, NULL);
    anx_buffer_init(&x->reply, NULL, REPLY_MAX);
    x->url = anx_alloc_zeroed(NULL, room, 1);
    x->status_url = anx_alloc_zeroed(NULL, room, 1);
    x->easy = curl_easy_init();
    if (!x->url || !x->status_url || !x->easy) {
        http_indexing_close(x);
        return anx_fail(err, ANX_E_NOMEM, "no memory for the state of the indexing server");
    }
    while (url[n - 1] == '/')
        n--;
    (void) snprintf(x->url, room, "%.*s", (int) n, url);
    (void) snprintf(x->status_url, room, "%s/status", x->url);
    curl_easy_setopt(x->easy, CURLOPT_URL, x->status_url);
    curl_easy_setopt(x->easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(x->easy, CURLOPT_PROXY, "");
    curl_easy_setopt(x->easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(x->easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(x->easy, CURLOPT_TIMEOUT_MS, (long) TIMEOUT_MS);
    curl_easy_setopt(x->easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(x->easy, CURLOPT_WRITEDATA, &x->reply);
    curl_easy_setopt(x->easy, CURLOPT_ERRORBUFFER, x->failure);
    *out = x;
    return ANX_OK;
}

void
http_indexing_close(struct http_indexing *x)
{
    if (!x)
        return;
    if (x->easy)
        curl_easy_cleanup(x->easy);
    anx_buffer_fini(&x->reply);
    anx_free(NULL, x->url);
    anx_free(NULL, x->status_url);
    pthread_mutex_destroy(&x->lock);
    anx_free(NULL, x);
    curl_global_cleanup();
}

/* lock held. */
static void
ask(struct http_indexing *x)
{
    anx_arena *arena = anx_arena_create(NULL, 16 * REPLY_MAX);
    struct json_node *node;
    anx_error err;
    long code = 0;
    CURLcode result;

    anx_buffer_clear(&x->reply);
    x->reply.failed = false;
    x->failure[0] = '\0';
    result = curl_easy_perform(x->easy);
    curl_easy_getinfo(x->easy, CURLINFO_RESPONSE_CODE, &code);
    if (x->reply.failed)
        (void) snprintf(x->failure, sizeof(x->failure), "the answer is larger than %d bytes", REPLY_MAX);
    else if (result != CURLE_OK && !x->failure[0])
        (void) snprintf(x->failure, sizeof(x->failure), "%s", curl_easy_strerror(result));
    else if (result == CURLE_OK && code != 200)
        (void) snprintf(x->failure, sizeof(x->failure), "it answered with HTTP status %ld", code);
    else if (result == CURLE_OK &&
             (!arena ||
              json_parse((anx_text){ x->reply.data, x->reply.size }, arena, &node, &err) != ANX_OK ||
              node->kind != JSON_OBJECT))
        (void) snprintf(x->failure, sizeof(x->failure), "the answer is not a JSON object");
    anx_arena_destroy(arena);
    x->asked_ns = anx_clock_ns();
}

anx_status
http_indexing_print(struct http_indexing *x, const struct db_session *session, anx_buffer *out,
                    anx_error *err)
{
    if (!x) {
        anx_buffer_text(out, ANX_TEXT("{\"configured\":false}"));
        return ANX_OK;
    }
    if (session->blocking && !session->blocking(session->blocking_context, true))
        return anx_fail(err, ANX_E_BUSY, "too many requests wait for other services");
    pthread_mutex_lock(&x->lock);
    if (x->asked_ns == 0 || anx_clock_ns() - x->asked_ns > KEPT_NS)
        ask(x);
    anx_buffer_text(out, ANX_TEXT("{\"configured\":true,\"url\":"));
    json_print_text(out, anx_text_of(x->url));
    anx_buffer_printf(out, ",\"reachable\":%s,\"age_ms\":%llu", x->failure[0] ? "false" : "true",
                      (unsigned long long) ((anx_clock_ns() - x->asked_ns) / 1000000));
    anx_buffer_text(out, x->failure[0] ? ANX_TEXT(",\"error\":") : ANX_TEXT(",\"status\":"));
    if (x->failure[0])
        json_print_text(out, anx_text_of(x->failure));
    else
        anx_buffer_bytes(out, x->reply.data, x->reply.size);
    anx_buffer_char(out, '}');
    pthread_mutex_unlock(&x->lock);
    if (session->blocking)
        (void) session->blocking(session->blocking_context, false);
    return ANX_OK;
}
