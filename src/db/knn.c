/* KNN conditions. The vector index is asked first, for the k nearest of all its vectors; what else stands in
 * WHERE then filters these candidates, which may leave fewer than k. Clients know this order and choose k by
 * it, so a filter must not be pushed into the search, where it would let other documents in.
 *
 * A streaming search (hnsw, neither k nor radius) has no such limit: candidates are pulled until enough of
 * them pass. */
#include <stdlib.h>

#include "base/error.h"
#include "base/log.h"
#include "db/exec_int.h"

enum {
    ASKED_ONE_BY_ONE = 256, /* candidates; for more, a bitmap of the filter may pay */
    ROWS_PER_ASK = 4,       /* as in where_select.c */
    STREAM_BATCH_MIN = 100, /* the original's bounds: ranks ascend within a batch, so they are visible */
    STREAM_BATCH_MAX = 800,
    /* A stream over a filter that keeps at most 1/STREAM_DIRECT_SHARE of the rows, and that would look at
     * more than STREAM_DIRECT_FROM candidates, becomes a search among the rows that pass. */
    STREAM_DIRECT_FROM = 150,
    STREAM_DIRECT_SHARE = 2,
    /* A search for k behind a filter that finds what passes first (pays_to_rank), in distances of a walk,
     * measured on 300,000 x 128 and 60,000 x 384. */
    BOUNDED_FROM = 64, /* k */
    BOUNDED_EF = 64,   /* the library's default */
    RANK_SAMPLE = 20,
    SEARCH_PER_K = 9
};
#define RANK_PASSING 0.5

/* ---- Where a KNN condition may stand ---- */

struct survey {
    struct exec *x;
    const struct part *part;
    const struct query_entry *knn, *text;
    size_t n_knn, n_text;
    bool is_or; /* full text or KNN */
};

static bool
is_text_search(const struct part *part, const struct query_entry *entry)
{
    const struct ns_index *index;

    if (part->is_joined || (entry->kind != ENTRY_COMPARE && entry->kind != ENTRY_SUBQUERY_FIELD) ||
        entry->function != FUNCTION_NONE || (entry->condition != COND_EQ && entry->condition != COND_SET))
        return false;
    if (entry->kind == ENTRY_COMPARE && entry->values.n == 0)
        return false;
    index = ns_index_of_query(part->ns, entry->field);
    return index && index->def->index_type == INDEX_TEXT;
}

/* A bracket around a single term is that term. */
static const struct query_entry *
unwrap(const struct query_entry *entry)
{
    while (entry->kind == ENTRY_BRACKET && entry->bracket.n == 1)
        entry = &entry->bracket.entries[0];
    return entry;
}

static bool
is_ranked(const struct part *part, const struct query_entry *entry)
{
    if (entry->kind == ENTRY_KNN)
        return true;
    if (entry->kind != ENTRY_BRACKET)
        return is_text_search(part, entry);
    for (size_t i = 0; i < entry->bracket.n; i++)
        if (is_ranked(part, &entry->bracket.entries[i]))
            return true;
    return false;
}

static anx_status
check_bracket_operation(const struct survey *s, const struct query_entry *entry, bool is_or)
{
    if (unwrap(entry)->kind != ENTRY_BRACKET || (!is_or && entry->op != OP_NOT))
        return ANX_OK;
    return anx_fail(
        s->x->err, ANX_E_LOGIC,
        "OR and NOT operations are not allowed with bracket containing fulltext or knn condition");
}

/* One group of terms joined by OR: bracket->entries[first .. first + n). */
static anx_status
check_group(struct survey *s, const struct query_bracket *bracket, size_t first, size_t n)
{
    size_t n_ranked = 0;
    anx_status st = ANX_OK;

    for (size_t i = first; i < first + n; i++)
        n_ranked += is_ranked(s->part, &bracket->entries[i]);
    if (n_ranked == 0)
        return ANX_OK;
    s->is_or |= n_ranked > 1;
    for (size_t i = first; st == ANX_OK && i < first + n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        if (!is_ranked(s->part, entry))
            continue;
        st = check_bracket_operation(s, entry, n > 1);
        if (st == ANX_OK && entry->op == OP_NOT)
            st = is_text_search(s->part, entry)
                     ? anx_fail(s->x->err, ANX_E_LOGIC,
                                "NOT operation is not allowed with fulltext index: '%.*s'",
                                ANX_TEXT_ARG(entry->field))
                     : anx_fail(s->x->err, ANX_E_LOGIC, "NOT operation is not allowed with knn condition");
    }
    if (st == ANX_OK && n_ranked < n)
        st = anx_fail(s->x->err, ANX_E_LOGIC,
                      "OR operation is not allowed between ranked and not ranked conditions");
    return st;
}

static anx_status
survey_bracket(struct survey *s, const struct query_bracket *bracket)
{
    anx_status st = ANX_OK;
    size_t n;

    for (size_t i = 0; st == ANX_OK && i < bracket->n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        if (entry->kind == ENTRY_BRACKET)
            st = survey_bracket(s, &entry->bracket);
        if (is_text_search(s->part, entry)) {
            s->text = entry;
            s->n_text++;
        }
        if (entry->kind == ENTRY_KNN) {
            s->knn = entry;
            s->n_knn++;
        }
    }
    for (size_t i = 0; st == ANX_OK && i < bracket->n; i += n) {
        for (n = 1; i + n < bracket->n && bracket->entries[i + n].op == OP_OR; n++)
            ;
        st = check_group(s, bracket, i, n);
    }
    return st;
}

/* ---- The condition itself ---- */

/* Why a text has no vector. */
static anx_status
fail_text(struct exec *x, const struct query_knn *knn, anx_text field, const struct ns_index *index)
{
    if (!index)
        return anx_fail(x->err, ANX_E_PARAMS, "Can't find field by name or json path: '%.*s'",
                        ANX_TEXT_ARG(field));
    if (index->def->is_sparse || index->def->field_type == FIELD_COMPOSITE)
        return anx_fail(x->err, ANX_E_PARAMS, "Can't use embedding with sparse/composite indexes ('%.*s')",
                        ANX_TEXT_ARG(field));
    if (!index->vector || !index->def->vector.query_embedder.is_set)
        return anx_fail(x->err, ANX_E_NOT_VALID,
                        "Trying to find knn by string. No Embedder configured for index '%.*s'",
                        ANX_TEXT_ARG(field));
    if (knn->failure && x->err)
        *x->err = *knn->failure;
    return knn->failure ? knn->failure->status
                        : anx_fail(x->err, ANX_E_SERVICE, "The text for index '%.*s' was not embedded",
                                   ANX_TEXT_ARG(field));
}

static bool
is_stream(const struct query_knn *knn, const struct index_def *def)
{
    return def->index_type == INDEX_HNSW && !knn->has_k && !knn->has_radius && !def->vector.has_radius &&
           !knn->has_nprobe && (knn->kind == KNN_ANY_KIND || knn->kind == KNN_HNSW);
}

static anx_status
bind_knn(struct exec *x, struct part *part, const struct query_entry *entry)
{
    const struct ns_index *index = ns_index_of_query(part->ns, entry->field);
    struct knn *knn = &part->knn;

    if (!entry->knn.vector && entry->knn.failure && part->text.index && part->hybrid.is_or && index) {
        knn->index = index; /* full text alone answers: the list of vectors is empty */
        anx_log(ANX_LOG_WARN, "event=hybrid_without_vectors index=%.*s cause=\"%s\"",
                ANX_TEXT_ARG(index->def->name), entry->knn.failure->message);
        return ANX_OK;
    }
    if (!entry->knn.vector)
        return fail_text(x, &entry->knn, entry->field, index);
    if (!index || !index->vector)
        return anx_fail(x->err, ANX_E_PARAMS, "KNN allowed only for float vector index; %.*s is not %s",
                        ANX_TEXT_ARG(entry->field), index ? "float vector index" : "indexed field");
    knn->query = &entry->knn;
    knn->index = index;
    knn->is_stream = is_stream(&entry->knn, index->def);
    knn->is_smaller_better = index->def->vector.metric == ANX_METRIC_L2;
    if (knn->is_stream && part->text.index)
        return anx_fail(x->err, ANX_E_QUERY, "Streaming KNN search does not support hybrid queries");
    if (knn->is_stream && part->query->n_sort > 0)
        return anx_fail(x->err, ANX_E_QUERY, "Streaming KNN search does not support ORDER BY");
    return ANX_OK;
}

anx_status
knn_compile(struct exec *x, struct part *part)
{
    struct survey survey = { .x = x, .part = part };
    anx_status st = survey_bracket(&survey, &part->query->where);

    if (st != ANX_OK)
        return st;
    if (survey.n_knn > 1)
        return anx_fail(x->err, ANX_E_NOT_VALID,
                        "More than one KNN conditions cannot be combined in a query");
    if (survey.n_text > 1)
        return anx_fail(x->err, ANX_E_NOT_VALID,
                        "More than one FullText conditions cannot be combined in a query");
    part->hybrid.is_or = survey.is_or;
    if (survey.text)
        st = fulltext_compile(x, part, survey.text);
    if (st == ANX_OK && survey.knn)
        st = bind_knn(x, part, survey.knn);
    return st == ANX_OK && survey.knn && survey.text ? hybrid_compile(x, part) : st;
}

const char *
knn_rank_kind(const struct knn *knn)
{
    if (!knn->query)
        return "not ranked query";
    switch (knn->index->def->vector.metric) {
    case ANX_METRIC_IP:
        return "knn with inner product metric query";
    case ANX_METRIC_COSINE:
        return "knn with cosine metric query";
    default:
        return "knn with L2 metric query";
    }
}

/* ---- Running it ---- */

static bool
is_alone(const struct part *part)
{
    return part->where.n == 1 && part->where.nodes[0].kind == WHERE_KNN;
}

/* Many candidates are filtered by a bitmap where an index makes a small one. */
static anx_status
select_filter(struct exec *x, struct part *part, size_t n, struct candidates *out)
{
    *out = (struct candidates) { .kind = CANDIDATES_ALL };
    if (n <= ASKED_ONE_BY_ONE || where_estimate(part) / ROWS_PER_ASK >= n)
        return ANX_OK;
    return where_select(x, part, SIZE_MAX, out);
}

static bool
is_candidate(const struct candidates *candidates, uint32_t row)
{
    switch (candidates->kind) {
    case CANDIDATES_BITMAP:
        return roaring_bitmap_contains(candidates->bitmap, row);
    case CANDIDATES_FEW:
        for (size_t i = 0; i < candidates->n; i++)
            if (candidates->few[i] == row)
                return true;
        return false;
    case CANDIDATES_ALL:
        break;
    }
    return true;
}

anx_status
knn_filter(struct exec *x, struct part *part, struct vector_hit *items, size_t n, size_t need,
           struct hits *out)
{
    struct candidates candidates;
    size_t n_kept = 0;
    anx_status st;

    *out = (struct hits) { .items = items, .n = n, .is_borrowed = true };
    if (is_alone(part))
        return ANX_OK;
    st = select_filter(x, part, n, &candidates);
    if (st != ANX_OK)
        return st;
    for (size_t i = 0; i < n && n_kept < need && exec_goes_on(x); i++)
        if (is_candidate(&candidates, items[i].row) && where_match(x, &part->where, items[i].row))
            items[n_kept++] = items[i];
    out->n = n_kept;
    return x->status;
}

struct streaming {
    struct part *part;
    struct vector_stream *stream;
    roaring_bitmap_t *seen; /* array fields: rows given already */
    size_t n_presented;
    bool is_at_end;
    struct vector_hit batch[STREAM_BATCH_MAX];
};

static int
compare_hits(const void *a, const void *b, void *context)
{
    const struct vector_hit *x = a, *y = b;
    const struct part *part = context;

    if (x->rank != y->rank)
        return vector_better(part->knn.index->vector, x->rank, y->rank) ? -1 : 1;
    return x->row < y->row ? -1 : x->row > y->row;
}

static size_t
clamp(size_t n, size_t min, size_t max)
{
    return n < min ? min : n > max ? max : n;
}

static size_t
batch_size(const struct streaming *s, size_t n_accepted, size_t need)
{
    size_t per_accepted = s->n_presented / (n_accepted > 0 ? n_accepted : 1);
    size_t missing = need > n_accepted ? need - n_accepted : 1;

    if (s->n_presented == 0)
        per_accepted = 1;
    if (per_accepted > 0 && missing > STREAM_BATCH_MAX / per_accepted)
        return STREAM_BATCH_MAX;
    return clamp(per_accepted * missing, STREAM_BATCH_MIN, STREAM_BATCH_MAX);
}

static anx_status
pull_batch(struct exec *x, struct streaming *s, size_t need, struct hits *out)
{
    size_t wanted = batch_size(s, out->n, need), n = 0;
    anx_status st = vector_stream_next(s->stream, s->batch, wanted, &n, x->err);

    if (st != ANX_OK)
        return st;
    s->is_at_end = n < wanted;
    s->n_presented += n;
    qsort_r(s->batch, n, sizeof(s->batch[0]), compare_hits, s->part);
    for (size_t i = 0; st == ANX_OK && i < n && out->n < need && exec_goes_on(x); i++) {
        uint32_t row = s->batch[i].row;

        if (s->seen && !roaring_bitmap_add_checked(s->seen, row))
            continue;
        if (where_match(x, &s->part->where, row))
            st = hits_push(x, out, row, s->batch[i].rank);
    }
    return st == ANX_OK ? x->status : st;
}

/* ---- Streaming with a filter that indexes know ---- */

/* How many candidates a stream would have to look at until `need` of them pass. */
static size_t
expected_candidates(struct part *part, size_t need)
{
    size_t all = rows_count(part->ns->rows), passing = where_estimate(part);

    if (passing >= all || is_alone(part))
        return need;
    return need > SIZE_MAX / (all + 1) ? SIZE_MAX : need * all / (passing ? passing : 1);
}

static anx_status
as_bitmap(struct exec *x, const struct candidates *candidates, const roaring_bitmap_t **out)
{
    roaring_bitmap_t *bitmap;

    *out = candidates->bitmap;
    if (candidates->kind != CANDIDATES_FEW)
        return ANX_OK;
    bitmap = exec_bitmap(x);
    if (!bitmap)
        return exec_nomem(x);
    roaring_bitmap_add_many(bitmap, candidates->n, candidates->few);
    *out = bitmap;
    return ANX_OK;
}

/* The k nearest of the allowed rows, for more and more (from `first`), until enough pass what indexes could
 * not settle. All of them when `need` is more than there are: exactly what a stream would give that never
 * ends, in a better order. within, unless 0: only rows among so many nearest of all; when fewer than k come,
 * there are no more. */
static anx_status
search_allowed(struct exec *x, struct part *part, const roaring_bitmap_t *allowed, size_t within,
               size_t first, size_t need, struct hits *out)
{
    size_t n_allowed = roaring_bitmap_get_cardinality(allowed);
    const struct query_knn *given = part->knn.query;
    struct query_knn query = *given;
    anx_status st = ANX_OK;

    query.has_k = true;
    for (size_t k = first < n_allowed ? first : n_allowed; k > 0; k = k < n_allowed / 4 ? 4 * k : n_allowed) {
        struct vector_hit *items;
        size_t n;

        query.k = k;
        query.has_ef = given->has_ef && given->ef >= k;
        if (within > 0) { /* an ef beyond the k that was asked for is care, one for that k is not */
            query.ef = k + (size_t) (given->ef - given->k);
            query.has_ef = given->has_ef && query.ef > BOUNDED_EF;
        }
        st = vector_search(part->knn.index->vector, &query, allowed, within, x->session, x->arena, &items, &n,
                           x->err);
        out->n = 0;
        for (size_t i = 0; st == ANX_OK && i < n && out->n < need && exec_goes_on(x); i++)
            if (where_match(x, &part->where, items[i].row))
                st = hits_push(x, out, items[i].row, items[i].rank);
        if (st != ANX_OK || x->status != ANX_OK || out->n >= need || k >= n_allowed || (within > 0 && n < k))
            break;
    }
    return st == ANX_OK ? x->status : st;
}

/* Where a stream would have to look far, rows that indexes say may pass are asked for directly. *is_done:
 * they gave the answer. An array field's rows have several vectors, which k would count. */
static anx_status
run_filtered(struct exec *x, struct part *part, size_t need, struct hits *out, bool *is_done)
{
    struct candidates candidates;
    const roaring_bitmap_t *allowed;
    anx_status st;

    *is_done = false;
    if (part->knn.index->def->is_array || is_alone(part) ||
        expected_candidates(part, need) <= STREAM_DIRECT_FROM ||
        where_estimate(part) > rows_count(part->ns->rows) / STREAM_DIRECT_SHARE)
        return ANX_OK;
    st = where_select(x, part, SIZE_MAX, &candidates);
    if (st != ANX_OK || candidates.kind == CANDIDATES_ALL)
        return st;
    st = as_bitmap(x, &candidates, &allowed);
    *is_done = st == ANX_OK;
    return st == ANX_OK ? search_allowed(x, part, allowed, 0, need, need, out) : st;
}

static anx_status
run_stream(struct exec *x, struct part *part, size_t need, struct hits *out)
{
    size_t expected = expected_candidates(part, need);
    struct query_knn query = *part->knn.query;
    struct streaming *s;
    bool is_done;
    anx_status st = run_filtered(x, part, need, out, &is_done);

    if (st != ANX_OK || is_done)
        return st;
    s = anx_arena_bytes(x->arena, sizeof(*s));
    if (!s)
        return exec_nomem(x);
    *s = (struct streaming) { .part = part };
    if (part->knn.index->def->is_array) {
        s->seen = exec_bitmap(x);
        if (!s->seen)
            return exec_nomem(x);
    }
    if (!query.has_ef || query.ef == 1) {
        query.has_ef = true;
        query.ef = clamp(expected, STREAM_BATCH_MIN, STREAM_BATCH_MAX);
    }
    st = vector_stream_open(part->knn.index->vector, &query, &s->stream, x->err);
    while (st == ANX_OK && !s->is_at_end && out->n < need)
        st = pull_batch(x, s, need, out);
    if (s->stream)
        vector_stream_close(s->stream);
    return st;
}

/* ---- k with a filter that indexes know ---- */

/* Is it cheaper to find the rows that pass and then their places among all? In distances: a search for k
 * stands on k rows; a place is found in a sample in which some tens of the k nearest appear (src/ann/hnsw).
 */
static bool
pays_to_rank(struct part *part)
{
    const struct query_knn *knn = part->knn.query;
    const struct index_def *def = part->knn.index->def;
    double all = (double) rows_count(part->ns->rows), passing = (double) where_estimate(part);
    double k = (double) knn->k;

    return def->index_type == INDEX_HNSW && !def->is_array && !is_alone(part) && knn->has_k &&
           knn->k >= BOUNDED_FROM && (!knn->has_ef || knn->ef >= knn->k) && passing <= all / 2 && k < all &&
           RANK_SAMPLE * all / k + passing * RANK_PASSING < k * SEARCH_PER_K;
}

/* The k nearest, those that pass: of the rows that pass the nearest, those among the k nearest. *is_done:
 * they gave the answer. */
static anx_status
run_bounded(struct exec *x, struct part *part, size_t need, struct hits *out, bool *is_done)
{
    size_t all = rows_count(part->ns->rows), k, first;
    struct candidates candidates;
    const roaring_bitmap_t *allowed;
    anx_status st;

    *is_done = false;
    if (!pays_to_rank(part))
        return ANX_OK;
    st = where_select(x, part, SIZE_MAX, &candidates);
    if (st != ANX_OK || candidates.kind == CANDIDATES_ALL)
        return st;
    st = as_bitmap(x, &candidates, &allowed);
    if (st != ANX_OK)
        return st;
    *is_done = true;
    /* Without a limit: about as many as there will be. */
    k = (size_t) part->knn.query->k;
    first = (size_t) ((double) k * 1.25 * (double) candidates.n / (double) all) + 16;
    return search_allowed(x, part, allowed, k, need < first ? need : first, need, out);
}

static anx_status
run_search(struct exec *x, struct part *part, size_t need, struct hits *out)
{
    const struct knn *knn = &part->knn;
    struct vector_hit *items;
    size_t n;
    bool is_done;
    anx_status st = run_bounded(x, part, need, out, &is_done);

    if (st != ANX_OK || is_done)
        return st;
    st = vector_search(knn->index->vector, knn->query, NULL, 0, x->session, x->arena, &items, &n, x->err);
    return st == ANX_OK ? knn_filter(x, part, items, n, need, out) : st;
}

anx_status
knn_run(struct exec *x, struct part *part, size_t need, struct hits *out)
{
    if (part->text.index)
        return part->hybrid.is_set ? hybrid_run(x, part, need, out) : fulltext_run(x, part, need, out);
    return part->knn.is_stream ? run_stream(x, part, need, out) : run_search(x, part, need, out);
}
