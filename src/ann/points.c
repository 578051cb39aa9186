/* Rows seen as points of float space. */
#include "ann/points.h"

const float *
points_get(const struct points *points, size_t i, float *buffer)
{
    const struct row_space *space = points->space;
    size_t at = points->slots ? points->slots[i] : i;
    const uint8_t *row = points->rows + at * space->row_size;
    float scale;

    if (space->scalar == ANX_SCALAR_F32 && space->metric != ANX_METRIC_COSINE)
        return (const float *) (const void *) row;
    row_widen(space, row, buffer);
    if (space->metric != ANX_METRIC_COSINE)
        return buffer;
    scale = points->inverse_norms ? points->inverse_norms[at] : row_inverse_norm(space, row);
    for (size_t t = 0; t < space->dim; t++)
        buffer[t] *= scale;
    return buffer;
}
