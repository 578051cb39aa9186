/* See listen.h. */
#include "net/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"

#define BACKLOG 512 /* connections the kernel holds while we are busy; the kernel has a limit of its own */
#define NO_DESCRIPTOR_MS 100 /* out of descriptors: a session must end first, so there is no hurry */

static void
set_port(struct anx_address *address, uint16_t port)
{
    if (address->storage.ss_family == AF_INET6)
        ((struct sockaddr_in6 *) &address->storage)->sin6_port = htons(port);
    else
        ((struct sockaddr_in *) &address->storage)->sin_port = htons(port);
}

uint16_t
anx_address_port(const struct anx_address *address)
{
    if (address->storage.ss_family == AF_INET6)
        return ntohs(((const struct sockaddr_in6 *) &address->storage)->sin6_port);
    return ntohs(((const struct sockaddr_in *) &address->storage)->sin_port);
}

void
anx_address_key(const struct anx_address *address, uint8_t key[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    memset(key, 0, 16);
    if (address->storage.ss_family == AF_INET6) {
        memcpy(key, &((const struct sockaddr_in6 *) &address->storage)->sin6_addr, 16);
    } else if (address->storage.ss_family == AF_INET) {
        memcpy(key, mapped, sizeof(mapped));
        memcpy(key + 12, &((const struct sockaddr_in *) &address->storage)->sin_addr, 4);
    }
}

/* Is it IPv4, in either way of writing it? */
static bool
is_ipv4(const uint8_t key[16])
{
    static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };

    return memcmp(key, mapped, sizeof(mapped)) == 0;
}

bool
anx_address_is_loopback(const struct anx_address *address)
{
    static const uint8_t one[16] = { [15] = 1 };
    uint8_t key[16];

    anx_address_key(address, key);
    return is_ipv4(key) ? key[12] == 127 : memcmp(key, one, sizeof(one)) == 0;
}

void
anx_address_host(const struct anx_address *address, char text[ANX_ADDRESS_TEXT])
{
    uint8_t key[16];
    bool is_known;

    anx_address_key(address, key);
    if (is_ipv4(key))
        is_known = inet_ntop(AF_INET, key + 12, text, ANX_ADDRESS_TEXT) != NULL;
    else
        is_known = inet_ntop(AF_INET6, key, text, ANX_ADDRESS_TEXT) != NULL;
    if (!is_known)
        snprintf(text, ANX_ADDRESS_TEXT, "unknown");
}

void
anx_address_text(const struct anx_address *address, char text[ANX_ADDRESS_TEXT])
{
    char host[ANX_ADDRESS_TEXT];

    anx_address_host(address, host);
    if (strchr(host, ':'))
        snprintf(text, ANX_ADDRESS_TEXT, "[%.54s]:%u", host, anx_address_port(address));
    else
        snprintf(text, ANX_ADDRESS_TEXT, "%.56s:%u", host, anx_address_port(address));
}

bool
anx_address_local(int fd, struct anx_address *out)
{
    out->size = sizeof(out->storage);
    return getsockname(fd, (struct sockaddr *) &out->storage, &out->size) == 0;
}

/* Text is the name that messages give the address. */
static anx_status
fail_bind(const char *text, int error, anx_error *err)
{
    (void) anx_fail(err, ANX_E_NETWORK, "could not listen on %s: %s", text, strerror(error));
    if (error == EADDRINUSE)
        anx_error_hint(err, "another program listens there; stop it or choose another port");
    else if (error == EACCES)
        anx_error_hint(err, "ports below 1024 need a privilege; choose a higher one");
    else if (error == EADDRNOTAVAIL)
        anx_error_hint(err, "this machine has no such address");
    return ANX_E_NETWORK;
}

/* 0 or an errno; text becomes the address that was tried. */
static int
open_one(const struct addrinfo *info, uint16_t port, bool is_dual, int *out, char text[ANX_ADDRESS_TEXT])
{
    struct anx_address address = { .size = (socklen_t) info->ai_addrlen };
    int on = 1;
    int v6_only = is_dual ? 0 : 1;
    int fd;

    memcpy(&address.storage, info->ai_addr, info->ai_addrlen);
    set_port(&address, port);
    anx_address_text(&address, text);
    fd = socket(info->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return errno;
    /* Without it a restart would have to wait for connections of the old process to be forgotten. */
    if (setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on)) != 0 ||
        (info->ai_family == AF_INET6 &&
         setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &v6_only, sizeof(v6_only)) != 0) ||
        bind(fd, (struct sockaddr *) &address.storage, address.size) != 0 || listen(fd, BACKLOG) != 0) {
        int error = errno;

        close(fd);
        return error;
    }
    *out = fd;
    return 0;
}

/* getaddrinfo may give an address twice. */
static bool
is_repeated(const struct addrinfo *all, const struct addrinfo *info)
{
    for (const struct addrinfo *before = all; before != info; before = before->ai_next)
        if (before->ai_addrlen == info->ai_addrlen &&
            memcmp(before->ai_addr, info->ai_addr, info->ai_addrlen) == 0)
            return true;
    return false;
}

static anx_status
open_all(struct anx_listen *listen, const struct addrinfo *all, bool is_dual, uint16_t port, anx_error *err)
{
    for (const struct addrinfo *info = all; info && listen->n < ANX_LISTEN_MAX; info = info->ai_next) {
        char text[ANX_ADDRESS_TEXT];
        struct anx_address local;
        int error;

        if ((info->ai_family != AF_INET && info->ai_family != AF_INET6) || is_repeated(all, info))
            continue;
        error = open_one(info, port, is_dual, &listen->fds[listen->n], text);
        /* A machine without IPv6 still resolves localhost to ::1 too; the address it has is enough. */
        if ((error == EADDRNOTAVAIL || error == EAFNOSUPPORT) && (listen->n > 0 || info->ai_next))
            continue;
        if (error != 0)
            return fail_bind(text, error, err);
        if (anx_address_local(listen->fds[listen->n++], &local))
            port = anx_address_port(&local); /* port 0: the other addresses get the same one */
    }
    listen->port = port;
    return listen->n > 0 ? ANX_OK : anx_fail(err, ANX_E_INVALID, "no IPv4 or IPv6 address to listen on");
}

anx_status
anx_listen_open(struct anx_listen *listen, const char *host, uint16_t port, anx_error *err)
{
    struct addrinfo hints = { .ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE };
    struct addrinfo *all = NULL;
    anx_status st;
    int rc;

    *listen = (struct anx_listen) { .n = 0 };
    if (!host || !*host)
        return anx_fail(err, ANX_E_INVALID, "the host to listen on is empty");
    rc = getaddrinfo(host, NULL, &hints, &all);
    if (rc != 0)
        return anx_fail(err, ANX_E_INVALID, "host \"%s\" has no address: %s", host,
                        rc == EAI_SYSTEM ? strerror(errno) : gai_strerror(rc));
    st = open_all(listen, all, strcmp(host, "::") == 0, port, err);
    freeaddrinfo(all);
    if (st != ANX_OK)
        anx_listen_close(listen);
    return st;
}

void
anx_listen_close(struct anx_listen *listen)
{
    for (size_t i = 0; i < listen->n; i++)
        close(listen->fds[i]);
    listen->n = 0;
}

/* True when *fd is a connection. */
static bool
accept_one(int from, int *fd, struct anx_address *peer)
{
    peer->size = sizeof(peer->storage);
    *fd = accept4(from, (struct sockaddr *) &peer->storage, &peer->size, SOCK_CLOEXEC | SOCK_NONBLOCK);
    if (*fd >= 0)
        return true;
    if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
        anx_log(ANX_LOG_WARN, "event=accept_failed error=\"%s\"", strerror(errno));
        poll(NULL, 0, NO_DESCRIPTOR_MS);
    }
    return false; /* the peer may have gone already; that is no failure of ours */
}

anx_status
anx_listen_accept(struct anx_listen *listen, int wake_fd, int *fd, struct anx_address *peer)
{
    struct pollfd polled[ANX_LISTEN_MAX + 1];

    for (size_t i = 0; i < listen->n; i++)
        polled[i] = (struct pollfd) { .fd = listen->fds[i], .events = POLLIN };
    polled[listen->n] = (struct pollfd) { .fd = wake_fd, .events = POLLIN };
    for (;;) {
        if (poll(polled, (nfds_t) listen->n + 1, -1) < 0 && errno != EINTR)
            return ANX_E_NETWORK;
        if (polled[listen->n].revents)
            return ANX_E_CANCELLED;
        for (size_t i = 0; i < listen->n; i++) {
            if (polled[i].revents & (POLLERR | POLLNVAL))
                return ANX_E_NETWORK;
            if ((polled[i].revents & POLLIN) && accept_one(listen->fds[i], fd, peer))
                return ANX_OK;
        }
    }
}

anx_status
anx_address_parse(const char *text, char *host, size_t host_size, uint16_t *port, anx_error *err)
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

anx_status
anx_listen_at(struct anx_listen *listen, const char *setting, const char *address, anx_error *err)
{
    char host[256];
    uint16_t port;
    anx_status st;

    if (!address || strcmp(address, "none") == 0)
        return ANX_OK;
    st = anx_address_parse(address, host, sizeof(host), &port, err);
    if (st == ANX_OK)
        st = anx_listen_open(listen, host, port, err);
    if (st != ANX_OK)
        anx_error_context(err, "%s", setting);
    return st;
}
