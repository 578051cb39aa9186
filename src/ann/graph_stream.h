/* A finished graph, node by node: how a store with pages of its own (a database) takes one over, from memory
 * or from the bytes of an ANX_FILE_GRAPH. Nothing is held whole but the list of entry nodes.
 *
 *     graph_cursor_open(index, n_entry_max, &stream, &err);          or
 *     graph_reader_open(&source, size, alloc, &stream, &err);
 *     const struct graph_head *head = graph_stream_head(stream);
 *     while (graph_stream_next(stream, &node, &has, &err) == ANX_OK && has) ...
 *     graph_stream_close(stream);
 *
 * Pulled, not pushed, so that what is done with a node may leave by a jump while no frame of ours is below
 * it; the stream is then still to be closed.
 *
 * The bytes (little-endian):
 *
 *     head, 96 bytes
 *       0   8  "ANXGRAPH"
 *       8   4  version, 1
 *      12   4  1: rows as given, no graph (few rows); 0: codes and links
 *      16   4  metric: 0 l2, 1 ip, 2 cosine, 3 hamming
 *      20   4  element: 0 f32, 1 f16, 2 i8, 3 u8, 4 b1
 *      24   4  code space: 0 lossless, 1 rotated, 2 bits (ann/hnsw/space.h)
 *      28   4  m
 *      32   4  dim
 *      36   4  degree: the most links of a node
 *      40   4  payload: bytes of a code without its padding, or of a row
 *      44   4  n_entry
 *      48   8  n_node
 *      56   8  n_label, of all nodes
 *      64   8  n_link, of all nodes
 *      72   4  offset, f32        value = offset + step * code (rotated)
 *      76   4  step, f32
 *      80   4  n_mean: rotated: dim, plus one for ip; else 0
 *      84  12  zero
 *     f32 mean[n_mean], u32 entries[n_entry]
 *     n_node times: u32 n_label (>= 1), u32 n_link, f32 residual, u64 labels[], u32 links[], payload
 *     "ANXGREND"
 *
 * Every count and id of the bytes is checked before it is used: ids are below n_node, no node links to itself
 * or twice, totals are those of the head, the size is what the head says. Errors of graph_stream_next:
 * ANX_E_CORRUPT, the source's own, ANX_E_NOMEM. Labels are not checked: the taker knows what they may be.
 * Threads: one per stream. */
#ifndef ANX_ANN_GRAPH_STREAM_H
#define ANX_ANN_GRAPH_STREAM_H

#include "ann/hnsw/space.h"
#include "annex/io.h"

struct file_out;

#define GRAPH_STREAM_HEAD 96

struct graph_head {
    bool is_raw; /* payloads are rows as given; no links, no entries */
    anx_metric metric;
    anx_scalar scalar;
    size_t dim, m, degree;
    size_t payload_size; /* of graph_node: codes padded to the stride of the space */
    const struct space *space; /* NULL when is_raw; lives as long as the stream */
    uint64_t n_node, n_label, n_link;
    size_t n_entry;
    const uint32_t *entries; /* [n_entry] */
};
struct graph_node {
    size_t n_label, n_link;
    const uint64_t *labels; /* borrowed until the next call, as the two below */
    const uint32_t *links;
    const uint8_t *payload; /* [payload_size], 64-byte aligned */
    float residual;
};

struct graph_stream;

/* Over an hnsw index with ANX_QUANTIZATION_CODES, which does not change meanwhile. At most n_entry_max entry
 * nodes: those that searches in memory would begin at, and others spread over the graph. ANX_E_UNSUPPORTED
 * for another index. */
anx_status graph_cursor_open(const anx_index *index, size_t n_entry_max, struct graph_stream **out,
                             anx_error *err);
/* Over bytes: reads as far as the entries. size: of all bytes; UINT64_MAX: unknown. The source is borrowed
 * until close. */
anx_status graph_reader_open(const anx_source *source, uint64_t size, const anx_alloc *alloc,
                             struct graph_stream **out, anx_error *err);
/* Over the bytes of a file in the Lantern layout, as an original indexing server sends it. Its rows are given
 * new codes as they arrive, in a space that the caller fitted (NULL: they stay rows, and links are dropped).
 * Layer 0 becomes the graph, nodes of higher layers become entry nodes: head->entries is complete only after
 * the last node. What does not agree with `params` (metric, scalar, dim, m) or with n_row is ANX_E_CORRUPT.
 */
anx_status graph_import_open(const anx_source *source, const anx_index_params *params, uint64_t n_row,
                             const struct space *space, size_t n_entry_max, struct graph_stream **out,
                             anx_error *err);
const struct graph_head *graph_stream_head(const struct graph_stream *stream);
/* *has false: all were given, and (bytes) the end is right. */
anx_status
graph_stream_next(struct graph_stream *stream, struct graph_node *node, bool *has, anx_error *err);
void graph_stream_close(struct graph_stream *stream); /* NULL is fine */

/* ANX_FILE_GRAPH of file_save.c. */
anx_status graph_file_size(const anx_index *index, uint64_t *size, anx_error *err);
anx_status graph_file_write(const anx_index *index, struct file_out *out, anx_error *err);

/* --- for the two kinds of stream --- */

struct graph_stream_ops {
    anx_status (*next)(struct graph_stream *stream, struct graph_node *node, bool *has, anx_error *err);
    void (*close)(struct graph_stream *stream);
};
struct graph_stream {
    const struct graph_stream_ops *ops;
    struct graph_head head;
};

#endif
