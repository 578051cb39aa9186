/* Listeners, event loops and connections; workers are net/workers.h.
 *
 * A loop is a thread with its own event_base. Every loop accepts from the same sockets and hands each new
 * connection to the next loop in turn, so that the few connections of one client are spread. A connection
 * stays on its loop. Its requests wait in a list; what is short runs at once, and when something is not, the
 * whole list goes to a worker, which answers it in order and gives the bytes back piece by piece through the
 * loop's list of chunks and an eventfd. Only the loop touches the socket.
 *
 * loop.lock (chunks and new sockets) is not held while anything else is taken. */
#include <errno.h>
#include <event2/buffer.h>
#include <event2/bufferevent.h>
#include <event2/bufferevent_ssl.h>
#include <event2/event.h>
#include <event2/listener.h>
#include <netinet/tcp.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stddef.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "rpc/server_int.h"

#define LOGIN_BYTES_MAX 65536     /* of a frame before the login */
#define WAITING_MAX 1024          /* requests; reading stops above */
#define WAITING_BYTES_MAX ((size_t) 64 << 20)
#define OUTPUT_MAX ((size_t) 64 << 20) /* answers that the peer does not read; nothing new runs above */
#define FLUSH_NS 500000           /* a worker hands answers over at least that often */
#define FLUSH_BYTES 65536
#define COPY_MAX ((size_t) 16384)
#define SWEEP_S 2
enum { MIN_LOOPS = 4, DEFAULT_WORKERS = 16, DEFAULT_CONNECTIONS = 10000, DEFAULT_IDLE_S = 300 };
enum { DEFAULT_RESULT_S = 600 };

const struct rpc_params *
rpc_server_params(const struct rpc_server *server)
{
    return &server->params;
}

struct anx_workers *
rpc_server_workers(const struct rpc_server *server)
{
    return server->workers;
}

static uint64_t
now_ms(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (uint64_t) now.tv_sec * 1000u + (uint64_t) now.tv_nsec / 1000000u;
}

/* ---- Chunks ---- */

static void
chunk_free(struct chunk *chunk)
{
    anx_buffer_fini(&chunk->out);
    rpc_rows_release(chunk->tail);
    if (!chunk->connection && chunk->subscriber == 0 && chunk->fd >= 0)
        close(chunk->fd);
    anx_free(NULL, chunk);
}

static void
loop_give(struct rpc_loop *loop, struct chunk *chunk)
{
    uint64_t one = 1;
    bool was_empty;

    chunk->next = NULL;
    pthread_mutex_lock(&loop->lock);
    was_empty = !loop->chunks;
    *loop->chunks_end = chunk;
    loop->chunks_end = &chunk->next;
    pthread_mutex_unlock(&loop->lock);
    if (was_empty && write(loop->wake, &one, sizeof(one)) < 0)
        anx_log(ANX_LOG_ERROR, "event=rpc_wake_failed errno=%d", errno);
}

/* ---- Events ---- */

/* Under clients_lock. */
static void
count_subscribers(struct rpc_server *server)
{
    bool is_any = false;

    for (const struct rpc_connection *c = server->clients; c && !is_any; c = c->next_client)
        is_any = c->subscription != NULL;
    engine_want_events(server->params.engine, is_any);
}

void
rpc_server_subscribe(struct rpc_connection *c, struct rpc_subscription *subscription)
{
    struct rpc_subscription *old;

    rpc_clients_lock(c->server);
    old = c->subscription;
    c->subscription = subscription;
    count_subscribers(c->server);
    rpc_clients_unlock(c->server);
    rpc_subscription_free(old);
}

/* On the thread of the change, under locks of its namespace. */
static void
report_event(void *context, const struct db_event *event)
{
    struct rpc_server *server = context;

    rpc_clients_lock(server);
    for (struct rpc_connection *c = server->clients; c; c = c->next_client) {
        struct chunk *chunk;

        if (!c->subscription || c->db != event->db)
            continue;
        chunk = anx_alloc_zeroed(NULL, 1, sizeof(*chunk));
        if (!chunk)
            continue;
        chunk->subscriber = c->id;
        anx_buffer_init(&chunk->out, NULL, 65536);
        if (rpc_event_frame(c->subscription, event, &chunk->out))
            loop_give(c->loop, chunk);
        else
            chunk_free(chunk);
    }
    rpc_clients_unlock(server);
}

/* ---- Sending ---- */

static void
free_bytes(const void *data, size_t size, void *context)
{
    (void) size;
    (void) context;
    anx_free(NULL, (void *) (uintptr_t) data);
}

static void
free_rows(const void *data, size_t size, void *rows)
{
    (void) data;
    (void) size;
    rpc_rows_release(rows);
}

/* Large answers leave from where they were written, and `out` starts anew; a reference costs about as much as
 * copying a small one. */
static void
send_out(struct evbuffer *output, anx_buffer *out)
{
    if (out->size <= COPY_MAX) {
        evbuffer_add(output, out->data, out->size);
        return;
    }
    if (evbuffer_add_reference(output, out->data, out->size, free_bytes, NULL) == 0)
        out->data = NULL;
    anx_buffer_fini(out);
}

/* Rows leave from where they are. Takes the reference. */
static void
send_tail(struct evbuffer *output, struct rpc_rows *rows, size_t start, size_t size, const uint8_t *foot,
          size_t foot_size)
{
    if (!rows)
        return;
    if (evbuffer_add_reference(output, rows->data.data + start, size, free_rows, rows) != 0)
        rpc_rows_release(rows);
    evbuffer_add(output, foot, foot_size);
}

/* Writes what is in the output at once; only what the socket does not take waits for the loop, since that
 * costs two epoll_ctl and a second wake-up per answer. TLS writes by itself. */
static void
transmit(struct rpc_connection *c)
{
    struct evbuffer *output = bufferevent_get_output(c->bev);

    if (c->is_secure || evbuffer_get_length(output) == 0)
        return;
    if (!(bufferevent_get_enabled(c->bev) & EV_WRITE)) {
        evbuffer_unfreeze(output, 1);
        (void) evbuffer_write(output, bufferevent_getfd(c->bev)); /* an error shows again, to the loop */
        evbuffer_freeze(output, 1);
        if (evbuffer_get_length(output) > 0)
            bufferevent_enable(c->bev, EV_WRITE);
    }
}

/* ---- Connections ---- */

static void
connection_free(struct rpc_connection *c)
{
    struct rpc_request *request;

    while ((request = c->waiting)) {
        c->waiting = request->next;
        anx_free(NULL, request);
    }
    *c->at = c->next;
    if (c->next)
        c->next->at = c->at;
    rpc_clients_lock(c->server);
    *c->client_at = c->next_client;
    if (c->next_client)
        c->next_client->client_at = c->client_at;
    if (c->subscription)
        count_subscribers(c->server);
    rpc_clients_unlock(c->server);
    rpc_subscription_free(c->subscription);
    if (c->bev)
        bufferevent_free(c->bev);
    rpc_session_fini(c);
    atomic_fetch_sub_explicit(&c->server->n_connection, 1, memory_order_relaxed);
    anx_free(NULL, c);
}

/* The peer is gone, or has to go. */
static void
connection_close(struct rpc_connection *c)
{
    atomic_store_explicit(&c->is_closed, true, memory_order_relaxed);
    if (c->bev)
        bufferevent_free(c->bev);
    c->bev = NULL;
    if (!c->is_busy)
        connection_free(c);
}

/* What was answered still leaves. */
static void
connection_end(struct rpc_connection *c)
{
    transmit(c);
    if (evbuffer_get_length(bufferevent_get_output(c->bev)) == 0) {
        connection_close(c);
        return;
    }
    c->is_ending = true;
    bufferevent_disable(c->bev, EV_READ);
}

static void
hand_to_worker(struct rpc_connection *c)
{
    c->is_busy = true;
    c->work = c->waiting;
    c->waiting = NULL;
    c->waiting_end = &c->waiting;
    c->n_waiting = c->waiting_bytes = 0;
    anx_workers_give(c->server->workers, &c->given);
}

static void
note_sent(struct rpc_connection *c, size_t n)
{
    atomic_fetch_add_explicit(&c->sent_bytes, n, memory_order_relaxed);
    atomic_store_explicit(&c->sent_ms, now_ms(), memory_order_relaxed);
}

/* Runs what waits as far as it is short. False: the connection is gone. */
static bool
advance(struct rpc_connection *c)
{
    struct evbuffer *output = bufferevent_get_output(c->bev);
    struct rpc_loop *loop = c->loop;

    while (c->waiting && !c->is_busy && !c->is_ending && evbuffer_get_length(output) < OUTPUT_MAX) {
        struct rpc_request *request = c->waiting;
        struct rpc_call call = { .connection = c, .out = &loop->out };

        anx_buffer_clear(&loop->out);
        if (!rpc_run(&call, request, true)) {
            hand_to_worker(c);
            break;
        }
        c->waiting = request->next;
        if (!c->waiting)
            c->waiting_end = &c->waiting;
        c->n_waiting--;
        c->waiting_bytes -= request->head.size;
        anx_free(NULL, request);
        note_sent(c, loop->out.size + call.tail_size + call.foot_size);
        send_out(output, &loop->out);
        send_tail(output, call.tail, call.tail_start, call.tail_size, call.foot, call.foot_size);
        if (call.must_close) {
            connection_end(c);
            return false;
        }
    }
    transmit(c);
    if (c->n_waiting < WAITING_MAX && c->waiting_bytes < WAITING_BYTES_MAX && !c->is_ending)
        bufferevent_enable(c->bev, EV_READ);
    return true;
}

/* ---- Reading ---- */

/* An answer to what is no request, then the end. */
static void
refuse(struct rpc_connection *c, anx_status st, const anx_error *err)
{
    struct rpc_head head = { 0 };
    uint8_t bytes[RPC_HEAD_SIZE];
    anx_buffer body;

    anx_buffer_init(&body, NULL, 4096);
    rpc_put_reply(&body, anx_status_rpc(st), anx_text_of(err->message), 0);
    head.size = (uint32_t) body.size;
    rpc_head_write(&head, bytes);
    evbuffer_add(bufferevent_get_output(c->bev), bytes, sizeof(bytes));
    evbuffer_add(bufferevent_get_output(c->bev), body.data, body.size);
    anx_buffer_fini(&body);
    connection_end(c);
}

static anx_status
check_head(const struct rpc_connection *c, const struct rpc_head *head, anx_error *err)
{
    size_t max = c->server->params.max_request_bytes;

    /* While a worker is busy with the login, what follows it is held to the same. */
    if (!c->has_authority && max > LOGIN_BYTES_MAX)
        max = LOGIN_BYTES_MAX;
    if (head->size <= max)
        return ANX_OK;
    return anx_fail(err, ANX_E_PARAMS, "Request of %u bytes is larger than the limit of %zu%s", head->size,
                    max, c->has_authority ? "" : " before the login");
}

/* Moves whole frames from the socket's bytes to the list. False: the connection ends. */
static bool
take_frames(struct rpc_connection *c)
{
    struct evbuffer *input = bufferevent_get_input(c->bev);
    uint8_t bytes[RPC_HEAD_SIZE];

    while (evbuffer_get_length(input) >= RPC_HEAD_SIZE && c->n_waiting < WAITING_MAX &&
           c->waiting_bytes < WAITING_BYTES_MAX) {
        struct rpc_request *request;
        struct rpc_head head;
        anx_error err;
        anx_status st;

        evbuffer_copyout(input, bytes, sizeof(bytes));
        st = rpc_head_read(bytes, &head, &err);
        if (st == ANX_OK)
            st = check_head(c, &head, &err);
        if (st != ANX_OK) {
            refuse(c, st, &err);
            return false;
        }
        if (evbuffer_get_length(input) < RPC_HEAD_SIZE + (size_t) head.size) {
            bufferevent_setwatermark(c->bev, EV_READ, RPC_HEAD_SIZE + (size_t) head.size, 0);
            return true;
        }
        request = anx_alloc_bytes(NULL, sizeof(*request) + head.size);
        if (!request) {
            connection_close(c);
            return false;
        }
        *request = (struct rpc_request) { .head = head, .start_ns = anx_clock_ns() };
        evbuffer_drain(input, RPC_HEAD_SIZE);
        evbuffer_remove(input, request->body, head.size);
        *c->waiting_end = request;
        c->waiting_end = &request->next;
        c->n_waiting++;
        c->waiting_bytes += head.size;
        atomic_fetch_add_explicit(&c->received_bytes, RPC_HEAD_SIZE + head.size, memory_order_relaxed);
        atomic_store_explicit(&c->received_ms, now_ms(), memory_order_relaxed);
    }
    bufferevent_setwatermark(c->bev, EV_READ, RPC_HEAD_SIZE, 0);
    if (c->n_waiting >= WAITING_MAX || c->waiting_bytes >= WAITING_BYTES_MAX)
        bufferevent_disable(c->bev, EV_READ);
    return true;
}

/* Reads and runs until neither is possible. */
static void
pump(struct rpc_connection *c)
{
    size_t before;

    do {
        before = evbuffer_get_length(bufferevent_get_input(c->bev));
        if (!take_frames(c) || (!c->is_busy && !advance(c)))
            return;
    } while (evbuffer_get_length(bufferevent_get_input(c->bev)) < before && !c->is_busy && !c->is_ending);
}

static void
on_read(struct bufferevent *bev, void *context)
{
    struct rpc_connection *c = context;

    (void) bev;
    c->active_ns = anx_clock_ns();
    if (!c->is_ending)
        pump(c);
}

static void
on_write(struct bufferevent *bev, void *context)
{
    struct rpc_connection *c = context;

    c->active_ns = anx_clock_ns();
    if (!c->is_secure)
        bufferevent_disable(bev, EV_WRITE);
    if (c->is_ending && evbuffer_get_length(bufferevent_get_output(c->bev)) == 0)
        connection_close(c);
    else if (c->waiting && !c->is_busy && !c->is_ending)
        pump(c);
}

static void
on_event(struct bufferevent *bev, short what, void *context)
{
    (void) bev;
    if (what & (BEV_EVENT_EOF | BEV_EVENT_ERROR | BEV_EVENT_TIMEOUT))
        connection_close(context);
}

/* ---- New connections ---- */

static struct bufferevent *
open_socket(struct rpc_loop *loop, int fd, bool is_secure)
{
    SSL_CTX *tls;
    SSL *ssl;
    struct bufferevent *bev;

    if (!is_secure)
        return bufferevent_socket_new(loop->base, fd, BEV_OPT_CLOSE_ON_FREE);
    tls = anx_tls_acquire(loop->server->params.tls);
    ssl = tls ? SSL_new(tls) : NULL;
    SSL_CTX_free(tls);
    if (!ssl)
        return NULL;
    bev =
        bufferevent_openssl_socket_new(loop->base, fd, ssl, BUFFEREVENT_SSL_ACCEPTING, BEV_OPT_CLOSE_ON_FREE);
    if (!bev)
        SSL_free(ssl);
    else
        bufferevent_openssl_set_allow_dirty_shutdown(bev, 1);
    return bev;
}

/* Takes the socket of the chunk. */
static void
connection_open(struct rpc_loop *loop, struct chunk *chunk)
{
    struct rpc_connection *c = anx_alloc_zeroed(NULL, 1, sizeof(*c));
    anx_arena *arena = anx_arena_create(NULL, RPC_ARENA_MAX);
    struct bufferevent *bev = c && arena ? open_socket(loop, chunk->fd, chunk->is_secure) : NULL;

    if (!bev) {
        anx_arena_destroy(arena);
        anx_free(NULL, c);
        atomic_fetch_sub_explicit(&loop->server->n_connection, 1, memory_order_relaxed);
        return; /* chunk_free closes the socket */
    }
    chunk->fd = -1;
    c->loop = loop;
    c->server = loop->server;
    c->bev = bev;
    c->arena = arena;
    c->id = atomic_fetch_add_explicit(&loop->server->last_id, 1, memory_order_relaxed) + 1;
    c->waiting_end = &c->waiting;
    c->active_ns = anx_clock_ns();
    memcpy(c->client, chunk->client, sizeof(c->client));
    c->next = loop->connections;
    c->at = &loop->connections;
    if (c->next)
        c->next->at = &c->next;
    loop->connections = c;
    c->start_time = (int64_t) time(NULL);
    rpc_clients_lock(c->server);
    c->next_client = c->server->clients;
    c->client_at = &c->server->clients;
    if (c->next_client)
        c->next_client->client_at = &c->next_client;
    c->server->clients = c;
    rpc_clients_unlock(c->server);
    bufferevent_setcb(bev, on_read, on_write, on_event, c);
    bufferevent_setwatermark(bev, EV_READ, RPC_HEAD_SIZE, 0);
    c->is_secure = chunk->is_secure;
    bufferevent_disable(bev, c->is_secure ? 0 : EV_WRITE);
    bufferevent_enable(bev, c->is_secure ? EV_READ | EV_WRITE : EV_READ);
}

static void
accept_socket(struct rpc_loop *loop, evutil_socket_t fd, const struct sockaddr *address, int size,
              bool is_secure)
{
    struct rpc_server *server = loop->server;
    struct chunk *chunk = anx_alloc_zeroed(NULL, 1, sizeof(*chunk));
    size_t place = atomic_fetch_add_explicit(&server->next_loop, 1, memory_order_relaxed);
    size_t n = atomic_fetch_add_explicit(&server->n_connection, 1, memory_order_relaxed);
    struct anx_address peer = { .size = (socklen_t) size };
    char text[ANX_ADDRESS_TEXT];
    int one = 1;

    if (!chunk || n >= server->params.max_connections) {
        atomic_fetch_sub_explicit(&server->n_connection, 1, memory_order_relaxed);
        anx_free(NULL, chunk);
        close(fd);
        return;
    }
    chunk->fd = fd;
    chunk->is_secure = is_secure;
    memcpy(chunk->client, "unix", sizeof("unix"));
    if (address->sa_family == AF_INET || address->sa_family == AF_INET6) {
        memcpy(&peer.storage, address, (size_t) size);
        anx_address_text(&peer, text);
        memcpy(chunk->client, text, sizeof(text));
        (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    }
    loop_give(&server->loops[place % server->params.n_loop], chunk);
}

static void
on_accept(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size, void *loop)
{
    (void) listener;
    accept_socket(loop, fd, address, size, false);
}

static void
on_accept_secure(struct evconnlistener *listener, evutil_socket_t fd, struct sockaddr *address, int size,
                 void *loop)
{
    (void) listener;
    accept_socket(loop, fd, address, size, true);
}

/* ---- Workers ---- */

/* Hands over what was answered so far. Empty with is_last: the connection alone. */
static void
flush(struct rpc_connection *c, anx_buffer *out, const struct rpc_call *call, bool must_close, bool is_last)
{
    struct chunk *chunk = anx_alloc_zeroed(NULL, 1, sizeof(*chunk));

    while (!chunk) { /* the connection must get back to its loop: memory comes when others give theirs */
        (void) sched_yield();
        chunk = anx_alloc_zeroed(NULL, 1, sizeof(*chunk));
    }
    chunk->connection = c;
    chunk->out = *out;
    chunk->is_last = is_last;
    chunk->must_close = must_close;
    if (call && call->tail) {
        chunk->tail = call->tail;
        chunk->tail_start = call->tail_start;
        chunk->tail_size = call->tail_size;
        chunk->foot_size = call->foot_size;
        memcpy(chunk->foot, call->foot, sizeof(chunk->foot));
    }
    anx_buffer_init(out, NULL, out->max);
    loop_give(c->loop, chunk);
}

static void
work(void *context, struct anx_work *given)
{
    struct rpc_connection *c =
        (struct rpc_connection *) ((char *) given - offsetof(struct rpc_connection, given));
    struct rpc_request *request;
    uint64_t flushed_ns = anx_clock_ns();
    bool must_close = false;
    size_t n_out = 0;
    anx_buffer out;

    (void) context;
    anx_buffer_init(&out, NULL, c->server->params.max_response_bytes + 65536);
    while (n_out < OUTPUT_MAX && (request = c->work)) { /* what is left waits until the peer has read */
        struct rpc_call call = { .connection = c, .out = &out };
        size_t before = out.size;

        c->work = request->next;
        if (!must_close && !atomic_load_explicit(&c->is_closed, memory_order_relaxed)) {
            (void) rpc_run(&call, request, false);
            must_close = call.must_close;
        }
        anx_free(NULL, request);
        n_out += out.size - before + call.tail_size + call.foot_size;
        if (call.tail || out.size > FLUSH_BYTES || (c->work && anx_clock_ns() - flushed_ns > FLUSH_NS)) {
            flush(c, &out, &call, must_close, false);
            flushed_ns = anx_clock_ns();
        }
    }
    flush(c, &out, NULL, must_close, true);
}

/* ---- Loops ---- */

static void
close_all(struct rpc_loop *loop)
{
    struct rpc_connection *next;

    loop->is_stopping = true;
    for (size_t i = 0; i < loop->n_listener; i++)
        evconnlistener_free(loop->listeners[i]);
    loop->n_listener = 0;
    for (struct rpc_connection *c = loop->connections; c; c = next) {
        next = c->next;
        connection_close(c);
    }
}

/* A subscriber that does not read is dropped: it asks for the state anew when it is back. */
static void
receive_event(struct rpc_loop *loop, struct chunk *chunk)
{
    struct rpc_connection *c = loop->connections;
    struct evbuffer *output;

    while (c && c->id != chunk->subscriber)
        c = c->next;
    if (!c || !c->bev || c->is_ending)
        return;
    output = bufferevent_get_output(c->bev);
    evbuffer_add(output, chunk->out.data, chunk->out.size);
    note_sent(c, chunk->out.size);
    transmit(c);
    if (evbuffer_get_length(output) > OUTPUT_MAX)
        connection_close(c);
}

/* The worker is done with the connection. Requests that it left come before those that arrived meanwhile. */
static void
take_back(struct rpc_connection *c)
{
    struct rpc_request **end = &c->work;

    c->is_busy = false;
    for (; *end; end = &(*end)->next) {
        c->n_waiting++;
        c->waiting_bytes += (*end)->head.size;
    }
    if (!c->work)
        return;
    *end = c->waiting;
    if (!c->waiting)
        c->waiting_end = end;
    c->waiting = c->work;
    c->work = NULL;
}

/* Answers of a worker, on their way out. */
static void
receive(struct chunk *chunk)
{
    struct rpc_connection *c = chunk->connection;
    struct evbuffer *output;

    if (chunk->is_last)
        take_back(c);
    if (!c->bev) {
        if (chunk->is_last)
            connection_free(c);
        return;
    }
    c->has_authority = c->is_logged_in;
    output = bufferevent_get_output(c->bev);
    note_sent(c, chunk->out.size + chunk->tail_size + chunk->foot_size);
    if (chunk->out.size > 0 &&
        evbuffer_add_reference(output, chunk->out.data, chunk->out.size, free_bytes, NULL) == 0)
        chunk->out.data = NULL;
    send_tail(output, chunk->tail, chunk->tail_start, chunk->tail_size, chunk->foot, chunk->foot_size);
    chunk->tail = NULL;
    transmit(c);
    if (chunk->is_last && chunk->must_close)
        connection_end(c);
    else if (chunk->is_last && !c->is_ending)
        pump(c);
}

static void
on_wake(evutil_socket_t fd, short what, void *context)
{
    struct rpc_loop *loop = context;
    struct chunk *list, *next;
    uint64_t count;

    (void) what;
    while (read((int) fd, &count, sizeof(count)) > 0)
        ;
    pthread_mutex_lock(&loop->lock);
    list = loop->chunks;
    loop->chunks = NULL;
    loop->chunks_end = &loop->chunks;
    pthread_mutex_unlock(&loop->lock);
    for (; list; list = next) {
        next = list->next;
        if (list->connection)
            receive(list);
        else if (list->subscriber > 0)
            receive_event(loop, list);
        else if (!loop->is_stopping)
            connection_open(loop, list);
        else
            atomic_fetch_sub_explicit(&loop->server->n_connection, 1, memory_order_relaxed);
        chunk_free(list);
    }
    if (atomic_load(&loop->server->is_stopping) && !loop->is_stopping)
        close_all(loop);
    if (loop->is_stopping && !loop->connections)
        event_base_loopbreak(loop->base);
}

/* Drops connections without traffic, and results that nobody fetches. */
static void
on_sweep(evutil_socket_t fd, short what, void *context)
{
    struct rpc_loop *loop = context;
    uint64_t now = anx_clock_ns(), idle_ns = (uint64_t) loop->server->params.idle_timeout_s * 1000000000u;
    struct rpc_connection *next;

    (void) fd;
    (void) what;
    for (size_t i = 0; i < loop->n_listener; i++)
        evconnlistener_enable(loop->listeners[i]);
    for (struct rpc_connection *c = loop->connections; c; c = next) {
        next = c->next;
        if (c->is_busy)
            continue;
        rpc_results_sweep(c, now);
        if (now - c->active_ns > idle_ns)
            connection_close(c);
    }
}

static void *
run_loop(void *context)
{
    struct rpc_loop *loop = context;

    event_base_dispatch(loop->base);
    return NULL;
}

/* Out of descriptors, most likely: until the next sweep peers wait in the kernel, and the loop does not spin.
 */
static void
on_accept_failed(struct evconnlistener *listener, void *context)
{
    (void) context;
    anx_log(ANX_LOG_WARN, "event=accept_failed server=rpc error=\"%s\"", strerror(errno));
    evconnlistener_disable(listener);
}

static anx_status
listen_on(struct rpc_loop *loop, const int *fds, size_t n, evconnlistener_cb accept, anx_error *err)
{
    for (size_t i = 0; i < n; i++) {
        int fd = dup(fds[i]);
        struct evconnlistener *listener =
            fd < 0 ? NULL
                   : evconnlistener_new(loop->base, accept, loop,
                                        LEV_OPT_CLOSE_ON_FREE | LEV_OPT_CLOSE_ON_EXEC, 0, fd);

        if (!listener) {
            if (fd >= 0)
                close(fd);
            return anx_fail(err, ANX_E_NOMEM, "cannot listen for RPC");
        }
        evconnlistener_set_error_cb(listener, on_accept_failed);
        loop->listeners[loop->n_listener++] = listener;
    }
    return ANX_OK;
}

static anx_status
loop_open(struct rpc_loop *loop, struct rpc_server *server, anx_error *err)
{
    struct timeval period = { SWEEP_S, 0 };
    anx_status st;

    loop->server = server;
    loop->chunks_end = &loop->chunks;
    anx_buffer_init(&loop->out, NULL, server->params.max_response_bytes + 65536);
    pthread_mutex_init(&loop->lock, NULL);
    loop->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->base = event_base_new();
    if (loop->wake >= 0 && loop->base) {
        loop->wake_event = event_new(loop->base, loop->wake, EV_READ | EV_PERSIST, on_wake, loop);
        loop->sweep_event = event_new(loop->base, -1, EV_PERSIST, on_sweep, loop);
    }
    if (!loop->wake_event || !loop->sweep_event || event_add(loop->wake_event, NULL) != 0 ||
        event_add(loop->sweep_event, &period) != 0)
        return anx_fail(err, ANX_E_NOMEM, "cannot make an event loop");
    st = listen_on(loop, server->plain.fds, server->plain.n, on_accept, err);
    if (st == ANX_OK)
        st = listen_on(loop, server->secure.fds, server->secure.n, on_accept_secure, err);
    if (st == ANX_OK && server->unix_fd >= 0)
        st = listen_on(loop, &server->unix_fd, 1, on_accept, err);
    return st;
}

static void
loop_free(struct rpc_loop *loop)
{
    if (!loop->server)
        return;
    for (size_t i = 0; i < loop->n_listener; i++)
        evconnlistener_free(loop->listeners[i]);
    while (loop->chunks) {
        struct chunk *chunk = loop->chunks;

        loop->chunks = chunk->next;
        chunk_free(chunk);
    }
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->sweep_event)
        event_free(loop->sweep_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake >= 0)
        close(loop->wake);
    anx_buffer_fini(&loop->out);
    pthread_mutex_destroy(&loop->lock);
}

/* ---- The server ---- */

/* A socket file that nobody listens on any more is of a server that was killed. */
static anx_status
listen_unix(struct rpc_server *server, const char *path, anx_error *err)
{
    struct sockaddr_un address = { .sun_family = AF_UNIX };
    struct stat info;
    int fd;

    if (!path || !*path || strcmp(path, "none") == 0)
        return ANX_OK;
    if (strlen(path) >= sizeof(address.sun_path))
        return anx_fail(err, ANX_E_INVALID, "path of the socket \"%s\" is longer than %zu bytes", path,
                        sizeof(address.sun_path) - 1);
    memcpy(address.sun_path, path, strlen(path) + 1);
    fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0)
        return anx_fail(err, ANX_E_NETWORK, "cannot make a socket: %s", strerror(errno));
    if (stat(path, &info) == 0 && S_ISSOCK(info.st_mode) &&
        connect(fd, (const struct sockaddr *) &address, sizeof(address)) != 0 && errno == ECONNREFUSED)
        unlink(path);
    if (bind(fd, (const struct sockaddr *) &address, sizeof(address)) != 0 || listen(fd, SOMAXCONN) != 0) {
        anx_status st = anx_fail(err, ANX_E_NETWORK, "cannot listen at socket %s: %s", path, strerror(errno));

        close(fd);
        return st;
    }
    server->unix_fd = fd;
    return ANX_OK;
}

static anx_status
start_threads(struct rpc_server *server, anx_error *err)
{
    sigset_t all, old;
    int failed = 0;

    if (anx_workers_open(&server->workers, server->params.n_worker, work, server, err) != ANX_OK)
        return ANX_E_NOMEM;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old); /* signals are the main thread's */
    while (failed == 0 && server->n_loop < server->params.n_loop) {
        failed = pthread_create(&server->loops[server->n_loop].thread, NULL, run_loop,
                                &server->loops[server->n_loop]);
        server->n_loop += failed == 0;
    }
    pthread_sigmask(SIG_SETMASK, &old, NULL);
    return failed == 0 ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "cannot start a thread: %s", strerror(failed));
}

static void
set_defaults(struct rpc_params *params)
{
    size_t n_cpu = anx_cpu_count();

    if (params->n_loop == 0)
        params->n_loop = 2 * n_cpu < MIN_LOOPS ? MIN_LOOPS : 2 * n_cpu;
    if (params->n_worker == 0)
        params->n_worker = DEFAULT_WORKERS;
    if (params->max_connections == 0)
        params->max_connections = DEFAULT_CONNECTIONS;
    if (params->max_request_bytes == 0)
        params->max_request_bytes = (size_t) 256 << 20;
    if (params->max_response_bytes == 0)
        params->max_response_bytes = (size_t) 1 << 30;
    if (params->idle_timeout_s == 0)
        params->idle_timeout_s = DEFAULT_IDLE_S;
    if (params->result_timeout_s == 0)
        params->result_timeout_s = DEFAULT_RESULT_S;
}

anx_status
rpc_server_open(const struct rpc_params *params, struct rpc_server **out, anx_error *err)
{
    struct rpc_server *server = anx_alloc_zeroed(NULL, 1, sizeof(*server));
    anx_status st = ANX_OK;

    *out = NULL;
    if (!server)
        return anx_fail(err, ANX_E_NOMEM, "no memory for the RPC server");
    server->params = *params;
    set_defaults(&server->params);
    server->unix_fd = -1;
    pthread_mutex_init(&server->clients_lock, NULL);
    server->loops = anx_alloc_zeroed(NULL, server->params.n_loop, sizeof(*server->loops));
    if (!server->loops)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu event loops", server->params.n_loop);
    if (st == ANX_OK)
        st = anx_listen_at(&server->plain, "--rpcaddr", params->address, err);
    if (st == ANX_OK && params->tls)
        st = anx_listen_at(&server->secure, "--rpcsaddr", params->tls_address, err);
    if (st == ANX_OK)
        st = listen_unix(server, params->unix_path, err);
    for (size_t i = 0; st == ANX_OK && i < server->params.n_loop; i++)
        st = loop_open(&server->loops[i], server, err);
    if (st == ANX_OK)
        st = start_threads(server, err);
    if (st != ANX_OK) {
        rpc_server_close(server);
        return st;
    }
    engine_set_clients(params->engine, rpc_clients_print, server);
    engine_set_events(params->engine, report_event, server);
    *out = server;
    return ANX_OK;
}

unsigned
rpc_server_port(const struct rpc_server *server, bool tls)
{
    return anx_listen_port(&server->plain, &server->secure, tls);
}

void
rpc_server_close(struct rpc_server *server)
{
    uint64_t one = 1;

    if (!server)
        return;
    engine_set_clients(server->params.engine, NULL, NULL);
    engine_set_events(server->params.engine, NULL, NULL);
    engine_want_events(server->params.engine, false);
    atomic_store(&server->is_stopping, true);
    for (size_t i = 0; i < server->n_loop; i++)
        if (write(server->loops[i].wake, &one, sizeof(one)) < 0)
            event_base_loopbreak(server->loops[i].base);
    for (size_t i = 0; i < server->n_loop; i++)
        pthread_join(server->loops[i].thread, NULL);
    anx_workers_close(server->workers);
    for (size_t i = 0; server->loops && i < server->params.n_loop; i++)
        loop_free(&server->loops[i]);
    anx_listen_close(&server->plain);
    anx_listen_close(&server->secure);
    if (server->unix_fd >= 0) {
        unlink(server->params.unix_path);
        close(server->unix_fd);
    }
    pthread_mutex_destroy(&server->clients_lock);
    anx_free(NULL, server->loops);
    anx_free(NULL, server);
}
