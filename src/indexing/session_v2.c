/* Version 2: checked frames. What may come when is the table's business (anx_wire_step); here is what is done
 * about it.
 *
 *     UPGRADE -> WELCOME [-> AUTH -> ACCEPT] -> BEGIN -> QUEUED ... READY -> ROWS ... END -> PROGRESS ...
 *             -> INDEX -> DATA ... DONE -> RECEIVED
 *     UPGRADE -> WELCOME [-> AUTH -> ACCEPT] -> RESUME -> PROGRESS ... INDEX -> DATA ... DONE -> RECEIVED
 *
 * The client hears from us at least every TELL_MS while it waits. When its connection breaks after the last
 * row the build goes on, the index is kept in a file, and the session ends; RESUME finds it by the id of that
 * session. */
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "indexing/server_int.h"

#ifndef ANX_VERSION
#define ANX_VERSION "unknown"
#endif

#define IN_ROWS ((size_t) 512 << 10) /* read buffer; grows for larger frames */
#define TELL_MS 2000                 /* the protocol promises 5 s */
#define WAIT_MS 500
#define GRANT_MAX_MS 600000 /* ten minutes without a row, if a client asks for it */
#define RESUME_POLL_MS 20 /* a session that was replaced is nearly always gone at once */

struct v2_frame {
    unsigned type;
    const uint8_t *payload; /* in the read buffer, until the next frame is taken */
    size_t size;
};

static uint64_t
ms_since(uint64_t moment_ns)
{
    return (anx_clock_ns() - moment_ns) / 1000000;
}

anx_status
anx_session_v2_send(struct session *s, enum anx_wire_type type, size_t size, anx_error *err)
{
    anx_status st = anx_wire_step(&s->state, ANX_WIRE_SERVER, type, err);

    if (st == ANX_OK)
        st = anx_stream_write(s->stream, s->frame, size, err);
    if (st == ANX_OK)
        st = anx_stream_flush(s->stream, err);
    s->told_ns = anx_clock_ns();
    return st;
}

/* --- frames --- */

/* The next whole frame of the buffer; *has false: more bytes are needed (and there is room for them). */
static anx_status
take_frame(struct session *s, struct v2_frame *frame, bool *has, anx_error *err)
{
    anx_wire_head head;
    size_t total;
    anx_status st;

    *has = false;
    if (session_buffered(s) < ANX_WIRE_HEAD_SIZE)
        return anx_session_room(s, ANX_WIRE_HEAD_SIZE, err);
    st = anx_wire_head_decode(session_bytes(s), &head, err);
    if (st != ANX_OK)
        return st;
    total = ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE;
    if (session_buffered(s) < total)
        return anx_session_room(s, total, err);
    st = anx_wire_tail_check(session_bytes(s), head.size, err);
    if (st == ANX_OK)
        st = anx_wire_step(&s->state, ANX_WIRE_CLIENT, head.type, err);
    if (st != ANX_OK)
        return st;
    *frame = (struct v2_frame) { head.type, session_bytes(s) + ANX_WIRE_HEAD_SIZE, head.size };
    s->in_at += total;
    *has = true;
    return ANX_OK;
}

/* The client's error: it found damage, and may come back for what it did not get, or it gave up. */
static anx_status
fail_as_told(const anx_error *theirs, anx_error *err)
{
    bool is_damage = theirs->status == ANX_E_CHECKSUM || theirs->status == ANX_E_CORRUPT ||
                     theirs->status == ANX_E_NETWORK || theirs->status == ANX_E_TIMEOUT ||
                     theirs->status == ANX_E_TLS;

    return anx_fail(err, is_damage ? ANX_E_NETWORK : ANX_E_CANCELLED, "the client reports: %s",
                    theirs->message);
}

/* Frames that may come at any time. *is_used: it was one of those. */
static anx_status
use_common(struct session *s, const struct v2_frame *frame, bool *is_used, anx_error *err)
{
    uint64_t value;
    anx_error theirs;
    anx_status st;

    *is_used = true;
    switch (frame->type) {
    case ANX_WIRE_PING:
        st = anx_wire_get_ping(frame->payload, frame->size, &value, err);
        return st == ANX_OK ? anx_session_v2_send(s, ANX_WIRE_PONG, anx_wire_put_pong(s->frame, value), err)
                            : st;
    case ANX_WIRE_CANCEL:
        return anx_fail(err, ANX_E_CANCELLED, "the client cancelled");
    case ANX_WIRE_ERROR:
        st = anx_wire_get_error(frame->payload, frame->size, &theirs, err);
        return st == ANX_OK ? fail_as_told(&theirs, err) : st;
    default:
        *is_used = false;
        return ANX_OK;
    }
}

/* The next frame that is not for any time. *has false: the time is up, or something else wants attention. The
 * end of the stream is an error. *is_heard: bytes came, if only a part of a frame. */
static anx_status
next_frame(struct session *s, unsigned timeout_ms, struct v2_frame *frame, bool *has, bool *is_heard,
           anx_error *err)
{
    *is_heard = false;
    for (;;) {
        enum input what;
        bool is_used = false;
        anx_status st = take_frame(s, frame, has, err);

        if (st == ANX_OK && *has)
            st = use_common(s, frame, &is_used, err);
        if (st != ANX_OK || (*has && !is_used))
            return st;
        *is_heard |= is_used;
        if (is_used)
            continue;
        if (*is_heard)
            return ANX_OK;
        st = anx_session_fill(s, timeout_ms, &what, err);
        if (st == ANX_OK && what == INPUT_END)
            st = anx_fail(err, ANX_E_NETWORK, "the client closed the connection");
        if (st != ANX_OK || what == INPUT_TIMEOUT || what == INPUT_WOKEN)
            return st;
        *is_heard = true;
    }
}

/* A frame that must come now. */
static anx_status
await_frame(struct session *s, unsigned timeout_ms, struct v2_frame *frame, anx_error *err)
{
    uint64_t began_ns = anx_clock_ns();
    bool has = false;

    while (!has) {
        uint64_t passed = ms_since(began_ns);
        bool is_heard;
        anx_status st = next_frame(s, passed < timeout_ms ? (unsigned) (timeout_ms - passed) : 0, frame, &has,
                                   &is_heard, err);

        if (st != ANX_OK)
            return st;
        if (!has && ms_since(began_ns) >= timeout_ms)
            return anx_fail(err, ANX_E_TIMEOUT, "the client did not go on for %.0f s",
                            (double) timeout_ms / 1000);
    }
    return ANX_OK;
}

anx_status
anx_session_v2_listen(struct session *s, anx_error *err)
{
    struct v2_frame frame;
    bool has;
    bool is_heard;

    do {
        anx_status st = next_frame(s, 0, &frame, &has, &is_heard, err);

        if (st != ANX_OK)
            return st;
    } while (has || is_heard); /* has: cannot be, anx_wire_step allows none other now */
    return ANX_OK;
}

/* A sign of life with what is known. */
static anx_status
tell_progress(struct session *s, uint32_t phase, anx_error *err)
{
    anx_wire_progress progress = { .phase = phase };
    double seconds = (double) (anx_clock_ns() - s->rows_began_ns) * 1e-9;

    if (ms_since(s->progress_ns) < TELL_MS)
        return ANX_OK;
    s->progress_ns = anx_clock_ns();
    if (phase == ANX_WIRE_RECEIVING) {
        progress.done = s->n_row;
        progress.total = s->request.estimated_rows;
        progress.rows_per_second = seconds > 0 ? (uint32_t) ((double) s->n_row / seconds) : 0;
    } else if (s->job) {
        progress.done = atomic_load_explicit(&s->job->done, memory_order_relaxed);
        progress.total = atomic_load_explicit(&s->job->total, memory_order_relaxed);
    }
    return anx_session_v2_send(s, ANX_WIRE_PROGRESS, anx_wire_put_progress(s->frame, &progress), err);
}

/* --- who is it --- */

/* The session gets an id that a RESUME can name, and a key that proves it. */
static anx_status
make_id(struct session *s, anx_error *err)
{
    uint8_t id[ANX_WIRE_SESSION_SIZE];
    uint8_t key[ANX_WIRE_PROOF_SIZE];
    anx_status st = anx_wire_random(id, sizeof(id), err);

    if (st == ANX_OK)
        st = anx_wire_random(key, sizeof(key), err);
    if (st == ANX_OK)
        st = anx_wire_random(s->nonce, sizeof(s->nonce), err);
    if (st != ANX_OK)
        return st;
    pthread_mutex_lock(&s->server->lock);
    memcpy(s->id, id, sizeof(id));
    memcpy(s->resume_key, key, sizeof(key));
    s->has_id = true;
    pthread_mutex_unlock(&s->server->lock);
    anx_wire_forget(key, sizeof(key));
    return ANX_OK;
}

/* From here on a RESUME does not find the session, only what it kept. */
static void
drop_id(struct session *s)
{
    pthread_mutex_lock(&s->server->lock);
    s->has_id = false;
    pthread_mutex_unlock(&s->server->lock);
}

/* The token in force; size 0: none is asked for. */
static size_t
copy_token(struct session *s, uint8_t token[ANX_WIRE_TOKEN_MAX])
{
    size_t size;

    pthread_mutex_lock(&s->server->lock);
    size = s->server->token_size;
    memcpy(token, s->server->token, size);
    pthread_mutex_unlock(&s->server->lock);
    return size;
}

static anx_status
welcome(struct session *s, bool needs_auth, bool has_binding, anx_error *err)
{
    const struct indexing_server_params *params = &s->server->params;
    anx_wire_welcome welcome = {
        .version = ANX_WIRE_VERSION,
        .needs_auth = needs_auth,
        .has_binding = has_binding,
        .dim_max = (uint32_t) params->max_dim,
        .idle_timeout_s = params->idle_timeout_ms / 1000,
        .resume_timeout_s = params->resume_timeout_ms / 1000,
        .rows_max = params->max_rows,
        .server = "annex " ANX_VERSION,
    };
    anx_status st;

    memcpy(welcome.nonce, s->nonce, sizeof(welcome.nonce));
    memcpy(welcome.session, s->id, sizeof(welcome.session));
    memcpy(welcome.resume_key, s->resume_key, sizeof(welcome.resume_key));
    s->state = ANX_WIRE_AT_WELCOME;
    st = anx_session_v2_send(s, ANX_WIRE_WELCOME, anx_wire_put_welcome(s->frame, &welcome), err);
    anx_wire_forget(&welcome, sizeof(welcome));
    anx_wire_forget(s->frame, sizeof(s->frame));
    if (needs_auth)
        s->state = ANX_WIRE_AT_AUTH;
    return st;
}

static anx_status
check_auth(struct session *s, anx_wire_claim *claim, anx_error *err)
{
    struct v2_frame frame;
    anx_wire_auth auth;
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
    anx_status st = await_frame(s, s->server->params.first_timeout_ms, &frame, err);

    if (st == ANX_OK)
        st = anx_wire_get_auth(frame.payload, frame.size, &auth, err);
    if (st != ANX_OK)
        return st;
    memcpy(claim->client_nonce, auth.client_nonce, sizeof(claim->client_nonce));
    st = anx_wire_prove(ANX_WIRE_PROVE_CLIENT, claim, proof, err);
    if (st == ANX_OK && !anx_wire_equal(proof, auth.proof, sizeof(proof)))
        st = anx_fail(err, ANX_E_AUTH, "the token is not the one of this indexing server");
    if (st == ANX_OK)
        st = anx_wire_prove(ANX_WIRE_PROVE_SERVER, claim, proof, err);
    return st == ANX_OK ? anx_session_v2_send(s, ANX_WIRE_ACCEPT, anx_wire_put_accept(s->frame, proof), err)
                        : st;
}

/* UPGRADE, WELCOME and, where a token is asked for, its proof. */
static anx_status
greet(struct session *s, uint8_t binding[ANX_WIRE_BINDING_SIZE], anx_error *err)
{
    uint8_t token[ANX_WIRE_TOKEN_MAX];
    size_t token_size = copy_token(s, token);
    anx_wire_claim claim = { .secret = token, .secret_size = token_size };
    uint32_t version;
    bool has_binding = anx_stream_is_tls(s->stream);
    anx_status st = anx_session_need(s, ANX_WIRE_UPGRADE_SIZE, s->server->params.first_timeout_ms, err);

    if (st == ANX_OK)
        st = anx_wire_upgrade_decode(session_bytes(s), &version, err);
    if (st == ANX_OK)
        st = make_id(s, err);
    if (st != ANX_OK)
        return st;
    s->in_at += ANX_WIRE_UPGRADE_SIZE;
    if (!anx_stream_binding(s->stream, binding))
        return anx_fail(err, ANX_E_TLS, "could not bind the proof to the TLS connection");
    memcpy(claim.server_nonce, s->nonce, sizeof(claim.server_nonce));
    memcpy(claim.session, s->id, sizeof(claim.session));
    memcpy(claim.binding, binding, sizeof(claim.binding));
    st = welcome(s, token_size > 0, has_binding, err);
    if (st == ANX_OK && token_size > 0)
        st = check_auth(s, &claim, err);
    anx_wire_forget(token, sizeof(token));
    return st;
}

/* --- a build --- */

static anx_status
say_queued(struct session *s, size_t position, anx_error *err)
{
    anx_wire_queued queued = { .position = (uint32_t) position };
    size_t n_admitted;
    size_t n_waiting;

    anx_queue_lengths(&s->server->slots, &n_admitted, &n_waiting);
    queued.n_waiting = (uint32_t) n_waiting;
    return anx_session_v2_send(s, ANX_WIRE_QUEUED, anx_wire_put_queued(s->frame, &queued), err);
}

static anx_status
await_slot(struct session *s, anx_error *err)
{
    struct queue *slots = &s->server->slots;
    size_t told = 0;
    anx_status st = ANX_OK;

    if (s->admission == QUEUE_FULL)
        return anx_session_fail_full(s, err);
    while (st == ANX_OK && !anx_queue_is_admitted(slots, &s->ticket)) {
        size_t position = anx_queue_position(slots, &s->ticket);
        struct v2_frame frame;
        bool has;
        bool is_heard;

        if (atomic_load(&s->server->is_draining))
            return anx_fail(err, ANX_E_BUSY, "the indexing server is shutting down");
        if (position > 0 && (position != told || ms_since(s->told_ns) >= TELL_MS)) {
            if (told == 0)
                anx_log(ANX_LOG_INFO, "event=queued peer=%s position=%zu", s->peer, position);
            st = say_queued(s, position, err);
            told = position;
        }
        if (st == ANX_OK)
            st = next_frame(s, WAIT_MS, &frame, &has, &is_heard, err);
        anx_queue_check(slots);
    }
    return st;
}

static anx_status
use_rows(struct session *s, const struct v2_frame *frame, anx_error *err)
{
    size_t vector_size = anx_wire_vector_size(&s->request);
    anx_wire_rows rows;
    anx_status st = anx_wire_get_rows(frame->payload, frame->size, vector_size, &rows, err);

    return st == ANX_OK ? anx_session_rows(s, rows.n, rows.labels, 8, rows.vectors, vector_size, err) : st;
}

static anx_status
use_end(struct session *s, const struct v2_frame *frame, anx_error *err)
{
    uint64_t n_row;
    anx_status st = anx_wire_get_end(frame->payload, frame->size, &n_row, err);

    if (st == ANX_OK && n_row != s->n_row)
        st = anx_fail(err, ANX_E_CORRUPT, "the client sent %" PRIu64 " rows, %" PRIu64 " arrived", n_row,
                      s->n_row);
    return st;
}

static anx_status
receive_rows(struct session *s, anx_error *err)
{
    uint64_t heard_ns = anx_clock_ns();
    bool is_ready;
    anx_status st = anx_session_room(s, IN_ROWS, err);

    while (st == ANX_OK) {
        struct v2_frame frame;
        bool has;
        bool is_heard;

        st = next_frame(s, s->idle_ms < WAIT_MS ? s->idle_ms : WAIT_MS, &frame, &has, &is_heard, err);
        if (st == ANX_OK && has && frame.type == ANX_WIRE_END)
            return use_end(s, &frame, err);
        if (st == ANX_OK && has)
            st = use_rows(s, &frame, err);
        if (st == ANX_OK && !has && !is_heard) { /* nothing came: let the builder have what there is */
            st = anx_session_flush_rows(s, err);
            if (st == ANX_OK)
                st = anx_session_built(s, &is_ready, err); /* only to learn of its failure */
        }
        if (has || is_heard)
            heard_ns = anx_clock_ns();
        else if (st == ANX_OK && ms_since(heard_ns) >= s->idle_ms)
            st =
                anx_fail(err, ANX_E_TIMEOUT, "no row came for %.0f s (--idle-timeout of the indexing server)",
                         (double) s->idle_ms / 1000);
        if (st == ANX_OK)
            st = tell_progress(s, ANX_WIRE_RECEIVING, err);
    }
    return st;
}

static anx_status
await_index(struct session *s, anx_error *err)
{
    bool is_ready = false;
    anx_status st = ANX_OK;

    while (st == ANX_OK) {
        struct v2_frame frame;
        bool has;
        bool is_heard;

        st = anx_session_built(s, &is_ready, err);
        if (st != ANX_OK || is_ready)
            break;
        st = tell_progress(s, ANX_WIRE_BUILDING, err);
        if (st == ANX_OK)
            st = next_frame(s, WAIT_MS, &frame, &has, &is_heard, err);
    }
    return st;
}

/* Names and texts of clients end in log lines and JSON. */
static void
clean_name(char *name)
{
    for (; *name; name++)
        if (*name == '"' || *name == '\\')
            *name = '\'';
}

/* A client whose table scan finds no row for long asks for more than the server's own limit, and gets it
 * within reason: it holds its slot meanwhile. */
static unsigned
grant_idle(const struct session *s)
{
    uint64_t wanted_ms = s->request.idle_timeout_s * UINT64_C(1000);
    unsigned own_ms = s->server->params.idle_timeout_ms;
    unsigned most_ms = own_ms > GRANT_MAX_MS ? own_ms : GRANT_MAX_MS;

    if (wanted_ms == 0)
        return own_ms;
    return wanted_ms < most_ms ? (unsigned) wanted_ms : most_ms;
}

/* From BEGIN to the finished index. */
static anx_status
make_index(struct session *s, const struct v2_frame *begin, bool *is_build, anx_error *err)
{
    anx_status st = anx_wire_get_begin(begin->payload, begin->size, &s->request, err);

    if (st != ANX_OK)
        return st;
    s->request.version = 2;
    clean_name(s->request.name);
    *is_build = true;
    st = anx_session_check(s, err);
    if (st == ANX_OK)
        st = await_slot(s, err);
    if (st == ANX_OK)
        st = anx_session_begin(s, err);
    s->idle_ms = grant_idle(s);
    if (st == ANX_OK)
        st = anx_session_v2_send(s, ANX_WIRE_READY, anx_wire_put_ready(s->frame, s->idle_ms / 1000), err);
    s->rows_began_ns = anx_clock_ns();
    if (st == ANX_OK)
        st = receive_rows(s, err);
    if (st != ANX_OK)
        return st;
    anx_session_end_rows(s);
    return await_index(s, err);
}

/* Did the connection break, rather than the client or the server end it? */
static bool
is_broken(const struct session *s, anx_status st)
{
    int stop = atomic_load_explicit(&s->stop, memory_order_relaxed);

    return s->server->params.resume_timeout_ms > 0 && (stop == SESSION_RUN || stop == SESSION_REPLACED) &&
           (st == ANX_E_NETWORK || st == ANX_E_TLS || st == ANX_E_TIMEOUT || st == ANX_E_CHECKSUM ||
            (st == ANX_E_CANCELLED && stop == SESSION_REPLACED));
}

/* The connection broke while the index is built: hours of work may be in it, and the client may come back. */
static anx_status
build_alone(struct session *s, anx_error *err)
{
    struct pollfd wake = { .fd = s->wake_fd, .events = POLLIN };
    bool is_ready = false;
    anx_status st = ANX_OK;

    anx_log(ANX_LOG_WARN,
            "event=client_lost job=%" PRIu64 " peer=%s error=\"%s\" advice=\"the build goes on\"", s->job->id,
            s->peer, quoted(err->message).text);
    while (st == ANX_OK && !is_ready) {
        int stop = atomic_load_explicit(&s->stop, memory_order_relaxed);
        uint64_t count;

        if (stop == SESSION_STOP || stop == SESSION_ABANDONED)
            return anx_session_fail_stopped(s, err);
        st = anx_session_built(s, &is_ready, err);
        if (st == ANX_OK && !is_ready && poll(&wake, 1, WAIT_MS) > 0 &&
            read(s->wake_fd, &count, sizeof(count)) < 0)
            continue; /* somebody else's wake: look again */
    }
    return st;
}

/* The index goes to a file, its job with it; memory and slot become free. */
static void
keep_index(struct session *s)
{
    struct kept *kept = anx_alloc_zeroed(NULL, 1, sizeof(*kept));
    size_t size;

    if (!kept || anx_index_save_size(anx_builder_index(s->builder), &s->save, &size, NULL) != ANX_OK) {
        anx_free(NULL, kept);
        return;
    }
    memcpy(kept->session, s->id, sizeof(kept->session));
    memcpy(kept->key, s->resume_key, sizeof(kept->key));
    kept->index = (anx_wire_index) { .count = s->n_row, .size = size, .format = s->request.format };
    kept->job = s->job;
    s->job = NULL;
    atomic_store_explicit(&kept->job->size, size, memory_order_relaxed);
    anx_spool_keep(&s->server->spool, kept, anx_builder_index(s->builder), &s->save);
}

/* The client says that it has all of it. */
static anx_status
await_receipt(struct session *s, anx_error *err)
{
    struct v2_frame frame;

    return await_frame(s, s->server->params.send_timeout_ms, &frame, err);
}

static anx_status
build(struct session *s, const struct v2_frame *begin, bool *is_build, anx_error *err)
{
    anx_status st = make_index(s, begin, is_build, err);
    if (st == ANX_OK) {
        st = anx_session_send_v2(s, err);
        if (st == ANX_OK)
            st = await_receipt(s, err);
        if (st == ANX_OK) {
            anx_session_end_job(s, NULL);
        } else if (is_broken(s, st)) {
            anx_log(ANX_LOG_WARN, "event=download_broken job=%" PRIu64 " peer=%s error=\"%s\"", s->job->id,
                    s->peer, quoted(err->message).text);
            keep_index(s);
        }
    } else if (s->has_all_rows && is_broken(s, st)) {
        st = build_alone(s, err);
        if (st == ANX_OK) {
            keep_index(s);
            st = anx_fail(err, ANX_E_NETWORK, "the connection broke while the index was built");
        }
    }
    return st;
}

/* --- the rest of a download --- */

/* The key of a session that is still here, asleep in a write to a connection that is no more. */
static bool
find_key(struct session *s, const uint8_t id[ANX_WIRE_SESSION_SIZE], uint8_t key[ANX_WIRE_PROOF_SIZE])
{
    bool is_found = false;

    pthread_mutex_lock(&s->server->lock);
    for (const struct session *other = s->server->first; other && !is_found; other = other->next)
        if (other != s && other->has_id && memcmp(other->id, id, ANX_WIRE_SESSION_SIZE) == 0) {
            memcpy(key, other->resume_key, ANX_WIRE_PROOF_SIZE);
            is_found = true;
        }
    pthread_mutex_unlock(&s->server->lock);
    return is_found;
}

/* Tells the session that somebody came back for its index, or will not. False when it is gone: what it kept,
 * if anything, can be found by now. */
static bool
tell_session(struct session *s, const uint8_t id[ANX_WIRE_SESSION_SIZE], enum session_stop what)
{
    bool is_found = false;

    pthread_mutex_lock(&s->server->lock);
    for (struct session *other = s->server->first; other; other = other->next)
        if (other != s && other->has_id && memcmp(other->id, id, ANX_WIRE_SESSION_SIZE) == 0) {
            if (atomic_load_explicit(&other->stop, memory_order_relaxed) != SESSION_STOP)
                anx_session_stop(other, what);
            is_found = true;
        }
    pthread_mutex_unlock(&s->server->lock);
    return is_found;
}

static anx_status
fail_unknown(anx_error *err)
{
    (void) anx_fail(err, ANX_E_NOT_FOUND, "there is no download to go on with under that session");
    anx_error_hint(
        err,
        "it was complete, kept too long (--resume-timeout), or the server was started anew; build again");
    return ANX_E_NOT_FOUND;
}

static anx_status
check_resume(struct session *s, const anx_wire_resume *resume, const uint8_t *key, const uint8_t *binding,
             anx_error *err)
{
    anx_wire_claim claim = { .secret = key, .secret_size = ANX_WIRE_PROOF_SIZE, .offset = resume->offset };
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
    anx_status st;

    memcpy(claim.server_nonce, s->nonce, sizeof(claim.server_nonce));
    memcpy(claim.client_nonce, resume->client_nonce, sizeof(claim.client_nonce));
    memcpy(claim.session, resume->session, sizeof(claim.session));
    memcpy(claim.binding, binding, sizeof(claim.binding));
    st = anx_wire_prove(ANX_WIRE_PROVE_RESUME, &claim, proof, err);
    if (st == ANX_OK && !anx_wire_equal(proof, resume->proof, sizeof(proof)))
        st = anx_fail(err, ANX_E_AUTH, "the request to go on with a download is not proved");
    return st;
}

/* Until the session that has the index, if it is still here, has finished and kept it. */
static anx_status
await_session(struct session *s, const anx_wire_resume *resume, const uint8_t *binding, anx_error *err)
{
    uint8_t key[ANX_WIRE_PROOF_SIZE];
    bool is_live = find_key(s, resume->session, key);
    anx_status st = is_live ? check_resume(s, resume, key, binding, err) : ANX_OK;

    anx_wire_forget(key, sizeof(key));
    while (st == ANX_OK && is_live) {
        struct v2_frame frame;
        bool has;
        bool is_heard;

        is_live = tell_session(s, resume->session, SESSION_REPLACED);
        if (is_live)
            st = next_frame(s, RESUME_POLL_MS, &frame, &has, &is_heard, err);
        if (st == ANX_E_CANCELLED)
            (void) tell_session(s, resume->session, SESSION_ABANDONED);
        if (st == ANX_OK && is_live)
            st = tell_progress(s, ANX_WIRE_BUILDING, err);
    }
    return st;
}

static anx_status
find_kept(struct session *s, const anx_wire_resume *resume, const uint8_t *binding, struct kept **out,
          anx_error *err)
{
    anx_status st;

    *out = anx_spool_find(&s->server->spool, resume->session);
    if (!*out)
        return fail_unknown(err);
    st = check_resume(s, resume, (*out)->key, binding, err);
    if (st == ANX_OK && (*out)->fd < 0) {
        *err = (*out)->error;
        st = err->status;
    }
    if (st != ANX_OK) {
        anx_spool_release(&s->server->spool, *out, false);
        *out = NULL;
    }
    return st;
}

static anx_status
resume_download(struct session *s, const struct v2_frame *frame, const uint8_t *binding, anx_error *err)
{
    anx_wire_resume resume;
    struct kept *kept = NULL;
    anx_status st = anx_wire_get_resume(frame->payload, frame->size, &resume, err);

    if (st != ANX_OK)
        return st;
    anx_queue_leave(&s->server->slots, &s->ticket); /* nothing is built: others may have it */
    st = await_session(s, &resume, binding, err);
    if (st == ANX_OK)
        st = find_kept(s, &resume, binding, &kept, err);
    if (st != ANX_OK)
        return st;
    anx_log(ANX_LOG_INFO, "event=download_resumed peer=%s offset=%" PRIu64 " bytes=%" PRIu64, s->peer,
            resume.offset, kept->index.size);
    anx_jobs_count_resumed(&s->server->jobs);
    st = anx_session_send_kept(s, kept, resume.offset, err);
    if (st == ANX_OK)
        st = await_receipt(s, err);
    if (st == ANX_E_CANCELLED && atomic_load_explicit(&s->stop, memory_order_relaxed) == SESSION_RUN)
        anx_spool_give_up(&s->server->spool, kept); /* the client's own wish */
    else
        anx_spool_release(&s->server->spool, kept, st == ANX_OK);
    return st;
}

/* --- the whole --- */

static void
end_badly(struct session *s, bool is_build, const anx_error *err)
{
    drop_id(s); /* the last words may take their time */
    if (s->job) {
        anx_session_end_job(s,
                            err); /* before the client learns of it, so that the status never lags behind */
    } else if (s->state < ANX_WIRE_AT_DATA && s->state != ANX_WIRE_AT_BUILD) {
        anx_log(ANX_LOG_WARN, "event=refused peer=%s reason=\"%s\"", s->peer, quoted(err->message).text);
        anx_jobs_refuse(&s->server->jobs, err, is_build);
    }
    /* In the middle of a DATA frame nothing else can be said; between two, an error frame is understood. A
     * write that was stopped in the middle is not told from here, so the client finds a bad frame at worst.
     */
    anx_session_last_words(s, s->frame, anx_wire_put_error(s->frame, err));
}

void
anx_session_v2(struct session *s)
{
    uint8_t binding[ANX_WIRE_BINDING_SIZE];
    struct v2_frame frame;
    bool is_build = false;
    anx_error err;
    anx_status st = greet(s, binding, &err);

    if (st == ANX_OK)
        st = await_frame(s, s->server->params.first_timeout_ms, &frame, &err);
    if (st == ANX_OK && frame.type == ANX_WIRE_RESUME)
        st = resume_download(s, &frame, binding, &err);
    else if (st == ANX_OK)
        st = build(s, &frame, &is_build, &err);
    if (st == ANX_OK)
        anx_session_last_words(s, NULL, 0);
    else
        end_badly(s, is_build, &err);
}
