/* Scans of JSON text. Numbers are read twice as fast as by general readers, because most are short: up to 19
 * digits make an integer, and one product with a power of ten makes it a double. Where that could be wrong by
 * a rounding, the exact reader (number_parse_double) decides. */
#include "doc/json_scan.h"

#include <endian.h>
#include <string.h>

#include "doc/doc_int.h"

/* ---- Where an object ends ---- */

enum { SCAN_BLOCK = 64 };

/* Written for the compiler's vectorizer: no early exit. */
static bool
has_brace_or_quote(const char *p)
{
    unsigned any = 0;

    for (size_t i = 0; i < SCAN_BLOCK; i++)
        any |= (unsigned) (p[i] == '"') | (unsigned) ((p[i] & ~6) == ('{' & ~6));
    return any != 0;
}

/* Behind the closing quote of a string whose inside starts at p; end when it is not closed. */
static const char *
scan_string(const char *p, const char *end)
{
    while (p < end) {
        const char *quote = memchr(p, '"', (size_t) (end - p));
        const char *slash = quote;

        if (!quote)
            return end;
        while (slash > p && slash[-1] == '\\')
            slash--;
        if ((quote - slash) % 2 == 0)
            return quote + 1;
        p = quote + 1;
    }
    return end;
}

const char *
scan_object(const char *p, const char *end)
{
    size_t depth = 0;

    while (p < end) {
        char c = *p++;

        if (c == '"') {
            p = scan_string(p, end);
        } else if (c == '{') {
            depth++;
        } else if (c == '}') {
            if (--depth == 0)
                return p;
        } else {
            while ((size_t) (end - p) >= SCAN_BLOCK && !has_brace_or_quote(p))
                p += SCAN_BLOCK;
        }
    }
    return end;
}

/* ---- Numbers ---- */

enum {
    MAX_DIGITS = 19, /* fit 64 bits */
    MAX_TENS = 22    /* powers of ten that a double holds exactly */
};
static const double tens_up[MAX_TENS + 1] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,
                                              1e8,  1e9,  1e10, 1e11, 1e12, 1e13, 1e14, 1e15,
                                              1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
static const double tens_down[MAX_TENS + 1] = { 1e-0,  1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,
                                                1e-8,  1e-9,  1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15,
                                                1e-16, 1e-17, 1e-18, 1e-19, 1e-20, 1e-21, 1e-22 };

struct decimal {
    uint64_t digits;   /* of the whole number without its point; right if n_digit <= MAX_DIGITS */
    ptrdiff_t n_digit; /* leading zeros count */
    int exponent;      /* of ten */
    bool is_negative, is_integer;
};

static inline bool
is_digit(char c)
{
    return (unsigned char) (c - '0') < 10;
}

/* Are the eight bytes digits? Their number then. Neighbors are joined to pairs, pairs to fours, fours to all.
 */
static inline bool
eight_digits(const char *p, uint64_t *out)
{
    const uint64_t ones = 0x0101010101010101u, pairs = 0x00ff00ff00ff00ffu, fours = 0x0000ffff0000ffffu;
    uint64_t x;

    memcpy(&x, p, sizeof(x));
    x = le64toh(x); /* the first digit is the lowest byte */
    if ((((x + ones * 0x46) | (x - ones * 0x30)) & (ones * 0x80)) != 0)
        return false;
    x -= ones * '0';
    x = (x * 10 + (x >> 8)) & pairs;
    x = (x * 100 + (x >> 16)) & fours;
    *out = (x * 10000 + (x >> 32)) & 0xffffffffu;
    return true;
}

/* Digits from p on, appended to *digits; their end. More than MAX_DIGITS in all overflow, which the caller
 * sees by the length. */
static inline const char *
scan_digits(const char *p, uint64_t *digits)
{
    for (; is_digit(*p); p++)
        *digits = *digits * 10 + (uint64_t) (*p - '0');
    return p;
}

/* The same behind the point, where there are more of them. */
static inline const char *
scan_fraction(const char *p, uint64_t *digits)
{
    uint64_t eight;

    if (eight_digits(p, &eight)) {
        *digits = *digits * 100000000 + eight;
        p += 8;
        if (is_digit(*p) && eight_digits(p, &eight)) {
            *digits = *digits * 100000000 + eight;
            p += 8;
        }
    }
    return scan_digits(p, digits);
}

/* The exponent at *p, an 'e'; its end, or NULL. */
static const char *
scan_exponent(const char *p, int *exponent)
{
    int sign = p[1] == '-' ? -1 : 1, value = 0;
    const char *from;

    p += p[1] == '-' || p[1] == '+' ? 2 : 1;
    from = p;
    for (; is_digit(*p); p++)
        value = value < 10000 ? value * 10 + (*p - '0') : value;
    *exponent += sign * value;
    return p == from ? NULL : p;
}

/* A number by the grammar of JSON; its end, or NULL. Inlined by force: the result stays in registers (15 %).
 */
__attribute__((always_inline)) static inline const char *
scan_decimal(const char *p, struct decimal *out)
{
    bool is_negative = *p == '-';
    const char *from = p + is_negative;
    uint64_t digits = 0;
    int exponent = 0;
    ptrdiff_t n_digit;
    bool is_integer = true;

    p = scan_digits(from, &digits);
    n_digit = p - from;
    if (n_digit == 0 || (*from == '0' && n_digit > 1))
        return NULL;
    if (*p == '.') {
        from = ++p;
        p = scan_fraction(p, &digits);
        if (p == from)
            return NULL;
        n_digit += p - from;
        exponent = (int) (from - p);
        is_integer = false;
    }
    if ((*p | 0x20) == 'e') {
        p = scan_exponent(p, &exponent);
        if (!p)
            return NULL;
        is_integer = false;
    }
    *out = (struct decimal) { digits, n_digit, exponent, is_negative, is_integer };
    return p;
}

static bool
read_exactly(const char *start, const char *end, double *out)
{
    return number_parse_double((anx_text) { start, (size_t) (end - start) }, out);
}

bool
scan_number(const char *p, struct value *out)
{
    struct decimal in;
    const char *end = scan_decimal(p, &in);

    if (!end || (!json_is_space(*end) && *end != ',' && *end != '}' && *end != ']'))
        return false;
    out->type = VALUE_INT;
    if (in.is_integer && in.n_digit < MAX_DIGITS) {
        out->integer = (int64_t) (in.is_negative ? 0 - in.digits : in.digits);
        return true;
    }
    if (in.is_integer && number_parse_int((anx_text) { p, (size_t) (end - p) }, &out->integer))
        return true;
    out->type = VALUE_DOUBLE;
    if (in.n_digit > MAX_DIGITS || in.digits > (uint64_t) 1 << 53 || in.exponent > MAX_TENS ||
        in.exponent < -MAX_TENS)
        return read_exactly(p, end, &out->real);
    out->real = (double) in.digits; /* exact, as the power: then one rounding, which is the nearest double */
    out->real = in.exponent < 0 ? out->real / tens_up[-in.exponent] : out->real * tens_up[in.exponent];
    out->real = in.is_negative ? -out->real : out->real;
    return true;
}

/* ---- Arrays of floats ---- */

/* The float of digits * 10^exponent. The double made here is a product of two or three roundings, at most
 * three units off the nearest one. The float is the same unless the double lies that near to the middle
 * between two floats, which its low 29 bits tell. False: ask the exact reader. */
static inline bool
to_float(uint64_t digits, int exponent, float *out)
{
    double value = (double) digits;
    uint64_t bits;

    if (exponent > MAX_TENS || exponent < -MAX_TENS)
        return false;
    value *= exponent < 0 ? tens_down[-exponent] : tens_up[exponent];
    memcpy(&bits, &value, sizeof(bits));
    bits = (bits & 0x1fffffff) - (0x10000000 - 8);
    if (bits < 16 || ((value < 1e-37 || value > 3e38) && digits != 0))
        return false;
    *out = (float) value;
    return true;
}

/* The end of the number at p, whose float is *out, or NULL. */
static inline const char *
scan_float(const char *p, float *out)
{
    struct decimal in;
    double exact;
    const char *end = scan_decimal(p, &in);

    if (!end)
        return NULL;
    if (in.n_digit <= MAX_DIGITS && to_float(in.digits, in.exponent, out)) {
        *out = in.is_negative ? -*out : *out;
        return end;
    }
    if (!read_exactly(p, end, &exact))
        return NULL;
    *out = (float) exact;
    return end;
}

uint32_t
scan_floats(const char *p, const char *end, float *row, uint32_t dim)
{
    uint32_t n = 0;

    for (;; p++) {
        float component;

        p = scan_float(p, &component);
        if (!p || n == UINT32_MAX)
            return 0;
        if (n < dim)
            row[n] = component;
        n++;
        while (json_is_space(*p) && p < end)
            p++;
        if (*p == ']' && p < end)
            return n;
        if (*p != ',' || p >= end)
            return 0;
        while (json_is_space(p[1]) && p + 1 < end)
            p++;
    }
}

bool
json_floats(const struct json_node *list, float *out)
{
    const char *p = list->raw.data + 1, *end = list->raw.data + list->raw.size;

    while (p < end && json_is_space(*p))
        p++;
    return scan_floats(p, end, out, (uint32_t) list->list.n) > 0;
}
