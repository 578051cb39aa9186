/* Rows as they travel become rows of the index: same kind, f16, i8 or bits.
 *
 *     struct row_convert convert = anx_convert_make(element, scalar, dim);
 *     n_good = anx_convert_rows(&convert, n, from, stride, to);
 *
 * The rules are the original's, so that answers agree with an index built there:
 *     f16  rounded to nearest
 *     i8   component * 100, clamped to -100..100, fraction cut off: made for components in -1..1
 *     b1   bit = component > 0, most significant bit of each byte first; spare bits 0
 * Threads: pure. */
#ifndef ANX_INDEXING_CONVERT_H
#define ANX_INDEXING_CONVERT_H

#include "annex/index.h"
#include "kernel/kernel.h"

struct row_convert {
    anx_scalar element, scalar; /* as it travels, as it is stored: equal, or element is f32 */
    size_t dim;
    size_t element_size, row_size; /* bytes of a row before and after */
    const anx_kernels *kernels;
};

struct row_convert anx_convert_make(anx_scalar element, anx_scalar scalar, size_t dim);
/* n rows, `stride` bytes from one to the next, into n rows at `to` without gaps. Returns how many were
 * converted: fewer than n when a row has a component that is no number, or does not fit. Rows that are only
 * copied are not looked at: the index checks them itself. */
size_t anx_convert_rows(const struct row_convert *convert, size_t n, const uint8_t *from, size_t stride,
                        void *to);
/* What is wrong with one row as it travels, for an error message. False: nothing. */
ANX_NODISCARD anx_status anx_convert_check(const struct row_convert *convert, const uint8_t *row,
                                           anx_error *err);

#endif
