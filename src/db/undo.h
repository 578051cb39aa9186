/* What rows were before a change, so that a commit that fails in the middle leaves nothing behind.
 * Threads: the holder of both locks. */
#ifndef ANX_DB_UNDO_H
#define ANX_DB_UNDO_H

#include "db/data.h"

struct undo_row {
    uint32_t row;
    struct doc doc; /* bytes NULL: there was none */
    struct doc_vectors *vectors;
    struct undo_row *next; /* the change before */
};
struct undo {
    struct ns *ns;
    anx_arena *arena;
    struct undo_row *last;
};
/* To be called before the row is changed. ANX_E_NOMEM. */
ANX_NODISCARD anx_status undo_note(struct undo *undo, uint32_t row, anx_error *err);
/* Everything back to what it was, latest change first. */
void undo_run(struct undo *undo);

#endif
