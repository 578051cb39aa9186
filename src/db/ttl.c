/* Expiry: documents whose ttl index says a time (Unix seconds) longer ago than expire_after are deleted,
 * about once a second, by the same DELETE that a client would send. */
#include <string.h>
#include <time.h>

#include "base/error.h"
#include "base/log.h"
#include "db/ns_int.h"

struct expiry {
    anx_text index, ns; /* in the arena */
    int64_t before;
};

/* Is there anything to delete for this index? data_lock shared. */
static bool
has_expired(const struct ns_index *index, int64_t before)
{
    struct value value = { .type = VALUE_INT, .integer = before };
    struct values values = { &value, 1 };
    roaring_bitmap_t *rows = roaring_bitmap_create();
    bool found = rows && scalar_select(index->scalar, COND_LT, &values, rows, NULL) == ANX_OK
                 && !roaring_bitmap_is_empty(rows);

    if (rows)
        roaring_bitmap_free(rows);
    return found;
}

/* The indexes that have something to delete. */
static size_t
find_expiries(struct ns *ns, anx_arena *arena, struct expiry *out, size_t max)
{
    int64_t now = (int64_t) time(NULL);
    size_t n = 0;

    pthread_rwlock_rdlock(&ns->data_lock);
    for (size_t i = 0; !ns->is_dropped && i < ns->n_index && n < max; i++) {
        const struct ns_index *index = &ns->indexes[i];
        int64_t before;

        if (index->def->index_type != INDEX_TTL
            || __builtin_sub_overflow(now, index->def->expire_after, &before)
            || !has_expired(index, before))
            continue;
        out[n] = (struct expiry) { .index = anx_arena_text(arena, index->def->name),
                                   .ns = anx_arena_text(arena, anx_text_of(ns->name)),
                                   .before = before };
        n += out[n].index.data && out[n].ns.data;
    }
    pthread_rwlock_unlock(&ns->data_lock);
    return n;
}

static void
expire(struct ns *ns, const struct expiry *expiry)
{
    struct query query = query_default();
    struct value value = { .type = VALUE_INT, .integer = expiry->before };
    struct query_entry entry = {
        .op = OP_AND,
        .kind = ENTRY_COMPARE,
        .condition = COND_LT,
        .field = expiry->index,
        .values = { &value, 1 },
    };
    struct db_session session = { .role = ROLE_OWNER };
    struct result *result = NULL;
    anx_error err;

    query.type = QUERY_DELETE;
    query.ns = expiry->ns;
    query.where.entries = &entry;
    query.where.n = 1;
    if (db_modify(ns->database, &query, &session, &result, &err) != ANX_OK)
        anx_log(ANX_LOG_WARN, "event=expiry_failed ns=%.*s cause=\"%s\"", ANX_TEXT_ARG(expiry->ns),
                err.message);
    result_free(result);
}

void
ttl_expire(struct ns *ns)
{
    enum { INDEXES_AT_A_TIME = 8 };
    struct expiry expiries[INDEXES_AT_A_TIME];
    anx_arena *arena = anx_arena_create(NULL, 1 << 20);
    size_t n = arena ? find_expiries(ns, arena, expiries, INDEXES_AT_A_TIME) : 0;

    for (size_t i = 0; i < n; i++)
        expire(ns, &expiries[i]);
    anx_arena_destroy(arena);
}
