/* Proofs of a shared secret, and the running sum of an index. README.md, "Security", argues the first. */
#include <string.h>

#include <openssl/crypto.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <openssl/rand.h>
#include <xxhash.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "indexing/wire.h"

#define LABEL_SIZE 32

anx_status
anx_wire_prove(anx_wire_role role, const anx_wire_claim *claim, uint8_t proof[ANX_WIRE_PROOF_SIZE],
               anx_error *err)
{
    static const char labels[][LABEL_SIZE] = {
        [ANX_WIRE_PROVE_CLIENT] = "annex indexing 2: client",
        [ANX_WIRE_PROVE_SERVER] = "annex indexing 2: server",
        [ANX_WIRE_PROVE_RESUME] = "annex indexing 2: resume",
    };
    uint8_t text[LABEL_SIZE + 2 * ANX_WIRE_NONCE_SIZE + ANX_WIRE_SESSION_SIZE + ANX_WIRE_BINDING_SIZE + 8];
    uint8_t *at = text;
    unsigned size = 0;
    bool done;

    /* Every field has a fixed size, so no two claims make the same text. */
    memcpy(at, labels[role], LABEL_SIZE);
    at += LABEL_SIZE;
    memcpy(at, claim->server_nonce, ANX_WIRE_NONCE_SIZE);
    at += ANX_WIRE_NONCE_SIZE;
    memcpy(at, claim->client_nonce, ANX_WIRE_NONCE_SIZE);
    at += ANX_WIRE_NONCE_SIZE;
    memcpy(at, claim->session, ANX_WIRE_SESSION_SIZE);
    at += ANX_WIRE_SESSION_SIZE;
    memcpy(at, claim->binding, ANX_WIRE_BINDING_SIZE);
    at += ANX_WIRE_BINDING_SIZE;
    anx_store_le(at, claim->offset, 8);
    done = claim->secret_size <= ANX_WIRE_TOKEN_MAX &&
           HMAC(EVP_sha256(), claim->secret, (int) claim->secret_size, text, sizeof(text), proof, &size) &&
           size == ANX_WIRE_PROOF_SIZE;
    ERR_clear_error();
    if (!done)
        return anx_fail(err, ANX_E_INTERNAL, "could not compute a proof of the token");
    return ANX_OK;
}

bool
anx_wire_equal(const void *a, const void *b, size_t size)
{
    return CRYPTO_memcmp(a, b, size) == 0;
}

anx_status
anx_wire_random(void *bytes, size_t size, anx_error *err)
{
    bool done = RAND_bytes(bytes, (int) size) == 1;

    ERR_clear_error();
    return done ? ANX_OK : anx_fail(err, ANX_E_INTERNAL, "could not get random numbers");
}

void
anx_wire_forget(void *secret, size_t size)
{
    if (secret && size)
        OPENSSL_cleanse(secret, size);
}

struct anx_wire_sum {
    const anx_alloc *alloc; /* borrowed */
    XXH3_state_t *state;    /* owned; made by libxxhash, which keeps its size and alignment to itself */
};

anx_wire_sum *
anx_wire_sum_create(const anx_alloc *alloc)
{
    anx_wire_sum *sum = anx_alloc_zeroed(alloc, 1, sizeof(*sum));

    if (!sum)
        return NULL;
    sum->alloc = alloc;
    sum->state = XXH3_createState();
    if (!sum->state) {
        anx_free(alloc, sum);
        return NULL;
    }
    XXH3_128bits_reset(sum->state);
    return sum;
}

void
anx_wire_sum_destroy(anx_wire_sum *sum)
{
    if (!sum)
        return;
    XXH3_freeState(sum->state);
    anx_free(sum->alloc, sum);
}

void
anx_wire_sum_update(anx_wire_sum *sum, const void *bytes, size_t size)
{
    if (size)
        XXH3_128bits_update(sum->state, bytes, size);
}

void
anx_wire_sum_digest(const anx_wire_sum *sum, uint8_t digest[ANX_WIRE_SUM_SIZE])
{
    XXH128_hash_t value = XXH3_128bits_digest(sum->state);

    anx_store_le(digest, value.low64, 8);
    anx_store_le(digest + 8, value.high64, 8);
}
