/* One build: a thread that takes rows while they arrive and then makes the index.
 *
 *     anx_builder_create(&params, &builder, &err);
 *     while (rows come) {
 *         anx_builder_batch(builder, &batch, &err);        an empty batch; waits when the builder lags
 *         ... fill batch->labels, batch->rows, batch->n ...
 *         anx_builder_put(builder, batch);
 *     }
 *     anx_builder_finish(builder);
 *     while (anx_builder_state(builder) == BUILDER_BUSY) ...   sleep on the wake_fd given
 *     index = anx_builder_index(builder, &err);
 *     anx_builder_destroy(builder);
 *
 * The session's thread talks to the network and fills batches; the builder's thread gives them to the engine,
 * waits for its turn (the queue of builds) and builds. So rows are taken off the network while earlier rows
 * are encoded, and the network is listened to while the graph is built.
 *
 * Batches go round: BATCHES_USUAL of about 256 KiB. When none has come back for a while, one more is made, at
 * the cost of the build's memory account: a client of version 1 gives up when its writes stall for 10 s, so
 * reception never stops that long while there is memory.
 *
 * Threads: the calls are the session's, one thread; what they share with the builder's thread is under the
 * builder's lock. */
#ifndef ANX_INDEXING_BUILDER_H
#define ANX_INDEXING_BUILDER_H

#include "annex/index.h"
#include "indexing/budget.h"
#include "indexing/jobs.h"
#include "indexing/queue.h"

struct builder;

struct batch {
    struct batch *next;
    size_t n, capacity;
    uint64_t *labels; /* [capacity] */
    uint8_t *rows;    /* [capacity rows of the index] */
};

struct builder_params {
    anx_index_params index; /* alloc is set by the builder */
    size_t expected;        /* rows, a hint */
    struct budget *budget;  /* borrowed */
    struct queue *builds;   /* borrowed: whose turn it is */
    struct jobs *jobs;      /* borrowed */
    struct job *job;        /* borrowed until destroy */
    int wake_fd;            /* borrowed: written when the state changes */
    bool is_tid;            /* labels are PostgreSQL's, for messages */
};

enum builder_state { BUILDER_BUSY, BUILDER_DONE, BUILDER_FAILED };

/* Errors: those of anx_index_create, ANX_E_LIMIT, ANX_E_NOMEM. On failure *out is NULL. */
ANX_NODISCARD anx_status anx_builder_create(const struct builder_params *params, struct builder **out,
                                            anx_error *err);
/* An empty batch with room for at least one row. Errors: that of the builder's thread when it has failed,
 * ANX_E_LIMIT. */
ANX_NODISCARD anx_status anx_builder_batch(struct builder *builder, struct batch **out, anx_error *err);
/* Takes the batch, which may be empty. */
void anx_builder_put(struct builder *builder, struct batch *batch);
/* No rows follow: build. */
void anx_builder_finish(struct builder *builder);
enum builder_state
anx_builder_state(struct builder *builder, anx_error *err); /* err: of FAILED; may be NULL */
/* The index, when the state is DONE; owned by the builder. */
const anx_index *anx_builder_index(const struct builder *builder);
size_t anx_builder_peak(const struct builder *builder); /* bytes */
/* Cancels what is going on, waits for the thread, frees all. NULL is fine. */
void anx_builder_destroy(struct builder *builder);

/* "row 17 (block 0, offset 17)" or "row 17". */
#define BUILDER_LABEL_SIZE 80
void anx_builder_label_text(uint64_t label, bool is_tid, char text[BUILDER_LABEL_SIZE]);

#endif
