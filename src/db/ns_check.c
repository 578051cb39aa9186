/* The checker of a namespace: everything that must hold between rows, scalar indexes, vector indexes and the
 * store. It is slow (it looks at every value of every document) and for tests and tools. */
#include "base/error.h"
#include "db/changes.h"
#include "db/ns_life.h"
#include "db/persist.h"
#include "db/record.h"

#define CHECK_ARENA_MAX ((size_t) 1 << 30)

struct check {
    struct ns *ns;
    anx_arena *arena; /* reset for every row */
    size_t n_record;
    anx_status status;
    anx_error *err;
};

static anx_status
check_values(struct check *c, uint32_t row, const struct doc_draft *draft, size_t index)
{
    const struct scalar_index *scalar = c->ns->indexes[index].scalar;
    struct values want, got;
    struct value storage;
    size_t n = 0;
    anx_status st = draft_values(c->ns, index, draft, c->arena, &want, c->err);

    if (st != ANX_OK)
        return st;
    got = scalar_values(scalar, row, &storage);
    if (c->ns->indexes[index].def->is_sparse && want.n == 1 && want.items[0].type == VALUE_NULL)
        want.n = 0;
    while (got.n == want.n && n < got.n && scalar_compare(scalar, &got.items[n], &want.items[n]) == 0)
        n++;
    if (n == want.n && got.n == want.n)
        return ANX_OK;
    return anx_fail(c->err, ANX_E_CORRUPT, "row %u: index '%.*s' has other values than the document", row,
                    ANX_TEXT_ARG(c->ns->indexes[index].def->name));
}

static anx_status
check_vectors(struct check *c, uint32_t row, const struct doc_draft *draft, size_t index)
{
    const struct vector_index *vector = c->ns->indexes[index].vector;
    const struct doc_vectors *want = &draft->vectors[c->ns->indexes[index].vector_field];
    bool is_array = c->ns->indexes[index].def->is_array;

    if (vector_count(vector, row) == want->n &&
        roaring_bitmap_contains(vector_rows_empty(vector), row) == (want->n == 0 || want->n_empty > 0) &&
        roaring_bitmap_contains(vector_rows_any(vector), row) ==
            (want->n > 0 || (is_array && want->n_empty > 0)))
        return ANX_OK;
    return anx_fail(c->err, ANX_E_CORRUPT, "row %u: vector index '%.*s' has %u vectors, the document %u", row,
                    ANX_TEXT_ARG(c->ns->indexes[index].def->name), vector_count(vector, row), want->n);
}

/* One primary key, one row. */
static anx_status
check_key(struct check *c, uint32_t row, const struct doc_draft *draft)
{
    bool found;
    uint32_t other;
    anx_status st;

    if (c->ns->pk == SIZE_MAX)
        return ANX_OK;
    st = ns_find_draft(c->ns, draft, c->arena, &found, &other, c->err);
    if (st != ANX_OK || (found && other == row))
        return st;
    return anx_fail(c->err, ANX_E_CORRUPT, "row %u: its primary key leads to %s", row,
                    found ? "another row" : "no row");
}

static anx_status
check_row(struct check *c, uint32_t row)
{
    struct doc doc = rows_get(c->ns->rows, row);
    struct doc_draft draft;
    anx_status st;

    anx_arena_reset(c->arena);
    if (!doc.bytes)
        return anx_fail(c->err, ANX_E_CORRUPT, "row %u is in the set of rows and has no document", row);
    st = doc_check_fields(doc, c->ns->names, c->ns->n_vector_field, c->err);
    if (st == ANX_OK)
        st = doc_extract(doc, &c->ns->shape, c->arena, &draft, c->err);
    for (size_t i = 0; st == ANX_OK && i < c->ns->n_index; i++) {
        if (c->ns->indexes[i].scalar)
            st = check_values(c, row, &draft, i);
        if (st == ANX_OK && c->ns->indexes[i].vector)
            st = check_vectors(c, row, &draft, i);
        if (st == ANX_OK && c->ns->indexes[i].text)
            st = row_texts_check_row(c->ns->indexes[i].text, row, doc, c->arena, c->err);
    }
    return st == ANX_OK ? check_key(c, row, &draft) : st;
}

static bool
each_row(uint32_t row, void *context)
{
    struct check *c = context;

    c->status = check_row(c, row);
    return c->status == ANX_OK;
}

static anx_status
check_indexes(struct check *c)
{
    size_t n_row = rows_count(c->ns->rows);
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < c->ns->n_index; i++) {
        const struct ns_index *index = &c->ns->indexes[i];

        if (index->scalar) {
            st = scalar_check(index->scalar, c->err);
            if (st == ANX_OK && scalar_rows(index->scalar) != n_row)
                st = anx_fail(c->err, ANX_E_CORRUPT, "it has %zu rows of %zu", scalar_rows(index->scalar),
                              n_row);
        }
        if (st == ANX_OK && index->vector)
            st = vector_check(index->vector, c->err);
        if (st == ANX_OK && index->text)
            st = row_texts_check(index->text, n_row, c->err);
        if (st != ANX_OK && c->err)
            anx_error_context(c->err, "index '%.*s'", ANX_TEXT_ARG(index->def->name));
    }
    return st;
}

/* ---- The store ---- */

static bool
each_record(void *context, anx_text key, anx_text value)
{
    struct check *c = context;
    struct record_vectors vectors[RECORD_FIELDS_MAX];
    struct doc_vectors *have;
    const uint8_t *k = (const uint8_t *) key.data;
    uint32_t row = key.size == 4 ? (uint32_t) k[0] << 24 | (uint32_t) k[1] << 16 | (uint32_t) k[2] << 8 | k[3]
                                 : UINT32_MAX;
    struct doc doc = rows_get(c->ns->rows, row), stored;

    c->n_record++;
    anx_arena_reset(c->arena);
    c->status = record_read(value, &stored, vectors, RECORD_FIELDS_MAX, c->err);
    if (c->status == ANX_OK && (stored.size != doc.size || memcmp(stored.bytes, doc.bytes, doc.size) != 0))
        c->status = anx_fail(c->err, ANX_E_CORRUPT, "row %u: the store has another document", row);
    if (c->status == ANX_OK)
        c->status = ns_row_vectors(c->ns, row, c->arena, &have, c->err);
    for (size_t f = 0; c->status == ANX_OK && f < c->ns->n_vector_field; f++)
        if (vectors[f].n != have[f].n ||
            (have[f].n > 0 && memcmp(vectors[f].floats, have[f].floats,
                                     (size_t) have[f].n * have[f].dim * sizeof(float)) != 0))
            c->status = anx_fail(c->err, ANX_E_CORRUPT, "row %u: the store has other vectors", row);
    return c->status == ANX_OK;
}

/* Everything that was submitted must be durable by now. */
static anx_status
check_store(struct check *c)
{
    struct store_read *read;
    anx_status st;

    if (!c->ns->table)
        return ANX_OK;
    st = store_read_begin(c->ns->database->store, &read, c->err);
    if (st != ANX_OK)
        return st;
    c->status = ANX_OK;
    st = store_scan(read, c->ns->table, (anx_text) { "", 0 }, each_record, c, c->err);
    store_read_end(read);
    if (st == ANX_OK)
        st = c->status;
    if (st == ANX_OK && c->n_record != rows_count(c->ns->rows))
        st = anx_fail(c->err, ANX_E_CORRUPT, "the store has %zu documents, memory %u", c->n_record,
                      rows_count(c->ns->rows));
    return st;
}

anx_status
ns_check(struct ns *ns, bool with_store, anx_error *err)
{
    struct check c = { .ns = ns, .err = err };
    anx_status st;

    c.arena = anx_arena_create(NULL, CHECK_ARENA_MAX);
    if (!c.arena)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a check");
    pthread_rwlock_rdlock(&ns->data_lock);
    if (roaring_bitmap_get_cardinality(rows_all(ns->rows)) != rows_count(ns->rows))
        st = anx_fail(err, ANX_E_CORRUPT, "the set of rows has not as many as were counted");
    else
        st = check_indexes(&c);
    if (st == ANX_OK && !roaring_iterate(rows_all(ns->rows), each_row, &c))
        st = c.status;
    if (st == ANX_OK && with_store)
        st = check_store(&c);
    pthread_rwlock_unlock(&ns->data_lock);
    anx_arena_destroy(c.arena);
    return st;
}
