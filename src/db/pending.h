/* Vectors that were handed to the store and are not durable yet, for indexes that keep only codes in memory
 * and read the floats from the store: without them, a vector could not be read back between its publication
 * and the commit, or an old version of it would be read.
 *
 * Threads: any; a lock of its own, held for a few instructions and a copy of one vector. */
#ifndef ANX_DB_PENDING_H
#define ANX_DB_PENDING_H

#include "doc/doc.h"

struct pending;
struct pending *pending_create(void); /* NULL: out of memory */
void pending_destroy(struct pending *pending); /* NULL is fine */
/* Remembers a vector field of a row (copies), instead of what was remembered for it. n 0 is remembered as
 * well. A failure latches until pending_check. */
void
pending_put(struct pending *pending, uint32_t vector_field, uint32_t row, const struct doc_vectors *vectors);
/* Was everything since the last call remembered? */
bool pending_check(struct pending *pending);
/* Gives what was put since the last call the ticket of its batch. */
void pending_submitted(struct pending *pending, uint64_t ticket);
/* Forgets what is durable. */
void pending_settle(struct pending *pending, uint64_t durable);
/* 1: *out has the vector, -1: the row has no vector there, 0: nothing is pending for it, ask the store. */
int pending_get(struct pending *pending, uint32_t vector_field, uint32_t row, uint32_t position, float *out);
size_t pending_bytes(struct pending *pending);

#endif
