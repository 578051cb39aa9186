/* The two protocols' frames: golden bytes both ways, every limit, every truncation, every flipped byte, and
 * the table of what may follow what.
 *
 * The golden bytes of version 2 were made by a program of its own (struct and binascii of Python, the xxhash
 * package), not by the code under test; those of version 1 are the protocol's published examples. */
#include "test_wire_hex.h"

#include <stdio.h>

#include "base/bytes.h"
#include "base/error.h"
#include "base/rng.h"
#include "indexing/wire.h"

struct golden {
    const char *name;
    unsigned type;
    const char *hex;
};

static const struct golden goldens[] = {
    { "WELCOME", ANX_WIRE_WELCOME,
      "7b00000010005d8b0200000003000000d00700003c00000040420f00000000002c010000"
      "00000000000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"
      "404142434445464748494a4b4c4d4e4f808182838485868788898a8b8c8d8e8f90919293"
      "9495969798999a9b9c9d9e9f616e6e657820302e312e30963305ed" },
    { "AUTH", ANX_WIRE_AUTH,
      "4000000001003157101112131415161718191a1b1c1d1e1f202122232425262728292a2b"
      "2c2d2e2f606162636465666768696a6b6c6d6e6f707172737475767778797a7b7c7d7e7f"
      "ccc51375" },
    { "ACCEPT", ANX_WIRE_ACCEPT,
      "2000000011005a0ba0a1a2a3a4a5a6a7a8a9aaabacadaeafb0b1b2b3b4b5b6b7b8b9babb"
      "bcbdbebf3008f859" },
    { "BEGIN", ANX_WIRE_BEGIN,
      "4200000002002289010000000400000001000000030000000c0000004000000028000000"
      "03000000030000000000000001000000780000000000000000000000646f63735f765f69"
      "647862c2aa93" },
    { "QUEUED", ANX_WIRE_QUEUED,
      "080000001200436602000000050000007bd8778f" },
    { "READY", ANX_WIRE_READY,
      "08000000130072557800000000000000ecbb32ff" },
    { "ROWS", ANX_WIRE_ROWS,
      "300000000300cf7402000000000000000000000001000000000000000200000000000000"
      "0000000000000000000000000000803f0000000006084a5b" },
    { "END", ANX_WIRE_END,
      "08000000040096cf020000000000000089c086b0" },
    { "CANCEL", ANX_WIRE_CANCEL,
      "000000000500e5f10a880b17" },
    { "RECEIVED", ANX_WIRE_RECEIVED,
      "000000000800b987e301bbd1" },
    { "PING", ANX_WIRE_PING,
      "080000000600f4a90807060504030201e94c8dde" },
    { "PONG", ANX_WIRE_PONG,
      "080000001500d4ff08070605040302019a2bbbbd" },
    { "RESUME", ANX_WIRE_RESUME,
      "58000000070051ea404142434445464748494a4b4c4d4e4f101112131415161718191a1b"
      "1c1d1e1f202122232425262728292a2b2c2d2e2f606162636465666768696a6b6c6d6e6f"
      "707172737475767778797a7b7c7d7e7f000004000000000074994f7c" },
    { "PROGRESS", ANX_WIRE_PROGRESS,
      "18000000140061d60200000028a0000040e2010000000000e0930400000000009f9e1937" },
    { "INDEX", ANX_WIRE_INDEX,
      "18000000160003b0030000000000000086020000000000000300000000000000ea6b27c8" },
    { "DATA", ANX_WIRE_DATA,
      "0f0000001700f751800200000000000075736561726368385141ee" },
    { "DONE", ANX_WIRE_DONE,
      "1800000018000c930700000000000000356d68c5faa47e783962a2e50fab28f4b650d435" },
    { "ERROR", ANX_WIRE_ERROR,
      "43000000200006acc90000002900120074686520696e646578206e656564732035204769"
      "422c20746865206c696d69742069732034204769427261697365202d2d6d61782d6d656d"
      "6f727903d5255b" },
};

static const char upgrade_hex[] = "37333332020000000000000031f21f86";

static const struct golden *
golden_of(unsigned type)
{
    for (size_t i = 0; i < ANX_COUNT_OF(goldens); i++)
        if (goldens[i].type == type)
            return &goldens[i];
    fail_msg("no golden frame of type %u", type);
    return NULL;
}

static void
sequence(uint8_t *out, unsigned first, size_t n)
{
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t) (first + i);
}

/* ---- version 2: what the goldens say ---- */

static anx_wire_welcome
the_welcome(void)
{
    anx_wire_welcome w = { .version = 2,
                           .needs_auth = true,
                           .has_binding = true,
                           .dim_max = 2000,
                           .idle_timeout_s = 60,
                           .resume_timeout_s = 300,
                           .rows_max = 1000000,
                           .server = "annex 0.1.0" };

    sequence(w.nonce, 0, sizeof(w.nonce));
    sequence(w.session, 0x40, sizeof(w.session));
    sequence(w.resume_key, 0x80, sizeof(w.resume_key));
    return w;
}

static anx_wire_job
the_job(void)
{
    return (anx_wire_job) { .version = 2,
                            .metric = ANX_WIRE_COSINE,
                            .scalar = ANX_WIRE_I8,
                            .element = ANX_WIRE_F32,
                            .dim = 3,
                            .m = 12,
                            .ef_construction = 64,
                            .ef = 40,
                            .estimated_rows = 3,
                            .format = ANX_WIRE_FILE_LANTERN,
                            .is_plain = true,
                            .idle_timeout_s = 120,
                            .name = "docs_v_idx" };
}

static size_t
put_rows_example(uint8_t *frame)
{
    static const float vectors[6] = { 0, 0, 0, 0, 1, 0 };

    anx_store_le(frame + anx_wire_labels_at(), 0x100000000u, 8);
    anx_store_le(frame + anx_wire_labels_at() + 8, 0x200000000u, 8);
    memcpy(frame + anx_wire_vectors_at(2), vectors, sizeof(vectors));
    return anx_wire_put_rows(frame, 2, 12);
}

/* Every frame of the table, as the encoders make it. */
static size_t
encode(unsigned type, uint8_t *frame)
{
    anx_wire_welcome welcome = the_welcome();
    anx_wire_job job = the_job();
    anx_wire_auth auth;
    anx_wire_resume resume = { .offset = 262144 };
    anx_wire_done done = { .size = 7 };
    anx_wire_sum *sum;
    anx_error error = { .status = ANX_E_LIMIT };
    uint8_t proof[ANX_WIRE_PROOF_SIZE];

    sequence(auth.client_nonce, 0x10, sizeof(auth.client_nonce));
    sequence(auth.proof, 0x60, sizeof(auth.proof));
    sequence(resume.session, 0x40, sizeof(resume.session));
    sequence(resume.client_nonce, 0x10, sizeof(resume.client_nonce));
    sequence(resume.proof, 0x60, sizeof(resume.proof));
    sequence(proof, 0xa0, sizeof(proof));
    snprintf(error.message, sizeof(error.message), "the index needs 5 GiB, the limit is 4 GiB");
    snprintf(error.hint, sizeof(error.hint), "raise --max-memory");
    switch (type) {
    case ANX_WIRE_WELCOME:
        return anx_wire_put_welcome(frame, &welcome);
    case ANX_WIRE_AUTH:
        return anx_wire_put_auth(frame, &auth);
    case ANX_WIRE_ACCEPT:
        return anx_wire_put_accept(frame, proof);
    case ANX_WIRE_BEGIN:
        return anx_wire_put_begin(frame, &job);
    case ANX_WIRE_QUEUED:
        return anx_wire_put_queued(frame, &(anx_wire_queued) { 2, 5 });
    case ANX_WIRE_READY:
        return anx_wire_put_ready(frame, 120);
    case ANX_WIRE_ROWS:
        return put_rows_example(frame);
    case ANX_WIRE_END:
        return anx_wire_put_end(frame, 2);
    case ANX_WIRE_CANCEL:
        return anx_wire_put_cancel(frame);
    case ANX_WIRE_RECEIVED:
        return anx_wire_put_received(frame);
    case ANX_WIRE_PING:
        return anx_wire_put_ping(frame, 0x0102030405060708u);
    case ANX_WIRE_PONG:
        return anx_wire_put_pong(frame, 0x0102030405060708u);
    case ANX_WIRE_RESUME:
        return anx_wire_put_resume(frame, &resume);
    case ANX_WIRE_PROGRESS:
        return anx_wire_put_progress(frame, &(anx_wire_progress){ ANX_WIRE_BUILDING, 41000, 123456, 300000 });
    case ANX_WIRE_INDEX:
        return anx_wire_put_index(frame, &(anx_wire_index) { 3, 646, ANX_WIRE_FILE_LANTERN });
    case ANX_WIRE_DATA:
        memcpy(frame + anx_wire_data_at(), "usearch", 7);
        return anx_wire_put_data(frame, 640, 7);
    case ANX_WIRE_DONE:
        sum = anx_wire_sum_create(NULL);
        assert_non_null(sum);
        anx_wire_sum_update(sum, "usea", 4);
        anx_wire_sum_update(sum, "rch", 3);
        anx_wire_sum_digest(sum, done.sum);
        anx_wire_sum_destroy(sum);
        return anx_wire_put_done(frame, &done);
    case ANX_WIRE_ERROR:
        return anx_wire_put_error(frame, &error);
    default:
        fail_msg("no example of frame type %u", type);
        return 0;
    }
}

/* Decodes a payload by its type; the values are thrown away. */
static anx_status
decode(unsigned type, const uint8_t *payload, size_t size, anx_error *err)
{
    union {
        anx_wire_welcome welcome;
        anx_wire_auth auth;
        anx_wire_job job;
        anx_wire_queued queued;
        anx_wire_rows rows;
        anx_wire_resume resume;
        anx_wire_progress progress;
        anx_wire_index index;
        anx_wire_data data;
        anx_wire_done done;
        anx_error error;
        uint8_t proof[ANX_WIRE_PROOF_SIZE];
        uint64_t value;
        uint32_t seconds;
    } out;

    switch (type) {
    case ANX_WIRE_WELCOME:
        return anx_wire_get_welcome(payload, size, &out.welcome, err);
    case ANX_WIRE_AUTH:
        return anx_wire_get_auth(payload, size, &out.auth, err);
    case ANX_WIRE_ACCEPT:
        return anx_wire_get_accept(payload, size, out.proof, err);
    case ANX_WIRE_BEGIN:
        return anx_wire_get_begin(payload, size, &out.job, err);
    case ANX_WIRE_QUEUED:
        return anx_wire_get_queued(payload, size, &out.queued, err);
    case ANX_WIRE_READY:
        return anx_wire_get_ready(payload, size, &out.seconds, err);
    case ANX_WIRE_ROWS:
        return anx_wire_get_rows(payload, size, 12, &out.rows, err);
    case ANX_WIRE_END:
        return anx_wire_get_end(payload, size, &out.value, err);
    case ANX_WIRE_PING:
    case ANX_WIRE_PONG:
        return anx_wire_get_ping(payload, size, &out.value, err);
    case ANX_WIRE_RESUME:
        return anx_wire_get_resume(payload, size, &out.resume, err);
    case ANX_WIRE_PROGRESS:
        return anx_wire_get_progress(payload, size, &out.progress, err);
    case ANX_WIRE_INDEX:
        return anx_wire_get_index(payload, size, &out.index, err);
    case ANX_WIRE_DATA:
        return anx_wire_get_data(payload, size, &out.data, err);
    case ANX_WIRE_DONE:
        return anx_wire_get_done(payload, size, &out.done, err);
    case ANX_WIRE_ERROR:
        return anx_wire_get_error(payload, size, &out.error, err);
    default:
        fail_msg("no decoder for frame type %u", type);
        return ANX_E_INTERNAL;
    }
}

static void
every_frame_has_its_golden_bytes(void **state)
{
    static const unsigned types[] = {
#define FRAME(name, value, sender, min_size, max_size, states, next) value,
#include "indexing/frames.def"
#undef FRAME
    };
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint8_t upgrade[ANX_WIRE_UPGRADE_SIZE];

    (void) state;
    assert_int_equal(ANX_COUNT_OF(types), ANX_COUNT_OF(goldens));
    for (size_t i = 0; i < ANX_COUNT_OF(types); i++) {
        const struct golden *golden = golden_of(types[i]);
        size_t n;

        memset(frame, 0xee, sizeof(frame));
        n = encode(types[i], frame);
        assert_bytes(golden->name, frame, n, golden->hex);
        assert_string_equal(anx_wire_type_name(types[i]), golden->name);
    }
    anx_wire_upgrade_encode(upgrade);
    assert_bytes("UPGRADE", upgrade, sizeof(upgrade), upgrade_hex);
    assert_string_equal(anx_wire_type_name(99), "unknown frame");
}

static size_t
golden_payload(unsigned type, uint8_t *frame)
{
    from_hex(golden_of(type)->hex, frame);
    return (size_t) anx_load_le(frame, 4);
}

static void
golden_bytes_mean_what_was_meant(void **state)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    const uint8_t *payload = frame + ANX_WIRE_HEAD_SIZE;
    anx_wire_welcome want_welcome = the_welcome();
    anx_wire_job want_job = the_job();
    anx_wire_welcome welcome;
    anx_wire_job job;
    anx_wire_resume resume;
    anx_wire_progress progress;
    anx_wire_index index;
    anx_wire_queued queued;
    anx_wire_done done;
    anx_error error;
    uint64_t value;
    uint32_t number;
    size_t n;

    (void) state;
    n = golden_payload(ANX_WIRE_WELCOME, frame);
    assert_int_equal(anx_wire_get_welcome(payload, n, &welcome, NULL), ANX_OK);
    assert_memory_equal(welcome.nonce, want_welcome.nonce, sizeof(welcome.nonce));
    assert_memory_equal(welcome.session, want_welcome.session, sizeof(welcome.session));
    assert_memory_equal(welcome.resume_key, want_welcome.resume_key, sizeof(welcome.resume_key));
    assert_string_equal(welcome.server, "annex 0.1.0");
    assert_true(welcome.needs_auth && welcome.has_binding && welcome.version == 2);
    assert_int_equal(welcome.dim_max, 2000);
    assert_int_equal(welcome.idle_timeout_s, 60);
    assert_int_equal(welcome.resume_timeout_s, 300);
    assert_int_equal(welcome.rows_max, 1000000);

    n = golden_payload(ANX_WIRE_BEGIN, frame);
    assert_int_equal(anx_wire_get_begin(payload, n, &job, NULL), ANX_OK);
    assert_true(job.version == 2 && job.metric == want_job.metric && job.scalar == want_job.scalar &&
                job.element == want_job.element && job.dim == want_job.dim && job.m == want_job.m &&
                job.ef_construction == want_job.ef_construction && job.ef == want_job.ef &&
                job.estimated_rows == want_job.estimated_rows && job.format == want_job.format &&
                job.is_plain && !job.is_native && job.idle_timeout_s == want_job.idle_timeout_s &&
                !job.has_pq);
    assert_string_equal(job.name, want_job.name);

    n = golden_payload(ANX_WIRE_QUEUED, frame);
    assert_int_equal(anx_wire_get_queued(payload, n, &queued, NULL), ANX_OK);
    assert_true(queued.position == 2 && queued.n_waiting == 5);
    n = golden_payload(ANX_WIRE_READY, frame);
    assert_int_equal(anx_wire_get_ready(payload, n, &number, NULL), ANX_OK);
    assert_int_equal(number, 120);
    n = golden_payload(ANX_WIRE_END, frame);
    assert_int_equal(anx_wire_get_end(payload, n, &value, NULL), ANX_OK);
    assert_int_equal(value, 2);
    n = golden_payload(ANX_WIRE_PING, frame);
    assert_int_equal(anx_wire_get_ping(payload, n, &value, NULL), ANX_OK);
    assert_true(value == 0x0102030405060708u);
    n = golden_payload(ANX_WIRE_RESUME, frame);
    assert_int_equal(anx_wire_get_resume(payload, n, &resume, NULL), ANX_OK);
    assert_true(resume.offset == 262144 && resume.session[15] == 0x4f && resume.client_nonce[0] == 0x10 &&
                resume.proof[31] == 0x7f);
    n = golden_payload(ANX_WIRE_PROGRESS, frame);
    assert_int_equal(anx_wire_get_progress(payload, n, &progress, NULL), ANX_OK);
    assert_true(progress.phase == ANX_WIRE_BUILDING && progress.rows_per_second == 41000 &&
                progress.done == 123456 && progress.total == 300000);
    n = golden_payload(ANX_WIRE_INDEX, frame);
    assert_int_equal(anx_wire_get_index(payload, n, &index, NULL), ANX_OK);
    assert_true(index.count == 3 && index.size == 646 && index.format == ANX_WIRE_FILE_LANTERN);
    n = golden_payload(ANX_WIRE_DONE, frame);
    assert_int_equal(anx_wire_get_done(payload, n, &done, NULL), ANX_OK);
    assert_true(done.size == 7 && done.sum[0] == 0x35 && done.sum[15] == 0xf4);
    n = golden_payload(ANX_WIRE_ERROR, frame);
    assert_int_equal(anx_wire_get_error(payload, n, &error, NULL), ANX_OK);
    assert_int_equal(error.status, ANX_E_LIMIT);
    assert_string_equal(error.message, "the index needs 5 GiB, the limit is 4 GiB");
    assert_string_equal(error.hint, "raise --max-memory");
}

static void
rows_and_data_lie_in_the_payload(void **state)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    const uint8_t *payload = frame + ANX_WIRE_HEAD_SIZE;
    anx_wire_rows rows;
    anx_wire_data data;
    anx_error err;
    size_t n;

    (void) state;
    n = golden_payload(ANX_WIRE_ROWS, frame);
    assert_int_equal(anx_wire_get_rows(payload, n, 12, &rows, NULL), ANX_OK);
    assert_int_equal(rows.n, 2);
    assert_ptr_equal(rows.labels, frame + anx_wire_labels_at());
    assert_ptr_equal(rows.vectors, frame + anx_wire_vectors_at(2));
    assert_true(anx_load_le(rows.labels + 8, 8) == 0x200000000u);
    /* A count that does not go with the length, among them one whose product is the length again. */
    for (size_t size = 1; size < 64; size++)
        if (size != 12)
            assert_int_not_equal(anx_wire_get_rows(payload, n, size, &rows, &err), ANX_OK);
    anx_store_le(frame + ANX_WIRE_HEAD_SIZE, 0, 4);
    assert_int_equal(anx_wire_get_rows(payload, n, 12, &rows, &err), ANX_E_LIMIT);
    anx_store_le(frame + ANX_WIRE_HEAD_SIZE, UINT32_MAX, 4);
    assert_int_equal(anx_wire_get_rows(payload, n, 12, &rows, &err), ANX_E_LIMIT);
    anx_store_le(frame + ANX_WIRE_HEAD_SIZE, 1, 4);
    assert_int_equal(anx_wire_get_rows(payload, n, 12, &rows, &err), ANX_E_CORRUPT);

    n = golden_payload(ANX_WIRE_DATA, frame);
    assert_int_equal(anx_wire_get_data(payload, n, &data, NULL), ANX_OK);
    assert_true(data.n == 7 && data.offset == 640 && data.bytes == frame + anx_wire_data_at());
    assert_int_equal(anx_wire_get_data(payload, 8, &data, NULL), ANX_E_CORRUPT);

    for (size_t size = 1; size <= 4 * (size_t) ANX_DIM_MAX; size = 2 * size + 1) {
        assert_true(anx_wire_rows_max(size) >= 3);
        assert_true(ANX_WIRE_ROWS_HEAD + anx_wire_rows_max(size) * (8 + size) <= ANX_WIRE_PAYLOAD_MAX);
        assert_true(ANX_WIRE_ROWS_HEAD + (anx_wire_rows_max(size) + 1) * (8 + size) > ANX_WIRE_PAYLOAD_MAX);
    }
}

static void
no_other_length_is_taken(void **state)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX + 8];
    anx_error err;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(goldens); i++) {
        unsigned type = goldens[i].type;
        /* The end of WELCOME and BEGIN is a text of any length, that of DATA is data. */
        bool is_open = type == ANX_WIRE_WELCOME || type == ANX_WIRE_BEGIN || type == ANX_WIRE_DATA;
        size_t n = golden_payload(type, frame);

        if (type == ANX_WIRE_CANCEL || type == ANX_WIRE_RECEIVED)
            continue;
        assert_int_equal(decode(type, frame + ANX_WIRE_HEAD_SIZE, n, &err), ANX_OK);
        for (size_t cut = 0; cut < n + 8; cut++) {
            anx_status st = decode(type, frame + ANX_WIRE_HEAD_SIZE, cut, &err);

            if (cut != n && st == ANX_OK && !is_open)
                fail_msg("%s of %zu bytes was taken with %zu", goldens[i].name, n, cut);
        }
    }
    assert_int_equal(decode(ANX_WIRE_WELCOME, frame, 111, &err), ANX_E_VERSION); /* not even the fixed part */
    assert_int_equal(decode(ANX_WIRE_BEGIN, frame, 55, &err), ANX_E_CORRUPT);
}

/* A bit set where README.md says zero. */
static void
reserved_bits_are_refused(void **state)
{
    static const struct {
        unsigned type;
        size_t at;
        uint8_t bits;
    } cases[] = {
        { ANX_WIRE_WELCOME, 4, 4 }, { ANX_WIRE_WELCOME, 7, 0x80 }, { ANX_WIRE_WELCOME, 28, 1 },
        { ANX_WIRE_BEGIN, 40, 4 },  { ANX_WIRE_BEGIN, 43, 0x80 },  { ANX_WIRE_BEGIN, 48, 1 },
        { ANX_WIRE_BEGIN, 55, 1 },  { ANX_WIRE_READY, 4, 1 },      { ANX_WIRE_ROWS, 7, 1 },
        { ANX_WIRE_INDEX, 20, 1 },
    };
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    anx_error err;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        size_t n = golden_payload(cases[i].type, frame);

        frame[ANX_WIRE_HEAD_SIZE + cases[i].at] |= cases[i].bits;
        assert_int_equal(decode(cases[i].type, frame + ANX_WIRE_HEAD_SIZE, n, &err), ANX_E_CORRUPT);
        assert_non_null(strstr(err.message, "reserved"));
    }
}

static void
bad_values_are_refused(void **state)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    uint8_t *payload = frame + ANX_WIRE_HEAD_SIZE;
    anx_error error;
    anx_error err;
    size_t n;

    (void) state;
    n = golden_payload(ANX_WIRE_WELCOME, frame);
    payload[0] = 3;
    assert_int_equal(decode(ANX_WIRE_WELCOME, payload, n, &err), ANX_E_VERSION);
    n = golden_payload(ANX_WIRE_PROGRESS, frame);
    payload[0] = 0;
    assert_int_equal(decode(ANX_WIRE_PROGRESS, payload, n, &err), ANX_E_CORRUPT);
    payload[0] = 4;
    assert_int_equal(decode(ANX_WIRE_PROGRESS, payload, n, &err), ANX_E_CORRUPT);
    n = golden_payload(ANX_WIRE_INDEX, frame);
    anx_store_le(payload + 8, 0, 8);
    assert_int_equal(decode(ANX_WIRE_INDEX, payload, n, &err), ANX_E_LIMIT);
    anx_store_le(payload + 8, ANX_WIRE_INDEX_SIZE_MAX + 1, 8);
    assert_int_equal(decode(ANX_WIRE_INDEX, payload, n, &err), ANX_E_LIMIT);
    anx_store_le(payload + 8, ANX_WIRE_INDEX_SIZE_MAX, 8);
    assert_int_equal(decode(ANX_WIRE_INDEX, payload, n, &err), ANX_OK);
    /* A status nobody knows, and "ok", which is no error. */
    n = golden_payload(ANX_WIRE_ERROR, frame);
    anx_store_le(payload, 12345, 4);
    assert_int_equal(anx_wire_get_error(payload, n, &error, &err), ANX_OK);
    assert_int_equal(error.status, ANX_E_INTERNAL);
    anx_store_le(payload, 0, 4);
    assert_int_equal(anx_wire_get_error(payload, n, &error, &err), ANX_OK);
    assert_int_equal(error.status, ANX_E_INTERNAL);
    /* Lengths inside that do not add up. */
    anx_store_le(payload + 4, 0xffff, 2);
    assert_int_equal(anx_wire_get_error(payload, n, &error, &err), ANX_E_CORRUPT);
}

/* One byte changed anywhere: in the head it is found by the head alone, elsewhere by the tail. */
static void
every_flipped_byte_is_found(void **state)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    anx_wire_head head;
    anx_error err;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(goldens); i++) {
        size_t n = from_hex(goldens[i].hex, frame);

        assert_int_equal(anx_wire_head_decode(frame, &head, &err), ANX_OK);
        assert_int_equal(head.type, goldens[i].type);
        assert_int_equal(ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE, n);
        assert_int_equal(anx_wire_tail_check(frame, head.size, &err), ANX_OK);
        for (size_t at = 0; at < n; at++)
            for (unsigned change = 1; change < 256; change++) {
                anx_status st;

                frame[at] ^= (uint8_t) change;
                st = at < ANX_WIRE_HEAD_SIZE ? anx_wire_head_decode(frame, &head, &err)
                                             : anx_wire_tail_check(frame, n - 12, &err);
                if (st != ANX_E_CHECKSUM)
                    fail_msg("%s: byte %zu changed by %02x gives status %d", goldens[i].name, at, change, st);
                frame[at] ^= (uint8_t) change;
            }
    }
}

static void
upgrade_is_checked(void **state)
{
    uint8_t bytes[ANX_WIRE_UPGRADE_SIZE];
    uint8_t later[ANX_WIRE_UPGRADE_SIZE];
    uint32_t version = 0;
    anx_error err;

    (void) state;
    from_hex(upgrade_hex, bytes);
    assert_int_equal(anx_wire_first_of(bytes), ANX_WIRE_FIRST_UPGRADE);
    assert_int_equal(anx_wire_upgrade_decode(bytes, &version, &err), ANX_OK);
    assert_int_equal(version, 2);
    for (size_t at = 0; at < sizeof(bytes); at++) {
        bytes[at] ^= 0x10;
        assert_int_not_equal(anx_wire_upgrade_decode(bytes, &version, &err), ANX_OK);
        bytes[at] ^= 0x10;
    }
    /* A client of a later version with features we do not know is answered in ours (made as above). */
    from_hex("373333320900000005000000104b3a07", later);
    assert_int_equal(anx_wire_upgrade_decode(later, &version, &err), ANX_OK);
    assert_int_equal(version, 2);
    from_hex("373333320100000000000000eaa3c23a", later);
    assert_int_equal(anx_wire_upgrade_decode(later, &version, &err), ANX_E_VERSION);
}

/* The lengths a head may announce: nothing is allocated or waited for beyond them. */
static void
a_head_announces_only_possible_lengths(void **state)
{
    static const struct {
        unsigned type;
        size_t size;
        anx_status want;
    } cases[] = {
        { ANX_WIRE_CANCEL, 0, ANX_OK },
        { ANX_WIRE_CANCEL, 1, ANX_E_LIMIT },
        { ANX_WIRE_END, 7, ANX_E_LIMIT },
        { ANX_WIRE_END, 9, ANX_E_LIMIT },
        { ANX_WIRE_BEGIN, 55, ANX_E_LIMIT },
        { ANX_WIRE_BEGIN, 256, ANX_OK },
        { ANX_WIRE_BEGIN, 257, ANX_E_LIMIT },
        { ANX_WIRE_ROWS, 16, ANX_E_LIMIT },
        { ANX_WIRE_ROWS, ANX_WIRE_PAYLOAD_MAX, ANX_OK },
        { ANX_WIRE_ROWS, ANX_WIRE_PAYLOAD_MAX + 1, ANX_E_LIMIT },
        { ANX_WIRE_DATA, 8, ANX_E_LIMIT },
        { ANX_WIRE_DATA, 0xffffffffu, ANX_E_LIMIT },
        { ANX_WIRE_ERROR, 1032, ANX_OK },
        { ANX_WIRE_ERROR, 1033, ANX_E_LIMIT },
        { 0, 0, ANX_E_CORRUPT },
        { 9, 8, ANX_E_CORRUPT },
        { 255, 8, ANX_E_CORRUPT },
    };
    static uint8_t frame[ANX_WIRE_FRAME_MAX];
    anx_wire_head head;
    anx_error err;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        /* Sealed with a size that the buffer can hold, then given the head of the size in question. */
        size_t size = cases[i].size <= ANX_WIRE_PAYLOAD_MAX ? cases[i].size : 0;

        anx_wire_seal(frame, (enum anx_wire_type) cases[i].type, size);
        if (size != cases[i].size) {
            uint8_t crc[2] = { 0 };
            bool found = false;

            anx_store_le(frame, cases[i].size, 4);
            for (unsigned try = 0; try < 65536 && !found; try++) {
                anx_store_le(crc, try, 2);
                memcpy(frame + 6, crc, 2);
                found = anx_wire_head_decode(frame, &head, &err) != ANX_E_CHECKSUM;
            }
            assert_true(found);
        }
        assert_int_equal(anx_wire_head_decode(frame, &head, &err), cases[i].want);
    }
    /* Flags nobody knows. */
    anx_wire_put_cancel(frame);
    frame[5] = 1;
    for (unsigned try = 0; try < 65536 && anx_wire_head_decode(frame, &head, &err) == ANX_E_CHECKSUM; try++)
        anx_store_le(frame + 6, try, 2);
    assert_int_equal(anx_wire_head_decode(frame, &head, &err), ANX_E_CORRUPT);
    assert_non_null(strstr(err.message, "flags"));
}

/* ---- version 2: what may follow what ---- */

static const struct {
    const char *frame;
    unsigned type, sender;
    const char *states; /* one letter each: Welcome auth(U) Verdict Open Queue Rows Build resumE Data over(X)
                           reCeipt */
} allowed[] = {
    { "AUTH", ANX_WIRE_AUTH, ANX_WIRE_CLIENT, "U" },
    { "BEGIN", ANX_WIRE_BEGIN, ANX_WIRE_CLIENT, "O" },
    { "ROWS", ANX_WIRE_ROWS, ANX_WIRE_CLIENT, "R" },
    { "END", ANX_WIRE_END, ANX_WIRE_CLIENT, "R" },
    { "CANCEL", ANX_WIRE_CANCEL, ANX_WIRE_CLIENT, "UVOQRBEDC" },
    { "PING", ANX_WIRE_PING, ANX_WIRE_CLIENT, "UVOQRBEDC" },
    { "RESUME", ANX_WIRE_RESUME, ANX_WIRE_CLIENT, "O" },
    { "RECEIVED", ANX_WIRE_RECEIVED, ANX_WIRE_CLIENT, "C" },
    { "ERROR", ANX_WIRE_ERROR, ANX_WIRE_CLIENT, "WUVOQRBEDC" },
    { "WELCOME", ANX_WIRE_WELCOME, ANX_WIRE_SERVER, "W" },
    { "ACCEPT", ANX_WIRE_ACCEPT, ANX_WIRE_SERVER, "V" },
    { "QUEUED", ANX_WIRE_QUEUED, ANX_WIRE_SERVER, "Q" },
    { "READY", ANX_WIRE_READY, ANX_WIRE_SERVER, "Q" },
    { "PROGRESS", ANX_WIRE_PROGRESS, ANX_WIRE_SERVER, "RBE" },
    { "PONG", ANX_WIRE_PONG, ANX_WIRE_SERVER, "UVOQRBEDC" },
    { "INDEX", ANX_WIRE_INDEX, ANX_WIRE_SERVER, "BE" },
    { "DATA", ANX_WIRE_DATA, ANX_WIRE_SERVER, "D" },
    { "DONE", ANX_WIRE_DONE, ANX_WIRE_SERVER, "D" },
    { "ERROR", ANX_WIRE_ERROR, ANX_WIRE_SERVER, "WUVOQRBEDC" },
};
static const char state_letters[] = "WUVOQRBEDXC";

static bool
is_allowed(unsigned type, unsigned sender, char letter)
{
    for (size_t i = 0; i < ANX_COUNT_OF(allowed); i++)
        if (allowed[i].type == type && allowed[i].sender == sender)
            return strchr(allowed[i].states, letter) != NULL;
    return false;
}

static void
wrong_order_is_an_error_in_every_state(void **state)
{
    anx_error err;

    (void) state;
    for (size_t s = 0; s + 1 < sizeof(state_letters); s++)
        for (unsigned type = 0; type < 256; type++)
            for (unsigned sender = ANX_WIRE_CLIENT; sender <= ANX_WIRE_SERVER; sender++) {
                anx_wire_state before = (anx_wire_state) (1u << s);
                anx_wire_state after = before;
                anx_status st = anx_wire_step(&after, (anx_wire_side) sender, type, &err);
                anx_status want = is_allowed(type, sender, state_letters[s]) ? ANX_OK : ANX_E_STATE;

                if (st != want)
                    fail_msg("state %c, sender %u, %s: status %d", state_letters[s], sender,
                             anx_wire_type_name(type), st);
                if (st != ANX_OK)
                    assert_int_equal(after, before);
            }
}

static void
a_conversation_passes_the_table(void **state)
{
    static const struct {
        unsigned sender, type;
        anx_wire_state after;
    } steps[] = {
        { ANX_WIRE_SERVER, ANX_WIRE_WELCOME, ANX_WIRE_AT_OPEN },
        { ANX_WIRE_CLIENT, ANX_WIRE_BEGIN, ANX_WIRE_AT_QUEUE },
        { ANX_WIRE_SERVER, ANX_WIRE_QUEUED, ANX_WIRE_AT_QUEUE },
        { ANX_WIRE_SERVER, ANX_WIRE_READY, ANX_WIRE_AT_ROWS },
        { ANX_WIRE_CLIENT, ANX_WIRE_ROWS, ANX_WIRE_AT_ROWS },
        { ANX_WIRE_SERVER, ANX_WIRE_PROGRESS, ANX_WIRE_AT_ROWS },
        { ANX_WIRE_CLIENT, ANX_WIRE_PING, ANX_WIRE_AT_ROWS },
        { ANX_WIRE_SERVER, ANX_WIRE_PONG, ANX_WIRE_AT_ROWS },
        { ANX_WIRE_CLIENT, ANX_WIRE_END, ANX_WIRE_AT_BUILD },
        { ANX_WIRE_SERVER, ANX_WIRE_PROGRESS, ANX_WIRE_AT_BUILD },
        { ANX_WIRE_SERVER, ANX_WIRE_INDEX, ANX_WIRE_AT_DATA },
        { ANX_WIRE_SERVER, ANX_WIRE_DATA, ANX_WIRE_AT_DATA },
        { ANX_WIRE_SERVER, ANX_WIRE_DONE, ANX_WIRE_AT_RECEIPT },
        { ANX_WIRE_CLIENT, ANX_WIRE_RECEIVED, ANX_WIRE_AT_OVER },
    };
    anx_wire_state at = ANX_WIRE_AT_WELCOME;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(steps); i++) {
        assert_int_equal(anx_wire_step(&at, (anx_wire_side) steps[i].sender, steps[i].type, NULL), ANX_OK);
        assert_int_equal(at, steps[i].after);
    }
    at = ANX_WIRE_AT_AUTH;
    assert_int_equal(anx_wire_step(&at, ANX_WIRE_CLIENT, ANX_WIRE_AUTH, NULL), ANX_OK);
    assert_int_equal(at, ANX_WIRE_AT_VERDICT);
    assert_int_equal(anx_wire_step(&at, ANX_WIRE_SERVER, ANX_WIRE_ACCEPT, NULL), ANX_OK);
    assert_int_equal(at, ANX_WIRE_AT_OPEN);
    assert_int_equal(anx_wire_step(&at, ANX_WIRE_CLIENT, ANX_WIRE_RESUME, NULL), ANX_OK);
    assert_int_equal(at, ANX_WIRE_AT_RESUME);
    assert_int_equal(anx_wire_step(&at, ANX_WIRE_SERVER, ANX_WIRE_INDEX, NULL), ANX_OK);
    assert_int_equal(at, ANX_WIRE_AT_DATA);
    assert_int_equal(anx_wire_step(&at, ANX_WIRE_CLIENT, ANX_WIRE_CANCEL, NULL), ANX_OK);
    assert_int_equal(at, ANX_WIRE_AT_OVER);
}

/* ---- secrets and text ---- */

static anx_wire_claim
the_claim(void)
{
    anx_wire_claim claim = { .secret = "correct horse battery staple", .secret_size = 28, .offset = 77 };

    sequence(claim.server_nonce, 0, sizeof(claim.server_nonce));
    sequence(claim.client_nonce, 0x20, sizeof(claim.client_nonce));
    sequence(claim.session, 0x40, sizeof(claim.session));
    sequence(claim.binding, 0x60, sizeof(claim.binding));
    return claim;
}

static void
proofs_are_golden_and_depend_on_everything(void **state)
{
    static const struct {
        anx_wire_role role;
        const char *hex;
    } cases[] = {
        { ANX_WIRE_PROVE_CLIENT, "ad4dbde75dafa76d3525f86e3ecdaa34b4cb5a3a27e1ce2c29467e15e4c46cbc" },
        { ANX_WIRE_PROVE_SERVER, "3fe3e705b37f71fabdfb880c26152af912d79ed468b3e89894c370aaed29bf99" },
        { ANX_WIRE_PROVE_RESUME, "f8c7ef2f2928fee069ec51a7f21ca26f27ee394be6bbab481ca9622916feafe1" },
    };
    anx_wire_claim claim = the_claim();
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
    uint8_t other[ANX_WIRE_PROOF_SIZE];
    uint8_t *fields[] = { claim.server_nonce, claim.client_nonce, claim.session, claim.binding,
                          (uint8_t *) &claim.offset };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        assert_int_equal(anx_wire_prove(cases[i].role, &claim, proof, NULL), ANX_OK);
        assert_bytes("proof", proof, sizeof(proof), cases[i].hex);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(fields); i++) {
        fields[i][0] ^= 1;
        assert_int_equal(anx_wire_prove(ANX_WIRE_PROVE_RESUME, &claim, other, NULL), ANX_OK);
        assert_false(anx_wire_equal(proof, other, sizeof(proof)));
        fields[i][0] ^= 1;
    }
    claim.secret_size--;
    assert_int_equal(anx_wire_prove(ANX_WIRE_PROVE_RESUME, &claim, other, NULL), ANX_OK);
    assert_false(anx_wire_equal(proof, other, sizeof(proof)));
    claim.secret_size = ANX_WIRE_TOKEN_MAX + 1;
    assert_int_equal(anx_wire_prove(ANX_WIRE_PROVE_RESUME, &claim, other, NULL), ANX_E_INTERNAL);
    assert_true(anx_wire_equal(proof, proof, sizeof(proof)));
    assert_int_equal(anx_wire_random(proof, sizeof(proof), NULL), ANX_OK);
    assert_int_equal(anx_wire_random(other, sizeof(other), NULL), ANX_OK);
    assert_false(anx_wire_equal(proof, other, sizeof(proof)));
    anx_wire_forget(proof, sizeof(proof));
    for (size_t i = 0; i < sizeof(proof); i++)
        assert_int_equal(proof[i], 0);
}

static void
text_of_a_peer_is_tamed(void **state)
{
    static const struct {
        const char *in;
        size_t n, room;
        const char *out;
    } cases[] = {
        { "plain", 5, 32, "plain" },
        { "two\nlines\tand\x1b[31m red", 22, 32, "two lines and [31m red" },
        { "cut\0here", 8, 32, "cut" },
        { "caf\xc3\xa9", 5, 32, "caf\xc3\xa9" },
        { "caf\xc3\xa9", 5, 5, "caf" },           /* no half character */
        { "bad \xff\xc3 end", 10, 32, "bad ?? end" },
        { "\xc0\xaf", 2, 32, "??" },                /* longer than needed */
        { "\xed\xa0\x80", 3, 32, "???" },           /* a surrogate */
        { "\xf4\x90\x80\x80", 4, 32, "????" },      /* beyond the last character */
        { "\xc2\x9b" "31m", 5, 32, " 31m" },        /* a control character of two bytes */
        { "\xe2\x82", 2, 32, "??" },                /* cut short */
        { "\xf0\x9f\x98\x80", 4, 32, "\xf0\x9f\x98\x80" },
        { "abc", 3, 1, "" },
    };
    char out[33];

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        memset(out, 'x', sizeof(out));
        anx_wire_text(out, cases[i].room, cases[i].in, cases[i].n);
        assert_string_equal(out, cases[i].out);
        assert_int_equal(out[32], 'x');
    }
}

/* A job's name and a server's text come from a peer, too. */
static void
names_in_frames_are_tamed(void **state)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    anx_wire_job job = the_job();
    anx_wire_job got;
    size_t n;

    (void) state;
    memset(job.name, 'n', sizeof(job.name)); /* without an end */
    n = anx_wire_put_begin(frame, &job);
    assert_int_equal(n, 12 + 256);
    assert_int_equal(anx_wire_get_begin(frame + ANX_WIRE_HEAD_SIZE, 256, &got, NULL), ANX_OK);
    assert_int_equal(strlen(got.name), ANX_WIRE_NAME_MAX);
    snprintf(job.name, sizeof(job.name), "a\nevent=forged");
    n = anx_wire_put_begin(frame, &job);
    assert_int_equal(anx_wire_get_begin(frame + ANX_WIRE_HEAD_SIZE, n - 12, &got, NULL), ANX_OK);
    assert_string_equal(got.name, "a event=forged");
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_frame_has_its_golden_bytes),
        cmocka_unit_test(golden_bytes_mean_what_was_meant),
        cmocka_unit_test(rows_and_data_lie_in_the_payload),
        cmocka_unit_test(no_other_length_is_taken),
        cmocka_unit_test(reserved_bits_are_refused),
        cmocka_unit_test(bad_values_are_refused),
        cmocka_unit_test(every_flipped_byte_is_found),
        cmocka_unit_test(upgrade_is_checked),
        cmocka_unit_test(a_head_announces_only_possible_lengths),
        cmocka_unit_test(wrong_order_is_an_error_in_every_state),
        cmocka_unit_test(a_conversation_passes_the_table),
        cmocka_unit_test(proofs_are_golden_and_depend_on_everything),
        cmocka_unit_test(text_of_a_peer_is_tamed),
        cmocka_unit_test(names_in_frames_are_tamed),
    };

    return cmocka_run_group_tests_name("wire", tests, NULL, NULL);
}
