/* See progress.h. */
#include "cli/progress.h"

#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define TERMINAL_INTERVAL_NS 100000000u /* 10 a second: smooth to the eye, nothing to the work */
#define PLAIN_INTERVAL_NS 5000000000u
#define TICK_NS 50000000 /* of the thread that looks at the clock; ends the wait so much later at most */
#define BAR_MIN 8
#define BAR_MAX 40

void
progress_init(struct progress *progress, bool is_silent)
{
    memset(progress, 0, sizeof(*progress));
    pthread_mutex_init(&progress->lock, NULL);
    progress->is_silent = is_silent;
    progress->is_terminal = isatty(STDERR_FILENO) == 1;
}

/* "[#####.....] " in what the text leaves of the line; nothing when that is too little to say anything. */
static void
show_bar(double share, size_t text_size)
{
    struct winsize window = { .ws_col = 80 };
    size_t width, n_full;

    if (ioctl(STDERR_FILENO, TIOCGWINSZ, &window) != 0 || window.ws_col == 0)
        window.ws_col = 80;
    if (window.ws_col < text_size + 3 + BAR_MIN + 1)
        return;
    width = window.ws_col - text_size - 3 -
            1; /* brackets, a blank; the last column stays free: some wrap there */
    width = width < BAR_MAX ? width : BAR_MAX;
    n_full = (size_t) ((share < 1 ? share : 1) * (double) width);
    fputc('[', stderr);
    for (size_t i = 0; i < width; i++)
        fputc(i < n_full ? '#' : '.', stderr);
    fputs("] ", stderr);
}

static void
show(struct progress *p, size_t done, size_t total, uint64_t now)
{
    double seconds = (double) (now - p->phase_began_ns) * 1e-9;
    double share = total > 0 ? (double) done / (double) total : 0;
    char text[160];
    int size;

    p->shown_ns = now;
    p->is_line_open = p->is_terminal;
    if (total > 0)
        size = snprintf(text, sizeof(text), "%s: %zu of %zu (%.0f %%), %.1f s", p->phase, done, total,
                        100 * share, seconds);
    else
        size = snprintf(text, sizeof(text), "%s, %.1f s", p->phase, seconds);
    if (p->is_terminal) {
        fputs("\r\033[K", stderr);
        if (total > 0 && size > 0)
            show_bar(share, (size_t) size);
    }
    fprintf(stderr, "%s%s", text, p->is_terminal ? "" : "\n");
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

/* ---- Work that says nothing itself ---- */

static void *
tick(void *context)
{
    struct progress *p = context;
    struct timespec step = { 0, TICK_NS };

    while (!atomic_load(&p->is_waited_for)) {
        progress_report(p, p->waiting_for, 0, 0);
        nanosleep(&step, NULL);
    }
    return NULL;
}

void
progress_wait_begin(struct progress *progress, const char *phase)
{
    progress->waiting_for = phase;
    atomic_store(&progress->is_waited_for, false);
    progress->has_ticker =
        !progress->is_silent && pthread_create(&progress->ticker, NULL, tick, progress) == 0;
}

void
progress_wait_end(struct progress *progress)
{
    atomic_store(&progress->is_waited_for, true);
    if (progress->has_ticker)
        pthread_join(progress->ticker, NULL);
    progress->has_ticker = false;
    progress_end(progress);
}
