/* Binary queries: words, values, conditions and brackets. The order of entries and their codes: binary.c. */
#include "query/binary_int.h"

#include <stdarg.h>
#include <stdio.h>

bool
binary_fail(struct binary *b, anx_status status, const char *format, ...)
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

bool
binary_fail_cut(struct binary *b)
{
    return binary_fail(b, ANX_E_PARSE_BIN, "Query is cut short or damaged at byte %zu of %zu", b->in.at,
                       b->in.size);
}

bool
binary_fail_memory(struct binary *b)
{
    return binary_fail(b, ANX_E_NOMEM, "out of memory for a query");
}

void *
binary_add(struct binary *b, struct query_list *list)
{
    void *item = query_list_add(list, b->arena);

    if (!item)
        binary_fail_memory(b);
    return item;
}

/* ---- Words and values ---- */

uint64_t
binary_number(struct binary *b)
{
    return anx_read_varint(&b->in);
}

/* Borrowed from the bytes. */
anx_text
binary_text(struct binary *b)
{
    uint64_t size = anx_read_varint(&b->in);
    const uint8_t *bytes = anx_read_view(&b->in, size);

    return (anx_text) { (const char *) bytes, bytes ? size : 0 };
}

/* A count of things of at least one byte each. */
bool
binary_count(struct binary *b, size_t *n)
{
    uint64_t value = binary_number(b);

    if (b->in.failed || value > b->in.size - b->in.at)
        return binary_fail_cut(b);
    *n = value;
    return true;
}

bool
binary_read_op(struct binary *b, enum query_op *op)
{
    static const enum query_op ops[] = { [1] = OP_OR, [2] = OP_AND, [3] = OP_NOT };
    uint64_t code = binary_number(b);

    if (b->in.failed)
        return binary_fail_cut(b);
    if (code < 1 || code > 3)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has an unknown operation %llu, known are 1 to 3",
                    (unsigned long long) code);
    *op = ops[code];
    return true;
}

/* The codes are the values of the enumeration. */
bool
binary_read_condition(struct binary *b, enum query_condition *condition)
{
    uint64_t code = binary_number(b);

    if (b->in.failed)
        return binary_fail_cut(b);
    if (code > COND_KNN)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has an unknown condition %llu, known are 0 to %d",
                    (unsigned long long) code, COND_KNN);
    *condition = (enum query_condition) code;
    return true;
}

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
bool
binary_read_variant(struct binary *b, struct value *out, size_t depth)
{
    uint64_t type = binary_number(b);

    switch (type) {
    case 0:
    case 8:
        *out = (struct value) { .type = VALUE_INT, .integer = anx_read_zigzag(&b->in) };
        break;
    case 1:
        *out = (struct value) { .type = VALUE_DOUBLE, .real = anx_read_f64(&b->in) };
        break;
    case 2:
        *out = (struct value) { .type = VALUE_STRING, .text = binary_text(b) };
        break;
    case 3:
        *out = (struct value) { .type = VALUE_BOOL, .boolean = binary_number(b) != 0 };
        break;
    case 4:
        *out = (struct value) { .type = VALUE_NULL };
        break;
    case 11:
        *out = (struct value) { .type = VALUE_TUPLE };
        if (depth >= TUPLE_DEPTH_MAX)
            return binary_fail(b, ANX_E_PARSE_BIN, "Query has tuples nested deeper than %d levels",
                               TUPLE_DEPTH_MAX);
        return binary_read_values(b, &out->tuple, depth + 1);
    case 12:
        read_uuid(b, out);
        break;
    case 14:
        *out = (struct value) { .type = VALUE_DOUBLE, .real = (double) anx_read_f32(&b->in) };
        break;
    default:
        if (!b->in.failed)
            return binary_fail(b, ANX_E_PARSE_BIN,
                               "Query has a value of type %llu, which conditions do not take",
                               (unsigned long long) type);
        break;
    }
    return b->in.failed ? binary_fail_cut(b) : true;
}

bool
binary_read_values(struct binary *b, struct values *out, size_t depth)
{
    size_t n = 0;
    struct value *items;

    if (!binary_count(b, &n))
        return false;
    items = anx_arena_array(b->arena, n + 1, sizeof(*items));
    if (!items)
        return binary_fail_memory(b);
    for (size_t i = 0; i < n; i++)
        if (!binary_read_variant(b, &items[i], depth))
            return false;
    *out = (struct values) { items, n };
    return true;
}

bool
binary_read_texts(struct binary *b, const anx_text **out, size_t *n_out)
{
    size_t n = 0;
    anx_text *items;

    if (!binary_count(b, &n))
        return false;
    items = anx_arena_array(b->arena, n + 1, sizeof(*items));
    if (!items)
        return binary_fail_memory(b);
    for (size_t i = 0; i < n; i++)
        items[i] = binary_text(b);
    *out = items;
    *n_out = n;
    return b->in.failed ? binary_fail_cut(b) : true;
}

/* ---- Conditions ---- */

static struct query_entry *
add_entry(struct binary *b, struct block *k)
{
    return binary_add(b, &k->levels[k->n_level].entries);
}

/* A query inside of a condition has bytes of its own. */
static bool
read_subquery(struct binary *b, const struct query **out)
{
    anx_text bytes = binary_text(b);
    struct binary inner = { .arena = b->arena, .err = b->err, .depth = b->depth + 1 };
    struct query *query;

    if (b->in.failed)
        return binary_fail_cut(b);
    if (inner.depth > 4)
        return binary_fail(b, ANX_E_QUERY, "Subquery cannot be in subquery");
    query = anx_arena_array(b->arena, 1, sizeof(*query));
    if (!query)
        return binary_fail_memory(b);
    inner.in = anx_reader_init(bytes.data, bytes.size);
    if (!binary_read_root(&inner, query)) {
        b->status = inner.status;
        return false;
    }
    *out = query;
    return true;
}

/* A null of ANY and EMPTY means what no value means. Here, unlike in SQL, ANY is refused by regular indexes.
 */
static void
drop_null(struct query_entry *entry)
{
    if (entry->condition != COND_ANY && entry->condition != COND_EMPTY)
        return;
    if (entry->values.n == 1 && entry->values.items[0].type == VALUE_NULL)
        entry->values.n = 0;
    entry->refuses_regular = true;
}

static bool
check_dwithin(struct binary *b, struct query_entry *entry)
{
    if (entry->condition == COND_DWITHIN && entry->values.n != 3)
        return binary_fail(b, ANX_E_PARAMS, "Expected point and distance for DWithin");
    for (size_t i = 0; entry->condition == COND_DWITHIN && i < entry->values.n; i++) {
        struct value *value = &entry->values.items[i];

        if (value->type == VALUE_INT)
            *value = (struct value) { .type = VALUE_DOUBLE, .real = (double) value->integer };
        if (value->type != VALUE_DOUBLE)
            return binary_fail(b, ANX_E_PARAMS, "DWithin expects three numbers: x, y and a distance");
    }
    return true;
}

bool
binary_read_comparison(struct binary *b, struct block *k)
{
    struct query_entry entry = { .kind = ENTRY_COMPARE }, *added;

    entry.field = binary_text(b);
    if (!binary_read_op(b, &entry.op) || !binary_read_condition(b, &entry.condition) ||
        !binary_read_values(b, &entry.values, 0))
        return false;
    drop_null(&entry);
    added = check_dwithin(b, &entry) ? add_entry(b, k) : NULL;
    if (!added)
        return false;
    *added = entry;
    return true;
}

bool
binary_read_between_fields(struct binary *b, struct block *k)
{
    struct query_entry entry = { .kind = ENTRY_FIELDS }, *added;

    if (!binary_read_op(b, &entry.op))
        return false;
    entry.field = binary_text(b);
    if (!binary_read_condition(b, &entry.condition))
        return false;
    entry.right_field = binary_text(b);
    added = b->in.failed ? NULL : add_entry(b, k);
    if (!added)
        return b->in.failed ? binary_fail_cut(b) : false;
    *added = entry;
    return true;
}

bool
binary_read_subquery_entry(struct binary *b, struct block *k, bool is_field)
{
    struct query_entry entry = { .kind = is_field ? ENTRY_SUBQUERY_FIELD : ENTRY_SUBQUERY_VALUES }, *added;

    if (!binary_read_op(b, &entry.op))
        return false;
    if (is_field) {
        entry.field = binary_text(b);
        if (!binary_read_condition(b, &entry.condition) || !read_subquery(b, &entry.subquery))
            return false;
    } else if (!read_subquery(b, &entry.subquery) || !binary_read_condition(b, &entry.condition) ||
               !binary_read_values(b, &entry.values, 0)) {
        return false;
    }
    drop_null(&entry);
    added = add_entry(b, k);
    if (!added)
        return false;
    *added = entry;
    return true;
}

bool
binary_read_join_entry(struct binary *b, struct block *k)
{
    uint64_t type = binary_number(b), join = binary_number(b);
    struct query_entry *entry;

    if (b->in.failed)
        return binary_fail_cut(b);
    if (type != 1 && type != 2)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has a join condition of type %llu, known are 1 and 2",
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

    if (!binary_read_texts(b, &fields, &n_field) || !binary_read_values(b, &args, 0))
        return false;
    function = binary_number(b);
    if (b->in.failed)
        return binary_fail_cut(b);
    if (function == 0 && is_left && n_field == 1) {
        entry->function = FUNCTION_FLAT_ARRAY_LEN;
        entry->field = fields[0];
        return true;
    }
    if (function == 1 && is_left)
        return binary_fail(b, ANX_E_LOGIC, "Function 'now' is not supported as left expression");
    if (function == 1) {
        if (args.n > 0 && args.items[0].type == VALUE_STRING && args.items[0].text.size > 0)
            unit = time_unit_from_word(args.items[0].text);
        if (unit < 0)
            return binary_fail(b, ANX_E_PARAMS, "Unknown parameter for now function: '%.*s'",
                        ANX_TEXT_ARG(args.items[0].text));
        entry->values_are_now = true;
        entry->unit = (enum query_time_unit) unit;
        return true;
    }
    return binary_fail(b, ANX_E_PARAMS, "Function number %llu with %zu fields is not supported here",
                (unsigned long long) function, n_field);
}

static bool
read_side(struct binary *b, bool is_left, struct query_entry *entry, uint64_t *side)
{
    *side = binary_number(b);
    switch (*side) {
    case SIDE_FIELD:
        if (is_left)
            entry->field = binary_text(b);
        else
            entry->right_field = binary_text(b);
        return b->in.failed ? binary_fail_cut(b) : true;
    case SIDE_VALUES:
        return binary_read_values(b, &entry->values, 0);
    case SIDE_FUNCTION:
        return read_function(b, is_left, entry);
    case SIDE_SUBQUERY:
        return read_subquery(b, &entry->subquery);
    default:
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has an expression of unknown kind %llu",
                    (unsigned long long) *side);
    }
}

bool
binary_read_expressions(struct binary *b, struct block *k)
{
    struct query_entry entry = { .kind = ENTRY_COMPARE }, *added;
    uint64_t left, right;

    if (!read_side(b, true, &entry, &left) || !binary_read_op(b, &entry.op) ||
        !binary_read_condition(b, &entry.condition) || !read_side(b, false, &entry, &right))
        return false;
    if (left == SIDE_VALUES || (left == SIDE_FUNCTION && (right == SIDE_FIELD || right == SIDE_FUNCTION)) ||
        (left == SIDE_SUBQUERY && (right == SIDE_FIELD || right == SIDE_SUBQUERY)))
        return binary_fail(b, ANX_E_PARAMS, "Query has a pair of expressions that do not go together");
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
    uint64_t head = binary_number(b), dim = head >> 1;
    const uint8_t *bytes;
    float *floats;

    if (b->in.failed || dim > (b->in.size - b->in.at) / sizeof(float))
        return binary_fail_cut(b);
    if (head & 1)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has a KNN condition without the numbers of its vector");
    bytes = anx_read_view(&b->in, dim * sizeof(float));
    floats = anx_arena_array(b->arena, dim + 1, sizeof(float)); /* the bytes are not aligned */
    if (!bytes || !floats)
        return binary_fail_memory(b);
    memcpy(floats, bytes, dim * sizeof(float));
    knn->vector = floats;
    knn->dim = dim;
    return true;
}

static bool
read_params(struct binary *b, struct query_knn *knn)
{
    uint64_t kind = binary_number(b), version = binary_number(b);
    uint8_t mask = anx_read_u8(&b->in);

    if (b->in.failed)
        return binary_fail_cut(b);
    if (kind > KNN_IVF)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has KNN parameters of unknown kind %llu",
                    (unsigned long long) kind);
    if (version != KNN_VERSION)
        return binary_fail(b, ANX_E_BIN_VERSION,
                    "Query has KNN parameters of version %llu, this server reads version %d",
                    (unsigned long long) version, KNN_VERSION);
    knn->has_k = mask & 1;
    knn->has_radius = (mask & 2) != 0;
    if (knn->has_k)
        knn->k = binary_number(b);
    if (knn->has_radius)
        knn->radius = (double) anx_read_f32(&b->in);
    knn->has_ef = kind == KNN_HNSW;
    knn->has_nprobe = kind == KNN_IVF;
    if (knn->has_ef)
        knn->ef = binary_number(b);
    if (knn->has_nprobe)
        knn->nprobe = binary_number(b);
    knn->kind = kind;
    knn->is_typed = kind != KNN_ANY_KIND;
    return b->in.failed ? binary_fail_cut(b) : true;
}

static bool
check_params(struct binary *b, const struct query_knn *knn)
{
    if (knn->has_k && knn->k == 0)
        return binary_fail(b, ANX_E_QUERY, "KNN limit should not be 0");
    if (knn->has_ef && knn->has_k && knn->ef < knn->k)
        return binary_fail(b, ANX_E_QUERY, "Ef should not be less than k in hnsw query");
    if (knn->has_ef && knn->ef == 0)
        return binary_fail(b, ANX_E_QUERY, "Ef should not be less than 1 in hnsw query");
    if (knn->has_nprobe && knn->nprobe == 0)
        return binary_fail(b, ANX_E_QUERY, "Nprobe should not be 0");
    return true;
}

bool
binary_read_knn(struct binary *b, struct block *k, bool has_format)
{
    struct query_entry entry = { .kind = ENTRY_KNN, .condition = COND_KNN }, *added;
    uint64_t format = 0;

    entry.field = binary_text(b);
    if (!binary_read_op(b, &entry.op))
        return false;
    if (has_format)
        format = binary_number(b);
    if (format > 1)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query has a KNN condition of unknown format %llu",
                    (unsigned long long) format);
    if (format == 1)
        entry.knn.text = binary_text(b);
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

bool
binary_open_bracket(struct binary *b, struct block *k)
{
    struct level *level;

    if (k->n_level + 1 >= QUERY_DEPTH_MAX)
        return binary_fail(b, ANX_E_PARAMS, "Query is nested deeper than %d levels", QUERY_DEPTH_MAX);
    level = &k->levels[++k->n_level];
    *level = (struct level) { .entries = { .item_size = sizeof(struct query_entry) } };
    return binary_read_op(b, &level->op);
}

bool
binary_close_bracket(struct binary *b, struct block *k)
{
    const struct level *level = &k->levels[k->n_level];
    struct query_entry *entry;

    if (k->n_level == 0)
        return binary_fail(b, ANX_E_PARSE_BIN, "Query closes a bracket that it did not open");
    k->n_level--;
    entry = add_entry(b, k);
    if (!entry)
        return false;
    *entry = (struct query_entry) { .kind = ENTRY_BRACKET, .op = level->op };
    entry->bracket.entries = level->entries.items;
    entry->bracket.n = level->entries.n;
    return true;
}

bool
binary_read_positions(struct binary *b, struct block *k)
{
    struct positions_entry *entry = binary_add(b, &k->positions);

    if (!entry)
        return false;
    entry->bracket = binary_number(b);
    return binary_read_texts(b, &entry->list.fields, &entry->list.n);
}

/* Gives the bracket with that number its equal_position groups; *at counts conditions as they were written.
 */
bool
binary_place_positions(struct binary *b, const struct block *k, struct query_bracket *bracket, uint64_t id,
                uint64_t *at)
{
    const struct positions_entry *all = k->positions.items;
    struct query_list list = { .item_size = sizeof(struct query_positions) };

    for (size_t i = 0; i < k->positions.n; i++) {
        struct query_positions *added = all[i].bracket == id ? binary_add(b, &list) : NULL;

        if (added)
            *added = all[i].list;
    }
    bracket->positions = list.items;
    bracket->n_positions = list.n;
    for (size_t i = 0; i < bracket->n; i++) {
        struct query_entry *entry = (struct query_entry *) (uintptr_t) &bracket->entries[i]; /* ours */

        ++*at;
        if (entry->kind == ENTRY_BRACKET && !binary_place_positions(b, k, &entry->bracket, *at, at))
            return false;
    }
    return b->status == ANX_OK;
}
