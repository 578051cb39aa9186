/* The HTTP server of the document database: listeners, event loops, worker threads, limits.
 *
 *     struct http_params params = { .engine = engine, .address = "127.0.0.1:9088" };
 *     http_server_open(&params, &server, &err);
 *     ...
 *     http_server_close(server);
 *
 * Several event loops (libevent) share the connections. A request that is sure to be short (a KNN query, a
 * lookup) is answered on its loop; everything else, and everything that waits for the disk, goes to a pool of
 * worker threads and comes back to the loop as finished bytes. The answer is written once and sent from where
 * it was written. Threads: open and close by one thread; the rest is inside.
 */
#ifndef ANX_HTTP_SERVER_H
#define ANX_HTTP_SERVER_H

#include "db/db.h"
#include "net/tls.h"

struct http_server;
struct users;

struct http_params {
    struct engine *engine;      /* borrowed until close */
    struct users *users;        /* NULL: no authentication */
    const char *address;        /* HOST:PORT, NULL or "none": no plain listener */
    const char *tls_address;    /* HOST:PORT, NULL or "none" */
    anx_tls *tls;               /* for tls_address; borrowed */
    size_t n_loop;              /* event loops; 0: two per CPU, at least 4 */
    size_t n_worker;            /* 0: 16 */
    size_t max_connections;     /* 0: 10,000 */
    size_t max_request_bytes;   /* body; 0: no limit */
    size_t max_response_bytes;  /* 0: no limit */
    unsigned read_timeout_s, write_timeout_s; /* 0: none */
    const char *indexing_status; /* URL of an indexing server's status; NULL or "": none */
    bool with_metrics;
    bool with_access_log;
    const struct http_info *info; /* what /check tells; borrowed, required */
};
struct http_info {
    const char *version;
    int64_t start_time; /* Unix seconds */
    const char *http_address, *https_address, *rpc_address, *storage_path, *log_level;
};

/* Errors: those of anx_listen_open; ANX_E_INVALID (address), ANX_E_NOMEM. */
ANX_NODISCARD anx_status http_server_open(const struct http_params *params, struct http_server **out,
                                          anx_error *err);
/* The bound port of the plain (or TLS) listener, 0 without one. */
unsigned http_server_port(const struct http_server *server, bool tls);
/* No new connections; running requests are finished; then everything is freed. NULL is fine. */
void http_server_close(struct http_server *server);

#endif
