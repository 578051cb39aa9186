/* How texts compare under each collation. */
#include "doc/value.h"

#include "base/error.h"
#include "doc/doc_int.h"

#define CUSTOM_SIZE 65536u /* the table covers the basic plane */

static int
sign(size_t a, size_t b)
{
    return a < b ? -1 : a > b;
}

static int
compare_bytes(anx_text a, anx_text b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;
    int order = shorter > 0 ? memcmp(a.data, b.data, shorter) : 0;

    return order != 0 ? order : sign(a.size, b.size);
}

static unsigned char
ascii_fold(char c)
{
    return (unsigned char) (c >= 'A' && c <= 'Z' ? c + ('a' - 'A') : c);
}

static int
compare_ascii(anx_text a, anx_text b)
{
    size_t shorter = a.size < b.size ? a.size : b.size;

    for (size_t i = 0; i < shorter; i++) {
        unsigned char c = ascii_fold(a.data[i]), d = ascii_fold(b.data[i]);

        if (c != d)
            return c < d ? -1 : 1;
    }
    return sign(a.size, b.size);
}

/* Characters beyond the table come behind it, in their own order. */
static uint32_t
custom_rank(uint32_t code, const uint16_t *custom)
{
    return code < CUSTOM_SIZE ? custom[code] : code;
}

/* By folded code point, or by rank when custom is given. */
static int
compare_characters(anx_text a, anx_text b, const uint16_t *custom)
{
    const unsigned char *p = (const unsigned char *) a.data, *p_end = a.size > 0 ? p + a.size : p;
    const unsigned char *q = (const unsigned char *) b.data, *q_end = b.size > 0 ? q + b.size : q;

    while (p != p_end && q != q_end) {
        uint32_t c = utf8_next(&p, p_end), d = utf8_next(&q, q_end);

        c = custom ? custom_rank(c, custom) : text_fold(c);
        d = custom ? custom_rank(d, custom) : text_fold(d);
        if (c != d)
            return c < d ? -1 : 1;
    }
    return (p != p_end) - (q != q_end);
}

/* The number at the start, and what is behind it; 0 and the whole text when there is none. Too many digits
 * stay at the largest number. */
static int64_t
leading_number(anx_text text, anx_text *rest)
{
    size_t i = 0;
    bool is_negative;
    int64_t number = 0;

    while (i < text.size && text.data[i] == ' ')
        i++;
    is_negative = i < text.size && text.data[i] == '-';
    if (is_negative || (i < text.size && text.data[i] == '+'))
        i++;
    *rest = text;
    for (; i < text.size && text.data[i] >= '0' && text.data[i] <= '9'; i++) {
        if (__builtin_mul_overflow(number, (int64_t) 10, &number) ||
            __builtin_add_overflow(number, (int64_t) (text.data[i] - '0'), &number))
            number = INT64_MAX;
        *rest = (anx_text) { text.data + i + 1, text.size - i - 1 };
    }
    return is_negative ? -number : number;
}

static int
compare_numeric(anx_text a, anx_text b)
{
    anx_text rest_a, rest_b;
    int64_t x = leading_number(a, &rest_a), y = leading_number(b, &rest_b);

    return x != y ? (x < y ? -1 : 1) : compare_bytes(rest_a, rest_b);
}

int
text_compare(anx_text a, anx_text b, const struct collation *collation)
{
    switch (collation ? collation->mode : COLLATE_NONE) {
    case COLLATE_ASCII:
        return compare_ascii(a, b);
    case COLLATE_UTF8:
        return compare_characters(a, b, NULL);
    case COLLATE_NUMERIC:
        return compare_numeric(a, b);
    case COLLATE_CUSTOM:
        return compare_characters(a, b, collation->custom);
    case COLLATE_NONE:
        break;
    }
    return compare_bytes(a, b);
}

/* ---- The table of a custom order ---- */

struct ranking {
    uint16_t *ranks; /* 0: not listed; else rank + 1 */
    uint32_t next;
};

/* Ranks first..last; false if one of them has a rank already. */
static bool
rank_range(struct ranking *ranking, uint32_t first, uint32_t last)
{
    for (uint32_t code = first; code <= last; code++) {
        if (ranking->ranks[code] != 0)
            return false;
        ranking->ranks[code] = (uint16_t) ++ranking->next;
    }
    return true;
}

static anx_status
rank_letters(struct ranking *ranking, anx_text letters, anx_error *err)
{
    const unsigned char *at = (const unsigned char *) letters.data, *end = at + letters.size;
    uint32_t previous = 0;
    bool has_previous = false;

    while (at < end) {
        uint32_t code = utf8_next(&at, end), first;

        first = code;
        if (code == '-') {
            if (!has_previous || at == end)
                return anx_fail(err, ANX_E_LOGIC,
                                "Incorrect format of sort order string: '-' cannot be the first or the last "
                                "character");
            code = utf8_next(&at, end);
            if (code <= previous)
                return anx_fail(err, ANX_E_LOGIC,
                                "Incorrect format of sort order string: range should be ascending");
            first = previous + 1; /* the start of the range has its rank */
        }
        if (code >= CUSTOM_SIZE - 1)
            return anx_fail(err, ANX_E_LOGIC, "Incorrect format of sort order string: unsupported character");
        if (!rank_range(ranking, first, code))
            return anx_fail(err, ANX_E_LOGIC, "There can't be 2 same formating characters in format string!");
        previous = code;
        has_previous = true;
    }
    return ANX_OK;
}

anx_status
collation_custom(anx_text letters, anx_arena *arena, const uint16_t **out, anx_error *err)
{
    struct ranking ranking = { NULL, 0 };
    anx_status st;

    if (letters.size == 0)
        return anx_fail(err, ANX_E_LOGIC, "Custom sort format string cannot be empty!");
    ranking.ranks = anx_arena_array(arena, CUSTOM_SIZE, sizeof(*ranking.ranks));
    if (!ranking.ranks)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    st = rank_letters(&ranking, letters, err);
    if (st != ANX_OK)
        return st;
    for (uint32_t code = 0; code < CUSTOM_SIZE; code++)
        ranking.ranks[code] =
            (uint16_t) ((ranking.ranks[code] != 0 ? ranking.ranks[code] : ++ranking.next) - 1);
    *out = ranking.ranks;
    return ANX_OK;
}
