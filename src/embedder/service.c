/* The service; see the header. Threads: each has an event base, an evhttp and a text of its own and accepts
 * from the same sockets; nothing is shared but the model, which nobody writes. */
#include "embedder/service.h"

#include <event2/buffer.h>
#include <event2/event.h>
#include <event2/http.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/thread.h"
#include "doc/json.h"
#include "net/listen.h"

#define BODY_DEFAULT ((size_t) 64 << 20)
#define HEAD_MAX 16384
#define READ_DEFAULT_S 60
#define ANSWER_MAX ((size_t) 1 << 30)

struct loop {
    struct embedder_service *service;
    pthread_t thread;
    struct event_base *base;
    struct evhttp *http;
    struct event *stop;
    struct model_text *text;
};
struct embedder_service {
    struct embedder_service_params params;
    struct anx_listen listen;
    int stop_fd; /* eventfd, readable when the loops are to end; -1 */
    struct loop *loops;
    size_t n_loop, n_running;
};

/* ---- Answers ---- */

static void
free_answer(const void *data, size_t size, void *context)
{
    (void) size;
    (void) context;
    anx_free(NULL, (void *) (uintptr_t) data);
}

static void
send_buffer(struct evhttp_request *request, int code, anx_buffer *body)
{
    struct evbuffer *out = evhttp_request_get_output_buffer(request);

    evhttp_add_header(evhttp_request_get_output_headers(request), "Content-Type", "application/json");
    evhttp_add_header(evhttp_request_get_output_headers(request), "Server", "annex");
    if (body->size > 0 && evbuffer_add_reference(out, body->data, body->size, free_answer, NULL) == 0)
        body->data = NULL; /* libevent's now */
    evhttp_send_reply(request, code, NULL, NULL);
    anx_buffer_fini(body);
}

static void
send_error(struct evhttp_request *request, int code, const char *description)
{
    anx_buffer body;

    anx_buffer_init(&body, NULL, 1 << 16);
    anx_buffer_printf(&body, "{\"success\":false,\"response_code\":%d,\"description\":", code);
    json_print_text(&body, anx_text_of(description));
    anx_buffer_char(&body, '}');
    send_buffer(request, code, &body);
}

static void
send_about(struct evhttp_request *request, const struct model *model)
{
    anx_buffer body;

    anx_buffer_init(&body, NULL, 1 << 16);
    anx_buffer_printf(&body, "{\"service\":\"annex embedder\",\"terms\":%zu,\"dimension\":%u}",
                      model_terms(model), model_dim(model));
    send_buffer(request, 200, &body);
}

static bool
is_produce(const char *path)
{
    static const char head[] = "/api/v1/embedder/", tail[] = "/produce";
    size_t size = path ? strlen(path) : 0;

    return size > sizeof(head) + sizeof(tail) - 2 && strncmp(path, head, sizeof(head) - 1) == 0 &&
           strcmp(path + size - (sizeof(tail) - 1), tail) == 0;
}

static void
on_request(struct evhttp_request *request, void *context)
{
    struct loop *loop = context;
    const struct model *model = loop->service->params.model;
    const char *path = evhttp_uri_get_path(evhttp_request_get_evhttp_uri(request));
    struct evbuffer *input = evhttp_request_get_input_buffer(request);
    bool is_get = evhttp_request_get_command(request) == EVHTTP_REQ_GET;
    size_t size = evbuffer_get_length(input);
    anx_buffer body;
    anx_error err;
    anx_status st;

    if (is_get && path && (strcmp(path, "/") == 0 || *path == 0)) {
        send_about(request, model);
        return;
    }
    if (!is_produce(path)) {
        send_error(request, 404, "the address of this service is /api/v1/embedder/NAME/produce");
        return;
    }
    if (evhttp_request_get_command(request) != EVHTTP_REQ_POST) {
        send_error(request, 405, "inputs are sent with POST");
        return;
    }
    anx_buffer_init(&body, NULL, ANSWER_MAX);
    st = embedder_answer(loop->text, model,
                         (anx_text){ size > 0 ? (const char *) evbuffer_pullup(input, -1) : "", size }, &body,
                         &err);
    if (st == ANX_OK) {
        send_buffer(request, 200, &body);
        return;
    }
    anx_buffer_fini(&body);
    send_error(request, st == ANX_E_NOMEM ? 500 : 400, err.message);
}

/* ---- Life ---- */

static void
on_stop(evutil_socket_t fd, short what, void *context)
{
    struct loop *loop = context;

    (void) fd;
    (void) what;
    event_base_loopexit(loop->base, NULL);
}

static void *
run_loop(void *context)
{
    struct loop *loop = context;

    event_base_dispatch(loop->base);
    return NULL;
}

static anx_status
loop_open(struct loop *loop, struct embedder_service *service, anx_error *err)
{
    const struct embedder_service_params *params = &service->params;

    loop->service = service;
    loop->text = model_text_create(params->model, params->weights);
    loop->base = event_base_new();
    loop->http = loop->base ? evhttp_new(loop->base) : NULL;
    if (loop->http)
        loop->stop = event_new(loop->base, service->stop_fd, EV_READ, on_stop, loop);
    if (!loop->text || !loop->stop || event_add(loop->stop, NULL) != 0)
        return anx_fail(err, ANX_E_NOMEM, "cannot make an event loop");
    evhttp_set_gencb(loop->http, on_request, loop);
    evhttp_set_allowed_methods(loop->http, EVHTTP_REQ_GET | EVHTTP_REQ_POST);
    evhttp_set_max_headers_size(loop->http, HEAD_MAX);
    evhttp_set_max_body_size(loop->http, (ev_ssize_t) (params->max_body ? params->max_body : BODY_DEFAULT));
    evhttp_set_timeout(loop->http, (int) (params->read_timeout_s ? params->read_timeout_s : READ_DEFAULT_S));
    for (size_t i = 0; i < service->listen.n; i++) {
        int fd = dup(service->listen.fds[i]);

        if (fd < 0 || evhttp_accept_socket(loop->http, fd) != 0) {
            if (fd >= 0)
                close(fd);
            return anx_fail(err, ANX_E_NOMEM, "cannot listen for HTTP");
        }
    }
    return ANX_OK;
}

static anx_status
start(struct embedder_service *service, anx_error *err)
{
    sigset_t all, before;
    int failed = 0;

    sigfillset(&all);
    pthread_sigmask(SIG_BLOCK, &all, &before); /* signals are the main thread's */
    while (failed == 0 && service->n_running < service->n_loop) {
        struct loop *loop = &service->loops[service->n_running];

        failed = pthread_create(&loop->thread, NULL, run_loop, loop);
        service->n_running += failed == 0;
    }
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return failed == 0 ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "cannot start a thread: %s", strerror(failed));
}

anx_status
embedder_service_open(const struct embedder_service_params *params, struct embedder_service **out,
                      anx_error *err)
{
    struct embedder_service *service = anx_alloc_zeroed(NULL, 1, sizeof(*service));
    anx_status st = ANX_OK;

    *out = NULL;
    if (!service)
        return anx_fail(err, ANX_E_NOMEM, "no memory for the embedding service");
    service->params = *params;
    service->n_loop = params->n_thread > 0 ? params->n_thread : anx_cpu_count();
    service->stop_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    service->loops = anx_alloc_zeroed(NULL, service->n_loop, sizeof(*service->loops));
    if (service->stop_fd < 0 || !service->loops)
        st = anx_fail(err, ANX_E_NOMEM, "no memory for %zu event loops", service->n_loop);
    if (st == ANX_OK)
        st = anx_listen_open(&service->listen, params->host, params->port, err);
    for (size_t i = 0; st == ANX_OK && i < service->n_loop; i++)
        st = loop_open(&service->loops[i], service, err);
    if (st == ANX_OK)
        st = start(service, err);
    if (st != ANX_OK) {
        embedder_service_close(service);
        return st;
    }
    *out = service;
    return ANX_OK;
}

unsigned
embedder_service_port(const struct embedder_service *service)
{
    return service->listen.port;
}

void
embedder_service_close(struct embedder_service *service)
{
    uint64_t one = 1;

    if (!service)
        return;
    if (service->n_running > 0 && write(service->stop_fd, &one, sizeof(one)) < 0)
        for (size_t i = 0; i < service->n_running; i++)
            event_base_loopbreak(service->loops[i].base);
    for (size_t i = 0; i < service->n_running; i++)
        pthread_join(service->loops[i].thread, NULL);
    for (size_t i = 0; service->loops && i < service->n_loop; i++) {
        struct loop *loop = &service->loops[i];

        if (loop->http)
            evhttp_free(loop->http);
        if (loop->stop)
            event_free(loop->stop);
        if (loop->base)
            event_base_free(loop->base);
        model_text_destroy(loop->text);
    }
    anx_listen_close(&service->listen);
    if (service->stop_fd >= 0)
        close(service->stop_fd);
    anx_free(NULL, service->loops);
    anx_free(NULL, service);
}
