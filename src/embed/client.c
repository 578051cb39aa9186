/* The HTTP client; see the header. A slot is an easy handle in a multi handle of its own, so that the thread
 * that uses it keeps the clock: libcurl alone looks at its time-outs only when something happens or once a
 * second.
 *
 * Lock: client->lock guards the list of free slots and their number; a slot that was taken belongs to its
 * taker. */
#include "embed/client.h"

#include <curl/curl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"

#ifndef ANX_VERSION
#define ANX_VERSION "unknown"
#endif

#define REPLY_MAX ((size_t) 512 << 20)
#define SLICE_MS 50 /* between two looks at the caller's wishes */
#define INPUTS_PER_TIMEOUT 100
#define REASON_SIZE 128
#define MS_NS ((uint64_t) 1000000)

struct slot {
    CURLM *multi;
    CURL *easy;
    struct slot *next;
    char problem[CURL_ERROR_SIZE];
};
struct embed_client {
    struct embed_client_params params; /* texts are owned */
    char *urls[2];                     /* owned: documents, queries */
    struct curl_slist *headers;
    pthread_mutex_t lock;
    pthread_cond_t freed;
    struct slot *idle; /* guarded by lock */
    unsigned n_slot;   /* made; guarded by lock */
    unsigned n_used;   /* guarded by lock */
    _Atomic uint64_t n_request; /* for jitter */
};

/* ---- Life ---- */

static pthread_once_t start_once = PTHREAD_ONCE_INIT;
static bool is_started;

static void
start_curl(void)
{
    is_started = curl_global_init(CURL_GLOBAL_ALL) == CURLE_OK;
}

static char *
copy_string(const char *text)
{
    size_t size = text ? strlen(text) + 1 : 1;
    char *copy = anx_alloc_zeroed(NULL, size, 1);

    if (copy && text)
        memcpy(copy, text, size);
    return copy;
}

/* <url>/api/v1/embedder/<name>/produce?format=<format> */
static char *
make_url(const char *base, const char *name, const char *format)
{
    size_t n = strlen(base);
    anx_buffer out;

    while (n > 0 && base[n - 1] == '/')
        n--;
    anx_buffer_init(&out, NULL, 1 << 20);
    anx_buffer_bytes(&out, base, n);
    anx_buffer_text(&out, ANX_TEXT("/api/v1/embedder/"));
    for (const char *c = name; *c; c++) {
        bool is_plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') ||
                        *c == '-' || *c == '_' || *c == '.' || *c == '~';

        if (is_plain)
            anx_buffer_char(&out, *c);
        else
            anx_buffer_printf(&out, "%%%02X", (unsigned) (unsigned char) *c);
    }
    anx_buffer_printf(&out, "/produce?format=%s", format);
    anx_buffer_char(&out, 0);
    if (out.failed) {
        anx_buffer_fini(&out);
        return NULL;
    }
    return out.data;
}

static bool
add_header(struct embed_client *client, const char *line)
{
    struct curl_slist *more = curl_slist_append(client->headers, line);

    if (more)
        client->headers = more;
    return more != NULL;
}

static bool
add_headers(struct embed_client *client)
{
    const char *token = client->params.token_env ? getenv(client->params.token_env) : NULL;
    bool ok = add_header(client, "Content-Type: application/json") && add_header(client, "Expect:");
    anx_buffer line;

    if (!ok || !token)
        return ok;
    anx_buffer_init(&line, NULL, 1 << 16);
    anx_buffer_printf(&line, "Authorization: Bearer %s", token);
    anx_buffer_char(&line, 0);
    ok = !line.failed && !strpbrk(token, "\r\n") && add_header(client, line.data);
    anx_buffer_fini(&line);
    return ok;
}

anx_status
embed_client_create(const struct embed_client_params *params, struct embed_client **out, anx_error *err)
{
    struct embed_client *client;
    pthread_condattr_t monotonic;

    *out = NULL;
    pthread_once(&start_once, start_curl);
    if (!is_started)
        return anx_fail(err, ANX_E_SYSTEM, "libcurl does not start");
    client = anx_alloc_zeroed(NULL, 1, sizeof(*client));
    if (!client)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the client of an embedding service");
    client->params = *params;
    client->params.url = client->params.name = client->params.token_env = NULL;
    client->urls[0] = make_url(params->url, params->name, params->is_text_only ? "text" : "json");
    client->urls[1] = make_url(params->url, params->name, "text");
    client->params.url = make_url(params->url, params->name, "");
    client->params.token_env = params->token_env ? copy_string(params->token_env) : NULL;
    pthread_mutex_init(&client->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&client->freed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    if (!client->urls[0] || !client->urls[1] || !client->params.url ||
        (params->token_env && !client->params.token_env) || !add_headers(client)) {
        embed_client_destroy(client);
        return anx_fail(err, ANX_E_NOMEM, "could not make the client of embedding service %s", params->url);
    }
    *(char *) (uintptr_t) strchr(client->params.url, '?') = 0;
    *out = client;
    return ANX_OK;
}

static void
free_slot(struct slot *slot)
{
    if (slot->easy)
        curl_easy_cleanup(slot->easy);
    if (slot->multi)
        curl_multi_cleanup(slot->multi);
    anx_free(NULL, slot);
}

void
embed_client_destroy(struct embed_client *client)
{
    if (!client)
        return;
    for (struct slot *slot = client->idle, *next; slot; slot = next) {
        next = slot->next;
        free_slot(slot);
    }
    curl_slist_free_all(client->headers);
    for (size_t i = 0; i < 2; i++)
        anx_free(NULL, client->urls[i]);
    anx_free(NULL, (void *) (uintptr_t) client->params.url);
    anx_free(NULL, (void *) (uintptr_t) client->params.token_env);
    pthread_cond_destroy(&client->freed);
    pthread_mutex_destroy(&client->lock);
    anx_free(NULL, client);
}

unsigned
embed_client_in_use(struct embed_client *client)
{
    unsigned n;

    pthread_mutex_lock(&client->lock);
    n = client->n_used;
    pthread_mutex_unlock(&client->lock);
    return n;
}

const char *
embed_client_url(const struct embed_client *client)
{
    return client->params.url;
}

/* ---- Slots ---- */

static anx_status
check_call(const struct embed_call *call, anx_error *err)
{
    if (call->deadline_ns > 0 && anx_clock_ns() >= call->deadline_ns)
        return anx_fail(err, ANX_E_TIMEOUT,
                        "Embedding service is unavailable (request was canceled/timed out)");
    if (call->should_stop && call->should_stop(call->stop_context))
        return anx_fail(err, ANX_E_CANCELLED,
                        "Embedding service is unavailable (request was canceled/timed out)");
    return ANX_OK;
}

static struct slot *
make_slot(void)
{
    struct slot *slot = anx_alloc_zeroed(NULL, 1, sizeof(*slot));

    if (!slot)
        return NULL;
    slot->multi = curl_multi_init();
    slot->easy = curl_easy_init();
    if (slot->multi && slot->easy)
        return slot;
    free_slot(slot);
    return NULL;
}

/* A slot of ours, made or waited for. */
static anx_status
take_slot(struct embed_client *client, const struct embed_call *call, struct slot **out, anx_error *err)
{
    anx_status st = ANX_OK;

    *out = NULL;
    pthread_mutex_lock(&client->lock);
    while (st == ANX_OK && client->n_used >= client->params.connections) {
        uint64_t until = anx_clock_ns() + SLICE_MS * MS_NS;
        struct timespec time = { (time_t) (until / 1000000000u), (long) (until % 1000000000u) };

        pthread_cond_timedwait(&client->freed, &client->lock, &time);
        if (client->n_used >= client->params.connections)
            st = check_call(call, err);
    }
    if (st == ANX_OK) {
        *out = client->idle;
        if (*out)
            client->idle = (*out)->next;
        else
            *out = make_slot();
        client->n_used += *out != NULL;
    }
    pthread_mutex_unlock(&client->lock);
    if (st == ANX_OK && !*out)
        st = anx_fail(err, ANX_E_SERVICE, "Some of the connectors are not available");
    return st;
}

static void
give_slot(struct embed_client *client, struct slot *slot)
{
    pthread_mutex_lock(&client->lock);
    slot->next = client->idle;
    client->idle = slot;
    client->n_used--;
    pthread_cond_signal(&client->freed);
    pthread_mutex_unlock(&client->lock);
}

/* ---- One exchange ---- */

struct exchange {
    struct embed_client *client;
    const struct embed_call *call;
    struct slot *slot;
    anx_buffer *reply;
    char reason[REASON_SIZE];
    bool is_too_large;
    uint64_t connect_ns, write_ns, read_ns; /* limits */
    uint64_t start_ns, connected_ns, sent_ns; /* moments; 0: not yet */
};

static size_t
on_body(char *data, size_t size, size_t n, void *context)
{
    struct exchange *x = context;

    anx_buffer_bytes(x->reply, data, size * n);
    x->is_too_large = x->reply->failed;
    return x->reply->failed ? 0 : size * n;
}

/* The status line: "HTTP/1.1 500 Internal Server Error". */
static size_t
on_header(char *data, size_t size, size_t n, void *context)
{
    struct exchange *x = context;
    size_t total = size * n, at = 0;

    if (total < 5 || memcmp(data, "HTTP/", 5) != 0)
        return total;
    for (int blanks = 0; at < total && blanks < 2; at++)
        blanks += data[at] == ' ';
    while (total > at && (data[total - 1] == '\r' || data[total - 1] == '\n'))
        total--;
    (void) snprintf(x->reason, sizeof(x->reason), "%.*s", (int) (total - at), data + at);
    return size * n;
}

static void
prepare(struct exchange *x, bool is_query, anx_text body)
{
    const char *authorities = getenv("ANNEX_EMBEDDER_CA_FILE");
    CURL *easy = x->slot->easy;

    curl_easy_reset(easy);
    x->slot->problem[0] = 0;
    curl_easy_setopt(easy, CURLOPT_URL, x->client->urls[is_query]);
    curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(easy, CURLOPT_PROXY, "");
    curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
    curl_easy_setopt(easy, CURLOPT_HTTP_VERSION, (long) CURL_HTTP_VERSION_1_1);
    curl_easy_setopt(easy, CURLOPT_FOLLOWLOCATION, 0L);
    curl_easy_setopt(easy, CURLOPT_TCP_NODELAY, 1L);
    curl_easy_setopt(easy, CURLOPT_USERAGENT, "annex/" ANX_VERSION);
    curl_easy_setopt(easy, CURLOPT_HTTPHEADER, x->client->headers);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDS, body.data);
    curl_easy_setopt(easy, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t) body.size);
    curl_easy_setopt(easy, CURLOPT_CONNECTTIMEOUT_MS, (long) x->client->params.connect_ms);
    curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(easy, CURLOPT_WRITEDATA, x);
    curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(easy, CURLOPT_HEADERDATA, x);
    curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, x->slot->problem);
    if (authorities && *authorities)
        curl_easy_setopt(easy, CURLOPT_CAINFO, authorities);
}

static anx_status
fail_transport(struct exchange *x, const char *cause, anx_error *err)
{
    const char *more = x->slot->problem;

    return anx_fail(err, ANX_E_SERVICE, "Unexpected problem with client, error: %s%s%.100s%s", cause,
                    *more ? " (" : "", more, *more ? ")" : "");
}

/* What phase is it, and has it taken too long? */
static anx_status
check_times(struct exchange *x, size_t body_size, anx_error *err)
{
    uint64_t now = anx_clock_ns();
    curl_off_t connected = 0, sent = 0;

    curl_easy_getinfo(x->slot->easy, CURLINFO_PRETRANSFER_TIME_T, &connected);
    curl_easy_getinfo(x->slot->easy, CURLINFO_SIZE_UPLOAD_T, &sent);
    if (connected > 0 && x->connected_ns == 0)
        x->connected_ns = now;
    if (x->connected_ns > 0 && x->sent_ns == 0 && sent >= (curl_off_t) body_size)
        x->sent_ns = now;
    if (x->sent_ns > 0)
        return now - x->sent_ns < x->read_ns
                   ? ANX_OK
                   : fail_transport(x, "Failed to read connection: no reply in time", err);
    if (x->connected_ns > 0)
        return now - x->connected_ns < x->write_ns
                   ? ANX_OK
                   : fail_transport(x, "Failed to write connection: not sent in time", err);
    return now - x->start_ns < x->connect_ns
               ? ANX_OK
               : fail_transport(x, "Could not establish connection in time", err);
}

static anx_status
judge(struct exchange *x, CURLcode code, long *status, anx_error *err)
{
    if (code == CURLE_OK) {
        curl_easy_getinfo(x->slot->easy, CURLINFO_RESPONSE_CODE, status);
        if (*status == 200)
            return ANX_OK;
        if (!x->reason[0])
            (void) snprintf(x->reason, sizeof(x->reason), "HTTP status %ld", *status);
        return anx_fail(err, ANX_E_SERVICE, "%s", x->reason);
    }
    if (x->is_too_large)
        return fail_transport(x, "the reply is too large", err);
    switch (code) {
    case CURLE_COULDNT_RESOLVE_HOST:
    case CURLE_COULDNT_CONNECT:
    case CURLE_OPERATION_TIMEDOUT: return fail_transport(x, "Could not establish connection", err);
    case CURLE_SEND_ERROR: return fail_transport(x, "Failed to write connection", err);
    case CURLE_RECV_ERROR:
    case CURLE_GOT_NOTHING:
    case CURLE_PARTIAL_FILE: return fail_transport(x, "Failed to read connection", err);
    case CURLE_SSL_CONNECT_ERROR:
    case CURLE_PEER_FAILED_VERIFICATION:
    case CURLE_SSL_CACERT_BADFILE: return fail_transport(x, "TLS connection failed", err);
    default: return fail_transport(x, curl_easy_strerror(code), err);
    }
}

static anx_status
drive(struct exchange *x, size_t body_size, long *status, anx_error *err)
{
    int n_running = 1;
    anx_status st = ANX_OK;

    x->start_ns = anx_clock_ns();
    for (;;) {
        CURLMsg *message;
        int n_left;

        if (curl_multi_perform(x->slot->multi, &n_running) != CURLM_OK)
            return fail_transport(x, "libcurl failed", err);
        message = curl_multi_info_read(x->slot->multi, &n_left);
        if (message && message->msg == CURLMSG_DONE)
            return judge(x, message->data.result, status, err);
        st = check_times(x, body_size, err);
        if (st == ANX_OK)
            st = check_call(x->call, err);
        if (st != ANX_OK)
            return st;
        curl_multi_poll(x->slot->multi, NULL, 0, SLICE_MS, NULL);
    }
}

static uint64_t
limit_ns(unsigned ms, size_t n_input)
{
    return (uint64_t) ms * MS_NS * (1 + (n_input - 1) / INPUTS_PER_TIMEOUT);
}

static anx_status
exchange(struct embed_client *client, bool is_query, const struct embed_call *call, anx_text body,
         size_t n_input, anx_buffer *reply, long *status, struct embed_traffic *traffic, anx_error *err)
{
    struct exchange x = { .client = client, .call = call, .reply = reply };
    uint64_t start = anx_clock_ns();
    anx_status st = take_slot(client, call, &x.slot, err);

    traffic->wait_ns += anx_clock_ns() - start;
    if (st != ANX_OK)
        return st;
    x.connect_ns = limit_ns(client->params.connect_ms, 1);
    x.write_ns = limit_ns(client->params.write_ms, n_input);
    x.read_ns = limit_ns(client->params.read_ms, n_input);
    prepare(&x, is_query, body);
    if (curl_multi_add_handle(x.slot->multi, x.slot->easy) == CURLM_OK) {
        st = drive(&x, body.size, status, err);
        curl_multi_remove_handle(x.slot->multi, x.slot->easy); /* ends what was given up */
    } else {
        st = fail_transport(&x, "libcurl failed", err);
    }
    traffic->out_bytes += body.size;
    traffic->in_bytes += reply->size;
    give_slot(client, x.slot);
    return st;
}

/* ---- Retries ---- */

static bool
may_come_back(anx_status st, long status)
{
    return st == ANX_E_SERVICE && (status == 0 || status == 429 || status >= 500);
}

/* backoff * 2^attempt, between half of it and all of it. */
static anx_status
wait_before(struct embed_client *client, const struct embed_call *call, unsigned attempt, anx_error *err)
{
    anx_rng rng = anx_rng_seed(atomic_fetch_add(&client->n_request, 1) ^ anx_clock_ns());
    uint64_t most = (uint64_t) client->params.backoff_ms << (attempt < 10 ? attempt : 10);
    uint64_t until = anx_clock_ns() + (most / 2 + anx_rng_next(&rng) % (most / 2 + 1)) * MS_NS;
    anx_status st = ANX_OK;

    while (st == ANX_OK && anx_clock_ns() < until) {
        uint64_t left = until - anx_clock_ns();
        struct timespec slice = { 0, (long) (left < SLICE_MS * MS_NS ? left : SLICE_MS * MS_NS) };

        nanosleep(&slice, NULL);
        st = check_call(call, err);
    }
    return st;
}

anx_status
embed_client_post(struct embed_client *client, bool is_query, const struct embed_call *call, anx_text body,
                  size_t n_input, anx_buffer *reply, long *status, struct embed_traffic *traffic,
                  anx_error *err)
{
    for (unsigned attempt = 0;; attempt++) {
        anx_error waited;
        anx_status st;

        *status = 0;
        anx_buffer_clear(reply);
        reply->max = REPLY_MAX;
        st = exchange(client, is_query, call, body, n_input, reply, status, traffic, err);
        if (attempt >= client->params.retries || !may_come_back(st, *status) ||
            wait_before(client, call, attempt, &waited) != ANX_OK)
            return st; /* the cause, also when there is no time to try again */
    }
}
