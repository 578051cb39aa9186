/* Documents as bytes: walking, paths, the check of foreign bytes, UPDATE, other shapes. */
#include "test_util.h"

#include <stdio.h>
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
    anx_buffer_init(&self->out, NULL, 1 << 24);
}

static void
fixture_fini(struct fixture *self)
{
    anx_buffer_fini(&self->out);
    anx_arena_destroy(self->arena);
    json_reader_destroy(self->reader);
    test_shape_fini(&self->shape);
}

static struct doc_draft
read_one(struct fixture *self, const char *json)
{
    struct doc_draft draft;
    size_t at = 0;
    bool more;
    anx_error err;

    if (json_read_doc(self->reader, anx_text_of(json), &at, &more, self->shape.names, &self->shape.shape,
                      self->arena, &draft, &err) != ANX_OK)
        fail_msg("%s: %s", json, err.message);
    return draft;
}

static void
expect_doc(struct fixture *self, const struct doc_draft *draft, const char *want)
{
    const struct doc_projection everything = { .all_regular = true, .all_vectors = true };

    anx_buffer_clear(&self->out);
    json_print_doc(&self->out, draft->doc, self->shape.names, &everything, test_shape_vectors, (void *) draft,
                   false);
    if (!anx_text_equal((anx_text) { self->out.data, self->out.size }, anx_text_of(want)))
        fail_msg("got %.*s, expected %s", (int) self->out.size, self->out.data, want);
}

/* ---- Paths ---- */

struct visited {
    anx_buffer *out;
    const struct doc_names *names;
    size_t stop_after;
};

static bool
note_visit(void *context, const struct doc_node *node, const uint32_t *positions, size_t n)
{
    struct visited *visited = context;

    json_print_doc_node(visited->out, node, visited->names, NULL, NULL);
    for (size_t i = 0; i < n; i++)
        anx_buffer_printf(visited->out, "%c%u", i == 0 ? '@' : '.', positions[i]);
    anx_buffer_char(visited->out, ' ');
    return visited->stop_after == 0 || --visited->stop_after > 0;
}

static void
paths_reach_their_nodes(void **state)
{
    static const char json[] =
        "{\"a\":{\"b\":5},\"arr\":[1,[2,3],null],\"objs\":[{\"x\":[1,2]},{\"x\":3},{\"y\":4},7],"
        "\"packed\":[1,2,300],\"nil\":null,\"e\":[],\"a\":{\"b\":6}}";
    static const struct {
        const char *path;
        bool whole;
        const char *visited, *found;
    } rows[] = {
        { "a.b", false, "5 6 ", "5" },
        { "a", true, "{\"b\":5} {\"b\":6} ", "{\"b\":5}" },
        { "arr", false, "1@0 2@1.0 3@1.1 null@2 ", "[1,[2,3],null]" },
        { "arr", true, "[1,[2,3],null] ", "[1,[2,3],null]" },
        { "arr[1]", false, "2@1.0 3@1.1 ", "[2,3]" },
        { "arr[1]", true, "[2,3]@1 ", "[2,3]" },
        { "arr[9]", false, "", "" },
        { "arr[*]", false, "1@0 2@1.0 3@1.1 null@2 ", "[1,[2,3],null]" },
        { "objs.x", false, "1@0.0 2@0.1 3@1 ", "" },
        { "objs[#].x", false, "1@0.0 2@0.1 3@1 ", "" },
        { "objs[1].x", false, "3@1 ", "3" },
        { "objs[0].x[1]", false, "2@0.1 ", "2" },
        { "packed", false, "1@0 2@1 300@2 ", "[1,2,300]" },
        { "packed[2]", false, "300@2 ", "300" },
        { "nil", false, "null ", "null" },
        { "nil.x", false, "", "" },
        { "e", false, "", "[]" },
        { "e", true, "[] ", "[]" },
        { "A", false, "", "" },
        { "a[0]", false, "", "" },
    };
    struct fixture f;
    struct doc_draft draft;

    (void) state;
    fixture_init(&f);
    draft = read_one(&f, json);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct visited visited = { .out = &f.out, .names = f.shape.names };
        struct doc_path path;
        struct doc_node node;

        assert_int_equal(doc_path_parse(anx_text_of(rows[i].path), f.shape.names, &path, NULL), ANX_OK);
        anx_buffer_clear(&f.out);
        doc_visit(draft.doc, &path, rows[i].whole, note_visit, &visited);
        if (!anx_text_equal((anx_text) { f.out.data, f.out.size }, anx_text_of(rows[i].visited)))
            fail_msg("%s visits %.*s", rows[i].path, (int) f.out.size, f.out.data);
        anx_buffer_clear(&f.out);
        node = doc_find(draft.doc, &path);
        if (node.kind != DOC_ABSENT)
            json_print_doc_node(&f.out, &node, f.shape.names, NULL, NULL);
        if (!anx_text_equal((anx_text) { f.out.data, f.out.size }, anx_text_of(rows[i].found)))
            fail_msg("%s finds %.*s", rows[i].path, (int) f.out.size, f.out.data);
        if (i == 2) {
            visited.stop_after = 2;
            assert_int_equal(doc_visit(draft.doc, &path, false, note_visit, &visited), 2);
        }
    }
    fixture_fini(&f);
}

static void
malformed_paths_are_refused(void **state)
{
    static const char *const rows[] = { "",    ".",   "a.",   ".a",    "a..b",
                                        "[1]", "a[]", "a[x]", "a[-1]", "a[99999999999]" };
    struct doc_names *names = names_create(NULL);
    struct doc_path path;
    char long_path[2 * DOC_PATH_MAX + 2];

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        if (doc_path_parse(anx_text_of(rows[i]), names, &path, NULL) != ANX_E_PARAMS)
            fail_msg("accepted '%s'", rows[i]);
    for (size_t i = 0; i < sizeof(long_path); i++)
        long_path[i] = i % 2 == 0 ? 'a' : '.';
    assert_int_equal(doc_path_parse((anx_text){ long_path, 2 * DOC_PATH_MAX - 1 }, names, &path, NULL),
                     ANX_OK);
    assert_int_equal(doc_path_parse((anx_text){ long_path, 2 * DOC_PATH_MAX + 1 }, names, &path, NULL),
                     ANX_E_PARAMS);
    assert_int_equal(names_count(names), 0);
    assert_int_equal(doc_path_add(ANX_TEXT("x.y.x"), names, &path, NULL), ANX_OK);
    assert_int_equal(names_count(names), 2);
    assert_int_equal(path.steps[2].tag, path.steps[0].tag);
    names_destroy(names);
}

/* ---- Foreign bytes ---- */

/* Walks everything, as far as a checked document may be walked. */
static void
walk_all(struct fixture *self, struct doc doc)
{
    struct visited visited = { .out = &self->out, .names = self->shape.names };
    const struct doc_projection everything = { .all_regular = true, .all_vectors = true };
    struct doc_draft draft;
    struct doc_path path;

    anx_buffer_clear(&self->out);
    json_print_doc(&self->out, doc, self->shape.names, &everything, NULL, NULL, false);
    assert_false(self->out.failed);
    if (doc_extract(doc, &self->shape.shape, self->arena, &draft, NULL) != ANX_OK)
        anx_buffer_clear(&self->out); /* a forged value that its sparse index cannot convert */
    assert_int_equal(doc_path_parse(ANX_TEXT("tags.x"), self->shape.names, &path, NULL), ANX_OK);
    (void) doc_visit(doc, &path, false, note_visit, &visited);
    (void) doc_find(doc, &path);
    anx_arena_reset(self->arena);
}

static void
damaged_documents_are_found_or_harmless(void **state)
{
    static const char json[] =
        "{\"id\":1,\"name\":\"a name of more than fifteen bytes\",\"price\":2.5,\"flag\":true,"
        "\"uid\":\"550e8400-e29b-41d4-a716-446655440000\",\"tags\":[\"a\",\"b\"],\"nums\":[1,200,70000],"
        "\"vec\":[1,2],\"vecs\":[[1,2],[]],\"o\":{\"p\":[1.5,2.5,3.5],\"q\":null,\"r\":-5}}";
    struct fixture f;
    struct doc_draft draft;
    anx_rng rng = anx_rng_seed(1);
    uint8_t *copy;
    size_t size, n_refused = 0;

    (void) state;
    fixture_init(&f);
    draft = read_one(&f, json);
    size = draft.doc.size;
    copy = anx_alloc_bytes(NULL, size);
    memcpy(copy, draft.doc.bytes, size);
    for (size_t cut = 0; cut < size; cut++) { /* cut short, in memory of exactly that size */
        uint8_t *part = anx_alloc_bytes(NULL, cut);

        memcpy(part, copy, cut);
        if (doc_check((struct doc) { part, cut }, f.shape.names, NULL) == ANX_OK)
            walk_all(&f, (struct doc) { part, cut });
        else
            n_refused++;
        anx_free(NULL, part);
    }
    assert_true(n_refused > size / 2);
    for (int round = 0; round < 20000; round++) {
        uint8_t *part = anx_alloc_bytes(NULL, size);

        memcpy(part, copy, size);
        for (uint64_t i = anx_rng_next(&rng) % 3; i < 3; i++)
            part[anx_rng_next(&rng) % size] = (uint8_t) anx_rng_next(&rng);
        if (doc_check((struct doc) { part, size }, f.shape.names, NULL) == ANX_OK)
            walk_all(&f, (struct doc) { part, size });
        anx_free(NULL, part);
    }
    anx_free(NULL, copy);
    fixture_fini(&f);
}

static void
forged_documents_are_refused(void **state)
{
    static const struct {
        const char *what;
        uint8_t bytes[24];
        size_t size;
    } rows[] = {
        { "no bytes", { 0 }, 0 },
        { "another format", { 2 }, 1 },
        { "tag 0", { 1, 0, 0 }, 3 },
        { "a tag beyond the dictionary", { 1, 0, 0xff, 0x7f }, 4 },
        { "no tag", { 1, 0 }, 2 },
        { "an unknown kind", { 1, 15, 1 }, 3 },
        { "bits that mean nothing", { 1, 0x10, 1 }, 3 },
        { "a string over the end", { 1, 8, 1, 5, 'a' }, 5 },
        { "a short string over the end", { 1, 0x57, 1, 'a' }, 4 },
        { "an endless varint",
          { 1, 4, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff },
          15 },
        { "a varint over 64 bits", { 1, 4, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 2 }, 13 },
        { "half a double", { 1, 5, 1, 0, 0, 0, 0 }, 7 },
        { "an array over the end", { 1, 10, 1, 9, 0 }, 5 },
        { "a huge array", { 1, 10, 1, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 1 }, 13 },
        { "an element over its array", { 1, 10, 1, 2, 0x57, 'a', 'b', 'c', 'd', 'e' }, 10 },
        { "half a packed double", { 1, 0x5b, 1, 9, 0, 0, 0, 0, 0, 0, 0, 0, 0 }, 13 },
        { "a packed varint over the end", { 1, 0x4b, 1, 1, 0x80, 0 }, 6 },
        { "packed strings", { 1, 0x7b, 1, 0 }, 4 },
        { "an unknown form of vector", { 1, 0x7d, 1, 0 }, 4 },
        { "a vector field beyond the limit", { 1, 0x1d, 1, 0x80, 2 }, 5 },
        { "a second vector of a field for one", { 1, 0x1d, 1, 0, 0x1d, 2, 0 }, 7 },
        { "a vector out of order", { 1, 0x2d, 1, 1, 1 }, 5 },
    };
    struct fixture f;
    uint8_t deep[4 * (DOC_DEPTH_MAX + 2)];
    size_t at = sizeof(deep);

    (void) state;
    fixture_init(&f);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        if (doc_check((struct doc) { rows[i].bytes, rows[i].size }, f.shape.names, NULL) != ANX_E_CORRUPT)
            fail_msg("accepted: %s", rows[i].what);
    assert_int_equal(doc_check((struct doc) { (const uint8_t[]) { 1 }, 1 }, f.shape.names, NULL), ANX_OK);
    for (unsigned depth = 0; depth <= DOC_DEPTH_MAX; depth++) { /* arrays in arrays, sizes of two bytes */
        size_t size = sizeof(deep) - at;

        deep[--at] = (uint8_t) (size >> 7);
        deep[--at] = (uint8_t) (size | 0x80);
        if (depth == DOC_DEPTH_MAX - 1 || depth == DOC_DEPTH_MAX) {
            uint8_t head[4] = { deep[at], deep[at + 1], deep[at - 1], deep[at - 2] };

            deep[at - 1] = 1; /* as a member of the root, for a moment */
            deep[at - 2] = 10;
            deep[at - 3] = 1;
            assert_int_equal(
                doc_check((struct doc){ deep + at - 3, sizeof(deep) - at + 3 }, f.shape.names, NULL),
                depth == DOC_DEPTH_MAX ? ANX_E_CORRUPT : ANX_OK);
            deep[at - 1] = head[2];
            deep[at - 2] = head[3];
        }
        deep[--at] = 10;
    }
    fixture_fini(&f);
}

/* ---- UPDATE ---- */

#define START                                                                                                \
    "{\"id\":1,\"name\":\"n1\",\"price\":1.5,\"tags\":[\"a\",\"b\"],\"nums\":[1,2],\"opt\":1,\"vec\":[1,-1]" \
    ",\"vecs\":[[1,2],[]],"                                                                                  \
    "\"free\":{\"x\":1,\"list\":[{\"b\":[1,2]},{\"b\":3}]}}"

/* A value of the table: a JSON value; an array makes is_array, an array inside of it a tuple. */
static struct value
value_of(const struct json_node *node, anx_arena *arena)
{
    struct value value = { .type = VALUE_NULL };

    switch (node->kind) {
    case JSON_BOOL:
        return (struct value) { .type = VALUE_BOOL, .boolean = node->boolean };
    case JSON_INT:
        return (struct value) { .type = VALUE_INT, .integer = node->integer };
    case JSON_DOUBLE:
        return (struct value) { .type = VALUE_DOUBLE, .real = node->real };
    case JSON_STRING:
        return (struct value) { .type = VALUE_STRING, .text = node->text };
    case JSON_ARRAY:
        value.type = VALUE_TUPLE;
        value.tuple.n = node->list.n;
        value.tuple.items = anx_arena_array(arena, node->list.n, sizeof(value));
        for (size_t i = 0; i < node->list.n; i++)
            value.tuple.items[i] = value_of(&node->list.items[i], arena);
        return value;
    default:
        return value;
    }
}

/* json NULL: DROP. A value that starts with a brace, or an array of objects, is set as JSON. */
static anx_status
update_one(struct fixture *self, const char *start, const char *path, const char *json, struct doc_draft *out,
           anx_error *err)
{
    struct doc_draft draft = read_one(self, start);
    struct doc_change change = { .kind = CHANGE_DROP, .path_text = anx_text_of(path) };
    struct json_node *node;
    struct value *value = anx_arena_array(self->arena, 1, sizeof(*value));

    assert_int_equal(doc_path_parse(change.path_text, self->shape.names, &change.path, NULL), ANX_OK);
    if (json) {
        change.kind = CHANGE_SET;
        if (json[0] == '{' || strncmp(json, "[{", 2) == 0) {
            change.form = CHANGE_JSON;
            change.json = anx_text_of(json);
        } else {
            assert_int_equal(json_parse(anx_text_of(json), self->arena, &node, NULL), ANX_OK);
            *value = value_of(node, self->arena);
            change.is_array = value->type == VALUE_TUPLE;
            change.values = change.is_array ? value->tuple.items : value;
            change.n = change.is_array ? value->tuple.n : 1;
        }
    }
    return doc_update(draft.doc, draft.vectors, &change, 1, self->shape.names, &self->shape.shape,
                      self->arena, out, err);
}

static void
updates_change_documents(void **state)
{
    static const struct {
        const char *start, *path, *value, *out;
    } rows[] = {
        { "{\"id\":1,\"z\":2}", "name", "\"first\"", "{\"id\":1,\"z\":2,\"name\":\"first\"}" },
        { "{\"id\":1,\"z\":2}", "id", "60", "{\"id\":60,\"z\":2}" },
        { "{\"id\":1,\"z\":2}", "id", "\"77\"", "{\"id\":77,\"z\":2}" },
        { "{\"price\":1.5}", "price", "2", "{\"price\":2.0}" },
        { "{\"tags\":[\"a\"]}", "tags", "[\"x\",\"y\"]", "{\"tags\":[\"x\",\"y\"]}" },
        { "{\"tags\":[\"a\"]}", "tags", "[]", "{\"tags\":[]}" },
        { "{\"tags\":[\"a\"]}", "tags", "null", "{\"tags\":[]}" },
        { "{\"tags\":[\"a\"]}", "tags", "\"x\"", "{\"tags\":\"x\"}" },
        { "{\"nums\":[0,1,2]}", "nums[1]", "100", "{\"nums\":[0,100,2]}" },
        { "{\"nums\":[0,1,2]}", "nums[*]", "\"8\"", "{\"nums\":[8,8,8]}" },
        { "{\"opt\":1}", "opt", "\"5\"", "{\"opt\":5}" },
        { "{\"free\":{\"x\":4}}", "free.x", "\"text\"", "{\"free\":{\"x\":\"text\"}}" },
        { "{\"free\":{\"x\":4}}", "free.y.z", "1.25", "{\"free\":{\"x\":4,\"y\":{\"z\":1.25}}}" },
        { "{\"free\":null}", "free.y", "1", "{\"free\":{\"y\":1}}" },
        { "{\"free\":{\"x\":4}}", "free", "{\"k\":[1,{\"v\":null}]}", "{\"free\":{\"k\":[1,{\"v\":null}]}}" },
        { "{\"free\":{\"x\":4}}", "free", "[{\"a\":1},{\"a\":2}]", "{\"free\":[{\"a\":1},{\"a\":2}]}" },
        { "{\"free\":{\"x\":4}}", "free", "[1,\"a\",null,[2]]", "{\"free\":[1,\"a\",null,[2]]}" },
        { "{\"free\":{\"x\":4}}", "free", "null", "{\"free\":null}" },
        { "{}", "added", "true", "{\"added\":true}" },
        { "{\"a\":[{\"b\":1},{\"c\":2}]}", "a[*].b", "9", "{\"a\":[{\"b\":9},{\"c\":2,\"b\":9}]}" },
        { "{\"a\":[{\"b\":1},{\"b\":2}]}", "a[1].b", "9", "{\"a\":[{\"b\":1},{\"b\":9}]}" },
        { "{\"a\":[{\"b\":1},{\"b\":2}]}", "a.b", "9", "{\"a\":[{\"b\":9},{\"b\":9}]}" },
        { "{\"a\":[{\"b\":[1,2]},{\"b\":[3,4]}]}", "a[*].b[1]", "9",
          "{\"a\":[{\"b\":[1,9]},{\"b\":[3,9]}]}" },
        { "{\"a\":[1,2]}", "a[0]", "[7,8]", "{\"a\":[[7,8],2]}" },
        { "{\"a\":1}", "b[*]", "5", "{\"a\":1}" },
        { "{\"parts\":[{\"n\":1}]}", "parts[*].n", "\"5\"", "{\"parts\":[{\"n\":5}]}" },
        { "{\"vec\":[1,2]}", "vec", "[7,7.5]", "{\"vec\":[7.0,7.5]}" },
        { "{\"vec\":[1,2]}", "VEC", "[7,7.5]", "{\"vec\":[7.0,7.5]}" },
        { "{\"vec\":[1,2]}", "vec", "null", "{\"vec\":[]}" },
        { "{\"vec\":[1,2]}", "vec", "[]", "{\"vec\":[]}" },
        { "{\"vec\":[1,2]}", "vec[1]", "5", "{\"vec\":[1.0,5.0]}" },
        { "{\"id\":1}", "vec", "[3,4]", "{\"id\":1,\"vec\":[3.0,4.0]}" },
        { "{\"id\":1}", "byname", "[3,4,5]",
          "{\"id\":1,\"inner\":{\"vec\":[3.0,4.0,5.0]}}" }, /* name of an index */
        { "{\"inner\":{\"vec\":[1,2,3],\"a\":1}}", "byname[0]", "9",
          "{\"inner\":{\"vec\":[9.0,2.0,3.0],\"a\":1}}" },
        { "{\"vecs\":[[1,2],[3,4]]}", "vecs[1]", "[5,6]", "{\"vecs\":[[1.0,2.0],[5.0,6.0]]}" },
        { "{\"vecs\":[[1,2],[3,4]]}", "vecs[0]", "null", "{\"vecs\":[[],[3.0,4.0]]}" },
        { "{\"vecs\":[1,2]}", "vecs[0]", "[5,6]", "{\"vecs\":[5.0,6.0]}" },
        { "{\"vecs\":[[1,2],[3,4]]}", "vecs", "[]", "{\"vecs\":[]}" },
        { "{\"vecs\":[[1,2],[3,4]]}", "vecs", "[[7,7],null,[8,8]]", "{\"vecs\":[[7.0,7.0],[],[8.0,8.0]]}" },
        { "{\"parts\":[{\"n\":1}]}", "parts", "[{\"n\":10},{\"n\":\"20\"}]",
          "{\"parts\":[{\"n\":10},{\"n\":20}]}" },
        { "{\"place\":[1,2]}", "place", "[3,\"4\"]", "{\"place\":[3.0,4.0]}" },
        { "{\"id\":1,\"opt\":5,\"z\":1}", "opt", NULL, "{\"id\":1,\"z\":1}" },
        { "{\"z\":1,\"z\":2,\"a\":3}", "z", NULL, "{\"a\":3}" },
        { "{\"free\":{\"x\":1,\"y\":2}}", "free.x", NULL, "{\"free\":{\"y\":2}}" },
        { "{\"free\":[1,2,3]}", "free[1]", NULL, "{\"free\":[1,3]}" },
        { "{\"free\":[1,2,3]}", "free[*]", NULL, "{\"free\":[]}" },
        { "{\"free\":[{\"x\":1,\"y\":2},{\"x\":3}]}", "free[*].x", NULL, "{\"free\":[{\"y\":2},{}]}" },
        { "{\"free\":[{\"x\":1},{\"x\":3}]}", "free[0].x", NULL, "{\"free\":[{},{\"x\":3}]}" },
        { "{\"id\":1}", "none.such", NULL, "{\"id\":1}" },
    };
    struct fixture f;

    (void) state;
    fixture_init(&f);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_draft draft;
        anx_error err;

        if (update_one(&f, rows[i].start, rows[i].path, rows[i].value, &draft, &err) != ANX_OK)
            fail_msg("%s of %s: %s", rows[i].path, rows[i].start, err.message);
        expect_doc(&f, &draft, rows[i].out);
        assert_int_equal(doc_check(draft.doc, f.shape.names, NULL), ANX_OK);
    }
    fixture_fini(&f);
}

static void
wrong_updates_are_refused(void **state)
{
    static const struct {
        const char *path, *value;
        anx_status status;
        const char *message;
    } rows[] = {
        { "id", "\"many\"", ANX_E_PARAMS, "Can't convert 'many' to number" },
        { "id", "[1]", ANX_E_PARAMS, "It's not possible to Update single index fields with arrays!" },
        { "name", "null", ANX_E_PARAMS, "Non-array index fields cannot be set to null!" },
        { "opt", "null", ANX_E_PARAMS, "Non-array index fields cannot be set to null!" },
        { "id[0]", "1", ANX_E_PARAMS, "Can't Update non-array index fields using array index" },
        { "nums[5]", "1", ANX_E_PARAMS, "Requested array's index was not found: [5]" },
        { "free[0]", "1", ANX_E_PARAMS, "Requested array's index was not found: [0]" },
        { "none[0]", "1", ANX_E_PARAMS, "Requested array's index was not found: [0]" },
        { "nums", "[1,null]", ANX_E_PARAMS, "Non-sparse indexes cannot contain null-values inside arrays" },
        { "nums", "[1,\"x\"]", ANX_E_PARAMS, "Can't convert 'x' to number" },
        { "vec", "[1,2,3]", ANX_E_PARAMS,
          "It's not possible to Update float vector index of dimension 2 with array of size 3" },
        { "vec[2]", "1", ANX_E_PARAMS, "Requested array's index was not found: [2]" },
        { "vec[0]", "null", ANX_E_LOGIC, "It's not possible to update float_vector element with null vlaue" },
        { "vec[0]", "[1]", ANX_E_LOGIC, "It's not possible to update float_vector element with array vlaue" },
        { "vec[0]", "[]", ANX_E_LOGIC, "It's not possible to update float_vector element with empty vlaue" },
        { "vec[*]", "1", ANX_E_PARAMS, "Cannot update several values of float vector index" },
        { "vecs[*]", "[1,2]", ANX_E_PARAMS, "Cannot update several values of float vector index" },
        { "vecs", "[1,2]", ANX_E_LOGIC, "Array of vectors allowed for update array float vector index only" },
        { "vecs[7]", "[1,2]", ANX_E_PARAMS, "Requested array's index was not found: [7]" },
        { "vecs[0]", "[1,2,3]", ANX_E_PARAMS,
          "It's not possible to Update float vector index of dimension 2 with array of size 3" },
        { "multi", "[1]", ANX_E_PARAMS,
          "Ambiguity when updating field with several json paths by index name: 'multi'" },
        { "name", "{\"a\":1}", ANX_E_LOGIC,
          "Error parsing json field 'name' - unable to use object in this context" },
        { "parts", "[{\"n\":\"ten\"}]", ANX_E_PARAMS, "Can't convert 'ten' to number" },
        { "free", "{\"a\":1", ANX_E_PARSE_JSON, NULL },
        { "price.x", "1", ANX_E_PARAMS, NULL },
        { "name", NULL, ANX_E_LOGIC,
          "It's only possible to drop sparse or non-index fields via UPDATE statement!" },
        { "vec", NULL, ANX_E_LOGIC,
          "It's only possible to drop sparse or non-index fields via UPDATE statement!" },
    };
    struct fixture f;

    (void) state;
    fixture_init(&f);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct doc_draft draft;
        anx_error err = { .message = "no error" };
        anx_status st = update_one(&f, START, rows[i].path, rows[i].value, &draft, &err);

        if (st != rows[i].status || (rows[i].message && strcmp(err.message, rows[i].message) != 0))
            fail_msg("%s = %s: %d %s", rows[i].path, rows[i].value ? rows[i].value : "DROP", (int) st,
                     err.message);
    }
    fixture_fini(&f);
}

static void
several_changes_apply_in_order(void **state)
{
    const struct value one = { .type = VALUE_INT, .integer = 1 }, two = { .type = VALUE_INT, .integer = 2 };
    struct doc_change changes[] = {
        { .path_text = ANX_TEXT("new.x"), .values = &one, .n = 1 },
        { .path_text = ANX_TEXT("new.x"), .values = &two, .n = 1 },
        { .path_text = ANX_TEXT("new.y"), .values = &one, .n = 1 },
        { .kind = CHANGE_DROP, .path_text = ANX_TEXT("free") },
    };
    struct fixture f;
    struct doc_draft draft, out;

    (void) state;
    fixture_init(&f);
    draft = read_one(&f, "{\"id\":1,\"free\":5,\"vec\":[1,2]}");
    for (size_t i = 0; i < ANX_COUNT_OF(changes); i++)
        assert_int_equal(doc_path_parse(changes[i].path_text, f.shape.names, &changes[i].path, NULL), ANX_OK);
    assert_int_equal(doc_update(draft.doc, draft.vectors, changes, ANX_COUNT_OF(changes), f.shape.names,
                                &f.shape.shape, f.arena, &out, NULL),
                     ANX_OK);
    expect_doc(&f, &out, "{\"id\":1,\"vec\":[1.0,2.0],\"new\":{\"x\":2,\"y\":1}}");
    assert_int_equal(out.values[SHAPE_ID].items[0].integer, 1);
    fixture_fini(&f);
}

/* ---- Other shapes ---- */

static void
shapes_change_under_documents(void **state)
{
    static const char json[] =
        "{\"id\":1,\"price\":5,\"uid\":\"550e8400-e29b-41d4-a716-446655440000\",\"vec\":[0.1,2],"
        "\"vecs\":[[1,2],[]],\"inner\":{\"vec\":null},\"opt\":\"12\"}";
    struct fixture f;
    struct doc_draft draft, bare, again;
    struct doc_shape none = { .ns = ANX_TEXT("t") };
    anx_error err;

    (void) state;
    fixture_init(&f);
    draft = read_one(&f, json);
    /* Without indexes, vectors are numbers of the document again, and converted values stay. */
    assert_int_equal(
        doc_reshape(draft.doc, &f.shape.shape, draft.vectors, f.shape.names, &none, f.arena, &bare, &err),
        ANX_OK);
    assert_int_equal(bare.n_vectors, 0);
    expect_doc(&f, &bare,
               "{\"id\":1,\"price\":5.0,\"uid\":\"550e8400-e29b-41d4-a716-446655440000\",\"vec\":[0.1,2.0],"
               "\"vecs\":[[1.0,2.0],[]],\"inner\":{\"vec\":[]},\"opt\":\"12\"}");
    assert_int_equal(doc_check(bare.doc, f.shape.names, NULL), ANX_OK);
    /* And back, to the bit. */
    assert_int_equal(doc_reshape(bare.doc, &none, NULL, f.shape.names, &f.shape.shape, f.arena, &again, &err),
                     ANX_OK);
    assert_int_equal(again.doc.size, draft.doc.size);
    assert_memory_equal(again.doc.bytes, draft.doc.bytes, draft.doc.size);
    for (size_t i = 0; i < 3; i++) {
        assert_int_equal(again.vectors[i].n, draft.vectors[i].n);
        assert_memory_equal(again.vectors[i].floats ? again.vectors[i].floats : (const float *) "",
                            draft.vectors[i].floats ? draft.vectors[i].floats : (const float *) "",
                            draft.vectors[i].n * draft.vectors[i].dim * sizeof(float));
    }
    /* What does not fit is refused in the words of stored documents. */
    f.shape.fields[SHAPE_VEC].dim = 3;
    assert_int_equal(doc_reshape(bare.doc, &none, NULL, f.shape.names, &f.shape.shape, f.arena, &again, &err),
                     ANX_E_LOGIC);
    assert_string_equal(
        err.message,
        "Error parsing cjson field 'vec' - got array of size 2, expected float_vector of size 3");
    f.shape.fields[SHAPE_VEC].dim = 2;
    f.shape.fields[SHAPE_UID].type = FIELD_INT;
    assert_int_equal(doc_reshape(bare.doc, &none, NULL, f.shape.names, &f.shape.shape, f.arena, &again, &err),
                     ANX_E_LOGIC);
    f.shape.fields[SHAPE_UID].type = FIELD_STRING;
    assert_int_equal(doc_reshape(bare.doc, &none, NULL, f.shape.names, &f.shape.shape, f.arena, &again, &err),
                     ANX_OK);
    assert_true(anx_text_equal(again.values[SHAPE_UID].items[0].text,
                               ANX_TEXT("550e8400-e29b-41d4-a716-446655440000")));
    fixture_fini(&f);
}

/* Reading, changing and reshaping with the Nth allocation failing: refused as out of memory, nothing kept. */
static void
memory_runs_out_cleanly(void **state)
{
    static const char json[] = "{\"id\":1,\"name\":\"x\",\"tags\":[\"a\",\"b\",\"c\",\"d\",\"e\"],\"opt_"
                               "text\":[1,2.5],\"vec\":[1,2],"
                               "\"vecs\":[[1,2],[3,4],[5,6]],\"free\":{\"a\":[1,2,3]}}";
    struct doc_change change = { .path_text = ANX_TEXT("free.a[1]"),
                                 .form = CHANGE_JSON,
                                 .json = ANX_TEXT("{\"b\":[0,{}]}") };
    const struct doc_shape none = { .ns = ANX_TEXT("t") };
    struct fixture f;
    struct doc_draft draft;
    bool is_done = false;

    (void) state;
    fixture_init(&f);
    draft = read_one(&f, json);
    assert_int_equal(doc_path_parse(change.path_text, f.shape.names, &change.path, NULL), ANX_OK);
    for (size_t nth = 1; !is_done; nth++) {
        struct test_alloc alloc;
        anx_arena *arena;
        struct doc_draft out;
        struct json_node *node;
        anx_status st[5] = { ANX_E_NOMEM, ANX_E_NOMEM, ANX_E_NOMEM, ANX_E_NOMEM, ANX_E_NOMEM };
        size_t at = 0;
        bool more;

        test_alloc_init(&alloc, nth);
        arena = anx_arena_create(&alloc.alloc, nth < 400 ? nth * 40 : 0); /* also by the arena's limit */
        if (arena) {
            st[0] = json_read_doc(f.reader, anx_text_of(json), &at, &more, f.shape.names, &f.shape.shape,
                                  arena, &out, NULL);
            st[1] = doc_update(draft.doc, draft.vectors, &change, 1, f.shape.names, &f.shape.shape, arena,
                               &out, NULL);
            st[2] = doc_reshape(draft.doc, &f.shape.shape, draft.vectors, f.shape.names, &none, arena, &out,
                                NULL);
            st[3] = doc_extract(draft.doc, &f.shape.shape, arena, &out, NULL);
            st[4] = json_parse(anx_text_of(json), arena, &node, NULL);
        }
        is_done = nth > 400;
        for (size_t i = 0; i < ANX_COUNT_OF(st); i++) {
            assert_true(st[i] == ANX_OK || st[i] == ANX_E_NOMEM);
            is_done = is_done && st[i] == ANX_OK;
        }
        anx_arena_destroy(arena);
        assert_int_equal(test_alloc_live(&alloc), 0);
    }
    fixture_fini(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(paths_reach_their_nodes),
        cmocka_unit_test(malformed_paths_are_refused),
        cmocka_unit_test(damaged_documents_are_found_or_harmless),
        cmocka_unit_test(forged_documents_are_refused),
        cmocka_unit_test(updates_change_documents),
        cmocka_unit_test(wrong_updates_are_refused),
        cmocka_unit_test(several_changes_apply_in_order),
        cmocka_unit_test(shapes_change_under_documents),
        cmocka_unit_test(memory_runs_out_cleanly),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
