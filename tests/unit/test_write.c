/* Writing documents through the engine: items, precepts, UPDATE and DELETE, transactions; against texts that
 * clients know, against a model over random operations with restarts, and with readers beside writers. The
 * checker of the namespace runs after each. */
#include "test_util.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/rng.h"
#include "db/data.h"
#include "db/db.h"
#include "db/ns_life.h"

struct fixture {
    char path[64];
    struct engine *engine;
    struct database *db;
    struct db_session session;
};

static const char definition[] =
    "{\"name\":\"t\",\"storage\":{\"enabled\":true},\"indexes\":["
    "{\"name\":\"id\",\"json_paths\":[\"id\"],\"field_type\":\"int\",\"index_type\":\"hash\",\"is_pk\":true},"
    "{\"name\":\"name\",\"json_paths\":[\"name\"],\"field_type\":\"string\",\"index_type\":\"hash\"},"
    "{\"name\":\"qty\",\"json_paths\":[\"qty\"],\"field_type\":\"int\",\"index_type\":\"tree\"},"
    "{\"name\":\"tags\",\"json_paths\":[\"tags\"],\"field_type\":\"string\",\"index_type\":\"hash\",\"is_"
    "array\":true},"
    "{\"name\":\"opt\",\"json_paths\":[\"opt\"],\"field_type\":\"int\",\"index_type\":\"hash\",\"is_sparse\":"
    "true},"
    "{\"name\":\"id+name\",\"json_paths\":[\"id\",\"name\"],\"field_type\":\"composite\",\"index_type\":"
    "\"tree\"},"
    "{\"name\":\"vec\",\"json_paths\":[\"vec\"],\"field_type\":\"float_vector\",\"index_type\":\"hnsw\","
    "\"config\":{\"dimension\":2,\"metric\":\"l2\"}}]}";

static void
fixture_open(struct fixture *f)
{
    struct engine_params params = { .path = f->path[0] ? f->path : NULL, .durability = STORE_DURABLE_ASYNC };
    anx_error err;

    f->session = (struct db_session) { .role = ROLE_OWNER };
    if (engine_open(&params, &f->engine, &err) != ANX_OK)
        fail_msg("%s", err.message);
    if (database_acquire(f->engine, ANX_TEXT("main"), &f->db, &err) == ANX_OK)
        return;
    assert_int_equal(engine_database_create(f->engine, ANX_TEXT("main"), &f->session, &err), ANX_OK);
    assert_int_equal(database_acquire(f->engine, ANX_TEXT("main"), &f->db, &err), ANX_OK);
    assert_int_equal(db_ns_create(f->db, anx_text_of(definition), &f->session, &err), ANX_OK);
}

static void
fixture_close(struct fixture *f)
{
    database_release(f->db);
    engine_close(f->engine);
}

static void
fixture_begin(struct fixture *f, bool on_disk)
{
    memset(f, 0, sizeof(*f));
    if (on_disk) {
        (void) snprintf(f->path, sizeof(f->path), "/tmp/annex_test_XXXXXX");
        assert_non_null(mkdtemp(f->path));
    }
    fixture_open(f);
}

static void
fixture_end(struct fixture *f)
{
    char command[128];

    fixture_close(f);
    if (!f->path[0])
        return;
    (void) snprintf(command, sizeof(command), "rm -r %s", f->path);
    assert_int_equal(system(command), 0);
}

static void
check_ns(struct fixture *f, bool with_store)
{
    struct ns *ns;
    anx_error err;
    anx_status st;

    assert_int_equal(ns_acquire(f->db, ANX_TEXT("t"), &ns, &err), ANX_OK);
    st = ns_check(ns, with_store, &err);
    ns_release(ns);
    if (st != ANX_OK)
        fail_msg("%s", err.message);
}

/* ---- One step: what is sent, and the answer ---- */

enum action {
    INSERT = WRITE_INSERT,
    UPDATE = WRITE_UPDATE,
    UPSERT = WRITE_UPSERT,
    DELETE = WRITE_DELETE,
    SQL
};
struct step {
    enum action action;
    const char *text, *precept;
    const char *answer; /* "2" documents; with a precept and for SQL the text; errors: the message */
};

static void
run_sql(struct fixture *f, const char *sql, anx_buffer *out, anx_error *err)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct query query;
    struct result *result = NULL;
    anx_status st = query_read_sql(anx_text_of(sql), arena, &query, NULL, err);

    if (st == ANX_OK)
        st = query.type == QUERY_SELECT ? db_select(f->db, &query, &f->session, &result, err)
                                        : db_modify(f->db, &query, &f->session, &result, err);
    if (st == ANX_OK)
        st = result_print_json(result, NULL, out, err);
    if (st != ANX_OK)
        anx_buffer_text(out, anx_text_of(err->message));
    result_free(result);
    anx_arena_destroy(arena);
}

static void
run_write(struct fixture *f, const struct step *step, anx_buffer *out, anx_error *err)
{
    anx_text precept = anx_text_of(step->precept);
    anx_buffer items;
    size_t updated;
    anx_status st;

    anx_buffer_init(&items, NULL, 1 << 20);
    st = db_write(f->db, ANX_TEXT("t"), (enum db_write_mode) step->action, anx_text_of(step->text), &precept,
                  step->precept != NULL, &f->session, &updated, step->precept ? &items : NULL, err);
    if (st != ANX_OK)
        anx_buffer_text(out, anx_text_of(err->message));
    else if (step->precept)
        anx_buffer_text(out, (anx_text) { items.data, items.size });
    else
        anx_buffer_printf(out, "%zu", updated);
    anx_buffer_fini(&items);
}

static void
run_steps(struct fixture *f, const struct step *steps, size_t n)
{
    for (size_t i = 0; i < n; i++) {
        anx_buffer out;
        anx_error err;

        anx_buffer_init(&out, NULL, 1 << 20);
        if (steps[i].action == SQL)
            run_sql(f, steps[i].text, &out, &err);
        else
            run_write(f, &steps[i], &out, &err);
        anx_buffer_char(&out, 0);
        if (!strstr(out.data, steps[i].answer))
            fail_msg("step %zu, %s: got %s, expected %s", i, steps[i].text, out.data, steps[i].answer);
        anx_buffer_fini(&out);
        check_ns(f, false);
    }
}

static void
items_are_written(void **state)
{
    static const struct step steps[] = {
        { INSERT,
          "{\"id\":1,\"name\":\"a\",\"vec\":[1,0]}\n{\"id\":2,\"tags\":[\"x\",\"y\",\"x\"]} {\"id\":1}", NULL,
          "2" },
        { UPDATE, "{\"id\":2,\"opt\":null}{\"id\":9}", NULL, "1" },
        { UPSERT, "{\"id\":2,\"opt\":7,\"vec\":[2,2]}{\"id\":3}{\"id\":3,\"qty\":5}", NULL, "3" },
        { SQL, "SELECT * FROM t", NULL,
          "{\"items\":[{\"id\":1,\"name\":\"a\"},{\"id\":2,\"opt\":7},{\"id\":3,\"qty\":5}]" },
        { DELETE, "{\"id\":2,\"name\":\"whatever\"}{\"id\":2}{\"id\":5}", NULL, "1" },
        { UPSERT, "{\"id\":4,\"name\":\"kept\"}{bad", NULL, "json" },
        { SQL, "SELECT * FROM t WHERE id = 4", NULL, "[{\"id\":4,\"name\":\"kept\"}]" },
        { UPSERT, "{\"id\":5,\"qty\":\"many\"}", NULL,
          "Error parsing json field 'qty' - got string, expected int" },
        { UPSERT, "{\"id\":5,\"vec\":[1,2,3]}", NULL, "must contain 2 elements, but got 3" },
        { INSERT, "", NULL, "0" },
        { UPSERT, "{\"name\":\"s\"}{\"name\":\"t\"}", "id=serial()",
          "{\"name\":\"s\",\"id\":1},{\"name\":\"t\",\"id\":2}" },
        { INSERT, "{\"name\":\"u\",\"vec\":[3,4]}", "opt=serial()",
          "{\"name\":\"u\",\"vec\":[3.0,4.0],\"opt\":1}" },
        { UPSERT, "{\"id\":6}", "tags=serial()", "Precepts are not allowed for array fields ('tags')" },
        { UPSERT, "{\"id\":6}", "id+name=serial()",
          "Precepts are not allowed for composite indexes ('id+name')" },
        { UPSERT, "{\"id\":6}", "id=random()", "Function 'random' is not supported" },
        { UPSERT, "{\"id\":6}", "name='text'",
          "text: An open parenthesis is required, but found ``. Select function name: `text`" },
        { UPSERT, "{\"id\":6}", "qty=12", "{\"id\":6,\"qty\":12}" },
        { SQL, "SELECT id FROM t WHERE vec IS NULL ORDER BY id", NULL,
          "{\"items\":[{\"id\":1},{\"id\":2},{\"id\":3}" },
        { SQL, "SELECT id, rank() FROM t WHERE KNN(vec, [3, 3], k=5)", NULL, "\"rank()\":1.0" },
    };
    struct fixture f;

    (void) state;
    fixture_begin(&f, false);
    run_steps(&f, steps, ANX_COUNT_OF(steps));
    fixture_end(&f);
}

static void
queries_change_documents(void **state)
{
    static const struct step steps[] = {
        { INSERT,
          "{\"id\":1,\"name\":\"a\",\"qty\":1,\"tags\":[\"x\"],\"vec\":[1,1],\"f\":{\"n\":2}}{\"id\":2,"
          "\"qty\":2}{\"id\":3,\"qty\":3}",
          NULL, "3" },
        { SQL, "UPDATE t SET qty = qty * 10 + 1 WHERE id < 3", NULL, "\"qty\":11" },
        { SQL, "UPDATE t SET qty = qty + 1, f.n = qty WHERE id = 2", NULL,
          "{\"id\":2,\"qty\":22,\"f\":{\"n\":22}}" },
        { SQL, "UPDATE t SET tags = tags || ['y', 'z'] WHERE id = 1", NULL, "\"tags\":[\"x\",\"y\",\"z\"]" },
        { SQL, "UPDATE t SET tags = array_remove(tags, ['y', 'q']) WHERE id = 1", NULL,
          "\"tags\":[\"x\",\"z\"]" },
        { SQL, "UPDATE t SET vec = [5, 5] WHERE id = 1", NULL, "\"vec\":[5.0,5.0]" },
        { SQL, "SELECT id, rank() FROM t WHERE KNN(vec, [5, 5], k=3)", NULL, "[{\"id\":1,\"rank()\":0.0}]" },
        { SQL, "UPDATE t SET vec = null WHERE id = 1", NULL, "\"vec\":[]" },
        { SQL, "SELECT id FROM t WHERE KNN(vec, [5, 5], k=3)", NULL, "{\"items\":[]" },
        { SQL, "UPDATE t SET qty = name + 1 WHERE id = 1", NULL,
          "Only integral type non-array fields are supported in arithmetical expressions: name" },
        { SQL, "UPDATE t SET qty = 1 / 0 WHERE id = 1", NULL, "Division by zero!" },
        { SQL, "UPDATE t SET id = 3 WHERE id = 1", NULL, "Duplicate Primary Key {id: {3}} for rows [0, 2]!" },
        { SQL, "UPDATE t SET id = id + 1 WHERE id > 0 ORDER BY id DESC", NULL, "[{\"id\":4," },
        { SQL, "SELECT id FROM t ORDER BY id", NULL, "[{\"id\":2},{\"id\":3},{\"id\":4}]" },
        { SQL, "UPDATE t SET qty = serial() WHERE id > 2", NULL, "\"qty\":1" },
        { SQL, "UPDATE t DROP f, opt WHERE id > 0", NULL, "{\"id\":3,\"qty\":1}" },
        { SQL, "UPDATE t DROP name", NULL,
          "It's only possible to drop sparse or non-index fields via UPDATE statement!" },
        { SQL, "DELETE FROM t WHERE id = 3", NULL, "[{\"id\":3,\"qty\":1}]" },
        { SQL, "DELETE FROM t WHERE id > 0 ORDER BY id DESC LIMIT 1", NULL, "[{\"id\":4," },
        { SQL, "TRUNCATE t", NULL, "{\"items\":[]" },
        { SQL, "SELECT COUNT(*) FROM t", NULL, "\"value\":0.0" },
        { INSERT, "{\"id\":1,\"vec\":[1,1]}", NULL, "1" },
    };
    struct fixture f;

    (void) state;
    fixture_begin(&f, false);
    run_steps(&f, steps, ANX_COUNT_OF(steps));
    fixture_end(&f);
}

/* ---- Transactions ---- */

static void
tx_sql(struct fixture *f, anx_text id, const char *sql)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct query query;
    anx_error err;

    assert_int_equal(query_read_sql(anx_text_of(sql), arena, &query, NULL, &err), ANX_OK);
    if (db_tx_query(f->db, id, &query, &f->session, &err) != ANX_OK)
        fail_msg("%s: %s", sql, err.message);
    anx_arena_destroy(arena);
}

static void
tx_write(struct fixture *f, anx_text id, enum db_write_mode mode, const char *json)
{
    anx_error err;

    if (db_tx_write(f->db, id, mode, anx_text_of(json), NULL, 0, &f->session, &err) != ANX_OK)
        fail_msg("%s: %s", json, err.message);
}

static void
tx_commit(struct fixture *f, anx_text id, anx_status status, size_t n)
{
    struct result *result;
    anx_error err;
    anx_status st = db_tx_commit(f->db, id, &f->session, &result, &err);

    if (st != status)
        fail_msg("commit: %d %s", st, st != ANX_OK ? err.message : "");
    if (st == ANX_OK)
        assert_int_equal(result_count(result), n);
    result_free(result);
    check_ns(f, false);
}

static void
transactions_are_all_or_nothing(void **state)
{
    static const struct step before[] = {
        { INSERT, "{\"id\":1,\"qty\":1,\"vec\":[1,0]}{\"id\":2,\"qty\":2,\"vec\":[2,0]}{\"id\":3,\"qty\":3}",
          NULL, "3" },
    };
    static const struct step after_first[] = {
        { SQL, "SELECT *, vec FROM t ORDER BY id", NULL,
          "[{\"id\":1,\"qty\":10,\"vec\":[0.0,5.0]},{\"id\":3,\"qty\":3},{\"id\":4,\"qty\":4}]" },
    };
    static const struct step after_second[] = {
        { SQL, "SELECT id, qty FROM t ORDER BY id", NULL, "[{\"id\":1,\"qty\":110},{\"id\":4,\"qty\":104}]" },
        { SQL, "SELECT id FROM t WHERE KNN(vec, [0, 0], k=9)", NULL, "[{\"id\":1}]" },
    };
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct fixture f;
    anx_text id;
    anx_error err;

    (void) state;
    fixture_begin(&f, false);
    run_steps(&f, before, 1);
    assert_int_equal(db_tx_begin(f.db, ANX_TEXT("t"), &f.session, arena, &id, &err), ANX_OK);
    tx_write(&f, id, WRITE_INSERT, "{\"id\":4,\"qty\":4}{\"id\":1,\"qty\":99}");
    tx_write(&f, id, WRITE_UPSERT, "{\"id\":1,\"qty\":10,\"vec\":[0,5]}");
    tx_write(&f, id, WRITE_UPDATE, "{\"id\":9}");
    tx_write(&f, id, WRITE_DELETE, "{\"id\":2}");
    assert_int_equal(
        db_tx_write(f.db, id, WRITE_UPSERT, ANX_TEXT("{\"id\":7,\"qty\":\"x\"}"), NULL, 0, &f.session, &err),
        ANX_E_LOGIC);
    tx_commit(&f, id, ANX_OK, 3);
    tx_commit(&f, id, ANX_E_NO_TX, 0);
    run_steps(&f, after_first, 1);

    /* With queries: each sees the steps before it. */
    assert_int_equal(db_tx_begin(f.db, ANX_TEXT("t"), &f.session, arena, &id, &err), ANX_OK);
    tx_write(&f, id, WRITE_UPSERT, "{\"id\":62,\"qty\":62,\"vec\":[6,2]}");
    tx_sql(&f, id, "UPDATE t SET qty = qty + 100 WHERE qty < 20");
    tx_sql(&f, id, "DELETE FROM t WHERE id = 3");
    tx_sql(&f, id, "DELETE FROM t WHERE id = 62");
    tx_commit(&f, id, ANX_OK, 6);
    run_steps(&f, after_second, 2);

    /* A step that fails takes everything back, new and changed and removed. */
    assert_int_equal(db_tx_begin(f.db, ANX_TEXT("t"), &f.session, arena, &id, &err), ANX_OK);
    tx_write(&f, id, WRITE_UPSERT, "{\"id\":70,\"vec\":[7,0]}{\"id\":1,\"qty\":-1,\"vec\":[9,9]}");
    tx_sql(&f, id, "UPDATE t SET qty = 5, vec = [8, 8] WHERE id >= 1");
    tx_sql(&f, id, "DELETE FROM t WHERE id = 4");
    tx_write(&f, id, WRITE_INSERT, "{\"id\":4,\"qty\":0}");
    tx_sql(&f, id, "UPDATE t SET id = 70 WHERE id = 1");
    tx_commit(&f, id, ANX_E_LOGIC, 0);
    run_steps(&f, after_second, 2);

    assert_int_equal(db_tx_begin(f.db, ANX_TEXT("t"), &f.session, arena, &id, &err), ANX_OK);
    tx_write(&f, id, WRITE_UPSERT, "{\"id\":80}");
    assert_int_equal(db_tx_rollback(f.db, id, &f.session, &err), ANX_OK);
    run_steps(&f, after_second, 2);
    anx_arena_destroy(arena);
    fixture_end(&f);
}

/* ---- Random operations and restarts ---- */

enum { N_ID = 60, N_ROUND = 4, N_OPERATION = 120 };

struct model {
    bool has[N_ID];
    int qty[N_ID];
    int vec[N_ID]; /* -1: none */
};

static void
model_compare(struct fixture *f, const struct model *model)
{
    anx_buffer want, got;
    anx_error err;
    bool is_first = true;

    anx_buffer_init(&want, NULL, 1 << 20);
    anx_buffer_init(&got, NULL, 1 << 20);
    anx_buffer_text(&want, ANX_TEXT("{\"items\":["));
    for (int id = 0; id < N_ID; id++) {
        if (!model->has[id])
            continue;
        anx_buffer_printf(&want, "%s{\"id\":%d,\"name\":\"n%d\",\"qty\":%d", is_first ? "" : ",", id, id % 3,
                          model->qty[id]);
        if (model->vec[id] >= 0)
            anx_buffer_printf(&want, ",\"vec\":[%d.0,1.0]", model->vec[id]);
        anx_buffer_char(&want, '}');
        is_first = false;
    }
    anx_buffer_text(&want, ANX_TEXT("]"));
    run_sql(f, "SELECT *, vec FROM t ORDER BY id", &got, &err);
    if (got.size < want.size || memcmp(got.data, want.data, want.size) != 0)
        fail_msg("got %.*s\nexpected %.*s", (int) got.size, got.data, (int) want.size, want.data);
    anx_buffer_fini(&want);
    anx_buffer_fini(&got);
}

static void
print_doc(anx_buffer *out, int id, int qty, int vec)
{
    anx_buffer_printf(out, "{\"id\":%d,\"name\":\"n%d\",\"qty\":%d", id, id % 3, qty);
    if (vec >= 0)
        anx_buffer_printf(out, ",\"vec\":[%d,1]", vec);
    anx_buffer_text(out, ANX_TEXT("}"));
}

/* A body of several documents in one mode. */
static void
random_write(struct fixture *f, struct model *model, anx_rng *rng)
{
    enum db_write_mode mode = (enum db_write_mode) anx_rng_below(rng, 4);
    size_t n = 1 + anx_rng_below(rng, 12), want = 0, updated;
    anx_buffer body;
    anx_error err;

    anx_buffer_init(&body, NULL, 1 << 20);
    for (size_t i = 0; i < n; i++) {
        int id = (int) anx_rng_below(rng, N_ID), qty = (int) anx_rng_below(rng, 100);
        int vec = (int) anx_rng_below(rng, 20) - 5;

        print_doc(&body, id, qty, vec);
        if (mode != WRITE_UPSERT && model->has[id] != (mode != WRITE_INSERT))
            continue;
        want++;
        model->has[id] = mode != WRITE_DELETE;
        model->qty[id] = qty;
        model->vec[id] = vec < 0 ? -1 : vec;
    }
    if (db_write(f->db, ANX_TEXT("t"), mode, (anx_text){ body.data, body.size }, NULL, 0, &f->session,
                 &updated, NULL, &err) != ANX_OK)
        fail_msg("%s", err.message);
    assert_int_equal(updated, want);
    anx_buffer_fini(&body);
}

static void
random_query(struct fixture *f, struct model *model, anx_rng *rng)
{
    int low = (int) anx_rng_below(rng, N_ID), high = low + (int) anx_rng_below(rng, 6);
    bool is_delete = anx_rng_below(rng, 3) == 0;
    char sql[128];
    anx_buffer out;
    anx_error err;

    (void) snprintf(sql, sizeof(sql), "%s WHERE id RANGE(%d, %d)",
                    is_delete ? "DELETE FROM t" : "UPDATE t SET qty = qty + 1", low, high);
    anx_buffer_init(&out, NULL, 1 << 20);
    run_sql(f, sql, &out, &err);
    assert_memory_equal(out.data, "{\"items\"", 8);
    anx_buffer_fini(&out);
    for (int id = low; id <= high && id < N_ID; id++) {
        model->qty[id] += !is_delete;
        model->has[id] = model->has[id] && !is_delete;
    }
}

static void
random_writes_survive_restarts(void **state)
{
    static struct model model;
    anx_rng rng = anx_rng_seed(11);
    struct fixture f;

    (void) state;
    fixture_begin(&f, true);
    for (int round = 0; round < N_ROUND; round++) {
        for (int i = 0; i < N_OPERATION; i++) {
            if (anx_rng_below(&rng, 4) == 0)
                random_query(&f, &model, &rng);
            else
                random_write(&f, &model, &rng);
            if (i % 20 == 0) {
                model_compare(&f, &model);
                check_ns(&f, false);
            }
        }
        fixture_close(&f);
        fixture_open(&f);
        model_compare(&f, &model);
        check_ns(&f, true);
    }
    fixture_end(&f);
}

/* ---- Readers beside writers ---- */

enum { N_SHARED = 400, N_READER = 3, N_WRITER = 2 };
struct shared {
    struct fixture *f;
    atomic_bool stop;
    atomic_size_t n_read, n_write;
};

/* A document's vector is [x, 1] and its qty is x: whoever sees one without the other sees a document that
 * never was. */
static void *
read_all_the_time(void *context)
{
    struct shared *shared = context;
    anx_rng rng = anx_rng_seed(21 + atomic_fetch_add(&shared->n_read, 1));

    while (!atomic_load(&shared->stop)) {
        char sql[128];
        anx_buffer out;
        anx_error err;
        const char *at;
        int x = (int) anx_rng_below(&rng, 1000);

        (void) snprintf(sql, sizeof(sql), "SELECT qty, vec, rank() FROM t WHERE KNN(vec, [%d, 1], k=5)", x);
        anx_buffer_init(&out, NULL, 1 << 20);
        run_sql(shared->f, sql, &out, &err);
        anx_buffer_char(&out, 0);
        at = out.data;
        for (int n = 0; n < 5; n++) {
            double rank;
            int qty, vec;

            at = strstr(at, "\"qty\":");
            if (!at || sscanf(at, "\"qty\":%d,\"vec\":[%d.0,1.0],\"rank()\":%lf", &qty, &vec, &rank) != 3 ||
                qty != vec || rank != (double) (qty - x) * (qty - x))
                fail_msg("hit %d of %s: %s", n, sql,
                         out.data); /* always five: there are always enough documents */
            at += 5;
        }
        anx_buffer_fini(&out);
        atomic_fetch_add(&shared->n_read, 1);
    }
    return NULL;
}

static void *
write_all_the_time(void *context)
{
    struct shared *shared = context;
    size_t self = atomic_fetch_add(&shared->n_write, 1);
    anx_rng rng = anx_rng_seed(31 + self);

    for (int round = 0; round < 60; round++) {
        anx_buffer body;
        size_t updated;
        anx_error err;

        anx_buffer_init(&body, NULL, 1 << 20);
        for (int i = 0; i < 20; i++) {
            int x = (int) anx_rng_below(&rng, 1000);

            anx_buffer_printf(&body, "{\"id\":%d,\"qty\":%d,\"vec\":[%d,1]}",
                              (int) anx_rng_below(&rng, N_SHARED), x, x);
        }
        assert_int_equal(db_write(shared->f->db, ANX_TEXT("t"), round % 7 == 6 ? WRITE_DELETE : WRITE_UPSERT,
                                  (anx_text){ body.data, body.size }, NULL, 0, &shared->f->session, &updated,
                                  NULL, &err),
                         ANX_OK);
        anx_buffer_fini(&body);
    }
    return NULL;
}

static void
readers_see_whole_documents(void **state)
{
    static struct fixture f;
    struct shared shared = { .f = &f };
    pthread_t readers[N_READER], writers[N_WRITER];

    (void) state;
    fixture_begin(&f, false);
    write_all_the_time(&shared); /* so that there are documents */
    for (size_t i = 0; i < N_READER; i++)
        assert_int_equal(pthread_create(&readers[i], NULL, read_all_the_time, &shared), 0);
    for (size_t i = 0; i < N_WRITER; i++)
        assert_int_equal(pthread_create(&writers[i], NULL, write_all_the_time, &shared), 0);
    for (size_t i = 0; i < N_WRITER; i++)
        pthread_join(writers[i], NULL);
    atomic_store(&shared.stop, true);
    for (size_t i = 0; i < N_READER; i++)
        pthread_join(readers[i], NULL);
    assert_true(atomic_load(&shared.n_read) > 10);
    check_ns(&f, false);
    fixture_end(&f);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(items_are_written),
        cmocka_unit_test(queries_change_documents),
        cmocka_unit_test(transactions_are_all_or_nothing),
        cmocka_unit_test(random_writes_survive_restarts),
        cmocka_unit_test(readers_see_whole_documents),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
