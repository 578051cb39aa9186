/* Putting rows in order. Every row gets its cells (values under the keys) once; then row numbers are sorted
 * by them, or, when only the first few are wanted, kept in a heap of that size. */
#include <stdlib.h>

#include "base/alloc.h"
#include "base/error.h"
#include "db/sort_int.h"

enum {
    HEAP_MAX = 1024,      /* most rows that are kept in a heap instead of sorting all */
    COMPARES_PER_CHECK = 1 << 14
};

struct sorting {
    struct exec *x;
    const struct sort *sort;
    const struct vector_hit *items;
    struct sort_cell *cells; /* [n][n_key] */
    unsigned n_compare;
};

/* ---- Comparing ---- */

static int
compare_single(struct sorting *s, const struct value *a, const struct value *b,
               const struct collation *collation)
{
    bool is_comparable = true;
    int order = value_compare(a, b, collation, &is_comparable);

    if (!is_comparable && s->x->status == ANX_OK)
        exec_latch(s->x, anx_fail(s->x->err, ANX_E_PARAMS, "Not comparable types: %s and %s",
                                  value_type_name(a->type), value_type_name(b->type)));
    return order;
}

/* Arrays by their elements, a value as an array of one, nothing first. */
static int
compare_values(struct sorting *s, const struct value *a, const struct value *b,
               const struct collation *collation)
{
    struct values x = { (struct value *) (uintptr_t) a, 1 }, y = { (struct value *) (uintptr_t) b, 1 };

    if (a->type != VALUE_TUPLE && b->type != VALUE_TUPLE)
        return compare_single(s, a, b, collation);
    if (a->type == VALUE_NULL || b->type == VALUE_NULL)
        return (a->type != VALUE_NULL) - (b->type != VALUE_NULL);
    if (a->type == VALUE_TUPLE)
        x = a->tuple;
    if (b->type == VALUE_TUPLE)
        y = b->tuple;
    for (size_t i = 0; i < x.n && i < y.n; i++) {
        int order = compare_single(s, &x.items[i], &y.items[i], collation);

        if (order != 0)
            return order;
    }
    return x.n < y.n ? -1 : x.n > y.n;
}

static int
compare_cells(struct sorting *s, const struct sort_key *key, const struct sort_cell *a,
              const struct sort_cell *b)
{
    if (a->forced_at != b->forced_at)
        return a->forced_at < b->forced_at ? -1 : 1;
    if (a->forced_at != UINT32_MAX)
        return 0;
    return compare_values(s, &a->value, &b->value, key->collation);
}

static int
compare_rows(struct sorting *s, size_t a, size_t b)
{
    size_t n = s->sort->n_key;
    uint32_t x = s->items[a].row, y = s->items[b].row;
    int order = 0;

    if (++s->n_compare % COMPARES_PER_CHECK == 0 && s->x->status == ANX_OK)
        exec_latch(s->x, db_session_check(s->x->session, s->x->err));
    for (size_t i = 0; i < n; i++) {
        const struct sort_key *key = &s->sort->keys[i];

        order = compare_cells(s, key, &s->cells[a * n + i], &s->cells[b * n + i]);
        if (order != 0)
            return key->is_descending ? -order : order;
    }
    order = x < y ? -1 : x > y; /* ties go the way of the first key */
    return s->sort->keys[0].is_descending ? -order : order;
}

static int
compare_numbers(const void *a, const void *b, void *context)
{
    return compare_rows(context, *(const uint32_t *) a, *(const uint32_t *) b);
}

static void
fill_cells(struct sorting *s, size_t n, size_t first)
{
    size_t n_key = s->sort->n_key;

    for (size_t i = 0; i < n && exec_goes_on(s->x); i++)
        for (size_t j = 0; j < n_key; j++)
            sort_key_cell(s->x, &s->sort->keys[j], &s->items[i], &s->cells[(first + i) * n_key + j]);
}

/* ---- All of them ---- */

static anx_status
sort_all(struct exec *x, const struct sort *sort, struct hits *hits)
{
    struct sorting s = { .x = x, .sort = sort, .items = hits->items };
    uint32_t *numbers = anx_alloc_array(NULL, hits->n, sizeof(*numbers));
    struct vector_hit *copy = anx_alloc_array(NULL, hits->n, sizeof(*copy));
    anx_status st = ANX_OK;

    if (hits->n <= SIZE_MAX / sort->n_key)
        s.cells = anx_alloc_array(NULL, hits->n * sort->n_key, sizeof(*s.cells));
    if (!numbers || !copy || !s.cells) {
        st = exec_nomem(x);
        goto out;
    }
    fill_cells(&s, hits->n, 0);
    for (size_t i = 0; i < hits->n; i++)
        numbers[i] = (uint32_t) i;
    if (x->status == ANX_OK)
        qsort_r(numbers, hits->n, sizeof(*numbers), compare_numbers, &s);
    memcpy(copy, hits->items, hits->n * sizeof(*copy));
    for (size_t i = 0; i < hits->n; i++)
        hits->items[i] = copy[numbers[i]];
    st = x->status;
out:
    anx_free(NULL, numbers);
    anx_free(NULL, copy);
    anx_free(NULL, s.cells);
    return st;
}

/* ---- The first few ---- */

/* The rows kept so far, the last of the order on top. places[i] is a row's place among `kept` and `cells`. */
struct heap {
    struct sorting s;
    struct vector_hit *kept; /* [need + 1], the last one for the row that is offered */
    uint32_t *places;
    size_t n, need;
};

static void
sift_down(struct heap *h, size_t i)
{
    for (;;) {
        size_t child = 2 * i + 1, largest = i;
        uint32_t place;

        if (child < h->n && compare_rows(&h->s, h->places[child], h->places[largest]) > 0)
            largest = child;
        if (child + 1 < h->n && compare_rows(&h->s, h->places[child + 1], h->places[largest]) > 0)
            largest = child + 1;
        if (largest == i)
            return;
        place = h->places[i];
        h->places[i] = h->places[largest];
        h->places[largest] = place;
        i = largest;
    }
}

static void
offer(struct heap *h, const struct vector_hit *hit)
{
    size_t n_key = h->s.sort->n_key, at = h->n < h->need ? h->n : h->need;

    h->kept[at] = *hit;
    for (size_t i = 0; i < n_key; i++)
        sort_key_cell(h->s.x, &h->s.sort->keys[i], hit, &h->s.cells[at * n_key + i]);
    if (h->n < h->need) {
        h->places[h->n++] = (uint32_t) at;
        for (size_t i = h->n / 2; h->n == h->need && i-- > 0;)
            sift_down(h, i);
        return;
    }
    if (compare_rows(&h->s, at, h->places[0]) >= 0)
        return;
    h->kept[h->places[0]] = h->kept[at];
    memcpy(&h->s.cells[h->places[0] * n_key], &h->s.cells[at * n_key], n_key * sizeof(*h->s.cells));
    sift_down(h, 0);
}

static anx_status
sort_few(struct exec *x, const struct sort *sort, struct hits *hits, size_t need)
{
    struct heap h = { .s = { .x = x, .sort = sort }, .need = need };
    anx_status st = ANX_OK;

    h.kept = anx_alloc_array(NULL, need + 1, sizeof(*h.kept));
    h.places = anx_alloc_array(NULL, need, sizeof(*h.places));
    h.s.cells = anx_alloc_array(NULL, (need + 1) * sort->n_key, sizeof(*h.s.cells));
    h.s.items = h.kept;
    if (!h.kept || !h.places || !h.s.cells) {
        st = exec_nomem(x);
        goto out;
    }
    for (size_t i = 0; i < hits->n && exec_goes_on(x); i++)
        offer(&h, &hits->items[i]);
    if (x->status == ANX_OK)
        qsort_r(h.places, h.n, sizeof(*h.places), compare_numbers, &h.s);
    for (size_t i = 0; i < h.n; i++)
        hits->items[i] = h.kept[h.places[i]];
    hits->n = h.n;
    st = x->status;
out:
    anx_free(NULL, h.kept);
    anx_free(NULL, h.places);
    anx_free(NULL, h.s.cells);
    return st;
}

anx_status
sort_rows(struct exec *x, struct part *part, struct hits *hits, size_t need)
{
    if (!part->sort || hits->n == 0 || need == 0)
        return ANX_OK;
    if (need <= HEAP_MAX && hits->n / 4 > need)
        return sort_few(x, part->sort, hits, need);
    return sort_all(x, part->sort, hits);
}

/* ---- What the order hangs on ---- */

static const struct field *
only_field(const struct sort_key *key)
{
    return !key->is_number && key->bound->kind == BOUND_FIELD && !key->has_forced ? &key->bound->field : NULL;
}

const struct ns_index *
sort_walkable(const struct sort *sort, bool *is_descending)
{
    const struct field *field = sort && sort->n_key == 1 ? only_field(&sort->keys[0]) : NULL;

    if (!field || field->kind != FIELD_IS_SCALAR || field_is_array(field) ||
        !scalar_is_ordered(field->index->scalar))
        return NULL;
    *is_descending = sort->keys[0].is_descending;
    return field->index;
}

bool
sort_is_by_tree(const struct sort *sort)
{
    const struct field *field = sort ? only_field(&sort->keys[0]) : NULL;

    return field && field->kind == FIELD_IS_SCALAR && field->index->def->index_type == INDEX_TREE;
}

anx_text
sort_index_name(const struct sort *sort)
{
    const struct field *field = sort ? only_field(&sort->keys[0]) : NULL;

    return field && field->kind == FIELD_IS_SCALAR ? field->name : ANX_TEXT("-");
}
