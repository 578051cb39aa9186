/* The settings of `annex serve`: command line, then RX_ variables, then the YAML file, then the defaults; the
 * first that says something wins. */
#ifndef ANX_CLI_SERVE_CONFIG_H
#define ANX_CLI_SERVE_CONFIG_H

#include <stdbool.h>
#include <stddef.h>

#include "base/arena.h"
#include "cli/options.h"

#define SERVE_HTTPS_ADDRESS "127.0.0.1:9089" /* where nobody said anything else */
#define SERVE_RPCS_ADDRESS "127.0.0.1:6535"

struct serve_config {
    anx_arena *texts; /* of the settings file; NULL without one */
    const char *config_path;
    const char *db_path, *http_address, *https_address, *rpc_address, *rpcs_address, *unix_rpc_address;
    const char *cert, *key, *pid_file, *indexing_status, *unused_text;
    int durability, log_level;
    size_t max_http_req, max_http_rsp, http_read_timeout, http_write_timeout, tx_idle_timeout;
    size_t max_rpc_req, max_rpc_rsp, rpc_result_timeout;
    size_t loops, workers, max_connections, threads, unused_number;
    bool start_with_errors, is_secure, with_prometheus, with_access_log, unused_flag;
    int unused_choice;
    const char *http_log;
};

enum { SERVE_LOG_NONE, SERVE_LOG_ERROR, SERVE_LOG_WARNING, SERVE_LOG_INFO, SERVE_LOG_TRACE };

/* Fills *config, which is freed whatever the result. Texts point into argv, the environment, or `texts`. */
enum options_result serve_config_read(int argc, char **argv, struct serve_config *config);
void serve_config_free(struct serve_config *config);

#endif
