/* One embedding service over HTTP: a pool of connections with limits and time-outs (libcurl).
 *
 *     embed_client_create(&params, &client, &err);
 *     embed_client_post(client, false, &call, body, n_input, &reply, &err);
 *     embed_client_release(client);
 *
 * A request is POST <url>/api/v1/embedder/<name>/produce?format=json (or text). Redirects are not followed,
 * proxies are not used, certificates of https services are verified (system authorities, and those in the
 * file that the environment variable ANNEX_EMBEDDER_CA_FILE names). Connections are opened when they are
 * first needed and kept.
 *
 * Time-outs: connect_ms for a connection; write_ms for sending, read_ms for the whole reply, each longer by
 * itself for every further 100 inputs, so that a batch has what its inputs would have had one by one.
 * Threads: any; one request per connection at a time, further callers wait for a free one. */
#ifndef ANX_EMBED_CLIENT_H
#define ANX_EMBED_CLIENT_H

#include "base/buffer.h"

struct embed_client;

struct embed_client_params {
    const char *url;  /* http://host:port/path or https://... */
    const char *name; /* of the embedder, in the path */
    const char *token_env; /* environment variable with a bearer token; NULL: none */
    bool is_text_only;     /* first generation: format=text for documents too */
    unsigned connections, connect_ms, read_ms, write_ms;
    unsigned retries, backoff_ms; /* retries 0: none; the wait doubles each time, with jitter */
};
/* Who asks. All members may be zero. */
struct embed_call {
    uint64_t deadline_ns; /* anx_clock_ns of the last moment, 0: none */
    bool (*should_stop)(void *context);
    void *stop_context;
    /* Told before a caller waits for a service (true) and when it goes on (false). False as an answer: there
     * are too many who wait, and the call fails with ANX_E_BUSY. */
    bool (*blocking)(void *context, bool begins);
    void *blocking_context;
};
struct embed_traffic { /* of one call */
    uint64_t in_bytes, out_bytes, wait_ns; /* wait_ns: for a connection */
};

/* ANX_E_NOMEM, ANX_E_SYSTEM (libcurl does not start). */
ANX_NODISCARD anx_status embed_client_create(const struct embed_client_params *params,
                                             struct embed_client **out, anx_error *err);
void embed_client_destroy(struct embed_client *client); /* nobody uses it any more; NULL is fine */
/* The body of the reply to a body of n_input inputs. *status: of HTTP, 0 when there was no answer.
 * ANX_E_SERVICE: "<reason phrase>" or "Unexpected problem with client, error: <cause>"; ANX_E_TIMEOUT,
 * ANX_E_CANCELLED (the caller's deadline and will). */
ANX_NODISCARD anx_status embed_client_post(struct embed_client *client, bool is_query,
                                           const struct embed_call *call, anx_text body, size_t n_input,
                                           anx_buffer *reply, long *status, struct embed_traffic *traffic,
                                           anx_error *err);
unsigned embed_client_in_use(struct embed_client *client); /* connections */
const char *embed_client_url(const struct embed_client *client); /* of requests, without the format */

#endif
