/* Writers and readers of the graph index at the same time; also what the ThreadSanitizer runs look at. */
#include "test_hnsw_data.h"

#include <pthread.h>

struct party {
    anx_index *index;
    const struct data *d;
    size_t from, to;
    atomic_bool *stop;
    atomic_size_t *searches;
    anx_status status;
    anx_error err;
};

static void *
churn_thread(void *context)
{
    struct party *p = context;

    for (int round = 0; round < 4 && p->status == ANX_OK; round++) {
        for (size_t i = p->from; i < p->to && p->status == ANX_OK; i += 2)
            p->status = anx_index_remove(p->index, i, &p->err);
        for (size_t i = p->from; i < p->to && p->status == ANX_OK; i += 2)
            p->status = anx_index_add(p->index, i, p->d->rows + i * p->d->row_size, &p->err);
    }
    return NULL;
}

static void *
search_thread(void *context)
{
    struct party *p = context;

    for (size_t q = 0; !atomic_load(p->stop) && p->status == ANX_OK; q = (q + 1) % N_QUERY) {
        float dist[K];
        uint64_t label[K];
        anx_hits hits = { dist, label };
        anx_search_params params = ANX_SEARCH_PARAMS_INIT;
        anx_filter filter = { .accept = every_seventh };

        params.ef = 32;
        params.filter = q % 5 == 0 ? &filter : NULL;
        p->status =
            anx_index_search(p->index, &params, 1, p->d->queries + q * p->d->row_size, K, &hits, &p->err);
        for (size_t i = 1; i < K && p->status == ANX_OK; i++)
            if (label[i] != ANX_LABEL_NONE && !(dist[i - 1] <= dist[i]))
                p->status = ANX_E_INTERNAL;
        atomic_fetch_add(p->searches, 1);
    }
    return NULL;
}

static void
writers_and_readers_run_at_once(void **state)
{
    struct data d;
    atomic_bool stop = false;
    atomic_size_t searches = 0;
    anx_index *index;
    pthread_t thread[4];
    struct party party[4];

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, N, ANX_INDEX_HNSW);
    for (size_t i = 0; i < 4; i++) {
        party[i] = (struct party) { .index = index, .d = &d, .from = i * 800, .to = (i + 1) * 800,
                                    .stop = &stop, .searches = &searches };
        assert_int_equal(pthread_create(&thread[i], NULL, i < 2 ? churn_thread : search_thread, &party[i]),
                         0);
    }
    for (size_t i = 0; i < 4; i++) {
        if (i == 2)
            atomic_store(&stop, true);
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    for (size_t i = 0; i < 4; i++)
        ok(party[i].status, &party[i].err);
    assert_true(atomic_load(&searches) > 0);
    check(index);
    assert_int_equal(anx_index_count(index), N);
    recall_at_least(index, &d, 0.97);
    anx_index_destroy(index);
    data_fini(&d);
}

/* An index that grows from nothing goes through its small form, a first build and repairs while searches run.
 */
static void *
grow_thread(void *context)
{
    struct party *p = context;

    for (size_t i = p->from; i < p->to && p->status == ANX_OK; i++) {
        p->status = anx_index_add(p->index, i, p->d->rows + i * p->d->row_size, &p->err);
        if (p->status == ANX_OK && i % 3 == 0)
            p->status = anx_index_remove(p->index, i, &p->err);
    }
    return NULL;
}

static void
index_grows_under_searches(void **state)
{
    struct data d;
    atomic_bool stop = false;
    atomic_size_t searches = 0;
    anx_index *index;
    pthread_t thread[4];
    struct party party[4];

    (void) state;
    data_init(&d, ANX_METRIC_L2, ANX_SCALAR_F32, DIM);
    index = build(&d, 0, ANX_INDEX_HNSW);
    for (size_t i = 0; i < 4; i++) {
        party[i] = (struct party){ .index = index,
                                   .d = &d,
                                   .from = i * 1200,
                                   .to = (i + 1) * 1200,
                                   .stop = &stop,
                                   .searches = &searches };
        assert_int_equal(pthread_create(&thread[i], NULL, i < 2 ? grow_thread : search_thread, &party[i]), 0);
    }
    for (size_t i = 0; i < 4; i++) {
        if (i == 2)
            atomic_store(&stop, true);
        assert_int_equal(pthread_join(thread[i], NULL), 0);
    }
    for (size_t i = 0; i < 4; i++)
        ok(party[i].status, &party[i].err);
    check(index);
    assert_int_equal(anx_index_count(index), 1600);
    anx_index_destroy(index);
    data_fini(&d);
}

int
main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(writers_and_readers_run_at_once),
        cmocka_unit_test(index_grows_under_searches),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
