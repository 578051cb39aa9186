/* Little-endian readers and writers of bytes we did not write. A reader never reads past its end: it returns
 * 0 and latches `failed`, which is checked once after a group of reads. */
#ifndef ANX_BASE_BYTES_H
#define ANX_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

typedef struct anx_reader {
    const uint8_t *data; /* borrowed */
    size_t size;
    size_t at; /* always <= size */
    bool failed;
} anx_reader;

static inline anx_reader
anx_reader_init(const void *data, size_t size)
{
    return (anx_reader) { .data = data, .size = size };
}
/* The next n bytes, or NULL (and failed) when fewer are left. */
static inline const uint8_t *
anx_read_view(anx_reader *r, size_t n)
{
    const uint8_t *p;

    if (r->failed || n > r->size - r->at) {
        r->failed = true;
        return NULL;
    }
    p = r->data ? r->data + r->at : (const uint8_t *) ""; /* an empty view is not a failure */
    r->at += n;
    return p;
}
static inline uint64_t
anx_load_le(const uint8_t *p, size_t n)
{
    uint64_t v = 0;

    for (size_t i = 0; i < n; i++)
        v |= (uint64_t) p[i] << (8 * i);
    return v;
}
static inline void
anx_store_le(uint8_t *p, uint64_t v, size_t n)
{
    for (size_t i = 0; i < n; i++)
        p[i] = (uint8_t) (v >> (8 * i));
}
static inline uint64_t
anx_read_le(anx_reader *r, size_t n)
{
    const uint8_t *p = anx_read_view(r, n);

    return p ? anx_load_le(p, n) : 0;
}
static inline uint8_t anx_read_u8(anx_reader *r) { return (uint8_t) anx_read_le(r, 1); }
static inline uint16_t anx_read_u16(anx_reader *r) { return (uint16_t) anx_read_le(r, 2); }
static inline uint32_t anx_read_u32(anx_reader *r) { return (uint32_t) anx_read_le(r, 4); }
static inline uint64_t anx_read_u64(anx_reader *r) { return anx_read_le(r, 8); }
static inline float
anx_read_f32(anx_reader *r)
{
    uint32_t bits = anx_read_u32(r);
    float v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}
static inline double
anx_read_f64(anx_reader *r)
{
    uint64_t bits = anx_read_u64(r);
    double v;

    memcpy(&v, &bits, sizeof(v));
    return v;
}
/* LEB128, at most ten bytes; a longer one, or one past 64 bits, fails. */
static inline uint64_t
anx_read_varint(anx_reader *r)
{
    uint64_t v = 0;

    for (unsigned shift = 0; shift < 70; shift += 7) {
        uint8_t byte = anx_read_u8(r);

        if (shift == 63 && byte > 1)
            break;
        v |= (uint64_t) (byte & 0x7f) << shift;
        if (!(byte & 0x80))
            return r->failed ? 0 : v;
    }
    r->failed = true;
    return 0;
}
/* The same of a signed number whose sign was moved to the lowest bit. */
static inline int64_t
anx_read_zigzag(anx_reader *r)
{
    uint64_t code = anx_read_varint(r);

    return (int64_t) (code >> 1) ^ -(int64_t) (code & 1);
}

#endif
