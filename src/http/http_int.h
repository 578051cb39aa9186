/* Inside of the HTTP room: a request as handlers see it, the route table, the status object. */
#ifndef ANX_HTTP_INT_H
#define ANX_HTTP_INT_H

#include "base/arena.h"
#include "base/buffer.h"
#include "db/users.h"
#include "http/server.h"
#include "net/workers.h"

enum http_verb { VERB_GET, VERB_POST, VERB_PUT, VERB_PATCH, VERB_DELETE, VERB_COUNT };
enum { HTTP_SEGMENTS_MAX = 12, HTTP_PARAMS_MAX = 64 };

struct http_param {
    anx_text name, value; /* decoded */
};

/* Lives from the parsed head until the answer is on its way. Everything it points to is in the arena or
 * belongs to the connection, which outlives it. One thread at a time: its loop, or the worker it was given
 * to. */
struct http_request {
    struct http_loop *loop; /* NULL in tests, as are the next two */
    struct http_connection *connection;
    struct http_server *server;
    anx_arena *arena;
    enum http_verb method;
    anx_text target; /* as sent, for the access log */
    anx_text segments[HTTP_SEGMENTS_MAX]; /* decoded path */
    size_t n_segment;
    struct http_param params[HTTP_PARAMS_MAX];
    size_t n_param;
    anx_text names[4]; /* what stands at the route's ":x" segments, in order */
    anx_text body;
    anx_text client, user;
    anx_text accept_encoding, if_none_match; /* values of the headers; data NULL when absent */
    struct db_session session;
    const struct user *login; /* NULL: authentication is off */
    const struct http_route *route;
    struct database *db; /* of names[0], for routes below a database; held while the handler runs */
    uint64_t start_ns;
    /* The answer */
    int code;
    const char *content_type;
    anx_buffer out; /* empty: the status object */
    struct query_location location;
    bool with_location;
    bool is_challenge; /* 401 with WWW-Authenticate */
    bool is_unmeasured; /* not among the latencies: of the console itself */
    bool is_bodyless;  /* no status object stands in for an empty body */
    anx_text headers;  /* further ones, each behind its "\r\n" */
    /* Set by a route's `prepare`. */
    struct query query;
    bool is_prepared;
    struct http_request *next; /* in a queue of the loop */
    uint64_t watched_ns;       /* when the client was last looked at */
    struct anx_work work;
};

typedef anx_status (*http_handler)(struct http_request *request, anx_error *err);
enum http_where {
    ON_LOOP,  /* short, never waits */
    ON_WORKER,
    ON_LOOP_FOR_ALL /* ON_LOOP, and nobody is asked who he is: nothing of the data is in the answer */
};
struct http_route {
    enum http_verb method;
    bool has_db;         /* handlers get the database of names[0], which must exist */
    const char *pattern; /* segments; ":x" matches any one and is collected */
    enum db_role role;   /* needed for names[0] where it is a database */
    enum http_where where;
    http_handler handle;
    /* Runs on the loop first; false: the request is short and is handled there in spite of ON_WORKER. May be
     * NULL. */
    bool (*needs_worker)(struct http_request *request, anx_status *status, anx_error *err);
};
/* NULL when no route fits. Fills names. */
const struct http_route *http_route_find(struct http_request *request);

/* Splits and decodes path and parameters. form: the body of an application/x-www-form-urlencoded request,
 * further parameters; may be empty. ANX_E_PARAMS for too many parts. */
ANX_NODISCARD anx_status http_request_parse(struct http_request *request, anx_text target, anx_text form,
                                            anx_error *err);
/* Value of the first parameter of that name; data NULL when absent. */
anx_text http_param_get(const struct http_request *request, const char *name);
bool http_param_true(const struct http_request *request, const char *name);
/* limit, offset: absent gives `absent`, negative 0; ANX_E_PARAMS when it is no number. */
ANX_NODISCARD anx_status http_param_size(const struct http_request *request, const char *name, size_t absent,
                                         size_t *out, anx_error *err);
/* sort_order: 0 none, 1 asc, -1 desc. ANX_E_PARAMS. */
ANX_NODISCARD anx_status http_param_order(const struct http_request *request, int *order, anx_error *err);
ANX_NODISCARD anx_status http_check_format(const struct http_request *request, anx_error *err);
/* ANX_E_FORBIDDEN unless the caller has that role in the request's database. */
ANX_NODISCARD anx_status http_need_role(struct http_request *request, enum db_role need, anx_error *err);
/* Authentication, route and handler up to the point where a worker is needed (true), or to the end. Values of
 * the headers Authorization and Request-Timeout; data NULL when absent. */
bool http_request_begin(struct http_request *request, anx_text authorization, anx_text timeout);
/* Runs the handler and makes the answer. */
void http_request_run(struct http_request *request);
void http_answer_status(struct http_request *request, anx_status status, const anx_error *err);
/* The status object with that code and description. */
void http_answer_error(struct http_request *request, int code, anx_text description);
void http_answer_plain(struct http_request *request, int code, anx_text text);
/* From now on the request's work ends, with ANX_E_CANCELLED, soon after its client has closed the connection
 * (or its half of it) or the server stops: for what may take seconds. On a worker. */
void http_watch_client(struct http_request *request);

/* Counters that /metrics and the console show. */
enum { HTTP_LATENCIES = 16 };
extern const uint32_t http_latency_bounds[HTTP_LATENCIES]; /* microseconds, ascending */
struct http_counters {
    _Atomic uint64_t requests, errors, bytes_in, bytes_out, connections;
    _Atomic uint64_t queries; /* that read documents, and could be understood */
    /* Of answers in [bounds[i - 1], bounds[i]), the last one above all; and of all in microseconds. */
    _Atomic uint64_t latency[HTTP_LATENCIES + 1], latency_us;
    uint64_t start_ns; /* immutable */
};
void http_count_query(struct http_request *request);
const struct http_params *http_server_params(const struct http_server *server);
struct http_counters *http_server_counters(struct http_server *server);
bool http_server_is_stopping(struct http_server *server);
struct http_indexing *http_server_indexing(struct http_server *server); /* NULL: none */

/* Handlers, one file per group. */
anx_status handle_db_list(struct http_request *r, anx_error *err); /* admin.c */
anx_status handle_db_create(struct http_request *r, anx_error *err);
anx_status handle_db_drop(struct http_request *r, anx_error *err);
anx_status handle_default_config(struct http_request *r, anx_error *err);
anx_status handle_ns_list(struct http_request *r, anx_error *err);
anx_status handle_ns_create(struct http_request *r, anx_error *err);
anx_status handle_ns_get(struct http_request *r, anx_error *err);
anx_status handle_ns_drop(struct http_request *r, anx_error *err);
anx_status handle_ns_truncate(struct http_request *r, anx_error *err);
anx_status handle_ns_rename(struct http_request *r, anx_error *err);
anx_status handle_index_list(struct http_request *r, anx_error *err);
anx_status handle_index_add(struct http_request *r, anx_error *err);
anx_status handle_index_update(struct http_request *r, anx_error *err);
anx_status handle_index_drop(struct http_request *r, anx_error *err);
anx_status handle_schema_get(struct http_request *r, anx_error *err);
anx_status handle_schema_set(struct http_request *r, anx_error *err);
anx_status handle_meta_list(struct http_request *r, anx_error *err); /* meta.c */
anx_status handle_meta_get(struct http_request *r, anx_error *err);
anx_status handle_meta_put(struct http_request *r, anx_error *err);
anx_status handle_meta_delete(struct http_request *r, anx_error *err);
anx_status handle_items_get(struct http_request *r, anx_error *err); /* items.c */
anx_status handle_items_write(struct http_request *r, anx_error *err);
anx_status handle_tx_begin(struct http_request *r, anx_error *err);
anx_status handle_tx_write(struct http_request *r, anx_error *err);
anx_status handle_tx_sql(struct http_request *r, anx_error *err);
anx_status handle_tx_dsl(struct http_request *r, anx_error *err);
anx_status handle_tx_commit(struct http_request *r, anx_error *err);
anx_status handle_tx_rollback(struct http_request *r, anx_error *err);
anx_status handle_sql_get(struct http_request *r, anx_error *err); /* queries.c */
anx_status handle_sql_post(struct http_request *r, anx_error *err);
anx_status handle_dsl_select(struct http_request *r, anx_error *err);
anx_status handle_dsl_update(struct http_request *r, anx_error *err);
anx_status handle_dsl_delete(struct http_request *r, anx_error *err);
anx_status handle_convert_sql(struct http_request *r, anx_error *err);
anx_status handle_convert_dsl(struct http_request *r, anx_error *err);
bool prepare_sql_get(struct http_request *r, anx_status *status, anx_error *err);
bool prepare_sql_post(struct http_request *r, anx_status *status, anx_error *err);
bool prepare_dsl_select(struct http_request *r, anx_status *status, anx_error *err);
anx_status handle_check(struct http_request *r, anx_error *err); /* service.c */
anx_status handle_role(struct http_request *r, anx_error *err);
anx_status handle_metrics(struct http_request *r, anx_error *err);
anx_status handle_health(struct http_request *r, anx_error *err);
anx_status handle_allocator(struct http_request *r, anx_error *err);
anx_status handle_page(struct http_request *r, anx_error *err); /* console.c */
anx_status handle_page_alias(struct http_request *r, anx_error *err);
anx_status handle_whoami(struct http_request *r, anx_error *err);
anx_status handle_counters(struct http_request *r, anx_error *err);
anx_status handle_indexing(struct http_request *r, anx_error *err);
anx_status handle_ns_health(struct http_request *r, anx_error *err); /* insight.c */
anx_status handle_recall(struct http_request *r, anx_error *err);
anx_status handle_map(struct http_request *r, anx_error *err);
anx_status handle_map_place(struct http_request *r, anx_error *err);

#endif
