/* Label -> slot; see the header for the structure. */
#include "ann/labelmap.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

/* Four fifths: an unsuccessful search looks at 13 tags on average, which are one cache line. */
#define CAPACITY_FOR(n) ((n) + (n) / 4 + 8)

void
labelmap_init(struct labelmap *map, const anx_alloc *alloc)
{
    *map = (struct labelmap) { .alloc = alloc };
}

void
labelmap_fini(struct labelmap *map)
{
    anx_free(map->alloc, map->tags);
    anx_free(map->alloc, map->slots);
    *map = (struct labelmap) { .alloc = map->alloc };
}

static void
put(struct labelmap *map, uint64_t hash, uint32_t slot)
{
    size_t at = labelmap_home(hash, map->capacity);

    while (map->tags[at])
        if (++at == map->capacity)
            at = 0;
    map->tags[at] = labelmap_tag(hash);
    map->slots[at] = slot;
}

bool
labelmap_reserve(struct labelmap *map, size_t n, labelmap_label_fn label_of, const void *context)
{
    struct labelmap grown = { .alloc = map->alloc, .capacity = CAPACITY_FOR(n), .n = map->n };

    if (grown.capacity <= map->capacity)
        return true;
    grown.tags = anx_alloc_zeroed(map->alloc, grown.capacity, sizeof(*grown.tags));
    grown.slots = anx_alloc_array(map->alloc, grown.capacity, sizeof(*grown.slots));
    if (!grown.tags || !grown.slots) {
        labelmap_fini(&grown);
        return false;
    }
    /* In table order the new places ascend too, so this streams through both tables. */
    for (size_t at = 0; at < map->capacity; at++)
        if (map->tags[at])
            put(&grown, labelmap_hash(label_of(context, map->slots[at])), map->slots[at]);
    labelmap_fini(map);
    *map = grown;
    return true;
}

bool
labelmap_insert(struct labelmap *map, uint64_t label, uint32_t slot, labelmap_label_fn label_of,
                const void *context)
{
    ANX_ASSERT(slot != LABELMAP_NONE);
    if (CAPACITY_FOR(map->n + 1) > map->capacity &&
        !labelmap_reserve(map, map->n + map->n / 2 + 16, label_of, context))
        return false;
    put(map, labelmap_hash(label), slot);
    map->n++;
    return true;
}

/* Closes the gap at `hole` by moving back every later entry of the run that may stand there. */
static void
shift_back(struct labelmap *map, size_t hole, labelmap_label_fn label_of, const void *context)
{
    size_t at = hole;

    for (;;) {
        size_t home, from_home, from_hole;

        if (++at == map->capacity)
            at = 0;
        if (!map->tags[at])
            break;
        home = labelmap_home(labelmap_hash(label_of(context, map->slots[at])), map->capacity);
        from_home = at >= home ? at - home : at + map->capacity - home;
        from_hole = at >= hole ? at - hole : at + map->capacity - hole;
        if (from_home < from_hole)
            continue; /* its home lies after the hole */
        map->tags[hole] = map->tags[at];
        map->slots[hole] = map->slots[at];
        hole = at;
    }
    map->tags[hole] = 0;
}

uint32_t
labelmap_erase(struct labelmap *map, uint64_t label, labelmap_label_fn label_of, const void *context)
{
    uint64_t hash = labelmap_hash(label);
    uint8_t tag = labelmap_tag(hash);
    size_t at;

    if (map->n == 0)
        return LABELMAP_NONE;
    at = labelmap_home(hash, map->capacity);
    while (map->tags[at]) {
        uint32_t slot = map->slots[at];

        if (map->tags[at] == tag && label_of(context, slot) == label) {
            shift_back(map, at, label_of, context);
            map->n--;
            return slot;
        }
        if (++at == map->capacity)
            at = 0;
    }
    return LABELMAP_NONE;
}

void
labelmap_move(struct labelmap *map, uint64_t label, uint32_t from, uint32_t to)
{
    uint64_t hash = labelmap_hash(label);
    uint8_t tag = labelmap_tag(hash);
    size_t at = labelmap_home(hash, map->capacity);

    while (map->tags[at] != tag || map->slots[at] != from) {
        ANX_ASSERT(map->tags[at]);
        if (++at == map->capacity)
            at = 0;
    }
    map->slots[at] = to;
}

void
labelmap_clear(struct labelmap *map)
{
    if (map->capacity)
        memset(map->tags, 0, map->capacity);
    map->n = 0;
}

size_t
labelmap_memory(const struct labelmap *map)
{
    return map->capacity * (sizeof(*map->tags) + sizeof(*map->slots));
}
