/* SQL functions for people: validation of an index. */
#include "lantern.h"

#include <access/table.h>
#include <catalog/index.h>
#include <catalog/pg_am.h>
#include <commands/defrem.h>
#include <utils/builtins.h>

ANX_PG_FUNCTION(lantern_validate_index);
Datum
lantern_validate_index(PG_FUNCTION_ARGS)
{
    (void) fcinfo;
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("validate_index is not implemented")));
    PG_RETURN_VOID();
}
