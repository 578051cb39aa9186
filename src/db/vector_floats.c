/* The floats of a vector index: in the library index, or, when that keeps codes alone, in the records of the
 * store and in ns->pending (pending.h), which together have every version that somebody can still ask for. */
#include <string.h>

#include "base/alloc.h"
#include "db/pending.h"
#include "db/persist.h"
#include "db/vector_int.h"

struct vector_source
vector_source_of(const struct vector_index *v)
{
    return (struct vector_source) { .ns = v->ns,
                                    .vector_field = v->vector_field,
                                    .dim = v->dim,
                                    .is_array = v->is_array,
                                    .index = v,
                                    .keeps_read = true };
}

void
vector_source_fini(struct vector_source *source)
{
    store_read_end(source->read);
    source->read = NULL;
}

/* Floats in a record have no alignment, so they are copied: what costs is the first touch of their memory. */
static const void *
peek(struct vector_source *s, struct store_read *read, uint32_t row, uint32_t position, void *room)
{
    const void *floats = persist_peek_vector(s->ns, read, s->vector_field, row, position, s->dim);

    return floats ? memcpy(room, floats, s->dim * sizeof(float)) : NULL;
}

const void *
vector_fetch(void *source, uint64_t label, void *room)
{
    struct vector_source *s = source;
    struct store_read *read = s->read;
    uint32_t row, generation, position;
    const void *found;

    vector_label_parts(s->is_array, label, &row, &generation, &position);
    if (!s->ns->table)
        return NULL;
    if (s->ns->pending && pending_get(s->ns->pending, s->vector_field, row, generation, position, room))
        return room;
    if (s->index && !vector_label_row(s->index, label, &row))
        return NULL; /* the store has another version, or none */
    if (!read && store_read_begin(s->ns->database->store, &read, NULL) != ANX_OK)
        return NULL;
    found = peek(s, read, row, position, room);
    if (s->keeps_read)
        s->read = read;
    else
        store_read_end(read);
    return found;
}

static bool
floats_kept(const struct vector_index *v, uint32_t row, uint32_t cell, float *out)
{
    anx_error err;

    for (uint32_t p = 0; p < cell >> 1; p++) {
        uint64_t label = vector_label(v, row, cell & 1, p);

        if (!anx_index_contains(v->ann, label) ||
            anx_index_get(v->ann, label, out + (size_t) p * v->dim, &err) != ANX_OK)
            return false;
    }
    return true;
}

bool
vector_floats(const struct vector_index *v, uint32_t row, uint32_t cell, float *out)
{
    uint32_t n = cell >> 1, p = 0;

    if (!atomic_load(&v->is_quantized))
        return floats_kept(v, row, cell, out);
    while (p < n && v->ns->pending &&
           pending_get(v->ns->pending, v->vector_field, row, cell & 1, p, out + (size_t) p * v->dim))
        p++;
    return p == n || persist_read_vectors(v->ns, v->vector_field, row, n, v->dim, out);
}

void
vector_remember(const struct vector_index *v, uint32_t row, uint32_t cell, const struct doc_vectors *vectors)
{
    bool may_be_quantized = v->def->vector.is_quantized || atomic_load(&v->is_quantized);

    if (may_be_quantized && v->source && v->ns->pending && vectors->n > 0)
        pending_put(v->ns->pending, v->vector_field, row, cell & 1, vectors);
}

void
vector_keep(const struct vector_index *index, uint32_t row)
{
    uint32_t cell = vector_cell(index, row);
    struct doc_vectors vectors = { .n = cell >> 1, .dim = index->dim };
    float *floats;

    if (vectors.n == 0 || !atomic_load(&index->is_quantized))
        return;
    floats = anx_alloc_array(NULL, vectors.n, index->dim * sizeof(*floats));
    vectors.floats = floats;
    /* Without: until the change is published, readers of the old version get what the codes say. */
    if (floats && vector_floats(index, row, cell, floats))
        vector_remember(index, row, cell, &vectors);
    anx_free(NULL, floats);
}
