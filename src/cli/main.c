/* The `annex` program: finds the command and runs it. Installed as `lantern-cli` too, which is the name that
 * Lantern's documentation has for it; it then answers under that name. */
#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"

#ifndef ANX_VERSION
#define ANX_VERSION "unknown"
#endif

static const struct command commands[] = {
    { "serve", "the document database, over HTTP", cmd_serve },
    { "dump", "databases to one file, also while a server runs", cmd_dump },
    { "restore", "databases from such a file", cmd_restore },
    { "embedder", "an embedding service made of term vectors, for the document database", cmd_embedder },
    { "build", "an index file from a file of vectors", cmd_build },
    { "index", "inspect, verify, search or convert an index file", cmd_index },
    { "start-indexing-server", "builds indexes for databases, over the network", cmd_indexing },
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
    bool is_lantern = strcmp(program_invocation_short_name, "lantern-cli") == 0;
    struct command_table table = {
        .name = is_lantern ? "lantern-cli" : "annex",
        .summary = "Annex, a vector search system.",
        .commands = commands,
        .n = ANX_COUNT_OF(commands),
    };
    char version[] = "version";

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
