/* The code space of a graph: how rows become the compact codes that searches walk on.
 *
 * Every metric is turned into squared l2 (or hamming) between codes, so that one kernel, one pruning rule and
 * one bulk build serve all of them:
 *
 *     l2       as it is
 *
 *     cosine   rows are normalized first; then |a-b|^2 = 2 - 2 cos
 *
 *     ip       rows get one more component sqrt(M^2 - |x|^2), M the longest row; then l2 order is ip order
 *              for any query (Bachrach et al., RecSys 2014); the query's extra component is 0
 *
 * Three kinds of code:
 *
 *     LOSSLESS l2 over rows of integers 0..255: the row itself. Code distances are the answer when the query
 *              is such a row too; rows are not kept.
 *
 *     ROTATED  rows are centred, turned by a random orthogonal map (signs and Walsh-Hadamard blocks, twice),
 *              which gives every component about the same spread, then rounded to 8 bits with one step.
 *
 *     BITS     packed bits, hamming.
 *
 * Immutable after space_fit; any number of threads. */
#ifndef ANX_ANN_HNSW_SPACE_H
#define ANX_ANN_HNSW_SPACE_H

#include "ann/ann_int.h"

enum space_kind { SPACE_LOSSLESS, SPACE_ROTATED, SPACE_BITS };

struct space {
    enum space_kind kind;
    anx_metric metric;
    anx_scalar scalar;
    const anx_kernels *kernels;
    const anx_alloc *alloc;
    size_t dim;
    size_t turned_dim;   /* dim, plus one for ip */
    size_t stride;       /* bytes of a code, multiple of 64 */
    float *mean;         /* [turned_dim], owned; ROTATED */
    float *signs[2];     /* [turned_dim] of +1/-1, owned; ROTATED */
    float offset, step;  /* value = offset + step * code */
    float max_norm2;     /* ip: M^2 */
    float lift_fallback; /* 0: a row longer than M gets no extra component */
};

/* A query made ready: what the walk's kernel compares codes with. Buffers are the caller's. */
struct space_query {
    uint8_t *code; /* [stride], 64-byte aligned: u8 code, or s8 weights when is_dot */
    float *buffer; /* [turned_dim] scratch */
    bool is_dot;
    bool is_exact;   /* code distances are the answer: exact codes, and a query that they can express */
    float unit;      /* ROTATED: by how much the distance grows, about, when the code distance grows by 1 */
};

/* An unfitted space; lossless when that is still possible for the element kind and metric, else ROTATED or
 * BITS without scale. On failure nothing is owned. */
anx_status space_init(struct space *space, const anx_index_params *params, const anx_kernels *kernels,
                      bool lossless, anx_error *err);
void space_fini(struct space *space);
/* Bytes of codes for these parameters. */
size_t space_stride(const anx_index_params *params);

/* Chooses mean, step and M from n sample rows. row(context, i) gives row i in the element kind. quantile 0:
 * the wide range that suits codes which are reranked. */
anx_status space_fit(struct space *space, size_t n, const void *(*row)(const void *context, size_t i),
                     const void *context, float quantile, anx_error *err);

/* Are all components integers 0..255? (What LOSSLESS needs.) */
bool space_row_is_bytes(const struct space *space, const void *row);
/* Encodes one row; buffer [turned_dim]. Returns how many components were clipped to the ends of the range. */
size_t space_encode(const struct space *space, const void *row, uint8_t *code, float *buffer);
/* How far the row that was encoded last with this buffer is from its code, in the space of codes (after
 * normalization and lift); rounded up, so that no row is farther. 0 for BITS, and for LOSSLESS when the row
 * is bytes. */
float space_residual(const struct space *space, const void *row, const uint8_t *code, const float *buffer);
/* The row that a code stands for, in the element kind; exact for LOSSLESS and BITS. buffer [turned_dim]. */
void space_decode(const struct space *space, const uint8_t *code, void *row, float *buffer);
/* Makes a query ready. */
void space_query(const struct space *space, const void *query, struct space_query *out);

/* Do codes stand for their rows exactly? (Then rows need not be kept.) */
static inline bool
space_is_exact(const struct space *space)
{
    return space->kind != SPACE_ROTATED;
}

/* Element kind to float, n components; bits are not converted. */
void space_widen(const struct space *space, const void *row, float *out);

#endif
