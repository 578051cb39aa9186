/* The dictionary of field names of a namespace: name <-> tag (1, 2, ...). Documents hold tags. Names are
 * never removed, so a reader needs no lock for tags it took from a document it can see.
 * Threads: every call from any thread at any time; reading takes no lock.
 *
 * Storage: tags are given in order, so what is new since a count was written is count + 1 .. names_count, and
 * loading is names_add of every text in that order. A document may use tags that another thread added a
 * moment before: whoever writes documents first writes every name that is not written yet, not only its own.
 */
#ifndef ANX_DOC_NAMES_H
#define ANX_DOC_NAMES_H

#include <stdbool.h>
#include <stdint.h>

#include "annex/alloc.h"
#include "annex/status.h"
#include "base/text.h"

#ifdef __cplusplus
extern "C" {
#endif

struct doc_names;

struct doc_names *names_create(const anx_alloc *alloc);
void names_destroy(struct doc_names *names); /* NULL is fine */
/* The tag of a name, 0 when it is not there. Case matters. */
uint32_t names_find(const struct doc_names *names, anx_text name);
/* Finds or adds. ANX_E_LIMIT past NAMES_MAX or NAME_SIZE_MAX, ANX_E_NOMEM. */
ANX_NODISCARD anx_status names_add(struct doc_names *names, anx_text name, uint32_t *tag, anx_error *err);
anx_text names_text(const struct doc_names *names, uint32_t tag); /* empty for an unknown tag */
uint32_t names_count(const struct doc_names *names);              /* tags are 1..count */

enum { NAMES_MAX = 65535, NAME_SIZE_MAX = 4096 };

#ifdef __cplusplus
}
#endif
#endif
