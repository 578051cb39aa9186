/* What a row or a query becomes before it meets codes, and what a code distance says about the true one.
 *
 *     struct measure m;
 *     measure_init(&m, &p->space, context);
 *     measure_prepare(&m, &p->space, x);          x: f32 [dim], or packed bits
 *     ... walk with m.code ...
 *     low = measure_low(&m, code, residual);      nothing whose code this is can be nearer
 *
 * Codes are compared as integers: |q^ - c|, with q^ the code of the query. The true distance of a row follows
 * from the triangle inequality: |q - x| >= |q - c| - |c - x|, where |c - x| is the residual stored with the
 * node. And |q - c| is had almost exactly from integers too: what rounding took from the query is kept in
 * 1/254 of a step (`fine`), so |q - c|^2 = |q^ - c|^2 + 2 (q^ - c) fine + fine^2, a dot product of signed and
 * unsigned bytes. What is left after that (`lost`, mostly where the query lies outside the range of codes)
 * is subtracted as well. So the bound holds for any query, and is a few times tighter than the query's own
 * rounding would allow.
 *
 * Why a bound and not an estimate: the executor sorts rows by the operator's exact value as they come and
 * gives one out as soon as no later one can be nearer; a bound above the exact value is an error there.
 *
 * Memory is of the context given; nothing to free. Threads: the backend's own. */
#ifndef ANX_POSTGRES_MEASURE_H
#define ANX_POSTGRES_MEASURE_H

#include "pg_compat.h"

#include "ann/hnsw/space.h"

struct measure {
    const anx_kernels *kernels;
    enum space_kind kind;
    anx_metric metric;
    size_t dim, n; /* components; of a code */
    size_t stride;
    double offset, step; /* value = offset + step * code */
    uint8 *code;         /* [stride], 64-byte aligned: what walks compare with */
    float residual;      /* |x - code|, in the space of codes; 0: the code is the row */
    /* queries only */
    uint8 *fine; /* [stride], aligned, signed: (x - code) in 1/254 of a step */
    double shift; /* sum of code * fine / 254 */
    double rest;  /* sum of (fine / 254)^2 */
    double lost;  /* |x - code - fine|, in the space of codes */
    double slop;  /* what float arithmetic may have added, ours and the operator's */
    float *buffer; /* [turned_dim] */
};

/* Room for one row at a time. */
void measure_init(struct measure *m, const struct space *space, MemoryContext context);
/* The code of a row and its residual. */
void measure_row(struct measure *m, const struct space *space, const void *x);
/* The same, and what measure_low needs. */
void measure_query(struct measure *m, const struct space *space, const void *x);
/* Distances from m->code to n codes; rows anywhere in memory. */
static inline void
measure_codes(const struct measure *m, const uint8 *code, const uint8 *const *codes, size_t n, int32 *out)
{
    if (m->kind == SPACE_BITS)
        m->kernels->code_hamming(code, codes, n, m->stride, out);
    else
        m->kernels->code_l2(code, codes, n, m->stride, out);
}
/* No row of a node with this code and residual has a smaller distance: squared l2, or 1 - cos. Not for bits.
 */
double measure_low(const struct measure *m, const uint8 *code, float residual);
/* The same from the distance that a walk found, without the node's residual (rows have about the query's):
 * less than `share` of what rounding did to both went into the distance. Probably true for share = 4 /
 * sqrt(dim). */
double measure_likely_low(const struct measure *m, int32 dist, double share);

/* n bytes at a multiple of 64. */
static inline void *
measure_aligned(MemoryContext context, Size n)
{
    return (void *) TYPEALIGN(64, MemoryContextAllocHuge(context, n + 64));
}

#endif
