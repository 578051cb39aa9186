/* Fuzzing does not guess the sums of version 2 frames of external indexing: this makes them right, so that
 * what lies behind them is reached. */
#ifndef ANX_FUZZ_WIRE_REPAIR_H
#define ANX_FUZZ_WIRE_REPAIR_H

#include "base/bytes.h"
#include "indexing/wire.h"

/* The frames from `at` on, as long as their lengths make sense. */
static inline void
wire_repair(uint8_t *p, size_t size, size_t at)
{
    while (at <= size && size - at >= ANX_WIRE_HEAD_SIZE + ANX_WIRE_TAIL_SIZE) {
        size_t n = (size_t) anx_load_le(p + at, 4);

        if (n > size - at - ANX_WIRE_HEAD_SIZE - ANX_WIRE_TAIL_SIZE)
            n = size - at - ANX_WIRE_HEAD_SIZE - ANX_WIRE_TAIL_SIZE;
        anx_wire_seal(p + at, (enum anx_wire_type) p[at + 4], n);
        at += ANX_WIRE_HEAD_SIZE + n + ANX_WIRE_TAIL_SIZE;
    }
}

#endif
