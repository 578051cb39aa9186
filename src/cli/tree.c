/* The commands of the program. Each is a file that has its function and its table of options. */
#include "base/error.h"
#include "cli/commands.h"

static const struct command commands[] = {
    { "serve", "the document database, over HTTP", cmd_serve, &serve_command, NULL },
    { "dump", "databases to one file, also while a server runs", cmd_dump, &dump_command, NULL },
    { "restore", "databases from such a file", cmd_restore, &restore_command, NULL },
    { "embedder", "an embedding service made of term vectors, for the document database", cmd_embedder,
      &embedder_command, NULL },
    { "build", "an index file from a file of vectors", cmd_build, &build_command, NULL },
    { "index", "inspect, verify, search or convert an index file", cmd_index, NULL, &index_table },
    { "start-indexing-server", "builds indexes for databases, over the network", cmd_indexing,
      &indexing_command, NULL },
    { "bench", "recall, speed and size on real vectors, against other libraries", cmd_bench, NULL,
      &bench_table },
    { "completion", "the words of this program for a shell", cmd_completion, &completion_command, NULL },
    { "man", "the manual page of a command, for man(1)", cmd_man, &man_command, NULL },
    { "version", "version and instruction sets", cmd_version, &version_command, NULL },
};

const struct command_table program_commands = {
    .name = "annex",
    .summary = "Annex, a vector search system.",
    .commands = commands,
    .n = ANX_COUNT_OF(commands),
};
