/* The n best of a stream by integer key, unordered: cheaper than a heap when n is in the tens to thousands.
 *
 * Candidates that beat the bound are appended; when twice as many as wanted are there, the better half is
 * kept by quickselect and the bound falls to the worst of it. So a candidate costs one append and about two
 * more steps. Threads: one owner. */
#ifndef ANX_ANN_SHORTLIST_H
#define ANX_ANN_SHORTLIST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/alloc.h"

#define SHORTLIST_BLOCK 128 /* at most so many are appended between two calls of shortlist_room */

struct shortlisted {
    int32_t key;
    uint32_t slot;
};
struct shortlist {
    struct shortlisted *items; /* [capacity], owned */
    size_t n, wanted, capacity;
    int32_t bound; /* only keys below it can be among the best */
};

/* Empties it for a new search. False: out of memory. */
bool shortlist_reset(struct shortlist *c, size_t wanted, const anx_alloc *alloc);
void shortlist_fini(struct shortlist *c, const anx_alloc *alloc);
/* Keeps the best `wanted`. */
void shortlist_trim(struct shortlist *c);

/* Makes room for a block of appends. */
static inline void
shortlist_room(struct shortlist *c)
{
    if (c->capacity - c->n < SHORTLIST_BLOCK)
        shortlist_trim(c);
}
static inline void
shortlist_push(struct shortlist *c, int32_t key, uint32_t slot)
{
    c->items[c->n++] = (struct shortlisted) { .key = key, .slot = slot };
}

#endif
