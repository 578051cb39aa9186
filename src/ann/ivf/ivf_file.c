/* The inverted-list index in files: the row store's sections and, when trained, the lists as they are in
 * memory.
 *
 *     ivfhead   u32 version (1), u32 n_list, u32 is_lossless (0 or 1), u32 0, u64 n_training
 *     centroid  f32 [n_list * dim]
 *     coder     f32 mid [dim], f32 step [dim]; empty for bits
 *     lsizes    u32 [n_list]               rows of each list
 *     lslots    u32 [n]                    slots of the rows, list after list
 *     lbases    i32 [n]
 *     lcodes    u8  [n * stride]
 *
 * An index that is not trained has none of these. In a mapped index codes, bases and slots stay in the file.
 */
#include <math.h>
#include <string.h>

#include "ann/ivf/ivf_int.h"
#include "ann/store_file.h"
#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"

#define HEAD_VERSION 1 /* 1: first */
#define HEAD_SIZE 24
#define BASE_PER_DIM (128 * 128) /* what a component of a unit coder adds to a base at most */

static anx_status
emit_head(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct ivf *ivf = context;
    uint8_t head[HEAD_SIZE] = { 0 };

    anx_store_le(head, HEAD_VERSION, 4);
    anx_store_le(head + 4, ivf->lists->n_list, 4);
    anx_store_le(head + 8, ivf->lists->is_lossless, 4);
    anx_store_le(head + 16, ivf->n_training, 8);
    return sink->write(sink->context, head, sizeof(head), err);
}

static anx_status
emit_centroids(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct ivf_lists *lists = ((const struct ivf *) context)->lists;

    return sink->write(sink->context, lists->centroids, lists->n_list * lists->dim * sizeof(float), err);
}

static anx_status
emit_coder(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct coder *coder = &((const struct ivf *) context)->lists->coder;
    anx_status st = sink->write(sink->context, coder->mid, coder->dim * sizeof(float), err);

    return st == ANX_OK ? sink->write(sink->context, coder->step, coder->dim * sizeof(float), err) : st;
}

static anx_status
emit_sizes(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct ivf_lists *lists = ((const struct ivf *) context)->lists;
    anx_status st = ANX_OK;

    for (size_t c = 0; c < lists->n_list && st == ANX_OK; c++) {
        uint8_t size[4];

        anx_store_le(size, lists->lists[c].n, sizeof(size));
        st = sink->write(sink->context, size, sizeof(size), err);
    }
    return st;
}

static anx_status
emit_slots(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct ivf_lists *lists = ((const struct ivf *) context)->lists;
    anx_status st = ANX_OK;

    for (size_t c = 0; c < lists->n_list && st == ANX_OK; c++)
        if (lists->lists[c].n)
            st = sink->write(sink->context, lists->lists[c].slots, lists->lists[c].n * sizeof(uint32_t), err);
    return st;
}

static anx_status
emit_bases(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct ivf_lists *lists = ((const struct ivf *) context)->lists;
    anx_status st = ANX_OK;

    for (size_t c = 0; c < lists->n_list && st == ANX_OK; c++)
        if (lists->lists[c].n)
            st = sink->write(sink->context, lists->lists[c].bases, lists->lists[c].n * sizeof(int32_t), err);
    return st;
}

static anx_status
emit_codes(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct ivf_lists *lists = ((const struct ivf *) context)->lists;
    anx_status st = ANX_OK;

    for (size_t c = 0; c < lists->n_list && st == ANX_OK; c++)
        if (lists->lists[c].n)
            st = sink->write(sink->context, lists->lists[c].codes, lists->lists[c].n * lists->stride, err);
    return st;
}

static anx_status
ivf_sections(const anx_index *index, struct section_list *list, anx_error *err)
{
    const struct ivf *ivf = (const struct ivf *) index;
    const struct ivf_lists *lists = ivf->lists;
    uint64_t n = ivf->store.n;

    (void) err;
    store_sections(&ivf->store, list);
    if (!lists)
        return ANX_OK;
    section_add(list, "ivfhead", HEAD_SIZE, emit_head, ivf);
    section_add(list, "centroid", lists->n_list * lists->dim * sizeof(float), emit_centroids, ivf);
    if (!lists->is_bits)
        section_add(list, "coder", 2 * lists->dim * sizeof(float), emit_coder, ivf);
    section_add(list, "lsizes", lists->n_list * sizeof(uint32_t), emit_sizes, ivf);
    section_add(list, "lslots", n * sizeof(uint32_t), emit_slots, ivf);
    section_add(list, "lbases", n * sizeof(int32_t), emit_bases, ivf);
    section_add(list, "lcodes", n * lists->stride, emit_codes, ivf);
    return ANX_OK;
}

/* ---- reading ---- */

struct lists_in {
    size_t n_list;
    bool is_lossless;
    uint64_t n_training;
    const struct section_in *centroids, *coder, *sizes, *slots, *bases, *codes;
};

static anx_status
read_head(const struct ivf *ivf, const struct section_set *set, struct lists_in *in, anx_error *err)
{
    const struct section_in *head = NULL;
    anx_status st = section_require(set, "ivfhead", HEAD_SIZE, &head, err);
    anx_reader r;
    uint32_t version, is_lossless;

    if (st != ANX_OK)
        return st;
    r = anx_reader_init(head->data, HEAD_SIZE);
    version = anx_read_u32(&r);
    in->n_list = anx_read_u32(&r);
    is_lossless = anx_read_u32(&r);
    (void) anx_read_u32(&r); /* spare */
    in->n_training = anx_read_u64(&r);
    in->is_lossless = is_lossless;
    if (version != HEAD_VERSION)
        return anx_fail(err, ANX_E_VERSION, "inverted lists have version %u, this build reads %d", version,
                        HEAD_VERSION);
    if (in->n_list != ivf->head.params.centroids || is_lossless > 1)
        return anx_fail(err, ANX_E_CORRUPT, "there are %zu lists, the head of the file says %zu", in->n_list,
                        ivf->head.params.centroids);
    return ANX_OK;
}

static anx_status
find_sections(const struct ivf *ivf, const struct section_set *set, struct lists_in *in, anx_error *err)
{
    uint64_t dim = ivf->head.params.dim, n = ivf->store.n;
    bool is_bits = ivf->head.params.scalar == ANX_SCALAR_B1;
    uint64_t code_size = is_bits ? ivf->head.row_size : dim;
    uint64_t stride = (code_size + CODE_ALIGN - 1) / CODE_ALIGN * CODE_ALIGN;
    anx_status st = section_require(set, "centroid", in->n_list * dim * sizeof(float), &in->centroids, err);

    if (st == ANX_OK && !is_bits)
        st = section_require(set, "coder", 2 * dim * sizeof(float), &in->coder, err);
    if (st == ANX_OK)
        st = section_require(set, "lsizes", in->n_list * sizeof(uint32_t), &in->sizes, err);
    if (st == ANX_OK)
        st = section_require(set, "lslots", n * sizeof(uint32_t), &in->slots, err);
    if (st == ANX_OK)
        st = section_require(set, "lbases", n * sizeof(int32_t), &in->bases, err);
    return st == ANX_OK ? section_require(set, "lcodes", n * stride, &in->codes, err) : st;
}

/* Centroids and coder make the frame of the lists. */
static anx_status
restore_frame(struct ivf *ivf, const struct lists_in *in, anx_error *err)
{
    const anx_alloc *alloc = ivf->head.params.alloc;
    size_t dim = ivf->head.params.dim;
    float *centroids = anx_alloc_array(alloc, in->n_list, dim * sizeof(*centroids));
    struct coder coder = { .alloc = alloc };
    anx_status st = ANX_OK;

    if (!centroids)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu centroids", in->n_list);
    memcpy(centroids, in->centroids->data, in->n_list * dim * sizeof(*centroids));
    for (size_t i = 0; i < in->n_list * dim && st == ANX_OK; i++)
        if (!isfinite(centroids[i]))
            st = anx_fail(err, ANX_E_CORRUPT, "centroid %zu is not finite", i / dim);
    if (st == ANX_OK && in->coder) {
        st = coder_allocate(&coder, ivf->head.kernels, dim, alloc, err);
        if (st == ANX_OK) {
            memcpy(coder.mid, in->coder->data,
                   2 * dim * sizeof(float)); /* step follows mid in memory as in the file */
            if (!coder_settle(&coder))
                st = anx_fail(err, ANX_E_CORRUPT,
                              "section \"coder\" has a step or middle that is not possible");
        }
    }
    if (st == ANX_OK)
        st = ivf_lists_create(&ivf->head, centroids, in->n_list, &coder, &ivf->lists, err);
    coder_fini(&coder);
    anx_free(alloc, centroids);
    return st;
}

/* Rows [first, first + n) of the list sections become one list. */
static anx_status
restore_list(struct ivf_lists *lists, const struct lists_in *in, size_t c, size_t first, size_t n,
             anx_error *err)
{
    struct ivf_list *list = &lists->lists[c];
    const uint8_t *codes = in->codes->data + first * lists->stride;
    const uint8_t *bases = in->bases->data + first * sizeof(int32_t);
    const uint8_t *slots = in->slots->data + first * sizeof(uint32_t);
    anx_status st;

    if (lists->is_mapped) {
        list->codes = (uint8_t *) codes;
        list->bases = (int32_t *) (void *) bases;
        list->slots = (uint32_t *) (void *) slots;
        list->n = list->capacity = (uint32_t) n;
        return ANX_OK;
    }
    st = ivf_list_allocate(lists, list, lists->stride, n, err);
    if (st != ANX_OK || n == 0)
        return st;
    memcpy(list->codes, codes, n * lists->stride);
    memcpy(list->bases, bases, n * sizeof(*list->bases));
    memcpy(list->slots, slots, n * sizeof(*list->slots));
    list->n = (uint32_t) n;
    return ANX_OK;
}

/* Every slot once, and bases that the integer kernels cannot overflow on. */
static anx_status
check_list(struct ivf_lists *lists, size_t c, size_t n_slot, anx_error *err)
{
    const struct ivf_list *list = &lists->lists[c];
    const int32_t base_max = (int32_t) lists->dim * BASE_PER_DIM;

    for (uint32_t i = 0; i < list->n; i++) {
        uint32_t slot = list->slots[i];

        if (slot >= n_slot)
            return anx_fail(err, ANX_E_CORRUPT, "list %zu has row %u of %zu", c, slot, n_slot);
        if (lists->places[slot].list != UINT32_MAX)
            return anx_fail(err, ANX_E_CORRUPT, "row %u is in list %u and in list %zu", slot,
                            lists->places[slot].list, c);
        if (lists->coder.is_unit && (list->bases[i] < 0 || list->bases[i] > base_max))
            return anx_fail(err, ANX_E_CORRUPT, "row %u has base %d, must be 0..%d", slot, list->bases[i],
                            base_max);
        lists->places[slot] = (struct ivf_place) { .list = (uint32_t) c, .at = i };
    }
    return ANX_OK;
}

static anx_status
restore_rows(struct ivf *ivf, const struct lists_in *in, anx_error *err)
{
    struct ivf_lists *lists = ivf->lists;
    size_t n = ivf->store.n, first = 0;
    anx_status st = ivf_lists_reserve_places(lists, n, err);

    if (st != ANX_OK)
        return st;
    memset(lists->places, 0xff, lists->n_place * sizeof(*lists->places));
    for (size_t c = 0; c < lists->n_list && st == ANX_OK; c++) {
        size_t size = (size_t) anx_load_le(in->sizes->data + c * sizeof(uint32_t), sizeof(uint32_t));

        if (size > n - first)
            return anx_fail(err, ANX_E_CORRUPT, "list %zu has %zu rows, only %zu are left", c, size,
                            n - first);
        st = restore_list(lists, in, c, first, size, err);
        if (st == ANX_OK)
            st = check_list(lists, c, n, err);
        first += size;
    }
    if (st == ANX_OK && first != n)
        st = anx_fail(err, ANX_E_CORRUPT, "lists have %zu rows, the index %zu", first, n);
    return st;
}

static anx_status
restore_lists(struct ivf *ivf, const struct section_set *set, anx_error *err)
{
    struct lists_in in = { 0 };
    anx_status st = read_head(ivf, set, &in, err);

    if (st == ANX_OK)
        st = find_sections(ivf, set, &in, err);
    if (st == ANX_OK)
        st = restore_frame(ivf, &in, err);
    if (st != ANX_OK)
        return st;
    ivf->lists->is_mapped = set->is_mapped;
    ivf->lists->is_lossless = in.is_lossless;
    ivf->lists->generation = ivf->n_training = in.n_training;
    return restore_rows(ivf, &in, err);
}

static anx_status
ivf_restore(const anx_index_params *params, const struct section_set *set, anx_index **out, anx_error *err)
{
    anx_index *index = NULL;
    anx_status st = ivf_create(params, anx_kernels_best(), &index, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    st = store_restore(&((struct ivf *) index)->store, set, err);
    if (st == ANX_OK && section_find(set, "ivfhead"))
        st = restore_lists((struct ivf *) index, set, err);
    if (st != ANX_OK) {
        ivf_destroy(index);
        return st;
    }
    index->is_mapped = set->is_mapped;
    *out = index;
    return ANX_OK;
}

const struct index_file_ops anx_ivf_file_ops = { .sections = ivf_sections, .restore = ivf_restore };
