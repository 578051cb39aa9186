/* The server's parts: loops, what travels between threads. server.c and clients.c only. */
#ifndef ANX_RPC_SERVER_INT_H
#define ANX_RPC_SERVER_INT_H

#include <event2/listener.h>
#include <pthread.h>
#include <stdatomic.h>

#include "net/listen.h"
#include "rpc/rpc_int.h"

/* What comes to a loop from elsewhere: answers, or a new socket. */
struct chunk {
    struct chunk *next;
    struct rpc_connection *connection; /* NULL: a socket, or an event */
    uint64_t subscriber; /* an event: the connection's number, since it may be gone when the event arrives */
    anx_buffer out;
    struct rpc_rows *tail;
    size_t tail_start, tail_size, foot_size;
    uint8_t foot[32];
    bool is_last;    /* the worker is done with the connection */
    bool must_close;
    int fd;
    bool is_secure;
    char client[64];
};

struct rpc_loop {
    struct rpc_server *server;
    pthread_t thread;
    struct event_base *base;
    struct evconnlistener *listeners[2 * ANX_LISTEN_MAX + 1];
    size_t n_listener;
    struct event *wake_event, *sweep_event;
    int wake; /* eventfd */
    pthread_mutex_t lock;
    struct chunk *chunks, **chunks_end; /* guarded by lock */
    struct rpc_connection *connections; /* loop thread only, as the next */
    bool is_stopping;
    anx_buffer out; /* of calls on the loop */
};
struct rpc_server {
    struct rpc_params params;
    struct anx_listen plain, secure;
    int unix_fd; /* -1: none */
    struct rpc_loop *loops;
    size_t n_loop; /* running */
    struct anx_workers *workers;
    pthread_mutex_t clients_lock;
    struct rpc_connection *clients; /* guarded by clients_lock */
    _Atomic size_t next_loop, n_connection;
    _Atomic uint64_t last_id;
    atomic_bool is_stopping;
};

/* The rows of #clientsstats: those of one database, because others are none of its users' business.
 * A callback of engine_set_clients; context is the server. */
void rpc_clients_print(void *context, struct database *db, anx_buffer *out);

#endif
