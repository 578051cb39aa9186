/* Between the files of the system namespaces. */
#ifndef ANX_DB_SYSTEM_INT_H
#define ANX_DB_SYSTEM_INT_H

#include "db/db_int.h"

ANX_NODISCARD anx_status system_print_memstats(struct database *db, anx_buffer *out, anx_error *err);

struct ns;
/* Every namespace that was not dropped, with its data_lock held shared. ANX_E_NOMEM. */
anx_status system_each_ns(struct database *db, void (*each)(void *context, struct ns *ns), void *context,
                          anx_error *err);

/* What a namespace holds, in bytes. */
struct ns_sizes {
    size_t items, data, indexes;
    bool is_storage_ok;
};
/* data_lock shared. */
void ns_measure(struct ns *ns, struct ns_sizes *out);

#endif
