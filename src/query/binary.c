/* The third reader: queries as the binary protocol carries them, a run of entries in the order in which the
 * client's builder was called. Every entry is a varint code and its payload; brackets open and close as
 * entries of their own, joined and merged queries follow behind the main one. */
#include <stdarg.h>
#include <stdio.h>

#include "base/bytes.h"
#include "base/error.h"
#include "query/query_int.h"

enum code {
    CODE_CONDITION,
    CODE_DISTINCT,
    CODE_SORT,
    CODE_JOIN_ON,
    CODE_LIMIT,
    CODE_OFFSET,
    CODE_TOTAL,
    CODE_DEBUG,
    CODE_AGGREGATION,
    CODE_SELECT_FILTER,
    CODE_SELECT_FUNCTION,
    CODE_END,
    CODE_EXPLAIN,
    CODE_POSITIONS,
    CODE_UPDATE,
    CODE_AGGREGATION_LIMIT,
    CODE_AGGREGATION_OFFSET,
    CODE_AGGREGATION_SORT,
    CODE_OPEN,
    CODE_CLOSE,
    CODE_JOIN,
    CODE_DROP,
    CODE_UPDATE_OBJECT,
    CODE_WITH_RANK,
    CODE_STRICT,
    CODE_UPDATE_ARRAY,
    CODE_BETWEEN_FIELDS,
    CODE_FALSE,
    CODE_TRUE,
    CODE_SUBQUERY,
    CODE_FIELD_SUBQUERY,
    CODE_LOCAL,
    CODE_KNN,
    CODE_KNN_TEXT,
    CODE_OLD_FUNCTION,
    CODE_OLD_FUNCTION_SUBQUERY,
    CODE_EXPRESSIONS,
    CODE_COUNT
};
enum { TUPLE_DEPTH_MAX = 4, KNN_VERSION = 1 };

/* A list of conditions that is being read: the query's own at the bottom, open brackets above. */
struct level {
    struct query_list entries;
    enum query_op op; /* of the bracket itself */
};
struct positions_entry {
    uint64_t bracket; /* 0: top level, else 1 + the place of the bracket among all conditions */
    struct query_positions list;
};
struct binary {
    anx_reader in;
    anx_arena *arena;
    anx_error *err;
    anx_status status;
    size_t depth; /* of subqueries */
};
/* One query on its way. */
struct block {
    struct query *query;
    struct level levels[QUERY_DEPTH_MAX];
    size_t n_level; /* open brackets */
    struct query_list aggregates, fields, sort, functions, updates, on, positions;
    bool has_filter, has_star;
};

static bool
fail(struct binary *b, anx_status status, const char *format, ...) ANX_PRINTF(3, 4);
static bool
fail(struct binary *b, anx_status status, const char *format, ...)
{
    va_list args;
    char text[200];

    va_start(args, format);
    (void) vsnprintf(text, sizeof(text), format, args);
    va_end(args);
    if (b->status == ANX_OK)
        b->status = anx_fail(b->err, status, "%s", text);
    return false;
}

static bool
fail_cut(struct binary *b)
{
    return fail(b, ANX_E_PARSE_BIN, "Query is cut short or damaged at byte %zu of %zu", b->in.at, b->in.size);
}

static bool
fail_memory(struct binary *b)
{
    return fail(b, ANX_E_NOMEM, "out of memory for a query");
}

static void *
add(struct binary *b, struct query_list *list)
{
    void *item = query_list_add(list, b->arena);

    if (!item)
        fail_memory(b);
    return item;
}

/* ---- Words and values ---- */

static uint64_t
number(struct binary *b)
{
    return anx_read_varint(&b->in);
}

/* Borrowed from the bytes. */
static anx_text
text(struct binary *b)
{
    uint64_t size = anx_read_varint(&b->in);
    const uint8_t *bytes = anx_read_view(&b->in, size);

    return (anx_text) { (const char *) bytes, bytes ? size : 0 };
}

/* A count of things of at least one byte each. */
static bool
count(struct binary *b, size_t *n)
{
    uint64_t value = number(b);

    if (b->in.failed || value > b->in.size - b->in.at)
        return fail_cut(b);
    *n = value;
    return true;
}

static bool
read_op(struct binary *b, enum query_op *op)
{
    static const enum query_op ops[] = { [1] = OP_OR, [2] = OP_AND, [3] = OP_NOT };
    uint64_t code = number(b);

    if (b->in.failed)
        return fail_cut(b);
    if (code < 1 || code > 3)
        return fail(b, ANX_E_PARSE_BIN, "Query has an unknown operation %llu, known are 1 to 3",
                    (unsigned long long) code);
    *op = ops[code];
    return true;
}

/* The codes are the values of the enumeration. */
static bool
read_condition(struct binary *b, enum query_condition *condition)
{
    uint64_t code = number(b);

    if (b->in.failed)
        return fail_cut(b);
    if (code > COND_KNN)
        return fail(b, ANX_E_PARSE_BIN, "Query has an unknown condition %llu, known are 0 to %d",
                    (unsigned long long) code, COND_KNN);
    *condition = (enum query_condition) code;
    return true;
}

static bool read_values(struct binary *b, struct values *out, size_t depth);

static bool
read_uuid(struct binary *b, struct value *out)
{
    out->type = VALUE_UUID;
    for (size_t half = 0; half < 16; half += 8) {
        uint64_t bits = anx_read_u64(&b->in);

        for (size_t i = 0; i < 8; i++)
            out->uuid[half + i] = (uint8_t) (bits >> (8 * (7 - i)));
    }
    return true;
}

/* A value with its type in front. */
static bool
read_variant(struct binary *b, struct value *out, size_t depth)
{
    uint64_t type = number(b);

    switch (type) {
    case 0:
    case 8:
        *out = (struct value) { .type = VALUE_INT, .integer = anx_read_zigzag(&b->in) };
        break;
    case 1:
        *out = (struct value) { .type = VALUE_DOUBLE, .real = anx_read_f64(&b->in) };
        break;
    case 2:
        *out = (struct value) { .type = VALUE_STRING, .text = text(b) };
        break;
    case 3:
        *out = (struct value) { .type = VALUE_BOOL, .boolean = number(b) != 0 };
        break;
    case 4:
        *out = (struct value) { .type = VALUE_NULL };
        break;
    case 11:
        *out = (struct value) { .type = VALUE_TUPLE };
        if (depth >= TUPLE_DEPTH_MAX)
            return fail(b, ANX_E_PARSE_BIN, "Query has tuples nested deeper than %d levels", TUPLE_DEPTH_MAX);
        return read_values(b, &out->tuple, depth + 1);
    case 12:
        read_uuid(b, out);
        break;
    case 14:
        *out = (struct value) { .type = VALUE_DOUBLE, .real = (double) anx_read_f32(&b->in) };
        break;
    default:
        if (!b->in.failed)
            return fail(b, ANX_E_PARSE_BIN, "Query has a value of type %llu, which conditions do not take",
                        (unsigned long long) type);
        break;
    }
    return b->in.failed ? fail_cut(b) : true;
}

static bool
read_values(struct binary *b, struct values *out, size_t depth)
{
    size_t n = 0;
    struct value *items;

    if (!count(b, &n))
        return false;
    items = anx_arena_array(b->arena, n + 1, sizeof(*items));
    if (!items)
        return fail_memory(b);
    for (size_t i = 0; i < n; i++)
        if (!read_variant(b, &items[i], depth))
            return false;
    *out = (struct values) { items, n };
    return true;
}

static bool
read_texts(struct binary *b, const anx_text **out, size_t *n_out)
{
    size_t n = 0;
    anx_text *items;

    if (!count(b, &n))
        return false;
    items = anx_arena_array(b->arena, n + 1, sizeof(*items));
    if (!items)
        return fail_memory(b);
    for (size_t i = 0; i < n; i++)
        items[i] = text(b);
    *out = items;
    *n_out = n;
    return b->in.failed ? fail_cut(b) : true;
}

/* ---- Conditions ---- */

static bool read_root(struct binary *b, struct query *out);

static struct query_entry *
add_entry(struct binary *b, struct block *k)
{
    return add(b, &k->levels[k->n_level].entries);
}

/* A query inside of a condition has bytes of its own. */
static bool
read_subquery(struct binary *b, const struct query **out)
{
    anx_text bytes = text(b);
    struct binary inner = { .arena = b->arena, .err = b->err, .depth = b->depth + 1 };
    struct query *query;

    if (b->in.failed)
        return fail_cut(b);
    if (inner.depth > 4)
        return fail(b, ANX_E_QUERY, "Subquery cannot be in subquery");
    query = anx_arena_array(b->arena, 1, sizeof(*query));
    if (!query)
        return fail_memory(b);
    inner.in = anx_reader_init(bytes.data, bytes.size);
    if (!read_root(&inner, query)) {
        b->status = inner.status;
        return false;
    }
    *out = query;
    return true;
}

/* What conditions without values carry now and then: one null. */
static void
drop_null(struct query_entry *entry)
{
    if ((entry->condition == COND_ANY || entry->condition == COND_EMPTY) && entry->values.n == 1 &&
        entry->values.items[0].type == VALUE_NULL)
        entry->values.n = 0;
}

static bool
check_dwithin(struct binary *b, struct query_entry *entry)
{
    for (size_t i = 0; entry->condition == COND_DWITHIN && i < entry->values.n; i++) {
        struct value *value = &entry->values.items[i];

        if (value->type == VALUE_INT)
            *value = (struct value) { .type = VALUE_DOUBLE, .real = (double) value->integer };
        if (value->type != VALUE_DOUBLE)
            return fail(b, ANX_E_PARAMS, "DWithin expects three numbers: x, y and a distance");
    }
    return true;
}

static bool
read_comparison(struct binary *b, struct block *k)
{
    struct query_entry entry = { .kind = ENTRY_COMPARE }, *added;

    entry.field = text(b);
    if (!read_op(b, &entry.op) || !read_condition(b, &entry.condition) || !read_values(b, &entry.values, 0))
        return false;
    drop_null(&entry);
    added = check_dwithin(b, &entry) ? add_entry(b, k) : NULL;
    if (!added)
        return false;
    *added = entry;
    return true;
}

static bool
read_between_fields(struct binary *b, struct block *k)
{
    struct query_entry entry = { .kind = ENTRY_FIELDS }, *added;

    if (!read_op(b, &entry.op))
        return false;
    entry.field = text(b);
    if (!read_condition(b, &entry.condition))
        return false;
    entry.right_field = text(b);
    added = b->in.failed ? NULL : add_entry(b, k);
    if (!added)
        return b->in.failed ? fail_cut(b) : false;
    *added = entry;
    return true;
}

static bool
read_subquery_entry(struct binary *b, struct block *k, bool is_field)
{
    struct query_entry entry = { .kind = is_field ? ENTRY_SUBQUERY_FIELD : ENTRY_SUBQUERY_VALUES }, *added;

    if (!read_op(b, &entry.op))
        return false;
    if (is_field) {
        entry.field = text(b);
        if (!read_condition(b, &entry.condition) || !read_subquery(b, &entry.subquery))
            return false;
    } else if (!read_subquery(b, &entry.subquery) || !read_condition(b, &entry.condition) ||
               !read_values(b, &entry.values, 0)) {
        return false;
    }
    drop_null(&entry);
    added = add_entry(b, k);
    if (!added)
        return false;
    *added = entry;
    return true;
}

static bool
read_join_entry(struct binary *b, struct block *k)
{
    uint64_t type = number(b), join = number(b);
    struct query_entry *entry;

    if (b->in.failed)
        return fail_cut(b);
    if (type != 1 && type != 2)
        return fail(b, ANX_E_PARSE_BIN, "Query has a join condition of type %llu, known are 1 and 2",
                    (unsigned long long) type);
    entry = add_entry(b, k);
    if (!entry)
        return false;
    *entry = (struct query_entry) { .kind = ENTRY_JOIN, .op = type == 2 ? OP_OR : OP_AND, .join = join };
    return true;
}

/* ---- Expressions ---- */

enum side { SIDE_FIELD, SIDE_VALUES, SIDE_FUNCTION, SIDE_SUBQUERY };

static bool
read_function(struct binary *b, bool is_left, struct query_entry *entry)
{
    const anx_text *fields = NULL;
    struct values args = { NULL, 0 };
    size_t n_field = 0;
    uint64_t function;
    int unit = TIME_SEC;

    if (!read_texts(b, &fields, &n_field) || !read_values(b, &args, 0))
        return false;
    function = number(b);
    if (b->in.failed)
        return fail_cut(b);
    if (function == 0 && is_left && n_field == 1) {
        entry->function = FUNCTION_FLAT_ARRAY_LEN;
        entry->field = fields[0];
        return true;
    }
    if (function == 1 && is_left)
        return fail(b, ANX_E_LOGIC, "Function 'now' is not supported as left expression");
    if (function == 1) {
        if (args.n > 0 && args.items[0].type == VALUE_STRING && args.items[0].text.size > 0)
            unit = time_unit_from_word(args.items[0].text);
        if (unit < 0)
            return fail(b, ANX_E_PARAMS, "Unknown parameter for now function: '%.*s'",
                        ANX_TEXT_ARG(args.items[0].text));
        entry->values_are_now = true;
        entry->unit = (enum query_time_unit) unit;
        return true;
    }
    return fail(b, ANX_E_PARAMS, "Function number %llu with %zu fields is not supported here",
                (unsigned long long) function, n_field);
}

static bool
read_side(struct binary *b, bool is_left, struct query_entry *entry, uint64_t *side)
{
    *side = number(b);
    switch (*side) {
    case SIDE_FIELD:
        if (is_left)
            entry->field = text(b);
        else
            entry->right_field = text(b);
        return b->in.failed ? fail_cut(b) : true;
    case SIDE_VALUES:
        return read_values(b, &entry->values, 0);
    case SIDE_FUNCTION:
        return read_function(b, is_left, entry);
    case SIDE_SUBQUERY:
        return read_subquery(b, &entry->subquery);
    default:
        return fail(b, ANX_E_PARSE_BIN, "Query has an expression of unknown kind %llu",
                    (unsigned long long) *side);
    }
}

static bool
read_expressions(struct binary *b, struct block *k)
{
    struct query_entry entry = { .kind = ENTRY_COMPARE }, *added;
    uint64_t left, right;

    if (!read_side(b, true, &entry, &left) || !read_op(b, &entry.op) ||
        !read_condition(b, &entry.condition) || !read_side(b, false, &entry, &right))
        return false;
    if (left == SIDE_VALUES || (left == SIDE_FUNCTION && (right == SIDE_FIELD || right == SIDE_FUNCTION)) ||
        (left == SIDE_SUBQUERY && (right == SIDE_FIELD || right == SIDE_SUBQUERY)))
        return fail(b, ANX_E_PARAMS, "Query has a pair of expressions that do not go together");
    if (left == SIDE_SUBQUERY)
        entry.kind = ENTRY_SUBQUERY_VALUES;
    else if (right == SIDE_SUBQUERY)
        entry.kind = ENTRY_SUBQUERY_FIELD;
    else if (right == SIDE_FIELD)
        entry.kind = ENTRY_FIELDS;
    drop_null(&entry);
    added = add_entry(b, k);
    if (!added)
        return false;
    *added = entry;
    return true;
}

/* ---- KNN ---- */

static bool
read_vector(struct binary *b, struct query_knn *knn)
{
    uint64_t head = number(b), dim = head >> 1;
    const uint8_t *bytes;
    float *floats;

    if (b->in.failed || dim > (b->in.size - b->in.at) / sizeof(float))
        return fail_cut(b);
    if (head & 1)
        return fail(b, ANX_E_PARSE_BIN, "Query has a KNN condition without the numbers of its vector");
    bytes = anx_read_view(&b->in, dim * sizeof(float));
    floats = anx_arena_array(b->arena, dim + 1, sizeof(float)); /* the bytes are not aligned */
    if (!bytes || !floats)
        return fail_memory(b);
    memcpy(floats, bytes, dim * sizeof(float));
    knn->vector = floats;
    knn->dim = dim;
    return true;
}

static bool
read_params(struct binary *b, struct query_knn *knn)
{
    uint64_t kind = number(b), version = number(b);
    uint8_t mask = anx_read_u8(&b->in);

    if (b->in.failed)
        return fail_cut(b);
    if (kind > KNN_IVF)
        return fail(b, ANX_E_PARSE_BIN, "Query has KNN parameters of unknown kind %llu",
                    (unsigned long long) kind);
    if (version != KNN_VERSION)
        return fail(b, ANX_E_BIN_VERSION,
                    "Query has KNN parameters of version %llu, this server reads version %d",
                    (unsigned long long) version, KNN_VERSION);
    knn->has_k = mask & 1;
    knn->has_radius = (mask & 2) != 0;
    if (knn->has_k)
        knn->k = number(b);
    if (knn->has_radius)
        knn->radius = (double) anx_read_f32(&b->in);
    knn->has_ef = kind == KNN_HNSW;
    knn->has_nprobe = kind == KNN_IVF;
    if (knn->has_ef)
        knn->ef = number(b);
    if (knn->has_nprobe)
        knn->nprobe = number(b);
    knn->kind = kind;
    knn->is_typed = kind != KNN_ANY_KIND;
    return b->in.failed ? fail_cut(b) : true;
}

static bool
check_params(struct binary *b, const struct query_knn *knn)
{
    if (knn->has_k && knn->k == 0)
        return fail(b, ANX_E_QUERY, "KNN limit should not be 0");
    if (knn->has_ef && knn->has_k && knn->ef < knn->k)
        return fail(b, ANX_E_QUERY, "Ef should not be less than k in hnsw query");
    if (knn->has_ef && knn->ef == 0)
        return fail(b, ANX_E_QUERY, "Ef should not be less than 1 in hnsw query");
    if (knn->has_nprobe && knn->nprobe == 0)
        return fail(b, ANX_E_QUERY, "Nprobe should not be 0");
    return true;
}

static bool
read_knn(struct binary *b, struct block *k, bool has_format)
{
    struct query_entry entry = { .kind = ENTRY_KNN, .condition = COND_KNN }, *added;
    uint64_t format = 0;

    entry.field = text(b);
    if (!read_op(b, &entry.op))
        return false;
    if (has_format)
        format = number(b);
    if (format > 1)
        return fail(b, ANX_E_PARSE_BIN, "Query has a KNN condition of unknown format %llu",
                    (unsigned long long) format);
    if (format == 1)
        entry.knn.text = text(b);
    else if (!read_vector(b, &entry.knn))
        return false;
    if (!read_params(b, &entry.knn) || !check_params(b, &entry.knn))
        return false;
    added = add_entry(b, k);
    if (!added)
        return false;
    *added = entry;
    return true;
}

/* ---- Brackets ---- */

static bool
open_bracket(struct binary *b, struct block *k)
{
    struct level *level;

    if (k->n_level + 1 >= QUERY_DEPTH_MAX)
        return fail(b, ANX_E_PARAMS, "Query is nested deeper than %d levels", QUERY_DEPTH_MAX);
    level = &k->levels[++k->n_level];
    *level = (struct level) { .entries = { .item_size = sizeof(struct query_entry) } };
    return read_op(b, &level->op);
}

static bool
close_bracket(struct binary *b, struct block *k)
{
    const struct level *level = &k->levels[k->n_level];
    struct query_entry *entry;

    if (k->n_level == 0)
        return fail(b, ANX_E_PARSE_BIN, "Query closes a bracket that it did not open");
    k->n_level--;
    entry = add_entry(b, k);
    if (!entry)
        return false;
    *entry = (struct query_entry) { .kind = ENTRY_BRACKET, .op = level->op };
    entry->bracket.entries = level->entries.items;
    entry->bracket.n = level->entries.n;
    return true;
}

static bool
read_positions(struct binary *b, struct block *k)
{
    struct positions_entry *entry = add(b, &k->positions);

    if (!entry)
        return false;
    entry->bracket = number(b);
    return read_texts(b, &entry->list.fields, &entry->list.n);
}

/* Gives the bracket with that number its equal_position groups; *at counts conditions as they were written.
 */
static bool
place_positions(struct binary *b, const struct block *k, struct query_bracket *bracket, uint64_t id,
                uint64_t *at)
{
    const struct positions_entry *all = k->positions.items;
    struct query_list list = { .item_size = sizeof(struct query_positions) };

    for (size_t i = 0; i < k->positions.n; i++) {
        struct query_positions *added = all[i].bracket == id ? add(b, &list) : NULL;

        if (added)
            *added = all[i].list;
    }
    bracket->positions = list.items;
    bracket->n_positions = list.n;
    for (size_t i = 0; i < bracket->n; i++) {
        struct query_entry *entry = (struct query_entry *) (uintptr_t) &bracket->entries[i]; /* ours */

        ++*at;
        if (entry->kind == ENTRY_BRACKET && !place_positions(b, k, &entry->bracket, *at, at))
            return false;
    }
    return b->status == ANX_OK;
}

/* ---- What is returned and changed ---- */

static bool
read_sort(struct binary *b, struct block *k)
{
    struct query_order *order = add(b, &k->sort);
    struct values forced = { NULL, 0 };

    if (!order)
        return false;
    order->expression = text(b);
    order->is_descending = number(b) != 0;
    if (!read_values(b, &forced, 0))
        return false;
    if (forced.n > 0 && k->sort.n > 1)
        return fail(b, ANX_E_PARAMS, "Forced sort order is allowed for the first sorting entry only");
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
            a->limit = number(b);
        } else if (code == CODE_AGGREGATION_OFFSET) {
            a->offset = number(b);
        } else {
            order = add(b, &sort);
            if (!order)
                return false;
            order->expression = text(b);
            order->is_descending = number(b) != 0;
        }
    }
    a->sort = sort.items;
    a->n_sort = sort.n;
    return b->in.failed ? fail_cut(b) : true;
}

static bool
read_aggregation(struct binary *b, struct block *k)
{
    static const enum query_aggregate_type types[] = { AGGREGATE_SUM, AGGREGATE_AVG,      AGGREGATE_FACET,
                                                       AGGREGATE_MIN, AGGREGATE_MAX,      AGGREGATE_DISTINCT,
                                                       AGGREGATE_COUNT, AGGREGATE_COUNT_CACHED };
    uint64_t type = number(b);
    struct query_aggregate *a;

    if (b->in.failed)
        return fail_cut(b);
    if (type >= ANX_COUNT_OF(types))
        return fail(b, ANX_E_PARSE_BIN, "Query has an unknown aggregation %llu", (unsigned long long) type);
    a = add(b, &k->aggregates);
    if (!a)
        return false;
    a->type = types[type];
    a->limit = QUERY_NO_LIMIT;
    return read_texts(b, &a->fields, &a->n_field) && read_modifiers(b, a);
}

static bool
read_distinct(struct binary *b, struct block *k)
{
    struct query_aggregate *a = add(b, &k->aggregates);
    anx_text *field = anx_arena_array(b->arena, 1, sizeof(*field));

    if (!a || !field)
        return fail_memory(b);
    *field = text(b);
    *a = (struct query_aggregate) { .type = AGGREGATE_DISTINCT, .fields = field, .n_field = 1 };
    a->limit = QUERY_NO_LIMIT;
    return b->in.failed ? fail_cut(b) : true;
}

static bool
read_field(struct binary *b, struct block *k)
{
    anx_text name = text(b), *field;

    if (b->in.failed)
        return fail_cut(b);
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
    field = add(b, &k->fields);
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

    update.path = text(b);
    if (code == CODE_UPDATE_ARRAY)
        update.is_array = number(b) != 0;
    if (!count(b, &n))
        return false;
    if (code == CODE_UPDATE_OBJECT)
        update.is_array = number(b) != 0;
    items = anx_arena_array(b->arena, n + 1, sizeof(*items));
    if (!items)
        return fail_memory(b);
    for (size_t i = 0; i < n; i++) {
        is_expression |= number(b);
        if (!read_variant(b, &items[i], 0))
            return false;
    }
    update.values = (struct values) { items, n };
    if (code == CODE_UPDATE)
        update.is_array = n > 1;
    if (code == CODE_UPDATE_OBJECT)
        update.form = UPDATE_JSON;
    for (size_t i = 0; code == CODE_UPDATE_OBJECT && i < n; i++)
        if (items[i].type != VALUE_STRING)
            return fail(b, ANX_E_PARSE_BIN, "Query sets '%.*s' to an object that is no text",
                        ANX_TEXT_ARG(update.path));
    if (is_expression) {
        if (n != 1 || items[0].type != VALUE_STRING)
            return fail(b, ANX_E_PARSE_BIN, "Query sets '%.*s' to an expression that is no text",
                        ANX_TEXT_ARG(update.path));
        update.form = UPDATE_EXPRESSION;
        update.expression = items[0].text;
        b->status = expression_read_update(update.expression, b->arena, &update.tree, b->err);
        if (b->status != ANX_OK)
            return false;
    }
    added = add(b, &k->updates);
    if (!added)
        return false;
    *added = update;
    return true;
}

static bool
read_drop(struct binary *b, struct block *k)
{
    struct query_update *update = add(b, &k->updates);

    if (!update)
        return false;
    *update = (struct query_update) { .form = UPDATE_DROP, .path = text(b) };
    return b->in.failed ? fail_cut(b) : true;
}

static bool
read_on(struct binary *b, struct block *k)
{
    struct query_on *on = add(b, &k->on);

    if (!on || !read_op(b, &on->op) || !read_condition(b, &on->condition))
        return false;
    on->left_field = text(b);
    on->right_field = text(b);
    return b->in.failed ? fail_cut(b) : true;
}

static bool
read_mode(struct binary *b, uint64_t max, const char *what, uint64_t *out)
{
    *out = number(b);
    if (b->in.failed)
        return fail_cut(b);
    return *out <= max ? true
                       : fail(b, ANX_E_PARSE_BIN, "Query has an unknown %s %llu, known are 0 to %llu", what,
                              (unsigned long long) *out, (unsigned long long) max);
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
    anx_text *function = add(b, &k->functions);

    if (!function)
        return false;
    *function = text(b);
    return b->in.failed ? fail_cut(b) : true;
}

/* ---- Blocks ---- */

static bool
read_setting(struct binary *b, struct query *query, uint64_t code)
{
    switch (code) {
    case CODE_LIMIT:
        query->limit = number(b);
        if (query->limit >= UINT32_MAX)
            query->limit = QUERY_NO_LIMIT;
        break;
    case CODE_OFFSET:
        query->offset = number(b);
        break;
    case CODE_TOTAL:
        return read_total(b, query);
    case CODE_DEBUG:
        (void) number(b);
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
        return fail(b, ANX_E_PARSE_BIN, "Query has an unknown entry %llu", (unsigned long long) code);
    }
    return b->in.failed ? fail_cut(b) : true;
}

static bool
read_entry(struct binary *b, struct block *k, uint64_t code)
{
    switch (code) {
    case CODE_CONDITION:
        return read_comparison(b, k);
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
        return read_positions(b, k);
    case CODE_UPDATE:
    case CODE_UPDATE_OBJECT:
    case CODE_UPDATE_ARRAY:
        return read_update(b, k, code);
    case CODE_OPEN:
        return open_bracket(b, k);
    case CODE_CLOSE:
        return close_bracket(b, k);
    case CODE_JOIN:
        return read_join_entry(b, k);
    case CODE_DROP:
        return read_drop(b, k);
    case CODE_BETWEEN_FIELDS:
        return read_between_fields(b, k);
    case CODE_SUBQUERY:
    case CODE_FIELD_SUBQUERY:
        return read_subquery_entry(b, k, code == CODE_FIELD_SUBQUERY);
    case CODE_KNN:
    case CODE_KNN_TEXT:
        return read_knn(b, k, code == CODE_KNN_TEXT);
    case CODE_EXPRESSIONS:
        return read_expressions(b, k);
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
        return fail(b, ANX_E_PARSE_BIN, "Query leaves %zu brackets open", k->n_level);
    query->where.entries = k->levels[0].entries.items;
    query->where.n = k->levels[0].entries.n;
    if (k->positions.n > 0 && !place_positions(b, k, &query->where, 0, &at))
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
            return fail(b, ANX_E_CONFLICT,
                        "Not allowed to combine aggregation functions and fields' filter in a single query");
    return true;
}

/* Namespace and entries up to END or the end of the bytes. on: of joined queries. */
static bool
read_block(struct binary *b, struct query *out, struct query_list *on)
{
    struct block *k = anx_arena_array(b->arena, 1, sizeof(*k)); /* too large for the stack of a recursion */

    if (!k)
        return fail_memory(b);
    *out = query_default();
    k->query = out;
    k->levels[0].entries.item_size = sizeof(struct query_entry);
    k->aggregates.item_size = sizeof(struct query_aggregate);
    k->fields.item_size = k->functions.item_size = sizeof(anx_text);
    k->sort.item_size = sizeof(struct query_order);
    k->updates.item_size = sizeof(struct query_update);
    k->on.item_size = sizeof(struct query_on);
    k->positions.item_size = sizeof(struct positions_entry);
    out->ns = text(b);
    while (b->in.at < b->in.size && !b->in.failed) {
        uint64_t code = number(b);

        if (code == CODE_END)
            break;
        if (!read_entry(b, k, code))
            return false;
    }
    if (b->in.failed)
        return fail_cut(b);
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
            return fail(b, ANX_E_PARSE_BIN, "Query refers to joined query %zu of %zu", entry->join, n_join);
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
        uint64_t type = number(b);
        struct query *query = anx_arena_array(b->arena, 1, sizeof(*query));
        struct query_list on;

        if (!query)
            return fail_memory(b);
        if (type > TAIL_MERGE)
            return fail(b, ANX_E_PARSE_BIN, "Query has a join of unknown type %llu",
                        (unsigned long long) type);
        if (!read_block(b, query, &on))
            return false;
        if (type == TAIL_MERGE) {
            const struct query **merge = add(b, &merges);

            if (!merge || !set_joins(b, owner, &joins))
                return false;
            *merge = owner = query;
            joins = (struct query_list) { .item_size = sizeof(struct query_join) };
        } else {
            struct query_join *join = add(b, &joins);

            if (!join)
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

static bool
read_root(struct binary *b, struct query *out)
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
    if (!read_root(&b, out))
        return b.status != ANX_OK ? b.status : anx_fail(err, ANX_E_PARSE_BIN, "Query is damaged");
    out->type = type;
    return query_check_as(out, "int64", err);
}
