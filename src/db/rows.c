/* The row table: a pointer per row to a block with the document's size, version and bytes, a bitmap of all
 * rows, and a stack of freed ids. Beyond its bytes a document costs the pointer, twelve bytes of size and
 * version and what the heap adds: about 32 bytes. */
#include "db/chunks.h"
#include "db/data.h"

#define HEAD_BYTES (sizeof(uint32_t) + sizeof(uint64_t)) /* size, version */
#define HEAP_BYTES 16 /* header and rounding of a block of glibc's heap, on average */

struct row_table {
    struct chunks blocks;  /* uint8_t * per row: size, then bytes; NULL: no document */
    roaring_bitmap_t *all; /* rows with a document */
    uint32_t end;          /* ids that were ever published are below */
    uint32_t count;
    uint64_t bytes; /* of the blocks */
    /* Ids: the holder of write_lock only. */
    uint32_t next;     /* this one and those above were never taken */
    uint32_t *free;    /* owned, a stack */
    /* Changed under the write lock alone, while statistics read them under data_lock. */
    atomic_size_t n_free, free_capacity;
};

/* Versions of documents, of all tables: a row that is given to another document, or read again under another
 * shape, never repeats one. They are numbered anew by every start. */
static _Atomic uint64_t last_version;

static uint8_t **
block_of(const struct row_table *rows, uint32_t row)
{
    return chunks_at(&rows->blocks, row);
}

struct row_table *
rows_create(void)
{
    struct row_table *rows = anx_alloc_zeroed(NULL, 1, sizeof(*rows));

    if (!rows)
        return NULL;
    chunks_init(&rows->blocks, sizeof(uint8_t *));
    rows->all = roaring_bitmap_create();
    if (!rows->all) {
        anx_free(NULL, rows);
        return NULL;
    }
    return rows;
}

void
rows_destroy(struct row_table *rows)
{
    if (!rows)
        return;
    for (uint32_t row = 0; row < rows->end; row++)
        anx_free(NULL, *block_of(rows, row));
    chunks_fini(&rows->blocks);
    roaring_bitmap_free(rows->all);
    anx_free(NULL, rows->free);
    anx_free(NULL, rows);
}

struct doc
rows_get(const struct row_table *rows, uint32_t row)
{
    const uint8_t *block = row < rows->end ? *block_of(rows, row) : NULL;
    uint32_t size;

    if (!block)
        return (struct doc) { NULL, 0 };
    memcpy(&size, block, sizeof(size));
    return (struct doc) { block + HEAD_BYTES, size };
}

uint64_t
rows_version(const struct row_table *rows, uint32_t row)
{
    const uint8_t *block = row < rows->end ? *block_of(rows, row) : NULL;
    uint64_t version = 0;

    if (block)
        memcpy(&version, block + sizeof(uint32_t), sizeof(version));
    return version;
}

uint32_t
rows_end(const struct row_table *rows)
{
    return rows->end;
}

uint32_t
rows_count(const struct row_table *rows)
{
    return rows->count;
}

const roaring_bitmap_t *
rows_all(const struct row_table *rows)
{
    return rows->all;
}

/* The stack has room for every id that is in use, so that freeing cannot fail. */
static anx_status
reserve_free(struct row_table *rows, size_t n, anx_error *err)
{
    size_t capacity = rows->free_capacity ? rows->free_capacity : 64;
    uint32_t *free;

    if (n <= rows->free_capacity)
        return ANX_OK;
    while (capacity < n)
        capacity *= 2;
    free = anx_realloc_array(NULL, rows->free, capacity, sizeof(*free));
    if (!free)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the list of free rows");
    rows->free = free;
    rows->free_capacity = capacity;
    return ANX_OK;
}

anx_status
rows_take(struct row_table *rows, uint32_t *row, anx_error *err)
{
    anx_status st;

    if (rows->n_free > 0) {
        *row = rows->free[--rows->n_free];
        return ANX_OK;
    }
    if (rows->next >= UINT32_MAX - 1)
        return anx_fail(err, ANX_E_LIMIT, "a namespace holds at most %u documents", UINT32_MAX - 1);
    st = reserve_free(rows, (size_t) rows->next + 1, err);
    if (st == ANX_OK)
        *row = rows->next++;
    return st;
}

uint32_t
rows_next(const struct row_table *rows)
{
    return rows->n_free > 0 ? rows->free[rows->n_free - 1] : rows->next;
}

void
rows_give_back(struct row_table *rows, uint32_t row)
{
    if (row + 1 == rows->next)
        rows->next--;
    else
        rows->free[rows->n_free++] = row;
    if (rows->count == 0 && rows->n_free == rows->next)
        rows->n_free = rows->next = 0;
}

size_t
rows_free(const struct row_table *rows)
{
    return rows->n_free;
}

/* A row that is put where rows_take did not give it: ids below it become free, and it is not free any more.
 */
static anx_status
claim(struct row_table *rows, uint32_t row, anx_error *err)
{
    anx_status st = reserve_free(rows, (size_t) row + 1, err);

    if (st != ANX_OK)
        return st;
    for (; rows->next < row; rows->next++)
        rows->free[rows->n_free++] = rows->next;
    if (rows->next == row) {
        rows->next++;
        return ANX_OK;
    }
    for (size_t i = 0; i < rows->n_free; i++)
        if (rows->free[i] == row) {
            memmove(rows->free + i, rows->free + i + 1, (rows->n_free - i - 1) * sizeof(*rows->free));
            rows->n_free--;
            break;
        }
    return ANX_OK;
}

uint64_t
rows_next_version(void)
{
    return atomic_fetch_add_explicit(&last_version, 1, memory_order_relaxed) + 1;
}

static uint8_t *
block_create(struct doc doc)
{
    uint32_t size = (uint32_t) doc.size;
    uint64_t version = rows_next_version();
    uint8_t *block = anx_alloc_bytes(NULL, HEAD_BYTES + doc.size);

    if (!block)
        return NULL;
    memcpy(block, &size, sizeof(size));
    memcpy(block + sizeof(size), &version, sizeof(version));
    memcpy(block + HEAD_BYTES, doc.bytes, doc.size);
    return block;
}

anx_status
rows_put(struct row_table *rows, uint32_t row, struct doc doc, anx_error *err)
{
    if (row >= UINT32_MAX - 1)
        return anx_fail(err, ANX_E_LIMIT, "a namespace holds at most %u documents", UINT32_MAX - 1);
    if (!rows_get(rows, row).bytes) {
        anx_status st = claim(rows, row, err);

        if (st != ANX_OK)
            return st;
    }
    return rows_set(rows, row, doc, err);
}

anx_status
rows_set(struct row_table *rows, uint32_t row, struct doc doc, anx_error *err)
{
    anx_status st = chunks_reserve(&rows->blocks, (size_t) row + 1, err);
    uint8_t *block, **place;

    if (st != ANX_OK)
        return st;
    if (doc.size > UINT32_MAX - HEAD_BYTES)
        return anx_fail(err, ANX_E_LIMIT, "a document of %zu bytes is larger than 4 GiB", doc.size);
    block = block_create(doc);
    if (!block)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a document of %zu bytes", doc.size);
    place = block_of(rows, row);
    if (*place) {
        rows->bytes -= rows_get(rows, row).size;
        anx_free(NULL, *place);
    } else {
        roaring_bitmap_add(rows->all, row);
        rows->count++;
    }
    *place = block;
    rows->bytes += doc.size;
    if (row >= rows->end)
        rows->end = row + 1;
    return ANX_OK;
}

void
rows_remove(struct row_table *rows, uint32_t row)
{
    struct doc doc = rows_get(rows, row);

    if (!doc.bytes)
        return;
    anx_free(NULL, *block_of(rows, row));
    *block_of(rows, row) = NULL;
    rows->bytes -= doc.size;
    rows->count--;
    roaring_bitmap_remove(rows->all, row);
    rows->free[rows->n_free++] = row;
    if (rows->count == 0 && rows->n_free == rows->next) { /* numbering restarts with an empty namespace */
        rows->n_free = 0;
        rows->next = rows->end = 0;
    }
}

size_t
rows_memory(const struct row_table *rows)
{
    return sizeof(*rows) + rows->bytes + (HEAD_BYTES + HEAP_BYTES) * rows->count +
           chunks_memory(&rows->blocks) + roaring_bitmap_size_in_bytes(rows->all) +
           rows->free_capacity * sizeof(*rows->free);
}
