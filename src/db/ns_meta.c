/* Metadata of a namespace: text keys and values, kept in memory and in the catalog. A few keys are usual; so
 * it is a sorted array under a lock of its own. */
#include <stdlib.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "db/events.h"
#include "db/ns_int.h"

struct meta_entry {
    anx_text key, value; /* in one block with the entry */
};
struct ns_meta {
    pthread_mutex_t lock;
    struct meta_entry **entries; /* owned, by key */
    size_t n, capacity;
};

struct ns_meta *
meta_create(void)
{
    struct ns_meta *meta = anx_alloc_zeroed(NULL, 1, sizeof(*meta));

    if (meta)
        pthread_mutex_init(&meta->lock, NULL);
    return meta;
}

void
meta_destroy(struct ns_meta *meta)
{
    if (!meta)
        return;
    for (size_t i = 0; i < meta->n; i++)
        anx_free(NULL, meta->entries[i]);
    anx_free(NULL, meta->entries);
    pthread_mutex_destroy(&meta->lock);
    anx_free(NULL, meta);
}

static int
key_order(anx_text a, anx_text b)
{
    size_t n = a.size < b.size ? a.size : b.size;
    int order = n > 0 ? memcmp(a.data, b.data, n) : 0;

    return order ? order : (a.size > b.size) - (a.size < b.size);
}

/* Where the key is or belongs. */
static size_t
meta_place(const struct ns_meta *meta, anx_text key, bool *found)
{
    size_t low = 0;
    size_t high = meta->n;

    *found = false;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        int order = key_order(meta->entries[middle]->key, key);

        if (order == 0)
            *found = true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static struct meta_entry *
make_entry(anx_text key, anx_text value)
{
    struct meta_entry *entry = anx_alloc_bytes(NULL, sizeof(*entry) + key.size + value.size);
    char *bytes = (char *) (entry + 1);

    if (!entry)
        return NULL;
    if (key.size > 0)
        memcpy(bytes, key.data, key.size);
    if (value.size > 0)
        memcpy(bytes + key.size, value.data, value.size);
    entry->key = (anx_text) { bytes, key.size };
    entry->value = (anx_text) { bytes + key.size, value.size };
    return entry;
}

static bool
meta_reserve(struct ns_meta *meta)
{
    size_t capacity = meta->capacity ? 2 * meta->capacity : 8;
    struct meta_entry **more;

    if (meta->n < meta->capacity)
        return true;
    more = anx_realloc_array(NULL, meta->entries, capacity, sizeof(struct meta_entry *));
    if (!more)
        return false;
    meta->entries = more;
    meta->capacity = capacity;
    return true;
}

anx_status
meta_restore(struct ns *ns, anx_text key, anx_text value, anx_error *err)
{
    struct ns_meta *meta = ns->meta;
    struct meta_entry *entry = make_entry(key, value);
    bool found;
    size_t place;

    if (!entry)
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    pthread_mutex_lock(&meta->lock);
    place = meta_place(meta, key, &found);
    if (found) {
        struct meta_entry *before = meta->entries[place];

        meta->entries[place] = entry;
        entry = before;
    } else if (meta_reserve(meta)) {
        memmove(&meta->entries[place + 1], &meta->entries[place],
                (meta->n - place) * sizeof(struct meta_entry *));
        meta->entries[place] = entry;
        meta->n++;
        entry = NULL;
    }
    pthread_mutex_unlock(&meta->lock);
    if (!entry || found) {
        anx_free(NULL, entry);
        return ANX_OK;
    }
    anx_free(NULL, entry);
    return anx_fail(err, ANX_E_NOMEM, "out of memory");
}

static void
meta_forget(struct ns_meta *meta, anx_text key)
{
    bool found;
    size_t place;

    pthread_mutex_lock(&meta->lock);
    place = meta_place(meta, key, &found);
    if (found) {
        anx_free(NULL, meta->entries[place]);
        memmove(&meta->entries[place], &meta->entries[place + 1],
                (meta->n - place - 1) * sizeof(struct meta_entry *));
        meta->n--;
    }
    pthread_mutex_unlock(&meta->lock);
}

anx_status
meta_put(struct ns *ns, struct store_batch *batch, anx_text key, anx_text value, anx_error *err)
{
    char bytes[STORE_KEY_MAX];
    size_t size;
    anx_status st = ANX_OK;

    if (key.size > META_KEY_MAX)
        return anx_fail(err, ANX_E_PARAMS, "Key of metadata is %zu bytes long, at most %d are possible",
                        key.size, META_KEY_MAX);
    size = catalog_key('M', ns->id, key, bytes);
    if (value.data)
        st = meta_restore(ns, key, value, err);
    else
        meta_forget(ns->meta, key);
    if (st != ANX_OK || !batch)
        return st;
    if (value.data)
        store_batch_put(batch, ns->database->catalog, (anx_text) { bytes, size }, value);
    else
        store_batch_delete(batch, ns->database->catalog, (anx_text) { bytes, size });
    return ANX_OK;
}

anx_status
meta_get(struct ns *ns, anx_text key, anx_arena *arena, anx_text *value, anx_error *err)
{
    struct ns_meta *meta = ns->meta;
    bool found;
    size_t place;

    *value = ANX_TEXT("");
    pthread_mutex_lock(&meta->lock);
    place = meta_place(meta, key, &found);
    if (found)
        *value = anx_arena_text(arena, meta->entries[place]->value);
    pthread_mutex_unlock(&meta->lock);
    return value->data ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "out of memory");
}

void
meta_each(struct ns *ns, void (*each)(void *context, anx_text key, anx_text value), void *context)
{
    pthread_mutex_lock(&ns->meta->lock);
    for (size_t i = 0; i < ns->meta->n; i++)
        each(context, ns->meta->entries[i]->key, ns->meta->entries[i]->value);
    pthread_mutex_unlock(&ns->meta->lock);
}

/* ---- As front ends see it ---- */

struct listing {
    anx_arena *arena;
    anx_text *keys, *values;
    size_t n, capacity;
    bool failed;
};

static void
list_entry(void *context, anx_text key, anx_text value)
{
    struct listing *listing = context;

    if (listing->failed || listing->n == listing->capacity)
        return;
    listing->keys[listing->n] = anx_arena_text(listing->arena, key);
    listing->values[listing->n] = anx_arena_text(listing->arena, value);
    listing->failed = !listing->keys[listing->n].data || !listing->values[listing->n].data;
    listing->n++;
}

anx_status
db_meta_list(struct database *db, anx_text name, anx_arena *arena, anx_text **keys, anx_text **values,
             size_t *n, anx_error *err)
{
    struct listing listing = { .arena = arena };
    struct ns *ns;
    anx_status st = ns_acquire(db, name, &ns, err);

    *n = 0;
    if (st != ANX_OK)
        return st;
    pthread_mutex_lock(&ns->meta->lock);
    listing.capacity = ns->meta->n;
    pthread_mutex_unlock(&ns->meta->lock);
    listing.keys = anx_arena_array(arena, listing.capacity + 1, sizeof(anx_text));
    listing.values = anx_arena_array(arena, listing.capacity + 1, sizeof(anx_text));
    if (!listing.keys || !listing.values)
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    else
        meta_each(ns, list_entry, &listing);
    if (listing.failed)
        st = anx_fail(err, ANX_E_NOMEM, "out of memory");
    ns_release(ns);
    *keys = listing.keys;
    *values = listing.values;
    *n = listing.n;
    return st;
}

anx_status
db_meta_get(struct database *db, anx_text name, anx_text key, anx_arena *arena, anx_text *value,
            anx_error *err)
{
    struct ns *ns;
    anx_status st = ns_acquire(db, name, &ns, err);

    if (st != ANX_OK)
        return st;
    st = meta_get(ns, key, arena, value, err);
    ns_release(ns);
    return st;
}

static anx_status
meta_change(struct database *db, anx_text name, anx_text key, anx_text value, anx_error *err)
{
    struct store_batch *batch;
    struct ns *ns;
    uint64_t ticket = 0;
    anx_status st;

    if (key.size == 0)
        return anx_fail(err, ANX_E_PARAMS, "Empty key is not supported");
    st = ns_change_begin(db, name, &ns, err);
    if (st != ANX_OK)
        return st;
    st = persist_begin(ns, &batch, err);
    if (st == ANX_OK) {
        st = meta_put(ns, batch, key, value, err);
        if (st == ANX_OK)
            st = persist_submit(ns, batch, &ticket, err);
        else
            store_batch_destroy(batch);
    }
    if (st == ANX_OK)
        event_emit(ns, value.data ? EVENT_PUT_META : EVENT_DELETE_META, 1);
    return ns_change_end(ns, st, ticket, err);
}

anx_status
db_meta_put(struct database *db, anx_text ns, anx_text key, anx_text value, anx_error *err)
{
    if (!value.data)
        value = ANX_TEXT("");
    return meta_change(db, ns, key, value, err);
}

anx_status
db_meta_delete(struct database *db, anx_text ns, anx_text key, anx_error *err)
{
    return meta_change(db, ns, key, (anx_text) { NULL, 0 }, err);
}
