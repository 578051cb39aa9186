/* The store: what it promises about tables, batches, snapshots, growth, damage and crashes. */
#include "test_util.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder.h"
#include "base/rng.h"
#include "store/store.h"

static _Thread_local anx_error failure;

#define ok(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != ANX_OK)                                                                                \
            fail_msg("%s: %s", #call, failure.message);                                                      \
    } while (0)

static char folder[128];

static int
make_folder(void **state)
{
    (void) state;
    (void) snprintf(folder, sizeof(folder), "/tmp/annex-store-XXXXXX");
    return mkdtemp(folder) ? 0 : -1;
}

static int
drop_folder(void **state)
{
    (void) state;
    anx_folder_remove(folder);
    return 0;
}

static anx_text
text_of(const void *data, size_t size)
{
    return (anx_text) { data, size };
}

static void
submit_and_wait(struct store *store, struct store_batch *batch)
{
    uint64_t ticket;

    ok(store_submit(store, batch, &ticket, &failure));
    ok(store_wait(store, ticket, &failure));
}

/* ---- A model: keys 0..N-1, each with a value or without, changed by numbered batches ---- */

enum { N_KEY = 200, VALUE_MAX = 9000 };
struct model {
    uint32_t written[N_KEY]; /* number of the batch that wrote the value; 0: absent */
};

/* The value that batch n gives to key k: length and bytes follow from both. Some are longer than a page. */
static size_t
model_value(uint32_t n, uint32_t k, char *out)
{
    anx_rng rng = anx_rng_seed((uint64_t) n << 32 | k);
    uint32_t size = anx_rng_below(&rng, 8) == 0 ? anx_rng_below(&rng, VALUE_MAX) : anx_rng_below(&rng, 60);

    for (uint32_t i = 0; i < size; i++)
        out[i] = (char) ('a' + anx_rng_below(&rng, 26));
    return size;
}

static void
key_bytes(uint32_t k, uint8_t out[4])
{
    for (int i = 0; i < 4; i++)
        out[i] = (uint8_t) (k >> (24 - 8 * i));
}

/* Batch n: a few puts and deletes, now and then everything cleared, and n itself under the key "n". To the
 * model, to a store's batch, or to both. */
static void
model_batch(uint32_t n, struct model *model, struct store_batch *batch, struct store_table *table)
{
    anx_rng rng = anx_rng_seed(n);
    uint32_t n_op = 1 + anx_rng_below(&rng, 12);
    char *value = anx_alloc_bytes(NULL, VALUE_MAX);

    if (anx_rng_below(&rng, 40) == 0) {
        if (model)
            memset(model, 0, sizeof(*model));
        if (batch)
            store_batch_clear_table(batch, table);
    }
    for (uint32_t i = 0; i < n_op; i++) {
        uint32_t k = anx_rng_below(&rng, N_KEY);
        bool is_delete = anx_rng_below(&rng, 4) == 0;
        uint8_t key[4];

        key_bytes(k, key);
        if (model)
            model->written[k] = is_delete ? 0 : n;
        if (batch && is_delete)
            store_batch_delete(batch, table, text_of(key, 4));
        else if (batch)
            store_batch_put(batch, table, text_of(key, 4), text_of(value, model_value(n, k, value)));
    }
    if (batch)
        store_batch_put(batch, table, ANX_TEXT("\xff"), text_of(&n, sizeof(n)));
    anx_free(NULL, value);
}

struct compare {
    const struct model *model;
    uint32_t next; /* key that should come next or later */
    uint32_t n;    /* number stored in the table */
    bool failed;
    char *value;
};

static bool
compare_row(void *context, anx_text key, anx_text value)
{
    struct compare *c = context;
    uint32_t k = 0;

    if (key.size == 1) {
        memcpy(&c->n, value.data, sizeof(c->n));
        return true;
    }
    for (int i = 0; i < 4; i++)
        k = k << 8 | (uint8_t) key.data[i];
    while (c->next < k && c->next < N_KEY)
        c->failed |= c->model->written[c->next++] != 0;
    c->failed |= k != c->next++ || k >= N_KEY || c->model->written[k] == 0
                 || value.size != model_value(c->model->written[k], k, c->value)
                 || memcmp(value.data, c->value, value.size) != 0;
    return !c->failed;
}

static uint32_t
stored_number(struct store *store, struct store_table *table)
{
    struct store_read *read;
    anx_text value;
    uint32_t n = 0;

    ok(store_read_begin(store, &read, &failure));
    if (store_get(read, table, ANX_TEXT("\xff"), &value, NULL) == ANX_OK)
        memcpy(&n, value.data, sizeof(n));
    store_read_end(read);
    return n;
}

static void
assert_is_model(struct store *store, struct store_table *table, const struct model *model)
{
    struct compare c = { .model = model, .value = anx_alloc_bytes(NULL, VALUE_MAX) };
    struct store_read *read;

    ok(store_read_begin(store, &read, &failure));
    ok(store_scan(read, table, text_of(NULL, 0), compare_row, &c, &failure));
    store_read_end(read);
    while (c.next < N_KEY)
        c.failed |= model->written[c.next++] != 0;
    anx_free(NULL, c.value);
    if (c.failed)
        fail_msg("the table differs from the model at key %u, after batch %u", c.next - 1, c.n);
}

/* ---- Tests ---- */

static bool
count_row(void *context, anx_text key, anx_text value)
{
    size_t *n = context;

    (void) key;
    (void) value;
    return ++*n < 3;
}

static void
values_come_back_in_order(void **state)
{
    struct store *store;
    struct store_table *table;
    struct store_batch *batch = store_batch_create();
    struct store_read *read;
    anx_text parts[2] = { ANX_TEXT("two "), ANX_TEXT("parts") };
    anx_text value;
    size_t n = 0;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    assert_int_equal(store_table(store, ANX_TEXT("books"), false, &table, &failure), ANX_E_NOT_FOUND);
    ok(store_table(store, ANX_TEXT("books"), true, &table, &failure));
    store_batch_put(batch, table, ANX_TEXT("b"), ANX_TEXT("old"));
    store_batch_put_parts(batch, table, ANX_TEXT("a"), parts, 2);
    store_batch_put(batch, table, ANX_TEXT("b"), ANX_TEXT(""));
    store_batch_put(batch, table, ANX_TEXT("c"), ANX_TEXT("x"));
    store_batch_delete(batch, table, ANX_TEXT("c"));
    store_batch_delete(batch, table, ANX_TEXT("never there"));
    submit_and_wait(store, batch);
    ok(store_read_begin(store, &read, &failure));
    ok(store_get(read, table, ANX_TEXT("a"), &value, &failure));
    assert_true(anx_text_equal(value, ANX_TEXT("two parts")));
    ok(store_get(read, table, ANX_TEXT("b"), &value, &failure));
    assert_int_equal(value.size, 0);
    assert_int_equal(store_get(read, table, ANX_TEXT("c"), &value, &failure), ANX_E_NOT_FOUND);
    ok(store_scan(read, table, ANX_TEXT("aa"), count_row, &n, &failure));
    assert_int_equal(n, 1);
    store_read_end(read);
    store_close(store);

    ok(store_open(&(struct store_params) { .path = folder, .is_read_only = true }, &store, &failure));
    ok(store_table(store, ANX_TEXT("books"), false, &table, &failure));
    ok(store_read_begin(store, &read, &failure));
    ok(store_get(read, table, ANX_TEXT("a"), &value, &failure));
    store_read_end(read);
    assert_int_equal(store_submit(store, store_batch_create(), &(uint64_t) { 0 }, &failure), ANX_E_STATE);
    store_close(store);
}

static void
tables_are_made_and_dropped(void **state)
{
    struct store *store;
    struct store_table *a;
    struct store_table *b;
    struct store_batch *batch = store_batch_create();
    struct store_read *read;
    anx_text value;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    ok(store_table(store, ANX_TEXT("a"), true, &a, &failure));
    ok(store_table(store, ANX_TEXT("b"), true, &b, &failure));
    store_batch_put(batch, a, ANX_TEXT("k"), ANX_TEXT("1"));
    store_batch_put(batch, b, ANX_TEXT("k"), ANX_TEXT("2"));
    ok(store_submit(store, batch, &(uint64_t) { 0 }, &failure));
    ok(store_table_drop(store, a, &failure)); /* waits for what was submitted */
    assert_int_equal(store_table(store, ANX_TEXT("a"), false, &a, &failure), ANX_E_NOT_FOUND);
    ok(store_table(store, ANX_TEXT("a"), true, &a, &failure));
    ok(store_read_begin(store, &read, &failure));
    assert_int_equal(store_get(read, a, ANX_TEXT("k"), &value, &failure), ANX_E_NOT_FOUND);
    ok(store_get(read, b, ANX_TEXT("k"), &value, &failure));
    assert_true(anx_text_equal(value, ANX_TEXT("2")));
    store_read_end(read);
    store_close(store);
}

static void
a_folder_has_one_owner(void **state)
{
    struct store *store;
    struct store *second;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    assert_int_equal(store_open(&(struct store_params) { .path = folder }, &second, &failure), ANX_E_BUSY);
    assert_null(second);
    store_close(store);
}

static void
wrong_keys_fail_the_submit(void **state)
{
    static const char longest[STORE_KEY_MAX + 1] = { 1 };
    static const struct {
        size_t size;
        bool is_fine;
    } rows[] = { { 0, false }, { 1, true }, { STORE_KEY_MAX, true }, { STORE_KEY_MAX + 1, false } };
    struct store *store;
    struct store_table *table;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), true, &table, &failure));
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct store_batch *batch = store_batch_create();
        uint64_t ticket;
        anx_status st;

        store_batch_put(batch, table, text_of(longest, rows[i].size), ANX_TEXT("v"));
        st = store_submit(store, batch, &ticket, NULL);
        assert_int_equal(st == ANX_OK, rows[i].is_fine);
        if (st == ANX_OK)
            ok(store_wait(store, ticket, &failure));
    }
    store_close(store);
}

static void
random_batches_agree_with_a_model(void **state)
{
    struct model model = { 0 };
    struct store *store;
    struct store_table *table;

    (void) state;
    for (uint32_t n = 1; n <= 1200;) {
        ok(store_open(&(struct store_params) { .path = folder, .map_bytes = 1 << 20 }, &store, &failure));
        ok(store_table(store, ANX_TEXT("t"), true, &table, &failure));
        assert_is_model(store, table, &model);
        for (uint32_t end = n + 300; n < end; n++) {
            struct store_batch *batch = store_batch_create();

            model_batch(n, &model, batch, table);
            if (n % 50 == 0)
                submit_and_wait(store, batch);
            else
                ok(store_submit(store, batch, &(uint64_t) { 0 }, &failure));
            if (n % 50 == 0)
                assert_is_model(store, table, &model);
        }
        submit_and_wait(store, store_batch_create());
        ok(store_inspect(store, &failure));
        store_close(store);
    }
}

/* The range begins with 1 MiB and has to become more than 64 while somebody reads all the time. */
struct reader {
    struct store *store;
    struct store_table *table;
    atomic_bool stop;
    atomic_uint n_scan;
};

static void *
read_all_the_time(void *context)
{
    struct reader *reader = context;

    while (!atomic_load(&reader->stop)) {
        struct store_read *read;
        size_t n = 0;

        if (store_read_begin(reader->store, &read, NULL) != ANX_OK
            || store_scan(read, reader->table, text_of(NULL, 0), count_row, &n, NULL) != ANX_OK)
            break;
        store_read_end(read);
        atomic_fetch_add(&reader->n_scan, 1);
    }
    return NULL;
}

static void
the_range_grows_while_it_is_read(void **state)
{
    static char value[100000];
    struct reader reader = { 0 };
    struct store_stats stats;
    pthread_t thread;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder, .map_bytes = 1 << 20, .max_queued = 1 << 20 },
                  &reader.store, &failure));
    ok(store_table(reader.store, ANX_TEXT("t"), true, &reader.table, &failure));
    assert_int_equal(pthread_create(&thread, NULL, read_all_the_time, &reader), 0);
    for (uint32_t i = 0; i < 640; i++) {
        struct store_batch *batch = store_batch_create();
        uint8_t key[4];

        key_bytes(i, key);
        memset(value, (int) i, sizeof(value));
        store_batch_put(batch, reader.table, text_of(key, 4), text_of(value, sizeof(value)));
        ok(store_submit(reader.store, batch, &(uint64_t) { 0 }, &failure));
    }
    submit_and_wait(reader.store, store_batch_create());
    atomic_store(&reader.stop, true);
    pthread_join(thread, NULL);
    assert_true(atomic_load(&reader.n_scan) > 0);
    store_get_stats(reader.store, &stats);
    assert_true(stats.bytes_used > 64000000 && stats.is_ok && stats.queued_bytes == 0);
    ok(store_inspect(reader.store, &failure));
    store_close(reader.store);
}

static void
a_full_store_refuses_and_keeps_what_it_has(void **state)
{
    static char value[300000];
    struct store *store;
    struct store_table *table;
    struct store_batch *batch;
    struct store_read *read;
    struct store_stats stats;
    anx_text got;
    uint64_t ticket;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder, .map_bytes = 1 << 20, .max_bytes = 1 << 20 },
                  &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), true, &table, &failure));
    batch = store_batch_create();
    store_batch_put(batch, table, ANX_TEXT("a"), text_of(value, sizeof(value)));
    submit_and_wait(store, batch);
    batch = store_batch_create();
    for (char key = 'b'; key < 'k'; key++)
        store_batch_put(batch, table, text_of(&key, 1), text_of(value, sizeof(value)));
    ok(store_submit(store, batch, &ticket, &failure));
    assert_int_equal(store_wait(store, ticket, &failure), ANX_E_IO);
    assert_int_equal(store_submit(store, store_batch_create(), &ticket, &failure), ANX_E_IO);
    store_get_stats(store, &stats);
    assert_false(stats.is_ok);
    assert_true(stats.failure[0] != '\0');
    ok(store_read_begin(store, &read, &failure));
    ok(store_get(read, table, ANX_TEXT("a"), &got, &failure));
    assert_int_equal(store_get(read, table, ANX_TEXT("b"), &got, &failure), ANX_E_NOT_FOUND);
    store_read_end(read);
    store_close(store);
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    store_close(store);
}

struct writer {
    struct store *store;
    struct store_table *table;
    uint32_t number;
};

static void *
write_and_wait(void *context)
{
    struct writer *writer = context;

    for (uint32_t i = 0; i < 50; i++) {
        struct store_batch *batch = store_batch_create();
        uint8_t key[4];

        key_bytes(writer->number * 1000 + i, key);
        store_batch_put(batch, writer->table, text_of(key, 4), text_of(&i, sizeof(i)));
        submit_and_wait(writer->store, batch);
    }
    return NULL;
}

static void
writers_share_commits(void **state)
{
    enum { N_WRITER = 16 };
    struct writer writers[N_WRITER];
    pthread_t threads[N_WRITER];
    struct store *store;
    struct store_table *table;
    struct store_stats stats;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), true, &table, &failure));
    for (uint32_t i = 0; i < N_WRITER; i++) {
        writers[i] = (struct writer) { store, table, i };
        assert_int_equal(pthread_create(&threads[i], NULL, write_and_wait, &writers[i]), 0);
    }
    for (uint32_t i = 0; i < N_WRITER; i++)
        pthread_join(threads[i], NULL);
    store_get_stats(store, &stats);
    print_message("# %d batches in %d commits\n", (int) stats.batches, (int) stats.commits);
    assert_int_equal(stats.batches, N_WRITER * 50);
    assert_true(stats.commits < stats.batches / 2);
    store_close(store);
}

static void
asynchronous_writes_are_there_after_close(void **state)
{
    struct store_params params = { .path = folder, .durability = STORE_DURABLE_ASYNC, .sync_ms = 20 };
    struct model model = { 0 };
    struct store *store;
    struct store_table *table;
    struct store_stats stats;

    (void) state;
    ok(store_open(&params, &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), true, &table, &failure));
    for (uint32_t n = 1; n <= 400; n++) {
        struct store_batch *batch = store_batch_create();

        model_batch(n, &model, batch, table);
        submit_and_wait(store, batch);
    }
    store_get_stats(store, &stats);
    assert_true(stats.commits < 100);
    store_close(store);
    ok(store_open(&params, &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), false, &table, &failure));
    assert_is_model(store, table, &model);
    store_close(store);
}

static void
a_copy_is_the_same(void **state)
{
    struct model model = { 0 };
    struct store *store;
    struct store_table *table;
    char copy[160];

    (void) state;
    (void) snprintf(copy, sizeof(copy), "%s/copy", folder);
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), true, &table, &failure));
    for (uint32_t n = 1; n <= 100; n++) {
        struct store_batch *batch = store_batch_create();

        model_batch(n, &model, batch, table);
        ok(store_submit(store, batch, &(uint64_t) { 0 }, &failure));
    }
    submit_and_wait(store, store_batch_create());
    ok(store_copy(store, copy, &failure));
    store_close(store);
    ok(store_open(&(struct store_params) { .path = copy }, &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), false, &table, &failure));
    assert_is_model(store, table, &model);
    store_close(store);
    anx_folder_remove(copy);
}

/* ---- Damage ---- */

static char *
read_file(const char *path, size_t *size)
{
    int fd = open(path, O_RDONLY);
    struct stat info;
    char *bytes;

    assert_true(fd >= 0 && fstat(fd, &info) == 0);
    *size = (size_t) info.st_size;
    bytes = anx_alloc_bytes(NULL, *size);
    assert_int_equal(read(fd, bytes, *size), (ssize_t) *size);
    close(fd);
    return bytes;
}

static void
write_file(const char *path, const char *bytes, size_t size)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

    assert_true(fd >= 0);
    assert_int_equal(write(fd, bytes, size), (ssize_t) size);
    close(fd);
}

/* A damaged file is either refused, or what it gives is right, or the damage is reported while reading. */
static bool
damage_is_noticed_or_harmless(const struct model *model)
{
    struct store *store;
    struct store_table *table;
    struct store_read *read = NULL;
    struct compare c = { .model = model, .value = anx_alloc_bytes(NULL, VALUE_MAX) };
    bool is_noticed = true;

    if (store_open(&(struct store_params) { .path = folder }, &store, NULL) == ANX_OK) {
        if (store_table(store, ANX_TEXT("t"), false, &table, NULL) == ANX_OK) {
            ok(store_read_begin(store, &read, &failure));
            is_noticed = store_scan(read, table, text_of(NULL, 0), compare_row, &c, NULL) != ANX_OK;
            store_read_end(read);
            while (!is_noticed && c.next < N_KEY)
                c.failed |= model->written[c.next++] != 0;
        }
        store_close(store);
    }
    anx_free(NULL, c.value);
    return is_noticed || !c.failed;
}

static void
damage_never_gives_wrong_values(void **state)
{
    struct model model = { 0 };
    struct store *store;
    struct store_table *table;
    anx_rng rng = anx_rng_seed(7);
    char path[160];
    size_t size;
    char *bytes;

    (void) state;
    ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
    ok(store_table(store, ANX_TEXT("t"), true, &table, &failure));
    for (uint32_t n = 1; n <= 60; n++) {
        struct store_batch *batch = store_batch_create();

        model_batch(n, &model, batch, table);
        submit_and_wait(store, batch);
    }
    store_close(store);
    (void) snprintf(path, sizeof(path), "%s/data.mdb", folder);
    bytes = read_file(path, &size);
    assert_true(damage_is_noticed_or_harmless(&model));
    for (int i = 0; i < 600; i++) {
        /* Half of the damage goes to the first bytes of a page, where the structure is. */
        size_t at = anx_rng_below(&rng, (uint32_t) size);
        char before;

        if (i % 2)
            at = at / 4096 * 4096 + anx_rng_below(&rng, 160);
        before = bytes[at];
        bytes[at] = (char) (bytes[at] ^ (1 << anx_rng_below(&rng, 8)));
        write_file(path, bytes, size);
        if (!damage_is_noticed_or_harmless(&model))
            fail_msg("byte %zu of %zu was changed and nobody noticed", at, size);
        bytes[at] = before;
    }
    for (int i = 0; i < 40; i++) {
        write_file(path, bytes, anx_rng_below(&rng, (uint32_t) size));
        (void) damage_is_noticed_or_harmless(&model);
    }
    anx_free(NULL, bytes);
}

/* ---- Crash ---- */

struct child {
    struct store *store;
    struct store_table *table;
    int fd; /* acknowledged numbers go here */
    pthread_mutex_t lock;
    pthread_cond_t more;
    uint64_t tickets[4096];
    uint32_t first, n_submitted, n_acknowledged;
};

static void *
acknowledge(void *context)
{
    struct child *child = context;

    for (;;) {
        uint64_t ticket;
        uint32_t n;

        pthread_mutex_lock(&child->lock);
        while (child->n_acknowledged == child->n_submitted)
            pthread_cond_wait(&child->more, &child->lock);
        ticket = child->tickets[child->n_acknowledged % ANX_COUNT_OF(child->tickets)];
        n = child->first + child->n_acknowledged++;
        pthread_cond_broadcast(&child->more);
        pthread_mutex_unlock(&child->lock);
        if (store_wait(child->store, ticket, NULL) != ANX_OK || write(child->fd, &n, sizeof(n)) != sizeof(n))
            _exit(1);
    }
    return NULL;
}

/* Writes batches without end, far ahead of the acknowledgements. Ends by being killed. */
static void
child_main(int fd)
{
    struct child *child = anx_alloc_zeroed(NULL, 1, sizeof(*child));
    pthread_t thread;

    child->fd = fd;
    pthread_mutex_init(&child->lock, NULL);
    pthread_cond_init(&child->more, NULL);
    if (store_open(&(struct store_params) { .path = folder, .map_bytes = 1 << 20 }, &child->store, NULL)
            != ANX_OK
        || store_table(child->store, ANX_TEXT("t"), true, &child->table, NULL) != ANX_OK)
        _exit(2);
    child->first = stored_number(child->store, child->table) + 1;
    if (pthread_create(&thread, NULL, acknowledge, child) != 0)
        _exit(3);
    for (uint32_t n = child->first;; n++) {
        struct store_batch *batch = store_batch_create();
        uint64_t ticket;

        model_batch(n, NULL, batch, child->table);
        if (store_submit(child->store, batch, &ticket, NULL) != ANX_OK)
            _exit(4);
        pthread_mutex_lock(&child->lock);
        while (child->n_submitted - child->n_acknowledged == ANX_COUNT_OF(child->tickets))
            pthread_cond_wait(&child->more, &child->lock);
        child->tickets[child->n_submitted++ % ANX_COUNT_OF(child->tickets)] = ticket;
        pthread_cond_broadcast(&child->more);
        pthread_mutex_unlock(&child->lock);
    }
}

/* The last number that the child acknowledged, after it was killed somewhere behind `wanted`
 * acknowledgements. */
static uint32_t
run_and_kill(uint32_t wanted)
{
    uint32_t last = 0;
    uint32_t n;
    uint32_t n_seen = 0;
    int fds[2];
    int status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        child_main(fds[1]);
    }
    close(fds[1]);
    while (n_seen < wanted && read(fds[0], &n, sizeof(n)) == sizeof(n)) {
        last = n;
        n_seen++;
    }
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (read(fds[0], &n, sizeof(n)) == sizeof(n)) /* acknowledged before the kill, read after it */
        last = n;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        fail_msg("the child ended by itself with status %d after %u batches", WEXITSTATUS(status), n_seen);
    return last;
}

static void
killed_processes_lose_nothing_acknowledged(void **state)
{
    struct model model = { 0 };
    uint32_t applied = 0;
    anx_rng rng = anx_rng_seed(11);

    (void) state;
    for (int round = 0; round < 12; round++) {
        uint32_t acknowledged = run_and_kill(1 + anx_rng_below(&rng, 300));
        struct store *store;
        struct store_table *table;
        uint32_t n;

        ok(store_open(&(struct store_params) { .path = folder }, &store, &failure));
        ok(store_table(store, ANX_TEXT("t"), false, &table, &failure));
        n = stored_number(store, table);
        if (n < acknowledged)
            fail_msg("batch %u was acknowledged, but only %u are there", acknowledged, n);
        while (applied < n)
            model_batch(++applied, &model, NULL, NULL);
        assert_is_model(store, table, &model);
        ok(store_inspect(store, &failure));
        store_close(store);
    }
    print_message("# %u batches survived 12 kills\n", applied);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(values_come_back_in_order, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(tables_are_made_and_dropped, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_folder_has_one_owner, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(wrong_keys_fail_the_submit, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(random_batches_agree_with_a_model, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(the_range_grows_while_it_is_read, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_full_store_refuses_and_keeps_what_it_has, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(writers_share_commits, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(asynchronous_writes_are_there_after_close, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(a_copy_is_the_same, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(damage_never_gives_wrong_values, make_folder, drop_folder),
        cmocka_unit_test_setup_teardown(killed_processes_lose_nothing_acknowledged, make_folder, drop_folder),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
