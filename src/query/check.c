/* The rules of a query that can be told without its namespaces. */
#include "base/error.h"
#include "query/query_int.h"

struct checker {
    const char *integer; /* what an integer is called in messages */
    bool in_join, in_subquery;
    size_t depth;
    anx_error *err;
};
static anx_status check_query(struct checker *c, const struct query *query);

/* ---- Arguments of conditions ---- */

static anx_status
check_count(const struct checker *c, enum query_condition condition, size_t wanted, size_t n)
{
    if (n == wanted)
        return ANX_OK;
    return anx_fail(c->err, ANX_E_PARAMS,
                    "Condition %s must have exact %zu argument, but %zu arguments were provided",
                    query_condition_class(condition), wanted, n);
}

static const char *
type_word(const struct checker *c, enum value_type type)
{
    switch (type) {
    case VALUE_NULL:
        return "null";
    case VALUE_BOOL:
        return "bool";
    case VALUE_INT:
        return c->integer;
    case VALUE_DOUBLE:
        return "double";
    case VALUE_STRING:
        return "string";
    case VALUE_UUID:
        return "uuid";
    case VALUE_TUPLE:
        return "tuple";
    }
    return "";
}

static anx_status
check_values(const struct checker *c, enum query_condition condition, const struct values *values)
{
    anx_status st = ANX_OK;

    switch (condition) {
    case COND_ANY:
    case COND_EMPTY:
        return check_count(c, condition, 0, values->n);
    case COND_LT:
    case COND_LE:
    case COND_GT:
    case COND_GE:
        st = check_count(c, condition, 1, values->n);
        if (st == ANX_OK && values->items[0].type == VALUE_NULL)
            st = anx_fail(c->err, ANX_E_PARAMS,
                          "Conditions CondGe|CondGt|CondLt|CondLe can't have null argument");
        return st;
    case COND_RANGE:
        return check_count(c, condition, 2, values->n);
    case COND_DWITHIN:
        return check_count(c, condition, 3, values->n);
    case COND_LIKE:
        st = check_count(c, condition, 1, values->n);
        if (st == ANX_OK && values->items[0].type != VALUE_STRING)
            st = anx_fail(c->err, ANX_E_PARAMS,
                          "Condition CondLike must have string argument, but %s argument was provided",
                          type_word(c, values->items[0].type));
        return st;
    case COND_KNN:
        return anx_fail(c->err, ANX_E_LOGIC, "Use KNN query instead of regular query with KNN condition");
    case COND_EQ:
    case COND_SET:
    case COND_ALLSET:
        break;
    }
    return ANX_OK;
}

static anx_status
check_function(const struct checker *c, const struct query_entry *entry)
{
    switch (entry->condition) {
    case COND_EQ:
    case COND_LT:
    case COND_LE:
    case COND_GT:
    case COND_GE:
    case COND_SET:
    case COND_RANGE:
        return ANX_OK;
    default:
        return anx_fail(c->err, ANX_E_PARAMS, "Condition %s is not supported by flat_array_len()",
                        query_condition_class(entry->condition));
    }
}

/* ---- Subqueries, joins, merges ---- */

static anx_status
check_existence(const struct checker *c, const struct query *sub)
{
    const char *what = sub->n_aggregate > 0 || sub->total != TOTAL_NONE      ? "Aggregation"
                       : sub->n_field > 0                                    ? "Select fields filter"
                       : sub->offset > 0                                     ? "Offset"
                       : sub->limit != QUERY_NO_LIMIT && sub->limit != 0 ? "Limit"
                                                                             : NULL;

    if (!what)
        return ANX_OK;
    return anx_fail(c->err, ANX_E_QUERY, "%s cannot be in subquery with condition Any or Empty", what);
}

static anx_status
check_subquery(const struct checker *c, const struct query *sub, enum query_condition condition)
{
    struct checker inner = *c;

    if (c->in_subquery)
        return anx_fail(c->err, ANX_E_QUERY, "Subquery cannot be in subquery");
    if (sub->n_join > 0)
        return anx_fail(c->err, ANX_E_QUERY, "Join cannot be in subquery");
    if (sub->n_merge > 0)
        return anx_fail(c->err, ANX_E_QUERY, "Merge cannot be in subquery");
    if (sub->ns.size > 0 && sub->ns.data[0] == '#')
        return anx_fail(c->err, ANX_E_QUERY,
                        "Queries to system namespaces ('%.*s') are not supported inside subquery",
                        ANX_TEXT_ARG(sub->ns));
    if (sub->with_rank)
        return anx_fail(c->err, ANX_E_QUERY, "Subquery cannot request rank");
    for (size_t i = 0; i < sub->n_aggregate; i++)
        if (sub->aggregates[i].type == AGGREGATE_FACET || sub->aggregates[i].type == AGGREGATE_DISTINCT)
            return anx_fail(c->err, ANX_E_QUERY, "Aggregation %s cannot be in subquery",
                            aggregate_word(sub->aggregates[i].type));
    if (condition == COND_ANY || condition == COND_EMPTY) {
        anx_status st = check_existence(c, sub);

        if (st != ANX_OK)
            return st;
    } else if (sub->n_aggregate + sub->n_field + (sub->total != TOTAL_NONE) != 1) {
        return anx_fail(
            c->err, ANX_E_QUERY,
            "Subquery should contain exactly one of aggregation, select field filter or total request");
    }
    inner.in_subquery = true;
    return check_query(&inner, sub);
}

static anx_status
check_on(const struct checker *c, const struct query_on *on, size_t n, size_t depth)
{
    anx_status st = ANX_OK;

    if (depth > QUERY_DEPTH_MAX)
        return anx_fail(c->err, ANX_E_PARAMS, "Query is nested deeper than %d levels", QUERY_DEPTH_MAX);
    for (size_t i = 0; i < n && st == ANX_OK; i++) {
        if (on[i].bracket)
            st = check_on(c, on[i].bracket, on[i].n_bracket, depth + 1);
        else if (on[i].condition == COND_KNN)
            st = anx_fail(c->err, ANX_E_LOGIC, "Condition KNN cannot be used in ON statement");
    }
    return st;
}

static anx_status
check_joins(const struct checker *c, const struct query *query)
{
    struct checker inner = *c;

    inner.in_join = true;
    for (size_t i = 0; i < query->n_join; i++) {
        const struct query_join *join = &query->joins[i];
        anx_status st;

        if (join->query->n_join > 0)
            return anx_fail(c->err, ANX_E_PARAMS, "JOINs nested into the other JOINs are not supported");
        if (join->query->n_merge > 0)
            return anx_fail(c->err, ANX_E_PARAMS, "MERGEs nested into the JOINs are not supported");
        if (query->type != QUERY_SELECT && join->type != JOIN_INNER)
            return anx_fail(c->err, ANX_E_QUERY, "UPDATE and DELETE query can contain only inner join");
        st = check_on(c, join->on, join->n_on, 0);
        if (st == ANX_OK)
            st = check_query(&inner, join->query);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

static anx_status
check_merges(struct checker *c, const struct query *query)
{
    for (size_t i = 0; i < query->n_merge; i++) {
        const struct query *merge = query->merges[i];
        anx_status st;

        if (merge->n_merge > 0)
            return anx_fail(c->err, ANX_E_PARAMS, "MERGEs nested into the MERGEs are not supported");
        if (merge->limit != QUERY_NO_LIMIT || merge->offset > 0)
            return anx_fail(c->err, ANX_E_PARAMS, "Limit and offset in inner merge query is not allowed");
        if (merge->n_aggregate > 0)
            return anx_fail(c->err, ANX_E_PARAMS, "Aggregations in inner merge query are not allowed");
        st = check_query(c, merge);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

/* ---- Conditions ---- */

static anx_status check_bracket(struct checker *c, const struct query_bracket *bracket);

static anx_status
check_entry(struct checker *c, const struct query_entry *entry)
{
    anx_status st = ANX_OK;

    switch (entry->kind) {
    case ENTRY_BRACKET:
        if (entry->bracket.n == 0)
            return anx_fail(c->err, ANX_E_QUERY, "Bracket cannot be empty");
        return check_bracket(c, &entry->bracket);
    case ENTRY_KNN:
        if (c->in_join)
            return anx_fail(c->err, ANX_E_QUERY, "KNN condition cannot be in joined subquery");
        return ANX_OK;
    case ENTRY_SUBQUERY_FIELD:
        return check_subquery(c, entry->subquery, entry->condition);
    case ENTRY_SUBQUERY_VALUES:
        st = check_subquery(c, entry->subquery, entry->condition);
        break;
    case ENTRY_COMPARE:
        if (entry->function == FUNCTION_FLAT_ARRAY_LEN)
            st = check_function(c, entry);
        break;
    case ENTRY_FIELDS:
        if (entry->condition == COND_ANY || entry->condition == COND_EMPTY ||
            entry->condition == COND_DWITHIN || entry->condition == COND_KNN)
            return anx_fail(c->err, ANX_E_PARAMS, "Condition %s cannot be between two fields",
                            query_condition_class(entry->condition));
        return ANX_OK;
    case ENTRY_JOIN:
        return ANX_OK;
    }
    if (st == ANX_OK && !entry->values_are_now)
        st = check_values(c, entry->condition, &entry->values);
    return st;
}

static anx_status
check_bracket(struct checker *c, const struct query_bracket *bracket)
{
    anx_status st = ANX_OK;

    if (++c->depth > QUERY_DEPTH_MAX)
        return anx_fail(c->err, ANX_E_PARAMS, "Query is nested deeper than %d levels", QUERY_DEPTH_MAX);
    if (bracket->n > 0 && bracket->entries[0].op == OP_OR)
        return anx_fail(c->err, ANX_E_QUERY, "OR operator in first condition or after left join");
    for (size_t i = 0; i < bracket->n_positions; i++)
        if (bracket->positions[i].n < 2)
            return anx_fail(
                c->err, ANX_E_PARAMS,
                "equal_position() is supposed to have at least 2 arguments. Arguments: [%.*s]",
                ANX_TEXT_ARG(bracket->positions[i].n ? bracket->positions[i].fields[0] : ANX_TEXT("")));
    for (size_t i = 0; i < bracket->n && st == ANX_OK; i++)
        st = check_entry(c, &bracket->entries[i]);
    c->depth--;
    return st;
}

/* ---- Aggregations ---- */

static bool
is_among(anx_text name, const anx_text *names, size_t n)
{
    for (size_t i = 0; i < n; i++)
        if (anx_text_equal(name, names[i]))
            return true;
    return false;
}

static anx_status
check_aggregate_fields(const struct checker *c, const struct query_aggregate *a)
{
    const char *word = aggregate_word(a->type);

    if (a->n_field > QUERY_AGGREGATE_FIELDS_MAX)
        return anx_fail(c->err, ANX_E_PARAMS, "Aggregation %s has more than %d fields", word,
                        QUERY_AGGREGATE_FIELDS_MAX);
    switch (a->type) {
    case AGGREGATE_SUM:
    case AGGREGATE_AVG:
    case AGGREGATE_MIN:
    case AGGREGATE_MAX:
        if (a->n_field != 1)
            return anx_fail(c->err, ANX_E_QUERY, "For aggregation %s is available exactly one field", word);
        break;
    case AGGREGATE_FACET:
    case AGGREGATE_DISTINCT:
        if (a->n_field == 0)
            return anx_fail(c->err, ANX_E_QUERY, "Empty set of fields for aggregation %s", word);
        break;
    case AGGREGATE_COUNT:
    case AGGREGATE_COUNT_CACHED:
        if (a->n_field != 0)
            return anx_fail(c->err, ANX_E_QUERY, "Not empty set of fields for aggregation %s", word);
        break;
    }
    for (size_t i = 0; i < a->n_field; i++)
        if (is_among(a->fields[i], a->fields, i))
            return anx_fail(c->err, ANX_E_QUERY,
                            "Aggregation function fields use one field twice. Field name '%.*s'",
                            ANX_TEXT_ARG(a->fields[i]));
    return ANX_OK;
}

static anx_status
check_aggregate(const struct checker *c, const struct query_aggregate *a)
{
    const char *word = aggregate_word(a->type);
    anx_status st = check_aggregate_fields(c, a);

    if (st != ANX_OK)
        return st;
    if (a->type != AGGREGATE_FACET && a->n_sort > 0)
        return anx_fail(c->err, ANX_E_QUERY, "Sort is not available for aggregation %s", word);
    if (a->type != AGGREGATE_FACET && (a->limit != QUERY_NO_LIMIT || a->offset != 0))
        return anx_fail(c->err, ANX_E_QUERY, "Limit or offset are not available for aggregation %s", word);
    for (size_t i = 0; i < a->n_sort; i++)
        if (!anx_text_equal_fold(a->sort[i].expression, ANX_TEXT("count")) &&
            !is_among(a->sort[i].expression, a->fields, a->n_field))
            return anx_fail(c->err, ANX_E_QUERY, "The aggregation facet cannot provide sort by '%.*s'",
                            ANX_TEXT_ARG(a->sort[i].expression));
    return ANX_OK;
}

/* ---- The query ---- */

static anx_status
check_query(struct checker *c, const struct query *query)
{
    anx_status st;

    for (size_t i = 0; i < query->n_aggregate; i++) {
        st = check_aggregate(c, &query->aggregates[i]);
        if (st != ANX_OK)
            return st;
    }
    for (size_t i = 0; i < query->forced.n; i++)
        if (query->forced.items[i].type == VALUE_NULL)
            return anx_fail(c->err, ANX_E_PARAMS, "Null-values are not supported in forced sorting");
    st = check_bracket(c, &query->where);
    if (st == ANX_OK)
        st = check_joins(c, query);
    if (st == ANX_OK)
        st = check_merges(c, query);
    return st;
}

anx_status
query_check_as(const struct query *query, const char *integer, anx_error *err)
{
    struct checker c = { .integer = integer, .err = err };

    return check_query(&c, query);
}

anx_status
query_check(const struct query *query, anx_error *err)
{
    return query_check_as(query, "int64", err);
}

/* ---- Long or short ---- */

/* Short is what cannot hold up an event loop for long: a bounded nearest-neighbor search with nothing
 * that walks over the namespace. The bounds are taste: about 100 microseconds of search. */
enum { SHORT_K = 256, SHORT_EF = 1024, SHORT_ENTRIES = 4 };

bool
query_is_short(const struct query *query)
{
    bool is_system = query->ns.size > 0 && query->ns.data[0] == '#'; /* written when it is asked */
    bool has_knn = false;

    if (query->type == QUERY_SELECT && query->limit == 0 && !is_system && query->where.n == 0 &&
        query->n_join == 0 && query->n_merge == 0 && query->n_aggregate == 0 && query->total == TOTAL_NONE)
        return true; /* clients learn a dictionary this way */
    if (query->type != QUERY_SELECT || query->n_join > 0 || query->n_merge > 0 || query->n_aggregate > 0 ||
        query->n_sort > 0 || query->explain || query->total != TOTAL_NONE ||
        query->where.n > SHORT_ENTRIES)
        return false;
    for (size_t i = 0; i < query->where.n; i++) {
        const struct query_entry *entry = &query->where.entries[i];

        if (entry->kind == ENTRY_KNN && entry->knn.vector && entry->knn.has_k && entry->knn.k <= SHORT_K &&
            entry->knn.ef <= SHORT_EF)
            has_knn = true;
        else if (entry->kind != ENTRY_COMPARE || entry->op != OP_AND)
            return false;
    }
    return has_knn;
}
