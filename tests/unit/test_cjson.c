/* CJSON: bytes of the protocol's own example, documents there and back, items with their own dictionary,
 * damage at every byte. */
#include "test_util.h"

#include <string.h>

#include "doc/cjson.h"
#include "test_doc_shape.h"

struct fixture {
    struct test_shape shape;
    struct cjson_reader *cjson;
    struct json_reader *json;
    anx_arena *arena;
    anx_buffer out;
};

static int
setup(void **state)
{
    static struct fixture f;

    memset(&f, 0, sizeof(f));
    *state = &f;
    f.cjson = cjson_reader_create();
    f.json = json_reader_create();
    f.arena = anx_arena_create(NULL, 0);
    anx_buffer_init(&f.out, NULL, SIZE_MAX);
    return test_shape_init(&f.shape) && f.cjson && f.json && f.arena ? 0 : -1;
}

static int
teardown(void **state)
{
    struct fixture *f = *state;

    anx_buffer_fini(&f->out);
    anx_arena_destroy(f->arena);
    json_reader_destroy(f->json);
    cjson_reader_destroy(f->cjson);
    test_shape_fini(&f->shape);
    return 0;
}

static struct doc_draft
read_json(struct fixture *f, const char *json)
{
    struct doc_draft draft;
    size_t at = 0;
    bool more;
    anx_error err;

    if (json_read_doc(f->json, anx_text_of(json), &at, &more, f->shape.names, &f->shape.shape, f->arena,
                      &draft, &err) != ANX_OK)
        fail_msg("%s: %s", json, err.message);
    return draft;
}

static anx_text
print(struct fixture *f, struct doc_draft *draft, const struct doc_projection *projection)
{
    anx_buffer_clear(&f->out);
    assert_true(cjson_print_doc(&f->out, draft->doc, projection, test_shape_vectors, draft));
    assert_false(f->out.failed);
    return anx_arena_text(f->arena, (anx_text) { f->out.data, f->out.size });
}

static anx_status
read(struct fixture *f, anx_text item, struct doc_draft *draft, anx_error *err)
{
    return cjson_read_doc(f->cjson, item, f->shape.names, &f->shape.shape, f->arena, draft, err);
}

static void
documents_come_back_as_they_were(void **state)
{
    static const char *const rows[] = {
        "{}",
        "{\"id\":-7,\"free\":[1,2.5,\"x\",null,true,{\"a\":[]},[1,[2]]],\"text\":\"\\u00e4\"}",
        "{\"id\":1,\"name\":\"hi\",\"vec\":[1,0.5],\"price\":1e300,\"flag\":true}",
        "{\"id\":2,\"vecs\":[[1,2],[],[3,4]],\"inner\":{\"vec\":[1,2,3],\"x\":null}}",
        "{\"id\":3,\"vec\":[],\"vecs\":[],\"nums\":[1,2,3,4],\"tags\":[\"a\",\"b\"]}",
        "{\"id\":4,\"uid\":\"0a8a5978-57cd-389d-ff46-e2418aef19cb\",\"place\":[1.5,-2]}",
        "{\"id\":9223372036854775807,\"long\":[-9223372036854775808,0,1],\"d\":[1.5,2.5,3.5]}",
    };
    struct fixture *f = *state;

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_draft first = read_json(f, rows[i]), second;
        anx_error err;

        if (read(f, print(f, &first, NULL), &second, &err) != ANX_OK)
            fail_msg("%s: %s", rows[i], err.message);
        assert_int_equal(first.doc.size, second.doc.size);
        assert_memory_equal(first.doc.bytes, second.doc.bytes, first.doc.size);
        for (size_t v = 0; v < first.n_vectors; v++) {
            size_t size = (size_t) first.vectors[v].n * first.vectors[v].dim * sizeof(float);

            assert_int_equal(first.vectors[v].n, second.vectors[v].n);
            if (size > 0)
                assert_memory_equal(first.vectors[v].floats, second.vectors[v].floats, size);
        }
    }
}

/* {id:7, name:"hi", vec:[1, 0.5]} as the protocol's description spells it, with its own dictionary. */
static const uint8_t bundle[] =
    "\x07\x1A\x00\x00\x00\x06\x08\x0E\x12\x02hi\x1D\x02\x00\x00\x09\x00\x00\x80\x3F"
    "\x00\x00\x00\x3F\x07\x03\x02id\x04name\x03vec";
static const anx_text bundle_text = { (const char *) bundle, sizeof(bundle) - 1 };

static void
a_bundle_is_read_by_its_own_names(void **state)
{
    struct fixture *f = *state;
    struct doc_draft wanted = read_json(f, "{\"id\":7,\"name\":\"hi\",\"vec\":[1,0.5]}"), got;
    anx_error err;

    assert_int_equal(read(f, bundle_text, &got, &err), ANX_OK);
    assert_int_equal(got.doc.size, wanted.doc.size);
    assert_memory_equal(got.doc.bytes, wanted.doc.bytes, got.doc.size);
    assert_float_equal(got.vectors[0].floats[1], 0.5f, 0);
}

static void
damage_is_refused_at_every_byte(void **state)
{
    struct fixture *f = *state;
    struct doc_draft draft;
    anx_error err;

    for (size_t size = 0; size < bundle_text.size; size++) {
        char *copy =
            anx_alloc_bytes(NULL, size + 1); /* of its size, so that sanitizers see what is read behind */

        memcpy(copy, bundle, size);
        assert_int_not_equal(read(f, (anx_text) { copy, size }, &draft, &err), ANX_OK);
        anx_free(NULL, copy);
    }
}

static void
errors_name_what_is_wrong(void **state)
{
    static const struct {
        const char *bytes;
        size_t size;
        anx_status status;
        const char *text;
    } rows[] = {
#define ROW(bytes, status, text) { bytes, sizeof(bytes) - 1, status, text }
        ROW("\x05\x00\x00\x00\x00", ANX_E_PARSE_BIN, "does not start with an object"),
        ROW("\x06\xF8\xFF\x01\x02\x07", ANX_E_TAGS, "unknown field name number 4095"),
        ROW("\x06\x00\x02\x07", ANX_E_PARSE_BIN, "has no name"),
        ROW("\x06\x88\x80\x02\x02\x07", ANX_E_LOGIC, "index field 0"),
        ROW("\x06\x07\x07", ANX_E_PARSE_BIN, "1 bytes behind the document"),
        ROW("\x06\x0D\xFF\xFF\xFF\x01", ANX_E_PARSE_BIN, "ends or is damaged"),
        ROW("\x06\x0D\x01\x00\x00\x05\x07", ANX_E_PARSE_BIN, "type 5 of the elements"),
        ROW("\x06\x0D\x41\x42\x0F\x04\x07", ANX_E_PARSE_BIN, "an array of 1000001 nulls"),
        ROW("\x06\x3D\x40\x42\x0F\x04\x3D\x01\x00\x00\x04\x07", ANX_E_PARSE_BIN, "an array of 1 nulls"),
        ROW("\x06\x89\x80\x80\x80\xE0\x01\x07", ANX_E_PARSE_BIN, "damaged"),
        ROW("\x07\xFF\xFF\xFF\xFF\x06\x07", ANX_E_PARSE_BIN, "no dictionary"),
        ROW("\x07\x07\x00\x00\x00\x06\x07\xFF\x01", ANX_E_PARSE_BIN, "dictionary is cut short"),
#undef ROW
    };
    struct fixture *f = *state;
    struct doc_draft draft;
    anx_error err;

    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        assert_int_equal(read(f, (anx_text) { rows[i].bytes, rows[i].size }, &draft, &err), rows[i].status);
        if (!strstr(err.message, rows[i].text))
            fail_msg("row %zu: \"%s\" has no \"%s\"", i, err.message, rows[i].text);
    }
}

/* Vectors are left out unless they are asked for, and a wrong dimension is an error that names both. */
static void
vectors_follow_the_projection(void **state)
{
    static const struct doc_projection regular = { .all_regular = true };
    struct fixture *f = *state;
    struct doc_draft with = read_json(f, "{\"id\":1,\"vec\":[1,2]}"), without = read_json(f, "{\"id\":1}");
    struct doc_draft draft;
    anx_text cut = print(f, &with, &regular), plain = print(f, &without, NULL);
    char wrong[] = "\x06\x00\x03\x00\x00\x09\x00\x00\x80\x3F\x00\x00\x80\x3F\x00\x00\x80\x3F\x07";
    anx_error err;

    assert_true(anx_text_equal(cut, plain));
    assert_true(names_find(f->shape.names, ANX_TEXT("vec")) < 16);
    wrong[1] = (char) (CJSON_ARRAY | names_find(f->shape.names, ANX_TEXT("vec")) << 3);
    assert_int_equal(read(f, (anx_text) { wrong, sizeof(wrong) - 1 }, &draft, &err), ANX_E_LOGIC);
    assert_non_null(strstr(err.message, "got array of size 3, expected float_vector of size 2"));
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(documents_come_back_as_they_were, setup, teardown),
        cmocka_unit_test_setup_teardown(a_bundle_is_read_by_its_own_names, setup, teardown),
        cmocka_unit_test_setup_teardown(damage_is_refused_at_every_byte, setup, teardown),
        cmocka_unit_test_setup_teardown(errors_name_what_is_wrong, setup, teardown),
        cmocka_unit_test_setup_teardown(vectors_follow_the_projection, setup, teardown),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
