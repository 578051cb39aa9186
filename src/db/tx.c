/* Transactions: steps are kept until the commit, which applies them all or none.
 *
 * A step of documents is kept as JSON text, which is parsed when it arrives (so that its errors are reported
 * at once) and again at the commit, under the indexes of that moment. A step with a query is kept as SQL.
 *
 * Commit. Without queries all documents fold into one set of changes, which is applied like one large write,
 * but published under one hold of data_lock. With queries the steps are run one after the other under that
 * hold, since a query must see the steps before it, and what they change is noted; a failure undoes it.
 * Either way the store gets one batch.
 *
 * Locks: list->lock (the list, and the counts of users) is never held while tx->lock is waited for; tx->lock
 * is held by whoever works with a transaction, and is taken before any lock of its namespace. */
#include <stdio.h>
#include <sys/random.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "db/db_int.h"
#include "db/embedding.h"
#include "db/events.h"
#include "db/modify.h"
#include "db/persist.h"
#include "db/stats.h"
#include "db/write.h"

enum { TX_MAX = 4096, TX_ID_LETTERS = 20, TX_ID_SIZE = 48, TX_IDLE_DEFAULT_S = 600 };

struct tx_step {
    struct tx_step *next;
    bool is_query;
    enum db_write_mode mode;
    bool is_cjson;
    int32_t state_token;
    anx_text text; /* documents, or SQL */
    const struct precept *precepts;
    size_t n_precept, n_doc;
    size_t n_affected;        /* by the commit; for events */
    enum query_type query_type;
};
struct tx {
    char id[TX_ID_SIZE];
    struct ns *ns; /* a reference */
    pthread_mutex_t lock;
    /* Guarded by lock. */
    anx_arena *arena; /* of the steps; owned */
    struct tx_step *first, **end;
    anx_arena *parsing;          /* owned, as the next two; NULL before their first use */
    struct json_reader *json;
    struct cjson_reader *cjson;
    size_t n_doc, n_query;
    struct embed_memo *memo; /* what embedders gave for its documents; owned, NULL until one is needed */
    bool is_finished;
    /* Guarded by list->lock. */
    struct tx *next;
    size_t n_user;
    bool is_listed;
    uint64_t used_ns;
};
struct tx_list {
    struct database *db;
    pthread_mutex_t lock;
    struct tx *first;
    size_t n;
};

/* ---- The list ---- */

struct tx_list *
tx_list_create(struct database *db)
{
    struct tx_list *list = anx_alloc_zeroed(NULL, 1, sizeof(*list));

    if (!list)
        return NULL;
    list->db = db;
    pthread_mutex_init(&list->lock, NULL);
    return list;
}

static void
tx_free(struct tx *tx)
{
    embed_memo_destroy(tx->memo);
    ns_release(tx->ns);
    anx_arena_destroy(tx->arena);
    anx_arena_destroy(tx->parsing);
    json_reader_destroy(tx->json);
    cjson_reader_destroy(tx->cjson);
    pthread_mutex_destroy(&tx->lock);
    anx_free(NULL, tx);
}

void
tx_list_destroy(struct tx_list *list)
{
    if (!list)
        return;
    while (list->first) {
        struct tx *tx = list->first;

        list->first = tx->next;
        tx_free(tx);
    }
    pthread_mutex_destroy(&list->lock);
    anx_free(NULL, list);
}

static void
unlist_locked(struct tx_list *list, struct tx *tx)
{
    struct tx **at = &list->first;

    while (*at && *at != tx)
        at = &(*at)->next;
    if (!*at)
        return;
    *at = tx->next;
    tx->is_listed = false;
    list->n--;
}

static struct tx *
find_locked(struct tx_list *list, anx_text id)
{
    for (struct tx *tx = list->first; tx; tx = tx->next)
        if (anx_text_equal(anx_text_of(tx->id), id))
            return tx;
    return NULL;
}

static bool
is_of_another(struct database *db, anx_text id)
{
    struct engine *engine = db->engine;
    bool found = false;

    pthread_mutex_lock(&engine->lock);
    for (size_t i = 0; i < engine->n_database && !found; i++) {
        struct tx_list *list = engine->databases[i]->transactions;

        if (!list || engine->databases[i] == db)
            continue;
        pthread_mutex_lock(&list->lock);
        found = find_locked(list, id) != NULL;
        pthread_mutex_unlock(&list->lock);
    }
    pthread_mutex_unlock(&engine->lock);
    return found;
}

/* Its lock is held on success. */
static anx_status
tx_acquire(struct database *db, anx_text id, struct tx **out, anx_error *err)
{
    struct tx_list *list = db->transactions;
    struct tx *tx;

    *out = NULL;
    pthread_mutex_lock(&list->lock);
    tx = find_locked(list, id);
    if (tx)
        tx->n_user++;
    pthread_mutex_unlock(&list->lock);
    if (!tx && is_of_another(db, id))
        return anx_fail(err, ANX_E_LOGIC, "Unexpected database name for this tx");
    if (tx) {
        pthread_mutex_lock(&tx->lock);
        *out = tx;
        if (!tx->is_finished)
            return ANX_OK;
    }
    return anx_fail(err, ANX_E_NO_TX, "Invalid tx id");
}

static void
tx_release(struct database *db, struct tx *tx)
{
    struct tx_list *list = db->transactions;
    bool is_last;

    if (!tx)
        return;
    pthread_mutex_unlock(&tx->lock);
    pthread_mutex_lock(&list->lock);
    tx->used_ns = anx_clock_ns();
    tx->n_user--;
    is_last = tx->n_user == 0 && !tx->is_listed;
    pthread_mutex_unlock(&list->lock);
    if (is_last)
        tx_free(tx);
}

/* Nobody finds it any more; it is freed with its last user. */
static void
tx_finish(struct database *db, struct tx *tx)
{
    tx->is_finished = true;
    pthread_mutex_lock(&db->transactions->lock);
    unlist_locked(db->transactions, tx);
    pthread_mutex_unlock(&db->transactions->lock);
}

void
tx_list_sweep(struct tx_list *list)
{
    unsigned idle_s = list->db->engine->params.tx_idle_timeout_s;
    uint64_t now, idle_ns = (idle_s ? idle_s : TX_IDLE_DEFAULT_S) * (uint64_t) 1000000000;
    struct tx *old = NULL, *next;

    pthread_mutex_lock(&list->lock);
    now = anx_clock_ns(); /* under the lock, as used_ns is: one that was used since would look ages old */
    for (struct tx *tx = list->first; tx; tx = next) {
        next = tx->next;
        if (tx->n_user > 0 || now - tx->used_ns < idle_ns)
            continue;
        unlist_locked(list, tx);
        tx->next = old;
        old = tx;
    }
    pthread_mutex_unlock(&list->lock);
    for (; old; old = next) {
        next = old->next;
        tx_free(old);
    }
}

/* ---- Begin ---- */

static anx_status
make_id(char id[TX_ID_SIZE], anx_error *err)
{
    static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    uint8_t random[TX_ID_LETTERS];
    struct timespec now;

    if (getrandom(random, sizeof(random), 0) != sizeof(random))
        return anx_fail(err, ANX_E_SYSTEM, "could not get random bytes");
    for (size_t i = 0; i < TX_ID_LETTERS; i++)
        id[i] = letters[random[i] % (sizeof(letters) - 1)];
    clock_gettime(CLOCK_REALTIME, &now);
    (void) snprintf(id + TX_ID_LETTERS, TX_ID_SIZE - TX_ID_LETTERS, "_%lld",
                    (long long) now.tv_sec * 1000000 + now.tv_nsec / 1000);
    return ANX_OK;
}

static anx_status
check_ns(struct ns *ns, anx_error *err)
{
    anx_status st;

    if (system_ns_kind(ns) != SYSTEM_NONE)
        return anx_fail(err, ANX_E_LOGIC, "Cannot start transaction: '%s' is a system namespace", ns->name);
    pthread_mutex_lock(&ns->write_lock);
    st = ns_check_alive(ns, err);
    if (st == ANX_OK && ns->pk == SIZE_MAX)
        st = anx_fail(err, ANX_E_LOGIC, "Cannot start transaction: namespace '%s' doesn't contain PK index",
                      ns->name);
    pthread_mutex_unlock(&ns->write_lock);
    return st;
}

static anx_status
tx_create(struct database *db, anx_text ns, struct tx **out, anx_error *err)
{
    struct tx *tx = anx_alloc_zeroed(NULL, 1, sizeof(*tx));
    anx_status st;

    *out = NULL;
    if (!tx)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a transaction");
    pthread_mutex_init(&tx->lock, NULL);
    tx->end = &tx->first;
    tx->arena = anx_arena_create(NULL, WRITE_ARENA_MAX);
    st = tx->arena ? ns_acquire(db, ns, &tx->ns, err)
                   : anx_fail(err, ANX_E_NOMEM, "could not allocate a transaction");
    if (st == ANX_OK)
        st = check_ns(tx->ns, err);
    if (st == ANX_OK)
        st = make_id(tx->id, err);
    if (st != ANX_OK) {
        tx_free(tx);
        return st;
    }
    *out = tx;
    return ANX_OK;
}

anx_status
db_tx_begin(struct database *db, anx_text ns, const struct db_session *session, anx_arena *arena,
            anx_text *id, anx_error *err)
{
    struct tx_list *list = db->transactions;
    struct tx *tx;
    anx_status st = session ? db_session_check(session, err) : ANX_OK;

    if (st == ANX_OK)
        st = tx_create(db, ns, &tx, err);
    if (st != ANX_OK)
        return st;
    *id = anx_arena_text(arena, anx_text_of(tx->id));
    if (!id->data) {
        tx_free(tx);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a transaction");
    }
    pthread_mutex_lock(&list->lock);
    if (list->n >= TX_MAX) {
        st = anx_fail(err, ANX_E_LIMIT, "there are %zu open transactions, the limit is %d", list->n, TX_MAX);
    } else {
        tx->used_ns = anx_clock_ns();
        tx->is_listed = true;
        tx->next = list->first;
        list->first = tx;
        list->n++;
    }
    pthread_mutex_unlock(&list->lock);
    if (st != ANX_OK)
        tx_free(tx);
    return st;
}

/* ---- Steps ---- */

static anx_status
add_step(struct tx *tx, struct tx_step step, anx_error *err)
{
    struct tx_step *copy = anx_arena_bytes(tx->arena, sizeof(*copy));

    step.text = anx_arena_text(tx->arena, step.text);
    if (!copy || !step.text.data)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a step of a transaction");
    *copy = step;
    *tx->end = copy;
    tx->end = &copy->next;
    return ANX_OK;
}

/* What a transaction reads with, kept from step to step. */
static anx_status
readers_open(struct tx *tx, bool is_cjson, anx_error *err)
{
    if (!tx->parsing)
        tx->parsing = anx_arena_create(NULL, WRITE_ARENA_MAX);
    if (is_cjson && !tx->cjson)
        tx->cjson = cjson_reader_create();
    if (!is_cjson && !tx->json)
        tx->json = json_reader_create();
    if (tx->parsing && (is_cjson ? tx->cjson != NULL : tx->json != NULL))
        return ANX_OK;
    return anx_fail(err, ANX_E_NOMEM, "could not allocate a reader");
}

/* The source of a step's documents, from their start. */
static struct write_source
step_source(const struct tx *tx, const struct tx_step *step)
{
    struct write_source source = { .mode = step->mode, .json = step->text, .is_cjson = step->is_cjson };

    source.state_token = step->state_token;
    source.precepts = step->precepts;
    source.n_precept = step->n_precept;
    source.reader = tx->json;
    source.cjson = tx->cjson;
    return source;
}

/* Parses every document of a step, and if asked puts embeddings into them. step->text is cut behind the last
 * good one, and step->n_doc says how many there are. */
static anx_status
parse_all(struct tx *tx, struct tx_step *step, bool embeds, anx_error *err)
{
    struct doc_draft draft;
    struct write_source source;
    size_t good = 0;
    bool more = true;
    anx_status st = readers_open(tx, step->is_cjson, err);

    step->n_doc = 0;
    source = step_source(tx, step);
    pthread_rwlock_rdlock(&tx->ns->data_lock); /* for the shape */
    if (st == ANX_OK)
        st = ns_check_alive(tx->ns, err);
    if (st == ANX_OK && embeds)
        st = embed_memo_plan(tx->memo, tx->ns, err);
    while (st == ANX_OK) {
        st = write_read_doc(&source, tx->ns, tx->parsing, &draft, &more, err);
        if (st != ANX_OK || !more)
            break;
        if (embeds)
            st =
                embed_memo_apply(tx->memo, tx->ns, step->precepts, step->n_precept, tx->parsing, &draft, err);
        if (st != ANX_OK)
            break;
        anx_arena_reset(tx->parsing);
        good = source.at;
        step->n_doc++;
    }
    pthread_rwlock_unlock(&tx->ns->data_lock);
    step->text.size = good;
    return st;
}

static anx_status
need_memo(struct tx *tx, struct database *db, anx_error *err)
{
    if (!tx->memo)
        tx->memo = embed_memo_create(db);
    return tx->memo ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate a transaction");
}

/* Asks for what the documents of a step need of embedders: now, so that whoever adds a document hears of a
 * failure, and the commit need not wait. A failure leaves those before it. */
static anx_status
embed_step(struct database *db, struct tx *tx, struct tx_step *step, const struct db_session *session,
           anx_error *err)
{
    struct write_source source;
    size_t end;
    bool is_needed;
    anx_status st;

    pthread_rwlock_rdlock(&tx->ns->data_lock);
    is_needed = ns_has_upsert_embedder(tx->ns);
    pthread_rwlock_unlock(&tx->ns->data_lock);
    if (!is_needed || step->mode == WRITE_DELETE)
        return ANX_OK;
    st = need_memo(tx, db, err);
    source = step_source(tx, step);
    source.memo = tx->memo;
    if (st == ANX_OK)
        st = write_look_ahead(&source, tx->ns, SIZE_MAX, SIZE_MAX, &end, err);
    for (unsigned round = 0; st == ANX_OK; round++) {
        st = embed_memo_run(tx->memo, session, err);
        if (st == ANX_OK)
            st = parse_all(tx, step, true, err);
        if (st != ANX_OK || embed_memo_pending(tx->memo) == 0 || round == EMBED_ROUNDS)
            break; /* what is still missing, the commit asks for */
    }
    embed_memo_forget_pending(tx->memo);
    return st;
}

static anx_status
check_precepts(struct tx *tx, const struct tx_step *step, anx_error *err)
{
    anx_status st;

    if (step->n_precept == 0 || step->mode == WRITE_DELETE)
        return ANX_OK;
    pthread_rwlock_rdlock(&tx->ns->data_lock);
    st = embed_check_precepts(tx->ns, step->precepts, step->n_precept, err);
    pthread_rwlock_unlock(&tx->ns->data_lock);
    return st;
}

static anx_status
write_step(struct database *db, anx_text id, struct tx_step step, const anx_text *precepts, size_t n_precept,
           const struct db_session *session, anx_error *err)
{
    struct precept *read = NULL;
    struct tx *tx;
    anx_error add_err, embed_err;
    anx_status st = tx_acquire(db, id, &tx, err), added = ANX_OK, embedded;

    if (st == ANX_OK && session)
        st = db_session_check(session, err);
    if (st == ANX_OK && n_precept > 0)
        st = precepts_read(precepts, n_precept, tx->arena, &read, err);
    step.precepts = read;
    step.n_precept = n_precept;
    if (st == ANX_OK)
        st = check_precepts(tx, &step, err);
    if (st == ANX_OK)
        st = parse_all(tx, &step, false, err);
    embedded = step.n_doc > 0 ? embed_step(db, tx, &step, session, &embed_err) : ANX_OK;
    if (embedded != ANX_OK) {
        st = embedded;
        if (err)
            *err = embed_err;
    }
    if (embedded == ANX_E_NOMEM || embedded == ANX_E_TIMEOUT || embedded == ANX_E_CANCELLED)
        step.n_doc = 0; /* nobody knows which of them was embedded */
    if (step.n_doc > 0) /* what came before a bad document stays */
        added = add_step(tx, step, &add_err);
    if (added == ANX_OK && step.n_doc > 0)
        tx->n_doc += step.n_doc;
    if (added != ANX_OK && err)
        *err = add_err;
    tx_release(db, tx);
    return added != ANX_OK ? added : st;
}

anx_status
db_tx_write(struct database *db, anx_text id, enum db_write_mode mode, anx_text json,
            const anx_text *precepts, size_t n_precept, const struct db_session *session, anx_error *err)
{
    struct tx_step step = { .mode = mode, .text = json };

    return write_step(db, id, step, precepts, n_precept, session, err);
}

anx_status
db_tx_write_item(struct database *db, anx_text id, enum db_write_mode mode, const struct db_item *item,
                 const anx_text *precepts, size_t n_precept, const struct db_session *session, anx_error *err)
{
    struct tx_step step = { .mode = mode, .text = item->bytes, .is_cjson = item->is_cjson };

    step.state_token = item->state_token;
    if (item->bytes.size == 0)
        return anx_fail(err, ANX_E_PARSE_BIN, "Item is empty");
    return write_step(db, id, step, precepts, n_precept, session, err);
}

bool
db_tx_is_short(struct database *db, anx_text id)
{
    struct tx_list *list = db->transactions;
    struct tx *tx;
    bool is_short = true; /* that there is none is soon said */

    pthread_mutex_lock(&list->lock); /* keeps the transaction, and it its namespace */
    tx = find_locked(list, id);
    if (tx && pthread_rwlock_tryrdlock(&tx->ns->data_lock) == 0) {
        is_short = !ns_has_upsert_embedder(tx->ns);
        pthread_rwlock_unlock(&tx->ns->data_lock);
    } else if (tx) {
        is_short = false;
    }
    pthread_mutex_unlock(&list->lock);
    return is_short;
}

static anx_status
check_query(const struct query *query, anx_error *err)
{
    if (query->type != QUERY_UPDATE && query->type != QUERY_DELETE)
        return anx_fail(err, ANX_E_LOGIC, "Transactions support update/delete queries only");
    if (query->n_merge > 0)
        return anx_fail(err, ANX_E_PARAMS, "Merged sub-queries are not allowed inside TX");
    if (query->n_join > 0)
        return anx_fail(err, ANX_E_PARAMS, "Joined sub-queries are not allowed inside TX");
    return ANX_OK;
}

anx_status
db_tx_query(struct database *db, anx_text id, const struct query *query, const struct db_session *session,
            anx_error *err)
{
    struct tx *tx;
    anx_buffer sql;
    anx_status st = tx_acquire(db, id, &tx, err);

    anx_buffer_init(&sql, NULL, QUERY_TEXT_MAX);
    if (st == ANX_OK && session)
        st = db_session_check(session, err);
    if (st == ANX_OK)
        st = check_query(query, err);
    if (st == ANX_OK)
        st = embed_query_texts(db, query, session, tx->arena, &query, err);
    if (st == ANX_OK && embed_query_failure(query)) {
        st = embed_query_failure(query)->status;
        if (err)
            *err = *embed_query_failure(query);
    }
    if (st == ANX_OK) {
        query_print_sql(query, false, &sql);
        if (sql.failed)
            st = anx_fail(err, ANX_E_NOMEM, "could not keep a query of a transaction");
        else
            st = add_step(tx, (struct tx_step) { .is_query = true, .text = { sql.data, sql.size } }, err);
        tx->n_query += st == ANX_OK;
    }
    anx_buffer_fini(&sql);
    tx_release(db, tx);
    return st;
}

/* ---- Commit ---- */

struct commit {
    struct database *db;
    struct tx *tx;
    struct ns *ns;
    const struct db_session *session;
    anx_arena *arena;
    struct store_batch *batch;
    size_t n_affected;
    uint64_t ticket;
};

/* The documents of a step, into the changes. */
static anx_status
read_step(struct commit *c, struct tx_step *step, struct changes *changes, anx_error *err)
{
    struct write_source source = step_source(c->tx, step);
    struct write_sink sink = { .changes = changes, .batch = c->batch };
    bool more = true;
    anx_status st = ANX_OK;

    source.memo = c->tx->memo;
    while (st == ANX_OK && more)
        st = write_next(&source, &sink, &more, err);
    c->n_affected += sink.n_affected;
    step->n_affected = sink.n_affected;
    return st;
}

static anx_status
commit_documents(struct commit *c, anx_error *err)
{
    struct changes changes;
    anx_status st = changes_init(&changes, c->ns, c->arena, c->tx->n_doc + 1, err);

    for (struct tx_step *step = c->tx->first; st == ANX_OK && step; step = step->next)
        st = read_step(c, step, &changes, err);
    if (st != ANX_OK || embed_memo_pending(c->tx->memo) > 0) {
        store_batch_destroy(c->batch);
        return st;
    }
    return changes_apply(&changes, c->batch, CHANGES_AT_ONCE, NULL, &c->ticket, err);
}

/* One step of documents under the hold of data_lock. */
static anx_status
run_documents(struct commit *c, struct tx_step *step, struct undo *undo, anx_error *err)
{
    struct changes changes;
    uint64_t ticket;
    anx_status st = changes_init(&changes, c->ns, c->arena, step->n_doc, err);

    if (st == ANX_OK)
        st = read_step(c, step, &changes, err);
    return st == ANX_OK ? changes_apply(&changes, c->batch, CHANGES_LOCKED, undo, &ticket, err) : st;
}

static anx_status
run_query(struct commit *c, struct tx_step *step, struct undo *undo, anx_error *err)
{
    struct query query;
    struct modify m = { .db = c->db, .ns = c->ns, .query = &query, .session = c->session, .arena = c->arena };
    anx_status st = query_read_sql(step->text, c->arena, &query, NULL, err);

    if (st != ANX_OK)
        return st;
    query.strict = STRICT_NONE;
    m.undo = undo;
    m.batch = c->batch;
    if (c->tx->memo && query.type == QUERY_UPDATE && embed_touches(c->ns, &query))
        m.memo = c->tx->memo;
    st = modify_run(&m, err);
    c->n_affected += m.n_affected;
    step->n_affected = m.n_affected;
    step->query_type = query.type;
    return st;
}

static anx_status
commit_steps(struct commit *c, anx_error *err)
{
    struct undo undo = { .ns = c->ns, .arena = c->arena };
    bool is_waiting;
    anx_status st = ANX_OK;

    pthread_rwlock_wrlock(&c->ns->data_lock);
    for (struct tx_step *step = c->tx->first; st == ANX_OK && step; step = step->next)
        st = step->is_query ? run_query(c, step, &undo, err) : run_documents(c, step, &undo, err);
    is_waiting = st == ANX_OK && embed_memo_pending(c->tx->memo) > 0;
    if (st == ANX_OK && !is_waiting)
        st = persist_submit(c->ns, c->batch, &c->ticket, err);
    else
        store_batch_destroy(c->batch);
    if (st != ANX_OK || is_waiting)
        undo_run(&undo);
    pthread_rwlock_unlock(&c->ns->data_lock);
    ns_sweep(c->ns);
    return st;
}

static void
report(const struct commit *c)
{
    event_emit(c->ns, EVENT_BEGIN_TX, 1);
    for (const struct tx_step *step = c->tx->first; step; step = step->next) {
        enum db_write_mode mode = step->query_type == QUERY_UPDATE ? WRITE_UPDATE : WRITE_DELETE;

        event_emit_items(c->ns, step->is_query ? mode : step->mode, true, step->precepts, step->n_precept,
                         step->n_affected);
    }
    event_emit(c->ns, EVENT_COMMIT_TX, 1);
}

static anx_status
commit_locked(struct commit *c, anx_error *err)
{
    anx_status st = write_check_ns(c->ns, err);

    if (st == ANX_OK && ns_has_upsert_embedder(c->ns))
        st = need_memo(c->tx, c->db, err);
    if (st == ANX_OK && c->tx->memo)
        st = embed_memo_plan(c->tx->memo, c->ns, err);
    if (st == ANX_OK)
        st = persist_begin(c->ns, &c->batch, err);
    if (st != ANX_OK)
        return st;
    st = c->tx->n_query > 0 ? commit_steps(c, err) : commit_documents(c, err);
    if (st == ANX_OK && embed_memo_pending(c->tx->memo) == 0)
        report(c);
    return st;
}

/* Nearly always one: the documents' embeddings are there. Not those of an UPDATE, and not when an index was
 * given another embedder meanwhile: then nothing is done, they are asked for without a lock, and it is tried
 * again. */
static anx_status
commit_rounds(struct commit *c, anx_error *err)
{
    anx_status st = ANX_OK;

    for (unsigned round = 0; st == ANX_OK; round++) {
        c->n_affected = 0;
        anx_arena_reset(c->arena);
        pthread_mutex_lock(&c->ns->write_lock);
        st = commit_locked(c, err);
        pthread_mutex_unlock(&c->ns->write_lock);
        if (st != ANX_OK || embed_memo_pending(c->tx->memo) == 0)
            break;
        st = round < EMBED_ROUNDS ? embed_memo_run(c->tx->memo, c->session, err)
                                  : anx_fail(err, ANX_E_BUSY,
                                             "documents of namespace '%s' change faster than they "
                                             "can be embedded",
                                             c->ns->name);
    }
    return st;
}

static anx_status
commit_run(struct commit *c, anx_error *err)
{
    anx_status st;

    if (!c->tx->first)
        return ANX_OK;
    c->arena = anx_arena_create(NULL, WRITE_ARENA_MAX);
    st = c->arena ? commit_rounds(c, err) : anx_fail(err, ANX_E_NOMEM, "could not allocate a commit");
    if (st == ANX_OK)
        st = persist_wait(c->ns, c->ticket, err);
    anx_arena_destroy(c->arena);
    return st;
}

static anx_status
make_result(const struct commit *c, struct result **out, anx_error *err)
{
    anx_status st = result_create_items(c->ns, out, err);

    if (st != ANX_OK)
        return st;
    result_show_total(*out);
    for (size_t i = 0; st == ANX_OK && i < c->n_affected; i++)
        st = result_add_empty(*out, err);
    if (st != ANX_OK) {
        result_free(*out);
        *out = NULL;
    }
    return st;
}

anx_status
db_tx_commit(struct database *db, anx_text id, const struct db_session *session, struct result **out,
             anx_error *err)
{
    struct commit c = { .db = db, .session = session };
    struct stats_call call;
    anx_status st = tx_acquire(db, id, &c.tx, err);

    *out = NULL;
    if (st == ANX_OK) {
        c.ns = c.tx->ns;
        stats_begin(db, STATS_TRANSACTION, NULL, anx_text_of(c.ns->name), session, &call);
        tx_finish(db, c.tx); /* whatever comes of it: a second commit is of a finished transaction */
        st = commit_run(&c, err);
        if (st == ANX_OK)
            st = make_result(&c, out, err);
        stats_end(&call);
    }
    tx_release(db, c.tx);
    return st;
}

anx_status
db_tx_rollback(struct database *db, anx_text id, const struct db_session *session, anx_error *err)
{
    struct tx *tx;
    anx_status st = tx_acquire(db, id, &tx, err);

    (void) session;
    if (st == ANX_OK)
        tx_finish(db, tx);
    tx_release(db, tx);
    return st;
}
