/* Searching a vector index of a namespace: parameters, filters, radius, and from labels back to rows.
 *
 * A search may meet labels that do not count: of documents that are not published yet, or were replaced.
 * Without a filter they are dropped, and if the answer thereby became short the search is done again for
 * more. With a filter over a scalar field they cannot appear, since the filter holds the current labels. */
#include "db/vector_int.h"

#include <math.h>
#include <stdlib.h>

/* ---- Parameters ---- */

static const char *const type_names[] = { [KNN_BF] = "BruteForceSearchParams",
                                          [KNN_HNSW] = "HnswSearchParams",
                                          [KNN_IVF] = "IvfSearchParams" };

static anx_status
check_numbers(const struct query_knn *knn, anx_error *err)
{
    if (knn->has_k && knn->k == 0)
        return anx_fail(err, ANX_E_QUERY, "KNN limit should not be 0");
    if (knn->has_ef && knn->has_k && knn->ef < knn->k)
        return anx_fail(err, ANX_E_QUERY, "Ef should not be less than k in hnsw query");
    if (knn->has_ef && knn->ef == 0)
        return anx_fail(err, ANX_E_QUERY, "Value of 'ef' - 0 is out of bounds: [1,18446744073709551615]");
    if (knn->has_nprobe && knn->nprobe == 0)
        return anx_fail(err, ANX_E_QUERY, "Nprobe should not be 0");
    return ANX_OK;
}

anx_status
vector_check_knn(const struct vector_index *v, const struct query_knn *knn, bool is_streaming, anx_error *err)
{
    int own = v->def->index_type == INDEX_HNSW  ? KNN_HNSW
              : v->def->index_type == INDEX_IVF ? KNN_IVF
                                                : KNN_BF;
    int given = knn->has_ef ? KNN_HNSW : knn->has_nprobe ? KNN_IVF : (int) knn->kind;
    anx_status st = check_numbers(knn, err);

    if (st != ANX_OK)
        return st;
    if (given != KNN_ANY_KIND && given != own)
        return anx_fail(err, ANX_E_QUERY, "Expected %s but get %s", type_names[own], type_names[given]);
    if (!knn->has_k && !knn->has_radius && own != KNN_HNSW && given != KNN_ANY_KIND)
        return anx_fail(err, ANX_E_QUERY, "K and Radius params can not be empty both");
    if (!knn->has_k && !knn->has_radius && !v->def->vector.has_radius && own != KNN_HNSW)
        return anx_fail(err, ANX_E_QUERY,
                        "KNN query without 'k' and 'radius' (streaming search) is supported for HNSW indexes "
                        "only, but index '%.*s' is not HNSW",
                        ANX_TEXT_ARG(v->def->name));
    if (!is_streaming && !knn->has_k && !knn->has_radius && !v->def->vector.has_radius)
        return anx_fail(err, ANX_E_INTERNAL,
                        "a KNN condition without k and radius came to a search with an end");
    if (knn->dim == 0 || !knn->vector)
        return anx_fail(err, ANX_E_NOT_VALID, "Attempt to search knn by empty float vector");
    if (knn->dim != v->dim)
        return anx_fail(err, ANX_E_NOT_VALID,
                        "Attempt to search vector of dimension %zu in a float vector index of dimension %u",
                        knn->dim, v->dim);
    for (size_t i = 0; i < knn->dim; i++)
        if (!isfinite(knn->vector[i]))
            return anx_fail(err, ANX_E_NOT_VALID,
                            "Attempt to search knn by a vector with a component that is "
                            "not a finite number");
    return ANX_OK;
}

/* ---- Filters ---- */

static bool
accept_row(void *context, uint64_t label)
{
    const struct vector_filter *f = context;
    uint64_t row = label >> (ARRAY_LABEL_BITS + 1);

    return row < f->n_bit && (f->words[row >> 6] >> (row & 63) & 1);
}

static bool
set_filter_bit(uint32_t row, void *context)
{
    struct vector_filter *f = context;
    uint32_t cell = vector_cell(f->index, row);
    uint64_t bit = f->index->is_array ? row : (uint64_t) row * 2 + (cell & 1);

    if (cell > 1 && bit < f->n_bit) {
        f->words[bit >> 6] |= (uint64_t) 1 << (bit & 63);
        f->filter.expected += f->index->is_array ? cell >> 1 : 1;
    }
    return true;
}

anx_status
vector_filter_init(struct vector_filter *filter, const struct vector_index *v,
                   const roaring_bitmap_t *allowed, anx_error *err)
{
    size_t end = roaring_bitmap_is_empty(allowed) ? 0 : (size_t) roaring_bitmap_maximum(allowed) + 1;

    *filter = (struct vector_filter) { .index = v };
    if (end > chunks_end(&v->cells))
        end = chunks_end(&v->cells);
    filter->n_bit = v->is_array ? end : 2 * end;
    filter->words = anx_alloc_zeroed(NULL, filter->n_bit / 64 + 1, sizeof(*filter->words));
    if (!filter->words)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a filter");
    roaring_iterate(allowed, set_filter_bit, filter);
    if (v->is_array) {
        filter->filter.accept = accept_row;
        filter->filter.context = filter;
    } else {
        filter->filter.bitmap = filter->words;
        filter->filter.bits = filter->n_bit;
    }
    return ANX_OK;
}

void
vector_filter_fini(struct vector_filter *filter)
{
    anx_free(NULL, filter->words);
    filter->words = NULL;
}

/* ---- Search ---- */

struct search {
    const struct vector_index *index;
    const struct query_knn *knn;
    const struct db_session *session;
    anx_search_params params;
    struct vector_source source;
    bool has_radius;
    float radius; /* a rank */
    struct vector_hit *hits;
    size_t n;
    size_t n_stale; /* labels dropped */
};

static bool
should_stop(void *context)
{
    return db_session_check(context, NULL) != ANX_OK;
}

static void
set_params(struct search *s, const struct vector_filter *filter)
{
    const struct vector_index *v = s->index;

    s->params = (anx_search_params) ANX_SEARCH_PARAMS_INIT;
    s->params.ef = VECTOR_EF_DEFAULT;
    if (s->knn->has_ef)
        s->params.ef = s->knn->ef < UINT32_MAX ? (size_t) s->knn->ef : UINT32_MAX;
    if (s->knn->has_nprobe)
        s->params.nprobe = s->knn->nprobe < UINT32_MAX ? (size_t) s->knn->nprobe : UINT32_MAX;
    s->source = vector_source_of(v);
    s->params.fetch_context = &s->source;
    if (filter)
        s->params.filter = &filter->filter;
    if (s->session && (s->session->should_stop || s->session->deadline_ns)) {
        s->params.should_stop = should_stop;
        s->params.stop_context = (void *) s->session;
    }
    s->has_radius = s->knn->has_radius || v->def->vector.has_radius;
    s->radius = s->knn->has_radius ? (float) s->knn->radius : v->def->vector.radius;
    if (!s->has_radius)
        return;
    /* The library compares distances; ranks are compared again below, as users see them, so that rounding of
     * 1 - rank cannot move the border. */
    s->params.has_radius = true;
    s->params.radius = v->metric == ANX_METRIC_L2   ? s->radius
                       : v->metric == ANX_METRIC_IP ? -s->radius
                                                    : nextafterf(1 - s->radius + 1e-6f, INFINITY);
}

bool
vector_better(const struct vector_index *index, float a, float b)
{
    return index->metric == ANX_METRIC_L2 ? a < b : a > b;
}

static bool
hit_before(const struct vector_index *v, const struct vector_hit *a, const struct vector_hit *b)
{
    return vector_better(v, a->rank, b->rank) || (a->rank == b->rank && a->row < b->row);
}

/* Labels become rows; what does not count, or is not inside of the radius, is dropped. */
static void
take_hits(struct search *s, const float *distances, const uint64_t *labels, size_t n)
{
    s->n = s->n_stale = 0;
    for (size_t i = 0; i < n && labels[i] != ANX_LABEL_NONE; i++) {
        struct vector_hit hit = { .rank = vector_rank(s->index->metric, distances[i]) };
        size_t at = s->n;

        if (!vector_label_row(s->index, labels[i], &hit.row)) {
            s->n_stale++;
            continue;
        }
        if (s->has_radius && !vector_better(s->index, hit.rank, s->radius))
            continue;
        /* They come in order of distance; equal ranks by row need a look at the few before. */
        for (; at > 0 && hit_before(s->index, &hit, &s->hits[at - 1]); at--)
            s->hits[at] = s->hits[at - 1];
        s->hits[at] = hit;
        s->n++;
    }
}

static int
compare_rows(const void *a, const void *b)
{
    const struct vector_hit *x = *(const struct vector_hit *const *) a,
                            *y = *(const struct vector_hit *const *) b;

    if (x->row != y->row)
        return x->row < y->row ? -1 : 1;
    return x < y ? -1 : 1; /* the earlier is the better one */
}

/* Each row once, with its best vector. */
static anx_status
reduce_rows(struct search *s, anx_arena *arena, anx_error *err)
{
    struct vector_hit **order;
    size_t n = 0;

    if (!s->index->is_array || s->n < 2)
        return ANX_OK;
    order = anx_arena_array(arena, s->n, sizeof(struct vector_hit *));
    if (!order)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu hits", s->n);
    for (size_t i = 0; i < s->n; i++)
        order[i] = &s->hits[i];
    qsort(order, s->n, sizeof(struct vector_hit *), compare_rows);
    for (size_t i = s->n - 1; i > 0; i--)
        if (order[i]->row == order[i - 1]->row)
            order[i]->row = UINT32_MAX;
    for (size_t i = 0; i < s->n; i++)
        if (s->hits[i].row != UINT32_MAX)
            s->hits[n++] = s->hits[i];
    s->n = n;
    return ANX_OK;
}

static anx_status
stopped(const struct search *s, anx_status st, anx_error *err)
{
    anx_status why;

    if (st != ANX_E_CANCELLED)
        return st;
    why = db_session_check(s->session, err);
    return why != ANX_OK ? why : anx_fail(err, ANX_E_CANCELLED, "the search was cancelled");
}

/* The k nearest; with a radius those of them inside. */
static anx_status
search_k(struct search *s, anx_arena *arena, anx_error *err)
{
    size_t count = s->index->n_vector;
    size_t k = s->knn->k < count ? (size_t) s->knn->k : count, want = k;

    while (want > 0) {
        anx_hits hits = { anx_arena_bytes(arena, want * sizeof(float)),
                          anx_arena_bytes(arena, want * sizeof(uint64_t)) };
        anx_status st;
        bool is_full;

        s->hits = anx_arena_bytes(arena, want * sizeof(*s->hits));
        if (!hits.distances || !hits.labels || !s->hits)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu hits", want);
        st = anx_index_search(s->index->ann, &s->params, 1, s->knn->vector, want, &hits, err);
        if (st != ANX_OK)
            return stopped(s, st, err);
        is_full = hits.labels[want - 1] != ANX_LABEL_NONE;
        take_hits(s, hits.distances, hits.labels, want);
        if (s->n >= k || s->n_stale == 0 || !is_full)
            break;
        want += 2 * s->n_stale + 16;
    }
    if (s->n > k)
        s->n = k;
    return ANX_OK;
}

static anx_status
search_range(struct search *s, anx_arena *arena, anx_error *err)
{
    anx_hit_list list = { 0 };
    anx_status st = anx_index_search_range(s->index->ann, &s->params, s->knn->vector, &list, err);

    if (st == ANX_OK && list.n > 0) {
        s->hits = anx_arena_bytes(arena, list.n * sizeof(*s->hits));
        if (s->hits)
            take_hits(s, list.distances, list.labels, list.n);
        else
            st = anx_fail(err, ANX_E_NOMEM, "could not allocate %zu hits", list.n);
    }
    anx_hit_list_free(&list);
    return stopped(s, st, err);
}

anx_status
vector_search(const struct vector_index *index, const struct query_knn *knn, const roaring_bitmap_t *allowed,
              size_t within, const struct db_session *session, anx_arena *arena, struct vector_hit **hits,
              size_t *n, anx_error *err)
{
    struct search s = { .index = index, .knn = knn, .session = session };
    struct vector_filter filter = { 0 };
    anx_status st = vector_check_knn(index, knn, false, err);

    *hits = NULL;
    *n = 0;
    if (st == ANX_OK && allowed)
        st = vector_filter_init(&filter, index, allowed, err);
    if (st != ANX_OK)
        return st;
    set_params(&s, allowed ? &filter : NULL);
    s.params.within = within;
    /* Arrays inside of a radius: k counts documents, so all are needed first. */
    if (s.has_radius && (!knn->has_k || index->is_array))
        st = search_range(&s, arena, err);
    else
        st = search_k(&s, arena, err);
    vector_filter_fini(&filter);
    vector_source_fini(&s.source);
    if (st == ANX_OK)
        st = reduce_rows(&s, arena, err);
    if (st != ANX_OK)
        return st;
    *hits = s.hits;
    *n = knn->has_k && s.n > knn->k ? (size_t) knn->k : s.n;
    return ANX_OK;
}

/* ---- Streaming ---- */

struct vector_stream {
    const struct vector_index *index;
    anx_iter *iter;         /* owned */
    struct vector_source source;
    roaring_bitmap_t *seen; /* owned; arrays: rows given already */
    bool is_done;
};

anx_status
vector_stream_open(const struct vector_index *index, const struct query_knn *knn, struct vector_stream **out,
                   anx_error *err)
{
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    struct vector_stream *stream;
    anx_status st = vector_check_knn(index, knn, true, err);

    *out = NULL;
    if (st != ANX_OK)
        return st;
    stream = anx_alloc_zeroed(NULL, 1, sizeof(*stream));
    if (!stream)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a stream");
    stream->index = index;
    if (index->is_array)
        stream->seen = roaring_bitmap_create();
    if (index->is_array && !stream->seen)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate a stream");
    params.ef = knn->has_ef && knn->ef < UINT32_MAX ? (size_t) knn->ef : 0;
    stream->source = vector_source_of(index);
    params.fetch_context = &stream->source;
    if (st == ANX_OK)
        st = anx_iter_open(index->ann, &params, knn->vector, &stream->iter, err);
    if (st != ANX_OK) {
        vector_stream_close(stream);
        return st;
    }
    *out = stream;
    return ANX_OK;
}

static anx_status
fill_batch(struct vector_stream *stream, struct vector_hit *hits, size_t max, size_t *n, anx_error *err)
{
    float distances[64];
    uint64_t labels[64];
    anx_hits batch = { distances, labels };

    while (*n < max && !stream->is_done) {
        size_t want = max - *n < ANX_COUNT_OF(labels) ? max - *n : ANX_COUNT_OF(labels), got;
        anx_status st = anx_iter_next(stream->iter, want, &batch, &got, err);

        if (st != ANX_OK)
            return st;
        stream->is_done = got < want;
        for (size_t i = 0; i < got; i++) {
            uint32_t row;

            if (!vector_label_row(stream->index, labels[i], &row) ||
                (stream->seen && !roaring_bitmap_add_checked(stream->seen, row)))
                continue;
            hits[(*n)++] = (struct vector_hit) { row, vector_rank(stream->index->metric, distances[i]) };
        }
    }
    return ANX_OK;
}

/* A snapshot of the store is held for a batch at most: what goes on between two is not known here. */
anx_status
vector_stream_next(struct vector_stream *stream, struct vector_hit *hits, size_t max, size_t *n,
                   anx_error *err)
{
    anx_status st;

    *n = 0;
    st = fill_batch(stream, hits, max, n, err);
    vector_source_fini(&stream->source);
    return st;
}

void
vector_stream_close(struct vector_stream *stream)
{
    if (!stream)
        return;
    anx_iter_close(stream->iter);
    if (stream->seen)
        roaring_bitmap_free(stream->seen);
    anx_free(NULL, stream);
}

/* ---- Reading back ---- */

bool
vector_get(const struct vector_index *index, uint32_t row, uint32_t n, anx_arena *arena,
           struct doc_vectors *out)
{
    uint32_t cell = vector_cell(index, row);
    float *floats;

    *out = (struct doc_vectors) { .n = cell >> 1, .dim = index->dim };
    if (out->n != n)
        return false;
    if (n == 0)
        return true;
    floats = anx_arena_bytes(arena, (size_t) n * index->dim * sizeof(*floats));
    out->floats = floats;
    return floats && vector_floats(index, row, cell, floats);
}
