/* Between the two halves of the reader of binary queries: binary.c (blocks, what is returned and changed) and
 * binary_filter.c (words, values, conditions, brackets). A failure latches in `status`; readers then give
 * zeros. */
#ifndef ANX_QUERY_BINARY_INT_H
#define ANX_QUERY_BINARY_INT_H

#include "base/bytes.h"
#include "base/error.h"
#include "query/query_int.h"

enum code {
    CODE_CONDITION,
    CODE_DISTINCT,
    CODE_SORT,
    CODE_JOIN_ON,
    CODE_LIMIT,
    CODE_OFFSET,
    CODE_TOTAL,
    CODE_DEBUG,
    CODE_AGGREGATION,
    CODE_SELECT_FILTER,
    CODE_SELECT_FUNCTION,
    CODE_END,
    CODE_EXPLAIN,
    CODE_POSITIONS,
    CODE_UPDATE,
    CODE_AGGREGATION_LIMIT,
    CODE_AGGREGATION_OFFSET,
    CODE_AGGREGATION_SORT,
    CODE_OPEN,
    CODE_CLOSE,
    CODE_JOIN,
    CODE_DROP,
    CODE_UPDATE_OBJECT,
    CODE_WITH_RANK,
    CODE_STRICT,
    CODE_UPDATE_ARRAY,
    CODE_BETWEEN_FIELDS,
    CODE_FALSE,
    CODE_TRUE,
    CODE_SUBQUERY,
    CODE_FIELD_SUBQUERY,
    CODE_LOCAL,
    CODE_KNN,
    CODE_KNN_TEXT,
    CODE_OLD_FUNCTION,
    CODE_OLD_FUNCTION_SUBQUERY,
    CODE_EXPRESSIONS,
    CODE_COUNT
};
enum { TUPLE_DEPTH_MAX = 4, KNN_VERSION = 1 };

/* A list of conditions that is being read: the query's own at the bottom, open brackets above. */
struct level {
    struct query_list entries;
    enum query_op op; /* of the bracket itself */
};
struct positions_entry {
    uint64_t bracket; /* 0: top level, else 1 + the place of the bracket among all conditions */
    struct query_positions list;
};
struct binary {
    anx_reader in;
    anx_arena *arena;
    anx_error *err;
    anx_status status;
    size_t depth; /* of subqueries */
};
/* One query on its way. */
struct block {
    struct query *query;
    struct level levels[QUERY_DEPTH_MAX];
    size_t n_level; /* open brackets */
    struct query_list aggregates, fields, sort, functions, updates, on, positions;
    bool has_filter, has_star;
};

bool binary_fail(struct binary *b, anx_status status, const char *format, ...) ANX_PRINTF(3, 4);
bool binary_fail_cut(struct binary *b);
bool binary_fail_memory(struct binary *b);
void *binary_add(struct binary *b, struct query_list *list);
uint64_t binary_number(struct binary *b);
anx_text binary_text(struct binary *b);
bool binary_count(struct binary *b, size_t *n);
bool binary_read_op(struct binary *b, enum query_op *op);
bool binary_read_condition(struct binary *b, enum query_condition *condition);
bool binary_read_variant(struct binary *b, struct value *out, size_t depth);
bool binary_read_values(struct binary *b, struct values *out, size_t depth);
bool binary_read_texts(struct binary *b, const anx_text **out, size_t *n_out);
bool binary_read_comparison(struct binary *b, struct block *k);
bool binary_read_between_fields(struct binary *b, struct block *k);
bool binary_read_subquery_entry(struct binary *b, struct block *k, bool is_field);
bool binary_read_join_entry(struct binary *b, struct block *k);
bool binary_read_expressions(struct binary *b, struct block *k);
bool binary_read_knn(struct binary *b, struct block *k, bool has_format);
bool binary_open_bracket(struct binary *b, struct block *k);
bool binary_close_bracket(struct binary *b, struct block *k);
bool binary_read_positions(struct binary *b, struct block *k);
bool binary_place_positions(struct binary *b, const struct block *k, struct query_bracket *bracket,
                            uint64_t id, uint64_t *at);
bool binary_read_root(struct binary *b, struct query *out);

#endif
