/* The stream of graph_stream.h over an index in memory. */
#include <string.h>

#include "ann/graph_stream.h"
#include "ann/hnsw/hnsw_int.h"
#include "ann/hnsw/upper.h"
#include "base/alloc.h"
#include "base/error.h"

#define ENTRY_SHARE 64 /* one entry node for so many nodes, as far as the taker's limit goes */

struct cursor {
    struct graph_stream stream;
    const anx_alloc *alloc;
    const struct graph *g;
    uint32_t next;
    uint32_t *entries; /* owned */
    uint64_t *labels;  /* owned, [label_capacity] */
    size_t label_capacity;
    uint32_t links[ANX_HNSW_M_MAX * 4];
    uint8_t *row; /* owned; raw only: an aligned copy */
};

static size_t
count_labels(const struct graph *g, uint32_t slot)
{
    size_t n = 1;

    if (graph_flags(g, slot) & FLAG_COPIES)
        for (uint32_t c = copy_first(g, slot); c != SLOT_NONE; c = g->copies[c].next)
            n++;
    return n;
}

static anx_status
cursor_labels(struct cursor *c, uint32_t slot, size_t *n, anx_error *err)
{
    size_t have = count_labels(c->g, slot), i = 0;

    if (have > c->label_capacity) {
        uint64_t *bigger = anx_realloc_array(c->alloc, c->labels, have * 2, sizeof(*bigger));

        if (!bigger)
            return anx_fail(err, ANX_E_NOMEM, "could not list %zu labels of a row", have);
        c->labels = bigger;
        c->label_capacity = have * 2;
    }
    c->labels[i++] = graph_label(c->g, slot);
    for (uint32_t copy = have > 1 ? copy_first(c->g, slot) : SLOT_NONE; copy != SLOT_NONE;
         copy = c->g->copies[copy].next)
        c->labels[i++] = c->g->copies[copy].label;
    *n = i;
    return ANX_OK;
}

static anx_status
cursor_next(struct graph_stream *stream, struct graph_node *node, bool *has, anx_error *err)
{
    struct cursor *c = (struct cursor *) stream;
    const struct graph *g = c->g;
    uint32_t slot = c->next;
    anx_status st;

    *has = slot < stream->head.n_node;
    if (!*has)
        return ANX_OK;
    st = cursor_labels(c, slot, &node->n_label, err);
    if (st != ANX_OK)
        return st;
    node->labels = c->labels;
    node->links = c->links;
    node->n_link = 0;
    node->residual = 0.0f;
    if (stream->head.is_raw) {
        memcpy(c->row, graph_row(g, slot), g->row_size);
        node->payload = c->row;
    } else {
        node->n_link = links_read(graph_links(g, slot), g->degree, c->links);
        node->residual = *graph_residual(g, slot);
        node->payload = graph_code(g, slot);
    }
    c->next++;
    return ANX_OK;
}

static void
cursor_close(struct graph_stream *stream)
{
    struct cursor *c = (struct cursor *) stream;
    const anx_alloc *alloc = c->alloc;

    anx_free(alloc, c->entries);
    anx_free(alloc, c->labels);
    anx_free_aligned(alloc, c->row);
    anx_free(alloc, c);
}

static const struct graph_stream_ops cursor_ops = { cursor_next, cursor_close };

/* The layer that searches in memory scan, which was measured to reach every region; then, since rows that are
 * near in the graph are near in the order of slots, every so-many-th slot. */
static anx_status
choose_entries(struct cursor *c, size_t max, anx_error *err)
{
    const struct graph *g = c->g;
    size_t n_slot = (size_t) c->stream.head.n_node, n = 0;
    size_t want = n_slot / ENTRY_SHARE + 1, level = upper_entry_level(g, upper_of(g));
    const struct layer *layer = level ? upper_layer(upper_of(g), level) : NULL;
    size_t n_layer = layer ? atomic_load(&layer->n) : 0;
    uint8_t *is_chosen = anx_alloc_zeroed(c->alloc, n_slot, 1);

    want = want > n_layer ? want : n_layer;
    want = want < max ? want : max;
    c->entries = anx_alloc_array(c->alloc, want + 1, sizeof(*c->entries));
    if (!is_chosen || !c->entries) {
        anx_free(c->alloc, is_chosen);
        return anx_fail(err, ANX_E_NOMEM, "could not choose among %zu entry nodes", n_slot);
    }
    for (size_t i = 0; i < n_layer && n < want; i++) {
        c->entries[n++] = layer->slot[i];
        is_chosen[layer->slot[i]] = 1;
    }
    for (size_t i = 0, rest = want - n; i < rest; i++) {
        size_t slot = (size_t) ((double) i * (double) n_slot / (double) rest);

        if (!is_chosen[slot])
            c->entries[n++] = (uint32_t) slot;
    }
    anx_free(c->alloc, is_chosen);
    c->stream.head.entries = c->entries;
    c->stream.head.n_entry = n;
    return ANX_OK;
}

static anx_status
fill_head(struct cursor *c, const struct hnsw *h, size_t n_entry_max, anx_error *err)
{
    struct graph_head *head = &c->stream.head;
    const struct graph *g = c->g;

    *head = (struct graph_head) { .is_raw = !g->has_links,
                                  .metric = h->base.params.metric,
                                  .scalar = h->base.params.scalar,
                                  .dim = h->base.params.dim,
                                  .m = h->m,
                                  .degree = g->has_links ? g->degree : 0,
                                  .payload_size = g->has_links ? g->stride : g->row_size,
                                  .space = g->has_links ? &g->space : NULL,
                                  .n_node = atomic_load(&g->n_slot),
                                  .n_label = atomic_load(&g->n_live) };
    if (!g->has_links) {
        c->row = anx_alloc_aligned(c->alloc, g->row_size, 1);
        return c->row ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate a row");
    }
    for (uint32_t slot = 0; slot < head->n_node; slot++)
        head->n_link += links_read(graph_links(g, slot), g->degree, c->links);
    return choose_entries(c, n_entry_max, err);
}

anx_status
graph_cursor_open(const anx_index *index, size_t n_entry_max, struct graph_stream **out, anx_error *err)
{
    const struct hnsw *h = (const struct hnsw *) index;
    struct cursor *c;
    anx_status st;

    *out = NULL;
    if (index->params.kind != ANX_INDEX_HNSW || index->params.quantization != ANX_QUANTIZATION_CODES)
        return anx_fail(err, ANX_E_UNSUPPORTED, "only an hnsw index of codes can be taken over");
    c = anx_alloc_zeroed(index->params.alloc, 1, sizeof(*c));
    if (!c)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a cursor");
    c->stream.ops = &cursor_ops;
    c->alloc = index->params.alloc;
    c->g = atomic_load(&((struct hnsw *) (uintptr_t) h)->graph);
    st = fill_head(c, h, n_entry_max, err);
    if (st != ANX_OK) {
        cursor_close(&c->stream);
        return st;
    }
    *out = &c->stream;
    return ANX_OK;
}
