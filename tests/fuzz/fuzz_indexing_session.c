/* Fuzz target: a whole connection to the indexing server: the session's loop, its queue, builder and
 * download, through a real server over a socket. The input is what a client says before it closes its sending
 * side.
 *
 *     first byte, bit 0   1: version 2 (a client's opening is put in front of the frames)
 *
 *                 bit 1   1: the server asks for a token
 *
 *                 bit 2   1: the sums of version 2 frames are made right first
 *
 *                 bit 3   1: a broken download is kept for a moment
 *
 *     second byte         how many bytes the first write has
 *
 * Beyond not crashing: the server closes every connection (a hang is a finding), and says something first.
 *
 * Fuzz it with -detect_leaks=0: what a thread that just ends holds looks like a leak in between. At the end
 * of the process everything is looked at all the same. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "indexing/server.h"
#include "net/listen.h"
#include "wire_repair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { WITH_TOKEN = 2, IS_KEPT = 8 };

static struct indexing_server *servers[4]; /* by both bits */
static char folder[] = "/tmp/annex-fuzz-XXXXXX", token_path[64];

static void
stop(void)
{
    for (size_t i = 0; i < 4; i++)
        anx_indexing_server_destroy(servers[i]);
    unlink(token_path);
    rmdir(folder);
}

static void
start(void)
{
    FILE *file;
    anx_error err;

    if (!mkdtemp(folder))
        abort();
    snprintf(token_path, sizeof(token_path), "%s/token", folder);
    file = fopen(token_path, "w");
    if (!file || fputs("fuzzing-token", file) < 0 || fclose(file) != 0)
        abort();
    for (size_t i = 0; i < 4; i++) {
        struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;

        params.host = "127.0.0.1";
        params.port = params.status_port = 0;
        params.tmp_dir = folder;
        params.token_file = i & 1 ? token_path : NULL;
        params.allow_v1_without_token = true;
        params.threads = params.max_builds = 1;
        params.max_dim = 64;
        params.max_rows = 1000;
        params.max_memory = 256 << 20;
        params.resume_timeout_ms = i & 2 ? 20 : 0;
        if (anx_indexing_server_start(&params, &servers[i], &err) != ANX_OK) {
            fprintf(stderr, "%s\n", err.message);
            abort();
        }
    }
    atexit(stop);
}

static int
dial(const struct indexing_server *server)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    address.sin_port = htons(anx_indexing_server_port(server));
    if (fd < 0 || connect(fd, (struct sockaddr *) &address, sizeof(address)) != 0)
        abort();
    return fd;
}

static void
send_all(int fd, const uint8_t *data, size_t size)
{
    for (ssize_t n = 0; size > 0; data += n, size -= (size_t) n)
        if ((n = send(fd, data, size, MSG_NOSIGNAL)) <= 0)
            return; /* refused meanwhile */
}

static void
talk(const struct indexing_server *server, const uint8_t *data, size_t size, size_t first)
{
    struct linger reset = { 1, 0 };
    char sink[4096];
    size_t n_heard = 0;
    ssize_t n;
    int fd = dial(server);

    if (first > size)
        first = size;
    send_all(fd, data, first);
    send_all(fd, data + first, size - first);
    shutdown(fd, SHUT_WR);
    while ((n = recv(fd, sink, sizeof(sink), 0)) > 0)
        n_heard += (size_t) n;
    if (n_heard == 0 && n == 0)
        __builtin_trap(); /* even a full house says hello */
    (void) setsockopt(fd, SOL_SOCKET, SO_LINGER, &reset, sizeof(reset)); /* no TIME_WAIT by the million */
    close(fd);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t at = 0;
    uint8_t *said;

    if (!servers[0])
        start();
    if (size < 2)
        return 0;
    said = anx_alloc_bytes(NULL, ANX_WIRE_UPGRADE_SIZE + size - 2);
    if (!said)
        return 0;
    if (data[0] & 1) {
        anx_wire_upgrade_encode(said);
        at = ANX_WIRE_UPGRADE_SIZE;
    }
    if (size > 2)
        memcpy(said + at, data + 2, size - 2);
    if ((data[0] & 5) == 5)
        wire_repair(said, at + size - 2, at);
    talk(servers[(data[0] & WITH_TOKEN ? 1 : 0) + (data[0] & IS_KEPT ? 2 : 0)], said, at + size - 2, data[1]);
    anx_free(NULL, said);
    return 0;
}
