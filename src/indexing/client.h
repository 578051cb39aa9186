/* The client of an external indexing server: rows go out, an index file comes back.
 *
 *     anx_indexing_params params = { .host = "10.0.0.7", .port = 8998 };
 *     params.job = (anx_wire_job) { .metric = ANX_WIRE_COSINE, .scalar = ANX_WIRE_F32, .element =
 * ANX_WIRE_F32, .dim = 384, .m = 16, .ef_construction = 128, .ef = 64, .format = ANX_WIRE_FILE_LANTERN,
 * .is_plain = true }; anx_indexing_open(&params, &client, &err); anx_indexing_rows(client, n, labels,
 * vectors, &err);            as often as there are rows anx_indexing_finish(client, &index, &err); waits for
 * the build; index.size bytes follow while (index.size > have) anx_indexing_read(client, buffer,
 * sizeof(buffer), &got, &err), have += got; anx_indexing_close(client);
 *
 * Version 2 of the protocol is spoken where the server can (checked frames, token, progress, resume), else
 * version 1, the original Lantern servers' own. A version 1 router is followed.
 *
 * It depends on base and OpenSSL only, starts no thread, raises no signal, keeps no global state and
 * allocates through params.alloc, so that it can live in a database backend. Every wait goes through
 * params.wait: when that returns an error, e.g. ANX_E_CANCELLED, the call in progress ends at once with it.
 *
 * What the server says is not trusted: count and size are compared with what was sent, every length is
 * limited before it is used. In version 2 no byte is handed out before the sum of its frame was compared, and
 * anx_indexing_read fails at the end when the sum of the whole file differs. Version 1 has no sums: check the
 * file itself.
 *
 * Errors of all calls: those of stream.h; ANX_E_NETWORK with the text "external index error: ..." when the
 * server refused (version 2: the server's own status and hint instead of ANX_E_NETWORK); ANX_E_CHECKSUM;
 * ANX_E_CORRUPT for what no server of this protocol sends; ANX_E_VERSION; ANX_E_AUTH; ANX_E_LIMIT;
 * ANX_E_STATE (calls in the wrong order). After an error only anx_indexing_close is useful.
 *
 * Threads: one at a time per client. */
#ifndef ANX_INDEXING_CLIENT_H
#define ANX_INDEXING_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/alloc.h"
#include "annex/io.h"
#include "annex/status.h"
#include "indexing/stream.h"
#include "indexing/wire.h"

typedef struct anx_indexing_client anx_indexing_client;

/* What happens meanwhile, for people. Called from inside the calls below, on the same thread; it must not
 * jump and must not call the client. Borrowed for the call. */
typedef enum anx_indexing_event {
    ANX_INDEXING_CONNECTING, /* to `server`; again after a router's answer and at a resume */
    ANX_INDEXING_CONNECTED,
    ANX_INDEXING_ROUTED,  /* a router was met; its answer may take minutes */
    ANX_INDEXING_QUEUED,  /* position and n_waiting (version 2) */
    ANX_INDEXING_READY,   /* the server takes rows */
    ANX_INDEXING_BUILD,   /* progress (version 2), rows still going out or not */
    ANX_INDEXING_RESUMING /* the download broke (reason); it goes on from `done` bytes */
} anx_indexing_event;
typedef struct anx_indexing_notice {
    anx_indexing_event event;
    const char *server;         /* "host:port" as asked for */
    uint32_t position;          /* QUEUED */
    uint32_t n_waiting;         /* QUEUED */
    anx_wire_progress progress; /* BUILD */
    uint64_t done;              /* RESUMING */
    const char *reason;         /* RESUMING */
} anx_indexing_notice;
typedef void (*anx_indexing_notice_fn)(void *context, const anx_indexing_notice *notice);

/* Zero in a field is its default. */
typedef struct anx_indexing_params {
    const char *host; /* name or numeric address; required; copied */
    unsigned port;    /* required */
    bool is_secure;   /* TLS; how strictly: */
    anx_tls_params tls; /* its strings are copied */
    const void *token;  /* shared secret, version 2 only: with it, a server that speaks only version 1 is
                           refused,  and so is one that does not ask for it (it would not have proved that it
                           knows it).  Copied; wiped at close. */
    size_t token_size; /* up to ANX_WIRE_TOKEN_MAX */
    unsigned protocol; /* 0: version 2, else 1; or 1 or 2: only that */
    anx_wire_job job;  /* version is set by the client; format and the flags hold in version 2 only */
    const float *codebook;   /* job.has_pq: [n_centroids * dim], centroid c of every subvector concatenated;
                                borrowed   for anx_indexing_open; version 1 only */
    bool allow_missing_rows; /* version 1: an original server drops rows that it cannot add; true accepts a
                                smaller count */
    unsigned n_resume;       /* how often a broken download may be resumed (version 2); 0: never */
    int connect_ms;          /* each connection with its handshake; 10,000 */
    int hello_ms;            /* hello, acknowledgement, WELCOME; 10,000 */
    int idle_ms;             /* no byte moves: rows, progress, download; 60,000; < 0: never. Version 1 has no
                                sign of life while the server builds or a router looks for a machine: there
                                only the kernel's keep-alive probes end the wait */
    int life_sign_ms;        /* silence after which anx_indexing_keep_alive says something; 5,000 */
    anx_stream_wait_fn wait; /* NULL: poll() */
    void *wait_context;      /* borrowed for the client's life */
    anx_indexing_notice_fn notice; /* may be NULL */
    void *notice_context;
    const anx_alloc *alloc; /* NULL: process heap */
} anx_indexing_params;

/* Connects, agrees on a version, proves the token, sends the job, and returns when the server takes rows. A
 * full server keeps the caller waiting (ANX_INDEXING_QUEUED) without limit; cancel through `wait`. */
ANX_NODISCARD anx_status anx_indexing_open(const anx_indexing_params *params, anx_indexing_client **out,
                                           anx_error *err);

/* Sends rows: labels [n], vectors [n * anx_wire_vector_size(&job)] in the wire's element kind. Rows are
 * collected to frames of about 256 KiB, but not held back for more than a second of the caller's time, so one
 * row per call is fine. What the server has to say meanwhile is read: an error ends the call.
 * Version 1: a label that would read as a magic word there (README.md) is refused with ANX_E_VALUE. */
ANX_NODISCARD anx_status anx_indexing_rows(anx_indexing_client *client, size_t n, const uint64_t *labels,
                                           const void *vectors, anx_error *err);

/* For callers that find no row for a while: call it about once a second. Sends what was collected, and a sign
 * of life when nothing went out for life_sign_ms (version 2: PING; version 1, whose original servers give up
 * after 10 s: a further byte of a row kept back for this). */
ANX_NODISCARD anx_status anx_indexing_keep_alive(anx_indexing_client *client, anx_error *err);

/* The end of the rows; waits for the build. index->count is the number of rows sent (version 1 with
 * allow_missing_rows: or less), index->size what anx_indexing_read will give in all. */
ANX_NODISCARD anx_status anx_indexing_finish(anx_indexing_client *client, anx_wire_index *index,
                                             anx_error *err);

/* The next bytes of the index: between 1 and `size` of them, as they arrive; *got 0 only when index->size
 * bytes were given and (version 2) their sum was right. */
ANX_NODISCARD anx_status anx_indexing_read(anx_indexing_client *client, void *bytes, size_t size, size_t *got,
                                           anx_error *err);
/* The same as a source, which fills `size` to the brim as its contract asks; for anx_index_load. Valid as
 * long as the client. */
anx_source anx_indexing_source(anx_indexing_client *client);

/* Ends the session: before the end of the download it sends CANCEL if that is possible without waiting, then
 * closes. Wipes secrets. NULL is fine. */
void anx_indexing_close(anx_indexing_client *client);

typedef struct anx_indexing_info {
    unsigned version;    /* of the protocol: 1 or 2; 0: not yet agreed */
    const char *server;  /* "host:port" now connected to; lives as long as the client */
    const char *program; /* version 2: what the server calls itself; "" */
    const char *tls;     /* "TLSv1.3"; "" when plain */
    uint32_t
        idle_timeout_s;  /* version 2: how long the server lets the client be silent between rows; 0: any */
    uint64_t n_row;      /* sent or collected */
    uint64_t bytes_in;   /* over all connections, TLS taken off */
    uint64_t bytes_out;
    unsigned n_resumed;
    anx_wire_state state; /* version 2 */
} anx_indexing_info;
void anx_indexing_get_info(const anx_indexing_client *client, anx_indexing_info *info);

#endif
