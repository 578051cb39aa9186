/* Dense rows with a label map; see the header. */
#include "ann/store.h"

#include <math.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

#define SLOT_MAX (UINT32_MAX - 1)
#define GROW_FIRST 64

static uint64_t
label_of_slot(const void *context, uint32_t slot)
{
    return ((const uint64_t *) context)[slot];
}

void
store_init(struct row_store *store, const anx_index_params *params, const anx_kernels *kernels)
{
    *store = (struct row_store) { .space = row_space_make(params, kernels), .alloc = params->alloc };
    labelmap_init(&store->map, params->alloc);
}

void
store_fini(struct row_store *store)
{
    labelmap_fini(&store->map);
    if (store->is_mapped)
        return;
    anx_free(store->alloc, store->labels);
    anx_free(store->alloc, store->rows);
    anx_free(store->alloc, store->inverse_norms);
}

static anx_status
fail_nomem(size_t capacity, anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate room for %zu rows", capacity);
}

static anx_status
grow(struct row_store *store, size_t capacity, anx_error *err)
{
    uint64_t *labels = anx_realloc_array(store->alloc, store->labels, capacity, sizeof(*labels));
    uint8_t *rows;

    if (!labels)
        return fail_nomem(capacity, err);
    store->labels = labels;
    rows = anx_realloc_array(store->alloc, store->rows, capacity, store->space.row_size);
    if (!rows)
        return fail_nomem(capacity, err);
    store->rows = rows;
    if (store->space.metric == ANX_METRIC_COSINE) {
        float *norms = anx_realloc_array(store->alloc, store->inverse_norms, capacity, sizeof(*norms));

        if (!norms)
            return fail_nomem(capacity, err);
        store->inverse_norms = norms;
    }
    store->capacity = capacity; /* last: arrays that grew before a failure are merely larger than said */
    return ANX_OK;
}

anx_status
store_reserve(struct row_store *store, size_t more, anx_error *err)
{
    size_t wanted = store->n + more;
    size_t capacity = store->capacity;

    if (more > SLOT_MAX - store->n)
        return anx_fail(err, ANX_E_LIMIT,
                        "the index has %zu rows and %zu more are given, must be at most %lu together",
                        store->n, more, (unsigned long) SLOT_MAX);
    if (wanted > capacity) {
        anx_status st;

        capacity += capacity / 2 + GROW_FIRST;
        st = grow(store, capacity > wanted ? capacity : wanted, err);
        if (st != ANX_OK)
            return st;
    }
    if (more == 1 ? labelmap_reserve(&store->map, store->capacity, label_of_slot, store->labels)
                  : labelmap_reserve(&store->map, wanted, label_of_slot, store->labels))
        return ANX_OK;
    return fail_nomem(wanted, err);
}

void
store_set(struct row_store *store, uint32_t slot, const void *row)
{
    memcpy(store->rows + slot * store->space.row_size, row, store->space.row_size);
    if (store->inverse_norms)
        store->inverse_norms[slot] = row_inverse_norm(&store->space, row);
}

uint32_t
store_append(struct row_store *store, uint64_t label, const void *row)
{
    uint32_t slot = (uint32_t) store->n++;
    bool has_room = labelmap_insert(&store->map, label, slot, label_of_slot, store->labels);

    ANX_ASSERT(has_room && slot < store->capacity);
    (void) has_room;
    store->labels[slot] = label;
    store_set(store, slot, row);
    return slot;
}

bool
store_remove(struct row_store *store, uint32_t slot)
{
    uint32_t last = (uint32_t) (store->n - 1);
    bool moves = slot != last;

    labelmap_erase(&store->map, store->labels[slot], label_of_slot, store->labels);
    store->n--;
    if (!moves)
        return false;
    labelmap_move(&store->map, store->labels[last], last, slot);
    store->labels[slot] = store->labels[last];
    memcpy(store->rows + slot * store->space.row_size, store_row(store, last), store->space.row_size);
    if (store->inverse_norms)
        store->inverse_norms[slot] = store->inverse_norms[last];
    return true;
}

uint32_t
store_find(const struct row_store *store, uint64_t label)
{
    return labelmap_find(&store->map, label, label_of_slot, store->labels);
}

anx_status
store_locate(const struct row_store *store, uint64_t label, uint32_t *slot, anx_error *err)
{
    *slot = store_find(store, label);
    if (*slot == LABELMAP_NONE)
        return anx_fail(err, ANX_E_NOT_FOUND, "label %llu is not in the index", (unsigned long long) label);
    return ANX_OK;
}

anx_status
store_fail_exists(uint64_t label, anx_error *err)
{
    return anx_fail(err, ANX_E_EXISTS, "label %llu is already in the index", (unsigned long long) label);
}

anx_status
store_map_labels(struct row_store *store, anx_error *err)
{
    if (!labelmap_reserve(&store->map, store->n, label_of_slot, store->labels))
        return fail_nomem(store->n, err);
    for (size_t slot = 0; slot < store->n; slot++) {
        uint64_t label = store->labels[slot];

        if (label == ANX_LABEL_NONE)
            return anx_fail(err, ANX_E_CORRUPT, "row %zu has the reserved label", slot);
        if (store_find(store, label) != LABELMAP_NONE)
            return anx_fail(err, ANX_E_CORRUPT, "label %llu of row %zu occurs twice",
                            (unsigned long long) label, slot);
        if (!labelmap_insert(&store->map, label, (uint32_t) slot, label_of_slot, store->labels))
            return fail_nomem(store->n, err);
    }
    return ANX_OK;
}

size_t
store_memory(const struct row_store *store)
{
    size_t per_row =
        sizeof(*store->labels) + store->space.row_size + (store->inverse_norms ? sizeof(float) : 0);

    return store->capacity * per_row + labelmap_memory(&store->map);
}

anx_status
store_check(const struct row_store *store, anx_error *err)
{
    anx_status st = rows_check(store->space.scalar, store->space.dim, store->n, store->rows, err);

    if (st != ANX_OK) {
        anx_error_context(err, "stored row");
        return ANX_E_CORRUPT;
    }
    if (store->map.n != store->n)
        return anx_fail(err, ANX_E_CORRUPT, "label map has %zu entries for %zu rows", store->map.n, store->n);
    for (size_t slot = 0; slot < store->n; slot++) {
        uint64_t label = store->labels[slot];

        if (label == ANX_LABEL_NONE || store_find(store, label) != slot)
            return anx_fail(err, ANX_E_CORRUPT, "label %llu of row %zu is mapped to row %u",
                            (unsigned long long) label, slot, store_find(store, label));
        /* Another instruction set, whose sums round differently, may have written the norm. */
        if (store->inverse_norms) {
            float norm = row_inverse_norm(&store->space, store_row(store, slot));

            if (!(fabsf(store->inverse_norms[slot] - norm) <= 1e-4f * norm))
                return anx_fail(err, ANX_E_CORRUPT, "row %zu has inverse norm %g, must be %g", slot,
                                (double) store->inverse_norms[slot], (double) norm);
        }
    }
    return ANX_OK;
}
