/* The command table, and the way of a request from its bytes to its reply. */
#include <snappy-c.h>

#include "base/alloc.h"
#include "base/error.h"
#include "rpc/rpc_int.h"

/* Codes and arguments are the protocol's. */
static const struct rpc_command commands[] = {
    { 0, "Ping", "", ROLE_NONE, ON_LOOP, rpc_ping },
    { 1, "Login", "ss|sbbissis", ROLE_NONE, ON_WORKER, rpc_login },
    { 2, "OpenDatabase", "s|b", ROLE_NONE, ON_WORKER, rpc_database_open },
    { 3, "CloseDatabase", "", ROLE_NONE, ON_WORKER, rpc_database_close },
    { 4, "DropDatabase", "", ROLE_OWNER, ON_WORKER, rpc_database_drop },
    { 5, "EnumDatabases", "", ROLE_NONE, ON_WORKER, rpc_database_list },
    { 16, "OpenNamespace", "s", ROLE_DATA_READ, ON_WORKER, rpc_ns_open },
    { 17, "CloseNamespace", "s", ROLE_DATA_READ, ON_LOOP, rpc_ns_close },
    { 18, "DropNamespace", "s", ROLE_DB_ADMIN, ON_WORKER, rpc_ns_drop },
    { 19, "TruncateNamespace", "s", ROLE_DB_ADMIN, ON_WORKER, rpc_ns_truncate },
    { 20, "RenameNamespace", "ss", ROLE_DB_ADMIN, ON_WORKER, rpc_ns_rename },
    { 21, "AddIndex", "ss", ROLE_DB_ADMIN, ON_WORKER, rpc_index_add },
    { 22, "EnumNamespaces", "|is", ROLE_DATA_READ, ON_WORKER, rpc_ns_list },
    { 24, "DropIndex", "ss", ROLE_DB_ADMIN, ON_WORKER, rpc_index_drop },
    { 25, "UpdateIndex", "ss", ROLE_DB_ADMIN, ON_WORKER, rpc_index_update },
    { 26, "AddTxItem", "isisii", ROLE_DATA_WRITE, BY_TX, rpc_tx_item },
    { 27, "CommitTx", "i|i", ROLE_DATA_WRITE, ON_WORKER, rpc_tx_commit },
    { 28, "RollbackTx", "i", ROLE_DATA_WRITE, ON_LOOP, rpc_tx_rollback },
    { 29, "StartTransaction", "s", ROLE_DATA_WRITE, ON_WORKER, rpc_tx_begin },
    { 30, "DeleteQueryTx", "si", ROLE_DATA_WRITE, ON_WORKER, rpc_tx_delete },
    { 31, "UpdateQueryTx", "si", ROLE_DATA_WRITE, ON_WORKER, rpc_tx_update },
    { 33, "ModifyItem", "sisisi|i", ROLE_DATA_WRITE, ON_WORKER, rpc_item_modify },
    { 34, "DeleteQuery", "s|is", ROLE_DATA_WRITE, ON_WORKER, rpc_query_delete },
    { 35, "UpdateQuery", "s|is", ROLE_DATA_WRITE, ON_WORKER, rpc_query_update },
    { 48, "Select", "s|iis", ROLE_DATA_READ, BY_QUERY, rpc_query_select },
    { 49, "ExecSQL", "s|iis", ROLE_DATA_READ, ON_WORKER, rpc_query_sql },
    { 50, "FetchResults", "iiii|i", ROLE_DATA_READ, ON_LOOP, rpc_result_fetch },
    { 51, "CloseResults", "i|ib", ROLE_DATA_READ, ON_LOOP, rpc_result_close },
    { 63, "DeleteMeta", "ss", ROLE_DATA_WRITE, ON_WORKER, rpc_meta_delete },
    { 64, "GetMeta", "ss", ROLE_DATA_READ, ON_WORKER, rpc_meta_get },
    { 65, "PutMeta", "sss", ROLE_DATA_WRITE, ON_WORKER, rpc_meta_put },
    { 66, "EnumMeta", "s", ROLE_DATA_READ, ON_WORKER, rpc_meta_list },
    { 90, "Subscribe", "isis", ROLE_DATA_READ, ON_LOOP, rpc_subscribe },
    { 67, "SetSchema", "ss", ROLE_DB_ADMIN, ON_WORKER, rpc_schema_set },
};

const struct rpc_command *
rpc_command_find(unsigned code)
{
    for (size_t i = 0; i < ANX_COUNT_OF(commands); i++)
        if ((unsigned) commands[i].code == code)
            return &commands[i];
    return NULL;
}

/* ---- Before the handler ---- */

static bool
is_of_type(const struct rpc_arg *arg, char type)
{
    switch (type) {
    case 's':
        return arg->type == RPC_STRING;
    case 'b':
        return arg->type == RPC_BOOL || arg->type == RPC_INT || arg->type == RPC_INT64;
    default:
        return arg->type == RPC_INT || arg->type == RPC_INT64;
    }
}

static anx_status
check_args(const struct rpc_call *call, anx_error *err)
{
    const char *types = call->command->types;
    bool is_optional = false;
    size_t i = 0;

    for (; *types; types++) {
        if (*types == '|') {
            is_optional = true;
            continue;
        }
        if (i == call->args.n && !is_optional)
            return anx_fail(err, ANX_E_PARAMS,
                            "Invalid args of %s call; argument %zu of type '%c' is missing",
                            call->command->name, i + 1, *types);
        if (i == call->args.n)
            break;
        if (!is_of_type(&call->args.list[i], *types))
            return anx_fail(err, ANX_E_PARAMS,
                            "Invalid args of %s call; argument %zu has type %d, expected '%c'",
                            call->command->name, i + 1, (int) call->args.list[i].type, *types);
        i++;
    }
    return ANX_OK;
}

static anx_status
check_session(const struct rpc_call *call, anx_error *err)
{
    const struct rpc_connection *c = call->connection;
    enum db_role need = call->command->role;

    if (!c->is_logged_in && call->command->code > 1)
        return anx_fail(err, ANX_E_FORBIDDEN, "You should login");
    if (need == ROLE_NONE)
        return ANX_OK;
    if (!c->db)
        return anx_fail(err, ANX_E_PARAMS, "Database is not opened, you should open it first");
    if (c->role < need)
        return anx_fail(err, ANX_E_FORBIDDEN, "Forbidden: need role %s of db '%.*s' user '%.*s' have role=%s",
                        db_role_name(need), ANX_TEXT_ARG(c->database), ANX_TEXT_ARG(c->user),
                        db_role_name(c->role));
    return ANX_OK;
}

static bool
should_stop(void *context)
{
    const struct rpc_connection *c = context;

    return atomic_load_explicit(&c->is_closed, memory_order_relaxed);
}

static void
set_session(struct rpc_call *call, const struct rpc_request *request, bool on_loop)
{
    struct rpc_connection *c = call->connection;
    uint64_t ms = call->args.timeout_ms < 1000000000u ? call->args.timeout_ms : 0;

    call->session = (struct db_session) {
        .role = c->role,
        .user = c->user,
        .client = anx_text_of(c->client),
        .deadline_ns = ms > 0 ? request->start_ns + ms * 1000000u : 0,
        .should_stop = should_stop,
        .stop_context = c,
        .max_result_bytes = rpc_server_params(call->server)->max_response_bytes,
        .blocking = on_loop ? NULL : anx_workers_blocking,
        .blocking_context = rpc_server_workers(call->server),
    };
}

/* A compressed body says how long it will be; no byte of snappy's makes more than 32. */
static anx_status
uncompress(struct rpc_call *call, anx_text *body, anx_error *err)
{
    size_t size = 0, limit = rpc_server_params(call->server)->max_request_bytes;
    char *bytes;

    if (snappy_uncompressed_length(body->data, body->size, &size) != SNAPPY_OK || size / 32 > body->size)
        return anx_fail(err, ANX_E_PARSE_BIN, "Can't decompress data from peer");
    if (size > limit)
        return anx_fail(err, ANX_E_PARAMS, "Request of %zu bytes is larger than the limit of %zu", size,
                        limit);
    bytes = anx_arena_bytes(call->arena, size + 1);
    if (!bytes)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a request of %zu bytes", size);
    if (snappy_uncompress(body->data, body->size, bytes, &size) != SNAPPY_OK)
        return anx_fail(err, ANX_E_PARSE_BIN, "Can't decompress data from peer");
    *body = (anx_text) { bytes, size };
    return ANX_OK;
}

/* *is_long: it has to go to a worker; on a loop nothing more is done then. */
static anx_status
prepare(struct rpc_call *call, const struct rpc_request *request, bool on_loop, bool *is_long, anx_error *err)
{
    anx_text body = { (const char *) request->body, request->head.size };
    anx_status st = ANX_OK;

    call->command = rpc_command_find(request->head.command);
    if (!call->command)
        return anx_fail(err, ANX_E_PARAMS, "Unknown RPC call. Command code is %u", request->head.command);
    *is_long = call->command->where == ON_WORKER;
    if (*is_long && on_loop)
        return ANX_OK;
    if (request->head.is_compressed)
        st = uncompress(call, &body, err);
    if (st == ANX_OK)
        st = rpc_args_read(body, &call->args, err);
    call->must_close = st != ANX_OK; /* whatever sent this has lost its place */
    if (st == ANX_OK)
        st = check_args(call, err);
    if (st == ANX_OK)
        st = check_session(call, err);
    if (st != ANX_OK)
        return st;
    set_session(call, request, on_loop);
    if (call->command->where == BY_TX)
        *is_long = on_loop && !rpc_tx_is_short(call);
    if (call->command->where != BY_QUERY)
        return ANX_OK;
    st = query_read_binary(rpc_text(call, 0), QUERY_SELECT, call->arena, &call->query, err);
    *is_long = st == ANX_OK && !query_is_short(&call->query);
    return st;
}

/* ---- The reply ---- */

void
rpc_reply(struct rpc_call *call, size_t n_arg)
{
    rpc_put_reply(call->out, 0, ANX_TEXT(""), n_arg);
}

static void
drop_tail(struct rpc_call *call)
{
    rpc_rows_release(call->tail);
    call->tail = NULL;
    call->tail_size = call->foot_size = 0;
}

/* The body as one compressed run. */
static bool
compress(struct rpc_call *call)
{
    anx_buffer *out = call->out;
    size_t at = call->start + RPC_HEAD_SIZE, size, max;
    char *bytes;
    bool is_fine;

    if (call->tail) {
        anx_buffer_bytes(out, call->tail->data.data + call->tail_start, call->tail_size);
        anx_buffer_bytes(out, call->foot, call->foot_size);
        drop_tail(call);
    }
    size = out->size - at;
    max = snappy_max_compressed_length(size);
    bytes = out->failed ? NULL : anx_alloc_bytes(NULL, max);
    is_fine = bytes && snappy_compress(out->data + at, size, bytes, &max) == SNAPPY_OK;
    if (is_fine) {
        out->size = at;
        anx_buffer_bytes(out, bytes, max);
    }
    anx_free(NULL, bytes);
    return is_fine && !out->failed;
}

static void
put_error(struct rpc_call *call, anx_status st, const anx_error *err)
{
    drop_tail(call);
    call->out->failed = false;
    call->out->size = call->start + RPC_HEAD_SIZE;
    rpc_put_reply(call->out, anx_status_rpc(st), anx_text_of(err->message), 0);
}

static void
finish(struct rpc_call *call, const struct rpc_request *request)
{
    anx_buffer *out = call->out;
    struct rpc_head head = { .command = request->head.command, .sequence = request->head.sequence };

    if (call->connection->compresses)
        head.is_compressed = compress(call);
    if (out->failed) {
        call->must_close = true;
        out->failed = false;
        out->size = call->start;
        return;
    }
    head.size = (uint32_t) (out->size - call->start - RPC_HEAD_SIZE + call->tail_size + call->foot_size);
    rpc_head_write(&head, (uint8_t *) out->data + call->start);
}

bool
rpc_run(struct rpc_call *call, const struct rpc_request *request, bool on_loop)
{
    static const uint8_t space[RPC_HEAD_SIZE];
    struct rpc_connection *c = call->connection;
    bool is_long = false;
    anx_error err;
    anx_status st;

    *call = (struct rpc_call) { .connection = c, .server = c->server, .arena = c->arena, .out = call->out };
    anx_arena_reset(c->arena);
    st = prepare(call, request, on_loop, &is_long, &err);
    if (st == ANX_OK && on_loop && is_long)
        return false;
    c->compresses = request->head.is_compressed && !call->must_close;
    call->start = call->out->size;
    anx_buffer_bytes(call->out, space, sizeof(space));
    if (st == ANX_OK)
        st = db_session_check(&call->session, &err);
    if (st == ANX_OK)
        st = call->command->handle(call, &err);
    if (st == ANX_OK && call->out->failed)
        st = anx_fail(&err, ANX_E_NOMEM, "no memory for a reply");
    if (call->is_silent) {
        call->out->size = call->start;
        drop_tail(call);
        return true;
    }
    if (st != ANX_OK)
        put_error(call, st, &err);
    finish(call, request);
    return true;
}
