/* Bytes as hexadecimal text, for golden frames. */
#ifndef ANX_TEST_WIRE_HEX_H
#define ANX_TEST_WIRE_HEX_H

#include "test_util.h"

#include <string.h>

static inline unsigned
nibble(char c)
{
    return (unsigned) (c <= '9' ? c - '0' : c - 'a' + 10);
}

static inline size_t
from_hex(const char *hex, uint8_t *out)
{
    size_t n = strlen(hex) / 2;

    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t) (nibble(hex[2 * i]) << 4 | nibble(hex[2 * i + 1]));
    return n;
}

static inline void
assert_bytes(const char *name, const uint8_t *got, size_t n_got, const char *hex)
{
    uint8_t want[2048];
    size_t n_want = from_hex(hex, want);

    if (n_got != n_want)
        fail_msg("%s has %zu bytes, not %zu", name, n_got, n_want);
    for (size_t i = 0; i < n_want; i++)
        if (got[i] != want[i])
            fail_msg("%s differs at byte %zu: %02x, not %02x", name, i, got[i], want[i]);
}

#endif
