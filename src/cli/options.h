/* Command line options from tables: the parser, the messages and --help all read the same rows.
 *
 *     static const struct option_def rows[] = {
 *         { .name = "k", .type = OPTION_UINT, .min = 1, .max = 1e6, .def = "10",
 *           .offset = offsetof(struct config, k), .help = "Rows per answer" },
 *     };
 *     static const struct option_group groups[] = { { "Options", rows, ANX_COUNT_OF(rows), 0 } };
 *     static const struct option_command command = { "annex thing", "Does a thing.", NULL, 0, 0, groups, 1 };
 *     int rc = options_parse(&command, argc, argv, &config, NULL);
 *     if (rc != OPTIONS_RUN)
 *         return options_exit_code(rc);
 *
 * Both `--name value` and `--name=value` are read; `--` ends the options. A group may be shared by several
 * commands: its rows address a part of the config, and `offset` of the group says where in the config that
 * part begins. The config owns nothing: texts point into argv. */
#ifndef ANX_CLI_OPTIONS_H
#define ANX_CLI_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdio.h>

#define OPTION_LIST_MAX 64

enum option_type {
    OPTION_FLAG,      /* bool; takes no value */
    OPTION_UINT,      /* size_t */
    OPTION_REAL,      /* double */
    OPTION_TEXT,      /* const char * */
    OPTION_CHOICE,    /* int: position of the word in `choices` */
    OPTION_UINT_LIST, /* struct option_uints: 1,2,3 */
    OPTION_REAL_LIST  /* struct option_reals: 0.5,0.1 */
};
struct option_uints {
    size_t n;
    size_t value[OPTION_LIST_MAX];
};
struct option_reals {
    size_t n;
    double value[OPTION_LIST_MAX];
};

struct option_def {
    const char *name; /* without the dashes */
    char letter;      /* "-l VALUE" is read too; 0: none */
    enum option_type type;
    bool is_required;
    size_t offset;       /* of the field, in the part of the config that the group is for */
    double min, max;     /* numbers, both inclusive */
    const char *choices; /* OPTION_CHOICE: "l2|ip|cosine" */
    const char *def;     /* parsed like a value given by the user; NULL: zero */
    const char *value;   /* what --help calls the value; NULL: a word by type */
    const char *help;    /* one line; the default is added to it */
    const char *more;    /* further sentences for the manual page, or NULL */
};
struct option_group {
    const char *title; /* NULL: options that --help does not show */
    const struct option_def *options;
    size_t n;
    size_t offset;
};
struct option_text {
    const char *title, *text;
};
struct option_command {
    const char *name;       /* "annex build" */
    const char *summary;    /* a sentence or more */
    const char *positional; /* what --help calls arguments without a name, e.g. "FILE"; NULL: none allowed */
    size_t min_positional, max_positional;
    const struct option_group *groups;
    size_t n_group;
    const struct option_text *examples; /* title: what it is for, text: what to type */
    size_t n_example;
    const struct option_text
        *sections; /* of the manual page, behind its options; text is printed as it is filled */
    size_t n_section;
};

#define OPTION_POSITIONAL_MAX 16
struct option_positional {
    size_t n;
    const char *value[OPTION_POSITIONAL_MAX];
};

enum options_result {
    OPTIONS_RUN,  /* config is complete */
    OPTIONS_HELP, /* help was asked for and printed to standard output */
    OPTIONS_USAGE /* the message is on standard error */
};
/* argv[0] is skipped. The config is set to the defaults first (fields named by the table; others stay).
 * positional may be NULL when the command takes none. */
enum options_result options_parse(const struct option_command *command, int argc, char **argv, void *config,
                                  struct option_positional *positional);
/* The same over a config that has its values already: nothing is reset, nothing is required. */
enum options_result options_parse_over(const struct option_command *command, int argc, char **argv,
                                       void *config, struct option_positional *positional);
/* Sets one option from text that came from elsewhere (a file, the environment), which `origin` names in
 * messages. A flag takes true, on, yes, 1 and false, off, no, 0. */
enum options_result options_set(const struct option_command *command, const char *name, const char *text,
                                const char *origin, void *config);
/* 0 for OPTIONS_HELP, 2 for OPTIONS_USAGE. */
int options_exit_code(enum options_result result);
void options_print_help(const struct option_command *command, FILE *out);
void options_print_examples(const struct option_command *command, FILE *out);
/* What follows an option's name: the words of a choice, "FILE", "N"; "" for a flag. */
const char *option_value_name(const struct option_def *def);

#endif
