/* The two directions in which a set of points spreads most (principal component analysis), for drawing
 * vectors on a plane.
 *
 *     pca_fit(rows, n, dim, seed, should_stop, context, &pca, &err);
 *     pca_project(&pca, row, xy);
 *     pca_fini(&pca);
 *
 * Block power iteration (Rutishauser's simultaneous iteration, Numer. Math. 13, 1969) on six directions,
 * which works on the rows themselves: no covariance matrix, which for 65,536 components would have 34 GB. The
 * same rows in the same order and the same seed give the same axes on a machine; each axis points to where
 * its component of largest size is positive. Axes of equal spread are one plane, of which any two directions
 * are as good; which two is decided by the seed. Threads: pure computation on borrowed memory. */
#ifndef ANX_ANN_PCA_H
#define ANX_ANN_PCA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/status.h"

struct pca {
    size_t dim;
    float shrink;        /* rows are multiplied by it first, so that no square leaves the range of float */
    float *mean;         /* [dim], owned; of the rows after that */
    float *axes;         /* [2 * dim], owned; each of length one, or all zero: there is no such spread */
    double explained[2]; /* shares of all spread, 0..1, the larger first */
};

/* rows [n * dim], finite; they are shifted and scaled in place. n >= 1, dim >= 1. should_stop may be NULL; it
 * is asked once per pass over the rows. ANX_E_NOMEM, ANX_E_CANCELLED; then *out holds nothing. */
ANX_NODISCARD anx_status pca_fit(float *rows, size_t n, size_t dim, uint64_t seed,
                                 bool (*should_stop)(void *), void *context, struct pca *out, anx_error *err);
/* Where a row lies on the plane, the centre at 0; row [dim], not changed. */
void pca_project(const struct pca *pca, const float *row, double xy[2]);
void pca_fini(struct pca *pca);

#endif
