/* Expressions in ORDER BY and UPDATE, parsed from text to a tree; evaluation is the executor's, which knows
 * documents, ranks and joins.
 *
 *     ORDER BY 'price * 2 + rank()'        UPDATE ... SET a = b + 1, tags = tags || ['x']
 *
 * A tree has at most EXPRESSION_NODES_MAX nodes (so that is how deep it can be) and lives in the arena. */
#ifndef ANX_QUERY_EXPRESSION_H
#define ANX_QUERY_EXPRESSION_H

#include "base/arena.h"
#include "doc/value.h"
#include "query/query.h"

enum { EXPRESSION_NODES_MAX = 1000 };

enum expression_kind {
    EXPR_NUMBER,
    EXPR_FIELD,       /* text: field path; ns not empty: field of a joined namespace */
    EXPR_NEGATE,      /* left */
    EXPR_ADD,         /* left, right */
    EXPR_SUBTRACT,
    EXPR_MULTIPLY,
    EXPR_DIVIDE,
    EXPR_ABS,         /* left */
    EXPR_RANK,        /* rank(), rank(index[, default]): text is the index or empty */
    EXPR_DISTANCE,    /* ST_Distance(left, right), each EXPR_FIELD or EXPR_POINT */
    EXPR_POINT,       /* x, y */
    EXPR_HASH,        /* hash([seed]); the seed is in integer */
    EXPR_RRF,         /* rank_const in number; only as the whole expression */
    /* UPDATE only */
    EXPR_STRING,      /* text */
    EXPR_BOOL,        /* number != 0 */
    EXPR_NULL,
    EXPR_ARRAY,       /* values */
    EXPR_CONCAT,      /* left || right */
    EXPR_REMOVE,      /* array_remove(left, right) */
    EXPR_REMOVE_ONCE, /* array_remove_once(left, right) */
    EXPR_NOW,         /* unit */
    EXPR_SERIAL,
    EXPR_ARRAY_LEN,   /* flat_array_len(text) */
    EXPR_SKIP_EMBEDDING /* skip_embedding(), only as the whole expression */
};
struct expression {
    enum expression_kind kind;
    double number;
    bool is_integer; /* EXPR_NUMBER: integer holds it exactly */
    int64_t integer;
    double x, y;
    double rank_default;
    bool has_rank_default, has_seed;
    anx_text text, ns;
    struct values values;
    enum query_time_unit unit;
    const struct expression *left, *right;
};

/* A sort key. A plain field gives EXPR_FIELD. joined: names of the joined namespaces, so that "ns.field" is
 * told from a path. ANX_E_PARAMS ("'...' is not valid sort expression. Parser failed at position N..."). */
ANX_NODISCARD anx_status expression_read_sort(anx_text text, const anx_text *joined, size_t n_joined,
                                              anx_arena *arena, const struct expression **out,
                                              anx_error *err);
/* The right side of SET, the whole text. ANX_E_PARAMS. */
ANX_NODISCARD anx_status expression_read_update(anx_text text, anx_arena *arena,
                                                const struct expression **out, anx_error *err);

#endif
