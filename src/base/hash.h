/* Hashes and checksums: XXH3, 64 bits (xxHash). Stable across machines, so it may be written to files. Not
 * for secrets.
 *
 *     uint64_t sum = anx_hash(bytes, size);
 *
 *     anx_hasher *hasher = anx_hasher_create();      the same sum, of bytes that arrive in pieces
 *     anx_hasher_update(hasher, piece, piece_size);
 *     sum = anx_hasher_digest(hasher); */
#ifndef ANX_BASE_HASH_H
#define ANX_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* bytes may be NULL when size is 0. */
uint64_t anx_hash(const void *bytes, size_t size);

/* Threads: one at a time per hasher. */
typedef struct anx_hasher anx_hasher;
anx_hasher *anx_hasher_create(void); /* NULL when out of memory */
void anx_hasher_destroy(anx_hasher *hasher); /* NULL is fine */
void anx_hasher_reset(anx_hasher *hasher);
void anx_hasher_update(anx_hasher *hasher, const void *bytes, size_t size);
/* The sum of everything since create or reset; more may follow. */
uint64_t anx_hasher_digest(const anx_hasher *hasher);

#endif
