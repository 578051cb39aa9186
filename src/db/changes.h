/* A set of changes to documents, by primary key: what item writes and transactions collect before anything is
 * touched. Several writes of one document fold into what is left of them.
 *
 *     changes_init(&c, ns, arena, n, &err);
 *     changes_find(&c, &draft, &place, &err);        is the document there, the set's own changes included?
 *     changes_put(&c, &place, &draft, &err);         or changes_remove
 *     changes_apply(&c, batch, CHANGES_IN_BLOCKS, &ticket, &err);
 *
 * Threads: the holder of write_lock, from the first find to the end of apply. */
#ifndef ANX_DB_CHANGES_H
#define ANX_DB_CHANGES_H

#include "db/data.h"
#include "db/undo.h"

struct change {
    uint64_t hash;
    struct value key; /* of the primary key; borrowed from a draft */
    struct doc_draft draft;
    uint32_t row;     /* that has the document now, ITEM_NEW_ROW for none */
    bool is_put;      /* the document will be there */
};
struct changes {
    struct ns *ns;
    anx_arena *arena;
    struct change *list;
    size_t n, capacity;
    uint32_t *table; /* place in the list + 1, 0: free */
    size_t n_table;  /* a power of two, at least twice the capacity */
};
struct change_place {
    struct change *change; /* NULL: not in the set */
    uint64_t hash;
    struct value key;
    uint32_t row;
    bool exists;
};

/* At most `capacity` different documents. */
ANX_NODISCARD anx_status changes_init(struct changes *c, struct ns *ns, anx_arena *arena, size_t capacity,
                                      anx_error *err);
ANX_NODISCARD anx_status changes_find(struct changes *c, const struct doc_draft *draft,
                                      struct change_place *out, anx_error *err);
/* The draft (and what it borrows from) must live until changes_apply returns. */
void changes_put(struct changes *c, struct change_place *place, const struct doc_draft *draft);
void changes_remove(struct changes *c, struct change_place *place);

enum changes_mode {
    CHANGES_IN_BLOCKS, /* readers may see some of the documents before the others */
    CHANGES_AT_ONCE,   /* readers see all or none */
    CHANGES_LOCKED, /* as above, under the caller's data_lock; the caller calls ns_sweep and submits the batch
                     */
};
/* Vectors, then the batch (taken unless CHANGES_LOCKED; *ticket to wait for), then everything else. undo: for
 * CHANGES_LOCKED, notes what was before; NULL otherwise. On failure nothing was
 * changed, except when memory runs out while documents are published: then those that are in stay, in memory
 * and in the store. */
ANX_NODISCARD anx_status changes_apply(struct changes *c, struct store_batch *batch, enum changes_mode mode,
                                       struct undo *undo, uint64_t *ticket, anx_error *err);

/* The same for items and rows that are known already. */
ANX_NODISCARD anx_status changes_apply_items(struct items *items, const uint32_t *removed, size_t n_removed,
                                             struct store_batch *batch, enum changes_mode mode,
                                             struct undo *undo, uint64_t *ticket, anx_error *err);
/* The vectors of a row by vector field, [ns->n_vector_field], as they are now; the list and the floats are in
 * the arena. */
ANX_NODISCARD anx_status ns_row_vectors(const struct ns *ns, uint32_t row, anx_arena *arena,
                                        struct doc_vectors **out, anx_error *err);

#endif
