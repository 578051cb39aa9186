/* What every unit suite starts with: cmocka's includes in the order it wants, and an allocator that fails on
 * request.
 *
 *     struct test_alloc alloc;
 *     for (size_t nth = 1; !done; nth++) {
 *         test_alloc_init(&alloc, nth);          the nth allocation fails; 0: none
 *         ... &alloc.alloc ...
 *         assert_int_equal(test_alloc_live(&alloc), 0);
 *     } */
#ifndef ANX_TEST_UTIL_H
#define ANX_TEST_UTIL_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include <stdatomic.h>
#include <stdbool.h>

#include "annex/alloc.h"
#include "base/alloc.h"

struct test_alloc {
    anx_alloc alloc;
    atomic_size_t n_calls; /* allocations asked for, growth included */
    atomic_size_t n_live;
    size_t fail_at; /* immutable while in use; 0: never */
};

static inline bool
test_alloc_fails(struct test_alloc *self)
{
    return atomic_fetch_add(&self->n_calls, 1) + 1 == self->fail_at;
}

static inline void *
test_alloc_allocate(void *context, size_t size)
{
    struct test_alloc *self = context;
    void *memory = test_alloc_fails(self) ? NULL : anx_alloc_bytes(NULL, size);

    if (memory)
        atomic_fetch_add(&self->n_live, 1);
    return memory;
}

static inline void *
test_alloc_reallocate(void *context, void *old, size_t size)
{
    struct test_alloc *self = context;
    void *memory = test_alloc_fails(self) ? NULL : anx_realloc_array(NULL, old, size, 1);

    if (memory && !old)
        atomic_fetch_add(&self->n_live, 1);
    return memory;
}

static inline void
test_alloc_release(void *context, void *memory)
{
    struct test_alloc *self = context;

    if (memory)
        atomic_fetch_sub(&self->n_live, 1);
    anx_free(NULL, memory);
}

static inline void
test_alloc_init(struct test_alloc *self, size_t fail_at)
{
    self->alloc = (anx_alloc) {
        .context = self,
        .allocate = test_alloc_allocate,
        .reallocate = test_alloc_reallocate,
        .release = test_alloc_release,
    };
    atomic_init(&self->n_calls, 0);
    atomic_init(&self->n_live, 0);
    self->fail_at = fail_at;
}

static inline size_t
test_alloc_live(struct test_alloc *self)
{
    return atomic_load(&self->n_live);
}

#endif
