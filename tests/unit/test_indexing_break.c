/* Connections of version 2 that break, stall or change bytes on their way: a proxy between client and server
 * does the harm. */
#include "test_indexing_build.h"

/* Between client and server: forwards, and does harm to the first connections. */
struct proxy {
    pthread_t thread;
    int listen_fd, quit_fd[2];
    unsigned port, server_port;
    unsigned n_harm;     /* connections that are harmed; later ones are not */
    uint64_t cut_down;   /* bytes to the client after which the connection is cut; 0: never */
    uint64_t flip_down;  /* place of a byte to the client that is changed; 0: none */
    uint64_t flip_up;    /* the same to the server */
    uint64_t stall_down; /* bytes after which nothing is forwarded any more, the connections stay */
    atomic_uint n_connection;
};

/* One direction, one read. False: it is over. */
static bool
forward(int from, int to, uint64_t *count, uint64_t cut, uint64_t flip)
{
    uint8_t bytes[16384];
    size_t want = sizeof(bytes);
    ssize_t n;

    if (cut && *count + want > cut)
        want = (size_t) (cut - *count);
    n = want ? recv(from, bytes, want, 0) : 0;
    if (n <= 0)
        return false;
    if (flip && flip > *count && flip <= *count + (uint64_t) n)
        bytes[flip - *count - 1] ^= 0x40;
    *count += (uint64_t) n;
    return put(to, bytes, (size_t) n) == (size_t) n;
}

struct pair {
    int client, server;
    uint64_t up, down;
    bool is_harmed, is_stalled;
};

static void
pair_close(struct pair *pair)
{
    if (pair->client >= 0) {
        close(pair->client);
        close(pair->server);
    }
    pair->client = -1;
}

static void
proxy_step(struct proxy *proxy, struct pair *pair, short client, short server)
{
    bool harm = pair->is_harmed;

    if (client && !forward(pair->client, pair->server, &pair->up, 0, harm ? proxy->flip_up : 0)) {
        pair_close(pair);
        return;
    }
    if (server && !pair->is_stalled &&
        !forward(pair->server, pair->client, &pair->down, harm ? proxy->cut_down : 0,
                 harm ? proxy->flip_down : 0))
        pair_close(pair);
    if (harm && proxy->stall_down && pair->down >= proxy->stall_down)
        pair->is_stalled = true;
}

#define PAIRS_MAX 16

static void *
proxy_main(void *argument)
{
    struct proxy *proxy = argument;
    struct pair pairs[PAIRS_MAX];
    size_t n = 0;

    for (;;) {
        struct pollfd polled[2 + 2 * PAIRS_MAX];

        polled[0] = (struct pollfd) { .fd = proxy->quit_fd[0], .events = POLLIN };
        polled[1] = (struct pollfd) { .fd = n < PAIRS_MAX ? proxy->listen_fd : -1, .events = POLLIN };
        for (size_t i = 0; i < n; i++) {
            polled[2 + 2 * i] = (struct pollfd) { .fd = pairs[i].client, .events = POLLIN };
            polled[3 + 2 * i] = (struct pollfd) {
                .fd = pairs[i].client < 0 || pairs[i].is_stalled ? -1 : pairs[i].server, .events = POLLIN
            };
        }
        poll(polled, 2 + 2 * n, -1);
        if (polled[0].revents)
            break;
        for (size_t i = 0; i < n; i++)
            if (pairs[i].client >= 0)
                proxy_step(proxy, &pairs[i], polled[2 + 2 * i].revents, polled[3 + 2 * i].revents);
        if (polled[1].revents && n < PAIRS_MAX) {
            int small = 16384; /* what is stalled here must not disappear in buffers */

            pairs[n] =
                (struct pair){ .client = accept(proxy->listen_fd, NULL, NULL),
                               .server = dial(proxy->server_port),
                               .is_harmed = atomic_fetch_add(&proxy->n_connection, 1) < proxy->n_harm };
            setsockopt(pairs[n++].server, SOL_SOCKET, SO_RCVBUF, &small, sizeof(small));
        }
    }
    for (size_t i = 0; i < n; i++)
        pair_close(&pairs[i]);
    return NULL;
}

static void
proxy_open(struct proxy *proxy, unsigned server_port)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);

    proxy->server_port = server_port;
    proxy->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(proxy->listen_fd >= 0);
    assert_int_equal(bind(proxy->listen_fd, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(proxy->listen_fd, 8), 0);
    assert_int_equal(getsockname(proxy->listen_fd, (struct sockaddr *) &address, &size), 0);
    proxy->port = ntohs(address.sin_port);
    assert_int_equal(pipe(proxy->quit_fd), 0);
    assert_int_equal(pthread_create(&proxy->thread, NULL, proxy_main, proxy), 0);
}

static void
proxy_close(struct proxy *proxy)
{
    assert_int_equal(write(proxy->quit_fd[1], "q", 1), 1);
    pthread_join(proxy->thread, NULL);
    close(proxy->quit_fd[0]);
    close(proxy->quit_fd[1]);
    close(proxy->listen_fd);
}

#define BIG_DIM 700
#define BIG_N 400 /* a file of about 1.2 MB, from rows so few that the build takes no time */
#define BIG_SHARE 0.3 /* noise of so many dimensions has no near rows; what matters is that all are there */

static void
broken_downloads_go_on(void **state)
{
    static const uint64_t cuts[] = { 600, 5000, 262144, 1000000 };
    struct house house;

    (void) state;
    house_open(&house, NULL);
    for (size_t i = 0; i < ANX_COUNT_OF(cuts); i++) {
        struct proxy proxy = { .n_harm = i == 2 ? 3 : 1, .cut_down = cuts[i] };
        struct build job;

        proxy_open(&proxy, house.port);
        job = build_make(proxy.port, ANX_WIRE_COSINE, ANX_WIRE_F32, BIG_DIM, BIG_N);
        job.params.n_resume = 5;
        build_run(&job);
        assert_int_equal(job.n_resumed, proxy.n_harm);
        build_check_share(&job, BIG_SHARE);
        proxy_close(&proxy);
    }
    wait_idle(&house);
    assert_int_equal(status_of(&house), 3);
    house_close(&house);
}

/* The old connection looks alive to the server, which is asleep in a write to it. */
static void
stalled_download_is_taken_over(void **state)
{
    struct proxy proxy = { .n_harm = 1, .stall_down = 300000 };
    struct house house;
    struct build job;

    (void) state;
    house_open(&house, NULL);
    proxy_open(&proxy, house.port);
    job = build_make(proxy.port, ANX_WIRE_COSINE, ANX_WIRE_F32, 8000,
                     700); /* more than sockets and proxy hold */
    job.params.n_resume = 1;
    job.params.idle_ms = 3000; /* more than between two signs of life */
    build_run(&job);
    assert_int_equal(job.n_resumed, 1);
    build_check_share(&job, BIG_SHARE);
    proxy_close(&proxy);
    wait_idle(&house);
    house_close(&house);
}

static void
kept_index_has_an_end(void **state)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
    struct proxy proxy = { .n_harm = 1, .cut_down = 500000 };
    struct house house;
    struct build job;
    char body[8192];
    uint64_t until = deadline();

    (void) state;
    params.resume_timeout_ms = 1;
    house_open(&house, &params);
    proxy_open(&proxy, house.port);
    job = build_make(proxy.port, ANX_WIRE_COSINE, ANX_WIRE_F32, BIG_DIM, BIG_N);
    job.params.n_resume = 0;
    build_run(&job);
    assert_int_equal(job.status, ANX_E_NETWORK);
    build_free(&job);
    do {
        pause_until(until, "the kept index to be dropped");
        http(&house, "GET", "/status", body, sizeof(body));
    } while (!strstr(body, "\"jobs\":[]"));
    assert_int_equal(status_of(&house), 2);
    proxy_close(&proxy);
    wait_idle(&house);
    house_close(&house);
}

static void
flipped_bytes_are_found(void **state)
{
    struct house house;

    (void) state;
    house_open(&house, NULL);
    for (uint64_t at = 400; at < 1000000; at += 170003) {
        struct proxy down = { .n_harm = 1, .flip_down = at };
        struct proxy up = { .n_harm = 1, .flip_up = at };
        struct build job;

        proxy_open(&down, house.port);
        job = build_make(down.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, BIG_DIM, BIG_N);
        job.params.n_resume = 2;
        build_run(&job);
        if (job.status == ANX_OK)
            build_check_share(&job, BIG_SHARE); /* the frame was asked for again */
        else
            assert_true(job.status == ANX_E_CHECKSUM || job.status == ANX_E_CORRUPT ||
                        job.status == ANX_E_NETWORK);
        build_free(&job);
        proxy_close(&down);

        proxy_open(&up, house.port);
        job = build_make(up.port, ANX_WIRE_L2SQ, ANX_WIRE_F32, BIG_DIM, BIG_N);
        expect_failure(&job, ANX_E_CHECKSUM, "");
        proxy_close(&up);
    }
    house_close(&house);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(broken_downloads_go_on),
        cmocka_unit_test(stalled_download_is_taken_over),
        cmocka_unit_test(kept_index_has_an_end),
        cmocka_unit_test(flipped_bytes_are_found),
    };

    return cmocka_run_group_tests_name("indexing_break", tests, NULL, NULL);
}
