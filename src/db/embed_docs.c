/* What documents need from embedders: noted, asked for in batches, put into them. See embedding.h for the
 * rounds. */
#include "db/embedding.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/hash.h"
#include "db/data.h"
#include "query/expression.h"

#define MEMO_MAX ((size_t) 16 << 30)
#define NONE UINT32_MAX

struct plan_item { /* an index with an upsert embedder */
    const struct index_def *def;
    size_t index;
    uint32_t vector_field;
    struct embedder *embedder; /* a reference of the memo */
    size_t *sources;           /* [def->vector.upsert_embedder.n_field]: indexes, SIZE_MAX: not there */
};
struct request { /* a source, and what came of it */
    struct embedder *embedder;
    uint64_t hash; /* of embedder and source */
    struct embed_input input;
    uint32_t dim;
    anx_text index; /* name, for the error */
    anx_text message; /* of a failure */
    uint32_t chain; /* the one before in the same place of the table */
};
struct embed_memo {
    struct database *db;
    anx_arena *arena;
    struct plan_item *plan;
    size_t n_plan;
    struct embedder **held; /* owned [n_held]: references */
    size_t n_held;
    struct request *list; /* owned [capacity]; [0, n_done) have a status */
    size_t n, n_done, capacity;
    uint32_t *table; /* owned [n_table]: last done request of that hash, NONE */
    size_t n_table;
    anx_buffer text; /* a source being printed */
    size_t limit;    /* inputs of a request; 0: none */
    _Atomic uint64_t *n_answered; /* may be NULL */
};

struct embed_memo *
embed_memo_create(struct database *db)
{
    struct embed_memo *memo = anx_alloc_zeroed(NULL, 1, sizeof(*memo));

    if (!memo)
        return NULL;
    memo->db = db;
    memo->arena = anx_arena_create(NULL, MEMO_MAX);
    anx_buffer_init(&memo->text, NULL, (size_t) 1 << 30);
    if (memo->arena)
        return memo;
    embed_memo_destroy(memo);
    return NULL;
}

void
embed_memo_destroy(struct embed_memo *memo)
{
    if (!memo)
        return;
    for (size_t i = 0; i < memo->n_held; i++)
        embedder_release(memo->held[i]);
    anx_free(NULL, memo->held);
    anx_free(NULL, memo->list);
    anx_free(NULL, memo->table);
    anx_buffer_fini(&memo->text);
    anx_arena_destroy(memo->arena);
    anx_free(NULL, memo);
}

static anx_status
no_memory(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate memory for embedding");
}

/* ---- The plan ---- */

static bool
has_upsert_embedder(const struct ns_index *index)
{
    return index->vector && index->def->vector.upsert_embedder.is_set;
}

bool
ns_has_upsert_embedder(const struct ns *ns)
{
    for (size_t i = 0; i < ns->n_index; i++)
        if (has_upsert_embedder(&ns->indexes[i]))
            return true;
    return false;
}

static size_t
find_source(const struct ns *ns, anx_text name)
{
    for (size_t i = 0; i < ns->n_index; i++) {
        const struct index_def *def = ns->indexes[i].def;

        if (anx_text_equal_fold(def->name, name))
            return def->field_type == FIELD_COMPOSITE || def->is_sparse ? SIZE_MAX : i;
    }
    return SIZE_MAX;
}

/* A reference that lives as long as the memo; each embedder once. */
static anx_status
hold(struct embed_memo *memo, struct embedder *embedder, anx_error *err)
{
    struct embedder **more;

    for (size_t i = 0; i < memo->n_held; i++)
        if (memo->held[i] == embedder) {
            embedder_release(embedder);
            return ANX_OK;
        }
    more = anx_realloc_array(NULL, memo->held, memo->n_held + 1, sizeof(struct embedder *));
    if (!more) {
        embedder_release(embedder);
        return no_memory(err);
    }
    memo->held = more;
    memo->held[memo->n_held++] = embedder;
    return ANX_OK;
}

static anx_status
plan_index(struct embed_memo *memo, struct ns *ns, size_t place, struct plan_item *item, anx_error *err)
{
    const struct ns_index *index = &ns->indexes[place];
    const struct embedder_def *def = &index->def->vector.upsert_embedder;
    anx_status st;

    *item = (struct plan_item) { .def = index->def, .index = place, .vector_field = index->vector_field };
    item->sources = anx_arena_array(memo->arena, def->n_field + 1, sizeof(*item->sources));
    if (!item->sources)
        return no_memory(err);
    for (size_t i = 0; i < def->n_field; i++)
        item->sources[i] = find_source(ns, def->fields[i]);
    st = embedding_get(ns, index->def, false, &item->embedder, err);
    return st == ANX_OK ? hold(memo, item->embedder, err) : st;
}

anx_status
embed_memo_plan(struct embed_memo *memo, struct ns *ns, anx_error *err)
{
    size_t n = 0;
    anx_status st = ANX_OK;

    for (size_t i = 0; i < ns->n_index; i++)
        n += has_upsert_embedder(&ns->indexes[i]);
    memo->n_plan = 0;
    memo->plan = anx_arena_array(memo->arena, n + 1, sizeof(*memo->plan));
    if (!memo->plan)
        return no_memory(err);
    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++)
        if (has_upsert_embedder(&ns->indexes[i])) {
            st = plan_index(memo, ns, i, &memo->plan[memo->n_plan], err);
            memo->n_plan += st == ANX_OK;
        }
    return st;
}

/* ---- Sources ---- */

/* First generation: everything is text. */
static void
print_as_text(const struct value *value, anx_buffer *out)
{
    bool has_quotes = value->type == VALUE_STRING || value->type == VALUE_UUID;

    if (!has_quotes)
        anx_buffer_char(out, '"');
    json_print_value(out, value); /* numbers, booleans and null need no escapes */
    if (!has_quotes)
        anx_buffer_char(out, '"');
}

/* First generation: arrays are taken apart. */
static void
print_values(const struct values *values, bool is_list, bool as_texts, bool *is_first, anx_buffer *out)
{
    if (is_list && !as_texts)
        anx_buffer_char(out, '[');
    for (size_t i = 0; i < values->n; i++) {
        if (as_texts ? !*is_first : i > 0)
            anx_buffer_char(out, ',');
        if (as_texts)
            print_as_text(&values->items[i], out);
        else
            json_print_value(out, &values->items[i]);
        *is_first = false;
    }
    if (is_list && !as_texts)
        anx_buffer_char(out, ']');
}

/* The input of a service, into memo->text. */
static anx_status
print_source(struct embed_memo *memo, const struct ns *ns, const struct plan_item *item,
             const struct doc_draft *draft, anx_arena *arena, anx_error *err)
{
    const struct embedder_def *def = &item->def->vector.upsert_embedder;
    anx_buffer *out = &memo->text;
    bool is_first = true;

    anx_buffer_clear(out);
    anx_buffer_char(out, def->is_list_api ? '[' : '{');
    for (size_t f = 0; f < def->n_field; f++) {
        const struct ns_index *source = item->sources[f] == SIZE_MAX ? NULL : &ns->indexes[item->sources[f]];
        struct values values;
        anx_status st;

        if (!source)
            return anx_fail(
                err, ANX_E_LOGIC,
                "Cannot automatically embed value in index field named '%.*s'. The auxiliary field '%.*s' "
                "was not found or is a composite or sparse field. Embedding is supported only for scalar "
                "index fields",
                ANX_TEXT_ARG(item->def->name), ANX_TEXT_ARG(def->fields[f]));
        st = draft_values(ns, item->sources[f], draft, arena, &values, err);
        if (st != ANX_OK)
            return st;
        if (!def->is_list_api) {
            if (f > 0)
                anx_buffer_char(out, ',');
            json_print_text(out, def->fields[f]);
            anx_buffer_char(out, ':');
        }
        print_values(&values, source->def->is_array || values.n != 1, def->is_list_api, &is_first, out);
    }
    anx_buffer_char(out, def->is_list_api ? ']' : '}');
    return out->failed ? no_memory(err) : ANX_OK;
}

/* ---- Requests ---- */

static uint64_t
hash_request(const struct embedder *embedder, anx_text source)
{
    return anx_hash(source.data, source.size) ^ embedder_id(embedder) * 0x9e3779b97f4a7c15u;
}

/* The answer for the source in memo->text; NULL: there is none yet. */
static const struct request *
find_done(const struct embed_memo *memo, const struct plan_item *item)
{
    anx_text source = { memo->text.data, memo->text.size };
    uint64_t hash = hash_request(item->embedder, source);

    if (memo->n_table == 0)
        return NULL;
    for (uint32_t i = memo->table[hash & (memo->n_table - 1)]; i != NONE; i = memo->list[i].chain) {
        const struct request *r = &memo->list[i];

        if (r->hash == hash && r->embedder == item->embedder && r->dim == item->def->vector.dim &&
            anx_text_equal(r->input.source, source))
            return r;
    }
    return NULL;
}

static anx_status
add_request(struct embed_memo *memo, const struct plan_item *item, anx_error *err)
{
    anx_text source = anx_arena_text(memo->arena, (anx_text) { memo->text.data, memo->text.size });
    struct request *r;

    if (memo->n == memo->capacity) {
        size_t capacity = memo->capacity ? 2 * memo->capacity : 64;
        struct request *list = anx_realloc_array(NULL, memo->list, capacity, sizeof(*list));

        if (!list)
            return no_memory(err);
        memo->list = list;
        memo->capacity = capacity;
    }
    r = &memo->list[memo->n];
    *r = (struct request) { .embedder = item->embedder, .dim = item->def->vector.dim };
    r->input.source = source;
    r->index = anx_arena_text(memo->arena, item->def->name);
    if (!source.data || !r->index.data)
        return no_memory(err);
    r->hash = hash_request(item->embedder, source);
    memo->n++;
    return ANX_OK;
}

void
embed_memo_limit(struct embed_memo *memo, size_t n, _Atomic uint64_t *n_answered)
{
    memo->limit = n;
    memo->n_answered = n_answered;
}

size_t
embed_memo_dims(const struct embed_memo *memo)
{
    size_t n = 0;

    for (size_t i = 0; i < memo->n_plan; i++)
        n += memo->plan[i].def->vector.dim;
    return n;
}

size_t
embed_memo_pending(const struct embed_memo *memo)
{
    return memo ? memo->n - memo->n_done : 0;
}

void
embed_memo_forget_pending(struct embed_memo *memo)
{
    memo->n = memo->n_done;
}

static bool
is_skipped(const struct plan_item *item, const struct ns *ns, const struct precept *precepts, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (precepts[i].kind == PRECEPT_SKIP_EMBEDDING &&
            (anx_text_equal(precepts[i].field, ANX_TEXT("*")) ||
             ns_index_find(ns, precepts[i].field) == &ns->indexes[item->index]))
            return true;
    return false;
}

/* Whether the strategy wants an embedding. */
static anx_status
check_strategy(const struct plan_item *item, const struct doc_draft *draft, bool *is_wanted, anx_error *err)
{
    bool has_data = item->vector_field < draft->n_vectors && draft->vectors[item->vector_field].n > 0;

    *is_wanted = true;
    switch (item->def->vector.upsert_embedder.strategy) {
    case EMBED_EMPTY_ONLY: *is_wanted = !has_data; return ANX_OK;
    case EMBED_STRICT:
        return has_data
                   ? anx_fail(err, ANX_E_CONFLICT,
                              "Vector field '%.*s' must not contain a non-empty data if strict strategy for "
                              "auto-embedding is configured",
                              ANX_TEXT_ARG(item->def->name))
                   : ANX_OK;
    default: return ANX_OK;
    }
}

anx_status
embed_memo_note(struct embed_memo *memo, const struct ns *ns, const struct doc_draft *draft,
                const struct precept *precepts, size_t n_precept, anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < memo->n_plan; i++) {
        const struct plan_item *item = &memo->plan[i];
        bool is_wanted;

        if (is_skipped(item, ns, precepts, n_precept))
            continue;
        st = check_strategy(item, draft, &is_wanted, err);
        if (st != ANX_OK || !is_wanted)
            continue;
        st = print_source(memo, ns, item, draft, memo->arena, err);
        if (st == ANX_OK)
            st = add_request(memo, item, err);
    }
    return st;
}

/* ---- Asking ---- */

static anx_status
note_failure(struct embed_memo *memo, struct request *r, anx_status st, const anx_error *err)
{
    r->input.status = st;
    r->message = anx_arena_text(memo->arena, anx_text_of(err->message));
    return r->message.data ? ANX_OK : ANX_E_NOMEM;
}

/* All pending requests of one embedder before `end`; a failure moves *end behind the request that failed. */
static anx_status
run_embedder(struct embed_memo *memo, struct embedder *embedder, size_t *end, const struct embed_call *call,
             anx_error *err)
{
    struct embed_input *inputs = anx_arena_array(memo->arena, *end - memo->n_done, sizeof(*inputs));
    uint32_t *places = anx_arena_array(memo->arena, *end - memo->n_done, sizeof(*places));
    size_t n = 0, n_done;
    uint32_t dim = 0;
    anx_error cause;
    anx_status st;

    if (!inputs || !places)
        return no_memory(err);
    for (size_t i = memo->n_done; i < *end; i++)
        if (memo->list[i].embedder == embedder) {
            dim = memo->list[i].dim;
            places[n] = (uint32_t) i;
            inputs[n++] = memo->list[i].input;
        }
    for (n_done = 0, st = ANX_OK; st == ANX_OK && n_done < n;) {
        size_t n_now = memo->limit > 0 && memo->limit < n - n_done ? memo->limit : n - n_done, n_more;

        st = embedder_run(embedder, inputs + n_done, n_now, dim, call, memo->arena, &n_more, &cause);
        n_done += n_more;
        if (memo->n_answered)
            atomic_fetch_add(memo->n_answered, n_more);
    }
    for (size_t i = 0; i < n_done; i++)
        memo->list[places[i]].input = inputs[i];
    if (st == ANX_OK)
        return ANX_OK;
    if (n_done == 0 || st == ANX_E_NOMEM || st == ANX_E_TIMEOUT || st == ANX_E_CANCELLED) {
        if (err)
            *err = cause;
        return st;
    }
    *end = (size_t) places[n_done - 1] + 1;
    return note_failure(memo, &memo->list[places[n_done - 1]], st, &cause);
}

static bool
rebuild_table(struct embed_memo *memo)
{
    size_t n_table = 64;
    uint32_t *table;

    while (n_table < 2 * memo->n_done)
        n_table *= 2;
    table = anx_alloc_array(NULL, n_table, sizeof(*table));
    if (!table)
        return false;
    anx_free(NULL, memo->table);
    memo->table = table;
    memo->n_table = n_table;
    memset(table, 0xff, n_table * sizeof(*table));
    for (uint32_t i = 0; i < memo->n_done; i++) {
        uint32_t *head = &table[memo->list[i].hash & (n_table - 1)];

        memo->list[i].chain = *head;
        *head = i;
    }
    return true;
}

anx_status
embed_memo_run(struct embed_memo *memo, const struct db_session *session, anx_error *err)
{
    struct embed_call call = embedding_call(session);
    size_t end = memo->n;
    anx_status st = ANX_OK;

    /* Requests behind a failure are not asked: their documents are not reached. */
    for (size_t h = 0; st == ANX_OK && h < memo->n_held; h++) {
        bool is_asked = false;

        for (size_t i = memo->n_done; i < end && !is_asked; i++)
            is_asked = memo->list[i].embedder == memo->held[h];
        if (is_asked)
            st = run_embedder(memo, memo->held[h], &end, &call, err);
    }
    if (st != ANX_OK) {
        memo->n = memo->n_done;
        return st;
    }
    memo->n = memo->n_done = end;
    return rebuild_table(memo) ? ANX_OK : no_memory(err);
}

/* ---- Applying ---- */

/* " (service http://..., document id=5)" behind the message, which is cut when there is no room for both: who
 * is to be looked after, and for what, is worth more than the end of a cause. */
static anx_status
fail_document(const struct ns *ns, const struct plan_item *item, const struct doc_draft *draft,
              anx_arena *arena, anx_status st, anx_text message, anx_error *err)
{
    bool is_service = st == ANX_E_SERVICE || st == ANX_E_BUSY;
    size_t room = sizeof(err->message) - 1;
    struct values key;
    anx_buffer head, tail;

    anx_buffer_init(&head, NULL, 4096);
    anx_buffer_init(&tail, NULL, 4096);
    if (is_service)
        anx_buffer_printf(&head, "Failed to get embedding for '%.*s'. ", ANX_TEXT_ARG(item->def->name));
    anx_buffer_text(&head, message);
    anx_buffer_printf(&tail, " (service %s", embedder_url(item->embedder));
    if (ns->pk != SIZE_MAX && draft_values(ns, ns->pk, draft, arena, &key, NULL) == ANX_OK && key.n == 1) {
        anx_buffer_printf(&tail, ", document %.*s=", ANX_TEXT_ARG(ns->indexes[ns->pk].def->name));
        json_print_value(&tail, &key.items[0]);
    }
    anx_buffer_char(&tail, ')');
    if (tail.size < room / 2 && head.size + tail.size > room)
        head.size = room - tail.size;
    (void) anx_fail(err, st, "%.*s%.*s", (int) head.size, head.data ? head.data : "", (int) tail.size,
                    tail.data ? tail.data : "");
    anx_buffer_fini(&head);
    anx_buffer_fini(&tail);
    return st;
}

static anx_status
check_answer(const struct ns *ns, const struct plan_item *item, const struct request *r,
             const struct doc_draft *draft, anx_arena *arena, anx_error *err)
{
    const struct embed_vectors *vectors = &r->input.vectors;
    char text[128];

    if (r->input.status != ANX_OK)
        return fail_document(ns, item, draft, arena, r->input.status, r->message, err);
    if (!item->def->is_array && vectors->n != 1)
        return fail_document(ns, item, draft, arena, ANX_E_LOGIC,
                             ANX_TEXT("Unable to set vector values with incorrect embedding result"), err);
    if (vectors->n == 0 || vectors->floats)
        return ANX_OK;
    (void) snprintf(text, sizeof(text),
                    "Attempt to write vector of dimension %u in a float vector field of dimension %u",
                    vectors->dim, item->def->vector.dim);
    return fail_document(ns, item, draft, arena, ANX_E_NOT_VALID, anx_text_of(text), err);
}

static anx_status
set_vectors(const struct ns *ns, const struct plan_item *item, const struct request *r, anx_arena *arena,
            struct doc_draft *draft, anx_error *err)
{
    const struct doc_field *field = &ns->shape.fields[ns->indexes[item->index].first_field];
    struct doc_vectors vectors = { r->input.vectors.floats, r->input.vectors.n, r->input.vectors.dim, 0 };
    struct doc_change change = { .kind = CHANGE_SET,
                                 .form = CHANGE_VECTORS,
                                 .path = field->path,
                                 .path_text = field->path_text,
                                 .vectors = &vectors };

    return doc_update(draft->doc, draft->vectors, &change, 1, ns->names, &ns->shape, arena, draft, err);
}

/* The vectors for memo->text; noted when there are none yet. */
static anx_status
apply_item(struct embed_memo *memo, const struct ns *ns, const struct plan_item *item, anx_arena *arena,
           struct doc_draft *draft, anx_error *err)
{
    const struct request *r = find_done(memo, item);
    anx_status st;

    if (!r)
        return add_request(memo, item, err);
    st = check_answer(ns, item, r, draft, arena, err);
    return st == ANX_OK ? set_vectors(ns, item, r, arena, draft, err) : st;
}

anx_status
embed_memo_apply(struct embed_memo *memo, const struct ns *ns, const struct precept *precepts,
                 size_t n_precept, anx_arena *arena, struct doc_draft *draft, anx_error *err)
{
    struct doc_draft before = *draft; /* vectors that the document came with count for every strategy */
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < memo->n_plan; i++) {
        const struct plan_item *item = &memo->plan[i];
        bool is_wanted;

        if (is_skipped(item, ns, precepts, n_precept))
            continue;
        st = check_strategy(item, &before, &is_wanted, err);
        if (st != ANX_OK || !is_wanted)
            continue;
        st = print_source(memo, ns, item, &before, arena, err);
        if (st == ANX_OK)
            st = apply_item(memo, ns, item, arena, draft, err);
    }
    return st;
}

anx_status
embed_check_precepts(const struct ns *ns, const struct precept *precepts, size_t n, anx_error *err)
{
    for (size_t i = 0; i < n; i++) {
        const struct ns_index *index;

        if (precepts[i].kind != PRECEPT_SKIP_EMBEDDING || anx_text_equal(precepts[i].field, ANX_TEXT("*")))
            continue;
        index = ns_index_find(ns, precepts[i].field);
        if (!index || !has_upsert_embedder(index))
            return anx_fail(err, ANX_E_LOGIC, "'skip_embedding' posible only on float vector index");
    }
    return ANX_OK;
}

/* ---- UPDATE ---- */

bool
is_skip_embedding(const struct query_update *update)
{
    static const char name[] = "skip_embedding";
    anx_text text = update->expression;
    size_t n = sizeof(name) - 1;

    if (update->tree)
        return update->form == UPDATE_EXPRESSION && update->tree->kind == EXPR_SKIP_EMBEDDING;
    if (update->form != UPDATE_EXPRESSION || text.size < n ||
        !anx_text_equal_fold((anx_text){ text.data, n }, ANX_TEXT("skip_embedding")))
        return false;
    for (size_t i = n; i < text.size; i++)
        if (!strchr(" \t\r\n()", text.data[i]))
            return false;
    return true;
}

/* Does the query set this index's field, or keep it on purpose? */
static bool
is_set_by(const struct query *query, const struct index_def *def)
{
    for (size_t i = 0; i < query->n_update; i++)
        if (anx_text_equal_fold(query->updates[i].path, def->name) ||
            anx_text_equal(query->updates[i].path, def->json_paths[0]))
            return true;
    return false;
}

/* The first name of a path. */
static anx_text
root_of(anx_text path)
{
    size_t n = 0;

    while (n < path.size && path.data[n] != '.' && path.data[n] != '[')
        n++;
    return (anx_text) { path.data, n };
}

static bool
touches(const struct index_def *source, anx_text path)
{
    anx_text root = root_of(path);

    if (anx_text_equal_fold(root, source->name) || anx_text_equal_fold(path, source->name))
        return true;
    for (size_t p = 0; p < source->n_path; p++)
        if (anx_text_equal(root, root_of(source->json_paths[p])))
            return true;
    return false;
}

bool
embed_touches(const struct ns *ns, const struct query *query)
{
    for (size_t i = 0; i < ns->n_index; i++) {
        const struct embedder_def *def = &ns->indexes[i].def->vector.upsert_embedder;

        if (!has_upsert_embedder(&ns->indexes[i]) || is_set_by(query, ns->indexes[i].def))
            continue;
        for (size_t f = 0; f < def->n_field; f++) {
            size_t source = find_source(ns, def->fields[f]);

            for (size_t u = 0; source != SIZE_MAX && u < query->n_update; u++)
                if (touches(ns->indexes[source].def, query->updates[u].path))
                    return true;
        }
    }
    return false;
}

anx_status
embed_memo_update(struct embed_memo *memo, const struct ns *ns, const struct query *query, struct doc doc,
                  anx_arena *arena, struct doc_draft *draft, anx_error *err)
{
    struct doc_draft old, after = *draft;
    anx_status st = doc_extract(doc, &ns->shape, arena, &old, err);

    for (size_t i = 0; st == ANX_OK && i < memo->n_plan; i++) {
        const struct plan_item *item = &memo->plan[i];
        anx_text before;

        if (is_set_by(query, item->def))
            continue;
        st = print_source(memo, ns, item, &old, arena, err);
        if (st != ANX_OK)
            return st;
        before = anx_arena_text(arena, (anx_text) { memo->text.data, memo->text.size });
        if (!before.data)
            return no_memory(err);
        st = print_source(memo, ns, item, &after, arena, err);
        if (st == ANX_OK && !anx_text_equal(before, (anx_text) { memo->text.data, memo->text.size }))
            st = apply_item(memo, ns, item, arena, draft, err);
    }
    return st;
}
