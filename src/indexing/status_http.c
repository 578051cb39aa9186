/* See status_http.h. */
#include "indexing/status_http.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>

#include "base/alloc.h"
#include "base/error.h"
#include "net/listen.h"

#ifndef ANX_VERSION
#define ANX_VERSION "unknown"
#endif

#define HEAD_MAX 8192
#define BODY_MAX 1024
#define REQUEST_S 10

struct status_http {
    struct status_params params;
    struct anx_listen listen;
    struct event_base *base;
    struct evhttp *http;
    struct event *stop, *clock;
    int stop_fd;
    pthread_t thread;
    bool has_thread;
    struct status_view view; /* the status thread's, too large for its stack */
};

/* --- what is said --- */

/* Text inside quotes; of what is not ASCII only whole UTF-8 ever reaches us (errors and names are cleaned).
 */
static void
add_json_text(struct evbuffer *out, const char *text)
{
    evbuffer_add(out, "\"", 1);
    for (const char *c = text; *c; c++)
        if (*c == '"' || *c == '\\')
            evbuffer_add_printf(out, "\\%c", *c);
        else if ((unsigned char) *c < 0x20)
            evbuffer_add_printf(out, "\\u%04x", (unsigned) (unsigned char) *c);
        else
            evbuffer_add(out, c, 1);
    evbuffer_add(out, "\"", 1);
}

static void
say_status(struct evbuffer *out, const struct status_view *view)
{
    evbuffer_add_printf(out, "{\"status\":%d,\"status_updated_at\":%" PRIu64, (int) view->jobs.status,
                        view->jobs.updated_ms);
}

static void
say_job(struct evbuffer *out, const struct job_view *job)
{
    evbuffer_add_printf(out, "{\"id\":%" PRIu64 ",\"peer\":", job->id);
    add_json_text(out, job->peer);
    evbuffer_add_printf(out, ",\"name\":");
    add_json_text(out, job->name);
    evbuffer_add_printf(out, ",\"phase\":\"%s\",\"step\":", anx_job_phase_name(job->phase));
    if (job->step)
        add_json_text(out, job->step);
    else
        evbuffer_add_printf(out, "null");
    evbuffer_add_printf(out, ",\"rows\":%" PRIu64 ",\"expected_rows\":%" PRIu64 ",\"rows_per_second\":%.0f",
                        job->rows, job->expected, job->rows_per_second);
    if (job->percent >= 0)
        evbuffer_add_printf(out, ",\"percent\":%.1f", job->percent);
    else
        evbuffer_add_printf(out, ",\"percent\":null");
    evbuffer_add_printf(out,
                        ",\"seconds\":%.1f,\"memory\":%zu,\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64
                        ",\"index_size\":%" PRIu64 "}",
                        job->seconds, job->memory, job->bytes_in, job->bytes_out, job->size);
}

static void
answer_root(struct evbuffer *out, const struct status_view *view)
{
    say_status(out, view);
    evbuffer_add(out, "}", 1);
}

static void
answer_status(struct evbuffer *out, const struct status_view *view)
{
    const struct jobs_totals *totals = &view->jobs.totals;

    say_status(out, view);
    evbuffer_add_printf(out, ",\"jobs\":[");
    for (size_t i = 0; i < view->n_job; i++) {
        if (i > 0)
            evbuffer_add(out, ",", 1);
        say_job(out, &view->job[i]);
    }
    evbuffer_add_printf(
        out,
        "],\"queue\":%zu,\"max_queue\":%zu,\"sessions\":%zu,\"max_clients\":%zu,\"builds\":%zu,"
        "\"max_builds\":%zu,\"builds_waiting\":%zu,\"memory\":%zu,\"max_memory\":%zu",
        view->n_waiting, view->max_waiting, view->n_session, view->max_sessions, view->n_build,
        view->max_builds, view->n_build_waiting, view->memory, view->memory_limit);
    evbuffer_add_printf(out,
                        ",\"totals\":{\"succeeded\":%" PRIu64 ",\"failed\":%" PRIu64 ",\"cancelled\":%" PRIu64
                        ",\"refused\":%" PRIu64 ",\"resumed\":%" PRIu64 ",\"connections\":%" PRIu64
                        ",\"rows\":%" PRIu64 ",\"bytes_in\":%" PRIu64 ",\"bytes_out\":%" PRIu64 "}",
                        totals->succeeded, totals->failed, totals->cancelled, totals->refused,
                        totals->resumed, totals->connections, totals->rows, totals->bytes_in,
                        totals->bytes_out);
    evbuffer_add_printf(out, ",\"last_error\":");
    if (view->jobs.last_error[0]) {
        add_json_text(out, view->jobs.last_error);
        evbuffer_add_printf(out, ",\"last_error_at\":%" PRIu64, view->jobs.last_error_ms);
    } else {
        evbuffer_add_printf(out, "null,\"last_error_at\":null");
    }
    evbuffer_add_printf(out, ",\"draining\":%s,\"version\":\"" ANX_VERSION "\",\"uptime\":%.1f}",
                        view->is_draining ? "true" : "false", view->uptime_s);
}

/* One metric without labels. */
static void
metric(struct evbuffer *out, const char *name, const char *type, const char *help, double value)
{
    evbuffer_add_printf(out,
                        "# HELP annex_indexing_%s %s\n# TYPE annex_indexing_%s %s\nannex_indexing_%s %.17g\n",
                        name, help, name, type, name, value);
}

static void
metric_phases(struct evbuffer *out, const struct status_view *view)
{
    size_t count[JOB_PHASE_COUNT] = { 0 };

    for (size_t i = 0; i < view->n_job; i++)
        count[view->job[i].phase]++;
    evbuffer_add_printf(out, "# HELP annex_indexing_jobs Builds in progress by phase.\n"
                             "# TYPE annex_indexing_jobs gauge\n");
    for (int phase = 0; phase < JOB_PHASE_COUNT; phase++)
        evbuffer_add_printf(out, "annex_indexing_jobs{phase=\"%s\"} %zu\n",
                            anx_job_phase_name((enum job_phase) phase), count[phase]);
}

static void
metric_builds(struct evbuffer *out, const struct jobs_totals *totals)
{
    evbuffer_add_printf(out,
                        "# HELP annex_indexing_builds_total Builds that ended.\n"
                        "# TYPE annex_indexing_builds_total counter\n"
                        "annex_indexing_builds_total{result=\"succeeded\"} %" PRIu64 "\n"
                        "annex_indexing_builds_total{result=\"failed\"} %" PRIu64 "\n"
                        "annex_indexing_builds_total{result=\"cancelled\"} %" PRIu64 "\n",
                        totals->succeeded, totals->failed, totals->cancelled);
    evbuffer_add_printf(
        out,
        "# HELP annex_indexing_build_seconds Time of builds that succeeded, from request to last "
        "byte.\n"
        "# TYPE annex_indexing_build_seconds summary\n"
        "annex_indexing_build_seconds_sum %.17g\n"
        "annex_indexing_build_seconds_count %" PRIu64 "\n",
        totals->build_seconds, totals->succeeded);
}

static void
answer_metrics(struct evbuffer *out, const struct status_view *view)
{
    const struct jobs_totals *totals = &view->jobs.totals;
    double rows = (double) totals->rows;
    double in = (double) totals->bytes_in;
    double sent = (double) totals->bytes_out;

    for (size_t i = 0; i < view->n_job; i++) {
        rows += (double) view->job[i].rows;
        in += (double) view->job[i].bytes_in;
        sent += (double) view->job[i].bytes_out;
    }
    metric(out, "status", "gauge", "0 idle, 1 in progress, 2 failed, 3 succeeded.",
           (double) view->jobs.status);
    metric_phases(out, view);
    metric_builds(out, totals);
    metric(out, "rows_total", "counter", "Rows received.", rows);
    metric(out, "received_bytes_total", "counter", "Bytes received from clients.", in);
    metric(out, "sent_bytes_total", "counter", "Bytes sent to clients.", sent);
    metric(out, "connections_total", "counter", "Connections accepted.", (double) totals->connections);
    metric(out, "refused_total", "counter", "Requests refused.", (double) totals->refused);
    metric(out, "resumed_total", "counter", "Downloads resumed.", (double) totals->resumed);
    metric(out, "sessions", "gauge", "Session slots in use.", (double) view->n_session);
    metric(out, "sessions_limit", "gauge", "Session slots (--max-clients).", (double) view->max_sessions);
    metric(out, "queue_length", "gauge", "Clients that wait for a slot.", (double) view->n_waiting);
    metric(out, "builds_running", "gauge", "Graph builds at once.", (double) view->n_build);
    metric(out, "builds_waiting", "gauge", "Builds that wait for their turn.",
           (double) view->n_build_waiting);
    metric(out, "memory_bytes", "gauge", "Memory held by builds.", (double) view->memory);
    metric(out, "memory_limit_bytes", "gauge", "Limit of it (--max-memory).", (double) view->memory_limit);
    metric(out, "draining", "gauge", "1 while the server shuts down.", view->is_draining ? 1 : 0);
    metric(out, "start_time_seconds", "gauge", "Unix time of the start.", (double) view->started_ms / 1000);
    evbuffer_add_printf(out, "# HELP annex_indexing_info The version.\n# TYPE annex_indexing_info gauge\n"
                             "annex_indexing_info{version=\"" ANX_VERSION "\"} 1\n");
}

static void
answer_health(struct evbuffer *out, const struct status_view *view)
{
    evbuffer_add_printf(out, view->is_draining ? "draining" : "ok");
}

/* --- how --- */

struct route {
    const char *path, *type;
    void (*answer)(struct evbuffer *out, const struct status_view *view);
    bool fails_draining;
};
static const struct route routes[] = {
    { "/", "application/json", answer_root, false },
    { "/status", "application/json", answer_status, false },
    { "/metrics", "text/plain; version=0.0.4; charset=utf-8", answer_metrics, false },
    { "/healthz", "text/plain; charset=utf-8", answer_health, true },
};

static const struct route *
find_route(const char *path)
{
    for (size_t i = 0; path && i < ANX_COUNT_OF(routes); i++)
        if (strcmp(routes[i].path, path) == 0)
            return &routes[i];
    return NULL;
}

static void
drop_body(struct evkeyvalq *headers, struct evbuffer *out)
{
    char size[32];

    snprintf(size, sizeof(size), "%zu", evbuffer_get_length(out));
    evhttp_add_header(headers, "Content-Length", size);
    evbuffer_drain(out, evbuffer_get_length(out));
}

/* An evhttp callback. Not evhttp_send_error: its pages echo what they were asked. */
static void
on_request(struct evhttp_request *request, void *argument)
{
    struct status_http *http = argument;
    const struct evhttp_uri *uri = evhttp_request_get_evhttp_uri(request);
    const char *path = uri ? evhttp_uri_get_path(uri) : NULL;
    const struct route *route = find_route(path && *path ? path : "/");
    struct evkeyvalq *headers = evhttp_request_get_output_headers(request);
    enum evhttp_cmd_type method = evhttp_request_get_command(request);
    struct evbuffer *out;
    bool fails;

    if (!route) {
        evhttp_send_reply(request, HTTP_NOTFOUND, "Not Found", NULL);
        return;
    }
    if (method != EVHTTP_REQ_GET && method != EVHTTP_REQ_HEAD) {
        evhttp_add_header(headers, "Allow", "GET, HEAD");
        evhttp_send_reply(request, HTTP_BADMETHOD, "Method Not Allowed", NULL);
        return;
    }
    out = evbuffer_new();
    if (!out) {
        evhttp_send_reply(request, HTTP_SERVUNAVAIL, "Service Unavailable", NULL);
        return;
    }
    http->params.look(http->params.context, &http->view);
    route->answer(out, &http->view);
    evhttp_add_header(headers, "Content-Type", route->type);
    evhttp_add_header(headers, "Cache-Control", "no-store");
    fails = route->fails_draining && http->view.is_draining;
    if (method == EVHTTP_REQ_HEAD) /* evhttp would send the body all the same */
        drop_body(headers, out);
    evhttp_send_reply(request, fails ? HTTP_SERVUNAVAIL : HTTP_OK, fails ? "Service Unavailable" : "OK", out);
    evbuffer_free(out);
}

static void
on_stop(evutil_socket_t fd, short what, void *argument)
{
    (void) fd, (void) what;
    event_base_loopbreak(((struct status_http *) argument)->base);
}

static void
on_clock(evutil_socket_t fd, short what, void *argument)
{
    struct status_http *http = argument;

    (void) fd, (void) what;
    http->params.tick(http->params.context);
}

static void *
status_main(void *argument)
{
    struct status_http *http = argument;

    event_base_dispatch(http->base);
    return NULL;
}

static anx_status
set_up(struct status_http *http, anx_error *err)
{
    static const struct timeval second = { 1, 0 };
    bool is_good;

    http->base = event_base_new();
    http->http = http->base ? evhttp_new(http->base) : NULL;
    http->stop_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (!http->http || http->stop_fd < 0)
        return anx_fail(err, ANX_E_NOMEM, "could not set up the status server");
    http->stop = event_new(http->base, http->stop_fd, EV_READ, on_stop, http);
    http->clock = event_new(http->base, -1, EV_PERSIST, on_clock, http);
    is_good = http->stop && http->clock && event_add(http->stop, NULL) == 0 &&
              event_add(http->clock, &second) == 0;
    evhttp_set_max_headers_size(http->http, HEAD_MAX);
    evhttp_set_max_body_size(http->http, BODY_MAX);
    evhttp_set_timeout(http->http, REQUEST_S);
    evhttp_set_allowed_methods(http->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST | EVHTTP_REQ_HEAD |
                                               EVHTTP_REQ_PUT | EVHTTP_REQ_DELETE | EVHTTP_REQ_OPTIONS |
                                               EVHTTP_REQ_TRACE | EVHTTP_REQ_CONNECT | EVHTTP_REQ_PATCH);
    evhttp_set_gencb(http->http, on_request, http);
    for (size_t i = 0; i < http->listen.n && is_good; i++) {
        is_good = evhttp_accept_socket(http->http, http->listen.fds[i]) == 0;
        if (is_good)
            http->listen.fds[i] = -1; /* evhttp closes it */
    }
    return is_good ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not set up the status server");
}

anx_status
anx_status_http_open(const struct status_params *params, struct status_http **out, anx_error *err)
{
    struct status_http *http = anx_alloc_zeroed(NULL, 1, sizeof(*http));
    anx_status st;
    int rc;

    *out = NULL;
    if (!http)
        return anx_fail(err, ANX_E_NOMEM, "could not set up the status server");
    http->params = *params;
    http->stop_fd = -1;
    st = anx_listen_open(&http->listen, params->host, params->port, err);
    if (st == ANX_OK)
        st = set_up(http, err);
    if (st == ANX_OK) {
        rc = pthread_create(&http->thread, NULL, status_main, http);
        if (rc != 0)
            st = anx_fail(err, ANX_E_NOMEM, "could not start the status server: %s", strerror(rc));
        http->has_thread = rc == 0;
    }
    if (st != ANX_OK) {
        anx_status_http_close(http);
        return st;
    }
    pthread_setname_np(http->thread, "annex-status");
    *out = http;
    return ANX_OK;
}

uint16_t
anx_status_http_port(const struct status_http *http)
{
    return http->listen.port;
}

void
anx_status_http_close(struct status_http *http)
{
    static const uint64_t one = 1;

    if (!http)
        return;
    if (http->has_thread) {
        while (write(http->stop_fd, &one, sizeof(one)) < 0 && errno == EINTR)
            ;
        pthread_join(http->thread, NULL);
    }
    if (http->stop)
        event_free(http->stop);
    if (http->clock)
        event_free(http->clock);
    if (http->http)
        evhttp_free(http->http);
    if (http->base)
        event_base_free(http->base);
    if (http->stop_fd >= 0)
        close(http->stop_fd);
    for (size_t i = 0; i < http->listen.n; i++)
        if (http->listen.fds[i] >= 0)
            close(http->listen.fds[i]);
    anx_free(NULL, http);
}
