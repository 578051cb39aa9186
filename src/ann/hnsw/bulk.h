/* Bulk build: makes the links of a graph whose codes are all there. No searches: rows are partitioned around
 * random leaders into overlapping leaves, all pairs of a leaf are compared by a blocked int8 product, and the
 * near ones of each row become its pool of candidates, which is pruned (arXiv 2602.21247 has the idea;
 * README.md has our departures and figures).
 *
 * The graph is private to the caller while it is built. Uses all threads of the pool; the result does not
 * depend on how many there are. */
#ifndef ANX_ANN_HNSW_BULK_H
#define ANX_ANN_HNSW_BULK_H

#include "ann/hnsw/hnsw_int.h"
#include "base/error.h"

struct bulk_progress {
    anx_progress_fn fn; /* may be NULL */
    void *context;
    atomic_bool cancelled;
};

/* Links slots 0..n_slot-1 (unique rows, codes written, none linked yet): layers, level 0, reachability. Sets
 * FLAG_LINKED | FLAG_LIVE on all. Errors: ANX_E_NOMEM, ANX_E_CANCELLED; the graph must then be destroyed. */
anx_status
bulk_link(struct graph *g, anx_pool *pool, uint64_t seed, struct bulk_progress *progress, anx_error *err);

/* --- parts, each in its file --- */

/* Candidates of each row, from the leaves it was in. Without their distances: these are computed again when
 * the row chooses, which takes less than the memory would be worth (half of all that a build needs beside the
 * graph). */
struct pools {
    size_t n, width;      /* rows; candidates per row at most */
    uint32_t *list;       /* [n][width] */
    atomic_ushort *count; /* [n], may exceed width: the rest was dropped */
};
anx_status pools_init(struct pools *c, const struct graph *g, size_t n, size_t width, anx_error *err);
void pools_fini(struct pools *c, const struct graph *g);

/* bulk_partition.c: one partition of all rows with `fan_out` leaves per row; adds `keep` candidates per row
 * and leaf. */
anx_status bulk_partition(struct graph *g, anx_pool *pool, struct pools *c, uint64_t seed, size_t fan_out,
                          size_t keep, struct bulk_progress *progress, anx_error *err);

/* bulk_order.c: renumbers slots depth first from the entry, so that a walk touches neighboring memory. */
anx_status bulk_order(struct graph *g, anx_pool *pool, anx_error *err);

/* False when the caller asked to cancel. */
static inline bool
bulk_report(struct bulk_progress *progress, const char *phase, size_t done, size_t total)
{
    if (progress && progress->fn && !progress->fn(progress->context, phase, done, total))
        atomic_store(&progress->cancelled, true);
    return !progress || !atomic_load(&progress->cancelled);
}
/* Has a report been answered with a cancel? Any thread. */
static inline bool
bulk_is_cancelled(const struct bulk_progress *progress)
{
    return progress && atomic_load_explicit(&progress->cancelled, memory_order_relaxed);
}
static inline anx_status
bulk_check_cancelled(const struct bulk_progress *progress, anx_error *err)
{
    return bulk_is_cancelled(progress) ? anx_fail(err, ANX_E_CANCELLED, "build was cancelled") : ANX_OK;
}

#endif
