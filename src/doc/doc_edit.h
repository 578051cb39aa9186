/* A document as a tree that can be changed, between its bytes and the builder. Private to the doc room.
 * Everything is in the arena; texts are borrowed from the document or the arena. */
#ifndef ANX_DOC_DOC_EDIT_H
#define ANX_DOC_DOC_EDIT_H

#include "doc/doc_build.h"
#include "doc/json.h"

struct edit {
    enum doc_kind kind; /* DOC_VECTOR: floats */
    uint32_t tag;
    bool is_float;
    struct value value;
    struct edit *first, *last, *next; /* children of arrays and objects */
    const float *floats;
    uint32_t n_float; /* 0: an empty vector, or what form says */
    enum doc_vector_form form;
};

/* The tree of a document. vectors: its vectors by vector_field, as many as `shape` has; may be NULL for none.
 * ANX_E_NOMEM, ANX_E_CORRUPT (a vector that is not there). */
ANX_NODISCARD anx_status edit_read(struct doc doc, const struct doc_vectors *vectors,
                                   const struct doc_shape *shape, anx_arena *arena, struct edit **out,
                                   anx_error *err);
/* The tree of a JSON value; new names enter the dictionary. */
ANX_NODISCARD anx_status edit_read_json(const struct json_node *json, struct doc_names *names,
                                        anx_arena *arena, struct edit **out, anx_error *err);
/* NULL when out of memory. */
struct edit *edit_create(anx_arena *arena, enum doc_kind kind, uint32_t tag);
struct edit *edit_create_value(anx_arena *arena, const struct value *value);
void edit_append(struct edit *parent, struct edit *child);
struct edit *edit_member(const struct edit *object, uint32_t tag); /* NULL when absent */
struct edit *edit_element(const struct edit *array, uint32_t at);  /* NULL when absent */
void edit_remove(struct edit *parent, struct edit *child);
/* Puts the content of `from` into the place of `node`, which keeps its name. */
void edit_replace(struct edit *node, const struct edit *from);
/* The members of the root, as events. */
ANX_NODISCARD anx_status edit_build(const struct edit *root, struct doc_builder *builder, anx_error *err);
/* The same, and the builder's result. */
ANX_NODISCARD anx_status edit_finish(const struct edit *root, struct doc_builder *builder,
                                     struct doc_draft *out, anx_error *err);

#endif
