/* Private to the files of the server: server.c, session.c, session_v1.c, session_v2.c, download.c. */
#ifndef ANX_INDEXING_SERVER_INT_H
#define ANX_INDEXING_SERVER_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "indexing/budget.h"
#include "indexing/builder.h"
#include "indexing/convert.h"
#include "indexing/jobs.h"
#include "indexing/queue.h"
#include "indexing/server.h"
#include "indexing/spool.h"
#include "indexing/stream.h"
#include "indexing/wire.h"
#include "net/listen.h"
#include "net/tls.h"

#define TOKEN_MIN 8 /* bytes; shorter ones can be guessed */

struct session;

struct indexing_server {
    struct indexing_server_params params; /* immutable, defaults filled in */
    char advertise_host[ANX_WIRE_HOST_MAX + 1]; /* immutable; "": the client's own view of us */
    uint16_t advertise_port;
    struct anx_listen listen; /* the accept thread's */
    anx_tls *tls;             /* NULL: plain */
    struct jobs jobs;
    struct queue slots;  /* sessions */
    struct queue builds; /* graphs */
    struct budget budget;
    struct spool spool;
    struct status_http *status;
    uint64_t started_ns, started_ms;
    int quit_fd; /* owned: readable ends the accept thread */
    pthread_t accept_thread;
    bool has_accept_thread, has_jobs;
    atomic_bool is_draining; /* set once; sessions that miss it are woken afterwards */

    pthread_mutex_t lock; /* of all below */
    pthread_cond_t ended; /* n_session became smaller */
    struct session *first;
    size_t n_session;
    bool is_stopping;
    uint8_t token[ANX_WIRE_TOKEN_MAX];
    size_t token_size; /* 0: none */
};

enum session_stop {
    SESSION_RUN,
    SESSION_STOP,   /* the server ends */
    SESSION_REPLACED, /* the client came back on another connection, for the rest of the download */
    SESSION_ABANDONED /* and gave up there */
};

/* What came of waiting for the client. */
enum input { INPUT_BYTES, INPUT_END, INPUT_TIMEOUT, INPUT_WOKEN };

struct session {
    struct session *next, **link; /* server's lock */
    struct indexing_server *server;
    int fd; /* until the stream has it */
    struct anx_address address;
    char peer[ANX_ADDRESS_TEXT];
    int wake_fd;      /* owned: queue, builder and server write it */
    atomic_int stop;  /* enum session_stop; relaxed, a write to wake_fd follows */
    /* server's lock, for sessions of version 2: who may take over the download */
    bool has_id;
    uint8_t id[ANX_WIRE_SESSION_SIZE], resume_key[ANX_WIRE_PROOF_SIZE];

    /* The session's thread only. */
    anx_stream *stream; /* owned */
    bool wakes;         /* a wait ends when wake_fd is written */
    bool is_parting;    /* the last words are being said: nothing stops that but its own time limit */
    bool lingers;       /* they were said */
    struct queue_ticket ticket;
    enum queue_answer admission;
    anx_wire_job request;
    anx_save_params save;
    struct row_convert convert;
    struct job *job;         /* owned; NULL when there is none (any more) */
    struct job *ended_job;   /* owned: what the builder, as long as it lives, writes to */
    struct builder *builder; /* owned */
    struct batch *batch;     /* the builder's, being filled; may be NULL */
    uint64_t n_row;
    bool has_all_rows; /* the builder was told */
    uint64_t rows_began_ns;
    uint8_t *in; /* owned [in_capacity]: bytes [in_at, in_end) were received and not yet used */
    size_t in_capacity, in_at, in_end;
    bool is_at_end; /* the client sends no more */
    anx_wire_state state; /* version 2, with the next four */
    uint8_t nonce[ANX_WIRE_NONCE_SIZE];
    uint64_t told_ns;     /* when the client last heard of us */
    uint64_t progress_ns; /* and of the progress */
    unsigned idle_ms; /* granted */
    uint8_t frame[ANX_WIRE_SMALL_MAX];
};

/* --- session.c --- */

/* A thread's main function: the session is owned by it. */
void *anx_session_main(void *session);
/* Takes it off the list of sessions; whoever waits for the last one learns of it. */
void anx_session_delist(struct session *s);
/* Any thread, while the session is in the server's list and its lock held. */
void anx_session_wake(struct session *session);
void anx_session_stop(struct session *session, enum session_stop why);

/* Waits for input, at most timeout_ms, and stores what came of it. Buffered bytes are not looked at: the
 * caller wants more than those. ANX_E_CANCELLED when the session was stopped. */
ANX_NODISCARD anx_status anx_session_fill(struct session *s, unsigned timeout_ms, enum input *what,
                                          anx_error *err);
/* At least n bytes are buffered; ANX_E_TIMEOUT, ANX_E_NETWORK (the end came first). */
ANX_NODISCARD anx_status anx_session_need(struct session *s, size_t n, unsigned timeout_ms, anx_error *err);
static inline size_t
session_buffered(const struct session *s)
{
    return s->in_end - s->in_at;
}
static inline const uint8_t *
session_bytes(const struct session *s)
{
    return s->in + s->in_at;
}
/* Room for a frame of `size` bytes from in_at on. */
ANX_NODISCARD anx_status anx_session_room(struct session *s, size_t size, anx_error *err);

/* Job and builder from s->request: the point from which on a build is in progress. */
ANX_NODISCARD anx_status anx_session_begin(struct session *s, anx_error *err);
/* Checks the request against protocol and server limits. */
ANX_NODISCARD anx_status anx_session_check(const struct session *s, anx_error *err);
/* n rows, the vectors `stride` bytes apart, the labels likewise. */
ANX_NODISCARD anx_status anx_session_rows(struct session *s, size_t n, const uint8_t *labels,
                                          size_t label_stride, const uint8_t *vectors, size_t stride,
                                          anx_error *err);
/* Hands a batch that is not full to the builder: before a wait, so that no row lies idle. */
ANX_NODISCARD anx_status anx_session_flush_rows(struct session *s, anx_error *err);
/* No rows follow. */
void anx_session_end_rows(struct session *s);
/* ANX_OK: the index is ready or not (*is_ready); else the builder's error. */
ANX_NODISCARD anx_status anx_session_built(struct session *s, bool *is_ready, anx_error *err);
/* The build is over, well (err NULL) or not; logs it. */
void anx_session_end_job(struct session *s, const anx_error *err);
/* The session's last words: written, and then everything the session holds is given back (builder, slot)
 * while the client is given time to read them: it may be in the middle of sending. size 0: nothing but that.
 */
void anx_session_last_words(struct session *s, const void *bytes, size_t size);
/* For a session that was stopped. */
anx_status anx_session_fail_stopped(const struct session *s, anx_error *err);
/* ANX_E_BUSY: neither a slot nor a place in the queue. */
anx_status anx_session_fail_full(const struct session *s, anx_error *err);

/* --- session_v1.c, session_v2.c: everything after the client's first word; they say their errors themselves
 * --- */

void anx_session_v1(struct session *s);
void anx_session_v1_route(struct session *s);
/* An error frame of version 1 as the session's last word. is_bare: without the zero byte that original
 * clients need, for peers that are none (the original server's exact bytes). */
void anx_session_v1_error(struct session *s, const char *text, bool is_bare);
void anx_session_v2(struct session *s);

/* --- download.c --- */

ANX_NODISCARD anx_status anx_session_send_v1(struct session *s, anx_error *err);
ANX_NODISCARD anx_status anx_session_send_v2(struct session *s, anx_error *err);
/* The kept index from `offset` on. */
ANX_NODISCARD anx_status anx_session_send_kept(struct session *s, struct kept *kept, uint64_t offset,
                                               anx_error *err);
/* Version 2: what the client says while nothing is expected of it (PING, CANCEL). Does not wait. */
ANX_NODISCARD anx_status anx_session_v2_listen(struct session *s, anx_error *err);
/* Version 2: writes a frame made in s->frame, after checking that it may be sent now. */
ANX_NODISCARD anx_status anx_session_v2_send(struct session *s, enum anx_wire_type type, size_t size,
                                             anx_error *err);

#endif
