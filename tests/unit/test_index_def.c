/* Index definitions: read, refused with the texts that clients know, printed, copied, compared. */
#include "test_util.h"

#include <string.h>

#include "base/error.h"
#include "db/index_def.h"

static anx_error failure;

static anx_status
read_def(anx_arena *arena, const char *json, struct index_def *out)
{
    struct json_node *node;
    anx_status st = json_parse(anx_text_of(json), arena, &node, &failure);

    if (st == ANX_OK)
        st = index_def_read(node, arena, out, &failure);
    return st == ANX_OK ? index_def_check(out, "add", ANX_TEXT("ns"), &failure) : st;
}

#define PATH "\"json_paths\":[\"f\"]"
#define HNSW(config) \
    "{\"name\":\"i\",\"field_type\":\"float_vector\",\"index_type\":\"hnsw\"," PATH ",\"config\":" config "}"
#define IVF(config) \
    "{\"name\":\"i\",\"field_type\":\"float_vector\",\"index_type\":\"ivf\"," PATH ",\"config\":" config "}"
#define FLAT(config)                                                                                        \
    "{\"name\":\"i\",\"field_type\":\"float_vector\",\"index_type\":\"vec_bf\"," PATH ",\"config\":" config \
    "}"
#define EMBED(config) HNSW("{\"dimension\":2,\"metric\":\"l2\",\"embedding\":" config "}")

/* What comes back, when it is not what went in. */
static void
definitions_are_completed(void **state)
{
    static const struct {
        const char *json, *printed;
    } rows[] = {
        { "{\"name\":\"i\",\"field_type\":\"int\"," PATH "}",
          "{\"name\":\"i\",\"field_type\":\"int\",\"index_type\":\"hash\",\"is_pk\":false,\"is_array\":false,"
          "\"is_dense\":false,\"is_no_column\":false,\"is_sparse\":false,\"collate_mode\":\"none\","
          "\"sort_order_letters\":\"\",\"expire_after\":0,\"config\":{},\"json_paths\":[\"f\"]}" },
        { "{\"name\":\"i\",\"field_type\":\"double\",\"is_array\":true,\"json_paths\":[\"a\",\"b.c\"]}",
          "{\"name\":\"i\",\"field_type\":\"double\",\"index_type\":\"tree\",\"is_pk\":false,\"is_array\":"
          "true,"
          "\"is_dense\":false,\"is_no_column\":true,\"is_sparse\":false,\"collate_mode\":\"none\","
          "\"sort_order_letters\":\"\",\"expire_after\":0,\"config\":{},\"json_paths\":[\"a\",\"b.c\"]}" },
        { "{\"name\":\"p\",\"field_type\":\"point\",\"rtree_type\":\"greene\"," PATH "}",
          "{\"name\":\"p\",\"field_type\":\"point\",\"index_type\":\"rtree\",\"is_pk\":false,\"is_array\":"
          "true,"
          "\"is_dense\":false,\"is_no_column\":false,\"is_sparse\":false,\"rtree_type\":\"greene\","
          "\"collate_mode\":\"none\",\"sort_order_letters\":\"\",\"expire_after\":0,\"config\":{},"
          "\"json_paths\":[\"f\"]}" },
        { "{\"name\":\"i\",\"field_type\":\"string\",\"index_type\":\"text\",\"config\":{\"max_typos\":1}"
          "," PATH "}",
          "{\"name\":\"i\",\"field_type\":\"string\",\"index_type\":\"text\",\"is_pk\":false,\"is_array\":"
          "false,"
          "\"is_dense\":false,\"is_no_column\":true,\"is_sparse\":false,\"collate_mode\":\"none\","
          "\"sort_order_letters\":\"\",\"expire_after\":0,\"config\":{\"max_typos\":1},\"json_paths\":[\"f\"]"
          "}" },
        { HNSW("{\"dimension\":65535,\"metric\":\"CoSiNe\",\"start_size\":5,\"radius\":-1,\"m\":4.0}"),
          "{\"name\":\"i\",\"field_type\":\"float_vector\",\"index_type\":\"hnsw\",\"is_pk\":false,"
          "\"is_array\":false,\"is_dense\":false,\"is_no_column\":true,\"is_sparse\":false,"
          "\"collate_mode\":\"none\",\"sort_order_letters\":\"\",\"expire_after\":0,\"config\":{"
          "\"dimension\":65535,\"metric\":\"cosine\",\"start_size\":1000,\"ef_construction\":200,\"m\":4,"
          "\"radius\":-1.0},\"json_paths\":[\"f\"]}" },
        { EMBED("{\"upsert_embedder\":{\"name\":\"Big\",\"URL\":\"https://a-b.c:1/x\",\"cache_tag\":\"T\","
                "\"fields\":[\"f1\",\"f2\"],\"embedding_strategy\":\"empty_only\",\"pool\":{\"connections\":"
                "1024}}}"),
          "{\"name\":\"i\",\"field_type\":\"float_vector\",\"index_type\":\"hnsw\",\"is_pk\":false,"
          "\"is_array\":false,\"is_dense\":false,\"is_no_column\":true,\"is_sparse\":false,"
          "\"collate_mode\":\"none\",\"sort_order_letters\":\"\",\"expire_after\":0,\"config\":{"
          "\"dimension\":2,\"metric\":\"l2\",\"start_size\":1000,\"ef_construction\":200,\"m\":16,"
          "\"embedding\":{\"upsert_embedder\":{\"URL\":\"https://a-b.c:1/x\",\"cache_tag\":\"t\","
          "\"embedding_strategy\":\"empty_only\",\"name\":\"big\",\"fields\":[\"f1\",\"f2\"],\"pool\":{"
          "\"connections\":1024,\"connect_timeout_ms\":300,\"read_timeout_ms\":5000,"
          "\"write_timeout_ms\":5000}}}},\"json_paths\":[\"f\"]}" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        struct index_def def;
        struct index_def again;
        struct index_def *copy;
        anx_buffer out;

        if (read_def(arena, rows[i].json, &def) != ANX_OK)
            fail_msg("%s: %s", rows[i].json, failure.message);
        anx_buffer_init(&out, NULL, 1 << 16);
        index_def_print(&def, false, &out);
        anx_buffer_char(&out, '\0');
        assert_string_equal(out.data, rows[i].printed);
        /* What is printed reads as the same. */
        assert_int_equal(read_def(arena, out.data, &again), ANX_OK);
        assert_true(index_def_equal(&def, &again));
        copy = index_def_copy(&def);
        anx_arena_destroy(arena);
        anx_buffer_clear(&out);
        index_def_print(copy, false, &out);
        anx_buffer_char(&out, '\0');
        assert_string_equal(out.data, rows[i].printed);
        anx_buffer_fini(&out);
        anx_free(NULL, copy);
    }
}

static void
wrong_definitions_are_refused(void **state)
{
    static const struct {
        const char *json;
        anx_status st;
        const char *message;
    } rows[] = {
        { "[]", ANX_E_PARSE_JSON, "IndexDef: Can't obtain json field 'name' from non-object json node" },
        { "{\"name\":\"i\",\"field_type\":\"int\",\"is_pk\":1," PATH "}", ANX_E_PARSE_JSON,
          "IndexDef: Can't convert json field 'is_pk' to bool" },
        { "{\"name\":\"i\",\"field_type\":\"int\",\"json_paths\":\"f\"}", ANX_E_PARSE_JSON,
          "IndexDef: Can't convert json field 'json_paths' to object or array" },
        { "{\"name\":\"i\",\"field_type\":\"decimal\"," PATH "}", ANX_E_PARAMS,
          "Unsupported combination of field 'i' type 'decimal' and index type 'hash'" },
        { "{\"name\":\"i\",\"field_type\":\"double\",\"index_type\":\"hash\"," PATH "}", ANX_E_PARAMS,
          "Unsupported combination of field 'i' type 'double' and index type 'hash'" },
        { "{\"name\":\"a+b\",\"field_type\":\"int\"," PATH "}", ANX_E_PARAMS,
          "Cannot add index 'a+b' in namespace 'ns'. Index name contains invalid characters. Only alphas, "
          "digits, "
          "'+' (for composite indexes only), '.', '_' and '-' are allowed" },
        { "{\"name\":\"i\",\"field_type\":\"uuid\",\"is_sparse\":true," PATH "}", ANX_E_PARAMS,
          "UUID index cannot be sparse" },
        { "{\"name\":\"i\",\"field_type\":\"composite\",\"is_sparse\":true," PATH "}", ANX_E_PARAMS,
          "Composite index cannot be sparse. Use non-sparse composite instead" },
        { "{\"name\":\"i\",\"field_type\":\"point\",\"rtree_type\":\"oak\"," PATH "}", ANX_E_PARAMS,
          "Unknown RTree type oak" },
        { HNSW("{\"dimension\":70000,\"metric\":\"l2\"}"), ANX_E_PARSE_JSON,
          "IndexDef: Value of 'dimension' - 70000 is out of bounds: [1,65535]" },
        { HNSW("{\"dimension\":4,\"metric\":\"l2\",\"m\":2.5}"), ANX_E_PARSE_JSON,
          "IndexDef: Can't convert json field 'm' to number" },
        { HNSW("{\"dimension\":4,\"metric\":\"hamming\"}"), ANX_E_PARAMS, "Unknown vector metric 'hamming'" },
        { HNSW("{\"dimension\":4,\"metric\":\"l2\",\"centroids_count\":4}"), ANX_E_PARAMS,
          "Centroids count is not applicable for hnsw index" },
        { FLAT("{\"dimension\":4,\"metric\":\"l2\",\"ef_construction\":4}"), ANX_E_PARAMS,
          "EfConstruction parameter is not applicable for float vector bruteforce index" },
        { IVF("{\"dimension\":4,\"metric\":\"l2\",\"centroids_count\":4,\"start_size\":1}"), ANX_E_PARAMS,
          "Start size parameter is not applicable for ivf index" },
        { IVF("{\"dimension\":4,\"metric\":\"l2\"}"), ANX_E_PARAMS,
          "Ivf index centroids count = 0 is out of bounds [1, 131072]" },
        { HNSW("{\"dimension\":4,\"metric\":\"l2\",\"quantization_config\":{\"quantization_type\":\"x\"}}"),
          ANX_E_PARAMS, "Unsupported quantization type - x" },
        { HNSW("{\"dimension\":4,\"metric\":\"l2\",\"quantization_config\":{\"quantization_type\":"
               "\"scalar_quantization_8_bit\",\"sample_size\":0}}"),
          ANX_E_PARAMS,
          "Cannot add quantization config in index 'i' in namespace 'ns'. The sampleSize value must be "
          "greater than 0" },
        { EMBED("{}"), ANX_E_PARAMS,
          "Configuration 'embedding' must contain object 'upsert_embedder' or 'query_embedder'" },
        { EMBED("{\"query_embedder\":{\"URL\":\"http://a:0\"}}"), ANX_E_PARAMS,
          "Configuration 'embedding:query_embedder' contain field 'URL' with unexpected value: "
          "'http://a:0'" },
        { EMBED("{\"query_embedder\":{\"URL\":\"http://a b\"}}"), ANX_E_PARAMS,
          "Configuration 'embedding:query_embedder' contain field 'URL' with unexpected value: 'http://a "
          "b'" },
        { EMBED("{\"query_embedder\":{\"URL\":\"http://a\",\"pool\":{\"connections\":0}}}"), ANX_E_PARAMS,
          "Configuration 'embedding:query_embedder:pool:connections' should not be less than 1" },
    };

    (void) state;
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        anx_arena *arena = anx_arena_create(NULL, 0);
        struct index_def def;

        if (read_def(arena, rows[i].json, &def) != rows[i].st)
            fail_msg("%s: %s", rows[i].json, failure.message);
        assert_string_equal(failure.message, rows[i].message);
        anx_arena_destroy(arena);
    }
}

static void
differences_are_seen(void **state)
{
    static const char first[] = HNSW("{\"dimension\":2,\"metric\":\"l2\"}");
    static const struct {
        const char *json;
        bool is_base_equal, is_same_structure;
    } rows[] = {
        { HNSW("{\"dimension\":2,\"metric\":\"l2\",\"radius\":5}"), true, true },
        { EMBED("{\"query_embedder\":{\"URL\":\"http://a\"}}"), true, true },
        { HNSW("{\"dimension\":2,\"metric\":\"l2\",\"quantization_config\":{\"quantization_type\":"
               "\"scalar_quantization_8_bit\"}}"),
          true, true },
        { HNSW("{\"dimension\":2,\"metric\":\"l2\",\"start_size\":2000}"), false, true },
        { HNSW("{\"dimension\":2,\"metric\":\"cosine\"}"), false, false },
        { HNSW("{\"dimension\":3,\"metric\":\"l2\"}"), false, false },
        { HNSW("{\"dimension\":2,\"metric\":\"l2\",\"m\":17}"), false, false },
        { FLAT("{\"dimension\":2,\"metric\":\"l2\"}"), false, false },
    };
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct index_def a;

    (void) state;
    assert_int_equal(read_def(arena, first, &a), ANX_OK);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
        struct index_def b;

        assert_int_equal(read_def(arena, rows[i].json, &b), ANX_OK);
        assert_false(index_def_equal(&a, &b));
        assert_int_equal(index_def_equal_base(&a, &b), rows[i].is_base_equal);
        assert_int_equal(index_def_structure(&a) == index_def_structure(&b), rows[i].is_same_structure);
    }
    anx_arena_destroy(arena);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(definitions_are_completed),
        cmocka_unit_test(wrong_definitions_are_refused),
        cmocka_unit_test(differences_are_seen),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
