/* Texts in KNN conditions become vectors before a query takes its locks. The tree belongs to its reader and
 * stays as it is; what leads to a text is copied. */
#include "db/embedding.h"

#include "base/alloc.h"
#include "base/error.h"
#include "db/ns_life.h"

struct texts {
    struct database *db;
    const struct db_session *session;
    anx_arena *arena;
    anx_error *err;
};

static bool has_texts(const struct query *query, int depth);

static bool
bracket_has_texts(const struct query_bracket *bracket, int depth)
{
    for (size_t i = 0; depth <= QUERY_DEPTH_MAX && i < bracket->n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        if (entry->kind == ENTRY_KNN && !entry->knn.vector)
            return true;
        if (entry->kind == ENTRY_BRACKET && bracket_has_texts(&entry->bracket, depth + 1))
            return true;
        if ((entry->kind == ENTRY_SUBQUERY_FIELD || entry->kind == ENTRY_SUBQUERY_VALUES) &&
            has_texts(entry->subquery, depth + 1))
            return true;
    }
    return false;
}

static bool
has_texts(const struct query *query, int depth)
{
    if (bracket_has_texts(&query->where, depth))
        return true;
    for (size_t i = 0; i < query->n_merge; i++)
        if (has_texts(query->merges[i], depth + 1))
            return true;
    return false;
}

static anx_status
no_memory(struct texts *t)
{
    return anx_fail(t->err, ANX_E_NOMEM, "could not allocate memory for the texts of a query");
}

/* ---- One text ---- */

/* The query embedder of a field; NULL in *out: it has none, or there is no such field or namespace. */
static anx_status
find_embedder(struct texts *t, anx_text ns_name, anx_text field, struct embedder **out, anx_text *index_name,
              bool *is_list)
{
    const struct ns_index *index;
    struct ns *ns;
    anx_status st = ANX_OK;

    *out = NULL;
    if (is_system_name(ns_name) || ns_acquire(t->db, ns_name, &ns, NULL) != ANX_OK)
        return ANX_OK;
    pthread_rwlock_rdlock(&ns->data_lock);
    index = ns_check_alive(ns, NULL) == ANX_OK ? ns_index_find(ns, field) : NULL;
    if (index && index->vector && index->def->vector.query_embedder.is_set) {
        *index_name = anx_arena_text(t->arena, index->def->name);
        *is_list = index->def->vector.query_embedder.is_list_api;
        st = embedding_get(ns, index->def, true, out, t->err);
    }
    pthread_rwlock_unlock(&ns->data_lock);
    ns_release(ns);
    return st;
}

static anx_status
print_source(struct texts *t, anx_text text, bool is_list, anx_text *out)
{
    anx_buffer source;

    anx_buffer_init(&source, NULL, (size_t) 1 << 30);
    if (is_list)
        anx_buffer_char(&source, '[');
    json_print_text(&source, text);
    if (is_list)
        anx_buffer_char(&source, ']');
    *out = anx_arena_text(t->arena, (anx_text) { source.data, source.size });
    anx_buffer_fini(&source);
    return out->data ? ANX_OK : no_memory(t);
}

static anx_status
note_failure(struct texts *t, struct query_knn *knn, const struct embedder *embedder, anx_text index,
             anx_status st, const anx_error *cause)
{
    anx_error *failure = anx_arena_bytes(t->arena, sizeof(*failure));

    if (!failure)
        return no_memory(t);
    if (st == ANX_E_SERVICE || st == ANX_E_BUSY)
        (void) anx_fail(failure, st, "Failed to get embedding for '%.*s'. %s (service %s, query text)",
                        ANX_TEXT_ARG(index), cause->message, embedder_url(embedder));
    else
        *failure = *cause;
    failure->status = st;
    knn->failure = failure;
    return ANX_OK;
}

static anx_status
embed_text(struct texts *t, struct query_knn *knn, struct embedder *embedder, anx_text index, bool is_list)
{
    struct embed_call call = embedding_call(t->session);
    struct embed_input input = { .status = ANX_OK };
    anx_error cause;
    size_t n_done;
    anx_status st = print_source(t, knn->text, is_list, &input.source);

    if (st != ANX_OK)
        return st;
    st = embedder_run(embedder, &input, 1, 0, &call, t->arena, &n_done, &cause);
    if (st == ANX_E_NOMEM || st == ANX_E_TIMEOUT || st == ANX_E_CANCELLED) {
        if (t->err)
            *t->err = cause;
        return st;
    }
    if (st == ANX_OK && (input.vectors.n != 1 || !input.vectors.floats))
        st = anx_fail(&cause, ANX_E_LOGIC,
                      "Unable to generate vector values with incorrect embedding result for index '%.*s'",
                      ANX_TEXT_ARG(index));
    if (st != ANX_OK)
        return note_failure(t, knn, embedder, index, st, &cause);
    knn->vector = input.vectors.floats;
    knn->dim = input.vectors.dim;
    return ANX_OK;
}

static anx_status
resolve_text(struct texts *t, anx_text ns, anx_text field, struct query_knn *knn)
{
    struct embedder *embedder;
    anx_text index = { NULL, 0 };
    bool is_list = false;
    anx_status st = find_embedder(t, ns, field, &embedder, &index, &is_list);

    if (st == ANX_OK && embedder)
        st = embed_text(t, knn, embedder, index, is_list);
    embedder_release(embedder);
    return st;
}

/* ---- The tree ---- */

static anx_status copy_query(struct texts *t, const struct query *query, int depth, const struct query **out);

static anx_status
copy_bracket(struct texts *t, anx_text ns, struct query_bracket *bracket, int depth)
{
    struct query_entry *entries = anx_arena_array(t->arena, bracket->n + 1, sizeof(*entries));
    anx_status st = ANX_OK;

    if (!entries)
        return no_memory(t);
    memcpy(entries, bracket->entries, bracket->n * sizeof(*entries));
    for (size_t i = 0; st == ANX_OK && i < bracket->n; i++) {
        struct query_entry *entry = &entries[i];

        if (entry->kind == ENTRY_KNN && !entry->knn.vector)
            st = resolve_text(t, ns, entry->field, &entry->knn);
        else if (entry->kind == ENTRY_BRACKET && bracket_has_texts(&entry->bracket, depth + 1))
            st = copy_bracket(t, ns, &entry->bracket, depth + 1);
        else if ((entry->kind == ENTRY_SUBQUERY_FIELD || entry->kind == ENTRY_SUBQUERY_VALUES) &&
                 has_texts(entry->subquery, depth + 1))
            st = copy_query(t, entry->subquery, depth + 1, &entry->subquery);
    }
    bracket->entries = entries;
    return st;
}

static anx_status
copy_query(struct texts *t, const struct query *query, int depth, const struct query **out)
{
    struct query *copy = anx_arena_bytes(t->arena, sizeof(*copy));
    const struct query **merges;
    anx_status st = ANX_OK;

    if (!copy)
        return no_memory(t);
    *copy = *query;
    *out = copy;
    if (bracket_has_texts(&query->where, depth))
        st = copy_bracket(t, query->ns, &copy->where, depth);
    if (st != ANX_OK || query->n_merge == 0)
        return st;
    merges = anx_arena_array(t->arena, query->n_merge, sizeof(struct query *));
    if (!merges)
        return no_memory(t);
    for (size_t i = 0; st == ANX_OK && i < query->n_merge; i++) {
        merges[i] = query->merges[i];
        if (has_texts(merges[i], depth + 1))
            st = copy_query(t, merges[i], depth + 1, &merges[i]);
    }
    copy->merges = merges;
    return st;
}

anx_status
embed_query_texts(struct database *db, const struct query *query, const struct db_session *session,
                  anx_arena *arena, const struct query **out, anx_error *err)
{
    struct texts t = { db, session, arena, err };

    *out = query;
    return has_texts(query, 0) ? copy_query(&t, query, 0, out) : ANX_OK;
}

static const anx_error *
bracket_failure(const struct query_bracket *bracket)
{
    const anx_error *found = NULL;

    for (size_t i = 0; !found && i < bracket->n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        if (entry->kind == ENTRY_KNN)
            found = entry->knn.failure;
        else if (entry->kind == ENTRY_BRACKET)
            found = bracket_failure(&entry->bracket);
        else if (entry->kind == ENTRY_SUBQUERY_FIELD || entry->kind == ENTRY_SUBQUERY_VALUES)
            found = embed_query_failure(entry->subquery);
    }
    return found;
}

const anx_error *
embed_query_failure(const struct query *query)
{
    const anx_error *found = bracket_failure(&query->where);

    for (size_t i = 0; !found && i < query->n_merge; i++)
        found = embed_query_failure(query->merges[i]);
    return found;
}
