/* One client, one thread: handshake, a place in the queue, the greeting, and then whichever version of the
 * protocol the client speaks. What both versions share is here: input, rows into the builder, the job. */
#include <errno.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include <openssl/ssl.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "indexing/server_int.h"

#define IN_SMALL ((size_t) 4 << 10) /* until a build begins */
#define TWO_BYTES_MS 2000 /* the first word of a real client comes in one piece */
#define LAST_WORDS_MS 5000     /* to get an error frame out */
#define ERROR_LINGER_MS \
    30000 /* and for a client in the middle of its rows to come to the point where it reads */
#define SUCCESS_LINGER_MS 1000 /* it owes us nothing any more */
#define STOPPING_LINGER_MS 500
#define LINGER_BYTES ((size_t) 8 << 30)

/* --- waiting --- */

void
anx_session_wake(struct session *s)
{
    static const uint64_t one = 1;

    if (write(s->wake_fd, &one, sizeof(one)) < 0)
        anx_log(ANX_LOG_DEBUG, "event=wake_failed error=\"%s\"", strerror(errno));
}

void
anx_session_stop(struct session *s, enum session_stop why)
{
    atomic_store_explicit(&s->stop, why, memory_order_relaxed);
    anx_session_wake(s);
}

static bool
is_stopped(const struct session *s)
{
    if (s->is_parting)
        return false;
    return atomic_load_explicit(&s->stop, memory_order_relaxed) != SESSION_RUN ||
           (s->lingers && atomic_load(&s->server->is_draining));
}

anx_status
anx_session_fail_stopped(const struct session *s, anx_error *err)
{
    int stop = atomic_load_explicit(&s->stop, memory_order_relaxed);

    if (stop == SESSION_REPLACED)
        return anx_fail(err, ANX_E_CANCELLED, "the client went on with another connection");
    if (stop == SESSION_ABANDONED)
        return anx_fail(err, ANX_E_CANCELLED, "the client gave up");
    (void) anx_fail(err, ANX_E_CANCELLED, "the indexing server is shutting down");
    anx_error_hint(err, "try again when it is back");
    return ANX_E_CANCELLED;
}

/* An anx_stream_wait_fn: also wakes up for wake_fd. That ends a wait for input (`wakes`), so that the caller
 * looks at what changed; a write goes on, unless the session was stopped. */
static anx_status
wait_for_socket(void *context, int fd, short events, int timeout_ms, short *ready, anx_error *err)
{
    struct session *s = context;
    struct pollfd polled[2] = { { .fd = fd, .events = events }, { .fd = s->wake_fd, .events = POLLIN } };
    bool was_woken = false;

    *ready = 0;
    if (is_stopped(s))
        return anx_session_fail_stopped(s, err);
    if (poll(polled, 2, timeout_ms) < 0 && errno != EINTR)
        return anx_fail(err, ANX_E_IO, "could not wait for the connection: %s", strerror(errno));
    if (polled[1].revents) {
        uint64_t count;

        was_woken = read(s->wake_fd, &count, sizeof(count)) == sizeof(count);
    }
    *ready = polled[0].revents;
    if (is_stopped(s))
        return anx_session_fail_stopped(s, err);
    if (was_woken && s->wakes && !*ready)
        return anx_fail(err, ANX_E_CANCELLED, "woken");
    return ANX_OK;
}

/* --- input --- */

anx_status
anx_session_room(struct session *s, size_t size, anx_error *err)
{
    uint8_t *bigger;

    if (s->in_at > 0 && (s->in_at == s->in_end || s->in_at + size > s->in_capacity)) {
        memmove(s->in, s->in + s->in_at, session_buffered(s));
        s->in_end -= s->in_at;
        s->in_at = 0;
    }
    if (s->in_at + size <= s->in_capacity)
        return ANX_OK;
    bigger = anx_realloc_array(NULL, s->in, size, 1);
    if (!bigger)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a read buffer of %zu bytes", size);
    s->in = bigger;
    s->in_capacity = size;
    return ANX_OK;
}

/* What is there without waiting. INPUT_TIMEOUT: nothing. */
static anx_status
take_input(struct session *s, enum input *what, anx_error *err)
{
    size_t got;
    anx_status st = anx_stream_read_now(s->stream, s->in + s->in_end, s->in_capacity - s->in_end, &got,
                                        &s->is_at_end, err);

    s->in_end += got;
    if (s->job)
        atomic_store_explicit(&s->job->bytes_in, anx_stream_bytes_in(s->stream), memory_order_relaxed);
    *what = got > 0 ? INPUT_BYTES : s->is_at_end ? INPUT_END : INPUT_TIMEOUT;
    return got > 0 ? ANX_OK : st;
}

anx_status
anx_session_fill(struct session *s, unsigned timeout_ms, enum input *what, anx_error *err)
{
    anx_status st = anx_session_room(s, session_buffered(s) + 1, err);
    short ready;

    if (st == ANX_OK && is_stopped(s))
        st = anx_session_fail_stopped(s, err);
    if (st == ANX_OK)
        st = take_input(s, what, err);
    if (st != ANX_OK || *what != INPUT_TIMEOUT)
        return st;
    s->wakes = true;
    st = anx_stream_wait(s->stream, POLLIN, (int) timeout_ms, &ready, err);
    s->wakes = false;
    if (st == ANX_E_CANCELLED && !is_stopped(s)) {
        *what = INPUT_WOKEN;
        return ANX_OK;
    }
    if (st != ANX_OK || !ready)
        return st; /* *what is INPUT_TIMEOUT still */
    st = take_input(s, what, err);
    if (st == ANX_OK && *what == INPUT_TIMEOUT)
        *what = INPUT_WOKEN; /* TLS had something to say to itself */
    return st;
}

anx_status
anx_session_need(struct session *s, size_t n, unsigned timeout_ms, anx_error *err)
{
    uint64_t until_ns = anx_clock_ns() + timeout_ms * UINT64_C(1000000);
    anx_status st = anx_session_room(s, n, err);

    while (st == ANX_OK && session_buffered(s) < n) {
        uint64_t now = anx_clock_ns();
        enum input what;

        st =
            anx_session_fill(s, now < until_ns ? (unsigned) ((until_ns - now) / 1000000 + 1) : 0, &what, err);
        if (st == ANX_OK && what == INPUT_END)
            st =
                anx_fail(err, ANX_E_NETWORK, "failed to fill whole buffer: the client closed the connection");
        else if (st == ANX_OK && what == INPUT_TIMEOUT)
            st = anx_fail(err, ANX_E_TIMEOUT,
                          "Resource temporarily unavailable (os error 11): a message of the client is not "
                          "complete after %u ms",
                          timeout_ms);
    }
    return st;
}

/* --- the build --- */

anx_status
anx_session_check(const struct session *s, anx_error *err)
{
    const struct indexing_server_params *limits = &s->server->params;
    anx_status st = anx_wire_job_check(&s->request, err);

    if (st == ANX_OK && s->request.dim > limits->max_dim) {
        (void) anx_fail(err, ANX_E_LIMIT, "the vectors have %u dimensions, the server allows %zu (--max-dim)",
                        s->request.dim, limits->max_dim);
        st = ANX_E_LIMIT;
    }
    return st;
}

/* The index as the engine is asked for it. A bit index ranks by hamming distance whatever metric it was made
 * for, as the original's do. */
static anx_index_params
index_params(const struct session *s)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    const anx_wire_job *request = &s->request;
    size_t ef_construction = request->ef_construction;

    (void) anx_wire_metric(request->metric, &params.metric); /* both were checked */
    (void) anx_wire_scalar(request->scalar, &params.scalar);
    if (params.scalar == ANX_SCALAR_B1)
        params.metric = ANX_METRIC_HAMMING;
    if (ef_construction > ANX_HNSW_EF_CONSTRUCTION_MAX)
        ef_construction = ANX_HNSW_EF_CONSTRUCTION_MAX;
    if (ef_construction > 0 && ef_construction < ANX_HNSW_EF_CONSTRUCTION_MIN)
        ef_construction = ANX_HNSW_EF_CONSTRUCTION_MIN;
    params.dim = request->dim;
    params.m = request->m ? request->m : ANX_HNSW_M_DEFAULT;
    params.ef_construction = ef_construction ? ef_construction : ANX_HNSW_EF_CONSTRUCTION_DEFAULT;
    params.ef = request->ef;
    params.threads = s->server->params.threads;
    params.seed = 1;
    if (request->format == ANX_WIRE_FILE_GRAPH)
        params.quantization = ANX_QUANTIZATION_CODES;
    params.capacity = request->estimated_rows < UINT32_MAX ? request->estimated_rows : 0;
    return params;
}

/* Labels are places in a table: in version 1 always, and for the store that takes graphs. */
static bool
is_table_row(const anx_wire_job *request)
{
    return request->version == 1 || request->format == ANX_WIRE_FILE_GRAPH;
}

anx_status
anx_session_begin(struct session *s, anx_error *err)
{
    struct indexing_server *server = s->server;
    const anx_wire_job *request = &s->request;
    struct builder_params params = {
        .index = index_params(s),
        .budget = &server->budget,
        .builds = &server->builds,
        .jobs = &server->jobs,
        .wake_fd = s->wake_fd,
        .is_tid = is_table_row(request),
    };
    anx_scalar element = ANX_SCALAR_F32;
    anx_status st;

    params.expected = params.index.capacity;
    (void) anx_wire_scalar(request->element, &element);
    s->convert = anx_convert_make(element, params.index.scalar, params.index.dim);
    s->save = (anx_save_params) { .plain = request->is_plain, .native = request->is_native };
    (void) anx_wire_format(request->format, &s->save.format);
    s->job = anx_jobs_begin(&server->jobs, s->peer, request->name, request->estimated_rows);
    if (!s->job)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a job");
    params.job = s->job;
    s->rows_began_ns = anx_clock_ns();
    anx_log(ANX_LOG_INFO,
            "event=build_begin job=%" PRIu64
            " peer=%s name=\"%s\" protocol=%u tls=\"%s\" metric=%s scalar=%s dim=%zu "
            "m=%zu ef_construction=%zu expected_rows=%" PRIu64,
            s->job->id, s->peer, request->name, request->version, anx_stream_tls_version(s->stream),
            anx_metric_name(params.index.metric), anx_scalar_name(params.index.scalar), params.index.dim,
            params.index.m, params.index.ef_construction, request->estimated_rows);
    st = anx_builder_create(&params, &s->builder, err);
    if (st == ANX_OK)
        st = anx_builder_batch(s->builder, &s->batch, err);
    return st;
}

static anx_status
check_row_count(const struct session *s, size_t n, anx_error *err)
{
    size_t max = s->server->params.max_rows;

    if (max == 0 || s->n_row + n <= max)
        return ANX_OK;
    return anx_fail(err, ANX_E_LIMIT,
                    "the index has more than %zu rows, the server allows no more (--max-rows)", max);
}

static anx_status
fail_row(const struct session *s, const uint8_t *label, const uint8_t *vector, anx_error *err)
{
    char text[BUILDER_LABEL_SIZE];
    anx_status st = anx_convert_check(&s->convert, vector, err);

    if (st == ANX_OK)
        st = anx_fail(err, ANX_E_INTERNAL, "the vector could not be converted");
    anx_builder_label_text(anx_load_le(label, 8), is_table_row(&s->request), text);
    anx_error_context(err, "%s", text);
    return st;
}

anx_status
anx_session_rows(struct session *s, size_t n, const uint8_t *labels, size_t label_stride,
                 const uint8_t *vectors, size_t stride, anx_error *err)
{
    anx_status st = check_row_count(s, n, err);

    while (st == ANX_OK && n > 0) {
        struct batch *batch = s->batch;
        size_t room = batch->capacity - batch->n;
        size_t take = n < room ? n : room;
        size_t good = anx_convert_rows(&s->convert, take, vectors, stride,
                                       batch->rows + batch->n * s->convert.row_size);

        if (good < take)
            return fail_row(s, labels + good * label_stride, vectors + good * stride, err);
        for (size_t i = 0; i < take; i++)
            batch->labels[batch->n + i] = anx_load_le(labels + i * label_stride, 8);
        batch->n += take;
        n -= take, labels += take * label_stride, vectors += take * stride;
        s->n_row += take;
        if (batch->n == batch->capacity) {
            anx_builder_put(s->builder, batch);
            st = anx_builder_batch(s->builder, &s->batch, err);
        }
    }
    atomic_store_explicit(&s->job->rows, s->n_row, memory_order_relaxed);
    return st;
}

anx_status
anx_session_flush_rows(struct session *s, anx_error *err)
{
    anx_status st = ANX_OK;

    if (s->batch && s->batch->n > 0) {
        anx_builder_put(s->builder, s->batch);
        st = anx_builder_batch(s->builder, &s->batch, err);
    }
    return st;
}

void
anx_session_end_rows(struct session *s)
{
    double seconds = (double) (anx_clock_ns() - s->rows_began_ns) * 1e-9;

    if (s->batch)
        anx_builder_put(s->builder, s->batch);
    s->batch = NULL;
    anx_builder_finish(s->builder);
    s->has_all_rows = true;
    anx_log(ANX_LOG_INFO,
            "event=rows_received job=%" PRIu64 " rows=%" PRIu64 " seconds=%.2f rows_per_second=%.0f",
            s->job->id, s->n_row, seconds, seconds > 0 ? (double) s->n_row / seconds : 0);
}

anx_status
anx_session_built(struct session *s, bool *is_ready, anx_error *err)
{
    enum builder_state state = anx_builder_state(s->builder, err);
    anx_index_stats stats;

    *is_ready = state == BUILDER_DONE;
    if (state == BUILDER_FAILED)
        return err->status;
    if (state == BUILDER_BUSY)
        return ANX_OK;
    anx_index_get_stats(anx_builder_index(s->builder), &stats);
    anx_jobs_phase(&s->server->jobs, s->job, JOB_SENDING);
    anx_log(ANX_LOG_INFO,
            "event=index_built job=%" PRIu64 " rows=%zu copies=%zu memory=%zu peak_memory=%zu seconds=%.2f",
            s->job->id, stats.count, stats.n_copies, stats.memory_bytes, anx_builder_peak(s->builder),
            (double) (anx_clock_ns() - s->job->began_ns) * 1e-9);
    if (stats.count != s->n_row)
        return anx_fail(err, ANX_E_INTERNAL, "%" PRIu64 " rows were received, but the index has %zu",
                        s->n_row, stats.count);
    return ANX_OK;
}

void
anx_session_end_job(struct session *s, const anx_error *err)
{
    double seconds;

    if (!s->job)
        return;
    seconds = (double) (anx_clock_ns() - s->job->began_ns) * 1e-9;
    atomic_store_explicit(&s->job->bytes_out, anx_stream_bytes_out(s->stream), memory_order_relaxed);
    if (!err)
        anx_log(ANX_LOG_INFO,
                "event=build_end job=%" PRIu64 " result=succeeded rows=%" PRIu64 " bytes=%llu seconds=%.2f",
                s->job->id, s->n_row, atomic_load(&s->job->size), seconds);
    else
        anx_log(err->status == ANX_E_CANCELLED ? ANX_LOG_INFO : ANX_LOG_WARN,
                "event=build_end job=%" PRIu64 " result=%s rows=%" PRIu64 " seconds=%.2f error=\"%s\"",
                s->job->id, err->status == ANX_E_CANCELLED ? "cancelled" : "failed", s->n_row, seconds,
                quoted(err->message).text);
    anx_jobs_end(&s->server->jobs, s->job, err);
    s->ended_job = s->job; /* freed with the builder */
    s->job = NULL;
}

static void
drop_builder(struct session *s)
{
    if (s->batch)
        anx_builder_put(s->builder, s->batch);
    s->batch = NULL;
    anx_builder_destroy(s->builder);
    s->builder = NULL;
    anx_jobs_free(s->ended_job);
    s->ended_job = NULL;
}

void
anx_session_last_words(struct session *s, const void *bytes, size_t size)
{
    bool is_stopping = atomic_load_explicit(&s->stop, memory_order_relaxed) != SESSION_RUN;
    int linger_ms = is_stopping ? STOPPING_LINGER_MS : size > 0 ? ERROR_LINGER_MS : SUCCESS_LINGER_MS;
    anx_status st = ANX_OK;

    s->is_parting = true;
    anx_stream_set_deadline(s->stream, LAST_WORDS_MS);
    if (size > 0)
        st = anx_stream_write(s->stream, bytes, size, NULL);
    if (st == ANX_OK)
        st = anx_stream_flush(s->stream, NULL);
    drop_builder(s);
    anx_queue_leave(&s->server->slots, &s->ticket);
    s->is_parting = is_stopping; /* a stop that comes only now ends the linger, and so does draining */
    s->lingers = true;
    if (st == ANX_OK)
        anx_stream_linger(s->stream, linger_ms, LINGER_BYTES);
}

/* --- greeting --- */

static anx_status
open_stream(struct session *s, anx_error *err)
{
    const struct indexing_server_params *limits = &s->server->params;
    anx_stream_params params = {
        .idle_ms = (int) limits->send_timeout_ms,
        .connect_ms = (int) limits->first_timeout_ms,
        .wait = wait_for_socket,
        .wait_context = s,
    };
    int fd = s->fd;
    SSL_CTX *ctx;
    anx_status st;

    s->fd = -1;
    st = anx_stream_create(fd, &params, &s->stream, err);
    if (st != ANX_OK || !s->server->tls)
        return st;
    ctx = anx_tls_acquire(s->server->tls);
    st = anx_stream_tls_accept(s->stream, ctx, err);
    SSL_CTX_free(ctx);
    return st;
}

/* Type 1 also when the house is full or closing: only then does a client of version 1 read our error. */
static anx_status
say_hello(struct session *s, anx_error *err)
{
    uint8_t hello[ANX_WIRE_V1_HELLO_SIZE];
    anx_status st;

    anx_wire_hello_encode(hello, s->admission == QUEUE_WAITING ? ANX_WIRE_ROUTER : ANX_WIRE_INDEXER);
    st = anx_stream_write(s->stream, hello, sizeof(hello), err);
    return st == ANX_OK ? anx_stream_flush(s->stream, err) : st;
}

static void
log_refused(struct session *s, const char *why)
{
    anx_log(ANX_LOG_INFO, "event=refused peer=%s reason=\"%s\"", s->peer, why);
    anx_jobs_refuse(&s->server->jobs, NULL, false);
}

/* What somebody who is no client of ours probably meant. */
static const char *
guess(const uint8_t bytes[4])
{
    if (bytes[0] == 0x16 && bytes[1] == 0x03)
        return "the client speaks TLS, but the server was started without --cert and --key";
    if (memcmp(bytes, "GET ", 4) == 0 || memcmp(bytes, "HEAD", 4) == 0 || memcmp(bytes, "POST", 4) == 0)
        return "the client speaks HTTP: this is the indexing port, the status port is another";
    return "the first message is not one of the indexing protocol";
}

static void
refuse_silence(struct session *s)
{
    if (s->is_at_end && session_buffered(s) == 0) {
        anx_log(ANX_LOG_DEBUG, "event=closed_at_once peer=%s", s->peer);
        return;
    }
    log_refused(s, session_buffered(s) > 0 ? "the first message is cut short" : "nothing was said");
    if (session_buffered(s) > 0)
        anx_session_v1_error(s, "Invalid frame received", true);
    else
        anx_session_v1_error(s, "Resource temporarily unavailable (os error 11): nothing was received",
                             false);
}

/* The first four bytes; fewer are given a moment and then answered. */
static anx_status
first_word(struct session *s, anx_error *err)
{
    anx_status st = anx_session_need(s, 1, s->server->params.first_timeout_ms, err);

    return st == ANX_OK ? anx_session_need(s, 4, TWO_BYTES_MS, err) : st;
}

static void
converse(struct session *s)
{
    anx_error err;
    anx_status st = first_word(s, &err);

    if (st == ANX_E_CANCELLED) {
        anx_session_v1_error(s, err.message, false);
        return;
    }
    if (st != ANX_OK) {
        refuse_silence(s);
        return;
    }
    switch (anx_wire_first_of(session_bytes(s))) {
    case ANX_WIRE_FIRST_INIT:
        anx_session_v1(s);
        return;
    case ANX_WIRE_FIRST_UPGRADE:
        anx_session_v2(s);
        return;
    case ANX_WIRE_FIRST_ROUTER:
        if (s->admission == QUEUE_WAITING) {
            anx_session_v1_route(s);
            return;
        }
        break;
    case ANX_WIRE_FIRST_END:
        log_refused(s, "the end of the rows came first");
        anx_session_v1_error(s, "send init message first", false);
        return;
    default:
        break;
    }
    log_refused(s, guess(session_bytes(s)));
    anx_session_v1_error(s, "Invalid message header", true);
}

static void
run(struct session *s)
{
    struct indexing_server *server = s->server;
    uint8_t key[16];
    anx_error err;
    anx_status st = open_stream(s, &err);

    if (st != ANX_OK) {
        anx_log(ANX_LOG_INFO, "event=refused peer=%s reason=\"%s\"", s->peer, quoted(err.message).text);
        anx_jobs_refuse(&server->jobs, NULL, false);
        return;
    }
    anx_address_key(&s->address, key);
    s->admission = anx_queue_enter(&server->slots, &s->ticket, key, s->wake_fd, 0);
    if (say_hello(s, &err) == ANX_OK && anx_session_room(s, IN_SMALL, &err) == ANX_OK)
        converse(s);
}

anx_status
anx_session_fail_full(const struct session *s, anx_error *err)
{
    (void) anx_fail(
        err, ANX_E_BUSY,
        "the indexing server is full: %zu sessions (--max-clients), and %zu clients wait (--max-queue)",
        s->server->params.max_clients, s->server->params.max_queue);
    anx_error_hint(err, "try again later");
    return ANX_E_BUSY;
}

void *
anx_session_main(void *argument)
{
    struct session *s = argument;
    int wake_fd = s->wake_fd;

    run(s);
    ANX_ASSERT(!s->job);
    drop_builder(s);
    anx_queue_leave(&s->server->slots, &s->ticket);
    anx_stream_close(s->stream);
    if (s->fd >= 0)
        close(s->fd);
    anx_free(NULL, s->in);
    anx_wire_forget(s->resume_key, sizeof(s->resume_key));
    anx_session_delist(s); /* from here on nobody wakes us, and the server may be gone */
    close(wake_fd);
    anx_free(NULL, s);
    return NULL;
}
