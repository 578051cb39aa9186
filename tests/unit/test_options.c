/* The option tables: parsing, defaults, messages' exit codes, shared groups, help. */
#include "test_util.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli/commands.h"
#include "cli/index_options.h"
#include "cli/options.h"

struct inner {
    size_t m;
};
struct config {
    bool is_loud;
    size_t k;
    double share;
    const char *path;
    int metric;
    struct option_uints ef;
    struct option_reals shares;
    struct inner inner;
};

static const struct option_def rows[] = {
    { .name = "loud", .type = OPTION_FLAG, .offset = offsetof(struct config, is_loud), .help = "Be loud" },
    { .name = "k",
      .type = OPTION_UINT,
      .min = 1,
      .max = 100,
      .def = "10",
      .offset = offsetof(struct config, k),
      .help = "Neighbors" },
    { .name = "share",
      .type = OPTION_REAL,
      .min = 0,
      .max = 1,
      .def = "0.5",
      .offset = offsetof(struct config, share),
      .help = "Share" },
    { .name = "path",
      .type = OPTION_TEXT,
      .is_required = true,
      .value = "FILE",
      .offset = offsetof(struct config, path),
      .help = "Where" },
    { .name = "metric",
      .type = OPTION_CHOICE,
      .choices = "l2|ip|cosine",
      .def = "ip",
      .offset = offsetof(struct config, metric),
      .help = "Metric" },
    { .name = "ef",
      .type = OPTION_UINT_LIST,
      .min = 1,
      .max = 1000,
      .offset = offsetof(struct config, ef),
      .help = "Lists" },
    { .name = "shares",
      .type = OPTION_REAL_LIST,
      .min = 0,
      .max = 1,
      .offset = offsetof(struct config, shares),
      .help = "Shares" },
};
static const struct option_def inner_rows[] = {
    { .name = "m",
      .type = OPTION_UINT,
      .min = 2,
      .max = 128,
      .def = "16",
      .offset = offsetof(struct inner, m),
      .help = "Neighbors per node" },
};
static const struct option_group groups[] = {
    { "Options", rows, ANX_COUNT_OF(rows), 0 },
    { "Inner", inner_rows, ANX_COUNT_OF(inner_rows), offsetof(struct config, inner) },
};
static const struct option_command command = {
    .name = "annex test",
    .summary = "Tests.",
    .positional = "FILE [FILE]",
    .max_positional = 2,
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
};

/* Messages of refused input would drown the test's output: standard error goes to a pipe of our own while
 * parsing. */
struct capture {
    int saved, from;
    char text[2048];
};

static void
capture_begin(struct capture *c, FILE *stream, int fd)
{
    int ends[2];

    fflush(stream);
    assert_int_equal(pipe(ends), 0);
    c->saved = dup(fd);
    assert_true(c->saved >= 0);
    assert_true(dup2(ends[1], fd) >= 0);
    close(ends[1]);
    c->from = ends[0];
}

static void
capture_end(struct capture *c, FILE *stream, int fd)
{
    size_t n = 0;
    ssize_t got;

    fflush(stream);
    assert_true(dup2(c->saved, fd) >= 0);
    close(c->saved);
    while (n < sizeof(c->text) - 1 && (got = read(c->from, c->text + n, sizeof(c->text) - 1 - n)) > 0)
        n += (size_t) got;
    c->text[n] = '\0';
    close(c->from);
}

#define ARGS_MAX 16
static enum options_result
parse(const char *line, struct config *config, struct option_positional *positional, struct capture *capture)
{
    static char words[512]; /* the config points into it */
    char *argv[ARGS_MAX] = { (char *) (uintptr_t) "test" };
    int argc = 1;
    enum options_result result;

    snprintf(words, sizeof(words), "%s", line);
    for (char *save = NULL, *word = strtok_r(words, " ", &save); word; word = strtok_r(NULL, " ", &save))
        argv[argc++] = word;
    capture_begin(capture, stderr, STDERR_FILENO);
    result = options_parse(&command, argc, argv, config, positional);
    capture_end(capture, stderr, STDERR_FILENO);
    return result;
}

static void
defaults_are_set(void **state)
{
    struct config c;
    struct option_positional p;
    struct capture capture;

    (void) state;
    memset(&c, 0xff, sizeof(c));
    assert_int_equal(parse("--path x", &c, &p, &capture), OPTIONS_RUN);
    assert_false(c.is_loud);
    assert_int_equal(c.k, 10);
    assert_true(c.share == 0.5);
    assert_string_equal(c.path, "x");
    assert_int_equal(c.metric, 1);
    assert_int_equal(c.ef.n, 0);
    assert_int_equal(c.shares.n, 0);
    assert_int_equal(c.inner.m, 16);
    assert_int_equal(p.n, 0);
    assert_string_equal(capture.text, "");
}

static void
both_spellings_are_read(void **state)
{
    struct config c;
    struct option_positional p;
    struct capture capture;

    (void) state;
    assert_int_equal(
        parse("--path=a=b --k 7 --loud one --share=0.25 --metric cosine --m=128 --ef 16,32,64 --shares=.5,1 "
              "-- --two",
              &c, &p, &capture),
        OPTIONS_RUN);
    assert_string_equal(c.path, "a=b");
    assert_int_equal(c.k, 7);
    assert_true(c.is_loud);
    assert_true(c.share == 0.25);
    assert_int_equal(c.metric, 2);
    assert_int_equal(c.inner.m, 128);
    assert_int_equal(c.ef.n, 3);
    assert_int_equal(c.ef.value[2], 64);
    assert_int_equal(c.shares.n, 2);
    assert_true(c.shares.value[0] == 0.5 && c.shares.value[1] == 1.0);
    assert_int_equal(p.n, 2);
    assert_string_equal(p.value[0], "one");
    assert_string_equal(p.value[1], "--two");
}

static void
wrong_usage_is_named_and_exits_2(void **state)
{
    static const struct {
        const char *line, *said;
    } wrong[] = {
        { "--path x --nope 1", "unknown option --nope" },
        { "--path x --kk 1", "unknown option --kk" },
        { "--path x -k 1", "unknown option -k" },
        { "--path x --k 0", "from 1 to 100" },
        { "--path x --k 101", "from 1 to 100" },
        { "--path x --k -1", "--k is \"-1\"" },
        { "--path x --k 1x", "--k is \"1x\"" },
        { "--path x --k=", "--k is \"\"" },
        { "--path x --k 99999999999999999999999", "--k is" },
        { "--path x --k", "a value is missing after --k" },
        { "--path x --loud=yes", "no value is taken by" },
        { "--path x --share nan", "--share is \"nan\"" },
        { "--path x --share 1.5", "from 0 to 1" },
        { "--path x --metric l3", "one of l2|ip|cosine" },
        { "--path x --metric l", "one of l2|ip|cosine" },
        { "--path x --ef 1,,2", "--ef is" },
        { "--path x --ef 1,2,", "--ef is" },
        { "--path x --ef 0", "--ef is" },
        { "--k 3", "required: --path" },
        { "--path x a b c", "unexpected argument c" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(wrong); i++) {
        struct config c;
        struct option_positional p;
        struct capture capture;
        enum options_result result = parse(wrong[i].line, &c, &p, &capture);

        assert_int_equal(result, OPTIONS_USAGE);
        assert_int_equal(options_exit_code(result), 2);
        if (!strstr(capture.text, wrong[i].said))
            fail_msg("\"%s\" said: %s", wrong[i].line, capture.text);
        assert_non_null(strstr(capture.text, "try: annex test --help"));
    }
}

static void
a_list_has_a_limit(void **state)
{
    char line[512] = "--path x --ef 1";
    struct config c;
    struct option_positional p;
    struct capture capture;

    (void) state;
    for (size_t i = 1; i < OPTION_LIST_MAX; i++)
        memcpy(line + strlen(line), ",1", 3);
    assert_int_equal(parse(line, &c, &p, &capture), OPTIONS_RUN);
    assert_int_equal(c.ef.n, OPTION_LIST_MAX);
    memcpy(line + strlen(line), ",1", 3);
    assert_int_equal(parse(line, &c, &p, &capture), OPTIONS_USAGE);
}

static void
help_names_every_option(void **state)
{
    struct config c;
    struct option_positional p;
    struct capture err, out;
    enum options_result result;

    (void) state;
    capture_begin(&out, stdout, STDOUT_FILENO);
    result = parse("--path x --help", &c, &p, &err);
    capture_end(&out, stdout, STDOUT_FILENO);
    assert_int_equal(result, OPTIONS_HELP);
    assert_int_equal(options_exit_code(result), 0);
    for (size_t g = 0; g < ANX_COUNT_OF(groups); g++)
        for (size_t i = 0; i < groups[g].n; i++) {
            char name[64];

            snprintf(name, sizeof(name), "--%s", groups[g].options[i].name);
            assert_non_null(strstr(out.text, name));
            assert_non_null(strstr(out.text, groups[g].options[i].help));
        }
    assert_non_null(strstr(out.text, "l2|ip|cosine"));
    assert_non_null(strstr(out.text, "(required)"));
    assert_non_null(strstr(out.text, "[0.5]"));
}

/* The words of the index options stand for enum values by their place. */
static void
index_options_map_to_parameters(void **state)
{
    static const struct option_group index_groups[] = { { "Index", index_option_rows, INDEX_N_OPTION_ROW,
                                                          0 } };
    static const struct option_command index_command = {
        .name = "annex test", .summary = "", .groups = index_groups, .n_group = 1
    };
    struct dataset data = { .rows = 5, .dim = 16, .type = DATASET_U8 };
    char words[][24] = {
        "test",   "--index=ivf",          "--metric=cosine", "--scalar=as-is", "--quantization=sq8",
        "--m=32", "--ef-construction=99", "--centroids=7",   "--threads=3"
    };
    char *argv[ANX_COUNT_OF(words)];
    struct index_options options;
    anx_index_params params;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(words); i++)
        argv[i] = words[i];
    assert_int_equal(options_parse(&index_command, 1, argv, &options, NULL), OPTIONS_RUN);
    params = index_options_params(&options, &data);
    assert_int_equal(params.kind, ANX_INDEX_HNSW);
    assert_int_equal(params.metric, ANX_METRIC_L2);
    assert_int_equal(params.scalar, ANX_SCALAR_F32);
    assert_int_equal(params.quantization, ANX_QUANTIZATION_NONE);
    assert_int_equal(params.m, ANX_HNSW_M_DEFAULT);
    assert_int_equal(params.ef_construction, ANX_HNSW_EF_CONSTRUCTION_DEFAULT);
    assert_int_equal(params.dim, 16);

    assert_int_equal(options_parse(&index_command, (int) ANX_COUNT_OF(words), argv, &options, NULL),
                     OPTIONS_RUN);
    params = index_options_params(&options, &data);
    assert_int_equal(params.kind, ANX_INDEX_IVF);
    assert_int_equal(params.metric, ANX_METRIC_COSINE);
    assert_int_equal(params.scalar, ANX_SCALAR_U8);
    assert_int_equal(params.quantization, ANX_QUANTIZATION_SQ8);
    assert_int_equal(params.m, 32);
    assert_int_equal(params.ef_construction, 99);
    assert_int_equal(params.centroids, 7);
    assert_int_equal(params.threads, 3);

    options.metric = ANX_METRIC_HAMMING;
    params = index_options_params(&options, &data);
    assert_int_equal(params.scalar, ANX_SCALAR_B1);
    assert_int_equal(params.dim, 128);
}

static int
run_seven(int argc, char **argv)
{
    assert_int_equal(argc, 2);
    assert_string_equal(argv[0], "seven");
    assert_string_equal(argv[1], "x");
    return 7;
}

static void
commands_are_found_by_name(void **state)
{
    static const struct command commands[] = { { "seven", "gives seven", run_seven, NULL, NULL } };
    static const struct command_table table = { "annex", "Test.", commands, 1 };
    char program[] = "annex", seven[] = "seven", nope[] = "nope", x[] = "x";
    char *good[] = { program, seven, x }, *bad[] = { program, nope };
    struct capture capture;
    int unknown, none;

    (void) state;
    assert_int_equal(command_run(&table, 3, good), 7);
    capture_begin(&capture, stderr, STDERR_FILENO);
    unknown = command_run(&table, 2, bad);
    none = command_run(&table, 1, bad);
    capture_end(&capture, stderr, STDERR_FILENO);
    assert_int_equal(unknown, 2);
    assert_int_equal(none, 2);
    assert_non_null(strstr(capture.text, "unknown command nope"));
    assert_non_null(strstr(capture.text, "gives seven"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(defaults_are_set),
        cmocka_unit_test(both_spellings_are_read),
        cmocka_unit_test(wrong_usage_is_named_and_exits_2),
        cmocka_unit_test(a_list_has_a_limit),
        cmocka_unit_test(help_names_every_option),
        cmocka_unit_test(index_options_map_to_parameters),
        cmocka_unit_test(commands_are_found_by_name),
    };

    return cmocka_run_group_tests_name("options", tests, NULL, NULL);
}
