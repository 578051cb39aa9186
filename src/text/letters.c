/* Which code points make words, and letters without their accents. */
#include "text/text_int.h"

#include "doc/characters.h"

struct letter_range {
    uint32_t first, last;
    uint8_t class;
};
static const struct letter_range ranges[] = {
#define RANGE(first, last, class) { first, last, class },
#define BASE(code, base)
#include "text/letters.def"
#undef RANGE
#undef BASE
};
struct letter_pair {
    uint16_t code, base;
};
static const struct letter_pair bases[] = {
#define RANGE(first, last, class)
#define BASE(code, base) { code, base },
#include "text/letters.def"
#undef RANGE
#undef BASE
};

enum letter_class
letter_class(uint32_t code)
{
    size_t low = 0, high = ANX_COUNT_OF(ranges);

    if (code < 0x80)
        return (code | 0x20) - 'a' < 26 || code - '0' < 10 ? LETTER_WORD : LETTER_NONE;
    while (low < high) { /* the first range that ends at or behind it */
        size_t middle = (low + high) / 2;

        if (ranges[middle].last < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ANX_COUNT_OF(ranges) && ranges[low].first <= code ? (enum letter_class) ranges[low].class
                                                                   : LETTER_NONE;
}

uint32_t
letter_base(uint32_t code)
{
    size_t low = 0, high = ANX_COUNT_OF(bases);

    if (code < 0xc0 || code > 0x1fff)
        return code;
    while (low < high) {
        size_t middle = (low + high) / 2;

        if (bases[middle].code < code)
            low = middle + 1;
        else
            high = middle;
    }
    return low < ANX_COUNT_OF(bases) && bases[low].code == code ? bases[low].base : code;
}

size_t
letter_encode(uint32_t code, char *out)
{
    if (code < 0x80) {
        out[0] = (char) code;
        return 1;
    }
    if (code < 0x800) {
        out[0] = (char) (0xc0 | code >> 6);
        out[1] = (char) (0x80 | (code & 0x3f));
        return 2;
    }
    if (code < 0x10000) {
        out[0] = (char) (0xe0 | code >> 12);
        out[1] = (char) (0x80 | (code >> 6 & 0x3f));
        out[2] = (char) (0x80 | (code & 0x3f));
        return 3;
    }
    out[0] = (char) (0xf0 | code >> 18);
    out[1] = (char) (0x80 | (code >> 12 & 0x3f));
    out[2] = (char) (0x80 | (code >> 6 & 0x3f));
    out[3] = (char) (0x80 | (code & 0x3f));
    return 4;
}

size_t
letters_decode(anx_text text, uint32_t *out, size_t max)
{
    const unsigned char *at = (const unsigned char *) (text.size > 0 ? text.data : ""), *end = at + text.size;
    size_t n = 0;

    while (at < end && n < max)
        out[n++] = utf8_next(&at, end);
    return n;
}
