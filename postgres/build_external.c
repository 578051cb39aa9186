/* Graphs made by an indexing server. Rows go out while the heap is scanned; the graph comes back node by node
 * and goes straight into pages. Our own servers send codes and links (graph_stream.h); an original one sends
 * its file with the rows, which get their codes here.
 *
 * Nothing of the engine or the client is below a jump: the client's callbacks never raise, what they would
 * have raised is kept and raised when the call has returned. Whatever fails, the transaction ends and takes
 * the new relation with it; the socket closes with the memory context. */
#include "build.h"

#include <access/tableam.h>
#include <catalog/index.h>
#include <commands/progress.h>
#include <miscadmin.h>
#include <pgstat.h>
#include <storage/pmsignal.h>
#include <storage/procsignal.h>
#include <utils/memutils.h>

#include <poll.h>

#include "base/error.h"
#include "base/rng.h"
#include "indexing/client.h"

#define SLICE_MS 100 /* how often a wait looks for a cancel that came just before it */
#define IDLE_S 600   /* how long a scan may find no row */
#define RESUMES 5
#define SAMPLE_ROWS 8000 /* to fit codes for the rows of an original server */
#define SAMPLE_BYTES ((Size) 32 << 20)

struct external {
    struct build *build;
    struct pages_meta meta;
    anx_index_params params; /* of rows, for the engine */
    anx_indexing_client *client; /* NULL before the first row */
    bool is_v1;
    bool is_connected; /* the server has greeted */
    bool has_finished; /* all rows were sent */
    ErrorData *kept; /* what a callback would have raised */
    uint64 label_sum;
    uint32 queue_position;
    /* original servers: rows that the code space is fitted on */
    float *sample; /* [n_sample][dim] */
    Size n_sample, sample_max;
    bool is_bytes; /* all rows so far are integers 0..255 */
    anx_rng rng;
    struct space space;
    bool has_space;
};

/* --- callbacks of the client: never raise --- */

static anx_status
wait_for(void *context, int fd, short events, int timeout_ms, short *ready, anx_error *err)
{
    struct external *x = context;
    struct pollfd pfd = { .fd = fd, .events = events };
    int left = timeout_ms;

    *ready = 0;
    for (;;) {
        int slice = left < 0 || left > SLICE_MS ? SLICE_MS : left;
        int n;

        if (x->kept || build_is_interrupted() || !PostmasterIsAlive())
            return anx_fail(err, ANX_E_CANCELLED, "the build was cancelled");
        if (ProcSignalBarrierPending)
            ProcessProcSignalBarrier(); /* others wait for it; in these versions it only closes files */
        n = poll(&pfd, fd < 0 ? 0 : 1, slice);
        if (n > 0) {
            *ready = pfd.revents & (events | POLLERR | POLLHUP) ? events : 0;
            return ANX_OK;
        }
        if (left >= 0 && (left -= slice) <= 0)
            return ANX_OK;
    }
}

static void
say_now(struct external *x, const anx_indexing_notice *notice)
{
    switch (notice->event) {
    case ANX_INDEXING_CONNECTING:
        x->is_connected = false;
        anx_pg_info("connecting to external indexing server on %s", notice->server);
        break;
    case ANX_INDEXING_CONNECTED:
        x->is_connected = true;
        anx_pg_info("successfully connected to external indexing server");
        break;
    case ANX_INDEXING_ROUTED:
        anx_pg_info("receiving new server address from router... (this may take up to 10m)");
        break;
    case ANX_INDEXING_QUEUED:
        if (notice->position != x->queue_position)
            ereport(NOTICE, (errmsg("the indexing server is busy: this build is number %u of %u that wait",
                                    notice->position, notice->n_waiting)));
        x->queue_position = notice->position;
        break;
    case ANX_INDEXING_RESUMING:
        ereport(NOTICE,
                (errmsg("the download of the index broke, going on from byte " UINT64_FORMAT, notice->done),
                 errdetail("%s", notice->reason)));
        break;
    case ANX_INDEXING_BUILD:
        if (!x->has_finished)
            break;
        pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) notice->progress.done);
        pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_TOTAL, (int64) notice->progress.total);
        break;
    case ANX_INDEXING_READY:
        break;
    }
}

static void
say(void *context, const anx_indexing_notice *notice)
{
    struct external *x = context;
    MemoryContext old = CurrentMemoryContext;

    if (x->kept)
        return;
    PG_TRY();
    {
        say_now(x, notice);
    }
    PG_CATCH();
    {
        MemoryContextSwitchTo(x->build->context);
        x->kept = CopyErrorData();
        FlushErrorState();
    }
    PG_END_TRY();
    MemoryContextSwitchTo(old);
}

/* --- failures --- */

enum stage { STAGE_OPEN, STAGE_SEND, STAGE_RECEIVE };

/* The texts that clients of Lantern know, with what really happened as the detail. */
static const char *
known_text(const struct external *x, enum stage stage, anx_status st, const anx_error *err)
{
    if (strncmp(err->message, "external index", 14) == 0)
        return NULL; /* the server's own word, or one of the known texts */
    switch (st) {
    case ANX_E_TLS:
        return "external index: ssl connection error";
    case ANX_E_NETWORK:
    case ANX_E_TIMEOUT:
        if (stage == STAGE_OPEN && !x->is_connected && strstr(err->message, "greeting") == NULL)
            return strstr(err->message, "resolve") ? "external index: getaddrinfo"
                                                   : "external index: connect timeout";
        return stage == STAGE_SEND ? "external index socket send failed"
                                   : "external index socket read failed";
    case ANX_E_CORRUPT:
    case ANX_E_CHECKSUM:
        return "external index: the indexing server sent what no such server sends";
    default:
        return NULL;
    }
}

static void
check(struct external *x, enum stage stage, anx_status st, const anx_error *err)
{
    const char *known, *code;

    if (x->kept)
        ReThrowError(x->kept);
    if (st == ANX_OK)
        return;
    CHECK_FOR_INTERRUPTS();
    known = known_text(x, stage, st, err);
    if (!known)
        anx_pg_check(st, err);
    code = anx_status_sqlstate(st);
    ereport(ERROR,
            (errcode(MAKE_SQLSTATE(code[0], code[1], code[2], code[3], code[4])), errmsg("%s", known),
             errdetail("%s", err->message),
             err->hint[0]
                 ? errhint("%s", err->hint)
                 : errhint("Look whether the server at %s:%d is up (lantern.external_index_host, "
                           "lantern.external_index_port), or build the index here with external = false.",
                           anx_pg_settings.external_host, anx_pg_settings.external_port)));
}

/* --- the connection --- */

static void
close_client(void *object)
{
    struct external *x = object;

    anx_indexing_close(x->client);
    if (x->has_space)
        space_fini(&x->space);
    x->client = NULL;
    x->has_space = false;
}

static void
fill_job(const struct external *x, anx_wire_job *job)
{
    const struct pages_meta *meta = &x->meta;

    job->metric = anx_wire_of_metric(x->params.metric);
    job->scalar = job->element = anx_wire_of_scalar(x->params.scalar);
    job->dim = (uint32) x->params.dim;
    job->m = meta->m;
    job->ef_construction = meta->ef_construction;
    job->ef = meta->ef;
    job->estimated_rows = build_estimate(x->build->heap);
    job->format = ANX_WIRE_FILE_GRAPH;
    job->idle_timeout_s = IDLE_S;
    strlcpy(job->name, RelationGetRelationName(x->build->index), sizeof(job->name));
}

static void
open_client(struct external *x)
{
    const struct anx_pg_settings *s = &anx_pg_settings;
    anx_indexing_params params = { .host = s->external_host,
                                   .port = (unsigned) s->external_port,
                                   .is_secure = s->external_secure,
                                   .protocol = (unsigned) s->external_protocol,
                                   .n_resume = RESUMES,
                                   .wait = wait_for,
                                   .wait_context = x,
                                   .notice = say,
                                   .notice_context = x };
    anx_indexing_info info;
    anx_error err;
    anx_status st;

    x->meta = pages_open(x->build->index)->meta;
    x->meta.dim = x->build->dim;
    pages_engine_params(&x->meta, &x->params);
    x->params.m = x->meta.m;
    fill_job(x, &params.job);
    params.tls.verify = (anx_tls_verify) s->external_tls_verify;
    params.tls.ca_file = s->external_ca_file && s->external_ca_file[0] ? s->external_ca_file : NULL;
    params.token = s->external_token && s->external_token[0] ? s->external_token : NULL;
    params.token_size = params.token ? strlen(s->external_token) : 0;
    anx_pg_check_external_host(s->external_host);
    anx_pg_info("done init usearch index");
    build_on_reset(x->build->context, close_client, x);
    st = anx_indexing_open(&params, &x->client, &err);
    check(x, STAGE_OPEN, st, &err);
    anx_indexing_get_info(x->client, &info);
    x->is_v1 = info.version == 1;
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_SEND);
}

/* --- rows --- */

/* Original servers do not fit codes: a sample of what is sent stays here for that. Every row has the same
 * chance to be in it. */
static void
sample_row(struct external *x, const float *row)
{
    Size dim = x->params.dim, at = (Size) x->build->n_row;

    if (!row) /* bits are their own codes */
        return;
    if (!x->sample) {
        x->sample_max = Min((Size) SAMPLE_ROWS, Max(SAMPLE_BYTES / (dim * sizeof(float)), PAGES_RAW_MAX));
        x->sample = MemoryContextAllocHuge(x->build->context, x->sample_max * dim * sizeof(float));
        x->is_bytes = true;
        x->rng = anx_rng_seed(1);
    }
    for (Size i = 0; i < dim && x->is_bytes; i++)
        x->is_bytes = row[i] >= 0 && row[i] <= 255 && row[i] == (float) (int) row[i];
    if (x->n_sample < x->sample_max)
        at = x->n_sample++;
    else
        at = (Size) (anx_rng_next(&x->rng) % (at + 1));
    if (at < x->sample_max)
        memcpy(x->sample + at * dim, row, dim * sizeof(float));
}

static void
send_row(Relation index, ItemPointer tid, Datum *values, bool *isnull, bool is_alive, void *argument)
{
    struct external *x = argument;
    struct build *build = x->build;
    uint64 label = build_label(tid);
    struct anx_pg_vector vector;
    const void *row;
    anx_error err;
    anx_status st;

    (void) index, (void) is_alive;
    CHECK_FOR_INTERRUPTS();
    if (!build_vector(build, values, isnull, &vector))
        return;
    if (!x->client)
        open_client(x);
    row = vector.f32 ? (const void *) vector.f32 : (const void *) vector.bits;
    st = anx_indexing_rows(x->client, 1, &label, row, &err);
    check(x, STAGE_SEND, st, &err);
    if (x->is_v1)
        sample_row(x, vector.f32);
    x->label_sum += build_label_sum(label);
    if ((++build->n_row & 1023) == 0)
        pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, (int64) build->n_row);
}

/* A server that hears of no row for a while hears at least that we live. */
static void
keep_alive(void *context)
{
    struct external *x = context;
    anx_error err;

    if (x->client)
        check(x, STAGE_SEND, anx_indexing_keep_alive(x->client, &err), &err);
}

/* --- the graph --- */

static const void *
sampled(const void *context, size_t i)
{
    const struct external *x = context;

    return x->sample + i * x->params.dim;
}

/* The code space for the rows of an original server; few rows stay as they are. */
static const struct space *
fit_space(struct external *x)
{
    anx_error err;

    if (x->build->n_row <= PAGES_RAW_MAX)
        return NULL;
    anx_pg_check(space_init(&x->space, &x->params, anx_kernels_best(), x->is_bytes, &err), &err);
    x->has_space = true;
    anx_pg_check(space_fit(&x->space, x->n_sample, sampled, x, 0, &err), &err);
    if (x->sample)
        pfree(x->sample);
    x->sample = NULL;
    return &x->space;
}

static struct graph_stream *
open_stream(struct external *x, const anx_wire_index *index, const anx_source *source)
{
    struct graph_stream *stream;
    anx_error err;
    anx_status st;

    if (x->is_v1)
        st = graph_import_open(source, &x->params, x->build->n_row, fit_space(x),
                               pages_entry_limit(space_stride(&x->params)), &stream, &err);
    else
        st = graph_reader_open(source, index->size, NULL, &stream, &err);
    check(x, STAGE_RECEIVE, st, &err);
    build_own_stream(x->build->context, stream);
    return stream;
}

/* The client says that all is right (sum of the file) only when it is asked for more than there is. */
static void
read_end(struct external *x)
{
    uint8 byte;
    size_t got;
    anx_error err;

    check(x, STAGE_RECEIVE, anx_indexing_read(x->client, &byte, 1, &got, &err), &err);
    if (got)
        ereport(ERROR, (errcode(ERRCODE_DATA_CORRUPTED),
                        errmsg("external index: bytes follow the index that the server sent")));
}

static void
check_receive(void *context, anx_status st, const anx_error *err)
{
    check(context, STAGE_RECEIVE, st, err);
}

static void
receive(struct external *x)
{
    struct build *build = x->build;
    struct build_expect expect = { .dim = build->dim,
                                   .n_row = build->n_row,
                                   .label_sum = x->label_sum,
                                   .check = check_receive,
                                   .check_context = x };
    anx_wire_index index;
    anx_source source;
    anx_error err;

    x->has_finished = true;
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_WAIT);
    check(x, STAGE_SEND, anx_indexing_finish(x->client, &index, &err), &err);
    anx_pg_info("done saving " UINT64_FORMAT " vectors", index.count);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_SUBPHASE, ANX_PG_PHASE_RECEIVE);
    pgstat_progress_update_param(PROGRESS_CREATEIDX_TUPLES_DONE, 0);
    expect.n_block = RelationGetNumberOfBlocks(build->heap);
    source = anx_indexing_source(x->client);
    build_take(build->index, open_stream(x, &index, &source), &expect);
    read_end(x);
}

void
build_external(struct build *build)
{
    struct external *x = palloc0(sizeof(*x));

    x->build = build;
    build_scan(build, send_row, x, keep_alive);
    build_check_dim(build);
    if (x->client)
        receive(x);
    else /* no row to send: there is nothing that a server could do */
        anx_pg_info("done saving 0 vectors");
}
