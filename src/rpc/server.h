/* The server of the binary protocol (cproto): the same database as HTTP, for the official connectors.
 *
 *     struct rpc_params params = { .engine = engine, .address = "127.0.0.1:6534" };
 *     rpc_server_open(&params, &server, &err);
 *     ...
 *     rpc_server_close(server);
 *
 * Connections live on event loops (libevent). A request that is sure to be short is answered on its loop;
 * everything else goes to a pool of worker threads. Requests of one connection are answered in their order.
 * Threads: open and close by one thread; the rest is inside. */
#ifndef ANX_RPC_SERVER_H
#define ANX_RPC_SERVER_H

#include "db/db.h"
#include "net/tls.h"

struct rpc_server;
struct users;

struct rpc_params {
    struct engine *engine;     /* borrowed until close */
    struct users *users;       /* NULL: every login is accepted */
    const char *address;       /* HOST:PORT; NULL or "none": no plain listener */
    const char *tls_address;   /* HOST:PORT; NULL or "none" */
    const char *unix_path;     /* socket file; NULL or "none". A stale one is replaced. */
    anx_tls *tls;              /* for tls_address; borrowed */
    size_t n_loop;             /* event loops; 0: two per CPU, at least 4 */
    size_t n_worker;           /* 0: 16 */
    size_t max_connections;    /* 0: 10,000 */
    size_t max_request_bytes;  /* of a frame; 0: 256 MiB */
    size_t max_response_bytes; /* 0: 1 GiB */
    unsigned idle_timeout_s;   /* connections without traffic; 0: 300 */
    unsigned result_timeout_s; /* results that nobody fetches; 0: 600 */
    int64_t start_time;        /* Unix seconds; clients take another one for a restart */
};

/* Errors: those of anx_listen_open; ANX_E_INVALID (address), ANX_E_NETWORK (socket file), ANX_E_NOMEM. */
ANX_NODISCARD anx_status rpc_server_open(const struct rpc_params *params, struct rpc_server **out,
                                         anx_error *err);
/* The bound port of the plain (or TLS) listener, 0 without one. */
unsigned rpc_server_port(const struct rpc_server *server, bool tls);
/* No new connections; running requests are cancelled; then everything is freed. NULL is fine. */
void rpc_server_close(struct rpc_server *server);

#endif
