/* The other end of a connection, played by a thread of the test: a listener on a free port of the loopback
 * address, blocking reads and writes with a time limit, and a TLS identity made on the spot.
 *
 *     struct peer peer;
 *     peer_start(&peer, play, context);         play(&peer) runs in a thread
 *         int fd = peer_accept(self);           in there
 *         peer_recv(self, fd, bytes, n);
 *         peer_send(self, fd, bytes, n);
 *     peer_stop(&peer);                         joins; fails the test with what the peer noted
 *
 * cmocka's assertions belong to the test's own thread: the peer notes its first complaint (peer_fail) and
 * goes on, its later calls do nothing. */
#ifndef ANX_TEST_INDEXING_PEER_H
#define ANX_TEST_INDEXING_PEER_H

#include "test_util.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/rsa.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>

#include "base/clock.h"
#include "base/error.h"

#define PEER_PATIENCE_MS 20000 /* no step of a test takes so long */

struct peer;
typedef void (*peer_fn)(struct peer *self);

struct peer {
    int listen_fd;
    unsigned port;
    pthread_t thread;
    peer_fn play;
    void *context;
    SSL_CTX *tls;        /* NULL: plain */
    SSL *ssl;            /* of the connection accepted last */
    size_t segment;      /* bytes per send; 0: all at once */
    atomic_bool is_stopping; /* the test is done with this peer */
    char complaint[256];     /* "": none; read after the join */
};

static inline void
peer_fail(struct peer *self, const char *format, ...)
{
    va_list args;

    if (self->complaint[0])
        return;
    va_start(args, format);
    vsnprintf(self->complaint, sizeof(self->complaint), format, args);
    va_end(args);
}

static inline bool
peer_wait(int fd, short events)
{
    struct pollfd p = { .fd = fd, .events = events };

    return poll(&p, 1, PEER_PATIENCE_MS) == 1;
}

/* The next connection; -1 after a complaint. */
static inline int
peer_accept(struct peer *self)
{
    int one = 1;
    int fd = -1;

    if (!self->complaint[0] && peer_wait(self->listen_fd, POLLIN))
        fd = accept(self->listen_fd, NULL, NULL);
    if (fd < 0) {
        peer_fail(self, "nobody connected");
        return -1;
    }
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    if (self->tls) {
        SSL_free(self->ssl);
        self->ssl = SSL_new(self->tls);
        SSL_set_fd(self->ssl, fd);
        if (SSL_accept(self->ssl) != 1)
            peer_fail(self, "TLS handshake failed");
    }
    return fd;
}

static inline bool
peer_has_pending(const struct peer *self)
{
    return self->ssl && SSL_pending(self->ssl) > 0;
}

/* Up to n bytes; 0 at the end or when the connection broke. */
static inline size_t
peer_recv_some(struct peer *self, int fd, void *bytes, size_t n)
{
    ssize_t got;

    if (fd < 0)
        return 0;
    if (!peer_has_pending(self) && !peer_wait(fd, POLLIN)) {
        peer_fail(self, "the client sent nothing for %d ms", PEER_PATIENCE_MS);
        return 0;
    }
    got = self->ssl ? SSL_read(self->ssl, bytes, (int) n) : recv(fd, bytes, n, 0);
    return got > 0 ? (size_t) got : 0;
}

/* Exactly n bytes; false (and a complaint) otherwise. */
static inline bool
peer_recv(struct peer *self, int fd, void *bytes, size_t n)
{
    size_t have = 0;

    while (have < n) {
        size_t got = peer_recv_some(self, fd, (char *) bytes + have, n - have);

        if (!got) {
            peer_fail(self, "the client sent %zu of %zu bytes", have, n);
            return false;
        }
        have += got;
    }
    return true;
}

/* All of it. False when the client is gone, which is no complaint: some clients are meant to go. */
static inline bool
peer_send(struct peer *self, int fd, const void *bytes, size_t n)
{
    size_t done = 0;

    while (fd >= 0 && done < n) {
        size_t piece = self->segment && self->segment < n - done ? self->segment : n - done;
        ssize_t sent;

        if (self->ssl)
            sent = SSL_write(self->ssl, (const char *) bytes + done, (int) piece);
        else
            sent = send(fd, (const char *) bytes + done, piece, MSG_NOSIGNAL);
        if (sent <= 0)
            return false;
        done += (size_t) sent;
    }
    return fd >= 0;
}

/* Reads to the client's end, so that nothing is reset; then closes. */
static inline void
peer_close(struct peer *self, int fd)
{
    char sink[4096];

    if (fd < 0)
        return;
    if (self->ssl)
        SSL_shutdown(self->ssl);
    shutdown(fd, SHUT_WR);
    while (peer_wait(fd, POLLIN) && recv(fd, sink, sizeof(sink), 0) > 0)
        ;
    close(fd);
}

/* Holds still until the client is gone or the test is done. */
static inline void
peer_idle(struct peer *self, int fd)
{
    struct pollfd p = { .fd = fd, .events = POLLRDHUP };
    uint64_t began = anx_clock_ns();

    while (!atomic_load(&self->is_stopping) && poll(&p, 1, 20) == 0)
        if (anx_clock_ns() - began > (uint64_t) PEER_PATIENCE_MS * 1000000u) {
            peer_fail(self, "the client stayed for %d ms", PEER_PATIENCE_MS);
            return;
        }
}

/* The peer's signals are blocked as they are in any worker thread, so that SIGPIPE would hit the test. */
static inline void *
peer_main(void *argument)
{
    struct peer *self = argument;

    self->play(self);
    return NULL;
}

static inline void
peer_listen(struct peer *self, peer_fn play, void *context)
{
    struct sockaddr_in address = { .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    socklen_t size = sizeof(address);

    memset(self, 0, sizeof(*self));
    self->play = play;
    self->context = context;
    self->listen_fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_true(self->listen_fd >= 0);
    assert_int_equal(bind(self->listen_fd, (struct sockaddr *) &address, sizeof(address)), 0);
    assert_int_equal(listen(self->listen_fd, 8), 0);
    assert_int_equal(getsockname(self->listen_fd, (struct sockaddr *) &address, &size), 0);
    self->port = ntohs(address.sin_port);
}

static inline void
peer_run(struct peer *self)
{
    sigset_t all;
    sigset_t old;

    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &old);
    assert_int_equal(pthread_create(&self->thread, NULL, peer_main, self), 0);
    pthread_sigmask(SIG_SETMASK, &old, NULL);
}

static inline void
peer_start(struct peer *self, peer_fn play, void *context)
{
    peer_listen(self, play, context);
    peer_run(self);
}

/* The end of a peer that has reason to complain. */
static inline void
peer_dismiss(struct peer *self)
{
    atomic_store(&self->is_stopping, true);
    pthread_join(self->thread, NULL);
    close(self->listen_fd);
    SSL_free(self->ssl);
}

static inline void
peer_stop(struct peer *self)
{
    peer_dismiss(self);
    if (self->complaint[0])
        fail_msg("the peer says: %s", self->complaint);
}

/* ---- TLS ---- */

struct peer_identity {
    SSL_CTX *ctx;
    char ca_file[64]; /* the certificate, for clients that check */
};

/* A self-signed certificate for `names` ("DNS:localhost,IP:127.0.0.1"). */
static inline void
peer_identity_make(struct peer_identity *self, const char *names)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();
    X509_NAME *subject;
    X509_EXTENSION *extension;
    FILE *file;
    int fd;

    assert_non_null(key);
    assert_non_null(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -3600);
    X509_gmtime_adj(X509_getm_notAfter(cert), 3600);
    X509_set_pubkey(cert, key);
    subject = X509_get_subject_name(cert);
    X509_NAME_add_entry_by_txt(subject, "CN", MBSTRING_ASC, (const unsigned char *) "example.com", -1, -1, 0);
    X509_set_issuer_name(cert, subject);
    extension = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, names);
    assert_non_null(extension);
    X509_add_ext(cert, extension, -1);
    X509_EXTENSION_free(extension);
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);

    self->ctx = SSL_CTX_new(TLS_server_method());
    assert_non_null(self->ctx);
    assert_int_equal(SSL_CTX_use_certificate(self->ctx, cert), 1);
    assert_int_equal(SSL_CTX_use_PrivateKey(self->ctx, key), 1);
    snprintf(self->ca_file, sizeof(self->ca_file), "/tmp/annex-test-ca-XXXXXX");
    fd = mkstemp(self->ca_file);
    assert_true(fd >= 0);
    file = fdopen(fd, "w");
    assert_int_equal(PEM_write_X509(file, cert), 1);
    fclose(file);
    X509_free(cert);
    EVP_PKEY_free(key);
}

static inline void
peer_identity_free(struct peer_identity *self)
{
    SSL_CTX_free(self->ctx);
    unlink(self->ca_file);
}

/* ---- measuring ---- */

static inline double
peer_seconds_since(uint64_t began_ns)
{
    return (double) (anx_clock_ns() - began_ns) * 1e-9;
}

/* Descriptors of this process: what is open after a test as before leaks nothing. */
static inline size_t
peer_count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

#endif
