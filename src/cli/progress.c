/* See progress.h. */
#include "cli/progress.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"

#define TERMINAL_INTERVAL_NS 100000000u /* 10 a second: smooth to the eye, nothing to the work */
#define PLAIN_INTERVAL_NS 5000000000u

void
progress_init(struct progress *progress, bool is_silent)
{
    memset(progress, 0, sizeof(*progress));
    pthread_mutex_init(&progress->lock, NULL);
    progress->is_silent = is_silent;
    progress->is_terminal = isatty(STDERR_FILENO) == 1;
}

static void
show(struct progress *p, size_t done, size_t total, uint64_t now)
{
    double seconds = (double) (now - p->phase_began_ns) * 1e-9;

    p->shown_ns = now;
    p->is_line_open = p->is_terminal;
    if (p->is_terminal)
        fputs("\r\033[K", stderr);
    if (total > 0)
        fprintf(stderr, "%s: %zu of %zu (%.0f %%), %.1f s", p->phase, done, total,
                100.0 * (double) done / (double) total, seconds);
    else
        fprintf(stderr, "%s, %.1f s", p->phase, seconds);
    if (!p->is_terminal)
        fputc('\n', stderr);
    fflush(stderr);
}

bool
progress_report(void *context, const char *phase, size_t done, size_t total)
{
    struct progress *p = context;
    uint64_t now = anx_clock_ns();

    if (p->is_silent)
        return true;
    pthread_mutex_lock(&p->lock);
    if (!p->phase || strcmp(p->phase, phase) != 0) {
        p->phase = phase;
        p->phase_began_ns = now;
        if (!p->is_terminal)
            p->shown_ns = now; /* short phases are not worth a line in a log */
    }
    if (now - p->shown_ns >= (p->is_terminal ? TERMINAL_INTERVAL_NS : PLAIN_INTERVAL_NS))
        show(p, done, total, now);
    pthread_mutex_unlock(&p->lock);
    return true;
}

void
progress_end(struct progress *progress)
{
    pthread_mutex_lock(&progress->lock);
    if (progress->is_line_open)
        fputs("\r\033[K", stderr);
    progress->is_line_open = false;
    progress->phase = NULL;
    pthread_mutex_unlock(&progress->lock);
}
