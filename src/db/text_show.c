/* Select functions: snippets and highlights in the place of the texts that a full-text condition found.
 *
 * The documents to be shown are made when the rows are known, before anything is printed, so that every
 * printer shows the same. */
#include <stdlib.h>

#include "base/error.h"
#include "db/exec_int.h"

struct shown_field { /* a path of the text index and what is done with it */
    const struct doc_path *path;
    size_t field;
    const struct text_show *show;
};
struct shown_doc {
    uint32_t row;
    struct doc doc;
};
#define SHOWN_BYTES_MAX ((size_t) 128 << 20)
struct text_shows {
    const struct text_index *index;
    const struct text_marks *marks;
    struct shown_field *fields;
    const struct doc_path **paths; /* of the fields */
    size_t n;
    struct shown_doc *docs; /* by row */
    size_t n_doc;
};

/* ---- Compiling ---- */

/* "field.call(...)", "field = call(...)": at the first "." or "=" whose rest is a call, since names may have
 * dots. */
static bool
cut_call(anx_text text, anx_text *field, anx_text *call)
{
    static const char *const names[] = { "highlight", "snippet", "snippet_n", "debug_rank" };
    size_t open = 0, start;

    while (open < text.size && text.data[open] != '(')
        open++;
    for (start = open; start > 0 && text.data[start - 1] != '.' && text.data[start - 1] != '='; start--)
        ;
    if (start == 0 || open == text.size)
        return false;
    *field = (anx_text) { text.data, start - 1 };
    while (start < open && text.data[start] == ' ')
        start++;
    *call = (anx_text) { text.data + start, text.size - start };
    while (field->size > 0 && field->data[field->size - 1] == ' ')
        field->size--;
    for (size_t i = 0; i < ANX_COUNT_OF(names); i++) {
        size_t n = strlen(names[i]);

        if (call->size > n && anx_text_equal_fold((anx_text) { call->data, n }, anx_text_of(names[i])))
            return true;
    }
    return false;
}

static anx_status
check_component(struct exec *x, const struct part *part, anx_text name)
{
    const struct ns_index *index = ns_index_of_query(part->ns, name);

    if (!index || index->def->field_type == FIELD_STRING)
        return ANX_OK;
    return anx_fail(x->err, ANX_E_LOGIC, "Unable to apply snippet function to the non-string field '%.*s'",
                    ANX_TEXT_ARG(name));
}

/* Which fields of the index a name means, as bits; 0: none. */
static anx_status
find_fields(struct exec *x, const struct part *part, anx_text name, uint64_t *bits)
{
    const struct index_def *def = part->text.index->def;
    const struct ns_index *named = ns_index_of_query(part->ns, name);
    bool is_composite = def->field_type == FIELD_COMPOSITE;
    anx_status st = ANX_OK;

    *bits = 0;
    if (!is_composite) {
        *bits = named == part->text.index;
        return ANX_OK;
    }
    for (size_t f = 0; st == ANX_OK && f < def->n_path; f++) {
        if (named != part->text.index && !anx_text_equal_fold(name, def->json_paths[f]))
            continue;
        *bits |= (uint64_t) 1 << f;
        st = check_component(x, part, def->json_paths[f]);
    }
    return st;
}

static anx_status
add_function(struct exec *x, struct part *part, anx_text function)
{
    struct text_shows *shows = part->shows;
    struct text_show *show = anx_arena_array(x->arena, 1, sizeof(*show));
    const struct doc_path *path;
    anx_text name, call;
    uint64_t bits;
    size_t field = 0;
    anx_status st;

    if (!show)
        return exec_nomem(x);
    if (!cut_call(function, &name, &call))
        return anx_fail(x->err, ANX_E_PARAMS, "Invalid select function '%.*s'", ANX_TEXT_ARG(function));
    if (call.size > 10 && anx_text_equal_fold((anx_text) { call.data, 10 }, ANX_TEXT("debug_rank")))
        return anx_fail(x->err, ANX_E_UNSUPPORTED, "Select function 'debug_rank' is not available");
    st = text_show_read(call, x->arena, show, x->err);
    if (st == ANX_OK)
        st = find_fields(x, part, name, &bits);
    for (size_t i = 0; st == ANX_OK && (path = row_texts_path(part->text.index->text, i, &field)) != NULL;
         i++)
        if (bits >> field & 1) {
            shows->fields[shows->n] = (struct shown_field) { path, field, show };
            shows->paths[shows->n++] = path;
        }
    return st;
}

anx_status
text_shows_compile(struct exec *x, struct part *part)
{
    size_t n = part->query->n_select_function, n_path = 0, field;
    anx_status st = ANX_OK;

    if (n == 0 || !part->text.index)
        return ANX_OK; /* functions of what was not asked for are ignored */
    while (row_texts_path(part->text.index->text, n_path, &field))
        n_path++;
    part->shows = anx_arena_array(x->arena, 1, sizeof(*part->shows));
    if (!part->shows)
        return exec_nomem(x);
    part->shows->index = row_texts_index(part->text.index->text);
    part->shows->fields = anx_arena_array(x->arena, n * n_path + 1, sizeof(*part->shows->fields));
    part->shows->paths = anx_arena_array(x->arena, n * n_path + 1, sizeof(const struct doc_path *));
    if (!part->shows->fields || !part->shows->paths)
        return exec_nomem(x);
    for (size_t i = 0; st == ANX_OK && i < n; i++)
        st = add_function(x, part, part->query->select_functions[i]);
    return st;
}

/* ---- Running ---- */

struct showing {
    struct exec *x;
    struct text_shows *shows;
    anx_buffer text;
    anx_status status;
};

static bool
rewrite(void *context, size_t path, anx_text text, anx_text *out)
{
    struct showing *s = context;
    const struct shown_field *field = &s->shows->fields[path];
    struct text_area *areas = NULL;
    size_t n = 0;

    s->status = text_find_areas(s->shows->index, s->shows->marks, field->field, text, s->x->arena, &areas, &n,
                                s->x->err);
    if (s->status != ANX_OK)
        return false;
    anx_buffer_clear(&s->text);
    text_show_print(field->show, text, areas, n, &s->text);
    *out = (anx_text) { s->text.data, s->text.size };
    return !s->text.failed;
}

static int
compare_docs(const void *a, const void *b)
{
    const struct shown_doc *x = a, *y = b;

    return (x->row > y->row) - (x->row < y->row);
}

static anx_status
show_row(struct showing *s, const struct part *part, uint32_t row, anx_buffer *bytes)
{
    struct text_shows *shows = s->shows;
    struct doc doc = rows_get(part->ns->rows, row);
    anx_text copy;
    anx_status st;

    if (!doc.bytes)
        return ANX_OK;
    st = doc_rewrite_texts(doc, shows->paths, shows->n, rewrite, s, bytes, s->x->err);
    if (st != ANX_OK)
        return st;
    copy = anx_arena_text(s->x->arena, (anx_text) { bytes->data, bytes->size });
    if (!copy.data)
        return exec_nomem(s->x);
    shows->docs[shows->n_doc++] = (struct shown_doc) { row, { (const uint8_t *) copy.data, copy.size } };
    return ANX_OK;
}

anx_status
text_shows_run(struct exec *x, struct part *part)
{
    struct showing s = { .x = x, .shows = part->shows };
    anx_buffer bytes;
    anx_status st = ANX_OK;

    if (!part->shows || part->shows->n == 0)
        return ANX_OK;
    part->shows->marks = part->text.found.marks;
    part->shows->docs = anx_arena_bytes(x->arena, (part->hits.n + 1) * sizeof(*part->shows->docs));
    if (!part->shows->docs)
        return exec_nomem(x);
    anx_buffer_init(&s.text, NULL, SHOWN_BYTES_MAX);
    anx_buffer_init(&bytes, NULL, SHOWN_BYTES_MAX);
    for (size_t i = 0; part->shows->marks && st == ANX_OK && i < part->hits.n && exec_goes_on(x); i++)
        st = show_row(&s, part, part->hits.items[i].row, &bytes);
    anx_buffer_fini(&s.text);
    anx_buffer_fini(&bytes);
    if (part->shows->n_doc > 1)
        qsort(part->shows->docs, part->shows->n_doc, sizeof(*part->shows->docs), compare_docs);
    return st == ANX_OK ? x->status : st;
}

struct doc
part_doc(const struct part *part, uint32_t row)
{
    struct shown_doc key = { .row = row };
    const struct shown_doc *shown = NULL;

    if (part->shows && part->shows->n_doc > 0)
        shown = bsearch(&key, part->shows->docs, part->shows->n_doc, sizeof(key), compare_docs);
    return shown ? shown->doc : rows_get(part->ns->rows, row);
}
