/* A matrix product from a BLAS library found at run time.
 *
 * Searched in this order: libopenblas-pthread.so, libopenblasp.so, libopenblasp.so.0, libopenblas.so,
 * libopenblas.so.0, libblas.so, libblas.so.3, libflexiblas.so. RX_CUSTOM_BLAS_LIB_NAME replaces the list by
 * one name. No LAPACK routine is used; a library named by RX_CUSTOM_LAPACK_LIB_NAME is only tried, and a
 * warning says when it cannot be loaded. Nothing found is not an error: callers have kernels of their own.
 * Threads: any. */
#ifndef ANX_ANN_BLAS_H
#define ANX_ANN_BLAS_H

#include <stdbool.h>
#include <stddef.h>

/* Loaded at the first call and kept. */
bool blas_is_available(void);
/* The name it was loaded by, NULL when there is none. */
const char *blas_name(void);
/* Has the user named a library? */
bool blas_is_forced(void);
/* out[i * out_stride + j] = a[i] . b[j]; rows of a and b are dim floats apart. */
void blas_dot_rows(const float *a, size_t na, const float *b, size_t nb, size_t dim, float *out,
                   size_t out_stride);
/* Around a group of products made by several threads of ours: the library's own threads stay out of the way.
 */
void blas_begin(void);
void blas_end(void);

#endif
