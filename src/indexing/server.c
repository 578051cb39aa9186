/* The server as a whole: start, accept, reload, drain, stop. Sessions are in session.c. */
#include "indexing/server.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "indexing/server_int.h"

#define SPARE_SESSIONS 32 /* beyond slots and queue: handshakes, refusals, downloads that go on */

/* --- sessions --- */

static struct session *
session_create(struct indexing_server *server, int fd, const struct anx_address *address)
{
    struct session *s = anx_alloc_zeroed(NULL, 1, sizeof(*s));

    if (!s)
        return NULL;
    s->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (s->wake_fd < 0) {
        anx_free(NULL, s);
        return NULL;
    }
    s->server = server;
    s->fd = fd;
    s->address = *address;
    s->idle_ms = server->params.idle_timeout_ms;
    atomic_init(&s->stop, SESSION_RUN);
    anx_address_text(address, s->peer);
    return s;
}

/* False: too many, or the server ends. */
static bool
enlist(struct indexing_server *server, struct session *s)
{
    const struct indexing_server_params *params = &server->params;
    bool is_welcome;

    pthread_mutex_lock(&server->lock);
    is_welcome = !server->is_stopping &&
                 server->n_session < params->max_clients + params->max_queue + SPARE_SESSIONS;
    if (is_welcome) {
        s->next = server->first;
        s->link = &server->first;
        if (s->next)
            s->next->link = &s->next;
        server->first = s;
        server->n_session++;
    }
    pthread_mutex_unlock(&server->lock);
    return is_welcome;
}

void
anx_session_delist(struct session *s)
{
    struct indexing_server *server = s->server;

    pthread_mutex_lock(&server->lock);
    *s->link = s->next;
    if (s->next)
        s->next->link = s->link;
    server->n_session--;
    pthread_cond_broadcast(&server->ended);
    pthread_mutex_unlock(&server->lock);
}

/* A thread of its own, which nobody joins: the session takes itself off the list, and that is waited for. */
static bool
launch(struct session *s)
{
    pthread_attr_t attributes;
    pthread_t thread;
    int rc;

    pthread_attr_init(&attributes);
    pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
    rc = pthread_create(&thread, &attributes, anx_session_main, s);
    pthread_attr_destroy(&attributes);
    return rc == 0;
}

static void
take_client(struct indexing_server *server, int fd, const struct anx_address *peer)
{
    struct session *s = session_create(server, fd, peer);
    const char *why = "out of memory or descriptors";

    anx_jobs_count_connection(&server->jobs);
    if (s) {
        if (!enlist(server, s)) {
            why = "too many connections";
        } else if (launch(s)) {
            return; /* fd and s are the session's */
        } else {
            anx_session_delist(s);
            why = "no thread for it";
        }
        close(s->wake_fd);
        anx_free(NULL, s);
    }
    close(fd);
    anx_log(ANX_LOG_WARN, "event=connection_dropped reason=\"%s\"", why);
    anx_jobs_refuse(&server->jobs, NULL, false);
}

static void *
accept_main(void *argument)
{
    struct indexing_server *server = argument;
    struct anx_address peer;
    int fd;

    while (anx_listen_accept(&server->listen, server->quit_fd, &fd, &peer) == ANX_OK)
        take_client(server, fd, &peer);
    return NULL;
}

/* --- status --- */

void
anx_indexing_server_look(struct indexing_server *server, struct status_view *view)
{
    view->n_job = anx_jobs_look(&server->jobs, &view->jobs, view->job, STATUS_JOBS_MAX);
    anx_queue_lengths(&server->slots, &view->n_session, &view->n_waiting);
    anx_queue_lengths(&server->builds, &view->n_build, &view->n_build_waiting);
    view->max_sessions = server->params.max_clients;
    view->max_waiting = server->params.max_queue;
    view->max_builds = server->params.max_builds;
    view->memory = atomic_load_explicit(&server->budget.used, memory_order_relaxed);
    view->memory_limit = server->budget.limit;
    view->uptime_s = (double) (anx_clock_ns() - server->started_ns) * 1e-9;
    view->started_ms = server->started_ms;
    view->is_draining = atomic_load(&server->is_draining);
}

static void
look(void *context, struct status_view *view)
{
    anx_indexing_server_look(context, view);
}

static void
tick(void *context)
{
    struct indexing_server *server = context;

    anx_queue_check(&server->slots);
    anx_queue_check(&server->builds);
    anx_spool_expire(&server->spool);
}

static bool
fits(void *context, size_t need)
{
    return anx_budget_has_room(context, need);
}

/* --- settings --- */

static anx_status
read_token_file(const char *path, uint8_t token[ANX_WIRE_TOKEN_MAX], size_t *size, anx_error *err)
{
    uint8_t bytes[ANX_WIRE_TOKEN_MAX + 3]; /* a line end, and one more to see that it is too long */
    FILE *file = fopen(path, "re");
    struct stat stat;
    size_t n;

    if (!file)
        return anx_fail(err, ANX_E_IO, "could not read the token file \"%s\" (--token-file): %s", path,
                        strerror(errno));
    n = fread(bytes, 1, sizeof(bytes), file);
    if (ferror(file)) {
        fclose(file);
        return anx_fail(err, ANX_E_IO, "could not read the token file \"%s\" (--token-file): %s", path,
                        strerror(EIO));
    }
    if (fstat(fileno(file), &stat) == 0 && (stat.st_mode & (S_IRGRP | S_IROTH)))
        anx_log(ANX_LOG_WARN, "event=token_file_open file=\"%s\" advice=\"others can read it: chmod 600\"",
                path);
    fclose(file);
    while (n > 0 && (bytes[n - 1] == '\n' || bytes[n - 1] == '\r'))
        n--;
    if (n < TOKEN_MIN || n > ANX_WIRE_TOKEN_MAX) {
        anx_wire_forget(bytes, sizeof(bytes));
        return anx_fail(err, ANX_E_INVALID,
                        "the token in \"%s\" (--token-file) has %s%zu bytes, must be %d to %d", path,
                        n > ANX_WIRE_TOKEN_MAX ? "at least " : "", n, TOKEN_MIN, ANX_WIRE_TOKEN_MAX);
    }
    memcpy(token, bytes, n);
    *size = n;
    anx_wire_forget(bytes, sizeof(bytes));
    return ANX_OK;
}

static anx_status
load_token(struct indexing_server *server, anx_error *err)
{
    uint8_t token[ANX_WIRE_TOKEN_MAX];
    size_t size = 0;
    anx_status st;

    if (!server->params.token_file)
        return ANX_OK;
    st = read_token_file(server->params.token_file, token, &size, err);
    if (st == ANX_OK) {
        pthread_mutex_lock(&server->lock);
        memcpy(server->token, token, size);
        server->token_size = size;
        pthread_mutex_unlock(&server->lock);
    }
    anx_wire_forget(token, sizeof(token));
    return st;
}

/* HOST:PORT or [HOST]:PORT. */
static anx_status
parse_advertise(struct indexing_server *server, anx_error *err)
{
    const char *text = server->params.advertise;
    const char *colon = text ? strrchr(text, ':') : NULL;
    size_t size = colon ? (size_t) (colon - text) : 0;
    char *end = NULL;
    unsigned long port;

    if (!text)
        return ANX_OK;
    port = colon && colon[1] >= '0' && colon[1] <= '9' ? strtoul(colon + 1, &end, 10) : 0;
    if (size > 2 && text[0] == '[' && colon[-1] == ']') {
        text++;
        size -= 2;
    }
    if (size == 0 || size > ANX_WIRE_HOST_MAX || !end || *end || port < 1 || port > UINT16_MAX)
        return anx_fail(err, ANX_E_INVALID, "--advertise is \"%s\", must be HOST:PORT",
                        server->params.advertise);
    memcpy(server->advertise_host, text, size);
    server->advertise_host[size] = '\0';
    server->advertise_port = (uint16_t) port;
    return ANX_OK;
}

static anx_status
check_params(struct indexing_server_params *params, anx_error *err)
{
    if (!params->cert != !params->key)
        return anx_fail(err, ANX_E_INVALID, "--%s is given without --%s: TLS needs both",
                        params->cert ? "cert" : "key", params->cert ? "key" : "cert");
    if (params->max_clients < 1 || params->max_builds < 1)
        return anx_fail(err, ANX_E_INVALID, "--max-clients and --max-builds must be at least 1");
    if (params->max_memory == 0)
        params->max_memory = anx_budget_machine() / 4 * 3;
    if (params->max_dim == 0 || params->max_dim > ANX_DIM_MAX)
        params->max_dim = ANX_DIM_MAX;
    return ANX_OK;
}

/* One line for whoever reads the log: what a stranger on the network could do. */
static void
warn_if_open(const struct indexing_server *server)
{
    bool is_local = true;

    for (size_t i = 0; i < server->listen.n; i++) {
        struct anx_address address;

        if (anx_address_local(server->listen.fds[i], &address) && !anx_address_is_loopback(&address))
            is_local = false;
    }
    if (!is_local && !server->tls && server->token_size == 0)
        anx_log(ANX_LOG_WARN,
                "event=open_to_network host=%s advice=\"anybody who reaches this port can build and read "
                "along: use "
                "--cert and --key, --token-file, or --host 127.0.0.1\"",
                server->params.host);
}

static void
log_certificate(const struct indexing_server *server, const char *event)
{
    long left = anx_tls_seconds_left(server->tls);

    anx_log(left < 0 ? ANX_LOG_WARN : ANX_LOG_INFO, "event=%s cert=\"%s\" key=\"%s\" %s=%ld", event,
            server->params.cert, server->params.key, left < 0 ? "expired_days_ago" : "expires_in_days",
            left < 0 ? -left / 86400 : left / 86400);
}

/* --- start --- */

static anx_status
open_tls(struct indexing_server *server, anx_error *err)
{
    anx_status st;

    if (!server->params.cert)
        return ANX_OK;
    st = anx_tls_open(server->params.cert, server->params.key, &server->tls, err);
    if (st == ANX_OK)
        log_certificate(server, "certificate_loaded");
    else
        anx_error_context(err, "--cert, --key");
    return st;
}

static anx_status
open_listen(struct indexing_server *server, anx_error *err)
{
    anx_status st = anx_listen_open(&server->listen, server->params.host, server->params.port, err);

    if (st != ANX_OK)
        anx_error_context(err, "--host, --port");
    return st;
}

static anx_status
open_status(struct indexing_server *server, anx_error *err)
{
    struct status_params params = {
        .host = server->params.host,
        .port = server->params.status_port,
        .look = look,
        .tick = tick,
        .context = server,
    };
    anx_status st = anx_status_http_open(&params, &server->status, err);

    if (st != ANX_OK)
        anx_error_context(err, "--host, --status-port");
    return st;
}

static anx_status
start_accepting(struct indexing_server *server, anx_error *err)
{
    int rc;

    server->quit_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (server->quit_fd < 0)
        return anx_fail(err, ANX_E_IO, "could not create an event descriptor: %s", strerror(errno));
    rc = pthread_create(&server->accept_thread, NULL, accept_main, server);
    if (rc != 0)
        return anx_fail(err, ANX_E_NOMEM, "could not start a thread: %s", strerror(rc));
    server->has_accept_thread = true;
    pthread_setname_np(server->accept_thread, "annex-accept");
    return ANX_OK;
}

static anx_status
open_all(struct indexing_server *server, anx_error *err)
{
    struct indexing_server_params *params = &server->params;
    anx_status st = check_params(params, err);

    if (st == ANX_OK)
        st = parse_advertise(server, err);
    if (st == ANX_OK)
        st = load_token(server, err);
    if (st == ANX_OK)
        st = open_tls(server, err);
    if (st == ANX_OK)
        st = anx_queue_init(&server->slots, params->max_clients, params->max_queue, err);
    if (st == ANX_OK)
        st = anx_queue_init(&server->builds, params->max_builds, SIZE_MAX, err);
    if (st != ANX_OK)
        return st;
    anx_budget_init(&server->budget, params->max_memory);
    server->builds.fits = fits;
    server->builds.context = &server->budget;
    st = open_listen(server, err);
    if (st == ANX_OK)
        st = anx_spool_open(&server->spool, params->tmp_dir, params->resume_timeout_ms, &server->jobs, err);
    if (st == ANX_OK)
        st = open_status(server, err);
    return st == ANX_OK ? start_accepting(server, err) : st;
}

static void
log_start(const struct indexing_server *server)
{
    const struct indexing_server_params *params = &server->params;

    anx_log(ANX_LOG_INFO, "event=listening server=indexing address=%s port=%u tls=%s token=%s", params->host,
            (unsigned) server->listen.port, server->tls ? "yes" : "no", params->token_file ? "yes" : "no");
    anx_log(ANX_LOG_INFO, "event=listening server=status address=%s port=%u", params->host,
            (unsigned) anx_status_http_port(server->status));
    anx_log(ANX_LOG_INFO,
            "event=limits max_clients=%zu max_queue=%zu max_builds=%zu max_memory=%zu max_dim=%zu "
            "max_rows=%zu tmp_dir=\"%s\"",
            params->max_clients, params->max_queue, params->max_builds, params->max_memory, params->max_dim,
            params->max_rows, params->tmp_dir);
    warn_if_open(server);
}

anx_status
anx_indexing_server_start(const struct indexing_server_params *params, struct indexing_server **out,
                          anx_error *err)
{
    struct indexing_server *server = anx_alloc_zeroed(NULL, 1, sizeof(*server));
    pthread_condattr_t attributes;
    struct timespec now;
    anx_status st;

    *out = NULL;
    if (!server)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a server");
    clock_gettime(CLOCK_REALTIME, &now);
    server->params = *params;
    server->started_ns = anx_clock_ns();
    server->started_ms = (uint64_t) now.tv_sec * 1000 + (uint64_t) now.tv_nsec / 1000000;
    server->quit_fd = -1;
    atomic_init(&server->is_draining, false);
    pthread_mutex_init(&server->lock, NULL);
    pthread_condattr_init(&attributes);
    pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    pthread_cond_init(&server->ended, &attributes);
    pthread_condattr_destroy(&attributes);
    anx_jobs_init(&server->jobs);
    st = open_all(server, err);
    if (st != ANX_OK) {
        anx_indexing_server_destroy(server);
        return st;
    }
    log_start(server);
    *out = server;
    return ANX_OK;
}

uint16_t
anx_indexing_server_port(const struct indexing_server *server)
{
    return server->listen.port;
}

uint16_t
anx_indexing_server_status_port(const struct indexing_server *server)
{
    return anx_status_http_port(server->status);
}

/* --- later --- */

void
anx_indexing_server_reload(struct indexing_server *server)
{
    anx_error err;

    if (server->tls) {
        if (anx_tls_reload(server->tls, &err) == ANX_OK)
            log_certificate(server, "certificate_reloaded");
        else
            anx_log(ANX_LOG_ERROR, "event=certificate_kept error=\"%s\"", quoted(err.message).text);
    }
    if (server->params.token_file) {
        if (load_token(server, &err) == ANX_OK)
            anx_log(ANX_LOG_INFO, "event=token_reloaded");
        else
            anx_log(ANX_LOG_ERROR, "event=token_kept error=\"%s\"", quoted(err.message).text);
    }
}

/* After this nobody else can take up a session: the accept thread is gone. */
static void
stop_accepting(struct indexing_server *server)
{
    static const uint64_t one = 1;

    if (!server->has_accept_thread)
        return;
    while (write(server->quit_fd, &one, sizeof(one)) < 0 && errno == EINTR)
        ;
    pthread_join(server->accept_thread, NULL);
    server->has_accept_thread = false;
    anx_listen_close(&server->listen);
}

void
anx_indexing_server_drain(struct indexing_server *server)
{
    if (atomic_exchange(&server->is_draining, true))
        return;
    anx_log(ANX_LOG_INFO, "event=draining");
    stop_accepting(server);
    anx_queue_close(&server->slots);
    pthread_mutex_lock(&server->lock);
    for (struct session *s = server->first; s; s = s->next)
        anx_session_wake(s); /* those that only linger end now */
    pthread_mutex_unlock(&server->lock);
}

bool
anx_indexing_server_wait(struct indexing_server *server, int timeout_ms)
{
    struct timespec until;
    bool is_empty;

    clock_gettime(CLOCK_MONOTONIC, &until);
    until.tv_sec += timeout_ms / 1000;
    until.tv_nsec += (long) (timeout_ms % 1000) * 1000000;
    if (until.tv_nsec >= 1000000000) {
        until.tv_sec++;
        until.tv_nsec -= 1000000000;
    }
    pthread_mutex_lock(&server->lock);
    while (server->n_session > 0) {
        if (timeout_ms < 0)
            pthread_cond_wait(&server->ended, &server->lock);
        else if (pthread_cond_timedwait(&server->ended, &server->lock, &until) == ETIMEDOUT)
            break;
    }
    is_empty = server->n_session == 0;
    pthread_mutex_unlock(&server->lock);
    return is_empty;
}

void
anx_indexing_server_stop(struct indexing_server *server)
{
    pthread_mutex_lock(&server->lock);
    server->is_stopping = true;
    for (struct session *s = server->first; s; s = s->next)
        anx_session_stop(s, SESSION_STOP);
    pthread_mutex_unlock(&server->lock);
}

void
anx_indexing_server_destroy(struct indexing_server *server)
{
    if (!server)
        return;
    if (server->has_accept_thread)
        anx_indexing_server_drain(server);
    anx_indexing_server_stop(server);
    (void) anx_indexing_server_wait(server, -1);
    anx_status_http_close(server->status);
    anx_listen_close(&server->listen);
    anx_spool_close(&server->spool);
    anx_jobs_fini(&server->jobs);
    anx_queue_fini(&server->builds);
    anx_queue_fini(&server->slots);
    anx_tls_close(server->tls);
    if (server->quit_fd >= 0)
        close(server->quit_fd);
    pthread_cond_destroy(&server->ended);
    pthread_mutex_destroy(&server->lock);
    anx_wire_forget(server->token, sizeof(server->token));
    anx_free(NULL, server);
}
