/* Postings: the low two bits of the word say what it is. Arrays grow by doubling up to ARRAY_MAX rows, then
 * they become bitmaps; a bitmap stays one until it is empty, so that a value that hovers at the limit does
 * not flip. */
#include "db/postings.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"

enum { TAG_NONE, TAG_ROW, TAG_ARRAY, TAG_BITMAP };
#define TAG_MASK 3u
/* 64 rows are 256 bytes: moving half of them costs less than a bitmap's search. Taste. */
#define ARRAY_MAX 64
#define ARRAY_FIRST 4

struct row_array {
    uint32_t n, capacity;
    uint32_t rows[];
};

static unsigned
tag_of(postings p)
{
    return (unsigned) (p & TAG_MASK);
}

static uint32_t
row_of(postings p)
{
    return (uint32_t) (p >> 32);
}

static struct row_array *
array_of(postings p)
{
    return (struct row_array *) (uintptr_t) (p & ~(uint64_t) TAG_MASK);
}

static roaring_bitmap_t *
bitmap_of(postings p)
{
    return (roaring_bitmap_t *) (uintptr_t) (p & ~(uint64_t) TAG_MASK);
}

static postings
of_row(uint32_t row)
{
    return (uint64_t) row << 32 | TAG_ROW;
}

static postings
of_pointer(const void *pointer, unsigned tag)
{
    return (uint64_t) (uintptr_t) pointer | tag;
}

/* Where the row is, or would be. */
static uint32_t
array_find(const struct row_array *array, uint32_t row)
{
    uint32_t low = 0, high = array->n;

    if (high > 0 && array->rows[high - 1] < row)
        return high; /* ascending row ids are the rule */
    while (low < high) {
        uint32_t mid = (low + high) / 2;

        if (array->rows[mid] < row)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

static struct row_array *
array_resize(struct row_array *old, uint32_t capacity)
{
    size_t words = sizeof(struct row_array) / sizeof(uint32_t) + capacity;
    struct row_array *array = anx_realloc_array(NULL, old, words, sizeof(uint32_t));

    if (!array)
        return NULL;
    if (!old)
        array->n = 0;
    array->capacity = capacity;
    return array;
}

static anx_status
add_to_row(postings *p, uint32_t row, anx_error *err)
{
    struct row_array *array = array_resize(NULL, ARRAY_FIRST);
    uint32_t other = row_of(*p);

    if (!array)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the rows of a value");
    array->n = 2;
    array->rows[0] = other < row ? other : row;
    array->rows[1] = other < row ? row : other;
    *p = of_pointer(array, TAG_ARRAY);
    return ANX_OK;
}

static anx_status
add_to_full_array(postings *p, uint32_t row, anx_error *err)
{
    struct row_array *array = array_of(*p);
    roaring_bitmap_t *bitmap = roaring_bitmap_of_ptr(array->n, array->rows);

    if (!bitmap)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the rows of a value");
    roaring_bitmap_add(bitmap, row);
    anx_free(NULL, array);
    *p = of_pointer(bitmap, TAG_BITMAP);
    return ANX_OK;
}

static anx_status
add_to_array(postings *p, uint32_t row, bool *added, anx_error *err)
{
    struct row_array *array = array_of(*p);
    uint32_t at = array_find(array, row);

    *added = at == array->n || array->rows[at] != row;
    if (!*added)
        return ANX_OK;
    if (array->n == ARRAY_MAX)
        return add_to_full_array(p, row, err);
    if (array->n == array->capacity) {
        array = array_resize(array, 2 * array->capacity);
        if (!array)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate the rows of a value");
        *p = of_pointer(array, TAG_ARRAY);
    }
    memmove(array->rows + at + 1, array->rows + at, (array->n - at) * sizeof(*array->rows));
    array->rows[at] = row;
    array->n++;
    return ANX_OK;
}

anx_status
postings_add(postings *p, uint32_t row, bool *added, anx_error *err)
{
    bool ignored;

    if (!added)
        added = &ignored;
    switch (tag_of(*p)) {
    case TAG_NONE:
        *p = of_row(row);
        *added = true;
        return ANX_OK;
    case TAG_ROW:
        *added = row_of(*p) != row;
        return *added ? add_to_row(p, row, err) : ANX_OK;
    case TAG_ARRAY:
        return add_to_array(p, row, added, err);
    default:
        *added = roaring_bitmap_add_checked(bitmap_of(*p), row);
        return ANX_OK;
    }
}

static void
remove_from_array(postings *p, uint32_t row)
{
    struct row_array *array = array_of(*p);
    uint32_t at = array_find(array, row);

    if (at == array->n || array->rows[at] != row)
        return;
    array->n--;
    memmove(array->rows + at, array->rows + at + 1, (array->n - at) * sizeof(*array->rows));
    if (array->n == 1) {
        *p = of_row(array->rows[0]);
        anx_free(NULL, array);
    }
}

void
postings_remove(postings *p, uint32_t row)
{
    switch (tag_of(*p)) {
    case TAG_NONE:
        break;
    case TAG_ROW:
        if (row_of(*p) == row)
            *p = 0;
        break;
    case TAG_ARRAY:
        remove_from_array(p, row);
        break;
    default:
        roaring_bitmap_remove(bitmap_of(*p), row);
        if (roaring_bitmap_is_empty(bitmap_of(*p)))
            postings_free(p);
        break;
    }
}

void
postings_free(postings *p)
{
    if (tag_of(*p) == TAG_ARRAY)
        anx_free(NULL, array_of(*p));
    else if (tag_of(*p) == TAG_BITMAP)
        roaring_bitmap_free(bitmap_of(*p));
    *p = 0;
}

size_t
postings_count(postings p)
{
    switch (tag_of(p)) {
    case TAG_NONE:
        return 0;
    case TAG_ROW:
        return 1;
    case TAG_ARRAY:
        return array_of(p)->n;
    default:
        return roaring_bitmap_get_cardinality(bitmap_of(p));
    }
}

bool
postings_has(postings p, uint32_t row)
{
    uint32_t at;

    switch (tag_of(p)) {
    case TAG_NONE:
        return false;
    case TAG_ROW:
        return row_of(p) == row;
    case TAG_ARRAY:
        at = array_find(array_of(p), row);
        return at < array_of(p)->n && array_of(p)->rows[at] == row;
    default:
        return roaring_bitmap_contains(bitmap_of(p), row);
    }
}

uint32_t
postings_first(postings p)
{
    switch (tag_of(p)) {
    case TAG_ROW:
        return row_of(p);
    case TAG_ARRAY:
        return array_of(p)->rows[0];
    case TAG_BITMAP:
        return roaring_bitmap_minimum(bitmap_of(p));
    default:
        return UINT32_MAX;
    }
}

void
postings_or(postings p, roaring_bitmap_t *out)
{
    switch (tag_of(p)) {
    case TAG_NONE:
        break;
    case TAG_ROW:
        roaring_bitmap_add(out, row_of(p));
        break;
    case TAG_ARRAY:
        roaring_bitmap_add_many(out, array_of(p)->n, array_of(p)->rows);
        break;
    default:
        roaring_bitmap_or_inplace(out, bitmap_of(p));
        break;
    }
}

bool
postings_walk_bitmap(const roaring_bitmap_t *bitmap, bool is_descending, postings_row_fn each, void *context)
{
    roaring_uint32_iterator_t it;

    if (is_descending)
        roaring_init_iterator_last(bitmap, &it);
    else
        roaring_init_iterator(bitmap, &it);
    while (it.has_value) {
        if (!each(context, it.current_value))
            return false;
        if (is_descending)
            roaring_previous_uint32_iterator(&it);
        else
            roaring_advance_uint32_iterator(&it);
    }
    return true;
}

bool
postings_walk(postings p, bool is_descending, postings_row_fn each, void *context)
{
    const struct row_array *array;

    switch (tag_of(p)) {
    case TAG_NONE:
        return true;
    case TAG_ROW:
        return each(context, row_of(p));
    case TAG_ARRAY:
        array = array_of(p);
        for (uint32_t i = 0; i < array->n; i++)
            if (!each(context, array->rows[is_descending ? array->n - 1 - i : i]))
                return false;
        return true;
    default:
        return postings_walk_bitmap(bitmap_of(p), is_descending, each, context);
    }
}

size_t
postings_memory(postings p)
{
    if (tag_of(p) == TAG_ARRAY)
        return sizeof(struct row_array) + array_of(p)->capacity * sizeof(uint32_t);
    return tag_of(p) == TAG_BITMAP ? roaring_bitmap_size_in_bytes(bitmap_of(p)) : 0;
}

bool
postings_check(postings p)
{
    const struct row_array *array;

    if (tag_of(p) == TAG_BITMAP)
        return !roaring_bitmap_is_empty(bitmap_of(p));
    if (tag_of(p) != TAG_ARRAY)
        return true;
    array = array_of(p);
    if (array->n < 2 || array->n > array->capacity || array->capacity > ARRAY_MAX)
        return false;
    for (uint32_t i = 1; i < array->n; i++)
        if (array->rows[i - 1] >= array->rows[i])
            return false;
    return true;
}
