/* Logging: formats one line on the stack and hands it to the program's sink. */
#include "base/log.h"

#include <stdarg.h>
#include <stdio.h>

#define LINE_SIZE 1024

/* Set before threads start, read-only afterwards (see log.h). */
static struct {
    anx_log_fn sink;
    void *context;
    anx_log_level max;
} logger;

void
anx_log_set(anx_log_fn sink, void *context, anx_log_level max)
{
    logger.sink = sink;
    logger.context = context;
    logger.max = max;
}

void
anx_log(anx_log_level level, const char *format, ...)
{
    char line[LINE_SIZE];
    va_list arguments;

    if (!logger.sink || level > logger.max)
        return;
    va_start(arguments, format);
    if (vsnprintf(line, sizeof(line), format, arguments) < 0)
        line[0] = '\0';
    va_end(arguments);
    /* A value with a line feed in it must not be able to forge a second event. */
    for (char *p = line; *p; p++)
        if ((unsigned char) *p < ' ' || *p == 0x7f)
            *p = ' ';
    logger.sink(logger.context, level, line);
}
