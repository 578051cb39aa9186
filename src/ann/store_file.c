/* The sections of a row store: arrays of little-endian numbers, as they are in memory. */
#include "ann/store_file.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

#define SLOT_MAX (UINT32_MAX - 1)

/* Arrays go to files as they stand, which is the layout only on such machines; no other is built for. */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "index files are little-endian");

static anx_status
emit_labels(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct row_store *store = context;

    return sink->write(sink->context, store->labels, store->n * sizeof(*store->labels), err);
}

static anx_status
emit_rows(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct row_store *store = context;

    return sink->write(sink->context, store->rows, store->n * store->space.row_size, err);
}

static anx_status
emit_norms(const void *context, const anx_sink *sink, anx_error *err)
{
    const struct row_store *store = context;

    return sink->write(sink->context, store->inverse_norms, store->n * sizeof(*store->inverse_norms), err);
}

void
section_add(struct section_list *list, const char *tag, uint64_t size,
            anx_status (*emit)(const void *, const anx_sink *, anx_error *), const void *context)
{
    struct section_out *out = &list->section[list->n++];

    ANX_ASSERT(list->n <= SECTION_MAX && strlen(tag) <= sizeof(out->tag));
    *out = (struct section_out) { .size = size, .emit = emit, .context = context };
    memcpy(out->tag, tag, strlen(tag));
}

void
store_sections(const struct row_store *store, struct section_list *list)
{
    section_add(list, "labels", store->n * sizeof(*store->labels), emit_labels, store);
    section_add(list, "rows", store->n * store->space.row_size, emit_rows, store);
    if (store->space.metric == ANX_METRIC_COSINE)
        section_add(list, "norms", store->n * sizeof(*store->inverse_norms), emit_norms, store);
}

anx_status
section_require(const struct section_set *set, const char *tag, uint64_t size, const struct section_in **out,
                anx_error *err)
{
    const struct section_in *section = section_find(set, tag);

    if (!section)
        return anx_fail(err, ANX_E_CORRUPT, "section \"%s\" is missing", tag);
    if (section->size != size)
        return anx_fail(err, ANX_E_CORRUPT, "section \"%s\" has %llu bytes, must be %llu", tag,
                        (unsigned long long) section->size, (unsigned long long) size);
    *out = section;
    return ANX_OK;
}

/* Copies the arrays out of sections that go away. */
static anx_status
copy_arrays(struct row_store *store, size_t n, const uint8_t *labels, const uint8_t *rows,
            const uint8_t *norms, anx_error *err)
{
    anx_status st = n ? store_reserve(store, n, err) : ANX_OK;

    if (st != ANX_OK || n == 0)
        return st;
    store->n = n;
    memcpy(store->labels, labels, n * sizeof(*store->labels));
    memcpy(store->rows, rows, n * store->space.row_size);
    if (norms)
        memcpy(store->inverse_norms, norms, n * sizeof(*store->inverse_norms));
    st = rows_check(store->space.scalar, store->space.dim, n, store->rows, err);
    if (st != ANX_OK) {
        anx_error_context(err, "section \"rows\"");
        return ANX_E_CORRUPT;
    }
    return ANX_OK;
}

/* Sections of a mapping are 64-byte aligned and outlive the index. */
static void
borrow_arrays(struct row_store *store, size_t n, const uint8_t *labels, const uint8_t *rows,
              const uint8_t *norms)
{
    store->is_mapped = true;
    store->n = store->capacity = n;
    store->labels = (uint64_t *) (void *) labels;
    store->rows = (uint8_t *) rows;
    store->inverse_norms = (float *) (void *) norms;
}

anx_status
store_restore(struct row_store *store, const struct section_set *set, anx_error *err)
{
    const struct section_in *labels = section_find(set, "labels"), *rows = NULL, *norms = NULL;
    size_t n;
    anx_status st;

    if (!labels)
        return anx_fail(err, ANX_E_CORRUPT, "section \"labels\" is missing");
    if (labels->size % sizeof(uint64_t) || labels->size / sizeof(uint64_t) > SLOT_MAX)
        return anx_fail(err, ANX_E_CORRUPT, "section \"labels\" has %llu bytes, must be 8 per row",
                        (unsigned long long) labels->size);
    n = (size_t) (labels->size / sizeof(uint64_t));
    st = section_require(set, "rows", (uint64_t) n * store->space.row_size, &rows, err);
    if (st == ANX_OK && store->space.metric == ANX_METRIC_COSINE)
        st = section_require(set, "norms", n * sizeof(float), &norms, err);
    if (st != ANX_OK)
        return st;
    if (set->is_mapped)
        borrow_arrays(store, n, labels->data, rows->data, norms ? norms->data : NULL);
    else
        st = copy_arrays(store, n, labels->data, rows->data, norms ? norms->data : NULL, err);
    return st == ANX_OK ? store_map_labels(store, err) : st;
}
