/* The kinds of index there are. A new kind is a folder that exports its two tables, and a line in each list
 * here. */
#include "ann/ann_int.h"
#include "ann/file_int.h"
#include "base/error.h"

static const struct index_ops *const kinds[] = { &anx_flat_ops, &anx_hnsw_ops, &anx_ivf_ops };

static const struct {
    anx_index_kind kind;
    const struct index_file_ops *ops;
} file_kinds[] = {
    { ANX_INDEX_FLAT, &anx_flat_file_ops },
    { ANX_INDEX_HNSW, &anx_hnsw_file_ops },
    { ANX_INDEX_IVF, &anx_ivf_file_ops },
};

const struct index_ops *
index_ops_find(anx_index_kind kind)
{
    for (size_t i = 0; i < ANX_COUNT_OF(kinds); i++)
        if (kinds[i]->kind == kind)
            return kinds[i];
    return NULL;
}

const struct index_file_ops *
index_file_ops_find(anx_index_kind kind)
{
    for (size_t i = 0; i < ANX_COUNT_OF(file_kinds); i++)
        if (file_kinds[i].kind == kind)
            return file_kinds[i].ops;
    return NULL;
}
