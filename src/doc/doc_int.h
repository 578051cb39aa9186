/* Private to the doc room: code points, numbers as text, the bytes of documents. */
#ifndef ANX_DOC_INT_H
#define ANX_DOC_INT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/buffer.h"
#include "base/text.h"
#include "doc/characters.h"
#include "doc/names.h"

#ifdef __cplusplus
extern "C" {
#endif

/* ---- Characters (fold.c) ---- */

bool utf8_is_valid(anx_text text);

/* ---- Numbers as text (json_simd.cc) ---- */

enum { NUMBER_TEXT_MAX = 32 };

/* The shortest decimal digits that read back as the same number, plain between 1e-4 and 1e16, with an
 * exponent of at least two digits elsewhere; always with a point or an exponent. NaN and infinities: "null".
 * Returns the size, at most NUMBER_TEXT_MAX. */
size_t number_print_double(char *out, double value);
size_t number_print_float(char *out, float value);
size_t number_print_int(char *out, int64_t value);
/* The whole text, without blanks; no hex, no infinities. */
bool number_parse_double(anx_text text, double *out);
bool number_parse_int(anx_text text, int64_t *out);

/* ---- Names (names.c) ---- */

/* The name as a printed member starts: quoted, escaped, with its colon. */
anx_text names_json(const struct doc_names *names, uint32_t tag);

#ifdef __cplusplus
}
#endif

/* ---- The bytes of a document; the layout is argued in README.md ---- */

#define DOC_FORMAT 1 /* the first byte; no other format was ever written */
#define DOC_BYTES_MAX ((size_t) 64 << 20)

/* Low four bits of a head byte. */
enum stored_kind {
    STORED_NULL,
    STORED_FALSE,
    STORED_TRUE,
    STORED_SMALL,  /* integer 0..15 in the high bits */
    STORED_INT,    /* zigzag varint */
    STORED_DOUBLE, /* 8 bytes */
    STORED_FLOAT,  /* 4 bytes: a component of a former vector */
    STORED_SHORT,  /* string of 0..15 bytes, size in the high bits */
    STORED_STRING, /* varint size, bytes */
    STORED_UUID,   /* 16 bytes */
    STORED_ARRAY,  /* varint size, elements */
    STORED_PACKED, /* high bits: kind of every element (INT, DOUBLE, FLOAT); varint size, elements without
                      heads */
    STORED_OBJECT, /* varint size, members */
    STORED_VECTOR, /* high bits: enum doc_vector_form; varint field; varint place of a VECTOR_ELEMENT */
    STORED_KIND_COUNT
};
enum { VARINT_MAX = 10, PADDED_SIZE = 5 };

static inline uint64_t
zigzag(int64_t value)
{
    return ((uint64_t) value << 1) ^ (uint64_t) (value < 0 ? -1 : 0);
}
static inline int64_t
unzigzag(uint64_t code)
{
    return (int64_t) (code >> 1) ^ -(int64_t) (code & 1);
}
/* LEB128; at most VARINT_MAX bytes. */
static inline uint8_t *
put_varint(uint8_t *at, uint64_t value)
{
    while (value >= 0x80) {
        *at++ = (uint8_t) (value | 0x80);
        value >>= 7;
    }
    *at++ = (uint8_t) value;
    return at;
}
/* Of checked bytes. */
static inline uint64_t
get_varint(const uint8_t **at)
{
    const uint8_t *p = *at;
    uint64_t value = *p & 0x7f;

    for (unsigned shift = 7; *p++ & 0x80; shift += 7)
        value |= (uint64_t) (*p & 0x7f) << shift;
    *at = p;
    return value;
}

/* ---- Printing ---- */

/* anx_buffer_bytes with the frequent case inline. */
static inline void
put_bytes(anx_buffer *out, const char *bytes, size_t size)
{
    if (size <= out->capacity - out->size && !out->failed) {
        memcpy(out->data + out->size, bytes, size);
        out->size += size;
    } else {
        anx_buffer_bytes(out, bytes, size);
    }
}
static inline void
put_char(anx_buffer *out, char c)
{
    put_bytes(out, &c, 1);
}

#endif
