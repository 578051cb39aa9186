/* A namespace: documents by row id, the indexes over them, and the rules by which writers and readers share
 * it. Shared by the parts of this room; front ends use db.h.
 *
 * Threads. Two locks:
 *   write_lock  held by whoever changes the namespace (documents, indexes, meta), for the whole change
 *   data_lock   readers share it while they look at rows and indexes; a writer takes it exclusively only to
 *               publish a change that is already prepared (parsed, converted, vectors inserted)
 * Order: write_lock before data_lock; of several namespaces by address; never a store wait under data_lock.
 * A vector is inserted into its index before its document is published and removed after it is unpublished: a
 * search may see labels whose row is not (yet, or any more) there, and drops them.
 *
 * Row ids: a freed id is reused, the latest first; an empty namespace starts at 0 again. */
#ifndef ANX_DB_NS_H
#define ANX_DB_NS_H

#include <pthread.h>
#include <roaring/roaring.h>
#include <stdatomic.h>

#include "db/db.h"
#include "db/index_def.h"
#include "doc/doc.h"
#include "query/query.h"
#include "store/store.h"

struct ns_index;

/* ---- Rows (rows.c) ---- */
struct row_table; /* row id -> document; ids are dense */
struct doc rows_get(const struct row_table *rows, uint32_t row); /* bytes NULL: no such row */
/* Grows with every version of every document of the process; 0: no such row. */
uint64_t rows_version(const struct row_table *rows, uint32_t row);
uint64_t rows_next_version(void); /* for changes that leave no document */
uint32_t rows_end(const struct row_table *rows);                 /* ids are below */
uint32_t rows_count(const struct row_table *rows);
const roaring_bitmap_t *rows_all(const struct row_table *rows); /* borrowed */

/* ---- Scalar indexes: hash, tree, -, ttl, and composites of them (scalar.c) ---- */
struct scalar_index;
/* Rows whose value satisfies the condition, added to *out. values are already converted to the index's type.
 * For arrays any element counts (ALLSET: every value is there). NULL among the values of EQ and SET means
 * "or is null". COND_ANY and COND_EMPTY take no values. */
ANX_NODISCARD anx_status scalar_select(const struct scalar_index *index, enum query_condition condition,
                                       const struct values *values, roaring_bitmap_t *out, anx_error *err);
/* About how many rows that would be: cheap, at most twice off for EQ and SET. */
size_t scalar_estimate(const struct scalar_index *index, enum query_condition condition,
                       const struct values *values);
/* The values of a row (borrowed until data_lock is released); n 0 for null. One value for scalars: the
 * default (0,
 * "", ...) where the document has none and the index is not sparse. */
struct values scalar_values(const struct scalar_index *index, uint32_t row, struct value *storage);
/* Does the row satisfy the condition? Same meaning as scalar_select. */
bool scalar_match(const struct scalar_index *index, uint32_t row, enum query_condition condition,
                  const struct values *values);
/* Rows in order of their value, until each returns false. Ascending: nulls first, equal values by ascending
 * row id; descending is exactly the reverse. Only where scalar_is_ordered (not for arrays and "-"). */
bool scalar_is_ordered(const struct scalar_index *index);
void scalar_walk(const struct scalar_index *index, bool is_descending,
                 bool (*each)(void *context, uint32_t row), void *context);
/* The row of a unique value (the primary key); false when there is none. */
bool scalar_find(const struct scalar_index *index, const struct value *value, uint32_t *row);
size_t scalar_memory(const struct scalar_index *index);
size_t scalar_unique(const struct scalar_index *index);

/* ---- Vector indexes (vector.c) ---- */
struct vector_index;
struct vector_hit {
    uint32_t row;
    float rank; /* as users see it: squared distance, dot product, cosine similarity */
};
/* The k nearest (or all inside the radius), best first, equal ranks by row id; each row once (its best
 * vector; array fields may so give fewer than k). allowed: NULL or the only rows that may be returned; then
 * within, if not 0 (hnsw, no arrays), leaves only those among the `within` nearest of all rows. Checks the
 * parameters and gives the errors of KNN conditions. hits from the arena. */
ANX_NODISCARD anx_status vector_search(const struct vector_index *index, const struct query_knn *knn,
                                       const roaring_bitmap_t *allowed, size_t within,
                                       const struct db_session *session, anx_arena *arena,
                                       struct vector_hit **hits, size_t *n, anx_error *err);
/* Next nearest without a limit (streaming search); hnsw only. */
struct vector_stream;
ANX_NODISCARD anx_status vector_stream_open(const struct vector_index *index, const struct query_knn *knn,
                                            struct vector_stream **out, anx_error *err);
ANX_NODISCARD anx_status vector_stream_next(struct vector_stream *stream, struct vector_hit *hits, size_t max,
                                            size_t *n, anx_error *err);
void vector_stream_close(struct vector_stream *stream);
/* The vectors of a row as they were written; floats from the arena. */
bool vector_get(const struct vector_index *index, uint32_t row, uint32_t n, anx_arena *arena,
                struct doc_vectors *out);
bool vector_better(const struct vector_index *index, float a, float b); /* is rank a better than b? */
/* Rows that satisfy EMPTY (no vector, or an empty element in an array) and ANY (at least one element).
 * Borrowed until data_lock is released. */
const roaring_bitmap_t *vector_rows_empty(const struct vector_index *index);
const roaring_bitmap_t *vector_rows_any(const struct vector_index *index);

/* ---- Full-text indexes (text_rows.c) ---- */
struct row_texts;
struct text_index;
const struct text_index *row_texts_index(const struct row_texts *texts);
/* Which field of the index has this path? False: none. */
bool row_texts_find_field(const struct row_texts *texts, const struct doc_path *path, size_t *field);
/* Its paths one by one, with their fields; NULL behind the last. */
const struct doc_path *row_texts_path(const struct row_texts *texts, size_t i, size_t *field);

/* ---- The namespace ---- */
struct ns_index {
    struct index_def *def; /* owned */
    struct scalar_index *scalar; /* owned; NULL for vector, text and rtree indexes */
    struct vector_index *vector; /* owned; NULL for others */
    struct row_texts *text;      /* owned; NULL for others */
    uint32_t vector_field;       /* place among vector fields */
    uint32_t first_field;        /* first of its fields in the shape; a composite has none */
    struct collation collation;
    uint16_t *custom_order;      /* owned; what collation.custom points to, or NULL */
};
struct ns {
    struct database *database;
    char *name;            /* owned; changed under both locks and the database's list_lock, read under any */
    bool is_persistent;    /* storage.enabled */
    pthread_mutex_t write_lock;
    pthread_rwlock_t data_lock;
    /* Changed under both locks; read under either. */
    struct ns_index *indexes; /* owned [n_index] */
    size_t n_index;
    size_t pk; /* place of the primary key, SIZE_MAX for none */
    struct doc_shape shape; /* of all indexes; fields owned */
    size_t n_vector_field;
    struct row_table *rows;
    struct doc_names *names;
    char *schema; /* owned, may be NULL */
    struct ns_meta *meta;      /* owned */
    struct store_table *table; /* NULL when not persistent */
    struct pending *pending;   /* owned; vectors on their way to the store; NULL without quantized indexes */
    atomic_int strict_mode;    /* enum query_strict, from #config */
    _Atomic uint32_t references;
    bool is_dropped;           /* changed under both locks */
    enum { NS_ORDINARY, NS_CONFIG, NS_STATS } kind;
    int32_t state_token;       /* of the dictionary, for binary clients: another one, other numbers */
    int64_t incarnation;       /* of the object: rows and versions of another one are others */
    uint32_t id;               /* in the store; never used again within a database */
    uint32_t n_name_stored;    /* names of the dictionary that are in the store; write_lock */
    /* For the index files: changes so far, and when the last one was. Written under write_lock. */
    _Atomic uint64_t n_change, changed_ns;
    _Atomic uint64_t n_change_saved; /* of the files; written under write_lock; UINT64_MAX: they are old */
    uint64_t saved_ns;               /* of the files; write_lock */
};
/* What binary clients need to read documents: number `nsid`, name, dictionary with its identity, fields.
 * lock: takes data_lock shared; otherwise the caller has it or write_lock. */
void ns_print_types(struct ns *ns, size_t nsid, bool lock, anx_buffer *out);
/* The identity of the dictionary: another one, or a longer one, gives another number. */
int32_t ns_types_version(const struct ns *ns);
/* Index by name (any case), or by JSON path where exactly one index has it; NULL. */
struct ns_index *ns_index_find(const struct ns *ns, anx_text name);
/* What a name in a query means: a path that is one of several of an index stands for itself alone. */
struct ns_index *ns_index_of_query(const struct ns *ns, anx_text name);

#endif
