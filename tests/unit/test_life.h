/* A database in a folder of its own, that can be closed and opened again: what the suites of the life cycle
 * share. */
#ifndef ANX_TEST_LIFE_H
#define ANX_TEST_LIFE_H

#include "test_util.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "base/folder.h"
#include "db/data.h"
#include "db/db.h"
#include "db/ns_life.h"
#include "db/persist.h"

static _Thread_local anx_error failure;

#define ok(call)                                                                                             \
    do {                                                                                                     \
        if ((call) != ANX_OK)                                                                                \
            fail_msg("%s: %s", #call, failure.message);                                                      \
    } while (0)

struct life {
    char folder[64];
    struct engine_params params;
    struct engine *engine;
    struct database *db;
};

/* Opens the engine; the database "d" is made when it is not there. */
static inline void
life_open(struct life *life)
{
    life->params.path = life->folder;
    ok(engine_open(&life->params, &life->engine, &failure));
    if (database_acquire(life->engine, ANX_TEXT("d"), &life->db, NULL) != ANX_OK) {
        ok(engine_database_create(life->engine, ANX_TEXT("d"), NULL, &failure));
        ok(database_acquire(life->engine, ANX_TEXT("d"), &life->db, &failure));
    }
}

static inline void
life_close(struct life *life)
{
    database_release(life->db);
    engine_close(life->engine);
    life->db = NULL;
    life->engine = NULL;
}

static inline void
life_reopen(struct life *life)
{
    life_close(life);
    life_open(life);
}

static inline int
life_setup(void **state)
{
    struct life *life = anx_alloc_zeroed(NULL, 1, sizeof(*life));

    (void) snprintf(life->folder, sizeof(life->folder), "/tmp/annex-life-XXXXXX");
    if (!mkdtemp(life->folder))
        return -1;
    life_open(life);
    *state = life;
    return 0;
}

static inline int
life_teardown(void **state)
{
    struct life *life = *state;

    if (life->engine)
        life_close(life);
    anx_folder_remove(life->folder);
    anx_free(NULL, life);
    return 0;
}

/* {"name":"<ns>","indexes":[id as primary key, <indexes>]} */
static inline void
life_namespace(struct life *life, const char *ns, const char *indexes)
{
    char definition[4096];

    (void) snprintf(
        definition, sizeof(definition),
        "{\"name\":\"%s\",\"indexes\":[{\"name\":\"id\",\"field_type\":\"int\",\"index_type\":\"hash\","
        "\"is_pk\":true,\"json_paths\":[\"id\"]}%s%s]}",
        ns, *indexes ? "," : "", indexes);
    ok(db_ns_create(life->db, anx_text_of(definition), NULL, &failure));
}

static inline anx_status
life_try_put(struct life *life, const char *ns, const char *json)
{
    size_t updated = 0;

    return db_write(life->db, anx_text_of(ns), WRITE_UPSERT, anx_text_of(json), NULL, 0, NULL, &updated, NULL,
                    &failure);
}

/* n documents that `print` makes of ids and seeds, both counted up, in one body. */
static inline anx_status
life_try_put_made(struct life *life, const char *ns,
                  void (*print)(anx_buffer *out, uint32_t id, uint32_t seed), uint32_t first, uint32_t n,
                  uint32_t seed)
{
    anx_buffer text;
    anx_status st;

    anx_buffer_init(&text, NULL, 1 << 26);
    for (uint32_t i = 0; i < n; i++)
        print(&text, first + i, seed + i);
    anx_buffer_char(&text, '\0');
    st = life_try_put(life, ns, text.data);
    anx_buffer_fini(&text);
    return st;
}

static inline void
life_put(struct life *life, const char *ns, const char *json)
{
    if (life_try_put(life, ns, json) != ANX_OK)
        fail_msg("%s: %s", json, failure.message);
}

/* The answer as JSON, or "status message"; freed with anx_buffer_fini. Terminated. */
static inline void
life_run(struct life *life, const char *sql, anx_buffer *out)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = NULL;
    struct query query;
    anx_status st;

    anx_buffer_init(out, NULL, 1 << 28);
    st = query_read_sql(anx_text_of(sql), arena, &query, NULL, &failure);
    if (st == ANX_OK)
        st = query.type == QUERY_SELECT ? db_select(life->db, &query, NULL, &result, &failure)
                                        : db_modify(life->db, &query, NULL, &result, &failure);
    if (st == ANX_OK)
        st = result_print_json(result, NULL, out, &failure);
    result_free(result);
    anx_arena_destroy(arena);
    if (st != ANX_OK) {
        anx_buffer_clear(out);
        anx_buffer_printf(out, "%d %s", anx_status_http(st), failure.message);
    }
    anx_buffer_char(out, '\0');
    assert_false(out->failed);
}

/* The "items" of the answer begin with this text (without the bracket), or the error is this text. */
static inline void
life_expect(struct life *life, const char *sql, const char *items)
{
    anx_buffer out;
    const char *got;

    life_run(life, sql, &out);
    got = strncmp(out.data, "{\"items\":[", 10) == 0 ? out.data + 10 : out.data;
    if (strncmp(got, items, strlen(items)) != 0)
        fail_msg("%s\n  expected %s\n  got      %.300s", sql, items, got);
    anx_buffer_fini(&out);
}

/* What others (the housekeeper too) have published may not be durable yet: a batch behind theirs is waited
 * for. */
static inline void
life_check(struct life *life, const char *name)
{
    struct store_batch *batch;
    struct ns *ns;
    uint64_t ticket;

    ok(ns_acquire(life->db, anx_text_of(name), &ns, &failure));
    pthread_mutex_lock(&ns->write_lock);
    ok(persist_begin(ns, &batch, &failure));
    ok(persist_submit(ns, batch, &ticket, &failure));
    ok(persist_wait(ns, ticket, &failure));
    ok(ns_check(ns, true, &failure));
    pthread_mutex_unlock(&ns->write_lock);
    ns_release(ns);
}

static inline anx_status
life_index(struct life *life, const char *ns, enum db_index_action action, const char *definition)
{
    return db_index_set(life->db, anx_text_of(ns), anx_text_of(definition), action, NULL, &failure);
}

#endif
