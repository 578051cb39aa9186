/* LIKE. Greedy matching that goes back to the last % only: what an earlier % took can stay, because the text
 * between the two was found at its first place, which leaves the most for the rest. */
#include "doc/value.h"

#include "doc/doc_int.h"

/* One step over both; a broken byte only equals itself. */
static bool
same_character(const unsigned char **text, const unsigned char *text_end, const unsigned char **pattern,
               const unsigned char *pattern_end)
{
    uint32_t a, b;

    if ((**text | **pattern) < 0x80) { /* both ASCII */
        a = *(*text)++;
        b = *(*pattern)++;
    } else {
        a = utf8_next(text, text_end);
        b = utf8_next(pattern, pattern_end);
    }
    return a == b || b == '_' || text_fold(a) == text_fold(b);
}

bool
text_like(anx_text text, anx_text pattern)
{
    const unsigned char *t = (const unsigned char *) text.data, *t_end = t + text.size;
    const unsigned char *p = (const unsigned char *) pattern.data, *p_end = p + pattern.size;
    const unsigned char *retry_t = NULL, *retry_p = NULL; /* behind the last %, and where it stopped taking */

    if (text.size == 0)
        t = t_end = (const unsigned char *) "";
    if (pattern.size == 0)
        return text.size == 0;
    while (t < t_end) {
        if (p < p_end && *p == '%') {
            retry_p = ++p;
            retry_t = t;
        } else if (p < p_end && same_character(&t, t_end, &p, p_end)) {
            continue;
        } else if (retry_p) {
            (void) utf8_next(&retry_t, t_end);
            t = retry_t;
            p = retry_p;
        } else {
            return false;
        }
    }
    while (p < p_end && *p == '%')
        p++;
    return p == p_end;
}
