/* The dictionary of field names: texts by tag in chunks that never move, tags by hash in an open table.
 *
 * One thread at a time adds (under `lock`), any number read without a lock. A reader may see a name late,
 * never half:
 *
 *   name    stored in its chunk before `count` is released; a reader that got a tag from the table, from
 * `count` or from a document that was published to it reads a finished name slot    stored with release after
 * the text; 0 is empty; a slot never changes once it is set table   replaced when half full: the new one is
 * filled, then released; old ones are kept until the end, because a reader may be inside (together they are
 * smaller than the last one) */
#include "doc/names.h"

#include <pthread.h>
#include <stdatomic.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "base/buffer.h"
#include "base/hash.h"
#include "doc/doc_int.h"
#include "doc/json.h"

enum {
    FIRST_CHUNK_BITS = 6,    /* the first chunk has 64 names, each further one twice as many */
    N_CHUNK = 11,            /* 64 * (2^11 - 1) > NAMES_MAX */
    TEXT_BLOCK = 4 << 10,    /* names are copied into blocks of this size */
    FIRST_SLOTS = 64,
};
_Static_assert((64ull << N_CHUNK) - 64 > NAMES_MAX, "the chunks hold every tag");

struct table {
    struct table *older;
    size_t mask; /* slots - 1 */
    _Atomic uint32_t slots[];
};
struct text_block {
    struct text_block *older;
    size_t used, size;
    char bytes[];
};
struct name {
    anx_text text;
    anx_text json; /* with quotes, escapes and the colon: what a printed member starts with */
};
struct doc_names {
    const anx_alloc *alloc;
    pthread_mutex_t lock;                   /* taken by names_add when the name is new */
    _Atomic(struct name *) chunks[N_CHUNK]; /* owned; release pairs with the acquire in name_at */
    _Atomic uint32_t count;                 /* release pairs with the acquire in names_count */
    _Atomic(struct table *) table;          /* owned; release pairs with the acquire in names_find */
    struct text_block *texts;               /* owned; guarded by lock */
};

/* Tag 1.. to chunk and place: chunk c holds 64 << c names. */
static void
locate(uint32_t tag, size_t *chunk, size_t *place)
{
    uint32_t shifted = tag - 1 + (1u << FIRST_CHUNK_BITS);
    unsigned top = 31u - (unsigned) __builtin_clz(shifted);

    *chunk = top - FIRST_CHUNK_BITS;
    *place = shifted - (1u << top);
}

static struct table *
table_create(const struct doc_names *names, size_t n_slot, struct table *older)
{
    struct table *table = anx_alloc_zeroed(names->alloc, 1, sizeof(*table) + n_slot * sizeof(uint32_t));

    if (table) {
        table->mask = n_slot - 1;
        table->older = older;
    }
    return table;
}

struct doc_names *
names_create(const anx_alloc *alloc)
{
    struct doc_names *names = anx_alloc_zeroed(alloc, 1, sizeof(*names));
    struct table *table;

    if (!names)
        return NULL;
    names->alloc = alloc;
    table = table_create(names, FIRST_SLOTS, NULL);
    if (!table) {
        anx_free(alloc, names);
        return NULL;
    }
    atomic_init(&names->table, table);
    pthread_mutex_init(&names->lock, NULL);
    return names;
}

void
names_destroy(struct doc_names *names)
{
    struct table *table;

    if (!names)
        return;
    for (size_t c = 0; c < N_CHUNK; c++)
        anx_free(names->alloc, atomic_load_explicit(&names->chunks[c], memory_order_relaxed));
    table = atomic_load_explicit(&names->table, memory_order_relaxed);
    while (table) {
        struct table *older = table->older;

        anx_free(names->alloc, table);
        table = older;
    }
    while (names->texts) {
        struct text_block *older = names->texts->older;

        anx_free(names->alloc, names->texts);
        names->texts = older;
    }
    pthread_mutex_destroy(&names->lock);
    anx_free(names->alloc, names);
}

static struct name *
name_at(const struct doc_names *names, uint32_t tag)
{
    size_t chunk, place;

    locate(tag, &chunk, &place);
    return atomic_load_explicit(&names->chunks[chunk], memory_order_acquire) + place;
}

uint32_t
names_count(const struct doc_names *names)
{
    return atomic_load_explicit(&names->count, memory_order_acquire);
}

anx_text
names_text(const struct doc_names *names, uint32_t tag)
{
    if (tag == 0 || tag > names_count(names))
        return (anx_text) { "", 0 };
    return name_at(names, tag)->text;
}

anx_text
names_json(const struct doc_names *names, uint32_t tag)
{
    if (tag == 0 || tag > names_count(names))
        return ANX_TEXT("\"\":");
    return name_at(names, tag)->json;
}

/* The slot of the name, or the empty one where it belongs. */
static _Atomic uint32_t *
slot_of(const struct doc_names *names, struct table *table, anx_text name, uint32_t *tag)
{
    size_t at = (size_t) anx_hash(name.data, name.size) & table->mask;

    for (;; at = (at + 1) & table->mask) {
        *tag = atomic_load_explicit(&table->slots[at], memory_order_acquire);
        if (*tag == 0 || anx_text_equal(name_at(names, *tag)->text, name))
            return &table->slots[at];
    }
}

uint32_t
names_find(const struct doc_names *names, anx_text name)
{
    struct table *table = atomic_load_explicit(&names->table, memory_order_acquire);
    uint32_t tag;

    (void) slot_of(names, table, name, &tag);
    return tag;
}

static bool
copy_text(struct doc_names *names, anx_text text, anx_text *out)
{
    struct text_block *block = names->texts;

    if (!block || text.size > block->size - block->used) {
        size_t size = text.size > TEXT_BLOCK ? text.size : TEXT_BLOCK;

        block = anx_alloc_bytes(names->alloc, sizeof(*block) + size);
        if (!block)
            return false;
        *block = (struct text_block) { .older = names->texts, .size = size };
        names->texts = block;
    }
    *out = (anx_text) { block->bytes + block->used, text.size };
    if (text.size > 0)
        memcpy(block->bytes + block->used, text.data, text.size);
    block->used += text.size;
    return true;
}

static bool
copy_name(struct doc_names *names, anx_text text, struct name *out)
{
    anx_buffer json;
    bool is_done;

    anx_buffer_init(&json, names->alloc, SIZE_MAX);
    json_print_text(&json, text);
    anx_buffer_char(&json, ':');
    is_done = !json.failed && copy_text(names, text, &out->text) &&
              copy_text(names, (anx_text) { json.data, json.size }, &out->json);
    anx_buffer_fini(&json);
    return is_done;
}

/* Room in the table for one more; half of the slots stay empty. */
static bool
grow_table(struct doc_names *names, uint32_t count)
{
    struct table *old = atomic_load_explicit(&names->table, memory_order_relaxed);
    struct table *table;

    if (count < (old->mask + 1) / 2)
        return true;
    table = table_create(names, (old->mask + 1) * 2, old);
    if (!table)
        return false;
    for (uint32_t tag = 1; tag <= count; tag++) {
        uint32_t none;

        atomic_store_explicit(slot_of(names, table, name_at(names, tag)->text, &none), tag,
                              memory_order_relaxed);
    }
    atomic_store_explicit(&names->table, table, memory_order_release);
    return true;
}

static bool
grow_chunks(struct doc_names *names, size_t chunk)
{
    struct name *chunk_names;

    if (atomic_load_explicit(&names->chunks[chunk], memory_order_relaxed))
        return true;
    chunk_names =
        anx_alloc_zeroed(names->alloc, (size_t) 1 << (FIRST_CHUNK_BITS + chunk), sizeof(*chunk_names));
    if (!chunk_names)
        return false;
    atomic_store_explicit(&names->chunks[chunk], chunk_names, memory_order_release);
    return true;
}

static anx_status
add_locked(struct doc_names *names, anx_text text, uint32_t *tag, anx_error *err)
{
    uint32_t count = atomic_load_explicit(&names->count, memory_order_relaxed);
    size_t chunk, place;
    struct name name;
    struct table *table;

    *tag = names_find(names, text); /* another thread may have been faster */
    if (*tag != 0)
        return ANX_OK;
    if (count == NAMES_MAX || text.size > NAME_SIZE_MAX)
        return anx_fail(err, ANX_E_LIMIT, "A namespace may have %d different field names of at most %d bytes",
                        NAMES_MAX, NAME_SIZE_MAX);
    locate(count + 1, &chunk, &place);
    if (!copy_name(names, text, &name) || !grow_chunks(names, chunk) || !grow_table(names, count))
        return anx_fail(err, ANX_E_NOMEM, "out of memory");
    *name_at(names, count + 1) = name;
    atomic_store_explicit(&names->count, count + 1, memory_order_release);
    table = atomic_load_explicit(&names->table, memory_order_relaxed);
    atomic_store_explicit(slot_of(names, table, text, tag), count + 1, memory_order_release);
    *tag = count + 1;
    return ANX_OK;
}

anx_status
names_add(struct doc_names *names, anx_text name, uint32_t *tag, anx_error *err)
{
    anx_status st;

    *tag = names_find(names, name);
    if (*tag != 0)
        return ANX_OK;
    pthread_mutex_lock(&names->lock);
    st = add_locked(names, name, tag, err);
    pthread_mutex_unlock(&names->lock);
    return st;
}
