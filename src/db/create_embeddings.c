/* The action create_embeddings: documents that are there already go through their embedders, in the
 * background.
 *
 * A thread takes the namespaces one after the other, and of each some thousand documents at a time: looks at
 * them with the readers' lock, asks without a lock, writes with the writers' lock. A document that somebody
 * changed meanwhile is left alone: whoever changed it embedded it. What a step writes is one batch of the
 * store, so a crash leaves whole steps; the action can be given again (with the strategy empty_only it then
 * does what was left).
 *
 * Lock: jobs->lock, a leaf. */
#include "db/embedding.h"

#include <errno.h>
#include <signal.h>
#include <time.h>

#include "base/alloc.h"
#include "base/clock.h"
#include "base/error.h"
#include "base/log.h"
#include "db/changes.h"
#include "db/ns_int.h"
#include "db/write.h"

enum {
    BATCH_DEFAULT = 100,  /* documents of a request, as in the original */
    STEP_ROWS = 65536,    /* documents written together: an empty index is then built in bulk */
    STEP_ROWS_MIN = 1024,
    WAIT_MS = 1000        /* that a caller waits for his jobs */
};

#define STEP_BYTES ((size_t) 256 << 20) /* of vectors that wait together */

enum job_state { JOB_WAITING, JOB_RUNNING, JOB_DONE, JOB_FAILED };
struct job {
    struct job *next;
    uint32_t ns_id;
    struct ns *ns; /* a reference while waiting or running */
    size_t batch;
    enum job_state state;
    uint64_t total, looked_at, embedded, skipped, start_ns, end_ns;
    _Atomic uint64_t n_answered; /* inputs of the step that runs */
    anx_error failure;
};
struct embedding_jobs {
    struct database *db;
    pthread_mutex_t lock;
    pthread_cond_t changed;
    struct job *first; /* guarded by lock, and all jobs in it; newest last */
    pthread_t thread;
    bool has_thread;
    atomic_bool is_stopping;
};

/* ---- Life ---- */

struct embedding_jobs *
embedding_jobs_create(struct database *db)
{
    struct embedding_jobs *jobs = anx_alloc_zeroed(NULL, 1, sizeof(*jobs));
    pthread_condattr_t monotonic;

    if (!jobs)
        return NULL;
    jobs->db = db;
    pthread_mutex_init(&jobs->lock, NULL);
    pthread_condattr_init(&monotonic);
    pthread_condattr_setclock(&monotonic, CLOCK_MONOTONIC);
    pthread_cond_init(&jobs->changed, &monotonic);
    pthread_condattr_destroy(&monotonic);
    return jobs;
}

void
embedding_jobs_stop(struct embedding_jobs *jobs)
{
    bool has_thread;

    if (!jobs)
        return;
    pthread_mutex_lock(&jobs->lock);
    atomic_store(&jobs->is_stopping, true);
    has_thread = jobs->has_thread;
    jobs->has_thread = false;
    pthread_cond_broadcast(&jobs->changed);
    pthread_mutex_unlock(&jobs->lock);
    if (has_thread)
        pthread_join(jobs->thread, NULL);
}

void
embedding_jobs_destroy(struct embedding_jobs *jobs)
{
    if (!jobs)
        return;
    embedding_jobs_stop(jobs);
    for (struct job *job = jobs->first, *next; job; job = next) {
        next = job->next;
        ns_release(job->ns);
        anx_free(NULL, job);
    }
    pthread_cond_destroy(&jobs->changed);
    pthread_mutex_destroy(&jobs->lock);
    anx_free(NULL, jobs);
}

/* ---- A step ---- */

struct step {
    struct embedding_jobs *jobs;
    struct job *job;
    struct ns *ns;
    struct embed_memo *memo;
    anx_arena *arena;
    uint32_t *rows; /* noted ones; owned [STEP_ROWS] */
    size_t n_row;
    uint32_t cursor; /* next row to be looked at */
    uint64_t n_looked, n_embedded, n_skipped, ticket;
    bool is_at_end;
};

static bool
should_stop(void *context)
{
    struct embedding_jobs *jobs = context;

    return atomic_load(&jobs->is_stopping) || atomic_load(&jobs->db->is_dropped);
}

/* The document of a row as a draft; with_floats: its vectors too. */
static anx_status
read_row(struct step *s, uint32_t row, bool with_floats, struct doc_draft *out, anx_error *err)
{
    anx_status st = doc_extract(rows_get(s->ns->rows, row), &s->ns->shape, s->arena, out, err);

    if (st == ANX_OK && with_floats) {
        out->n_vectors = s->ns->n_vector_field;
        st = ns_row_vectors(s->ns, row, s->arena, &out->vectors, err);
    }
    return st;
}

/* Notes what the next documents need. data_lock shared. */
static anx_status
look(struct step *s, anx_error *err)
{
    roaring_uint32_iterator_t at;
    size_t most;
    anx_status st = ns_check_alive(s->ns, err);

    if (st == ANX_OK)
        st = embed_memo_plan(s->memo, s->ns, err);
    most = STEP_BYTES / (embed_memo_dims(s->memo) * sizeof(float) + 1);
    most = most < STEP_ROWS_MIN ? STEP_ROWS_MIN : most > STEP_ROWS ? STEP_ROWS : most;
    s->n_row = 0;
    roaring_init_iterator(rows_all(s->ns->rows), &at);
    roaring_move_uint32_iterator_equalorlarger(&at, s->cursor);
    for (; st == ANX_OK && at.has_value && s->n_row < most; roaring_advance_uint32_iterator(&at)) {
        size_t before = embed_memo_pending(s->memo);
        struct doc_draft draft;

        st = read_row(s, at.current_value, false, &draft, err);
        if (st == ANX_OK)
            st = embed_memo_note(s->memo, s->ns, &draft, NULL, 0, err);
        s->cursor = at.current_value + 1;
        s->n_looked++;
        if (embed_memo_pending(s->memo) > before)
            s->rows[s->n_row++] = at.current_value;
    }
    s->is_at_end = !at.has_value;
    return st;
}

/* Puts the vectors of the noted rows into documents. write_lock held. */
static anx_status
collect(struct step *s, struct items *items, anx_error *err)
{
    anx_status st = embed_memo_plan(s->memo, s->ns, err);

    for (size_t i = 0; st == ANX_OK && i < s->n_row; i++) {
        struct doc_draft draft;
        const uint8_t *before;

        if (!rows_get(s->ns->rows, s->rows[i]).bytes)
            continue;
        st = read_row(s, s->rows[i], true, &draft, err);
        before = draft.doc.bytes;
        if (st == ANX_OK)
            st = embed_memo_apply(s->memo, s->ns, NULL, 0, s->arena, &draft, err);
        if (st != ANX_OK)
            return st;
        if (embed_memo_pending(s->memo) > 0 || draft.doc.bytes == before) {
            embed_memo_forget_pending(s->memo);
            s->n_skipped++;
            continue;
        }
        st = items_add(items, &draft, s->rows[i], err);
    }
    return st;
}

/* An error in one document ends the step; those before it are written. write_lock held. */
static anx_status
write_step(struct step *s, anx_error *err)
{
    struct store_batch *batch;
    struct items items;
    anx_error write_err;
    anx_status st = write_check_ns(s->ns, err), written;

    anx_arena_reset(s->arena);
    if (st == ANX_OK)
        st = items_init(&items, s->ns, s->arena, s->n_row + 1, err);
    if (st == ANX_OK)
        st = persist_begin(s->ns, &batch, err);
    if (st != ANX_OK)
        return st;
    st = collect(s, &items, err);
    if (items.n == 0) {
        store_batch_destroy(batch);
        return st;
    }
    written = changes_apply_items(&items, NULL, 0, batch, CHANGES_IN_BLOCKS, NULL, &s->ticket, &write_err);
    if (written != ANX_OK) {
        if (err)
            *err = write_err;
        return written;
    }
    s->n_embedded += items.n;
    return st;
}

static anx_status
run_step(struct step *s, anx_error *err)
{
    struct db_session session = { .should_stop = should_stop, .stop_context = s->jobs };
    anx_status st;

    anx_arena_reset(s->arena);
    s->memo = embed_memo_create(s->jobs->db);
    if (!s->memo)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate memory for embedding");
    atomic_store(&s->job->n_answered, 0);
    embed_memo_limit(s->memo, s->job->batch, &s->job->n_answered);
    pthread_rwlock_rdlock(&s->ns->data_lock);
    st = look(s, err);
    pthread_rwlock_unlock(&s->ns->data_lock);
    if (st == ANX_OK && s->n_row > 0)
        st = embed_memo_run(s->memo, &session, err);
    if (st == ANX_OK && s->n_row > 0) {
        pthread_mutex_lock(&s->ns->write_lock);
        st = write_step(s, err);
        pthread_mutex_unlock(&s->ns->write_lock);
    }
    embed_memo_destroy(s->memo);
    return st;
}

/* ---- A job ---- */

static void
show_progress(struct step *s)
{
    pthread_mutex_lock(&s->jobs->lock);
    s->job->looked_at = s->n_looked;
    s->job->embedded = s->n_embedded;
    s->job->skipped = s->n_skipped;
    atomic_store(&s->job->n_answered, 0);
    pthread_mutex_unlock(&s->jobs->lock);
}

static anx_status
run_job(struct embedding_jobs *jobs, struct job *job, anx_error *err)
{
    struct step s = { .jobs = jobs, .job = job, .ns = job->ns };
    anx_status st = ANX_OK, waited;

    uint64_t total;

    pthread_rwlock_rdlock(&job->ns->data_lock);
    total = rows_count(job->ns->rows);
    pthread_rwlock_unlock(&job->ns->data_lock);
    pthread_mutex_lock(&jobs->lock);
    job->total = total;
    pthread_mutex_unlock(&jobs->lock);
    s.arena = anx_arena_create(NULL, WRITE_ARENA_MAX);
    s.rows = anx_alloc_array(NULL, STEP_ROWS, sizeof(*s.rows));
    if (!s.arena || !s.rows)
        st = anx_fail(err, ANX_E_NOMEM, "could not allocate memory for embedding");
    while (st == ANX_OK && !s.is_at_end) {
        st =
            should_stop(jobs) ? anx_fail(err, ANX_E_CANCELLED, "the database is closing") : run_step(&s, err);
        show_progress(&s);
    }
    waited = persist_wait(job->ns, s.ticket, st == ANX_OK ? err : NULL);
    anx_free(NULL, s.rows);
    anx_arena_destroy(s.arena);
    return st == ANX_OK ? waited : st;
}

static struct job *
next_job(struct embedding_jobs *jobs)
{
    struct job *job = jobs->first;

    while (job && job->state != JOB_WAITING)
        job = job->next;
    return job;
}

static void *
jobs_main(void *context)
{
    struct embedding_jobs *jobs = context;

    pthread_mutex_lock(&jobs->lock);
    while (!atomic_load(&jobs->is_stopping)) {
        struct job *job = next_job(jobs);
        struct ns *ns;
        anx_error err;
        anx_status st;

        if (!job) {
            pthread_cond_wait(&jobs->changed, &jobs->lock);
            continue;
        }
        job->state = JOB_RUNNING;
        job->start_ns = anx_clock_ns();
        pthread_mutex_unlock(&jobs->lock);
        st = run_job(jobs, job, &err);
        anx_log(st == ANX_OK ? ANX_LOG_INFO : ANX_LOG_WARN,
                "event=create_embeddings database=%s ns_id=%u embedded=%llu seconds=%.1f status=\"%s\"",
                jobs->db->name, job->ns_id, (unsigned long long) job->embedded,
                (double) (anx_clock_ns() - job->start_ns) / 1e9, st == ANX_OK ? "done" : err.message);
        pthread_mutex_lock(&jobs->lock);
        job->end_ns = anx_clock_ns();
        job->state = st == ANX_OK ? JOB_DONE : JOB_FAILED;
        if (st != ANX_OK)
            job->failure = err;
        ns = job->ns;
        job->ns = NULL;
        pthread_cond_broadcast(&jobs->changed);
        pthread_mutex_unlock(&jobs->lock);
        ns_release(ns);
        pthread_mutex_lock(&jobs->lock);
    }
    pthread_mutex_unlock(&jobs->lock);
    return NULL;
}

/* ---- Starting; lock held ---- */

static bool
start_thread(struct embedding_jobs *jobs)
{
    sigset_t all, before;

    if (jobs->has_thread)
        return true;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    jobs->has_thread = pthread_create(&jobs->thread, NULL, jobs_main, jobs) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return jobs->has_thread;
}

/* The job of a namespace that has not ended, or a new one in the place of an earlier one. Takes the
 * reference. */
static struct job *
add_job(struct embedding_jobs *jobs, struct ns *ns, size_t batch)
{
    struct job **at = &jobs->first, *job = NULL;

    while (*at && (*at)->ns_id != ns->id)
        at = &(*at)->next;
    job = *at;
    if (job && (job->state == JOB_WAITING || job->state == JOB_RUNNING)) {
        ns_release(ns);
        return job;
    }
    if (!job) {
        job = anx_alloc_zeroed(NULL, 1, sizeof(*job));
        if (!job) {
            ns_release(ns);
            return NULL;
        }
        *at = job;
    } else {
        struct job *next = job->next;

        *job = (struct job) { .next = next, .failure = { .status = ANX_OK } };
    }
    job->ns_id = ns->id;
    job->ns = ns;
    job->batch = batch;
    return job;
}

/* Until none of the jobs waits or runs, WAIT_MS at most. */
static void
wait_a_moment(struct embedding_jobs *jobs, struct job **list, size_t n)
{
    uint64_t until = anx_clock_ns() + WAIT_MS * (uint64_t) 1000000;
    struct timespec time = { (time_t) (until / 1000000000u), (long) (until % 1000000000u) };
    int code = 0;

    for (size_t i = 0; i < n; i++)
        while (code != ETIMEDOUT && (list[i]->state == JOB_WAITING || list[i]->state == JOB_RUNNING))
            code = pthread_cond_timedwait(&jobs->changed, &jobs->lock, &time);
}

static anx_status
start_locked(struct embedding_jobs *jobs, struct ns **namespaces, size_t n_ns, size_t batch, anx_arena *arena,
             anx_error *err)
{
    struct job **list = anx_arena_array(arena, n_ns + 1, sizeof(struct job *));
    size_t n = 0;

    if (!list)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate a list of jobs");
    for (size_t i = 0; i < n_ns; i++) {
        atomic_fetch_add(&namespaces[i]->references, 1);
        list[n] = add_job(jobs, namespaces[i], batch);
        n += list[n] != NULL;
    }
    if (n > 0 && !start_thread(jobs))
        return anx_fail(err, ANX_E_SYSTEM, "could not start a thread for create_embeddings");
    pthread_cond_broadcast(&jobs->changed);
    wait_a_moment(jobs, list, n);
    for (size_t i = 0; i < n; i++)
        if (list[i]->state == JOB_FAILED) {
            if (err)
                *err = list[i]->failure;
            return list[i]->failure.status;
        }
    return ANX_OK;
}

static bool
is_meant(struct ns *ns, anx_text pattern)
{
    bool is_all = pattern.size == 0 || anx_text_equal(pattern, ANX_TEXT("*")), meant;

    pthread_rwlock_rdlock(&ns->data_lock);
    meant = !ns->is_dropped && ns->kind == NS_ORDINARY && ns_has_upsert_embedder(ns) &&
            (is_all || anx_text_equal_fold(pattern, anx_text_of(ns->name)));
    pthread_rwlock_unlock(&ns->data_lock);
    return meant;
}

anx_status
embedding_jobs_start(struct database *db, anx_text ns, size_t batch, anx_error *err)
{
    struct embedding_jobs *jobs = embedding_jobs_of(db);
    anx_arena *arena = anx_arena_create(NULL, 0);
    struct ns **all, **meant = NULL;
    size_t n, n_meant = 0;
    anx_status st = arena ? list_all(db, arena, &all, &n, err)
                          : anx_fail(err, ANX_E_NOMEM, "could not allocate a list of jobs");

    if (st != ANX_OK) {
        anx_arena_destroy(arena);
        return st;
    }
    meant = anx_arena_array(arena, n + 1, sizeof(struct ns *));
    for (size_t i = 0; meant && i < n; i++)
        if (is_meant(all[i], ns))
            meant[n_meant++] = all[i];
    if (n_meant > 0) {
        pthread_mutex_lock(&jobs->lock);
        st = start_locked(jobs, meant, n_meant, batch > 0 ? batch : BATCH_DEFAULT, arena, err);
        pthread_mutex_unlock(&jobs->lock);
    }
    list_release(all, n);
    anx_arena_destroy(arena);
    return st;
}

/* ---- Showing ---- */

void
embedding_jobs_print(struct ns *ns, anx_buffer *out)
{
    static const char *const states[] = { "waiting", "running", "done", "failed" };
    struct embedding_jobs *jobs = embedding_jobs_of(ns->database);
    const struct job *job;

    pthread_mutex_lock(&jobs->lock);
    for (job = jobs->first; job && job->ns_id != ns->id;)
        job = job->next;
    if (job) {
        uint64_t end = job->end_ns > 0 ? job->end_ns : anx_clock_ns();
        uint64_t ms = job->start_ns > 0 ? (end - job->start_ns) / 1000000 : 0;
        uint64_t processed = job->looked_at + (job->state == JOB_RUNNING ? atomic_load(&job->n_answered) : 0);

        anx_buffer_printf(out,
                          ",\"create_embeddings\":{\"state\":\"%s\",\"batch_size\":%zu,\"total\":%llu,"
                          "\"processed\":%llu,\"embedded\":%llu,\"skipped\":%llu,\"elapsed_ms\":%llu,"
                          "\"documents_per_sec\":%llu,\"error\":",
                          states[job->state], job->batch, (unsigned long long) job->total,
                          (unsigned long long) processed, (unsigned long long) job->embedded,
                          (unsigned long long) job->skipped, (unsigned long long) ms,
                          (unsigned long long) (ms ? processed * 1000 / ms : 0));
        json_print_text(out, anx_text_of(job->state == JOB_FAILED ? job->failure.message : ""));
        anx_buffer_char(out, '}');
    }
    pthread_mutex_unlock(&jobs->lock);
}
