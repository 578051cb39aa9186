/* Undo of changes that were published under one hold of data_lock; see the header. */
#include "db/undo.h"

#include "base/error.h"
#include "base/log.h"
#include "db/changes.h"

anx_status
undo_note(struct undo *undo, uint32_t row, anx_error *err)
{
    struct undo_row *note = anx_arena_array(undo->arena, 1, sizeof(*note));
    struct doc doc = rows_get(undo->ns->rows, row);
    uint8_t *copy;
    anx_status st;

    if (!note)
        return anx_fail(err, ANX_E_NOMEM, "could not note a change");
    note->row = row;
    if (doc.bytes) {
        copy = anx_arena_bytes(undo->arena, doc.size);
        if (!copy)
            return anx_fail(err, ANX_E_NOMEM, "could not note a change");
        memcpy(copy, doc.bytes, doc.size);
        note->doc = (struct doc) { copy, doc.size };
        st = ns_row_vectors(undo->ns, row, undo->arena, &note->vectors, err);
        if (st != ANX_OK)
            return st;
    }
    note->next = undo->last;
    undo->last = note;
    return ANX_OK;
}

static anx_status
restore(struct undo *undo, const struct undo_row *note, anx_error *err)
{
    struct doc_draft draft;
    anx_status st;

    if (!note->doc.bytes) {
        if (rows_get(undo->ns->rows, note->row).bytes)
            ns_remove_rows_locked(undo->ns, &note->row, 1);
        return ANX_OK;
    }
    st = doc_extract(note->doc, &undo->ns->shape, undo->arena, &draft, err);
    if (st != ANX_OK)
        return st;
    for (size_t f = 0; f < draft.n_vectors && f < undo->ns->n_vector_field; f++)
        draft.vectors[f].floats = note->vectors[f].floats;
    return ns_load_row(undo->ns, note->row, &draft, true, undo->arena, err);
}

void
undo_run(struct undo *undo)
{
    anx_error err;

    for (const struct undo_row *note = undo->last; note; note = note->next)
        if (restore(undo, note, &err) != ANX_OK)
            anx_log(ANX_LOG_ERROR, "event=undo_failed row=%u error=\"%s\"", note->row, err.message);
    undo->last = NULL;
    ns_sweep(undo->ns);
}
