/* What a peer library must offer to be measured against. Each peer is a module of its own (peer_*.cc), opened
 * at run time, so that the program carries neither C++ nor BLAS, and so that a peer may be compiled for the
 * machine at hand: hnswlib chooses its distance functions when it is compiled, and anything less would
 * flatter us.
 *
 * Rows are f32, [n * dim]; for cosine the caller passes normalized rows and queries. Labels are row
 * numbers. */
#ifndef ANX_BENCH_PEER_H
#define ANX_BENCH_PEER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define PEER_ABI 1
#define PEER_ENTRY "anx_peer_entry"

enum peer_metric { PEER_L2, PEER_IP }; /* cosine is PEER_IP on normalized rows */

struct peer_params {
    enum peer_metric metric;
    size_t dim, n, threads;
    size_t m, ef_construction; /* graph */
    size_t nlist;              /* inverted lists */
    unsigned seed;
    /* Called from one of the building threads. */
    bool (*progress)(void *context, const char *phase, size_t done, size_t total);
    void *progress_context;
};

struct peer_ops {
    unsigned abi; /* PEER_ABI */
    const char *name, *version;
    /* NULL: failed, and message (message_size bytes) says why. rows are borrowed for the call. */
    void *(*build)(const struct peer_params *params, const float *rows, char *message, size_t message_size);
    void (*destroy)(void *index);
    /* ef or nprobe of the searches that follow; no search meanwhile. */
    void (*set_breadth)(void *index, size_t breadth);
    /* Labels of the k nearest, nearest first; short answers end with UINT64_MAX. Any number of threads. */
    void (*search)(void *index, const float *query, size_t k, uint64_t *labels);
    /* Bytes held by the index, as far as the library can tell. */
    size_t (*bytes)(const void *index);
};

/* The one exported symbol of a module, of this type. */
typedef const struct peer_ops *(*peer_entry_fn)(void);

/* peer.c: opens the module of `name` ("hnswlib", "faiss"); NULL and a message when it is not there or does
 * not fit. */
const struct peer_ops *peer_open(const char *name, char *message, size_t message_size);

#ifdef __cplusplus
}
#endif
#endif
