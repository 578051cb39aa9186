/* Index definitions: read from JSON, checked, printed back in canonical form, compared, and turned into the
 * parameters of a vector index. Error texts are those that clients know. */
#ifndef ANX_DB_INDEX_DEF_H
#define ANX_DB_INDEX_DEF_H

#include "annex/index.h"
#include "base/buffer.h"
#include "doc/json.h"
#include "doc/value.h"

enum index_type {
    INDEX_HASH,
    INDEX_TREE,
    INDEX_COLUMN, /* "-" */
    INDEX_TEXT,
    INDEX_TTL,
    INDEX_RTREE,
    INDEX_HNSW,
    INDEX_VEC_BF,
    INDEX_IVF,
    INDEX_TYPE_COUNT
};
const char *index_type_name(enum index_type type);

struct embedder_def { /* embedding.upsert_embedder, embedding.query_embedder */
    bool is_set;
    anx_text name, url, cache_tag;
    const anx_text *fields;
    size_t n_field;
    enum { EMBED_ALWAYS, EMBED_EMPTY_ONLY, EMBED_STRICT } strategy;
    unsigned connections, connect_timeout_ms, read_timeout_ms, write_timeout_ms;
    /* Ours: not printed while they have their standard values. */
    anx_text token_env; /* environment variable with a bearer token; "": none */
    unsigned retries, backoff_ms; /* 0: none */
    unsigned batch_size; /* inputs of a request; 0: the client's standard */
    bool is_list_api; /* "api":"lists": the first generation of the protocol */
};
struct vector_def { /* config of a float_vector index */
    anx_metric metric;
    uint32_t dim;
    bool has_radius;
    float radius;
    uint32_t start_size, m, ef_construction, centroids, multithreading;
    bool is_quantized; /* quantization_config is there */
    bool has_quantile;
    float quantile;
    uint32_t sample_size, quantization_threshold;
    struct embedder_def upsert_embedder, query_embedder;
};
struct index_def {
    anx_text name;
    enum field_type field_type;
    enum index_type index_type;
    bool is_pk, is_array, is_dense, is_no_column, is_sparse;
    enum collate_mode collate_mode;
    anx_text sort_order_letters, rtree_type;
    int64_t expire_after;
    const anx_text *json_paths; /* composite: names of the component indexes */
    size_t n_path;
    struct vector_def vector; /* FIELD_FLOAT_VECTOR */
    anx_text config_json;     /* other index types: the config as given, "{}" when absent */
};
static inline bool
index_def_is_vector(const struct index_def *def)
{
    return def->field_type == FIELD_FLOAT_VECTOR;
}
/* A primary key over one field: what system namespaces have. path is borrowed: one name, of the index and of
 * its field. */
static inline struct index_def
index_def_key(const anx_text *path, enum field_type type)
{
    return (struct index_def) {
        .name = path[0],
        .field_type = type,
        .index_type = INDEX_HASH,
        .is_pk = true,
        .sort_order_letters = { "", 0 },
        .rtree_type = { "", 0 },
        .json_paths = path,
        .n_path = 1,
        .config_json = { "{}", 2 },
    };
}

/* Everything of *out is in the arena and in the text that node was parsed from. ANX_E_PARSE_JSON,
 * ANX_E_PARAMS, ANX_E_NOT_VALID. Checks what can be seen in the definition alone; what needs the namespace
 * (second key, components, documents) is checked there. */
ANX_NODISCARD anx_status index_def_read(const struct json_node *node, anx_arena *arena, struct index_def *out,
                                        anx_error *err);
/* Rules on names, flags and paths ("Cannot add index 'i' in namespace 'ns'. ..."); verb is "add" or "update".
 */
ANX_NODISCARD anx_status index_def_check(const struct index_def *def, const char *verb, anx_text ns,
                                         anx_error *err);
/* Canonical JSON; with_conditions: is_sortable and conditions too (#namespaces). */
void index_def_print(const struct index_def *def, bool with_conditions, anx_buffer *out);
bool index_def_equal(const struct index_def *a, const struct index_def *b);
/* Without what adding an existing index does not look at: radius, embedding, quantization, hints. */
bool index_def_equal_base(const struct index_def *a, const struct index_def *b);
/* The parts of it that decide how a vector index is built (file names of index files). */
uint64_t index_def_structure(const struct index_def *def);
/* A deep copy in one block of the heap, freed with anx_free. NULL when out of memory. */
struct index_def *index_def_copy(const struct index_def *def);

#endif
