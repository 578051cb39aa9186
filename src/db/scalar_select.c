/* What a scalar index answers: rows of a condition, how many, values of a row, rows in order. */
#include "db/scalar_int.h"

size_t
scalar_rows(const struct scalar_index *index)
{
    return roaring_bitmap_get_cardinality(index->rows);
}

struct values
scalar_values(const struct scalar_index *index, uint32_t row, struct value *storage)
{
    if (!roaring_bitmap_contains(index->rows, row))
        return (struct values) { NULL, 0 };
    return scalar_cell_values(index, row, storage);
}

bool
scalar_is_ordered(const struct scalar_index *index)
{
    return index->tree && !index->is_array && index->n_long == 0;
}

bool
scalar_find(const struct scalar_index *index, const struct value *value, uint32_t *row)
{
    struct key key;
    postings rows;

    if (!index->tree || !key_make(&index->type, value, &key))
        return false;
    rows = tree_find(index->tree, &key);
    if (!rows)
        return false;
    *row = postings_first(rows);
    return true;
}

uint64_t
scalar_hash(const struct scalar_index *index, const struct value *value)
{
    return key_hash(&index->type, value);
}

int
scalar_compare(const struct scalar_index *index, const struct value *a, const struct value *b)
{
    return key_compare_values(&index->type, a, b);
}

/* ---- One row ---- */

static bool
has_value(const struct scalar_index *index, struct values row, const struct value *value)
{
    for (size_t i = 0; i < row.n; i++)
        if (row.items[i].type != VALUE_NULL && key_compare_values(&index->type, &row.items[i], value) == 0)
            return true;
    return false;
}

static bool
matches_any_of(const struct scalar_index *index, uint32_t row, struct values have,
               const struct values *values)
{
    struct key key;

    for (size_t i = 0; i < values->n; i++) {
        const struct value *value = &values->items[i];

        if (value->type == VALUE_NULL ? roaring_bitmap_contains(index->nulls, row)
                                      : key_make(&index->type, value, &key) && has_value(index, have, value))
            return true;
    }
    return false;
}

static bool
matches_all_of(const struct scalar_index *index, struct values have, const struct values *values)
{
    struct key key;

    for (size_t i = 0; i < values->n; i++)
        if (!key_make(&index->type, &values->items[i], &key) || !has_value(index, have, &values->items[i]))
            return false;
    return values->n > 0;
}

static bool
one_matches(const struct scalar_index *index, const struct value *have, enum query_condition condition,
            const struct values *values)
{
    int order;

    if (condition == COND_LIKE)
        return have->type == VALUE_STRING && text_like(have->text, values->items[0].text);
    order = key_compare_values(&index->type, have, &values->items[0]);
    if (condition == COND_RANGE)
        return order >= 0 && key_compare_values(&index->type, have, &values->items[1]) <= 0;
    return query_order_satisfies(condition, order);
}

/* Enough values, each of the index's type? Otherwise nothing matches. */
static bool
are_comparable(const struct scalar_index *index, enum query_condition condition, const struct values *values)
{
    size_t need = condition == COND_RANGE ? 2 : 1;
    struct key key;

    if (values->n < need || condition == COND_DWITHIN || condition == COND_KNN)
        return false;
    if (condition == COND_LIKE)
        return values->items[0].type == VALUE_STRING && index->type.parts[0].type == FIELD_STRING;
    for (size_t i = 0; i < need; i++)
        if (!key_make(&index->type, &values->items[i], &key))
            return false;
    return true;
}

bool
scalar_match(const struct scalar_index *index, uint32_t row, enum query_condition condition,
             const struct values *values)
{
    struct value storage;
    struct values have;

    if (!roaring_bitmap_contains(index->rows, row))
        return false;
    if (condition == COND_EMPTY || condition == COND_ANY)
        return roaring_bitmap_contains(index->nulls, row) == (condition == COND_EMPTY);
    have = scalar_cell_values(index, row, &storage);
    if (condition == COND_EQ || condition == COND_SET)
        return matches_any_of(index, row, have, values);
    if (condition == COND_ALLSET)
        return matches_all_of(index, have, values);
    if (!are_comparable(index, condition, values))
        return false;
    for (size_t i = 0; i < have.n; i++)
        if (have.items[i].type != VALUE_NULL && one_matches(index, &have.items[i], condition, values))
            return true;
    return false;
}

/* ---- Many rows ---- */

static void
select_by_column(const struct scalar_index *index, enum query_condition condition,
                 const struct values *values, roaring_bitmap_t *out)
{
    uint32_t rows[256], n;
    roaring_uint32_iterator_t it;

    roaring_init_iterator(index->rows, &it);
    while ((n = roaring_read_uint32_iterator(&it, rows, ANX_COUNT_OF(rows))) > 0) {
        uint32_t n_match = 0;

        for (uint32_t i = 0; i < n; i++)
            if (scalar_match(index, rows[i], condition, values))
                rows[n_match++] = rows[i];
        roaring_bitmap_add_many(out, n_match, rows);
    }
}

/* The keys of a comparison are those from *first up to, not including, *end. */
static void
range_of(const struct scalar_index *index, enum query_condition condition, const struct values *values,
         struct tree_place *first, struct tree_place *end)
{
    struct key key, high;

    (void) key_make(&index->type, &values->items[0], &key); /* are_comparable has tried it */
    *first = tree_begin(index->tree);
    *end = tree_end(index->tree);
    switch (condition) {
    case COND_LT:
        *end = tree_bound(index->tree, &key, false);
        break;
    case COND_LE:
        *end = tree_bound(index->tree, &key, true);
        break;
    case COND_GT:
        *first = tree_bound(index->tree, &key, true);
        break;
    case COND_GE:
        *first = tree_bound(index->tree, &key, false);
        break;
    default: /* COND_RANGE */
        (void) key_make(&index->type, &values->items[1], &high);
        *first = tree_bound(index->tree, &key, false);
        *end = tree_bound(index->tree, &high, true);
        break;
    }
}

/* Single rows are collected and added together: a range over a unique index has one row per key. */
struct collector {
    roaring_bitmap_t *out;
    uint32_t rows[1024];
    size_t n;
};

static void
collector_flush(struct collector *c)
{
    roaring_bitmap_add_many(c->out, c->n, c->rows);
    c->n = 0;
}

static void
collect(struct collector *c, postings rows)
{
    if (postings_count(rows) > 1) {
        postings_or(rows, c->out);
        return;
    }
    if (c->n == ANX_COUNT_OF(c->rows))
        collector_flush(c);
    c->rows[c->n++] = postings_first(rows);
}

static void
select_range(const struct scalar_index *index, enum query_condition condition, const struct values *values,
             roaring_bitmap_t *out)
{
    struct collector c = { .out = out };
    struct tree_place at, end;

    range_of(index, condition, values, &at, &end);
    while (tree_place_before(at, end)) {
        collect(&c, tree_rows(index->tree, at));
        (void) tree_next(index->tree, &at);
    }
    collector_flush(&c);
}

static void
select_like(const struct scalar_index *index, anx_text pattern, roaring_bitmap_t *out)
{
    struct tree_place at = tree_begin(index->tree);

    if (tree_count(index->tree) == 0)
        return;
    do {
        const struct text_block *key = (const struct text_block *) (uintptr_t) tree_low(index->tree, at);

        if (text_like(text_block_text(key), pattern))
            postings_or(tree_rows(index->tree, at), out);
    } while (tree_next(index->tree, &at));
}

static void
select_any_of(const struct scalar_index *index, const struct values *values, roaring_bitmap_t *out)
{
    struct key key;

    for (size_t i = 0; i < values->n; i++) {
        if (values->items[i].type == VALUE_NULL)
            roaring_bitmap_or_inplace(out, index->nulls);
        else if (key_make(&index->type, &values->items[i], &key))
            postings_or(tree_find(index->tree, &key), out);
    }
}

static anx_status
select_all_of(const struct scalar_index *index, const struct values *values, roaring_bitmap_t *out,
              anx_error *err)
{
    roaring_bitmap_t *rows = roaring_bitmap_create(), *one = roaring_bitmap_create();

    if (!rows || !one) {
        if (rows)
            roaring_bitmap_free(rows);
        if (one)
            roaring_bitmap_free(one);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a set of rows");
    }
    for (size_t i = 0; i < values->n; i++) {
        struct values value = { &values->items[i], 1 };

        roaring_bitmap_clear(one);
        if (value.items[0].type != VALUE_NULL)
            select_any_of(index, &value, one);
        if (i == 0)
            roaring_bitmap_or_inplace(rows, one);
        else
            roaring_bitmap_and_inplace(rows, one);
    }
    roaring_bitmap_or_inplace(out, rows);
    roaring_bitmap_free(rows);
    roaring_bitmap_free(one);
    return ANX_OK;
}

static anx_status
select_not_null(const struct scalar_index *index, roaring_bitmap_t *out, anx_error *err)
{
    roaring_bitmap_t *rows = roaring_bitmap_andnot(index->rows, index->nulls);

    if (!rows)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a set of rows");
    roaring_bitmap_or_inplace(out, rows);
    roaring_bitmap_free(rows);
    return ANX_OK;
}

anx_status
scalar_select(const struct scalar_index *index, enum query_condition condition, const struct values *values,
              roaring_bitmap_t *out, anx_error *err)
{
    bool is_set = condition == COND_EQ || condition == COND_SET;

    if (condition == COND_ANY)
        return select_not_null(index, out, err);
    if (condition == COND_EMPTY) {
        roaring_bitmap_or_inplace(out, index->nulls);
        return ANX_OK;
    }
    if (!is_set && condition != COND_ALLSET && !are_comparable(index, condition, values))
        return ANX_OK;
    /* A key with a collation is the text of one of its rows; LIKE looks at the text of each. */
    if (!index->tree || (condition == COND_LIKE && index->type.parts[0].collation.mode != COLLATE_NONE)) {
        select_by_column(index, condition, values, out);
        return ANX_OK;
    }
    if (condition == COND_ALLSET)
        return select_all_of(index, values, out, err);
    if (is_set)
        select_any_of(index, values, out);
    else if (condition == COND_LIKE)
        select_like(index, values->items[0].text, out);
    else
        select_range(index, condition, values, out);
    return ANX_OK;
}

static size_t
count_of(const struct scalar_index *index, const struct value *value)
{
    struct key key;

    if (value->type == VALUE_NULL)
        return roaring_bitmap_get_cardinality(index->nulls);
    return key_make(&index->type, value, &key) ? postings_count(tree_find(index->tree, &key)) : 0;
}

size_t
scalar_estimate(const struct scalar_index *index, enum query_condition condition, const struct values *values)
{
    size_t n_row = scalar_rows(index), n_null = roaring_bitmap_get_cardinality(index->nulls), n = 0;
    struct tree_place first, end;

    if (condition == COND_EMPTY)
        return n_null;
    if (condition == COND_ANY || !index->tree)
        return n_row - (condition == COND_ANY ? n_null : 0);
    if (condition == COND_EQ || condition == COND_SET) {
        for (size_t i = 0; i < values->n; i++)
            n += count_of(index, &values->items[i]);
        return n < n_row ? n : n_row;
    }
    if (condition == COND_ALLSET) {
        for (size_t i = 0; i < values->n; i++) {
            size_t one = count_of(index, &values->items[i]);

            n = i == 0 || one < n ? one : n;
        }
        return n;
    }
    if (!are_comparable(index, condition, values))
        return 0;
    if (condition == COND_LIKE || tree_count(index->tree) == 0)
        return n_row;
    range_of(index, condition, values, &first, &end);
    n = tree_distance(index->tree, first, end);
    n = (size_t) ((double) n * (double) n_row / (double) tree_count(index->tree));
    return n < n_row ? n : n_row;
}

/* ---- In order ---- */

void
scalar_walk(const struct scalar_index *index, bool is_descending, bool (*each)(void *context, uint32_t row),
            void *context)
{
    struct tree_place at;

    if (!scalar_is_ordered(index) ||
        (!is_descending && !postings_walk_bitmap(index->nulls, false, each, context)))
        return;
    if (tree_count(index->tree) > 0) {
        at = is_descending ? tree_end(index->tree) : tree_begin(index->tree);
        if (is_descending)
            (void) tree_previous(index->tree, &at);
        do {
            if (!postings_walk(tree_rows(index->tree, at), is_descending, each, context))
                return;
        } while (is_descending ? tree_previous(index->tree, &at) : tree_next(index->tree, &at));
    }
    if (is_descending)
        postings_walk_bitmap(index->nulls, true, each, context);
}

/* ---- Figures ---- */

size_t
scalar_unique(const struct scalar_index *index)
{
    if (!index->tree)
        return scalar_rows(index);
    return tree_count(index->tree) + !roaring_bitmap_is_empty(index->nulls);
}

size_t
scalar_memory(const struct scalar_index *index)
{
    size_t size = sizeof(*index) + chunks_memory(&index->cells) + roaring_bitmap_size_in_bytes(index->rows) +
                  roaring_bitmap_size_in_bytes(index->nulls);

    if (index->tree)
        size += tree_memory(index->tree);
    if (index->cell_kind != CELL_BLOCK && !(index->cell_kind == CELL_TEXT && index->owns_texts))
        return size;
    for (size_t row = 0; row < chunks_end(&index->cells); row++) {
        const void *block = *(void *const *) chunks_at(&index->cells, row);

        if (block)
            size += index->cell_kind == CELL_TEXT
                        ? sizeof(struct text_block) + ((const struct text_block *) block)->size
                        : value_block_size(block);
    }
    return size;
}

/* Each key of a row has the row, and there are no others: sums of both sides agree. */
struct check {
    const struct scalar_index *index;
    size_t n_posting; /* (key, row) pairs that the rows' values make */
};

static bool
check_row(uint32_t row, void *context)
{
    struct check *check = context;
    const struct scalar_index *index = check->index;
    struct value storage;
    struct values values = scalar_cell_values(index, row, &storage);
    bool has_null = values.n == 0;
    struct key key;

    for (size_t i = 0; i < values.n; i++) {
        struct values before = { values.items, i };

        if (values.items[i].type == VALUE_NULL) {
            has_null = true;
            continue;
        }
        if (!key_make(&index->type, &values.items[i], &key))
            return false;
        if (!index->tree || has_value(index, before, &values.items[i]))
            continue;
        if (!postings_has(tree_find(index->tree, &key), row))
            return false;
        check->n_posting++;
    }
    return has_null == roaring_bitmap_contains(index->nulls, row);
}

anx_status
scalar_check(const struct scalar_index *index, anx_error *err)
{
    struct check check = { .index = index };
    size_t n_posting = 0;
    struct tree_place at;

    if (!roaring_bitmap_is_subset(index->nulls, index->rows))
        return anx_fail(err, ANX_E_CORRUPT, "scalar index: a null row is not among its rows");
    if (!roaring_iterate(index->rows, check_row, &check))
        return anx_fail(err, ANX_E_CORRUPT, "scalar index: column, nulls and keys disagree about a row");
    if (!index->tree)
        return ANX_OK;
    if (!tree_check(index->tree))
        return anx_fail(err, ANX_E_CORRUPT, "scalar index: the order of its keys is broken");
    at = tree_begin(index->tree);
    if (tree_count(index->tree) > 0)
        do
            n_posting += postings_count(tree_rows(index->tree, at));
        while (tree_next(index->tree, &at));
    if (n_posting != check.n_posting)
        return anx_fail(err, ANX_E_CORRUPT, "scalar index: keys have %zu rows, the column makes %zu",
                        n_posting, check.n_posting);
    return ANX_OK;
}
