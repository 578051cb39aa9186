/* Actions: documents of #config that are orders. Unknown commands do nothing. */
#include "base/error.h"
#include "base/log.h"
#include "db/config_int.h"
#include "db/embedding.h"
#include "db/json_fields.h"
#include "db/ns_int.h"

struct order {
    anx_text command, ns, index; /* "*": all */
    double data_part;
    anx_text cache_tag;
    uint32_t batch_size;
};

static anx_status
read_order(const struct json_node *action, struct order *out, anx_error *err)
{
    struct json_fields in = { .object = action, .prefix = "DBConfigProvider: ", .err = err };

    *out = (struct order) { .command = { "", 0 }, .ns = { "*", 1 }, .index = { "*", 1 }, .data_part = 1 };
    fields_text(&in, "command", &out->command);
    fields_text(&in, "namespace", &out->ns);
    fields_text(&in, "index", &out->index);
    fields_double(&in, "data_part", &out->data_part);
    fields_text(&in, "cache_tag", &out->cache_tag);
    fields_u32(&in, "batch_size", 0, INT32_MAX, &out->batch_size);
    return in.status;
}

anx_status
config_check_action(const struct json_node *action, anx_error *err)
{
    struct order order;
    anx_status st = read_order(action, &order, err);

    if (st == ANX_OK && anx_text_equal(order.command, ANX_TEXT("clear_embedders_cache")) &&
        order.cache_tag.size == 0)
        st = anx_fail(err, ANX_E_PARAMS, "Attempt to clear cache with unspecified cache_tag");
    return st;
}

static bool
is_meant(anx_text pattern, anx_text name)
{
    return anx_text_equal(pattern, ANX_TEXT("*")) || pattern.size == 0 || anx_text_equal_fold(pattern, name);
}

/* Writers of the namespace wait while its lists are trained; searches go on. */
static anx_status
rebuild_ivf(struct ns *ns, struct ns_index *index, const struct order *order, anx_error *err)
{
    double share = order->data_part > 1 ? 1 : order->data_part;

    if (index->def->index_type != INDEX_IVF)
        return ANX_OK;
    ann_cache_drop(ns, index);
    return vector_train(index->vector, share > 0 ? share : 1e-6, err);
}

static anx_status
drop_cache(struct ns *ns, struct ns_index *index, const struct order *order, anx_error *err)
{
    (void) order;
    (void) err;
    ann_cache_drop(ns, index);
    return ANX_OK;
}

static const struct {
    const char *command;
    anx_status (*run)(struct ns *ns, struct ns_index *index, const struct order *order, anx_error *err);
} commands[] = {
    { "rebuild_ivf_index", rebuild_ivf },
    { "drop_ann_storage_cache", drop_cache },
};

static anx_status
run_on_namespace(struct ns *ns, size_t command, const struct order *order, anx_error *err)
{
    anx_status st;

    pthread_mutex_lock(&ns->write_lock);
    st = ns->is_dropped || !is_meant(order->ns, anx_text_of(ns->name)) ? ANX_E_NOT_FOUND : ANX_OK;
    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++)
        if (ns->indexes[i].vector && is_meant(order->index, ns->indexes[i].def->name))
            st = commands[command].run(ns, &ns->indexes[i], order, err);
    pthread_mutex_unlock(&ns->write_lock);
    return st == ANX_E_NOT_FOUND ? ANX_OK : st;
}

anx_status
config_run_action(struct database *db, const struct json_node *action, anx_error *err)
{
    anx_arena *arena;
    struct order order;
    struct ns **list;
    size_t n;
    size_t command = 0;
    anx_status st = read_order(action, &order, err);

    if (st == ANX_OK && anx_text_equal(order.command, ANX_TEXT("clear_embedders_cache"))) {
        embed_caches_clear(embedding_caches(db->embedding), order.cache_tag);
        return ANX_OK;
    }
    if (st == ANX_OK && anx_text_equal(order.command, ANX_TEXT("create_embeddings")))
        return embedding_jobs_start(db, order.ns, order.batch_size, err);
    while (command < ANX_COUNT_OF(commands)
           && !anx_text_equal(order.command, anx_text_of(commands[command].command)))
        command++;
    if (st != ANX_OK || command == ANX_COUNT_OF(commands))
        return st;
    arena = anx_arena_create(NULL, 0);
    st = arena ? list_all(db, arena, &list, &n, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");
    if (st == ANX_OK) {
        for (size_t i = 0; st == ANX_OK && i < n; i++)
            st = run_on_namespace(list[i], command, &order, err);
        list_release(list, n);
    }
    anx_arena_destroy(arena);
    anx_log(ANX_LOG_INFO, "event=action database=%s command=%.*s status=%s", db->name,
            ANX_TEXT_ARG(order.command), anx_status_text(st));
    return st;
}
