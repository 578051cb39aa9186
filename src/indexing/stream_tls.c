/* TLS over the socket of a stream, by OpenSSL. OpenSSL reads and writes through a BIO of ours, because its
 * own socket BIO writes with write(), which raises SIGPIPE when the peer is gone; in somebody else's process
 * that signal is not ours to ignore. The method is made per connection: OpenSSL keeps no name for it, and
 * there is no global to free. */
#include <arpa/inet.h>
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>

#include <openssl/bio.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/alloc.h"
#include "base/error.h"
#include "indexing/stream_int.h"

struct stream_tls {
    SSL *ssl;           /* owned; holds the BIO */
    BIO_METHOD *method; /* owned */
    bool is_up;         /* the handshake is done and nothing failed since: a farewell makes sense */
};

/* ---------------------------------------------------------------------------------------------- the BIO
 * below
 */

static int
bio_write(BIO *bio, const char *bytes, int size)
{
    anx_stream *stream = BIO_get_data(bio);
    size_t n;

    BIO_clear_retry_flags(bio);
    if (size <= 0)
        return 0;
    if (anx_stream_plain_write(stream, bytes, (size_t) size, 0, &n, NULL) != ANX_OK)
        return -1;
    if (!n) {
        BIO_set_retry_write(bio);
        return -1;
    }
    return (int) n;
}

static int
bio_read(BIO *bio, char *bytes, int size)
{
    anx_stream *stream = BIO_get_data(bio);
    size_t n;

    BIO_clear_retry_flags(bio);
    if (size <= 0)
        return 0;
    if (anx_stream_plain_read(stream, bytes, (size_t) size, &n, NULL) != ANX_OK)
        return -1;
    if (!n && !stream->is_at_end) {
        BIO_set_retry_read(bio);
        return -1;
    }
    return (int) n;
}

static long
bio_ctrl(BIO *bio, int command, long number, void *pointer)
{
    const anx_stream *stream = BIO_get_data(bio);

    (void) number;
    (void) pointer;
    if (command == BIO_CTRL_EOF)
        return stream->is_at_end;
    return command == BIO_CTRL_FLUSH;
}

static int
bio_create(BIO *bio)
{
    BIO_set_init(bio, 1);
    return 1;
}

static BIO_METHOD *
make_method(void)
{
    BIO_METHOD *method = BIO_meth_new(BIO_TYPE_SOURCE_SINK, "stream");

    if (method && BIO_meth_set_write(method, bio_write) && BIO_meth_set_read(method, bio_read) &&
        BIO_meth_set_ctrl(method, bio_ctrl) && BIO_meth_set_create(method, bio_create))
        return method;
    BIO_meth_free(method);
    return NULL;
}

/* -------------------------------------------------------------------------------------------------------
 * setup
 */

static anx_status
out_of_memory(anx_error *err)
{
    ERR_clear_error();
    return anx_fail(err, ANX_E_NOMEM, "could not set up TLS: out of memory");
}

static anx_status
start(anx_stream *stream, SSL_CTX *ctx, anx_error *err)
{
    struct stream_tls *tls = anx_alloc_zeroed(stream->alloc, 1, sizeof(*tls));
    BIO *bio;

    if (!tls)
        return out_of_memory(err);
    stream->tls = tls;
    tls->method = make_method();
    tls->ssl = SSL_new(ctx);
    bio = tls->method ? BIO_new(tls->method) : NULL;
    if (!tls->ssl || !bio) {
        BIO_free(bio);
        return out_of_memory(err);
    }
    BIO_set_data(bio, stream);
    SSL_set_bio(tls->ssl, bio, bio);
    SSL_set_mode(tls->ssl, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_set_options(tls->ssl, SSL_OP_NO_RENEGOTIATION);
    return ANX_OK;
}

void
anx_stream_tls_free(anx_stream *stream)
{
    struct stream_tls *tls = stream->tls;

    if (!tls)
        return;
    SSL_free(tls->ssl);
    BIO_meth_free(tls->method);
    anx_free(stream->alloc, tls);
    stream->tls = NULL;
    ERR_clear_error();
}

static bool
is_numeric(const char *host)
{
    struct in6_addr address;

    return inet_pton(AF_INET, host, &address) == 1 || inet_pton(AF_INET6, host, &address) == 1;
}

static const char *
reason_text(void)
{
    const char *text = ERR_reason_error_string(ERR_peek_error());

    return text ? text : "no reason given";
}

/* What the client asks of the server's certificate. */
static anx_status
set_checks(SSL_CTX *ctx, const anx_tls_params *params, anx_error *err)
{
    int loaded;

    if (params->verify == ANX_TLS_VERIFY_NONE)
        return ANX_OK;
    ERR_clear_error();
    loaded = params->ca_file ? SSL_CTX_load_verify_locations(ctx, params->ca_file, NULL)
                             : SSL_CTX_set_default_verify_paths(ctx);
    if (loaded != 1) {
        anx_fail(err, ANX_E_TLS, "could not read certificates from %s: %s",
                 params->ca_file ? params->ca_file : "the system's store", reason_text());
        ERR_clear_error();
        return ANX_E_TLS;
    }
    /* A self-signed certificate, or one in the middle of a chain, may be trusted by itself. */
    X509_VERIFY_PARAM_set_flags(SSL_CTX_get0_param(ctx), X509_V_FLAG_PARTIAL_CHAIN);
    SSL_CTX_set_verify(ctx, SSL_VERIFY_PEER, NULL);
    return ANX_OK;
}

static anx_status
set_name(SSL *ssl, const anx_tls_params *params, const char *name, anx_error *err)
{
    bool is_address = is_numeric(name);
    bool done = true;

    if (!is_address && name[0])
        done = SSL_set_tlsext_host_name(ssl, name) == 1;
    if (done && params->verify == ANX_TLS_VERIFY_FULL)
        done = is_address ? X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name) == 1
                          : SSL_set1_host(ssl, name) == 1;
    ERR_clear_error();
    if (!done)
        return anx_fail(err, ANX_E_TLS, "the name \"%s\" cannot be asked for in TLS", name);
    return ANX_OK;
}

/* ---------------------------------------------------------------------------------------------------
 * handshake
 */

static anx_status
handshake_failed(anx_stream *stream, bool is_client, anx_error *err)
{
    unsigned long code = ERR_peek_error();
    int reason = ERR_GET_LIB(code) == ERR_LIB_SSL ? ERR_GET_REASON(code) : 0;
    long verdict = SSL_get_verify_result(stream->tls->ssl);

    if (is_client && verdict != X509_V_OK && reason == SSL_R_CERTIFICATE_VERIFY_FAILED) {
        anx_fail(err, ANX_E_TLS, "the certificate of %s was refused: %s", stream->peer.text,
                 X509_verify_cert_error_string(verdict));
    } else if (stream->is_at_end || !code) {
        anx_fail(err, ANX_E_TLS, "%s closed the connection during the TLS handshake", stream->peer.text);
    } else {
        anx_fail(err, ANX_E_TLS, "TLS handshake with %s failed: %s", stream->peer.text, reason_text());
        if (reason == SSL_R_WRONG_VERSION_NUMBER || reason == SSL_R_HTTP_REQUEST)
            anx_error_hint(err, "the other side seems not to use TLS here");
    }
    ERR_clear_error();
    return ANX_E_TLS;
}

static anx_status
shake_hands(anx_stream *stream, bool is_client, anx_error *err)
{
    uint64_t until_ns = anx_stream_moment(stream->connect_ms);

    for (;;) {
        short ready = 0;
        short wants;
        anx_status st;
        int done;

        ERR_clear_error();
        done = is_client ? SSL_connect(stream->tls->ssl) : SSL_accept(stream->tls->ssl);
        if (done == 1)
            break;
        switch (SSL_get_error(stream->tls->ssl, done)) {
        case SSL_ERROR_WANT_READ:
            wants = POLLIN;
            break;
        case SSL_ERROR_WANT_WRITE:
            wants = POLLOUT;
            break;
        default:
            return handshake_failed(stream, is_client, err);
        }
        st = anx_stream_wait_until(stream, stream->fd, wants, until_ns, &ready, err);
        if (st != ANX_OK)
            return st;
        if (!ready) {
            anx_fail(err, ANX_E_TIMEOUT, "TLS handshake with %s took longer than %g s", stream->peer.text,
                     (double) stream->connect_ms / 1000);
            anx_error_hint(err, "does the other side use TLS here?");
            return ANX_E_TIMEOUT;
        }
    }
    stream->tls->is_up = true;
    return ANX_OK;
}

anx_status
anx_stream_tls_connect(anx_stream *stream, const anx_tls_params *params, anx_error *err)
{
    static const anx_tls_params defaults = { .verify = ANX_TLS_VERIFY_NONE };
    const anx_tls_params *p = params ? params : &defaults;
    SSL_CTX *ctx = SSL_CTX_new(TLS_client_method());
    anx_status st;

    if (!ctx || SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) != 1) {
        SSL_CTX_free(ctx);
        return out_of_memory(err);
    }
    st = set_checks(ctx, p, err);
    if (st == ANX_OK)
        st = start(stream, ctx, err);
    if (st == ANX_OK)
        st = set_name(stream->tls->ssl, p, p->name ? p->name : stream->host, err);
    if (st == ANX_OK)
        st = shake_hands(stream, true, err);
    SSL_CTX_free(ctx);
    return st;
}

anx_status
anx_stream_tls_accept(anx_stream *stream, SSL_CTX *ctx, anx_error *err)
{
    anx_status st = start(stream, ctx, err);

    return st == ANX_OK ? shake_hands(stream, false, err) : st;
}

/* -------------------------------------------------------------------------------------------------------
 * bytes
 */

/* After an SSL call that gave nothing: 0 when it has to be repeated once *wants is ready; 1 at the end of the
 * stream; -1 failed. */
static int
why_nothing(anx_stream *stream, short *wants)
{
    switch (SSL_get_error(stream->tls->ssl, 0)) {
    case SSL_ERROR_WANT_READ:
        *wants = POLLIN;
        return 0;
    case SSL_ERROR_WANT_WRITE:
        *wants = POLLOUT;
        return 0;
    case SSL_ERROR_ZERO_RETURN:
        return 1;
    default:
        stream->tls->is_up = false;
        return stream->is_at_end ? 1 : -1; /* the end without a farewell is an end all the same */
    }
}

static anx_status
broken(anx_stream *stream, const char *what, anx_error *err)
{
    bool has_reason = ERR_peek_error() != 0;

    anx_fail(err, has_reason ? ANX_E_TLS : ANX_E_NETWORK, "could not %s %s: %s", what, stream->peer.text,
             has_reason ? reason_text() : "the connection is broken");
    ERR_clear_error();
    return has_reason ? ANX_E_TLS : ANX_E_NETWORK;
}

anx_status
anx_stream_tls_read(anx_stream *stream, void *bytes, size_t size, size_t *n, anx_error *err)
{
    int why;

    stream->read_wants = POLLIN;
    ERR_clear_error();
    if (SSL_read_ex(stream->tls->ssl, bytes, size, n) == 1)
        return ANX_OK;
    *n = 0;
    why = why_nothing(stream, &stream->read_wants);
    if (why < 0)
        return broken(stream, "receive from", err);
    stream->is_at_end = stream->is_at_end || why > 0;
    ERR_clear_error();
    return ANX_OK;
}

anx_status
anx_stream_tls_write(anx_stream *stream, const void *bytes, size_t size, size_t *n, anx_error *err)
{
    stream->write_wants = POLLOUT;
    ERR_clear_error();
    if (SSL_write_ex(stream->tls->ssl, bytes, size, n) == 1)
        return ANX_OK;
    *n = 0;
    if (why_nothing(stream, &stream->write_wants) != 0)
        return broken(stream, "send to", err);
    ERR_clear_error();
    return ANX_OK;
}

bool
anx_stream_tls_has_input(const anx_stream *stream)
{
    return stream->tls && SSL_pending(stream->tls->ssl) > 0;
}

void
anx_stream_tls_farewell(anx_stream *stream)
{
    if (stream->tls->is_up)
        (void) SSL_shutdown(stream->tls->ssl);
    ERR_clear_error();
}

bool
anx_stream_is_tls(const anx_stream *stream)
{
    return stream->tls != NULL;
}

const char *
anx_stream_tls_version(const anx_stream *stream)
{
    return stream->tls ? SSL_get_version(stream->tls->ssl) : "";
}

bool
anx_stream_binding(const anx_stream *stream, uint8_t binding[ANX_STREAM_BINDING_SIZE])
{
    static const char label[] = "EXPORTER-Channel-Binding";
    SSL *ssl;
    bool done;

    memset(binding, 0, ANX_STREAM_BINDING_SIZE);
    if (!stream->tls)
        return true;
    ssl = stream->tls->ssl;
    /* Before TLS 1.3 the value is only unique to the connection with the extended master secret. */
    if (SSL_version(ssl) < TLS1_3_VERSION && SSL_get_extms_support(ssl) != 1)
        return false;
    done = SSL_export_keying_material(ssl, binding, ANX_STREAM_BINDING_SIZE, label, sizeof(label) - 1, NULL,
                                      0, 1) == 1;
    ERR_clear_error();
    return done;
}
