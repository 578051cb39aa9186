/* `annex version`: the version, and what this CPU can run. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "kernel/kernel.h"

#ifndef ANX_VERSION
#define ANX_VERSION "unknown"
#endif

static const struct option_text examples[] = {
    { "what this machine runs", "annex version" },
    { "with another instruction set", "RX_TARGET_INSTRUCTIONS=avx2 annex version" },
};
const struct option_command version_command = {
    .name = "annex version",
    .summary = "Prints the version, and the distance kernels that this CPU can run, best first.",
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

int
cmd_version(int argc, char **argv)
{
    enum options_result parsed = options_parse(&version_command, argc, argv, NULL, NULL);
    const anx_kernels *const *sets;
    size_t n;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    n = anx_kernels_available(&sets);
    printf("annex %s\nkernels:", ANX_VERSION);
    for (size_t i = 0; i < n; i++) /* sets of one name follow each other: kernel/dispatch.c */
        if (i == 0 || strcmp(sets[i]->name, sets[i - 1]->name) != 0)
            printf(" %s", sets[i]->name);
    printf("\nin use: %s\n", anx_kernels_best()->name);
    return 0;
}
