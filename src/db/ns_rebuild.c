/* Changing the indexes of a namespace.
 *
 *     1  the content to come: order, shape, numbers of vector fields
 *
 *     2  every document is read again under the new shape; new scalar indexes take its values, new vector
 *        indexes collect its vectors, documents that come out different are kept and go into the batch
 *
 *     3  new vector indexes are built, on all cores
 *
 *     4  with data_lock: the content is swapped, changed documents are put into their rows, composites
 *        over new components are filled
 *
 *     5  the batch (definition and changed documents) becomes durable
 *
 * Readers go on through 1 to 3. write_lock keeps writers away throughout, so that what was read in 2 is still
 * true in 4. A failure in 4 or 5 takes 4 back: the documents as they were are kept until the end. */
#include "db/ns_rebuild.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"

struct rewritten {
    uint32_t row;
    struct doc before, after;
};
/* The vectors for a new vector index. */
struct gathered {
    uint32_t *rows;              /* owned [capacity] */
    struct doc_vectors *vectors; /* owned [capacity]; floats are kept */
    size_t n;
};
struct rebuild {
    struct ns *ns;
    struct ns_content next;
    struct gathered *gathered; /* owned [next.n_index] */
    bool *is_late;             /* owned [next.n_index]: composites over new components */
    anx_arena *kept;           /* lives until the end */
    anx_arena *scratch;        /* one document */
    struct rewritten *docs;    /* owned */
    size_t n_doc, capacity;
    struct store_batch *batch; /* owned until submitted; NULL when nothing is stored */
    anx_error *err;
};

static anx_status
out_of_memory(struct rebuild *r)
{
    return anx_fail(r->err, ANX_E_NOMEM, "out of memory");
}

static bool
is_new(const struct ns_index *index)
{
    return !index->scalar && !index->vector && !index->text;
}

/* ---- Documents ---- */

/* The vectors that a document has now. */
static anx_status
old_vectors(struct rebuild *r, uint32_t row, struct doc doc, struct doc_vectors **out)
{
    const struct ns *ns = r->ns;
    struct doc_draft draft;
    anx_status st = doc_extract(doc, &ns->shape, r->scratch, &draft, r->err);

    *out = draft.vectors;
    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++) {
        const struct ns_index *index = &ns->indexes[i];
        struct doc_vectors *vectors = &draft.vectors[index->vector_field];
        uint32_t n_empty;

        if (!index->vector || vectors->n == 0)
            continue;
        n_empty = vectors->n_empty;
        if (!vector_get(index->vector, row, vectors->n, r->scratch, vectors))
            return anx_fail(r->err, ANX_E_CORRUPT, "vectors of row %u are not in index '%.*s'", row,
                            ANX_TEXT_ARG(index->def->name));
        vectors->n_empty = n_empty;
    }
    return st;
}

/* Says which document it was. */
static void
blame_document(struct rebuild *r, uint32_t row, anx_status st)
{
    const struct ns *ns = r->ns;
    struct values key;
    struct value storage;
    anx_error cause;
    anx_buffer text;

    if (!r->err || ns->pk == SIZE_MAX || st == ANX_E_NOMEM)
        return;
    cause = *r->err;
    key = scalar_values(ns->indexes[ns->pk].scalar, row, &storage);
    anx_buffer_init(&text, NULL, 128);
    for (size_t i = 0; i < key.n; i++)
        json_print_value(&text, &key.items[i]);
    (void) anx_fail(r->err, st, "Error during processing item with primary key `%.*s`={%.*s}: %s",
                    ANX_TEXT_ARG(ns->indexes[ns->pk].def->name), (int) text.size, text.data ? text.data : "",
                    cause.message);
    anx_buffer_fini(&text);
}

static anx_status
keep_document(struct rebuild *r, uint32_t row, struct doc before, const struct doc_draft *draft)
{
    struct rewritten *doc;

    if (r->n_doc == r->capacity) {
        size_t capacity = r->capacity ? 2 * r->capacity : 256;
        struct rewritten *more = anx_realloc_array(NULL, r->docs, capacity, sizeof(*more));

        if (!more)
            return out_of_memory(r);
        r->docs = more;
        r->capacity = capacity;
    }
    doc = &r->docs[r->n_doc];
    *doc = (struct rewritten) { .row = row, .before.size = before.size, .after.size = draft->doc.size };
    doc->before.bytes =
        (const uint8_t *) anx_arena_text(r->kept, (anx_text){ (const char *) before.bytes, before.size })
            .data;
    doc->after.bytes = (const uint8_t *) anx_arena_text(
                           r->kept, (anx_text){ (const char *) draft->doc.bytes, draft->doc.size })
                           .data;
    if (!doc->before.bytes || !doc->after.bytes)
        return out_of_memory(r);
    r->n_doc++;
    return ANX_OK;
}

static anx_status
gather(struct rebuild *r, size_t place, uint32_t row, const struct doc_vectors *vectors)
{
    struct gathered *g = &r->gathered[place];
    size_t size = (size_t) vectors->n * vectors->dim * sizeof(float);
    struct doc_vectors copy = *vectors;

    if (vectors->n > 0) {
        float *floats = anx_arena_bytes(r->kept, size);

        if (!floats)
            return out_of_memory(r);
        memcpy(floats, vectors->floats, size);
        copy.floats = floats;
    }
    g->rows[g->n] = row;
    g->vectors[g->n++] = copy;
    return ANX_OK;
}

static anx_status
joined_values(struct rebuild *r, const struct ns_index *index, const struct doc_draft *draft,
              struct values *out)
{
    size_t n_path = index->def->n_path;
    const struct values *paths = &draft->values[index->first_field];
    size_t n = 0;

    if (n_path == 1) {
        *out = paths[0];
        return ANX_OK;
    }
    for (size_t p = 0; p < n_path; p++)
        n += paths[p].n;
    *out = (struct values) { anx_arena_array(r->scratch, n + 1, sizeof(struct value)), 0 };
    if (!out->items)
        return out_of_memory(r);
    for (size_t p = 0; p < n_path; p++)
        for (size_t i = 0; i < paths[p].n; i++)
            out->items[out->n++] = paths[p].items[i];
    return ANX_OK;
}

/* A document into the indexes that are new. */
static anx_status
feed_new_indexes(struct rebuild *r, uint32_t row, const struct doc_draft *draft)
{
    for (size_t i = 0; i < r->next.n_index; i++) {
        struct ns_index *index = &r->next.indexes[i];
        struct values values;
        anx_status st = ANX_OK;

        if (r->gathered[i].rows) {
            st = gather(r, i, row, &draft->vectors[index->vector_field]);
        } else if (r->gathered[i].n && index->text) {
            st = row_texts_insert(index->text, row, draft->doc, r->err);
        } else if (r->gathered[i].n && index->def->field_type == FIELD_COMPOSITE) {
            st = scalar_insert(index->scalar, row, NULL, r->err);
        } else if (r->gathered[i].n) {
            st = joined_values(r, index, draft, &values);
            if (st == ANX_OK)
                st = scalar_insert(index->scalar, row, &values, r->err);
        }
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
reread_document(struct rebuild *r, uint32_t row)
{
    struct doc doc = rows_get(r->ns->rows, row);
    struct doc_vectors *vectors;
    struct doc_draft draft;
    anx_status st;

    anx_arena_reset(r->scratch);
    st = old_vectors(r, row, doc, &vectors);
    if (st == ANX_OK)
        st = doc_reshape(doc, &r->ns->shape, vectors, r->ns->names, &r->next.shape, r->scratch, &draft,
                         r->err);
    if (st == ANX_OK && (draft.doc.size != doc.size || memcmp(draft.doc.bytes, doc.bytes, doc.size) != 0)) {
        st = keep_document(r, row, doc, &draft);
        if (st == ANX_OK && r->batch)
            persist_put_shaped(r->ns, r->batch, row, draft.doc, draft.vectors, r->next.n_vector_field);
    }
    if (st == ANX_OK)
        st = feed_new_indexes(r, row, &draft);
    if (st != ANX_OK)
        blame_document(r, row, st);
    return st;
}

static anx_status
reread_documents(struct rebuild *r)
{
    roaring_uint32_iterator_t at;
    anx_status st = ANX_OK;

    roaring_init_iterator(rows_all(r->ns->rows), &at);
    while (st == ANX_OK && at.has_value) {
        st = reread_document(r, at.current_value);
        roaring_advance_uint32_iterator(&at);
    }
    return st;
}

/* ---- Building ---- */

/* Is a composite over something that is new itself? */
static bool
depends_on_new(const struct ns_content *content, const struct ns_index *composite)
{
    for (size_t p = 0; p < composite->def->n_path; p++)
        for (size_t i = 0; i < content->n_index; i++)
            if (anx_text_equal_fold(content->indexes[i].def->name, composite->def->json_paths[p])
                && is_new(&content->indexes[i]))
                return true;
    return false;
}

/* Objects for the new indexes; `n` 1 in gathered marks those that take values during the pass. */
static anx_status
make_objects(struct rebuild *r)
{
    size_t n_row = rows_count(r->ns->rows);

    for (size_t i = 0; i < r->next.n_index; i++)
        r->is_late[i] = r->next.indexes[i].def->field_type == FIELD_COMPOSITE && is_new(&r->next.indexes[i])
                        && r->next.indexes[i].def->index_type != INDEX_TEXT
                        && depends_on_new(&r->next, &r->next.indexes[i]);
    for (size_t i = 0; i < r->next.n_index; i++) {
        struct ns_index *index = &r->next.indexes[i];
        anx_status st;

        if (!is_new(index) || r->is_late[i])
            continue;
        st = index_build_empty(r->ns, r->next.indexes, r->next.n_index, index, r->err);
        if (st != ANX_OK)
            return st;
        r->gathered[i].n = index->scalar || index->text;
        if (!index->vector || n_row == 0)
            continue;
        r->gathered[i].rows = anx_alloc_array(NULL, n_row, sizeof(uint32_t));
        r->gathered[i].vectors = anx_alloc_array(NULL, n_row, sizeof(struct doc_vectors));
        if (!r->gathered[i].rows || !r->gathered[i].vectors)
            return out_of_memory(r);
    }
    return ANX_OK;
}

static anx_status
build_vectors(struct rebuild *r)
{
    for (size_t i = 0; i < r->next.n_index; i++) {
        const struct gathered *g = &r->gathered[i];
        anx_status st;

        if (!g->rows)
            continue;
        st = vector_insert_many(r->next.indexes[i].vector, g->n, g->rows, g->vectors, r->err);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

/* A primary key that is new must tell the documents apart. */
static anx_status
check_key(struct rebuild *r)
{
    const struct ns_index *key = r->next.pk == SIZE_MAX ? NULL : &r->next.indexes[r->next.pk];
    bool is_checked = key && !r->is_late[r->next.pk] && r->gathered[r->next.pk].n;

    if (!is_checked || scalar_unique(key->scalar) == rows_count(r->ns->rows))
        return ANX_OK;
    return anx_fail(
        r->err, ANX_E_PARAMS,
        "Cannot make '%.*s' the primary key of namespace '%s': several documents have the same value",
        ANX_TEXT_ARG(key->def->name), r->ns->name);
}

/* ---- Switching; both locks held ---- */

static anx_status
fill_late(struct rebuild *r)
{
    roaring_uint32_iterator_t at;
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < r->ns->n_index; i++) {
        struct ns_index *index = &r->ns->indexes[i];

        if (!r->is_late[i])
            continue;
        st = index_build_empty(r->ns, r->ns->indexes, r->ns->n_index, index, r->err);
        roaring_init_iterator(rows_all(r->ns->rows), &at);
        for (; st == ANX_OK && at.has_value; roaring_advance_uint32_iterator(&at))
            st = scalar_insert(index->scalar, at.current_value, NULL, r->err);
    }
    return st;
}

static anx_status
switch_over(struct rebuild *r)
{
    anx_status st = ANX_OK;
    size_t done = 0;

    pthread_rwlock_wrlock(&r->ns->data_lock);
    content_swap(r->ns, &r->next);
    for (; st == ANX_OK && done < r->n_doc; done++)
        st = rows_set(r->ns->rows, r->docs[done].row, r->docs[done].after, r->err);
    if (st == ANX_OK)
        st = fill_late(r);
    if (st != ANX_OK) {
        for (size_t i = 0; i < done; i++)
            if (rows_set(r->ns->rows, r->docs[i].row, r->docs[i].before, NULL) != ANX_OK)
                anx_log(ANX_LOG_ERROR, "event=document_not_restored ns=%s row=%u", r->ns->name,
                        r->docs[i].row);
        content_swap(r->ns, &r->next);
    }
    pthread_rwlock_unlock(&r->ns->data_lock);
    return st;
}

static void
switch_back(struct rebuild *r)
{
    pthread_rwlock_wrlock(&r->ns->data_lock);
    content_swap(r->ns, &r->next);
    for (size_t i = 0; i < r->n_doc; i++)
        if (rows_set(r->ns->rows, r->docs[i].row, r->docs[i].before, NULL) != ANX_OK)
            anx_log(ANX_LOG_ERROR, "event=document_not_restored ns=%s row=%u", r->ns->name, r->docs[i].row);
    pthread_rwlock_unlock(&r->ns->data_lock);
}

/* ---- The whole ---- */

/* Frees the indexes of `content` that the namespace does not have. */
static void
free_leftovers(struct ns *ns, struct ns_content *content)
{
    for (size_t i = 0; i < content->n_index; i++) {
        bool is_kept = false;

        for (size_t j = 0; j < ns->n_index; j++)
            is_kept |= ns->indexes[j].def == content->indexes[i].def;
        if (!is_kept)
            index_fini(&content->indexes[i]);
    }
    content_fini(content);
}

static anx_status
rebuild_run(struct rebuild *r, bool is_private)
{
    uint64_t ticket = 0;
    anx_status st = make_objects(r);

    if (st == ANX_OK && !is_private)
        st = persist_begin(r->ns, &r->batch, r->err);
    if (st == ANX_OK)
        st = reread_documents(r);
    if (st == ANX_OK)
        st = check_key(r);
    if (st == ANX_OK)
        st = build_vectors(r);
    if (st == ANX_OK)
        st = catalog_put(r->ns, &r->next, r->batch, r->err);
    if (st == ANX_OK)
        st = switch_over(r);
    if (st != ANX_OK)
        return st;
    if (r->batch) {
        struct store_batch *batch = r->batch;

        r->batch = NULL;
        st = persist_submit(r->ns, batch, &ticket, r->err);
        if (st != ANX_OK)
            switch_back(r);
        else
            st = persist_wait(r->ns, ticket, r->err);
    }
    return st;
}

/* Of a list that cannot become the content: what is new in it. */
static void
free_new(const struct ns *ns, const struct ns_index *list, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        struct ns_index index = list[i];
        bool is_old = false;

        for (size_t j = 0; j < ns->n_index; j++)
            is_old |= ns->indexes[j].def == index.def;
        if (!is_old)
            index_fini(&index);
    }
}

anx_status
ns_rebuild(struct ns *ns, const struct ns_index *list, size_t n, bool is_private, anx_error *err)
{
    struct rebuild r = { .ns = ns, .err = err };
    anx_status st = content_make(ns, list, n, &r.next, err);

    if (st != ANX_OK) {
        free_new(ns, list, n);
        return st;
    }
    r.gathered = anx_alloc_zeroed(NULL, n + 1, sizeof(*r.gathered));
    r.is_late = anx_alloc_zeroed(NULL, n + 1, sizeof(*r.is_late));
    r.kept = anx_arena_create(NULL, 0);
    r.scratch = anx_arena_create(NULL, 0);
    if (!r.gathered || !r.is_late || !r.kept || !r.scratch)
        st = out_of_memory(&r);
    else
        st = rebuild_run(&r, is_private);
    /* Whichever content is out now: its indexes that are not in. */
    free_leftovers(ns, &r.next);
    for (size_t i = 0; r.gathered && i < n; i++) {
        anx_free(NULL, r.gathered[i].rows);
        anx_free(NULL, r.gathered[i].vectors);
    }
    anx_free(NULL, r.gathered);
    anx_free(NULL, r.is_late);
    anx_free(NULL, r.docs);
    anx_arena_destroy(r.kept);
    anx_arena_destroy(r.scratch);
    store_batch_destroy(r.batch);
    return st;
}
