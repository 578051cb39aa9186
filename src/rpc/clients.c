/* The list of connections, and #clientsstats. */
#include "doc/json.h"
#include "rpc/server_int.h"

void
rpc_clients_lock(struct rpc_server *server)
{
    pthread_mutex_lock(&server->clients_lock);
}

void
rpc_clients_unlock(struct rpc_server *server)
{
    pthread_mutex_unlock(&server->clients_lock);
}

static void
print_text(anx_buffer *out, const char *name, anx_text text)
{
    anx_buffer_printf(out, ",\"%s\":", name);
    json_print_text(out, text);
}

static void
print_client(const struct rpc_connection *c, anx_buffer *out)
{
    anx_buffer_printf(out, "{\"connection_id\":%llu", (unsigned long long) c->id);
    print_text(out, "ip", anx_text_of(c->client));
    print_text(out, "protocol", strcmp(c->client, "unix") == 0 ? ANX_TEXT("unix") : ANX_TEXT("tcp"));
    print_text(out, "user_name", c->user);
    print_text(out, "user_rights", anx_text_of(db_role_name(c->role)));
    print_text(out, "db_name", c->database);
    print_text(out, "app_name", c->application);
    print_text(out, "client_version", c->version);
    print_text(out, "current_activity", ANX_TEXT(""));
    anx_buffer_printf(out,
                      ",\"start_time\":%lld,\"sent_bytes\":%llu,\"recv_bytes\":%llu,\"send_buf_bytes\":0,"
                      "\"send_rate\":0,\"recv_rate\":0,\"last_send_ts\":%llu,\"last_recv_ts\":%llu,"
                      "\"tx_count\":%zu}",
                      (long long) c->start_time, (unsigned long long) atomic_load(&c->sent_bytes),
                      (unsigned long long) atomic_load(&c->received_bytes),
                      (unsigned long long) atomic_load(&c->sent_ms),
                      (unsigned long long) atomic_load(&c->received_ms), atomic_load(&c->n_transaction));
}

void
rpc_clients_print(void *context, struct database *db, anx_buffer *out)
{
    struct rpc_server *server = context;

    rpc_clients_lock(server);
    for (const struct rpc_connection *c = server->clients; c; c = c->next_client)
        if (c->db == db)
            print_client(c, out);
    rpc_clients_unlock(server);
}
