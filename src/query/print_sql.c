/* The query tree as SQL. What the SQL reader made is printed so that reading and printing it again gives the
 * same text; from the DSL and the binary protocol come a few things SQL cannot say (names with blanks,
 * brackets in ON), which are printed for people. */
#include <inttypes.h>

#include "doc/json.h"
#include "query/sql/sql_int.h"

struct printer {
    anx_buffer *out;
    bool normalized;
};
static void print_select(const struct printer *p, const struct query *q);

static void
put(const struct printer *p, const char *text)
{
    anx_buffer_text(p->out, anx_text_of(text));
}

static void
put_name(const struct printer *p, anx_text name)
{
    sql_print_name(name, p->out);
}

static void
put_names(const struct printer *p, const anx_text *names, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        put(p, i > 0 ? ", " : "");
        put_name(p, names[i]);
    }
}

static void
put_count(const struct printer *p, const char *word, size_t count)
{
    if (p->normalized)
        anx_buffer_printf(p->out, " %s ?", word);
    else
        anx_buffer_printf(p->out, " %s %zu", word, count);
}

/* ---- Conditions ---- */

static void
print_values(const struct printer *p, enum query_condition condition, const struct values *values)
{
    bool is_list = condition == COND_SET || condition == COND_ALLSET || condition == COND_RANGE ||
                   values->n != 1 || values->items[0].type == VALUE_NULL; /* "= NULL" would be IS NULL */

    put(p, is_list ? "(" : "");
    if (p->normalized)
        put(p, "?");
    for (size_t i = 0; !p->normalized && i < values->n; i++) {
        put(p, i > 0 ? "," : "");
        sql_print_value(&values->items[i], false, p->out);
    }
    put(p, is_list ? ")" : "");
}

static void
print_dwithin(const struct printer *p, const struct query_entry *entry)
{
    const struct value *v = entry->values.items;

    put(p, "ST_DWithin(");
    put_name(p, entry->field);
    if (p->normalized || entry->values.n != 3) {
        put(p, ", ?, ?)");
        return;
    }
    put(p, ", ST_GeomFromText('POINT(");
    sql_print_value(&v[0], false, p->out);
    put(p, " ");
    sql_print_value(&v[1], false, p->out);
    put(p, ")'), ");
    sql_print_value(&v[2], false, p->out);
    put(p, ")");
}

static void
print_vector(const struct printer *p, const struct query_knn *knn)
{
    put(p, "[");
    if (p->normalized)
        put(p, "?");
    for (size_t i = 0; !p->normalized && i < knn->dim; i++) {
        put(p, i > 0 ? "," : "");
        json_print_float(p->out, knn->vector[i]);
        if (!p->out->failed && p->out->size > 2 && memcmp(p->out->data + p->out->size - 2, ".0", 2) == 0)
            p->out->size -= 2;
    }
    put(p, "]");
}

static void
print_knn(const struct printer *p, const struct query_entry *entry)
{
    const struct query_knn *knn = &entry->knn;
    const struct {
        const char *name;
        bool is_given;
        uint64_t value;
    } counts[] = { { "ef", knn->has_ef, knn->ef }, { "nprobe", knn->has_nprobe, knn->nprobe } };

    put(p, "KNN(");
    put_name(p, entry->field);
    put(p, ", ");
    if (knn->vector)
        print_vector(p, knn);
    else
        sql_print_value(&(struct value) { .type = VALUE_STRING, .text = knn->text }, p->normalized, p->out);
    if (knn->has_k)
        anx_buffer_printf(p->out, p->normalized ? ", k=?" : ", k=%" PRIu64, knn->k);
    if (knn->has_radius) {
        put(p, ", radius=");
        sql_print_value(&(struct value) { .type = VALUE_DOUBLE, .real = knn->radius }, p->normalized, p->out);
    }
    for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++) {
        if (counts[i].is_given && p->normalized)
            anx_buffer_printf(p->out, ", %s=?", counts[i].name);
        else if (counts[i].is_given)
            anx_buffer_printf(p->out, ", %s=%" PRIu64, counts[i].name, counts[i].value);
    }
    put(p, ")");
}

/* What stands behind the left side: "= 5", "IS NULL", "IN (SELECT ...)". */
static void
print_right(const struct printer *p, const struct query_entry *entry)
{
    const char *op = condition_sql(entry->condition);

    if (!op) {
        put(p, entry->condition == COND_ANY ? " IS NOT NULL" : " IS NULL");
        return;
    }
    anx_buffer_printf(p->out, " %s ", op);
    if (entry->kind == ENTRY_SUBQUERY_FIELD) {
        put(p, "(");
        print_select(p, entry->subquery);
        put(p, ")");
    } else if (entry->kind == ENTRY_FIELDS) {
        put_name(p, entry->right_field);
    } else if (entry->values_are_now) {
        anx_buffer_printf(p->out, "now(%s)", time_unit_word(entry->unit));
    } else {
        print_values(p, entry->condition, &entry->values);
    }
}

static void
print_left(const struct printer *p, const struct query_entry *entry)
{
    if (entry->kind == ENTRY_SUBQUERY_VALUES) {
        put(p, "(");
        print_select(p, entry->subquery);
        put(p, ")");
        return;
    }
    if (entry->function == FUNCTION_FLAT_ARRAY_LEN)
        put(p, "flat_array_len(");
    put_name(p, entry->field);
    if (entry->function == FUNCTION_FLAT_ARRAY_LEN)
        put(p, ")");
}

static void print_join(const struct printer *p, const struct query *q, const struct query_join *join);

static void
print_op(const struct printer *p, bool is_first, enum query_op op)
{
    if (!is_first)
        put(p, op == OP_OR ? " OR " : " AND ");
    if (op == OP_NOT)
        put(p, "NOT ");
}

static void
print_bracket(const struct printer *p, const struct query *q, const struct query_bracket *bracket)
{
    for (size_t i = 0; i < bracket->n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        print_op(p, i == 0, entry->op);
        if (entry->kind == ENTRY_BRACKET) {
            put(p, "(");
            print_bracket(p, q, &entry->bracket);
            put(p, ")");
        } else if (entry->kind == ENTRY_JOIN) {
            print_join(p, q, &q->joins[entry->join]);
        } else if (entry->kind == ENTRY_KNN) {
            print_knn(p, entry);
        } else if (entry->condition == COND_DWITHIN) {
            print_dwithin(p, entry);
        } else {
            print_left(p, entry);
            print_right(p, entry);
        }
    }
    for (size_t i = 0; i < bracket->n_positions; i++) {
        put(p, bracket->n + i > 0 ? " EQUAL_POSITION(" : "EQUAL_POSITION(");
        put_names(p, bracket->positions[i].fields, bracket->positions[i].n);
        put(p, ")");
    }
}

/* ---- Joins ---- */

static bool
is_plain(const struct query *q)
{
    return q->all_fields && q->n_field == 0 && !q->with_vectors && !q->with_rank && q->n_aggregate == 0 &&
           q->total == TOTAL_NONE && q->limit == QUERY_NO_LIMIT && q->offset == 0 && q->n_sort == 0 &&
           q->where.n == 0 && q->where.n_positions == 0 && q->n_join == 0 && q->n_merge == 0;
}

static void
put_qualified(const struct printer *p, anx_text ns, anx_text field)
{
    const char *quote = is_sql_name(ns) && is_sql_name(field) ? "" : "\"";

    anx_buffer_printf(p->out, "%s%.*s.%.*s%s", quote, ANX_TEXT_ARG(ns), ANX_TEXT_ARG(field), quote);
}

static void
print_on(const struct printer *p, anx_text left_ns, anx_text right_ns, const struct query_on *on, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        enum query_condition condition =
            on[i].is_reversed ? condition_turned(on[i].condition) : on[i].condition;
        const char *op = condition_sql(condition);

        print_op(p, i == 0, on[i].op);
        if (on[i].bracket) {
            put(p, "(");
            print_on(p, left_ns, right_ns, on[i].bracket, on[i].n_bracket);
            put(p, ")");
            continue;
        }
        if (on[i].is_reversed)
            put_qualified(p, right_ns, on[i].right_field);
        else
            put_qualified(p, left_ns, on[i].left_field);
        anx_buffer_printf(p->out, " %s ", op ? op : query_condition_class(condition));
        if (on[i].is_reversed)
            put_qualified(p, left_ns, on[i].left_field);
        else
            put_qualified(p, right_ns, on[i].right_field);
    }
}

static void
print_join(const struct printer *p, const struct query *q, const struct query_join *join)
{
    put(p, join->type == JOIN_INNER ? "INNER JOIN " : "LEFT JOIN ");
    if (is_plain(join->query)) {
        sql_print_ns(join->query->ns, p->out);
    } else {
        put(p, "(");
        print_select(p, join->query);
        put(p, ")");
    }
    put(p, join->n_on == 1 ? " ON " : " ON (");
    print_on(p, q->ns, join->query->ns, join->on, join->n_on);
    put(p, join->n_on == 1 ? "" : ")");
}

/* ---- Clauses ---- */

static void
print_order(const struct printer *p, const struct query_order *sort, size_t n, const struct values *forced)
{
    for (size_t i = 0; i < n; i++) {
        bool is_forced = i == 0 && forced && forced->n > 0;

        put(p, i > 0 ? ", " : " ORDER BY ");
        put(p, is_forced ? "FIELD(" : "");
        sql_print_string(sort[i].expression, p->out);
        for (size_t f = 0; is_forced && f < (p->normalized ? 1 : forced->n); f++) {
            put(p, ", ");
            sql_print_value(&forced->items[f], p->normalized, p->out);
        }
        put(p, is_forced ? ")" : "");
        put(p, sort[i].is_descending ? " DESC" : "");
    }
}

/* COUNT(*) without a field in front of it implies LIMIT 0. */
static bool
has_count_alone(const struct query *q)
{
    return q->total != TOTAL_NONE && q->n_field == 0 && !q->with_vectors &&
           (q->n_aggregate > 0 || q->limit == 0);
}

static void
print_tail(const struct printer *p, const struct query *q)
{
    const size_t largest = UINT32_MAX; /* read as no limit */
    size_t implied = q->type == QUERY_SELECT && has_count_alone(q) ? 0 : QUERY_NO_LIMIT;

    if (q->where.n + q->where.n_positions > 0) {
        put(p, " WHERE ");
        print_bracket(p, q, &q->where);
    }
    for (size_t i = 0; i < q->n_join; i++) {
        if (q->joins[i].type == JOIN_LEFT) {
            put(p, " ");
            print_join(p, q, &q->joins[i]);
        }
    }
    for (size_t i = 0; i < q->n_merge; i++) {
        put(p, " MERGE(");
        print_select(p, q->merges[i]);
        put(p, ")");
    }
    print_order(p, q->sort, q->n_sort, &q->forced);
    if (q->offset > 0)
        put_count(p, "OFFSET", q->offset);
    if (q->limit != implied)
        put_count(p, "LIMIT", q->limit == QUERY_NO_LIMIT ? largest : q->limit);
}

static void
print_aggregate(const struct printer *p, const struct query_aggregate *a)
{
    for (const char *c = aggregate_word(a->type); *c; c++)
        anx_buffer_char(p->out, *c == '_' ? '_' : (char) (*c - 'a' + 'A'));
    put(p, "(");
    put_names(p, a->fields, a->n_field);
    put(p, a->n_field == 0 ? "*" : "");
    print_order(p, a->sort, a->n_sort, NULL);
    if (a->offset > 0)
        put_count(p, "OFFSET", a->offset);
    if (a->limit != QUERY_NO_LIMIT)
        put_count(p, "LIMIT", a->limit);
    put(p, ")");
}

static void
put_item(const struct printer *p, bool *is_first, const char *item)
{
    put(p, *is_first ? "" : ", ");
    put(p, item);
    *is_first = false;
}

static void
print_select(const struct printer *p, const struct query *q)
{
    bool is_first = true;

    put(p, "SELECT ");
    if (q->all_fields && (q->n_aggregate > 0 ? q->n_field > 0 : !has_count_alone(q)))
        put_item(p, &is_first, "*");
    for (size_t i = 0; i < q->n_field; i++) {
        put_item(p, &is_first, "");
        sql_print_ns(q->fields[i], p->out);
    }
    if (q->with_vectors)
        put_item(p, &is_first, "vectors()");
    if (q->with_rank)
        put_item(p, &is_first, "RANK()");
    for (size_t i = 0; i < q->n_aggregate; i++) {
        put_item(p, &is_first, "");
        print_aggregate(p, &q->aggregates[i]);
    }
    if (q->total != TOTAL_NONE)
        put_item(p, &is_first, q->total == TOTAL_EXACT ? "COUNT(*)" : "COUNT_CACHED(*)");
    put(p, " FROM ");
    sql_print_ns(q->ns, p->out);
    print_tail(p, q);
}

/* ---- Changes ---- */

static void
print_new_value(const struct printer *p, const struct query_update *u)
{
    if (u->form == UPDATE_EXPRESSION) {
        if (u->tree)
            expression_print(u->tree, p->normalized, p->out);
        else
            anx_buffer_text(p->out, p->normalized ? ANX_TEXT("?") : u->expression);
        return;
    }
    put(p, u->is_array ? "[" : "");
    if (p->normalized)
        put(p, "?");
    for (size_t i = 0; !p->normalized && i < u->values.n; i++) {
        put(p, i > 0 ? "," : "");
        if (u->form == UPDATE_JSON)
            anx_buffer_text(p->out, u->values.items[i].text);
        else
            sql_print_value(&u->values.items[i], false, p->out);
    }
    put(p, u->is_array ? "]" : "");
}

/* First what is set, then what is dropped. */
static void
print_updates(const struct printer *p, const struct query *q)
{
    const char *before = " SET ";

    for (size_t i = 0; i < q->n_update; i++) {
        if (q->updates[i].form == UPDATE_DROP)
            continue;
        put(p, before);
        put_name(p, q->updates[i].path);
        put(p, " = ");
        print_new_value(p, &q->updates[i]);
        before = ", ";
    }
    before = " DROP ";
    for (size_t i = 0; i < q->n_update; i++) {
        if (q->updates[i].form != UPDATE_DROP)
            continue;
        put(p, before);
        put_name(p, q->updates[i].path);
        before = ", ";
    }
}

void
query_print_sql(const struct query *query, bool normalized, anx_buffer *out)
{
    struct printer p = { out, normalized };

    put(&p, query->explain ? "EXPLAIN " : "");
    put(&p, query->local ? "LOCAL " : "");
    switch (query->type) {
    case QUERY_SELECT:
        print_select(&p, query);
        return;
    case QUERY_UPDATE:
        put(&p, "UPDATE ");
        break;
    case QUERY_DELETE:
        put(&p, "DELETE FROM ");
        break;
    case QUERY_TRUNCATE:
        put(&p, "TRUNCATE ");
        sql_print_ns(query->ns, out);
        return;
    }
    sql_print_ns(query->ns, out);
    print_updates(&p, query);
    print_tail(&p, query);
}
