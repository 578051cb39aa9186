/* A hash table of tuples, grown in the arena of the query. */
#include <math.h>

#include "base/error.h"
#include "base/hash.h"
#include "db/aggregate_int.h"

enum { FIRST_TUPLES = 16 };

/* A double that is an integer counts as the integer. */
static bool
is_whole(double real)
{
    return real >= -0x1p63 && real < 0x1p63 && floor(real) == real;
}

static enum value_type
value_class(const struct value *value)
{
    return value->type == VALUE_DOUBLE ? VALUE_INT : value->type;
}

static uint64_t
hash_value(const struct value *value)
{
    int64_t integer = value->type == VALUE_BOOL ? value->boolean : value->integer;
    uint64_t hash = 0;

    switch (value->type) {
    case VALUE_NULL:
        return 1;
    case VALUE_STRING:
        return anx_hash(value->text.data, value->text.size);
    case VALUE_UUID:
        return anx_hash(value->uuid, sizeof(value->uuid));
    case VALUE_TUPLE:
        for (size_t i = 0; i < value->tuple.n; i++)
            hash = hash * 31 + hash_value(&value->tuple.items[i]);
        return hash;
    case VALUE_DOUBLE:
        if (!is_whole(value->real))
            return anx_hash(&value->real, sizeof(value->real));
        integer = (int64_t) value->real;
        break;
    case VALUE_BOOL:
    case VALUE_INT:
        break;
    }
    return anx_hash(&integer, sizeof(integer));
}

static uint64_t
hash_tuple(const struct value *tuple, size_t width)
{
    uint64_t hash = 0;

    for (size_t i = 0; i < width; i++)
        hash = hash * 0x9e3779b97f4a7c15u + hash_value(&tuple[i]);
    return hash ^ hash >> 32;
}

static bool
is_same(const struct value *a, const struct value *b, size_t width)
{
    bool is_comparable = true;

    for (size_t i = 0; i < width; i++)
        if (value_class(&a[i]) != value_class(&b[i]) ||
            value_compare(&a[i], &b[i], NULL, &is_comparable) != 0 || !is_comparable)
            return false;
    return true;
}

/* The bucket of a tuple, or the empty one where it belongs. */
static uint32_t *
find_bucket(const struct tuple_table *table, const struct value *tuple)
{
    size_t i = hash_tuple(tuple, table->width) & (table->n_bucket - 1);

    while (table->buckets[i] != 0 &&
           !is_same(tuple_table_get(table, table->buckets[i] - 1), tuple, table->width))
        i = (i + 1) & (table->n_bucket - 1);
    return &table->buckets[i];
}

static anx_status
grow(struct exec *x, struct tuple_table *table)
{
    size_t capacity = table->capacity ? table->capacity * 2 : FIRST_TUPLES;
    struct tuple_table next = *table;

    if (capacity > UINT32_MAX / 2)
        return exec_nomem(x);
    next.capacity = capacity;
    next.n_bucket = capacity * 2;
    next.values = anx_arena_array(x->arena, capacity, table->width * sizeof(*next.values));
    next.counts = anx_arena_array(x->arena, capacity, sizeof(*next.counts));
    next.buckets = anx_arena_array(x->arena, next.n_bucket, sizeof(*next.buckets));
    if (!next.values || !next.counts || !next.buckets)
        return exec_nomem(x);
    if (table->n > 0) {
        memcpy(next.values, table->values, table->n * table->width * sizeof(*next.values));
        memcpy(next.counts, table->counts, table->n * sizeof(*next.counts));
    }
    for (size_t i = 0; i < next.n; i++)
        *find_bucket(&next, tuple_table_get(&next, i)) = (uint32_t) i + 1;
    *table = next;
    return ANX_OK;
}

anx_status
tuple_table_add(struct exec *x, struct tuple_table *table, const struct value *tuple, bool *is_new)
{
    anx_status st = table->n == table->capacity ? grow(x, table) : ANX_OK;
    uint32_t *bucket;

    if (st != ANX_OK)
        return st;
    bucket = find_bucket(table, tuple);
    *is_new = *bucket == 0;
    if (*is_new) {
        memcpy(&table->values[table->n * table->width], tuple, table->width * sizeof(*tuple));
        *bucket = (uint32_t) ++table->n;
    }
    table->counts[*bucket - 1]++;
    return ANX_OK;
}
