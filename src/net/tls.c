/* See tls.h. */
#include "net/tls.h"

#include <errno.h>
#include <limits.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>

#include <openssl/err.h>
#include <openssl/ssl.h>

#include "base/alloc.h"
#include "base/error.h"

struct anx_tls {
    pthread_mutex_t lock; /* of ctx */
    SSL_CTX *ctx;         /* owned: one reference */
    char *cert, *key;     /* owned; immutable */
};

static char *
copy_text(const char *text)
{
    size_t size = strlen(text) + 1;
    char *copy = anx_alloc_bytes(NULL, size);

    if (copy)
        memcpy(copy, text, size);
    return copy;
}

/* The innermost reason that OpenSSL noted, and an empty queue. */
static const char *
take_reason(void)
{
    unsigned long code = ERR_peek_last_error();
    const char *reason = code ? ERR_reason_error_string(code) : NULL;

    ERR_clear_error();
    return reason ? reason : "unknown cause";
}

/* OpenSSL calls a missing file "system lib"; the system says it better. */
static anx_status
check_readable(const char *what, const char *path, anx_error *err)
{
    FILE *file = fopen(path, "rb");
    char byte;
    anx_status st = ANX_OK;

    if (!file)
        return anx_fail(err, ANX_E_TLS, "could not read the %s \"%s\": %s", what, path, strerror(errno));
    if (fread(&byte, 1, 1, file) != 1) /* a folder opens, and fails here */
        st = anx_fail(err, ANX_E_TLS, "could not read the %s \"%s\": %s", what, path,
                      ferror(file) ? strerror(errno) : "the file is empty");
    fclose(file);
    return st;
}

/* A pem_password_cb: notes that a passphrase was asked for. */
static int
refuse_passphrase(char *text, int size, int is_writing, void *asked)
{
    (void) text, (void) size, (void) is_writing;
    *(bool *) asked = true;
    return -1;
}

static anx_status
load_key(SSL_CTX *ctx, const char *cert, const char *key, anx_error *err)
{
    bool wants_passphrase = false;
    int is_loaded;

    SSL_CTX_set_default_passwd_cb(ctx, refuse_passphrase);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, &wants_passphrase);
    is_loaded = SSL_CTX_use_PrivateKey_file(ctx, key, SSL_FILETYPE_PEM);
    SSL_CTX_set_default_passwd_cb_userdata(ctx, NULL);
    SSL_CTX_set_default_passwd_cb(ctx, NULL);
    if (is_loaded == 1 && SSL_CTX_check_private_key(ctx) == 1)
        return ANX_OK;
    if (wants_passphrase) {
        ERR_clear_error();
        return anx_fail(err, ANX_E_TLS,
                        "the private key \"%s\" needs a passphrase, which cannot be asked for", key);
    }
    if (ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_VALUES_MISMATCH ||
        ERR_GET_REASON(ERR_peek_last_error()) == X509_R_KEY_TYPE_MISMATCH) {
        ERR_clear_error();
        return anx_fail(err, ANX_E_TLS, "the private key \"%s\" does not belong to the certificate \"%s\"",
                        key, cert);
    }
    return anx_fail(err, ANX_E_TLS, "no usable private key in \"%s\": %s", key, take_reason());
}

static anx_status
load(const char *cert, const char *key, SSL_CTX **out, anx_error *err)
{
    SSL_CTX *ctx;
    anx_status st = check_readable("certificate", cert, err);

    if (st == ANX_OK)
        st = check_readable("private key", key, err);
    if (st != ANX_OK)
        return st;
    ERR_clear_error();
    ctx = SSL_CTX_new(TLS_server_method());
    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1)
        st = anx_fail(err, ANX_E_TLS, "could not set up TLS: %s", take_reason());
    if (st == ANX_OK && SSL_CTX_use_certificate_chain_file(ctx, cert) != 1)
        st = anx_fail(err, ANX_E_TLS, "no usable certificate in \"%s\": %s", cert, take_reason());
    if (st == ANX_OK)
        st = load_key(ctx, cert, key, err);
    if (st != ANX_OK) {
        SSL_CTX_free(ctx);
        return st;
    }
    /* Sessions are one long connection each: nothing is ever resumed, so no tickets and no cache. */
    SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
    SSL_CTX_set_num_tickets(ctx, 0);
    SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_TICKET | SSL_OP_NO_COMPRESSION |
                                 SSL_OP_CIPHER_SERVER_PREFERENCE);
    *out = ctx;
    return ANX_OK;
}

anx_status
anx_tls_open(const char *cert, const char *key, anx_tls **out, anx_error *err)
{
    anx_tls *tls = anx_alloc_zeroed(NULL, 1, sizeof(*tls));
    anx_status st;

    *out = NULL;
    if (!tls)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a TLS identity");
    pthread_mutex_init(&tls->lock, NULL);
    tls->cert = copy_text(cert);
    tls->key = copy_text(key);
    if (!tls->cert || !tls->key)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a TLS identity");
    else
        st = load(cert, key, &tls->ctx, err);
    if (st != ANX_OK) {
        anx_tls_close(tls);
        return st;
    }
    *out = tls;
    return ANX_OK;
}

void
anx_tls_close(anx_tls *tls)
{
    if (!tls)
        return;
    SSL_CTX_free(tls->ctx);
    pthread_mutex_destroy(&tls->lock);
    anx_free(NULL, tls->cert);
    anx_free(NULL, tls->key);
    anx_free(NULL, tls);
}

anx_status
anx_tls_reload(anx_tls *tls, anx_error *err)
{
    SSL_CTX *fresh;
    SSL_CTX *old;
    anx_status st = load(tls->cert, tls->key, &fresh, err);

    if (st != ANX_OK)
        return st;
    pthread_mutex_lock(&tls->lock);
    old = tls->ctx;
    tls->ctx = fresh;
    pthread_mutex_unlock(&tls->lock);
    SSL_CTX_free(old); /* open connections hold their own references */
    return ANX_OK;
}

SSL_CTX *
anx_tls_acquire(anx_tls *tls)
{
    SSL_CTX *ctx;

    pthread_mutex_lock(&tls->lock);
    ctx = tls->ctx;
    SSL_CTX_up_ref(ctx);
    pthread_mutex_unlock(&tls->lock);
    return ctx;
}

long
anx_tls_seconds_left(anx_tls *tls)
{
    SSL_CTX *ctx = anx_tls_acquire(tls);
    const X509 *certificate = SSL_CTX_get0_certificate(ctx);
    int days = 0;
    int seconds = 0;
    long left = LONG_MAX;

    if (certificate && ASN1_TIME_diff(&days, &seconds, NULL, X509_get0_notAfter(certificate)) == 1)
        left = (long) days * 86400 + seconds;
    SSL_CTX_free(ctx);
    return left;
}
