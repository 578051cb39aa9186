/* A growing table of equal items in blocks of 4,096, indexed by row id. Growing does not copy what is there
 * (only the first block is grown by doubling, so that small namespaces stay small), so it stops readers for a
 * moment and not for the length of a copy. Threads: as the structure it is part of. */
#ifndef ANX_DB_CHUNKS_H
#define ANX_DB_CHUNKS_H

#include <stdint.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

enum { CHUNK_BITS = 12, CHUNK_ITEMS = 1 << CHUNK_BITS, CHUNK_FIRST = 32 };

struct chunks {
    uint8_t **blocks; /* owned [capacity], n_block of them used */
    size_t n_block, capacity;
    size_t first_items; /* room in block 0 */
    size_t item_size;
};

static inline void
chunks_init(struct chunks *c, size_t item_size)
{
    *c = (struct chunks) { .item_size = item_size };
}

static inline void
chunks_fini(struct chunks *c)
{
    for (size_t i = 0; i < c->n_block; i++)
        anx_free(NULL, c->blocks[i]);
    anx_free(NULL, c->blocks);
    chunks_init(c, c->item_size);
}

/* Items there is room for. */
static inline size_t
chunks_end(const struct chunks *c)
{
    return c->n_block > 1 ? c->n_block << CHUNK_BITS : c->first_items;
}

static inline void *
chunks_at(const struct chunks *c, size_t i)
{
    return c->blocks[i >> CHUNK_BITS] + (i & (CHUNK_ITEMS - 1)) * c->item_size;
}

static inline anx_status
chunks_grow_first(struct chunks *c, size_t end, anx_error *err)
{
    size_t items = c->first_items ? c->first_items : CHUNK_FIRST;
    uint8_t *block;

    while (items < end && items < CHUNK_ITEMS)
        items *= 2;
    block = anx_realloc_array(NULL, c->n_block ? c->blocks[0] : NULL, items, c->item_size);
    if (!block)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a table of %zu items", end);
    memset(block + c->first_items * c->item_size, 0, (items - c->first_items) * c->item_size);
    c->blocks[0] = block;
    c->n_block = 1;
    c->first_items = items;
    return ANX_OK;
}

/* Room for items below end; new ones are zero. */
static inline anx_status
chunks_reserve(struct chunks *c, size_t end, anx_error *err)
{
    size_t want = (end + CHUNK_ITEMS - 1) >> CHUNK_BITS;

    if (end <= chunks_end(c))
        return ANX_OK;
    if (want > c->capacity) {
        size_t capacity = want > 2 * c->capacity ? want : 2 * c->capacity;
        uint8_t **blocks = anx_realloc_array(NULL, c->blocks, capacity, sizeof(*blocks));

        if (!blocks)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate a table of %zu items", end);
        c->blocks = blocks;
        c->capacity = capacity;
    }
    if (c->first_items < CHUNK_ITEMS) {
        anx_status st = chunks_grow_first(c, end, err);

        if (st != ANX_OK)
            return st;
    }
    while (c->n_block < want) {
        c->blocks[c->n_block] = anx_alloc_zeroed(NULL, CHUNK_ITEMS, c->item_size);
        if (!c->blocks[c->n_block])
            return anx_fail(err, ANX_E_NOMEM, "could not allocate a table of %zu items", end);
        c->n_block++;
    }
    return ANX_OK;
}

static inline size_t
chunks_memory(const struct chunks *c)
{
    size_t items = c->n_block > 1 ? c->n_block << CHUNK_BITS : c->first_items;

    return items * c->item_size + c->capacity * sizeof(*c->blocks);
}

#endif
