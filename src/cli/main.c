/* The `annex` program: finds the command and runs it. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"

static const struct command commands[] = {
    { "build", "an index file from a file of vectors", cmd_build },
    { "index", "inspect, verify, search or convert an index file", cmd_index },
    { "bench", "recall, speed and size on real vectors, against other libraries", cmd_bench },
    { "version", "version and instruction sets", cmd_version },
};

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
    static const struct command_table table = {
        .name = "annex",
        .summary = "Annex, a vector search system.",
        .commands = commands,
        .n = ANX_COUNT_OF(commands),
    };
    char version[] = "version";

    anx_log_set(log_to_stderr, NULL, ANX_LOG_WARN);
    if (argc > 1 && strcmp(argv[1], "--version") == 0)
        argv[1] = version;
    return command_run(&table, argc, argv);
}
