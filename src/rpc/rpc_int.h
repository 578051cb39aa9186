/* Inside of the RPC room: connections, calls, the command table.
 *
 * A connection belongs to its loop's thread, except while it is busy: then one worker answers the requests of
 * `work`, in order, and everything marked "session" below is the worker's. */
#ifndef ANX_RPC_RPC_INT_H
#define ANX_RPC_RPC_INT_H

#include <stdatomic.h>

#include "db/result_rows.h"
#include "db/users.h"
#include "net/workers.h"
#include "rpc/frame.h"
#include "rpc/server.h"

enum {
    RPC_TX_MAX = 1024,     /* open transactions of a connection */
    RPC_RESULTS_MAX = 256, /* open results of a connection */
    RPC_PRECEPTS_MAX = 256
};
#define RPC_ARENA_MAX ((size_t) 1 << 30) /* of one call; bodies are not in it */

enum { /* what a client says it understands */
    RPC_CAN_EXPIRE = 1,
    RPC_CAN_INCARNATIONS = 4,
    RPC_CAN_FLOAT_RANK = 8
};

/* Rows of a result, shared by the pages that are on their way and the open result. */
struct rpc_rows {
    _Atomic uint32_t references;
    anx_buffer data;
    size_t *ends; /* owned [n]: where each row ends */
    size_t n;
};
void rpc_rows_release(struct rpc_rows *rows); /* NULL is fine */

/* A result of which rows are left to be fetched. */
struct rpc_result {
    struct rpc_rows *rows; /* one reference; NULL: the slot is free */
    int64_t uid;
    uint64_t used_ns;
    unsigned flags; /* of its rows */
    size_t total;
    anx_text extras; /* owned: what pages repeat beside their rows */
};
struct rpc_tx {
    int64_t id;
    anx_text name; /* of the database's transaction; owned */
};

enum { RPC_STREAMS_MAX = 32 };
struct rpc_stream {
    uint32_t mask;        /* the bit of its number */
    uint64_t types;       /* bits of enum db_event_type */
    anx_text *namespaces; /* arena [n_namespace]; none: all */
    size_t n_namespace;
    bool with_config;
};
/* What a connection subscribed to. */
struct rpc_subscription {
    anx_arena *arena; /* owned; the subscription itself lives in it */
    unsigned options;
    struct rpc_stream streams[RPC_STREAMS_MAX];
    size_t n_stream;
};
void rpc_subscription_free(struct rpc_subscription *subscription); /* NULL is fine */
/* Appends the event as a frame; false: it is of no stream, or memory is out. */
bool rpc_event_frame(const struct rpc_subscription *subscription, const struct db_event *event,
                     anx_buffer *out);

struct rpc_request {
    struct rpc_request *next;
    struct rpc_head head;
    uint64_t start_ns;
    uint8_t body[]; /* [head.size] */
};

struct rpc_loop;
struct rpc_connection {
    struct rpc_loop *loop;
    struct rpc_server *server;
    struct bufferevent *bev; /* EV_WRITE is on only while the socket does not take everything, or with TLS */
    bool is_secure;
    struct rpc_connection *next, **at; /* of the loop's list */
    struct anx_work given; /* to the server's workers */
    struct rpc_connection *next_client, **client_at; /* of the server's list, as #clientsstats shows it */
    struct rpc_subscription *subscription; /* owned; guarded by the server's lock of clients */
    int64_t start_time;                /* Unix seconds */
    _Atomic uint64_t received_bytes, sent_bytes, received_ms, sent_ms;
    atomic_size_t n_transaction;
    uint64_t id;
    bool has_authority; /* is_logged_in, as the loop knows it */
    atomic_bool is_closed;             /* the peer is gone: what runs for it may stop */
    bool is_busy, is_ending;           /* ending: what was answered still leaves, then it is closed */
    uint64_t active_ns;
    struct rpc_request *waiting, **waiting_end;
    size_t n_waiting, waiting_bytes;
    struct rpc_request *work; /* the worker's while busy */
    /* Session */
    anx_arena *arena; /* of the call that runs */
    char client[64];
    bool is_logged_in, compresses;
    const struct user *login; /* NULL: authentication is off */
    enum db_role role;
    struct database *db; /* NULL: none was named */
    anx_text user, database, application, version; /* owned */
    uint64_t capabilities;
    struct rpc_tx *transactions; /* owned [n_tx] */
    size_t n_tx, tx_capacity;
    int64_t last_tx, last_uid;
    struct rpc_result *results; /* owned [RPC_RESULTS_MAX], NULL before the first */
};

/* One request that runs. */
struct rpc_call {
    struct rpc_connection *connection;
    struct rpc_server *server;
    const struct rpc_command *command;
    struct rpc_args args;
    struct db_session session;
    anx_arena *arena;
    anx_buffer *out;       /* the reply's frame is appended */
    size_t start;          /* of the frame in it */
    bool is_silent;        /* no reply */
    bool must_close;       /* the connection cannot go on */
    /* What follows behind `out`, sent without a copy; rows NULL: nothing. The receiver releases them. */
    struct rpc_rows *tail;
    size_t tail_start, tail_size;
    uint8_t foot[32]; /* what follows the tail */
    size_t foot_size;
    struct query query; /* BY_QUERY */
};

typedef anx_status (*rpc_handler)(struct rpc_call *call, anx_error *err);
enum rpc_where {
    ON_LOOP,  /* short, never waits */
    ON_WORKER,
    BY_QUERY, /* on the loop when the query is short */
    BY_TX     /* on the loop when nothing has to be waited for */
};
struct rpc_command {
    int code;
    const char *name;
    const char *types; /* of its arguments, a letter each: s string, i integer, b bool; behind | optional */
    enum db_role role; /* needed in the database; ROLE_NONE: also without one */
    enum rpc_where where;
    rpc_handler handle;
};
const struct rpc_command *rpc_command_find(unsigned code); /* NULL: unknown */

/* Answers a request: appends a frame to call->out. Everything in *call but connection and out is set here.
 * on_loop: false is returned, and nothing done, when it may take long. */
bool rpc_run(struct rpc_call *call, const struct rpc_request *request, bool on_loop);

/* ---- For handlers ---- */
/* The reply is of n arguments, which are put next. */
void rpc_reply(struct rpc_call *call, size_t n_arg);
static inline anx_text
rpc_text(const struct rpc_call *call, size_t i)
{
    return i < call->args.n && call->args.list[i].type == RPC_STRING ? call->args.list[i].text
                                                                     : (anx_text) { "", 0 };
}
static inline int64_t
rpc_integer(const struct rpc_call *call, size_t i, int64_t absent)
{
    const struct rpc_arg *arg = &call->args.list[i];

    return i < call->args.n && (arg->type == RPC_INT || arg->type == RPC_INT64 || arg->type == RPC_BOOL)
               ? arg->integer
               : absent;
}
/* Held while what #clientsstats shows of a connection changes: user, database, application, version, db. */
void rpc_clients_lock(struct rpc_server *server);
void rpc_clients_unlock(struct rpc_server *server);
const struct rpc_params *rpc_server_params(const struct rpc_server *server);
struct anx_workers *rpc_server_workers(const struct rpc_server *server);

/* Replaces the subscription of a connection, which is taken; NULL: none. */
void rpc_server_subscribe(struct rpc_connection *connection, struct rpc_subscription *subscription);

/* ---- Session (session.c) ---- */
void rpc_session_fini(struct rpc_connection *connection); /* rolls back, closes results */
void rpc_results_sweep(struct rpc_connection *connection, uint64_t now_ns);

/* Flags of results. */
enum {
    RPC_FORMAT_MASK = 0x0F,
    RPC_FORMAT_CJSON = 2,
    RPC_FORMAT_JSON = 3,
    RPC_WITH_TYPES = 0x10,
    RPC_WITH_ID = 0x20,
    RPC_WITH_RANK = 0x40,
    RPC_WITH_NSID = 0x80,
    RPC_WITH_JOINED = 0x100,
    RPC_SHOW_RANK = 0x400,
    RPC_IDLE_TIMEOUT = 0x2000,
    RPC_FLAGS_KNOWN = 0x3FFF
};

/* ---- Handlers, one file a group ---- */
anx_status rpc_ping(struct rpc_call *call, anx_error *err); /* session.c */
anx_status rpc_login(struct rpc_call *call, anx_error *err);
anx_status rpc_database_open(struct rpc_call *call, anx_error *err);
anx_status rpc_database_close(struct rpc_call *call, anx_error *err);
anx_status rpc_database_drop(struct rpc_call *call, anx_error *err);
anx_status rpc_database_list(struct rpc_call *call, anx_error *err);
anx_status rpc_ns_open(struct rpc_call *call, anx_error *err); /* definitions.c */
anx_status rpc_ns_close(struct rpc_call *call, anx_error *err);
anx_status rpc_ns_drop(struct rpc_call *call, anx_error *err);
anx_status rpc_ns_truncate(struct rpc_call *call, anx_error *err);
anx_status rpc_ns_rename(struct rpc_call *call, anx_error *err);
anx_status rpc_ns_list(struct rpc_call *call, anx_error *err);
anx_status rpc_index_add(struct rpc_call *call, anx_error *err);
anx_status rpc_index_update(struct rpc_call *call, anx_error *err);
anx_status rpc_index_drop(struct rpc_call *call, anx_error *err);
anx_status rpc_schema_set(struct rpc_call *call, anx_error *err);
anx_status rpc_meta_get(struct rpc_call *call, anx_error *err);
anx_status rpc_meta_put(struct rpc_call *call, anx_error *err);
anx_status rpc_meta_list(struct rpc_call *call, anx_error *err);
anx_status rpc_meta_delete(struct rpc_call *call, anx_error *err);
anx_status rpc_item_modify(struct rpc_call *call, anx_error *err); /* items.c */
anx_status rpc_tx_begin(struct rpc_call *call, anx_error *err);
bool rpc_tx_is_short(const struct rpc_call *call);
anx_status rpc_tx_item(struct rpc_call *call, anx_error *err);
anx_status rpc_tx_delete(struct rpc_call *call, anx_error *err);
anx_status rpc_tx_update(struct rpc_call *call, anx_error *err);
anx_status rpc_tx_commit(struct rpc_call *call, anx_error *err);
anx_status rpc_tx_rollback(struct rpc_call *call, anx_error *err);
anx_status rpc_query_select(struct rpc_call *call, anx_error *err); /* queries.c */
anx_status rpc_query_sql(struct rpc_call *call, anx_error *err);
anx_status rpc_query_delete(struct rpc_call *call, anx_error *err);
anx_status rpc_query_update(struct rpc_call *call, anx_error *err);
anx_status rpc_result_fetch(struct rpc_call *call, anx_error *err);
anx_status rpc_result_close(struct rpc_call *call, anx_error *err);

anx_status rpc_subscribe(struct rpc_call *call, anx_error *err); /* events.c */

/* ---- Results (results.c) ---- */

/* What a reply shows of a result. */
struct rpc_shown {
    unsigned flags;       /* as asked; becomes as answered */
    size_t limit;         /* rows of the first page */
    anx_text versions;    /* of the dictionaries that the client has, a blob */
    bool only_first;      /* only the first namespace is known to the client (SQL) */
};
/* Makes the reply of a result and keeps what is left of it. */
ANX_NODISCARD anx_status rpc_result_reply(struct rpc_call *call, struct result *result,
                                          const struct rpc_shown *shown, anx_error *err);
/* A reply of nothing but a number of documents. */
void rpc_count_reply(struct rpc_call *call, size_t n);

#endif
