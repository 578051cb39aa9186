/* Label -> slot, in 5 bytes per entry of the table (6.3 per row at the highest load).
 *
 *     labelmap_init(&map, alloc);
 *     if (!labelmap_insert(&map, label, slot, label_of, rows)) ... out of memory
 *     slot = labelmap_find(&map, label, label_of, rows);          // LABELMAP_NONE when absent
 *
 * Open addressing with linear probing. An entry is a u32 slot and, in an array of its own, one byte of the
 * hash; the labels themselves stay with the owner of the rows, who gives them through label_of(context,
 * slot). The byte makes a wrong call of label_of rare (1 in 255 per probe), so a search costs about one cache
 * miss in tags, one in slots, one in labels. Erasing shifts the rest of the run back: no tombstones, nothing
 * decays under churn. label_of must answer for every slot that is in the map, so change labels after erasing
 * and before inserting. Threads: the caller locks; any number of finds may run at once. */
#ifndef ANX_ANN_LABELMAP_H
#define ANX_ANN_LABELMAP_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/alloc.h"

#define LABELMAP_NONE UINT32_MAX

typedef uint64_t (*labelmap_label_fn)(const void *context, uint32_t slot);

struct labelmap {
    uint8_t *tags;   /* [capacity], owned; 0: free */
    uint32_t *slots; /* [capacity], owned */
    size_t capacity; /* any number, not a power of two: the table is never larger than asked for */
    size_t n;
    const anx_alloc *alloc; /* borrowed */
};

void labelmap_init(struct labelmap *map, const anx_alloc *alloc);
void labelmap_fini(struct labelmap *map);
/* Room for n entries in all, without a further allocation. False: out of memory, the map is as it was. */
bool labelmap_reserve(struct labelmap *map, size_t n, labelmap_label_fn label_of, const void *context);
/* The label must be absent and slot < LABELMAP_NONE. label_of need not know the new slot yet. False: out of
 * memory; never after a reserve that covers it. */
bool labelmap_insert(struct labelmap *map, uint64_t label, uint32_t slot, labelmap_label_fn label_of,
                     const void *context);
/* Returns the slot that the label had, LABELMAP_NONE when absent. */
uint32_t
labelmap_erase(struct labelmap *map, uint64_t label, labelmap_label_fn label_of, const void *context);
/* The row of `label`, in the map with slot `from`, now has slot `to`. */
void labelmap_move(struct labelmap *map, uint64_t label, uint32_t from, uint32_t to);
void labelmap_clear(struct labelmap *map); /* empties, keeps the memory */
size_t labelmap_memory(const struct labelmap *map);

/* Finalizer of SplitMix64: labels are often 0, 1, 2, ... and must still spread. */
static inline uint64_t
labelmap_hash(uint64_t label)
{
    uint64_t z = label + 0x9e3779b97f4a7c15u;

    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9u;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebu;
    return z ^ (z >> 31);
}
/* High bits of the hash choose the place, low bits the tag. */
static inline size_t
labelmap_home(uint64_t hash, size_t capacity)
{
    __extension__ typedef unsigned __int128 wide;

    return (size_t) (((wide) hash * capacity) >> 64);
}
static inline uint8_t
labelmap_tag(uint64_t hash)
{
    uint8_t tag = (uint8_t) hash;

    return tag ? tag : 1;
}

static inline uint32_t
labelmap_find(const struct labelmap *map, uint64_t label, labelmap_label_fn label_of, const void *context)
{
    uint64_t hash = labelmap_hash(label);
    uint8_t tag = labelmap_tag(hash);
    size_t at;

    if (map->n == 0)
        return LABELMAP_NONE;
    at = labelmap_home(hash, map->capacity);
    while (map->tags[at]) { /* ends: the load is below one */
        if (map->tags[at] == tag && label_of(context, map->slots[at]) == label)
            return map->slots[at];
        if (++at == map->capacity)
            at = 0;
    }
    return LABELMAP_NONE;
}

#endif
