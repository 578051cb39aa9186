/* One connection: a TCP socket, plain or under TLS, with limits on how long it may be silent.
 *
 *     anx_stream_params params = { .idle_ms = 60000 };
 *     anx_stream_connect("localhost", 8998, &params, &stream, &err);
 *     anx_stream_write(stream, request, sizeof(request), &err);
 *     anx_stream_flush(stream, &err);
 *     anx_stream_read(stream, answer, sizeof(answer), &err);
 *     anx_stream_close(stream);
 *
 * The socket never blocks; every wait goes through one function (`wait`), so that a database backend can wait
 * on its own latch and end the call at once. Reads and writes handle any split of the bytes into segments and
 * any size. No call raises SIGPIPE, starts a thread, or keeps global state; OpenSSL's queue of errors is left
 * empty.
 *
 * Errors of all calls that can wait: ANX_E_NETWORK (the connection broke or was closed), ANX_E_TLS,
 * ANX_E_TIMEOUT (limit and direction are named), ANX_E_CANCELLED (anx_stream_wake), whatever the caller's
 * wait function returns, ANX_E_NOMEM. After a failed read or write the stream is only good for
 * anx_stream_linger and anx_stream_close; after a failed write also for anx_stream_read_now, because what the
 * peer said before it closed may still be there; after a read that ended with ANX_E_TIMEOUT or
 * ANX_E_CANCELLED also for writing, so that the peer can be told why.
 *
 * Threads: one at a time per stream; anx_stream_wake may come from any thread or signal handler while the
 * stream exists. */
#ifndef ANX_INDEXING_STREAM_H
#define ANX_INDEXING_STREAM_H

#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/alloc.h"
#include "annex/status.h"

typedef struct anx_stream anx_stream;
struct ssl_ctx_st; /* SSL_CTX; this header does not need OpenSSL's */

/* Waits until fd is ready for one of `events` (POLLIN, POLLOUT), at most timeout_ms (< 0: no limit), and
 * stores what is ready in *ready: 0 when the time is up (waking up early with 0 is fine too). An error on the
 * socket counts as ready. fd may be -1: then it is only a sleep. Any status but ANX_OK ends the operation and
 * is what the caller gets; use ANX_E_CANCELLED, which nobody takes for a broken connection. */
typedef anx_status (*anx_stream_wait_fn)(void *context, int fd, short events, int timeout_ms, short *ready,
                                         anx_error *err);

/* All zero is a good default. */
typedef struct anx_stream_params {
    int idle_ms;             /* a read or write fails when no byte moves for so long; 0: 60,000; < 0: never */
    int connect_ms; /* anx_stream_connect, all addresses together, and each TLS handshake; 0: 10,000 */
    bool can_wake;           /* anx_stream_wake will be used (costs a descriptor); not with `wait` */
    anx_stream_wait_fn wait; /* NULL: poll() */
    void *wait_context;      /* borrowed for the life of the stream */
    const anx_alloc *alloc;  /* NULL: process heap; borrowed for the life of the stream */
} anx_stream_params;

/* Wraps a connected socket (accepted, or one end of a socket pair). fd is taken: also on failure it is
 * closed. It is made non-blocking; TCP gets no-delay and keep-alive probes (a dead peer is noticed after
 * about 90 s without a word). params may be NULL. No byte is exchanged. */
ANX_NODISCARD anx_status anx_stream_create(int fd, const anx_stream_params *params, anx_stream **out,
                                           anx_error *err);

/* Connects to a name or a numeric address (IPv4 or IPv6, brackets allowed). All addresses of the name are
 * tried in the resolver's order; each gets its share of what is left of connect_ms. The error names every
 * address with its cause.
 * Resolving a name is the one step that cannot be interrupted: it is the C library's own blocking call. */
ANX_NODISCARD anx_status anx_stream_connect(const char *host, unsigned port, const anx_stream_params *params,
                                            anx_stream **out, anx_error *err);

/* TLS 1.2 or newer, over the connection so far. Call before any byte is exchanged. */
typedef enum anx_tls_verify {
    ANX_TLS_VERIFY_NONE, /* any certificate: protects against listeners only */
    ANX_TLS_VERIFY_CA,   /* the certificate must be, or descend from, one in ca_file */
    ANX_TLS_VERIFY_FULL  /* and must carry the name */
} anx_tls_verify;
typedef struct anx_tls_params {
    anx_tls_verify verify;
    const char *ca_file; /* PEM; NULL: the system's */
    const char *name;    /* to ask for (SNI) and to check; NULL: the host given to anx_stream_connect */
} anx_tls_params;
ANX_NODISCARD anx_status anx_stream_tls_connect(anx_stream *stream, const anx_tls_params *params,
                                                anx_error *err);
/* The server's side. ctx has certificate and key; a reference is kept, so it may be replaced meanwhile. */
ANX_NODISCARD anx_status anx_stream_tls_accept(anx_stream *stream, struct ssl_ctx_st *ctx, anx_error *err);

/* Limits for the calls that follow. idle: as in the params, separately for the two directions (0: unchanged).
 * A deadline counts from now and covers all calls until it is set again, however often bytes move: it is
 * what ends a peer that sends one byte at a time. 0: no deadline. */
void anx_stream_set_idle(anx_stream *stream, int read_ms, int write_ms);
void anx_stream_set_deadline(anx_stream *stream, int timeout_ms);

/* Exactly `size` bytes. The end of the stream before that is ANX_E_NETWORK. */
ANX_NODISCARD anx_status anx_stream_read(anx_stream *stream, void *bytes, size_t size, anx_error *err);
/* At least 1, at most `size` bytes; *got 0 only at the end of the stream (with or without a TLS farewell:
 * sizes are declared by the protocol, so a cut is noticed there). */
ANX_NODISCARD anx_status anx_stream_read_some(anx_stream *stream, void *bytes, size_t size, size_t *got,
                                              anx_error *err);
/* What is there without waiting: *got may be 0. *at_end (may be NULL): nothing more will come. */
ANX_NODISCARD anx_status anx_stream_read_now(anx_stream *stream, void *bytes, size_t size, size_t *got,
                                             bool *at_end, anx_error *err);

/* Buffered: small writes collect until 64 KiB or anx_stream_flush; large ones go out at once. All bytes are
 * taken (copied or sent) on return. */
ANX_NODISCARD anx_status anx_stream_write(anx_stream *stream, const void *bytes, size_t size, anx_error *err);
ANX_NODISCARD anx_status anx_stream_flush(anx_stream *stream, anx_error *err);
/* Sends what fits without waiting, the buffer first; *done counts of `bytes`. When *done < size, the next
 * write call must begin with the rest (TLS may have encrypted a part of it). */
ANX_NODISCARD anx_status anx_stream_write_now(anx_stream *stream, const void *bytes, size_t size,
                                              size_t *done, anx_error *err);

/* Until input (POLLIN; also what was received earlier and not yet read, and the end of the stream) or room
 * for output (POLLOUT), at most timeout_ms (0: only look; < 0: no limit but the deadline). *ready 0: the time
 * is up. Under TLS input may turn out to be none for the reader (a key update): use read_now after it. */
ANX_NODISCARD anx_status anx_stream_wait(anx_stream *stream, short events, int timeout_ms, short *ready,
                                         anx_error *err);
/* Sleeps through the wait function. */
ANX_NODISCARD anx_status anx_stream_pause(anx_stream *stream, int timeout_ms, anx_error *err);

/* The call in progress and every later one that would wait return ANX_E_CANCELLED, until clear_wake. Needs
 * can_wake. */
void anx_stream_wake(anx_stream *stream);
void anx_stream_clear_wake(anx_stream *stream);

/* Orderly end of a conversation that the peer may not have finished: flushes, says farewell, shuts the
 * sending side, then reads and drops input until its end, timeout_ms or max_bytes. Without it the kernel
 * answers unread input with a reset, and the peer loses what was sent last, e.g. an error message. Only
 * anx_stream_close may follow. */
void anx_stream_linger(anx_stream *stream, int timeout_ms, size_t max_bytes);
/* Closes at once; what was not flushed is lost. NULL is fine. */
void anx_stream_close(anx_stream *stream);

typedef struct anx_stream_address {
    char host[64]; /* numeric; an IPv4 address in IPv6 clothes is shown as IPv4; "" when not a network socket
                    */
    unsigned port;
    char text[80]; /* "192.0.2.1:8998", "[2001:db8::1]:8998", or "local" */
} anx_stream_address;
/* Live as long as the stream. */
const anx_stream_address *anx_stream_peer(const anx_stream *stream);
const anx_stream_address *anx_stream_local(const anx_stream *stream);
int anx_stream_fd(const anx_stream *stream);
bool anx_stream_is_tls(const anx_stream *stream);
const char *anx_stream_tls_version(const anx_stream *stream); /* "TLSv1.3"; "" when plain */
uint64_t anx_stream_bytes_in(const anx_stream *stream);       /* as the reader saw them, TLS taken off */
uint64_t anx_stream_bytes_out(const anx_stream *stream);

#define ANX_STREAM_BINDING_SIZE 32
/* A value that both ends of this TLS connection know and nobody in between can produce (RFC 9266); all zero
 * and true when the connection is plain. False: OpenSSL could not make it. */
bool anx_stream_binding(const anx_stream *stream, uint8_t binding[ANX_STREAM_BINDING_SIZE]);

/* "2001:db8::1" becomes "[2001:db8::1]:8998", "name" becomes "name:8998". Cut to size. */
void anx_stream_format(char *text, size_t size, const char *host, unsigned port);

#endif
