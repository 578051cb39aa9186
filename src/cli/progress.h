/* A progress line on standard error: with a bar and rewritten in place on a terminal, a plain line now and
 * then (at least 5 s apart) otherwise. Standard output stays free for results.
 *
 *     struct progress progress;
 *     progress_init(&progress, quiet);
 *     anx_loader_finish(loader, progress_report, &progress, &err);
 *     progress_end(&progress);
 *
 * Threads: progress_report may be called by several threads of one piece of work; the rest by the owner. */
#ifndef ANX_CLI_PROGRESS_H
#define ANX_CLI_PROGRESS_H

#include <pthread.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct progress {
    pthread_mutex_t lock; /* of all below */
    bool is_silent, is_terminal, is_line_open;
    const char *phase; /* borrowed: a constant */
    uint64_t phase_began_ns, shown_ns;
    /* of progress_wait_begin, for its owner; the flag is what the thread reads */
    pthread_t ticker;
    bool has_ticker;
    const char *waiting_for;
    _Atomic bool is_waited_for;
};

void progress_init(struct progress *progress, bool is_silent);
/* An anx_progress_fn with context = the struct; never cancels. total 0: unknown. */
bool progress_report(void *context, const char *phase, size_t done, size_t total);
/* The same for work that reports nothing: how long it has lasted, from a thread, until progress_wait_end,
 * which clears the line. Without a thread to be had nothing is shown. */
void progress_wait_begin(struct progress *progress, const char *phase);
void progress_wait_end(struct progress *progress);
/* Clears the line on a terminal. The struct may be used again afterwards. */
void progress_end(struct progress *progress);

#endif
