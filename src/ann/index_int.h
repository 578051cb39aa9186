/* What the front of the index (index.c, index_batch.c) shares with itself, with the kinds and with index
 * files. */
#ifndef ANX_ANN_INDEX_INT_H
#define ANX_ANN_INDEX_INT_H

#include "ann/ann_int.h"

/* Checks the parameters and fills in the defaults, as anx_index_create does. For index files: the parameters
 * of a head pass through this before a kind sees them. */
ANX_NODISCARD anx_status index_params_resolve(anx_index_params *params, anx_error *err);
/* Fills the head of a kind's struct, at create and at restore. */
void index_head_init(anx_index *index, const struct index_ops *ops, const anx_index_params *params,
                     const anx_kernels *kernels);
/* ANX_E_STATE for a mapped index. */
ANX_NODISCARD anx_status index_check_writable(const anx_index *index, anx_error *err);
/* ANX_E_INVALID for the reserved label. */
ANX_NODISCARD anx_status index_check_label(uint64_t label, anx_error *err);
/* Checks search parameters (NULL: all defaults) and fills in the index's own ef and nprobe. */
ANX_NODISCARD anx_status index_search_resolve(const anx_index *index, const anx_search_params *given,
                                              anx_search_params *out, anx_error *err);

#endif
