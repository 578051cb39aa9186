/* Output: bytes are gathered in blocks that lie at multiples of FILE_BLOCK in the file; a full block is
 * summed and handed to the sink in one call, so sockets and pages see few large writes, and a checksum costs
 * one pass over hot memory. */
#include <string.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/hash.h"

void
file_out_init(struct file_out *out, const anx_sink *sink, const anx_alloc *alloc, uint64_t size,
              bool is_summed, anx_error *err)
{
    *out = (struct file_out) { .sink = sink, .alloc = alloc, .err = err, .is_summed = is_summed };
    out->block_size =
        size < FILE_BLOCK ? (size_t) size + 1 : FILE_BLOCK; /* a small index is saved with little */
    out->block = anx_alloc_bytes(alloc, out->block_size);
    if (!out->block)
        out->status =
            anx_fail(err, ANX_E_NOMEM, "could not allocate a write buffer of %zu bytes", out->block_size);
}

void
file_out_fini(struct file_out *out)
{
    anx_free(out->alloc, out->block);
    anx_free(out->alloc, out->sums);
    out->block = NULL, out->sums = NULL;
}

uint64_t
file_out_at(const struct file_out *out)
{
    return out->base + out->used;
}

/* Sums the block as far as it is filled. */
static void
sum_block(struct file_out *out)
{
    void *sums = out->sums;

    out->status =
        file_grow(out->alloc, &sums, &out->sum_capacity, out->n_sum + 1, sizeof(*out->sums), out->err);
    out->sums = sums;
    if (out->status == ANX_OK)
        out->sums[out->n_sum++] = anx_hash(out->block, out->used);
}

static void
send_block(struct file_out *out)
{
    if (out->used == 0)
        return;
    out->status = out->sink->write(out->sink->context, out->block, out->used, out->err);
    out->base += out->used;
    out->used = 0;
}

void
file_out_write(struct file_out *out, const void *bytes, size_t size)
{
    const uint8_t *from = bytes;

    while (out->status == ANX_OK && size > 0) {
        size_t room = out->block_size - out->used;
        size_t n = size < room ? size : room;

        memcpy(out->block + out->used, from, n);
        out->used += n, from += n, size -= n;
        if (out->used < out->block_size)
            break;
        if (out->is_summed)
            sum_block(out);
        if (out->status == ANX_OK)
            send_block(out);
    }
}

void
file_out_le(struct file_out *out, uint64_t value, size_t size)
{
    uint8_t bytes[8];

    anx_store_le(bytes, value, size);
    file_out_write(out, bytes, size);
}

void
file_out_pad(struct file_out *out, uint64_t until)
{
    static const uint8_t zeros[4096];

    while (out->status == ANX_OK && file_out_at(out) < until) {
        uint64_t left = until - file_out_at(out);

        file_out_write(out, zeros, left < sizeof(zeros) ? (size_t) left : sizeof(zeros));
    }
}

void
file_out_end_body(struct file_out *out)
{
    if (out->status == ANX_OK && out->is_summed && out->used > 0)
        sum_block(out);
    out->is_summed = false;
}

void
file_out_flush(struct file_out *out)
{
    if (out->status == ANX_OK)
        send_block(out);
}
