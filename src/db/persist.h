/* How namespaces are kept in the store: one table of records per namespace, and the catalog table of the
 * database for definitions, schemas, metadata and names. Layouts are in README.md.
 *
 * A record's key is its row id, so rows keep their ids over a restart, an index file may refer to them, and a
 * change of the primary key rewrites nothing. An update writes the same key again; a row that is freed and
 * used again is a delete and a put in the order of their batches.
 *
 * All calls: write_lock held. A namespace that is not persistent has no batch: persist_begin gives NULL, the
 * others ignore NULL. */
#ifndef ANX_DB_PERSIST_H
#define ANX_DB_PERSIST_H

#include "db/ns_life.h"

/* A batch for changes of this namespace. */
ANX_NODISCARD anx_status persist_begin(struct ns *ns, struct store_batch **out, anx_error *err);
/* The record of a row, new or again. vectors [ns->n_vector_field] in the numbering of DOC_VECTOR nodes; the
 * floats of every vector field, also those that did not change (vector_get). */
void persist_put(struct ns *ns, struct store_batch *batch, uint32_t row, struct doc doc,
                 const struct doc_vectors *vectors);
void persist_delete(struct ns *ns, struct store_batch *batch, uint32_t row);
/* Adds the names that the dictionary gained since the last submit, and hands the batch to the store. Takes
 * the batch, also on failure. *ticket 0: nothing to wait for. Order of calls is order of application. */
ANX_NODISCARD anx_status persist_submit(struct ns *ns, struct store_batch *batch, uint64_t *ticket,
                                        anx_error *err);
/* Until it is durable; no lock held. */
ANX_NODISCARD anx_status persist_wait(struct ns *ns, uint64_t ticket, anx_error *err);

/* Vectors of a row in the store, for indexes that keep only codes; any thread, no lock needed. peek: one,
 * where it is in the mapped record (not aligned, valid until the read ends), not verified; NULL: there is
 * none. read: its first n, verified. False: it has fewer. */
const void *persist_peek_vector(struct ns *ns, struct store_read *read, uint32_t vector_field, uint32_t row,
                                uint32_t position, uint32_t dim);
bool persist_read_vectors(struct ns *ns, uint32_t vector_field, uint32_t row, uint32_t n, uint32_t dim,
                          float *out);

/* Metadata (ns_meta.c). Any thread for get; write_lock for put; into the batch, so that it becomes durable
 * with the documents it belongs to (counters of serial()). value empty and data NULL: delete. */
ANX_NODISCARD anx_status meta_get(struct ns *ns, anx_text key, anx_arena *arena, anx_text *value,
                                  anx_error *err);
ANX_NODISCARD anx_status meta_put(struct ns *ns, struct store_batch *batch, anx_text key, anx_text value,
                                  anx_error *err);

#endif
