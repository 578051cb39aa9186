/* Scalar indexes against a model: a plain list of values per row, every condition evaluated one row at a time
 * with the doc room's comparisons. Every type, collation and shape of index goes through the same random
 * changes, some of which are begun and taken back. */
#include "test_util.h"

#include <string.h>

#include "base/error.h"
#include "base/rng.h"
#include "db/data.h"
#include "db/postings.h"

enum { N_ROW = 300, N_VALUE_MAX = 5, N_STEP = 3000, N_ASK = 60 };

struct setup {
    const char *name;
    enum field_type type;
    enum index_type kind;
    bool is_array, is_sparse;
    enum collate_mode collate;
};
static const struct setup setups[] = {
    { "int hash", FIELD_INT, INDEX_HASH, false, false, COLLATE_NONE },
    { "int64 tree", FIELD_INT64, INDEX_TREE, false, false, COLLATE_NONE },
    { "int64 ttl", FIELD_INT64, INDEX_TTL, false, false, COLLATE_NONE },
    { "int column", FIELD_INT, INDEX_COLUMN, false, false, COLLATE_NONE },
    { "int sparse", FIELD_INT, INDEX_TREE, false, true, COLLATE_NONE },
    { "int array", FIELD_INT, INDEX_HASH, true, false, COLLATE_NONE },
    { "int array sparse", FIELD_INT, INDEX_HASH, true, true, COLLATE_NONE },
    { "int array column", FIELD_INT, INDEX_COLUMN, true, false, COLLATE_NONE },
    { "double tree", FIELD_DOUBLE, INDEX_TREE, false, false, COLLATE_NONE },
    { "double column sparse", FIELD_DOUBLE, INDEX_COLUMN, false, true, COLLATE_NONE },
    { "bool column", FIELD_BOOL, INDEX_COLUMN, false, false, COLLATE_NONE },
    { "uuid hash", FIELD_UUID, INDEX_HASH, false, false, COLLATE_NONE },
    { "uuid array", FIELD_UUID, INDEX_HASH, true, false, COLLATE_NONE },
    { "string hash", FIELD_STRING, INDEX_HASH, false, false, COLLATE_NONE },
    { "string tree ascii", FIELD_STRING, INDEX_TREE, false, false, COLLATE_ASCII },
    { "string tree utf8", FIELD_STRING, INDEX_TREE, false, false, COLLATE_UTF8 },
    { "string tree numeric", FIELD_STRING, INDEX_TREE, false, false, COLLATE_NUMERIC },
    { "string tree custom", FIELD_STRING, INDEX_TREE, false, false, COLLATE_CUSTOM },
    { "string column", FIELD_STRING, INDEX_COLUMN, false, false, COLLATE_NONE },
    { "string column ascii", FIELD_STRING, INDEX_COLUMN, false, false, COLLATE_ASCII },
    { "string array", FIELD_STRING, INDEX_TREE, true, false, COLLATE_NONE },
    { "string array utf8", FIELD_STRING, INDEX_HASH, true, false, COLLATE_UTF8 },
    { "string sparse ascii", FIELD_STRING, INDEX_TREE, false, true, COLLATE_ASCII },
    { "composite tree", FIELD_COMPOSITE, INDEX_TREE, false, false, COLLATE_NONE },
    { "composite hash ascii", FIELD_COMPOSITE, INDEX_HASH, false, false, COLLATE_ASCII },
};

struct world {
    const struct setup *setup;
    struct ns ns;
    struct ns_index indexes[3]; /* the one under test; components of the composite */
    struct index_def defs[3];
    anx_text paths[2];
    struct scalar_index *index;
    anx_arena *arena; /* values of the model */
    anx_rng rng;
    bool has[N_ROW];
    struct values rows[N_ROW]; /* as scalar_values gives them */
    bool is_null[N_ROW];
};

/* ---- Values ---- */

static struct value
random_text(struct world *w)
{
    static const char *const pieces[] = { "",   "a", "A", "b", "_", "1",
                                          "12", "2", "é", "É", " ", "commonprefix",
                                          "z" };
    char text[80] = "";
    size_t n = anx_rng_below(&w->rng, 4);

    for (size_t i = 0; i < n; i++)
        strncat(text, pieces[anx_rng_below(&w->rng, (uint32_t) ANX_COUNT_OF(pieces))],
                sizeof(text) - strlen(text) - 1);
    return (struct value) { .type = VALUE_STRING, .text = anx_arena_text(w->arena, anx_text_of(text)) };
}

static struct value
random_number(struct world *w, enum field_type type)
{
    static const double extremes[] = { -0.0, 1e300, -1e300, 5e-324, -5e-324, 0.1 };
    int64_t i = (int64_t) anx_rng_below(&w->rng, 61) - 30;

    if (type == FIELD_BOOL)
        return (struct value) { .type = VALUE_BOOL, .boolean = i > 0 };
    if (type == FIELD_DOUBLE && anx_rng_below(&w->rng, 8) == 0)
        return (struct value) { .type = VALUE_DOUBLE, .real = extremes[anx_rng_below(&w->rng, 6)] };
    if (type == FIELD_DOUBLE)
        return (struct value) { .type = VALUE_DOUBLE, .real = (double) i / 4 };
    if (type == FIELD_INT64 && anx_rng_below(&w->rng, 8) == 0)
        i = i > 0 ? INT64_MAX - i : INT64_MIN - i;
    return (struct value) { .type = VALUE_INT, .integer = i };
}

static struct value
random_uuid(struct world *w)
{
    struct value value = { .type = VALUE_UUID };

    for (size_t i = 0; i < sizeof(value.uuid); i += 5)
        value.uuid[i] = (uint8_t) (anx_rng_below(&w->rng, 3) * 100);
    return value;
}

static struct value
random_value(struct world *w)
{
    struct value value = { .type = VALUE_TUPLE };

    switch (w->setup->type) {
    case FIELD_STRING:
        return random_text(w);
    case FIELD_UUID:
        return random_uuid(w);
    case FIELD_COMPOSITE:
        value.tuple = (struct values) { anx_arena_array(w->arena, 2, sizeof(struct value)), 2 };
        value.tuple.items[0] = random_number(w, FIELD_INT);
        value.tuple.items[1] = random_text(w);
        return value;
    default:
        return random_number(w, w->setup->type);
    }
}

static struct values
random_values(struct world *w, bool with_nulls)
{
    struct values values = { anx_arena_array(w->arena, N_VALUE_MAX, sizeof(struct value)), 1 };

    if (w->setup->is_array || w->setup->is_sparse)
        values.n = anx_rng_below(&w->rng, w->setup->is_array ? N_VALUE_MAX + 1 : 3);
    for (size_t i = 0; i < values.n; i++) {
        values.items[i] = random_value(w);
        if (with_nulls && (w->setup->is_array || w->setup->is_sparse) && anx_rng_below(&w->rng, 6) == 0)
            values.items[i].type = VALUE_NULL;
    }
    return values;
}

/* ---- The model ---- */

static struct value
default_value(const struct world *w)
{
    switch (w->setup->type) {
    case FIELD_STRING:
        return (struct value) { .type = VALUE_STRING };
    case FIELD_UUID:
        return (struct value) { .type = VALUE_UUID };
    default:
        return (struct value) { .type = VALUE_INT };
    }
}

static void
model_put(struct world *w, uint32_t row, struct values values)
{
    bool has_null = false;

    for (size_t i = 0; i < values.n; i++)
        if (values.items[i].type == VALUE_NULL) {
            if (w->setup->is_sparse)
                has_null = true;
            else
                values.items[i] = default_value(w);
        }
    if (w->setup->is_sparse && values.n == 1 && has_null)
        values.n = 0;
    w->has[row] = true;
    w->rows[row] = values;
    w->is_null[row] = has_null || values.n == 0;
}

static int
model_compare(const struct world *w, const struct value *a, const struct value *b)
{
    const struct collation *collation = &w->indexes[0].collation;
    bool comparable = true;
    int order = 0;

    if (a->type != VALUE_TUPLE) {
        order = value_compare(a, b, collation, &comparable);
        assert_true(comparable);
        return order;
    }
    for (size_t i = 0; i < 2 && order == 0; i++)
        order =
            value_compare(&a->tuple.items[i], &b->tuple.items[i], &w->indexes[1 + i].collation, &comparable);
    return order;
}

static bool
model_has(const struct world *w, uint32_t row, const struct value *value)
{
    if (value->type == VALUE_NULL)
        return w->is_null[row];
    for (size_t i = 0; i < w->rows[row].n; i++)
        if (w->rows[row].items[i].type != VALUE_NULL && model_compare(w, &w->rows[row].items[i], value) == 0)
            return true;
    return false;
}

static bool
model_one(const struct world *w, const struct value *have, enum query_condition condition,
          struct values values)
{
    int order;

    if (have->type == VALUE_NULL)
        return false;
    if (condition == COND_LIKE)
        return text_like(have->text, values.items[0].text);
    order = model_compare(w, have, &values.items[0]);
    switch (condition) {
    case COND_LT:
        return order < 0;
    case COND_LE:
        return order <= 0;
    case COND_GT:
        return order > 0;
    case COND_GE:
        return order >= 0;
    default:
        return order >= 0 && model_compare(w, have, &values.items[1]) <= 0;
    }
}

static bool
model_match(const struct world *w, uint32_t row, enum query_condition condition, struct values values)
{
    bool all = values.n > 0, any = false;

    if (!w->has[row])
        return false;
    if (condition == COND_EMPTY || condition == COND_ANY)
        return w->is_null[row] == (condition == COND_EMPTY);
    if (condition == COND_EQ || condition == COND_SET || condition == COND_ALLSET) {
        for (size_t i = 0; i < values.n; i++) {
            bool has = model_has(w, row, &values.items[i]);

            any |= has;
            all &= has;
        }
        return condition == COND_ALLSET ? all : any;
    }
    for (size_t i = 0; i < w->rows[row].n; i++)
        any |= model_one(w, &w->rows[row].items[i], condition, values);
    return any;
}

/* ---- Comparing ---- */

static void
ask(struct world *w, enum query_condition condition, struct values values)
{
    roaring_bitmap_t *rows = roaring_bitmap_create();
    size_t n = 0, estimate = scalar_estimate(w->index, condition, &values);
    anx_error err;

    assert_int_equal(scalar_select(w->index, condition, &values, rows, &err), ANX_OK);
    for (uint32_t row = 0; row < N_ROW; row++) {
        bool want = model_match(w, row, condition, values);

        if (roaring_bitmap_contains(rows, row) != want ||
            scalar_match(w->index, row, condition, &values) != want)
            fail_msg("%s, row %u, condition %d: select %d, match %d, model %d", w->setup->name, row,
                     condition, roaring_bitmap_contains(rows, row),
                     scalar_match(w->index, row, condition, &values), want);
        n += want;
    }
    if (condition == COND_EQ && w->setup->kind != INDEX_COLUMN)
        assert_true(estimate >= n && estimate <= 2 * n + values.n * n);
    roaring_bitmap_free(rows);
}

static void
ask_all(struct world *w)
{
    static const enum query_condition conditions[] = { COND_ANY,   COND_EMPTY,  COND_EQ,  COND_SET,
                                                       COND_LT,    COND_LE,     COND_GT,  COND_GE,
                                                       COND_RANGE, COND_ALLSET, COND_LIKE };
    static const char *const patterns[] = { "%a%", "_", "common%", "%é", "", "a_" };

    for (size_t i = 0; i < N_ASK; i++) {
        enum query_condition condition = conditions[i % ANX_COUNT_OF(conditions)];
        struct values values = { anx_arena_array(w->arena, 4, sizeof(struct value)), 1 };

        if (condition == COND_ANY || condition == COND_EMPTY)
            values.n = 0;
        if (condition == COND_SET || condition == COND_ALLSET)
            values.n = 1 + anx_rng_below(&w->rng, 3);
        if (condition == COND_RANGE)
            values.n = 2;
        for (size_t v = 0; v < values.n; v++)
            values.items[v] = random_value(w);
        if (condition == COND_SET && anx_rng_below(&w->rng, 2))
            values.items[0].type = VALUE_NULL;
        if (condition == COND_LIKE) {
            if (w->setup->type != FIELD_STRING)
                continue;
            values.items[0].text =
                anx_text_of(patterns[anx_rng_below(&w->rng, (uint32_t) ANX_COUNT_OF(patterns))]);
        }
        ask(w, condition, values);
    }
}

static void
check_values(struct world *w)
{
    for (uint32_t row = 0; row < N_ROW; row++) {
        struct value storage;
        struct values got = scalar_values(w->index, row, &storage);

        assert_int_equal(got.n, w->has[row] ? w->rows[row].n : 0);
        for (size_t i = 0; i < got.n; i++) {
            const struct value *want = &w->rows[row].items[i];

            assert_int_equal(got.items[i].type == VALUE_NULL, want->type == VALUE_NULL);
            if (want->type == VALUE_STRING)
                assert_true(anx_text_equal(got.items[i].text, want->text));
            else if (want->type != VALUE_NULL)
                assert_int_equal(model_compare(w, &got.items[i], want), 0);
        }
    }
}

struct walk {
    uint32_t rows[N_ROW];
    size_t n;
};

static bool
note_row(void *context, uint32_t row)
{
    struct walk *walk = context;

    walk->rows[walk->n++] = row;
    return true;
}

static void
check_walk(struct world *w)
{
    struct walk up = { .n = 0 }, down = { .n = 0 };

    if (!scalar_is_ordered(w->index))
        return;
    scalar_walk(w->index, false, note_row, &up);
    scalar_walk(w->index, true, note_row, &down);
    assert_int_equal(up.n, scalar_rows(w->index));
    assert_int_equal(down.n, up.n);
    for (size_t i = 0; i < up.n; i++) {
        uint32_t a = up.rows[i ? i - 1 : 0], b = up.rows[i];
        int order;

        assert_int_equal(down.rows[up.n - 1 - i], b);
        if (i == 0)
            continue;
        if (w->is_null[a] || w->is_null[b])
            order = w->is_null[b] - w->is_null[a];
        else
            order = model_compare(w, &w->rows[a].items[0], &w->rows[b].items[0]);
        assert_true(order < 0 || (order == 0 && a < b));
    }
}

/* ---- Running ---- */

static void
world_init(struct world *w, const struct setup *setup)
{
    static const char letters[] = "ZzYyXxBbAa";
    anx_error err;

    memset(w, 0, sizeof(*w));
    w->setup = setup;
    w->arena = anx_arena_create(NULL, 0);
    w->rng = anx_rng_seed(7);
    w->paths[0] = ANX_TEXT("first");
    w->paths[1] = ANX_TEXT("second");
    w->defs[0] = (struct index_def) { .name = ANX_TEXT("index"), .field_type = setup->type };
    w->defs[0].index_type = setup->kind;
    w->defs[0].is_array = setup->is_array;
    w->defs[0].is_sparse = setup->is_sparse;
    w->defs[1] = (struct index_def){ .name = w->paths[0], .field_type = FIELD_INT, .index_type = INDEX_HASH };
    w->defs[2] =
        (struct index_def){ .name = w->paths[1], .field_type = FIELD_STRING, .index_type = INDEX_HASH };
    if (setup->type == FIELD_COMPOSITE) {
        w->defs[0].json_paths = w->paths;
        w->defs[0].n_path = 2;
    }
    for (size_t i = 0; i < 3; i++)
        w->indexes[i].def = &w->defs[i];
    w->indexes[setup->type == FIELD_COMPOSITE ? 2 : 0].collation.mode = setup->collate;
    if (setup->collate == COLLATE_CUSTOM)
        assert_int_equal(
            collation_custom(anx_text_of(letters), w->arena, &w->indexes[0].collation.custom, &err), ANX_OK);
    w->ns.indexes = w->indexes;
    w->ns.n_index = 3;
    assert_int_equal(scalar_create(&w->ns, &w->indexes[0], &w->index, &err), ANX_OK);
}

static void
step(struct world *w)
{
    uint32_t row = (uint32_t) anx_rng_below(&w->rng, N_ROW);
    struct values values = random_values(w, true);
    struct scalar_change change;
    anx_error err;

    switch (anx_rng_below(&w->rng, 6)) {
    case 0:
        scalar_remove(w->index, row);
        w->has[row] = false;
        w->rows[row].n = 0;
        return;
    case 1:
        assert_int_equal(scalar_begin(w->index, row, &values, &change, &err), ANX_OK);
        scalar_abort(w->index, row, &change);
        return;
    default:
        assert_int_equal(scalar_insert(w->index, row, &values, &err), ANX_OK);
        model_put(w, row, values);
        return;
    }
}

static void
indexes_agree_with_the_model(void **state)
{
    static struct world w; /* too big for a stack under sanitizers */

    (void) state;
    for (size_t s = 0; s < ANX_COUNT_OF(setups); s++) {
        anx_error err;

        world_init(&w, &setups[s]);
        for (size_t i = 0; i < N_STEP; i++) {
            step(&w);
            if (i % 300 != 299 && i > 20)
                continue;
            if (scalar_check(w.index, &err) != ANX_OK)
                fail_msg("%s, step %zu: %s", setups[s].name, i, err.message);
            ask_all(&w);
            check_values(&w);
            check_walk(&w);
        }
        for (uint32_t row = 0; row < N_ROW; row++)
            scalar_remove(w.index, row);
        assert_int_equal(scalar_unique(w.index), 0);
        assert_int_equal(scalar_check(w.index, &err), ANX_OK);
        scalar_destroy(w.index);
        anx_arena_destroy(w.arena);
    }
}

/* Many distinct keys, in an order that splits and merges leaves everywhere. */
static void
many_keys_come_and_go(void **state)
{
    static const struct setup setup = { "int64 tree", FIELD_INT64, INDEX_TREE, false, false, COLLATE_NONE };
    static struct world w;
    enum { N = 20000, STRIDE = 7919 };
    anx_error err;

    (void) state;
    for (int order = 0; order < 3; order++) {
        world_init(&w, &setup);
        for (uint32_t i = 0; i < N; i++) {
            uint32_t key = order == 0 ? i : order == 1 ? N - i : i * STRIDE % N;
            struct value value = { .type = VALUE_INT, .integer = key };

            assert_int_equal(scalar_insert(w.index, i, &(struct values) { &value, 1 }, &err), ANX_OK);
        }
        assert_int_equal(scalar_unique(w.index), N);
        assert_int_equal(scalar_check(w.index, &err), ANX_OK);
        for (uint32_t i = 0; i < N; i++) {
            scalar_remove(w.index, order == 2 ? i : i * STRIDE % N);
            if (i % 1000 == 0)
                assert_int_equal(scalar_check(w.index, &err), ANX_OK);
        }
        assert_int_equal(scalar_unique(w.index), 0);
        scalar_destroy(w.index);
        anx_arena_destroy(w.arena);
    }
}

/* Arrays long enough that old and new elements are compared by sorting. */
static void
long_arrays_keep_their_keys(void **state)
{
    static const struct setup setup = { "int array", FIELD_INT, INDEX_HASH, true, false, COLLATE_NONE };
    static struct world w;
    static struct value items[400];
    struct scalar_change change;
    anx_error err;

    (void) state;
    world_init(&w, &setup);
    for (int round = 0; round < 20; round++) {
        struct values values = { items, 100 + anx_rng_below(&w.rng, 300) };

        for (size_t i = 0; i < values.n; i++)
            items[i] = (struct value) { .type = VALUE_INT, .integer = anx_rng_below(&w.rng, 500) };
        assert_int_equal(scalar_begin(w.index, 1, &values, &change, &err), ANX_OK);
        if (round % 3 == 2)
            scalar_abort(w.index, 1, &change);
        else
            scalar_commit(w.index, 1, &change);
        assert_int_equal(scalar_check(w.index, &err), ANX_OK);
    }
    scalar_remove(w.index, 1);
    assert_int_equal(scalar_unique(w.index), 0);
    scalar_destroy(w.index);
    anx_arena_destroy(w.arena);
}

static bool
next_row_is(void *context, uint32_t row)
{
    uint32_t *next = context;

    assert_int_equal(row, *next);
    *next += 3;
    return true;
}

/* One row, a few, many: the three forms of postings, growing and shrinking. */
static void
postings_change_their_form(void **state)
{
    postings p = 0;
    anx_error err;

    (void) state;
    for (uint32_t i = 0; i < 1000; i++) {
        uint32_t row = i * 7 % 1000 * 3, next = 0;
        bool added;

        assert_int_equal(postings_add(&p, row, &added, &err), ANX_OK);
        assert_true(added);
        assert_int_equal(postings_add(&p, row, &added, &err), ANX_OK);
        assert_false(added);
        assert_int_equal(postings_count(p), i + 1);
        assert_true(postings_has(p, row) && !postings_has(p, row + 1) && postings_check(p));
        if (i == 999)
            assert_true(postings_walk(p, false, next_row_is, &next) && next == 3000);
    }
    for (uint32_t i = 0; i < 1000; i++) {
        postings_remove(&p, i * 3);
        postings_remove(&p, i * 3 + 1);
        assert_int_equal(postings_count(p), 999 - i);
    }
    assert_true(p == 0);
}

static void
rows_take_freed_ids_latest_first(void **state)
{
    struct row_table *rows = rows_create();
    struct doc doc = { (const uint8_t *) "abc", 3 };
    uint32_t row;
    anx_error err;

    (void) state;
    assert_int_equal(rows_put(rows, 5, doc, &err), ANX_OK); /* loading: 0..4 become free */
    assert_int_equal(rows_free(rows), 5);
    assert_int_equal(rows_put(rows, 2, doc, &err), ANX_OK);
    assert_int_equal(rows_count(rows), 2);
    for (uint32_t want = 4; want != UINT32_MAX; want--) {
        if (want == 2)
            continue;
        assert_int_equal(rows_next(rows), want);
        assert_int_equal(rows_take(rows, &row, &err), ANX_OK);
        assert_int_equal(row, want);
        assert_null(rows_get(rows, row).bytes);
        assert_int_equal(rows_set(rows, row, doc, &err), ANX_OK);
    }
    assert_int_equal(rows_take(rows, &row, &err), ANX_OK);
    assert_int_equal(row, 6);
    rows_give_back(rows, row);
    assert_int_equal(rows_next(rows), 6);
    rows_remove(rows, 3);
    rows_remove(rows, 0);
    assert_int_equal(rows_next(rows), 0);
    assert_int_equal(rows_get(rows, 5).size, 3);
    assert_memory_equal(rows_get(rows, 5).bytes, "abc", 3);
    for (uint32_t i = 0; i < 6; i++)
        rows_remove(rows, i);
    assert_int_equal(rows_count(rows), 0);
    assert_int_equal(rows_next(rows), 0); /* numbering starts again */
    assert_int_equal(rows_end(rows), 0);
    rows_destroy(rows);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(postings_change_their_form),
        cmocka_unit_test(rows_take_freed_ids_latest_first),
        cmocka_unit_test(many_keys_come_and_go),
        cmocka_unit_test(long_arrays_keep_their_keys),
        cmocka_unit_test(indexes_agree_with_the_model),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
