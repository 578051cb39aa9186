/* See recall.h. First the index answers every query, then one scan over the rows answers all of them exactly,
 * block by block: a block of vectors stays in the cache while each query is compared with it. */
#include "db/recall.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "db/sample.h"
#include "kernel/kernel.h"

/* A block is half a megabyte, which second-level caches hold, or one document. */
enum { BLOCK_FLOATS = 1 << 17, BLOCK_ROWS = 16384, EF_MAX = 65535 };
#define SAME_DISTANCE 1e-5f /* relative: rounding of the index's own arithmetic */

struct hit {
    float distance; /* smaller is nearer */
    uint32_t row;
};
struct measure {
    struct vector_view view;
    const struct recall_params *params;
    const struct db_session *session;
    anx_arena *arena, *scratch; /* scratch: of one search */
    struct query_knn knn;
    anx_metric metric;
    const anx_kernels *kernels;
    size_t dim, k, n;    /* n queries */
    size_t n_vector;
    bool has_radius;
    float radius; /* a rank */
    uint32_t *rows;      /* [n] */
    float *queries;      /* [n * dim]; of length one for cosine once the index has answered */
    struct hit *exact;   /* [n * k], ascending; n_exact of them */
    size_t *n_exact;     /* [n] */
    uint32_t *found;     /* [n * k] rows that the index gave; n_found of them */
    size_t *n_found;     /* [n] */
    double *index_us, *exact_us; /* [n] */
    anx_buffer room;     /* the vectors of one row */
    anx_buffer floats, owners, distances; /* of a block: vectors, whose they are, and of one query */
};

/* ---- Parameters ---- */

static anx_status
check_range(const char *name, size_t value, size_t least, size_t most, anx_error *err)
{
    if (value >= least && value <= most)
        return ANX_OK;
    return anx_fail(err, ANX_E_PARAMS, "'%s' is %zu, it must be %zu to %zu", name, value, least, most);
}

static anx_status
check_kind(struct measure *m, struct recall_result *out, anx_error *err)
{
    const struct vector_index *v = m->view.index;
    const anx_index_params *own = anx_index_get_params(v->ann);
    enum index_type type = v->def->index_type;
    anx_status st = ANX_OK;

    out->kind = type == INDEX_HNSW ? "hnsw" : type == INDEX_IVF ? "ivf" : "flat";
    if (m->params->ef > 0 && type != INDEX_HNSW)
        return anx_fail(err, ANX_E_PARAMS, "'ef' is for hnsw indexes, index '%.*s' is %s",
                        ANX_TEXT_ARG(m->view.name), out->kind);
    if (m->params->nprobe > 0 && type != INDEX_IVF)
        return anx_fail(err, ANX_E_PARAMS, "'nprobe' is for ivf indexes, index '%.*s' is %s",
                        ANX_TEXT_ARG(m->view.name), out->kind);
    if (m->params->ef > 0)
        st = check_range("ef", m->params->ef, m->k, EF_MAX, err);
    if (st == ANX_OK && m->params->nprobe > 0)
        st = check_range("nprobe", m->params->nprobe, 1, own->centroids, err);
    out->ef = m->params->ef > 0 ? m->params->ef : m->k < VECTOR_EF_DEFAULT ? VECTOR_EF_DEFAULT : m->k + 1;
    if (type != INDEX_HNSW)
        out->ef = 0;
    out->nprobe = type != INDEX_IVF ? 0 : m->params->nprobe > 0 ? m->params->nprobe : own->nprobe;
    return st;
}

static anx_status
check_work(const struct measure *m, size_t queries, anx_error *err)
{
    uint64_t each = (uint64_t) m->n_vector * m->dim;

    if (m->n_vector == 0)
        return anx_fail(err, ANX_E_PARAMS, "index '%.*s' holds no vectors", ANX_TEXT_ARG(m->view.name));
    if (each > 0 && queries > RECALL_WORK_MAX / each)
        return anx_fail(err, ANX_E_PARAMS,
                        "'queries' is %zu, with %zu vectors of %zu components it may be at most %llu",
                        queries, m->n_vector, m->dim, (unsigned long long) (RECALL_WORK_MAX / each));
    return ANX_OK;
}

static anx_status
prepare(struct measure *m, struct recall_result *out, anx_error *err)
{
    const struct vector_index *v;
    size_t queries = m->params->queries > 0 ? m->params->queries : RECALL_QUERIES_DEFAULT;
    anx_status st;

    m->k = m->params->k > 0 ? m->params->k : RECALL_K_DEFAULT;
    st = check_range("k", m->k, 1, RECALL_K_MAX, err);
    if (st == ANX_OK)
        st = check_range("queries", queries, 1, RECALL_QUERIES_MAX, err);
    if (st == ANX_OK)
        st = vector_view_lock(&m->view, err);
    if (st != ANX_OK)
        return st;
    v = m->view.index;
    m->dim = v->dim;
    m->metric = v->metric;
    m->n_vector = v->n_vector;
    m->has_radius = v->def->vector.has_radius;
    m->radius = v->def->vector.radius;
    st = check_kind(m, out, err);
    vector_view_unlock(&m->view);
    if (st == ANX_OK)
        st = check_work(m, queries, err);
    m->n = queries;
    m->kernels = anx_kernels_best();
    m->knn = (struct query_knn) { .dim = m->dim, .has_k = true, .k = m->k + 1 };
    m->knn.has_ef = m->params->ef > 0;
    m->knn.ef = m->params->ef > m->k ? m->params->ef : m->k + 1; /* what the index makes of it anyway */
    m->knn.has_nprobe = m->params->nprobe > 0;
    m->knn.nprobe = m->params->nprobe;
    return st;
}

static anx_status
take_queries(struct measure *m, anx_error *err)
{
    struct vector_sample sample;
    size_t n = 0;
    anx_status st = vector_view_sample(&m->view, m->n, m->params->seed, m->session, m->arena, &sample, err);

    if (st != ANX_OK)
        return st;
    m->rows = sample.rows;
    m->queries = anx_arena_array(m->arena, sample.n + 1, m->dim * sizeof(float));
    m->exact = anx_arena_array(m->arena, sample.n + 1, m->k * sizeof(*m->exact));
    m->found = anx_arena_array(m->arena, sample.n + 1, (m->k + 1) * sizeof(*m->found));
    m->n_exact = anx_arena_array(m->arena, sample.n + 1, sizeof(size_t));
    m->n_found = anx_arena_array(m->arena, sample.n + 1, sizeof(size_t));
    m->index_us = anx_arena_array(m->arena, sample.n + 1, sizeof(double));
    m->exact_us = anx_arena_array(m->arena, sample.n + 1, sizeof(double));
    if (!m->queries || !m->exact || !m->found || !m->n_exact || !m->n_found || !m->index_us || !m->exact_us)
        return anx_fail(err, ANX_E_NOMEM, "no memory for %zu queries", sample.n);
    for (size_t i = 0; st == ANX_OK && i < sample.n; i++) {
        st = vector_view_lock(&m->view, err);
        if (st != ANX_OK)
            break;
        m->rows[n] = sample.rows[i];
        n += vector_view_floats(&m->view, sample.rows[i], &m->room, m->queries + n * m->dim);
        vector_view_unlock(&m->view);
    }
    m->n = n;
    return st;
}

/* ---- The index's answers ---- */

static anx_status
ask_index(struct measure *m, size_t i, anx_error *err)
{
    struct vector_hit *hits;
    uint64_t start_ns;
    size_t n;
    anx_status st = vector_view_lock(&m->view, err);

    if (st != ANX_OK)
        return st;
    anx_arena_reset(m->scratch);
    m->knn.vector = m->queries + i * m->dim;
    start_ns = anx_clock_ns();
    st = vector_search(m->view.index, &m->knn, NULL, 0, m->session, m->scratch, &hits, &n, err);
    m->index_us[i] = (double) (anx_clock_ns() - start_ns) / 1e3;
    for (size_t h = 0; st == ANX_OK && h < n && m->n_found[i] < m->k; h++)
        if (hits[h].row != m->rows[i])
            m->found[i * m->k + m->n_found[i]++] = hits[h].row;
    vector_view_unlock(&m->view);
    return st;
}

/* ---- The exact answers ---- */

/* Cosine is the dot product of vectors of length one; zero vectors stay, at distance 1 from all. */
static void
normalize(const struct measure *m, float *rows, size_t n)
{
    for (size_t i = 0; m->metric == ANX_METRIC_COSINE && i < n; i++) {
        double length = 0;

        for (size_t t = 0; t < m->dim; t++)
            length += (double) rows[i * m->dim + t] * (double) rows[i * m->dim + t];
        length = sqrt(length);
        for (size_t t = 0; length > 0 && t < m->dim; t++)
            rows[i * m->dim + t] = (float) ((double) rows[i * m->dim + t] / length);
    }
}

/* Distances of query i to n rows, which are normalized. */
static void
measure_rows(const struct measure *m, size_t i, const float *rows, size_t n, float *out)
{
    const float *query = m->queries + i * m->dim;

    if (m->metric == ANX_METRIC_L2)
        m->kernels->l2_f32_rows(query, rows, n, m->dim, out);
    else
        m->kernels->ip_f32_rows(query, rows, n, m->dim, out);
    for (size_t j = 0; m->metric == ANX_METRIC_COSINE && j < n; j++)
        out[j] += 1;
}

static void
keep(struct measure *m, size_t i, struct hit hit)
{
    struct hit *list = m->exact + i * m->k;
    size_t at = m->n_exact[i];

    if (at == m->k && hit.distance >= list[at - 1].distance)
        return;
    if (at < m->k)
        m->n_exact[i]++;
    else
        at--;
    for (; at > 0 && list[at - 1].distance > hit.distance; at--)
        list[at] = list[at - 1];
    list[at] = hit;
}

/* Vectors of one document follow each other in a block: the best of them stands for it. */
static void
compare_block(struct measure *m, size_t i, size_t n)
{
    const uint32_t *owners = (const uint32_t *) (const void *) m->owners.data;
    float *distances = (float *) (void *) m->distances.data;
    uint64_t start_ns = anx_clock_ns();

    measure_rows(m, i, (const float *) (const void *) m->floats.data, n, distances);
    for (size_t at = 0; at < n;) {
        struct hit hit = { INFINITY, owners[at] };

        for (; at < n && owners[at] == hit.row; at++)
            hit.distance = fminf(hit.distance, distances[at]);
        if (hit.row == m->rows[i])
            continue;
        if (m->has_radius) {
            float rank = vector_rank(m->metric, hit.distance);

            if (m->metric == ANX_METRIC_L2 ? rank >= m->radius : rank <= m->radius)
                continue;
        }
        keep(m, i, hit);
    }
    m->exact_us[i] += (double) (anx_clock_ns() - start_ns) / 1e3;
}

/* The vectors of the next rows, side by side, as compare_block wants them; all of a row. *n: vectors; *row
 * moves on. */
static anx_status
read_block(struct measure *m, uint32_t *row, size_t *n, bool *is_through, anx_error *err)
{
    size_t most = BLOCK_FLOATS / m->dim > 0 ? BLOCK_FLOATS / m->dim : 1, end;
    anx_status st = vector_view_lock(&m->view, err);

    *n = 0;
    m->floats.size = m->owners.size = 0;
    if (st != ANX_OK)
        return st;
    end = chunks_end(&m->view.index->cells);
    for (size_t looked = 0; *row < end && looked < BLOCK_ROWS; looked++) {
        uint32_t cell = vector_cell(m->view.index, *row), count = cell >> 1;
        size_t size = count * m->dim * sizeof(float);
        char *room;

        if (*n > 0 && *n + count > most)
            break;
        room = count > 0 ? anx_buffer_reserve(&m->floats, size) : NULL;
        if (room && vector_floats(m->view.index, *row, cell, (float *) (void *) room)) {
            m->floats.size += size;
            *n += count;
            for (uint32_t p = 0; p < count; p++)
                anx_buffer_bytes(&m->owners, row, sizeof(*row));
        }
        ++*row;
    }
    *is_through = *row >= end;
    vector_view_unlock(&m->view);
    m->distances.size = 0;
    (void) anx_buffer_reserve(&m->distances, *n * sizeof(float));
    if (m->floats.failed || m->owners.failed || m->distances.failed)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a block of vectors");
    normalize(m, (float *) (void *) m->floats.data, *n);
    return ANX_OK;
}

static anx_status
scan(struct measure *m, anx_error *err)
{
    bool is_through = false;
    uint32_t row = 0;
    anx_status st = ANX_OK;

    normalize(m, m->queries, m->n);
    while (st == ANX_OK && !is_through) {
        size_t n = 0;

        st = read_block(m, &row, &n, &is_through, err);
        for (size_t i = 0; st == ANX_OK && n > 0 && i < m->n; i++) {
            compare_block(m, i, n);
            if (i % 16 == 0)
                st = db_session_check(m->session, err);
        }
    }
    return st;
}

/* ---- The result ---- */

static float
distance_of(struct measure *m, size_t i, uint32_t row)
{
    uint32_t cell = vector_cell(m->view.index, row), n = cell >> 1;
    float best = INFINITY;
    float *floats, *distances;

    m->floats.size = m->distances.size = 0;
    floats = (float *) (void *) anx_buffer_reserve(&m->floats, (size_t) n * m->dim * sizeof(float));
    distances = (float *) (void *) anx_buffer_reserve(&m->distances, n * sizeof(float));
    if (n == 0 || !floats || !distances || !vector_floats(m->view.index, row, cell, floats))
        return INFINITY;
    normalize(m, floats, n);
    measure_rows(m, i, floats, n, distances);
    for (uint32_t p = 0; p < n; p++)
        best = fminf(best, distances[p]);
    return best;
}

/* How many of a query's exact answers were found. */
static anx_status
count_found(struct measure *m, size_t i, size_t *out, anx_error *err)
{
    const struct hit *exact = m->exact + i * m->k;
    size_t n = m->n_exact[i];
    float last = n > 0 ? exact[n - 1].distance : 0;
    anx_status st = vector_view_lock(&m->view, err);

    *out = 0;
    if (st != ANX_OK)
        return st;
    for (size_t f = 0; f < m->n_found[i] && *out < n; f++) {
        size_t at = 0;

        while (at < n && exact[at].row != m->found[i * m->k + f])
            at++;
        if (at < n || distance_of(m, i, m->found[i * m->k + f]) <= last + SAME_DISTANCE * fabsf(last))
            ++*out;
    }
    vector_view_unlock(&m->view);
    return ANX_OK;
}

static int
compare_times(const void *a, const void *b)
{
    double x = *(const double *) a, y = *(const double *) b;

    return (x > y) - (x < y);
}

static void
sum_times(double *times, size_t n, double out[2])
{
    qsort(times, n, sizeof(*times), compare_times);
    out[0] = n > 0 ? times[n / 2] : 0;
    out[1] = n > 0 ? times[n - 1 - n / 100] : 0;
}

static anx_status
sum_up(struct measure *m, struct recall_result *out, anx_error *err)
{
    size_t found = 0, whole = 0;

    out->worst = 1;
    for (size_t i = 0; i < m->n; i++) {
        size_t n;
        anx_status st = count_found(m, i, &n, err);

        if (st != ANX_OK)
            return st;
        found += n;
        whole += m->n_exact[i];
        if (m->n_exact[i] > 0)
            out->worst = fmin(out->worst, (double) n / (double) m->n_exact[i]);
    }
    out->recall = whole > 0 ? (double) found / (double) whole : 1;
    sum_times(m->index_us, m->n, out->index_us);
    sum_times(m->exact_us, m->n, out->exact_us);
    return ANX_OK;
}

static anx_status
run(struct measure *m, struct recall_result *out, anx_error *err)
{
    anx_status st = prepare(m, out, err);

    if (st == ANX_OK)
        st = take_queries(m, err);
    for (size_t i = 0; st == ANX_OK && i < m->n; i++) {
        st = db_session_check(m->session, err);
        if (st == ANX_OK)
            st = ask_index(m, i, err);
    }
    if (st == ANX_OK)
        st = scan(m, err);
    return st == ANX_OK ? sum_up(m, out, err) : st;
}

/* data_lock for a moment: a note of a few bytes, which readers of the index's state read under it. */
static void
remember(struct measure *m, const struct recall_result *result)
{
    struct ns *ns = m->view.ns;

    pthread_rwlock_wrlock(&ns->data_lock);
    for (size_t i = 0; i < ns->n_index; i++)
        if (ns->indexes[i].vector && ns->indexes[i].vector->serial == m->view.serial)
            ns->indexes[i].vector->recall = (struct recall_note) {
                .recall = result->recall,
                .k = result->k,
                .ef = result->ef,
                .nprobe = result->nprobe,
                .queries = result->queries,
                .vectors = result->vectors,
                .measured_at = (int64_t) time(NULL),
            };
    pthread_rwlock_unlock(&ns->data_lock);
}

anx_status
db_recall(struct database *db, anx_text ns, const struct recall_params *params,
          const struct db_session *session, struct recall_result *out, anx_error *err)
{
    struct measure m = { .params = params, .session = session, .arena = anx_arena_create(NULL, 0) };
    uint64_t start_ns = anx_clock_ns();
    bool is_first = !atomic_exchange(&db->engine->is_measuring, true);
    anx_status st;

    *out = (struct recall_result) { .seed = params->seed };
    m.scratch = anx_arena_create(NULL, 0);
    anx_buffer_init(&m.room, NULL, SIZE_MAX);
    anx_buffer_init(&m.floats, NULL, SIZE_MAX);
    anx_buffer_init(&m.owners, NULL, SIZE_MAX);
    anx_buffer_init(&m.distances, NULL, SIZE_MAX);
    if (!is_first)
        st = anx_fail(err, ANX_E_BUSY, "recall is being measured already; try again when that has ended");
    else if (!m.arena || !m.scratch)
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    else
        st = vector_view_open(db, ns, params->index, m.arena, &m.view, err);
    if (st == ANX_OK)
        st = run(&m, out, err);
    if (st == ANX_OK) {
        (void) snprintf(out->index, sizeof(out->index), "%.*s", ANX_TEXT_ARG(m.view.name));
        out->k = m.k;
        out->queries = m.n;
        out->vectors = m.n_vector;
        out->seconds = (double) (anx_clock_ns() - start_ns) / 1e9;
        remember(&m, out);
    }
    if (m.view.ns)
        vector_view_close(&m.view);
    anx_buffer_fini(&m.room);
    anx_buffer_fini(&m.floats);
    anx_buffer_fini(&m.owners);
    anx_buffer_fini(&m.distances);
    anx_arena_destroy(m.arena);
    anx_arena_destroy(m.scratch);
    if (is_first)
        atomic_store(&db->engine->is_measuring, false);
    return st;
}
