/* Allocation. The core allocates only through an anx_alloc given at creation; allocation returns NULL and
 * never exits. Sizes of arrays go through checked helpers. malloc and kin are poisoned outside base/alloc.c
 * (tools/check-style). */
#ifndef ANX_BASE_ALLOC_H
#define ANX_BASE_ALLOC_H

#include <stddef.h>
#include <stdint.h>

#include "annex/alloc.h"

/* NULL allocator means the process heap. All return memory aligned for any type, or NULL. */
void *anx_alloc_bytes(const anx_alloc *alloc, size_t size);
void *anx_alloc_zeroed(const anx_alloc *alloc, size_t count, size_t size);
/* count * size, NULL on overflow; not zeroed. */
void *anx_alloc_array(const anx_alloc *alloc, size_t count, size_t size);
/* Grows or shrinks; on failure the old block is untouched and NULL is returned. old may be NULL. */
void *anx_realloc_array(const anx_alloc *alloc, void *old, size_t count, size_t size);
/* NULL is fine. */
void anx_free(const anx_alloc *alloc, void *memory);

/* 64-byte aligned block (for SIMD rows), zeroed. Freed with anx_free_aligned only. */
void *anx_alloc_aligned(const anx_alloc *alloc, size_t count, size_t size);
void anx_free_aligned(const anx_alloc *alloc, void *memory);

/* Big blocks straight from the kernel: zeroed, 2 MiB aligned, pages appear when touched. With `huge`,
 * transparent huge pages are asked for (4-14 % faster graph walks). NULL when the kernel refuses. Unmap with
 * the same size. */
void *anx_map_pages(size_t size, int huge);
void anx_unmap_pages(void *memory, size_t size);

#endif
