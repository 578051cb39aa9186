/* An embedder: a service, a cache and counters. What an index's upsert_embedder and query_embedder are.
 *
 *     embedder_create(&params, caches, &embedder, &err);
 *     embedder_run(embedder, inputs, n, dim, &call, arena, &err);
 *     ... inputs[i].status, inputs[i].vectors
 *     embedder_release(embedder);
 *
 * Inputs go out in batches, in order, and come back as if they had been asked for one by one: each has a
 * status of its own, and those behind the first failure of a batch may not have been asked. A service that
 * refuses a batch, or answers it in a way that cannot be told apart, is asked again input by input, so that
 * one bad input spoils only itself. Threads: any. */
#ifndef ANX_EMBED_EMBEDDER_H
#define ANX_EMBED_EMBEDDER_H

#include "base/error.h"
#include "embed/cache.h"
#include "embed/client.h"

enum {
    EMBED_BATCH_DEFAULT = 1024,       /* inputs of a request */
    EMBED_BATCH_BYTES = 4 << 20       /* of a request's body; one input may be larger */
};

struct embedder;
struct embedder_params {
    struct embed_client_params client;
    const char *cache_tag; /* "": no cache */
    bool is_query;         /* the inputs are texts to search for */
    size_t batch;          /* inputs of a request, 0: EMBED_BATCH_DEFAULT */
};
struct embed_input {
    anx_text source; /* JSON text, see wire.h; borrowed */
    anx_status status;
    struct embed_vectors vectors; /* when status is ANX_OK; floats from the arena */
};

/* caches: live longer than the embedder. */
ANX_NODISCARD anx_status embedder_create(const struct embedder_params *params, struct embed_caches *caches,
                                         struct embedder **out, anx_error *err);
struct embedder *embedder_acquire(struct embedder *embedder); /* one more reference; gives it back */
void embedder_release(struct embedder *embedder);             /* NULL is fine */
/* A number that no other embedder of this process has. */
uint64_t embedder_id(const struct embedder *embedder);
const char *embedder_url(const struct embedder *embedder);
/* dim: of vectors that are wanted, 0: any; a service's vector of another dimension is no failure here, see
 * struct embed_vectors. *n_done: inputs that have a status. Returns the first failure, which is that of
 * inputs[*n_done - 1]; its text is "Problem with client: ..." or one of wire.h, without the name of index or
 * document. */
ANX_NODISCARD anx_status embedder_run(struct embedder *embedder, struct embed_input *inputs, size_t n,
                                      uint32_t dim, const struct embed_call *call, anx_arena *arena,
                                      size_t *n_done, anx_error *err);

/* The objects of #memstats and #perfstats, braces included. */
void embedder_print_status(struct embedder *embedder, anx_buffer *out);
void embedder_print_perf(struct embedder *embedder, anx_buffer *out);
void embedder_reset_perf(struct embedder *embedder);
struct embedder_gauges {
    uint64_t qps, dps, errors, latency_us, embed_latency_us, connections, in_bytes,
        out_bytes; /* of the last second */
};
void embedder_read_gauges(struct embedder *embedder, struct embedder_gauges *out);
/* Counters of an embedder that takes the place of another one (the definition of the index was changed). */
void embedder_inherit(struct embedder *embedder, struct embedder *before);

#endif
