/* The client of the indexing server in version 1 of the protocol, and what both versions share: choice of the
 * version, routers, cancelling, memory. The server is a thread of the test that plays one part after the
 * other of a session, and one thing wrong. Version 2 is in test_indexing_client2.c, the real server in
 * test_indexing.c. */
#include "test_indexing_script1.h"

#include <stdlib.h>

static struct result result;

static void
run_example(struct script *script, size_t segment, void (*change)(anx_indexing_params *))
{
    anx_indexing_params params;
    struct peer peer;

    peer_listen(&peer, play_v1, script);
    peer.segment = segment;
    peer_run(&peer);
    params = example_params(&peer);
    if (change)
        change(&params);
    build(&params, 3, labels, vectors, 100, &result);
    peer_stop(&peer);
}

static void
any_protocol(anx_indexing_params *params)
{
    params->protocol = 0;
}

/* ---- the good cases ---- */

static void
the_product_pages_session_byte_for_byte(void **state)
{
    static const uint8_t want[112] = "\x37\x33\x33\x13\0\0\0\0\1\0\0\0\1\0\0\0\3\0\0\0\x0c\0\0\0\x40\0\0\0"
                                     "\x40\0\0\0\0\0\0\0\0\0\0\0\3\0\0\0\x20\0\0\0"
                                     "\0\0\0\0\1\0\0\0\0\0\0\0\0\0\0\0\0\0\0\0"
                                     "\0\0\0\0\2\0\0\0\0\0\0\0\0\0\x80\x3f\0\0\0\0"
                                     "\0\0\0\0\3\0\0\0\0\0\x80\x3f\0\0\0\0\0\0\0\0"
                                     "\x37\x33\x33\x31";
    static const size_t segments[] = { 0, 1, 3 };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(segments); i++) {
        uint8_t got[200];
        struct script script = example_script(got, sizeof(got));

        run_example(&script, segments[i], NULL);
        if (result.st != ANX_OK)
            fail_msg("%s", result.err.message);
        assert_int_equal(script.n_got, sizeof(want));
        assert_memory_equal(got, want, sizeof(want));
        assert_int_equal(result.index.count, 3);
        assert_int_equal(result.n, sizeof(example_file));
        assert_memory_equal(result.file, example_file, sizeof(example_file));
        assert_int_equal(result.version, 1);
    }
}

static void
a_server_that_never_closes_is_not_waited_for(void **state)
{
    uint8_t got[200];
    struct script script = example_script(got, sizeof(got));
    uint64_t began = anx_clock_ns();

    (void) state;
    script.silent_at = AT_CLOSE;
    run_example(&script, 0, NULL);
    assert_int_equal(result.st, ANX_OK);
    assert_true(peer_seconds_since(began) < 2);
}

static void
an_original_server_is_recognized(void **state)
{
    uint8_t got[200];
    struct script script = example_script(got, sizeof(got));

    (void) state;
    script.is_original = true;
    run_example(&script, 0, any_protocol);
    if (result.st != ANX_OK)
        fail_msg("%s", result.err.message);
    assert_int_equal(result.version, 1);
    assert_int_equal(atomic_load(&script.n_connections), 2);
    assert_memory_equal(result.file, example_file, sizeof(example_file));
}

static void
only_version_2(anx_indexing_params *params)
{
    params->protocol = 2;
}

static void
with_token(anx_indexing_params *params)
{
    params->protocol = 0;
    params->token = "secret";
    params->token_size = 6;
}

/* Nobody in between can talk a client with a token down to version 1. */
static void
version_1_is_not_fallen_back_to_against_the_callers_will(void **state)
{
    static const struct {
        void (*change)(anx_indexing_params *);
        anx_status want;
        const char *text;
    } cases[] = {
        { only_version_2, ANX_E_VERSION, "speaks only version 1" },
        { with_token, ANX_E_AUTH, "cannot carry the token" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        static const char answer[] = "\x37\x33\x33\x37\x16\0\0\0Invalid message header";
        uint8_t got[200];
        struct script script = example_script(got, sizeof(got));
        anx_indexing_params params;
        struct peer peer;

        script.wrong_at = AT_ACK; /* of what it takes for INIT */
        script.wrong = answer;
        script.n_wrong = sizeof(answer) - 1;
        peer_start(&peer, play_v1, &script);
        params = example_params(&peer);
        params.hello_ms = 200; /* the script says nothing: it waits for the rest of an INIT */
        cases[i].change(&params);
        build(&params, 3, labels, vectors, 100, &result);
        peer_dismiss(&peer); /* it complains that no INIT came */
        assert_int_equal(result.st, cases[i].want);
        assert_non_null(strstr(result.err.message, cases[i].text));
        assert_int_equal(atomic_load(&script.n_connections), 1);
    }
}

/* The sessions that were recorded between the original programs: the client must send what the original
 * extension sent, byte for byte, and take what the original server answered. */
static void
recorded_sessions_are_repeated(void **state)
{
    static const char *const names[] = { "cos_f32", "cos_i8", "hamming", "l2sq_f16", "l2sq_f32", "one_row" };
    static uint8_t sent[1 << 17];
    static uint8_t said[1 << 17];
    static uint8_t got[1 << 17];
    static uint8_t rows[1 << 17];
    static uint64_t row_labels[1000];
    const char *root = getenv("ANX_SOURCE_ROOT");

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(names); i++) {
        struct script script = { .got = got, .got_capacity = sizeof(got) };
        anx_indexing_params params;
        struct peer peer;
        anx_wire_job job;
        size_t n_sent;
        size_t n_said;
        size_t vector_size;
        size_t n = 0;
        char path[512];
        FILE *file;

        snprintf(path, sizeof(path), "%s/../shared/golden/lantern/%s.client", root ? root : ".", names[i]);
        file = fopen(path, "rb");
        if (!file)
            skip(); /* the recordings are not part of the tree */
        n_sent = fread(sent, 1, sizeof(sent), file);
        fclose(file);
        snprintf(path, sizeof(path), "%s/../shared/golden/lantern/%s.server", root ? root : ".", names[i]);
        file = fopen(path, "rb");
        assert_non_null(file);
        n_said = fread(said, 1, sizeof(said), file);
        fclose(file);

        assert_int_equal(anx_wire_init_decode(sent, &job, NULL), ANX_OK);
        assert_int_equal(anx_wire_job_check(&job, NULL), ANX_OK);
        vector_size = anx_wire_vector_size(&job);
        for (size_t at = 48; at + 4 < n_sent; at += 8 + vector_size, n++) {
            row_labels[n] = anx_load_le(sent + at, 8);
            memcpy(rows + n * vector_size, sent + at + 8, vector_size);
        }
        script.n_expected = n_sent;
        script.count = anx_load_le(said + 9, 8);
        script.size = anx_load_le(said + 17, 8);
        script.file = said + 25;
        assert_int_equal(25 + script.size, n_said);

        peer_listen(&peer, play_v1, &script);
        peer.segment = i % 2 ? 0 : 7;
        peer_run(&peer);
        params = example_params(&peer);
        params.job = job;
        build(&params, n, row_labels, rows, 8192, &result);
        peer_stop(&peer);
        if (result.st != ANX_OK)
            fail_msg("%s: %s", names[i], result.err.message);
        assert_int_equal(script.n_got, n_sent);
        assert_memory_equal(got, sent, n_sent);
        assert_int_equal(result.index.count, n);
        assert_int_equal(result.n, script.size);
        assert_memory_equal(result.file, said + 25, script.size);
    }
}

/* ---- what servers do wrong ---- */

static void
errors_arrive_from_every_place(void **state)
{
    static const enum stage stages[] = { AT_HELLO, AT_ACK, AT_ROWS, AT_COUNT, AT_SIZE, AT_FILE };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(stages); i++)
        for (size_t segment = 0; segment < 2; segment++) {
            uint8_t got[200];
            struct script script = example_script(got, sizeof(got));

            script.wrong_at = stages[i];
            script.wrong = ERROR_FRAME;
            script.n_wrong = ERROR_FRAME_SIZE;
            run_example(&script, segment, NULL);
            if (result.st != ANX_E_NETWORK ||
                strcmp(result.err.message, "external index error: disk is full"))
                fail_msg("stage %d: status %d, %s", (int) stages[i], result.st, result.err.message);
        }
}

static void
wrong_answers_are_errors(void **state)
{
    static const struct {
        const char *name;
        enum stage at;
        const char *bytes;
        size_t n;
        anx_status want;
        const char *text;
    } cases[] = {
        { "another version", AT_HELLO, "\2\0\0\0\1\0\0\0", 8, ANX_E_VERSION, "server version: 2" },
        { "another type", AT_HELLO, "\1\0\0\0\7\0\0\0", 8, ANX_E_CORRUPT, "type 7" },
        { "half a hello", AT_HELLO, "\1\0\0\0\1", 5, ANX_E_NETWORK, "no greeting" },
        { "no hello", AT_HELLO, "", 0, ANX_E_NETWORK, "no greeting" },
        { "a strange ack", AT_ACK, "\1\0\0\0\0\0\0\0\0", 9, ANX_E_CORRUPT, "error frame" },
        { "half an error", AT_ACK, "\x37\x33\x33\x37\xff\0\0\0half", 12, ANX_E_NETWORK, "error: half" },
        { "an endless error", AT_ACK, "\x37\x33\x33\x37\xff\xff\xff\xff", 8, ANX_E_LIMIT, "4294967295" },
        { "an empty error", AT_ACK, "\x37\x33\x33\x37\0\0\0\0", 8, ANX_E_NETWORK, "no reason" },
        { "an error with control characters", AT_ACK, "\x37\x33\x33\x37\4\0\0\0a\n\x1b[", 12, ANX_E_NETWORK,
          "error: a  [" },
        { "closed at the ack", AT_ACK, "", 0, ANX_E_NETWORK, "closed the connection" },
        { "closed after END", AT_COUNT, "", 0, ANX_E_NETWORK, "closed the connection" },
        { "something among rows", AT_ROWS, "\0\0\0\0\0\0\0\0", 8, ANX_E_CORRUPT, "" },
        { "more rows than sent", AT_COUNT, "\4\0\0\0\0\0\0\0\x86\2\0\0\0\0\0\0", 16, ANX_E_CORRUPT,
          "index has 4 rows, 3 were sent" },
        { "fewer rows than sent", AT_COUNT, "\2\0\0\0\0\0\0\0\xdc\1\0\0\0\0\0\0", 16, ANX_E_CORRUPT,
          "index has 2 rows, 3 were sent" },
        { "an absurd count", AT_COUNT, "\xff\xff\xff\xff\xff\xff\xff\xff\x86\2\0\0\0\0\0\0", 16,
          ANX_E_CORRUPT, "" },
        { "an absurd size", AT_SIZE, "\xff\xff\xff\xff\xff\xff\xff\xff", 8, ANX_E_CORRUPT, "" },
        { "a size too small", AT_SIZE, "\x85\2\0\0\0\0\0\0", 8, ANX_E_CORRUPT, "645 bytes for 3 rows" },
        { "no size", AT_SIZE, "\x86\2\0\0", 4, ANX_E_NETWORK, "closed" },
        { "a file cut short", IN_FILE, "", 0, ANX_E_NETWORK, "after 323 of 646 bytes" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        uint8_t got[200];
        struct script script = example_script(got, sizeof(got));

        script.wrong_at = cases[i].at;
        script.wrong = cases[i].bytes;
        script.n_wrong = cases[i].n;
        run_example(&script, 0, NULL);
        if (result.st != cases[i].want || !strstr(result.err.message, cases[i].text))
            fail_msg("%s: status %d, %s", cases[i].name, result.st, result.err.message);
    }
}

static void
may_miss(anx_indexing_params *params)
{
    params->allow_missing_rows = true;
}

static void
missing_rows_pass_only_when_allowed(void **state)
{
    uint8_t got[200];
    struct script script = example_script(got, sizeof(got));

    (void) state;
    script.count = 2;
    script.size = 136 + 2 * 170;
    run_example(&script, 0, may_miss);
    assert_int_equal(result.st, ANX_OK);
    assert_int_equal(result.index.count, 2);
    assert_int_equal(result.n, script.size);
}

static void
labels_that_read_like_commands_are_refused(void **state)
{
    static const uint64_t bad[] = { 0x31333337u, 0x13333337u, 0x500001333333700u | 0x37u };

    (void) state;
    for (size_t i = 0; i < 2; i++) {
        uint8_t got[200];
        struct script script = example_script(got, sizeof(got));
        anx_indexing_params params;
        struct peer peer;

        script.silent_at = AT_ROWS;
        peer_start(&peer, play_v1, &script);
        params = example_params(&peer);
        build(&params, 1, &bad[i], vectors, 100, &result);
        peer_stop(&peer);
        assert_int_equal(result.st, ANX_E_VALUE);
        assert_non_null(strstr(result.err.message, "begins like a command"));
    }
}

/* ---- life signs ---- */

/* Counts reads until END, so that the dribble can be seen. */
static void
play_counting(struct peer *self)
{
    struct script *script = self->context;
    uint8_t hello[ANX_WIRE_V1_HELLO_SIZE];
    int fd = peer_accept(self);

    anx_wire_hello_encode(hello, ANX_WIRE_INDEXER);
    peer_send(self, fd, hello, sizeof(hello));
    peer_recv(self, fd, script->got, ANX_WIRE_V1_INIT_SIZE);
    script->n_got = ANX_WIRE_V1_INIT_SIZE;
    peer_send(self, fd, "", 1);
    while (script->n_got < script->n_expected) {
        size_t n = peer_recv_some(self, fd, script->got + script->n_got, script->n_expected - script->n_got);

        if (!n)
            break;
        script->n_got += n;
        atomic_fetch_add(&script->n_connections, 1); /* here: reads */
    }
    play_rest(self, fd);
}

/* An original server gives a silent client up after ten seconds; a row kept back is sent byte by byte. */
static void
a_row_kept_back_keeps_an_original_server_patient(void **state)
{
    uint8_t got[200];
    struct script script = example_script(got, sizeof(got));
    anx_indexing_client *client;
    anx_indexing_params params;
    anx_indexing_info info;
    uint64_t bytes_out = 0;
    struct peer peer;
    size_t n_sign = 0;
    uint64_t began;
    size_t n;

    (void) state;
    peer_start(&peer, play_counting, &script);
    params = example_params(&peer);
    params.life_sign_ms = 5;
    assert_int_equal(anx_indexing_open(&params, &client, NULL), ANX_OK);
    assert_int_equal(anx_indexing_keep_alive(client, NULL), ANX_OK); /* nothing to say yet */
    assert_int_equal(anx_indexing_rows(client, 3, labels, vectors, NULL), ANX_OK);
    began = anx_clock_ns();
    /* 60 bytes: 44 at once (two rows and the first four bytes of the third), then one at a time but the last.
     */
    while (n_sign < 16 && peer_seconds_since(began) < 10) {
        assert_int_equal(anx_indexing_keep_alive(client, NULL), ANX_OK);
        anx_indexing_get_info(client, &info);
        n_sign += info.bytes_out != bytes_out;
        bytes_out = info.bytes_out;
    }
    assert_int_equal(n_sign, 16);
    assert_int_equal(bytes_out, 48 + 59);
    while (peer_seconds_since(began) < 10 && anx_indexing_keep_alive(client, NULL) == ANX_OK &&
           anx_clock_ns() - began < 100000000u)
        ;
    anx_indexing_get_info(client, &info);
    assert_int_equal(info.bytes_out,
                     48 + 59); /* the last byte would complete the row: it waits for more rows */
    assert_int_equal(anx_indexing_finish(client, &result.index, &result.err), ANX_OK);
    assert_int_equal(anx_indexing_read(client, result.file, sizeof(result.file), &n, NULL), ANX_OK);
    anx_indexing_close(client);
    peer_stop(&peer);
    assert_int_equal(script.n_got, script.n_expected);
    assert_memory_equal(got + 48, labels, 8);
    assert_memory_equal(got + 48 + 56, vectors + 8, 4);
    assert_memory_equal(got + 108, "\x37\x33\x33\x31", 4);
}

/* ---- routers ---- */

struct routing {
    struct script script; /* of the server at the end */
    struct peer server;
    unsigned n_routers; /* hops before it; the same listener plays them all */
    const void *wrong;  /* instead of an address */
    size_t n_wrong;
};

static void
play_router(struct peer *self)
{
    struct routing *routing = self->context;

    for (unsigned i = 0; i < routing->n_routers; i++) {
        bool is_last = i + 1 == routing->n_routers;
        anx_wire_route route = { .port = is_last && routing->server.port ? routing->server.port : self->port,
                                 .host = "127.0.0.1" };
        uint8_t bytes[ANX_WIRE_V1_ROUTE_MAX];
        int fd = peer_accept(self);
        size_t n;

        anx_wire_hello_encode(bytes, ANX_WIRE_ROUTER);
        peer_send(self, fd, bytes, ANX_WIRE_V1_HELLO_SIZE);
        peer_recv(self, fd, bytes, 4);
        if (anx_wire_first_of(bytes) != ANX_WIRE_FIRST_ROUTER)
            peer_fail(self, "the client did not ask the router");
        n = anx_wire_route_encode(bytes, &route);
        if (routing->wrong)
            peer_send(self, fd, routing->wrong, routing->n_wrong);
        else
            peer_send(self, fd, bytes, n);
        peer_close(self, fd);
    }
}

static size_t n_routed_notices;
static size_t n_connecting_notices;

static void
count_notices(void *context, const anx_indexing_notice *notice)
{
    (void) context;
    n_routed_notices += notice->event == ANX_INDEXING_ROUTED;
    n_connecting_notices += notice->event == ANX_INDEXING_CONNECTING;
}

static void
run_routing(struct routing *routing, size_t segment)
{
    anx_indexing_params params;
    struct peer router;

    n_routed_notices = 0;
    n_connecting_notices = 0;
    peer_listen(&router, play_router, routing);
    router.segment = segment;
    peer_run(&router);
    params = example_params(&router);
    params.notice = count_notices;
    build(&params, 3, labels, vectors, 100, &result);
    peer_stop(&router);
}

static void
routers_are_followed_but_not_for_ever(void **state)
{
    uint8_t got[200];

    (void) state;
    for (unsigned n = 1; n <= 5; n++) {
        struct routing routing = { .script = example_script(got, sizeof(got)), .n_routers = n };

        if (n < 5) /* the fifth is not asked where to go */
            peer_start(&routing.server, play_v1, &routing.script);
        run_routing(&routing, n == 2 ? 1 : 0);
        if (n < 5) {
            peer_stop(&routing.server);
            if (result.st != ANX_OK)
                fail_msg("%u routers: %s", n, result.err.message);
            assert_int_equal(n_routed_notices, n);
            assert_int_equal(n_connecting_notices, n + 1);
        } else {
            assert_int_equal(result.st, ANX_E_LIMIT);
            assert_non_null(strstr(result.err.message, "routers in a row"));
        }
    }
}

static void
wrong_addresses_of_routers_are_errors(void **state)
{
    static const struct {
        const char *bytes;
        size_t n;
        anx_status want;
        const char *text;
    } cases[] = {
        { "\0\0\0\0\xff\xff\xff\xff", 8, ANX_E_LIMIT, "4294967295 bytes" },
        { "\0\0\0\0\0\0\0\0\0\0\0\0", 12, ANX_E_LIMIT, "0 bytes" },
        { "\2\0\0\0\1\0\0\0x\1\0\0\0", 13, ANX_E_CORRUPT, "TLS flag 2" },
        { "\0\0\0\0\1\0\0\0\n\1\0\0\0", 13, ANX_E_CORRUPT, "byte 0x0a" },
        { "\0\0\0\0\1\0\0\0x\0\0\0\0", 13, ANX_E_CORRUPT, "port 0" },
        { "\0\0\0\0\1\0", 6, ANX_E_NETWORK, "closed" },
        { ERROR_FRAME, ERROR_FRAME_SIZE, ANX_E_NETWORK, "external index error: disk is full" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(cases); i++) {
        struct routing routing = { .n_routers = 1, .wrong = cases[i].bytes, .n_wrong = cases[i].n };

        run_routing(&routing, 0);
        if (result.st != cases[i].want || !strstr(result.err.message, cases[i].text))
            fail_msg("case %zu: status %d, %s", i, result.st, result.err.message);
    }
}

/* ---- cancelling ---- */

struct canceller {
    struct script *script;
    uint64_t since_ns; /* when the script fell silent, as the hook saw it */
};

/* A database's wait: looks at its latch at least every 50 ms, and is cancelled once the server is silent. */
static anx_status
cancel_when_silent(void *context, int fd, short events, int timeout_ms, short *ready, anx_error *err)
{
    struct canceller *self = context;
    struct pollfd p = { .fd = fd, .events = events };

    (void) timeout_ms;
    *ready = 0;
    if (poll(&p, 1, 10) > 0) {
        *ready = p.revents;
        return ANX_OK;
    }
    if (!atomic_load(&self->script->is_silent))
        return ANX_OK;
    if (!self->since_ns)
        self->since_ns = anx_clock_ns();
    return anx_fail(err, ANX_E_CANCELLED, "canceling statement due to statement timeout");
}

/* Streams rows until something happens. */
static anx_status
stream_for_ever(const anx_indexing_params *params, anx_error *err)
{
    anx_indexing_client *client;
    anx_wire_index index;
    anx_status st = anx_indexing_open(params, &client, err);
    uint8_t byte;
    size_t n;

    for (size_t i = 0; st == ANX_OK && i < 30000000; i++)
        st = anx_indexing_rows(client, 3, labels, vectors, err);
    if (st == ANX_OK)
        st = anx_indexing_finish(client, &index, err);
    if (st == ANX_OK)
        st = anx_indexing_read(client, &byte, 1, &n, err);
    anx_indexing_close(client);
    return st;
}

static void
cancelling_works_in_every_phase(void **state)
{
    static const enum stage stages[] = { AT_HELLO, AT_ACK, AT_ROWS, AT_COUNT, AT_SIZE, AT_FILE, IN_FILE };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(stages); i++) {
        uint8_t got[200];
        struct script script = example_script(got, sizeof(got));
        struct canceller canceller = { .script = &script };
        anx_indexing_params params;
        struct peer peer;
        uint64_t began;

        script.silent_at = stages[i];
        peer_start(&peer, play_v1, &script);
        params = example_params(&peer);
        params.wait = cancel_when_silent;
        params.wait_context = &canceller;
        params.idle_ms = -1;
        params.hello_ms = 10000;
        began = anx_clock_ns();
        if (stages[i] == AT_ROWS)
            result.st = stream_for_ever(&params, &result.err);
        else
            build(&params, 3, labels, vectors, 100, &result);
        if (result.st != ANX_E_CANCELLED || !strstr(result.err.message, "statement timeout"))
            fail_msg("stage %d: status %d, %s", (int) stages[i], result.st, result.err.message);
        assert_true(peer_seconds_since(began) < 10);
        assert_true(peer_seconds_since(canceller.since_ns) < 1);
        peer_stop(&peer);
    }
}

static void
silence_ends_by_itself_where_it_must(void **state)
{
    static const enum stage stages[] = { AT_HELLO, AT_ACK, IN_FILE };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(stages); i++) {
        uint8_t got[200];
        struct script script = example_script(got, sizeof(got));
        anx_indexing_params params;
        struct peer peer;

        script.silent_at = stages[i];
        peer_start(&peer, play_v1, &script);
        params = example_params(&peer);
        params.hello_ms = 100;
        params.idle_ms = 100;
        build(&params, 3, labels, vectors, 100, &result);
        assert_int_equal(result.st, ANX_E_TIMEOUT);
        if (stages[i] == AT_HELLO)
            assert_non_null(strstr(result.err.hint, "expect TLS?"));
        peer_stop(&peer);
    }
}

/* ---- the rest ---- */

static void
a_server_that_stops_reading_and_says_why_is_heard(void **state)
{
    uint8_t got[200];
    struct script script = example_script(got, sizeof(got));
    anx_indexing_params params;
    struct peer peer;
    anx_error err;

    (void) state;
    script.wrong_at = AT_ROWS;
    script.wrong = ERROR_FRAME;
    script.n_wrong = ERROR_FRAME_SIZE;
    peer_start(&peer, play_v1, &script);
    params = example_params(&peer);
    assert_int_equal(stream_for_ever(&params, &err), ANX_E_NETWORK);
    assert_string_equal(err.message, "external index error: disk is full");
    peer_stop(&peer);
}

static void
secure(anx_indexing_params *params)
{
    params->is_secure = true;
}

static void
version_1_under_tls(void **state)
{
    struct peer_identity identity;
    uint8_t got[200];
    struct script script = example_script(got, sizeof(got));
    anx_indexing_params params;
    struct peer peer;

    (void) state;
    peer_identity_make(&identity, "DNS:localhost");
    peer_listen(&peer, play_v1, &script);
    peer.tls = identity.ctx;
    peer_run(&peer);
    params = example_params(&peer);
    secure(&params);
    build(&params, 3, labels, vectors, 100, &result);
    peer_stop(&peer);
    assert_int_equal(result.st, ANX_OK);
    assert_memory_equal(result.file, example_file, sizeof(example_file));
    peer_identity_free(&identity);
}

static void
wrong_parameters_never_reach_the_network(void **state)
{
    struct peer nobody = { .port = 1 };
    anx_indexing_client *client;
    anx_indexing_params params;
    anx_error err;

    (void) state;
#define WITH(change, want)                                               \
    params = example_params(&nobody);                                    \
    change;                                                              \
    assert_int_equal(anx_indexing_open(&params, &client, &err), (want)); \
    assert_null(client)
    WITH(params.host = NULL, ANX_E_INVALID);
    WITH(params.host = "", ANX_E_INVALID);
    WITH(params.port = 0, ANX_E_INVALID);
    WITH(params.port = 65536, ANX_E_INVALID);
    WITH(params.protocol = 3, ANX_E_INVALID);
    WITH(params.token_size = 5000; params.token = example_file, ANX_E_INVALID);
    WITH(params.token_size = 5; params.token = "12345", ANX_E_UNSUPPORTED); /* with protocol 1 */
    WITH(params.job.dim = 0, ANX_E_INVALID);
    WITH(params.job.metric = 7, ANX_E_INVALID);
    WITH(params.job.has_pq = true, ANX_E_INVALID); /* no codebook */
    WITH(params.job.has_pq = true; params.protocol = 2, ANX_E_UNSUPPORTED);
    WITH(params.port = 1, ANX_E_NETWORK); /* right, but nobody listens */
#undef WITH
}

static void
calls_in_the_wrong_order_are_refused(void **state)
{
    uint8_t got[200];
    struct script script = example_script(got, sizeof(got));
    anx_indexing_client *client;
    anx_indexing_params params;
    anx_wire_index index;
    struct peer peer;
    uint8_t bytes[10];
    size_t n;

    (void) state;
    peer_start(&peer, play_v1, &script);
    params = example_params(&peer);
    assert_int_equal(anx_indexing_open(&params, &client, NULL), ANX_OK);
    assert_int_equal(anx_indexing_read(client, bytes, sizeof(bytes), &n, NULL), ANX_E_STATE);
    assert_int_equal(anx_indexing_rows(client, 3, labels, vectors, NULL), ANX_OK);
    assert_int_equal(anx_indexing_finish(client, &index, NULL), ANX_OK);
    assert_int_equal(anx_indexing_rows(client, 3, labels, vectors, NULL), ANX_E_STATE);
    assert_int_equal(anx_indexing_finish(client, &index, NULL), ANX_E_STATE);
    assert_int_equal(anx_indexing_keep_alive(client, NULL), ANX_E_STATE);
    anx_indexing_close(client); /* in the middle */
    anx_indexing_close(NULL);
    peer_stop(&peer);
}

static void
a_codebook_goes_to_servers_that_want_one(void **state)
{
    static const float codebook[6] = { 1, 2, 3, 4, 5, 6 };
    uint8_t got[200];
    struct script script = { .got = got, .got_capacity = sizeof(got), .n_expected = 48 + 28 };
    anx_indexing_params params;
    struct peer peer;

    (void) state;
    script.wrong_at =
        AT_COUNT; /* it does not come to that: the peer reads the codebook where rows would be */
    peer_start(&peer, play_v1, &script);
    params = example_params(&peer);
    params.job.has_pq = true;
    params.job.n_centroids = 2;
    params.job.n_subq = 3;
    params.codebook = codebook;
    build(&params, 0, NULL, NULL, 100, &result);
    peer_stop(&peer);
    assert_memory_equal(got + 48, codebook, sizeof(codebook));
    assert_memory_equal(got + 72, "\x37\x33\x33\x31", 4);
    assert_int_equal(anx_load_le(got + 4, 4), 1);
    assert_int_equal(anx_load_le(got + 32, 4), 2);
    assert_int_equal(anx_load_le(got + 36, 4), 3);
}

static void
running_out_of_memory_leaks_nothing(void **state)
{
    bool done = false;

    (void) state;
    for (size_t nth = 1; !done; nth++) {
        uint8_t got[200];
        struct script script = example_script(got, sizeof(got));
        struct test_alloc alloc;
        anx_indexing_params params;
        struct peer peer;

        test_alloc_init(&alloc, nth);
        peer_listen(&peer, play_v1, &script);
        params = example_params(&peer);
        params.alloc = &alloc.alloc;
        params.tls.name = "name";
        params.tls.ca_file = "file";
        if (nth == 1) {
            anx_indexing_client *client;

            assert_int_equal(anx_indexing_open(&params, &client, NULL), ANX_E_NOMEM);
            close(peer.listen_fd);
            continue;
        }
        peer_run(&peer);
        build(&params, 3, labels, vectors, 100, &result);
        done = result.st == ANX_OK;
        if (!done) {
            /* The peer may be waiting for a client that never came. */
            int fd = socket(AF_INET, SOCK_STREAM, 0);
            struct sockaddr_in address = { .sin_family = AF_INET, .sin_port = htons((uint16_t) peer.port),
                                           .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };

            assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
            close(fd);
            peer_dismiss(&peer);
            assert_int_equal(result.st, ANX_E_NOMEM);
        } else {
            peer_stop(&peer);
        }
        assert_int_equal(test_alloc_live(&alloc), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(the_product_pages_session_byte_for_byte),
        TEST(a_server_that_never_closes_is_not_waited_for),
        TEST(an_original_server_is_recognized),
        TEST(version_1_is_not_fallen_back_to_against_the_callers_will),
        TEST(recorded_sessions_are_repeated),
        TEST(errors_arrive_from_every_place),
        TEST(wrong_answers_are_errors),
        TEST(missing_rows_pass_only_when_allowed),
        TEST(labels_that_read_like_commands_are_refused),
        TEST(a_row_kept_back_keeps_an_original_server_patient),
        TEST(routers_are_followed_but_not_for_ever),
        TEST(wrong_addresses_of_routers_are_errors),
        TEST(cancelling_works_in_every_phase),
        TEST(silence_ends_by_itself_where_it_must),
        TEST(a_server_that_stops_reading_and_says_why_is_heard),
        TEST(version_1_under_tls),
        TEST(wrong_parameters_never_reach_the_network),
        TEST(calls_in_the_wrong_order_are_refused),
        TEST(a_codebook_goes_to_servers_that_want_one),
        TEST(running_out_of_memory_leaks_nothing),
    };

    SSL_CTX_free(SSL_CTX_new(TLS_method())); /* opens what it keeps open, before anybody counts */
    EVP_PKEY_free(EVP_EC_gen("P-256"));
    return cmocka_run_group_tests_name("indexing_client", tests, NULL, NULL);
}
