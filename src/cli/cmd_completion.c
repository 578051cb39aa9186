/* `annex completion`: a completion script for bash, zsh or fish, from the tables that the parser and --help
 * read. `make install` puts all three where the shells look.
 *
 * The scripts hold the words themselves, so that a completion costs no start of the program. All three find
 * the command first (the words that are names of commands, down to one that takes options) and then offer
 * what that one takes; what is a value is told by the row of the option: words of a choice, files, folders.
 */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"

static const struct option_text examples[] = {
    { "in this session", "source <(annex completion bash)" },
    { "for good, where make install did not do it",
      "annex completion bash >~/.local/share/bash-completion/completions/annex" },
};
const struct option_command completion_command = {
    .name = "annex completion",
    .summary = "Prints a script with which a shell completes commands, options and their values.",
    .positional = "bash|zsh|fish",
    .min_positional = 1,
    .max_positional = 1,
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

enum value_kind { VALUE_NONE, VALUE_OTHER, VALUE_WORDS, VALUE_FILE, VALUE_FOLDER };

static enum value_kind
value_kind(const struct option_def *def)
{
    const char *name = option_value_name(def);

    if (def->type == OPTION_FLAG)
        return VALUE_NONE;
    if (def->type == OPTION_CHOICE)
        return VALUE_WORDS;
    if (strstr(name, "DIR"))
        return VALUE_FOLDER;
    if (strstr(name, "FILE") || strstr(name, "CERT") || strstr(name, "KEY"))
        return VALUE_FILE;
    return VALUE_OTHER;
}

static enum value_kind
positional_kind(const struct option_command *options)
{
    if (!options->positional)
        return VALUE_NONE;
    return strchr(options->positional, '|')      ? VALUE_WORDS
           : strstr(options->positional, "FILE") ? VALUE_FILE
                                                 : VALUE_OTHER;
}

/* "a|b" as "a b". */
static void
put_words(const char *choices)
{
    for (; *choices; choices++)
        putchar(*choices == '|' ? ' ' : *choices);
}

/* Text between single quotes; `also` is escaped with a backslash, for zsh. */
static void
put_quoted(const char *text, const char *also)
{
    for (; *text; text++) {
        if (*text == '\'')
            fputs("'\\''", stdout);
        else if (strchr(also, *text))
            printf("\\%c", *text);
        else
            putchar(*text == '\n' ? ' ' : *text);
    }
}

typedef void (*command_visitor)(const char *path, const struct command *command);

/* All commands, those that have commands too, with what one types for them: "annex index search". */
static void
visit(const struct command_table *table, command_visitor visitor)
{
    for (size_t i = 0; i < table->n; i++) {
        char path[96];

        snprintf(path, sizeof(path), "%s %s", table->name, table->commands[i].name);
        visitor(path, &table->commands[i]);
        if (table->commands[i].table)
            visit(table->commands[i].table, visitor);
    }
}

typedef void (*option_visitor)(const char *path, const struct option_def *def);

static void
visit_options(const char *path, const struct command *command, option_visitor visitor)
{
    const struct option_command *options = command->options;

    for (size_t g = 0; options && g < options->n_group; g++)
        for (size_t i = 0; options->groups[g].title && i < options->groups[g].n; i++)
            visitor(path, &options->groups[g].options[i]);
}

static void
put_names(const struct command_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        printf("%s%s", i ? " " : "", table->commands[i].name);
}

static void
put_path(const char *path, const struct command *command)
{
    (void) command;
    printf("|'%s'", path);
}

/* ---- bash ---- */

static void
bash_value(const char *path, const struct option_def *def)
{
    enum value_kind kind = value_kind(def);

    if (kind == VALUE_NONE)
        return;
    printf("    '%s --%s'", path, def->name);
    if (def->letter)
        printf("|'%s -%c'", path, def->letter);
    fputs(") ", stdout);
    if (kind == VALUE_WORDS) {
        fputs("words='", stdout);
        put_words(def->choices);
        fputs("'", stdout);
    } else {
        fputs(kind == VALUE_FILE     ? "files=-f"
              : kind == VALUE_FOLDER ? "files=-d"
                                     : "return",
              stdout);
    }
    fputs(" ;;\n", stdout);
}

static void
bash_values(const char *path, const struct command *command)
{
    visit_options(path, command, bash_value);
}

static void
bash_name(const char *path, const struct option_def *def)
{
    (void) path;
    printf("--%s ", def->name);
}

static void
bash_names(const char *path, const struct command *command)
{
    printf("        '%s') words='", path);
    if (command->table) {
        put_names(command->table);
        fputs(" --help' ;;\n", stdout);
        return;
    }
    visit_options(path, command, bash_name);
    fputs("--help'", stdout);
    if (positional_kind(command->options) == VALUE_FILE)
        fputs("; [[ $cur == -* ]] || files=-f", stdout);
    if (positional_kind(command->options) == VALUE_WORDS) {
        fputs("; [[ $cur == -* ]] || words='", stdout);
        put_words(command->options->positional);
        fputs("'", stdout);
    }
    fputs(" ;;\n", stdout);
}

static void
bash(void)
{
    fputs("# bash completion for annex, made by `annex completion bash`.\n"
          "_annex()\n{\n"
          "    local cur=${COMP_WORDS[COMP_CWORD]} prev=${COMP_WORDS[COMP_CWORD - 1]} path=annex words= "
          "files= i\n"
          "    # --name=value is three words for bash\n"
          "    if [[ $cur == = ]]; then cur=\n"
          "    elif [[ $prev == = ]]; then prev=${COMP_WORDS[COMP_CWORD - 2]}; fi\n"
          "    for ((i = 1; i < COMP_CWORD; i++)); do\n"
          "        case \"$path ${COMP_WORDS[i]}\" in\n"
          "        ''",
          stdout);
    visit(&program_commands, put_path);
    fputs(") path+=\" ${COMP_WORDS[i]}\" ;;\n        *) break ;;\n        esac\n    done\n"
          "    COMPREPLY=()\n"
          "    case \"$path $prev\" in\n",
          stdout);
    visit(&program_commands, bash_values);
    fputs("    *)\n        case \"$path\" in\n        annex) words='", stdout);
    put_names(&program_commands);
    fputs(" --help --version' ;;\n", stdout);
    visit(&program_commands, bash_names);
    fputs("        esac ;;\n    esac\n"
          "    if [[ $files ]]; then\n"
          "        compopt -o filenames 2>/dev/null\n"
          "        mapfile -t COMPREPLY < <(compgen \"$files\" -- \"$cur\")\n"
          "    else\n"
          "        mapfile -t COMPREPLY < <(compgen -W \"$words\" -- \"$cur\")\n"
          "    fi\n"
          "}\n"
          "complete -F _annex annex lantern-cli\n",
          stdout);
}

/* ---- zsh ---- */

static void
zsh_option(const char *path, const struct option_def *def)
{
    enum value_kind kind = value_kind(def);

    (void) path;
    if (def->letter)
        printf(" \\\n            '(-%c --%s)'{-%c%s,--%s%s}'[", def->letter, def->name, def->letter,
               kind == VALUE_NONE ? "" : "+", def->name, kind == VALUE_NONE ? "" : "=");
    else
        printf(" \\\n            '--%s%s[", def->name, kind == VALUE_NONE ? "" : "=");
    put_quoted(def->help, "[]:\\");
    fputs("]", stdout);
    if (kind != VALUE_NONE) {
        fputs(":", stdout);
        put_quoted(kind == VALUE_WORDS ? "value" : option_value_name(def), "[]:\\");
        fputs(":", stdout);
    }
    if (kind == VALUE_WORDS) {
        fputs("(", stdout);
        put_words(def->choices);
        fputs(")", stdout);
    } else if (kind == VALUE_FILE || kind == VALUE_FOLDER) {
        fputs(kind == VALUE_FILE ? "_files" : "_files -/", stdout);
    }
    fputs("'", stdout);
}

static void
zsh_table(const char *path, const struct command_table *table)
{
    printf("    '%s')\n        local -a names=(", path);
    for (size_t i = 0; i < table->n; i++) {
        printf(" \\\n            '%s:", table->commands[i].name);
        put_quoted(table->commands[i].help, "");
        fputs("'", stdout);
    }
    fputs(")\n        if [[ $words[CURRENT] == -* ]]; then compadd -- --help", stdout);
    fputs(table == &program_commands ? " --version" : "", stdout);
    fputs("\n        else _describe command names; fi ;;\n", stdout);
}

static void
zsh_command(const char *path, const struct command *command)
{
    if (command->table) {
        zsh_table(path, command->table);
        return;
    }
    printf("    '%s')\n        _arguments '(-h --help)'{-h,--help}'[Print help]'", path);
    visit_options(path, command, zsh_option);
    if (positional_kind(command->options) == VALUE_FILE)
        fputs(" \\\n            '*:file:_files'", stdout);
    if (positional_kind(command->options) == VALUE_WORDS) {
        fputs(" \\\n            ':word:(", stdout);
        put_words(command->options->positional);
        fputs(")'", stdout);
    }
    fputs(" ;;\n", stdout);
}

static void
zsh(void)
{
    fputs("#compdef annex lantern-cli\n# zsh completion for annex, made by `annex completion zsh`.\n"
          "_annex()\n{\n"
          "    local at=annex\n"
          "    while (( CURRENT > 2 )); do\n"
          "        case \"$at $words[2]\" in\n"
          "        ''",
          stdout);
    visit(&program_commands, put_path);
    fputs(
        ") at+=\" $words[2]\"; shift words; (( CURRENT-- )) ;;\n        *) break ;;\n        esac\n    done\n"
        "    case $at in\n",
        stdout);
    zsh_table(program_commands.name, &program_commands);
    visit(&program_commands, zsh_command);
    fputs("    esac\n}\n"
          "# Found by name on fpath it is run at once, read by hand it is registered.\n"
          "if [[ $funcstack[1] == _annex ]]; then _annex \"$@\"; else compdef _annex annex lantern-cli; fi\n",
          stdout);
}

/* ---- fish ---- */

static void
fish_option(const char *path, const struct option_def *def)
{
    enum value_kind kind = value_kind(def);

    printf("complete -c annex -n \"__annex_at '%s'\" -l %s", path, def->name);
    if (def->letter)
        printf(" -s %c", def->letter);
    fputs(kind == VALUE_NONE                              ? ""
          : kind == VALUE_FILE                            ? " -r -F"
          : kind == VALUE_FOLDER                          ? " -x -a '(__fish_complete_directories)'"
                                                          : " -x",
          stdout);
    if (kind == VALUE_WORDS) {
        fputs(" -a '", stdout);
        put_words(def->choices);
        fputs("'", stdout);
    }
    fputs(" -d '", stdout);
    for (const char *c = def->help; *c; c++)
        printf(*c == '\'' || *c == '\\' ? "\\%c" : "%c", *c);
    fputs("'\n", stdout);
}

static void
fish_names(const char *path, const struct command_table *table)
{
    for (size_t i = 0; i < table->n; i++)
        printf("complete -c annex -f -n \"__annex_at '%s'\" -a %s -d '%s'\n", path, table->commands[i].name,
               table->commands[i].help);
}

static void
fish_command(const char *path, const struct command *command)
{
    printf("complete -c annex -n \"__annex_at '%s'\" -s h -l help -d 'Print help'\n", path);
    if (command->table) {
        fish_names(path, command->table);
        return;
    }
    visit_options(path, command, fish_option);
    if (positional_kind(command->options) == VALUE_WORDS) {
        printf("complete -c annex -f -n \"__annex_at '%s'\" -a '", path);
        put_words(command->options->positional);
        fputs("'\n", stdout);
    } else if (positional_kind(command->options) != VALUE_FILE) {
        printf("complete -c annex -f -n \"__annex_at '%s'\"\n", path);
    }
}

static void
fish(void)
{
    fputs("# fish completion for annex, made by `annex completion fish`.\n"
          "function __annex_at\n"
          "    set -l at annex\n"
          "    for word in (commandline -opc)[2..]\n"
          "        switch \"$at $word\"\n"
          "            case ''",
          stdout);
    for (size_t i = 0; i < program_commands.n; i++) {
        const struct command *command = &program_commands.commands[i];

        printf(" '%s %s'", program_commands.name, command->name);
        for (size_t j = 0; command->table && j < command->table->n; j++)
            printf(" '%s %s'", command->table->name, command->table->commands[j].name);
    }
    fputs("\n                set at \"$at $word\"\n"
          "            case '*'\n                break\n        end\n    end\n"
          "    test \"$at\" = \"$argv[1]\"\n"
          "end\n"
          "complete -c annex -n '__annex_at annex' -s h -l help -d 'Print help'\n"
          "complete -c annex -n '__annex_at annex' -l version -d 'Print the version'\n",
          stdout);
    fish_names(program_commands.name, &program_commands);
    visit(&program_commands, fish_command);
    fputs("complete -c lantern-cli -w annex\n", stdout);
}

int
cmd_completion(int argc, char **argv)
{
    static const struct {
        const char *name;
        void (*print)(void);
    } shells[] = { { "bash", bash }, { "zsh", zsh }, { "fish", fish } };
    struct option_positional words;
    char unused = 0;
    enum options_result parsed = options_parse(&completion_command, argc, argv, &unused, &words);

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    for (size_t i = 0; i < ANX_COUNT_OF(shells); i++)
        if (strcmp(shells[i].name, words.value[0]) == 0) {
            shells[i].print();
            return 0;
        }
    fprintf(stderr, "annex completion: the shell is \"%s\", must be one of bash|zsh|fish\n", words.value[0]);
    return 2;
}
