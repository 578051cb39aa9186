/* Random conditions, orders and windows against a plain model of the documents. The executor chooses between
 * bitmaps, lookups, walks and scans by estimates; whatever it chooses, the rows must be those of the model.
 */
#include "test_select_fixture.h"

#include <stdlib.h>

#include "base/rng.h"

enum { N_ROW = 1500, N_QUERY = 3000, MAX_ARRAY = 4, DEPTH_MAX = 2, TEXT_MAX = 8192 };

struct row {
    int id, a, b, c;
    int array[MAX_ARRAY], n_array;
    int sparse, free;
    bool has_sparse, has_free, is_deleted;
};
static struct row rows[N_ROW];

/* ---- Documents ---- */

static const char definition[] =
    "{\"name\":\"r\",\"indexes\":["
    INDEX_WITH("id", "int", "hash", "\"is_pk\":true") ","
    INDEX("a", "int", "hash") ","
    INDEX("b", "int", "tree") ","
    INDEX("c", "int", "-") ","
    INDEX_WITH("arr", "int", "hash", "\"is_array\":true") ","
    INDEX_WITH("o", "int", "tree", "\"is_sparse\":true") ","
    INDEX_OVER("a+b", "\"a\",\"b\"", "composite", "hash")
    "]}";

static void
fill_rows(anx_rng *rng)
{
    for (int i = 0; i < N_ROW; i++) {
        struct row *row = &rows[i];

        *row = (struct row){ .id = i * 7 % N_ROW,
                             .a = (int) anx_rng_below(rng, 40),
                             .b = (int) anx_rng_below(rng, 300) };
        row->c = (int) anx_rng_below(rng, 10);
        row->n_array = (int) anx_rng_below(rng, MAX_ARRAY + 1);
        for (int j = 0; j < row->n_array; j++)
            row->array[j] = (int) anx_rng_below(rng, 20);
        row->has_sparse = anx_rng_below(rng, 3) > 0;
        row->sparse = row->has_sparse ? (int) anx_rng_below(rng, 30) : 0;
        row->has_free = anx_rng_below(rng, 4) > 0;
        row->free = row->has_free ? (int) anx_rng_below(rng, 25) : 0;
        row->is_deleted = i % 11 == 5;
    }
}

static void
print_row(anx_buffer *out, const struct row *row)
{
    anx_buffer_printf(out, "{\"id\":%d,\"a\":%d,\"b\":%d,\"c\":%d,\"arr\":[", row->id, row->a, row->b,
                      row->c);
    for (int j = 0; j < row->n_array; j++)
        anx_buffer_printf(out, "%s%d", j > 0 ? "," : "", row->array[j]);
    anx_buffer_char(out, ']');
    if (row->has_sparse)
        anx_buffer_printf(out, ",\"o\":%d", row->sparse);
    if (row->has_free)
        anx_buffer_printf(out, ",\"f\":%d", row->free);
    anx_buffer_char(out, '}');
}

static int
set_up(void **state)
{
    static struct fixture f;
    anx_rng rng = anx_rng_seed(7);
    anx_buffer documents;
    anx_error err;
    size_t n;

    fixture_open(&f);
    fill_rows(&rng);
    anx_buffer_init(&documents, NULL, 1 << 24);
    for (int i = 0; i < N_ROW; i++)
        print_row(&documents, &rows[i]);
    anx_buffer_char(&documents, '\0');
    fixture_namespace(&f, definition, "r", documents.data);
    anx_buffer_clear(&documents);
    for (int i = 0; i < N_ROW; i++)
        if (rows[i].is_deleted)
            anx_buffer_printf(&documents, "{\"id\":%d}", rows[i].id);
    assert_int_equal(db_write(f.db, ANX_TEXT("r"), WRITE_DELETE, (anx_text){ documents.data, documents.size },
                              NULL, 0, NULL, &n, NULL, &err),
                     ANX_OK);
    anx_buffer_fini(&documents);
    *state = &f;
    return 0;
}

static int
tear_down(void **state)
{
    fixture_close(*state);
    return 0;
}

/* ---- Conditions: a tree with its text ---- */

enum field { FIELD_ID, FIELD_A, FIELD_B, FIELD_C, FIELD_ARRAY, FIELD_SPARSE, FIELD_FREE, N_FIELD };
static const char *const field_names[N_FIELD] = { "id", "a", "b", "c", "arr", "o", "f" };
static const int field_ranges[N_FIELD] = { N_ROW, 40, 300, 10, 20, 30, 25 };

enum condition { IS_EQUAL, IS_LESS, IS_AT_LEAST, IS_IN, IS_BETWEEN, IS_NULL, N_CONDITION };

struct term {
    enum { TERM_AND, TERM_OR, TERM_NOT } op;
    bool is_bracket;
    enum field field;
    enum condition condition;
    int values[6], n_value;
    struct term *terms;
    int n_term;
};

static struct term pool[256];
static int n_pool;

static void
random_values(anx_rng *rng, struct term *term)
{
    uint32_t range = (uint32_t) field_ranges[term->field];

    term->n_value = term->condition == IS_BETWEEN ? 2
                    : term->condition == IS_IN    ? (int) anx_rng_below(rng, 6)
                                                  : 1;
    for (int i = 0; i < term->n_value; i++) /* now and then the same value twice */
        term->values[i] =
            i > 0 && anx_rng_below(rng, 4) == 0 ? term->values[0] : (int) anx_rng_below(rng, range);
}

/* Equalities that a composite index can answer, for values that some document has. */
static void
demand_pair(anx_rng *rng, struct term *terms, int n)
{
    const struct row *row = &rows[anx_rng_below(rng, N_ROW)];

    if (n < 2 || anx_rng_below(rng, 5) > 0)
        return;
    terms[0] = (struct term) { .field = FIELD_A, .n_value = 1, .values = { row->a } };
    terms[1] = (struct term) { .field = FIELD_B, .n_value = 1, .values = { row->b } };
}

static bool
knows_null(enum field field)
{
    return field == FIELD_ARRAY || field == FIELD_SPARSE || field == FIELD_FREE;
}

static void
random_terms(anx_rng *rng, int depth, struct term **out, int *n)
{
    *n = 1 + (int) anx_rng_below(rng, 4);
    *out = &pool[n_pool];
    n_pool += *n;
    for (int i = 0; i < *n; i++) {
        struct term *term = &(*out)[i];
        uint32_t op = anx_rng_below(rng, 4);

        *term = (struct term) { .op = op == 0 ? TERM_NOT : op == 1 && i > 0 ? TERM_OR : TERM_AND };
        if (depth < DEPTH_MAX && anx_rng_below(rng, 4) == 0) {
            term->is_bracket = true;
            random_terms(rng, depth + 1, &term->terms, &term->n_term);
            continue;
        }
        term->field = (enum field) anx_rng_below(rng, N_FIELD);
        term->condition = (enum condition) anx_rng_below(rng, N_CONDITION);
        if (term->condition == IS_NULL && !knows_null(term->field))
            term->condition = IS_EQUAL;
        random_values(rng, term);
    }
}

static void
print_terms(anx_buffer *out, const struct term *terms, int n)
{
    static const char *const ops[] = { [IS_EQUAL] = "=", [IS_LESS] = "<", [IS_AT_LEAST] = ">=" };

    for (int i = 0; i < n; i++) {
        const struct term *t = &terms[i];

        anx_buffer_printf(out, "%s%s",
                          i == 0             ? ""
                          : t->op == TERM_OR ? " OR "
                                             : " AND ",
                          t->op == TERM_NOT ? "NOT " : "");
        if (t->is_bracket) {
            anx_buffer_char(out, '(');
            print_terms(out, t->terms, t->n_term);
            anx_buffer_char(out, ')');
        } else if (t->condition == IS_NULL) {
            anx_buffer_printf(out, "%s IS NULL", field_names[t->field]);
        } else if (t->condition == IS_IN || t->condition == IS_BETWEEN) {
            anx_buffer_printf(out, "%s %s (", field_names[t->field], t->condition == IS_IN ? "IN" : "RANGE");
            for (int j = 0; j < t->n_value; j++)
                anx_buffer_printf(out, "%s%d", j > 0 ? "," : "", t->values[j]);
            anx_buffer_char(out, ')');
        } else {
            anx_buffer_printf(out, "%s %s %d", field_names[t->field], ops[t->condition], t->values[0]);
        }
    }
}

static int
row_values(const struct row *row, enum field field, int *out)
{
    const int single[N_FIELD] = { row->id, row->a, row->b, row->c, 0, row->sparse, row->free };

    if (field == FIELD_ARRAY) {
        memcpy(out, row->array, sizeof(row->array));
        return row->n_array;
    }
    out[0] = single[field];
    return (field != FIELD_SPARSE || row->has_sparse) && (field != FIELD_FREE || row->has_free);
}

static bool
holds(const struct term *t, int value)
{
    bool is_found = false;

    switch (t->condition) {
    case IS_EQUAL:
        return value == t->values[0];
    case IS_LESS:
        return value < t->values[0];
    case IS_AT_LEAST:
        return value >= t->values[0];
    case IS_BETWEEN:
        return value >= t->values[0] && value <= t->values[1];
    case IS_IN:
        for (int i = 0; i < t->n_value; i++)
            is_found |= value == t->values[i];
        return is_found;
    default:
        return false;
    }
}

static bool
is_true(const struct term *terms, int n, const struct row *row)
{
    bool all = true, group = false;

    for (int i = 0; i < n; i++) {
        const struct term *t = &terms[i];
        int values[MAX_ARRAY], n_value;
        bool is_match = false;

        if (t->is_bracket) {
            is_match = is_true(t->terms, t->n_term, row);
        } else {
            n_value = row_values(row, t->field, values);
            for (int j = 0; j < n_value; j++)
                is_match |= holds(t, values[j]);
            if (t->condition == IS_NULL)
                is_match = n_value == 0;
        }
        is_match = is_match != (t->op == TERM_NOT);
        if (t->op == TERM_OR) {
            group |= is_match;
        } else {
            all = all && (i == 0 || group);
            group = is_match;
        }
    }
    return all && group;
}

/* ---- Orders ---- */

struct order {
    enum field fields[2];
    bool is_descending[2];
    int n;
};
static struct order order; /* of the query being checked, for qsort */

static int
compare_field(const struct row *a, const struct row *b, enum field field)
{
    int x[MAX_ARRAY], y[MAX_ARRAY];
    int n = row_values(a, field, x), m = row_values(b, field, y);

    for (int i = 0; i < n && i < m; i++)
        if (x[i] != y[i])
            return x[i] < y[i] ? -1 : 1;
    return n < m ? -1 : n > m;
}

static int
compare_rows(const void *a, const void *b)
{
    const struct row *x = *(const struct row *const *) a, *y = *(const struct row *const *) b;

    for (int i = 0; i < order.n; i++) {
        int result = compare_field(x, y, order.fields[i]);

        if (result != 0)
            return order.is_descending[i] ? -result : result;
    }
    return (x < y ? -1 : x > y) * (order.n > 0 && order.is_descending[0] ? -1 : 1);
}

static void
random_order(anx_rng *rng, anx_buffer *sql)
{
    order = (struct order) { .n = (int) anx_rng_below(rng, 3) };
    for (int i = 0; i < order.n; i++) {
        do
            order.fields[i] = (enum field) anx_rng_below(rng, N_FIELD);
        while (i > 0 && order.fields[i] == order.fields[0]);
        order.is_descending[i] = anx_rng_below(rng, 2) == 0;
        anx_buffer_printf(sql, "%s%s%s", i == 0 ? " ORDER BY " : ", ", field_names[order.fields[i]],
                          order.is_descending[i] ? " DESC" : "");
    }
}

/* ---- The comparison ---- */

static size_t
expected_rows(const struct term *terms, int n_term, const struct row **out)
{
    size_t n = 0;

    for (int i = 0; i < N_ROW; i++)
        if (!rows[i].is_deleted && is_true(terms, n_term, &rows[i]))
            out[n++] = &rows[i];
    qsort(out, n, sizeof(*out), compare_rows);
    return n;
}

static void
check_query(struct fixture *f, anx_rng *rng)
{
    const struct row *expected[N_ROW];
    struct term *terms;
    anx_buffer sql, text, out;
    size_t n, limit, offset, n_printed = 0;
    int n_term;
    bool has_window = anx_rng_below(rng, 2) == 0, has_total = anx_rng_below(rng, 3) == 0;

    n_pool = 0;
    random_terms(rng, 0, &terms, &n_term);
    demand_pair(rng, terms, n_term);
    anx_buffer_init(&sql, NULL, TEXT_MAX);
    anx_buffer_init(&text, NULL, 1 << 20);
    anx_buffer_printf(&sql, "SELECT id%s FROM r WHERE ", has_total ? ", COUNT(*)" : "");
    print_terms(&sql, terms, n_term);
    random_order(rng, &sql);
    limit = has_window ? anx_rng_below(rng, 20) : N_ROW;
    offset = has_window ? anx_rng_below(rng, 10) : 0;
    if (has_window)
        anx_buffer_printf(&sql, " LIMIT %zu OFFSET %zu", limit, offset);
    anx_buffer_char(&sql, '\0');
    n = expected_rows(terms, n_term, expected);
    anx_buffer_text(&text, ANX_TEXT("{\"items\":["));
    for (size_t i = offset; i < n && n_printed < limit; i++)
        anx_buffer_printf(&text, "%s{\"id\":%d}", n_printed++ > 0 ? "," : "", expected[i]->id);
    anx_buffer_char(&text, ']');
    if (has_total)
        anx_buffer_printf(&text,
                          ",\"aggregations\":[{\"value\":%zu.0,\"type\":\"count\",\"fields\":[\"*\"]}]", n);
    anx_buffer_text(&text, ANX_TEXT(",\"namespaces\":[\"r\"],\"cache_enabled\":false"));
    if (has_total)
        anx_buffer_printf(&text, ",\"total_items\":%zu,\"query_total_items\":%zu", n, n);
    anx_buffer_text(&text, ANX_TEXT("}"));
    anx_buffer_char(&text, '\0');
    fixture_run(f, sql.data, NULL, &out);
    if (strcmp(out.data, text.data) != 0)
        fail_msg("%s\n  gives    %.300s\n  expected %.300s", sql.data, out.data, text.data);
    anx_buffer_fini(&sql);
    anx_buffer_fini(&text);
    anx_buffer_fini(&out);
}

static void
every_plan_gives_the_rows_of_the_model(void **state)
{
    anx_rng rng = anx_rng_seed(20);

    for (int i = 0; i < N_QUERY; i++)
        check_query(*state, &rng);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_plan_gives_the_rows_of_the_model),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
