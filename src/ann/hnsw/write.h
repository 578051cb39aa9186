/* Single-row writers of the contract. Threads: any number at once, with searches. */
#ifndef ANX_ANN_HNSW_WRITE_H
#define ANX_ANN_HNSW_WRITE_H

#include "ann/hnsw/hnsw_int.h"

anx_status hnsw_add(anx_index *index, uint64_t label, const void *vector, anx_error *err);
anx_status
hnsw_add_batch(anx_index *index, size_t n, const uint64_t *labels, const void *vectors, anx_error *err);
anx_status hnsw_remove(anx_index *index, uint64_t label, anx_error *err);
anx_status hnsw_update(anx_index *index, uint64_t label, const void *vector, anx_error *err);
/* Unlinks and frees deleted nodes now. Caller holds the gate exclusively. */
anx_status hnsw_repair_locked(struct hnsw *index, anx_error *err);

#endif
