/* See the header. A file may have a billion of them, so the usual ones take no library call. */
#include "embedder/decimal.h"

#include <math.h>
#include <stdint.h>
#include <stdlib.h>

enum { WORD_MAX = 64, DIGITS_EXACT = 15, POWER_MAX = 22 };

static bool
read_slowly(anx_text word, float *out)
{
    char copy[WORD_MAX], *end;

    if (word.size == 0 || word.size >= sizeof(copy) || !strchr("+-.0123456789", word.data[0]))
        return false;
    memcpy(copy, word.data, word.size);
    copy[word.size] = 0;
    *out = strtof(copy, &end);
    return *end == 0 && isfinite(*out) && !strpbrk(copy, "xXpPnN");
}

/* At most 15 digits times a power of ten that a double holds exactly: one rounding, then one to float. */
bool
decimal_read(anx_text word, float *out)
{
    static const double powers[POWER_MAX + 1] = { 1,    1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                                  1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                                  1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
    size_t at = word.size > 0 && word.data[0] == '-', n_digit = 0, n_fraction = 0;
    bool has_point = false;
    int64_t digits = 0;

    for (; at < word.size; at++) {
        char c = word.data[at];

        if (c == '.' && !has_point) {
            has_point = true;
            continue;
        }
        if (c < '0' || c > '9' || ++n_digit > DIGITS_EXACT)
            return read_slowly(word, out);
        digits = digits * 10 + (c - '0');
        n_fraction += has_point;
    }
    if (n_digit == 0)
        return false;
    *out = (float) ((double) digits / powers[n_fraction]);
    if (word.data[0] == '-')
        *out = -*out;
    return true;
}
