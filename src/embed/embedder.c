/* Embedders; see the header. Locks: embedder->lock, a leaf, for counters. */
#include "embed/embedder.h"

#include <pthread.h>
#include <stdatomic.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "doc/json.h"

/* A sum of times in microseconds, of all time and by second. */
struct meter {
    uint64_t n, sum, min, max;
    int64_t second;
    uint64_t now_n, now_sum, last_n, last_sum;
};
struct counters {
    struct meter calls;     /* whole calls, caches included: one per embedder_run */
    struct meter documents; /* inputs; its times mean nothing */
    struct meter errors;
    struct meter waits;     /* for a connection */
    struct meter embeds;    /* requests */
    struct meter hits;      /* answers of the cache */
    struct meter in_use;    /* connections in use, when a request begins */
    uint64_t cache_queries, cache_hits, in_bytes, out_bytes;
};
struct embedder {
    _Atomic uint32_t references;
    uint64_t id;
    struct embed_client *client;
    struct embed_cache *cache; /* NULL: no tag */
    char *cache_tag;           /* owned */
    bool is_query;
    char kind; /* of cache keys */
    size_t batch;
    pthread_mutex_t lock;
    struct counters counters; /* guarded by lock, as the next */
    bool is_failing;
    anx_status last_status;
    char last_message[256];
};

static _Atomic uint64_t next_id = 1;
static _Atomic uint64_t next_owner = 1;

/* ---- Life ---- */

anx_status
embedder_create(const struct embedder_params *params, struct embed_caches *caches, struct embedder **out,
                anx_error *err)
{
    struct embedder *e = anx_alloc_zeroed(NULL, 1, sizeof(*e));
    size_t tag_size = params->cache_tag ? strlen(params->cache_tag) : 0;
    anx_status st;

    *out = NULL;
    if (!e)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an embedder");
    atomic_init(&e->references, 1);
    pthread_mutex_init(&e->lock, NULL);
    e->id = atomic_fetch_add(&next_id, 1);
    e->is_query = params->is_query;
    e->kind = params->is_query ? 't' : 'j';
    e->batch = params->batch ? params->batch : EMBED_BATCH_DEFAULT;
    e->cache_tag = anx_alloc_zeroed(NULL, tag_size + 1, 1);
    st = e->cache_tag ? embed_client_create(&params->client, &e->client, err)
                      : anx_fail(err, ANX_E_NOMEM, "could not allocate an embedder");
    if (st != ANX_OK) {
        embedder_release(e);
        return st;
    }
    if (tag_size > 0) {
        memcpy(e->cache_tag, params->cache_tag, tag_size);
        e->cache = embed_caches_get(caches, (anx_text) { e->cache_tag, tag_size });
    }
    *out = e;
    return ANX_OK;
}

struct embedder *
embedder_acquire(struct embedder *embedder)
{
    atomic_fetch_add(&embedder->references, 1);
    return embedder;
}

void
embedder_release(struct embedder *embedder)
{
    if (!embedder || atomic_fetch_sub(&embedder->references, 1) != 1)
        return;
    embed_client_destroy(embedder->client);
    pthread_mutex_destroy(&embedder->lock);
    anx_free(NULL, embedder->cache_tag);
    anx_free(NULL, embedder);
}

uint64_t
embedder_id(const struct embedder *embedder)
{
    return embedder->id;
}

const char *
embedder_url(const struct embedder *embedder)
{
    return embed_client_url(embedder->client);
}

/* ---- Counting ---- */

static void
roll(struct meter *m)
{
    int64_t second = (int64_t) (anx_clock_ns() / 1000000000u);

    if (m->second == second)
        return;
    m->last_n = m->second + 1 == second ? m->now_n : 0;
    m->last_sum = m->second + 1 == second ? m->now_sum : 0;
    m->now_n = m->now_sum = 0;
    m->second = second;
}

static void
measure(struct meter *m, uint64_t n, uint64_t value)
{
    if (n == 0)
        return;
    roll(m);
    if (m->n == 0 || value < m->min)
        m->min = value;
    if (value > m->max)
        m->max = value;
    m->n += n;
    m->sum += value;
    m->now_n += n;
    m->now_sum += value;
}

static uint64_t
us_since(uint64_t start_ns)
{
    return (anx_clock_ns() - start_ns) / 1000;
}

static void
note_result(struct embedder *e, anx_status st, const anx_error *err)
{
    pthread_mutex_lock(&e->lock);
    e->is_failing = st != ANX_OK;
    if (st != ANX_OK) {
        e->last_status = st;
        memcpy(e->last_message, err->message, sizeof(e->last_message));
        measure(&e->counters.errors, 1, 0);
    }
    pthread_mutex_unlock(&e->lock);
}

static void
note_request(struct embedder *e, const struct embed_traffic *traffic, unsigned in_use, uint64_t us)
{
    pthread_mutex_lock(&e->lock);
    measure(&e->counters.waits, 1, traffic->wait_ns / 1000);
    measure(&e->counters.embeds, 1, us);
    measure(&e->counters.in_use, 1, in_use);
    e->counters.in_bytes += traffic->in_bytes;
    e->counters.out_bytes += traffic->out_bytes;
    pthread_mutex_unlock(&e->lock);
}

/* ---- A batch ---- */

struct batch {
    struct embedder *e;
    const struct embed_call *call;
    anx_arena *arena;
    struct embed_input *inputs; /* [n] */
    size_t n;
    uint32_t dim;
    uint64_t owner;
    uint32_t *from;     /* [n]: which of the questions answers the input; UINT32_MAX: the cache did */
    bool *is_kept;      /* [n] */
    uint32_t *asked;    /* [n_ask]: input of a question */
    anx_text *sources;  /* [n_ask] */
    struct embed_vectors *answers; /* [n_ask] */
    size_t n_ask;
};

/* What the cache has, what the batch itself will have, and what is to be asked. */
static void
plan(struct batch *b)
{
    uint64_t start = anx_clock_ns();
    uint64_t n_hit = 0;

    for (size_t i = 0; i < b->n; i++) {
        struct embed_input *input = &b->inputs[i];
        uint32_t place = (uint32_t) b->n_ask;
        enum embed_cache_answer answer =
            embed_cache_find(b->e->cache, b->e->kind, input->source, b->owner, b->dim, &place, &b->is_kept[i],
                             b->arena, &input->vectors);

        if (answer == CACHE_OWN && !anx_text_equal(b->sources[place], input->source))
            answer = CACHE_ASK; /* another source of the same hash */
        b->from[i] = answer == CACHE_HIT ? UINT32_MAX : place;
        n_hit += answer != CACHE_ASK;
        if (answer != CACHE_ASK)
            continue;
        b->from[i] = (uint32_t) b->n_ask;
        b->asked[b->n_ask] = (uint32_t) i;
        b->sources[b->n_ask++] = input->source;
    }
    pthread_mutex_lock(&b->e->lock);
    b->e->counters.cache_queries += b->e->cache ? b->n : 0;
    b->e->counters.cache_hits += n_hit;
    measure(&b->e->counters.hits, n_hit, n_hit ? us_since(start) : 0);
    pthread_mutex_unlock(&b->e->lock);
}

/* One request for questions [first, first + n). */
static anx_status
ask(struct batch *b, size_t first, size_t n, bool *may_split, anx_error *err)
{
    struct embed_traffic traffic = { 0 };
    uint64_t start = anx_clock_ns();
    anx_buffer body, reply;
    long status = 0;
    anx_status st;

    anx_buffer_init(&body, NULL, SIZE_MAX);
    anx_buffer_init(&reply, NULL, SIZE_MAX);
    embed_request_print(b->sources + first, n, &body);
    if (body.failed)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a request to an embedding service");
    else
        st = embed_client_post(b->e->client, b->e->is_query, b->call, (anx_text){ body.data, body.size }, n,
                               &reply, &status, &traffic, err);
    note_request(b->e, &traffic, embed_client_in_use(b->e->client) + 1, us_since(start));
    *may_split = status != 0; /* there was an answer, of whatever kind */
    if (st == ANX_E_SERVICE) {
        char cause[sizeof(err->message)];

        memcpy(cause, err->message, sizeof(cause));
        (void) anx_fail(err, st, "Problem with client: %s", cause);
    }
    if (st == ANX_OK)
        st = embed_reply_read((anx_text) { reply.data ? reply.data : "", reply.size }, n, b->dim, b->arena,
                              b->answers + first, err);
    anx_buffer_fini(&body);
    anx_buffer_fini(&reply);
    return st;
}

/* All questions; *n_answered: how many of them have an answer. */
static anx_status
ask_all(struct batch *b, size_t *n_answered, anx_error *err)
{
    bool may_split = false;
    anx_status st = ask(b, 0, b->n_ask, &may_split, err);

    *n_answered = st == ANX_OK ? b->n_ask : 0;
    if (st == ANX_OK || b->n_ask == 1 || !may_split || st == ANX_E_NOMEM)
        return st;
    for (st = ANX_OK; st == ANX_OK && *n_answered < b->n_ask; *n_answered += st == ANX_OK)
        st = ask(b, *n_answered, 1, &may_split, err);
    return st;
}

/* Gives answers to inputs and to the cache; *n_done: inputs that have a status. */
static void
settle(struct batch *b, anx_status st, size_t n_answered, size_t *n_done)
{
    struct embed_cache *cache = b->e->cache;
    bool is_open = true;

    for (size_t q = 0; cache && q < b->n_ask; q++) {
        bool is_good = q < n_answered && (b->answers[q].floats || b->answers[q].n == 0);

        if (!b->is_kept[b->asked[q]])
            continue;
        if (is_good && b->answers[q].n > 0)
            embed_cache_store(cache, b->e->kind, b->sources[q], b->owner, &b->answers[q]);
        else
            embed_cache_forget(cache, b->e->kind, b->sources[q], b->owner);
    }
    for (size_t i = 0; is_open && i < b->n; i++) {
        struct embed_input *input = &b->inputs[i];

        input->status = ANX_OK;
        if (b->from[i] != UINT32_MAX && b->from[i] >= n_answered) {
            input->status = st;
            is_open = false; /* whoever asks one by one stops here */
        } else if (b->from[i] != UINT32_MAX) {
            input->vectors = b->answers[b->from[i]];
        }
        ++*n_done;
    }
}

static anx_status
run_batch(struct batch *b, size_t *n_done, anx_error *err)
{
    size_t n_answered = 0;
    anx_status st = ANX_OK;

    b->n_ask = 0;
    b->owner = atomic_fetch_add(&next_owner, 1);
    plan(b);
    if (b->n_ask > 0) {
        if (b->call->blocking && !b->call->blocking(b->call->blocking_context, true)) {
            st = anx_fail(err, ANX_E_BUSY,
                          "Problem with client: too many requests wait for embedding services");
        } else {
            st = ask_all(b, &n_answered, err);
            if (b->call->blocking)
                (void) b->call->blocking(b->call->blocking_context, false);
        }
        note_result(b->e, st, err);
    }
    settle(b, st, n_answered, n_done);
    return st;
}

/* How many inputs go into the next request. */
static size_t
batch_size(const struct embedder *e, const struct embed_input *inputs, size_t n)
{
    size_t size = 0, bytes = 0;

    while (size < n && size < e->batch &&
           (size == 0 || bytes + inputs[size].source.size <= EMBED_BATCH_BYTES))
        bytes += inputs[size++].source.size;
    return size;
}

anx_status
embedder_run(struct embedder *embedder, struct embed_input *inputs, size_t n, uint32_t dim,
             const struct embed_call *call, anx_arena *arena, size_t *n_done, anx_error *err)
{
    size_t room = n < embedder->batch ? n : embedder->batch;
    struct batch b = { .e = embedder, .call = call, .arena = arena, .dim = dim };
    uint64_t start = anx_clock_ns();
    anx_error own_err;
    anx_status st = ANX_OK;

    *n_done = 0;
    if (n == 0)
        return ANX_OK;
    if (!err)
        err = &own_err;
    b.from = anx_arena_array(arena, room, sizeof(*b.from));
    b.is_kept = anx_arena_array(arena, room, sizeof(*b.is_kept));
    b.asked = anx_arena_array(arena, room, sizeof(*b.asked));
    b.sources = anx_arena_array(arena, room, sizeof(*b.sources));
    b.answers = anx_arena_array(arena, room, sizeof(*b.answers));
    if (!b.from || !b.is_kept || !b.asked || !b.sources || !b.answers)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a batch of %zu inputs", room);
    while (st == ANX_OK && *n_done < n) {
        b.inputs = inputs + *n_done;
        b.n = batch_size(embedder, b.inputs, n - *n_done);
        st = run_batch(&b, n_done, err);
    }
    pthread_mutex_lock(&embedder->lock);
    measure(&embedder->counters.calls, 1, us_since(start));
    measure(&embedder->counters.documents, *n_done, 0);
    pthread_mutex_unlock(&embedder->lock);
    return st;
}

/* ---- Showing ---- */

static uint64_t
average(uint64_t sum, uint64_t n)
{
    return n ? sum / n : 0;
}

void
embedder_print_status(struct embedder *e, anx_buffer *out)
{
    pthread_mutex_lock(&e->lock);
    anx_buffer_printf(out,
                      "{\"status\":{\"last_request_result\":\"%s\",\"last_error\":{\"code\":%d,\"message\":",
                      e->is_failing ? "ERROR" : "OK", anx_status_rpc(e->last_status));
    json_print_text(out, anx_text_of(e->last_message));
    anx_buffer_text(out, ANX_TEXT("}}}"));
    pthread_mutex_unlock(&e->lock);
}

static void
print_meter(struct meter *m, const char *what, bool with_bounds, anx_buffer *out)
{
    roll(m);
    anx_buffer_printf(out, ",\"total_avg_%slatency_us\":%llu,\"last_sec_avg_%slatency_us\":%llu", what,
                      (unsigned long long) average(m->sum, m->n), what,
                      (unsigned long long) average(m->last_sum, m->last_n));
    if (with_bounds)
        anx_buffer_printf(out, ",\"max_%slatency_us\":%llu,\"min_%slatency_us\":%llu", what,
                          (unsigned long long) m->max, what, (unsigned long long) m->min);
}

void
embedder_print_perf(struct embedder *e, anx_buffer *out)
{
    bool is_active = e->cache && embed_cache_is_active(e->cache);
    unsigned in_use = embed_client_in_use(e->client);
    struct counters *c = &e->counters;

    pthread_mutex_lock(&e->lock);
    roll(&c->calls);
    roll(&c->documents);
    roll(&c->errors);
    roll(&c->in_use);
    anx_buffer_char(out, '{');
    if (e->cache) {
        anx_buffer_text(out, ANX_TEXT("\"cache\":{\"cache_tag\":"));
        json_print_text(out, anx_text_of(e->cache_tag));
        anx_buffer_printf(out, ",\"is_active\":%s,\"total_queries\":%llu,\"cache_hit_rate\":",
                          is_active ? "true" : "false", (unsigned long long) c->cache_queries);
        json_print_double(out, c->cache_queries ? (double) c->cache_hits / (double) c->cache_queries : 0);
        anx_buffer_text(out, ANX_TEXT("},"));
    }
    anx_buffer_printf(
        out,
        "\"total_queries_count\":%llu,\"total_embed_documents_count\":%llu,\"last_sec_qps\":%llu,"
        "\"last_sec_dps\":%llu,\"total_errors_count\":%llu,\"last_sec_errors_count\":%llu,\"conn_in_use\":%u,"
        "\"last_sec_avg_conn_in_use\":%llu",
        (unsigned long long) c->calls.n, (unsigned long long) c->documents.n,
        (unsigned long long) c->calls.last_n, (unsigned long long) c->documents.last_n,
        (unsigned long long) c->errors.n, (unsigned long long) c->errors.last_n, in_use,
        (unsigned long long) average(c->in_use.last_sum, c->in_use.last_n));
    print_meter(&c->calls, "", true, out);
    print_meter(&c->waits, "conn_await_", false, out);
    print_meter(&c->embeds, "embed_", true, out);
    print_meter(&c->hits, "cache_", true, out);
    anx_buffer_printf(out, ",\"input_traffic_total_bytes\":%llu,\"output_traffic_total_bytes\":%llu}",
                      (unsigned long long) c->in_bytes, (unsigned long long) c->out_bytes);
    pthread_mutex_unlock(&e->lock);
}

void
embedder_reset_perf(struct embedder *e)
{
    pthread_mutex_lock(&e->lock);
    e->counters = (struct counters) { .cache_queries = 0 };
    pthread_mutex_unlock(&e->lock);
}

void
embedder_read_gauges(struct embedder *e, struct embedder_gauges *out)
{
    struct counters *c = &e->counters;
    unsigned in_use = embed_client_in_use(e->client);

    pthread_mutex_lock(&e->lock);
    roll(&c->calls);
    roll(&c->documents);
    roll(&c->errors);
    roll(&c->embeds);
    *out = (struct embedder_gauges) {
        .qps = c->calls.last_n,
        .dps = c->documents.last_n,
        .errors = c->errors.last_n,
        .latency_us = average(c->calls.last_sum, c->calls.last_n),
        .embed_latency_us = average(c->embeds.last_sum, c->embeds.last_n),
        .connections = in_use,
        .in_bytes = c->in_bytes,
        .out_bytes = c->out_bytes,
    };
    pthread_mutex_unlock(&e->lock);
}

void
embedder_inherit(struct embedder *e, struct embedder *before)
{
    struct counters counters;

    pthread_mutex_lock(&before->lock);
    counters = before->counters;
    pthread_mutex_unlock(&before->lock);
    pthread_mutex_lock(&e->lock);
    e->counters = counters;
    pthread_mutex_unlock(&e->lock);
}
