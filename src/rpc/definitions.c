/* Namespaces, indexes, schemas, metadata. */
#include "base/error.h"
#include "rpc/rpc_int.h"

/* A reply of nothing but success. */
static anx_status
done(struct rpc_call *call, anx_status st)
{
    if (st == ANX_OK)
        rpc_reply(call, 0);
    return st;
}

anx_status
rpc_ns_open(struct rpc_call *call, anx_error *err)
{
    return done(call, db_ns_open(call->connection->db, rpc_text(call, 0), &call->session, err));
}

/* Others may use it: nothing is unloaded. */
anx_status
rpc_ns_close(struct rpc_call *call, anx_error *err)
{
    (void) err;
    return done(call, ANX_OK);
}

anx_status
rpc_ns_drop(struct rpc_call *call, anx_error *err)
{
    return done(call, db_ns_drop(call->connection->db, rpc_text(call, 0), &call->session, err));
}

anx_status
rpc_ns_truncate(struct rpc_call *call, anx_error *err)
{
    return done(call, db_ns_truncate(call->connection->db, rpc_text(call, 0), &call->session, err));
}

anx_status
rpc_ns_rename(struct rpc_call *call, anx_error *err)
{
    return done(call, db_ns_rename(call->connection->db, rpc_text(call, 0), rpc_text(call, 1), &call->session,
                                   err));
}

static anx_status
set_index(struct rpc_call *call, enum db_index_action action, anx_error *err)
{
    return done(call, db_index_set(call->connection->db, rpc_text(call, 0), rpc_text(call, 1), action,
                                   &call->session, err));
}
anx_status
rpc_index_add(struct rpc_call *call, anx_error *err)
{
    return set_index(call, INDEX_ADD_IF_DIFFERENT, err);
}
anx_status
rpc_index_update(struct rpc_call *call, anx_error *err)
{
    return set_index(call, INDEX_UPDATE, err);
}

anx_status
rpc_index_drop(struct rpc_call *call, anx_error *err)
{
    return done(call, db_index_drop(call->connection->db, rpc_text(call, 0), rpc_text(call, 1),
                                    &call->session, err));
}

anx_status
rpc_schema_set(struct rpc_call *call, anx_error *err)
{
    return done(call, db_schema_set(call->connection->db, rpc_text(call, 0), rpc_text(call, 1),
                                    &call->session, err));
}

/* ---- The list of namespaces ---- */

enum { LIST_NAMES_ONLY = 2, LIST_HIDE_SYSTEM = 4 };

static anx_status
print_ns(struct rpc_call *call, anx_text name, int64_t options, anx_buffer *out, anx_error *err)
{
    size_t n;

    if (!(options & LIST_NAMES_ONLY))
        return db_ns_describe(call->connection->db, name, false, out, &n, err);
    anx_buffer_text(out, ANX_TEXT("{\"name\":"));
    json_print_text(out, name);
    anx_buffer_char(out, '}');
    return ANX_OK;
}

static anx_status
print_list(struct rpc_call *call, anx_buffer *out, anx_error *err)
{
    anx_text *names, filter = rpc_text(call, 1);
    int64_t options = rpc_integer(call, 0, 0);
    size_t n;
    bool is_first = true;
    anx_status st = db_ns_names(call->connection->db, call->arena, &names, &n, err);

    anx_buffer_text(out, ANX_TEXT("{\"items\":["));
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        size_t before = out->size;

        if ((filter.size > 0 && !anx_text_equal_fold(names[i], filter)) ||
            ((options & LIST_HIDE_SYSTEM) && names[i].size > 0 && names[i].data[0] == '#'))
            continue;
        if (!is_first)
            anx_buffer_char(out, ',');
        st = print_ns(call, names[i], options, out, err);
        is_first = is_first && st != ANX_OK;
        if (st == ANX_E_NOT_FOUND) { /* dropped meanwhile */
            out->size = before;
            st = ANX_OK;
        }
    }
    anx_buffer_text(out, ANX_TEXT("]}"));
    return st == ANX_OK && out->failed ? anx_fail(err, ANX_E_NOMEM, "no memory for a list of namespaces")
                                       : st;
}

anx_status
rpc_ns_list(struct rpc_call *call, anx_error *err)
{
    anx_buffer list;
    anx_status st;

    anx_buffer_init(&list, NULL, call->out->max);
    st = print_list(call, &list, err);
    if (st == ANX_OK) {
        rpc_reply(call, 1);
        rpc_put_string(call->out, (anx_text) { list.data, list.size });
    }
    anx_buffer_fini(&list);
    return st;
}

/* ---- Metadata ---- */

anx_status
rpc_meta_get(struct rpc_call *call, anx_error *err)
{
    anx_text value = { "", 0 };
    anx_status st;

    if (rpc_text(call, 1).size == 0)
        return anx_fail(err, ANX_E_PARAMS, "Empty key is not supported");
    st = db_meta_get(call->connection->db, rpc_text(call, 0), rpc_text(call, 1), call->arena, &value, err);
    if (st != ANX_OK)
        return st;
    rpc_reply(call, 1);
    rpc_put_string(call->out, value);
    return ANX_OK;
}

anx_status
rpc_meta_put(struct rpc_call *call, anx_error *err)
{
    return done(call, db_meta_put(call->connection->db, rpc_text(call, 0), rpc_text(call, 1),
                                  rpc_text(call, 2), err));
}

anx_status
rpc_meta_delete(struct rpc_call *call, anx_error *err)
{
    return done(call, db_meta_delete(call->connection->db, rpc_text(call, 0), rpc_text(call, 1), err));
}

anx_status
rpc_meta_list(struct rpc_call *call, anx_error *err)
{
    anx_text *keys, *values;
    size_t n;
    anx_status st =
        db_meta_list(call->connection->db, rpc_text(call, 0), call->arena, &keys, &values, &n, err);

    if (st != ANX_OK)
        return st;
    rpc_reply(call, n);
    for (size_t i = 0; i < n; i++)
        rpc_put_string(call->out, keys[i]);
    return ANX_OK;
}
