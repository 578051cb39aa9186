/* Scans of JSON text that are no parser: where an object ends, and what number stands here. Private to the
 * doc room. The text is one that may be read SCAN_AHEAD bytes past its end. */
#ifndef ANX_DOC_JSON_SCAN_H
#define ANX_DOC_JSON_SCAN_H

#include "doc/json.h"

#ifdef __cplusplus
extern "C" {
#endif

enum { SCAN_AHEAD = 8 };

static inline bool
json_is_space(char c)
{
    return c == ' ' || c == '\t' || c == '\n' || c == '\r';
}
/* Behind the brace that closes the one at p, by counting braces outside of strings; end when there is none.
 * Reads nothing past end. */
const char *scan_object(const char *p, const char *end);
/* The number that is the token at p: integers that fit stay integers, longer ones, fractions and exponents
 * are doubles. False: not a number of JSON, or beyond a double. A byte that is no part of a number follows
 * it. */
bool scan_number(const char *p, struct value *out);
/* Numbers from p up to a closing bracket: at most dim of them into row, each the nearest double made a float;
 * all of them counted. 0: something else was met, and row holds nothing of use. The byte at end is no part of
 * a number. */
uint32_t scan_floats(const char *p, const char *end, float *row, uint32_t dim);

#ifdef __cplusplus
}
#endif
#endif
