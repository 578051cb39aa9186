/* Neighbor choice: from candidates with distances, those that lead in different directions.
 *
 *     prune_start(p);
 *     prune_add(p, id, distance) ...              any order; the same id twice is kept once
 *     n = prune_select(p, g, g->degree, out);     in order of choice
 *
 * Rule: a candidate is dropped when an already chosen neighbor s is nearer to it than the node is (arXiv
 * 1603.09320, algorithm 4). Places left after that are given to candidates that pass the same rule relaxed by
 * alpha (DiskANN, NeurIPS 2019; here on squared distances). All pairwise distances come from one blocked
 * int8 product: computing them all is several times faster than computing the needed half one by one.
 * Threads: one per object. */
#ifndef ANX_ANN_HNSW_PRUNE_H
#define ANX_ANN_HNSW_PRUNE_H

#include "ann/hnsw/hnsw_int.h"

struct prune;

/* Room for `capacity` candidates with codes of this space; more are cut to the nearest before selection.
 * NULL: out of memory. */
struct prune *prune_create(const anx_alloc *alloc, const struct space *space, size_t capacity);
void prune_destroy(struct prune *p); /* NULL is fine */
/* The one of a scratch, made on first use; fits one full neighbor list and an ef_construction list. */
struct prune *scratch_prune(struct graph *g, struct scratch *scratch, anx_error *err);

void prune_start(struct prune *p);
/* For a choice without a graph: an id is the number of a code in codes[..][stride] (64-byte aligned), which
 * stays until after prune_select. g of the calls below is then NULL; prune_add_ids is not for sets. */
void prune_start_set(struct prune *p, const uint8_t *codes);
void prune_add(struct prune *p, const struct graph *g, uint32_t id, int32_t dist);
size_t prune_count(const struct prune *p);
/* Adds ids with their distances from node `from` computed here. */
void prune_add_ids(struct prune *p, const struct graph *g, uint32_t from, const uint32_t *ids, size_t n);
/* At most max neighbors to out. alpha >= 1 on squared distances. */
size_t prune_select(struct prune *p, const struct graph *g, size_t max, float alpha, uint32_t *out);

/* Distances between codes: from code to n codes. */
static inline void
code_distances(const struct graph *g, const uint8_t *code, const uint8_t *const *codes, size_t n,
               int32_t *out)
{
    if (g->space.kind == SPACE_BITS)
        g->space.kernels->code_hamming(code, codes, n, g->stride, out);
    else
        g->space.kernels->code_l2(code, codes, n, g->stride, out);
}

#endif
