/* `annex bench indexing`: what it costs to build on another machine. The rows of a file go to an indexing
 * server, in both versions of the protocol, and its index comes back; measured against the bare bulk build of
 * the same rows in this process plus the time in which the same number of bytes crosses the loopback device.
 * No database takes part. Passes go in turns, so that whatever slows the machine down hits all sides; a
 * figure is the median. */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "bench/bench.h"
#include "indexing/client.h"

#define PIECE ((size_t) 256 << 10)
#define ROWS_PIECE 100 /* rows per call, as a scan of a table's page might give */
#define REPEAT_MAX 101

struct config {
    const char *base, *server;
    size_t limit, m, ef_construction, threads, repeat;
    int metric;
    bool is_json, is_quiet;
};

static const struct option_def rows[] = {
    { .name = "base",
      .type = OPTION_TEXT,
      .is_required = true,
      .value = "FILE",
      .offset = offsetof(struct config, base),
      .help = "Rows: .npy, .fvecs, .bvecs; sent as 32-bit floats" },
    { .name = "limit",
      .type = OPTION_UINT,
      .min = 0,
      .max = 4e9,
      .def = "0",
      .offset = offsetof(struct config, limit),
      .help = "Use the first N rows only; 0: all" },
    { .name = "server",
      .type = OPTION_TEXT,
      .value = "HOST:PORT",
      .offset = offsetof(struct config, server),
      .help = "An indexing server that runs; otherwise one is started, and its memory measured" },
    { .name = "metric",
      .type = OPTION_CHOICE,
      .choices = "l2|cosine",
      .def = "l2",
      .offset = offsetof(struct config, metric),
      .help = "Distance" },
    { .name = "m",
      .type = OPTION_UINT,
      .min = ANX_HNSW_M_MIN,
      .max = ANX_HNSW_M_MAX,
      .def = "16",
      .offset = offsetof(struct config, m),
      .help = "Neighbors per node" },
    { .name = "ef-construction",
      .type = OPTION_UINT,
      .min = ANX_HNSW_EF_CONSTRUCTION_MIN,
      .max = ANX_WIRE_V1_EF_MAX,
      .def = "200",
      .offset = offsetof(struct config, ef_construction),
      .help = "Effort of the build" },
    { .name = "threads",
      .type = OPTION_UINT,
      .min = 0,
      .max = 1024,
      .def = "0",
      .offset = offsetof(struct config, threads),
      .help = "Of the bare build and of a server started; 0: every CPU" },
    { .name = "repeat",
      .type = OPTION_UINT,
      .min = 1,
      .max = REPEAT_MAX,
      .def = "3",
      .offset = offsetof(struct config, repeat),
      .help = "Passes; a figure is their median" },
    { .name = "json",
      .type = OPTION_FLAG,
      .offset = offsetof(struct config, is_json),
      .help = "Print one JSON object instead of a table" },
    { .name = "quiet",
      .type = OPTION_FLAG,
      .offset = offsetof(struct config, is_quiet),
      .help = "No progress on standard error" },
};
static const struct option_group groups[] = { { "Options", rows, ANX_COUNT_OF(rows), 0 } };
static const struct option_text examples[] = {
    { "what the network costs",
      "annex bench indexing --base base.npy" },
};
const struct option_command bench_indexing_command = {
    .name = "annex bench indexing",
    .summary =
        "First row sent to last byte of the index received, over both versions of the indexing protocol,\n"
        "against the bare build of the same rows plus the same bytes over loopback.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
};

enum { V1, V2, N_VERSION };
enum { SEND, BUILD, RECEIVE, N_PART };

struct run {
    double part[N_PART];
    double total;
    double loopback; /* the same bytes there and back */
    uint64_t bytes_out, bytes_in;
};

struct own_server {
    pid_t pid; /* 0: none was started */
    FILE *log;
    unsigned port;
    size_t peak_bytes;
};

struct state {
    const struct config *config;
    struct bench_data data;
    anx_index_params params;
    struct progress progress;
    struct own_server own;
    char host[ANX_WIRE_HOST_MAX + 1];
    unsigned port;
    size_t index_bytes; /* rows and links, as the bare build keeps them */
    size_t pass;
    double bare[REPEAT_MAX];
    struct run run[N_VERSION][REPEAT_MAX];
};

static double
seconds_since(uint64_t start)
{
    return (double) (anx_clock_ns() - start) * 1e-9;
}

/* ---- a server of our own ---- */

/* Reads the log until it tells the port. */
static anx_status
read_port(struct own_server *own, anx_error *err)
{
    char line[1024];

    while (fgets(line, sizeof(line), own->log)) {
        const char *at = strstr(line, "event=listening server=indexing") ? strstr(line, " port=") : NULL;

        if (at)
            own->port = (unsigned) strtoul(at + 6, NULL, 10);
        if (own->port)
            return ANX_OK;
    }
    return anx_fail(err, ANX_E_IO, "the indexing server did not start");
}

static anx_status
start_server(struct own_server *own, size_t n_threads, anx_error *err)
{
    char threads[32];
    int fds[2];

    snprintf(threads, sizeof(threads), "%zu", n_threads);
    if (pipe(fds) != 0)
        return anx_fail(err, ANX_E_IO, "could not make a pipe: %s", strerror(errno));
    own->pid = fork();
    if (own->pid == 0) {
        dup2(fds[1], STDERR_FILENO);
        close(fds[0]);
        close(fds[1]);
        execl("/proc/self/exe", "annex", "start-indexing-server", "--host", "127.0.0.1", "--port", "0",
              "--status-port", "0", "--threads", threads, (char *) NULL);
        _exit(127);
    }
    close(fds[1]);
    own->log = own->pid > 0 ? fdopen(fds[0], "r") : NULL;
    if (!own->log) {
        close(fds[0]);
        return anx_fail(err, ANX_E_IO, "could not start the indexing server: %s", strerror(errno));
    }
    return read_port(own, err);
}

/* The most memory the server ever had, from the kernel. */
static void
measure_server(struct own_server *own)
{
    char path[64];
    char line[256];
    FILE *file;

    snprintf(path, sizeof(path), "/proc/%d/status", (int) own->pid);
    file = own->pid > 0 ? fopen(path, "r") : NULL;
    while (file && fgets(line, sizeof(line), file))
        if (strncmp(line, "VmHWM:", 6) == 0)
            own->peak_bytes = (size_t) strtoull(line + 6, NULL, 10) * 1024;
    if (file)
        fclose(file);
}

static void
stop_server(struct own_server *own)
{
    if (own->pid > 0) {
        kill(own->pid, SIGTERM);
        waitpid(own->pid, NULL, 0);
    }
    if (own->log)
        fclose(own->log);
}

/* ---- the same bytes over loopback ---- */

struct mirror {
    int listen_fd;
    uint64_t n_in, n_out;
};

static bool
move_bytes(int fd, uint64_t n, bool is_out)
{
    static _Thread_local uint8_t piece[PIECE];

    while (n) {
        size_t want = n < PIECE ? (size_t) n : PIECE;
        ssize_t moved = is_out ? send(fd, piece, want, MSG_NOSIGNAL) : recv(fd, piece, want, 0);

        if (moved <= 0)
            return false;
        n -= (uint64_t) moved;
    }
    return true;
}

static void *
mirror_main(void *argument)
{
    struct mirror *self = argument;
    int fd = accept(self->listen_fd, NULL, NULL);

    if (fd >= 0 && move_bytes(fd, self->n_in, false))
        move_bytes(fd, self->n_out, true);
    if (fd >= 0)
        close(fd);
    return NULL;
}

static anx_status
time_loopback(uint64_t n_out, uint64_t n_in, double *seconds, anx_error *err)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);
    struct mirror mirror = { .n_in = n_out, .n_out = n_in };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    bool done = false;
    pthread_t thread;

    mirror.listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd >= 0 && mirror.listen_fd >= 0 &&
        bind(mirror.listen_fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
        listen(mirror.listen_fd, 1) == 0 &&
        getsockname(mirror.listen_fd, (struct sockaddr *) &address, &size) == 0 &&
        connect(fd, (struct sockaddr *) &address, sizeof(address)) == 0 &&
        pthread_create(&thread, NULL, mirror_main, &mirror) == 0) {
        uint64_t start = anx_clock_ns();

        done = move_bytes(fd, n_out, true) && move_bytes(fd, n_in, false);
        *seconds = seconds_since(start);
        shutdown(fd, SHUT_RDWR);
        pthread_join(thread, NULL);
    }
    if (fd >= 0)
        close(fd);
    if (mirror.listen_fd >= 0)
        close(mirror.listen_fd);
    return done ? ANX_OK : anx_fail(err, ANX_E_NETWORK, "the loopback device does not pass bytes on");
}

/* ---- one build ---- */

static anx_indexing_params
client_params(const struct state *s, int version)
{
    return (anx_indexing_params){
        .host = s->host,
        .port = s->port,
        .protocol = version == V1 ? 1 : 2,
        .job = { .metric = anx_wire_of_metric(s->params.metric),
                 .scalar = ANX_WIRE_F32,
                 .element = ANX_WIRE_F32,
                 .dim = (uint32_t) s->data.dim,
                 .m = (uint32_t) s->config->m,
                 .ef_construction = (uint32_t) s->config->ef_construction,
                 .ef = 64,
                 .estimated_rows = s->data.n,
                 .format = ANX_WIRE_FILE_LANTERN,
                 .is_plain = true,
                 .name = "annex bench indexing" },
    };
}

static anx_status
send_rows(struct state *s, anx_indexing_client *client, anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t at = 0; st == ANX_OK && at < s->data.n; at += ROWS_PIECE) {
        size_t n = s->data.n - at < ROWS_PIECE ? s->data.n - at : ROWS_PIECE;

        st = anx_indexing_rows(client, n, s->data.labels + at, s->data.rows + at * s->data.dim, err);
        if (at % (100 * ROWS_PIECE) == 0)
            progress_report(&s->progress, "sending rows", at, s->data.n);
    }
    return st;
}

static anx_status
receive_index(anx_indexing_client *client, uint64_t size, anx_error *err)
{
    static uint8_t piece[PIECE];
    uint64_t have = 0;

    while (have < size) {
        size_t got;
        anx_status st = anx_indexing_read(client, piece, sizeof(piece), &got, err);

        if (st != ANX_OK)
            return st;
        have += got;
    }
    return ANX_OK;
}

static anx_status
run_remote(struct state *s, int version, struct run *out, anx_error *err)
{
    anx_indexing_params params = client_params(s, version);
    anx_indexing_client *client;
    anx_indexing_info info;
    anx_wire_index index;
    uint64_t start;
    anx_status st = anx_indexing_open(&params, &client, err);

    if (st != ANX_OK)
        return st;
    start = anx_clock_ns();
    st = send_rows(s, client, err);
    out->part[SEND] = seconds_since(start);
    progress_report(&s->progress, "waiting for the index", 0, 0);
    if (st == ANX_OK)
        st = anx_indexing_finish(client, &index, err);
    out->part[BUILD] = seconds_since(start) - out->part[SEND];
    if (st == ANX_OK)
        st = receive_index(client, index.size, err);
    out->total = seconds_since(start);
    out->part[RECEIVE] = out->total - out->part[SEND] - out->part[BUILD];
    anx_indexing_get_info(client, &info);
    out->bytes_out = info.bytes_out;
    out->bytes_in = info.bytes_in;
    anx_indexing_close(client);
    return st == ANX_OK ? time_loopback(out->bytes_out, out->bytes_in, &out->loopback, err) : st;
}

static anx_status
run_pass(struct state *s, size_t pass, anx_error *err)
{
    struct bench_built built;
    anx_status st = bench_build(&s->params, &s->data, s->data.n, &s->progress, &built, err);

    if (st != ANX_OK)
        return st;
    s->bare[pass] = built.seconds;
    s->index_bytes = s->data.n * s->data.row_size + built.stats.link_bytes;
    anx_index_destroy(built.index);
    for (int version = 0; st == ANX_OK && version < N_VERSION; version++)
        st = run_remote(s, version, &s->run[version][pass], err);
    return st;
}

/* ---- setup and report ---- */

static anx_status
load_rows(struct state *s, anx_error *err)
{
    struct dataset file;
    anx_status st = dataset_open(s->config->base, &file, err);
    size_t n;

    if (st != ANX_OK)
        return st;
    n = s->config->limit && s->config->limit < file.rows ? s->config->limit : file.rows;
    s->params.metric = s->config->metric == 0 ? ANX_METRIC_L2 : ANX_METRIC_COSINE;
    s->params.dim = file.dim;
    s->params.m = s->config->m;
    s->params.ef_construction = s->config->ef_construction;
    s->params.threads = s->config->threads;
    st = bench_data_alloc(&s->data, s->params.metric, n, 1, file.dim, err);
    if (st == ANX_OK)
        st = dataset_read(&file, ANX_SCALAR_F32, 0, n, s->data.rows, err);
    dataset_close(&file);
    return st;
}

static anx_status
find_server(struct state *s, anx_error *err)
{
    const char *given = s->config->server;
    const char *colon = given ? strrchr(given, ':') : NULL;
    anx_status st;

    if (!given) {
        st = start_server(&s->own, s->config->threads, err);
        snprintf(s->host, sizeof(s->host), "127.0.0.1");
        s->port = s->own.port;
        return st;
    }
    if (!colon || (size_t) (colon - given) >= sizeof(s->host))
        return anx_fail(err, ANX_E_INVALID, "--server is \"%s\", expected is HOST:PORT", given);
    memcpy(s->host, given, (size_t) (colon - given));
    s->port = (unsigned) strtoul(colon + 1, NULL, 10);
    return ANX_OK;
}

static anx_status
measure(struct state *s, anx_error *err)
{
    anx_status st = load_rows(s, err);

    if (st == ANX_OK)
        st = find_server(s, err);
    for (s->pass = 0; st == ANX_OK && s->pass < s->config->repeat; s->pass++)
        st = run_pass(s, s->pass, err);
    measure_server(&s->own);
    return st;
}

static int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *) a;
    double y = *(const double *) b;

    return (x > y) - (x < y);
}

/* Of the doubles that stand `stride` bytes apart. */
static double
median(const void *first, size_t stride, size_t n)
{
    double sorted[REPEAT_MAX];

    for (size_t i = 0; i < n; i++)
        memcpy(&sorted[i], (const char *) first + i * stride, sizeof(sorted[i]));
    qsort(sorted, n, sizeof(sorted[0]), compare_doubles);
    return n % 2 ? sorted[n / 2] : (sorted[n / 2 - 1] + sorted[n / 2]) / 2;
}

struct summary {
    double bare, peak_ratio;
    struct {
        double part[N_PART], total, loopback, ratio;
    } version[N_VERSION];
};

static struct summary
summarize(const struct state *s)
{
    struct summary sum = { .bare = median(s->bare, sizeof(s->bare[0]), s->pass), .peak_ratio = NAN };

    if (s->own.peak_bytes)
        sum.peak_ratio = (double) s->own.peak_bytes / (double) s->index_bytes;
    for (int v = 0; v < N_VERSION; v++) {
        const struct run *run = s->run[v];

        for (int p = 0; p < N_PART; p++)
            sum.version[v].part[p] = median(&run->part[p], sizeof(*run), s->pass);
        sum.version[v].total = median(&run->total, sizeof(*run), s->pass);
        sum.version[v].loopback = median(&run->loopback, sizeof(*run), s->pass);
        sum.version[v].ratio = sum.version[v].total / (sum.bare + sum.version[v].loopback);
    }
    return sum;
}

static void
print_table(const struct state *s, const struct summary *sum)
{
    static const char *const parts[N_PART] = { "send rows, s", "wait for the build, s",
                                               "receive the index, s" };
    struct table table = { .n_column = 3 };

    printf("%zu rows of %zu floats, %s, m %zu, ef_construction %zu; bare build %.2f s; median of %zu\n\n",
           s->data.n, s->data.dim, anx_metric_name(s->params.metric), s->config->m,
           s->config->ef_construction, sum->bare, s->pass);
    table_cell(&table, "figure");
    table_cell(&table, "version 1");
    table_cell(&table, "version 2");
    for (int p = 0; p < N_PART; p++) {
        table_cell(&table, "%s", parts[p]);
        for (int v = 0; v < N_VERSION; v++)
            table_real(&table, sum->version[v].part[p], 2, "");
    }
    table_cell(&table, "first row to last byte, s");
    for (int v = 0; v < N_VERSION; v++)
        table_real(&table, sum->version[v].total, 2, "");
    table_cell(&table, "bare build and loopback, s");
    for (int v = 0; v < N_VERSION; v++)
        table_real(&table, sum->bare + sum->version[v].loopback, 2, "");
    table_cell(&table, "ratio");
    for (int v = 0; v < N_VERSION; v++)
        table_real(&table, sum->version[v].ratio, 3, "x");
    table_cell(&table, "MB out and in");
    for (int v = 0; v < N_VERSION; v++)
        table_cell(&table, "%.1f + %.1f", (double) s->run[v][0].bytes_out * 1e-6,
                   (double) s->run[v][0].bytes_in * 1e-6);
    table_print(&table, stdout);
    table_free(&table);
    if (s->own.peak_bytes)
        printf("\nServer's peak memory: %.1f MB, %.2fx of rows and links (%.1f MB)\n",
               (double) s->own.peak_bytes * 1e-6, sum->peak_ratio, (double) s->index_bytes * 1e-6);
}

static void
print_json(const struct state *s, const struct summary *sum)
{
    static const char *const keys[N_VERSION] = { "v1", "v2" };
    static const char *const parts[N_PART] = { "send_seconds", "build_seconds", "receive_seconds" };
    struct json json = { .out = stdout };

    json_begin(&json, NULL, '{');
    json_text(&json, "scenario", "indexing");
    json_uint(&json, "n", s->data.n);
    json_uint(&json, "dim", s->data.dim);
    json_text(&json, "metric", anx_metric_name(s->params.metric));
    json_real(&json, "bare_seconds", sum->bare);
    for (int v = 0; v < N_VERSION; v++) {
        json_begin(&json, keys[v], '{');
        for (int p = 0; p < N_PART; p++)
            json_real(&json, parts[p], sum->version[v].part[p]);
        json_real(&json, "total_seconds", sum->version[v].total);
        json_real(&json, "loopback_seconds", sum->version[v].loopback);
        json_real(&json, "ratio", sum->version[v].ratio);
        json_uint(&json, "bytes_out", s->run[v][0].bytes_out);
        json_uint(&json, "bytes_in", s->run[v][0].bytes_in);
        json_end(&json, '}');
    }
    json_uint(&json, "index_bytes", s->index_bytes);
    json_uint(&json, "server_peak_bytes", s->own.peak_bytes);
    json_real(&json, "server_peak_ratio", sum->peak_ratio);
    json_end(&json, '}');
    fputc('\n', stdout);
}

int
bench_indexing(int argc, char **argv)
{
    struct config config;
    enum options_result parsed = options_parse(&bench_indexing_command, argc, argv, &config, NULL);
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    struct state *s;
    anx_error err;
    anx_status st;

    if (parsed != OPTIONS_RUN)
        return options_exit_code(parsed);
    s = anx_alloc_zeroed(NULL, 1, sizeof(*s));
    if (!s)
        return bench_exit(bench_indexing_command.name, anx_fail(&err, ANX_E_NOMEM, "out of memory"), &err);
    s->config = &config;
    s->params = params;
    progress_init(&s->progress, config.is_quiet);
    st = measure(s, &err);
    progress_end(&s->progress);
    stop_server(&s->own);
    if (st == ANX_OK) {
        struct summary sum = summarize(s);

        if (config.is_json)
            print_json(s, &sum);
        else
            print_table(s, &sum);
    }
    bench_data_free(&s->data);
    anx_free(NULL, s);
    return bench_exit(bench_indexing_command.name, st, &err);
}
