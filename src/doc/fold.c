/* Characters: UTF-8 and simple case folding. */
#include "doc/doc_int.h"

#include "base/error.h"

struct fold_range {
    uint32_t first, last, step;
    int32_t delta;
};
static const struct fold_range fold_ranges[] = {
#define ROW(first, last, step, delta) { first, last, step, delta },
#include "doc/fold.def"
#undef ROW
};

uint32_t
text_fold(uint32_t code_point)
{
    size_t low = 0, high = ANX_COUNT_OF(fold_ranges);

    if (code_point < 0x80)
        return code_point - 'A' < 26 ? code_point + ('a' - 'A') : code_point;
    while (low < high) { /* the first range that ends at or behind it */
        size_t middle = (low + high) / 2;

        if (fold_ranges[middle].last < code_point)
            low = middle + 1;
        else
            high = middle;
    }
    if (low == ANX_COUNT_OF(fold_ranges) || code_point < fold_ranges[low].first ||
        (code_point - fold_ranges[low].first) % fold_ranges[low].step != 0)
        return code_point;
    return (uint32_t) ((int32_t) code_point + fold_ranges[low].delta);
}

/* The code point and its size of well-formed UTF-8 (RFC 3629: no surrogates, no overlong forms), 0 if broken.
 */
static size_t
utf8_decode(const unsigned char *p, size_t size, uint32_t *out)
{
    static const uint32_t least[] = { 0, 0, 0x80, 0x800, 0x10000 };
    size_t n = p[0] < 0x80 ? 1 : p[0] < 0xc2 ? 0 : p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : p[0] < 0xf5 ? 4 : 0;
    uint32_t code;

    if (n == 0 || n > size)
        return 0;
    code = n == 1 ? p[0] : p[0] & (0x7fu >> n);
    for (size_t i = 1; i < n; i++) {
        if ((p[i] & 0xc0) != 0x80)
            return 0;
        code = (code << 6) | (p[i] & 0x3fu);
    }
    if (code < least[n] || code > 0x10ffff || (code >= 0xd800 && code < 0xe000))
        return 0;
    *out = code;
    return n;
}

uint32_t
utf8_next(const unsigned char **at, const unsigned char *end)
{
    uint32_t code;
    size_t n = utf8_decode(*at, (size_t) (end - *at), &code);

    if (n == 0) {
        code = UTF8_BROKEN + **at;
        n = 1;
    }
    *at += n;
    return code;
}

bool
utf8_is_valid(anx_text text)
{
    const unsigned char *p = (const unsigned char *) text.data;

    for (size_t i = 0, n; i < text.size; i += n) {
        uint32_t code;

        n = utf8_decode(p + i, text.size - i, &code);
        if (n == 0)
            return false;
    }
    return true;
}
