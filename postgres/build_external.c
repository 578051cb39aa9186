#include "build.h"

void
build_external(struct build *build)
{
    (void) build;
    ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED), errmsg("external builds are not implemented")));
}
