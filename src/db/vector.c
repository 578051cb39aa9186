/* Vector indexes of a namespace: definition to library index, and the life of a row's vectors. Searching is
 * in vector_search.c, files in vector_file.c. The scheme of labels is in data.h.
 *
 * A library index takes writers and searches at once, so vectors go in and out without data_lock; what is
 * under it is only the cell of the row, one store, which says which labels count. */
#include "db/db_int.h"
#include "db/vector_int.h"

#include <math.h>

static anx_index_kind
kind_of(enum index_type type)
{
    if (type == INDEX_HNSW)
        return ANX_INDEX_HNSW;
    return type == INDEX_IVF ? ANX_INDEX_IVF : ANX_INDEX_FLAT;
}

anx_status
vector_ann_create(const struct vector_index *v, bool is_quantized, size_t threads, anx_index **ann,
                  struct vector_source **source, anx_error *err)
{
    const struct vector_def *def = &v->def->vector;
    anx_index_params params = ANX_INDEX_PARAMS_INIT;

    *ann = NULL;
    *source = NULL;
    params.kind = kind_of(v->def->index_type);
    params.metric = def->metric;
    params.dim = def->dim;
    params.capacity = def->start_size;
    params.m = def->m;
    params.ef_construction = def->ef_construction;
    params.centroids = def->centroids;
    if (params.centroids > ANX_IVF_CENTROIDS_MAX)
        params.centroids = ANX_IVF_CENTROIDS_MAX;
    params.threads = threads;
    if (v->def->index_type == INDEX_HNSW) {
        *source = anx_alloc_zeroed(NULL, 1, sizeof(**source));
        if (!*source)
            return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
        **source = vector_source_of(v);
        (*source)->keeps_read = false;
        params.fetch = vector_fetch;
        params.fetch_context = *source;
    }
    if (is_quantized) {
        params.quantization = ANX_QUANTIZATION_SQ8;
        params.quantile = def->has_quantile ? def->quantile : 0;
        params.sample_size = def->sample_size;
    }
    return anx_index_create(&params, ann, err);
}

anx_status
vector_create(struct ns *ns, const struct ns_index *index, struct vector_index **out, anx_error *err)
{
    static _Atomic uint64_t serial;
    struct vector_index *v = anx_alloc_zeroed(NULL, 1, sizeof(*v));
    anx_status st;

    *out = NULL;
    if (!v)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    v->def = index->def;
    v->ns = ns;
    v->serial = atomic_fetch_add(&serial, 1) + 1;
    v->vector_field = index->vector_field;
    v->is_array = index->def->is_array;
    v->metric = index->def->vector.metric;
    v->dim = index->def->vector.dim;
    chunks_init(&v->cells, sizeof(uint32_t));
    v->empty = roaring_bitmap_create();
    v->any = roaring_bitmap_create();
    if (v->empty && v->any)
        st = vector_ann_create(v, false, ns->database ? ns->database->engine->params.n_thread : 0, &v->ann,
                               &v->source, err);
    else
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate an index");
    if (st != ANX_OK) {
        vector_destroy(v);
        return st;
    }
    *out = v;
    return ANX_OK;
}

void
vector_destroy(struct vector_index *index)
{
    if (!index)
        return;
    vector_reconfigure_end(index);
    anx_index_destroy(index->ann);
    anx_free(NULL, index->source);
    chunks_fini(&index->cells);
    if (index->empty)
        roaring_bitmap_free(index->empty);
    if (index->any)
        roaring_bitmap_free(index->any);
    if (index->changed)
        roaring_bitmap_free(index->changed);
    anx_free(NULL, index->dead);
    anx_free(NULL, index);
}

/* ---- Into the library index ---- */

anx_status
vector_check_floats(const struct vector_index *index, const struct doc_vectors *vectors, anx_error *err)
{
    if (vectors->n > 0 && vectors->dim != index->dim)
        return anx_fail(err, ANX_E_NOT_VALID,
                        "Attempt to upsert vector of dimension %u in a float vector index of dimension %u",
                        vectors->dim, index->dim);
    for (size_t i = 0; i < (size_t) vectors->n * index->dim; i++)
        if (!isfinite(vectors->floats[i]))
            return anx_fail(err, ANX_E_NOT_VALID,
                            "Attempt to upsert vector with a component that is not a finite number: %g at "
                            "place %zu of field '%.*s'",
                            (double) vectors->floats[i], i % index->dim, ANX_TEXT_ARG(index->def->name));
    return ANX_OK;
}

static void
remove_label(struct vector_index *v, uint64_t label)
{
    anx_error err;

    /* Absent: it was never there (a batch that failed). Out of memory: a search drops it, and so does the
     * next load of a file. */
    (void) !anx_index_remove(v->ann, label, &err);
}

/* Vectors that do not change stay where they are: most updates are about other fields. *stored: room for the
 * vectors of a row, which grows. */
static anx_status
set_cell(const struct vector_index *v, struct vector_change *c, anx_buffer *stored, anx_error *err)
{
    uint32_t cell = vector_cell(v, c->row);
    size_t size = (size_t) (cell >> 1) * v->dim * sizeof(float);
    anx_status st = vector_check_floats(v, &c->vectors, err);

    if (st == ANX_OK && c->vectors.n > UINT32_MAX >> 1)
        st = anx_fail(err, ANX_E_LIMIT, "a document has %u vectors in one field", c->vectors.n);
    if (st != ANX_OK)
        return st;
    c->is_same = false;
    if (cell > 1 && cell >> 1 == c->vectors.n) {
        stored->size = 0;
        if (!anx_buffer_reserve(stored, size))
            return anx_fail(err, ANX_E_NOMEM, "could not allocate %u vectors", c->vectors.n);
        c->is_same = vector_floats(v, c->row, cell, (float *) (void *) stored->data) &&
                     memcmp(stored->data, c->vectors.floats, size) == 0;
    }
    c->cell = c->is_same ? cell : c->vectors.n << 1 | (~cell & 1);
    return ANX_OK;
}

/* New vectors of the changes side by side. */
static anx_status
add_batch(struct vector_index *v, const struct vector_change *changes, size_t n, size_t count, anx_error *err)
{
    uint64_t *labels = anx_alloc_array(NULL, count, sizeof(*labels));
    float *floats = anx_alloc_array(NULL, count, v->dim * sizeof(*floats));
    size_t at = 0;
    anx_status st = ANX_OK;

    if (!labels || !floats)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate %zu vectors", count);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        const struct vector_change *c = &changes[i];

        if (c->is_same || c->vectors.n == 0)
            continue;
        memcpy(floats + at * v->dim, c->vectors.floats, (size_t) c->vectors.n * v->dim * sizeof(*floats));
        for (uint32_t p = 0; p < c->vectors.n; p++)
            labels[at++] = vector_label(v, c->row, c->cell & 1, p);
    }
    if (st == ANX_OK)
        st = count == 1 ? anx_index_add(v->ann, labels[0], floats, err)
                        : anx_index_add_batch(v->ann, count, labels, floats, err);
    anx_free(NULL, labels);
    anx_free(NULL, floats);
    return st;
}

/* remembers: what changes is on its way to the store (and not from there). */
static anx_status
prepare(struct vector_index *v, struct vector_change *changes, size_t n, bool remembers, anx_error *err)
{
    anx_buffer stored;
    size_t count = 0;
    anx_status st = ANX_OK;

    vector_sweep(v); /* a row that changes twice under one hold takes up the labels it had before */
    anx_buffer_init(&stored, NULL, SIZE_MAX);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        st = set_cell(v, &changes[i], &stored, err);
        if (st != ANX_OK || changes[i].is_same)
            continue;
        count += changes[i].vectors.n;
        if (remembers) {
            vector_keep(v, changes[i].row);
            vector_remember(v, changes[i].row, changes[i].cell, &changes[i].vectors);
        }
    }
    anx_buffer_fini(&stored);
    if (st != ANX_OK || count == 0)
        return st;
    st = add_batch(v, changes, n, count, err);
    if (st == ANX_E_EXISTS) { /* labels that could not be removed when their time had come */
        vector_cancel(v, changes, n);
        st = add_batch(v, changes, n, count, err);
    }
    if (st != ANX_OK)
        vector_cancel(v, changes, n); /* a batch that ran out of memory may have put some in */
    return st;
}

anx_status
vector_prepare(struct vector_index *index, struct vector_change *changes, size_t n, anx_error *err)
{
    return prepare(index, changes, n, true, err);
}

void
vector_cancel(struct vector_index *index, const struct vector_change *changes, size_t n)
{
    for (size_t i = 0; i < n; i++)
        for (uint32_t p = 0; !changes[i].is_same && p < changes[i].vectors.n; p++)
            remove_label(index, vector_label(index, changes[i].row, changes[i].cell & 1, p));
}

/* ---- Publishing ---- */

anx_status
vector_reserve(struct vector_index *index, uint32_t end, anx_error *err)
{
    return chunks_reserve(&index->cells, end, err);
}

static void
bury(struct vector_index *v, uint64_t label)
{
    if (v->n_dead == v->dead_capacity) {
        size_t capacity = v->dead_capacity ? 2 * v->dead_capacity : 64;
        uint64_t *dead = anx_realloc_array(NULL, v->dead, capacity, sizeof(*dead));

        if (!dead) {
            remove_label(v, label); /* slower for the readers who wait, but it cannot fail */
            return;
        }
        v->dead = dead;
        v->dead_capacity = capacity;
    }
    v->dead[v->n_dead++] = label;
}

static void
bury_row(struct vector_index *v, uint32_t row, uint32_t cell)
{
    for (uint32_t p = 0; p < cell >> 1; p++)
        bury(v, vector_label(v, row, cell & 1, p));
    v->n_vector -= cell >> 1;
}

static void
set_bit(roaring_bitmap_t *bitmap, uint32_t row, bool is_set)
{
    if (is_set)
        roaring_bitmap_add(bitmap, row);
    else
        roaring_bitmap_remove(bitmap, row);
}

static void
announce(struct vector_index *v, uint32_t row, uint32_t cell, const struct doc_vectors *vectors)
{
    *(uint32_t *) chunks_at(&v->cells, row) = cell;
    v->n_vector += cell >> 1;
    set_bit(v->empty, row, vectors->n == 0 || vectors->n_empty > 0);
    set_bit(v->any, row, vectors->n > 0 || (v->is_array && vectors->n_empty > 0));
}

void
vector_publish(struct vector_index *index, const struct vector_change *change)
{
    if (change->is_same)
        index->n_vector -= change->cell >> 1;
    else
        bury_row(index, change->row, vector_cell(index, change->row));
    if (index->changed && !change->is_same) /* the same vectors have the same labels */
        roaring_bitmap_add(index->changed, change->row);
    announce(index, change->row, change->cell, &change->vectors);
}

void
vector_unpublish(struct vector_index *index, uint32_t row)
{
    uint32_t cell = vector_cell(index, row);

    if (cell > 1)
        bury_row(index, row, cell);
    if (cell != 0)
        *(uint32_t *) chunks_at(&index->cells, row) = cell & 1;
    if (index->changed && cell > 1)
        roaring_bitmap_add(index->changed, row);
    roaring_bitmap_remove(index->empty, row);
    roaring_bitmap_remove(index->any, row);
}

uint32_t
vector_count(const struct vector_index *index, uint32_t row)
{
    return vector_cell(index, row) >> 1;
}

void
vector_sweep(struct vector_index *index)
{
    for (size_t i = 0; i < index->n_dead; i++)
        remove_label(index, index->dead[i]);
    index->n_dead = 0;
    if (index->dead_capacity > 65536) { /* a big change should not be remembered for ever */
        anx_free(NULL, index->dead);
        index->dead = NULL;
        index->dead_capacity = 0;
    }
}

static anx_status
insert_many(struct vector_index *v, size_t n, const uint32_t *rows, const struct doc_vectors *vectors,
            bool remembers, anx_error *err)
{
    struct vector_change *changes = anx_alloc_array(NULL, n, sizeof(*changes));
    uint32_t end = 0;
    anx_status st;

    if (!changes)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu rows", n);
    for (size_t i = 0; i < n; i++) {
        changes[i] = (struct vector_change) { .row = rows[i], .vectors = vectors[i] };
        end = rows[i] >= end ? rows[i] + 1 : end;
    }
    st = vector_reserve(v, end, err);
    if (st == ANX_OK)
        st = prepare(v, changes, n, remembers, err);
    for (size_t i = 0; st == ANX_OK && i < n; i++)
        vector_publish(v, &changes[i]);
    vector_sweep(v);
    anx_free(NULL, changes);
    return st;
}

anx_status
vector_insert(struct vector_index *index, uint32_t row, const struct doc_vectors *vectors, anx_error *err)
{
    return insert_many(index, 1, &row, vectors, true, err);
}

anx_status
vector_insert_many(struct vector_index *index, size_t n, const uint32_t *rows,
                   const struct doc_vectors *vectors, anx_error *err)
{
    return insert_many(index, n, rows, vectors, false, err);
}

void
vector_remove(struct vector_index *index, uint32_t row)
{
    vector_unpublish(index, row);
    vector_sweep(index);
}

/* ---- Loading: rows whose labels came with a file ---- */

/* Are these vectors in the index under labels of that generation? For all that codes alone can tell. */
static bool
holds_floats(const struct vector_index *v, uint32_t row, uint32_t generation,
             const struct doc_vectors *vectors)
{
    for (uint32_t p = 0; p < vectors->n; p++)
        if (!anx_index_holds(v->ann, vector_label(v, row, generation, p),
                             vectors->floats + (size_t) p * v->dim))
            return false;
    return true;
}

anx_status
vector_restore(struct vector_index *index, uint32_t row, const struct doc_vectors *vectors, bool *found,
               anx_error *err)
{
    uint32_t generation = 0;
    anx_status st = vector_check_floats(index, vectors, err);

    *found = false;
    if (st == ANX_OK)
        st = vector_reserve(index, row + 1, err);
    if (st != ANX_OK)
        return st;
    while (vectors->n > 0 && generation < 2 && !holds_floats(index, row, generation, vectors))
        generation++;
    if (generation == 2)
        return ANX_OK;
    announce(index, row, vectors->n << 1 | generation, vectors);
    *found = true;
    return ANX_OK;
}

static bool
is_stale(void *context, uint64_t label)
{
    uint32_t row;

    return !vector_label_row(context, label, &row);
}

/* Labels that no row announced are met by asking for the neighbors of anything among them alone. */
anx_status
vector_restore_end(struct vector_index *index, anx_error *err)
{
    anx_filter filter = { .accept = is_stale, .context = index };
    anx_search_params params = ANX_SEARCH_PARAMS_INIT;
    size_t n_stale = anx_index_count(index->ann) - index->n_vector, got = 0;
    float *query, distances[64];
    uint64_t labels[64];
    anx_hits hits = { distances, labels };
    anx_status st = ANX_OK;

    if (n_stale == 0)
        return ANX_OK;
    query = anx_alloc_zeroed(NULL, index->dim, sizeof(*query));
    if (!query)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a vector");
    params.filter = &filter;
    do {
        got = 0;
        st = anx_index_search(index->ann, &params, 1, query, ANX_COUNT_OF(labels), &hits, err);
        while (st == ANX_OK && got < ANX_COUNT_OF(labels) && labels[got] != ANX_LABEL_NONE)
            remove_label(index, labels[got++]);
    } while (st == ANX_OK && got > 0);
    anx_free(NULL, query);
    return st;
}

/* ---- Figures and checks ---- */

const roaring_bitmap_t *
vector_rows_empty(const struct vector_index *index)
{
    return index->empty;
}

const roaring_bitmap_t *
vector_rows_any(const struct vector_index *index)
{
    return index->any;
}

anx_status
vector_train(struct vector_index *index, double share, anx_error *err)
{
    anx_index_stats stats;

    anx_index_get_stats(index->ann, &stats);
    if (index->def->index_type != INDEX_IVF || !stats.is_trained)
        return ANX_OK;
    return anx_index_train(index->ann, share > 0 && share <= 1 ? share : 1, err);
}

void
vector_get_numbers(const struct vector_index *index, struct vector_numbers *out)
{
    anx_index_stats stats;

    anx_index_get_stats(index->ann, &stats);
    *out = (struct vector_numbers) {
        .count = index->n_vector,
        .empty_rows = roaring_bitmap_get_cardinality(index->empty),
        .slots = stats.slots,
        .memory = stats.memory_bytes + chunks_memory(&index->cells) +
                  roaring_bitmap_size_in_bytes(index->empty) + roaring_bitmap_size_in_bytes(index->any),
        .data = stats.row_bytes ? stats.row_bytes : stats.code_bytes,
        .is_built = index->def->index_type != INDEX_IVF || stats.is_trained,
        .is_quantized = atomic_load(&index->is_quantized),
    };
}

/* The labels of a row stand for its floats (for what codes alone can tell). */
static anx_status
check_row(const struct vector_index *v, uint32_t row, uint32_t cell, anx_error *err)
{
    uint32_t n = cell >> 1, p = 0;
    float *floats = anx_alloc_array(NULL, n, v->dim * sizeof(*floats));
    anx_status st = ANX_OK;

    if (!floats)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %u vectors", n);
    while (p < n && anx_index_contains(v->ann, vector_label(v, row, cell & 1, p)))
        p++;
    if (p < n)
        st = anx_fail(err, ANX_E_CORRUPT, "vector index: vector %u of row %u is not in it", p, row);
    else if (!vector_floats(v, row, cell, floats))
        st = anx_fail(err, ANX_E_CORRUPT, "vector index: the vectors of row %u cannot be read", row);
    for (p = 0; st == ANX_OK && p < n; p++)
        if (!anx_index_holds(v->ann, vector_label(v, row, cell & 1, p), floats + (size_t) p * v->dim))
            st = anx_fail(err, ANX_E_CORRUPT, "vector index: vector %u of row %u is another one in it", p,
                          row);
    anx_free(NULL, floats);
    return st;
}

anx_status
vector_check(const struct vector_index *index, anx_error *err)
{
    uint64_t n_vector = 0;

    for (uint32_t row = 0; row < chunks_end(&index->cells); row++) {
        uint32_t cell = vector_cell(index, row);

        anx_status st = cell > 1 ? check_row(index, row, cell, err) : ANX_OK;

        if (st != ANX_OK)
            return st;
        n_vector += cell >> 1;
        if (cell > 1 && !roaring_bitmap_contains(index->any, row))
            return anx_fail(err, ANX_E_CORRUPT, "vector index: row %u has vectors and is not in ANY", row);
    }
    if (n_vector != index->n_vector || n_vector + index->n_dead != anx_index_count(index->ann))
        return anx_fail(
            err, ANX_E_CORRUPT, "vector index: rows have %llu vectors, %llu were counted, it holds %zu",
            (unsigned long long) n_vector, (unsigned long long) index->n_vector, anx_index_count(index->ann));
    return anx_index_check(index->ann, err);
}
