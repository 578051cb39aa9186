/* The bytes of a fuzz target as a source. */
#ifndef ANX_FUZZ_INPUT_H
#define ANX_FUZZ_INPUT_H

#include <stdint.h>
#include <string.h>

#include "annex/io.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct input {
    const uint8_t *data;
    size_t size, at;
};

static inline anx_status
read_input(void *context, void *bytes, size_t size, size_t *got, anx_error *err)
{
    struct input *in = context;

    (void) err;
    *got = size < in->size - in->at ? size : in->size - in->at;
    memcpy(bytes, in->data + in->at, *got);
    in->at += *got;
    return ANX_OK;
}

#endif
