/* Reachability: every linked node of layer 0 can be reached from the root over links that nobody drops. A
 * node's parent is one node that links to it; parents form a tree from the root, and pruning a list keeps the
 * links to the node's children. Without that, a cluster far from all others hangs on a few long links, which
 * the rules of neighbor choice would drop. */
#ifndef ANX_ANN_HNSW_REACH_H
#define ANX_ANN_HNSW_REACH_H

#include "ann/hnsw/hnsw_int.h"

/* Chooses the root. Walks depth first, nearest link first, from it, then from what that did not reach;
 * order[n_slot] (may be NULL) gets the linked slots in the order they were met, parents are set. *n_lost (may
 * be NULL): rows met only by starting anew; their parent is SLOT_NONE. */
anx_status reach_walk(struct graph *g, uint32_t *order, size_t *n_lost, anx_error *err);
/* Makes the tree: chooses the root, walks, and links what cannot be reached from the nearest node that can.
 * Caller is the only writer. */
anx_status reach_repair(struct graph *g, struct scratch *scratch, anx_error *err);

#endif
