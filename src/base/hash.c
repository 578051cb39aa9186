/* A thin face for libxxhash, so that one room knows which hash is in use. */
#include "base/hash.h"

#include <xxhash.h>

#include "base/alloc.h"

struct anx_hasher {
    XXH3_state_t *state; /* owned; libxxhash keeps its alignment and its size to itself */
};

uint64_t
anx_hash(const void *bytes, size_t size)
{
    return XXH3_64bits(size ? bytes : "", size);
}

anx_hasher *
anx_hasher_create(void)
{
    anx_hasher *hasher = anx_alloc_zeroed(NULL, 1, sizeof(*hasher));

    if (!hasher)
        return NULL;
    hasher->state = XXH3_createState();
    if (!hasher->state) {
        anx_free(NULL, hasher);
        return NULL;
    }
    anx_hasher_reset(hasher);
    return hasher;
}

void
anx_hasher_destroy(anx_hasher *hasher)
{
    if (!hasher)
        return;
    XXH3_freeState(hasher->state);
    anx_free(NULL, hasher);
}

void
anx_hasher_reset(anx_hasher *hasher)
{
    XXH3_64bits_reset(hasher->state);
}

void
anx_hasher_update(anx_hasher *hasher, const void *bytes, size_t size)
{
    if (size > 0)
        XXH3_64bits_update(hasher->state, bytes, size);
}

uint64_t
anx_hasher_digest(const anx_hasher *hasher)
{
    return XXH3_64bits_digest(hasher->state);
}
