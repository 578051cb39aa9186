/* Graphs as a stream of nodes: see graph_stream.h, which has the layout. */
#include "ann/graph_stream.h"

#include <math.h>
#include <string.h>

#include "ann/file_part.h"
#include "base/alloc.h"
#include "base/error.h"

#define MAGIC "ANXGRAPH"
#define END_MAGIC "ANXGREND"
#define VERSION 1
#define NODE_HEAD 12
#define ENTRIES_MAX 4096
#define DEGREE_MAX ((size_t) ANX_HNSW_M_MAX * 4)
#define FILE_ENTRIES 1024 /* entry nodes in a file */

const struct graph_head *
graph_stream_head(const struct graph_stream *stream)
{
    return &stream->head;
}

anx_status
graph_stream_next(struct graph_stream *stream, struct graph_node *node, bool *has, anx_error *err)
{
    return stream->ops->next(stream, node, has, err);
}

void
graph_stream_close(struct graph_stream *stream)
{
    if (stream)
        stream->ops->close(stream);
}

/* Bytes of a payload in the file. */
static size_t
packed_size(const struct graph_head *head)
{
    if (head->is_raw || head->scalar == ANX_SCALAR_B1)
        return anx_row_size(head->scalar, head->dim);
    return head->dim + (head->metric == ANX_METRIC_IP);
}

static size_t
mean_size(const struct graph_head *head)
{
    return head->space && head->space->kind == SPACE_ROTATED ? head->space->turned_dim : 0;
}

/* The sums below fit 64 bits: counts are below 2^31, 2^48 and 2^40. */
static uint64_t
total_size(const struct graph_head *head)
{
    return GRAPH_STREAM_HEAD + 4 * mean_size(head) + 4 * head->n_entry +
           head->n_node * (NODE_HEAD + packed_size(head)) + 8 * head->n_label + 4 * head->n_link + 8;
}

/* --- writing --- */

static void
write_f32(struct file_out *out, float value)
{
    uint32_t bits;

    memcpy(&bits, &value, sizeof(bits));
    file_out_le(out, bits, 4);
}

static void
write_head(struct file_out *out, const struct graph_head *head)
{
    static const uint8_t zero[12];
    const struct space *space = head->space;

    file_out_write(out, MAGIC, 8);
    file_out_le(out, VERSION, 4);
    file_out_le(out, head->is_raw, 4);
    file_out_le(out, head->metric, 4);
    file_out_le(out, head->scalar, 4);
    file_out_le(out, space ? space->kind : 0, 4);
    file_out_le(out, head->m, 4);
    file_out_le(out, head->dim, 4);
    file_out_le(out, head->degree, 4);
    file_out_le(out, packed_size(head), 4);
    file_out_le(out, head->n_entry, 4);
    file_out_le(out, head->n_node, 8);
    file_out_le(out, head->n_label, 8);
    file_out_le(out, head->n_link, 8);
    write_f32(out, space ? space->offset : 0.0f);
    write_f32(out, space ? space->step : 1.0f);
    file_out_le(out, mean_size(head), 4);
    file_out_write(out, zero, sizeof(zero));
    for (size_t i = 0; i < mean_size(head); i++)
        write_f32(out, space->mean[i]);
    for (size_t i = 0; i < head->n_entry; i++)
        file_out_le(out, head->entries[i], 4);
}

anx_status
graph_file_size(const anx_index *index, uint64_t *size, anx_error *err)
{
    struct graph_stream *stream;
    anx_status st = graph_cursor_open(index, FILE_ENTRIES, &stream, err);

    if (st == ANX_OK)
        *size = total_size(&stream->head);
    graph_stream_close(stream);
    return st;
}

anx_status
graph_file_write(const anx_index *index, struct file_out *out, anx_error *err)
{
    struct graph_stream *stream;
    struct graph_node node;
    bool has;
    anx_status st = graph_cursor_open(index, FILE_ENTRIES, &stream, err);

    if (st != ANX_OK)
        return st;
    write_head(out, &stream->head);
    while ((st = graph_stream_next(stream, &node, &has, err)) == ANX_OK && has && out->status == ANX_OK) {
        file_out_le(out, node.n_label, 4);
        file_out_le(out, node.n_link, 4);
        write_f32(out, node.residual);
        for (size_t i = 0; i < node.n_label; i++)
            file_out_le(out, node.labels[i], 8);
        for (size_t i = 0; i < node.n_link; i++)
            file_out_le(out, node.links[i], 4);
        file_out_write(out, node.payload, packed_size(&stream->head));
    }
    file_out_write(out, END_MAGIC, 8);
    graph_stream_close(stream);
    return st == ANX_OK ? out->status : st;
}

/* --- reading --- */

struct reader {
    struct graph_stream stream;
    struct file_in in;
    anx_source source;
    const anx_alloc *alloc;
    struct space space;
    bool has_space;
    uint64_t n_given, n_label, n_link;
    uint32_t *entries; /* owned */
    uint8_t *bytes;    /* owned [bytes_capacity]: labels and links as they came */
    size_t bytes_capacity;
    uint64_t *labels; /* owned [label_capacity] */
    size_t label_capacity;
    uint32_t links[ANX_HNSW_M_MAX * 4];
    uint8_t *payload; /* owned, aligned */
};

static void
reader_close(struct graph_stream *stream)
{
    struct reader *r = (struct reader *) stream;
    const anx_alloc *alloc = r->alloc;

    file_in_fini(&r->in);
    if (r->has_space)
        space_fini(&r->space);
    anx_free(alloc, r->entries);
    anx_free(alloc, r->bytes);
    anx_free(alloc, r->labels);
    anx_free_aligned(alloc, r->payload);
    anx_free(alloc, r);
}

/* The next n bytes, in r->bytes. */
static anx_status
take_bytes(struct reader *r, size_t n, anx_reader *out, anx_error *err)
{
    void *bytes = r->bytes;
    anx_status st = file_grow(r->alloc, &bytes, &r->bytes_capacity, n, 1, err);

    r->bytes = bytes;
    if (st == ANX_OK)
        st = file_in_read(&r->in, r->bytes, n, err);
    *out = anx_reader_init(r->bytes, n);
    return st;
}

/* --- the head --- */

struct head_fields {
    uint32_t is_raw, metric, scalar, kind, n_mean, packed;
    float offset, step;
};

static anx_status
check_head(const struct graph_head *head, const struct head_fields *f, anx_error *err)
{
    const struct {
        const char *name;
        uint64_t value, min, max;
    } ranges[] = {
        { "row flag", f->is_raw, 0, 1 },
        { "metric", f->metric, 0, ANX_METRIC_COUNT - 1 },
        { "element", f->scalar, 0, ANX_SCALAR_COUNT - 1 },
        { "code space", f->kind, 0, SPACE_BITS },
        { "m", head->m, ANX_HNSW_M_MIN, ANX_HNSW_M_MAX },
        { "dim", head->dim, 1, ANX_DIM_MAX },
        { "degree", head->degree, f->is_raw ? 0 : 1, f->is_raw ? 0 : DEGREE_MAX },
        { "number of entries", head->n_entry, f->is_raw || !head->n_node ? 0 : 1,
          f->is_raw ? 0 : ENTRIES_MAX },
        { "number of nodes", head->n_node, 0, UINT32_MAX / 2 },
        { "number of labels", head->n_label, head->n_node, (uint64_t) 1 << 48 },
        { "number of links", head->n_link, 0, head->n_node * head->degree },
    };

    for (size_t i = 0; i < ANX_COUNT_OF(ranges); i++)
        if (ranges[i].value < ranges[i].min || ranges[i].value > ranges[i].max)
            return anx_fail(err, ANX_E_CORRUPT, "%s of a graph is %llu, must be %llu..%llu", ranges[i].name,
                            (unsigned long long) ranges[i].value, (unsigned long long) ranges[i].min,
                            (unsigned long long) ranges[i].max);
    if ((f->metric == ANX_METRIC_HAMMING) != (f->scalar == ANX_SCALAR_B1) ||
        (!f->is_raw && (f->kind == SPACE_BITS) != (f->scalar == ANX_SCALAR_B1)) ||
        (f->kind == SPACE_LOSSLESS && !f->is_raw && f->metric != ANX_METRIC_L2))
        return anx_fail(err, ANX_E_CORRUPT, "metric %u, element %u and code space %u do not go together",
                        f->metric, f->scalar, f->kind);
    if (!isfinite(f->offset) || !isfinite(f->step) || !(f->step > 0))
        return anx_fail(err, ANX_E_CORRUPT, "codes from %g in steps of %g", (double) f->offset,
                        (double) f->step);
    return ANX_OK;
}

static anx_status
decode_head(struct reader *r, struct head_fields *f, anx_error *err)
{
    struct graph_head *head = &r->stream.head;
    anx_reader bytes;
    uint32_t version;
    const uint8_t *magic;
    anx_status st = take_bytes(r, GRAPH_STREAM_HEAD, &bytes, err);

    if (st != ANX_OK)
        return st;
    magic = anx_read_view(&bytes, 8);
    if (memcmp(magic, MAGIC, 8) != 0)
        return anx_fail(err, ANX_E_CORRUPT, "these bytes begin no graph");
    version = anx_read_u32(&bytes);
    if (version != VERSION)
        return anx_fail(err, ANX_E_VERSION, "graph has version %u, this library reads %d", version, VERSION);
    f->is_raw = anx_read_u32(&bytes);
    f->metric = anx_read_u32(&bytes);
    f->scalar = anx_read_u32(&bytes);
    f->kind = anx_read_u32(&bytes);
    head->m = anx_read_u32(&bytes);
    head->dim = anx_read_u32(&bytes);
    head->degree = anx_read_u32(&bytes);
    f->packed = anx_read_u32(&bytes);
    head->n_entry = anx_read_u32(&bytes);
    head->n_node = anx_read_u64(&bytes);
    head->n_label = anx_read_u64(&bytes);
    head->n_link = anx_read_u64(&bytes);
    f->offset = anx_read_f32(&bytes);
    f->step = anx_read_f32(&bytes);
    f->n_mean = anx_read_u32(&bytes);
    st = check_head(head, f, err);
    if (st != ANX_OK)
        return st;
    head->is_raw = f->is_raw;
    head->metric = (anx_metric) f->metric;
    head->scalar = (anx_scalar) f->scalar;
    return ANX_OK;
}

static anx_status
read_space(struct reader *r, const struct head_fields *f, anx_error *err)
{
    struct graph_head *head = &r->stream.head;
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_reader bytes;
    anx_status st;

    if (head->is_raw) {
        head->payload_size = anx_row_size(head->scalar, head->dim);
        return f->n_mean == 0 ? ANX_OK : anx_fail(err, ANX_E_CORRUPT, "a graph of rows has means");
    }
    params.metric = head->metric;
    params.scalar = head->scalar;
    params.dim = head->dim;
    params.alloc = r->alloc;
    st = space_init(&r->space, &params, anx_kernels_best(), f->kind == SPACE_LOSSLESS, err);
    if (st != ANX_OK)
        return st;
    r->has_space = true;
    if (r->space.kind != (enum space_kind) f->kind)
        return anx_fail(err, ANX_E_CORRUPT, "%zu components cannot have code space %u", head->dim, f->kind);
    r->space.offset = f->offset;
    r->space.step = f->step;
    head->space = &r->space;
    head->payload_size = r->space.stride;
    if (f->n_mean != mean_size(head))
        return anx_fail(err, ANX_E_CORRUPT, "graph has %u means, must have %zu", f->n_mean, mean_size(head));
    st = take_bytes(r, 4 * (size_t) f->n_mean, &bytes, err);
    for (size_t i = 0; i < f->n_mean && st == ANX_OK; i++) {
        r->space.mean[i] = anx_read_f32(&bytes);
        if (!isfinite(r->space.mean[i]))
            st = anx_fail(err, ANX_E_CORRUPT, "mean %zu of a graph is no number", i);
    }
    return st;
}

static anx_status
read_entries(struct reader *r, anx_error *err)
{
    struct graph_head *head = &r->stream.head;
    anx_reader bytes;
    anx_status st = take_bytes(r, 4 * head->n_entry, &bytes, err);

    r->entries = anx_alloc_array(r->alloc, head->n_entry + 1, sizeof(*r->entries));
    if (st == ANX_OK && !r->entries)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate %zu entry nodes", head->n_entry);
    for (size_t i = 0; i < head->n_entry && st == ANX_OK; i++) {
        r->entries[i] = anx_read_u32(&bytes);
        if (r->entries[i] >= head->n_node)
            st = anx_fail(err, ANX_E_CORRUPT, "entry node %zu is %u of %llu", i, r->entries[i],
                          (unsigned long long) head->n_node);
    }
    head->entries = r->entries;
    return st;
}

static anx_status
read_head(struct reader *r, uint64_t size, anx_error *err)
{
    struct graph_head *head = &r->stream.head;
    struct head_fields f;
    anx_status st = decode_head(r, &f, err);

    if (st == ANX_OK)
        st = read_space(r, &f, err);
    if (st != ANX_OK)
        return st;
    if (f.packed != packed_size(head))
        return anx_fail(err, ANX_E_CORRUPT, "payload of a node is %u bytes, must be %zu", f.packed,
                        packed_size(head));
    if (size != UINT64_MAX && size != total_size(head))
        return anx_fail(err, ANX_E_CORRUPT, "graph is %llu bytes, must be %llu", (unsigned long long) size,
                        (unsigned long long) total_size(head));
    r->payload = anx_alloc_aligned(r->alloc, head->payload_size, 1);
    if (!r->payload)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a row of %zu bytes", head->payload_size);
    return read_entries(r, err);
}

/* --- nodes --- */

static anx_status
read_end(struct reader *r, anx_error *err)
{
    const struct graph_head *head = &r->stream.head;
    uint8_t magic[8];
    anx_status st;

    if (r->n_label != head->n_label || r->n_link != head->n_link)
        return anx_fail(err, ANX_E_CORRUPT,
                        "nodes have %llu labels and %llu links, the head says %llu and %llu",
                        (unsigned long long) r->n_label, (unsigned long long) r->n_link,
                        (unsigned long long) head->n_label, (unsigned long long) head->n_link);
    st = file_in_read(&r->in, magic, sizeof(magic), err);
    if (st == ANX_OK && memcmp(magic, END_MAGIC, 8) != 0)
        return anx_fail(err, ANX_E_CORRUPT, "graph does not end where it should");
    return st;
}

static anx_status
check_links(const struct reader *r, uint64_t node, size_t n, anx_error *err)
{
    for (size_t i = 0; i < n; i++) {
        if (r->links[i] >= r->stream.head.n_node || r->links[i] == node)
            return anx_fail(err, ANX_E_CORRUPT, "node %llu of %llu links to node %u",
                            (unsigned long long) node, (unsigned long long) r->stream.head.n_node,
                            r->links[i]);
        for (size_t j = 0; j < i; j++)
            if (r->links[j] == r->links[i])
                return anx_fail(err, ANX_E_CORRUPT, "node %llu links to node %u twice",
                                (unsigned long long) node, r->links[i]);
    }
    return ANX_OK;
}

static anx_status
read_lists(struct reader *r, uint64_t n_label, size_t n_link, anx_error *err)
{
    anx_reader bytes;
    void *labels = r->labels;
    anx_status st = file_grow(r->alloc, &labels, &r->label_capacity, 64, sizeof(*r->labels), err);

    r->labels = labels;
    /* Labels arrive in pieces, so that memory follows what came, not what was announced. */
    for (uint64_t done = 0; done < n_label && st == ANX_OK;) {
        size_t n = n_label - done < 8192 ? (size_t) (n_label - done) : 8192;

        st = take_bytes(r, 8 * n, &bytes, err);
        if (st != ANX_OK)
            return st;
        labels = r->labels;
        st = file_grow(r->alloc, &labels, &r->label_capacity, (size_t) done + n, sizeof(*r->labels), err);
        r->labels = labels;
        for (size_t i = 0; i < n && st == ANX_OK; i++)
            r->labels[done + i] = anx_read_u64(&bytes);
        done += n;
    }
    if (st == ANX_OK)
        st = take_bytes(r, 4 * n_link, &bytes, err);
    for (size_t i = 0; i < n_link && st == ANX_OK; i++)
        r->links[i] = anx_read_u32(&bytes);
    return st;
}

static anx_status
reader_next(struct graph_stream *stream, struct graph_node *node, bool *has, anx_error *err)
{
    struct reader *r = (struct reader *) stream;
    const struct graph_head *head = &stream->head;
    uint64_t n_label;
    anx_reader bytes;
    anx_status st;

    *has = r->n_given < head->n_node;
    if (!*has)
        return read_end(r, err);
    st = take_bytes(r, NODE_HEAD, &bytes, err);
    if (st != ANX_OK)
        return st;
    n_label = anx_read_u32(&bytes);
    node->n_link = anx_read_u32(&bytes);
    node->residual = anx_read_f32(&bytes);
    if (n_label < 1 || r->n_label + n_label > head->n_label || node->n_link > head->degree ||
        r->n_link + node->n_link > head->n_link || !(node->residual >= 0) || !isfinite(node->residual))
        return anx_fail(err, ANX_E_CORRUPT, "node %llu has %llu labels, %zu links and residual %g",
                        (unsigned long long) r->n_given, (unsigned long long) n_label, node->n_link,
                        (double) node->residual);
    st = read_lists(r, n_label, node->n_link, err);
    if (st == ANX_OK)
        st = check_links(r, r->n_given, node->n_link, err);
    if (st == ANX_OK)
        st = file_in_read(&r->in, r->payload, packed_size(head), err);
    if (st != ANX_OK)
        return st;
    node->n_label = (size_t) n_label;
    node->labels = r->labels;
    node->links = r->links;
    node->payload = r->payload;
    r->n_label += n_label;
    r->n_link += node->n_link;
    r->n_given++;
    return ANX_OK;
}

static const struct graph_stream_ops reader_ops = { reader_next, reader_close };

anx_status
graph_reader_open(const anx_source *source, uint64_t size, const anx_alloc *alloc, struct graph_stream **out,
                  anx_error *err)
{
    struct reader *r = anx_alloc_zeroed(alloc, 1, sizeof(*r));
    anx_status st;

    *out = NULL;
    if (!r)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a reader of graphs");
    r->stream.ops = &reader_ops;
    r->alloc = alloc;
    r->source = *source;
    st = file_in_init(&r->in, &r->source, alloc, UINT64_MAX, err);
    r->in.is_summed = false;
    if (st == ANX_OK)
        st = read_head(r, size, err);
    if (st != ANX_OK) {
        reader_close(&r->stream);
        return st;
    }
    *out = &r->stream;
    return ANX_OK;
}
