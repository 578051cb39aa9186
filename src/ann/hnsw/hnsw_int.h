/* The inside of the hnsw kind. Read README.md of this folder first: it has the pictures, the lock order and
 * the argument why searches need no lock.
 *
 *   space.*   rows -> codes              store.*   slots, chunks, labels, copies, epochs
 *   walk.h    the one search loop        search.c  queries      iter.c  next-nearest
 *   prune.*   neighbor choice            insert.c  single rows  upper.* layers above 0
 *   bulk*.c   partition based build      repair.c  deletes, reachability
 *   check.c   every invariant            file.c    sections and plain-HNSW view */
#ifndef ANX_ANN_HNSW_HNSW_INT_H
#define ANX_ANN_HNSW_HNSW_INT_H

#include <pthread.h>
#include <stdatomic.h>

#include "ann/ann_int.h"
#include "ann/hnsw/space.h"
#include "ann/labelmap.h"
#include "base/rng.h"

#define SLOT_NONE UINT32_MAX
#define SLOT_MAX 0x7ffffff0u /* the top bit marks expanded candidates */
#define LEVEL_MAX 24
#define SCAN_BATCH 256 /* codes compared at a time by scans */
/* alpha of prune_select, on squared distances: bulk lists from candidates, their merge with reverse links,
 * single inserts. */
#define FORWARD_ALPHA 1.4f
#define MERGE_ALPHA 1.4f
#define INSERT_ALPHA 1.2f
#define NODE_LOCKS 1024
#define SMALL_MAX 1000 /* up to here an index is scanned exactly and has no graph */

/* A slot's state. Readers see a row only through links and flags, both stored with release after the row is
 * whole. */
#define FLAG_LIVE 1u    /* may be returned */
#define FLAG_COPIES 2u  /* other labels share this row (graph->copies) */
#define FLAG_LINKED \
    4u /* in the graph: routes searches; stays set on a deleted node until repair unlinks it */
#define FLAG_UPPER 8u   /* also in layers above 0 */

/* 2^chunk_bits slots. Pointers are fixed for the life of the graph, so readers need no lock while it grows.
 */
struct chunk {
    uint8_t *codes;        /* [rows][stride]; NULL in a graph without links */
    atomic_uint *links;    /* [rows][degree]; SLOT_NONE ends a list */
    uint8_t *rows;         /* [rows][row_size] as given; NULL when codes are exact or rows are not kept */
    atomic_ullong *labels; /* [rows] */
    atomic_uchar *flags;   /* [rows] */
    float *residuals;      /* [rows] how far a row is from its code; NULL unless ANX_QUANTIZATION_CODES */
    atomic_uint
        *parents; /* [rows] a node that links here and keeps that link: see reach.h; NULL in a mapped file */
    void *map;             /* owned mapping behind the above, NULL when they point into a file */
    size_t map_size;
};

/* One layer above 0. Nodes are numbered inside the layer; arrays grow by copy, publish and retire. */
struct layer {
    uint32_t capacity;
    atomic_uint n;
    uint32_t *slot;     /* [capacity] */
    uint32_t *down;     /* [capacity] number in the layer below; unused in layer 1 */
    atomic_uint *links; /* [capacity][m]; SLOT_NONE ends */
};
/* All layers. A reader loads the pointer once and stays with what it shows: layers in it only grow. Repair,
 * which renumbers nodes, publishes a new one. */
struct upper {
    atomic_uint n_layer;
    _Atomic(struct layer *) layer[LEVEL_MAX]; /* [0] is layer 1 */
};

/* Other labels of a row that is in the graph once. */
struct copy {
    uint64_t label;
    uint32_t owner; /* slot of the row; SLOT_NONE: free record, next is the free list */
    uint32_t next;  /* next copy of the same row, SLOT_NONE ends */
};
#define COPY_BIT 0x80000000u /* in the label map: the id is a copy's, not a slot */

struct graph {
    struct hnsw *index;
    size_t stride, degree, row_size;
    unsigned chunk_bits;
    bool has_links;  /* false: small, scanned exactly */
    bool keeps_rows;
    bool keeps_residuals;
    struct space space; /* immutable once has_links; LOSSLESS may become ROTATED only by making a new graph */
    size_t expected; /* rows hoped for; a hint */
    struct chunk *chunk; /* [chunk_limit], fixed */
    size_t chunk_limit, chunk_table_size;
    atomic_size_t n_chunk;
    atomic_size_t n_slot; /* slots ever handed out; all below are valid to look at */
    atomic_size_t n_live; /* labels, copies included */
    atomic_size_t n_dead; /* deleted and still linked */
    _Atomic(struct upper *) upper; /* never NULL in a graph with links */
    pthread_mutex_t upper_lock; /* writers of upper */
    atomic_uint entry_max; /* see upper.h */
    size_t entry_n; /* n_slot and level scanned when that was chosen; set while there is no other writer */
    size_t entry_level;
    uint32_t root; /* of the tree of parents (reach.h); set while there is no other writer */

    pthread_mutex_t names; /* everything below */
    uint32_t *dense; /* [dense_size] label -> id for small labels, SLOT_NONE: absent */
    size_t dense_size;
    struct labelmap map; /* the other labels */
    size_t n_named;      /* labels in both */
    bool is_named; /* map is filled; false only in a mapped file until a label is asked for */
    uint32_t *free_slots;
    size_t n_free, free_capacity;
    struct copy *copies;
    size_t n_copy, copy_capacity; /* n_copy counts records, free ones included */
    size_t n_copy_used;
    uint32_t copy_free;
    struct labelmap copy_heads; /* slot with FLAG_COPIES -> first copy */

    struct graph *retired_next;
    uint64_t retired_epoch;
};

/* Memory given up by writers while readers may still hold it; stands in front of the block. */
struct retired {
    struct retired *next;
    uint64_t epoch;
};
/* Slots unlinked at `epoch`, reusable when no reader is older. */
struct retired_slots {
    struct retired_slots *next;
    uint64_t epoch;
    size_t n;
    uint32_t slot[];
};

struct scratch;

struct hnsw {
    struct anx_index base;
    size_t m, degree;
    _Atomic(struct graph *) graph;
    pthread_rwlock_t gate; /* shared: add, remove, update; exclusive: rebuild, repair, growth of kind */
    anx_spin node_lock[NODE_LOCKS];
    atomic_ullong epoch;
    pthread_mutex_t scratch_lock; /* scratch_all, scratch_free */
    struct scratch *scratch_all, *scratch_free;
    pthread_mutex_t retire_lock; /* the three lists below */
    struct retired *retired;
    struct retired_slots *retired_slots;
    struct graph *retired_graphs;
    pthread_mutex_t rng_lock;
    anx_rng rng;
};

/* --- access to slots --- */
static inline struct chunk *
graph_chunk(const struct graph *g, uint32_t slot)
{
    return &g->chunk[slot >> g->chunk_bits];
}
static inline size_t
graph_at(const struct graph *g, uint32_t slot)
{
    return slot & (((size_t) 1 << g->chunk_bits) - 1);
}
static inline uint8_t *
graph_code(const struct graph *g, uint32_t slot)
{
    return graph_chunk(g, slot)->codes + graph_at(g, slot) * g->stride;
}
static inline atomic_uint *
graph_links(const struct graph *g, uint32_t slot)
{
    return graph_chunk(g, slot)->links + graph_at(g, slot) * g->degree;
}
static inline uint8_t *
graph_row(const struct graph *g, uint32_t slot)
{
    return graph_chunk(g, slot)->rows + graph_at(g, slot) * g->row_size;
}
static inline float *
graph_residual(const struct graph *g, uint32_t slot) /* only if keeps_residuals */
{
    return &graph_chunk(g, slot)->residuals[graph_at(g, slot)];
}
static inline unsigned
graph_flags(const struct graph *g, uint32_t slot)
{
    return atomic_load_explicit(&graph_chunk(g, slot)->flags[graph_at(g, slot)], memory_order_acquire);
}
static inline uint64_t
graph_label(const struct graph *g, uint32_t slot)
{
    return atomic_load_explicit(&graph_chunk(g, slot)->labels[graph_at(g, slot)], memory_order_relaxed);
}
static inline anx_spin *
node_spin(struct graph *g, uint32_t slot)
{
    return &g->index->node_lock[slot & (NODE_LOCKS - 1)];
}
static inline size_t
links_read(const atomic_uint *links, size_t degree, uint32_t *out)
{
    size_t n = 0;

    while (n < degree) {
        uint32_t id = atomic_load_explicit(&links[n], memory_order_acquire);

        if (id == SLOT_NONE)
            break;
        out[n++] = id;
    }
    return n;
}
static inline void
links_write(atomic_uint *links, size_t degree, const uint32_t *ids, size_t n)
{
    for (size_t i = 0; i < n; i++)
        atomic_store_explicit(&links[i], ids[i], memory_order_release);
    for (size_t i = n; i < degree; i++)
        atomic_store_explicit(&links[i], SLOT_NONE, memory_order_release);
}

static inline uint32_t
graph_parent(const struct graph *g, uint32_t slot)
{
    return atomic_load_explicit(&graph_chunk(g, slot)->parents[graph_at(g, slot)], memory_order_relaxed);
}
static inline void
graph_set_parent(const struct graph *g, uint32_t slot, uint32_t parent)
{
    atomic_store_explicit(&graph_chunk(g, slot)->parents[graph_at(g, slot)], parent, memory_order_relaxed);
}

#include "ann/hnsw/store.h"

anx_status hnsw_create_empty(const anx_index_params *params, const anx_kernels *kernels, struct hnsw **out,
                             anx_error *err);
#endif
