/* Changing the links of nodes in the pages: what inserts and vacuum's repair share.
 *
 *     struct linker l;
 *     linker_init(&l, index, p, context);
 *     n = linker_choose(&l, candidates, n, max, chosen);     which of these lead in different directions
 *     linker_link(&l, from, to, code_of_to, false);          from -> to, if it is worth a place
 *
 * A list is chosen with no lock held, from a copy; then the page is locked, and the change is made only if
 * the list is still the copy, else all begins anew. A full list gives up one link for the new one, in its
 * place: the record is a few bytes. It gives up none whose target it does not see linked from elsewhere, so
 * that inserts do not cut off rows (nobody counts incoming links; two sessions at once may still cut one off,
 * which vacuum finds).
 *
 * Caller holds the generation lock in share mode. Memory is of the context. */
#ifndef ANX_POSTGRES_LINKS_H
#define ANX_POSTGRES_LINKS_H

#include "pagewalk.h"

#include "ann/hnsw/prune.h"

struct linker {
    Relation index;
    struct pages_meta meta;
    struct measure *measure; /* only its kernels and kind are used */
    anx_alloc alloc;
    struct prune *prune;
    Size capacity;         /* candidates of a choice */
    uint8 *codes;          /* [capacity][payload_size] of the candidates */
    const uint8 **pointers; /* [capacity] into codes */
    int32 *dists;          /* [capacity] */
    uint32 *slots;         /* [capacity] */
    uint32 *picks;         /* [capacity] numbers of chosen candidates */
    uint8 *own;            /* [payload_size] */
    uint32 *links, *other; /* [degree] */
};

extern void linker_init(struct linker *l, Relation index, const struct pages_index *p,
                        struct measure *measure, MemoryContext context);

/* Candidates for the links of a node with this code: reads the codes of slots (live nodes are kept, `self` is
 * not) until there are `capacity`, then chooses at most max of them, in order of choice. */
extern uint32 linker_choose(struct linker *l, const uint8 *code, uint32 self, const uint32 *slots, Size n,
                            Size max, uint32 *out);
/* Sees to a link from -> to. Without force only if it is worth a place; with force whenever some other link
 * can go without harm, or else the worst. Returns whether it is there. */
extern bool linker_link(struct linker *l, uint32 from, uint32 to, const uint8 *to_code, bool force);
/* Replaces the list of a node if it is still old[0..n_old). */
extern bool
linker_replace(struct linker *l, uint32 slot, const uint32 *old, uint32 n_old, const uint32 *links, uint32 n);
/* Walks to the neighborhood of measure->code (of slot, which is not linked yet), chooses and writes links to
 * out [degree]. */
extern uint32 linker_find(struct linker *l, const struct pages_index *p, struct page_walk *w, uint32 self,
                          uint32 *out);
/* Links back from each of links[0..n) to slot, at least one of them. */
extern void linker_link_back(struct linker *l, uint32 slot, const uint8 *code, const uint32 *links, uint32 n);

#endif
