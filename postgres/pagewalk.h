/* The engine's search loop (ann/hnsw/walk.h) over the pages of an index.
 *
 *     struct page_walk w;
 *     page_walk_begin(&w, index, p, &measure, ef, PAGE_WALK_STARTS, context);
 *     page_walk_run(&w);
 *     w.list.n candidates, nearest first: walk_id(&w.list, i), w.list.dist[i]
 *     page_walk_widen(&w, 4 * ef);
 *     page_walk_run(&w);               goes on where it stood: nothing is measured twice
 *
 * Pages are looked at without pin and lock. Pinning, locking and finding the buffer in the server's hash
 * table cost five times as much as measuring a code. A backend remembers in which buffer it last found a
 * block; if that buffer's tag still says so before and after, what was read in between was the block.
 * (Buffers do not move, and a buffer gets another tag before it gets other content.) Only else is the page
 * pinned the usual way. Reading a page while another session writes it is harmless here:
 *
 * - a code is written before anything links to its slot, and the slot is not used anew while anybody holds
 * the generation lock in share mode; who writes a page writes the same bytes over the codes on it;
 *
 * - links are aligned words: an old one or a new one is seen. Both are slots; numbers beyond those that
 *   existed when the walk began are skipped, a slot that is free has no links;
 *
 * - whatever else could go wrong (a standby replays vacuum without waiting for scans; a buffer is evicted,
 * and gets the same block again, while we read) only makes a candidate look nearer or farther than it is.
 *
 * So candidates are hints. Whoever gives out a row reads its slot again, pinned and locked, and computes from
 * that what the row is worth (page_walk_view); inserts choose neighbors from codes read that way too.
 *
 * Caller holds the generation lock in share mode during begin, run and widen. Interrupts are served between
 * hops. Memory is of the context; everything ends with it. */
#ifndef ANX_POSTGRES_PAGEWALK_H
#define ANX_POSTGRES_PAGEWALK_H

#include "idset.h"
#include "measure.h"
#include "pages.h"

#include <storage/buf_internals.h>

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
    uint32 *links;         /* [degree] */
    uint8 *codes;          /* [degree][stride], aligned: of pages that had to be pinned */
    const uint8 **pointer; /* [degree] to the codes: on pages, or in codes */
    Buffer *buffers;       /* [degree] that they are in; InvalidBuffer: in codes */
    /* where blocks were last found; NULL: pages are always pinned (temporary tables, wide slots) */
    Buffer *recent; /* [n_recent], InvalidBuffer: not known */
    BlockNumber n_recent;
    BufferTag tag; /* of the index; blockNum changes */
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
/* Reads slot into *view; links and code go where view->links ([degree]) and view->code ([payload_size])
 * point, unless NULL. False: not a node of these pages (any more). */
extern bool
page_walk_view(Relation index, const struct pages_meta *meta, uint32 slot, struct slot_view *view);
/* Pins and share-locks a page of slots (of a wide slot: its first), where it was last found if it is there.
 */
extern Buffer page_walk_pin(Relation index, const struct pages_meta *meta, BlockNumber block);
/* Where the slot was last found, for prefetching: it may be anything by now. NULL: not known. */
extern const struct slot *page_walk_peek(Relation index, const struct pages_meta *meta, uint32 slot);
/* The same memory for the blocks of a table. What is recalled may hold another block by now. */
extern Buffer page_walk_recall(Relation table, BlockNumber block);
extern void page_walk_remember(Relation table, BlockNumber block, Buffer buffer);
/* Sorts dist << 32 | slot. spare [n]. */
extern void page_walk_sort(uint64 *values, uint64 *spare, Size n);

#endif
