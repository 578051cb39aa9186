/* JSON for --json; see bench.h. */
#include <math.h>

#include "bench/bench.h"

static void
key_out(struct json *json, const char *key)
{
    if (json->needs_comma)
        fputc(',', json->out);
    if (key)
        fprintf(json->out, "\"%s\":", key);
    json->needs_comma = true;
}

void
json_begin(struct json *json, const char *key, char bracket)
{
    key_out(json, key);
    fputc(bracket, json->out);
    json->needs_comma = false;
}

void
json_end(struct json *json, char bracket)
{
    fputc(bracket, json->out);
    json->needs_comma = true;
}

void
json_text(struct json *json, const char *key, const char *value)
{
    key_out(json, key);
    fputc('"', json->out);
    for (const unsigned char *c = (const unsigned char *) value; *c; c++) {
        if (*c == '"' || *c == '\\')
            fprintf(json->out, "\\%c", *c);
        else if (*c < 0x20)
            fprintf(json->out, "\\u%04x", *c);
        else
            fputc(*c, json->out);
    }
    fputc('"', json->out);
}

void
json_uint(struct json *json, const char *key, size_t value)
{
    key_out(json, key);
    fprintf(json->out, "%zu", value);
}

void
json_real(struct json *json, const char *key, double value)
{
    key_out(json, key);
    if (isfinite(value))
        fprintf(json->out, "%.6g", value);
    else
        fputs("null", json->out);
}

void
json_curve(struct json *json, const char *key, const struct bench_curve *curve, anx_index_kind kind)
{
    json_begin(json, key, '[');
    for (size_t i = 0; i < curve->n; i++) {
        json_begin(json, NULL, '{');
        json_uint(json, bench_breadth_name(kind), curve->point[i].breadth);
        json_real(json, "recall", curve->point[i].recall);
        json_real(json, "qps", curve->point[i].qps);
        json_real(json, "p50_us", curve->point[i].p50_us);
        json_real(json, "p99_us", curve->point[i].p99_us);
        json_end(json, '}');
    }
    json_end(json, ']');
}
