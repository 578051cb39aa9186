/* What every query needs while it runs: its namespaces, locked in order of address and each once, its memory,
 * its clock, and the place where failures of row functions are kept. */
#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "db/exec_int.h"
#include "db/ns_life.h"

enum { TICKS_PER_CHECK = 100, FIRST_HITS = 64 };

void
exec_latch(struct exec *x, anx_status status)
{
    if (x->status == ANX_OK)
        x->status = status;
}

bool
exec_goes_on(struct exec *x)
{
    if (x->status != ANX_OK)
        return false;
    if (++x->ticks % TICKS_PER_CHECK == 0)
        x->status = db_session_check(x->session, x->err);
    return x->status == ANX_OK;
}

roaring_bitmap_t *
exec_take_bitmap(struct exec *x, roaring_bitmap_t *bitmap)
{
    struct owned_bitmap *owned;

    if (!bitmap)
        return NULL;
    owned = anx_arena_array(x->arena, 1, sizeof(*owned));
    if (!owned) {
        roaring_bitmap_free(bitmap);
        return NULL;
    }
    *owned = (struct owned_bitmap) { bitmap, x->bitmaps };
    x->bitmaps = owned;
    return bitmap;
}

roaring_bitmap_t *
exec_bitmap(struct exec *x)
{
    return exec_take_bitmap(x, roaring_bitmap_create());
}

int64_t
exec_now(struct exec *x, enum query_time_unit unit)
{
    int64_t seconds, nanoseconds;

    if (!x->has_now) {
        clock_gettime(CLOCK_REALTIME, &x->now);
        x->has_now = true;
    }
    seconds = x->now.tv_sec;
    nanoseconds = x->now.tv_nsec;
    switch (unit) {
    case TIME_MSEC:
        return seconds * 1000 + nanoseconds / 1000000;
    case TIME_USEC:
        return seconds * 1000000 + nanoseconds / 1000;
    case TIME_NSEC:
        return seconds * 1000000000 + nanoseconds;
    case TIME_SEC:
        break;
    }
    return seconds;
}

/* ---- Rows found ---- */

anx_status
hits_push(struct exec *x, struct hits *hits, uint32_t row, float rank)
{
    if (hits->n == hits->capacity) {
        size_t capacity = hits->capacity ? hits->capacity * 2 : FIRST_HITS;
        struct vector_hit *items = anx_realloc_array(NULL, hits->items, capacity, sizeof(*items));

        ANX_ASSERT(!hits->is_borrowed);
        if (!items)
            return exec_nomem(x);
        hits->items = items;
        hits->capacity = capacity;
    }
    hits->items[hits->n++] = (struct vector_hit) { .row = row, .rank = rank };
    return ANX_OK;
}

void
hits_fini(struct hits *hits)
{
    if (!hits->is_borrowed)
        anx_free(NULL, hits->items);
    *hits = (struct hits) { 0 };
}

/* ---- Namespaces ---- */

const struct space *
exec_space(const struct exec *x, anx_text name)
{
    for (const struct space *space = x->spaces; space; space = space->next)
        if (anx_text_equal_fold(space->asked, name))
            return space;
    return NULL;
}

/* Renaming changes ns->name under the list's lock. */
static anx_text
copy_name(struct exec *x, struct ns *ns)
{
    anx_text name;

    if (!x->db)
        return anx_arena_text(x->arena, anx_text_of(ns->name));
    pthread_rwlock_rdlock(&x->db->list_lock);
    name = anx_arena_text(x->arena, anx_text_of(ns->name));
    pthread_rwlock_unlock(&x->db->list_lock);
    return name;
}

static anx_status
add_space(struct exec *x, anx_text name, struct ns *writing)
{
    struct space **end = &x->spaces, *space;
    struct ns *ns = writing;

    while (*end) {
        if (anx_text_equal_fold((*end)->asked, name))
            return ANX_OK;
        end = &(*end)->next;
    }
    space = anx_arena_array(x->arena, 1, sizeof(*space));
    if (!space)
        return exec_nomem(x);
    if (!writing && x->may_not_lock)
        return anx_fail(x->err, ANX_E_LOGIC, "Queries to other namespaces ('%.*s') are not allowed inside TX",
                        ANX_TEXT_ARG(name));
    if (!writing) {
        anx_status st = ns_acquire(x->db, name, &ns, x->err);

        if (st != ANX_OK)
            return st;
    }
    *space = (struct space) { .ns = ns, .asked = name, .is_borrowed = writing != NULL };
    *end = space; /* from here on exec_fini gives the reference back */
    x->n_space++;
    space->name = copy_name(x, ns);
    return space->name.data ? ANX_OK : exec_nomem(x);
}

static anx_status add_spaces(struct exec *x, const struct query *query, bool is_subquery, int depth);

static anx_status
add_entry_spaces(struct exec *x, const struct query_bracket *bracket, int depth)
{
    anx_status st = ANX_OK;

    if (depth > QUERY_DEPTH_MAX)
        return anx_fail(x->err, ANX_E_PARAMS, "query is nested deeper than %d levels", QUERY_DEPTH_MAX);
    for (size_t i = 0; st == ANX_OK && i < bracket->n; i++) {
        const struct query_entry *entry = &bracket->entries[i];

        if (entry->kind == ENTRY_BRACKET)
            st = add_entry_spaces(x, &entry->bracket, depth + 1);
        else if (entry->kind == ENTRY_SUBQUERY_FIELD || entry->kind == ENTRY_SUBQUERY_VALUES)
            st = add_spaces(x, entry->subquery, true, depth + 1);
    }
    return st;
}

static anx_status
add_spaces(struct exec *x, const struct query *query, bool is_subquery, int depth)
{
    anx_status st;

    if (is_subquery && is_system_name(query->ns))
        return anx_fail(x->err, ANX_E_QUERY,
                        "Queries to system namespaces ('%.*s') are not supported inside subquery",
                        ANX_TEXT_ARG(query->ns));
    st = add_space(x, query->ns, NULL);
    for (size_t i = 0; st == ANX_OK && i < query->n_merge; i++)
        st = add_spaces(x, query->merges[i], false, depth + 1);
    for (size_t i = 0; st == ANX_OK && i < query->n_join; i++)
        st = add_spaces(x, query->joins[i].query, false, depth + 1);
    if (st == ANX_OK && query->where.n > 0)
        st = add_entry_spaces(x, &query->where, depth);
    return st;
}

/* In order of address, each namespace once even when it was mentioned under two spellings. Few namespaces: a
 * selection of the next smallest is as good as a sort. */
static anx_status
lock_spaces(struct exec *x)
{
    const struct ns *last = NULL;
    uint64_t start = x->n_space > 0 ? anx_clock_ns() : 0;
    anx_status st = ANX_OK;

    for (;;) {
        struct space *next = NULL;

        for (struct space *space = x->spaces; space; space = space->next)
            if (!space->is_borrowed && (uintptr_t) space->ns > (uintptr_t) last &&
                (!next || (uintptr_t) space->ns < (uintptr_t) next->ns))
                next = space;
        if (!next)
            break;
        last = next->ns;
        if (x->spaces->is_borrowed && x->spaces->ns == last)
            continue; /* a join of the namespace that is being written to: its write_lock is enough */
        pthread_rwlock_rdlock(&next->ns->data_lock);
        next->is_locked = true;
        st = ns_check_alive(next->ns, x->err);
        if (st != ANX_OK)
            break;
    }
    x->lock_ns = anx_clock_ns() - start;
    return st;
}

anx_status
exec_open(struct exec *x, const struct query *query, struct ns *writing)
{
    anx_status st = ANX_OK;

    if (writing)
        st = add_space(x, query->ns, writing);
    if (st == ANX_OK)
        st = add_spaces(x, query, false, 0);
    if (st == ANX_OK)
        st = lock_spaces(x);
    if (st != ANX_OK)
        exec_fini(x);
    return st;
}

void
exec_fini(struct exec *x)
{
    for (struct part *part = x->parts; part; part = part->next)
        part_fini(part);
    x->parts = NULL;
    for (struct owned_bitmap *owned = x->bitmaps; owned; owned = owned->next)
        roaring_bitmap_free(owned->bitmap);
    x->bitmaps = NULL;
    for (struct space *space = x->spaces; space; space = space->next) {
        if (space->is_locked)
            pthread_rwlock_unlock(&space->ns->data_lock);
        if (!space->is_borrowed)
            ns_release(space->ns);
    }
    x->spaces = NULL;
    x->n_space = 0;
}
