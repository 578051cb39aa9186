/* JSON in and out: documents under a shape with every kind of field, trees, projections. */
#include "test_util.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/rng.h"
#include "doc/json.h"
#include "test_doc_shape.h"

struct fixture {
    struct test_shape shape;
    struct json_reader *reader;
    anx_arena *arena;
    anx_buffer out;
};

static void
fixture_init(struct fixture *self)
{
    assert_true(test_shape_init(&self->shape));
    self->reader = json_reader_create();
    self->arena = anx_arena_create(NULL, 0);
    assert_non_null(self->reader);
    assert_non_null(self->arena);
    anx_buffer_init(&self->out, NULL, 1 << 28);
}

static void
fixture_fini(struct fixture *self)
{
    anx_buffer_fini(&self->out);
    anx_arena_destroy(self->arena);
    json_reader_destroy(self->reader);
    test_shape_fini(&self->shape);
}

/* One document. Fills what names the error with err. */
static anx_status
read_one(struct fixture *self, anx_text json, struct doc_draft *draft, anx_error *err)
{
    size_t at = 0;
    bool more;
    anx_status st = json_read_doc(self->reader, json, &at, &more, self->shape.names, &self->shape.shape,
                                  self->arena, draft, err);

    if (st == ANX_OK) {
        assert_true(more);
        assert_int_equal(at, json.size);
        assert_int_equal(doc_check(draft->doc, self->shape.names, err), ANX_OK);
    }
    return st;
}

static anx_text
print_all(struct fixture *self, const struct doc_draft *draft)
{
    const struct doc_projection everything = { .all_regular = true, .all_vectors = true };

    anx_buffer_clear(&self->out);
    json_print_doc(&self->out, draft->doc, self->shape.names, &everything, test_shape_vectors, (void *) draft,
                   false);
    assert_false(self->out.failed);
    return (anx_text) { self->out.data, self->out.size };
}

static void
expect_text(anx_text got, const char *want)
{
    if (!anx_text_equal(got, anx_text_of(want)))
        fail_msg("got %.*s, expected %s", ANX_TEXT_ARG(got), want);
}

static void
documents_are_converted_and_printed(void **state)
{
    static const struct {
        const char *in, *out; /* out NULL: the same */
    } rows[] = {
        { "{}", NULL },
        { " {\t\"id\" : 1 , \"z\":[ ] }", "{\"id\":1,\"z\":[]}" },
        { "{\"z\":1,\"a\":2,\"z\":3}", NULL }, /* order and repetitions stay */
        { "{\"price\":40,\"id\":42.0,\"flag\":2}", "{\"price\":40.0,\"id\":42,\"flag\":true}" },
        { "{\"id\":-2.9,\"price\":true,\"flag\":0.0}", "{\"id\":-2,\"price\":1.0,\"flag\":false}" },
        { "{\"id\":null,\"name\":null,\"price\":null,\"flag\":null,\"uid\":null}",
          "{\"id\":0,\"name\":\"\",\"price\":0.0,\"flag\":false,\"uid\":\"00000000-0000-0000-0000-"
          "000000000000\"}" },
        { "{\"uid\":\"550E8400E29B41D4A716446655440000\"}",
          "{\"uid\":\"550e8400-e29b-41d4-a716-446655440000\"}" },
        { "{\"tags\":\"single\",\"nums\":7.9}", "{\"tags\":\"single\",\"nums\":7}" },
        { "{\"tags\":[\"a\",null,[\"b\",[\"c\"]]],\"nums\":[1,2.5,true,null]}",
          "{\"tags\":[\"a\",\"\",[\"b\",[\"c\"]]],\"nums\":[1,2,1,0]}" },
        { "{\"tags\":null,\"nums\":[]}", NULL },
        { "{\"opt\":\"12\",\"opt_text\":[1,null,true]}", NULL }, /* sparse: as it came */
        { "{\"opt\":null,\"opt_text\":2.50}", "{\"opt\":null,\"opt_text\":2.5}" },
        { "{\"vec\":[0.1,-2.5]}", NULL },
        { "{\"vec\":[1,16777216]}", "{\"vec\":[1.0,16777216.0]}" },
        { "{\"vec\":null}", "{\"vec\":[]}" },
        { "{\"vec\":[]}", NULL },
        { "{\"vecs\":[[1,2],[],null,[[3,4]]]}", "{\"vecs\":[[1.0,2.0],[],[],[[3.0,4.0]]]}" },
        { "{\"vecs\":[3,4]}", "{\"vecs\":[3.0,4.0]}" },
        { "{\"vecs\":[[]]}", NULL },
        { "{\"vecs\":[null]}", "{\"vecs\":[[]]}" },
        { "{\"vecs\":[]}", NULL },
        { "{\"vecs\":null}", NULL },
        { "{\"inner\":{\"a\":1,\"vec\":[1e-5,3.4028234e38,-0.0]}}",
          "{\"inner\":{\"a\":1,\"vec\":[1e-05,3.4028235e+38,-0.0]}}" },
        { "{\"deep\":{\"x\":1,\"y\":1}}", "{\"deep\":{\"x\":1.0,\"y\":1}}" },
        { "{\"parts\":[{\"n\":1.5},{\"n\":[2,3]},{\"m\":1.5}]}",
          "{\"parts\":[{\"n\":1},{\"n\":[2,3]},{\"m\":1.5}]}" },
        { "{\"place\":[1,2.5]}", "{\"place\":[1.0,2.5]}" },
        { "{\"n\":[0,15,16,-1,9223372036854775807,-9223372036854775808]}", NULL },
        { "{\"n\":[9223372036854775808,1e2,1E-400]}", "{\"n\":[9.223372036854776e+18,100.0,0.0]}" },
        { "{\"n\":[1.5,2.5,3.5,0.1],\"m\":[1,2.5,\"x\",null,true]}", NULL },
        { "{\"s\":\"caf\xc3\xa9 \\\"q\\\" \\\\ / \\n\\b\\f\\r\\t\\u0001\"}", NULL },
        { "{\"s\":\"\\u00e9\\ud83d\\ude00\\/\\u0000\",\"\\u0041\":0}",
          "{\"s\":\"\xc3\xa9\xf0\x9f\x98\x80/\\u0000\",\"A\":0}" },
        { "{\"\":{\"\":1},\"a.b\":2,\"q\\\"\":3}", NULL },
        { "{\"a\":[[],[[]],{},[{\"b\":[1,[2,[3]]]}]]}", NULL },
    };
    struct fixture f;

    (void) state;
    fixture_init(&f);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_draft draft;
        anx_error err;
        const char *want = rows[i].out ? rows[i].out : rows[i].in;
        anx_text text;

        if (read_one(&f, anx_text_of(rows[i].in), &draft, &err) != ANX_OK)
            fail_msg("%s: %s", rows[i].in, err.message);
        text = print_all(&f, &draft);
        expect_text(text, want);
    }
    fixture_fini(&f);
}

static void
wrong_documents_are_refused(void **state)
{
    static const struct {
        const char *in;
        anx_status status;
        const char *message; /* NULL: any */
    } rows[] = {
        { "[{\"id\":20}]", ANX_E_PARSE_JSON, "Expected json object" },
        { "5", ANX_E_PARSE_JSON, "Expected json object" },
        { "{\"id\":31,", ANX_E_PARSE_JSON, NULL },
        { "{\"id\":31", ANX_E_PARSE_JSON, NULL },
        { "{\"id\"", ANX_E_PARSE_JSON, NULL },
        { "{\"id", ANX_E_PARSE_JSON, NULL },
        { "{", ANX_E_PARSE_JSON, NULL },
        { "{bad}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":tru}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":nul}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":01}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":1.}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":-}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":1e400}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":[1 2]}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":[1,]}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":1,}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\" 1}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":[1}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":\"x\ny\"}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":\"\\x\"}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":\"\\ud800\"}", ANX_E_PARSE_JSON, NULL },
        { "{\"a\":\"\xff\"}", ANX_E_PARSE_JSON, NULL },
        { "{\"vec\":[1,2,]}", ANX_E_PARSE_JSON, NULL },
        { "{\"name\":5}", ANX_E_LOGIC, "Error parsing json field 'name' - got number, expected string" },
        { "{\"name\":true}", ANX_E_LOGIC, "Error parsing json field 'name' - got bool, expected string" },
        { "{\"id\":\"x\"}", ANX_E_LOGIC, "Error parsing json field 'id' - got string, expected int" },
        { "{\"price\":\"x\"}", ANX_E_LOGIC,
          "Error parsing json field 'price' - got string, expected double" },
        { "{\"price\":[1,2]}", ANX_E_LOGIC,
          "Error parsing json field 'price' - got array, expected scalar double" },
        { "{\"name\":{}}", ANX_E_LOGIC,
          "Error parsing json field 'name' - unable to use object in this context" },
        { "{\"tags\":[{\"x\":1}]}", ANX_E_LOGIC,
          "Error parsing json field 'tags' - unable to use object in this context" },
        { "{\"uid\":\"not-a-uuid\"}", ANX_E_NOT_VALID,
          "UUID should consist of 32 hexadecimal digits: 'not-a-uuid'" },
        { "{\"uid\":5}", ANX_E_LOGIC, "Error parsing json field 'uid' - got number, expected uuid" },
        { "{\"id\":1,\"id\":2}", ANX_E_LOGIC, "Non-array field 'id' [1] from 't' can only be encoded once." },
        { "{\"deep\":[{\"x\":1}]}", ANX_E_LOGIC,
          "Error parsing json field 'deep_x' - got value nested into the array, but expected scalar double" },
        { "{\"opt\":\"many\"}", ANX_E_PARAMS, "Can't convert 'many' to number" },
        { "{\"vec\":[1,2,3]}", ANX_E_PARAMS,
          "json array field 'vec' for this index type must contain 2 elements, but got 3" },
        { "{\"vec\":[1]}", ANX_E_PARAMS,
          "json array field 'vec' for this index type must contain 2 elements, but got 1" },
        { "{\"vec\":[1,\"x\"]}", ANX_E_LOGIC,
          "Error parsing json field 'vec' - got value of unexpected type in float_vector: STRING" },
        { "{\"vec\":[[1,2]]}", ANX_E_LOGIC,
          "Error parsing json field 'vec' - got value of unexpected type in float_vector: ARRAY" },
        { "{\"vec\":[null]}", ANX_E_LOGIC,
          "Error parsing json field 'vec' - got value of unexpected type in float_vector: NULL" },
        { "{\"vec\":5}", ANX_E_LOGIC, "Error parsing json field 'vec' - got number, expected float_vector" },
        { "{\"vec\":{}}", ANX_E_LOGIC,
          "Error parsing json field 'vec' - unable to use object in this context" },
        { "{\"vec\":[1,2],\"vec\":[1,2]}", ANX_E_LOGIC,
          "Non-array field 'vec' [10] from 't' can only be encoded once." },
        { "{\"inner\":[{\"vec\":[1,2,3]}]}", ANX_E_LOGIC,
          "Error parsing json field 'byname' - got value nested into the array, but expected scalar "
          "float_vector" },
        { "{\"vecs\":5}", ANX_E_PARAMS,
          "json array field 'vecs' for this index type must contain 2 elements, but got 1" },
        { "{\"vecs\":\"x\"}", ANX_E_LOGIC, "Error parsing json field 'vecs' - got string, expected array" },
        { "{\"vecs\":[[1,2],[1,2,3]]}", ANX_E_PARAMS,
          "json array field 'vecs' for this index type must contain 2 elements, but got 3" },
        { "{\"vecs\":[[1,\"x\"]]}", ANX_E_LOGIC,
          "Error parsing json field 'vecs' - got value of unexpected type in float_vector: STRING" },
        { "{\"vecs\":[[1,2],3]}", ANX_E_LOGIC,
          "Error parsing json field 'vecs' - got value of unexpected type in float_vector: NUMBER" },
        { "{\"place\":[1,2,3]}", ANX_E_PARAMS, NULL },
        { "{\"place\":5}", ANX_E_LOGIC, NULL },
    };
    struct fixture f;

    (void) state;
    fixture_init(&f);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_draft draft;
        anx_error err = { .message = "no error" };
        anx_status st = read_one(&f, anx_text_of(rows[i].in), &draft, &err);

        if (st != rows[i].status || (rows[i].message && strcmp(err.message, rows[i].message) != 0))
            fail_msg("%s: %d %s", rows[i].in, (int) st, err.message);
    }
    fixture_fini(&f);
}

/* The values that indexes get. */
static void
values_are_collected(void **state)
{
    static const struct {
        const char *json;
        size_t field;
        const char *values; /* printed, without a list's brackets */
        bool is_present;
    } rows[] = {
        { "{\"id\":7}", SHAPE_ID, "7", true },
        { "{}", SHAPE_ID, "0", false },
        { "{\"name\":null}", SHAPE_NAME, "\"\"", true },
        { "{}", SHAPE_UID, "\"00000000-0000-0000-0000-000000000000\"", false },
        { "{\"price\":3}", SHAPE_PRICE, "3.0", true },
        { "{\"tags\":[\"a\",[\"b\",null]]}", SHAPE_TAGS, "\"a\",\"b\",\"\"", true },
        { "{\"tags\":[]}", SHAPE_TAGS, "", true },
        { "{\"tags\":null}", SHAPE_TAGS, "", true },
        { "{}", SHAPE_TAGS, "", false },
        { "{\"tags\":\"one\",\"tags\":\"two\"}", SHAPE_TAGS, "\"one\",\"two\"", true },
        { "{\"opt\":\"12\"}", SHAPE_OPT, "12", true },
        { "{\"opt\":null}", SHAPE_OPT, "", true },
        { "{}", SHAPE_OPT, "", false },
        { "{\"opt\":[1,null]}", SHAPE_OPT, "1,null", true },
        { "{\"opt_text\":[1.5,true]}", SHAPE_OPT_TEXT, "\"1.5\",\"true\"", true },
        { "{\"deep\":{\"x\":2}}", SHAPE_DEEP, "2.0", true },
        { "{\"deep\":{\"y\":2},\"x\":5}", SHAPE_DEEP, "0.0", false },
        { "{\"parts\":[{\"n\":1},{\"n\":[2,3]},{\"n\":null},{}]}", SHAPE_PARTS, "1,2,3", true },
        { "{\"m1\":[1,2],\"m2\":{\"x\":3}}", SHAPE_MULTI_1, "1,2", true },
        { "{\"m1\":[1,2],\"m2\":{\"x\":3}}", SHAPE_MULTI_2, "3", true },
        { "{\"place\":[1,2]}", SHAPE_PLACE, "1.0,2.0", true },
        { "{}", SHAPE_PLACE, "", false },
    };
    struct fixture f;

    (void) state;
    fixture_init(&f);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_draft draft;

        assert_int_equal(read_one(&f, anx_text_of(rows[i].json), &draft, NULL), ANX_OK);
        anx_buffer_clear(&f.out);
        for (size_t v = 0; v < draft.values[rows[i].field].n; v++) {
            if (v > 0)
                anx_buffer_char(&f.out, ',');
            json_print_value(&f.out, &draft.values[rows[i].field].items[v]);
        }
        expect_text((anx_text) { f.out.data, f.out.size }, rows[i].values);
        assert_int_equal(draft.is_present[rows[i].field], rows[i].is_present);
    }
    fixture_fini(&f);
}

static void
vectors_are_collected(void **state)
{
    static const struct {
        const char *json;
        uint32_t field, n, n_empty;
        float floats[4];
    } rows[] = {
        { "{\"vec\":[1,2]}", 0, 1, 0, { 1, 2 } },
        { "{\"vec\":null}", 0, 0, 1, { 0 } },
        { "{}", 0, 0, 0, { 0 } },
        { "{\"vecs\":[[1,2],[3,4]]}", 1, 2, 0, { 1, 2, 3, 4 } },
        { "{\"vecs\":[[],[9,9.5],null]}", 1, 1, 2, { 9, 9.5f } },
        { "{\"vecs\":[9,8]}", 1, 1, 0, { 9, 8 } },
        { "{\"vecs\":[]}", 1, 0, 0, { 0 } },
        { "{\"vecs\":null}", 1, 0, 0, { 0 } },
        { "{\"vecs\":[null]}", 1, 0, 1, { 0 } },
        { "{\"inner\":{\"vec\":[1,2,3]}}", 2, 1, 0, { 1, 2, 3 } },
    };
    struct fixture f;

    (void) state;
    fixture_init(&f);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_draft draft, again;
        const struct doc_vectors *vectors;

        assert_int_equal(read_one(&f, anx_text_of(rows[i].json), &draft, NULL), ANX_OK);
        assert_int_equal(draft.n_vectors, 3);
        vectors = &draft.vectors[rows[i].field];
        if (vectors->n != rows[i].n || vectors->n_empty != rows[i].n_empty)
            fail_msg("%s: %u vectors, %u empty", rows[i].json, vectors->n, vectors->n_empty);
        if (vectors->n > 0)
            assert_memory_equal(vectors->floats, rows[i].floats, vectors->n * vectors->dim * sizeof(float));
        assert_int_equal(doc_extract(draft.doc, &f.shape.shape, f.arena, &again, NULL), ANX_OK);
        assert_int_equal(again.vectors[rows[i].field].n, vectors->n);
        assert_int_equal(again.vectors[rows[i].field].n_empty, vectors->n_empty);
        assert_int_equal(again.vectors[rows[i].field].dim, vectors->dim);
    }
    fixture_fini(&f);
}

/* Components are what an exact reader makes of them: the nearest double, narrowed. In every form that floats
 * are written in, also beside the middle between two floats. */
static void
components_are_exact(void **state)
{
    static const struct {
        char letter;
        int precision;
    } formats[] = { { 'g', 9 }, { 'g', 17 }, { 'f', 6 }, { 'f', 25 },
                    { 'e', 3 }, { 'e', 20 }, { 'f', 0 }, { 'g', 6 } };
    struct fixture f;
    anx_rng rng = anx_rng_seed(11);
    anx_error err;

    (void) state;
    fixture_init(&f);
    for (int round = 0; round < 40000; round++) {
        char text[2][64], json[160];
        struct doc_draft draft;
        int precision = formats[(size_t) round % ANX_COUNT_OF(formats)].precision;
        char letter = formats[(size_t) round % ANX_COUNT_OF(formats)].letter;

        for (int i = 0; i < 2; i++) {
            uint32_t bits = (uint32_t) anx_rng_next(&rng);
            float near;
            double number;

            if (round % 3 > 0) /* of ordinary size */
                bits = (bits & 0x807fffff) | (100 + bits % 50) << 23;
            memcpy(&near, &bits, sizeof(near));
            number = near - near == 0 ? (double) near : 0.5;
            if (round % 4 == 0)
                number += number * 0x1p-24; /* the middle to the next float */
            if (number > 3e38 || number < -3e38)
                number = 0.25;
            if (letter == 'g')
                (void) snprintf(text[i], sizeof(text[i]), "%.*g", precision, number);
            else if (letter == 'f')
                (void) snprintf(text[i], sizeof(text[i]), "%.*f", precision, number);
            else
                (void) snprintf(text[i], sizeof(text[i]), "%.*e", precision, number);
        }
        (void) snprintf(json, sizeof(json), "{\"vec\":[ %s\t, %s ]}", text[0], text[1]);
        if (read_one(&f, anx_text_of(json), &draft, &err) != ANX_OK)
            fail_msg("%s: %s", json, err.message);
        for (int i = 0; i < 2; i++) {
            double exact = strtod(text[i], NULL);

            if (draft.vectors[0].floats[i] != (float) exact)
                fail_msg("%s became %.9g", text[i], (double) draft.vectors[0].floats[i]);
        }
        anx_arena_reset(f.arena);
    }
    fixture_fini(&f);
}

/* A body of many documents; what stands before a broken one is read. */
static void
sequences_are_read_one_by_one(void **state)
{
    static const char body[] =
        "{\"id\":10}{\"id\":11, \"s\":\"}{\\\\\"} {\"id\":12}\n\n\t{\"id\":13} {\"id\":14,";
    struct fixture f;
    struct doc_draft draft;
    size_t at = 0;
    bool more;
    anx_error err;

    (void) state;
    fixture_init(&f);
    for (int64_t id = 10; id < 14; id++) {
        assert_int_equal(json_read_doc(f.reader, (anx_text){ body, sizeof(body) - 1 }, &at, &more,
                                       f.shape.names, &f.shape.shape, f.arena, &draft, &err),
                         ANX_OK);
        assert_true(more);
        assert_int_equal(draft.values[SHAPE_ID].items[0].integer, id);
    }
    assert_int_equal(json_read_doc(f.reader, (anx_text) { body, sizeof(body) - 1 }, &at, &more, f.shape.names,
                                   &f.shape.shape, f.arena, &draft, &err),
                     ANX_E_PARSE_JSON);
    at = 0;
    assert_int_equal(json_read_doc(f.reader, ANX_TEXT(" \n"), &at, &more, f.shape.names, &f.shape.shape,
                                   f.arena, &draft, &err),
                     ANX_OK);
    assert_false(more);
    assert_int_equal(at, 2);
    fixture_fini(&f);
}

/* Sizes around every limit of the layout: short and long strings, one- and many-byte sizes, depth. */
static void
sizes_and_depths_survive(void **state)
{
    struct fixture f;
    anx_buffer in;
    struct doc_draft draft;
    anx_error err;

    (void) state;
    fixture_init(&f);
    anx_buffer_init(&in, NULL, 1 << 28);
    for (size_t n = 1; n < 70000; n = n < 300 ? n + 1 : n * 3) {
        anx_buffer_clear(&in);
        anx_buffer_text(&in, ANX_TEXT("{\"a\":{\"b\":[\""));
        for (size_t i = 0; i < n; i++)
            anx_buffer_char(&in, "x\xc3\xa9"[i % 3]);
        while (in.size > 0 && (unsigned char) in.data[in.size - 1] == 0xc3)
            in.size--; /* not half a character */
        anx_buffer_text(&in, ANX_TEXT("\"]},\"z\":0}"));
        assert_int_equal(read_one(&f, (anx_text) { in.data, in.size }, &draft, &err), ANX_OK);
        assert_true(anx_text_equal(print_all(&f, &draft), (anx_text) { in.data, in.size }));
        anx_arena_reset(f.arena);
    }
    for (size_t depth = 1; depth <= DOC_DEPTH_MAX + 1; depth++) {
        anx_buffer_clear(&in);
        for (size_t i = 0; i < depth; i++)
            anx_buffer_text(&in, i % 2 == 0 ? ANX_TEXT("{\"a\":") : ANX_TEXT("[1,"));
        anx_buffer_text(&in, ANX_TEXT("\"end of it, and some more bytes to need a larger size\""));
        for (size_t i = depth; i-- > 0;)
            anx_buffer_char(&in, i % 2 == 0 ? '}' : ']');
        if (depth > DOC_DEPTH_MAX + 1) /* the root is no level */
            assert_int_equal(read_one(&f, (anx_text) { in.data, in.size }, &draft, &err), ANX_E_PARSE_JSON);
        else {
            assert_int_equal(read_one(&f, (anx_text) { in.data, in.size }, &draft, &err), ANX_OK);
            assert_true(anx_text_equal(print_all(&f, &draft), (anx_text) { in.data, in.size }));
        }
        anx_arena_reset(f.arena);
    }
    anx_buffer_fini(&in);
    fixture_fini(&f);
}

/* Documents made by chance come back as they went in. */
static void
put_random(anx_buffer *out, anx_rng *rng, unsigned depth)
{
    static const char *const scalars[] = { "null",
                                           "true",
                                           "false",
                                           "0",
                                           "15",
                                           "16",
                                           "-1",
                                           "123456789012345678",
                                           "0.5",
                                           "1e+30",
                                           "\"\"",
                                           "\"short\"",
                                           "\"sixteen bytes...\"",
                                           "\"\xc3\xa9\\n\"" };
    size_t n = (size_t) (anx_rng_next(rng) % 6);
    unsigned kind = depth > 6 ? 2 : (unsigned) (anx_rng_next(rng) % 4);

    if (kind > 1) {
        anx_buffer_text(out, anx_text_of(scalars[anx_rng_next(rng) % ANX_COUNT_OF(scalars)]));
        return;
    }
    anx_buffer_char(out, kind == 0 ? '[' : '{');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        if (kind == 1)
            anx_buffer_printf(out, "\"k%u\":", (unsigned) (anx_rng_next(rng) % 300));
        put_random(out, rng, depth + 1);
    }
    anx_buffer_char(out, kind == 0 ? ']' : '}');
}

static void
random_documents_survive(void **state)
{
    struct fixture f;
    anx_buffer in;
    anx_rng rng = anx_rng_seed(6);

    (void) state;
    fixture_init(&f);
    anx_buffer_init(&in, NULL, 1 << 24);
    for (int round = 0; round < 3000; round++) {
        struct doc_draft draft;
        anx_error err;

        anx_buffer_clear(&in);
        anx_buffer_text(&in, ANX_TEXT("{\"r\":"));
        put_random(&in, &rng, 0);
        anx_buffer_char(&in, '}');
        if (read_one(&f, (anx_text) { in.data, in.size }, &draft, &err) != ANX_OK)
            fail_msg("%.*s: %s", (int) in.size, in.data, err.message);
        if (!anx_text_equal(print_all(&f, &draft), (anx_text) { in.data, in.size }))
            fail_msg("%.*s became %.*s", (int) in.size, in.data, (int) f.out.size, f.out.data);
        anx_arena_reset(f.arena);
    }
    anx_buffer_fini(&in);
    fixture_fini(&f);
}

/* ---- Projections ---- */

static void
projections_choose_fields(void **state)
{
    static const char json[] =
        "{\"id\":1,\"name\":\"one\",\"vec\":[1,2],\"inner\":{\"vec\":[7,8,9],\"note\":\"n\",\"far\":{\"a\":1,"
        "\"b\":2}},"
        "\"list\":[{\"a\":1,\"b\":2},5,{\"b\":3},[{\"a\":4}]],\"vecs\":[[1,2]],\"none\":{}}";
    static const struct {
        const char *paths[3];
        bool all_regular, all_vectors, vec, inner;
        const char *out;
    } rows[] = {
        { { NULL },
          true,
          false,
          false,
          false,
          "{\"id\":1,\"name\":\"one\",\"inner\":{\"note\":\"n\",\"far\":{\"a\":1,\"b\":2}},\"list\":[{\"a\":"
          "1,\"b\":2},5,"
          "{\"b\":3},[{\"a\":4}]],\"none\":{}}" },
        { { "name", "id" }, false, false, false, false, "{\"id\":1,\"name\":\"one\"}" },
        { { "id" }, false, true, false, false, "{\"id\":1,\"vec\":[1.0,2.0],\"vecs\":[[1.0,2.0]]}" },
        { { "id", "vec" }, false, false, true, false, "{\"id\":1,\"vec\":[1.0,2.0]}" },
        { { "id", "inner.vec" }, false, false, false, true, "{\"id\":1,\"inner\":{\"vec\":[7.0,8.0,9.0]}}" },
        { { "inner" }, false, false, false, false, "{\"inner\":{\"note\":\"n\",\"far\":{\"a\":1,\"b\":2}}}" },
        { { "inner.far.b", "inner.note" },
          false,
          false,
          false,
          false,
          "{\"inner\":{\"note\":\"n\",\"far\":{\"b\":2}}}" },
        { { "list.a" }, false, false, false, false, "{\"list\":[{\"a\":1},{},[{\"a\":4}]]}" },
        { { "ID", "none.x", "name.x" }, false, false, false, false, "{\"none\":{}}" },
        { { NULL }, false, false, false, false, "{}" },
        { { NULL },
          true,
          true,
          false,
          false,
          "{\"id\":1,\"name\":\"one\",\"vec\":[1.0,2.0],\"inner\":{\"vec\":[7.0,8.0,9.0],\"note\":\"n\","
          "\"far\":{\"a\":1,"
          "\"b\":2}},\"list\":[{\"a\":1,\"b\":2},5,{\"b\":3},[{\"a\":4}]],\"vecs\":[[1.0,2.0]],\"none\":{}"
          "}" },
    };
    struct fixture f;
    struct doc_draft draft;

    (void) state;
    fixture_init(&f);
    assert_int_equal(read_one(&f, (anx_text) { json, sizeof(json) - 1 }, &draft, NULL), ANX_OK);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_path *paths = anx_arena_array(f.arena, 3, sizeof(*paths));
        const bool fields[] = { rows[i].vec, false, rows[i].inner };
        struct doc_projection projection = { .all_regular = rows[i].all_regular,
                                             .all_vectors = rows[i].all_vectors,
                                             .paths = paths,
                                             .vector_fields = fields };

        while (projection.n_path < 3 && rows[i].paths[projection.n_path]) {
            assert_int_equal(doc_path_parse(anx_text_of(rows[i].paths[projection.n_path]), f.shape.names,
                                            &paths[projection.n_path], NULL),
                             ANX_OK);
            projection.n_path++;
        }
        anx_buffer_clear(&f.out);
        json_print_doc(&f.out, draft.doc, f.shape.names, &projection, test_shape_vectors, &draft, true);
        anx_buffer_char(&f.out, '}');
        expect_text((anx_text) { f.out.data, f.out.size }, rows[i].out);
    }
    fixture_fini(&f);
}

/* ---- Trees ---- */

static void
trees_are_read_and_printed(void **state)
{
    static const struct {
        const char *in, *out;
    } rows[] = {
        { "null", NULL },
        { " [1, -2 ,3.5e1,18446744073709551615,99999999999999999999]",
          "[1,-2,35.0,18446744073709551615,1e+20]" },
        { "{\"b\":1,\"a\":{\"x\":[]},\"b\":true}", NULL },
        { "\"\\ud83d\\ude00 \\\"\\\\\\/\\b\\f\\n\\r\\t\\u0007\"",
          "\"\xf0\x9f\x98\x80 \\\"\\\\/\\b\\f\\n\\r\\t\\u0007\"" },
        { "[\"\",\"a\\u0000b\",1e-400,-0]", "[\"\",\"a\\u0000b\",0.0,0]" },
    };
    anx_arena *arena = anx_arena_create(NULL, 0);
    anx_buffer out;

    (void) state;
    anx_buffer_init(&out, NULL, 1 << 20);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct json_node *node;
        anx_error err;

        if (json_parse(anx_text_of(rows[i].in), arena, &node, &err) != ANX_OK)
            fail_msg("%s: %s", rows[i].in, err.message);
        anx_buffer_clear(&out);
        json_print_node(&out, node);
        expect_text((anx_text) { out.data, out.size }, rows[i].out ? rows[i].out : rows[i].in);
    }
    anx_buffer_fini(&out);
    anx_arena_destroy(arena);
}

static void
trees_are_looked_into(void **state)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct json_node *node;
    double number;

    (void) state;
    assert_int_equal(
        json_parse(ANX_TEXT("{\"a\": [1, {\"b\" : \"x\\n\"} ] , \"n\":2,\"n\":3}"), arena, &node, NULL),
        ANX_OK);
    expect_text(json_member(node, "a")->raw, "[1, {\"b\" : \"x\\n\"} ]");
    expect_text(json_member(node, "a")->list.items[1].list.items[0].raw, "\"x\\n\"");
    expect_text(json_member(node, "a")->list.items[1].list.items[0].text, "x\n");
    assert_true(json_number(json_member(node, "n"), &number));
    assert_true(number == 2);
    assert_null(json_member(node, "none"));
    assert_null(json_member(json_member(node, "a"), "b"));
    assert_null(json_member(NULL, "b"));
    assert_false(json_number(json_member(node, "a"), &number));
    anx_arena_destroy(arena);
}

/* Long arrays of numbers may stay text; then they are read as floats, or as a tree of their own. */
static void
long_lists_stay_text(void **state)
{
    static const struct {
        const char *json;
        bool stays;
    } rows[] = {
        { "{\"v\":[ 1,-2.5 , 3e2,4,5,6,7,8,9,10,11,12,13,14,15,0.1\n]}", true },
        { "{\"v\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15]}", false },
        { "{\"v\":[]}", false },
        { "{\"v\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,\"x\"]}", false },
        { "{\"v\":[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16,[]]}", false },
    };
    anx_arena *arena = anx_arena_create(NULL, 0);

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct json_node *node;
        const struct json_node *list;
        float floats[JSON_LIST_MIN];

        assert_int_equal(json_parse_lists(anx_text_of(rows[i].json), arena, &node, NULL), ANX_OK);
        list = json_member(node, "v");
        assert_int_equal(list->list.items == NULL, rows[i].stays);
        if (!rows[i].stays)
            continue;
        assert_int_equal(list->list.n, JSON_LIST_MIN);
        assert_true(json_floats(list, floats));
        assert_true(floats[0] == 1 && floats[1] == -2.5f && floats[2] == 300 && floats[15] == 0.1f);
        assert_int_equal(json_parse(list->raw, arena, &node, NULL), ANX_OK);
        assert_int_equal(node->list.items[0].integer, 1);
    }
    assert_int_equal(json_parse_lists(ANX_TEXT("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,16, ]"), arena,
                                      &(struct json_node *){ NULL }, NULL),
                     ANX_E_PARSE_JSON);
    assert_int_equal(json_parse_lists(ANX_TEXT("[1,2,3,4,5,6,7,8,9,10,11,12,13,14,15,016]"), arena,
                                      &(struct json_node *){ NULL }, NULL),
                     ANX_E_PARSE_JSON);
    anx_arena_destroy(arena);
}

static void
broken_trees_are_refused(void **state)
{
    static const char *const rows[] = {
        "",
        " ",
        "{",
        "[",
        "[1",
        "[1,",
        "[1,]",
        "[,1]",
        "[1 2]",
        "{\"a\"}",
        "{\"a\":}",
        "{\"a\":1,}",
        "{a:1}",
        "{\"a\":1 \"b\":2}",
        "nul",
        "True",
        "01",
        "-",
        "1.",
        ".5",
        "1e",
        "1e400",
        "+1",
        "\"",
        "\"a",
        "\"\\\"",
        "\"\\u12\"",
        "\"\\ud800\"",
        "\"\\udc00\"",
        "\"\x01\"",
        "\"\xff\"",
        "\"\xed\xa0\x80\"",
        "1 2",
        "[1]]",
        "nope",
    };
    anx_arena *arena = anx_arena_create(NULL, 0);
    char deep[2 * DOC_DEPTH_MAX + 4];
    struct json_node *node;
    anx_error err;

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        if (json_parse(anx_text_of(rows[i]), arena, &node, &err) != ANX_E_PARSE_JSON)
            fail_msg("accepted %s", rows[i]);
    memset(deep, '[', DOC_DEPTH_MAX + 1);
    memset(deep + DOC_DEPTH_MAX + 1, ']', DOC_DEPTH_MAX + 1);
    assert_int_equal(json_parse((anx_text){ deep, 2 * DOC_DEPTH_MAX + 2 }, arena, &node, &err),
                     ANX_E_PARSE_JSON);
    assert_int_equal(json_parse((anx_text) { deep + 1, 2 * DOC_DEPTH_MAX }, arena, &node, &err), ANX_OK);
    anx_arena_destroy(arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(documents_are_converted_and_printed),
        cmocka_unit_test(wrong_documents_are_refused),
        cmocka_unit_test(values_are_collected),
        cmocka_unit_test(vectors_are_collected),
        cmocka_unit_test(components_are_exact),
        cmocka_unit_test(sequences_are_read_one_by_one),
        cmocka_unit_test(sizes_and_depths_survive),
        cmocka_unit_test(random_documents_survive),
        cmocka_unit_test(projections_choose_fields),
        cmocka_unit_test(trees_are_read_and_printed),
        cmocka_unit_test(trees_are_looked_into),
        cmocka_unit_test(long_lists_stay_text),
        cmocka_unit_test(broken_trees_are_refused),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
