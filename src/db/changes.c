/* Sets of changes; see the header.
 *
 * Order of a change: vectors go into their indexes, where nobody sees them; the batch goes to the store; then
 * rows and indexes are published. So a store that refuses (disk full) leaves memory as it was, and what
 * readers see is on its way to the disk in the order in which they see it. */
#include "db/changes.h"

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "db/persist.h"

/* ---- Collecting ---- */

anx_status
changes_init(struct changes *c, struct ns *ns, anx_arena *arena, size_t capacity, anx_error *err)
{
    *c = (struct changes) { .ns = ns, .arena = arena, .capacity = capacity, .n_table = 16 };
    while (c->n_table < 2 * capacity)
        c->n_table *= 2;
    c->list = anx_arena_bytes(arena, capacity * sizeof(*c->list));
    c->table = anx_arena_array(arena, c->n_table, sizeof(*c->table));
    if (!c->list || !c->table)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a list of %zu changes", capacity);
    return ANX_OK;
}

static struct change *
find_in_set(struct changes *c, uint64_t hash, const struct value *key)
{
    const struct scalar_index *pk = c->ns->indexes[c->ns->pk].scalar;
    size_t at = hash & (c->n_table - 1);

    for (; c->table[at]; at = (at + 1) & (c->n_table - 1)) {
        struct change *change = &c->list[c->table[at] - 1];

        if (change->hash == hash && scalar_compare(pk, &change->key, key) == 0)
            return change;
    }
    return NULL;
}

anx_status
changes_find(struct changes *c, const struct doc_draft *draft, struct change_place *out, anx_error *err)
{
    const struct scalar_index *pk = c->ns->indexes[c->ns->pk].scalar;
    struct values values;
    anx_status st = draft_values(c->ns, c->ns->pk, draft, c->arena, &values, err);

    *out = (struct change_place) { .row = ITEM_NEW_ROW };
    if (st == ANX_OK && values.n != 1)
        st = anx_fail(err, ANX_E_INTERNAL, "a document has %zu primary keys", values.n);
    if (st != ANX_OK)
        return st;
    out->key = values.items[0];
    out->hash = scalar_hash(pk, &out->key);
    out->change = find_in_set(c, out->hash, &out->key);
    if (out->change) {
        out->row = out->change->row;
        out->exists = out->change->is_put;
    } else {
        out->exists = scalar_find(pk, &out->key, &out->row);
    }
    return ANX_OK;
}

static void
enter(struct changes *c, struct change_place *place)
{
    size_t at = place->hash & (c->n_table - 1);

    if (place->change)
        return;
    ANX_ASSERT(c->n < c->capacity);
    while (c->table[at])
        at = (at + 1) & (c->n_table - 1);
    place->change = &c->list[c->n++];
    c->table[at] = (uint32_t) c->n;
    *place->change = (struct change) { .hash = place->hash, .key = place->key, .row = place->row };
    if (!place->exists)
        place->change->row = ITEM_NEW_ROW;
}

void
changes_put(struct changes *c, struct change_place *place, const struct doc_draft *draft)
{
    enter(c, place);
    place->change->draft = *draft;
    place->change->is_put = place->exists = true;
}

void
changes_remove(struct changes *c, struct change_place *place)
{
    enter(c, place);
    place->change->is_put = place->exists = false;
}

/* ---- Applying ---- */

anx_status
ns_row_vectors(const struct ns *ns, uint32_t row, anx_arena *arena, struct doc_vectors **out, anx_error *err)
{
    *out = anx_arena_array(arena, ns->n_vector_field + 1, sizeof(**out));
    if (!*out)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the vectors of a document");
    for (size_t i = 0; i < ns->n_index; i++) {
        const struct ns_index *index = &ns->indexes[i];
        struct doc_vectors *vectors = *out + index->vector_field;

        if (index->vector &&
            !vector_get(index->vector, row, vector_count(index->vector, row), arena, vectors))
            return anx_fail(err, ANX_E_NOMEM, "could not read the vectors of row %u", row);
    }
    return ANX_OK;
}

/* The batch was submitted and memory ran out: the records of what was not published are put back. */
static void
put_back(struct items *items, const uint32_t *removed, size_t n_removed)
{
    struct ns *ns = items->ns;
    struct store_batch *batch;
    uint64_t ticket;
    anx_error err;
    anx_status st = persist_begin(ns, &batch, &err);

    for (size_t i = items->n_published; st == ANX_OK && i < items->n + n_removed; i++) {
        bool is_new = i < items->n && items->list[i].is_new;
        uint32_t row = i < items->n ? items->list[i].row : removed[i - items->n];
        struct doc_vectors *vectors;

        if (is_new)
            persist_delete(ns, batch, row);
        else if ((st = ns_row_vectors(ns, row, items->arena, &vectors, &err)) == ANX_OK)
            persist_put(ns, batch, row, rows_get(ns->rows, row), vectors);
    }
    if (st == ANX_OK)
        st = persist_submit(ns, batch, &ticket, &err);
    if (st != ANX_OK)
        anx_log(ANX_LOG_ERROR, "event=store_ahead_of_memory documents=%zu error=\"%s\"",
                items->n + n_removed - items->n_published, err.message);
}

static anx_status
publish(struct items *items, const uint32_t *removed, size_t n_removed, enum changes_mode mode,
        anx_error *err)
{
    struct ns *ns = items->ns;
    anx_status st;

    if (mode == CHANGES_IN_BLOCKS) {
        st = items_publish(items, err);
        if (st == ANX_OK)
            ns_remove_rows(ns, removed, n_removed);
        return st;
    }
    if (mode == CHANGES_AT_ONCE)
        pthread_rwlock_wrlock(&ns->data_lock);
    st = items_publish_locked(items, items->n, err);
    if (st == ANX_OK)
        ns_remove_rows_locked(ns, removed, n_removed);
    if (mode == CHANGES_AT_ONCE) {
        pthread_rwlock_unlock(&ns->data_lock);
        ns_sweep(ns);
    }
    return st;
}

static anx_status
note_rows(struct undo *undo, const struct items *items, const uint32_t *removed, size_t n_removed,
          anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; undo && st == ANX_OK && i < items->n; i++)
        st = undo_note(undo, items->list[i].row, err);
    for (size_t i = 0; undo && st == ANX_OK && i < n_removed; i++)
        st = undo_note(undo, removed[i], err);
    return st;
}

anx_status
changes_apply_items(struct items *items, const uint32_t *removed, size_t n_removed, struct store_batch *batch,
                    enum changes_mode mode, struct undo *undo, uint64_t *ticket, anx_error *err)
{
    struct ns *ns = items->ns;
    anx_status st = note_rows(undo, items, removed, n_removed, err);

    *ticket = 0;
    if (st == ANX_OK)
        st = items_insert_vectors(items, err);
    for (size_t i = 0; st == ANX_OK && i < items->n; i++)
        persist_put(ns, batch, items->list[i].row, items->list[i].draft.doc, items->list[i].draft.vectors);
    for (size_t i = 0; st == ANX_OK && i < n_removed; i++)
        persist_delete(ns, batch, removed[i]);
    if (mode != CHANGES_LOCKED && st == ANX_OK)
        st = persist_submit(ns, batch, ticket, err);
    else if (mode != CHANGES_LOCKED)
        store_batch_destroy(batch);
    if (st == ANX_OK) {
        st = publish(items, removed, n_removed, mode, err);
        if (st != ANX_OK && mode != CHANGES_LOCKED)
            put_back(items, removed, n_removed);
    }
    items_fini(items);
    return st;
}

anx_status
changes_apply(struct changes *c, struct store_batch *batch, enum changes_mode mode, struct undo *undo,
              uint64_t *ticket, anx_error *err)
{
    uint32_t *removed = anx_arena_bytes(c->arena, (c->n + 1) * sizeof(*removed));
    size_t n_removed = 0;
    struct items items;
    anx_status st = items_init(&items, c->ns, c->arena, c->n, err);

    *ticket = 0;
    if (st == ANX_OK && !removed)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a list of %zu changes", c->n);
    for (size_t i = 0; st == ANX_OK && i < c->n; i++) {
        struct change *change = &c->list[i];

        if (change->is_put) {
            st = items_add(&items, &change->draft, change->row, err);
            if (st == ANX_OK)
                change->row = items.list[items.n - 1].row;
        } else if (change->row != ITEM_NEW_ROW)
            removed[n_removed++] = change->row;
    }
    if (st == ANX_OK)
        return changes_apply_items(&items, removed, n_removed, batch, mode, undo, ticket, err);
    items_fini(&items);
    if (mode != CHANGES_LOCKED)
        store_batch_destroy(batch);
    return st;
}
