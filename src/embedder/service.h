/* The embedding service in the box: the services' API (src/embed/wire.h) over a model.
 *
 *     POST /api/v1/embedder/NAME/produce?format=json|text    NAME: anything
 *         {"data":[{"title":"red fox","tags":["a","b"]}, "a text", ["first", "generation"]]}
 *         {"products":[[{"chunk":"","embedding":[...]}], [{"chunk":"","embedding":[...]}], [...]]}
 *
 *     GET  /                                                 what it serves, as JSON
 *
 * An object stands for the words of its values, whatever their names; an input that is a list gets a plain
 * vector back, as the first generation of the API has it. Errors are {"success":false,"response_code":400,
 * "description":"..."}. Each thread has an event loop and answers one request at a time. */
#ifndef ANX_EMBEDDER_SERVICE_H
#define ANX_EMBEDDER_SERVICE_H

#include "base/buffer.h"
#include "embedder/model.h"

struct embedder_service;
struct embedder_service_params {
    const struct model *model; /* borrowed until close */
    enum model_weights weights;
    const char *host;
    uint16_t port;     /* 0: any free one */
    size_t n_thread;   /* 0: one per CPU */
    size_t max_body;   /* bytes of a request; 0: 64 MiB */
    unsigned read_timeout_s; /* of a connection that says nothing; 0: 60 */
};
/* Errors: those of anx_listen_open; ANX_E_NOMEM. */
ANX_NODISCARD anx_status embedder_service_open(const struct embedder_service_params *params,
                                               struct embedder_service **out, anx_error *err);
unsigned embedder_service_port(const struct embedder_service *service);
/* Requests that run are finished. NULL is fine. */
void embedder_service_close(struct embedder_service *service);

/* The reply to a body, without a socket. ANX_E_PARSE_JSON, ANX_E_PARAMS, ANX_E_NOMEM. */
ANX_NODISCARD anx_status embedder_answer(struct model_text *text, const struct model *model, anx_text body,
                                         anx_buffer *out, anx_error *err);

#endif
