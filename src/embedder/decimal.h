/* A decimal number as text files of vectors have them. Exact for up to 19 digits and small exponents (what
 * such files contain); else strtof decides. */
#ifndef ANX_EMBEDDER_DECIMAL_H
#define ANX_EMBEDDER_DECIMAL_H

#include "base/text.h"

/* The whole word, finite; false: it is something else. */
bool decimal_read(anx_text word, float *out);

#endif
