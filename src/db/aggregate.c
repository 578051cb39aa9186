/* SUM, AVG, MIN, MAX, FACET and DISTINCT over the rows inside of a query's window. (Counts are totals:
 * part.c.) */
#include <stdlib.h>

#include "base/error.h"
#include "db/aggregate_int.h"

struct aggregate {
    const struct query_aggregate *query;
    struct field *fields; /* [n_part][n_field] */
    size_t n_field;
    double sum, least, greatest;
    size_t n; /* values that contributed */
    struct tuple_table tuples; /* FACET, DISTINCT: of the rows in the window */
    struct tuple_table seen;   /* DISTINCT: of all rows, to tell new ones */
};
struct aggregates {
    struct aggregate *items;
    size_t n, n_distinct;
    struct value *tuple;    /* scratch, as wide as the widest */
    struct values *columns; /* the same */
};

static bool
is_count(const struct query_aggregate *query)
{
    return query->type == AGGREGATE_COUNT || query->type == AGGREGATE_COUNT_CACHED;
}

static bool
is_table(const struct query_aggregate *query)
{
    return query->type == AGGREGATE_FACET || query->type == AGGREGATE_DISTINCT;
}

/* ---- Checks ---- */

static anx_status
check_field(struct exec *x, const struct query_aggregate *query, const struct field *field)
{
    if (field->kind == FIELD_IS_VECTOR)
        return anx_fail(x->err, ANX_E_QUERY, "Aggregation by float vector index is not allowed: %.*s",
                        ANX_TEXT_ARG(field->name));
    if (field_is_composite(field) && query->type != AGGREGATE_DISTINCT)
        return anx_fail(x->err, ANX_E_QUERY, "Only DISTINCT aggregations are allowed over composite fields");
    if (field_is_composite(field) && query->n_field > 1)
        return anx_fail(x->err, ANX_E_QUERY, "DISTINCT multi field not support composite index");
    if (query->type == AGGREGATE_FACET && query->n_field > 1 && field_is_array(field))
        return anx_fail(x->err, ANX_E_QUERY, "Multifield facet cannot contain an array field");
    return ANX_OK;
}

static bool
is_same_field(const struct field *a, const struct field *b)
{
    return a->index || b->index ? a->index == b->index : anx_text_equal(a->name, b->name);
}

static anx_status
check_fields_once(struct exec *x, const struct field *fields, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (size_t j = 0; j < i; j++)
            if (is_same_field(&fields[i], &fields[j]))
                return anx_fail(x->err, ANX_E_QUERY,
                                "Aggregation function fields use one field twice. Field name '%.*s'",
                                ANX_TEXT_ARG(fields[i].name));
    return ANX_OK;
}

/* The field that a facet is sorted by; n_field for the count, SIZE_MAX for none. */
static size_t
find_order(const struct aggregate *a, anx_text name)
{
    for (size_t i = 0; i < a->n_field; i++)
        if (anx_text_equal_fold(a->fields[i].name, name) || anx_text_equal_fold(a->query->fields[i], name))
            return i;
    return anx_text_equal_fold(name, ANX_TEXT("count")) ? a->n_field : SIZE_MAX;
}

static anx_status
check_order(struct exec *x, const struct aggregate *a)
{
    for (size_t i = 0; i < a->query->n_sort; i++)
        if (find_order(a, a->query->sort[i].expression) == SIZE_MAX)
            return anx_fail(x->err, ANX_E_QUERY, "The aggregation facet cannot provide sort by '%.*s'",
                            ANX_TEXT_ARG(a->query->sort[i].expression));
    return ANX_OK;
}

/* With several DISTINCT, other aggregations may only be over their fields. */
static anx_status
check_distincts(struct exec *x, const struct aggregates *aggregates)
{
    for (size_t i = 0; aggregates->n_distinct > 1 && i < aggregates->n; i++) {
        const struct aggregate *a = &aggregates->items[i];

        if (a->query->type == AGGREGATE_DISTINCT)
            continue;
        for (size_t j = 0; j < a->n_field; j++) {
            bool is_found = false;

            for (size_t k = 0; k < aggregates->n; k++)
                is_found |= aggregates->items[k].query->type == AGGREGATE_DISTINCT &&
                            is_same_field(&aggregates->items[k].fields[0], &a->fields[j]);
            if (!is_found)
                return anx_fail(
                    x->err, ANX_E_QUERY,
                    "Cannot be combined several distinct and non distinct aggregator on index %.*s",
                    ANX_TEXT_ARG(a->fields[j].name));
        }
    }
    return ANX_OK;
}

/* ---- Compiling ---- */

static anx_status
compile_aggregate(struct exec *x, const struct query_aggregate *query, struct part **parts, size_t n_part,
                  struct aggregate *out)
{
    anx_status st = ANX_OK;

    *out = (struct aggregate) { .query = query, .n_field = query->n_field };
    out->fields = anx_arena_array(x->arena, n_part * query->n_field, sizeof(*out->fields));
    if (!out->fields)
        return exec_nomem(x);
    if (query->n_field == 0)
        return anx_fail(x->err, ANX_E_PARAMS, "Aggregation without a field");
    for (size_t i = 0; st == ANX_OK && i < n_part * query->n_field; i++) {
        const struct part *part = parts[i / query->n_field];

        st = field_bind(x, part->space, part->strict, query->fields[i % query->n_field], FIELD_USE_AGGREGATE,
                        &out->fields[i]);
        if (st == ANX_OK)
            st = check_field(x, query, &out->fields[i]);
    }
    if (st == ANX_OK)
        st = check_fields_once(x, out->fields, out->n_field);
    out->tuples.width = out->seen.width = query->n_field;
    return st == ANX_OK ? check_order(x, out) : st;
}

anx_status
aggregates_compile(struct exec *x, const struct query *query, struct part **parts, size_t n_part,
                   struct aggregates **out)
{
    struct aggregates *aggregates;
    size_t n = 0, widest = 1;
    anx_status st = ANX_OK;

    *out = NULL;
    for (size_t i = 0; i < query->n_aggregate; i++) {
        n += !is_count(&query->aggregates[i]);
        widest = query->aggregates[i].n_field > widest ? query->aggregates[i].n_field : widest;
    }
    if (n == 0)
        return ANX_OK;
    aggregates = anx_arena_array(x->arena, 1, sizeof(*aggregates));
    if (!aggregates)
        return exec_nomem(x);
    aggregates->items = anx_arena_array(x->arena, n, sizeof(*aggregates->items));
    aggregates->tuple = anx_arena_array(x->arena, widest, sizeof(*aggregates->tuple));
    aggregates->columns = anx_arena_array(x->arena, widest, sizeof(*aggregates->columns));
    if (!aggregates->items || !aggregates->tuple || !aggregates->columns)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < query->n_aggregate; i++) {
        if (is_count(&query->aggregates[i]))
            continue;
        aggregates->n_distinct += query->aggregates[i].type == AGGREGATE_DISTINCT;
        st = compile_aggregate(x, &query->aggregates[i], parts, n_part, &aggregates->items[aggregates->n++]);
    }
    *out = aggregates;
    return st == ANX_OK ? check_distincts(x, aggregates) : st;
}

bool
aggregates_hide_items(const struct aggregates *aggregates)
{
    return aggregates && (aggregates->n > 1 || aggregates->n_distinct == 0);
}

bool
aggregates_are_distinct(const struct aggregates *aggregates)
{
    return aggregates && aggregates->n_distinct > 0;
}

/* ---- Rows ---- */

static anx_status
add_number(struct exec *x, struct aggregate *a, const struct value *value)
{
    double number;
    anx_status st = value_number(x, value, &number);

    if (st != ANX_OK)
        return st;
    a->least = a->n == 0 || number < a->least ? number : a->least;
    a->greatest = a->n == 0 || number > a->greatest ? number : a->greatest;
    a->sum += number;
    a->n++;
    return ANX_OK;
}

static anx_status
add_numbers(struct exec *x, struct aggregate *a, struct field *field, uint32_t row)
{
    struct values values = field_values(x, field, row);
    anx_status st = x->status;

    for (size_t i = 0; st == ANX_OK && i < values.n; i++)
        if (values.items[i].type != VALUE_NULL)
            st = add_number(x, a, &values.items[i]);
    return st;
}

/* The i-th tuple of a row: arrays give their i-th element and end in nulls, scalars repeat. */
static void
fill_tuple(const struct values *columns, const struct field *fields, size_t n_field, size_t i,
           struct value *out)
{
    for (size_t j = 0; j < n_field; j++) {
        bool repeats = columns[j].n == 1 && !field_is_array(&fields[j]);
        size_t at = repeats ? 0 : i;

        out[j] = at < columns[j].n ? columns[j].items[at] : (struct value) { .type = VALUE_NULL };
    }
}

/* Adds the tuples of a row to a table; *is_new: any of them was new. */
static anx_status
add_tuples(struct exec *x, struct aggregates *aggregates, struct aggregate *a, size_t part,
           struct tuple_table *table, uint32_t row, bool *is_new)
{
    struct field *fields = &a->fields[part * a->n_field];
    struct values *columns = aggregates->columns;
    size_t n = 0;
    anx_status st = ANX_OK;

    for (size_t j = 0; j < a->n_field; j++) {
        columns[j] = field_values(x, &fields[j], row);
        n = columns[j].n > n ? columns[j].n : n;
        if (a->n_field > 1 && a->query->type == AGGREGATE_FACET && columns[j].n > 1)
            return anx_fail(x->err, ANX_E_QUERY, "Multifield facet cannot contain an array field");
    }
    if (x->status != ANX_OK)
        return x->status;
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        bool is_first;

        fill_tuple(columns, fields, a->n_field, i, aggregates->tuple);
        if (a->n_field == 1 && aggregates->tuple[0].type == VALUE_NULL)
            continue;
        st = tuple_table_add(x, table, aggregates->tuple, &is_first);
        *is_new |= st == ANX_OK && is_first;
    }
    return st;
}

anx_status
aggregates_filter(struct exec *x, struct aggregates *aggregates, size_t part, struct hits *hits)
{
    size_t n_kept = 0;
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < hits->n && exec_goes_on(x); i++) {
        bool is_new = false;

        for (size_t j = 0; st == ANX_OK && j < aggregates->n; j++) {
            struct aggregate *a = &aggregates->items[j];

            if (a->query->type == AGGREGATE_DISTINCT)
                st = add_tuples(x, aggregates, a, part, &a->seen, hits->items[i].row, &is_new);
        }
        if (is_new)
            hits->items[n_kept++] = hits->items[i];
    }
    hits->n = n_kept;
    return st == ANX_OK ? x->status : st;
}

anx_status
aggregates_add(struct exec *x, struct aggregates *aggregates, size_t part, const struct hits *hits)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < hits->n && exec_goes_on(x); i++)
        for (size_t j = 0; st == ANX_OK && j < aggregates->n; j++) {
            struct aggregate *a = &aggregates->items[j];
            bool is_new = false;

            if (is_table(a->query))
                st = add_tuples(x, aggregates, a, part, &a->tuples, hits->items[i].row, &is_new);
            else
                st = add_numbers(x, a, &a->fields[part * a->n_field], hits->items[i].row);
        }
    return st == ANX_OK ? x->status : st;
}

/* ---- Printing ---- */

static bool
number_of(const struct aggregate *a, double *out)
{
    switch (a->query->type) {
    case AGGREGATE_SUM:
        *out = a->sum;
        break;
    case AGGREGATE_AVG:
        *out = a->n > 0 ? a->sum / (double) a->n : 0;
        break;
    case AGGREGATE_MIN:
        *out = a->least;
        break;
    case AGGREGATE_MAX:
        *out = a->greatest;
        break;
    default:
        return false;
    }
    return a->n > 0;
}

bool
aggregates_number(const struct aggregates *aggregates, double *out)
{
    return aggregates && aggregates->n > 0 && number_of(&aggregates->items[0], out);
}

static const char *
type_name(enum query_aggregate_type type)
{
    static const char *const names[] = {
        [AGGREGATE_SUM] = "sum",     [AGGREGATE_AVG] = "avg",
        [AGGREGATE_MIN] = "min",     [AGGREGATE_MAX] = "max",
        [AGGREGATE_FACET] = "facet", [AGGREGATE_DISTINCT] = "distinct",
        [AGGREGATE_COUNT] = "count", [AGGREGATE_COUNT_CACHED] = "count_cached",
    };

    return names[type];
}

/* A composite value: its components with commas between. */
static void
print_composite(anx_buffer *out, struct values items)
{
    anx_buffer text;

    anx_buffer_init(&text, NULL, out->max);
    for (size_t i = 0; i < items.n; i++) {
        if (i > 0)
            anx_buffer_char(&text, ',');
        if (items.items[i].type == VALUE_STRING)
            anx_buffer_text(&text, items.items[i].text);
        else
            json_print_value(&text, &items.items[i]);
    }
    json_print_text(out, (anx_text) { text.data, text.size });
    out->failed |= text.failed;
    anx_buffer_fini(&text);
}

/* Values in facets and distincts are always texts. */
static void
print_as_text(anx_buffer *out, const struct value *value)
{
    switch (value->type) {
    case VALUE_STRING:
    case VALUE_UUID:
        json_print_value(out, value);
        return;
    case VALUE_NULL:
        anx_buffer_text(out, ANX_TEXT("\"\""));
        return;
    case VALUE_TUPLE:
        print_composite(out, value->tuple);
        return;
    case VALUE_BOOL:
    case VALUE_INT:
    case VALUE_DOUBLE:
        break;
    }
    anx_buffer_char(out, '"');
    json_print_value(out, value);
    anx_buffer_char(out, '"');
}

static void
print_tuple(anx_buffer *out, const struct tuple_table *table, size_t i)
{
    for (size_t j = 0; j < table->width; j++) {
        if (j > 0)
            anx_buffer_char(out, ',');
        print_as_text(out, &tuple_table_get(table, i)[j]);
    }
}

static void
print_distincts(anx_buffer *out, const struct aggregate *a)
{
    bool is_single = a->tuples.width == 1;

    anx_buffer_text(out, ANX_TEXT(",\"distincts\":["));
    for (size_t i = 0; i < a->tuples.n; i++) {
        anx_buffer_text(out, i == 0 ? ANX_TEXT("") : ANX_TEXT(","));
        if (!is_single)
            anx_buffer_char(out, '[');
        print_tuple(out, &a->tuples, i);
        if (!is_single)
            anx_buffer_char(out, ']');
    }
    anx_buffer_char(out, ']');
}

static int
compare_facets(const void *first, const void *second, void *context)
{
    const struct aggregate *a = context;
    size_t i = *(const size_t *) first, j = *(const size_t *) second;

    for (size_t k = 0; k < a->query->n_sort; k++) {
        size_t by = find_order(a, a->query->sort[k].expression);
        int order;

        if (by == a->n_field) {
            order =
                a->tuples.counts[i] < a->tuples.counts[j] ? -1 : a->tuples.counts[i] > a->tuples.counts[j];
        } else {
            bool is_comparable;

            order = value_compare(&tuple_table_get(&a->tuples, i)[by], &tuple_table_get(&a->tuples, j)[by],
                                  NULL, &is_comparable);
        }
        if (order != 0)
            return a->query->sort[k].is_descending ? -order : order;
    }
    return i < j ? -1 : i > j;
}

static bool
print_facets(anx_buffer *out, const struct aggregate *a, anx_arena *arena)
{
    size_t *order = anx_arena_array(arena, a->tuples.n, sizeof(*order));
    size_t first = a->query->offset, n_printed = 0;

    if (!order)
        return false;
    for (size_t i = 0; i < a->tuples.n; i++)
        order[i] = i;
    if (a->query->n_sort > 0)
        qsort_r(order, a->tuples.n, sizeof(*order), compare_facets, (void *) (uintptr_t) a);
    anx_buffer_text(out, ANX_TEXT(",\"facets\":["));
    for (size_t i = first; i < a->tuples.n && n_printed < a->query->limit; i++, n_printed++) {
        anx_buffer_printf(out, "%s{\"count\":%llu,\"values\":[", n_printed > 0 ? "," : "",
                          (unsigned long long) a->tuples.counts[order[i]]);
        print_tuple(out, &a->tuples, order[i]);
        anx_buffer_text(out, ANX_TEXT("]}"));
    }
    anx_buffer_char(out, ']');
    return true;
}

static bool
print_aggregate(anx_buffer *out, const struct aggregate *a, anx_arena *arena)
{
    double number;
    bool is_printed = true;

    anx_buffer_char(out, '{');
    if (number_of(a, &number)) {
        anx_buffer_text(out, ANX_TEXT("\"value\":"));
        json_print_double(out, number);
        anx_buffer_char(out, ',');
    }
    anx_buffer_printf(out, "\"type\":\"%s\"", type_name(a->query->type));
    if (a->query->type == AGGREGATE_DISTINCT)
        print_distincts(out, a);
    else if (a->query->type == AGGREGATE_FACET)
        is_printed = print_facets(out, a, arena);
    anx_buffer_text(out, ANX_TEXT(",\"fields\":["));
    for (size_t i = 0; i < a->n_field; i++) {
        anx_buffer_text(out, i == 0 ? ANX_TEXT("") : ANX_TEXT(","));
        json_print_text(out, a->query->shows_index_names ? a->fields[i].name : a->query->fields[i]);
    }
    anx_buffer_text(out, ANX_TEXT("]}"));
    return is_printed;
}

size_t
aggregates_count(const struct aggregates *aggregates)
{
    return aggregates ? aggregates->n : 0;
}

anx_status
aggregates_print_one(struct exec *x, const struct aggregates *aggregates, size_t i, anx_buffer *out)
{
    return print_aggregate(out, &aggregates->items[i], x->arena) ? ANX_OK : exec_nomem(x);
}

anx_status
aggregates_print(struct exec *x, const struct aggregates *aggregates, anx_buffer *out)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < aggregates_count(aggregates); i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        st = aggregates_print_one(x, aggregates, i, out);
    }
    return st;
}
