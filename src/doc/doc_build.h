/* Makes documents from a stream of events, under a shape: values on indexed paths are converted and checked,
 * vectors are taken out. Every source of documents (JSON, stored documents, updates) speaks these events.
 * Private to the doc room.
 *
 *     build_init(&builder, NULL);
 *     build_begin(&builder, names, shape, arena, "json", err);      the root object is open now
 *     build_key(&builder, ANX_TEXT("id"), err);
 *     build_value(&builder, &(struct value) { .type = VALUE_INT, .integer = 1 }, err);
 *     build_finish(&builder, &draft, err);
 *     build_fini(&builder);
 *
 * An error ends the document; build_begin starts the next one. Threads: one at a time. */
#ifndef ANX_DOC_DOC_BUILD_H
#define ANX_DOC_DOC_BUILD_H

#include "doc/doc.h"
#include "doc/doc_match.h"

#ifdef __cplusplus
extern "C" {
#endif

struct build_frame {
    size_t start;         /* of the container: its head byte */
    size_t size_at;       /* of its size */
    struct doc_slice slice; /* fields whose paths lead to the container (array) or into it (object) */
    uint32_t n_child;
    uint32_t n_float;     /* components of the vector that this array is */
    uint32_t tag;         /* of the container itself */
    uint8_t is_object;
    uint8_t uniform;      /* array: the stored kind of every element so far, STORED_KIND_COUNT when mixed */
    uint8_t in_array;     /* an array encloses this container or is it */
    uint8_t vector_form;  /* enum vector_form */
    const struct doc_field *vector; /* array in the place of vectors of this field, or NULL */
};
enum vector_form { FORM_UNKNOWN, FORM_FLAT, FORM_NESTED };

struct doc_builder {
    const anx_alloc *alloc;
    struct doc_names *names;       /* borrowed, as the next two */
    const struct doc_shape *shape;
    anx_arena *arena;
    const char *format;            /* "json" or "cjson": in error texts */
    bool converts;                 /* texts and numbers become what a regular index has, as in UPDATE */
    uint8_t *bytes;                /* owned */
    size_t size, capacity;
    struct doc_matcher matcher;
    uint8_t *seen;                 /* owned [capacity_seen]: a scalar field has its value */
    size_t capacity_seen;
    struct doc_vectors *vectors;   /* in the arena [n_vector_field] */
    uint32_t *vector_room;         /* in the arena: vectors that fit into floats */
    size_t n_vector_field;
    uint32_t tag;                  /* of the next member */
    struct doc_slice here;         /* fields whose paths lead to the next value */
    int depth;                     /* of the innermost frame */
    struct build_frame frames[DOC_DEPTH_MAX + 1];
};

void build_init(struct doc_builder *builder, const anx_alloc *alloc);
void build_fini(struct doc_builder *builder);
/* One of its own, which is too large for a stack. NULL when out of memory. */
struct doc_builder *build_create(const anx_alloc *alloc);
void build_destroy(struct doc_builder *builder); /* NULL is fine */
ANX_NODISCARD anx_status build_begin(struct doc_builder *builder, struct doc_names *names,
                                     const struct doc_shape *shape, anx_arena *arena, const char *format,
                                     anx_error *err);
/* The name of the next member; build_tag for a name that is known. */
ANX_NODISCARD anx_status build_key(struct doc_builder *builder, anx_text key, anx_error *err);
void build_tag(struct doc_builder *builder, uint32_t tag);
/* A scalar, also NULL. */
ANX_NODISCARD anx_status build_value(struct doc_builder *builder, const struct value *value, anx_error *err);
/* A number that was a vector's component: prints in single precision where nothing converts it. */
ANX_NODISCARD anx_status build_float(struct doc_builder *builder, float real, anx_error *err);
ANX_NODISCARD anx_status build_begin_array(struct doc_builder *builder, anx_error *err);
ANX_NODISCARD anx_status build_begin_object(struct doc_builder *builder, anx_error *err);
ANX_NODISCARD anx_status build_end(struct doc_builder *builder, anx_error *err);
/* A vector of n components, 0: an empty one. Where the shape has no vector, it becomes an array of numbers.
 */
ANX_NODISCARD anx_status build_vector(struct doc_builder *builder, const float *floats, uint32_t n,
                                      anx_error *err);
/* Everything is in the arena; the builder can be used again. */
ANX_NODISCARD anx_status build_finish(struct doc_builder *builder, struct doc_draft *out, anx_error *err);

/* A short cut for long vectors, behind build_begin_array and before the first element: room for
 * vector_dim components if a vector may stand here, else NULL. The source writes the components there and
 * says how many there were (also those beyond vector_dim, which it only counts). */
float *build_vector_room(struct doc_builder *builder, anx_error *err, anx_status *status);
static inline uint32_t
build_vector_dim(const struct doc_builder *builder)
{
    return builder->frames[builder->depth].vector->dim;
}
static inline void
build_vector_count(struct doc_builder *builder, uint32_t n)
{
    builder->frames[builder->depth].n_float = n;
    builder->frames[builder->depth].vector_form = FORM_FLAT;
}
/* "Error parsing json field 'v' - got value of unexpected type in float_vector: STRING". */
anx_status build_fail_component(const struct doc_builder *builder, const char *type, anx_error *err);

#ifdef __cplusplus
}
#endif
#endif
