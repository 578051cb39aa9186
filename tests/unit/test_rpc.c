/* The binary protocol: heads and arguments, and a server over loopback that is told what the protocol's
 * description tells it, whole, cut into single bytes, and forged. */
#include "test_util.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "rpc/frame.h"
#include "rpc/server.h"

/* ---- Frames ---- */

static void
heads_are_checked(void **state)
{
    uint8_t bytes[RPC_HEAD_SIZE];
    struct rpc_head head = { .command = 33, .size = 77, .sequence = 5, .is_compressed = true }, got;
    anx_error err;

    (void) state;
    rpc_head_write(&head, bytes);
    assert_int_equal(rpc_head_read(bytes, &got, &err), ANX_OK);
    assert_int_equal(got.version, RPC_VERSION);
    assert_int_equal(got.command, 33);
    assert_int_equal(got.size, 77);
    assert_int_equal(got.sequence, 5);
    assert_true(got.is_compressed);
    bytes[0] ^= 1;
    assert_int_equal(rpc_head_read(bytes, &got, &err), ANX_E_PARAMS);
    assert_non_null(strstr(err.message, "magic"));
    bytes[0] ^= 1;
    bytes[4] = 0; /* version 0x100 */
    assert_int_equal(rpc_head_read(bytes, &got, &err), ANX_E_PARAMS);
    assert_non_null(strstr(err.message, "version 0100"));
}

static void
arguments_are_read(void **state)
{
    static const char body[] = "\x05\x02\x02hi\x08\x01\x00\x80\x01\x03\x01\x04\x01\x00\xC8\x01";
    struct rpc_args args;
    anx_error err;

    (void) state;
    assert_int_equal(rpc_args_read((anx_text) { body, sizeof(body) - 1 }, &args, &err), ANX_OK);
    assert_int_equal(args.n, 5);
    assert_true(anx_text_equal(args.list[0].text, ANX_TEXT("hi")));
    assert_int_equal(args.list[1].integer, -1);
    assert_int_equal(args.list[2].integer, 64);
    assert_int_equal(args.list[3].integer, 1);
    assert_int_equal(args.list[4].type, RPC_NULL);
    assert_int_equal(args.timeout_ms, 100);
    for (size_t size = 1; size < sizeof(body) - 5; size++) /* the context may be missing, nothing else */
        if (size != 14)
            assert_int_not_equal(rpc_args_read((anx_text) { body, size }, &args, &err), ANX_OK);
    assert_int_equal(rpc_args_read(ANX_TEXT("\x7F"), &args, &err), ANX_E_PARSE_BIN);
    assert_int_equal(rpc_args_read(ANX_TEXT("\x01\x0C"), &args, &err), ANX_E_PARSE_BIN);
}

/* ---- A server ---- */

struct fixture {
    struct engine *engine;
    struct rpc_server *server;
};

static int
setup(void **state)
{
    static struct fixture f;
    struct engine_params engine = { .durability = STORE_DURABLE_ASYNC, .n_thread = 1 };
    struct rpc_params params = {
        .address = "127.0.0.1:0", .n_loop = 2, .n_worker = 2, .start_time = 1700000000
    };
    anx_error err;

    memset(&f, 0, sizeof(f));
    if (engine_open(&engine, &f.engine, &err) != ANX_OK)
        return -1;
    params.engine = f.engine;
    if (rpc_server_open(&params, &f.server, &err) != ANX_OK)
        return -1;
    *state = &f;
    return 0;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    rpc_server_close(f->server);
    engine_close(f->engine);
    return 0;
}

static int
dial(const struct fixture *f)
{
    struct sockaddr_in address = { .sin_family = AF_INET };
    int fd = socket(AF_INET, SOCK_STREAM, 0);

    address.sin_port = htons((uint16_t) rpc_server_port(f->server, false));
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    return fd;
}

/* Reads exactly so much, or returns false at the end of the connection. Ten seconds at most. */
static bool
get(int fd, void *out, size_t size)
{
    for (size_t n = 0; n < size;) {
        struct pollfd poll_fd = { .fd = fd, .events = POLLIN };
        ssize_t got;

        assert_int_equal(poll(&poll_fd, 1, 10000), 1);
        got = recv(fd, (char *) out + n, size - n, 0);
        if (got <= 0)
            return false;
        n += (size_t) got;
    }
    return true;
}

struct reply {
    struct rpc_head head;
    uint8_t body[4096];
    int code;
};

static struct reply
receive(int fd)
{
    struct reply reply;
    uint8_t head[RPC_HEAD_SIZE];
    anx_error err;

    assert_true(get(fd, head, sizeof(head)));
    assert_int_equal(rpc_head_read(head, &reply.head, &err), ANX_OK);
    assert_true(reply.head.size <= sizeof(reply.body));
    assert_true(get(fd, reply.body, reply.head.size));
    reply.code = reply.body[0];
    return reply;
}

static void
put(int fd, uint16_t command, uint32_t sequence, anx_text body)
{
    struct rpc_head head = { .command = command, .sequence = sequence, .size = (uint32_t) body.size };
    uint8_t bytes[RPC_HEAD_SIZE];

    rpc_head_write(&head, bytes);
    assert_int_equal(send(fd, bytes, sizeof(bytes), MSG_NOSIGNAL), sizeof(bytes));
    assert_int_equal(send(fd, body.data, body.size, MSG_NOSIGNAL), (ssize_t) body.size);
}

#define LOGIN                               \
    ANX_TEXT("\x09\x02\x00\x02\x00\x02\x02" \
             "db\x03\x01\x03\x00\x08\x01\x02\x07v5.15.0\x02\x01g\x00\x1E\x01\x00\x00")
#define PING ANX_TEXT("\x00\x01\x00\x00")

static struct reply
ask(int fd, uint16_t command, anx_text body)
{
    put(fd, command, 7, body);
    return receive(fd);
}

static struct reply
ask_strings(int fd, uint16_t command, const char *first, const char *second)
{
    anx_buffer body;
    struct reply reply;

    anx_buffer_init(&body, NULL, 65536);
    anx_buffer_varint(&body, second ? 2 : 1);
    rpc_put_string(&body, anx_text_of(first));
    if (second)
        rpc_put_string(&body, anx_text_of(second));
    reply = ask(fd, command, (anx_text) { body.data, body.size });
    anx_buffer_fini(&body);
    return reply;
}

static bool
is_ended(int fd)
{
    uint8_t byte;

    return !get(fd, &byte, 1);
}

static void
login_comes_first(void **state)
{
    int fd = dial(*state);
    struct reply reply;

    assert_int_equal(ask(fd, 0, PING).code, 0);
    assert_int_equal(ask_strings(fd, 16, "{\"name\":\"t\"}", NULL).code, 9);
    reply = ask(fd, 1, LOGIN);
    assert_int_equal(reply.code, 0);
    assert_int_equal(reply.head.sequence, 7);
    assert_memory_equal(reply.body, "\x00\x00\x02\x02\x07v5.15.0\x00\x80\xC4\x9F\xD5\x0C", 18);
    assert_int_equal(ask(fd, 1, LOGIN).code, 3);
    assert_int_equal(ask_strings(fd, 99, "x", NULL).code, 3);
    close(fd);
}

/* The first write of a client that knows no names is sent back once; then everything is found. */
static void
a_document_is_written_and_found(void **state)
{
    static const char item[] =
        "\x07\x1A\x00\x00\x00\x06\x08\x0E\x12\x02hi\x1D\x02\x00\x00\x09\x00\x00\x80\x3F"
        "\x00\x00\x00\x3F\x07\x03\x02id\x04name\x03vec";
    static const char select[] =
        "\x04\x02\x08\x04"
        "docs\x04\x00\x0B\x08\xE4\x80\x01\x08\xD0\x0F\x02\x0B\x01\xFF\xFF\xFF\xFF\xFF\xFF\xFF\xFF"
        "\xFF\x01\x01\x00\x00";
    int fd = dial(*state);
    struct reply reply;
    anx_buffer body;
    anx_reader in;
    int32_t token;

    assert_int_equal(ask(fd, 1, LOGIN).code, 0);
    assert_int_equal(ask_strings(fd, 16, "{\"name\":\"docs\"}", NULL).code, 0);
    assert_int_equal(ask_strings(fd, 16, "{\"name\":\"docs\"}", NULL).code, 0);
    for (int i = 0; i < 2; i++)
        assert_int_equal(ask_strings(fd, 21, "docs",
                                     "{\"name\":\"id\",\"json_paths\":[\"id\"],\"field_type\":\"int64\","
                                     "\"index_type\":\"hash\",\"is_pk\":true}")
                             .code,
                         0);
    assert_int_equal(ask_strings(fd, 21, "docs",
                                 "{\"name\":\"vec\",\"json_paths\":[\"vec\"],\"field_type\":\"float_vector\","
                                 "\"index_type\":\"hnsw\","
                                 "\"config\":{\"metric\":\"l2\",\"dimension\":2}}")
                         .code,
                     0);
    reply = ask(fd, 48, (anx_text) { select, sizeof(select) - 1 });
    assert_int_equal(reply.code, 0);
    in = anx_reader_init(reply.body, reply.head.size);
    (void) anx_read_view(&in, 5);    /* code, text, arguments, type, size */
    (void) anx_read_varint(&in);     /* flags */
    (void) anx_read_view(&in, 3);    /* total, all, here */
    assert_int_equal(anx_read_varint(&in), 1);
    (void) anx_read_view(&in, 6);    /* number, "docs" */
    token = (int32_t) (uint32_t) anx_read_varint(&in);
    assert_int_equal(anx_read_varint(&in), 2); /* version: names */
    assert_false(in.failed);
    for (int i = 0; i < 2; i++) {
        anx_buffer_init(&body, NULL, 65536);
        anx_buffer_varint(&body, 7);
        rpc_put_string(&body, ANX_TEXT("docs"));
        rpc_put_int(&body, 1);
        rpc_put_string(&body, (anx_text) { item, sizeof(item) - 1 });
        rpc_put_int(&body, 2);
        rpc_put_string(&body, ANX_TEXT(""));
        rpc_put_int(&body, i == 0 ? 0 : token);
        rpc_put_int(&body, 0);
        reply = ask(fd, 33, (anx_text) { body.data, body.size });
        assert_int_equal(reply.code, i == 0 ? 14 : 0);
        anx_buffer_fini(&body);
    }
    reply = ask_strings(fd, 49, "SELECT *, vectors() FROM docs WHERE KNN(vec, [1, 0.5], k=1)", NULL);
    assert_int_equal(reply.code, 0);
    /* The document as it was sent, with the numbers of the namespace: id 1, vec 2, name 3. */
    assert_non_null(memmem(reply.body, reply.head.size,
                           "\x06\x08\x0E\x1A\x02hi\x15\x02\x00\x00\x09\x00\x00\x80\x3F\x00\x00\x00\x3F\x07",
                           21));
    close(fd);
}

static void
frames_may_arrive_in_any_pieces(void **state)
{
    int fd = dial(*state);
    struct rpc_head head = { .command = 1, .size = (uint32_t) LOGIN.size };
    uint8_t bytes[RPC_HEAD_SIZE + 64];

    rpc_head_write(&head, bytes);
    memcpy(bytes + RPC_HEAD_SIZE, LOGIN.data, LOGIN.size);
    for (size_t i = 0; i < RPC_HEAD_SIZE + LOGIN.size; i++)
        assert_int_equal(send(fd, bytes + i, 1, MSG_NOSIGNAL), 1);
    assert_int_equal(receive(fd).code, 0);
    for (uint32_t i = 0; i < 512; i++)
        put(fd, 0, i, PING);
    for (uint32_t i = 0; i < 512; i++)
        assert_int_equal(receive(fd).head.sequence, i);
    close(fd);
}

static void
forged_frames_end_the_connection(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        int code;
    } rows[] = {
#define ROW(bytes, code) { bytes, sizeof(bytes) - 1, code }
        ROW("\x33\x11\xDD\xEE\x04\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", 3),     /* magic */
        ROW("\x32\x11\xDD\xEE\x00\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00", 3),     /* version */
        ROW("\x32\x11\xDD\xEE\x04\x01\x01\x00\xFF\xFF\xFF\xFF\x00\x00\x00\x00", 3),     /* four gigabytes */
        ROW("\x32\x11\xDD\xEE\x04\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\x00\xFF", 8), /* arguments */
        ROW("\x32\x11\xDD\xEE\x04\x05\x00\x00\x03\x00\x00\x00\x00\x00\x00\x00\xFF\xFF\xFF",
            8), /* compression */
#undef ROW
    };

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        int fd = dial(*state);

        assert_int_equal(send(fd, rows[i].bytes, rows[i].size, MSG_NOSIGNAL), (ssize_t) rows[i].size);
        assert_int_equal(receive(fd).code, rows[i].code);
        assert_true(is_ended(fd));
        close(fd);
    }
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(heads_are_checked),
        cmocka_unit_test(arguments_are_read),
        cmocka_unit_test_setup_teardown(login_comes_first, setup, teardown),
        cmocka_unit_test_setup_teardown(a_document_is_written_and_found, setup, teardown),
        cmocka_unit_test_setup_teardown(frames_may_arrive_in_any_pieces, setup, teardown),
        cmocka_unit_test_setup_teardown(forged_frames_end_the_connection, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
