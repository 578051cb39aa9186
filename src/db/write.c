/* Item writes: a body of JSON documents, in pieces. A piece is parsed, looked up, inserted into vector
 * indexes on all threads, handed to the store and published; the request waits for the store once, at its
 * end. */
#include "db/write.h"

#include "base/alloc.h"
#include "base/error.h"
#include "db/config.h"
#include "db/embedding.h"
#include "db/events.h"
#include "db/persist.h"
#include "db/stats.h"

/* A piece: enough documents that a batch of vectors keeps all threads busy and a large body builds its graph
 * in bulk, few enough that their parsed form stays small. Taste. */
#define PIECE_DOCS 65536
#define PIECE_EMBEDDED 16384 /* the same where documents are embedded: their vectors wait together. Taste. */
#define PIECE_BYTES ((size_t) 64 << 20)
/* The shortest document that has a key, {"a":1}: so a short body is never cut because of the number of its
 * documents, and is there as a whole or not at all after a crash. */
#define DOC_BYTES_SMALL 7

anx_status
write_check_ns(const struct ns *ns, anx_error *err)
{
    anx_status st = ns_check_alive(ns, err);

    if (st == ANX_OK && ns->pk == SIZE_MAX)
        st = anx_fail(err, ANX_E_LOGIC, "Trying to modify namespace '%s', but it doesn't contain PK index",
                      ns->name);
    return st;
}

/* ---- One document ---- */

static bool
draft_vector(void *context, uint32_t vector_field, uint32_t n, struct doc_vectors *out)
{
    const struct doc_draft *draft = context;

    (void) n;
    if (vector_field >= draft->n_vectors)
        return false;
    *out = draft->vectors[vector_field];
    return true;
}

void
write_print_draft(const struct ns *ns, const struct doc_draft *draft, anx_buffer *out)
{
    static const struct doc_projection everything = { .all_regular = true, .all_vectors = true };

    json_print_doc(out, draft->doc, ns->names, &everything, draft_vector, (void *) draft, false);
}

static anx_status
check_vectors(const struct ns *ns, const struct doc_draft *draft, anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++)
        if (ns->indexes[i].vector)
            st =
                vector_check_floats(ns->indexes[i].vector, &draft->vectors[ns->indexes[i].vector_field], err);
    return st;
}

/* Does the write have an effect, given whether the document is there? */
static bool
has_effect(enum db_write_mode mode, bool exists)
{
    return mode == WRITE_UPSERT || exists == (mode != WRITE_INSERT);
}

anx_status
write_read_doc(struct write_source *source, const struct ns *ns, anx_arena *arena, struct doc_draft *draft,
               bool *more, anx_error *err)
{
    if (!source->is_cjson)
        return json_read_doc(source->reader, source->json, &source->at, more, ns->names, &ns->shape, arena,
                             draft, err);
    *more = source->at < source->json.size;
    source->at = source->json.size;
    if (source->state_token != ns->state_token)
        return anx_fail(err, ANX_E_STALE_NAMES, "stateToken mismatch: %08X, need %08X. Can't process item",
                        (unsigned) source->state_token, (unsigned) ns->state_token);
    return *more ? cjson_read_doc(source->cjson, source->json, ns->names, &ns->shape, arena, draft, err)
                 : ANX_OK;
}

anx_status
write_next(struct write_source *source, struct write_sink *sink, bool *more, anx_error *err)
{
    static const struct doc_projection without_vectors = { .all_regular = true };
    struct changes *c = sink->changes;
    struct change_place place;
    struct doc_draft draft;
    anx_status st = write_read_doc(source, c->ns, c->arena, &draft, more, err);

    if (st != ANX_OK || !*more)
        return st;
    if (source->n_precept > 0 && source->mode != WRITE_DELETE)
        st = embed_check_precepts(c->ns, source->precepts, source->n_precept, err);
    if (st == ANX_OK && source->memo && source->mode != WRITE_DELETE)
        st =
            embed_memo_apply(source->memo, c->ns, source->precepts, source->n_precept, c->arena, &draft, err);
    if (st == ANX_OK && source->n_precept > 0 && source->mode != WRITE_DELETE)
        st = precepts_apply(source->precepts, source->n_precept, c->ns, sink->batch, c->arena, &draft, err);
    if (st == ANX_OK && source->mode != WRITE_DELETE)
        st = check_vectors(c->ns, &draft, err);
    if (st == ANX_OK)
        st = changes_find(c, &draft, &place, err);
    if (st != ANX_OK || !has_effect(source->mode, place.exists))
        return st;
    if (source->mode == WRITE_DELETE)
        changes_remove(c, &place);
    else
        changes_put(c, &place, &draft);
    if (sink->items) {
        if (sink->n_affected > 0)
            anx_buffer_char(sink->items, ',');
        write_print_draft(c->ns, &draft, sink->items);
    }
    if (sink->doc && !cjson_print_doc(sink->doc, draft.doc, &without_vectors, NULL, NULL))
        return cjson_fail_limit(c->ns->names, err);
    sink->n_affected++;
    return ANX_OK;
}

/* ---- Looking ahead ---- */

anx_status
write_look_ahead(const struct write_source *source, struct ns *ns, size_t n, size_t bytes, size_t *end,
                 anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, WRITE_ARENA_MAX);
    struct write_source ahead = *source;
    bool more = true;
    anx_status st = arena ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate a write");

    pthread_rwlock_rdlock(&ns->data_lock); /* for the shape */
    if (st == ANX_OK)
        st = embed_memo_plan(source->memo, ns, err);
    if (st == ANX_OK)
        st = embed_check_precepts(ns, source->precepts, source->n_precept, err);
    for (*end = ahead.at; st == ANX_OK && n > 0 && ahead.at - source->at < bytes; n--) {
        struct doc_draft draft;

        if (write_read_doc(&ahead, ns, arena, &draft, &more, NULL) != ANX_OK || !more)
            ahead.at = source->json.size; /* whoever reads on meets the error, or the end */
        else if (embed_memo_note(source->memo, ns, &draft, source->precepts, source->n_precept, NULL) !=
                 ANX_OK)
            more = false;
        *end = ahead.at;
        if (!more || ahead.at == source->json.size)
            break;
        anx_arena_reset(arena);
    }
    pthread_rwlock_unlock(&ns->data_lock);
    anx_arena_destroy(arena);
    return st;
}

/* ---- A request ---- */

struct request {
    struct database *db;
    struct ns *ns;
    struct write_source source;
    struct write_sink sink;
    struct changes changes;
    anx_arena *arena; /* of the piece */
    uint64_t ticket;  /* of the last piece */
    size_t piece_end; /* where the piece ends at the latest */
    bool is_done;
    uint32_t n_name;            /* of the dictionary, before */
    struct db_written *written; /* for writes of one document; NULL otherwise */
};

static size_t
piece_capacity(const struct request *r)
{
    size_t n = (r->source.json.size - r->source.at) / DOC_BYTES_SMALL + 1;

    if (r->source.is_cjson)
        return 1;
    if (system_ns_kind(r->ns) == SYSTEM_CONFIG)
        return 1; /* settings are checked one after the other */
    if (r->source.memo && n > PIECE_EMBEDDED)
        return PIECE_EMBEDDED;
    return n < PIECE_DOCS ? n : PIECE_DOCS;
}

/* A document of settings is one that the settings' owner accepts. */
static anx_status
check_config(struct request *r, size_t start, anx_error *err)
{
    anx_text json = { r->source.json.data + start, r->source.at - start };

    if (system_ns_kind(r->ns) != SYSTEM_CONFIG || r->changes.n == 0 || r->source.mode == WRITE_DELETE)
        return ANX_OK;
    return config_check(r->db, json, err);
}

static anx_status
read_piece(struct request *r, anx_error *err)
{
    size_t start = r->source.at;
    bool more = true;
    anx_status st = ANX_OK;

    while (st == ANX_OK && r->changes.n < r->changes.capacity && r->source.at - start < PIECE_BYTES &&
           (r->source.at < r->piece_end || r->source.at == r->source.json.size)) {
        st = write_next(&r->source, &r->sink, &more, err);
        if (st == ANX_OK && !more) {
            r->is_done = true;
            break;
        }
        if (st == ANX_OK)
            st = check_config(r, start, err);
        if (st == ANX_OK && system_ns_kind(r->ns) == SYSTEM_CONFIG)
            break;
    }
    return st;
}

/* write_lock held, so the row is still as it was written. */
static void
note_row(struct request *r)
{
    const struct change *change = &r->changes.list[0];

    r->written->has_row = change->row != ITEM_NEW_ROW;
    r->written->row = change->row;
    r->written->version = change->is_put ? rows_version(r->ns->rows, change->row) : rows_next_version();
}

/* The documents before a bad one stay: they are applied first, then its error is reported. */
static anx_status
write_piece_locked(struct request *r, anx_error *err)
{
    size_t n_before = r->sink.n_affected;
    uint64_t ticket;
    anx_error apply_err;
    anx_status st = write_check_ns(r->ns, err), applied;

    if (st != ANX_OK)
        return st;
    anx_arena_reset(r->arena);
    st = changes_init(&r->changes, r->ns, r->arena, piece_capacity(r), err);
    if (st == ANX_OK)
        st = persist_begin(r->ns, &r->sink.batch, err);
    if (st != ANX_OK)
        return st;
    st = read_piece(r, err);
    if (embed_memo_pending(r->source.memo) > 0) { /* the next round knows more */
        store_batch_destroy(r->sink.batch);
        return ANX_OK;
    }
    if (st != ANX_OK && system_ns_kind(r->ns) == SYSTEM_CONFIG)
        r->changes.n = 0;
    if (r->changes.n == 0 && (!r->sink.batch || store_batch_bytes(r->sink.batch) == 0)) {
        store_batch_destroy(r->sink.batch);
        return st;
    }
    applied = changes_apply(&r->changes, r->sink.batch, CHANGES_IN_BLOCKS, NULL, &ticket, &apply_err);
    if (ticket > 0)
        r->ticket = ticket;
    if (applied != ANX_OK) {
        r->sink.n_affected = n_before;
        if (err)
            *err = apply_err;
        return applied;
    }
    if (r->written && r->changes.n == 1)
        note_row(r);
    event_emit_items(r->ns, r->source.mode, false, r->source.precepts, r->source.n_precept,
                     r->sink.n_affected - n_before);
    return st;
}

/* Embeds what the next documents need; the piece ends with them. */
static anx_status
embed_ahead(struct request *r, const struct db_session *session, anx_error *err)
{
    anx_status st;
    bool is_needed;

    embed_memo_destroy(r->source.memo);
    r->source.memo = NULL;
    r->piece_end = SIZE_MAX;
    pthread_rwlock_rdlock(&r->ns->data_lock);
    is_needed = ns_has_upsert_embedder(r->ns);
    pthread_rwlock_unlock(&r->ns->data_lock);
    if (!is_needed || r->source.mode == WRITE_DELETE)
        return ANX_OK;
    r->source.memo = embed_memo_create(r->db);
    if (!r->source.memo)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a write");
    st = write_look_ahead(&r->source, r->ns, PIECE_EMBEDDED, PIECE_BYTES, &r->piece_end, err);
    return st == ANX_OK ? embed_memo_run(r->source.memo, session, err) : st;
}

/* A round of write_lock: everything, or, when embeddings are missing, nothing. */
static anx_status
write_round(struct request *r, anx_error *err)
{
    size_t start = r->source.at, n_before = r->sink.n_affected;
    size_t size_before = r->sink.items ? r->sink.items->size : 0;
    bool was_done = r->is_done;
    anx_status st = ANX_OK;

    pthread_mutex_lock(&r->ns->write_lock);
    if (r->source.memo)
        st = embed_memo_plan(r->source.memo, r->ns, err);
    if (st == ANX_OK)
        st = write_piece_locked(r, err);
    pthread_mutex_unlock(&r->ns->write_lock);
    if (embed_memo_pending(r->source.memo) > 0) {
        r->source.at = start;
        r->sink.n_affected = n_before;
        r->is_done = was_done;
        if (r->sink.items)
            r->sink.items->size = size_before;
        if (r->sink.doc)
            anx_buffer_clear(r->sink.doc);
    }
    return st;
}

static anx_status
write_piece(struct request *r, const struct db_session *session, anx_error *err)
{
    size_t start = r->source.at, n_before = r->sink.n_affected;
    anx_status st = embed_ahead(r, session, err);

    for (unsigned round = 0; st == ANX_OK; round++) {
        st = write_round(r, err);
        if (st != ANX_OK || embed_memo_pending(r->source.memo) == 0)
            break;
        st = round < EMBED_ROUNDS ? embed_memo_run(r->source.memo, session, err)
                                  : anx_fail(err, ANX_E_BUSY,
                                             "indexes of namespace '%s' change faster than documents "
                                             "can be embedded",
                                             r->ns->name);
    }
    if (st == ANX_OK && system_ns_kind(r->ns) == SYSTEM_CONFIG && r->sink.n_affected > n_before &&
        r->source.mode != WRITE_DELETE)
        st = config_apply(r->db, (anx_text) { r->source.json.data + start, r->source.at - start }, err);
    return st;
}

static anx_status
request_init(struct request *r, anx_text ns, const anx_text *precepts, size_t n_precept, anx_arena *own,
             anx_error *err)
{
    struct precept *read;
    anx_status st = ns_acquire(r->db, ns, &r->ns, err);

    if (st != ANX_OK)
        return st;
    if (system_ns_kind(r->ns) == SYSTEM_STATS)
        return anx_fail(err, ANX_E_LOGIC, "Documents of system namespace '%s' cannot be written",
                        r->ns->name);
    r->arena = anx_arena_create(NULL, WRITE_ARENA_MAX);
    if (r->source.is_cjson)
        r->source.cjson = cjson_reader_create();
    else
        r->source.reader = json_reader_create();
    if (!r->arena || (!r->source.reader && !r->source.cjson))
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a write");
    st = precepts_read(precepts, n_precept, own, &read, err);
    r->source.precepts = read;
    r->source.n_precept = n_precept;
    r->sink.changes = &r->changes;
    r->n_name = names_count(r->ns->names);
    return st;
}

static anx_status
run_request(struct request *r, const struct db_session *session, anx_error *err)
{
    anx_error wait_err;
    anx_status st = ANX_OK, waited;

    while (st == ANX_OK && !r->is_done) {
        st = session ? db_session_check(session, err) : ANX_OK;
        if (st == ANX_OK)
            st = write_piece(r, session, err);
    }
    waited = persist_wait(r->ns, r->ticket, &wait_err);
    if (waited == ANX_OK)
        return st;
    if (err)
        *err = wait_err; /* that acknowledged writes may be lost is worse news than a bad document */
    return waited;
}

static anx_status
write_request(struct request *r, anx_text ns, const anx_text *precepts, size_t n_precept,
              const struct db_session *session, anx_error *err)
{
    anx_arena *own = anx_arena_create(NULL, WRITE_ARENA_MAX);
    struct stats_call call;
    anx_status st;

    stats_begin(r->db, STATS_UPDATE, NULL, ns, session, &call);
    if (own)
        st = request_init(r, ns, precepts, n_precept, own, err);
    else
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a write");
    if (st == ANX_OK)
        st = run_request(r, session, err);
    stats_end(&call);
    embed_memo_destroy(r->source.memo);
    json_reader_destroy(r->source.reader);
    cjson_reader_destroy(r->source.cjson);
    anx_arena_destroy(r->arena);
    anx_arena_destroy(own);
    return st;
}

anx_status
db_write(struct database *db, anx_text ns, enum db_write_mode mode, anx_text json, const anx_text *precepts,
         size_t n_precept, const struct db_session *session, size_t *updated, anx_buffer *items,
         anx_error *err)
{
    struct request r = { .db = db, .source = { .mode = mode, .json = json }, .sink = { .items = items } };
    anx_status st = write_request(&r, ns, precepts, n_precept, session, err);

    *updated = r.sink.n_affected;
    ns_release(r.ns);
    return st;
}

/* ---- One document, for binary clients ---- */

/* Settings are checked and applied as JSON. */
static anx_status
config_as_json(struct database *db, anx_text name, const struct db_item *item, anx_buffer *json,
               anx_error *err)
{
    struct write_source source = { .json = item->bytes, .is_cjson = true, .state_token = item->state_token };
    anx_arena *arena = anx_arena_create(NULL, WRITE_ARENA_MAX);
    struct ns *ns = NULL;
    struct doc_draft draft;
    bool more;
    anx_status st = ns_acquire(db, name, &ns, err);

    source.cjson = cjson_reader_create();
    if (st == ANX_OK && (!arena || !source.cjson))
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a write");
    if (st == ANX_OK) {
        pthread_rwlock_rdlock(&ns->data_lock);
        st = write_read_doc(&source, ns, arena, &draft, &more, err);
        if (st == ANX_OK && more)
            write_print_draft(ns, &draft, json);
        pthread_rwlock_unlock(&ns->data_lock);
    }
    cjson_reader_destroy(source.cjson);
    anx_arena_destroy(arena);
    ns_release(ns);
    if (st == ANX_OK && json->failed)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a write");
    return st;
}

static anx_status
write_one(struct request *r, anx_text ns, const anx_text *precepts, size_t n_precept,
          const struct db_session *session, struct db_written *written, anx_error *err)
{
    anx_status st = write_request(r, ns, precepts, n_precept, session, err);

    written->n = r->sink.n_affected;
    if (st == ANX_OK && written->types && names_count(r->ns->names) > r->n_name) {
        ns_print_types(r->ns, 0, true, written->types);
        written->has_types = true;
    }
    ns_release(r->ns);
    return st;
}

anx_status
db_write_item(struct database *db, anx_text ns, enum db_write_mode mode, const struct db_item *item,
              const anx_text *precepts, size_t n_precept, const struct db_session *session,
              struct db_written *written, anx_error *err)
{
    struct request r = { .db = db, .written = written, .sink = { .doc = written->doc } };
    anx_buffer json;
    anx_status st = ANX_OK;

    r.source = (struct write_source) {
        .mode = mode, .json = item->bytes, .is_cjson = item->is_cjson, .state_token = item->state_token
    };
    anx_buffer_init(&json, NULL, (size_t) 1 << 24);
    if (item->bytes.size == 0)
        return anx_fail(err, ANX_E_PARSE_BIN, "Item is empty");
    if (item->is_cjson && anx_text_equal_fold(ns, ANX_TEXT("#config"))) {
        st = config_as_json(db, ns, item, &json, err);
        r.source.json = (anx_text) { json.data, json.size };
        r.source.is_cjson = false;
    }
    if (st == ANX_OK)
        st = write_one(&r, ns, precepts, n_precept, session, written, err);
    anx_buffer_fini(&json);
    return st;
}
