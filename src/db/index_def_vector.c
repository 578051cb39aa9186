/* The config of vector indexes: dimension, metric, graph and list parameters, quantization, embedding. */
#include <strings.h>

#include "base/error.h"
#include "db/index_def_int.h"
#include "db/json_fields.h"

static const char *const metric_names[ANX_METRIC_COUNT] = {
    [ANX_METRIC_L2] = "l2",
    [ANX_METRIC_IP] = "inner_product",
    [ANX_METRIC_COSINE] = "cosine",
};
static const char *const strategy_names[] = {
    [EMBED_ALWAYS] = "always",
    [EMBED_EMPTY_ONLY] = "empty_only",
    [EMBED_STRICT] = "strict",
};
static const char quantization_type[] = "scalar_quantization_8_bit";

/* ---- Embedding ---- */

/* ^https?://[0-9a-z.-]+(:[1-9][0-9]*)?(/[^\s]*)*$ */
static bool
is_url(anx_text url)
{
    size_t at = url.size >= 8 && memcmp(url.data, "https://", 8) == 0  ? 8
                : url.size >= 7 && memcmp(url.data, "http://", 7) == 0 ? 7
                                                                       : 0;
    size_t start = at;

    if (at == 0)
        return false;
    while (at < url.size
           && ((url.data[at] >= '0' && url.data[at] <= '9') || (url.data[at] >= 'a' && url.data[at] <= 'z')
               || url.data[at] == '.' || url.data[at] == '-'))
        at++;
    if (at == start)
        return false;
    if (at < url.size && url.data[at] == ':') {
        start = ++at;
        while (at < url.size && url.data[at] >= (at == start ? '1' : '0') && url.data[at] <= '9')
            at++;
        if (at == start)
            return false;
    }
    if (at < url.size && url.data[at] != '/')
        return false;
    for (; at < url.size; at++)
        if ((unsigned char) url.data[at] <= ' ')
            return false;
    return true;
}

static bool
lower_text(anx_arena *arena, anx_text *text)
{
    char *copy = anx_arena_string(arena, *text);

    if (!copy)
        return false;
    for (size_t i = 0; i < text->size; i++)
        if (copy[i] >= 'A' && copy[i] <= 'Z')
            copy[i] = (char) (copy[i] - 'A' + 'a');
    text->data = copy;
    return true;
}

static anx_status
check_fields(const struct embedder_def *def, const char *which, anx_error *err)
{
    for (size_t i = 0; i < def->n_field; i++) {
        if (def->fields[i].size == 0)
            return anx_fail(err, ANX_E_PARAMS,
                            "Configuration 'embedding:%s' does not support empty field names", which);
        for (size_t j = 0; j < i; j++)
            if (anx_text_equal_fold(def->fields[i], def->fields[j]))
                return anx_fail(err, ANX_E_PARAMS,
                                "Configuration 'embedding:%s' does not support duplicate field names. "
                                "Duplicate '%.*s'",
                                which, ANX_TEXT_ARG(def->fields[i]));
    }
    return ANX_OK;
}

static anx_status
read_strategy(struct json_fields *in, const char *which, struct embedder_def *out)
{
    anx_text name;
    unsigned strategy = 0;

    if (!fields_text(in, "embedding_strategy", &name))
        return in->status;
    while (strategy < ANX_COUNT_OF(strategy_names)
           && !anx_text_equal(name, anx_text_of(strategy_names[strategy])))
        strategy++;
    if (strategy == ANX_COUNT_OF(strategy_names))
        return anx_fail(
            in->err, ANX_E_PARAMS,
            "Configuration 'embedding:%s' unexpected field value 'embedding_strategy'. Set '%.*s', "
            "but expected 'always', 'empty_only' or 'strict'",
            which, ANX_TEXT_ARG(name));
    out->strategy = strategy;
    return ANX_OK;
}

static anx_status
read_pool(const struct json_node *pool, const char *which, struct embedder_def *out, anx_error *err)
{
    struct json_fields in = { .object = pool, .prefix = "IndexDef: ", .err = err };
    const struct {
        const char *key;
        unsigned min, *value;
    } rows[] = {
        { "connect_timeout_ms", EMBED_CONNECT_MS_MIN, &out->connect_timeout_ms },
        { "read_timeout_ms", EMBED_IO_MS_MIN, &out->read_timeout_ms },
        { "write_timeout_ms", EMBED_IO_MS_MIN, &out->write_timeout_ms },
    };

    fields_u32(&in, "connections", 0, INT32_MAX, &out->connections);
    fields_u32(&in, "retries", 0, EMBED_RETRIES_MAX, &out->retries);
    fields_u32(&in, "retry_backoff_ms", 1, EMBED_BACKOFF_MS_MAX, &out->backoff_ms);
    fields_u32(&in, "batch_size", 0, EMBED_BATCH_MAX, &out->batch_size);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        fields_u32(&in, rows[i].key, 0, INT32_MAX, rows[i].value);
    if (in.status != ANX_OK)
        return in.status;
    if (out->connections < 1)
        return anx_fail(err, ANX_E_PARAMS,
                        "Configuration 'embedding:%s:pool:connections' should not be less than 1", which);
    if (out->connections > EMBED_CONNECTIONS_MAX)
        return anx_fail(err, ANX_E_PARAMS,
                        "Configuration 'embedding:%s:pool:connections' should not be more than %d", which,
                        EMBED_CONNECTIONS_MAX);
    for (size_t i = 0; i < ANX_COUNT_OF(rows); i++)
        if (*rows[i].value < rows[i].min)
            return anx_fail(
                err, ANX_E_PARAMS,
                "Configuration 'embedding:%s:pool:%s' should not be less than %u ms, in config '%u'", which,
                rows[i].key, rows[i].min, *rows[i].value);
    return ANX_OK;
}

/* A token stays out of definitions, which every reader sees; the environment holds it under a name that says
 * what it is for, so that a definition cannot send other variables of the server anywhere. */
static anx_status
check_token(const struct embedder_def *def, const char *which, anx_error *err)
{
    static const char prefix[] = "ANNEX_EMBEDDER_TOKEN";
    size_t n = sizeof(prefix) - 1;
    bool ok = def->token_env.size == 0 ||
              (def->token_env.size >= n && memcmp(def->token_env.data, prefix, n) == 0);

    for (size_t i = n; ok && i < def->token_env.size; i++)
        ok = def->token_env.data[i] == '_' ||
             (def->token_env.data[i] >= 'A' && def->token_env.data[i] <= 'Z') ||
             (def->token_env.data[i] >= '0' && def->token_env.data[i] <= '9');
    return ok ? ANX_OK
              : anx_fail(err, ANX_E_PARAMS,
                         "Configuration 'embedding:%s:token_env' should be a name of capital letters, digits "
                         "and _ that "
                         "begins with %s, in config '%.*s'",
                         which, prefix, ANX_TEXT_ARG(def->token_env));
}

/* What the original does not have. */
static anx_status
read_own_keys(struct json_fields *in, const char *which, struct embedder_def *out)
{
    anx_text api = ANX_TEXT("objects");

    out->token_env = ANX_TEXT("");
    fields_text(in, "token_env", &out->token_env);
    fields_text(in, "api", &api);
    if (in->status != ANX_OK)
        return in->status;
    out->is_list_api = anx_text_equal(api, ANX_TEXT("lists"));
    if (!out->is_list_api && !anx_text_equal(api, ANX_TEXT("objects")))
        return anx_fail(
            in->err, ANX_E_PARAMS,
            "Configuration 'embedding:%s' unexpected field value 'api'. Set '%.*s', but expected 'objects' "
            "or 'lists'",
            which, ANX_TEXT_ARG(api));
    return check_token(out, which, in->err);
}

static anx_status
read_embedder(const struct json_node *node, bool is_upsert, anx_arena *arena, struct embedder_def *out,
              anx_error *err)
{
    const char *which = is_upsert ? "upsert_embedder" : "query_embedder";
    struct json_fields in = { .object = node, .prefix = "IndexDef: ", .err = err };
    const struct json_node *pool;
    anx_status st;

    out->is_set = true;
    out->name = out->url = out->cache_tag = ANX_TEXT("");
    fields_text(&in, "name", &out->name);
    fields_text(&in, "URL", &out->url);
    fields_text(&in, "cache_tag", &out->cache_tag);
    st = in.status;
    if (st == ANX_OK && is_upsert)
        st = fields_texts(&in, "fields", arena, &out->fields, &out->n_field);
    if (st != ANX_OK)
        return st;
    if (out->url.size == 0 || (is_upsert && out->n_field == 0))
        return anx_fail(err, ANX_E_PARAMS,
                        "Configuration 'embedding:%s' must contain field 'URL' and 'fields'", which);
    if (!is_url(out->url))
        return anx_fail(err, ANX_E_PARAMS,
                        "Configuration 'embedding:%s' contain field 'URL' with unexpected value: '%.*s'",
                        which, ANX_TEXT_ARG(out->url));
    st = check_fields(out, which, err);
    if (st == ANX_OK && is_upsert)
        st = read_strategy(&in, which, out);
    if (st == ANX_OK)
        st = read_own_keys(&in, which, out);
    out->backoff_ms = EMBED_BACKOFF_MS_DEFAULT;
    out->connections = EMBED_CONNECTIONS_DEFAULT;
    out->connect_timeout_ms = EMBED_CONNECT_MS_DEFAULT;
    out->read_timeout_ms = out->write_timeout_ms = EMBED_IO_MS_DEFAULT;
    pool = st == ANX_OK ? fields_object(&in, "pool") : NULL;
    if (st == ANX_OK)
        st = in.status;
    if (pool)
        st = read_pool(pool, which, out, err);
    if (st == ANX_OK && (!lower_text(arena, &out->name) || !lower_text(arena, &out->cache_tag)))
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    return st;
}

static anx_status
read_embedding(struct json_fields *config, anx_arena *arena, struct vector_def *out)
{
    const struct json_node *node = fields_object(config, "embedding");
    struct json_fields in = { .object = node, .prefix = config->prefix, .err = config->err };
    const struct json_node *upsert;
    const struct json_node *query;
    anx_status st = ANX_OK;

    if (!node)
        return config->status;
    upsert = fields_object(&in, "upsert_embedder");
    query = fields_object(&in, "query_embedder");
    if (in.status != ANX_OK)
        return in.status;
    if (!upsert && !query)
        return anx_fail(
            in.err, ANX_E_PARAMS,
            "Configuration 'embedding' must contain object 'upsert_embedder' or 'query_embedder'");
    if (upsert)
        st = read_embedder(upsert, true, arena, &out->upsert_embedder, in.err);
    if (st == ANX_OK && query)
        st = read_embedder(query, false, arena, &out->query_embedder, in.err);
    return st;
}

/* ---- Quantization ---- */

static anx_status
read_quantization(struct json_fields *config, struct vector_def *out)
{
    const struct json_node *node = fields_object(config, "quantization_config");
    struct json_fields in = { .object = node, .prefix = config->prefix, .err = config->err };
    anx_text type = { "", 0 };
    double quantile;

    if (!node)
        return config->status;
    out->is_quantized = true;
    out->sample_size = SAMPLE_SIZE_DEFAULT;
    out->quantization_threshold = QUANTIZATION_THRESHOLD_DEFAULT;
    fields_text(&in, "quantization_type", &type);
    out->has_quantile = fields_double(&in, "quantile", &quantile);
    fields_u32(&in, "sample_size", 0, INT32_MAX, &out->sample_size);
    fields_u32(&in, "quantization_threshold", 0, INT32_MAX, &out->quantization_threshold);
    if (in.status != ANX_OK)
        return in.status;
    if (!anx_text_equal(type, anx_text_of(quantization_type)))
        return anx_fail(in.err, ANX_E_PARAMS, "Unsupported quantization type - %.*s", ANX_TEXT_ARG(type));
    if (out->has_quantile && !(quantile >= 0.95 && quantile <= 1.0))
        return anx_fail(in.err, ANX_E_PARAMS, "The quantile value must be within [0.95; 1.0]");
    out->quantile = out->has_quantile ? (float) quantile : 0.0f;
    return ANX_OK;
}

/* ---- The whole ---- */

static anx_status
read_metric(struct json_fields *in, struct vector_def *out)
{
    anx_text name = { "", 0 };

    fields_text(in, "metric", &name);
    if (in->status != ANX_OK)
        return in->status;
    for (unsigned metric = 0; metric < ANX_METRIC_COUNT; metric++)
        if (metric_names[metric] && anx_text_equal_fold(name, anx_text_of(metric_names[metric]))) {
            out->metric = (anx_metric) metric;
            return ANX_OK;
        }
    return anx_fail(in->err, ANX_E_PARAMS, "Unknown vector metric '%.*s'", ANX_TEXT_ARG(name));
}

/* Options that do not belong to the kind of index, and standards of those that do. */
static anx_status
apply_kind(enum index_type type, struct vector_def *def, anx_error *err)
{
    static const char *const kinds[INDEX_TYPE_COUNT] = {
        [INDEX_HNSW] = "hnsw index",
        [INDEX_VEC_BF] = "float vector bruteforce index",
        [INDEX_IVF] = "ivf index",
    };
    const char *what = NULL;

    if (type != INDEX_HNSW && def->m)
        what = "M parameter";
    else if (type != INDEX_HNSW && def->ef_construction)
        what = "EfConstruction parameter";
    else if (type == INDEX_IVF && def->start_size)
        what = "Start size parameter";
    else if (type != INDEX_IVF && def->centroids)
        what = "Centroids count";
    if (what)
        return anx_fail(err, ANX_E_PARAMS, "%s is not applicable for %s", what, kinds[type]);
    if (type == INDEX_IVF && def->centroids == 0)
        return anx_fail(err, ANX_E_PARAMS, "Ivf index centroids count = 0 is out of bounds [1, %d]",
                        CENTROIDS_MAX);
    if (def->multithreading > 1)
        return anx_fail(err, ANX_E_LOGIC, "Unsupported multithreading mode: %u", def->multithreading);
    if (type != INDEX_IVF && def->start_size < START_SIZE_DEFAULT)
        def->start_size = START_SIZE_DEFAULT;
    if (type == INDEX_HNSW && def->m == 0)
        def->m = ANX_HNSW_M_DEFAULT;
    if (type == INDEX_HNSW && def->ef_construction == 0)
        def->ef_construction = ANX_HNSW_EF_CONSTRUCTION_DEFAULT;
    if (type != INDEX_HNSW)
        def->multithreading = 0;
    return ANX_OK;
}

anx_status
vector_def_read(const struct json_node *config, anx_arena *arena, struct index_def *out, anx_error *err)
{
    struct json_fields in = { .object = config, .prefix = "IndexDef: ", .err = err };
    struct vector_def *def = &out->vector;
    double radius = 0;
    anx_status st;

    if (!config)
        return anx_fail(err, ANX_E_PARSE_JSON, "IndexDef: float vector index '%.*s' has no 'config'",
                        ANX_TEXT_ARG(out->name));
    fields_u32(&in, "dimension", 1, VECTOR_DIM_MAX, &def->dim);
    fields_u32(&in, "start_size", 0, INT32_MAX, &def->start_size);
    fields_u32(&in, "m", ANX_HNSW_M_MIN, ANX_HNSW_M_MAX, &def->m);
    fields_u32(&in, "ef_construction", ANX_HNSW_EF_CONSTRUCTION_MIN, ANX_HNSW_EF_CONSTRUCTION_MAX,
               &def->ef_construction);
    fields_u32(&in, "centroids_count", 1, CENTROIDS_MAX, &def->centroids);
    fields_u32(&in, "multithreading", 0, INT32_MAX, &def->multithreading);
    def->has_radius = fields_double(&in, "radius", &radius);
    def->radius = (float) radius;
    st = read_metric(&in, def);
    if (st == ANX_OK && def->dim == 0)
        st = anx_fail(err, ANX_E_PARAMS, "Float vector index dimension should not be less then 1");
    if (st == ANX_OK)
        st = read_quantization(&in, def);
    if (st == ANX_OK)
        st = read_embedding(&in, arena, def);
    if (st == ANX_OK)
        st = apply_kind(out->index_type, def, err);
    if (st == ANX_OK && out->is_pk)
        st = anx_fail(err, ANX_E_NOT_VALID, "FloatVector index cannot be PK");
    if (st == ANX_OK && out->is_sparse)
        st = anx_fail(err, ANX_E_NOT_VALID, "FloatVector index cannot be sparse");
    if (st == ANX_OK && out->is_dense)
        st = anx_fail(err, ANX_E_NOT_VALID, "FloatVector index cannot be dense");
    return st;
}

anx_status
vector_def_check(const struct index_def *def, const char *verb, anx_text ns, anx_error *err)
{
    const struct vector_def *vector = &def->vector;
    const char *text = NULL;

    if (def->n_path != 1)
        return anx_fail(err, ANX_E_NOT_VALID, "For float vector index just single json path is allowed");
    if (!vector->is_quantized)
        return ANX_OK;
    if (def->index_type != INDEX_HNSW)
        text = "Only the HNSW float vector index can have a quantization config.";
    else if (vector->sample_size == 0)
        text = "The sampleSize value must be greater than 0";
    else if (vector->quantization_threshold == 0)
        text = "The quantizationThreshold value must be greater than 0";
    if (!text)
        return ANX_OK;
    return anx_fail(err, ANX_E_PARAMS,
                    "Cannot %s quantization config in index '%.*s' in namespace '%.*s'. %s", verb,
                    ANX_TEXT_ARG(def->name), ANX_TEXT_ARG(ns), text);
}

/* ---- Printing ---- */

static void
print_number(anx_buffer *out, const char *key, uint32_t value)
{
    if (value)
        anx_buffer_printf(out, ",\"%s\":%u", key, value);
}

static void
print_embedder(const struct embedder_def *def, const char *which, anx_buffer *out)
{
    anx_buffer_printf(out, "\"%s\":{\"URL\":", which);
    json_print_text(out, def->url);
    if (def->cache_tag.size > 0) {
        anx_buffer_text(out, ANX_TEXT(",\"cache_tag\":"));
        json_print_text(out, def->cache_tag);
    }
    anx_buffer_printf(out, ",\"embedding_strategy\":\"%s\"", strategy_names[def->strategy]);
    if (def->name.size > 0) {
        anx_buffer_text(out, ANX_TEXT(",\"name\":"));
        json_print_text(out, def->name);
    }
    for (size_t i = 0; i < def->n_field; i++) {
        anx_buffer_text(out, i ? ANX_TEXT(",") : ANX_TEXT(",\"fields\":["));
        json_print_text(out, def->fields[i]);
    }
    anx_buffer_text(out, def->n_field ? ANX_TEXT("]") : ANX_TEXT(""));
    if (def->token_env.size > 0) {
        anx_buffer_text(out, ANX_TEXT(",\"token_env\":"));
        json_print_text(out, def->token_env);
    }
    if (def->is_list_api)
        anx_buffer_text(out, ANX_TEXT(",\"api\":\"lists\""));
    anx_buffer_printf(out,
                      ",\"pool\":{\"connections\":%u,\"connect_timeout_ms\":%u,\"read_timeout_ms\":%u,"
                      "\"write_timeout_ms\":%u",
                      def->connections, def->connect_timeout_ms, def->read_timeout_ms, def->write_timeout_ms);
    if (def->retries > 0)
        anx_buffer_printf(out, ",\"retries\":%u,\"retry_backoff_ms\":%u", def->retries, def->backoff_ms);
    print_number(out, "batch_size", def->batch_size);
    anx_buffer_text(out, ANX_TEXT("}}"));
}

static void
print_embedding(const struct vector_def *def, anx_buffer *out)
{
    if (!def->upsert_embedder.is_set && !def->query_embedder.is_set)
        return;
    anx_buffer_text(out, ANX_TEXT(",\"embedding\":{"));
    if (def->upsert_embedder.is_set)
        print_embedder(&def->upsert_embedder, "upsert_embedder", out);
    if (def->upsert_embedder.is_set && def->query_embedder.is_set)
        anx_buffer_char(out, ',');
    if (def->query_embedder.is_set)
        print_embedder(&def->query_embedder, "query_embedder", out);
    anx_buffer_char(out, '}');
}

void
vector_def_print(const struct vector_def *def, anx_buffer *out)
{
    anx_buffer_printf(out, "{\"dimension\":%u,\"metric\":\"%s\"", def->dim, metric_names[def->metric]);
    print_number(out, "start_size", def->start_size);
    print_number(out, "ef_construction", def->ef_construction);
    print_number(out, "m", def->m);
    print_number(out, "centroids_count", def->centroids);
    print_number(out, "multithreading", def->multithreading);
    print_embedding(def, out);
    if (def->has_radius) {
        anx_buffer_text(out, ANX_TEXT(",\"radius\":"));
        json_print_float(out, def->radius);
    }
    if (def->is_quantized) {
        anx_buffer_printf(out, ",\"quantization_config\":{\"quantization_type\":\"%s\"", quantization_type);
        if (def->has_quantile) {
            anx_buffer_text(out, ANX_TEXT(",\"quantile\":"));
            json_print_float(out, def->quantile);
        }
        anx_buffer_printf(out, ",\"sample_size\":%u,\"quantization_threshold\":%u}", def->sample_size,
                          def->quantization_threshold);
    }
    anx_buffer_char(out, '}');
}
