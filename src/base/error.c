/* Errors and the status table. Every text is formatted into a local buffer first, so that an argument may
 * point into the error that is being changed. */
#include "base/error.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#undef anx_fail

struct status_row {
    anx_status status;
    const char *text;
    const char *sqlstate;
    int http;
    int rpc;
    bool retryable;
};

static const struct status_row status_rows[] = {
#define ROW(constant, value, text, sqlstate, http, rpc, retryable) \
    { constant, text, sqlstate, http, rpc, retryable },
#include "annex/status.def"
#undef ROW
};

/* A number that is in no row was made by a bug, and is answered as one. */
static const struct status_row *
status_find(anx_status status)
{
    static const struct status_row unknown = { ANX_E_INTERNAL, "unknown status", "XX000", 500, 4, false };

    for (size_t i = 0; i < ANX_COUNT_OF(status_rows); i++)
        if (status_rows[i].status == status)
            return &status_rows[i];
    return &unknown;
}

const char *
anx_status_text(anx_status status)
{
    return status_find(status)->text;
}

const char *
anx_status_sqlstate(anx_status status)
{
    return status_find(status)->sqlstate;
}

int
anx_status_http(anx_status status)
{
    return status_find(status)->http;
}

int
anx_status_rpc(anx_status status)
{
    return status_find(status)->rpc;
}

bool
anx_status_retryable(anx_status status)
{
    return status_find(status)->retryable;
}

#define TEXT_SIZE sizeof(((anx_error *) 0)->message)
_Static_assert(TEXT_SIZE == sizeof(((anx_error *) 0)->detail) && TEXT_SIZE == sizeof(((anx_error *) 0)->hint),
               "format_text writes all three");

/* Cutting must not leave half a UTF-8 character behind: the text may end in a JSON answer. */
static void
drop_cut_character(char *text)
{
    size_t end = strlen(text);
    size_t start = end;
    unsigned char lead;
    size_t need;

    while (start > 0 && end - start < 3 && ((unsigned char) text[start - 1] & 0xc0) == 0x80)
        start--;
    if (start == 0)
        return;
    lead = (unsigned char) text[--start];
    need = lead >= 0xf0 ? 4 : lead >= 0xe0 ? 3 : lead >= 0xc0 ? 2 : 1;
    if (end - start < need)
        text[start] = '\0';
}

/* out is a field of an anx_error. */
static void format_text(char *out, const char *format, va_list arguments) ANX_PRINTF(2, 0);
static void
format_text(char *out, const char *format, va_list arguments)
{
    char text[TEXT_SIZE];
    int n = vsnprintf(text, sizeof(text), format, arguments);

    if (n < 0)
        text[0] = '\0';
    else if ((size_t) n >= sizeof(text))
        drop_cut_character(text);
    memcpy(out, text, strlen(text) + 1);
}

anx_status
anx_fail(anx_error *err, anx_status status, const char *format, ...)
{
    va_list arguments;

    ANX_ASSERT(status != ANX_OK);
    if (!err)
        return status;
    va_start(arguments, format);
    format_text(err->message, format, arguments);
    va_end(arguments);
    err->status = status;
    err->detail[0] = '\0';
    err->hint[0] = '\0';
    return status;
}

void
anx_error_detail(anx_error *err, const char *format, ...)
{
    va_list arguments;

    if (!err)
        return;
    va_start(arguments, format);
    format_text(err->detail, format, arguments);
    va_end(arguments);
}

void
anx_error_hint(anx_error *err, const char *format, ...)
{
    va_list arguments;

    if (!err)
        return;
    va_start(arguments, format);
    format_text(err->hint, format, arguments);
    va_end(arguments);
}

static void
set_message(anx_error *err, const char *format, ...) ANX_PRINTF(2, 3);
static void
set_message(anx_error *err, const char *format, ...)
{
    va_list arguments;

    va_start(arguments, format);
    format_text(err->message, format, arguments);
    va_end(arguments);
}

void
anx_error_context(anx_error *err, const char *format, ...)
{
    char context[TEXT_SIZE];
    va_list arguments;

    if (!err)
        return;
    va_start(arguments, format);
    format_text(context, format, arguments);
    va_end(arguments);
    set_message(err, "%s: %s", context, err->message);
}

void
anx_assert_failed(const char *condition, const char *file, int line)
{
    fprintf(stderr, "%s:%d: assertion failed: %s\n", file, line, condition);
    abort();
}
