/* Recall against queries per second as an SVG: self-contained, and readable on light and dark pages (the
 * style follows prefers-color-scheme). The recall axis is stretched towards 1 (-log10 of what is missed),
 * where the differences are. */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "base/error.h"
#include "bench/bench.h"

static const char style[] =
    "<style>svg{background:#fff}text{font:13px system-ui,sans-serif;fill:#333}"
    ".head{font-size:15px;font-weight:600}.grid{stroke:#8884;stroke-width:1}"
    "polyline{fill:none;stroke-width:2.5}"
    ".s0 polyline{stroke:#0969da}.s0 circle{fill:#0969da}"
    ".s1 polyline{stroke:#bc4c00}.s1 circle{fill:#bc4c00}"
    "@media(prefers-color-scheme:dark){svg{background:#0d1117}text{fill:#d0d7de}"
    ".s0 polyline{stroke:#58a6ff}.s0 circle{fill:#58a6ff}"
    ".s1 polyline{stroke:#f0883e}.s1 circle{fill:#f0883e}}</style>\n";

enum { WIDTH = 720, HEIGHT = 440, LEFT = 70, RIGHT = 20, TOP = 50, BOTTOM = 50 };

struct frame {
    double x0, x1; /* of x_of_recall */
    double y0, y1; /* log10 QPS */
};

/* 0.9 -> 1, 0.99 -> 2; 1.0 is drawn where 0.9995 is. */
static double
x_of_recall(double recall)
{
    return -log10(1 - fmin(recall, 0.9995));
}

static double
x_pixel(const struct frame *f, double recall)
{
    return LEFT + (x_of_recall(recall) - f->x0) / (f->x1 - f->x0) * (WIDTH - LEFT - RIGHT);
}

static double
y_pixel(const struct frame *f, double qps)
{
    return HEIGHT - BOTTOM - (log10(qps) - f->y0) / (f->y1 - f->y0) * (HEIGHT - TOP - BOTTOM);
}

static struct frame
frame_of(const struct plot_series *series, size_t n)
{
    double low = INFINITY, high = 0, recall_low = 0.9;

    for (size_t s = 0; s < n; s++)
        for (size_t i = 0; i < series[s].curve->n; i++) {
            const struct bench_point *p = &series[s].curve->point[i];

            low = fmin(low, p->qps);
            high = fmax(high, p->qps);
            recall_low = fmin(recall_low, p->recall);
        }
    if (high <= 0 || low <= 0)
        low = 1, high = 10;
    return (struct frame) { .x0 = x_of_recall(fmax(recall_low - 0.02, 0)),
                            .x1 = x_of_recall(0.9995),
                            .y0 = log10(low) - 0.1,
                            .y1 = log10(high) + 0.1 };
}

static void
escape(FILE *out, const char *text)
{
    for (; *text; text++) {
        if (*text == '&' || *text == '<' || *text == '>')
            fprintf(out, "&#%d;", *text);
        else
            fputc(*text, out);
    }
}

static void
draw_axes(FILE *out, const struct frame *f)
{
    static const double ticks[] = { 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.999 };

    for (size_t i = 0; i < ANX_COUNT_OF(ticks); i++) {
        double x = x_pixel(f, ticks[i]);

        if (x < LEFT)
            continue;
        fprintf(out, "<line class=\"grid\" x1=\"%.1f\" y1=\"%d\" x2=\"%.1f\" y2=\"%d\"/>"
                     "<text x=\"%.1f\" y=\"%d\" text-anchor=\"middle\">%g</text>\n",
                x, TOP, x, HEIGHT - BOTTOM, x, HEIGHT - BOTTOM + 18, ticks[i]);
    }
    for (int decade = (int) floor(f->y0); decade <= f->y1; decade++)
        for (int step = 1; step <= 5; step = step == 1 ? 2 : step + 3) { /* 1, 2, 5 */
            double qps = pow(10, decade) * step, y = y_pixel(f, qps);

            if (y < TOP || y > HEIGHT - BOTTOM)
                continue;
            fprintf(out, "<line class=\"grid\" x1=\"%d\" y1=\"%.1f\" x2=\"%d\" y2=\"%.1f\"/>"
                         "<text x=\"%d\" y=\"%.1f\" text-anchor=\"end\">%g</text>\n",
                    LEFT, y, WIDTH - RIGHT, y, LEFT - 8, y + 4, qps);
        }
    fprintf(out,
            "<text x=\"%d\" y=\"%d\" text-anchor=\"middle\">recall</text>"
            "<text x=\"16\" y=\"%d\" text-anchor=\"middle\" transform=\"rotate(-90 16 %d)\">"
            "queries per second</text>\n",
            (LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10, (TOP + HEIGHT - BOTTOM) / 2,
            (TOP + HEIGHT - BOTTOM) / 2);
}

static void
draw_series(FILE *out, const struct frame *f, const struct plot_series *series, size_t number)
{
    int legend_x = LEFT + 20 + 140 * (int) number, legend_y = TOP - 12;

    fprintf(out, "<g class=\"s%zu\"><polyline points=\"", number);
    for (size_t i = 0; i < series->curve->n; i++)
        fprintf(out, "%.1f,%.1f ", x_pixel(f, series->curve->point[i].recall),
                y_pixel(f, series->curve->point[i].qps));
    fputs("\"/>\n", out);
    for (size_t i = 0; i < series->curve->n; i++) {
        const struct bench_point *p = &series->curve->point[i];

        fprintf(
            out,
            "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\"><title>%zu: recall %.4f, %.0f QPS</title></circle>\n",
            x_pixel(f, p->recall), y_pixel(f, p->qps), p->breadth, p->recall, p->qps);
    }
    fprintf(out, "<circle cx=\"%d\" cy=\"%d\" r=\"5\"/></g><text x=\"%d\" y=\"%d\">", legend_x, legend_y - 4,
            legend_x + 12, legend_y);
    escape(out, series->name);
    fputs("</text>\n", out);
}

anx_status
plot_write(const char *path, const char *title, const struct plot_series *series, size_t n, anx_error *err)
{
    struct frame f = frame_of(series, n);
    FILE *out = fopen(path, "we");
    bool is_bad;

    if (!out)
        return anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", path, strerror(errno));
    fprintf(out, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %d %d\" role=\"img\">\n<title>",
            WIDTH, HEIGHT);
    escape(out, title);
    fputs("</title>\n", out);
    fputs(style, out);
    fprintf(out, "<text class=\"head\" x=\"%d\" y=\"20\">", LEFT);
    escape(out, title);
    fputs("</text>\n", out);
    draw_axes(out, &f);
    for (size_t s = 0; s < n; s++)
        draw_series(out, &f, &series[s], s);
    fputs("</svg>\n", out);
    is_bad = ferror(out) != 0;
    is_bad |= fclose(out) != 0;
    return is_bad ? anx_fail(err, ANX_E_IO, "could not write \"%s\": %s", path, strerror(errno)) : ANX_OK;
}
