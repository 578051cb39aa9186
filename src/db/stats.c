/* Counters of calls: per namespace, per query text, and the calls that run now.
 *
 * One lock for all of it: it is taken only while a setting asks for statistics, for a few additions per call.
 */
#include "db/stats.h"

#include <math.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "db/config_int.h"
#include "db/embedding.h"
#include "db/ns_int.h"
#include "db/stats_int.h"

enum {
    QUERIES_MAX = 4096,    /* different query texts that are kept; later ones are not counted */
    QUERY_TEXT_SIZE = 4096 /* longer texts are cut */
};

struct counter {
    uint64_t n, time_us, lock_us, min_us, max_us;
    double mean, squares; /* Welford, Note on a method for calculating corrected sums of squares, 1962 */
    /* The second that runs and the one before. */
    int64_t second;
    uint64_t now_n, now_us, now_lock_us, last_n, last_us, last_lock_us;
};
struct ns_counters {
    char *name; /* owned */
    struct counter updates, selects, transactions;
    struct ns_counters *next;
};
struct query_counters {
    char *text, *longest; /* owned */
    uint64_t hash;
    struct counter selects;
};
struct db_stats {
    pthread_mutex_t lock;
    struct ns_counters *namespaces; /* owned */
    struct query_counters *queries; /* owned [capacity], open addressing by hash; text NULL: free */
    size_t n_query;
    struct stats_call *running; /* borrowed from their callers */
    uint64_t next_id;
};

struct db_stats *
stats_create(void)
{
    struct db_stats *stats = anx_alloc_zeroed(NULL, 1, sizeof(*stats));

    if (stats)
        pthread_mutex_init(&stats->lock, NULL);
    return stats;
}

/* lock held. */
static void
free_perf(struct db_stats *stats)
{
    for (struct ns_counters *ns = stats->namespaces; ns;) {
        struct ns_counters *next = ns->next;

        anx_free(NULL, ns->name);
        anx_free(NULL, ns);
        ns = next;
    }
    stats->namespaces = NULL;
}

static void
free_queries(struct db_stats *stats)
{
    for (size_t i = 0; stats->queries && i < 2 * QUERIES_MAX; i++) {
        anx_free(NULL, stats->queries[i].text);
        anx_free(NULL, stats->queries[i].longest);
    }
    anx_free(NULL, stats->queries);
    stats->queries = NULL;
    stats->n_query = 0;
}

void
stats_destroy(struct db_stats *stats)
{
    if (!stats)
        return;
    free_perf(stats);
    free_queries(stats);
    pthread_mutex_destroy(&stats->lock);
    anx_free(NULL, stats);
}

void
stats_reset_perf(struct db_stats *stats)
{
    pthread_mutex_lock(&stats->lock);
    free_perf(stats);
    pthread_mutex_unlock(&stats->lock);
}

void
stats_reset_queries(struct db_stats *stats)
{
    pthread_mutex_lock(&stats->lock);
    free_queries(stats);
    pthread_mutex_unlock(&stats->lock);
}

/* ---- Counting ---- */

static void
roll_second(struct counter *counter, int64_t second)
{
    if (counter->second == second)
        return;
    counter->last_n = counter->second + 1 == second ? counter->now_n : 0;
    counter->last_us = counter->second + 1 == second ? counter->now_us : 0;
    counter->last_lock_us = counter->second + 1 == second ? counter->now_lock_us : 0;
    counter->now_n = counter->now_us = counter->now_lock_us = 0;
    counter->second = second;
}

static void
count(struct counter *counter, uint64_t us, uint64_t lock_us)
{
    double delta;

    roll_second(counter, (int64_t) (anx_clock_ns() / 1000000000u));
    counter->n++;
    counter->time_us += us;
    counter->lock_us += lock_us;
    counter->now_n++;
    counter->now_us += us;
    counter->now_lock_us += lock_us;
    if (counter->n == 1 || us < counter->min_us)
        counter->min_us = us;
    if (us > counter->max_us)
        counter->max_us = us;
    delta = (double) us - counter->mean;
    counter->mean += delta / (double) counter->n;
    counter->squares += delta * ((double) us - counter->mean);
}

static char *
copy_text(const char *data, size_t size)
{
    char *copy = anx_alloc_zeroed(NULL, size + 1, 1);

    if (copy && size > 0)
        memcpy(copy, data, size);
    return copy;
}

/* lock held. */
static struct ns_counters *
ns_counters(struct db_stats *stats, const char *name)
{
    struct ns_counters *ns = stats->namespaces;

    while (ns && !anx_text_equal_fold(anx_text_of(ns->name), anx_text_of(name)))
        ns = ns->next;
    if (ns)
        return ns;
    ns = anx_alloc_zeroed(NULL, 1, sizeof(*ns));
    if (!ns)
        return NULL;
    ns->name = copy_text(name, strlen(name));
    if (!ns->name) {
        anx_free(NULL, ns);
        return NULL;
    }
    ns->next = stats->namespaces;
    stats->namespaces = ns;
    return ns;
}

static void
count_namespace(struct db_stats *stats, const struct stats_call *call, uint64_t us)
{
    struct ns_counters *ns;

    pthread_mutex_lock(&stats->lock);
    ns = ns_counters(stats, call->ns);
    if (ns)
        count(call->kind == STATS_SELECT   ? &ns->selects
              : call->kind == STATS_UPDATE ? &ns->updates
                                           : &ns->transactions,
              us, call->lock_ns / 1000);
    pthread_mutex_unlock(&stats->lock);
}

/* lock held; NULL when the table is full or memory is out. */
static struct query_counters *
query_counters(struct db_stats *stats, const anx_buffer *text)
{
    uint64_t hash = anx_hash(text->data, text->size);
    struct query_counters *query;

    if (!stats->queries)
        stats->queries = anx_alloc_zeroed(NULL, 2 * QUERIES_MAX, sizeof(*stats->queries));
    if (!stats->queries)
        return NULL;
    for (size_t at = hash % (2 * QUERIES_MAX);; at = (at + 1) % (2 * QUERIES_MAX)) {
        query = &stats->queries[at];
        if (!query->text)
            break;
        if (query->hash == hash && strlen(query->text) == text->size
            && memcmp(query->text, text->data, text->size) == 0)
            return query;
    }
    if (stats->n_query == QUERIES_MAX || !(query->text = copy_text(text->data, text->size)))
        return NULL;
    query->hash = hash;
    stats->n_query++;
    return query;
}

static void
print_query(const struct query *query, bool normalized, anx_buffer *out)
{
    query_print_sql(query, normalized, out);
    if (out->size > QUERY_TEXT_SIZE)
        out->size = QUERY_TEXT_SIZE;
}

static void
count_query(struct db_stats *stats, const struct stats_call *call, uint64_t us)
{
    struct query_counters *query;
    anx_buffer text;
    anx_buffer full;

    anx_buffer_init(&text, NULL, QUERY_TEXT_MAX);
    anx_buffer_init(&full, NULL, QUERY_TEXT_MAX);
    print_query(call->query, true, &text);
    pthread_mutex_lock(&stats->lock);
    query = text.failed ? NULL : query_counters(stats, &text);
    if (query && (us >= query->selects.max_us || !query->longest)) {
        print_query(call->query, false, &full);
        anx_free(NULL, query->longest);
        query->longest = copy_text(full.data, full.size);
    }
    if (query)
        count(&query->selects, us, call->lock_ns / 1000);
    pthread_mutex_unlock(&stats->lock);
    anx_buffer_fini(&text);
    anx_buffer_fini(&full);
}

/* Literals are data and stay out of the log unless the setting asks for them. */
static void
log_slow(const struct db_settings *settings, const struct stats_call *call, uint64_t us)
{
    bool is_select = call->kind == STATS_SELECT;
    int64_t threshold =
        atomic_load(is_select ? &settings->slow_select_us : &settings->slow_update_us);
    anx_buffer text;

    if (threshold < 0 || us < (uint64_t) threshold || !call->query)
        return;
    anx_buffer_init(&text, NULL, QUERY_TEXT_MAX);
    print_query(
        call->query,
        atomic_load(is_select ? &settings->slow_select_normalized : &settings->slow_update_normalized),
        &text);
    anx_log(ANX_LOG_WARN, "event=slow_query ns=%s us=%llu lock_us=%llu query=\"%.*s\"", call->ns,
            (unsigned long long) us, (unsigned long long) (call->lock_ns / 1000), (int) text.size,
            text.data ? text.data : "");
    anx_buffer_fini(&text);
}

/* ---- Calls ---- */

static bool
is_wanted(const struct db_settings *settings)
{
    return atomic_load(&settings->perfstats) || atomic_load(&settings->queriesperfstats)
           || atomic_load(&settings->activitystats) || atomic_load(&settings->slow_select_us) >= 0
           || atomic_load(&settings->slow_update_us) >= 0;
}

void
stats_begin(struct database *db, enum stats_kind kind, const struct query *query, anx_text ns,
            const struct db_session *session, struct stats_call *call)
{
    struct timespec now;

    call->db = NULL;
    if (!is_wanted(db->settings))
        return;
    clock_gettime(CLOCK_REALTIME, &now);
    *call = (struct stats_call) {
        .db = db,
        .kind = kind,
        .query = query,
        .session = session,
        .start_ns = anx_clock_ns(),
        .started_at_ms = (int64_t) now.tv_sec * 1000 + now.tv_nsec / 1000000,
    };
    (void) snprintf(call->ns, sizeof(call->ns), "%.*s", ANX_TEXT_ARG(query ? query->ns : ns));
    pthread_mutex_lock(&db->stats->lock);
    call->id = db->stats->next_id++;
    call->next = db->stats->running;
    if (call->next)
        call->next->previous = call;
    db->stats->running = call;
    pthread_mutex_unlock(&db->stats->lock);
}

void
stats_end(struct stats_call *call)
{
    struct db_settings *settings;
    struct db_stats *stats;
    uint64_t us;

    if (!call->db)
        return;
    settings = call->db->settings;
    stats = call->db->stats;
    us = (anx_clock_ns() - call->start_ns) / 1000;
    pthread_mutex_lock(&stats->lock);
    if (call->next)
        call->next->previous = call->previous;
    if (call->previous)
        call->previous->next = call->next;
    else
        stats->running = call->next;
    pthread_mutex_unlock(&stats->lock);
    if (atomic_load(&settings->perfstats) && !is_system_name(anx_text_of(call->ns)))
        count_namespace(stats, call, us);
    if (atomic_load(&settings->queriesperfstats) && call->query && call->kind == STATS_SELECT
        && us >= (uint64_t) atomic_load(&settings->queries_threshold_us)
        && !is_system_name(anx_text_of(call->ns)))
        count_query(stats, call, us);
    log_slow(settings, call, us);
    call->db = NULL;
}

/* ---- Documents ---- */

static double
average(uint64_t sum, uint64_t n)
{
    return n ? (double) sum / (double) n : 0;
}

static void
print_counter(struct counter *counter, anx_buffer *out)
{
    roll_second(counter, (int64_t) (anx_clock_ns() / 1000000000u));
    anx_buffer_printf(
        out,
        "\"total_queries_count\":%llu,\"total_avg_latency_us\":%.0f,\"total_avg_lock_time_us\":%.0f,"
        "\"last_sec_qps\":%llu,\"last_sec_avg_lock_time_us\":%.0f,\"last_sec_avg_latency_us\":%.0f,"
        "\"latency_stddev\":%.3f,\"min_latency_us\":%llu,\"max_latency_us\":%llu",
        (unsigned long long) counter->n, average(counter->time_us, counter->n),
        average(counter->lock_us, counter->n), (unsigned long long) counter->last_n,
        average(counter->last_lock_us, counter->last_n), average(counter->last_us, counter->last_n),
        counter->n > 1 ? sqrt(counter->squares / (double) (counter->n - 1)) : 0.0,
        (unsigned long long) counter->min_us, (unsigned long long) counter->max_us);
}

/* All but the indexes. */
static void
print_ns_counters(struct ns_counters *ns, anx_text name, anx_buffer *out)
{
    struct ns_counters none = { 0 };

    if (!ns)
        ns = &none;
    anx_buffer_text(out, ANX_TEXT("{\"name\":"));
    json_print_text(out, name);
    anx_buffer_text(out, ANX_TEXT(",\"updates\":{"));
    print_counter(&ns->updates, out);
    anx_buffer_text(out, ANX_TEXT("},\"selects\":{"));
    print_counter(&ns->selects, out);
    anx_buffer_printf(
        out,
        "},\"transactions\":{\"total_count\":%llu,\"total_copy_count\":0,"
        "\"avg_commit_time_us\":%.0f,\"min_commit_time_us\":%llu,\"max_commit_time_us\":%llu}",
        (unsigned long long) ns->transactions.n, average(ns->transactions.time_us, ns->transactions.n),
        (unsigned long long) ns->transactions.min_us, (unsigned long long) ns->transactions.max_us);
    anx_buffer_text(out, ANX_TEXT(",\"query_count_cache\":{\"is_active\":false,\"total_queries\":0,"
                                  "\"cache_hit_rate\":0.0},\"join_cache\":{\"is_active\":false,"
                                  "\"total_queries\":0,\"cache_hit_rate\":0.0},\"indexes\":["));
}

/* Embedders of the indexes, and the end of the object. No lock held. */
static void
print_ns_embedders(struct database *db, anx_text name, anx_buffer *out)
{
    struct ns *ns = list_find(db, name);
    bool is_first = true;

    if (ns)
        pthread_rwlock_rdlock(&ns->data_lock);
    for (size_t i = 0; ns && !ns->is_dropped && i < ns->n_index; i++) {
        const struct vector_def *def = &ns->indexes[i].def->vector;

        if (!ns->indexes[i].vector || (!def->upsert_embedder.is_set && !def->query_embedder.is_set))
            continue;
        anx_buffer_text(out, is_first ? ANX_TEXT("{") : ANX_TEXT(",{"));
        embedding_print_perf(ns, ns->indexes[i].def, out);
        anx_buffer_text(out, ANX_TEXT("\"name\":"));
        json_print_text(out, ns->indexes[i].def->name);
        anx_buffer_char(out, '}');
        is_first = false;
    }
    anx_buffer_char(out, ']');
    if (ns) {
        embedding_jobs_print(ns, out);
        pthread_rwlock_unlock(&ns->data_lock);
        ns_release(ns);
    }
    anx_buffer_char(out, '}');
}

/* Every namespace there is, also those that nobody has asked yet. */
anx_status
stats_print_perf(struct database *db, anx_buffer *out, anx_error *err)
{
    anx_arena *arena;
    anx_text *names;
    size_t n;
    anx_status st;

    if (!atomic_load(&db->settings->perfstats))
        return ANX_OK;
    arena = anx_arena_create(NULL, 0);
    st = arena ? db_ns_names(db, arena, &names, &n, err) : anx_fail(err, ANX_E_NOMEM, "out of memory");
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        struct ns_counters *ns;

        if (is_system_name(names[i]))
            continue;
        pthread_mutex_lock(&db->stats->lock);
        for (ns = db->stats->namespaces; ns && !anx_text_equal_fold(anx_text_of(ns->name), names[i]);)
            ns = ns->next;
        print_ns_counters(ns, names[i], out);
        pthread_mutex_unlock(&db->stats->lock);
        print_ns_embedders(db, names[i], out);
    }
    anx_arena_destroy(arena);
    return st;
}

anx_status
stats_print_queries(struct database *db, anx_buffer *out, anx_error *err)
{
    struct db_stats *stats = db->stats;

    (void) err;
    if (!atomic_load(&db->settings->queriesperfstats))
        return ANX_OK;
    pthread_mutex_lock(&stats->lock);
    for (size_t i = 0; stats->queries && i < 2 * QUERIES_MAX; i++) {
        struct query_counters *query = &stats->queries[i];

        if (!query->text)
            continue;
        anx_buffer_text(out, ANX_TEXT("{\"query\":"));
        json_print_text(out, anx_text_of(query->text));
        anx_buffer_char(out, ',');
        print_counter(&query->selects, out);
        anx_buffer_text(out, ANX_TEXT(",\"longest_query\":"));
        json_print_text(out, anx_text_of(query->longest ? query->longest : ""));
        anx_buffer_char(out, '}');
    }
    pthread_mutex_unlock(&stats->lock);
    return ANX_OK;
}

static void
print_call(const struct stats_call *call, anx_buffer *out)
{
    time_t second = (time_t) (call->started_at_ms / 1000);
    struct tm local;
    char when[32];
    anx_buffer text;

    anx_buffer_init(&text, NULL, QUERY_TEXT_MAX);
    if (call->query)
        print_query(call->query, false, &text);
    else
        anx_buffer_printf(&text, "%s of documents in %s",
                          call->kind == STATS_TRANSACTION ? "transaction" : "modification", call->ns);
    localtime_r(&second, &local);
    when[strftime(when, sizeof(when), "%Y-%m-%d %H:%M:%S", &local)] = '\0';
    anx_buffer_text(out, ANX_TEXT("{\"client\":"));
    json_print_text(out, call->session ? call->session->client : ANX_TEXT(""));
    anx_buffer_text(out, ANX_TEXT(",\"user\":"));
    json_print_text(out, call->session ? call->session->user : ANX_TEXT(""));
    anx_buffer_text(out, ANX_TEXT(",\"query\":"));
    json_print_text(out, (anx_text) { text.data, text.size });
    anx_buffer_printf(out, ",\"query_id\":%llu,\"query_start\":\"%s.%03d\",\"state\":\"in_progress\"}",
                      (unsigned long long) call->id, when, (int) (call->started_at_ms % 1000));
    anx_buffer_fini(&text);
}

/* Calls stay in the list until stats_end, which takes the lock: so their queries live as long as it is held.
 */
anx_status
stats_print_activity(struct database *db, anx_buffer *out, anx_error *err)
{
    (void) err;
    if (!atomic_load(&db->settings->activitystats))
        return ANX_OK;
    pthread_mutex_lock(&db->stats->lock);
    for (const struct stats_call *call = db->stats->running; call; call = call->next)
        print_call(call, out);
    pthread_mutex_unlock(&db->stats->lock);
    return ANX_OK;
}

static void
metric_lines(struct database *db, struct ns_counters *ns, const char *kind, struct counter *counter,
             anx_buffer *out)
{
    roll_second(counter, (int64_t) (anx_clock_ns() / 1000000000u));
    anx_buffer_printf(out, "reindexer_qps_total{db=\"%s\",ns=\"%s\",query=\"%s\"} %llu\n", db->name, ns->name,
                      kind, (unsigned long long) counter->last_n);
    anx_buffer_printf(out, "reindexer_avg_latency{db=\"%s\",ns=\"%s\",query=\"%s\"} %.6f\n", db->name,
                      ns->name, kind, average(counter->last_us, counter->last_n) / 1e6);
}

void
stats_print_metrics(struct database *db, anx_buffer *out)
{
    if (!atomic_load(&db->settings->perfstats))
        return;
    pthread_mutex_lock(&db->stats->lock);
    for (struct ns_counters *ns = db->stats->namespaces; ns; ns = ns->next) {
        metric_lines(db, ns, "select", &ns->selects, out);
        metric_lines(db, ns, "update", &ns->updates, out);
    }
    pthread_mutex_unlock(&db->stats->lock);
}
