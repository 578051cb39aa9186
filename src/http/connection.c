/* One client's connection: bytes to requests (http-parser), answers to bytes, with or without TLS.
 *
 * A connection is READING, HANDLED (its request is at a worker) or SENDING. Only while READING does it listen
 * to its socket: bytes behind the current request wait in `rest` (pipelining), later ones in the kernel. A
 * short request is read, answered and sent within one wake-up, by one read and one write. */
#include <errno.h>
#include <http_parser.h>
#include <openssl/err.h>
#include <poll.h>
#include <stdio.h>
#include <strings.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "http/loop.h"
#include "net/tls.h"

#define ARENA_LIMIT (1u << 30)     /* of one request; bodies are not in it */
#define BODY_RESERVED (1u << 20)   /* taken at once when a client announces a body; more only as it comes */
#define BUFFER_KEPT (64u << 10)    /* bytes of a buffer that stay with the connection for its next request */
#define HEADERS_MAX 256            /* header lines of a request */

enum connection_state { READING, HANDLED, SENDING };

/* Headers that mean something here, and where their values are in `text`. */
enum { H_AUTHORIZATION, H_TIMEOUT, H_CONTENT_TYPE, H_EXPECT, H_ENCODING, H_NONE_MATCH, H_COUNT };
static const char *const header_names[H_COUNT] = { "authorization", "request-timeout", "content-type",
                                                   "expect",        "accept-encoding", "if-none-match" };

struct span {
    size_t at, size;
};

struct http_connection {
    struct http_loop *loop;
    struct http_connection *next, *previous;
    int fd;
    SSL *ssl; /* NULL: plain */
    struct event *read_event, *write_event;
    bool is_listening; /* read_event is added */
    enum connection_state state;
    uint64_t active_s; /* when bytes last moved */
    char client[ANX_ADDRESS_TEXT];

    http_parser parser;
    anx_buffer text; /* target and values of headers */
    anx_buffer body;
    anx_buffer rest; /* read, but behind the current request */
    struct span target, values[H_COUNT];
    char name[32]; /* of the header being read */
    size_t n_name, n_header;
    bool in_value, is_started, is_complete;
    int refused; /* HTTP code: the request is not taken, and the connection closes behind the answer */
    const char *refusal;

    anx_buffer head; /* of the answer */
    anx_buffer out;  /* its body */
    size_t n_sent;   /* of both */
    bool keeps_alive, is_head_request;
};

/* ---- Sockets ---- */

enum moved { MOVED, AGAIN, GONE };

static enum moved
secure_result(struct http_connection *c, int result)
{
    int why = SSL_get_error(c->ssl, result);

    ERR_clear_error();
    if (why == SSL_ERROR_WANT_READ)
        return AGAIN;
    if (why == SSL_ERROR_WANT_WRITE) { /* a handshake's or a key update's bytes: go on when they fit */
        event_add(c->write_event, NULL);
        return AGAIN;
    }
    return GONE;
}

static enum moved
receive(struct http_connection *c, char *data, size_t capacity, size_t *size)
{
    if (c->ssl) {
        int n = SSL_read(c->ssl, data, (int) capacity);

        if (n <= 0)
            return secure_result(c, n);
        *size = (size_t) n;
        return MOVED;
    }
    for (;;) {
        ssize_t n = recv(c->fd, data, capacity, 0);

        if (n > 0) {
            *size = (size_t) n;
            return MOVED;
        }
        if (n < 0 && errno == EINTR)
            continue;
        return n < 0 && (errno == EAGAIN || errno == EWOULDBLOCK) ? AGAIN : GONE;
    }
}

static enum moved
transmit(struct http_connection *c, const struct iovec *parts, size_t n_part, size_t *size)
{
    struct msghdr message = { .msg_iov = (struct iovec *) (uintptr_t) parts, .msg_iovlen = n_part };

    if (c->ssl) {
        size_t most = parts[0].iov_len < 1 << 20 ? parts[0].iov_len : 1 << 20;
        int n = SSL_write(c->ssl, parts[0].iov_base, (int) most);

        if (n <= 0)
            return secure_result(c, n);
        *size = (size_t) n;
        return MOVED;
    }
    for (;;) {
        ssize_t n = sendmsg(c->fd, &message, MSG_NOSIGNAL);

        if (n >= 0) {
            *size = (size_t) n;
            return MOVED;
        }
        if (errno == EINTR)
            continue;
        return errno == EAGAIN || errno == EWOULDBLOCK ? AGAIN : GONE;
    }
}

/* ---- The parser's callbacks ---- */

static int
refuse(struct http_connection *connection, int code, const char *why)
{
    connection->refused = code;
    connection->refusal = why;
    return -1;
}

static void
reset_request(struct http_connection *c)
{
    anx_buffer_clear(&c->text);
    anx_buffer_clear(&c->body);
    if (c->body.capacity > BUFFER_KEPT) {
        size_t max = c->body.max;

        anx_buffer_fini(&c->body);
        anx_buffer_init(&c->body, NULL, max);
    }
    c->target = (struct span) { 0, 0 };
    memset(c->values, 0, sizeof(c->values));
    c->n_name = c->n_header = 0;
    c->in_value = c->is_started = c->is_complete = false;
    c->refused = 0;
}

static int
on_begin(http_parser *parser)
{
    struct http_connection *c = parser->data;

    reset_request(c);
    c->is_started = true;
    return 0;
}

static int
on_url(http_parser *parser, const char *data, size_t size)
{
    struct http_connection *c = parser->data;

    anx_buffer_bytes(&c->text, data, size);
    c->target.size += size;
    return c->text.failed ? refuse(c, 503, "no memory for the request") : 0;
}

static int
on_field(http_parser *parser, const char *data, size_t size)
{
    struct http_connection *c = parser->data;

    if (c->in_value) {
        c->in_value = false;
        c->n_name = 0;
        if (++c->n_header > HEADERS_MAX)
            return refuse(c, 431, "more than 256 header lines");
    }
    for (size_t i = 0; i < size && c->n_name < sizeof(c->name); i++)
        c->name[c->n_name++] = data[i];
    return 0;
}

static int
on_value(http_parser *parser, const char *data, size_t size)
{
    struct http_connection *c = parser->data;

    for (size_t i = 0; i < H_COUNT; i++) {
        if (strlen(header_names[i]) != c->n_name || strncasecmp(header_names[i], c->name, c->n_name) != 0)
            continue;
        if (!c->in_value)
            c->values[i] = (struct span) { c->text.size, 0 };
        anx_buffer_bytes(&c->text, data, size);
        c->values[i].size += size;
    }
    c->in_value = true;
    return c->text.failed ? refuse(c, 503, "no memory for the request") : 0;
}

static anx_text
text_at(const struct http_connection *c, struct span span)
{
    return (anx_text) { span.size > 0 ? c->text.data + span.at : NULL, span.size };
}

static int
on_head(http_parser *parser)
{
    struct http_connection *c = parser->data;
    size_t most = http_server_params(c->loop->server)->max_request_bytes;
    uint64_t size = parser->content_length; /* UINT64_MAX: not told */

    parser->upgrade = 0; /* a wish to switch protocols is not followed (RFC 9110, 7.8) */
    if (most > 0 && size != UINT64_MAX && size > most)
        return refuse(c, 413, NULL);
    if (size != UINT64_MAX && size > 0 &&
        !anx_buffer_reserve(&c->body, size < BODY_RESERVED ? size : BODY_RESERVED))
        return refuse(c, 503, "no memory for the request");
    if (anx_text_equal_fold(text_at(c, c->values[H_EXPECT]), ANX_TEXT("100-continue"))) {
        /* So small that it fits the socket, or the client has other troubles; it may go on without. */
        static const char go_on[] = "HTTP/1.1 100 Continue\r\n\r\n";
        struct iovec part = { (void *) (uintptr_t) go_on, sizeof(go_on) - 1 };
        size_t sent;

        (void) transmit(c, &part, 1, &sent);
    }
    return 0;
}

static int
on_body(http_parser *parser, const char *data, size_t size)
{
    struct http_connection *c = parser->data;
    size_t most = http_server_params(c->loop->server)->max_request_bytes;

    if (most > 0 && size > most - c->body.size)
        return refuse(c, 413, NULL);
    anx_buffer_bytes(&c->body, data, size);
    return c->body.failed ? refuse(c, 503, "no memory for the request") : 0;
}

static int
on_complete(http_parser *parser)
{
    struct http_connection *c = parser->data;

    c->is_complete = true;
    c->keeps_alive = http_should_keep_alive(parser);
    http_parser_pause(parser, 1);
    return 0;
}

static const http_parser_settings callbacks = {
    .on_message_begin = on_begin,
    .on_url = on_url,
    .on_header_field = on_field,
    .on_header_value = on_value,
    .on_headers_complete = on_head,
    .on_body = on_body,
    .on_message_complete = on_complete,
};

/* ---- Answers ---- */

static void
listen_to(struct http_connection *c, bool wanted)
{
    if (wanted == c->is_listening)
        return;
    c->is_listening = wanted;
    if (wanted)
        event_add(c->read_event, NULL);
    else
        event_del(c->read_event);
}

static const char *
reason_of(int code)
{
    switch (code) {
    case 200:
        return "OK";
    case 302:
        return "Found";
    case 304:
        return "Not Modified";
    case 400:
        return "Bad Request";
    case 401:
        return "Unauthorized";
    case 403:
        return "Forbidden";
    case 404:
        return "Not Found";
    case 408:
        return "Request Timeout";
    case 409:
        return "Conflict";
    case 413:
        return "Payload Too Large";
    case 431:
        return "Request Header Fields Too Large";
    case 500:
        return "Internal Server Error";
    case 503:
        return "Service Unavailable";
    default:
        return "Status";
    }
}

const uint32_t http_latency_bounds[HTTP_LATENCIES] = { 50,     100,     200,     500,    1000,   2000,
                                                       5000,   10000,   20000,   50000,  100000, 200000,
                                                       500000, 1000000, 2000000, 5000000 };

static void
count_latency(struct http_counters *counters, uint64_t ns)
{
    uint64_t us = ns / 1000;
    size_t i = 0;

    while (i < HTTP_LATENCIES && us >= http_latency_bounds[i])
        i++;
    atomic_fetch_add_explicit(&counters->latency[i], 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->latency_us, us, memory_order_relaxed);
}

/* took_ns: how long the request was with us; told for what is asked of a database. */
static void
write_head(struct http_connection *c, const struct http_request *request, uint64_t took_ns, size_t body_size)
{
    anx_buffer *head = &c->head;
    char number[24];

    anx_buffer_clear(head);
    if (request->code == 200) {
        anx_buffer_text(head, ANX_TEXT("HTTP/1.1 200 OK\r\nContent-Type: "));
    } else {
        anx_buffer_printf(head, "HTTP/1.1 %d %s\r\nContent-Type: ", request->code, reason_of(request->code));
    }
    anx_buffer_text(head, anx_text_of(request->content_type));
    anx_buffer_text(head, ANX_TEXT("\r\nServer: annex\r\nDate: "));
    anx_buffer_text(head, anx_text_of(c->loop->date));
    if (request->is_challenge)
        anx_buffer_text(head, ANX_TEXT("\r\nWWW-Authenticate: Basic realm=\"reindexer\""));
    anx_buffer_text(head, request->headers);
    if (request->route && request->route->has_db)
        anx_buffer_printf(head, "\r\nServer-Timing: total;dur=%llu.%03u",
                          (unsigned long long) (took_ns / 1000000), (unsigned) (took_ns / 1000 % 1000));
    if (!c->keeps_alive)
        anx_buffer_text(head, ANX_TEXT("\r\nConnection: close"));
    else if (c->parser.http_minor == 0)
        anx_buffer_text(head, ANX_TEXT("\r\nConnection: keep-alive"));
    if (request->code != 304) { /* its length would be that of the answer it stands for (RFC 9110, 8.6) */
        anx_buffer_text(head, ANX_TEXT("\r\nContent-Length: "));
        snprintf(number, sizeof(number), "%zu", body_size);
        anx_buffer_text(head, anx_text_of(number));
    }
    anx_buffer_text(head, ANX_TEXT("\r\n\r\n"));
}

static void
log_access(const struct http_request *request, size_t size)
{
    anx_log(
        ANX_LOG_INFO,
        "event=http client=%.*s user=%.*s method=%s target=\"%.*s\" status=%d bytes=%zu us=%llu",
        ANX_TEXT_ARG(request->client), ANX_TEXT_ARG(request->user.size > 0 ? request->user : ANX_TEXT("-")),
        (const char *[]){ "GET", "POST", "PUT", "PATCH", "DELETE" }[request->method],
        (int) (request->target.size < 200 ? request->target.size : 200), request->target.data, request->code,
        size, (unsigned long long) ((anx_clock_ns() - request->start_ns) / 1000));
}

/* Sends what there is to send. False: the connection is gone (freed). */
static bool
send_answer(struct http_connection *c)
{
    size_t whole = c->head.size + c->out.size, n = 0;

    while (c->n_sent < whole) {
        struct iovec parts[2];
        size_t n_part = 0, sent = c->n_sent;

        if (sent < c->head.size)
            parts[n_part++] = (struct iovec) { c->head.data + sent, c->head.size - sent };
        sent = sent > c->head.size ? sent - c->head.size : 0;
        if (sent < c->out.size)
            parts[n_part++] = (struct iovec) { c->out.data + sent, c->out.size - sent };
        switch (transmit(c, parts, n_part, &n)) {
        case MOVED:
            c->n_sent += n;
            c->active_s = c->loop->now_s;
            continue;
        case AGAIN:
            event_add(c->write_event, NULL);
            return true;
        case GONE:
            http_connection_close(c);
            return false;
        }
    }
    c->loop->n_busy--;
    c->state = READING;
    if (c->out.capacity > BUFFER_KEPT) {
        anx_buffer_fini(&c->out);
        anx_buffer_init(&c->out, NULL, SIZE_MAX);
    }
    if (!c->keeps_alive || c->loop->is_stopping) {
        http_connection_close(c);
        return false;
    }
    return true;
}

/* Takes the answer out of the request, frees the request, begins to send. False: the connection is gone. */
static bool
answer(struct http_connection *c, struct http_request *request)
{
    struct http_loop *loop = c->loop;
    struct http_counters *counters = http_server_counters(loop->server);
    anx_arena *arena = request->arena;
    uint64_t took_ns = anx_clock_ns() - request->start_ns;

    if (!request->is_unmeasured)
        count_latency(counters, took_ns);
    atomic_fetch_add_explicit(&counters->requests, 1, memory_order_relaxed);
    atomic_fetch_add_explicit(&counters->bytes_out, request->out.size, memory_order_relaxed);
    if (request->code >= 400)
        atomic_fetch_add_explicit(&counters->errors, 1, memory_order_relaxed);
    if (http_server_params(loop->server)->with_access_log)
        log_access(request, request->out.size);
    c->out = request->out;
    c->out.max = SIZE_MAX;
    write_head(c, request, took_ns, c->out.size);
    if (c->is_head_request)
        anx_buffer_clear(&c->out);
    if (loop->n_arena < HTTP_ARENAS_KEPT) {
        anx_arena_reset(arena); /* the request itself was in it */
        loop->arenas[loop->n_arena++] = arena;
    } else {
        anx_arena_destroy(arena);
    }
    c->state = SENDING;
    c->n_sent = 0;
    if (c->head.failed) {
        http_connection_close(c);
        return false;
    }
    return send_answer(c);
}

/* ---- Clients that go away ---- */

#define WATCH_NS 50000000u

/* The connection, and with it the socket, lives as long as the request is at a worker. */
static bool
is_client_gone(void *context)
{
    struct http_request *request = context;
    struct pollfd socket = { .fd = request->connection->fd, .events = POLLRDHUP };
    uint64_t now_ns = anx_clock_ns();

    if (now_ns - request->watched_ns < WATCH_NS)
        return false;
    request->watched_ns = now_ns;
    return http_server_is_stopping(request->server) ||
           (poll(&socket, 1, 0) > 0 && (socket.revents & (POLLRDHUP | POLLHUP | POLLERR)) != 0);
}

void
http_watch_client(struct http_request *request)
{
    request->watched_ns = anx_clock_ns();
    request->session.should_stop = is_client_gone;
    request->session.stop_context = request;
}

/* ---- Requests ---- */

static bool
verb_of(unsigned method, enum http_verb *out)
{
    static const struct {
        unsigned method;
        enum http_verb verb;
    } table[] = {
        { HTTP_GET, VERB_GET },     { HTTP_POST, VERB_POST },     { HTTP_PUT, VERB_PUT },
        { HTTP_PATCH, VERB_PATCH }, { HTTP_DELETE, VERB_DELETE },
    };

    for (size_t i = 0; i < sizeof(table) / sizeof(table[0]); i++)
        if (table[i].method == method) {
            *out = table[i].verb;
            return true;
        }
    *out = VERB_GET;
    return false;
}

/* NULL when there is no memory. Target, headers and body stay in the connection's buffers, which rest until
 * the answer is sent. */
static struct http_request *
request_of(struct http_connection *c)
{
    struct http_loop *loop = c->loop;
    size_t most = http_server_params(loop->server)->max_response_bytes;
    anx_arena *arena =
        loop->n_arena > 0 ? loop->arenas[--loop->n_arena] : anx_arena_create(NULL, ARENA_LIMIT);
    struct http_request *request = arena ? anx_arena_array(arena, 1, sizeof(*request)) : NULL;

    if (!request) {
        anx_arena_destroy(arena);
        return NULL;
    }
    request->loop = loop;
    request->connection = c;
    request->server = loop->server;
    request->arena = arena;
    request->start_ns = anx_clock_ns();
    request->target = c->target.size > 0 ? text_at(c, c->target) : ANX_TEXT("");
    request->body = (anx_text) { c->body.size > 0 ? c->body.data : "", c->body.size };
    request->client = anx_text_of(c->client);
    request->accept_encoding = text_at(c, c->values[H_ENCODING]);
    request->if_none_match = text_at(c, c->values[H_NONE_MATCH]);
    request->out = c->out;
    anx_buffer_clear(&request->out);
    request->out.max = most > 0 ? most : SIZE_MAX;
    anx_buffer_init(&c->out, NULL, SIZE_MAX);
    return request;
}

static void
answer_refusal(struct http_connection *c, struct http_request *request)
{
    char text[160];

    if (c->refused == 413)
        snprintf(text, sizeof(text), "Request body is larger than the limit of %zu bytes (max-http-req)",
                 http_server_params(c->loop->server)->max_request_bytes);
    else
        snprintf(text, sizeof(text), "Bad request: %s", c->refusal);
    c->keeps_alive = false;
    http_answer_error(request, c->refused, anx_text_of(text));
}

/* A request was read, or refused. False: the connection is gone. */
static bool
handle(struct http_connection *c)
{
    struct http_request *request = request_of(c);
    anx_text form = { NULL, 0 }, type = text_at(c, c->values[H_CONTENT_TYPE]);
    bool is_known;
    anx_error err;
    anx_status st;

    if (!request) {
        http_connection_close(c);
        return false;
    }
    c->loop->n_busy++;
    c->state = HANDLED;
    is_known = verb_of(c->parser.method, &request->method);
    c->is_head_request = c->parser.method == HTTP_HEAD;
    atomic_fetch_add_explicit(&http_server_counters(c->loop->server)->bytes_in, request->body.size,
                              memory_order_relaxed);
    if (c->refused != 0) {
        answer_refusal(c, request);
        return answer(c, request);
    }
    if (!is_known) {
        http_answer_plain(request, 400, ANX_TEXT("Invalid method"));
        return answer(c, request);
    }
    if (type.size >= 33 && strncasecmp(type.data, "application/x-www-form-urlencoded", 33) == 0)
        form = request->body;
    st = http_request_parse(request, request->target, form, &err);
    if (st != ANX_OK) {
        http_answer_status(request, st, &err);
    } else if (http_request_begin(request, text_at(c, c->values[H_AUTHORIZATION]),
                                  text_at(c, c->values[H_TIMEOUT]))) {
        listen_to(c, false);
        http_hand_to_worker(request);
        return true;
    }
    return answer(c, request);
}

/* Reads requests out of the bytes and answers them, until one goes to a worker or its answer waits for the
 * socket; the bytes behind are kept. False: the connection is gone. */
static bool
feed(struct http_connection *c, const char *data, size_t size)
{
    while (size > 0 && c->state == READING) {
        size_t n = http_parser_execute(&c->parser, &callbacks, data, size);
        enum http_errno error = HTTP_PARSER_ERRNO(&c->parser);

        if (error == HPE_PAUSED) {
            http_parser_pause(&c->parser, 0);
        } else if (error != HPE_OK) {
            if (c->refused == 0)
                refuse(c, error == HPE_HEADER_OVERFLOW ? 431 : 400, http_errno_description(error));
            n = size; /* what follows cannot be told apart */
        }
        data += n;
        size -= n;
        if ((c->is_complete || c->refused != 0) && !handle(c))
            return false;
    }
    if (size > 0) {
        anx_buffer_bytes(&c->rest, data, size);
        if (c->rest.failed) {
            http_connection_close(c);
            return false;
        }
    }
    listen_to(c, c->state == READING);
    return true;
}

/* Behind an answer: what was read already, then the socket. */
static void
go_on(struct http_connection *c)
{
    anx_buffer rest = c->rest;

    if (c->state != READING)
        return;
    anx_buffer_init(&c->rest, NULL, SIZE_MAX);
    if (rest.size == 0 || feed(c, rest.data, rest.size))
        listen_to(c, c->state == READING);
    anx_buffer_fini(&rest);
}

static void
on_readable(evutil_socket_t fd, short what, void *context)
{
    struct http_connection *c = context;
    struct http_loop *loop = c->loop;
    size_t size = 0;

    (void) fd;
    (void) what;
    do {
        switch (receive(c, loop->scratch, HTTP_READ_SIZE, &size)) {
        case MOVED:
            c->active_s = loop->now_s;
            if (!feed(c, loop->scratch, size))
                return;
            break;
        case AGAIN:
            return;
        case GONE:
            http_connection_close(c);
            return;
        }
    } while (c->ssl && c->state == READING && SSL_pending(c->ssl) > 0);
}

static void
on_writable(evutil_socket_t fd, short what, void *context)
{
    struct http_connection *c = context;

    if (c->state == SENDING) {
        if (send_answer(c))
            go_on(c);
    } else if (c->state == READING) {
        on_readable(fd, what, context); /* TLS wanted to write before it could read on */
    }
}

void
http_connection_answer(struct http_request *request)
{
    struct http_connection *c = request->connection;

    if (answer(c, request))
        go_on(c);
}

/* ---- Life ---- */

void
http_connection_open(struct http_loop *loop, const struct http_arrival *arrival)
{
    struct http_connection *c = anx_alloc_zeroed(NULL, 1, sizeof(*c));
    bool is_made = c != NULL;

    if (c) {
        c->fd = arrival->fd;
        c->loop = loop;
        c->active_s = loop->now_s;
        memcpy(c->client, arrival->client, sizeof(c->client));
        http_parser_init(&c->parser, HTTP_REQUEST);
        c->parser.data = c;
        anx_buffer_init(&c->text, NULL, SIZE_MAX);
        anx_buffer_init(&c->body, NULL, SIZE_MAX);
        anx_buffer_init(&c->rest, NULL, SIZE_MAX);
        anx_buffer_init(&c->head, NULL, SIZE_MAX);
        anx_buffer_init(&c->out, NULL, SIZE_MAX);
        c->read_event = event_new(loop->base, c->fd, EV_READ | EV_PERSIST, on_readable, c);
        c->write_event = event_new(loop->base, c->fd, EV_WRITE, on_writable, c);
        is_made = c->read_event && c->write_event;
    }
    if (is_made && arrival->is_secure) {
        SSL_CTX *tls = anx_tls_acquire(http_server_params(loop->server)->tls);

        c->ssl = tls ? SSL_new(tls) : NULL;
        SSL_CTX_free(tls);
        is_made = c->ssl && SSL_set_fd(c->ssl, c->fd) == 1;
        if (is_made) {
            SSL_set_accept_state(c->ssl);
            SSL_set_mode(c->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
        }
    }
    if (!c) {
        close(arrival->fd);
        atomic_fetch_sub(&loop->n_connection, 1);
        atomic_fetch_sub_explicit(&http_server_counters(loop->server)->connections, 1, memory_order_relaxed);
        return;
    }
    c->next = loop->connections;
    if (c->next)
        c->next->previous = c;
    loop->connections = c;
    if (is_made)
        listen_to(c, true);
    else
        http_connection_close(c);
}

void
http_connection_close(struct http_connection *c)
{
    struct http_loop *loop = c->loop;

    if (c->state != READING)
        loop->n_busy--;
    if (c->previous)
        c->previous->next = c->next;
    else
        loop->connections = c->next;
    if (c->next)
        c->next->previous = c->previous;
    if (c->read_event)
        event_free(c->read_event);
    if (c->write_event)
        event_free(c->write_event);
    if (c->ssl) {
        SSL_shutdown(c->ssl); /* one try to say goodbye; nobody waits for the reply */
        ERR_clear_error();
        SSL_free(c->ssl);
    }
    if (c->refused != 0) { /* let the answer out before the reset that unread bytes cause */
        shutdown(c->fd, SHUT_WR);
        for (int i = 0; i < 64 && recv(c->fd, loop->scratch, HTTP_READ_SIZE, MSG_DONTWAIT) > 0; i++)
            ;
    }
    close(c->fd);
    anx_buffer_fini(&c->text);
    anx_buffer_fini(&c->body);
    anx_buffer_fini(&c->rest);
    anx_buffer_fini(&c->head);
    anx_buffer_fini(&c->out);
    anx_free(NULL, c);
    atomic_fetch_sub(&loop->n_connection, 1);
    atomic_fetch_sub_explicit(&http_server_counters(loop->server)->connections, 1, memory_order_relaxed);
}

void
http_connections_sweep(struct http_loop *loop)
{
    const struct http_params *params = http_server_params(loop->server);
    struct http_connection *next;

    for (struct http_connection *c = loop->connections; c; c = next) {
        unsigned limit = c->state == SENDING ? params->write_timeout_s : params->read_timeout_s;
        bool is_silent = limit > 0 && c->state != HANDLED && loop->now_s - c->active_s > limit;

        next = c->next;
        if (is_silent || (loop->is_stopping && c->state == READING))
            http_connection_close(c);
    }
}
