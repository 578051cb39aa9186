/* Decimal numbers from text, fast enough that reading a query vector costs less than searching with it: eight
 * digits at a time, and one multiplication by a power of ten.
 *
 * Why floats are right: the digits are a whole number m below 2^64 (19 digits), the number is m * 10^e. For
 * |e| <= 22 the double of m, that of 10^e and their product are each off by at most half a unit in the last
 * place, and what the digits beyond 19 add is less, so the double is within four units of the truth. Rounding
 * it to a float can only go wrong when it lies that near to the middle between two floats, which its low 29
 * bits show; then, and for other exponents, strtof decides. (Doubles are read by one exact division or
 * multiplication, or by strtod.) */
#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "query/query_int.h"

enum { DIGITS_MAX = 19 };

static const double tens[] = { 1e0,  1e1,  1e2,  1e3,  1e4,  1e5,  1e6,  1e7,  1e8,  1e9,  1e10, 1e11,
                               1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
static const double tenths[] = { 1e-0,  1e-1,  1e-2,  1e-3,  1e-4,  1e-5,  1e-6,  1e-7,
                                 1e-8,  1e-9,  1e-10, 1e-11, 1e-12, 1e-13, 1e-14, 1e-15,
                                 1e-16, 1e-17, 1e-18, 1e-19, 1e-20, 1e-21, 1e-22 };
static const uint64_t small_tens[] = { 1, 10, 100, 1000, 10000, 100000, 1000000, 10000000, 100000000 };
enum { TENS_MAX = 22 };

/* A number taken apart: (-1)^is_negative * mantissa * 10^exponent. */
struct decimal {
    uint64_t mantissa;
    int exponent;
    unsigned n_digit; /* in the mantissa, without leading zeros */
    bool is_negative;
};

/* Digits from eight bytes of text: how many the bytes start with, and their value (Lemire's trick of adding
 * neighbors pairwise: digits, pairs of digits, fours). */
static unsigned
eight_digits(const char *at, uint64_t *value)
{
    const uint64_t high = 0xF0F0F0F0F0F0F0F0, threes = 0x3333333333333333;
    uint64_t v, wrong;
    unsigned n;

    memcpy(&v, at, sizeof(v));
    if (__BYTE_ORDER__ == __ORDER_BIG_ENDIAN__)
        v = __builtin_bswap64(v);
    /* A carry out of a byte changes only bytes behind one that is no digit already. */
    wrong = ((v & high) | (((v + 0x0606060606060606) & high) >> 4)) ^ threes;
    n = wrong ? (unsigned) __builtin_ctzll(wrong) / 8 : 8;
    v = v << 7 * (8 - n) << (8 - n); /* zeros in front of the digits; in two steps, as n may be 0 */
    v = (v & 0x0F0F0F0F0F0F0F0F) * 2561 >> 8;
    v = (v & 0x00FF00FF00FF00FF) * 6553601 >> 16;
    *value = (v & 0x0000FFFF0000FFFF) * 42949672960001 >> 32;
    return n;
}

/* A run of digits. is_fraction: each one lowers the exponent. What exceeds DIGITS_MAX is dropped, and counted
 * in the exponent where it stands before the point. */
static const char *
read_digits(const char *at, const char *end, bool is_fraction, struct decimal *d)
{
    const char *start = at;
    int dropped = 0;

    while (d->mantissa == 0 && at < end && *at == '0')
        at++;
    while (end - at >= 8 && d->n_digit <= DIGITS_MAX - 8) {
        uint64_t value;
        unsigned n = eight_digits(at, &value);

        if (n == 0)
            break;
        d->mantissa = d->mantissa * small_tens[n] + value;
        d->n_digit += n;
        at += n;
        if (n < 8)
            break;
    }
    for (; at < end && query_is_digit(*at); at++) {
        if (d->n_digit < DIGITS_MAX) {
            d->mantissa = d->mantissa * 10 + (uint64_t) (*at - '0');
            d->n_digit++;
        } else if (dropped < INT32_MAX / 4) {
            dropped++;
        }
    }
    if (is_fraction) {
        ptrdiff_t kept = at - start - dropped;

        d->exponent -= kept < INT32_MAX / 4 ? (int) kept : INT32_MAX / 4;
    } else {
        d->exponent += dropped;
    }
    return at;
}

static const char *
read_exponent(const char *at, const char *end, struct decimal *d)
{
    const char *p = at + 1; /* behind the e */
    bool is_negative = false;
    int value = 0;

    if (p < end && (*p == '+' || *p == '-'))
        is_negative = *p++ == '-';
    if (p >= end || !query_is_digit(*p))
        return at; /* an e that is no exponent is not part of the number */
    for (; p < end && query_is_digit(*p); p++) {
        if (value < 100000)
            value = value * 10 + (*p - '0');
    }
    d->exponent += is_negative ? -value : value;
    return p;
}

static const char *
read_decimal(const char *at, const char *end, struct decimal *d)
{
    const char *digits, *p;
    ptrdiff_t n_before;

    *d = (struct decimal) { .mantissa = 0 };
    if (at < end && (*at == '-' || *at == '+'))
        d->is_negative = *at++ == '-';
    digits = at;
    at = read_digits(at, end, false, d);
    n_before = at - digits;
    if (at < end && *at == '.') {
        p = read_digits(at + 1, end, true, d);
        if (p - at > 1 || n_before > 0)
            at = p;
    }
    if (at == digits)
        return NULL;
    if (at < end && (*at == 'e' || *at == 'E'))
        at = read_exponent(at, end, d);
    return at;
}

/* The C library's reading of the mantissa and exponent; no point in the text, so the locale does not matter.
 */
static void
decimal_text(const struct decimal *d, char text[64])
{
    snprintf(text, 64, "%s%llue%d", d->is_negative ? "-" : "", (unsigned long long) d->mantissa, d->exponent);
}

/* mantissa * 10^exponent as a float, |exponent| <= TENS_MAX; false when the double does not decide it. */
static bool
round_to_float(uint64_t mantissa, int exponent, float *out)
{
    const uint64_t half = UINT64_C(1) << 28, margin = 4;
    double v = (double) mantissa * (exponent < 0 ? tenths[-exponent] : tens[exponent]);
    uint64_t bits, low;

    memcpy(&bits, &v, sizeof(bits));
    low = bits & (2 * half - 1);
    *out = (float) v;
    return v >= (double) FLT_MIN && v <= (double) FLT_MAX && (low < half - margin || low > half + margin);
}

/* One digit, a point, up to 18 digits, no exponent: how components of embeddings are written. Without
 * branches on what varies from one to the next (sign, number of digits), which cost more than the arithmetic.
 * NULL: another form, or too near to the end of the text. */
static const char *
read_usual(const char *at, const char *end, float *out)
{
    enum { LONGEST = 24 };
    uint64_t first = 0, second = 0, mantissa;
    unsigned is_negative, n, m, digit;

    if (end - at < LONGEST)
        return NULL;
    is_negative = *at == '-';
    at += is_negative;
    digit = (unsigned char) at[0] - (unsigned) '0';
    if (digit > 9 || at[1] != '.')
        return NULL;
    n = eight_digits(at + 2, &first);
    m = eight_digits(at + 10, &second);
    m = n == 8 ? m : 0;
    second = n == 8 ? second : 0;
    mantissa = (digit * small_tens[n] + first) * small_tens[m] + second;
    at += 2 + n + m;
    n += m;
    if (n == 16 && query_is_digit(*at)) { /* doubles have up to 17 */
        mantissa = mantissa * 10 + (uint64_t) (*at++ - '0');
        n++;
    }
    if (n == 17 && query_is_digit(*at)) {
        mantissa = mantissa * 10 + (uint64_t) (*at++ - '0');
        n++;
    }
    if (n == 0 || query_is_digit(*at) || *at == 'e' || *at == 'E' || mantissa == 0 ||
        !round_to_float(mantissa, -(int) n, out))
        return NULL;
    *out = is_negative ? -*out : *out;
    return at;
}

const char *
number_read_float(const char *at, const char *end, float *out)
{
    const char *stop = read_usual(at, end, out);
    struct decimal d;
    char text[64];

    if (stop)
        return stop;
    at = read_decimal(at, end, &d);
    if (!at)
        return NULL;
    if (d.mantissa == 0) {
        *out = d.is_negative ? -0.0F : 0.0F;
    } else if (d.exponent >= -TENS_MAX && d.exponent <= TENS_MAX &&
               round_to_float(d.mantissa, d.exponent, out)) {
        *out = d.is_negative ? -*out : *out;
    } else {
        decimal_text(&d, text);
        *out = strtof(text, NULL);
    }
    return at;
}

const char *
number_read_double(const char *at, const char *end, double *out)
{
    struct decimal d;
    char text[64];

    at = read_decimal(at, end, &d);
    if (!at)
        return NULL;
    if (d.mantissa <= UINT64_C(1) << 53 && d.exponent >= -TENS_MAX && d.exponent <= TENS_MAX) {
        double v = (double) d.mantissa; /* exact, and so is the power: one rounding */

        v = d.exponent < 0 ? v / tens[-d.exponent] : v * tens[d.exponent];
        *out = d.is_negative ? -v : v;
        return at;
    }
    decimal_text(&d, text);
    *out = strtod(text, NULL);
    return at;
}

static const char *
skip_space(const char *at, const char *end)
{
    while (at < end && (*at == ' ' || (*at >= '\t' && *at <= '\r')))
        at++;
    return at;
}

static size_t
count_commas(const char *at, const char *end)
{
    enum { BLOCK = 255 }; /* small sums, so that the compiler adds many at a time */
    size_t n = 0;

    while (at < end) {
        size_t size = end - at < BLOCK ? (size_t) (end - at) : BLOCK;
        uint8_t in_block = 0;

        for (size_t i = 0; i < size; i++)
            in_block = (uint8_t) (in_block + (at[i] == ','));
        n += in_block;
        at += size;
    }
    return n;
}

const char *
number_read_list(const char *at, const char *end, anx_arena *arena, float **out, size_t *n, bool *is_spent)
{
    const char *close = at < end ? memchr(at, ']', (size_t) (end - at)) : NULL;
    size_t count = 1, i = 0;
    float *floats;

    *is_spent = false;
    if (!close)
        return NULL;
    count += count_commas(at, close);
    floats = count <= SIZE_MAX / sizeof(*floats) ? anx_arena_bytes(arena, count * sizeof(*floats)) : NULL;
    if (!floats) {
        *is_spent = true;
        return NULL;
    }
    for (;;) {
        at = skip_space(at, close);
        at = number_read_float(at, close, &floats[i]);
        if (!at || !isfinite(floats[i]))
            return NULL;
        i++;
        at = skip_space(at, close);
        if (at == close)
            break;
        if (*at++ != ',')
            return NULL;
    }
    *out = floats;
    *n = i;
    return close + 1;
}

bool
number_read_point(anx_text text, double *x, double *y)
{
    static const char word[] = "point";
    const char *at = skip_space(text.data, text.data + text.size), *end = text.data + text.size;

    if ((size_t) (end - at) < sizeof(word) || strncasecmp(at, word, sizeof(word) - 1) != 0)
        return false;
    at = skip_space(at + sizeof(word) - 1, end);
    if (at == end || *at++ != '(')
        return false;
    at = number_read_double(skip_space(at, end), end, x);
    if (!at || at == skip_space(at, end))
        return false;
    at = number_read_double(skip_space(at, end), end, y);
    if (!at || !isfinite(*x) || !isfinite(*y))
        return false;
    at = skip_space(at, end);
    return at < end && *at == ')' && skip_space(at + 1, end) == end;
}

bool
number_value(anx_text token, struct value *out)
{
    const char *at = token.data, *end = token.data + token.size;
    bool is_negative = token.size > 0 && *at == '-', is_whole = true;
    uint64_t whole = 0;
    double real;
    const char *digits;

    if (token.size > 0 && (*at == '-' || *at == '+'))
        at++;
    for (digits = at; at < end && query_is_digit(*at) && at - digits < DIGITS_MAX; at++)
        whole = whole * 10 + (uint64_t) (*at - '0');
    is_whole = at > digits && whole <= (uint64_t) INT64_MAX + is_negative;
    if (at < end && *at == '.')
        for (at++; at < end && *at == '0';)
            at++;
    if (is_whole && at == end) {
        *out = (struct value) { .type = VALUE_INT, .integer = (int64_t) (is_negative ? 0 - whole : whole) };
        return true;
    }
    if (number_read_double(token.data, end, &real) != end || !isfinite(real))
        return false;
    for (digits = token.data; digits < end && *digits != 'e' && *digits != 'E' && *digits != '.';)
        digits++;
    if (digits < end && *digits == '.') /* "1.0" of too many digits is no double either */
        while (++digits < end && *digits == '0')
            ;
    if (digits == end)
        return false;
    *out = (struct value) { .type = VALUE_DOUBLE, .real = real };
    return true;
}
