/* Loading: from a stream, any format. Order of events: the head is decoded and checked, the foreign part
 * becomes a file_graph, sections become memory, the trailer's checksums are compared with what was read, and
 * only then a kind sees any of it. So a damaged file never reaches an index. */
#include <stdlib.h>
#include <string.h>

#include "ann/file_part.h"
#include "ann/index_int.h"
#include "base/alloc.h"
#include "base/error.h"

struct loading {
    const struct file_load_options *options;
    const anx_alloc *alloc;
    struct file_in in;
    struct file_foreign foreign;
    struct file_graph graph;
    bool has_foreign;
    struct file_head head;
    bool has_head;
    struct section_in section[SECTION_MAX];
    uint8_t *memory[SECTION_MAX]; /* owned, behind section[].data */
};

const struct section_in *
section_find(const struct section_set *set, const char *tag)
{
    char padded[8] = { 0 };
    size_t n = strlen(tag);

    if (n > sizeof(padded))
        return NULL;
    memcpy(padded, tag, n);
    for (size_t i = 0; i < set->n; i++)
        if (memcmp(set->section[i].tag, padded, sizeof(padded)) == 0)
            return &set->section[i];
    return NULL;
}

/* What a hint says must agree where it is not the initial value, which cannot be told from silence. */
static anx_status
check_hints(const anx_index_params *params, const anx_index_params *hints, anx_error *err)
{
    static const anx_index_params initial = ANX_INDEX_PARAMS_INIT;

    if (hints->kind != initial.kind && hints->kind != params->kind)
        return anx_fail(err, ANX_E_INVALID, "file holds an index of kind %s, expected %s",
                        anx_index_kind_name(params->kind), anx_index_kind_name(hints->kind));
    if (hints->metric != initial.metric && hints->metric != params->metric)
        return anx_fail(err, ANX_E_INVALID, "file holds an index with metric %s, expected %s",
                        anx_metric_name(params->metric), anx_metric_name(hints->metric));
    if (hints->scalar != initial.scalar && hints->scalar != params->scalar)
        return anx_fail(err, ANX_E_INVALID, "file holds an index of %s elements, expected %s",
                        anx_scalar_name(params->scalar), anx_scalar_name(hints->scalar));
    if (hints->dim != 0 && hints->dim != params->dim)
        return anx_fail(err, ANX_E_DIM, "file holds an index with %zu dimensions, expected %zu", params->dim,
                        hints->dim);
    return ANX_OK;
}

anx_status
file_params_apply(anx_index_params *params, const anx_index_params *hints, anx_error *err)
{
    anx_status st;

    if (!hints)
        return index_params_resolve(params, err);
    st = check_hints(params, hints, err);
    if (st != ANX_OK)
        return st;
    params->threads = hints->threads;
    params->fetch = hints->fetch;
    params->fetch_context = hints->fetch_context;
    params->alloc = hints->alloc;
    params->capacity = hints->capacity;
    if (hints->ef)
        params->ef = hints->ef;
    if (hints->nprobe)
        params->nprobe = hints->nprobe;
    return index_params_resolve(params, err);
}

static anx_status
read_sections(struct loading *l, anx_error *err)
{
    for (size_t i = 0; i < l->head.n_section; i++) {
        const struct file_section *section = &l->head.section[i];
        anx_status st = file_in_skip(&l->in, section->at - file_in_at(&l->in), err);

        if (st == ANX_OK)
            st = file_in_take(&l->in, section->size, &l->memory[i], err);
        if (st != ANX_OK)
            return st;
        memcpy(l->section[i].tag, section->tag, sizeof(section->tag));
        l->section[i].data = l->memory[i];
        l->section[i].size = section->size;
    }
    return ANX_OK;
}

static anx_status
read_trailer(struct loading *l, anx_error *err)
{
    uint64_t size = l->head.file_size - l->head.trailer_at;
    uint8_t *bytes = NULL;
    uint8_t extra;
    size_t got;
    anx_status st = file_in_skip(&l->in, l->head.trailer_at - file_in_at(&l->in), err);

    if (st == ANX_OK)
        st = file_in_end_body(&l->in, err);
    if (st == ANX_OK)
        st = file_in_take(&l->in, size, &bytes, err);
    if (st == ANX_OK)
        st = file_trailer_check(bytes, size, l->head.trailer_at, l->in.sums, err);
    anx_free_aligned(l->alloc, bytes);
    if (st == ANX_OK)
        st = file_in_some(&l->in, &extra, 1, &got, err);
    if (st == ANX_OK && got > 0)
        st = anx_fail(err, ANX_E_CORRUPT, "index file goes on after its end at byte %llu",
                      (unsigned long long) l->head.file_size);
    return st;
}

/* The two parts of a file describe the same index. */
static anx_status
compare_heads(const struct loading *l, anx_error *err)
{
    const anx_index_params *params = &l->head.params;
    const struct file_foreign *f = &l->foreign;

    if (l->head.format != f->format || params->kind != ANX_INDEX_HNSW || params->metric != f->metric ||
        params->scalar != f->scalar || params->dim != f->dim || l->head.m0 != f->m0 || l->head.count != f->n)
        return anx_fail(err, ANX_E_CORRUPT,
                        "the two heads of the index file, at its start and at byte %llu, disagree",
                        (unsigned long long) l->head.head_at);
    return ANX_OK;
}

/* `begin`: the first 8 bytes of the head, when they were taken already. */
static anx_status
read_container(struct loading *l, const uint8_t *begin, anx_error *err)
{
    uint8_t bytes[FILE_HEAD_SIZE];
    size_t have = begin ? 8 : 0;
    uint64_t head_at = file_in_at(&l->in) - have;
    anx_status st;

    memcpy(bytes, begin ? begin : bytes, have);
    st = file_in_read(&l->in, bytes + have, sizeof(bytes) - have, err);
    if (st == ANX_OK)
        st = file_head_decode(bytes, head_at, &l->head, err);
    if (st == ANX_OK && l->in.size != UINT64_MAX && l->in.size != l->head.file_size)
        st = anx_fail(err, ANX_E_CORRUPT, "index file has %llu bytes, but its head says %llu",
                      (unsigned long long) l->in.size, (unsigned long long) l->head.file_size);
    if (st == ANX_OK && l->has_foreign)
        st = compare_heads(l, err);
    if (st != ANX_OK)
        return st;
    l->has_head = true;
    if (l->head.n_section > 0 && l->has_foreign && !l->options->is_thorough)
        file_graph_fini(&l->graph); /* the sections hold it all: do not keep both in memory */
    st = read_sections(l, err);
    if (st == ANX_OK)
        st = read_trailer(l, err);
    return st;
}

/* After an unmarked foreign part nothing is expected. Others' readers ignore what follows, and so do we, but
 * not when it is our own container, whose mark in the head then was destroyed. */
static anx_status
read_rest(struct loading *l, anx_error *err)
{
    uint64_t pad = file_align(file_in_at(&l->in), FILE_ALIGN) - file_in_at(&l->in);
    uint8_t bytes[FILE_ALIGN + 8] = { 0 };
    uint8_t last[8] = { 0 };
    size_t got;
    anx_status st = file_in_some(&l->in, bytes, (size_t) pad + 8, &got, err);
    bool is_ours = got == pad + 8 && memcmp(bytes + pad, FILE_MAGIC, 8) == 0;

    memcpy(last, bytes + (got > 8 ? got - 8 : 0), 8);
    while (st == ANX_OK && got > 0) {
        uint8_t more[512];

        st = file_in_some(&l->in, more, sizeof(more), &got, err);
        if (got >= 8) {
            memcpy(last, more + got - 8, 8);
        } else {
            memmove(last, last + got, 8 - got);
            memcpy(last + 8 - got, more, got);
        }
    }
    if (st == ANX_OK && (is_ours || memcmp(last, FILE_END_MAGIC, 8) == 0))
        st = anx_fail(err, ANX_E_CORRUPT,
                      "index file is damaged: checksums follow, but its head does not announce them");
    return st;
}

static anx_status
read_foreign(struct loading *l, const uint8_t *begin, bool is_lantern, anx_error *err)
{
    anx_status st = is_lantern ? file_lantern_read(&l->in, begin, &l->foreign, &l->graph, err) :
                                 file_usearch_read(&l->in, begin, &l->foreign, &l->graph, err);
    uint64_t at = file_in_at(&l->in);

    if (st != ANX_OK)
        return st;
    l->has_foreign = true;
    if (!l->foreign.is_marked)
        return read_rest(l, err);
    if (l->foreign.head_at != file_align(at, FILE_ALIGN))
        return anx_fail(err, ANX_E_CORRUPT,
                        "index file is damaged: its nodes end at byte %llu, but its head says %llu",
                        (unsigned long long) at, (unsigned long long) l->foreign.head_at);
    st = file_in_skip(&l->in, l->foreign.head_at - at, err);
    return st == ANX_OK ? read_container(l, NULL, err) : st;
}

static anx_status
read_any(struct loading *l, anx_error *err)
{
    uint8_t begin[17];
    anx_status st = file_in_read(&l->in, begin, 8, err);

    if (st != ANX_OK)
        return st;
    if (memcmp(begin, FILE_MAGIC, 8) == 0)
        return read_container(l, begin, err);
    if (memcmp(begin, "usearch", 7) == 0) {
        st = file_in_read(&l->in, begin + 8, 9, err);
        if (st == ANX_OK && begin[16] != 16)
            st = anx_fail(err, ANX_E_UNSUPPORTED,
                          "usearch file was saved without its vectors, which are needed");
        return st == ANX_OK ? read_foreign(l, begin, true, err) : st;
    }
    if (anx_load_le(begin + 4, 4) == 0) /* no row has zero bytes: a 64-bit prefix */
        st = file_in_read(&l->in, begin + 8, 8, err);
    return st == ANX_OK ? read_foreign(l, begin, false, err) : st;
}

static anx_status
make_from_graph(const struct loading *l, anx_index **out, anx_error *err)
{
    const anx_index_params *hints = l->options->hints;
    const struct index_file_ops *ops = l->options->find(ANX_INDEX_HNSW);
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    struct graph_view view;
    anx_status st;

    params.kind = ANX_INDEX_HNSW;
    params.metric = l->foreign.metric;
    params.scalar = l->foreign.scalar;
    params.dim = l->foreign.dim;
    params.m = l->graph.m;
    if (hints) { /* what a foreign file does not say */
        params.seed = hints->seed;
        params.ef_construction = hints->ef_construction;
        params.quantization = hints->quantization;
        params.quantile = hints->quantile;
        params.sample_size = hints->sample_size;
    }
    st = file_params_apply(&params, hints, err);
    if (st != ANX_OK)
        return st;
    if (!ops || !ops->import)
        return anx_fail(err, ANX_E_UNSUPPORTED, "hnsw index cannot be made from a foreign file");
    file_graph_view(&l->graph, &view);
    return ops->import(&params, &view, out, err);
}

static anx_status
make_from_sections(const struct loading *l, anx_index **out, anx_error *err)
{
    struct section_set set = { .section = l->section, .n = l->head.n_section };
    const struct index_file_ops *ops = l->options->find(l->head.params.kind);
    anx_index_params params = l->head.params;
    anx_status st = file_params_apply(&params, l->options->hints, err);

    if (st != ANX_OK)
        return st;
    if (!ops || !ops->restore)
        return anx_fail(err, ANX_E_UNSUPPORTED, "%s index cannot be loaded",
                        anx_index_kind_name(params.kind));
    return ops->restore(&params, &set, out, err);
}

static anx_status
make_index(struct loading *l, anx_index **out, anx_error *err)
{
    bool is_native = l->has_head && (l->head.n_section > 0 || !l->has_foreign);
    anx_status st = ANX_OK;

    if (l->has_foreign && (!is_native || l->options->is_thorough))
        st = file_graph_finish(&l->graph, err);
    if (st == ANX_OK)
        st = is_native ? make_from_sections(l, out, err) : make_from_graph(l, out, err);
    if (st == ANX_OK && l->has_head && (*out)->ops->count(*out) != l->head.count) {
        st = anx_fail(err, ANX_E_CORRUPT, "index file holds %zu rows, but its head says %llu",
                      (*out)->ops->count(*out), (unsigned long long) l->head.count);
        anx_index_destroy(*out);
        *out = NULL;
    }
    return st;
}

anx_status
file_load(const struct file_load_options *options, const anx_source *source, anx_index **out, anx_error *err)
{
    const anx_alloc *alloc = options->hints ? options->hints->alloc : NULL;
    struct loading *l = anx_alloc_zeroed(alloc, 1, sizeof(*l));
    anx_status st;

    *out = NULL;
    if (!l)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu bytes to load an index", sizeof(*l));
    l->options = options;
    l->alloc = alloc;
    l->graph.alloc = alloc;
    st = file_in_init(&l->in, source, alloc, options->size, err);
    if (st == ANX_OK)
        st = read_any(l, err);
    if (st == ANX_OK)
        st = make_index(l, out, err);
    for (size_t i = 0; i < SECTION_MAX; i++)
        anx_free_aligned(alloc, l->memory[i]);
    file_graph_fini(&l->graph);
    file_in_fini(&l->in);
    anx_free(alloc, l);
    return st;
}

anx_status
anx_index_load(const anx_source *source, const anx_index_params *hints, anx_index **out, anx_error *err)
{
    struct file_load_options options = { .find = index_file_ops_find, .hints = hints, .size = UINT64_MAX };

    return file_load(&options, source, out, err);
}
