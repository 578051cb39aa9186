/* The index to its client: straight from the graph into the connection, as it is serialized; the size is
 * known before. No second copy is made, neither in memory nor on disk, unless a download of version 2 breaks.
 */
#include <errno.h>
#include <inttypes.h>
#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "indexing/server_int.h"

#define PIECE \
    ((size_t) 256 << 10) /* payload of a DATA frame: large enough for head and sum to cost nothing */
#define HELD_BACK 4096

/* The size is announced before the bytes, and more follows if it were wrong; so it is asked for, not counted.
 */
static anx_status
announce(struct session *s, size_t *size, anx_error *err)
{
    anx_status st = anx_index_save_size(anx_builder_index(s->builder), &s->save, size, err);

    if (st == ANX_OK)
        atomic_store_explicit(&s->job->size, *size, memory_order_relaxed);
    return st;
}

static void
count_sent(struct session *s)
{
    if (s->job)
        atomic_store_explicit(&s->job->bytes_out, anx_stream_bytes_out(s->stream), memory_order_relaxed);
}

/* The last bytes are on their way out: from here on the build has succeeded. Counting it later would let a
 * client that has its index see a status that says it is still being made. (Version 1 does not acknowledge.)
 */
static anx_status
send_last(struct session *s, const void *bytes, size_t size, anx_error *err)
{
    anx_status st;

    anx_session_end_job(s, NULL);
    st = anx_stream_write(s->stream, bytes, size, err);
    if (st == ANX_OK)
        st = anx_stream_flush(s->stream, err);
    if (st != ANX_OK) {
        anx_jobs_take_back(&s->server->jobs, err);
        anx_log(ANX_LOG_WARN, "event=last_bytes_lost peer=%s error=\"%s\"", s->peer,
                quoted(err->message).text);
    }
    return st;
}

/* --- version 1 --- */

struct v1_out {
    struct session *s;
    uint64_t at, size;
    char metric; /* what the head must say; 0: what it says */
    uint8_t held[HELD_BACK];
    size_t n_held;
};

#define METRIC_AT 13 /* of the file's head: a character */

/* The file of a bit index says that it ranks by hamming distance, as ours do. The original's says which
 * metric it was asked for, and its clients may compare that with theirs. */
static char
metric_char(const anx_wire_job *request)
{
    if (request->scalar != ANX_WIRE_B1 || request->metric == ANX_WIRE_HAMMING)
        return 0;
    return request->metric == ANX_WIRE_COSINE ? 'c' : 'e';
}

static anx_status
send_v1(void *context, const void *bytes, size_t size, anx_error *err)
{
    struct v1_out *out = context;
    anx_stream *stream = out->s->stream;
    const uint8_t *from = bytes;
    anx_status st = ANX_OK;

    if (size > out->size - out->at)
        return anx_fail(err, ANX_E_INTERNAL, "the index has more than the %" PRIu64 " bytes announced",
                        out->size);
    if (out->at + size == out->size) { /* the end, in one block: see file_out.c */
        out->n_held = size < HELD_BACK ? size : HELD_BACK;
        memcpy(out->held, from + size - out->n_held, out->n_held);
        size -= out->n_held;
    }
    if (out->at == 0 && out->metric && size + out->n_held > METRIC_AT) {
        if (size > METRIC_AT) {
            st = anx_stream_write(stream, from, METRIC_AT, err);
            if (st == ANX_OK)
                st = anx_stream_write(stream, &out->metric, 1, err);
            if (st == ANX_OK)
                st = anx_stream_write(stream, from + METRIC_AT + 1, size - METRIC_AT - 1, err);
        } else {
            out->held[METRIC_AT - size] = (uint8_t) out->metric;
            st = anx_stream_write(stream, from, size, err);
        }
    } else {
        st = anx_stream_write(stream, from, size, err);
    }
    out->at += size + out->n_held;
    count_sent(out->s);
    return st;
}

anx_status
anx_session_send_v1(struct session *s, anx_error *err)
{
    struct v1_out out = { .s = s, .metric = metric_char(&s->request) };
    anx_sink sink = { &out, send_v1 };
    uint8_t counts[ANX_WIRE_V1_COUNTS_SIZE];
    size_t size;
    anx_status st = announce(s, &size, err);

    if (st != ANX_OK)
        return st;
    out.size = size;
    anx_wire_counts_encode(counts, s->n_row, size);
    st = anx_stream_write(s->stream, counts, sizeof(counts), err);
    if (st == ANX_OK)
        st = anx_index_save(anx_builder_index(s->builder), &s->save, &sink, NULL, err);
    if (st == ANX_OK && out.at != out.size)
        st = anx_fail(err, ANX_E_INTERNAL, "the index has %" PRIu64 " bytes, %" PRIu64 " were announced",
                      out.at, out.size);
    return st == ANX_OK ? send_last(s, out.held, out.n_held, err) : st;
}

/* --- version 2 --- */

struct v2_out {
    struct session *s;
    uint64_t at;          /* offset in the file of the next byte */
    anx_wire_sum *sum;    /* of all bytes */
    uint8_t *frame;       /* owned: a DATA frame in the making */
    size_t used;          /* bytes of it */
};

static anx_status
v2_open(struct v2_out *out, struct session *s, anx_error *err)
{
    *out = (struct v2_out) { .s = s };
    out->sum = anx_wire_sum_create(NULL);
    out->frame = anx_alloc_bytes(NULL, anx_wire_data_at() + PIECE + ANX_WIRE_TAIL_SIZE);
    return out->sum && out->frame ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate a frame");
}

static void
v2_close(struct v2_out *out)
{
    anx_wire_sum_destroy(out->sum);
    anx_free(NULL, out->frame);
}

static anx_status
v2_piece(struct v2_out *out, anx_error *err)
{
    anx_status st = anx_session_v2_listen(out->s, err);
    size_t size;

    if (st == ANX_OK)
        st = anx_wire_step(&out->s->state, ANX_WIRE_SERVER, ANX_WIRE_DATA, err);
    if (st != ANX_OK)
        return st;
    size = anx_wire_put_data(out->frame, out->at, out->used);
    st = anx_stream_write(out->s->stream, out->frame, size, err);
    out->at += out->used;
    out->used = 0;
    count_sent(out->s);
    return st;
}

static anx_status
send_v2(void *context, const void *bytes, size_t size, anx_error *err)
{
    struct v2_out *out = context;
    const uint8_t *from = bytes;

    anx_wire_sum_update(out->sum, bytes, size);
    while (size > 0) {
        size_t n = size < PIECE - out->used ? size : PIECE - out->used;

        memcpy(out->frame + anx_wire_data_at() + out->used, from, n);
        out->used += n, from += n, size -= n;
        if (out->used == PIECE) {
            anx_status st = v2_piece(out, err);

            if (st != ANX_OK)
                return st;
        }
    }
    return ANX_OK;
}

static anx_status
v2_index(struct session *s, uint64_t count, uint64_t size, anx_error *err)
{
    anx_wire_index index = { .count = count, .size = size, .format = s->request.format };

    return anx_session_v2_send(s, ANX_WIRE_INDEX, anx_wire_put_index(s->frame, &index), err);
}

anx_status
anx_session_send_v2(struct session *s, anx_error *err)
{
    struct v2_out out;
    anx_sink sink = { &out, send_v2 };
    anx_wire_done done = { 0 };
    size_t size;
    anx_status st = v2_open(&out, s, err);

    if (st == ANX_OK)
        st = announce(s, &size, err);
    if (st == ANX_OK)
        st = v2_index(s, s->n_row, size, err);
    if (st == ANX_OK)
        st = anx_index_save(anx_builder_index(s->builder), &s->save, &sink, NULL, err);
    if (st == ANX_OK && out.used > 0)
        st = v2_piece(&out, err);
    if (st == ANX_OK && out.at != size)
        st = anx_fail(err, ANX_E_INTERNAL, "the index has %" PRIu64 " bytes, %zu were announced", out.at,
                      size);
    if (st == ANX_OK) {
        done.size = size;
        anx_wire_sum_digest(out.sum, done.sum);
        st = anx_session_v2_send(s, ANX_WIRE_DONE, anx_wire_put_done(s->frame, &done), err);
    }
    v2_close(&out);
    return st;
}

static anx_status
read_kept(const struct kept *kept, uint64_t at, uint8_t *bytes, size_t size, anx_error *err)
{
    while (size > 0) {
        ssize_t n = pread(kept->fd, bytes, size, (off_t) at);

        if (n < 0 && errno == EINTR)
            continue;
        if (n <= 0)
            return anx_fail(err, ANX_E_IO, "could not read the index that was kept: %s",
                            strerror(n < 0 ? errno : EIO));
        at += (uint64_t) n, bytes += n, size -= (size_t) n;
    }
    return ANX_OK;
}

static anx_status
send_rest(struct v2_out *out, const struct kept *kept, anx_error *err)
{
    anx_status st = ANX_OK;

    while (st == ANX_OK && out->at < kept->index.size) {
        uint64_t left = kept->index.size - out->at;

        out->used = left < PIECE ? (size_t) left : PIECE;
        st = read_kept(kept, out->at, out->frame + anx_wire_data_at(), out->used, err);
        if (st == ANX_OK)
            st = v2_piece(out, err);
    }
    return st;
}

anx_status
anx_session_send_kept(struct session *s, struct kept *kept, uint64_t offset, anx_error *err)
{
    struct v2_out out;
    anx_wire_done done = { .size = kept->index.size };
    anx_status st = v2_open(&out, s, err);

    memcpy(done.sum, kept->sum, sizeof(done.sum));
    out.at = offset;
    s->request.format = kept->index.format;
    if (st == ANX_OK && offset > kept->index.size)
        st = anx_fail(err, ANX_E_INVALID, "the download cannot go on at byte %" PRIu64 " of %" PRIu64, offset,
                      kept->index.size);
    if (st == ANX_OK)
        st = v2_index(s, kept->index.count, kept->index.size, err);
    if (st == ANX_OK)
        st = send_rest(&out, kept, err);
    if (st == ANX_OK)
        st = anx_session_v2_send(s, ANX_WIRE_DONE, anx_wire_put_done(s->frame, &done), err);
    v2_close(&out);
    return st;
}
