/* A file in the Lantern layout as a stream of nodes: see graph_stream.h. Such files come from servers that
 * nobody vouches for, and carry no checksum: every count, id, level and value is checked. */
#include <string.h>

#include "ann/file_part.h"
#include "ann/graph_stream.h"
#include "ann/rows.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"

#define SLOT_SIZE 6
#define NODE_HEAD 10 /* label and level */
#define ENTRY_SEED 0x656e747279u

struct import {
    struct graph_stream stream;
    struct file_in in;
    anx_source source;
    const anx_alloc *alloc;
    const struct space *space; /* borrowed; NULL: rows stay rows */
    size_t m, m0, max_level, row_size;
    uint64_t n_given, n_upper;
    uint64_t label;
    uint32_t links[GRAPH_M0_MAX];
    uint8_t *lists;    /* owned [lists_size] */
    size_t lists_size;
    uint8_t *row;      /* owned, aligned */
    uint8_t *code;     /* owned, aligned */
    float *buffer;     /* owned */
    uint32_t *entries; /* owned [n_entry_max]: the header's entry, then a sample of the nodes above layer 0 */
    size_t n_entry_max;
    anx_rng rng;
};

static void
import_close(struct graph_stream *stream)
{
    struct import *im = (struct import *) stream;
    const anx_alloc *alloc = im->alloc;

    file_in_fini(&im->in);
    anx_free(alloc, im->lists);
    anx_free_aligned(alloc, im->row);
    anx_free_aligned(alloc, im->code);
    anx_free(alloc, im->buffer);
    anx_free(alloc, im->entries);
    anx_free(alloc, im);
}

/* Each node above layer 0 has the same chance to be an entry node (Vitter's algorithm R). The first place is
 * the header's. */
static void
offer_entry(struct import *im, uint32_t node)
{
    size_t room = im->n_entry_max - 1;
    uint64_t at = im->n_upper++;

    if (node == im->entries[0] || room == 0)
        return;
    if (im->stream.head.n_entry < im->n_entry_max) {
        im->entries[im->stream.head.n_entry++] = node;
        return;
    }
    at = anx_rng_next(&im->rng) % (at + 1);
    if (at < room)
        im->entries[1 + at] = node;
}

static size_t
lists_size(const struct import *im, size_t level)
{
    return 4 + SLOT_SIZE * im->m0 + level * (4 + SLOT_SIZE * im->m);
}

/* The list of layer 0; itself and doubles are left out. */
static anx_status
read_list(struct import *im, size_t *n_link, anx_error *err)
{
    anx_reader bytes = anx_reader_init(im->lists, im->lists_size);
    uint32_t count = anx_read_u32(&bytes);
    size_t n = 0;

    if (count > im->m0)
        return anx_fail(err, ANX_E_CORRUPT, "node %llu has %u neighbors, there is room for %zu",
                        (unsigned long long) im->n_given, count, im->m0);
    for (uint32_t i = 0; i < count; i++) {
        uint64_t id = anx_read_le(&bytes, SLOT_SIZE);
        bool is_new = id != im->n_given;

        if (id >= im->stream.head.n_node)
            return anx_fail(err, ANX_E_CORRUPT, "node %llu has neighbor %llu, but there are %llu nodes",
                            (unsigned long long) im->n_given, (unsigned long long) id,
                            (unsigned long long) im->stream.head.n_node);
        for (size_t j = 0; j < n && is_new; j++)
            is_new = im->links[j] != id;
        if (is_new)
            im->links[n++] = (uint32_t) id;
    }
    *n_link = n;
    return ANX_OK;
}

static anx_status
read_node(struct import *im, size_t *n_link, anx_error *err)
{
    const struct graph_head *head = &im->stream.head;
    uint8_t fixed[NODE_HEAD];
    size_t level;
    anx_status st = file_in_read(&im->in, fixed, sizeof(fixed), err);

    if (st != ANX_OK)
        return st;
    im->label = anx_load_le(fixed, 8);
    level = anx_load_le(fixed + 8, 2);
    if (level > im->max_level)
        return anx_fail(err, ANX_E_CORRUPT, "node %llu has level %zu, above the maximum level %zu",
                        (unsigned long long) im->n_given, level, im->max_level);
    st = file_in_read(&im->in, im->lists, lists_size(im, 0), err);
    if (st == ANX_OK)
        st = file_in_skip(&im->in, lists_size(im, level) - lists_size(im, 0), err);
    if (st == ANX_OK)
        st = file_in_read(&im->in, im->row, im->row_size, err);
    if (st == ANX_OK)
        st = rows_check(head->scalar, head->dim, 1, im->row, err);
    if (st == ANX_OK)
        st = read_list(im, n_link, err);
    if (st == ANX_OK && level > 0 && im->space)
        offer_entry(im, (uint32_t) im->n_given);
    return st;
}

static anx_status
import_next(struct graph_stream *stream, struct graph_node *node, bool *has, anx_error *err)
{
    struct import *im = (struct import *) stream;
    anx_status st;

    *has = im->n_given < stream->head.n_node;
    if (!*has) {
        uint8_t more;
        size_t got;

        st = file_in_some(&im->in, &more, 1, &got, err);
        if (st == ANX_OK && got)
            st = anx_fail(err, ANX_E_CORRUPT, "bytes follow the last node");
        return st;
    }
    st = read_node(im, &node->n_link, err);
    if (st != ANX_OK)
        return st;
    node->n_label = 1;
    node->labels = &im->label;
    node->links = im->links;
    node->residual = 0.0f;
    node->payload = im->row;
    if (im->space) {
        (void) space_encode(im->space, im->row, im->code, im->buffer);
        node->residual = space_residual(im->space, im->row, im->code, im->buffer);
        node->payload = im->code;
    } else {
        node->n_link = 0;
    }
    im->n_given++;
    return ANX_OK;
}

static const struct graph_stream_ops import_ops = { import_next, import_close };

/* Does the file hold what was asked for? */
static anx_status
check_file(const struct file_foreign *f, const anx_index_params *params, uint64_t n_row, anx_error *err)
{
    const struct {
        const char *name;
        uint64_t got, want;
    } fields[] = {
        { "metric", f->metric, params->metric }, { "element kind", f->scalar, params->scalar },
        { "dimension", f->dim, params->dim },    { "m", f->m, params->m },
        { "number of nodes", f->n, n_row },      { "number of removed nodes", f->deleted, 0 },
    };

    for (size_t i = 0; i < ANX_COUNT_OF(fields); i++)
        if (fields[i].got != fields[i].want)
            return anx_fail(err, ANX_E_CORRUPT, "%s of the index received is %llu, asked for was %llu",
                            fields[i].name, (unsigned long long) fields[i].got,
                            (unsigned long long) fields[i].want);
    if (f->n > UINT32_MAX / 2 || f->m0 > GRAPH_M0_MAX || f->max_level > FILE_LEVEL_MAX ||
        (f->n > 0 && f->entry >= f->n))
        return anx_fail(err, ANX_E_CORRUPT,
                        "index received has %llu nodes, %llu links a node, level %llu and entry %llu",
                        (unsigned long long) f->n, (unsigned long long) f->m0,
                        (unsigned long long) f->max_level, (unsigned long long) f->entry);
    return ANX_OK;
}

static anx_status
read_head(struct import *im, const anx_index_params *params, uint64_t n_row, anx_error *err)
{
    struct graph_head *head = &im->stream.head;
    struct file_foreign f = { .format = ANX_FILE_LANTERN };
    struct file_dense dense = { .head_size = FILE_LANTERN_HEAD };
    anx_status st = file_in_read(&im->in, dense.head, FILE_LANTERN_HEAD, err);

    if (st == ANX_OK)
        st = file_dense_decode(&dense, &f, err);
    if (st == ANX_OK)
        st = check_file(&f, params, n_row, err);
    if (st != ANX_OK)
        return st;
    im->m = f.m;
    im->m0 = f.m0;
    im->max_level = f.max_level;
    im->row_size = anx_row_size(f.scalar, f.dim);
    *head = (struct graph_head) { .is_raw = !im->space,
                                  .metric = f.metric,
                                  .scalar = f.scalar,
                                  .dim = f.dim,
                                  .m = f.m,
                                  .degree = im->space ? f.m0 : 0,
                                  .payload_size = im->space ? im->space->stride : im->row_size,
                                  .space = im->space,
                                  .n_node = f.n,
                                  .n_label = f.n };
    if (im->space && f.n > 0) {
        im->entries[0] = (uint32_t) f.entry;
        head->n_entry = 1;
    }
    head->entries = im->entries;
    return ANX_OK;
}

anx_status
graph_import_open(const anx_source *source, const anx_index_params *params, uint64_t n_row,
                  const struct space *space, size_t n_entry_max, struct graph_stream **out, anx_error *err)
{
    const anx_alloc *alloc = params->alloc;
    struct import *im = anx_alloc_zeroed(alloc, 1, sizeof(*im));
    anx_status st;

    *out = NULL;
    if (!im)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a reader of graphs");
    im->stream.ops = &import_ops;
    im->alloc = alloc;
    im->source = *source;
    im->space = space;
    im->n_entry_max = n_entry_max ? n_entry_max : 1;
    im->rng = anx_rng_seed(ENTRY_SEED);
    im->entries = anx_alloc_array(alloc, im->n_entry_max, sizeof(*im->entries));
    im->buffer = anx_alloc_array(alloc, params->dim + 1, sizeof(float));
    im->row = anx_alloc_aligned(alloc, anx_row_size(params->scalar, params->dim), 1);
    im->code = anx_alloc_aligned(alloc, space ? space->stride : 1, 1);
    st = file_in_init(&im->in, &im->source, alloc, UINT64_MAX, err);
    im->in.is_summed = false;
    if (st == ANX_OK && (!im->entries || !im->buffer || !im->row || !im->code))
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a row of %zu components", params->dim);
    if (st == ANX_OK)
        st = read_head(im, params, n_row, err);
    if (st == ANX_OK) {
        im->lists_size = lists_size(im, 0);
        im->lists = anx_alloc_bytes(alloc, im->lists_size);
        if (!im->lists)
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate the links of a node");
    }
    if (st != ANX_OK) {
        import_close(&im->stream);
        return st;
    }
    *out = &im->stream;
    return ANX_OK;
}
