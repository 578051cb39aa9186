/* See options.h. */
#include "cli/options.h"

#include <errno.h>
#include <inttypes.h>
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include "base/error.h"

#define HELP_COLUMN 34 /* fits the longest `--name VALUE` of today's tables */

static const char *const type_words[] = {
    [OPTION_FLAG] = "",   [OPTION_UINT] = "N",         [OPTION_REAL] = "X",          [OPTION_TEXT] = "TEXT",
    [OPTION_CHOICE] = "", [OPTION_UINT_LIST] = "N,N,..", [OPTION_REAL_LIST] = "X,X,..",
};

static int
usage_error(const struct option_command *command, const char *what, const char *name)
{
    fprintf(stderr, "%s: %s%s\ntry: %s --help\n", command->name, what, name, command->name);
    return -1;
}

/* One number between min and max. The text ends at a comma or at its end; *end says where. */
static bool
parse_uint(const char *text, const struct option_def *def, size_t *out, const char **end)
{
    char *stop;
    unsigned long long v;

    if (*text < '0' || *text > '9')
        return false; /* strtoull would take a sign and spaces */
    errno = 0;
    v = strtoull(text, &stop, 10);
    *end = stop;
    if (errno || v > SIZE_MAX || (double) v < def->min || (double) v > def->max)
        return false;
    *out = (size_t) v;
    return true;
}

static bool
parse_real(const char *text, const struct option_def *def, double *out, const char **end)
{
    char *stop;
    double v;

    if (*text == ' ')
        return false;
    v = strtod(text, &stop);
    *end = stop;
    if (stop == text || !isfinite(v) || v < def->min || v > def->max)
        return false;
    *out = v;
    return true;
}

static bool
parse_choice(const char *text, const char *choices, int *out)
{
    size_t size = strlen(text);
    int at = 0;

    for (const char *word = choices; word; at++) {
        const char *bar = strchr(word, '|');
        size_t word_size = bar ? (size_t) (bar - word) : strlen(word);

        if (word_size == size && memcmp(word, text, size) == 0) {
            *out = at;
            return true;
        }
        word = bar ? bar + 1 : NULL;
    }
    return false;
}

static bool
parse_list(const char *text, const struct option_def *def, void *field)
{
    struct option_uints *uints = field;
    struct option_reals *reals = field;
    bool is_uint = def->type == OPTION_UINT_LIST;
    size_t n = 0;

    for (;;) {
        const char *end = text;
        bool ok = n < OPTION_LIST_MAX && (is_uint ? parse_uint(text, def, &uints->value[n], &end)
                                                  : parse_real(text, def, &reals->value[n], &end));

        n++;
        if (!ok || (*end && *end != ','))
            return false;
        if (!*end)
            break;
        text = end + 1;
    }
    if (is_uint)
        uints->n = n;
    else
        reals->n = n;
    return true;
}

static bool
parse_value(const struct option_def *def, const char *text, void *field)
{
    const char *end = "";

    switch (def->type) {
    case OPTION_FLAG:
        *(bool *) field = true;
        return true;
    case OPTION_UINT:
        return parse_uint(text, def, field, &end) && !*end;
    case OPTION_REAL:
        return parse_real(text, def, field, &end) && !*end;
    case OPTION_TEXT:
        *(const char **) field = text;
        return true;
    case OPTION_CHOICE:
        return parse_choice(text, def->choices, field);
    case OPTION_UINT_LIST:
    case OPTION_REAL_LIST:
        return parse_list(text, def, field);
    }
    return false;
}

static void
clear_field(const struct option_def *def, void *field)
{
    static const size_t sizes[] = {
        [OPTION_FLAG] = sizeof(bool),
        [OPTION_UINT] = sizeof(size_t),
        [OPTION_REAL] = sizeof(double),
        [OPTION_TEXT] = sizeof(const char *),
        [OPTION_CHOICE] = sizeof(int),
        [OPTION_UINT_LIST] = sizeof(struct option_uints),
        [OPTION_REAL_LIST] = sizeof(struct option_reals),
    };

    memset(field, 0, sizes[def->type]);
}

static void *
field_of(const struct option_group *group, const struct option_def *def, void *config)
{
    return (char *) config + group->offset + def->offset;
}

/* The row of a name of `size` bytes, its group in *group and its place among all rows in *number; NULL:
 * none. */
static const struct option_def *
find_option(const struct option_command *command, const char *name, size_t size,
            const struct option_group **group, size_t *number)
{
    *number = 0;
    for (size_t g = 0; g < command->n_group; g++) {
        *group = &command->groups[g];
        for (size_t i = 0; i < (*group)->n; i++, (*number)++)
            if (strlen((*group)->options[i].name) == size &&
                memcmp((*group)->options[i].name, name, size) == 0)
                return &(*group)->options[i];
    }
    return NULL;
}

static void
value_error(const struct option_command *command, const struct option_def *def, const char *text)
{
    fprintf(stderr, "%s: --%s is \"%s\", must be ", command->name, def->name, text);
    if (def->type == OPTION_CHOICE)
        fprintf(stderr, "one of %s\n", def->choices);
    else
        fprintf(stderr, "%s from %.15g to %.15g\n",
                def->type == OPTION_UINT        ? "a whole number"
                : def->type == OPTION_REAL      ? "a number"
                : def->type == OPTION_UINT_LIST ? "a list of whole numbers, each"
                                                : "a list of numbers, each",
                def->min, def->max);
    fprintf(stderr, "try: %s --help\n", command->name);
}

static const struct option_def *
find_letter(const struct option_command *command, char letter, const struct option_group **group,
            size_t *number)
{
    *number = 0;
    for (size_t g = 0; g < command->n_group; g++) {
        *group = &command->groups[g];
        for (size_t i = 0; i < (*group)->n; i++, (*number)++)
            if (letter && (*group)->options[i].letter == letter)
                return &(*group)->options[i];
    }
    return NULL;
}

/* Takes argv[at] (an option): "--name", "--name=value", "-l", "-lVALUE". Returns how many arguments it used,
 * -1 after a message. */
static int
take_option(const struct option_command *command, int argc, char **argv, int at, void *config, bool *seen)
{
    bool is_letter = argv[at][1] != '-';
    const char *name = argv[at] + 2;
    const char *equals = is_letter ? NULL : strchr(name, '=');
    const struct option_group *group;
    size_t number;
    const struct option_def *def =
        is_letter
            ? find_letter(command, argv[at][1], &group, &number)
            : find_option(command, name, equals ? (size_t) (equals - name) : strlen(name), &group, &number);
    const char *text = equals ? equals + 1 : is_letter && *name ? name : NULL;
    int used = 1;

    if (!def)
        return usage_error(command, "unknown option ", argv[at]);
    if (def->type == OPTION_FLAG && text)
        return usage_error(command, "no value is taken by ", argv[at]);
    if (def->type != OPTION_FLAG && !text) {
        if (at + 1 >= argc)
            return usage_error(command, "a value is missing after ", argv[at]);
        text = argv[at + 1];
        used = 2;
    }
    if (!parse_value(def, text, field_of(group, def, config))) {
        value_error(command, def, text);
        return -1;
    }
    seen[number] = true;
    return used;
}

static void
set_defaults(const struct option_command *command, void *config)
{
    for (size_t g = 0; g < command->n_group; g++) {
        const struct option_group *group = &command->groups[g];

        for (size_t i = 0; i < group->n; i++) {
            void *field = field_of(group, &group->options[i], config);

            clear_field(&group->options[i], field);
            if (group->options[i].def)
                parse_value(&group->options[i], group->options[i].def, field);
        }
    }
}

static int
check_complete(const struct option_command *command, const struct option_positional *positional,
               const bool *seen)
{
    size_t number = 0;

    for (size_t g = 0; g < command->n_group; g++)
        for (size_t i = 0; i < command->groups[g].n; i++, number++)
            if (command->groups[g].options[i].is_required && !seen[number])
                return usage_error(command, "required: --", command->groups[g].options[i].name);
    if (positional && positional->n < command->min_positional)
        return usage_error(command, "missing: ", command->positional);
    return 0;
}

static int
take_positional(const struct option_command *command, const char *text, struct option_positional *positional)
{
    if (!positional || positional->n >= command->max_positional || positional->n >= OPTION_POSITIONAL_MAX)
        return usage_error(command, "unexpected argument ", text);
    positional->value[positional->n++] = text;
    return 0;
}

static enum options_result
parse_arguments(const struct option_command *command, int argc, char **argv, void *config,
                struct option_positional *positional, bool *seen)
{
    bool names_over = false;

    if (positional)
        positional->n = 0;
    for (int at = 1; at < argc;) {
        int used = 1;

        if (!names_over && strcmp(argv[at], "--") == 0) {
            names_over = true;
        } else if (!names_over && (strcmp(argv[at], "--help") == 0 || strcmp(argv[at], "-h") == 0)) {
            options_print_help(command, stdout);
            return OPTIONS_HELP;
        } else if (!names_over && argv[at][0] == '-' && argv[at][1] != '\0') {
            used = take_option(command, argc, argv, at, config, seen);
        } else if (take_positional(command, argv[at], positional) != 0) {
            used = -1;
        }
        if (used < 0)
            return OPTIONS_USAGE;
        at += used;
    }
    return OPTIONS_RUN;
}

enum options_result
options_parse(const struct option_command *command, int argc, char **argv, void *config,
              struct option_positional *positional)
{
    bool seen[256] = { false }; /* by row number; no command comes near 256 options */
    enum options_result result;

    set_defaults(command, config);
    result = parse_arguments(command, argc, argv, config, positional, seen);
    if (result != OPTIONS_RUN)
        return result;
    return check_complete(command, positional, seen) == 0 ? OPTIONS_RUN : OPTIONS_USAGE;
}

enum options_result
options_parse_over(const struct option_command *command, int argc, char **argv, void *config,
                   struct option_positional *positional)
{
    bool seen[256] = { false };

    return parse_arguments(command, argc, argv, config, positional, seen);
}

static bool
parse_flag(const char *text, bool *out)
{
    static const char *const words[] = { "false", "true", "off", "on", "no", "yes", "0", "1" };

    for (size_t i = 0; i < ANX_COUNT_OF(words); i++)
        if (strcasecmp(text, words[i]) == 0) {
            *out = i % 2 == 1;
            return true;
        }
    return false;
}

enum options_result
options_set(const struct option_command *command, const char *name, const char *text, const char *origin,
            void *config)
{
    const struct option_group *group;
    size_t number;
    const struct option_def *def = find_option(command, name, strlen(name), &group, &number);
    bool *flag;

    if (!def) {
        fprintf(stderr, "%s: %s: unknown setting %s\n", command->name, origin, name);
        return OPTIONS_USAGE;
    }
    flag = field_of(group, def, config);
    if (def->type == OPTION_FLAG) {
        if (parse_flag(text, flag))
            return OPTIONS_RUN;
        fprintf(stderr, "%s: %s: %s is \"%s\", must be true or false\n", command->name, origin, name, text);
        return OPTIONS_USAGE;
    }
    if (parse_value(def, text, field_of(group, def, config)))
        return OPTIONS_RUN;
    fprintf(stderr, "%s: in %s:\n", command->name, origin);
    value_error(command, def, text);
    return OPTIONS_USAGE;
}

int
options_exit_code(enum options_result result)
{
    return result == OPTIONS_USAGE ? 2 : 0;
}

const char *
option_value_name(const struct option_def *def)
{
    return def->value ? def->value : def->type == OPTION_CHOICE ? def->choices : type_words[def->type];
}

static void
print_option(const struct option_def *def, FILE *out)
{
    char head[128];
    const char *value = option_value_name(def);

    if (def->letter)
        snprintf(head, sizeof(head), "-%c, --%s%s%s", def->letter, def->name, *value ? " " : "", value);
    else
        snprintf(head, sizeof(head), "--%s%s%s", def->name, *value ? " " : "", value);
    fprintf(out, "  %-*s ", HELP_COLUMN, head);
    if (strlen(head) > HELP_COLUMN)
        fprintf(out, "\n  %-*s ", HELP_COLUMN, "");
    fputs(def->help, out);
    if (def->def)
        fprintf(out, " [%s]", def->def);
    else if (def->is_required)
        fputs(" (required)", out);
    fputc('\n', out);
}

void
options_print_help(const struct option_command *command, FILE *out)
{
    fprintf(out, "%s%s%s%s\n\n%s\n", command->name, command->n_group ? " [options]" : "",
            command->positional ? " " : "", command->positional ? command->positional : "", command->summary);
    for (size_t g = 0; g < command->n_group; g++) {
        if (!command->groups[g].title) /* read, but nothing that anyone should start to use */
            continue;
        fprintf(out, "\n%s:\n", command->groups[g].title);
        for (size_t i = 0; i < command->groups[g].n; i++)
            print_option(&command->groups[g].options[i], out);
    }
    options_print_examples(command, out);
}

void
options_print_examples(const struct option_command *command, FILE *out)
{
    if (command->n_example > 0)
        fputs("\nExamples:\n", out);
    for (size_t i = 0; i < command->n_example; i++)
        fprintf(out, "  # %s\n  %s\n", command->examples[i].title, command->examples[i].text);
}
