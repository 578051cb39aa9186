/* The bounds-checked reader: the input says which reads to try on itself; none may leave it, and failure
 * latches. */
#include <stdint.h>
#include <stdlib.h>

#include "base/bytes.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    anx_reader r = anx_reader_init(data, size);
    volatile uint64_t sum = 0;

    for (size_t i = 0; i < size; i++) {
        bool had_failed = r.failed;
        size_t n = data[i] == 0xff ? SIZE_MAX - i : data[i] % 9;
        const uint8_t *view = NULL;

        if (data[i] & 0x10)
            view = anx_read_view(&r, n);
        else if (n <= 8)
            sum += anx_read_le(&r, n);
        for (size_t j = 0; view && j < n; j++)
            sum += view[j];
        if (r.at > size || (had_failed && !r.failed) || (had_failed && view))
            abort();
    }
    return 0;
}
