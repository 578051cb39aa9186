/* A static embedding model: a vector for each term. A text becomes the weighted sum of the vectors of its
 * terms, normalized to length 1; a text without a known term becomes zeros.
 *
 * Terms of a text are runs of letters, digits, + and characters beyond ASCII, case-folded. A run that the
 * model does not know is tried as it was written, and without the digits it begins with; single ASCII
 * characters are no terms. A term that occurs n times counts 1 + ln n times (or, by its rank in the file, as
 * a/(a + p) of that, p being the share of all words that Zipf's law gives a word of that rank; Arora, Liang,
 * Ma, A simple but tough-to-beat baseline for sentence embeddings, 2017).
 *
 * Files:
 *
 *     .vec      text: an optional first line "terms dimension", then lines "term number number ..."
 * (word2vec, GloVe, fastText). A line with another number of components ends the reading with an error.
 *
 *     compact   what model_write makes: mapped, not read; little-endian. "ANXTERM1", then 8 bytes each: terms
 *               n, dimension, bytes of terms, sum of all before the zeros but itself; n + 1 offsets of 8
 *               bytes; the terms; zeros up to a multiple of 64; n * dimension floats.
 *
 *     i8        the same in an eighth to a quarter of the space: "ANXTERM2", the same four numbers, then the
 *               number of rows; n + 1 offsets of 4 bytes; the row of each term's vector, 4 bytes (terms with
 *               the same vector share one); the terms; zeros up to a multiple of 64; a float for each row,
 *               its scale; rows * dimension signed bytes, each a component divided by the scale.
 *
 * Threads: a model may be used by any number at once. */
#ifndef ANX_EMBEDDER_MODEL_H
#define ANX_EMBEDDER_MODEL_H

#include <stdint.h>

#include "annex/status.h"
#include "base/text.h"

struct model;

enum { MODEL_DIM_MAX = 65535, MODEL_TERM_MAX = 1024 };
#define MODEL_TERMS_MAX ((size_t) 1 << 30)

enum model_weights { MODEL_TF, MODEL_ZIPF };
enum model_form { MODEL_F32, MODEL_I8, MODEL_FORMS };

/* Finds the format by content. ANX_E_IO, ANX_E_CORRUPT (says where), ANX_E_LIMIT, ANX_E_NOMEM. */
ANX_NODISCARD anx_status model_open(const char *path, struct model **out, anx_error *err);
/* The same from bytes, borrowed until the model is closed when they are of the compact form. */
ANX_NODISCARD anx_status model_parse(const void *bytes, size_t size, struct model **out, anx_error *err);
/* From a list of terms, one a line, and their vectors [n * dim], which are copied. */
ANX_NODISCARD anx_status model_from_rows(anx_text terms, const float *rows, size_t n, size_t dim,
                                         struct model **out, anx_error *err);
void model_close(struct model *model); /* NULL is fine */
/* A compact file. ANX_E_IO, ANX_E_LIMIT, ANX_E_NOMEM. It appears whole or not at all. MODEL_I8 loses
 * precision: the error of a component is at most 1/254 of the largest one of its vector. */
ANX_NODISCARD anx_status model_write(const struct model *model, enum model_form form, const char *path,
                                     anx_error *err);
size_t model_terms(const struct model *model);
uint32_t model_dim(const struct model *model);

/* A text, put together from pieces, on its way to a vector. One thread at a time. */
struct model_text;
struct model_text *
model_text_create(const struct model *model, enum model_weights weights); /* NULL: memory */
void model_text_destroy(struct model_text *text); /* NULL is fine */
/* Counts the terms of a piece; pieces are separate words. False: out of memory. */
bool model_text_add(struct model_text *text, anx_text piece);
/* The vector [model_dim] of all pieces since the last call; returns how many different terms were known. */
size_t model_text_finish(struct model_text *text, float *out);

#endif
