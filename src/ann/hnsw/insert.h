/* Linking single rows into layer 0. */
#ifndef ANX_ANN_HNSW_INSERT_H
#define ANX_ANN_HNSW_INSERT_H

#include "ann/hnsw/hnsw_int.h"
#include "ann/hnsw/walk.h"

/* The ef nearest linked nodes to the code of `slot` (which may be among them), in w; w lives in the scratch.
 */
anx_status insert_nearest(struct graph *g, struct scratch *scratch, uint32_t slot, size_t ef, struct walk *w,
                          anx_error *err);
/* Links a slot whose code is written and whose nearest nodes are in w: neighbors, links back, layers. Sets
 * FLAG_LINKED. Several threads at once. */
anx_status insert_link(struct graph *g, struct scratch *scratch, uint32_t slot, unsigned level,
                       const struct walk *w, anx_error *err);
/* Adds the link from -> to; a full list is pruned, and `to` may then be left out unless forced. Takes the
 * node's lock. */
anx_status insert_link_back(struct graph *g, struct scratch *scratch, uint32_t from, uint32_t to, bool force,
                            anx_error *err);

#endif
