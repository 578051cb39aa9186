/* `annex serve`: the document database as a server. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/log.h"
#include "cli/commands.h"
#include "cli/serve_config.h"
#include "db/users.h"
#include "http/server.h"
#include "net/tls.h"
#include "rpc/server.h"

struct service {
    struct serve_config config;
    struct engine *engine;
    struct users *users;
    anx_tls *tls;
    struct http_server *http;
    struct rpc_server *rpc;
    struct http_info info;
    bool has_pid_file; /* written by us */
};

static void
log_line(void *context, anx_log_level level, const char *line)
{
    static const char *const names[] = { "error", "warn", "info", "debug" };
    struct timespec now;
    struct tm utc;
    char stamp[32];

    (void) context;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    strftime(stamp, sizeof(stamp), "%Y-%m-%dT%H:%M:%S", &utc);
    fprintf(stderr, "%s.%03ldZ level=%s %s\n", stamp, now.tv_nsec / 1000000, names[level], line);
}

static void
set_log(int level)
{
    static const anx_log_level levels[] = { ANX_LOG_ERROR, ANX_LOG_ERROR, ANX_LOG_WARN, ANX_LOG_INFO,
                                            ANX_LOG_DEBUG };

    anx_log_set(level == SERVE_LOG_NONE ? NULL : log_line, NULL, levels[level]);
}

static anx_status
write_pid(struct service *service, anx_error *err)
{
    const char *path = service->config.pid_file;
    FILE *file = path ? fopen(path, "w") : NULL;

    if (!path)
        return ANX_OK;
    service->has_pid_file = file != NULL;
    if (!file || fprintf(file, "%ld\n", (long) getpid()) < 0 || fclose(file) != 0)
        return anx_fail(err, ANX_E_IO, "cannot write --pidfile %s: %s", path, strerror(errno));
    return ANX_OK;
}

/* Connections are many, and shells start programs with 1,024 descriptors. */
static void
raise_descriptors(void)
{
    struct rlimit limit;

    if (getrlimit(RLIMIT_NOFILE, &limit) != 0 || limit.rlim_cur >= limit.rlim_max)
        return;
    limit.rlim_cur = limit.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &limit) != 0)
        anx_log(ANX_LOG_DEBUG, "event=descriptors_not_raised error=\"%s\"", strerror(errno));
}

static anx_status
open_tls(struct service *service, anx_error *err)
{
    const struct serve_config *config = &service->config;

    if (!config->cert && !config->key)
        return ANX_OK;
    if (!config->cert || !config->key)
        return anx_fail(err, ANX_E_INVALID, "--%s is given without --%s",
                        config->cert ? "ssl-cert" : "ssl-key", config->cert ? "ssl-key" : "ssl-cert");
    return anx_tls_open(config->cert, config->key, &service->tls, err);
}

static anx_status
open_engine(struct service *service, anx_error *err)
{
    const struct serve_config *config = &service->config;
    const char *no_cache = getenv("RX_DISABLE_ANN_CACHE");
    struct engine_params params = {
        .path = config->db_path,
        .durability = config->durability == 0 ? STORE_DURABLE_SYNC : STORE_DURABLE_ASYNC,
        .start_with_errors = config->start_with_errors,
        .is_ann_cache_disabled = no_cache && *no_cache && strcmp(no_cache, "0") != 0,
        .tx_idle_timeout_s = (unsigned) config->tx_idle_timeout,
        .n_thread = config->threads,
    };
    anx_status st = engine_open(&params, &service->engine, err);

    if (st == ANX_OK && config->is_secure)
        st = users_open(config->db_path, &service->users, err);
    return st;
}

static anx_status
open_http(struct service *service, anx_error *err)
{
    static const char *const levels[] = { "none", "error", "warning", "info", "trace" };
    const struct serve_config *config = &service->config;
    bool with_log = strcmp(config->http_log, "none") != 0 && *config->http_log;
    struct http_params params = {
        .engine = service->engine,
        .users = service->users,
        .address = config->http_address,
        .tls_address = service->tls ? config->https_address : NULL,
        .tls = service->tls,
        .n_loop = config->loops,
        .n_worker = config->workers,
        .max_request_bytes = config->max_http_req,
        .max_response_bytes = config->max_http_rsp,
        .read_timeout_s = (unsigned) config->http_read_timeout,
        .write_timeout_s = (unsigned) config->http_write_timeout,
        .indexing_status = config->indexing_status,
        .with_metrics = config->with_prometheus,
        .with_access_log = with_log,
        .info = &service->info,
    };

    service->info = (struct http_info) {
        .version = ANX_VERSION,
        .start_time = (int64_t) time(NULL),
        .http_address = config->http_address,
        .https_address = service->tls ? config->https_address : "none",
        .rpc_address = config->rpc_address,
        .storage_path = config->db_path,
        .log_level = levels[config->log_level],
    };
    return http_server_open(&params, &service->http, err);
}

static anx_status
open_rpc(struct service *service, anx_error *err)
{
    const struct serve_config *config = &service->config;
    struct rpc_params params = {
        .engine = service->engine,
        .users = service->users,
        .address = config->rpc_address,
        .tls_address = service->tls ? config->rpcs_address : NULL,
        .unix_path = config->unix_rpc_address,
        .tls = service->tls,
        .n_worker = config->workers,
        .max_connections = config->max_connections,
        .max_request_bytes = config->max_rpc_req,
        .max_response_bytes = config->max_rpc_rsp,
        .result_timeout_s = (unsigned) config->rpc_result_timeout,
        .start_time = service->info.start_time,
    };

    return rpc_server_open(&params, &service->rpc, err);
}

static void
announce_rpc(const struct service *service)
{
    unsigned plain = rpc_server_port(service->rpc, false), secure = rpc_server_port(service->rpc, true);

    if (plain > 0)
        anx_log(ANX_LOG_INFO, "event=listening server=rpc address=%s port=%u", service->config.rpc_address,
                plain);
    if (secure > 0)
        anx_log(ANX_LOG_INFO, "event=listening server=rpcs address=%s port=%u", service->config.rpcs_address,
                secure);
    if (service->config.unix_rpc_address && strcmp(service->config.unix_rpc_address, "none") != 0)
        anx_log(ANX_LOG_INFO, "event=listening server=rpc socket=%s", service->config.unix_rpc_address);
}

/* Without a certificate the TLS addresses are off, which is silent only while they are the default ones. */
static void
warn_of_tls(const struct serve_config *config)
{
    const struct {
        const char *setting, *address, *by_default;
    } rows[] = { { "--httpsaddr", config->https_address, SERVE_HTTPS_ADDRESS },
                 { "--rpcsaddr", config->rpcs_address, SERVE_RPCS_ADDRESS } };

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        if (strcmp(rows[i].address, "none") != 0 && strcmp(rows[i].address, rows[i].by_default) != 0)
            anx_log(ANX_LOG_WARN, "event=not_listening setting=%s address=%s hint=\"TLS needs --ssl-cert and "
                    "--ssl-key\"", rows[i].setting, rows[i].address);
}

static void
announce(const struct service *service)
{
    unsigned plain = http_server_port(service->http, false), secure = http_server_port(service->http, true);

    if (plain > 0)
        anx_log(ANX_LOG_INFO, "event=listening server=http address=%s port=%u", service->config.http_address,
                plain);
    if (secure > 0)
        anx_log(ANX_LOG_INFO, "event=listening server=https address=%s port=%u",
                service->config.https_address, secure);
    announce_rpc(service);
    if (!service->tls)
        warn_of_tls(&service->config);
    if (!service->users && strncmp(service->config.http_address, "127.", 4) != 0 &&
        strncmp(service->config.http_address, "localhost", 9) != 0 &&
        strcmp(service->config.http_address, "none") != 0)
        anx_log(ANX_LOG_WARN,
                "event=open_to_everyone address=%s hint=\"use --security, or listen on 127.0.0.1\"",
                service->config.http_address);
}

/* SIGTERM and SIGINT end the loop, SIGHUP reads the certificate again. */
static void
wait_for_signals(struct service *service)
{
    sigset_t signals;
    int number = 0;

    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    while (sigwait(&signals, &number) == 0 && number == SIGHUP) {
        anx_error err;

        if (!service->tls)
            continue;
        if (anx_tls_reload(service->tls, &err) == ANX_OK)
            anx_log(ANX_LOG_INFO, "event=certificate_reloaded file=%s", service->config.cert);
        else
            anx_log(ANX_LOG_ERROR, "event=certificate_reload_failed cause=\"%s\"", err.message);
    }
    anx_log(ANX_LOG_INFO, "event=stopping signal=%d", number);
}

static anx_status
run(struct service *service, anx_error *err)
{
    anx_status st = open_tls(service, err);
    sigset_t signals;

    /* Blocked before the first thread, so that only wait_for_signals sees them. */
    sigemptyset(&signals);
    sigaddset(&signals, SIGTERM);
    sigaddset(&signals, SIGINT);
    sigaddset(&signals, SIGHUP);
    sigaddset(&signals, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &signals, NULL);
    raise_descriptors();
    if (st == ANX_OK)
        st = open_engine(service, err);
    if (st == ANX_OK)
        st = open_http(service, err);
    if (st == ANX_OK)
        st = open_rpc(service, err);
    if (st == ANX_OK)
        st = write_pid(service, err);
    if (st == ANX_OK) {
        announce(service);
        wait_for_signals(service);
    }
    rpc_server_close(service->rpc);
    http_server_close(service->http);
    users_close(service->users);
    engine_close(service->engine);
    anx_tls_close(service->tls);
    if (service->has_pid_file) /* one that is there already is of a server that runs */
        unlink(service->config.pid_file);
    if (st == ANX_OK)
        anx_log(ANX_LOG_INFO, "event=stopped");
    return st;
}

int
cmd_serve(int argc, char **argv)
{
    struct service service = { 0 };
    enum options_result parsed = serve_config_read(argc, argv, &service.config);
    int code = options_exit_code(parsed);
    anx_error err;

    if (parsed == OPTIONS_RUN) {
        set_log(service.config.log_level);
        code = command_exit("annex serve", run(&service, &err), &err);
    }
    serve_config_free(&service.config);
    return code;
}
