/* A database is killed while several threads write to it, again and again: single documents, bulk bodies,
 * transactions, index changes (quantization among them). After every kill each thread's documents must be
 * what its acknowledged steps made, or these and the one step that was under way: nothing acknowledged is
 * lost, and no step is there by half.
 *
 * Every step is a function of its thread and number, so the model is made by taking the same steps on an
 * array. Threads have keys of their own.
 *
 *     test_db_kill            20 kills
 *     test_db_kill 2000       so many; `make kills` */
#include "test_life.h"

#include <pthread.h>
#include <signal.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/rng.h"

enum { KEYS = 24, KILLS_DEFAULT = 20 };
enum { SINGLE, BULK, TRANSACTION, INDEX, N_WRITER };

static unsigned long n_kill = KILLS_DEFAULT;

/* ---- The model ---- */

struct document {
    bool exists;
    uint32_t n, made; /* the step that wrote it last, and the one that wrote its vector */
};
struct model {
    uint32_t step; /* the last one taken */
    struct document documents[KEYS];
};

struct action {
    enum { PUT, REMOVE, UPDATE } kind;
    uint32_t key; /* UPDATE: all keys below */
};
struct step {
    struct action actions[2 * KEYS];
    size_t n;
};

/* What a step does to documents. */
static struct step
plan(unsigned writer, uint32_t number)
{
    anx_rng rng = anx_rng_seed((uint64_t) writer << 32 | number);
    struct step step = { .n = 1 };
    bool removes = anx_rng_below(&rng, 5) == 0;

    if (writer == INDEX)
        return (struct step) { .n = 0 };
    if (writer == BULK)
        step.n = 1 + anx_rng_below(&rng, KEYS);
    if (writer == TRANSACTION)
        step.n = 1 + anx_rng_below(&rng, 8);
    for (size_t i = 0; i < step.n; i++) {
        step.actions[i].key = anx_rng_below(&rng, KEYS);
        if (writer == TRANSACTION) { /* kinds are mixed */
            uint32_t draw = anx_rng_below(&rng, 8);

            step.actions[i].kind = draw == 0 ? UPDATE : draw == 1 ? REMOVE : PUT;
        } else {
            step.actions[i].kind = removes ? REMOVE : PUT;
        }
    }
    return step;
}

static void
model_take(struct model *model, unsigned writer)
{
    uint32_t number = ++model->step;
    struct step step = plan(writer, number);

    for (size_t i = 0; i < step.n; i++) {
        struct action a = step.actions[i];

        if (a.kind == PUT)
            model->documents[a.key] = (struct document) { true, number, number };
        else if (a.kind == REMOVE)
            model->documents[a.key].exists = false;
        for (uint32_t key = 0; a.kind == UPDATE && key < a.key; key++)
            model->documents[key].n = number;
    }
}

/* ---- The steps ---- */

static uint32_t
id_of(unsigned writer, uint32_t key)
{
    return writer * 1000 + key;
}

static void
print_action(anx_buffer *out, unsigned writer, uint32_t number, struct action a)
{
    uint32_t id = id_of(writer, a.key);

    if (a.kind == UPDATE)
        anx_buffer_printf(out, "UPDATE t SET n = %u WHERE w = %u AND id < %u", number, writer, id);
    else if (a.kind == REMOVE)
        anx_buffer_printf(out, "{\"id\":%u}", id);
    else
        anx_buffer_printf(out,
                          "{\"id\":%u,\"w\":%u,\"n\":%u,\"made\":%u,\"v\":[%u,%u,1,2],\"s_%u\":\"%0*u\"}", id,
                          writer, number, number, number, id, number % 40, (int) (number % 300) + 1, number);
}

static anx_status
take_bulk(struct life *life, unsigned writer, uint32_t number, const struct step *step)
{
    enum db_write_mode mode = step->actions[0].kind == REMOVE ? WRITE_DELETE : WRITE_UPSERT;
    anx_buffer text;
    size_t updated;
    anx_status st;

    anx_buffer_init(&text, NULL, 1 << 20);
    for (size_t i = 0; i < step->n; i++)
        print_action(&text, writer, number, step->actions[i]);
    st = db_write(life->db, ANX_TEXT("t"), mode, (anx_text){ text.data, text.size }, NULL, 0, NULL, &updated,
                  NULL, &failure);
    anx_buffer_fini(&text);
    return st;
}

static anx_status
add_to_transaction(struct life *life, anx_text tx, anx_arena *arena, anx_text text, struct action a)
{
    struct query query;
    anx_status st;

    if (a.kind != UPDATE)
        return db_tx_write(life->db, tx, a.kind == REMOVE ? WRITE_DELETE : WRITE_UPSERT, text, NULL, 0, NULL,
                           &failure);
    st = query_read_sql(text, arena, &query, NULL, &failure);
    return st == ANX_OK ? db_tx_query(life->db, tx, &query, NULL, &failure) : st;
}

static anx_status
take_transaction(struct life *life, unsigned writer, uint32_t number, const struct step *step)
{
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct result *result = NULL;
    anx_text tx;
    anx_status st = db_tx_begin(life->db, ANX_TEXT("t"), NULL, arena, &tx, &failure);

    for (size_t i = 0; st == ANX_OK && i < step->n; i++) {
        anx_buffer text;

        anx_buffer_init(&text, NULL, 1 << 20);
        print_action(&text, writer, number, step->actions[i]);
        st = add_to_transaction(life, tx, arena, (anx_text) { text.data, text.size }, step->actions[i]);
        anx_buffer_fini(&text);
    }
    if (st == ANX_OK)
        st = db_tx_commit(life->db, tx, NULL, &result, &failure);
    result_free(result);
    anx_arena_destroy(arena);
    return st;
}

#define VECTOR(type, more)                                                                                \
    "{\"name\":\"v\",\"field_type\":\"float_vector\",\"index_type\":\"" type "\",\"json_paths\":[\"v\"]," \
    "\"config\":{\"dimension\":4,\"metric\":\"l2\"" more "}}"
#define EXTRA "{\"name\":\"made\",\"field_type\":\"int\",\"index_type\":\"tree\",\"json_paths\":[\"made\"]}"
#define SQ8                                                                                                  \
    ",\"quantization_config\":{\"quantization_type\":\"scalar_quantization_8_bit\","                         \
    "\"quantization_threshold\":10}"

/* Definitions come round; with what a listing shows of each afterwards. */
static const struct change {
    const char *definition; /* NULL: drops the index over "made" */
    const char *shown, *hidden;
} changes[] = {
    { VECTOR("hnsw", ",\"m\":8"), "\"m\":8", "\"made\"" },
    { EXTRA, "\"made\"", "quantization" },
    { VECTOR("hnsw", ",\"m\":8" SQ8), "quantization", "vec_bf" },
    { NULL, "quantization", "\"made\"" },
    { VECTOR("hnsw", ",\"m\":8"), "\"m\":8", "quantization" },
    { VECTOR("vec_bf", ""), "vec_bf", "\"m\":8" },
};

static anx_status
take_index(struct life *life, uint32_t number)
{
    const char *definition = changes[number % ANX_COUNT_OF(changes)].definition;

    if (!definition)
        return db_index_drop(life->db, ANX_TEXT("t"), ANX_TEXT("made"), NULL, &failure);
    return life_index(life, "t", strcmp(definition, EXTRA) == 0 ? INDEX_ADD : INDEX_UPDATE, definition);
}

static anx_status
take_step(struct life *life, unsigned writer, uint32_t number)
{
    struct step step = plan(writer, number);

    switch (writer) {
    case TRANSACTION: return take_transaction(life, writer, number, &step);
    case INDEX: return take_index(life, number);
    default: return take_bulk(life, writer, number, &step);
    }
}

/* ---- The process that is killed ---- */

struct acknowledged {
    uint32_t writer, number;
};
struct writer {
    struct life *life;
    uint32_t number, first;
    int fd;
};

static void *
write_steps(void *context)
{
    struct writer *w = context;

    for (struct acknowledged a = { w->number, w->first };; a.number++) {
        struct timespec pause = { .tv_nsec = 2000000 };

        if (take_step(w->life, w->number, a.number) != ANX_OK) {
            (void) fprintf(stderr, "writer %u, step %u: %s\n", w->number, a.number, failure.message);
            _exit(2);
        }
        if (write(w->fd, &a, sizeof(a)) != sizeof(a))
            _exit(3);
        if (w->number == INDEX)
            nanosleep(&pause, NULL); /* the others need their turn */
    }
}

static void
run_child(struct life *life, const struct model *models, int fd)
{
    static struct writer writers[N_WRITER];
    pthread_t thread;

    life_open(life);
    for (unsigned i = 0; i < N_WRITER; i++) {
        writers[i] = (struct writer) { life, i, models[i].step + 1, fd };
        if (pthread_create(&thread, NULL, write_steps, &writers[i]) != 0)
            _exit(4);
    }
    for (;;)
        pause();
}

/* Lets it acknowledge so many steps, then a little more, and kills it. Notes the last of each writer. */
static void
run_until_killed(struct life *life, const struct model *models, anx_rng *rng, uint32_t last[N_WRITER])
{
    uint32_t wanted = 1 + anx_rng_below(rng, 40), got = 0;
    struct timespec moment = { .tv_nsec = (long) anx_rng_below(rng, 6000000) };
    struct acknowledged a;
    int fds[2], status;
    pid_t pid;

    assert_int_equal(pipe(fds), 0);
    pid = fork();
    if (pid == 0) {
        close(fds[0]);
        run_child(life, models, fds[1]);
    }
    close(fds[1]);
    while (got < wanted && read(fds[0], &a, sizeof(a)) == sizeof(a)) {
        last[a.writer] = a.number;
        got++;
    }
    nanosleep(&moment, NULL); /* so that it dies anywhere, and not after a write to the pipe */
    assert_int_equal(kill(pid, SIGKILL), 0);
    while (read(fds[0], &a, sizeof(a)) == sizeof(a))
        last[a.writer] = a.number;
    close(fds[0]);
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (!WIFSIGNALED(status))
        fail_msg("the writing process ended by itself with status %d", WEXITSTATUS(status));
}

/* ---- Comparing ---- */

static bool
read_documents(struct life *life, unsigned writer, struct document found[KEYS])
{
    anx_buffer out;
    char sql[128];
    const char *at;

    memset(found, 0, KEYS * sizeof(*found));
    (void) snprintf(sql, sizeof(sql), "SELECT id, n, made, v FROM t WHERE w = %u", writer);
    life_run(life, sql, &out);
    for (at = strstr(out.data, "{\"id\":"); at; at = strstr(at + 1, "{\"id\":")) {
        unsigned id, n, made;
        float v[2];

        if (sscanf(at, "{\"id\":%u,\"n\":%u,\"made\":%u,\"v\":[%f,%f", &id, &n, &made, &v[0], &v[1]) != 5 ||
            id < id_of(writer, 0) || id >= id_of(writer, KEYS))
            fail_msg("cannot read %.80s", at);
        if ((unsigned) v[0] != made || (unsigned) v[1] != id)
            fail_msg("document %u of step %u has the vector of another: %.80s", id, made, at);
        found[id - id_of(writer, 0)] = (struct document) { true, n, made };
    }
    anx_buffer_fini(&out);
    return true;
}

static bool
is_same(const struct model *model, const struct document found[KEYS])
{
    for (size_t i = 0; i < KEYS; i++) {
        const struct document *d = &model->documents[i];

        if (d->exists != found[i].exists || (d->exists && (d->n != found[i].n || d->made != found[i].made)))
            return false;
    }
    return true;
}

/* Takes the model to the acknowledged step, or one further if that is what was found. */
static void
check_documents(struct life *life, unsigned writer, struct model *model, uint32_t last, unsigned long kills)
{
    struct document found[KEYS];

    read_documents(life, writer, found);
    while (model->step < last)
        model_take(model, writer);
    if (!is_same(model, found))
        model_take(model, writer);
    if (!is_same(model, found)) {
        struct model past = { 0 };

        while (past.step < last + 4) { /* which one then? */
            model_take(&past, writer);
            if (is_same(&past, found))
                print_message("# they are those of step %u\n", past.step);
        }
        fail_msg("after kill %lu the documents of writer %u are neither those of step %u nor of the next",
                 kills, writer, last);
    }
}

static bool
has_change(const char *listing, uint32_t number)
{
    const struct change *c = &changes[number % ANX_COUNT_OF(changes)];

    return number == 0 || (strstr(listing, c->shown) && !strstr(listing, c->hidden));
}

static void
check_indexes(struct life *life, struct model *model, uint32_t last, unsigned long kills)
{
    anx_buffer out;
    size_t n;

    anx_buffer_init(&out, NULL, 1 << 20);
    ok(db_ns_describe(life->db, ANX_TEXT("t"), true, &out, &n, &failure));
    anx_buffer_char(&out, '\0');
    model->step = last;
    /* The next first: its state may look like the last one's as well. */
    if (has_change(out.data, last + 1))
        model->step++;
    else if (!has_change(out.data, last))
        fail_msg("after kill %lu the indexes are neither those of step %u nor of the next: %s", kills, last,
                 out.data);
    anx_buffer_fini(&out);
}

static void
nothing_acknowledged_is_lost(void **state)
{
    static const char definition[] = VECTOR("hnsw", ",\"m\":8");
    struct life *life = *state;
    struct model models[N_WRITER] = { 0 };
    uint32_t last[N_WRITER] = { 0 };
    anx_rng rng = anx_rng_seed(11);
    uint64_t start_ns = anx_clock_ns();
    unsigned long n_step = 0;

    life_namespace(life, "t", "{\"name\":\"w\",\"field_type\":\"int\",\"index_type\":\"hash\","
                              "\"json_paths\":[\"w\"]}");
    ok(life_index(life, "t", INDEX_ADD, definition));
    for (unsigned long i = 1; i <= n_kill; i++) {
        life_close(life);
        run_until_killed(life, models, &rng, last);
        life_open(life);
        life_check(life, "t");
        for (unsigned w = 0; w < INDEX; w++)
            check_documents(life, w, &models[w], last[w], i);
        check_indexes(life, &models[INDEX], last[INDEX], i);
        for (unsigned w = 0; w < N_WRITER; w++)
            last[w] = models[w].step;
    }
    for (unsigned w = 0; w < N_WRITER; w++)
        n_step += models[w].step;
    print_message(
        "# %lu kills in %.0f s, %lu steps: nothing acknowledged was lost, no step was there by half\n",
        n_kill, (double) (anx_clock_ns() - start_ns) * 1e-9, n_step);
}

int
main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(nothing_acknowledged_is_lost, life_setup, life_teardown),
    };

    if (argc > 1)
        n_kill = strtoul(argv[1], NULL, 10);
    return cmocka_run_group_tests(tests, NULL, NULL);
}
