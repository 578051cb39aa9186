/* Listeners and event loops; workers are net/workers.h.
 *
 * One thread per listener accepts and gives each connection to the loop with the fewest. A loop is a thread
 * with its own event_base and its connections (connection.c). A request that goes to a worker comes back
 * through the loop's `done` queue and an eventfd. loop.lock (queues to the loop) is not held while anything
 * else is taken. */
#include <errno.h>
#include <http_parser.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/thread.h"
#include "http/indexing.h"
#include "http/loop.h"

#define HEADERS_MAX (1 << 20)  /* a GET query carries its SQL, and that its vector, in the request line */
#define MAX_CONNECTIONS 10000
#define STOP_PATIENCE_S 5      /* for clients that do not read their answer when the server stops */
#define WORKERS_DEFAULT 16

struct http_acceptor {
    struct http_server *server;
    struct anx_listen *listen;
    bool is_secure, is_running;
    pthread_t thread;
};

struct http_server {
    struct http_params params;
    struct anx_listen plain, secure;
    struct http_acceptor acceptors[2];
    int stop; /* eventfd: ends the acceptors */
    struct http_loop *loops;
    size_t n_loop;
    struct anx_workers *workers;
    struct http_counters counters;
    struct http_indexing *indexing; /* owned; NULL: none is configured */
    atomic_bool is_stopping;
};

const struct http_params *
http_server_params(const struct http_server *server)
{
    return &server->params;
}

void
http_count_query(struct http_request *request)
{
    atomic_fetch_add_explicit(&request->server->counters.queries, 1, memory_order_relaxed);
}

struct http_indexing *
http_server_indexing(struct http_server *server)
{
    return server->indexing;
}

bool
http_server_is_stopping(struct http_server *server)
{
    return atomic_load(&server->is_stopping);
}

struct http_counters *
http_server_counters(struct http_server *server)
{
    return &server->counters;
}

static void
wake(struct http_loop *loop)
{
    uint64_t one = 1;

    if (write(loop->wake, &one, sizeof(one)) < 0)
        anx_log(ANX_LOG_ERROR, "event=http_wake_failed errno=%d", errno);
}

/* ---- Workers ---- */

void
http_hand_to_worker(struct http_request *request)
{
    anx_workers_give(request->server->workers, &request->work);
}

static void
work(void *context, struct anx_work *given)
{
    struct http_server *server = context;
    struct http_request *request =
        (struct http_request *) ((char *) given - offsetof(struct http_request, work));
    struct http_loop *loop = request->loop;

    request->session.blocking = anx_workers_blocking;
    request->session.blocking_context = server->workers;
    http_request_run(request);
    pthread_mutex_lock(&loop->lock);
    request->next = loop->done;
    loop->done = request;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

/* ---- Loops ---- */

static void
stop_if_idle(struct http_loop *loop)
{
    if (!atomic_load(&loop->server->is_stopping))
        return;
    loop->is_stopping = true;
    http_connections_sweep(loop);
    if (loop->n_busy == 0)
        event_base_loopbreak(loop->base);
}

static void
on_wake(evutil_socket_t fd, short what, void *context)
{
    struct http_loop *loop = context;
    struct http_request *done;
    struct http_arrival *arrivals;
    uint64_t count;

    (void) what;
    while (read((int) fd, &count, sizeof(count)) > 0)
        ;
    pthread_mutex_lock(&loop->lock);
    done = loop->done;
    loop->done = NULL;
    arrivals = loop->arrivals;
    loop->arrivals = NULL;
    pthread_mutex_unlock(&loop->lock);
    while (arrivals) {
        struct http_arrival *next = arrivals->next;

        http_connection_open(loop, arrivals);
        anx_free(NULL, arrivals);
        arrivals = next;
    }
    while (done) {
        struct http_request *next = done->next;

        http_connection_answer(done);
        done = next;
    }
    stop_if_idle(loop);
}

/* Once a second: the clock for headers and limits. */
static void
on_tick(evutil_socket_t fd, short what, void *context)
{
    struct http_loop *loop = context;
    time_t now = time(NULL);
    struct tm parts;

    (void) fd;
    (void) what;
    loop->now_s = anx_clock_ns() / 1000000000u;
    gmtime_r(&now, &parts);
    evutil_date_rfc1123(loop->date, sizeof(loop->date), &parts);
    http_connections_sweep(loop);
    if (loop->is_stopping && ++loop->n_stopping_tick > STOP_PATIENCE_S)
        event_base_loopbreak(loop->base); /* a client does not read its answer */
}

static void *
run_loop(void *context)
{
    struct http_loop *loop = context;

    event_base_dispatch(loop->base);
    return NULL;
}

static anx_status
loop_open(struct http_loop *loop, struct http_server *server, anx_error *err)
{
    static const struct timeval second = { 1, 0 };

    loop->server = server;
    pthread_mutex_init(&loop->lock, NULL);
    loop->wake = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    loop->base = event_base_new();
    loop->scratch = anx_alloc_array(NULL, HTTP_READ_SIZE, 1);
    if (loop->wake >= 0 && loop->base && loop->scratch) {
        loop->wake_event = event_new(loop->base, loop->wake, EV_READ | EV_PERSIST, on_wake, loop);
        loop->tick_event = event_new(loop->base, -1, EV_PERSIST, on_tick, loop);
    }
    if (!loop->wake_event || !loop->tick_event || event_add(loop->wake_event, NULL) != 0 ||
        event_add(loop->tick_event, &second) != 0)
        return anx_fail(err, ANX_E_NOMEM, "cannot make an event loop");
    on_tick(-1, 0, loop);
    return ANX_OK;
}

/* After its thread has ended. */
static void
loop_free(struct http_loop *loop)
{
    if (!loop->server)
        return;
    while (loop->connections)
        http_connection_close(loop->connections);
    while (loop->arrivals) {
        struct http_arrival *next = loop->arrivals->next;

        close(loop->arrivals->fd);
        anx_free(NULL, loop->arrivals);
        loop->arrivals = next;
    }
    if (loop->wake_event)
        event_free(loop->wake_event);
    if (loop->tick_event)
        event_free(loop->tick_event);
    if (loop->base)
        event_base_free(loop->base);
    if (loop->wake >= 0)
        close(loop->wake);
    for (size_t i = 0; i < loop->n_arena; i++)
        anx_arena_destroy(loop->arenas[i]);
    anx_free(NULL, loop->scratch);
    pthread_mutex_destroy(&loop->lock);
}

/* ---- Accepting ---- */

/* One thread accepts for all loops: sockets shared between them wake all for one connection, and chance would
 * put a client's few connections on one loop. */
static void
arrive(struct http_server *server, int fd, const struct anx_address *peer, bool is_secure)
{
    struct http_arrival *arrival = anx_alloc_zeroed(NULL, 1, sizeof(*arrival));
    struct http_loop *loop = &server->loops[0];
    size_t most = server->params.max_connections > 0 ? server->params.max_connections : MAX_CONNECTIONS;
    int one = 1;

    if (!arrival || atomic_load(&server->counters.connections) >= most) {
        if (arrival)
            anx_log(ANX_LOG_WARN, "event=http_refused reason=\"%zu connections are open\"", most);
        anx_free(NULL, arrival);
        close(fd);
        return;
    }
    for (size_t i = 1; i < server->params.n_loop; i++)
        if (atomic_load(&server->loops[i].n_connection) < atomic_load(&loop->n_connection))
            loop = &server->loops[i];
    (void) setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    atomic_fetch_add(&server->counters.connections, 1);
    atomic_fetch_add(&loop->n_connection, 1);
    arrival->fd = fd;
    arrival->is_secure = is_secure;
    anx_address_host(peer, arrival->client);
    pthread_mutex_lock(&loop->lock);
    arrival->next = loop->arrivals;
    loop->arrivals = arrival;
    pthread_mutex_unlock(&loop->lock);
    wake(loop);
}

static void *
accept_all(void *context)
{
    struct http_acceptor *acceptor = context;
    struct anx_address peer;
    int fd;

    while (anx_listen_accept(acceptor->listen, acceptor->server->stop, &fd, &peer) == ANX_OK)
        arrive(acceptor->server, fd, &peer, acceptor->is_secure);
    return NULL;
}

/* ---- The server ---- */

static anx_status
start_threads(struct http_server *server, anx_error *err)
{
    size_t n_worker = server->params.n_worker > 0 ? server->params.n_worker : WORKERS_DEFAULT;
    sigset_t all, old;
    int failed = 0;

    if (anx_workers_open(&server->workers, n_worker, work, server, err) != ANX_OK)
        return ANX_E_NOMEM;
    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &old); /* signals are the main thread's */
    while (failed == 0 && server->n_loop < server->params.n_loop) {
        failed = pthread_create(&server->loops[server->n_loop].thread, NULL, run_loop,
                                &server->loops[server->n_loop]);
        server->n_loop += failed == 0;
    }
    for (size_t i = 0; failed == 0 && i < 2; i++) {
        struct http_acceptor *acceptor = &server->acceptors[i];

        *acceptor =
            (struct http_acceptor){ server, i == 0 ? &server->plain : &server->secure, i == 1, false, 0 };
        if (acceptor->listen->n > 0) {
            failed = pthread_create(&acceptor->thread, NULL, accept_all, acceptor);
            acceptor->is_running = failed == 0;
        }
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
    server->counters.start_ns = anx_clock_ns();
    http_parser_set_max_header_size(HEADERS_MAX);
    server->stop = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (server->stop < 0)
        st = anx_fail(err, ANX_E_NOMEM, "cannot make an event: %s", strerror(errno));
    if (server->params.n_loop == 0)
        server->params.n_loop = n_cpu < 2 ? 4 : 2 * n_cpu;
    server->loops = anx_alloc_zeroed(NULL, server->params.n_loop, sizeof(*server->loops));
    if (st == ANX_OK && !server->loops)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu event loops", server->params.n_loop);
    if (st == ANX_OK && params->indexing_status && *params->indexing_status)
        st = http_indexing_open(params->indexing_status, &server->indexing, err);
    if (st == ANX_OK)
        st = anx_listen_at(&server->plain, "--httpaddr", params->address, err);
    if (st == ANX_OK && params->tls)
        st = anx_listen_at(&server->secure, "--httpsaddr", params->tls_address, err);
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
    return anx_listen_port(&server->plain, &server->secure, tls);
}

void
http_server_close(struct http_server *server)
{
    uint64_t one = 1;

    if (!server)
        return;
    atomic_store(&server->is_stopping, true);
    if (server->stop >= 0 && write(server->stop, &one, sizeof(one)) < 0)
        anx_log(ANX_LOG_ERROR, "event=http_stop_failed errno=%d", errno);
    for (size_t i = 0; i < 2; i++)
        if (server->acceptors[i].is_running)
            pthread_join(server->acceptors[i].thread, NULL);
    for (size_t i = 0; i < server->n_loop; i++)
        wake(&server->loops[i]);
    for (size_t i = 0; i < server->n_loop; i++)
        pthread_join(server->loops[i].thread, NULL);
    anx_workers_close(server->workers);
    http_indexing_close(server->indexing);
    for (size_t i = 0; server->loops && i < server->params.n_loop; i++)
        loop_free(&server->loops[i]);
    anx_listen_close(&server->plain);
    anx_listen_close(&server->secure);
    if (server->stop >= 0)
        close(server->stop);
    anx_free(NULL, server->loops);
    anx_free(NULL, server);
}
