/* The embedders of a database, by namespace, index and purpose. They are made when they are first needed and
 * when the definition of their index has changed; counters outlive such a change. Lock: embedding->lock, a
 * leaf but for the locks of src/embed. */
#include "db/embedding.h"

#include <stdio.h>

#include "base/alloc.h"
#include "base/error.h"
#include "db/ns_life.h"

struct member {
    struct member *next;
    uint32_t ns_id;
    bool is_query;
    char *index;     /* owned */
    char *signature; /* owned; everything that the embedder was made from */
    struct embedder *embedder;
};
struct embedding {
    struct database *db;
    struct embed_caches *caches;
    struct embedding_jobs *jobs;
    pthread_mutex_t lock;
    struct member *members; /* guarded by lock */
};

static const char cache_folder[] = "embedders";

struct embedding *
embedding_create(struct database *db)
{
    struct embedding *embedding = anx_alloc_zeroed(NULL, 1, sizeof(*embedding));
    char path[4096];

    if (!embedding)
        return NULL;
    pthread_mutex_init(&embedding->lock, NULL);
    embedding->db = db;
    if (db->path && snprintf(path, sizeof(path), "%s/%s", db->path, cache_folder) >= (int) sizeof(path))
        path[0] = 0;
    embedding->caches = embed_caches_create(db->path && path[0] ? path : NULL);
    embedding->jobs = embedding_jobs_create(db);
    if (embedding->caches && embedding->jobs)
        return embedding;
    embedding_destroy(embedding);
    return NULL;
}

static void
free_member(struct member *member)
{
    embedder_release(member->embedder);
    anx_free(NULL, member->index);
    anx_free(NULL, member->signature);
    anx_free(NULL, member);
}

void
embedding_stop(struct embedding *embedding)
{
    if (embedding)
        embedding_jobs_stop(embedding->jobs);
}

void
embedding_destroy(struct embedding *embedding)
{
    if (!embedding)
        return;
    embedding_jobs_destroy(embedding->jobs);
    for (struct member *member = embedding->members, *next; member; member = next) {
        next = member->next;
        free_member(member);
    }
    embed_caches_destroy(embedding->caches);
    pthread_mutex_destroy(&embedding->lock);
    anx_free(NULL, embedding);
}

struct embed_caches *
embedding_caches(struct embedding *embedding)
{
    return embedding->caches;
}

struct embedding_jobs *
embedding_jobs_of(struct database *db)
{
    return db->embedding->jobs;
}

struct embed_call
embedding_call(const struct db_session *session)
{
    struct embed_call call = { .deadline_ns = 0 };

    if (!session)
        return call;
    call.deadline_ns = session->deadline_ns;
    call.should_stop = session->should_stop;
    call.stop_context = session->stop_context;
    call.blocking = session->blocking;
    call.blocking_context = session->blocking_context;
    return call;
}

/* ---- Members; lock held ---- */

static struct member **
find_member(struct embedding *embedding, uint32_t ns_id, anx_text index, bool is_query)
{
    struct member **at = &embedding->members;

    while (*at && ((*at)->ns_id != ns_id || (*at)->is_query != is_query ||
                   !anx_text_equal_fold(anx_text_of((*at)->index), index)))
        at = &(*at)->next;
    return at;
}

static char *
copy_text(anx_text text)
{
    char *copy = anx_alloc_zeroed(NULL, text.size + 1, 1);

    if (copy && text.size > 0)
        memcpy(copy, text.data, text.size);
    return copy;
}

/* Name in the path of the service: as configured, or from namespace and index. */
static void
print_name(const struct ns *ns, const struct index_def *def, const struct embedder_def *embedder,
           anx_buffer *out)
{
    if (embedder->name.size > 0)
        anx_buffer_text(out, embedder->name);
    else
        anx_buffer_printf(out, "%s_%.*s", ns->name, ANX_TEXT_ARG(def->name));
    for (size_t i = 0; i < out->size; i++)
        if (out->data[i] >= 'A' && out->data[i] <= 'Z')
            out->data[i] = (char) (out->data[i] - 'A' + 'a');
    anx_buffer_char(out, 0);
}

static struct embedder *
make_embedder(struct embedding *embedding, const struct embedder_def *def, bool is_query, const char *name,
              anx_error *err)
{
    char *url = copy_text(def->url), *tag = copy_text(def->cache_tag), *token = copy_text(def->token_env);
    struct embedder *made = NULL;
    struct embedder_params params = {
        .client = {
            .url = url,
            .name = name,
            .token_env = def->token_env.size > 0 ? token : NULL,
            .is_text_only = def->is_list_api,
            .connections = def->connections,
            .connect_ms = def->connect_timeout_ms,
            .read_ms = def->read_timeout_ms,
            .write_ms = def->write_timeout_ms,
            .retries = def->retries,
            .backoff_ms = def->backoff_ms,
        },
        .cache_tag = tag,
        .is_query = is_query,
        .batch = def->batch_size,
    };

    if (!url || !tag || !token)
        (void) anx_fail(err, ANX_E_NOMEM, "could not allocate an embedder");
    else if (embedder_create(&params, embedding->caches, &made, err) != ANX_OK)
        made = NULL;
    anx_free(NULL, url);
    anx_free(NULL, tag);
    anx_free(NULL, token);
    return made;
}

static anx_status
add_member(struct embedding *embedding, struct ns *ns, anx_text index, bool is_query, struct member **out,
           anx_error *err)
{
    struct member *member = anx_alloc_zeroed(NULL, 1, sizeof(*member));

    if (member)
        member->index = copy_text(index);
    if (!member || !member->index) {
        anx_free(NULL, member);
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an embedder");
    }
    member->ns_id = ns->id;
    member->is_query = is_query;
    member->next = embedding->members;
    embedding->members = member;
    *out = member;
    return ANX_OK;
}

/* Makes the embedder anew when its definition is another one. */
static anx_status
refresh(struct embedding *embedding, struct member *member, const struct embedder_def *def, const char *name,
        const char *signature, anx_error *err)
{
    struct embedder *made;
    char *copy;

    if (member->embedder && strcmp(member->signature, signature) == 0)
        return ANX_OK;
    copy = copy_text(anx_text_of(signature));
    if (!copy)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an embedder");
    made = make_embedder(embedding, def, member->is_query, name, err);
    if (!made) {
        anx_free(NULL, copy);
        return err->status;
    }
    if (member->embedder)
        embedder_inherit(made, member->embedder);
    embedder_release(member->embedder);
    anx_free(NULL, member->signature);
    member->embedder = made;
    member->signature = copy;
    return ANX_OK;
}

static anx_status
get_locked(struct embedding *embedding, struct ns *ns, const struct index_def *def, bool is_query,
           struct embedder **out, anx_error *err)
{
    const struct embedder_def *embedder =
        is_query ? &def->vector.query_embedder : &def->vector.upsert_embedder;
    struct member *member = *find_member(embedding, ns->id, def->name, is_query);
    anx_buffer name, signature;
    anx_status st = member ? ANX_OK : add_member(embedding, ns, def->name, is_query, &member, err);

    if (st != ANX_OK)
        return st;
    anx_buffer_init(&name, NULL, 1 << 16);
    anx_buffer_init(&signature, NULL, 1 << 20);
    print_name(ns, def, embedder, &name);
    anx_buffer_printf(&signature, "%.*s|%s|%.*s|%.*s|%u|%u|%u|%u|%u|%u|%u|%d", ANX_TEXT_ARG(embedder->url),
                      name.failed ? "" : name.data, ANX_TEXT_ARG(embedder->cache_tag),
                      ANX_TEXT_ARG(embedder->token_env), embedder->connections, embedder->connect_timeout_ms,
                      embedder->read_timeout_ms, embedder->write_timeout_ms, embedder->retries,
                      embedder->backoff_ms, embedder->batch_size, embedder->is_list_api);
    anx_buffer_char(&signature, 0);
    if (name.failed || signature.failed)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate an embedder");
    else
        st = refresh(embedding, member, embedder, name.data, signature.data, err);
    if (st == ANX_OK)
        *out = embedder_acquire(member->embedder);
    anx_buffer_fini(&name);
    anx_buffer_fini(&signature);
    return st;
}

anx_status
embedding_get(struct ns *ns, const struct index_def *def, bool is_query, struct embedder **out,
              anx_error *err)
{
    struct embedding *embedding = ns->database->embedding;
    anx_error own_err;
    anx_status st;

    pthread_mutex_lock(&embedding->lock);
    st = get_locked(embedding, ns, def, is_query, out, err ? err : &own_err);
    pthread_mutex_unlock(&embedding->lock);
    return st;
}

void
embedding_forget(struct ns *ns, anx_text name)
{
    struct embedding *embedding = ns->database->embedding;

    if (!embedding)
        return;
    pthread_mutex_lock(&embedding->lock);
    for (struct member **at = &embedding->members, *member; (member = *at) != NULL;)
        if (member->ns_id == ns->id &&
            (!name.data || anx_text_equal_fold(anx_text_of(member->index), name))) {
            *at = member->next;
            free_member(member);
        } else {
            at = &member->next;
        }
    pthread_mutex_unlock(&embedding->lock);
}

/* ---- Showing ---- */

static void
print_both(struct ns *ns, const struct index_def *def,
           void (*print)(struct embedder *embedder, anx_buffer *out), anx_buffer *out)
{
    for (int is_query = 0; is_query < 2; is_query++) {
        const struct embedder_def *embedder =
            is_query ? &def->vector.query_embedder : &def->vector.upsert_embedder;
        struct embedder *found;

        if (!embedder->is_set || embedding_get(ns, def, is_query, &found, NULL) != ANX_OK)
            continue;
        anx_buffer_printf(out, "\"%s_embedder\":", is_query ? "query" : "upsert");
        print(found, out);
        anx_buffer_char(out, ',');
        embedder_release(found);
    }
}

void
embedding_print_status(struct ns *ns, const struct index_def *def, anx_buffer *out)
{
    print_both(ns, def, embedder_print_status, out);
}

void
embedding_print_perf(struct ns *ns, const struct index_def *def, anx_buffer *out)
{
    print_both(ns, def, embedder_print_perf, out);
}

void
embedding_reset_perf(struct database *db)
{
    pthread_mutex_lock(&db->embedding->lock);
    for (struct member *member = db->embedding->members; member; member = member->next)
        if (member->embedder)
            embedder_reset_perf(member->embedder);
    pthread_mutex_unlock(&db->embedding->lock);
}

static const char *
name_of_ns(struct database *db, uint32_t id)
{
    for (size_t i = 0; i < db->n_namespace; i++)
        if (db->namespaces[i]->id == id)
            return db->namespaces[i]->name;
    return NULL;
}

void
embedding_print_metrics(struct database *db, anx_buffer *out)
{
    static const struct {
        const char *name;
        size_t offset;
    } rows[] = {
        { "last_sec_qps", offsetof(struct embedder_gauges, qps) },
        { "last_sec_dps", offsetof(struct embedder_gauges, dps) },
        { "last_sec_errors_count", offsetof(struct embedder_gauges, errors) },
        { "last_sec_avg_latency_us", offsetof(struct embedder_gauges, latency_us) },
        { "conn_in_use", offsetof(struct embedder_gauges, connections) },
        { "last_sec_avg_embed_latency_us", offsetof(struct embedder_gauges, embed_latency_us) },
        { "input_traffic_total_bytes", offsetof(struct embedder_gauges, in_bytes) },
        { "output_traffic_total_bytes", offsetof(struct embedder_gauges, out_bytes) },
    };

    pthread_rwlock_rdlock(&db->list_lock);
    pthread_mutex_lock(&db->embedding->lock);
    for (struct member *member = db->embedding->members; member; member = member->next) {
        const char *ns = name_of_ns(db, member->ns_id);
        struct embedder_gauges gauges;

        if (!ns || !member->embedder)
            continue;
        embedder_read_gauges(member->embedder, &gauges);
        for (size_t i = 0; i < ANX_COUNT_OF(rows); i++) {
            uint64_t value;

            memcpy(&value, (const char *) &gauges + rows[i].offset, sizeof(value));
            anx_buffer_printf(out, "reindexer_embed_%s{db=\"%s\",ns=\"%s\",index=\"%s\",type=\"%s\"} %llu\n",
                              rows[i].name, db->name, ns, member->index,
                              member->is_query ? "query" : "upsert", (unsigned long long) value);
        }
    }
    pthread_mutex_unlock(&db->embedding->lock);
    pthread_rwlock_unlock(&db->list_lock);
}
