/* Logging. The core is silent until a program gives it a sink. One event is one line of `event=name key=value
 * ...`. Levels by frequency: error and warn need a person, info once per lifecycle event, debug per request.
 * Vectors, documents, tokens and keys never reach a log.
 * Threads: set the sink before threads start; anx_log may be called from any thread. */
#ifndef ANX_BASE_LOG_H
#define ANX_BASE_LOG_H

#include "annex/status.h"

typedef enum anx_log_level { ANX_LOG_ERROR, ANX_LOG_WARN, ANX_LOG_INFO, ANX_LOG_DEBUG } anx_log_level;
typedef void (*anx_log_fn)(void *context, anx_log_level level, const char *line);

/* Levels above `max` are dropped. sink NULL: silence. */
void anx_log_set(anx_log_fn sink, void *context, anx_log_level max);
void anx_log(anx_log_level level, const char *format, ...) ANX_PRINTF(2, 3);

#endif
