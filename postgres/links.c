/* See links.h. */
#include "links.h"

#include <miscadmin.h>

#include "lantern.h"

#define ALPHA 1.2f /* of the second pass of a choice, on squared distances: as the engine's single inserts */
#define RETRIES 16 /* so often somebody else may change the list first */
#define WITNESSES 8 /* neighbors that are asked whether they link to a node, before it counts as cut off */

void
linker_init(struct linker *l, Relation index, const struct pages_index *p, struct measure *measure,
            MemoryContext context)
{
    Size degree = p->meta.degree;

    *l = (struct linker){ .index = index, .meta = p->meta, .measure = measure };
    l->capacity = Max(degree + 64, 128);
    anx_pg_alloc_init(&l->alloc, context);
    l->prune = prune_create(&l->alloc, &p->space, l->capacity);
    if (!l->prune)
        ereport(ERROR, (errcode(ERRCODE_OUT_OF_MEMORY), errmsg("out of memory"),
                        errdetail("Failed to choose among %zu neighbors of an index.", l->capacity)));
    l->codes = measure_aligned(context, l->capacity * p->meta.payload_size);
    l->pointers = MemoryContextAlloc(context, l->capacity * sizeof(*l->pointers));
    l->dists = MemoryContextAlloc(context, l->capacity * sizeof(*l->dists));
    l->slots = MemoryContextAlloc(context, l->capacity * sizeof(*l->slots));
    l->picks = MemoryContextAlloc(context, l->capacity * sizeof(*l->picks));
    l->own = measure_aligned(context, p->meta.payload_size);
    l->links = MemoryContextAlloc(context, degree * sizeof(uint32));
    l->other = MemoryContextAlloc(context, degree * sizeof(uint32));
    for (Size i = 0; i < l->capacity; i++)
        l->pointers[i] = l->codes + i * p->meta.payload_size;
}

static bool
contains(const uint32 *list, uint32 n, uint32 slot)
{
    for (uint32 i = 0; i < n; i++)
        if (list[i] == slot)
            return true;
    return false;
}

/* Reads the codes of those slots that are live nodes. */
static Size
gather(struct linker *l, uint32 self, const uint32 *slots, Size n)
{
    Size kept = 0;

    for (Size i = 0; i < n && kept < l->capacity; i++) {
        struct slot_view view = { .code = l->codes + kept * l->meta.payload_size };

        if (slots[i] == self || !page_walk_view(l->index, &l->meta, slots[i], &view) ||
            (view.head.flags & SLOT_DEAD))
            continue;
        l->slots[kept++] = slots[i];
    }
    return kept;
}

/* Chooses among the gathered; numbers of the chosen to picks, in order of choice. */
static Size
choose(struct linker *l, const uint8 *code, Size n, Size max)
{
    measure_codes(l->measure, code, l->pointers, n, l->dists);
    prune_start_set(l->prune, l->codes);
    for (Size i = 0; i < n; i++)
        prune_add(l->prune, NULL, (uint32) i, l->dists[i]);
    return prune_select(l->prune, NULL, max, ALPHA, l->picks);
}

uint32
linker_choose(struct linker *l, const uint8 *code, uint32 self, const uint32 *slots, Size n, Size max,
              uint32 *out)
{
    Size n_gathered = gather(l, self, slots, n), n_chosen = choose(l, code, n_gathered, max);

    for (Size i = 0; i < n_chosen; i++)
        out[i] = l->slots[l->picks[i]];
    return (uint32) n_chosen;
}

/* --- writing --- */

/* Changes the list of a node in one record, if it is still the old one. */
bool
linker_replace(struct linker *l, uint32 slot, const uint32 *old, uint32 n_old, const uint32 *links, uint32 n)
{
    Buffer buffer = pages_read(l->index, pages_block(&l->meta, slot), BUFFER_LOCK_EXCLUSIVE, PAGE_SLOTS);
    struct slot *s = pages_slot(&l->meta, BufferGetPage(buffer), slot);
    bool is_same = s->kind == SLOT_NODE && s->n_link == n_old &&
                   (n_old == 0 || memcmp(slot_links(s), old, n_old * sizeof(*old)) == 0);

    if (is_same) {
        GenericXLogState *record = GenericXLogStart(l->index);

        s = pages_slot(&l->meta, GenericXLogRegisterBuffer(record, buffer, 0), slot);
        memcpy(slot_links(s), links, n * sizeof(*links));
        s->n_link = (uint16) n;
        GenericXLogFinish(record);
    }
    UnlockReleaseBuffer(buffer);
    return is_same;
}

/* --- one link --- */

/* Does any neighbor of a node, other than `except`, link to it? */
static bool
is_linked_elsewhere(struct linker *l, uint32 slot, uint32 except)
{
    struct slot_view view = { .links = l->other };
    uint32 neighbors[WITNESSES];
    uint32 n;

    if (!page_walk_view(l->index, &l->meta, slot, &view) || (view.head.flags & SLOT_DEAD))
        return true; /* nothing to lose */
    n = Min(view.head.n_link, WITNESSES);
    memcpy(neighbors, l->other, n * sizeof(*neighbors));
    for (uint32 i = 0; i < n; i++)
        if (neighbors[i] != except && page_walk_view(l->index, &l->meta, neighbors[i], &view) &&
            !(view.head.flags & SLOT_DEAD) && contains(l->other, view.head.n_link, slot))
            return true;
    return false;
}

/* Which link of the full list l->links makes place: a dead one, else the farthest that the choice left out
 * and that can go without harm. n_link: none. */
static uint32
find_place(struct linker *l, uint32 from, uint32 n_link, uint32 to, const uint8 *to_code, bool force)
{
    Size n = gather(l, from, l->links, n_link), n_chosen;
    bool is_worth = false;
    uint32 worst = n_link;

    for (uint32 i = 0; i < n_link; i++) /* gathered are in order of the list: the first that is not is dead */
        if (i >= n || l->slots[i] != l->links[i])
            return i;
    memcpy(l->codes + n * l->meta.payload_size, to_code, l->meta.payload_size);
    l->slots[n++] = to;
    n_chosen = choose(l, l->own, n, l->meta.degree);
    for (Size i = 0; i < n_chosen; i++) {
        is_worth = is_worth || l->picks[i] == n_link;
        l->slots[l->picks[i]] = PAGES_SLOT_NONE; /* chosen */
    }
    if (!is_worth && !force)
        return n_link;
    for (uint32 tries = 0; tries < n_link; tries++) {
        uint32 farthest = n_link;

        for (uint32 i = 0; i < n_link; i++)
            if (l->slots[i] != PAGES_SLOT_NONE && (farthest == n_link || l->dists[i] > l->dists[farthest]))
                farthest = i;
        if (farthest == n_link)
            break;
        if (worst == n_link)
            worst = farthest;
        if (is_linked_elsewhere(l, l->links[farthest], from))
            return farthest;
        l->slots[farthest] = PAGES_SLOT_NONE;
    }
    return force ? Min(worst, n_link - 1) : n_link;
}

bool
linker_link(struct linker *l, uint32 from, uint32 to, const uint8 *to_code, bool force)
{
    uint32 *changed = l->picks; /* free again once a place is found */

    for (int i = 0; i < RETRIES; i++) {
        struct slot_view view = { .links = l->links, .code = l->own };
        uint32 n, at;

        CHECK_FOR_INTERRUPTS();
        if (!page_walk_view(l->index, &l->meta, from, &view) || (view.head.flags & SLOT_DEAD))
            return false;
        n = at = view.head.n_link;
        if (contains(l->links, n, to))
            return true;
        if (n == l->meta.degree) {
            at = find_place(l, from, n, to, to_code, force);
            if (at == n)
                return false;
        }
        memcpy(changed, l->links, n * sizeof(*changed));
        changed[at] = to;
        if (linker_replace(l, from, l->links, n, changed, Max(n, at + 1)))
            return true;
    }
    return false;
}

/* --- a node --- */

uint32
linker_find(struct linker *l, const struct pages_index *p, struct page_walk *w, uint32 self, uint32 *out)
{
    Size ef = p->meta.ef_construction, n;
    uint32 *slots;

    page_walk_begin(w, l->index, p, l->measure, Max(ef, 16), PAGE_WALK_STARTS_INSERT, CurrentMemoryContext);
    page_walk_run(w);
    n = w->list.n;
    slots = palloc((n + 1) * sizeof(*slots));
    for (Size i = 0; i < n; i++)
        slots[i] = walk_id(&w->list, i);
    return linker_choose(l, l->measure->code, self, slots, n, l->meta.degree / 2 + l->meta.degree / 8, out);
}

void
linker_link_back(struct linker *l, uint32 slot, const uint8 *code, const uint32 *links, uint32 n)
{
    bool is_linked = false;

    for (uint32 i = 0; i < n; i++)
        is_linked |= linker_link(l, links[i], slot, code, false);
    for (uint32 i = 0; i < n && !is_linked; i++)
        is_linked = linker_link(l, links[i], slot, code, true);
}
