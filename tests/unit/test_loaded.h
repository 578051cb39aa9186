/* What the last load of the namespace t said in the log: anx_log_set(watch_log, NULL, ANX_LOG_INFO). */
#ifndef ANX_TEST_LOADED_H
#define ANX_TEST_LOADED_H

#include <stdio.h>
#include <string.h>

#include "base/log.h"

static struct {
    unsigned from_file, built; /* vectors */
    unsigned refused;          /* files, since it was set to 0 */
} loaded;

static void
watch_log(void *context, anx_log_level level, const char *line)
{
    const char *at = strstr(line, "vectors_from_file=");

    (void) context;
    (void) level;
    if (strstr(line, "event=namespace_loaded ns=t ") && at)
        (void) sscanf(at, "vectors_from_file=%u vectors_built=%u", &loaded.from_file, &loaded.built);
    if (strstr(line, "event=index_file_refused"))
        loaded.refused++;
}

#endif
