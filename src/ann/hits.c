/* The k best of a stream, and lists of hits that grow. A hit is before another when its distance is smaller,
 * or equal with the smaller label. A distance that is not a number (rows so large that their products
 * overflow) counts as +infinity. */
#include <math.h>

#include "ann/ann_int.h"
#include "base/alloc.h"
#include "base/error.h"

void
top_k_init(struct top_k *top, size_t k, float *distances, uint64_t *labels)
{
    *top = (struct top_k) { .distances = distances, .labels = labels, .k = k };
}

/* Moves the hit at the root down to its place in a heap of n whose worst is on top. */
static void
sift_down(float *distances, uint64_t *labels, size_t n, float distance, uint64_t label)
{
    size_t at = 0;

    for (;;) {
        size_t child = 2 * at + 1;

        if (child >= n)
            break;
        if (child + 1 < n &&
            hit_before(distances[child], labels[child], distances[child + 1], labels[child + 1]))
            child++;
        if (!hit_before(distance, label, distances[child], labels[child]))
            break;
        distances[at] = distances[child];
        labels[at] = labels[child];
        at = child;
    }
    distances[at] = distance;
    labels[at] = label;
}

void
top_k_offer(struct top_k *top, float distance, uint64_t label)
{
    size_t at;

    if (isnan(distance))
        distance = INFINITY;
    if (top->n == top->k) {
        if (hit_before(distance, label, top->distances[0], top->labels[0]))
            sift_down(top->distances, top->labels, top->n, distance, label);
        return;
    }
    for (at = top->n++; at > 0;) {
        size_t parent = (at - 1) / 2;

        if (!hit_before(top->distances[parent], top->labels[parent], distance, label))
            break;
        top->distances[at] = top->distances[parent];
        top->labels[at] = top->labels[parent];
        at = parent;
    }
    top->distances[at] = distance;
    top->labels[at] = label;
}

float
top_k_bound(const struct top_k *top)
{
    return top->n < top->k ? INFINITY : top->distances[0];
}

/* Sorts a heap (worst on top) into ascending order. */
static void
heap_sort(float *distances, uint64_t *labels, size_t n)
{
    while (n > 1) {
        float distance = distances[n - 1];
        uint64_t label = labels[n - 1];

        n--;
        distances[n] = distances[0];
        labels[n] = labels[0];
        sift_down(distances, labels, n, distance, label);
    }
}

void
top_k_finish(struct top_k *top)
{
    heap_sort(top->distances, top->labels, top->n);
    for (size_t i = top->n; i < top->k; i++) {
        top->distances[i] = INFINITY;
        top->labels[i] = ANX_LABEL_NONE;
    }
}

/* Hit lists are the caller's and may outlive the index, so they are on the process heap. */
void
anx_hit_list_free(anx_hit_list *list)
{
    if (!list)
        return;
    anx_free(NULL, list->distances);
    anx_free(NULL, list->labels);
    *list = (anx_hit_list) { 0 };
}

static anx_status
hit_list_grow(anx_hit_list *list, anx_error *err)
{
    size_t capacity = list->capacity + list->capacity / 2 + 64;
    float *distances = anx_realloc_array(NULL, list->distances, capacity, sizeof(*distances));
    uint64_t *labels;

    if (!distances)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a list of %zu hits", capacity);
    list->distances = distances; /* capacity stays: the two arrays may differ, the smaller one counts */
    labels = anx_realloc_array(NULL, list->labels, capacity, sizeof(*labels));
    if (!labels)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a list of %zu hits", capacity);
    list->labels = labels;
    list->capacity = capacity;
    return ANX_OK;
}

anx_status
hit_list_push(anx_hit_list *list, float distance, uint64_t label, anx_error *err)
{
    if (list->n == list->capacity) {
        anx_status st = hit_list_grow(list, err);

        if (st != ANX_OK)
            return st;
    }
    list->distances[list->n] = isnan(distance) ? INFINITY : distance;
    list->labels[list->n] = label;
    list->n++;
    return ANX_OK;
}

void
hit_list_sort(anx_hit_list *list)
{
    struct top_k heap;

    /* Offering to the list's own storage is safe: the heap never holds more than what was read. */
    top_k_init(&heap, list->n, list->distances, list->labels);
    for (size_t i = 0; i < list->n; i++)
        top_k_offer(&heap, list->distances[i], list->labels[i]);
    heap_sort(list->distances, list->labels, list->n);
}
