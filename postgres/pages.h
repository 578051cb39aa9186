/* How an index lies in its pages, and the calls that read and write them. Build, scan, insert, vacuum and the
 * checker all go through this header; nothing else knows an offset.
 *
 * An index is in one of three states:
 *
 *     EMPTY   no row yet and no dimension: block 0 only
 *
 *     RAW     few rows (up to about PAGES_RAW_MAX): a slot holds the row as given and there are no links;
 *             searches measure every row, exactly
 *
 *     GRAPH   a slot holds the row's code (ann/hnsw/space.h) and its links
 *
 *     block 0           meta: struct pages_meta
 *     entry_block       GRAPH: u32 slots of the entry nodes, n_entry of them
 *     space_block..     GRAPH, rotated codes: f32 mean[turned_dim], n_space_block pages
 *     slot_block..      slots, to the end of the relation
 *
 * A slot is one place of fixed size, so a link is a 4-byte number and its block is arithmetic. Small slots:
 * slots_per_page on each page. Wide slots (slot_size over PAGES_ROOM): pages_per_slot consecutive blocks
 * each; bytes 0..PAGES_ROOM-1 of the slot lie on the first, and so on; struct slot and the links always lie
 * on the first.
 *
 *     struct slot | u32 links[degree] | pad to 8 | payload [payload_size]
 *
 * An overflow slot holds struct slot and then ItemPointerData, to the end of the slot or of its first page:
 * more heap tuples of a node whose code several rows share. A node's chain is node -> next -> next.
 *
 * Going from RAW to GRAPH writes everything anew behind the last block and then changes block 0: before that
 * record the index is RAW, after it GRAPH. Blocks before slot_block that meta does not name are waste.
 *
 * Locks: content locks are taken one page at a time, or in ascending block order within one record; block 0
 * therefore comes first. LockPage(index, 0, ...) is the lock tag of generations: a search or an insert holds
 * it in share mode within one call of amgettuple or aminsert (never between calls); who changes the state or
 * makes a slot number reusable takes it exclusively.
 *
 * All change goes through generic WAL records. PAGES_VERSION is in block 0; another version is refused. */
#ifndef ANX_POSTGRES_PAGES_H
#define ANX_POSTGRES_PAGES_H

#include "pg_compat.h"

#include <access/generic_xlog.h>
#include <storage/bufmgr.h>
#include <storage/bufpage.h>
#include <storage/itemptr.h>

#include "ann/hnsw/space.h"

#define PAGES_MAGIC 0x4c4e584eu /* "NXNL" in memory */
#define PAGES_VERSION 1
#define PAGES_META_BLOCK 0
#define PAGES_RAW_MAX 1000 /* an insert that finds this many rows turns RAW into GRAPH */
#define PAGES_ENTRY_MAX 1024
#define PAGES_TIDS 3 /* heap tuples inside a slot */
#define PAGES_SLOT_NONE 0xffffffffu
#define PAGES_SLOT_MAX 0x7ffffff0u

enum pages_state { PAGES_EMPTY, PAGES_RAW, PAGES_GRAPH };

/* The last 8 bytes of every page. */
struct pages_special {
    uint16 kind;    /* enum page_kind */
    uint16 version; /* PAGES_VERSION */
    uint32 magic;   /* PAGES_MAGIC */
};
enum page_kind {
    PAGE_META = 1,
    PAGE_ENTRY,
    PAGE_SPACE,
    PAGE_SLOTS /* of a wide slot: its first */,
    PAGE_MORE
};

/* Bytes for content on every page. */
#define PAGES_ROOM \
    ((uint32) (BLCKSZ - MAXALIGN(SizeOfPageHeaderData) - MAXALIGN(sizeof(struct pages_special))))

struct pages_meta {
    uint32 magic, version;
    uint64 stamp;      /* random: tells this file from another one of the same number */
    uint32 state;      /* enum pages_state */
    uint32
        generation; /* +1 whenever state, space, or where things lie changes: caches and scans compare it */
    uint32 entry_generation; /* +1 whenever the entry page is rewritten (not when one is appended) */
    /* fixed for the life of a relfilenode, but for dim of an EMPTY index */
    uint32 metric, scalar; /* anx_metric; ANX_SCALAR_F32 or ANX_SCALAR_B1 */
    uint32 dim; /* elements of the column's type (B1: integers of 32 bits); 0: EMPTY and not yet known */
    uint32 m, ef_construction, ef, quant_bits;
    /* space; GRAPH only */
    uint32 space_kind; /* enum space_kind */
    float4 offset, step;
    uint32 has_inexact; /* LOSSLESS: a row was added that its code does not express; searches must recheck */
    /* shape of slots */
    uint32 degree;       /* links of a slot; RAW: 0 */
    uint32 payload_size; /* GRAPH: bytes of a code, multiple of 64; RAW: bytes of a row as given */
    uint32 payload_offset, slot_size;
    uint32 slots_per_page, pages_per_slot; /* one of the two is 1 */
    /* where things lie */
    BlockNumber entry_block, space_block, slot_block;
    uint32 n_space_block;
    uint32 n_entry;
    /* counts */
    uint32 n_slot;    /* slots ever handed out: high water */
    uint32 n_node;    /* slots of kind NODE with a heap tuple; exact unless a crash of an unlogged index */
    uint32 free_head; /* first free slot, PAGES_SLOT_NONE: none */
    uint32 n_free;
};

enum slot_kind { SLOT_FREE, SLOT_NODE, SLOT_OVERFLOW };
#define SLOT_DEAD 1u  /* flags: all heap tuples are gone; routes searches until vacuum has unlinked it */
#define SLOT_TAKEN 2u /* FREE and not on the free list: an insert is about to fill it, or gave it up */

struct slot {
    uint8 kind, flags;
    uint16 n_link;
    uint32 next; /* NODE, OVERFLOW: first/next overflow slot; FREE: next free slot; PAGES_SLOT_NONE ends */
    float4 residual; /* NODE of a GRAPH: no row of this node is farther from what its code stands for, in the
                        space of codes (cosine: rows normalized); 0 when all are exact */
    uint16 n_tid;    /* heap tuples here: at most PAGES_TIDS (NODE), pages_overflow_max (OVERFLOW) */
    ItemPointerData tid[PAGES_TIDS];
};

/* --- arithmetic --- */

static inline BlockNumber
pages_block(const struct pages_meta *meta, uint32 slot)
{
    return meta->slot_block +
           (meta->pages_per_slot > 1 ? slot * meta->pages_per_slot : slot / meta->slots_per_page);
}
static inline char *
pages_content(Page page)
{
    return (char *) page + MAXALIGN(SizeOfPageHeaderData);
}
/* The slot on its (first) page. */
static inline struct slot *
pages_slot(const struct pages_meta *meta, Page page, uint32 slot)
{
    uint32 at = meta->pages_per_slot > 1 ? 0 : slot % meta->slots_per_page;

    return (struct slot *) (pages_content(page) + (Size) at * meta->slot_size);
}
static inline uint32 *
slot_links(struct slot *s)
{
    return (uint32 *) (s + 1);
}
/* Narrow slots only (pages_per_slot 1); others: pages_payload_part. */
static inline uint8 *
slot_payload(const struct pages_meta *meta, struct slot *s)
{
    return (uint8 *) s + meta->payload_offset;
}
static inline ItemPointerData *
slot_overflow_tids(struct slot *s)
{
    return (ItemPointerData *) (s + 1);
}
static inline uint32
pages_overflow_max(const struct pages_meta *meta)
{
    uint32 room = meta->slot_size < PAGES_ROOM ? meta->slot_size : PAGES_ROOM;

    return (room - (uint32) sizeof(struct slot)) / (uint32) sizeof(ItemPointerData);
}
/* Wide slots: which bytes of the payload lie on page `part` (0..pages_per_slot-1) and where on it. n may be 0
 * on part 0. A code distance is a sum over bytes, so the parts' distances add up (parts are multiples of 64
 * but for the last, and PAGES_ROOM is laid out so). */
static inline void
pages_payload_part(const struct pages_meta *meta, uint32 part, uint32 *from, uint32 *n, uint32 *page_offset)
{
    uint32 room = PAGES_ROOM / 64 * 64;
    uint32 first = part == 0 ? meta->payload_offset : 0;
    uint32 before = part == 0 ? 0 : (PAGES_ROOM - meta->payload_offset) / 64 * 64 + (part - 1) * room;
    uint32 here = part == 0 ? (PAGES_ROOM - meta->payload_offset) / 64 * 64 : room;

    *from = before < meta->payload_size ? before : meta->payload_size;
    *n = meta->payload_size - *from < here ? meta->payload_size - *from : here;
    *page_offset = first;
}

/* --- reading --- */

/* A backend's picture of an index: block 0 as it was at some moment, the space and the entry codes. */
struct pages_index {
    struct pages_meta meta; /* n_slot, n_entry, free_head, counts: as of the last pages_open */
    struct space space;     /* GRAPH; other states: zero */
    uint32 n_entry;         /* below */
    uint32 *entry;          /* [n_entry] slots */
    uint8 *entry_codes;     /* [n_entry][payload_size], 64-byte aligned */
    const uint8 **entry_code; /* [n_entry] where each lies: what the kernels ask for */
};
/* Reads block 0 (one share lock) and whatever changed since the last time; the rest comes from a cache of the
 * backend. ERROR when the index is not one of ours (ERRCODE_INDEX_CORRUPTED) or of another version. To be
 * called in each call of the access method, under the generation lock: valid until the end of that call.
 * Never NULL. */
extern struct pages_index *pages_open(Relation index);
/* Components of a row as the engine counts them: bits for B1. */
static inline size_t
pages_engine_dim(const struct pages_meta *meta)
{
    return meta->scalar == ANX_SCALAR_B1 ? (size_t) meta->dim * 32 : meta->dim;
}
/* The params of an engine index over rows of this kind; everything else default. */
extern void pages_engine_params(const struct pages_meta *meta, anx_index_params *out);
/* How many entry nodes an index with payloads of this size should have: what a backend is willing to cache.
 */
extern uint32 pages_entry_limit(Size payload_size);
static inline uint32
pages_entry_max(const struct pages_meta *meta)
{
    return pages_entry_limit(meta->payload_size);
}

/* The generation lock. */
extern void pages_lock(Relation index, LOCKMODE mode);
extern bool pages_try_lock(Relation index, LOCKMODE mode);
extern void pages_unlock(Relation index, LOCKMODE mode);

/* Pins and locks the page of a slot (of a wide one: its first); checks kind and version. mode 0: only pin. */
extern Buffer pages_read(Relation index, BlockNumber block, int mode, enum page_kind kind);
/* Copies the payload of a node to out [payload_size]; takes and releases its locks. False: not a NODE. */
extern bool pages_copy_payload(Relation index, const struct pages_meta *meta, uint32 slot, uint8 *out);

/* --- writing --- */

/* An empty page of a kind. */
extern void pages_init_page(Page page, enum page_kind kind);
/* Says that content up to `end` (an address on the page) is in use: what lies behind is not logged. */
static inline void
pages_use(Page page, const void *end)
{
    LocationIndex at = (LocationIndex) ((const char *) end - (const char *) page);

    if (((PageHeader) page)->pd_lower < at)
        ((PageHeader) page)->pd_lower = at;
}

/* A node to be written. */
struct pages_node {
    const uint32 *links; /* [n_link] */
    uint16 n_link;
    uint16 n_tid; /* up to PAGES_TIDS */
    float4 residual;
    const ItemPointerData *tid;
    const uint8 *payload; /* [payload_size] */
};
/* Takes a free slot or a new one and writes the node into it, complete: one record (wide slots: the first
 * page in the last record). Nothing links to it yet. Caller holds no content lock; holds the generation lock
 * in share mode. ERRCODE_PROGRAM_LIMIT_EXCEEDED at PAGES_SLOT_MAX. */
extern uint32 pages_add_node(Relation index, const struct pages_meta *meta, const struct pages_node *node);
/* Adds a heap tuple to a node, in its slot or in the chain behind it, and raises its residual to `residual`.
 * False: the slot is not a live node with this payload any more; nothing changed. */
extern bool pages_add_tid(Relation index, const struct pages_meta *meta, uint32 slot, const uint8 *payload,
                          const ItemPointerData *tid, float4 residual);
/* Vacuum: puts slots on the free list (they are unlinked and nobody can hold their numbers). */
extern void pages_free_slots(Relation index, const struct pages_meta *meta, uint32 n, const uint32 *slots);
/* Rewrites the entry page (vacuum). */
extern void pages_set_entries(Relation index, uint32 n, const uint32 *slots);
/* One more entry node; false: there are pages_entry_max already. */
extern bool pages_add_entry(Relation index, uint32 slot);
/* EMPTY -> RAW with this dimension (or nothing, when somebody else did it). Caller holds the generation lock
 * in share mode. */
extern void pages_set_dim(Relation index, uint32 dim);
/* Changes fields of block 0 in one record; fn gets the copy that will be logged, and must not raise. */
extern void pages_change_meta(Relation index, void (*fn)(struct pages_meta *meta, void *context),
                              void *context);

/* RAW -> GRAPH when RAW has at least PAGES_RAW_MAX rows and the generation lock can be had without waiting.
 * Caller (aminsert) holds no lock of this index. */
extern void pages_promote(Relation index);

/* --- whole indexes, page by page (the builds) --- */

struct pages_writer;
/* What is known before the first node. */
struct pages_plan {
    uint32 state; /* PAGES_RAW or PAGES_GRAPH */
    const struct space *space; /* GRAPH */
    uint32 dim, degree, payload_size;
    uint32 n_node; /* announced */
};
/* Sets slot shape and places of a meta from a plan; slots begin after `first_block`. False: a node does not
 * fit the format. */
extern bool pages_shape(struct pages_meta *meta, const struct pages_plan *plan, BlockNumber first_block);
/* Writes behind the last block of the relation, which block 0 does not yet show. Nobody else writes
 * meanwhile. tids of a node: any number. */
extern struct pages_writer *pages_writer_begin(Relation index, const struct pages_plan *plan);
extern void pages_writer_node(struct pages_writer *w, const struct pages_node *node, uint32 n_tid,
                              const ItemPointerData *tids);
/* Logs all pages, then makes block 0 show them. */
extern void pages_writer_end(struct pages_writer *w, uint32 n_entry, const uint32 *entries);
/* Block 0 of a new, EMPTY index. */
extern void pages_create(Relation index, ForkNumber fork);

#endif
