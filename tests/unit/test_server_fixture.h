/* What the suites of the indexing server share: a server in this process on free ports, a client of version 1
 * made of plain socket calls, and the check that an answer is a right index.
 *
 *     struct house house;
 *     house_open(&house, NULL);                       or parameters of one's own
 *     answer = talk(&house, bytes, size);             all at once, then everything until the end
 *     check_answer(&house, answer, &session);
 *     house_close(&house);                            nothing may be left: threads, descriptors, files
 *
 * Waits are polls with a deadline. */
#ifndef ANX_TEST_SERVER_FIXTURE_H
#define ANX_TEST_SERVER_FIXTURE_H

#include "test_util.h"

#include <arpa/inet.h>
#include <dirent.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "annex/index_file.h"
#include "base/bytes.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "base/rng.h"
#include "indexing/server.h"
#include "indexing/wire.h"
#include "kernel/kernel.h"

#define PATIENCE_MS \
    120000 /* no step of a test takes so long, not even under ThreadSanitizer on a busy machine */
#define COS 1u
#define L2SQ 3u
#define HAMMING 8u

struct house {
    struct indexing_server *server;
    char tmp[64]; /* the folder given as tmp_dir */
    unsigned port, status_port;
    size_t n_fd; /* open before */
};

static inline size_t
count_fds(void)
{
    DIR *folder = opendir("/proc/self/fd");
    size_t n = 0;

    assert_non_null(folder);
    while (readdir(folder))
        n++;
    closedir(folder);
    return n;
}

static inline size_t
count_files(const char *path)
{
    DIR *folder = opendir(path);
    const struct dirent *entry;
    size_t n = 0;

    assert_non_null(folder);
    while ((entry = readdir(folder)) != NULL)
        n += entry->d_name[0] != '.';
    closedir(folder);
    return n;
}

static inline void
make_folder(char path[64])
{
    const char *tmp = getenv("TMPDIR");

    snprintf(path, 64, "%.32s/annex-test-XXXXXX", tmp && *tmp ? tmp : "/tmp");
    assert_non_null(mkdtemp(path));
}

/* ANX_TEST_LOG=1 in the environment shows what the server says. */
static inline void
print_line(void *context, anx_log_level level, const char *line)
{
    (void) context, (void) level;
    fprintf(stderr, "# %s\n", line);
}

/* params NULL: the defaults. Host, ports and tmp_dir are set here. */
static inline void
house_open(struct house *house, const struct indexing_server_params *params)
{
    struct indexing_server_params own = INDEXING_SERVER_PARAMS_INIT;
    anx_error err;

    memset(house, 0, sizeof(*house));
    if (getenv("ANX_TEST_LOG"))
        anx_log_set(print_line, NULL, ANX_LOG_DEBUG);
    house->n_fd = count_fds();
    make_folder(house->tmp);
    if (params)
        own = *params;
    own.host = "127.0.0.1";
    own.port = own.status_port = 0;
    own.tmp_dir = house->tmp;
    if (anx_indexing_server_start(&own, &house->server, &err) != ANX_OK)
        fail_msg("the server did not start: %s", err.message);
    house->port = anx_indexing_server_port(house->server);
    house->status_port = anx_indexing_server_status_port(house->server);
}

static inline void
house_close(struct house *house)
{
    anx_indexing_server_destroy(house->server);
    assert_int_equal(count_files(house->tmp), 0);
    assert_int_equal(rmdir(house->tmp), 0);
    assert_int_equal(count_fds(), house->n_fd);
}

/* --- waiting --- */

static inline uint64_t
deadline(void)
{
    return anx_clock_ns() + PATIENCE_MS * UINT64_C(1000000);
}
/* For loops that poll: sleeps a moment, and fails the test when the time is up. */
static inline void
pause_until(uint64_t until, const char *what)
{
    if (anx_clock_ns() > until)
        fail_msg("waited too long for %s", what);
    poll(NULL, 0, 2);
}

/* --- a client --- */

static inline int
dial(unsigned port)
{
    struct sockaddr_in address = { .sin_family = AF_INET,
                                   .sin_port = htons((uint16_t) port),
                                   .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
    struct timeval patience = { PATIENCE_MS / 1000, 0 };
    int one = 1;
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    assert_true(fd >= 0);
    assert_int_equal(connect(fd, (struct sockaddr *) &address, sizeof(address)), 0);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof(patience));
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof(patience));
    return fd;
}

/* Bytes that could be sent: fewer when the server has closed. */
static inline size_t
put(int fd, const void *bytes, size_t size)
{
    size_t done = 0;

    while (done < size) {
        ssize_t n = send(fd, (const char *) bytes + done, size - done, MSG_NOSIGNAL);

        if (n <= 0)
            break;
        done += (size_t) n;
    }
    return done;
}

/* Up to size bytes; fewer only at the end. */
static inline size_t
get(int fd, void *bytes, size_t size)
{
    size_t have = 0;

    while (have < size) {
        ssize_t n = recv(fd, (char *) bytes + have, size - have, 0);

        if (n <= 0)
            break;
        have += (size_t) n;
    }
    return have;
}

struct bytes {
    uint8_t *data; /* anx_free */
    size_t size;
};

/* Everything until the end. */
static inline struct bytes
get_all(int fd)
{
    struct bytes all = { NULL, 0 };
    size_t capacity = 0;

    for (;;) {
        size_t n;

        if (all.size == capacity) {
            capacity = capacity ? capacity * 2 : 65536;
            all.data = anx_realloc_array(NULL, all.data, capacity, 1);
            assert_non_null(all.data);
        }
        n = get(fd, all.data + all.size, capacity - all.size);
        all.size += n;
        if (all.size < capacity)
            return all;
    }
}

static inline struct bytes
talk(const struct house *house, const void *bytes, size_t size)
{
    int fd = dial(house->port);
    struct bytes answer;

    put(fd, bytes, size);
    answer = get_all(fd);
    close(fd);
    return answer;
}

static inline void
bytes_free(struct bytes *bytes)
{
    anx_free(NULL, bytes->data);
    bytes->data = NULL;
}

/* --- sessions --- */

struct init {
    uint32_t pq, metric, scalar, dim, m, ef_construction, ef, n_centroids, n_subq, estimate, element_bits;
};
#define INIT_DEFAULT(metric_, scalar_, dim_)                                                              \
    {                                                                                                     \
        .metric = (metric_), .scalar = (scalar_), .dim = (dim_), .m = 8, .ef_construction = 64, .ef = 32, \
        .estimate = 100, .element_bits = (metric_) == HAMMING ? 1 : 32                                    \
    }

static inline void
init_bytes(const struct init *init, uint8_t bytes[48])
{
    const uint32_t words[12] = { 0x13333337,        init->pq,     init->metric,          init->scalar,
                                 init->dim,         init->m,      init->ef_construction, init->ef,
                                 init->n_centroids, init->n_subq, init->estimate,        init->element_bits };

    for (size_t i = 0; i < 12; i++)
        anx_store_le(bytes + 4 * i, words[i], 4);
}

/* What a client of version 1 sends, as bytes that grow. */
struct script {
    uint8_t *data;
    size_t size, capacity;
    size_t n_row;
    struct init init;
};

static inline void
script_add(struct script *script, const void *bytes, size_t size)
{
    if (script->size + size > script->capacity) {
        script->capacity = (script->size + size) * 2;
        script->data = anx_realloc_array(NULL, script->data, script->capacity, 1);
        assert_non_null(script->data);
    }
    memcpy(script->data + script->size, bytes, size);
    script->size += size;
}

static inline struct script
script_begin(const struct init *init)
{
    struct script script = { .init = *init };
    uint8_t bytes[48];

    init_bytes(init, bytes);
    script_add(&script, bytes, sizeof(bytes));
    return script;
}

static inline void
script_row(struct script *script, uint64_t label, const void *vector, size_t size)
{
    uint8_t bytes[8];

    anx_store_le(bytes, label, 8);
    script_add(script, bytes, 8);
    script_add(script, vector, size);
    script->n_row++;
}

static inline void
script_end(struct script *script)
{
    script_add(script, "7331", 4);
}

static inline void
script_free(struct script *script)
{
    anx_free(NULL, script->data);
    script->data = NULL;
}

/* A row of a table: block and offset as PostgreSQL sends them. */
static inline uint64_t
tid(uint64_t block, uint64_t offset)
{
    return (block >> 16) | (block & 0xffff) << 16 | offset << 32;
}

static inline struct script
random_script(const struct init *init, size_t n, uint64_t seed)
{
    struct script script = script_begin(init);
    anx_rng rng = anx_rng_seed(seed);
    float *row = anx_alloc_array(NULL, init->dim, sizeof(*row));

    assert_non_null(row);
    for (size_t i = 0; i < n; i++) {
        for (size_t j = 0; j < init->dim; j++)
            row[j] = (float) (anx_rng_unit(&rng) - 0.5);
        script_row(&script, tid(i / 50, i % 50 + 1), row, init->dim * sizeof(*row));
    }
    script_end(&script);
    anx_free(NULL, row);
    return script;
}

/* --- answers --- */

static inline anx_status
read_bytes(void *context, void *to, size_t size, size_t *got, anx_error *err)
{
    struct bytes *from = context;

    (void) err;
    *got = size < from->size ? size : from->size;
    if (*got)
        memcpy(to, from->data, *got);
    from->data += *got;
    from->size -= *got;
    return ANX_OK;
}

static inline anx_index *
load_index(const uint8_t *data, size_t size)
{
    struct bytes from = { (uint8_t *) (uintptr_t) data, size };
    anx_source source = { &from, read_bytes };
    anx_index *index;
    anx_error err;

    if (anx_index_load(&source, NULL, &index, &err) != ANX_OK)
        fail_msg("the file does not load: %s", err.message);
    return index;
}

/* hello of an indexer, ack, counts, file: the file as an index. */
static inline anx_index *
index_of_answer(const struct bytes *answer, size_t n_row)
{
    static const uint8_t begin[9] = { 1, 0, 0, 0, 1, 0, 0, 0, 0 };

    if (answer->size > 17 && memcmp(answer->data + 9, "7337", 4) == 0)
        fail_msg("the server says: %.200s", answer->data + 17);
    assert_true(answer->size > 25 + 136);
    assert_memory_equal(answer->data, begin, sizeof(begin));
    assert_int_equal(anx_load_le(answer->data + 9, 8), n_row);
    assert_int_equal(anx_load_le(answer->data + 17, 8), answer->size - 25);
    return load_index(answer->data + 25, answer->size - 25);
}

/* A stored row as numbers: bits become 0 and 1. */
static inline void
widen(const anx_index_params *params, const void *row, float *out)
{
    for (size_t i = 0; i < params->dim; i++)
        switch (params->scalar) {
        case ANX_SCALAR_F32:
            out[i] = ((const float *) row)[i];
            break;
        case ANX_SCALAR_F16:
            anx_kernels_best()->f16_to_f32((const uint16_t *) row + i, 1, out + i);
            break;
        case ANX_SCALAR_I8:
            out[i] = ((const int8_t *) row)[i];
            break;
        default:
            out[i] = (float) (((const uint8_t *) row)[i / 8] >> (7 - i % 8) & 1);
        }
}

/* Distance by the book, for the exact search that answers are compared with. */
static inline double
book_distance(anx_metric metric, size_t dim, const float *a, const float *b)
{
    double dot = 0, aa = 0, bb = 0, l2 = 0;

    for (size_t i = 0; i < dim; i++) {
        dot += (double) a[i] * (double) b[i];
        aa += (double) a[i] * (double) a[i];
        bb += (double) b[i] * (double) b[i];
        l2 += ((double) a[i] - (double) b[i]) * ((double) a[i] - (double) b[i]);
    }
    if (metric != ANX_METRIC_COSINE)
        return l2; /* of bits: the number that differ */
    return aa > 0 && bb > 0 ? 1 - dot / sqrt(aa * bb) : 1;
}

static inline int
compare_doubles(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

/* Every label is there, and what a search finds is as near as what an exact one finds. labels [n]. Returns
 * the share of answers that are. */
static inline double
exact_share(const anx_index *index, size_t n, const uint64_t *labels, size_t k)
{
    const anx_index_params *params = anx_index_get_params(index);
    size_t row_size = anx_row_size(params->scalar, params->dim), n_right = 0, n_asked = 0;
    anx_search_params search = ANX_SEARCH_PARAMS_INIT;
    uint8_t *rows = anx_alloc_array(NULL, n, row_size);
    float *wide = anx_alloc_array(NULL, n * params->dim, sizeof(float));
    double *all = anx_alloc_array(NULL, n, sizeof(double));
    float distances[16];
    uint64_t found[16];
    anx_hits hits = { distances, found };

    assert_true(rows && wide && all && k <= 16);
    search.ef = 200;
    for (size_t i = 0; i < n; i++) {
        assert_int_equal(anx_index_get(index, labels[i], rows + i * row_size, NULL), ANX_OK);
        widen(params, rows + i * row_size, wide + i * params->dim);
    }
    for (size_t q = 0; q < n; q += n / 20 + 1) {
        for (size_t i = 0; i < n; i++)
            all[i] =
                book_distance(params->metric, params->dim, wide + q * params->dim, wide + i * params->dim);
        qsort(all, n, sizeof(double), compare_doubles);
        assert_int_equal(anx_index_search(index, &search, 1, rows + q * row_size, k, &hits, NULL), ANX_OK);
        for (size_t i = 0; i < k && i < n; i++, n_asked++)
            n_right += (double) distances[i] <= all[i] + 1e-4 * (1 + all[i]);
    }
    anx_free(NULL, rows);
    anx_free(NULL, wide);
    anx_free(NULL, all);
    return (double) n_right / (double) n_asked;
}

/* Labels of a script's rows, [n_row]. */
static inline uint64_t *
labels_of(const uint8_t *client, size_t size, size_t vector_size, size_t *n)
{
    uint64_t *labels = anx_alloc_array(NULL, size / (8 + vector_size) + 1, sizeof(*labels));

    assert_non_null(labels);
    *n = 0;
    for (size_t at = 48; at + 8 + vector_size <= size; at += 8 + vector_size)
        labels[(*n)++] = anx_load_le(client + at, 8);
    return labels;
}

/* An HTTP GET of the status server: the body, and the code. */
static inline int
http(const struct house *house, const char *method, const char *path, char *body, size_t size)
{
    char text[65536];
    int fd = dial(house->status_port);
    size_t n;
    int code = 0;
    const char *start;

    n = (size_t) snprintf(text, sizeof(text), "%s %s HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
                          method, path);
    put(fd, text, n);
    n = get(fd, text, sizeof(text) - 1);
    text[n] = '\0';
    close(fd);
    assert_int_equal(sscanf(text, "HTTP/1.1 %d", &code), 1);
    start = strstr(text, "\r\n\r\n");
    assert_non_null(start);
    snprintf(body, size, "%s", start + 4);
    return code;
}

static inline int
status_of(const struct house *house)
{
    char body[256];
    int status = -1;

    assert_int_equal(http(house, "GET", "/", body, sizeof(body)), 200);
    assert_int_equal(sscanf(body, "{\"status\":%d", &status), 1);
    return status;
}

static inline size_t
sessions_of(const struct house *house, size_t *n_waiting)
{
    struct status_view *view = anx_alloc_bytes(NULL, sizeof(*view));
    size_t n;

    assert_non_null(view);
    anx_indexing_server_look(house->server, view);
    n = view->n_session;
    if (n_waiting)
        *n_waiting = view->n_waiting;
    anx_free(NULL, view);
    return n;
}

/* The server has seen n connections (they may wait in the system's line), and nothing is held any more: no
 * session, no job, no memory. */
static inline void
wait_idle_after(const struct house *house, size_t n_connection)
{
    struct status_view *view = anx_alloc_bytes(NULL, sizeof(*view));
    uint64_t until = deadline();

    assert_non_null(view);
    for (;;) {
        anx_indexing_server_look(house->server, view);
        if (view->n_session == 0 && view->n_waiting == 0 && view->n_job == 0 && view->memory == 0 &&
            view->jobs.totals.connections >= n_connection)
            break;
        pause_until(until, "the server to become idle");
    }
    anx_free(NULL, view);
}

static inline void
wait_idle(const struct house *house)
{
    wait_idle_after(house, 0);
}

/* --- short cuts, version 1 --- */

/* Builds and gives the file's index; row count as sent. */
static inline anx_index *
build(const struct house *house, const struct script *script, uint8_t *metric_char)
{
    struct bytes answer = talk(house, script->data, script->size);
    anx_index *index;

    if (metric_char)
        *metric_char = answer.size > 38 ? answer.data[25 + 13] : 0;
    if (metric_char && answer.size > 38)
        answer.data[25 + 13] = 'b'; /* how our own reader knows a bit index */
    index = index_of_answer(&answer, script->n_row);
    bytes_free(&answer);
    return index;
}

/* The error frame in an answer, hello and acknowledgement skipped. */
static inline const char *
error_of(const struct bytes *answer, size_t at, size_t *size)
{
    if (answer->size < at + 8 || memcmp(answer->data + at, "7337", 4) != 0)
        fail_msg("no error frame at byte %zu of %zu", at, answer->size);
    *size = anx_load_le(answer->data + at + 4, 4);
    assert_int_equal(answer->size, at + 8 + *size);
    return (const char *) answer->data + at + 8;
}

static inline void
expect_error(const struct house *house, const void *bytes, size_t size, size_t at, const char *begins,
             const char *contains)
{
    struct bytes answer = talk(house, bytes, size);
    size_t text_size;
    const char *text = error_of(&answer, at, &text_size);

    assert_true(text_size >= 1 && text_size <= 1000);
    assert_int_equal(text[text_size - 1], 0); /* original clients do not end the text themselves */
    if (strncmp(text, begins, strlen(begins)) != 0 || !strstr(text, contains))
        fail_msg("the error is \"%s\", expected \"%s ... %s\"", text, begins, contains);
    bytes_free(&answer);
}

/* Sends a part and goes away, quietly or with a reset. */
static inline void
hang_up(const struct house *house, const void *bytes, size_t size, bool resets, size_t reads)
{
    struct linger linger = { 1, 0 };
    uint8_t sink[4096];
    int fd = dial(house->port);

    put(fd, bytes, size);
    if (reads)
        get(fd, sink, reads < sizeof(sink) ? reads : sizeof(sink));
    if (resets)
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger));
    close(fd);
}

#endif
