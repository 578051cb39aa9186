/* Listeners, workers and the TLS identity of a server. */
#include "test_util.h"

#include <arpa/inet.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <semaphore.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <openssl/evp.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>

#include "base/error.h"
#include "net/listen.h"
#include "net/tls.h"
#include "net/workers.h"

/* --- listeners --- */

static int
connect_to(unsigned port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t) port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    return fd;
}

static void
listener_takes_connections(void **state)
{
    struct anx_listen listen;
    struct anx_address peer, local;
    uint64_t one = 1;
    int wake = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    int client, fd;
    char text[ANX_ADDRESS_TEXT];
    anx_error err;

    (void) state;
    assert_int_equal(anx_listen_open(&listen, "127.0.0.1", 0, &err), ANX_OK);
    assert_int_equal(listen.n, 1);
    assert_true(listen.port > 0);
    client = connect_to(listen.port);
    assert_int_equal(anx_listen_accept(&listen, wake, &fd, &peer), ANX_OK);
    assert_true(fcntl(fd, F_GETFL) & O_NONBLOCK);
    assert_true(fcntl(fd, F_GETFD) & FD_CLOEXEC);
    assert_true(anx_address_is_loopback(&peer));
    assert_true(anx_address_local(fd, &local));
    assert_int_equal(anx_address_port(&local), listen.port);
    anx_address_text(&peer, text);
    assert_int_equal(strncmp(text, "127.0.0.1:", 10), 0);
    assert_int_equal(write(wake, &one, sizeof(one)), sizeof(one));
    close(fd);
    assert_int_equal(anx_listen_accept(&listen, wake, &fd, &peer), ANX_E_CANCELLED);
    close(client);
    close(wake);
    anx_listen_close(&listen);
    anx_listen_close(&listen);
}

static void
listener_errors_are_clear(void **state)
{
    struct anx_listen listen, other;
    char text[64];
    anx_error err;

    (void) state;
    assert_int_equal(anx_listen_open(&listen, "127.0.0.1", 0, &err), ANX_OK);
    snprintf(text, sizeof(text), "could not listen on 127.0.0.1:%u: Address already in use", listen.port);
    assert_int_equal(anx_listen_open(&other, "127.0.0.1", listen.port, &err), ANX_E_NETWORK);
    assert_string_equal(err.message, text);
    assert_true(err.hint[0] != '\0');
    assert_int_equal(other.n, 0);
    anx_listen_close(&listen);
    assert_int_equal(anx_listen_open(&other, "203.0.113.7", 0, &err),
                     ANX_E_NETWORK); /* set aside for examples */
    assert_non_null(strstr(err.message, "203.0.113.7"));
    assert_int_equal(anx_listen_open(&other, "", 0, &err), ANX_E_INVALID);
    assert_int_equal(anx_listen_open(&other, "256.1.1.1", 0, &err), ANX_E_INVALID);
    assert_non_null(strstr(err.message, "256.1.1.1"));
}

/* A name may have several addresses: all of them get the same port. */
static void
listener_of_a_name(void **state)
{
    struct anx_listen listen;
    struct anx_address local;
    anx_error err;

    (void) state;
    if (anx_listen_open(&listen, "localhost", 0, &err) != ANX_OK)
        fail_msg("%s", err.message);
    assert_true(listen.n >= 1);
    for (size_t i = 0; i < listen.n; i++) {
        assert_true(anx_address_local(listen.fds[i], &local));
        assert_true(anx_address_is_loopback(&local));
        assert_int_equal(anx_address_port(&local), listen.port);
    }
    anx_listen_close(&listen);
}

static void
addresses_compare_by_host(void **state)
{
    struct anx_address four = { .size = sizeof(struct sockaddr_in) };
    struct anx_address six = { .size = sizeof(struct sockaddr_in6) };
    struct sockaddr_in *in = (struct sockaddr_in *) &four.storage;
    struct sockaddr_in6 *in6 = (struct sockaddr_in6 *) &six.storage;
    uint8_t a[16], b[16];
    char text[ANX_ADDRESS_TEXT];

    (void) state;
    in->sin_family = AF_INET;
    in->sin_port = htons(80);
    assert_int_equal(inet_pton(AF_INET, "192.0.2.5", &in->sin_addr), 1);
    in6->sin6_family = AF_INET6;
    in6->sin6_port = htons(81);
    assert_int_equal(inet_pton(AF_INET6, "::ffff:192.0.2.5", &in6->sin6_addr), 1);
    anx_address_key(&four, a);
    anx_address_key(&six, b);
    assert_memory_equal(a, b, 16);
    anx_address_text(&six, text);
    assert_string_equal(text, "192.0.2.5:81");
    assert_false(anx_address_is_loopback(&six));
    assert_int_equal(inet_pton(AF_INET6, "::1", &in6->sin6_addr), 1);
    anx_address_text(&six, text);
    assert_string_equal(text, "[::1]:81");
    assert_true(anx_address_is_loopback(&six));
}

/* --- workers --- */

struct job {
    struct anx_work work; /* first: a job is found by its work */
    int number;
    bool waits;      /* for `released`, as for a service */
    bool is_refused; /* it was not allowed to wait */
};
struct bench {
    struct anx_workers *workers;
    sem_t ran, released;
    pthread_mutex_t lock;
    int order[16]; /* guarded by lock */
    size_t n;      /* guarded by lock */
};

static void
run_job(void *context, struct anx_work *work)
{
    struct bench *bench = context;
    struct job *job = (struct job *) work;

    if (job->waits) {
        job->is_refused = !anx_workers_blocking(bench->workers, true);
        sem_post(&bench->ran);
        if (!job->is_refused) {
            sem_wait(&bench->released);
            (void) anx_workers_blocking(bench->workers, false);
        }
        return;
    }
    pthread_mutex_lock(&bench->lock);
    bench->order[bench->n++] = job->number;
    pthread_mutex_unlock(&bench->lock);
    sem_post(&bench->ran);
}

/* One worker: whatever waits must not keep it, and what it runs keeps its order. One too many is refused. */
static void
workers_that_wait_are_replaced(void **state)
{
    static struct job waiting[ANX_WORKERS_BLOCKED_MAX + 1], jobs[8];
    struct bench bench = { .lock = PTHREAD_MUTEX_INITIALIZER };
    anx_error err;

    (void) state;
    sem_init(&bench.ran, 0, 0);
    sem_init(&bench.released, 0, 0);
    assert_int_equal(anx_workers_open(&bench.workers, 1, run_job, &bench, &err), ANX_OK);
    for (size_t i = 0; i <= ANX_WORKERS_BLOCKED_MAX; i++) {
        waiting[i].waits = true;
        anx_workers_give(bench.workers, &waiting[i].work);
        sem_wait(&bench.ran);
        assert_int_equal(waiting[i].is_refused, i == ANX_WORKERS_BLOCKED_MAX);
    }
    for (int i = 0; i < 8; i++) {
        jobs[i].number = i;
        anx_workers_give(bench.workers, &jobs[i].work);
    }
    for (int i = 0; i < 8; i++)
        sem_wait(&bench.ran);
    for (int i = 0; i < 8; i++)
        assert_int_equal(bench.order[i], i);
    for (size_t i = 0; i < ANX_WORKERS_BLOCKED_MAX; i++)
        sem_post(&bench.released);
    anx_workers_close(bench.workers);
}

/* Closing runs what was given. */
static void
workers_finish_what_was_given(void **state)
{
    static struct job jobs[16];
    struct bench bench = { .lock = PTHREAD_MUTEX_INITIALIZER };
    anx_error err;

    (void) state;
    sem_init(&bench.ran, 0, 0);
    assert_int_equal(anx_workers_open(&bench.workers, 2, run_job, &bench, &err), ANX_OK);
    for (int i = 0; i < 16; i++)
        anx_workers_give(bench.workers, &jobs[i].work);
    anx_workers_close(bench.workers);
    assert_int_equal(bench.n, 16);
    anx_workers_close(NULL);
}

/* --- TLS --- */

struct identity {
    char cert[64], key[64], locked_key[64];
};

static void
write_pem(char path[64], const X509 *cert, EVP_PKEY *key, const char *passphrase)
{
    FILE *file;
    int fd;

    snprintf(path, 64, "/tmp/annex-test-pem-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    file = fdopen(fd, "w");
    if (cert)
        assert_int_equal(PEM_write_X509(file, cert), 1);
    else
        assert_int_equal(PEM_write_PrivateKey(file, key, passphrase ? EVP_aes_128_cbc() : NULL,
                                              (const unsigned char *) passphrase,
                                              passphrase ? (int) strlen(passphrase) : 0, NULL, NULL),
                         1);
    fclose(file);
}

static void
identity_make(struct identity *identity, long seconds)
{
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *cert = X509_new();

    assert_non_null(key);
    assert_non_null(cert);
    X509_set_version(cert, 2);
    ASN1_INTEGER_set(X509_get_serialNumber(cert), 1);
    X509_gmtime_adj(X509_getm_notBefore(cert), -7200);
    X509_gmtime_adj(X509_getm_notAfter(cert), seconds);
    X509_set_pubkey(cert, key);
    X509_NAME_add_entry_by_txt(X509_get_subject_name(cert), "CN", MBSTRING_ASC,
                               (const unsigned char *) "example.com", -1, -1, 0);
    X509_set_issuer_name(cert, X509_get_subject_name(cert));
    assert_true(X509_sign(cert, key, EVP_sha256()) > 0);
    write_pem(identity->cert, cert, NULL, NULL);
    write_pem(identity->key, NULL, key, NULL);
    write_pem(identity->locked_key, NULL, key, "open sesame");
    X509_free(cert);
    EVP_PKEY_free(key);
}

static void
identity_remove(const struct identity *identity)
{
    unlink(identity->cert);
    unlink(identity->key);
    unlink(identity->locked_key);
}

static void
expect_tls_error(const char *cert, const char *key, const char *contains, const char *also)
{
    anx_tls *tls;
    anx_error err;

    assert_int_equal(anx_tls_open(cert, key, &tls, &err), ANX_E_TLS);
    assert_null(tls);
    if (!strstr(err.message, contains) || !strstr(err.message, also))
        fail_msg("the error is \"%s\", expected \"%s\" and \"%s\" in it", err.message, contains, also);
}

static void
tls_errors_name_the_file(void **state)
{
    struct identity a, b;

    (void) state;
    identity_make(&a, 3600);
    identity_make(&b, 3600);
    expect_tls_error("/no/such/cert.pem", a.key, "/no/such/cert.pem", "No such file");
    expect_tls_error(a.cert, "/no/such/key.pem", "/no/such/key.pem", "No such file");
    expect_tls_error("/tmp", a.key, "\"/tmp\"", "directory");
    expect_tls_error(a.key, a.key, "no usable certificate", a.key);
    expect_tls_error(a.cert, a.cert, "no usable private key", a.cert);
    expect_tls_error(a.cert, b.key, "does not belong to", a.cert);
    expect_tls_error(a.cert, a.locked_key, "passphrase", a.locked_key);
    identity_remove(&a);
    identity_remove(&b);
}

static void
tls_reload_keeps_what_works(void **state)
{
    struct identity a, b;
    SSL_CTX *before, *after;
    FILE *file;
    anx_tls *tls;
    anx_error err;

    (void) state;
    identity_make(&a, 3600);
    identity_make(&b, -60);
    assert_int_equal(anx_tls_open(a.cert, a.key, &tls, &err), ANX_OK);
    assert_true(anx_tls_seconds_left(tls) > 3000);
    before = anx_tls_acquire(tls);
    file = fopen(a.cert, "w");
    fputs("nonsense\n", file);
    fclose(file);
    assert_int_equal(anx_tls_reload(tls, &err), ANX_E_TLS);
    after = anx_tls_acquire(tls);
    assert_ptr_equal(before, after);
    SSL_CTX_free(after);
    assert_int_equal(rename(b.cert, a.cert), 0);
    assert_int_equal(anx_tls_reload(tls, &err), ANX_E_TLS); /* the key is still the old one */
    assert_int_equal(rename(b.key, a.key), 0);
    assert_int_equal(anx_tls_reload(tls, &err), ANX_OK);
    after = anx_tls_acquire(tls);
    assert_ptr_not_equal(before, after);
    assert_true(anx_tls_seconds_left(tls) < 0);
    anx_tls_close(tls);
    assert_non_null(SSL_CTX_get0_certificate(before)); /* references outlive it */
    SSL_CTX_free(before);
    SSL_CTX_free(after);
    identity_remove(&a);
    identity_remove(&b);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(listener_takes_connections), cmocka_unit_test(listener_errors_are_clear),
        cmocka_unit_test(listener_of_a_name),         cmocka_unit_test(addresses_compare_by_host),
        cmocka_unit_test(workers_that_wait_are_replaced), cmocka_unit_test(workers_finish_what_was_given),
        cmocka_unit_test(tls_errors_name_the_file),   cmocka_unit_test(tls_reload_keeps_what_works),
    };

    return cmocka_run_group_tests_name("net", tests, NULL, NULL);
}
