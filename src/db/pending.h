/* Vectors on their way to the store, for indexes that keep only codes in memory and read the floats from the
 * store. Between preparing a change and its commit the store does not have the new version yet; between its
 * commit and its publication readers still need the old one. So both are kept here, each under its generation
 * (data.h), until the change is durable and published: whoever finds nothing here finds the right version in
 * the store.
 *
 * Threads: any; a lock of its own, held for a few instructions and a copy of one vector. */
#ifndef ANX_DB_PENDING_H
#define ANX_DB_PENDING_H

#include "doc/doc.h"

struct pending;
struct pending *pending_create(void); /* NULL: out of memory */
void pending_destroy(struct pending *pending); /* NULL is fine */
/* Remembers a vector field of a row in a generation (copies), instead of what was remembered for these. A
 * failure latches until pending_check. */
void pending_put(struct pending *pending, uint32_t vector_field, uint32_t row, uint32_t generation,
                 const struct doc_vectors *vectors);
/* Was everything since the last call remembered? */
bool pending_check(struct pending *pending);
/* Gives what was put since the last call the ticket of its batch; what was submitted before has been
 * published by now (write_lock). Ticket 0: the batch was refused, and what was put since is forgotten. */
void pending_submitted(struct pending *pending, uint64_t ticket);
/* No change is half way: whatever was submitted is published. By the holder of write_lock. */
void pending_published(struct pending *pending);
/* Forgets what is published, and durable up to this ticket. */
void pending_settle(struct pending *pending, uint64_t durable);
/* Does *out have the vector now? If not, it is in the store. */
bool pending_get(struct pending *pending, uint32_t vector_field, uint32_t row, uint32_t generation,
                 uint32_t position, float *out);
size_t pending_bytes(struct pending *pending);

#endif
