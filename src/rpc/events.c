/* Subscriptions: what a client asked for, and events as frames. */
#include <time.h>

#include "base/alloc.h"
#include "base/error.h"
#include "rpc/rpc_int.h"

enum { FORMAT_VERSION = 1, EVENT_COMMAND = 91 };
enum {
    OPTION_DB = 1 << 3,
    OPTION_SHARD = 1 << 4,
    OPTION_LSN = 1 << 5,
    OPTION_SERVER = 1 << 6,
    OPTION_TIME = 1 << 7
};
#define LSN_MODULUS 1000000000000000ull /* behind it stands the server's number, which is 0 */

static const struct {
    enum db_event_type type;
    const char *name;
} names[] = {
    { EVENT_ITEM_UPDATE, "ItemUpdate" },          { EVENT_ITEM_UPSERT, "ItemUpsert" },
    { EVENT_ITEM_DELETE, "ItemDelete" },          { EVENT_ITEM_INSERT, "ItemInsert" },
    { EVENT_ITEM_UPDATE_TX, "ItemUpdateTx" },     { EVENT_ITEM_UPDATE_TX + 1, "ItemUpsertTx" },
    { EVENT_ITEM_UPDATE_TX + 2, "ItemDeleteTx" }, { EVENT_ITEM_UPDATE_TX + 3, "ItemInsertTx" },
    { EVENT_INDEX_ADD, "IndexAdd" },              { EVENT_INDEX_DROP, "IndexDrop" },
    { EVENT_INDEX_UPDATE, "IndexUpdate" },        { EVENT_PUT_META, "PutMeta" },
    { EVENT_PUT_META_TX, "PutMetaTx" },           { EVENT_SET_SCHEMA, "SetSchema" },
    { EVENT_TRUNCATE, "Truncate" },               { EVENT_BEGIN_TX, "BeginTx" },
    { EVENT_COMMIT_TX, "CommitTx" },              { EVENT_NS_ADD, "AddNamespace" },
    { EVENT_NS_DROP, "DropNamespace" },           { EVENT_NS_RENAME, "RenameNamespace" },
    { EVENT_SET_NAMES, "SetTagsMatcher" },        { EVENT_DELETE_META, "DeleteMeta" },
};

/* ---- Subscribing ---- */

void
rpc_subscription_free(struct rpc_subscription *s)
{
    if (s)
        anx_arena_destroy(s->arena); /* it is in it */
}

static bool
is_true(const struct json_node *object, const char *key)
{
    const struct json_node *node = json_member(object, key);

    return node && node->kind == JSON_BOOL && node->boolean;
}

static anx_status
read_types(const struct json_node *list, struct rpc_stream *stream, anx_error *err)
{
    stream->types = list && list->kind == JSON_ARRAY && list->list.n > 0 ? 0 : UINT64_MAX;
    for (size_t i = 0; stream->types != UINT64_MAX && i < list->list.n; i++) {
        if (list->list.items[i].kind != JSON_STRING)
            return anx_fail(err, ANX_E_PARAMS, "Subscription: 'event_types' must be texts");
        /* Names of events that this server never has are fine. */
        for (size_t j = 0; j < ANX_COUNT_OF(names); j++)
            if (anx_text_equal(list->list.items[i].text, anx_text_of(names[j].name)))
                stream->types |= (uint64_t) 1 << names[j].type;
    }
    return ANX_OK;
}

static anx_status
read_stream(const struct json_node *node, struct rpc_subscription *s, anx_error *err)
{
    const struct json_node *id = json_member(node, "id"), *list = json_member(node, "namespaces");
    struct rpc_stream *stream = &s->streams[s->n_stream++];
    size_t n = list && list->kind == JSON_ARRAY ? list->list.n : 0;

    if (!id || id->kind != JSON_INT || id->integer < 0 || id->integer >= RPC_STREAMS_MAX)
        return anx_fail(err, ANX_E_PARAMS, "Subscription: the 'id' of a stream must be a number from 0 to %d",
                        RPC_STREAMS_MAX - 1);
    if (list && list->kind != JSON_ARRAY)
        return anx_fail(err, ANX_E_PARAMS, "Subscription: 'namespaces' of a stream must be a list");
    stream->mask = (uint32_t) 1 << id->integer;
    stream->with_config = is_true(node, "with_config_namespace");
    stream->namespaces = anx_arena_array(s->arena, n + 1, sizeof(*stream->namespaces));
    if (!stream->namespaces)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a subscription");
    for (size_t i = 0; i < n; i++) {
        const struct json_node *name = json_member(&list->list.items[i], "name");

        if (!name || name->kind != JSON_STRING)
            return anx_fail(err, ANX_E_PARAMS, "Subscription: a namespace without 'name'");
        stream->namespaces[stream->n_namespace++] = name->text;
    }
    return read_types(json_member(node, "event_types"), stream, err);
}

static anx_status
read_subscription(anx_text json, struct rpc_subscription *s, anx_error *err)
{
    static const struct {
        const char *key;
        unsigned option;
    } options[] = { { "with_db_name", OPTION_DB },
                    { "with_shard_id", OPTION_SHARD },
                    { "with_lsn", OPTION_LSN },
                    { "with_server_id", OPTION_SERVER },
                    { "with_timestamp", OPTION_TIME } };
    const struct json_node *streams;
    struct json_node *root;
    anx_status st = json_parse(json, s->arena, &root, err);

    if (st != ANX_OK)
        return st;
    streams = json_member(root, "streams");
    if (root->kind != JSON_OBJECT || !streams || streams->kind != JSON_ARRAY)
        return anx_fail(err, ANX_E_PARAMS, "Subscription must be an object with a list of 'streams'");
    if (streams && streams->kind == JSON_ARRAY && streams->list.n > RPC_STREAMS_MAX)
        return anx_fail(err, ANX_E_PARAMS, "Subscription has %zu streams, at most %d are possible",
                        streams->list.n, RPC_STREAMS_MAX);
    for (size_t i = 0; i < ANX_COUNT_OF(options); i++)
        if (is_true(root, options[i].key))
            s->options |= options[i].option;
    for (size_t i = 0; st == ANX_OK && streams && streams->kind == JSON_ARRAY && i < streams->list.n; i++)
        st = read_stream(&streams->list.items[i], s, err);
    return st;
}

anx_status
rpc_subscribe(struct rpc_call *call, anx_error *err)
{
    struct rpc_connection *c = call->connection;
    anx_arena *arena = anx_arena_create(NULL, (size_t) 4 << 20);
    struct rpc_subscription *s = arena ? anx_arena_array(arena, 1, sizeof(*s)) : NULL;
    bool is_on = rpc_integer(call, 0, 1) != 0;
    anx_status st = ANX_OK;

    if (!s) {
        anx_arena_destroy(arena);
        return anx_fail(err, ANX_E_NOMEM, "no memory for a subscription");
    }
    s->arena = arena;
    if (is_on)
        st = read_subscription(rpc_text(call, 3), s, err);
    if (st != ANX_OK || s->n_stream == 0) {
        rpc_subscription_free(s);
        s = NULL;
    }
    if (st != ANX_OK)
        return st;
    rpc_server_subscribe(c, s);
    rpc_reply(call, 0);
    return ANX_OK;
}

/* ---- Events ---- */

static bool
is_of_stream(const struct rpc_stream *stream, const struct db_event *event)
{
    bool is_config = anx_text_equal_fold(event->ns, ANX_TEXT("#config"));

    if (!(stream->types >> event->type & 1))
        return false;
    if (is_config && stream->with_config)
        return true;
    for (size_t i = 0; i < stream->n_namespace; i++)
        if (anx_text_equal_fold(stream->namespaces[i], event->ns))
            return true;
    return stream->n_namespace == 0 && !is_config;
}

static int64_t
now_ns(void)
{
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return (int64_t) now.tv_sec * 1000000000 + now.tv_nsec;
}

static void
put_event(const struct rpc_subscription *s, const struct db_event *event, uint32_t mask, anx_buffer *out)
{
    anx_buffer_varint(out, FORMAT_VERSION);
    anx_buffer_varint(out, s->options);
    anx_buffer_le(out, mask, 4);
    if (s->options & OPTION_DB)
        rpc_put_vstr(out, event->database);
    rpc_put_vstr(out, event->ns);
    anx_buffer_zigzag(out, event->type);
    if (s->options & OPTION_LSN) {
        anx_buffer_zigzag(out, (int64_t) ((uint64_t) event->incarnation % (LSN_MODULUS - 1)));
        anx_buffer_zigzag(out, (int64_t) (event->version % (LSN_MODULUS - 1)));
    }
    if (s->options & OPTION_SERVER)
        anx_buffer_zigzag(out, 0);
    if (s->options & OPTION_SHARD)
        anx_buffer_zigzag(out, -1);
    if (s->options & OPTION_TIME)
        anx_buffer_zigzag(out, now_ns());
    anx_buffer_varint(out, 0);
}

bool
rpc_event_frame(const struct rpc_subscription *s, const struct db_event *event, anx_buffer *out)
{
    struct rpc_head head = { .command = EVENT_COMMAND };
    uint8_t bytes[RPC_HEAD_SIZE] = { 0 };
    anx_buffer body;
    uint32_t mask = 0;

    for (size_t i = 0; i < s->n_stream; i++)
        if (is_of_stream(&s->streams[i], event))
            mask |= s->streams[i].mask;
    if (mask == 0)
        return false;
    anx_buffer_init(&body, NULL, 65536);
    put_event(s, event, mask, &body);
    anx_buffer_bytes(out, bytes, sizeof(bytes));
    rpc_put_reply(out, 0, ANX_TEXT(""), 1);
    rpc_put_string(out, (anx_text) { body.data, body.size });
    head.size = (uint32_t) (out->size - sizeof(bytes));
    if (!out->failed)
        rpc_head_write(&head, (uint8_t *) out->data);
    out->failed = out->failed || body.failed;
    anx_buffer_fini(&body);
    return !out->failed;
}
