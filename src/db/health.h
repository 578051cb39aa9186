/* What a namespace is made of and how it is, for people who look after it: documents, memory, and everything
 * about its vector indexes. The same numbers as #memstats, and what that does not have: parameters, defaults,
 * the index file, the state of quantization, embedders, the last measured recall.
 * Threads: any; data_lock is shared for the length of the printing, which walks over indexes and no rows. */
#ifndef ANX_DB_HEALTH_H
#define ANX_DB_HEALTH_H

#include "db/db.h"

/* Prints the JSON object that docs/http.md describes. ANX_E_NOT_FOUND. */
ANX_NODISCARD anx_status db_health_print(struct database *db, anx_text ns, anx_buffer *out, anx_error *err);

#endif
