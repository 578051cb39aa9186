/* A set of numbers other than IDSET_NONE, in a memory context; it only grows.
 *
 *     struct idset set;
 *     idset_init(&set, context, 64);
 *     if (idset_add(&set, x)) ...      was not there yet
 *
 * Open addressing with linear steps, at most half full. Threads: the backend's own. */
#ifndef ANX_POSTGRES_IDSET_H
#define ANX_POSTGRES_IDSET_H

#include "pg_compat.h"

#include <utils/memutils.h>

#define IDSET_NONE UINT64_MAX

struct idset {
    uint64 *place; /* [1 << bits] */
    unsigned bits;
    Size n;
    MemoryContext context;
};

static inline Size
idset_at(const struct idset *set, uint64 id)
{
    Size at = (Size) ((id * UINT64_C(0x9e3779b97f4a7c15)) >> (64 - set->bits));

    while (set->place[at] != IDSET_NONE && set->place[at] != id)
        at = (at + 1) & (((Size) 1 << set->bits) - 1);
    return at;
}

static inline void
idset_make(struct idset *set, unsigned bits)
{
    set->bits = bits;
    set->place = MemoryContextAllocHuge(set->context, sizeof(uint64) << bits);
    memset(set->place, 0xff, sizeof(uint64) << bits);
}

static inline void
idset_init(struct idset *set, MemoryContext context, Size expected)
{
    unsigned bits = 4;

    while (((Size) 1 << bits) < expected * 2)
        bits++;
    *set = (struct idset){ .context = context };
    idset_make(set, bits);
}

static inline bool
idset_has(const struct idset *set, uint64 id)
{
    return set->place[idset_at(set, id)] == id;
}

static inline bool
idset_add(struct idset *set, uint64 id)
{
    Size at = idset_at(set, id);

    if (set->place[at] == id)
        return false;
    set->place[at] = id;
    if (++set->n * 2 > (Size) 1 << set->bits) {
        struct idset old = *set;

        idset_make(set, old.bits + 1);
        for (Size i = 0; i < (Size) 1 << old.bits; i++)
            if (old.place[i] != IDSET_NONE)
                set->place[idset_at(set, old.place[i])] = old.place[i];
        pfree(old.place);
    }
    return true;
}

#endif
