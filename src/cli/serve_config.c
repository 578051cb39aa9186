/* One table of options; a second one that says which YAML key and which variable sets which of them. */
#include "cli/serve_config.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <yaml.h>

#include "base/arena.h"
#include "base/error.h"
#include "cli/commands.h"

#define FIELD(name) .offset = offsetof(struct serve_config, name)
#define SECONDS_MAX 1e9

static const struct option_def main_rows[] = {
    { .name = "db",
      .letter = 's',
      .type = OPTION_TEXT,
      .def = "annex-data",
      .value = "DIR",
      FIELD(db_path),
      .help = "Folder of the databases" },
    { .name = "httpaddr",
      .letter = 'p',
      .type = OPTION_TEXT,
      .def = "127.0.0.1:9088",
      .value = "HOST:PORT",
      FIELD(http_address),
      .help = "HTTP; none: off" },
    { .name = "httpsaddr",
      .type = OPTION_TEXT,
      .def = SERVE_HTTPS_ADDRESS,
      .value = "HOST:PORT",
      FIELD(https_address),
      .help = "HTTPS; needs --ssl-cert and --ssl-key" },
    { .name = "rpcaddr",
      .letter = 'r',
      .type = OPTION_TEXT,
      .def = "127.0.0.1:6534",
      .value = "HOST:PORT",
      FIELD(rpc_address),
      .help = "Binary protocol (cproto); none: off" },
    { .name = "rpcsaddr",
      .type = OPTION_TEXT,
      .def = SERVE_RPCS_ADDRESS,
      .value = "HOST:PORT",
      FIELD(rpcs_address),
      .help = "The same over TLS (cprotos); needs --ssl-cert and --ssl-key" },
    { .name = "urpcaddr",
      .type = OPTION_TEXT,
      .def = "none",
      .value = "FILE",
      FIELD(unix_rpc_address),
      .help = "The same at a socket file (ucproto)" },
    { .name = "config",
      .letter = 'c',
      .type = OPTION_TEXT,
      .value = "FILE",
      FIELD(config_path),
      .help = "YAML file of settings; the command line wins over it" },
    { .name = "indexing-status",
      .type = OPTION_TEXT,
      .value = "URL",
      FIELD(indexing_status),
      .help = "Status address of an indexing server (http://HOST:8999), for the console" },
    { .name = "durability",
      .type = OPTION_CHOICE,
      .choices = "sync|async",
      .def = "sync",
      FIELD(durability),
      .help = "sync: an acknowledged write survives a power cut; async: may lose the last 100 ms" },
    { .name = "startwitherrors",
      .type = OPTION_FLAG,
      FIELD(start_with_errors),
      .help = "Start although a database cannot be loaded" },
};
static const struct option_def security_rows[] = {
    { .name = "security",
      .type = OPTION_FLAG,
      FIELD(is_secure),
      .help = "Ask for user and password (users.yml in the folder of the databases)" },
    { .name = "ssl-cert",
      .type = OPTION_TEXT,
      .value = "FILE",
      FIELD(cert),
      .help = "Certificate chain, PEM" },
    { .name = "ssl-key", .type = OPTION_TEXT, .value = "FILE", FIELD(key), .help = "Its private key, PEM" },
};
static const struct option_def limit_rows[] = {
    { .name = "max-http-req",
      .type = OPTION_UINT,
      .max = 1e12,
      .def = "8388608",
      FIELD(max_http_req),
      .help = "Bytes of a request's body; 0: no limit" },
    { .name = "max-http-rsp",
      .type = OPTION_UINT,
      .max = 1e12,
      .def = "1073741824",
      FIELD(max_http_rsp),
      .help = "Bytes of an answer; 0: no limit" },
    { .name = "http-read-timeout",
      .type = OPTION_UINT,
      .max = SECONDS_MAX,
      .def = "0",
      FIELD(http_read_timeout),
      .help = "Seconds; 0: none" },
    { .name = "http-write-timeout",
      .type = OPTION_UINT,
      .max = SECONDS_MAX,
      .def = "60",
      FIELD(http_write_timeout),
      .help = "Seconds; 0: none" },
    { .name = "max-rpc-req",
      .type = OPTION_UINT,
      .max = 2147483647,
      .def = "268435456",
      FIELD(max_rpc_req),
      .help = "Bytes of a request of the binary protocol" },
    { .name = "max-rpc-rsp",
      .type = OPTION_UINT,
      .max = 2147483647,
      .def = "1073741824",
      FIELD(max_rpc_rsp),
      .help = "Bytes of an answer of the binary protocol" },
    { .name = "max-rpc-connections",
      .type = OPTION_UINT,
      .max = 1e6,
      .def = "10000",
      FIELD(max_connections),
      .help = "Connections of the binary protocol" },
    { .name = "rpc-qr-idle-timeout",
      .type = OPTION_UINT,
      .max = SECONDS_MAX,
      .def = "600",
      FIELD(rpc_result_timeout),
      .help = "Seconds after which a result that is not fetched further is dropped" },
    { .name = "tx-idle-timeout",
      .type = OPTION_UINT,
      .max = SECONDS_MAX,
      .def = "600",
      FIELD(tx_idle_timeout),
      .help = "Seconds after which an unused transaction is rolled back" },
    { .name = "http-loops",
      .type = OPTION_UINT,
      .max = 1024,
      .def = "0",
      FIELD(loops),
      .help = "Event loops; 0: two per CPU" },
    { .name = "http-workers",
      .type = OPTION_UINT,
      .max = 1024,
      .def = "16",
      FIELD(workers),
      .help = "Threads for what may take long" },
    { .name = "threads",
      .type = OPTION_UINT,
      .max = 1024,
      .def = "0",
      FIELD(threads),
      .help = "Threads for index builds; 0: every CPU" },
};
static const struct option_def log_rows[] = {
    { .name = "loglevel",
      .letter = 'l',
      .type = OPTION_CHOICE,
      .choices = "none|error|warning|info|trace",
      .def = "info",
      FIELD(log_level),
      .help = "What is logged, on standard error" },
    { .name = "httplog",
      .type = OPTION_TEXT,
      .value = "WHERE",
      .def = "none",
      FIELD(http_log),
      .help = "Access log: stdout, or none" },
    { .name = "prometheus", .type = OPTION_FLAG, FIELD(with_prometheus), .help = "Serve /metrics" },
    { .name = "pidfile", .type = OPTION_TEXT, .value = "FILE", FIELD(pid_file), .help = "Written at start" },
};
/* Options of the original server that mean nothing here: read, so that start scripts keep working. */
static const struct option_def accepted_rows[] = {
#define ACCEPT(option, kind, field) \
    { .name = (option), .type = (kind), .max = 1e18, FIELD(field), .help = "" }
    { .name = "engine", .letter = 'e', .type = OPTION_TEXT, FIELD(unused_text), .help = "" },
    { .name = "webroot", .letter = 'w', .type = OPTION_TEXT, FIELD(unused_text), .help = "" },
    { .name = "pprof", .letter = 'f', .type = OPTION_FLAG, FIELD(unused_flag), .help = "" },
    { .name = "allocs", .letter = 'a', .type = OPTION_FLAG, FIELD(unused_flag), .help = "" },
    { .name = "rpc-threading", .letter = 'X', .type = OPTION_TEXT, FIELD(unused_text), .help = "" },
    ACCEPT("autorepair", OPTION_FLAG, unused_flag),
    ACCEPT("disable-ns-leak", OPTION_FLAG, unused_flag),
    ACCEPT("http-threading", OPTION_TEXT, unused_text),
    ACCEPT("urpc-threading", OPTION_TEXT, unused_text),
    ACCEPT("updatessize", OPTION_UINT, unused_number),
    ACCEPT("enable-cluster", OPTION_FLAG, unused_flag),
    ACCEPT("prometheus-period", OPTION_UINT, unused_number),
    ACCEPT("clientsstats", OPTION_FLAG, unused_flag),
    ACCEPT("serverlog", OPTION_TEXT, unused_text),
    ACCEPT("corelog", OPTION_TEXT, unused_text),
    ACCEPT("rpclog", OPTION_TEXT, unused_text),
    ACCEPT("allocator-cache-limit", OPTION_TEXT, unused_text),
    ACCEPT("allocator-cache-part", OPTION_TEXT, unused_text),
#undef ACCEPT
};
static const struct option_group groups[] = {
    { "Options", main_rows, ANX_COUNT_OF(main_rows), 0 },
    { "Security", security_rows, ANX_COUNT_OF(security_rows), 0 },
    { "Limits", limit_rows, ANX_COUNT_OF(limit_rows), 0 },
    { "Logs", log_rows, ANX_COUNT_OF(log_rows), 0 },
    { NULL, accepted_rows, ANX_COUNT_OF(accepted_rows), 0 },
};
static const struct option_text examples[] = {
    { "try it", "annex serve --db ./data" },
    { "for other machines, over TLS, with users", "annex serve --db /var/lib/annex --security --httpsaddr "
                                                  "0.0.0.0:9089 --ssl-cert cert.pem --ssl-key key.pem" },
    { "from a file of settings", "annex serve --config annex.yml" },
};
static const struct option_text sections[] = {
    { "SETTINGS",
      "Settings come from the command line, from RX_ variables of the environment, from the YAML file that "
      "--config names, and from the defaults; the first that says something wins. docs/operations.md lists "
      "the "
      "variables and the keys of the file." },
    { "SIGNALS", "SIGTERM and SIGINT end the server when the requests that run are answered; everything "
                 "acknowledged is on "
                 "the disk already. SIGHUP reads certificate and key again." },
};
const struct option_command serve_command = {
    .name = "annex serve",
    .summary = "Serves the document database over HTTP until SIGTERM or SIGINT.",
    .groups = groups,
    .n_group = ANX_COUNT_OF(groups),
    .examples = examples,
    .n_example = ANX_COUNT_OF(examples),
    .sections = sections,
    .n_section = ANX_COUNT_OF(sections),
};

static const struct {
    const char *section, *key, *variable, *option;
} sources[] = {
    { "storage", "path", "RX_DATABASE", "db" },
    { "storage", "engine", NULL, "engine" },
    { "storage", "startwitherrors", NULL, "startwitherrors" },
    { "storage", "durability", NULL, "durability" },
    { "net", "httpaddr", NULL, "httpaddr" },
    { "net", "httpsaddr", NULL, "httpsaddr" },
    { "net", "rpcaddr", NULL, "rpcaddr" },
    { "net", "rpcsaddr", NULL, "rpcsaddr" },
    { "net", "urpcaddr", NULL, "urpcaddr" },
    { "net", "ssl_cert", "RX_SSL_CERT", "ssl-cert" },
    { "net", "ssl_key", "RX_SSL_KEY", "ssl-key" },
    { "net", "webroot", NULL, "webroot" },
    { "net", "security", "RX_SECURITY", "security" },
    { "net", "http_threading", NULL, "http-threading" },
    { "net", "rpc_threading", NULL, "rpc-threading" },
    { "net", "urpc_threading", NULL, "urpc-threading" },
    { "net", "max_updates_size", NULL, "updatessize" },
    { "net", "maxupdatessize", NULL, "updatessize" },
    { "net", "max_http_req_size", "RX_MAX_HTTP_REQ", "max-http-req" },
    { "net", "max_http_body_size", NULL, "max-http-req" },
    { "net", "max_http_rsp_size", "RX_MAX_HTTP_RSP", "max-http-rsp" },
    { "net", "http_read_timeout", "RX_HTTP_READ_TIMEOUT", "http-read-timeout" },
    { "net", "http_write_timeout", "RX_HTTP_WRITE_TIMEOUT", "http-write-timeout" },
    { "net", "tx_idle_timeout", NULL, "tx-idle-timeout" },
    { "net", "rpc_qr_idle_timeout", "RX_RPC_QR_IDLE_TIMEOUT", "rpc-qr-idle-timeout" },
    { "indexing", "status", NULL, "indexing-status" },
    { "logger", "loglevel", "RX_LOGLEVEL", "loglevel" },
    { "logger", "serverlog", "RX_SERVERLOG", "serverlog" },
    { "logger", "corelog", "RX_CORELOG", "corelog" },
    { "logger", "httplog", "RX_HTTPLOG", "httplog" },
    { "logger", "rpclog", NULL, "rpclog" },
    { "metrics", "prometheus", "RX_PROMETHEUS", "prometheus" },
    { "metrics", "collect_period", NULL, "prometheus-period" },
    { "metrics", "clientsstats", NULL, "clientsstats" },
    { "system", "pidfile", NULL, "pidfile" },
    { "system", "allocator_cache_limit", NULL, "allocator-cache-limit" },
    { "system", "allocator_cache_part", NULL, "allocator-cache-part" },
    { "debug", "pprof", "RX_PPROF", "pprof" },
    { "debug", "allocs", NULL, "allocs" },
};
/* Known and without meaning here. */
static const char *const ignored[] = { "db.ns_leak", "net.grpc", "net.grpcaddr", "system.user",
                                       "system.daemonize" };

static enum options_result
set_from_file(const char *path, const char *section, const char *key, const char *value,
              struct serve_config *config)
{
    char origin[512], name[128];
    const char *copy = anx_arena_string(config->texts, anx_text_of(value));

    if (!copy)
        return OPTIONS_USAGE;
    snprintf(origin, sizeof(origin), "%s: %s.%s", path, section, key);
    for (size_t i = 0; i < ANX_COUNT_OF(sources); i++)
        if (strcmp(sources[i].section, section) == 0 && strcmp(sources[i].key, key) == 0)
            return options_set(&serve_command, sources[i].option, copy, origin, config);
    snprintf(name, sizeof(name), "%s.%s", section, key);
    for (size_t i = 0; i < ANX_COUNT_OF(ignored); i++)
        if (strcmp(ignored[i], name) == 0)
            return OPTIONS_RUN;
    fprintf(stderr, "annex serve: %s: unknown setting %s\n", path, name);
    return OPTIONS_USAGE;
}

/* Two levels of mappings with scalars, which is all that a settings file has. */
static enum options_result
read_document(const char *path, yaml_document_t *document, struct serve_config *config)
{
    yaml_node_t *root = yaml_document_get_root_node(document);

    if (!root)
        return OPTIONS_RUN;
    if (root->type != YAML_MAPPING_NODE) {
        fprintf(stderr, "annex serve: %s: not a mapping of sections\n", path);
        return OPTIONS_USAGE;
    }
    for (yaml_node_pair_t *s = root->data.mapping.pairs.start; s < root->data.mapping.pairs.top; s++) {
        yaml_node_t *section = yaml_document_get_node(document, s->key);
        yaml_node_t *body = yaml_document_get_node(document, s->value);

        if (section->type != YAML_SCALAR_NODE || body->type != YAML_MAPPING_NODE) {
            fprintf(stderr, "annex serve: %s: line %zu is not a section\n", path,
                    section->start_mark.line + 1);
            return OPTIONS_USAGE;
        }
        for (yaml_node_pair_t *p = body->data.mapping.pairs.start; p < body->data.mapping.pairs.top; p++) {
            yaml_node_t *key = yaml_document_get_node(document, p->key);
            yaml_node_t *value = yaml_document_get_node(document, p->value);

            if (key->type != YAML_SCALAR_NODE || value->type != YAML_SCALAR_NODE) {
                fprintf(stderr, "annex serve: %s: line %zu is not \"key: value\"\n", path,
                        key->start_mark.line + 1);
                return OPTIONS_USAGE;
            }
            if (set_from_file(path, (const char *) section->data.scalar.value,
                              (const char *) key->data.scalar.value, (const char *) value->data.scalar.value,
                              config) != OPTIONS_RUN)
                return OPTIONS_USAGE;
        }
    }
    return OPTIONS_RUN;
}

static enum options_result
read_file(const char *path, struct serve_config *config)
{
    FILE *file = fopen(path, "rb");
    yaml_parser_t parser;
    yaml_document_t document;
    enum options_result result = OPTIONS_USAGE;

    if (!file) {
        fprintf(stderr, "annex serve: cannot open %s: %s\n", path, strerror(errno));
        return OPTIONS_USAGE;
    }
    if (yaml_parser_initialize(&parser)) {
        yaml_parser_set_input_file(&parser, file);
        if (yaml_parser_load(&parser, &document)) {
            result = read_document(path, &document, config);
            yaml_document_delete(&document);
        } else {
            fprintf(stderr, "annex serve: %s: line %zu: %s\n", path, parser.problem_mark.line + 1,
                    parser.problem ? parser.problem : "not YAML");
        }
        yaml_parser_delete(&parser);
    }
    fclose(file);
    return result;
}

static enum options_result
read_environment(struct serve_config *config)
{
    for (size_t i = 0; i < ANX_COUNT_OF(sources); i++) {
        const char *value = sources[i].variable ? getenv(sources[i].variable) : NULL;
        bool is_switch = value && (strcmp(sources[i].option, "security") == 0 ||
                                   strcmp(sources[i].option, "prometheus") == 0 ||
                                   strcmp(sources[i].option, "pprof") == 0);

        if (!value || !*value)
            continue;
        if (options_set(&serve_command, sources[i].option, is_switch ? "true" : value, sources[i].variable,
                        config) != OPTIONS_RUN)
            return OPTIONS_USAGE;
    }
    return OPTIONS_RUN;
}

enum options_result
serve_config_read(int argc, char **argv, struct serve_config *config)
{
    enum options_result result = options_parse(&serve_command, argc, argv, config, NULL);

    config->texts = NULL;
    if (result == OPTIONS_RUN && config->config_path) {
        config->texts = anx_arena_create(NULL, 0);
        result = config->texts ? OPTIONS_RUN : OPTIONS_USAGE;
    }
    if (result == OPTIONS_RUN && config->config_path)
        result = read_file(config->config_path, config);
    if (result == OPTIONS_RUN)
        result = read_environment(config);
    if (result == OPTIONS_RUN)
        result = options_parse_over(&serve_command, argc, argv, config, NULL);
    return result;
}

void
serve_config_free(struct serve_config *config)
{
    anx_arena_destroy(config->texts);
    config->texts = NULL;
}
