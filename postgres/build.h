/* What the builds share. build.c: what every CREATE INDEX and REINDEX begins with, work that runs beside the
 * backend, and a finished graph going into pages. build_local.c: graphs made here. build_external.c: graphs
 * made by an indexing server, which graph_import.c reads when the server is an original one. */
#ifndef ANX_POSTGRES_BUILD_H
#define ANX_POSTGRES_BUILD_H

#include "ann/graph_stream.h"
#include "lantern.h"
#include "pages.h"

/* A build in progress. It lives in a memory context of its own, whose deletion frees what the engine holds,
 * so an error at any place leaves nothing behind. */
struct build {
    Relation heap, index;
    IndexInfo *info;
    struct anx_pg_column column;
    MemoryContext context;
    MemoryContext row_context; /* reset after every row */
    uint32 dim;                /* elements; 0 until the first row, when nothing declares it */
    double n_heap;             /* heap tuples seen */
    uint64 n_row;              /* rows indexed */
};

void build_init(struct build *build, Relation heap, Relation index, IndexInfo *info, MemoryContext context);
/* The value of a row, in row_context; false: NULL. Learns the dimension from the first one, and raises when
 * another differs. */
bool build_vector(struct build *build, const Datum *values, const bool *isnull, struct anx_pg_vector *out);
/* After the scan: raises when no row and no option says what the dimension is. */
void build_check_dim(const struct build *build);
/* Scans the heap in pieces, spread so that the first rows speak for all: codes are fitted on them, and tables
 * are often sorted by something. between (may be NULL) is called after each piece. */
void build_scan(struct build *build, IndexBuildCallback row, void *context, void (*between)(void *context));
/* Rows that the table may have; 0: none for certain. */
uint64 build_estimate(Relation heap);

/* A heap tuple's place as a label of the engine: the bytes of an ItemPointerData. */
static inline uint64
build_label(const ItemPointerData *tid)
{
    uint64 label = 0;

    memcpy(&label, tid, sizeof(*tid));
    return label;
}
/* False: no place in a table of so many blocks. */
bool build_tid(uint64 label, BlockNumber n_block, ItemPointerData *out);
/* A sum over labels in any order: equal for equal sets, and for different ones but once in 2^64. */
static inline uint64
build_label_sum(uint64 label)
{
    label = (label ^ (label >> 30)) * UINT64CONST(0xbf58476d1ce4e5b9);
    label = (label ^ (label >> 27)) * UINT64CONST(0x94d049bb133111eb);
    return label ^ (label >> 31);
}

/* What the labels of a graph must be. */
struct build_expect {
    uint32 dim;
    uint64 n_row, label_sum;
    BlockNumber n_block; /* of the heap */
    /* Raises when reading the stream failed; NULL: anx_pg_check. */
    void (*check)(void *context, anx_status status, const anx_error *err);
    void *check_context;
};
/* Writes a whole graph into the pages of an index. Raises ERRCODE_DATA_CORRUPTED when it is not the graph
 * that was asked for; `stream` is the caller's to close, through its memory context. */
void build_take(Relation index, struct graph_stream *stream, const struct build_expect *expect);

/* Runs fn on a thread of its own while the backend looks after interrupts, and shows done of total rows as
 * progress of this phase. fn must return soon after is_stopped becomes true, must not call the server, and
 * has ended when this returns. A pending interrupt is served afterwards by the caller (anx_pg_check does). */
struct build_work {
    anx_status (*fn)(struct build_work *work, anx_error *err);
    void *context;
    pg_atomic_uint32 is_stopped, is_done;
    pg_atomic_uint64 done, total;
};
anx_status build_run(struct build_work *work, enum anx_pg_phase phase, anx_error *err);
/* An anx_progress_fn whose context is a struct build_work. */
bool build_progress(void *context, const char *phase, size_t done, size_t total);
/* Did somebody ask this backend to stop? Does not raise. */
bool build_is_interrupted(void);

/* Frees an engine object when a memory context goes. */
void build_on_reset(MemoryContext context, void (*destroy)(void *object), void *object);
void build_own_stream(MemoryContext context, struct graph_stream *stream);

/* A graph being made here: rows go in, pages come out. What the engine holds goes with `context`. */
struct build_graph {
    MemoryContext context;
    anx_index *engine;
    anx_loader *loader; /* NULL once the graph was made */
    uint32 dim, entry_max;
    uint64 n_row, label_sum;
};
/* Over rows as `meta` has them, with this dimension. *out must live as long as the context. */
void build_graph_begin(struct build_graph *out, const struct pages_meta *meta, uint32 dim, size_t threads,
                       uint64 expected, MemoryContext context);
void build_graph_row(struct build_graph *graph, const ItemPointerData *tid, const void *row);
/* Makes the graph and writes it into the pages of the index; n_block: of the heap. */
void build_graph_finish(struct build_graph *graph, Relation index, BlockNumber n_block);
/* Threads that a build may use. */
size_t build_threads(void);

void build_local(struct build *build);
void build_external(struct build *build);

#endif
