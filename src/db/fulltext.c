/* Full-text conditions, and hybrid queries: full text and KNN together.
 *
 * A full-text condition gives the rows it found, best first, like a KNN condition; the rest of WHERE filters
 * them. In a hybrid query both run over the whole index; a row's rank is then made of its place in both lists
 * (reciprocal rank fusion, Cormack and others, SIGIR 2009) or of both ranks (a linear expression). Joined
 * with AND a row must be in both lists, with OR in either.
 *
 * In a joined query there are no ranks: the condition only filters. */
#include <stdlib.h>

#include "base/error.h"
#include "db/exec_int.h"
#include "query/expression.h"

/* ---- Full text ---- */

bool
part_is_ranked(const struct part *part)
{
    return part->knn.query || part->text.index;
}

const char *
part_rank_kind(const struct part *part)
{
    if (part->text.index)
        return part->hybrid.is_set ? "hybrid query" : "fulltext query";
    return knn_rank_kind(&part->knn);
}

bool
part_prefers_small_ranks(const struct part *part)
{
    if (part->hybrid.is_set)
        return !part->hybrid.is_descending;
    return !part->text.index && part->knn.is_smaller_better;
}

static bool
goes_on(void *context)
{
    return exec_goes_on(context);
}

anx_status
fulltext_search(struct exec *x, const struct ns_index *index, anx_text query, struct text_found *out)
{
    anx_status st = text_search(row_texts_index(index->text), query, goes_on, x, x->arena, out, x->err);

    return x->status != ANX_OK ? x->status : st;
}

/* The text that a condition asks for. Clients may give a second value, which has no meaning any more. */
anx_status
fulltext_query(struct exec *x, const struct ns_index *index, enum query_condition condition,
               struct values values, anx_text *out)
{
    bool is_fine = (condition == COND_EQ || condition == COND_SET) && (values.n == 1 || values.n == 2);

    if (!is_fine)
        return anx_fail(x->err, ANX_E_PARAMS,
                        "Full text index (%.*s) support only EQ or SET condition with 1 or 2 parameter",
                        ANX_TEXT_ARG(index->def->name));
    if (values.items[0].type == VALUE_STRING) {
        *out = values.items[0].text;
    } else {
        struct value text;
        anx_status st = value_convert(&values.items[0], FIELD_STRING, x->arena, &text, x->err);

        if (st != ANX_OK)
            return st;
        *out = text.text;
    }
    return ANX_OK;
}

anx_status
fulltext_compile(struct exec *x, struct part *part, const struct query_entry *entry)
{
    struct fulltext *text = &part->text;
    struct values values = entry->values;
    struct part *run;
    anx_status st = ANX_OK;

    text->index = ns_index_of_query(part->ns, entry->field);
    if (entry->kind == ENTRY_SUBQUERY_FIELD)
        st = subquery_values(x, entry->subquery, &values, &run);
    if (st == ANX_OK)
        st = fulltext_query(x, text->index, entry->condition, values, &text->query);
    return st;
}

anx_status
fulltext_run(struct exec *x, struct part *part, size_t need, struct hits *out)
{
    struct fulltext *text = &part->text;
    struct vector_hit *items;
    anx_status st = fulltext_search(x, text->index, text->query, &text->found);

    if (st != ANX_OK)
        return st;
    items = anx_arena_bytes(x->arena, (text->found.n + 1) * sizeof(*items));
    if (!items)
        return exec_nomem(x);
    for (size_t i = 0; i < text->found.n; i++)
        items[i] = (struct vector_hit) { .row = text->found.hits[i].row, .rank = text->found.hits[i].rank };
    return knn_filter(x, part, items, text->found.n, need, out);
}

/* As a condition that only filters: the rows it finds. */
anx_status
fulltext_rows(struct exec *x, const struct ns_index *index, anx_text query, const roaring_bitmap_t **out)
{
    struct text_found found;
    roaring_bitmap_t *rows = exec_bitmap(x);
    anx_status st = fulltext_search(x, index, query, &found);

    if (!rows)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < found.n; i++)
        roaring_bitmap_add(rows, found.hits[i].row);
    *out = rows;
    return st;
}

/* ---- How two ranks become one ---- */

static anx_status
fail_form(struct exec *x)
{
    return anx_fail(
        x->err, ANX_E_NOT_VALID,
        "In hybrid query ordering expression should be 'RRF()' or in form 'a * rank(index1) + b * "
        "rank(index2) + c'");
}

static anx_status
add_rank(struct exec *x, struct part *part, const struct expression *e, double factor)
{
    const struct ns_index *index = ns_index_of_query(part->ns, e->text);
    struct hybrid_side *side;

    if (e->text.size == 0)
        return anx_fail(
            x->err, ANX_E_QUERY,
            "Sorting by rank() is only available for query with single fulltext or knn condition");
    if (!index || (!index->vector && !index->text))
        return anx_fail(x->err, ANX_E_QUERY,
                        "Ordering by rank allowed by fulltext or float vector index only: '%.*s'",
                        ANX_TEXT_ARG(e->text));
    if (index != part->knn.index && index != part->text.index)
        return anx_fail(x->err, ANX_E_QUERY, "Rank by not used in query fulltext of vector index '%.*s'",
                        ANX_TEXT_ARG(e->text));
    side = index == part->text.index ? &part->hybrid.text : &part->hybrid.knn;
    if (side->is_named)
        return fail_form(x);
    *side = (struct hybrid_side) { true, factor, e->has_rank_default ? e->rank_default : 0 };
    return ANX_OK;
}

static bool
is_number(const struct expression *e, double *out)
{
    if (e->kind == EXPR_NEGATE && is_number(e->left, out)) {
        *out = -*out;
        return true;
    }
    *out = e->number;
    return e->kind == EXPR_NUMBER;
}

/* Adds factor * e to the sum. */
static anx_status
add_term(struct exec *x, struct part *part, const struct expression *e, double factor, int depth)
{
    double number;
    anx_status st;

    if (depth > QUERY_DEPTH_MAX)
        return fail_form(x);
    switch (e->kind) {
    case EXPR_RANK:
        return add_rank(x, part, e, factor);
    case EXPR_NUMBER:
        part->hybrid.constant += factor * e->number;
        return ANX_OK;
    case EXPR_NEGATE:
        return add_term(x, part, e->left, -factor, depth + 1);
    case EXPR_ADD:
    case EXPR_SUBTRACT:
        st = add_term(x, part, e->left, factor, depth + 1);
        if (st == ANX_OK)
            st = add_term(x, part, e->right, e->kind == EXPR_ADD ? factor : -factor, depth + 1);
        return st;
    case EXPR_MULTIPLY:
        if (is_number(e->left, &number))
            return add_term(x, part, e->right, factor * number, depth + 1);
        if (is_number(e->right, &number))
            return add_term(x, part, e->left, factor * number, depth + 1);
        return fail_form(x);
    default:
        return fail_form(x);
    }
}

anx_status
hybrid_compile(struct exec *x, struct part *part)
{
    const struct query *query = part->query;
    struct hybrid *h = &part->hybrid;
    const struct expression *e;
    anx_status st;

    h->is_set = h->is_descending = h->is_rrf = true;
    h->constant = 60;
    if (query->n_sort == 0)
        return ANX_OK;
    h->is_descending = query->sort[0].is_descending;
    if (query->n_sort > 1 || query->forced.n > 0 || ns_index_of_query(part->ns, query->sort[0].expression))
        return fail_form(x);
    st = expression_read_sort(query->sort[0].expression, NULL, 0, x->arena, &e, x->err);
    if (st != ANX_OK)
        return st;
    h->is_rrf = e->kind == EXPR_RRF;
    h->constant = h->is_rrf ? e->number : 0;
    if (h->is_rrf)
        return ANX_OK;
    st = add_term(x, part, e, 1, 0);
    return st == ANX_OK && !(h->text.is_named && h->knn.is_named) ? fail_form(x) : st;
}

/* ---- Running both ---- */

struct fused {
    uint32_t row;
    bool has_text, has_knn;
    size_t text_place, knn_place; /* from 1; equal ranks share the first */
    float text_rank, knn_rank;
};

static int
compare_rows(const void *a, const void *b)
{
    const struct fused *x = a, *y = b;

    return (x->row > y->row) - (x->row < y->row);
}

static int
descending(const void *a, const void *b)
{
    const struct vector_hit *x = a, *y = b;

    if (x->rank != y->rank)
        return x->rank > y->rank ? -1 : 1;
    return (x->row < y->row) - (x->row > y->row);
}

static int
ascending(const void *a, const void *b)
{
    return descending(b, a);
}

/* Both lists, best first, as one by row. */
static size_t
list_both(const struct vector_hit *knn, size_t n_knn, const struct text_found *text, struct fused *out)
{
    size_t n = 0, kept = 0;

    for (size_t i = 0; i < n_knn; i++, n++) {
        bool is_tie = i > 0 && !(knn[i].rank < knn[i - 1].rank) && !(knn[i].rank > knn[i - 1].rank);

        out[n] = (struct fused) { .row = knn[i].row, .has_knn = true, .knn_rank = knn[i].rank };
        out[n].knn_place = is_tie ? out[n - 1].knn_place : i + 1;
    }
    for (size_t i = 0; i < text->n; i++, n++) {
        float rank = text->hits[i].rank;
        bool is_tie = i > 0 && !(rank < text->hits[i - 1].rank);

        out[n] = (struct fused) { .row = text->hits[i].row, .has_text = true, .text_rank = rank };
        out[n].text_place = is_tie ? out[n - 1].text_place : i + 1;
    }
    if (n > 1)
        qsort(out, n, sizeof(*out), compare_rows);
    for (size_t i = 0; i < n; i++) {
        if (kept > 0 && out[kept - 1].row == out[i].row) {
            struct fused *first = &out[kept - 1];
            const struct fused *text_side = first->has_text ? first : &out[i];
            const struct fused *knn_side = first->has_text ? &out[i] : first;

            *first = (struct fused){ first->row,
                                     true,
                                     true,
                                     text_side->text_place,
                                     knn_side->knn_place,
                                     text_side->text_rank,
                                     knn_side->knn_rank };
        } else {
            out[kept++] = out[i];
        }
    }
    return kept;
}

static double
fuse(const struct hybrid *h, const struct fused *f)
{
    double text = f->has_text ? (double) f->text_rank : h->text.standard;
    double knn = f->has_knn ? (double) f->knn_rank : h->knn.standard;

    if (!h->is_rrf)
        return h->text.factor * text + h->knn.factor * knn + h->constant;
    return (f->has_text ? 1 / (h->constant + (double) f->text_place) : 0) +
           (f->has_knn ? 1 / (h->constant + (double) f->knn_place) : 0);
}

anx_status
hybrid_run(struct exec *x, struct part *part, size_t need, struct hits *out)
{
    const struct hybrid *h = &part->hybrid;
    struct vector_hit *knn = NULL, *items;
    struct fused *both;
    size_t n_knn = 0, n, n_item = 0;
    anx_status st = ANX_OK;

    if (part->knn.query)
        st = vector_search(part->knn.index->vector, part->knn.query, NULL, 0, x->session, x->arena, &knn,
                           &n_knn, x->err);
    if (st == ANX_OK)
        st = fulltext_search(x, part->text.index, part->text.query, &part->text.found);
    if (st != ANX_OK)
        return st;
    both = anx_arena_bytes(x->arena, (n_knn + part->text.found.n + 1) * sizeof(*both));
    items = anx_arena_bytes(x->arena, (n_knn + part->text.found.n + 1) * sizeof(*items));
    if (!both || !items)
        return exec_nomem(x);
    n = list_both(knn, n_knn, &part->text.found, both);
    for (size_t i = 0; i < n; i++)
        if (h->is_or || (both[i].has_text && both[i].has_knn))
            items[n_item++] = (struct vector_hit) { .row = both[i].row, .rank = (float) fuse(h, &both[i]) };
    if (n_item > 1)
        qsort(items, n_item, sizeof(*items), h->is_descending ? descending : ascending);
    return knn_filter(x, part, items, n_item, need, out);
}
