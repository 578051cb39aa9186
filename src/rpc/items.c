/* Documents, one at a time, and transactions of them. */
#include "base/alloc.h"
#include "base/error.h"
#include "rpc/rpc_int.h"

enum { FORMAT_JSON, FORMAT_CJSON };

struct item {
    struct db_item item;
    enum db_write_mode mode;
    anx_text precepts[RPC_PRECEPTS_MAX];
    size_t n_precept;
};

/* Format, bytes, mode, precepts and token are the arguments from `first` on. */
static anx_status
read_item(const struct rpc_call *call, size_t first, struct item *out, anx_error *err)
{
    static const enum db_write_mode modes[] = { WRITE_UPDATE, WRITE_INSERT, WRITE_UPSERT, WRITE_DELETE };
    int64_t format = rpc_integer(call, first, 0), mode = rpc_integer(call, first + 2, 0);

    if (format != FORMAT_JSON && format != FORMAT_CJSON)
        return anx_fail(err, ANX_E_PARAMS,
                        "Invalid source item format %lld, 0 (JSON) and 1 (CJSON) are possible",
                        (long long) format);
    if (mode < 0 || mode >= (int64_t) ANX_COUNT_OF(modes))
        return anx_fail(err, ANX_E_PARAMS, "Unexpected ItemModifyMode %lld, 0 to 3 are possible",
                        (long long) mode);
    out->mode = modes[mode];
    out->item = (struct db_item) { .bytes = rpc_text(call, first + 1), .is_cjson = format == FORMAT_CJSON };
    out->item.state_token = (int32_t) (uint32_t) rpc_integer(call, first + 4, 0);
    return rpc_strings_read(rpc_text(call, first + 3), out->precepts, RPC_PRECEPTS_MAX, &out->n_precept, err);
}

static void
put_written(struct rpc_call *call, const struct db_written *written)
{
    bool has_doc = written->doc && written->n > 0;
    unsigned flags = (written->has_row ? RPC_WITH_ID : 0) | (written->has_types ? RPC_WITH_TYPES : 0) |
                     (has_doc ? RPC_FORMAT_CJSON : 0);
    anx_buffer blob;

    anx_buffer_init(&blob, NULL, call->out->max);
    anx_buffer_varint(&blob, flags);
    anx_buffer_varint(&blob, 0);
    anx_buffer_varint(&blob, written->n);
    anx_buffer_varint(&blob, written->n);
    if (written->has_types) {
        anx_buffer_varint(&blob, 1);
        anx_buffer_bytes(&blob, written->types->data, written->types->size);
    }
    anx_buffer_varint(&blob, 0);
    if (written->n > 0 && written->has_row) {
        anx_buffer_varint(&blob, written->row);
        anx_buffer_varint(&blob, written->version);
    }
    if (has_doc) {
        anx_buffer_le(&blob, written->doc->size, 4);
        anx_buffer_bytes(&blob, written->doc->data, written->doc->size);
    }
    rpc_reply(call, 3);
    rpc_put_string(call->out, (anx_text) { blob.data, blob.size });
    rpc_put_int(call->out, -1);
    rpc_put_int64(call->out, -1);
    call->out->failed = call->out->failed || blob.failed;
    anx_buffer_fini(&blob);
}

anx_status
rpc_item_modify(struct rpc_call *call, anx_error *err)
{
    struct item item;
    anx_buffer types, doc;
    struct db_written written = { .types = &types };
    anx_status st = read_item(call, 1, &item, err);

    if (st != ANX_OK)
        return st;
    anx_buffer_init(&types, NULL, call->out->max);
    anx_buffer_init(&doc, NULL, call->out->max);
    if (item.n_precept > 0)
        written.doc = &doc;
    st = db_write_item(call->connection->db, rpc_text(call, 0), item.mode, &item.item, item.precepts,
                       item.n_precept, &call->session, &written, err);
    if (st == ANX_OK && (types.failed || doc.failed))
        st = anx_fail(err, ANX_E_NOMEM, "no memory for a reply");
    if (st == ANX_OK)
        put_written(call, &written);
    anx_buffer_fini(&types);
    anx_buffer_fini(&doc);
    return st;
}

/* ---- Transactions ---- */

static anx_status
find_tx(const struct rpc_call *call, int64_t id, struct rpc_tx **out, anx_error *err)
{
    struct rpc_connection *c = call->connection;

    for (size_t i = 0; i < c->n_tx; i++)
        if (c->transactions[i].id == id) {
            *out = &c->transactions[i];
            return ANX_OK;
        }
    return anx_fail(err, ANX_E_LOGIC, "Invalid tx id %lld", (long long) id);
}

static void
forget_tx(struct rpc_connection *c, struct rpc_tx *tx)
{
    anx_free(NULL, (void *) (uintptr_t) tx->name.data);
    *tx = c->transactions[--c->n_tx];
    atomic_store_explicit(&c->n_transaction, c->n_tx, memory_order_relaxed);
}

static anx_status
room_for_tx(struct rpc_connection *c, anx_error *err)
{
    size_t capacity = c->tx_capacity > 0 ? 2 * c->tx_capacity : 8;
    struct rpc_tx *list;

    if (c->n_tx >= RPC_TX_MAX)
        return anx_fail(err, ANX_E_FORBIDDEN, "Too many parallel transactions: %zu, at most %d are possible",
                        c->n_tx, RPC_TX_MAX);
    if (c->n_tx < c->tx_capacity)
        return ANX_OK;
    list = anx_realloc_array(NULL, c->transactions, capacity, sizeof(*list));
    if (!list)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a transaction");
    c->transactions = list;
    c->tx_capacity = capacity;
    return ANX_OK;
}

anx_status
rpc_tx_begin(struct rpc_call *call, anx_error *err)
{
    struct rpc_connection *c = call->connection;
    anx_text name;
    char *copy;
    anx_error ignored;
    anx_status st = room_for_tx(c, err);

    if (st == ANX_OK)
        st = db_tx_begin(c->db, rpc_text(call, 0), &call->session, call->arena, &name, err);
    if (st != ANX_OK)
        return st;
    copy = anx_alloc_bytes(NULL, name.size + 1);
    if (!copy) {
        (void) !db_tx_rollback(c->db, name, &call->session, &ignored);
        return anx_fail(err, ANX_E_NOMEM, "no memory for a transaction");
    }
    memcpy(copy, name.data, name.size);
    c->transactions[c->n_tx++] = (struct rpc_tx) { .id = ++c->last_tx, .name = { copy, name.size } };
    atomic_store_explicit(&c->n_transaction, c->n_tx, memory_order_relaxed);
    rpc_reply(call, 1);
    rpc_put_int64(call->out, c->last_tx);
    return ANX_OK;
}

bool
rpc_tx_is_short(const struct rpc_call *call)
{
    struct rpc_tx *tx = NULL;

    return find_tx(call, rpc_integer(call, 5, -1), &tx, NULL) != ANX_OK ||
           db_tx_is_short(call->connection->db, tx->name);
}

anx_status
rpc_tx_item(struct rpc_call *call, anx_error *err)
{
    struct rpc_tx *tx = NULL;
    struct item item;
    anx_status st = find_tx(call, rpc_integer(call, 5, -1), &tx, err);

    if (st == ANX_OK)
        st = read_item(call, 0, &item, err);
    if (st == ANX_OK)
        st = db_tx_write_item(call->connection->db, tx->name, item.mode, &item.item, item.precepts,
                              item.n_precept, &call->session, err);
    if (st == ANX_OK)
        rpc_reply(call, 0);
    return st;
}

static anx_status
tx_query(struct rpc_call *call, enum query_type type, anx_error *err)
{
    struct rpc_tx *tx = NULL;
    anx_status st = find_tx(call, rpc_integer(call, 1, -1), &tx, err);

    if (st == ANX_OK)
        st = query_read_binary(rpc_text(call, 0), type, call->arena, &call->query, err);
    if (st == ANX_OK)
        st = db_tx_query(call->connection->db, tx->name, &call->query, &call->session, err);
    if (st == ANX_OK)
        rpc_reply(call, 0);
    return st;
}
anx_status
rpc_tx_delete(struct rpc_call *call, anx_error *err)
{
    return tx_query(call, QUERY_DELETE, err);
}
anx_status
rpc_tx_update(struct rpc_call *call, anx_error *err)
{
    return tx_query(call, QUERY_UPDATE, err);
}

anx_status
rpc_tx_commit(struct rpc_call *call, anx_error *err)
{
    struct rpc_connection *c = call->connection;
    struct result *result = NULL;
    struct rpc_tx *tx = NULL;
    anx_status st = find_tx(call, rpc_integer(call, 0, -1), &tx, err);

    if (st != ANX_OK)
        return st;
    st = db_tx_commit(c->db, tx->name, &call->session, &result, err);
    forget_tx(c, tx); /* whatever came of it */
    if (st == ANX_OK)
        rpc_count_reply(call, result_count(result));
    result_free(result);
    return st;
}

anx_status
rpc_tx_rollback(struct rpc_call *call, anx_error *err)
{
    struct rpc_connection *c = call->connection;
    struct rpc_tx *tx = NULL;
    anx_status st = find_tx(call, rpc_integer(call, 0, -1), &tx, err);

    if (st != ANX_OK)
        return st;
    st = db_tx_rollback(c->db, tx->name, &call->session, err);
    forget_tx(c, tx);
    if (st == ANX_OK)
        rpc_reply(call, 0);
    return st;
}
