/* Allocation: the only file of the tree that calls malloc and kin, and mmap for anonymous memory. A size of
 * zero gives a block of one byte, so that NULL always means failure. */
#include "base/alloc.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#define ROW_ALIGNMENT 64                 /* a cache line, and the widest vector register */
#define HUGE_ALIGNMENT ((size_t) 2 << 20) /* a transparent huge page on x86-64 and arm64 */

void *
anx_alloc_bytes(const anx_alloc *alloc, size_t size)
{
    if (size == 0)
        size = 1;
    return alloc ? alloc->allocate(alloc->context, size) : malloc(size);
}

void *
anx_alloc_zeroed(const anx_alloc *alloc, size_t count, size_t size)
{
    size_t total;
    void *memory;

    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    if (total == 0)
        total = 1;
    if (!alloc)
        return calloc(total, 1); /* big blocks arrive zero from the kernel, untouched */
    memory = alloc->allocate(alloc->context, total);
    if (memory)
        memset(memory, 0, total);
    return memory;
}

void *
anx_alloc_array(const anx_alloc *alloc, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    return anx_alloc_bytes(alloc, total);
}

void *
anx_realloc_array(const anx_alloc *alloc, void *old, size_t count, size_t size)
{
    size_t total;

    if (__builtin_mul_overflow(count, size, &total))
        return NULL;
    if (total == 0)
        total = 1;
    return alloc ? alloc->reallocate(alloc->context, old, total) : realloc(old, total);
}

void
anx_free(const anx_alloc *alloc, void *memory)
{
    if (!memory)
        return;
    if (alloc)
        alloc->release(alloc->context, memory);
    else
        free(memory);
}

/* An anx_alloc knows no alignment, so the block is made larger and its start kept in the word before the
 * aligned one. */
void *
anx_alloc_aligned(const anx_alloc *alloc, size_t count, size_t size)
{
    size_t total;
    char *block;
    char *aligned;

    if (__builtin_mul_overflow(count, size, &total) ||
        __builtin_add_overflow(total, ROW_ALIGNMENT + sizeof(block), &total))
        return NULL;
    block = anx_alloc_zeroed(alloc, total, 1);
    if (!block)
        return NULL;
    aligned = block + sizeof(block);
    aligned += -(uintptr_t) aligned & (ROW_ALIGNMENT - 1);
    memcpy(aligned - sizeof(block), &block, sizeof(block));
    return aligned;
}

void
anx_free_aligned(const anx_alloc *alloc, void *memory)
{
    char *block;

    if (!memory)
        return;
    memcpy(&block, (char *) memory - sizeof(block), sizeof(block));
    anx_free(alloc, block);
}

/* Whole pages for `size` bytes; 0 when that does not fit a size_t. */
static size_t
page_round(size_t size)
{
    size_t page = (size_t) sysconf(_SC_PAGESIZE);
    size_t rounded;

    if (__builtin_add_overflow(size ? size : 1, page - 1, &rounded))
        return 0;
    return rounded & ~(page - 1);
}

void *
anx_map_pages(size_t size, int huge)
{
    size_t rounded = page_round(size);
    size_t total;
    size_t before;
    char *block;

    if (rounded == 0 || __builtin_add_overflow(rounded, HUGE_ALIGNMENT, &total))
        return NULL;
    block = mmap(NULL, total, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (block == MAP_FAILED)
        return NULL;
    before = (size_t) (-(uintptr_t) block & (HUGE_ALIGNMENT - 1));
    if (before > 0)
        munmap(block, before);
    munmap(block + before + rounded, total - before - rounded);
    if (huge)
        (void) madvise(block + before, rounded, MADV_HUGEPAGE); /* a wish: kernels without it say EINVAL */
    return block + before;
}

void
anx_unmap_pages(void *memory, size_t size)
{
    if (memory)
        munmap(memory, page_round(size));
}
