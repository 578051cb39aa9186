/* Vector files as the field passes them around: .npy (versions 1 to 3; f32, f64, f16, u8, i8, i32, i64; two
 * dimensions, C order, little endian) and .fvecs/.bvecs/.ivecs. The format is found by the content for .npy
 * and by the name's end for the others.
 *
 *     struct dataset data;
 *     if (dataset_open("base.npy", &data, &err) != ANX_OK) ...
 *     dataset_read(&data, ANX_SCALAR_F32, 0, data.rows, floats, &err);
 *     dataset_close(&data);
 *
 * Files are mapped, not read; bytes are input: head, shape and every row's length are checked against the
 * file's size, and nothing is allocated by what a file says. A file that another process cuts short meanwhile
 * ends the program (SIGBUS). Threads: any number of readers of an open dataset. */
#ifndef ANX_CLI_DATASET_H
#define ANX_CLI_DATASET_H

#include <stdint.h>

#include "annex/index.h"

enum dataset_type {
    DATASET_F32,
    DATASET_F64,
    DATASET_F16,
    DATASET_U8,
    DATASET_I8,
    DATASET_I32,
    DATASET_I64,
    DATASET_TYPE_COUNT
};
enum dataset_format { DATASET_NPY, DATASET_FVECS, DATASET_BVECS, DATASET_IVECS };

struct dataset {
    const uint8_t *data; /* first component of row 0; may be unaligned */
    size_t rows, dim;    /* dim: numbers in a row */
    size_t stride;       /* bytes from row to row */
    enum dataset_type type;
    void *map; /* owned: the mapping; NULL after dataset_parse */
    size_t map_size;
};

/* Errors: ANX_E_IO, ANX_E_CORRUPT (damaged or cut), ANX_E_UNSUPPORTED (element kind, shape or order we do not
 * read). On failure *out is all zero. */
ANX_NODISCARD anx_status dataset_open(const char *path, struct dataset *out, anx_error *err);
/* The same from bytes in memory, borrowed until the dataset is no longer used. */
ANX_NODISCARD anx_status dataset_parse(const void *bytes, size_t size, enum dataset_format format,
                                       struct dataset *out, anx_error *err);
void dataset_close(struct dataset *data); /* an all-zero dataset is fine */

const char *dataset_type_name(enum dataset_type type); /* "f32", ... */

/* Rows first..first+n as index rows of `scalar`: out[n * anx_row_size(scalar, dataset_dim(data, scalar))].
 * To f32 and f16 everything is converted. To i8 and u8 only values that fit exactly (ANX_E_VALUE names the
 * first that does not). To b1 u8 rows are taken as packed bits, anything else gives bit 1 where the number is
 * above 0. Errors also: ANX_E_INVALID when the rows are outside of the file. */
ANX_NODISCARD anx_status dataset_read(const struct dataset *data, enum anx_scalar scalar, size_t first,
                                      size_t n, void *out, anx_error *err);
/* Dimensions of an index over these rows: data->dim, but 8 times that for packed bits. */
size_t dataset_dim(const struct dataset *data, enum anx_scalar scalar);
/* The element kind that keeps the file's rows as they are: f32 (also for f64 and the integers wider than a
 * byte), f16, u8, i8. */
enum anx_scalar dataset_scalar(const struct dataset *data);
/* One number of an integer dataset (true for types u8 to i64; false and 0 for others and outside of the
 * file). */
bool dataset_integer(const struct dataset *data, size_t row, size_t column, int64_t *out);

#endif
