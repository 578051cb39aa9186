/* From a name to a connected stream: addresses one after the other, socket options, addresses as text. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "indexing/stream_int.h"

/* Probes after 30 s without a word, every 15 s, four unanswered: about 90 s until a dead peer is noticed. Not
 * TCP_USER_TIMEOUT: it also ends a connection whose peer is alive and reads nothing for a while, which is for
 * the idle limits to decide. */
#define KEEP_ALIVE_IDLE_S 30
#define KEEP_ALIVE_INTERVAL_S 15
#define KEEP_ALIVE_COUNT 4

#define NS_PER_MS 1000000u

void
anx_stream_format(char *text, size_t size, const char *host, unsigned port)
{
    const char *format = strchr(host, ':') && host[0] != '[' ? "[%s]:%u" : "%s:%u";

    if (format[0] == '[')
        snprintf(text, size, "[%s]:%u", host, port);
    else
        snprintf(text, size, "%s:%u", host, port);
}

static void
describe_address(anx_stream_address *out, const struct sockaddr_storage *address)
{
    const struct sockaddr_in *v4 = (const struct sockaddr_in *) address;
    const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *) address;

    if (address->ss_family == AF_INET) {
        inet_ntop(AF_INET, &v4->sin_addr, out->host, sizeof(out->host));
        out->port = ntohs(v4->sin_port);
    } else if (address->ss_family == AF_INET6) {
        if (IN6_IS_ADDR_V4MAPPED(&v6->sin6_addr))
            inet_ntop(AF_INET, v6->sin6_addr.s6_addr + 12, out->host, sizeof(out->host));
        else
            inet_ntop(AF_INET6, &v6->sin6_addr, out->host, sizeof(out->host));
        out->port = ntohs(v6->sin6_port);
    } else {
        snprintf(out->text, sizeof(out->text), "local");
        return;
    }
    anx_stream_format(out->text, sizeof(out->text), out->host, out->port);
}

static void
set_option(int fd, int level, int name, int value)
{
    /* Each is an improvement, none a condition: a socket pair has no TCP options. */
    (void) setsockopt(fd, level, name, &value, sizeof(value));
}

void
anx_stream_adopt(anx_stream *stream, int fd)
{
    struct sockaddr_storage address;
    socklen_t size = sizeof(address);
    int flags = fcntl(fd, F_GETFL);

    stream->fd = fd;
    if (flags >= 0)
        (void) fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    (void) fcntl(fd, F_SETFD, FD_CLOEXEC);
    set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);
    set_option(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    set_option(fd, IPPROTO_TCP, TCP_KEEPIDLE, KEEP_ALIVE_IDLE_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPINTVL, KEEP_ALIVE_INTERVAL_S);
    set_option(fd, IPPROTO_TCP, TCP_KEEPCNT, KEEP_ALIVE_COUNT);

    memset(&address, 0, sizeof(address));
    if (getpeername(fd, (struct sockaddr *) &address, &size) != 0)
        address.ss_family = AF_UNSPEC;
    describe_address(&stream->peer, &address);
    memset(&address, 0, sizeof(address));
    size = sizeof(address);
    if (getsockname(fd, (struct sockaddr *) &address, &size) != 0)
        address.ss_family = AF_UNSPEC;
    describe_address(&stream->local, &address);
}

/* Connects fd. *cause: errno of a failure of this address; other errors (cancelled) are the status. */
static anx_status
connect_socket(anx_stream *stream, int fd, const struct addrinfo *address, uint64_t until_ns, int *cause,
               anx_error *err)
{
    socklen_t size = sizeof(*cause);
    short ready;
    anx_status st;

    *cause = 0;
    if (connect(fd, address->ai_addr, address->ai_addrlen) == 0)
        return ANX_OK;
    *cause = errno;
    if (*cause != EINPROGRESS && *cause != EINTR)
        return ANX_OK;
    st = anx_stream_wait_until(stream, fd, POLLOUT, until_ns, &ready, err);
    if (st != ANX_OK)
        return st;
    if (!ready)
        *cause = ETIMEDOUT;
    else if (getsockopt(fd, SOL_SOCKET, SO_ERROR, cause, &size) != 0)
        *cause = errno;
    return ANX_OK;
}

/* One address. ANX_OK with stream->fd < 0: it failed, and its cause was added to `causes`. */
static anx_status
try_address(anx_stream *stream, const struct addrinfo *address, uint64_t until_ns, char *causes,
            size_t causes_size, anx_error *err)
{
    struct sockaddr_storage copy;
    anx_stream_address shown;
    size_t length = strlen(causes);
    int cause = 0;
    anx_status st = ANX_OK;
    int fd = socket(address->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    if (fd < 0)
        cause = errno;
    else
        st = connect_socket(stream, fd, address, until_ns, &cause, err);
    if (st == ANX_OK && !cause) {
        anx_stream_adopt(stream, fd);
        return ANX_OK;
    }
    if (fd >= 0)
        close(fd);
    if (st != ANX_OK)
        return st;
    memset(&copy, 0, sizeof(copy));
    memset(&shown, 0, sizeof(shown));
    memcpy(&copy, address->ai_addr, address->ai_addrlen < sizeof(copy) ? address->ai_addrlen : sizeof(copy));
    describe_address(&shown, &copy);
    snprintf(causes + length, causes_size - length, "%s%s: %s", length ? "; " : "", shown.host,
             strerror(cause));
    return ANX_OK;
}

static anx_status
try_addresses(anx_stream *stream, const struct addrinfo *list, const char *target, anx_error *err)
{
    uint64_t end_ns = anx_stream_moment(stream->connect_ms);
    char causes[192] = "";
    uint64_t n_left = 0;

    for (const struct addrinfo *a = list; a; a = a->ai_next)
        n_left++;
    for (const struct addrinfo *a = list; a && n_left; a = a->ai_next, n_left--) {
        uint64_t now = anx_clock_ns();
        /* A fair share each, so that a first address that swallows everything does not use up the time. */
        uint64_t share = now < end_ns ? (end_ns - now) / n_left : 0;
        anx_status st = try_address(stream, a, now + share, causes, sizeof(causes), err);

        if (st != ANX_OK || stream->fd >= 0)
            return st;
    }
    return anx_fail(err, ANX_E_NETWORK, "could not connect to %s (%s)", target, causes);
}

/* The host without brackets; false when it is too long or empty. */
static bool
copy_host(char out[STREAM_HOST_MAX + 1], const char *host)
{
    size_t size = strlen(host);

    if (size >= 2 && host[0] == '[' && host[size - 1] == ']') {
        host++;
        size -= 2;
    }
    if (!size || size > STREAM_HOST_MAX)
        return false;
    memcpy(out, host, size);
    out[size] = '\0';
    return true;
}

anx_status
anx_stream_connect(const char *host, unsigned port, const anx_stream_params *params, anx_stream **out,
                   anx_error *err)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC,
                              .ai_socktype = SOCK_STREAM,
                              .ai_flags = AI_NUMERICSERV };
    struct addrinfo *list = NULL;
    char target[STREAM_HOST_MAX + 16];
    char service[16];
    anx_stream *stream;
    anx_status st = anx_stream_new(params, &stream, err);
    int cause;

    *out = NULL;
    if (st != ANX_OK)
        return st;
    if (!copy_host(stream->host, host) || port < 1 || port > 65535) {
        st = anx_fail(err, ANX_E_INVALID, "no server can be at host \"%.80s\", port %u", host, port);
        goto out;
    }
    anx_stream_format(target, sizeof(target), stream->host, port);
    snprintf(service, sizeof(service), "%u", port);
    cause = getaddrinfo(stream->host, service, &hints, &list);
    if (cause != 0) {
        st = anx_fail(err, ANX_E_NETWORK, "could not find the host \"%s\": %s", stream->host,
                      cause == EAI_SYSTEM ? strerror(errno) : gai_strerror(cause));
        goto out;
    }
    st = try_addresses(stream, list, target, err);
    freeaddrinfo(list);
out:
    if (st == ANX_OK)
        *out = stream;
    else
        anx_stream_close(stream);
    return st;
}
