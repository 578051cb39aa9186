/* The client's side of version 1. Nothing in this version says how long anything is, so what the server says
 * is told apart by place, by the magic word of an error frame, and where that is not enough by what is
 * possible. */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "indexing/client_int.h"

/* Defaults of the original for fields that version 2 may leave open. */
#define M_DEFAULT 16
#define EF_CONSTRUCTION_DEFAULT 128
#define EF_DEFAULT 64

#define LIFE_SIGN_BYTES 4 /* the least that an original server takes for a read */

anx_status
anx_client1_refused(anx_indexing_client *client, const uint8_t head[ANX_WIRE_V1_ERROR_HEAD_SIZE],
                    anx_error *err)
{
    uint8_t piece[256];
    char text[sizeof(err->message)];
    size_t have = 0;
    size_t size;
    anx_status st = anx_wire_v1_error_head(head, &size, err);

    if (st != ANX_OK)
        return st;
    /* More than fits a message is not read: nothing follows it. A text that is cut short is better than none.
     */
    if (size > sizeof(piece))
        size = sizeof(piece);
    anx_stream_set_deadline(client->stream, client->params.hello_ms);
    while (have < size) {
        size_t n;

        st = anx_stream_read_some(client->stream, piece + have, size - have, &n, err);
        if (st == ANX_E_CANCELLED)
            return st;
        if (st != ANX_OK || !n)
            break;
        have += n;
    }
    anx_wire_text(text, sizeof(text), piece, have);
    return anx_client_refused(client, ANX_E_NETWORK, text, NULL, err);
}

/* The first word of an error frame was read where something else was expected. */
static anx_status
refused_after_word(anx_indexing_client *client, const uint8_t word[4], anx_error *err)
{
    uint8_t head[ANX_WIRE_V1_ERROR_HEAD_SIZE];
    anx_status st;

    memcpy(head, word, 4);
    st = anx_stream_read(client->stream, head + 4, 4, err);
    return st == ANX_OK ? anx_client1_refused(client, head, err) : st;
}

anx_status
anx_client1_route(anx_indexing_client *client, anx_error *err)
{
    anx_indexing_notice notice = { .event = ANX_INDEXING_ROUTED };
    uint8_t bytes[ANX_WIRE_V1_ROUTE_MAX];
    anx_wire_route route;
    size_t host_size;
    anx_status st;
    char *host;

    anx_store_le(bytes, ANX_WIRE_V1_ROUTER, 4);
    st = anx_stream_write(client->stream, bytes, 4, err);
    if (st == ANX_OK)
        st = anx_stream_flush(client->stream, err);
    if (st != ANX_OK)
        return st;
    anx_client_notify(client, &notice);
    anx_stream_set_idle(client->stream, -1, 0); /* a machine may have to be started */
    st = anx_stream_read(client->stream, bytes, 1, err);
    anx_stream_set_deadline(client->stream, client->params.hello_ms);
    if (st == ANX_OK)
        st = anx_stream_read(client->stream, bytes + 1, 7, err);
    if (st == ANX_OK && anx_wire_is_error(bytes))
        return anx_client1_refused(client, bytes, err);
    if (st == ANX_OK)
        st = anx_wire_route_head(bytes, &host_size, err);
    if (st == ANX_OK)
        st = anx_stream_read(client->stream, bytes + 8, host_size + 4, err);
    if (st == ANX_OK)
        st = anx_wire_route_decode(bytes, 12 + host_size, &route, err);
    if (st != ANX_OK)
        return st;
    host = anx_alloc_bytes(client->params.alloc, host_size + 1);
    if (!host)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the address of a server");
    memcpy(host, route.host, host_size + 1);
    anx_free(client->params.alloc, client->host);
    client->host = host;
    client->port = route.port;
    client->is_secure = route.is_secure;
    return ANX_OK;
}

static anx_status
send_codebook(anx_indexing_client *client, const anx_wire_job *job, anx_error *err)
{
    size_t size = 4 * (size_t) job->dim;
    uint8_t end[4];

    for (size_t c = 0; c < job->n_centroids; c++) {
        anx_status st = anx_stream_write(client->stream, client->params.codebook + c * job->dim, size, err);

        if (st != ANX_OK)
            return st;
    }
    anx_store_le(end, ANX_WIRE_V1_END, 4);
    return anx_stream_write(client->stream, end, 4, err);
}

anx_status
anx_client1_begin(anx_indexing_client *client, anx_error *err)
{
    uint8_t bytes[ANX_WIRE_V1_INIT_SIZE];
    anx_wire_job job = client->params.job;
    anx_wire_job checked;
    anx_status st;

    job.version = 1;
    job.element_bits = job.element == ANX_WIRE_B1 ? 1 : 32;
    job.m = job.m ? job.m : M_DEFAULT;
    job.ef_construction = job.ef_construction ? job.ef_construction : EF_CONSTRUCTION_DEFAULT;
    job.ef = job.ef ? job.ef : EF_DEFAULT;
    job.format = ANX_WIRE_FILE_LANTERN;
    job.is_plain = true;
    job.is_native = false;
    checked = job;
    checked.has_pq = false;
    st = anx_wire_job_check(&checked, err);
    if (st == ANX_OK && job.element != ANX_WIRE_F32 && job.element != ANX_WIRE_B1)
        st = anx_fail(err, ANX_E_UNSUPPORTED, "version 1 sends floats of 32 bits or single bits only");
    if (st != ANX_OK) {
        anx_error_context(err, "the server %s speaks only version 1 of the protocol", client->target);
        return st;
    }
    client->params.job = job;
    anx_wire_init_encode(bytes, &job);
    st = anx_stream_write(client->stream, bytes, sizeof(bytes), err);
    if (st == ANX_OK && job.has_pq)
        st = send_codebook(client, &job, err);
    if (st == ANX_OK)
        st = anx_stream_flush(client->stream, err);
    anx_stream_set_deadline(client->stream, client->params.hello_ms);
    if (st == ANX_OK)
        st = anx_stream_read(client->stream, bytes, ANX_WIRE_V1_ACK_SIZE, err);
    if (st == ANX_OK && bytes[0] != 0) {
        /* Not an acknowledgement, so it has to be an error frame. */
        st = anx_stream_read(client->stream, bytes + 1, ANX_WIRE_V1_ERROR_HEAD_SIZE - 1, err);
        if (st == ANX_OK)
            st = anx_client1_refused(client, bytes, err);
    }
    anx_stream_set_deadline(client->stream, 0);
    return st;
}

/* ----------------------------------------------------------------------------------------------------------
 * rows
 */

anx_status
anx_client1_listen(anx_indexing_client *client, anx_error *err)
{
    uint8_t head[ANX_WIRE_V1_ERROR_HEAD_SIZE];
    bool at_end;
    size_t n;
    anx_status st = anx_stream_read_now(client->stream, head, sizeof(head), &n, &at_end, err);

    if (st != ANX_OK)
        return st;
    if (!n)
        return at_end ? anx_fail(err, ANX_E_NETWORK, "%s closed the connection", client->target) : ANX_OK;
    anx_stream_set_deadline(client->stream, client->params.hello_ms);
    st = anx_stream_read(client->stream, head + n, sizeof(head) - n, err);
    return st == ANX_OK ? anx_client1_refused(client, head, err) : st;
}

/* Sends the first n collected bytes. */
static anx_status
send_front(anx_indexing_client *client, size_t n, anx_error *err)
{
    size_t from = client->out_at;

    client->out_at += n;
    if (client->out_at == client->out_size) {
        client->out_at = 0;
        client->out_size = 0;
    }
    return n ? anx_client_send(client, client->out + from, n, err) : ANX_OK;
}

anx_status
anx_client1_flush(anx_indexing_client *client, bool keep_row, anx_error *err)
{
    size_t row_size = 8 + client->vector_size;
    size_t n = client->out_size - client->out_at;
    anx_status st = anx_client1_listen(client, err);

    client->batch_began_ns = anx_clock_ns();
    if (st != ANX_OK)
        return st;
    if (keep_row)
        n = n >= row_size ? n - row_size + LIFE_SIGN_BYTES : 0;
    return send_front(client, n, err);
}

anx_status
anx_client1_keep_alive(anx_indexing_client *client, anx_error *err)
{
    size_t row_size = 8 + client->vector_size;
    size_t n = client->out_size - client->out_at;
    bool is_quiet = anx_client_is_quiet(client);
    anx_status st;

    if (n >= row_size)
        return anx_client1_flush(client, true, err);
    st = anx_client1_listen(client, err);
    /* A byte of the row kept back restarts the server's patience; the last one completes the row and is kept.
     */
    if (st == ANX_OK && is_quiet && n > 1)
        st = send_front(client, 1, err);
    return st;
}

static anx_status
make_room(anx_indexing_client *client, size_t row_size, anx_error *err)
{
    size_t n = client->out_size - client->out_at;

    if (client->out_size + row_size <= client->out_capacity)
        return ANX_OK;
    if (client->out_at && n + row_size <= client->out_capacity / 2) {
        memmove(client->out, client->out + client->out_at, n);
        client->out_at = 0;
        client->out_size = n;
        return ANX_OK;
    }
    return anx_client1_flush(client, false, err);
}

anx_status
anx_client1_rows(anx_indexing_client *client, size_t n, const uint64_t *labels, const uint8_t *vectors,
                 anx_error *err)
{
    size_t vector_size = client->vector_size;

    for (size_t i = 0; i < n; i++) {
        uint8_t *at;
        anx_status st = make_room(client, 8 + vector_size, err);

        if (st != ANX_OK)
            return st;
        if (client->out_at == client->out_size)
            client->batch_began_ns = anx_clock_ns();
        at = client->out + client->out_size;
        anx_store_le(at, labels[i], 8);
        if (anx_wire_row_word_of(at) != ANX_WIRE_WORD_ROW)
            return anx_fail(
                err, ANX_E_VALUE,
                "the label %llu cannot be sent in version 1 of the protocol: it begins like a command",
                (unsigned long long) labels[i]);
        memcpy(at + 8, vectors + i * vector_size, vector_size);
        client->out_size += 8 + vector_size;
        client->n_row++;
    }
    return ANX_OK;
}

/* ----------------------------------------------------------------------------------------------------- the
 * index
 */

/* Eight bytes that are a number or the begin of an error frame. */
static anx_status
read_number(anx_indexing_client *client, uint64_t *value, bool *may_be_error, anx_error *err)
{
    uint8_t bytes[8];
    anx_status st = anx_stream_read(client->stream, bytes, sizeof(bytes), err);

    *value = anx_load_le(bytes, 8);
    *may_be_error = st == ANX_OK && anx_wire_is_error(bytes);
    return st;
}

static anx_status
refused_after_number(anx_indexing_client *client, uint64_t number, anx_error *err)
{
    uint8_t head[ANX_WIRE_V1_ERROR_HEAD_SIZE];

    anx_store_le(head, number, sizeof(head));
    return anx_client1_refused(client, head, err);
}

anx_status
anx_client1_finish(anx_indexing_client *client, anx_error *err)
{
    anx_wire_index *index = &client->index;
    uint8_t end[4];
    bool may_be_error;
    anx_status st = anx_client1_flush(client, false, err);

    anx_store_le(end, ANX_WIRE_V1_END, 4);
    if (st == ANX_OK)
        st = anx_client_send(client, end, sizeof(end), err);
    if (st != ANX_OK)
        return st;
    index->format = ANX_WIRE_FILE_LANTERN;
    /* The server says nothing while it builds, however long. */
    anx_stream_set_idle(client->stream, -1, 0);
    st = read_number(client, &index->count, &may_be_error, err);
    /* A count whose low half is the magic word is a count only if it can be one. */
    if (st == ANX_OK && may_be_error && index->count != client->n_row)
        return refused_after_number(client, index->count, err);
    if (st == ANX_OK)
        st = anx_client_check_count(client, index->count, err);
    if (st == ANX_OK)
        st = read_number(client, &index->size, &may_be_error, err);
    if (st == ANX_OK && may_be_error && anx_client_check_index(client, index, NULL) != ANX_OK)
        return refused_after_number(client, index->size, err);
    anx_stream_set_idle(client->stream, client->params.idle_ms, 0);
    return st == ANX_OK ? anx_client_check_index(client, index, err) : st;
}

anx_status
anx_client1_read(anx_indexing_client *client, void *bytes, size_t size, size_t *got, anx_error *err)
{
    uint64_t left = client->index.size - client->n_given;
    anx_status st;

    if (size > left)
        size = (size_t) left;
    if (!size)
        return ANX_OK; /* not one byte further: the server may keep the connection open */
    if (!client->has_first) {
        /* A file is longer than four bytes: its head alone is. */
        st = anx_stream_read(client->stream, client->first, sizeof(client->first), err);
        if (st == ANX_OK && anx_wire_is_error(client->first))
            st = refused_after_word(client, client->first, err);
        if (st != ANX_OK)
            return st;
        client->has_first = true;
        client->n_first = sizeof(client->first);
    }
    if (client->n_first) {
        *got = size < client->n_first ? size : client->n_first;
        memcpy(bytes, client->first + sizeof(client->first) - client->n_first, *got);
        client->n_first -= *got;
        client->n_given += *got;
        return ANX_OK;
    }
    st = anx_stream_read_some(client->stream, bytes, size, got, err);
    if (st == ANX_OK && !*got)
        st = anx_fail(err, ANX_E_NETWORK, "%s closed the connection after %llu of %llu bytes of the index",
                      client->target, (unsigned long long) client->n_given,
                      (unsigned long long) client->index.size);
    client->n_given += *got;
    return st;
}
