/* `annex dump` and `annex restore`: databases as one file, and back. */
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "cli/progress.h"
#include "db/dump.h"

struct config {
    const char *root, *database, *as;
    bool is_resume, is_check, is_quiet;
};

#define FIELD(field) .offset = offsetof(struct config, field)
#define WHICH_ROWS(root_help)                                                                                \
    { .name = "db",                                                                                          \
      .letter = 's',                                                                                         \
      .type = OPTION_TEXT,                                                                                   \
      FIELD(root),                                                                                           \
      .def = "annex-data",                                                                                   \
      .value = "DIR",                                                                                        \
      .help = (root_help) },                                                                                 \
    { .name = "database",                                                                                    \
      .letter = 'd',                                                                                         \
      .type = OPTION_TEXT,                                                                                   \
      FIELD(database),                                                                                       \
      .value = "NAME",                                                                                       \
      .help = "Only this one; otherwise all" }
#define QUIET_ROW                                                                                            \
    { .name = "quiet", .type = OPTION_FLAG, FIELD(is_quiet), .help = "No progress on standard error" }

static const struct option_def dump_rows[] = {
    WHICH_ROWS("Folder of the databases, as given to annex serve; a server may be running on it"),
    { .name = "resume",
      .type = OPTION_FLAG,
      FIELD(is_resume),
      .help = "Go on with a FILE that was cut off; a database that changed since is written anew" },
    QUIET_ROW,
};
static const struct option_def restore_rows[] = {
    WHICH_ROWS("Folder to restore to; made when missing. A running server sees what came at its next start"),
    { .name = "as", .type = OPTION_TEXT, FIELD(as), .value = "NAME", .help = "Another name for it" },
    { .name = "check", .type = OPTION_FLAG, FIELD(is_check), .help = "Verify the whole file, write nothing" },
    QUIET_ROW,
};
static const struct option_group dump_groups[] = { { "Options", dump_rows, ANX_COUNT_OF(dump_rows), 0 } };
static const struct option_group restore_groups[] = { { "Options", restore_rows, ANX_COUNT_OF(restore_rows),
                                                        0 } };
static const struct option_text dump_examples[] = {
    { "all databases", "annex dump --db ./data backup.anxdump" },
    { "one, to another machine",
      "annex dump --db ./data --database shop - | ssh host annex restore --db ./data -" },
    { "go on after an interruption", "annex dump --db ./data --resume backup.anxdump" },
};
static const struct option_text restore_examples[] = {
    { "all databases of the file", "annex restore --db ./data backup.anxdump" },
    { "one, beside the one that is there",
      "annex restore --db ./data --database shop --as shop-yesterday backup.anxdump" },
    { "is the file whole?", "annex restore --check backup.anxdump" },
};
const struct option_command dump_command = {
    .name = "annex dump",
    .summary = "Writes databases to one file: documents, vectors, index definitions, metadata. Each is a "
               "consistent\n"
               "snapshot, also while a server goes on writing. FILE - is standard output.",
    .positional = "FILE",
    .min_positional = 1,
    .max_positional = 1,
    .groups = dump_groups,
    .n_group = ANX_COUNT_OF(dump_groups),
    .examples = dump_examples,
    .n_example = ANX_COUNT_OF(dump_examples),
};
const struct option_command restore_command = {
    .name = "annex restore",
    .summary = "Makes databases from a file that annex dump wrote. A database appears when it is complete; "
               "after an\n"
               "interruption the same command goes on where it was. FILE - is standard input.",
    .positional = "FILE",
    .min_positional = 1,
    .max_positional = 1,
    .groups = restore_groups,
    .n_group = ANX_COUNT_OF(restore_groups),
    .examples = restore_examples,
    .n_example = ANX_COUNT_OF(restore_examples),
};

static atomic_bool is_interrupted;

static void
on_signal(int number)
{
    (void) number;
    atomic_store(&is_interrupted, true);
}

static bool
report(void *context, const char *phase, size_t done, size_t total)
{
    return progress_report(context, phase, done, total) && !atomic_load(&is_interrupted);
}

/* Ctrl-C ends at the next frame, so that what was done is said and can be gone on with. */
static void
begin(struct progress *progress, const struct config *config)
{
    struct sigaction action = { .sa_handler = on_signal };

    sigemptyset(&action.sa_mask);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGTERM, &action, NULL);
    progress_init(progress, config->is_quiet);
}

static void
print_counts(const char *verb, const char *file, const struct dump_counts *counts)
{
    fprintf(strcmp(file, "-") == 0 ? stderr : stdout, "%s: %s %llu database%s, %llu entries, %.1f MiB%s%s\n",
            file, verb, (unsigned long long) counts->n_database, counts->n_database == 1 ? "" : "s",
            (unsigned long long) counts->n_entry, (double) counts->n_byte / 1048576.0,
            counts->is_resumed ? ", resumed" : "",
            counts->is_begun_anew ? "; one had changed since and was written anew" : "");
}

int
cmd_dump(int argc, char **argv)
{
    struct config config;
    struct option_positional files;
    struct dump_counts counts;
    struct progress progress;
    enum options_result parsed = options_parse(&dump_command, argc, argv, &config, &files);
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    begin(&progress, &config);
    st = db_dump(&(struct dump_params){ config.root, config.database, files.value[0], config.is_resume,
                                        report, &progress },
                 &counts, &err);
    progress_end(&progress);
    if (st == ANX_OK)
        print_counts("wrote", files.value[0], &counts);
    return command_exit(dump_command.name, st, &err);
}

int
cmd_restore(int argc, char **argv)
{
    struct config config;
    struct option_positional files;
    struct dump_counts counts;
    struct progress progress;
    enum options_result parsed = options_parse(&restore_command, argc, argv, &config, &files);
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    begin(&progress, &config);
    st = db_restore(&(struct restore_params){ config.root, files.value[0], config.database, config.as,
                                              config.is_check, report, &progress },
                    &counts, &err);
    progress_end(&progress);
    if (st == ANX_OK)
        print_counts(config.is_check ? "is sound:" : "restored", files.value[0], &counts);
    return command_exit(restore_command.name, st, &err);
}
