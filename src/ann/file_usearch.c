/* The usearch v2 dense layout: matrix, head, graph header, levels, nodes. Written in passes over the graph
 * view, so that nothing but a block is held; read into a file_graph. */
#include <string.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"

/* What a record may hold at most; read whole, then decoded. */
#define RECORD_MAX (16 + 2 + 4 + 5 * GRAPH_M0_MAX + FILE_LEVEL_MAX * (4 + 5 * ANX_HNSW_M_MAX))

/* A row of the widest element (f64), at most. */
#define COLUMNS_MAX ((uint64_t) ANX_DIM_MAX * 8)

static uint64_t
record_size(size_t key_size, size_t slot_size, size_t m, size_t m0, size_t level)
{
    return key_size + 2 + 4 + slot_size * m0 + level * (4 + slot_size * m);
}

uint64_t
file_usearch_size(const anx_index_params *params, const struct graph_view *view)
{
    uint64_t size = 8 + FILE_DENSE_HEAD + FILE_GRAPH_HEAD;

    size += view->n * (uint64_t) anx_row_size(params->scalar, params->dim);
    for (uint32_t i = 0; i < view->n; i++)
        size += 2 + record_size(8, 4, view->m, view->m0, view->level(view->context, i));
    return size;
}

static void
write_list(struct file_out *out, const struct graph_view *view, uint32_t node, unsigned level, uint32_t *ids)
{
    size_t capacity = level == 0 ? view->m0 : view->m;
    size_t n = view->neighbors(view->context, node, level, ids);
    uint8_t list[4 + 4 * GRAPH_M0_MAX];

    anx_store_le(list, n, 4);
    for (size_t i = 0; i < n; i++)
        anx_store_le(list + 4 + 4 * i, ids[i], 4);
    memset(list + 4 + 4 * n, 0, 4 * (capacity - n));
    file_out_write(out, list, 4 + 4 * capacity);
}

static void
write_rows(struct file_out *out, const anx_index_params *params, const struct graph_view *view)
{
    size_t size = anx_row_size(params->scalar, params->dim);
    uint8_t *row = anx_alloc_aligned(params->alloc, size, 1);

    if (!row) {
        out->status = anx_fail(out->err, ANX_E_NOMEM, "could not allocate a row of %zu bytes", size);
        return;
    }
    for (uint32_t i = 0; i < view->n && out->status == ANX_OK; i++) {
        view->row(view->context, i, row);
        file_out_write(out, row, size);
    }
    anx_free_aligned(params->alloc, row);
}

void
file_usearch_write(struct file_out *out, const anx_index_params *params, const struct graph_view *view,
                   uint64_t head_at)
{
    struct file_dense dense;
    uint32_t ids[GRAPH_M0_MAX];

    if (out->status != ANX_OK)
        return;
    file_dense_encode(params, view, ANX_FILE_USEARCH, head_at, &dense);
    file_out_write(out, dense.prefix, dense.prefix_size);
    write_rows(out, params, view);
    file_out_write(out, dense.head, dense.head_size);
    for (uint32_t i = 0; i < view->n; i++)
        file_out_le(out, view->level(view->context, i), 2);
    for (uint32_t i = 0; i < view->n && out->status == ANX_OK; i++) {
        unsigned level = view->level(view->context, i);

        file_out_le(out, view->label(view->context, i), 8);
        file_out_le(out, level, 2);
        for (unsigned l = 0; l <= level; l++)
            write_list(out, view, i, l, ids);
    }
}

bool
file_usearch_prefix(const uint8_t begin[16], struct file_foreign *f)
{
    f->format = ANX_FILE_USEARCH;
    f->rows = anx_load_le(begin, 4);
    f->columns = anx_load_le(begin + 4, 4);
    f->prefix_size = 8;
    /* No row has zero bytes, so this is the low half of a 64-bit count of rows. */
    if (f->columns == 0) {
        f->columns = anx_load_le(begin + 8, 8);
        f->prefix_size = 16;
    }
    return f->columns > 0 && f->columns <= COLUMNS_MAX && f->rows < UINT32_MAX;
}

/* bf16 and f64 rows become f32, the matrix is replaced. */
static anx_status
convert_rows(const struct file_foreign *f, struct file_graph *graph, anx_error *err)
{
    size_t n = graph->n_total * graph->dim;
    const uint8_t *from = graph->rows;
    uint8_t *to;

    if (f->stored == STORED_AS_IS)
        return ANX_OK;
    to = anx_alloc_aligned(graph->alloc, n, 4);
    if (!to)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu rows of %zu bytes", graph->n_total,
                        graph->row_size);
    for (size_t i = 0; i < n; i++) {
        if (f->stored == STORED_BF16) {
            anx_store_le(to + 4 * i, anx_load_le(from + 2 * i, 2) << 16, 4);
        } else {
            uint64_t bits = anx_load_le(from + 8 * i, 8);
            double wide;
            float narrow;

            memcpy(&wide, &bits, sizeof(wide));
            narrow = (float) wide; /* too large: infinity, which the check of rows refuses */
            memcpy(to + 4 * i, &narrow, sizeof(narrow));
        }
    }
    anx_free_aligned(graph->alloc, graph->rows);
    graph->rows = to;
    return ANX_OK;
}

/* A label from a key of 8 or 16 bytes; a key of ones marks a removed row. */
static anx_status
read_key(anx_reader *record, const struct file_foreign *f, size_t node, uint64_t *label, anx_error *err)
{
    uint64_t high;

    *label = anx_read_u64(record);
    if (f->key_size == 8)
        return ANX_OK;
    high = anx_read_u64(record);
    if (high != 0 && !(high == UINT64_MAX && *label == UINT64_MAX))
        return anx_fail(err, ANX_E_UNSUPPORTED, "key of node %zu has more than 64 bits", node);
    if (high == 0 && *label == ANX_LABEL_NONE)
        return anx_fail(err, ANX_E_UNSUPPORTED, "key of node %zu is %llu, which is reserved", node,
                        (unsigned long long) *label);
    return ANX_OK;
}

static anx_status
read_node(struct file_in *in, const struct file_foreign *f, size_t level, uint8_t *buffer,
          struct file_graph *graph, anx_error *err)
{
    size_t size = (size_t) record_size(f->key_size, f->slot_size, graph->m, graph->m0, level);
    anx_reader record = anx_reader_init(buffer, size);
    uint64_t label;
    anx_status st = file_in_read(in, buffer, size, err);

    if (st == ANX_OK)
        st = read_key(&record, f, graph->n, &label, err);
    if (st != ANX_OK)
        return st;
    if (anx_read_u16(&record) != level)
        return anx_fail(err, ANX_E_CORRUPT,
                        "node %zu has another level than the list of levels, which says %zu", graph->n,
                        level);
    return file_graph_push(graph, label, level, &record, f->slot_size, err);
}

static anx_status
read_nodes(struct file_in *in, const struct file_foreign *f, const uint8_t *levels, struct file_graph *graph,
           anx_error *err)
{
    uint8_t *buffer = anx_alloc_bytes(graph->alloc, RECORD_MAX);
    uint64_t removed = 0;
    anx_status st = ANX_OK;

    if (!buffer)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %d bytes for a node", RECORD_MAX);
    for (size_t i = 0; st == ANX_OK && i < f->n; i++) {
        size_t level = anx_load_le(levels + 2 * i, 2);

        if (level > graph->max_level)
            st = anx_fail(err, ANX_E_CORRUPT, "node %zu has level %zu, above the maximum level %zu", i, level,
                          graph->max_level);
        else
            st = read_node(in, f, level, buffer, graph, err);
        if (st == ANX_OK)
            removed += graph->labels[i] == ANX_LABEL_NONE;
    }
    anx_free(graph->alloc, buffer);
    if (st == ANX_OK && removed != f->deleted)
        return anx_fail(err, ANX_E_CORRUPT, "usearch file has %llu removed nodes, but its head says %llu",
                        (unsigned long long) removed, (unsigned long long) f->deleted);
    return st;
}

anx_status
file_usearch_read(struct file_in *in, const uint8_t *begin, struct file_foreign *f, struct file_graph *graph,
                  anx_error *err)
{
    struct file_dense dense = { .head_size = FILE_DENSE_HEAD + FILE_GRAPH_HEAD };
    uint8_t *rows = NULL, *levels = NULL;
    anx_status st;

    *graph = (struct file_graph) { .alloc = in->alloc };
    *f = (struct file_foreign) { 0 };
    if (!file_usearch_prefix(begin, f))
        return anx_fail(err, ANX_E_CORRUPT, "not an index file: it begins with none of the known heads");
    dense.prefix_size = f->prefix_size;
    memcpy(dense.prefix, begin, f->prefix_size);
    st = file_in_take(in, f->rows * f->columns, &rows, err);
    if (st == ANX_OK)
        st = file_in_read(in, dense.head, dense.head_size, err);
    if (st == ANX_OK)
        st = file_dense_decode(&dense, f, err);
    if (st != ANX_OK) {
        anx_free_aligned(in->alloc, rows);
        return st;
    }
    file_dense_graph(f, in->alloc, graph);
    graph->rows = rows;
    st = convert_rows(f, graph, err);
    if (st == ANX_OK)
        st = file_in_take(in, 2 * f->n, &levels, err);
    if (st == ANX_OK)
        st = read_nodes(in, f, levels, graph, err);
    anx_free_aligned(in->alloc, levels);
    return st;
}
