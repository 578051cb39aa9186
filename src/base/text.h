/* A borrowed run of bytes, usually UTF-8, not terminated. */
#ifndef ANX_BASE_TEXT_H
#define ANX_BASE_TEXT_H

#include <stdbool.h>
#include <stddef.h>
#include <string.h>
#include <strings.h>

typedef struct anx_text {
    const char *data; /* borrowed; may be NULL when size is 0 */
    size_t size;
} anx_text;

#define ANX_TEXT(literal) ((anx_text) { (literal), sizeof(literal) - 1 })
/* For printf("%.*s", ANX_TEXT_ARG(text)). */
#define ANX_TEXT_ARG(text) (int) (text).size, (text).size > 0 ? (text).data : ""

static inline anx_text
anx_text_of(const char *string)
{
    return (anx_text) { string, string ? strlen(string) : 0 };
}
static inline bool
anx_text_equal(anx_text a, anx_text b)
{
    return a.size == b.size && (a.size == 0 || memcmp(a.data, b.data, a.size) == 0);
}
/* 0..15, or -1 for a byte that is no hexadecimal digit. */
static inline int
anx_hex_digit(char c)
{
    if (c >= '0' && c <= '9')
        return c - '0';
    c = (char) (c | 0x20);
    return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}
/* ASCII letters in any case. */
static inline bool
anx_text_equal_fold(anx_text a, anx_text b)
{
    return a.size == b.size && (a.size == 0 || strncasecmp(a.data, b.data, a.size) == 0);
}

#endif
