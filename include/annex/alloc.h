/* The allocator a caller may give to an object at creation; NULL everywhere means the process heap.
 * Threads: the functions are called from every thread that uses the object. They return NULL on failure,
 * never jump. */
#ifndef ANNEX_ALLOC_H
#define ANNEX_ALLOC_H

#include <stddef.h>

typedef struct anx_alloc {
    void *context;
    void *(*allocate)(void *context, size_t size);
    void *(*reallocate)(void *context, void *memory, size_t size); /* memory may be NULL */
    void (*release)(void *context, void *memory);                  /* memory may be NULL */
} anx_alloc;

#endif
