/* 8-bit codes of points: one byte per component, each component with its own middle and step.
 *
 *     decoded[t] = mid[t] + step[t] * (code[t] - 128)
 *
 * mid and step come from the range of each component in a sample; values outside are clamped. Data that are
 * integers of one byte get step 1 (is_unit): then codes are lossless. The middle is taken out so that a code,
 * less 128, fits a signed byte and a query's weights are small. Threads: immutable after fit or load. */
#ifndef ANX_ANN_CODER_H
#define ANX_ANN_CODER_H

#include "annex/alloc.h"
#include "ann/points.h"

struct coder {
    const anx_kernels *kernels;
    const anx_alloc *alloc;
    size_t dim;
    size_t stride;      /* bytes of a code: dim rounded up to 64; padding is 128, which decodes to nothing */
    bool is_unit;       /* every step is 1, every mid the same integer */
    float *mid;         /* [dim], owned */
    float *step;        /* [dim], owned, >= 0 */
    float *inverse_step; /* [dim], owned; 0 where step is */
};

#define CODE_ALIGN 64
#define CODE_ZERO 128 /* the code of the middle */

/* A query against codes. key(i) orders rows as the metric does; distance = constant + scale * key. */
struct code_query {
    int8_t *weights; /* [stride], 64-byte aligned; the caller's */
    float scale;     /* of the weights: component products are scale * weight */
    float constant;  /* of the part of a distance that no row changes */
    int32_t sum;     /* of the weights: codes are offset by 128 */
    int32_t norm;    /* is_exact: squared length of the weights */
    bool is_exact;   /* unit coder, integer query: l2 in integers is the true distance (of lossless rows) */
};

/* Fits to the points. ANX_E_NOMEM. */
ANX_NODISCARD anx_status coder_fit(struct coder *coder, const struct points *points, const anx_alloc *alloc,
                                   anx_error *err);
/* Arrays for `load`: the caller then fills mid and step and calls coder_settle. */
ANX_NODISCARD anx_status coder_allocate(struct coder *coder, const anx_kernels *kernels, size_t dim,
                                        const anx_alloc *alloc, anx_error *err);
/* Derives the rest from mid and step; false when they are not what fit could have made. */
bool coder_settle(struct coder *coder);
void coder_fini(struct coder *coder);

/* code [stride]; work [dim] may not be x. Returns true when decoding gives x back. */
bool coder_encode(const struct coder *coder, const float *x, float *work, uint8_t *code);
/* Squared length of the decoded point less the middle: integer for a unit coder, else the bits of a float. */
int32_t coder_base(const struct coder *coder, const uint8_t *code, float *work);

/* Prepares a query for squared l2, or for minus the dot product. work [dim]. */
void coder_query(const struct coder *coder, bool is_l2, const float *q, float *work, struct code_query *out);
/* Turns n dot products (code_dot of weights and codes) into keys, in place; bases [n] as coder_base gave them
 * (l2). Keys of exact l2 are the distances; other l2 keys are bits of non-negative floats, ordered as
 * integers are. */
void coder_keys(const struct coder *coder, const struct code_query *query, bool is_l2, const int32_t *bases,
                size_t n, int32_t *dots);

#endif
