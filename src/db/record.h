/* The bytes of a stored document: a head, the document, and per vector field that has any the vectors. The
 * layout is in README.md; it says everything that is needed to read it back except names and types.
 *
 *     offset 0  1  version, 1
 *
 *            1  1  0
 *
 *            2  2  number of vector fields that follow
 *
 *            4  4  size of the document
 *
 *            8     the document
 *
 *     then per vector field: 2 field, 2 zero, 4 number of vectors, 4 dimension, and the floats.
 *
 * Pure functions. */
#ifndef ANX_DB_RECORD_H
#define ANX_DB_RECORD_H

#include "doc/doc.h"

enum { RECORD_HEAD_SIZE = 8, RECORD_FIELD_SIZE = 12, RECORD_FIELDS_MAX = 255, RECORD_VERSION = 1 };

struct record_writer {
    uint8_t heads[RECORD_HEAD_SIZE + RECORD_FIELDS_MAX * RECORD_FIELD_SIZE];
    anx_text parts[2 + 2 * RECORD_FIELDS_MAX];
    size_t n_part;
};
/* The parts of a record, in order; they point into the writer, the document and the vectors. */
void record_write(struct record_writer *writer, struct doc doc, const struct doc_vectors *vectors, size_t n);

/* Takes a record apart. vectors [n], by field: n, dim and where the floats are, not aligned for floats;
 * fields that the record does not have get n 0. ANX_E_CORRUPT, ANX_E_VERSION. */
struct record_vectors {
    const uint8_t *floats;
    uint32_t n, dim;
};
ANX_NODISCARD anx_status record_read(anx_text record, struct doc *doc, struct record_vectors *vectors,
                                     size_t n, anx_error *err);
/* Where one vector of a record is, without looking at the rest; NULL when it has none of that dimension. */
const uint8_t *record_vector(anx_text record, uint32_t field, uint32_t position, uint32_t dim);

#endif
