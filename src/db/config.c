/* The documents of #config: what they are by default, whether they are fine, what they change.
 *
 * Keys that have no meaning here (caches, replication) are checked and kept, so that tools that read them
 * back find what they wrote. */
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/log.h"
#include "db/config_int.h"
#include "db/embedding.h"
#include "db/json_fields.h"
#include "db/ns_int.h"

#define PREFIX "DBConfigProvider: "

static const struct {
    const char *type, *json;
} defaults[] = {
    { "profiling",
      "{\"type\":\"profiling\",\"profiling\":{\"queriesperfstats\":false,\"queries_threshold_us\":10,"
      "\"perfstats\":false,\"memstats\":true,\"activitystats\":false,\"long_queries_logging\":{"
      "\"select\":{\"threshold_us\":-1,\"normalized\":false},"
      "\"update_delete\":{\"threshold_us\":-1,\"normalized\":false},"
      "\"transaction\":{\"threshold_us\":-1,\"avg_step_threshold_us\":-1}}}}" },
    { "namespaces",
      "{\"type\":\"namespaces\",\"namespaces\":[{\"namespace\":\"*\",\"log_level\":\"none\","
      "\"strict_mode\":\"names\",\"join_cache_mode\":\"off\",\"start_copy_policy_tx_size\":10000,"
      "\"copy_policy_multiplier\":5,\"tx_size_to_always_copy\":100000,\"tx_vec_insertion_threads\":4,"
      "\"optimization_timeout_ms\":800,\"optimization_sort_workers\":4,\"wal_size\":4000000,"
      "\"min_preselect_size\":1000,\"max_preselect_size\":1000,\"max_preselect_part\":0.1,"
      "\"max_iterations_idset_preresult\":20000,\"index_updates_counting_mode\":false,"
      "\"sync_storage_flush_limit\":20000,\"ann_storage_cache_build_timeout_ms\":5000,\"cache\":{"
      "\"index_idset_cache_size\":134217728,\"index_idset_hits_to_cache\":2,"
      "\"ft_index_cache_size\":134217728,\"ft_index_hits_to_cache\":2,"
      "\"joins_preselect_cache_size\":268435456,\"joins_preselect_hit_to_cache\":2,"
      "\"query_count_cache_size\":134217728,\"query_count_hit_to_cache\":2}}]}" },
    { "replication", "{\"type\":\"replication\",\"replication\":{\"server_id\":0,\"cluster_id\":1}}" },
    { "async_replication",
      "{\"type\":\"async_replication\",\"async_replication\":{\"role\":\"none\",\"replication_mode\":"
      "\"default\","
      "\"app_name\":\"rx_repl_leader\",\"sync_threads\":4,\"syncs_per_thread\":2,\"sync_timeout_sec\":60,"
      "\"online_updates_timeout_sec\":20,\"enable_compression\":true,\"force_sync_on_logic_error\":false,"
      "\"force_sync_on_wrong_data_hash\":false,\"retry_sync_interval_msec\":30000,"
      "\"batching_routines_count\":100,\"max_wal_depth_on_force_sync\":1000,\"online_updates_delay_msec\":"
      "100,"
      "\"self_replication_token\":\"\",\"log_level\":\"none\",\"namespaces\":[],\"nodes\":[]}}" },
    { "embedders", "{\"type\":\"embedders\",\"caches\":[{\"cache_tag\":\"*\",\"max_cache_items\":1000000,"
                   "\"hit_to_cache\":1}]}" },
};

anx_status
config_default(anx_text type, anx_buffer *out, anx_error *err)
{
    for (size_t i = 0; i < ANX_COUNT_OF(defaults); i++)
        if (anx_text_equal(type, anx_text_of(defaults[i].type))) {
            anx_buffer_text(out, anx_text_of(defaults[i].json));
            return ANX_OK;
        }
    return anx_fail(err, ANX_E_NOT_FOUND, "Unknown default config type");
}

/* ---- Settings ---- */

struct db_settings *
settings_create(void)
{
    struct db_settings *settings = anx_alloc_zeroed(NULL, 1, sizeof(*settings));

    if (!settings)
        return NULL;
    pthread_mutex_init(&settings->lock, NULL);
    atomic_init(&settings->memstats, true);
    atomic_init(&settings->queries_threshold_us, 10);
    atomic_init(&settings->slow_select_us, -1);
    atomic_init(&settings->slow_update_us, -1);
    return settings;
}

static void
free_rules(struct ns_rule *rules, size_t n)
{
    for (size_t i = 0; i < n; i++)
        anx_free(NULL, rules[i].name);
    anx_free(NULL, rules);
}

void
settings_destroy(struct db_settings *settings)
{
    if (!settings)
        return;
    free_rules(settings->rules, settings->n_rule);
    pthread_mutex_destroy(&settings->lock);
    anx_free(NULL, settings);
}

/* What the document leaves out. */
static const struct ns_rule standard_rule = { .strict_mode = STRICT_NAMES, .ann_timeout_ms = 5000 };

/* The entry of that name, else the one of "*", as a whole. */
static struct ns_rule
find_rule(struct db_settings *settings, const char *name)
{
    struct ns_rule found = standard_rule;

    pthread_mutex_lock(&settings->lock);
    for (size_t i = 0; i < settings->n_rule; i++) {
        bool is_own = anx_text_equal_fold(anx_text_of(settings->rules[i].name), anx_text_of(name));

        if (is_own || strcmp(settings->rules[i].name, "*") == 0)
            found = settings->rules[i];
        if (is_own)
            break;
    }
    pthread_mutex_unlock(&settings->lock);
    return found;
}

void
config_settle(struct ns *ns)
{
    /* System namespaces have fields that come and go with what there is to tell. */
    int mode = is_system_name(anx_text_of(ns->name))
                   ? STRICT_NONE
                   : (int) find_rule(ns->database->settings, ns->name).strict_mode;

    atomic_store(&ns->strict_mode, mode);
}

unsigned
config_ann_timeout_ms(struct ns *ns)
{
    return find_rule(ns->database->settings, ns->name).ann_timeout_ms;
}

static anx_status
settle_all(struct database *db, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct ns **list;
    size_t n;
    anx_status st = arena ? list_all(db, arena, &list, &n, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");

    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        pthread_rwlock_rdlock(&list[i]->data_lock); /* for its name */
        config_settle(list[i]);
        pthread_rwlock_unlock(&list[i]->data_lock);
    }
    if (st == ANX_OK)
        list_release(list, n);
    anx_arena_destroy(arena);
    return st;
}

/* ---- profiling ---- */

struct slow_rule {
    int64_t us;
    bool normalized;
};

static struct slow_rule
read_slow(struct json_fields *logging, const char *key)
{
    struct json_fields in = { .object = fields_object(logging, key), .prefix = PREFIX, .err = logging->err };
    struct slow_rule rule = { .us = -1 };

    if (!in.object)
        return rule;
    fields_int(&in, "threshold_us", INT64_MIN, INT64_MAX, &rule.us);
    fields_bool(&in, "normalized", &rule.normalized);
    fields_int(&in, "avg_step_threshold_us", INT64_MIN, INT64_MAX, &(int64_t) { 0 });
    if (in.status != ANX_OK)
        logging->status = in.status;
    return rule;
}

static anx_status
set_profiling(struct database *db, const struct json_node *document, bool apply, anx_error *err)
{
    struct json_fields in = { .object = json_member(document, "profiling"), .prefix = PREFIX, .err = err };
    struct json_fields logging = { .prefix = PREFIX, .err = err };
    bool queries = false;
    bool perf = false;
    bool memory = true;
    bool activity = false;
    int64_t threshold = 10;
    struct slow_rule select = { -1, false };
    struct slow_rule update = { -1, false };

    if (!in.object)
        return anx_fail(err, ANX_E_PARSE_JSON, PREFIX "the document has no member 'profiling'");
    fields_bool(&in, "queriesperfstats", &queries);
    fields_bool(&in, "perfstats", &perf);
    fields_bool(&in, "memstats", &memory);
    fields_bool(&in, "activitystats", &activity);
    fields_int(&in, "queries_threshold_us", 0, INT64_MAX, &threshold);
    logging.object = fields_object(&in, "long_queries_logging");
    if (logging.object) {
        select = read_slow(&logging, "select");
        update = read_slow(&logging, "update_delete");
        (void) read_slow(&logging, "transaction");
    }
    if (in.status != ANX_OK || logging.status != ANX_OK)
        return ANX_E_PARSE_JSON;
    if (!apply)
        return ANX_OK;
    atomic_store(&db->settings->queriesperfstats, queries);
    atomic_store(&db->settings->perfstats, perf);
    atomic_store(&db->settings->memstats, memory);
    atomic_store(&db->settings->activitystats, activity);
    atomic_store(&db->settings->queries_threshold_us, threshold);
    atomic_store(&db->settings->slow_select_us, select.us);
    atomic_store(&db->settings->slow_select_normalized, select.normalized);
    atomic_store(&db->settings->slow_update_us, update.us);
    atomic_store(&db->settings->slow_update_normalized, update.normalized);
    return ANX_OK;
}

/* ---- namespaces ---- */

/* Texts that must be one of a list. */
static void
check_word(struct json_fields *in, const char *key, const char *const *words, size_t n, size_t *place)
{
    anx_text text;

    if (!fields_text(in, key, &text) || text.size == 0) /* as the Go connector leaves what it does not set */
        return;
    for (size_t i = 0; i < n; i++)
        if (anx_text_equal_fold(text, anx_text_of(words[i]))) {
            *place = i;
            return;
        }
    fields_fail(in, "Unexpected value '%.*s' of '%s'", ANX_TEXT_ARG(text), key);
}

/* Keys that are kept but mean nothing here: they must at least be of the right type. */
static void
check_kept_keys(struct json_fields *in)
{
    static const char *const log_levels[] = { "none", "error", "warning", "info", "trace" };
    static const char *const join_modes[] = { "off", "on", "aggressive" };
    static const struct {
        const char *key;
        int64_t min, max;
    } numbers[] = {
        { "start_copy_policy_tx_size", 0, INT64_MAX },
        { "copy_policy_multiplier", 0, INT64_MAX },
        { "tx_size_to_always_copy", 0, INT64_MAX },
        { "tx_vec_insertion_threads", 0, INT32_MAX },
        { "optimization_timeout_ms", 0, INT64_MAX },
        { "optimization_sort_workers", 0, INT64_MAX },
        { "wal_size", 0, INT64_MAX },
        { "min_preselect_size", 0, INT64_MAX },
        { "max_preselect_size", 0, INT64_MAX },
        { "sync_storage_flush_limit", 0, INT32_MAX },
    };
    struct json_fields cache = { .prefix = in->prefix, .err = in->err };
    int64_t iterations = 0;

    check_word(in, "log_level", log_levels, ANX_COUNT_OF(log_levels), &(size_t) { 0 });
    check_word(in, "join_cache_mode", join_modes, ANX_COUNT_OF(join_modes), &(size_t) { 0 });
    for (size_t i = 0; i < ANX_COUNT_OF(numbers); i++)
        fields_int(in, numbers[i].key, numbers[i].min, numbers[i].max, &(int64_t) { 0 });
    fields_int(in, "max_iterations_idset_preresult", 0, INT64_MAX, &iterations);
    if (iterations > 0) /* 0: as the Go connector leaves what it does not set */
        fields_int(in, "max_iterations_idset_preresult", 201, INT64_MAX, &iterations);
    fields_double(in, "max_preselect_part", &(double) { 0 });
    fields_bool(in, "index_updates_counting_mode", &(bool) { false });
    cache.object = fields_object(in, "cache");
    for (size_t i = 0; cache.object && i < cache.object->list.n; i++)
        if (!json_number(&cache.object->list.items[i], &(double) { 0 }))
            fields_fail(in, "Can't convert json field '%.*s' to number",
                        ANX_TEXT_ARG(cache.object->list.items[i].key));
}

static anx_status
read_rule(const struct json_node *node, struct ns_rule *out, anx_error *err)
{
    static const char *const modes[] = { "", "none", "names", "indexes" }; /* as in enum query_strict */
    struct json_fields in = { .object = node, .prefix = PREFIX, .err = err };
    size_t mode = (size_t) standard_rule.strict_mode;
    anx_text name = ANX_TEXT("*");
    uint32_t timeout = standard_rule.ann_timeout_ms;

    fields_text(&in, "namespace", &name);
    check_word(&in, "strict_mode", modes, ANX_COUNT_OF(modes), &mode);
    fields_u32(&in, "ann_storage_cache_build_timeout_ms", 0, INT32_MAX, &timeout);
    check_kept_keys(&in);
    if (in.status != ANX_OK)
        return in.status;
    *out = (struct ns_rule) {
        .strict_mode = mode == 0 ? standard_rule.strict_mode : (enum query_strict) mode,
        .ann_timeout_ms = timeout,
        .name = anx_alloc_zeroed(NULL, name.size + 1, 1),
    };
    if (!out->name)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    memcpy(out->name, name.data, name.size);
    return ANX_OK;
}

static anx_status
set_namespaces(struct database *db, const struct json_node *document, bool apply, anx_error *err)
{
    static const struct json_node none = { .kind = JSON_ARRAY };
    const struct json_node *list = json_member(document, "namespaces");
    struct ns_rule *rules;
    size_t n = 0;
    anx_status st = ANX_OK;

    if (!list)
        list = &none; /* an UPDATE dropped it: the rules of the start */
    if (list->kind != JSON_ARRAY)
        return anx_fail(err, ANX_E_PARSE_JSON,
                        PREFIX "Can't obtain json field 'namespace' from non-object json node");
    rules = anx_alloc_zeroed(NULL, list->list.n + 1, sizeof(*rules));
    if (!rules)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    for (; st == ANX_OK && n < list->list.n; n++)
        st = read_rule(&list->list.items[n], &rules[n], err);
    if (st == ANX_OK && apply) {
        struct ns_rule *old;
        size_t n_old;

        pthread_mutex_lock(&db->settings->lock);
        old = db->settings->rules;
        n_old = db->settings->n_rule;
        db->settings->rules = rules;
        db->settings->n_rule = n;
        pthread_mutex_unlock(&db->settings->lock);
        free_rules(old, n_old);
        return settle_all(db, err);
    }
    free_rules(rules, n);
    return st;
}

/* ---- The rest ---- */

static anx_status
set_replication(struct database *db, const struct json_node *document, bool apply, anx_error *err)
{
    struct json_fields in = { .object = json_member(document, "replication"), .prefix = PREFIX, .err = err };

    (void) db;
    (void) apply;
    if (!in.object)
        return anx_fail(err, ANX_E_PARSE_JSON, PREFIX "the document has no member 'replication'");
    fields_int(&in, "cluster_id", INT32_MIN, INT32_MAX, &(int64_t) { 0 });
    fields_int(&in, "server_id", 0, 999, &(int64_t) { 0 });
    return in.status;
}

static anx_status
set_async_replication(struct database *db, const struct json_node *document, bool apply, anx_error *err)
{
    static const char *const roles[] = { "none", "leader", "follower" };
    struct json_fields in = { .object = json_member(document, "async_replication"),
                              .prefix = PREFIX,
                              .err = err };

    (void) db;
    (void) apply;
    if (!in.object)
        return anx_fail(err, ANX_E_PARSE_JSON, PREFIX "the document has no member 'async_replication'");
    check_word(&in, "role", roles, ANX_COUNT_OF(roles), &(size_t) { 0 });
    (void) fields_array(&in, "nodes");
    (void) fields_array(&in, "namespaces");
    return in.status;
}

static anx_status
read_cache_rule(const struct json_node *node, struct embed_cache_rule *out, anx_error *err)
{
    struct json_fields in = { .object = node, .prefix = PREFIX "EmbeddersConfig: ", .err = err };
    int64_t max_items = 0, hits = 1;

    if (!fields_text(&in, "cache_tag", &out->tag))
        fields_fail(&in, "Required paramenter 'cache_tag' is not found.");
    fields_int(&in, "max_cache_items", 0, INT32_MAX, &max_items);
    fields_int(&in, "hit_to_cache", 0, INT32_MAX, &hits);
    out->max_items = (uint64_t) max_items;
    out->hits = (uint64_t) hits;
    return in.status;
}

static anx_status
set_embedders(struct database *db, const struct json_node *document, bool apply, anx_error *err)
{
    const struct json_node *list = json_member(document, "caches");
    struct embed_cache_rule *rules;
    size_t n = 0;
    anx_status st = ANX_OK;

    if (list && list->kind != JSON_ARRAY)
        return anx_fail(err, ANX_E_PARSE_JSON, PREFIX "Can't convert json field 'caches' to object or array");
    rules = anx_alloc_zeroed(NULL, list ? list->list.n + 1 : 1, sizeof(*rules));
    if (!rules)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    for (; st == ANX_OK && list && n < list->list.n; n++)
        st = read_cache_rule(&list->list.items[n], &rules[n], err);
    if (st == ANX_OK && apply)
        st = embed_caches_configure(embedding_caches(db->embedding), rules, n, err);
    anx_free(NULL, rules);
    return st;
}

static anx_status
set_sharding(struct database *db, const struct json_node *document, bool apply, anx_error *err)
{
    (void) db;
    (void) document;
    (void) apply;
    return anx_fail(
        err, ANX_E_LOGIC,
        "Sharding configuration can not be updated directly. Use 'apply_sharding_config' action instead");
}

static anx_status
run_action(struct database *db, const struct json_node *document, bool apply, anx_error *err)
{
    const struct json_node *action = json_member(document, "action");

    if (!action || action->kind != JSON_OBJECT)
        return ANX_OK;
    return apply ? config_run_action(db, action, err) : config_check_action(action, err);
}

static const struct {
    const char *type;
    anx_status (*set)(struct database *db, const struct json_node *document, bool apply, anx_error *err);
} types[] = {
    { "profiling", set_profiling },
    { "namespaces", set_namespaces },
    { "replication", set_replication },
    { "async_replication", set_async_replication },
    { "embedders", set_embedders },
    { "sharding", set_sharding },
    { "action", run_action },
};

/* A document of #config; those of unknown types are stored without effect. */
static anx_status
visit(struct database *db, anx_text json, bool apply, bool with_actions, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct json_node *document;
    const struct json_node *type;
    anx_status st;

    if (!arena)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    st = json_parse(json, arena, &document, err);
    type = st == ANX_OK ? json_member(document, "type") : NULL;
    for (size_t i = 0; type && type->kind == JSON_STRING && i < ANX_COUNT_OF(types); i++)
        if (anx_text_equal(type->text, anx_text_of(types[i].type))
            && (with_actions || types[i].set != run_action)) {
            st = types[i].set(db, document, apply, err);
            break;
        }
    anx_arena_destroy(arena);
    return st;
}

anx_status
config_check(struct database *db, anx_text json, anx_error *err)
{
    return visit(db, json, false, true, err);
}

anx_status
config_apply(struct database *db, anx_text json, anx_error *err)
{
    return visit(db, json, true, true, err);
}

/* ---- Opening ---- */

static anx_status
add_default(struct ns *ns, struct json_reader *reader, const char *json, anx_arena *arena,
            struct store_batch *batch, anx_error *err)
{
    struct doc_draft draft;
    size_t at = 0;
    bool more;
    uint32_t row;
    anx_status st =
        json_read_doc(reader, anx_text_of(json), &at, &more, ns->names, &ns->shape, arena, &draft, err);

    if (st == ANX_OK)
        st = rows_take(ns->rows, &row, err);
    if (st == ANX_OK)
        st = ns_load_row(ns, row, &draft, false, arena, err);
    if (st == ANX_OK)
        persist_put(ns, batch, row, draft.doc, draft.vectors);
    return st;
}

static anx_status
add_defaults(struct ns *ns, anx_error *err)
{
    struct json_reader *reader = json_reader_create();
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct store_batch *batch = NULL;
    anx_status st =
        reader && arena ? persist_begin(ns, &batch, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");

    for (size_t i = 0; st == ANX_OK && i < ANX_COUNT_OF(defaults); i++)
        st = add_default(ns, reader, defaults[i].json, arena, batch, err);
    if (st == ANX_OK)
        st = persist_now(ns, batch, err);
    else
        store_batch_destroy(batch);
    json_reader_destroy(reader);
    anx_arena_destroy(arena);
    return st;
}

/* What the documents say; one that is wrong is reported and left out. */
static void
apply_documents(struct ns *ns)
{
    static const struct doc_projection all = { .all_regular = true };
    roaring_uint32_iterator_t at;
    anx_buffer json;
    anx_error err;

    anx_buffer_init(&json, NULL, 64 << 20);
    roaring_init_iterator(rows_all(ns->rows), &at);
    for (; at.has_value; roaring_advance_uint32_iterator(&at)) {
        anx_buffer_clear(&json);
        json_print_doc(&json, rows_get(ns->rows, at.current_value), ns->names, &all, NULL, NULL, false);
        if (!json.failed
            && visit(ns->database, (anx_text) { json.data, json.size }, true, false, &err) != ANX_OK)
            anx_log(ANX_LOG_WARN, "event=setting_ignored database=%s cause=\"%s\"", ns->database->name,
                    err.message);
    }
    anx_buffer_fini(&json);
}

anx_status
config_open(struct database *db, anx_error *err)
{
    static const anx_text path[] = { { "type", 4 } };
    const struct index_def key = index_def_key(path, FIELD_STRING);
    struct ns *ns = list_find(db, ANX_TEXT("#config"));
    anx_status st = ANX_OK;

    if (!ns) {
        st = ns_create_listed(db, ANX_TEXT("#config"), true, &key, 1, (anx_text) { NULL, 0 }, &ns, err);
        if (st != ANX_OK)
            return st;
        atomic_fetch_add(&ns->references, 1);
    }
    if (rows_count(ns->rows) == 0)
        st = add_defaults(ns, err);
    if (st == ANX_OK)
        apply_documents(ns);
    ns_release(ns);
    return st;
}
