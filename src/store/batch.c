/* Batches: changes in the order in which they were made, in blocks of memory, with the checksums of their
 * values computed by the thread that makes the batch. */
#include <string.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/hash.h"
#include "store/store_int.h"

/* Small enough for a batch of one document, large enough that a bulk load rarely asks for another. */
enum { BLOCK_FIRST = 4096, BLOCK_MORE = 1 << 20 };

struct store_batch *
store_batch_create(void)
{
    return anx_alloc_zeroed(NULL, 1, sizeof(struct store_batch));
}

void
store_batch_destroy(struct store_batch *batch)
{
    if (!batch)
        return;
    for (struct store_block *block = batch->first; block;) {
        struct store_block *next = block->next;

        anx_free(NULL, block);
        block = next;
    }
    anx_free(NULL, batch);
}

size_t
store_batch_bytes(const struct store_batch *batch)
{
    return batch->bytes;
}

static size_t
op_size(size_t key_size, size_t value_size)
{
    return (sizeof(struct store_op) + key_size + value_size + 15) / 16 * 16;
}

static struct store_block *
batch_block(struct store_batch *batch, size_t size)
{
    size_t capacity = batch->first ? BLOCK_MORE : BLOCK_FIRST;
    struct store_block *block = batch->last;

    if (block && block->capacity - block->used >= size)
        return block;
    if (capacity < size)
        capacity = size;
    block = anx_alloc_bytes(NULL, sizeof(*block) + capacity);
    if (!block)
        return NULL;
    *block = (struct store_block) { .capacity = capacity };
    if (batch->last)
        batch->last->next = block;
    else
        batch->first = block;
    batch->last = block;
    return block;
}

/* Room for an op with its key copied; value_size includes the checksum. NULL latches `failed`. */
static struct store_op *
batch_add(struct store_batch *batch, struct store_table *table, enum op_kind kind, anx_text key,
          size_t value_size)
{
    size_t size = op_size(key.size, value_size);
    struct store_block *block;
    struct store_op *op;

    if (batch->failed || key.size > STORE_KEY_MAX || (kind != OP_CLEAR && key.size == 0)
        || value_size > UINT32_MAX || !(block = batch_block(batch, size))) {
        batch->failed = true;
        return NULL;
    }
    op = (struct store_op *) (void *) (block->bytes + block->used);
    *op = (struct store_op) { .table = table, .kind = kind, .key_size = key.size, .value_size = value_size };
    if (key.size > 0)
        memcpy(op + 1, key.data, key.size);
    block->used += size;
    batch->bytes += size;
    return op;
}

void
store_batch_put_parts(struct store_batch *batch, struct store_table *table, anx_text key,
                      const anx_text *parts, size_t n_part)
{
    size_t size = 0;
    struct store_op *op;
    uint8_t *to;

    for (size_t i = 0; i < n_part; i++)
        size += parts[i].size;
    op = batch_add(batch, table, OP_PUT, key, size + STORE_SUM_SIZE);
    if (!op)
        return;
    to = (uint8_t *) (op + 1) + key.size;
    for (size_t i = 0; i < n_part; i++) {
        if (parts[i].size > 0)
            memcpy(to, parts[i].data, parts[i].size);
        to += parts[i].size;
    }
    anx_store_le(to, store_sum(key, to - size, size), STORE_SUM_SIZE);
}

void
store_batch_put(struct store_batch *batch, struct store_table *table, anx_text key, anx_text value)
{
    store_batch_put_parts(batch, table, key, &value, 1);
}

void
store_batch_delete(struct store_batch *batch, struct store_table *table, anx_text key)
{
    (void) batch_add(batch, table, OP_DELETE, key, 0);
}

void
store_batch_clear_table(struct store_batch *batch, struct store_table *table)
{
    (void) batch_add(batch, table, OP_CLEAR, (anx_text) { NULL, 0 }, 0);
}

const struct store_op *
store_batch_next(const struct store_block **block, const struct store_op *at)
{
    const uint8_t *next;

    if (!*block)
        return NULL;
    next = at ? (const uint8_t *) at + op_size(at->key_size, at->value_size) : (*block)->bytes;
    if (next == (*block)->bytes + (*block)->used) {
        *block = (*block)->next;
        if (!*block)
            return NULL;
        next = (*block)->bytes;
    }
    return (const struct store_op *) (const void *) next;
}

/* The key takes part, so that a value that a damaged page puts under another key is found out. */
uint64_t
store_sum(anx_text key, const void *value, size_t size)
{
    return anx_hash(value, size) + anx_hash(key.data, key.size) * 0x9e3779b97f4a7c15u;
}
