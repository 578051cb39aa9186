/* What the server is doing and has done: the builds in progress, and the status that the status page shows.
 *
 *     idle 0 --begin--> in progress 1 --end(ok)--> succeeded 3 --begin--> 1 --end(error)--> failed 2 --> ...
 *
 * The status is 1 while any build runs, else that of the build that ended last; failure stays until the next
 * build begins. A build is one from the moment its request is accepted: connections that ask for nothing
 * (port scans, health probes) change nothing. A request that is refused for what it asks is a failed build.
 *
 * Threads: everything may be called from any thread. Counters of a job are relaxed atomics, because rows are
 * counted without a lock; the rest is under the registry's lock, a leaf. */
#ifndef ANX_INDEXING_JOBS_H
#define ANX_INDEXING_JOBS_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "annex/status.h"

/* Text of an error or of a peer inside the quotes of a log line. */
struct quoted {
    char text[512];
};
static inline struct quoted
quoted(const char *text)
{
    struct quoted out = { 0 };

    for (size_t i = 0; text[i] && i + 1 < sizeof(out.text); i++)
        out.text[i] = text[i] == '"' ? '\'' : text[i];
    return out;
}

enum jobs_status {
    JOBS_IDLE,
    JOBS_IN_PROGRESS,
    JOBS_FAILED,
    JOBS_SUCCEEDED
}; /* numbers of the status page */

/* JOB_PHASE(constant, name in JSON, metrics and logs) */
#define JOB_PHASES(JOB_PHASE)                                                                     \
    JOB_PHASE(JOB_RECEIVING, "receiving") /* rows come in; work that can be done early is done */ \
    JOB_PHASE(JOB_WAITING, "waiting")     /* all rows are here; other builds use the CPUs */      \
    JOB_PHASE(JOB_BUILDING, "building")                                                           \
    JOB_PHASE(JOB_SENDING, "sending")                                                             \
    JOB_PHASE(JOB_KEPT, "kept") /* the download broke; the index waits in a file for its client */
enum job_phase {
#define ROW(constant, name) constant,
    JOB_PHASES(ROW)
#undef ROW
        JOB_PHASE_COUNT
};
const char *anx_job_phase_name(enum job_phase phase);

#define JOB_NAME_SIZE 208
#define JOB_PEER_SIZE 80

struct job { /* made by anx_jobs_begin, freed by anx_jobs_free */
    struct job *next;     /* lock */
    uint64_t id;          /* immutable: 1, 2, ... */
    char peer[JOB_PEER_SIZE]; /* immutable */
    char name[JOB_NAME_SIZE]; /* immutable: what the client calls it, "" */
    uint64_t expected;    /* immutable: rows announced, 0 unknown */
    uint64_t began_ns;    /* immutable */
    enum job_phase phase; /* lock, with the next */
    uint64_t phase_began_ns;
    atomic_ullong rows;             /* received */
    atomic_ullong done, total;      /* of the step that the engine is at, in rows; total 0: unknown */
    _Atomic(const char *) step;     /* constant text of the engine's step, NULL when there is none */
    atomic_ullong bytes_in, bytes_out, size; /* size of the index file, 0 until known */
    atomic_size_t memory;
};

/* A job as it was at one moment. */
struct job_view {
    uint64_t id, expected, rows, done, total, bytes_in, bytes_out, size;
    size_t memory;
    enum job_phase phase;
    const char *step;
    double seconds, phase_seconds;
    double rows_per_second; /* in this phase: received, or built */
    double percent;         /* of this phase; negative: unknown */
    char peer[JOB_PEER_SIZE], name[JOB_NAME_SIZE];
};

struct jobs_totals {
    uint64_t succeeded, failed, cancelled; /* builds */
    uint64_t rows, bytes_in, bytes_out;    /* of builds that ended */
    uint64_t connections, refused, resumed;
    double build_seconds; /* of builds that succeeded, from the first byte to the last */
};

struct jobs_view {
    enum jobs_status status;
    uint64_t updated_ms; /* Unix time of the last change of status */
    struct jobs_totals totals;
    char last_error[512]; /* "" when there was none */
    uint64_t last_error_ms;
    size_t n_job;
};

struct jobs {
    pthread_mutex_t lock; /* of all below */
    struct job *first;
    size_t n_job;
    uint64_t last_id;
    enum jobs_status status;
    uint64_t updated_ms;
    struct jobs_totals totals;
    char last_error[512];
    uint64_t last_error_ms;
};

void anx_jobs_init(struct jobs *jobs);
void anx_jobs_fini(struct jobs *jobs); /* no job may be left */

/* peer and name are copied; both are text for people, safe in a log line (no quotes, no control characters).
 * NULL when out of memory. */
struct job *anx_jobs_begin(struct jobs *jobs, const char *peer, const char *name, uint64_t expected);
void anx_jobs_phase(struct jobs *jobs, struct job *job, enum job_phase phase);
/* The build is over, well (err NULL) or not. ANX_E_CANCELLED counts as cancelled and shows as failed. Threads
 * that are still at work on it may go on writing to its counters until it is freed. */
void anx_jobs_end(struct jobs *jobs, struct job *job, const anx_error *err);
void anx_jobs_free(struct job *job); /* after anx_jobs_end; NULL is fine */
/* A build that was counted as well did not reach its client after all: its last bytes were on their way. */
void anx_jobs_take_back(struct jobs *jobs, const anx_error *err);
/* A request that was refused. With is_build it was for a build, which failed thereby. err NULL: nobody needs
 * to hear of it (noise from the network). */
void anx_jobs_refuse(struct jobs *jobs, const anx_error *err, bool is_build);
void anx_jobs_count_connection(struct jobs *jobs);
void anx_jobs_count_resumed(struct jobs *jobs);

/* Fills view and up to max of views (oldest first); returns how many. */
size_t anx_jobs_look(struct jobs *jobs, struct jobs_view *view, struct job_view *views, size_t max);

#endif
