/* Results as replies, and what is kept of them for later pages.
 *
 * A result holds locks, and a client may take its time. So all rows are written into memory at once, and the
 * locks are given back. When the client wants them all, they are written into the reply itself. Else pages
 * are cut from those bytes: they are the snapshot that pages have to be of. Large pages are sent from where
 * they are; the rows are counted by their users. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "rpc/rpc_int.h"

#define INLINE_MAX 16384 /* rows of fewer bytes are copied into the reply; a reference costs about as much */
enum { EXTRA_END, EXTRA_AGGREGATION, EXTRA_EXPLAIN, EXTRA_INCARNATIONS = 5, EXTRA_RANK = 6, NO_SHARD = -2 };

void
rpc_rows_release(struct rpc_rows *rows)
{
    if (!rows || atomic_fetch_sub_explicit(&rows->references, 1, memory_order_acq_rel) > 1)
        return;
    anx_buffer_fini(&rows->data);
    anx_free(NULL, rows->ends);
    anx_free(NULL, rows);
}

static struct rpc_rows *
rows_create(size_t n, size_t max)
{
    struct rpc_rows *rows = anx_alloc_zeroed(NULL, 1, sizeof(*rows));

    if (!rows)
        return NULL;
    atomic_init(&rows->references, 1);
    anx_buffer_init(&rows->data, NULL, max);
    rows->n = n;
    rows->ends = anx_alloc_zeroed(NULL, n + 1, sizeof(*rows->ends));
    if (rows->ends)
        return rows;
    rpc_rows_release(rows);
    return NULL;
}

/* Where the first n rows end. */
static size_t
row_end(const struct rpc_rows *rows, size_t n)
{
    return n > 0 ? rows->ends[n - 1] : 0;
}

/* ---- Replies ---- */

/* A blob of a head and of rows [start, start + size), a handle and its number. Takes over nothing. */
static void
put_blob(struct rpc_call *call, const anx_buffer *head, struct rpc_rows *rows, size_t start, size_t size,
         int64_t handle, int64_t uid)
{
    anx_buffer foot;

    rpc_reply(call, 3);
    anx_buffer_varint(call->out, RPC_STRING);
    anx_buffer_varint(call->out, head->size + size);
    anx_buffer_bytes(call->out, head->data, head->size);
    call->out->failed = call->out->failed || head->failed;
    if (size <= INLINE_MAX) {
        if (size > 0)
            anx_buffer_bytes(call->out, rows->data.data + start, size);
        rpc_put_int(call->out, handle);
        rpc_put_int64(call->out, uid);
        return;
    }
    anx_buffer_init(&foot, NULL, sizeof(call->foot));
    rpc_put_int(&foot, handle);
    rpc_put_int64(&foot, uid);
    call->out->failed = call->out->failed || foot.failed;
    if (!foot.failed) {
        memcpy(call->foot, foot.data, foot.size);
        call->foot_size = foot.size;
        call->tail = rows;
        call->tail_start = start;
        call->tail_size = size;
        atomic_fetch_add_explicit(&rows->references, 1, memory_order_relaxed);
    }
    anx_buffer_fini(&foot);
}

void
rpc_count_reply(struct rpc_call *call, size_t n)
{
    anx_buffer head;

    anx_buffer_init(&head, NULL, 64);
    anx_buffer_varint(&head, 0);
    anx_buffer_varint(&head, 0);
    anx_buffer_varint(&head, n);
    anx_buffer_varint(&head, n);
    anx_buffer_varint(&head, EXTRA_END);
    put_blob(call, &head, NULL, 0, 0, -1, -1);
    anx_buffer_fini(&head);
}

/* ---- Parts of the head ---- */

static anx_status
set_flags(const struct rpc_call *call, const struct result_description *d, struct rpc_shown *shown,
          anx_error *err)
{
    unsigned flags = shown->flags & (RPC_FORMAT_MASK | RPC_WITH_TYPES | RPC_WITH_ID | RPC_IDLE_TIMEOUT);
    unsigned format = flags & RPC_FORMAT_MASK;

    if (format != 0 && format != RPC_FORMAT_CJSON && format != RPC_FORMAT_JSON)
        return anx_fail(err, ANX_E_PARAMS,
                        "Unexpected format %u of results, 0, 2 (CJSON) and 3 (JSON) are possible", format);
    if (format != 0 && !d->has_docs)
        flags &= ~(unsigned) RPC_FORMAT_MASK;
    if (d->n_ns > 1 && !shown->only_first)
        flags |= RPC_WITH_NSID;
    if (d->has_joins && format == RPC_FORMAT_CJSON && !shown->only_first)
        flags |= RPC_WITH_JOINED;
    if (d->is_ranked)
        flags |= RPC_WITH_RANK;
    if (d->with_rank)
        flags |= RPC_SHOW_RANK;
    if (format == RPC_FORMAT_JSON)
        flags &= ~(unsigned) RPC_WITH_TYPES;
    /* What a client would keep must be whole, and stand for any later query. */
    if (!d->is_whole || ((call->connection->capabilities & RPC_CAN_INCARNATIONS) && !d->is_cacheable))
        flags &= ~(unsigned) RPC_WITH_ID;
    shown->flags = flags;
    return ANX_OK;
}

/* Records of namespaces of which the client has another dictionary, or an older one. */
static void
put_types(const struct result *result, const struct result_description *d, const struct rpc_shown *shown,
          anx_buffer *head)
{
    anx_reader in = anx_reader_init(shown->versions.data, shown->versions.size);
    uint64_t n = shown->versions.size > 0 ? anx_read_varint(&in) : 0;
    anx_buffer records;
    size_t n_record = 0;

    anx_buffer_init(&records, NULL, head->max);
    if (n > d->n_ns)
        n = d->n_ns;
    if (shown->only_first && n > 1)
        n = 1;
    for (uint64_t i = 0; i < n; i++) {
        int32_t known = (int32_t) (uint32_t) anx_read_varint(&in);

        if (in.failed)
            break;
        if (known == result_types_version(result, i))
            continue;
        result_print_types(result, i, &records);
        n_record++;
    }
    anx_buffer_varint(head, n_record);
    anx_buffer_bytes(head, records.data, records.size);
    head->failed = head->failed || records.failed;
    anx_buffer_fini(&records);
}

static void
put_slice(anx_buffer *out, const anx_buffer *bytes)
{
    anx_buffer_le(out, bytes->size, 4);
    anx_buffer_bytes(out, bytes->data, bytes->size);
    out->failed = out->failed || bytes->failed;
}

static anx_status
put_once(struct result *result, const struct result_description *d, anx_buffer *head, anx_error *err)
{
    anx_buffer json;
    anx_status st = ANX_OK;

    anx_buffer_init(&json, NULL, head->max);
    for (size_t i = 0; st == ANX_OK && i < d->n_aggregation; i++) {
        anx_buffer_clear(&json);
        st = result_print_aggregation(result, i, &json, err);
        anx_buffer_varint(head, EXTRA_AGGREGATION);
        put_slice(head, &json);
    }
    if (st == ANX_OK && d->is_explained) {
        anx_buffer_clear(&json);
        result_print_explanation(result, &json);
        anx_buffer_varint(head, EXTRA_EXPLAIN);
        put_slice(head, &json);
    }
    anx_buffer_fini(&json);
    return st;
}

/* What every page says, its end included. */
static void
put_extras(const struct rpc_call *call, const struct result *result, const struct result_description *d,
           const struct rpc_shown *shown, anx_buffer *out)
{
    uint64_t capabilities = call->connection->capabilities;

    if ((capabilities & RPC_CAN_INCARNATIONS) && (shown->flags & RPC_WITH_ID)) {
        anx_buffer_varint(out, EXTRA_INCARNATIONS);
        anx_buffer_varint(out, 1);
        anx_buffer_zigzag(out, NO_SHARD);
        anx_buffer_varint(out, d->n_ns);
        for (size_t i = 0; i < d->n_ns; i++)
            anx_buffer_zigzag(out, result_incarnation(result, i));
    }
    if ((capabilities & RPC_CAN_FLOAT_RANK) && (shown->flags & RPC_WITH_RANK)) {
        anx_buffer_varint(out, EXTRA_RANK);
        anx_buffer_varint(out, 0);
    }
    anx_buffer_varint(out, EXTRA_END);
}

/* ---- Open results ---- */

static void
close_result(struct rpc_result *r)
{
    rpc_rows_release(r->rows);
    anx_free(NULL, (void *) (uintptr_t) r->extras.data);
    *r = (struct rpc_result) { 0 };
}

void
rpc_results_sweep(struct rpc_connection *c, uint64_t now_ns)
{
    uint64_t idle_ns = (uint64_t) rpc_server_params(c->server)->result_timeout_s * 1000000000u;
    bool expires = (c->capabilities & RPC_CAN_EXPIRE) || now_ns == UINT64_MAX;

    for (size_t i = 0; expires && c->results && i < RPC_RESULTS_MAX; i++)
        if (c->results[i].rows && (now_ns == UINT64_MAX || now_ns - c->results[i].used_ns > idle_ns))
            close_result(&c->results[i]);
}

/* A free place; *handle is its number. */
static anx_status
find_place(struct rpc_connection *c, int64_t *handle, anx_error *err)
{
    if (!c->results)
        c->results = anx_alloc_zeroed(NULL, RPC_RESULTS_MAX, sizeof(*c->results));
    if (!c->results)
        return anx_fail(err, ANX_E_NOMEM, "no memory for open results");
    rpc_results_sweep(c, anx_clock_ns());
    for (*handle = 0; *handle < RPC_RESULTS_MAX; ++*handle)
        if (!c->results[*handle].rows)
            return ANX_OK;
    return anx_fail(err, ANX_E_LOGIC, "Too many open results: %d on this connection; close some of them",
                    RPC_RESULTS_MAX);
}

static anx_status
keep_result(struct rpc_call *call, struct rpc_rows *rows, const struct rpc_shown *shown, size_t total,
            const anx_buffer *extras, int64_t *handle, int64_t *uid, anx_error *err)
{
    struct rpc_connection *c = call->connection;
    char *copy;
    anx_status st = find_place(c, handle, err);

    if (st != ANX_OK)
        return st;
    copy = anx_alloc_bytes(NULL, extras->size);
    if (!copy)
        return anx_fail(err, ANX_E_NOMEM, "no memory for an open result");
    memcpy(copy, extras->data, extras->size);
    *uid = (c->capabilities & RPC_CAN_EXPIRE) ? ++c->last_uid : NO_SHARD;
    c->results[*handle] = (struct rpc_result) {
        .rows = rows,
        .uid = *uid,
        .used_ns = anx_clock_ns(),
        .flags = shown->flags,
        .total = total,
        .extras = { copy, extras->size },
    };
    atomic_fetch_add_explicit(&rows->references, 1, memory_order_relaxed);
    return ANX_OK;
}

/* ---- A result ---- */

static anx_status
print_rows(struct result *result, const struct rpc_call *call, const struct rpc_shown *shown, size_t *ends,
           anx_buffer *out, anx_error *err)
{
    unsigned format = shown->flags & RPC_FORMAT_MASK;
    struct result_rows how = {
        .format = format == RPC_FORMAT_CJSON  ? ROWS_CJSON
                  : format == RPC_FORMAT_JSON ? ROWS_JSON
                                              : ROWS_BARE,
        .with_id = (shown->flags & RPC_WITH_ID) != 0,
        .with_ns = (shown->flags & RPC_WITH_NSID) != 0,
        .with_rank = (shown->flags & RPC_WITH_RANK) != 0,
        .with_joined = (shown->flags & RPC_WITH_JOINED) != 0,
        .rank_is_float = (call->connection->capabilities & RPC_CAN_FLOAT_RANK) != 0,
        .ends = ends,
        .max = rpc_server_params(call->server)->max_response_bytes,
    };

    return result_print_rows(result, &how, out, err);
}

static anx_status
print_head(const struct rpc_call *call, struct result *result, const struct result_description *d,
           const struct rpc_shown *shown, size_t n, anx_buffer *head, anx_buffer *extras, anx_error *err)
{
    anx_status st;

    anx_buffer_varint(head, shown->flags);
    anx_buffer_varint(head, d->total);
    anx_buffer_varint(head, d->count);
    anx_buffer_varint(head, n);
    if (shown->flags & RPC_WITH_TYPES)
        put_types(result, d, shown, head);
    st = put_once(result, d, head, err);
    put_extras(call, result, d, shown, extras);
    anx_buffer_bytes(head, extras->data, extras->size);
    if (st == ANX_OK && (head->failed || extras->failed))
        st = anx_fail(err, ANX_E_NOMEM, "no memory for a reply");
    return st;
}

/* Bytes of a number, 7 bits in each. */
static size_t
varint_size(size_t value)
{
    size_t n = 1;

    while (value >>= 7)
        n++;
    return n;
}

/* Room for the size of what follows is left in front of it; nearly all replies have a size of two bytes or of
 * three. When that was wrong the rows are moved. */
static void
put_size(anx_buffer *out, size_t at, size_t room)
{
    size_t size = out->size - at - room, need = varint_size(size), end = out->size;

    if (need > room)
        anx_buffer_le(out, 0, need - room); /* bytes at the end */
    if (out->failed)
        return;
    if (need != room)
        memmove(out->data + at + need, out->data + at + room, size);
    out->size = at;
    anx_buffer_varint(out, size);
    out->size = end - room + need;
}

/* All rows: they are written where they are sent from. */
static anx_status
reply_whole(struct rpc_call *call, struct result *result, const struct result_description *d,
            const struct rpc_shown *shown, anx_buffer *head, anx_buffer *extras, anx_error *err)
{
    anx_buffer *out = call->out;
    size_t room = d->count < 16 ? 2 : 3, at;
    anx_status st = print_head(call, result, d, shown, d->count, head, extras, err);

    if (st != ANX_OK)
        return st;
    rpc_reply(call, 3);
    anx_buffer_varint(out, RPC_STRING);
    at = out->size;
    anx_buffer_le(out, 0, room);
    anx_buffer_bytes(out, head->data, head->size);
    st = print_rows(result, call, shown, NULL, out, err);
    if (st != ANX_OK || out->failed)
        return st; /* out->failed: the caller says so */
    put_size(out, at, room);
    rpc_put_int(out, -1);
    rpc_put_int64(out, -1);
    return ANX_OK;
}

/* The first page of more. */
static anx_status
reply_page(struct rpc_call *call, struct result *result, const struct result_description *d,
           const struct rpc_shown *shown, anx_buffer *head, anx_buffer *extras, anx_error *err)
{
    struct rpc_rows *rows = rows_create(d->count, rpc_server_params(call->server)->max_response_bytes);
    int64_t handle = -1, uid = -1;
    anx_status st;

    if (!rows)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a result of %zu rows", d->count);
    st = print_rows(result, call, shown, rows->ends, &rows->data, err);
    if (st == ANX_OK)
        st = print_head(call, result, d, shown, shown->limit, head, extras, err);
    if (st == ANX_OK)
        st = keep_result(call, rows, shown, d->total, extras, &handle, &uid, err);
    if (st == ANX_OK)
        put_blob(call, head, rows, 0, row_end(rows, shown->limit), handle, uid);
    rpc_rows_release(rows);
    return st;
}

anx_status
rpc_result_reply(struct rpc_call *call, struct result *result, const struct rpc_shown *asked, anx_error *err)
{
    size_t max = rpc_server_params(call->server)->max_response_bytes;
    struct rpc_shown shown = *asked;
    struct result_description d;
    anx_buffer head, extras;
    anx_status st;

    result_describe(result, &d);
    st = set_flags(call, &d, &shown, err);
    if (st == ANX_OK && shown.only_first && call->query.n_merge > 0 &&
        (shown.flags & RPC_FORMAT_MASK) == RPC_FORMAT_CJSON)
        st = anx_fail(err, ANX_E_PARAMS,
                      "SQL with MERGE can be read as JSON only: its client knows one namespace");
    if (st != ANX_OK)
        return st;
    anx_buffer_init(&head, NULL, max);
    anx_buffer_init(&extras, NULL, max);
    st = d.count <= shown.limit ? reply_whole(call, result, &d, &shown, &head, &extras, err)
                                : reply_page(call, result, &d, &shown, &head, &extras, err);
    anx_buffer_fini(&head);
    anx_buffer_fini(&extras);
    return st;
}

/* ---- Pages ---- */

static anx_status
find_result(struct rpc_call *call, int64_t handle, int64_t uid, struct rpc_result **out, anx_error *err)
{
    struct rpc_connection *c = call->connection;

    if (handle < 0 || handle >= RPC_RESULTS_MAX)
        return anx_fail(err, ANX_E_LOGIC, "Invalid query id %lld, at most %d results can be open",
                        (long long) handle, RPC_RESULTS_MAX);
    rpc_results_sweep(c, anx_clock_ns());
    *out = c->results ? &c->results[handle] : NULL;
    if (!*out || !(*out)->rows || (uid >= 0 && uid != (*out)->uid))
        return anx_fail(err, ANX_E_RESULT, "Unexpected uid %lld of result %lld: it was closed or has expired",
                        (long long) uid, (long long) handle);
    return ANX_OK;
}

anx_status
rpc_result_fetch(struct rpc_call *call, anx_error *err)
{
    int64_t handle = rpc_integer(call, 0, -1), offset = rpc_integer(call, 2, 0),
            limit = rpc_integer(call, 3, 0);
    unsigned flags = (unsigned) rpc_integer(call, 1, 0);
    struct rpc_result *r;
    anx_buffer head;
    size_t first, last, start, n;
    bool is_last;
    anx_status st = find_result(call, handle, rpc_integer(call, 4, -1), &r, err);

    if (st != ANX_OK)
        return st;
    if ((flags & RPC_FORMAT_MASK) != (r->flags & RPC_FORMAT_MASK))
        return anx_fail(err, ANX_E_PARAMS, "Result %lld has rows of format %u, not %u", (long long) handle,
                        r->flags & RPC_FORMAT_MASK, flags & RPC_FORMAT_MASK);
    n = r->rows->n;
    first = offset < 0 ? 0 : (size_t) offset < n ? (size_t) offset : n;
    last = limit < 0 || (size_t) limit > n - first ? n : first + (size_t) limit;
    start = row_end(r->rows, first);
    is_last = last == n;
    r->used_ns = anx_clock_ns();
    anx_buffer_init(&head, NULL, call->out->max);
    anx_buffer_varint(&head, r->flags & ~(unsigned) RPC_WITH_TYPES);
    anx_buffer_varint(&head, r->total);
    anx_buffer_varint(&head, n);
    anx_buffer_varint(&head, last - first);
    anx_buffer_text(&head, r->extras);
    put_blob(call, &head, r->rows, start, row_end(r->rows, last) - start, is_last ? -1 : handle,
             is_last ? -1 : r->uid);
    anx_buffer_fini(&head);
    if (is_last)
        close_result(r);
    return ANX_OK;
}

anx_status
rpc_result_close(struct rpc_call *call, anx_error *err)
{
    int64_t handle = rpc_integer(call, 0, -1);
    struct rpc_result *r;

    call->is_silent = rpc_integer(call, 2, 0) != 0;
    if (find_result(call, handle, rpc_integer(call, 1, -1), &r, err) == ANX_OK)
        close_result(r); /* one that is gone already is as good */
    if (!call->is_silent)
        rpc_reply(call, 0);
    return ANX_OK;
}
