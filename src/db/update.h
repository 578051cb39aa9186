/* The new version of a document under the SET and DROP of an UPDATE. */
#ifndef ANX_DB_UPDATE_H
#define ANX_DB_UPDATE_H

#include "db/data.h"

struct update_context {
    struct ns *ns;
    struct store_batch *batch; /* counters of serial() */
    anx_arena *arena;
};
/* Changes are made in order: an expression sees what the ones before it set. write_lock held. doc and vectors
 * [by vector field] are the document as it is. ANX_E_PARAMS, ANX_E_LOGIC with the texts clients know. */
ANX_NODISCARD anx_status update_document(const struct update_context *context, const struct query *query,
                                         struct doc doc, const struct doc_vectors *vectors,
                                         struct doc_draft *out, anx_error *err);

/* What an expression gives: one scalar, or the elements of an array. n 0 without is_array: nothing. */
struct operand {
    struct values values;
    bool is_array;
};
/* target: the field that is set, for serial(). */
ANX_NODISCARD anx_status update_evaluate(const struct update_context *context,
                                         const struct expression *expression, anx_text target, struct doc doc,
                                         struct operand *out, anx_error *err);

#endif
