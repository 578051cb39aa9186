/* The commands of the program: tables of name, help and function, used for `annex` itself and for commands
 * that have commands. A command takes its own name as argv[0], prints results on standard output and messages
 * on standard error, and returns the exit code: 0 done, 1 failed, 2 wrong usage. */
#ifndef ANX_CLI_COMMANDS_H
#define ANX_CLI_COMMANDS_H

#include "annex/status.h"
#include "cli/options.h"

typedef int (*command_fn)(int argc, char **argv);

struct command {
    const char *name, *help;
    command_fn run;
    const struct option_command *options; /* what it takes; NULL when it has commands of its own */
    const struct command_table *table;    /* those, or NULL */
};
struct command_table {
    const char *name, *summary;
    const struct command *commands;
    size_t n;
};

/* All of the program: `annex` with its commands, and theirs (tree.c). Help, completion and manual pages are
 * made of it. */
extern const struct command_table program_commands;

/* Runs the command that argv[1] names; prints the table for --help, and for a missing or unknown name. */
int command_run(const struct command_table *table, int argc, char **argv);
/* 0 for ANX_OK; otherwise prints message, detail and hint and gives 1. */
int command_exit(const char *command, anx_status st, const anx_error *err);

extern const struct option_command build_command, completion_command, dump_command, embedder_command,
    indexing_command, man_command, restore_command, serve_command, version_command;
extern const struct command_table bench_table, index_table; /* bench/bench.c, cmd_index.c */

int cmd_bench(int argc, char **argv);   /* bench/bench.c */
int cmd_build(int argc, char **argv);   /* cmd_build.c */
int cmd_completion(int argc, char **argv); /* cmd_completion.c */
int cmd_dump(int argc, char **argv);    /* cmd_dump.c */
int cmd_restore(int argc, char **argv); /* cmd_dump.c */
int cmd_embedder(int argc, char **argv); /* cmd_embedder.c */
int cmd_index(int argc, char **argv);   /* cmd_index.c */
int cmd_indexing(int argc, char **argv); /* cmd_indexing.c */
int cmd_man(int argc, char **argv);     /* cmd_man.c */
int cmd_serve(int argc, char **argv);   /* cmd_serve.c */
int cmd_version(int argc, char **argv); /* cmd_version.c */

#endif
