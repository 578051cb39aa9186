#ifndef ANX_DB_MERGE_INT_H
#define ANX_DB_MERGE_INT_H

#include "db/result_int.h"

/* ANX_E_LOGIC, ANX_E_PARAMS, ANX_E_NOT_VALID: queries that cannot be merged. */
ANX_NODISCARD anx_status merge_check(struct exec *x, const struct query *query, struct part *const *parts,
                                     size_t n_part);
/* Makes result->merged of the parts' rows: by rank where there is one, in the window of the outer query. The
 * parts keep the rows that are inside. */
ANX_NODISCARD anx_status merge_rows(struct result *result, const struct query *query);

#endif
