/* The parts of the indexing server one by one: queue, memory budget, jobs, row conversion, temporary files.
 */
#include "test_server_fixture.h"

#include <sys/eventfd.h>
#include <sys/file.h>
#include <fcntl.h>
#include <utime.h>

#include "indexing/budget.h"
#include "indexing/convert.h"
#include "indexing/jobs.h"
#include "indexing/queue.h"
#include "indexing/spool.h"

/* --- queue --- */

#define N_TICKET 6

static void
queue_is_first_come_first_served(void **state)
{
    struct queue queue;
    struct queue_ticket tickets[N_TICKET] = { 0 };
    int wake = eventfd(0, EFD_NONBLOCK);
    size_t n_admitted, n_waiting;
    uint64_t count;

    (void) state;
    assert_int_equal(anx_queue_init(&queue, 2, 3, NULL), ANX_OK);
    for (size_t i = 0; i < N_TICKET; i++)
        assert_int_equal(anx_queue_enter(&queue, &tickets[i], NULL, wake, 0),
                         i < 2 ? QUEUE_ADMITTED : i < 5 ? QUEUE_WAITING : QUEUE_FULL);
    for (size_t i = 0; i < N_TICKET; i++)
        assert_int_equal(anx_queue_position(&queue, &tickets[i]), i >= 2 && i < 5 ? i - 1 : 0);
    anx_queue_leave(&queue, &tickets[3]); /* one in the middle gives up: those behind it are told */
    assert_int_equal(read(wake, &count, sizeof(count)), sizeof(count));
    assert_int_equal(anx_queue_position(&queue, &tickets[4]), 2);
    anx_queue_leave(&queue, &tickets[1]);
    assert_true(anx_queue_is_admitted(&queue, &tickets[2]));
    assert_false(anx_queue_is_admitted(&queue, &tickets[4]));
    assert_int_equal(read(wake, &count, sizeof(count)), sizeof(count));
    anx_queue_leave(&queue, &tickets[0]);
    assert_true(anx_queue_is_admitted(&queue, &tickets[4]));
    anx_queue_lengths(&queue, &n_admitted, &n_waiting);
    assert_int_equal(n_admitted, 2);
    assert_int_equal(n_waiting, 0);
    for (size_t i = 0; i < N_TICKET; i++) { /* twice, and whatever the state */
        anx_queue_leave(&queue, &tickets[i]);
        anx_queue_leave(&queue, &tickets[i]);
    }
    anx_queue_lengths(&queue, &n_admitted, &n_waiting);
    assert_int_equal(n_admitted, 0);
    anx_queue_fini(&queue);
    close(wake);
}

static void
queue_keeps_a_slot_for_who_comes_back(void **state)
{
    static const uint8_t alice[16] = { 1 }, bob[16] = { 2 };
    struct queue queue;
    struct queue_ticket first, second, third;
    uint64_t until = deadline();

    (void) state;
    assert_int_equal(anx_queue_init(&queue, 1, 3, NULL), ANX_OK);
    assert_int_equal(anx_queue_enter(&queue, &first, alice, -1, 0), QUEUE_ADMITTED);
    anx_queue_reserve(&queue, &first, alice, 60000);
    assert_int_equal(anx_queue_enter(&queue, &second, bob, -1, 0), QUEUE_WAITING);
    assert_int_equal(anx_queue_enter(&queue, &third, alice, -1, 0), QUEUE_ADMITTED); /* though bob waits */
    assert_int_equal(anx_queue_enter(&queue, &first, alice, -1, 0), QUEUE_WAITING);  /* once */
    anx_queue_leave(&queue, &third);
    assert_true(anx_queue_is_admitted(&queue, &second));
    anx_queue_reserve(&queue, &second, bob, 30); /* bob does not come */
    assert_false(anx_queue_is_admitted(&queue, &first));
    while (!anx_queue_is_admitted(&queue, &first)) {
        anx_queue_check(&queue);
        pause_until(until, "the reservation to run out");
    }
    anx_queue_leave(&queue, &first);
    anx_queue_fini(&queue);
}

static bool
fits_below(void *context, size_t need)
{
    return need < *(size_t *) context;
}

static void
queue_waits_for_room_but_not_forever(void **state)
{
    struct queue queue;
    struct queue_ticket small, large, later;
    size_t room = 100;

    (void) state;
    assert_int_equal(anx_queue_init(&queue, 4, 4, NULL), ANX_OK);
    queue.fits = fits_below;
    queue.context = &room;
    assert_int_equal(anx_queue_enter(&queue, &small, NULL, -1, 10), QUEUE_ADMITTED);
    assert_int_equal(anx_queue_enter(&queue, &large, NULL, -1, 1000), QUEUE_WAITING);
    assert_int_equal(anx_queue_enter(&queue, &later, NULL, -1, 1), QUEUE_WAITING); /* nobody overtakes */
    anx_queue_check(&queue);
    assert_false(anx_queue_is_admitted(&queue, &large));
    anx_queue_leave(&queue, &small);
    assert_true(anx_queue_is_admitted(&queue, &large)); /* alone, whatever it needs */
    assert_true(anx_queue_is_admitted(&queue, &later));
    anx_queue_leave(&queue, &large);
    anx_queue_leave(&queue, &later);
    anx_queue_close(&queue);
    assert_int_equal(anx_queue_enter(&queue, &small, NULL, -1, 0), QUEUE_CLOSED);
    anx_queue_fini(&queue);
}

/* --- budget --- */

static void
budget_counts_and_refuses(void **state)
{
    struct budget budget;
    struct budget_account one, two;
    anx_error err;
    void *a, *b;

    (void) state;
    anx_budget_init(&budget, 10000);
    anx_budget_open(&one, &budget);
    anx_budget_open(&two, &budget);
    a = one.alloc.allocate(&one, 4000);
    assert_non_null(a);
    assert_int_equal((uintptr_t) a % 16, 0);
    assert_int_equal(anx_budget_charge(&two, 5000, &err), ANX_OK);
    assert_null(one.alloc.reallocate(&one, a, 5001)); /* the old block stays */
    memset(a, 1, 4000);
    assert_int_equal(anx_budget_charge(&two, 6001, &err), ANX_E_LIMIT);
    assert_non_null(strstr(err.message, "--max-memory"));
    assert_int_equal(atomic_load(&budget.used), 9000);
    a = one.alloc.reallocate(&one, a, 1000);
    assert_non_null(a);
    assert_int_equal(((uint8_t *) a)[999], 1);
    b = one.alloc.reallocate(&one, NULL, 4000);
    assert_non_null(b);
    assert_int_equal(atomic_load(&one.peak), 5000);
    (void) anx_fail(&err, ANX_E_NOMEM, "could not allocate");
    assert_int_equal(anx_budget_explain(&one, &err), ANX_E_LIMIT); /* it was refused before */
    (void) anx_fail(&err, ANX_E_NOMEM, "could not allocate");
    assert_int_equal(anx_budget_explain(&two, &err), ANX_E_LIMIT);
    one.alloc.release(&one, a);
    one.alloc.release(&one, b);
    one.alloc.release(&one, NULL);
    assert_true(anx_budget_has_room(&budget, 5000));
    assert_false(anx_budget_has_room(&budget, 5001));
    anx_budget_close(&one);
    anx_budget_close(&two);
    assert_int_equal(atomic_load(&budget.used), 0);
    assert_true(anx_budget_machine() > (size_t) 1 << 20);
}

/* --- jobs --- */

static void
status_is_honest(void **state)
{
    struct jobs jobs;
    struct jobs_view view;
    struct job_view views[4];
    struct job *a, *b;
    anx_error err;

    (void) state;
    (void) anx_fail(&err, ANX_E_VALUE, "bad row");
    anx_jobs_init(&jobs);
    anx_jobs_refuse(&jobs, NULL, false);
    anx_jobs_refuse(&jobs, &err, false);
    anx_jobs_look(&jobs, &view, views, 4);
    assert_int_equal(view.status, JOBS_IDLE);
    assert_string_equal(view.last_error, "bad row");
    a = anx_jobs_begin(&jobs, "peer", "name", 200);
    b = anx_jobs_begin(&jobs, "peer", "", 0);
    atomic_store(&a->rows, 50);
    assert_int_equal(anx_jobs_look(&jobs, &view, views, 4), 2);
    assert_int_equal(view.status, JOBS_IN_PROGRESS);
    assert_true(views[0].percent > 24.9 && views[0].percent < 25.1);
    assert_true(views[1].percent < 0);
    anx_jobs_phase(&jobs, b, JOB_BUILDING);
    atomic_store(&b->done, 3);
    atomic_store(&b->total, 4);
    assert_int_equal(anx_jobs_look(&jobs, &view, views, 1), 1); /* no more than there is room for */
    anx_jobs_end(&jobs, a, &err);
    anx_jobs_look(&jobs, &view, views, 4);
    assert_int_equal(view.status, JOBS_IN_PROGRESS); /* the other still runs */
    assert_true(views[0].percent > 74.9 && views[0].percent < 75.1);
    anx_jobs_end(&jobs, b, NULL);
    anx_jobs_look(&jobs, &view, views, 4);
    assert_int_equal(view.status, JOBS_SUCCEEDED);
    anx_jobs_free(a);
    anx_jobs_free(b);
    anx_jobs_take_back(&jobs, &err);
    anx_jobs_look(&jobs, &view, views, 4);
    assert_int_equal(view.status, JOBS_FAILED);
    assert_int_equal(view.totals.succeeded, 0);
    assert_int_equal(view.totals.failed, 2);
    anx_jobs_fini(&jobs);
}

/* --- conversion --- */

static void
conversion_follows_the_rules(void **state)
{
    struct row_convert same = anx_convert_make(ANX_SCALAR_F32, ANX_SCALAR_F32, 3);
    struct row_convert i8 = anx_convert_make(ANX_SCALAR_F32, ANX_SCALAR_I8, 3);
    struct row_convert f16 = anx_convert_make(ANX_SCALAR_F32, ANX_SCALAR_F16, 300);
    struct row_convert bits = anx_convert_make(ANX_SCALAR_F32, ANX_SCALAR_B1, 11);
    float rows[600] = { 0.019f, -0.019f, 3e38f, -3e38f, 0.5f, NAN };
    uint8_t wire[3 * 20];
    int8_t got[6];
    uint16_t half[600];
    uint8_t packed[2];
    anx_error err;

    (void) state;
    assert_int_equal(anx_convert_rows(&i8, 1, (uint8_t *) rows, 12, got), 1);
    assert_memory_equal(got, ((int8_t[]) { 1, -1, 100 }), 3);
    assert_int_equal(anx_convert_rows(&i8, 2, (uint8_t *) rows, 12, got), 1); /* the second has no number */
    assert_int_equal(anx_convert_check(&i8, (uint8_t *) (rows + 3), &err), ANX_E_VALUE);
    assert_string_equal(err.message, "component 2 is NaN, must be finite");
    for (size_t i = 0; i < 600; i++)
        rows[i] = (float) i - 299.5f;
    assert_int_equal(anx_convert_rows(&f16, 2, (uint8_t *) rows, 1200, half), 2);
    assert_int_equal(half[0], 0xdcae); /* -299.5 */
    rows[299] = 65519;
    assert_int_equal(anx_convert_rows(&f16, 1, (uint8_t *) rows, 1200, half), 1); /* rounds to the largest */
    rows[299] = 65520;
    assert_int_equal(anx_convert_rows(&f16, 1, (uint8_t *) rows, 1200, half), 0);
    assert_int_equal(anx_convert_check(&f16, (uint8_t *) rows, &err), ANX_E_VALUE);
    for (size_t i = 0; i < 11; i++)
        rows[i] = i % 3 == 0 ? 1e-30f : i % 3 == 1 ? 0 : -1;
    assert_int_equal(anx_convert_rows(&bits, 1, (uint8_t *) rows, 44, packed), 1);
    assert_int_equal(packed[0], 0x92);
    assert_int_equal(packed[1], 0x40); /* spare bits are 0 */
    for (size_t i = 0; i < sizeof(wire); i++)
        wire[i] = (uint8_t) i;
    assert_int_equal(anx_convert_rows(&same, 3, wire + 8, 20, rows), 3); /* labels in between, not aligned */
    for (size_t i = 0; i < 3; i++)
        assert_memory_equal(rows + 3 * i, wire + 8 + 20 * i, 12);
}

/* --- temporary files --- */

static void
touch(const char *folder, const char *name)
{
    char path[256];
    int fd;

    snprintf(path, sizeof(path), "%s/%s", folder, name);
    fd = open(path, O_CREAT | O_RDWR, 0600);
    assert_true(fd >= 0);
    close(fd);
}

/* What a killed server leaves is removed at the next start, and nothing else is. */
static void
stale_folders_are_removed(void **state)
{
    static const char *const names[] = { "annex-indexing-killed", "annex-indexing-living",
                                         "annex-indexing-young0", "annex-indexing-empty0", "somebody-elses" };
    struct utimbuf old = { 1000, 1000 };
    struct jobs jobs;
    struct spool spool;
    char tmp[64], path[256], link[256];
    anx_error err;
    int living;

    (void) state;
    make_folder(tmp);
    anx_jobs_init(&jobs);
    for (size_t i = 0; i < ANX_COUNT_OF(names); i++) {
        snprintf(path, sizeof(path), "%s/%s", tmp, names[i]);
        assert_int_equal(mkdir(path, 0700), 0);
        if (i < 2 || i == 4)
            touch(path, "lock");
        if (i == 0)
            touch(path, "index-abc");
        if (i == 3)
            assert_int_equal(utime(path, &old), 0); /* never got its lock file, long ago */
    }
    snprintf(path, sizeof(path), "%s/annex-indexing-living/lock", tmp);
    living = open(path, O_RDWR);
    assert_int_equal(flock(living, LOCK_EX | LOCK_NB), 0);
    snprintf(path, sizeof(path), "%s/somebody-elses", tmp);
    snprintf(link, sizeof(link), "%s/annex-indexing-abroad", tmp);
    assert_int_equal(symlink(path, link), 0);

    assert_int_equal(anx_spool_open(&spool, tmp, 1000, &jobs, &err), ANX_OK);
    assert_int_equal(count_files(tmp), 5); /* living, young, foreign, the link, and the new one */
    snprintf(path, sizeof(path), "%s/somebody-elses/lock", tmp);
    assert_int_equal(access(path, F_OK), 0);
    assert_int_equal(unlink(path), 0);
    anx_spool_close(&spool);
    assert_int_equal(count_files(tmp), 4);

    close(living); /* as when its process dies */
    assert_int_equal(unlink(link), 0);
    assert_int_equal(anx_spool_open(&spool, tmp, 1000, &jobs, &err), ANX_OK);
    anx_spool_close(&spool);
    assert_int_equal(count_files(tmp), 2);
    for (size_t i = 2; i < ANX_COUNT_OF(names); i += 2) {
        snprintf(path, sizeof(path), "%s/%s", tmp, names[i]);
        assert_int_equal(rmdir(path), 0);
    }
    anx_jobs_fini(&jobs);
    assert_int_equal(rmdir(tmp), 0);
    assert_int_equal(anx_spool_open(&spool, tmp, 1000, &jobs, &err), ANX_E_IO);
    assert_non_null(strstr(err.message, "--tmp-dir"));
}

static anx_index *
small_index(void)
{
    anx_index_params params = ANX_INDEX_PARAMS_INIT;
    float row[4] = { 1, 2, 3, 4 };
    anx_index *index;

    params.dim = 4;
    assert_int_equal(anx_index_create(&params, &index, NULL), ANX_OK);
    for (uint64_t label = 0; label < 50; label++, row[label % 4] += 1)
        assert_int_equal(anx_index_add(index, label, row, NULL), ANX_OK);
    return index;
}

static void
kept_index_waits_for_its_client(void **state)
{
    static const uint8_t id[ANX_WIRE_SESSION_SIZE] = { 9 }, other[ANX_WIRE_SESSION_SIZE] = { 8 };
    anx_save_params save = { .format = ANX_FILE_LANTERN, .plain = true };
    anx_index *index = small_index();
    struct jobs jobs;
    struct jobs_view view;
    struct spool spool;
    struct kept *kept = anx_alloc_zeroed(NULL, 1, sizeof(*kept));
    char tmp[64];
    size_t size;
    uint64_t until = deadline();

    (void) state;
    assert_non_null(kept);
    make_folder(tmp);
    anx_jobs_init(&jobs);
    assert_int_equal(anx_spool_open(&spool, tmp, 40, &jobs, NULL), ANX_OK);
    memcpy(kept->session, id, sizeof(id));
    assert_int_equal(anx_index_save_size(index, &save, &size, NULL), ANX_OK);
    kept->index.size = size;
    kept->job = anx_jobs_begin(&jobs, "peer", "", 50);
    anx_spool_keep(&spool, kept, index, &save);
    anx_index_destroy(index);
    assert_int_equal(count_files(spool.path), 1); /* the lock: the index has no name */
    assert_null(anx_spool_find(&spool, other));
    assert_ptr_equal(anx_spool_find(&spool, id), kept);
    assert_int_equal(lseek(kept->fd, 0, SEEK_END), size);
    poll(NULL, 0, 60); /* longer than it is kept, but somebody reads it */
    anx_spool_expire(&spool);
    assert_ptr_equal(anx_spool_find(&spool, id), kept);
    anx_jobs_look(&jobs, &view, NULL, 0);
    assert_int_equal(view.status, JOBS_IN_PROGRESS);
    anx_spool_release(&spool, kept, false);
    anx_spool_release(&spool, kept, false);
    do {
        pause_until(until, "the index to be given up");
        anx_spool_expire(&spool);
        anx_jobs_look(&jobs, &view, NULL, 0);
    } while (view.n_job > 0);
    assert_null(anx_spool_find(&spool, id));
    assert_int_equal(view.status, JOBS_FAILED);
    anx_spool_close(&spool);
    anx_jobs_fini(&jobs);
    assert_int_equal(rmdir(tmp), 0);
}

int
main(void)
{
    static const struct CMUnitTest tests[] = {
        cmocka_unit_test(queue_is_first_come_first_served),
        cmocka_unit_test(queue_keeps_a_slot_for_who_comes_back),
        cmocka_unit_test(queue_waits_for_room_but_not_forever),
        cmocka_unit_test(budget_counts_and_refuses),
        cmocka_unit_test(status_is_honest),
        cmocka_unit_test(conversion_follows_the_rules),
        cmocka_unit_test(stale_folders_are_removed),
        cmocka_unit_test(kept_index_waits_for_its_client),
    };

    return cmocka_run_group_tests_name("indexing_parts", tests, NULL, NULL);
}
