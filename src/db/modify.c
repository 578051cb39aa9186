/* UPDATE, DELETE and TRUNCATE. The executor chooses the rows once, under write_lock, so nothing moves while
 * they are changed; then they are changed in pieces. An error in one document leaves its piece undone. */
#include "db/modify.h"

#include "base/alloc.h"
#include "base/error.h"
#include "db/config.h"
#include "db/db_int.h"
#include "db/embedding.h"
#include "db/events.h"
#include "db/ns_int.h"
#include "db/persist.h"
#include "db/select.h"
#include "db/stats.h"
#include "db/update.h"
#include "db/write.h"

#define PIECE_ROWS 4096 /* new versions that wait for each other: some megabytes. Taste. */

/* ---- The primary key ---- */

static void
print_key(const struct ns *ns, const struct value *key, anx_buffer *out)
{
    const struct index_def *def = ns->indexes[ns->pk].def;
    struct values parts = { (struct value *) key, 1 };

    if (key->type == VALUE_TUPLE)
        parts = key->tuple;
    anx_buffer_char(out, '{');
    for (size_t i = 0; i < parts.n; i++) {
        anx_text name = key->type == VALUE_TUPLE && i < def->n_path ? def->json_paths[i] : def->name;
        const struct value *value = &parts.items[i];

        anx_buffer_printf(out, "%s%.*s: {", i > 0 ? ", " : "", ANX_TEXT_ARG(name));
        if (value->type == VALUE_STRING)
            anx_buffer_text(out, value->text);
        else
            json_print_value(out, value);
        anx_buffer_char(out, '}');
    }
    anx_buffer_char(out, '}');
}

static anx_status
fail_duplicate(const struct ns *ns, const struct value *key, uint32_t row, uint32_t other, anx_error *err)
{
    anx_buffer text;

    anx_buffer_init(&text, NULL, 128);
    print_key(ns, key, &text);
    (void) anx_fail(err, ANX_E_LOGIC, "Duplicate Primary Key %.*s for rows [%u, %u]!", (int) text.size,
                    text.data ? text.data : "", row, other);
    anx_buffer_fini(&text);
    return ANX_E_LOGIC;
}

/* *is_moved: the key is another one than before, and free. */
static anx_status
check_key(const struct ns *ns, const struct doc_draft *draft, uint32_t row, anx_arena *arena, bool *is_moved,
          anx_error *err)
{
    struct values key;
    uint32_t other;
    anx_status st = draft_values(ns, ns->pk, draft, arena, &key, err);

    if (st != ANX_OK)
        return st;
    *is_moved = !scalar_find(ns->indexes[ns->pk].scalar, &key.items[0], &other);
    return *is_moved || other == row ? ANX_OK : fail_duplicate(ns, &key.items[0], row, other, err);
}

/* ---- Pieces ---- */

struct piece {
    struct items items;
    uint32_t *removed;
    size_t n_removed;
    struct store_batch *batch;
};

static anx_arena *
piece_arena(const struct modify *m)
{
    return m->piece ? m->piece : m->arena;
}

static anx_status
piece_begin(struct modify *m, struct piece *piece, size_t n, anx_error *err)
{
    anx_status st;

    if (m->piece)
        anx_arena_reset(m->piece);
    *piece = (struct piece) { .batch = m->batch };
    st = items_init(&piece->items, m->ns, piece_arena(m), m->query->type == QUERY_UPDATE ? n : 1, err);
    piece->removed = anx_arena_bytes(piece_arena(m), (n + 1) * sizeof(*piece->removed));
    if (st == ANX_OK && !piece->removed)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a list of rows");
    if (st == ANX_OK && !m->undo)
        st = persist_begin(m->ns, &piece->batch, err);
    return st;
}

/* Applies a piece; takes its batch. */
static anx_status
piece_apply(struct modify *m, struct piece *piece, anx_error *err)
{
    uint64_t ticket = 0;
    size_t n = piece->items.n + piece->n_removed;
    anx_status st = changes_apply_items(&piece->items, piece->removed, piece->n_removed, piece->batch,
                                        m->undo ? CHANGES_LOCKED : CHANGES_IN_BLOCKS, m->undo, &ticket, err);

    if (ticket > 0)
        m->ticket = ticket;
    if (st == ANX_OK) {
        m->n_affected += n;
        if (!m->undo) /* a transaction reports its steps when it is through */
            event_emit(m->ns, m->query->type == QUERY_UPDATE ? EVENT_ITEM_UPDATE : EVENT_ITEM_DELETE, n);
    }
    return st;
}

static void
piece_drop(struct modify *m, struct piece *piece)
{
    items_fini(&piece->items);
    if (!m->undo)
        store_batch_destroy(piece->batch);
}

/* ---- UPDATE ---- */

static anx_status
check_config(struct modify *m, const struct doc_draft *draft, anx_error *err)
{
    anx_buffer text;
    anx_status st;

    if (system_ns_kind(m->ns) != SYSTEM_CONFIG)
        return ANX_OK;
    anx_buffer_init(&text, NULL, (size_t) 1 << 24);
    write_print_draft(m->ns, draft, &text);
    m->configs[m->n_config] = anx_arena_text(m->arena, (anx_text) { text.data, text.size });
    if (text.failed || !m->configs[m->n_config].data)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a document of settings");
    else
        st = config_check(m->db, m->configs[m->n_config], err);
    anx_buffer_fini(&text);
    m->n_config += st == ANX_OK;
    return st;
}

/* The new version of one row; *is_moved: its primary key changed. */
static anx_status
update_row(struct modify *m, struct piece *piece, uint32_t row, bool *is_moved, anx_error *err)
{
    struct update_context context = { m->ns, piece->batch, piece_arena(m) };
    struct doc_vectors *vectors;
    struct doc_draft draft;
    anx_status st = ns_row_vectors(m->ns, row, context.arena, &vectors, err);

    if (st == ANX_OK)
        st = update_document(&context, m->query, rows_get(m->ns->rows, row), vectors, &draft, err);
    if (st == ANX_OK && m->memo)
        st = embed_memo_update(m->memo, m->ns, m->query, rows_get(m->ns->rows, row), context.arena, &draft,
                               err);
    if (st == ANX_OK)
        st = check_key(m->ns, &draft, row, context.arena, is_moved, err);
    if (st == ANX_OK)
        st = check_config(m, &draft, err);
    return st == ANX_OK ? items_add(&piece->items, &draft, row, err) : st;
}

static anx_status
show_items(struct modify *m, const struct piece *piece, size_t n, anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; m->result && st == ANX_OK && i < n; i++)
        st = result_add_item(m->result, piece->items.list[i].draft.doc, piece->items.list[i].draft.vectors,
                             err);
    return st;
}

/* Updates up to n rows; a changed key ends the piece, so that the next row meets it. *n_done: how many. */
static anx_status
update_piece(struct modify *m, const uint32_t *rows, size_t n, size_t *n_done, anx_error *err)
{
    struct piece piece;
    bool is_moved = false;
    anx_status st = piece_begin(m, &piece, n, err);

    *n_done = 0;
    if (st != ANX_OK)
        return st;
    while (st == ANX_OK && *n_done < n && !is_moved) {
        st = update_row(m, &piece, rows[*n_done], &is_moved, err);
        ++*n_done;
    }
    if (st != ANX_OK) {
        piece_drop(m, &piece);
        return st;
    }
    st = piece_apply(m, &piece, err);
    return st == ANX_OK ? show_items(m, &piece, *n_done, err) : st;
}

/* ---- What an UPDATE needs of embedders ---- */

/* Numbers that serial() gave to a survey are given again. write_lock held, nobody else gives any. */
static anx_status
keep_serials(struct modify *m, anx_text *values, bool restore, anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < m->query->n_update; i++) {
        anx_text key = anx_arena_printf(m->arena, "_SERIAL_%.*s", ANX_TEXT_ARG(m->query->updates[i].path));
        anx_text now = { NULL, 0 };

        if (!key.data)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate the name of a counter");
        st = meta_get(m->ns, key, m->arena, restore ? &now : &values[i], err);
        if (st == ANX_E_NOT_FOUND)
            st = ANX_OK;
        if (st == ANX_OK && restore && !anx_text_equal(now, values[i]))
            st = meta_restore(m->ns, key, values[i].data ? values[i] : ANX_TEXT("0"), err);
    }
    return st;
}

static anx_status
survey_row(struct modify *m, struct store_batch *batch, uint32_t row, anx_error *err)
{
    struct update_context context = { m->ns, batch, m->piece };
    struct doc doc = rows_get(m->ns->rows, row);
    struct doc_vectors *vectors;
    struct doc_draft draft;
    anx_status st;

    anx_arena_reset(m->piece);
    st = ns_row_vectors(m->ns, row, m->piece, &vectors, err);
    if (st == ANX_OK)
        st = update_document(&context, m->query, doc, vectors, &draft, err);
    return st == ANX_OK ? embed_memo_update(m->memo, m->ns, m->query, doc, m->piece, &draft, err) : st;
}

/* Works out the new version of every row without keeping any; what embeddings they need is noted. An error
 * stops it: the rows before that one still get theirs, and the update itself then meets the error. */
static anx_status
survey_rows(struct modify *m, const uint32_t *rows, size_t n, anx_error *err)
{
    anx_text *serials = anx_arena_array(m->arena, m->query->n_update + 1, sizeof(*serials));
    struct store_batch *batch = NULL;
    anx_status st = serials ? keep_serials(m, serials, false, err)
                            : anx_fail(err, ANX_E_NOMEM, "could not allocate an update");

    if (st == ANX_OK)
        st = persist_begin(m->ns, &batch, err);
    if (st != ANX_OK)
        return st;
    for (size_t i = 0; st == ANX_OK && i < n; i++)
        st = survey_row(m, batch, rows[i], NULL);
    store_batch_destroy(batch);
    m->is_waiting = embed_memo_pending(m->memo) > 0;
    return keep_serials(m, serials, true, err);
}

/* ---- DELETE ---- */

static anx_status
delete_piece(struct modify *m, const uint32_t *rows, size_t n, anx_error *err)
{
    struct piece piece;
    anx_status st = piece_begin(m, &piece, n, err);

    if (st != ANX_OK)
        return st;
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        struct doc_vectors *vectors;

        piece.removed[piece.n_removed++] = rows[i];
        if (!m->result)
            continue;
        st = ns_row_vectors(m->ns, rows[i], piece_arena(m), &vectors, err);
        if (st == ANX_OK)
            st = result_add_item(m->result, rows_get(m->ns->rows, rows[i]), vectors, err);
    }
    if (st != ANX_OK) {
        piece_drop(m, &piece);
        return st;
    }
    return piece_apply(m, &piece, err);
}

anx_status
modify_run(struct modify *m, anx_error *err)
{
    uint32_t *rows;
    size_t n, n_done;
    anx_status st = m->undo ? select_rows_locked(m->db, m->ns, m->query, m->session, m->arena, &rows, &n, err)
                            : select_rows(m->db, m->ns, m->query, m->session, m->arena, &rows, &n, err);

    if (st == ANX_OK && system_ns_kind(m->ns) == SYSTEM_CONFIG) {
        m->configs = anx_arena_array(m->arena, n + 1, sizeof(*m->configs));
        if (!m->configs)
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate a list of documents");
    }
    if (st == ANX_OK && m->memo && !m->undo)
        st = survey_rows(m, rows, n, err);
    for (size_t at = 0; st == ANX_OK && !m->is_waiting && at < n; at += n_done) {
        n_done = n - at < PIECE_ROWS ? n - at : PIECE_ROWS;
        st = m->session ? db_session_check(m->session, err) : ANX_OK;
        if (st == ANX_OK && m->query->type == QUERY_UPDATE)
            st = update_piece(m, rows + at, n_done, &n_done, err);
        else if (st == ANX_OK)
            st = delete_piece(m, rows + at, n_done, err);
    }
    return st;
}

anx_status
modify_plan(struct modify *m, anx_error *err)
{
    if (m->query->type != QUERY_UPDATE || !embed_touches(m->ns, m->query))
        return ANX_OK;
    if (!m->memo)
        m->memo = embed_memo_create(m->db);
    return m->memo ? embed_memo_plan(m->memo, m->ns, err)
                   : anx_fail(err, ANX_E_NOMEM, "could not allocate an update");
}

/* ---- Requests ---- */

static anx_status
truncate_locked(struct modify *m, anx_error *err)
{
    struct store_batch *batch;
    anx_status st = persist_begin(m->ns, &batch, err);

    if (st == ANX_OK)
        st = ns_clear_locked(m->ns, batch, err);
    else
        return st;
    if (st == ANX_OK)
        return persist_submit(m->ns, batch, &m->ticket, err);
    store_batch_destroy(batch);
    return st;
}

static anx_status
modify_locked(struct modify *m, anx_error *err)
{
    anx_status st = ns_check_alive(m->ns, err);

    if (st != ANX_OK)
        return st;
    if (m->query->type == QUERY_TRUNCATE) {
        st = truncate_locked(m, err);
        if (st == ANX_OK)
            event_emit(m->ns, EVENT_TRUNCATE, 1);
        return st;
    }
    st = write_check_ns(m->ns, err);
    if (st == ANX_OK)
        st = modify_plan(m, err);
    return st == ANX_OK ? modify_run(m, err) : st;
}

/* Embeddings are asked for without the lock, until the update finds all it needs. */
static anx_status
modify_rounds(struct modify *m, anx_error *err)
{
    anx_status st = ANX_OK;

    for (unsigned round = 0; st == ANX_OK; round++) {
        m->is_waiting = false;
        pthread_mutex_lock(&m->ns->write_lock);
        st = modify_locked(m, err);
        pthread_mutex_unlock(&m->ns->write_lock);
        if (st != ANX_OK || !m->is_waiting)
            break;
        st = round < EMBED_ROUNDS ? embed_memo_run(m->memo, m->session, err)
                                  : anx_fail(err, ANX_E_BUSY,
                                             "documents of namespace '%s' change faster than they "
                                             "can be embedded",
                                             m->ns->name);
    }
    embed_memo_destroy(m->memo);
    m->memo = NULL;
    return st;
}

static anx_status
modify_ns(struct modify *m, anx_error *err)
{
    anx_error wait_err;
    anx_status st, waited;

    st = modify_rounds(m, err);
    waited = persist_wait(m->ns, m->ticket, &wait_err);
    if (waited != ANX_OK) {
        if (err)
            *err = wait_err;
        return waited;
    }
    for (size_t i = 0; st == ANX_OK && i < m->n_config; i++)
        st = config_apply(m->db, m->configs[i], err);
    return st;
}

/* Namespaces that are made when they are read: some of them can be reset by a DELETE, nothing else. */
static anx_status
modify_system(struct modify *m, anx_error *err)
{
    if (m->query->type == QUERY_DELETE)
        return system_reset(m->db, m->query->ns, err);
    return anx_fail(err, ANX_E_LOGIC, "Documents of system namespace '%.*s' cannot be changed",
                    ANX_TEXT_ARG(m->query->ns));
}

anx_status
db_modify(struct database *db, const struct query *query, const struct db_session *session,
          struct result **out, anx_error *err)
{
    struct modify m = { .db = db, .query = query, .session = session };
    struct stats_call call;
    anx_status st;

    *out = NULL;
    if (query->type == QUERY_SELECT)
        return anx_fail(err, ANX_E_PARAMS, "Error query type: an UPDATE, DELETE or TRUNCATE is expected");
    stats_begin(db, STATS_UPDATE, query, query->ns, session, &call);
    st = ns_acquire(db, query->ns, &m.ns, err);
    if (st == ANX_OK)
        st = result_create_items(m.ns, out, err);
    m.arena = anx_arena_create(NULL, WRITE_ARENA_MAX);
    m.piece = anx_arena_create(NULL, WRITE_ARENA_MAX);
    m.result = *out;
    if (st == ANX_OK && (!m.arena || !m.piece))
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a query");
    if (st == ANX_OK)
        st = embed_query_texts(db, query, session, m.arena, &m.query, err);
    if (st == ANX_OK)
        st = system_ns_kind(m.ns) == SYSTEM_STATS ? modify_system(&m, err) : modify_ns(&m, err);
    if (st != ANX_OK) {
        result_free(*out);
        *out = NULL;
    }
    anx_arena_destroy(m.piece);
    anx_arena_destroy(m.arena);
    ns_release(m.ns);
    stats_end(&call);
    return st;
}
