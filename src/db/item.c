/* Items: documents on their way into a namespace; see data.h for the three steps. */
#include "db/data.h"

#include "base/alloc.h"
#include "base/error.h"

/* Documents published per hold of data_lock: well under a millisecond. Taste. */
#define PUBLISH_BLOCK 128

/* ---- Values ---- */

static anx_status
join_paths(const struct doc_draft *draft, size_t first, size_t n_path, anx_arena *arena, struct values *out,
           anx_error *err)
{
    size_t n = 0;

    for (size_t p = 0; p < n_path; p++)
        n += draft->values[first + p].n;
    *out = (struct values) { anx_arena_array(arena, n ? n : 1, sizeof(struct value)), 0 };
    if (!out->items)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the values of a document");
    for (size_t p = 0; p < n_path; p++)
        for (size_t i = 0; i < draft->values[first + p].n; i++)
            out->items[out->n++] = draft->values[first + p].items[i];
    return ANX_OK;
}

static anx_status
make_tuple(const struct ns *ns, const struct index_def *def, const struct doc_draft *draft, anx_arena *arena,
           struct values *out, anx_error *err)
{
    struct value *items = anx_arena_array(arena, def->n_path + 1, sizeof(*items));

    if (!items)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the values of a document");
    for (size_t p = 0; p < def->n_path; p++) {
        const struct ns_index *part = ns_index_find(ns, def->json_paths[p]);
        const struct values *values = part ? &draft->values[part->first_field] : NULL;

        if (!values || values->n == 0)
            return anx_fail(err, ANX_E_INTERNAL, "component '%.*s' of a composite index has no value",
                            ANX_TEXT_ARG(def->json_paths[p]));
        items[1 + p] = values->items[0];
    }
    items[0] = (struct value) { .type = VALUE_TUPLE };
    items[0].tuple = (struct values) { items + 1, def->n_path };
    *out = (struct values) { items, 1 };
    return ANX_OK;
}

anx_status
draft_values(const struct ns *ns, size_t index, const struct doc_draft *draft, anx_arena *arena,
             struct values *out, anx_error *err)
{
    const struct ns_index *i = &ns->indexes[index];

    if (i->def->field_type == FIELD_COMPOSITE)
        return make_tuple(ns, i->def, draft, arena, out, err);
    if (i->def->n_path != 1)
        return join_paths(draft, i->first_field, i->def->n_path, arena, out, err);
    *out = draft->values[i->first_field];
    return ANX_OK;
}

anx_status
ns_find_draft(const struct ns *ns, const struct doc_draft *draft, anx_arena *arena, bool *found,
              uint32_t *row, anx_error *err)
{
    struct values key;
    anx_status st = draft_values(ns, ns->pk, draft, arena, &key, err);

    *found = st == ANX_OK && key.n == 1 && scalar_find(ns->indexes[ns->pk].scalar, &key.items[0], row);
    return st;
}

/* ---- Collecting ---- */

anx_status
items_init(struct items *items, struct ns *ns, anx_arena *arena, size_t capacity, anx_error *err)
{
    *items = (struct items) { .ns = ns, .arena = arena, .capacity = capacity };
    items->list = anx_arena_array(arena, capacity, sizeof(*items->list));
    items->vectors = anx_arena_array(arena, ns->n_index + 1, sizeof(struct vector_change *));
    if (!items->list || !items->vectors)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a list of %zu documents", capacity);
    return ANX_OK;
}

anx_status
items_add(struct items *items, const struct doc_draft *draft, uint32_t row, anx_error *err)
{
    struct item *item = &items->list[items->n];
    anx_status st = ANX_OK;

    ANX_ASSERT(items->n < items->capacity);
    *item = (struct item) { .row = row, .is_new = row == ITEM_NEW_ROW, .draft = *draft };
    if (item->is_new)
        st = rows_take(items->ns->rows, &item->row, err);
    if (st == ANX_OK)
        items->n++;
    return st;
}

static struct doc_vectors
draft_vectors(const struct doc_draft *draft, uint32_t vector_field)
{
    return vector_field < draft->n_vectors ? draft->vectors[vector_field] : (struct doc_vectors) { 0 };
}

anx_status
items_insert_vectors(struct items *items, anx_error *err)
{
    struct ns *ns = items->ns;

    for (size_t i = 0; i < ns->n_index; i++) {
        const struct ns_index *index = &ns->indexes[i];
        struct vector_change *changes;
        anx_status st;

        if (!index->vector || items->n == 0)
            continue;
        changes = anx_arena_array(items->arena, items->n, sizeof(*changes));
        if (!changes)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate the vectors of %zu documents", items->n);
        for (size_t d = 0; d < items->n; d++) {
            changes[d].row = items->list[d].row;
            changes[d].vectors = draft_vectors(&items->list[d].draft, index->vector_field);
        }
        st = vector_prepare(index->vector, changes, items->n, err);
        if (st != ANX_OK)
            return st; /* of earlier indexes they are taken back by items_fini */
        items->vectors[i] = changes;
    }
    return ANX_OK;
}

/* ---- Publishing; data_lock held ---- */

struct row_change {
    struct ns *ns;
    anx_arena *arena;
    uint32_t row;
    const struct doc_draft *draft;
    struct scalar_change *changes; /* [n_index] */
};

static void
abort_scalars(struct row_change *c, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        if (c->ns->indexes[i].scalar)
            scalar_abort(c->ns->indexes[i].scalar, c->row, &c->changes[i]);
        if (c->ns->indexes[i].text)
            row_texts_abort(c->ns->indexes[i].text);
    }
}

static anx_status
begin_scalar(struct row_change *c, size_t i, anx_error *err)
{
    struct values values;
    anx_status st;

    if (c->ns->indexes[i].text)
        return row_texts_begin(c->ns->indexes[i].text, c->row, c->draft->doc, err);
    if (!c->ns->indexes[i].scalar)
        return ANX_OK;
    st = draft_values(c->ns, i, c->draft, c->arena, &values, err);
    return st == ANX_OK ? scalar_begin(c->ns->indexes[i].scalar, c->row, &values, &c->changes[i], err) : st;
}

static anx_status
begin_scalars(struct row_change *c, anx_error *err)
{
    for (size_t i = 0; i < c->ns->n_index; i++) {
        anx_status st = begin_scalar(c, i, err);

        if (st != ANX_OK) {
            abort_scalars(c, i);
            return st;
        }
    }
    return ANX_OK;
}

/* Row, scalar and full-text indexes, all or nothing. */
static anx_status
put_row(struct row_change *c, bool is_free, anx_error *err)
{
    anx_status st = begin_scalars(c, err);

    if (st != ANX_OK)
        return st;
    st = is_free ? rows_put(c->ns->rows, c->row, c->draft->doc, err)
                 : rows_set(c->ns->rows, c->row, c->draft->doc, err);
    if (st != ANX_OK) {
        abort_scalars(c, c->ns->n_index);
        return st;
    }
    for (size_t i = 0; i < c->ns->n_index; i++) {
        if (c->ns->indexes[i].scalar)
            scalar_commit(c->ns->indexes[i].scalar, c->row, &c->changes[i]);
        if (c->ns->indexes[i].text)
            row_texts_commit(c->ns->indexes[i].text);
    }
    return ANX_OK;
}

static anx_status
publish_item(struct items *items, size_t at, struct scalar_change *changes, anx_error *err)
{
    struct ns *ns = items->ns;
    struct row_change c = { ns, items->arena, items->list[at].row, &items->list[at].draft, changes };
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++)
        if (items->vectors[i])
            st = vector_reserve(ns->indexes[i].vector, c.row + 1, err);
    if (st == ANX_OK)
        st = put_row(&c, false, err);
    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++)
        if (items->vectors[i])
            vector_publish(ns->indexes[i].vector, &items->vectors[i][at]);
    return st;
}

void
ns_sweep(struct ns *ns)
{
    for (size_t i = 0; i < ns->n_index; i++)
        if (ns->indexes[i].vector)
            vector_sweep(ns->indexes[i].vector);
}

anx_status
items_publish_locked(struct items *items, size_t n, anx_error *err)
{
    struct scalar_change *changes = anx_arena_array(items->arena, items->ns->n_index + 1, sizeof(*changes));
    size_t end = n < items->n - items->n_published ? items->n_published + n : items->n;
    anx_status st = ANX_OK;

    if (!changes)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the changes of a document");
    while (st == ANX_OK && items->n_published < end) {
        st = publish_item(items, items->n_published, changes, err);
        items->n_published += st == ANX_OK;
    }
    return st;
}

anx_status
items_publish(struct items *items, anx_error *err)
{
    anx_status st = ANX_OK;

    while (st == ANX_OK && items->n_published < items->n) {
        pthread_rwlock_wrlock(&items->ns->data_lock);
        st = items_publish_locked(items, PUBLISH_BLOCK, err);
        pthread_rwlock_unlock(&items->ns->data_lock);
    }
    ns_sweep(items->ns);
    return st;
}

void
items_fini(struct items *items)
{
    size_t from = items->n_published, n = items->n - from;

    for (size_t i = 0; n > 0 && i < items->ns->n_index; i++)
        if (items->vectors[i])
            vector_cancel(items->ns->indexes[i].vector, items->vectors[i] + from, n);
    while (items->n > from) {
        const struct item *item = &items->list[--items->n];

        if (item->is_new)
            rows_give_back(items->ns->rows, item->row);
    }
}

/* ---- Removal and loading ---- */

void
ns_remove_rows_locked(struct ns *ns, const uint32_t *rows, size_t n)
{
    for (size_t r = 0; r < n; r++) {
        for (size_t i = 0; i < ns->n_index; i++) {
            if (ns->indexes[i].scalar)
                scalar_remove(ns->indexes[i].scalar, rows[r]);
            if (ns->indexes[i].text)
                row_texts_remove(ns->indexes[i].text, rows[r]);
            if (ns->indexes[i].vector)
                vector_unpublish(ns->indexes[i].vector, rows[r]);
        }
        rows_remove(ns->rows, rows[r]);
    }
}

void
ns_remove_rows(struct ns *ns, const uint32_t *rows, size_t n)
{
    for (size_t at = 0; at < n; at += PUBLISH_BLOCK) {
        pthread_rwlock_wrlock(&ns->data_lock);
        ns_remove_rows_locked(ns, rows + at, n - at < PUBLISH_BLOCK ? n - at : PUBLISH_BLOCK);
        pthread_rwlock_unlock(&ns->data_lock);
    }
    ns_sweep(ns);
}

anx_status
ns_load_row(struct ns *ns, uint32_t row, const struct doc_draft *draft, bool with_vectors, anx_arena *arena,
            anx_error *err)
{
    struct row_change c = { ns, arena, row, draft,
                            anx_arena_array(arena, ns->n_index + 1, sizeof(*c.changes)) };
    anx_status st;

    if (!c.changes)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the changes of a document");
    st = put_row(&c, true, err);
    for (size_t i = 0; with_vectors && st == ANX_OK && i < ns->n_index; i++)
        if (ns->indexes[i].vector) {
            struct doc_vectors vectors = draft_vectors(draft, ns->indexes[i].vector_field);

            st = vector_insert(ns->indexes[i].vector, row, &vectors, err);
        }
    return st;
}
