/* Contents of the system namespaces, and the engine's numbers for Prometheus. */
#ifndef ANX_DB_SYSTEM_H
#define ANX_DB_SYSTEM_H

#include "db/ns_life.h"

/* A namespace with the documents of this moment; see ns_life.h. ANX_E_NOT_FOUND for an unknown name. Called
 * by ns_acquire. */
ANX_NODISCARD anx_status system_ns_make(struct database *db, anx_text name, struct ns **out, anx_error *err);
/* Names of all system namespaces, #config among them; NULL-terminated. */
extern const char *const system_ns_names[];

/* Lines of the Prometheus text format about namespaces of all databases. */
void engine_print_metrics(struct engine *engine, anx_buffer *out);

#endif
