/* Reachability: every linked node of layer 0 can be reached from the entry. Bulk builds and repairs end with this. */
#ifndef ANX_ANN_HNSW_REACH_H
#define ANX_ANN_HNSW_REACH_H

#include "ann/hnsw/hnsw_int.h"

/* The slot that layer 0 is entered at when nothing is known of the query; SLOT_NONE in an empty graph. */
uint32_t reach_root(const struct graph *g);
/* Marks in reached[slot] (cleared by the caller, one byte per slot) what can be reached from root; stack has room for all
 * slots. Returns how many were newly reached. */
size_t reach_flood(const struct graph *g, uint32_t root, uint8_t *reached, uint32_t *stack);
/* Links what cannot be reached; *n_fixed (may be NULL) says how many rows needed it. Caller is the only writer. */
anx_status reach_repair(struct graph *g, struct scratch *scratch, size_t *n_fixed, anx_error *err);

#endif
