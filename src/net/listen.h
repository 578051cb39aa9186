/* Listening sockets: every address of a host name, clear errors, port 0 for tests.
 *
 *     struct anx_listen listen;
 *     if (anx_listen_open(&listen, "localhost", 8998, &err) == ANX_OK) {
 *         printf("port %u\n", listen.port);
 *         while (anx_listen_accept(&listen, wake_fd, &fd, &peer) == ANX_OK)
 *             serve(fd, &peer);
 *         anx_listen_close(&listen);
 *     }
 *
 * A name with several addresses ("localhost" is often 127.0.0.1 and ::1) is bound at all of them; one that
 * cannot be bound fails the whole. "::" takes IPv4 connections too.
 * Threads: accept may be called by one thread at a time; the address functions are pure. */
#ifndef ANX_NET_LISTEN_H
#define ANX_NET_LISTEN_H

#include <netinet/in.h>
#include <stdint.h>
#include <sys/socket.h>

#include "annex/status.h"

#define ANX_LISTEN_MAX 8      /* addresses of one name; more are a misconfiguration */
#define ANX_ADDRESS_TEXT 64   /* "[ffff:...]:65535", with room for a scope */

struct anx_address {
    struct sockaddr_storage storage;
    socklen_t size;
};

struct anx_listen {
    int fds[ANX_LISTEN_MAX]; /* owned, non-blocking */
    size_t n;
    uint16_t port; /* the one really bound: differs from what was asked when that was 0 */
};

/* Errors: ANX_E_INVALID (the name has no address), ANX_E_NETWORK (the message names address, port and cause;
 * the hint says what to do). On failure nothing is open. */
ANX_NODISCARD anx_status anx_listen_open(struct anx_listen *listen, const char *host, uint16_t port,
                                         anx_error *err);
/* The same for an address in one text; NULL and "none": nothing is opened, ANX_OK. `setting` says in errors
 * where the address comes from. */
ANX_NODISCARD anx_status anx_listen_at(struct anx_listen *listen, const char *setting, const char *address,
                                       anx_error *err);
/* "HOST:PORT", "[::1]:PORT", ":PORT" -> host (or "0.0.0.0") and port. ANX_E_INVALID names the text. */
ANX_NODISCARD anx_status anx_address_parse(const char *text, char *host, size_t host_size, uint16_t *port,
                                           anx_error *err);
void anx_listen_close(struct anx_listen *listen); /* a closed or zeroed one is fine */
/* The port of the one that was asked for; 0 when it is not open. */
static inline unsigned
anx_listen_port(const struct anx_listen *plain, const struct anx_listen *secure, bool tls)
{
    const struct anx_listen *listen = tls ? secure : plain;

    return listen->n > 0 ? listen->port : 0;
}

/* Waits for a connection. *fd is non-blocking and closed on exec. ANX_E_CANCELLED when wake_fd became
 * readable (it is not read), ANX_E_NETWORK when the sockets are gone. Running out of descriptors is waited
 * out, 100 ms at a time, with one warning in the log per occurrence. */
ANX_NODISCARD anx_status anx_listen_accept(struct anx_listen *listen, int wake_fd, int *fd,
                                           struct anx_address *peer);

/* The local end of a connected socket; false when it is not connected. */
bool anx_address_local(int fd, struct anx_address *out);
/* "127.0.0.1:8998", "[::1]:8998"; an IPv4 address mapped into IPv6 is shown as IPv4. */
void anx_address_text(const struct anx_address *address, char text[ANX_ADDRESS_TEXT]);
/* The same without the port and without brackets, as one gives it to a resolver. */
void anx_address_host(const struct anx_address *address, char text[ANX_ADDRESS_TEXT]);
uint16_t anx_address_port(const struct anx_address *address);
/* 16 bytes that are equal for equal hosts, whatever the port and the way IPv4 is written. */
void anx_address_key(const struct anx_address *address, uint8_t key[16]);
bool anx_address_is_loopback(const struct anx_address *address);

#endif
