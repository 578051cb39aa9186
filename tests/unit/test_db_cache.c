/* Index files: a start uses them, never believes them, and does without. Answers of the graph index are
 * compared with those of an exact index over the same vectors. */
#include "test_life.h"
#include "test_loaded.h"

#include <dirent.h>

#include <time.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/rng.h"

enum { N_DOC = 600, DIM = 8 };

static void
print_vector(char *out, size_t size, uint32_t seed)
{
    anx_rng rng = anx_rng_seed(seed);
    size_t n = 0;

    for (int d = 0; d < DIM; d++)
        n += (size_t) snprintf(out + n, size - n, "%s%u", d ? "," : "[", anx_rng_below(&rng, 1000));
    (void) snprintf(out + n, size - n, "]");
}

static void
put_document(struct life *life, uint32_t id, uint32_t seed)
{
    char vector[128];
    char text[640];

    print_vector(vector, sizeof(vector), seed);
    (void) snprintf(text, sizeof(text), "{\"id\":%u,\"h\":%s,\"b\":%s,\"a\":[%s,[],%s]}", id, vector, vector,
                    vector, vector);
    life_put(life, "t", text);
}

/* The graph finds what the exact index finds. */
static void
assert_answers(struct life *life)
{
    for (uint32_t q = 0; q < 20; q++) {
        char vector[128];
        char sql[512];
        anx_buffer exact;
        anx_buffer graph;

        print_vector(vector, sizeof(vector), 100000 + q);
        (void) snprintf(sql, sizeof(sql), "SELECT id, rank() FROM t WHERE KNN(b, %s, k=10)", vector);
        life_run(life, sql, &exact);
        for (int field = 0; field < 2; field++) {
            (void) snprintf(sql, sizeof(sql),
                            "SELECT id, rank() FROM t WHERE KNN(%s, %s, k=%d, ef=1000) LIMIT 10",
                            field ? "a" : "h", vector, field ? 20 : 10);
            life_run(life, sql, &graph);
            assert_string_equal(exact.data, graph.data);
            anx_buffer_fini(&graph);
        }
        anx_buffer_fini(&exact);
    }
    life_check(life, "t");
}

static void
make_namespace(struct life *life)
{
#define INDEX(name, type, array)                                                                             \
    "{\"name\":\"" name "\",\"field_type\":\"float_vector\",\"index_type\":\"" type "\",\"is_array\":" array \
    ",\"json_paths\":[\"" name "\"],\"config\":{\"dimension\":8,\"metric\":\"l2\"}}"
    life_namespace(life, "t", INDEX("h", "hnsw", "false") "," INDEX("b", "vec_bf", "false") ","
                              INDEX("a", "hnsw", "true"));
    for (uint32_t i = 0; i < N_DOC; i++)
        put_document(life, i, i);
}

/* The files of the namespace: path of the n-th in order of names, false when there are fewer. */
static bool
cache_file(const struct life *life, size_t n, char *out, size_t size)
{
    struct dirent **entries;
    char folder[128];
    bool found = false;
    int count;

    (void) snprintf(folder, sizeof(folder), "%s/d/ann", life->folder);
    count = scandir(folder, &entries, NULL, alphasort);
    for (int i = 0; i < count; i++) {
        if (entries[i]->d_name[0] != '.' && n-- == 0) {
            (void) snprintf(out, size, "%s/%s", folder, entries[i]->d_name);
            found = true;
        }
        anx_free(NULL, entries[i]);
    }
    if (count >= 0)
        anx_free(NULL, entries);
    return found;
}

static void
copy_file(const char *from, const char *to)
{
    char bytes[65536];
    int in = open(from, O_RDONLY);
    int out = open(to, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    ssize_t n;

    assert_true(in >= 0 && out >= 0);
    while ((n = read(in, bytes, sizeof(bytes))) > 0)
        assert_int_equal(write(out, bytes, (size_t) n), n);
    close(in);
    close(out);
}

static int
setup(void **state)
{
    anx_log_set(watch_log, NULL, ANX_LOG_INFO);
    memset(&loaded, 0, sizeof(loaded));
    if (life_setup(state) != 0)
        return -1;
    make_namespace(*state);
    return 0;
}

static void
a_restart_reads_files(void **state)
{
    struct life *life = *state;
    char path[512];

    life_reopen(life);
    assert_true(cache_file(life, 1, path, sizeof(path)));
    assert_false(cache_file(life, 2, path, sizeof(path))); /* the exact index has none */
    assert_int_equal(loaded.from_file, 2 * N_DOC);         /* rows of h and a */
    assert_int_equal(loaded.built, N_DOC);                 /* rows of b */
    assert_answers(life);
    life_reopen(life); /* nothing changed: the same files */
    assert_int_equal(loaded.from_file, 2 * N_DOC);
    assert_answers(life);
}

static void
an_old_file_is_brought_up_to_date(void **state)
{
    struct life *life = *state;
    char paths[2][512];
    char copy[600];

    life_close(life);
    for (size_t i = 0; i < 2; i++) {
        assert_true(cache_file(life, i, paths[i], sizeof(paths[i])));
        (void) snprintf(copy, sizeof(copy), "%s/copy%zu", life->folder, i);
        copy_file(paths[i], copy);
    }
    life_open(life);
    for (uint32_t i = 0; i < 50; i++)
        put_document(life, i, 5000 + i); /* changed */
    life_expect(life, "DELETE FROM t WHERE id >= 590", "{");
    for (uint32_t i = 0; i < 30; i++)
        put_document(life, 1000 + i, 6000 + i); /* new, some in freed rows */
    assert_answers(life);
    life_close(life);
    for (size_t i = 0; i < 2; i++) {
        (void) snprintf(copy, sizeof(copy), "%s/copy%zu", life->folder, i);
        copy_file(copy, paths[i]);
    }
    life_open(life);
    assert_int_equal(loaded.from_file, 2 * (N_DOC - 60));
    assert_int_equal(loaded.built, N_DOC + 20 + 2 * 80);
    assert_answers(life);
    life_reopen(life); /* and written again */
    assert_int_equal(loaded.from_file, 2 * (N_DOC + 20));
    assert_answers(life);
}

static void
damaged_files_are_built_anew(void **state)
{
    struct life *life = *state;
    anx_rng rng = anx_rng_seed(3);

    life_close(life);
    for (int round = 0; round < 6; round++) {
        char path[512];
        struct stat info;
        char byte;
        int fd;
        off_t at;

        assert_true(cache_file(life, (size_t) round % 2, path, sizeof(path)));
        fd = open(path, O_RDWR);
        assert_true(fd >= 0 && fstat(fd, &info) == 0);
        at = (off_t) anx_rng_below(&rng, (uint32_t) info.st_size);
        if (round < 4) {
            assert_int_equal(pread(fd, &byte, 1, at), 1);
            byte = (char) (byte ^ 0x40);
            assert_int_equal(pwrite(fd, &byte, 1, at), 1);
        } else {
            assert_int_equal(ftruncate(fd, at), 0);
        }
        close(fd);
        loaded.refused = 0;
        life_open(life);
        assert_int_equal(loaded.refused, 1);
        assert_int_equal(loaded.from_file, N_DOC);
        assert_answers(life);
        life_close(life); /* writes it again */
    }
    life_open(life);
    assert_int_equal(loaded.from_file, 2 * N_DOC);
}

/* A file that is whole but tells of other vectors. */
static void
a_strange_file_does_no_harm(void **state)
{
    struct life *life = *state;
    char path[512];
    char copy[600];

    life_close(life);
    assert_true(cache_file(life, 1, path, sizeof(path)));
    (void) snprintf(copy, sizeof(copy), "%s/copy", life->folder);
    copy_file(path, copy);
    life_open(life);
    for (uint32_t i = 0; i < N_DOC; i++)
        put_document(life, i, 7000 + i);
    life_close(life);
    copy_file(copy, path);
    life_open(life);
    assert_int_equal(loaded.from_file, N_DOC); /* the other index */
    assert_answers(life);
}

static void
files_can_be_dropped_and_switched_off(void **state)
{
    struct life *life = *state;
    char path[512];

    life_reopen(life);
    assert_true(cache_file(life, 0, path, sizeof(path)));
    life_put(life, "#config",
             "{\"type\":\"action\",\"action\":{\"command\":\"drop_ann_storage_cache\",\"namespace\":\"T\","
             "\"index\":\"a\"}}");
    assert_true(cache_file(life, 0, path, sizeof(path)));
    assert_false(cache_file(life, 1, path, sizeof(path)));
    life_put(life, "#config", "{\"type\":\"action\",\"action\":{\"command\":\"drop_ann_storage_cache\"}}");
    assert_false(cache_file(life, 0, path, sizeof(path)));
    life->params.is_ann_cache_disabled = true;
    life_reopen(life); /* the close before was still allowed to write */
    assert_int_equal(loaded.from_file, 0);
    assert_answers(life);
    life_reopen(life);
    assert_int_equal(loaded.from_file, 0);
    life->params.is_ann_cache_disabled = false;
    /* Another structure is another file; the old one is removed. */
    life_reopen(life);
    ok(life_index(
        life, "t", INDEX_UPDATE,
        "{\"name\":\"h\",\"field_type\":\"float_vector\",\"index_type\":\"hnsw\",\"json_paths\":[\"h\"],"
        "\"config\":{\"dimension\":8,\"metric\":\"l2\",\"m\":8}}"));
    assert_answers(life);
    life_reopen(life);
    assert_false(cache_file(life, 2, path, sizeof(path)));
    assert_int_equal(loaded.from_file, 2 * N_DOC);
    assert_answers(life);
}

static void
files_are_written_at_rest(void **state)
{
    struct life *life = *state;
    uint64_t deadline_ns = anx_clock_ns() + 20000000000u;
    char path[512];

    assert_false(cache_file(life, 0, path, sizeof(path)));
    life_put(life, "#config",
             "{\"type\":\"namespaces\",\"namespaces\":[{\"namespace\":\"t\",\"ann_storage_cache_build_"
             "timeout_ms\":1}]}");
    while (!cache_file(life, 1, path, sizeof(path)) && anx_clock_ns() < deadline_ns)
        (void) nanosleep(&(struct timespec) { .tv_nsec = 10000000 }, NULL);
    assert_true(cache_file(life, 1, path, sizeof(path)));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_restart_reads_files, setup, life_teardown),
        cmocka_unit_test_setup_teardown(an_old_file_is_brought_up_to_date, setup, life_teardown),
        cmocka_unit_test_setup_teardown(damaged_files_are_built_anew, setup, life_teardown),
        cmocka_unit_test_setup_teardown(a_strange_file_does_no_harm, setup, life_teardown),
        cmocka_unit_test_setup_teardown(files_can_be_dropped_and_switched_off, setup, life_teardown),
        cmocka_unit_test_setup_teardown(files_are_written_at_rest, setup, life_teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
