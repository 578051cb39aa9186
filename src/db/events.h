/* Events: what happened to namespaces, for front ends whose clients subscribe.
 *
 * Events of one namespace are reported in their order, by the thread that made the change, mostly under
 * write_lock: a listener only takes note of them. Nothing but a load is paid for while nobody listens. */
#ifndef ANX_DB_EVENTS_H
#define ANX_DB_EVENTS_H

#include "db/db_int.h"
#include "db/ns.h"

/* n events of a kind. Either the caller holds write_lock, or nobody else changes the namespace. */
void event_emit(struct ns *ns, enum db_event_type type, size_t n);
/* One under another name than the namespace has now. */
void event_emit_as(struct ns *ns, anx_text name, enum db_event_type type);
/* The same for each of n written documents, with the counter that a precept moved before each. */
struct precept;
void event_emit_items(struct ns *ns, enum db_write_mode mode, bool in_tx, const struct precept *precepts,
                      size_t n_precept, size_t n);

#endif
