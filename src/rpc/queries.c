/* Queries, as bytes and as SQL. */
#include "base/error.h"
#include "rpc/rpc_int.h"

static anx_status
check_role(const struct rpc_call *call, enum db_role need, anx_error *err)
{
    if (call->connection->role >= need)
        return ANX_OK;
    return anx_fail(err, ANX_E_FORBIDDEN, "Forbidden: need role %s of db '%.*s' user '%.*s' have role=%s",
                    db_role_name(need), ANX_TEXT_ARG(call->connection->database),
                    ANX_TEXT_ARG(call->connection->user), db_role_name(call->connection->role));
}

/* Flags, number of rows and versions are the arguments from 1 on. */
static struct rpc_shown
read_shown(const struct rpc_call *call, unsigned absent)
{
    int64_t limit = rpc_integer(call, 2, INT64_MAX);

    return (struct rpc_shown) {
        .flags = (unsigned) rpc_integer(call, 1, absent),
        .limit = limit >= 0 ? (size_t) limit : SIZE_MAX,
        .versions = rpc_text(call, 3),
    };
}

static anx_status
run(struct rpc_call *call, const struct rpc_shown *shown, anx_error *err)
{
    struct result *result = NULL;
    struct database *db = call->connection->db;
    anx_status st = call->query.type == QUERY_SELECT
                        ? db_select(db, &call->query, &call->session, &result, err)
                        : db_modify(db, &call->query, &call->session, &result, err);

    if (st == ANX_OK)
        st = rpc_result_reply(call, result, shown, err);
    result_free(result);
    return st;
}

anx_status
rpc_query_select(struct rpc_call *call, anx_error *err)
{
    struct rpc_shown shown = read_shown(call, RPC_FORMAT_CJSON);

    return run(call, &shown, err);
}

anx_status
rpc_query_sql(struct rpc_call *call, anx_error *err)
{
    struct rpc_shown shown = read_shown(call, RPC_FORMAT_CJSON);
    anx_status st = query_read_sql(rpc_text(call, 0), call->arena, &call->query, NULL, err);

    shown.only_first = true;
    if (st == ANX_OK && call->query.type != QUERY_SELECT)
        st = check_role(call, call->query.type == QUERY_TRUNCATE ? ROLE_DB_ADMIN : ROLE_DATA_WRITE, err);
    return st == ANX_OK ? run(call, &shown, err) : st;
}

anx_status
rpc_query_update(struct rpc_call *call, anx_error *err)
{
    struct rpc_shown shown = { .flags = (unsigned) rpc_integer(call, 1, RPC_FORMAT_CJSON),
                               .limit = SIZE_MAX };
    anx_status st = query_read_binary(rpc_text(call, 0), QUERY_UPDATE, call->arena, &call->query, err);

    shown.versions = rpc_text(call, 2);
    shown.only_first = true;
    if (st == ANX_OK && call->query.n_update == 0)
        st = anx_fail(err, ANX_E_PARAMS, "Update query needs fields to set or to drop");
    return st == ANX_OK ? run(call, &shown, err) : st;
}

anx_status
rpc_query_delete(struct rpc_call *call, anx_error *err)
{
    struct result *result = NULL;
    anx_status st = query_read_binary(rpc_text(call, 0), QUERY_DELETE, call->arena, &call->query, err);

    if (st == ANX_OK)
        st = db_modify(call->connection->db, &call->query, &call->session, &result, err);
    if (st == ANX_OK)
        rpc_count_reply(call, result_count(result));
    result_free(result);
    return st;
}
