/* Fuzz target: replies of embedding services. The first two bytes say how many inputs were asked for and what
 * dimension is wanted; what is accepted has every float that it promises. */
#include <stdint.h>

#include "embed/wire.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    size_t n = size > 2 ? data[0] % 4 + 1u : 1;
    anx_arena *arena = anx_arena_create(NULL, 64 << 20);
    struct embed_vectors out[4];
    volatile float sum = 0;

    if (size > 2 && arena &&
        embed_reply_read((anx_text){ (const char *) data + 2, size - 2 }, n, data[1] % 20, arena, out,
                         NULL) == ANX_OK)
        for (size_t i = 0; i < n; i++)
            for (size_t j = 0; out[i].floats && j < (size_t) out[i].n * out[i].dim; j++)
                sum += out[i].floats[j];
    anx_arena_destroy(arena);
    return 0;
}
