/* The rows that have one word, with the places of the word in each: blocks of compressed entries.
 *
 * A change is prepared first and made later: what it needs is allocated by entries_begin (a new block in the
 * place of an old one, or two, or none when the entry fits behind the last), so that entries_commit cannot
 * fail. Taking an entry out rewrites its block in place: the two distances around it become one that is never
 * longer. */
#include "text/text_int.h"

enum { BLOCK_ENTRIES = 128, BLOCK_BYTES = 1024, BLOCK_FIRST = 16, ENTRY_HEAD = 5 };

uint32_t
varint_read(const uint8_t **at)
{
    const uint8_t *p = *at;
    uint32_t value = *p & 0x7f;
    unsigned shift = 7;

    while (*p++ & 0x80) {
        value |= (uint32_t) (*p & 0x7f) << shift;
        shift += 7;
    }
    *at = p;
    return value;
}

size_t
varint_write(uint8_t *out, uint32_t value)
{
    size_t n = 0;

    while (value >= 0x80) {
        out[n++] = (uint8_t) (value | 0x80);
        value >>= 7;
    }
    out[n++] = (uint8_t) value;
    return n;
}

/* ---- Reading ---- */

/* One entry of a block. */
struct entry {
    uint32_t row, n_place;
    const uint8_t *start;  /* the distance of the row */
    const uint8_t *places; /* n_place, behind the distance */
    const uint8_t *end;
};

static void
read_entry(const uint8_t *at, uint32_t previous, struct entry *out)
{
    out->start = at;
    out->row = previous + varint_read(&at);
    out->places = at;
    out->n_place = varint_read(&at);
    for (uint32_t i = 0; i < out->n_place; i++)
        while (*at++ & 0x80)
            ;
    out->end = at;
}

void
cursor_begin(struct cursor *c, const struct word_entries *rows)
{
    *c = (struct cursor) { .rows = rows };
}

bool
cursor_next(struct cursor *c)
{
    const struct block *block;
    struct entry entry;

    if (c->block >= c->rows->n)
        return false;
    block = c->rows->blocks[c->block];
    read_entry(c->i == 0 ? block->bytes : c->at, c->i == 0 ? block->first : c->row, &entry);
    c->row = entry.row;
    c->n_place = entry.n_place;
    c->places = entry.places;
    (void) varint_read(&c->places);
    c->at = entry.end;
    if (++c->i == block->n) {
        c->i = 0;
        c->block++;
    }
    return true;
}

/* The last block that begins at or before the row; 0 when there is none. */
static uint32_t
find_block(const struct word_entries *rows, uint32_t row)
{
    uint32_t low = 0, high = rows->n;

    while (low < high) {
        uint32_t middle = (low + high) / 2;

        if (rows->blocks[middle]->first <= row)
            low = middle + 1;
        else
            high = middle;
    }
    return low > 0 ? low - 1 : 0;
}

bool
entries_has(const struct word_entries *rows, uint32_t row)
{
    struct cursor c = { .rows = rows, .block = find_block(rows, row) };
    uint32_t block = c.block;

    while (c.block == block && cursor_next(&c))
        if (c.row >= row)
            return c.row == row;
    return false;
}

/* ---- Putting in ---- */

static struct block *
new_block(uint32_t capacity)
{
    struct block *block = anx_alloc_bytes(NULL, sizeof(*block) + capacity);

    if (block)
        *block = (struct block) { .capacity = capacity };
    return block;
}

static void
append(struct block *block, uint32_t row, const uint8_t *places, uint32_t size)
{
    if (block->n++ == 0)
        block->first = block->last = row;
    block->size += (uint32_t) varint_write(block->bytes + block->size, row - block->last);
    if (size > 0)
        memcpy(block->bytes + block->size, places, size);
    block->size += size;
    block->last = row;
}

/* Room for the entries a block has, a new one, and as much again. */
static uint32_t
room(uint32_t size, uint32_t more)
{
    uint32_t need = size + more + ENTRY_HEAD, capacity = BLOCK_FIRST;

    while (capacity < need)
        capacity += capacity / 2;
    return capacity;
}

static anx_status
fail_memory(struct entry_change *change, anx_error *err)
{
    entries_abort(change);
    return anx_fail(err, ANX_E_NOMEM, "could not allocate the postings of a word");
}

/* The entries of a block and the new one, into one block or several. */
static anx_status
rewrite(const struct block *old, struct entry_change *change, anx_error *err)
{
    uint32_t total = old->n + 1, half = total > BLOCK_ENTRIES || old->size > BLOCK_BYTES ? total / 2 : total;
    uint32_t previous = old->first;
    const uint8_t *at = old->bytes;
    bool is_done = false;
    struct block *block = NULL;

    change->replaces = true;
    for (uint32_t i = 0; i < old->n || !is_done;) {
        struct entry e = { 0 };
        bool is_new;

        if (i < old->n)
            read_entry(at, previous, &e);
        is_new = !is_done && (i == old->n || e.row >= change->row);
        if (!block || (block->n >= half && change->n_block < 2)) {
            block = new_block(room(old->size, change->size));
            if (!block)
                return fail_memory(change, err);
            change->blocks[change->n_block++] = block;
        }
        if (is_new) {
            append(block, change->row, change->places, change->size);
            is_done = true;
            change->had_row = i < old->n && e.row == change->row;
            if (!change->had_row)
                continue;
        } else {
            append(block, e.row, e.places, (uint32_t) (e.end - e.places));
        }
        previous = e.row;
        at = e.end;
        i++;
    }
    return ANX_OK;
}

static anx_status
reserve_blocks(struct word_entries *rows, anx_error *err)
{
    uint32_t capacity = rows->capacity ? 2 * rows->capacity : 1;
    struct block **blocks;

    if (rows->n + 1 < rows->capacity || (rows->n == 0 && rows->capacity > 0))
        return ANX_OK;
    while (capacity < rows->n + 2 && rows->n > 0)
        capacity *= 2;
    blocks = anx_realloc_array(NULL, rows->blocks, capacity, sizeof(struct block *));
    if (!blocks)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the postings of a word");
    rows->blocks = blocks;
    rows->capacity = capacity;
    return ANX_OK;
}

anx_status
entries_begin(struct word_entries *rows, uint32_t row, const uint8_t *places, uint32_t size,
           struct entry_change *change, anx_error *err)
{
    struct block *block = NULL;
    anx_status st;

    *change = (struct entry_change) { .row = row, .places = places, .size = size };
    change->at = find_block(rows, row);
    if (rows->n > 0)
        block = rows->blocks[change->at];
    if (block && row > block->last && block->n < BLOCK_ENTRIES && block->size + size < BLOCK_BYTES) {
        if (block->size + size + ENTRY_HEAD <= block->capacity)
            return ANX_OK;
        change->blocks[0] = new_block(room(block->size + block->size / 2, size));
        if (!change->blocks[0])
            return fail_memory(change, err);
        change->n_block = 1;
        change->replaces = true;
        memcpy(change->blocks[0]->bytes, block->bytes, block->size);
        change->blocks[0]->first = block->first;
        change->blocks[0]->last = block->last;
        change->blocks[0]->n = block->n;
        change->blocks[0]->size = block->size;
        append(change->blocks[0], row, places, size);
        return ANX_OK;
    }
    st = reserve_blocks(rows, err);
    if (st != ANX_OK)
        return st;
    if (block && row <= block->last)
        return rewrite(block, change, err);
    change->at += block != NULL;
    change->blocks[0] = new_block(room(0, size));
    if (!change->blocks[0])
        return fail_memory(change, err);
    change->n_block = 1;
    append(change->blocks[0], row, places, size);
    return ANX_OK;
}

void
entries_commit(struct word_entries *rows, struct entry_change *change)
{
    uint32_t n_new = change->n_block - change->replaces;

    if (change->n_block == 0) {
        append(rows->blocks[change->at], change->row, change->places, change->size);
        return;
    }
    if (change->replaces)
        anx_free(NULL, rows->blocks[change->at]);
    if (n_new > 0) {
        memmove(rows->blocks + change->at + n_new, rows->blocks + change->at,
                (rows->n - change->at) * sizeof(struct block *));
        rows->n += n_new;
    }
    for (uint32_t i = 0; i < change->n_block; i++)
        rows->blocks[change->at + i] = change->blocks[i];
    change->n_block = 0;
}

void
entries_abort(struct entry_change *change)
{
    while (change->n_block > 0)
        anx_free(NULL, change->blocks[--change->n_block]);
}

/* ---- Taking out ---- */

static void
remove_block(struct word_entries *rows, uint32_t at)
{
    anx_free(NULL, rows->blocks[at]);
    rows->n--;
    memmove(rows->blocks + at, rows->blocks + at + 1, (rows->n - at) * sizeof(struct block *));
    if (rows->n == 0)
        entries_free(rows);
}

/* Entry `e` out of its block; previous: the row before it. */
static void
remove_entry(struct block *block, const struct entry *e, uint32_t previous, bool is_first)
{
    uint8_t *to = block->bytes + (e->start - block->bytes);
    const uint8_t *stop = block->bytes + block->size;
    struct entry next;

    block->n--;
    if (e->end == stop) {
        block->last = previous;
        block->size = (uint32_t) (to - block->bytes);
        return;
    }
    read_entry(e->end, e->row, &next);
    if (is_first)
        block->first = next.row;
    to += varint_write(to, is_first ? 0 : next.row - previous);
    memmove(to, next.places, (size_t) (stop - next.places));
    block->size = (uint32_t) (to + (stop - next.places) - block->bytes);
}

bool
entries_remove(struct word_entries *rows, uint32_t row)
{
    uint32_t at = find_block(rows, row), previous;
    struct block *block = rows->n > 0 ? rows->blocks[at] : NULL;
    const uint8_t *p;

    if (!block || row < block->first || row > block->last)
        return false;
    p = block->bytes;
    previous = block->first;
    for (uint32_t i = 0; i < block->n; i++) {
        struct entry e;

        read_entry(p, previous, &e);
        if (e.row == row && block->n == 1) {
            remove_block(rows, at);
            return true;
        }
        if (e.row == row) {
            remove_entry(block, &e, previous, i == 0);
            return true;
        }
        previous = e.row;
        p = e.end;
    }
    return false;
}

void
entries_free(struct word_entries *rows)
{
    for (uint32_t i = 0; i < rows->n; i++)
        anx_free(NULL, rows->blocks[i]);
    anx_free(NULL, rows->blocks);
    *rows = (struct word_entries) { 0 };
}

size_t
entries_memory(const struct word_entries *rows)
{
    size_t sum = rows->capacity * sizeof(struct block *);

    for (uint32_t i = 0; i < rows->n; i++)
        sum += sizeof(struct block) + rows->blocks[i]->capacity;
    return sum;
}

/* ---- Checking ---- */

static const char *
block_complaint(const struct block *block)
{
    const uint8_t *at = block->bytes;
    struct entry e = { .row = block->first };

    if (block->n == 0 || block->size > block->capacity)
        return "a block is empty or larger than its memory";
    for (uint32_t i = 0; i < block->n; i++) {
        uint32_t previous = e.row;

        if (at >= block->bytes + block->size)
            return "a block has fewer entries than it says";
        read_entry(at, previous, &e);
        if (i == 0 ? e.row != block->first : e.row <= previous)
            return "rows do not ascend";
        if (e.n_place == 0)
            return "a row has no places";
        at = e.end;
    }
    if (e.row != block->last || at != block->bytes + block->size)
        return "a block does not end where it says";
    return NULL;
}

const char *
entries_complaint(const struct word_entries *rows, uint32_t *n_row)
{
    *n_row = 0;
    for (uint32_t i = 0; i < rows->n; i++) {
        const char *complaint = block_complaint(rows->blocks[i]);

        if (complaint)
            return complaint;
        if (i > 0 && rows->blocks[i]->first <= rows->blocks[i - 1]->last)
            return "blocks overlap";
        *n_row += rows->blocks[i]->n;
    }
    return NULL;
}
