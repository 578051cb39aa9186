/* Paths: "a.b", "a[2].b", "a[*]", "arr[#].x". */
#include <string.h>

#include "base/error.h"
#include "doc/doc.h"

/* What stands in the brackets behind a name. */
static bool
read_bracket(anx_text inside, struct doc_step *step)
{
    uint32_t at = 0;

    if (inside.size == 1 && inside.data[0] == '*') {
        step->kind = STEP_ALL;
        return true;
    }
    if (inside.size == 1 && inside.data[0] == '#') {
        step->kind = STEP_POSITION;
        return true;
    }
    for (size_t i = 0; i < inside.size; i++) {
        if (inside.data[i] < '0' || inside.data[i] > '9' || at > UINT32_MAX / 10 - 1)
            return false;
        at = at * 10 + (uint32_t) (inside.data[i] - '0');
    }
    step->kind = STEP_AT;
    step->at = at;
    return inside.size > 0;
}

/* name or name[...]; a bracket that is none of ours belongs to the name. */
static bool
read_step(anx_text text, struct doc_step *step)
{
    const char *open = text.size > 0 ? memchr(text.data, '[', text.size) : NULL;

    *step = (struct doc_step) { .name = text, .kind = STEP_PLAIN };
    if (open && text.data[text.size - 1] == ']') {
        size_t before = (size_t) (open - text.data);

        if (!read_bracket((anx_text) { open + 1, text.size - before - 2 }, step))
            return false;
        step->name.size = before;
    }
    return step->name.size > 0;
}

static anx_status
parse(anx_text text, struct doc_path *out, anx_error *err)
{
    anx_text rest = text;

    out->n = 0;
    for (;;) {
        const char *dot = rest.size > 0 ? memchr(rest.data, '.', rest.size) : NULL;
        anx_text part = { rest.data, dot ? (size_t) (dot - rest.data) : rest.size };

        if (out->n == DOC_PATH_MAX)
            return anx_fail(err, ANX_E_PARAMS, "Path '%.*s' has more than %d steps", ANX_TEXT_ARG(text),
                            DOC_PATH_MAX);
        if (!read_step(part, &out->steps[out->n]))
            return anx_fail(err, ANX_E_PARAMS, "Path '%.*s' is malformed", ANX_TEXT_ARG(text));
        out->n++;
        if (!dot)
            return ANX_OK;
        rest.data += part.size + 1;
        rest.size -= part.size + 1;
    }
}

anx_status
doc_path_parse(anx_text text, const struct doc_names *names, struct doc_path *out, anx_error *err)
{
    anx_status st = parse(text, out, err);

    for (uint32_t i = 0; st == ANX_OK && i < out->n; i++)
        out->steps[i].tag = names_find(names, out->steps[i].name);
    return st;
}

anx_status
doc_path_add(anx_text text, struct doc_names *names, struct doc_path *out, anx_error *err)
{
    anx_status st = parse(text, out, err);

    for (uint32_t i = 0; st == ANX_OK && i < out->n; i++)
        st = names_add(names, out->steps[i].name, &out->steps[i].tag, err);
    return st;
}
