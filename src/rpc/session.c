/* Login, databases, and what a connection holds. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "rpc/rpc_int.h"

/* Clients take the version of the server for that of its protocol: the original server's, whose frames,
 * flags and query entries these are. */
#define PROTOCOL_OF "v5.15.0"

anx_status
rpc_ping(struct rpc_call *call, anx_error *err)
{
    (void) err;
    rpc_reply(call, 0);
    return ANX_OK;
}

static bool
keep(struct rpc_connection *c, anx_text *place, anx_text text)
{
    char *copy = anx_alloc_bytes(NULL, text.size + 1);

    if (!copy)
        return false;
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    rpc_clients_lock(c->server);
    anx_free(NULL, (void *) (uintptr_t) place->data);
    *place = (anx_text) { copy, text.size };
    rpc_clients_unlock(c->server);
    return true;
}

/* ---- Databases ---- */

static anx_status
acquire(struct rpc_call *call, anx_text name, bool create, struct database **out, anx_error *err)
{
    struct engine *engine = rpc_server_params(call->server)->engine;
    struct rpc_connection *c = call->connection;
    enum db_role role = users_role(c->login, name);
    anx_status st = database_acquire(engine, name, out, err);

    if (st == ANX_E_NOT_FOUND && create) {
        if (role < ROLE_OWNER)
            return anx_fail(err, ANX_E_FORBIDDEN, "Forbidden to create database '%.*s'", ANX_TEXT_ARG(name));
        st = engine_database_create(engine, name, &call->session, err);
        if (st == ANX_OK || st == ANX_E_PARAMS) { /* another connection may have been faster */
            anx_error acquire_err;
            anx_status acquired = database_acquire(engine, name, out, &acquire_err);

            if (acquired == ANX_OK || st == ANX_OK) {
                st = acquired;
                if (err)
                    *err = acquire_err;
            }
        }
    }
    return st;
}

static void
set_database(struct rpc_connection *c, struct database *db, enum db_role role)
{
    struct database *old = c->db;

    rpc_clients_lock(c->server);
    c->db = db;
    c->role = role;
    rpc_clients_unlock(c->server);
    database_release(old);
}

static anx_status
open_database(struct rpc_call *call, anx_text name, bool create, anx_error *err)
{
    struct rpc_connection *c = call->connection;
    struct database *db = NULL;
    anx_status st = acquire(call, name, create, &db, err);

    if (st != ANX_OK)
        return st;
    if (!keep(c, &c->database, name)) {
        database_release(db);
        return anx_fail(err, ANX_E_NOMEM, "no memory for a session");
    }
    set_database(c, db, users_role(c->login, name));
    return ANX_OK;
}

anx_status
rpc_login(struct rpc_call *call, anx_error *err)
{
    const struct rpc_params *params = rpc_server_params(call->server);
    struct rpc_connection *c = call->connection;
    anx_text user = rpc_text(call, 0), database = rpc_text(call, 2);
    anx_status st = ANX_OK;

    if (c->is_logged_in)
        return anx_fail(err, ANX_E_PARAMS, "Already logged in");
    if (params->users) {
        c->login = users_login(params->users, user, rpc_text(call, 1));
        if (!c->login)
            return anx_fail(err, ANX_E_FORBIDDEN, "Unauthorized");
    }
    if (!keep(c, &c->user, user) || !keep(c, &c->version, rpc_text(call, 6)) ||
        !keep(c, &c->application, rpc_text(call, 7)))
        return anx_fail(err, ANX_E_NOMEM, "no memory for a session");
    c->capabilities = (uint64_t) rpc_integer(call, 8, 0);
    if (database.size > 0)
        st = open_database(call, database, rpc_integer(call, 3, 0) != 0, err);
    if (st != ANX_OK)
        return st;
    c->is_logged_in = true;
    rpc_reply(call, 2);
    rpc_put_string(call->out, ANX_TEXT(PROTOCOL_OF));
    rpc_put_int64(call->out, params->start_time);
    return ANX_OK;
}

anx_status
rpc_database_open(struct rpc_call *call, anx_error *err)
{
    anx_status st = call->connection->db ? anx_fail(err, ANX_E_PARAMS, "Database already opened")
                                         : open_database(call, rpc_text(call, 0),
                                                         rpc_integer(call, 1, 0) != 0, err);

    if (st == ANX_OK)
        rpc_reply(call, 0);
    return st;
}

static void
close_database(struct rpc_connection *c)
{
    anx_error ignored;

    for (size_t i = 0; i < c->n_tx; i++) {
        if (db_tx_rollback(c->db, c->transactions[i].name, NULL, &ignored) != ANX_OK)
            continue; /* it was idle for too long, and is gone */
    }
    for (size_t i = 0; i < c->n_tx; i++)
        anx_free(NULL, (void *) (uintptr_t) c->transactions[i].name.data);
    c->n_tx = 0;
    atomic_store_explicit(&c->n_transaction, 0, memory_order_relaxed);
    set_database(c, NULL, ROLE_NONE);
}

anx_status
rpc_database_close(struct rpc_call *call, anx_error *err)
{
    (void) err;
    close_database(call->connection);
    rpc_reply(call, 0);
    return ANX_OK;
}

anx_status
rpc_database_drop(struct rpc_call *call, anx_error *err)
{
    struct rpc_connection *c = call->connection;
    anx_status st;

    close_database(c);
    st = engine_database_drop(rpc_server_params(call->server)->engine, c->database, &call->session, err);
    if (st == ANX_OK)
        rpc_reply(call, 0);
    return st;
}

anx_status
rpc_database_list(struct rpc_call *call, anx_error *err)
{
    anx_text *names;
    size_t n;
    anx_status st = engine_databases(rpc_server_params(call->server)->engine, call->arena, &names, &n, err);

    if (st != ANX_OK)
        return st;
    rpc_reply(call, n);
    for (size_t i = 0; i < n; i++)
        rpc_put_string(call->out, names[i]);
    return ANX_OK;
}

void
rpc_session_fini(struct rpc_connection *c)
{
    close_database(c);
    rpc_results_sweep(c, UINT64_MAX);
    anx_free(NULL, c->results);
    anx_free(NULL, c->transactions);
    anx_free(NULL, (void *) (uintptr_t) c->user.data);
    anx_free(NULL, (void *) (uintptr_t) c->database.data);
    anx_free(NULL, (void *) (uintptr_t) c->application.data);
    anx_free(NULL, (void *) (uintptr_t) c->version.data);
    anx_arena_destroy(c->arena);
}
