/* Reads, writes and waits of a connection. Everything below tries without waiting first and then waits
 * through one function, anx_stream_wait_until, which is where time limits, waking and the caller's own wait
 * function come in. Connecting is in connect.c, TLS in stream_tls.c. */
#include "indexing/stream.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "indexing/stream_int.h"

#define IDLE_DEFAULT_MS 60000
#define CONNECT_DEFAULT_MS 10000
#define NS_PER_MS 1000000u

anx_status
anx_stream_new(const anx_stream_params *params, anx_stream **out, anx_error *err)
{
    static const anx_stream_params defaults = { 0 };
    const anx_stream_params *p = params ? params : &defaults;
    anx_stream *stream = anx_alloc_zeroed(p->alloc, 1, sizeof(*stream));

    *out = NULL;
    if (!stream)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the buffers of a connection");
    stream->alloc = p->alloc;
    stream->fd = -1;
    stream->wake_fd = -1;
    atomic_init(&stream->is_woken, false);
    stream->wait = p->wait;
    stream->wait_context = p->wait_context;
    stream->read_idle_ms = p->idle_ms ? p->idle_ms : IDLE_DEFAULT_MS;
    stream->write_idle_ms = stream->read_idle_ms;
    stream->connect_ms = p->connect_ms > 0 ? p->connect_ms : CONNECT_DEFAULT_MS;
    stream->read_wants = POLLIN;
    stream->write_wants = POLLOUT;
    if (p->can_wake) {
        stream->wake_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
        if (stream->wake_fd < 0) {
            anx_fail(err, ANX_E_IO, "could not create an event descriptor: %s", strerror(errno));
            anx_free(p->alloc, stream);
            return ANX_E_IO;
        }
    }
    *out = stream;
    return ANX_OK;
}

anx_status
anx_stream_create(int fd, const anx_stream_params *params, anx_stream **out, anx_error *err)
{
    anx_status st = anx_stream_new(params, out, err);

    if (st != ANX_OK) {
        close(fd);
        return st;
    }
    anx_stream_adopt(*out, fd);
    return ANX_OK;
}

void
anx_stream_close(anx_stream *stream)
{
    if (!stream)
        return;
    anx_stream_tls_free(stream);
    if (stream->fd >= 0)
        close(stream->fd);
    if (stream->wake_fd >= 0)
        close(stream->wake_fd);
    explicit_bzero(stream->in, sizeof(stream->in)); /* keys may have passed through */
    explicit_bzero(stream->out, sizeof(stream->out));
    anx_free(stream->alloc, stream);
}

/* ----------------------------------------------------------------------------------------------------
 * waiting
 */

uint64_t
anx_stream_moment(int timeout_ms)
{
    return timeout_ms < 0 ? 0 : anx_clock_ns() + (uint64_t) timeout_ms * NS_PER_MS;
}

static bool
is_past(uint64_t moment_ns)
{
    return moment_ns && anx_clock_ns() >= moment_ns;
}

/* Milliseconds until then, rounded up, for poll(); -1: no limit. */
static int
left_ms(uint64_t moment_ns)
{
    uint64_t now = anx_clock_ns();
    uint64_t left;

    if (!moment_ns)
        return -1;
    left = moment_ns > now ? (moment_ns - now + NS_PER_MS - 1) / NS_PER_MS : 0;
    return left > INT_MAX ? INT_MAX : (int) left;
}

/* The wait function that is used when the caller has none. */
static anx_status
wait_by_poll(anx_stream *stream, int fd, short events, int timeout_ms, short *ready, anx_error *err)
{
    struct pollfd fds[2] = { { .fd = fd, .events = events }, { .fd = stream->wake_fd, .events = POLLIN } };

    *ready = 0;
    if (poll(fds, 2, timeout_ms) < 0 && errno != EINTR)
        return anx_fail(err, ANX_E_IO, "could not wait for the connection: %s", strerror(errno));
    *ready = fds[0].revents;
    return ANX_OK;
}

anx_status
anx_stream_wait_until(anx_stream *stream, int fd, short events, uint64_t until_ns, short *ready,
                      anx_error *err)
{
    *ready = 0;
    do {
        int timeout_ms = left_ms(until_ns);
        anx_status st;

        if (atomic_load_explicit(&stream->is_woken, memory_order_relaxed))
            return anx_fail(err, ANX_E_CANCELLED, "the connection was told to stop");
        if (stream->wait)
            st = stream->wait(stream->wait_context, fd, events, timeout_ms, ready, err);
        else
            st = wait_by_poll(stream, fd, events, timeout_ms, ready, err);
        if (st != ANX_OK)
            return st;
        if (*ready & (POLLERR | POLLHUP | POLLNVAL))
            *ready |= events; /* the read or write that follows finds out what it is */
        *ready &= events;
    } while (!*ready && !is_past(until_ns));
    return ANX_OK;
}

/* Waits for what a stopped read or write wants, within its idle limit and the deadline. */
static anx_status
wait_for_progress(anx_stream *stream, bool is_read, anx_error *err)
{
    int idle_ms = is_read ? stream->read_idle_ms : stream->write_idle_ms;
    uint64_t until_ns = anx_stream_moment(idle_ms);
    bool is_deadline = stream->deadline_ns && (!until_ns || stream->deadline_ns < until_ns);
    short ready;
    anx_status st = anx_stream_wait_until(stream, stream->fd,
                                          is_read ? stream->read_wants : stream->write_wants,
                                          is_deadline ? stream->deadline_ns : until_ns, &ready, err);

    if (st != ANX_OK || ready)
        return st;
    if (is_deadline)
        return anx_fail(err, ANX_E_TIMEOUT, "%s did not %s in the time allowed", stream->peer.text,
                        is_read ? "send what was expected" : "take what was sent");
    if (is_read)
        return anx_fail(err, ANX_E_TIMEOUT, "nothing came from %s for %g s", stream->peer.text,
                        (double) idle_ms / 1000);
    return anx_fail(err, ANX_E_TIMEOUT, "%s took no data for %g s", stream->peer.text,
                    (double) idle_ms / 1000);
}

/* A peer that sends a byte now and then never lets a read wait; the deadline is checked here as well. */
static anx_status
check_deadline(anx_stream *stream, anx_error *err)
{
    if (!is_past(stream->deadline_ns))
        return ANX_OK;
    return anx_fail(err, ANX_E_TIMEOUT, "the exchange with %s took longer than the time allowed",
                    stream->peer.text);
}

static bool
has_input(const anx_stream *stream)
{
    return stream->in_at < stream->in_size || stream->is_at_end || anx_stream_tls_has_input(stream);
}

anx_status
anx_stream_wait(anx_stream *stream, short events, int timeout_ms, short *ready, anx_error *err)
{
    uint64_t until_ns = anx_stream_moment(timeout_ms);
    short wants = 0;
    short got;
    anx_status st;

    *ready = 0;
    if ((events & POLLIN) && has_input(stream)) {
        *ready = POLLIN;
        return ANX_OK;
    }
    if (stream->deadline_ns && (!until_ns || stream->deadline_ns < until_ns))
        until_ns = stream->deadline_ns;
    if (events & POLLIN)
        wants |= stream->read_wants;
    if (events & POLLOUT)
        wants |= stream->write_wants;
    st = anx_stream_wait_until(stream, stream->fd, wants, until_ns, &got, err);
    if (st != ANX_OK)
        return st;
    if ((events & POLLIN) && (got & stream->read_wants))
        *ready |= POLLIN;
    if ((events & POLLOUT) && (got & stream->write_wants))
        *ready |= POLLOUT;
    return *ready ? ANX_OK : check_deadline(stream, err);
}

anx_status
anx_stream_pause(anx_stream *stream, int timeout_ms, anx_error *err)
{
    short ready;

    return anx_stream_wait_until(stream, -1, 0, anx_stream_moment(timeout_ms), &ready, err);
}

void
anx_stream_wake(anx_stream *stream)
{
    uint64_t one = 1;
    int saved_errno = errno; /* a signal handler may be calling */
    ssize_t ignored;

    atomic_store_explicit(&stream->is_woken, true, memory_order_relaxed);
    ignored =
        stream->wake_fd >= 0 ? write(stream->wake_fd, &one, sizeof(one)) : 0; /* full is fine: it is ready */
    (void) ignored;
    errno = saved_errno;
}

void
anx_stream_clear_wake(anx_stream *stream)
{
    uint64_t count;
    ssize_t ignored;

    atomic_store_explicit(&stream->is_woken, false, memory_order_relaxed);
    ignored = stream->wake_fd >= 0 ? read(stream->wake_fd, &count, sizeof(count)) : 0;
    (void) ignored;
}

static int
idle_or(int ms, int old)
{
    return ms ? ms : old;
}

void
anx_stream_set_idle(anx_stream *stream, int read_ms, int write_ms)
{
    stream->read_idle_ms = idle_or(read_ms, stream->read_idle_ms);
    stream->write_idle_ms = idle_or(write_ms, stream->write_idle_ms);
}

void
anx_stream_set_deadline(anx_stream *stream, int timeout_ms)
{
    stream->deadline_ns = timeout_ms > 0 ? anx_stream_moment(timeout_ms) : 0;
}

/* ----------------------------------------------------------------------------------------------------
 * reading
 */

anx_status
anx_stream_plain_read(anx_stream *stream, void *bytes, size_t size, size_t *n, anx_error *err)
{
    ssize_t got;

    *n = 0;
    do
        got = recv(stream->fd, bytes, size, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    if (got > 0) {
        *n = (size_t) got;
        return ANX_OK;
    }
    if (got == 0) {
        stream->is_at_end = true;
        return ANX_OK;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return ANX_OK;
    return anx_fail(err, ANX_E_NETWORK, "could not receive from %s: %s", stream->peer.text, strerror(errno));
}

/* One attempt, TLS or not; counts. */
static anx_status
try_read(anx_stream *stream, void *bytes, size_t size, size_t *n, anx_error *err)
{
    size_t piece = size < STREAM_PIECE_MAX ? size : STREAM_PIECE_MAX;
    anx_status st;

    *n = 0;
    if (stream->is_at_end)
        return ANX_OK;
    st = stream->tls ? anx_stream_tls_read(stream, bytes, piece, n, err)
                     : anx_stream_plain_read(stream, bytes, piece, n, err);
    stream->bytes_in += *n;
    return st;
}

static size_t
take_buffered(anx_stream *stream, void *bytes, size_t size)
{
    size_t n = stream->in_size - stream->in_at;

    if (n > size)
        n = size;
    if (n)
        memcpy(bytes, stream->in + stream->in_at, n);
    stream->in_at += n;
    return n;
}

/* One attempt into the caller's bytes; small ones go through the buffer, so that heads of frames do not cost
 * a system call each. The buffer is empty. */
static anx_status
try_fill(anx_stream *stream, void *bytes, size_t size, size_t *got, anx_error *err)
{
    anx_status st;

    if (size >= STREAM_BUFFER_SIZE)
        return try_read(stream, bytes, size, got, err);
    stream->in_at = 0;
    stream->in_size = 0;
    st = try_read(stream, stream->in, STREAM_BUFFER_SIZE, &stream->in_size, err);
    *got = take_buffered(stream, bytes, size);
    return st;
}

anx_status
anx_stream_read_now(anx_stream *stream, void *bytes, size_t size, size_t *got, bool *at_end, anx_error *err)
{
    anx_status st = ANX_OK;
    size_t n = take_buffered(stream, bytes, size);

    *got = n;
    while (*got < size && !stream->is_at_end) {
        st = try_fill(stream, (char *) bytes + *got, size - *got, &n, err);
        *got += n;
        if (st != ANX_OK || !n)
            break;
    }
    if (at_end)
        *at_end = stream->is_at_end && stream->in_at == stream->in_size;
    return st;
}

anx_status
anx_stream_read_some(anx_stream *stream, void *bytes, size_t size, size_t *got, anx_error *err)
{
    anx_status st = check_deadline(stream, err);

    *got = 0;
    if (st != ANX_OK || !size)
        return st;
    *got = take_buffered(stream, bytes, size);
    while (!*got) {
        st = try_fill(stream, bytes, size, got, err);
        if (st != ANX_OK || *got || stream->is_at_end)
            return st;
        st = wait_for_progress(stream, true, err);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

anx_status
anx_stream_read(anx_stream *stream, void *bytes, size_t size, anx_error *err)
{
    size_t have = 0;

    while (have < size) {
        size_t n;
        anx_status st = anx_stream_read_some(stream, (char *) bytes + have, size - have, &n, err);

        if (st != ANX_OK)
            return st;
        if (!n)
            return anx_fail(err, ANX_E_NETWORK, "%s closed the connection", stream->peer.text);
        have += n;
    }
    return ANX_OK;
}

/* ----------------------------------------------------------------------------------------------------
 * writing
 */

anx_status
anx_stream_plain_write(anx_stream *stream, const void *bytes, size_t size, int flags, size_t *n,
                       anx_error *err)
{
    ssize_t sent;

    *n = 0;
    do
        sent = send(stream->fd, bytes, size, MSG_DONTWAIT | MSG_NOSIGNAL | flags);
    while (sent < 0 && errno == EINTR);
    if (sent >= 0) {
        *n = (size_t) sent;
        return ANX_OK;
    }
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return ANX_OK;
    if (errno == EPIPE || errno == ECONNRESET)
        return anx_fail(err, ANX_E_NETWORK, "%s closed the connection", stream->peer.text);
    return anx_fail(err, ANX_E_NETWORK, "could not send to %s: %s", stream->peer.text, strerror(errno));
}

/* One attempt, TLS or not; counts. more: further bytes follow at once, do not send a short segment. */
static anx_status
try_write(anx_stream *stream, const void *bytes, size_t size, bool more, size_t *n, anx_error *err)
{
    size_t piece = size < STREAM_PIECE_MAX ? size : STREAM_PIECE_MAX;
    anx_status st;

    st = stream->tls ? anx_stream_tls_write(stream, bytes, piece, n, err)
                     : anx_stream_plain_write(stream, bytes, piece, more ? MSG_MORE : 0, n, err);
    stream->bytes_out += *n;
    return st;
}

static anx_status
send_all(anx_stream *stream, const uint8_t *bytes, size_t size, bool more, anx_error *err)
{
    while (size) {
        size_t n;
        anx_status st = check_deadline(stream, err);

        if (st == ANX_OK)
            st = try_write(stream, bytes, size, more, &n, err);
        if (st == ANX_OK && !n)
            st = wait_for_progress(stream, false, err);
        if (st != ANX_OK)
            return st;
        bytes += n;
        size -= n;
    }
    return ANX_OK;
}

static anx_status
send_buffer(anx_stream *stream, bool more, anx_error *err)
{
    size_t size = stream->out_size;

    stream->out_size = 0; /* after a failure the stream is not written to any more */
    return send_all(stream, stream->out, size, more, err);
}

anx_status
anx_stream_flush(anx_stream *stream, anx_error *err)
{
    return send_buffer(stream, false, err);
}

anx_status
anx_stream_write(anx_stream *stream, const void *bytes, size_t size, anx_error *err)
{
    anx_status st;

    if (size > STREAM_BUFFER_SIZE - stream->out_size) {
        st = send_buffer(stream, true, err);
        if (st != ANX_OK)
            return st;
    }
    if (size >= STREAM_BUFFER_SIZE)
        return send_all(stream, bytes, size, false, err);
    if (size)
        memcpy(stream->out + stream->out_size, bytes, size);
    stream->out_size += size;
    return ANX_OK;
}

anx_status
anx_stream_write_now(anx_stream *stream, const void *bytes, size_t size, size_t *done, anx_error *err)
{
    anx_status st = ANX_OK;
    size_t sent = 1;

    *done = 0;
    while (stream->out_size && sent) {
        st = try_write(stream, stream->out, stream->out_size, size > 0, &sent, err);
        if (st != ANX_OK)
            return st;
        memmove(stream->out, stream->out + sent, stream->out_size - sent);
        stream->out_size -= sent;
    }
    while (*done < size && sent) {
        st = try_write(stream, (const char *) bytes + *done, size - *done, false, &sent, err);
        if (st != ANX_OK)
            return st;
        *done += sent;
    }
    return ANX_OK;
}

void
anx_stream_linger(anx_stream *stream, int timeout_ms, size_t max_bytes)
{
    uint64_t until_ns = anx_stream_moment(timeout_ms);
    size_t dropped = 0;
    short ready;

    anx_stream_set_deadline(stream, timeout_ms > 0 ? timeout_ms : 1);
    if (anx_stream_flush(stream, NULL) != ANX_OK)
        return; /* whoever does not take our last words does not wait for the farewell either */
    if (stream->tls)
        anx_stream_tls_farewell(stream);
    if (shutdown(stream->fd, SHUT_WR) != 0)
        return;
    /* Below TLS from here on: nobody looks at these bytes. */
    while (dropped < max_bytes && !is_past(until_ns)) {
        size_t n;

        if (anx_stream_plain_read(stream, stream->in, STREAM_BUFFER_SIZE, &n, NULL) != ANX_OK ||
            stream->is_at_end)
            return;
        dropped += n;
        if (!n &&
            (anx_stream_wait_until(stream, stream->fd, POLLIN, until_ns, &ready, NULL) != ANX_OK || !ready))
            return;
    }
}

/* ---------------------------------------------------------------------------------------------------
 * questions
 */

const anx_stream_address *
anx_stream_peer(const anx_stream *stream)
{
    return &stream->peer;
}

const anx_stream_address *
anx_stream_local(const anx_stream *stream)
{
    return &stream->local;
}

int
anx_stream_fd(const anx_stream *stream)
{
    return stream->fd;
}

uint64_t
anx_stream_bytes_in(const anx_stream *stream)
{
    return stream->bytes_in;
}

uint64_t
anx_stream_bytes_out(const anx_stream *stream)
{
    return stream->bytes_out;
}
