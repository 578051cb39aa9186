/* The JSON DSL. The document is a tree by now; every object in it has a closed set of keys, which is checked
 * before anything is interpreted, so that a misspelled key is an error and not silence. Main queries, merged
 * and joined ones and subqueries share one table of keys. */
#include "base/error.h"
#include "query/dsl_int.h"

enum {
    Q_NAMESPACE,
    Q_TYPE,
    Q_LIMIT,
    Q_OFFSET,
    Q_TOTAL,
    Q_FILTERS,
    Q_SORT,
    Q_SELECT,
    Q_WITH_RANK,
    Q_AGGREGATIONS,
    Q_MERGES,
    Q_FUNCTIONS,
    Q_UPDATES,
    Q_DROPS,
    Q_EXPLAIN,
    Q_LOCAL,
    Q_STRICT,
    Q_ON,
    N_QUERY_KEY
};
static const struct dsl_key query_keys[N_QUERY_KEY] = {
    [Q_NAMESPACE] = { "namespace", DSL_ONE, true, DSL_ROOT | DSL_JOIN | DSL_SUBQUERY },
    [Q_TYPE] = { "type", DSL_ONE, false, DSL_ROOT | DSL_JOIN },
    [Q_LIMIT] = { "limit", DSL_ONE, false, DSL_ROOT | DSL_JOIN | DSL_SUBQUERY },
    [Q_OFFSET] = { "offset", DSL_ONE, false, DSL_ROOT | DSL_JOIN | DSL_SUBQUERY },
    [Q_TOTAL] = { "req_total", DSL_ONE, false, DSL_ROOT | DSL_SUBQUERY },
    [Q_FILTERS] = { "filters", DSL_LIST, false, DSL_ROOT | DSL_JOIN | DSL_SUBQUERY },
    [Q_SORT] = { "sort", DSL_LIST, false, DSL_ROOT | DSL_JOIN | DSL_SUBQUERY },
    [Q_SELECT] = { "select_filter", DSL_LIST, false, DSL_ROOT | DSL_JOIN | DSL_SUBQUERY },
    [Q_WITH_RANK] = { "select_with_rank", DSL_ONE, false, DSL_ROOT },
    [Q_AGGREGATIONS] = { "aggregations", DSL_LIST, false, DSL_ROOT | DSL_SUBQUERY },
    [Q_MERGES] = { "merge_queries", DSL_LIST, false, DSL_ROOT },
    [Q_FUNCTIONS] = { "select_functions", DSL_LIST, false, DSL_ROOT },
    [Q_UPDATES] = { "update_fields", DSL_LIST, false, DSL_ROOT },
    [Q_DROPS] = { "drop_fields", DSL_LIST, false, DSL_ROOT },
    [Q_EXPLAIN] = { "explain", DSL_ONE, false, DSL_ROOT },
    [Q_LOCAL] = { "local", DSL_ONE, false, DSL_ROOT },
    [Q_STRICT] = { "strict_mode", DSL_ONE, false, DSL_ROOT },
    [Q_ON] = { "on", DSL_LIST, false, DSL_JOIN },
};
enum { SORT_FIELD, SORT_DESC, SORT_VALUES, N_SORT_KEY };
static const struct dsl_key sort_keys[N_SORT_KEY] = {
    [SORT_FIELD] = { "field", DSL_ONE, true, 1 | 2 },
    [SORT_DESC] = { "desc", DSL_ONE, false, 1 | 2 },
    [SORT_VALUES] = { "values", DSL_LIST, false, 1 }, /* not in facets */
};
enum { A_TYPE, A_FIELDS, A_SORT, A_LIMIT, A_OFFSET, N_AGGREGATE_KEY };
static const struct dsl_key aggregate_keys[N_AGGREGATE_KEY] = {
    [A_TYPE] = { "type", DSL_ONE, true, 1 },        [A_FIELDS] = { "fields", DSL_LIST, true, 1 },
    [A_SORT] = { "sort", DSL_LIST, false, 1 },      [A_LIMIT] = { "limit", DSL_ONE, false, 1 },
    [A_OFFSET] = { "offset", DSL_ONE, false, 1 },
};
enum { U_NAME, U_TYPE, U_IS_ARRAY, U_VALUES, N_UPDATE_KEY };
static const struct dsl_key update_keys[N_UPDATE_KEY] = {
    [U_NAME] = { "name", DSL_ONE, true, 1 },
    [U_TYPE] = { "type", DSL_ONE, false, 1 },
    [U_IS_ARRAY] = { "is_array", DSL_ONE, false, 1 },
    [U_VALUES] = { "values", DSL_LIST, true, 1 },
};

static int
find_word(const char *const *words, int n, anx_text word)
{
    for (int i = 0; i < n; i++)
        if (anx_text_equal_fold(word, anx_text_of(words[i])))
            return i;
    return -1;
}

static int
type_from_word(anx_text word)
{
    static const char *const words[] = { [QUERY_SELECT] = "select", [QUERY_UPDATE] = "update",
                                         [QUERY_DELETE] = "delete", [QUERY_TRUNCATE] = "truncate" };

    return find_word(words, ANX_COUNT_OF(words), word);
}

static int
total_from_word(anx_text word)
{
    static const char *const words[] = { [TOTAL_NONE] = "disabled", [TOTAL_EXACT] = "enabled",
                                         [TOTAL_CACHED] = "cached" };

    return find_word(words, ANX_COUNT_OF(words), word);
}

static int
form_from_word(anx_text word)
{
    static const char *const words[] = { [UPDATE_VALUES] = "value", [UPDATE_JSON] = "object",
                                         [UPDATE_EXPRESSION] = "expression" };

    return find_word(words, ANX_COUNT_OF(words), word);
}

/* ---- Sorting and aggregations ---- */

/* A list of sort objects, or a single one. forced: NULL in facets. */
static bool
read_sort(struct dsl *d, const struct json_node *node, const struct dsl_path *path, struct query_list *sort,
          struct values *forced)
{
    const struct dsl_path here = { path, "sort" };
    size_t n = 1;

    if (!node)
        return true;
    if (node->kind != JSON_OBJECT) {
        node = dsl_list(d, node);
        if (!node)
            return false;
        n = node->list.n;
    }
    for (size_t i = 0; i < n; i++) {
        const struct json_node *m[N_SORT_KEY], *item = node->kind == JSON_ARRAY ? &node->list.items[i] : node;
        struct query_order *order = dsl_add(d, sort);

        if (!order || !dsl_members(d, item, &here, sort_keys, N_SORT_KEY, forced ? 1 : 2, m) ||
            !dsl_text(d, m[SORT_FIELD], &order->expression) ||
            !dsl_bool(d, m[SORT_DESC], &order->is_descending))
            return false;
        if (!m[SORT_VALUES])
            continue;
        m[SORT_VALUES] = dsl_list(d, m[SORT_VALUES]);
        if (!m[SORT_VALUES])
            return false;
        if (m[SORT_VALUES]->list.n > 0 && i > 0)
            return dsl_fail(d, ANX_E_PARSE_JSON,
                            "Forced sort order is allowed for the first sorting entry only");
        if (m[SORT_VALUES]->list.n > 0 && !dsl_values(d, m[SORT_VALUES], forced))
            return false;
    }
    return true;
}

static bool
read_aggregations(struct dsl *d, const struct json_node *node, const struct dsl_path *path,
                  struct query *query)
{
    const struct dsl_path here = { path, "aggregations" };
    struct query_list list = { .item_size = sizeof(struct query_aggregate) };

    if (!node)
        return true;
    node = dsl_list(d, node);
    if (!node)
        return false;
    for (size_t i = 0; i < node->list.n; i++) {
        const struct json_node *m[N_AGGREGATE_KEY];
        struct query_list sort = { .item_size = sizeof(struct query_order) };
        struct query_aggregate *a = dsl_add(d, &list);
        int type = 0;

        if (!a)
            return false;
        a->limit = QUERY_NO_LIMIT;
        if (!dsl_members(d, &node->list.items[i], &here, aggregate_keys, N_AGGREGATE_KEY, 1, m) ||
            !dsl_word(d, m[A_TYPE], aggregate_from_word, "aggregation type enum", &type) ||
            !dsl_texts(d, m[A_FIELDS], &a->fields, &a->n_field) ||
            !read_sort(d, m[A_SORT], &here, &sort, NULL) || !dsl_limit(d, m[A_LIMIT], &a->limit) ||
            !dsl_offset(d, m[A_OFFSET], &a->offset))
            return false;
        a->type = (enum query_aggregate_type) type;
        a->sort = sort.items;
        a->n_sort = sort.n;
    }
    query->aggregates = list.items;
    query->n_aggregate = list.n;
    return true;
}

/* ---- What is returned ---- */

static bool
read_select_filter(struct dsl *d, const struct json_node *node, struct query *query)
{
    struct query_list fields = { .item_size = sizeof(anx_text) };
    const anx_text *names = NULL;
    size_t n = 0, n_filter = 0;
    bool has_star = false;

    if (!dsl_texts(d, node, &names, &n))
        return false;
    for (size_t i = 0; i < n; i++) {
        anx_text *field;

        if (anx_text_equal_fold(names[i], ANX_TEXT("rank()"))) {
            query->with_rank = true;
            continue;
        }
        n_filter++;
        if (anx_text_equal(names[i], ANX_TEXT("*"))) {
            has_star = true;
        } else if (anx_text_equal_fold(names[i], ANX_TEXT("vectors()"))) {
            query->with_vectors = true;
        } else {
            field = dsl_add(d, &fields);
            if (!field)
                return false;
            *field = names[i];
        }
    }
    query->fields = fields.items;
    query->n_field = fields.n;
    query->all_fields = has_star || fields.n == 0;
    for (size_t i = 0; n_filter > 0 && i < query->n_aggregate; i++)
        if (query->aggregates[i].type != AGGREGATE_DISTINCT)
            return dsl_fail(
                d, ANX_E_CONFLICT,
                "Not allowed to combine aggregation functions and fields' filter in a single query");
    return true;
}

static bool
read_merges(struct dsl *d, const struct json_node *node, const struct dsl_path *path, struct query *query)
{
    const struct dsl_path here = { path, "merge_queries" };
    const struct query **merges;

    if (!node)
        return true;
    node = dsl_list(d, node);
    if (!node)
        return false;
    merges = anx_arena_array(d->arena, node->list.n + 1, sizeof(void *));
    if (!merges)
        return dsl_spent(d);
    for (size_t i = 0; i < node->list.n; i++) {
        struct query *merge = anx_arena_array(d->arena, 1, sizeof(*merge));

        if (!merge)
            return dsl_spent(d);
        if (!dsl_query(d, &node->list.items[i], &here, DSL_ROOT, merge, NULL))
            return false;
        merge->type = QUERY_SELECT;
        merges[i] = merge;
    }
    query->merges = merges;
    query->n_merge = node->list.n;
    return true;
}

/* ---- What is changed ---- */

static bool
read_objects(struct dsl *d, const struct json_node *node, struct values *out)
{
    struct value *items = anx_arena_array(d->arena, node->list.n + 1, sizeof(*items));

    if (!items)
        return dsl_spent(d);
    for (size_t i = 0; i < node->list.n; i++) {
        if (node->list.items[i].kind != JSON_OBJECT)
            return dsl_fail(d, ANX_E_PARSE_DSL,
                            "Wrong DSL format: values of type 'object' have to be JSON objects");
        items[i] = (struct value) { .type = VALUE_STRING, .text = node->list.items[i].raw };
    }
    *out = (struct values) { items, node->list.n };
    return true;
}

static bool
read_expression(struct dsl *d, const struct json_node *node, struct query_update *update)
{
    if (node->list.n != 1 || node->list.items[0].kind != JSON_STRING)
        return dsl_fail(d, ANX_E_PARSE_DSL,
                        "Wrong DSL format: type 'expression' expects one string in 'values'");
    update->expression = node->list.items[0].text;
    d->status = expression_read_update(update->expression, d->arena, &update->tree, d->err);
    return d->status == ANX_OK;
}

static bool
read_update(struct dsl *d, const struct json_node *node, const struct dsl_path *path,
            struct query_update *update)
{
    const struct json_node *m[N_UPDATE_KEY];
    int form = UPDATE_VALUES;
    bool ok;

    if (!dsl_members(d, node, path, update_keys, N_UPDATE_KEY, 1, m) ||
        !dsl_text(d, m[U_NAME], &update->path) ||
        !dsl_word(d, m[U_TYPE], form_from_word, "update_fields_type", &form) ||
        !dsl_bool(d, m[U_IS_ARRAY], &update->is_array))
        return false;
    m[U_VALUES] = dsl_list(d, m[U_VALUES]);
    if (!m[U_VALUES])
        return false;
    update->form = (enum query_update_form) form;
    if (update->form == UPDATE_EXPRESSION)
        return read_expression(d, m[U_VALUES], update);
    if (update->form == UPDATE_JSON)
        ok = read_objects(d, m[U_VALUES], &update->values);
    else
        ok = dsl_values(d, m[U_VALUES], &update->values);
    update->is_array = update->is_array || update->values.n != 1;
    return ok;
}

static bool
read_updates(struct dsl *d, const struct json_node *sets, const struct json_node *drops,
             const struct dsl_path *path, struct query *query)
{
    const struct dsl_path here = { path, "update_fields" };
    struct query_list list = { .item_size = sizeof(struct query_update) };
    const anx_text *names = NULL;
    size_t n = 0;

    if (sets)
        sets = dsl_list(d, sets);
    if (d->status != ANX_OK || !dsl_texts(d, drops, &names, &n))
        return false;
    for (size_t i = 0; sets && i < sets->list.n; i++) {
        struct query_update *update = dsl_add(d, &list);

        if (!update || !read_update(d, &sets->list.items[i], &here, update))
            return false;
    }
    for (size_t i = 0; i < n; i++) {
        struct query_update *update = dsl_add(d, &list);

        if (!update)
            return false;
        *update = (struct query_update) { .form = UPDATE_DROP, .path = names[i] };
    }
    query->updates = list.items;
    query->n_update = list.n;
    return true;
}

/* ---- Queries ---- */

static bool
read_words(struct dsl *d, const struct json_node **m, unsigned kind, struct query *out)
{
    int type = QUERY_SELECT, total = TOTAL_NONE, strict = STRICT_DEFAULT;

    if ((kind == DSL_ROOT && !dsl_word(d, m[Q_TYPE], type_from_word, "query_type", &type)) ||
        !dsl_word(d, m[Q_TOTAL], total_from_word, "req_total enum", &total) ||
        !dsl_word(d, m[Q_STRICT], strict_from_word, "strict_mode enum", &strict))
        return false;
    out->type = (enum query_type) type;
    out->total = (enum query_total) total;
    out->strict = (enum query_strict) strict;
    return true;
}

static bool
read_members(struct dsl *d, const struct json_node **m, const struct dsl_path *path, unsigned kind,
             struct query *out)
{
    const struct dsl_path filters = { path, "filters" };
    struct query_list sort = { .item_size = sizeof(struct query_order) };
    struct dsl_query q = { .query = out, .joins = { .item_size = sizeof(struct query_join) } };

    if (!dsl_text(d, m[Q_NAMESPACE], &out->ns) || !read_words(d, m, kind, out) ||
        !dsl_limit(d, m[Q_LIMIT], &out->limit) || !dsl_offset(d, m[Q_OFFSET], &out->offset) ||
        !dsl_bool(d, m[Q_WITH_RANK], &out->with_rank) || !dsl_bool(d, m[Q_EXPLAIN], &out->explain) ||
        !dsl_bool(d, m[Q_LOCAL], &out->local) || !read_sort(d, m[Q_SORT], path, &sort, &out->forced) ||
        !read_aggregations(d, m[Q_AGGREGATIONS], path, out) || !read_select_filter(d, m[Q_SELECT], out) ||
        !dsl_texts(d, m[Q_FUNCTIONS], &out->select_functions, &out->n_select_function) ||
        !read_updates(d, m[Q_UPDATES], m[Q_DROPS], path, out) || !read_merges(d, m[Q_MERGES], path, out))
        return false;
    out->sort = sort.items;
    out->n_sort = sort.n;
    if (m[Q_FILTERS] && !dsl_filters(d, m[Q_FILTERS], &filters, &q, &out->where))
        return false;
    out->joins = q.joins.items;
    out->n_join = q.joins.n;
    return true;
}

bool
dsl_query(struct dsl *d, const struct json_node *node, const struct dsl_path *path, unsigned kind,
          struct query *out, struct dsl_join_members *extra)
{
    const struct json_node *m[N_QUERY_KEY];

    *out = query_default();
    if (!dsl_enter(d) || !dsl_members(d, node, path, query_keys, N_QUERY_KEY, kind, m) ||
        !read_members(d, m, path, kind, out))
        return false;
    if (extra)
        *extra = (struct dsl_join_members) { m[Q_TYPE], m[Q_ON] };
    dsl_leave(d);
    return true;
}

/* A comma before a closing bracket, which clients have been seen to send, becomes a blank. A copy in the
 * arena; NULL data when there is none such. */
static anx_text
without_last_commas(anx_text json, anx_arena *arena)
{
    anx_text copy = anx_arena_text(arena, json);
    char *data = (char *) (uintptr_t) copy.data; /* our own memory */
    size_t comma = SIZE_MAX, n = 0;
    bool in_string = false;

    for (size_t i = 0; data && i < json.size; i++) {
        char c = data[i];

        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
            continue;
        }
        if ((c == '}' || c == ']') && comma != SIZE_MAX) {
            data[comma] = ' ';
            n++;
        }
        in_string = c == '"';
        if (c == ',')
            comma = i;
        else if (c != ' ' && c != '\t' && c != '\n' && c != '\r')
            comma = SIZE_MAX;
    }
    return n > 0 ? copy : (anx_text) { NULL, 0 };
}

static anx_status
parse(anx_text json, anx_arena *arena, struct json_node **root, anx_error *err)
{
    anx_status st = json_parse_lists(json, arena, root, err);
    anx_text repaired;

    if (st != ANX_E_PARSE_JSON)
        return st;
    repaired = without_last_commas(json, arena);
    if (repaired.data && json_parse_lists(repaired, arena, root, NULL) == ANX_OK)
        return ANX_OK;
    anx_error_context(err, "Query");
    return st;
}

static anx_status
read_root(anx_text json, anx_arena *arena, struct query *out, anx_error *err)
{
    static const struct dsl_path root_path = { NULL, "query" };
    struct dsl d = { .arena = arena, .err = err };
    struct json_node *root;
    anx_status st;

    *out = query_default();
    if (json.size > QUERY_TEXT_MAX)
        return anx_fail(err, ANX_E_PARAMS, "Query is longer than %d bytes", QUERY_TEXT_MAX);
    st = parse(json.data ? json : ANX_TEXT(""), arena, &root, err);
    if (st != ANX_OK)
        return st;
    dsl_query(&d, root, &root_path, DSL_ROOT, out, NULL);
    return d.status;
}

anx_status
query_read_dsl(anx_text json, enum query_type expected, anx_arena *arena, struct query *out, anx_error *err)
{
    anx_status st = read_root(json, arena, out, err);

    if (st != ANX_OK)
        return st;
    /* Only selects insist: an update or delete whose text says something else has always been run. */
    if (expected == QUERY_SELECT && out->type != QUERY_SELECT)
        return anx_fail(err, ANX_E_LOGIC, "'Select' call request type is not equal to 'QuerySelect'.");
    out->type = expected;
    if (expected == QUERY_UPDATE && out->n_update == 0)
        return anx_fail(err, ANX_E_PARSE_DSL, "Update query needs 'update_fields' or 'drop_fields'");
    return query_check_as(out, "int", err);
}

anx_status
query_convert_dsl(anx_text json, anx_arena *arena, struct query *out, anx_error *err)
{
    anx_status st = read_root(json, arena, out, err);

    return st == ANX_OK ? query_check_as(out, "int", err) : st;
}
