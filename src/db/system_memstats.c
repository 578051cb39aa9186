/* #memstats: what each namespace holds in memory and whether its storage is well. Also the gauges for
 * Prometheus, which come from the same numbers. */
#include "base/error.h"
#include "db/config_int.h"
#include "db/embedding.h"
#include "db/engine_int.h"
#include "db/ns_int.h"
#include "db/pending.h"
#include "db/stats_int.h"
#include "db/system.h"
#include "db/system_int.h"

static size_t
index_memory(const struct ns_index *index)
{
    struct vector_numbers numbers;

    if (index->scalar)
        return scalar_memory(index->scalar);
    if (index->text)
        return text_index_memory(row_texts_index(index->text));
    if (!index->vector)
        return 0;
    vector_get_numbers(index->vector, &numbers);
    return numbers.memory;
}

void
ns_measure(struct ns *ns, struct ns_sizes *out)
{
    struct store_stats stats = { .is_ok = false };

    *out = (struct ns_sizes) { .items = rows_count(ns->rows), .data = rows_memory(ns->rows) };
    for (size_t i = 0; i < ns->n_index; i++)
        out->indexes += index_memory(&ns->indexes[i]);
    if (ns->table)
        store_get_stats(ns->database->store, &stats);
    out->is_storage_ok = stats.is_ok;
}

static void
print_size(anx_buffer *out, const char *key, size_t value)
{
    if (value)
        anx_buffer_printf(out, "\"%s\":%zu,", key, value);
}

static void
print_index(struct ns *ns, const struct ns_index *index, anx_buffer *out)
{
    struct vector_numbers numbers;

    anx_buffer_char(out, '{');
    if (index->vector) {
        vector_get_numbers(index->vector, &numbers);
        print_size(out, "uniq_keys_count", numbers.count + (numbers.empty_rows > 0));
        print_size(out, "data_size", numbers.data);
        print_size(out, "indexing_struct_size", numbers.memory - numbers.data);
        anx_buffer_printf(out, "\"is_built\":%s,", numbers.is_built ? "true" : "false");
        if (index->def->index_type == INDEX_HNSW)
            anx_buffer_printf(out, "\"is_quantized\":%s,", numbers.is_quantized ? "true" : "false");
        embedding_print_status(ns, index->def, out);
    } else if (index->scalar) {
        print_size(out, "uniq_keys_count", scalar_unique(index->scalar));
        print_size(out, "indexing_struct_size", scalar_memory(index->scalar));
    } else if (index->text) {
        print_size(out, "uniq_keys_count", text_index_words(row_texts_index(index->text)));
        print_size(out, "indexing_struct_size", text_index_memory(row_texts_index(index->text)));
    }
    anx_buffer_text(out, ANX_TEXT("\"name\":"));
    json_print_text(out, index->def->name);
    anx_buffer_char(out, '}');
}

static void
print_storage(struct ns *ns, anx_buffer *out)
{
    struct store_stats stats = { .is_ok = false };

    if (ns->table)
        store_get_stats(ns->database->store, &stats);
    anx_buffer_printf(out, ",\"storage_ok\":%s,\"storage_enabled\":%s,\"storage_status\":",
                      stats.is_ok ? "true" : "false", ns->table ? "true" : "false");
    json_print_text(out, !ns->table    ? ANX_TEXT("DISABLED")
                         : stats.is_ok ? ANX_TEXT("OK")
                                       : anx_text_of(stats.failure));
    anx_buffer_text(out, ANX_TEXT(",\"storage_path\":"));
    json_print_text(out, anx_text_of(ns->table ? ns->database->path : ""));
}

/* data_lock shared. */
static void
print_namespace(struct ns *ns, anx_buffer *out)
{
    struct ns_sizes sizes;

    ns_measure(ns, &sizes);
    anx_buffer_text(out, ANX_TEXT("{\"name\":"));
    json_print_text(out, anx_text_of(ns->name));
    anx_buffer_printf(out, ",\"type\":\"namespace\",\"items_count\":%zu", sizes.items);
    if (rows_free(ns->rows) > 0)
        anx_buffer_printf(out, ",\"empty_items_count\":%zu", rows_free(ns->rows));
    print_storage(ns, out);
    anx_buffer_printf(out,
                      ",\"optimization_completed\":true,\"total\":{\"data_size\":%zu,\"indexes_size\":%zu,"
                      "\"cache_size\":0,\"index_optimizer_memory\":0,\"inmemory_storage_size\":0},"
                      "\"storage\":{\"proxy_size\":%zu}",
                      sizes.data, sizes.indexes, ns->pending ? pending_bytes(ns->pending) : 0);
    anx_buffer_printf(
        out,
        ",\"replication\":{\"last_lsn_v2\":{\"server_id\":0,\"counter\":%llu},\"data_count\":%zu,"
        "\"wal_count\":0,\"wal_size\":0,\"server_id\":0,"
        "\"clusterization_status\":{\"leader_id\":0,\"role\":\"none\"}}",
        (unsigned long long) atomic_load(&ns->n_change), sizes.items);
    anx_buffer_text(out,
                    ANX_TEXT(",\"join_cache\":{\"total_size\":0,\"items_count\":0,\"empty_count\":0,"
                             "\"hit_count_limit\":0},\"query_cache\":{\"total_size\":0,\"items_count\":0,"
                             "\"empty_count\":0,\"hit_count_limit\":0},\"indexes\":["
                             "{\"name\":\"-tuple\"}")); /* what clients take for the documents themselves */
    for (size_t i = 0; i < ns->n_index; i++) {
        anx_buffer_char(out, ',');
        print_index(ns, &ns->indexes[i], out);
    }
    anx_buffer_printf(out, "],\"tags_matcher\":{\"tags_count\":%u,\"max_tags_count\":%d,\"version\":%u,"
                           "\"state_token\":%u}}",
                      names_count(ns->names), NAMES_MAX, names_count(ns->names), (uint32_t) ns->state_token);
}

anx_status
system_each_ns(struct database *db, void (*each)(void *context, struct ns *ns), void *context, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct ns **list;
    size_t n;
    anx_status st = arena ? list_all(db, arena, &list, &n, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");

    if (st == ANX_OK) {
        for (size_t i = 0; i < n; i++) {
            pthread_rwlock_rdlock(&list[i]->data_lock);
            if (!list[i]->is_dropped)
                each(context, list[i]);
            pthread_rwlock_unlock(&list[i]->data_lock);
        }
        list_release(list, n);
    }
    anx_arena_destroy(arena);
    return st;
}

static void
print_each(void *context, struct ns *ns)
{
    if (ns->kind == NS_ORDINARY)
        print_namespace(ns, context);
}

anx_status
system_print_memstats(struct database *db, anx_buffer *out, anx_error *err)
{
    if (!atomic_load(&db->settings->memstats))
        return ANX_OK;
    anx_buffer_text(out, ANX_TEXT("{\"name\":\"!embedders\",\"type\":\"embedders\",\"embedding_caches\":["));
    embed_caches_print(embedding_caches(db->embedding), out);
    anx_buffer_text(out, ANX_TEXT("]}"));
    return system_each_ns(db, print_each, out, err);
}

/* ---- Prometheus ---- */

struct gauges {
    anx_buffer *items, *data, *indexes, *storage;
};

static void
gauge_line(anx_buffer *out, const char *name, struct ns *ns, size_t value)
{
    /* Names of databases and namespaces have no characters that would need escapes. */
    anx_buffer_printf(out, "%s{db=\"%s\",ns=\"%s\"} %zu\n", name, ns->database->name, ns->name, value);
}

static void
gauge_each(void *context, struct ns *ns)
{
    struct gauges *gauges = context;
    struct ns_sizes sizes;

    if (ns->kind != NS_ORDINARY)
        return;
    ns_measure(ns, &sizes);
    gauge_line(gauges->items, "reindexer_items_count", ns, sizes.items);
    gauge_line(gauges->data, "reindexer_data_size_bytes", ns, sizes.data);
    gauge_line(gauges->indexes, "reindexer_indexes_size_bytes", ns, sizes.indexes);
    gauge_line(gauges->storage, "reindexer_storage_ok", ns, sizes.is_storage_ok);
}

void
engine_print_metrics(struct engine *engine, anx_buffer *out)
{
    static const char *const heads[] = {
        "# HELP reindexer_items_count documents\n# TYPE reindexer_items_count gauge\n",
        "# HELP reindexer_data_size_bytes bytes of documents in memory\n# TYPE reindexer_data_size_bytes "
        "gauge\n",
        "# HELP reindexer_indexes_size_bytes bytes of indexes in memory\n"
        "# TYPE reindexer_indexes_size_bytes gauge\n",
        "# HELP reindexer_storage_ok 1 when writes reach the disk\n# TYPE reindexer_storage_ok gauge\n",
    };
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct database **databases;
    anx_buffer parts[ANX_COUNT_OF(heads)];
    struct gauges gauges = { &parts[0], &parts[1], &parts[2], &parts[3] };
    size_t n = 0;

    for (size_t i = 0; i < ANX_COUNT_OF(parts); i++)
        anx_buffer_init(&parts[i], NULL, 16 << 20);
    if (arena && engine_all(engine, arena, &databases, &n, NULL) == ANX_OK)
        for (size_t i = 0; i < n; i++) {
            (void) system_each_ns(databases[i], gauge_each, &gauges, NULL);
            stats_print_metrics(databases[i], out);
            embedding_print_metrics(databases[i], out);
            database_release(databases[i]);
        }
    for (size_t i = 0; i < ANX_COUNT_OF(parts); i++) {
        if (parts[i].size > 0)
            anx_buffer_text(out, anx_text_of(heads[i]));
        anx_buffer_bytes(out, parts[i].data, parts[i].size);
        anx_buffer_fini(&parts[i]);
    }
    anx_buffer_printf(out,
                      "# HELP reindexer_info version of the server\n# TYPE reindexer_info gauge\n"
                      "reindexer_info{version=\"%s\"} 1\n",
                      ANX_VERSION);
    anx_arena_destroy(arena);
}
