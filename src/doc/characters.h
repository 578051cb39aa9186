/* Code points: UTF-8 and simple case folding, for rooms that look inside texts. Pure functions. */
#ifndef ANX_DOC_CHARACTERS_H
#define ANX_DOC_CHARACTERS_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* A byte that is no UTF-8 becomes a code point of its own behind the last real one, so that broken texts
 * still have an order and equal only themselves. */
#define UTF8_BROKEN 0x110000u

/* The code point at *at, and *at behind it. *at < end. */
uint32_t utf8_next(const unsigned char **at, const unsigned char *end);
/* Simple case folding (Unicode, CaseFolding.txt, statuses C and S). */
uint32_t text_fold(uint32_t code_point);

#ifdef __cplusplus
}
#endif
#endif
