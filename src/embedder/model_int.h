/* Inside of models, shared by their parts. */
#ifndef ANX_EMBEDDER_MODEL_INT_H
#define ANX_EMBEDDER_MODEL_INT_H

#include "embedder/model.h"

/* Immutable once open. Vectors are floats, or codes with a scale for each row. */
struct model {
    size_t n;
    uint32_t dim;
    const char *terms;      /* all of them, one behind the other */
    const uint8_t *offsets; /* [n + 1] of offset_size bytes, little-endian */
    size_t offset_size;     /* 4 or 8 */
    const uint8_t *rows;    /* [n] of 4 bytes: the row of each term's vector; NULL: term i has row i */
    size_t n_row;
    const float *vectors;  /* [n_row * dim], or NULL: */
    const int8_t *codes;   /* [n_row * dim] */
    const uint8_t *scales; /* [n_row] floats: a component is code * scale */
    uint32_t *table;       /* owned [n_table]: term, or the empty mark */
    size_t n_table;
    void *map; /* owned mapping, or NULL */
    size_t map_size;
    char *own_terms; /* owned; NULL when terms are borrowed, as the next two */
    uint8_t *own_offsets;
    float *own_vectors;
};

anx_status model_no_memory(anx_error *err);
/* Makes the table; call when terms and offsets are there. ANX_E_NOMEM. */
ANX_NODISCARD anx_status model_index_terms(struct model *model, anx_error *err);
/* out [dim] += weight * the vector of a term. */
void model_add_vector(const struct model *model, size_t term, float weight, float *out);

/* The compact forms (compact.c). */
bool compact_is(const void *bytes, size_t size);
ANX_NODISCARD anx_status compact_parse(const uint8_t *bytes, size_t size, struct model **out, anx_error *err);

#endif
