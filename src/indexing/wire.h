/* The two protocols of external indexing as pure functions over bytes: no input, no output, no state but what
 * is passed in. README.md has the layouts byte by byte, and what may follow what.
 *
 * Version 1 is that of the original Lantern programs: fixed frames told apart by position and by a magic
 * word. Version 2 is entered from within version 1 (the client answers the server's hello with UPGRADE) and
 * consists of checked frames: head (8 bytes), payload, tail (4 bytes).
 *
 *     reading, version 2                              writing, version 2
 *     read 8 bytes   anx_wire_head_decode             n = anx_wire_put_progress(frame, &progress)
 *     read payload and tail   anx_wire_tail_check     anx_stream_write(stream, frame, n)
 *     anx_wire_step   is it allowed now?
 *     anx_wire_get_progress(payload, size, &out)      rows and data: payload made in place, anx_wire_seal
 *
 * What comes in is input: every decoder checks every field against its limit before anything is sized by it,
 * and leaves text without control characters and as valid UTF-8. Errors of decoders: ANX_E_CORRUPT (bytes
 * that no peer of this protocol sends), ANX_E_CHECKSUM, ANX_E_LIMIT, ANX_E_VERSION, ANX_E_UNSUPPORTED,
 * ANX_E_INVALID; on failure the output is unspecified.
 *
 * Integers are little-endian. Vectors travel as the bytes of a little-endian machine, floats as IEEE 754.
 * Threads: any. */
#ifndef ANX_INDEXING_WIRE_H
#define ANX_INDEXING_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/index.h"
#include "annex/index_file.h"
#include "annex/status.h"

/* ------------------------------------------------------------------------------------- the job, both
 * versions
 */

/* Numbers on the wire; those of the original (the gaps are metrics and kinds that are refused). */
enum { ANX_WIRE_COSINE = 1, ANX_WIRE_IP = 2, ANX_WIRE_L2SQ = 3, ANX_WIRE_HAMMING = 8 };
enum { ANX_WIRE_F32 = 1, ANX_WIRE_F64 = 2, ANX_WIRE_F16 = 3, ANX_WIRE_I8 = 4, ANX_WIRE_B1 = 5 };
enum {
    ANX_WIRE_FILE_ANNEX = 1,
    ANX_WIRE_FILE_USEARCH = 2,
    ANX_WIRE_FILE_LANTERN = 3,
    ANX_WIRE_FILE_GRAPH = 4 /* version 2; labels are places in a table, as in version 1 */
};
/* False: no such metric, scalar or format here; *out unchanged. */
bool anx_wire_metric(uint32_t wire, anx_metric *out);
bool anx_wire_scalar(uint32_t wire, anx_scalar *out);
bool anx_wire_format(uint32_t wire, anx_file_format *out);
uint32_t anx_wire_of_metric(anx_metric metric);
uint32_t anx_wire_of_scalar(anx_scalar scalar); /* 0: U8 does not travel */
uint32_t anx_wire_of_format(anx_file_format format);

#define ANX_WIRE_NAME_MAX 200 /* bytes of a job's name */

/* What a client asks for: INIT of version 1, BEGIN of version 2. */
typedef struct anx_wire_job {
    unsigned version;         /* 1 or 2: which limits hold */
    uint32_t metric;          /* ANX_WIRE_COSINE... */
    uint32_t scalar;          /* kind the index stores, ANX_WIRE_F32... (version 1: 0 is made F32) */
    uint32_t element;         /* kind of the rows on the wire: F32 or B1; version 2 also the stored kind */
    uint32_t element_bits;    /* version 1: as sent; 32 or 1 */
    uint32_t dim;             /* components; bits for B1 elements */
    uint32_t m;               /* version 2: 0 is the default, also in the next two */
    uint32_t ef_construction;
    uint32_t ef;
    bool has_pq;              /* version 1 only, with the next two */
    uint32_t n_centroids;
    uint32_t n_subq;
    uint64_t estimated_rows;  /* a hint that never sizes an allocation by itself; 0: unknown */
    uint32_t format;          /* version 1: ANX_WIRE_FILE_LANTERN */
    bool is_plain;            /* as in anx_save_params; version 1: true */
    bool is_native;
    uint32_t idle_timeout_s;  /* version 2: how long the client may have to be silent between rows (a table
                                 scan that finds little); 0: the server's default. The server answers in READY
                                 with what it grants. */
    char name[ANX_WIRE_NAME_MAX + 1]; /* version 2: for the server's log, e.g. the index's name; "" */
} anx_wire_job;

/* Bytes of one vector on the wire. 0 when element or dim is not valid. */
size_t anx_wire_vector_size(const anx_wire_job *job);

#define ANX_WIRE_V1_DIM_MAX 2000
#define ANX_WIRE_V1_BITS_MAX 64000
#define ANX_WIRE_V1_EF_MAX 400
#define ANX_WIRE_EF_MAX 65536
/* Everything that the fields alone can tell: metric and kinds that go together, ranges of the version. The
 * texts for a bad metric or kind are the original's ("Invalid metric 9"). Product quantization and f64 are
 * ANX_E_UNSUPPORTED, also a dimension of bits that is not a multiple of 8 (original clients misread such
 * files). A server's own limits come on top. */
ANX_NODISCARD anx_status anx_wire_job_check(const anx_wire_job *job, anx_error *err);

/* ------------------------------------------------------------------------------------------------- version 1
 */

#define ANX_WIRE_V1_INIT 0x13333337u
#define ANX_WIRE_V1_END 0x31333337u
#define ANX_WIRE_V1_ERROR 0x37333337u
#define ANX_WIRE_UPGRADE 0x32333337u
#define ANX_WIRE_V1_ROUTER 3u /* a client's answer to a hello of type 2 */

#define ANX_WIRE_V1_HELLO_SIZE 8
#define ANX_WIRE_V1_INIT_SIZE 48
#define ANX_WIRE_V1_COUNTS_SIZE 16
#define ANX_WIRE_V1_ERROR_HEAD_SIZE 8
#define ANX_WIRE_V1_ERROR_TEXT_MAX 1000 /* bytes, the trailing zero included */
#define ANX_WIRE_V1_ERROR_MAX (ANX_WIRE_V1_ERROR_HEAD_SIZE + ANX_WIRE_V1_ERROR_TEXT_MAX)
#define ANX_WIRE_V1_ACK_SIZE 1 /* one byte, 0 */
#define ANX_WIRE_HOST_MAX 255
#define ANX_WIRE_V1_ROUTE_MAX (12 + ANX_WIRE_HOST_MAX)

enum { ANX_WIRE_INDEXER = 1, ANX_WIRE_ROUTER = 2 };

/* The server's first bytes: u32 version 1, u32 type. */
void anx_wire_hello_encode(uint8_t bytes[ANX_WIRE_V1_HELLO_SIZE], uint32_t type);
/* ANX_E_VERSION with the original's text when the version is not 1; ANX_E_CORRUPT for another type. An error
 * frame in this place is found before by anx_wire_is_error. */
ANX_NODISCARD anx_status anx_wire_hello_decode(const uint8_t bytes[ANX_WIRE_V1_HELLO_SIZE], uint32_t *type,
                                               anx_error *err);

/* What a client's first four bytes announce. */
typedef enum anx_wire_first {
    ANX_WIRE_FIRST_OTHER,  /* answer "Invalid message header" */
    ANX_WIRE_FIRST_INIT,   /* 44 bytes follow */
    ANX_WIRE_FIRST_END,    /* answer "send init message first" */
    ANX_WIRE_FIRST_ROUTER, /* nothing follows */
    ANX_WIRE_FIRST_UPGRADE /* 12 bytes follow */
} anx_wire_first;
anx_wire_first anx_wire_first_of(const uint8_t bytes[4]);

void anx_wire_init_encode(uint8_t bytes[ANX_WIRE_V1_INIT_SIZE], const anx_wire_job *job);
/* All 48 bytes, magic included. Only the layout: anx_wire_job_check judges the values. */
ANX_NODISCARD anx_status anx_wire_init_decode(const uint8_t bytes[ANX_WIRE_V1_INIT_SIZE], anx_wire_job *out,
                                              anx_error *err);

/* What stands at the start of a tuple's place in the stream: a tuple (u64 label, vector), END, or INIT.
 * Labels whose low half is one of the two magics cannot be sent in version 1 (README.md). */
typedef enum anx_wire_row_word { ANX_WIRE_WORD_ROW, ANX_WIRE_WORD_END, ANX_WIRE_WORD_INIT } anx_wire_row_word;
anx_wire_row_word anx_wire_row_word_of(const uint8_t bytes[4]);

/* Count and size after the build. */
void anx_wire_counts_encode(uint8_t bytes[ANX_WIRE_V1_COUNTS_SIZE], uint64_t count, uint64_t size);

/* Error frame; text is cut to 999 bytes at a character's boundary, a zero byte follows and is counted.
 * Returns the frame's size. */
size_t anx_wire_v1_error_encode(uint8_t bytes[ANX_WIRE_V1_ERROR_MAX], const char *text);
bool anx_wire_is_error(const uint8_t bytes[4]);
/* The length of the text that follows the 8 bytes; ANX_E_LIMIT above 64 KiB (originals do not limit theirs).
 */
ANX_NODISCARD anx_status anx_wire_v1_error_head(const uint8_t bytes[ANX_WIRE_V1_ERROR_HEAD_SIZE],
                                                size_t *text_size, anx_error *err);
#define ANX_WIRE_V1_ERROR_IN_MAX 65536

typedef struct anx_wire_route {
    bool is_secure;
    uint32_t port;
    char host[ANX_WIRE_HOST_MAX + 1];
} anx_wire_route;
/* A router's answer. Returns its size, 0 when the host is longer than ANX_WIRE_HOST_MAX. */
size_t anx_wire_route_encode(uint8_t bytes[ANX_WIRE_V1_ROUTE_MAX], const anx_wire_route *route);
/* The first 8 bytes: flag and length of the host. */
ANX_NODISCARD anx_status anx_wire_route_head(const uint8_t bytes[8], size_t *host_size, anx_error *err);
/* All of it, size = 12 + host_size. */
ANX_NODISCARD anx_status anx_wire_route_decode(const uint8_t *bytes, size_t size, anx_wire_route *out,
                                               anx_error *err);

/* --------------------------------------------------------------------------------------- version 2: the
 * frame */

#define ANX_WIRE_VERSION 2
#define ANX_WIRE_UPGRADE_SIZE 16
void anx_wire_upgrade_encode(uint8_t bytes[ANX_WIRE_UPGRADE_SIZE]);
/* *version is the highest that both speak: 2 today. ANX_E_CHECKSUM, ANX_E_VERSION (below 2). */
ANX_NODISCARD anx_status anx_wire_upgrade_decode(const uint8_t bytes[ANX_WIRE_UPGRADE_SIZE],
                                                 uint32_t *version, anx_error *err);

#define ANX_WIRE_HEAD_SIZE 8
#define ANX_WIRE_TAIL_SIZE 4
#define ANX_WIRE_PAYLOAD_MAX (1u << 20)
#define ANX_WIRE_FRAME_MAX (ANX_WIRE_HEAD_SIZE + ANX_WIRE_PAYLOAD_MAX + ANX_WIRE_TAIL_SIZE)
#define ANX_WIRE_SMALL_MAX 2048 /* holds any frame but ROWS and DATA */

enum anx_wire_type {
#define FRAME(name, value, sender, min_size, max_size, states, next) ANX_WIRE_##name = (value),
#include "indexing/frames.def"
#undef FRAME
};
/* "ROWS"; "unknown frame" for others. */
const char *anx_wire_type_name(unsigned type);

typedef struct anx_wire_head {
    uint32_t size; /* of the payload */
    uint8_t type;  /* enum anx_wire_type */
} anx_wire_head;
/* Checks the head's own check, that the type exists, and the size against what that type may have: a false
 * length is found here, before anyone waits for the bytes it promises. */
ANX_NODISCARD anx_status anx_wire_head_decode(const uint8_t bytes[ANX_WIRE_HEAD_SIZE], anx_wire_head *out,
                                              anx_error *err);
/* frame: head, payload, tail in one piece. */
ANX_NODISCARD anx_status anx_wire_tail_check(const uint8_t *frame, size_t payload_size, anx_error *err);
/* Writes head and tail around a payload that stands at frame + ANX_WIRE_HEAD_SIZE; returns the frame's size.
 * The caller has left room for the tail. */
size_t anx_wire_seal(uint8_t *frame, enum anx_wire_type type, size_t payload_size);

/* --------------------------------------------------------------------------- version 2: what may follow what
 */

/* Where a conversation stands, as one side sees it. Bits, so that a row of frames.def can name several. */
typedef enum anx_wire_state {
    ANX_WIRE_AT_WELCOME = 1,  /* UPGRADE was sent */
    ANX_WIRE_AT_AUTH = 2,     /* WELCOME asked for a proof */
    ANX_WIRE_AT_VERDICT = 4,  /* AUTH was sent */
    ANX_WIRE_AT_OPEN = 8,     /* nothing asked for yet */
    ANX_WIRE_AT_QUEUE = 16,   /* BEGIN was sent */
    ANX_WIRE_AT_ROWS = 32,    /* READY was sent */
    ANX_WIRE_AT_BUILD = 64,   /* END was sent */
    ANX_WIRE_AT_RESUME = 128, /* RESUME was sent */
    ANX_WIRE_AT_DATA = 256,   /* INDEX was sent */
    ANX_WIRE_AT_OVER = 512,   /* RECEIVED, ERROR or CANCEL was sent */
    ANX_WIRE_AT_RECEIPT = 1024 /* DONE was sent; the client says what it thinks of it */
} anx_wire_state;
/* Every state in which both sides speak version 2 and are not done. */
#define ANX_WIRE_AT_ANY                                                                                 \
    (ANX_WIRE_AT_AUTH | ANX_WIRE_AT_VERDICT | ANX_WIRE_AT_OPEN | ANX_WIRE_AT_QUEUE | ANX_WIRE_AT_ROWS | \
     ANX_WIRE_AT_BUILD | ANX_WIRE_AT_RESUME | ANX_WIRE_AT_DATA | ANX_WIRE_AT_RECEIPT)
typedef enum anx_wire_side { ANX_WIRE_CLIENT = 1, ANX_WIRE_SERVER = 2 } anx_wire_side;
/* A frame of this type goes from `sender` to the other side: may it, and what then? Both sides call it, for
 * what they send and for what they get. ANX_E_STATE names frame and state; *state is then unchanged. After
 * WELCOME the state is AT_OPEN; whoever knows that a proof is needed puts AT_AUTH. */
ANX_NODISCARD anx_status anx_wire_step(anx_wire_state *state, anx_wire_side sender, unsigned type,
                                       anx_error *err);

/* -------------------------------------------------------------------------------- version 2: secrets and
 * sums */

#define ANX_WIRE_NONCE_SIZE 32
#define ANX_WIRE_PROOF_SIZE 32
#define ANX_WIRE_SESSION_SIZE 16
#define ANX_WIRE_BINDING_SIZE 32
#define ANX_WIRE_TOKEN_MAX 1024

/* Who proves what; each has its own label under the hash, so that no proof can be used for another. */
typedef enum anx_wire_role {
    ANX_WIRE_PROVE_CLIENT,
    ANX_WIRE_PROVE_SERVER,
    ANX_WIRE_PROVE_RESUME
} anx_wire_role;
typedef struct anx_wire_claim {
    const void *secret; /* the token; for RESUME the key given in the WELCOME of the session resumed */
    size_t secret_size;
    uint8_t server_nonce[ANX_WIRE_NONCE_SIZE]; /* of this connection's WELCOME */
    uint8_t client_nonce[ANX_WIRE_NONCE_SIZE]; /* of AUTH; of RESUME */
    uint8_t session[ANX_WIRE_SESSION_SIZE]; /* of this connection's WELCOME; for RESUME: of the one resumed */
    uint8_t binding[ANX_WIRE_BINDING_SIZE];    /* anx_stream_binding when WELCOME asks for it, else zero */
    uint64_t offset;                           /* RESUME only */
} anx_wire_claim;
/* HMAC-SHA256. ANX_E_INTERNAL when OpenSSL fails. */
ANX_NODISCARD anx_status anx_wire_prove(anx_wire_role role, const anx_wire_claim *claim,
                                        uint8_t proof[ANX_WIRE_PROOF_SIZE], anx_error *err);
/* In constant time. */
bool anx_wire_equal(const void *a, const void *b, size_t size);
/* Unpredictable bytes. ANX_E_INTERNAL. */
ANX_NODISCARD anx_status anx_wire_random(void *bytes, size_t size, anx_error *err);
/* Overwrites a secret, whatever the optimizer thinks. */
void anx_wire_forget(void *secret, size_t size);

#define ANX_WIRE_SUM_SIZE 16
/* The running sum of an index's bytes: XXH3-128, low half first. Create: NULL when out of memory. */
typedef struct anx_wire_sum anx_wire_sum;
anx_wire_sum *anx_wire_sum_create(const anx_alloc *alloc);
void anx_wire_sum_destroy(anx_wire_sum *sum); /* NULL is fine */
void anx_wire_sum_update(anx_wire_sum *sum, const void *bytes, size_t size);
void anx_wire_sum_digest(const anx_wire_sum *sum, uint8_t digest[ANX_WIRE_SUM_SIZE]); /* more may follow */

/* ------------------------------------------------------------------------------------- version 2: the
 * payloads put: writes a whole frame and returns its size. get: reads a payload whose head was decoded. */

#define ANX_WIRE_VERSION_TEXT_MAX 63
/* S: the answer to UPGRADE, at once, also when the house is full. */
typedef struct anx_wire_welcome {
    uint32_t version;                       /* 2 */
    bool needs_auth;                        /* AUTH must come next */
    bool has_binding;                       /* proofs on this connection include the TLS binding */
    uint32_t dim_max; /* the server's limits, so that a client can fail early; 0: none */
    uint32_t idle_timeout_s;                /* silence after which the server gives a client up; 0: never */
    uint32_t resume_timeout_s;              /* how long a broken download is kept; 0: not at all */
    uint64_t rows_max;
    uint8_t nonce[ANX_WIRE_NONCE_SIZE];     /* random */
    uint8_t session[ANX_WIRE_SESSION_SIZE]; /* random; may be logged */
    uint8_t resume_key[ANX_WIRE_PROOF_SIZE]; /* random; secret */
    char server[ANX_WIRE_VERSION_TEXT_MAX + 1]; /* "annex 0.1.0" */
} anx_wire_welcome;
size_t anx_wire_put_welcome(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_welcome *welcome);
ANX_NODISCARD anx_status anx_wire_get_welcome(const uint8_t *payload, size_t size, anx_wire_welcome *out,
                                              anx_error *err);

/* C: AUTH. S: ACCEPT, with the server's own proof over the same nonces: the client knows then that it does
 * not send its rows to somebody who merely answers at the address. */
typedef struct anx_wire_auth {
    uint8_t client_nonce[ANX_WIRE_NONCE_SIZE];
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
} anx_wire_auth;
size_t anx_wire_put_auth(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_auth *auth);
ANX_NODISCARD anx_status anx_wire_get_auth(const uint8_t *payload, size_t size, anx_wire_auth *out,
                                           anx_error *err);
size_t anx_wire_put_accept(uint8_t frame[ANX_WIRE_SMALL_MAX], const uint8_t proof[ANX_WIRE_PROOF_SIZE]);
ANX_NODISCARD anx_status anx_wire_get_accept(const uint8_t *payload, size_t size,
                                             uint8_t proof[ANX_WIRE_PROOF_SIZE], anx_error *err);

/* C: BEGIN. Layout only, as with INIT. */
size_t anx_wire_put_begin(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_job *job);
ANX_NODISCARD anx_status anx_wire_get_begin(const uint8_t *payload, size_t size, anx_wire_job *out,
                                            anx_error *err);

/* S: QUEUED, at once and whenever the position changes, at least every 5 s. Position 1 is next. */
typedef struct anx_wire_queued {
    uint32_t position;
    uint32_t n_waiting;
} anx_wire_queued;
size_t anx_wire_put_queued(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_queued *queued);
ANX_NODISCARD anx_status anx_wire_get_queued(const uint8_t *payload, size_t size, anx_wire_queued *out,
                                             anx_error *err);

/* S: READY for rows. */
size_t anx_wire_put_ready(uint8_t frame[ANX_WIRE_SMALL_MAX], uint32_t idle_timeout_s);
ANX_NODISCARD anx_status anx_wire_get_ready(const uint8_t *payload, size_t size, uint32_t *idle_timeout_s,
                                            anx_error *err);

/* C: ROWS: u32 n, u32 zero, n labels, n vectors, so that both halves can be used where they lie. With the
 * frame 8-byte aligned, labels and vectors are as well. */
#define ANX_WIRE_ROWS_HEAD 8
/* The most rows that fit one frame. At least 3 for any job that anx_wire_job_check accepts. */
size_t anx_wire_rows_max(size_t vector_size);
static inline size_t
anx_wire_labels_at(void)
{
    return ANX_WIRE_HEAD_SIZE + ANX_WIRE_ROWS_HEAD;
}
static inline size_t
anx_wire_vectors_at(size_t n)
{
    return ANX_WIRE_HEAD_SIZE + ANX_WIRE_ROWS_HEAD + 8 * n;
}
/* The frame holds n labels and n vectors at the offsets above; writes the rest. 1 <= n <= anx_wire_rows_max.
 */
size_t anx_wire_put_rows(uint8_t *frame, size_t n, size_t vector_size);
/* labels and vectors point into the payload and are little-endian; they need no alignment of the payload's
 * own (read labels with anx_load_le, or copy). */
typedef struct anx_wire_rows {
    size_t n;               /* >= 1 */
    const uint8_t *labels;  /* borrowed, [8 * n] */
    const uint8_t *vectors; /* borrowed, [n * vector_size] */
} anx_wire_rows;
ANX_NODISCARD anx_status anx_wire_get_rows(const uint8_t *payload, size_t size, size_t vector_size,
                                           anx_wire_rows *out, anx_error *err);

/* C: END, with the number of rows sent. The server fails when it got another. */
size_t anx_wire_put_end(uint8_t frame[ANX_WIRE_SMALL_MAX], uint64_t n_row);
ANX_NODISCARD anx_status anx_wire_get_end(const uint8_t *payload, size_t size, uint64_t *n_row,
                                          anx_error *err);

/* C: CANCEL, without payload. */
size_t anx_wire_put_cancel(uint8_t frame[ANX_WIRE_SMALL_MAX]);

/* C: PING, any time after WELCOME. S: PONG with the same value. */
size_t anx_wire_put_ping(uint8_t frame[ANX_WIRE_SMALL_MAX], uint64_t value);
size_t anx_wire_put_pong(uint8_t frame[ANX_WIRE_SMALL_MAX], uint64_t value);
ANX_NODISCARD anx_status anx_wire_get_ping(const uint8_t *payload, size_t size, uint64_t *value,
                                           anx_error *err); /* also a PONG's */

/* C: RESUME, instead of BEGIN. The answer is INDEX as before, then DATA from `offset`. */
typedef struct anx_wire_resume {
    uint8_t session[ANX_WIRE_SESSION_SIZE];
    uint8_t client_nonce[ANX_WIRE_NONCE_SIZE];
    uint8_t proof[ANX_WIRE_PROOF_SIZE];
    uint64_t offset;
} anx_wire_resume;
size_t anx_wire_put_resume(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_resume *resume);
ANX_NODISCARD anx_status anx_wire_get_resume(const uint8_t *payload, size_t size, anx_wire_resume *out,
                                             anx_error *err);

/* S: PROGRESS, at least every 5 s between READY (or RESUME) and INDEX: it is also the sign of life. */
enum { ANX_WIRE_RECEIVING = 1, ANX_WIRE_BUILDING = 2, ANX_WIRE_SAVING = 3 };
typedef struct anx_wire_progress {
    uint32_t phase; /* ANX_WIRE_RECEIVING... */
    uint32_t rows_per_second;
    uint64_t done; /* rows */
    uint64_t total; /* 0: unknown */
} anx_wire_progress;
size_t anx_wire_put_progress(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_progress *progress);
ANX_NODISCARD anx_status anx_wire_get_progress(const uint8_t *payload, size_t size, anx_wire_progress *out,
                                               anx_error *err);

/* S: INDEX: what follows as DATA. */
typedef struct anx_wire_index {
    uint64_t count;  /* rows in the index */
    uint64_t size;   /* bytes of the whole file */
    uint32_t format; /* ANX_WIRE_FILE_ANNEX... */
} anx_wire_index;
#define ANX_WIRE_INDEX_SIZE_MAX ((uint64_t) 1 << 56)
size_t anx_wire_put_index(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_index *index);
ANX_NODISCARD anx_status anx_wire_get_index(const uint8_t *payload, size_t size, anx_wire_index *out,
                                            anx_error *err);

/* S: DATA: u64 offset, bytes. The bytes stand at frame + anx_wire_data_at(). */
#define ANX_WIRE_DATA_HEAD 8
#define ANX_WIRE_DATA_MAX (ANX_WIRE_PAYLOAD_MAX - ANX_WIRE_DATA_HEAD)
static inline size_t
anx_wire_data_at(void)
{
    return ANX_WIRE_HEAD_SIZE + ANX_WIRE_DATA_HEAD;
}
size_t anx_wire_put_data(uint8_t *frame, uint64_t offset, size_t n); /* 1 <= n <= ANX_WIRE_DATA_MAX */
typedef struct anx_wire_data {
    uint64_t offset;
    const uint8_t *bytes; /* borrowed, in the payload */
    size_t n;             /* >= 1 */
} anx_wire_data;
ANX_NODISCARD anx_status anx_wire_get_data(const uint8_t *payload, size_t size, anx_wire_data *out,
                                           anx_error *err);

/* S: DONE: the sum is over the whole file, also after a RESUME. */
typedef struct anx_wire_done {
    uint64_t size;
    uint8_t sum[ANX_WIRE_SUM_SIZE];
} anx_wire_done;
size_t anx_wire_put_done(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_wire_done *done);
ANX_NODISCARD anx_status anx_wire_get_done(const uint8_t *payload, size_t size, anx_wire_done *out,
                                           anx_error *err);

/* C: RECEIVED, without payload: all bytes came and their sum is right. A server that sees the connection end
 * after DONE without it (or without an ERROR) does not know how much arrived, and keeps the index for a
 * RESUME. */
size_t anx_wire_put_received(uint8_t frame[ANX_WIRE_SMALL_MAX]);

/* Both: ERROR, then the sender closes. Status, message and hint travel; the detail does not. */
size_t anx_wire_put_error(uint8_t frame[ANX_WIRE_SMALL_MAX], const anx_error *error);
/* An unknown status becomes ANX_E_INTERNAL. */
ANX_NODISCARD anx_status anx_wire_get_error(const uint8_t *payload, size_t size, anx_error *out,
                                            anx_error *err);

/* -------------------------------------------------------------------------------------------------------
 * text */

/* Copies text of a peer for people to read: cut to fit, at a character's boundary; control characters become
 * spaces, bytes that are not UTF-8 become '?'; ends at a zero byte. out_size >= 1. */
void anx_wire_text(char *out, size_t out_size, const void *bytes, size_t size);

#endif
