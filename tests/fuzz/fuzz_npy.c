/* Fuzz target: vector files. The first byte picks the format, the rest is the file. Whatever is accepted is
 * read whole. */
#include <stdint.h>

#include "base/alloc.h"
#include "cli/dataset.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const enum anx_scalar scalars[] = { ANX_SCALAR_F32, ANX_SCALAR_F16, ANX_SCALAR_I8, ANX_SCALAR_U8,
                                               ANX_SCALAR_B1 };
    struct dataset set;
    int64_t number;

    if (size == 0 ||
        dataset_parse(data + 1, size - 1, (enum dataset_format)(data[0] % 4), &set, NULL) != ANX_OK)
        return 0;
    for (size_t s = 0; s < sizeof(scalars) / sizeof(scalars[0]); s++) {
        void *row = anx_alloc_bytes(NULL, anx_row_size(scalars[s], dataset_dim(&set, scalars[s])));

        /* what does not fit the kind is an answer too */
        for (size_t r = 0; row && r < set.rows && r < 64; r++)
            if (dataset_read(&set, scalars[s], r, 1, row, NULL) != ANX_OK)
                break;
        if (row && dataset_read(&set, scalars[s], set.rows - 1, 1, row, NULL) == ANX_E_INVALID)
            __builtin_trap(); /* the last row is always inside */
        anx_free(NULL, row);
    }
    dataset_integer(&set, set.rows - 1, set.dim - 1, &number);
    dataset_close(&set);
    return 0;
}
