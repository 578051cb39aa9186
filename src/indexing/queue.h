/* Admission: at most n_slot at once, the others in line, first come first served. The server has two: one for
 * sessions and one for graph builds.
 *
 *     switch (anx_queue_enter(&queue, &ticket, key, wake_fd, need)) {
 *     case QUEUE_ADMITTED: ...                            go on
 *     case QUEUE_WAITING:                                 sleep on wake_fd (and the socket), then ask:
 *         while (!anx_queue_is_admitted(&queue, &ticket)) ...
 *     case QUEUE_FULL: ...                                refuse
 *     }
 *     anx_queue_leave(&queue, &ticket);                       always, in whatever state
 *
 * A slot can be handed to a peer who will come back: anx_queue_reserve keeps it for the next one who enters
 * with the same key, for a limited time. Whoever waits runs anx_queue_check about once a second, which is
 * what lets reservations run out: there is no thread for it, and when nobody waits nobody is kept out by one.
 *
 * Threads: everything takes the queue's own lock, a leaf: nothing is called with it held but `fits`, which
 * must not block. */
#ifndef ANX_INDEXING_QUEUE_H
#define ANX_INDEXING_QUEUE_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "annex/status.h"

enum queue_answer { QUEUE_ADMITTED, QUEUE_WAITING, QUEUE_FULL, QUEUE_CLOSED };

struct queue_ticket { /* the owner's storage; fields under the queue's lock */
    struct queue_ticket *next;
    int wake_fd; /* the owner's eventfd, written when the ticket is admitted or its place changed */
    size_t need;
    bool is_waiting, is_admitted;
};

struct queue_reserved {
    uint8_t key[16];
    uint64_t until_ns;
};

struct queue {
    pthread_mutex_t lock; /* of all below but the limits */
    size_t n_slot, max_waiting; /* immutable */
    /* The first in line may start beside those already admitted? Not asked when nobody is admitted, so that
     * need can delay but never stop. NULL: always. Immutable. */
    bool (*fits)(void *context, size_t need);
    void *context;
    size_t n_admitted, n_waiting, n_reserved;
    struct queue_ticket *first, **last;
    struct queue_reserved *reserved; /* [n_slot], owned */
    bool is_closed;
};

ANX_NODISCARD anx_status anx_queue_init(struct queue *queue, size_t n_slot, size_t max_waiting,
                                        anx_error *err);
void anx_queue_fini(struct queue *queue); /* no ticket may be in it */

/* key: who it is, for reservations; NULL: nobody in particular. wake_fd is borrowed until anx_queue_leave. */
enum queue_answer anx_queue_enter(struct queue *queue, struct queue_ticket *ticket, const uint8_t key[16],
                              int wake_fd, size_t need);
bool anx_queue_is_admitted(struct queue *queue, const struct queue_ticket *ticket);
/* 1 for the next to be admitted; 0 when the ticket does not wait. */
size_t anx_queue_position(struct queue *queue, const struct queue_ticket *ticket);
/* Gives back the slot or the place in line. A zeroed or already left ticket is fine. */
void anx_queue_leave(struct queue *queue, struct queue_ticket *ticket);
/* The slot of an admitted ticket now waits for `key`; the ticket is out. */
void anx_queue_reserve(struct queue *queue, struct queue_ticket *ticket, const uint8_t key[16],
                   unsigned timeout_ms);
/* Drops reservations that ran out and admits whom it can. */
void anx_queue_check(struct queue *queue);
/* From now on nobody is admitted, and anx_queue_enter says QUEUE_CLOSED; those who wait are woken. */
void anx_queue_close(struct queue *queue);
void anx_queue_lengths(struct queue *queue, size_t *n_admitted, size_t *n_waiting);

#endif
