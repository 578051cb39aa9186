/* The mechanics of changing indexes: from a list of indexes as they should be to a namespace that has them.
 */
#ifndef ANX_DB_NS_REBUILD_H
#define ANX_DB_NS_REBUILD_H

#include "db/ns_int.h"

/* Gives the namespace these indexes [n]: some of its present ones (copied from ns->indexes) and new ones
 * (index_make, without objects). Documents are read again under the new shape, new indexes are built beside
 * the old ones, and everything changes at once, in memory and in the store. What the namespace does not have
 * any more is freed. On failure nothing changed, and the new ones are freed. write_lock held; is_private:
 * nobody else knows the namespace and nothing is stored. Errors of documents say which one: "Error during
 * processing item with primary key `id`={1}: ..." */
ANX_NODISCARD anx_status ns_rebuild(struct ns *ns, const struct ns_index *list, size_t n, bool is_private,
                                    anx_error *err);

#endif
