/* EXPLAIN: how a query was run. Times, subqueries, the index whose order was used, and the conditions as they
 * were simplified, from the cheapest up, each with how it is answered and how many rows it left of those that
 * reached it; then left joins.
 *
 * The counts do not come from the run, which combines bitmaps and stops early: after it every row is asked,
 * in the order that is printed. Only EXPLAIN pays for that. Times are in microseconds, begun ones included,
 * so that what ran is never 0. */
#include "base/clock.h"
#include "base/error.h"
#include "db/exec_int.h"

/* ---- Noted while it runs ---- */

uint64_t
explain_clock(const struct exec *x)
{
    return x->is_explained ? anx_clock_ns() : 0;
}

void
explain_add(const struct exec *x, struct part *part, enum explain_phase phase, uint64_t start)
{
    if (x->is_explained)
        part->phases[phase] += anx_clock_ns() - start;
}

anx_status
explain_note(struct exec *x, struct part *part, const struct explain_subquery *what)
{
    struct explain_subquery *copy;

    if (!x->is_explained)
        return ANX_OK;
    copy = anx_arena_array(x->arena, 1, sizeof(*copy));
    if (!copy)
        return exec_nomem(x);
    *copy = *what;
    copy->next = part->subqueries;
    part->subqueries = copy;
    return ANX_OK;
}

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

static void
count_left_joins(struct exec *x, struct part *part, uint32_t row)
{
    for (size_t i = 0; part->joins && i < part->query->n_join; i++)
        if (part->joins[i].query->type == JOIN_LEFT)
            part->joins[i].matched += join_exists(x, &part->joins[i], row);
}

/* Were the rows of the right side looked up beforehand? */
static bool
is_preselected(const struct join *join)
{
    return join->has_rows && join->rows;
}

static anx_status
count_inner(struct exec *x, struct part *part)
{
    anx_status st = ANX_OK;

    for (struct explain_subquery *s = part->subqueries; st == ANX_OK && s; s = s->next)
        st = explain_count(x, s->part);
    for (size_t i = 0; st == ANX_OK && part->joins && i < part->query->n_join; i++)
        if (is_preselected(&part->joins[i]))
            st = explain_count(x, part->joins[i].right);
    return st;
}

anx_status
explain_count(struct exec *x, struct part *part)
{
    const roaring_bitmap_t *rows = rows_all(part->ns->rows);
    roaring_uint32_iterator_t at;
    anx_status st;

    where_estimate(part); /* a few keys are looked up without it */
    st = order_groups(x, &part->where);
    if (st == ANX_OK && !part_is_ranked(part)) { /* whom that index offered is not known any more */
        roaring_init_iterator(rows, &at);
        for (; at.has_value && exec_goes_on(x); roaring_advance_uint32_iterator(&at))
            if (count_row(x, &part->where, at.current_value))
                count_left_joins(x, part, at.current_value);
        st = x->status;
    }
    return st == ANX_OK ? count_inner(x, part) : st;
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
static void print_part(const struct part *part, anx_buffer *out);

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

/* Behind the name. */
static void
print_join(const struct join *join, size_t matched, anx_buffer *out)
{
    size_t n_key = is_preselected(join) ? roaring_bitmap_get_cardinality(join->rows) : join->right->where.n;

    anx_buffer_printf(out, ",\"method\":\"%s\",\"keys\":%zu,\"comparators\":0,\"matched\":%zu",
                      is_preselected(join) ? "preselected_rows" : "no_preselect", n_key, matched);
    if (is_preselected(join)) {
        anx_buffer_text(out, ANX_TEXT(",\"explain_preselect\":"));
        print_part(join->right, out);
    }
    anx_buffer_char(out, '}');
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
    if (node->kind == WHERE_JOIN) {
        print_join(node->join, node->matched, out);
        return;
    }
    if (node->kind == WHERE_INDEX || node->kind == WHERE_BITMAP || node->kind == WHERE_KNN)
        anx_buffer_text(out, ANX_TEXT(",\"field_type\":\"indexed\""));
    else if (node->kind != WHERE_CONSTANT)
        anx_buffer_text(out, ANX_TEXT(",\"field_type\":\"non-indexed\""));
    anx_buffer_printf(out, ",\"method\":\"%s\",\"type\":\"%s\",\"keys\":%zu,\"comparators\":%d",
                      is_index ? "index" : "scan", type_of(node), node->n_key, !is_index);
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
print_left_joins(const struct part *part, bool is_first, anx_buffer *out)
{
    for (size_t i = 0; part->joins && i < part->query->n_join; i++) {
        const struct join *join = &part->joins[i];

        if (join->query->type != JOIN_LEFT)
            continue;
        if (!is_first)
            anx_buffer_char(out, ',');
        is_first = false;
        anx_buffer_text(out, ANX_TEXT("{\"field\":\"left_join "));
        anx_buffer_text(out, join->right->space->name); /* letters, digits, _ - # */
        anx_buffer_char(out, '"');
        print_join(join, join->matched, out);
    }
}

/* Its rows' field, compared with what stands on the right of it. */
static void
print_compared(const struct explain_subquery *subquery, anx_buffer *out)
{
    const struct part *part = subquery->part;
    anx_text name = part->query->fields[0];
    const struct ns_index *index = ns_index_of_query(part->ns, name);

    anx_buffer_text(out, ANX_TEXT(",{\"field\":"));
    json_print_text(out, index ? index->def->name : name);
    anx_buffer_printf(out,
                      ",\"field_type\":\"%s\",\"method\":\"scan\",\"type\":\"Comparator\",\"keys\":0,"
                      "\"comparators\":1,\"matched\":%zu}",
                      index ? "indexed" : "non-indexed", subquery->matched);
}

static void
print_list(const struct part *part, const struct explain_subquery *as, anx_buffer *out)
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
    if (as && as->is_compared)
        print_compared(as, out);
    print_left_joins(part, !scans && part->where.n_group == 0, out);
    anx_buffer_char(out, ']');
}

/* ---- Times ---- */

struct times {
    uint64_t us[PHASES], postprocess_us;
};

static uint64_t
microseconds(uint64_t ns)
{
    return (ns + 999) / 1000;
}

static void
add_times(const struct part *part, struct times *out)
{
    for (size_t i = 0; i < PHASES; i++)
        out->us[i] += microseconds(part->phases[i]);
}

static void
print_times(const struct times *times, anx_buffer *out)
{
    uint64_t total = times->postprocess_us;

    for (size_t i = 0; i < PHASES; i++)
        total += times->us[i];
    anx_buffer_printf(out,
                      "\"total_us\":%llu,\"preselect_us\":%llu,\"prepare_us\":%llu,\"indexes_us\":%llu,"
                      "\"postprocess_us\":%llu,"
                      "\"loop_us\":%llu,\"general_sort_us\":%llu",
                      (unsigned long long) total, (unsigned long long) times->us[PHASE_PRESELECT],
                      (unsigned long long) times->us[PHASE_PREPARE],
                      (unsigned long long) times->us[PHASE_INDEXES],
                      (unsigned long long) times->postprocess_us, (unsigned long long) times->us[PHASE_LOOP],
                      (unsigned long long) times->us[PHASE_SORT]);
}

/* ---- Queries ---- */

static void
print_query(const struct part *part, const struct explain_subquery *as, uint64_t postprocess_us,
            anx_buffer *out);

/* The first is the last of the list. */
static void
print_subqueries(const struct explain_subquery *subquery, anx_buffer *out)
{
    if (!subquery)
        return;
    print_subqueries(subquery->next, out);
    anx_buffer_text(out, subquery->next ? ANX_TEXT(",{\"namespace\":") : ANX_TEXT("{\"namespace\":"));
    json_print_text(out, subquery->part->space->name);
    anx_buffer_text(out, ANX_TEXT(",\"explain\":"));
    print_query(subquery->part, subquery, 0, out);
    if (subquery->field.size > 0) {
        anx_buffer_text(out, ANX_TEXT(",\"field\":"));
        json_print_text(out, subquery->field);
        anx_buffer_char(out, '}');
    } else {
        anx_buffer_printf(out, ",\"keys\":%zu}", subquery->n_key);
    }
}

static void
print_query(const struct part *part, const struct explain_subquery *as, uint64_t postprocess_us,
            anx_buffer *out)
{
    struct times times = { .postprocess_us = postprocess_us };

    add_times(part, &times);
    anx_buffer_char(out, '{');
    print_times(&times, out);
    if (part->subqueries) {
        anx_buffer_text(out, ANX_TEXT(",\"subqueries\":["));
        print_subqueries(part->subqueries, out);
        anx_buffer_char(out, ']');
    }
    anx_buffer_text(out, ANX_TEXT(",\"namespace\":"));
    json_print_text(out, part->space->name);
    anx_buffer_text(out, ANX_TEXT(",\"sort_index\":"));
    json_print_text(out, part->is_by_walk ? sort_index_name(part->sort) : ANX_TEXT("-"));
    anx_buffer_text(out, ANX_TEXT(",\"sort_by_uncommitted_index\":false,\"selectors\":"));
    print_list(part, as, out);
    anx_buffer_char(out, '}');
}

static void
print_part(const struct part *part, anx_buffer *out)
{
    print_query(part, NULL, 0, out);
}

void
explain_print(const struct explain *explain, struct part *const *parts, size_t n_part, anx_buffer *out)
{
    struct times times = { .postprocess_us = microseconds(explain->end_ns - explain->selected_ns) };

    if (n_part == 1) {
        print_query(parts[0], NULL, times.postprocess_us, out);
        return;
    }
    for (size_t i = 0; i < n_part; i++)
        add_times(parts[i], &times);
    times.us[PHASE_SORT] += microseconds(explain->merge_ns);
    anx_buffer_char(out, '{');
    print_times(&times, out);
    anx_buffer_text(out, ANX_TEXT(",\"sort_index\":\"-\",\"merged\":["));
    for (size_t i = 0; i < n_part; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        print_part(parts[i], out);
    }
    anx_buffer_text(out, ANX_TEXT("]}"));
}
