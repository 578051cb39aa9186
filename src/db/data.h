/* The data of a namespace as its writers see it: rows, scalar indexes, vector indexes, and items, which put a
 * document into all of them at once. What readers use is in ns.h.
 *
 * Publishing is in three steps, so that readers are stopped only for the middle one and a failure leaves
 * nothing behind:
 *
 *     items_add(&items, &draft, row or ITEM_NEW_ROW, &item, &err);     write_lock: takes row ids, copies
 *     items_insert_vectors(&items, &err);                              write_lock: every core, no data_lock
 *     items_publish(&items, &done, &err);                              takes data_lock exclusively by itself
 *     items_fini(&items);                                              gives back what was not published
 *
 * Threads: all calls by the holder of write_lock; those marked "data_lock" need it too (exclusively), unless
 * nobody else knows the namespace yet. */
#ifndef ANX_DB_DATA_H
#define ANX_DB_DATA_H

#include "db/ns.h"
#include "text/text.h"

/* ---- Rows (rows.c) ---- */

struct row_table *rows_create(void); /* NULL: out of memory */
void rows_destroy(struct row_table *rows); /* NULL is fine */
/* Stores a copy of the document at a row: a new version, or any free id (loading: ascending is fastest; ids
 * that are jumped over become free). data_lock. ANX_E_NOMEM. */
ANX_NODISCARD anx_status rows_put(struct row_table *rows, uint32_t row, struct doc doc, anx_error *err);
/* The same for an id from rows_take, or a row that has a document. */
ANX_NODISCARD anx_status rows_set(struct row_table *rows, uint32_t row, struct doc doc, anx_error *err);
void rows_remove(struct row_table *rows, uint32_t row); /* data_lock; the id is free again */
uint32_t rows_next(const struct row_table *rows);       /* the id that rows_take gives next */
size_t rows_free(const struct row_table *rows);         /* freed ids */
size_t rows_memory(const struct row_table *rows);
/* An id for a document that will be published later; readers do not see it before. rows_give_back: it will
 * not; the latest taken first. ANX_E_LIMIT past 2^32 - 2 rows. */
ANX_NODISCARD anx_status rows_take(struct row_table *rows, uint32_t *row, anx_error *err);
void rows_give_back(struct row_table *rows, uint32_t row);

/* ---- Scalar indexes (scalar.c) ---- */

/* An empty index. Composites find their components by name among ns->indexes and keep the types and
 * collations they have now; custom collations are borrowed from there. Keeps ns->rows for COND_ANY. Not for
 * vector, text and rtree definitions. */
ANX_NODISCARD anx_status scalar_create(const struct ns *ns, const struct ns_index *index,
                                       struct scalar_index **out, anx_error *err);
void scalar_destroy(struct scalar_index *index); /* NULL is fine */
/* The values of a row, new or again; on failure the row keeps its old ones. Values of all json paths joined;
 * none for a scalar that is not sparse: the default value. Nothing is borrowed: texts are copied. values NULL
 * for a composite: read from its components (found by name in ns), which must have the row already.
 * data_lock. */
ANX_NODISCARD anx_status scalar_insert(struct scalar_index *index, uint32_t row, const struct values *values,
                                       anx_error *err);
void scalar_remove(struct scalar_index *index, uint32_t row); /* data_lock; a row it does not have is fine */
/* The same in two steps: after scalar_begin the row is found under its old and its new values; commit drops
 * the old ones, abort the new ones. Neither can fail. data_lock from begin to commit. */
struct scalar_change {
    uint64_t cell, low; /* inside of the index, all of them */
    const struct value **sorted;
    bool is_same, is_null;
};
ANX_NODISCARD anx_status scalar_begin(struct scalar_index *index, uint32_t row, const struct values *values,
                                      struct scalar_change *change, anx_error *err);
void scalar_commit(struct scalar_index *index, uint32_t row, struct scalar_change *change);
void scalar_abort(struct scalar_index *index, uint32_t row, struct scalar_change *change);
/* For tables of keys: equal values have equal hashes; the order of two values, < 0, 0, > 0. */
uint64_t scalar_hash(const struct scalar_index *index, const struct value *value);
int scalar_compare(const struct scalar_index *index, const struct value *a, const struct value *b);
/* Every invariant of the structure; ANX_E_CORRUPT. data_lock shared or write_lock. */
ANX_NODISCARD anx_status scalar_check(const struct scalar_index *index, anx_error *err);
/* Rows that the index has. */
size_t scalar_rows(const struct scalar_index *index);

/* ---- Vector indexes (vector.c) ----
 *
 * Labels. A row's vectors are in the index under labels of a generation, 0 or 1:
 *     scalar field   row * 2 + generation
 *     array field    (row * 2 + generation) << 32 | position among its vectors that are not empty
 * A new version of a row inserts its vectors under the other generation, which is switched when the row is
 * published; then the old labels are removed. So searches always see one version, and insertion needs no
 * data_lock. A loaded file tells by its labels which generation a row has. */

ANX_NODISCARD anx_status vector_create(struct ns *ns, const struct ns_index *index, struct vector_index **out,
                                       anx_error *err);
void vector_destroy(struct vector_index *index); /* NULL is fine */
/* What vector_prepare checks: dimension, finite numbers. ANX_E_NOT_VALID. */
ANX_NODISCARD anx_status vector_check_floats(const struct vector_index *index,
                                             const struct doc_vectors *vectors, anx_error *err);
/* Insert: vectors of rows into the index, on all threads when there are many; searches do not return them
 * yet. No data_lock. All or nothing. ANX_E_NOT_VALID (dimension, not finite), ANX_E_NOMEM. */
struct vector_change {
    uint32_t row;
    struct doc_vectors vectors; /* borrowed until vector_prepare returns; n 0: none */
    uint32_t cell;              /* inside of the index, as the next */
    bool is_same;
};
ANX_NODISCARD anx_status vector_prepare(struct vector_index *index, struct vector_change *changes, size_t n,
                                        anx_error *err);
/* Room for rows below `end`, so that vector_publish cannot fail. data_lock. */
ANX_NODISCARD anx_status vector_reserve(struct vector_index *index, uint32_t end, anx_error *err);
void vector_publish(struct vector_index *index, const struct vector_change *change); /* data_lock */
void vector_unpublish(struct vector_index *index, uint32_t row);                     /* data_lock */
/* Vectors of a row that are not empty. data_lock shared or write_lock. */
uint32_t vector_count(const struct vector_index *index, uint32_t row);
/* The row is about to be replaced or removed in the store: readers go on with its present version until that
 * is published. write_lock. */
void vector_keep(const struct vector_index *index, uint32_t row);
/* Removes prepared vectors that will not be published. No data_lock needed. */
void vector_cancel(struct vector_index *index, const struct vector_change *changes, size_t n);
/* Removes what was unpublished since the last call; to be called after data_lock is released. */
void vector_sweep(struct vector_index *index);
/* prepare, publish and sweep for namespaces that nobody else sees, or under data_lock: one row, or many (bulk
 * build). A row that has vectors gets these instead. */
ANX_NODISCARD anx_status vector_insert(struct vector_index *index, uint32_t row,
                                       const struct doc_vectors *vectors, anx_error *err);
ANX_NODISCARD anx_status vector_insert_many(struct vector_index *index, size_t n, const uint32_t *rows,
                                            const struct doc_vectors *vectors, anx_error *err);
void vector_remove(struct vector_index *index, uint32_t row); /* data_lock */

/* Files, for a start without building. Load: into an empty index; its rows are not announced yet. Then, for
 * every row of the namespace, one of vector_restore     the row has these vectors, and the file has their
 * labels; *found false (and nothing happened) when a label is missing or stands for other floats: insert it
 *     vector_insert      new or changed since
 * and at the end vector_restore_end, which removes every label that no row announced. Save: searches may run;
 * write_lock held or nobody else writes. ANX_E_UNSUPPORTED for kinds that are not worth a file (vec_bf, ivf
 * before training). */
ANX_NODISCARD anx_status vector_file_save(const struct vector_index *index, const char *path, anx_error *err);
ANX_NODISCARD anx_status vector_file_load(struct vector_index *index, const char *path, anx_error *err);
ANX_NODISCARD anx_status vector_restore(struct vector_index *index, uint32_t row,
                                        const struct doc_vectors *vectors, bool *found, anx_error *err);
ANX_NODISCARD anx_status vector_restore_end(struct vector_index *index, anx_error *err);

/* ivf: trains now on `share` of the rows; searches and writers go on meanwhile. Nothing to do: ANX_OK. */
ANX_NODISCARD anx_status vector_train(struct vector_index *index, double share, anx_error *err);
/* radius, embedding and quantization_config changed in place, in three steps. prepare: a quantized index
 * whose new definition has no quantization_config is built anew with its floats; readers go on. reconfigure:
 * def replaces the one it was created with and must live as long; called again with the old one it takes that
 * back. data_lock. end: frees what is out of use. */
ANX_NODISCARD anx_status vector_reconfigure_prepare(struct vector_index *index, const struct index_def *def,
                                                    anx_error *err);
void vector_reconfigure(struct vector_index *index, const struct index_def *def);
void vector_reconfigure_end(struct vector_index *index);
/* What is to be done now and then, by the housekeeper: starts the quantization of an index that has grown
 * large enough (quantize.h). write_lock held, data_lock not. */
void vector_maintain(struct ns *ns, struct vector_index *index);
struct vector_numbers { /* for #memstats */
    size_t count;       /* vectors that are not empty */
    size_t empty_rows;  /* rows that satisfy EMPTY */
    size_t slots;       /* of storage, removed ones not reused yet included */
    size_t memory, data; /* bytes: all, and of rows or codes alone */
    bool is_built, is_quantized;
};
void vector_get_numbers(const struct vector_index *index, struct vector_numbers *out);
ANX_NODISCARD anx_status vector_check(const struct vector_index *index, anx_error *err);

/* ---- Full-text indexes (text_rows.c) ---- */

/* The configuration in a definition, checked. The node tree is in the arena, the result is not. */
ANX_NODISCARD anx_status index_text_config(const struct index_def *def, anx_arena *arena,
                                           struct text_config **out, anx_error *err);
/* An empty index. list [n]: where a composite finds its components. ANX_E_PARAMS (paths), errors of
 * text_config_read. */
ANX_NODISCARD anx_status row_texts_create(struct ns *ns, const struct ns_index *list, size_t n,
                                          const struct index_def *def, struct row_texts **out,
                                          anx_error *err);
void row_texts_destroy(struct row_texts *texts); /* NULL is fine */
/* The texts of a row's document, in two steps like scalar_begin. data_lock from begin to commit. */
ANX_NODISCARD anx_status row_texts_begin(struct row_texts *texts, uint32_t row, struct doc doc,
                                         anx_error *err);
void row_texts_commit(struct row_texts *texts);
void row_texts_abort(struct row_texts *texts);
void row_texts_remove(struct row_texts *texts, uint32_t row); /* data_lock; a row it does not have is fine */
ANX_NODISCARD anx_status row_texts_insert(struct row_texts *texts, uint32_t row, struct doc doc,
                                          anx_error *err);
ANX_NODISCARD anx_status row_texts_check(const struct row_texts *texts, size_t n_row, anx_error *err);
ANX_NODISCARD anx_status row_texts_check_row(const struct row_texts *texts, uint32_t row, struct doc doc,
                                             anx_arena *arena, anx_error *err);

/* ---- Items (item.c): documents on their way into the namespace ---- */

#define ITEM_NEW_ROW UINT32_MAX
struct item {
    uint32_t row;
    bool is_new;                    /* the row id was taken for it */
    struct doc_draft draft;         /* borrowed until items_fini */
};
struct items {
    struct ns *ns;
    anx_arena *arena; /* lists live here */
    struct item *list;
    size_t n, capacity;
    size_t n_published;
    struct vector_change **vectors; /* [n_index] of [n]: what was inserted; NULL for other indexes */
};
/* capacity: most documents it will take. */
ANX_NODISCARD anx_status items_init(struct items *items, struct ns *ns, anx_arena *arena, size_t capacity,
                                    anx_error *err);
/* row: the one whose document is replaced, or ITEM_NEW_ROW. Each row at most once. */
ANX_NODISCARD anx_status items_add(struct items *items, const struct doc_draft *draft, uint32_t row,
                                   anx_error *err);
ANX_NODISCARD anx_status items_insert_vectors(struct items *items, anx_error *err);
/* Rows, scalar indexes and vectors of each document in turn; items->n_published says how many went in when it
 * fails. Takes data_lock, and lets readers in between now and then. */
ANX_NODISCARD anx_status items_publish(struct items *items, anx_error *err);
/* The same for at most n of them under a data_lock that the caller has; ns_sweep when it is released. */
ANX_NODISCARD anx_status items_publish_locked(struct items *items, size_t n, anx_error *err);
void items_fini(struct items *items);
/* Removes rows from everything. Takes data_lock now and then; _locked: the caller has it, and calls ns_sweep
 * when it is released. */
void ns_remove_rows(struct ns *ns, const uint32_t *rows, size_t n);
void ns_remove_rows_locked(struct ns *ns, const uint32_t *rows, size_t n);
void ns_sweep(struct ns *ns); /* vector_sweep of every vector index */

/* The values of index `index` (not a vector index) in a draft: of all its json paths joined, or the tuple of
 * a composite. New lists are in the arena; texts are borrowed from the draft. */
ANX_NODISCARD anx_status draft_values(const struct ns *ns, size_t index, const struct doc_draft *draft,
                                      anx_arena *arena, struct values *out, anx_error *err);
/* A stored document into a namespace that nobody else sees: row and scalar indexes, and with `with_vectors`
 * the vector indexes. */
ANX_NODISCARD anx_status ns_load_row(struct ns *ns, uint32_t row, const struct doc_draft *draft,
                                     bool with_vectors, anx_arena *arena, anx_error *err);
/* The row that has the primary key of a draft. */
ANX_NODISCARD anx_status ns_find_draft(const struct ns *ns, const struct doc_draft *draft, anx_arena *arena,
                                       bool *found, uint32_t *row, anx_error *err);

/* Every invariant between rows, scalar indexes and vector indexes (ns_check.c); ANX_E_CORRUPT says which is
 * broken and where. Takes data_lock shared; no writer meanwhile (write_lock held, or nobody else).
 * with_store: records and rows agree too. */
ANX_NODISCARD anx_status ns_check(struct ns *ns, bool with_store, anx_error *err);

#endif
