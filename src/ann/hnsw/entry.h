/* Seeing to it that searches enter the graph in the right region.
 *
 * The lowest layer with at most entry_max nodes is scanned; from there down steps are greedy. Where data
 * falls into clusters far apart, greedy steps do not cross between them, and random levels leave small
 * clusters without a node in any layer. Both are measured, with rows of the graph as queries: a short walk
 * that starts in the right region finds the row itself. */
#ifndef ANX_ANN_HNSW_ENTRY_H
#define ANX_ANN_HNSW_ENTRY_H

#include "ann/hnsw/hnsw_int.h"

/* Sets g->entry_max to the smallest number with which walks to a sample of rows arrive as often as with the
 * largest; then puts rows whose walk still does not arrive into the layer that is scanned. Caller is the only
 * writer; searches may run. */
anx_status entry_choose(struct graph *g, struct scratch *scratch, anx_error *err);

#endif
