/* Precepts; see the header. They are applied as an UPDATE of the document would be. */
#include "db/precept.h"

#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/error.h"
#include "db/persist.h"

bool
time_unit_read(anx_text text, enum query_time_unit *out)
{
    static const char *const names[] = {
        [TIME_SEC] = "sec", [TIME_MSEC] = "msec", [TIME_USEC] = "usec", [TIME_NSEC] = "nsec"
    };

    *out = TIME_SEC;
    if (text.size == 0)
        return true;
    for (size_t i = 0; i < ANX_COUNT_OF(names); i++)
        if (anx_text_equal_fold(text, anx_text_of(names[i]))) {
            *out = (enum query_time_unit) i;
            return true;
        }
    return false;
}

int64_t
time_now(enum query_time_unit unit)
{
    static const int64_t parts[] = { [TIME_SEC] = 1, [TIME_MSEC] = 1000, [TIME_USEC] = 1000000,
                                     [TIME_NSEC] = 1000000000 };
    struct timespec now;

    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * parts[unit] + now.tv_nsec / (1000000000 / parts[unit]);
}

/* ---- Reading ---- */

static anx_text
trim(anx_text text)
{
    while (text.size > 0 && strchr(" \t\n\r", text.data[0]))
        text = (anx_text) { text.data + 1, text.size - 1 };
    while (text.size > 0 && strchr(" \t\n\r", text.data[text.size - 1]))
        text.size--;
    return text;
}

static anx_text
unquote(anx_text text)
{
    if (text.size >= 2 && (text.data[0] == '\'' || text.data[0] == '"') &&
        text.data[text.size - 1] == text.data[0])
        return (anx_text) { text.data + 1, text.size - 2 };
    return text;
}

static bool
read_number(anx_text text, struct value *out)
{
    char copy[64], *end;

    if (text.size == 0 || text.size >= sizeof(copy) || !strchr("-+.0123456789", text.data[0]))
        return false;
    memcpy(copy, text.data, text.size);
    copy[text.size] = 0;
    *out = (struct value) { .type = VALUE_INT, .integer = strtoll(copy, &end, 10) };
    if (*end == 0)
        return true;
    *out = (struct value) { .type = VALUE_DOUBLE, .real = strtod(copy, &end) };
    return *end == 0;
}

static anx_status
read_function(anx_text call, struct precept *out, anx_error *err)
{
    const char *open = call.size > 0 ? memchr(call.data, '(', call.size) : NULL;
    anx_text name = unquote(open ? trim((anx_text) { call.data, (size_t) (open - call.data) }) : call);
    anx_text argument;

    if (!open)
        return anx_fail(err, ANX_E_PARAMS,
                        "%.*s: An open parenthesis is required, but found ``. Select function name: `%.*s`",
                        ANX_TEXT_ARG(name), ANX_TEXT_ARG(name));
    if (call.data[call.size - 1] != ')')
        return anx_fail(err, ANX_E_PARAMS, "%.*s: A closing parenthesis is required", ANX_TEXT_ARG(name));
    argument = unquote(trim((anx_text) { open + 1, call.size - (size_t) (open - call.data) - 2 }));
    if (anx_text_equal_fold(name, ANX_TEXT("serial")))
        out->kind = PRECEPT_SERIAL;
    else if (anx_text_equal_fold(name, ANX_TEXT("now")))
        out->kind = PRECEPT_NOW;
    else if (anx_text_equal_fold(name, ANX_TEXT("skip_embedding")))
        out->kind = PRECEPT_SKIP_EMBEDDING;
    else
        return anx_fail(err, ANX_E_PARAMS, "Function '%.*s' is not supported", ANX_TEXT_ARG(name));
    if (out->kind == PRECEPT_NOW && !time_unit_read(argument, &out->unit))
        return anx_fail(err, ANX_E_PARAMS, "Unknown parameter '%.*s' in getTimeNow function.",
                        ANX_TEXT_ARG(argument));
    return ANX_OK;
}

anx_status
precepts_read(const anx_text *texts, size_t n, anx_arena *arena, struct precept **out, anx_error *err)
{
    *out = anx_arena_array(arena, n + 1, sizeof(**out));
    if (!*out)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu precepts", n);
    for (size_t i = 0; i < n; i++) {
        anx_text text = anx_arena_text(arena, trim(texts[i]));
        const char *equals = text.size > 0 ? memchr(text.data, '=', text.size) : NULL;
        struct precept *precept = *out + i;
        anx_text right;
        anx_status st;

        if (!equals)
            return anx_fail(err, ANX_E_PARAMS, "`=` is expected in precept `%.*s`", ANX_TEXT_ARG(text));
        precept->field = unquote(trim((anx_text) { text.data, (size_t) (equals - text.data) }));
        right = trim((anx_text) { equals + 1, text.size - (size_t) (equals - text.data) - 1 });
        if (read_number(right, &precept->value)) {
            precept->kind = PRECEPT_VALUE;
            continue;
        }
        st = read_function(right, precept, err);
        if (st != ANX_OK)
            return st;
    }
    return ANX_OK;
}

/* ---- Applying ---- */

anx_status
field_path(const struct ns *ns, anx_text path, anx_arena *arena, anx_text *out, anx_error *err)
{
    const char *bracket = path.size > 0 ? memchr(path.data, '[', path.size) : NULL;
    anx_text name = { path.data, bracket ? (size_t) (bracket - path.data) : path.size };
    const struct index_def *def = NULL;

    *out = path;
    for (size_t i = 0; i < ns->n_index && !def; i++)
        if (anx_text_equal_fold(ns->indexes[i].def->name, name))
            def = ns->indexes[i].def;
    if (!def || def->n_path != 1 || def->field_type == FIELD_COMPOSITE ||
        anx_text_equal(def->json_paths[0], name))
        return ANX_OK;
    *out = anx_arena_printf(arena, "%.*s%.*s", ANX_TEXT_ARG(def->json_paths[0]),
                            (int) (path.size - name.size), path.data + name.size);
    return out->data ? ANX_OK : anx_fail(err, ANX_E_NOMEM, "could not allocate a path");
}

anx_status
serial_next(struct ns *ns, anx_text field, struct store_batch *batch, anx_arena *arena, int64_t *out,
            anx_error *err)
{
    anx_text key = anx_arena_printf(arena, "_SERIAL_%.*s", ANX_TEXT_ARG(field)), value = { NULL, 0 };
    char number[24];
    anx_status st;

    if (!key.data)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate the name of a counter");
    st = meta_get(ns, key, arena, &value, err);
    if (st != ANX_OK && st != ANX_E_NOT_FOUND)
        return st;
    number[0] = 0;
    if (value.size > 0 && value.size < sizeof(number)) {
        memcpy(number, value.data, value.size);
        number[value.size] = 0;
    }
    *out = strtoll(number, NULL, 10);
    if (*out == INT64_MAX)
        return anx_fail(err, ANX_E_LIMIT, "the counter of field '%.*s' has no next number",
                        ANX_TEXT_ARG(field));
    *out += 1;
    (void) snprintf(number, sizeof(number), "%lld", (long long) *out);
    return meta_put(ns, batch, key, anx_text_of(number), err);
}

static anx_status
check_field(const struct ns *ns, anx_text field, anx_error *err)
{
    const struct ns_index *index = ns_index_find(ns, field);

    if (!index)
        return ANX_OK;
    if (index->def->field_type == FIELD_COMPOSITE)
        return anx_fail(err, ANX_E_LOGIC, "Precepts are not allowed for composite indexes ('%.*s')",
                        ANX_TEXT_ARG(field));
    if (index->def->is_array)
        return anx_fail(err, ANX_E_LOGIC, "Precepts are not allowed for array fields ('%.*s')",
                        ANX_TEXT_ARG(field));
    return ANX_OK;
}

static anx_status
precept_value(const struct precept *precept, struct ns *ns, struct store_batch *batch, anx_arena *arena,
              struct value *out, anx_error *err)
{
    *out = precept->value;
    if (precept->kind == PRECEPT_VALUE)
        return ANX_OK;
    out->type = VALUE_INT;
    if (precept->kind == PRECEPT_SERIAL)
        return serial_next(ns, precept->field, batch, arena, &out->integer, err);
    out->integer = time_now(precept->unit);
    return ANX_OK;
}

anx_status
precepts_apply(const struct precept *precepts, size_t n, struct ns *ns, struct store_batch *batch,
               anx_arena *arena, struct doc_draft *draft, anx_error *err)
{
    struct doc_change *changes = anx_arena_array(arena, n + 1, sizeof(*changes));
    struct value *values = anx_arena_array(arena, n + 1, sizeof(*values));
    size_t n_change = 0;
    anx_status st = ANX_OK;

    if (!changes || !values)
        return anx_fail(err, ANX_E_NOMEM, "could not allocate %zu precepts", n);
    for (size_t i = 0; st == ANX_OK && i < n; i++) {
        struct doc_change *change = &changes[n_change];

        if (precepts[i].kind == PRECEPT_SKIP_EMBEDDING)
            continue;
        st = check_field(ns, precepts[i].field, err);
        if (st == ANX_OK)
            st = precept_value(&precepts[i], ns, batch, arena, &values[i], err);
        if (st == ANX_OK)
            st = field_path(ns, precepts[i].field, arena, &change->path_text, err);
        if (st == ANX_OK)
            st = doc_path_parse(change->path_text, ns->names, &change->path, err);
        change->kind = CHANGE_SET;
        change->form = CHANGE_VALUES;
        change->values = &values[i];
        change->n = 1;
        n_change++;
    }
    if (st != ANX_OK || n_change == 0)
        return st;
    return doc_update(draft->doc, draft->vectors, changes, n_change, ns->names, &ns->shape, arena, draft,
                      err);
}
