/* The exact index in files: the sections of its row store, nothing else. */
#include "ann/flat/flat_int.h"
#include "ann/store_file.h"

static anx_status
flat_sections(const anx_index *index, struct section_list *list, anx_error *err)
{
    (void) err;
    store_sections(&((const struct flat *) index)->store, list);
    return ANX_OK;
}

static anx_status
flat_restore(const anx_index_params *params, const struct section_set *set, anx_index **out, anx_error *err)
{
    anx_index *index = NULL;
    anx_status st = flat_create(params, anx_kernels_best(), &index, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    st = store_restore(&((struct flat *) index)->store, set, err);
    if (st != ANX_OK) {
        flat_destroy(index);
        return st;
    }
    index->is_mapped = set->is_mapped;
    *out = index;
    return ANX_OK;
}

const struct index_file_ops anx_flat_file_ops = { .sections = flat_sections, .restore = flat_restore };
