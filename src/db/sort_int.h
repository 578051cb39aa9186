/* Sort keys from inside: sort_key.c makes them and gives their cells, sort.c compares and orders. */
#ifndef ANX_DB_SORT_INT_H
#define ANX_DB_SORT_INT_H

#include "db/exec_int.h"

enum bound_kind {
    BOUND_NUMBER,
    BOUND_FIELD,
    BOUND_JOINED, /* field of the row that a join finds */
    BOUND_RANK,
    BOUND_HASH,
    BOUND_NEGATE,
    BOUND_ABS,
    BOUND_ADD,
    BOUND_SUBTRACT,
    BOUND_MULTIPLY,
    BOUND_DIVIDE,
    BOUND_DISTANCE,
    BOUND_POINT
};
/* An expression whose names are resolved. */
struct bound {
    enum bound_kind kind;
    double number, x, y;
    uint64_t seed;
    struct field field;
    struct join *join;
    struct bound *left, *right;
};
struct sort_key {
    bool is_descending;
    bool is_number;      /* the value of an expression; else that of a field */
    struct bound *bound; /* BOUND_FIELD or BOUND_JOINED for a field */
    const struct collation *collation;
    struct operand forced; /* values of a forced order */
    bool has_forced;
};
struct sort {
    struct sort_key *keys;
    size_t n_key;
};
/* What is compared: a row's value under a key. Several values (arrays) are a tuple; nothing is null. */
struct sort_cell {
    struct value value;
    uint32_t forced_at; /* place in the forced order, UINT32_MAX when it is not listed */
};

/* A failure latches. */
void sort_key_cell(struct exec *x, const struct sort_key *key, const struct vector_hit *hit,
                   struct sort_cell *out);

#endif
