/* The status server: plain HTTP on its own port and thread, for people, scripts and monitoring.
 *
 *     GET /         {"status":N,"status_updated_at":MS}   exactly these two keys, no line feed
 *     GET /status   the same two keys first, then jobs, queue, totals, last error, version
 *     GET /metrics  Prometheus text format 0.0.4
 *     GET /healthz  200 "ok", 503 "draining"
 *
 * HEAD is GET without a body; other methods are answered 405, other paths 404. A request is limited to 8 KiB
 * of head and 1 KiB of body, and to 10 s.
 *
 * Its thread is also the server's clock: `tick` is called about once a second.
 *
 * Threads: open, close: the owner; the callbacks are called on the status thread. */
#ifndef ANX_INDEXING_STATUS_HTTP_H
#define ANX_INDEXING_STATUS_HTTP_H

#include <stdint.h>

#include "annex/status.h"
#include "indexing/jobs.h"

#define STATUS_JOBS_MAX 64 /* shown; more than a server runs at once */

/* The server as it was at one moment. */
struct status_view {
    struct jobs_view jobs;
    struct job_view job[STATUS_JOBS_MAX];
    size_t n_job;
    size_t n_session, max_sessions; /* slots in use, reserved ones included */
    size_t n_waiting, max_waiting;  /* clients in line */
    size_t n_build, max_builds, n_build_waiting;
    size_t memory, memory_limit;
    double uptime_s;
    uint64_t started_ms; /* Unix time */
    bool is_draining;
};

struct status_params {
    const char *host;
    uint16_t port;
    void (*look)(void *context, struct status_view *view);
    void (*tick)(void *context);
    void *context;
};

struct status_http;
/* Errors: those of anx_listen_open, ANX_E_NOMEM. */
ANX_NODISCARD anx_status anx_status_http_open(const struct status_params *params, struct status_http **out,
                                              anx_error *err);
uint16_t anx_status_http_port(const struct status_http *http);
void anx_status_http_close(struct status_http *http); /* NULL is fine */

#endif
