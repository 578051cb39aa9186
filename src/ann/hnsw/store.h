/* Slots and their storage, labels, copies, and the epochs that let searches run without locks.
 *
 * Epochs: a reader enters (notes the global epoch in its scratch) before it loads the graph pointer and
 * leaves after its last access. A writer that takes something out of reach (a slot, a layer, a whole graph)
 * stamps it with the epoch and advances the epoch; it is reused or freed when every reader inside entered
 * later. */
#ifndef ANX_ANN_HNSW_STORE_H
#define ANX_ANN_HNSW_STORE_H

#include "ann/hnsw/hnsw_int.h"

/* A graph without links or codes (small) or with both. */
anx_status
graph_create(struct hnsw *index, bool has_links, bool lossless, struct graph **out, anx_error *err);
void graph_destroy(struct graph *g);
/* Storage for slots 0..n-1. Caller holds names, or is alone. */
anx_status graph_reserve(struct graph *g, size_t n, anx_error *err);
size_t graph_memory(const struct graph *g, anx_index_stats *stats);

/* A slot for a new row: a reusable one or the next. Caller holds names. */
anx_status slot_take(struct graph *g, uint32_t *slot, anx_error *err);
/* Gives back a slot that no reader has ever reached. Caller holds names. */
void slot_give_back(struct graph *g, uint32_t slot);

/* Label map. Callers hold names. The id is a slot, or COPY_BIT | copy. */
uint32_t label_find(const struct graph *g, uint64_t label);
anx_status label_insert(struct graph *g, uint64_t label, uint32_t id, anx_error *err);
void label_erase(struct graph *g, uint64_t label);
/* Room for n labels up to `largest`, so that as many inserts need little more. */
anx_status label_reserve(struct graph *g, size_t n, uint64_t largest, anx_error *err);

/* Fills the map from labels and copies (alone, or under names); ANX_E_CORRUPT when a label is there twice. */
anx_status graph_name(struct graph *g, anx_error *err);

/* Copies. Callers hold names. copy_first is SLOT_NONE when there is none. */
anx_status copy_add(struct graph *g, uint32_t owner, uint64_t label, uint32_t *copy, anx_error *err);
/* The same without touching the owner's flags, which say already that it has copies. */
anx_status copy_restore(struct graph *g, uint32_t owner, uint64_t label, uint32_t *copy, anx_error *err);
uint32_t copy_first(const struct graph *g, uint32_t owner);
/* Unlinks one copy record from its owner and frees the record. */
void copy_drop(struct graph *g, uint32_t copy);

/* Readers and writers of shared memory. */
struct graph *reader_enter(struct hnsw *index, struct scratch *scratch);
void reader_leave(struct scratch *scratch);
/* Memory that may be retired: zeroed; freed at once by retirable_free, or when no reader can hold it by
 * retire_memory. */
void *retirable_create(const anx_alloc *alloc, size_t size);
void retirable_free(const anx_alloc *alloc, void *memory);
void retire_memory(struct hnsw *index, void *memory);
/* Makes g the current graph; the old one goes when no reader can hold it. Caller holds the gate exclusively.
 */
void graph_publish(struct hnsw *index, struct graph *g);
void retire_slots(struct graph *g, const uint32_t *slots, size_t n);
/* Frees what no reader can hold any more; slots go back to the current graph's free list. */
void reclaim(struct hnsw *index);

/* Per-thread working memory; grows, never shrinks, is reused. */
struct scratch {
    struct scratch *all_next, *free_next;
    _Alignas(64) atomic_ullong epoch; /* 0: not inside */
    char pad[56];
    const anx_alloc *alloc;
    uint8_t *visited; /* [visited_size], equal to tag: seen in this walk */
    size_t visited_size;
    uint32_t n_visible; /* slots that this walk may look at: n_slot when it began */
    uint8_t tag;
    int32_t *pool_dist; /* [pool_size] */
    uint32_t *pool_id;
    size_t pool_size;
    uint8_t *query_code;      /* [stride] aligned */
    float *query_buffer;      /* [dim + 1] */
    uint8_t *row;             /* [row_size] */
    uint32_t *near;           /* [near_size] neighbor ids of one hop */
    const uint8_t **near_code;
    int32_t *near_dist;
    uint32_t *near_pick;
    size_t near_size;
    float *hit_dist; /* [hit_size] */
    uint64_t *hit_label;
    size_t hit_size;
    struct prune *prune; /* created on first use */
};
struct scratch *scratch_acquire(struct hnsw *index, anx_error *err);
void scratch_release(struct hnsw *index, struct scratch *scratch);
void scratch_destroy_all(struct hnsw *index);
/* Grow: visited for n slots and a fresh tag; pool for ef; hits for n. */
anx_status scratch_visit(struct scratch *scratch, size_t n_slot, anx_error *err);
anx_status scratch_pool(struct scratch *scratch, size_t ef, anx_error *err);
anx_status scratch_hits(struct scratch *scratch, size_t n, anx_error *err);

#endif
