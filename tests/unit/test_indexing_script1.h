/* A server of version 1 as a script: it plays a session to its end, but for one place where something else
 * happens. Included by the suites of the client. */
#ifndef ANX_TEST_INDEXING_SCRIPT1_H
#define ANX_TEST_INDEXING_SCRIPT1_H

#include "test_indexing_peer.h"

#include "base/bytes.h"
#include "indexing/client.h"

/* Where in a session of version 1 something else happens. */
enum stage { NEVER, AT_HELLO, AT_ACK, AT_ROWS, AT_COUNT, AT_SIZE, AT_FILE, IN_FILE, AT_CLOSE };

struct script {
    enum stage wrong_at; /* here `wrong` is sent instead, and then the end */
    const void *wrong;
    size_t n_wrong;
    enum stage silent_at; /* here nothing more is said, until the client is gone */
    uint32_t hello_type;  /* 0: indexer */
    bool is_original;     /* answers an UPGRADE with the original's error and closes */
    uint64_t count;
    uint64_t size;
    const uint8_t *file; /* [size]; NULL: the example's */
    /* What the client sent from INIT on. */
    uint8_t *got;
    size_t got_capacity;
    size_t n_got;
    size_t n_expected; /* bytes up to and with END */
    atomic_bool is_silent;
    atomic_int n_connections;
};

static const uint64_t labels[3] = { 0x100000000u, 0x200000000u, 0x300000000u };
static const float vectors[9] = { 0, 0, 0, 0, 1, 0, 1, 0, 0 };

/* 646 bytes that begin like an index file of three rows; the client does not look further. */
static uint8_t example_file[646];

#define ERROR_FRAME \
    "\x37\x33\x33\x37\x0c\0\0\0disk is full" /* twelve bytes of text, as originals: no zero byte */
#define ERROR_FRAME_SIZE 20

static size_t fds_before;

static inline int
setup(void **state)
{
    (void) state;
    for (size_t i = 0; i < sizeof(example_file); i++)
        example_file[i] = (uint8_t) (i * 7);
    memcpy(example_file, "usearch", 7);
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

/* True when the script goes on after this stage. */
static inline bool
pass(struct peer *self, int fd, enum stage stage)
{
    struct script *script = self->context;

    if (script->wrong_at == stage) {
        peer_send(self, fd, script->wrong, script->n_wrong);
        peer_close(self, fd);
        return false;
    }
    if (script->silent_at == stage) {
        atomic_store(&script->is_silent, true);
        peer_idle(self, fd);
        if (fd >= 0)
            close(fd);
        return false;
    }
    return !self->complaint[0] && fd >= 0;
}

static inline void
play_rest(struct peer *self, int fd)
{
    struct script *script = self->context;
    const uint8_t *file = script->file ? script->file : example_file;
    uint8_t counts[ANX_WIRE_V1_COUNTS_SIZE];
    uint64_t half = script->size / 2;

    while (script->n_got < script->n_expected) {
        size_t n = peer_recv_some(self, fd, script->got + script->n_got, script->n_expected - script->n_got);

        if (!n) {
            peer_fail(self, "only %zu of %zu bytes came", script->n_got, script->n_expected);
            break;
        }
        script->n_got += n;
    }
    anx_wire_counts_encode(counts, script->count, script->size);
    if (!pass(self, fd, AT_COUNT))
        return;
    peer_send(self, fd, counts, 8);
    if (!pass(self, fd, AT_SIZE))
        return;
    peer_send(self, fd, counts + 8, 8);
    if (!pass(self, fd, AT_FILE))
        return;
    peer_send(self, fd, file, half);
    if (!pass(self, fd, IN_FILE))
        return;
    peer_send(self, fd, file + half, script->size - half);
    if (pass(self, fd, AT_CLOSE))
        peer_close(self, fd);
}

static inline void
play_v1(struct peer *self)
{
    struct script *script = self->context;
    uint8_t hello[ANX_WIRE_V1_HELLO_SIZE];
    int fd = peer_accept(self);

    atomic_fetch_add(&script->n_connections, 1);
    if (!pass(self, fd, AT_HELLO))
        return;
    anx_wire_hello_encode(hello, script->hello_type ? script->hello_type : ANX_WIRE_INDEXER);
    peer_send(self, fd, hello, sizeof(hello));
    if (script->is_original) {
        /* Reads four bytes of what follows and closes on the other twelve: a reset may overtake the text. */
        peer_recv(self, fd, script->got, 4);
        if (anx_wire_first_of(script->got) != ANX_WIRE_FIRST_UPGRADE)
            peer_fail(self, "the client did not try version 2");
        peer_send(self, fd, "\x37\x33\x33\x37\x16\0\0\0Invalid message header", 30);
        close(fd);
        fd = peer_accept(self);
        atomic_fetch_add(&script->n_connections, 1);
        peer_send(self, fd, hello, sizeof(hello));
    }
    if (!peer_recv(self, fd, script->got, ANX_WIRE_V1_INIT_SIZE)) {
        if (fd >= 0)
            close(fd);
        return;
    }
    script->n_got = ANX_WIRE_V1_INIT_SIZE;
    if (!pass(self, fd, AT_ACK))
        return;
    peer_send(self, fd, "", ANX_WIRE_V1_ACK_SIZE);
    if (pass(self, fd, AT_ROWS))
        play_rest(self, fd);
}

/* The product page's session. */
static inline struct script
example_script(uint8_t *got, size_t capacity)
{
    return (struct script) { .count = 3, .size = sizeof(example_file), .got = got, .got_capacity = capacity,
                             .n_expected = 48 + 3 * 20 + 4 };
}

static inline anx_indexing_params
example_params(const struct peer *peer)
{
    return (anx_indexing_params){
        .host = "127.0.0.1",
        .port = peer->port,
        .protocol = 1,
        .hello_ms = 2000,
        .idle_ms = 5000,
        .job = { .metric = ANX_WIRE_COSINE,
                 .scalar = ANX_WIRE_F32,
                 .element = ANX_WIRE_F32,
                 .dim = 3,
                 .m = 12,
                 .ef_construction = 64,
                 .ef = 64,
                 .estimated_rows = 3,
                 .format = ANX_WIRE_FILE_LANTERN,
                 .is_plain = true },
    };
}

struct result {
    anx_status st;
    anx_error err;
    anx_wire_index index;
    size_t n;
    unsigned version;
    uint8_t file[1 << 17];
};

/* A whole session, ending at the first error. */
static inline void
build(const anx_indexing_params *params, size_t n, const uint64_t *row_labels, const void *rows, size_t piece,
      struct result *out)
{
    anx_indexing_client *client;
    anx_indexing_info info;

    memset(out, 0, sizeof(*out));
    out->st = anx_indexing_open(params, &client, &out->err);
    if (out->st == ANX_OK)
        out->st = anx_indexing_rows(client, n, row_labels, rows, &out->err);
    if (out->st == ANX_OK)
        out->st = anx_indexing_finish(client, &out->index, &out->err);
    while (out->st == ANX_OK && out->n < out->index.size) {
        size_t room = sizeof(out->file) - out->n;
        size_t got;

        out->st = anx_indexing_read(client, out->file + out->n, room < piece ? room : piece, &got, &out->err);
        if (out->st == ANX_OK && !got)
            fail_msg("the index ended after %zu of %zu bytes", out->n, (size_t) out->index.size);
        out->n += got;
    }
    if (out->st == ANX_OK) {
        size_t got = 1;
        uint8_t byte;

        assert_int_equal(anx_indexing_read(client, &byte, 1, &got, NULL), ANX_OK);
        assert_int_equal(got, 0);
        anx_indexing_get_info(client, &info);
        out->version = info.version;
        assert_int_equal(info.n_row, n);
        assert_true(info.bytes_in > 0 && info.bytes_out > 0);
    }
    anx_indexing_close(client);
}


#endif
