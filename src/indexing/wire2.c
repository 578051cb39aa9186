/* Version 2: checked frames. A frame is made in place: the put functions write the payload behind the room
 * for the head, and anx_wire_seal closes it. */
#include <stdio.h>
#include <string.h>

#include <xxhash.h>

#include "base/bytes.h"
#include "base/error.h"
#include "indexing/wire.h"

/* --------------------------------------------------------------------------------------------------- the
 * table
 */

static const struct frame_row {
    const char *name;
    uint8_t type;
    unsigned sender;
    uint32_t min_size;
    uint32_t max_size;
    unsigned states;
    unsigned next;
} frames[] = {
#define FRAME(name, value, sender, min_size, max_size, states, next) \
    { #name, value, sender, min_size, max_size, states, next },
#include "indexing/frames.def"
#undef FRAME
};

static const struct frame_row *
find_frame(unsigned type)
{
    for (size_t i = 0; i < ANX_COUNT_OF(frames); i++)
        if (frames[i].type == type)
            return &frames[i];
    return NULL;
}

const char *
anx_wire_type_name(unsigned type)
{
    const struct frame_row *row = find_frame(type);

    return row ? row->name : "unknown frame";
}

static const char *
state_name(anx_wire_state state)
{
    switch (state) {
    case ANX_WIRE_AT_WELCOME:
        return "before the welcome";
    case ANX_WIRE_AT_AUTH:
        return "before the token was proved";
    case ANX_WIRE_AT_VERDICT:
        return "while the token is checked";
    case ANX_WIRE_AT_OPEN:
        return "before a job was begun";
    case ANX_WIRE_AT_QUEUE:
        return "while the job waits";
    case ANX_WIRE_AT_ROWS:
        return "while rows are sent";
    case ANX_WIRE_AT_BUILD:
        return "while the index is built";
    case ANX_WIRE_AT_RESUME:
        return "while a download is resumed";
    case ANX_WIRE_AT_DATA:
        return "while the index is sent";
    case ANX_WIRE_AT_RECEIPT:
        return "after all was sent";
    case ANX_WIRE_AT_OVER:
        return "after the end";
    }
    return "in an unknown state";
}

anx_status
anx_wire_step(anx_wire_state *state, anx_wire_side sender, unsigned type, anx_error *err)
{
    const struct frame_row *row = find_frame(type);

    if (!row || !(row->sender & sender))
        return anx_fail(err, ANX_E_STATE, "the %s cannot send frame type %u (%s)",
                        sender == ANX_WIRE_CLIENT ? "client" : "server", type, anx_wire_type_name(type));
    if (!(row->states & *state))
        return anx_fail(err, ANX_E_STATE, "frame %s is out of place %s", row->name, state_name(*state));
    if (row->next)
        *state = (anx_wire_state) row->next;
    return ANX_OK;
}

/* ------------------------------------------------------------------------------------------------ head and
 * tail
 */

/* CRC-16 (polynomial 0x1021, start 0xffff): finds every change of up to 16 neighboring bits in the head, so
 * that nobody waits for bytes that a damaged length promises. */
static uint16_t
crc16(const uint8_t *bytes, size_t size)
{
    unsigned crc = 0xffff;

    for (size_t i = 0; i < size; i++) {
        crc ^= (unsigned) bytes[i] << 8;
        for (int bit = 0; bit < 8; bit++)
            crc = crc & 0x8000u ? (crc << 1) ^ 0x1021u : crc << 1;
    }
    return (uint16_t) crc;
}

static uint32_t
tail_of(const uint8_t *frame, size_t payload_size)
{
    return (uint32_t) XXH3_64bits_withSeed(frame + ANX_WIRE_HEAD_SIZE, payload_size,
                                           anx_load_le(frame, ANX_WIRE_HEAD_SIZE));
}

size_t
anx_wire_seal(uint8_t *frame, enum anx_wire_type type, size_t payload_size)
{
    anx_store_le(frame, payload_size, 4);
    frame[4] = (uint8_t) type;
    frame[5] = 0;
    anx_store_le(frame + 6, crc16(frame, 6), 2);
    anx_store_le(frame + ANX_WIRE_HEAD_SIZE + payload_size, tail_of(frame, payload_size), 4);
    return ANX_WIRE_HEAD_SIZE + payload_size + ANX_WIRE_TAIL_SIZE;
}

anx_status
anx_wire_head_decode(const uint8_t bytes[ANX_WIRE_HEAD_SIZE], anx_wire_head *out, anx_error *err)
{
    const struct frame_row *row = find_frame(bytes[4]);

    out->size = (uint32_t) anx_load_le(bytes, 4);
    out->type = bytes[4];
    if (anx_load_le(bytes + 6, 2) != crc16(bytes, 6))
        return anx_fail(err, ANX_E_CHECKSUM, "the head of a frame was damaged on the way");
    if (!row)
        return anx_fail(err, ANX_E_CORRUPT, "unknown frame type %u", out->type);
    if (bytes[5] != 0)
        return anx_fail(err, ANX_E_CORRUPT, "frame %s has unknown flags %u", row->name, bytes[5]);
    if (out->size < row->min_size || out->size > row->max_size)
        return anx_fail(err, ANX_E_LIMIT, "frame %s announces %u bytes, allowed are %u to %u", row->name,
                        out->size, row->min_size, row->max_size);
    return ANX_OK;
}

anx_status
anx_wire_tail_check(const uint8_t *frame, size_t payload_size, anx_error *err)
{
    if (anx_load_le(frame + ANX_WIRE_HEAD_SIZE + payload_size, 4) == tail_of(frame, payload_size))
        return ANX_OK;
    return anx_fail(err, ANX_E_CHECKSUM, "frame %s was damaged on the way", anx_wire_type_name(frame[4]));
}

void
anx_wire_upgrade_encode(uint8_t bytes[ANX_WIRE_UPGRADE_SIZE])
{
    anx_store_le(bytes, ANX_WIRE_UPGRADE, 4);
    anx_store_le(bytes + 4, ANX_WIRE_VERSION, 4);
    anx_store_le(bytes + 8, 0, 4); /* features: none yet */
    anx_store_le(bytes + 12, XXH3_64bits(bytes, 12), 4);
}

anx_status
anx_wire_upgrade_decode(const uint8_t bytes[ANX_WIRE_UPGRADE_SIZE], uint32_t *version, anx_error *err)
{
    *version = (uint32_t) anx_load_le(bytes + 4, 4);
    if (anx_load_le(bytes, 4) != ANX_WIRE_UPGRADE)
        return anx_fail(err, ANX_E_CORRUPT, "Invalid message header");
    if (anx_load_le(bytes + 12, 4) != (uint32_t) XXH3_64bits(bytes, 12))
        return anx_fail(err, ANX_E_CHECKSUM, "the request for version 2 was damaged on the way");
    if (*version < ANX_WIRE_VERSION)
        return anx_fail(err, ANX_E_VERSION, "the client asks for version %u, known are 1 and 2", *version);
    *version = ANX_WIRE_VERSION;
    return ANX_OK;
}

/* ------------------------------------------------------------------------------------------------- the
 * payloads
 */

static uint8_t *
put_le(uint8_t *at, uint64_t value, size_t n)
{
    anx_store_le(at, value, n);
    return at + n;
}

static uint8_t *
put_bytes(uint8_t *at, const void *bytes, size_t n)
{
    if (n)
        memcpy(at, bytes, n);
    return at + n;
}

static size_t
seal_at(uint8_t *frame, enum anx_wire_type type, const uint8_t *end)
{
    return anx_wire_seal(frame, type, (size_t) (end - frame) - ANX_WIRE_HEAD_SIZE);
}

static void
get_bytes(anx_reader *r, void *out, size_t n)
{
    const uint8_t *p = anx_read_view(r, n);

    if (p && r->data)
        memcpy(out, p, n);
    else
        memset(out, 0, n);
}

/* After the last field: everything was there, nothing is left, and the reserved bits (OR of them) are zero.
 */
static anx_status
finish_get(const anx_reader *r, uint64_t reserved, const char *name, anx_error *err)
{
    if (r->failed || r->at != r->size)
        return anx_fail(err, ANX_E_CORRUPT, "frame %s has %zu bytes, which is not its length", name, r->size);
    if (reserved)
        return anx_fail(err, ANX_E_CORRUPT, "frame %s has reserved bits set", name);
    return ANX_OK;
}

enum { WELCOME_NEEDS_AUTH = 1, WELCOME_HAS_BINDING = 2 };

size_t
anx_wire_put_welcome(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_welcome *w)
{
    uint8_t *at = frame + ANX_WIRE_HEAD_SIZE;

    at = put_le(at, w->version, 4);
    at = put_le(at, (w->needs_auth ? WELCOME_NEEDS_AUTH : 0) | (w->has_binding ? WELCOME_HAS_BINDING : 0), 4);
    at = put_le(at, w->dim_max, 4);
    at = put_le(at, w->idle_timeout_s, 4);
    at = put_le(at, w->rows_max, 8);
    at = put_le(at, w->resume_timeout_s, 4);
    at = put_le(at, 0, 4);
    at = put_bytes(at, w->nonce, sizeof(w->nonce));
    at = put_bytes(at, w->session, sizeof(w->session));
    at = put_bytes(at, w->resume_key, sizeof(w->resume_key));
    at = put_bytes(at, w->server, strnlen(w->server, ANX_WIRE_VERSION_TEXT_MAX));
    return seal_at(frame, ANX_WIRE_WELCOME, at);
}

anx_status
anx_wire_get_welcome(const uint8_t *payload, size_t size, anx_wire_welcome *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);
    uint32_t flags;
    uint32_t zero;
    size_t n_text;

    memset(out, 0, sizeof(*out));
    out->version = anx_read_u32(&r);
    flags = anx_read_u32(&r);
    out->needs_auth = flags & WELCOME_NEEDS_AUTH;
    out->has_binding = flags & WELCOME_HAS_BINDING;
    out->dim_max = anx_read_u32(&r);
    out->idle_timeout_s = anx_read_u32(&r);
    out->rows_max = anx_read_u64(&r);
    out->resume_timeout_s = anx_read_u32(&r);
    zero = anx_read_u32(&r);
    get_bytes(&r, out->nonce, sizeof(out->nonce));
    get_bytes(&r, out->session, sizeof(out->session));
    get_bytes(&r, out->resume_key, sizeof(out->resume_key));
    n_text = r.size - r.at;
    if (!r.failed && n_text <= ANX_WIRE_VERSION_TEXT_MAX)
        anx_wire_text(out->server, sizeof(out->server), anx_read_view(&r, n_text), n_text);
    if (out->version != ANX_WIRE_VERSION)
        return anx_fail(err, ANX_E_VERSION, "the server answers in version %u, the client speaks %u",
                        out->version, ANX_WIRE_VERSION);
    return finish_get(&r, zero | (flags & ~(uint32_t) (WELCOME_NEEDS_AUTH | WELCOME_HAS_BINDING)), "WELCOME",
                      err);
}

size_t
anx_wire_put_auth(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_auth *auth)
{
    uint8_t *at = frame + ANX_WIRE_HEAD_SIZE;

    at = put_bytes(at, auth->client_nonce, sizeof(auth->client_nonce));
    at = put_bytes(at, auth->proof, sizeof(auth->proof));
    return seal_at(frame, ANX_WIRE_AUTH, at);
}

anx_status
anx_wire_get_auth(const uint8_t *payload, size_t size, anx_wire_auth *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    get_bytes(&r, out->client_nonce, sizeof(out->client_nonce));
    get_bytes(&r, out->proof, sizeof(out->proof));
    return finish_get(&r, 0, "AUTH", err);
}

size_t
anx_wire_put_accept(uint8_t frame[ANX_WIRE_SMALL_MAX], const uint8_t proof[ANX_WIRE_PROOF_SIZE])
{
    return seal_at(frame, ANX_WIRE_ACCEPT, put_bytes(frame + ANX_WIRE_HEAD_SIZE, proof, ANX_WIRE_PROOF_SIZE));
}

anx_status
anx_wire_get_accept(const uint8_t *payload, size_t size, uint8_t proof[ANX_WIRE_PROOF_SIZE], anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    get_bytes(&r, proof, ANX_WIRE_PROOF_SIZE);
    return finish_get(&r, 0, "ACCEPT", err);
}

enum { BEGIN_PLAIN = 1, BEGIN_NATIVE = 2 };

size_t
anx_wire_put_begin(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_job *job)
{
    uint8_t *at = frame + ANX_WIRE_HEAD_SIZE;

    at = put_le(at, job->metric, 4);
    at = put_le(at, job->scalar, 4);
    at = put_le(at, job->element, 4);
    at = put_le(at, job->dim, 4);
    at = put_le(at, job->m, 4);
    at = put_le(at, job->ef_construction, 4);
    at = put_le(at, job->ef, 4);
    at = put_le(at, job->format, 4);
    at = put_le(at, job->estimated_rows, 8);
    at = put_le(at, (job->is_plain ? BEGIN_PLAIN : 0) | (job->is_native ? BEGIN_NATIVE : 0), 4);
    at = put_le(at, job->idle_timeout_s, 4);
    at = put_le(at, 0, 8);
    at = put_bytes(at, job->name, strnlen(job->name, ANX_WIRE_NAME_MAX));
    return seal_at(frame, ANX_WIRE_BEGIN, at);
}

anx_status
anx_wire_get_begin(const uint8_t *payload, size_t size, anx_wire_job *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);
    uint32_t flags;
    uint64_t zero;
    size_t n_text;

    memset(out, 0, sizeof(*out));
    out->version = 2;
    out->metric = anx_read_u32(&r);
    out->scalar = anx_read_u32(&r);
    out->element = anx_read_u32(&r);
    out->dim = anx_read_u32(&r);
    out->m = anx_read_u32(&r);
    out->ef_construction = anx_read_u32(&r);
    out->ef = anx_read_u32(&r);
    out->format = anx_read_u32(&r);
    out->estimated_rows = anx_read_u64(&r);
    flags = anx_read_u32(&r);
    out->is_plain = flags & BEGIN_PLAIN;
    out->is_native = flags & BEGIN_NATIVE;
    out->idle_timeout_s = anx_read_u32(&r);
    zero = anx_read_u64(&r);
    n_text = r.size - r.at;
    if (!r.failed && n_text <= ANX_WIRE_NAME_MAX)
        anx_wire_text(out->name, sizeof(out->name), anx_read_view(&r, n_text), n_text);
    return finish_get(&r, zero | (flags & ~(uint32_t) (BEGIN_PLAIN | BEGIN_NATIVE)), "BEGIN", err);
}

size_t
anx_wire_put_queued(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_queued *queued)
{
    uint8_t *at = put_le(frame + ANX_WIRE_HEAD_SIZE, queued->position, 4);

    return seal_at(frame, ANX_WIRE_QUEUED, put_le(at, queued->n_waiting, 4));
}

anx_status
anx_wire_get_queued(const uint8_t *payload, size_t size, anx_wire_queued *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    out->position = anx_read_u32(&r);
    out->n_waiting = anx_read_u32(&r);
    return finish_get(&r, 0, "QUEUED", err);
}

size_t
anx_wire_put_ready(uint8_t frame[ANX_WIRE_SMALL_MAX], uint32_t idle_timeout_s)
{
    uint8_t *at = put_le(frame + ANX_WIRE_HEAD_SIZE, idle_timeout_s, 4);

    return seal_at(frame, ANX_WIRE_READY, put_le(at, 0, 4));
}

anx_status
anx_wire_get_ready(const uint8_t *payload, size_t size, uint32_t *idle_timeout_s, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);
    uint32_t zero;

    *idle_timeout_s = anx_read_u32(&r);
    zero = anx_read_u32(&r);
    return finish_get(&r, zero, "READY", err);
}

size_t
anx_wire_rows_max(size_t vector_size)
{
    return (ANX_WIRE_PAYLOAD_MAX - ANX_WIRE_ROWS_HEAD) / (8 + vector_size);
}

size_t
anx_wire_put_rows(uint8_t *frame, size_t n, size_t vector_size)
{
    ANX_ASSERT(n >= 1 && n <= anx_wire_rows_max(vector_size));
    put_le(put_le(frame + ANX_WIRE_HEAD_SIZE, n, 4), 0, 4);
    return anx_wire_seal(frame, ANX_WIRE_ROWS, ANX_WIRE_ROWS_HEAD + n * (8 + vector_size));
}

anx_status
anx_wire_get_rows(const uint8_t *payload, size_t size, size_t vector_size, anx_wire_rows *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);
    uint32_t zero;

    out->n = anx_read_u32(&r);
    zero = anx_read_u32(&r);
    if (out->n < 1 || out->n > anx_wire_rows_max(vector_size))
        return anx_fail(err, ANX_E_LIMIT, "frame ROWS announces %zu rows of %zu bytes, allowed are 1 to %zu",
                        out->n, vector_size, anx_wire_rows_max(vector_size));
    out->labels = anx_read_view(&r, 8 * out->n);
    out->vectors = anx_read_view(&r, vector_size * out->n);
    return finish_get(&r, zero, "ROWS", err);
}

static size_t
put_u64(uint8_t *frame, enum anx_wire_type type, uint64_t value)
{
    return seal_at(frame, type, put_le(frame + ANX_WIRE_HEAD_SIZE, value, 8));
}

static anx_status
get_u64(const uint8_t *payload, size_t size, const char *name, uint64_t *value, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    *value = anx_read_u64(&r);
    return finish_get(&r, 0, name, err);
}

size_t
anx_wire_put_end(uint8_t frame[ANX_WIRE_SMALL_MAX], uint64_t n_row)
{
    return put_u64(frame, ANX_WIRE_END, n_row);
}

anx_status
anx_wire_get_end(const uint8_t *payload, size_t size, uint64_t *n_row, anx_error *err)
{
    return get_u64(payload, size, "END", n_row, err);
}

size_t
anx_wire_put_cancel(uint8_t frame[ANX_WIRE_SMALL_MAX])
{
    return anx_wire_seal(frame, ANX_WIRE_CANCEL, 0);
}

size_t
anx_wire_put_received(uint8_t frame[ANX_WIRE_SMALL_MAX])
{
    return anx_wire_seal(frame, ANX_WIRE_RECEIVED, 0);
}

size_t
anx_wire_put_ping(uint8_t frame[ANX_WIRE_SMALL_MAX], uint64_t value)
{
    return put_u64(frame, ANX_WIRE_PING, value);
}

size_t
anx_wire_put_pong(uint8_t frame[ANX_WIRE_SMALL_MAX], uint64_t value)
{
    return put_u64(frame, ANX_WIRE_PONG, value);
}

anx_status
anx_wire_get_ping(const uint8_t *payload, size_t size, uint64_t *value, anx_error *err)
{
    return get_u64(payload, size, "PING", value, err);
}

size_t
anx_wire_put_resume(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_resume *resume)
{
    uint8_t *at = frame + ANX_WIRE_HEAD_SIZE;

    at = put_bytes(at, resume->session, sizeof(resume->session));
    at = put_bytes(at, resume->client_nonce, sizeof(resume->client_nonce));
    at = put_bytes(at, resume->proof, sizeof(resume->proof));
    return seal_at(frame, ANX_WIRE_RESUME, put_le(at, resume->offset, 8));
}

anx_status
anx_wire_get_resume(const uint8_t *payload, size_t size, anx_wire_resume *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    get_bytes(&r, out->session, sizeof(out->session));
    get_bytes(&r, out->client_nonce, sizeof(out->client_nonce));
    get_bytes(&r, out->proof, sizeof(out->proof));
    out->offset = anx_read_u64(&r);
    return finish_get(&r, 0, "RESUME", err);
}

size_t
anx_wire_put_progress(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_progress *progress)
{
    uint8_t *at = frame + ANX_WIRE_HEAD_SIZE;

    at = put_le(at, progress->phase, 4);
    at = put_le(at, progress->rows_per_second, 4);
    at = put_le(at, progress->done, 8);
    return seal_at(frame, ANX_WIRE_PROGRESS, put_le(at, progress->total, 8));
}

anx_status
anx_wire_get_progress(const uint8_t *payload, size_t size, anx_wire_progress *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    out->phase = anx_read_u32(&r);
    out->rows_per_second = anx_read_u32(&r);
    out->done = anx_read_u64(&r);
    out->total = anx_read_u64(&r);
    if (out->phase < ANX_WIRE_RECEIVING || out->phase > ANX_WIRE_SAVING)
        return anx_fail(err, ANX_E_CORRUPT, "frame PROGRESS has the unknown phase %u", out->phase);
    return finish_get(&r, 0, "PROGRESS", err);
}

size_t
anx_wire_put_index(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_index *index)
{
    uint8_t *at = frame + ANX_WIRE_HEAD_SIZE;

    at = put_le(at, index->count, 8);
    at = put_le(at, index->size, 8);
    at = put_le(at, index->format, 4);
    return seal_at(frame, ANX_WIRE_INDEX, put_le(at, 0, 4));
}

anx_status
anx_wire_get_index(const uint8_t *payload, size_t size, anx_wire_index *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);
    uint32_t zero;

    out->count = anx_read_u64(&r);
    out->size = anx_read_u64(&r);
    out->format = anx_read_u32(&r);
    zero = anx_read_u32(&r);
    if (out->size < 1 || out->size > ANX_WIRE_INDEX_SIZE_MAX)
        return anx_fail(err, ANX_E_LIMIT, "frame INDEX announces %llu bytes, allowed are 1 to %llu",
                        (unsigned long long) out->size, (unsigned long long) ANX_WIRE_INDEX_SIZE_MAX);
    return finish_get(&r, zero, "INDEX", err);
}

size_t
anx_wire_put_data(uint8_t *frame, uint64_t offset, size_t n)
{
    ANX_ASSERT(n >= 1 && n <= ANX_WIRE_DATA_MAX);
    put_le(frame + ANX_WIRE_HEAD_SIZE, offset, 8);
    return anx_wire_seal(frame, ANX_WIRE_DATA, ANX_WIRE_DATA_HEAD + n);
}

anx_status
anx_wire_get_data(const uint8_t *payload, size_t size, anx_wire_data *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    out->offset = anx_read_u64(&r);
    out->n = r.size - r.at;
    out->bytes = anx_read_view(&r, out->n);
    if (r.failed || !out->n)
        return anx_fail(err, ANX_E_CORRUPT, "frame DATA has no data");
    return ANX_OK;
}

size_t
anx_wire_put_done(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_done *done)
{
    uint8_t *at = put_le(frame + ANX_WIRE_HEAD_SIZE, done->size, 8);

    return seal_at(frame, ANX_WIRE_DONE, put_bytes(at, done->sum, sizeof(done->sum)));
}

anx_status
anx_wire_get_done(const uint8_t *payload, size_t size, anx_wire_done *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);

    out->size = anx_read_u64(&r);
    get_bytes(&r, out->sum, sizeof(out->sum));
    return finish_get(&r, 0, "DONE", err);
}

size_t
anx_wire_put_error(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_error *error)
{
    uint8_t *at = frame + ANX_WIRE_HEAD_SIZE;
    size_t n_message = strnlen(error->message, sizeof(error->message) - 1);
    size_t n_hint = strnlen(error->hint, sizeof(error->hint) - 1);

    at = put_le(at, (uint64_t) error->status, 4);
    at = put_le(at, n_message, 2);
    at = put_le(at, n_hint, 2);
    at = put_bytes(at, error->message, n_message);
    return seal_at(frame, ANX_WIRE_ERROR, put_bytes(at, error->hint, n_hint));
}

/* A number from the wire; nobody fails with "ok". */
static anx_status
known_status(uint32_t value)
{
    switch (value) {
#define ROW(constant, number, text, sqlstate, http, rpc, retryable) \
    case number:                                                    \
        return (constant) == ANX_OK ? ANX_E_INTERNAL : (constant);
#include "annex/status.def"
#undef ROW
    default:
        return ANX_E_INTERNAL;
    }
}

anx_status
anx_wire_get_error(const uint8_t *payload, size_t size, anx_error *out, anx_error *err)
{
    anx_reader r = anx_reader_init(payload, size);
    size_t n_message;
    size_t n_hint;
    const uint8_t *message;
    const uint8_t *hint;

    memset(out, 0, sizeof(*out));
    out->status = known_status(anx_read_u32(&r));
    n_message = anx_read_u16(&r);
    n_hint = anx_read_u16(&r);
    message = anx_read_view(&r, n_message);
    hint = anx_read_view(&r, n_hint);
    if (message && hint) {
        anx_wire_text(out->message, sizeof(out->message), message, n_message);
        anx_wire_text(out->hint, sizeof(out->hint), hint, n_hint);
    }
    return finish_get(&r, 0, "ERROR", err);
}
