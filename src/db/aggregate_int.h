/* Aggregations from inside: aggregate.c knows what they mean, aggregate_table.c counts different values. */
#ifndef ANX_DB_AGGREGATE_INT_H
#define ANX_DB_AGGREGATE_INT_H

#include "db/exec_int.h"

/* Different tuples of values and how often they came, in order of first appearance. Texts are borrowed.
 * Values are the same when they are of the same kind and equal; 1 and 1.0 are the same, 1 and "1" are not. */
struct tuple_table {
    size_t width;         /* values per tuple */
    struct value *values; /* [n * width], arena */
    uint64_t *counts;     /* [n], arena */
    size_t n, capacity;
    uint32_t *buckets; /* [n_bucket] number of a tuple + 1; arena */
    size_t n_bucket;   /* a power of two */
};
/* Counts one more of a tuple [width]; *is_new: the first of its kind. */
ANX_NODISCARD anx_status tuple_table_add(struct exec *x, struct tuple_table *table, const struct value *tuple,
                                         bool *is_new);
static inline const struct value *
tuple_table_get(const struct tuple_table *table, size_t i)
{
    return &table->values[i * table->width];
}

#endif
