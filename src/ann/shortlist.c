/* The n best of a stream; see the header. */
#include "ann/shortlist.h"

#include "base/alloc.h"

bool
shortlist_reset(struct shortlist *c, size_t wanted, const anx_alloc *alloc)
{
    size_t capacity = 2 * wanted + SHORTLIST_BLOCK;

    c->n = 0;
    c->wanted = wanted;
    c->bound = INT32_MAX;
    if (capacity > c->capacity) {
        anx_free(alloc, c->items);
        c->capacity = 0;
        c->items = anx_alloc_array(alloc, capacity, sizeof(*c->items));
        if (!c->items)
            return false;
    }
    c->capacity = capacity > c->capacity ? capacity : c->capacity;
    return true;
}

void
shortlist_fini(struct shortlist *c, const anx_alloc *alloc)
{
    anx_free(alloc, c->items);
    c->items = NULL;
    c->capacity = c->n = 0;
}

static void
swap(struct shortlisted *a, struct shortlisted *b)
{
    struct shortlisted t = *a;

    *a = *b;
    *b = t;
}

/* The middle of the first, the middle and the last key. */
static int32_t
pivot_of(const struct shortlisted *items, size_t low, size_t high)
{
    int32_t a = items[low].key, b = items[low + (high - low) / 2].key, c = items[high].key;

    if (a < b)
        return b < c ? b : a < c ? c : a;
    return a < c ? a : b < c ? c : b;
}

/* Quickselect (Hoare 1961): afterwards the `wanted` least stand in front. */
static void
partition(struct shortlisted *items, size_t n, size_t wanted)
{
    size_t low = 0, high = n - 1;

    while (low < high) {
        int32_t pivot = pivot_of(items, low, high);
        size_t i = low, j = high;

        while (i <= j) {
            while (items[i].key < pivot)
                i++;
            while (items[j].key > pivot)
                j--;
            if (i > j)
                break;
            swap(&items[i], &items[j]);
            i++;
            if (j == 0)
                break;
            j--;
        }
        if (wanted - 1 <= j)
            high = j;
        else if (wanted - 1 >= i)
            low = i;
        else
            return;
    }
}

void
shortlist_trim(struct shortlist *c)
{
    if (c->n <= c->wanted)
        return;
    partition(c->items, c->n, c->wanted);
    c->n = c->wanted;
    c->bound = c->items[0].key;
    for (size_t i = 1; i < c->n; i++)
        c->bound = c->items[i].key > c->bound ? c->items[i].key : c->bound;
}
