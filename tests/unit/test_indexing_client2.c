/* The client of the indexing server in version 2: a whole session, the token, every byte of the server's
 * words flipped, the connection cut after every byte, frames out of order, cancelling, resume. The server is
 * a thread of the test (test_indexing_script2.h). */
#include "test_indexing_script2.h"

/* ---- whole sessions ---- */

static void
a_session_by_the_book(void **state)
{
    static const size_t segments[] = { 0, 1, 5 };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(segments); i++) {
        setup(NULL);
        run(NULL, segments[i], NULL);
        expect(ANX_OK, "");
        assert_int_equal(script.n_row, N_ROW);
        assert_int_equal(script.n_end, N_ROW);
        assert_memory_equal(script.labels, labels, sizeof(labels));
        assert_memory_equal(script.vectors, vectors, sizeof(vectors));
        assert_string_equal(script.job.name, "docs_v_idx");
        assert_true(script.job.dim == DIM && script.job.m == 12 && script.job.is_plain);
        assert_string_equal(result.program, "script 1");
        assert_int_equal(result.info.version, 2);
        assert_int_equal(result.info.idle_timeout_s, 60);
        assert_int_equal(result.n_notices[ANX_INDEXING_QUEUED], 2);
        assert_int_equal(result.n_notices[ANX_INDEXING_READY], 1);
        assert_int_equal(result.n_notices[ANX_INDEXING_BUILD], 2);
        assert_int_equal(result.n_notices[ANX_INDEXING_CONNECTING], 1);
        assert_false(script.got_cancel || script.got_error);
        assert_true(script.got_receipt);
    }
}

static void
either_protocol(anx_indexing_params *params)
{
    params->protocol = 0;
}

/* A full house greets original clients as a router; a client of version 2 is welcome all the same. */
static void
version_2_is_preferred_also_behind_a_routers_greeting(void **state)
{
    (void) state;
    script.hello_type = ANX_WIRE_ROUTER;
    run(either_protocol, 0, NULL);
    expect(ANX_OK, "");
    assert_int_equal(result.info.version, 2);
}

/* Many small calls and few large ones fill frames to the limit and no further. */
static void
batches_of_any_size_arrive_in_order(void **state)
{
    enum { N = 50000 };
    static uint64_t many_labels[N];
    static float many[N * DIM];
    anx_indexing_client *client;
    anx_indexing_params params;
    struct peer peer;
    anx_wire_index index;

    (void) state;
    for (size_t i = 0; i < N; i++) {
        many_labels[i] = i;
        for (size_t d = 0; d < DIM; d++)
            many[i * DIM + d] = (float) (i + d);
    }
    for (size_t step = 1; step <= N; step = step * 9 + 1) {
        setup(NULL);
        peer_start(&peer, play_v2, &script);
        params = example_params(&peer);
        assert_int_equal(anx_indexing_open(&params, &client, NULL), ANX_OK);
        for (size_t i = 0; i < N; i += step)
            assert_int_equal(
                anx_indexing_rows(client, N - i < step ? N - i : step, many_labels + i, many + i * DIM, NULL),
                ANX_OK);
        /* The script keeps 64 rows, so the count that it announces is another one. */
        assert_int_equal(anx_indexing_finish(client, &index, &result.err), ANX_E_CORRUPT);
        assert_non_null(strstr(result.err.message, "index has 64 rows, 50000 were sent"));
        anx_indexing_close(client);
        peer_stop(&peer);
        assert_int_equal(script.n_end, N);
        assert_true(script.got_error); /* the server is told */
        assert_int_equal(script.error.status, ANX_E_CORRUPT);
        assert_memory_equal(script.labels, many_labels, sizeof(script.labels));
        assert_memory_equal(script.vectors, many, sizeof(script.vectors));
    }
}

static void
pings_fill_the_gaps_between_rows(void **state)
{
    anx_indexing_client *client;
    anx_indexing_params params;
    anx_wire_index index;
    struct peer peer;
    uint64_t began = anx_clock_ns();

    (void) state;
    peer_start(&peer, play_v2, &script);
    params = example_params(&peer);
    params.life_sign_ms = 10;
    assert_int_equal(anx_indexing_open(&params, &client, NULL), ANX_OK);
    for (size_t i = 0; i < N_ROW; i++) {
        anx_indexing_info before;
        anx_indexing_info now;

        assert_int_equal(anx_indexing_rows(client, 1, labels + i, vectors + i * DIM, NULL), ANX_OK);
        do {
            anx_indexing_get_info(client, &before);
            assert_int_equal(anx_indexing_keep_alive(client, NULL), ANX_OK);
            anx_indexing_get_info(client, &now);
        } while (now.bytes_out - before.bytes_out != 20 &&
                 peer_seconds_since(began) < 10); /* a PING's size */
    }
    assert_int_equal(anx_indexing_finish(client, &index, NULL), ANX_OK);
    anx_indexing_close(client);
    peer_stop(&peer);
    assert_int_equal(script.n_row, N_ROW);
    assert_true(script.n_ping >= N_ROW && peer_seconds_since(began) < 10);
    assert_memory_equal(script.labels, labels, sizeof(labels));
}

/* ---- the token ---- */

static void
with_token(anx_indexing_params *params)
{
    params->token = TOKEN;
    params->token_size = strlen(TOKEN);
    params->protocol = 0;
}

static void
with_wrong_token(anx_indexing_params *params)
{
    with_token(params);
    params->token_size--;
}

static void
the_token_is_proved_on_both_sides(void **state)
{
    struct peer_identity identity;

    (void) state;
    script.token = TOKEN;
    run(with_token, 0, NULL);
    expect(ANX_OK, "");
    setup(NULL);
    script.token = TOKEN;
    run(with_wrong_token, 0, NULL);
    expect(ANX_E_AUTH, "external index error: wrong token");
    setup(NULL);
    script.token = TOKEN;
    run(NULL, 0, NULL);
    expect(ANX_E_AUTH, "asks for a token");
    setup(NULL);
    run(with_token, 0, NULL);
    expect(ANX_E_AUTH, "does not ask for the token");
    setup(NULL);
    script.token = TOKEN;
    script.proves_wrong = true;
    run(with_token, 0, NULL);
    expect(ANX_E_AUTH, "does not know the token");
    assert_int_equal(script.n_row, 0); /* and gets no row */
    setup(NULL);
    script.token = TOKEN;
    script.has_binding = true; /* without TLS there is nothing to bind to */
    run(with_token, 0, NULL);
    expect(ANX_E_AUTH, "without TLS");

    peer_identity_make(&identity, "DNS:localhost");
    for (int bound = 0; bound < 2; bound++) {
        memset(&script, 0, sizeof(script));
        script.flip_at = script.cut_at = NO_BYTE;
        script.n_connections_max = 1;
        script.token = TOKEN;
        script.has_binding = bound;
        run(with_token, 0, identity.ctx);
        expect(ANX_OK, "");
    }
    peer_identity_free(&identity);
}

/* ---- flips, cuts, disorder ---- */

/* Length of the server's words in a session by the book. */
static size_t
measure_session(void)
{
    run(NULL, 0, NULL);
    expect(ANX_OK, "");
    return script.n_said;
}

static void
no_flipped_byte_goes_unnoticed(void **state)
{
    size_t n = measure_session();
    size_t n_checksum = 0;
    size_t n_told = 0;

    (void) state;
    assert_true(n > 1300);
    for (size_t at = 0; at < n; at++) {
        setup(NULL);
        script.flip_at = at;
        script.flip_bits = at % 2 ? 0x80 : 0x01;
        run(NULL, 0, NULL);
        if (result.st == ANX_OK || script.got_receipt)
            fail_msg("byte %zu of %zu was changed, and nobody noticed", at, n);
        n_checksum += result.st == ANX_E_CHECKSUM;
        n_told += script.got_error && script.error.status == ANX_E_CHECKSUM;
    }
    assert_int_equal(n_checksum, n - ANX_WIRE_V1_HELLO_SIZE);
    assert_int_equal(n_told,
                     n_checksum - 132); /* before the WELCOME is read nobody knows that the server listens */
}

static void
with_resume(anx_indexing_params *params)
{
    params->n_resume = 3;
}

/* Where INDEX begins in the server's words: from here on a broken connection is no loss. */
static size_t
download_at(size_t n)
{
    return n - 36 - 4 * 20 - FILE_SIZE - 36;
}

static void
a_flip_in_the_download_is_resumed(void **state)
{
    size_t n = measure_session();

    (void) state;
    for (size_t at = download_at(n); at < n; at++) {
        setup(NULL);
        script.flip_at = at;
        script.flip_bits = 0x40;
        script.n_connections_max = 2;
        run(with_resume, 0, NULL);
        if (result.st != ANX_OK || result.info.n_resumed != 1 || result.n_notices[ANX_INDEXING_RESUMING] != 1)
            fail_msg("byte %zu: %s", at, result.err.message);
    }
}

/* Where the download has to go on when the words end before this byte. */
static uint64_t
checked_bytes(size_t cut, size_t data_at)
{
    size_t n = cut > data_at ? cut - data_at : 0;

    return n >= FILE_SIZE + 4 * 20 ? FILE_SIZE : n / 320 * 300;
}

static void
the_connection_may_end_after_any_byte(void **state)
{
    size_t n = measure_session();
    size_t first = download_at(n);

    (void) state;
    for (size_t at = 0; at < n; at++) {
        setup(NULL);
        script.cut_at = at;
        script.n_connections_max = 2;
        run(with_resume, 0, NULL);
        if (at < first - 72 && result.st == ANX_OK)
            fail_msg("cut at %zu of %zu, and the session went on", at, n);
        if (at < first)
            continue; /* in the two frames before, END may or may not have been said */
        if (result.st != ANX_OK)
            fail_msg("cut at %zu: %s", at, result.err.message);
        assert_int_equal(script.n_resumed, 1);
        assert_int_equal(script.resumed_at[0], checked_bytes(at, first + 36));
    }
}

static void
resuming_has_limits(void **state)
{
    static const anx_error gone = { .status = ANX_E_NOT_FOUND, .message = "no such session" };
    static const anx_error busy = { .status = ANX_E_BUSY, .message = "the session is still in use" };
    size_t at = download_at(measure_session()) + 36 + 400;

    (void) state;
    setup(NULL);
    script.cut_at = at;
    run(NULL, 0, NULL); /* not asked for */
    expect(ANX_E_NETWORK, "closed the connection");
    setup(NULL);
    script.cut_at = at;
    script.resume_timeout_s = 0; /* not offered */
    run(with_resume, 0, NULL);
    expect(ANX_E_NETWORK, "closed the connection");
    assert_int_equal(script.n_connections, 1);
    setup(NULL);
    script.cut_at = at;
    script.n_connections_max = 5;
    script.refusal = &gone;
    run(with_resume, 0, NULL);
    expect(ANX_E_NOT_FOUND, "external index error: no such session");
    assert_non_null(strstr(result.err.detail, "lost before"));
    assert_int_equal(script.n_resumed, 1);
    setup(NULL);
    script.cut_at = at;
    script.n_connections_max = 5;
    script.refusal = &busy; /* the old connection's end was not noticed yet: again, but not for ever */
    run(with_resume, 0, NULL);
    expect(ANX_E_BUSY, "still in use");
    assert_int_equal(script.n_resumed, 3);
    setup(NULL);
    script.cut_at = at;
    script.n_connections_max = 5;
    script.n_cut = 2;
    run(with_resume, 0, NULL); /* the third attempt */
    expect(ANX_OK, "");
    assert_int_equal(result.info.n_resumed, 3);
    setup(NULL);
    script.cut_at = at;
    script.n_connections_max = 2;
    script.lies_at_resume = true;
    run(with_resume, 0, NULL);
    expect(ANX_E_CORRUPT, "another index");
}

static void
frames_out_of_order_end_the_session(void **state)
{
    static const enum stage stages[] = { AT_WELCOME, AT_VERDICT, AT_QUEUE, AT_BUILD, AT_DATA, AT_DONE };
    static const struct {
        unsigned type;
        const char
            *stages; /* where it may come: Welcome Verdict Queue Build Data; 'D' also stands for DONE */
    } frames[] = {
        { ANX_WIRE_WELCOME, "W" }, { ANX_WIRE_ACCEPT, "V" },   { ANX_WIRE_QUEUED, "Q" },
        { ANX_WIRE_READY, "Q" },   { ANX_WIRE_PROGRESS, "B" }, { ANX_WIRE_INDEX, "B" },
        { ANX_WIRE_DATA, "D" },    { ANX_WIRE_DONE, "D" },     { ANX_WIRE_PONG, "VQBD" },
        { ANX_WIRE_AUTH, "" },     { ANX_WIRE_BEGIN, "" },     { ANX_WIRE_ROWS, "" },
        { ANX_WIRE_END, "" },      { ANX_WIRE_CANCEL, "" },    { ANX_WIRE_PING, "" },
        { ANX_WIRE_RESUME, "" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(stages); i++)
        for (size_t f = 0; f < ANX_COUNT_OF(frames); f++) {
            uint8_t frame[ANX_WIRE_SMALL_MAX];
            /* The largest payload that any small frame may have would do; its least is what its head needs.
             */
            static const struct {
                unsigned type;
                size_t size;
            } sizes[] = {
#define FRAME(name, value, sender, min_size, max_size, states, next) { value, min_size },
#include "indexing/frames.def"
#undef FRAME
            };
            size_t size = 0;

            if (strchr(frames[f].stages, "?WVQBDD"[i + 1]))
                continue;
            for (size_t k = 0; k < ANX_COUNT_OF(sizes); k++)
                if (sizes[k].type == frames[f].type)
                    size = sizes[k].size;
            setup(NULL);
            memset(frame, 0, sizeof(frame));
            script.token = stages[i] == AT_VERDICT ? TOKEN : NULL;
            script.inject_at = stages[i];
            script.inject = frame;
            script.n_inject = anx_wire_seal(frame, (enum anx_wire_type) frames[f].type, size);
            run(stages[i] == AT_VERDICT ? with_token : NULL, 0, NULL);
            if (result.st != ANX_E_STATE || !strstr(result.err.message, anx_wire_type_name(frames[f].type)))
                fail_msg("stage %d, %s: status %d, %s", (int) stages[i], anx_wire_type_name(frames[f].type),
                         result.st, result.err.message);
            if (stages[i] != AT_WELCOME && !script.got_error)
                fail_msg("stage %d, %s: the server was not told", (int) stages[i],
                         anx_wire_type_name(frames[f].type));
        }
}

/* Right frames with wrong contents. */
static void
lies_are_not_believed(void **state)
{
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    static uint8_t large[ANX_WIRE_FRAME_MAX];

    (void) state;
#define INJECT(stage, size, want, text) \
    setup(NULL);                        \
    script.inject_at = (stage);         \
    script.inject = frame;              \
    script.n_inject = (size);           \
    run(NULL, 0, NULL);                 \
    expect((want), (text))
    INJECT(AT_BUILD, anx_wire_put_index(frame, &(anx_wire_index){ 6, FILE_SIZE, 3 }), ANX_E_CORRUPT,
           "6 rows");
    INJECT(AT_BUILD, anx_wire_put_index(frame, &(anx_wire_index){ 4, FILE_SIZE, 3 }), ANX_E_CORRUPT,
           "4 rows");
    INJECT(AT_BUILD, anx_wire_put_index(frame, &(anx_wire_index){ 5, 985, 3 }), ANX_E_CORRUPT,
           "985 bytes for 5");
    INJECT(AT_BUILD, anx_wire_put_index(frame, &(anx_wire_index){ 5, 1u << 30, 3 }), ANX_E_CORRUPT,
           "possible");
    INJECT(AT_BUILD, anx_wire_put_index(frame, &(anx_wire_index){ 5, FILE_SIZE, 1 }), ANX_E_CORRUPT,
           "format 1");
    INJECT(AT_DATA, anx_wire_put_data(frame, 1, 100), ANX_E_CORRUPT, "for offset 1, expected is offset 0");
    INJECT(AT_DATA, anx_wire_put_data(frame, 0, FILE_SIZE + 1), ANX_E_CORRUPT, "1001 bytes");
    INJECT(AT_DONE, anx_wire_put_done(frame, &(anx_wire_done){ .size = FILE_SIZE }), ANX_E_CHECKSUM,
           "not those");
    INJECT(AT_DATA, anx_wire_put_done(frame, &(anx_wire_done){ .size = FILE_SIZE }), ANX_E_CORRUPT,
           "DONE came");
    INJECT(AT_DONE, anx_wire_put_data(frame, FILE_SIZE, 1), ANX_E_CORRUPT, "DATA came");
    /* The largest frame in the first place: room is made for it before it is refused. */
    setup(NULL);
    script.inject_at = AT_WELCOME;
    script.inject = large;
    script.n_inject = anx_wire_put_data(large, 0, ANX_WIRE_DATA_MAX);
    run(NULL, 0, NULL);
    expect(ANX_E_STATE, "DATA is out of place before the welcome");
#undef INJECT
}

static void
the_servers_words_reach_the_caller(void **state)
{
    static const enum stage stages[] = { AT_WELCOME, AT_QUEUE, AT_ROWS, AT_BUILD, AT_DATA, AT_DONE };
    anx_error error = { .status = ANX_E_LIMIT, .message = "the index needs 5 GiB, the limit is 4 GiB",
                        .hint = "raise --max-memory" };
    uint8_t frame[ANX_WIRE_SMALL_MAX];

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(stages); i++) {
        setup(NULL);
        script.inject_at = stages[i];
        script.inject = frame;
        script.n_inject = anx_wire_put_error(frame, &error);
        script.n_connections_max = 3;
        run(with_resume, 0, NULL); /* the server's decision is not a broken connection */
        expect(ANX_E_LIMIT, "external index error: the index needs 5 GiB, the limit is 4 GiB");
        assert_string_equal(result.err.hint, "raise --max-memory");
        assert_int_equal(script.n_connections, 1);
        assert_false(script.got_error || script.got_cancel);
    }
}

/* ---- rows that the server does not want ---- */

static anx_status
stream_for_ever(const anx_indexing_params *params, anx_error *err)
{
    anx_indexing_client *client;
    anx_status st = anx_indexing_open(params, &client, err);

    for (size_t i = 0; st == ANX_OK && i < 30000000; i++)
        st = anx_indexing_rows(client, N_ROW, labels, vectors, err);
    anx_indexing_close(client);
    return st;
}

static void
an_error_among_rows_is_heard_while_sending(void **state)
{
    anx_error error = { .status = ANX_E_VALUE, .message = "row (7,3): component 2 is NaN" };
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    anx_indexing_params params;
    struct peer peer;
    anx_error err;

    (void) state;
    script.inject_at = AT_ROWS;
    script.inject = frame;
    script.n_inject = anx_wire_put_error(frame, &error);
    peer_start(&peer, play_v2, &script);
    params = example_params(&peer);
    assert_int_equal(stream_for_ever(&params, &err), ANX_E_VALUE);
    assert_string_equal(err.message, "external index error: row (7,3): component 2 is NaN");
    peer_stop(&peer);
}

static void
the_servers_limits_are_kept(void **state)
{
    anx_indexing_params params;
    struct peer peer;
    anx_error err;

    (void) state;
    script.dim_max = 2;
    run(NULL, 0, NULL);
    expect(ANX_E_LIMIT, "the dimension is 3");
    setup(NULL);
    script.rows_max = 12;
    peer_start(&peer, play_v2, &script);
    params = example_params(&peer);
    assert_int_equal(stream_for_ever(&params, &err), ANX_E_LIMIT);
    assert_non_null(strstr(err.message, "takes at most 12 rows"));
    peer_stop(&peer);
    assert_true(script.got_cancel);
}

/* A server that talks a lot while it takes no rows: whoever only writes would wait for it for ever. */
static void
play_flood(struct peer *self)
{
    struct script *s = self->context;
    uint8_t frame[ANX_WIRE_SMALL_MAX];
    size_t n = anx_wire_put_progress(frame, &(anx_wire_progress) { ANX_WIRE_RECEIVING, 1, 2, 3 });
    int fd = peer_accept(self);

    s->n_connections = 1;
    if (greet(self, fd) && hear(self, fd)) {
        uint8_t ready[ANX_WIRE_SMALL_MAX];

        say_frame(self, fd, ready, anx_wire_put_ready(ready, 60));
        for (size_t i = 0; i < 500000; i++) /* 18 MB: more than both kernels hold */
            if (!peer_send(self, fd, frame, n)) {
                peer_fail(self, "the client hung up at %zu", i);
                break;
            }
        while (hear(self, fd) && s->head.type != ANX_WIRE_END)
            ;
        s->state = ANX_WIRE_AT_BUILD;
    }
    hang_up(self, fd);
}

static void
a_talkative_server_is_listened_to_while_sending(void **state)
{
    anx_indexing_client *client;
    anx_indexing_params params;
    anx_wire_index index;
    struct peer peer;

    (void) state;
    peer_start(&peer, play_flood, &script);
    params = example_params(&peer);
    assert_int_equal(anx_indexing_open(&params, &client, &result.err), ANX_OK);
    for (size_t i = 0; i < 500000; i++)
        assert_int_equal(anx_indexing_rows(client, N_ROW, labels, vectors, &result.err), ANX_OK);
    assert_int_equal(anx_indexing_finish(client, &index, &result.err),
                     ANX_E_NETWORK); /* the script ends here */
    anx_indexing_close(client);
    peer_stop(&peer);
}

/* ---- cancelling ---- */

static anx_status
cancel_when_silent(void *context, int fd, short events, int timeout_ms, short *ready, anx_error *err)
{
    uint64_t *since_ns = context;
    struct pollfd p = { .fd = fd, .events = events };

    (void) timeout_ms;
    *ready = 0;
    if (poll(&p, 1, 10) > 0) {
        *ready = p.revents;
        return ANX_OK;
    }
    if (!atomic_load(&script.is_silent))
        return ANX_OK;
    if (!*since_ns)
        *since_ns = anx_clock_ns();
    return anx_fail(err, ANX_E_CANCELLED, "canceling statement due to user request");
}

static void
cancelling_works_in_every_phase(void **state)
{
    static const enum stage stages[] = { AT_HELLO, AT_WELCOME, AT_VERDICT, AT_QUEUE, AT_ROWS,
                                         AT_BUILD, AT_DATA,    AT_DONE };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(stages); i++) {
        anx_indexing_params params;
        uint64_t since_ns = 0;
        struct peer peer;

        setup(NULL);
        script.silent_at = stages[i];
        script.token = TOKEN;
        script.n_connections_max = 3;
        peer_start(&peer, play_v2, &script);
        params = example_params(&peer);
        with_token(&params);
        params.wait = cancel_when_silent;
        params.wait_context = &since_ns;
        params.idle_ms = -1;
        params.hello_ms = 10000;
        params.n_resume = 3; /* a cancelled wait is not a broken connection */
        if (stages[i] == AT_ROWS)
            result.st = stream_for_ever(&params, &result.err);
        else
            build(params, 128);
        expect(ANX_E_CANCELLED, "user request");
        assert_true(since_ns && peer_seconds_since(since_ns) < 1);
        peer_stop(&peer);
        assert_int_equal(script.n_connections, 1);
        if (stages[i] >= AT_QUEUE && stages[i] != AT_ROWS)
            assert_true(script.got_cancel);
    }
}

static void
silence_has_a_limit(void **state)
{
    static const enum stage stages[] = { AT_QUEUE, AT_ROWS, AT_BUILD, AT_DATA, AT_DONE };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(stages); i++) {
        anx_indexing_params params;
        struct peer peer;

        setup(NULL);
        script.silent_at = stages[i];
        peer_start(&peer, play_v2, &script);
        params = example_params(&peer);
        params.idle_ms = 100;
        if (stages[i] == AT_ROWS)
            result.st = stream_for_ever(&params, &result.err);
        else
            build(params, 128);
        expect(ANX_E_TIMEOUT, "0.1 s");
        peer_stop(&peer);
    }
}

/* ---- the rest ---- */

static void
sessions_under_tls_can_be_cut_and_flipped_too(void **state)
{
    struct peer_identity identity;
    size_t n = measure_session();

    (void) state;
    peer_identity_make(&identity, "DNS:localhost");
    for (size_t at = download_at(n); at < n; at += 61) {
        setup(NULL);
        script.cut_at = at;
        script.n_connections_max = 2;
        run(with_resume, 0, identity.ctx);
        if (result.st != ANX_OK)
            fail_msg("cut at %zu: %s", at, result.err.message);
        assert_string_equal(result.info.tls, "TLSv1.3");
        setup(NULL);
        script.flip_at = at;
        script.flip_bits = 4;
        run(NULL, 0, identity.ctx);
        expect(ANX_E_CHECKSUM, "damaged on the way");
    }
    peer_identity_free(&identity);
}

static struct test_alloc test_memory;

static void
with_test_memory(anx_indexing_params *params)
{
    params->alloc = &test_memory.alloc;
    with_token(params);
    with_resume(params);
}

static void
running_out_of_memory_leaks_nothing(void **state)
{
    size_t at = download_at(measure_session()) + 36 + 44 + 400;
    bool done = false;

    (void) state;
    for (size_t nth = 1; !done; nth++) {
        setup(NULL);
        script.token = TOKEN;
        script.cut_at = at;
        script.n_connections_max = 2;
        test_alloc_init(&test_memory, nth);
        run(with_test_memory, 0, NULL);
        if (result.st != ANX_OK)
            expect(ANX_E_NOMEM, "allocate");
        done = result.st == ANX_OK;
        assert_int_equal(test_alloc_live(&test_memory), 0);
    }
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int
main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_session_by_the_book),
        TEST(version_2_is_preferred_also_behind_a_routers_greeting),
        TEST(batches_of_any_size_arrive_in_order),
        TEST(pings_fill_the_gaps_between_rows),
        TEST(the_token_is_proved_on_both_sides),
        TEST(no_flipped_byte_goes_unnoticed),
        TEST(a_flip_in_the_download_is_resumed),
        TEST(the_connection_may_end_after_any_byte),
        TEST(resuming_has_limits),
        TEST(frames_out_of_order_end_the_session),
        TEST(lies_are_not_believed),
        TEST(the_servers_words_reach_the_caller),
        TEST(an_error_among_rows_is_heard_while_sending),
        TEST(the_servers_limits_are_kept),
        TEST(a_talkative_server_is_listened_to_while_sending),
        TEST(cancelling_works_in_every_phase),
        TEST(silence_has_a_limit),
        TEST(sessions_under_tls_can_be_cut_and_flipped_too),
        TEST(running_out_of_memory_leaks_nothing),
    };

    SSL_CTX_free(SSL_CTX_new(TLS_method())); /* opens what it keeps open, before anybody counts */
    EVP_PKEY_free(EVP_EC_gen("P-256"));
    return cmocka_run_group_tests_name("indexing_client2", tests, NULL, NULL);
}
