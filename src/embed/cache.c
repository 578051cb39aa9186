/* The cache of embeddings; see the header.
 *
 * On disk, in the store of the folder: per tag two tables,
 *
 *     k:<tag>   hash (8 bytes, little-endian) -> version (1 byte)      what is there; read at first use
 *
 *     v:<tag>   hash -> version 1, three zero bytes, size of the source, n, dim (4 bytes each), source,
 * floats
 *
 * The hash is of kind and source; the source itself is compared when a vector is used, so equal hashes cost a
 * request and give no wrong vector.
 *
 * Locks: caches->lock (rules, list, store), then cache->lock (one tag). Reading a vector from the store
 * happens under cache->lock: some microseconds out of the page cache. */
#include "embed/cache.h"

#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/alloc.h"
#include "base/bytes.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/log.h"
#include "doc/json.h"
#include "store/store.h"

#define FORMAT_VERSION 1
#define VALUE_HEAD 16
#define TAG_MAX 200        /* bytes; longer tags are not cached */
#define SYNC_MS 500        /* a crash of the machine forgets so much: it is a cache */
#define NONE UINT32_MAX
#define RECENT_MAX ((size_t) 64 << 20) /* bytes on their way to the disk; then writers wait for it */

struct entry {
    uint64_t hash;
    uint32_t next, previous; /* by last use; next alone in the list of free entries */
    uint32_t hits;           /* requests so far, while nothing is stored */
    uint32_t input;          /* pending: of its owner */
    uint64_t owner;          /* pending: 0 otherwise */
    char *recent;            /* owned; the value while the store does not have it yet */
    bool is_stored;
};
struct recent { /* values on their way to the disk, oldest first */
    uint64_t ticket;
    uint32_t entry;
    char *value; /* what entry.recent is, unless it was freed since */
    size_t size;
};
struct embed_cache {
    struct embed_caches *caches;
    struct embed_cache *next;
    char *tag; /* owned */
    pthread_mutex_t lock;
    uint64_t max_items, hits;
    bool is_loaded, is_broken;
    struct store_table *keys, *values; /* NULL until loaded */
    struct entry *entries; /* owned [capacity] */
    uint32_t n, n_made, capacity;
    uint32_t free, first, last; /* lists; first: latest use */
    uint32_t *table;            /* owned [n_table]: entry, or NONE */
    size_t n_table;
    struct recent *recents; /* owned ring [n_ring] */
    size_t n_ring, recent_first, n_recent, recent_bytes;
};
struct embed_caches {
    char *path; /* owned; NULL: none */
    pthread_mutex_t lock;
    struct store *store; /* NULL until first needed */
    bool is_failed;      /* the store cannot be opened */
    struct embed_cache *first;
    struct embed_cache_rule *rules; /* owned, tags too */
    size_t n_rule;
    bool is_configured;
};

/* ---- Entries; cache->lock ---- */

static uint64_t
hash_source(char kind, anx_text source)
{
    return anx_hash(source.data, source.size) ^ (kind == 't' ? 0x9e3779b97f4a7c15u : 0);
}

static uint32_t *
table_place(struct embed_cache *c, uint64_t hash)
{
    size_t at = (hash ^ hash >> 32) & (c->n_table - 1);

    while (c->table[at] != NONE && c->entries[c->table[at]].hash != hash)
        at = (at + 1) & (c->n_table - 1);
    return &c->table[at];
}

static uint32_t
find_entry(struct embed_cache *c, uint64_t hash)
{
    return c->n_table > 0 ? *table_place(c, hash) : NONE;
}

static bool
grow(struct embed_cache *c)
{
    uint32_t capacity = c->capacity ? 2 * c->capacity : 64;
    size_t n_table = (size_t) capacity * 2;
    struct entry *entries = anx_realloc_array(NULL, c->entries, capacity, sizeof(*entries));
    uint32_t *table;

    if (!entries)
        return false;
    c->entries = entries;
    table = anx_alloc_array(NULL, n_table, sizeof(*table));
    if (!table)
        return false;
    anx_free(NULL, c->table);
    c->table = table;
    c->n_table = n_table;
    c->capacity = capacity;
    memset(table, 0xff, n_table * sizeof(*table));
    for (uint32_t i = c->first; i != NONE; i = entries[i].next)
        *table_place(c, entries[i].hash) = i;
    return true;
}

static void
unlink_entry(struct embed_cache *c, uint32_t i)
{
    struct entry *e = &c->entries[i];

    *(e->previous == NONE ? &c->first : &c->entries[e->previous].next) = e->next;
    *(e->next == NONE ? &c->last : &c->entries[e->next].previous) = e->previous;
}

static void
link_first(struct embed_cache *c, uint32_t i)
{
    struct entry *e = &c->entries[i];

    e->previous = NONE;
    e->next = c->first;
    *(c->first == NONE ? &c->last : &c->entries[c->first].previous) = i;
    c->first = i;
}

static uint32_t
add_entry(struct embed_cache *c, uint64_t hash)
{
    uint32_t i = c->free;

    if (i == NONE && c->n_made == c->capacity && !grow(c))
        return NONE;
    if (i != NONE)
        c->free = c->entries[i].next;
    else
        i = c->n_made++;
    c->entries[i] = (struct entry) { .hash = hash };
    *table_place(c, hash) = i;
    link_first(c, i);
    c->n++;
    return i;
}

/* Out of the table; those behind it that it kept from their places move up. */
static void
untable(struct embed_cache *c, uint64_t hash)
{
    size_t at = (size_t) (table_place(c, hash) - c->table);

    c->table[at] = NONE;
    for (size_t i = (at + 1) & (c->n_table - 1); c->table[i] != NONE; i = (i + 1) & (c->n_table - 1)) {
        uint32_t entry = c->table[i];

        c->table[i] = NONE;
        *table_place(c, c->entries[entry].hash) = entry;
    }
}

static void
remove_entry(struct embed_cache *c, uint32_t i, struct store_batch *batch)
{
    struct entry *e = &c->entries[i];
    uint8_t key[8];

    if (e->is_stored && batch) {
        anx_store_le(key, e->hash, sizeof(key));
        store_batch_delete(batch, c->keys, (anx_text) { (char *) key, sizeof(key) });
        store_batch_delete(batch, c->values, (anx_text) { (char *) key, sizeof(key) });
    }
    untable(c, e->hash);
    unlink_entry(c, i);
    anx_free(NULL, e->recent);
    *e = (struct entry) { .next = c->free };
    c->free = i;
    c->n--;
}

static void
forget_all(struct embed_cache *c)
{
    for (uint32_t i = c->first; i != NONE; i = c->entries[i].next)
        anx_free(NULL, c->entries[i].recent);
    anx_free(NULL, c->entries);
    anx_free(NULL, c->table);
    c->entries = NULL;
    c->table = NULL;
    c->n = c->n_made = c->capacity = 0;
    c->n_table = 0;
    c->free = c->first = c->last = NONE;
    c->n_recent = c->recent_bytes = 0;
}

/* ---- The store ---- */

static void
give_up(struct embed_caches *caches, const char *what, const anx_error *err)
{
    anx_log(ANX_LOG_WARN, "event=embedder_cache_off path=%s step=%s cause=\"%s\"", caches->path, what,
            err->message);
}

static void
remove_files(const char *folder)
{
    static const char *const names[] = { "data.mdb", "lock.mdb", "lock" };
    char path[4096];

    for (size_t i = 0; i < ANX_COUNT_OF(names); i++)
        if (snprintf(path, sizeof(path), "%s/%s", folder, names[i]) < (int) sizeof(path))
            (void) unlink(path);
}

/* caches->lock. A damaged store is thrown away. */
static bool
open_store(struct embed_caches *caches)
{
    struct store_params params = { .path = caches->path,
                                   .durability = STORE_DURABLE_ASYNC,
                                   .sync_ms = SYNC_MS };
    anx_error err;
    anx_status st;

    if (caches->store || !caches->path || caches->is_failed)
        return caches->store != NULL;
    st = store_open(&params, &caches->store, &err);
    if (st == ANX_E_CORRUPT || st == ANX_E_VERSION) {
        give_up(caches, "open", &err);
        remove_files(caches->path);
        st = store_open(&params, &caches->store, &err);
    }
    if (st != ANX_OK) {
        give_up(caches, "open", &err);
        caches->store = NULL;
        caches->is_failed = true;
    }
    return caches->store != NULL;
}

static anx_status
open_table(struct embed_cache *c, char kind, bool create, struct store_table **out, anx_error *err)
{
    char name[TAG_MAX + 3];
    int size = snprintf(name, sizeof(name), "%c:%s", kind, c->tag);

    return store_table(c->caches->store, (anx_text) { name, (size_t) size }, create, out, err);
}

struct loading {
    struct embed_cache *cache;
    struct store_batch *surplus; /* removes what has no room */
};

static bool
load_key(void *context, anx_text key, anx_text value)
{
    struct loading *loading = context;
    struct embed_cache *c = loading->cache;
    uint32_t i;

    if (key.size != 8 || value.size != 1 || value.data[0] != FORMAT_VERSION || c->n >= c->max_items) {
        store_batch_delete(loading->surplus, c->keys, key);
        store_batch_delete(loading->surplus, c->values, key);
        return true;
    }
    i = add_entry(c, anx_load_le((const uint8_t *) key.data, 8));
    if (i != NONE)
        c->entries[i].is_stored = true;
    return i != NONE;
}

/* Both tables, and what they hold. cache->lock; caches->store is open. */
static void
load(struct embed_cache *c)
{
    struct loading loading = { c, store_batch_create() };
    struct store_read *read = NULL;
    uint64_t ticket;
    anx_error err;
    anx_status st;

    c->is_loaded = true;
    if (!loading.surplus)
        return;
    st = open_table(c, 'k', true, &c->keys, &err);
    if (st == ANX_OK)
        st = open_table(c, 'v', true, &c->values, &err);
    if (st == ANX_OK)
        st = store_read_begin(c->caches->store, &read, &err);
    if (st == ANX_OK)
        st = store_scan(read, c->keys, ANX_TEXT(""), load_key, &loading, &err);
    store_read_end(read);
    if (st == ANX_OK && store_batch_bytes(loading.surplus) > 0)
        st = store_submit(c->caches->store, loading.surplus, &ticket, &err);
    else
        store_batch_destroy(loading.surplus);
    if (st != ANX_OK)
        give_up(c->caches, "load", &err);
    c->is_broken = !c->keys || !c->values;
}

/* Frees copies of values that the store has by now. */
static void
settle(struct embed_cache *c, bool wait)
{
    while (c->n_recent > 0) {
        struct recent *oldest = &c->recents[c->recent_first];
        struct entry *e = oldest->entry < c->n_made ? &c->entries[oldest->entry] : NULL;
        anx_error err;

        if (store_durable(c->caches->store) < oldest->ticket) {
            if (!wait || c->recent_bytes <= RECENT_MAX)
                return;
            if (store_wait(c->caches->store, oldest->ticket, &err) != ANX_OK) {
                give_up(c->caches, "write", &err);
                c->is_broken = true;
            }
        }
        if (e && e->recent == oldest->value) {
            anx_free(NULL, e->recent);
            e->recent = NULL;
        }
        c->recent_bytes -= oldest->size;
        c->recent_first = (c->recent_first + 1) % c->n_ring;
        c->n_recent--;
    }
}

static bool
push_recent(struct embed_cache *c, struct recent recent)
{
    if (c->n_recent == c->n_ring) {
        size_t n = c->n_ring ? 2 * c->n_ring : 64;
        struct recent *ring = anx_alloc_array(NULL, n, sizeof(*ring));

        if (!ring)
            return false;
        for (size_t i = 0; i < c->n_recent; i++)
            ring[i] = c->recents[(c->recent_first + i) % c->n_ring];
        anx_free(NULL, c->recents);
        c->recents = ring;
        c->n_ring = n;
        c->recent_first = 0;
    }
    c->recents[(c->recent_first + c->n_recent++) % c->n_ring] = recent;
    c->recent_bytes += recent.size;
    return true;
}

/* ---- Values ---- */

static char *
make_value(anx_text source, const struct embed_vectors *vectors, size_t *size)
{
    size_t n_bytes = (size_t) vectors->n * vectors->dim * sizeof(float);
    uint8_t *value;

    *size = VALUE_HEAD + source.size + n_bytes;
    value = source.size <= UINT32_MAX ? anx_alloc_zeroed(NULL, *size, 1) : NULL;
    if (!value)
        return NULL;
    value[0] = FORMAT_VERSION;
    anx_store_le(value + 4, source.size, 4);
    anx_store_le(value + 8, vectors->n, 4);
    anx_store_le(value + 12, vectors->dim, 4);
    if (source.size > 0)
        memcpy(value + VALUE_HEAD, source.data, source.size);
    if (n_bytes > 0)
        memcpy(value + VALUE_HEAD + source.size, vectors->floats, n_bytes);
    return (char *) value;
}

/* False: not of this source and dimension, or damaged. */
static bool
read_value(anx_text value, anx_text source, uint32_t dim, anx_arena *arena, struct embed_vectors *out)
{
    anx_reader r = anx_reader_init(value.data, value.size);
    uint32_t version = anx_read_u32(&r), size = anx_read_u32(&r);
    uint32_t n = anx_read_u32(&r), own_dim = anx_read_u32(&r);
    const uint8_t *text = anx_read_view(&r, size);
    float *floats;

    if (r.failed || version != FORMAT_VERSION ||
        !anx_text_equal((anx_text){ (const char *) text, size }, source) ||
        (uint64_t) n * own_dim * sizeof(float) != r.size - r.at || (dim > 0 && n > 0 && own_dim != dim))
        return false;
    floats = anx_arena_bytes(arena, r.size - r.at + 1);
    if (!floats)
        return false;
    memcpy(floats, r.data + r.at, r.size - r.at);
    *out = (struct embed_vectors) { .floats = floats, .n = n, .dim = own_dim };
    return true;
}

static bool
fetch(struct embed_cache *c, const struct entry *e, size_t recent_size, anx_text source, uint32_t dim,
      anx_arena *arena, struct embed_vectors *out)
{
    struct store_read *read = NULL;
    uint8_t key[8];
    anx_text value;
    bool found;

    if (e->recent)
        return read_value((anx_text) { e->recent, recent_size }, source, dim, arena, out);
    anx_store_le(key, e->hash, sizeof(key));
    found = store_read_begin(c->caches->store, &read, NULL) == ANX_OK &&
            store_get(read, c->values, (anx_text) { (char *) key, sizeof(key) }, &value, NULL) == ANX_OK &&
            read_value(value, source, dim, arena, out);
    store_read_end(read);
    return found;
}

/* Size of a value from its own head. */
static size_t
value_size(const char *value)
{
    const uint8_t *head = (const uint8_t *) value;

    return !value
               ? 0
               : VALUE_HEAD + (size_t) anx_load_le(head + 4, 4) +
                     (size_t) anx_load_le(head + 8, 4) * (size_t) anx_load_le(head + 12, 4) * sizeof(float);
}

/* ---- Asking and storing ---- */

/* Ready to be used? Loads it at first. Takes cache->lock, and keeps it when the answer is yes. */
static bool
enter(struct embed_cache *c)
{
    pthread_mutex_lock(&c->lock);
    if (c->max_items > 0 && !c->is_loaded) {
        bool is_open;

        pthread_mutex_unlock(&c->lock); /* caches->lock comes first */
        pthread_mutex_lock(&c->caches->lock);
        is_open = open_store(c->caches);
        pthread_mutex_unlock(&c->caches->lock);
        pthread_mutex_lock(&c->lock);
        if (is_open && !c->is_loaded && c->max_items > 0)
            load(c);
    }
    if (c->max_items > 0 && c->is_loaded && !c->is_broken)
        return true;
    pthread_mutex_unlock(&c->lock);
    return false;
}

bool
embed_cache_is_active(struct embed_cache *cache)
{
    bool is_active = cache && enter(cache);

    if (is_active)
        pthread_mutex_unlock(&cache->lock);
    return is_active;
}

static void
make_room(struct embed_cache *c)
{
    struct store_batch *batch = c->n >= c->max_items ? store_batch_create() : NULL;
    uint64_t ticket;

    if (!batch)
        return;
    while (c->n >= c->max_items)
        remove_entry(c, c->last, batch);
    if (store_batch_bytes(batch) > 0)
        (void) !store_submit(c->caches->store, batch, &ticket, NULL);
    else
        store_batch_destroy(batch);
}

enum embed_cache_answer
embed_cache_find(struct embed_cache *cache, char kind, anx_text source, uint64_t owner, uint32_t dim,
                 uint32_t *input, bool *is_kept, anx_arena *arena, struct embed_vectors *out)
{
    uint64_t hash = hash_source(kind, source);
    enum embed_cache_answer answer = CACHE_ASK;
    struct entry *e;
    uint32_t i;

    *is_kept = false;
    if (!cache || !enter(cache))
        return CACHE_ASK;
    settle(cache, false);
    i = find_entry(cache, hash);
    if (i == NONE) {
        make_room(cache);
        i = add_entry(cache, hash);
    } else {
        unlink_entry(cache, i);
        link_first(cache, i);
    }
    e = i == NONE ? NULL : &cache->entries[i];
    if (e && e->is_stored && fetch(cache, e, value_size(e->recent), source, dim, arena, out)) {
        answer = CACHE_HIT;
    } else if (e && e->owner == owner) {
        *input = e->input;
        answer = CACHE_OWN;
    } else if (e && e->owner == 0) {
        e->hits++;
        *is_kept = e->is_stored || e->hits >= cache->hits;
        e->owner = *is_kept ? owner : 0;
        e->input = *input;
    }
    pthread_mutex_unlock(&cache->lock);
    return answer;
}

void
embed_cache_store(struct embed_cache *cache, char kind, anx_text source, uint64_t owner,
                  const struct embed_vectors *vectors)
{
    struct recent recent = { .size = 0 };
    struct store_batch *batch;
    struct entry *e = NULL;
    uint8_t key[8], version = FORMAT_VERSION;
    anx_text name = { (char *) key, sizeof(key) };

    if (!enter(cache))
        return;
    anx_store_le(key, hash_source(kind, source), sizeof(key));
    recent.entry = find_entry(cache, hash_source(kind, source));
    if (recent.entry != NONE)
        e = &cache->entries[recent.entry];
    if (e && e->owner == owner) {
        e->owner = 0;
        recent.value = make_value(source, vectors, &recent.size);
        batch = store_batch_create();
        if (batch && recent.value) {
            store_batch_put(batch, cache->keys, name, (anx_text) { (char *) &version, 1 });
            store_batch_put(batch, cache->values, name, (anx_text) { recent.value, recent.size });
        }
        if (batch && recent.value &&
            store_submit(cache->caches->store, batch, &recent.ticket, NULL) == ANX_OK &&
            push_recent(cache, recent)) {
            anx_free(NULL, e->recent);
            e->recent = recent.value;
            e->is_stored = true;
        } else {
            anx_free(NULL, recent.value);
        }
        settle(cache, true);
    }
    pthread_mutex_unlock(&cache->lock);
}

void
embed_cache_forget(struct embed_cache *cache, char kind, anx_text source, uint64_t owner)
{
    uint32_t i;

    if (!enter(cache))
        return;
    i = find_entry(cache, hash_source(kind, source));
    if (i != NONE && cache->entries[i].owner == owner) {
        cache->entries[i].owner = 0;
        if (!cache->entries[i].is_stored && cache->entries[i].hits > 0)
            cache->entries[i].hits--;
    }
    pthread_mutex_unlock(&cache->lock);
}

/* ---- All caches; caches->lock ---- */

static struct embed_cache_rule
find_rule(const struct embed_caches *caches, const char *tag)
{
    struct embed_cache_rule found = { .max_items = 0 };

    for (size_t i = 0; i < caches->n_rule; i++) {
        bool is_own = anx_text_equal_fold(caches->rules[i].tag, anx_text_of(tag));

        if (is_own || anx_text_equal(caches->rules[i].tag, ANX_TEXT("*")))
            found = caches->rules[i];
        if (is_own)
            break;
    }
    if (found.hits == 0)
        found.hits = 1;
    return found;
}

static struct embed_cache *
get_cache(struct embed_caches *caches, anx_text tag)
{
    struct embed_cache *c = caches->first;
    struct embed_cache_rule rule;

    while (c && !anx_text_equal(anx_text_of(c->tag), tag))
        c = c->next;
    if (c || tag.size == 0 || tag.size > TAG_MAX)
        return c;
    c = anx_alloc_zeroed(NULL, 1, sizeof(*c));
    if (!c)
        return NULL;
    c->tag = anx_alloc_zeroed(NULL, tag.size + 1, 1);
    if (!c->tag) {
        anx_free(NULL, c);
        return NULL;
    }
    memcpy(c->tag, tag.data, tag.size);
    rule = find_rule(caches, c->tag);
    c->caches = caches;
    c->max_items = rule.max_items < NONE ? rule.max_items : NONE - 1;
    c->hits = rule.hits;
    c->free = c->first = c->last = NONE;
    pthread_mutex_init(&c->lock, NULL);
    c->next = caches->first;
    caches->first = c;
    return c;
}

struct embed_cache *
embed_caches_get(struct embed_caches *caches, anx_text tag)
{
    struct embed_cache *cache;

    pthread_mutex_lock(&caches->lock);
    cache = get_cache(caches, tag);
    pthread_mutex_unlock(&caches->lock);
    return cache;
}

/* Memory and disk. */
static void
clear_cache(struct embed_cache *c)
{
    struct store_batch *batch;
    uint64_t ticket;
    anx_error err;

    forget_all(c);
    if (!c->caches->store)
        return;
    if (!c->keys && open_table(c, 'k', false, &c->keys, &err) != ANX_OK)
        return;
    if (!c->values && open_table(c, 'v', false, &c->values, &err) != ANX_OK)
        return;
    batch = store_batch_create();
    if (!batch)
        return;
    store_batch_clear_table(batch, c->keys);
    store_batch_clear_table(batch, c->values);
    (void) !store_submit(c->caches->store, batch, &ticket, NULL);
}

struct names {
    struct embed_caches *caches;
    anx_arena *arena;
    anx_text *list;
    size_t n, capacity;
};

static void
note_name(void *context, anx_text name)
{
    struct names *names = context;

    if (name.size < 3 || name.data[0] != 'k' || name.data[1] != ':' || names->n == names->capacity)
        return;
    names->list[names->n] = anx_arena_text(names->arena, (anx_text) { name.data + 2, name.size - 2 });
    names->n += names->list[names->n].data != NULL;
}

/* Caches of earlier runs that nobody asked for yet. */
static void
find_stored(struct embed_caches *caches)
{
    struct names names = { .caches = caches, .capacity = 4096 };
    struct stat info;

    if (!caches->path || stat(caches->path, &info) != 0 || !open_store(caches))
        return;
    names.arena = anx_arena_create(NULL, 0);
    names.list = names.arena ? anx_arena_array(names.arena, names.capacity, sizeof(*names.list)) : NULL;
    if (names.list && store_table_names(caches->store, note_name, &names, NULL) == ANX_OK)
        for (size_t i = 0; i < names.n; i++)
            (void) get_cache(caches, names.list[i]);
    anx_arena_destroy(names.arena);
}

void
embed_caches_clear(struct embed_caches *caches, anx_text tag)
{
    bool all = anx_text_equal(tag, ANX_TEXT("*"));

    pthread_mutex_lock(&caches->lock);
    find_stored(caches);
    for (struct embed_cache *c = caches->first; c; c = c->next)
        if (all || anx_text_equal_fold(tag, anx_text_of(c->tag))) {
            pthread_mutex_lock(&c->lock);
            clear_cache(c);
            pthread_mutex_unlock(&c->lock);
        }
    pthread_mutex_unlock(&caches->lock);
}

static void
free_rules(struct embed_cache_rule *rules, size_t n)
{
    for (size_t i = 0; i < n; i++)
        anx_free(NULL, (void *) (uintptr_t) rules[i].tag.data);
    anx_free(NULL, rules);
}

static struct embed_cache_rule *
copy_rules(const struct embed_cache_rule *rules, size_t n)
{
    struct embed_cache_rule *copy = anx_alloc_zeroed(NULL, n + 1, sizeof(*copy));

    for (size_t i = 0; copy && i < n; i++) {
        char *tag = anx_alloc_zeroed(NULL, rules[i].tag.size + 1, 1);

        if (!tag) {
            free_rules(copy, i);
            return NULL;
        }
        if (rules[i].tag.size > 0)
            memcpy(tag, rules[i].tag.data, rules[i].tag.size);
        copy[i] = rules[i];
        copy[i].tag.data = tag;
    }
    return copy;
}

static void
apply_rule(struct embed_caches *caches, struct embed_cache *c, bool is_first)
{
    struct embed_cache_rule rule = find_rule(caches, c->tag);
    uint64_t max_items = rule.max_items < NONE ? rule.max_items : NONE - 1;

    pthread_mutex_lock(&c->lock);
    if (!is_first && (c->max_items != max_items || c->hits != rule.hits))
        clear_cache(c);
    c->max_items = max_items;
    c->hits = rule.hits;
    pthread_mutex_unlock(&c->lock);
}

anx_status
embed_caches_configure(struct embed_caches *caches, const struct embed_cache_rule *rules, size_t n,
                       anx_error *err)
{
    struct embed_cache_rule *copy = copy_rules(rules, n);

    if (!copy)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu rules of caches", n);
    pthread_mutex_lock(&caches->lock);
    if (caches->is_configured)
        find_stored(caches);
    free_rules(caches->rules, caches->n_rule);
    caches->rules = copy;
    caches->n_rule = n;
    for (struct embed_cache *c = caches->first; c; c = c->next)
        apply_rule(caches, c, !caches->is_configured);
    caches->is_configured = true;
    pthread_mutex_unlock(&caches->lock);
    return ANX_OK;
}

struct embed_caches *
embed_caches_create(const char *path)
{
    struct embed_caches *caches = anx_alloc_zeroed(NULL, 1, sizeof(*caches));

    if (!caches)
        return NULL;
    pthread_mutex_init(&caches->lock, NULL);
    if (path) {
        caches->path = anx_alloc_zeroed(NULL, strlen(path) + 1, 1);
        if (!caches->path) {
            embed_caches_destroy(caches);
            return NULL;
        }
        memcpy(caches->path, path, strlen(path));
    }
    return caches;
}

void
embed_caches_destroy(struct embed_caches *caches)
{
    if (!caches)
        return;
    for (struct embed_cache *c = caches->first, *next; c; c = next) {
        next = c->next;
        forget_all(c);
        anx_free(NULL, c->recents);
        anx_free(NULL, c->tag);
        pthread_mutex_destroy(&c->lock);
        anx_free(NULL, c);
    }
    store_close(caches->store);
    free_rules(caches->rules, caches->n_rule);
    anx_free(NULL, caches->path);
    pthread_mutex_destroy(&caches->lock);
    anx_free(NULL, caches);
}

void
embed_caches_print(struct embed_caches *caches, anx_buffer *out)
{
    struct store_stats stats = { .is_ok = false };
    bool is_first = true;

    pthread_mutex_lock(&caches->lock);
    if (caches->store)
        store_get_stats(caches->store, &stats);
    for (struct embed_cache *c = caches->first; c; c = c->next) {
        size_t size;

        pthread_mutex_lock(&c->lock);
        size = (size_t) c->capacity * sizeof(struct entry) + c->n_table * sizeof(uint32_t) + c->recent_bytes;
        anx_buffer_text(out, is_first ? ANX_TEXT("{\"cache_tag\":") : ANX_TEXT(",{\"cache_tag\":"));
        json_print_text(out, anx_text_of(c->tag));
        anx_buffer_printf(
            out,
            ",\"capacity\":%llu,\"cache\":{\"total_size\":%zu,\"items_count\":%u,\"empty_count\":0,"
            "\"hit_count_limit\":%llu},\"storage_ok\":%s,\"storage_status\":\"%s\",\"storage_path\":",
            (unsigned long long) c->max_items, size, c->n, (unsigned long long) c->hits,
            stats.is_ok && !c->is_broken ? "true" : "false",
            stats.is_ok && !c->is_broken ? "OK" : "DISABLED");
        json_print_text(out, anx_text_of(caches->path));
        anx_buffer_printf(out, ",\"storage_size\":%llu}", (unsigned long long) stats.bytes_file);
        is_first = false;
        pthread_mutex_unlock(&c->lock);
    }
    pthread_mutex_unlock(&caches->lock);
}
