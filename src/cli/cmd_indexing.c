/* `annex start-indexing-server`, also `lantern-cli start-indexing-server`: the external indexing server in
 * the foreground. The first six options, their words and their order are those of Lantern's documentation;
 * ours follow in a group of their own.
 *
 * The main thread waits for signals and, on a terminal, shows what the builds are doing; everything else runs
 * on threads of the server, with these signals blocked. */
#include <errno.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/options.h"
#include "indexing/server.h"

#define PROGRESS_MS 200      /* between two looks at the builds, on a terminal */
#define AFTER_STOP_MS 10000  /* for sessions that were told to end, to say so to their clients */
#define AFTER_SECOND_MS 3000
#define MMAP_THRESHOLD (256 << 10)
#define HELP_COLUMN 35

struct config {
    const char *host, *tmp_dir, *cert, *key, *token_file, *advertise;
    size_t port, status_port, max_clients, max_queue, max_builds, max_memory_mib, max_dim, max_rows, threads;
    size_t idle_timeout_s, send_timeout_s, drain_timeout_s, resume_timeout_s;
    bool allow_v1_without_token, is_quiet;
    int log_level;
};

#define TEXT(option, field, word, text, ...)                                                              \
    {                                                                                                     \
        .name = (option), .type = OPTION_TEXT, .offset = offsetof(struct config, field), .value = (word), \
        .help = (text), __VA_ARGS__                                                                       \
    }
#define UINT(option, field, word, low, high, text, ...)                                                   \
    {                                                                                                     \
        .name = (option), .type = OPTION_UINT, .offset = offsetof(struct config, field), .value = (word), \
        .min = (low), .max = (high), .help = (text), __VA_ARGS__                                          \
    }
#define FLAG(option, field, text)                                                                       \
    {                                                                                                   \
        .name = (option), .type = OPTION_FLAG, .offset = offsetof(struct config, field), .help = (text) \
    }

static const struct option_def page_rows[] = {
    TEXT(
        "host", host, "<HOST>", "Host to bind", .def = "0.0.0.0",
        .more =
            "For both ports. A name with several addresses is bound at all of them; :: takes IPv4 and IPv6."),
    TEXT("tmp-dir", tmp_dir, "<TMP_DIR>", "Temp directory to save intermediate files", .def = "/tmp",
         .more =
             "A private folder is made inside; folders that killed servers left are removed at the start. "
             "A file is written only for a download of version 2 that broke, and has no name."),
    UINT("port", port, "<PORT>", 0, 65535, "Port to bind", .def = "8998",
         .more = "0 takes a free one, which the log names."),
    UINT("status-port", status_port, "<STATUS_PORT>", 0, 65535, "Status Server Port to bind", .def = "8999"),
    TEXT(
        "cert", cert, "<CERT>", "SSL Certificate path",
        .more =
            "With both, the indexing port speaks TLS 1.2 and 1.3 only; one without the other is refused. The "
            "status port stays plain HTTP."),
    TEXT("key", key, "<KEY>", "SSL Certificate key path"),
};
static const struct option_def own_rows[] = {
    TEXT("token-file", token_file, "<FILE>", "Clients must prove that they know the token in this file",
         .more = "8 to 1024 bytes; a line end is not part of it. The token itself never travels. Original "
                 "clients cannot prove anything and are refused, unless --allow-v1-without-token is given."),
    FLAG("allow-v1-without-token", allow_v1_without_token, "Original Lantern clients need no token"),
    UINT("max-clients", max_clients, "<N>", 1, 4096, "Sessions at once", .def = "16"),
    UINT("max-queue", max_queue, "<N>", 0, 4096, "Clients that may wait for a session", .def = "64",
         .more = "Further ones are refused."),
    UINT("max-builds", max_builds, "<N>", 1, 256, "Graphs built at once", .def = "2",
         .more = "Other sessions receive rows meanwhile and wait with the build."),
    UINT("max-memory", max_memory_mib, "<MIB>", 0, 1e9, "Memory of all builds in MiB; 0: 75 % of the machine",
         .def = "0",
         .more = "A build that would need more fails with a message that says so. The machine: or what the "
                 "control group of the process allows."),
    UINT("max-dim", max_dim, "<N>", 0, 65536, "Dimensions of a vector; 0: the protocol's limit", .def = "0"),
    UINT("max-rows", max_rows, "<N>", 0, 4e9, "Rows of an index; 0: the engine's limit", .def = "0"),
    UINT("threads", threads, "<N>", 0, 1024, "Threads of a build; 0: every CPU", .def = "0"),
    UINT("idle-timeout", idle_timeout_s, "<S>", 1, 86400, "Silence of a client that owes rows", .def = "60",
         .more = "Clients of version 2 may ask for up to ten minutes."),
    UINT("send-timeout", send_timeout_s, "<S>", 1, 86400, "A client takes nothing of its index", .def = "60"),
    UINT("resume-timeout", resume_timeout_s, "<S>", 0, 86400, "A broken download is kept; 0: it is not",
         .def = "300"),
    UINT("drain-timeout", drain_timeout_s, "<S>", 0, 86400, "SIGTERM: builds may still finish", .def = "30"),
    TEXT("advertise", advertise, "<HOST:PORT>", "Where waiting original clients are sent; default: here",
         .more = "Needed behind a proxy or a port mapping."),
    { .name = "log-level",
      .type = OPTION_CHOICE,
      .choices = "error|warn|info|debug",
      .def = "info",
      .value = "<LEVEL>",
      .offset = offsetof(struct config, log_level),
      .help = "error, warn, info or debug" },
    FLAG("quiet", is_quiet, "Warnings and errors only, no progress"),
};
static const struct option_group groups[] = {
    { "Options", page_rows, ANX_COUNT_OF(page_rows), 0 },
    { "Further options", own_rows, ANX_COUNT_OF(own_rows), 0 },
};

static const struct option_text examples[] = {
    { "for this machine only",
      "annex start-indexing-server --host 127.0.0.1" },
    { "for others: TLS and a token",
      "annex start-indexing-server --cert cert.pem --key key.pem --token-file token" },
};
static const struct option_text sections[] = {
    { "PROTOCOL",
      "The server takes rows from PostgreSQL backends that run CREATE INDEX ... WITH (external = true), "
      "builds "
      "the index with all CPUs of its own machine, and sends the index file back. It speaks the protocol of "
      "the "
      "original Lantern extension, so that databases with that extension can use it unchanged, and a second "
      "version for our own, with checked messages, tokens, progress, and downloads that go on after a broken "
      "connection. Under the name lantern-cli the same program answers." },
    { "STATUS", "GET http://HOST:STATUS_PORT/ answers {\"status\":0,\"status_updated_at\":1727964328269}, "
                "where status is 0 "
                "(idle: no build since the start), 1 (in progress), 2 (the last build failed) or 3 (it "
                "succeeded), and the "
                "time is that of the last change, in milliseconds since 1970. /status adds jobs, queue, "
                "memory, totals and "
                "the last error; /metrics is for Prometheus; /healthz answers 200, or 503 while the server "
                "shuts down." },
    { "LOG",
      "One line per event on standard error: time, level, event, then key=value. On a terminal a line at the "
      "bottom shows what the builds are doing." },
    { "SIGNALS", "SIGHUP reads certificate, key and token again. What cannot be read stays as it was; the "
                 "log says so.\n\n"
                 "SIGTERM and SIGINT: takes no new clients, lets builds finish for --drain-timeout, tells "
                 "the rest, ends "
                 "with exit code 0. A second one ends at once, with 1." },
    { "FILES", "TMP_DIR/annex-indexing-XXXXXX/lock is held locked as long as the server lives." },
};
const struct option_command indexing_command = {
    .name = "annex start-indexing-server",
    .summary = "Builds vector indexes for databases, over the network. Times are in seconds.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
    .sections = sections,
    .n_section = ANX_COUNT_OF(sections),
};

/* --- help --- */

static void
print_row(const char *head, const char *help, const char *def)
{
    printf("%-*s %s", HELP_COLUMN - 1, head, help);
    if (def)
        printf(" [default: %s]", def);
    putchar('\n');
}

static void
print_group(const struct option_group *group)
{
    for (size_t i = 0; i < group->n; i++) {
        const struct option_def *def = &group->options[i];
        char head[64];

        snprintf(head, sizeof(head), "      --%s%s%s", def->name, def->value ? " " : "",
                 def->value ? def->value : "");
        print_row(head, def->help, def->def);
    }
}

/* The layout of the documentation's page, which the original's help has. */
static void
print_help(void)
{
    printf("Start external index server\n\nUsage: %s start-indexing-server [OPTIONS]\n\nOptions:\n",
           program_invocation_short_name);
    print_group(&groups[0]);
    print_row("  -h, --help", "Print help", NULL);
    printf("\nFurther options (times in seconds):\n");
    print_group(&groups[1]);
    printf("\nSignals: SIGHUP reads certificate, key and token again; SIGTERM lets builds finish, a second "
           "one ends "
           "at once.\n");
    options_print_examples(&indexing_command, stdout);
}

static bool
is_help(int argc, char **argv)
{
    for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
        if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
            return true;
    return false;
}

/* --- what a person sees --- */

/* The line at the bottom of a terminal, and log lines above it. */
static struct {
    pthread_mutex_t lock; /* of the next */
    bool is_line_open;
    bool is_terminal; /* set before threads start */
} screen = { .lock = PTHREAD_MUTEX_INITIALIZER };

static void
log_line(void *context, anx_log_level level, const char *line)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    struct timespec now;
    struct tm utc;
    char text[32];

    (void) context;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(text, sizeof(text), "%Y-%m-%dT%H:%M:%S", &utc);
    pthread_mutex_lock(&screen.lock);
    if (screen.is_line_open)
        fputs("\r\033[K", stderr);
    screen.is_line_open = false;
    fprintf(stderr, "time=%s.%03ldZ level=%s %s\n", text, now.tv_nsec / 1000000, names[level], line);
    pthread_mutex_unlock(&screen.lock);
}

static size_t
describe_job(char *text, size_t size, const struct job_view *job)
{
    const char *step = job->phase == JOB_BUILDING && job->step ? job->step : anx_job_phase_name(job->phase);
    char percent[16] = "";
    int n;

    if (job->percent >= 0)
        snprintf(percent, sizeof(percent), " %.0f %%", job->percent);
    if (job->phase == JOB_RECEIVING || job->phase == JOB_BUILDING)
        n = snprintf(text, size, "#%llu %s: %llu rows,%s %.0f rows/s", (unsigned long long) job->id, step,
                     (unsigned long long) job->rows, percent, job->rows_per_second);
    else
        n = snprintf(text, size, "#%llu %s: %llu rows%s", (unsigned long long) job->id, step,
                     (unsigned long long) job->rows, percent);
    return n < 0 ? 0 : (size_t) n < size ? (size_t) n : size - 1;
}

static void
show_progress(struct indexing_server *server, struct status_view *view)
{
    struct winsize window = { .ws_col = 80 };
    char text[512] = "";
    size_t used = 0;

    anx_indexing_server_look(server, view);
    for (size_t i = 0; i < view->n_job && used + 4 < sizeof(text); i++) {
        if (i > 0)
            used += (size_t) snprintf(text + used, sizeof(text) - used, " | ");
        used += describe_job(text + used, sizeof(text) - used, &view->job[i]);
    }
    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0)
        window.ws_col = 80;
    pthread_mutex_lock(&screen.lock);
    if (screen.is_line_open || used > 0)
        fprintf(stderr, "\r\033[K%.*s", window.ws_col - 1, text);
    screen.is_line_open = used > 0;
    fflush(stderr);
    pthread_mutex_unlock(&screen.lock);
}

/* --- running --- */

static struct indexing_server_params
server_params(const struct config *config)
{
    struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;

    params.host = config->host;
    params.tmp_dir = config->tmp_dir;
    params.port = (uint16_t) config->port;
    params.status_port = (uint16_t) config->status_port;
    params.cert = config->cert;
    params.key = config->key;
    params.token_file = config->token_file;
    params.allow_v1_without_token = config->allow_v1_without_token;
    params.advertise = config->advertise;
    params.max_clients = config->max_clients;
    params.max_queue = config->max_queue;
    params.max_builds = config->max_builds;
    params.max_memory = config->max_memory_mib << 20;
    params.max_dim = config->max_dim;
    params.max_rows = config->max_rows;
    params.threads = config->threads;
    params.idle_timeout_ms = (unsigned) config->idle_timeout_s * 1000;
    params.send_timeout_ms = (unsigned) config->send_timeout_s * 1000;
    params.resume_timeout_ms = (unsigned) config->resume_timeout_s * 1000;
    return params;
}

/* Threads inherit the mask: signals reach only sigtimedwait in the main thread. */
static void
block_signals(sigset_t *set)
{
    struct sigaction ignore = { .sa_handler = SIG_IGN };

    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGINT);
    sigaddset(set, SIGHUP);
    pthread_sigmask(SIG_BLOCK, set, NULL);
    sigaction(SIGPIPE, &ignore, NULL);
}

/* The next signal, or 0 after timeout_ms. */
static int
next_signal(const sigset_t *set, int timeout_ms)
{
    struct timespec timeout = { timeout_ms / 1000, (long) (timeout_ms % 1000) * 1000000 };
    int number = sigtimedwait(set, NULL, &timeout);

    return number < 0 ? 0 : number;
}

/* Until a signal asks for the end. */
static void
serve(struct indexing_server *server, const sigset_t *set, struct status_view *view)
{
    for (;;) {
        int number = next_signal(set, screen.is_terminal ? PROGRESS_MS : 60000);

        if (number == SIGHUP)
            anx_indexing_server_reload(server);
        else if (number != 0)
            return;
        if (screen.is_terminal)
            show_progress(server, view);
    }
}

/* False: asked a second time to end. */
static bool
drain(struct indexing_server *server, const sigset_t *set, const struct config *config,
      struct status_view *view)
{
    uint64_t until = anx_clock_ns() + config->drain_timeout_s * UINT64_C(1000000000);

    anx_indexing_server_drain(server);
    while (anx_clock_ns() < until && !anx_indexing_server_wait(server, PROGRESS_MS)) {
        int number = next_signal(set, 0);

        if (number == SIGTERM || number == SIGINT)
            return false;
        if (screen.is_terminal)
            show_progress(server, view);
    }
    return true;
}

static int
run(struct indexing_server *server, const sigset_t *set, const struct config *config,
    struct status_view *view)
{
    bool is_patient;

    serve(server, set, view);
    is_patient = drain(server, set, config, view);
    anx_indexing_server_stop(server);
    if (!anx_indexing_server_wait(server, is_patient ? AFTER_STOP_MS : AFTER_SECOND_MS)) {
        /* A build that does not end: its memory and files go with the process, its folder with the next
         * start. */
        anx_log(ANX_LOG_WARN, "event=stopped result=forced");
        return 1;
    }
    anx_indexing_server_destroy(server);
    anx_log(ANX_LOG_INFO, "event=stopped result=clean");
    return 0;
}

static int
start(const struct config *config, const char *name)
{
    struct indexing_server_params params = server_params(config);
    struct status_view *view = anx_alloc_bytes(NULL, sizeof(*view));
    struct indexing_server *server;
    sigset_t set;
    anx_error err;
    int code = 1;
    anx_status st;

    if (!view) {
        (void) anx_fail(&err, ANX_E_NOMEM, "out of memory");
        return command_exit(name, err.status, &err);
    }
    /* Arrays of a build go back to the system when it is over. By default the C library raises this limit
     * after the first of them is freed, and keeps the memory of the later ones: half a build's worth,
     * measured. */
    mallopt(M_MMAP_THRESHOLD, MMAP_THRESHOLD);
    screen.is_terminal = !config->is_quiet && isatty(STDERR_FILENO) == 1;
    anx_log_set(log_line, NULL, config->is_quiet ? ANX_LOG_WARN : (anx_log_level) config->log_level);
    block_signals(&set);
    st = anx_indexing_server_start(&params, &server, &err);
    if (st != ANX_OK)
        (void) command_exit(name, st, &err);
    else
        code = run(server, &set, config, view);
    anx_free(NULL, view);
    return code;
}

int
cmd_indexing(int argc, char **argv)
{
    struct option_command command = indexing_command;
    struct config config;
    char name[64];
    enum options_result parsed;

    if (is_help(argc, argv)) {
        print_help();
        return 0;
    }
    snprintf(name, sizeof(name), "%.32s start-indexing-server", program_invocation_short_name);
    command.name = name;
    parsed = options_parse(&command, argc, argv, &config, NULL);
    return parsed == OPTIONS_RUN ? start(&config, name) : options_exit_code(parsed);
}
