/* The bodies of the service protocol. A request is {"data":[input, ...]}; an input is JSON text that the
 * caller made: {"title":"x"} for a document, "text" for a query, or (first generation) ["x", "y"].
 *
 * A reply is {"products":[...]}, one product per input; the bare array is read as well. A product is
 *
 *     [{"chunk":"...","embedding":[0.1,0.2]}, ...]   chunks (second generation)
 *     [0.1,0.2]                                      one vector (first generation)
 *
 * Which of the two it is shows in the product itself, so that services of either generation are understood
 * whatever was asked. Threads: no state. */
#ifndef ANX_EMBED_WIRE_H
#define ANX_EMBED_WIRE_H

#include "base/arena.h"
#include "base/buffer.h"

enum {
    EMBED_DIM_MAX = 65535,     /* components of a vector */
    EMBED_CHUNKS_MAX = 65535   /* vectors of one input */
};

/* What one input became. */
struct embed_vectors {
    const float *floats; /* [n * dim]; NULL when a vector has another dimension than was wanted */
    uint32_t n;
    uint32_t dim; /* of all vectors; or of the first that is not as wanted */
};

/* inputs: JSON texts. */
void embed_request_print(const anx_text *inputs, size_t n, anx_buffer *out);
/* Reads a reply to n inputs into out[n]; floats are in the arena. dim: components that are wanted, 0: as many
 * as the first vector has. For one input all products are taken together, as services that flatten their
 * answer need. ANX_E_PARSE_JSON: "Embed source adapter can't parse vector '<body>': <reason>", the body cut;
 * ANX_E_LIMIT: the number of products is not that of the inputs; ANX_E_NOMEM. */
ANX_NODISCARD anx_status embed_reply_read(anx_text body, size_t n, uint32_t dim, anx_arena *arena,
                                          struct embed_vectors *out, anx_error *err);

#endif
