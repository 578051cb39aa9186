/* Index files of the real kinds: what is saved comes back and answers the same, loaded or mapped, and hostile
 * sections (with right checksums) do no harm. */
#include "test_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "annex/index_file.h"
#include "base/hash.h"
#include "test_file_toy.h"

#define N_ROW 1300 /* enough for hnsw to have a graph */
#define N_QUERY 20
#define K 10

static const struct space {
    anx_metric metric;
    anx_scalar scalar;
    size_t dim;
} spaces[] = {
    { ANX_METRIC_L2, ANX_SCALAR_F32, 24 },     { ANX_METRIC_COSINE, ANX_SCALAR_F16, 40 },
    { ANX_METRIC_IP, ANX_SCALAR_I8, 64 },      { ANX_METRIC_L2, ANX_SCALAR_U8, 17 },
    { ANX_METRIC_HAMMING, ANX_SCALAR_B1, 96 }, { ANX_METRIC_COSINE, ANX_SCALAR_F32, 33 },
};

/* Rows around a few centers: what real vectors look like, and what a graph can search. */
static void
fill_rows(anx_rng *rng, const struct space *space, size_t n, uint8_t *rows)
{
    size_t row_size = anx_row_size(space->scalar, space->dim);
    anx_rng centers = anx_rng_seed(99);

    for (size_t i = 0; i < n; i++) {
        uint32_t center = anx_rng_below(rng, 8);

        for (size_t j = 0; j < space->dim; j++) {
            anx_rng at = anx_rng_seed(centers.state + center * 1000 + j);
            double x = (anx_rng_unit(&at) - 0.5) * 4 + (anx_rng_unit(rng) - 0.5) * 2;
            float f = (float) x;
            uint16_t half;
            uint8_t *row = rows + i * row_size;

            switch (space->scalar) {
            case ANX_SCALAR_F32:
                memcpy(row + 4 * j, &f, 4);
                break;
            case ANX_SCALAR_F16:
                anx_kernels_best()->f32_to_f16(&f, 1, &half);
                memcpy(row + 2 * j, &half, 2);
                break;
            case ANX_SCALAR_I8:
                row[j] = (uint8_t) (int8_t) (x * 30);
                break;
            case ANX_SCALAR_U8:
                row[j] = (uint8_t) (128 + x * 30);
                break;
            default:
                if (j % 8 == 0)
                    row[j / 8] = 0;
                row[j / 8] = (uint8_t) (row[j / 8] | (x > 0 ? 0x80u >> j % 8 : 0));
            }
        }
    }
}

struct fixture {
    const struct space *space;
    uint8_t *rows, *queries;
    uint64_t *labels;
    anx_index *index;
};

static void
fixture_open(struct fixture *f, anx_index_kind kind, const struct space *space, size_t n,
             anx_quantization quantization)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_rng rng = anx_rng_seed(SEED);
    size_t row_size = anx_row_size(space->scalar, space->dim);
    anx_error err;

    params.kind = kind, params.metric = space->metric, params.scalar = space->scalar, params.dim = space->dim;
    params.threads = 1, params.centroids = 7, params.nprobe = 7, params.m = 8,
    params.quantization = quantization;
    f->space = space;
    f->rows = anx_alloc_array(NULL, n + 1, row_size);
    f->queries = anx_alloc_array(NULL, N_QUERY, row_size);
    f->labels = anx_alloc_array(NULL, n + 1, sizeof(*f->labels));
    fill_rows(&rng, space, n, f->rows);
    fill_rows(&rng, space, N_QUERY, f->queries);
    for (size_t i = 0; i < n; i++)
        f->labels[i] = 1000000007u * (uint64_t) i;
    f->index = NULL;
    if (anx_index_create(&params, &f->index, &err) != ANX_OK)
        fail_msg("create %s: %s", anx_index_kind_name(kind), err.message);
    if (n > 0 && anx_index_add_batch(f->index, n, f->labels, f->rows, &err) != ANX_OK)
        fail_msg("add to %s: %s", anx_index_kind_name(kind), err.message);
    if (n > 0 && kind == ANX_INDEX_IVF && anx_index_train(f->index, 1, &err) != ANX_OK)
        fail_msg("train: %s", err.message);
}

static void
fixture_close(struct fixture *f)
{
    anx_index_destroy(f->index);
    anx_free(NULL, f->rows);
    anx_free(NULL, f->queries);
    anx_free(NULL, f->labels);
}

struct answers {
    uint64_t labels[N_QUERY * K];
    float distances[N_QUERY * K];
};

static void
ask(const anx_index *index, const struct fixture *f, struct answers *answers)
{
    anx_hits hits = { answers->distances, answers->labels };
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    anx_error err;

    params.ef = 200;
    if (anx_index_search(index, &params, N_QUERY, f->queries, K, &hits, &err) != ANX_OK)
        fail_msg("search: %s", err.message);
}

static struct bytes
save_index(const anx_index *index, const anx_save_params *params)
{
    struct bytes bytes = { 0 };
    anx_sink sink = { &bytes, bytes_write };
    size_t announced = 0, written = 0;
    anx_error err;

    if (anx_index_save_size(index, params, &announced, &err) != ANX_OK ||
        anx_index_save(index, params, &sink, &written, &err) != ANX_OK)
        fail_msg("save: %s", err.message);
    assert_int_equal(announced, bytes.size);
    assert_int_equal(written, bytes.size);
    return bytes;
}

static anx_status
load_index(const struct bytes *file, anx_index **out, anx_error *err)
{
    struct bytes_reader reader = { file->data, file->size, 0 };
    anx_source source = { &reader, bytes_read };
    anx_index_params hints = ANX_INDEX_PARAMS_INIT;

    hints.threads = 1;
    return anx_index_load(&source, &hints, out, err);
}

/* Sound, with every row under its label. */
static void
check_rows_of(const anx_index *index, const struct fixture *f, size_t n)
{
    size_t row_size = anx_row_size(f->space->scalar, f->space->dim);
    uint8_t row[512];
    anx_error err;

    assert_int_equal(anx_index_count(index), n);
    if (anx_index_check(index, &err) != ANX_OK)
        fail_msg("%s%s: check: %s", index->ops->name, index->is_mapped ? ", mapped" : "", err.message);
    for (size_t i = 0; i < n; i++) {
        if (anx_index_get(index, f->labels[i], row, &err) != ANX_OK)
            fail_msg("get: %s", err.message);
        assert_memory_equal(row, f->rows + i * row_size, row_size);
    }
}

static void
expect_refused_writes(anx_index *index, const struct fixture *f)
{
    anx_error err;

    assert_int_equal(anx_index_add(index, 5, f->rows, &err), ANX_E_STATE);
    assert_int_equal(anx_index_remove(index, f->labels[0], &err), ANX_E_STATE);
}

static void
temporary_path(char path[64])
{
    int fd;

    snprintf(path, 64, "/tmp/annex-test-kinds-XXXXXX");
    fd = mkstemp(path);
    assert_true(fd >= 0);
    close(fd);
}

static bool
goes_together(anx_index_kind kind, const struct space *space)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    anx_index *index;
    anx_error err;
    anx_status st;

    params.kind = kind, params.metric = space->metric, params.scalar = space->scalar, params.dim = space->dim;
    st = anx_index_create(&params, &index, &err);
    anx_index_destroy(index);
    if (st != ANX_OK)
        assert_int_equal(st, ANX_E_UNSUPPORTED);
    return st == ANX_OK;
}

/* Saved in our own format: the same answers to the last bit, loaded and mapped, and the same file when saved
 * again. */
static void
own_format_keeps_the_index(void **state)
{
    char path[64];

    (void) state;
    temporary_path(path);
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (size_t s = 0; s < ANX_COUNT_OF(spaces); s++) {
            anx_save_params params = { ANX_FILE_ANNEX, false, false };
            struct fixture f;
            struct answers before, after;
            struct bytes file, again;
            anx_file_info info;
            anx_index *index;
            anx_error err;

            if (!goes_together((anx_index_kind) kind, &spaces[s]))
                continue;
            fixture_open(&f, (anx_index_kind) kind, &spaces[s], N_ROW, ANX_QUANTIZATION_NONE);
            ask(f.index, &f, &before);
            file = save_index(f.index, &params);
            if (load_index(&file, &index, &err) != ANX_OK)
                fail_msg("%s: %s", anx_index_kind_name((anx_index_kind) kind), err.message);
            check_rows_of(index, &f, N_ROW);
            ask(index, &f, &after);
            assert_memory_equal(&before, &after, sizeof(before));
            again = save_index(index, &params);
            assert_int_equal(again.size, file.size);
            assert_memory_equal(again.data, file.data, file.size);
            assert_int_equal(anx_index_remove(index, f.labels[3], &err), ANX_OK);
            assert_int_equal(anx_index_add(index, 77, f.rows, &err), ANX_OK);
            assert_int_equal(anx_index_check(index, &err), ANX_OK);
            anx_index_destroy(index);

            assert_int_equal(anx_index_save_file(f.index, &params, path, &err), ANX_OK);
            assert_int_equal(anx_file_inspect(path, &info, &err), ANX_OK);
            assert_int_equal(info.kind, kind);
            assert_int_equal(info.count, N_ROW);
            if (anx_file_verify(path, &err) != ANX_OK ||
                anx_index_map_file(path, NULL, &index, &err) != ANX_OK)
                fail_msg("%s: %s", anx_index_kind_name((anx_index_kind) kind), err.message);
            /* A new file in its place leaves the mapped one alone. */
            assert_int_equal(anx_index_save_file(f.index, &params, path, &err), ANX_OK);
            check_rows_of(index, &f, N_ROW);
            ask(index, &f, &after);
            assert_memory_equal(&before, &after, sizeof(before));
            expect_refused_writes(index, &f);
            anx_index_destroy(index);
            bytes_free(&file);
            bytes_free(&again);
            fixture_close(&f);
        }
    unlink(path);
}

static void
empty_and_tiny_indexes_are_kept(void **state)
{
    (void) state;
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (size_t n = 0; n < 3; n++)
            for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
                anx_save_params params = { variants[v].format, variants[v].plain, variants[v].native };
                struct fixture f;
                struct bytes file;
                anx_index *index;
                anx_error err;

                if (kind != ANX_INDEX_HNSW && params.format != ANX_FILE_ANNEX)
                    continue;
                fixture_open(&f, (anx_index_kind) kind, &spaces[0], n, ANX_QUANTIZATION_NONE);
                file = save_index(f.index, &params);
                if (load_index(&file, &index, &err) != ANX_OK)
                    fail_msg("%s, %zu rows, %s: %s", anx_index_kind_name((anx_index_kind) kind), n,
                             variants[v].name, err.message);
                check_rows_of(index, &f, n);
                if (n < 2) {
                    assert_int_equal(anx_index_add(index, 5, f.queries, &err), ANX_OK);
                    assert_true(anx_index_contains(index, 5));
                }
                anx_index_destroy(index);
                bytes_free(&file);
                fixture_close(&f);
            }
}

/* Rounding aside, as near as the k-th. */
static float
bound(float distance)
{
    return distance + 1e-4f * (1 + (distance < 0 ? -distance : distance));
}

static double
recall(const struct answers *got, const struct answers *truth)
{
    size_t found = 0;

    for (size_t i = 0; i < N_QUERY * K; i++)
        found += got->distances[i] <= bound(truth->distances[i / K * K + K - 1]);
    return (double) found / (N_QUERY * K);
}

static void
foreign_formats_keep_rows_and_recall(void **state)
{
    char path[64];

    (void) state;
    temporary_path(path);
    for (size_t s = 0; s < ANX_COUNT_OF(spaces); s++)
        for (size_t v = 1; v < ANX_COUNT_OF(variants); v++) {
            anx_save_params params = { variants[v].format, variants[v].plain, variants[v].native };
            struct fixture f, exact;
            struct answers truth, got;
            anx_index *index;
            anx_error err;

            if (params.format == ANX_FILE_LANTERN && spaces[s].scalar == ANX_SCALAR_U8)
                continue;
            fixture_open(&f, ANX_INDEX_HNSW, &spaces[s], N_ROW, ANX_QUANTIZATION_NONE);
            fixture_open(&exact, ANX_INDEX_FLAT, &spaces[s], N_ROW, ANX_QUANTIZATION_NONE);
            ask(exact.index, &f, &truth);
            if (anx_index_save_file(f.index, &params, path, &err) != ANX_OK ||
                anx_file_verify(path, &err) != ANX_OK ||
                anx_index_load_file(path, NULL, &index, &err) != ANX_OK)
                fail_msg("%s: %s", variants[v].name, err.message);
            check_rows_of(index, &f, N_ROW);
            ask(index, &f, &got);
            if (recall(&got, &truth) < 0.97)
                fail_msg("%s, %s %s: recall %.3f", variants[v].name, anx_metric_name(spaces[s].metric),
                         anx_scalar_name(spaces[s].scalar), recall(&got, &truth));
            anx_index_destroy(index);
            if (anx_index_map_file(path, NULL, &index, &err) != ANX_OK)
                fail_msg("%s: %s", variants[v].name, err.message);
            ask(index, &f, &got);
            assert_true(recall(&got, &truth) >= 0.97);
            expect_refused_writes(index, &f);
            anx_index_destroy(index);
            fixture_close(&f);
            fixture_close(&exact);
        }
    unlink(path);
}

static void
codes_only_goes_into_our_format_alone(void **state)
{
    anx_save_params own = { ANX_FILE_ANNEX, false, false }, foreign = { ANX_FILE_USEARCH, false, false };
    struct fixture f;
    struct answers before, after;
    struct bytes file;
    anx_index *index;
    anx_error err;
    size_t size;

    (void) state;
    fixture_open(&f, ANX_INDEX_HNSW, &spaces[0], N_ROW, ANX_QUANTIZATION_SQ8);
    assert_int_equal(anx_index_save_size(f.index, &foreign, &size, &err), ANX_E_UNSUPPORTED);
    ask(f.index, &f, &before);
    file = save_index(f.index, &own);
    if (load_index(&file, &index, &err) != ANX_OK)
        fail_msg("%s", err.message);
    ask(index, &f, &after);
    assert_memory_equal(&before, &after, sizeof(before));
    anx_index_destroy(index);
    bytes_free(&file);
    fixture_close(&f);
}

/* Makes the checksums of an annex file right again, so that only the kind's own checks stand. */
static bool
repair(struct bytes *file)
{
    struct bytes fixed = { 0 };
    anx_sink sink = { &fixed, bytes_write };
    struct file_head head;
    struct file_out out;

    anx_store_le(file->data + FILE_HEAD_SIZE - 8, anx_hash(file->data, FILE_HEAD_SIZE - 8), 8);
    if (file_head_decode(file->data, 0, &head, NULL) != ANX_OK || head.file_size != file->size)
        return false;
    file_out_init(&out, &sink, NULL, head.file_size, true, NULL);
    file_out_write(&out, file->data, head.trailer_at);
    file_trailer_write(&out);
    file_out_flush(&out);
    file_out_fini(&out);
    bytes_free(file);
    *file = fixed;
    return true;
}

/* Forged numbers and flipped bits anywhere behind the head, in an index of n rows. */
static void
forge_sections(anx_index_kind kind, size_t n, size_t n_round, anx_rng *rng)
{
    static const uint64_t numbers[] = { 0, 1, 7, 255, 65535, 1u << 20, UINT32_MAX, 1ull << 40, UINT64_MAX };
    anx_save_params params = { ANX_FILE_ANNEX, false, false };
    struct fixture f;
    struct bytes file;
    size_t n_loaded = 0;

    fixture_open(&f, kind, &spaces[0], n, ANX_QUANTIZATION_NONE);
    file = save_index(f.index, &params);
    for (size_t round = 0; round < n_round; round++) {
        struct bytes forged = { 0 };
        size_t width = (size_t) 1 << anx_rng_below(rng, 4);
        size_t at = FILE_HEAD_SIZE + anx_rng_below(rng, (uint32_t) (file.size - FILE_HEAD_SIZE - 200));
        struct answers answers;
        anx_index *index = NULL;
        anx_error err = { 0 };

        (void) bytes_write(&forged, file.data, file.size, NULL);
        if (round % 2)
            anx_store_le(forged.data + at, numbers[anx_rng_below(rng, ANX_COUNT_OF(numbers))], width);
        else
            forged.data[at] ^= (uint8_t) (1u << anx_rng_below(rng, 8));
        assert_true(repair(&forged));
        if (load_index(&forged, &index, &err) == ANX_OK) {
            n_loaded++;
            (void) !anx_index_check(index, &err);
            ask(index, &f, &answers);
        } else {
            assert_true(err.message[0] != '\0');
        }
        anx_index_destroy(index);
        bytes_free(&forged);
    }
    print_message("# %s, %zu rows: %zu of %zu forged files were refused by the kind\n",
                  anx_index_kind_name(kind), n, n_round - n_loaded, n_round);
    bytes_free(&file);
    fixture_close(&f);
}

static void
hostile_sections_do_no_harm(void **state)
{
    anx_rng rng = anx_rng_seed(SEED);

    (void) state;
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++) {
        forge_sections((anx_index_kind) kind, 60, 1500, &rng);
        forge_sections((anx_index_kind) kind, N_ROW, 300, &rng);
    }
}

/* Damage of every sort, in files of every kind and format: a checksummed file is never accepted, a plain one
 * only when what it holds is sound. */
static void
damaged_files_of_every_kind(void **state)
{
    enum { ROUNDS = 700 };
    anx_rng rng = anx_rng_seed(SEED + 1);
    size_t n_file = 0, n_sound = 0;

    (void) state;
    for (int kind = 0; kind < ANX_INDEX_KIND_COUNT; kind++)
        for (size_t v = 0; v < ANX_COUNT_OF(variants); v++) {
            anx_save_params params = { variants[v].format, variants[v].plain, variants[v].native };
            struct fixture f;
            struct bytes file;

            if (kind != ANX_INDEX_HNSW && params.format != ANX_FILE_ANNEX)
                continue;
            fixture_open(&f, (anx_index_kind) kind, &spaces[0], 50, ANX_QUANTIZATION_NONE);
            file = save_index(f.index, &params);
            for (size_t round = 0; round < ROUNDS; round++, n_file++) {
                struct bytes broken = { 0 };
                struct answers answers;
                anx_index *index;
                anx_error err;

                (void) bytes_write(&broken, file.data, file.size, NULL);
                broken.size = damage(broken.data, broken.size, &rng);
                if (load_index(&broken, &index, &err) == ANX_OK) {
                    bool is_same =
                        broken.size == file.size && memcmp(broken.data, file.data, file.size) == 0;

                    if (!is_same && !variants[v].plain)
                        fail_msg("%s, %s: accepted", anx_index_kind_name((anx_index_kind) kind),
                                 variants[v].name);
                    if (anx_index_check(index, &err) != ANX_OK)
                        fail_msg("%s: accepted, but %s", variants[v].name, err.message);
                    ask(index, &f, &answers);
                    n_sound += !is_same;
                    anx_index_destroy(index);
                }
                bytes_free(&broken);
            }
            bytes_free(&file);
            fixture_close(&f);
        }
    print_message("# %zu damaged files: no checksummed one accepted; %zu plain ones accepted, all sound\n",
                  n_file, n_sound);
}

/* Removals leave freed slots behind, with links that nobody follows any more: the file is taken all the same.
 */
static void
removed_rows_do_not_spoil_a_file(void **state)
{
    (void) state;
    for (anx_index_kind kind = ANX_INDEX_FLAT; kind <= ANX_INDEX_IVF; kind++) {
        anx_save_params params = { ANX_FILE_ANNEX, false, false };
        size_t n_left = N_ROW * 2;
        struct fixture f;
        struct bytes file;
        anx_index *index;
        anx_error err;

        fixture_open(&f, kind, &spaces[0], N_ROW * 2, ANX_QUANTIZATION_NONE);
        /* From the end, so that what is left are the first labels; more than repair waits for. */
        for (size_t i = 0; i < N_ROW / 2; i++) {
            if (anx_index_remove(f.index, f.labels[--n_left], &err) != ANX_OK)
                fail_msg("remove: %s", err.message);
            if (i % 100 == 99) /* a slot used again, and left again */
                if (anx_index_update(f.index, f.labels[0], f.rows, &err) != ANX_OK)
                    fail_msg("update: %s", err.message);
        }
        file = save_index(f.index, &params);
        if (load_index(&file, &index, &err) != ANX_OK)
            fail_msg("kind %d: load: %s", (int) kind, err.message);
        check_rows_of(index, &f, n_left);
        anx_index_destroy(index);
        bytes_free(&file);
        fixture_close(&f);
    }
}

/* What another reader sees of our file: from the entry, following links of level 0 alone, it gets to every
 * row. */
static void
others_can_reach_every_row(void **state)
{
    static const size_t counts[] = { 2, 3, 40, 600, N_ROW, 3000 };

    (void) state;
    for (size_t c = 0; c < ANX_COUNT_OF(counts); c++) {
        anx_save_params params = { ANX_FILE_USEARCH, true, false };
        struct fixture f;
        struct bytes file;
        struct bytes_reader reader;
        anx_source source = { &reader, bytes_read };
        struct file_load_options options = { toy_find, NULL, UINT64_MAX, false };
        uint32_t *queue = anx_alloc_zeroed(NULL, counts[c], sizeof(*queue));
        bool *seen = anx_alloc_zeroed(NULL, counts[c], 1);
        size_t n = 1;
        anx_index *index;
        struct toy *toy;
        anx_error err;

        fixture_open(&f, ANX_INDEX_HNSW, &spaces[0], counts[c], ANX_QUANTIZATION_NONE);
        file = save_index(f.index, &params);
        reader = (struct bytes_reader) { file.data, file.size, 0 };
        if (file_load(&options, &source, &index, &err) != ANX_OK)
            fail_msg("%s", err.message);
        toy = (struct toy *) index;
        assert_int_equal(toy->n, counts[c]);
        assert_int_equal(toy->m, 8);
        assert_int_equal(toy->m0, 16);
        queue[0] = toy->entry, seen[toy->entry] = true;
        for (size_t i = 0; i < n; i++)
            for (size_t l = 0; l <= toy->levels[queue[i]]; l++) {
                const uint32_t *list = toy_list(toy, queue[i], l);

                for (uint32_t j = 1; j <= list[0]; j++)
                    if (!seen[list[j]]) {
                        seen[list[j]] = true;
                        queue[n++] = list[j];
                    }
            }
        if (n < counts[c] - counts[c] / 200)
            fail_msg("of %zu rows %zu can be reached", counts[c], n);
        anx_index_destroy(index);
        anx_free(NULL, queue);
        anx_free(NULL, seen);
        bytes_free(&file);
        fixture_close(&f);
    }
}

static void
a_failed_save_leaves_nothing(void **state)
{
    anx_save_params params = { ANX_FILE_ANNEX, false, false };
    struct fixture f;
    anx_error err;

    (void) state;
    fixture_open(&f, ANX_INDEX_FLAT, &spaces[0], 5, ANX_QUANTIZATION_NONE);
    assert_int_equal(anx_index_save_file(f.index, &params, "/tmp/annex-no-such-directory/x", &err),
                     ANX_E_NOT_FOUND);
    assert_int_equal(anx_index_save_file(f.index, &params, "/tmp", &err), ANX_E_IO); /* the rename fails */
    assert_int_not_equal(access("/tmp.tmp", F_OK), 0);
    fixture_close(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(own_format_keeps_the_index),
        cmocka_unit_test(empty_and_tiny_indexes_are_kept),
        cmocka_unit_test(foreign_formats_keep_rows_and_recall),
        cmocka_unit_test(codes_only_goes_into_our_format_alone),
        cmocka_unit_test(hostile_sections_do_no_harm),
        cmocka_unit_test(damaged_files_of_every_kind),
        cmocka_unit_test(removed_rows_do_not_spoil_a_file),
        cmocka_unit_test(others_can_reach_every_row),
        cmocka_unit_test(a_failed_save_leaves_nothing),
    };

    return cmocka_run_group_tests_name("index files of the real kinds", tests, NULL, NULL);
}
