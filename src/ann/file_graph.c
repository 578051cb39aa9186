/* A graph read from a foreign layout: kept as one growing array of lists, then checked as a whole.
 *
 * Foreign writers differ in care. What would make a search read out of bounds or lie (ids, counts, levels,
 * entry, labels, values) refuses the file; what is merely untidy (a link to itself, a double link, a removed
 * row that still has its slot) is put right. A removed row leaves bridges: a node that pointed to it gets the
 * row's own neighbors in the freed places, so that what was reachable through it stays reachable. */
#include <stdlib.h>
#include <string.h>

#include "ann/file_part.h"
#include "ann/rows.h"
#include "base/alloc.h"
#include "base/error.h"

#define UNSEEN UINT32_MAX

void
file_graph_fini(struct file_graph *graph)
{
    anx_free_aligned(graph->alloc, graph->rows);
    anx_free(graph->alloc, graph->labels);
    anx_free(graph->alloc, graph->levels);
    anx_free(graph->alloc, graph->starts);
    anx_free(graph->alloc, graph->links);
    graph->rows = NULL, graph->labels = NULL, graph->levels = NULL, graph->starts = NULL, graph->links = NULL;
}

static size_t
list_capacity(const struct file_graph *graph, size_t level)
{
    return level == 0 ? graph->m0 : graph->m;
}

static anx_status
reserve_node(struct file_graph *graph, size_t node, size_t n_link, anx_error *err)
{
    void *labels = graph->labels, *levels = graph->levels, *starts = graph->starts, *links = graph->links;
    const anx_alloc *alloc = graph->alloc;
    anx_status st = file_grow(alloc, &labels, &graph->label_capacity, node + 1, sizeof(*graph->labels), err);

    if (st == ANX_OK)
        st = file_grow(alloc, &levels, &graph->level_capacity, node + 1, sizeof(*graph->levels), err);
    if (st == ANX_OK)
        st = file_grow(alloc, &starts, &graph->start_capacity, node + 1, sizeof(*graph->starts), err);
    if (st == ANX_OK)
        st = file_grow(alloc, &links, &graph->link_capacity, graph->n_link + n_link, sizeof(*graph->links),
                       err);
    graph->labels = labels, graph->levels = levels, graph->starts = starts, graph->links = links;
    return st;
}

/* One list of the record, behind the links so far; room is there. */
static anx_status
push_list(struct file_graph *graph, size_t node, size_t level, anx_reader *record, size_t slot_size,
          size_t n_total, anx_error *err)
{
    size_t capacity = list_capacity(graph, level);
    uint32_t count = anx_read_u32(record);
    const uint8_t *slots = anx_read_view(record, capacity * slot_size);

    if (!slots)
        return anx_fail(err, ANX_E_CORRUPT, "node %zu is cut short", node);
    if (count > capacity)
        return anx_fail(err, ANX_E_CORRUPT,
                        "node %zu has %u neighbors at level %zu, more than the %zu there is room for", node,
                        count, level, capacity);
    graph->links[graph->n_link++] = count;
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id = anx_load_le(slots + i * slot_size, slot_size);

        if (id >= n_total)
            return anx_fail(err, ANX_E_CORRUPT,
                            "node %zu has neighbor %llu at level %zu, but there are %zu nodes", node,
                            (unsigned long long) id, level, n_total);
        graph->links[graph->n_link++] = (uint32_t) id;
    }
    return ANX_OK;
}

anx_status
file_graph_push(struct file_graph *graph, uint64_t label, size_t level, anx_reader *record, size_t slot_size,
                anx_error *err)
{
    size_t node = graph->n;
    anx_status st = reserve_node(graph, node, graph->m0 + 1 + level * (graph->m + 1), err);

    if (st != ANX_OK)
        return st;
    graph->labels[node] = label;
    graph->levels[node] = (uint8_t) level;
    graph->starts[node] = graph->n_link;
    for (size_t l = 0; st == ANX_OK && l <= level; l++)
        st = push_list(graph, node, l, record, slot_size, graph->n_total, err);
    if (st == ANX_OK)
        graph->n++;
    return st;
}

/* The list of a node at a level: links[at] is its count. */
static uint64_t
list_at(const struct file_graph *graph, size_t node, size_t level)
{
    uint64_t at = graph->starts[node];

    while (level-- > 0)
        at += 1 + graph->links[at];
    return at;
}

static anx_status
check_levels(const struct file_graph *graph, anx_error *err)
{
    if (graph->entry >= graph->n)
        return anx_fail(err, ANX_E_CORRUPT, "entry is node %u, but there are %zu nodes", graph->entry,
                        graph->n);
    if (graph->levels[graph->entry] != graph->max_level)
        return anx_fail(err, ANX_E_CORRUPT, "entry node %u has level %u, but the maximum level is %zu",
                        graph->entry, graph->levels[graph->entry], graph->max_level);
    for (size_t i = 0; i < graph->n; i++)
        if (graph->levels[i] > graph->max_level)
            return anx_fail(err, ANX_E_CORRUPT, "node %zu has level %u, above the maximum level %zu", i,
                            graph->levels[i], graph->max_level);
    return ANX_OK;
}

static int
compare_labels(const void *a, const void *b)
{
    uint64_t x, y;

    memcpy(&x, a, sizeof(x));
    memcpy(&y, b, sizeof(y));
    return (x > y) - (x < y);
}

/* Sorting, not hashing: the labels may have been chosen to collide. */
static anx_status
check_labels(const struct file_graph *graph, anx_error *err)
{
    uint64_t *sorted = anx_alloc_array(graph->alloc, graph->n, sizeof(*sorted));
    anx_status st = ANX_OK;

    if (!sorted)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate room to check %zu labels", graph->n);
    memcpy(sorted, graph->labels, graph->n * sizeof(*sorted));
    qsort(sorted, graph->n, sizeof(*sorted), compare_labels);
    for (size_t i = 1; i < graph->n && st == ANX_OK; i++)
        if (sorted[i] == sorted[i - 1])
            st = anx_fail(err, ANX_E_CORRUPT, "label %llu is present more than once",
                          (unsigned long long) sorted[i]);
    anx_free(graph->alloc, sorted);
    return st;
}

static anx_status
check_rows(struct file_graph *graph, anx_error *err)
{
    anx_error cause;

    if (graph->scalar == ANX_SCALAR_B1 && graph->dim % 8 != 0)
        for (size_t i = 0; i < graph->n; i++) /* spare bits are 0 with us, anything with others */
            graph->rows[(i + 1) * graph->row_size - 1] &= (uint8_t) (0xff00u >> graph->dim % 8);
    if (rows_check(graph->scalar, graph->dim, graph->n, graph->rows, &cause) != ANX_OK)
        return anx_fail(err, ANX_E_CORRUPT, "%s",
                        cause.message); /* here the value is not the caller's mistake */
    return ANX_OK;
}

/* Drops itself and doubles from one list, in place; the tail of the list's room stays unused. */
static anx_status
tidy_list(struct file_graph *graph, size_t node, size_t level, const uint32_t *from, uint32_t *to,
          uint32_t *seen, uint32_t stamp, anx_error *err)
{
    uint32_t kept = 0;
    uint32_t count = from[0];

    for (uint32_t i = 1; i <= count; i++) {
        uint32_t id = from[i];

        if (graph->levels[id] < level)
            return anx_fail(err, ANX_E_CORRUPT, "node %zu has neighbor %u at level %zu, whose level is %u",
                            node, id, level, graph->levels[id]);
        if (id == node || seen[id] == stamp)
            continue;
        seen[id] = stamp;
        to[++kept] = id;
    }
    to[0] = kept;
    return ANX_OK;
}

/* Rewrites the lists without gaps: every list moves to the left or stays. */
static anx_status
tidy_lists(struct file_graph *graph, anx_error *err)
{
    uint32_t *seen = anx_alloc_array(graph->alloc, graph->n, sizeof(*seen));
    anx_status st = ANX_OK;
    size_t to = 0;
    uint32_t stamp = 0;

    if (!seen)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate room to check the links of %zu nodes",
                        graph->n);
    memset(seen, 0xff, graph->n * sizeof(*seen));
    for (size_t i = 0; st == ANX_OK && i < graph->n; i++) {
        uint64_t from = graph->starts[i];

        graph->starts[i] = to;
        for (size_t l = 0; st == ANX_OK && l <= graph->levels[i]; l++) {
            uint64_t next = from + 1 + graph->links[from];

            if (stamp == UNSEEN) { /* never, with fewer than 2^32 lists; cheap to be right */
                memset(seen, 0xff, graph->n * sizeof(*seen));
                stamp = 0;
            }
            st = tidy_list(graph, i, l, graph->links + from, graph->links + to, seen, stamp++, err);
            to += 1 + (size_t) graph->links[to];
            from = next;
        }
    }
    graph->n_link = to;
    anx_free(graph->alloc, seen);
    return st;
}

/* Adds to out[0..n) the live ids of a list that are not there yet, up to capacity. */
static size_t
add_live(const struct file_graph *graph, const uint32_t *list, size_t self, const uint32_t *renumber,
         uint32_t *out, size_t n, size_t capacity)
{
    for (uint32_t i = 1; i <= list[0] && n < capacity; i++) {
        uint32_t id = list[i];
        size_t j = 0;

        if (id == self || graph->labels[id] == ANX_LABEL_NONE)
            continue;
        while (j < n && out[j] != renumber[id])
            j++;
        if (j == n)
            out[n++] = renumber[id];
    }
    return n;
}

/* The list of a live node without removed ones, and with their neighbors in the places freed. */
static size_t
bridge_list(const struct file_graph *graph, size_t node, size_t level, const uint32_t *renumber,
            uint32_t *out)
{
    const uint32_t *list = graph->links + list_at(graph, node, level);
    size_t n = add_live(graph, list, node, renumber, out, 0, GRAPH_M0_MAX);

    for (uint32_t i = 1; i <= list[0]; i++)
        if (graph->labels[list[i]] == ANX_LABEL_NONE)
            n = add_live(graph, graph->links + list_at(graph, list[i], level), node, renumber, out, n,
                         list[0]);
    return n;
}

static void
bridge_lists(struct file_graph *graph, const uint32_t *renumber, uint64_t *starts, uint32_t *links)
{
    uint32_t out[GRAPH_M0_MAX];
    size_t to = 0;
    size_t live = 0;

    for (size_t i = 0; i < graph->n; i++) {
        if (graph->labels[i] == ANX_LABEL_NONE)
            continue;
        starts[live++] = to;
        for (size_t l = 0; l <= graph->levels[i]; l++) {
            size_t n = bridge_list(graph, i, l, renumber, out);

            links[to++] = (uint32_t) n;
            memcpy(links + to, out, n * sizeof(*out));
            to += n;
        }
    }
    graph->n_link = to;
}

/* Rows, labels and levels move to the left; the entry is chosen anew when it was removed. */
static void
close_gaps(struct file_graph *graph, const uint32_t *renumber, size_t live)
{
    bool has_entry = graph->labels[graph->entry] != ANX_LABEL_NONE;
    uint32_t entry = has_entry ? renumber[graph->entry] : 0;
    size_t to = 0;

    for (size_t i = 0; i < graph->n; i++) {
        if (graph->labels[i] == ANX_LABEL_NONE)
            continue;
        memmove(graph->rows + to * graph->row_size, graph->rows + i * graph->row_size, graph->row_size);
        graph->labels[to] = graph->labels[i];
        graph->levels[to] = graph->levels[i];
        to++;
    }
    graph->n = live;
    for (size_t i = 0; !has_entry && i < live; i++)
        if (graph->levels[i] > graph->levels[entry])
            entry = (uint32_t) i;
    graph->entry = entry;
    graph->max_level = live > 0 ? graph->levels[entry] : 0;
}

static anx_status
drop_removed(struct file_graph *graph, size_t live, anx_error *err)
{
    uint32_t *renumber = anx_alloc_array(graph->alloc, graph->n, sizeof(*renumber));
    uint64_t *starts = anx_alloc_array(graph->alloc, live, sizeof(*starts));
    /* A list never grows, so the old room is enough. */
    uint32_t *links = anx_alloc_array(graph->alloc, graph->n_link, sizeof(*links));
    uint32_t next = 0;

    if (!renumber || !starts || !links) {
        anx_free(graph->alloc, renumber);
        anx_free(graph->alloc, starts);
        anx_free(graph->alloc, links);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate room to drop %zu removed rows",
                        graph->n - live);
    }
    for (size_t i = 0; i < graph->n; i++)
        renumber[i] = graph->labels[i] == ANX_LABEL_NONE ? UINT32_MAX : next++;
    bridge_lists(graph, renumber, starts, links);
    anx_free(graph->alloc, graph->starts);
    anx_free(graph->alloc, graph->links);
    graph->starts = starts, graph->links = links;
    close_gaps(graph, renumber, live);
    anx_free(graph->alloc, renumber);
    return ANX_OK;
}

anx_status
file_graph_finish(struct file_graph *graph, anx_error *err)
{
    size_t live = 0;
    anx_status st;

    if (graph->n == 0) {
        graph->max_level = 0;
        graph->entry = 0;
        return ANX_OK;
    }
    st = check_levels(graph, err);
    if (st == ANX_OK)
        st = tidy_lists(graph, err);
    for (size_t i = 0; i < graph->n; i++)
        live += graph->labels[i] != ANX_LABEL_NONE;
    if (st == ANX_OK && live < graph->n)
        st = drop_removed(graph, live, err);
    if (st == ANX_OK)
        st = check_labels(graph, err);
    if (st == ANX_OK)
        st = check_rows(graph, err);
    return st;
}

static uint64_t
view_label(const void *context, uint32_t node)
{
    return ((const struct file_graph *) context)->labels[node];
}

static unsigned
view_level(const void *context, uint32_t node)
{
    return ((const struct file_graph *) context)->levels[node];
}

static size_t
view_neighbors(const void *context, uint32_t node, unsigned level, uint32_t *out)
{
    const struct file_graph *graph = context;
    const uint32_t *list = graph->links + list_at(graph, node, level);

    memcpy(out, list + 1, list[0] * sizeof(*out));
    return list[0];
}

static void
view_row(const void *context, uint32_t node, void *out)
{
    const struct file_graph *graph = context;

    memcpy(out, graph->rows + node * graph->row_size, graph->row_size);
}

void
file_graph_view(const struct file_graph *graph, struct graph_view *view)
{
    *view = (struct graph_view) {
        .context = graph,
        .n = graph->n,
        .m = graph->m,
        .m0 = graph->m0,
        .max_level = graph->max_level,
        .entry = graph->entry,
        .label = view_label,
        .level = view_level,
        .neighbors = view_neighbors,
        .row = view_row,
    };
}
