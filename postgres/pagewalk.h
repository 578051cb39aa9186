/* The engine's search loop (ann/hnsw/walk.h) over the pages of an index.
 *
 *     struct page_walk w;
 *     page_walk_begin(&w, index, p, &measure, ef, PAGE_WALK_STARTS, context);
 *     page_walk_run(&w);
 *     w.list.n candidates, nearest first: walk_id(&w.list, i), w.list.dist[i]
 *     page_walk_widen(&w, 4 * ef);
 *     page_walk_run(&w);               goes on where it stood: nothing is measured twice
 *
 * One hop: the node's links are copied under a share lock; those not yet seen are sorted by number, so that
 * slots on one page are adjacent, and their codes are copied with one pin and lock per page; then one call
 * of the kernel measures them all. No lock is held while measuring, and never two at once.
 *
 * Candidates are slot numbers. What a slot held may be gone when the caller gets to it: read it again.
 *
 * Caller holds the generation lock in share mode during begin, run and widen. Interrupts are served between
 * hops. Memory is of the context; everything ends with it. */
#ifndef ANX_POSTGRES_PAGEWALK_H
#define ANX_POSTGRES_PAGEWALK_H

#include "idset.h"
#include "measure.h"
#include "pages.h"

#include "ann/hnsw/walk.h"

#define PAGE_WALK_STARTS 3         /* of a search */
#define PAGE_WALK_STARTS_INSERT 11 /* of an insert: parts of a cluster that are not linked with each other */

struct page_walk {
    Relation index;
    struct pages_meta meta; /* as of begin: younger slots are not seen */
    const struct measure *measure;
    struct walk list;
    MemoryContext context;
    /* seen slots: a bit each, or for large indexes a set */
    uint64 *seen_bits;
    struct idset seen_set;
    /* all that was measured, in that order: dist << 32 | slot */
    uint64 *measured;
    Size n_measured, measured_capacity;
    /* one hop */
    uint32 *links;               /* [degree] */
    uint8 *codes;                /* [degree][stride], aligned */
    const uint8 **code_pointers; /* [degree] */
};

extern void page_walk_begin(struct page_walk *w, Relation index, const struct pages_index *p,
                            const struct measure *measure, Size ef, Size n_start, MemoryContext context);
extern void page_walk_run(struct page_walk *w);
extern void page_walk_widen(struct page_walk *w, Size ef);

/* What a page says about one slot, copied. */
struct slot_view {
    struct slot head;
    uint32 *links; /* [head.n_link], NULL when not asked for */
    uint8 *code;   /* [payload_size], NULL when not asked for */
};
/* Reads slot into *view; links and code go where view->links ([degree]) and view->code ([payload_size]) point,
 * unless NULL. False: not a node of these pages (any more). */
extern bool page_walk_view(Relation index, const struct pages_meta *meta, uint32 slot, struct slot_view *view);
/* Sorts dist << 32 | slot. spare [n]. */
extern void page_walk_sort(uint64 *values, uint64 *spare, Size n);

#endif
