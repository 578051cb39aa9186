/* The indexing server among clients of version 1 that are silent, go away, or come all at once; its status,
 * its end.
 */
#include "test_server_fixture.h"

#define RIGHT_SHARE 0.99

/* --- clients that stop or go --- */

static void
silent_clients_are_given_up(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct init init = INIT_DEFAULT(L2SQ, 1, 4);
    struct script script = random_script(&init, 10, 8);
    struct house house;
    /* Silent from the start, within INIT, before the rows, within a row. */
    static const size_t cuts[] = { 0, 20, 48, 48 + 24 * 3 + 7 };

    (void) state;
    params.first_timeout_ms = 150;
    params.idle_timeout_ms = 150;
    house_open(&house, &params);
    for (size_t i = 0; i < ANX_COUNT_OF(cuts); i++)
        expect_error(&house, script.data, cuts[i], cuts[i] >= 48 ? 9 : 8, "Resource temporarily unavailable",
                     "");
    script_free(&script);
    wait_idle(&house);
    house_close(&house);
}

/* A connection that ends after any byte of a session leaves nothing behind. */
static void
disconnects_at_every_byte(void **state)
{
    struct init init = INIT_DEFAULT(COS, 1, 3);
    struct script script = random_script(&init, 4, 9);
    struct house house;

    (void) state;
    house_open(&house, NULL);
    for (size_t cut = 0; cut <= script.size; cut++) {
        hang_up(&house, script.data, cut, false, 0);
        hang_up(&house, script.data, cut, true, 0);
    }
    wait_idle_after(&house, 2 * (script.size + 1));
    anx_index_destroy(build(&house, &script, NULL));
    script_free(&script);
    house_close(&house);
}

/* And so does one that ends while the answer is read. */
static void
disconnects_during_the_answer(void **state)
{
    struct init init = INIT_DEFAULT(COS, 1, 2000);
    struct script script = random_script(&init, 400, 10); /* more than the sockets hold */
    struct house house;
    static const size_t reads[] = { 1, 8, 9, 10, 17, 25, 26, 161, 4000 };

    (void) state;
    house_open(&house, NULL);
    for (size_t i = 0; i < ANX_COUNT_OF(reads); i++)
        hang_up(&house, script.data, script.size, i % 2 == 0, reads[i]);
    wait_idle_after(&house, ANX_COUNT_OF(reads));
    anx_index_destroy(build(&house, &script, NULL));
    script_free(&script);
    wait_idle(&house);
    house_close(&house);
}

/* --- several at once --- */

struct guest {
    pthread_t thread;
    const struct house *house;
    struct script script;
    struct bytes answer;
    unsigned n_routed;
    bool is_bad;
};

/* A client as the original is: when it is greeted by a router it asks, waits for an address and goes there.
 */
static void *
guest_main(void *argument)
{
    struct guest *guest = argument;
    unsigned port = guest->house->port;

    for (;;) {
        uint8_t hello[8], route[8 + 64];
        size_t host_size;
        int fd = dial(port);

        if (get(fd, hello, 8) != 8) {
            guest->is_bad = true;
            close(fd);
            return NULL;
        }
        if (anx_load_le(hello + 4, 4) == 1) {
            put(fd, guest->script.data, guest->script.size);
            guest->answer = get_all(fd);
            close(fd);
            return NULL;
        }
        guest->n_routed++;
        put(fd, "\3\0\0\0", 4);
        guest->is_bad |= get(fd, route, 8) != 8;
        host_size = guest->is_bad ? 0 : anx_load_le(route + 4, 4);
        guest->is_bad |= host_size > 60 || get(fd, route + 8, host_size + 4) != host_size + 4;
        close(fd);
        if (guest->is_bad)
            return NULL;
        port = (unsigned) anx_load_le(route + 8 + host_size, 4);
    }
}

static void
guest_check(struct guest *guest)
{
    struct bytes whole;
    uint64_t *labels;
    anx_index *index;
    size_t n;

    assert_false(guest->is_bad);
    whole.size = guest->answer.size + 8;
    whole.data = anx_alloc_bytes(NULL, whole.size);
    assert_non_null(whole.data);
    memcpy(whole.data, "\1\0\0\0\1\0\0\0", 8); /* the hello was read apart */
    memcpy(whole.data + 8, guest->answer.data, guest->answer.size);
    index = index_of_answer(&whole, guest->script.n_row);
    labels = labels_of(guest->script.data, guest->script.size, guest->script.init.dim * 4, &n);
    assert_true(exact_share(index, n, labels, 10) >= RIGHT_SHARE);
    anx_index_destroy(index);
    anx_free(NULL, labels);
    bytes_free(&whole);
    bytes_free(&guest->answer);
    script_free(&guest->script);
}

#define N_GUEST 10

static unsigned
serve_ten(const struct indexing_server_params *params)
{
    struct guest guests[N_GUEST];
    struct house house;
    unsigned n_routed = 0;

    house_open(&house, params);
    for (size_t i = 0; i < N_GUEST; i++) {
        struct init init = INIT_DEFAULT(i % 2 ? COS : L2SQ, 1, (uint32_t) (8 + i));

        guests[i] = (struct guest){ .house = &house, .script = random_script(&init, 1200 + 100 * i, 20 + i) };
        assert_int_equal(pthread_create(&guests[i].thread, NULL, guest_main, &guests[i]), 0);
    }
    for (size_t i = 0; i < N_GUEST; i++) {
        pthread_join(guests[i].thread, NULL);
        n_routed += guests[i].n_routed;
        guest_check(&guests[i]);
    }
    wait_idle(&house);
    assert_int_equal(status_of(&house), 3);
    house_close(&house);
    return n_routed;
}

static void
ten_clients_at_once(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;

    (void) state;
    assert_int_equal(serve_ten(&params), 0);
    params.max_clients = 2; /* the others wait in line */
    params.max_builds = 1;
    serve_ten(&params);
}

/* A client that sleeps in its build holds its own place only, and that only for the idle timeout. */
static void
stalled_client_holds_nobody(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct init init = INIT_DEFAULT(L2SQ, 1, 8);
    struct house house;
    struct guest guest = { .house = &house, .script = random_script(&init, 100, 30) };
    struct guest other = { .house = &house, .script = random_script(&init, 100, 31) };
    size_t n_waiting = 0;
    uint64_t until = deadline();
    uint8_t begin[9];
    int fd;

    (void) state;
    params.max_clients = 2;
    params.idle_timeout_ms = 700;
    house_open(&house, &params);
    fd = dial(house.port);
    put(fd, guest.script.data, 48 + 40 * 3 + 11);
    assert_int_equal(get(fd, begin, 9), 9);
    guest_main(&other); /* in this thread: beside the sleeper */
    assert_int_equal(other.n_routed, 0);
    guest_check(&other);
    close(fd);
    house_close(&house);

    params.max_clients = 1;
    house_open(&house, &params);
    guest.house = &house;
    fd = dial(house.port);
    put(fd, guest.script.data, 48 + 40 * 3 + 11);
    assert_int_equal(get(fd, begin, 9), 9);
    assert_int_equal(pthread_create(&guest.thread, NULL, guest_main, &guest), 0);
    while (n_waiting == 0) {
        sessions_of(&house, &n_waiting);
        pause_until(until, "the second client to wait");
    }
    pthread_join(guest.thread, NULL);
    assert_int_equal(guest.n_routed, 1);
    guest_check(&guest);
    assert_int_equal(get(fd, begin, 4), 4); /* the sleeper's error frame */
    assert_memory_equal(begin, "7337", 4);
    close(fd);
    house_close(&house);
}

static void
full_house_and_reservations(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct init init = INIT_DEFAULT(L2SQ, 1, 8);
    struct script script = random_script(&init, 10, 32);
    struct house house;
    uint8_t hello[8];
    uint64_t until = deadline();
    int first, second;

    (void) state;
    params.max_clients = 1;
    params.max_queue = 1;
    params.reserve_ms = 200;
    house_open(&house, &params);
    first = dial(house.port);
    put(first, script.data, 48);
    assert_int_equal(get(first, hello, 8), 8);
    second = dial(house.port);
    assert_int_equal(get(second, hello, 8), 8);
    assert_int_equal(anx_load_le(hello + 4, 4), 2);
    expect_error(&house, script.data, script.size, 8, "the indexing server is full", "--max-queue");
    put(second, "\3\0\0\0", 4);
    close(first);
    assert_int_equal(get(second, hello, 8), 8); /* it is offered the slot, and does not come for it */
    assert_int_equal(anx_load_le(hello, 4), 0);
    close(second);
    while (sessions_of(&house, NULL) > 0) /* which is then free again */
        pause_until(until, "the reservation to run out");
    anx_index_destroy(build(&house, &script, NULL));
    script_free(&script);
    house_close(&house);
}

/* --- the server's own life --- */

static void
status_follows_the_builds(void **state)
{
    struct init init = INIT_DEFAULT(L2SQ, 1, 8);
    struct script script = random_script(&init, 100, 40);
    struct house house;
    char body[8192], other[256];
    uint8_t begin[9];
    uint64_t until = deadline();
    struct bytes answer;
    size_t size;
    int fd;

    (void) state;
    house_open(&house, NULL);
    assert_int_equal(http(&house, "GET", "/", body, sizeof(body)), 200);
    assert_memory_equal(body, "{\"status\":0,\"status_updated_at\":", 32);
    assert_int_equal(strspn(body + 32, "0123456789"), 13);
    assert_string_equal(body + 45, "}");
    hang_up(&house, "", 0, false, 0);
    hang_up(&house, "GET / HTTP/1.1\r\n", 16, true, 0);
    wait_idle(&house);
    http(&house, "GET", "/", other, sizeof(other));
    assert_string_equal(body, other); /* scans and probes are no builds */

    fd = dial(house.port);
    put(fd, script.data, 48 + 40 * 50);
    assert_int_equal(get(fd, begin, 9), 9);
    assert_int_equal(status_of(&house), 1);
    do {
        pause_until(until, "the rows to be counted");
        assert_int_equal(http(&house, "GET", "/status", body, sizeof(body)), 200);
    } while (!strstr(body, "\"rows\":50,"));
    assert_memory_equal(body, "{\"status\":1,\"status_updated_at\":", 32);
    assert_non_null(strstr(body, "\"phase\":\"receiving\""));
    assert_non_null(strstr(body, "\"percent\":50.0"));
    put(fd, script.data + 48 + 40 * 50, script.size - 48 - 40 * 50);
    close(fd); /* not read to its end: but all of it was sent, which is all the server can know */
    wait_idle(&house);
    anx_index_destroy(build(&house, &script, NULL));
    assert_int_equal(status_of(&house), 3);
    fd = dial(house.port);
    put(fd, script.data, 48 + 40 * 2);
    shutdown(fd, SHUT_WR);
    answer = get_all(fd);
    close(fd);
    assert_memory_equal(error_of(&answer, 9, &size), "Invalid frame received", 22);
    bytes_free(&answer);
    assert_int_equal(status_of(&house), 2);
    hang_up(&house, "", 0, false, 0);
    wait_idle(&house);
    assert_int_equal(status_of(&house), 2); /* until the next build begins */
    anx_index_destroy(build(&house, &script, NULL));
    assert_int_equal(status_of(&house), 3);

    assert_int_equal(http(&house, "GET", "/metrics", body, sizeof(body)), 200);
    assert_non_null(strstr(body, "annex_indexing_builds_total{result=\"succeeded\"} "));
    assert_non_null(strstr(body, "\nannex_indexing_status 3\n"));
    assert_int_equal(http(&house, "GET", "/healthz", body, sizeof(body)), 200);
    assert_string_equal(body, "ok");
    assert_int_equal(http(&house, "GET", "/nothing", body, sizeof(body)), 404);
    assert_int_equal(http(&house, "POST", "/", body, sizeof(body)), 405);
    assert_int_equal(http(&house, "DELETE", "/status", body, sizeof(body)), 405);
    assert_int_equal(http(&house, "HEAD", "/", body, sizeof(body)), 200);
    assert_string_equal(body, "");
    script_free(&script);
    house_close(&house);
}

static void
draining_lets_builds_finish(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct init init = INIT_DEFAULT(L2SQ, 1, 8);
    struct script script = random_script(&init, 100, 41);
    struct house house;
    struct bytes answer;
    char body[256];
    uint8_t byte, hello[12];
    int running, waiting;

    (void) state;
    params.max_clients = 1;
    house_open(&house, &params);
    running = dial(house.port);
    put(running, script.data, 100);
    get(running, hello, 9);
    waiting = dial(house.port);
    assert_int_equal(get(waiting, hello, 8), 8);
    put(waiting, "\3\0\0\0", 4);
    anx_indexing_server_drain(house.server);
    assert_int_equal(http(&house, "GET", "/healthz", body, sizeof(body)), 503);
    assert_string_equal(body, "draining");
    assert_int_equal(get(waiting, &byte, 1), 0); /* sent away */
    close(waiting);
    put(running, script.data + 100, script.size - 100);
    answer = get_all(running); /* ack was read before */
    assert_int_equal(anx_load_le(answer.data, 8), 100);
    assert_int_equal(anx_load_le(answer.data + 8, 8), answer.size - 16);
    close(running);
    bytes_free(&answer);
    assert_true(anx_indexing_server_wait(house.server, PATIENCE_MS));
    script_free(&script);
    house_close(&house);
}

static void
stopping_tells_the_clients(void **state)
{
    struct init init = INIT_DEFAULT(L2SQ, 1, 8);
    struct script script = random_script(&init, 100, 42);
    struct house house;
    uint8_t begin[9];
    struct bytes answer;
    size_t size;
    int fd;

    (void) state;
    house_open(&house, NULL);
    fd = dial(house.port);
    put(fd, script.data, 100);
    assert_int_equal(get(fd, begin, 9), 9);
    anx_indexing_server_drain(house.server);
    anx_indexing_server_stop(house.server);
    answer = get_all(fd);
    assert_non_null(strstr(error_of(&answer, 0, &size), "shutting down"));
    bytes_free(&answer);
    close(fd);
    assert_true(anx_indexing_server_wait(house.server, PATIENCE_MS));
    assert_int_equal(status_of(&house), 2);
    script_free(&script);
    house_close(&house);
}

static void
tokens_keep_version_1_out(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct init init = INIT_DEFAULT(L2SQ, 1, 8);
    struct script script = random_script(&init, 10, 43);
    char path[] = "/tmp/annex-test-token-XXXXXX";
    struct house house;
    int fd = mkstemp(path);

    (void) state;
    assert_true(fd >= 0);
    assert_int_equal(write(fd, "a secret of some length\n", 24), 24);
    close(fd);
    params.token_file = path;
    house_open(&house, &params);
    expect_error(&house, script.data, script.size, 8, "this indexing server wants a token", "version 2");
    house_close(&house);
    params.allow_v1_without_token = true;
    house_open(&house, &params);
    anx_index_destroy(build(&house, &script, NULL));
    house_close(&house);
    unlink(path);
    script_free(&script);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(silent_clients_are_given_up),
        cmocka_unit_test(disconnects_at_every_byte),
        cmocka_unit_test(disconnects_during_the_answer),
        cmocka_unit_test(ten_clients_at_once),
        cmocka_unit_test(stalled_client_holds_nobody),
        cmocka_unit_test(full_house_and_reservations),
        cmocka_unit_test(status_follows_the_builds),
        cmocka_unit_test(draining_lets_builds_finish),
        cmocka_unit_test(stopping_tells_the_clients),
        cmocka_unit_test(tokens_keep_version_1_out),
    };

    return cmocka_run_group_tests_name("indexing_life", tests, NULL, NULL);
}
