/* Results: their end, their size, and the lists of copies that changes give. */
#include "db/result.h"

#include "base/alloc.h"
#include "base/error.h"
#include "db/ns_life.h"
#include "db/result_int.h"

enum { FIRST_ITEMS = 16 };

void
result_free(struct result *result)
{
    if (!result)
        return;
    exec_fini(&result->exec);
    ns_release(result->ns);
    anx_free(NULL, result->items);
    anx_arena_destroy(result->scratch);
    anx_arena_destroy(result->arena); /* and with it the result */
}

size_t
result_count(const struct result *result)
{
    if (result->ns)
        return result->n_item;
    if (result->hides_items)
        return 0;
    return result->merged ? result->n_merged : result->parts[0]->hits.n;
}

/* ---- Lists of copies ---- */

static anx_status
fail_nomem(anx_error *err)
{
    return anx_fail(err, ANX_E_NOMEM, "could not allocate memory for a result");
}

/* The name changes under the list's lock. */
static anx_text
copy_name(anx_arena *arena, struct ns *ns)
{
    anx_text name;

    if (!ns->database)
        return anx_arena_text(arena, anx_text_of(ns->name));
    pthread_rwlock_rdlock(&ns->database->list_lock);
    name = anx_arena_text(arena, anx_text_of(ns->name));
    pthread_rwlock_unlock(&ns->database->list_lock);
    return name;
}

anx_status
result_create_items(struct ns *ns, struct result **out, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = arena ? anx_arena_array(arena, 1, sizeof(*result)) : NULL;
    anx_text name = result ? copy_name(arena, ns) : (anx_text) { NULL, 0 };

    *out = NULL;
    if (!name.data) {
        anx_arena_destroy(arena);
        return fail_nomem(err);
    }
    result->arena = arena;
    result->ns = ns;
    result->ns_name = name;
    atomic_fetch_add_explicit(&ns->references, 1,
                              memory_order_relaxed); /* the caller has one: it cannot be 0 */
    *out = result;
    return ANX_OK;
}

static anx_status
push_item(struct result *result, const struct item_copy *item, anx_error *err)
{
    if (result->n_item == result->item_capacity) {
        size_t capacity = result->item_capacity ? result->item_capacity * 2 : FIRST_ITEMS;
        struct item_copy *items = anx_realloc_array(NULL, result->items, capacity, sizeof(*items));

        if (!items)
            return fail_nomem(err);
        result->items = items;
        result->item_capacity = capacity;
    }
    result->items[result->n_item++] = *item;
    return ANX_OK;
}

static const struct doc_vectors *
copy_vectors(anx_arena *arena, const struct doc_vectors *vectors, size_t n)
{
    struct doc_vectors *copies = anx_arena_array(arena, n, sizeof(*copies));

    for (size_t i = 0; copies && i < n; i++) {
        size_t n_float = (size_t) vectors[i].n * vectors[i].dim;
        float *floats;

        copies[i] = vectors[i];
        if (n_float == 0)
            continue;
        floats = anx_arena_array(arena, n_float, sizeof(*floats));
        if (!floats)
            return NULL;
        memcpy(floats, vectors[i].floats, n_float * sizeof(*floats));
        copies[i].floats = floats;
    }
    return copies;
}

anx_status
result_add_item(struct result *result, struct doc doc, const struct doc_vectors *vectors, anx_error *err)
{
    uint8_t *bytes = anx_arena_bytes(result->arena, doc.size);
    struct item_copy item = { .doc = { bytes, doc.size } };

    if (!bytes)
        return fail_nomem(err);
    memcpy(bytes, doc.bytes, doc.size);
    if (vectors) {
        item.vectors = copy_vectors(result->arena, vectors, result->ns->n_vector_field);
        if (!item.vectors)
            return fail_nomem(err);
    }
    return push_item(result, &item, err);
}

anx_status
result_add_empty(struct result *result, anx_error *err)
{
    struct item_copy item = { .doc = { NULL, 0 } };

    result->shows_item_total = true;
    return push_item(result, &item, err);
}

void
result_show_total(struct result *result)
{
    result->shows_item_total = true;
}
