/* Arenas: a chain of blocks, filled from the newest. Blocks double up to a size; what does not fit the
 * current block and is large gets a block of its own size, and the current one goes on being filled. */
#include "base/arena.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/alloc.h"

enum {
    FIRST_BLOCK = 4 << 10,
    LAST_BLOCK = 1 << 20,
    ALIGNMENT = 16 /* max_align_t on every 64-bit machine we know */
};
_Static_assert(_Alignof(max_align_t) <= ALIGNMENT, "arena memory is aligned for any type");

struct block {
    _Alignas(ALIGNMENT) struct block *next;
    size_t size, used; /* of bytes */
    _Alignas(ALIGNMENT) unsigned char bytes[];
};
struct anx_arena {
    const anx_alloc *alloc;
    struct block *newest; /* being filled; the largest of the chain */
    struct block *own;    /* blocks of one allocation each */
    size_t limit, used, next_size;
};

anx_arena *
anx_arena_create(const anx_alloc *alloc, size_t limit)
{
    anx_arena *arena = anx_alloc_bytes(alloc, sizeof(*arena));

    if (arena)
        *arena = (anx_arena) { .alloc = alloc, .limit = limit ? limit : SIZE_MAX, .next_size = FIRST_BLOCK };
    return arena;
}

static void
free_blocks(const anx_arena *arena, struct block *block)
{
    while (block) {
        struct block *next = block->next;

        anx_free(arena->alloc, block);
        block = next;
    }
}

void
anx_arena_destroy(anx_arena *arena)
{
    if (!arena)
        return;
    free_blocks(arena, arena->newest);
    free_blocks(arena, arena->own);
    anx_free(arena->alloc, arena);
}

void
anx_arena_reset(anx_arena *arena)
{
    free_blocks(arena, arena->own);
    arena->own = NULL;
    if (arena->newest) {
        free_blocks(arena, arena->newest->next);
        arena->newest->next = NULL;
        arena->newest->used = 0;
    }
    arena->used = 0;
}

static struct block *
add_block(anx_arena *arena, size_t size)
{
    bool is_own = size > arena->next_size / 2; /* so that not half a block is lost */
    size_t wanted = is_own ? size : arena->next_size;
    struct block **chain = is_own ? &arena->own : &arena->newest;
    struct block *block;

    if (wanted > SIZE_MAX - sizeof(*block))
        return NULL;
    block = anx_alloc_bytes(arena->alloc, sizeof(*block) + wanted);
    if (!block)
        return NULL;
    *block = (struct block) { .next = *chain, .size = wanted };
    *chain = block;
    if (!is_own && arena->next_size < LAST_BLOCK)
        arena->next_size *= 2;
    return block;
}

void *
anx_arena_bytes(anx_arena *arena, size_t size)
{
    struct block *block = arena->newest;
    size_t rounded;
    void *memory;

    if (__builtin_add_overflow(size, (size_t) ALIGNMENT - 1, &rounded))
        return NULL;
    rounded &= ~((size_t) ALIGNMENT - 1);
    if (size > arena->limit - arena->used)
        return NULL;
    if (!block || rounded > block->size - block->used) {
        block = add_block(arena, rounded);
        if (!block)
            return NULL;
    }
    memory = block->bytes + block->used;
    block->used += rounded;
    arena->used += size;
    return memory;
}

void *
anx_arena_array(anx_arena *arena, size_t count, size_t size)
{
    size_t total;
    void *memory;

    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    memory = anx_arena_bytes(arena, total);
    if (memory)
        memset(memory, 0, total);
    return memory;
}

char *
anx_arena_string(anx_arena *arena, anx_text text)
{
    char *copy = text.size < SIZE_MAX ? anx_arena_bytes(arena, text.size + 1) : NULL;

    if (!copy)
        return NULL;
    if (text.size > 0)
        memcpy(copy, text.data, text.size);
    copy[text.size] = '\0';
    return copy;
}

anx_text
anx_arena_text(anx_arena *arena, anx_text text)
{
    char *copy = anx_arena_string(arena, text);

    return (anx_text) { copy, copy ? text.size : 0 };
}

anx_text
anx_arena_printf(anx_arena *arena, const char *format, ...)
{
    anx_text text = { NULL, 0 };
    va_list arguments;
    char *memory;
    int n;

    va_start(arguments, format);
    n = vsnprintf(NULL, 0, format, arguments);
    va_end(arguments);
    if (n < 0)
        return text;
    memory = anx_arena_bytes(arena, (size_t) n + 1);
    if (!memory)
        return text;
    va_start(arguments, format);
    n = vsnprintf(memory, (size_t) n + 1, format, arguments);
    va_end(arguments);
    text.data = memory;
    text.size = n > 0 ? (size_t) n : 0;
    return text;
}

size_t
anx_arena_used(const anx_arena *arena)
{
    return arena->used;
}
