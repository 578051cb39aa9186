/* The lists of a trained index: making, filling, changing and checking them. */
#include <math.h>
#include <string.h>

#include "ann/ivf/ivf_int.h"
#include "ann/points.h"
#include "base/alloc.h"
#include "base/error.h"

#define LIST_FIRST 8

static anx_status
fail_nomem(size_t n, anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate a list of %zu rows", n);
}

/* One block: codes first, since they must be aligned. */
static size_t
list_row_size(size_t stride)
{
    return stride + sizeof(int32_t) + sizeof(uint32_t);
}

anx_status
ivf_list_allocate(struct ivf_lists *lists, struct ivf_list *list, size_t stride, size_t n, anx_error *err)
{
    uint8_t *block;

    if (n == 0)
        return ANX_OK;
    block = anx_alloc_aligned(lists->alloc, n, list_row_size(stride));
    if (!block)
        return fail_nomem(n, err);
    list->codes = block;
    list->bases = (int32_t *) (void *) (block + n * stride);
    list->slots = (uint32_t *) (void *) (block + n * (stride + sizeof(int32_t)));
    list->capacity = (uint32_t) n;
    return ANX_OK;
}

static anx_status
list_grow(struct ivf_lists *lists, struct ivf_list *list, size_t wanted, anx_error *err)
{
    struct ivf_list grown = { .n = list->n };
    size_t capacity = list->capacity + (size_t) list->capacity / 4 + LIST_FIRST;
    anx_status st =
        ivf_list_allocate(lists, &grown, lists->stride, capacity > wanted ? capacity : wanted, err);

    if (st != ANX_OK)
        return st;
    if (list->n && grown.codes) {
        memcpy(grown.codes, list->codes, list->n * lists->stride);
        memcpy(grown.bases, list->bases, list->n * sizeof(*list->bases));
        memcpy(grown.slots, list->slots, list->n * sizeof(*list->slots));
    }
    anx_free_aligned(lists->alloc, list->codes);
    *list = grown;
    return ANX_OK;
}

anx_status
ivf_lists_reserve_places(struct ivf_lists *lists, size_t n_slot, anx_error *err)
{
    size_t n = lists->n_place + lists->n_place / 2 + 64;
    struct ivf_place *places;

    if (n_slot <= lists->n_place)
        return ANX_OK;
    n = n > n_slot ? n : n_slot;
    places = anx_realloc_array(lists->alloc, lists->places, n, sizeof(*places));
    if (!places)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate places of %zu rows", n);
    lists->places = places;
    lists->n_place = n;
    return ANX_OK;
}

/* The centroids as a list of codes, so that choosing lists is a search like any other. */
static anx_status
make_coarse(struct ivf_lists *lists, const anx_index *index, anx_error *err)
{
    const struct row_space space = {
        .kernels = index->kernels,
        .metric = lists->is_l2 ? ANX_METRIC_L2 : ANX_METRIC_IP,
        .scalar = ANX_SCALAR_F32,
        .dim = lists->dim,
        .row_size = lists->dim * sizeof(float),
    };
    const struct points points = { .space = &space,
                                   .rows = (const uint8_t *) lists->centroids,
                                   .n = lists->n_list };
    struct coder *coder = &lists->coarse_coder;
    anx_status st = coder_fit(coder, &points, lists->alloc, err);
    float *work;

    if (st == ANX_OK)
        st = ivf_list_allocate(lists, &lists->coarse, coder->stride, lists->n_list, err);
    if (st != ANX_OK)
        return st;
    work = anx_alloc_array(lists->alloc, lists->dim, sizeof(*work));
    if (!work)
        return fail_nomem(lists->n_list, err);
    for (size_t c = 0; c < lists->n_list; c++) {
        uint8_t *code = lists->coarse.codes + c * coder->stride;

        coder_encode(coder, lists->centroids + c * lists->dim, work, code);
        lists->coarse.bases[c] = coder_base(coder, code, work);
        lists->coarse.slots[c] = (uint32_t) c;
    }
    lists->coarse.n = (uint32_t) lists->n_list;
    anx_free(lists->alloc, work);
    return ANX_OK;
}

anx_status
ivf_lists_create(const anx_index *index, const float *centroids, size_t n_list, struct coder *coder,
                 struct ivf_lists **out, anx_error *err)
{
    const anx_alloc *alloc = index->params.alloc;
    struct ivf_lists *lists = anx_alloc_zeroed(alloc, 1, sizeof(*lists));
    anx_status st;

    *out = NULL;
    if (!lists)
        return fail_nomem(n_list, err);
    lists->alloc = alloc;
    lists->n_list = n_list;
    lists->dim = index->params.dim;
    lists->is_l2 = ivf_uses_l2(index);
    lists->is_bits = index->params.scalar == ANX_SCALAR_B1;
    lists->is_lossless = true;
    lists->stride = (index->row_size + CODE_ALIGN - 1) / CODE_ALIGN * CODE_ALIGN;
    lists->centroids = anx_alloc_array(alloc, n_list * lists->dim, sizeof(*lists->centroids));
    lists->lists = anx_alloc_zeroed(alloc, n_list, sizeof(*lists->lists));
    if (!lists->centroids || !lists->lists) {
        ivf_lists_destroy(lists);
        return fail_nomem(n_list, err);
    }
    memcpy(lists->centroids, centroids, n_list * lists->dim * sizeof(*centroids));
    st = make_coarse(lists, index, err);
    if (st != ANX_OK) {
        ivf_lists_destroy(lists);
        return st;
    }
    if (!lists->is_bits) {
        lists->coder = *coder; /* last: on failure it stays the caller's */
        lists->stride = coder->stride;
        *coder = (struct coder) { .alloc = alloc };
    }
    *out = lists;
    return ANX_OK;
}

void
ivf_lists_destroy(struct ivf_lists *lists)
{
    if (!lists)
        return;
    for (size_t c = 0; c < lists->n_list && lists->lists && !lists->is_mapped; c++)
        anx_free_aligned(lists->alloc, lists->lists[c].codes);
    anx_free_aligned(lists->alloc, lists->coarse.codes);
    anx_free(lists->alloc, lists->lists);
    anx_free(lists->alloc, lists->centroids);
    anx_free(lists->alloc, lists->places);
    coder_fini(&lists->coarse_coder);
    coder_fini(&lists->coder);
    anx_free(lists->alloc, lists);
}

bool
ivf_lists_encode(const struct ivf_lists *lists, const struct row_store *store, uint32_t slot, float *work,
                 uint8_t *code, int32_t *base)
{
    const struct points points = {
        .space = &store->space, .rows = store->rows, .inverse_norms = store->inverse_norms, .n = store->n,
    };
    bool is_lossless;

    if (lists->is_bits) {
        memcpy(code, store_row(store, slot), store->space.row_size);
        memset(code + store->space.row_size, 0, lists->stride - store->space.row_size);
        *base = 0;
        return true;
    }
    is_lossless = coder_encode(&lists->coder, points_get(&points, slot, work + lists->dim), work, code);
    *base = lists->is_l2 ? coder_base(&lists->coder, code, work) : 0;
    return is_lossless;
}

struct fill_job {
    struct ivf_lists *lists;
    const struct row_store *store;
    float *work;             /* [n_worker * 2 * dim] */
    atomic_bool is_lossy;    /* relaxed: read after the loop is over */
};

/* Encodes the rows whose slots already stand in lists [begin, end). */
static void
fill_range(void *context, size_t begin, size_t end, size_t worker)
{
    struct fill_job *job = context;
    struct ivf_lists *lists = job->lists;
    float *work = job->work + worker * 2 * lists->dim;

    for (size_t c = begin; c < end; c++) {
        struct ivf_list *list = &lists->lists[c];

        for (uint32_t i = 0; i < list->n; i++) {
            uint32_t slot = list->slots[i];

            if (!ivf_lists_encode(lists, job->store, slot, work, list->codes + i * lists->stride,
                                  &list->bases[i]))
                atomic_store_explicit(&job->is_lossy, true, memory_order_relaxed);
            lists->places[slot] = (struct ivf_place) { .list = (uint32_t) c, .at = i };
        }
    }
}

anx_status
ivf_lists_fill(struct ivf_lists *lists, const struct row_store *store, const uint32_t *assigned,
               anx_pool *pool, anx_error *err)
{
    struct fill_job job = { .lists = lists, .store = store };
    anx_status st = ivf_lists_reserve_places(lists, store->n, err);

    job.work = anx_alloc_array(lists->alloc, anx_pool_size(pool) * 2 * lists->dim, sizeof(*job.work));
    if (st == ANX_OK && !job.work)
        st = fail_nomem(store->n, err);
    for (size_t slot = 0; slot < store->n; slot++)
        lists->lists[assigned[slot]].capacity++; /* for now: how many it will have */
    for (size_t c = 0; c < lists->n_list; c++) {
        struct ivf_list *list = &lists->lists[c];
        size_t n = list->capacity;

        list->capacity = 0;
        if (st == ANX_OK)
            st = ivf_list_allocate(lists, list, lists->stride, n, err);
    }
    if (st == ANX_OK) {
        for (size_t slot = 0; slot < store->n; slot++) {
            struct ivf_list *list = &lists->lists[assigned[slot]];

            list->slots[list->n++] = (uint32_t) slot;
        }
        anx_pool_for(pool, lists->n_list, 1, fill_range, &job);
        lists->is_lossless = !atomic_load_explicit(&job.is_lossy, memory_order_relaxed);
    }
    anx_free(lists->alloc, job.work);
    return st;
}

anx_status
ivf_lists_reserve(struct ivf_lists *lists, size_t n, const uint32_t *assigned, size_t n_slot, anx_error *err)
{
    anx_status st = ivf_lists_reserve_places(lists, n_slot, err);
    uint32_t *more;

    if (st != ANX_OK)
        return st;
    if (n == 1) {
        struct ivf_list *list = &lists->lists[assigned[0]];

        return list->n < list->capacity ? ANX_OK : list_grow(lists, list, list->n + 1u, err);
    }
    more = anx_alloc_zeroed(lists->alloc, lists->n_list, sizeof(*more));
    if (!more)
        return fail_nomem(n, err);
    for (size_t i = 0; i < n; i++)
        more[assigned[i]]++;
    for (size_t c = 0; c < lists->n_list && st == ANX_OK; c++) {
        struct ivf_list *list = &lists->lists[c];

        if (more[c] > list->capacity - list->n)
            st = list_grow(lists, list, (size_t) list->n + more[c], err);
    }
    anx_free(lists->alloc, more);
    return st;
}

void
ivf_lists_append(struct ivf_lists *lists, const struct row_store *store, uint32_t list_number, uint32_t slot,
                 float *work)
{
    struct ivf_list *list = &lists->lists[list_number];
    uint32_t at = list->n++;

    ANX_ASSERT(at < list->capacity && slot < lists->n_place);
    if (!ivf_lists_encode(lists, store, slot, work, list->codes + at * lists->stride, &list->bases[at]))
        lists->is_lossless = false;
    list->slots[at] = slot;
    lists->places[slot] = (struct ivf_place) { .list = list_number, .at = at };
}

void
ivf_lists_remove(struct ivf_lists *lists, uint32_t slot)
{
    struct ivf_place place = lists->places[slot];
    struct ivf_list *list = &lists->lists[place.list];
    uint32_t last = --list->n;

    if (place.at == last)
        return;
    memcpy(list->codes + place.at * lists->stride, list->codes + last * lists->stride, lists->stride);
    list->bases[place.at] = list->bases[last];
    list->slots[place.at] = list->slots[last];
    lists->places[list->slots[place.at]].at = place.at;
}

void
ivf_lists_renumber(struct ivf_lists *lists, uint32_t from, uint32_t to)
{
    struct ivf_place place = lists->places[from];

    lists->places[to] = place;
    lists->lists[place.list].slots[place.at] = to;
}

size_t
ivf_lists_memory(const struct ivf_lists *lists, size_t *code_size)
{
    size_t size = sizeof(*lists) + lists->n_list * (lists->dim * sizeof(float) + sizeof(*lists->lists)) +
                  lists->n_place * sizeof(*lists->places) + 6 * lists->dim * sizeof(float) +
                  lists->coarse.capacity * list_row_size(lists->coarse_coder.stride);

    *code_size = 0;
    for (size_t c = 0; c < lists->n_list; c++) {
        size += lists->lists[c].capacity * list_row_size(lists->stride);
        *code_size += lists->lists[c].n * lists->stride;
    }
    return size;
}

static anx_status
check_list(const struct ivf_lists *lists, const struct row_store *store, uint32_t c, float *work,
           uint8_t *code, anx_error *err)
{
    const struct ivf_list *list = &lists->lists[c];

    for (uint32_t i = 0; i < list->n; i++) {
        uint32_t slot = list->slots[i];
        struct ivf_place place;
        int32_t base;
        bool is_lossless;

        if (slot >= store->n)
            return anx_fail(err, ANX_E_CORRUPT, "list %u has row %u of %zu at %u", c, slot, store->n, i);
        place = lists->places[slot];
        if (place.list != c || place.at != i)
            return anx_fail(err, ANX_E_CORRUPT, "row %u is in list %u at %u, its place says list %u at %u",
                            slot, c, i, place.list, place.at);
        is_lossless = ivf_lists_encode(lists, store, slot, work, code, &base);
        if (memcmp(code, list->codes + i * lists->stride, lists->stride) != 0 ||
            (lists->coder.is_unit && base != list->bases[i]))
            return anx_fail(err, ANX_E_CORRUPT, "row %u in list %u at %u has a code that is not its own",
                            slot, c, i);
        if (!is_lossless && lists->is_lossless)
            return anx_fail(err, ANX_E_CORRUPT, "row %u is not kept by its code, though the lists say so",
                            slot);
    }
    return ANX_OK;
}

anx_status
ivf_lists_check(const struct ivf_lists *lists, const struct row_store *store, anx_error *err)
{
    float *work = anx_alloc_array(lists->alloc, 2 * lists->dim, sizeof(*work));
    uint8_t *code = anx_alloc_aligned(lists->alloc, 1, lists->stride);
    anx_status st = ANX_OK;
    size_t n = 0;

    if (!work || !code)
        st = fail_nomem(1, err);
    if (st == ANX_OK && lists->n_place < store->n)
        st = anx_fail(err, ANX_E_CORRUPT, "there are places for %zu rows of %zu", lists->n_place, store->n);
    for (size_t i = 0; i < lists->n_list * lists->dim && st == ANX_OK; i++)
        if (!isfinite(lists->centroids[i]))
            st = anx_fail(err, ANX_E_CORRUPT, "centroid %zu is not finite", i / lists->dim);
    for (size_t c = 0; c < lists->n_list && st == ANX_OK; c++) {
        st = check_list(lists, store, (uint32_t) c, work, code, err);
        n += lists->lists[c].n;
    }
    if (st == ANX_OK && n != store->n)
        st = anx_fail(err, ANX_E_CORRUPT, "lists have %zu rows, the index %zu", n, store->n);
    anx_free(lists->alloc, work);
    anx_free_aligned(lists->alloc, code);
    return st;
}
