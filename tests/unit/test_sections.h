/* Sections of an index in memory, as a file would hold them: saved, compared, damaged. */
#ifndef ANX_TEST_SECTIONS_H
#define ANX_TEST_SECTIONS_H

#include "test_util.h"

#include <string.h>

#include "ann/file_int.h"
#include "base/alloc.h"
#include "base/rng.h"

struct sections {
    struct section_in section[SECTION_MAX];
    struct section_set set;
};

struct section_buffer {
    uint8_t *at, *end;
};

static inline anx_status
section_buffer_write(void *context, const void *bytes, size_t size, anx_error *err)
{
    struct section_buffer *buffer = context;

    (void) err;
    assert_true(size <= (size_t) (buffer->end - buffer->at));
    if (size)
        memcpy(buffer->at, bytes, size);
    buffer->at += size;
    return ANX_OK;
}

/* Every section must emit exactly the bytes it announced. */
static inline void
sections_save(struct sections *sections, const anx_index *index, const struct index_file_ops *ops)
{
    struct section_list list = { .n = 0 };

    assert_int_equal(ops->sections(index, &list, NULL), ANX_OK);
    for (size_t i = 0; i < list.n; i++) {
        uint8_t *data = anx_alloc_aligned(NULL, 1, list.section[i].size + 1);
        struct section_buffer buffer = { .at = data, .end = data + list.section[i].size };
        anx_sink sink = { .context = &buffer, .write = section_buffer_write };

        assert_non_null(data);
        assert_int_equal(list.section[i].emit(list.section[i].context, &sink, NULL), ANX_OK);
        assert_ptr_equal(buffer.at, buffer.end);
        memcpy(sections->section[i].tag, list.section[i].tag, sizeof(list.section[i].tag));
        sections->section[i].data = data;
        sections->section[i].size = list.section[i].size;
    }
    sections->set = (struct section_set) { .section = sections->section, .n = list.n };
}

static inline void
sections_free(struct sections *sections)
{
    for (size_t i = 0; i < sections->set.n; i++)
        anx_free_aligned(NULL, (void *) (uintptr_t) sections->section[i].data);
}

/* Both answer the same to f32 queries [n][dim]. */
static inline void
sections_compare(const anx_index *a, const anx_index *b, const void *queries, size_t n, size_t dim)
{
    anx_search_params params = { .nprobe = 3 };
    size_t row_size = anx_row_size(anx_index_get_params(a)->scalar, dim);

    assert_int_equal(anx_index_count(a), anx_index_count(b));
    for (size_t q = 0; q < n; q++) {
        float da[10], db[10];
        uint64_t la[10], lb[10];
        anx_hits ha = { .distances = da, .labels = la }, hb = { .distances = db, .labels = lb };
        const uint8_t *query = (const uint8_t *) queries + q * row_size;

        assert_int_equal(anx_index_search(a, &params, 1, query, 10, &ha, NULL), ANX_OK);
        assert_int_equal(anx_index_search(b, &params, 1, query, 10, &hb, NULL), ANX_OK);
        assert_memory_equal(la, lb, sizeof(la));
        assert_memory_equal(da, db, sizeof(da));
    }
}

/* One try: a damaged set is refused, or gives an index that can be searched and freed. */
static inline void
sections_try(const struct section_set *set, const anx_index *index, const struct index_file_ops *ops,
             const void *query)
{
    anx_search_params params = { .nprobe = 3 };
    anx_index_params p = *anx_index_get_params(index);
    float distances[10];
    uint64_t labels[10];
    anx_hits hits = { .distances = distances, .labels = labels };
    anx_error err;
    anx_index *back;

    if (ops->restore(&p, set, &back, &err) != ANX_OK) {
        assert_null(back);
        assert_true(err.status == ANX_E_CORRUPT || err.status == ANX_E_VERSION);
        return;
    }
    assert_int_equal(anx_index_search(back, &params, 1, query, 10, &hits, NULL), ANX_OK);
    anx_index_destroy(back);
}

/* Missing sections, cut and grown ones, and flipped bits: no crash, no read beyond a section (the sanitizers
 * look). */
static inline void
sections_damage(struct sections *sections, const anx_index *index, const struct index_file_ops *ops,
                const void *query)
{
    anx_rng rng = anx_rng_seed(77);

    for (size_t i = 0; i < sections->set.n; i++) {
        struct section_in kept = sections->section[i];

        sections->section[i].tag[0] = '?';
        sections_try(&sections->set, index, ops, query);
        sections->section[i] = kept;
        if (kept.size == 0)
            continue;
        sections->section[i].size = kept.size - 1;
        sections_try(&sections->set, index, ops, query);
        sections->section[i].size = kept.size / 2;
        sections_try(&sections->set, index, ops, query);
        sections->section[i] = kept;
        for (size_t j = 0; j < 60; j++) {
            uint8_t *byte = (uint8_t *) (uintptr_t) kept.data + anx_rng_next(&rng) % kept.size;
            uint8_t before = *byte;

            *byte = (uint8_t) (*byte ^ 1u << anx_rng_below(&rng, 8));
            sections_try(&sections->set, index, ops, query);
            *byte = before;
        }
    }
}

#endif
