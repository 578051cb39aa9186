/* Graphs as a store takes them over: the stream of ANX_FILE_GRAPH, and a file in the Lantern layout read node
 * by node. What is given out must keep every promise of graph_stream.h. Seeds: corpus/graph. */
#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include "ann/graph_stream.h"
#include "base/alloc.h"
#include "fuzz_input.h"

static void
check_node(const struct graph_head *head, const struct graph_node *node, uint64_t number)
{
    volatile uint64_t sum = 0;

    if (node->n_label < 1 || node->n_link > head->degree || !isfinite(node->residual) || node->residual < 0)
        abort();
    for (size_t i = 0; i < node->n_label; i++)
        sum = sum + node->labels[i];
    for (size_t i = 0; i < node->n_link; i++)
        if (node->links[i] >= head->n_node || node->links[i] == number)
            abort();
    for (size_t i = 0; i < head->payload_size; i++)
        sum = sum + node->payload[i];
}

static void
drain(struct graph_stream *stream)
{
    const struct graph_head *head = graph_stream_head(stream);
    struct graph_node node;
    anx_error err;
    bool has;

    for (uint64_t number = 0;; number++) {
        if (graph_stream_next(stream, &node, &has, &err) != ANX_OK) {
            if (err.message[0] == '\0')
                abort();
            break;
        }
        if (!has) {
            if (number != head->n_node)
                abort();
            for (size_t i = 0; i < head->n_entry; i++)
                if (head->entries[i] >= head->n_node)
                    abort();
            break;
        }
        check_node(head, &node, number);
    }
    graph_stream_close(stream);
}

static const void *
no_row(const void *context, size_t i)
{
    (void) i;
    return context;
}

static void
import(const uint8_t *data, size_t size, size_t dim, bool has_space)
{
    static const float row[8] = { 1, 2, 3, 4, 5, 6, 7, 8.5f };
    struct input in = { data, size, 0 };
    anx_source source = { &in, read_input };
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    struct graph_stream *stream;
    struct space space;
    anx_error err;

    params.dim = dim;
    params.m = 2;
    if (space_init(&space, &params, anx_kernels_best(), false, &err) != ANX_OK ||
        space_fit(&space, 1, no_row, row, 0, &err) != ANX_OK)
        abort();
    if (graph_import_open(&source, &params, 9, has_space ? &space : NULL, 4, &stream, &err) == ANX_OK)
        drain(stream);
    space_fini(&space);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct input in = { data, size, 0 };
    anx_source source = { &in, read_input };
    struct graph_stream *stream;
    anx_error err;

    if (graph_reader_open(&source, size & 1 ? size : UINT64_MAX, NULL, &stream, &err) == ANX_OK)
        drain(stream);
    import(data, size, 8, true);
    import(data, size, 8, false);
    return 0;
}
