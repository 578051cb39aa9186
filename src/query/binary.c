/* The third reader: queries as the binary protocol carries them, a run of entries in the order in which the
 * client's builder was called. Every entry is a varint code and its payload; brackets open and close as
 * entries of their own, joined and merged queries follow behind the main one. */
#include "query/binary_int.h"

/* ---- What is returned and changed ---- */

static bool
read_sort(struct binary *b, struct block *k)
{
    struct query_order *order = binary_add(b, &k->sort);
    struct values forced = { NULL, 0 };

    if (!order)
        return false;
    order->expression = binary_text(b);
    order->is_descending = binary_number(b) != 0;
    if (!binary_read_values(b, &forced, 0))
        return false;
    if (forced.n > 0 && k->sort.n > 1)
        return binary_fail(b, ANX_E_PARAMS, "Forced sort order is allowed for the first sorting entry only");
    if (forced.n > 0)
        k->query->forced = forced;
    return true;
}

/* The modifiers that may follow an aggregation belong to it. */
static bool
read_modifiers(struct binary *b, struct query_aggregate *a)
{
    struct query_list sort = { .item_size = sizeof(struct query_order) };

    while (b->in.at < b->in.size) {
        uint8_t code = b->in.data[b->in.at];
        struct query_order *order;

        if (code < CODE_AGGREGATION_LIMIT || code > CODE_AGGREGATION_SORT)
            break;
        b->in.at++;
        if (code == CODE_AGGREGATION_LIMIT) {
            a->limit = binary_number(b);
        } else if (code == CODE_AGGREGATION_OFFSET) {
            a->offset = binary_number(b);
        } else {
            order = binary_add(b, &sort);
            if (!order)
                return false;
            order->expression = binary_text(b);
            order->is_descending = binary_number(b) != 0;
        }
    }
    a->sort = sort.items;
    a->n_sort = sort.n;
    return b->in.failed ? binary_fail_cut(b) : true;
}

static bool
read_aggregation(struct binary *b, struct block *k)
{
    static const enum query_aggregate_type types[] = { AGGREGATE_SUM, AGGREGATE_AVG,      AGGREGATE_FACET,
                                                       AGGREGATE_MIN, AGGREGATE_MAX,      AGGREGATE_DISTINCT,
                                                       AGGREGATE_COUNT, AGGREGATE_COUNT_CACHED };
    uint64_t type = binary_number(b);
    struct query_aggregate *a;

    if (b->in.failed)
        return binary_fail_cut(b);
    if (type >= ANX_COUNT_OF(types))
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has an unknown aggregation %llu",
                           (unsigned long long) type);
    a = binary_add(b, &k->aggregates);
    if (!a)
        return false;
    a->type = types[type];
    a->limit = QUERY_NO_LIMIT;
    return binary_read_texts(b, &a->fields, &a->n_field) && read_modifiers(b, a);
}

static bool
read_distinct(struct binary *b, struct block *k)
{
    struct query_aggregate *a = binary_add(b, &k->aggregates);
    anx_text *field = anx_arena_array(b->arena, 1, sizeof(*field));

    if (!a || !field)
        return binary_fail_memory(b);
    *field = binary_text(b);
    *a = (struct query_aggregate) { .type = AGGREGATE_DISTINCT, .fields = field, .n_field = 1 };
    a->limit = QUERY_NO_LIMIT;
    return b->in.failed ? binary_fail_cut(b) : true;
}

static bool
read_field(struct binary *b, struct block *k)
{
    anx_text name = binary_text(b), *field;

    if (b->in.failed)
        return binary_fail_cut(b);
    if (anx_text_equal_fold(name, ANX_TEXT("rank()"))) {
        k->query->with_rank = true;
        return true;
    }
    k->has_filter = true;
    if (anx_text_equal(name, ANX_TEXT("*"))) {
        k->has_star = true;
        return true;
    }
    if (anx_text_equal_fold(name, ANX_TEXT("vectors()"))) {
        k->query->with_vectors = true;
        return true;
    }
    field = binary_add(b, &k->fields);
    if (!field)
        return false;
    *field = name;
    return true;
}

/* Values of an update: each with a mark whether it is an expression. */
static bool
read_update(struct binary *b, struct block *k, uint64_t code)
{
    struct query_update update = { .form = UPDATE_VALUES }, *added;
    struct value *items;
    uint64_t is_expression = 0;
    size_t n = 0;

    update.path = binary_text(b);
    if (code == CODE_UPDATE_ARRAY)
        update.is_array = binary_number(b) != 0;
    if (!binary_count(b, &n))
        return false;
    if (code == CODE_UPDATE_OBJECT)
        update.is_array = binary_number(b) != 0;
    items = anx_arena_array(b->arena, n + 1, sizeof(*items));
    if (!items)
        return binary_fail_memory(b);
    for (size_t i = 0; i < n; i++) {
        is_expression |= binary_number(b);
        if (!binary_read_variant(b, &items[i], 0))
            return false;
    }
    update.values = (struct values) { items, n };
    if (code == CODE_UPDATE)
        update.is_array = n > 1;
    if (code == CODE_UPDATE_OBJECT)
        update.form = UPDATE_JSON;
    for (size_t i = 0; code == CODE_UPDATE_OBJECT && i < n; i++)
        if (items[i].type != VALUE_STRING)
            return binary_fail(b, ANX_E_PARSE_BIN, "Query sets '%.*s' to an object that is no text",
                        ANX_TEXT_ARG(update.path));
    if (is_expression) {
        if (n != 1 || items[0].type != VALUE_STRING)
            return binary_fail(b, ANX_E_PARSE_BIN, "Query sets '%.*s' to an expression that is no text",
                        ANX_TEXT_ARG(update.path));
        update.form = UPDATE_EXPRESSION;
        update.expression = items[0].text;
        b->status = expression_read_update(update.expression, b->arena, &update.tree, b->err);
        if (b->status != ANX_OK)
            return false;
    }
    added = binary_add(b, &k->updates);
    if (!added)
        return false;
    *added = update;
    return true;
}

static bool
read_drop(struct binary *b, struct block *k)
{
    struct query_update *update = binary_add(b, &k->updates);

    if (!update)
        return false;
    *update = (struct query_update) { .form = UPDATE_DROP, .path = binary_text(b) };
    return b->in.failed ? binary_fail_cut(b) : true;
}

static bool
read_on(struct binary *b, struct block *k)
{
    struct query_on *on = binary_add(b, &k->on);

    if (!on || !binary_read_op(b, &on->op) || !binary_read_condition(b, &on->condition))
        return false;
    on->left_field = binary_text(b);
    on->right_field = binary_text(b);
    return b->in.failed ? binary_fail_cut(b) : true;
}

static bool
read_mode(struct binary *b, uint64_t max, const char *what, uint64_t *out)
{
    *out = binary_number(b);
    if (b->in.failed)
        return binary_fail_cut(b);
    return *out <= max ? true
                       : binary_fail(b, ANX_E_PARSE_BIN, "Query has an unknown %s %llu, known are 0 to %llu",
                                     what, (unsigned long long) *out, (unsigned long long) max);
}

static bool
read_total(struct binary *b, struct query *query)
{
    static const enum query_total totals[] = { TOTAL_NONE, TOTAL_CACHED, TOTAL_EXACT };
    uint64_t mode;

    if (!read_mode(b, 2, "mode of the total", &mode))
        return false;
    query->total = totals[mode];
    return true;
}

static bool
read_strict(struct binary *b, struct query *query)
{
    static const enum query_strict modes[] = { STRICT_DEFAULT, STRICT_NONE, STRICT_NAMES, STRICT_INDEXES };
    uint64_t mode;

    if (!read_mode(b, 3, "strict mode", &mode))
        return false;
    query->strict = modes[mode];
    return true;
}

static bool
read_select_function(struct binary *b, struct block *k)
{
    anx_text *function = binary_add(b, &k->functions);

    if (!function)
        return false;
    *function = binary_text(b);
    return b->in.failed ? binary_fail_cut(b) : true;
}

/* ---- Blocks ---- */

static bool
read_setting(struct binary *b, struct query *query, uint64_t code)
{
    switch (code) {
    case CODE_LIMIT:
        query->limit = binary_number(b);
        if (query->limit >= UINT32_MAX)
            query->limit = QUERY_NO_LIMIT;
        break;
    case CODE_OFFSET:
        query->offset = binary_number(b);
        break;
    case CODE_TOTAL:
        return read_total(b, query);
    case CODE_DEBUG:
        (void) binary_number(b);
        break;
    case CODE_EXPLAIN:
        query->explain = true;
        break;
    case CODE_WITH_RANK:
        query->with_rank = true;
        break;
    case CODE_STRICT:
        return read_strict(b, query);
    case CODE_LOCAL:
        query->local = true;
        break;
    default:
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has an unknown entry %llu", (unsigned long long) code);
    }
    return b->in.failed ? binary_fail_cut(b) : true;
}

static bool
read_entry(struct binary *b, struct block *k, uint64_t code)
{
    switch (code) {
    case CODE_CONDITION:
        return binary_read_comparison(b, k);
    case CODE_DISTINCT:
        return read_distinct(b, k);
    case CODE_SORT:
        return read_sort(b, k);
    case CODE_JOIN_ON:
        return read_on(b, k);
    case CODE_AGGREGATION:
        return read_aggregation(b, k);
    case CODE_SELECT_FILTER:
        return read_field(b, k);
    case CODE_SELECT_FUNCTION:
        return read_select_function(b, k);
    case CODE_POSITIONS:
        return binary_read_positions(b, k);
    case CODE_UPDATE:
    case CODE_UPDATE_OBJECT:
    case CODE_UPDATE_ARRAY:
        return read_update(b, k, code);
    case CODE_OPEN:
        return binary_open_bracket(b, k);
    case CODE_CLOSE:
        return binary_close_bracket(b, k);
    case CODE_JOIN:
        return binary_read_join_entry(b, k);
    case CODE_DROP:
        return read_drop(b, k);
    case CODE_BETWEEN_FIELDS:
        return binary_read_between_fields(b, k);
    case CODE_SUBQUERY:
    case CODE_FIELD_SUBQUERY:
        return binary_read_subquery_entry(b, k, code == CODE_FIELD_SUBQUERY);
    case CODE_KNN:
    case CODE_KNN_TEXT:
        return binary_read_knn(b, k, code == CODE_KNN_TEXT);
    case CODE_EXPRESSIONS:
        return binary_read_expressions(b, k);
    default:
        return read_setting(b, k->query, code);
    }
}

static bool
finish_block(struct binary *b, struct block *k)
{
    struct query *query = k->query;
    uint64_t at = 0;

    if (k->n_level > 0)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query leaves %zu brackets open", k->n_level);
    query->where.entries = k->levels[0].entries.items;
    query->where.n = k->levels[0].entries.n;
    if (k->positions.n > 0 && !binary_place_positions(b, k, &query->where, 0, &at))
        return false;
    query->aggregates = k->aggregates.items;
    query->n_aggregate = k->aggregates.n;
    query->fields = k->fields.items;
    query->n_field = k->fields.n;
    query->all_fields = k->has_star || k->fields.n == 0;
    query->sort = k->sort.items;
    query->n_sort = k->sort.n;
    query->select_functions = k->functions.items;
    query->n_select_function = k->functions.n;
    query->updates = k->updates.items;
    query->n_update = k->updates.n;
    for (size_t i = 0; k->has_filter && i < query->n_aggregate; i++)
        if (query->aggregates[i].type != AGGREGATE_DISTINCT)
            return binary_fail(b, ANX_E_CONFLICT,
                        "Not allowed to combine aggregation functions and fields' filter in a single query");
    return true;
}

/* Namespace and entries up to END or the end of the bytes. on: of joined queries. */
static bool
read_block(struct binary *b, struct query *out, struct query_list *on)
{
    struct block *k = anx_arena_array(b->arena, 1, sizeof(*k)); /* too large for the stack of a recursion */

    if (!k)
        return binary_fail_memory(b);
    *out = query_default();
    k->query = out;
    k->levels[0].entries.item_size = sizeof(struct query_entry);
    k->aggregates.item_size = sizeof(struct query_aggregate);
    k->fields.item_size = k->functions.item_size = sizeof(anx_text);
    k->sort.item_size = sizeof(struct query_order);
    k->updates.item_size = sizeof(struct query_update);
    k->on.item_size = sizeof(struct query_on);
    k->positions.item_size = sizeof(struct positions_entry);
    out->ns = binary_text(b);
    while (b->in.at < b->in.size && !b->in.failed) {
        uint64_t code = binary_number(b);

        if (code == CODE_END)
            break;
        if (!read_entry(b, k, code))
            return false;
    }
    if (b->in.failed)
        return binary_fail_cut(b);
    *on = k->on;
    return finish_block(b, k);
}

/* ---- Joined and merged queries ---- */

enum tail { TAIL_LEFT, TAIL_INNER, TAIL_OR_INNER, TAIL_MERGE };

static bool
check_joins(struct binary *b, const struct query_bracket *bracket, size_t n_join)
{
    for (size_t i = 0; i < bracket->n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        if (entry->kind == ENTRY_JOIN && entry->join >= n_join)
            return binary_fail(b, ANX_E_PARSE_BIN, "Query refers to joined query %zu of %zu", entry->join,
                               n_join);
        if (entry->kind == ENTRY_BRACKET && !check_joins(b, &entry->bracket, n_join))
            return false;
    }
    return true;
}

static bool
set_joins(struct binary *b, struct query *query, const struct query_list *joins)
{
    query->joins = joins->items;
    query->n_join = joins->n;
    return check_joins(b, &query->where, joins->n);
}

static bool
read_tail(struct binary *b, struct query *root)
{
    struct query_list joins = { .item_size = sizeof(struct query_join) };
    struct query_list merges = { .item_size = sizeof(const struct query *) };
    struct query *owner = root; /* of the joins */

    while (b->in.at < b->in.size) {
        uint64_t type = binary_number(b);
        struct query *query = anx_arena_array(b->arena, 1, sizeof(*query));
        struct query_list on = { 0 };

        if (!query)
            return binary_fail_memory(b);
        if (type > TAIL_MERGE)
            return binary_fail(b, ANX_E_PARSE_BIN, "Query has a join of unknown type %llu",
                        (unsigned long long) type);
        if (!read_block(b, query, &on))
            return false;
        if (type == TAIL_MERGE) {
            const struct query **merge = binary_add(b, &merges);

            if (!merge || !set_joins(b, owner, &joins))
                return false;
            *merge = owner = query;
            joins = (struct query_list) { .item_size = sizeof(struct query_join) };
        } else {
            struct query_join *join = binary_add(b, &joins);

            if (!join)
                return false;
            if (!check_joins(b, &query->where, 0)) /* those of a joined query would have to be its own */
                return false;
            *join = (struct query_join){ .type = type == TAIL_LEFT ? JOIN_LEFT : JOIN_INNER, .query = query };
            join->on = on.items;
            join->n_on = on.n;
        }
    }
    root->merges = merges.items;
    root->n_merge = merges.n;
    return set_joins(b, owner, &joins);
}

bool
binary_read_root(struct binary *b, struct query *out)
{
    struct query_list on;

    return read_block(b, out, &on) && read_tail(b, out);
}

anx_status
query_read_binary(anx_text bytes, enum query_type type, anx_arena *arena, struct query *out, anx_error *err)
{
    struct binary b = { .arena = arena, .err = err };

    *out = query_default();
    if (bytes.size > QUERY_TEXT_MAX)
        return anx_fail(err, ANX_E_PARAMS, "Query is longer than %d bytes", QUERY_TEXT_MAX);
    b.in = anx_reader_init(bytes.data, bytes.size);
    if (!binary_read_root(&b, out))
        return b.status != ANX_OK ? b.status : anx_fail(err, ANX_E_PARSE_BIN, "Query is damaged");
    out->type = type;
    return query_check_as(out, "int64", err);
}
