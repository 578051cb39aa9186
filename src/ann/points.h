/* Rows seen as points of float space: widened, and for cosine brought to length one. What training and
 * assignment read. Threads: pure; everything is borrowed. */
#ifndef ANX_ANN_POINTS_H
#define ANX_ANN_POINTS_H

#include "ann/rows.h"

struct points {
    const struct row_space *space;
    const uint8_t *rows;
    const float *inverse_norms; /* cosine; NULL: computed each time */
    const uint32_t *slots;      /* which rows; NULL: rows 0..n-1 */
    size_t n;
};

/* Point i, [dim]: in the buffer [dim], or in place where the row already is what is wanted. */
const float *points_get(const struct points *points, size_t i, float *buffer);

#endif
