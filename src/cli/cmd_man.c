/* `annex man`: a manual page from the tables that the parser and --help read. The build makes and installs
 * one for each command (docs/man, meson.build), so that a page cannot name an option that is not there.
 *
 * The macros are those of man(7), which every troff and mandoc has. */
#include <ctype.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"

static const struct option_text examples[] = {
    { "read a page that is not installed", "annex man build | man -l -" },
    { "of a command that has commands", "annex man index search" },
};
const struct option_command man_command = {
    .name = "annex man",
    .summary = "Prints the manual page of a command, or of annex, for man(1).",
    .positional = "[COMMAND]...",
    .max_positional = 2,
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

/* Text as text: no backslash, hyphen or first character means anything to troff. An empty line is a new
 * paragraph. */
static void
put(const char *text)
{
    bool is_start = true;

    for (const char *c = text; *c; c++) {
        if (is_start && *c == '\n') {
            fputs(".PP\n", stdout);
            continue;
        }
        if (is_start && (*c == '.' || *c == '\''))
            fputs("\\&", stdout);
        if (*c == '\\')
            fputs("\\e", stdout);
        else if (*c == '-')
            fputs("\\-", stdout);
        else
            putchar(*c);
        is_start = *c == '\n';
    }
}

/* The same in capitals, for titles. */
static void
put_title(const char *text)
{
    for (; *text; text++) {
        if (*text == '-' || *text == ' ')
            fputs("\\-", stdout);
        else
            putchar(toupper((unsigned char) *text));
    }
}

static void
put_page_name(const char *name) /* "annex index search" is annex-index-search(1) */
{
    for (; *name; name++) {
        if (*name == '-' || *name == ' ')
            fputs("\\-", stdout);
        else
            putchar(*name);
    }
}

static void
head(const char *name, const char *what)
{
    fputs(".\\\" Made by `annex man`; do not edit.\n.TH ", stdout);
    put_title(name);
    printf(" 1 \"%s\" \"Annex %s\" \"Annex manual\"\n.SH NAME\n", ANX_VERSION_DATE, ANX_VERSION);
    put_page_name(name);
    fputs(" \\- ", stdout);
    put(what);
    fputs("\n.SH SYNOPSIS\n.B ", stdout);
    put(name);
    putchar('\n');
}

static void
put_option(const struct option_def *def)
{
    const char *value = option_value_name(def);

    fputs(".TP\n.B ", stdout);
    if (def->letter)
        printf("\\-%c\\fR, \\fB", def->letter);
    fputs("\\-\\-", stdout);
    put(def->name);
    if (*value) {
        fputs(" \\fI", stdout);
        put(value);
        fputs("\\fR", stdout);
    }
    putchar('\n');
    put(def->help);
    fputs(".\n", stdout);
    if (def->type == OPTION_CHOICE && def->value) {
        fputs("One of ", stdout);
        put(def->choices);
        fputs(".\n", stdout);
    }
    if (def->more) {
        put(def->more);
        putchar('\n');
    }
    if (def->def) {
        fputs("Default: ", stdout);
        put(def->def);
        fputs(".\n", stdout);
    } else if (def->is_required) {
        fputs("Required.\n", stdout);
    }
}

static void
put_options(const struct option_command *command)
{
    bool is_first = true;

    for (size_t g = 0; g < command->n_group; g++) {
        if (!command->groups[g].title)
            continue;
        if (is_first)
            fputs(
                ".SH OPTIONS\nBoth \\fB\\-\\-name\\fR \\fIvalue\\fR and \\fB\\-\\-name=\\fR\\fIvalue\\fR are "
                "read.\n",
                stdout);
        if (strcmp(command->groups[g].title, "Options") != 0) {
            fputs(".SS ", stdout);
            put(command->groups[g].title);
            putchar('\n');
        }
        is_first = false;
        for (size_t i = 0; i < command->groups[g].n; i++)
            put_option(&command->groups[g].options[i]);
    }
    fputs(is_first ? ".SH OPTIONS\n" : "", stdout);
    fputs(".TP\n.B \\-h\\fR, \\fB\\-\\-help\nPrints help and ends.\n", stdout);
}

static void
put_tail(const struct option_command *command)
{
    for (size_t i = 0; command && i < command->n_section; i++) {
        printf(".SH %s\n", command->sections[i].title);
        put(command->sections[i].text);
        putchar('\n');
    }
    fputs(".SH EXIT STATUS\n0 done, 1 failed (a line on standard error says why), 2 wrong usage.\n", stdout);
    if (command && command->n_example > 0)
        fputs(".SH EXAMPLES\n", stdout);
    for (size_t i = 0; command && i < command->n_example; i++) {
        fputs(".TP\n", stdout);
        put(command->examples[i].title);
        fputs(":\n", stdout);
        put(command->examples[i].text);
        putchar('\n');
    }
}

static void
page_of_command(const struct command *command)
{
    const struct option_command *options = command->options;

    head(options->name, command->help);
    if (options->n_group > 0)
        fputs("[options]\n", stdout);
    if (options->positional) {
        fputs(".I ", stdout);
        put(options->positional);
        putchar('\n');
    }
    fputs(".SH DESCRIPTION\n", stdout);
    put(options->summary);
    putchar('\n');
    put_options(options);
    put_tail(options);
    fputs(".SH SEE ALSO\n.BR annex (1)\n", stdout);
}

static void
page_of_table(const struct command_table *table, const char *what)
{
    head(table->name, what);
    fputs(".I command\n[options]\n.SH DESCRIPTION\n", stdout);
    put(table->summary);
    fputs("\n.SH COMMANDS\n", stdout);
    for (size_t i = 0; i < table->n; i++) {
        fputs(".TP\n.BR ", stdout);
        put_page_name(table->name);
        fputs("\\-", stdout);
        put_page_name(table->commands[i].name);
        fputs(" (1)\n", stdout);
        put(table->commands[i].help);
        fputs(".\n", stdout);
    }
    put_tail(NULL);
}

int
cmd_man(int argc, char **argv)
{
    const struct command_table *table = &program_commands;
    const char *what = "a vector search system";
    struct option_positional words;
    char unused = 0;
    enum options_result parsed = options_parse(&man_command, argc, argv, &unused, &words);

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    for (size_t w = 0; w < words.n; w++) {
        const struct command *command = NULL;

        for (size_t i = 0; table && i < table->n; i++)
            if (strcmp(table->commands[i].name, words.value[w]) == 0)
                command = &table->commands[i];
        if (!command || (command->options && w + 1 < words.n)) {
            fprintf(stderr, "annex man: unknown command %s\ntry: annex --help\n", words.value[w]);
            return 2;
        }
        if (command->options) {
            page_of_command(command);
            return 0;
        }
        table = command->table;
        what = command->help;
    }
    page_of_table(table, what);
    return 0;
}
