/* What an indexing server says about itself, fetched for the console, which may talk to its own origin only.
 *
 * Asked at most once a second, whoever asks: an answer, or a failure, is kept for that long. A fetch may take
 * a second. Redirects are not followed, proxies not used, and what comes is at most 1 MiB and must be JSON.
 * Threads: print by any; open and close by one. */
#ifndef ANX_HTTP_INDEXING_H
#define ANX_HTTP_INDEXING_H

#include "base/buffer.h"
#include "db/db.h"

struct http_indexing;
/* url: http://HOST[:PORT][/PATH], https too; asked at PATH/status. ANX_E_INVALID, ANX_E_NOMEM. */
ANX_NODISCARD anx_status http_indexing_open(const char *url, struct http_indexing **out, anx_error *err);
void http_indexing_close(struct http_indexing *indexing); /* NULL is fine */
/* {"configured":true,"url":..,"reachable":true,"age_ms":..,"status":{..}}, or "reachable":false with "error".
 * NULL: {"configured":false}. The session's `blocking` is told. ANX_E_BUSY, ANX_E_NOMEM. */
ANX_NODISCARD anx_status http_indexing_print(struct http_indexing *indexing, const struct db_session *session,
                                             anx_buffer *out, anx_error *err);

#endif
