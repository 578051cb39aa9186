/* The external indexing server: takes rows over the network, builds an index, sends the file back.
 *
 *     struct indexing_server_params params = INDEXING_SERVER_PARAMS_INIT;
 *     anx_indexing_server_start(&params, &server, &err);
 *     ... wait for a signal ...
 *     anx_indexing_server_drain(server);
 *     anx_indexing_server_wait(server, 30000);
 *     anx_indexing_server_destroy(server);
 *
 * README.md, "The server", says how it works: threads, locks, queues, memory, what a crash leaves.
 *
 * Threads: start and destroy by the owner; the others from any thread, not from a signal handler. */
#ifndef ANX_INDEXING_SERVER_H
#define ANX_INDEXING_SERVER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/status.h"
#include "indexing/status_http.h"

struct indexing_server;

/* Texts are borrowed until destroy. Zero means what the comment says. */
struct indexing_server_params {
    const char *host;    /* name or address to listen on, both ports */
    const char *tmp_dir;
    uint16_t port, status_port; /* 0: any free one */
    const char *cert, *key;     /* PEM files; both or none */
    const char *token_file;     /* NULL: everybody may build */
    bool allow_v1_without_token; /* original clients cannot show a token */
    const char *advertise; /* HOST:PORT that waiting clients of version 1 are sent to; NULL: where they are */
    size_t max_clients;    /* sessions at once */
    size_t max_queue;      /* clients in line */
    size_t max_builds;     /* graphs built at once */
    size_t max_memory;     /* bytes of all builds; 0: three quarters of the machine */
    size_t max_dim;        /* 0: what the protocol and the engine allow */
    size_t max_rows;       /* of one index; 0: what the engine allows */
    size_t threads;        /* of one build; 0: every CPU */
    unsigned idle_timeout_ms;   /* silence of a client that owes rows */
    unsigned send_timeout_ms;   /* a client takes nothing of what is sent */
    unsigned first_timeout_ms;  /* from accept to the request */
    unsigned resume_timeout_ms; /* a broken download is kept; 0: it is not */
    unsigned reserve_ms;        /* a slot waits for the client of version 1 that it was promised to */
};
#define INDEXING_SERVER_PARAMS_INIT                                                                 \
    {                                                                                               \
        .host = "0.0.0.0", .tmp_dir = "/tmp", .port = 8998, .status_port = 8999, .max_clients = 16, \
        .max_queue = 64, .max_builds = 2, .idle_timeout_ms = 60000, .send_timeout_ms = 60000,       \
        .first_timeout_ms = 10000, .resume_timeout_ms = 300000, .reserve_ms = 15000                 \
    }

/* Everything is open and served on return, or nothing is. Errors say which option, which value, what is
 * wrong: ANX_E_INVALID, ANX_E_NETWORK (a port), ANX_E_TLS, ANX_E_IO (a file or folder), ANX_E_NOMEM. */
ANX_NODISCARD anx_status anx_indexing_server_start(const struct indexing_server_params *params,
                                                   struct indexing_server **out, anx_error *err);
uint16_t anx_indexing_server_port(const struct indexing_server *server);
uint16_t anx_indexing_server_status_port(const struct indexing_server *server);
/* Reads certificate, key and token again. What cannot be read stays as it was; the log says so. */
void anx_indexing_server_reload(struct indexing_server *server);
/* No new clients, those in line are sent away, builds go on. */
void anx_indexing_server_drain(struct indexing_server *server);
/* Until no session is left; false when the time is up first. timeout_ms < 0: no limit. */
bool anx_indexing_server_wait(struct indexing_server *server, int timeout_ms);
/* Tells the sessions that are left to end: their clients get an error. */
void anx_indexing_server_stop(struct indexing_server *server);
/* drain, stop, wait, free. NULL is fine. */
void anx_indexing_server_destroy(struct indexing_server *server);
void anx_indexing_server_look(struct indexing_server *server, struct status_view *view);

#endif
