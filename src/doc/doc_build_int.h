/* Between the files of the builder, and doc_extract.c. */
#ifndef ANX_DOC_DOC_BUILD_INT_H
#define ANX_DOC_DOC_BUILD_INT_H

#include "doc/doc_build.h"

/* ---- doc_build.c: bytes, without a look at the shape ---- */

ANX_NODISCARD anx_status build_emit(struct doc_builder *builder, const struct value *value, anx_error *err);
ANX_NODISCARD anx_status build_emit_float(struct doc_builder *builder, float real, anx_error *err);
/* The next vector of the field, whose floats are in place already; or a form without floats. */
ANX_NODISCARD anx_status build_emit_vector(struct doc_builder *builder, const struct doc_field *field,
                                           enum doc_vector_form form, anx_error *err);
ANX_NODISCARD anx_status build_open(struct doc_builder *builder, bool is_object,
                                    const struct doc_slice *slice, anx_error *err);
ANX_NODISCARD anx_status build_close(struct doc_builder *builder, anx_error *err);
/* Takes back the innermost container, as if it had not been opened; its name is the next member's again. */
void build_forget(struct doc_builder *builder);

/* ---- doc_build_field.c ---- */

/* What a regular scalar index holds for a document without the field; NULL for a point or a vector. */
struct value field_default(const struct doc_field *field);

/* ---- doc_extract.c ---- */

/* doc_extract with a matcher that has memory already. */
ANX_NODISCARD anx_status doc_extract_with(struct doc_matcher *matcher, struct doc doc,
                                          const struct doc_shape *shape, anx_arena *arena,
                                          struct doc_draft *out, anx_error *err);

#endif
