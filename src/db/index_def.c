/* Index definitions: reading, rules, comparing, copying. Vector options are in index_def_vector.c, printing
 * in index_def_print.c. */
#include "db/index_def.h"

#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/hash.h"
#include "db/index_def_int.h"
#include "db/json_fields.h"
#include "text/text.h"

static const char *const index_types[INDEX_TYPE_COUNT] = {
    [INDEX_HASH] = "hash",   [INDEX_TREE] = "tree", [INDEX_COLUMN] = "-",      [INDEX_TEXT] = "text",
    [INDEX_TTL] = "ttl",     [INDEX_RTREE] = "rtree", [INDEX_HNSW] = "hnsw",   [INDEX_VEC_BF] = "vec_bf",
    [INDEX_IVF] = "ivf",
};

/* Which index types a field type may have, as bits; and the one it gets when none is named. */
#define BIT(type) (1u << (type))
static const struct {
    unsigned types;
    enum index_type standard;
} combinations[FIELD_TYPE_COUNT] = {
    [FIELD_INT] = { BIT(INDEX_HASH) | BIT(INDEX_TREE) | BIT(INDEX_COLUMN), INDEX_HASH },
    [FIELD_INT64] = { BIT(INDEX_HASH) | BIT(INDEX_TREE) | BIT(INDEX_COLUMN) | BIT(INDEX_TTL), INDEX_HASH },
    [FIELD_DOUBLE] = { BIT(INDEX_TREE) | BIT(INDEX_COLUMN), INDEX_TREE },
    [FIELD_STRING] = { BIT(INDEX_HASH) | BIT(INDEX_TREE) | BIT(INDEX_COLUMN) | BIT(INDEX_TEXT), INDEX_HASH },
    [FIELD_BOOL] = { BIT(INDEX_COLUMN), INDEX_COLUMN },
    [FIELD_UUID] = { BIT(INDEX_HASH) | BIT(INDEX_COLUMN), INDEX_HASH },
    [FIELD_POINT] = { BIT(INDEX_RTREE), INDEX_RTREE },
    [FIELD_COMPOSITE] = { BIT(INDEX_HASH) | BIT(INDEX_TREE) | BIT(INDEX_TEXT), INDEX_HASH },
    [FIELD_FLOAT_VECTOR] = { BIT(INDEX_HNSW) | BIT(INDEX_VEC_BF) | BIT(INDEX_IVF), INDEX_HASH },
};

static const char *const collate_modes[] = {
    [COLLATE_NONE] = "none",       [COLLATE_ASCII] = "ascii",   [COLLATE_UTF8] = "utf8",
    [COLLATE_NUMERIC] = "numeric", [COLLATE_CUSTOM] = "custom",
};

const char *
index_type_name(enum index_type type)
{
    return index_types[type];
}

const char *
collate_mode_name(enum collate_mode mode)
{
    return collate_modes[mode];
}

/* ---- Reading ---- */

static anx_status
read_types(struct json_fields *in, struct index_def *out)
{
    anx_text field_name = { "", 0 };
    anx_text index_name = { "", 0 };
    unsigned field = 0;
    unsigned index = 0;

    fields_text(in, "field_type", &field_name);
    fields_text(in, "index_type", &index_name);
    if (in->status != ANX_OK)
        return in->status;
    while (field < FIELD_TYPE_COUNT && !anx_text_equal(field_name, anx_text_of(field_type_name(field))))
        field++;
    if (index_name.size == 0)
        index = field < FIELD_TYPE_COUNT ? combinations[field].standard : INDEX_HASH;
    else
        while (index < INDEX_TYPE_COUNT && !anx_text_equal(index_name, anx_text_of(index_types[index])))
            index++;
    if (field == FIELD_TYPE_COUNT || index == INDEX_TYPE_COUNT || !(combinations[field].types & BIT(index))) {
        if (index < INDEX_TYPE_COUNT)
            index_name = anx_text_of(index_types[index]);
        return anx_fail(in->err, ANX_E_PARAMS,
                        "Unsupported combination of field '%.*s' type '%.*s' and index type '%.*s'",
                        ANX_TEXT_ARG(out->name), ANX_TEXT_ARG(field_name), ANX_TEXT_ARG(index_name));
    }
    out->field_type = (enum field_type) field;
    out->index_type = (enum index_type) index;
    return ANX_OK;
}

static anx_status
read_collation(struct json_fields *in, struct index_def *out)
{
    anx_text name = { "none", 4 };
    unsigned mode = 0;

    fields_text(in, "collate_mode", &name);
    fields_text(in, "sort_order_letters", &out->sort_order_letters);
    if (in->status != ANX_OK)
        return in->status;
    if (name.size == 0) /* as the Go connector leaves it */
        name = ANX_TEXT("none");
    while (mode < ANX_COUNT_OF(collate_modes) && !anx_text_equal(name, anx_text_of(collate_modes[mode])))
        mode++;
    if (mode == ANX_COUNT_OF(collate_modes))
        return anx_fail(in->err, ANX_E_PARAMS, "Unknown collate mode %.*s", ANX_TEXT_ARG(name));
    out->collate_mode = (enum collate_mode) mode;
    return ANX_OK;
}

static anx_status
read_geometry(struct json_fields *in, struct index_def *out)
{
    static const char *const types[] = { "linear", "quadratic", "greene", "rstar" };

    if (!fields_text(in, "rtree_type", &out->rtree_type) && in->status == ANX_OK)
        return anx_fail(in->err, ANX_E_PARAMS, "RTree type does not set");
    if (in->status != ANX_OK)
        return in->status;
    out->is_array = true; /* two numbers */
    for (size_t i = 0; i < ANX_COUNT_OF(types); i++)
        if (anx_text_equal(out->rtree_type, anx_text_of(types[i])))
            return ANX_OK;
    return anx_fail(in->err, ANX_E_PARAMS, "Unknown RTree type %.*s", ANX_TEXT_ARG(out->rtree_type));
}

static bool
default_no_column(const struct index_def *def)
{
    return def->is_dense || def->is_sparse || (def->is_array && def->field_type != FIELD_POINT)
           || def->field_type == FIELD_COMPOSITE || def->index_type == INDEX_TEXT || index_def_is_vector(def);
}

/* Only whether it can be read; without paths the definition is refused elsewhere. */
static anx_status
check_text_config(const struct index_def *def, const struct json_node *config, anx_error *err)
{
    bool is_composite = def->field_type == FIELD_COMPOSITE;
    struct text_config *read;
    anx_status st;

    if (def->n_path == 0)
        return ANX_OK;
    st = text_config_read(config, is_composite ? def->json_paths : &def->name, is_composite ? def->n_path : 1,
                          &read, err);
    text_config_destroy(read);
    return st;
}

anx_status
index_def_read(const struct json_node *node, anx_arena *arena, struct index_def *out, anx_error *err)
{
    struct json_fields in = { .object = node, .prefix = "IndexDef: ", .err = err };
    const struct json_node *config;
    anx_status st;

    memset(out, 0, sizeof(*out));
    out->name = out->sort_order_letters = out->rtree_type = ANX_TEXT("");
    out->config_json = ANX_TEXT("{}");
    fields_text(&in, "name", &out->name);
    st = read_types(&in, out);
    if (st != ANX_OK)
        return st;
    fields_bool(&in, "is_pk", &out->is_pk);
    fields_bool(&in, "is_array", &out->is_array);
    fields_bool(&in, "is_dense", &out->is_dense);
    fields_bool(&in, "is_sparse", &out->is_sparse);
    fields_int(&in, "expire_after", INT64_MIN, INT64_MAX, &out->expire_after);
    st = fields_texts(&in, "json_paths", arena, &out->json_paths, &out->n_path);
    if (st == ANX_OK)
        st = read_collation(&in, out);
    if (st == ANX_OK && out->field_type == FIELD_POINT)
        st = read_geometry(&in, out);
    out->is_no_column = default_no_column(out);
    fields_bool(&in, "is_no_column", &out->is_no_column);
    config = fields_member(&in, "config");
    if (st != ANX_OK || in.status != ANX_OK)
        return st != ANX_OK ? st : in.status;
    if (index_def_is_vector(out))
        return vector_def_read(config, arena, out, err);
    if (config && config->kind == JSON_NULL) /* as the Go connector leaves it */
        config = NULL;
    if (config)
        out->config_json = config->raw;
    return out->index_type == INDEX_TEXT ? check_text_config(out, config, err) : ANX_OK;
}

/* ---- Rules ---- */

static bool
is_name(const struct index_def *def)
{
    for (size_t i = 0; i < def->name.size; i++) {
        char c = def->name.data[i];

        if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_'
              || c == '-' || c == '.' || (c == '+' && def->field_type == FIELD_COMPOSITE)))
            return false;
    }
    return def->name.size > 0;
}

/* What is wrong with the flags and paths: the end of the error text, or NULL. */
static const char *
complaint(const struct index_def *def)
{
    if (!is_name(def))
        return "Index name contains invalid characters. Only alphas, digits, '+' (for composite indexes "
               "only), "
               "'.', '_' and '-' are allowed";
    if (def->is_pk && def->is_array && def->field_type != FIELD_POINT)
        return "PK field can't be array";
    if (def->is_pk && def->is_sparse)
        return "PK field can't be sparse";
    if (def->is_pk && def->index_type == INDEX_COLUMN)
        return "PK field can't have '-' type";
    if (def->is_pk && def->index_type == INDEX_TEXT)
        return "PK field can't be fulltext index";
    if (def->is_pk && def->field_type == FIELD_POINT)
        return "PK field can't be geospatial index";
    if (def->n_path == 0)
        return "JSON paths array can not be empty";
    if (def->n_path > 1 && def->field_type == FIELD_POINT)
        return "Geospatial index can not have multiple JSON-paths";
    if (def->n_path > 1 && !def->is_array && def->field_type != FIELD_COMPOSITE)
        return "Scalar (non-array and non-composite) index can not have multiple JSON-paths. Use array index "
               "instead";
    for (size_t i = 0; i < def->n_path; i++)
        if (def->json_paths[i].size == 0)
            return "JSON path can not be empty";
    return NULL;
}

anx_status
index_def_check(const struct index_def *def, const char *verb, anx_text ns, anx_error *err)
{
    const char *text =
        index_def_is_vector(def) && is_name(def) && def->n_path == 1 && def->json_paths[0].size > 0
            ? NULL
            : complaint(def);

    if (def->is_sparse && def->field_type == FIELD_UUID)
        return anx_fail(err, ANX_E_PARAMS, "UUID index cannot be sparse");
    if (def->is_sparse && def->field_type == FIELD_COMPOSITE)
        return anx_fail(err, ANX_E_PARAMS,
                        "Composite index cannot be sparse. Use non-sparse composite instead");
    if (def->is_sparse && def->n_path > 1)
        return anx_fail(err, ANX_E_PARAMS,
                        "Sparse index must have exactly 1 JSON-path, but %zu paths found for '%.*s':'%.*s'",
                        def->n_path, ANX_TEXT_ARG(ns), ANX_TEXT_ARG(def->name));
    if (text)
        return anx_fail(err, ANX_E_PARAMS, "Cannot %s index '%.*s' in namespace '%.*s'. %s", verb,
                        ANX_TEXT_ARG(def->name), ANX_TEXT_ARG(ns), text);
    return index_def_is_vector(def) ? vector_def_check(def, verb, ns, err) : ANX_OK;
}

/* ---- Comparing ---- */

static bool
texts_equal(const anx_text *a, size_t n_a, const anx_text *b, size_t n_b)
{
    if (n_a != n_b)
        return false;
    for (size_t i = 0; i < n_a; i++)
        if (!anx_text_equal(a[i], b[i]))
            return false;
    return true;
}

bool
index_def_equal_base(const struct index_def *a, const struct index_def *b)
{
    return anx_text_equal_fold(a->name, b->name) && a->field_type == b->field_type
           && a->index_type == b->index_type && a->is_pk == b->is_pk && a->is_array == b->is_array
           && a->is_sparse == b->is_sparse && a->collate_mode == b->collate_mode
           && anx_text_equal(a->sort_order_letters, b->sort_order_letters)
           && anx_text_equal(a->rtree_type, b->rtree_type) && a->expire_after == b->expire_after
           && texts_equal(a->json_paths, a->n_path, b->json_paths, b->n_path)
           && (!index_def_is_vector(a)
               || (a->vector.metric == b->vector.metric && a->vector.dim == b->vector.dim
                   && a->vector.start_size == b->vector.start_size && a->vector.m == b->vector.m
                   && a->vector.ef_construction == b->vector.ef_construction
                   && a->vector.centroids == b->vector.centroids
                   && a->vector.multithreading == b->vector.multithreading));
}

static bool
embedders_equal(const struct embedder_def *a, const struct embedder_def *b)
{
    return a->is_set == b->is_set && anx_text_equal(a->name, b->name) && anx_text_equal(a->url, b->url)
           && anx_text_equal(a->cache_tag, b->cache_tag)
           && texts_equal(a->fields, a->n_field, b->fields, b->n_field) && a->strategy == b->strategy
           && a->connections == b->connections && a->connect_timeout_ms == b->connect_timeout_ms
           && a->read_timeout_ms == b->read_timeout_ms && a->write_timeout_ms == b->write_timeout_ms
           && anx_text_equal(a->token_env, b->token_env) && a->retries == b->retries
           && a->backoff_ms == b->backoff_ms && a->batch_size == b->batch_size
           && a->is_list_api == b->is_list_api;
}

bool
vector_def_equal_quantization(const struct vector_def *a, const struct vector_def *b)
{
    return a->is_quantized == b->is_quantized && a->has_quantile == b->has_quantile
           && !(a->quantile < b->quantile) && !(a->quantile > b->quantile)
           && a->sample_size == b->sample_size && a->quantization_threshold == b->quantization_threshold;
}

bool
index_def_equal(const struct index_def *a, const struct index_def *b)
{
    if (!index_def_equal_base(a, b) || a->is_dense != b->is_dense || a->is_no_column != b->is_no_column)
        return false;
    if (!index_def_is_vector(a))
        return anx_text_equal(a->config_json, b->config_json);
    return a->vector.has_radius == b->vector.has_radius && !(a->vector.radius < b->vector.radius)
           && !(a->vector.radius > b->vector.radius)
           && vector_def_equal_quantization(&a->vector, &b->vector)
           && embedders_equal(&a->vector.upsert_embedder, &b->vector.upsert_embedder)
           && embedders_equal(&a->vector.query_embedder, &b->vector.query_embedder);
}

uint64_t
index_def_structure(const struct index_def *def)
{
    const uint32_t numbers[] = {
        (uint32_t) def->index_type,  (uint32_t) def->is_array,   (uint32_t) def->vector.metric,
        def->vector.dim,             def->vector.m,              def->vector.ef_construction,
        def->vector.centroids,
    };

    return anx_hash(numbers, sizeof(numbers));
}

/* ---- Copying ---- */

/* Places texts and lists behind a struct; without memory it only counts. */
struct packer {
    char *memory; /* NULL: counting */
    size_t used;
};

static anx_text
pack_text(struct packer *packer, anx_text text)
{
    anx_text copy = { "", text.size };

    if (packer->memory && text.size > 0) {
        memcpy(packer->memory + packer->used, text.data, text.size);
        copy.data = packer->memory + packer->used;
    }
    packer->used += text.size;
    return copy;
}

static const anx_text *
pack_texts(struct packer *packer, const anx_text *texts, size_t n)
{
    size_t at = (packer->used + sizeof(void *) - 1) / sizeof(void *) * sizeof(void *);
    anx_text *list = packer->memory ? (anx_text *) (void *) (packer->memory + at) : NULL;

    packer->used = at + n * sizeof(*texts);
    for (size_t i = 0; i < n; i++) {
        anx_text copy = pack_text(packer, texts[i]);

        if (list)
            list[i] = copy;
    }
    return list;
}

static void
pack_embedder(struct packer *packer, struct embedder_def *def)
{
    def->name = pack_text(packer, def->name);
    def->url = pack_text(packer, def->url);
    def->cache_tag = pack_text(packer, def->cache_tag);
    def->token_env = pack_text(packer, def->token_env);
    def->fields = pack_texts(packer, def->fields, def->n_field);
}

static void
pack_def(struct packer *packer, const struct index_def *from, struct index_def *to)
{
    *to = *from;
    to->name = pack_text(packer, from->name);
    to->sort_order_letters = pack_text(packer, from->sort_order_letters);
    to->rtree_type = pack_text(packer, from->rtree_type);
    to->config_json = pack_text(packer, from->config_json);
    to->json_paths = pack_texts(packer, from->json_paths, from->n_path);
    pack_embedder(packer, &to->vector.upsert_embedder);
    pack_embedder(packer, &to->vector.query_embedder);
}

struct index_def *
index_def_copy(const struct index_def *def)
{
    struct packer packer = { .used = sizeof(*def) };
    struct index_def scratch;
    struct index_def *copy;

    pack_def(&packer, def, &scratch);
    copy = anx_alloc_bytes(NULL, packer.used);
    if (!copy)
        return NULL;
    packer = (struct packer) { .memory = (char *) copy, .used = sizeof(*def) };
    pack_def(&packer, def, copy);
    return copy;
}
