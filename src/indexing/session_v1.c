/* Version 1: original Lantern clients. They read their input with single calls and check little, so every
 * field goes out in one write, an error text ends with a zero byte, and the connection is closed after the
 * file.
 *
 *     INIT -> ack -> tuples ... END -> count, size -> file -> close
 *
 * A client that meets a full house was greeted as by a router (type 2). It asks where to go, and this is the
 * one question whose answer it awaits without limit: the answer is held until a slot is free and then names
 * this server; the slot is kept for the peer's address until it has come back. */
#include <errno.h>
#include <inttypes.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "indexing/server_int.h"

#define IN_ROWS ((size_t) 256 << 10) /* read buffer: one system call for hundreds of rows */
#define WAIT_MS 1000

void
anx_session_v1_error(struct session *s, const char *text, bool is_bare)
{
    uint8_t frame[ANX_WIRE_V1_ERROR_MAX];
    size_t size = anx_wire_v1_error_encode(frame, text);

    if (is_bare) {
        size--;
        frame[4]--; /* the length, little-endian; these texts are shorter than 256 bytes */
    }
    anx_session_last_words(s, frame, size);
}

/* The texts of the original where there are any; the hint is for people who cannot see our log. */
static void
say_error(struct session *s, const anx_error *err)
{
    char text[sizeof(err->message) + sizeof(err->hint) + 4];

    snprintf(text, sizeof(text), "%s%s%s", err->message, err->hint[0] ? "; " : "", err->hint);
    anx_session_v1_error(s, text, false);
}

/* --- waiting for a slot --- */

static void
say_route(struct session *s)
{
    const struct indexing_server *server = s->server;
    const anx_stream_address *local = anx_stream_local(s->stream);
    anx_wire_route route = { .is_secure = server->tls != NULL, .port = server->advertise_port };
    uint8_t answer[ANX_WIRE_V1_ROUTE_MAX];
    size_t size;

    snprintf(route.host, sizeof(route.host), "%s",
             server->advertise_host[0] ? server->advertise_host : local->host);
    if (!server->advertise_host[0])
        route.port = local->port;
    size = anx_wire_route_encode(answer, &route);
    anx_log(ANX_LOG_INFO, "event=slot_offered peer=%s host=%s port=%u", s->peer, route.host, route.port);
    anx_session_last_words(s, answer, size);
}

void
anx_session_v1_route(struct session *s)
{
    struct indexing_server *server = s->server;
    uint8_t key[16];
    anx_error err;

    s->in_at += 4;
    anx_log(ANX_LOG_INFO, "event=queued peer=%s position=%zu", s->peer,
            anx_queue_position(&server->slots, &s->ticket));
    while (!anx_queue_is_admitted(&server->slots, &s->ticket)) {
        enum input what;
        anx_status st = ANX_OK;

        if (atomic_load(&server->is_draining))
            st = anx_fail(&err, ANX_E_CANCELLED, "the indexing server is shutting down");
        if (st == ANX_OK)
            st = anx_session_fill(s, WAIT_MS, &what, &err);
        if (st == ANX_OK && (what == INPUT_BYTES || what == INPUT_END))
            st = anx_fail(&err, ANX_E_NETWORK, "the client %s",
                          what == INPUT_END ? "left the queue" : "spoke out of turn");
        if (st !=
            ANX_OK) { /* there is no way to tell a client that waits for a router; closing makes it fail */
            anx_log(ANX_LOG_INFO, "event=unqueued peer=%s reason=\"%s\"", s->peer, quoted(err.message).text);
            return;
        }
        anx_queue_check(&server->slots);
    }
    anx_address_key(&s->address, key);
    anx_queue_reserve(&server->slots, &s->ticket, key, server->params.reserve_ms);
    say_route(s);
}

/* --- rows --- */

/* Rows from the buffer into batches, up to a magic word or an incomplete row. *is_over: END was there. */
static anx_status
use_rows(struct session *s, size_t vector_size, bool *is_over, anx_error *err)
{
    size_t frame_size = 8 + vector_size;
    size_t n = 0;
    anx_wire_row_word word = ANX_WIRE_WORD_ROW;
    anx_status st = ANX_OK;

    while (session_buffered(s) >= n * frame_size + 4) {
        word = anx_wire_row_word_of(session_bytes(s) + n * frame_size);
        if (word != ANX_WIRE_WORD_ROW || session_buffered(s) < (n + 1) * frame_size)
            break;
        n++;
    }
    if (n > 0)
        st = anx_session_rows(s, n, session_bytes(s), frame_size, session_bytes(s) + 8, frame_size, err);
    s->in_at += n * frame_size;
    if (st == ANX_OK && word == ANX_WIRE_WORD_INIT)
        return anx_fail(err, ANX_E_CORRUPT, "Invalid message received");
    *is_over = word == ANX_WIRE_WORD_END;
    if (*is_over)
        s->in_at += 4;
    return st;
}

static anx_status
fail_end(const struct session *s, anx_error *err)
{
    if (session_buffered(s) == 0)
        return anx_fail(err, ANX_E_NETWORK,
                        "Invalid frame received: the client closed the connection after %" PRIu64
                        " rows, without their end",
                        s->n_row);
    return anx_fail(
        err, ANX_E_NETWORK,
        "failed to fill whole buffer: the client closed the connection in the middle of row %" PRIu64,
        s->n_row + 1);
}

static anx_status
receive_rows(struct session *s, anx_error *err)
{
    size_t vector_size = anx_wire_vector_size(&s->request);
    unsigned idle_ms = s->server->params.idle_timeout_ms;
    uint64_t heard_ns = anx_clock_ns();
    bool is_over = false;
    anx_status st = anx_session_room(s, IN_ROWS, err);

    while (st == ANX_OK) {
        uint64_t silent_ms = (anx_clock_ns() - heard_ns) / 1000000;
        enum input what = INPUT_BYTES;

        st = use_rows(s, vector_size, &is_over, err);
        if (st != ANX_OK || is_over)
            break;
        st = anx_session_flush_rows(s, err);
        if (st == ANX_OK)
            st = anx_session_fill(s, idle_ms < WAIT_MS ? idle_ms : WAIT_MS, &what, err);
        if (st != ANX_OK)
            break;
        if (what == INPUT_BYTES)
            heard_ns = anx_clock_ns();
        else if (what == INPUT_WOKEN)
            st = anx_session_built(s, &is_over, err); /* the builder's failure */
        else if (what == INPUT_END)
            st = fail_end(s, err);
        else if (silent_ms >= idle_ms)
            st = anx_fail(
                err, ANX_E_TIMEOUT,
                "Resource temporarily unavailable (os error 11): no row came for %.0f s (--idle-timeout "
                "of the indexing server)",
                (double) idle_ms / 1000);
    }
    return st;
}

/* --- the build --- */

/* The client's end of the connection is closed. Some clients close only their sending half and still read;
 * one that is gone altogether answers the kernel's probes with a reset, which is asked for soon. */
static void
probe_peer(const struct session *s)
{
    int seconds = 5;
    int fd = anx_stream_fd(s->stream);

    if (setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &seconds, sizeof(seconds)) != 0 ||
        setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &seconds, sizeof(seconds)) != 0)
        anx_log(ANX_LOG_DEBUG, "event=no_probes peer=%s error=\"%s\"", s->peer, strerror(errno));
}

/* Sleeps until wake_fd is written or the connection is reset. Input is not waited for: its end has come. */
static anx_status
sleep_half_closed(struct session *s, anx_error *err)
{
    struct pollfd polled[2] = { { .fd = anx_stream_fd(s->stream) }, { .fd = s->wake_fd, .events = POLLIN } };
    uint64_t count;

    if (poll(polled, 2, WAIT_MS) > 0 && polled[1].revents && read(s->wake_fd, &count, sizeof(count)) < 0)
        return ANX_OK; /* somebody else's wake: look again */
    if (atomic_load_explicit(&s->stop, memory_order_relaxed) != SESSION_RUN)
        return anx_session_fail_stopped(s, err);
    if (polled[0].revents & (POLLERR | POLLHUP))
        return anx_fail(err, ANX_E_CANCELLED, "the client closed the connection while the index was built");
    return ANX_OK;
}

/* A client that has said END says nothing more. If it does, END was the beginning of a row whose label reads
 * the same, and rows would be missing without a word. */
static anx_status
check_silence(const struct session *s, anx_error *err)
{
    if (session_buffered(s) == 0)
        return ANX_OK;
    return anx_fail(err, ANX_E_CORRUPT,
                    "Invalid message received: bytes follow the end marker after row %" PRIu64, s->n_row);
}

static anx_status
await_index(struct session *s, anx_error *err)
{
    bool is_ready = false;
    bool is_half_closed = false;

    for (;;) {
        enum input what = INPUT_TIMEOUT;
        anx_status st = anx_session_built(s, &is_ready, err);

        if (st == ANX_OK && is_half_closed && !is_ready)
            st = sleep_half_closed(s, err);
        else if (st == ANX_OK && !is_half_closed)
            st = anx_session_fill(s, is_ready ? 0 : WAIT_MS, &what, err);
        if (st == ANX_OK)
            st = check_silence(s, err);
        if (st != ANX_OK || is_ready)
            return st;
        if (what == INPUT_END) {
            is_half_closed = true;
            probe_peer(s);
        }
    }
}

static anx_status
check_token(const struct session *s, anx_error *err)
{
    const struct indexing_server_params *params = &s->server->params;

    if (!params->token_file || params->allow_v1_without_token)
        return ANX_OK;
    (void) anx_fail(err, ANX_E_AUTH, "this indexing server wants a token, which this client cannot show");
    anx_error_hint(err, "use a client that speaks version 2 of the protocol, or start the server with "
                        "--allow-v1-without-token");
    return ANX_E_AUTH;
}

/* The request: from the first word to the acknowledgement. *is_build: it was understood. */
static anx_status
accept_request(struct session *s, bool *is_build, anx_error *err)
{
    static const uint8_t ack = 0;
    anx_status st = anx_session_need(s, ANX_WIRE_V1_INIT_SIZE, s->server->params.first_timeout_ms, err);

    *is_build = false;
    if (st != ANX_OK)
        return st;
    if (s->admission != QUEUE_ADMITTED && atomic_load(&s->server->is_draining))
        return anx_fail(err, ANX_E_BUSY, "the indexing server is shutting down");
    if (s->admission != QUEUE_ADMITTED)
        return anx_session_fail_full(s, err);
    st = check_token(s, err);
    if (st == ANX_OK)
        st = anx_wire_init_decode(session_bytes(s), &s->request, err);
    s->in_at += ANX_WIRE_V1_INIT_SIZE;
    *is_build = st == ANX_OK;
    if (st == ANX_OK)
        st = anx_session_check(s, err);
    if (st == ANX_OK)
        st = anx_session_begin(s, err);
    if (st == ANX_OK)
        st = anx_stream_write(s->stream, &ack, sizeof(ack), err);
    return st == ANX_OK ? anx_stream_flush(s->stream, err) : st;
}

static void
end_badly(struct session *s, bool is_build, const anx_error *err)
{
    if (s->job) {
        anx_session_end_job(s,
                            err); /* before the client learns of it, so that the status never lags behind */
    } else {
        anx_log(ANX_LOG_WARN, "event=refused peer=%s reason=\"%s\"", s->peer, quoted(err->message).text);
        anx_jobs_refuse(&s->server->jobs, err, is_build);
    }
    say_error(s, err);
}

void
anx_session_v1(struct session *s)
{
    bool is_build;
    anx_error err;
    anx_status st = accept_request(s, &is_build, &err);

    if (st == ANX_OK)
        st = receive_rows(s, &err);
    if (st == ANX_OK)
        st = check_silence(s, &err);
    if (st == ANX_OK) {
        anx_session_end_rows(s);
        st = await_index(s, &err);
    }
    if (st != ANX_OK) {
        end_badly(s, is_build, &err);
        return;
    }
    st = anx_session_send_v1(s, &err);
    if (s->job)
        anx_session_end_job(s, st == ANX_OK ? NULL : &err);
    if (st == ANX_OK)
        anx_session_last_words(s, NULL, 0);
}
