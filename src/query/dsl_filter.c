/* Filters of the DSL: what an object means is told by the keys it has. */
#include <inttypes.h>
#include <math.h>

#include "query/dsl_int.h"

enum {
    F_OP,
    F_COND,
    F_FIELD,
    F_VALUE,
    F_FIRST_FIELD,
    F_SECOND_FIELD,
    F_LEFT,
    F_RIGHT,
    F_PARAMS,
    F_FILTERS,
    F_POSITIONS,
    F_JOIN,
    F_SUBQUERY,
    N_FILTER_KEY
};
static const struct dsl_key filter_keys[N_FILTER_KEY] = {
    [F_OP] = { "op", DSL_ONE, false, 1 },
    [F_COND] = { "cond", DSL_ONE, false, 1 },
    [F_FIELD] = { "field", DSL_ONE, false, 1 },
    [F_VALUE] = { "value", DSL_LIST, false, 1 },
    [F_FIRST_FIELD] = { "first_field", DSL_ONE, false, 1 },
    [F_SECOND_FIELD] = { "second_field", DSL_ONE, false, 1 },
    [F_LEFT] = { "left_expression", DSL_ONE, false, 1 },
    [F_RIGHT] = { "right_expression", DSL_ONE, false, 1 },
    [F_PARAMS] = { "params", DSL_ONE, false, 1 },
    [F_FILTERS] = { "filters", DSL_LIST, false, 1 },
    [F_POSITIONS] = { "equal_positions", DSL_LIST, false, 1 },
    [F_JOIN] = { "join_query", DSL_ONE, false, 1 },
    [F_SUBQUERY] = { "subquery", DSL_ONE, false, 1 },
};
enum { X_TYPE, X_VALUE, N_EXPRESSION_KEY };
static const struct dsl_key expression_keys[N_EXPRESSION_KEY] = {
    [X_TYPE] = { "type", DSL_ONE, true, 1 },
    [X_VALUE] = { "value", DSL_LIST, true, 1 },
};
enum { P_K, P_RADIUS, P_EF, P_NPROBE, N_PARAM_KEY };
static const struct dsl_key param_keys[N_PARAM_KEY] = {
    [P_K] = { "k", DSL_ONE, false, 1 },
    [P_RADIUS] = { "radius", DSL_ONE, false, 1 },
    [P_EF] = { "ef", DSL_ONE, false, 1 },
    [P_NPROBE] = { "nprobe", DSL_ONE, false, 1 },
};
static const struct dsl_key position_keys[] = { { "positions", DSL_LIST, true, 1 } };
enum { ON_LEFT, ON_RIGHT, ON_COND, ON_OP, N_ON_KEY };
static const struct dsl_key on_keys[N_ON_KEY] = {
    [ON_LEFT] = { "left_field", DSL_ONE, true, 1 },
    [ON_RIGHT] = { "right_field", DSL_ONE, true, 1 },
    [ON_COND] = { "cond", DSL_ONE, true, 1 },
    [ON_OP] = { "op", DSL_ONE, false, 1 },
};

static int
op_from_word(anx_text word)
{
    static const char *const words[] = { [OP_AND] = "and", [OP_OR] = "or", [OP_NOT] = "not" };

    for (int i = OP_AND; i <= OP_NOT; i++)
        if (anx_text_equal_fold(word, anx_text_of(words[i])))
            return i;
    return -1;
}

static bool
read_op(struct dsl *d, const struct json_node *node, enum query_op *op)
{
    int found = OP_AND;

    if (!dsl_word(d, node, op_from_word, "operation enum", &found))
        return false;
    *op = (enum query_op) found;
    return true;
}

/* ---- KNN ---- */

static bool
fail_number(struct dsl *d, anx_text key)
{
    return dsl_fail(d, ANX_E_PARSE_JSON, "Query: Can't convert json field '%.*s' to number",
                    ANX_TEXT_ARG(key));
}

static bool
read_vector(struct dsl *d, const struct json_node *node, struct query_knn *knn)
{
    float *floats = anx_arena_array(d->arena, node->list.n + 1, sizeof(*floats));

    if (!floats)
        return dsl_spent(d);
    if (node->list.n > 0 && !node->list.items && !json_floats(node, floats)) /* a long list is still text */
        return fail_number(d, ANX_TEXT(""));
    for (size_t i = 0; i < node->list.n; i++) {
        double number;

        if (node->list.items) {
            if (!json_number(&node->list.items[i], &number))
                return fail_number(d, ANX_TEXT(""));
            floats[i] = (float) number;
        }
        if (!isfinite(floats[i]))
            return fail_number(d, ANX_TEXT(""));
    }
    knn->vector = floats;
    knn->dim = node->list.n;
    return true;
}

static bool
read_knn_value(struct dsl *d, const struct json_node *node, struct query_knn *knn)
{
    if (!node)
        return dsl_fail(d, ANX_E_PARSE_DSL, "Wrong DSL format: Knn condition without value");
    if (node->kind == JSON_ARRAY) {
        if (node->list.n == 0)
            return dsl_fail(d, ANX_E_PARSE_DSL, "Wrong DSL format: Knn condition with empty vector");
        return read_vector(d, node, knn);
    }
    if (!dsl_text(d, node, &knn->text))
        return false;
    if (knn->text.size == 0)
        return dsl_fail(d, ANX_E_PARSE_DSL, "Wrong DSL format: Knn condition with not array or string value");
    return true;
}

/* A count of at least min. */
static bool
read_bounded(struct dsl *d, const struct json_node *node, uint64_t min, uint64_t *out)
{
    double number;

    if (!json_number(node, &number))
        return fail_number(d, node->key);
    if (node->kind == JSON_UINT)
        *out = node->natural;
    else if (node->kind == JSON_INT && node->integer >= 0)
        *out = (uint64_t) node->integer;
    else if (number >= 0 && number < 0x1p63)
        *out = (uint64_t) number;
    else
        *out = 0;
    if (number >= 0 && *out >= min)
        return true;
    return dsl_fail(d, ANX_E_PARSE_JSON,
                    "Query: Value of '%.*s' - %.0f is out of bounds: [%" PRIu64 ",18446744073709551615]",
                    ANX_TEXT_ARG(node->key), number, min);
}

static bool
read_params(struct dsl *d, const struct json_node *node, const struct dsl_path *path, struct query_knn *knn)
{
    const struct dsl_path here = { path, "params" };
    const struct json_node *m[N_PARAM_KEY];
    double number;

    if (!node)
        return true;
    if (!dsl_members(d, node, &here, param_keys, N_PARAM_KEY, 1, m))
        return false;
    if (m[P_EF] && m[P_NPROBE])
        return dsl_fail(d, ANX_E_PARSE_DSL,
                        "Wrong DSL format: KNN query cannot contain both of 'params.ef' and 'params.nprobe");
    if (m[P_NPROBE] && json_number(m[P_NPROBE], &number) && number < 0)
        return dsl_fail(d, ANX_E_PARSE_DSL,
                        "Wrong DSL format: KNN query parameter 'params.nprobe' cannot be negative");
    if (m[P_RADIUS] && !json_number(m[P_RADIUS], &knn->radius))
        return fail_number(d, m[P_RADIUS]->key);
    if (m[P_K] && !read_bounded(d, m[P_K], 1, &knn->k))
        return false;
    if (m[P_EF] && !read_bounded(d, m[P_EF], m[P_K] ? knn->k : 1, &knn->ef))
        return false;
    if (m[P_NPROBE] && !read_bounded(d, m[P_NPROBE], 1, &knn->nprobe))
        return false;
    knn->has_k = m[P_K] != NULL;
    knn->has_radius = m[P_RADIUS] != NULL;
    knn->has_ef = m[P_EF] != NULL;
    knn->has_nprobe = m[P_NPROBE] != NULL;
    knn->is_typed = knn->has_ef || knn->has_nprobe;
    knn->kind = knn->has_ef ? KNN_HNSW : knn->has_nprobe ? KNN_IVF : KNN_ANY_KIND;
    return true;
}

/* ---- Left and right expressions ---- */

enum side { SIDE_VALUES, SIDE_FIELD, SIDE_EXPRESSION, SIDE_SUBQUERY };

static int
side_from_word(anx_text word)
{
    static const char *const words[] = { [SIDE_VALUES] = "values", [SIDE_FIELD] = "field",
                                         [SIDE_EXPRESSION] = "expression", [SIDE_SUBQUERY] = "subquery" };

    for (int i = SIDE_VALUES; i <= SIDE_SUBQUERY; i++)
        if (anx_text_equal_fold(word, anx_text_of(words[i])))
            return i;
    return -1;
}

/* "flat_array_len(field)" or "now(unit)": what SQL has as functions of conditions. */
static bool
read_function(struct dsl *d, const struct json_node *node, bool is_left, struct query_entry *entry)
{
    const struct expression *e;
    anx_text text = ANX_TEXT("");

    if (!dsl_text(d, node, &text))
        return false;
    d->status = expression_read_update(text, d->arena, &e, d->err);
    if (d->status != ANX_OK)
        return false;
    if (e->kind == EXPR_ARRAY_LEN && is_left) {
        entry->function = FUNCTION_FLAT_ARRAY_LEN;
        entry->field = e->text;
        return true;
    }
    if (e->kind == EXPR_NOW && is_left)
        return dsl_fail(d, ANX_E_LOGIC, "Function 'now' is not supported as left expression");
    if (e->kind == EXPR_NOW) {
        entry->values_are_now = true;
        entry->unit = e->unit;
        return true;
    }
    return dsl_fail(d, ANX_E_PARAMS, "Function '%.*s' is not supported", ANX_TEXT_ARG(text));
}

static bool
read_subquery(struct dsl *d, const struct json_node *node, const struct dsl_path *path,
              const struct query **out)
{
    const struct dsl_path here = { path, "subquery" };
    struct query *query = anx_arena_array(d->arena, 1, sizeof(*query));
    bool ok;

    if (!query)
        return dsl_spent(d);
    d->in_filter = false;
    ok = dsl_query(d, node, &here, DSL_SUBQUERY, query, NULL);
    d->in_filter = true;
    *out = query;
    return ok;
}

/* One side; *side says what it is. */
static bool
read_side(struct dsl *d, const struct json_node *node, const struct dsl_path *path, bool is_left,
          struct query_entry *entry, int *side)
{
    const struct json_node *m[N_EXPRESSION_KEY];

    if (!dsl_members(d, node, path, expression_keys, N_EXPRESSION_KEY, 1, m) ||
        !dsl_word(d, m[X_TYPE], side_from_word, "expression type enum", side))
        return false;
    switch (*side) {
    case SIDE_VALUES:
        return dsl_values(d, m[X_VALUE], &entry->values);
    case SIDE_FIELD:
        return dsl_text(d, m[X_VALUE], is_left ? &entry->field : &entry->right_field);
    case SIDE_EXPRESSION:
        return read_function(d, m[X_VALUE], is_left, entry);
    default:
        return read_subquery(d, m[X_VALUE], path, &entry->subquery);
    }
}

static bool
read_sides(struct dsl *d, const struct json_node *left, const struct json_node *right,
           const struct dsl_path *path, struct query_entry *entry)
{
    const struct dsl_path left_path = { path, "left_expression" }, right_path = { path, "right_expression" };
    int l = SIDE_FIELD, r = SIDE_VALUES;

    if (!read_side(d, left, &left_path, true, entry, &l) ||
        !read_side(d, right, &right_path, false, entry, &r))
        return false;
    if (l == SIDE_VALUES || (l == SIDE_EXPRESSION && (r == SIDE_FIELD || r == SIDE_EXPRESSION)) ||
        (l == SIDE_SUBQUERY && (r == SIDE_FIELD || r == SIDE_SUBQUERY)))
        return dsl_fail(
            d, ANX_E_PARSE_DSL,
            "Wrong DSL format: these kinds of 'left_expression' and 'right_expression' do not go together");
    if (l == SIDE_SUBQUERY)
        entry->kind = ENTRY_SUBQUERY_VALUES;
    else if (r == SIDE_SUBQUERY)
        entry->kind = ENTRY_SUBQUERY_FIELD;
    else if (r == SIDE_FIELD)
        entry->kind = ENTRY_FIELDS;
    return true;
}

/* ---- Joins ---- */

static int
join_from_word(anx_text word)
{
    static const char *const words[] = { "left", "inner", "orinner" };

    for (int i = 0; i < 3; i++)
        if (anx_text_equal_fold(word, anx_text_of(words[i])))
            return i;
    return -1;
}

static bool
read_on(struct dsl *d, const struct json_node *node, const struct dsl_path *path, struct query_join *join)
{
    const struct dsl_path here = { path, "on" };
    struct query_list list = { .item_size = sizeof(struct query_on) };

    if (!node)
        return dsl_fail(d, ANX_E_PARSE_JSON, "Key [on] must occur in [query.filters.join_query] object");
    node = dsl_list(d, node);
    if (!node)
        return false;
    for (size_t i = 0; i < node->list.n; i++) {
        const struct json_node *m[N_ON_KEY];
        struct query_on *on = dsl_add(d, &list);
        int cond = COND_EQ;

        if (!on || !dsl_members(d, &node->list.items[i], &here, on_keys, N_ON_KEY, 1, m) ||
            !dsl_text(d, m[ON_LEFT], &on->left_field) || !dsl_text(d, m[ON_RIGHT], &on->right_field) ||
            !dsl_word(d, m[ON_COND], condition_from_dsl, "condition enum", &cond) ||
            !read_op(d, m[ON_OP], &on->op))
            return false;
        on->condition = (enum query_condition) cond;
    }
    join->on = list.items;
    join->n_on = list.n;
    return true;
}

/* *is_left: it filters nothing, so there is no entry. */
static bool
read_join(struct dsl *d, const struct json_node *node, const struct dsl_path *path, struct dsl_query *q,
          enum query_op op, struct query_entry *entry, bool *is_left)
{
    const struct dsl_path here = { path, "join_query" };
    struct query *query = anx_arena_array(d->arena, 1, sizeof(*query));
    struct query_join join = { .query = query }, *added;
    struct dsl_join_members extra;
    int type = 0;
    bool ok;

    if (!query)
        return dsl_spent(d);
    d->in_filter = false;
    ok = dsl_query(d, node, &here, DSL_JOIN, query, &extra) &&
         dsl_word(d, extra.type, join_from_word, "join type enum", &type) &&
         read_on(d, extra.on, &here, &join);
    d->in_filter = true;
    if (!ok)
        return false;
    *is_left = type == 0;
    join.type = *is_left ? JOIN_LEFT : JOIN_INNER;
    if (*is_left && op != OP_AND)
        return dsl_fail(d, ANX_E_PARSE_DSL, "Left join with %s operation", op == OP_OR ? "OR" : "NOT");
    added = dsl_add(d, &q->joins);
    if (!added)
        return false;
    *added = join;
    entry->kind = ENTRY_JOIN;
    entry->op = type == 2 ? OP_OR : op;
    entry->join = q->joins.n - 1;
    return true;
}

/* ---- Filters ---- */

static bool
read_positions(struct dsl *d, const struct json_node *node, const struct dsl_path *path,
               struct query_list *positions)
{
    const struct dsl_path here = { path, "equal_positions" };

    node = dsl_list(d, node);
    if (!node)
        return false;
    for (size_t i = 0; i < node->list.n; i++) {
        const struct json_node *m[1];
        struct query_positions *p = dsl_add(d, positions);

        if (!p || !dsl_members(d, &node->list.items[i], &here, position_keys, 1, 1, m) ||
            !dsl_texts(d, m[0], &p->fields, &p->n))
            return false;
    }
    return true;
}

/* [[x, y], distance] or [x, y, distance] as three doubles. */
static bool
read_dwithin(struct dsl *d, struct query_entry *entry)
{
    struct value *out = anx_arena_array(d->arena, 3, sizeof(*out));
    struct values in = entry->values;

    if (!out)
        return dsl_spent(d);
    if (in.n == 2 && in.items[0].type == VALUE_TUPLE && in.items[0].tuple.n == 2) {
        out[0] = in.items[0].tuple.items[0];
        out[1] = in.items[0].tuple.items[1];
        out[2] = in.items[1];
    } else if (in.n == 3) {
        memcpy(out, in.items, 3 * sizeof(*out));
    }
    for (size_t i = 0; i < 3; i++) {
        if (out[i].type == VALUE_INT)
            out[i] = (struct value) { .type = VALUE_DOUBLE, .real = (double) out[i].integer };
        if (out[i].type != VALUE_DOUBLE)
            return dsl_fail(d, ANX_E_PARSE_DSL, "Wrong DSL format: 'dwithin' expects [[x, y], distance]");
    }
    entry->values = (struct values) { out, 3 };
    return true;
}

static bool
check_pair(struct dsl *d, const struct json_node **m, int a, int b)
{
    const char *names[] = { filter_keys[a].name, filter_keys[b].name };

    if (!m[a] == !m[b])
        return true;
    return dsl_fail(d, ANX_E_PARSE_DSL, "Wrong DSL format: '%s' is set, but '%s' was not found in filter",
                    names[m[a] ? 0 : 1], names[m[a] ? 1 : 0]);
}

/* A comparison: cond was read, the shape is not known yet. */
static bool
read_comparison(struct dsl *d, const struct json_node **m, const struct dsl_path *path,
                struct query_entry *entry)
{
    if (m[F_FIRST_FIELD]) {
        entry->kind = ENTRY_FIELDS;
        return dsl_text(d, m[F_FIRST_FIELD], &entry->field) &&
               dsl_text(d, m[F_SECOND_FIELD], &entry->right_field);
    }
    if (m[F_LEFT])
        return read_sides(d, m[F_LEFT], m[F_RIGHT], path, entry);
    if (!m[F_FIELD] && !m[F_SUBQUERY])
        return dsl_fail(d, ANX_E_PARSE_DSL,
                        "Condition is set, but appropriate field/subquery was not found in filter");
    if (!dsl_text(d, m[F_FIELD], &entry->field))
        return false;
    if (entry->condition == COND_KNN && m[F_FIELD]) {
        entry->kind = ENTRY_KNN;
        return read_knn_value(d, m[F_VALUE], &entry->knn) && read_params(d, m[F_PARAMS], path, &entry->knn);
    }
    if (m[F_SUBQUERY]) {
        entry->kind = m[F_FIELD] ? ENTRY_SUBQUERY_FIELD : ENTRY_SUBQUERY_VALUES;
        if (!read_subquery(d, m[F_SUBQUERY], path, &entry->subquery))
            return false;
    }
    if (!dsl_values(d, m[F_VALUE], &entry->values))
        return false;
    return entry->condition == COND_DWITHIN ? read_dwithin(d, entry) : true;
}

/* *has_entry false: nothing to add to the list; a left join then has the kind ENTRY_JOIN. */
static bool
read_filter(struct dsl *d, const struct json_node *node, const struct dsl_path *path, struct dsl_query *q,
            struct query_list *positions, struct query_entry *entry, bool *has_entry)
{
    const struct json_node *m[N_FILTER_KEY];
    bool is_left_join = false;
    int cond = -1;

    *has_entry = false;
    if (!dsl_members(d, node, path, filter_keys, N_FILTER_KEY, 1, m) || !read_op(d, m[F_OP], &entry->op))
        return false;
    if (m[F_POSITIONS])
        return read_positions(d, m[F_POSITIONS], path, positions);
    *has_entry = true;
    if (m[F_JOIN]) {
        if (!read_join(d, m[F_JOIN], path, q, entry->op, entry, &is_left_join))
            return false;
        *has_entry = !is_left_join;
        return true;
    }
    if (m[F_FILTERS]) {
        const struct dsl_path here = { path, "filters" };

        entry->kind = ENTRY_BRACKET;
        return dsl_filters(d, m[F_FILTERS], &here, q, &entry->bracket);
    }
    if (!check_pair(d, m, F_FIRST_FIELD, F_SECOND_FIELD) || !check_pair(d, m, F_LEFT, F_RIGHT))
        return false;
    if (m[F_VALUE] && m[F_SUBQUERY] && m[F_FIELD])
        return dsl_fail(d, ANX_E_PARSE_DSL,
                        "Wrong DSL format: 'value', 'subquery' and 'field' fields in one filter");
    if (!dsl_word(d, m[F_COND], condition_from_dsl, "condition enum", &cond))
        return false;
    if (cond < 0) {
        for (int i = F_FIELD; i < N_FILTER_KEY; i++)
            if (m[i])
                return dsl_fail(d, ANX_E_PARSE_DSL, "Condition is not set for non-empty filter");
        *has_entry = false;
        return true;
    }
    entry->condition = (enum query_condition) cond;
    return read_comparison(d, m, path, entry);
}

bool
dsl_filters(struct dsl *d, const struct json_node *node, const struct dsl_path *path, struct dsl_query *q,
            struct query_bracket *out)
{
    struct query_list entries = { .item_size = sizeof(struct query_entry) };
    struct query_list positions = { .item_size = sizeof(struct query_positions) };
    bool can_be_or = false, was_in_filter = d->in_filter;

    if (!dsl_enter(d))
        return false;
    node = dsl_list(d, node);
    if (!node)
        return false;
    d->in_filter = true;
    for (size_t i = 0; i < node->list.n; i++) {
        struct query_entry entry = { .kind = ENTRY_COMPARE }, *added;
        bool has_entry;

        if (!read_filter(d, &node->list.items[i], path, q, &positions, &entry, &has_entry))
            return false;
        if (!has_entry && entry.kind == ENTRY_JOIN)
            can_be_or = false; /* a left join */
        if (has_entry) {
            if (entry.op == OP_OR && !can_be_or)
                return dsl_fail(d, ANX_E_QUERY, "OR operator in first condition or after left join");
            added = dsl_add(d, &entries);
            if (!added)
                return false;
            *added = entry;
            can_be_or = true;
        }
    }
    d->in_filter = was_in_filter;
    dsl_leave(d);
    *out = (struct query_bracket) { entries.items, entries.n, positions.items, positions.n };
    return true;
}
