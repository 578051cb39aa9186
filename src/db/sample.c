/* See sample.h. */
#include "db/sample.h"

#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/rng.h"
#include "db/ns_life.h"

enum { ROWS_AT_ONCE = 65536 }; /* looked at under one hold of the lock: 0.1 ms */

/* The only vector index of a namespace. */
static anx_status
find_only(const struct ns *ns, struct ns_index **out, anx_error *err)
{
    struct ns_index *found = NULL;

    for (size_t i = 0; i < ns->n_index; i++) {
        if (!ns->indexes[i].vector)
            continue;
        if (found)
            return anx_fail(
                err, ANX_E_PARAMS,
                "namespace '%s' has several vector indexes, 'index' must name one: '%.*s', '%.*s'", ns->name,
                ANX_TEXT_ARG(found->def->name), ANX_TEXT_ARG(ns->indexes[i].def->name));
        found = &ns->indexes[i];
    }
    *out = found;
    return found ? ANX_OK : anx_fail(err, ANX_E_PARAMS, "namespace '%s' has no vector index", ns->name);
}

static anx_status
find_index(const struct ns *ns, anx_text name, struct ns_index **out, anx_error *err)
{
    if (name.size == 0)
        return find_only(ns, out, err);
    for (size_t i = 0; i < ns->n_index; i++) {
        if (!anx_text_equal_fold(ns->indexes[i].def->name, name))
            continue;
        *out = &ns->indexes[i];
        if ((*out)->vector)
            return ANX_OK;
        return anx_fail(err, ANX_E_PARAMS, "index '%.*s' of namespace '%s' is not a vector index, it is %s",
                        ANX_TEXT_ARG(name), ns->name, index_type_name((*out)->def->index_type));
    }
    return anx_fail(err, ANX_E_PARAMS, "namespace '%s' has no index '%.*s'", ns->name, ANX_TEXT_ARG(name));
}

anx_status
vector_view_open(struct database *db, anx_text ns, anx_text name, anx_arena *arena, struct vector_view *out,
                 anx_error *err)
{
    struct ns_index *index = NULL;
    anx_status st = is_system_name(ns) ? ANX_E_NOT_FOUND : ns_acquire(db, ns, &out->ns, err);

    if (st != ANX_OK) {
        out->ns = NULL;
        return st == ANX_E_NOT_FOUND ? anx_fail(err, ANX_E_NOT_FOUND, "Namespace is not found") : st;
    }
    pthread_rwlock_rdlock(&out->ns->data_lock);
    st = ns_check_alive(out->ns, err);
    if (st == ANX_OK)
        st = find_index(out->ns, name, &index, err);
    if (st == ANX_OK) {
        out->serial = index->vector->serial;
        out->name = anx_arena_text(arena, index->def->name);
        if (!out->name.data)
            st = anx_fail(err, ANX_E_NOMEM, "no memory for a name");
    }
    pthread_rwlock_unlock(&out->ns->data_lock);
    if (st != ANX_OK)
        vector_view_close(out);
    return st;
}

void
vector_view_close(struct vector_view *view)
{
    ns_release(view->ns);
    view->ns = NULL;
}

anx_status
vector_view_lock(struct vector_view *view, anx_error *err)
{
    struct ns *ns = view->ns;
    anx_status st;

    pthread_rwlock_rdlock(&ns->data_lock);
    st = ns_check_alive(ns, err);
    for (size_t i = 0; st == ANX_OK && i < ns->n_index; i++)
        if (ns->indexes[i].vector && ns->indexes[i].vector->serial == view->serial) {
            view->place = &ns->indexes[i];
            view->index = ns->indexes[i].vector;
            return ANX_OK;
        }
    if (st == ANX_OK)
        st = anx_fail(err, ANX_E_NOT_FOUND, "index '%.*s' was replaced or dropped meanwhile",
                      ANX_TEXT_ARG(view->name));
    pthread_rwlock_unlock(&ns->data_lock);
    return st;
}

void
vector_view_unlock(struct vector_view *view)
{
    view->place = NULL;
    view->index = NULL;
    pthread_rwlock_unlock(&view->ns->data_lock);
}

/* ---- Sampling: a heap of the rows with the smallest hashes, the largest of them on top ---- */

struct pick {
    uint64_t hash;
    uint32_t row;
};

static int
compare_picks(const void *a, const void *b)
{
    const struct pick *x = a, *y = b;

    return (x->hash > y->hash) - (x->hash < y->hash);
}

static uint64_t
hash_of(uint32_t row, uint32_t seed)
{
    anx_rng rng = anx_rng_seed((uint64_t) seed << 32 | row);

    (void) anx_rng_next(&rng); /* neighboring states differ by little in the first output's input */
    return anx_rng_next(&rng);
}

static void
sink(struct pick *heap, size_t n, size_t at)
{
    for (;;) {
        size_t largest = at, left = 2 * at + 1;
        struct pick swap = heap[at];

        for (size_t child = left; child < left + 2 && child < n; child++)
            if (heap[child].hash > heap[largest].hash)
                largest = child;
        if (largest == at)
            return;
        heap[at] = heap[largest];
        heap[largest] = swap;
        at = largest;
    }
}

static void
offer(struct pick *heap, size_t *n, size_t limit, struct pick pick)
{
    if (*n < limit) {
        heap[(*n)++] = pick;
        if (*n == limit)
            for (size_t i = limit / 2 + 1; i-- > 0;)
                sink(heap, limit, i);
    } else if (pick.hash < heap[0].hash) {
        heap[0] = pick;
        sink(heap, limit, 0);
    }
}

anx_status
vector_view_sample(struct vector_view *view, size_t limit, uint32_t seed, const struct db_session *session,
                   anx_arena *arena, struct vector_sample *out, anx_error *err)
{
    struct pick *heap = anx_arena_array(arena, limit + 1, sizeof(*heap));
    uint32_t row = 0;
    bool is_through = false;

    *out = (struct vector_sample) { .rows = anx_arena_array(arena, limit + 1, sizeof(uint32_t)) };
    if (!heap || !out->rows)
        return anx_fail(err, ANX_E_NOMEM, "no memory for a sample of %zu rows", limit);
    while (!is_through) {
        anx_status st = db_session_check(session, err);
        size_t end;

        if (st == ANX_OK)
            st = vector_view_lock(view, err);
        if (st != ANX_OK)
            return st;
        end = chunks_end(&view->index->cells);
        for (size_t stop = (size_t) row + ROWS_AT_ONCE; row < end && row < stop; row++) {
            if (vector_cell(view->index, row) <= 1)
                continue;
            out->n_row++;
            offer(heap, &out->n, limit, (struct pick) { hash_of(row, seed), row });
        }
        is_through = row >= end;
        vector_view_unlock(view);
    }
    qsort(heap, out->n, sizeof(*heap), compare_picks);
    for (size_t i = 0; i < out->n; i++)
        out->rows[i] = heap[i].row;
    return ANX_OK;
}

bool
vector_view_floats(const struct vector_view *view, uint32_t row, anx_buffer *room, float *out)
{
    const struct vector_index *v = view->index;
    uint32_t cell = vector_cell(v, row);
    size_t size = (size_t) (cell >> 1) * v->dim * sizeof(float);

    if (cell <= 1)
        return false;
    if (cell >> 1 == 1)
        return vector_floats(v, row, cell, out);
    room->size = 0;
    if (!anx_buffer_reserve(room, size) || !vector_floats(v, row, cell, (float *) (void *) room->data))
        return false;
    memcpy(out, room->data, v->dim * sizeof(float));
    return true;
}
