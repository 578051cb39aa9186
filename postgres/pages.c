/* Reading pages: see pages.h. The cache of a backend: one struct pages_index per index oid, in a memory
 * context of its own. It is right as long as block 0 shows the generation it was made from and the file is
 * the same one; both are compared at every pages_open, because another session may have changed either. */
#include "pages.h"

#include <access/xact.h>
#include <miscadmin.h>
#include <storage/lmgr.h>
#include <utils/hsearch.h>
#include <utils/inval.h>
#include <utils/catcache.h>
#include <utils/memutils.h>

#include "lantern.h"

#define ENTRY_CACHE_BYTES ((Size) 4 << 20)
#define ENTRY_MIN 64
#define CACHE_SWEEP 64 /* so many indexes in the cache, and what became stale is thrown out */

struct cached {
    Oid index; /* key */
    uint64 file; /* of which the picture was made */
    bool is_stale; /* something happened to the relation: look again whether it is still there */
    uint32 used; /* transaction of the last use */
    uint32 n_allocated; /* entries that there is room for */
    uint32 n_read;      /* entries of the page that were looked at; those that are nodes are in the picture */
    MemoryContext context;
    anx_alloc alloc;
    struct pages_index *picture;
};

static HTAB *cache;
static uint32 transactions;

/* --- pages --- */

static _Noreturn void
fail_page(Relation index, BlockNumber block, const char *what)
{
    ereport(ERROR, (errcode(ERRCODE_INDEX_CORRUPTED),
                    errmsg("index \"%s\": block %u %s", RelationGetRelationName(index), block, what),
                    errhint("REINDEX the index.")));
}

static void
check_page(Relation index, BlockNumber block, Page page, enum page_kind kind)
{
    const struct pages_special *special;

    if (PageIsNew(page))
        fail_page(index, block, "is empty where a page of the index was expected");
    if (PageGetSpecialSize(page) != MAXALIGN(sizeof(*special)))
        fail_page(index, block, "is not a page of a lantern_hnsw index");
    special = (const struct pages_special *) PageGetSpecialPointer(page);
    if (special->magic != PAGES_MAGIC)
        fail_page(index, block, "is not a page of a lantern_hnsw index");
    if (special->version != PAGES_VERSION)
        ereport(ERROR, (errcode(ERRCODE_FEATURE_NOT_SUPPORTED),
                        errmsg("unsupported or outdated wal version. Please reindex"),
                        errdetail("Index \"%s\" has page version %u, this library reads %d.",
                                  RelationGetRelationName(index), special->version, PAGES_VERSION)));
    if (special->kind != kind)
        fail_page(index, block, "is of another kind than the index says");
}

void
pages_init_page(Page page, enum page_kind kind)
{
    struct pages_special *special;

    PageInit(page, BLCKSZ, sizeof(*special));
    special = (struct pages_special *) PageGetSpecialPointer(page);
    *special =
        (struct pages_special){ .kind = (uint16) kind, .version = PAGES_VERSION, .magic = PAGES_MAGIC };
}

Buffer
pages_read(Relation index, BlockNumber block, int mode, enum page_kind kind)
{
    Buffer buffer = ReadBuffer(index, block);

    if (mode) {
        LockBuffer(buffer, mode);
        check_page(index, block, BufferGetPage(buffer), kind);
    }
    return buffer;
}

bool
pages_copy_payload(Relation index, const struct pages_meta *meta, uint32 slot, uint8 *out)
{
    bool is_node = true;

    for (uint32 part = 0; part < meta->pages_per_slot && is_node; part++) {
        Buffer buffer = pages_read(index, pages_block(meta, slot) + part, BUFFER_LOCK_SHARE,
                                   part == 0 ? PAGE_SLOTS : PAGE_MORE);
        Page page = BufferGetPage(buffer);

        if (part == 0 && pages_slot(meta, page, slot)->kind != SLOT_NODE) {
            is_node = false;
        } else if (meta->pages_per_slot == 1) {
            memcpy(out, slot_payload(meta, pages_slot(meta, page, slot)), meta->payload_size);
        } else {
            uint32 from, n, at;

            pages_payload_part(meta, part, &from, &n, &at);
            memcpy(out + from, pages_content(page) + at, n);
        }
        UnlockReleaseBuffer(buffer);
    }
    return is_node;
}

/* --- the generation lock --- */

void
pages_lock(Relation index, LOCKMODE mode)
{
    LockPage(index, PAGES_META_BLOCK, mode);
}

bool
pages_try_lock(Relation index, LOCKMODE mode)
{
    return ConditionalLockPage(index, PAGES_META_BLOCK, mode);
}

void
pages_unlock(Relation index, LOCKMODE mode)
{
    UnlockPage(index, PAGES_META_BLOCK, mode);
}

/* --- block 0 --- */

uint32
pages_entry_limit(Size payload_size)
{
    Size n = ENTRY_CACHE_BYTES / (payload_size ? payload_size : 1);

    return n < ENTRY_MIN ? ENTRY_MIN : n > PAGES_ENTRY_MAX ? PAGES_ENTRY_MAX : (uint32) n;
}

#define PAYLOAD_MAX (8u * ANX_PG_DIM_MAX) /* bytes; rows have 4 a component, codes about 1 */

/* The places of a slot follow from two of its numbers. */
static bool
has_shape(const struct pages_meta *m)
{
    struct pages_plan plan = { .state = PAGES_RAW, .degree = m->degree, .payload_size = m->payload_size };
    struct pages_meta shape;

    return m->degree < PAGES_ROOM / sizeof(uint32) && m->payload_size <= PAYLOAD_MAX &&
           pages_shape(&shape, &plan, 0) && m->payload_offset == shape.payload_offset &&
           m->slot_size == shape.slot_size && m->slots_per_page == shape.slots_per_page &&
           m->pages_per_slot == shape.pages_per_slot;
}

/* What later arithmetic relies on: with it no offset leads out of a page, and no slot out of its block. */
static bool
is_sound(const struct pages_meta *m)
{
    if (m->magic != PAGES_MAGIC || m->state > PAGES_GRAPH || m->metric >= ANX_METRIC_COUNT ||
        m->dim > ANX_PG_DIM_MAX || (m->scalar != ANX_SCALAR_F32 && m->scalar != ANX_SCALAR_B1))
        return false;
    if (m->state == PAGES_EMPTY)
        return true;
    return m->dim > 0 && has_shape(m) && (m->state == PAGES_GRAPH || m->payload_size == m->dim * 4) &&
           m->n_entry <= PAGES_ENTRY_MAX && m->n_slot <= PAGES_SLOT_MAX;
}

static void
read_meta(Relation index, struct pages_meta *out)
{
    Buffer buffer;

    buffer = pages_read(index, PAGES_META_BLOCK, BUFFER_LOCK_SHARE, PAGE_META);
    *out = *(const struct pages_meta *) pages_content(BufferGetPage(buffer));
    UnlockReleaseBuffer(buffer);
    if (out->version != PAGES_VERSION || !is_sound(out))
        fail_page(index, PAGES_META_BLOCK, "describes no index that this library knows");
}

/* --- the cache --- */

static void
on_invalidation(Datum argument, Oid relation)
{
    HASH_SEQ_STATUS all;
    struct cached *c;

    (void) argument;
    if (OidIsValid(relation)) {
        c = hash_search(cache, &relation, HASH_FIND, NULL);
        if (c)
            c->is_stale = true;
        return;
    }
    hash_seq_init(&all, cache);
    while ((c = hash_seq_search(&all)) != NULL)
        c->is_stale = true;
}

static void
on_transaction(XactEvent event, void *argument)
{
    (void) argument;
    if (event == XACT_EVENT_COMMIT || event == XACT_EVENT_ABORT || event == XACT_EVENT_PREPARE)
        transactions++;
}

static void
make_cache(void)
{
    HASHCTL control = { .keysize = sizeof(Oid),
                        .entrysize = sizeof(struct cached),
                        .hcxt = CacheMemoryContext };

    if (!CacheMemoryContext)
        CreateCacheMemoryContext();
    control.hcxt = CacheMemoryContext;
    cache = hash_create("lantern indexes", 16, &control, HASH_ELEM | HASH_BLOBS | HASH_CONTEXT);
    CacheRegisterRelcacheCallback(on_invalidation, (Datum) 0);
    RegisterXactCallback(on_transaction, NULL);
}

/* Indexes that were dropped are never asked for again: their pictures go when the cache grows. */
static void
sweep(void)
{
    HASH_SEQ_STATUS all;
    struct cached *c;

    if (hash_get_num_entries(cache) < CACHE_SWEEP)
        return;
    hash_seq_init(&all, cache);
    while ((c = hash_seq_search(&all)) != NULL) {
        Oid oid = c->index;

        if (!c->is_stale || c->used == transactions)
            continue;
        if (c->context)
            MemoryContextDelete(c->context);
        hash_search(cache, &oid, HASH_REMOVE, NULL);
    }
}

static void
forget(struct cached *c)
{
    MemoryContext context = c->context;

    c->context = NULL; /* first: deleting cannot fail, but what follows may */
    c->picture = NULL;
    c->n_allocated = c->n_read = 0;
    if (context)
        MemoryContextDelete(context);
}

/* What the engine needs to know to make the space again; the rest of the params does not touch it. */
void
pages_engine_params(const struct pages_meta *meta, anx_index_params *out)
{
    *out = (anx_index_params) ANX_INDEX_PARAMS_INIT;
    out->metric = (anx_metric) meta->metric;
    out->scalar = (anx_scalar) meta->scalar;
    out->dim = pages_engine_dim(meta);
}

static void
load_mean(Relation index, const struct pages_meta *meta, struct space *space)
{
    Size left = space->turned_dim * sizeof(float4), done = 0;

    for (uint32 i = 0; i < meta->n_space_block && left > 0; i++) {
        Buffer buffer = pages_read(index, meta->space_block + i, BUFFER_LOCK_SHARE, PAGE_SPACE);
        Size n = left < PAGES_ROOM ? left : PAGES_ROOM;

        memcpy((char *) space->mean + done, pages_content(BufferGetPage(buffer)), n);
        UnlockReleaseBuffer(buffer);
        done += n, left -= n;
    }
    if (left > 0)
        fail_page(index, meta->space_block, "and those after it hold too few means");
}

static void
load_space(Relation index, struct cached *c, const struct pages_meta *meta, struct space *space)
{
    anx_index_params params;
    anx_error err;

    pages_engine_params(meta, &params);
    params.alloc = &c->alloc;
    anx_pg_check(space_init(space, &params, anx_kernels_best(), meta->space_kind == SPACE_LOSSLESS, &err),
                 &err);
    if (space->kind != (enum space_kind) meta->space_kind || space->stride != meta->payload_size)
        fail_page(index, PAGES_META_BLOCK, "describes codes that this library does not make");
    space->offset = meta->offset;
    space->step = meta->step;
    if (space->kind == SPACE_ROTATED)
        load_mean(index, meta, space);
}

/* Entries from the n_entry known ones on. */
static void
load_entries(Relation index, struct cached *c, const struct pages_meta *meta)
{
    struct pages_index *p = c->picture;
    Buffer buffer;
    uint32 *slots;

    if (meta->n_entry > c->n_allocated) {
        uint32 n = meta->n_entry + meta->n_entry / 4 + 16;
        Size stride = meta->payload_size;
        uint8 *memory = MemoryContextAllocHuge(c->context, (Size) n * stride + 64);
        uint8 *codes = (uint8 *) TYPEALIGN(64, memory);

        /* What was there before stays until the picture goes: it is at most three times as much. */
        slots = MemoryContextAlloc(c->context, n * sizeof(*slots));
        if (p->n_entry) {
            memcpy(codes, p->entry_codes, p->n_entry * stride);
            memcpy(slots, p->entry, p->n_entry * sizeof(*slots));
        }
        p->entry_codes = codes;
        p->entry = slots;
        p->entry_code = MemoryContextAlloc(c->context, n * sizeof(*p->entry_code));
        for (uint32 i = 0; i < n; i++)
            p->entry_code[i] = codes + i * stride;
        c->n_allocated = n;
    }
    slots = palloc(meta->n_entry * sizeof(*slots));
    buffer = pages_read(index, meta->entry_block, BUFFER_LOCK_SHARE, PAGE_ENTRY);
    memcpy(slots, pages_content(BufferGetPage(buffer)), meta->n_entry * sizeof(*slots));
    UnlockReleaseBuffer(buffer);
    for (; c->n_read < meta->n_entry; c->n_read++) {
        uint32 i = c->n_read;

        if (slots[i] >= meta->n_slot)
            fail_page(index, meta->entry_block, "names a slot that does not exist");
        if (!pages_copy_payload(index, meta, slots[i], (uint8 *) p->entry_code[p->n_entry]))
            continue; /* vacuum is on its way to take it out */
        p->entry[p->n_entry++] = slots[i];
    }
    pfree(slots);
}

static struct cached *
find_cached(Relation index)
{
    Oid oid = RelationGetRelid(index);
    struct cached *c;
    bool found;

    if (!cache)
        make_cache();
    c = hash_search(cache, &oid, HASH_FIND, NULL);
    if (c)
        return c;
    sweep();
    c = hash_search(cache, &oid, HASH_ENTER, &found);
    memset((char *) c + sizeof(Oid), 0, sizeof(*c) - sizeof(Oid));
    return c;
}

struct pages_index *
pages_open(Relation index)
{
    struct cached *c = find_cached(index);
    struct pages_meta meta;
    uint64 file = ANX_PG_FILE_NUMBER(index);
    struct pages_index *p;
    bool is_same;

    read_meta(index, &meta);
    c->used = transactions;
    p = c->picture;
    is_same = p && c->file == file && p->meta.generation == meta.generation && p->meta.stamp == meta.stamp;
    if (!is_same) {
        forget(c);
        c->context = AllocSetContextCreate(CacheMemoryContext, "lantern index", ALLOCSET_SMALL_SIZES);
        anx_pg_alloc_init(&c->alloc, c->context);
        p = MemoryContextAllocZero(c->context, sizeof(*p));
        if (meta.state == PAGES_GRAPH)
            load_space(index, c, &meta, &p->space);
        p->meta = meta;
        c->file = file;
        c->picture = p; /* from here on it is whole */
    }
    c->is_stale = false;
    if (p->meta.entry_generation != meta.entry_generation)
        p->n_entry = c->n_read = 0;
    p->meta = meta;
    if (meta.state == PAGES_GRAPH && c->n_read < meta.n_entry)
        load_entries(index, c, &meta);
    return p;
}
