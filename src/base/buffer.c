/* Growing buffers. */
#include "base/buffer.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"

#define FIRST_CAPACITY ((size_t) 256)

void
anx_buffer_init(anx_buffer *buffer, const anx_alloc *alloc, size_t max)
{
    *buffer = (anx_buffer) { .alloc = alloc, .max = max };
}

void
anx_buffer_fini(anx_buffer *buffer)
{
    anx_free(buffer->alloc, buffer->data);
    anx_buffer_init(buffer, buffer->alloc, buffer->max);
}

void
anx_buffer_clear(anx_buffer *buffer)
{
    buffer->size = 0;
    buffer->failed = false;
}

char *
anx_buffer_reserve(anx_buffer *buffer, size_t size)
{
    size_t needed, capacity;
    char *data;

    if (buffer->failed)
        return NULL;
    if (size <= buffer->capacity - buffer->size && buffer->data)
        return buffer->data + buffer->size;
    if (__builtin_add_overflow(buffer->size, size, &needed) || needed > buffer->max)
        goto fail;
    capacity = buffer->capacity < FIRST_CAPACITY / 2 ? FIRST_CAPACITY : buffer->capacity;
    if (__builtin_mul_overflow(capacity, (size_t) 2, &capacity))
        capacity = buffer->max;
    if (capacity < needed)
        capacity = needed;
    if (capacity > buffer->max)
        capacity = buffer->max;
    data = anx_realloc_array(buffer->alloc, buffer->data, capacity, 1);
    if (!data)
        goto fail;
    buffer->data = data;
    buffer->capacity = capacity;
    return data + buffer->size;
fail:
    buffer->failed = true;
    return NULL;
}

void
anx_buffer_bytes(anx_buffer *buffer, const void *bytes, size_t size)
{
    char *to = anx_buffer_reserve(buffer, size);

    if (!to || size == 0)
        return;
    memcpy(to, bytes, size);
    buffer->size += size;
}

void
anx_buffer_text(anx_buffer *buffer, anx_text text)
{
    anx_buffer_bytes(buffer, text.data, text.size);
}

void
anx_buffer_char(anx_buffer *buffer, char c)
{
    char *to = anx_buffer_reserve(buffer, 1);

    if (!to)
        return;
    *to = c;
    buffer->size++;
}

void
anx_buffer_varint(anx_buffer *buffer, uint64_t value)
{
    char bytes[10];
    size_t n = 0;

    for (; value >= 0x80; value >>= 7)
        bytes[n++] = (char) (value | 0x80);
    bytes[n++] = (char) value;
    anx_buffer_bytes(buffer, bytes, n);
}

void
anx_buffer_zigzag(anx_buffer *buffer, int64_t value)
{
    anx_buffer_varint(buffer, ((uint64_t) value << 1) ^ (uint64_t) (value < 0 ? -1 : 0));
}

void
anx_buffer_le(anx_buffer *buffer, uint64_t value, size_t n_byte)
{
    uint8_t bytes[8];

    anx_store_le(bytes, value, n_byte);
    anx_buffer_bytes(buffer, bytes, n_byte);
}

void
anx_buffer_printf(anx_buffer *buffer, const char *format, ...)
{
    va_list arguments;
    char *to;
    int n;

    va_start(arguments, format);
    n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (n < 0) {
        buffer->failed = true;
        return;
    }
    to = anx_buffer_reserve(buffer, (size_t) n + 1); /* the terminator is written, and not counted */
    if (!to)
        return;
    va_start(arguments, format);
    n = vsnprintf(to, (size_t) n + 1, format, arguments);
    va_end(arguments);
    if (n > 0)
        buffer->size += (size_t) n;
}
