/* A hit list as a min-heap: what iterators draw from. Nearest first, ties by smaller label. */
#ifndef ANX_ANN_HIT_HEAP_H
#define ANX_ANN_HIT_HEAP_H

#include "ann/ann_int.h"

/* Makes a heap of the whole list, of which the first n_heap hits already are one. Costs O(added) for many
 * added hits and O(added * log n) for few. */
void hit_heap_extend(anx_hit_list *list, size_t n_heap);
/* Takes the nearest hit; false when there is none. */
bool hit_heap_pop(anx_hit_list *list, float *distance, uint64_t *label);

#endif
