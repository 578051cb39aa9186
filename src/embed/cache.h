/* Embeddings that were asked for before, by tag. Keys, their order of use and how often they were asked are
 * in memory; the vectors are on disk, in a store of their own, and outlive a restart.
 *
 * A batch is planned as if its inputs were asked one after the other: embed_cache_find answers for each in
 * turn, and an input that the same batch asks for already is CACHE_OWN. When the reply is there,
 * embed_cache_store keeps what is to be kept; after a failure embed_cache_forget.
 *
 * A cache is only a cache: what is damaged or missing is asked again, a store that cannot be opened is made
 * anew, and when it cannot be written there is no cache and a line in the log says so. Crash: the store holds
 * a prefix of what was written; keys and vectors are written together. Threads: any. */
#ifndef ANX_EMBED_CACHE_H
#define ANX_EMBED_CACHE_H

#include "embed/wire.h"

struct embed_caches;
struct embed_cache; /* of one tag; lives as long as the caches */

struct embed_cache_rule { /* an entry of the settings */
    anx_text tag; /* "*": every tag without a rule of its own */
    uint64_t max_items; /* 0: off */
    uint64_t hits;      /* the n-th request of an input is the one whose answer is kept; 0 as 1 */
};

/* path: folder of the store, made when it is first needed; NULL: there are no caches. NULL: out of memory. */
struct embed_caches *embed_caches_create(const char *path);
void embed_caches_destroy(struct embed_caches *caches); /* NULL is fine */
/* New rules. Caches whose rule became another one are emptied, except by the first call. ANX_E_NOMEM. */
ANX_NODISCARD anx_status embed_caches_configure(struct embed_caches *caches,
                                                const struct embed_cache_rule *rules, size_t n,
                                                anx_error *err);
/* Empties the cache of a tag, "*": all. An unknown tag is fine. */
void embed_caches_clear(struct embed_caches *caches, anx_text tag);
/* The cache of a tag that is not empty; NULL: none (out of memory). */
struct embed_cache *embed_caches_get(struct embed_caches *caches, anx_text tag);
/* Documents for #memstats: a list of caches, with commas between. */
void embed_caches_print(struct embed_caches *caches, anx_buffer *out);

bool embed_cache_is_active(struct embed_cache *cache);

enum embed_cache_answer {
    CACHE_ASK, /* the service; *is_kept: the answer will be wanted by embed_cache_store */
    CACHE_HIT, /* *out; floats from the arena */
    CACHE_OWN  /* the same as input *input of this owner */
};
/* owner: a number of its own for every batch, not 0. kind: 't' or 'j', so that a text and a document never
 * share. dim: what is wanted; a kept vector of another one is asked again. */
enum embed_cache_answer
embed_cache_find(struct embed_cache *cache, char kind, anx_text source, uint64_t owner, uint32_t dim,
                 uint32_t *input, bool *is_kept, anx_arena *arena, struct embed_vectors *out);
void embed_cache_store(struct embed_cache *cache, char kind, anx_text source, uint64_t owner,
                       const struct embed_vectors *vectors);
void embed_cache_forget(struct embed_cache *cache, char kind, anx_text source, uint64_t owner);

#endif
