/* Listeners, event loops and the worker pool.
 *
 * A loop is a thread with its own event_base and evhttp. All loops accept from the same sockets. A request
 * that goes to a worker is taken from its loop (libevent keeps it alive even when its connection dies
 * meanwhile) and comes back through the loop's `done` queue and an eventfd. Locks: pool.lock (queue of work),
 * loop.lock (queue of done); neither is held while anything else is taken. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/http.h>
#include <event2/keyvalq_struct.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "http/http_int.h"
#include "net/listen.h"

#define HEADERS_MAX (1 << 20)  /* a GET query carries its SQL, and that its vector, in the request line */
#define ARENA_LIMIT (1u << 30) /* of one request; bodies are not in it */
#define ARENAS_KEPT 64         /* per loop, for the next requests */
#define RETRY_ACCEPT_MS 100

struct http_loop {
    struct http_server *server;
    pthread_t thread;
    struct event_base *base;
    struct evhttp *plain, *secure;
    int wake; /* eventfd: requests in `done`, or the server stops */
    struct event *wake_event;
    pthread_mutex_t lock;
    struct http_request *done; /* guarded by lock; answered by workers */
    anx_arena *arenas[ARENAS_KEPT]; /* loop thread only */
    size_t n_arena;
    size_t n_pending; /* loop thread only: requests at workers */
    bool is_stopping; /* loop thread only */
};

struct http_pool {
    pthread_mutex_t lock;
    pthread_cond_t wake;
    struct http_request *first, **last; /* guarded by lock */
    bool is_stopping;                   /* guarded by lock */
    pthread_t *threads;
    size_t n_thread;
};

struct http_server {
    struct http_params params;
    struct anx_listen plain, secure;
    struct http_loop *loops;
    size_t n_loop;
    struct http_pool pool;
    struct http_counters counters;
    atomic_bool is_stopping;
};

const struct http_params *
http_server_params(const struct http_server *server)
{
    return &server->params;
}

struct http_counters *
http_server_counters(struct http_server *server)
{
    return &server->counters;
}

/* ---- Requests ---- */

static anx_arena *
arena_take(struct http_loop *loop)
{
    return loop->n_arena > 0 ? loop->arenas[--loop->n_arena] : anx_arena_create(NULL, ARENA_LIMIT);
}

static void
arena_give(struct http_loop *loop, anx_arena *arena)
{
    if (loop->n_arena < ARENAS_KEPT) {
        anx_arena_reset(arena);
        loop->arenas[loop->n_arena++] = arena;
    } else {
        anx_arena_destroy(arena);
    }
}

static void
free_answer(const void *data, size_t size, void *context)
{
    (void) size;
    (void) context;
    anx_free(NULL, (void *) (uintptr_t) data);
}

static void
log_access(const struct http_request *request)
{
    anx_log(
        ANX_LOG_INFO,
        "event=http client=%.*s user=%.*s method=%s target=\"%.*s\" status=%d bytes=%zu us=%llu",
        ANX_TEXT_ARG(request->client), ANX_TEXT_ARG(request->user.size > 0 ? request->user : ANX_TEXT("-")),
        (const char *[]){ "GET", "POST", "PUT", "PATCH", "DELETE" }[request->method],
        (int) (request->target.size < 200 ? request->target.size : 200), request->target.data, request->code,
        request->out.size, (unsigned long long) ((anx_clock_ns() - request->start_ns) / 1000));
}

/* Sends the answer and frees the request. On the loop's thread. */
static void
finish(struct http_request *request)
{
    struct http_loop *loop = request->loop;
    struct http_counters *counters = &loop->server->counters;
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request->ev);
    struct evbuffer *body = evhttp_request_get_output_buffer(request->ev);
    anx_arena *arena = request->arena;

    atomic_fetch_add_explicit(&counters->requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->bytes_out, request->out.size, memory_order_relaxed);
    if (request->code >= 400)
        atomic_fetch_add_explicit(&counters->errors, 1, memory_order_relaxed);
    if (loop->server->params.with_access_log)
        log_access(request);
    evhttp_add_header(headers, "Content-Type", request->content_type);
    evhttp_add_header(headers, "Server", "annex");
    if (request->is_challenge)
        evhttp_add_header(headers, "WWW-Authenticate", "Basic realm=\"reindexer\"");
    if (request->out.size > 0 &&
        evbuffer_add_reference(body, request->out.data, request->out.size, free_answer, NULL) == 0)
        request->out.data = NULL; /* libevent frees it when it is sent */
    evhttp_send_reply(request->ev, request->code, NULL, NULL);
    anx_buffer_fini(&request->out);
    arena_give(loop, arena); /* the request itself was in it */
}

static bool
method_of(struct evhttp_request *ev, enum http_method *out)
{
    switch (evhttp_request_get_command(ev)) {
    case EVHTTP_REQ_GET:
        *out = HTTP_GET;
        return true;
    case EVHTTP_REQ_POST:
        *out = HTTP_POST;
        return true;
    case EVHTTP_REQ_PUT:
        *out = HTTP_PUT;
        return true;
    case EVHTTP_REQ_PATCH:
        *out = HTTP_PATCH;
        return true;
    case EVHTTP_REQ_DELETE:
        *out = HTTP_DELETE;
        return true;
    default:
        return false;
    }
}

static anx_text
header(struct evhttp_request *ev, const char *name)
{
    return anx_text_of(evhttp_find_header(evhttp_request_get_input_headers(ev), name));
}

/* The request with head and body as texts; NULL when there is no memory. */
static struct http_request *
request_of(struct http_loop *loop, struct evhttp_request *ev, enum http_method method)
{
    struct evbuffer *input = evhttp_request_get_input_buffer(ev);
    size_t size = evbuffer_get_length(input);
    anx_arena *arena = arena_take(loop);
    struct http_request *request = arena ? anx_arena_array(arena, 1, sizeof(*request)) : NULL;
    struct evhttp_connection *connection = evhttp_request_get_connection(ev);
    char *address = NULL;
    ev_uint16_t port = 0;

    if (!request) {
        anx_arena_destroy(arena);
        return NULL;
    }
    if (connection)
        evhttp_connection_get_peer(connection, &address, &port);
    request->loop = loop;
    request->ev = ev;
    request->server = loop->server;
    request->arena = arena;
    request->method = method;
    request->start_ns = anx_clock_ns();
    request->target = anx_text_of(evhttp_request_get_uri(ev));
    request->body = (anx_text) { size > 0 ? (const char *) evbuffer_pullup(input, -1) : "", size };
    request->client = anx_arena_text(arena, anx_text_of(address));
    anx_buffer_init(&request->out, NULL,
                    loop->server->params.max_response_bytes > 0 ? loop->server->params.max_response_bytes
                                                                : SIZE_MAX);
    return request;
}

static void
hand_to_worker(struct http_request *request)
{
    struct http_pool *pool = &request->server->pool;

    request->loop->n_pending++;
    request->next = NULL;
    pthread_mutex_lock(&pool->lock);
    *pool->last = request;
    pool->last = &request->next;
    pthread_cond_signal(&pool->wake);
    pthread_mutex_unlock(&pool->lock);
}

static void
on_request(struct evhttp_request *ev, void *context)
{
    struct http_loop *loop = context;
    enum http_method method;
    struct http_request *request;
    anx_text form = { NULL, 0 }, type;
    anx_error err;
    anx_status st;

    if (!method_of(ev, &method)) {
        evhttp_add_header(evhttp_request_get_output_headers(ev), "Content-Type", "text/plain; charset=utf-8");
        evbuffer_add_printf(evhttp_request_get_output_buffer(ev), "Invalid method");
        evhttp_send_reply(ev, 400, NULL, NULL);
        return;
    }
    request = request_of(loop, ev, method);
    if (!request || (request->body.size > 0 && !request->body.data)) {
        evhttp_send_reply(ev, 503, NULL, NULL);
        return;
    }
    atomic_fetch_add_explicit(&loop->server->counters.bytes_in, request->body.size, memory_order_relaxed);
    type = header(ev, "Content-Type");
    if (type.size >= 33 && strncasecmp(type.data, "application/x-www-form-urlencoded", 33) == 0)
        form = request->body;
    st = http_request_parse(request, request->target, form, &err);
    if (st != ANX_OK)
        http_answer_status(request, st, &err);
    else if (http_request_begin(request, header(ev, "Authorization"), header(ev, "Request-Timeout"))) {
        hand_to_worker(request);
        return;
    }
    finish(request);
}

/* ---- Workers ---- */

static void *
work(void *context)
{
    struct http_server *server = context;
    struct http_pool *pool = &server->pool;

    for (;;) {
        struct http_request *request;
        struct http_loop *loop;
        uint64_t one = 1;

        pthread_mutex_lock(&pool->lock);
        while (!pool->first && !pool->is_stopping)
            pthread_cond_wait(&pool->wake, &pool->lock);
        request = pool->first;
        if (request) {
            pool->first = request->next;
            if (!pool->first)
                pool->last = &pool->first;
        }
        pthread_mutex_unlock(&pool->lock);
        if (!request)
            return NULL;
        http_request_run(request);
        loop = request->loop;
        pthread_mutex_lock(&loop->lock);
        request->next = loop->done;
        loop->done = request;
        pthread_mutex_unlock(&loop->lock);
        if (write(loop->wake, &one, sizeof(one)) < 0)
            anx_log(ANX_LOG_ERROR, "event=http_wake_failed errno=%d", errno);
    }
}

/* ---- Loops ---- */

static void
on_wake(evutil_socket_t fd, short what, void *context)
{
    struct http_loop *loop = context;
    struct http_request *list;
    uint64_t count;

    (void) what;
    while (read((int) fd, &count, sizeof(count)) > 0)
        ;
    pthread_mutex_lock(&loop->lock);
    list = loop->done;
    loop->done = NULL;
    pthread_mutex_unlock(&loop->lock);
    while (list) {
        struct http_request *next = list->next;

        loop->n_pending--;
        finish(list);
        list = next;
    }
    if (atomic_load(&loop->server->is_stopping) && loop->n_pending == 0) {
        /* What was just answered still has to leave: a moment for the sockets, then out. */
        struct timeval moment = { 0, 50000 };

        loop->is_stopping = true;
        event_base_loopexit(loop->base, &moment);
    }
}

static void *
run_loop(void *context)
{
    struct http_loop *loop = context;

    event_base_dispatch(loop->base);
    return NULL;
}

static struct bufferevent *
secure_connection(struct event_base *base, void *context)
{
    SSL_CTX *tls = anx_tls_acquire(context);
    SSL *ssl = tls ? SSL_new(tls) : NULL;
    struct bufferevent *connection = NULL;

    SSL_CTX_free(tls);
    if (ssl) {
        connection =
            bufferevent_openssl_socket_new(base, -1, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
        if (!connection)
            SSL_free(ssl);
        else
            bufferevent_openssl_set_allow_dirty_shutdown(connection, 1);
    }
    return connection;
}

static struct evhttp *
new_http(struct http_loop *loop, const struct anx_listen *listen)
{
    const struct http_params *params = &loop->server->params;
    struct evhttp *http = evhttp_new(loop->base);

    if (!http)
        return NULL;
    evhttp_set_gencb(http, on_request, loop);
    evhttp_set_allowed_methods(http,
                               (1 << 16) - 1); /* ours are told apart above, with the answer clients know */
    evhttp_set_max_headers_size(http, HEADERS_MAX);
    if (params->max_request_bytes > 0)
        evhttp_set_max_body_size(http, (ev_ssize_t) params->max_request_bytes);
    if (params->read_timeout_s > 0 || params->write_timeout_s > 0)
        evhttp_set_timeout(http, (int) (params->read_timeout_s > params->write_timeout_s
                                            ? params->read_timeout_s
                                            : params->write_timeout_s));
    for (size_t i = 0; i < listen->n; i++) {
        int fd = dup(listen->fds[i]);

        if (fd < 0 || evhttp_accept_socket(http, fd) != 0) {
            if (fd >= 0)
                close(fd);
            evhttp_free(http);
            return NULL;
        }
    }
    return http;
}

static anx_status
loop_open(struct http_loop *loop, struct http_server *server, anx_error *err)
{
    loop->server = server;
    pthread_mutex_init(&loop->lock, NULL);
    loop->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->base = event_base_new();
    if (loop->wake >= 0 && loop->base)
        loop->wake_event = event_new(loop->base, loop->wake, EV_READ | EV_PERSIST, on_wake, loop);
    if (!loop->wake_event || event_add(loop->wake_event, NULL) != 0)
        return anx_fail(err, ANX_E_NOMEM, "cannot make an event loop");
    if (server->plain.n > 0 && !(loop->plain = new_http(loop, &server->plain)))
        return anx_fail(err, ANX_E_NOMEM, "cannot listen for HTTP");
    if (server->secure.n > 0) {
        loop->secure = new_http(loop, &server->secure);
        if (!loop->secure)
            return anx_fail(err, ANX_E_NOMEM, "cannot listen for HTTPS");
        evhttp_set_bevcb(loop->secure, secure_connection, server->params.tls);
    }
    return ANX_OK;
}

static void
loop_free(struct http_loop *loop)
{
    if (loop->plain)
        evhttp_free(loop->plain);
    if (loop->secure)
        evhttp_free(loop->secure);
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->server && loop->wake >= 0)
        close(loop->wake);
    for (size_t i = 0; i < loop->n_arena; i++)
        anx_arena_destroy(loop->arenas[i]);
    if (loop->server)
        pthread_mutex_destroy(&loop->lock);
}

/* ---- The server ---- */

anx_status
http_address_parse(const char *text, char *host, size_t host_size, uint16_t *port, anx_error *err)
{
    const char *colon = strrchr(text, ':');
    size_t size = colon ? (size_t) (colon - text) : 0;
    char *end;
    unsigned long number;

    if (!colon || colon[1] < '0' || colon[1] > '9')
        return anx_fail(err, ANX_E_INVALID, "address \"%s\" is not HOST:PORT", text);
    number = strtoul(colon + 1, &end, 10);
    if (*end != '\0' || number > 65535)
        return anx_fail(err, ANX_E_INVALID, "port of address \"%s\" is not a number from 0 to 65535", text);
    if (size >= 2 && text[0] == '[' && text[size - 1] == ']') {
        text++;
        size -= 2;
    }
    if (size == 0) {
        text = "0.0.0.0";
        size = strlen(text);
    }
    if (size >= host_size)
        return anx_fail(err, ANX_E_INVALID, "host of address \"%s\" is longer than %zu bytes", text,
                        host_size - 1);
    memcpy(host, text, size);
    host[size] = '\0';
    *port = (uint16_t) number;
    return ANX_OK;
}

static anx_status
listen_at(struct anx_listen *listen, const char *address, anx_error *err)
{
    char host[256];
    uint16_t port;
    anx_status st;

    if (!address || strcmp(address, "none") == 0)
        return ANX_OK;
    st = http_address_parse(address, host, sizeof(host), &port, err);
    return st == ANX_OK ? anx_listen_open(listen, host, port, err) : st;
}

static anx_status
start_threads(struct http_server *server, anx_error *err)
{
    struct http_pool *pool = &server->pool;
    size_t n_worker = server->params.n_worker > 0 ? server->params.n_worker : 16;
    sigset_t all, old;
    int failed = 0;

    pool->threads = anx_alloc_zeroed(NULL, n_worker, sizeof(*pool->threads));
    if (!pool->threads)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu threads", n_worker);
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old); /* signals are the main thread's */
    while (failed == 0 && pool->n_thread < n_worker) {
        failed = pthread_create(&pool->threads[pool->n_thread], NULL, work, server);
        pool->n_thread += failed == 0;
    }
    while (failed == 0 && server->n_loop < server->params.n_loop) {
        failed = pthread_create(&server->loops[server->n_loop].thread, NULL, run_loop,
                                &server->loops[server->n_loop]);
        server->n_loop += failed == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed == 0 ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "cannot start a thread: %s", strerror(failed));
}

anx_status
http_server_open(const struct http_params *params, struct http_server **out, anx_error *err)
{
    struct http_server *server = anx_alloc_zeroed(NULL, 1, sizeof(*server));
    size_t n_cpu = anx_cpu_count();
    anx_status st = ANX_OK;

    *out = NULL;
    if (!server)
        return anx_fail(err, ANX_E_NOMEM, "no memory for the HTTP server");
    server->params = *params;
    if (server->params.n_loop == 0)
        server->params.n_loop = n_cpu < 2 ? 4 : 2 * n_cpu;
    pthread_mutex_init(&server->pool.lock, NULL);
    pthread_cond_init(&server->pool.wake, NULL);
    server->pool.last = &server->pool.first;
    server->loops = anx_alloc_zeroed(NULL, server->params.n_loop, sizeof(*server->loops));
    if (!server->loops)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu event loops", server->params.n_loop);
    if (st == ANX_OK)
        st = listen_at(&server->plain, params->address, err);
    if (st == ANX_OK && params->tls)
        st = listen_at(&server->secure, params->tls_address, err);
    for (size_t i = 0; st == ANX_OK && i < server->params.n_loop; i++)
        st = loop_open(&server->loops[i], server, err);
    if (st == ANX_OK)
        st = start_threads(server, err);
    if (st != ANX_OK) {
        http_server_close(server);
        return st;
    }
    *out = server;
    return ANX_OK;
}

unsigned
http_server_port(const struct http_server *server, bool tls)
{
    const struct anx_listen *listen = tls ? &server->secure : &server->plain;

    return listen->n > 0 ? listen->port : 0;
}

void
http_server_close(struct http_server *server)
{
    uint64_t one = 1;

    if (!server)
        return;
    atomic_store(&server->is_stopping, true);
    for (size_t i = 0; i < server->n_loop; i++) {
        if (write(server->loops[i].wake, &one, sizeof(one)) < 0)
            event_base_loopbreak(server->loops[i].base);
    }
    for (size_t i = 0; i < server->n_loop; i++)
        pthread_join(server->loops[i].thread, NULL);
    pthread_mutex_lock(&server->pool.lock);
    server->pool.is_stopping = true;
    pthread_cond_broadcast(&server->pool.wake);
    pthread_mutex_unlock(&server->pool.lock);
    for (size_t i = 0; i < server->pool.n_thread; i++)
        pthread_join(server->pool.threads[i], NULL);
    for (size_t i = 0; server->loops && i < server->params.n_loop; i++)
        loop_free(&server->loops[i]);
    anx_listen_close(&server->plain);
    anx_listen_close(&server->secure);
    pthread_cond_destroy(&server->pool.wake);
    pthread_mutex_destroy(&server->pool.lock);
    anx_free(NULL, server->pool.threads);
    anx_free(NULL, server->loops);
    anx_free(NULL, server);
}
