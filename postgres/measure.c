/* See measure.h. */
#include "measure.h"

#include <float.h>
#include <math.h>

#define FINE 254.0 /* a step in units of fine: half a step is 127 */
/* Of float sums over n terms, relative to the sum of their magnitudes: the worst case of one running sum. */
#define ROUNDING(n) (1e-6 + 6e-8 * (double) (n))

void
measure_init(struct measure *m, const struct space *space, MemoryContext context)
{
    *m = (struct measure){ .kernels = space->kernels, .kind = space->kind, .metric = space->metric,
                           .dim = space->dim, .stride = space->stride };
    m->n = space->kind == SPACE_ROTATED ? space->turned_dim : space->dim;
    m->offset = space->kind == SPACE_ROTATED ? space->offset : 0.0;
    m->step = space->kind == SPACE_ROTATED ? space->step : 1.0;
    m->code = measure_aligned(context, m->stride);
    if (space->kind == SPACE_BITS)
        return;
    m->fine = measure_aligned(context, m->stride);
    m->buffer = MemoryContextAlloc(context, m->n * sizeof(*m->buffer));
}

/* The numbers that the code stands for. */
static const float *
encode(struct measure *m, const struct space *space, const void *x)
{
    (void) space_encode(space, x, m->code, m->buffer);
    return space->kind == SPACE_ROTATED ? m->buffer : x;
}

void
measure_row(struct measure *m, const struct space *space, const void *x)
{
    (void) encode(m, space, x);
    m->residual = space_residual(space, x, m->code, m->buffer);
}

void
measure_query(struct measure *m, const struct space *space, const void *x)
{
    const float *numbers = encode(m, space, x);
    int8 *fine = (int8 *) m->fine;
    double norm2 = 0, lost2 = 0;
    int64 shift = 0, rest = 0;

    m->residual = space_residual(space, x, m->code, m->buffer);
    if (m->kind == SPACE_BITS)
        return;
    memset(fine, 0, m->stride);
    for (size_t i = 0; i < m->n; i++) {
        double gap = ((double) numbers[i] - m->offset) / m->step - m->code[i];
        double scaled = gap * FINE;
        int f = scaled > 127 ? 127 : scaled < -127 ? -127 : (int) lrint(scaled);
        double left = gap - f / FINE;

        fine[i] = (int8) f;
        shift += (int64) m->code[i] * f;
        rest += (int64) f * f;
        lost2 += left * left;
        norm2 += (double) numbers[i] * numbers[i];
    }
    m->shift = (double) shift / FINE;
    m->rest = (double) rest / (FINE * FINE);
    m->lost = m->step * sqrt(lost2);
    m->slop = sqrt(norm2) * 4e-6;
}

/* What the operator gives for a distance in the space of codes, or a little less. */
static double
value_of(const struct measure *m, double d)
{
    if (!(d > 0)) /* also when the numbers were too large to be told apart */
        d = 0;
    if (m->metric == ANX_METRIC_COSINE)
        return d * d / 2 - ROUNDING(m->dim);
    d = d * d * (1 - ROUNDING(m->dim));
    return d < FLT_MAX ? d : FLT_MAX;
}

double
measure_low(const struct measure *m, const uint8 *code, float residual)
{
    int32 l2, dot;
    double square, d;

    m->kernels->code_l2(m->code, &code, 1, m->stride, &l2);
    m->kernels->code_dot((const int8 *) m->fine, &code, 1, m->stride, &dot);
    square = l2 + 2 * (m->shift - dot / FINE) + m->rest;
    d = square > 0 ? m->step * sqrt(square) : 0.0;
    return value_of(m, d * (1 - 4e-6) - m->lost - residual - m->slop);
}

double
measure_likely_low(const struct measure *m, int32 dist, double share)
{
    double residual = m->residual, square = m->step * m->step * dist - 2 * residual * residual;

    /* Rounding adds to the square what it took from both, plus or minus what lies along the way between them.
     */
    return value_of(m, (square > 0 ? sqrt(square) : 0) - 2 * share * residual);
}
