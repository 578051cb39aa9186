/* A hit list as a min-heap; see the header. */
#include "ann/hit_heap.h"

static void
place(anx_hit_list *list, size_t at, float distance, uint64_t label)
{
    list->distances[at] = distance;
    list->labels[at] = label;
}

static bool
is_before(const anx_hit_list *list, size_t a, size_t b)
{
    return hit_before(list->distances[a], list->labels[a], list->distances[b], list->labels[b]);
}

static void
sink(anx_hit_list *list, size_t at)
{
    float distance = list->distances[at];
    uint64_t label = list->labels[at];

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= list->n)
            break;
        if (child + 1 < list->n && is_before(list, child + 1, child))
            child++;
        if (!hit_before(list->distances[child], list->labels[child], distance, label))
            break;
        place(list, at, list->distances[child], list->labels[child]);
        at = child;
    }
    place(list, at, distance, label);
}

static void
swim(anx_hit_list *list, size_t at)
{
    float distance = list->distances[at];
    uint64_t label = list->labels[at];

    while (at > 0) {
        size_t parent = (at - 1) / 2;

        if (!hit_before(distance, label, list->distances[parent], list->labels[parent]))
            break;
        place(list, at, list->distances[parent], list->labels[parent]);
        at = parent;
    }
    place(list, at, distance, label);
}

void
hit_heap_extend(anx_hit_list *list, size_t n_heap)
{
    if (list->n - n_heap > n_heap / 8) { /* about where rebuilding from the bottom becomes cheaper */
        for (size_t at = list->n / 2; at-- > 0;)
            sink(list, at);
        return;
    }
    for (size_t at = n_heap; at < list->n; at++)
        swim(list, at);
}

bool
hit_heap_pop(anx_hit_list *list, float *distance, uint64_t *label)
{
    if (list->n == 0)
        return false;
    *distance = list->distances[0];
    *label = list->labels[0];
    list->n--;
    if (list->n) {
        place(list, 0, list->distances[list->n], list->labels[list->n]);
        sink(list, 0);
    }
    return true;
}
