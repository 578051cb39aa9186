/* Memory with one lifetime: a request, a query, a parse. Blocks are only ever freed together.
 *
 *     anx_arena *arena = anx_arena_create(NULL, 64 << 20);
 *     char *copy = anx_arena_string(arena, text);
 *     anx_arena_destroy(arena);
 *
 * Threads: one at a time. Every call returns NULL when memory or the limit is spent. */
#ifndef ANX_BASE_ARENA_H
#define ANX_BASE_ARENA_H

#include "annex/alloc.h"
#include "annex/status.h"
#include "base/text.h"

typedef struct anx_arena anx_arena;

/* limit: most bytes it hands out, 0 for none; what a peer can make grow has one. */
anx_arena *anx_arena_create(const anx_alloc *alloc, size_t limit);
void anx_arena_destroy(anx_arena *arena); /* NULL is fine */
/* Everything it gave is gone; one block (at most 1 MiB) is kept for the next use. */
void anx_arena_reset(anx_arena *arena);
/* Aligned for any type; not zeroed. */
void *anx_arena_bytes(anx_arena *arena, size_t size);
/* count * size, checked; zeroed. */
void *anx_arena_array(anx_arena *arena, size_t count, size_t size);
/* Copies; the result of _string is terminated, that of _text as well (the terminator is not counted). */
char *anx_arena_string(anx_arena *arena, anx_text text);
anx_text anx_arena_text(anx_arena *arena, anx_text text); /* data NULL on failure */
anx_text anx_arena_printf(anx_arena *arena, const char *format, ...) ANX_PRINTF(2, 3);
size_t anx_arena_used(const anx_arena *arena);

#endif
