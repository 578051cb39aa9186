/* Pending vectors: a list in the order of submission, found through a small hash table with chains. */
#include "db/pending.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"

enum { N_CHAIN = 4096 }; /* at most a few batches of rows are pending at a time */

struct entry {
    struct entry *newer;  /* in order of submission */
    struct entry *chain;  /* newest first, so that a search finds the latest */
    uint64_t ticket;      /* UINT64_MAX: not submitted yet */
    uint32_t vector_field, row, generation, n, dim;
    float floats[];
};
struct pending {
    pthread_mutex_t lock;
    struct entry *oldest, *newest;
    struct entry *chains[N_CHAIN];
    uint64_t submitted, published; /* tickets */
    size_t bytes;
    atomic_size_t n; /* read without the lock by searches, which mostly find nothing here */
    bool failed;
};

struct pending *
pending_create(void)
{
    struct pending *pending = anx_alloc_zeroed(NULL, 1, sizeof(*pending));

    if (pending)
        pthread_mutex_init(&pending->lock, NULL);
    return pending;
}

void
pending_destroy(struct pending *pending)
{
    if (!pending)
        return;
    for (struct entry *entry = pending->oldest; entry;) {
        struct entry *newer = entry->newer;

        anx_free(NULL, entry);
        entry = newer;
    }
    pthread_mutex_destroy(&pending->lock);
    anx_free(NULL, pending);
}

static struct entry **
chain_of(struct pending *pending, uint32_t vector_field, uint32_t row)
{
    return &pending->chains[(row + vector_field * 977u) % N_CHAIN];
}

void
pending_put(struct pending *pending, uint32_t vector_field, uint32_t row, uint32_t generation,
            const struct doc_vectors *vectors)
{
    size_t size = (size_t) vectors->n * vectors->dim * sizeof(float);
    struct entry *entry = anx_alloc_bytes(NULL, sizeof(*entry) + size);
    struct entry **chain;

    if (!entry) {
        pthread_mutex_lock(&pending->lock);
        pending->failed = true;
        pthread_mutex_unlock(&pending->lock);
        return;
    }
    *entry = (struct entry) { .ticket = UINT64_MAX,
                              .vector_field = vector_field,
                              .row = row,
                              .generation = generation,
                              .n = vectors->n,
                              .dim = vectors->dim };
    if (size > 0)
        memcpy(entry->floats, vectors->floats, size);
    pthread_mutex_lock(&pending->lock);
    chain = chain_of(pending, vector_field, row);
    entry->chain = *chain;
    *chain = entry;
    if (pending->newest)
        pending->newest->newer = entry;
    else
        pending->oldest = entry;
    pending->newest = entry;
    pending->bytes += sizeof(*entry) + size;
    atomic_fetch_add(&pending->n, 1);
    pthread_mutex_unlock(&pending->lock);
}

bool
pending_check(struct pending *pending)
{
    bool is_fine;

    pthread_mutex_lock(&pending->lock);
    is_fine = !pending->failed;
    pending->failed = false;
    pthread_mutex_unlock(&pending->lock);
    return is_fine;
}

static void
forget(struct pending *pending, struct entry **at)
{
    struct entry *entry = *at;
    struct entry **link = chain_of(pending, entry->vector_field, entry->row);

    while (*link != entry)
        link = &(*link)->chain;
    *link = entry->chain;
    *at = entry->newer;
    pending->bytes -= sizeof(*entry) + (size_t) entry->n * entry->dim * sizeof(float);
    atomic_fetch_sub(&pending->n, 1);
    anx_free(NULL, entry);
}

/* Entries without a ticket are the newest ones. */
void
pending_submitted(struct pending *pending, uint64_t ticket)
{
    struct entry *last = NULL;

    pthread_mutex_lock(&pending->lock);
    pending->published = pending->submitted;
    for (struct entry **at = &pending->oldest; *at;) {
        if ((*at)->ticket == UINT64_MAX && ticket == 0) {
            forget(pending, at);
            continue;
        }
        if ((*at)->ticket == UINT64_MAX)
            (*at)->ticket = ticket;
        last = *at;
        at = &(*at)->newer;
    }
    pending->newest = last;
    if (ticket > pending->submitted)
        pending->submitted = ticket;
    pthread_mutex_unlock(&pending->lock);
}

void
pending_published(struct pending *pending)
{
    pthread_mutex_lock(&pending->lock);
    pending->published = pending->submitted;
    pthread_mutex_unlock(&pending->lock);
}

void
pending_settle(struct pending *pending, uint64_t durable)
{
    pthread_mutex_lock(&pending->lock);
    while (pending->oldest && pending->oldest->ticket <= durable
           && pending->oldest->ticket <= pending->published)
        forget(pending, &pending->oldest);
    if (!pending->oldest)
        pending->newest = NULL;
    pthread_mutex_unlock(&pending->lock);
}

bool
pending_get(struct pending *pending, uint32_t vector_field, uint32_t row, uint32_t generation,
            uint32_t position, float *out)
{
    bool found = false;

    if (atomic_load(&pending->n) == 0)
        return false;
    pthread_mutex_lock(&pending->lock);
    for (const struct entry *entry = *chain_of(pending, vector_field, row); entry; entry = entry->chain) {
        if (entry->row != row || entry->vector_field != vector_field || entry->generation != generation)
            continue;
        found = position < entry->n;
        if (found)
            memcpy(out, entry->floats + (size_t) position * entry->dim, entry->dim * sizeof(float));
        break;
    }
    pthread_mutex_unlock(&pending->lock);
    return found;
}

size_t
pending_bytes(struct pending *pending)
{
    size_t bytes;

    pthread_mutex_lock(&pending->lock);
    bytes = pending->bytes;
    pthread_mutex_unlock(&pending->lock);
    return bytes;
}
