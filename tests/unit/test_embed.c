/* src/embed and src/embedder without a network: bodies of the protocol, the cache, models. */
#include "test_util.h"

#include <math.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/error.h"
#include "embed/cache.h"
#include "embed/wire.h"
#include "embedder/decimal.h"
#include "embedder/service.h"

/* ---- Bodies ---- */

static void
replies_are_read(void **state)
{
    static const struct {
        const char *body;
        size_t n_input;
        uint32_t dim; /* wanted */
        anx_status status;
        uint32_t n, got_dim; /* of the first input */
        float first;         /* component, when there are floats */
    } rows[] = {
        { "{\"products\":[[{\"chunk\":\"c\",\"embedding\":[1,2]}]]}", 1, 2, ANX_OK, 1, 2, 1 },
        { "[[{\"embedding\":[1,2]}]]", 1, 2, ANX_OK, 1, 2, 1 },
        { "{\"products\":[[3,4]]}", 1, 2, ANX_OK, 1, 2, 3 },
        { "{\"products\":[[{\"embedding\":[1,2]},{\"embedding\":[3,4]}]]}", 1, 2, ANX_OK, 2, 2, 1 },
        { "{\"products\":[[{\"embedding\":[1,2]}],[{\"embedding\":[3,4]}]]}", 1, 2, ANX_OK, 2, 2, 1 },
        { "{\"products\":[[{\"embedding\":[1,2]}],[{\"embedding\":[3,4]}]]}", 2, 2, ANX_OK, 1, 2, 1 },
        { "{\"products\":[[{\"embedding\":[1,2]}],[]]}", 2, 2, ANX_OK, 1, 2, 1 },
        { "{\"products\":[[{\"embedding\":[1,2]}]]}", 2, 2, ANX_E_LIMIT, 0, 0, 0 },
        { "{\"products\":[[{\"embedding\":[1,2]}]]}", 1, 0, ANX_OK, 1, 2, 1 },
        { "{\"products\":[[{\"embedding\":[1,2,3]}]]}", 1, 2, ANX_OK, 1, 3, NAN },
        { "{\"products\":[[{\"embedding\":[1,2]},{\"embedding\":[1]}]]}", 1, 2, ANX_OK, 2, 1, NAN },
        { "{\"products\":[[{\"embedding\":[]}]]}", 1, 2, ANX_OK, 1, 0, NAN },
        { "{\"products\":[]}", 1, 2, ANX_OK, 0, 2, NAN },
        { "{}", 1, 2, ANX_OK, 0, 2, NAN },
        { "", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "5", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "<html>", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "{\"products\":5}", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "{\"products\":[5]}", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "{\"products\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,17]}", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "{\"products\":[[5,\"x\"]]}", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "{\"products\":[[{\"embedding\":[\"x\",1,2]}]]}", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "{\"products\":[[{\"embedding\":\"AAAA\"}]]}", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
        { "{\"products\":[[{\"chunk\":\"\"}]]}", 1, 2, ANX_E_PARSE_JSON, 0, 0, 0 },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        struct embed_vectors out[2];
        anx_error err = { .message = "" };
        anx_status st =
            embed_reply_read(anx_text_of(rows[i].body), rows[i].n_input, rows[i].dim, arena, out, &err);

        if (st != rows[i].status || (st != ANX_OK && !err.message[0]))
            fail_msg("%s: status %d, %s", rows[i].body, (int) st, err.message);
        if (st == ANX_OK &&
            (out[0].n != rows[i].n || out[0].dim != rows[i].got_dim ||
             !out[0].floats != isnan(rows[i].first) || (out[0].floats && out[0].floats[0] != rows[i].first)))
            fail_msg("%s: %u vectors of %u", rows[i].body, out[0].n, out[0].dim);
        anx_arena_destroy(arena);
    }
}

/* ---- The cache ---- */

struct cache_fixture {
    char folder[64];
    struct embed_caches *caches;
    anx_arena *arena;
    uint64_t owner;
};

static void
cache_open(struct cache_fixture *f)
{
    f->caches = embed_caches_create(f->folder);
    assert_non_null(f->caches);
}

static void
cache_configure(struct cache_fixture *f, const char *tag, uint64_t max_items, uint64_t hits)
{
    struct embed_cache_rule rule = { anx_text_of(tag), max_items, hits };

    assert_int_equal(embed_caches_configure(f->caches, &rule, 1, NULL), ANX_OK);
}

static int
cache_setup(void **state)
{
    struct cache_fixture *f = anx_alloc_zeroed(NULL, 1, sizeof(*f));

    (void) snprintf(f->folder, sizeof(f->folder), "/tmp/annex-test-embed-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    f->arena = anx_arena_create(NULL, 0);
    cache_open(f);
    *state = f;
    return 0;
}

static int
cache_teardown(void **state)
{
    struct cache_fixture *f = *state;
    char command[128];

    embed_caches_destroy(f->caches);
    anx_arena_destroy(f->arena);
    (void) snprintf(command, sizeof(command), "rm -rf %s", f->folder);
    assert_int_equal(system(command), 0);
    anx_free(NULL, f);
    return 0;
}

/* Asks for texts of one letter in one batch, as an embedder does. What went to the service, into `asked`. */
static void
ask_batch(struct cache_fixture *f, const char *tag, const char *letters, char *asked)
{
    struct embed_cache *cache = embed_caches_get(f->caches, anx_text_of(tag));
    size_t n = strlen(letters), n_ask = 0;
    bool is_kept[64];

    assert_true(n <= ANX_COUNT_OF(is_kept));
    f->owner++;
    for (size_t i = 0; i < n; i++) {
        struct embed_vectors out;
        uint32_t input = (uint32_t) n_ask;
        bool kept;
        enum embed_cache_answer answer = embed_cache_find(cache, 't', (anx_text){ &letters[i], 1 }, f->owner,
                                                          2, &input, &kept, f->arena, &out);

        if (answer == CACHE_HIT)
            assert_true(out.n == 1 && out.dim == 2 && out.floats[0] == (float) letters[i]);
        if (answer == CACHE_OWN)
            assert_int_equal(asked[input], letters[i]);
        if (answer != CACHE_ASK)
            continue;
        is_kept[n_ask] = kept;
        asked[n_ask++] = letters[i];
    }
    asked[n_ask] = 0;
    for (size_t i = 0; i < n_ask; i++) {
        const float floats[2] = { (float) asked[i], 1 };
        const struct embed_vectors vectors = { floats, 1, 2 };

        if (is_kept[i])
            embed_cache_store(cache, 't', (anx_text) { &asked[i], 1 }, f->owner, &vectors);
    }
}

static void
batches_count_as_single_requests(void **state)
{
    static const struct {
        uint64_t max_items, hits;
        const char *batches[4], *asked[4];
    } rows[] = {
        { 100, 1, { "aba", "abc", "c" }, { "ab", "c", "" } },
        { 2, 1, { "abacab" }, { "abcb" } },       /* b was the least recently used one when c came */
        { 100, 3, { "aaaaa", "a" }, { "aaa", "" } },
        { 100, 0, { "aa", "a" }, { "a", "" } },
        { 1, 1, { "ab", "b", "a" }, { "ab", "", "a" } },
        { 0, 1, { "aa", "a" }, { "aa", "a" } },
    };
    struct cache_fixture *f = *state;

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        cache_configure(f, "*", rows[i].max_items, rows[i].hits);
        embed_caches_clear(f->caches, ANX_TEXT("*"));
        for (size_t b = 0; b < 4 && rows[i].batches[b]; b++) {
            char asked[64];

            ask_batch(f, "tag", rows[i].batches[b], asked);
            if (strcmp(asked, rows[i].asked[b]) != 0)
                fail_msg("row %zu, batch %zu: asked \"%s\" instead of \"%s\"", i, b, asked, rows[i].asked[b]);
        }
    }
}

static void
caches_outlive_a_restart(void **state)
{
    struct cache_fixture *f = *state;
    char asked[64];

    cache_configure(f, "*", 100, 1);
    ask_batch(f, "one", "abc", asked);
    ask_batch(f, "two", "a", asked);
    assert_string_equal(asked, "a");
    embed_caches_destroy(f->caches);
    cache_open(f);
    cache_configure(f, "*", 100, 1);
    ask_batch(f, "one", "abcd", asked);
    assert_string_equal(asked, "d");
    embed_caches_clear(f->caches, ANX_TEXT("one")); /* and not of the other tag, which nobody used since */
    ask_batch(f, "one", "a", asked);
    assert_string_equal(asked, "a");
    ask_batch(f, "two", "a", asked);
    assert_string_equal(asked, "");
    embed_caches_destroy(f->caches);
    cache_open(f);
    cache_configure(f, "*", 2, 1); /* less room than entries: the rest is removed */
    ask_batch(f, "one", "a", asked);
    cache_configure(f, "*", 3, 1); /* another rule empties it */
    ask_batch(f, "one", "a", asked);
    assert_string_equal(asked, "a");
    cache_configure(f, "other", 3, 1);
    ask_batch(f, "one", "aa", asked);
    assert_string_equal(asked, "aa");
}

static void
kinds_dimensions_and_failures_are_kept_apart(void **state)
{
    struct cache_fixture *f = *state;
    const float floats[2] = { 1, 2 };
    const struct embed_vectors vectors = { floats, 1, 2 };
    struct embed_cache *cache;
    struct embed_vectors out;
    uint32_t input = 0;
    bool kept;

    cache_configure(f, "*", 10, 1);
    cache = embed_caches_get(f->caches, ANX_TEXT("tag"));
    assert_int_equal(embed_cache_find(cache, 't', ANX_TEXT("a"), 1, 2, &input, &kept, f->arena, &out),
                     CACHE_ASK);
    assert_true(kept);
    embed_cache_forget(cache, 't', ANX_TEXT("a"), 1); /* the service failed */
    assert_int_equal(embed_cache_find(cache, 't', ANX_TEXT("a"), 2, 2, &input, &kept, f->arena, &out),
                     CACHE_ASK);
    assert_true(kept);
    embed_cache_store(cache, 't', ANX_TEXT("a"), 2, &vectors);
    assert_int_equal(embed_cache_find(cache, 't', ANX_TEXT("a"), 3, 2, &input, &kept, f->arena, &out),
                     CACHE_HIT);
    assert_int_equal(embed_cache_find(cache, 'j', ANX_TEXT("a"), 3, 2, &input, &kept, f->arena, &out),
                     CACHE_ASK);
    assert_int_equal(embed_cache_find(cache, 't', ANX_TEXT("a"), 4, 3, &input, &kept, f->arena, &out),
                     CACHE_ASK);
    assert_null(embed_caches_get(f->caches, ANX_TEXT("")));
}

static void *
use_cache(void *context)
{
    struct cache_fixture own = *(struct cache_fixture *) context;
    char asked[64];

    own.arena = anx_arena_create(NULL, 0);
    for (int i = 0; i < 200; i++) {
        own.owner = own.owner / 1000 * 1000 + (uint64_t) i;
        ask_batch(&own, i % 2 ? "one" : "two", "abcdefghab", asked);
        if (i % 50 == 49)
            embed_caches_clear(own.caches, ANX_TEXT("*"));
        anx_arena_reset(own.arena);
    }
    anx_arena_destroy(own.arena);
    return NULL;
}

static void
caches_are_shared_by_threads(void **state)
{
    struct cache_fixture *f = *state, own[4];
    pthread_t threads[4];
    anx_buffer out;

    cache_configure(f, "*", 6, 2);
    for (size_t i = 0; i < ANX_COUNT_OF(threads); i++) {
        own[i] = *f;
        own[i].owner = (i + 1) * 1000;
        assert_int_equal(pthread_create(&threads[i], NULL, use_cache, &own[i]), 0);
    }
    for (size_t i = 0; i < ANX_COUNT_OF(threads); i++)
        pthread_join(threads[i], NULL);
    anx_buffer_init(&out, NULL, 1 << 16);
    embed_caches_print(f->caches, &out);
    assert_false(out.failed);
    anx_buffer_fini(&out);
}

/* ---- Models ---- */

static void
numbers_are_read_exactly(void **state)
{
    static const char *const good[] = { "0",
                                        "-0",
                                        "1",
                                        "0.1",
                                        "-0.123456789",
                                        "123456.789",
                                        "1e-5",
                                        "-2E3",
                                        "1e-40",
                                        "3.4028235e38",
                                        "0.000000001",
                                        "16777217",
                                        "+1.5",
                                        ".5",
                                        "5.",
                                        "0.12345678901234567890" };
    static const char *const bad[] = { "",    "-",  ".",    "x",    "1x",  "nan",
                                       "inf", "1e", "0x10", "1e99", "--1", "1.2.3" };
    float value;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(good); i++)
        if (!decimal_read(anx_text_of(good[i]), &value) || value != strtof(good[i], NULL))
            fail_msg("%s was read as %.9g", good[i], (double) value);
    for (size_t i = 0; i < ANX_COUNT_OF(bad); i++)
        if (decimal_read(anx_text_of(bad[i]), &value))
            fail_msg("\"%s\" was read as %.9g", bad[i], (double) value);
}

static void
models_are_read(void **state)
{
    static const struct {
        const char *text;
        size_t n; /* 0: refused */
        uint32_t dim;
    } rows[] = {
        { "a 1 2\nb 3 4\n", 2, 2 },
        { "2 2\na 1 2\nb 3 4", 2, 2 },
        { "a\t1 2 \r\n\nb  3 4\r\n", 2, 2 },
        { "1 1\n7 5\n", 1, 1 },
        { "2 1\n7 5\n", 0, 0 }, /* cut short: the head says so */
        { "a 1 2\nb 3\n", 0, 0 },
        { "a 1 2\nb 3 4 5\n", 0, 0 },
        { "a 1 x\n", 0, 0 },
        { "a\n", 0, 0 },
        { "3 4\n", 0, 0 },
        { "\n\n", 0, 0 },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct model *model;
        anx_error err;
        anx_status st = model_parse(rows[i].text, strlen(rows[i].text), &model, &err);

        if ((st == ANX_OK) != (rows[i].n > 0) ||
            (st == ANX_OK && (model_terms(model) != rows[i].n || model_dim(model) != rows[i].dim)))
            fail_msg("row %zu: status %d", i, (int) st);
        model_close(model);
    }
}

static void
texts_become_vectors(void **state)
{
    static const char vec[] =
        "red 1 0 0\nfox 0 1 0\nc++ 0 0 1\nParis 0 3 4\ndb 1 1 0\n\xc3\xa9t\xc3\xa9 0 0 -1\n"
        "x 1 1 1\n3d 0 -1 0\n";
    const double two = 1 + log(2);
    const struct {
        const char *text;
        size_t n;
        double want[3]; /* before normalizing */
    } rows[] = {
        { "red", 1, { 1, 0, 0 } },
        { "RED, fox!", 2, { 1, 1, 0 } },
        { "red-fox red", 2, { two, 1, 0 } },
        { "C++", 1, { 0, 0, 1 } },
        { "Paris", 1, { 0, 3, 4 } },
        { "paris", 0, { 0, 0, 0 } },
        { "2db 3d", 2, { 1, 0, 0 } },
        { "\xc3\x89T\xc3\x89", 1, { 0, 0, -1 } },
        { "x", 0, { 0, 0, 0 } },
        { "\xff\xfe red \xc3", 1, { 1, 0, 0 } },
        { "", 0, { 0, 0, 0 } },
    };
    struct model_text *text;
    struct model *model;

    (void) state;
    assert_int_equal(model_parse(vec, sizeof(vec) - 1, &model, NULL), ANX_OK);
    text = model_text_create(model, MODEL_TF);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        double length = sqrt(rows[i].want[0] * rows[i].want[0] + rows[i].want[1] * rows[i].want[1] +
                             rows[i].want[2] * rows[i].want[2]);
        float got[3];

        assert_true(model_text_add(text, anx_text_of(rows[i].text)));
        if (model_text_finish(text, got) != rows[i].n)
            fail_msg("\"%s\": other terms than %zu", rows[i].text, rows[i].n);
        for (int j = 0; j < 3; j++)
            if (fabs((double) got[j] - (length > 0 ? rows[i].want[j] / length : 0)) > 1e-6)
                fail_msg("\"%s\": component %d is %.9g", rows[i].text, j, (double) got[j]);
    }
    model_text_destroy(text);
    model_close(model);
}

static void
embed(const struct model *model, const char *words, float *out)
{
    struct model_text *text = model_text_create(model, MODEL_TF);

    assert_true(model_text_add(text, anx_text_of(words)));
    (void) model_text_finish(text, out);
    model_text_destroy(text);
}

/* Both compact forms, from a text and from each other: the same terms, nearly the same vectors. */
static void
models_are_converted(void **state)
{
    static const char vec[] =
        "red 1 -0.25 0.004\nreds 1 -0.25 0.004\nfox 0 100 50\nnone 0 0 0\nwolf -3e-5 1e-5 0\n";
    static const char *const words[] = { "red", "reds", "fox", "none", "wolf", "reds fox", "blue" };
    static const struct {
        enum model_form first, then;
        size_t size;
        double error;
    } rows[] = {
        { MODEL_F32, MODEL_F32, 128 + 5 * 12, 0 },
        { MODEL_F32, MODEL_I8, 128 + 4 * (4 + 3), 0.006 },
        { MODEL_I8, MODEL_I8, 128 + 4 * (4 + 3), 0.006 },
        { MODEL_I8, MODEL_F32, 128 + 5 * 12, 0.006 },
    };
    char path[64] = "/tmp/anx-model-XXXXXX";
    struct model *original;

    (void) state;
    assert_int_equal(model_parse(vec, sizeof(vec) - 1, &original, NULL), ANX_OK);
    close(mkstemp(path));
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct model *one, *two;
        struct stat info;

        assert_int_equal(model_write(original, rows[i].first, path, NULL), ANX_OK);
        assert_int_equal(model_open(path, &one, NULL), ANX_OK);
        assert_int_equal(model_write(one, rows[i].then, path, NULL), ANX_OK);
        assert_int_equal(model_open(path, &two, NULL), ANX_OK);
        assert_int_equal(stat(path, &info), 0);
        assert_int_equal(info.st_size, rows[i].size);
        assert_int_equal(model_terms(two), 5);
        for (size_t j = 0; j < ANX_COUNT_OF(words); j++) {
            float want[3], got[3];

            embed(original, words[j], want);
            embed(two, words[j], got);
            for (int c = 0; c < 3; c++)
                if (fabs((double) want[c] - (double) got[c]) > rows[i].error)
                    fail_msg("row %zu, \"%s\": %.9g instead of %.9g", i, words[j], (double) got[c],
                             (double) want[c]);
        }
        model_close(one);
        model_close(two);
    }
    (void) unlink(path);
    model_close(original);
}

/* A file whose numbers were changed is refused, cut off anywhere too. */
static void
damaged_models_are_refused(void **state)
{
    static const char vec[] = "red 1 0\nreds 1 0\nfox 0 1\n";

    (void) state;
    for (int form = 0; form < MODEL_FORMS; form++) {
        char path[64] = "/tmp/anx-model-XXXXXX";
        uint8_t bytes[512];
        struct model *model;
        size_t size;
        FILE *file;

        assert_int_equal(model_parse(vec, sizeof(vec) - 1, &model, NULL), ANX_OK);
        close(mkstemp(path));
        assert_int_equal(model_write(model, (enum model_form) form, path, NULL), ANX_OK);
        model_close(model);
        file = fopen(path, "rb");
        size = fread(bytes, 1, sizeof(bytes), file);
        fclose(file);
        (void) unlink(path);
        for (size_t cut = 0; cut < size; cut++)
            assert_int_not_equal(model_parse(bytes, cut, &model, NULL), ANX_OK);
        for (size_t at = 0; at < 64; at++) {
            bytes[at] ^= 0x41;
            assert_int_not_equal(model_parse(bytes, size, &model, NULL), ANX_OK);
            bytes[at] ^= 0x41;
        }
        assert_int_equal(model_parse(bytes, size, &model, NULL), ANX_OK);
        model_close(model);
    }
}

static void
requests_are_answered(void **state)
{
    static const char vec[] = "red 1 0\nfox 0 1\n";
    static const struct {
        const char *body, *reply; /* NULL: refused */
    } rows[] = {
        { "{\"data\":[]}", "{\"products\":[]}" },
        { "{\"data\":[\"red\"]}", "{\"products\":[[{\"chunk\":\"\",\"embedding\":[1.0,0.0]}]]}" },
        { "{\"data\":[[\"red\"],{\"a\":[\"fox\"],\"b\":1,\"c\":null}]}",
          "{\"products\":[[1.0,0.0],[{\"chunk\":\"\",\"embedding\":[0.0,1.0]}]]}" },
        { "{\"data\":\"red\"}", NULL },
        { "[]", NULL },
        { "{", NULL },
    };
    struct model_text *text;
    struct model *model;

    (void) state;
    assert_int_equal(model_parse(vec, sizeof(vec) - 1, &model, NULL), ANX_OK);
    text = model_text_create(model, MODEL_TF);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        anx_buffer out;
        anx_status st;

        anx_buffer_init(&out, NULL, 1 << 16);
        st = embedder_answer(text, model, anx_text_of(rows[i].body), &out, NULL);
        anx_buffer_char(&out, 0);
        if ((st == ANX_OK) != (rows[i].reply != NULL) ||
            (st == ANX_OK && strcmp(out.data, rows[i].reply) != 0))
            fail_msg("%s: status %d, %s", rows[i].body, (int) st, out.data);
        anx_buffer_fini(&out);
    }
    model_text_destroy(text);
    model_close(model);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(replies_are_read),
        cmocka_unit_test_setup_teardown(batches_count_as_single_requests, cache_setup, cache_teardown),
        cmocka_unit_test_setup_teardown(caches_outlive_a_restart, cache_setup, cache_teardown),
        cmocka_unit_test_setup_teardown(kinds_dimensions_and_failures_are_kept_apart, cache_setup,
                                        cache_teardown),
        cmocka_unit_test_setup_teardown(caches_are_shared_by_threads, cache_setup, cache_teardown),
        cmocka_unit_test(numbers_are_read_exactly),
        cmocka_unit_test(models_are_read),
        cmocka_unit_test(texts_become_vectors),
        cmocka_unit_test(models_are_converted),
        cmocka_unit_test(damaged_models_are_refused),
        cmocka_unit_test(requests_are_answered),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
