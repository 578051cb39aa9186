/* The TLS identity of a server: certificate chain and private key from PEM files, as one context for all its
 * listeners, which can be replaced while connections are open.
 *
 *     anx_tls_open("/etc/annex/cert.pem", "/etc/annex/key.pem", &tls, &err);
 *     ctx = anx_tls_acquire(tls);      per connection; SSL_CTX_free when it is over
 *     anx_tls_reload(tls, &err);       on SIGHUP: new connections see the new files
 *
 * TLS 1.2 and 1.3, no client certificates, no renegotiation. Keys in any PEM form that OpenSSL reads (PKCS#8,
 * PKCS#1, SEC1); a key with a passphrase is refused, since nobody is there to type it.
 * Threads: acquire and reload may run at once. */
#ifndef ANX_NET_TLS_H
#define ANX_NET_TLS_H

#include "annex/status.h"

typedef struct anx_tls anx_tls;
typedef struct ssl_ctx_st SSL_CTX; /* as in openssl/types.h */

/* Both files are read now. Errors (ANX_E_TLS) name the file and the cause: missing, unreadable, no
 * certificate in it, no key in it, key with a passphrase, key of another certificate. On failure *out is
 * NULL. */
ANX_NODISCARD anx_status anx_tls_open(const char *cert, const char *key, anx_tls **out, anx_error *err);
void anx_tls_close(anx_tls *tls); /* NULL is fine; acquired contexts live on */
/* Reads the files again. On failure the old identity stays in use. */
ANX_NODISCARD anx_status anx_tls_reload(anx_tls *tls, anx_error *err);
/* A reference to the context in force; the caller frees it with SSL_CTX_free. */
SSL_CTX *anx_tls_acquire(anx_tls *tls);
/* Seconds until the certificate in force expires, negative when it has. */
long anx_tls_seconds_left(anx_tls *tls);

#endif
