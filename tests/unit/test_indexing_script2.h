/* A server of version 2 as a script: it plays a session by the book but for one thing; and a client's whole
 * session against it. Included by the suite of the client. */
#ifndef ANX_TEST_INDEXING_SCRIPT2_H
#define ANX_TEST_INDEXING_SCRIPT2_H

#include "test_indexing_peer.h"

#include "base/bytes.h"
#include "base/rng.h"
#include "indexing/client.h"

enum stage { NEVER, AT_HELLO, AT_WELCOME, AT_VERDICT, AT_QUEUE, AT_ROWS, AT_BUILD, AT_DATA, AT_DONE };

#define NO_BYTE SIZE_MAX
#define TOKEN "correct horse battery staple"
#define N_ROW 5
#define DIM 3
#define FILE_SIZE 1000 /* between 136 + 5 * 170 bytes of a graph on one level and what is possible */

struct script {
    /* What is special. */
    const char *token; /* NULL: none is asked for */
    bool proves_wrong; /* the server does not know the token */
    bool has_binding;
    uint32_t resume_timeout_s;
    uint32_t dim_max;
    uint64_t rows_max;
    uint32_t hello_type;
    size_t flip_at; /* this byte of what is said on the first connection is changed by flip_bits */
    uint8_t flip_bits;
    size_t cut_at; /* the first connection ends before this byte */
    size_t n_cut;  /* later connections that end at their first data */
    enum stage inject_at; /* this frame is sent, and then only listened */
    const uint8_t *inject;
    size_t n_inject;
    enum stage silent_at;
    bool lies_at_resume; /* announces another index */
    const anx_error *refusal; /* of RESUME */
    unsigned n_connections_max;

    /* What was seen. */
    anx_wire_job job;
    uint64_t labels[64];
    float vectors[64 * DIM];
    size_t n_row;
    uint64_t n_end;
    unsigned n_ping;
    unsigned n_connections;
    uint64_t resumed_at[16];
    unsigned n_resumed;
    bool got_cancel;
    bool got_receipt;
    bool got_error;
    anx_error error;
    size_t n_said; /* on the first connection */
    atomic_bool is_silent;

    /* The session. */
    anx_wire_welcome welcome;
    anx_wire_welcome first_welcome;
    anx_wire_state state;
    uint8_t frame[ANX_WIRE_FRAME_MAX];
    anx_wire_head head;
};

static const uint64_t labels[N_ROW] = { 11, 12, 13, 14,
                                        0x31333337 }; /* the last one version 1 could not send */
static const float vectors[N_ROW * DIM] = { 0, 0, 0, 0, 1, 0, 1, 0, 0, 1, 1, 0, 0.5f, -1, 7 };
static uint8_t file_bytes[FILE_SIZE];
static struct script script; /* one at a time; large */
static size_t fds_before;

static inline int
setup(void **state)
{
    anx_rng rng = anx_rng_seed(3);

    (void) state;
    for (size_t i = 0; i < FILE_SIZE; i++)
        file_bytes[i] = (uint8_t) anx_rng_next(&rng);
    memset(&script, 0, sizeof(script));
    script.flip_at = NO_BYTE;
    script.cut_at = NO_BYTE;
    script.resume_timeout_s = 300;
    script.n_connections_max = 1;
    fds_before = peer_count_fds();
    return 0;
}

static inline int
teardown(void **state)
{
    (void) state;
    assert_int_equal(peer_count_fds(), fds_before);
    return 0;
}

/* ---- the server ---- */

/* False when the connection is over by the script. */
static inline bool
say(struct peer *self, int fd, const void *bytes, size_t n)
{
    struct script *s = self->context;
    const uint8_t *p = bytes;
    uint8_t copy[2048];
    size_t at = s->n_said;

    if (s->n_connections > 1)
        return peer_send(self, fd, bytes, n);
    s->n_said += n;
    if (s->cut_at < s->n_said) {
        if (s->cut_at > at)
            peer_send(self, fd, bytes, s->cut_at - at);
        return false;
    }
    if (s->flip_at >= at && s->flip_at < s->n_said) {
        memcpy(copy, bytes, n);
        copy[s->flip_at - at] ^= s->flip_bits;
        p = copy;
    }
    return peer_send(self, fd, p, n);
}

static inline bool
say_frame(struct peer *self, int fd, const uint8_t *frame, size_t n)
{
    struct script *s = self->context;

    if (anx_wire_step(&s->state, ANX_WIRE_SERVER, frame[4], NULL) != ANX_OK)
        peer_fail(self, "the script itself is out of order");
    return say(self, fd, frame, n);
}

/* The next frame; false at the end of the conversation, which the client may bring about by ERROR or CANCEL.
 */
static inline bool
hear(struct peer *self, int fd)
{
    struct script *s = self->context;
    anx_error err;
    size_t have = 0;
    size_t need = ANX_WIRE_HEAD_SIZE;

    while (have < need) {
        size_t n = peer_recv_some(self, fd, s->frame + have, need - have);

        if (!n)
            return false;
        have += n;
        if (have == ANX_WIRE_HEAD_SIZE && need == ANX_WIRE_HEAD_SIZE) {
            if (anx_wire_head_decode(s->frame, &s->head, &err) != ANX_OK) {
                peer_fail(self, "head: %s", err.message);
                return false;
            }
            need += s->head.size + ANX_WIRE_TAIL_SIZE;
        }
    }
    if (anx_wire_tail_check(s->frame, s->head.size, &err) != ANX_OK ||
        anx_wire_step(&s->state, ANX_WIRE_CLIENT, s->head.type, &err) != ANX_OK) {
        peer_fail(self, "frame: %s", err.message);
        return false;
    }
    if (s->head.type == ANX_WIRE_ERROR) {
        s->got_error = true;
        if (anx_wire_get_error(s->frame + ANX_WIRE_HEAD_SIZE, s->head.size, &s->error, NULL) != ANX_OK)
            peer_fail(self, "the client's error cannot be read");
        return false;
    }
    s->got_cancel = s->got_cancel || s->head.type == ANX_WIRE_CANCEL;
    s->got_receipt = s->got_receipt || s->head.type == ANX_WIRE_RECEIVED;
    return s->state != ANX_WIRE_AT_OVER;
}

/* True when the script goes on. */
static inline bool
pass(struct peer *self, int fd, enum stage stage)
{
    struct script *s = self->context;

    if (s->inject_at == stage && s->n_connections == 1) {
        say(self, fd, s->inject, s->n_inject);
        while (hear(self, fd)) /* rows may be on their way */
            ;
        return false;
    }
    if (s->silent_at == stage) {
        atomic_store(&s->is_silent, true);
        if (stage == AT_ROWS)
            peer_idle(self, fd); /* and does not read */
        else
            while (hear(self, fd))
                ;
        return false;
    }
    return !self->complaint[0];
}

static inline bool
check_auth(struct peer *self, int fd)
{
    struct script *s = self->context;
    anx_wire_claim claim = { .secret = s->token, .secret_size = strlen(s->token) };
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
    anx_wire_auth auth;
    anx_error error = { .status = ANX_E_AUTH, .message = "wrong token" };

    s->state = ANX_WIRE_AT_AUTH;
    if (!hear(self, fd) ||
        anx_wire_get_auth(s->frame + ANX_WIRE_HEAD_SIZE, s->head.size, &auth, NULL) != ANX_OK)
        return false;
    memcpy(claim.server_nonce, s->welcome.nonce, sizeof(claim.server_nonce));
    memcpy(claim.client_nonce, auth.client_nonce, sizeof(claim.client_nonce));
    memcpy(claim.session, s->welcome.session, sizeof(claim.session));
    if (s->has_binding)
        SSL_export_keying_material(self->ssl, claim.binding, sizeof(claim.binding),
                                   "EXPORTER-Channel-Binding", 24, NULL, 0, 1);
    if (anx_wire_prove(ANX_WIRE_PROVE_CLIENT, &claim, proof, NULL) != ANX_OK ||
        !anx_wire_equal(proof, auth.proof, sizeof(proof))) {
        say_frame(self, fd, frame, anx_wire_put_error(frame, &error));
        return false;
    }
    if (!pass(self, fd, AT_VERDICT))
        return false;
    if (anx_wire_prove(ANX_WIRE_PROVE_SERVER, &claim, proof, NULL) != ANX_OK)
        return false;
    proof[0] ^= s->proves_wrong;
    return say_frame(self, fd, frame, anx_wire_put_accept(frame, proof));
}

static inline bool
greet(struct peer *self, int fd)
{
    struct script *s = self->context;
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint32_t version;

    if (!pass(self, fd, AT_HELLO))
        return false;
    anx_wire_hello_encode(frame, s->hello_type ? s->hello_type : ANX_WIRE_INDEXER);
    if (!say(self, fd, frame, ANX_WIRE_V1_HELLO_SIZE))
        return false;
    for (size_t n = 0, got; n < ANX_WIRE_UPGRADE_SIZE; n += got)
        if (!(got = peer_recv_some(self, fd, frame + n, ANX_WIRE_UPGRADE_SIZE - n)))
            return false;
    if (anx_wire_upgrade_decode(frame, &version, NULL) != ANX_OK)
        peer_fail(self, "the request for version 2 is wrong");
    s->state = ANX_WIRE_AT_WELCOME;
    if (!pass(self, fd, AT_WELCOME))
        return false;
    s->welcome = (anx_wire_welcome){ .version = 2,
                                     .needs_auth = s->token != NULL,
                                     .has_binding = s->has_binding,
                                     .dim_max = s->dim_max,
                                     .rows_max = s->rows_max,
                                     .idle_timeout_s = 60,
                                     .resume_timeout_s = s->resume_timeout_s,
                                     .server = "script 1" };
    memset(s->welcome.nonce, (int) (s->n_connections), sizeof(s->welcome.nonce));
    memset(s->welcome.session, (int) (0x10 + s->n_connections), sizeof(s->welcome.session));
    memset(s->welcome.resume_key, (int) (0x20 + s->n_connections), sizeof(s->welcome.resume_key));
    if (s->n_connections == 1)
        s->first_welcome = s->welcome;
    if (!say_frame(self, fd, frame, anx_wire_put_welcome(frame, &s->welcome)))
        return false;
    return !s->token || check_auth(self, fd);
}

static inline bool
take_rows(struct peer *self)
{
    struct script *s = self->context;
    anx_wire_rows rows;

    if (anx_wire_get_rows(s->frame + ANX_WIRE_HEAD_SIZE, s->head.size, 4 * DIM, &rows, NULL) != ANX_OK) {
        peer_fail(self, "the rows are wrong");
        return false;
    }
    for (size_t i = 0; i < rows.n && s->n_row < 64; i++, s->n_row++) {
        s->labels[s->n_row] = anx_load_le(rows.labels + 8 * i, 8);
        memcpy(s->vectors + s->n_row * DIM, rows.vectors + i * 4 * DIM, 4 * DIM);
    }
    return true;
}

/* From BEGIN to END. */
static inline bool
play_job(struct peer *self, int fd)
{
    struct script *s = self->context;
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint64_t value;

    if (anx_wire_get_begin(s->frame + ANX_WIRE_HEAD_SIZE, s->head.size, &s->job, NULL) != ANX_OK)
        peer_fail(self, "BEGIN cannot be read");
    for (uint32_t position = 2; position; position--)
        if (!say_frame(self, fd, frame, anx_wire_put_queued(frame, &(anx_wire_queued) { position, 2 })))
            return false;
    if (!pass(self, fd, AT_QUEUE) || !say_frame(self, fd, frame, anx_wire_put_ready(frame, 60)) ||
        !pass(self, fd, AT_ROWS))
        return false;
    while (hear(self, fd)) {
        anx_wire_progress progress = { ANX_WIRE_RECEIVING, 1000, s->n_row, N_ROW };

        if (s->head.type == ANX_WIRE_PING) {
            s->n_ping++;
            if (anx_wire_get_ping(s->frame + ANX_WIRE_HEAD_SIZE, s->head.size, &value, NULL) != ANX_OK ||
                !say_frame(self, fd, frame, anx_wire_put_pong(frame, value)))
                return false;
        } else if (s->head.type == ANX_WIRE_ROWS) {
            if (!take_rows(self) || !say_frame(self, fd, frame, anx_wire_put_progress(frame, &progress)))
                return false;
        } else {
            return anx_wire_get_end(s->frame + ANX_WIRE_HEAD_SIZE, s->head.size, &s->n_end, NULL) == ANX_OK;
        }
    }
    return false;
}

static inline bool
check_resume(struct peer *self, int fd, uint64_t *offset)
{
    struct script *s = self->context;
    anx_wire_claim claim = { .secret = s->first_welcome.resume_key, .secret_size = ANX_WIRE_PROOF_SIZE };
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
    anx_wire_resume resume;

    if (anx_wire_get_resume(s->frame + ANX_WIRE_HEAD_SIZE, s->head.size, &resume, NULL) != ANX_OK)
        return false;
    memcpy(claim.server_nonce, s->welcome.nonce, sizeof(claim.server_nonce));
    memcpy(claim.client_nonce, resume.client_nonce, sizeof(claim.client_nonce));
    memcpy(claim.session, s->first_welcome.session, sizeof(claim.session));
    claim.offset = resume.offset;
    if (anx_wire_prove(ANX_WIRE_PROVE_RESUME, &claim, proof, NULL) != ANX_OK ||
        !anx_wire_equal(proof, resume.proof, sizeof(proof)) ||
        !anx_wire_equal(resume.session, s->first_welcome.session, sizeof(resume.session)))
        peer_fail(self, "the proof of RESUME is wrong");
    s->resumed_at[s->n_resumed++ % 16] = *offset = resume.offset;
    if (!s->refusal)
        return true;
    say_frame(self, fd, frame, anx_wire_put_error(frame, s->refusal));
    return false;
}

/* INDEX, DATA from `offset` in pieces of 300 bytes, DONE. */
static inline void
play_download(struct peer *self, int fd, uint64_t offset)
{
    struct script *s = self->context;
    anx_wire_index index = { s->n_row, FILE_SIZE, ANX_WIRE_FILE_LANTERN };
    anx_wire_progress progress = { ANX_WIRE_BUILDING, 1000, 3, N_ROW };
    anx_wire_sum *sum = anx_wire_sum_create(NULL);
    anx_wire_done done = { .size = FILE_SIZE };
    uint8_t frame[ANX_WIRE_SMALL_MAX];

    anx_wire_sum_update(sum, file_bytes, FILE_SIZE);
    anx_wire_sum_digest(sum, done.sum);
    anx_wire_sum_destroy(sum);
    if (!pass(self, fd, AT_BUILD) || !say_frame(self, fd, frame, anx_wire_put_progress(frame, &progress)))
        return;
    if (s->n_connections > 1 && s->lies_at_resume)
        index.size++;
    if (!say_frame(self, fd, frame, anx_wire_put_index(frame, &index)) || !pass(self, fd, AT_DATA))
        return;
    if (s->n_connections > 1 && s->n_cut) {
        s->n_cut--;
        return;
    }
    while (offset < FILE_SIZE) {
        size_t n = FILE_SIZE - offset < 300 ? FILE_SIZE - offset : 300;

        memcpy(frame + anx_wire_data_at(), file_bytes + offset, n);
        if (!say_frame(self, fd, frame, anx_wire_put_data(frame, offset, n)))
            return;
        offset += n;
    }
    if (pass(self, fd, AT_DONE))
        say_frame(self, fd, frame, anx_wire_put_done(frame, &done));
}

/* Ends a connection: a client that has something to say is heard first. */
static inline void
hang_up(struct peer *self, int fd)
{
    struct script *s = self->context;

    if (fd < 0)
        return;
    if (s->n_connections == 1 && s->cut_at != NO_BYTE) {
        close(fd); /* with a reset if there is unread input, as a crash has it */
        return;
    }
    shutdown(fd, SHUT_WR);
    if (s->state != ANX_WIRE_AT_OVER)
        while (hear(self, fd))
            ;
    peer_close(self, fd);
}

static inline void
play_v2(struct peer *self)
{
    struct script *s = self->context;

    while (s->n_connections < s->n_connections_max) {
        struct pollfd next = { .fd = self->listen_fd, .events = POLLIN };
        uint64_t offset = 0;
        int fd;

        /* A client that does not come, or not again, is in its right. */
        while (poll(&next, 1, 2) == 0)
            if (atomic_load(&self->is_stopping))
                return;
        fd = peer_accept(self);
        if (fd < 0)
            return;
        s->n_connections++;
        if (greet(self, fd) && hear(self, fd)) {
            bool is_resume = s->head.type == ANX_WIRE_RESUME;

            if (is_resume ? check_resume(self, fd, &offset) : play_job(self, fd))
                play_download(self, fd, offset);
        }
        hang_up(self, fd);
    }
}

/* ---- the client ---- */

static inline anx_indexing_params
example_params(const struct peer *peer)
{
    return (anx_indexing_params){
        .host = "127.0.0.1",
        .port = peer->port,
        .protocol = 2,
        .hello_ms = 3000,
        .idle_ms = 3000,
        .job = { .metric = ANX_WIRE_L2SQ,
                 .scalar = ANX_WIRE_F32,
                 .element = ANX_WIRE_F32,
                 .dim = DIM,
                 .m = 12,
                 .ef_construction = 64,
                 .ef = 40,
                 .estimated_rows = N_ROW,
                 .format = ANX_WIRE_FILE_LANTERN,
                 .is_plain = true,
                 .name = "docs_v_idx" },
    };
}

struct result {
    anx_status st;
    anx_error err;
    size_t n;
    uint8_t file[FILE_SIZE];
    anx_indexing_info info;
    char program[32];
    unsigned n_notices[ANX_INDEXING_RESUMING + 1];
};
static struct result result;

static inline void
count_notices(void *context, const anx_indexing_notice *notice)
{
    (void) context;
    result.n_notices[notice->event]++;
    if (notice->event == ANX_INDEXING_QUEUED && (notice->n_waiting != 2 || notice->position > 2))
        fail_msg("another queue");
}

/* A whole session, ending at the first error; what the server gives is compared as it comes. */
static inline void
build(anx_indexing_params params, size_t piece)
{
    anx_indexing_client *client;
    anx_wire_index index = { 0 };

    memset(&result, 0, sizeof(result));
    params.notice = count_notices;
    result.st = anx_indexing_open(&params, &client, &result.err);
    for (size_t i = 0; result.st == ANX_OK && i < N_ROW; i++)
        result.st = anx_indexing_rows(client, 1, labels + i, vectors + i * DIM, &result.err);
    if (result.st == ANX_OK)
        result.st = anx_indexing_finish(client, &index, &result.err);
    if (result.st == ANX_OK && (index.count != N_ROW || index.size != FILE_SIZE))
        fail_msg("another index was announced");
    while (result.st == ANX_OK) {
        uint8_t bytes[FILE_SIZE + 1];
        size_t got;

        result.st = anx_indexing_read(client, bytes, piece, &got, &result.err);
        if (result.st != ANX_OK || !got)
            break;
        if (result.n + got > FILE_SIZE || memcmp(bytes, file_bytes + result.n, got) != 0)
            fail_msg("wrong bytes were handed out at %zu", result.n);
        result.n += got;
    }
    if (result.st == ANX_OK) {
        assert_int_equal(result.n, FILE_SIZE);
        anx_indexing_get_info(client, &result.info);
        snprintf(result.program, sizeof(result.program), "%s", result.info.program);
        result.info.program = NULL;
        result.info.server = NULL;
    } else if (result.n == FILE_SIZE) {
        fail_msg("all was handed out before the error: %s", result.err.message);
    }
    anx_indexing_close(client);
}

static inline void
run(void (*change)(anx_indexing_params *), size_t segment, SSL_CTX *tls)
{
    anx_indexing_params params;
    struct peer peer;

    peer_listen(&peer, play_v2, &script);
    peer.segment = segment;
    peer.tls = tls;
    peer_run(&peer);
    params = example_params(&peer);
    params.is_secure = tls != NULL;
    if (change)
        change(&params);
    build(params, 128);
    peer_stop(&peer);
}

static inline void
expect(anx_status st, const char *text)
{
    if (result.st != st || !strstr(result.err.message, text))
        fail_msg("status %d (%s), expected %d (%s)", result.st, result.err.message, st, text);
}

#endif
