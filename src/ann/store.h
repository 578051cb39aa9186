/* Rows of an exact or inverted-list index: one dense array of each thing a row has, and a label map.
 *
 *     slot   0        1        2     ...  n-1
 *     labels [u64]    rows [row_size bytes each]    inverse_norms [f32, cosine only]
 *
 * Slots have no gaps: the last row moves into the hole of a removed one.
 * Threads: the caller locks; reading functions may run at once with each other. */
#ifndef ANX_ANN_STORE_H
#define ANX_ANN_STORE_H

#include "ann/labelmap.h"
#include "ann/rows.h"

struct row_store {
    struct row_space space;
    size_t n, capacity;
    uint64_t *labels;     /* [capacity], owned unless mapped */
    uint8_t *rows;        /* [capacity * row_size], owned unless mapped */
    float *inverse_norms; /* [capacity], cosine only, owned unless mapped */
    struct labelmap map;
    const anx_alloc *alloc; /* borrowed */
    bool is_mapped;         /* the arrays belong to a mapped file; nothing may be changed */
};

void store_init(struct row_store *store, const anx_index_params *params, const anx_kernels *kernels);
void store_fini(struct row_store *store);
/* Room for `more` further rows, so that as many appends cannot fail. ANX_E_NOMEM, ANX_E_LIMIT; then nothing
 * changed. */
ANX_NODISCARD anx_status store_reserve(struct row_store *store, size_t more, anx_error *err);
/* Slot of the new row; room must be reserved, the label absent. */
uint32_t store_append(struct row_store *store, uint64_t label, const void *row);
/* Replaces the row of a slot. */
void store_set(struct row_store *store, uint32_t slot, const void *row);
/* Removes a slot. The row of slot n-1 (after: n) takes its place; when it was another row, true. */
bool store_remove(struct row_store *store, uint32_t slot);
/* LABELMAP_NONE when absent. */
uint32_t store_find(const struct row_store *store, uint64_t label);
/* As store_find; ANX_E_NOT_FOUND with the label in the message. */
ANX_NODISCARD anx_status store_locate(const struct row_store *store, uint64_t label, uint32_t *slot,
                                      anx_error *err);
ANX_NODISCARD anx_status store_fail_exists(uint64_t label, anx_error *err);
/* Builds the map of labels that were put in place; ANX_E_CORRUPT when one is double or reserved. */
ANX_NODISCARD anx_status store_map_labels(struct row_store *store, anx_error *err);
size_t store_memory(const struct row_store *store);
/* Every invariant: map and labels agree, rows are well formed, norms are right. */
ANX_NODISCARD anx_status store_check(const struct row_store *store, anx_error *err);

static inline const uint8_t *
store_row(const struct row_store *store, size_t slot)
{
    return store->rows + slot * store->space.row_size;
}
static inline float
store_inverse_norm(const struct row_store *store, size_t slot)
{
    return store->inverse_norms ? store->inverse_norms[slot] : 0;
}
static inline float
store_distance(const struct row_store *store, const struct row_query *query, size_t slot)
{
    return row_distance(&store->space, query, store_row(store, slot), store_inverse_norm(store, slot));
}

#endif
