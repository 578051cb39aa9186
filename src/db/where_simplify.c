/* Condition lists made simpler before they are grouped. Every step keeps the rows that match:
 *
 *     brackets      a AND (b AND c)            a AND b AND c
 *                   a OR (b OR c)              a OR b OR c
 *     one field     a IN (1,2) AND a IN (2,3)  a IN (2)
 *     composites    a = 1 AND b IN (2,3)       "a+b" IN ({1,2},{1,3})
 *     constants     a AND true                 a
 *                   a AND false                false
 *
 * Brackets with joins stay: what a row brings along depends on the order in which a bracket is asked. So do
 * negated ones. Fields whose index holds arrays or nulls stay as well: there two equalities may both hold. */
#include "base/error.h"
#include "db/exec_int.h"

enum { COMPARISONS_MAX = 100000, COMPONENTS_MAX = 16 };

/* ---- Brackets ---- */

static bool
is_alone(const struct where_list *list, size_t i)
{
    return !list->nodes[i].is_or && (i + 1 >= list->n || !list->nodes[i + 1].is_or);
}

static bool
is_one_group(const struct where_list *list)
{
    for (size_t i = 1; i < list->n; i++)
        if (!list->nodes[i].is_or)
            return false;
    return list->n > 0;
}

static bool
can_open(const struct where_list *list, size_t i)
{
    const struct where_node *node = &list->nodes[i];

    return node->kind == WHERE_BRACKET && !node->is_negated && !node->has_join && node->list.n > 0 &&
           (is_one_group(&node->list) || is_alone(list, i));
}

/* Innermost first: a bracket is opened when its own brackets are. */
static anx_status
open_brackets(struct exec *x, struct where_list *list)
{
    struct where_list out = { 0 };
    bool has_bracket = false;
    size_t n = 0;

    for (size_t i = 0; i < list->n; i++) {
        if (list->nodes[i].kind == WHERE_BRACKET && open_brackets(x, &list->nodes[i].list) != ANX_OK)
            return ANX_E_NOMEM;
        has_bracket |= can_open(list, i);
        n += can_open(list, i) ? list->nodes[i].list.n : 1;
    }
    if (!has_bracket)
        return ANX_OK;
    out.nodes = anx_arena_array(x->arena, n, sizeof(*out.nodes));
    if (!out.nodes)
        return exec_nomem(x);
    for (size_t i = 0; i < list->n; i++) {
        const struct where_node *node = &list->nodes[i];

        if (!can_open(list, i)) {
            out.nodes[out.n++] = *node;
            continue;
        }
        memcpy(&out.nodes[out.n], node->list.nodes, node->list.n * sizeof(*node));
        out.nodes[out.n].is_or = node->is_or;
        out.n += node->list.n;
    }
    *list = out;
    return ANX_OK;
}

/* ---- One field, several sets ---- */

/* A set of values that a row must have in an index of one value each. */
static bool
is_set(const struct where_list *list, size_t i)
{
    const struct where_node *node = &list->nodes[i];

    return is_alone(list, i) && node->kind == WHERE_INDEX && !node->is_negated &&
           (node->condition == COND_EQ || node->condition == COND_SET) && !node->operand.has_null &&
           !node->field->index->def->is_array && !node->field->index->def->is_sparse;
}

static void
remove_node(struct where_list *list, size_t i)
{
    memmove(&list->nodes[i], &list->nodes[i + 1], (list->n - i - 1) * sizeof(*list->nodes));
    list->n--;
}

static anx_status
intersect(struct exec *x, struct where_node *node, const struct where_node *other)
{
    const struct collation *collation = field_collation(node->field);
    struct value *items = anx_arena_array(x->arena, node->operand.values.n, sizeof(*items));
    size_t n = 0;

    if (!items)
        return exec_nomem(x);
    for (size_t i = 0; i < node->operand.values.n; i++)
        if (condition_holds(COND_SET, &node->operand.values.items[i], &other->operand, collation))
            items[n++] = node->operand.values.items[i];
    node->operand = (struct operand) { .values = { items, n } };
    node->n_key = n;
    if (n == 0)
        node->kind = WHERE_CONSTANT; /* is_constant_true is false */
    return ANX_OK;
}

static anx_status
merge_sets(struct exec *x, struct where_list *list)
{
    for (size_t i = 0; i < list->n; i++)
        for (size_t j = list->n - 1; j > i && is_set(list, i); j--) {
            struct where_node *node = &list->nodes[i], *other = &list->nodes[j];
            anx_status st;

            if (!is_set(list, j) || node->field->index != other->field->index ||
                field_is_composite(node->field) || other->operand.values.n == 0 ||
                node->operand.values.n > COMPARISONS_MAX / other->operand.values.n)
                continue;
            st = intersect(x, node, other);
            if (st != ANX_OK)
                return st;
            remove_node(list, j);
        }
    return ANX_OK;
}

/* ---- Composites in the place of their components ---- */

/* Tuples that are looked up at most, by number of components; as many as the largest single set always may.
 */
static size_t
tuples_max(size_t n_component)
{
    static const size_t limits[] = { 0, 0, 300, 1000, 2000 };

    return n_component < ANX_COUNT_OF(limits) ? limits[n_component] : 4000;
}

struct substitution {
    const struct ns_index *index; /* NULL: none fits */
    size_t places[COMPONENTS_MAX]; /* of the components' conditions in the list */
    size_t n_tuple;
};

static size_t
find_set(const struct where_list *list, const struct ns_index *index)
{
    for (size_t i = 0; index && i < list->n; i++)
        if (is_set(list, i) && list->nodes[i].field->index == index)
            return i;
    return SIZE_MAX;
}

static bool
fits(const struct part *part, const struct where_list *list, const struct ns_index *index,
     struct substitution *out)
{
    const struct index_def *def = index->def;
    size_t largest = 0;

    if (def->field_type != FIELD_COMPOSITE || !index->scalar || def->n_path < 2 ||
        def->n_path > COMPONENTS_MAX)
        return false;
    *out = (struct substitution) { .index = index, .n_tuple = 1 };
    for (size_t i = 0; i < def->n_path; i++) {
        size_t n;

        out->places[i] = find_set(list, ns_index_find(part->ns, def->json_paths[i]));
        if (out->places[i] == SIZE_MAX)
            return false;
        n = list->nodes[out->places[i]].operand.values.n;
        largest = n > largest ? n : largest;
        if (n == 0 || out->n_tuple > SIZE_MAX / n)
            return false;
        out->n_tuple *= n;
    }
    return out->n_tuple <= tuples_max(def->n_path) || out->n_tuple == largest;
}

/* The one with the most components, then the first. */
static bool
find_substitution(const struct part *part, const struct where_list *list, struct substitution *out)
{
    out->index = NULL;
    for (size_t i = 0; i < part->ns->n_index; i++) {
        struct substitution next;

        if (fits(part, list, &part->ns->indexes[i], &next) &&
            (!out->index || next.index->def->n_path > out->index->def->n_path))
            *out = next;
    }
    return out->index != NULL;
}

/* Every combination of the components' values; the last component changes fastest. */
static anx_status
make_tuples(struct exec *x, const struct where_list *list, const struct substitution *s, struct values *out)
{
    size_t n_part = s->index->def->n_path;
    struct value *tuples = anx_arena_array(x->arena, s->n_tuple, sizeof(*tuples));

    if (!tuples)
        return exec_nomem(x);
    for (size_t i = 0; i < s->n_tuple; i++) {
        struct value *parts = anx_arena_array(x->arena, n_part, sizeof(*parts));
        size_t rest = i;

        if (!parts)
            return exec_nomem(x);
        for (size_t j = n_part; j-- > 0;) {
            struct values values = list->nodes[s->places[j]].operand.values;

            parts[j] = values.items[rest % values.n];
            rest /= values.n;
        }
        tuples[i] = (struct value) { .type = VALUE_TUPLE, .tuple = { parts, n_part } };
    }
    *out = (struct values) { tuples, s->n_tuple };
    return ANX_OK;
}

static anx_status
substitute(struct exec *x, const struct part *part, struct where_list *list, const struct substitution *s)
{
    struct where_node node = { .kind = WHERE_INDEX, .condition = COND_SET, .n_key = s->n_tuple };
    size_t first = SIZE_MAX;
    anx_status st = make_tuples(x, list, s, &node.operand.values);

    if (st != ANX_OK)
        return st;
    node.field = anx_arena_array(x->arena, 1, sizeof(*node.field));
    if (!node.field)
        return exec_nomem(x);
    st = field_bind(x, part->space, part->strict, s->index->def->name, FIELD_USE_FILTER, node.field);
    if (st != ANX_OK)
        return st;
    for (size_t i = 0; i < s->index->def->n_path; i++)
        first = s->places[i] < first ? s->places[i] : first;
    for (size_t i = list->n; i-- > 0;)
        for (size_t j = 0; j < s->index->def->n_path; j++)
            if (s->places[j] == i && i != first) {
                remove_node(list, i);
                break;
            }
    node.entry = list->nodes[first].entry;
    list->nodes[first] = node;
    return ANX_OK;
}

/* ---- Constants ---- */

static void
fold_constants(struct where_list *list)
{
    bool has_knn = false;

    for (size_t i = 0; i < list->n; i++)
        has_knn |= list->nodes[i].kind == WHERE_KNN;
    for (size_t i = list->n; i-- > 0;) {
        const struct where_node *node = &list->nodes[i];

        if (node->kind != WHERE_CONSTANT || !is_alone(list, i))
            continue;
        if (node->is_constant_true != node->is_negated) {
            remove_node(list, i);
        } else if (!has_knn) {
            list->nodes[0] = *node;
            list->n = 1;
            return;
        }
    }
}

/* ---- From outside ---- */

anx_status
where_simplify(struct exec *x, const struct part *part, struct where_list *list)
{
    struct substitution s;
    anx_status st = open_brackets(x, list);

    if (st == ANX_OK)
        st = merge_sets(x, list);
    if (st == ANX_OK)
        fold_constants(list);
    while (st == ANX_OK && list->n > 1 && find_substitution(part, list, &s))
        st = substitute(x, part, list, &s);
    for (size_t i = 0; st == ANX_OK && i < list->n; i++)
        if (list->nodes[i].kind == WHERE_BRACKET)
            st = where_simplify(x, part, &list->nodes[i].list);
    return st;
}
