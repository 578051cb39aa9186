/* WHERE, compiled: names become fields, values take the types of their indexes, subqueries become values, and
 * what the namespace does not allow is refused. Asking rows is where_match.c, finding them where_select.c. */
#include "base/error.h"
#include "db/exec_int.h"

static anx_status compile_bracket(struct exec *x, struct part *part, const struct query_bracket *bracket,
                                  struct where_list *out);

static anx_status
new_field(struct exec *x, const struct part *part, anx_text name, struct field **out)
{
    *out = anx_arena_array(x->arena, 1, sizeof(**out));
    if (!*out)
        return exec_nomem(x);
    return field_bind(x, part->space, part->strict, name, FIELD_USE_FILTER, *out);
}

static void
make_constant(struct where_node *node, bool is_true)
{
    node->kind = WHERE_CONSTANT;
    node->is_constant_true = is_true;
}

/* ---- Kinds of fields ---- */

static anx_status
fail_vector(struct exec *x, enum query_condition condition, const struct field *field)
{
    return anx_fail(
        x->err, ANX_E_PARAMS,
        "Valid conditions for float vector index are KNN, Empty, Any; attempt to use '%s' on field "
        "'%.*s'",
        condition_sign(condition), ANX_TEXT_ARG(field->name));
}

static anx_status
compile_vector(struct exec *x, const struct part *part, struct where_node *node)
{
    const struct vector_index *index = node->field->index->vector;

    if (node->condition != COND_ANY && node->condition != COND_EMPTY)
        return fail_vector(x, node->condition, node->field);
    if (part_is_ranked(part))
        return anx_fail(
            x->err, ANX_E_NOT_VALID,
            "KNN or FullText cannot be mixed with conditions for a floating-point vector field in a "
            "query");
    node->kind = WHERE_BITMAP;
    node->bitmap = node->condition == COND_ANY ? vector_rows_any(index) : vector_rows_empty(index);
    return ANX_OK;
}

/* A scalar index that is neither sparse nor an array stores defaults instead of nulls. */
static bool
knows_null(const struct field *field)
{
    return field->index->def->is_sparse || field->index->def->is_array;
}

static anx_status
fail_null(struct exec *x, const char *condition)
{
    return anx_fail(x->err, ANX_E_PARAMS,
                    "The '%s' condition is supported only by 'sparse' or 'array' indexes", condition);
}

/* As messages of conditions call the type of an index's keys. */
static const char *
key_type_name(enum field_type type)
{
    return type == FIELD_INT64 ? "int" : type == FIELD_UUID ? "UUID" : field_type_name(type);
}

static anx_status
check_null(struct exec *x, struct where_node *node)
{
    if (knows_null(node->field))
        return ANX_OK;
    if (node->condition == COND_EMPTY || node->operand.has_null)
        return fail_null(x, "is NULL");
    if (node->condition != COND_ANY)
        return ANX_OK;
    if (node->field->index->def->index_type == INDEX_COLUMN)
        return fail_null(x, "NOT NULL");
    make_constant(node, true);
    return ANX_OK;
}

static anx_status
compile_scalar(struct exec *x, struct where_node *node, struct values values)
{
    enum field_type type = node->field->index->def->field_type;
    struct value *items = anx_arena_array(x->arena, values.n, sizeof(*items));
    anx_status st = ANX_OK;

    if (!items && values.n > 0)
        return exec_nomem(x);
    node->kind = WHERE_INDEX;
    if (node->condition == COND_LIKE && type != FIELD_STRING && type != FIELD_COMPOSITE)
        return anx_fail(x->err, ANX_E_QUERY, "Condition CondLike with type %s", key_type_name(type));
    for (size_t i = 0; st == ANX_OK && i < values.n; i++)
        st = field_convert(x, node->field, &values.items[i], &items[i]);
    if (st == ANX_OK && node->condition == COND_LIKE && type == FIELD_COMPOSITE)
        st = anx_fail(x->err, ANX_E_QUERY, "Condition CondLike with type %s", key_type_name(type));
    if (st != ANX_OK)
        return st;
    node->operand.values = (struct values) { items, values.n };
    for (size_t i = 0; i < values.n; i++)
        node->operand.has_null |= items[i].type == VALUE_NULL;
    return check_null(x, node);
}

static anx_status
compile_point(struct exec *x, struct where_node *node, struct values values)
{
    if (values.n != 3)
        return anx_fail(x->err, ANX_E_PARAMS, "Condition CondDWithin needs a point and a distance");
    if (node->field->index && node->field->index->def->field_type != FIELD_POINT &&
        node->field->index->def->index_type != INDEX_RTREE)
        return anx_fail(x->err, ANX_E_QUERY, "Condition CondDWithin with type %s",
                        key_type_name(node->field->index->def->field_type));
    node->kind = WHERE_POINT;
    return operand_init(x, COND_DWITHIN, values, NULL, &node->operand);
}

/* What ranks was found by knn_compile; in joined queries full text only filters. */
static anx_status
compile_text(struct exec *x, const struct part *part, struct where_node *node, struct values values)
{
    anx_text query;
    anx_status st = fulltext_query(x, node->field->index, node->condition, values, &query);

    if (st != ANX_OK)
        return st;
    node->kind = WHERE_KNN;
    if (!part->is_joined)
        return ANX_OK;
    node->kind = WHERE_BITMAP;
    return fulltext_rows(x, node->field->index, query, &node->bitmap);
}

/* A set without values matches nothing, whatever the field. */
static bool
is_never(enum query_condition condition, struct values values)
{
    return values.n == 0 && condition != COND_ANY && condition != COND_EMPTY;
}

static anx_status
compile_field(struct exec *x, const struct part *part, struct where_node *node, struct values values)
{
    const struct field *field = node->field;

    node->n_key = values.n;
    if (field->kind == FIELD_IS_VECTOR)
        return compile_vector(x, part, node);
    if (is_never(node->condition, values)) {
        make_constant(node, false);
        return ANX_OK;
    }
    if (field->kind == FIELD_IS_UNKNOWN) {
        make_constant(node, node->condition == COND_EMPTY);
        return ANX_OK;
    }
    if (field->kind != FIELD_IS_SCALAR && field->index && field->index->def->index_type == INDEX_TEXT)
        return compile_text(x, part, node, values);
    if (node->condition == COND_DWITHIN)
        return compile_point(x, node, values);
    if (field->kind == FIELD_IS_SCALAR)
        return compile_scalar(x, node, values);
    if (field->index)
        return anx_fail(x->err, ANX_E_QUERY, "Only DWithin condition is available for RTree index");
    node->kind = WHERE_VALUES;
    return operand_init(x, node->condition, values, NULL, &node->operand);
}

/* ---- Entries ---- */

static anx_status
compile_length(struct exec *x, struct where_node *node, struct values values)
{
    switch (node->condition) {
    case COND_EQ:
    case COND_SET:
    case COND_LT:
    case COND_LE:
    case COND_GT:
    case COND_GE:
    case COND_RANGE:
        break;
    default:
        return anx_fail(x->err, ANX_E_PARAMS, "Condition %s is not supported by flat_array_len()",
                        query_condition_class(node->condition));
    }
    node->kind = WHERE_LENGTH;
    return operand_init(x, node->condition, values, NULL, &node->operand);
}

/* What an entry compares with: its values, or now(). */
static anx_status
right_values(struct exec *x, const struct query_entry *entry, struct values *out)
{
    struct value *now;

    *out = entry->values;
    if (!entry->values_are_now)
        return ANX_OK;
    now = anx_arena_array(x->arena, 1, sizeof(*now));
    if (!now)
        return exec_nomem(x);
    *now = (struct value) { .type = VALUE_INT, .integer = exec_now(x, entry->unit) };
    *out = (struct values) { now, 1 };
    return ANX_OK;
}

static anx_status
compile_compare(struct exec *x, const struct part *part, const struct query_entry *entry,
                struct where_node *node)
{
    struct values values;
    anx_status st;

    if (entry->function == FUNCTION_NOW)
        return anx_fail(x->err, ANX_E_LOGIC, "Function 'now' is not supported as left expression");
    st = new_field(x, part, entry->field, &node->field);
    if (st != ANX_OK)
        return st;
    st = right_values(x, entry, &values);
    if (st != ANX_OK)
        return st;
    if (entry->function == FUNCTION_FLAT_ARRAY_LEN)
        return compile_length(x, node, values);
    if (entry->refuses_regular && entry->condition == COND_ANY && node->field->kind == FIELD_IS_SCALAR &&
        !knows_null(node->field))
        return fail_null(x, "NOT NULL");
    return compile_field(x, part, node, values);
}

static anx_status
check_compared_field(struct exec *x, enum query_condition condition, const struct field *field)
{
    if (field->kind == FIELD_IS_VECTOR)
        return fail_vector(x, condition, field);
    if (field->index && field->index->def->index_type == INDEX_TEXT)
        return anx_fail(x->err, ANX_E_QUERY, "Fulltext index '%.*s' cannot be compared with another field",
                        ANX_TEXT_ARG(field->name));
    return ANX_OK;
}

/* Two composites compare component by component, and each pair has to satisfy the condition. */
static anx_status
compile_composites(struct exec *x, const struct part *part, const struct query_entry *entry,
                   struct where_node *node)
{
    const struct index_def *left = node->field->index->def, *right = node->right->index->def;
    anx_status st = ANX_OK;

    if (left->n_path != right->n_path)
        return anx_fail(x->err, ANX_E_PARAMS,
                        "Can't compare composite indexes '%.*s' and '%.*s': they have %zu and %zu fields",
                        ANX_TEXT_ARG(left->name), ANX_TEXT_ARG(right->name), left->n_path, right->n_path);
    node->kind = WHERE_BRACKET;
    node->list.nodes = anx_arena_array(x->arena, left->n_path, sizeof(*node->list.nodes));
    if (!node->list.nodes)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < left->n_path; i++) {
        struct where_node *pair = &node->list.nodes[node->list.n++];

        *pair = (struct where_node) { .kind = WHERE_FIELDS, .condition = entry->condition, .entry = entry };
        st = new_field(x, part, left->json_paths[i], &pair->field);
        if (st == ANX_OK)
            st = new_field(x, part, right->json_paths[i], &pair->right);
    }
    return st;
}

static anx_status
compile_fields(struct exec *x, const struct part *part, const struct query_entry *entry,
               struct where_node *node)
{
    anx_status st = new_field(x, part, entry->field, &node->field);

    if (st == ANX_OK)
        st = new_field(x, part, entry->right_field, &node->right);
    if (st == ANX_OK)
        st = check_compared_field(x, entry->condition, node->field);
    if (st == ANX_OK)
        st = check_compared_field(x, entry->condition, node->right);
    if (st == ANX_OK && field_is_composite(node->field) && field_is_composite(node->right))
        return compile_composites(x, part, entry, node);
    node->kind = WHERE_FIELDS;
    return st;
}

static anx_status
fail_arguments(struct exec *x, enum query_condition condition, size_t expected, size_t n)
{
    return anx_fail(x->err, ANX_E_PARAMS,
                    "Condition %s must have exact %zu argument, but %zu arguments were provided",
                    query_condition_class(condition), expected, n);
}

/* How many values a subquery gives is known only now. */
static anx_status
check_arguments(struct exec *x, enum query_condition condition, size_t n)
{
    bool is_order =
        condition == COND_LT || condition == COND_LE || condition == COND_GT || condition == COND_GE;

    if (is_order && n > 1)
        return fail_arguments(x, condition, 1, n);
    if (condition == COND_RANGE && n != 2)
        return fail_arguments(x, condition, 2, n);
    return ANX_OK;
}

static anx_status
compile_subquery_field(struct exec *x, struct part *part, const struct query_entry *entry,
                       struct where_node *node)
{
    struct explain_subquery note = { .field = entry->field };
    uint64_t start = explain_clock(x);
    struct values values;
    anx_status st = new_field(x, part, entry->field, &node->field);

    if (st == ANX_OK)
        st = subquery_values(x, entry->subquery, &values, &note.part);
    explain_add(x, part, PHASE_PRESELECT, start);
    if (st == ANX_OK)
        st = explain_note(x, part, &note);
    if (st == ANX_OK)
        st = check_arguments(x, entry->condition, values.n);
    if (st == ANX_OK && entry->function == FUNCTION_FLAT_ARRAY_LEN)
        return compile_length(x, node, values);
    return st == ANX_OK ? compile_field(x, part, node, values) : st;
}

/* EXPLAIN: for how many of a subquery's values does the condition hold? */
static void
count_compared(enum query_condition condition, const struct query *query, struct values values,
               const struct operand *operand, struct explain_subquery *note)
{
    note->is_compared = query->n_aggregate == 0 && query->total == TOTAL_NONE && query->n_field == 1;
    note->n_key = note->is_compared ? 0 : operand->values.n;
    for (size_t i = 0; note->is_compared && i < values.n; i++) {
        struct values one = { &values.items[i], 1 };

        note->matched += condition_holds_any(condition, one, operand, NULL);
    }
}

static anx_status
compare_subquery(struct exec *x, const struct query_entry *entry, struct where_node *node,
                 struct explain_subquery *note)
{
    struct values values, right;
    struct operand operand;
    anx_status st = subquery_values(x, entry->subquery, &values, &note->part);

    if (st == ANX_OK)
        st = right_values(x, entry, &right);
    if (st == ANX_OK)
        st = operand_init(x, entry->condition, right, NULL, &operand);
    if (st != ANX_OK)
        return st;
    make_constant(node, condition_holds_any(entry->condition, values, &operand, NULL));
    if (x->is_explained)
        count_compared(entry->condition, entry->subquery, values, &operand, note);
    return ANX_OK;
}

static anx_status
compile_subquery_values(struct exec *x, struct part *part, const struct query_entry *entry,
                        struct where_node *node)
{
    struct explain_subquery note = { 0 };
    uint64_t start = explain_clock(x);
    bool is_true = false;
    anx_status st;

    if (entry->condition == COND_ANY || entry->condition == COND_EMPTY) {
        st = subquery_exists(x, entry->subquery, &is_true, &note.part);
        make_constant(node, is_true == (entry->condition == COND_ANY));
    } else {
        st = compare_subquery(x, entry, node, &note);
    }
    explain_add(x, part, PHASE_PRESELECT, start);
    return st == ANX_OK ? explain_note(x, part, &note) : st;
}

static anx_status
compile_entry(struct exec *x, struct part *part, const struct query_entry *entry, struct where_node *node)
{
    anx_status st = ANX_OK;

    *node = (struct where_node) {
        .is_negated = entry->op == OP_NOT,
        .is_or = entry->op == OP_OR,
        .condition = entry->condition,
        .entry = entry,
    };
    switch (entry->kind) {
    case ENTRY_COMPARE:
        return compile_compare(x, part, entry, node);
    case ENTRY_FIELDS:
        return compile_fields(x, part, entry, node);
    case ENTRY_KNN:
        node->kind = WHERE_KNN;
        return ANX_OK;
    case ENTRY_BRACKET:
        node->kind = WHERE_BRACKET;
        st = compile_bracket(x, part, &entry->bracket, &node->list);
        for (size_t i = 0; st == ANX_OK && i < node->list.n; i++)
            node->has_join |= node->list.nodes[i].has_join;
        return st;
    case ENTRY_JOIN:
        node->kind = WHERE_JOIN;
        node->has_join = true;
        if (entry->join >= part->query->n_join || !part->joins)
            return anx_fail(x->err, ANX_E_LOGIC, "Join cannot be here");
        node->join = &part->joins[entry->join];
        return ANX_OK;
    case ENTRY_SUBQUERY_FIELD:
        return compile_subquery_field(x, part, entry, node);
    case ENTRY_SUBQUERY_VALUES:
        return compile_subquery_values(x, part, entry, node);
    }
    return anx_fail(x->err, ANX_E_LOGIC, "unknown kind of condition");
}

/* ---- equal_position ---- */

/* A path with its marks of positions, "a[#].b", as the path that an index has. */
static anx_text
without_marks(struct exec *x, anx_text path)
{
    char *copy = anx_arena_bytes(x->arena, path.size + 1);
    size_t n = 0;

    for (size_t i = 0; copy && i < path.size; i++) {
        if (path.size - i >= 3 && memcmp(path.data + i, "[#]", 3) == 0)
            i += 2;
        else
            copy[n++] = path.data[i];
    }
    return copy ? (anx_text) { copy, n } : path;
}

static bool
names_same_field(struct exec *x, const struct part *part, anx_text a, anx_text b)
{
    const struct ns_index *index = ns_index_of_query(part->ns, a);

    if (!index && a.size > 0 && memchr(a.data, '#', a.size))
        index = ns_index_of_query(part->ns, without_marks(x, a));

    return index ? index == ns_index_of_query(part->ns, b) : anx_text_equal(a, b);
}

static anx_status
check_position_condition(struct exec *x, const struct where_node *node)
{
    const struct query_entry *entry = node->entry;
    bool is_set = entry->condition == COND_EQ || entry->condition == COND_SET;

    if (entry->op != OP_AND)
        return anx_fail(x->err, ANX_E_PARAMS, "Only AND operation allowed for equal position; field '%.*s'",
                        ANX_TEXT_ARG(entry->field));
    if (entry->kind == ENTRY_KNN || entry->condition == COND_EMPTY || entry->condition == COND_DWITHIN ||
        (is_set && entry->kind == ENTRY_COMPARE && entry->values.n == 0))
        return anx_fail(
            x->err, ANX_E_QUERY,
            "Conditions IN(with empty parameter list), IS NULL, KNN and DWithin are not allowed for "
            "equal position");
    return ANX_OK;
}

/* The conditions of the bracket on one field, looked up in documents, where positions are. */
static anx_status
add_position_conditions(struct exec *x, const struct part *part, const struct query_bracket *bracket,
                        const struct where_node *nodes, anx_text field, struct where_list *out)
{
    size_t before = out->n;

    for (size_t i = 0; i < bracket->n; i++) {
        struct where_node *node = &out->nodes[out->n];
        anx_status st;

        if (bracket->entries[i].kind == ENTRY_BRACKET || bracket->entries[i].function != FUNCTION_NONE ||
            bracket->entries[i].field.size == 0 ||
            !names_same_field(x, part, field, bracket->entries[i].field))
            continue;
        *node = nodes[i];
        st = check_position_condition(x, node);
        if (st == ANX_OK)
            st = new_field(x, part, field, &node->field);
        if (st != ANX_OK)
            return st;
        field_length(x, node->field, UINT32_MAX); /* finds the paths of an indexed field */
        if (x->status != ANX_OK)
            return x->status;
        out->n++;
    }
    if (out->n == before)
        return anx_fail(x->err, ANX_E_PARAMS,
                        "Equal position field '%.*s' is not used in a condition beside it",
                        ANX_TEXT_ARG(field));
    return ANX_OK;
}

static anx_status
compile_positions(struct exec *x, const struct part *part, const struct query_bracket *bracket,
                  const struct query_positions *positions, struct where_list *list)
{
    struct where_node *node = &list->nodes[list->n];
    anx_status st = ANX_OK;

    if (positions->n < 2)
        return anx_fail(x->err, ANX_E_PARAMS,
                        "equal_position() is supported for more than 1 field. %zu field(s) "
                        "provided",
                        positions->n);
    *node = (struct where_node) { .kind = WHERE_POSITIONS };
    node->list.nodes = anx_arena_array(x->arena, bracket->n * positions->n, sizeof(*node->list.nodes));
    if (!node->list.nodes)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < positions->n; i++)
        st = add_position_conditions(x, part, bracket, list->nodes, positions->fields[i], &node->list);
    list->n++;
    return st;
}

/* ---- Lists ---- */

static anx_status
make_groups(struct exec *x, struct where_list *list)
{
    list->groups = anx_arena_array(x->arena, list->n, sizeof(*list->groups));
    if (!list->groups && list->n > 0)
        return exec_nomem(x);
    for (size_t i = 0; i < list->n; i++) {
        struct where_group *group;

        if (i == 0 || !list->nodes[i].is_or)
            list->groups[list->n_group++] = (struct where_group) { .first = i, .estimate = SIZE_MAX };
        group = &list->groups[list->n_group - 1];
        group->n++;
        group->has_join |= list->nodes[i].has_join;
    }
    return ANX_OK;
}

static anx_status
compile_bracket(struct exec *x, struct part *part, const struct query_bracket *bracket,
                struct where_list *out)
{
    anx_status st = ANX_OK;

    out->nodes = anx_arena_array(x->arena, bracket->n + bracket->n_positions, sizeof(*out->nodes));
    if (!out->nodes)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < bracket->n; i++, out->n++)
        st = compile_entry(x, part, &bracket->entries[i], &out->nodes[i]);
    for (size_t i = 0; st == ANX_OK && i < bracket->n_positions; i++)
        st = compile_positions(x, part, bracket, &bracket->positions[i], out);
    return st;
}

static anx_status
group_lists(struct exec *x, struct where_list *list)
{
    anx_status st = make_groups(x, list);

    for (size_t i = 0; st == ANX_OK && i < list->n; i++)
        if (list->nodes[i].kind == WHERE_BRACKET)
            st = group_lists(x, &list->nodes[i].list);
    return st;
}

anx_status
where_compile(struct exec *x, struct part *part, struct where_list *out)
{
    anx_status st;

    *out = (struct where_list) { 0 };
    if (part->query->where.n == 0)
        return ANX_OK;
    st = compile_bracket(x, part, &part->query->where, out);
    if (st == ANX_OK)
        st = where_simplify(x, part, out);
    return st == ANX_OK ? group_lists(x, out) : st;
}
