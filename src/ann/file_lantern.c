/* The layout that the Lantern extension imports: one head of 136 bytes, then nodes, each with its row at the
 * end. */
#include <string.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"

#define SLOT_SIZE 6
#define NODE_HEAD 10 /* key and level */
#define LISTS_MAX (4 + SLOT_SIZE * GRAPH_M0_MAX + FILE_LEVEL_MAX * (4 + SLOT_SIZE * ANX_HNSW_M_MAX))

static size_t
lists_size(size_t m, size_t m0, size_t level)
{
    return 4 + SLOT_SIZE * m0 + level * (4 + SLOT_SIZE * m);
}

uint64_t
file_lantern_size(const anx_index_params *params, const struct graph_view *view)
{
    uint64_t size = FILE_LANTERN_HEAD;
    size_t row_size = anx_row_size(params->scalar, params->dim);

    for (uint32_t i = 0; i < view->n; i++)
        size += NODE_HEAD + lists_size(view->m, view->m0, view->level(view->context, i)) + row_size;
    return size;
}

static void
write_list(struct file_out *out, const struct graph_view *view, uint32_t node, unsigned level, uint32_t *ids)
{
    size_t capacity = level == 0 ? view->m0 : view->m;
    size_t n = view->neighbors(view->context, node, level, ids);
    uint8_t list[4 + SLOT_SIZE * GRAPH_M0_MAX];

    anx_store_le(list, n, 4);
    for (size_t i = 0; i < n; i++)
        anx_store_le(list + 4 + SLOT_SIZE * i, ids[i], SLOT_SIZE);
    memset(list + 4 + SLOT_SIZE * n, 0, SLOT_SIZE * (capacity - n));
    file_out_write(out, list, 4 + SLOT_SIZE * capacity);
}

void
file_lantern_write(struct file_out *out, const anx_index_params *params, const struct graph_view *view,
                   uint64_t head_at)
{
    size_t row_size = anx_row_size(params->scalar, params->dim);
    uint8_t *row = anx_alloc_aligned(params->alloc, row_size, 1);
    uint32_t ids[GRAPH_M0_MAX];
    struct file_dense dense;

    if (!row && out->status == ANX_OK)
        out->status = anx_fail(out->err, ANX_E_NOMEM, "could not allocate a row of %zu bytes", row_size);
    if (out->status != ANX_OK) {
        anx_free_aligned(params->alloc, row);
        return;
    }
    file_dense_encode(params, view, ANX_FILE_LANTERN, head_at, &dense);
    file_out_write(out, dense.head, dense.head_size);
    for (uint32_t i = 0; i < view->n && out->status == ANX_OK; i++) {
        unsigned level = view->level(view->context, i);

        file_out_le(out, view->label(view->context, i), 8);
        file_out_le(out, level, 2);
        for (unsigned l = 0; l <= level; l++)
            write_list(out, view, i, l, ids);
        view->row(view->context, i, row);
        file_out_write(out, row, row_size);
    }
    anx_free_aligned(params->alloc, row);
}

/* Room for one more row: doubled, never beyond the announced count. Rows are read one by one, so that memory
 * follows the bytes that arrived. */
static anx_status
reserve_row(struct file_graph *graph, size_t *capacity, anx_error *err)
{
    size_t wanted = *capacity ? *capacity * 2 : 1024;
    uint8_t *grown;

    if (graph->n < *capacity)
        return ANX_OK;
    if (wanted > graph->n_total)
        wanted = graph->n_total;
    grown = anx_alloc_aligned(graph->alloc, wanted, graph->row_size);
    if (!grown)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu rows of %zu bytes", wanted,
                        graph->row_size);
    if (graph->rows)
        memcpy(grown, graph->rows, graph->n * graph->row_size);
    anx_free_aligned(graph->alloc, graph->rows);
    graph->rows = grown;
    *capacity = wanted;
    return ANX_OK;
}

static anx_status
read_node(struct file_in *in, uint8_t *buffer, struct file_graph *graph, anx_error *err)
{
    uint8_t head[NODE_HEAD];
    size_t node = graph->n;
    anx_reader lists;
    size_t level;
    anx_status st = file_in_read(in, head, sizeof(head), err);

    if (st != ANX_OK)
        return st;
    level = anx_load_le(head + 8, 2);
    if (level > graph->max_level)
        return anx_fail(err, ANX_E_CORRUPT, "node %zu has level %zu, above the maximum level %zu", node,
                        level, graph->max_level);
    if (anx_load_le(head, 8) == ANX_LABEL_NONE)
        return anx_fail(err, ANX_E_CORRUPT, "node %zu has the reserved label %llu", node,
                        (unsigned long long) ANX_LABEL_NONE);
    lists = anx_reader_init(buffer, lists_size(graph->m, graph->m0, level));
    st = file_in_read(in, buffer, lists.size, err);
    if (st == ANX_OK)
        st = file_in_read(in, graph->rows + node * graph->row_size, graph->row_size, err);
    if (st == ANX_OK)
        st = file_graph_push(graph, anx_load_le(head, 8), level, &lists, SLOT_SIZE, err);
    return st;
}

anx_status
file_lantern_read(struct file_in *in, const uint8_t *begin, struct file_foreign *f, struct file_graph *graph,
                  anx_error *err)
{
    struct file_dense dense = { .head_size = FILE_LANTERN_HEAD };
    size_t capacity = 0;
    uint8_t *buffer;
    anx_status st;

    *graph = (struct file_graph) { .alloc = in->alloc };
    *f = (struct file_foreign) { .format = ANX_FILE_LANTERN };
    memcpy(dense.head, begin, 17);
    st = file_in_read(in, dense.head + 17, FILE_LANTERN_HEAD - 17, err);
    if (st == ANX_OK)
        st = file_dense_decode(&dense, f, err);
    if (st == ANX_OK && f->deleted > 0)
        st = anx_fail(err, ANX_E_CORRUPT, "lantern file has %llu removed rows, but none can be in it",
                      (unsigned long long) f->deleted);
    if (st != ANX_OK)
        return st;
    file_dense_graph(f, in->alloc, graph);
    buffer = anx_alloc_bytes(in->alloc, LISTS_MAX);
    if (!buffer)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %d bytes for a node", LISTS_MAX);
    while (st == ANX_OK && graph->n < f->n) {
        st = reserve_row(graph, &capacity, err);
        if (st == ANX_OK)
            st = read_node(in, buffer, graph, err);
    }
    anx_free(in->alloc, buffer);
    return st;
}
