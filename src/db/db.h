/* The document database as front ends see it: HTTP, binary protocol, C API. One engine holds databases, a
 * database holds namespaces. Names match without regard to ASCII case.
 *
 *     engine_open(&params, &engine, &err);
 *     database_acquire(engine, ANX_TEXT("main"), &db, &err);
 *     db_select(db, &query, &session, &result, &err);
 *     result_print_json(result, &out);
 *     result_free(result);
 *
 * Threads: every call may be made by any thread at any time. Calls that change something return when the
 * change is durable (unless the store is asynchronous). Error texts are those that clients know. */
#ifndef ANX_DB_DB_H
#define ANX_DB_DB_H

#include "base/arena.h"
#include "base/buffer.h"
#include "doc/json.h"
#include "query/query.h"
#include "store/store.h"

struct engine;
struct database;
struct ns;

enum db_role { ROLE_NONE, ROLE_DATA_READ, ROLE_DATA_WRITE, ROLE_DB_ADMIN, ROLE_OWNER };

/* Who asks, and how long the answer may take. */
struct db_session {
    enum db_role role;
    anx_text user, client;  /* for statistics; may be empty */
    uint64_t deadline_ns;   /* anx_clock_ns of the last moment, 0: none (ANX_E_TIMEOUT) */
    bool (*should_stop)(void *context); /* may be NULL (ANX_E_CANCELLED) */
    void *stop_context;
    size_t max_result_bytes; /* 0: no limit */
    /* Told before the call waits for a service on the network (true) and when it goes on (false), so that a
     * front end with few threads can see to the others meanwhile. False as an answer: there are too many who
     * wait, and the call fails with ANX_E_BUSY. May be NULL. */
    bool (*blocking)(void *context, bool begins);
    void *blocking_context;
};
/* ANX_OK, ANX_E_TIMEOUT or ANX_E_CANCELLED; cheap enough for every hundredth row. */
ANX_NODISCARD anx_status db_session_check(const struct db_session *session, anx_error *err);

struct engine_params {
    const char *path; /* folder of all databases; NULL: everything in memory only */
    enum store_durability durability;
    bool start_with_errors;
    bool is_ann_cache_disabled; /* RX_DISABLE_ANN_CACHE */
    unsigned tx_idle_timeout_s; /* 0: 600 */
    size_t n_thread;            /* index builds; 0: every CPU */
};
ANX_NODISCARD anx_status engine_open(const struct engine_params *params, struct engine **out, anx_error *err);
void engine_close(struct engine *engine); /* waits for what runs; NULL is fine */

/* Who prints the connections of a database for #clientsstats: JSON objects one after the other. NULL: nobody.
 * Returns when no earlier one runs any more. */
typedef void (*engine_clients_fn)(void *context, struct database *db, anx_buffer *out);
void engine_set_clients(struct engine *engine, engine_clients_fn print, void *context);

/* What happened to a namespace; numbers are those of the binary protocol. */
enum db_event_type {
    EVENT_ITEM_UPDATE = 1,
    EVENT_ITEM_UPSERT,
    EVENT_ITEM_DELETE,
    EVENT_ITEM_INSERT,
    EVENT_ITEM_UPDATE_TX, /* and three more, in the same order */
    EVENT_INDEX_ADD = 9,
    EVENT_INDEX_DROP,
    EVENT_INDEX_UPDATE,
    EVENT_PUT_META,
    EVENT_PUT_META_TX,
    EVENT_SET_SCHEMA = 18,
    EVENT_TRUNCATE,
    EVENT_BEGIN_TX,
    EVENT_COMMIT_TX,
    EVENT_NS_ADD,
    EVENT_NS_DROP,
    EVENT_NS_RENAME = 25,
    EVENT_SET_NAMES = 31, /* the dictionary grew with a schema */
    EVENT_DELETE_META = 38,
    EVENT_TYPE_COUNT
};
struct db_event {
    enum db_event_type type;
    struct database *db;
    anx_text database, ns;
    uint64_t version;    /* grows */
    int64_t incarnation; /* of the namespace */
};
/* Whom to tell, NULL: nobody. The listener is called under locks of the namespace and must only take note. */
typedef void (*engine_event_fn)(void *context, const struct db_event *event);
void engine_set_events(struct engine *engine, engine_event_fn report, void *context);
/* Does anybody subscribe? Nothing is reported before. */
void engine_want_events(struct engine *engine, bool is_wanted);

/* ---- Databases ---- */
ANX_NODISCARD anx_status engine_database_create(struct engine *engine, anx_text name,
                                                const struct db_session *session, anx_error *err);
ANX_NODISCARD anx_status engine_database_drop(struct engine *engine, anx_text name,
                                              const struct db_session *session, anx_error *err);
/* Names in order of creation; the list is in the arena. */
ANX_NODISCARD anx_status engine_databases(struct engine *engine, anx_arena *arena, anx_text **names,
                                          size_t *n, anx_error *err);
/* ANX_E_NOT_FOUND "Database 'x' not found". Released by the caller. */
ANX_NODISCARD anx_status database_acquire(struct engine *engine, anx_text name, struct database **out,
                                          anx_error *err);
void database_release(struct database *db); /* NULL is fine */

/* ---- Namespaces and indexes ---- */
/* definition: the JSON of namespace creation. */
ANX_NODISCARD anx_status db_ns_create(struct database *db, anx_text definition,
                                      const struct db_session *session, anx_error *err);
/* The same for clients that open what they use: a namespace that is there stays as it is; creating one needs
 * the role of an administrator (ANX_E_FORBIDDEN). */
ANX_NODISCARD anx_status db_ns_open(struct database *db, anx_text definition,
                                    const struct db_session *session, anx_error *err);
ANX_NODISCARD anx_status db_ns_drop(struct database *db, anx_text ns, const struct db_session *session,
                                    anx_error *err);
ANX_NODISCARD anx_status db_ns_truncate(struct database *db, anx_text ns, const struct db_session *session,
                                        anx_error *err);
ANX_NODISCARD anx_status db_ns_rename(struct database *db, anx_text ns, anx_text name,
                                      const struct db_session *session, anx_error *err);
ANX_NODISCARD anx_status db_ns_names(struct database *db, anx_arena *arena, anx_text **names, size_t *n,
                                     anx_error *err);
/* The definition as JSON: {"name":...,"storage":...,"indexes":[...]}; indexes_only: the array's elements and
 * their number. */
ANX_NODISCARD anx_status db_ns_describe(struct database *db, anx_text ns, bool indexes_only, anx_buffer *out,
                                        size_t *n_index, anx_error *err);
enum db_index_action { INDEX_ADD, INDEX_ADD_IF_DIFFERENT, INDEX_UPDATE };
ANX_NODISCARD anx_status db_index_set(struct database *db, anx_text ns, anx_text definition,
                                      enum db_index_action action, const struct db_session *session,
                                      anx_error *err);
ANX_NODISCARD anx_status db_index_drop(struct database *db, anx_text ns, anx_text index,
                                       const struct db_session *session, anx_error *err);
ANX_NODISCARD anx_status db_schema_set(struct database *db, anx_text ns, anx_text schema,
                                       const struct db_session *session, anx_error *err);
ANX_NODISCARD anx_status db_schema_get(struct database *db, anx_text ns, anx_buffer *out, anx_error *err);

/* ---- Metadata ---- */
ANX_NODISCARD anx_status db_meta_list(struct database *db, anx_text ns, anx_arena *arena, anx_text **keys,
                                      anx_text **values, size_t *n, anx_error *err);
ANX_NODISCARD anx_status db_meta_get(struct database *db, anx_text ns, anx_text key, anx_arena *arena,
                                     anx_text *value, anx_error *err);
ANX_NODISCARD anx_status db_meta_put(struct database *db, anx_text ns, anx_text key, anx_text value,
                                     anx_error *err);
ANX_NODISCARD anx_status db_meta_delete(struct database *db, anx_text ns, anx_text key, anx_error *err);

/* ---- Documents ---- */
enum db_write_mode { WRITE_INSERT, WRITE_UPDATE, WRITE_UPSERT, WRITE_DELETE };
/* json: a sequence of objects. Stops at the first error; what came before stays, and *updated counts it.
 * items: with precepts, the stored forms as a JSON list without brackets; may be NULL. */
ANX_NODISCARD anx_status db_write(struct database *db, anx_text ns, enum db_write_mode mode, anx_text json,
                                  const anx_text *precepts, size_t n_precept,
                                  const struct db_session *session, size_t *updated, anx_buffer *items,
                                  anx_error *err);

/* One document as binary clients send it (doc/cjson.h), or as JSON. */
struct db_item {
    anx_text bytes;
    bool is_cjson;
    int32_t state_token; /* CJSON: the dictionary that the client knows */
};
struct db_written {
    size_t n;         /* documents that changed: 0 or 1 */
    bool has_row, has_types;
    uint32_t row;     /* with has_row */
    uint64_t version; /* of the change: grows */
    anx_buffer *types; /* NULL, or gets the record of ns_print_types when the dictionary grew (has_types) */
    anx_buffer *doc;  /* NULL, or gets the stored form as CJSON, without vectors */
};
/* ANX_E_STALE_NAMES: the client's dictionary is of another namespace, it has to be read again. */
ANX_NODISCARD anx_status db_write_item(struct database *db, anx_text ns, enum db_write_mode mode,
                                       const struct db_item *item, const anx_text *precepts, size_t n_precept,
                                       const struct db_session *session, struct db_written *written,
                                       anx_error *err);

/* ---- Queries ---- */
struct result;
/* SELECT. The result holds the read locks of its namespaces until it is freed: print it and free it. */
ANX_NODISCARD anx_status db_select(struct database *db, const struct query *query,
                                   const struct db_session *session, struct result **out, anx_error *err);
/* UPDATE, DELETE, TRUNCATE. The result lists the affected documents (new versions, or those removed). */
ANX_NODISCARD anx_status db_modify(struct database *db, const struct query *query,
                                   const struct db_session *session, struct result **out, anx_error *err);
void result_free(struct result *result); /* NULL is fine */
size_t result_count(const struct result *result); /* rows inside of the query's LIMIT and OFFSET */
struct result_window {                   /* a further cut of a finished result, as HTTP offers it */
    bool is_set;
    size_t limit, offset;
    bool without_query_total; /* total_items is the query's total, and query_total_items is left out */
    size_t *item_ends;        /* NULL, or [result_count]: becomes where in `out` each printed item ends */
};
/* {"items":[...],...} in the order and with the totals that HTTP shows. */
ANX_NODISCARD anx_status result_print_json(struct result *result, const struct result_window *window,
                                           anx_buffer *out, anx_error *err);

/* ---- Transactions ---- */
/* id: text that names the transaction, from the arena. */
ANX_NODISCARD anx_status db_tx_begin(struct database *db, anx_text ns, const struct db_session *session,
                                     anx_arena *arena, anx_text *id, anx_error *err);
ANX_NODISCARD anx_status db_tx_write(struct database *db, anx_text id, enum db_write_mode mode,
                                     anx_text json, const anx_text *precepts, size_t n_precept,
                                     const struct db_session *session, anx_error *err);
/* The same for one document of a binary client. */
ANX_NODISCARD anx_status db_tx_write_item(struct database *db, anx_text id, enum db_write_mode mode,
                                          const struct db_item *item, const anx_text *precepts,
                                          size_t n_precept, const struct db_session *session, anx_error *err);
/* False: adding a document may take long, because a service is asked for its vectors or somebody changes the
 * namespace just now. For event loops, which must not wait. */
bool db_tx_is_short(struct database *db, anx_text id);
ANX_NODISCARD anx_status db_tx_query(struct database *db, anx_text id, const struct query *query,
                                     const struct db_session *session, anx_error *err);
/* All or nothing; the result lists the affected documents as empty objects. */
ANX_NODISCARD anx_status db_tx_commit(struct database *db, anx_text id, const struct db_session *session,
                                      struct result **out, anx_error *err);
ANX_NODISCARD anx_status db_tx_rollback(struct database *db, anx_text id, const struct db_session *session,
                                        anx_error *err);

#endif
