/* Every invariant of a graph, for tests, tools and SQL. */
#ifndef ANX_ANN_HNSW_CHECK_H
#define ANX_ANN_HNSW_CHECK_H

#include "ann/hnsw/hnsw_int.h"

/* ANX_E_CORRUPT names the slot and the broken rule. No writer meanwhile. */
anx_status hnsw_check(const anx_index *index, anx_error *err);

#endif
