/* The job pool: every index exactly once, worker numbers, sharing, idleness, signals; and the CPU count and
 * spin lock. */
#include "test_util.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "base/thread.h"

#define N_MAX 5000

struct visits {
    size_t n;
    size_t grain;
    size_t n_worker;
    /* Plain on purpose: ThreadSanitizer sees it when two workers touch one index. */
    unsigned char seen[N_MAX];
    atomic_size_t n_bad;
    atomic_size_t busy[64]; /* of each worker: is it inside fn? */
};

static void
visit(void *context, size_t begin, size_t end, size_t worker)
{
    struct visits *visits = context;

    if (begin >= end || end > visits->n || end - begin > visits->grain || worker >= visits->n_worker)
        atomic_fetch_add(&visits->n_bad, 1);
    if (worker < 64 && atomic_fetch_add(&visits->busy[worker], 1) != 0)
        atomic_fetch_add(&visits->n_bad, 1); /* scratch memory per worker would be shared */
    for (size_t i = begin; i < end && i < N_MAX; i++)
        visits->seen[i]++;
    if (worker < 64)
        atomic_fetch_sub(&visits->busy[worker], 1);
}

static void
visit_all(anx_pool *pool, size_t n, size_t grain)
{
    static struct visits visits;

    memset(&visits, 0, sizeof(visits));
    visits.n = n;
    visits.grain = grain ? grain : 1;
    visits.n_worker = anx_pool_size(pool);
    anx_pool_for(pool, n, grain, visit, &visits);
    assert_int_equal(atomic_load(&visits.n_bad), 0);
    for (size_t i = 0; i < N_MAX; i++)
        if (visits.seen[i] != (i < n))
            fail_msg("index %zu of %zu was visited %d times (grain %zu)", i, n, visits.seen[i], grain);
}

static void
every_index_is_visited_once(void **state)
{
    static const size_t sizes[] = { 0, 1, 2, 3, 7, 64, 1000, N_MAX };
    static const size_t grains[] = { 0, 1, 2, 3, 64, 999, 1000, N_MAX, SIZE_MAX };
    static const size_t threads[] = { 1, 2, 3, 8 };

    (void) state;
    for (size_t t = 0; t < ANX_COUNT_OF(threads); t++) {
        anx_pool *pool = anx_pool_create(threads[t]);

        assert_non_null(pool);
        assert_int_equal(anx_pool_size(pool), threads[t]);
        for (size_t s = 0; s < ANX_COUNT_OF(sizes); s++)
            for (size_t g = 0; g < ANX_COUNT_OF(grains); g++)
                visit_all(pool, sizes[s], grains[g]);
        anx_pool_destroy(pool);
    }
}

/* Many short loops: late wakers meet loops that are over, or the next one. */
static void
short_loops_follow_each_other(void **state)
{
    anx_pool *pool = anx_pool_create(4);

    (void) state;
    assert_non_null(pool);
    for (size_t i = 0; i < 3000; i++)
        visit_all(pool, i % 9, 1);
    anx_pool_destroy(pool);
}

static void
a_pool_may_never_be_used(void **state)
{
    (void) state;
    for (size_t i = 0; i < 50; i++) {
        anx_pool *pool = anx_pool_create(3);

        assert_non_null(pool);
        anx_pool_destroy(pool);
    }
    anx_pool_destroy(NULL);
}

static void
zero_threads_means_one_per_cpu(void **state)
{
    anx_pool *pool = anx_pool_create(0);

    (void) state;
    assert_non_null(pool);
    assert_int_equal(anx_pool_size(pool), anx_cpu_count());
    anx_pool_destroy(pool);
}

/* Results written by workers are seen by the caller, and the caller's data by the workers, without other
 * locks. */
static void
add_range(void *context, size_t begin, size_t end, size_t worker)
{
    uint64_t *sums = context;

    for (size_t i = begin; i < end; i++)
        sums[8 * worker] += i;
}

static void
per_worker_results_need_no_lock(void **state)
{
    anx_pool *pool = anx_pool_create(4);
    uint64_t sums[4 * 8] = { 0 };

    (void) state;
    assert_non_null(pool);
    for (int repeat = 0; repeat < 100; repeat++) {
        uint64_t total = 0;

        memset(sums, 0, sizeof(sums));
        anx_pool_for(pool, 10000, 100, add_range, sums);
        for (size_t w = 0; w < 4; w++)
            total += sums[8 * w];
        assert_int_equal(total, 10000u * 9999u / 2);
    }
    anx_pool_destroy(pool);
}

struct gate {
    atomic_size_t n_inside;
    size_t n_wanted;
};

/* Passes only when n_wanted threads are inside at the same time. */
static void
wait_for_company(void *context, size_t begin, size_t end, size_t worker)
{
    struct gate *gate = context;

    (void) begin, (void) end, (void) worker;
    atomic_fetch_add(&gate->n_inside, 1);
    while (atomic_load(&gate->n_inside) < gate->n_wanted)
        sched_yield();
}

static void
all_threads_take_part(void **state)
{
    anx_pool *pool = anx_pool_create(4);

    (void) state;
    assert_non_null(pool);
    for (int repeat = 0; repeat < 20; repeat++) {
        struct gate gate = { .n_wanted = 4 };

        anx_pool_for(pool, 4, 1, wait_for_company, &gate); /* hangs (and times out) if a worker stays away */
        assert_int_equal(atomic_load(&gate.n_inside), 4);
    }
    anx_pool_destroy(pool);
}

/* Each worker writes its own plain counter, shared by the loops of every caller: loops that overlapped would
 * both run as worker 0, which ThreadSanitizer sees and the total shows. */
struct tally {
    anx_pool *pool;
    uint64_t counts[3 * 8];
};

static void
tally_range(void *context, size_t begin, size_t end, size_t worker)
{
    struct tally *tally = context;

    for (size_t i = begin; i < end; i++) {
        uint64_t before = tally->counts[8 * worker];

        if (i % 64 == 0)
            sched_yield();
        tally->counts[8 * worker] = before + 1;
    }
}

static void *
call_often(void *argument)
{
    struct tally *tally = argument;

    for (int i = 0; i < 200; i++)
        anx_pool_for(tally->pool, 500, 10, tally_range, tally);
    return NULL;
}

static void
callers_take_turns(void **state)
{
    struct tally tally = { .pool = anx_pool_create(3) };
    pthread_t threads[4];

    (void) state;
    assert_non_null(tally.pool);
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(pthread_create(&threads[i], NULL, call_often, &tally), 0);
    for (size_t i = 0; i < 4; i++)
        pthread_join(threads[i], NULL);
    assert_int_equal(tally.counts[0] + tally.counts[8] + tally.counts[16], 4 * 200 * 500);
    anx_pool_destroy(tally.pool);
}

static void
note_mask(void *context, size_t begin, size_t end, size_t worker)
{
    sigset_t mask;

    (void) begin, (void) end;
    wait_for_company(context, 0, 0, 0);
    pthread_sigmask(SIG_SETMASK, NULL, &mask);
    /* The caller (worker 0) keeps its own mask. */
    if ((sigismember(&mask, SIGINT) == 1) != (worker != 0) ||
        (sigismember(&mask, SIGALRM) == 1) != (worker != 0))
        atomic_fetch_add(&((struct gate *) context)->n_inside, 100);
}

static void
workers_block_signals(void **state)
{
    anx_pool *pool = anx_pool_create(3);
    struct gate gate = { .n_wanted = 3 };

    (void) state;
    assert_non_null(pool);
    anx_pool_for(pool, 3, 1, note_mask, &gate);
    assert_int_equal(atomic_load(&gate.n_inside), 3);
    anx_pool_destroy(pool);
}

static void
an_idle_pool_burns_nothing(void **state)
{
    anx_pool *pool = anx_pool_create(4);
    struct timespec before;
    struct timespec after;
    double used;

    (void) state;
    assert_non_null(pool);
    visit_all(pool, 100, 1);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    usleep(300000);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    used = (double) (after.tv_sec - before.tv_sec) + 1e-9 * (double) (after.tv_nsec - before.tv_nsec);
    assert_true(used < 0.1); /* one spinning thread would show 0.3 */
    anx_pool_destroy(pool);
}

static void
cpu_count_respects_affinity(void **state)
{
    cpu_set_t all;
    cpu_set_t one;
    size_t n = anx_cpu_count();

    (void) state;
    assert_in_range(n, 1, 65536);
    assert_int_equal(sched_getaffinity(0, sizeof(all), &all), 0);
    CPU_ZERO(&one);
    for (size_t cpu = 0; cpu < CPU_SETSIZE && CPU_COUNT(&one) == 0; cpu++)
        if (CPU_ISSET(cpu, &all))
            CPU_SET(cpu, &one);
    assert_int_equal(sched_setaffinity(0, sizeof(one), &one), 0);
    assert_int_equal(anx_cpu_count(), 1);
    assert_int_equal(sched_setaffinity(0, sizeof(all), &all), 0);
    assert_int_equal(anx_cpu_count(), n);
}

struct counter {
    anx_spin spin;
    size_t value; /* spin */
};

static void
count_up(void *context, size_t begin, size_t end, size_t worker)
{
    struct counter *counter = context;

    (void) worker;
    for (size_t i = begin; i < end; i++) {
        anx_spin_lock(&counter->spin);
        counter->value++;
        anx_spin_unlock(&counter->spin);
    }
}

static void
the_spin_lock_excludes(void **state)
{
    anx_pool *pool = anx_pool_create(2);
    struct counter counter = { 0 };

    (void) state;
    assert_non_null(pool);
    anx_pool_for(pool, 100000, 100, count_up, &counter);
    assert_int_equal(counter.value, 100000);
    anx_pool_destroy(pool);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_index_is_visited_once),
        cmocka_unit_test(short_loops_follow_each_other),
        cmocka_unit_test(a_pool_may_never_be_used),
        cmocka_unit_test(zero_threads_means_one_per_cpu),
        cmocka_unit_test(per_worker_results_need_no_lock),
        cmocka_unit_test(all_threads_take_part),
        cmocka_unit_test(callers_take_turns),
        cmocka_unit_test(workers_block_signals),
        cmocka_unit_test(an_idle_pool_burns_nothing),
        cmocka_unit_test(cpu_count_respects_affinity),
        cmocka_unit_test(the_spin_lock_excludes),
    };

    return cmocka_run_group_tests_name("base_pool", tests, NULL, NULL);
}
