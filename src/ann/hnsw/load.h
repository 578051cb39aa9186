/* New graphs from many rows: the loader of the contract, and rebuilds. */
#ifndef ANX_ANN_HNSW_LOAD_H
#define ANX_ANN_HNSW_LOAD_H

#include "ann/hnsw/bulk.h"
#include "ann/hnsw/hnsw_int.h"

anx_status hnsw_loader_begin(anx_index *index, size_t expected, anx_loader **out, anx_error *err);
anx_status
hnsw_loader_rows(anx_loader *loader, size_t n, const uint64_t *labels, const void *vectors, anx_error *err);
anx_status hnsw_loader_finish(anx_loader *loader, anx_progress_fn progress, void *context, anx_error *err);
void hnsw_loader_abort(anx_loader *loader);

/* Rows being gathered into a new graph. */
struct load;
/* Says that no time can be saved by encoding rows as they arrive: all come at once. */
void load_as_batch(struct load *load);
struct load *load_begin(struct hnsw *index, size_t expected, anx_error *err);
anx_status
load_rows(struct load *load, size_t n, const uint64_t *labels, const void *vectors, anx_error *err);
/* Builds; on success *out is a graph ready to be published. Frees the load in any case. n of links_from on
 * rows get a graph even when few (for files). */
anx_status load_finish(struct load *load, bool always_links, struct bulk_progress *progress,
                       struct graph **out, anx_error *err);
void load_abort(struct load *load);

/* A new graph from the live rows of the current one and, if label is not NONE, one more row; published.
 * Caller holds the gate exclusively. */
anx_status hnsw_rebuild_locked(struct hnsw *index, uint64_t label, const void *vector,
                               struct bulk_progress *progress, anx_error *err);
/* Feeds every live row (copies too) of g to a load. */
anx_status load_from_graph(struct load *load, const struct graph *g, anx_error *err);
/* Makes g the current graph and retires the old one. */
void hnsw_publish(struct hnsw *index, struct graph *g);

#endif
