/* What both versions of the protocol share: parameters, connecting, the choice of the version, and the
 * caller's functions. client_v1.c and client_v2.c hold the conversations. */
#include "indexing/client.h"

#include <string.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "indexing/client_int.h"

#define ROUTER_DEPTH_MAX 4
#define HELLO_DEFAULT_MS 10000
#define IDLE_DEFAULT_MS 60000
#define LIFE_SIGN_DEFAULT_MS 5000
#define BATCH_MAX_AGE_NS 1000000000u
#define FILE_HEAD_SIZE 136u /* of a Lantern index file */
#define LEVEL_MAX 64u /* far above what any graph has: a level's share of the rows falls by m each time */

/* ----------------------------------------------------------------------------------------------------
 * parameters
 */

static char *
copy_string(const anx_alloc *alloc, const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = anx_alloc_bytes(alloc, size);

    if (copy)
        memcpy(copy, text, size);
    return copy;
}

static anx_status
check_params(const anx_indexing_params *p, anx_error *err)
{
    anx_wire_job job = p->job;

    if (__BYTE_ORDER__ != __ORDER_LITTLE_ENDIAN__)
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "external indexing is supported only for little endian byte ordering");
    if (!p->host || !p->host[0] || strlen(p->host) > ANX_WIRE_HOST_MAX || p->port < 1 || p->port > 65535)
        return anx_fail(err, ANX_E_INVALID, "no indexing server can be at host \"%.80s\", port %u",
                        p->host ? p->host : "", p->port);
    if (p->protocol > 2)
        return anx_fail(err, ANX_E_INVALID, "protocol is %u, allowed are 0, 1 and 2", p->protocol);
    if (p->token_size > ANX_WIRE_TOKEN_MAX || (p->token_size && !p->token))
        return anx_fail(err, ANX_E_INVALID, "the token has %zu bytes, the limit is %d", p->token_size,
                        ANX_WIRE_TOKEN_MAX);
    if (p->protocol == 1 && p->token_size)
        return anx_fail(err, ANX_E_UNSUPPORTED, "protocol version 1 cannot carry a token");
    if (job.has_pq && (p->protocol == 2 || p->token_size))
        return anx_fail(err, ANX_E_UNSUPPORTED,
                        "product quantization is only possible in protocol version 1");
    if (job.has_pq && (!p->codebook || !job.n_centroids || !job.n_subq))
        return anx_fail(err, ANX_E_INVALID, "product quantization needs a codebook");
    job.has_pq = false; /* whether the server can do it is its own answer */
    job.version = 2;    /* version 1's own limits are checked when it comes to that */
    return anx_wire_job_check(&job, err);
}

static anx_status
copy_params(anx_indexing_client *client, const anx_indexing_params *params, anx_error *err)
{
    anx_indexing_params *p = &client->params;

    *p = *params;
    p->token = NULL;
    p->tls.ca_file = NULL;
    p->tls.name = NULL;
    p->host = NULL; /* client->host is the copy */
    client->host = copy_string(p->alloc, params->host);
    if (params->tls.ca_file)
        p->tls.ca_file = copy_string(p->alloc, params->tls.ca_file);
    if (params->tls.name)
        p->tls.name = copy_string(p->alloc, params->tls.name);
    if (params->token_size)
        p->token = anx_alloc_bytes(p->alloc, params->token_size);
    if (p->token)
        memcpy((void *) p->token, params->token, params->token_size);
    if (!client->host || (params->tls.ca_file && !p->tls.ca_file) || (params->tls.name && !p->tls.name) ||
        (params->token_size && !p->token))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a client of the indexing server");
    if (p->job.has_pq)
        p->protocol = 1;
    if (!p->hello_ms)
        p->hello_ms = HELLO_DEFAULT_MS;
    if (!p->idle_ms)
        p->idle_ms = IDLE_DEFAULT_MS;
    if (p->life_sign_ms <= 0)
        p->life_sign_ms = LIFE_SIGN_DEFAULT_MS;
    client->port = params->port;
    client->is_secure = params->is_secure;
    return ANX_OK;
}

anx_status
anx_client_create(const anx_indexing_params *params, anx_indexing_client **out, anx_error *err)
{
    anx_status st = check_params(params, err);
    anx_indexing_client *client;
    size_t row_size;

    *out = NULL;
    if (st != ANX_OK)
        return st;
    client = anx_alloc_zeroed(params->alloc, 1, sizeof(*client));
    if (!client)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a client of the indexing server");
    client->params.alloc = params->alloc;
    *out = client;
    st = copy_params(client, params, err);
    if (st != ANX_OK)
        return st;
    client->vector_size = anx_wire_vector_size(&params->job);
    row_size = 8 + client->vector_size;
    client->batch_max = CLIENT_BATCH_SIZE / row_size ? CLIENT_BATCH_SIZE / row_size : 1;
    /* Both versions' needs: rows with the head and tail of a frame. */
    client->out_capacity = anx_wire_labels_at() + client->batch_max * row_size + ANX_WIRE_TAIL_SIZE;
    client->out = anx_alloc_bytes(params->alloc, client->out_capacity);
    client->sum = anx_wire_sum_create(params->alloc);
    if (!client->out || !client->sum)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu bytes to collect rows",
                        client->out_capacity);
    return ANX_OK;
}

void
anx_indexing_close(anx_indexing_client *client)
{
    const anx_alloc *alloc;

    if (!client)
        return;
    alloc = client->params.alloc;
    if (client->stream && client->version == 2)
        anx_client2_cancel(client);
    anx_stream_close(client->stream);
    anx_wire_forget((void *) client->params.token, client->params.token_size);
    anx_wire_forget(&client->welcome, sizeof(client->welcome));
    anx_free(alloc, (void *) client->params.token);
    anx_free(alloc, (void *) client->params.tls.ca_file);
    anx_free(alloc, (void *) client->params.tls.name);
    anx_free(alloc, client->host);
    anx_free(alloc, client->out);
    anx_free(alloc, client->frames[0].bytes);
    anx_free(alloc, client->frames[1].bytes);
    anx_wire_sum_destroy(client->sum);
    anx_free(alloc, client);
}

/* ----------------------------------------------------------------------------------------------------
 * connection
 */

void
anx_client_notify(const anx_indexing_client *client, anx_indexing_notice *notice)
{
    notice->server = client->target;
    if (client->params.notice && !client->is_quiet)
        client->params.notice(client->params.notice_context, notice);
}

void
anx_client_disconnect(anx_indexing_client *client)
{
    if (!client->stream)
        return;
    client->bytes_in += anx_stream_bytes_in(client->stream);
    client->bytes_out += anx_stream_bytes_out(client->stream);
    anx_stream_close(client->stream);
    client->stream = NULL;
    client->is_mid_frame = false;
}

anx_status
anx_client_connect(anx_indexing_client *client, anx_error *err)
{
    const anx_indexing_params *p = &client->params;
    anx_stream_params stream = {
        .idle_ms = p->idle_ms,
        .connect_ms = p->connect_ms,
        .wait = p->wait,
        .wait_context = p->wait_context,
        .alloc = p->alloc,
    };
    anx_indexing_notice notice = { .event = ANX_INDEXING_CONNECTING };
    anx_status st;

    anx_client_disconnect(client);
    anx_stream_format(client->target, sizeof(client->target), client->host, client->port);
    anx_client_notify(client, &notice);
    st = anx_stream_connect(client->host, client->port, &stream, &client->stream, err);
    if (st == ANX_OK && client->is_secure)
        st = anx_stream_tls_connect(client->stream, &p->tls, err);
    return st;
}

anx_status
anx_client_hello(anx_indexing_client *client, uint32_t *type, anx_error *err)
{
    anx_indexing_notice notice = { .event = ANX_INDEXING_CONNECTED };
    uint8_t bytes[ANX_WIRE_V1_HELLO_SIZE];
    anx_status st;

    anx_stream_set_deadline(client->stream, client->params.hello_ms);
    st = anx_stream_read(client->stream, bytes, sizeof(bytes), err);
    if (st == ANX_E_NETWORK || st == ANX_E_TIMEOUT) {
        anx_error_context(err, "no greeting from the indexing server");
        if (!client->is_secure)
            anx_error_hint(err, "does the server at %s expect TLS?", client->target);
    } else if (st == ANX_OK && anx_wire_is_error(bytes)) {
        st = anx_client1_refused(client, bytes, err);
    } else if (st == ANX_OK) {
        st = anx_wire_hello_decode(bytes, type, err);
    }
    anx_stream_set_deadline(client->stream, 0);
    if (st == ANX_OK)
        anx_client_notify(client, &notice);
    return st;
}

/* One server: *is_routed, the answer is somewhere else; otherwise it takes rows on ANX_OK. */
static anx_status
approach(anx_indexing_client *client, bool *is_routed, anx_error *err)
{
    bool is_v1 = client->params.protocol == 1;
    uint32_t type = 0;
    anx_status st;

    *is_routed = false;
    client->version = 0;
    st = anx_client_connect(client, err);
    if (st == ANX_OK)
        st = anx_client_hello(client, &type, err);
    if (st == ANX_OK && !is_v1) {
        st = anx_client2_upgrade(client, &is_v1, err);
        if (st == ANX_OK && !is_v1)
            return anx_client2_begin(client, err);
        client->is_quiet = true; /* the same server once more is no news */
        if (st == ANX_OK)
            st = anx_client_connect(client, err);
        if (st == ANX_OK)
            st = anx_client_hello(client, &type, err);
        client->is_quiet = false;
    }
    if (st != ANX_OK)
        return st;
    client->version = 1;
    *is_routed = type == ANX_WIRE_ROUTER;
    return *is_routed ? anx_client1_route(client, err) : anx_client1_begin(client, err);
}

anx_status
anx_indexing_open(const anx_indexing_params *params, anx_indexing_client **out, anx_error *err)
{
    anx_indexing_notice notice = { .event = ANX_INDEXING_READY };
    anx_indexing_client *client = NULL;
    bool is_routed = true;
    anx_error own;
    anx_error *e = err ? err : &own;
    anx_status st;

    *out = NULL;
    st = anx_client_create(params, &client, e);
    for (unsigned depth = 0; st == ANX_OK && is_routed; depth++) {
        if (depth > ROUTER_DEPTH_MAX)
            st = anx_fail(e, ANX_E_LIMIT, "%s is named by the last of %d routers in a row, that is the limit",
                          client->target, ROUTER_DEPTH_MAX);
        else
            st = approach(client, &is_routed, e);
    }
    if (st != ANX_OK) {
        if (client)
            anx_client2_complain(client, st, e);
        anx_indexing_close(client);
        return st;
    }
    client->phase = CLIENT_ROWS;
    client->sent_ns = anx_clock_ns();
    anx_client_notify(client, &notice);
    *out = client;
    return ANX_OK;
}

anx_status
anx_client_pause(anx_indexing_client *client, int timeout_ms, anx_error *err)
{
    uint64_t until_ns = anx_clock_ns() + (uint64_t) timeout_ms * 1000000u;

    for (;;) {
        uint64_t now = anx_clock_ns();
        short ready = 0;
        anx_status st = ANX_OK;
        int left_ms;

        if (now >= until_ns)
            return ANX_OK;
        left_ms = (int) ((until_ns - now) / 1000000u) + 1;
        if (client->params.wait)
            st = client->params.wait(client->params.wait_context, -1, 0, left_ms, &ready, err);
        else
            (void) poll(NULL, 0, left_ms);
        if (st != ANX_OK)
            return st;
    }
}

/* ----------------------------------------------------------------------------------------------------------
 * rows
 */

anx_status
anx_client_refused(anx_indexing_client *client, anx_status status, const char *text, const char *hint,
                   anx_error *err)
{
    client->is_refused = true;
    anx_fail(err, status, "external index error: %s", text[0] ? text : "the server gives no reason");
    if (hint && hint[0])
        anx_error_hint(err, "%s", hint);
    return status;
}

anx_status
anx_client_listen(anx_indexing_client *client, anx_error *err)
{
    return client->version == 2 ? anx_client2_listen(client, err) : anx_client1_listen(client, err);
}

/* A write failed: if the server said why before it closed, that is the error. */
static anx_status
ask_why(anx_indexing_client *client, anx_status st, anx_error *err)
{
    anx_error said;

    if (st != ANX_E_NETWORK && st != ANX_E_TLS)
        return st;
    if (anx_client_listen(client, &said) == ANX_OK || !client->is_refused)
        return st;
    if (err)
        *err = said;
    return said.status;
}

anx_status
anx_client_send(anx_indexing_client *client, const uint8_t *bytes, size_t size, anx_error *err)
{
    anx_status st = ANX_OK;

    while (size) {
        size_t done;
        short ready;

        st = anx_stream_write_now(client->stream, bytes, size, &done, err);
        client->is_mid_frame = client->is_mid_frame || done > 0;
        if (st != ANX_OK)
            return ask_why(client, st, err);
        bytes += done;
        size -= done;
        if (!size)
            break;
        st = anx_stream_wait(client->stream, POLLIN | POLLOUT, client->params.idle_ms, &ready, err);
        if (st == ANX_OK && !ready)
            st = anx_fail(err, ANX_E_TIMEOUT, "%s took no data for %g s", client->target,
                          (double) client->params.idle_ms / 1000);
        if (st == ANX_OK && (ready & POLLIN))
            st = anx_client_listen(client, err);
        if (st != ANX_OK)
            return st;
    }
    client->is_mid_frame = false;
    client->sent_ns = anx_clock_ns();
    return ANX_OK;
}

static anx_status
check_phase(const anx_indexing_client *client, enum client_phase phase, const char *call, anx_error *err)
{
    if (client->phase == phase)
        return ANX_OK;
    return anx_fail(err, ANX_E_STATE, "%s is out of place here", call);
}

/* The client is over after an error: nobody knows how much of a frame went out. */
static anx_status
settle(anx_indexing_client *client, anx_status st, const anx_error *e)
{
    if (st == ANX_OK)
        return st;
    client->phase = CLIENT_OVER;
    anx_client2_complain(client, st, e);
    return st;
}

anx_status
anx_indexing_rows(anx_indexing_client *client, size_t n, const uint64_t *labels, const void *vectors,
                  anx_error *err)
{
    uint64_t max = client->version == 2 ? client->welcome.rows_max : 0;
    anx_status st = check_phase(client, CLIENT_ROWS, "anx_indexing_rows", err);
    anx_error own;
    anx_error *e = err ? err : &own;

    if (st != ANX_OK || !n)
        return st;
    if (max && (n > max || client->n_row > max - n)) {
        client->phase = CLIENT_OVER;
        return anx_fail(err, ANX_E_LIMIT, "the indexing server %s takes at most %llu rows", client->target,
                        (unsigned long long) max);
    }
    st = client->version == 2 ? anx_client2_rows(client, n, labels, vectors, e)
                              : anx_client1_rows(client, n, labels, vectors, e);
    if (st == ANX_OK && anx_clock_ns() - client->batch_began_ns > BATCH_MAX_AGE_NS)
        st = client->version == 2 ? anx_client2_flush(client, e) : anx_client1_flush(client, true, e);
    return settle(client, st, e);
}

bool
anx_client_is_quiet(const anx_indexing_client *client)
{
    return anx_clock_ns() - client->sent_ns >= (uint64_t) client->params.life_sign_ms * 1000000u;
}

anx_status
anx_indexing_keep_alive(anx_indexing_client *client, anx_error *err)
{
    anx_status st = check_phase(client, CLIENT_ROWS, "anx_indexing_keep_alive", err);
    anx_error own;
    anx_error *e = err ? err : &own;

    if (st != ANX_OK)
        return st;
    st = client->version == 2 ? anx_client2_keep_alive(client, e) : anx_client1_keep_alive(client, e);
    return settle(client, st, e);
}

/* ------------------------------------------------------------------------------------------------------ the
 * index
 */

static size_t
stored_size(const anx_wire_job *job)
{
    if (job->has_pq)
        return job->n_subq;
    switch (job->scalar) {
    case ANX_WIRE_F32:
        return 4 * (size_t) job->dim;
    case ANX_WIRE_F16:
        return 2 * (size_t) job->dim;
    case ANX_WIRE_I8:
        return job->dim;
    default:
        return job->dim / 8;
    }
}

/* A Lantern file without anything behind it: its size lies between that of a graph with all nodes on the
 * lowest level and that of one with all on a level no graph reaches. */
static anx_status
check_lantern_size(const anx_indexing_client *client, const anx_wire_index *index, anx_error *err)
{
    const anx_wire_job *job = &client->params.job;
    uint64_t m = job->m ? job->m : ANX_HNSW_M_DEFAULT;
    uint64_t node_min = 14 + 12 * m + stored_size(job);
    uint64_t node_max = node_min + LEVEL_MAX * (4 + 6 * m);
    uint64_t min;
    uint64_t max;

    if (__builtin_mul_overflow(index->count, node_max, &max))
        return anx_fail(err, ANX_E_CORRUPT, "the server announces %llu rows",
                        (unsigned long long) index->count);
    max += FILE_HEAD_SIZE;
    min = FILE_HEAD_SIZE + index->count * node_min;
    if (index->size >= min && index->size <= max)
        return ANX_OK;
    return anx_fail(err, ANX_E_CORRUPT,
                    "the server announces a file of %llu bytes for %llu rows, possible are %llu to %llu",
                    (unsigned long long) index->size, (unsigned long long) index->count,
                    (unsigned long long) min, (unsigned long long) max);
}

anx_status
anx_client_check_count(const anx_indexing_client *client, uint64_t count, anx_error *err)
{
    bool may_miss = client->version == 1 && client->params.allow_missing_rows;

    if (count == client->n_row || (count < client->n_row && may_miss))
        return ANX_OK;
    return anx_fail(err, ANX_E_CORRUPT, "the server's index has %llu rows, %llu were sent",
                    (unsigned long long) count, (unsigned long long) client->n_row);
}

anx_status
anx_client_check_index(const anx_indexing_client *client, const anx_wire_index *index, anx_error *err)
{
    anx_status st = anx_client_check_count(client, index->count, err);

    if (st != ANX_OK)
        return st;
    if (index->size < 1 || index->size > ANX_WIRE_INDEX_SIZE_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "the server announces a file of %llu bytes",
                        (unsigned long long) index->size);
    if (index->format != client->params.job.format && client->version == 2)
        return anx_fail(err, ANX_E_CORRUPT, "the server announces file format %u, %u was asked for",
                        index->format, client->params.job.format);
    if (index->format == ANX_WIRE_FILE_LANTERN && (client->version == 1 || client->params.job.is_plain))
        return check_lantern_size(client, index, err);
    return ANX_OK;
}

anx_status
anx_indexing_finish(anx_indexing_client *client, anx_wire_index *index, anx_error *err)
{
    anx_status st = check_phase(client, CLIENT_ROWS, "anx_indexing_finish", err);
    anx_error own;
    anx_error *e = err ? err : &own;

    if (st != ANX_OK)
        return st;
    st = client->version == 2 ? anx_client2_finish(client, e) : anx_client1_finish(client, e);
    if (st != ANX_OK)
        return settle(client, st, e);
    client->phase = CLIENT_READ;
    *index = client->index;
    return ANX_OK;
}

anx_status
anx_indexing_read(anx_indexing_client *client, void *bytes, size_t size, size_t *got, anx_error *err)
{
    anx_status st = check_phase(client, CLIENT_READ, "anx_indexing_read", err);
    anx_error own;
    anx_error *e = err ? err : &own;

    *got = 0;
    if (st != ANX_OK || !size)
        return st;
    st = client->version == 2 ? anx_client2_read(client, bytes, size, got, e)
                              : anx_client1_read(client, bytes, size, got, e);
    return settle(client, st, e);
}

static anx_status
read_to_the_brim(void *context, void *bytes, size_t size, size_t *got, anx_error *err)
{
    size_t n;

    *got = 0;
    do {
        anx_status st = anx_indexing_read(context, (char *) bytes + *got, size - *got, &n, err);

        if (st != ANX_OK)
            return st;
        *got += n;
    } while (n && *got < size);
    return ANX_OK;
}

anx_source
anx_indexing_source(anx_indexing_client *client)
{
    return (anx_source) { .context = client, .read = read_to_the_brim };
}

void
anx_indexing_get_info(const anx_indexing_client *client, anx_indexing_info *info)
{
    *info = (anx_indexing_info) {
        .version = client->version,
        .server = client->target,
        .program = client->welcome.server,
        .tls = client->stream ? anx_stream_tls_version(client->stream) : "",
        .idle_timeout_s = client->idle_timeout_s,
        .n_row = client->n_row,
        .bytes_in = client->bytes_in + (client->stream ? anx_stream_bytes_in(client->stream) : 0),
        .bytes_out = client->bytes_out + (client->stream ? anx_stream_bytes_out(client->stream) : 0),
        .n_resumed = client->n_resumed,
        .state = client->state,
    };
}
