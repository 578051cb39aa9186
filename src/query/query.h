/* The query tree: what SQL, the JSON DSL and the binary protocol all become, and what the executor runs.
 * Everything in it lives in the arena it was read into; it is not changed after reading.
 *
 * Conditions are a list of entries, each with an operation that binds it to the ones before it: OR binds
 * tighter than AND, so a list is cut at every AND (and NOT, which is AND NOT) into groups of OR. */
#ifndef ANX_QUERY_QUERY_H
#define ANX_QUERY_QUERY_H

#include "base/arena.h"
#include "base/buffer.h"
#include "doc/value.h"

#define QUERY_NO_LIMIT SIZE_MAX

enum query_type { QUERY_SELECT, QUERY_UPDATE, QUERY_DELETE, QUERY_TRUNCATE };
enum query_op { OP_AND, OP_OR, OP_NOT };
enum query_condition {
    COND_ANY,
    COND_EQ,
    COND_LT,
    COND_LE,
    COND_GT,
    COND_GE,
    COND_RANGE,
    COND_SET,
    COND_ALLSET,
    COND_EMPTY,
    COND_LIKE,
    COND_DWITHIN,
    COND_KNN
};
const char *query_condition_class(enum query_condition condition); /* "CondEq", ... as in error texts */
/* Does an order (< 0, 0, > 0, of a value against its bound) satisfy LT, LE, GT or GE? */
static inline bool
query_order_satisfies(enum query_condition condition, int order)
{
    switch (condition) {
    case COND_LT:
        return order < 0;
    case COND_LE:
        return order <= 0;
    case COND_GT:
        return order > 0;
    default:
        return order >= 0;
    }
}

struct query;
struct expression;

enum query_entry_kind {
    ENTRY_COMPARE,        /* field (or function) against values; COND_DWITHIN: three doubles x, y, distance */
    ENTRY_FIELDS,         /* field against field of the same document */
    ENTRY_KNN,
    ENTRY_BRACKET,
    ENTRY_JOIN,           /* inner join in WHERE: joins[join] */
    ENTRY_SUBQUERY_FIELD, /* field against the result of a subquery */
    ENTRY_SUBQUERY_VALUES /* result of a subquery against values */
};
enum query_function { FUNCTION_NONE, FUNCTION_FLAT_ARRAY_LEN, FUNCTION_NOW };
enum query_time_unit { TIME_SEC, TIME_MSEC, TIME_USEC, TIME_NSEC };

struct query_knn {
    const float *vector; /* NULL: text is embedded */
    size_t dim;
    anx_text text;
    const anx_error *failure; /* why the text could not be embedded; NULL: nobody tried, or it has a vector */
    bool has_k, has_radius, has_ef, has_nprobe;
    uint64_t k, ef, nprobe;
    double radius;
    bool is_typed; /* DSL and RPC parameters made for an index kind: k and radius may not both be absent */
    enum { KNN_ANY_KIND, KNN_BF, KNN_HNSW, KNN_IVF } kind;
};
struct query_bracket {
    const struct query_entry *entries;
    size_t n;
    const struct query_positions *positions; /* equal_position groups of this bracket */
    size_t n_positions;
};
struct query_positions {
    const anx_text *fields;
    size_t n;
};
struct query_entry {
    enum query_op op;
    enum query_entry_kind kind;
    enum query_condition condition;
    enum query_function function; /* on the left: flat_array_len(field) */
    anx_text field;
    anx_text right_field;             /* ENTRY_FIELDS */
    struct values values;             /* ENTRY_COMPARE, ENTRY_SUBQUERY_VALUES */
    bool values_are_now;              /* right side is now(unit) */
    bool refuses_regular;             /* ANY on an index without nulls is an error, not always true */
    enum query_time_unit unit;
    struct query_knn knn;             /* ENTRY_KNN */
    struct query_bracket bracket;     /* ENTRY_BRACKET */
    size_t join;                      /* ENTRY_JOIN: place in query->joins */
    const struct query *subquery;     /* ENTRY_SUBQUERY_* */
};

enum query_join_type { JOIN_LEFT, JOIN_INNER };
struct query_on {
    enum query_op op;
    enum query_condition condition;   /* left_field condition right_field, however it was written */
    anx_text left_field, right_field; /* unqualified */
    bool is_reversed;                 /* written with the right side first */
    struct query_on *bracket;         /* not NULL: a bracket of n_bracket entries instead */
    size_t n_bracket;
};
struct query_join {
    enum query_join_type type;
    const struct query *query; /* namespace, WHERE, ORDER, LIMIT and fields of the right side */
    const struct query_on *on;
    size_t n_on;
};

enum query_aggregate_type {
    AGGREGATE_SUM,
    AGGREGATE_AVG,
    AGGREGATE_MIN,
    AGGREGATE_MAX,
    AGGREGATE_FACET,
    AGGREGATE_DISTINCT,
    AGGREGATE_COUNT,
    AGGREGATE_COUNT_CACHED
};
struct query_order {
    anx_text expression; /* a field, "count" (facets), or a sort expression (see expression.h) */
    bool is_descending;
};
struct query_aggregate {
    enum query_aggregate_type type;
    const anx_text *fields;
    size_t n_field;
    const struct query_order *sort; /* facets */
    size_t n_sort;
    size_t limit, offset; /* facets; QUERY_NO_LIMIT, 0 */
    bool shows_index_names; /* fields are shown under the names of their indexes (SQL), not as written */
};

enum query_update_form { UPDATE_VALUES, UPDATE_JSON, UPDATE_EXPRESSION, UPDATE_DROP };
struct query_update {
    enum query_update_form form;
    anx_text path;
    struct values values; /* UPDATE_VALUES; UPDATE_JSON: texts of JSON objects */
    bool is_array;
    anx_text expression; /* UPDATE_EXPRESSION, see expression.h */
    const struct expression *tree; /* UPDATE_EXPRESSION: what it reads as; readers fill it */
};

enum query_total { TOTAL_NONE, TOTAL_EXACT, TOTAL_CACHED };
enum query_strict { STRICT_DEFAULT, STRICT_NONE, STRICT_NAMES, STRICT_INDEXES };

struct query {
    enum query_type type;
    anx_text ns;
    struct query_bracket where;
    /* What is returned */
    const anx_text *fields; /* names in the select list, without *, vectors(), rank() */
    size_t n_field;
    bool all_fields; /* "*" or nothing was given */
    bool with_vectors, with_rank;
    const struct query_aggregate *aggregates;
    size_t n_aggregate;
    enum query_total total;
    size_t limit, offset; /* QUERY_NO_LIMIT, 0 */
    const struct query_order *sort;
    size_t n_sort;
    struct values forced; /* values of a forced order on sort[0] */
    const anx_text *select_functions;
    size_t n_select_function;
    /* Other namespaces. A left join is here only, an inner join also in an ENTRY_JOIN. */
    const struct query_join *joins;
    size_t n_join;
    const struct query *const *merges;
    size_t n_merge;
    /* What is changed */
    const struct query_update *updates;
    size_t n_update;
    bool explain, local;
    enum query_strict strict;
};

/* A query with defaults: SELECT * without limit. */
struct query query_default(void);

/* Limits of one query, so that no text makes a tree too deep or too wide. */
enum { QUERY_DEPTH_MAX = 64, QUERY_AGGREGATE_FIELDS_MAX = 100, QUERY_TEXT_MAX = 64 << 20 };

/* ---- Readers and printers (sql/, dsl.c, print_sql.c, print_dsl.c) ---- */

/* Where in an SQL text an error is: lines and columns counted from 0, columns in bytes. */
struct query_location {
    bool is_set;
    size_t line_start, column_start, line_end, column_end;
};
/* ANX_E_PARSE_SQL (with the texts clients know; location filled when not NULL), ANX_E_PARAMS. */
ANX_NODISCARD anx_status query_read_sql(anx_text sql, anx_arena *arena, struct query *out,
                                        struct query_location *location, anx_error *err);
/* The JSON DSL. The query is of the expected type; a text that says another one is refused where a select is
 * expected, and taken for the expected one elsewhere. ANX_E_PARSE_JSON, ANX_E_PARSE_DSL, ANX_E_PARAMS,
 * ANX_E_QUERY, ANX_E_CONFLICT, ANX_E_LOGIC. */
ANX_NODISCARD anx_status query_read_dsl(anx_text json, enum query_type expected, anx_arena *arena,
                                        struct query *out, anx_error *err);
/* The same without an expectation, for conversion: the type is the text's, SELECT when it says none. */
ANX_NODISCARD anx_status query_convert_dsl(anx_text json, anx_arena *arena, struct query *out,
                                           anx_error *err);
/* A query of the binary protocol, whose command says what it does with the rows. Texts stay in `bytes`.
 * ANX_E_PARSE_BIN, ANX_E_BIN_VERSION (KNN parameters), ANX_E_PARAMS, ANX_E_QUERY, ANX_E_CONFLICT,
 * ANX_E_LOGIC.
 */
ANX_NODISCARD anx_status query_read_binary(anx_text bytes, enum query_type type, anx_arena *arena,
                                           struct query *out, anx_error *err);
/* The rules that need no namespace: numbers and types of arguments, what may stand in subqueries, joins and
 * merged queries, fields of aggregations, depth. Both readers end with it; whoever builds a query otherwise
 * calls it. ANX_E_PARAMS, ANX_E_QUERY, ANX_E_LOGIC with the texts clients know. */
ANX_NODISCARD anx_status query_check(const struct query *query, anx_error *err);
/* Can it be run on an event loop? A bounded nearest-neighbor search with nothing that walks over the
 * namespace, or a query for no rows. */
bool query_is_short(const struct query *query);
/* Canonical SQL: reading it gives a query that prints the same. normalized: every literal, list of literals
 * and number of rows is "?", for statistics. What only the DSL can say (names with blanks and quotes) is
 * printed as it is.
 *
 * Both printers append; out->failed says whether there was room. */
void query_print_sql(const struct query *query, bool normalized, anx_buffer *out);
void query_print_dsl(const struct query *query, anx_buffer *out);

#endif
