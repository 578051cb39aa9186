/* EXPLAIN: how a query was run. Times, the index whose order was used, and the conditions as they were
 * simplified, from the cheapest up, each with how it is answered and how many rows it left of those that
 * reached it.
 *
 * The counts do not come from the run, which combines bitmaps and stops early: after it every row is asked,
 * in the order that is printed. Only EXPLAIN pays for that. Times are in microseconds. */
#include "base/error.h"
#include "db/exec_int.h"

/* ---- Counting ---- */

static size_t
count_keys(const struct where_node *node)
{
    const struct scalar_index *index = node->field->index->scalar;
    size_t n = 0;

    if (node->condition != COND_EQ && node->condition != COND_SET && node->condition != COND_ALLSET)
        return 1;
    for (size_t i = 0; i < node->operand.values.n; i++) {
        struct values one = { &node->operand.values.items[i], 1 };

        n += scalar_estimate(index, COND_EQ, &one) > 0;
    }
    return n;
}

/* Does an index give the rows, or is every row asked? */
static bool
is_by_index(const struct where_node *node)
{
    if (node->kind == WHERE_INDEX)
        return node->field->index->def->index_type != INDEX_COLUMN;
    return node->kind == WHERE_BITMAP || node->kind == WHERE_KNN || node->kind == WHERE_CONSTANT;
}

static bool
is_before(const struct where_group *a, const struct where_group *b)
{
    if (a->estimate != b->estimate)
        return a->estimate < b->estimate;
    return a->n < b->n;
}

/* From the cheapest up; an insertion sort keeps equal ones in the query's order. */
static anx_status
order_groups(struct exec *x, struct where_list *list)
{
    list->order = anx_arena_array(x->arena, list->n_group, sizeof(*list->order));
    if (!list->order && list->n_group > 0)
        return exec_nomem(x);
    for (size_t i = 0; i < list->n_group; i++) {
        size_t at = i;

        while (at > 0 && is_before(&list->groups[i], &list->groups[list->order[at - 1]])) {
            list->order[at] = list->order[at - 1];
            at--;
        }
        list->order[at] = i;
    }
    for (size_t i = 0; i < list->n; i++) {
        struct where_node *node = &list->nodes[i];

        node->matched = 0;
        if (node->kind == WHERE_INDEX)
            node->n_key = is_by_index(node) ? count_keys(node) : 0;
        else
            node->n_key = is_by_index(node);
        if (node->kind == WHERE_BRACKET && order_groups(x, &node->list) != ANX_OK)
            return ANX_E_NOMEM;
    }
    return ANX_OK;
}

static bool
count_row(struct exec *x, struct where_list *list, uint32_t row)
{
    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_group *group = &list->groups[list->order[i]];
        bool is_true = false;

        for (size_t j = group->first; !is_true && j < group->first + group->n; j++) {
            struct where_node *node = &list->nodes[j];

            is_true = node->kind == WHERE_BRACKET ? count_row(x, &node->list, row) != node->is_negated
                                                  : where_holds(x, node, row);
            node->matched += is_true;
        }
        if (!is_true)
            return false;
    }
    return true;
}

anx_status
explain_count(struct exec *x, struct part *part)
{
    const roaring_bitmap_t *rows = rows_all(part->ns->rows);
    roaring_uint32_iterator_t at;
    anx_status st;

    where_estimate(part); /* a few keys are looked up without it */
    st = order_groups(x, &part->where);
    if (st != ANX_OK || part_is_ranked(part))
        return st; /* whom the index offered is not known any more */
    roaring_init_iterator(rows, &at);
    for (; at.has_value && exec_goes_on(x); roaring_advance_uint32_iterator(&at))
        count_row(x, &part->where, at.current_value);
    return x->status;
}

/* ---- Printing ---- */

static const char *
type_of(const struct where_node *node)
{
    switch (node->kind) {
    case WHERE_FIELDS:
        return "TwoFieldsComparison";
    case WHERE_LENGTH:
        return "FunctionsComparator";
    case WHERE_CONSTANT:
        return "Skipped";
    default:
        return is_by_index(node) ? "Forward" : "Comparator";
    }
}

static void print_name(const struct part *part, const struct where_node *node, anx_buffer *out);

static void
print_names(const struct part *part, const struct where_list *list, anx_buffer *out)
{
    anx_buffer_char(out, '(');
    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_group *group = &list->groups[list->order[i]];

        for (size_t j = group->first; j < group->first + group->n; j++) {
            if (j > group->first)
                anx_buffer_char(out, ' ');
            else if (i > 0)
                anx_buffer_text(out, ANX_TEXT(" and "));
            print_name(part, &list->nodes[j], out);
        }
    }
    anx_buffer_char(out, ')');
}

static void
print_name(const struct part *part, const struct where_node *node, anx_buffer *out)
{
    if (node->is_or)
        anx_buffer_text(out, ANX_TEXT("or "));
    if (node->is_negated)
        anx_buffer_text(out, ANX_TEXT("not "));
    if (node->kind == WHERE_BRACKET)
        print_names(part, &node->list, out);
    else if (node->kind == WHERE_CONSTANT)
        anx_buffer_text(out, node->is_constant_true ? ANX_TEXT("always_true") : ANX_TEXT("always_false"));
    else if (node->kind == WHERE_KNN && !node->field) /* full text has a field */
        anx_buffer_text(out, part->knn.index->def->name);
    else if (node->kind == WHERE_JOIN) {
        anx_buffer_text(out, ANX_TEXT("inner_join "));
        anx_buffer_text(out, node->join->right->space->name);
    } else if (node->field)
        anx_buffer_text(out, node->field->name);
}

static void
print_quoted_name(const struct part *part, const struct where_node *node, anx_buffer *out)
{
    anx_buffer text;

    anx_buffer_init(&text, NULL, out->max);
    print_name(part, node, &text);
    json_print_text(out, (anx_text) { text.data, text.size });
    out->failed |= text.failed;
    anx_buffer_fini(&text);
}

static void
print_groups(const struct part *part, const struct where_list *list, bool is_first, anx_buffer *out);

static void
print_node(const struct part *part, const struct where_node *node, size_t estimate, anx_buffer *out)
{
    bool is_index = is_by_index(node);

    anx_buffer_text(out, ANX_TEXT("{\"field\":"));
    print_quoted_name(part, node, out);
    if (node->kind == WHERE_BRACKET) {
        anx_buffer_text(out, ANX_TEXT(",\"selectors\":["));
        print_groups(part, &node->list, true, out);
        anx_buffer_text(out, ANX_TEXT("]}"));
        return;
    }
    if (node->kind == WHERE_INDEX || node->kind == WHERE_BITMAP || node->kind == WHERE_KNN)
        anx_buffer_text(out, ANX_TEXT(",\"field_type\":\"indexed\""));
    else if (node->kind != WHERE_CONSTANT && node->kind != WHERE_JOIN)
        anx_buffer_text(out, ANX_TEXT(",\"field_type\":\"non-indexed\""));
    anx_buffer_printf(out, ",\"method\":\"%s\",\"type\":\"%s\",\"keys\":%zu,\"comparators\":%d",
                      is_index                   ? "index"
                      : node->kind == WHERE_JOIN ? "no_preselect"
                                                 : "scan",
                      type_of(node), node->n_key, !is_index && node->kind != WHERE_JOIN);
    if (estimate != SIZE_MAX)
        anx_buffer_printf(out, ",\"cost\":%zu", estimate);
    anx_buffer_printf(out, ",\"matched\":%zu}", part_is_ranked(part) ? part->total : node->matched);
}

static void
print_groups(const struct part *part, const struct where_list *list, bool is_first, anx_buffer *out)
{
    for (size_t i = 0; i < list->n_group; i++) {
        const struct where_group *group = &list->groups[list->order[i]];

        for (size_t j = group->first; j < group->first + group->n; j++) {
            if (!is_first)
                anx_buffer_char(out, ',');
            is_first = false;
            print_node(part, &list->nodes[j], group->estimate, out);
        }
    }
}

/* Without one condition that an index answers by itself, rows are looked at one by one. */
static bool
is_scan(const struct where_list *list)
{
    const struct where_group *group;

    if (list->n_group == 0)
        return true;
    group = &list->groups[list->order[0]];
    return group->n > 1 || list->nodes[group->first].is_negated || !is_by_index(&list->nodes[group->first]);
}

static void
print_list(const struct part *part, anx_buffer *out)
{
    bool scans = !part_is_ranked(part) && is_scan(&part->where);
    size_t n = rows_count(part->ns->rows);

    anx_buffer_char(out, '[');
    if (scans)
        anx_buffer_printf(
            out,
            "{\"field\":\"-scan\",\"method\":\"scan\",\"type\":\"Forward\",\"items\":%zu,\"matched\":%zu}", n,
            n);
    print_groups(part, &part->where, !scans, out);
    anx_buffer_char(out, ']');
}

static size_t
microseconds(uint64_t from_ns, uint64_t to_ns)
{
    return to_ns > from_ns ? (size_t) ((to_ns - from_ns) / 1000) : 0;
}

static void
print_part(const struct part *part, anx_buffer *out)
{
    anx_buffer_text(out, ANX_TEXT("\"namespace\":"));
    json_print_text(out, part->space->name);
    anx_buffer_text(out, ANX_TEXT(",\"sort_index\":"));
    json_print_text(out, part->is_by_walk ? sort_index_name(part->sort) : ANX_TEXT("-"));
    anx_buffer_text(out, ANX_TEXT(",\"sort_by_uncommitted_index\":false,\"selectors\":"));
    print_list(part, out);
}

void
explain_print(const struct explain *explain, struct part *const *parts, size_t n_part, anx_buffer *out)
{
    anx_buffer_printf(
        out,
        "{\"total_us\":%zu,\"preselect_us\":0,\"prepare_us\":%zu,\"indexes_us\":0,\"postprocess_us\":%zu,"
        "\"loop_us\":%zu,\"general_sort_us\":0,",
        microseconds(explain->start_ns, explain->end_ns),
        microseconds(explain->start_ns, explain->prepared_ns),
        microseconds(explain->selected_ns, explain->end_ns),
        microseconds(explain->prepared_ns, explain->selected_ns));
    print_part(parts[0], out);
    if (n_part > 1)
        anx_buffer_text(out, ANX_TEXT(",\"merged\":["));
    for (size_t i = 1; i < n_part; i++) {
        anx_buffer_text(out, i == 1 ? ANX_TEXT("{") : ANX_TEXT(",{"));
        print_part(parts[i], out);
        anx_buffer_char(out, '}');
    }
    if (n_part > 1)
        anx_buffer_char(out, ']');
    anx_buffer_char(out, '}');
}
