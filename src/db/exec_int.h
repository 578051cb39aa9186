/* The executor from inside. README.md ("How a query runs") tells the story; this header names its parts.
 *
 *     exec      one query tree that runs, with its merges, joins and subqueries: namespaces, locks, arena
 *     space     one namespace that takes part, locked once
 *     part      one query over one space: conditions, KNN, order, window, projection, and the rows found
 *     where     a condition list, compiled
 *     field     what a name in the query stands for
 *
 * Errors: functions that return a status describe a failure in exec->err. Functions that are asked once per
 * row (does it match? which is first?) cannot fail by themselves; what goes wrong inside latches in
 * exec->status, and the loop around them ends with it.
 *
 * Memory: the exec's arena lives as long as the result. Bitmaps and row lists are on the heap and belong to
 * the exec, which frees them.
 *
 * Threads: one at a time per exec. */
#ifndef ANX_DB_EXEC_INT_H
#define ANX_DB_EXEC_INT_H

#include <time.h>

#include "base/error.h"
#include "db/ns.h"
#include "query/expression.h"
#include "text/text.h"

struct part;
struct join;
struct sort;
struct aggregates;

/* ---- The exec (exec.c) ---- */

struct space {
    struct ns *ns;   /* one reference, given back by exec_fini */
    anx_text name;   /* a copy of ns->name */
    anx_text asked;  /* as the query spells it */
    bool is_locked;  /* data_lock held shared, to be released */
    bool is_borrowed; /* of select_rows: write_lock held by the caller, neither reference nor lock is ours */
    struct space *next;
};
struct owned_bitmap {
    roaring_bitmap_t *bitmap;
    struct owned_bitmap *next;
};
struct exec {
    struct database *db;
    const struct db_session *session; /* never NULL */
    anx_arena *arena;                 /* borrowed */
    struct space *spaces;             /* in order of first mention */
    size_t n_space;
    struct owned_bitmap *bitmaps;
    struct part *parts; /* every part, for exec_fini */
    anx_error *err;     /* where failures are described; set by whoever calls in */
    anx_status status;  /* first failure of a function that is asked per row */
    unsigned ticks;
    bool has_now, is_explained;
    bool may_not_lock;        /* select_rows_locked */
    enum query_strict strict; /* of queries that name none */
    enum query_strict strict_of_left; /* of joined queries that name none; joins_compile sets it */
    struct timespec now; /* of the query: now() gives the same everywhere */
    uint64_t lock_ns;
};

/* Finds and locks every namespace of a query tree. `writing` is not NULL for select_rows: the namespace of
 * query->ns, not to be locked. On failure nothing is held. ANX_E_NOT_FOUND, ANX_E_QUERY (system namespaces in
 * subqueries), ANX_E_NOMEM. */
ANX_NODISCARD anx_status exec_open(struct exec *x, const struct query *query, struct ns *writing);
/* Frees and unlocks. A failed exec_open needs none, but it does no harm. */
void exec_fini(struct exec *x);
const struct space *exec_space(const struct exec *x, anx_text name);
/* To be called once per row or candidate: every hundredth time it looks at the clock. False: exec->status
 * says why; the loop must end. */
bool exec_goes_on(struct exec *x);
/* Latches the first failure of a function that is asked per row. */
void exec_latch(struct exec *x, anx_status status);
ANX_NODISCARD static inline anx_status
exec_nomem(struct exec *x)
{
    return anx_fail(x->err, ANX_E_NOMEM, "could not allocate memory for a query");
}
/* An empty bitmap that exec_fini frees; NULL: no memory. */
roaring_bitmap_t *exec_bitmap(struct exec *x);
/* Takes a bitmap that was made otherwise; NULL stays NULL. */
roaring_bitmap_t *exec_take_bitmap(struct exec *x, roaring_bitmap_t *bitmap);
int64_t exec_now(struct exec *x, enum query_time_unit unit);

/* Rows found, with their ranks; without a ranked condition the rank is 0. */
struct hits {
    struct vector_hit *items; /* owned, heap, unless is_borrowed */
    size_t n, capacity;
    bool is_borrowed; /* of the arena */
};
ANX_NODISCARD anx_status hits_push(struct exec *x, struct hits *hits, uint32_t row, float rank);
void hits_fini(struct hits *hits);

/* ---- Fields (field.c) ---- */

enum field_kind {
    FIELD_IS_UNKNOWN,  /* strict mode "none": there is no such field; it has no values */
    FIELD_IS_SCALAR,   /* a scalar index; composites as well */
    FIELD_IS_DOCUMENT, /* looked up in documents: no index, or a text or rtree index */
    FIELD_IS_VECTOR
};
enum field_use { FIELD_USE_FILTER, FIELD_USE_SORT, FIELD_USE_AGGREGATE }; /* only changes error texts */
struct value_list {
    struct value *items; /* arena */
    size_t n, capacity;
};
struct field {
    enum field_kind kind;
    anx_text name; /* the index's own name, or as the query has it */
    const struct ns *ns;
    const struct ns_index *index;       /* NULL without */
    const struct doc_path *const *paths; /* FIELD_IS_DOCUMENT, also for flat_array_len of a scalar index */
    size_t n_path;
    /* Of the last field_values */
    struct value one;
    struct value_list list;
    size_t n_visited, n_null;
};
/* What a name means for a query on a space. ANX_E_STRICT, ANX_E_PARAMS (malformed path). */
ANX_NODISCARD anx_status field_bind(struct exec *x, const struct space *space, enum query_strict strict,
                                    anx_text name, enum field_use use, struct field *out);
/* The values of a row that are not null; valid until the next call for this field. A failure latches. */
struct values field_values(struct exec *x, struct field *field, uint32_t row);
/* IS NULL: no value, or a null among the values of a field without index. */
bool field_is_null(struct exec *x, struct field *field, uint32_t row);
/* flat_array_len. */
size_t field_length(struct exec *x, struct field *field, uint32_t row);
bool field_is_array(const struct field *field);
bool field_is_composite(const struct field *field);
const struct collation *field_collation(const struct field *field);
ANX_NODISCARD anx_status value_list_push(struct exec *x, struct value_list *list, const struct value *value);
/* A query's value as a field's index type; as it is without a scalar index. ANX_E_PARAMS. */
ANX_NODISCARD anx_status field_convert(struct exec *x, const struct field *field, const struct value *in,
                                       struct value *out);
/* A number of any kind, or a text that spells one. ANX_E_PARAMS "Can't convert '...' to number". */
ANX_NODISCARD anx_status value_number(struct exec *x, const struct value *value, double *out);

/* ---- Conditions on single values (compare.c) ---- */

/* The values on the right side, prepared for many questions. */
struct operand {
    struct values values;
    bool has_null;
    /* Many values of a set: sorted, for binary search */
    bool is_sorted;
    struct values numbers, texts, others;
};
ANX_NODISCARD anx_status operand_init(struct exec *x, enum query_condition condition, struct values values,
                                      const struct collation *collation, struct operand *out);
/* One value against EQ, SET, LT, LE, GT, GE, RANGE or LIKE; a null never holds. */
bool condition_holds(enum query_condition condition, const struct value *value, const struct operand *operand,
                     const struct collation *collation);
/* All values of a row: any may hold; ALLSET: every value of the right side is there. */
bool condition_holds_any(enum query_condition condition, struct values values, const struct operand *operand,
                         const struct collation *collation);
/* How error texts write it: "=", "IN", ... */
const char *condition_sign(enum query_condition condition);

/* ---- WHERE (where.c compiles, where_simplify.c rewrites, where_match.c asks, where_select.c finds) ---- */

enum where_kind {
    WHERE_CONSTANT,
    WHERE_INDEX,     /* a scalar index */
    WHERE_VALUES,    /* values in documents */
    WHERE_FIELDS,    /* two fields of a document */
    WHERE_LENGTH,    /* flat_array_len */
    WHERE_BITMAP,    /* rows known beforehand: EMPTY and ANY of vectors */
    WHERE_POINT,     /* ST_DWithin */
    WHERE_POSITIONS, /* equal_position */
    WHERE_KNN,       /* KNN and full text, hold by themselves: the candidates came from their indexes */
    WHERE_BRACKET,
    WHERE_JOIN
};
struct where_node;
/* Terms that are joined by OR; the groups of a list are joined by AND. */
struct where_group {
    size_t first, n;
    size_t estimate; /* rows, at most; SIZE_MAX: no index helps */
    bool is_settled; /* where_select found rows for which it holds; not asked again */
    bool has_join;
};
struct where_list {
    struct where_node *nodes;
    size_t n;
    struct where_group *groups;
    size_t n_group;
    size_t *order; /* EXPLAIN: of the groups, as they are printed; arena */
};
/* WHERE_POSITIONS: places in arrays at which a condition holds, ascending. */
struct places {
    uint64_t *items; /* arena, used again for every row */
    size_t n, capacity;
};
struct where_node {
    enum where_kind kind;
    bool is_negated, is_or, has_join, is_constant_true;
    enum query_condition condition;
    struct field *field, *right;
    struct operand operand;
    const roaring_bitmap_t *bitmap;
    struct where_list list; /* WHERE_BRACKET; WHERE_POSITIONS: the conditions, fields looked up by position */
    struct join *join;
    const struct query_entry *entry;
    struct places places;
    size_t n_key, matched; /* EXPLAIN */
};

/* Compiles the conditions of part->query. The checks that need the namespace are made here. */
ANX_NODISCARD anx_status where_compile(struct exec *x, struct part *part, struct where_list *out);
/* Opens brackets, intersects sets of one field, puts composite indexes in the place of their components. The
 * same rows match. Before the list is grouped. */
ANX_NODISCARD anx_status where_simplify(struct exec *x, const struct part *part, struct where_list *list);
/* Does a row satisfy a condition, its NOT considered? A failure latches. */
bool where_holds(struct exec *x, const struct where_node *node, uint32_t row);
/* Does a row satisfy all groups that are not settled? A failure latches and gives false. */
bool where_match(struct exec *x, const struct where_list *list, uint32_t row);
/* Which inner joins does a matching row bring along? Sets is_attached of the joins. */
void where_attach(struct exec *x, const struct where_list *list, uint32_t row);

/* Rows that are worth asking: a superset of the answer. */
struct candidates {
    enum { CANDIDATES_ALL, CANDIDATES_BITMAP, CANDIDATES_FEW } kind;
    const roaring_bitmap_t *bitmap;
    const uint32_t *few; /* arena, ascending */
    size_t n;            /* how many */
    bool is_exact;       /* every group is settled: all of them match */
};
/* At most about so many rows match, as far as indexes know; SIZE_MAX: they know nothing. */
size_t where_estimate(struct part *part);
/* need: how many matching rows will be looked at, SIZE_MAX for all. Settles groups of the list. */
ANX_NODISCARD anx_status where_select(struct exec *x, struct part *part, size_t need, struct candidates *out);
/* Exactly the rows that match, as a bitmap of the exec; NULL in *out: all rows. */
ANX_NODISCARD anx_status where_rows(struct exec *x, struct part *part, const roaring_bitmap_t **out);

/* ---- KNN (knn.c) ---- */

struct knn {
    const struct query_knn *query; /* NULL: no KNN condition */
    const struct ns_index *index;
    bool is_stream;
    bool is_smaller_better;
};
/* Finds the KNN condition of a query and checks its surroundings (NOT, OR, a second one, vector conditions).
 */
ANX_NODISCARD anx_status knn_compile(struct exec *x, struct part *part);
/* The rows that the condition and the rest of WHERE leave, best first; stops after `need` of them. */
ANX_NODISCARD anx_status knn_run(struct exec *x, struct part *part, size_t need, struct hits *out);
const char *knn_rank_kind(const struct knn *knn); /* "knn with L2 metric query", ... */
/* Of rows [n] in order of rank (arena, changed): those that the rest of WHERE leaves. */
ANX_NODISCARD anx_status knn_filter(struct exec *x, struct part *part, struct vector_hit *items, size_t n,
                                    size_t need, struct hits *out);

/* ---- Full text, and both together (fulltext.c) ---- */

struct fulltext {
    const struct ns_index *index; /* NULL: no full-text condition that ranks */
    anx_text query;
    struct text_found found; /* once it ran */
};
struct hybrid_side { /* of a linear expression */
    bool is_named;
    double factor, standard; /* standard: the rank of a row that is not in the list */
};
struct hybrid {
    bool is_set, is_or, is_rrf, is_descending;
    double constant; /* rank_const of RRF; c of a linear expression */
    struct hybrid_side text, knn;
};
bool part_is_ranked(const struct part *part);
const char *part_rank_kind(const struct part *part); /* "fulltext query", ... */
bool part_prefers_small_ranks(const struct part *part);
ANX_NODISCARD anx_status fulltext_compile(struct exec *x, struct part *part, const struct query_entry *entry);
ANX_NODISCARD anx_status fulltext_query(struct exec *x, const struct ns_index *index,
                                        enum query_condition condition, struct values values, anx_text *out);
ANX_NODISCARD anx_status fulltext_search(struct exec *x, const struct ns_index *index, anx_text query,
                                         struct text_found *out);
ANX_NODISCARD anx_status fulltext_run(struct exec *x, struct part *part, size_t need, struct hits *out);
/* The rows it finds, without ranks; a bitmap of the exec. */
ANX_NODISCARD anx_status fulltext_rows(struct exec *x, const struct ns_index *index, anx_text query,
                                       const roaring_bitmap_t **out);
/* Reads ORDER BY, which says how ranks are put together. ANX_E_NOT_VALID, ANX_E_QUERY, ANX_E_PARAMS. */
ANX_NODISCARD anx_status hybrid_compile(struct exec *x, struct part *part);
ANX_NODISCARD anx_status hybrid_run(struct exec *x, struct part *part, size_t need, struct hits *out);

/* Select functions (text_show.c): snippets and highlights. Run once the rows of the part are in window. */
struct text_shows;
ANX_NODISCARD anx_status text_shows_compile(struct exec *x, struct part *part);
ANX_NODISCARD anx_status text_shows_run(struct exec *x, struct part *part);
/* The document of a row as the part shows it: what printers print. */
struct doc part_doc(const struct part *part, uint32_t row);

/* ---- Order (sort.c, sort_key.c) ---- */

/* NULL in part->sort when the query has no ORDER BY. */
ANX_NODISCARD anx_status sort_compile(struct exec *x, struct part *part);
/* Puts the first `need` of the rows in order; the rest is cut. */
ANX_NODISCARD anx_status sort_rows(struct exec *x, struct part *part, struct hits *hits, size_t need);
/* The order is that of one index, which can be walked. */
const struct ns_index *sort_walkable(const struct sort *sort, bool *is_descending);
/* Is the first key a tree index? Then DISTINCT takes the first rows of the order. */
bool sort_is_by_tree(const struct sort *sort);
anx_text sort_index_name(const struct sort *sort); /* EXPLAIN; "-" without */

/* ---- Joins (join.c) ---- */

struct join {
    const struct query_join *query;
    struct part *right;
    struct on_list *on;
    anx_text label; /* "joined_ns" */
    const roaring_bitmap_t *rows; /* that satisfy the right side's WHERE, once it paid to know them all */
    bool has_rows;
    size_t n_asked;
    bool is_attached; /* where_attach */
    struct hits found, sorted;
    uint32_t found_for; /* left row of `found`; UINT32_MAX: none */
    bool is_found_all;
    size_t matched; /* EXPLAIN, of a left join: rows that it gave something */
};
ANX_NODISCARD anx_status joins_compile(struct exec *x, struct part *part);
/* Is there a row on the right side? A failure latches and gives false. */
bool join_exists(struct exec *x, struct join *join, uint32_t row);
/* The rows of the right side for a row of the left one, in order and window of the right query; borrowed
 * until the next call. A failure latches and gives none. */
const struct vector_hit *join_rows(struct exec *x, struct join *join, uint32_t row, size_t *n);
/* All of them, before the window: for sort expressions. */
const struct vector_hit *join_all(struct exec *x, struct join *join, uint32_t row, size_t *n);
struct join *join_find(struct part *part, anx_text ns); /* by the joined namespace; NULL */

/* ---- Subqueries (subquery.c) ---- */

/* The values of a subquery: of its field, its aggregation, or its count. Arena. *run becomes the part that
 * was run. */
ANX_NODISCARD anx_status subquery_values(struct exec *x, const struct query *query, struct values *out,
                                         struct part **run);
/* Is there any row? */
ANX_NODISCARD anx_status subquery_exists(struct exec *x, const struct query *query, bool *out,
                                         struct part **run);

/* ---- Aggregations (aggregate.c, aggregate_table.c) ---- */

/* Checks and binds the aggregations of the first part for all parts. *out NULL when there is none beside
 * counts. */
ANX_NODISCARD anx_status aggregates_compile(struct exec *x, const struct query *query, struct part **parts,
                                            size_t n_part, struct aggregates **out);
/* No documents are returned beside them. */
bool aggregates_hide_items(const struct aggregates *aggregates);
bool aggregates_are_distinct(const struct aggregates *aggregates);
/* DISTINCT: drops rows that bring no new value. */
ANX_NODISCARD anx_status aggregates_filter(struct exec *x, struct aggregates *aggregates, size_t part,
                                           struct hits *hits);
/* Adds the rows of a part. */
ANX_NODISCARD anx_status aggregates_add(struct exec *x, struct aggregates *aggregates, size_t part,
                                        const struct hits *hits);
/* One number, for subqueries: false when no row contributed. */
bool aggregates_number(const struct aggregates *aggregates, double *out);
size_t aggregates_count(const struct aggregates *aggregates); /* NULL: 0 */
/* One of them as a JSON object. */
ANX_NODISCARD anx_status aggregates_print_one(struct exec *x, const struct aggregates *aggregates, size_t i,
                                              anx_buffer *out);
/* The members of "aggregations", commas between; nothing for NULL. */
ANX_NODISCARD anx_status aggregates_print(struct exec *x, const struct aggregates *aggregates,
                                          anx_buffer *out);

/* ---- Projection (projection.c) ---- */

struct projection {
    struct doc_projection fields;
    bool names_fields; /* single fields were asked for, and there are such fields */
};
ANX_NODISCARD anx_status projection_compile(struct exec *x, const struct space *space,
                                            const struct query *query, struct projection *out);

/* ---- One query over one namespace (part.c) ---- */

/* EXPLAIN: where the time of a part went, in nanoseconds. */
enum explain_phase { PHASE_PRESELECT, PHASE_PREPARE, PHASE_INDEXES, PHASE_LOOP, PHASE_SORT, PHASES };
/* EXPLAIN: a query that was run for a condition of another. */
struct explain_subquery {
    struct part *part;
    anx_text field;     /* that was compared with its values; empty: the subquery stood on the left */
    size_t n_key;       /* there: how many values it was compared with */
    bool is_compared;   /* there: its field was asked for each of its rows */
    size_t matched;     /* and held for so many */
    struct explain_subquery *next;
};
struct part {
    const struct query *query;
    const struct space *space;
    struct ns *ns;
    enum query_strict strict;
    struct where_list where;
    struct knn knn;
    struct fulltext text;
    struct hybrid hybrid;
    bool is_joined; /* full text only filters */
    struct text_shows *shows; /* NULL: documents are shown as they are */
    struct join *joins; /* [query->n_join] */
    bool joins_are_plain; /* every inner join is a term of its own at the top: all are attached */
    struct sort *sort;
    struct projection projection;
    struct hits hits; /* the rows found, in order and window */
    bool wants_total;
    size_t total;
    bool is_by_walk;
    uint64_t phases[PHASES];             /* EXPLAIN */
    struct explain_subquery *subqueries; /* EXPLAIN, the last first */
    struct part *next; /* of exec->parts */
};
enum part_role { PART_MAIN, PART_MERGED, PART_JOINED, PART_SUBQUERY };
ANX_NODISCARD anx_status part_compile(struct exec *x, const struct query *query, const struct space *space,
                                      enum part_role role, struct part **out);
void part_fini(struct part *part);
/* Finds the rows: conditions, DISTINCT, order, window. limit and offset stand in for the query's. */
ANX_NODISCARD anx_status part_run(struct exec *x, struct part *part, struct aggregates *aggregates,
                                  size_t n_part, size_t limit, size_t offset);

/* ---- EXPLAIN (explain.c) ---- */
struct explain {
    uint64_t merge_ns; /* putting the rows of merged queries together */
    uint64_t selected_ns, end_ns; /* clock: rows were known, and printed */
};
/* The clock, when the query is explained; else 0. */
uint64_t explain_clock(const struct exec *x);
/* Adds the time since `start` to a phase of a part; nothing when the query is not explained. */
void explain_add(const struct exec *x, struct part *part, enum explain_phase phase, uint64_t start);
/* Notes a subquery of the part; *what is copied. ANX_E_NOMEM. */
ANX_NODISCARD anx_status explain_note(struct exec *x, struct part *part, const struct explain_subquery *what);
/* After a part ran: which rows each condition left, in the order that is printed. Asks all rows; those of its
 * subqueries and of the joined queries that were selected beforehand, too. */
ANX_NODISCARD anx_status explain_count(struct exec *x, struct part *part);
void explain_print(const struct explain *explain, struct part *const *parts, size_t n_part, anx_buffer *out);

#endif
