/* An arena for the tests of a suite: setup and teardown of its group. */
#ifndef ANX_TEST_ARENA_H
#define ANX_TEST_ARENA_H

#include "test_util.h"

#include "base/arena.h"

static anx_arena *arena;

static inline int
setup(void **state)
{
    (void) state;
    arena = anx_arena_create(NULL, 0);
    return arena ? 0 : -1;
}

static inline int
teardown(void **state)
{
    (void) state;
    anx_arena_destroy(arena);
    return 0;
}

#endif
