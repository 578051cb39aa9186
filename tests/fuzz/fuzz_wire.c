/* Fuzz target: what a peer of external indexing sends. The first byte picks side and version; the rest is the
 * peer's words.
 *
 *     bit 0     1: version 2
 *     bit 1     1: they are a server's words, and the client itself listens to them over a socket pair;
 *               0: a client's, decoded as a server does
 *     bit 2     1: the sums of version 2 frames are made right first, so that what lies behind them is
 * reached bit 3     1: the client has a token
 *
 * Beyond not crashing: what is accepted is within the limits, encodes to the same bytes again, and never
 * makes the client hand out more than was announced. */
#include <poll.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "indexing/client_int.h"
#include "wire_repair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void
must(bool holds)
{
    if (!holds)
        __builtin_trap();
}

/* ---- a server's ear ---- */

static void
hear_v1(const uint8_t *p, size_t size)
{
    uint8_t again[ANX_WIRE_V1_INIT_SIZE];
    anx_wire_route route;
    anx_wire_job job;
    size_t row_size;

    if (size >= 4 && anx_wire_first_of(p) == ANX_WIRE_FIRST_ROUTER)
        must(anx_wire_route_decode(p, size, &route, NULL) != ANX_OK || strlen(route.host) == size - 12);
    if (size < ANX_WIRE_V1_INIT_SIZE || anx_wire_init_decode(p, &job, NULL) != ANX_OK ||
        anx_wire_job_check(&job, NULL) != ANX_OK)
        return;
    anx_wire_init_encode(again, &job);
    must(job.estimated_rows == 0 || anx_load_le(p + 12, 4) == 0 || memcmp(p + 8, again + 8, 24) == 0);
    row_size = 8 + anx_wire_vector_size(&job);
    must(row_size > 8 && row_size <= 8 + 8000);
    for (size_t at = ANX_WIRE_V1_INIT_SIZE; size - at >= 4; at += row_size)
        if (anx_wire_row_word_of(p + at) != ANX_WIRE_WORD_ROW || size - at < row_size)
            return;
}

/* Encodes the decoded again where the bytes are determined by it, into `again`; 0: not determined. */
static size_t
take_payload(unsigned type, const uint8_t *p, size_t n, anx_wire_job *job, uint8_t *again)
{
    anx_wire_auth auth;
    anx_wire_resume resume;
    anx_wire_rows rows;
    anx_error error;
    uint64_t value;

    switch (type) {
    case ANX_WIRE_AUTH:
        return anx_wire_get_auth(p, n, &auth, NULL) == ANX_OK ? anx_wire_put_auth(again, &auth) : 0;
    case ANX_WIRE_BEGIN:
        if (anx_wire_get_begin(p, n, job, NULL) != ANX_OK || anx_wire_job_check(job, NULL) != ANX_OK)
            job->dim = 0;
        else
            must(anx_wire_vector_size(job) > 0 && anx_wire_rows_max(anx_wire_vector_size(job)) >= 3);
        return 0;
    case ANX_WIRE_ROWS:
        if (anx_wire_vector_size(job) &&
            anx_wire_get_rows(p, n, anx_wire_vector_size(job), &rows, NULL) == ANX_OK)
            must(rows.n >= 1 && rows.vectors + rows.n * anx_wire_vector_size(job) == p + n);
        return 0;
    case ANX_WIRE_END:
        return anx_wire_get_end(p, n, &value, NULL) == ANX_OK ? anx_wire_put_end(again, value) : 0;
    case ANX_WIRE_PING:
        return anx_wire_get_ping(p, n, &value, NULL) == ANX_OK ? anx_wire_put_ping(again, value) : 0;
    case ANX_WIRE_RESUME:
        return anx_wire_get_resume(p, n, &resume, NULL) == ANX_OK ? anx_wire_put_resume(again, &resume) : 0;
    case ANX_WIRE_ERROR:
        if (anx_wire_get_error(p, n, &error, NULL) == ANX_OK)
            must(error.status != ANX_OK && strlen(error.message) < sizeof(error.message));
        return 0;
    default:
        return 0;
    }
}

static void
hear_v2(const uint8_t *p, size_t size)
{
    uint8_t again[ANX_WIRE_SMALL_MAX];
    anx_wire_state state = ANX_WIRE_AT_OPEN;
    anx_wire_job job = { 0 };
    uint32_t version;
    size_t at = 0;

    if (size >= ANX_WIRE_UPGRADE_SIZE && anx_wire_upgrade_decode(p, &version, NULL) == ANX_OK)
        at = ANX_WIRE_UPGRADE_SIZE;
    if (size > at && p[size - 1] & 1)
        state = ANX_WIRE_AT_AUTH;
    while (size - at >= ANX_WIRE_HEAD_SIZE) {
        anx_wire_head head;
        size_t n_again;

        if (anx_wire_head_decode(p + at, &head, NULL) != ANX_OK)
            return;
        must(head.size <= ANX_WIRE_PAYLOAD_MAX);
        if (size - at < ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE ||
            anx_wire_tail_check(p + at, head.size, NULL) != ANX_OK ||
            anx_wire_step(&state, ANX_WIRE_CLIENT, head.type, NULL) != ANX_OK)
            return;
        n_again = take_payload(head.type, p + at + ANX_WIRE_HEAD_SIZE, head.size, &job, again);
        at += ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE;
        if (n_again)
            must(memcmp(p + at - n_again, again, n_again) == 0);
        /* The server's own words in between. */
        if (state == ANX_WIRE_AT_VERDICT)
            state = ANX_WIRE_AT_OPEN;
        if (state == ANX_WIRE_AT_QUEUE)
            state = ANX_WIRE_AT_ROWS;
    }
}

/* ---- a client's ear ---- */

/* Everything the peer will ever say is there: what is not ready now never will be. */
static anx_status
wait_now(void *context, int fd, short events, int timeout_ms, short *ready, anx_error *err)
{
    struct pollfd p = { .fd = fd, .events = events };

    (void) context;
    (void) timeout_ms;
    if (poll(&p, 1, 0) != 1)
        return anx_fail(err, ANX_E_CANCELLED, "nothing more comes");
    *ready = p.revents;
    return ANX_OK;
}

static anx_status
begin(anx_indexing_client *client, unsigned version, anx_error *err)
{
    bool is_v1 = version == 1;
    uint32_t type;
    anx_status st = anx_client_hello(client, &type, err);

    if (st != ANX_OK)
        return st;
    client->version = version;
    if (version == 2) {
        st = anx_client2_upgrade(client, &is_v1, err);
        if (st == ANX_OK && is_v1)
            return ANX_E_VERSION;
        return st == ANX_OK ? anx_client2_begin(client, err) : st;
    }
    if (type == ANX_WIRE_ROUTER) {
        st = anx_client1_route(client, err);
        must(st != ANX_OK || (client->host[0] && client->port >= 1 && client->port <= 65535));
        return ANX_E_VERSION; /* not here any more */
    }
    return anx_client1_begin(client, err);
}

static void
listen_to(const uint8_t *p, size_t size, unsigned version, bool has_token)
{
    static const uint64_t labels[3] = { 1, 2, 3 };
    static const float vectors[6] = { 0, 1, 1, 0, 1, 1 };
    anx_indexing_params params = {
        .host = "peer", .port = 1, .wait = wait_now, .token = "token", .token_size = has_token ? 5 : 0,
        .job = { .metric = ANX_WIRE_L2SQ, .scalar = ANX_WIRE_F32, .element = ANX_WIRE_F32, .dim = 2, .m = 2,
                 .format = ANX_WIRE_FILE_LANTERN, .is_plain = true },
    };
    anx_stream_params stream = { .wait = wait_now };
    anx_indexing_client *client;
    anx_wire_index index = { 0 };
    uint64_t n_file = 0;
    uint8_t piece[97];
    anx_error err;
    anx_status st;
    int fds[2];
    size_t got;

    if (anx_client_create(&params, &client, &err) != ANX_OK)
        return;
    must(socketpair(AF_UNIX, SOCK_STREAM, 0, fds) == 0);
    must(anx_stream_create(fds[0], &stream, &client->stream, &err) == ANX_OK);
    if (send(fds[1], p, size, MSG_DONTWAIT | MSG_NOSIGNAL) < 0)
        size = 0;
    shutdown(fds[1], SHUT_WR);
    st = begin(client, version, &err);
    client->phase = CLIENT_ROWS;
    if (st == ANX_OK)
        st = anx_indexing_rows(client, 3, labels, vectors, &err);
    if (st == ANX_OK)
        st = anx_indexing_keep_alive(client, &err);
    if (st == ANX_OK)
        st = anx_indexing_finish(client, &index, &err);
    if (st == ANX_OK)
        must(index.count == 3 && index.size >= 136 + 3 * 46);
    do {
        got = 0;
        if (st == ANX_OK)
            st = anx_indexing_read(client, piece, sizeof(piece), &got, &err);
        n_file += got;
        must(n_file <= index.size && n_file <= size);
    } while (st == ANX_OK && got);
    must(st != ANX_OK || n_file == index.size);
    anx_indexing_close(client);
    close(fds[1]);
}

/* The last frame of a session by the book sums the whole file up: fuzzing does not guess it. */
static void
repair_done(uint8_t *p, size_t size, size_t at)
{
    anx_wire_sum *sum = anx_wire_sum_create(NULL);
    anx_wire_head head;

    while (sum && size - at >= ANX_WIRE_HEAD_SIZE && anx_wire_head_decode(p + at, &head, NULL) == ANX_OK) {
        if (size - at < ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE)
            break;
        if (head.type == ANX_WIRE_DATA)
            anx_wire_sum_update(sum, p + at + anx_wire_data_at(), head.size - ANX_WIRE_DATA_HEAD);
        if (head.type == ANX_WIRE_DONE) {
            anx_wire_sum_digest(sum, p + at + ANX_WIRE_HEAD_SIZE + 8);
            anx_wire_seal(p + at, ANX_WIRE_DONE, head.size);
        }
        at += ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE;
    }
    anx_wire_sum_destroy(sum);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    bool is_v2 = size > 0 && data[0] & 1;
    bool is_server = size > 0 && data[0] & 2;
    bool is_repaired = size > 0 && data[0] & 4;
    size_t first = is_server ? ANX_WIRE_V1_HELLO_SIZE : ANX_WIRE_UPGRADE_SIZE;
    uint8_t *copy;

    if (size < 2)
        return 0;
    copy = anx_alloc_bytes(NULL, size - 1);
    if (!copy)
        return 0;
    memcpy(copy, data + 1, size - 1);
    if (is_v2 && is_repaired && size - 1 > first) {
        wire_repair(copy, size - 1, first);
        if (is_server)
            repair_done(copy, size - 1, first);
        else
            anx_wire_upgrade_encode(copy);
    }
    if (is_server)
        listen_to(copy, size - 1, is_v2 ? 2 : 1, data[0] & 8);
    else if (is_v2)
        hear_v2(copy, size - 1);
    else
        hear_v1(copy, size - 1);
    anx_free(NULL, copy);
    return 0;
}
