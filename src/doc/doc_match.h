/* Which fields of a shape a place in a document belongs to, kept while walking down and up. Private to the
 * doc room.
 *
 * A slice is a run of places of fields on the matcher's stack; `step` names of their paths are behind them. A
 * field whose path has exactly `step` names ends here. Arrays consume no name. */
#ifndef ANX_DOC_DOC_MATCH_H
#define ANX_DOC_DOC_MATCH_H

#include "annex/alloc.h"
#include "doc/doc.h"

struct doc_slice {
    uint32_t first, n; /* in matcher->fields */
    uint32_t step;
};
struct doc_matcher {
    const anx_alloc *alloc;
    const struct doc_field *shape_fields; /* borrowed */
    uint32_t *fields;                     /* owned: places in shape_fields */
    size_t capacity;
};

#ifdef __cplusplus
extern "C" {
#endif

/* How many vector fields a shape has: one more than the largest vector_field. */
size_t shape_vector_fields(const struct doc_shape *shape);

void match_init(struct doc_matcher *matcher, const anx_alloc *alloc);
void match_fini(struct doc_matcher *matcher);
/* Starts a walk; *root has every field. ANX_E_NOMEM. */
ANX_NODISCARD anx_status match_begin(struct doc_matcher *matcher, const struct doc_shape *shape,
                                     struct doc_slice *root, anx_error *err);
/* Below a member of that name. The slices made after `parent` are forgotten. */
struct doc_slice match_member(struct doc_matcher *matcher, const struct doc_slice *parent, uint32_t tag);

#ifdef __cplusplus
}
#endif

static inline const struct doc_field *
match_field(const struct doc_matcher *matcher, const struct doc_slice *slice, uint32_t i)
{
    return &matcher->shape_fields[matcher->fields[slice->first + i]];
}
static inline bool
match_ends(const struct doc_field *field, const struct doc_slice *slice)
{
    return field->path.n == slice->step;
}

#endif
