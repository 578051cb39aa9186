/* A growing run of bytes with a limit: what answers, records and frames are written into.
 *
 *     anx_buffer out;
 *     anx_buffer_init(&out, NULL, 1 << 30);
 *     anx_buffer_text(&out, ANX_TEXT("{\"a\":1}"));
 *     if (out.failed) ...
 *     anx_buffer_fini(&out);
 *
 * A failed append (memory or the limit) latches `failed` and leaves the bytes so far; check once at the end.
 * Threads: one at a time. */
#ifndef ANX_BASE_BUFFER_H
#define ANX_BASE_BUFFER_H

#include <stdbool.h>
#include <stdint.h>

#include "annex/alloc.h"
#include "annex/status.h"
#include "base/text.h"

typedef struct anx_buffer {
    char *data; /* owned; NULL before the first append */
    size_t size, capacity;
    size_t max; /* most bytes */
    bool failed;
    const anx_alloc *alloc;
} anx_buffer;

void anx_buffer_init(anx_buffer *buffer, const anx_alloc *alloc, size_t max);
void anx_buffer_fini(anx_buffer *buffer);
void anx_buffer_clear(anx_buffer *buffer); /* keeps the memory */
void anx_buffer_bytes(anx_buffer *buffer, const void *bytes, size_t size);
void anx_buffer_text(anx_buffer *buffer, anx_text text);
void anx_buffer_char(anx_buffer *buffer, char c);
void anx_buffer_varint(anx_buffer *buffer, uint64_t value); /* LEB128 */
void anx_buffer_zigzag(anx_buffer *buffer, int64_t value);  /* LEB128 with the sign in the lowest bit */
void anx_buffer_le(anx_buffer *buffer, uint64_t value, size_t n_byte); /* little-endian */
void anx_buffer_printf(anx_buffer *buffer, const char *format, ...) ANX_PRINTF(2, 3);
/* Room for `size` more bytes to be written at data + size, NULL (and failed) when there is none. The caller
 * adds what it wrote to `size`. */
char *anx_buffer_reserve(anx_buffer *buffer, size_t size);

#endif
