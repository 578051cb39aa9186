/* The `annex` program: finds the command and runs it. Installed as `lantern-cli` too, which is the name that
 * Lantern's documentation has for it; it then answers under that name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/log.h"
#include "cli/commands.h"

#ifndef ANX_VERSION
#define ANX_VERSION "unknown"
#endif

static void
log_to_stderr(void *context, anx_log_level level, const char *line)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };

    (void) context;
    fprintf(stderr, "level=%s %s\n", names[level], line);
}

int
main(int argc, char **argv)
{
    bool is_lantern = strcmp(program_invocation_short_name, "lantern-cli") == 0;
    struct command_table table = program_commands;
    char version[] = "version";

    if (is_lantern)
        table.name = "lantern-cli";
    anx_log_set(log_to_stderr, NULL, ANX_LOG_WARN);
    if (argc > 1 && strcmp(argv[1], "--version") == 0) {
        if (is_lantern) {
            printf("lantern-cli %s\n", ANX_VERSION);
            return 0;
        }
        argv[1] = version;
    }
    return command_run(&table, argc, argv);
}
