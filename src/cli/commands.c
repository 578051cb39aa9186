/* See commands.h. */
#include "cli/commands.h"

#include <stdio.h>
#include <string.h>

static void
print_table(const struct command_table *table, FILE *out)
{
    int width = 10;

    for (size_t i = 0; i < table->n; i++)
        width = (int) strlen(table->commands[i].name) > width ? (int) strlen(table->commands[i].name) : width;
    fprintf(out, "%s COMMAND [options]\n\n%s\n\nCommands:\n", table->name, table->summary);
    for (size_t i = 0; i < table->n; i++)
        fprintf(out, "  %-*s %s\n", width, table->commands[i].name, table->commands[i].help);
    fprintf(out, "\n%s COMMAND --help tells more. Exit codes: 0 done, 1 failed, 2 wrong usage.\n",
            table->name);
}

int
command_run(const struct command_table *table, int argc, char **argv)
{
    const char *name = argc > 1 ? argv[1] : NULL;

    if (!name) {
        print_table(table, stderr);
        return 2;
    }
    if (strcmp(name, "--help") == 0 || strcmp(name, "-h") == 0 || strcmp(name, "help") == 0) {
        print_table(table, stdout);
        return 0;
    }
    for (size_t i = 0; i < table->n; i++)
        if (strcmp(table->commands[i].name, name) == 0)
            return table->commands[i].run(argc - 1, argv + 1);
    fprintf(stderr, "%s: unknown command %s\ntry: %s --help\n", table->name, name, table->name);
    return 2;
}

int
command_exit(const char *command, anx_status st, const anx_error *err)
{
    if (st == ANX_OK)
        return 0;
    fprintf(stderr, "%s: %s\n", command, err->message);
    if (err->detail[0])
        fprintf(stderr, "  detail: %s\n", err->detail);
    if (err->hint[0])
        fprintf(stderr, "  hint: %s\n", err->hint);
    return 1;
}
