/* Typos: two words are taken for one when they become the same after leaving out letters of either.
 *
 * max_typos N allows N letters in all, and half of them (rounded up) in one word. A letter left out of each
 * word at one place is a letter typed wrong; out of one word alone, a letter missing or too many; the same
 * letter out of neighboring places, two letters exchanged. Letters are left out where the words differ first,
 * which finds the fewest. The k-th letters left out of both words belong together and may be as far apart as
 * max_typo_distance says, or max_symbol_permutation_distance when they are the same letter. */
#include "text/text_int.h"

#include <stdlib.h>

enum { LEFT_OUT_MAX = 2 };

struct pairing {
    const struct text_config *config;
    const uint32_t *a, *b;
    size_t n_a, n_b;
    unsigned max_a, max_b, max_sum;
    size_t out_a[LEFT_OUT_MAX], out_b[LEFT_OUT_MAX];
    unsigned n_out_a, n_out_b;
};

static bool
is_near(int64_t limit, size_t p, size_t q)
{
    return limit < 0 || (p > q ? p - q : q - p) <= (size_t) limit;
}

static bool
is_allowed(const struct pairing *t)
{
    for (unsigned i = 0; i < t->n_out_a && i < t->n_out_b; i++) {
        size_t p = t->out_a[i], q = t->out_b[i];

        if (!is_near(t->config->max_typo_distance, p, q) &&
            (t->a[p] != t->b[q] || !is_near(t->config->max_permutation_distance, p, q)))
            return false;
    }
    return true;
}

/* Depth: at most the letters left out. */
static bool
pair_up(struct pairing *t, size_t i, size_t j)
{
    bool is_found = false;

    while (i < t->n_a && j < t->n_b && t->a[i] == t->b[j]) {
        i++;
        j++;
    }
    if (i == t->n_a && j == t->n_b)
        return is_allowed(t);
    if (t->n_out_a + t->n_out_b == t->max_sum)
        return false;
    if (i < t->n_a && t->n_out_a < t->max_a && t->n_out_a < LEFT_OUT_MAX) {
        t->out_a[t->n_out_a++] = i;
        is_found = pair_up(t, i + 1, j);
        if (is_found)
            return true;
        t->n_out_a--;
    }
    if (j < t->n_b && t->n_out_b < t->max_b && t->n_out_b < LEFT_OUT_MAX) {
        t->out_b[t->n_out_b++] = j;
        is_found = pair_up(t, i, j + 1);
        if (is_found)
            return true;
        t->n_out_b--;
    }
    return false;
}

static unsigned
half_of(const struct text_config *config)
{
    return (unsigned) (config->max_typos + 1) / 2;
}

static unsigned
limit_of(const struct text_config *config, int64_t limit)
{
    return limit < 0 || limit > half_of(config) ? half_of(config) : (unsigned) limit;
}

bool
typo_match(const struct text_config *config, const uint32_t *a, size_t n_a, const uint32_t *b, size_t n_b,
           unsigned *n)
{
    struct pairing t = { .config = config, .a = a, .b = b, .n_a = n_a, .n_b = n_b, .out_a = { 0 } };

    t.max_a = limit_of(config, config->max_missing);
    t.max_b = limit_of(config, config->max_extra);
    t.max_sum = (unsigned) config->max_typos;
    if (n_a > n_b + t.max_a || n_b > n_a + t.max_b || !pair_up(&t, 0, 0))
        return false;
    *n = t.n_out_a > t.n_out_b ? t.n_out_a : t.n_out_b;
    return true;
}

/* A letter left out takes two pairs with it, a letter put in one. */
unsigned
typo_lost_pairs(const struct text_config *config)
{
    return 3 * half_of(config);
}
