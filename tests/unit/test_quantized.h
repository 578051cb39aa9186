/* Waiting for quantization in the background. */
#ifndef ANX_TEST_QUANTIZED_H
#define ANX_TEST_QUANTIZED_H

#include "test_life.h"

#include <time.h>

#include "base/clock.h"
#include "db/ns_int.h"
#include "db/vector_int.h"

static inline bool
is_quantized(struct life *life, const char *in, const char *index)
{
    struct vector_numbers numbers = { 0 };
    struct ns *ns;

    ok(ns_acquire(life->db, anx_text_of(in), &ns, &failure));
    pthread_rwlock_rdlock(&ns->data_lock);
    vector_get_numbers(ns_index_find(ns, anx_text_of(index))->vector, &numbers);
    pthread_rwlock_unlock(&ns->data_lock);
    ns_release(ns);
    return numbers.is_quantized;
}

static inline void
wait_until_quantized(struct life *life, const char *in, const char *index)
{
    const uint64_t seconds = 300, end = anx_clock_ns() + seconds * 1000000000u;

    while (!is_quantized(life, in, index)) {
        struct timespec tick = { .tv_nsec = 5000000 };

        if (anx_clock_ns() > end)
            fail_msg("%s was not quantized within %d seconds", index, (int) seconds);
        nanosleep(&tick, NULL);
    }
}

#endif
