/* The layers above 0: where searches enter the graph. Nodes of a layer are numbered inside it; links, slots
 * and the number in the layer below are arrays by that number. Readers run without locks; writers hold
 * g->upper_lock. */
#ifndef ANX_ANN_HNSW_UPPER_H
#define ANX_ANN_HNSW_UPPER_H

#include "ann/hnsw/hnsw_int.h"

/* How many nodes a layer may have to be scanned whole: g->entry_max, chosen by measuring (entry.h). */
#define ENTRY_SMALLEST 64
#define ENTRY_DEFAULT 256
#define ENTRY_LARGEST 1024

bool upper_init(struct graph *g); /* false: out of memory */
void upper_fini(struct graph *g);
size_t upper_memory(const struct graph *g);
static inline struct upper *
upper_of(const struct graph *g)
{
    return atomic_load_explicit(&g->upper, memory_order_acquire);
}
static inline size_t
upper_levels(const struct upper *u) /* number of layers above 0 */
{
    return atomic_load_explicit(&u->n_layer, memory_order_acquire);
}
static inline struct layer *
upper_layer(const struct upper *u, size_t level) /* level >= 1 */
{
    return atomic_load_explicit(&u->layer[level - 1], memory_order_acquire);
}

/* A random level: floor(-ln(U) / ln(m)), U in (0, 1]. */
unsigned upper_draw_level(anx_rng *rng, size_t m);

/* Links a slot into layers 1..level. Its code and flags are written, FLAG_UPPER is set here. Caller holds
 * upper_lock. */
anx_status
upper_insert(struct graph *g, struct scratch *scratch, uint32_t slot, unsigned level, anx_error *err);

/* A new top layer with room for n nodes, none in it yet; level must be one above the highest. NULL: out of
 * memory. */
struct layer *upper_add_layer(struct graph *g, unsigned level, uint32_t n, anx_error *err);

/* The level whose layer is scanned; 0 when there are no layers. */
size_t upper_entry_level(const struct graph *g, const struct upper *u);
/* Where a walk over layer 0 starts: the end of the descent, and the nearest nodes of the scanned layer (`max`
 * in all), so that a walk also meets parts of the graph that the descent's end is not linked with. n stays 0
 * only when the graph is empty. */
#define STARTS_SEARCH 4
#define STARTS_INSERT 12
struct starts {
    uint32_t slot[STARTS_INSERT];
    int32_t dist[STARTS_INSERT];
    size_t n, max;
};
void upper_enter(const struct graph *g, struct scratch *scratch, const struct space_query *query,
                 struct starts *starts);

/* New layers without the slots for which is_dead is true, repaired; retires the old ones. Caller holds the
 * gate exclusively. */
anx_status upper_repair(struct graph *g, struct scratch *scratch,
                        bool (*is_dead)(const struct graph *, uint32_t), anx_error *err);

/* Replaces slot numbers after rows moved: slot -> place[slot]; SLOT_NONE must not occur. Alone only. */
void upper_renumber(struct graph *g, const uint32_t *place);

/* Distances of a ready query to codes; smaller is nearer for all metrics. */
static inline void
query_distances(const struct graph *g, const struct space_query *query, const uint8_t *const *codes, size_t n,
                int32_t *out)
{
    const anx_kernels *k = g->space.kernels;

    if (query->is_dot) {
        k->code_dot((const int8_t *) query->code, codes, n, g->stride, out);
        for (size_t i = 0; i < n; i++)
            out[i] = -out[i];
    } else if (g->space.kind == SPACE_BITS) {
        k->code_hamming(query->code, codes, n, g->stride, out);
    } else {
        k->code_l2(query->code, codes, n, g->stride, out);
    }
}

#endif
