/* See queue.h. */
#include "indexing/queue.h"

#include <string.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"

anx_status
anx_queue_init(struct queue *queue, size_t n_slot, size_t max_waiting, anx_error *err)
{
    *queue = (struct queue) { .n_slot = n_slot, .max_waiting = max_waiting };
    queue->reserved = anx_alloc_zeroed(NULL, n_slot, sizeof(*queue->reserved));
    if (!queue->reserved)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a queue for %zu sessions", n_slot);
    queue->last = &queue->first;
    pthread_mutex_init(&queue->lock, NULL);
    return ANX_OK;
}

void
anx_queue_fini(struct queue *queue)
{
    if (!queue->reserved)
        return;
    ANX_ASSERT(queue->n_admitted == 0 && queue->n_waiting == 0);
    pthread_mutex_destroy(&queue->lock);
    anx_free(NULL, queue->reserved);
    queue->reserved = NULL;
}

static void
wake(const struct queue_ticket *ticket)
{
    static const uint64_t one = 1;

    /* An eventfd that is full is awake already. */
    if (ticket->wake_fd >= 0 && write(ticket->wake_fd, &one, sizeof(one)) < 0)
        return;
}

/* Takes the ticket out of the line, wherever it is; those behind it learn of their new place. */
static void
unlink_ticket(struct queue *queue, struct queue_ticket *ticket)
{
    struct queue_ticket **at = &queue->first;

    while (*at != ticket)
        at = &(*at)->next;
    *at = ticket->next;
    if (queue->last == &ticket->next)
        queue->last = at;
    for (struct queue_ticket *behind = *at; behind; behind = behind->next)
        wake(behind);
    ticket->next = NULL;
    ticket->is_waiting = false;
    queue->n_waiting--;
}

static bool
may_start(const struct queue *queue, size_t need)
{
    if (queue->is_closed || queue->n_admitted + queue->n_reserved >= queue->n_slot)
        return false;
    return queue->n_admitted == 0 || !queue->fits || queue->fits(queue->context, need);
}

static void
admit(struct queue *queue, struct queue_ticket *ticket)
{
    ticket->is_admitted = true;
    queue->n_admitted++;
}

static void
drop_reserved(struct queue *queue, size_t at)
{
    queue->reserved[at] = queue->reserved[--queue->n_reserved];
}

static void
advance_locked(struct queue *queue)
{
    uint64_t now = anx_clock_ns();

    for (size_t i = queue->n_reserved; i-- > 0;)
        if (queue->reserved[i].until_ns <= now)
            drop_reserved(queue, i);
    while (queue->first && may_start(queue, queue->first->need)) {
        struct queue_ticket *ticket = queue->first;

        unlink_ticket(queue, ticket);
        admit(queue, ticket);
        wake(ticket);
    }
}

static bool
take_reserved(struct queue *queue, const uint8_t key[16])
{
    for (size_t i = 0; key && i < queue->n_reserved; i++)
        if (memcmp(queue->reserved[i].key, key, 16) == 0) {
            drop_reserved(queue, i);
            return true;
        }
    return false;
}

static enum queue_answer
enter_locked(struct queue *queue, struct queue_ticket *ticket, const uint8_t key[16])
{
    if (queue->is_closed)
        return QUEUE_CLOSED;
    if (take_reserved(queue, key) || (!queue->first && may_start(queue, ticket->need))) {
        admit(queue, ticket);
        return QUEUE_ADMITTED;
    }
    if (queue->n_waiting >= queue->max_waiting)
        return QUEUE_FULL;
    *queue->last = ticket;
    queue->last = &ticket->next;
    queue->n_waiting++;
    ticket->is_waiting = true;
    return QUEUE_WAITING;
}

enum queue_answer
anx_queue_enter(struct queue *queue, struct queue_ticket *ticket, const uint8_t key[16], int wake_fd,
                size_t need)
{
    enum queue_answer answer;

    *ticket = (struct queue_ticket) { .wake_fd = wake_fd, .need = need };
    pthread_mutex_lock(&queue->lock);
    advance_locked(queue);
    answer = enter_locked(queue, ticket, key);
    pthread_mutex_unlock(&queue->lock);
    return answer;
}

bool
anx_queue_is_admitted(struct queue *queue, const struct queue_ticket *ticket)
{
    bool is_admitted;

    pthread_mutex_lock(&queue->lock);
    is_admitted = ticket->is_admitted;
    pthread_mutex_unlock(&queue->lock);
    return is_admitted;
}

size_t
anx_queue_position(struct queue *queue, const struct queue_ticket *ticket)
{
    size_t position = 0;

    pthread_mutex_lock(&queue->lock);
    if (ticket->is_waiting) {
        position = 1;
        for (const struct queue_ticket *before = queue->first; before != ticket; before = before->next)
            position++;
    }
    pthread_mutex_unlock(&queue->lock);
    return position;
}

void
anx_queue_leave(struct queue *queue, struct queue_ticket *ticket)
{
    pthread_mutex_lock(&queue->lock);
    if (ticket->is_waiting)
        unlink_ticket(queue, ticket);
    if (ticket->is_admitted) {
        ticket->is_admitted = false;
        queue->n_admitted--;
    }
    advance_locked(queue);
    pthread_mutex_unlock(&queue->lock);
}

void
anx_queue_reserve(struct queue *queue, struct queue_ticket *ticket, const uint8_t key[16],
                  unsigned timeout_ms)
{
    pthread_mutex_lock(&queue->lock);
    ANX_ASSERT(ticket->is_admitted);
    if (ticket->is_admitted) {
        struct queue_reserved *reserved = &queue->reserved[queue->n_reserved++];

        memcpy(reserved->key, key, 16);
        reserved->until_ns = anx_clock_ns() + timeout_ms * UINT64_C(1000000);
        ticket->is_admitted = false;
        queue->n_admitted--;
    }
    pthread_mutex_unlock(&queue->lock);
}

void
anx_queue_check(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    advance_locked(queue);
    pthread_mutex_unlock(&queue->lock);
}

void
anx_queue_close(struct queue *queue)
{
    pthread_mutex_lock(&queue->lock);
    queue->is_closed = true;
    for (struct queue_ticket *ticket = queue->first; ticket; ticket = ticket->next)
        wake(ticket);
    pthread_mutex_unlock(&queue->lock);
}

void
anx_queue_lengths(struct queue *queue, size_t *n_admitted, size_t *n_waiting)
{
    pthread_mutex_lock(&queue->lock);
    *n_admitted = queue->n_admitted + queue->n_reserved;
    *n_waiting = queue->n_waiting;
    pthread_mutex_unlock(&queue->lock);
}
