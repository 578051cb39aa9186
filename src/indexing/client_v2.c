/* The client's side of version 2: frames in, frames out, the proof of the token, resume.
 *
 * Whatever the server sends goes through one place, next_frame: it reads a frame (waiting or not), compares
 * its sums, asks the state table whether it may come now, and takes what needs no answer (PROGRESS, QUEUED,
 * PONG, ERROR). The rest is handed to whoever waits. */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "indexing/client_int.h"

#define RESUME_PAUSE_MS 500 /* before the second attempt; doubles up to: */
#define RESUME_PAUSE_MAX_MS 8000
#define FAREWELL_MS 300 /* for an error message of ours to reach the server */

/* ---------------------------------------------------------------------------------------------------- frames
 * out
 */

static anx_status
send_frame(anx_indexing_client *client, const uint8_t *frame, size_t size, anx_error *err)
{
    anx_status st = anx_wire_step(&client->state, ANX_WIRE_CLIENT, frame[4], err);

    return st == ANX_OK ? anx_client_send(client, frame, size, err) : st;
}

void
anx_client2_complain(anx_indexing_client *client, anx_status st, const anx_error *err)
{
    bool is_wrong = st == ANX_E_CHECKSUM || st == ANX_E_CORRUPT || st == ANX_E_LIMIT || st == ANX_E_STATE;
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    size_t done;

    if (!is_wrong || client->is_refused || client->is_mid_frame || !client->stream || !client->state ||
        client->state == ANX_WIRE_AT_WELCOME || client->state == ANX_WIRE_AT_OVER)
        return;
    client->state = ANX_WIRE_AT_OVER;
    st = anx_stream_write_now(client->stream, frame, anx_wire_put_error(frame, err), &done, NULL);
    if (st == ANX_OK)
        anx_stream_linger(client->stream, FAREWELL_MS, ANX_WIRE_FRAME_MAX);
}

void
anx_client2_cancel(anx_indexing_client *client)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    size_t done;
    anx_status ignored;

    if (client->is_mid_frame || !(client->state & ANX_WIRE_AT_ANY))
        return;
    ignored = anx_stream_write_now(client->stream, frame, anx_wire_put_cancel(frame), &done, NULL);
    (void) ignored; /* closing says it too, a little later */
}

/* -----------------------------------------------------------------------------------------------------
 * frames in
 */

static anx_status
reserve(anx_indexing_client *client, struct client_frame *frame, size_t size, anx_error *err)
{
    uint8_t *grown;

    if (size <= frame->capacity)
        return ANX_OK;
    grown = anx_realloc_array(client->params.alloc, frame->bytes, size, 1);
    if (!grown)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu bytes for a frame", size);
    frame->bytes = grown;
    frame->capacity = size;
    return ANX_OK;
}

/* Reads on; *whole when the frame is complete and its sums are right. Without may_wait it may also come back
 * unfinished. */
static anx_status
read_frame(anx_indexing_client *client, struct client_frame *frame, bool may_wait, bool *whole,
           anx_error *err)
{
    anx_status st = reserve(client, frame, ANX_WIRE_SMALL_MAX, err);

    *whole = false;
    while (st == ANX_OK && !*whole) {
        bool has_head = frame->have >= ANX_WIRE_HEAD_SIZE;
        size_t need =
            has_head ? ANX_WIRE_HEAD_SIZE + frame->head.size + ANX_WIRE_TAIL_SIZE : ANX_WIRE_HEAD_SIZE;
        bool at_end = false;
        size_t n;

        st = may_wait ? anx_stream_read_some(client->stream, frame->bytes + frame->have, need - frame->have,
                                             &n, err)
                      : anx_stream_read_now(client->stream, frame->bytes + frame->have, need - frame->have,
                                            &n, &at_end, err);
        if (st != ANX_OK)
            break;
        frame->have += n;
        if (frame->have < need) {
            if (at_end || (may_wait && !n))
                return anx_fail(err, ANX_E_NETWORK, "%s closed the connection", client->target);
            if (!n)
                return ANX_OK;
        } else if (!has_head) {
            st = anx_wire_head_decode(frame->bytes, &frame->head, err);
            if (st == ANX_OK)
                st = reserve(client, frame, ANX_WIRE_HEAD_SIZE + frame->head.size + ANX_WIRE_TAIL_SIZE, err);
        } else {
            st = anx_wire_tail_check(frame->bytes, frame->head.size, err);
            *whole = st == ANX_OK;
        }
    }
    return st;
}

static anx_status
take_error(anx_indexing_client *client, const uint8_t *payload, size_t size, anx_error *err)
{
    anx_error said;
    anx_status st = anx_wire_get_error(payload, size, &said, err);

    return st == ANX_OK ? anx_client_refused(client, said.status, said.message, said.hint, err) : st;
}

/* A frame that came whole. *is_taken: it needed nobody's attention but this one's. */
static anx_status
take_frame(anx_indexing_client *client, const struct client_frame *frame, bool *is_taken, anx_error *err)
{
    anx_indexing_notice notice = { .event = ANX_INDEXING_BUILD };
    const uint8_t *payload = frame->bytes + ANX_WIRE_HEAD_SIZE;
    size_t size = frame->head.size;
    anx_wire_queued queued;
    uint64_t value;
    anx_status st = anx_wire_step(&client->state, ANX_WIRE_SERVER, frame->head.type, err);

    *is_taken = true;
    if (st != ANX_OK)
        return st;
    switch (frame->head.type) {
    case ANX_WIRE_ERROR:
        return take_error(client, payload, size, err);
    case ANX_WIRE_PONG:
        return anx_wire_get_ping(payload, size, &value, err);
    case ANX_WIRE_PROGRESS:
        st = anx_wire_get_progress(payload, size, &notice.progress, err);
        break;
    case ANX_WIRE_QUEUED:
        st = anx_wire_get_queued(payload, size, &queued, err);
        notice = (anx_indexing_notice) {
            .event = ANX_INDEXING_QUEUED,
            .position = queued.position,
            .n_waiting = queued.n_waiting,
        };
        break;
    default:
        *is_taken = false;
        return ANX_OK;
    }
    if (st == ANX_OK)
        anx_client_notify(client, &notice);
    return st;
}

/* The next frame that somebody waits for. Without may_wait *got may be false. The frame stays in place until
 * the next call. */
static anx_status
next_frame(anx_indexing_client *client, bool may_wait, bool *got, anx_error *err)
{
    struct client_frame *frame = &client->frames[client->current];
    anx_status st;

    do {
        bool is_taken = true;
        bool whole;

        *got = false;
        st = read_frame(client, frame, may_wait, &whole, err);
        if (st == ANX_OK && !whole)
            return ANX_OK;
        if (st == ANX_OK)
            st = take_frame(client, frame, &is_taken, err);
        frame->have = 0;
        *got = st == ANX_OK && !is_taken;
    } while (st == ANX_OK && !*got);
    return st;
}

/* Waits for the frame that has to come now; the state table lets no other through but those named in the
 * states of its row. */
static anx_status
await_frame(anx_indexing_client *client, unsigned type, const uint8_t **payload, size_t *size, anx_error *err)
{
    const struct client_frame *frame = &client->frames[client->current];
    bool got;
    anx_status st = next_frame(client, true, &got, err);

    if (st != ANX_OK)
        return st;
    if (frame->head.type != type)
        return anx_fail(err, ANX_E_CORRUPT, "frame %s came where %s was expected",
                        anx_wire_type_name(frame->head.type), anx_wire_type_name(type));
    *payload = frame->bytes + ANX_WIRE_HEAD_SIZE;
    *size = frame->head.size;
    return ANX_OK;
}

anx_status
anx_client2_listen(anx_indexing_client *client, anx_error *err)
{
    bool got;
    anx_status st = next_frame(client, false, &got, err);

    if (st == ANX_OK && got)
        return anx_fail(err, ANX_E_STATE, "frame %s came while rows were sent",
                        anx_wire_type_name(client->frames[client->current].head.type));
    return st;
}

/* -------------------------------------------------------------------------------------------------------
 * welcome
 */

/* The first bytes after UPGRADE: an original server answers with an error frame of version 1 and closes, or
 * only closes. */
static anx_status
first_answer(anx_indexing_client *client, bool *is_v1, anx_error *err)
{
    struct client_frame *frame = &client->frames[client->current];
    size_t have = 0;
    anx_status st = reserve(client, frame, ANX_WIRE_SMALL_MAX, err);

    *is_v1 = false;
    while (st == ANX_OK && have < ANX_WIRE_HEAD_SIZE) {
        size_t n = 0;

        st = anx_stream_read_some(client->stream, frame->bytes + have, ANX_WIRE_HEAD_SIZE - have, &n, err);
        if (st == ANX_OK && !n)
            st = anx_fail(err, ANX_E_NETWORK, "%s closed the connection", client->target);
        have += n;
    }
    if (!have && (st == ANX_E_NETWORK || st == ANX_E_TIMEOUT || st == ANX_E_TLS)) {
        *is_v1 = true;
        return ANX_OK;
    }
    if (st == ANX_OK && anx_wire_is_error(frame->bytes)) {
        *is_v1 = true;
        return ANX_OK;
    }
    if (st == ANX_OK)
        st = anx_wire_head_decode(frame->bytes, &frame->head, err);
    if (st == ANX_OK)
        st = reserve(client, frame, ANX_WIRE_HEAD_SIZE + frame->head.size + ANX_WIRE_TAIL_SIZE, err);
    frame->have = have;
    return st;
}

static anx_status
refuse_v1(const anx_indexing_client *client, anx_error *err)
{
    anx_fail(err, client->params.token_size ? ANX_E_AUTH : ANX_E_VERSION,
             "the indexing server %s speaks only version 1 of the protocol%s", client->target,
             client->params.token_size ? ", which cannot carry the token" : "");
    return client->params.token_size ? ANX_E_AUTH : ANX_E_VERSION;
}

static anx_status
make_claim(anx_indexing_client *client, const anx_wire_welcome *welcome, anx_wire_claim *claim,
           anx_error *err)
{
    memset(claim, 0, sizeof(*claim));
    memcpy(claim->server_nonce, welcome->nonce, sizeof(claim->server_nonce));
    memcpy(claim->session, welcome->session, sizeof(claim->session));
    if (welcome->has_binding && !anx_stream_is_tls(client->stream))
        return anx_fail(err, ANX_E_AUTH, "%s wants a proof bound to TLS on a connection without TLS",
                        client->target);
    if (welcome->has_binding && !anx_stream_binding(client->stream, claim->binding))
        return anx_fail(err, ANX_E_TLS, "this TLS connection has no value to bind a proof to");
    return anx_wire_random(claim->client_nonce, sizeof(claim->client_nonce), err);
}

static anx_status
prove_token(anx_indexing_client *client, const anx_wire_welcome *welcome, anx_error *err)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint8_t expected[ANX_WIRE_PROOF_SIZE];
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
    const uint8_t *payload;
    anx_wire_claim claim;
    anx_wire_auth auth;
    size_t size;
    anx_status st = make_claim(client, welcome, &claim, err);

    claim.secret = client->params.token;
    claim.secret_size = client->params.token_size;
    client->state = ANX_WIRE_AT_AUTH;
    if (st == ANX_OK)
        st = anx_wire_prove(ANX_WIRE_PROVE_CLIENT, &claim, auth.proof, err);
    if (st != ANX_OK)
        return st;
    memcpy(auth.client_nonce, claim.client_nonce, sizeof(auth.client_nonce));
    st = send_frame(client, frame, anx_wire_put_auth(frame, &auth), err);
    if (st == ANX_OK)
        st = await_frame(client, ANX_WIRE_ACCEPT, &payload, &size, err);
    if (st == ANX_OK)
        st = anx_wire_get_accept(payload, size, proof, err);
    if (st == ANX_OK)
        st = anx_wire_prove(ANX_WIRE_PROVE_SERVER, &claim, expected, err);
    if (st == ANX_OK && !anx_wire_equal(proof, expected, sizeof(proof)))
        st = anx_fail(err, ANX_E_AUTH, "whoever answers at %s does not know the token", client->target);
    return st;
}

/* From the hello to the point where BEGIN or RESUME can be said. */
static anx_status
greet(anx_indexing_client *client, anx_wire_welcome *welcome, bool *is_v1, anx_error *err)
{
    uint8_t upgrade[ANX_WIRE_UPGRADE_SIZE];
    const uint8_t *payload;
    size_t size;
    anx_status st;

    *is_v1 = false;
    client->frames[client->current].have = 0;
    client->state = ANX_WIRE_AT_WELCOME;
    anx_wire_upgrade_encode(upgrade);
    st = anx_stream_write(client->stream, upgrade, sizeof(upgrade), err);
    if (st == ANX_OK)
        st = anx_stream_flush(client->stream, err);
    if (st == ANX_OK)
        st = first_answer(client, is_v1, err);
    if (st != ANX_OK || *is_v1)
        return st;
    st = await_frame(client, ANX_WIRE_WELCOME, &payload, &size, err);
    if (st == ANX_OK) {
        struct client_frame *frame = &client->frames[client->current];

        st = anx_wire_get_welcome(payload, size, welcome, err);
        anx_wire_forget(frame->bytes, frame->capacity); /* the key in it is kept in one place only */
    }
    if (st != ANX_OK)
        return st;
    if (welcome->needs_auth && !client->params.token_size) {
        anx_fail(err, ANX_E_AUTH, "the indexing server %s asks for a token", client->target);
        anx_error_hint(err, "give the client the token that the server was started with");
        return ANX_E_AUTH;
    }
    if (!welcome->needs_auth && client->params.token_size)
        return anx_fail(err, ANX_E_AUTH,
                        "the indexing server %s does not ask for the token, so it did not prove "
                        "that it knows it",
                        client->target);
    return welcome->needs_auth ? prove_token(client, welcome, err) : ANX_OK;
}

anx_status
anx_client2_upgrade(anx_indexing_client *client, bool *is_v1, anx_error *err)
{
    anx_status st;

    anx_stream_set_deadline(client->stream, client->params.hello_ms);
    st = greet(client, &client->welcome, is_v1, err);
    anx_stream_set_deadline(client->stream, 0);
    if (st != ANX_OK)
        return st;
    if (*is_v1)
        return client->params.protocol == 2 || client->params.token_size ? refuse_v1(client, err) : ANX_OK;
    client->version = 2;
    if (client->welcome.dim_max && client->params.job.dim > client->welcome.dim_max)
        return anx_fail(err, ANX_E_LIMIT, "the dimension is %u, the indexing server %s takes at most %u",
                        client->params.job.dim, client->target, client->welcome.dim_max);
    return ANX_OK;
}

anx_status
anx_client2_begin(anx_indexing_client *client, anx_error *err)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    const uint8_t *payload;
    size_t size;
    anx_status st = send_frame(client, frame, anx_wire_put_begin(frame, &client->params.job), err);

    if (st == ANX_OK)
        st = await_frame(client, ANX_WIRE_READY, &payload, &size, err);
    if (st == ANX_OK)
        st = anx_wire_get_ready(payload, size, &client->idle_timeout_s, err);
    return st;
}

/* ----------------------------------------------------------------------------------------------------------
 * rows
 */

anx_status
anx_client2_flush(anx_indexing_client *client, anx_error *err)
{
    size_t n = client->n_batch;
    size_t size;
    anx_status st = anx_client2_listen(client, err);

    client->batch_began_ns = anx_clock_ns();
    if (st != ANX_OK || !n)
        return st;
    if (n < client->batch_max)
        memmove(client->out + anx_wire_vectors_at(n), client->out + anx_wire_vectors_at(client->batch_max),
                n * client->vector_size);
    client->n_batch = 0;
    size = anx_wire_put_rows(client->out, n, client->vector_size);
    return send_frame(client, client->out, size, err);
}

anx_status
anx_client2_rows(anx_indexing_client *client, size_t n, const uint64_t *labels, const uint8_t *vectors,
                 anx_error *err)
{
    size_t vector_size = client->vector_size;

    while (n) {
        size_t left = client->batch_max - client->n_batch;
        size_t take = n < left ? n : left;
        uint8_t *label = client->out + anx_wire_labels_at() + 8 * client->n_batch;
        anx_status st;

        if (!client->n_batch)
            client->batch_began_ns = anx_clock_ns();
        memcpy(label, labels, 8 * take); /* little-endian: checked when the client was made */
        memcpy(client->out + anx_wire_vectors_at(client->batch_max) + client->n_batch * vector_size, vectors,
               take * vector_size);
        client->n_batch += take;
        client->n_row += take;
        labels += take;
        vectors += take * vector_size;
        n -= take;
        st = client->n_batch == client->batch_max ? anx_client2_flush(client, err) : ANX_OK;
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

anx_status
anx_client2_keep_alive(anx_indexing_client *client, anx_error *err)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    anx_status st = anx_client2_flush(client, err);

    if (st == ANX_OK && anx_client_is_quiet(client))
        st = send_frame(client, frame, anx_wire_put_ping(frame, client->n_row), err);
    return st;
}

/* --------------------------------------------------------------------------------------------------------
 * resume
 */

/* INDEX, after END or RESUME. A second one has to say what the first said. */
static anx_status
await_index(anx_indexing_client *client, anx_error *err)
{
    const uint8_t *payload;
    anx_wire_index index;
    size_t size;
    anx_status st = await_frame(client, ANX_WIRE_INDEX, &payload, &size, err);

    if (st == ANX_OK)
        st = anx_wire_get_index(payload, size, &index, err);
    if (st == ANX_OK)
        st = anx_client_check_index(client, &index, err);
    if (st == ANX_OK && client->index.size &&
        (index.count != client->index.count || index.size != client->index.size ||
         index.format != client->index.format))
        st = anx_fail(err, ANX_E_CORRUPT, "%s resumes another index than it began to send", client->target);
    if (st == ANX_OK)
        client->index = index;
    return st;
}

static anx_status
say_resume(anx_indexing_client *client, const anx_wire_welcome *now, anx_error *err)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    anx_wire_resume resume;
    anx_wire_claim claim;
    anx_status st = make_claim(client, now, &claim, err);

    claim.secret = client->welcome.resume_key;
    claim.secret_size = sizeof(client->welcome.resume_key);
    claim.offset = client->n_given;
    memcpy(claim.session, client->welcome.session, sizeof(claim.session));
    if (st == ANX_OK)
        st = anx_wire_prove(ANX_WIRE_PROVE_RESUME, &claim, resume.proof, err);
    if (st != ANX_OK)
        return st;
    memcpy(resume.session, claim.session, sizeof(resume.session));
    memcpy(resume.client_nonce, claim.client_nonce, sizeof(resume.client_nonce));
    resume.offset = claim.offset;
    return send_frame(client, frame, anx_wire_put_resume(frame, &resume), err);
}

/* One attempt, up to the INDEX frame. */
static anx_status
reconnect(anx_indexing_client *client, anx_error *err)
{
    anx_wire_welcome now;
    uint32_t type;
    bool is_v1;
    anx_status st = anx_client_connect(client, err);

    if (st == ANX_OK)
        st = anx_client_hello(client, &type, err);
    if (st != ANX_OK)
        return st;
    anx_stream_set_deadline(client->stream, client->params.hello_ms);
    st = greet(client, &now, &is_v1, err);
    anx_stream_set_deadline(client->stream, 0);
    if (st == ANX_OK && is_v1)
        st = anx_fail(err, ANX_E_NETWORK, "%s does not speak version 2 any more", client->target);
    if (st == ANX_OK)
        st = say_resume(client, &now, err);
    anx_wire_forget(&now, sizeof(now));
    return st == ANX_OK ? await_index(client, err) : st;
}

/* Is it the connection that failed, and not the server's or the caller's decision? */
static bool
is_broken(const anx_indexing_client *client, anx_status st)
{
    return !client->is_refused && (st == ANX_E_NETWORK || st == ANX_E_TIMEOUT || st == ANX_E_CHECKSUM ||
                                   st == ANX_E_TLS || st == ANX_E_BUSY);
}

/* The download broke with st and *err: goes on where the checked bytes end, or returns the error. */
static anx_status
resume(anx_indexing_client *client, anx_status st, anx_error *err)
{
    anx_error first = *err;
    int pause_ms = 0;
    bool has_tried = false;

    while (st != ANX_OK && is_broken(client, st) && client->n_resumed < client->params.n_resume &&
           client->welcome.resume_timeout_s) {
        anx_indexing_notice notice = {
            .event = ANX_INDEXING_RESUMING,
            .done = client->n_given,
            .reason = err->message,
        };
        anx_status paused;

        anx_client2_complain(client, st, err);
        anx_client_notify(client, &notice);
        anx_client_disconnect(client);
        paused = anx_client_pause(client, pause_ms, err);
        if (paused != ANX_OK)
            return paused;
        pause_ms = pause_ms ? 2 * pause_ms : RESUME_PAUSE_MS;
        if (pause_ms > RESUME_PAUSE_MAX_MS)
            pause_ms = RESUME_PAUSE_MAX_MS;
        client->n_resumed++;
        has_tried = true;
        st = reconnect(client, err);
        if (st == ANX_E_BUSY)
            client->is_refused = false; /* the old connection's end may not have been noticed yet */
    }
    if (st != ANX_OK && has_tried)
        anx_error_detail(err, "the connection was lost before: %s", first.message);
    return st;
}

/* ------------------------------------------------------------------------------------------------------
 * download
 */

anx_status
anx_client2_finish(anx_indexing_client *client, anx_error *err)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    anx_status st = anx_client2_flush(client, err);

    if (st == ANX_OK)
        st = send_frame(client, frame, anx_wire_put_end(frame, client->n_row), err);
    if (st != ANX_OK)
        return st;
    st = await_index(client, err);
    /* The build may have ended and the connection broken at that moment: then the index is kept for us. */
    return st == ANX_OK ? ANX_OK : resume(client, st, err);
}

/* The next piece of data into client->piece. */
static anx_status
fetch_piece(anx_indexing_client *client, anx_error *err)
{
    const uint8_t *payload;
    anx_wire_data data;
    size_t size;
    anx_status st = await_frame(client, ANX_WIRE_DATA, &payload, &size, err);

    if (st == ANX_OK)
        st = anx_wire_get_data(payload, size, &data, err);
    if (st != ANX_OK)
        return st;
    if (data.offset != client->n_given || data.n > client->index.size - client->n_given)
        return anx_fail(err, ANX_E_CORRUPT,
                        "%zu bytes of the index came for offset %llu, expected is offset %llu of %llu",
                        data.n, (unsigned long long) data.offset, (unsigned long long) client->n_given,
                        (unsigned long long) client->index.size);
    anx_wire_sum_update(client->sum, data.bytes, data.n);
    client->piece = data.bytes;
    client->n_piece = data.n;
    client->n_given += data.n;
    if (client->n_given == client->index.size)
        client->current ^= 1; /* what comes next is not read over the last piece */
    return ANX_OK;
}

/* DONE, behind the last data; connections may be lost and resumed meanwhile. */
static anx_status
check_sum(anx_indexing_client *client, anx_error *err)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint8_t sum[ANX_WIRE_SUM_SIZE];
    const uint8_t *payload;
    anx_wire_done done = { 0 };
    anx_error ignored;
    size_t size;
    anx_status st;

    do {
        st = await_frame(client, ANX_WIRE_DONE, &payload, &size, err);
        if (st == ANX_OK)
            st = anx_wire_get_done(payload, size, &done, err);
        else if ((st = resume(client, st, err)) == ANX_OK)
            continue;
        if (st != ANX_OK)
            return st;
    } while (client->state == ANX_WIRE_AT_DATA);
    anx_wire_sum_digest(client->sum, sum);
    if (done.size != client->index.size || memcmp(done.sum, sum, sizeof(sum)) != 0)
        return anx_fail(err, ANX_E_CHECKSUM,
                        "the %llu bytes of the index that came are not those that were sent",
                        (unsigned long long) client->index.size);
    /* If this gets lost the server keeps the index for a while, and nothing worse. */
    if (send_frame(client, frame, anx_wire_put_received(frame), &ignored) != ANX_OK)
        client->state = ANX_WIRE_AT_OVER;
    return ANX_OK;
}

anx_status
anx_client2_read(anx_indexing_client *client, void *bytes, size_t size, size_t *got, anx_error *err)
{
    while (!client->n_piece) {
        anx_status st;

        if (client->state == ANX_WIRE_AT_OVER)
            return ANX_OK;
        st = fetch_piece(client, err);
        if (st != ANX_OK)
            st = resume(client, st, err);
        if (st != ANX_OK)
            return st;
    }
    if (client->n_given == client->index.size && client->state == ANX_WIRE_AT_DATA) {
        /* The last bytes are not handed out before the sum of all is known to be right. */
        anx_status st = check_sum(client, err);

        if (st != ANX_OK)
            return st;
    }
    *got = size < client->n_piece ? size : client->n_piece;
    memcpy(bytes, client->piece, *got);
    client->piece += *got;
    client->n_piece -= *got;
    return ANX_OK;
}
