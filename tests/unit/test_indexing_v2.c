/* The indexing server and clients of version 2: whole sessions with our own client, tokens, TLS, the queue,
 * and what is forged; and our client as one of version 1. */
#include "test_indexing_build.h"

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>

/* --- sessions --- */

static void
whole_sessions(void **state)
{
    static const uint32_t formats[] = { ANX_WIRE_FILE_LANTERN, ANX_WIRE_FILE_USEARCH, ANX_WIRE_FILE_ANNEX };
    struct house house;

    (void) state;
    house_open(&house, NULL);
    for (size_t i = 0; i < ANX_COUNT_OF(formats); i++)
        for (int own = 0; own < 3; own++) {
            struct build job =
                build_make(house.port, own == 2 ? ANX_WIRE_IP : ANX_WIRE_COSINE, ANX_WIRE_F32, 16, 1500);

            job.params.job.format = formats[i];
            job.params.job.is_plain = own == 0 && formats[i] != ANX_WIRE_FILE_ANNEX;
            job.params.job.is_native = own == 1 && formats[i] != ANX_WIRE_FILE_ANNEX;
            if (own == 2 && formats[i] == ANX_WIRE_FILE_LANTERN)
                continue;
            build_run(&job);
            assert_int_equal(job.version, 2);
            build_check(&job);
        }
    for (uint32_t scalar = ANX_WIRE_F16; scalar <= ANX_WIRE_B1; scalar++) {
        struct build job = build_make(house.port, scalar == ANX_WIRE_B1 ? ANX_WIRE_HAMMING : ANX_WIRE_L2SQ,
                                      scalar, 64, 1300);

        build_run(&job);
        build_check(&job);
    }
    wait_idle(&house);
    assert_int_equal(status_of(&house), 3);
    house_close(&house);
}

static void
own_client_as_an_original(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct house house;
    struct build jobs[4];
    pthread_t threads[4];

    (void) state;
    params.max_clients = 1; /* the others are routed */
    house_open(&house, &params);
    for (size_t i = 0; i < 4; i++) {
        jobs[i] = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 1100 + i);
        jobs[i].params.protocol = 1;
        assert_int_equal(pthread_create(&threads[i], NULL, build_run, &jobs[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        pthread_join(threads[i], NULL);
        assert_int_equal(jobs[i].version, 1);
        build_check(&jobs[i]);
    }
    house_close(&house);
}

static void
clients_wait_in_line(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct house house;
    struct build jobs[6];
    pthread_t threads[6];
    anx_indexing_client *first;
    struct build holder;
    uint64_t until = deadline();
    size_t n_waiting = 0;

    (void) state;
    params.max_clients = 1;
    params.max_queue = 5;
    house_open(&house, &params);
    holder = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 10);
    assert_int_equal(anx_indexing_open(&holder.params, &first, &holder.err), ANX_OK);
    for (size_t i = 0; i < 5; i++) {
        jobs[i] = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 200 + i);
        assert_int_equal(pthread_create(&threads[i], NULL, build_run, &jobs[i]), 0);
    }
    while (n_waiting < 5) {
        sessions_of(&house, &n_waiting);
        pause_until(until, "five clients to wait");
    }
    jobs[5] = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 10);
    expect_failure(&jobs[5], ANX_E_BUSY, "--max-queue");
    anx_indexing_close(first);
    for (size_t i = 0; i < 5; i++) {
        pthread_join(threads[i], NULL);
        assert_true(jobs[i].n_queued > 0);
        assert_true(jobs[i].is_last_position_1);
        build_check(&jobs[i]);
    }
    wait_idle(&house);
    house_close(&house);
}

static void
ten_at_once_of_both_versions(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct house house;
    struct build jobs[10];
    pthread_t threads[10];

    (void) state;
    params.max_clients = 3;
    params.max_builds = 1;
    house_open(&house, &params);
    for (size_t i = 0; i < 10; i++) {
        jobs[i] =
            build_make(house.port, i % 3 ? ANX_WIRE_COSINE : ANX_WIRE_L2SQ, ANX_WIRE_F32, 12, 1200 + 50 * i);
        jobs[i].params.protocol = i % 2 ? 1 : 0;
        assert_int_equal(pthread_create(&threads[i], NULL, build_run, &jobs[i]), 0);
    }
    for (size_t i = 0; i < 10; i++) {
        pthread_join(threads[i], NULL);
        build_check(&jobs[i]);
    }
    wait_idle(&house);
    house_close(&house);
}

/* --- secrets --- */

static void
write_file(char path[64], const char *text)
{
    int fd;

    snprintf(path, 64, "/tmp/annex-test-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), strlen(text));
    close(fd);
}

static void
tokens_are_asked_for(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct house house;
    struct build job;
    char path[64];
    FILE *file;

    (void) state;
    write_file(path, "correct horse battery staple\r\n");
    params.token_file = path;
    house_open(&house, &params);
    job = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 100);
    expect_failure(&job, ANX_E_AUTH, "token");
    job.params.token = "correct horse battery stapler";
    job.params.token_size = 29;
    expect_failure(&job, ANX_E_AUTH, "token");
    job.params.token_size = 28;
    build_run(&job);
    build_check(&job);
    file = fopen(path, "w");
    fputs("another one\n", file);
    fclose(file);
    anx_indexing_server_reload(house.server);
    job = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 100);
    job.params.token = "another one";
    job.params.token_size = 11;
    build_run(&job);
    build_check(&job);
    wait_idle(&house);
    house_close(&house);
    unlink(path);
}

struct identity {
    char cert[64], key[64];
};

static void
identity_make(struct identity *identity)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_EXTENSION *names = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, "IP:127.0.0.1");
    FILE *file;

    assert_true(key && cert && names);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *) "test", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    X509_add_ext(cert, names, -1);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    write_file(identity->cert, "");
    write_file(identity->key, "");
    file = fopen(identity->cert, "w");
    assert_int_equal(PEM_write_X509(file, cert), 1);
    fclose(file);
    file = fopen(identity->key, "w");
    assert_int_equal(PEM_write_PrivateKey(file, key, NULL, NULL, 0, NULL, NULL), 1);
    fclose(file);
    X509_EXTENSION_free(names);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void
tls_in_both_versions(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct identity identity, newer;
    struct house house;
    char token[64];
    struct bytes answer;

    (void) state;
    identity_make(&identity);
    identity_make(&newer);
    write_file(token, "a secret over TLS");
    params.cert = identity.cert;
    params.key = identity.key;
    params.token_file = token;
    params.allow_v1_without_token = true;
    params.first_timeout_ms = 300;
    house_open(&house, &params);
    for (unsigned version = 1; version <= 2; version++) {
        struct build job = build_make(house.port, ANX_WIRE_COSINE, ANX_WIRE_F32, 100, 3000);

        job.params.is_secure = true;
        job.params.protocol = version;
        job.params.tls = (anx_tls_params) { .verify = ANX_TLS_VERIFY_FULL, .ca_file = identity.cert };
        job.params.token = version == 2 ? "a secret over TLS" : NULL;
        job.params.token_size = version == 2 ? 17 : 0;
        build_run(&job);
        build_check(&job);
        job = build_make(house.port, ANX_WIRE_COSINE, ANX_WIRE_F32, 8, 10);
        job.params.is_secure = true;
        job.params.tls = (anx_tls_params) { .verify = ANX_TLS_VERIFY_FULL, .ca_file = newer.cert };
        expect_failure(&job, ANX_E_TLS, "");
    }
    answer = talk(&house, "7333", 4); /* no TLS: not a word in plain text comes back */
    assert_true(answer.size < 8 || memcmp(answer.data, "\1\0\0\0", 4) != 0);
    bytes_free(&answer);
    assert_int_equal(rename(newer.cert, identity.cert), 0);
    assert_int_equal(rename(newer.key, identity.key), 0);
    anx_indexing_server_reload(house.server);
    {
        struct build job = build_make(house.port, ANX_WIRE_COSINE, ANX_WIRE_F32, 8, 100);

        job.params.is_secure = true;
        job.params.tls = (anx_tls_params) { .verify = ANX_TLS_VERIFY_FULL, .ca_file = identity.cert };
        job.params.token = "a secret over TLS";
        job.params.token_size = 17;
        build_run(&job);
        build_check(&job);
    }
    wait_idle(&house);
    house_close(&house);
    unlink(identity.cert);
    unlink(identity.key);
    unlink(token);
}

static void
tls_client_at_a_plain_server(void **state)
{
    struct house house;
    struct build job;

    (void) state;
    house_open(&house, NULL);
    job = build_make(house.port, ANX_WIRE_COSINE, ANX_WIRE_F32, 8, 10);
    job.params.is_secure = true;
    expect_failure(&job, ANX_E_TLS, "");
    wait_idle(&house);
    house_close(&house);
}

/* --- forged frames --- */

/* A session's frames one behind the other: what a client that does not wait for answers sends. */
static struct bytes
frames_make(size_t n_row, uint64_t n_announced)
{
    struct build job = build_make(0, ANX_WIRE_L2SQ, ANX_WIRE_F32, 4, n_row);
    struct bytes all = { anx_alloc_zeroed(NULL, 1, 8192 + n_row * 24), 0 };
    anx_rng rng = anx_rng_seed(3);
    uint8_t *frame;

    assert_non_null(all.data);
    anx_wire_upgrade_encode(all.data);
    all.size = ANX_WIRE_UPGRADE_SIZE;
    job.params.job.version = 2;
    all.size += anx_wire_put_begin(all.data + all.size, &job.params.job);
    frame = all.data + all.size;
    for (size_t i = 0; i < n_row; i++) {
        float row[4];

        anx_store_le(frame + anx_wire_labels_at() + 8 * i, i + 1, 8);
        fill_row(&rng, &job.params.job, row);
        memcpy(frame + anx_wire_vectors_at(n_row) + 16 * i, row, 16);
    }
    all.size += anx_wire_put_rows(frame, n_row, 16);
    all.size += anx_wire_put_end(all.data + all.size, n_announced);
    return all;
}

/* The ERROR frame that ends an answer. */
static void
expect_error_frame(const struct bytes *answer, anx_status status, const char *contains)
{
    size_t at = ANX_WIRE_V1_HELLO_SIZE;
    anx_error theirs = { 0 };

    while (at + ANX_WIRE_HEAD_SIZE <= answer->size) {
        anx_wire_head head;

        assert_int_equal(anx_wire_head_decode(answer->data + at, &head, NULL), ANX_OK);
        assert_true(at + ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE <= answer->size);
        assert_int_equal(anx_wire_tail_check(answer->data + at, head.size, NULL), ANX_OK);
        if (head.type == ANX_WIRE_ERROR)
            assert_int_equal(
                anx_wire_get_error(answer->data + at + ANX_WIRE_HEAD_SIZE, head.size, &theirs, NULL), ANX_OK);
        at += ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE;
    }
    assert_int_equal(at, answer->size);
    if (theirs.status != status || !strstr(theirs.message, contains))
        fail_msg("the error frame says %d \"%s\", expected %d \"%s\"", (int) theirs.status, theirs.message,
                 (int) status, contains);
}

static void
forged_frames_get_an_error(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct house house;
    struct bytes frames = frames_make(20, 20), short_end = frames_make(20, 21), answer;
    size_t begin_at = ANX_WIRE_UPGRADE_SIZE, rows_at, end_at;
    uint8_t frame[ANX_WIRE_UPGRADE_SIZE + ANX_WIRE_SMALL_MAX];
    anx_wire_head head;

    (void) state;
    params.resume_timeout_ms = 0; /* this client does not say that it has received all, */
    params.send_timeout_ms = 300; /* and is not waited for */
    house_open(&house, &params);
    assert_int_equal(anx_wire_head_decode(frames.data + begin_at, &head, NULL), ANX_OK);
    rows_at = begin_at + ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE;
    assert_int_equal(anx_wire_head_decode(frames.data + rows_at, &head, NULL), ANX_OK);
    end_at = rows_at + ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE;

    answer = talk(&house, frames.data, frames.size); /* right as it is */
    assert_true(answer.size > 1000);
    bytes_free(&answer);

    answer = talk(&house, short_end.data, short_end.size);
    expect_error_frame(&answer, ANX_E_CORRUPT, "20 arrived");
    bytes_free(&answer);

    for (size_t at = rows_at; at < frames.size; at += 13) { /* a flipped bit anywhere */
        frames.data[at] ^= 0x10;
        answer = talk(&house, frames.data, frames.size);
        assert_true(answer.size < 1000);
        frames.data[at] ^= 0x10;
        bytes_free(&answer);
    }
    frames.data[rows_at + 60] ^= 1;
    answer = talk(&house, frames.data, frames.size);
    expect_error_frame(&answer, ANX_E_CHECKSUM, "");
    frames.data[rows_at + 60] ^= 1;
    bytes_free(&answer);

    memmove(frames.data + begin_at, frames.data + rows_at, end_at - rows_at); /* rows before BEGIN */
    answer = talk(&house, frames.data, begin_at + end_at - rows_at);
    expect_error_frame(&answer, ANX_E_STATE, "ROWS");
    bytes_free(&answer);
    memcpy(frame, frames.data, begin_at);
    answer = talk(&house, frame, begin_at + anx_wire_put_end(frame + begin_at, 0));
    expect_error_frame(&answer, ANX_E_STATE, "END");
    bytes_free(&answer);
    answer = talk(&house, frame, begin_at + anx_wire_put_cancel(frame + begin_at));
    expect_error_frame(&answer, ANX_E_CANCELLED, "");
    bytes_free(&answer);
    frame[7] ^= 1; /* of UPGRADE */
    answer = talk(&house, frame, begin_at);
    assert_true(answer.size > 8);
    bytes_free(&answer);
    bytes_free(&frames);
    bytes_free(&short_end);
    wait_idle(&house);
    house_close(&house);
}

static void
bad_rows_and_requests(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct house house;
    anx_indexing_client *client;
    anx_wire_index index;
    struct build job;
    float row[8] = { 0 };
    uint64_t label = tid(3, 4);

    (void) state;
    params.max_dim = 500;
    params.max_rows = 10;
    house_open(&house, &params);
    job = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 501, 10);
    expect_failure(&job, ANX_E_LIMIT, "500");
    job = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 11);
    expect_failure(&job, ANX_E_LIMIT, "10");
    job = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 10);
    assert_int_equal(anx_indexing_open(&job.params, &client, &job.err), ANX_OK);
    row[6] = NAN;
    if (anx_indexing_rows(client, 1, &label, row, &job.err) == ANX_OK)
        assert_int_equal(anx_indexing_finish(client, &index, &job.err), ANX_E_VALUE);
    assert_non_null(strstr(job.err.message, "component 6 is NaN"));
    anx_indexing_close(client);
    wait_idle(&house);
    assert_int_equal(status_of(&house), 2);
    house_close(&house);
}

/* --- the client goes --- */

static void
cancel_at_every_stage(void **state)
{
    struct house house;
    struct build job;
    anx_indexing_client *client;
    anx_wire_index index;
    uint8_t some[1000];
    size_t got;

    (void) state;
    house_open(&house, NULL);
    for (int stage = 0; stage < 4; stage++) {
        job =
            build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8000, 250); /* a file that no socket holds */
        assert_int_equal(anx_indexing_open(&job.params, &client, &job.err), ANX_OK);
        if (stage >= 1)
            assert_int_equal(send_rows(&job, client), ANX_OK);
        if (stage >= 2)
            assert_int_equal(anx_indexing_finish(client, &index, &job.err), ANX_OK);
        if (stage >= 3)
            assert_int_equal(anx_indexing_read(client, some, sizeof(some), &got, &job.err), ANX_OK);
        anx_indexing_close(client);
        if (stage == 0)
            wait_idle(&house); /* the others may be taken for a broken connection, whose index is kept */
    }
    house_close(&house);
}

static void
disconnects_at_every_byte(void **state)
{
    struct bytes frames = frames_make(3, 3);
    struct house house;
    struct linger linger = { 1, 0 };

    (void) state;
    house_open(&house, NULL);
    for (size_t cut = 0; cut < frames.size; cut++)
        for (int resets = 0; resets < 2; resets++) {
            int fd = dial(house.port);

            put(fd, frames.data, cut);
            if (resets)
                setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
            close(fd);
        }
    wait_idle_after(&house, 2 * frames.size);
    bytes_free(&frames);
    house_close(&house);
}

static void
silent_clients_are_given_up(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct bytes frames = frames_make(3, 3), answer;
    struct house house;

    (void) state;
    params.first_timeout_ms = 150;
    params.idle_timeout_ms = 150;
    house_open(&house, &params);
    for (size_t cut = 8; cut < frames.size; cut += 37) {
        answer = talk(&house, frames.data, cut);
        if (cut >= ANX_WIRE_UPGRADE_SIZE)
            expect_error_frame(&answer, ANX_E_TIMEOUT, "");
        bytes_free(&answer);
    }
    bytes_free(&frames);
    wait_idle(&house);
    house_close(&house);
}

/* A client that has nothing to send for a while stays, as long as it gives signs of life; and it gets some.
 */
static void
signs_of_life(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct bytes frames = frames_make(3, 3), answer;
    uint8_t ping[ANX_WIRE_SMALL_MAX];
    size_t ping_size = anx_wire_put_ping(ping, 77), n_pong = 0, n_progress = 0, at = 8;
    uint64_t began = anx_clock_ns();
    struct house house;
    int fd;

    (void) state;
    params.idle_timeout_ms = 300;
    params.resume_timeout_ms = 0; /* this client does not say that it has received all, */
    params.send_timeout_ms = 300; /* and is not waited for */
    house_open(&house, &params);
    fd = dial(house.port);
    put(fd, frames.data, frames.size - 20); /* without END */
    while (anx_clock_ns() - began < UINT64_C(2700000000)) {
        put(fd, ping, ping_size);
        poll(NULL, 0, 50);
    }
    put(fd, frames.data + frames.size - 20, 20);
    answer = get_all(fd);
    close(fd);
    while (at < answer.size) {
        anx_wire_head head;

        assert_int_equal(anx_wire_head_decode(answer.data + at, &head, NULL), ANX_OK);
        n_pong += head.type == ANX_WIRE_PONG;
        n_progress += head.type == ANX_WIRE_PROGRESS;
        at += ANX_WIRE_HEAD_SIZE + head.size + ANX_WIRE_TAIL_SIZE;
    }
    assert_true(n_pong >= 10);
    assert_true(n_progress >= 1);
    bytes_free(&answer);
    bytes_free(&frames);
    wait_idle(&house);
    house_close(&house);
}

/* --- the server goes --- */

static void
draining_speaks_to_everybody(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct house house;
    struct build holder, waiter;
    anx_indexing_client *client;
    pthread_t thread;
    size_t n_waiting = 0;
    uint64_t until = deadline();
    anx_wire_index index;

    (void) state;
    params.max_clients = 1;
    house_open(&house, &params);
    holder = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 100);
    assert_int_equal(anx_indexing_open(&holder.params, &client, &holder.err), ANX_OK);
    waiter = build_make(house.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, 8, 100);
    assert_int_equal(pthread_create(&thread, NULL, build_run, &waiter), 0);
    while (n_waiting == 0) {
        sessions_of(&house, &n_waiting);
        pause_until(until, "the second client to wait");
    }
    anx_indexing_server_drain(house.server);
    pthread_join(thread, NULL);
    assert_int_equal(waiter.status, ANX_E_BUSY);
    assert_int_equal(send_rows(&holder, client), ANX_OK);
    anx_indexing_server_stop(house.server);
    assert_int_equal(anx_indexing_finish(client, &index, &holder.err), ANX_E_CANCELLED);
    assert_non_null(strstr(holder.err.message, "shutting down"));
    anx_indexing_close(client);
    house_close(&house);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(whole_sessions),
        cmocka_unit_test(own_client_as_an_original),
        cmocka_unit_test(clients_wait_in_line),
        cmocka_unit_test(ten_at_once_of_both_versions),
        cmocka_unit_test(tokens_are_asked_for),
        cmocka_unit_test(tls_in_both_versions),
        cmocka_unit_test(tls_client_at_a_plain_server),
        cmocka_unit_test(forged_frames_get_an_error),
        cmocka_unit_test(bad_rows_and_requests),
        cmocka_unit_test(cancel_at_every_stage),
        cmocka_unit_test(disconnects_at_every_byte),
        cmocka_unit_test(silent_clients_are_given_up),
        cmocka_unit_test(signs_of_life),
        cmocka_unit_test(draining_speaks_to_everybody),
    };

    return cmocka_run_group_tests_name("indexing_v2", tests, NULL, NULL);
}
