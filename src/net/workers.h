/* Threads that take requests in the order they came, for servers.
 *
 *     if (anx_workers_open(&workers, 16, answer, server, &err) == ANX_OK) {
 *         anx_workers_give(workers, &request->work);       // answer(server, &request->work) runs on one of
 * them anx_workers_close(workers);                      // after everything given has run
 *     }
 *
 * A request that waits for a service on the network says so around the wait (anx_workers_blocking): another
 * thread, started if need be and kept, works in its place. A service that hangs costs threads and not
 * answers: n requests work at any moment, and at most ANX_WORKERS_BLOCKED_MAX wait beside them.
 * Threads: give and blocking may be called by any. All signals are blocked in workers. The lock is a leaf. */
#ifndef ANX_NET_WORKERS_H
#define ANX_NET_WORKERS_H

#include <stddef.h>

#include "annex/status.h"

enum { ANX_WORKERS_BLOCKED_MAX = 256 };

struct anx_workers;
/* A member of the request, which stays its owner's; free again once its function runs. */
struct anx_work {
    struct anx_work *next;
};
typedef void (*anx_work_fn)(void *context, struct anx_work *work);

/* n >= 1: requests that work at once. ANX_E_NOMEM: no memory, no thread. */
ANX_NODISCARD anx_status anx_workers_open(struct anx_workers **out, size_t n, anx_work_fn run, void *context,
                                          anx_error *err);
void anx_workers_give(struct anx_workers *workers, struct anx_work *work);
/* By what runs on a worker, before and after it waits. False (begins only): too many wait already, and
 * nothing is to be called after. The shape is that of a session's `blocking`. */
bool anx_workers_blocking(void *workers, bool begins);
/* Runs what was given and joins the threads. NULL is fine. Nothing may be given any more. */
void anx_workers_close(struct anx_workers *workers);

#endif
