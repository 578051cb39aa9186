/* Private to stream.c, connect.c and stream_tls.c. */
#ifndef ANX_INDEXING_STREAM_INT_H
#define ANX_INDEXING_STREAM_INT_H

#include <stdatomic.h>

#include "indexing/stream.h"

#define STREAM_BUFFER_SIZE ((size_t) 65536)
#define STREAM_PIECE_MAX ((size_t) 1 << 20) /* one system call or TLS call never gets more than this */
#define STREAM_HOST_MAX 255

struct stream_tls;

struct anx_stream {
    const anx_alloc *alloc; /* borrowed */
    int fd;                 /* owned; -1: not connected */
    int wake_fd;            /* owned; -1: cannot be woken */
    atomic_bool is_woken;   /* set by anx_stream_wake; the event on wake_fd follows it */
    anx_stream_wait_fn wait;
    void *wait_context; /* borrowed */
    int read_idle_ms;
    int write_idle_ms;
    int connect_ms;
    uint64_t deadline_ns; /* on anx_clock_ns; 0: none */
    struct stream_tls *tls; /* owned; NULL: plain */
    short read_wants;       /* what a stopped read or write waits for: under TLS a read may have to send */
    short write_wants;
    bool is_at_end; /* the peer sends no more */
    uint64_t bytes_in;
    uint64_t bytes_out;
    size_t in_at; /* bytes [in_at, in_size) were received and not yet read */
    size_t in_size;
    size_t out_size; /* bytes [0, out_size) were written and not yet sent */
    anx_stream_address peer;
    anx_stream_address local;
    char host[STREAM_HOST_MAX + 1]; /* as asked for; "" for an accepted socket */
    uint8_t in[STREAM_BUFFER_SIZE];
    uint8_t out[STREAM_BUFFER_SIZE];
};

/* A stream without a socket. */
anx_status anx_stream_new(const anx_stream_params *params, anx_stream **out, anx_error *err);
/* Takes a connected socket: options, addresses. */
void anx_stream_adopt(anx_stream *stream, int fd);

/* Until one of `events` on the socket or until_ns (0: no limit); *ready 0: the time is up. */
anx_status anx_stream_wait_until(anx_stream *stream, int fd, short events, uint64_t until_ns, short *ready,
                                 anx_error *err);
/* A moment timeout_ms from now, for the above; 0 (no limit) when timeout_ms < 0. */
uint64_t anx_stream_moment(int timeout_ms);

/* One attempt without waiting. *n 0 with ANX_OK: stream->read_wants / write_wants says what to wait for, or
 * stream->is_at_end. */
anx_status anx_stream_plain_read(anx_stream *stream, void *bytes, size_t size, size_t *n, anx_error *err);
anx_status anx_stream_plain_write(anx_stream *stream, const void *bytes, size_t size, int flags, size_t *n,
                                  anx_error *err);
anx_status anx_stream_tls_read(anx_stream *stream, void *bytes, size_t size, size_t *n, anx_error *err);
anx_status
anx_stream_tls_write(anx_stream *stream, const void *bytes, size_t size, size_t *n, anx_error *err);
bool anx_stream_tls_has_input(const anx_stream *stream);
void anx_stream_tls_farewell(anx_stream *stream); /* without waiting */
void anx_stream_tls_free(anx_stream *stream);

#endif
