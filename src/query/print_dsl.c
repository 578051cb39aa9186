/* The query tree as DSL: compact JSON, every key of a main query except those of updates, which selects do
 * not have. */
#include <inttypes.h>

#include "doc/json.h"
#include "query/query_int.h"

/* The three kinds of objects that describe a query have different keys. */
enum object { MAIN, JOINED, SUBQUERY };
static void print_members(const struct query *q, enum object object, anx_buffer *out);
static void print_query(const struct query *q, enum object object, anx_buffer *out);

static void
put(anx_buffer *out, const char *text)
{
    anx_buffer_text(out, anx_text_of(text));
}

static void
put_text(anx_buffer *out, const char *before, anx_text text)
{
    put(out, before);
    json_print_text(out, text);
}

static void
put_word(anx_buffer *out, const char *before, const char *word)
{
    put_text(out, before, anx_text_of(word));
}

static void
put_count(anx_buffer *out, const char *before, size_t count)
{
    if (count == QUERY_NO_LIMIT)
        anx_buffer_printf(out, "%s-1", before);
    else
        anx_buffer_printf(out, "%s%zu", before, count);
}

static void
put_bool(anx_buffer *out, const char *before, bool value)
{
    put(out, before);
    put(out, value ? "true" : "false");
}

static void
print_texts(const anx_text *texts, size_t n, anx_buffer *out)
{
    put(out, "[");
    for (size_t i = 0; i < n; i++)
        put_text(out, i > 0 ? "," : "", texts[i]);
    put(out, "]");
}

static void
print_value(const struct value *value, anx_buffer *out)
{
    if (value->type == VALUE_TUPLE) {
        put(out, "[");
        for (size_t i = 0; i < value->tuple.n; i++) {
            put(out, i > 0 ? "," : "");
            print_value(&value->tuple.items[i], out);
        }
        put(out, "]");
    } else {
        json_print_value(out, value);
    }
}

static void
print_values(const struct values *values, anx_buffer *out)
{
    print_value(&(struct value) { .type = VALUE_TUPLE, .tuple = *values }, out);
}

/* ---- Filters ---- */

static const char *
op_word(enum query_op op)
{
    return op == OP_AND ? "and" : op == OP_OR ? "or" : "not";
}

static void
print_knn(const struct query_entry *entry, anx_buffer *out)
{
    const struct query_knn *knn = &entry->knn;
    const char *before = "";

    put_text(out, ",\"field\":", entry->field);
    put(out, ",\"value\":");
    if (knn->vector) {
        put(out, "[");
        for (size_t i = 0; i < knn->dim; i++) {
            put(out, i > 0 ? "," : "");
            json_print_float(out, knn->vector[i]);
        }
        put(out, "]");
    } else {
        json_print_text(out, knn->text);
    }
    put(out, ",\"params\":{");
    if (knn->has_k) {
        anx_buffer_printf(out, "\"k\":%" PRIu64, knn->k);
        before = ",";
    }
    if (knn->has_radius) {
        anx_buffer_printf(out, "%s\"radius\":", before);
        json_print_double(out, knn->radius);
        before = ",";
    }
    put(out, knn->has_ef || knn->has_nprobe ? before : "");
    if (knn->has_ef)
        anx_buffer_printf(out, "\"ef\":%" PRIu64, knn->ef);
    if (knn->has_nprobe)
        anx_buffer_printf(out, "\"nprobe\":%" PRIu64, knn->nprobe);
    put(out, "}");
}

static void
print_dwithin(const struct query_entry *entry, anx_buffer *out)
{
    const struct values *v = &entry->values;

    put_text(out, ",\"field\":", entry->field);
    put(out, ",\"value\":");
    if (v->n != 3) {
        print_values(v, out);
        return;
    }
    put(out, "[");
    print_values(&(struct values) { v->items, 2 }, out);
    put(out, ",");
    print_value(&v->items[2], out);
    put(out, "]");
}

/* The form with two sides, which says everything. */
static void
print_sides(const struct query_entry *entry, anx_buffer *out)
{
    put(out, ",\"left_expression\":{\"type\":");
    if (entry->kind == ENTRY_SUBQUERY_VALUES) {
        put(out, "\"subquery\",\"value\":");
        print_query(entry->subquery, SUBQUERY, out);
    } else if (entry->function == FUNCTION_FLAT_ARRAY_LEN) {
        const struct expression e = { .kind = EXPR_ARRAY_LEN, .text = entry->field };
        anx_buffer text;

        anx_buffer_init(&text, NULL, entry->field.size + 64);
        expression_print(&e, false, &text);
        put_text(out, "\"expression\",\"value\":", (anx_text) { text.data, text.size });
        out->failed = out->failed || text.failed;
        anx_buffer_fini(&text);
    } else {
        put_text(out, "\"field\",\"value\":", entry->field);
    }
    put(out, "},\"right_expression\":{\"type\":");
    if (entry->kind == ENTRY_SUBQUERY_FIELD) {
        put(out, "\"subquery\",\"value\":");
        print_query(entry->subquery, SUBQUERY, out);
    } else if (entry->values_are_now) {
        anx_buffer_printf(out, "\"expression\",\"value\":\"now(%s)\"", time_unit_word(entry->unit));
    } else {
        put(out, "\"values\",\"value\":");
        print_values(&entry->values, out);
    }
    put(out, "}");
}

static void
print_comparison(const struct query_entry *entry, anx_buffer *out)
{
    put_word(out, ",\"cond\":", condition_dsl(entry->condition));
    if (entry->kind == ENTRY_KNN) {
        print_knn(entry, out);
    } else if (entry->kind == ENTRY_FIELDS) {
        put_text(out, ",\"first_field\":", entry->field);
        put_text(out, ",\"second_field\":", entry->right_field);
    } else if (entry->function != FUNCTION_NONE || entry->values_are_now) {
        print_sides(entry, out);
    } else if (entry->kind == ENTRY_SUBQUERY_FIELD || entry->kind == ENTRY_SUBQUERY_VALUES) {
        put(out, ",\"subquery\":");
        print_query(entry->subquery, SUBQUERY, out);
        if (entry->kind == ENTRY_SUBQUERY_FIELD) {
            put_text(out, ",\"field\":", entry->field);
        } else {
            put(out, ",\"value\":");
            print_values(&entry->values, out);
        }
    } else if (entry->condition == COND_DWITHIN) {
        print_dwithin(entry, out);
    } else {
        put_text(out, ",\"field\":", entry->field);
        if (entry->values.n > 0) {
            bool is_one = entry->values.n == 1 && entry->values.items[0].type != VALUE_NULL &&
                          entry->values.items[0].type != VALUE_TUPLE;

            put(out, ",\"value\":");
            if (is_one)
                print_value(&entry->values.items[0], out);
            else
                print_values(&entry->values, out);
        }
    }
}

static void
print_join(const struct query_join *join, const char *type, anx_buffer *out)
{
    put_word(out, ",\"join_query\":{\"type\":", type);
    put(out, ",");
    print_members(join->query, JOINED, out);
    put(out, ",\"on\":[");
    for (size_t i = 0; i < join->n_on; i++) {
        put_word(out, i > 0 ? ",{\"op\":" : "{\"op\":", op_word(join->on[i].op));
        put_word(out, ",\"cond\":", condition_dsl(join->on[i].condition));
        put_text(out, ",\"left_field\":", join->on[i].left_field);
        put_text(out, ",\"right_field\":", join->on[i].right_field);
        put(out, "}");
    }
    put(out, "]}");
}

static void
print_positions(const struct query_bracket *bracket, anx_buffer *out)
{
    put(out, "{\"equal_positions\":[");
    for (size_t i = 0; i < bracket->n_positions; i++) {
        put(out, i > 0 ? ",{\"positions\":" : "{\"positions\":");
        print_texts(bracket->positions[i].fields, bracket->positions[i].n, out);
        put(out, "}");
    }
    put(out, "]}");
}

/* A bracket's list, without the square brackets; true when something was printed. */
static bool
print_filters(const struct query *q, const struct query_bracket *bracket, anx_buffer *out)
{
    for (size_t i = 0; i < bracket->n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        put_word(out, i > 0 ? ",{\"op\":" : "{\"op\":", op_word(entry->op));
        if (entry->kind == ENTRY_BRACKET) {
            put(out, ",\"filters\":[");
            print_filters(q, &entry->bracket, out);
            put(out, "]");
        } else if (entry->kind == ENTRY_JOIN) {
            print_join(&q->joins[entry->join], "inner", out);
        } else {
            print_comparison(entry, out);
        }
        put(out, "}");
    }
    if (bracket->n_positions > 0) {
        put(out, bracket->n > 0 ? "," : "");
        print_positions(bracket, out);
    }
    return bracket->n + bracket->n_positions > 0;
}

/* Left joins filter nothing: they come last. */
static void
print_where(const struct query *q, anx_buffer *out)
{
    bool is_first;

    put(out, ",\"filters\":[");
    is_first = !print_filters(q, &q->where, out);
    for (size_t i = 0; i < q->n_join; i++) {
        if (q->joins[i].type != JOIN_LEFT)
            continue;
        put(out, is_first ? "{\"op\":\"and\"" : ",{\"op\":\"and\"");
        print_join(&q->joins[i], "left", out);
        put(out, "}");
        is_first = false;
    }
    put(out, "]");
}

/* ---- The rest of a query ---- */

static void
print_sort(const struct query_order *sort, size_t n, const struct values *forced, anx_buffer *out)
{
    put(out, ",\"sort\":[");
    for (size_t i = 0; i < n; i++) {
        put_text(out, i > 0 ? ",{\"field\":" : "{\"field\":", sort[i].expression);
        put_bool(out, ",\"desc\":", sort[i].is_descending);
        if (i == 0 && forced && forced->n > 0) {
            put(out, ",\"values\":");
            print_values(forced, out);
        }
        put(out, "}");
    }
    put(out, "]");
}

static void
print_aggregations(const struct query *q, anx_buffer *out)
{
    put(out, ",\"aggregations\":[");
    for (size_t i = 0; i < q->n_aggregate; i++) {
        const struct query_aggregate *a = &q->aggregates[i];

        put_word(out, i > 0 ? ",{\"type\":" : "{\"type\":", aggregate_word(a->type));
        put(out, ",\"fields\":");
        print_texts(a->fields, a->n_field, out);
        if (a->n_sort > 0)
            print_sort(a->sort, a->n_sort, NULL, out);
        if (a->limit != QUERY_NO_LIMIT)
            put_count(out, ",\"limit\":", a->limit);
        if (a->offset > 0)
            put_count(out, ",\"offset\":", a->offset);
        put(out, "}");
    }
    put(out, "]");
}

static void
print_select_filter(const struct query *q, anx_buffer *out)
{
    const char *before = "";

    put(out, ",\"select_filter\":[");
    if (q->all_fields && (q->n_field > 0 || q->with_vectors)) {
        put(out, "\"*\"");
        before = ",";
    }
    for (size_t i = 0; i < q->n_field; i++) {
        put_text(out, before, q->fields[i]);
        before = ",";
    }
    if (q->with_vectors)
        put_word(out, before, "vectors()");
    put(out, "]");
}

static void
print_set(const struct query_update *u, anx_buffer *out)
{
    static const char *const forms[] = { [UPDATE_VALUES] = "value", [UPDATE_JSON] = "object",
                                         [UPDATE_EXPRESSION] = "expression" };
    anx_buffer text;

    put_text(out, "{\"name\":", u->path);
    put_word(out, ",\"type\":", forms[u->form]);
    put_bool(out, ",\"is_array\":", u->is_array);
    put(out, ",\"values\":");
    if (u->form == UPDATE_VALUES) {
        print_values(&u->values, out);
    } else if (u->form == UPDATE_JSON) {
        put(out, "[");
        for (size_t i = 0; i < u->values.n; i++) {
            put(out, i > 0 ? "," : "");
            anx_buffer_text(out, u->values.items[i].text);
        }
        put(out, "]");
    } else {
        anx_buffer_init(&text, NULL, QUERY_TEXT_MAX);
        if (u->tree)
            expression_print(u->tree, false, &text);
        else
            anx_buffer_text(&text, u->expression);
        put_text(out, "[", (anx_text) { text.data, text.size });
        put(out, "]");
        out->failed = out->failed || text.failed;
        anx_buffer_fini(&text);
    }
    put(out, "}");
}

static void
print_updates(const struct query *q, anx_buffer *out)
{
    const char *before = ",\"update_fields\":[";
    bool has_list = false;

    for (size_t i = 0; i < q->n_update; i++) {
        if (q->updates[i].form == UPDATE_DROP)
            continue;
        put(out, before);
        print_set(&q->updates[i], out);
        before = ",";
        has_list = true;
    }
    put(out, has_list ? "]" : "");
    before = ",\"drop_fields\":[";
    has_list = false;
    for (size_t i = 0; i < q->n_update; i++) {
        if (q->updates[i].form != UPDATE_DROP)
            continue;
        put_text(out, before, q->updates[i].path);
        before = ",";
        has_list = true;
    }
    put(out, has_list ? "]" : "");
}

static void
print_main(const struct query *q, anx_buffer *out)
{
    static const char *const types[] = { [QUERY_SELECT] = "select", [QUERY_UPDATE] = "update",
                                         [QUERY_DELETE] = "delete", [QUERY_TRUNCATE] = "truncate" };

    put_word(out, ",\"type\":", types[q->type]);
    put_bool(out, ",\"explain\":", q->explain);
    put_bool(out, ",\"local\":", q->local);
    if (q->strict != STRICT_DEFAULT)
        put_word(out, ",\"strict_mode\":", strict_word(q->strict));
    put_bool(out, ",\"select_with_rank\":", q->with_rank);
    put(out, ",\"select_functions\":");
    print_texts(q->select_functions, q->n_select_function, out);
    put(out, ",\"merge_queries\":[");
    for (size_t i = 0; i < q->n_merge; i++) {
        put(out, i > 0 ? "," : "");
        print_query(q->merges[i], MAIN, out);
    }
    put(out, "]");
    print_updates(q, out);
}

static void
print_members(const struct query *q, enum object object, anx_buffer *out)
{
    static const char *const totals[] = { [TOTAL_NONE] = "disabled", [TOTAL_EXACT] = "enabled",
                                          [TOTAL_CACHED] = "cached" };

    put_text(out, "\"namespace\":", q->ns);
    put_count(out, ",\"limit\":", q->limit);
    put_count(out, ",\"offset\":", q->offset);
    if (object != JOINED)
        put_word(out, ",\"req_total\":", totals[q->total]);
    print_select_filter(q, out);
    print_sort(q->sort, q->n_sort, &q->forced, out);
    print_where(q, out);
    if (object != JOINED)
        print_aggregations(q, out);
    if (object == MAIN)
        print_main(q, out);
}

static void
print_query(const struct query *q, enum object object, anx_buffer *out)
{
    put(out, "{");
    print_members(q, object, out);
    put(out, "}");
}

void
query_print_dsl(const struct query *query, anx_buffer *out)
{
    print_query(query, MAIN, out);
}
