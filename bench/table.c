/* Tables and where they go; see bench.h. */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "base/alloc.h"
#include "base/error.h"
#include "bench/bench.h"

void
table_cell(struct table *table, const char *format, ...)
{
    va_list args;

    if (table->n_cell == table->capacity) {
        size_t capacity = table->capacity ? 2 * table->capacity : 64;
        void *grown = anx_realloc_array(NULL, table->cell, capacity, TABLE_CELL);

        if (!grown) {
            table->has_failed = true;
            return;
        }
        table->cell = grown;
        table->capacity = capacity;
    }
    va_start(args, format);
    vsnprintf(table->cell[table->n_cell++], TABLE_CELL, format, args);
    va_end(args);
}

void
table_real(struct table *table, double value, int decimals, const char *unit)
{
    if (isfinite(value))
        table_cell(table, "%.*f%s", decimals, value, unit);
    else
        table_cell(table, "–");
}

/* Characters of UTF-8 text, one column each. */
static size_t
width_of(const char *text)
{
    size_t n = 0;

    for (; *text; text++)
        n += ((unsigned char) *text & 0xc0) != 0x80;
    return n;
}

static size_t
column_width(const struct table *table, size_t column)
{
    size_t width = 3;

    for (size_t i = column; i < table->n_cell; i += table->n_column)
        if (width_of(table->cell[i]) > width)
            width = width_of(table->cell[i]);
    return width;
}

/* The first column is left-aligned, the others hold numbers. */
static void
print_row(const struct table *table, size_t row, FILE *out)
{
    for (size_t c = 0; c < table->n_column; c++) {
        size_t at = row * table->n_column + c;
        const char *text = at < table->n_cell ? table->cell[at] : "";
        int pad = (int) (column_width(table, c) - width_of(text));

        if (c == 0)
            fprintf(out, "| %s%*s |", text, pad, "");
        else
            fprintf(out, " %*s%s |", pad, "", text);
    }
    fputc('\n', out);
}

void
table_print(const struct table *table, FILE *out)
{
    size_t n_row = table->n_column ? (table->n_cell + table->n_column - 1) / table->n_column : 0;

    for (size_t r = 0; r < n_row; r++) {
        print_row(table, r, out);
        if (r > 0)
            continue;
        for (size_t c = 0; c < table->n_column; c++) {
            fputs(c == 0 ? "|" : "", out);
            for (size_t i = 0; i < column_width(table, c) + 1; i++)
                fputc('-', out);
            fputs(c == 0 ? "-|" : ":|", out);
        }
        fputc('\n', out);
    }
    if (table->has_failed)
        fputs("(cells are missing: out of memory)\n", out);
}

void
table_free(struct table *table)
{
    anx_free(NULL, table->cell);
    memset(table, 0, sizeof(*table));
}

/* ---- the report ---- */

anx_status
report_open(const struct bench_options *options, struct report *report, anx_error *err)
{
    report->n = 0;
    if (!options->is_json)
        report->out[report->n++] = stdout;
    if (options->markdown) {
        FILE *file = fopen(options->markdown, "ae");

        if (!file)
            return anx_fail(err, ANX_E_IO, "could not open \"%s\": %s", options->markdown, strerror(errno));
        report->out[report->n++] = file;
    }
    return ANX_OK;
}

anx_status
report_close(struct report *report, anx_error *err)
{
    anx_status st = ANX_OK;

    for (size_t i = 0; i < report->n; i++) {
        bool is_bad = ferror(report->out[i]) != 0;

        is_bad |= (report->out[i] == stdout ? fflush(stdout) : fclose(report->out[i])) != 0;
        if (is_bad)
            st = anx_fail(err, ANX_E_IO, "could not write the report: %s", strerror(errno));
    }
    report->n = 0;
    return st;
}

void
report_text(const struct report *report, const char *format, ...)
{
    for (size_t i = 0; i < report->n; i++) {
        va_list args;

        va_start(args, format);
        vfprintf(report->out[i], format, args);
        va_end(args);
    }
}

void
report_table(const struct report *report, const struct table *table)
{
    for (size_t i = 0; i < report->n; i++) {
        table_print(table, report->out[i]);
        fputc('\n', report->out[i]);
    }
}

static void
cpu_model(char *out, size_t size)
{
    FILE *file = fopen("/proc/cpuinfo", "re");
    char line[256];

    snprintf(out, size, "unknown CPU");
    while (file && fgets(line, sizeof(line), file)) {
        char *colon = strchr(line, ':');

        if (strncmp(line, "model name", 10) == 0 && colon) {
            colon[strcspn(colon, "\n")] = '\0';
            snprintf(out, size, "%s", colon + 2);
            break;
        }
    }
    if (file)
        fclose(file);
}

void
report_head(const struct report *report, const struct bench_options *options, const struct bench_data *data,
            const char *title)
{
    char cpu[160], kind_text[96];
    const struct index_options *index = &options->index;
    anx_index_params params =
        index_options_params(index, &(struct dataset){ .rows = data->n, .dim = data->dim });

    cpu_model(cpu, sizeof(cpu));
    if (params.kind == ANX_INDEX_HNSW)
        snprintf(kind_text, sizeof(kind_text), "hnsw m=%zu ef_construction=%zu", index->m,
                 index->ef_construction);
    else if (params.kind == ANX_INDEX_IVF)
        snprintf(kind_text, sizeof(kind_text), "ivf centroids=%zu", index->centroids);
    else
        snprintf(kind_text, sizeof(kind_text), "flat");
    report_text(report,
                "## %s\n\n%zu x %zu %s, %s, %zu queries, k=%zu; %s%s, built by %zu threads, searched by "
                "%zu%s; %s.\n\n",
                options->title ? options->title : title, data->n, data->dim, anx_scalar_name(data->scalar),
                anx_metric_name(data->metric), data->n_query, options->k, kind_text,
                index->quantization == ANX_QUANTIZATION_SQ8 ? " sq8" : "",
                index->threads ? index->threads : anx_cpu_count(), options->search_threads,
                options->is_cpu_time ? " (QPS by CPU time)" : "", cpu);
}

const char *
bench_breadth_name(anx_index_kind kind)
{
    return kind == ANX_INDEX_IVF ? "nprobe" : "ef";
}
