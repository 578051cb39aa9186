/* Fuzz target: a whole HTTP connection, through a real server over a socket: heads, framing, pipelining,
 * routes and handlers. The input is what a client sends before it closes its side. First byte: how many bytes
 * the first write has. */
#include <stdint.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/error.h"
#include "http/server.h"
#include "net/listen.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static struct engine *engine;
static struct http_server *server;
static const struct http_info info = {
    .version = "0",
    .http_address = "",
    .https_address = "",
    .rpc_address = "",
    .storage_path = "",
    .log_level = "",
};

static void
stop(void)
{
    http_server_close(server);
    engine_close(engine);
}

static void
start(void)
{
    struct engine_params db = { .path = NULL }; /* in memory */
    struct http_params params = {
        .address = "127.0.0.1:0", .n_loop = 1, .n_worker = 1, .max_request_bytes = 1 << 20
    };
    anx_error err;

    if (engine_open(&db, &engine, &err) != ANX_OK)
        abort();
    params.engine = engine;
    params.info = &info;
    if (http_server_open(&params, &server, &err) != ANX_OK)
        abort();
    atexit(stop);
}

static void
send_all(int fd, const uint8_t *data, size_t size)
{
    for (ssize_t n = 0; size > 0; data += n, size -= (size_t) n)
        if ((n = send(fd, data, size, MSG_NOSIGNAL)) <= 0)
            return; /* refused meanwhile */
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct linger reset = { 1, 0 };
    size_t first = size > 0 && data[0] < size - 1 ? data[0] : 0;
    char sink[4096];
    int fd;

    if (!server)
        start();
    if (size == 0)
        return 0;
    data++;
    size--;
    address.sin_port = htons((uint16_t) http_server_port(server, false));
    fd = socket(AF_INET, SOCK_STREAM, 0);
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
        abort();
    send_all(fd, data, first);
    send_all(fd, data + first, size - first);
    shutdown(fd, SHUT_WR);
    while (recv(fd, sink, sizeof(sink), 0) > 0)
        ; /* until the server closes: a hang is a finding */
    (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)); /* no TIME_WAIT by the million */
    close(fd);
    return 0;
}
