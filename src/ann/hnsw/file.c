/* The hnsw kind in files: its own sections, and what is shared with view.c. Layout (little-endian; arrays are
 * the ones of struct chunk, without gaps):
 *
 *     hnsw      u32 version = 1, u32 has_links, u32 space kind, u32 keeps_rows,
 *               u32 degree, u32 stride, u32 n_layer, u32 entry_max,
 *               u64 n_slot, u64 n_copy, f32 offset, f32 step, f32 max_norm2, f32 0
 *
 *     mean      f32 [turned_dim]        ROTATED only
 *
 *     labels    u64 [n_slot]
 *
 *     flags     u8  [n_slot]
 *
 *     codes     u8  [n_slot][stride]    with links
 *
 *     links     u32 [n_slot][degree]    with links
 *
 *     rows      [n_slot][row_size]      when rows are kept
 *
 *     layers    per layer above 0: u32 n, then u32 slot [n], u32 down [n], u32 links [n][m]
 *
 *     copies    per copy: u64 label, u32 owner slot, u32 0
 *
 * Deleted rows are unlinked before a save. In a mapping, chunks point into the file; ids of links are then
 * compared with n_slot where they are used (level0.h), not here. */
#include "ann/file_int.h"

#include <string.h>

#include "ann/hnsw/file.h"
#include "ann/hnsw/prune.h"
#include "ann/hnsw/reach.h"
#include "ann/hnsw/upper.h"
#include "ann/hnsw/write.h"
#include "ann/rows.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"

#define FORMAT_VERSION 1 /* 1: first */
#define HEAD_SIZE 64

anx_status
hnsw_settle(const anx_index *index, anx_error *err)
{
    struct hnsw *h = (struct hnsw *) index; /* the value stays the same, only its form changes */
    anx_status st;

    if (index->is_mapped)
        return ANX_OK;
    pthread_rwlock_wrlock(&h->gate);
    st = hnsw_repair_locked(h, err);
    pthread_rwlock_unlock(&h->gate);
    return st;
}

static const struct graph *
graph_of(const void *context)
{
    return atomic_load(&((struct hnsw *) context)->graph);
}

/* --- writing --- */

static size_t
n_slots(const struct graph *g)
{
    return atomic_load(&g->n_slot);
}

static anx_status
emit_head(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct graph *g = graph_of(context);
    uint8_t head[HEAD_SIZE] = { 0 };
    uint32_t words[] = { FORMAT_VERSION,
                         g->has_links,
                         (uint32_t) g->space.kind,
                         g->keeps_rows,
                         (uint32_t) g->degree,
                         (uint32_t) g->stride,
                         (uint32_t) upper_levels(upper_of(g)),
                         atomic_load(&g->entry_max) };
    float reals[] = { g->space.offset, g->space.step, g->space.max_norm2 };

    for (size_t i = 0; i < ANX_COUNT_OF(words); i++)
        anx_store_le(head + 4 * i, words[i], 4);
    anx_store_le(head + 32, n_slots(g), 8);
    anx_store_le(head + 40, g->n_copy_used, 8);
    memcpy(head + 48, reals, sizeof(reals));
    return sink->write(sink->context, head, sizeof(head), err);
}

static anx_status
emit_mean(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct graph *g = graph_of(context);

    return sink->write(sink->context, g->space.mean, g->space.turned_dim * sizeof(float), err);
}

/* One array of all chunks; `base` finds it in a chunk. */
static anx_status
emit_array(const struct graph *g, const void *(*base)(const struct chunk *), size_t each,
           const anx_sink *sink, anx_error *err)
{
    size_t rows = (size_t) 1 << g->chunk_bits, n = n_slots(g);
    anx_status st = ANX_OK;

    for (size_t at = 0; at < n && st == ANX_OK; at += rows) {
        size_t part = n - at < rows ? n - at : rows;

        st = sink->write(sink->context, base(graph_chunk(g, (uint32_t) at)), part * each, err);
    }
    return st;
}

static const void *base_labels(const struct chunk *c) { return (const void *) c->labels; }
static const void *base_flags(const struct chunk *c) { return (const void *) c->flags; }
static const void *base_codes(const struct chunk *c) { return c->codes; }
static const void *base_links(const struct chunk *c) { return (const void *) c->links; }
static const void *base_rows(const struct chunk *c) { return c->rows; }

static anx_status
emit_labels(const void *context, const anx_sink *sink, anx_error *err)
{
    return emit_array(graph_of(context), base_labels, sizeof(uint64_t), sink, err);
}
static anx_status
emit_flags(const void *context, const anx_sink *sink, anx_error *err)
{
    return emit_array(graph_of(context), base_flags, 1, sink, err);
}
static anx_status
emit_codes(const void *context, const anx_sink *sink, anx_error *err)
{
    return emit_array(graph_of(context), base_codes, graph_of(context)->stride, sink, err);
}
static anx_status
emit_links(const void *context, const anx_sink *sink, anx_error *err)
{
    return emit_array(graph_of(context), base_links, graph_of(context)->degree * sizeof(uint32_t), sink, err);
}
static anx_status
emit_rows(const void *context, const anx_sink *sink, anx_error *err)
{
    return emit_array(graph_of(context), base_rows, graph_of(context)->row_size, sink, err);
}

static size_t
layers_size(const struct graph *g)
{
    size_t size = 0;

    for (size_t level = 1; level <= upper_levels(upper_of(g)); level++)
        size += 4 + (size_t) atomic_load(&upper_layer(upper_of(g), level)->n) * (8 + 4 * g->index->m);
    return size;
}

static anx_status
emit_layers(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct graph *g = graph_of(context);
    anx_status st = ANX_OK;

    for (size_t level = 1; level <= upper_levels(upper_of(g)) && st == ANX_OK; level++) {
        const struct layer *layer = upper_layer(upper_of(g), level);
        uint32_t n = atomic_load(&layer->n);

        st = sink->write(sink->context, &n, 4, err);
        if (st == ANX_OK)
            st = sink->write(sink->context, layer->slot, n * sizeof(uint32_t), err);
        if (st == ANX_OK)
            st = sink->write(sink->context, layer->down, n * sizeof(uint32_t), err);
        if (st == ANX_OK)
            st = sink->write(sink->context, (const void *) layer->links, n * g->index->m * sizeof(uint32_t),
                             err);
    }
    return st;
}

static anx_status
emit_copies(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct graph *g = graph_of(context);
    anx_status st = ANX_OK;

    for (size_t i = 0; i < g->n_copy && st == ANX_OK; i++) {
        uint8_t record[16] = { 0 };

        if (g->copies[i].owner == SLOT_NONE)
            continue;
        anx_store_le(record, g->copies[i].label, 8);
        anx_store_le(record + 8, g->copies[i].owner, 4);
        st = sink->write(sink->context, record, sizeof(record), err);
    }
    return st;
}

static void
section_add(struct section_list *list, const char *tag, uint64_t size,
            anx_status (*emit)(const void *, const anx_sink *, anx_error *), const void *context)
{
    struct section_out *s = &list->section[list->n++];

    memset(s->tag, 0, sizeof(s->tag));
    memcpy(s->tag, tag, strlen(tag));
    s->size = size;
    s->emit = emit;
    s->context = context;
}

static anx_status
hnsw_sections(const anx_index *index, struct section_list *list, anx_error *err)
{
    anx_status st = hnsw_settle(index, err);
    const struct graph *g = graph_of(index);
    size_t n;

    if (st != ANX_OK)
        return st;
    n = n_slots(g);
    section_add(list, "hnsw", HEAD_SIZE, emit_head, index);
    if (g->space.kind == SPACE_ROTATED)
        section_add(list, "mean", g->space.turned_dim * sizeof(float), emit_mean, index);
    section_add(list, "labels", n * sizeof(uint64_t), emit_labels, index);
    section_add(list, "flags", n, emit_flags, index);
    if (g->has_links) {
        section_add(list, "codes", n * g->stride, emit_codes, index);
        section_add(list, "links", n * g->degree * sizeof(uint32_t), emit_links, index);
        section_add(list, "layers", layers_size(g), emit_layers, index);
    }
    if (g->keeps_rows)
        section_add(list, "rows", n * g->row_size, emit_rows, index);
    section_add(list, "copies", g->n_copy_used * 16, emit_copies, index);
    return ANX_OK;
}

/* --- reading --- */

struct restore {
    const struct section_set *set;
    struct hnsw *h;
    struct graph *g;
    uint32_t space_kind, degree, stride, n_layer, entry_max;
    bool has_links, keeps_rows;
    uint64_t n_slot, n_copy;
    float offset, step, max_norm2;
};

/* A section of exactly this size. */
static anx_status
need_section(const struct restore *r, const char *tag, uint64_t count, uint64_t each, const uint8_t **data,
             anx_error *err)
{
    const struct section_in *s = section_find(r->set, tag);
    uint64_t size;

    if (!s)
        return anx_fail(err, ANX_E_CORRUPT, "section \"%s\" is missing", tag);
    if (__builtin_mul_overflow(count, each, &size) || s->size != size)
        return anx_fail(err, ANX_E_CORRUPT, "section \"%s\" has %llu bytes, expected %llu times %llu", tag,
                        (unsigned long long) s->size, (unsigned long long) count, (unsigned long long) each);
    *data = s->data;
    return ANX_OK;
}

static anx_status
restore_head(struct restore *r, anx_error *err)
{
    const uint8_t *data = NULL;
    anx_reader in;
    uint32_t version;
    anx_status st = need_section(r, "hnsw", HEAD_SIZE, 1, &data, err);

    if (st != ANX_OK)
        return st;
    in = anx_reader_init(data, HEAD_SIZE);
    version = anx_read_u32(&in);
    if (version != FORMAT_VERSION)
        return anx_fail(err, ANX_E_VERSION, "hnsw sections have version %u, known is %u", version,
                        FORMAT_VERSION);
    r->has_links = anx_read_u32(&in) != 0;
    r->space_kind = anx_read_u32(&in);
    r->keeps_rows = anx_read_u32(&in) != 0;
    r->degree = anx_read_u32(&in);
    r->stride = anx_read_u32(&in);
    r->n_layer = anx_read_u32(&in);
    r->entry_max = anx_read_u32(&in);
    r->n_slot = anx_read_u64(&in);
    r->n_copy = anx_read_u64(&in);
    r->offset = anx_read_f32(&in);
    r->step = anx_read_f32(&in);
    r->max_norm2 = anx_read_f32(&in);
    if (r->degree < 2 || r->degree > ANX_HNSW_M_MAX * 4)
        return anx_fail(err, ANX_E_CORRUPT, "degree is %u, must be 2..%u", r->degree, ANX_HNSW_M_MAX * 4);
    if (r->n_slot > SLOT_MAX || r->n_copy > SLOT_MAX || r->n_layer > LEVEL_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "%llu rows, %llu copies or %u layers are beyond the limits",
                        (unsigned long long) r->n_slot, (unsigned long long) r->n_copy, r->n_layer);
    if (r->entry_max > ENTRY_LARGEST)
        return anx_fail(err, ANX_E_CORRUPT, "entry scan is %u nodes, at most %u", r->entry_max,
                        ENTRY_LARGEST);
    if (!(r->step > 0) || r->step > 3e38f || !(r->offset > -3e38f && r->offset < 3e38f) ||
        !(r->max_norm2 >= 0))
        return anx_fail(err, ANX_E_CORRUPT, "code range is not a range");
    return ANX_OK;
}

static anx_status
restore_space(struct restore *r, anx_error *err)
{
    struct space *space = &r->g->space;
    const uint8_t *data = NULL;
    anx_status st;

    if (r->space_kind != (uint32_t) space->kind || r->stride != space->stride)
        return anx_fail(err, ANX_E_CORRUPT, "codes of kind %u and %u bytes do not fit the index",
                        r->space_kind, r->stride);
    space->offset = r->offset;
    space->step = r->step;
    space->max_norm2 = r->max_norm2;
    if (space->kind != SPACE_ROTATED)
        return ANX_OK;
    st = need_section(r, "mean", space->turned_dim, sizeof(float), &data, err);
    if (st != ANX_OK)
        return st;
    memcpy(space->mean, data, space->turned_dim * sizeof(float));
    return rows_check(ANX_SCALAR_F32, space->turned_dim, 1, space->mean, err);
}

/* Copies an array of the file into the chunks, or points the chunks at it. */
static void
restore_array(struct restore *r, const uint8_t *data, size_t each, size_t offset)
{
    struct graph *g = r->g;
    size_t rows = (size_t) 1 << g->chunk_bits;

    for (size_t at = 0; at < r->n_slot; at += rows) {
        size_t part = r->n_slot - at < rows ? r->n_slot - at : rows;
        void **field = (void **) (void *) ((uint8_t *) &g->chunk[at >> g->chunk_bits] + offset);

        if (r->set->is_mapped)
            *field =
                (void *) (uintptr_t) (data +
                                      at * each); /* const is kept by is_mapped: no writer gets this far */
        else
            memcpy(*field, data + at * each, part * each);
    }
}

static anx_status
restore_slots(struct restore *r, anx_error *err)
{
    struct graph *g = r->g;
    const uint8_t *labels = NULL, *flags = NULL, *codes = NULL, *links = NULL, *rows = NULL;
    size_t chunk_rows = (size_t) 1 << g->chunk_bits;
    anx_status st = need_section(r, "labels", r->n_slot, sizeof(uint64_t), &labels, err);

    if (st == ANX_OK)
        st = need_section(r, "flags", r->n_slot, 1, &flags, err);
    if (st == ANX_OK && r->has_links)
        st = need_section(r, "codes", r->n_slot, g->stride, &codes, err);
    if (st == ANX_OK && r->has_links)
        st = need_section(r, "links", r->n_slot, g->degree * sizeof(uint32_t), &links, err);
    if (st == ANX_OK && r->keeps_rows)
        st = need_section(r, "rows", r->n_slot, g->row_size, &rows, err);
    if (st == ANX_OK && !r->set->is_mapped)
        st = graph_reserve(g, r->n_slot, err);
    if (st == ANX_OK && (r->n_slot + chunk_rows - 1) / chunk_rows > g->chunk_limit)
        st = anx_fail(err, ANX_E_CORRUPT, "%llu rows are too many for a small index",
                      (unsigned long long) r->n_slot);
    if (st != ANX_OK)
        return st;
    if (r->set->is_mapped)
        atomic_store(&g->n_chunk, (r->n_slot + chunk_rows - 1) / chunk_rows);
    restore_array(r, labels, sizeof(uint64_t), offsetof(struct chunk, labels));
    restore_array(r, flags, 1, offsetof(struct chunk, flags));
    if (r->has_links) {
        restore_array(r, codes, g->stride, offsetof(struct chunk, codes));
        restore_array(r, links, g->degree * sizeof(uint32_t), offsetof(struct chunk, links));
    }
    if (r->keeps_rows)
        restore_array(r, rows, g->row_size, offsetof(struct chunk, rows));
    atomic_store(&g->n_slot, r->n_slot);
    return ANX_OK;
}

static anx_status
check_layer_ids(const struct restore *r, const struct layer *layer, const struct layer *below, uint32_t n,
                unsigned level, anx_error *err)
{
    for (uint32_t i = 0; i < n; i++) {
        bool has_below = !below || (layer->down[i] < atomic_load(&below->n) &&
                                    below->slot[layer->down[i]] == layer->slot[i]);

        if (layer->slot[i] >= r->n_slot || !(graph_flags(r->g, layer->slot[i]) & FLAG_LINKED) || !has_below)
            return anx_fail(err, ANX_E_CORRUPT, "node %u of layer %u is not a row of the graph", i, level);
    }
    for (size_t i = 0; i < (size_t) n * r->h->m; i++) {
        uint32_t id = atomic_load_explicit(&layer->links[i], memory_order_relaxed);

        if (id != SLOT_NONE && id >= n)
            return anx_fail(err, ANX_E_CORRUPT, "layer %u links to node %u of %u", level, id, n);
    }
    return ANX_OK;
}

static anx_status
restore_layers(struct restore *r, anx_error *err)
{
    const struct section_in *s = section_find(r->set, "layers");
    size_t m = r->h->m;
    anx_reader in;
    anx_status st = ANX_OK;

    if (!s)
        return anx_fail(err, ANX_E_CORRUPT, "section \"layers\" is missing");
    in = anx_reader_init(s->data, s->size);
    for (unsigned level = 1; level <= r->n_layer && st == ANX_OK; level++) {
        uint32_t n = anx_read_u32(&in);
        const uint8_t *slot = anx_read_view(&in, (size_t) n * 4), *down = anx_read_view(&in, (size_t) n * 4);
        const uint8_t *links = anx_read_view(&in, (size_t) n * m * 4);
        struct layer *layer;

        if (in.failed || n == 0 || n > r->n_slot)
            return anx_fail(err, ANX_E_CORRUPT, "layer %u of %u nodes is cut short or empty", level, n);
        layer = upper_add_layer(r->g, level, n, err);
        if (!layer)
            return ANX_E_NOMEM;
        memcpy(layer->slot, slot, (size_t) n * 4);
        memcpy(layer->down, down, (size_t) n * 4);
        memcpy((void *) layer->links, links, (size_t) n * m * 4);
        atomic_store(&layer->n, n);
        st = check_layer_ids(r, layer, level > 1 ? upper_layer(upper_of(r->g), level - 1) : NULL, n, level,
                             err);
    }
    if (st == ANX_OK && in.at != in.size)
        st = anx_fail(err, ANX_E_CORRUPT, "section \"layers\" has %zu bytes too many", in.size - in.at);
    return st;
}

static anx_status
check_links(const struct restore *r, anx_error *err)
{
    for (uint32_t slot = 0; slot < r->n_slot; slot++) {
        uint32_t ids[ANX_HNSW_M_MAX * 4];
        size_t n;

        if (!(graph_flags(r->g, slot) & FLAG_LINKED))
            continue; /* a freed slot keeps its old links until it is used again; nobody comes to it */
        n = links_read(graph_links(r->g, slot), r->g->degree, ids);
        for (size_t i = 0; i < n; i++)
            if (ids[i] >= r->n_slot || ids[i] == slot || !(graph_flags(r->g, ids[i]) & FLAG_LINKED))
                return anx_fail(err, ANX_E_CORRUPT, "row %u links to row %u, which is not in the graph", slot,
                                ids[i]);
    }
    return ANX_OK;
}

/* Flags decide what is live; counts follow from them. */
static anx_status
restore_counts(struct restore *r, anx_error *err)
{
    struct graph *g = r->g;
    size_t live = 0;

    for (uint32_t slot = 0; slot < r->n_slot; slot++) {
        unsigned flags = graph_flags(g, slot), want = r->has_links ? FLAG_LIVE | FLAG_LINKED : FLAG_LIVE;

        if (flags == 0) {
            if (!r->set->is_mapped)
                slot_give_back(g, slot);
            continue;
        }
        if ((flags & want) != want || flags > (FLAG_LIVE | FLAG_COPIES | FLAG_LINKED | FLAG_UPPER) ||
            graph_label(g, slot) == ANX_LABEL_NONE)
            return anx_fail(err, ANX_E_CORRUPT, "row %u has flags %u", slot, flags);
        live++;
    }
    atomic_store(&g->n_live, live + r->n_copy);
    return ANX_OK;
}

static anx_status
restore_copies(struct restore *r, anx_error *err)
{
    struct graph *g = r->g;
    const uint8_t *data = NULL;
    anx_status st = need_section(r, "copies", r->n_copy, 16, &data, err);

    for (uint64_t i = 0; i < r->n_copy && st == ANX_OK; i++) {
        anx_reader in = anx_reader_init(data + i * 16, 16);
        uint64_t label = anx_read_u64(&in);
        uint32_t owner = anx_read_u32(&in), copy;

        if (owner >= r->n_slot ||
            (graph_flags(g, owner) & (FLAG_LIVE | FLAG_COPIES)) != (FLAG_LIVE | FLAG_COPIES) ||
            label == ANX_LABEL_NONE)
            return anx_fail(err, ANX_E_CORRUPT, "copy %llu belongs to row %u, which has none",
                            (unsigned long long) i, owner);
        st = copy_restore(g, owner, label, &copy, err);
    }
    return st;
}

/* Parents are not in the file: the tree is made anew, and may start at another root than when it was saved.
 */
static anx_status
restore_tree(struct hnsw *h, struct graph *g, anx_error *err)
{
    struct scratch *s = scratch_acquire(h, err);
    anx_status st = s ? reach_repair(g, s, err) : ANX_E_NOMEM;

    scratch_release(h, s);
    return st;
}

static anx_status
hnsw_restore(const anx_index_params *params, const struct section_set *set, anx_index **out, anx_error *err)
{
    struct restore r = { .set = set };
    anx_status st = hnsw_create_empty(params, anx_kernels_best(), &r.h, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    st = restore_head(&r, err);
    if (st == ANX_OK) {
        r.h->degree = r.degree;
        st = graph_create(r.h, r.has_links, r.space_kind == SPACE_LOSSLESS, &r.g, err);
    }
    if (st == ANX_OK) {
        atomic_store(&r.h->graph, r.g);
        atomic_store(&r.g->entry_max, r.entry_max);
        r.g->entry_n = r.n_slot;
        r.g->entry_level = LEVEL_MAX; /* nothing measured here: the next doubling does */
        if (r.keeps_rows != r.g->keeps_rows)
            st = anx_fail(err, ANX_E_CORRUPT, "rows are %s, which does not fit the index",
                          r.keeps_rows ? "kept" : "not kept");
    }
    if (st == ANX_OK)
        st = restore_space(&r, err);
    if (st == ANX_OK)
        st = restore_slots(&r, err);
    if (st == ANX_OK)
        st = restore_counts(&r, err);
    if (st == ANX_OK && r.has_links)
        st = restore_layers(&r, err);
    if (st == ANX_OK && r.has_links && !set->is_mapped)
        st = check_links(&r, err);
    if (st == ANX_OK && r.has_links && !set->is_mapped)
        st = restore_tree(r.h, r.g, err);
    if (st == ANX_OK && r.keeps_rows && !set->is_mapped)
        for (uint32_t slot = 0; slot < r.n_slot && st == ANX_OK; slot++)
            st = rows_check(params->scalar, params->dim, 1, graph_row(r.g, slot), err);
    if (st == ANX_OK)
        st = restore_copies(&r, err);
    r.h->base.is_mapped = set->is_mapped;
    r.g = st == ANX_OK ? r.g : NULL;
    if (r.g)
        r.g->is_named = false;
    if (st == ANX_OK && !set->is_mapped)
        st = graph_name(atomic_load(&r.h->graph), err);
    if (st != ANX_OK) {
        anx_index_destroy(&r.h->base);
        return st;
    }
    *out = &r.h->base;
    return ANX_OK;
}

const struct index_file_ops anx_hnsw_file_ops = {
    .sections = hnsw_sections,
    .restore = hnsw_restore,
    .view_open = hnsw_view_open,
    .view_close = hnsw_view_close,
    .import = hnsw_import,
};
