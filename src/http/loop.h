/* Event loops and connections of the HTTP room: what server.c and connection.c share. */
#ifndef ANX_HTTP_LOOP_H
#define ANX_HTTP_LOOP_H

#include <event2/event.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>

#include "http/http_int.h"
#include "net/listen.h"

struct http_connection;

enum { HTTP_ARENAS_KEPT = 64, HTTP_READ_SIZE = 256 * 1024 };

/* A connection that was accepted and waits for the loop it was given to. */
struct http_arrival {
    struct http_arrival *next;
    int fd;
    bool is_secure;
    char client[ANX_ADDRESS_TEXT];
};

/* Everything but `lock`, what it guards, and `wake` belongs to the loop's thread. */
struct http_loop {
    struct http_server *server;
    pthread_t thread;
    struct event_base *base;
    int wake; /* eventfd: something is in `done` or `arrivals`, or the server stops */
    struct event *wake_event, *tick_event;
    pthread_mutex_t lock;
    struct http_request *done;     /* guarded by lock; answered by workers */
    struct http_arrival *arrivals; /* guarded by lock */
    atomic_size_t n_connection;
    struct http_connection *connections;
    anx_arena *arenas[HTTP_ARENAS_KEPT]; /* for the next requests */
    size_t n_arena;
    size_t n_busy; /* connections whose request is at a worker or whose answer is not sent yet */
    uint64_t now_s; /* of the last tick, monotonic */
    char date[32];  /* the header's value, at the last tick */
    char *scratch;  /* HTTP_READ_SIZE bytes, to read into */
    bool is_stopping;
    unsigned n_stopping_tick;
};

/* Takes over the arrival's socket; closes it when there is no memory. The arrival itself stays the caller's.
 */
void http_connection_open(struct http_loop *loop, const struct http_arrival *arrival);
void http_connection_close(struct http_connection *connection);
/* The request's answer is made: sends it, frees the request, goes on reading. On the loop's thread. */
void http_connection_answer(struct http_request *request);
/* Closes what has been silent for longer than the limits allow; when the loop stops, whatever is idle. */
void http_connections_sweep(struct http_loop *loop);

/* Queues the request for the worker pool (server.c). */
void http_hand_to_worker(struct http_request *request);

#endif
