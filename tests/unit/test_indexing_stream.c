/* One connection: any segmentation, any size, silence in either direction, waking, cancelling, TLS with and
 * without checks, and no signal. Every test also leaves no descriptor behind. */
#include "test_indexing_peer.h"

#include "base/rng.h"
#include "indexing/stream.h"

#define BIG ((size_t) 8 << 20)

static size_t fds_before;

static int
setup(void **state)
{
    (void) state;
    fds_before = peer_count_fds();
    return 0;
}

static int
teardown(void **state)
{
    (void) state;
    assert_int_equal(peer_count_fds(), fds_before);
    return 0;
}

static uint8_t *
noise(size_t n)
{
    uint8_t *bytes = anx_alloc_bytes(NULL, n);
    anx_rng rng = anx_rng_seed(4);

    assert_non_null(bytes);
    for (size_t i = 0; i < n; i++)
        bytes[i] = (uint8_t) anx_rng_next(&rng);
    return bytes;
}

static anx_stream *
connect_to(const struct peer *peer, const anx_stream_params *params)
{
    anx_stream *stream = NULL;
    anx_error err;

    if (anx_stream_connect("127.0.0.1", peer->port, params, &stream, &err) != ANX_OK)
        fail_msg("%s", err.message);
    return stream;
}

/* ---- bytes ---- */

static void
play_echo(struct peer *self)
{
    static uint8_t bytes[65536];
    int fd = peer_accept(self);
    size_t n;

    while ((n = peer_recv_some(self, fd, bytes, sizeof(bytes))) > 0)
        peer_send(self, fd, bytes, n);
    peer_close(self, fd);
}

/* Sends more than any buffer holds while the other side sends it back: only non-blocking writes and reads by
 * turns get through. */
static void
echo_all(anx_stream *stream)
{
    uint8_t *sent = noise(BIG);
    uint8_t *got = anx_alloc_bytes(NULL, BIG);
    size_t n_sent = 0;
    size_t n_got = 0;

    assert_non_null(got);
    while (n_got < BIG) {
        size_t n = 0;
        short ready;

        if (n_sent < BIG) {
            assert_int_equal(anx_stream_write_now(stream, sent + n_sent, BIG - n_sent, &n, NULL), ANX_OK);
            n_sent += n;
        }
        assert_int_equal(
            anx_stream_wait(stream, POLLIN | (n_sent < BIG ? POLLOUT : 0), PEER_PATIENCE_MS, &ready, NULL),
            ANX_OK);
        assert_true(ready != 0);
        assert_int_equal(anx_stream_read_now(stream, got + n_got, BIG - n_got, &n, NULL, NULL), ANX_OK);
        n_got += n;
    }
    assert_memory_equal(sent, got, BIG);
    assert_int_equal(anx_stream_bytes_in(stream), BIG);
    assert_int_equal(anx_stream_bytes_out(stream), BIG);
    anx_free(NULL, sent);
    anx_free(NULL, got);
}

static void
large_amounts_go_both_ways_at_once(void **state)
{
    struct peer_identity identity;
    anx_stream *stream;
    struct peer peer;

    (void) state;
    peer_start(&peer, play_echo, NULL);
    stream = connect_to(&peer, NULL);
    echo_all(stream);
    anx_stream_close(stream);
    peer_stop(&peer);

    peer_identity_make(&identity, "DNS:localhost");
    peer_listen(&peer, play_echo, NULL);
    peer.tls = identity.ctx;
    peer_run(&peer);
    stream = connect_to(&peer, NULL);
    assert_int_equal(anx_stream_tls_connect(stream, NULL, NULL), ANX_OK);
    echo_all(stream);
    anx_stream_close(stream);
    peer_stop(&peer);
    peer_identity_free(&identity);
}

static void
play_dribble(struct peer *self)
{
    uint8_t bytes[3000];
    int fd = peer_accept(self);

    self->segment = 1;
    if (peer_recv(self, fd, bytes, sizeof(bytes)))
        peer_send(self, fd, bytes, sizeof(bytes));
    peer_close(self, fd);
}

static void
one_byte_segments_are_put_together(void **state)
{
    uint8_t *sent = noise(3000);
    uint8_t got[3000];
    anx_stream *stream;
    struct peer peer;
    size_t n;

    (void) state;
    peer_start(&peer, play_dribble, NULL);
    stream = connect_to(&peer, NULL);
    /* Small writes collect; nothing is lost between them and a larger one. */
    for (size_t i = 0; i < 1000; i++)
        assert_int_equal(anx_stream_write(stream, sent + i, 1, NULL), ANX_OK);
    assert_int_equal(anx_stream_write(stream, sent + 1000, 2000, NULL), ANX_OK);
    assert_int_equal(anx_stream_bytes_out(stream), 0);
    assert_int_equal(anx_stream_flush(stream, NULL), ANX_OK);
    for (size_t at = 0; at < 3000; at += 8)
        assert_int_equal(anx_stream_read(stream, got + at, 8, NULL), ANX_OK);
    assert_memory_equal(sent, got, 3000);
    shutdown(anx_stream_fd(stream), SHUT_WR);
    assert_int_equal(anx_stream_read_some(stream, got, 8, &n, NULL), ANX_OK);
    assert_int_equal(n, 0); /* the end */
    assert_int_equal(anx_stream_read(stream, got, 1, NULL), ANX_E_NETWORK);
    anx_stream_close(stream);
    peer_stop(&peer);
    anx_free(NULL, sent);
}

static void
play_sink(struct peer *self)
{
    static uint8_t bytes[BIG];
    int fd = peer_accept(self);

    if (peer_recv(self, fd, bytes, sizeof(bytes)) && memcmp(bytes, self->context, sizeof(bytes)) != 0)
        peer_fail(self, "other bytes came than were sent");
    peer_close(self, fd);
}

static void
writes_of_every_size_keep_their_order(void **state)
{
    uint8_t *sent = noise(BIG);
    anx_rng rng = anx_rng_seed(9);
    anx_stream *stream;
    struct peer peer;

    (void) state;
    peer_start(&peer, play_sink, sent);
    stream = connect_to(&peer, NULL);
    for (size_t at = 0; at < BIG;) {
        size_t n = (size_t) 1 << anx_rng_below(&rng, 20);

        if (n > BIG - at)
            n = BIG - at;
        assert_int_equal(anx_stream_write(stream, sent + at, n, NULL), ANX_OK);
        at += n;
    }
    assert_int_equal(anx_stream_flush(stream, NULL), ANX_OK);
    anx_stream_close(stream);
    peer_stop(&peer);
    anx_free(NULL, sent);
}

/* ---- silence ---- */

/* Accepts and holds still until the client is gone. */
static void
play_silent(struct peer *self)
{
    int fd = peer_accept(self);

    peer_idle(self, fd);
    if (fd >= 0)
        close(fd);
}

static void
silence_has_a_limit_in_both_directions(void **state)
{
    anx_stream_params params = { .idle_ms = 150 };
    uint8_t *bytes = noise(BIG);
    anx_stream *stream;
    struct peer peer;
    anx_error err;
    uint64_t began;

    (void) state;
    peer_start(&peer, play_silent, NULL);
    stream = connect_to(&peer, &params);
    began = anx_clock_ns();
    assert_int_equal(anx_stream_read(stream, bytes, 1, &err), ANX_E_TIMEOUT);
    assert_non_null(strstr(err.message, "nothing came from 127.0.0.1:"));
    assert_true(peer_seconds_since(began) < 5);
    /* The peer does not read: the buffers of both kernels fill, then nothing moves. */
    began = anx_clock_ns();
    for (int i = 0; i < 8; i++)
        if (anx_stream_write(stream, bytes, BIG, &err) != ANX_OK)
            break;
    assert_int_equal(err.status, ANX_E_TIMEOUT);
    assert_non_null(strstr(err.message, "took no data for 0.15 s"));
    assert_true(peer_seconds_since(began) < 10);
    anx_stream_close(stream);
    peer_stop(&peer);
    anx_free(NULL, bytes);
}

static void
play_trickle(struct peer *self)
{
    int fd = peer_accept(self);
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };

    while (fd >= 0 && poll(&p, 1, 20) == 0)
        if (!peer_send(self, fd, "x", 1))
            break;
    if (fd >= 0)
        close(fd);
}

static void
a_deadline_ends_a_peer_that_sends_a_byte_at_a_time(void **state)
{
    anx_stream_params params = { .idle_ms = 10000 };
    anx_stream *stream;
    struct peer peer;
    uint8_t bytes[100000];
    uint64_t began;
    anx_error err;

    (void) state;
    peer_start(&peer, play_trickle, NULL);
    stream = connect_to(&peer, &params);
    began = anx_clock_ns();
    anx_stream_set_deadline(stream, 300);
    assert_int_equal(anx_stream_read(stream, bytes, sizeof(bytes), &err), ANX_E_TIMEOUT);
    assert_true(peer_seconds_since(began) >= 0.29 && peer_seconds_since(began) < 5);
    assert_int_equal(anx_stream_read(stream, bytes, 1, &err), ANX_E_TIMEOUT); /* it stays until set again */
    anx_stream_set_deadline(stream, 0);
    assert_int_equal(anx_stream_read(stream, bytes, 1, &err), ANX_OK);
    anx_stream_close(stream);
    peer_stop(&peer);
}

static void *
wake_later(void *stream)
{
    anx_stream_wake(stream);
    return NULL;
}

static void
waking_ends_a_wait_and_the_stream_can_still_speak(void **state)
{
    anx_stream_params params = { .can_wake = true };
    pthread_t thread;
    uint8_t byte = 0;
    uint64_t began;
    struct peer peer;
    anx_stream *stream;
    anx_error err;
    short ready;

    (void) state;
    peer_start(&peer, play_echo, NULL);
    stream = connect_to(&peer, &params);
    began = anx_clock_ns();
    pthread_create(&thread, NULL, wake_later, stream);
    assert_int_equal(anx_stream_read(stream, &byte, 1, &err), ANX_E_CANCELLED);
    assert_true(peer_seconds_since(began) < 5);
    pthread_join(thread, NULL);
    assert_int_equal(anx_stream_wait(stream, POLLIN, 0, &ready, &err), ANX_E_CANCELLED); /* until cleared */
    anx_stream_clear_wake(stream);
    assert_int_equal(anx_stream_wait(stream, POLLIN, 0, &ready, &err), ANX_OK);
    assert_int_equal(ready, 0);
    assert_int_equal(anx_stream_write(stream, "!", 1, &err), ANX_OK);
    assert_int_equal(anx_stream_flush(stream, &err), ANX_OK);
    assert_int_equal(anx_stream_read(stream, &byte, 1, &err), ANX_OK);
    assert_int_equal(byte, '!');
    anx_stream_close(stream);
    peer_stop(&peer);
}

struct hook {
    size_t n_calls;
    size_t stop_at;
    size_t n_sleep;
};

static anx_status
hook_wait(void *context, int fd, short events, int timeout_ms, short *ready, anx_error *err)
{
    struct hook *self = context;
    struct pollfd p = { .fd = fd, .events = events };

    (void) timeout_ms;
    *ready = 0;
    if (++self->n_calls >= self->stop_at)
        return anx_fail(err, ANX_E_CANCELLED, "canceling statement due to user request");
    self->n_sleep += fd < 0;
    poll(&p, 1, 5); /* wakes up early: the caller asks again */
    *ready = p.revents;
    return ANX_OK;
}

static void
every_wait_goes_through_the_callers_function(void **state)
{
    struct hook hook = { .stop_at = 10 };
    anx_stream_params params = { .wait = hook_wait, .wait_context = &hook, .idle_ms = -1 };
    struct peer peer;
    anx_stream *stream;
    uint8_t byte;
    anx_error err;

    (void) state;
    peer_start(&peer, play_silent, NULL);
    stream = connect_to(&peer, &params);
    assert_int_equal(anx_stream_read(stream, &byte, 1, &err), ANX_E_CANCELLED);
    assert_string_equal(err.message, "canceling statement due to user request");
    assert_int_equal(hook.n_calls, 10);
    hook.stop_at = 1000;
    assert_int_equal(anx_stream_pause(stream, 20, &err), ANX_OK);
    assert_true(hook.n_sleep >= 1);
    hook.stop_at = 1;
    assert_int_equal(anx_stream_pause(stream, 20000, &err), ANX_E_CANCELLED);
    anx_stream_close(stream);
    peer_stop(&peer);
}

/* ---- the end ---- */

static void
play_hang_up(struct peer *self)
{
    int fd = peer_accept(self);

    if (fd >= 0)
        close(fd);
}

/* SIGPIPE has its default action here: a raised one ends the suite. */
static void
a_peer_that_is_gone_raises_no_signal(void **state)
{
    struct peer_identity identity;
    uint8_t *bytes = noise(BIG);

    (void) state;
    signal(SIGPIPE, SIG_DFL);
    peer_identity_make(&identity, "DNS:localhost");
    for (int is_tls = 0; is_tls < 2; is_tls++) {
        anx_stream *stream;
        struct peer peer;
        anx_status st = ANX_OK;

        peer_listen(&peer, play_hang_up, NULL);
        peer.tls = is_tls ? identity.ctx : NULL;
        peer_run(&peer);
        stream = connect_to(&peer, NULL);
        if (is_tls)
            assert_int_equal(anx_stream_tls_connect(stream, NULL, NULL), ANX_OK);
        for (int i = 0; i < 20 && st == ANX_OK; i++)
            st = anx_stream_write(stream, bytes, BIG, NULL);
        assert_true(st == ANX_E_NETWORK || st == ANX_E_TLS);
        assert_int_not_equal(anx_stream_flush(stream, NULL), 12345); /* harmless */
        anx_stream_linger(stream, 100, 1000);
        anx_stream_close(stream);
        peer_stop(&peer);
    }
    peer_identity_free(&identity);
    anx_free(NULL, bytes);
}

struct talker {
    char heard[32];
};

/* Sends without listening, and reads only when it cannot send any more, as a client streaming rows does. */
static void
play_talk(struct peer *self)
{
    static uint8_t bytes[BIG];
    struct talker *talker = self->context;
    int fd = peer_accept(self);
    size_t n = 0;
    size_t got;

    peer_send(self, fd, bytes, sizeof(bytes));
    while (n < sizeof(talker->heard) - 1 &&
           (got = peer_recv_some(self, fd, talker->heard + n, sizeof(talker->heard) - 1 - n)) > 0)
        n += got;
    if (fd >= 0)
        close(fd);
}

static void
last_words_reach_a_peer_that_is_still_sending(void **state)
{
    struct peer_identity identity;

    (void) state;
    peer_identity_make(&identity, "DNS:localhost");
    for (int is_tls = 0; is_tls < 2; is_tls++) {
        struct talker talker = { "" };
        anx_stream *stream;
        struct peer peer;
        uint8_t bytes[1000];

        peer_listen(&peer, play_talk, &talker);
        peer.tls = is_tls ? identity.ctx : NULL;
        peer_run(&peer);
        stream = connect_to(&peer, NULL);
        if (is_tls)
            assert_int_equal(anx_stream_tls_connect(stream, NULL, NULL), ANX_OK);
        assert_int_equal(anx_stream_read(stream, bytes, sizeof(bytes), NULL), ANX_OK);
        assert_int_equal(anx_stream_write(stream, "row 7 has NaN", 13, NULL), ANX_OK);
        anx_stream_linger(stream, PEER_PATIENCE_MS, 2 * BIG);
        anx_stream_close(stream);
        peer_stop(&peer);
        assert_string_equal(talker.heard, "row 7 has NaN");
    }
    peer_identity_free(&identity);
}

static void
lingering_has_limits(void **state)
{
    struct talker talker = { "" };
    uint64_t began = anx_clock_ns();
    anx_stream *stream;
    struct peer peer;

    (void) state;
    peer_start(&peer, play_talk, &talker);
    stream = connect_to(&peer, NULL);
    anx_stream_linger(stream, PEER_PATIENCE_MS, 1000); /* by bytes */
    anx_stream_close(stream);
    peer_stop(&peer);
    peer_start(&peer, play_silent, NULL);
    stream = connect_to(&peer, NULL);
    anx_stream_linger(stream, 100, 1000); /* by time */
    anx_stream_close(stream);
    peer_stop(&peer);
    assert_true(peer_seconds_since(began) < 10);
}

/* ---- addresses ---- */

static void
a_refused_connection_names_every_address(void **state)
{
    anx_stream *stream;
    struct peer peer;
    anx_error err;

    (void) state;
    peer_listen(&peer, NULL, NULL);
    close(peer.listen_fd); /* a port that nobody listens on */
    assert_int_equal(anx_stream_connect("127.0.0.1", peer.port, NULL, &stream, &err), ANX_E_NETWORK);
    assert_null(stream);
    assert_non_null(strstr(err.message, "could not connect to 127.0.0.1:"));
    assert_non_null(strstr(err.message, "127.0.0.1: Connection refused"));
    assert_int_equal(anx_stream_connect("host.invalid", 1, NULL, &stream, &err), ANX_E_NETWORK);
    assert_non_null(strstr(err.message, "could not find the host \"host.invalid\""));
    assert_int_equal(anx_stream_connect("127.0.0.1", 0, NULL, &stream, &err), ANX_E_INVALID);
    assert_int_equal(anx_stream_connect("127.0.0.1", 65536, NULL, &stream, &err), ANX_E_INVALID);
    assert_int_equal(anx_stream_connect("", 1, NULL, &stream, &err), ANX_E_INVALID);
}

/* A name with several addresses of which only one answers, and the ways to write an address. */
static void
all_addresses_of_a_name_are_tried(void **state)
{
    static const char *const hosts[] = { "localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "::ffff:127.0.0.1" };
    char want[32];

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(hosts); i++) {
        anx_stream *stream = NULL;
        struct peer peer;
        anx_error err;

        peer_start(&peer, play_echo, NULL);
        if (anx_stream_connect(hosts[i], peer.port, NULL, &stream, &err) != ANX_OK)
            fail_msg("%s: %s", hosts[i], err.message);
        snprintf(want, sizeof(want), "127.0.0.1:%u", peer.port);
        assert_string_equal(anx_stream_peer(stream)->text, want);
        assert_string_equal(anx_stream_peer(stream)->host, "127.0.0.1");
        assert_int_equal(anx_stream_peer(stream)->port, peer.port);
        assert_string_equal(anx_stream_local(stream)->host, "127.0.0.1");
        anx_stream_close(stream);
        peer_stop(&peer);
    }
    anx_stream_format(want, sizeof(want), "::1", 8998);
    assert_string_equal(want, "[::1]:8998");
    anx_stream_format(want, sizeof(want), "[::1]", 8998);
    assert_string_equal(want, "[::1]:8998");
    anx_stream_format(want, sizeof(want), "name", 8998);
    assert_string_equal(want, "name:8998");
}

static void
a_socket_pair_will_do(void **state)
{
    anx_stream *a;
    anx_stream *b;
    char text[8];
    int fds[2];

    (void) state;
    assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
    assert_int_equal(anx_stream_create(fds[0], NULL, &a, NULL), ANX_OK);
    assert_int_equal(anx_stream_create(fds[1], NULL, &b, NULL), ANX_OK);
    assert_string_equal(anx_stream_peer(a)->text, "local");
    assert_int_equal(anx_stream_write(a, "hello", 6, NULL), ANX_OK);
    assert_int_equal(anx_stream_flush(a, NULL), ANX_OK);
    assert_int_equal(anx_stream_read(b, text, 6, NULL), ANX_OK);
    assert_string_equal(text, "hello");
    assert_false(anx_stream_is_tls(a));
    anx_stream_close(a);
    anx_stream_close(b);
    anx_stream_close(NULL);
}

/* ---- TLS ---- */

static anx_status
shake(struct peer_identity *identity, const anx_tls_params *tls, anx_error *err)
{
    anx_stream *stream;
    struct peer peer;
    anx_status st;

    peer_listen(&peer, play_echo, NULL);
    peer.tls = identity->ctx;
    peer_run(&peer);
    stream = connect_to(&peer, NULL);
    st = anx_stream_tls_connect(stream, tls, err);
    if (st == ANX_OK) {
        char byte = 0;

        assert_int_equal(anx_stream_write(stream, "x", 1, NULL), ANX_OK);
        assert_int_equal(anx_stream_flush(stream, NULL), ANX_OK);
        assert_int_equal(anx_stream_read(stream, &byte, 1, NULL), ANX_OK);
        assert_int_equal(byte, 'x');
        assert_true(anx_stream_is_tls(stream));
        assert_string_equal(anx_stream_tls_version(stream), "TLSv1.3");
    }
    anx_stream_close(stream);
    if (st == ANX_OK)
        peer_stop(&peer);
    else
        peer_dismiss(&peer); /* a refused server complains, and rightly */
    return st;
}

static void
certificates_are_checked_as_asked(void **state)
{
    struct peer_identity identity;
    struct peer_identity other;
    anx_tls_params tls = { .verify = ANX_TLS_VERIFY_NONE };
    anx_error err;

    (void) state;
    peer_identity_make(&identity, "DNS:build.example,IP:127.0.0.1");
    peer_identity_make(&other, "DNS:other.example");
    assert_int_equal(shake(&identity, &tls, &err), ANX_OK);
    assert_int_equal(shake(&identity, NULL, &err), ANX_OK);

    tls = (anx_tls_params) { .verify = ANX_TLS_VERIFY_CA, .ca_file = identity.ca_file };
    assert_int_equal(shake(&identity, &tls, &err), ANX_OK);
    tls.ca_file = other.ca_file;
    assert_int_equal(shake(&identity, &tls, &err), ANX_E_TLS);
    assert_non_null(strstr(err.message, "the certificate of 127.0.0.1:"));
    tls.ca_file = NULL; /* the system does not know it */
    assert_int_equal(shake(&identity, &tls, &err), ANX_E_TLS);
    tls.ca_file = "/nonexistent/ca.pem";
    assert_int_equal(shake(&identity, &tls, &err), ANX_E_TLS);
    assert_non_null(strstr(err.message, "/nonexistent/ca.pem"));

    tls = (anx_tls_params) { .verify = ANX_TLS_VERIFY_FULL, .ca_file = identity.ca_file };
    assert_int_equal(shake(&identity, &tls, &err), ANX_OK); /* the address is in the certificate */
    tls.name = "build.example";
    assert_int_equal(shake(&identity, &tls, &err), ANX_OK);
    tls.name = "evil.example";
    assert_int_equal(shake(&identity, &tls, &err), ANX_E_TLS);
    assert_non_null(strstr(err.message, "mismatch"));
    tls.name = "127.0.0.2";
    assert_int_equal(shake(&identity, &tls, &err), ANX_E_TLS);
    peer_identity_free(&identity);
    peer_identity_free(&other);
}

static void
old_versions_of_tls_are_refused(void **state)
{
    struct peer_identity identity;
    anx_error err;

    (void) state;
    peer_identity_make(&identity, "DNS:localhost");
    SSL_CTX_set_min_proto_version(identity.ctx, TLS1_VERSION);
    SSL_CTX_set_max_proto_version(identity.ctx, TLS1_1_VERSION);
    assert_int_equal(shake(&identity, NULL, &err), ANX_E_TLS);
    peer_identity_free(&identity);
}

static void
play_hello(struct peer *self)
{
    int fd = peer_accept(self);

    peer_send(self, fd, "\1\0\0\0\1\0\0\0", 8); /* a plain server of version 1 speaks first */
    peer_close(self, fd);
}

static void
tls_to_a_plain_server_says_so(void **state)
{
    anx_stream_params params = { .connect_ms = 200 };
    anx_stream *stream;
    struct peer peer;
    anx_error err;

    (void) state;
    peer_start(&peer, play_hello, NULL);
    stream = connect_to(&peer, NULL);
    assert_int_equal(anx_stream_tls_connect(stream, NULL, &err), ANX_E_TLS);
    assert_non_null(strstr(err.hint, "not to use TLS"));
    anx_stream_close(stream);
    peer_stop(&peer);

    peer_start(&peer, play_silent, NULL);
    stream = connect_to(&peer, &params);
    assert_int_equal(anx_stream_tls_connect(stream, NULL, &err), ANX_E_TIMEOUT);
    assert_non_null(strstr(err.hint, "use TLS here?"));
    anx_stream_close(stream);
    peer_stop(&peer);

    peer_start(&peer, play_hang_up, NULL);
    stream = connect_to(&peer, NULL);
    assert_int_equal(anx_stream_tls_connect(stream, NULL, &err), ANX_E_TLS);
    anx_stream_close(stream);
    peer_stop(&peer);
}

struct accepting {
    int fd;
    SSL_CTX *ctx;
    anx_status st;
    anx_error err;
    uint8_t binding[ANX_STREAM_BINDING_SIZE];
    bool has_binding;
    size_t n_last; /* bytes that came before the end */
    anx_status last;
};

/* Our own server's side, in a thread. */
static void *
accept_tls(void *argument)
{
    struct accepting *self = argument;
    anx_stream_params params = { .connect_ms = 2000 };
    anx_stream *stream = NULL;
    uint8_t bytes[64];
    size_t n;

    self->st = anx_stream_create(self->fd, &params, &stream, &self->err);
    if (self->st == ANX_OK)
        self->st = anx_stream_tls_accept(stream, self->ctx, &self->err);
    if (self->st == ANX_OK) {
        self->has_binding = anx_stream_binding(stream, self->binding);
        /* What comes after the session tickets: a client that has read it closes without unread input. */
        self->st = anx_stream_write(stream, "!", 1, &self->err);
        if (self->st == ANX_OK)
            self->st = anx_stream_flush(stream, &self->err);
        do {
            self->last = anx_stream_read_some(stream, bytes, sizeof(bytes), &n, &self->err);
            self->n_last += n;
        } while (self->last == ANX_OK && n);
    }
    anx_stream_close(stream);
    return NULL;
}

static void
both_ends_share_a_binding_that_no_other_connection_has(void **state)
{
    uint8_t bindings[3][ANX_STREAM_BINDING_SIZE];
    struct peer_identity identity;

    (void) state;
    peer_identity_make(&identity, "DNS:localhost");
    for (int i = 0; i < 3; i++) {
        struct accepting server = { .ctx = identity.ctx };
        anx_stream *stream;
        pthread_t thread;
        uint8_t byte;
        int fds[2];

        if (i == 2)
            SSL_CTX_set_max_proto_version(identity.ctx, TLS1_2_VERSION);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        server.fd = fds[1];
        pthread_create(&thread, NULL, accept_tls, &server);
        assert_int_equal(anx_stream_create(fds[0], NULL, &stream, NULL), ANX_OK);
        assert_int_equal(anx_stream_tls_connect(stream, NULL, NULL), ANX_OK);
        assert_true(anx_stream_binding(stream, bindings[i]));
        assert_int_equal(anx_stream_read(stream, &byte, 1, NULL), ANX_OK);
        assert_int_equal(anx_stream_write(stream, "bytes", 5, NULL), ANX_OK);
        if (i == 0)
            anx_stream_linger(stream, 2000, 1000); /* with a farewell */
        else
            assert_int_equal(anx_stream_flush(stream, NULL), ANX_OK); /* without one */
        anx_stream_close(stream);
        pthread_join(thread, NULL);
        assert_int_equal(server.st, ANX_OK);
        assert_true(server.has_binding);
        assert_memory_equal(server.binding, bindings[i], ANX_STREAM_BINDING_SIZE);
        assert_int_equal(server.n_last, 5);
        assert_int_equal(server.last, ANX_OK); /* an end without a farewell is an end */
    }
    assert_memory_not_equal(bindings[0], bindings[1], ANX_STREAM_BINDING_SIZE);
    peer_identity_free(&identity);
}

static void
a_plain_client_of_a_tls_server_is_told_apart(void **state)
{
    static const char *const says[] = { "\x37\x33\x33\x13 plain INIT frame of version 1, not TLS at all",
                                        "GET / HTTP/1.1\r\nHost: x\r\n\r\n" };
    struct peer_identity identity;

    (void) state;
    peer_identity_make(&identity, "DNS:localhost");
    for (size_t i = 0; i < ANX_COUNT_OF(says); i++) {
        struct accepting server = { .ctx = identity.ctx };
        pthread_t thread;
        int fds[2];

        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        server.fd = fds[1];
        pthread_create(&thread, NULL, accept_tls, &server);
        assert_true(write(fds[0], says[i], strlen(says[i])) > 0);
        pthread_join(thread, NULL);
        close(fds[0]);
        assert_int_equal(server.st, ANX_E_TLS);
        assert_non_null(strstr(server.err.hint, "not to use TLS"));
    }
    peer_identity_free(&identity);
}

static void
running_out_of_memory_leaks_nothing(void **state)
{
    struct peer_identity identity;
    bool done = false;

    (void) state;
    peer_identity_make(&identity, "DNS:localhost");
    for (size_t nth = 1; !done; nth++) {
        struct accepting server = { .ctx = identity.ctx };
        struct test_alloc alloc;
        anx_stream_params params = { .alloc = &alloc.alloc };
        anx_stream *stream;
        pthread_t thread;
        anx_status st;
        int fds[2];

        test_alloc_init(&alloc, nth);
        assert_int_equal(socketpair(AF_UNIX, SOCK_STREAM, 0, fds), 0);
        server.fd = fds[1];
        pthread_create(&thread, NULL, accept_tls, &server);
        st = anx_stream_create(fds[0], &params, &stream, NULL);
        if (st == ANX_OK)
            st = anx_stream_tls_connect(stream, NULL, NULL);
        anx_stream_close(stream);
        pthread_join(thread, NULL);
        assert_true(st == ANX_OK || st == ANX_E_NOMEM);
        assert_int_equal(test_alloc_live(&alloc), 0);
        done = st == ANX_OK;
    }
    peer_identity_free(&identity);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(large_amounts_go_both_ways_at_once),
        TEST(one_byte_segments_are_put_together),
        TEST(writes_of_every_size_keep_their_order),
        TEST(silence_has_a_limit_in_both_directions),
        TEST(a_deadline_ends_a_peer_that_sends_a_byte_at_a_time),
        TEST(waking_ends_a_wait_and_the_stream_can_still_speak),
        TEST(every_wait_goes_through_the_callers_function),
        TEST(a_peer_that_is_gone_raises_no_signal),
        TEST(last_words_reach_a_peer_that_is_still_sending),
        TEST(lingering_has_limits),
        TEST(a_refused_connection_names_every_address),
        TEST(all_addresses_of_a_name_are_tried),
        TEST(a_socket_pair_will_do),
        TEST(certificates_are_checked_as_asked),
        TEST(old_versions_of_tls_are_refused),
        TEST(tls_to_a_plain_server_says_so),
        TEST(both_ends_share_a_binding_that_no_other_connection_has),
        TEST(a_plain_client_of_a_tls_server_is_told_apart),
        TEST(running_out_of_memory_leaks_nothing),
    };

    /* OpenSSL opens what it needs (random numbers, configuration) once and keeps it: before anybody counts.
     */
    SSL_CTX_free(SSL_CTX_new(TLS_method()));
    EVP_PKEY_free(EVP_EC_gen("P-256"));
    return cmocka_run_group_tests_name("indexing_stream", tests, NULL, NULL);
}
