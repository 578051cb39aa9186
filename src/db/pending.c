/* Pending vectors: a list in the order of submission, found through a small hash table with chains. */
#include "db/pending.h"

#include <pthread.h>
#include <string.h>

#include "base/alloc.h"

enum { N_CHAIN = 4096 }; /* at most a few batches of rows are pending at a time */

struct entry {
    struct entry *newer;  /* in order of submission */
    struct entry *chain;  /* newest first, so that a search finds the latest */
    uint64_t ticket;      /* UINT64_MAX: not submitted yet */
    uint32_t vector_field, row, n, dim;
    float floats[];
};
struct pending {
    pthread_mutex_t lock;
    struct entry *oldest, *newest;
    struct entry *chains[N_CHAIN];
    size_t bytes;
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
pending_put(struct pending *pending, uint32_t vector_field, uint32_t row, const struct doc_vectors *vectors)
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

/* Entries without a ticket are the newest ones; there are as many as the batch has rows. */
void
pending_submitted(struct pending *pending, uint64_t ticket)
{
    pthread_mutex_lock(&pending->lock);
    for (struct entry *entry = pending->oldest; entry; entry = entry->newer)
        if (entry->ticket == UINT64_MAX)
            entry->ticket = ticket;
    pthread_mutex_unlock(&pending->lock);
}

void
pending_settle(struct pending *pending, uint64_t durable)
{
    pthread_mutex_lock(&pending->lock);
    while (pending->oldest && pending->oldest->ticket <= durable) {
        struct entry *entry = pending->oldest;
        struct entry **link = chain_of(pending, entry->vector_field, entry->row);

        while (*link != entry)
            link = &(*link)->chain;
        *link = entry->chain;
        pending->oldest = entry->newer;
        if (!pending->oldest)
            pending->newest = NULL;
        pending->bytes -= sizeof(*entry) + (size_t) entry->n * entry->dim * sizeof(float);
        anx_free(NULL, entry);
    }
    pthread_mutex_unlock(&pending->lock);
}

int
pending_get(struct pending *pending, uint32_t vector_field, uint32_t row, uint32_t position, float *out)
{
    int found = 0;

    pthread_mutex_lock(&pending->lock);
    for (const struct entry *entry = *chain_of(pending, vector_field, row); entry && !found;
         entry = entry->chain) {
        if (entry->row != row || entry->vector_field != vector_field)
            continue;
        found = position < entry->n ? 1 : -1;
        if (found > 0)
            memcpy(out, entry->floats + (size_t) position * entry->dim, entry->dim * sizeof(float));
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
