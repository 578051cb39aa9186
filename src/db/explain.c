/* EXPLAIN: how a query was run. Clients only show it, so it holds what helps a reader: times, the index whose
 * order was used, and for every condition how it was answered. Times are in microseconds. */
#include "base/error.h"
#include "db/exec_int.h"

static const char *
method_of(const struct where_node *node, const struct where_group *group)
{
    switch (node->kind) {
    case WHERE_KNN:
    case WHERE_BITMAP:
        return "index";
    case WHERE_INDEX:
        return group->is_settled ? "index" : "scan";
    case WHERE_JOIN:
        return "no_preselect";
    default:
        return "scan";
    }
}

static const char *
type_of(const struct where_node *node, const struct where_group *group)
{
    switch (node->kind) {
    case WHERE_FIELDS:
        return "TwoFieldsComparison";
    case WHERE_LENGTH:
        return "FunctionsComparator";
    case WHERE_KNN:
    case WHERE_BITMAP:
        return "Forward";
    case WHERE_INDEX:
        return group->is_settled ? "Forward" : "Comparator";
    case WHERE_CONSTANT:
        return "Skipped";
    default:
        return "Comparator";
    }
}

static void print_node(const struct part *part, const struct where_node *node,
                       const struct where_group *group, anx_buffer *out);

static void
print_list(const struct part *part, const struct where_list *list, anx_buffer *out)
{
    anx_buffer_char(out, '[');
    for (size_t i = 0; i < list->n_group; i++)
        for (size_t j = list->groups[i].first; j < list->groups[i].first + list->groups[i].n; j++) {
            if (j > 0)
                anx_buffer_char(out, ',');
            print_node(part, &list->nodes[j], &list->groups[i], out);
        }
    anx_buffer_char(out, ']');
}

static void
print_name(const struct part *part, const struct where_node *node, anx_buffer *out)
{
    const char *prefix = node->is_or ? "or " : node->is_negated ? "not " : "";
    anx_text name = node->kind == WHERE_KNN ? part->knn.index->def->name : ANX_TEXT("");
    anx_buffer text;

    if (node->field)
        name = node->field->name;
    else if (node->kind == WHERE_JOIN)
        name = node->join->right->space->name;
    anx_buffer_init(&text, NULL, out->max);
    anx_buffer_text(&text, anx_text_of(prefix));
    anx_buffer_text(&text, name);
    json_print_text(out, (anx_text) { text.data, text.size });
    out->failed |= text.failed;
    anx_buffer_fini(&text);
}

static void
print_node(const struct part *part, const struct where_node *node, const struct where_group *group,
           anx_buffer *out)
{
    bool is_indexed = node->kind == WHERE_INDEX || node->kind == WHERE_BITMAP || node->kind == WHERE_KNN;

    anx_buffer_text(out, ANX_TEXT("{\"field\":"));
    print_name(part, node, out);
    if (node->kind == WHERE_BRACKET) {
        anx_buffer_text(out, ANX_TEXT(",\"selectors\":"));
        print_list(part, &node->list, out);
        anx_buffer_char(out, '}');
        return;
    }
    anx_buffer_printf(out, ",\"field_type\":\"%s\",\"method\":\"%s\",\"type\":\"%s\",\"keys\":%zu",
                      is_indexed ? "indexed" : "non-indexed", method_of(node, group), type_of(node, group),
                      node->n_key);
    if (group->estimate != SIZE_MAX)
        anx_buffer_printf(out, ",\"cost\":%zu", group->estimate);
    anx_buffer_printf(out, ",\"matched\":%zu}", node->kind == WHERE_KNN ? part->total : node->matched);
}

static void
print_scan(const struct part *part, anx_buffer *out)
{
    size_t n = rows_count(part->ns->rows);

    anx_buffer_printf(
        out, "[{\"field\":\"-scan\",\"method\":\"scan\",\"type\":\"Forward\",\"items\":%zu,\"matched\":%zu}]",
        n, part->hits.n);
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
    if (part->where.n_group == 0)
        print_scan(part, out);
    else
        print_list(part, &part->where, out);
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
