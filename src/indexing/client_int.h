/* Private to client.c, client_v1.c and client_v2.c. */
#ifndef ANX_INDEXING_CLIENT_INT_H
#define ANX_INDEXING_CLIENT_INT_H

#include "indexing/client.h"

#define CLIENT_BATCH_SIZE ((size_t) 256 << 10) /* rows are collected up to about this */
#define CLIENT_TARGET_MAX 300

/* What the caller may do next. */
enum client_phase { CLIENT_ROWS, CLIENT_READ, CLIENT_OVER };

/* A frame of version 2 that is arriving, or has. */
struct client_frame {
    uint8_t *bytes; /* owned, [capacity]; grows up to ANX_WIRE_FRAME_MAX */
    size_t capacity;
    size_t have;
    anx_wire_head head; /* once have >= ANX_WIRE_HEAD_SIZE */
};

struct anx_indexing_client {
    anx_indexing_params params; /* strings and token owned */
    char *host;                 /* owned; now connected to */
    unsigned port;
    bool is_secure;
    char target[CLIENT_TARGET_MAX]; /* "host:port" of the above */
    unsigned version;               /* agreed: 1 or 2; 0: not yet */
    enum client_phase phase;
    bool is_quiet;   /* no notices now */
    bool is_refused; /* the error at hand is the server's own word */
    anx_stream *stream;             /* owned; NULL between connections */
    size_t vector_size;
    uint64_t bytes_in; /* of earlier connections */
    uint64_t bytes_out;

    /* Rows on their way. Version 1: bytes [out_at, out_size) of `out` wait to be sent. Version 2: `out` is a
     * ROWS frame in the making, its labels in place, its vectors where those of a full frame begin. */
    uint8_t *out; /* owned, [out_capacity] */
    size_t out_capacity;
    size_t out_at;
    size_t out_size;
    size_t batch_max; /* rows of a full frame */
    size_t n_batch;
    uint64_t n_row;
    uint64_t batch_began_ns; /* when the first of the rows now held back came */
    uint64_t sent_ns;        /* when something went out last */
    bool is_mid_frame;       /* a frame was sent in part: nothing else can be said any more */

    /* The index on its way. */
    anx_wire_index index;
    uint64_t n_given; /* bytes handed to the caller, or lying checked in `piece` */
    /* Version 1: the first bytes of the file, read before the rest to see whether they are an error frame. */
    uint8_t first[4];
    size_t n_first; /* of them not yet handed out */
    bool has_first;

    /* Version 2. */
    anx_wire_state state;
    anx_wire_welcome welcome; /* of the connection that began the job: session and key for RESUME */
    struct client_frame
        frames[2]; /* frames[current] is what is read into; the other one holds the last piece of */
    unsigned current;              /* data while DONE is awaited */
    const uint8_t *piece;          /* data not yet handed out, in one of them */
    size_t n_piece;
    anx_wire_sum *sum; /* owned */
    uint32_t idle_timeout_s; /* granted in READY */
    unsigned n_resumed;
};

/* ------------------------------------------------------------------------------------------ client.c, for
 * both
 */

/* A client that is not connected. Also on failure *out may have to be closed. */
anx_status anx_client_create(const anx_indexing_params *params, anx_indexing_client **out, anx_error *err);
/* Connects to client->host and makes the TLS handshake. */
anx_status anx_client_connect(anx_indexing_client *client, anx_error *err);
void anx_client_disconnect(anx_indexing_client *client);
/* Reads the server's hello, within the time of a hello. An error frame in its place is an error. */
anx_status anx_client_hello(anx_indexing_client *client, uint32_t *type, anx_error *err);
void anx_client_notify(const anx_indexing_client *client, anx_indexing_notice *notice);
/* Sends all of it, reading meanwhile what the server says: an error ends it. */
anx_status anx_client_send(anx_indexing_client *client, const uint8_t *bytes, size_t size, anx_error *err);
/* Looks, without waiting, at what the server said while rows go out. */
anx_status anx_client_listen(anx_indexing_client *client, anx_error *err);
/* Did nothing go out for so long that a sign of life is due? */
bool anx_client_is_quiet(const anx_indexing_client *client);
/* Sleeps through the caller's wait function. */
anx_status anx_client_pause(anx_indexing_client *client, int timeout_ms, anx_error *err);
/* Fails with what the server said. */
anx_status anx_client_refused(anx_indexing_client *client, anx_status status, const char *text,
                              const char *hint, anx_error *err);
/* Is it the number of rows that were sent? */
anx_status anx_client_check_count(const anx_indexing_client *client, uint64_t count, anx_error *err);
/* The same, and is a file of this size possible for them? */
anx_status anx_client_check_index(const anx_indexing_client *client, const anx_wire_index *index,
                                  anx_error *err);

/* ----------------------------------------------------------------------------------------------------
 * version 1
 */

/* After a router's hello: asks, waits, and makes the answer the client's new target. */
anx_status anx_client1_route(anx_indexing_client *client, anx_error *err);
/* INIT, codebook, acknowledgement. */
anx_status anx_client1_begin(anx_indexing_client *client, anx_error *err);
anx_status anx_client1_rows(anx_indexing_client *client, size_t n, const uint64_t *labels,
                            const uint8_t *vectors, anx_error *err);
/* Sends what was collected; with keep_row all but the last row, of which it sends the first four bytes. */
anx_status anx_client1_flush(anx_indexing_client *client, bool keep_row, anx_error *err);
anx_status anx_client1_keep_alive(anx_indexing_client *client, anx_error *err);
anx_status anx_client1_listen(anx_indexing_client *client, anx_error *err);
anx_status anx_client1_finish(anx_indexing_client *client, anx_error *err);
anx_status anx_client1_read(anx_indexing_client *client, void *bytes, size_t size, size_t *got,
                            anx_error *err);
/* The rest of an error frame of which `head` was read; fails with its text. */
anx_status anx_client1_refused(anx_indexing_client *client, const uint8_t head[ANX_WIRE_V1_ERROR_HEAD_SIZE],
                               anx_error *err);

/* ----------------------------------------------------------------------------------------------------
 * version 2
 */

/* After the hello: UPGRADE, WELCOME. *is_v1 (with ANX_OK): this server does not know version 2; the
 * connection is used up. */
anx_status anx_client2_upgrade(anx_indexing_client *client, bool *is_v1, anx_error *err);
/* BEGIN, the queue, READY. */
anx_status anx_client2_begin(anx_indexing_client *client, anx_error *err);
anx_status anx_client2_rows(anx_indexing_client *client, size_t n, const uint64_t *labels,
                            const uint8_t *vectors, anx_error *err);
anx_status anx_client2_flush(anx_indexing_client *client, anx_error *err);
anx_status anx_client2_keep_alive(anx_indexing_client *client, anx_error *err);
anx_status anx_client2_listen(anx_indexing_client *client, anx_error *err);
anx_status anx_client2_finish(anx_indexing_client *client, anx_error *err);
anx_status anx_client2_read(anx_indexing_client *client, void *bytes, size_t size, size_t *got,
                            anx_error *err);
/* Before the connection is given up because of st: if the server sent something wrong, it is told, so that
 * the error shows on both sides. */
void anx_client2_complain(anx_indexing_client *client, anx_status st, const anx_error *err);
/* CANCEL, if it can be said without waiting. */
void anx_client2_cancel(anx_indexing_client *client);

#endif
