/* A toy kind for the tests of index files: a graph in plain arrays with random links, that cannot search but
 * can be saved, shown, imported, restored and compared. So the container is tested by itself, whatever the
 * real kinds do. */
#ifndef ANX_TEST_FILE_TOY_H
#define ANX_TEST_FILE_TOY_H

#include "test_util.h"

#include <stdlib.h>
#include <string.h>

#include "ann/file_part.h"
#include "ann/index_int.h"
#include "base/alloc.h"
#include "base/error.h"
#include "base/rng.h"

struct toy {
    anx_index head;
    size_t n, m, m0, max_level;
    uint32_t entry;
    uint64_t *labels;   /* [n] */
    uint8_t *levels;    /* [n] */
    uint8_t *rows;      /* [n * row_size] */
    uint32_t **lists;   /* [n]: (level + 1) * (m0 + 1) numbers: a count, then ids */
    uint8_t *links;     /* the same as saved, made by toy_sections */
    size_t links_size;
    uint8_t meta[40];
    bool was_mapped;
};

extern const struct index_ops toy_ops;

static inline void
toy_destroy(anx_index *index)
{
    struct toy *toy = (struct toy *) index;
    const anx_alloc *alloc = index->params.alloc;

    for (size_t i = 0; toy->lists && i < toy->n; i++)
        anx_free(alloc, toy->lists[i]);
    anx_free(alloc, toy->lists);
    anx_free(alloc, toy->labels);
    anx_free(alloc, toy->levels);
    anx_free(alloc, toy->rows);
    anx_free(alloc, toy->links);
    anx_free(alloc, toy);
}

static inline size_t
toy_count(const anx_index *index)
{
    return ((const struct toy *) index)->n;
}

static inline uint32_t *
toy_list(const struct toy *toy, size_t node, size_t level)
{
    return toy->lists[node] + level * (toy->m0 + 1);
}

/* A toy with n nodes of level 0 and no links; NULL when out of memory. */
static inline struct toy *
toy_create(const anx_index_params *params, size_t n, size_t m, size_t m0)
{
    const anx_alloc *alloc = params->alloc;
    struct toy *toy = anx_alloc_zeroed(alloc, 1, sizeof(*toy));

    if (!toy)
        return NULL;
    index_head_init(&toy->head, &toy_ops, params, NULL);
    toy->n = n, toy->m = m, toy->m0 = m0;
    toy->labels = anx_alloc_zeroed(alloc, n, sizeof(*toy->labels));
    toy->levels = anx_alloc_zeroed(alloc, n, 1);
    toy->rows = anx_alloc_zeroed(alloc, n, toy->head.row_size);
    toy->lists = anx_alloc_zeroed(alloc, n, sizeof(*toy->lists));
    if (!toy->labels || !toy->levels || !toy->rows || !toy->lists) {
        toy_destroy(&toy->head);
        return NULL;
    }
    return toy;
}

/* Gives a node its level and empty lists. */
static inline bool
toy_level(struct toy *toy, size_t node, size_t level)
{
    toy->levels[node] = (uint8_t) level;
    toy->lists[node] =
        anx_alloc_zeroed(toy->head.params.alloc, (level + 1) * (toy->m0 + 1), sizeof(*toy->lists[node]));
    return toy->lists[node] != NULL;
}

static inline void
toy_link(struct toy *toy, size_t node, size_t level, uint32_t to)
{
    uint32_t *list = toy_list(toy, node, level);

    for (uint32_t i = 1; i <= list[0]; i++)
        if (list[i] == to)
            return;
    if (to != node && toy->levels[to] >= level && list[0] < (level ? toy->m : toy->m0))
        list[++list[0]] = to;
}

static inline anx_index_params
toy_params(anx_metric metric, anx_scalar scalar, size_t dim, size_t m)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_error err;

    params.metric = metric, params.scalar = scalar, params.dim = dim, params.m = m, params.threads = 1;
    if (index_params_resolve(&params, &err) != ANX_OK)
        abort();
    return params;
}

static inline void
toy_fill_row(struct toy *toy, size_t node, anx_rng *rng)
{
    size_t dim = toy->head.params.dim;
    uint8_t *row = toy->rows + node * toy->head.row_size;

    for (size_t i = 0; i < toy->head.row_size; i++)
        row[i] = (uint8_t) anx_rng_next(rng);
    if (toy->head.params.scalar == ANX_SCALAR_F32)
        for (size_t i = 0; i < dim; i++)
            row[4 * i + 3] = (uint8_t) (row[4 * i + 3] & 0xbf); /* exponents below that of infinity */
    if (toy->head.params.scalar == ANX_SCALAR_F16)
        for (size_t i = 0; i < dim; i++)
            row[2 * i + 1] = (uint8_t) (row[2 * i + 1] & 0xbf);
    if (toy->head.params.scalar == ANX_SCALAR_B1 && dim % 8)
        row[toy->head.row_size - 1] &= (uint8_t) (0xff00u >> dim % 8);
}

static inline struct toy *
toy_random(const anx_index_params *params, size_t n, size_t m0, uint64_t seed)
{
    struct toy *toy = toy_create(params, n, params->m, m0);
    anx_rng rng = anx_rng_seed(seed);

    for (size_t i = 0; i < n; i++) {
        size_t level = 0;

        while (level < 5 && anx_rng_below(&rng, 4) == 0)
            level++;
        if (!toy_level(toy, i, level))
            abort();
        toy->labels[i] = anx_rng_next(&rng) >> 1;
        toy_fill_row(toy, i, &rng);
        if (i == 0 || level > toy->max_level)
            toy->max_level = level, toy->entry = (uint32_t) i;
    }
    for (size_t i = 0; i < n; i++)
        for (size_t l = 0; l <= toy->levels[i]; l++)
            for (size_t t = anx_rng_below(&rng, (uint32_t) m0 + 1); t > 0; t--)
                toy_link(toy, i, l, anx_rng_below(&rng, (uint32_t) n));
    return toy;
}

static inline bool
toy_equal(const struct toy *a, const struct toy *b)
{
    if (a->n != b->n || a->m != b->m || a->m0 != b->m0 || a->max_level != b->max_level ||
        a->entry != b->entry || a->head.params.metric != b->head.params.metric ||
        a->head.params.scalar != b->head.params.scalar || a->head.params.dim != b->head.params.dim)
        return false;
    for (size_t i = 0; i < a->n; i++)
        for (size_t l = 0; a->levels[i] == b->levels[i] && l <= a->levels[i]; l++)
            if (toy_list(a, i, l)[0] != toy_list(b, i, l)[0] ||
                memcmp(toy_list(a, i, l), toy_list(b, i, l), (toy_list(a, i, l)[0] + 1) * sizeof(uint32_t)) !=
                    0)
                return false;
    return a->n == 0 || (memcmp(a->labels, b->labels, a->n * sizeof(*a->labels)) == 0 &&
                         memcmp(a->levels, b->levels, a->n) == 0 &&
                         memcmp(a->rows, b->rows, a->n * a->head.row_size) == 0);
}

/* --- the view
 * ---------------------------------------------------------------------------------------------------- */

static inline uint64_t
toy_view_label(const void *context, uint32_t node)
{
    return ((const struct toy *) context)->labels[node];
}
static inline unsigned
toy_view_level(const void *context, uint32_t node)
{
    return ((const struct toy *) context)->levels[node];
}
static inline size_t
toy_view_neighbors(const void *context, uint32_t node, unsigned level, uint32_t *out)
{
    const uint32_t *list = toy_list(context, node, level);

    memcpy(out, list + 1, list[0] * sizeof(*out));
    return list[0];
}
static inline void
toy_view_row(const void *context, uint32_t node, void *out)
{
    const struct toy *toy = context;

    memcpy(out, toy->rows + node * toy->head.row_size, toy->head.row_size);
}
static inline anx_status
toy_view_open(const anx_index *index, struct graph_view *view, anx_error *err)
{
    const struct toy *toy = (const struct toy *) index;

    (void) err;
    *view = (struct graph_view){ toy,
                                 toy->n,
                                 toy->m,
                                 toy->m0,
                                 toy->max_level,
                                 toy->entry,
                                 toy_view_label,
                                 toy_view_level,
                                 toy_view_neighbors,
                                 toy_view_row };
    return ANX_OK;
}

/* Takes a graph over, and insists on everything the container promises. */
static inline anx_status
toy_import(const anx_index_params *params, const struct graph_view *view, anx_index **out, anx_error *err)
{
    struct toy *toy = toy_create(params, view->n, view->m, view->m0);
    uint32_t ids[GRAPH_M0_MAX];

    if (!toy)
        return anx_fail(err, ANX_E_NOMEM, "toy");
    toy->max_level = view->max_level, toy->entry = view->entry;
    if (view->n > 0 && (view->entry >= view->n || view->level(view->context, view->entry) != view->max_level))
        abort();
    for (uint32_t i = 0; i < view->n; i++) {
        unsigned level = view->level(view->context, i);

        if (level > view->max_level || view->label(view->context, i) == ANX_LABEL_NONE)
            abort();
        toy->labels[i] = view->label(view->context, i);
        view->row(view->context, i, toy->rows + i * toy->head.row_size);
        if (!toy_level(toy, i, level)) {
            toy_destroy(&toy->head);
            return anx_fail(err, ANX_E_NOMEM, "toy");
        }
    }
    for (uint32_t i = 0; i < view->n; i++)
        for (unsigned l = 0; l <= toy->levels[i]; l++) {
            size_t n = view->neighbors(view->context, i, l, ids);

            for (size_t j = 0; j < n; j++) {
                if (ids[j] >= toy->n)
                    abort();
                toy_link(toy, i, l, ids[j]);
            }
            if (toy_list(toy, i, l)[0] != n)
                abort(); /* a double, a link to itself, one below its level, or one too many */
        }
    *out = &toy->head;
    return ANX_OK;
}

/* --- sections
 * ---------------------------------------------------------------------------------------------------- */

static inline anx_status
toy_emit_meta(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct toy *toy = context;

    return sink->write(sink->context, toy->meta, sizeof(toy->meta), err);
}
static inline anx_status
toy_emit_labels(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct toy *toy = context;

    return sink->write(sink->context, toy->labels, toy->n * 8, err);
}
static inline anx_status
toy_emit_levels(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct toy *toy = context;

    return sink->write(sink->context, toy->levels, toy->n, err);
}
/* In small pieces, as a kind with rows in blocks would. */
static inline anx_status
toy_emit_rows(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct toy *toy = context;
    anx_status st = ANX_OK;

    for (size_t i = 0; st == ANX_OK && i < toy->n; i++)
        st = sink->write(sink->context, toy->rows + i * toy->head.row_size, toy->head.row_size, err);
    return st;
}
static inline anx_status
toy_emit_links(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct toy *toy = context;

    return sink->write(sink->context, toy->links, toy->links_size, err);
}

static inline anx_status
toy_sections(const anx_index *index, struct section_list *list, anx_error *err)
{
    struct toy *toy = (struct toy *) (uintptr_t) index;
    size_t at = 0;

    toy->links_size = 0;
    for (size_t i = 0; i < toy->n; i++)
        toy->links_size += (toy->levels[i] + 1u) * (toy->m0 + 1) * 4;
    anx_free(index->params.alloc, toy->links);
    toy->links = anx_alloc_bytes(index->params.alloc, toy->links_size);
    if (!toy->links)
        return anx_fail(err, ANX_E_NOMEM, "toy");
    for (size_t i = 0; i < toy->n; i++) {
        size_t size = (toy->levels[i] + 1u) * (toy->m0 + 1) * 4;

        memcpy(toy->links + at, toy->lists[i], size);
        at += size;
    }
    anx_store_le(toy->meta, toy->n, 8);
    anx_store_le(toy->meta + 8, toy->m, 8);
    anx_store_le(toy->meta + 16, toy->m0, 8);
    anx_store_le(toy->meta + 24, toy->max_level, 8);
    anx_store_le(toy->meta + 32, toy->entry, 8);
    *list = (struct section_list) {
        .n = 5,
        .section = { { "meta", sizeof(toy->meta), toy_emit_meta, toy },
                     { "labels", toy->n * 8, toy_emit_labels, toy },
                     { "levels", toy->n, toy_emit_levels, toy },
                     { "rows", toy->n * toy->head.row_size, toy_emit_rows, toy },
                     { "links", toy->links_size, toy_emit_links, toy } },
    };
    return ANX_OK;
}

static inline anx_status
toy_restore_nodes(struct toy *toy, const struct section_set *set, anx_error *err)
{
    anx_reader links = anx_reader_init(section_find(set, "links")->data, section_find(set, "links")->size);

    memcpy(toy->labels, section_find(set, "labels")->data, toy->n * 8);
    memcpy(toy->rows, section_find(set, "rows")->data, toy->n * toy->head.row_size);
    for (size_t i = 0; i < toy->n; i++) {
        size_t level = section_find(set, "levels")->data[i];
        const uint8_t *view = anx_read_view(&links, (level + 1) * (toy->m0 + 1) * 4);

        if (!view)
            return anx_fail(err, ANX_E_CORRUPT, "toy links");
        if (!toy_level(toy, i, level))
            return anx_fail(err, ANX_E_NOMEM, "toy");
        memcpy(toy->lists[i], view, (level + 1) * (toy->m0 + 1) * 4);
    }
    return ANX_OK;
}

static inline anx_status
toy_restore(const anx_index_params *params, const struct section_set *set, anx_index **out, anx_error *err)
{
    static const char *const tags[] = { "meta", "labels", "levels", "rows", "links" };
    size_t row_size = anx_row_size(params->scalar, params->dim);
    const uint8_t *meta;
    struct toy *toy;
    uint64_t n;
    anx_status st;

    for (size_t i = 0; i < ANX_COUNT_OF(tags); i++)
        if (!section_find(set, tags[i]))
            return anx_fail(err, ANX_E_CORRUPT, "toy lacks %s", tags[i]);
    for (size_t i = 0; i < set->n; i++)
        if ((uintptr_t) set->section[i].data % 64 != 0)
            abort();
    meta = section_find(set, "meta")->data;
    if (section_find(set, "meta")->size != 40)
        return anx_fail(err, ANX_E_CORRUPT, "toy meta");
    n = anx_load_le(meta, 8);
    if (n > 1u << 24 || section_find(set, "labels")->size != n * 8 ||
        section_find(set, "levels")->size != n || section_find(set, "rows")->size != n * row_size ||
        anx_load_le(meta + 16, 8) > GRAPH_M0_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "toy sizes");
    toy = toy_create(params, n, anx_load_le(meta + 8, 8), anx_load_le(meta + 16, 8));
    if (!toy)
        return anx_fail(err, ANX_E_NOMEM, "toy");
    toy->max_level = anx_load_le(meta + 24, 8);
    toy->entry = (uint32_t) anx_load_le(meta + 32, 8);
    toy->was_mapped = set->is_mapped;
    st = toy_restore_nodes(toy, set, err);
    if (st == ANX_OK)
        *out = &toy->head;
    else
        toy_destroy(&toy->head);
    return st;
}

const struct index_ops toy_ops = {
    .name = "toy", .kind = ANX_INDEX_HNSW, .destroy = toy_destroy, .count = toy_count
};
static const struct index_file_ops toy_file_ops = {
    .sections = toy_sections, .restore = toy_restore, .view_open = toy_view_open, .import = toy_import
};

static inline const struct index_file_ops *
toy_find(anx_index_kind kind)
{
    return kind == ANX_INDEX_HNSW ? &toy_file_ops : NULL;
}

/* --- memory as file
 * ------------------------------------------------------------------------------------------------ */

struct bytes {
    uint8_t *data;
    size_t size, capacity;
};

static inline anx_status
bytes_write(void *context, const void *data, size_t size, anx_error *err)
{
    struct bytes *bytes = context;

    (void) err;
    if (bytes->size + size > bytes->capacity) {
        bytes->capacity = 2 * (bytes->size + size);
        bytes->data = anx_realloc_array(NULL, bytes->data, bytes->capacity, 1);
    }
    memcpy(bytes->data + bytes->size, data, size);
    bytes->size += size;
    return ANX_OK;
}
static inline void
bytes_free(struct bytes *bytes)
{
    anx_free(NULL, bytes->data);
    *bytes = (struct bytes) { 0 };
}

struct bytes_reader {
    const uint8_t *data;
    size_t size, at;
};
static inline anx_status
bytes_read(void *context, void *data, size_t size, size_t *got, anx_error *err)
{
    struct bytes_reader *from = context;

    (void) err;
    *got = size < from->size - from->at ? size : from->size - from->at;
    memcpy(data, from->data + from->at, *got);
    from->at += *got;
    return ANX_OK;
}

#define SEED 20261120

static const struct variant {
    anx_file_format format;
    bool plain, native;
    const char *name;
} variants[] = {
    { ANX_FILE_ANNEX, false, false, "annex" },
    { ANX_FILE_USEARCH, true, false, "usearch plain" },
    { ANX_FILE_USEARCH, false, false, "usearch" },
    { ANX_FILE_USEARCH, false, true, "usearch native" },
    { ANX_FILE_LANTERN, true, false, "lantern plain" },
    { ANX_FILE_LANTERN, false, false, "lantern" },
    { ANX_FILE_LANTERN, false, true, "lantern native" },
};

/* A field to overwrite, and what must come of it. */
struct forgery {
    size_t at, size;
    uint64_t value;
    anx_status want;
    const char *what;
};

static inline struct bytes
save(const struct toy *toy, anx_file_format format, bool plain, bool native)
{
    anx_save_params params = { format, plain, native };
    struct bytes bytes = { 0 };
    anx_sink sink = { &bytes, bytes_write };
    anx_error err;
    size_t announced, written;

    if (file_save_size(toy_find, &toy->head, &params, &announced, &err) != ANX_OK ||
        file_save(toy_find, &toy->head, &params, &sink, &written, &err) != ANX_OK)
        fail_msg("save: %s", err.message);
    assert_int_equal(written, bytes.size);
    assert_int_equal(announced, bytes.size);
    return bytes;
}

/* Loads with the toy kind; is_sized: the input's size is known, as with a file. */
static inline anx_status
load(const uint8_t *data, size_t size, bool is_sized, const anx_index_params *hints, struct toy **out,
     anx_error *err)
{
    struct bytes_reader reader = { data, size, 0 };
    anx_source source = { &reader, bytes_read };
    struct file_load_options options = { toy_find, hints, is_sized ? size : UINT64_MAX, false };
    anx_index *index = NULL;
    anx_status st = file_load(&options, &source, &index, err);

    *out = (struct toy *) index;
    if ((st == ANX_OK) != (index != NULL))
        fail_msg("status %d with index %p", (int) st, (void *) index);
    return st;
}

static inline void
expect_status(const struct bytes *file, anx_status want, const char *what)
{
    for (int is_sized = 0; is_sized < 2; is_sized++) {
        struct toy *toy;
        anx_error err = { 0 };
        anx_status st = load(file->data, file->size, is_sized, NULL, &toy, &err);

        if (toy)
            anx_index_destroy(&toy->head);
        if (st != want)
            fail_msg("%s: status %d (%s), expected %d", what, (int) st, err.message, (int) want);
    }
}

/* One kind of damage; returns the new size. */
static inline size_t
damage(uint8_t *data, size_t size, anx_rng *rng)
{
    static const uint64_t numbers[] = { 0,          1,
                                        2,          3,
                                        255,        256,
                                        65535,      1u << 20,
                                        INT32_MAX,  UINT32_MAX - 1,
                                        UINT32_MAX, 1ull << 32,
                                        INT64_MAX,  UINT64_MAX - 1,
                                        UINT64_MAX };
    size_t at = anx_rng_below(rng, (uint32_t) size);
    size_t width = (size_t) 1 << anx_rng_below(rng, 4);

    switch (anx_rng_below(rng, 6)) {
    case 0: /* bits */
        for (uint32_t n = 1 + anx_rng_below(rng, 4); n > 0; n--)
            data[anx_rng_below(rng, (uint32_t) size)] ^= (uint8_t) (1u << anx_rng_below(rng, 8));
        return size;
    case 1: /* a cut */
        return at;
    case 2: /* a forged number anywhere */
        if (width <= size - at)
            anx_store_le(data + at, numbers[anx_rng_below(rng, ANX_COUNT_OF(numbers))], width);
        return size;
    case 3: /* a forged number in the first bytes, where counts are */
        at = anx_rng_below(rng, size < 256 ? (uint32_t) size : 256);
        if (width <= size - at)
            anx_store_le(data + at, numbers[anx_rng_below(rng, ANX_COUNT_OF(numbers))], width);
        return size;
    case 4: /* a run of zeros, as of a lost sector */
        memset(data + at, 0, size - at < 64 ? size - at : 64);
        return size;
    default: /* a piece lost in the middle */
        width = 1 + anx_rng_below(rng, 40);
        if (width >= size - at)
            return at;
        memmove(data + at, data + at + width, size - at - width);
        return size - width;
    }
}

#endif
