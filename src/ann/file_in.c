/* Input: the mirror of file_out.c. Nothing is believed: memory for what a file claims to hold grows only as
 * the bytes arrive, unless the size of the whole input is known and large enough for the claim. */
#include <string.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/hash.h"

#define TAKE_FIRST ((size_t) 4 << 20) /* first piece of memory given on trust; taste */

anx_status
file_grow(const anx_alloc *alloc, void **array, size_t *capacity, size_t need, size_t size, anx_error *err)
{
    size_t wanted = *capacity ? *capacity : 64;
    void *grown;

    if (need <= *capacity)
        return ANX_OK;
    while (wanted < need)
        wanted = wanted > SIZE_MAX / 2 ? need : wanted * 2;
    grown = anx_realloc_array(alloc, *array, wanted, size);
    if (!grown)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu elements of %zu bytes", wanted, size);
    *array = grown;
    *capacity = wanted;
    return ANX_OK;
}

anx_status
file_in_init(struct file_in *in, const anx_source *source, const anx_alloc *alloc, uint64_t size,
             anx_error *err)
{
    *in = (struct file_in) { .source = source, .alloc = alloc, .size = size, .is_summed = true };
    in->block_size = size < FILE_BLOCK ? (size_t) size + 1 : FILE_BLOCK;
    in->block = anx_alloc_bytes(alloc, in->block_size);
    if (!in->block)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a read buffer of %zu bytes", in->block_size);
    return ANX_OK;
}

void
file_in_fini(struct file_in *in)
{
    anx_free(in->alloc, in->block);
    anx_free(in->alloc, in->sums);
    in->block = NULL, in->sums = NULL;
}

uint64_t
file_in_at(const struct file_in *in)
{
    return in->base + in->pos;
}

static anx_status
sum_block(struct file_in *in, anx_error *err)
{
    void *sums = in->sums;
    anx_status st = file_grow(in->alloc, &sums, &in->sum_capacity, in->n_sum + 1, sizeof(*in->sums), err);

    in->sums = sums;
    if (st == ANX_OK)
        in->sums[in->n_sum++] = anx_hash(in->block, in->pos);
    return st;
}

/* The block is used up: the next one. */
static anx_status
next_block(struct file_in *in, anx_error *err)
{
    anx_status st;

    if (in->have == FILE_BLOCK) {
        if (in->is_summed) {
            st = sum_block(in, err);
            if (st != ANX_OK)
                return st;
        }
        in->base += FILE_BLOCK;
        in->have = in->pos = 0;
    } else if (in->have > 0) {
        return ANX_OK; /* a short block is the last one */
    }
    st = in->source->read(in->source->context, in->block, FILE_BLOCK, &in->have, err);
    if (st == ANX_OK && in->have > FILE_BLOCK)
        return anx_fail(err, ANX_E_INTERNAL, "a source gave %zu bytes where at most %zu were asked for",
                        in->have, FILE_BLOCK);
    return st;
}

anx_status
file_in_some(struct file_in *in, void *bytes, size_t size, size_t *got, anx_error *err)
{
    uint8_t *to = bytes;

    *got = 0;
    while (*got < size) {
        size_t n = size - *got;

        if (in->pos == in->have) {
            anx_status st = next_block(in, err);
            if (st != ANX_OK)
                return st;
            if (in->pos == in->have)
                return ANX_OK;
        }
        if (n > in->have - in->pos)
            n = in->have - in->pos;
        if (to)
            memcpy(to + *got, in->block + in->pos, n);
        in->pos += n;
        *got += n;
    }
    return ANX_OK;
}

static anx_status
fail_short(const struct file_in *in, uint64_t missing, anx_error *err)
{
    return anx_fail(err, ANX_E_CORRUPT,
                    "file is cut short: it ends at byte %llu, at least %llu more must follow",
                    (unsigned long long) file_in_at(in), (unsigned long long) missing);
}

anx_status
file_in_read(struct file_in *in, void *bytes, size_t size, anx_error *err)
{
    size_t got;
    anx_status st = file_in_some(in, bytes, size, &got, err);

    if (st == ANX_OK && got < size)
        return fail_short(in, size - got, err);
    return st;
}

anx_status
file_in_skip(struct file_in *in, uint64_t size, anx_error *err)
{
    while (size > 0) {
        size_t n = size < FILE_BLOCK ? (size_t) size : FILE_BLOCK;
        anx_status st = file_in_read(in, NULL, n, err);

        if (st != ANX_OK)
            return st;
        size -= n;
    }
    return ANX_OK;
}

anx_status
file_in_take(struct file_in *in, uint64_t size, uint8_t **out, anx_error *err)
{
    bool is_known = in->size != UINT64_MAX;
    uint64_t left = in->size > file_in_at(in) ? in->size - file_in_at(in) : 0;
    uint64_t room = is_known || size < TAKE_FIRST ? size : TAKE_FIRST;
    uint64_t done = 0;
    anx_status st = ANX_OK;

    *out = NULL;
    if (is_known && size > left)
        return anx_fail(err, ANX_E_CORRUPT, "file claims %llu bytes at byte %llu, but %llu are left",
                        (unsigned long long) size, (unsigned long long) file_in_at(in),
                        (unsigned long long) left);
    while (st == ANX_OK && (done < size || !*out)) {
        uint8_t *grown = anx_alloc_aligned(in->alloc, (size_t) room, 1);

        if (!grown) {
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate %llu bytes for part of a file",
                          (unsigned long long) room);
            break;
        }
        if (*out)
            memcpy(grown, *out, (size_t) done);
        anx_free_aligned(in->alloc, *out);
        *out = grown;
        st = file_in_read(in, grown + done, (size_t) (room - done), err);
        done = room;
        room = size - done < done ? size : 2 * done;
    }
    if (st != ANX_OK) {
        anx_free_aligned(in->alloc, *out);
        *out = NULL;
    }
    return st;
}

anx_status
file_in_end_body(struct file_in *in, anx_error *err)
{
    anx_status st = ANX_OK;

    if (in->is_summed && in->pos > 0)
        st = sum_block(in, err);
    in->is_summed = false;
    return st;
}
