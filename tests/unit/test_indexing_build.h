/* Our own client of the indexing server, as a thread of a test: sends rows made from a seed and keeps what
 * comes back. */
#ifndef ANX_TEST_INDEXING_BUILD_H
#define ANX_TEST_INDEXING_BUILD_H

#include "test_server_fixture.h"

#include "indexing/client.h"

#define RIGHT_SHARE 0.99

struct build {
    anx_indexing_params params;
    size_t n; /* rows */
    uint64_t seed;
    /* The outcome. */
    anx_status status;
    anx_error err;
    struct bytes file;
    unsigned version, n_resumed, n_queued, n_build;
    bool is_last_position_1;
};

static inline struct build
build_make(unsigned port, uint32_t metric, uint32_t scalar, uint32_t dim, size_t n)
{
    struct build job = { .n = n, .seed = n };

    job.params.host = "127.0.0.1";
    job.params.port = port;
    job.params.idle_ms = PATIENCE_MS;
    job.params.job = (anx_wire_job) { .metric = metric,
                                      .scalar = scalar,
                                      .element = metric == ANX_WIRE_HAMMING ? ANX_WIRE_B1 : ANX_WIRE_F32,
                                      .dim = dim,
                                      .m = 8,
                                      .ef_construction = 64,
                                      .ef = 32,
                                      .estimated_rows = n,
                                      .format = ANX_WIRE_FILE_LANTERN,
                                      .is_plain = true,
                                      .name = "docs_v_idx" };
    return job;
}

static inline void
note(void *context, const anx_indexing_notice *notice)
{
    struct build *job = context;

    if (notice->event == ANX_INDEXING_QUEUED) {
        job->n_queued++;
        job->is_last_position_1 = notice->position == 1;
    }
    if (notice->event == ANX_INDEXING_BUILD)
        job->n_build++;
}

static inline void
fill_row(anx_rng *rng, const anx_wire_job *job, void *row)
{
    float *floats = row;
    uint8_t *bits = row;

    if (job->element == ANX_WIRE_B1)
        for (size_t i = 0; i < job->dim / 8; i++)
            bits[i] = (uint8_t) anx_rng_next(rng);
    else
        for (size_t i = 0; i < job->dim; i++)
            floats[i] = (float) (anx_rng_unit(rng) - 0.5);
}

static inline anx_status
send_rows(struct build *job, anx_indexing_client *client)
{
    anx_rng rng = anx_rng_seed(job->seed);
    uint8_t *row = anx_alloc_bytes(NULL, anx_wire_vector_size(&job->params.job));
    anx_status st = row ? ANX_OK : ANX_E_NOMEM;

    for (uint64_t i = 0; i < job->n && st == ANX_OK; i++) {
        uint64_t label = tid(i / 50, i % 50 + 1);

        fill_row(&rng, &job->params.job, row);
        st = anx_indexing_rows(client, 1, &label, row, &job->err);
    }
    anx_free(NULL, row);
    return st;
}

static inline anx_status
receive_file(struct build *job, anx_indexing_client *client, uint64_t size)
{
    anx_status st = ANX_OK;
    size_t got = 1;

    job->file.data = anx_alloc_bytes(NULL, size + 1);
    if (!job->file.data)
        return ANX_E_NOMEM;
    while (st == ANX_OK && got > 0) {
        size_t piece = size - job->file.size < 65536 ? size - job->file.size + 1 : 65536;

        st = anx_indexing_read(client, job->file.data + job->file.size, piece, &got, &job->err);
        job->file.size += got;
    }
    return st;
}

/* A thread's main function too. */
static inline void *
build_run(void *argument)
{
    struct build *job = argument;
    anx_indexing_client *client = NULL;
    anx_indexing_info info;
    anx_wire_index index;

    job->params.notice = note;
    job->params.notice_context = job;
    job->status = anx_indexing_open(&job->params, &client, &job->err);
    if (job->status == ANX_OK)
        job->status = send_rows(job, client);
    if (job->status == ANX_OK)
        job->status = anx_indexing_finish(client, &index, &job->err);
    if (job->status == ANX_OK)
        job->status = receive_file(job, client, index.size);
    if (client) {
        anx_indexing_get_info(client, &info);
        job->version = info.version;
        job->n_resumed = info.n_resumed;
    }
    anx_indexing_close(client);
    return NULL;
}

static inline void
build_free(struct build *job)
{
    bytes_free(&job->file);
}

static inline void
build_check_share(struct build *job, double share)
{
    uint64_t *labels = anx_alloc_array(NULL, job->n, sizeof(*labels));
    anx_index *index;

    if (job->status != ANX_OK)
        fail_msg("the build failed: %s", job->err.message);
    assert_non_null(labels);
    index = load_index(job->file.data, job->file.size);
    assert_int_equal(anx_index_count(index), job->n);
    for (size_t i = 0; i < job->n; i++)
        labels[i] = tid(i / 50, i % 50 + 1);
    assert_true(exact_share(index, job->n, labels, 10) >= share);
    anx_index_destroy(index);
    anx_free(NULL, labels);
    build_free(job);
}

static inline void
build_check(struct build *job)
{
    build_check_share(job, RIGHT_SHARE);
}

static inline void
expect_failure(struct build *job, anx_status status, const char *contains)
{
    build_run(job);
    if (job->status != status || !strstr(job->err.message, contains))
        fail_msg("status %d, \"%s\"; expected %d, \"%s\"", (int) job->status, job->err.message, (int) status,
                 contains);
    build_free(job);
}

#endif
