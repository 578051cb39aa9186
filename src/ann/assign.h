/* Which centroid is nearest to each point: the inner loop of k-means and of adding rows to inverted lists.
 *
 *     assigner_init(&a, &coder, centroids, n_centroid, dim, is_l2, alloc, err);
 *     assigner_run(&a, &points, codes, pool, is_exact, out, err);
 *
 * Two engines. On codes: points as signed 8-bit codes times centroids as unsigned ones, with the int8 matrix
 * kernel, which on VNNI does ten times the multiply-adds of f32; the few centroids that rounding cannot tell
 * apart are compared in f32 when `is_exact`. On floats: a matrix product by BLAS, or by our own row kernels
 * when there is none. Codes are taken where the kernels have VNNI, floats elsewhere and when
 * RX_CUSTOM_BLAS_LIB_NAME asks for a library. Threads: immutable after init. */
#ifndef ANX_ANN_ASSIGN_H
#define ANX_ANN_ASSIGN_H

#include "ann/coder.h"
#include "ann/points.h"
#include "base/thread.h"

struct assigner {
    const struct coder *coder; /* borrowed */
    const anx_kernels *kernels;
    const anx_alloc *alloc;
    const float *centroids; /* [n * dim], borrowed */
    size_t n, dim;
    bool is_l2;        /* else the largest dot product wins */
    bool uses_codes;
    uint8_t *codes;    /* codes engine: [n * stride], owned, 64-byte aligned */
    int32_t *bases;    /* codes engine: [n], owned; key = base - 2 * dot */
    float *half_norms; /* [n], owned; f32 key = half norm - dot; 0 unless l2 */
    int32_t margin;    /* codes engine: keys closer than this may be in the wrong order */
};

ANX_NODISCARD anx_status assigner_init(struct assigner *assigner, const struct coder *coder,
                                       const float *centroids, size_t n, bool is_l2, const anx_alloc *alloc,
                                       anx_error *err);
void assigner_fini(struct assigner *assigner);
/* out[i] = nearest centroid of point i. codes: from assigner_encode, or NULL. pool NULL: this thread.
 * ANX_E_NOMEM. */
ANX_NODISCARD anx_status assigner_run(const struct assigner *assigner, const struct points *points,
                                      const int8_t *codes, anx_pool *pool, bool is_exact, uint32_t *out,
                                      anx_error *err);
/* Does this process assign on codes? */
bool assigner_prefers_codes(const struct coder *coder);
/* Signed codes of all points [n * stride], 64-byte aligned, for repeated runs. */
void assigner_encode(const struct coder *coder, const struct points *points, size_t begin, size_t end,
                     float *work, int8_t *out);

#endif
