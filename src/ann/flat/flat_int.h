/* The exact index, inside. */
#ifndef ANX_ANN_FLAT_INT_H
#define ANX_ANN_FLAT_INT_H

#include "ann/ann_int.h"
#include "ann/guard.h"
#include "ann/store.h"

struct flat {
    anx_index head;
    struct guard guard;
    struct row_store store; /* changed under guard_change, read under guard_read or guard_prepare */
};

ANX_NODISCARD anx_status flat_create(const anx_index_params *params, const anx_kernels *kernels,
                                     anx_index **out, anx_error *err);
void flat_destroy(anx_index *index);

#endif
