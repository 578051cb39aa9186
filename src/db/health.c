/* See health.h. */
#include "db/health.h"

#include <string.h>
#include <sys/stat.h>

#include "base/error.h"
#include "db/ns_int.h"
#include "db/quantize.h"
#include "db/system_int.h"
#include "db/vector_int.h"

static void
print_text(anx_buffer *out, const char *name, anx_text text)
{
    anx_buffer_printf(out, ",\"%s\":", name);
    json_print_text(out, text);
}

static void
print_float(anx_buffer *out, const char *name, double value)
{
    anx_buffer_printf(out, ",\"%s\":", name);
    json_print_float(out, (float) value);
}

static void
print_names(anx_buffer *out, const anx_text *names, size_t n)
{
    anx_buffer_char(out, '[');
    for (size_t i = 0; i < n; i++) {
        if (i > 0)
            anx_buffer_char(out, ',');
        json_print_text(out, names[i]);
    }
    anx_buffer_char(out, ']');
}

/* What the definition says, defaults filled in, and what a search has that says nothing itself. */
static void
print_parameters(const struct vector_index *v, anx_buffer *out)
{
    const anx_index_params *own = anx_index_get_params(v->ann);
    const struct vector_def *def = &v->def->vector;

    switch (v->def->index_type) {
    case INDEX_HNSW:
        anx_buffer_printf(out,
                          ",\"parameters\":{\"m\":%zu,\"ef_construction\":%zu,\"multithreading\":%u},"
                          "\"defaults\":{\"ef\":%zu}",
                          own->m, own->ef_construction, def->multithreading, (size_t) VECTOR_EF_DEFAULT);
        return;
    case INDEX_IVF:
        anx_buffer_printf(out, ",\"parameters\":{\"n_centroids\":%zu},\"defaults\":{\"nprobe\":%zu}",
                          own->centroids, own->nprobe);
        return;
    default:
        anx_buffer_text(out, ANX_TEXT(",\"parameters\":{},\"defaults\":{}"));
    }
}

static void
print_quantization(const struct ns *ns, const struct vector_index *v, anx_buffer *out)
{
    const struct vector_def *def = &v->def->vector;
    bool is_quantized = atomic_load(&v->is_quantized);
    anx_index_stats stats;
    double progress;
    bool is_running = quantizer_progress(ns->database->engine->quantizer, v->serial, &progress);

    anx_buffer_printf(out, ",\"quantization\":{\"state\":\"%s\"",
                      is_quantized          ? "quantized"
                      : is_running          ? "running"
                      : !def->is_quantized  ? "none"
                                            : "waiting");
    if (def->is_quantized) {
        anx_buffer_printf(out, ",\"threshold\":%u,\"sample_size\":%u", def->quantization_threshold,
                          def->sample_size);
        if (def->has_quantile)
            print_float(out, "quantile", (double) def->quantile);
    }
    if (is_running && !is_quantized)
        anx_buffer_printf(out, ",\"progress\":%.3f", progress);
    anx_index_get_stats(v->ann, &stats);
    if (is_quantized && stats.code_low < stats.code_high) { /* an index of few rows has no codes yet */
        anx_buffer_text(out, ANX_TEXT(",\"range\":["));
        json_print_float(out, stats.code_low);
        anx_buffer_char(out, ',');
        json_print_float(out, stats.code_high);
        anx_buffer_char(out, ']');
    }
    anx_buffer_char(out, '}');
}

static void
print_cache(const struct ns *ns, const struct ns_index *index, anx_buffer *out)
{
    uint64_t saved = atomic_load(&ns->n_change_saved), now = atomic_load(&ns->n_change);
    struct stat info;
    char path[4096];

    if (!ann_cache_path(ns, index, path) || stat(path, &info) != 0) {
        anx_buffer_text(out, ANX_TEXT(",\"cache\":{\"exists\":false}"));
        return;
    }
    anx_buffer_printf(out, ",\"cache\":{\"exists\":true,\"bytes\":%llu,\"saved_at\":%lld",
                      (unsigned long long) info.st_size, (long long) info.st_mtime);
    if (saved != UINT64_MAX && saved <= now) /* else: more than can be told */
        anx_buffer_printf(out, ",\"changes_since\":%llu", (unsigned long long) (now - saved));
    anx_buffer_char(out, '}');
}

/* A URL can carry a secret behind its "?". */
static void
print_embedder(const char *name, const struct embedder_def *def, bool is_query, anx_buffer *out)
{
    static const char *const strategies[] = {
        [EMBED_ALWAYS] = "always",
        [EMBED_EMPTY_ONLY] = "empty_only",
        [EMBED_STRICT] = "strict",
    };
    const char *mark;
    anx_text url = def->url;

    if (!def->is_set)
        return;
    mark = url.size > 0 ? memchr(url.data, '?', url.size) : NULL;
    if (mark)
        url.size = (size_t) (mark - url.data);
    anx_buffer_printf(out, ",\"%s\":{\"name\":", name);
    json_print_text(out, def->name);
    print_text(out, "url", url);
    if (!is_query) {
        anx_buffer_text(out, ANX_TEXT(",\"fields\":"));
        print_names(out, def->fields, def->n_field);
        anx_buffer_printf(out, ",\"strategy\":\"%s\"", strategies[def->strategy]);
    }
    anx_buffer_char(out, '}');
}

static void
print_recall(const struct recall_note *note, anx_buffer *out)
{
    if (note->measured_at == 0)
        return;
    anx_buffer_printf(out, ",\"recall\":{\"recall\":%.6f,\"k\":%zu", note->recall, note->k);
    if (note->ef > 0)
        anx_buffer_printf(out, ",\"ef\":%zu", note->ef);
    if (note->nprobe > 0)
        anx_buffer_printf(out, ",\"nprobe\":%zu", note->nprobe);
    anx_buffer_printf(out, ",\"queries\":%zu,\"vectors\":%zu,\"measured_at\":%lld}", note->queries,
                      note->vectors, (long long) note->measured_at);
}

static void
print_index(const struct ns *ns, const struct ns_index *index, anx_buffer *out)
{
    const struct vector_index *v = index->vector;
    const struct vector_def *def = &index->def->vector;
    enum index_type type = index->def->index_type;
    size_t n_row = rows_count(ns->rows), n_with;
    struct vector_numbers numbers;

    vector_get_numbers(v, &numbers);
    n_with = roaring_bitmap_get_cardinality(v->any);
    anx_buffer_text(out, ANX_TEXT("{\"name\":"));
    json_print_text(out, index->def->name);
    anx_buffer_printf(out, ",\"kind\":\"%s\",\"metric\":\"%s\",\"dimension\":%u,\"is_array\":%s",
                      type == INDEX_HNSW ? "hnsw" : type == INDEX_IVF ? "ivf" : "flat",
                      def->metric == ANX_METRIC_IP ? "inner_product" : anx_metric_name(def->metric), def->dim,
                      v->is_array ? "true" : "false");
    print_parameters(v, out);
    if (def->has_radius)
        print_float(out, "radius", (double) def->radius);
    anx_buffer_printf(out,
                      ",\"vectors\":%zu,\"documents_with_vectors\":%zu,\"documents_without\":%zu,"
                      "\"memory\":%zu,\"vector_bytes\":%zu,\"built\":%s",
                      numbers.count, n_with, n_row > n_with ? n_row - n_with : 0, numbers.memory,
                      numbers.data, numbers.is_built ? "true" : "false");
    print_quantization(ns, v, out);
    print_cache(ns, index, out);
    print_embedder("upsert_embedder", &def->upsert_embedder, false, out);
    print_embedder("query_embedder", &def->query_embedder, true, out);
    print_recall(&v->recall, out);
    anx_buffer_char(out, '}');
}

/* data_lock shared. */
static void
print_ns(struct ns *ns, anx_buffer *out)
{
    struct ns_sizes sizes;
    size_t n = 0;

    ns_measure(ns, &sizes);
    anx_buffer_text(out, ANX_TEXT("{\"namespace\":"));
    json_print_text(out, anx_text_of(ns->name));
    anx_buffer_printf(out,
                      ",\"documents\":%zu,\"memory\":{\"documents\":%zu,\"indexes\":%zu},"
                      "\"storage\":{\"enabled\":%s,\"ok\":%s},\"primary_key\":",
                      sizes.items, sizes.data, sizes.indexes, ns->table ? "true" : "false",
                      sizes.is_storage_ok ? "true" : "false");
    if (ns->pk != SIZE_MAX)
        print_names(out, ns->indexes[ns->pk].def->json_paths, ns->indexes[ns->pk].def->n_path);
    else
        anx_buffer_text(out, ANX_TEXT("[]"));
    anx_buffer_text(out, ANX_TEXT(",\"vector_indexes\":["));
    for (size_t i = 0; i < ns->n_index; i++) {
        if (!ns->indexes[i].vector)
            continue;
        if (n++ > 0)
            anx_buffer_char(out, ',');
        print_index(ns, &ns->indexes[i], out);
    }
    anx_buffer_text(out, ANX_TEXT("]}"));
}

anx_status
db_health_print(struct database *db, anx_text name, anx_buffer *out, anx_error *err)
{
    struct ns *ns = NULL;
    anx_status st = is_system_name(name) ? ANX_E_NOT_FOUND : ns_acquire(db, name, &ns, err);

    if (st == ANX_E_NOT_FOUND)
        return anx_fail(err, ANX_E_NOT_FOUND, "Namespace is not found");
    if (st != ANX_OK)
        return st;
    pthread_rwlock_rdlock(&ns->data_lock);
    st = ns_check_alive(ns, err);
    if (st == ANX_OK)
        print_ns(ns, out);
    pthread_rwlock_unlock(&ns->data_lock);
    ns_release(ns);
    return st;
}
